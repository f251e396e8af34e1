//! A program's standard streams: pipes, or a terminal that it opens itself. Never descriptors that somebody else has.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_runtime::Stdio;
use rbox_runtime::cgroup::Hierarchy;
use rbox_sys::SysError;
use rbox_sys::process::{self, Side};
use rustix::pipe::PipeFlags;

use crate::error::EngineError;
use crate::logs::Stream;

/// Our ends of a program's streams; what is read of and written to them comes back at once.
#[derive(Debug, Default)]
pub struct Ends {
    /// Its output.
    pub outputs: Vec<(Stream, OwnedFd)>,
    /// Its input, when it has any.
    pub input: Option<OwnedFd>,
}

/// A session of its own, and no descriptor of the caller's: a shell that waits for the end of our output gets it.
pub(crate) fn detach_from_caller(keep: &[BorrowedFd<'_>]) {
    process::close_all_but(keep);
    process::set_name(c"rbox-monitor");
    let _ = rustix::process::setsid();
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    let _ = rustix::process::chdir("/");
}

/// Forks. Where systemd delegated a unit to rbox the child is born in that, so that it does not end with the session
/// or the service of the command that started it.
pub(crate) fn fork_aside() -> Result<Side<i32>, EngineError> {
    let group = Hierarchy::detect().ok().and_then(Hierarchy::monitors);
    if let Some(Ok(side)) = group.map(|g| process::clone3(process::CloneFlags::empty(), Some(g.as_fd()))) {
        return Ok(match side {
            Side::Child => Side::Child,
            Side::Parent(child) => Side::Parent(child.pid),
        });
    }
    Ok(process::fork()?)
}

/// Pipes for the three, with nothing to read for a program that gets no input.
pub(crate) fn pipes(with_input: bool) -> Result<(Stdio, Ends), EngineError> {
    let (out_read, out_write) = pipe()?;
    let (err_read, err_write) = pipe()?;
    let (input_end, input) = if with_input {
        let (read, write) = pipe()?;
        unblock(&write)?;
        (read, Some(write))
    } else {
        (null()?, None)
    };
    unblock(&out_read)?;
    unblock(&err_read)?;
    let outputs = vec![(Stream::Stdout, out_read), (Stream::Stderr, err_read)];
    Ok((Stdio::Fds([input_end, out_write, err_write]), Ends { outputs, input }))
}

/// The null device for all three. The container's own takes its place inside.
pub(crate) fn nowhere() -> Result<Stdio, EngineError> {
    Ok(Stdio::Fds([null()?, null()?, null()?]))
}

fn null() -> Result<OwnedFd, EngineError> {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    Ok(null.map_err(EngineError::file("open", "/dev/null"))?.into())
}

fn pipe() -> Result<(OwnedFd, OwnedFd), EngineError> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|e| SysError::new("pipe2", "O_CLOEXEC".into(), e))?)
}

/// Makes reads and writes return at once.
pub(crate) fn unblock(fd: impl AsFd) -> Result<(), EngineError> {
    Ok(rustix::io::ioctl_fionbio(fd, true).map_err(|e| SysError::new("ioctl", "FIONBIO, 1".into(), e))?)
}
