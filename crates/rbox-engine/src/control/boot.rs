//! With the host: starting what is to run when it comes up, ending all when it goes down.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_runtime::cgroup::Hierarchy;
use rbox_spec::id::ContainerId;

use crate::containers::stop_mark::Why;
use crate::containers::trash::read_mark;
use crate::containers::{find, sharing};
use crate::control::{boot_order, signal};
use crate::error::EngineError;
use crate::monitor::{self, StartOptions, Starting};
use crate::record::container::{Container, ContainerRecord};
use crate::record::lock::Lock;
use crate::record::paths::Paths;
use crate::watch::Watch;

/// How many are started before the first of them is waited for: more only wait for the same disk.
const AT_ONCE: usize = 4;

/// Starts what its restart policy starts with the host and does not run, those first that were started first. `tell`
/// hears of each how that went. Containers that nobody ever started stay as they are; one of a Compose project waits for what it depends on.
///
/// The caller has tidied (so each that ran has an exit), and has one thread.
pub(crate) fn boot(
    paths: &Paths,
    tell: &mut dyn FnMut(&ContainerRecord, Result<(), EngineError>),
) -> Result<(), EngineError> {
    if let Ok(hierarchy) = Hierarchy::detect() {
        // What is started from here is the host's, not that of the command that happens to start it.
        hierarchy.enter_monitors()?;
    }
    let all = find::list(paths)?;
    let records: Vec<ContainerRecord> = all.iter().map(|container| container.record.clone()).collect();
    let mut due: Vec<(Timestamp, ContainerRecord)> = all
        .into_iter()
        .filter(is_due)
        .filter_map(|c| Some((read_mark(paths, &c.record.id)?, c.record)))
        .collect();
    due.sort_by_key(|(started, _)| *started);
    let mut left = owners_first(due.into_iter().map(|(_, record)| record).collect());
    let mut begun: VecDeque<(ContainerRecord, Starting)> = VecDeque::new();
    let journal = paths.journal();
    let watch = Watch::beside(&journal).map_err(EngineError::file("watch", journal))?;
    let clock = Instant::now();
    while !left.is_empty() {
        let coming: HashSet<ContainerId> = left
            .iter()
            .chain(begun.iter().map(|(record, _)| record))
            .map(|record| record.id.clone())
            .collect();
        let is_late = clock.elapsed() > boot_order::PATIENCE;
        let may_start =
            |record: &ContainerRecord| is_late || boot_order::may_start(paths, record, &records, &coming);
        let Some(next) = left.iter().position(may_start) else {
            if begun.is_empty() {
                // What ends a wait otherwise is looked at again anyway.
                let _ = watch.wait(None, None);
            } else {
                finish(&mut begun, tell);
            }
            continue;
        };
        let record = left.remove(next);
        // One that shares what another has can be started when that one runs.
        let needs = sharing::needed(&record.host).next().is_some();
        while begun.len() >= if needs { 1 } else { AT_ONCE } {
            finish(&mut begun, tell);
        }
        match begin(paths, &record) {
            Ok(Some(starting)) => begun.push_back((record, starting)),
            Ok(None) => {}
            Err(error) => tell(&record, Err(error)),
        }
    }
    while !begun.is_empty() {
        finish(&mut begun, tell);
    }
    Ok(())
}

/// Tells systemd that the unit is up (`sd_notify(3)`), and stays: systemd takes the group of a unit away in which nobody
/// is, and the containers' groups are to be in it. A signal ends it, and nothing depends on it.
pub fn stay() -> ! {
    if let Some(address) = std::env::var_os("NOTIFY_SOCKET") {
        notify(address.as_encoded_bytes());
    }
    loop {
        // Without an end: this is all it is for. The monitors that were started here are this process's children, and somebody has to
        // see their end.
        match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => std::thread::park(),
        }
    }
}

/// Its failure is not reported: who waits for it gives up by itself.
fn notify(address: &[u8]) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address)),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(b"READY=1", &address);
    }
}

/// In the same order, but those whose namespaces others are in before those.
fn owners_first(mut left: Vec<ContainerRecord>) -> Vec<ContainerRecord> {
    let mut sorted: Vec<ContainerRecord> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |record: &ContainerRecord| {
            sharing::needed(&record.host).any(|id| left.iter().any(|other| other.id.as_str() == id))
        };
        let (later, now): (Vec<_>, Vec<_>) = left.iter().cloned().partition(waits);
        // Damaged records may name each other.
        let later = if now.is_empty() { Vec::new() } else { later };
        sorted.extend(if now.is_empty() { std::mem::take(&mut left) } else { now });
        left = later;
    }
    sorted
}

fn is_due(container: &Container) -> bool {
    let stopped = container.exit.as_ref().is_some_and(|exit| exit.stopped);
    !container.is_active() && container.record.host.restart.starts_with_host(stopped)
}

/// Its monitor; none when somebody else has just started it.
fn begin(paths: &Paths, record: &ContainerRecord) -> Result<Option<Starting>, EngineError> {
    let options = StartOptions::default();
    let lock = Lock::take_within(&paths.live_of(&record.id), Duration::from_secs(1))?;
    lock.map(|lock| monitor::start(paths, record, lock, options)).transpose()
}

fn finish(
    begun: &mut VecDeque<(ContainerRecord, Starting)>,
    tell: &mut dyn FnMut(&ContainerRecord, Result<(), EngineError>),
) {
    if let Some((record, starting)) = begun.pop_front() {
        tell(&record, starting.wait().map(drop));
    }
}

/// Ends all that run, at once, as `stop` does, but does not remember it as somebody's wish: the next [`boot`] starts
/// them again. `timeout`: seconds before SIGKILL, each container's own when none.
pub(crate) fn shutdown(
    paths: &Paths,
    timeout: Option<i64>,
    tell: &mut dyn FnMut(&ContainerRecord, Result<(), EngineError>),
) -> Result<(), EngineError> {
    let all = find::list_running(paths)?;
    let request = signal::StopRequest { timeout, ..signal::StopRequest::default() };
    let results: Vec<_> = std::thread::scope(|scope| {
        let stop = |one| signal::stop(paths, one, request, Why::Shutdown, &|| ()).map(drop);
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(move || stop(one))).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    for (container, result) in all.iter().zip(results) {
        match result {
            Ok(result) => tell(&container.record, result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    Ok(())
}
