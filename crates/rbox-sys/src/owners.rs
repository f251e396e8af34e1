//! Another owner for all of a tree that a container may be writing to.
//!
//! Every step goes from an open directory to one name in it and follows no link; what is changed is changed by a descriptor of the
//! thing itself ([`Inode`]). Mount points stay as they are, with what is on them. The tree decides how deep it is: a fixed number of
//! directories is open at a time, and those above are found again through `..`, checked to be the same.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::error::SysError;
use crate::inode::Inode;
use crate::trace;

/// How many directories are open at a time.
const WINDOW: usize = 16;

/// A directory on the way down.
struct Level {
    /// None: it was closed.
    fd: Option<OwnedFd>,
    /// Device and inode.
    id: (u64, u64),
    /// Names in it that are still to be looked at.
    left: Vec<CString>,
}

/// Gives what `top` stands for (which may be an `O_PATH` descriptor), and all that is below it on this mount, to a user and a group.
/// What is theirs already is not touched: a change of the owner takes set-id bits and file capabilities away.
///
/// # Errors
/// The first thing that cannot be given, or a directory that was moved elsewhere meanwhile. What came before it is given.
pub fn give_tree(top: impl AsFd, uid: u32, gid: u32) -> Result<(), SysError> {
    let top = top.as_fd();
    // Once for all of it: as many calls as there are files would tell no more.
    let told = || format!("{}, {uid}, {gid}, AT_EMPTY_PATH, and all below it", trace::fd(top));
    trace::call("fchownat", told, || give_all(top, uid, gid))
}

fn give_all(top: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<(), SysError> {
    let failed = |name: &CStr| {
        let name = name.to_string_lossy().into_owned();
        move |errno| SysError::new("fchownat", name, errno)
    };
    let top = Inode::of(top).map_err(failed(c"."))?;
    let mut levels: Vec<Level> = Vec::new();
    levels.extend(give(&top, uid, gid).map_err(failed(c"."))?);
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.pop() else {
            let done = levels.pop();
            reopen(levels.last_mut(), done).map_err(failed(c".."))?;
            continue;
        };
        let Some(dir) = &level.fd else { continue };
        let next = match beneath(dir, &name) {
            // It is gone; or another mount.
            Err(Errno::NOENT | Errno::XDEV) => continue,
            found => found.and_then(|thing| give(&thing, uid, gid)).map_err(failed(&name))?,
        };
        levels.extend(next);
        if let Some(far) = levels.len().checked_sub(WINDOW + 1).and_then(|at| levels.get_mut(at)) {
            far.fd = None;
        }
    }
    Ok(())
}

/// Opens a directory again that was closed, through the one below it.
fn reopen(level: Option<&mut Level>, below: Option<Level>) -> Result<(), Errno> {
    let Some(level) = level.filter(|level| level.fd.is_none()) else { return Ok(()) };
    let below = below.and_then(|below| below.fd).ok_or(Errno::STALE)?;
    let fd = rustix::fs::openat(&below, c"..", directory(), Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    if (stat.st_dev, stat.st_ino) != level.id {
        return Err(Errno::STALE);
    }
    level.fd = Some(fd);
    Ok(())
}

fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// What the single component `name` below `dir` is now, on the same mount.
fn beneath(dir: &OwnedFd, name: &CStr) -> Result<Inode, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let itself = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        match rustix::fs::openat2(dir, name, itself, Mode::empty(), how) {
            // A rename raced the walk.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A link, which with `O_NOFOLLOW` is itself; older kernels refuse it all the same.
            Err(Errno::LOOP) => return Inode::at(dir, name),
            found => return found.and_then(Inode::of),
        }
    }
}

/// Gives one thing. What is in it, when it is a directory.
fn give(thing: &Inode, uid: u32, gid: u32) -> Result<Option<Level>, Errno> {
    let stat = thing.stat()?;
    if (stat.st_uid, stat.st_gid) != (uid, gid) {
        thing.set_owner(Uid::from_raw(uid), Gid::from_raw(gid))?;
    }
    if !FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Ok(None);
    }
    let fd = thing.open_directory()?;
    let mut left = Vec::new();
    for entry in Dir::read_from(&fd)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            left.push(name);
        }
    }
    Ok(Some(Level { fd: Some(fd), id: (stat.st_dev, stat.st_ino), left }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn owner(path: &std::path::Path) -> (u32, u32) {
        let meta = fs::symlink_metadata(path).unwrap();
        (meta.uid(), meta.gid())
    }

    #[test]
    fn all_of_a_tree_and_nothing_behind_its_links() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (top, outside) = (dir.path().join("top"), dir.path().join("outside"));
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "").unwrap();
        fs::write(top.join("a/b/file"), "").unwrap();
        symlink(&outside, top.join("link")).unwrap();
        symlink("nowhere", top.join("a/dangling")).unwrap();
        rustix::fs::mknodat(File::open(&top).unwrap(), c"fifo", FileType::Fifo, Mode::from(0o600), 0)
            .unwrap();
        let by_path = rustix::fs::open(&top, OFlags::PATH, Mode::empty()).unwrap();
        give_tree(&by_path, 1234, 4321).unwrap();
        for name in ["", "a", "a/b", "a/b/file", "link", "a/dangling", "fifo"] {
            assert_eq!(owner(&top.join(name)), (1234, 4321), "{name}");
        }
        assert_eq!((owner(&outside), owner(&outside.join("file"))), ((0, 0), (0, 0)));
        // A file by itself.
        give_tree(File::open(outside.join("file")).unwrap(), 5, 6).unwrap();
        assert_eq!(owner(&outside.join("file")), (5, 6));
    }

    /// Deeper than any path may be long.
    #[test]
    fn a_deep_tree() {
        const DEPTH: usize = 5000;
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root gives files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut at = OwnedFd::from(File::open(&top).unwrap());
        for _ in 0..DEPTH {
            // One before and one behind, as the walk comes by.
            for name in [c"d", c"a", c"z"] {
                rustix::fs::mkdirat(&at, name, Mode::from(0o755)).unwrap();
            }
            at = rustix::fs::openat(&at, c"d", directory(), Mode::empty()).unwrap();
        }
        give_tree(File::open(&top).unwrap(), 7, 8).unwrap();
        let mut at = OwnedFd::from(File::open(&top).unwrap());
        for depth in 0..DEPTH {
            for name in [c"d", c"a", c"z"] {
                let stat = rustix::fs::statat(&at, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
                assert_eq!((stat.st_uid, stat.st_gid), (7, 8), "{depth}");
            }
            at = rustix::fs::openat(&at, c"d", directory(), Mode::empty()).unwrap();
        }
        crate::removal::remove_tree(&top).unwrap();
    }
}
