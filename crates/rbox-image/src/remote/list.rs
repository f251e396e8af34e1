//! Lists of manifests that are put together here and pushed later: `docker manifest`.
//!
//! They are kept where Docker's client keeps them, in the same form, so that either goes on with what the other began: a directory for each
//! list in `manifests/` beside `config.json`, and in it a file for each image. A file is replaced as a whole.
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rbox_rootfs::own;
use rbox_spec::Reference;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::copying::Brought;
use super::error::RemoteError;
use super::image::{Remote, RemoteImage};
use crate::hash::{digest_of, sha256};
use crate::media::{
    DOCKER_LIST, Descriptor, DescriptorPlatform, Document, Index, MAX_DOCUMENT, OCI_INDEX, OCI_MANIFEST,
};

/// The name of the file of one image is no longer than a file system takes.
const MOST_NAME: usize = 255;
/// More images than any list has.
const MOST_IMAGES: usize = 1000;

/// An image of a list, as its file has it. Docker's keys, in Docker's order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedImage {
    /// Its full name.
    #[serde(rename = "Ref")]
    pub reference: String,
    /// Its type, digest, length and platform.
    pub descriptor: Descriptor,
    /// The manifest's bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub raw: String,
    /// The manifest, of Docker's type.
    #[serde(default, rename = "SchemaV2Manifest", skip_serializing_if = "Value::is_null")]
    docker: Value,
    /// The same of OCI's.
    #[serde(default, rename = "OCIManifest", skip_serializing_if = "Value::is_null")]
    oci: Value,
}

/// What is said of an image by hand.
#[derive(Debug, Clone, Default)]
pub struct Annotation {
    /// Operating system.
    pub os: Option<String>,
    /// Architecture.
    pub architecture: Option<String>,
    /// Its variant.
    pub variant: Option<String>,
    /// Version of the operating system.
    pub os_version: Option<String>,
    /// Features of it.
    pub os_features: Vec<String>,
}

/// The pairs that Docker takes.
const SYSTEMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
];

impl ListedImage {
    /// An image that a registry has, for the platform that its configuration says.
    ///
    /// # Errors
    /// It is a list itself, or its configuration cannot be read.
    pub fn of(remote: &Remote, image: &RemoteImage) -> Result<Self, RemoteError> {
        let Document::Manifest(manifest) = &image.document else {
            return Err(RemoteError::Refused(format!("{} is a manifest list", image.name.full())));
        };
        let mut descriptor = image.descriptor.clone();
        descriptor.platform = Some(remote.platform(&image.name, manifest)?);
        let read = |source| RemoteError::Json { what: format!("manifest {}", descriptor.digest), source };
        let value: Value = rbox_spec::json::from_slice(&image.bytes).map_err(read)?;
        let is_oci = descriptor.media_type == OCI_MANIFEST;
        let (docker, oci) = if is_oci { (Value::Null, value) } else { (value, Value::Null) };
        Ok(Self { reference: image.name.full(), descriptor, raw: STANDARD.encode(&image.bytes), docker, oci })
    }

    /// Its name.
    ///
    /// # Errors
    /// The file has none.
    pub fn name(&self) -> Result<Reference, RemoteError> {
        Reference::parse(&self.reference)
            .map(Reference::with_default_tag)
            .map_err(|error| RemoteError::Refused(format!("{}: {error}", self.reference)))
    }

    /// The manifest's bytes, which are what their digest says.
    ///
    /// # Errors
    /// The file does not have them.
    pub fn bytes(&self) -> Result<Vec<u8>, RemoteError> {
        let bytes = STANDARD.decode(&self.raw).unwrap_or_default();
        let (want, found) = (self.descriptor.digest, digest_of(self.descriptor.digest.algorithm(), &bytes));
        if want != found {
            let name = &self.reference;
            return Err(RemoteError::Refused(format!(
                "internal digest mismatch for {name}: expected {want}, got {found}"
            )));
        }
        Ok(bytes)
    }

    /// As a registry would give it.
    fn as_remote(&self) -> Result<RemoteImage, RemoteError> {
        let bytes = self.bytes()?;
        let digest = self.descriptor.digest;
        let document = Document::parse(&bytes, &self.descriptor.media_type)
            .map_err(|source| RemoteError::Document { digest, source })?;
        Ok(RemoteImage { name: self.name()?, descriptor: self.descriptor.clone(), bytes, document })
    }
}

/// The lists that are kept.
#[derive(Debug)]
pub struct ManifestLists {
    dir: PathBuf,
}

fn full(name: &Reference) -> Reference {
    name.clone().with_default_tag()
}

/// Docker's name for the file of a name.
fn file_name(name: &Reference) -> Result<String, RemoteError> {
    let text = full(name).full().replace(':', "-").replace('/', "_");
    if text.len() > MOST_NAME || text.starts_with('.') {
        return Err(RemoteError::Refused(format!("the name {} is too long to be kept", name.full())));
    }
    Ok(text)
}

impl ManifestLists {
    /// Those of this directory of Docker's configuration.
    pub fn in_config(dir: &Path) -> Self {
        Self { dir: dir.join("manifests") }
    }

    fn list_dir(&self, list: &Reference) -> Result<PathBuf, RemoteError> {
        Ok(self.dir.join(file_name(list)?))
    }

    /// The images of a list, in the order of their names.
    ///
    /// # Errors
    /// There is no such list, or a file of it is damaged.
    pub fn get(&self, list: &Reference) -> Result<Vec<ListedImage>, RemoteError> {
        let dir = self.list_dir(list)?;
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_such(list)),
            Err(error) => return Err(RemoteError::io("read", dir)(error)),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        // What a killed command left on its way.
        paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
        paths.sort();
        if paths.is_empty() {
            return Err(no_such(list));
        }
        if paths.len() > MOST_IMAGES {
            return Err(RemoteError::Refused(format!(
                "{} has more than {MOST_IMAGES} images",
                dir.display()
            )));
        }
        paths.iter().map(|path| read(path)).collect()
    }

    /// One image of a list; none if it is not in it.
    ///
    /// # Errors
    /// Its file is damaged.
    pub fn find(&self, list: &Reference, image: &Reference) -> Result<Option<ListedImage>, RemoteError> {
        let path = self.list_dir(list)?.join(file_name(image)?);
        if path.exists() { read(&path).map(Some) } else { Ok(None) }
    }

    /// Puts images into a list: all of them, or none if one cannot be fetched.
    ///
    /// # Errors
    /// The list is there and is not to be amended; an image is not in its registry.
    pub fn create(
        &self,
        remote: &Remote,
        list: &Reference,
        images: &[Reference],
        amend: bool,
    ) -> Result<(), RemoteError> {
        match self.get(list) {
            Ok(_) if !amend => {
                let why = "refusing to amend an existing manifest list with no --amend flag";
                return Err(RemoteError::Refused(why.to_owned()));
            }
            Err(RemoteError::NotFound(_)) | Ok(_) => {}
            Err(error) => return Err(error),
        }
        let mut found = Vec::new();
        for image in images {
            let image = full(image);
            found.push(match self.find(list, &image)? {
                Some(known) => known,
                None => ListedImage::of(remote, &fetch(remote, &image)?)?,
            });
        }
        let dir = self.list_dir(list)?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&dir).map_err(RemoteError::io("mkdir", &dir))?;
        found.iter().try_for_each(|image| self.save(list, image))
    }

    fn save(&self, list: &Reference, image: &ListedImage) -> Result<(), RemoteError> {
        let dir = self.list_dir(list)?;
        let path = dir.join(file_name(&image.name()?)?);
        let made = |source| RemoteError::Json { what: path.display().to_string(), source };
        let text = serde_json::to_vec(image).map_err(made)?;
        // No name of an image begins so, whatever its tag is.
        let temporary = dir.join(format!(".{}.tmp", std::process::id()));
        let written = own::write(&temporary, text).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            RemoteError::io("write", &path)(error)
        })
    }

    /// Says something of an image of a list.
    ///
    /// # Errors
    /// It is not in the list, or would be for a machine that there is not.
    pub fn annotate(
        &self,
        list: &Reference,
        image: &Reference,
        said: &Annotation,
    ) -> Result<bool, RemoteError> {
        let Some(mut entry) = self.find(list, image)? else { return Ok(false) };
        let platform = entry.descriptor.platform.get_or_insert_with(DescriptorPlatform::default);
        if let Some(os) = &said.os {
            platform.os.clone_from(os);
        }
        if let Some(architecture) = &said.architecture {
            platform.architecture.clone_from(architecture);
        }
        if said.variant.is_some() {
            platform.variant.clone_from(&said.variant);
        }
        if said.os_version.is_some() {
            platform.os_version.clone_from(&said.os_version);
        }
        for feature in &said.os_features {
            let features = platform.os_features.get_or_insert_with(Vec::new);
            if !features.contains(feature) {
                features.push(feature.clone());
            }
        }
        let known = SYSTEMS
            .iter()
            .any(|(os, all)| *os == platform.os && all.contains(&platform.architecture.as_str()));
        if !known {
            let (os, architecture) = (&platform.os, &platform.architecture);
            return Err(RemoteError::Refused(format!(
                "manifest entry for image has unsupported os/arch combination: {os}/{architecture}"
            )));
        }
        self.save(list, &entry)?;
        Ok(true)
    }

    /// Forgets a list.
    ///
    /// # Errors
    /// There is none, or it cannot be removed.
    pub fn remove(&self, list: &Reference) -> Result<(), RemoteError> {
        let dir = self.list_dir(list)?;
        if !dir.is_dir() {
            return Err(no_such(list));
        }
        rbox_rootfs::removal::remove_tree(&dir).map_err(RemoteError::io("remove", dir))
    }

    /// Pushes a list. What is in other repositories of the registry is brought into the list's first; `copied` hears of each.
    ///
    /// # Errors
    /// An image has no platform or is in another registry; the registry refuses.
    pub fn push(
        &self,
        remote: &Remote,
        list: &Reference,
        copied: &mut dyn FnMut(&Reference),
    ) -> Result<rbox_spec::Digest, RemoteError> {
        let images = self.get(list)?;
        let (media_type, text) = document(list, &images)?;
        let mut parts = Brought::default();
        for image in &images {
            let name = image.name()?;
            if !name.same_repository(list) {
                let image = image.as_remote()?;
                remote.copy(&image, list, &mut parts)?;
                copied(&list.with_digest(image.descriptor.digest));
            }
        }
        let digest = sha256(text.as_bytes());
        remote.put(&full(list), media_type, text.as_bytes(), &digest)?;
        Ok(digest)
    }
}

/// The document of a list, with its type.
///
/// # Errors
/// An image has no platform, or is in another registry.
pub(super) fn document(
    list: &Reference,
    images: &[ListedImage],
) -> Result<(&'static str, String), RemoteError> {
    let mut manifests = Vec::new();
    for image in images {
        let name = image.name()?;
        let known =
            image.descriptor.platform.as_ref().filter(|p| !p.os.is_empty() && !p.architecture.is_empty());
        let Some(platform) = known else {
            let name = &image.reference;
            return Err(RemoteError::Refused(format!(
                "manifest {name} must have an OS and Architecture to be pushed to a registry"
            )));
        };
        if name.domain() != list.domain() {
            let (from, to) = (name.domain(), list.domain());
            return Err(RemoteError::Refused(format!(
                "cannot use source images from a different registry than the target image: {from} != {to}"
            )));
        }
        manifests.push(Entry {
            media_type: &image.descriptor.media_type,
            size: image.descriptor.size,
            digest: image.descriptor.digest.to_string(),
            platform: Some(platform),
        });
    }
    text_of(&manifests)
}

/// An index as Docker's client shows it.
///
/// # Errors
/// It cannot be written down.
pub(super) fn text_of_index(index: &Index) -> Result<String, RemoteError> {
    let entry = |one| -> Entry<'_> {
        let one: &Descriptor = one;
        let digest = one.digest.to_string();
        Entry { media_type: &one.media_type, size: one.size, digest, platform: one.platform.as_ref() }
    };
    let entries: Vec<Entry<'_>> = index.manifests.iter().map(entry).collect();
    Ok(text_of(&entries)?.1)
}

fn text_of(manifests: &[Entry<'_>]) -> Result<(&'static str, String), RemoteError> {
    // The first one says for all.
    let is_oci = manifests.first().is_some_and(|first| first.media_type == OCI_MANIFEST);
    let media_type = if is_oci { OCI_INDEX } else { DOCKER_LIST };
    let list = List { schema_version: 2, media_type, manifests };
    let made = |source| RemoteError::Json { what: "make the manifest list".to_owned(), source };
    Ok((media_type, indented(&list, "   ").map_err(made)?))
}

/// JSON with this for each step inwards.
pub(super) fn indented(value: &impl Serialize, by: &str) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(by.as_bytes());
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Docker's order of keys.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'e> {
    schema_version: u32,
    media_type: &'e str,
    manifests: &'e [Entry<'e>],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'e> {
    media_type: &'e str,
    size: u64,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'e DescriptorPlatform>,
}

fn no_such(list: &Reference) -> RemoteError {
    RemoteError::NotFound(format!("No such manifest: {}", full(list).full()))
}

/// An image of a registry, in Docker's words where it is not there.
fn fetch(remote: &Remote, image: &Reference) -> Result<RemoteImage, RemoteError> {
    remote.fetch(image).map_err(|error| match error {
        RemoteError::Registry(error) if error.kind() == rbox_spec::Kind::NotFound => {
            RemoteError::NotFound(format!("no such manifest: {}", image.full()))
        }
        other => other,
    })
}

fn read(path: &Path) -> Result<ListedImage, RemoteError> {
    let bytes = own::read(path, 4 * MAX_DOCUMENT).map_err(RemoteError::io("read", path))?;
    rbox_spec::json::from_slice(&bytes)
        .map_err(|source| RemoteError::Json { what: format!("read {}", path.display()), source })
}

/// What `manifest inspect` shows.
impl ManifestLists {
    /// A name: the list that is kept here, else what the registry has.
    ///
    /// # Errors
    /// There is neither.
    pub fn inspect(&self, remote: &Remote, name: &Reference, verbose: bool) -> Result<String, RemoteError> {
        let made = |source| RemoteError::Json { what: "show the manifest".to_owned(), source };
        match self.get(name) {
            Ok(images) if verbose => return indented(&images, "\t").map_err(made),
            Ok(images) => return Ok(document(name, &images)?.1),
            Err(RemoteError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let name = full(name);
        let image = fetch(remote, &name)?;
        match &image.document {
            Document::Manifest(_) => Self::show(&ListedImage::of(remote, &image)?, verbose),
            Document::Index(index) if !verbose => text_of_index(index),
            Document::Index(index) => {
                let mut all = Vec::new();
                for one in index.manifests.iter().take(MOST_IMAGES) {
                    let part = remote.fetch(&name.with_digest(one.digest))?;
                    let mut part = ListedImage::of(remote, &part)?;
                    if one.platform.is_some() {
                        part.descriptor.platform.clone_from(&one.platform);
                    }
                    all.push(part);
                }
                indented(&all, "\t").map_err(made)
            }
        }
    }

    /// One image of a list that is kept here.
    ///
    /// # Errors
    /// It is not in it.
    pub fn inspect_one(
        &self,
        list: &Reference,
        image: &Reference,
        verbose: bool,
    ) -> Result<String, RemoteError> {
        match self.find(list, image)? {
            Some(found) => Self::show(&found, verbose),
            None => Err(no_such(image)),
        }
    }

    fn show(image: &ListedImage, verbose: bool) -> Result<String, RemoteError> {
        let made = |source| RemoteError::Json { what: "show the manifest".to_owned(), source };
        if verbose {
            return indented(image, "\t").map_err(made);
        }
        let manifest = if image.oci.is_null() { &image.docker } else { &image.oci };
        indented(manifest, "\t").map_err(made)
    }
}
