//! `commit`: a container's configuration and its own layer, on its image's layers, as an image.

use jiff::Timestamp;
use rbox_spec::Reference;
use serde_json::Value;

use super::change::{ChangeError, apply_changes};
use super::error::ArchiveError;
use super::plan::manifest_of;
use crate::config::{History, ImageConfig, RootFs, RunConfig};
use crate::media::{Descriptor, OCI_MANIFEST, layer_compression};
use crate::store::{Image, StoreError, StoredLayer, Transaction};

/// What becomes an image.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// The container's id.
    pub container: String,
    /// What it runs, as one line.
    pub created_by: String,
    /// What a container of the image gets: [`committed_config`].
    pub config: RunConfig,
    /// All of the container's configuration, in Docker's form.
    pub container_config: Value,
    /// `--author`.
    pub author: Option<String>,
    /// `--message`.
    pub message: Option<String>,
    /// The image's name; none: it is found by its id alone.
    pub reference: Option<Reference>,
}

/// The container's configuration with `--change`s over it. As Docker has it, what a change leaves open is the container's again: an
/// ENTRYPOINT alone takes the command away, an empty one brings it back.
///
/// # Errors
/// A change is none, or is not allowed here.
pub fn committed_config(container: &RunConfig, changes: &[String]) -> Result<RunConfig, ChangeError> {
    let mut config = container.clone();
    apply_changes(&mut config, changes)?;
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&container.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&container.entrypoint);
        }
    }
    config.healthcheck = config.healthcheck.map(|check| check.over(container.healthcheck.as_ref()));
    Ok(config)
}

/// Registers the image: `parent`'s layers, and `layer` if the container has changed anything.
///
/// # Errors
/// The image would have too many layers, or cannot be written.
pub fn commit(
    transaction: &Transaction<'_>,
    parent: &Image,
    layer: Option<&StoredLayer>,
    options: &CommitOptions,
) -> Result<Image, ArchiveError> {
    let mut layers = Vec::with_capacity(parent.layers.len() + 1);
    for below in &parent.layers {
        let compression = layer_compression(&below.media_type)
            .map_err(|source| StoreError::Document { digest: parent.manifest_digest, source })?;
        layers.push(Descriptor::new(compression.layer_type(), below.digest, below.blob_size));
    }
    layers.extend(layer.map(|layer| layer.descriptor.clone()));
    let made = |source| ArchiveError::Json { name: "the configuration made".to_owned(), source };
    let config = serde_json::to_vec(&document(parent, layer, options).map_err(made)?).map_err(made)?;
    transaction.add_blob(&config)?;
    let manifest = serde_json::to_vec(&manifest_of(&config, &layers)).map_err(made)?;
    let references: Vec<_> = options.reference.iter().cloned().map(Reference::with_default_tag).collect();
    Ok(transaction.register(&manifest, OCI_MANIFEST, &references, None)?)
}

/// The image's configuration, with what Docker writes into those of commits beside OCI's.
fn document(
    parent: &Image,
    layer: Option<&StoredLayer>,
    options: &CommitOptions,
) -> Result<Value, serde_json::Error> {
    let now = Timestamp::now().to_string();
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let step = History {
        created: Some(now.clone()),
        created_by: Some(options.created_by.clone()).filter(|line| !line.is_empty()),
        author: given(&options.author),
        comment: given(&options.message),
        empty_layer: layer.is_none(),
    };
    let below = parent.layers.iter().map(|layer| layer.diff_id);
    let config = ImageConfig {
        created: Some(now),
        author: step.author.clone(),
        architecture: parent.platform.architecture.clone(),
        variant: parent.config.variant.clone(),
        os: parent.platform.os.clone(),
        os_version: parent.config.os_version.clone(),
        config: options.config.clone(),
        rootfs: RootFs {
            diff_ids: below.chain(layer.map(|layer| layer.diff_id)).collect(),
            ..RootFs::default()
        },
        history: parent.history().iter().cloned().chain([step]).collect(),
        parent: Some(parent.id.to_string()),
        ..ImageConfig::default()
    };
    let mut document = serde_json::to_value(config)?;
    if let Some(fields) = document.as_object_mut() {
        fields.insert("container".to_owned(), options.container.clone().into());
        fields.insert("container_config".to_owned(), options.container_config.clone());
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// moby, daemon/commit.go: `merge`; daemon/builder/dockerfile: `dispatchEntrypoint`.
    #[test]
    fn changes_are_laid_over_the_container_as_docker_does() {
        let words = |text: &str| Some(text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let container = RunConfig {
            entrypoint: words("/entry"),
            cmd: words("serve now"),
            env: vec!["A=1".into(), "B=2".into()],
            ..RunConfig::default()
        };
        let plain = RunConfig { entrypoint: None, ..container.clone() };
        for (container, changes, entrypoint, cmd) in [
            (&container, &[][..], words("/entry"), words("serve now")),
            (&container, &["CMD [\"x\"]"], words("/entry"), words("x")),
            (&container, &["ENTRYPOINT [\"y\"]"], words("y"), None),
            (&container, &["ENTRYPOINT [\"y\"]", "CMD [\"x\"]"], words("y"), words("x")),
            (&container, &["CMD [\"x\"]", "ENTRYPOINT [\"y\"]"], words("y"), words("x")),
            (&container, &["ENTRYPOINT []"], words(""), words("serve now")),
            (&container, &["CMD []"], words("/entry"), words("")),
            (&plain, &["CMD []"], None, words("serve now")),
            (&plain, &["ENTRYPOINT [\"y\"]"], words("y"), None),
        ] {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            let config = committed_config(container, &changes).unwrap();
            assert_eq!((config.entrypoint, config.cmd), (entrypoint, cmd), "{changes:?}");
        }
        let changes = ["ENV B=3 C=$A", "LABEL x=y", "USER 7", "EXPOSE 80", "VOLUME /v", "WORKDIR sub"];
        let config = committed_config(&container, &changes.map(str::to_owned)).unwrap();
        assert_eq!(config.env, ["A=1", "B=3", "C=1"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("7", "/sub"));
        assert!(config.exposed_ports.contains_key("80/tcp") && config.volumes.contains_key("/v"));
        assert!(committed_config(&container, &["RUN true".to_owned()]).is_err());
    }
}
