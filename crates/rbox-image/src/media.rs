//! Media types and the documents they name: manifests, indexes and their descriptors.
//!
//! A document is read only as the type its sender declared, and refused when it could be read as two
//! (CVE-2021-41190). Sources: OCI image specification, `manifest.md`, `image-index.md`, `media-types.md`; Docker's
//! "Image Manifest V2, Schema 2".
use std::collections::BTreeMap;

use rbox_spec::{Digest, Kind, Platform};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::go_json::nullable;
use crate::keys::{self, Shape as Keys};

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Docker image manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, uncompressed. `+gzip` and `+zstd` are the compressed ones.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Docker layer, gzip.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Manifests and indexes larger than this are refused (4 MiB, as other clients do).
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// Image configurations larger than this are refused.
pub const MAX_CONFIG: u64 = 8 << 20;
/// More layers than this are refused: overlayfs stacks at most 500.
pub const MAX_LAYERS: usize = 500;
/// Indexes inside an index that are followed: real ones have one inside another.
pub(crate) const MOST_NESTED: u32 = 4;

/// How a layer's tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, possibly of several members.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// What the first bytes of a stream say.
    pub fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            // A zstd stream may start with a skippable frame.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The OCI media type of a layer compressed so.
    pub const fn layer_type(self) -> &'static str {
        match self {
            Self::None => OCI_LAYER,
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// What a descriptor's media type says about a layer, or why it cannot be used.
pub fn layer_compression(media_type: &str) -> Result<Compression, DocumentError> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar+gzip" | DOCKER_LAYER => Ok(Compression::Gzip),
        OCI_LAYER | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        other if other.contains("foreign") || other.contains("nondistributable") => {
            Err(DocumentError::ForeignLayer(clip(other)))
        }
        other if other.contains("encrypted") => Err(DocumentError::EncryptedLayer(clip(other))),
        other => Err(DocumentError::LayerType(clip(other))),
    }
}

/// A content descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Places outside the registry; refused for layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// In an index: the platform of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<DescriptorPlatform>,
    /// What kind of artifact the content is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with nothing but the three fields every one has.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: None,
            annotations: None,
            platform: None,
            artifact_type: None,
        }
    }
}

/// The platform in an index's descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DescriptorPlatform {
    /// CPU architecture.
    pub architecture: String,
    /// Operating system.
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features wanted of the operating system.
    #[serde(rename = "os.features", skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// Variant of the architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl DescriptorPlatform {
    /// The platform, by its usual names.
    pub fn normal(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

impl From<&Platform> for DescriptorPlatform {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..Self::default()
        }
    }
}

/// An image manifest of either family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own type; OCI allows it to be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image configuration, whose digest is the image's id.
    pub config: Descriptor,
    /// The layers, bottom first. Go writes none at all as `null`.
    #[serde(deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// An index (manifest list) of either family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own type; OCI allows it to be left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests, one a platform.
    pub manifests: Vec<Descriptor>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A manifest or an index.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // One at a time, taken apart at once.
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or not of the shape its type promises.
    #[error("not a valid {kind}")]
    Json {
        /// What it should have been.
        kind: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// A type that is no image.
    #[error("unsupported manifest type {0:?}: only OCI and Docker schema 2 images are supported")]
    Type(String),
    /// Docker's schema 1.
    #[error(
        "the image is in Docker's schema 1 format, which is no longer supported: push it again with a newer tool"
    )]
    Schema1,
    /// The declared and the embedded type differ.
    #[error("ambiguous manifest: it was sent as {sent:?} and calls itself {inside:?}")]
    TypeMismatch {
        /// The Content-Type or the descriptor's media type.
        sent: String,
        /// The document's own `mediaType`.
        inside: String,
    },
    /// Fields of a manifest and of an index in one document, or one field twice.
    #[error("ambiguous manifest: {0}")]
    Ambiguous(&'static str),
    /// A layer type that is not known.
    #[error("unsupported layer type {0:?}")]
    LayerType(String),
    /// A layer that is kept outside the registry.
    #[error("layer type {0:?} is kept outside the registry; such layers are not fetched")]
    ForeignLayer(String),
    /// An encrypted layer.
    #[error("layer type {0:?} is encrypted")]
    EncryptedLayer(String),
    /// Something that is not a container image, such as a chart or a signature.
    #[error("{0:?} is not a container image but another kind of artifact")]
    Artifact(String),
    /// Too many layers.
    #[error("the image has {0} layers; at most {MAX_LAYERS} can be stacked")]
    TooManyLayers(usize),
    /// As many layers as diff IDs are wanted.
    #[error("the manifest has {layers} layers and the configuration {diff_ids} diff IDs")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Diff IDs in the configuration.
        diff_ids: usize,
    },
    /// Indexes inside indexes, without an end in sight.
    #[error("indexes are nested too deeply")]
    Nested,
}

impl DocumentError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Type(_) | Self::Schema1 | Self::LayerType(_) | Self::ForeignLayer(_) => Kind::Unsupported,
            _ => Kind::Damaged,
        }
    }
}

/// The fields that tell one kind of document from the other. serde refuses a field that stands twice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "present")]
    #[allow(clippy::option_option)] // Absent, null and a text are three things here.
    media_type: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    config: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    layers: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    manifests: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    fs_layers: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    history: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    signatures: Option<IgnoredAny>,
}

/// A field that is there, though it be `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

static DESCRIPTOR: Keys = Keys::Object(&[
    ("mediaType", &Keys::Any),
    ("digest", &Keys::Any),
    ("size", &Keys::Any),
    ("urls", &Keys::Any),
    ("annotations", &Keys::Any),
    ("data", &Keys::Any),
    ("artifactType", &Keys::Any),
    (
        "platform",
        &Keys::Object(&[
            ("architecture", &Keys::Any),
            ("os", &Keys::Any),
            ("variant", &Keys::Any),
            ("os.version", &Keys::Any),
            ("os.features", &Keys::Any),
        ]),
    ),
]);

/// The keys of a manifest, an index and schema 1 together.
static DOCUMENT: Keys = Keys::Object(&[
    ("schemaVersion", &Keys::Any),
    ("mediaType", &Keys::Any),
    ("artifactType", &Keys::Any),
    ("config", &DESCRIPTOR),
    ("layers", &Keys::List(&DESCRIPTOR)),
    ("manifests", &Keys::List(&DESCRIPTOR)),
    ("subject", &DESCRIPTOR),
    ("annotations", &Keys::Any),
    ("fsLayers", &Keys::Any),
    ("history", &Keys::Any),
    ("signatures", &Keys::Any),
]);

impl Document {
    /// Reads a document that was sent as `sent_as` (a Content-Type, or the media type of its descriptor), if it is an image or an index.
    pub fn parse(bytes: &[u8], sent_as: &str) -> Result<Self, DocumentError> {
        let document = Self::read(bytes, sent_as)?;
        if let Self::Manifest(manifest) = &document {
            manifest.check()?;
        }
        Ok(document)
    }

    /// The same for a manifest of anything, such as a signature.
    pub fn read(bytes: &[u8], sent_as: &str) -> Result<Self, DocumentError> {
        let json = |kind| move |source| DocumentError::Json { kind, source };
        // serde would take an array for a struct, field by field.
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(DocumentError::Ambiguous("it is not a JSON object"));
        }
        keys::check(bytes, &DOCUMENT).map_err(json("manifest"))?;
        let shape: Shape = rbox_spec::json::from_slice(bytes).map_err(json("manifest"))?;
        let sent = sent_as.split(';').next().unwrap_or_default().trim();
        if sent.contains("manifest.v1+") && sent.contains("docker") || sent.contains("manifest.v1+prettyjws")
        {
            return Err(DocumentError::Schema1);
        }
        if shape.fs_layers.is_some() || shape.history.is_some() || shape.signatures.is_some() {
            return Err(if shape.layers.is_none() && shape.manifests.is_none() && shape.config.is_none() {
                DocumentError::Schema1
            } else {
                DocumentError::Ambiguous("it has fields of schema 1 and of schema 2")
            });
        }
        if shape.schema_version != Some(serde_json::Value::from(2)) {
            return Err(DocumentError::Ambiguous("its schemaVersion is not 2"));
        }
        if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
            return Err(DocumentError::Ambiguous("it has both layers and manifests"));
        }
        match &shape.media_type {
            Some(None) => return Err(DocumentError::Ambiguous("its mediaType is null")),
            Some(Some(inside)) if inside != sent => {
                return Err(DocumentError::TypeMismatch { sent: clip(sent), inside: clip(inside) });
            }
            // Docker's types demand the field.
            None if sent == DOCKER_MANIFEST || sent == DOCKER_LIST => {
                return Err(DocumentError::TypeMismatch { sent: clip(sent), inside: String::new() });
            }
            _ => {}
        }
        match sent {
            OCI_MANIFEST | DOCKER_MANIFEST => {
                rbox_spec::json::from_slice(bytes).map(Self::Manifest).map_err(json("image manifest"))
            }
            OCI_INDEX | DOCKER_LIST => {
                rbox_spec::json::from_slice(bytes).map(Self::Index).map_err(json("image index"))
            }
            other => Err(DocumentError::Type(clip(other))),
        }
    }
}

impl Manifest {
    fn check(&self) -> Result<(), DocumentError> {
        if self.layers.len() > MAX_LAYERS {
            return Err(DocumentError::TooManyLayers(self.layers.len()));
        }
        match self.config.media_type.as_str() {
            OCI_CONFIG | "application/vnd.docker.container.image.v1+json" => {}
            other => return Err(DocumentError::Artifact(clip(other))),
        }
        for layer in &self.layers {
            layer_compression(&layer.media_type)?;
            if layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
                return Err(DocumentError::ForeignLayer(clip(&layer.media_type)));
            }
        }
        Ok(())
    }
}

fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,{extra}"config":{{"mediaType":"{OCI_CONFIG}","digest":"sha256:{HEX}","size":2}},"layers":[]}}"#
        )
    }

    #[test]
    fn reads_each_family() {
        let own = |t: &str| format!(r#""mediaType":"{t}","#);
        for (body, sent) in [
            (manifest(""), OCI_MANIFEST),
            (manifest("").replace("[]", "null"), OCI_MANIFEST),
            (manifest(&own(OCI_MANIFEST)), OCI_MANIFEST),
            (manifest(&own(DOCKER_MANIFEST)), DOCKER_MANIFEST),
            (manifest(""), "application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
        ] {
            assert!(
                matches!(Document::parse(body.as_bytes(), sent), Ok(Document::Manifest(_))),
                "{sent} {body}"
            );
        }
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(Document::parse(index.as_bytes(), OCI_INDEX), Ok(Document::Index(_))));
    }

    #[test]
    fn refuses_ambiguous_documents() {
        let own = |t: &str| format!(r#""mediaType":"{t}","#);
        let mut cases = vec![
            (manifest(r#""manifests":[],"#), OCI_MANIFEST),
            (manifest(r#""manifests":[],"#), OCI_INDEX),
            (manifest(r#""manifests":null,"#), OCI_MANIFEST),
            (manifest(r#""fsLayers":null,"#), OCI_MANIFEST),
            (manifest(r#""mediaType":null,"#), OCI_MANIFEST),
            (manifest(r#""Manifests":[],"#), OCI_MANIFEST),
            (manifest(r#""Layers":[],"#), OCI_MANIFEST),
            (manifest(r#""CONFIG":{},"#), OCI_MANIFEST),
            (manifest("").replace("layers", "Layers"), OCI_MANIFEST),
            (manifest("").replace("\"size\"", "\"Size\""), OCI_MANIFEST),
            (manifest("").replace("\"size\"", "\"\u{17f}ize\":7,\"size\""), OCI_MANIFEST),
            (r#"{"schemaVersion":2,"Manifests":[]}"#.to_owned(), OCI_INDEX),
            (r#"{"schemaVersion":2,"mediaType":null,"manifests":[]}"#.to_owned(), OCI_INDEX),
            (manifest(r#""layers":[],"#), OCI_MANIFEST),
            (manifest(r#""schemaVersion":2,"#), OCI_MANIFEST),
            (manifest(r#""fsLayers":[],"#), OCI_MANIFEST),
            (manifest(r#""history":[],"#), OCI_MANIFEST),
            (manifest("").replace("\"schemaVersion\":2", "\"schemaVersion\":1"), OCI_MANIFEST),
            (manifest("").replace("\"schemaVersion\":2", "\"schemaVersion\":\"2\""), OCI_MANIFEST),
            (manifest("").replace("\"schemaVersion\":2,", ""), OCI_MANIFEST),
            (manifest(""), DOCKER_MANIFEST),
            (manifest(""), OCI_INDEX),
            (manifest(""), "application/json"),
            (manifest(""), ""),
            (manifest(""), "text/plain"),
            (manifest("").replace(OCI_CONFIG, "application/vnd.cncf.helm.config.v1+json"), OCI_MANIFEST),
            (manifest("").replace("sha256:", "sha256:../"), OCI_MANIFEST),
            (manifest("").replace("\"size\":2", "\"size\":-2"), OCI_MANIFEST),
            (manifest("").replace("\"size\":2", "\"size\":2,\"size\":3"), OCI_MANIFEST),
            (r#"{"schemaVersion":2,"manifests":[],"config":{}}"#.to_owned(), OCI_INDEX),
            (r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(), OCI_MANIFEST),
            (r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(), DOCKER_LIST),
            (r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#.to_owned(), DOCKER_MANIFEST),
            ("[]".to_owned(), OCI_INDEX),
            (format!(r#"[2,"{OCI_INDEX}",null,null,[]]"#), OCI_INDEX),
        ];
        for (inside, sent) in [
            (OCI_MANIFEST, DOCKER_MANIFEST),
            (OCI_INDEX, OCI_MANIFEST),
            (OCI_MANIFEST, OCI_INDEX),
            (DOCKER_LIST, DOCKER_MANIFEST),
        ] {
            cases.push((manifest(&own(inside)), sent));
        }
        let layer = |t: &str, more: &str| {
            let layer = format!(r#""layers":[{{"mediaType":"{t}","digest":"sha256:{HEX}","size":1{more}}}]"#);
            manifest("").replace("\"layers\":[]", &layer)
        };
        assert!(Document::parse(layer(OCI_LAYER, "").as_bytes(), OCI_MANIFEST).is_ok());
        cases.push((layer(OCI_LAYER, r#","urls":["http://evil/x"]"#), OCI_MANIFEST));
        cases.push((layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ""), OCI_MANIFEST));
        cases.push((layer("text/plain", ""), OCI_MANIFEST));
        for (body, sent) in cases {
            assert!(Document::parse(body.as_bytes(), sent).is_err(), "accepted as {sent}: {body}");
        }
    }
}
