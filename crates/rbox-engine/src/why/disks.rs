//! Full disks, and mounts that a container's user cannot use.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rbox_spec::Capability;
use rbox_spec::container::IpcMode;
use rbox_spec::idmap::IdRange;
use rbox_spec::mount::{MountKind, MountSpec};
use rbox_spec::user::ResolvedUser;
use rbox_spec::userns::IdMaps;
use rbox_sys::file::open_in_root;
use rustix::fs::{OFlags, StatVfs, StatVfsMountFlags};

use crate::containers::quota;
use crate::containers::running::live_root;
use crate::copy::view::View;
use crate::oci::security::capabilities;
use crate::record::container::ContainerRecord;
use crate::record::paths::Paths;
use crate::volume::store::VolumeStore;
use crate::why::cause::Cause;

/// The file systems that it writes to and that are full: its own changes and log, its mounts, and with a view its memory.
pub(super) fn full(paths: &Paths, record: &ContainerRecord, view: Option<&View<'_>>) -> Vec<Cause> {
    let mut all: Vec<Cause> = own_limit(paths, record).into_iter().collect();
    let mut seen = Vec::new();
    let of_mounts =
        record.host.mounts.iter().filter(|mount| !mount.read_only).filter_map(|mount| source(paths, mount));
    for path in std::iter::once(paths.container(&record.id)).chain(of_mounts) {
        let Ok(device) = std::fs::metadata(&path).map(|meta| meta.dev()) else { continue };
        let Ok(stat) = rustix::fs::statvfs(&path) else { continue };
        if !seen.contains(&device) {
            seen.push(device);
            all.extend(fault(&stat, &path.display().to_string(), false));
        }
    }
    let memory = |mount: &&MountSpec| matches!(mount.kind, MountKind::Tmpfs { .. }) && !mount.read_only;
    let targets = record.host.mounts.iter().filter(memory).map(|mount| mount.target.as_str());
    for target in targets {
        let Some(view) = view else { continue };
        let Ok(place) = open_in_root(&view.root, Path::new(target), OFlags::PATH, 0) else { continue };
        let Ok(stat) = rustix::fs::fstatvfs(&place) else { continue };
        all.extend(fault(&stat, target, true));
    }
    all
}

/// The limit of its own layer, when what it has written comes to that.
fn own_limit(paths: &Paths, record: &ContainerRecord) -> Option<Cause> {
    let usage = quota::usage(paths, record)?;
    let free = usage.limit.saturating_sub(usage.bytes);
    (free <= almost_none(usage.limit)).then_some(Cause::OwnLimit { limit: usage.limit, used: usage.bytes })
}

/// With so few bytes free of so many there are none to speak of.
fn almost_none(total: u64) -> u64 {
    (total / 200).min(1 << 20)
}

/// The shared memory of a container that runs, if that is full: its view has what its record names only.
pub(super) fn full_shm(record: &ContainerRecord, pid: i32) -> Option<Cause> {
    const SHM: &str = "/dev/shm";
    // That of the host, or of another container, is not its own.
    if record.host.ipc == IpcMode::Host || matches!(record.host.ipc, IpcMode::Container(_)) {
        return None;
    }
    let root = live_root(pid).ok()?;
    let place = open_in_root(&root, Path::new(SHM), OFlags::PATH, 0).ok()?;
    fault(&rustix::fs::fstatvfs(&place).ok()?, SHM, true)
}

fn fault(stat: &StatVfs, path: &str, is_inside: bool) -> Option<Cause> {
    if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return None;
    }
    let (total, free) =
        (stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize));
    let no_inodes = stat.f_files > 0 && stat.f_favail == 0;
    let is_full = total > 0 && free <= almost_none(total);
    (no_inodes || is_full).then(|| Cause::FullDisk {
        path: path.to_owned(),
        is_inside,
        no_inodes: no_inodes && !is_full,
    })
}

/// What is mounted, as a path of the host.
fn source(paths: &Paths, mount: &MountSpec) -> Option<PathBuf> {
    match &mount.kind {
        MountKind::Bind { source, .. } => Some(source.into()),
        MountKind::Volume { name: Some(name), subpath, .. } => {
            let volume = VolumeStore::of(paths).get(name).ok()??;
            // A part of it is the container's to lead elsewhere.
            subpath.is_empty().then_some(volume.mountpoint)
        }
        _ => None,
    }
}

/// The mounts that a user may not read, or not write although they are writable.
pub(super) fn denied(paths: &Paths, record: &ContainerRecord, user: &ResolvedUser) -> Vec<Cause> {
    let is_free = user.uid == 0 && passes_over_modes(record);
    let maps = record.host.id_maps.as_ref();
    let all = record.host.mounts.iter().filter_map(|mount| {
        // A bind has the host's ids, and of a user namespace root may what it likes with those only that are in it.
        let maps = maps.filter(|_| matches!(mount.kind, MountKind::Bind { idmap: None, .. }));
        denied_in(paths, mount, (user, is_free), maps)
    });
    all.collect()
}

fn passes_over_modes(record: &ContainerRecord) -> bool {
    capabilities(record).is_ok_and(|set| set.contains(Capability::DacOverride))
}

fn denied_in(
    paths: &Paths,
    mount: &MountSpec,
    (user, is_free): (&ResolvedUser, bool),
    maps: Option<&IdMaps>,
) -> Option<Cause> {
    let path = source(paths, mount)?;
    let meta = std::fs::metadata(&path).ok()?;
    let outside = maps.map(|maps| seen_by_host(user, maps));
    let is_theirs = maps.is_none_or(|maps| is_in(&maps.uids, meta.uid()) && is_in(&maps.gids, meta.gid()));
    if is_free && is_theirs {
        return None;
    }
    let may = permitted(meta.mode(), (meta.uid(), meta.gid()), outside.as_ref().unwrap_or(user));
    let reads = if meta.is_dir() { 0o5 } else { 0o4 };
    let wanted = if may & reads != reads {
        "read"
    } else if !mount.read_only && may & 0o2 == 0 {
        "write"
    } else {
        return None;
    };
    Some(Cause::MountDenied {
        target: mount.target.clone(),
        source: path.display().to_string(),
        uid: user.uid,
        gid: user.gid,
        outside: outside.map(|user| (user.uid, user.gid)),
        owner: meta.uid(),
        group: meta.gid(),
        mode: format!("{:04o}", meta.mode() & 0o7777),
        wanted,
    })
}

/// A user of a container with a user namespace, by the host's ids.
fn seen_by_host(user: &ResolvedUser, maps: &IdMaps) -> ResolvedUser {
    let of = |ranges: &[IdRange], id: u32| {
        let range = ranges.iter().find(|range| id >= range.disk && id - range.disk < range.count);
        // Nobody: the container has no such user, and could not be started with it.
        range.map_or(65534, |range| range.seen + (id - range.disk))
    };
    ResolvedUser {
        uid: of(&maps.uids, user.uid),
        gid: of(&maps.gids, user.gid),
        supplementary: user.supplementary.iter().map(|id| of(&maps.gids, *id)).collect(),
        ..user.clone()
    }
}

/// Whether an id of the host's is one of these.
fn is_in(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id >= range.seen && id - range.seen < range.count)
}

/// The three bits of a mode that hold for a user without capabilities.
pub(super) fn permitted(mode: u32, (owner, group): (u32, u32), user: &ResolvedUser) -> u32 {
    let shift = if user.uid == owner {
        6
    } else if user.gid == group || user.supplementary.contains(&group) {
        3
    } else {
        0
    };
    mode >> shift & 0o7
}
