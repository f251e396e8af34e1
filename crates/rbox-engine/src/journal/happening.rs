//! What can happen, in the engine's types, and what of it an event says: Docker's names and attributes.

use std::collections::BTreeMap;
use std::time::Duration;

use rbox_network::{Endpoint, Network};
use rbox_spec::id::ContainerId;
use rbox_spec::mount::MountKind;
use rbox_spec::{ContainerName, VolumeName};

use crate::journal::message::{ActorType, Message};
use crate::record::container::ContainerRecord;
use crate::record::health::HealthStatus;

/// Something that has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening<'a> {
    /// To a container.
    Container(&'a ContainerRecord, ContainerAction<'a>),
    /// To an image.
    Image(ImageActor<'a>, ImageAction),
    /// To a volume.
    Volume(&'a VolumeName, VolumeAction<'a>),
    /// To a network.
    Network(NetworkActor<'a>, NetworkAction<'a>),
    /// All of a kind that nobody used were removed, and gave back that many bytes.
    Pruned(ActorType, u64),
}

/// An image as events name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageActor<'a> {
    /// Its id, or the name that it was pulled by.
    pub(crate) id: &'a str,
    /// The name that it is about, or its id again.
    pub(crate) name: &'a str,
    /// The image's labels; none of one that is gone.
    pub(crate) labels: Option<&'a Attributes>,
}

/// What happens to an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageAction {
    /// It was pulled.
    Pull,
    /// It was pushed.
    Push,
    /// It has a further name.
    Tag,
    /// It has lost a name.
    Untag,
    /// It is gone.
    Delete,
    /// It was read from an archive.
    Load,
    /// It was written to an archive.
    Save,
    /// It was made of a root file system.
    Import,
    /// It was made of a container.
    Create,
}

impl ImageAction {
    /// Docker's name for it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Tag => "tag",
            Self::Untag => "untag",
            Self::Delete => "delete",
            Self::Load => "load",
            Self::Save => "save",
            Self::Import => "import",
            Self::Create => "create",
        }
    }
}

/// A network as events name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetworkActor<'a> {
    /// Its id.
    pub(crate) id: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
    /// Its driver.
    pub(crate) driver: &'a str,
}

/// What happens to a network.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NetworkAction<'a> {
    /// It was made.
    Create,
    /// It is gone.
    Destroy,
    /// This container is on it.
    Connect(&'a ContainerId),
    /// This container is on it no more.
    Disconnect(&'a ContainerId),
}

/// What happens to a volume.
#[derive(Clone, Copy, Debug)]
pub(crate) enum VolumeAction<'a> {
    /// It was made.
    Create,
    /// It is gone.
    Destroy,
    /// A container mounts it.
    Mount {
        /// Which.
        container: &'a ContainerId,
        /// Where.
        target: &'a str,
        /// It cannot write to it.
        read_only: bool,
    },
    /// A container mounts it no more.
    Unmount(&'a ContainerId),
}

/// What happens to a container.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ContainerAction<'a> {
    /// It was made.
    Create,
    /// Somebody is attached to it.
    Attach,
    /// Somebody who was attached left it with the keys for that.
    Detach,
    /// Its program runs.
    Start,
    /// Memory ran out in it, and the kernel killed a process.
    Oom,
    /// Its program has ended.
    Die {
        /// Its exit code.
        exit_code: i32,
        /// How long it ran.
        ran: Duration,
    },
    /// It is sent this signal.
    Kill(i32),
    /// It was stopped: its program has ended because of that.
    Stop,
    /// It was stopped and started.
    Restart,
    /// It is frozen.
    Pause,
    /// It goes on.
    Unpause,
    /// It had this name before.
    Rename(&'a ContainerName),
    /// It has other limits, or another restart policy.
    Update,
    /// Its terminal has this many rows and columns.
    Resize(u16, u16),
    /// Its processes were listed.
    Top,
    /// Its file system was written as an archive.
    Export,
    /// An image was made of it.
    Commit {
        /// The image's id.
        image: &'a str,
        /// Its name; empty for none.
        reference: &'a str,
        /// The message that it was given.
        comment: &'a str,
    },
    /// Files were copied out of it.
    ArchivePath,
    /// Files were copied into it.
    ExtractToDir,
    /// It is gone.
    Destroy,
    /// A further process is to run in it.
    ExecCreate(Exec<'a>),
    /// That process is started.
    ExecStart(Exec<'a>),
    /// Somebody who was attached to that process left it.
    ExecDetach(&'a str),
    /// That process has ended.
    ExecDie {
        /// Which.
        id: &'a str,
        /// Its exit code.
        exit_code: i32,
    },
    /// Its health is another than before.
    Health(HealthStatus),
}

/// A further process in a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exec<'a> {
    /// Its id: 64 hex digits.
    pub(crate) id: &'a str,
    /// The command and its arguments.
    pub(crate) command: &'a [String],
}

type Attributes = BTreeMap<String, String>;

fn attributes<const N: usize>(pairs: [(&str, String); N]) -> Attributes {
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

impl Happening<'_> {
    /// It is about a container of a build, of which Docker tells nothing either.
    pub(super) const fn is_of_a_build(&self) -> bool {
        matches!(self, Self::Container(record, _) if record.build_step.is_some())
    }

    /// The event. Its time is set when it is written.
    pub(super) fn message(&self) -> Message {
        let (actor_type, action, id, attributes) = match self {
            Self::Container(record, action) => {
                let (action, own) = action.event();
                (ActorType::Container, action, record.id.to_string(), of_container(record, own))
            }
            Self::Image(image, action) => {
                let mut all = image.labels.cloned().unwrap_or_default();
                all.insert("name".into(), image.name.to_owned());
                (ActorType::Image, action.as_str().to_owned(), image.id.to_owned(), all)
            }
            Self::Volume(name, action) => {
                let (action, own) = action.event();
                (ActorType::Volume, action.to_owned(), name.to_string(), own)
            }
            Self::Network(network, action) => {
                let (action, own) = action.event(network);
                (ActorType::Network, action.to_owned(), network.id.to_owned(), own)
            }
            Self::Pruned(actor_type, bytes) => {
                let own = attributes([("reclaimed", bytes.to_string())]);
                (*actor_type, "prune".to_owned(), String::new(), own)
            }
        };
        Message { actor_type, action, id, attributes, time: 0 }
    }
}

/// Labels come before the action's own attributes, and image and name before both, as in Docker's daemon.
fn of_container(record: &ContainerRecord, mut all: Attributes) -> Attributes {
    all.extend(record.config.labels.clone());
    if !record.image.is_empty() {
        all.insert("image".into(), record.image.clone());
    }
    all.insert("name".into(), record.name.to_string());
    all
}

impl VolumeAction<'_> {
    /// Docker's name for it, and its attributes.
    fn event(&self) -> (&'static str, Attributes) {
        let mut all = attributes([("driver", "local".to_owned())]);
        let name = match *self {
            Self::Create => "create",
            Self::Destroy => "destroy",
            Self::Mount { container, target, read_only } => {
                all.extend(attributes([
                    ("container", container.to_string()),
                    ("destination", target.to_owned()),
                    ("propagation", String::new()),
                    ("read/write", (!read_only).to_string()),
                ]));
                "mount"
            }
            Self::Unmount(container) => {
                all.insert("container".into(), container.to_string());
                "unmount"
            }
        };
        (name, all)
    }
}

impl NetworkAction<'_> {
    /// Docker's name for it, and its attributes.
    fn event(&self, network: &NetworkActor<'_>) -> (&'static str, Attributes) {
        let mut all = attributes([("name", network.name.to_owned()), ("type", network.driver.to_owned())]);
        let (name, container) = match *self {
            Self::Create => ("create", None),
            Self::Destroy => ("destroy", None),
            Self::Connect(container) => ("connect", Some(container)),
            Self::Disconnect(container) => ("disconnect", Some(container)),
        };
        if let Some(container) = container {
            all.insert("container".into(), container.to_string());
        }
        (name, all)
    }
}

impl<'a> NetworkActor<'a> {
    /// A network.
    pub(crate) fn new(network: &'a Network) -> Self {
        Self { id: &network.id, name: &network.name, driver: &network.driver }
    }

    /// The network of a container's place on it.
    pub(crate) fn of(endpoint: &'a Endpoint) -> Self {
        Self { id: &endpoint.network_id, name: &endpoint.network, driver: "bridge" }
    }
}

/// The volumes of a container, each with where it is mounted and whether it is read-only.
fn volume_mounts(record: &ContainerRecord) -> impl Iterator<Item = (&VolumeName, &str, bool)> {
    record.host.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { name, .. } => Some((name.as_ref()?, mount.target.as_str(), mount.read_only)),
        _ => None,
    })
}

/// The networks that a container is on: by its places on them, and the one that has none (`host`, `none`).
fn networks<'a>(
    endpoints: &'a [Endpoint],
    builtin: Option<&'a Network>,
) -> impl Iterator<Item = NetworkActor<'a>> {
    endpoints.iter().map(NetworkActor::of).chain(builtin.map(NetworkActor::new))
}

/// What a container begins to use when it is started, in Docker's order.
pub(crate) fn taken<'a>(
    record: &'a ContainerRecord,
    endpoints: &'a [Endpoint],
    builtin: Option<&'a Network>,
) -> Vec<Happening<'a>> {
    let id = &record.id;
    if record.build_step.is_some() {
        return Vec::new();
    }
    let mount = |(name, target, read_only)| {
        Happening::Volume(name, VolumeAction::Mount { container: id, target, read_only })
    };
    let connect = |network| Happening::Network(network, NetworkAction::Connect(id));
    volume_mounts(record).map(mount).chain(networks(endpoints, builtin).map(connect)).collect()
}

/// What a container that has ended uses no more.
pub(crate) fn given_up<'a>(
    record: &'a ContainerRecord,
    endpoints: &'a [Endpoint],
    builtin: Option<&'a Network>,
) -> Vec<Happening<'a>> {
    let id = &record.id;
    if record.build_step.is_some() {
        return Vec::new();
    }
    let disconnect = |network| Happening::Network(network, NetworkAction::Disconnect(id));
    let unmount = |(name, _, _)| Happening::Volume(name, VolumeAction::Unmount(id));
    networks(endpoints, builtin).map(disconnect).chain(volume_mounts(record).map(unmount)).collect()
}

impl ContainerAction<'_> {
    /// Docker's name for it, and the attributes of its own.
    fn event(&self) -> (String, Attributes) {
        let (name, own) = match *self {
            Self::Create => ("create", Attributes::new()),
            Self::Attach => ("attach", Attributes::new()),
            Self::Detach => ("detach", Attributes::new()),
            Self::Start => ("start", Attributes::new()),
            Self::Oom => ("oom", Attributes::new()),
            Self::Die { exit_code, ran } => (
                "die",
                attributes([
                    ("exitCode", exit_code.to_string()),
                    ("execDuration", ran.as_secs().to_string()),
                ]),
            ),
            Self::Kill(signal) => ("kill", attributes([("signal", signal.to_string())])),
            Self::Stop => ("stop", Attributes::new()),
            Self::Restart => ("restart", Attributes::new()),
            Self::Pause => ("pause", Attributes::new()),
            Self::Unpause => ("unpause", Attributes::new()),
            Self::Rename(from) => ("rename", attributes([("oldName", format!("/{from}"))])),
            Self::Update => ("update", Attributes::new()),
            Self::Resize(rows, columns) => {
                ("resize", attributes([("height", rows.to_string()), ("width", columns.to_string())]))
            }
            Self::Top => ("top", Attributes::new()),
            Self::Export => ("export", Attributes::new()),
            Self::Commit { image, reference, comment } => {
                let own = [("comment", comment), ("imageID", image), ("imageRef", reference)];
                ("commit", attributes(own.map(|(key, value)| (key, value.to_owned()))))
            }
            Self::ArchivePath => ("archive-path", Attributes::new()),
            Self::ExtractToDir => ("extract-to-dir", Attributes::new()),
            Self::Destroy => ("destroy", Attributes::new()),
            Self::ExecCreate(exec) => return exec.event("exec_create"),
            Self::ExecStart(exec) => return exec.event("exec_start"),
            Self::ExecDetach(id) => ("exec_detach", attributes([("execID", id.to_owned())])),
            Self::ExecDie { id, exit_code } => {
                ("exec_die", attributes([("execID", id.to_owned()), ("exitCode", exit_code.to_string())]))
            }
            Self::Health(status) => {
                return (format!("health_status: {}", status.as_str()), Attributes::new());
            }
        };
        (name.to_owned(), own)
    }
}

impl Exec<'_> {
    /// The command without arguments has a space behind it, as Docker writes it.
    fn event(&self, what: &str) -> (String, Attributes) {
        let (program, arguments) = self.command.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
        (format!("{what}: {program} {}", arguments.join(" ")), attributes([("execID", self.id.to_owned())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: ContainerAction<'_>) -> (String, Vec<(String, String)>) {
        let (name, own) = action.event();
        (name, own.into_iter().collect())
    }

    #[test]
    fn dockers_names_and_attributes() {
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let command = ["sh".to_owned(), "-c".to_owned(), "a b".to_owned()];
        let exec = Exec { id: "e1", command: &command };
        let bare = Exec { id: "e2", command: &command[..1] };
        let ran = Duration::from_millis(2999);
        let table = [
            (
                event(ContainerAction::Die { exit_code: 137, ran }),
                "die",
                &[("execDuration", "2"), ("exitCode", "137")][..],
            ),
            (event(ContainerAction::Kill(15)), "kill", &[("signal", "15")]),
            (event(ContainerAction::Resize(24, 80)), "resize", &[("height", "24"), ("width", "80")]),
            (event(ContainerAction::ExecCreate(exec)), "exec_create: sh -c a b", &[("execID", "e1")]),
            (event(ContainerAction::ExecStart(bare)), "exec_start: sh ", &[("execID", "e2")]),
            (
                event(ContainerAction::ExecDie { id: "e1", exit_code: 3 }),
                "exec_die",
                &[("execID", "e1"), ("exitCode", "3")],
            ),
            (event(ContainerAction::Health(HealthStatus::Healthy)), "health_status: healthy", &[]),
        ];
        for (got, name, own) in table {
            assert_eq!(got, (name.to_owned(), pairs(own)));
        }
    }
}
