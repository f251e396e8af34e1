//! Which images an archive has, and out of which of its files.

use std::collections::BTreeMap;

use rbox_spec::{Digest, Platform, Reference};
use serde::Deserialize;

use super::error::ArchiveError;
use super::legacy::legacy;
use super::planned::{Plan, Planned, PlannedLayer, json, parse_config, parse_reference, shown};
use super::spool::Spool;
use super::{INDEX, LAYOUT, MANIFEST, REPOSITORIES};
use crate::media::{
    Descriptor, DescriptorPlatform, Document, DocumentError, Index, MAX_CONFIG, MAX_DOCUMENT, MOST_NESTED,
    Manifest, OCI_CONFIG, OCI_MANIFEST, layer_compression,
};
use crate::store::{NAME_ANNOTATION, OfIndex, TAG_ANNOTATION};

/// More platforms than any image is for.
const MOST_PLATFORMS: usize = 100;

/// One image in manifest.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// The images of an archive, each once.
///
/// `platforms`: those of an image for several that are wanted; empty: all that are there.
pub(super) fn plan(spool: &Spool, platforms: &[Platform]) -> Result<Vec<Planned>, ArchiveError> {
    if spool.digest_of(LAYOUT).is_some()
        && let Some(index) = spool.named(INDEX, MAX_DOCUMENT)?
    {
        return oci(spool, &index, platforms);
    }
    if let Some(manifest) = spool.named(MANIFEST, MAX_DOCUMENT)? {
        return docker(spool, &manifest);
    }
    match spool.named(REPOSITORIES, MAX_DOCUMENT)? {
        Some(repositories) => legacy(spool, &repositories),
        None => Err(ArchiveError::NoImage),
    }
}

/// manifest.json: files by their names, and the configuration says the rest.
fn docker(spool: &Spool, bytes: &[u8]) -> Result<Vec<Planned>, ArchiveError> {
    let entries: Vec<DockerEntry> = json(bytes, MANIFEST)?;
    let absent = |name: &str| ArchiveError::Absent { by: MANIFEST, name: shown(name) };
    let mut plan = Plan::default();
    for entry in entries {
        let config = spool.named(&entry.config, MAX_CONFIG)?.ok_or_else(|| absent(&entry.config))?;
        let parsed = parse_config(&config, &shown(&entry.config))?;
        let names = entry.layers.unwrap_or_default();
        let diff_ids = &parsed.rootfs.diff_ids;
        if names.len() != diff_ids.len() {
            return Err(ArchiveError::LayerCount { layers: names.len(), diff_ids: diff_ids.len() });
        }
        let mut layers = Vec::new();
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let blob = spool.digest_of(name).ok_or_else(|| absent(name))?;
            layers.push(PlannedLayer { blob, diff_id: *diff_id, compression: spool.compression(&blob)? });
        }
        let tags = entry.repo_tags.unwrap_or_default();
        let references = tags.iter().map(|tag| parse_reference(tag)).collect::<Result<_, _>>()?;
        plan.add(Planned { config, layers, references, manifest: None, of: None })?;
    }
    plan.end()
}

/// index.json: everything by digest.
fn oci(spool: &Spool, bytes: &[u8], platforms: &[Platform]) -> Result<Vec<Planned>, ArchiveError> {
    let index: Index = json(bytes, INDEX)?;
    let mut names: BTreeMap<usize, Vec<Reference>> = BTreeMap::new();
    let mut found: Vec<Found> = Vec::new();
    for descriptor in index.manifests.iter().filter(|descriptor| !is_attestation(descriptor)) {
        let images = resolve(spool, descriptor, platforms, 0)?;
        if images.is_empty() {
            return Err(ArchiveError::Absent { by: INDEX, name: descriptor.digest.to_string() });
        }
        let name = reference_of(descriptor)?;
        for image in images {
            let position =
                found.iter().position(|Found { digest, .. }| *digest == image.digest).unwrap_or_else(|| {
                    found.push(image);
                    found.len() - 1
                });
            names.entry(position).or_default().extend(name.clone());
        }
    }
    let mut plan = Plan::default();
    for (position, Found { digest, bytes, media_type, manifest, of }) in found.into_iter().enumerate() {
        let refuse = |source| ArchiveError::Document { digest, source };
        let id = manifest.config.digest;
        let absent = |digest: &Digest| ArchiveError::Absent { by: "a manifest", name: digest.to_string() };
        let config = spool.bytes(&id, "the image configuration", MAX_CONFIG)?.ok_or_else(|| absent(&id))?;
        let parsed = parse_config(&config, "the image configuration")?;
        let diff_ids = &parsed.rootfs.diff_ids;
        if manifest.layers.len() != diff_ids.len() {
            let layers = manifest.layers.len();
            return Err(refuse(DocumentError::LayerCount { layers, diff_ids: diff_ids.len() }));
        }
        let mut layers = Vec::new();
        for (layer, diff_id) in manifest.layers.iter().zip(diff_ids) {
            if spool.get(&layer.digest).is_none() {
                return Err(absent(&layer.digest));
            }
            // What its manifest calls it is what it is kept as; how it is compressed it says itself.
            let compression = layer_compression(&layer.media_type).map_err(refuse)?;
            layers.push(PlannedLayer { blob: layer.digest, diff_id: *diff_id, compression });
        }
        let references = names.remove(&position).unwrap_or_default();
        plan.add(Planned { config, layers, references, manifest: Some((bytes, media_type)), of })?;
    }
    plan.end()
}

/// A manifest of the archive.
struct Found {
    digest: Digest,
    bytes: Vec<u8>,
    media_type: String,
    manifest: Manifest,
    of: Option<OfIndex>,
}

/// The manifests a descriptor leads to: one, or of an index those of these platforms, or all for Linux that are there. None if it is not in
/// the archive.
fn resolve(
    spool: &Spool,
    descriptor: &Descriptor,
    platforms: &[Platform],
    depth: u32,
) -> Result<Vec<Found>, ArchiveError> {
    let digest = descriptor.digest;
    let Some(bytes) = spool.bytes(&digest, "a manifest", MAX_DOCUMENT)? else { return Ok(Vec::new()) };
    let refuse = |source| ArchiveError::Document { digest, source };
    let index = match Document::parse(&bytes, &descriptor.media_type).map_err(refuse)? {
        Document::Manifest(manifest) => {
            let media_type = descriptor.media_type.clone();
            return Ok(vec![Found { digest, bytes, media_type, manifest, of: None }]);
        }
        Document::Index(_) if depth >= MOST_NESTED => return Err(refuse(DocumentError::Nested)),
        Document::Index(index) => index,
    };
    // What was saved of a multi-platform image is often one platform of it: only what is there counts.
    let offered: Vec<(&Descriptor, Option<Platform>)> = index
        .manifests
        .iter()
        .filter(|inner| !is_attestation(inner) && spool.get(&inner.digest).is_some())
        .map(|inner| (inner, inner.platform.as_ref().map(DescriptorPlatform::normal)))
        .filter(|(_, on)| on.as_ref().is_none_or(|on| on.os == "linux"))
        .collect();
    let mut meant: Vec<&Descriptor> = Vec::new();
    for wanted in platforms {
        let rank = |on: &Option<Platform>| on.as_ref().map_or(Some(usize::MAX), |on| wanted.rank(on));
        let fitting = offered.iter().filter_map(|(inner, on)| Some((rank(on)?, *inner)));
        let (_, best) = fitting
            .min_by_key(|(rank, _)| *rank)
            .ok_or_else(|| ArchiveError::Platform(wanted.to_string()))?;
        meant.push(best);
    }
    if platforms.is_empty() {
        meant = offered.iter().map(|(inner, _)| *inner).collect();
    }
    if meant.is_empty() {
        return Err(ArchiveError::Platform(Platform::host().to_string()));
    }
    let of = OfIndex::new(digest, bytes, &index);
    let mut found = Vec::new();
    for inner in meant {
        for mut image in resolve(spool, inner, platforms, depth + 1)? {
            // The outermost is the one that has the name.
            image.of = Some(of.clone());
            found.push(image);
        }
        if found.len() > MOST_PLATFORMS {
            return Err(ArchiveError::TooManyNames(MOST_PLATFORMS));
        }
    }
    Ok(found)
}

/// Provenance that builders put beside images.
fn is_attestation(descriptor: &Descriptor) -> bool {
    let kind = descriptor.annotations.as_ref().and_then(|notes| notes.get("vnd.docker.reference.type"));
    kind.is_some_and(|kind| kind == "attestation-manifest")
}

/// The name of an image: Docker's annotation has it in full; OCI's has a tag, or by some tools' habit a name.
fn reference_of(descriptor: &Descriptor) -> Result<Option<Reference>, ArchiveError> {
    let note = |key: &str| descriptor.annotations.as_ref().and_then(|notes| notes.get(key));
    if let Some(name) = note(NAME_ANNOTATION) {
        let reference = parse_reference(name)?;
        return Ok(reference.tag().is_some().then_some(reference));
    }
    match note(TAG_ANNOTATION) {
        Some(name) if name.contains([':', '/']) => parse_reference(name).map(Some),
        _ => Ok(None),
    }
}

/// The manifest of an image that has none: an OCI one of its layers as they are.
pub(super) fn manifest_of(config: &[u8], layers: &[Descriptor]) -> Manifest {
    let id = crate::hash::sha256(config);
    Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: Descriptor::new(OCI_CONFIG, id, config.len() as u64),
        layers: layers.to_vec(),
        annotations: None,
    }
}
