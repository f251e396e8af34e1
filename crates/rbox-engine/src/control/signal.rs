//! Signals, stopping, freezing, waiting: what is done to a running container.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rbox_runtime::cgroup::{Cgroup, CgroupError};
use rbox_spec::Kind;
use rbox_spec::signal::Signal;
use rbox_sys::waiting::{self, Patience, Who};
use rbox_sys::{channel, process};
use rustix::event::{PollFd, PollFlags};

use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::monitor::protocol::{self, FromMonitor};
use crate::record::container::{Container, LiveState, Status};
use crate::record::lock::{Editing, Lock};
use crate::record::paths::Paths;

use crate::containers::running::missing;
use crate::containers::running::not_running;
use crate::containers::running::pidfd;
use crate::containers::running::refuse_restarting;
use crate::containers::running::wait_ended;
pub(crate) use crate::containers::stop_mark::Why;
use crate::containers::{find, stop_mark};

/// Seconds `stop` waits when neither the user nor the container says.
pub(crate) const STOP_TIMEOUT: i64 = 10;

/// Sends a signal to PID 1. One that asks for its end keeps the restart policy from starting it again.
pub(crate) fn signal(paths: &Paths, container: &Container, signal: Signal) -> Result<(), EngineError> {
    let own: Option<Signal> = container.record.config.stop_signal.as_deref().and_then(|s| s.parse().ok());
    let ends = [Signal::KILL, Signal::TERM, Signal::INT, Signal::QUIT];
    if ends.contains(&signal) || own == Some(signal) {
        stop_mark::ask_to_end(paths, &container.record.id, Why::User);
        if container.status == Status::Restarting {
            // There is no process to tell: that its monitor gives up is all.
            return Ok(());
        }
    }
    let pidfd = pidfd(container)?;
    tell_kill(paths, container, signal);
    match process::pidfd_send_signal(pidfd, signal.number()) {
        Err(e) if e.errno as i32 == nix::libc::ESRCH => return Err(not_running(container)),
        other => other?,
    }
    // As with Docker: a signal that may end it is to reach it now, and any may where none is set aside for that.
    if own.is_none_or(|own| own == signal) || signal == Signal::KILL {
        thaw(paths, container)?;
    }
    Ok(())
}

/// Writes into the journal that a container is sent a signal. Before it is sent: its monitor may be faster to write the end.
fn tell_kill(paths: &Paths, container: &Container, signal: Signal) {
    note_container(paths, &container.record, ContainerAction::Kill(signal.number()));
}

/// Lets a container go on that was paused. Without the right to change it: what ends a container must not wait for who has that.
fn thaw(paths: &Paths, container: &Container) -> Result<(), EngineError> {
    if let Some(live) = container.live.as_ref().filter(|_| container.status == Status::Paused) {
        match Cgroup::open(&live.cgroup).and_then(|group| group.thaw()) {
            // SIGKILL ends what is frozen too, and its monitor has removed the group by now.
            Err(error) if is_gone(&error) => return Ok(()),
            thawed => thawed?,
        }
        note_container(paths, &container.record, ContainerAction::Unpause);
    }
    Ok(())
}

/// Whether the group is not there any more.
fn is_gone(error: &CgroupError) -> bool {
    let is_removed =
        matches!(error, CgroupError::Sys { source, .. } if source.errno as i32 == nix::libc::ENODEV);
    is_removed || error.kind() == Kind::NotFound
}

/// Sends SIGKILL without waiting: to several containers before any of them is waited for.
pub(crate) fn begin_kill(paths: &Paths, container: &Container) {
    let id = &container.record.id;
    stop_mark::ask_to_end(paths, id, Why::User);
    if let Ok(pidfd) = pidfd(container) {
        // It may be called again while the container is ending.
        if !stop_mark::is_killed(paths, id) {
            tell_kill(paths, container, Signal::KILL);
            stop_mark::mark_killed(paths, id);
        }
        let _ = process::pidfd_send_signal(&pidfd, Signal::KILL.number());
    }
}

/// Ends every process of the container at once and waits for its monitor to have cleaned up.
pub(crate) fn kill_now(paths: &Paths, container: &Container) -> Result<(), EngineError> {
    stop_mark::ask_to_end(paths, &container.record.id, Why::User);
    let between = await_life(paths, container)?;
    let container = between.as_ref().unwrap_or(container);
    let Ok(pidfd) = pidfd(container) else { return settle(paths, container) };
    if !stop_mark::is_killed(paths, &container.record.id) {
        tell_kill(paths, container, Signal::KILL);
    }
    let _ = process::pidfd_send_signal(&pidfd, Signal::KILL.number());
    // A frozen v1 group does not die before it is thawed.
    thaw(paths, container)?;
    await_killed(container, &pidfd)?;
    settle(paths, container)
}

/// How a container is stopped.
#[derive(Debug, Clone, Copy, Default)]
pub struct StopRequest {
    /// The signal that asks it to; else the container's own, else SIGTERM.
    pub signal: Option<Signal>,
    /// Seconds until SIGKILL; else the container's own, else ten. A negative one waits without end.
    pub timeout: Option<i64>,
}

/// How a container did that was to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It ran no more, or it ended when it was asked to.
    Ended,
    /// It was killed, as it had not ended in time.
    Killed {
        /// The signal that asked it to end.
        signal: Signal,
        /// The time that it was given, in seconds.
        waited: u64,
        /// What its first process does on that signal.
        action: SignalAction,
    },
}

/// What a process does on a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// It has a handler for it.
    Handled,
    /// It ignores it.
    Ignored,
    /// It has said nothing of it: the kernel then does not give it to PID 1 of a namespace.
    Default,
    /// Not known.
    Unknown,
}

impl SignalAction {
    /// Of the process `pid`.
    ///
    /// Source: `SigIgn` and `SigCgt` in proc(5).
    fn of(pid: i32, signal: Signal) -> Self {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return Self::Unknown };
        let has = |field: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(field))?;
            let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
            let bit = u32::try_from(signal.number()).ok()?.checked_sub(1)?;
            Some(mask.checked_shr(bit)? & 1 == 1)
        };
        match (has("SigIgn:"), has("SigCgt:")) {
            (Some(true), _) => Self::Ignored,
            (_, Some(true)) => Self::Handled,
            (Some(false), Some(false)) => Self::Default,
            _ => Self::Unknown,
        }
    }
}

/// The container's stop signal, then SIGKILL when the time is over. `ended` is called once its program has ended, before its
/// monitor has cleaned up.
pub(crate) fn stop(
    paths: &Paths,
    container: &Container,
    request: StopRequest,
    why: Why,
    ended: &dyn Fn(),
) -> Result<Stopped, EngineError> {
    if !container.is_active() {
        ended();
        return Ok(Stopped::Ended);
    }
    stop_mark::ask_to_end(paths, &container.record.id, why);
    let between = await_life(paths, container)?;
    let container = between.as_ref().unwrap_or(container);
    let stopped = end(paths, container, request)?;
    ended();
    settle(paths, container)?;
    note_container(paths, &container.record, ContainerAction::Stop);
    Ok(stopped)
}

/// Makes the program end, if it runs.
fn end(paths: &Paths, container: &Container, request: StopRequest) -> Result<Stopped, EngineError> {
    let Ok(pidfd) = pidfd(container) else { return Ok(Stopped::Ended) };
    let record = &container.record;
    let own = record.config.stop_signal.as_deref().and_then(|s| s.parse().ok());
    let wait = request.timeout.or(record.config.stop_timeout).unwrap_or(STOP_TIMEOUT);
    thaw(paths, container)?;
    let first = request.signal.or(own).unwrap_or(Signal::TERM);
    tell_kill(paths, container, first);
    let _ = process::pidfd_send_signal(&pidfd, first.number());
    let patience = u64::try_from(wait).ok().map(Duration::from_secs);
    if wait_ended(&pidfd, patience) {
        return Ok(Stopped::Ended);
    }
    let pid = container.live.as_ref().map(|live| live.pid);
    let action = pid.map_or(SignalAction::Unknown, |pid| SignalAction::of(pid, first));
    tell_kill(paths, container, Signal::KILL);
    let _ = process::pidfd_send_signal(&pidfd, Signal::KILL.number());
    await_killed(container, &pidfd)?;
    Ok(Stopped::Killed { signal: first, waited: patience.map_or(0, |time| time.as_secs()), action })
}

/// How long PID 1 may take to end after SIGKILL: every process of its namespace ends before it does.
const KILLED: Patience = Patience::of(Duration::from_secs(30));

/// Waits for the end of a PID 1 that was sent SIGKILL, which one that waits in the kernel does not hear.
fn await_killed(container: &Container, pidfd: &OwnedFd) -> Result<(), EngineError> {
    waiting::readable(pidfd, Who::Pidfd(pidfd.as_fd()), KILLED).map_err(|still| {
        let name = &container.record.name;
        EngineError::Conflict(format!("tried to kill container {name}, but it did not end: {still}"))
    })
}

/// A container whose monitor is about to start it again, as it is once that was given up, or carried out all the
/// same because it had begun. None for any other.
fn await_life(paths: &Paths, container: &Container) -> Result<Option<Container>, EngineError> {
    let begin = Instant::now();
    let mut now = None;
    while now.as_ref().unwrap_or(container).status == Status::Restarting {
        if begin.elapsed() > Duration::from_secs(30) {
            return Err(EngineError::Conflict(format!(
                "container {} is busy: its monitor did not give up starting it again within 30 s",
                container.record.name
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
        match Container::read(paths, &container.record.id)? {
            Some(read) => now = Some(read),
            None => break,
        }
    }
    Ok(now)
}

/// Waits until the monitor of an ended container has let go of it; without a monitor, tidies itself.
pub(crate) fn settle(paths: &Paths, container: &Container) -> Result<(), EngineError> {
    let id = &container.record.id;
    let dir = paths.live_of(id);
    let begin = Instant::now();
    while dir.exists() && begin.elapsed() < Duration::from_secs(20) {
        if let Some(lock) = Lock::take_within(&dir, Duration::from_millis(100))? {
            return crate::cleanup::tidy::tidy_one(paths, id, lock);
        }
        // Who holds it may look after another life: somebody started the container again.
        let ended = container.live.as_ref().map(|live| (live.pid, live.start_ticks));
        let next = LiveState::read(paths, id)?.filter(|live| live.running && live.has_process());
        if next.is_some_and(|live| ended != Some((live.pid, live.start_ticks))) {
            break;
        }
    }
    Ok(())
}

/// Waits for the exit and gives its code. A container that does not run gives its last one, 0 if it never ran.
pub(crate) fn wait(paths: &Paths, container: &Container) -> Result<i32, EngineError> {
    let id = &container.record.id;
    if container.is_active() {
        if let Some(code) = told_by_monitor(paths, container)? {
            return Ok(code);
        }
        if let Ok(pidfd) = pidfd(container) {
            wait_ended(pidfd, None);
        }
        // The exit is written before the rest is cleaned up; a removed container takes it along.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            match Container::read(paths, id)? {
                Some(now) if !now.is_active() => {
                    let started = container.live.as_ref().map(|l| l.started);
                    if let Some(exit) = now.exit.filter(|exit| started.is_none() || exit.started == started) {
                        return Ok(exit.exit_code);
                    }
                    if !Lock::is_held(&paths.live_of(id)) {
                        settle(paths, container)?;
                    }
                }
                Some(_) => {}
                None => break,
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        return Ok(find::find(paths, id.as_str()).ok().and_then(|c| c.exit).map_or(0, |e| e.exit_code));
    }
    Ok(container.exit.as_ref().map_or(0, |exit| exit.exit_code))
}

/// Waits with the monitor, which reports the code also of a container that it then removes. None without a monitor.
fn told_by_monitor(paths: &Paths, container: &Container) -> Result<Option<i32>, EngineError> {
    let Ok(socket) = protocol::connect(&paths.live_of(&container.record.id)) else { return Ok(None) };
    let program = container.live.as_ref().map(|live| live.monitor).zip(pidfd(container).ok());
    let mut packet = vec![0_u8; protocol::CHUNK + 1];
    loop {
        if let Some((monitor, pidfd)) = &program {
            await_word(container, &socket, pidfd, *monitor)?;
        }
        let Ok((length @ 1.., _)) = channel::receive(&socket, &mut packet) else { return Ok(None) };
        if let Some(FromMonitor::Exited(code)) = FromMonitor::decode(&packet[..length]) {
            return Ok(Some(code));
        }
    }
}

/// Waits for the next word of the monitor. Without an end while the program runs; once that has ended, the monitor has to tell.
fn await_word(
    container: &Container,
    socket: &OwnedFd,
    program: &OwnedFd,
    monitor: i32,
) -> Result<(), EngineError> {
    loop {
        let mut fds = [PollFd::new(socket, PollFlags::IN), PollFd::new(program, PollFlags::IN)];
        match rustix::event::poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) if fds[0].revents().is_empty() => break,
            _ => return Ok(()),
        }
    }
    waiting::readable(socket, Who::Pid(monitor), Patience::MOMENT).map_err(|still| {
        let name = &container.record.name;
        EngineError::Conflict(format!(
            "container {name} has ended, but its monitor does not say how: {still}"
        ))
    })
}

/// Freezes every process of the container.
pub(crate) fn pause(paths: &Paths, container: &Container) -> Result<(), EngineError> {
    with_freezer(paths, container, |container| {
        let name = &container.record.name;
        match (&container.live, container.status) {
            (_, Status::Paused) => Err(EngineError::Conflict(format!("Container {name} is already paused"))),
            (Some(live), _) => {
                Cgroup::open(&live.cgroup)?.freeze()?;
                note_container(paths, &container.record, ContainerAction::Pause);
                Ok(())
            }
            (_, Status::Restarting) => refuse_restarting(container),
            _ => Err(not_running(container)),
        }
    })
}

/// Lets them go on.
pub(crate) fn unpause(paths: &Paths, container: &Container) -> Result<(), EngineError> {
    with_freezer(paths, container, |container| {
        let name = &container.record.name;
        match (&container.live, container.status) {
            (Some(_), Status::Paused) => thaw(paths, container),
            (Some(_), _) => Err(EngineError::Conflict(format!("Container {name} is not paused"))),
            _ => Err(not_running(container)),
        }
    })
}

/// Freezing and thawing, one command after the other: `work` gets the container as the one before left it. Two at once would each
/// wait for a state that the other takes back.
fn with_freezer(
    paths: &Paths,
    container: &Container,
    work: impl FnOnce(&Container) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let id = &container.record.id;
    let gone = || missing(container);
    let editing = Editing::begin(paths, id)?.ok_or_else(gone)?;
    let now = Container::read_whole(paths, id)?.ok_or_else(gone)?;
    let done = work(&now);
    drop(editing);
    done
}
