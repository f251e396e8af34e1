//! A container's tree as `cp` sees it: its root with its volumes, binds and tmpfs mounts, running or not, and without what the engine
//! mounts for its programs (/proc, /sys, /dev), as with Docker. It is put together in a mount namespace of its own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rbox_runtime::map_ids;
use rbox_runtime::rootfs::tree::mount_target;
use rbox_spec::idmap::{IdMap, IdRange};
use rbox_spec::mount::{MountKind, MountSpec, Recursive};
use rbox_spec::user::ResolvedUser;
use rbox_spec::userns::IdMaps;
use rbox_sys::file::open_in_root;
use rbox_sys::mount::{Attr, attach, clone_tree, id_of, is_mount_root, make_all_slave, set_attributes};
use rbox_sys::process::{self, CloneFlags};
use rbox_sys::{SysError, trace};
use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::mount::MountPropagationFlags;

use crate::containers::image_trees;
use crate::containers::running::pidfd;
use crate::copy::tree::{Access, Unstarted, access};
use crate::error::EngineError;
use crate::monitor::launch::{NETWORK_FILES, make_stage, ready_volumes};
use crate::oci::user;
use crate::record::container::{Container, ContainerRecord};
use crate::record::paths::Paths;

/// The tree.
pub(crate) struct View<'a> {
    /// Its root, with what is mounted in it.
    pub(crate) root: OwnedFd,
    pub(crate) record: ContainerRecord,
    /// It is seen as a container sees it that runs in a user namespace: the owners of its files are those that its users are on the host.
    is_mapped: bool,
    /// The mount namespace it is in: the mounts go with it.
    namespace: OwnedFd,
    /// Last: what keeps it from being started goes after the mounts.
    #[allow(dead_code, reason = "it is held")]
    held: Option<Unstarted<'a>>,
}

/// A detached mount, and where in the container it belongs.
struct Piece {
    mount: OwnedFd,
    target: PathBuf,
    /// A running container has its mount points already.
    is_live: bool,
}

impl<'a> View<'a> {
    /// Opens it. Nothing of the container runs for that.
    pub(crate) fn open(paths: &'a Paths, container: &Container) -> Result<Self, EngineError> {
        match access(paths, container)? {
            Access::Running(now) => {
                let process = pidfd(&now)?;
                let targets = targets(&now.record);
                let (tree, pieces) = in_a_thread(move || live_pieces(&process, &targets))?;
                let stage = make_stage(&paths.live_of(&now.record.id))?;
                let (root, namespace) = in_a_thread(move || put_together(&tree, &stage, &pieces))?;
                let is_mapped = now.record.host.id_maps.is_some();
                Ok(Self { root, record: now.record, is_mapped, namespace, held: None })
            }
            Access::Held(record, lock) => {
                let held = Unstarted::new(paths, &record.id, lock);
                let tree = held.mount(&record)?;
                let volumes = ready_volumes(paths, &record, tree.as_fd())?;
                let stage = make_stage(&paths.live_of(&record.id))?;
                let pieces = pieces(paths, &record, tree.as_fd(), &volumes, &stage)?;
                let (root, namespace) = in_a_thread(move || put_together(&tree, &stage, &pieces))?;
                // On disk all is owned as without a user namespace.
                Ok(Self { root, record: *record, is_mapped: false, namespace, held: Some(held) })
            }
        }
    }

    /// Does something in the namespace of the view. Whoever removes what is mounted on elsewhere takes the mount away with it, from the
    /// container too; here the kernel refuses it.
    pub(crate) fn within<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, EngineError> + Send,
    ) -> Result<T, EngineError> {
        let inside = || {
            process::unshare(CloneFlags::CLONE_FS)?;
            process::join_namespaces(&self.namespace, CloneFlags::CLONE_NEWNS)?;
            if let Some(maps) = self.maps() {
                let (uid, gid) = maps.root();
                rbox_runtime::security::capabilities::act_as(uid, gid)?;
            }
            work()
        };
        std::thread::scope(|scope| {
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whom the owners of its files are inside of it, when they are others there.
    pub(crate) fn maps(&self) -> Option<&IdMaps> {
        self.ids().filter(|_| self.is_mapped)
    }

    /// The ids of the container, if it has a user namespace.
    pub(crate) fn ids(&self) -> Option<&IdMaps> {
        self.record.host.id_maps.as_ref()
    }

    /// Refuses what is mounted read-only, in Docker's words.
    pub(crate) fn check_writable(&self, place: &OwnedFd) -> Result<(), EngineError> {
        let on_root = id_of(place)? == id_of(&self.root)?;
        let stat =
            rustix::fs::fstatvfs(place).map_err(|errno| SysError::new("fstatfs", trace::fd(place), errno))?;
        let read_only = stat.f_flag.contains(StatVfsMountFlags::RDONLY);
        let refused = |what: &str| Err(EngineError::Conflict(format!("{what} is marked read-only")));
        match (on_root, read_only) {
            (true, true) => refused("container rootfs"),
            (true, false) if self.record.host.read_only => refused("container rootfs"),
            (false, true) => refused("mounted volume"),
            _ => Ok(()),
        }
    }
}

/// A thread can enter mount namespaces, and parts from this process's root and working directory for that.
fn in_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    std::thread::spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Where the user and the engine have mounted something that belongs to the container's files, those above others first.
fn targets(record: &ContainerRecord) -> Vec<PathBuf> {
    let asked = record.host.mounts.iter().map(|mount| PathBuf::from(&mount.target));
    let given = NETWORK_FILES.iter().map(|(target, _)| PathBuf::from(target));
    let files = record.host.files.iter().map(|file| PathBuf::from(&file.target));
    let mut all: Vec<PathBuf> = asked.chain(given).chain(files).collect();
    all.sort_by_key(|target| target.components().count());
    all
}

/// Copies of the root's mount alone and of those at `targets`, made in the container's mount namespace: nowhere else can they be.
fn live_pieces(process: &OwnedFd, targets: &[PathBuf]) -> Result<(OwnedFd, Vec<Piece>), EngineError> {
    process::unshare(CloneFlags::CLONE_FS)?;
    process::join_namespaces(process, CloneFlags::CLONE_NEWNS)?;
    let root = open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
    let tree = clone_tree(CWD, Path::new("/"), false)?;
    let mut pieces = Vec::new();
    for target in targets {
        // Programs of the container may have taken it away.
        let Ok(there) = open_in_root(&root, target, OFlags::PATH, 0) else { continue };
        if is_mount_root(&there)? && id_of(&there)? != id_of(&root)? {
            let mount = clone_tree(&there, Path::new(""), true)?;
            let none = Attr::empty();
            set_attributes(&mount, none, none, MountPropagationFlags::PRIVATE, true)?;
            pieces.push(Piece { mount, target: target.clone(), is_live: true });
        }
    }
    Ok((tree, pieces))
}

/// What is mounted in one that does not run, those above others first. Memory is not: it would be gone with this.
fn pieces(
    paths: &Paths,
    record: &ContainerRecord,
    tree: BorrowedFd<'_>,
    volumes: &[(String, PathBuf)],
    stage: &Path,
) -> Result<Vec<Piece>, EngineError> {
    let mut pieces = Vec::new();
    let maps = |mount: &MountSpec| matches!(mount.kind, MountKind::Bind { idmap: Some(_), .. });
    let user = if record.host.mounts.iter().any(maps) {
        user::lookup(tree, &record.config.user, &record.host.group_add)?
    } else {
        ResolvedUser::default()
    };
    for (target, file) in NETWORK_FILES {
        let source = paths.given_file(&record.id, file);
        if source.exists() && !record.host.mounts.iter().any(|mount| mount.target == target) {
            let mount = detached(clone_tree(CWD, &source, true)?, record.host.read_only, true)?;
            pieces.push(Piece { mount, target: target.into(), is_live: false });
        }
    }
    for mount in &record.host.mounts {
        if let Some(copy) = piece(mount, volumes, &user, record.host.id_maps.as_ref(), stage)? {
            pieces.push(Piece { mount: copy, target: (&mount.target).into(), is_live: false });
        }
    }
    pieces.sort_by_key(|piece| piece.target.components().count());
    Ok(pieces)
}

fn piece(
    spec: &MountSpec,
    volumes: &[(String, PathBuf)],
    user: &ResolvedUser,
    maps: Option<&IdMaps>,
    stage: &Path,
) -> Result<Option<OwnedFd>, EngineError> {
    let missing = |source: &Path, error: SysError| match error.errno {
        Errno::ENOENT => {
            EngineError::Conflict(format!("bind source path does not exist: {}", source.display()))
        }
        _ => error.into(),
    };
    match &spec.kind {
        MountKind::Bind { source, recursive, idmap, .. } => {
            let source = Path::new(source);
            let copy = clone_tree(CWD, source, *recursive != Recursive::Disabled)
                .map_err(|error| missing(source, error))?;
            if let Some(map) = idmap {
                let user = (user.uid, user.gid);
                map_ids(copy.as_fd(), source, map, user, *recursive != Recursive::Disabled)?;
            }
            // All else is owned on disk as inside. Where ids cannot be mapped, files show whose they are on the host, and none is made.
            let is_foreign = maps.is_some_and(|maps| {
                let recursive = *recursive != Recursive::Disabled;
                *maps != IdMaps::same()
                    && map_ids(copy.as_fd(), source, &as_inside(maps), (0, 0), recursive).is_err()
            });
            let recursive = is_foreign || *recursive != Recursive::Writable;
            Ok(Some(detached(copy, spec.read_only || is_foreign, recursive)?))
        }
        MountKind::Volume { subpath, .. } => {
            let Some((_, source)) = volumes.iter().find(|(target, _)| *target == spec.target) else {
                return Ok(None);
            };
            // Containers may have written there.
            let base = open(source, OFlags::PATH | OFlags::DIRECTORY)?;
            let below = Path::new(if subpath.is_empty() { "." } else { subpath });
            let place = open_in_root(&base, below, OFlags::PATH, 0)
                .map_err(|error| missing(&source.join(below), error))?;
            Ok(Some(detached(clone_tree(&place, Path::new(""), true)?, spec.read_only, true)?))
        }
        MountKind::Image { .. } => image_trees::tree(spec, stage),
        MountKind::Tmpfs { .. } => Ok(None),
    }
}

/// The owners on the host as those that they are inside.
fn as_inside(maps: &IdMaps) -> IdMap {
    let turned = |ranges: &[IdRange]| {
        ranges
            .iter()
            .map(|range| IdRange { disk: range.seen, seen: range.disk, count: range.count })
            .collect()
    };
    IdMap::Given { uids: turned(&maps.uids), gids: turned(&maps.gids) }
}

/// Parts a copy from the mounts it was made of, and makes it read-only.
fn detached(copy: OwnedFd, read_only: bool, recursive: bool) -> Result<OwnedFd, EngineError> {
    let none = Attr::empty();
    set_attributes(&copy, none, none, MountPropagationFlags::PRIVATE, true)?;
    if read_only {
        let unchanged = MountPropagationFlags::empty();
        set_attributes(&copy, Attr::MOUNT_ATTR_RDONLY, none, unchanged, recursive)?;
    }
    Ok(copy)
}

fn open(path: &Path, how: OFlags) -> Result<OwnedFd, SysError> {
    rustix::fs::open(path, how | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| SysError::new("open", trace::quoted(path), errno))
}

/// Mounts all of it in a namespace of its own, which goes with the two descriptors: a kill leaves nothing.
fn put_together(tree: &OwnedFd, stage: &Path, pieces: &[Piece]) -> Result<(OwnedFd, OwnedFd), EngineError> {
    process::unshare(CloneFlags::CLONE_NEWNS)?;
    make_all_slave()?;
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    attach(tree, open(stage, directory)?)?;
    let root = open(stage, directory)?;
    for piece in pieces {
        let stat = rustix::fs::fstat(&piece.mount)
            .map_err(|errno| SysError::new("fstat", trace::fd(&piece.mount), errno))?;
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        match mount_target(&root, &piece.target, is_dir) {
            Ok(target) => attach(&piece.mount, target)?,
            // Its mount point is in what is not part of this (`/dev`), or was moved away.
            Err(_) if piece.is_live => {}
            Err(error) => return Err(error.into()),
        }
    }
    let namespace = open(Path::new("/proc/thread-self/ns/mnt"), OFlags::RDONLY)?;
    Ok((root, namespace))
}
