//! One container from an OCI runtime config: create, start, exec, kill, delete.
#![forbid(unsafe_code)]
