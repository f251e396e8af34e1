//! RUN --mount=type=ssh: a socket with the owner and the mode that are asked for, whose connections lead to an agent of the caller's. The
//! agent's own socket is for its owner alone, so that only root could use it in a step.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rbox_sys::{SysError, own, process};
use rustix::fs::{AtFlags, Gid, Mode, Uid};
use rustix::process::{Pid, Signal, WaitOptions, getpid, getppid, set_parent_process_death_signal, waitpid};

use crate::error::{BuildError, io_error};
use crate::tree::Owner;

/// Most connections at once: a step makes one for each key that it asks for.
const MOST: usize = 64;
const NAME: &str = "agent";

/// The process behind such a socket. It ends with this.
#[derive(Debug)]
pub(crate) struct Forward {
    pid: i32,
}

impl Forward {
    /// Makes the socket in a new directory. What it is, and where.
    pub(super) fn begin(
        agent: &Path,
        dir: &Path,
        mode: u32,
        owner: Owner,
    ) -> Result<(Self, PathBuf), BuildError> {
        own::make_private(dir).map_err(io_error("make directory", dir))?;
        let path = dir.join(NAME);
        let place = crate::context::open_dir(dir)?;
        // A socket's path is a short one.
        let short = format!("/proc/self/fd/{}/{NAME}", place.as_raw_fd());
        let listener = UnixListener::bind(short).map_err(io_error("make socket", &path))?;
        let is_given = rustix::fs::chownat(
            &place,
            NAME,
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .and_then(|()| rustix::fs::chmodat(&place, NAME, Mode::from_raw_mode(mode), AtFlags::empty()));
        is_given.map_err(|error| io_error("give away", &path)(error.into()))?;
        let parent = getpid();
        match process::fork().map_err(|error| not_started(&path, &error))? {
            process::Side::Parent(pid) => Ok((Self { pid }, path)),
            process::Side::Child => serve(&listener, agent, parent),
        }
    }
}

fn not_started(path: &Path, error: &SysError) -> BuildError {
    io_error("start the process behind", path)(io::Error::from_raw_os_error(error.errno as i32))
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            process::kill(self.pid, Signal::KILL.as_raw());
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// The process behind the socket: each connection is one to the agent. Whoever started it ends it, however that ends.
fn serve(listener: &UnixListener, agent: &Path, parent: Pid) -> ! {
    // Its locks are not held any longer than it lives.
    process::close_all_but(&[listener.as_fd()]);
    let dies_with_it = set_parent_process_death_signal(Some(Signal::KILL));
    if dies_with_it.is_err() || getppid() != Some(parent) {
        process::exit_now(1);
    }
    process::set_name(c"rbox-agent");
    let agent: Arc<Path> = agent.into();
    let open = Arc::new(());
    for near in listener.incoming() {
        let Ok(near) = near else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        if Arc::strong_count(&open) > MOST {
            continue;
        }
        let (agent, count) = (Arc::clone(&agent), Arc::clone(&open));
        // One that cannot be served is closed.
        let _ = std::thread::Builder::new().spawn(move || {
            if let Ok(far) = UnixStream::connect(&agent) {
                carry(&near, &far);
            }
            drop(count);
        });
    }
    process::exit_now(0)
}

/// Carries what both say until neither says more.
fn carry(near: &UnixStream, far: &UnixStream) {
    let one_way = |mut from: &UnixStream, mut to: &UnixStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::scope(|scope| {
        let there = std::thread::Builder::new().spawn_scoped(scope, || one_way(near, far));
        if there.is_ok() {
            one_way(far, near);
        }
        // Without a thread for the one way there is no use for the other.
        let _ = near.shutdown(if there.is_ok() { Shutdown::Write } else { Shutdown::Both });
    });
}
