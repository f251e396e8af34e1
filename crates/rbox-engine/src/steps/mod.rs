//! Steps of a build that run a program: containers that nobody sees, whose own layer the build keeps.
//!
//! Such a container is made, run and removed as one of `run --rm`, by the same code; but its changes are in a directory of the
//! build ([`ContainerRecord::build_step`]), it is in no list and no journal, and its monitor kills it when the build is gone.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_image::Transaction;
use rbox_image::store::StoredLayer;
use rbox_spec::Kind;
use rbox_spec::container::{ContainerConfig, HostConfig, LogDriver, NetworkMode};
use rbox_sys::channel;

use crate::cdi::edits::Edits;
use crate::cdi::requests;
use crate::changes::adopt;
use crate::containers::{find, random_name};
use crate::control::start;
use crate::create::check::check;
use crate::create::{new_id, write_record};
use crate::error::EngineError;
use crate::logs::Stream;
use crate::monitor::StartOptions;
use crate::monitor::protocol::{CHUNK, FromMonitor};
use crate::record::container::ContainerRecord;
use crate::record::lock::Lock;
use crate::record::paths::{Paths, UPPER, WORK};
use crate::settings::Settings;

/// A program of a build, and the tree that it runs in.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// The layers' directories, base first.
    pub layers: Vec<PathBuf>,
    /// `linux/amd64`.
    pub platform: String,
    /// The process: its command is all of `cmd`.
    pub config: ContainerConfig,
    /// What it gets from the host.
    pub host: HostConfig,
    /// The directory that its own layer is made in.
    pub dir: PathBuf,
}

/// A step whose program has ended.
#[derive(Debug)]
pub struct StepRun {
    /// How it ended: 128 and the signal's number after a signal.
    pub exit_code: i32,
    /// Where devices mounted something.
    device_mounts: Vec<String>,
    record: ContainerRecord,
    paths: Paths,
}

impl StepRun {
    /// What it has changed, moved into the store as a layer. `newest`: nothing in it gets a younger time, in seconds since 1970.
    ///
    /// # Errors
    /// It cannot be read, or the store cannot be written.
    pub fn layer(
        self,
        transaction: &Transaction<'_>,
        newest: Option<i64>,
    ) -> Result<StoredLayer, EngineError> {
        adopt::layer_of_step(&self.paths, transaction, &self.record, &self.device_mounts, newest)
    }
}

impl StepRun {
    /// Moves what it has changed into the directory of another step, which goes on from there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn move_to(self, dir: &Path) -> Result<(), EngineError> {
        make_dir(dir, 0o700)?;
        let (from, to) = (self.record.upper(&self.paths), dir.join(UPPER));
        std::fs::rename(from, &to).map_err(EngineError::file("rename to", to))
    }
}

/// Makes the directories of a layer that is written through an overlay: upper and work.
pub(crate) fn make_layer_dirs(dir: &Path) -> Result<(PathBuf, PathBuf), EngineError> {
    make_dir(dir, 0o700)?;
    Ok((make_dir(&dir.join(UPPER), 0o755)?, make_dir(&dir.join(WORK), 0o700)?))
}

/// Makes a directory of this mode, whatever the umask is.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> Result<PathBuf, EngineError> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new()
        .mode(mode)
        .recursive(true)
        .create(dir)
        .and_then(|()| std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)))
        .map_err(EngineError::file("make directory", dir))?;
    Ok(dir.to_owned())
}

/// Something about a step that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepNews<'a> {
    /// Its program wrote something.
    Output(Stream, &'a [u8]),
    /// Nothing was heard of it for a moment.
    Silence,
}

/// How long a step is silent until that is said: whoever shows its time shows it anew.
pub(crate) const SILENCE: Duration = Duration::from_millis(200);

/// Runs a step to its end, and hands on what it writes.
pub(crate) fn run(
    paths: &Paths,
    request: StepRequest,
    news: &mut dyn FnMut(StepNews<'_>),
) -> Result<StepRun, EngineError> {
    let record = make(paths, request)?;
    let device_mounts = device_mounts(&record)?;
    let started = start::start(paths, &record, StartOptions { attach: true, ..StartOptions::default() })?;
    let socket = started.socket().ok_or_else(|| lost(&record))?;
    let exit_code = follow(&record, &socket, news)?;
    Ok(StepRun { exit_code, device_mounts, record, paths: paths.clone() })
}

/// Starts a step that the caller attaches to: the socket of its monitor. `size`: rows and columns of the caller's terminal.
pub(crate) fn open(
    paths: &Paths,
    request: StepRequest,
    size: Option<(u16, u16)>,
) -> Result<OwnedFd, EngineError> {
    let record = make(paths, request)?;
    let options = StartOptions { attach: true, size, ..StartOptions::default() };
    start::start(paths, &record, options)?.socket().ok_or_else(|| lost(&record))
}

/// Waits until the steps in a build's directory have ended and are gone, for a while; whoever carried them out is gone already.
pub(crate) fn await_end(paths: &Paths, build: &Path) {
    const PATIENCE: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    for container in find::list(paths).unwrap_or_default() {
        if container.record.build_step.as_ref().is_some_and(|dir| dir.starts_with(build)) {
            let _ = Lock::take_within(
                &paths.live_of(&container.record.id),
                PATIENCE.saturating_sub(begun.elapsed()),
            );
        }
    }
}

fn make(paths: &Paths, request: StepRequest) -> Result<ContainerRecord, EngineError> {
    let id = new_id()?;
    make_layer_dirs(&request.dir)?;
    let StepRequest { layers, platform, mut config, mut host, dir } = request;
    if config.hostname.is_empty() {
        "buildkitsandbox".clone_into(&mut config.hostname);
    }
    if host.network == NetworkMode::None {
        host.extra_hosts.push(format!("{}:127.0.0.1", config.hostname));
    }
    host.auto_remove = true;
    host.log_driver = LogDriver::None;
    let mut record = ContainerRecord {
        name: random_name::generate(0),
        created: Timestamp::now(),
        image: String::new(),
        image_id: String::new(),
        image_manifest: String::new(),
        platform,
        layers,
        embedded: false,
        build_step: Some(dir),
        config,
        host,
        id,
    };
    crate::networks::resolve::resolve(paths, &mut record)?;
    check(&record)?;
    write_record(paths, &mut record, false, &[])?;
    Ok(record)
}

/// Where the devices of a step mount something: what is there is no part of what it makes.
fn device_mounts(record: &ContainerRecord) -> Result<Vec<String>, EngineError> {
    if record.host.device_requests.is_empty() {
        return Ok(Vec::new());
    }
    let edits = requests::edits(&record.host, &Settings::load()?.cdi_directories())?;
    Ok(edits.iter().flat_map(Edits::mount_targets).collect())
}

/// Reads what the program writes until it has ended.
fn follow(
    record: &ContainerRecord,
    socket: &OwnedFd,
    news: &mut dyn FnMut(StepNews<'_>),
) -> Result<i32, EngineError> {
    let mut packet = vec![0_u8; CHUNK + 1];
    loop {
        if !channel::is_heard_within(socket, SILENCE) {
            news(StepNews::Silence);
            continue;
        }
        let (length, _) = channel::receive(socket, &mut packet)?;
        match FromMonitor::decode(packet.get(..length).unwrap_or_default()) {
            Some(FromMonitor::Output(stream, bytes)) => news(StepNews::Output(stream, bytes)),
            Some(FromMonitor::Exited(code)) => return Ok(code),
            _ => return Err(lost(record)),
        }
    }
}

fn lost(record: &ContainerRecord) -> EngineError {
    EngineError::Monitor {
        message: format!(
            "the monitor of the step's container {} is gone (was it killed?)",
            record.id.short()
        ),
        kind: Kind::Unavailable,
        exit_code: 125,
    }
}
