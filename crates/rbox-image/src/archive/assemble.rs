//! An image of a configuration and layers that are in the store: what a build ends with.

use std::collections::BTreeMap;

use rbox_spec::Reference;

use super::error::ArchiveError;
use super::plan::manifest_of;
use crate::media::{Descriptor, OCI_MANIFEST};
use crate::store::{Image, Transaction};

/// Registers the image, under these names. `layers`: bottom first, one for each diff ID of the configuration. `annotations`: the
/// manifest's.
///
/// # Errors
/// The image would have too many layers, one of them is not there, or nothing can be written.
pub fn assemble(
    transaction: &Transaction<'_>,
    config: &[u8],
    layers: &[Descriptor],
    names: &[Reference],
    annotations: &BTreeMap<String, String>,
) -> Result<Image, ArchiveError> {
    transaction.add_blob(config)?;
    let made = |source| ArchiveError::Json { name: "the manifest made".to_owned(), source };
    let mut manifest = manifest_of(config, layers);
    manifest.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    let manifest = serde_json::to_vec(&manifest).map_err(made)?;
    Ok(transaction.register(&manifest, OCI_MANIFEST, names, None)?)
}
