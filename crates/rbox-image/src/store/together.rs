//! Images for several platforms under one name.
use std::collections::{BTreeMap, BTreeSet};

use rbox_spec::{Digest, Reference};

use super::add::{OfIndex, Transaction};
use super::index::{carry_over, index_of, put};
use super::sweep::give_up;
use super::{Image, ImageStore, StoreError};
use crate::attestation::{Attestation, is_attestation, is_of};
use crate::hash::sha256;
use crate::media::{Descriptor, DescriptorPlatform, Document, Index, MAX_CONFIG, MAX_DOCUMENT, OCI_INDEX};

/// No statement that is kept is longer: a Dockerfile may be in it.
pub(crate) const MAX_STATEMENT: u64 = 32 << 20;

impl Transaction<'_> {
    /// Names images that are in the store, each for another platform, as one image: of all of them or, where it fails, of none. What the names
    /// meant before loses them. The digest of the index, in which the images stand in this order.
    ///
    /// Without a name they are found by the digest of the index, whatever else they are of. `annotations`: the index's. `attestations` are of these
    /// images, and go with them.
    ///
    /// It is what a build for several platforms ends with: each platform is built and registered without a name, in whatever order, and then
    /// all are put together here. `push`, `save`, `rmi` and `images --tree` of the names mean all of them from then on.
    ///
    /// # Errors
    /// Two are for one platform, one is damaged or not there any more, or the store cannot be written.
    pub fn put_together(
        &self,
        parts: &[Image],
        references: &[Reference],
        annotations: &BTreeMap<String, String>,
        attestations: &[Attestation],
    ) -> Result<Digest, StoreError> {
        let (mut manifests, mut wholes) = (Vec::new(), Vec::new());
        for (at, part) in parts.iter().enumerate() {
            if parts.iter().take(at).any(|other| other.platform == part.platform) {
                let (platform, id) = (&part.platform, part.id.short());
                return Err(StoreError::Conflict(format!("{id} is the second image for {platform}")));
            }
            let bytes = self.store.manifest_bytes(part)?;
            wholes.push(self.store.whole(part.manifest_digest, &bytes, &part.manifest_type)?);
            let mut descriptor =
                Descriptor::new(&part.manifest_type, part.manifest_digest, bytes.len() as u64);
            descriptor.platform = Some(DescriptorPlatform::from(&part.platform));
            manifests.push(descriptor);
        }
        for one in attestations {
            one.blobs().try_for_each(|bytes| self.add_blob(bytes).map(drop))?;
            manifests.push(one.descriptor.clone());
        }
        let media_type = Some(OCI_INDEX.to_owned());
        let annotations = (!annotations.is_empty()).then(|| annotations.clone());
        let index = Index { schema_version: 2, media_type, manifests, annotations };
        let bytes = serde_json::to_vec(&index)
            .map_err(|source| StoreError::Json { path: self.store.dir().to_owned(), source })?;
        let digest = sha256(&bytes);
        self.add_blob_as(&digest, &bytes)?;
        let of = OfIndex::new(digest, bytes, &index);
        let references: Vec<_> = references.iter().map(|name| name.clone().with_default_tag()).collect();
        self.store.change_index(|file, _| {
            if references.is_empty() {
                // One of them may be of another index as well, or have a name.
                for whole in &wholes {
                    put(file, whole.entry((None, Some(digest)), None).into_descriptor());
                }
            }
            for reference in &references {
                carry_over(file, reference, (digest, None), &of.members);
                for whole in &wholes {
                    put(file, whole.entry((None, Some(digest)), Some(reference)).into_descriptor());
                }
            }
            Ok(())
        })?;
        Ok(digest)
    }
}

impl ImageStore {
    /// What is stated of an image that is of this index, as far as it was kept.
    pub(crate) fn attestations(
        &self,
        index: &Digest,
        image: &Digest,
    ) -> Result<Vec<Attestation>, StoreError> {
        let Some((_, _, index)) = self.index_document(index)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in index.manifests.into_iter().filter(|entry| is_of(entry, image)) {
            if !self.has_blob(&entry.digest) {
                continue;
            }
            let what = "attestation manifest";
            let bytes = self.read_blob(&entry.digest, what, MAX_DOCUMENT)?;
            let Ok(Document::Manifest(manifest)) = Document::read(&bytes, &entry.media_type) else {
                continue;
            };
            let config = self.read_blob(&manifest.config.digest, what, MAX_CONFIG)?;
            let read = |layer: &Descriptor| self.read_blob(&layer.digest, "statement", MAX_STATEMENT);
            let statements = manifest.layers.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            found.push(Attestation::read(entry, (bytes, &manifest), config, statements));
        }
        Ok(found)
    }

    /// The blobs of all that is stated of an image in these indexes. What cannot be read has none.
    pub(super) fn attested_blobs(&self, indexes: &BTreeSet<Digest>, image: &Digest) -> Vec<Digest> {
        self.stated_blobs(indexes, |entry| is_of(entry, image))
    }

    /// Lets the next sweep delete the indexes that no entry is of any more, with what they state. What else has it keeps it.
    pub(super) fn give_up_indexes(&self, before: &[Descriptor], now: &[Descriptor]) {
        let [before, now] =
            [before, now].map(|entries| entries.iter().filter_map(index_of).collect::<BTreeSet<_>>());
        let gone: BTreeSet<Digest> = before.difference(&now).copied().collect();
        for blob in self.stated_blobs(&gone, is_attestation).iter().chain(&gone) {
            give_up(&self.blob_path(blob));
        }
    }

    fn stated_blobs(&self, indexes: &BTreeSet<Digest>, which: impl Fn(&Descriptor) -> bool) -> Vec<Digest> {
        let documents = indexes.iter().filter_map(|index| self.index_document(index).ok().flatten());
        let entries = documents.flat_map(|(_, _, index)| index.manifests);
        let mut blobs = Vec::new();
        for entry in entries.filter(which) {
            blobs.push(entry.digest);
            let Ok(bytes) = self.read_blob(&entry.digest, "attestation manifest", MAX_DOCUMENT) else {
                continue;
            };
            if let Ok(Document::Manifest(manifest)) = Document::read(&bytes, &entry.media_type) {
                blobs.push(manifest.config.digest);
                blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
            }
        }
        blobs
    }
}
