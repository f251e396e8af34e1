//! Full disks, and mounts that a container's user cannot use.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rbox_spec::Capability;
use rbox_spec::mount::{MountKind, MountSpec};
use rbox_spec::user::ResolvedUser;
use rbox_sys::file::open_in_root;
use rustix::fs::{OFlags, StatVfs, StatVfsMountFlags};

use crate::containers::quota;
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
    for target in targets.chain(["/dev/shm"]) {
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
    if user.uid == 0 && passes_over_modes(record) {
        return Vec::new();
    }
    record.host.mounts.iter().filter_map(|mount| denied_in(paths, mount, user)).collect()
}

fn passes_over_modes(record: &ContainerRecord) -> bool {
    capabilities(record).is_ok_and(|set| set.contains(Capability::DacOverride))
}

fn denied_in(paths: &Paths, mount: &MountSpec, user: &ResolvedUser) -> Option<Cause> {
    let path = source(paths, mount)?;
    let meta = std::fs::metadata(&path).ok()?;
    let may = permitted(meta.mode(), (meta.uid(), meta.gid()), user);
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
        owner: meta.uid(),
        group: meta.gid(),
        mode: format!("{:04o}", meta.mode() & 0o7777),
        wanted,
    })
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
