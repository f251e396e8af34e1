//! Starting a container that exists, by several commands at once if need be: one starts it, the others find that it runs.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_sys::durable::{self, Lasting};

use crate::cleanup::tidy::{discard, finish_dead};
use crate::containers::trash::remove_live;
use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::monitor::{self, StartOptions, Starting};
use crate::record::container::{Container, ContainerRecord, ExitRecord, lasting};
use crate::record::file::read_json;
use crate::record::lock::Lock;
use crate::record::paths::Paths;

/// What a start came to.
#[derive(Debug)]
pub enum Started {
    /// The program runs; this is the socket of its monitor.
    Now(OwnedFd),
    /// Somebody else had started it meanwhile, which is as good.
    Already,
}

impl Started {
    /// The socket of the monitor that this start made.
    pub fn socket(self) -> Option<OwnedFd> {
        match self {
            Self::Now(socket) => Some(socket),
            Self::Already => None,
        }
    }
}

/// How long another's start, or the end of the life before, is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A start that goes on by itself: its monitor carries it out.
#[derive(Debug)]
pub struct Begun {
    paths: Paths,
    record: ContainerRecord,
    /// None when somebody else has started it.
    starting: Option<Starting>,
    attach: bool,
}

impl Begun {
    /// Comes back when the program runs. For a command that does not attach it will be known after a power cut that it ran.
    ///
    /// # Errors
    /// Why it does not run.
    pub fn wait(self) -> Result<Started, EngineError> {
        let Self { paths, record, starting, attach } = self;
        let Some(starting) = starting else { return Ok(Started::Already) };
        let started = starting.wait().and_then(|socket| {
            if !attach {
                keep_mark(&paths, &record)?;
            }
            Ok(Started::Now(socket))
        });
        started.map_err(|error| failed(&paths, &record, error))
    }
}

/// Begins to start the container of `record`. Several can be begun before one of them is waited for.
pub(crate) fn begin(
    paths: &Paths,
    record: &ContainerRecord,
    options: StartOptions,
) -> Result<Begun, EngineError> {
    begin_once(paths, record, options).map_err(|error| failed(paths, record, error))
}

/// Starts the container of `record`, and comes back when its program runs.
pub(crate) fn start(
    paths: &Paths,
    record: &ContainerRecord,
    options: StartOptions,
) -> Result<Started, EngineError> {
    begin(paths, record, options)?.wait()
}

/// Has the overlay of a container of `--rm` be mounted once more: one that is never synced is for one life. What it has written is there as
/// long as the host runs, and the overlay's next life is not longer.
///
/// Source: "Volatile mount" in the kernel's overlayfs.rst.
pub(crate) fn forget_volatile(paths: &Paths, record: &ContainerRecord) -> Result<(), EngineError> {
    let mark = record.work(paths).join("work/incompat");
    rbox_sys::removal::remove_tree(&mark).map_err(EngineError::file("remove", mark))
}

/// Removes what a failed start has left of a container of `--rm`. The error to tell.
fn failed(paths: &Paths, record: &ContainerRecord, error: EngineError) -> EngineError {
    if record.host.auto_remove {
        let _ = remove_unstarted(paths, record);
    }
    let removed = !record.host.auto_remove && !paths.container(&record.id).exists();
    if removed { gone(record) } else { error }
}

/// The error for a container that somebody else removed meanwhile: what failed without its files explains nothing.
fn gone(record: &ContainerRecord) -> EngineError {
    EngineError::NoContainer(record.name.to_string())
}

fn begin_once(paths: &Paths, record: &ContainerRecord, options: StartOptions) -> Result<Begun, EngineError> {
    let asked = Timestamp::now();
    let begun = |record: &ContainerRecord, starting| Begun {
        paths: paths.clone(),
        record: record.clone(),
        starting,
        attach: options.attach,
    };
    let Some((lock, current)) = take(paths, record)? else { return Ok(begun(record, None)) };
    let record = current.as_ref().unwrap_or(record);
    if !options.attach && ran_since(paths, record, asked) {
        return Ok(begun(record, None));
    }
    if options.attach {
        note_container(paths, record, ContainerAction::Attach);
    }
    Ok(begun(record, Some(monitor::start(paths, record, lock, options)?)))
}

/// Sees to it that the mark of a start survives a power cut, where that was promised.
fn keep_mark(paths: &Paths, record: &ContainerRecord) -> Result<(), EngineError> {
    if lasting(&record.host) != Lasting::Now {
        return Ok(());
    }
    let mark = paths.started_mark(&record.id);
    match durable::sync(&mark) {
        // It is removed already.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(EngineError::file("fsync", mark)),
    }
}

/// How long a monitor that failed may take to let go of its lock.
const LETTING_GO: Duration = Duration::from_secs(2);

/// Removes a container of `--rm` that could not be started, whoever failed: its monitor does so itself unless it was killed or never
/// came to be. Whoever holds the lock of one that is here looks after it.
pub(crate) fn remove_unstarted(paths: &Paths, record: &ContainerRecord) -> Result<(), EngineError> {
    let dir = paths.live_of(&record.id);
    if !paths.container(&record.id).exists() && !dir.exists() {
        return Ok(());
    }
    let Some(lock) = Lock::take_within(&dir, LETTING_GO)? else { return Ok(()) };
    // Nobody looks after what a killed monitor made, and nobody asks how it ended.
    let _ = finish_dead(paths, &record.id);
    let deleted = discard(paths, record, true)?;
    remove_live(paths, &record.id);
    drop(lock);
    deleted
}

/// The right to start it, and its record as it is by now when it was waited for. None when it runs.
fn take(
    paths: &Paths,
    record: &ContainerRecord,
) -> Result<Option<(Lock, Option<ContainerRecord>)>, EngineError> {
    let dir = paths.live_of(&record.id);
    if let Some(lock) = Lock::try_take(&dir)? {
        // From here on nobody can remove it. Before, somebody may have.
        if !paths.container(&record.id).exists() {
            remove_live(paths, &record.id);
            return Err(gone(record));
        }
        return Ok(Some((lock, None)));
    }
    let begin = Instant::now();
    loop {
        let lock = Lock::take_within(&dir, Duration::from_millis(50))?;
        // What was known before the wait may be otherwise by now.
        let now = Container::read_whole(paths, &record.id)?.ok_or_else(|| gone(record))?;
        match lock {
            Some(lock) => return Ok(Some((lock, Some(now.record)))),
            None if now.is_active() => return Ok(None),
            None if begin.elapsed() > PATIENCE => {
                let name = &record.name;
                return Err(EngineError::Conflict(format!(
                    "container {name} is busy: another command or its monitor holds it"
                )));
            }
            None => {}
        }
    }
}

/// Whether another command started it after this one was asked to, and its life is over already.
fn ran_since(paths: &Paths, record: &ContainerRecord, asked: Timestamp) -> bool {
    let exit = read_json::<ExitRecord>(&paths.exit(&record.id)).ok().flatten();
    exit.and_then(|exit| exit.started).is_some_and(|started| started > asked)
}
