//! Images as files: `load` and `save` of docker-archive and oci-archive, `import` of a root filesystem.
//!
//! An archive is read in one pass, so that it may come through a pipe: every file is spooled into the store's `tmp/`
//! and hashed on the way. From then on content is found by digest; names in the archive lead nowhere but to other
//! names in it. An archive that has `oci-layout` and `index.json` is read as an OCI layout, any other by its
//! `manifest.json`, and one without by its `repositories` ([`legacy`]). What `save` writes is both at once, as Docker since version 25 writes it.
//!
//! Sources: OCI image specification, `image-layout.md`; moby `image/spec/v1.3`, "Combined Image JSON + Filesystem
//! Changeset Format".

mod assemble;
mod change;
mod commit;
mod compression;
mod error;
mod import;
mod legacy;
mod load;
mod plan;
mod planned;
mod save;
mod spool;
#[cfg(test)]
mod tests;

pub use assemble::assemble;
pub use change::{ChangeError, apply_changes};
pub use commit::{CommitOptions, commit, committed_config};
pub use compression::{is_tar, uncompressed, uncompressed_up_to};
pub use error::ArchiveError;
pub use import::{ImportOptions, import};
pub use load::{LoadEvent, Loaded, load};
pub use save::{SaveFormat, save};

/// Name of the file that lists images in a docker-archive.
const MANIFEST: &str = "manifest.json";
/// Name of the file that lists images in an OCI layout.
const INDEX: &str = "index.json";
/// Name of the file that says that it is an OCI layout.
const LAYOUT: &str = "oci-layout";
/// Name of the file that lists images in an archive of Docker before 1.10, where these two are in each layer's directory.
const REPOSITORIES: &str = "repositories";
const CONFIG: &str = "json";
const LAYER: &str = "layer.tar";
