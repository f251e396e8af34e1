//! How much the files of a tree take on disk, while a container may be changing it.
//!
//! A container can put a link or another directory in the place of one that was just listed. So each directory is opened
//! from the one above it, no link is followed and no mount crossed: nothing outside the tree is counted. As in
//! [`crate::removal`] a fixed number of descriptors is open, however deep the tree is; above that many levels a directory is
//! closed, and found again through `..` of the one below it, checked to be the same. The walk ends whatever is done
//! to the tree: each directory that is entered is read once, and none below [`DEEPEST`].

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How many directories are open at a time.
const WINDOW: usize = 16;
/// Directories nested deeper count nothing: a container that goes on making them would keep the walk for ever.
const DEEPEST: usize = 1 << 16;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory on the way down.
struct Level {
    /// None: it was closed.
    fd: Option<OwnedFd>,
    id: (u64, u64),
    /// Its directories that were not entered yet.
    left: Vec<CString>,
}

/// Bytes that the regular files below `dir` take on disk. What cannot be read counts nothing; a file with several names
/// counts once.
pub fn disk_usage(dir: &Path) -> u64 {
    let mut walk = Walk::default();
    let Ok(top) = rustix::fs::open(dir, DIRECTORY, Mode::empty()) else { return 0 };
    let _ = walk.read(top);
    while let Some(level) = walk.levels.last_mut() {
        match level.left.pop() {
            Some(name) => walk.descend(&name),
            None => walk.ascend(),
        }
    }
    walk.total
}

#[derive(Default)]
struct Walk {
    total: u64,
    /// Files with several names.
    seen: HashSet<(u64, u64)>,
    levels: Vec<Level>,
}

impl Walk {
    /// Counts what is in a directory, which becomes the lowest level.
    fn read(&mut self, fd: OwnedFd) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(&fd)?;
        let mut left = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => left.push(name.to_owned()),
                FileType::RegularFile
                    if stat.st_nlink == 1 || self.seen.insert((stat.st_dev, stat.st_ino)) =>
                {
                    let (length, blocks) = (stat.st_size.max(0) as u64, stat.st_blocks.max(0) as u64);
                    self.total = self.total.saturating_add(length.min(blocks.saturating_mul(512)));
                }
                _ => {}
            }
        }
        self.levels.push(Level { fd: Some(fd), id: (stat.st_dev, stat.st_ino), left });
        Ok(())
    }

    /// Goes into a directory of the lowest level.
    fn descend(&mut self, name: &CStr) {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let Some(above) = self.levels.last().and_then(|level| level.fd.as_ref()) else { return };
        if self.levels.len() >= DEEPEST {
            return;
        }
        let Ok(fd) = rustix::fs::openat2(above.as_fd(), name, DIRECTORY, Mode::empty(), how) else { return };
        let _ = self.read(fd);
        if let Some(far) = self.levels.len().checked_sub(WINDOW + 1).and_then(|far| self.levels.get_mut(far))
        {
            far.fd = None;
        }
    }

    /// Goes up from the lowest level, of which everything was counted.
    fn ascend(&mut self) {
        let Some(Level { fd: Some(done), .. }) = self.levels.pop() else { return };
        let Some(above) = self.levels.last_mut().filter(|above| above.fd.is_none()) else { return };
        let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let found = rustix::fs::openat2(&done, c"..", flags, Mode::empty(), how);
        let same =
            |fd: &OwnedFd| rustix::fs::fstat(fd).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == above.id);
        match found.ok().filter(same) {
            Some(fd) => above.fd = Some(fd),
            // Somebody moves the tree about: what was not reached is not counted.
            None => self.levels.clear(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn file(path: &Path, bytes: usize) {
        fs::write(path, vec![1; bytes]).unwrap();
        fs::File::open(path).unwrap().sync_all().unwrap();
    }

    #[test]
    fn what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        file(&dir.path().join("outside"), 100_000);
        file(&tree.join("one"), 5000);
        file(&tree.join("a/b/two"), 700);
        fs::hard_link(tree.join("one"), tree.join("a/again")).unwrap();
        fs::File::create(tree.join("hole")).unwrap().set_len(1 << 30).unwrap();
        symlink(dir.path(), tree.join("out")).unwrap();
        symlink(dir.path().join("outside"), tree.join("a/out")).unwrap();
        assert_eq!(disk_usage(&tree), 5700);
        symlink(&tree, dir.path().join("link")).unwrap();
        assert_eq!(disk_usage(&dir.path().join("link")), 0);
        assert_eq!(disk_usage(&dir.path().join("absent")), 0);
    }

    /// Deeper than any path may be long, and than there may be descriptors.
    #[test]
    fn deep_trees() {
        let dir = tempfile::tempdir().unwrap();
        let mut at: OwnedFd = fs::File::open(dir.path()).unwrap().into();
        for level in 0..5000 {
            rustix::fs::mkdirat(&at, "directory", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "directory", DIRECTORY, Mode::empty()).unwrap();
            if level % 1000 == 0 {
                for name in ["x", "y"] {
                    rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
                    let flags = OFlags::WRONLY | OFlags::CREATE;
                    let file =
                        rustix::fs::openat(&at, format!("{name}/f"), flags, Mode::RUSR | Mode::WUSR).unwrap();
                    assert_eq!(rustix::io::write(&file, &[1; 100]).unwrap(), 100);
                    rustix::fs::fsync(&file).unwrap();
                }
            }
        }
        assert_eq!(disk_usage(dir.path()), 1000);
        crate::removal::clear(fs::File::open(dir.path()).unwrap()).unwrap();
    }

    /// Directories are swapped for links to one of the host while they are counted.
    #[test]
    fn swapped_directories_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, host) = (dir.path().join("tree"), dir.path().join("host"));
        fs::create_dir(&host).unwrap();
        file(&host.join("large"), 1 << 20);
        let blocks = fs::metadata(host.join("large")).unwrap().blocks();
        assert!(blocks > 0);
        for n in 0..50 {
            fs::create_dir_all(tree.join(n.to_string())).unwrap();
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for n in 0..50 {
                        let (there, away) = (tree.join(n.to_string()), dir.path().join("away"));
                        fs::rename(&there, &away).unwrap();
                        symlink(&host, &there).unwrap();
                        fs::remove_file(&there).unwrap();
                        fs::rename(&away, &there).unwrap();
                    }
                }
            });
            let counted: Vec<u64> = (0..2000).map(|_| disk_usage(&tree)).filter(|bytes| *bytes > 0).collect();
            done.store(true, Ordering::Relaxed);
            assert_eq!(counted, [0_u64; 0], "the host's files were counted");
        });
    }
}
