//! Containers as the OCI runtime specification has them: `create`, `start`, `state`, `kill` and `delete`, each of which another process
//! may call.
//!
//! [`Containers::create`] makes the process, with [the steps of init](crate::create()) as for any other container. When all is set up it waits at
//! a listening socket in the container's directory, until [`Containers::start`] connects to it and hears how execve went. Nobody
//! has to stay: the process that created may end, and whatever the caller is, it need not be the container's parent.
//!
//! ```text
//! DIR/<id>/            locked (flock) by the one who creates, starts or deletes it
//!   state.json         what was asked for, the control group, then pid and start time
//!   start              the socket
//!   stage/             where the root is attached in the container's mount namespace
//! DIR/.gone-<id>-…     deleted, and on its way out
//! ```
//!
//! `DIR` belongs on a tmpfs: after a reboot there are no containers. As in the engine, the status is never written down:
//!
//! | status | when |
//! |---|---|
//! | creating | the record is not complete, and somebody has the lock |
//! | created | the process is there and listens |
//! | running | the process is there and does not listen: the socket is closed by execve |
//! | stopped | it has ended, or whoever created it was killed before it was done |
//!
//! A pid that was given to another process is recognised by the start time, and signals go through a pidfd.
//!
//! What the config cannot say stands in [`Bundle`]: limits (the caller makes [`Resources`](rbox_spec::Resources) of `linux.resources`) and the
//! compiled filter of `linux.seccomp`. What rbox cannot do is refused by name before anything is made.

mod bundle;
mod check;
mod containers;
mod record;

pub use bundle::{Bundle, Group};
pub use containers::{Containers, Waiting};
