//! Adding blobs, layers and images: what `pull`, `load`, `import` and the embedded image are made of.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbox_rootfs::lock::{self, How, Patience};
use rbox_rootfs::own;
use rbox_rootfs::removal::remove_tree;
use rbox_spec::digest::Algorithm;
use rbox_spec::{Digest, Reference};
use rustix::io::Errno;

use super::find::{Layer, LayerRecord};
use super::index::{NewEntry, carry_over, full_name, keep_index, put, set_source};
use super::{Image, ImageStore, StoreError, io_error, same_file, sync_parent};
use crate::config::ImageConfig;
use crate::hash::{HashingReader, digest_of, sha256};
use crate::layer::{LayerError, Unpacked, unpack_stream};
use crate::media::{Descriptor, DescriptorPlatform, Document, DocumentError, Index, MAX_CONFIG};

/// What is known of a layer before its bytes are read. Whatever is given is verified.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected {
    /// Digest of the bytes as they come.
    pub digest: Option<Digest>,
    /// Their number.
    pub size: Option<u64>,
    /// Digest of the uncompressed tar.
    pub diff_id: Option<Digest>,
}

/// A layer that is now in the store.
#[derive(Debug, Clone)]
pub struct StoredLayer {
    /// Descriptor of the blob, for a manifest.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar, for a configuration.
    pub diff_id: Digest,
    /// Bytes in its files.
    pub size: u64,
}

/// Keeps what is being added from being tidied away. Blobs and layers added through it, or found present while it is held,
/// stay at least until it is dropped.
#[derive(Debug)]
pub struct Transaction<'s> {
    pub(super) store: &'s ImageStore,
    _lock: File,
}

impl ImageStore {
    /// Starts adding.
    pub fn transaction(&self) -> Result<Transaction<'_>, StoreError> {
        let lock = self.lock_file("store.lock", How::Shared)?;
        Ok(Transaction { store: self, _lock: lock })
    }

    /// Notes what a registry calls this reference since the image was pushed there. Nothing, if the name went elsewhere meanwhile.
    pub(crate) fn pushed(
        &self,
        image: &Image,
        reference: &Reference,
        digest: Digest,
    ) -> Result<(), StoreError> {
        let full = reference.full();
        self.change_index(|index, _| {
            let same = |entry: &&mut Descriptor| {
                entry.digest == image.manifest_digest && full_name(entry) == Some(&full)
            };
            for entry in index.entries.iter_mut().filter(same) {
                keep_index(entry);
                set_source(entry, digest);
            }
            Ok(())
        })
    }

    /// Whether the layer is unpacked.
    pub fn has_layer(&self, diff_id: &Digest) -> bool {
        self.layer_path(diff_id).is_dir()
    }

    /// Whether the blob is there.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }
}

/// A layer under `tmp/`, on its way in; removed if it does not get there.
pub(crate) struct Staging {
    path: PathBuf,
    files: PathBuf,
    dir: File,
    fs: File,
    done: bool,
}

impl Staging {
    fn make(path: PathBuf, dir: File) -> Result<Self, StoreError> {
        let fs_path = path.join("fs");
        DirBuilder::new().mode(0o755).create(&fs_path).map_err(io_error("mkdir", &fs_path))?;
        // The mode of the image's root where its tar does not say; the umask must not show in it.
        fs::set_permissions(&fs_path, fs::Permissions::from_mode(0o755))
            .map_err(io_error("chmod", &fs_path))?;
        let fs = File::open(&fs_path).map_err(io_error("open", &fs_path))?;
        Ok(Self { path, files: fs_path, dir, fs, done: false })
    }

    /// A layer of which all files are there.
    pub(super) fn of(path: PathBuf) -> Result<Self, StoreError> {
        let dir = File::open(&path).map_err(io_error("open", &path))?;
        let fs_path = path.join("fs");
        let fs = File::open(&fs_path).map_err(io_error("open", &fs_path))?;
        Ok(Self { path, files: fs_path, dir, fs, done: false })
    }

    /// The directory to unpack into.
    pub(crate) fn root(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fs.as_fd()
    }

    /// Writes the record, syncs the filesystem and checks the result: nothing unpacked is lost after this.
    pub(crate) fn seal(&self, unpacked: &Unpacked) -> Result<(), StoreError> {
        self.write_record(unpacked)?;
        self.sync()
    }

    /// Writes the record. It is true only once the directory is synced.
    pub(crate) fn write_record(&self, unpacked: &Unpacked) -> Result<(), StoreError> {
        self.write_layer_record(&LayerRecord::from(unpacked))
    }

    pub(super) fn write_layer_record(&self, record: &LayerRecord) -> Result<(), StoreError> {
        let path = self.path.join("layer.json");
        let json = |source| StoreError::Json { path: path.clone(), source };
        let bytes = rbox_spec::record::encode(record).map_err(json)?;
        fs::write(&path, bytes).map_err(io_error("write", &path))
    }

    /// The unpacked files.
    pub(super) fn files(&self) -> &Path {
        &self.files
    }

    /// Puts the sealed layer into its place, whatever is there: that comes back under another name. What marks it as kept goes along.
    pub(super) fn replace(
        mut self,
        store: &ImageStore,
        diff_id: &Digest,
    ) -> Result<Option<PathBuf>, StoreError> {
        let place = store.layer_path(diff_id);
        let mark = Path::new(super::KEPT);
        match fs::copy(place.join(mark), self.path.join(mark)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("copy", &place.join(mark))(error));
            }
            _ => {}
        }
        let cwd = rustix::fs::CWD;
        let exchange = rustix::fs::RenameFlags::EXCHANGE;
        match rustix::fs::renameat_with(cwd, &self.path, cwd, &place, exchange) {
            Ok(()) => {
                self.done = true;
                sync_parent(&place)?;
                Ok(Some(self.path.clone()))
            }
            Err(Errno::NOENT) => self.publish(store, diff_id).map(|()| None),
            Err(errno) => Err(io_error("rename", &place)(errno)),
        }
    }

    /// Syncs the filesystem: this layer, and whatever else the store has just been given.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        rustix::fs::syncfs(&self.dir).map_err(io_error("syncfs", &self.path))
    }

    /// Moves the sealed layer to its place. If someone else put the same layer there, theirs stays.
    pub(crate) fn publish(mut self, store: &ImageStore, diff_id: &Digest) -> Result<(), StoreError> {
        self.place(store, diff_id)?;
        sync_parent(&store.layer_path(diff_id))
    }

    /// The move, which lasts once the parent is synced.
    fn place(&mut self, store: &ImageStore, diff_id: &Digest) -> Result<(), StoreError> {
        let place = store.layer_path(diff_id);
        let cwd = rustix::fs::CWD;
        match rustix::fs::renameat_with(cwd, &self.path, cwd, &place, rustix::fs::RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.done = true;
                Ok(())
            }
            Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(()),
            Err(errno) => Err(io_error("rename", &self.path)(errno)),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.done {
            let _ = remove_tree(&self.path);
        }
    }
}

/// A layer that is unpacked, with its record, and has to be synced and put in its place.
pub(crate) struct Finished {
    /// The directory.
    pub(crate) staging: Staging,
    /// What it is to be known as.
    pub(crate) diff_id: Digest,
    /// The blob, if it is not in its place: the file, open and locked, its path and its digest.
    pub(crate) blob: Option<(File, PathBuf, Digest)>,
}

impl Transaction<'_> {
    /// The store.
    pub fn store(&self) -> &ImageStore {
        self.store
    }

    /// Adds a small blob (a manifest, a configuration) under its SHA-256 digest.
    pub fn add_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = sha256(bytes);
        self.put_blob(&digest, bytes)?;
        Ok(digest)
    }

    /// Adds a small blob under the digest it is expected to have.
    pub fn add_blob_as(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let found = digest_of(digest.algorithm(), bytes);
        if found != *digest {
            let found = format!("its content has digest {found}");
            return Err(StoreError::Damaged { what: "blob", digest: *digest, found });
        }
        self.put_blob(digest, bytes)
    }

    fn put_blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.store.blob_path(digest);
        Self::make_parent(&path)?;
        // What is there may be what a lost write or a failing disk left.
        if self.store.has_blob_of(digest, bytes.len() as u64)
            && own::read(&path, bytes.len() as u64).is_ok_and(|there| there == bytes)
        {
            return Ok(());
        }
        self.store.replace(&path, bytes)
    }

    fn make_parent(blob: &Path) -> Result<(), StoreError> {
        match blob.parent() {
            Some(parent) if !parent.is_dir() => {
                let mut builder = DirBuilder::new();
                builder.mode(0o700).recursive(true).create(parent).map_err(io_error("mkdir", parent))
            }
            _ => Ok(()),
        }
    }

    /// Syncs finished layers, all at once, and puts them in their places. On an error those not yet there are removed;
    /// their blobs stay under `tmp/`.
    pub(crate) fn publish(&self, mut finished: Vec<Finished>) -> Result<(), StoreError> {
        let Some(first) = finished.first() else { return Ok(()) };
        first.staging.sync()?;
        // One path for each directory in which something is renamed.
        let mut renamed = BTreeMap::new();
        for Finished { staging, diff_id, blob } in &mut finished {
            if let Some((_, temporary, digest)) = blob {
                let path = self.store.blob_path(digest);
                Self::make_parent(&path)?;
                self.store.put_in_place(temporary, &path)?;
                renamed.insert(path.parent().map(Path::to_owned), path);
            }
            staging.place(self.store, diff_id)?;
            let path = self.store.layer_path(diff_id);
            renamed.insert(path.parent().map(Path::to_owned), path);
        }
        renamed.values().try_for_each(|path| sync_parent(path))
    }

    /// Moves a finished file under `tmp/` to its place among the blobs. Its content must be synced.
    pub(crate) fn publish_blob(&self, temporary: &Path, digest: &Digest) -> Result<(), StoreError> {
        let path = self.store.blob_path(digest);
        Self::make_parent(&path)?;
        self.store.put_in_place(temporary, &path)?;
        sync_parent(&path)
    }

    /// A place to unpack a layer whose diff ID is not known yet.
    pub(crate) fn stage(&self) -> Result<Staging, StoreError> {
        let path = self.store.fresh("new");
        DirBuilder::new().mode(0o700).create(&path).map_err(io_error("mkdir", &path))?;
        let dir = File::open(&path).map_err(io_error("open", &path))?;
        Staging::make(path, dir)
    }

    /// The place to unpack a layer of known diff ID; waits for whoever is at it. `None`: the layer is there.
    pub(crate) fn stage_layer(&self, diff_id: &Digest) -> Result<Option<Staging>, StoreError> {
        self.stage_layer_with(diff_id, |path, dir| {
            lock::take(dir, How::Exclusive, Patience::WORK).map_err(io_error("lock", path))
        })
    }

    /// The same, with another way to wait for the lock.
    pub(crate) fn stage_layer_with<E: From<StoreError>>(
        &self,
        diff_id: &Digest,
        lock: impl Fn(&Path, &File) -> Result<(), E>,
    ) -> Result<Option<Staging>, E> {
        let path = self.store.tmp().join(format!("layer-{}", diff_id.hex()));
        loop {
            if self.store.has_layer(diff_id) {
                return Ok(None);
            }
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::Io { action: "mkdir", path, source: error }.into());
                }
                _ => {}
            }
            let dir = match File::open(&path) {
                Ok(dir) => dir,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(StoreError::Io { action: "open", path, source }.into()),
            };
            lock(&path, &dir)?;
            if !same_file(&dir, &path) {
                continue;
            }
            // What a killed unpack left cannot be gone on with.
            for name in ["fs", "layer.json"] {
                let left = path.join(name);
                let removed = if name == "fs" { remove_tree(&left) } else { fs::remove_file(&left) };
                match removed {
                    Err(source) if source.kind() != io::ErrorKind::NotFound => {
                        return Err(StoreError::Io { action: "remove", path: left, source }.into());
                    }
                    _ => {}
                }
            }
            return Ok(Some(Staging::make(path, dir)?));
        }
    }

    /// Adds a layer from a stream of its blob: keeps the bytes as they come, and unpacks them.
    pub fn add_layer(
        &self,
        source: impl Read + Send,
        expected: &Expected,
    ) -> Result<StoredLayer, StoreError> {
        let temporary = TemporaryBlob::create(self.store)?;
        let staging = self.stage()?;
        let source = BufReader::with_capacity(64 << 10, source);
        let algorithm = expected.digest.map_or(Algorithm::Sha256, |digest| digest.algorithm());
        let limit = expected.size.map_or(u64::MAX, |size| size.saturating_add(1));
        let mut tee = HashingReader::new(Tee { from: source.take(limit), to: &temporary.file }, algorithm);
        let diff_algorithm = expected.diff_id.map_or(Algorithm::Sha256, |digest| digest.algorithm());
        let unpacked = unpack_stream(&mut tee, diff_algorithm, Some(staging.root()))?;
        // A decompressor stops at the end of its stream; what may follow belongs to the digest.
        io::copy(&mut tee, &mut io::sink()).map_err(|e| StoreError::Layer(LayerError::Inflate(e)))?;
        let (digest, size) = tee.finish();
        let damaged =
            |found| StoreError::Damaged { what: "layer", digest: expected.digest.unwrap_or(digest), found };
        if let Some(want) = expected.size.filter(|want| *want != size) {
            return Err(damaged(format!("it is not {want} bytes long")));
        }
        if expected.digest.is_some_and(|want| want != digest) {
            return Err(damaged(format!("its content has digest {digest}")));
        }
        if let Some(want) = expected.diff_id.filter(|want| *want != unpacked.diff_id) {
            return Err(LayerError::DiffId { want, found: unpacked.diff_id }.into());
        }
        staging.seal(&unpacked)?;
        temporary.publish(self, &digest)?;
        staging.publish(self.store, &unpacked.diff_id)?;
        let descriptor = Descriptor::new(unpacked.compression.layer_type(), digest, size);
        Ok(StoredLayer { descriptor, diff_id: unpacked.diff_id, size: unpacked.size })
    }

    /// Registers an image whose configuration and layers are in the store, under these references (none: dangling).
    ///
    /// `source` is what the registry calls it: the digest of the index it came out of, or of the manifest.
    pub fn register(
        &self,
        manifest: &[u8],
        media_type: &str,
        references: &[Reference],
        source: Option<Digest>,
    ) -> Result<Image, StoreError> {
        let digest = sha256(manifest);
        self.register_as(digest, manifest, media_type, references, (source, None))
    }

    /// [`register`](Self::register) under a digest of either algorithm, and as one platform of an index. What the references name of the
    /// same index's other platforms stays.
    pub(crate) fn register_as(
        &self,
        digest: Digest,
        manifest: &[u8],
        media_type: &str,
        references: &[Reference],
        (source, of): (Option<Digest>, Option<&OfIndex>),
    ) -> Result<Image, StoreError> {
        let whole = self.store.whole(digest, manifest, media_type)?;
        self.add_blob_as(&digest, manifest)?;
        if let Some(of) = of {
            self.add_blob_as(&of.digest, &of.bytes)?;
        }
        let references: Vec<_> = references.iter().map(|r| r.clone().with_default_tag()).collect();
        let of_index = of.map(|of| of.digest);
        self.store.change_index(|index, _| {
            if references.is_empty() {
                put(index, whole.entry((source, of_index), None).into_descriptor());
            }
            for reference in &references {
                if let Some(of) = of {
                    carry_over(index, reference, (of.digest, source), &of.members);
                }
                put(index, whole.entry((source, of_index), Some(reference)).into_descriptor());
            }
            let found = index.entries.iter().find(|e| e.digest == digest);
            found.map_or(Err(StoreError::NotFound(digest.to_string())), |e| self.store.load(index, e))
        })
    }
}

/// The index that an image is one platform of. All its platforms share the bytes.
#[derive(Debug, Clone)]
pub(crate) struct OfIndex {
    /// Its digest.
    pub(crate) digest: Digest,
    bytes: Arc<[u8]>,
    pub(super) members: Arc<BTreeSet<Digest>>,
}

impl OfIndex {
    /// The index of these bytes.
    pub(crate) fn new(digest: Digest, bytes: Vec<u8>, index: &Index) -> Self {
        let members = index.manifests.iter().map(|one| one.digest).collect();
        Self { digest, bytes: bytes.into(), members: Arc::new(members) }
    }
}

/// An image all of whose parts are in the store.
pub(super) struct Whole {
    manifest: Descriptor,
    id: Digest,
    size: u64,
    hidden: usize,
    platform: DescriptorPlatform,
}

impl Whole {
    /// The image's id.
    pub(super) const fn id(&self) -> Digest {
        self.id
    }

    /// What index.json says of it, under one of its names: where it came from, and of which index it is.
    pub(super) fn entry<'a>(
        &self,
        (source, index): (Option<Digest>, Option<Digest>),
        reference: Option<&'a Reference>,
    ) -> NewEntry<'a> {
        NewEntry {
            manifest: self.manifest.clone(),
            id: self.id,
            size: self.size,
            hidden: self.hidden,
            source,
            index,
            reference,
            platform: Some(self.platform.clone()),
        }
    }
}

impl ImageStore {
    /// The image of a manifest, if its configuration, its blobs and its unpacked layers are here.
    pub(super) fn whole(
        &self,
        digest: Digest,
        manifest: &[u8],
        media_type: &str,
    ) -> Result<Whole, StoreError> {
        let refuse = |source| StoreError::Document { digest, source };
        let document = match Document::parse(manifest, media_type).map_err(refuse)? {
            Document::Manifest(document) => document,
            Document::Index(_) => return Err(refuse(DocumentError::Nested)),
        };
        let id = document.config.digest;
        let bytes = self.read_blob(&id, "image configuration", MAX_CONFIG)?;
        if bytes.len() as u64 != document.config.size {
            return Err(StoreError::Damaged {
                what: "image configuration",
                digest: id,
                found: format!(
                    "it is {} bytes long, its manifest says {}",
                    bytes.len(),
                    document.config.size
                ),
            });
        }
        let config = ImageConfig::parse(&bytes)
            .map_err(|source| StoreError::Json { path: self.blob_path(&id), source })?;
        let layers = self.layers_of(&document, &config, &digest)?;
        let is_whole = |layer: &&Layer| self.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size);
        if let Some(layer) = layers.iter().find(|layer| !is_whole(layer)) {
            return Err(StoreError::MissingLayer(layer.digest));
        }
        let platform = config.platform();
        Ok(Whole {
            manifest: Descriptor::new(media_type, digest, manifest.len() as u64),
            id,
            size: layers.iter().map(|layer| self.layer_size(layer)).sum(),
            hidden: self.hidden_layers(&layers),
            platform: DescriptorPlatform::from(&platform),
        })
    }
}

/// A blob under `tmp/`, removed if it does not get to its place.
struct TemporaryBlob {
    path: PathBuf,
    file: File,
    done: bool,
}

impl TemporaryBlob {
    fn create(store: &ImageStore) -> Result<Self, StoreError> {
        let path = store.fresh("new-blob");
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("create", &path))?;
        Ok(Self { path, file, done: false })
    }

    fn publish(mut self, transaction: &Transaction<'_>, digest: &Digest) -> Result<(), StoreError> {
        transaction.publish_blob(&self.path, digest)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for TemporaryBlob {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes what it reads to a file.
struct Tee<'f, R> {
    from: R,
    to: &'f File,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.to.write_all(buffer.get(..n).unwrap_or_default())?;
        Ok(n)
    }
}
