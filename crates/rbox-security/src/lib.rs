//! Capabilities, the seccomp filter and no_new_privs.
#![forbid(unsafe_code)]
