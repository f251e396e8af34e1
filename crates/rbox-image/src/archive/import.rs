//! `import`: a root filesystem's tar as an image of one layer.

use std::io::Read;

use jiff::Timestamp;
use rbox_spec::{Platform, Reference};

use super::change::apply_changes;
use super::compression::{Outer, inflate, open};
use super::error::ArchiveError;
use super::plan::manifest_of;
use crate::config::{History, ImageConfig, RootFs, RunConfig};
use crate::media::OCI_MANIFEST;
use crate::store::{Expected, Image, ImageStore};

/// How a root filesystem becomes an image.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// `--change`, each one Dockerfile instruction.
    pub changes: Vec<String>,
    /// `--message`; by default where it came from.
    pub message: Option<String>,
    /// The image's name; none: it is found by its id alone.
    pub reference: Option<Reference>,
    /// `--platform`; by default this machine's.
    pub platform: Option<Platform>,
    /// Where the tar came from, as the user wrote it: `-` or a file.
    pub source: String,
}

/// Imports a tar, compressed or not. A bad `--change` is refused before a byte is read.
pub fn import(
    store: &ImageStore,
    tar: impl Read + Send,
    options: &ImportOptions,
) -> Result<Image, ArchiveError> {
    let mut run = RunConfig::default();
    apply_changes(&mut run, &options.changes)?;
    let transaction = store.transaction()?;
    let (outer, source) = open(tar).map_err(ArchiveError::Read)?.ok_or(ArchiveError::Empty)?;
    // The store keeps layers as they come, if it may: OCI has no bzip2 and no xz.
    let source = match outer {
        Outer::None | Outer::Gzip | Outer::Zstd => source,
        Outer::Bzip2 | Outer::Xz => inflate(outer, source).map_err(ArchiveError::Read)?,
    };
    let layer = transaction.add_layer(source, &Expected::default())?;
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let now = Timestamp::now().to_string();
    let message = options.message.clone().unwrap_or_else(|| format!("Imported from {}", options.source));
    let config = ImageConfig {
        created: Some(now.clone()),
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        comment: Some(message.clone()),
        config: run,
        rootfs: RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() },
        history: vec![History { created: Some(now), comment: Some(message), ..History::default() }],
        ..ImageConfig::default()
    };
    let made = |source| ArchiveError::Json { name: "the configuration made".to_owned(), source };
    let config = serde_json::to_vec(&config).map_err(made)?;
    transaction.add_blob(&config)?;
    let manifest = serde_json::to_vec(&manifest_of(&config, &[layer.descriptor])).map_err(made)?;
    let references: Vec<_> = options.reference.iter().cloned().map(Reference::with_default_tag).collect();
    Ok(transaction.register(&manifest, OCI_MANIFEST, &references, None)?)
}
