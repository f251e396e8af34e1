//! Statements about images, such as their provenance: manifests beside an image in its index, of in-toto's statements, as BuildKit writes
//! them and registries' tools read them.

use std::collections::BTreeMap;

use rbox_spec::Digest;
use serde_json::{Value, json};

use crate::hash::sha256;
use crate::media::{Descriptor, DescriptorPlatform, Manifest, OCI_CONFIG, OCI_MANIFEST};

/// The type of a statement.
const STATEMENT: &str = "application/vnd.in-toto+json";
/// Where its descriptor says what it states.
const PREDICATE: &str = "in-toto.io/predicate-type";
/// What an entry of an index is, and of which image.
const KIND: &str = "vnd.docker.reference.type";
const ATTESTATION: &str = "attestation-manifest";
pub(crate) const SUBJECT: &str = "vnd.docker.reference.digest";

/// What is stated of an image.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The type of what is stated.
    pub predicate_type: String,
    /// That.
    pub predicate: Value,
    /// What the image is called there.
    pub subjects: Vec<String>,
}

/// A manifest of statements, with all that it names.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// As an index names it.
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    /// The statements, each with its type.
    pub(crate) statements: Vec<(String, Vec<u8>)>,
}

impl Attestation {
    /// States something of the image with this manifest.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn new(image: &Digest, statements: &[Statement]) -> Result<Self, serde_json::Error> {
        let mut all = Vec::new();
        for one in statements {
            let subjects = one.subjects.iter().map(|name| (name.as_str(), image));
            let statement = in_toto(&one.predicate_type, &one.predicate, subjects);
            all.push((one.predicate_type.clone(), serde_json::to_vec(&statement)?));
        }
        Self::of_statements(image, all)
    }

    fn of_statements(image: &Digest, statements: Vec<(String, Vec<u8>)>) -> Result<Self, serde_json::Error> {
        let diff_ids: Vec<String> = statements.iter().map(|(_, bytes)| sha256(bytes).to_string()).collect();
        let config = serde_json::to_vec(&json!({
            "architecture": "unknown",
            "config": {},
            "os": "unknown",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }))?;
        let layer = |(kind, bytes): &(String, Vec<u8>)| {
            let mut layer = Descriptor::new(STATEMENT, sha256(bytes), bytes.len() as u64);
            layer.annotations = Some(BTreeMap::from([(PREDICATE.to_owned(), kind.clone())]));
            layer
        };
        let manifest = serde_json::to_vec(&Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config: Descriptor::new(OCI_CONFIG, sha256(&config), config.len() as u64),
            layers: statements.iter().map(layer).collect(),
            annotations: None,
        })?;
        let mut descriptor = Descriptor::new(OCI_MANIFEST, sha256(&manifest), manifest.len() as u64);
        let notes = [(SUBJECT, image.to_string()), (KIND, ATTESTATION.to_owned())];
        descriptor.annotations = Some(notes.map(|(key, value)| (key.to_owned(), value)).into());
        let unknown = || "unknown".to_owned();
        descriptor.platform = Some(DescriptorPlatform {
            architecture: unknown(),
            os: unknown(),
            ..DescriptorPlatform::default()
        });
        Ok(Self { descriptor, manifest, config, statements })
    }

    /// The same of the same image, which has another manifest now: its layers were packed on their way out.
    pub(crate) fn moved(&self, from: &Digest, to: &Digest) -> Result<Self, serde_json::Error> {
        let mut statements = Vec::new();
        for (kind, bytes) in &self.statements {
            let mut statement: Value = rbox_spec::json::from_slice(bytes)?;
            for subject in statement.get_mut("subject").and_then(Value::as_array_mut).into_iter().flatten() {
                let Some(digests) = subject.get_mut("digest").and_then(Value::as_object_mut) else {
                    continue;
                };
                let is_it = digests.get(from.algorithm().name()).and_then(Value::as_str) == Some(&from.hex());
                if is_it {
                    digests.remove(from.algorithm().name());
                    digests.insert(to.algorithm().name().to_owned(), to.hex().into());
                }
            }
            statements.push((kind.clone(), serde_json::to_vec(&statement)?));
        }
        Self::of_statements(to, statements)
    }

    /// The digest of the manifest.
    pub const fn digest(&self) -> Digest {
        self.descriptor.digest
    }

    /// All of its blobs: the manifest is the last.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        let statements = self.statements.iter().map(|(_, bytes)| bytes.as_slice());
        statements.chain([self.config.as_slice(), self.manifest.as_slice()])
    }

    /// What was read again. `statements`: as the manifest names them.
    pub(crate) fn read(
        descriptor: Descriptor,
        manifest: (Vec<u8>, &Manifest),
        config: Vec<u8>,
        statements: Vec<Vec<u8>>,
    ) -> Self {
        let kind = |layer: &Descriptor| layer.annotations.as_ref()?.get(PREDICATE).cloned();
        let kinds = manifest.1.layers.iter().map(|layer| kind(layer).unwrap_or_default());
        Self { descriptor, statements: kinds.zip(statements).collect(), manifest: manifest.0, config }
    }
}

/// What is stated of these, which have names and digests, as in-toto has it.
pub fn in_toto<'s>(
    predicate_type: &str,
    predicate: &Value,
    subjects: impl Iterator<Item = (&'s str, &'s Digest)>,
) -> Value {
    let subject = |(name, digest): (&str, &Digest)| json!({ "name": name, "digest": { digest.algorithm().name(): digest.hex() } });
    json!({
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": predicate_type,
        "subject": subjects.map(subject).collect::<Vec<_>>(),
        "predicate": predicate,
    })
}

/// Whether an entry of an index is beside an image, and none itself.
pub(crate) fn is_attestation(descriptor: &Descriptor) -> bool {
    let kind = descriptor.annotations.as_ref().and_then(|notes| notes.get(KIND));
    kind.is_some_and(|kind| kind == ATTESTATION)
}

/// Whether it states something of this image.
pub(crate) fn is_of(descriptor: &Descriptor, image: &Digest) -> bool {
    let of = descriptor.annotations.as_ref().and_then(|notes| notes.get(SUBJECT));
    is_attestation(descriptor) && of.is_some_and(|of| *of == image.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_goes_with_its_image() {
        let (from, to) = (sha256(b"as it is kept"), sha256(b"as it is pushed"));
        let statement = Statement {
            predicate_type: "https://slsa.dev/provenance/v0.2".to_owned(),
            predicate: json!({ "materials": [{ "digest": { "sha256": from.hex() } }] }),
            subjects: vec!["pkg:docker/a@1".to_owned(), "pkg:docker/b@1".to_owned()],
        };
        let made = Attestation::new(&from, &[statement]).unwrap();
        assert!(is_of(&made.descriptor, &from) && !is_of(&made.descriptor, &to));
        let moved = made.moved(&from, &to).unwrap();
        assert!(is_of(&moved.descriptor, &to));
        let read: Value = serde_json::from_slice(&moved.statements[0].1).unwrap();
        for number in 0..2 {
            assert_eq!(read["subject"][number]["digest"], json!({ "sha256": to.hex() }));
        }
        // What it is made of is none of its subjects.
        assert_eq!(read["predicate"]["materials"][0]["digest"]["sha256"], from.hex());
        assert_eq!(moved.moved(&to, &from).unwrap().descriptor, made.descriptor);
    }
}
