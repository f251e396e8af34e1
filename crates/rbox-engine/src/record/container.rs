//! A container's records on disk: what was asked for, what is running now, how it ended.
//!
//! Each file is written to a temporary name and renamed, so a reader sees a whole one. What a command promised is synced
//! before it returns ([`keep`]), so that a power cut finds a whole one too. The files are:
//! `config.json` ([`ContainerRecord`], once at `create`), `state.json` ([`LiveState`], on tmpfs while a process
//! runs), `exit.json` ([`ExitRecord`], at each exit). [`Status`] is derived from them and from the kernel;
//! nothing on disk claims that a process is running.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rbox_network::Endpoint;
use rbox_runtime::cgroup::CgroupPaths;
use rbox_spec::container::{ContainerConfig, HostConfig};
use rbox_spec::id::ContainerId;
use rbox_spec::mount::{GivenBy, MountKind};
use rbox_spec::port::PublishedPort;
use rbox_spec::record::Record;
use rbox_spec::restart::RestartPolicy;
use rbox_spec::{ContainerName, Kind};
use rbox_sys::durable::Lasting;
pub(crate) use rbox_sys::process::process_start;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::record::file::{RecordError, read_json, read_renewed};
use crate::record::health::Health;
use crate::record::lock::Lock;
use crate::record::paths::{CONFIG, Paths, UPPER, WORK};

/// What `create` wrote down. `rename` changes the name, `update` the limits and the restart policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id.
    pub id: ContainerId,
    /// Its name, unique among containers.
    pub name: ContainerName,
    /// When it was created.
    pub created: Timestamp,
    /// The image as the user named it.
    pub image: String,
    /// The image's id: the digest of its configuration.
    pub image_id: String,
    /// The digest of the manifest it was pulled by, when known.
    pub image_manifest: String,
    /// The image's platform: `linux/amd64`. Empty in records of older versions.
    pub platform: String,
    /// The layers' directories, base first.
    pub layers: Vec<PathBuf>,
    /// It is of the image embedded in rbox, whose program gets to know what the host sees.
    pub embedded: bool,
    /// It runs a step of a build: the directory that its own layer is in, which the build keeps when the container is removed.
    pub build_step: Option<PathBuf>,
    /// What the process is.
    pub config: ContainerConfig,
    /// What it gets from the host.
    pub host: HostConfig,
}

impl ContainerRecord {
    /// The images that it stands on or has mounted, by their ids, with their layers. One of a directory has no image of its own.
    pub(crate) fn images(&self) -> impl Iterator<Item = (&str, &[PathBuf])> {
        let own = (self.image_id.as_str(), self.layers.as_slice());
        let mounted = self.host.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Image { id, layers, .. } => Some((id.as_str(), layers.as_slice())),
            _ => None,
        });
        std::iter::once(own).filter(|(id, _)| !id.is_empty()).chain(mounted)
    }

    /// Where it has volumes that its image or nobody named. As Docker's client has it: `-v /path` is a VOLUME of the container, `-v name:/path`
    /// is none.
    pub(crate) fn all_volumes(&self) -> Vec<String> {
        let own = self.host.mounts.iter().filter(|mount| {
            mount.given_by == GivenBy::Volume
                && matches!(mount.kind, MountKind::Volume { anonymous: true, .. })
        });
        let all: BTreeSet<&String> =
            self.config.volumes.iter().chain(own.map(|mount| &mount.target)).collect();
        all.into_iter().cloned().collect()
    }

    /// What the process is, as Docker's API has it.
    pub(crate) fn as_docker_config(&self) -> Value {
        let config = ContainerConfig { volumes: self.all_volumes(), ..self.config.clone() };
        config.as_docker(&self.image)
    }

    /// Where its changes are: overlay's upper directory.
    pub(crate) fn upper(&self, paths: &Paths) -> PathBuf {
        self.build_step.as_ref().map_or_else(|| paths.upper(&self.id), |dir| dir.join(UPPER))
    }

    /// Overlay's scratch directory, beside the upper one.
    pub(crate) fn work(&self, paths: &Paths) -> PathBuf {
        self.build_step.as_ref().map_or_else(|| paths.container(&self.id).join(WORK), |dir| dir.join(WORK))
    }
}

/// What is running now. On tmpfs: a reboot takes it away together with the processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveState {
    /// PID 1 of the container, as the host counts.
    pub pid: i32,
    /// Start time of that process in clock ticks since boot (proc(5), field 22): a reused pid is recognised by it.
    pub start_ticks: u64,
    /// The monitor's pid.
    pub monitor: i32,
    /// When the process was started.
    pub started: Timestamp,
    /// Its control groups.
    pub cgroup: CgroupPaths,
    /// Its places on networks.
    pub endpoints: Vec<Endpoint>,
    /// Ports the host passes on to it.
    pub published: Vec<PublishedPort>,
    /// The program runs: init's last step was carried out.
    pub running: bool,
    /// How often its monitor has started it again since somebody started it.
    pub restart_count: u32,
    /// It has ended like this, and its monitor starts it again after a pause.
    pub between: Option<ExitRecord>,
}

/// How it ended the last time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The process's own code, or 128+n after signal n.
    pub exit_code: i32,
    /// A signal ended it: 137 may be a program's own code too. None if that is not known.
    pub by_signal: Option<bool>,
    /// A process of it was killed because memory ran out.
    pub oom_killed: bool,
    /// Why it could not be started, or empty.
    pub error: String,
    /// When it started; none if it never did.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Timestamp,
    /// How often it had been started again by then, the restart that follows this end included.
    pub restart_count: u32,
    /// Somebody had asked for its end: `unless-stopped` does not start it with the host.
    pub stopped: bool,
}

impl LiveState {
    /// The live state of a container, of this life or of one that was cut off. A damaged one is as good as none: a kill cannot
    /// damage it, but a full tmpfs can.
    pub(crate) fn read(paths: &Paths, id: &ContainerId) -> Result<Option<Self>, RecordError> {
        read_renewed(&paths.live_state(id))
    }

    /// Whether its process is running, also one that has not executed the program yet.
    pub(crate) fn has_process(&self) -> bool {
        process_is(self.pid, self.start_ticks)
    }

    /// The endpoint of its default route, or without one the first: what is published leads to it.
    pub fn main_endpoint(&self) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.default_route).or(self.endpoints.first())
    }
}

impl ExitRecord {
    /// A start that failed with `code`, perhaps because the program could not be executed. How the container ran and ended before stays known: it is no less exited than it was.
    pub(crate) fn failed_start(before: Option<Self>, code: i32, not_executed: bool, message: String) -> Self {
        let Some(before) = before.filter(|before| before.started.is_some()) else {
            return Self::untold(code, message, None);
        };
        // Docker's rule: a code that is known is kept, unless the program could not be executed.
        let exit_code = if not_executed || before.exit_code == 0 { code } else { before.exit_code };
        Self { exit_code, error: message, ..before }
    }

    /// The end of a start that failed, or one that nobody saw.
    pub(crate) fn untold(exit_code: i32, error: String, started: Option<Timestamp>) -> Self {
        Self {
            exit_code,
            by_signal: None,
            oom_killed: false,
            error,
            started,
            finished: Timestamp::now(),
            restart_count: 0,
            stopped: false,
        }
    }
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Never started.
    Created,
    /// Its PID 1 is running.
    Running,
    /// Its PID 1 is running, frozen.
    Paused,
    /// It has ended; its monitor starts it again.
    Restarting,
    /// Ended.
    Exited,
    /// Being taken away.
    Removing,
    /// Its record cannot be read: it can only be removed.
    Dead,
}

impl Status {
    /// As `inspect` and `--filter status=` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }
}

/// A container as the next command finds it.
#[derive(Clone, Debug)]
pub struct Container {
    /// What was asked for.
    pub record: ContainerRecord,
    /// Where it is in its life.
    pub status: Status,
    /// Its live state, while it runs.
    pub live: Option<LiveState>,
    /// How it ended last, if it did.
    pub exit: Option<ExitRecord>,
    /// What its health checks came to, if it has any and was started.
    pub health: Option<Health>,
    /// The word it was looked up by, if it was.
    pub(crate) asked: Option<String>,
}

/// Writes `value` as JSON below the root, so that readers, and the next boot, see the old file or the new one, whole. With
/// [`Lasting::Now`] it is on disk when this returns.
pub(crate) fn keep<T: Record>(
    paths: &Paths,
    path: &Path,
    value: &T,
    lasting: Lasting,
) -> Result<(), RecordError> {
    let text = rbox_spec::record::encode(value).map_err(|error| RecordError::format(path, error))?;
    rbox_sys::trace::call(
        "write",
        || format!("{}, {} bytes", rbox_sys::trace::quoted(path), text.len()),
        || rbox_sys::durable::replace(&paths.temporaries(), path, &text, lasting).map(|()| text.len()),
    )
    .map(drop)
    .map_err(|source| RecordError::Io { action: "write", path: path.to_owned(), source })
}

/// Whether the files of this container have to be on disk when a command returns. One of `--rm` does not outlive the host.
pub(crate) fn lasting(host: &HostConfig) -> Lasting {
    if host.auto_remove { Lasting::Later } else { Lasting::Now }
}

/// Makes a container's exit last, which was written without waiting for the disk.
pub(crate) fn settle_exit(paths: &Paths, id: &ContainerId) {
    // It may be removed already, or wait for room.
    let _ = rbox_sys::durable::sync(&paths.exit(id));
}

impl Container {
    /// Reads one container's records and asks the kernel what of it is running. None when there is no such record. One whose
    /// records cannot be read must not hide all the others, and must be removable: its status is [`Status::Dead`], its exit
    /// tells why.
    pub fn read(paths: &Paths, id: &ContainerId) -> Result<Option<Self>, RecordError> {
        Ok(Self::read_whole(paths, id).unwrap_or_else(|error| Some(Self::unreadable(id, &error))))
    }

    /// The same for who changes what is written: one whose records cannot be read is an error, as it must not be written over.
    pub(crate) fn read_whole(paths: &Paths, id: &ContainerId) -> Result<Option<Self>, RecordError> {
        let dir = paths.container(id);
        let read = || read_json::<ContainerRecord>(&dir.join(CONFIG));
        // The directory comes and goes with all that is in it: it may have come after the first look.
        let record = match read() {
            Ok(None) if std::fs::symlink_metadata(&dir).is_ok() => read(),
            other => other,
        };
        let record = match record? {
            Some(record) => record,
            None if std::fs::symlink_metadata(&dir).is_err() => return Ok(None),
            None => return Err(RecordError::io("read", dir.join(CONFIG))(io::ErrorKind::NotFound.into())),
        };
        let (live, exit, lives) = Self::life(paths, id, &record)?;
        let alive = live.as_ref().filter(|_| lives);
        let status = match alive {
            Some(live) if rbox_runtime::cgroup::Cgroup::open(&live.cgroup).is_ok_and(|c| c.is_frozen()) => {
                Status::Paused
            }
            Some(_) => Status::Running,
            None if live.as_ref().is_some_and(|l| l.between.is_some())
                && Lock::is_held(&paths.live_of(id)) =>
            {
                Status::Restarting
            }
            // It died just now: its monitor has not said yet what follows.
            None if record.host.restart != RestartPolicy::No
                && live.as_ref().is_some_and(|l| {
                    l.running && exit.as_ref().and_then(|e| e.started) != Some(l.started)
                })
                && Lock::is_held(&paths.live_of(id)) =>
            {
                Status::Restarting
            }
            // A start that failed leaves an error, not an end: it never ran.
            None if exit.as_ref().is_some_and(|e| e.started.is_some())
                || live.as_ref().is_some_and(|l| l.running) =>
            {
                Status::Exited
            }
            None => Status::Created,
        };
        let between = live.as_ref().and_then(|l| l.between.clone()).filter(|_| status == Status::Restarting);
        let exit = between.or(exit);
        let live = live.filter(|_| matches!(status, Status::Running | Status::Paused));
        let path = if live.is_some() { paths.live_health(id) } else { paths.last_health(id) };
        let has_checks = record.config.health_command().is_some();
        let health = if has_checks { read_renewed(&path)? } else { None };
        Ok(Some(Self { record, status, live, exit, health, asked: None }))
    }

    /// What is written of its life, and whether its process is there. One that has just ended has no exit yet: its monitor, which
    /// holds the lock, is about to write it, and until then nobody can say how it ended. That is waited for, for a tenth of
    /// a second at most.
    fn life(
        paths: &Paths,
        id: &ContainerId,
        record: &ContainerRecord,
    ) -> Result<(Option<LiveState>, Option<ExitRecord>, bool), RecordError> {
        let mut tries = 100;
        loop {
            // In this order: an exit that is written between the two belongs to the life that was read.
            let live = match read_json::<LiveState>(&paths.live_state(id)) {
                // Nobody looks after it: as good as none.
                Err(error) if error.kind() == Kind::Damaged && !Lock::is_held(&paths.live_of(id)) => None,
                live => live?,
            };
            // On a full disk the last exit waits in the live directory.
            let exit: Option<ExitRecord> = match read_renewed(&paths.waiting_exit(id))? {
                None => read_renewed(&paths.exit(id))?,
                waiting => waiting,
            };
            let running = live.as_ref().filter(|live| live.running);
            let lives = running.is_some_and(LiveState::has_process);
            let is_told =
                |live: &LiveState| exit.as_ref().and_then(|exit| exit.started) == Some(live.started);
            let is_ending = !lives && running.is_some_and(|live| !is_told(live));
            // With a restart policy that moment has a name of its own.
            let waits = is_ending && record.host.restart == RestartPolicy::No && tries > 0;
            if !waits || !Lock::is_held(&paths.live_of(id)) {
                return Ok((live, exit, lives));
            }
            tries -= 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    fn unreadable(id: &ContainerId, error: &RecordError) -> Self {
        let epoch = Timestamp::UNIX_EPOCH;
        let record = ContainerRecord {
            id: id.clone(),
            name: id.into(),
            created: epoch,
            image: "<unreadable record>".into(),
            image_id: String::new(),
            image_manifest: String::new(),
            platform: String::new(),
            layers: Vec::new(),
            embedded: false,
            build_step: None,
            config: ContainerConfig::default(),
            host: HostConfig::default(),
        };
        let exit = ExitRecord { finished: epoch, ..ExitRecord::untold(0, error.to_string(), None) };
        Self { record, status: Status::Dead, live: None, exit: Some(exit), health: None, asked: None }
    }

    /// Whether its PID 1 is running.
    pub fn is_running(&self) -> bool {
        self.live.is_some()
    }

    /// Whether somebody looks after it: it runs, or is about to be started again. Docker calls both running.
    pub fn is_active(&self) -> bool {
        self.is_running() || self.status == Status::Restarting
    }

    /// How often its monitor has started it again.
    pub fn restart_count(&self) -> u32 {
        let of_exit = self.exit.as_ref().map_or(0, |exit| exit.restart_count);
        self.live.as_ref().map_or(of_exit, |live| live.restart_count)
    }
}

/// Whether `pid` is still the process that started at `ticks`, and not a zombie.
pub(crate) fn process_is(pid: i32, ticks: u64) -> bool {
    process_start(pid).is_some_and(|(start, zombie)| start == ticks && !zombie)
}

/// The exit code of a container whose end nobody saw.
pub(crate) const UNSEEN_EXIT: i32 = 255;
