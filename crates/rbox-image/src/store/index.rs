//! index.json: which references there are, and which manifest each names.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rbox_spec::{Digest, Reference};
use serde::{Deserialize, Serialize};

use super::error::StoreError;
use crate::media::{Descriptor, DescriptorPlatform, OCI_INDEX};

/// Name of the full reference in an index.json descriptor's annotations.
pub const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// Name of the tag in an index.json descriptor's annotations.
pub const TAG_ANNOTATION: &str = "org.opencontainers.image.ref.name";
const ID: &str = "io.rbox.image.id";
const SIZE: &str = "io.rbox.image.size";
const HIDDEN: &str = "io.rbox.image.hidden-layers";
const SOURCE: &str = "io.rbox.source.digest";
const INDEX: &str = "io.rbox.image.index";

/// The document.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexFile {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(rename = "manifests")]
    pub(super) entries: Vec<Descriptor>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

impl Default for IndexFile {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            entries: Vec::new(),
            rest: BTreeMap::new(),
        }
    }
}

impl IndexFile {
    pub(super) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|source| StoreError::Json { path: path.to_owned(), source })
    }
}

/// What the store knows of one reference. Kept as annotations of its descriptor.
pub(super) struct NewEntry<'a> {
    pub(super) manifest: Descriptor,
    pub(super) id: Digest,
    pub(super) size: u64,
    pub(super) hidden: usize,
    pub(super) source: Option<Digest>,
    /// The index of several platforms that it is of.
    pub(super) index: Option<Digest>,
    pub(super) reference: Option<&'a Reference>,
    pub(super) platform: Option<DescriptorPlatform>,
}

impl NewEntry<'_> {
    pub(super) fn into_descriptor(self) -> Descriptor {
        let mut entry = self.manifest;
        entry.platform = self.platform;
        let notes = entry.annotations.insert(BTreeMap::new());
        notes.insert(ID.to_owned(), self.id.to_string());
        notes.insert(SIZE.to_owned(), self.size.to_string());
        if self.hidden > 0 {
            notes.insert(HIDDEN.to_owned(), self.hidden.to_string());
        }
        if let Some(source) = self.source {
            notes.insert(SOURCE.to_owned(), source.to_string());
        }
        // Also where there is none: a source alone would be taken for one.
        note_index(&mut entry, self.index);
        set_reference(&mut entry, self.reference);
        entry
    }
}

fn note<'a>(entry: &'a Descriptor, name: &str) -> Option<&'a str> {
    entry.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The full reference as text.
pub(super) fn full_name(entry: &Descriptor) -> Option<&str> {
    note(entry, NAME_ANNOTATION)
}

/// The reference; `None` for an image without a name, or with one that is not a reference.
pub(super) fn reference(entry: &Descriptor) -> Option<Reference> {
    full_name(entry).and_then(|name| Reference::parse(name).ok())
}

/// The image id, if it was noted.
pub(super) fn noted_id(entry: &Descriptor) -> Option<Digest> {
    note(entry, ID)?.parse().ok()
}

/// The size of all files in bytes, if it was noted.
pub(super) fn noted_size(entry: &Descriptor) -> Option<u64> {
    note(entry, SIZE)?.parse().ok()
}

/// How many of its lowest layers another one hides; `None` if the entry is not one of ours.
pub(super) fn noted_hidden(entry: &Descriptor) -> Option<usize> {
    match note(entry, HIDDEN) {
        Some(text) => text.parse().ok(),
        None => noted_size(entry).map(|_| 0),
    }
}

/// What the registry called it.
pub(super) fn source(entry: &Descriptor) -> Option<Digest> {
    note(entry, SOURCE)?.parse().ok()
}

/// The index of several platforms that the image is of. Before there was a note of it, the source said as much.
pub(super) fn index_of(entry: &Descriptor) -> Option<Digest> {
    let noted = note(entry, INDEX).and_then(|text| text.parse().ok());
    let index = noted.or_else(|| source(entry).filter(|_| noted_id(entry).is_some()));
    index.filter(|index| *index != entry.digest)
}

/// Notes that it is one platform of an index under this name, whatever is known of its source, or that it stands for itself.
pub(super) fn note_index(entry: &mut Descriptor, index: Option<Digest>) {
    let index = index.unwrap_or(entry.digest).to_string();
    entry.annotations.get_or_insert_with(BTreeMap::new).insert(INDEX.to_owned(), index);
}

/// Notes what is known of the index before a source comes to an entry that another wrote, or this program before there were notes.
pub(super) fn keep_index(entry: &mut Descriptor) {
    if note(entry, INDEX).is_none() {
        let index = index_of(entry);
        note_index(entry, index);
    }
}

/// Whether both are of one image, each for another platform: such share their names.
fn is_sibling(a: &Descriptor, b: &Descriptor) -> bool {
    let platform = |entry: &Descriptor| entry.platform.as_ref().map(DescriptorPlatform::normal);
    a.digest != b.digest
        && index_of(a).is_some_and(|index| index_of(b) == Some(index))
        && platform(a).is_some()
        && platform(a) != platform(b)
}

/// What the name has of other platforms stays where the new index names the same manifests. `source`: what the registry calls it.
pub(super) fn carry_over(
    file: &mut IndexFile,
    name: &Reference,
    (index, source): (Digest, Option<Digest>),
    members: &BTreeSet<Digest>,
) {
    let full = name.full();
    for entry in &mut file.entries {
        if full_name(entry) == Some(&full) && members.contains(&entry.digest) && noted_id(entry).is_some() {
            note_index(entry, Some(index));
            if let Some(source) = source {
                set_source(entry, source);
            }
        }
    }
}

/// The tags of an image, and `repository@digest` for each repository it came from.
pub(super) fn names_of(
    index: &IndexFile,
    manifest: &Digest,
    id: Option<Digest>,
) -> (BTreeSet<Reference>, BTreeSet<Reference>) {
    let (mut tags, mut digests) = (BTreeSet::new(), BTreeSet::new());
    let same = |entry: &&Descriptor| entry.digest == *manifest || (id.is_some() && noted_id(entry) == id);
    for entry in index.entries.iter().filter(same) {
        let Some(name) = reference(entry) else { continue };
        if let Some(digest) = source(entry).or_else(|| name.digest().copied()) {
            digests.insert(name.with_digest(digest));
        }
        if name.tag().is_some() {
            tags.insert(name);
        }
    }
    (tags, digests)
}

/// Gives an entry another reference, or none.
pub(super) fn set_reference(entry: &mut Descriptor, reference: Option<&Reference>) {
    let notes = entry.annotations.get_or_insert_with(BTreeMap::new);
    notes.remove(NAME_ANNOTATION);
    notes.remove(TAG_ANNOTATION);
    if let Some(reference) = reference {
        notes.insert(NAME_ANNOTATION.to_owned(), reference.full());
        if let Some(tag) = reference.tag() {
            notes.insert(TAG_ANNOTATION.to_owned(), tag.to_owned());
        }
    }
}

/// Notes what the registry calls it.
pub(super) fn set_source(entry: &mut Descriptor, digest: Digest) {
    entry.annotations.get_or_insert_with(BTreeMap::new).insert(SOURCE.to_owned(), digest.to_string());
}

/// Forgets where an entry came from.
pub(super) fn clear_source(entry: &mut Descriptor) {
    if let Some(notes) = &mut entry.annotations {
        notes.remove(SOURCE);
    }
}

/// Points `reference` at `new`, and keeps what it pointed at before as an untagged image, unless that is the same image by
/// another manifest, or the same for another platform.
///
/// Without a name it is found by its id, or by the digest of an index: that is as good as a name, and stays what others say of the manifest.
pub(super) fn put(index: &mut IndexFile, new: Descriptor) {
    let name = full_name(&new).map(str::to_owned);
    match name {
        None => {
            let of = index_of(&new);
            let is_known =
                |entry: &Descriptor| entry.digest == new.digest && (of.is_none() || index_of(entry) == of);
            if !index.entries.iter().any(is_known) {
                // Its being nameless and of no index ends.
                index.entries.retain(|entry| entry.digest != new.digest || !stands_for(entry, of));
                index.entries.push(new);
            }
        }
        Some(name) => {
            let before: Vec<usize> = (0..index.entries.len()).rev().collect();
            for position in before {
                let Some(entry) = index.entries.get(position) else { continue };
                if full_name(entry) == Some(&name) && entry.digest != new.digest && !is_sibling(entry, &new) {
                    let is_other = noted_id(entry).is_none() || noted_id(entry) != noted_id(&new);
                    drop_name(index, position, is_other);
                }
            }
            // The new name replaces the same name, and the image's being nameless, alone or in the same index.
            let of = index_of(&new);
            index.entries.retain(|entry| {
                (full_name(entry) != Some(&name) || is_sibling(entry, &new))
                    && !(entry.digest == new.digest && stands_for(entry, of))
            });
            index.entries.push(new);
        }
    }
}

/// Whether it has no name, and is of no other index than this.
fn stands_for(entry: &Descriptor, of: Option<Digest>) -> bool {
    full_name(entry).is_none() && index_of(entry).is_none_or(|index| Some(index) == of)
}

/// Drops the entries of indexes without a name whose images all have names: nothing is lost with them but that digest. `is_free`: whether
/// one may go.
pub(super) fn drop_nameless_indexes(file: &mut IndexFile, is_free: impl Fn(&IndexFile, &Descriptor) -> bool) {
    let named: BTreeSet<Digest> =
        file.entries.iter().filter(|entry| full_name(entry).is_some()).map(|entry| entry.digest).collect();
    let is_spare = |entry: &Descriptor| full_name(entry).is_none() && named.contains(&entry.digest);
    let kept: BTreeSet<Digest> = file
        .entries
        .iter()
        .filter(|entry| full_name(entry).is_none() && !(is_spare(entry) && is_free(file, entry)))
        .filter_map(index_of)
        .collect();
    file.entries
        .retain(|entry| !is_spare(entry) || index_of(entry).is_none_or(|index| kept.contains(&index)));
}

/// Takes the name off the entry at `position`. If it was the manifest's last one and `keep`, the image stays: under
/// the digest its registry gave it, or nameless.
pub(super) fn drop_name(index: &mut IndexFile, position: usize, keep: bool) {
    if position >= index.entries.len() {
        return;
    }
    let mut entry = index.entries.remove(position);
    if !keep || index.entries.iter().any(|other| other.digest == entry.digest) {
        return;
    }
    let by_digest = match (reference(&entry), source(&entry)) {
        (Some(name), Some(digest)) => Some(name.with_digest(digest)),
        _ => None,
    };
    set_reference(&mut entry, by_digest.as_ref());
    index.entries.push(entry);
}
