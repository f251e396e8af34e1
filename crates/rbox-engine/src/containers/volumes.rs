//! The volumes of containers: who mounts what, and the anonymous ones that come and go with their container.

use rbox_spec::VolumeName;
use rbox_spec::mount::{GivenBy, MountKind};
use rbox_sys::durable::Lasting;

use crate::containers::find;
use crate::record::container::ContainerRecord;
use crate::record::file::{MOST_BYTES, RecordError, read_json};
use crate::record::paths::Paths;
use crate::volume::store::{NewVolume, VolumeError, VolumeStore, VolumeUsers, random_name};

/// Reads all containers' records.
pub(crate) fn volume_users(paths: &Paths) -> Result<VolumeUsers, RecordError> {
    let mut users = VolumeUsers::default();
    for id in find::ids(paths)? {
        let path = paths.config(&id);
        match read_json::<ContainerRecord>(&path) {
            Ok(Some(record)) => {
                for (name, _) in volumes_of(&record) {
                    users.add(name, &id);
                }
            }
            Ok(None) => {}
            Err(_) => {
                let text = rbox_sys::own::read(&path, MOST_BYTES).unwrap_or_default();
                users.damaged.push((id.as_str().to_owned(), String::from_utf8_lossy(&text).into_owned()));
            }
        }
    }
    Ok(users)
}

/// The volumes of a container, each with whether nobody named it.
pub(crate) fn volumes_of(record: &ContainerRecord) -> impl Iterator<Item = (&VolumeName, bool)> {
    record.host.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { name, anonymous, .. } => name.as_ref().map(|name| (name, *anonymous)),
        _ => None,
    })
}

/// Gives each anonymous volume of a record its name, so that the record says which is the container's.
pub(crate) fn name_anonymous(record: &mut ContainerRecord) -> Result<(), VolumeError> {
    for mount in &mut record.host.mounts {
        if let MountKind::Volume { name: name @ None, .. } = &mut mount.kind {
            *name = Some(random_name()?);
        }
    }
    Ok(())
}

/// What a mount's volume is made with, if there is none of its name.
pub(crate) fn new_volume(kind: &MountKind) -> NewVolume {
    match kind {
        MountKind::Volume { anonymous, labels, options, .. } => {
            NewVolume { anonymous: *anonymous, labels: labels.clone(), options: options.clone() }
        }
        _ => NewVolume::default(),
    }
}

/// Makes those of a container's volumes that are not there. Its record is on disk already.
pub(crate) fn ensure_all(paths: &Paths, record: &ContainerRecord) -> Result<(), VolumeError> {
    let store = VolumeStore::of(paths);
    let lasting = if record.host.auto_remove { Lasting::Later } else { Lasting::Now };
    for mount in &record.host.mounts {
        let MountKind::Volume { name: Some(name), .. } = &mount.kind else { continue };
        if mount.given_by == GivenBy::VolumesFrom {
            // Another container's: it went with that one if it is not there any more, and an empty one is not what was asked for.
            store.require(name)?;
        } else {
            store.ensure(name, &new_volume(&mount.kind), lasting)?;
        }
    }
    Ok(())
}

/// Removes the volumes that nobody named and that only this container, whose record is gone from the list, mounted.
/// Another container that mounts one by its long name keeps it. A failure does not keep the others from being removed.
pub(crate) fn remove_anonymous(paths: &Paths, record: &ContainerRecord) -> Result<(), VolumeError> {
    let store = VolumeStore::of(paths);
    let mut first_failure = Ok(());
    for (name, _) in volumes_of(record).filter(|(_, anonymous)| *anonymous) {
        match store.remove(name, &|| volume_users(paths)) {
            Ok(()) | Err(VolumeError::Missing(_) | VolumeError::InUse { .. }) => {}
            Err(error) => first_failure = first_failure.and(Err(error)),
        }
    }
    first_failure
}
