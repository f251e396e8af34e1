//! Images put together of what registries have, and copied with their parts: `docker buildx imagetools`.
use std::collections::BTreeMap;

use rbox_spec::{Digest, Platform, Reference};
use serde_json::Value;

use super::copying::{Brought, MOST_PARTS, Part};
use super::error::RemoteError;
use super::image::{Remote, RemoteImage, shown};
use super::list::indented;
use crate::attestation::SUBJECT;
use crate::hash::sha256;
use crate::media::{DOCKER_LIST, Descriptor, DescriptorPlatform, Document, Index, MOST_NESTED, OCI_INDEX};

/// What an image is made of.
#[derive(Debug, Clone)]
pub enum Source {
    /// What a registry has.
    Name(Reference),
    /// The same, in the repository that all others are in.
    Digest(Digest),
    /// A descriptor, whose fields go over those of what the registry has.
    Descriptor(Box<Descriptor>),
}

impl Source {
    /// Reads one: a digest, a reference or a descriptor.
    ///
    /// # Errors
    /// It is none, in buildx's words.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let refuse = |why: String| {
            Err(RemoteError::Refused(format!(
                "failed to parse source {text:?}, valid sources are digests, references and descriptors: {why}"
            )))
        };
        if let Ok(digest) = text.parse() {
            return Ok(Self::Digest(digest));
        }
        if text.starts_with("sha256:") {
            return refuse("invalid checksum digest format".to_owned());
        }
        if !text.trim_start().starts_with('{') {
            return match Reference::parse(text) {
                Ok(name) => Ok(Self::Name(name.with_default_tag())),
                Err(error) => refuse(error.to_string()),
            };
        }
        let value: Value = match rbox_spec::json::from_slice(text.as_bytes()) {
            Ok(value) => value,
            Err(error) => return refuse(error.to_string()),
        };
        if let Some(version) = value.get("schemaVersion") {
            return refuse(format!(
                "expected an OCI content descriptor, got a manifest or index (schemaVersion {version})"
            ));
        }
        match rbox_spec::json::from_slice(text.as_bytes()) {
            Ok(descriptor) => Ok(Self::Descriptor(Box::new(descriptor))),
            Err(error) => refuse(error.to_string()),
        }
    }
}

/// An image that is to be pushed.
#[derive(Debug)]
pub struct Combined {
    /// The document.
    pub bytes: Vec<u8>,
    /// Its type, digest and length.
    pub descriptor: Descriptor,
    /// What it names, each with the repository that has it.
    parts: Vec<(Digest, Reference)>,
}

/// How they are put together.
#[derive(Debug, Default)]
pub struct ImageTools {
    /// Only these platforms, if there are any.
    pub platforms: Vec<Platform>,
    /// Annotations of the index.
    pub of_index: BTreeMap<String, String>,
    /// Annotations of the entries, for all platforms or one.
    pub of_entries: Vec<(Option<Platform>, String, String)>,
    /// One image alone becomes an index of one.
    pub prefer_index: bool,
}

/// An entry of the index that is made.
struct Entry {
    descriptor: Descriptor,
    from: Reference,
}

impl ImageTools {
    /// Puts them together.
    ///
    /// # Errors
    /// One is not there, or they do not fit.
    pub fn combine(
        &self,
        remote: &Remote,
        sources: &[Source],
        tags: &[Reference],
    ) -> Result<Combined, RemoteError> {
        let mut found = Vec::new();
        for source in sources {
            found.push(resolve(remote, source, repository_of(sources, tags, source)?)?);
        }
        // Each is compared with all others.
        let count = |(image, _): &(RemoteImage, Descriptor)| match &image.document {
            Document::Manifest(_) => 1,
            Document::Index(index) => index.manifests.len(),
        };
        let all: usize = found.iter().map(count).sum();
        if all > MOST_PARTS {
            return Err(RemoteError::Refused(format!(
                "the sources name {all} images, and at most {MOST_PARTS} are put together"
            )));
        }
        if let ([(image, descriptor)], true) =
            (found.as_slice(), self.of_index.is_empty() && self.of_entries.is_empty())
            && (matches!(image.document, Document::Index(_)) || !self.prefer_index)
        {
            return self.alone(image, descriptor);
        }
        let mut entries: Vec<Entry> = Vec::new();
        for (image, descriptor) in &found {
            let from = image.name.repository();
            match &image.document {
                Document::Manifest(_) => add(&mut entries, descriptor.clone(), &from),
                Document::Index(index) => {
                    index.manifests.iter().for_each(|one| add(&mut entries, one.clone(), &from));
                }
            }
        }
        let all_dockers =
            entries.iter().all(|entry| entry.descriptor.media_type.starts_with("application/vnd.docker."));
        let media_type = if all_dockers { DOCKER_LIST } else { OCI_INDEX };
        let mut annotations = BTreeMap::new();
        // Docker's lists have none.
        if media_type == OCI_INDEX {
            annotations.clone_from(&self.of_index);
            for entry in &mut entries {
                self.annotate(&mut entry.descriptor);
            }
        }
        let wanted = self.wanted(entries.iter().map(|entry| &entry.descriptor));
        entries.retain(|entry| wanted.contains(&entry.descriptor.digest));
        self.check_platforms(entries.is_empty())?;
        let parts = entries.iter().map(|entry| (entry.descriptor.digest, entry.from.clone())).collect();
        let manifests = entries.into_iter().map(|entry| entry.descriptor).collect();
        let annotations = (!annotations.is_empty()).then_some(annotations);
        let index =
            Index { schema_version: 2, media_type: Some(media_type.to_owned()), manifests, annotations };
        made(&index, media_type, parts)
    }

    fn annotate(&self, descriptor: &mut Descriptor) {
        for (platform, key, value) in &self.of_entries {
            let own = descriptor.platform.as_ref().map(DescriptorPlatform::normal);
            if platform.is_none() || *platform == own {
                let notes = descriptor.annotations.get_or_insert_with(BTreeMap::new);
                notes.insert(key.clone(), value.clone());
            }
        }
    }

    /// One source as it is, or those of its platforms that are wanted.
    fn alone(&self, image: &RemoteImage, descriptor: &Descriptor) -> Result<Combined, RemoteError> {
        let from = image.name.repository();
        let Document::Index(index) = &image.document else {
            if let Some(own) = descriptor.platform.as_ref().filter(|own| !self.fits(Some(own))) {
                return Err(RemoteError::Refused(format!(
                    "input platform {} does not match any of the provided platforms",
                    shown(own)
                )));
            }
            let parts = vec![(image.descriptor.digest, from)];
            return Ok(Combined { bytes: image.bytes.clone(), descriptor: image.descriptor.clone(), parts });
        };
        let wanted = self.wanted(index.manifests.iter());
        let kept = index.manifests.iter().filter(|one| wanted.contains(&one.digest));
        let parts: Vec<_> = kept.clone().map(|one| (one.digest, from.clone())).collect();
        self.check_platforms(parts.is_empty())?;
        if parts.len() == index.manifests.len() {
            return Ok(Combined { bytes: image.bytes.clone(), descriptor: image.descriptor.clone(), parts });
        }
        let manifests = kept.cloned().collect();
        made(&Index { manifests, ..index.clone() }, &image.descriptor.media_type, parts)
    }

    fn fits(&self, platform: Option<&DescriptorPlatform>) -> bool {
        let own = platform.map(DescriptorPlatform::normal);
        self.platforms.is_empty() || own.is_none_or(|own| self.platforms.contains(&own))
    }

    /// What is for the platforms that are wanted, with its provenance.
    fn wanted<'d>(&self, all: impl Iterator<Item = &'d Descriptor> + Clone) -> Vec<Digest> {
        let fitting: Vec<Digest> =
            all.clone().filter(|one| self.fits(one.platform.as_ref())).map(|one| one.digest).collect();
        let subject =
            |one: &Descriptor| -> Option<Digest> { one.annotations.as_ref()?.get(SUBJECT)?.parse().ok() };
        all.filter(|one| {
            fitting.contains(&one.digest) || subject(one).is_some_and(|of| fitting.contains(&of))
        })
        .map(|one| one.digest)
        .collect()
    }

    fn check_platforms(&self, nothing: bool) -> Result<(), RemoteError> {
        if !nothing || self.platforms.is_empty() {
            return Ok(());
        }
        let wanted: Vec<String> = self.platforms.iter().map(Platform::to_string).collect();
        Err(RemoteError::Refused(format!("no manifests match the platforms {}", wanted.join(", "))))
    }

    /// Brings all parts into the repositories of the tags and gives each tag the image. `say` hears of each step.
    ///
    /// # Errors
    /// A part cannot be copied, or the registry refuses.
    pub fn push(
        remote: &Remote,
        image: &Combined,
        tags: &[Reference],
        say: &mut dyn FnMut(&Reference, &str),
    ) -> Result<(), RemoteError> {
        let mut repositories: Vec<Reference> = Vec::new();
        for tag in tags {
            if repositories.iter().any(|known| known.same_repository(tag)) {
                continue;
            }
            let to = tag.repository();
            let mut brought = Brought::default();
            for (digest, from) in &image.parts {
                if !from.same_repository(&to) {
                    say(&to, &format!("copying {digest} from {} to {}", from.name(), to.name()));
                    copy_all(remote, &from.with_digest(*digest), &to, &mut brought, 0)?;
                }
            }
            repositories.push(to);
        }
        for tag in tags {
            let digest = image.descriptor.digest;
            say(&tag.repository(), &format!("pushing {digest} to {}", tag.full()));
            remote.put(tag, &image.descriptor.media_type, &image.bytes, &digest)?;
        }
        Ok(())
    }
}

/// Copies an image, or an index with all that it names.
fn copy_all(
    remote: &Remote,
    from: &Reference,
    to: &Reference,
    brought: &mut Brought,
    depth: u32,
) -> Result<(), RemoteError> {
    if let Some(digest) = from.digest()
        && !brought.note(Part::Document, digest)?
    {
        return Ok(());
    }
    let image = remote.fetch(from)?;
    let Document::Index(index) = &image.document else { return remote.copy(&image, to, brought) };
    if depth >= MOST_NESTED {
        return Err(RemoteError::Refused("indexes are nested too deeply".to_owned()));
    }
    for one in &index.manifests {
        copy_all(remote, &from.with_digest(one.digest), to, brought, depth + 1)?;
    }
    let Descriptor { media_type, digest, .. } = &image.descriptor;
    remote.put(&to.with_digest(*digest), media_type, &image.bytes, digest)
}

/// Adds an entry; what is there already is told more of.
fn add(entries: &mut Vec<Entry>, new: Descriptor, from: &Reference) {
    let Some(known) = entries.iter_mut().find(|entry| entry.descriptor.digest == new.digest) else {
        entries.push(Entry { descriptor: new, from: from.clone() });
        return;
    };
    if new.platform.is_some() {
        known.descriptor.platform = new.platform;
    }
    if let Some(notes) = new.annotations {
        known.descriptor.annotations.get_or_insert_with(BTreeMap::new).extend(notes);
    }
    known.from = from.clone();
}

fn made(index: &Index, media_type: &str, parts: Vec<(Digest, Reference)>) -> Result<Combined, RemoteError> {
    let failed = |source| RemoteError::Json { what: "make the index".to_owned(), source };
    let bytes = indented(index, "  ").map_err(failed)?.into_bytes();
    let descriptor = Descriptor::new(media_type, sha256(&bytes), bytes.len() as u64);
    Ok(Combined { bytes, descriptor, parts })
}

/// Where a source is that does not say so: in the one repository that there is talk of.
fn repository_of(sources: &[Source], tags: &[Reference], source: &Source) -> Result<Reference, RemoteError> {
    if let Source::Name(name) = source {
        return Ok(name.clone());
    }
    let named = sources.iter().filter_map(|source| match source {
        Source::Name(name) => Some(name),
        _ => None,
    });
    let mut all: Vec<&Reference> = Vec::new();
    for name in named.chain(tags) {
        if all.iter().all(|known| !known.same_repository(name)) {
            all.push(name);
        }
    }
    let text = match source {
        Source::Digest(digest) => digest.to_string(),
        Source::Descriptor(descriptor) => descriptor.digest.to_string(),
        Source::Name(name) => name.full(),
    };
    match all.as_slice() {
        [one] => Ok(one.repository()),
        [] => Err(RemoteError::Refused(
            "no repositories specified, please set a reference in tag or source".to_owned(),
        )),
        _ => Err(RemoteError::Refused(format!(
            "multiple repositories specified, cannot infer repository for {text:?}"
        ))),
    }
}

/// What a source is, and its descriptor with the platform.
fn resolve(
    remote: &Remote,
    source: &Source,
    at: Reference,
) -> Result<(RemoteImage, Descriptor), RemoteError> {
    let (name, given) = match source {
        Source::Name(_) => (at, None),
        Source::Digest(digest) => (at.with_digest(*digest), None),
        Source::Descriptor(given) => (at.with_digest(given.digest), Some(given)),
    };
    let image = remote.fetch(&name)?;
    let mut descriptor = image.descriptor.clone();
    if let Some(given) = given {
        if given.size != 0 && given.size != descriptor.size {
            return Err(RemoteError::Refused(format!(
                "invalid size mismatch for {}, {} != {}",
                given.digest, given.size, descriptor.size
            )));
        }
        descriptor.annotations.clone_from(&given.annotations);
        descriptor.platform.clone_from(&given.platform);
    }
    if let Document::Manifest(manifest) = &image.document {
        let own = descriptor.platform.take().unwrap_or_default();
        let known = if own.os.is_empty() || own.architecture.is_empty() {
            // Provenance has no platform, and is for `unknown/unknown`.
            let looked_up = remote.platform(&image.name, manifest)?;
            let normal = looked_up.normal();
            DescriptorPlatform {
                architecture: if own.architecture.is_empty() {
                    normal.architecture
                } else {
                    own.architecture
                },
                os: if own.os.is_empty() { normal.os } else { own.os },
                variant: own.variant.or(normal.variant),
                ..own
            }
        } else {
            own
        };
        descriptor.platform = Some(known);
    }
    Ok((image, descriptor))
}
