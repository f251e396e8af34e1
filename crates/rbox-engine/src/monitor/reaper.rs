//! What a small init needs of the kernel: signals one by one, and every child's end.

use std::ffi::CString;
use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rbox_sys::process::{self, Side};
use rustix::process::WaitOptions;

/// What a process gets for its own fault: blocked, they would end it all the same.
pub(crate) const FAULTS: [Signal; 7] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// All signals blocked, to be taken one by one.
#[derive(Debug)]
pub struct Reaper {
    set: SigSet,
}

impl Reaper {
    /// Blocks every signal that is not this process's own fault.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::all();
        for fault in FAULTS {
            set.remove(fault);
        }
        set.thread_block()?;
        Ok(Self { set })
    }

    /// Starts the program with an empty signal mask and every signal at its default, in the foreground of the
    /// terminal when there is one. A program that cannot be executed ends with 126 or 127.
    pub fn spawn(self, args: &[CString]) -> io::Result<Child> {
        match process::fork().map_err(|e| io::Error::from_raw_os_error(e.errno as i32))? {
            Side::Parent(pid) => {
                // The program alone has what was passed on to it: whoever reads from the other end of a pipe waits for its end.
                process::close_inherited(Vec::new());
                let signals = SignalFd::with_flags(&self.set, SfdFlags::SFD_CLOEXEC)?;
                Ok(Child { pid, signals })
            }
            Side::Child => {
                let _ = rustix::process::setpgid(None, None);
                // The program's group must be the terminal's foreground, or its first read stops it. SIGTTOU is
                // still blocked here, so asking for it from the background is no stop either.
                let _ = rustix::termios::tcsetpgrp(io::stdin(), rustix::process::getpid());
                process::reset_signals();
                let errno = process::execvp(args);
                let name = args.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
                eprintln!("docker-init: exec: {name:?}: {}", errno.desc());
                process::exit_now(if errno == nix::errno::Errno::ENOENT { 127 } else { 126 })
            }
        }
    }
}

/// The program that a small init looks after, and the signals that come meanwhile.
#[derive(Debug)]
pub struct Child {
    /// Its pid.
    pub pid: i32,
    signals: SignalFd,
}

impl Child {
    /// Waits for the next signal: its number, as there are more than those that have names.
    pub fn next_signal(&self) -> Option<i32> {
        let taken = self.signals.read_signal().ok().flatten()?;
        i32::try_from(taken.ssi_signo).ok()
    }

    /// Passes a signal on to it; SIGCHLD is ours.
    pub fn pass_on(&self, signal: Option<i32>) {
        if let Some(signal) = signal.filter(|signal| *signal != Signal::SIGCHLD as i32) {
            // By its number, which is its own until this process takes its end: profiles of seccomp may know no pidfd.
            process::kill(self.pid, signal);
        }
    }
}

/// A child that has ended, by pid and exit code (128+n after signal n); none when none has.
pub fn wait_any() -> Option<(i32, i32)> {
    // Not nix: it knows no signal of real time, and loses whoever was ended by one.
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok().flatten()?;
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal))?;
    Some((pid.as_raw_nonzero().get(), code))
}
