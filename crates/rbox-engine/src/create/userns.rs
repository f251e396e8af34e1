//! The ids of a container with a user namespace of its own: chosen when it is made, and its own until it is removed.

use std::fs::File;
use std::path::Path;

use rbox_spec::container::{HostConfig, IpcMode, NetworkMode, PidMode};
use rbox_spec::idmap::IdRange;
use rbox_spec::mount::MountKind;
use rbox_spec::userns::{IdMaps, UsernsMode, free, stacked, subordinate};
use rbox_sys::lock::{self, How, Patience};
use rbox_sys::own;

use crate::containers::find;
use crate::create::check::invalid;
use crate::error::EngineError;
use crate::record::container::Container;
use crate::record::paths::Paths;
use crate::volume::store::Volume;

const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";
/// Who has the ids that `auto` gives, as podman has it.
const OWNER: &str = "containers";

/// Nobody else chooses ids as long as this is kept: until the record is written that has them.
#[derive(Debug)]
pub(crate) struct Turn {
    _containers: File,
}

/// Chooses the ids, if it is to have a user namespace.
pub(crate) fn resolve(paths: &Paths, host: &mut HostConfig) -> Result<Option<Turn>, EngineError> {
    let mode = UsernsMode::parse(&host.userns, &host.id_flags).map_err(invalid)?;
    if mode == UsernsMode::Host {
        return Ok(None);
    }
    refuse_shared(host)?;
    let mut turn = None;
    host.id_maps = Some(match mode {
        UsernsMode::Host => return Ok(None),
        UsernsMode::KeepId => IdMaps::same(),
        UsernsMode::Private => host.id_flags.maps().map_err(invalid)?,
        UsernsMode::Remap { user, group } => {
            IdMaps { uids: stacked(&given(SUBUID, &user)?), gids: stacked(&given(SUBGID, &group)?) }
        }
        UsernsMode::Auto { size } => {
            let (uids, gids) = (given(SUBUID, OWNER)?, given(SUBGID, OWNER)?);
            turn = Some(take_turn(paths)?);
            let taken = taken(paths)?;
            let one = |file, given: &[(u32, u32)], taken: &[IdRange]| {
                let range = free(given, taken, size).ok_or_else(|| {
                    EngineError::Conflict(format!(
                        "--userns auto: {file} has no {size} ids in a row for {OWNER} that no container has: remove containers, or give it more"
                    ))
                })?;
                Ok::<_, EngineError>(vec![range])
            };
            IdMaps { uids: one(SUBUID, &uids, &taken.uids)?, gids: one(SUBGID, &gids, &taken.gids)? }
        }
    });
    check_mounts(host)?;
    Ok(turn)
}

/// What cannot be mounted where the container has a user namespace: whoever is root in there would have other users' files, too.
pub(crate) fn check_mounts(host: &HostConfig) -> Result<(), EngineError> {
    if host.id_maps.is_none() {
        return Ok(());
    }
    let conflict = |what: String, why: &str| {
        Err(EngineError::Invalid(format!(
            "conflicting options: {what} and a user namespace of its own: {why}"
        )))
    };
    for mount in &host.mounts {
        match &mount.kind {
            MountKind::Bind { source, idmap: Some(_), .. } => {
                let why = "its root could do as it likes with all that is mapped: take idmap out, or give the directory to an id of the container's";
                return conflict(format!("idmap of {source}"), why);
            }
            MountKind::Image { name, .. } => {
                return conflict(
                    format!("mount of image {name}"),
                    "its files have the owners that they have on the host",
                );
            }
            MountKind::Volume { name, options, .. } if !options.is_empty() => {
                let name = name.as_ref().map_or("volume", |name| name.as_str());
                return conflict(format!("volume {name} with options"), NOT_OURS);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a volume that is no directory of ours to a container with a user namespace.
pub(crate) fn check_volume(host: &HostConfig, volume: &Volume) -> Result<(), EngineError> {
    if host.id_maps.is_some() && volume.has_file_system() {
        return Err(EngineError::Invalid(format!(
            "volume {} has options, and the container a user namespace of its own: {NOT_OURS}",
            volume.name
        )));
    }
    Ok(())
}

const NOT_OURS: &str = "what it mounts may be anybody's, whose owners the container's root must not become";

/// What needs the host's own user namespace: Docker's words, where it has some.
fn refuse_shared(host: &HostConfig) -> Result<(), EngineError> {
    let why = if host.privileged {
        "privileged mode is incompatible with user namespaces: run the container with --userns host"
    } else if host.pid == PidMode::Host {
        "cannot share the host PID namespace when user namespaces are enabled"
    } else if host.network == NetworkMode::Host {
        "cannot share the host's network namespace when user namespaces are enabled"
    } else if host.ipc == IpcMode::Host {
        "cannot share the host's IPC namespace when user namespaces are enabled"
    } else if host.cgroupns_host {
        "cannot share the host's cgroup namespace when user namespaces are enabled"
    } else if matches!(host.pid, PidMode::Container(_))
        || matches!(host.ipc, IpcMode::Container(_))
        || matches!(host.network, NetworkMode::Container(_))
    {
        "cannot join namespaces of another container when user namespaces are enabled: they belong to that one's"
    } else {
        return Ok(());
    };
    Err(EngineError::Invalid(why.to_owned()))
}

/// The ids that a file gives to `owner`.
fn given(file: &'static str, owner: &str) -> Result<Vec<(u32, u32)>, EngineError> {
    let text = match own::read_text(Path::new(file)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.map_err(EngineError::file("read", file))?,
    };
    let given = subordinate(&text, owner);
    if given.is_empty() {
        return Err(EngineError::Invalid(format!(
            "user namespace: {file} has no ids for \"{owner}\": add a line such as '{owner}:2147483647:2147483648'"
        )));
    }
    Ok(given)
}

fn take_turn(paths: &Paths) -> Result<Turn, EngineError> {
    let dir = paths.containers();
    own::make_private(&dir).map_err(EngineError::file("make directory", &dir))?;
    let file = File::open(&dir).map_err(EngineError::file("open", &dir))?;
    lock::take(&file, How::Exclusive, Patience::MOMENT).map_err(EngineError::file("lock", &dir))?;
    Ok(Turn { _containers: file })
}

/// The ids of all containers there are. One whose record cannot be read may have any.
fn taken(paths: &Paths) -> Result<IdMaps, EngineError> {
    let mut taken = IdMaps::default();
    for id in find::ids(paths)? {
        let found = Container::read_whole(paths, &id).map_err(|error| {
            EngineError::Conflict(format!(
                "--userns auto: the ids of container {} are not known: {error}; mend it, or 'rbox rm -f' it",
                id.short()
            ))
        })?;
        if let Some(maps) = found.and_then(|found| found.record.host.id_maps) {
            taken.uids.extend(maps.uids);
            taken.gids.extend(maps.gids);
        }
    }
    // Identical ids of `keep-id` exclude nobody's.
    let whole = |range: &IdRange| range.count == u32::MAX;
    taken.uids.retain(|range| !whole(range));
    taken.gids.retain(|range| !whole(range));
    Ok(taken)
}
