//! Health checks: when the next one is due, what the last one came to, and what follows.
//!
//! A check is what exec would run, by a process forked from the monitor, which waits for it, ends it when it takes too long, and
//! sends what it came to through a pipe. So the monitor has a timer, and now and then a pipe, and waits for nobody. The times are the
//! monotonic clock's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_spec::health::{EAGER, Healthcheck, OnUnhealthy, go_text};
use rbox_spec::id::ContainerId;
use rbox_sys::process::{self, Side};
use rbox_sys::waiting::{GONE, reap};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use crate::control::exec::{ExecProcess, ExecRequest, ExecStdio, exec};
use crate::journal::{ContainerAction, note_container};
use crate::own_file;
use crate::record::container::{Container, ContainerRecord, Status};
use crate::record::file::write_json;
use crate::record::health::{CheckResult, Health, HealthStatus};
use crate::record::paths::Paths;

/// Bytes of a check's output that are kept.
const MOST_OUTPUT: usize = 4096;
/// A result is no longer: each byte of the output may become six.
const MOST_RESULT: usize = 48 * 1024;

/// The checks of one life of a container.
pub(crate) struct Checks<'a> {
    paths: &'a Paths,
    id: ContainerId,
    check: Healthcheck,
    command: Vec<String>,
    on_unhealthy: OnUnhealthy,
    started: Instant,
    due: Instant,
    early: Early,
    running: Option<Running>,
    health: Health,
}

/// The checks before the first regular one, of a container that is looked at eagerly. They say only that it is healthy: one that
/// fails was too early, and counts for nothing.
struct Early {
    /// Until then.
    until: Instant,
    /// Time to the next one; it doubles.
    pause: Duration,
}

impl Early {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(2);

    fn of(record: &ContainerRecord, started: Instant, regular: Instant) -> Self {
        let is_eager = record.host.annotations.get(EAGER).is_some_and(|value| value == "true");
        Self { until: if is_eager { regular } else { started }, pause: Self::FIRST }
    }

    /// When the next one is due, unless the first regular one is sooner.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        let due = now + self.pause;
        self.pause = (self.pause * 2).min(Self::LONGEST);
        (due < self.until).then_some(due)
    }
}

/// A check that is being made.
struct Running {
    began: Instant,
    /// The process that makes it.
    pidfd: OwnedFd,
    /// Where it says what it came to.
    answer: OwnedFd,
}

impl<'a> Checks<'a> {
    /// None for a container without checks.
    pub(crate) fn new(paths: &'a Paths, record: &ContainerRecord) -> Option<Self> {
        let check = record.config.healthcheck.clone()?;
        let command = check.command(&record.config.shell)?;
        let now = Instant::now();
        let regular = now + check.pause(Duration::ZERO, true);
        let mut early = Early::of(record, now, regular);
        let checks = Self {
            paths,
            id: record.id.clone(),
            due: early.next(now).unwrap_or(regular),
            early,
            command,
            on_unhealthy: record.config.on_unhealthy,
            check,
            started: now,
            running: None,
            health: Health::default(),
        };
        checks.write();
        Some(checks)
    }

    /// How long until something is to be done, if nothing is being done.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.running.is_none().then(|| self.due.saturating_duration_since(Instant::now()))
    }

    /// Readable when a check is done.
    pub(crate) fn poll_fd(&self) -> Option<PollFd<'_>> {
        self.running.as_ref().map(|running| PollFd::new(&running.answer, PollFlags::IN))
    }

    /// Begins a check that is due, and takes in what one came to that is done (`ready`). Whether the container's first process is
    /// to be killed: it has turned unhealthy.
    pub(crate) fn turn(&mut self, record: &ContainerRecord, ready: bool) -> bool {
        if ready && let Some(running) = self.running.take() {
            let result = running.end();
            if running.began < self.early.until && result.as_ref().is_some_and(|result| result.exit_code != 0)
            {
                self.wait_for_next();
                return false;
            }
            let starts = self.health.status == HealthStatus::Starting;
            let counts = !starts || running.began.duration_since(self.started) >= self.check.start_period();
            let before = self.health.status;
            let turned = result.map(|result| {
                let turned = self.health.take(result, counts, self.check.retries());
                self.write();
                turned
            });
            if self.health.status != before {
                let action = ContainerAction::Health(self.health.status);
                note_container(self.paths, record, action);
            }
            self.wait_for_next();
            return turned == Some(true) && self.is_to_be_killed();
        }
        if self.running.is_none() && Instant::now() >= self.due {
            match Running::begin(self.paths, &self.id, &self.command, self.check.timeout()) {
                Some(running) => self.running = Some(running),
                // The host has no process or descriptor for it: the next time perhaps.
                None => self.wait_for_next(),
            }
        }
        false
    }

    fn wait_for_next(&mut self) {
        let starts = self.health.status == HealthStatus::Starting;
        let now = Instant::now();
        if starts && now < self.early.until {
            self.due = self.early.next(now).unwrap_or(self.early.until);
            return;
        }
        self.due = now + self.check.pause(self.started.elapsed(), starts);
    }

    fn is_to_be_killed(&self) -> bool {
        match self.on_unhealthy {
            OnUnhealthy::None | OnUnhealthy::Kill => {}
            OnUnhealthy::Restart => self.run_command("restart"),
            OnUnhealthy::Stop => self.run_command("stop"),
        }
        self.on_unhealthy == OnUnhealthy::Kill
    }

    /// Another process does to the container what a user would do: this one is what it waits for.
    fn run_command(&self, word: &str) {
        // By its path, where the file of today's rbox is. What runs here is attached nowhere, and no container could have it as `--init`.
        let _ = Command::new(own_file::today())
            // Whatever name it goes by here: Compose's has commands of its own.
            .arg0("rbox")
            .arg("--root")
            .arg(&self.paths.root)
            .arg("--state")
            .arg(&self.paths.state)
            .args([word, self.id.as_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
    }

    fn write(&self) {
        // On a full tmpfs the last thing that was said stays.
        let _ = write_json(&self.paths.live_health(&self.id), &self.health);
    }

    /// The container has ended: a check that is still being made ends too. Its health as it is from then on.
    pub(crate) fn end(mut self) -> Health {
        if let Some(running) = self.running.take() {
            let _ = process::pidfd_send_signal(&running.pidfd, Signal::KILL.as_raw());
            let _ = reap(running.pidfd.as_fd(), GONE);
        }
        // Docker's word for a container that is not looked after any more.
        self.health.status = HealthStatus::Unhealthy;
        self.health
    }
}

impl Running {
    fn begin(paths: &Paths, id: &ContainerId, command: &[String], timeout: Duration) -> Option<Self> {
        let (answer, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).ok()?;
        match process::fork().ok()? {
            Side::Parent(pid) => {
                Some(Self { began: Instant::now(), pidfd: process::pidfd_open(pid).ok()?, answer })
            }
            Side::Child => {
                // The container's pipes, its terminal and its lock stay the monitor's.
                process::close_all_but(&[theirs.as_fd()]);
                process::set_name(c"rbox-health");
                if let Some(result) = make(paths, id, command, timeout)
                    && let Ok(text) = rbox_spec::record::encode(&result)
                {
                    // It fits into the pipe.
                    let _ = rustix::io::write(&theirs, &text);
                }
                process::exit_now(0)
            }
        }
    }

    /// What it came to. None when it was not made: the container is paused.
    fn end(&self) -> Option<CheckResult> {
        let mut text = vec![0; MOST_RESULT];
        let length = rustix::io::read(&self.answer, &mut text).unwrap_or(0);
        let _ = reap(self.pidfd.as_fd(), GONE);
        rbox_spec::record::decode(&text[..length]).ok()
    }
}

/// Makes one check. None when it says nothing about the container, which is paused.
fn make(paths: &Paths, id: &ContainerId, command: &[String], timeout: Duration) -> Option<CheckResult> {
    let start = Timestamp::now();
    let container = Container::read(paths, id).ok().flatten()?;
    let is_paused = || {
        Container::read(paths, id).ok().flatten().is_none_or(|container| container.status == Status::Paused)
    };
    if container.status == Status::Paused {
        return None;
    }
    let request = ExecRequest { command: command.to_vec(), ..ExecRequest::default() };
    let mut output = Vec::new();
    let process = match exec(paths, &container, &request, ExecStdio::Watched) {
        Ok(process) => process,
        Err(_) if is_paused() => return None,
        Err(error) => {
            return Some(CheckResult {
                start,
                end: Timestamp::now(),
                exit_code: -1,
                output: error.with_causes(),
            });
        }
    };
    let code = watch(&process, timeout, &mut output);
    // It stood still with the container. The signal waits for it, and nobody here for that.
    let stood_still = code.is_none() && is_paused();
    if code.is_none() {
        kill(&process, !stood_still);
    }
    let late = || format!("Health check exceeded timeout ({})", go_text(timeout));
    let output = match code {
        Some(_) => text(&output),
        None if output.is_empty() => late(),
        None => format!("{}: {}", late(), text(&output)),
    };
    let result = CheckResult { start, end: Timestamp::now(), exit_code: code.unwrap_or(-1), output };
    (!stood_still).then_some(result)
}

/// Reads what a check writes until it ends: its exit code. None when it has not by `timeout`.
fn watch(process: &ExecProcess, timeout: Duration, output: &mut Vec<u8>) -> Option<i32> {
    let deadline = Instant::now() + timeout;
    let mut open: Vec<BorrowedFd<'_>> = process.ends.outputs.iter().map(|(_, fd)| fd.as_fd()).collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = vec![PollFd::from_borrowed_fd(process.pidfd(), PollFlags::IN)];
        fds.extend(open.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let limit = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let _ = rustix::event::poll(&mut fds, Some(&limit));
        let ended = !fds[0].revents().is_empty();
        open.retain(|fd| take(*fd, output));
        if ended {
            return Some(process.wait());
        }
        if Instant::now() >= deadline {
            return None;
        }
    }
}

/// Reads what is there to be read, and keeps the beginning. Whether there may be more.
fn take(fd: BorrowedFd<'_>, output: &mut Vec<u8>) -> bool {
    let mut buffer = [0; MOST_OUTPUT];
    // A check that writes without end is read as fast as this looks at the clock.
    for _ in 0..16 {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => return false,
            Ok(length) => {
                let room = (MOST_OUTPUT + 1).saturating_sub(output.len());
                output.extend_from_slice(&buffer[..length.min(room)]);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return true,
            Err(_) => return false,
        }
    }
    true
}

fn text(output: &[u8]) -> String {
    let kept = String::from_utf8_lossy(&output[..output.len().min(MOST_OUTPUT)]).into_owned();
    if output.len() > MOST_OUTPUT { kept + "..." } else { kept }
}

/// Ends a check and what it has started in its group: it is the leader of its session, and its number stays its own until it is
/// waited for.
fn kill(process: &ExecProcess, waits: bool) {
    if let Some(pid) = process::pid_of(process.pidfd()).and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
    if waits && reap(process.pidfd(), GONE).is_some() {
        process.tell_end(128 + Signal::KILL.as_raw());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut() {
        assert_eq!(text(b"short\n"), "short\n");
        let long = vec![b'x'; MOST_OUTPUT + 1];
        assert_eq!(text(&long).len(), MOST_OUTPUT + 3);
        assert!(text(&long).ends_with("x..."));
    }
}
