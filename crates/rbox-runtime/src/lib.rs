//! One container from an OCI runtime config: create, start, exec, for its parent; and `create`, `start`, `state`, `kill`, `delete` of the OCI
//! runtime specification, for anybody ([`oci`]).
//!
//! [`create`] clones the first process into its namespaces and gives a [`Created`]; the network is attached to
//! that; [`Created::start`] consumes it and the program runs. What the child does in between is the list of
//! steps in `init.rs`. A container of [`oci`] takes the same steps, and then waits at a socket for whoever starts it.
#![forbid(unsafe_code)]

// The parts a container is made of, for the engine: it reaches them through the runtime, and only there.
pub use rbox_cgroup as cgroup;
pub use rbox_namespace as namespace;
pub use rbox_rootfs as rootfs;
pub use rbox_security as security;

mod between;
mod child;
mod copies;
mod create;
mod credentials;
mod devices;
mod error;
mod hooks;
mod init;
mod join;
mod joined;
mod launch;
mod live;
mod mounts;
pub mod oci;
mod own_user;
mod owner;
mod part;
mod plan;
mod streams;
mod view;

pub use copies::{COPY, FileCopy};
pub use create::{Created, Running, create};
pub use error::RuntimeError;
pub use hooks::{check as check_hooks, run_poststop};
pub use join::{JoinRequest, Joined, join};
pub use joined::{JoinedNamespace, mount_inside, open_namespaces};
pub use launch::{Later, Launch, Stdio};
pub use live::{add_mount, remove_mount};
pub use mounts::PROC_FILES;
pub use own_user::UserNamespace;
pub use owner::OWNER;
pub use part::part_of;
pub use plan::{Bind, IDMAP, PreparedMount, SUBPATH, Source, map_ids};
pub use rbox_namespace::handshake::Failure;
