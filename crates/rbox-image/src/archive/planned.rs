//! The images that were found in an archive, and how what names them is read, whatever the archive's form.

use rbox_spec::{Digest, Platform, Reference};
use serde::Deserialize;

use super::error::ArchiveError;
use crate::config::ImageConfig;
use crate::media::{Compression, MAX_CONFIG};
use crate::store::OfIndex;

/// One layer of an image: the file, and what it is to be.
#[derive(Debug, Clone)]
pub(super) struct PlannedLayer {
    pub(super) blob: Digest,
    pub(super) diff_id: Digest,
    pub(super) compression: Compression,
}

/// One image.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) config: Vec<u8>,
    pub(super) layers: Vec<PlannedLayer>,
    pub(super) references: Vec<Reference>,
    /// Manifest and its media type; `None` for a docker-archive, which has none.
    pub(super) manifest: Option<(Vec<u8>, String)>,
    /// The index that it is one platform of.
    pub(super) of: Option<OfIndex>,
    /// The blobs of what that states of it.
    pub(super) stated: Vec<Digest>,
}

/// More than all configurations of an archive have together. They are in memory at once, and one file may be named by many
/// images.
const MOST_CONFIGS: u64 = 32 * MAX_CONFIG;

/// More names than the images of any archive have together. Each is looked up and written down by itself.
const MOST_NAMES: usize = 1000;

/// The images found so far.
#[derive(Debug, Default)]
pub(super) struct Plan {
    images: Vec<Planned>,
    bytes: u64,
    names: usize,
}

impl Plan {
    /// Counts what is about to be kept.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.bytes += bytes as u64;
        if self.bytes > MOST_CONFIGS {
            let name = "what the image configurations are together".to_owned();
            return Err(ArchiveError::TooLarge { name, limit: MOST_CONFIGS });
        }
        Ok(())
    }

    pub(super) fn add(&mut self, image: Planned) -> Result<(), ArchiveError> {
        self.reserve(image.config.len())?;
        self.names += image.references.len();
        if self.names > MOST_NAMES {
            return Err(ArchiveError::TooManyNames(MOST_NAMES));
        }
        self.images.push(image);
        Ok(())
    }

    /// The images, of which there is one at least.
    pub(super) fn end(self) -> Result<Vec<Planned>, ArchiveError> {
        if self.images.is_empty() { Err(ArchiveError::NoImage) } else { Ok(self.images) }
    }
}

pub(super) fn json<'b, T: Deserialize<'b>>(bytes: &'b [u8], name: &str) -> Result<T, ArchiveError> {
    rbox_spec::json::from_slice(bytes).map_err(|source| ArchiveError::Json { name: name.to_owned(), source })
}

/// The configuration of an image for Linux.
pub(super) fn parse_config(bytes: &[u8], name: &str) -> Result<ImageConfig, ArchiveError> {
    let config =
        ImageConfig::parse(bytes).map_err(|source| ArchiveError::Json { name: name.to_owned(), source })?;
    match config.os.as_str() {
        "" | "linux" => Ok(config),
        other => Err(ArchiveError::System(shown(other))),
    }
}

/// Whether an image is for all platforms that are wanted.
pub(super) fn check_platforms(wanted: &[Platform], config: &ImageConfig) -> Result<(), ArchiveError> {
    let found = config.platform();
    match wanted.iter().find(|wanted| wanted.rank(&found).is_none()) {
        Some(wanted) => Err(ArchiveError::Platform(wanted.to_string())),
        None => Ok(()),
    }
}

pub(super) fn parse_reference(name: &str) -> Result<Reference, ArchiveError> {
    let clipped = || name.chars().take(300).collect();
    Reference::parse(name)
        .map(Reference::with_default_tag)
        .map_err(|source| ArchiveError::Reference { name: clipped(), source })
}

/// A name for a message: short, and moving no cursor.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(300).flat_map(char::escape_default).collect()
}
