//! From layers to a root filesystem: unpack, whiteouts, overlay, /proc /dev /sys, masks, pivot_root.
#![forbid(unsafe_code)]
