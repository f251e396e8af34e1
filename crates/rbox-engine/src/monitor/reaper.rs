//! What a small init needs of the kernel: signals one by one, and every child's end.

use std::ffi::CString;
use std::io;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rbox_sys::process::{self, Side};

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
    /// terminal when there is one. Its pid. A program that cannot be executed ends with 126 or 127.
    pub fn spawn(&self, args: &[CString]) -> io::Result<i32> {
        match process::fork().map_err(|e| io::Error::from_raw_os_error(e.errno as i32))? {
            Side::Parent(pid) => Ok(pid),
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

    /// Waits for the next signal.
    pub fn next_signal(&self) -> Option<Signal> {
        self.set.wait().ok()
    }

    /// Passes a signal on to the child; SIGCHLD is ours.
    pub fn pass_on(&self, signal: Option<Signal>, child: i32) {
        if let Some(signal) = signal.filter(|s| *s != Signal::SIGCHLD) {
            let _ = kill(Pid::from_raw(child), signal);
        }
    }
}

/// A child that has ended, by pid and exit code (128+n after signal n); none when none has.
pub fn wait_any() -> Option<(i32, i32)> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(pid, code)) => Some((pid.as_raw(), code)),
        Ok(WaitStatus::Signaled(pid, signal, _)) => Some((pid.as_raw(), 128 + signal as i32)),
        _ => None,
    }
}
