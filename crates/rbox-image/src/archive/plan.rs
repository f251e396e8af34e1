//! Which images an archive has, and out of which of its files.

use std::collections::BTreeMap;

use rbox_spec::{Digest, Platform, Reference};
use serde::Deserialize;

use super::error::ArchiveError;
use super::legacy::legacy;
use super::planned::{
    Plan, Planned, PlannedLayer, check_platforms, json, parse_config, parse_reference, shown,
};
use super::spool::Spool;
use super::{INDEX, LAYOUT, MANIFEST, REPOSITORIES};
use crate::attestation::{is_attestation, is_of};
use crate::config::ImageConfig;
use crate::media::{
    Descriptor, Document, DocumentError, Index, MAX_CONFIG, MAX_DOCUMENT, MOST_NESTED, Manifest, OCI_CONFIG,
    OCI_MANIFEST, layer_compression,
};
use crate::store::{MAX_STATEMENT, NAME_ANNOTATION, OfIndex, TAG_ANNOTATION};

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
/// `platforms`: those of each image that are wanted, without which it is refused; empty: all that are there.
pub(super) fn plan(spool: &Spool, platforms: &[Platform]) -> Result<Vec<Planned>, ArchiveError> {
    if spool.digest_of(LAYOUT).is_some()
        && let Some(index) = spool.named(INDEX, MAX_DOCUMENT)?
    {
        return oci(spool, &index, platforms);
    }
    if let Some(manifest) = spool.named(MANIFEST, MAX_DOCUMENT)? {
        return docker(spool, &manifest, platforms);
    }
    match spool.named(REPOSITORIES, MAX_DOCUMENT)? {
        Some(repositories) => legacy(spool, &repositories, platforms),
        None => Err(ArchiveError::NoImage),
    }
}

/// manifest.json: files by their names, and the configuration says the rest.
fn docker(spool: &Spool, bytes: &[u8], platforms: &[Platform]) -> Result<Vec<Planned>, ArchiveError> {
    let entries: Vec<DockerEntry> = json(bytes, MANIFEST)?;
    let absent = |name: &str| ArchiveError::Absent { by: MANIFEST, name: shown(name) };
    let mut plan = Plan::default();
    for entry in entries {
        let config = spool.named(&entry.config, MAX_CONFIG)?.ok_or_else(|| absent(&entry.config))?;
        let parsed = parse_config(&config, &shown(&entry.config))?;
        check_platforms(platforms, &parsed)?;
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
        plan.add(Planned { config, layers, references, manifest: None, of: None, stated: Vec::new() })?;
    }
    plan.end()
}

/// index.json: everything by digest.
fn oci(spool: &Spool, bytes: &[u8], platforms: &[Platform]) -> Result<Vec<Planned>, ArchiveError> {
    let index: Index = json(bytes, INDEX)?;
    let mut names: BTreeMap<usize, Vec<Reference>> = BTreeMap::new();
    let mut found: Vec<Found> = Vec::new();
    let mut no_image = None;
    for descriptor in index.manifests.iter().filter(|descriptor| !is_attestation(descriptor)) {
        let images = match resolve(spool, descriptor, platforms, 0) {
            Err(ArchiveError::Document { source, digest })
                if is_no_image(&source) && descriptor.platform.is_none() =>
            {
                no_image = no_image.or(Some(ArchiveError::Document { source, digest }));
                continue;
            }
            images => images?,
        };
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
            let names = names.entry(position).or_default();
            names.extend(name.clone().filter(|name| !names.contains(name)));
        }
    }
    if let Some(error) = no_image.filter(|_| found.is_empty()) {
        return Err(error);
    }
    let mut plan = Plan::default();
    let mut taken: Vec<(Digest, Platform)> = Vec::new();
    for (position, image) in found.into_iter().enumerate() {
        let references = names.remove(&position).unwrap_or_default();
        if let Some(planned) = planned(spool, image, references, &mut taken)? {
            plan.add(planned)?;
        }
    }
    plan.end()
}

/// What is loaded for a manifest. None for the second one that an index has for a platform, as readers take the first: `taken` has those.
fn planned(
    spool: &Spool,
    image: Found,
    references: Vec<Reference>,
    taken: &mut Vec<(Digest, Platform)>,
) -> Result<Option<Planned>, ArchiveError> {
    let Found { digest, bytes, media_type, manifest, wanted, of, stated } = image;
    let refuse = |source| ArchiveError::Document { digest, source };
    let id = manifest.config.digest;
    let absent = |digest: &Digest| ArchiveError::Absent { by: "a manifest", name: digest.to_string() };
    let config = spool.bytes(&id, "the image configuration", MAX_CONFIG)?.ok_or_else(|| absent(&id))?;
    let parsed = parse_config(&config, "the image configuration")?;
    check_platforms(&wanted, &parsed)?;
    if let Some(of) = &of {
        let place = (of.digest, parsed.platform());
        if taken.contains(&place) {
            return Ok(None);
        }
        taken.push(place);
    }
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
    Ok(Some(Planned { config, layers, references, manifest: Some((bytes, media_type)), of, stated }))
}

/// A manifest of the archive.
struct Found {
    digest: Digest,
    bytes: Vec<u8>,
    media_type: String,
    manifest: Manifest,
    /// The platforms it was chosen for; none if nobody asked.
    wanted: Vec<Platform>,
    of: Option<OfIndex>,
    stated: Vec<Digest>,
}

/// What an entry of an index is for.
enum For {
    Platform(Platform),
    /// That is for the index to say that it leads to.
    Several,
    NoImage,
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
            let (media_type, wanted) = (descriptor.media_type.clone(), platforms.to_vec());
            let stated = Vec::new();
            return Ok(vec![Found { digest, bytes, media_type, manifest, wanted, of: None, stated }]);
        }
        Document::Index(_) if depth >= MOST_NESTED => return Err(refuse(DocumentError::Nested)),
        Document::Index(index) => index,
    };
    let meant = meant(spool, &index, platforms)?;
    if meant.is_empty() {
        return Err(ArchiveError::Platform(Platform::host().to_string()));
    }
    let of = OfIndex::new(digest, bytes, &index);
    let mut found = Vec::new();
    for (inner, wanted) in meant {
        for mut image in resolve(spool, inner, &wanted, depth + 1)? {
            // The outermost is the one that has the name.
            image.of = Some(of.clone());
            image.stated = stated(spool, &index, &image.digest)?;
            found.push(image);
        }
        if found.len() > MOST_PLATFORMS {
            return Err(ArchiveError::TooManyPlatforms(MOST_PLATFORMS));
        }
    }
    Ok(found)
}

/// Most statements of an image.
const MOST_STATED: usize = 16;

/// The blobs of what an index states of an image, as far as they are in the archive. They are looked at by nobody here, and go along with the
/// image: what is damaged, too large or too much is left out.
fn stated(spool: &Spool, index: &Index, image: &Digest) -> Result<Vec<Digest>, ArchiveError> {
    let mut all = Vec::new();
    for entry in index.manifests.iter().filter(|entry| is_of(entry, image)) {
        if spool.get(&entry.digest).is_none_or(|spooled| spooled.size > MAX_DOCUMENT) {
            continue;
        }
        let Some(bytes) = spool.bytes(&entry.digest, "a manifest", MAX_DOCUMENT)? else { continue };
        let Ok(Document::Manifest(manifest)) = Document::read(&bytes, &entry.media_type) else { continue };
        let blobs = manifest.layers.iter().chain([&manifest.config]).map(|blob| blob.digest);
        let blobs: Vec<Digest> = blobs.chain([entry.digest]).collect();
        let sizes = blobs.iter().map(|blob| spool.get(blob).map(|spooled| spooled.size));
        // Without one of them nothing could be read of it.
        let Some(size) = sizes.sum::<Option<u64>>() else { continue };
        if size <= MAX_STATEMENT && all.len() + blobs.len() <= MOST_STATED {
            all.extend(blobs);
        }
    }
    Ok(all)
}

/// The entries of an index that are loaded, each with the platforms that it was chosen for: the best for each of `platforms`, or all.
fn meant<'i>(
    spool: &Spool,
    index: &'i Index,
    platforms: &[Platform],
) -> Result<Vec<(&'i Descriptor, Vec<Platform>)>, ArchiveError> {
    let mut offered: Vec<(&Descriptor, Option<Platform>)> = Vec::new();
    // What was saved of a multi-platform image is often one platform of it: only what is there counts.
    for inner in &index.manifests {
        if is_attestation(inner) || spool.get(&inner.digest).is_none() {
            continue;
        }
        match what_for(spool, inner)? {
            For::Platform(on) if on.os == "linux" => offered.push((inner, Some(on))),
            For::Several => offered.push((inner, None)),
            For::Platform(_) | For::NoImage => {}
        }
    }
    if platforms.is_empty() {
        return Ok(offered.into_iter().map(|(inner, _)| (inner, Vec::new())).collect());
    }
    let mut meant: Vec<(&Descriptor, Vec<Platform>)> = Vec::new();
    for wanted in platforms {
        let rank = |on: &Option<Platform>| on.as_ref().map_or(Some(usize::MAX), |on| wanted.rank(on));
        let fitting = offered.iter().filter_map(|(inner, on)| Some((rank(on)?, *inner)));
        let (_, best) = fitting
            .min_by_key(|(rank, _)| *rank)
            .ok_or_else(|| ArchiveError::Platform(wanted.to_string()))?;
        match meant.iter_mut().find(|(known, _)| known.digest == best.digest) {
            Some((_, also)) => also.push(wanted.clone()),
            None => meant.push((best, vec![wanted.clone()])),
        }
    }
    Ok(meant)
}

/// What an entry of an index says it is for, or else what it leads to.
fn what_for(spool: &Spool, entry: &Descriptor) -> Result<For, ArchiveError> {
    if let Some(platform) = entry.platform.as_ref().filter(|platform| !platform.os.is_empty()) {
        return Ok(For::Platform(platform.normal()));
    }
    let digest = entry.digest;
    let Some(bytes) = spool.bytes(&digest, "a manifest", MAX_DOCUMENT)? else { return Ok(For::NoImage) };
    let manifest = match Document::parse(&bytes, &entry.media_type) {
        Ok(Document::Manifest(manifest)) => manifest,
        Ok(Document::Index(_)) => return Ok(For::Several),
        Err(source) if is_no_image(&source) => return Ok(For::NoImage),
        Err(source) => return Err(ArchiveError::Document { digest, source }),
    };
    let name = "the image configuration";
    let absent = || ArchiveError::Absent { by: "a manifest", name: manifest.config.digest.to_string() };
    let bytes = spool.bytes(&manifest.config.digest, name, MAX_CONFIG)?.ok_or_else(absent)?;
    let config =
        ImageConfig::parse(&bytes).map_err(|source| ArchiveError::Json { name: name.to_owned(), source })?;
    Ok(For::Platform(config.platform()))
}

/// Whether a document is of another kind, such as a signature or a chart, and not a damaged image.
fn is_no_image(error: &DocumentError) -> bool {
    matches!(error, DocumentError::Artifact(_) | DocumentError::Type(_))
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
