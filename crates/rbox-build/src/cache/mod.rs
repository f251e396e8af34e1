//! What builds keep, so that the next one has less to do.
//!
//! # On disk
//! ```text
//! <root>/build/
//!   steps/<key>.json     what a step came to: the layer that the image store has of it
//!   steps/<key>.lock     held while the step is carried out, so that two builds do not both do it
//!   steps/room.lock      held while a large layer of another host's is taken in, so that two do not count on the same room
//!   files/<context>      digests of a context's files, with what tells that a file is unchanged
//!   last/<build>.json    what the steps of a build read the last time: to say what is different now
//!   mounts/<id>/         what RUN --mount=type=cache keeps: data/, and in use a lock
//!   work/<build>/        what a build makes on its way, these files too until they are whole; locked as long as it runs
//! ```
//! A step's key is the digest of all that decides what it makes. A layer that a step came to has a file `cached` beside its record in
//! the store, which keeps it there without an image.

mod carried;
mod elsewhere;
mod files;
mod key;
mod last;
mod layout;
mod locked;
mod place;
mod prune;
mod registry;
mod steps;
mod store;

pub(crate) use carried::{cache_id, clean_target, mount_dir};
pub use carried::{export_mount, import_mount};
pub(crate) use elsewhere::Elsewhere;
pub(crate) use files::{FileMarks, KnownFiles};
pub(crate) use key::{Key, KeyBuilder, Part};
pub(crate) use last::{Last, StepTrace};
pub(crate) use layout::write as write_layout;
pub(crate) use locked::{STEP, lock_at, lock_filled};
pub(crate) use prune::remove_locks;
pub use prune::{CacheEntry, PrunedCache, cache_entries, prune_cache};
pub(crate) use registry::{inline, look_at_target, write as write_registry};
pub(crate) use store::{StepCache, StepResult};
