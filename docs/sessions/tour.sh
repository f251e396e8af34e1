#!/bin/sh
# Records a tour in a real terminal: docs/sessions/tour.sh RBOX > docs/sessions/tour.txt
# It has directories of its own, which are gone afterwards, and needs root, tmux and RBOX, the binary.
set -eu
rbox=$(readlink -f "$1")
dir=$(mktemp -d /var/tmp/tour-XXXXXX)
tmux() { command tmux -S "$dir/tmux" "$@"; }
trap 'tmux kill-server 2>/dev/null || :; RBOX_ROOT=$dir/root RBOX_STATE=$dir/state "$rbox" system reset --force; rm -r "$dir"' EXIT
# The name is the host's in there as well, so give it one that says nothing.
ln -s "$rbox" "$dir/rbox"
tmux -f /dev/null start-server \; set-option -g history-limit 5000 \; new-session -d -x 80 -y 24 \
    "unshare --uts sh -c 'hostname school; RBOX_ROOT=$dir/root RBOX_STATE=$dir/state NO_COLOR=1 PATH=$dir:\$PATH rbox tour --auto --pause 1'; tmux -S $dir/tmux wait-for -S over; exec cat"
tmux wait-for over
tmux capture-pane -p -J -S - | sed -e 's/ *$//' -e "s#$dir/root#/var/lib/rbox#g" -e "s#$dir/state#/run/rbox#g" \
    -e 's#rbox-[0-9a-f]\{6\}/#rbox/#g' -e 's#rbox-[0-9a-f]\{6\}$#rbox0#' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
