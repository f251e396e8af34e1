//! What a build needs of the engine: trees of layers, programs that run in them, layers of what they changed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_image::Transaction;
use rbox_image::store::StoredLayer;
use rbox_runtime::rootfs::changes::{Squashed, squash};
use rbox_runtime::rootfs::layer::{Limits, PackOptions, TreeKind, pack, unpack};
use rbox_runtime::rootfs::put::{Owners, Place, put, put_with_top};

use crate::changes::adopt::adopt;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::monitor::launch::mount_layers;
use crate::oci::user;
use crate::record::paths::STAGE;
use crate::steps::{self, StepNews, StepRequest, StepRun};

/// Layers stacked into one tree that can be written to: what is written becomes a layer.
#[derive(Debug)]
pub struct LayerTree {
    /// The tree's root, a mount that is nowhere attached.
    pub root: OwnedFd,
    upper: PathBuf,
}

impl LayerTree {
    /// What was written, moved into the store as a layer. `newest`: nothing in it gets a younger time, in seconds since 1970.
    ///
    /// # Errors
    /// It cannot be read, or the store cannot be written.
    pub fn layer(
        self,
        transaction: &Transaction<'_>,
        newest: Option<i64>,
    ) -> Result<StoredLayer, EngineError> {
        let Self { root, upper } = self;
        drop(root);
        adopt(transaction, &upper, newest)
    }
}

/// Unpacks an uncompressed tar archive in the directory `to` of a tree, following links as inside the tree. `owner`: whose all of it
/// becomes; else as the archive says.
///
/// # Errors
/// The archive is damaged, or leads out of the directory.
pub fn unpack_archive(
    tar: impl Read,
    root: BorrowedFd<'_>,
    to: &Path,
    owner: Option<(u32, u32)>,
) -> Result<(), EngineError> {
    let owners = owner.map_or(Owners::Archive, |(uid, gid)| Owners::All(uid, gid));
    put(tar, Place::InRoot { root, path: to }, owners)?;
    Ok(())
}

/// Unpacks an uncompressed tar archive in a directory, which becomes what the archive says of it (`./`): its owner, mode and attributes.
///
/// # Errors
/// The archive is damaged, or leads out of the directory.
pub fn unpack_directory(tar: impl Read, root: BorrowedFd<'_>) -> Result<(), EngineError> {
    put_with_top(tar, Place::InRoot { root, path: Path::new("/") }, Owners::Archive)?;
    Ok(())
}

/// Writes a directory as a tar archive, with an entry for itself (`./`).
///
/// # Errors
/// It cannot be read, or `into` takes no more.
pub fn pack_directory(root: BorrowedFd<'_>, into: impl Write) -> Result<(), EngineError> {
    pack(root, into, &PackOptions { root: Some(b"."), ..PackOptions::default() })?;
    Ok(())
}

/// Unpacks an uncompressed tar archive into a directory of the host's, as `cp` does: the files are the caller's, no link in the directory
/// is followed, and no device is made. How many devices that were.
///
/// # Errors
/// The archive is damaged, or the kernel refuses.
pub fn unpack_on_host(tar: impl Read, directory: BorrowedFd<'_>) -> Result<u64, EngineError> {
    Ok(put(tar, Place::Beneath { directory, path: Path::new("/") }, Owners::Own)?.devices)
}

/// Writes all of a tree as a tar archive.
///
/// # Errors
/// It cannot be read, or `into` takes no more.
pub fn pack_archive(root: BorrowedFd<'_>, into: impl Write) -> Result<(), EngineError> {
    pack(root, into, &PackOptions::default())?;
    Ok(())
}

impl Engine {
    /// The tree of these layers, base first, with a layer of its own on top that is made in `dir`.
    ///
    /// # Errors
    /// The directories cannot be made, or the kernel does not stack them.
    pub fn layer_tree(&self, layers: &[PathBuf], dir: &Path) -> Result<LayerTree, EngineError> {
        let (upper, work) = steps::make_layer_dirs(dir)?;
        let stage = steps::make_dir(&dir.join(STAGE), 0o700)?;
        let root = mount_layers(layers, &upper, &work, dir, &stage, true)?;
        Ok(LayerTree { root, upper })
    }

    /// Makes one layer of all above the first `base` of these, base first, and moves it into the store. It is made in `dir`.
    ///
    /// # Errors
    /// A layer cannot be read, or the store cannot be written.
    pub fn squash_layers(
        &self,
        transaction: &Transaction<'_>,
        layers: &[PathBuf],
        base: usize,
        dir: &Path,
    ) -> Result<StoredLayer, EngineError> {
        let (linked, copied) = steps::make_layer_dirs(dir)?;
        squash(Squashed { layers, base }, &linked)?;
        // A file with more names than its tree has would be a strange one to programs that count them: all is copied.
        steps::make_dir(&copied, 0o755)?;
        let [from, to] =
            [&linked, &copied].map(|dir| File::open(dir).map_err(EngineError::file("open", dir)));
        let (from, to) = (from?, to?);
        let (tar, into) = std::io::pipe().map_err(EngineError::file("make a pipe for", dir))?;
        std::thread::scope(|scope| {
            let packing = std::thread::Builder::new()
                .name("pack".to_owned())
                .spawn_scoped(scope, || {
                    pack(from.as_fd(), into, &PackOptions { tree: TreeKind::Upper, ..PackOptions::default() })
                })
                .map_err(EngineError::file("start a thread for", dir))?;
            let unpacked = unpack(tar, to.as_fd(), &Limits::default());
            let packed = packing.join();
            // A reader that stopped is why the writer could not go on.
            unpacked?;
            packed
                .map_err(|_| EngineError::Invalid("the thread that reads the layers failed".to_owned()))??;
            Ok::<(), EngineError>(())
        })?;
        adopt(transaction, &copied, None)
    }

    /// Runs a program of a build to its end. `news` gets what it writes, as it writes it. Only a process of one thread can do this.
    ///
    /// # Errors
    /// What it needs is not there, or it cannot be executed.
    pub fn run_step(
        &self,
        request: StepRequest,
        news: &mut dyn FnMut(StepNews<'_>),
    ) -> Result<StepRun, EngineError> {
        steps::run(&self.paths, request, news)
    }

    /// Starts a program of a build that the caller attaches to: the socket of its monitor. It is not kept what such a program changes.
    ///
    /// # Errors
    /// What it needs is not there, or it cannot be executed.
    pub fn open_step(&self, request: StepRequest, size: Option<(u16, u16)>) -> Result<OwnedFd, EngineError> {
        steps::open(&self.paths, request, size)
    }

    /// Waits until the programs of a build that works in this directory have ended, once those who started them are gone.
    pub fn await_steps(&self, build: &Path) {
        steps::await_end(&self.paths, build);
    }

    /// Who `owner`, as `--chown` has it, is in a tree: user and group. A number without a group stands for that group too.
    ///
    /// # Errors
    /// The tree has no such name.
    pub fn owner_in(&self, root: BorrowedFd<'_>, owner: &str) -> Result<(u32, u32), EngineError> {
        let user = user::lookup(root, owner, &[])?;
        let gid = owner.parse::<u32>().unwrap_or(user.gid);
        Ok((user.uid, gid))
    }

    /// Where builds keep what they need again.
    pub fn build_dir(&self) -> PathBuf {
        self.paths.build()
    }

    /// Where a build keeps what no disk is to have: in memory, where `/run` is. It is gone when the host goes down.
    pub fn live_build_dir(&self) -> PathBuf {
        self.paths.live_build()
    }
}
