//! From a Dockerfile to an image: the language ([`dockerfile`]), what its words become in an environment ([`expand`]), what a context
//! leaves out ([`ignore`]), the checks of `build --check` ([`checks`]); and carrying it out ([`build()`]).
#![forbid(unsafe_code)]

mod allowed;
mod base;
mod build;
mod builder;
mod cache;
pub mod checks;
mod context;
pub mod dockerfile;
mod elsewhere;
mod error;
pub mod expand;
mod export;
pub mod ignore;
mod image;
mod include;
mod material;
mod neighbours;
pub mod outline;
mod predefined;
mod progress;
mod provenance;
mod request;
mod shares;
mod squash;
mod stage;
mod steps;
mod targets;
mod text;
mod together;
mod tree;

pub use allowed::{Allowed, AllowedError};
pub use build::{Built, build, check};
pub use cache::{CacheEntry, PrunedCache, cache_entries, export_mount, import_mount, prune_cache};
pub use context::{
    Arrived, Context, ContextError, Fetched, NamedContext, file_within, is_remote, is_repository,
    keep_repository, without_password,
};
pub use error::{At, BuildError, Foreign};
pub use include::include;
pub use neighbours::Neighbours;
pub use progress::{BuildEvent, BuildProgress, Number, Seat};
pub use request::{
    BuildRequest, CachePlace, CacheSource, CacheTarget, Destination, OnError, Output, Provenance, Reasons,
    SlsaVersion, Until, Which,
};
pub use tree::TreeError;
