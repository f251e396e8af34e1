//! What is said of results of steps that are elsewhere: the document beside their layers, of which nothing is believed but what a digest
//! vouches for.

use std::collections::HashMap;

use rbox_image::ImageStore;
use rbox_image::media::{Compression, Manifest};
use rbox_image::store::Layer;
use rbox_spec::Digest;
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::store::StepResult;
use crate::error::BuildError;

/// The type of the document.
pub(super) const STEPS_TYPE: &str = "application/vnd.rbox.buildcache.v1+json";
/// No list of steps is larger.
pub(super) const MOST_STEPS: u64 = 64 << 20;

/// What is there of one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Carried {
    pub(super) key: Key,
    /// The layer's blob.
    pub(super) blob: Digest,
    /// The digest of its uncompressed tar.
    pub(super) diff_id: Digest,
    /// The length of that.
    pub(super) size: u64,
    /// When the step was carried out.
    pub(super) created: String,
    /// The step, for those who look.
    pub(super) what: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Steps {
    pub(super) steps: Vec<Carried>,
}

/// The steps that there are, by their keys, with the lengths of their blobs. More is not kept of these: it may be as long as somebody likes,
/// and one blob is that of many steps.
pub(super) type Known = HashMap<Key, (u64, Carried)>;

/// The steps whose layers a manifest names.
pub(super) fn known(manifest: Manifest, steps: Steps) -> Known {
    let blobs: HashMap<Digest, u64> =
        manifest.layers.into_iter().map(|layer| (layer.digest, layer.size)).collect();
    let known = steps.steps.into_iter().filter_map(|mut one| {
        // It goes into the image: as a time, whatever it was written like.
        one.created = year_of_four_digits(&one.created)?.to_string();
        Some((one.key.clone(), (*blobs.get(&one.blob)?, one)))
    });
    known.collect()
}

impl Carried {
    pub(super) fn of((key, result): &(Key, StepResult), blob: Digest) -> Self {
        Self {
            key: key.clone(),
            blob,
            diff_id: result.diff_id,
            size: result.blob_size,
            created: result.created.clone(),
            what: result.what.clone(),
        }
    }
}

/// A time that RFC 3339 can say: others are in no image that is read again.
pub(super) fn year_of_four_digits(text: &str) -> Option<jiff::Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    (0..=9999).contains(&time.to_zoned(jiff::tz::TimeZone::UTC).year()).then_some(time)
}

/// No blob of a layer of this length is longer, however badly it packs.
pub(super) const fn most_packed(size: u64) -> u64 {
    size.saturating_add(size / 8).saturating_add(1 << 20)
}

pub(super) fn layer_of(images: &ImageStore, diff_id: Digest, size: u64) -> Layer {
    Layer {
        diff_id,
        digest: diff_id,
        blob_size: size,
        media_type: Compression::None.layer_type().to_owned(),
        dir: images.layer_path(&diff_id).join("fs"),
    }
}

pub(super) fn json(document: &impl Serialize) -> Result<Vec<u8>, BuildError> {
    serde_json::to_vec(document).map_err(|error| BuildError::Internal(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn years_are_those_of_rfc_3339() {
        for (text, is_one) in [
            ("2026-11-30T12:00:00Z", true),
            ("9999-12-30T12:00:00Z", true),
            ("0000-01-02T12:00:00Z", true),
            ("-000001-12-30T12:00:00Z", false),
            ("-009000-01-01T12:00:00Z", false),
            ("yesterday", false),
        ] {
            assert_eq!(year_of_four_digits(text).is_some(), is_one, "{text}");
        }
    }
}
