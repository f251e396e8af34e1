//! Registry client, content store (an OCI image layout) and image configuration.
//!
//! [`ImageStore`] holds images on disk, [`pull`] fetches them, [`Registries`] says from where and how. All that
//! comes from a registry or an archive is hostile: digests are a type, sizes are capped, and an image is
//! registered only when every byte of it was verified.
#![forbid(unsafe_code)]
// Errors hold two digests and a path each. They end a pull or a command; boxing them would only hide their fields.
#![allow(clippy::result_large_err)]

pub mod archive;
mod attestation;
mod bomb;
pub mod compress;
pub mod config;
mod disk;
mod fetch;
mod go_json;
pub mod hash;
mod keys;
pub mod layer;
pub mod media;
pub mod pull;
pub mod push;
pub mod registry;
pub mod remote;
mod sending;
pub mod signature;
pub mod store;
#[cfg(test)]
mod testing;
mod transfer;

/// What the fuzzer (fuzz/) reaches that nothing else needs.
#[cfg(fuzzing)]
pub mod fuzzing {
    pub use crate::registry::answer::fuzzing::redirect;
    pub use crate::registry::client::fuzzing::answers;
    pub use crate::registry::credentials::fuzzing as credential;
    pub use crate::signature::fuzzing as signature;
}

pub use attestation::{Attestation, Statement, in_toto};
pub use config::{History, ImageConfig, RunConfig};
pub use fetch::{FetchedFile, fetch};
pub use pull::{
    LayerState, NoProgress, PullError, PullEvent, PullOptions, PullProgress, Pulled, digest, pull, tags,
};
pub use push::{
    Artifact, PushError, PushEvent, PushOptions, PushProgress, PushState, Pushed, push, push_artifact,
};
pub use registry::{Registries, RegistriesError, docker_config_dir, docker_config_in};
pub use store::{
    Image, ImageStore, ImageUser, IndexMadeAgain, Layer, LayerDamage, ListUsers, Listing, Notices, Pin,
    Pruned, Removed, StoreError, Transaction, Users,
};
