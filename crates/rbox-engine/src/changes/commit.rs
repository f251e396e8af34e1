//! `commit`: what a container has changed as a layer, and an image of it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::SyncSender;

use rbox_image::archive::{self, ArchiveError, CommitOptions, committed_config};
use rbox_image::layer::{CHUNK, Chunk, channel};
use rbox_image::store::{Expected, StoredLayer};
use rbox_image::{Image, ImageStore, RunConfig, StoreError, Transaction};
use rbox_runtime::rootfs::changes::Seen;
use rbox_runtime::rootfs::layer::{PackError, PackOptions, Packed, TreeKind, pack};
use rbox_spec::Reference;
use serde_json::{Map, Value};

use crate::changes::diff;
use crate::containers::pause_lease::PauseLease;
use crate::containers::running::not_running;
use crate::error::EngineError;
use crate::record::container::{Container, ContainerRecord, Status};
use crate::record::paths::Paths;

/// How a container becomes an image.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// `--author`.
    pub author: Option<String>,
    /// `--message`.
    pub message: Option<String>,
    /// `--change`, each one Dockerfile instruction.
    pub changes: Vec<String>,
    /// Nothing of the container runs while its layer is read.
    pub pause: bool,
    /// The image's name; none: it is found by its id alone.
    pub reference: Option<Reference>,
}

/// An image of a container.
#[derive(Debug)]
pub struct Committed {
    /// The image.
    pub image: Image,
    /// How many files no layer can hold.
    pub left_out: u64,
    /// The first of them.
    pub first_left_out: Option<String>,
}

/// Makes an image of a container.
pub(crate) fn commit(
    paths: &Paths,
    store: &ImageStore,
    container: &Container,
    request: CommitRequest,
) -> Result<Committed, EngineError> {
    let record = &container.record;
    refuse(container)?;
    let config = committed_config(&run_config(record), &request.changes).map_err(ArchiveError::from)?;
    // What is found from here on is not removed, and what is added is tidied up after a kill.
    let transaction = store.transaction()?;
    let parent = parent_of(store, record)?;
    let (layer, packed) = layer_of(paths, &transaction, record, request.pause)?;
    let options = CommitOptions {
        container: record.id.to_string(),
        created_by: record.config.cmd.join(" "),
        config,
        container_config: record.as_docker_config(),
        author: request.author,
        message: request.message,
        reference: request.reference,
    };
    let image = archive::commit(&transaction, &parent, layer.as_ref(), &options)?;
    drop(transaction);
    // What commits left that were killed.
    store.tidy();
    let first_left_out = packed.first_left_out.map(|name| name.to_string());
    Ok(Committed { image, left_out: packed.left_out, first_left_out })
}

/// Docker's refusals.
fn refuse(container: &Container) -> Result<(), EngineError> {
    let id = &container.record.id;
    match container.status {
        Status::Dead => Err(not_running(container)),
        Status::Removing => Err(being_removed(&container.record)),
        _ if container.record.image_id.is_empty() => Err(EngineError::Conflict(format!(
            "container {id} is of a directory and not of an image: rbox export and rbox import make one of it"
        ))),
        _ => Ok(()),
    }
}

fn being_removed(record: &ContainerRecord) -> EngineError {
    EngineError::Conflict(format!("You cannot commit container {} which is being removed", record.id))
}

/// The image of a container, which may have no name any more.
fn parent_of(store: &ImageStore, record: &ContainerRecord) -> Result<Image, EngineError> {
    let id = record.image_id.parse().ok();
    let found = id.map(|id| store.find_id(&id)).transpose()?.flatten();
    Ok(found.ok_or_else(|| StoreError::NotFound(record.image_id.clone()))?)
}

/// What a container of the image is to get: what this one got, from its image and from the user.
fn run_config(record: &ContainerRecord) -> RunConfig {
    let config = &record.config;
    let keys = |names: &[String]| -> std::collections::BTreeMap<String, Value> {
        names.iter().map(|name| (name.clone(), Map::new().into())).collect()
    };
    let list = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let volumes = keys(&record.all_volumes());
    RunConfig {
        user: config.user.clone(),
        exposed_ports: keys(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: list(&config.entrypoint),
        cmd: list(&config.cmd),
        healthcheck: config.healthcheck.clone(),
        volumes,
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: list(&config.shell),
        ..RunConfig::default()
    }
}

/// What the container has changed, as a layer of the store. None when it has changed nothing.
fn layer_of(
    paths: &Paths,
    transaction: &Transaction<'_>,
    record: &ContainerRecord,
    pause: bool,
) -> Result<(Option<StoredLayer>, Packed), EngineError> {
    let upper = Upper::open(paths, record)?;
    let lease = if pause { PauseLease::take(paths, &record.id)? } else { None };
    let (leave_out, is_changed) = upper.unused()?;
    if !is_changed {
        return Ok((None, Packed::default()));
    }
    let (stored, packed) = upper.store(transaction, &leave_out, lease)?;
    Ok((Some(stored), packed))
}

/// Makes a layer of the store of what a thread `send`s. `lease`: what keeps a container from changing it meanwhile.
fn stored(
    transaction: &Transaction<'_>,
    send: &mut (dyn FnMut(SyncSender<Chunk>) -> Result<Packed, EngineError> + Send),
    lease: Option<PauseLease>,
) -> Result<(StoredLayer, Packed), EngineError> {
    let (sender, tar) = channel();
    let (stored, packed) = std::thread::scope(|scope| {
        let packing = std::thread::Builder::new().name("pack".to_owned()).spawn_scoped(scope, move || {
            let packed = send(sender);
            // All is read: what is done with it takes longer.
            drop(lease);
            packed
        });
        let packing = packing.map_err(|error| EngineError::file("start a thread for", "the layer")(error))?;
        let stored = transaction.add_layer(tar, &Expected::default());
        let packed = packing.join().unwrap_or_else(|_| {
            Err(EngineError::Damaged("the thread that reads the container's layer failed".to_owned()))
        });
        Ok::<_, EngineError>((stored, packed))
    })?;
    match (stored, packed) {
        // The store stopped first: the other end found nobody to write to.
        (Err(stored), Err(EngineError::Pack(PackError::Write(_)))) => Err(stored.into()),
        (_, Err(error)) => Err(error),
        (stored, Ok(packed)) => Ok((stored?, packed)),
    }
}

/// A container's own layer.
struct Upper<'a> {
    paths: &'a Paths,
    record: &'a ContainerRecord,
    dir: File,
}

impl<'a> Upper<'a> {
    fn open(paths: &'a Paths, record: &'a ContainerRecord) -> Result<Self, EngineError> {
        let path = record.upper(paths);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(being_removed(record)),
            dir => Ok(Self { paths, record, dir: dir.map_err(EngineError::file("open", path))? }),
        }
    }

    /// What of it is no change of the container's, in the order of the bytes of their paths; and whether anything is one.
    fn unused(&self) -> Result<(Vec<Vec<u8>>, bool), EngineError> {
        let mut unused = Vec::new();
        let is_changed = diff::walk(self.paths, self.record, &[], &mut |seen| {
            if let Seen::Unused(path) = seen {
                unused.push(path.as_os_str().as_bytes().get(1..).unwrap_or_default().to_vec());
            }
            Ok(())
        })?;
        unused.sort_unstable();
        Ok((unused, is_changed))
    }

    /// Makes a layer of the store of it, but for what is left out. `lease`: what keeps the container from changing it meanwhile.
    fn store(
        &self,
        transaction: &Transaction<'_>,
        leave_out: &[Vec<u8>],
        lease: Option<PauseLease>,
    ) -> Result<(StoredLayer, Packed), EngineError> {
        stored(transaction, &mut |sender| self.pack(leave_out, sender), lease)
    }

    /// Sends it to the store, but for what is left out.
    fn pack(&self, leave_out: &[Vec<u8>], store: SyncSender<Chunk>) -> Result<Packed, EngineError> {
        let leave_out: Vec<&[u8]> = leave_out.iter().map(Vec::as_slice).collect();
        let options = PackOptions { tree: TreeKind::Upper, leave_out: &leave_out, ..PackOptions::default() };
        let mut sent = Sent { store, chunk: Vec::with_capacity(CHUNK) };
        let packed = pack(self.dir.as_fd(), &mut sent, &options)?;
        // A container that is removed is moved away first: as long as it is in its place, nothing of it is missing.
        if !self.is_in_place() {
            return Err(being_removed(self.record));
        }
        sent.end().map_err(PackError::Write)?;
        Ok(packed)
    }

    fn is_in_place(&self) -> bool {
        let place = std::fs::symlink_metadata(self.record.upper(self.paths));
        match (self.dir.metadata(), place) {
            (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }
}

/// The packing thread's end of the stream.
struct Sent {
    store: SyncSender<Chunk>,
    chunk: Vec<u8>,
}

impl Sent {
    fn send(&mut self) -> io::Result<()> {
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
        self.store.send(Chunk::Data(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Says that the stream is whole.
    fn end(mut self) -> io::Result<()> {
        self.send()?;
        self.store.send(Chunk::End).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
