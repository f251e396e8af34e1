//! A note that somebody asked for the end of a container, for whoever decides what follows.

use std::path::PathBuf;

use rbox_spec::id::ContainerId;

use crate::monitor::protocol;
use crate::record::paths::{Paths, STOP};

/// Who wants a container to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody who named it: `unless-stopped` remembers that.
    User,
    /// The host goes down, and the container comes back with it.
    Shutdown,
    /// Whoever asks starts it again at once: one of `--rm` is not removed.
    Restart,
}

pub(crate) fn mark(paths: &Paths, id: &ContainerId) -> PathBuf {
    paths.live_of(id).join(STOP)
}

/// Tells the monitor of `id` not to start it again. Best effort: a container whose live directory is gone has ended.
pub(crate) fn ask_to_end(paths: &Paths, id: &ContainerId, why: Why) {
    // What a user said outlasts what a shutdown says.
    if asked_to_end(paths, id) != Some(Why::User) {
        let word = match why {
            Why::User => "user",
            Why::Shutdown => SHUTDOWN,
            Why::Restart => RESTART,
        };
        let _ = rbox_sys::own::write(&mark(paths, id), word);
    }
    // A monitor that waits looks for the file when somebody connects.
    drop(protocol::connect(&paths.live_of(id)));
}

/// Whether somebody asked for its end since it was started.
pub(crate) fn asked_to_end(paths: &Paths, id: &ContainerId) -> Option<Why> {
    let text = rbox_sys::own::read(&mark(paths, id), 1 << 10).ok()?;
    Some(match text {
        _ if text == SHUTDOWN.as_bytes() => Why::Shutdown,
        _ if text == RESTART.as_bytes() => Why::Restart,
        _ => Why::User,
    })
}

/// Notes that it was sent SIGKILL by one who does not wait for it.
pub(crate) fn mark_killed(paths: &Paths, id: &ContainerId) {
    let _ = rbox_sys::own::write(&mark(paths, id), KILLED);
}

/// Whether that was noted since it was started.
pub(crate) fn is_killed(paths: &Paths, id: &ContainerId) -> bool {
    rbox_sys::own::read(&mark(paths, id), 1 << 10).is_ok_and(|text| text == KILLED)
}

const SHUTDOWN: &str = "shutdown";
const RESTART: &str = "restart";

/// In the mark: a user wants its end, and it was sent SIGKILL.
const KILLED: &[u8] = b"killed";

/// Somebody starts it: what was asked before holds no more.
pub(crate) fn forget_asked(paths: &Paths, id: &ContainerId) {
    // It is not there but after an exit that found no room on disk.
    let _ = std::fs::remove_file(mark(paths, id));
}
