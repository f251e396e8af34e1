//! Mounts that come to a container that exists, or go: at once when it runs, and from then on.

use std::os::fd::AsFd;
use std::path::Path;

use rbox_spec::mount::{MountKind, MountSpec};
use rbox_spec::user::ResolvedUser;
use rbox_sys::durable::Lasting;

use crate::containers::{image_trees, running, volumes};
use crate::create::check::{check_files, check_mounts};
use crate::create::userns;
use crate::error::EngineError;
use crate::journal::{self, Happening, VolumeAction};
use crate::monitor::launch::make_stage;
use crate::oci::config::user_mount;
use crate::oci::user;
use crate::record::container::{Container, keep, lasting};
use crate::record::lock::Editing;
use crate::record::paths::Paths;
use crate::volume::holders;
use crate::volume::store::VolumeStore;

/// Mounts these, in this order. What was mounted before one that fails stays.
pub(crate) fn add(paths: &Paths, container: &Container, wanted: &[MountSpec]) -> Result<(), EngineError> {
    for (place, spec) in wanted.iter().enumerate() {
        if let Err(error) = add_one(paths, container, spec.clone()) {
            // All or none: who tries it again begins where this began.
            for added in wanted.iter().take(place).rev() {
                let _ = remove(paths, container, &added.target);
            }
            return Err(error);
        }
    }
    Ok(())
}

fn add_one(paths: &Paths, container: &Container, spec: MountSpec) -> Result<(), EngineError> {
    let id = &container.record.id;
    let _editing = Editing::begin(paths, id)?.ok_or_else(|| running::missing(container))?;
    let now = Container::read_whole(paths, id)?.ok_or_else(|| running::missing(container))?;
    running::refuse_restarting(&now)?;
    let mut record = now.record.clone();
    record.host.mounts.push(spec);
    userns::check_mounts(&record.host)?;
    let _mounted = image_trees::resolve(paths, &mut record.host)?;
    check_mounts(&record.host.mounts)?;
    check_files(&record.host)?;
    volumes::name_anonymous(&mut record)?;
    let Some(spec) = record.host.mounts.last().cloned() else { return Ok(()) };
    // With the record first: what is mounted by nobody's record would be there without anybody who knows why.
    let write = |record| keep(paths, &paths.config(id), record, lasting(&now.record.host));
    write(&record)?;
    let done = ready(paths, &now, &spec).and_then(|source| {
        let Some(source) = source else { return Ok(()) };
        let volumes = [(spec.target.clone(), source)];
        let user = user_of(&now)?;
        let maps = now.record.host.id_maps.as_ref();
        let mount = user_mount(&spec, &volumes, &user, maps)
            .map_err(|error| EngineError::Invalid(error.to_string()))?;
        let tree = image_trees::tree(&spec, &make_stage(&paths.live_of(id))?)?;
        let process = running::pidfd(&now)?;
        Ok(rbox_runtime::add_mount(process.as_fd(), &mount, tree.as_ref().map(AsFd::as_fd), maps)?)
    });
    if done.is_err() {
        write(&now.record)?;
        return done;
    }
    if let (MountKind::Volume { name: Some(name), .. }, true) = (&spec.kind, now.is_running()) {
        let action = VolumeAction::Mount { container: id, target: &spec.target, read_only: spec.read_only };
        journal::note(paths, &[Happening::Volume(name, action)]);
    }
    Ok(())
}

/// The user of a container that runs.
fn user_of(now: &Container) -> Result<ResolvedUser, EngineError> {
    let live = now.live.as_ref().ok_or_else(|| running::not_running(now))?;
    let root = running::live_root(live.pid)?;
    user::lookup(root.as_fd(), &now.record.config.user, &now.record.host.group_add)
}

/// Makes the source ready. Where it is, when the container runs; an empty path for memory.
fn ready(
    paths: &Paths,
    now: &Container,
    spec: &MountSpec,
) -> Result<Option<std::path::PathBuf>, EngineError> {
    let runs = now.is_running();
    match &spec.kind {
        MountKind::Volume { name: Some(name), .. } => {
            let new = volumes::new_volume(&spec.kind);
            let volume = VolumeStore::of(paths).ensure(name, &new, Lasting::Now)?;
            userns::check_volume(&now.record.host, &volume)?;
            if runs {
                holders::hold(paths, &volume, &now.record.id)?;
            }
            Ok(runs.then_some(volume.mountpoint))
        }
        MountKind::Bind { source, create, .. } => {
            if *create && !Path::new(source).exists() {
                std::fs::create_dir_all(source).map_err(EngineError::file("make directory", source))?;
            }
            Ok(runs.then(|| source.into()))
        }
        MountKind::Volume { .. } | MountKind::Image { .. } | MountKind::Tmpfs { .. } => {
            Ok(runs.then(std::path::PathBuf::new))
        }
    }
}

/// Takes away what is mounted on `target`. Data of volumes stays.
pub(crate) fn remove(paths: &Paths, container: &Container, target: &str) -> Result<(), EngineError> {
    let id = &container.record.id;
    let _editing = Editing::begin(paths, id)?.ok_or_else(|| running::missing(container))?;
    let now = Container::read_whole(paths, id)?.ok_or_else(|| running::missing(container))?;
    running::refuse_restarting(&now)?;
    let mut record = now.record.clone();
    let Some(at) = record.host.mounts.iter().position(|mount| mount.target == target) else {
        let name = &now.record.name;
        return Err(EngineError::Conflict(format!("container {name} has no mount on {target}")));
    };
    let gone = record.host.mounts.remove(at);
    // What a kill leaves between the two is in the record, and can be taken away again.
    if now.is_running() {
        let own_user = record.host.id_maps.is_some();
        rbox_runtime::remove_mount(running::pidfd(&now)?.as_fd(), Path::new(target), own_user)?;
    }
    keep(paths, &paths.config(id), &record, lasting(&record.host))?;
    if !now.is_running() {
        return Ok(());
    }
    if let MountKind::Volume { name: Some(name), .. } = &gone.kind {
        journal::note(paths, &[Happening::Volume(name, VolumeAction::Unmount(id))]);
    }
    Ok(())
}
