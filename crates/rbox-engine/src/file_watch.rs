//! What changes below directories of the host, for those who act on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

/// A watch on whole trees. Links are not followed, and `.git` is left out.
#[derive(Debug)]
pub struct FileWatch {
    fd: OwnedFd,
    roots: Vec<PathBuf>,
    /// The directories that are watched, by inotify's numbers.
    directories: BTreeMap<i32, PathBuf>,
}

impl FileWatch {
    /// Watches these files and directories, which need not be there yet.
    ///
    /// # Errors
    /// Of inotify(7), such as that there are too many watches.
    pub fn new(roots: &[PathBuf]) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let mut watch = Self { fd, roots: roots.to_vec(), directories: BTreeMap::new() };
        for root in roots {
            if root.is_dir() {
                watch.add(root, &mut BTreeSet::new())?;
            } else if let Some(parent) = root.parent().filter(|parent| parent.is_dir()) {
                // An editor puts another file in its place.
                watch.one(parent)?;
            }
        }
        Ok(watch)
    }

    /// Waits for a change, and then until nothing has changed for `quiet`: the paths that changed, which may be gone. None after
    /// `at_most` without one.
    ///
    /// # Errors
    /// Of poll(2), read(2) and inotify(7).
    pub fn wait(&mut self, quiet: Duration, at_most: Duration) -> io::Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        loop {
            let limit = if changed.is_empty() { at_most } else { quiet };
            let timeout = Timespec {
                tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(limit.subsec_nanos()),
            };
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Ok(changed),
                Ok(_) => self.read(&mut changed)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn read(&mut self, changed: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = Vec::new();
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                    events.push((event.wd(), event.events(), name));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (number, what, name) in events {
            if what.contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                // What was lost is not known: all may have changed.
                for root in self.roots.clone() {
                    self.add(&root, changed)?;
                }
                continue;
            }
            if what.contains(inotify::ReadFlags::IGNORED) {
                self.directories.remove(&number);
                continue;
            }
            let Some(directory) = self.directories.get(&number) else { continue };
            let Some(path) = name.map(|name| directory.join(name)) else { continue };
            let is_new = what.intersects(inotify::ReadFlags::CREATE | inotify::ReadFlags::MOVED_TO);
            if !self.is_below(&path) || is_left_out(&path) {
                continue;
            }
            if what.contains(inotify::ReadFlags::ISDIR) {
                if is_new {
                    self.add(&path, changed)?;
                    continue;
                }
                if !what.intersects(inotify::ReadFlags::DELETE | inotify::ReadFlags::MOVED_FROM) {
                    continue;
                }
            }
            changed.insert(path);
        }
        Ok(())
    }

    fn is_below(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    /// Watches a directory and those in it; the files that are there are taken as changed.
    fn add(&mut self, directory: &Path, changed: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let mut next = vec![directory.to_owned()];
        while let Some(directory) = next.pop() {
            // First watched, then read, so that nothing comes in between.
            if !self.one(&directory)? {
                continue;
            }
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries.flatten().filter(|entry| !is_left_out(&entry.path())) {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => next.push(entry.path()),
                    Ok(_) => drop(changed.insert(entry.path())),
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Watches one directory; false if it is gone, or none.
    fn one(&mut self, directory: &Path) -> io::Result<bool> {
        let events = inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::ATTRIB
            | inotify::WatchFlags::ONLYDIR
            | inotify::WatchFlags::DONT_FOLLOW;
        match inotify::add_watch(&self.fd, directory, events) {
            Ok(number) => {
                self.directories.insert(number, directory.to_owned());
                Ok(true)
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => Ok(false),
            Err(Errno::NOSPC) => {
                let why = "too many directories are watched: raise the sysctl fs.inotify.max_user_watches";
                Err(io::Error::other(why))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The text of a small file among those that are watched, which a container may write too. None if it is not there, or no such file.
pub fn small_text(path: &Path) -> Option<String> {
    const MOST: u64 = 1 << 20;
    String::from_utf8(rbox_sys::reading::read_file(path, MOST).ok()?).ok()
}

/// Whether a path is of git's own files.
fn is_left_out(path: &Path) -> bool {
    path.file_name() == Some(OsStr::new(".git"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn changes_are_told_of_whole_trees() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("src");
        std::fs::create_dir_all(root.join("deep")).unwrap();
        std::fs::create_dir(root.join(".git")).unwrap();
        let mut watch = FileWatch::new(std::slice::from_ref(&root)).unwrap();
        let (quiet, most) = (Duration::from_millis(50), Duration::from_millis(500));
        let mut changed = || {
            let all = watch.wait(quiet, most).unwrap();
            all.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        std::fs::write(root.join("deep/file"), "1").unwrap();
        std::fs::write(root.join(".git/index"), "1").unwrap();
        std::fs::write(dir.path().join("outside"), "1").unwrap();
        assert_eq!(changed(), ["deep/file"]);
        // What is in a new directory counts, whether it came before the watch or after.
        std::fs::create_dir_all(root.join("new/er")).unwrap();
        std::fs::write(root.join("new/er/file"), "1").unwrap();
        assert_eq!(changed(), ["new/er/file"]);
        std::fs::write(root.join("new/er/other"), "1").unwrap();
        std::fs::remove_file(root.join("deep/file")).unwrap();
        assert_eq!(changed(), ["deep/file", "new/er/other"]);
        std::fs::rename(root.join("new"), dir.path().join("away")).unwrap();
        assert_eq!(changed(), ["new"]);
        assert!(changed().is_empty());
    }
}
