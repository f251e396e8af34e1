//! Waiting for another process, and for how long.
//!
//! What a process waits for from another one (a word on a socket, its end) may never come: somebody has stopped that process
//! (SIGSTOP, Ctrl-Z), or it waits in the kernel for a disk or a file system that does not answer, where not even SIGKILL reaches
//! it. So a wait has a [`Patience`], chosen by what the other process may rightly be doing, and ends sooner when that has been
//! stopped for ten seconds. The error names the process, what it does, and what to do about it.
//!
//! Without an end are only waits for a container's own program, and for the user.

use std::fmt;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus};

/// How long another process is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub(crate) whole: Duration,
    pub(crate) stopped: Duration,
}

impl Patience {
    /// Small files are read and written, and the kernel is asked. A minute: hundreds may be waiting for their turn.
    pub const MOMENT: Self = Self::of_working(Duration::from_mins(1));
    /// A layer may be fetched or unpacked, a volume be filled, trees be deleted. An hour.
    pub const WORK: Self = Self::of_working(Duration::from_hours(1));

    /// This time for one that works, and ten seconds for one that is stopped.
    pub const fn of_working(whole: Duration) -> Self {
        Self { whole, stopped: STOPPED }
    }

    /// This time in any case.
    pub const fn of(time: Duration) -> Self {
        Self { whole: time, stopped: time }
    }
}

/// How long one is stopped before it is given up.
const STOPPED: Duration = Duration::from_secs(10);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The process that is waited for.
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    /// By its number, which must be kept from being given to another: a child's, or one whose number was checked.
    Pid(i32),
    /// By its descriptor.
    Pidfd(BorrowedFd<'a>),
}

impl Who<'_> {
    /// Its number; none when it is gone.
    pub fn pid(self) -> Option<u32> {
        match self {
            Self::Pid(pid) => u32::try_from(pid).ok(),
            Self::Pidfd(pidfd) => crate::process::pid_of(pidfd).and_then(|pid| u32::try_from(pid).ok()),
        }
    }

    fn look(self) -> Option<Seen> {
        self.pid().and_then(look)
    }
}

/// A process as /proc shows it.
pub(crate) struct Seen {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) state: char,
}

impl Seen {
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// None when it is gone.
pub(crate) fn look(pid: u32) -> Option<Seen> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    let state = stat.get(end + 1..)?.trim_start().chars().next()?;
    let name = stat.get(begin + 1..end)?.escape_debug().to_string();
    Some(Seen { pid, name, state })
}

/// A process that was waited for in vain: who it is, what it does, what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandsStill(String);

impl fmt::Display for StandsStill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StandsStill {}

impl StandsStill {
    fn new(seen: Option<Seen>, waited: Duration) -> Self {
        let seconds = waited.as_secs().max(1);
        Self(match seen {
            None => format!("the process that was waited for has not answered for {seconds} s: try again"),
            Some(Seen { pid, name, state: 'T' | 't' }) => format!(
                "process {pid} ({name}) is stopped: let it go on (kill -CONT {pid}) or end it (kill -KILL {pid})"
            ),
            Some(Seen { pid, name, state: 'D' }) => format!(
                "process {pid} ({name}) has been waiting in the kernel for {seconds} s, for a disk or file system that does not answer, or because its control group is frozen (/proc/{pid}/stack tells where): try again once it goes on"
            ),
            Some(Seen { pid, name, .. }) => format!(
                "process {pid} ({name}) has not answered for {seconds} s: try again, or end it (kill -KILL {pid})"
            ),
        })
    }
}

/// Waits until there is something to read from `fd` (its end too), which `who` is expected to bring about. One call when that
/// comes within a second.
pub fn readable(fd: impl AsFd, who: Who<'_>, patience: Patience) -> Result<(), StandsStill> {
    let begin = Instant::now();
    let step = LOOK.min(patience.stopped / 2);
    let step = Timespec { tv_sec: step.as_secs() as i64, tv_nsec: i64::from(step.subsec_nanos()) };
    let mut stopped: Option<Instant> = None;
    loop {
        match rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&step)) {
            Ok(0) => {}
            Err(rustix::io::Errno::INTR) => continue,
            // What is wrong with it is reported by whoever reads from it.
            Ok(_) | Err(_) => return Ok(()),
        }
        let seen = who.look();
        stopped = seen.as_ref().is_some_and(Seen::is_stopped).then(|| stopped.unwrap_or_else(Instant::now));
        let given_up = stopped.is_some_and(|since| since.elapsed() >= patience.stopped);
        if given_up || begin.elapsed() >= patience.whole {
            return Err(StandsStill::new(seen, begin.elapsed()));
        }
    }
}

/// How long a process may take to be gone that has ended already, or was sent SIGKILL.
pub const GONE: Patience = Patience::of(Duration::from_secs(10));

/// Takes the exit status of a child that has ended or is about to. None when that took too long, or it is no child of ours: it
/// is left to whoever takes over this process's children.
pub fn reap(pidfd: BorrowedFd<'_>, patience: Patience) -> Option<WaitIdStatus> {
    let take = || loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.ok().flatten(),
        }
    };
    take().or_else(|| readable(pidfd, Who::Pidfd(pidfd), patience).ok().and_then(|()| take()))
}

/// Runs another program to its end with `input` to read, and gives what it printed. What it leaves running behind it is not
/// waited for: its streams are files, not pipes. One that takes too long is ended.
pub fn run(command: &mut Command, input: &[u8], patience: Patience) -> io::Result<Output> {
    let memory = || -> io::Result<std::fs::File> {
        Ok(rustix::fs::memfd_create("rbox", rustix::fs::MemfdFlags::CLOEXEC)?.into())
    };
    let (mut stdin, mut stdout, mut stderr) = (memory()?, memory()?, memory()?);
    stdin.write_all(input)?;
    stdin.rewind()?;
    let mut child = command.stdin(stdin).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()?;
    let pidfd = crate::process::pidfd_open(child.id() as i32)
        .map_err(|error| io::Error::from_raw_os_error(error.errno as i32))?;
    if let Err(still) = readable(&pidfd, Who::Pidfd(pidfd.as_fd()), patience) {
        let _ = child.kill();
        let _ = reap(pidfd.as_fd(), GONE);
        return Err(io::Error::new(io::ErrorKind::TimedOut, still));
    }
    let status: ExitStatus = child.wait()?;
    Ok(Output { status, stdout: read(&mut stdout)?, stderr: read(&mut stderr)? })
}

fn read(file: &mut std::fs::File) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    const MOST: u64 = 1 << 20;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Stdio;

    use super::*;

    const SHORT: Patience = Patience::of(Duration::from_millis(300));

    #[test]
    fn a_word_that_never_comes_is_given_up_and_it_is_said_whose() {
        let (ours, theirs) = crate::channel::pair().unwrap();
        let own = std::process::id();
        let error = readable(&ours, Who::Pid(own as i32), SHORT).unwrap_err().to_string();
        assert!(error.contains(&format!("process {own} (")) && error.contains("kill -KILL"), "{error}");
        crate::channel::send(&theirs, b"word", None).unwrap();
        readable(&ours, Who::Pid(own as i32), SHORT).unwrap();
    }

    #[test]
    #[allow(clippy::zombie_processes, reason = "`reap` takes its end")]
    fn a_stopped_process_is_given_up_long_before_its_time() {
        let mut child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let pidfd = crate::process::pidfd_open(child.id() as i32).unwrap();
        crate::process::pidfd_send_signal(&pidfd, libc::SIGSTOP).unwrap();
        let patience = Patience { whole: Duration::from_hours(1), stopped: Duration::from_millis(300) };
        let error = readable(&pidfd, Who::Pidfd(pidfd.as_fd()), patience).unwrap_err().to_string();
        let said = format!("process {} (sleep) is stopped", child.id());
        assert!(error.contains(&said) && error.contains("kill -CONT"), "{error}");
        assert!(reap(pidfd.as_fd(), SHORT).is_none());
        child.kill().unwrap();
        assert_eq!(reap(pidfd.as_fd(), GONE).unwrap().terminating_signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn a_program_is_run_to_its_end_and_not_to_that_of_what_it_left_behind() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & cat; echo $! >&2"]);
        let out = run(&mut command, b"read this", Patience::MOMENT).unwrap();
        assert_eq!((out.stdout, out.status.code()), (b"read this".to_vec(), Some(0)));
        let left: i32 = String::from_utf8(out.stderr).unwrap().trim().parse().unwrap();
        crate::process::pidfd_send_signal(crate::process::pidfd_open(left).unwrap(), libc::SIGKILL).unwrap();
        let error = run(Command::new("sleep").arg("1000"), b"", SHORT).unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().contains("(sleep)"), "{error}");
    }
}
