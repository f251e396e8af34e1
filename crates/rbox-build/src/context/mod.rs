//! What a build may read beside images: its context, and others by name.

mod dir;
mod error;
mod fetched;
mod git;
mod kept;
mod source;
mod work;

pub(crate) use dir::open_dir;
pub use error::ContextError;
pub use fetched::{Arrived, Fetched, is_remote};
pub(crate) use git::Repository;
pub use git::without_password;
pub use kept::{file_within, is_repository, keep_repository};
pub(crate) use source::OpenContext;
pub use source::{Context, NamedContext};
pub(crate) use work::Work;
