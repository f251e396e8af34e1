//! Waiting until a file is written to, or another takes its place.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

/// The longest wait: the kernel may have no watch left to give, and then only looking again shows what changed.
const LONGEST: Duration = Duration::from_millis(500);

/// A watch on the directory of a file: growth, rotation and first creation all show there.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watch {
    /// Watches the directory that `path` is in. What is written from here on ends the next [`wait`](Self::wait).
    ///
    /// # Errors
    /// Of inotify(7); that there are too many watches, or too many of those who watch, is none: then only looking again shows changes.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        let fd = match inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK) {
            // A user has 128 of them (fs.inotify.max_user_instances). This one never has anything to tell.
            Err(Errno::MFILE) => {
                return Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
            }
            fd => fd?,
        };
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let events = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE_SELF;
        match inotify::add_watch(&fd, dir, events) {
            Ok(_) | Err(Errno::NOSPC) => Ok(Self(fd)),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something changed in the directory, `other` is readable, or half a second or `at_most` is over.
    ///
    /// # Errors
    /// Of poll(2) and read(2).
    pub(crate) fn wait(&self, other: Option<BorrowedFd<'_>>, at_most: Option<Duration>) -> io::Result<()> {
        self.wait_for_any(other.as_slice(), at_most)
    }

    /// The same with several others.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub(crate) fn wait_for_any(
        &self,
        others: &[BorrowedFd<'_>],
        at_most: Option<Duration>,
    ) -> io::Result<()> {
        let mut fds = vec![PollFd::new(&self.0, PollFlags::IN)];
        fds.extend(others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let left = at_most.unwrap_or(LONGEST).min(LONGEST);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = [0; 4096];
        loop {
            match rustix::io::read(&self.0, &mut events) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_write_ends_the_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let watch = Watch::beside(&path).unwrap();
        let begin = Instant::now();
        watch.wait(None, Some(Duration::from_millis(20))).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(20), "nothing had changed");
        std::fs::write(&path, "x").unwrap();
        let begin = Instant::now();
        watch.wait(None, None).unwrap();
        assert!(begin.elapsed() < LONGEST);
        // What was told once is not told again.
        let begin = Instant::now();
        watch.wait(None, Some(Duration::from_millis(20))).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(20));
    }
}
