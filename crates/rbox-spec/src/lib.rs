//! Names and values: ids, digests, references, ports, sizes, users, resources. Parsing and display, no I/O.
#![forbid(unsafe_code)]

pub mod capability;
pub mod container;
pub mod csv;
pub mod device_request;
pub mod digest;
pub mod docker;
pub mod given;
pub mod health;
pub mod hugetlb;
pub mod id;
pub mod idmap;
pub mod json;
pub mod kind;
pub mod lexical;
pub mod mac;
pub mod mount;
pub mod name;
pub mod platform;
pub mod port;
pub mod record;
pub mod reference;
pub mod resources;
pub mod restart;
pub mod signal;
pub mod size;
pub mod storage;
pub mod ulimit;
pub mod user;
pub mod userns;
pub mod volume_options;
pub mod volumes_from;

pub use capability::{CapSet, Capability};
pub use digest::{Digest, DigestError};
pub use kind::Kind;
pub use name::{ContainerName, InvalidName, NetworkName, VolumeName};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
pub use resources::Resources;
pub use size::Size;
pub use ulimit::{Rlimit, Ulimit};
pub use user::{ResolvedUser, UserSpec};
