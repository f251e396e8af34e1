//! What a small init needs of the kernel: signals one by one, and every child's end.

use std::io;
use std::process::Command;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// All signals blocked, to be taken one by one.
#[derive(Debug)]
pub struct Reaper {
    set: SigSet,
}

impl Reaper {
    /// Blocks every signal that is not this process's own fault.
    pub fn new() -> io::Result<Self> {
        let mut set = SigSet::all();
        for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT, Signal::SIGTRAP, Signal::SIGSYS] {
            set.remove(fault);
        }
        set.thread_block()?;
        Ok(Self { set })
    }

    /// Starts the program, in the foreground of the terminal when there is one. The standard library gives it an
    /// empty signal mask. The child's pid.
    pub fn spawn(&self, command: &mut Command) -> io::Result<i32> {
        let child = command.spawn()?;
        let pid = child.id() as i32;
        // The program's group must be the terminal's foreground, or its first read stops it.
        if let Some(group) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::termios::tcsetpgrp(io::stdin(), group);
        }
        Ok(pid)
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
