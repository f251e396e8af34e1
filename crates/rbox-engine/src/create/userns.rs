//! The ids of a container with a user namespace of its own: chosen when it is made, and its own until it is removed.

use std::fs::File;
use std::path::Path;

use rbox_spec::container::{HostConfig, IpcMode, NetworkMode, PidMode};
use rbox_spec::id::ContainerId;
use rbox_spec::idmap::IdRange;
use rbox_spec::mount::MountKind;
use rbox_spec::userns::{IdFlags, IdMaps, UsernsMode, free, is_all, stacked, subordinate};
use rbox_sys::lock::{self, How, Patience};
use rbox_sys::{durable, own};
use serde::{Deserialize, Serialize};

use crate::containers::find;
use crate::create::check::invalid;
use crate::error::EngineError;
use crate::oci::user;
use crate::record::container::{Container, ContainerRecord, lasting};
use crate::record::file::RecordError;
use crate::record::paths::{IDS, Paths};
use crate::settings::Settings;
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

/// The ids that a container has, in a file beside its record.
#[derive(Debug, Serialize, Deserialize)]
struct Ids {
    /// `auto` gave them, to nobody else.
    auto: bool,
    #[serde(flatten)]
    maps: IdMaps,
}

/// Whether it has a user namespace because the configuration file says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByDefault(bool);

impl ByDefault {
    /// Adds where it comes from to what is wrong with it.
    pub(crate) fn explain(self, error: EngineError) -> EngineError {
        match error {
            EngineError::Invalid(why) if self.0 => EngineError::Invalid(format!(
                "{why} (the default of --userns in config.json; --userns host goes without)"
            )),
            other => other,
        }
    }
}

/// Takes what the configuration file says where nothing is said of user namespaces.
pub(crate) fn add_default(host: &mut HostConfig) -> Result<ByDefault, EngineError> {
    if !host.userns.is_empty() || host.id_flags != IdFlags::default() {
        return Ok(ByDefault(false));
    }
    let settings = Settings::load()?;
    let Some(mode) = settings.userns() else { return Ok(ByDefault(false)) };
    mode.clone_into(&mut host.userns);
    Ok(ByDefault(true))
}

/// Chooses the ids, if it is to have a user namespace.
pub(crate) fn resolve(paths: &Paths, record: &mut ContainerRecord) -> Result<Option<Turn>, EngineError> {
    let host = &record.host;
    let mode = UsernsMode::parse(&host.userns, &host.id_flags).map_err(invalid)?;
    if mode == UsernsMode::Host {
        return Ok(None);
    }
    refuse_shared(host)?;
    let turn = take_turn(paths)?;
    let taken = taken(paths)?;
    let maps = match mode {
        UsernsMode::Host => return Ok(None),
        UsernsMode::KeepId => IdMaps::same(),
        UsernsMode::Private => host.id_flags.maps().map_err(invalid)?,
        UsernsMode::Remap { user, group } => remapped(&user, &group)?,
        UsernsMode::Auto { size } => automatic(&taken, size)?,
    };
    refuse_taken(&maps, &taken)?;
    user::check_numbers(record, &maps)?;
    record.host.id_maps = Some(maps);
    check_mounts(&record.host)?;
    Ok(Some(turn))
}

/// Writes what ids a container has into its directory, if it has a user namespace.
pub(crate) fn write_ids(dir: &Path, host: &HostConfig) -> Result<(), EngineError> {
    let Some(maps) = &host.id_maps else { return Ok(()) };
    let path = dir.join(IDS);
    let ids = Ids { auto: is_auto(host), maps: maps.clone() };
    let text = serde_json::to_vec(&ids).map_err(|error| RecordError::format(&path, error))?;
    durable::write_new(&path, &text, lasting(host)).map_err(EngineError::file("write", path))
}

fn is_auto(host: &HostConfig) -> bool {
    matches!(UsernsMode::parse(&host.userns, &host.id_flags), Ok(UsernsMode::Auto { .. }))
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

/// All that the files give to a user and a group.
fn remapped(user: &str, group: &str) -> Result<IdMaps, EngineError> {
    let maps = IdMaps { uids: stacked(&given(SUBUID, user)?), gids: stacked(&given(SUBGID, group)?) };
    maps.check().map_err(|error| {
        EngineError::Invalid(format!(
            "user namespace: what {SUBUID} gives to \"{user}\" and {SUBGID} to \"{group}\" is no map: {error}"
        ))
    })?;
    Ok(maps)
}

/// As many ids in a row as are asked for, which no other container has.
fn automatic(taken: &[Taken], size: u32) -> Result<IdMaps, EngineError> {
    let one = |file, of: fn(&IdMaps) -> &Vec<IdRange>| {
        // Identical ids of `keep-id` exclude nobody's.
        let taken: Vec<IdRange> =
            taken.iter().flat_map(|one| of(&one.ids.maps)).filter(|range| !is_all(range)).copied().collect();
        let range = free(&given(file, OWNER)?, &taken, size).ok_or_else(|| {
            EngineError::Conflict(format!(
                "--userns auto: {file} has no {size} ids in a row for {OWNER} that no container has: remove containers, or give it more"
            ))
        })?;
        Ok::<_, EngineError>(vec![range])
    };
    Ok(IdMaps { uids: one(SUBUID, |maps| &maps.uids)?, gids: one(SUBGID, |maps| &maps.gids)? })
}

/// Refuses ids that `auto` has given to another container: it was promised to be alone with them.
fn refuse_taken(maps: &IdMaps, taken: &[Taken]) -> Result<(), EngineError> {
    for other in taken.iter().filter(|other| other.ids.auto) {
        if let Some(id) = maps.meets(&other.ids.maps) {
            return Err(EngineError::Conflict(format!(
                "user namespace: id {id} of the host belongs to container {} alone (--userns auto): give others, or remove it",
                other.id.short()
            )));
        }
    }
    Ok(())
}

/// The ids that a file gives to `owner`.
fn given(file: &'static str, owner: &str) -> Result<Vec<(u32, u32)>, EngineError> {
    let text = match own::read(Path::new(file), 1 << 20) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
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

/// A container that has ids.
struct Taken {
    id: ContainerId,
    ids: Ids,
}

/// Those of all containers there are. A record that cannot be read hides none: they stand beside it.
fn taken(paths: &Paths) -> Result<Vec<Taken>, EngineError> {
    let mut taken = Vec::new();
    for id in find::ids(paths)? {
        let path = paths.container(&id).join(IDS);
        let ids = match own::read(&path, 1 << 20) {
            // It has none, or was made before there was the file.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => of_record(paths, &id).unwrap_or(None),
            Ok(text) if let Ok(ids) = rbox_spec::json::from_slice(&text) => Some(ids),
            // Either of the two is enough.
            _ => of_record(paths, &id).map_err(|_| {
                EngineError::Conflict(format!(
                    "user namespace: the ids of container {} are not known: neither {} nor its record can be read: 'rbox rm -f' it",
                    id.short(),
                    path.display()
                ))
            })?,
        };
        taken.extend(ids.map(|ids| Taken { id, ids }));
    }
    Ok(taken)
}

/// Those in a record.
fn of_record(paths: &Paths, id: &ContainerId) -> Result<Option<Ids>, EngineError> {
    let Some(found) = Container::read_whole(paths, id)? else { return Ok(None) };
    let host = found.record.host;
    let auto = is_auto(&host);
    Ok(host.id_maps.map(|maps| Ids { auto, maps }))
}
