//! Where entries go: every name resolved below the root's descriptor, by the kernel, with `RESOLVE_IN_ROOT`.
//! A symbolic link of the layer leads to a place inside the layer, absolute or not; none leads out.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_sys::removal::remove_at;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::error::{Name, UnpackError, refused, system};
use super::limits::Limits;

/// Prefix of a name that hides the rest of it in lower layers.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// Hides everything lower layers have in its directory.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// As many links as the kernel follows in one name.
const MOST_LINKS: u32 = 40;

/// Directory being opened as a place to work in: never a link, never read.
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The tree under construction.
pub(crate) struct Place<'fd, 'l> {
    root: BorrowedFd<'fd>,
    limits: &'l Limits,
    /// The directory the last entry was made in. Archives go directory by directory, so it mostly serves again.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Inodes made, implied directories too.
    made: u64,
}

/// A name's directory part and last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// A name of the archive as a relative one: no leading slash, no `.`, no empty component. Empty for the root.
/// `..` is refused: readers resolve it by the text, by the tree, or strip it.
pub(crate) fn clean(name: &[u8], limits: &Limits) -> Result<Vec<u8>, UnpackError> {
    let mut path = Vec::with_capacity(name.len());
    if name.is_empty() {
        return Err(refused(name, "has no name"));
    }
    if name.len() > limits.name_bytes {
        return Err(refused(name, "has a name that is too long"));
    }
    for component in name.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(refused(name, "has `..` in its name")),
            // A whiteout's own name may be longer than any file's.
            _ if component.strip_prefix(WHITEOUT).unwrap_or(component).len() > 255 => {
                return Err(refused(name, "has a component longer than 255 bytes in its name"));
            }
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    Ok(path)
}

impl<'fd, 'l> Place<'fd, 'l> {
    pub(crate) fn new(root: BorrowedFd<'fd>, limits: &'l Limits) -> Self {
        Self { root, limits, last: None, made: 0 }
    }

    /// The root's own descriptor.
    pub(crate) fn root(&self) -> BorrowedFd<'fd> {
        self.root
    }

    /// Opens `path` (relative, clean; empty for the root) inside the root. Links on the way are followed inside it.
    pub(crate) fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: something was renamed anywhere while `..` of a link was being walked (openat2(2)).
        for _ in 0..1000 {
            match rustix::fs::openat2(self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The directory part of a link's target, which has to exist.
    pub(crate) fn existing(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open(path, PLACE)
    }

    /// Counts one more inode.
    pub(crate) fn count(&mut self) -> Result<(), UnpackError> {
        self.made += 1;
        if self.made > self.limits.entries {
            return Err(UnpackError::Limit { limit: self.limits.entries, of: "files and directories" });
        }
        Ok(())
    }

    /// The directory `path` belongs in, made if it is missing.
    pub(crate) fn parent(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, UnpackError> {
        let (directory, _) = split(path);
        if self.last.as_ref().is_none_or(|(last, _)| last != directory) {
            self.last = None;
            let fd = match self.open(directory, PLACE) {
                Err(Errno::NOENT) => self.make_all(directory)?,
                other => system("openat2", path, other)?,
            };
            self.last = Some((directory.to_vec(), fd));
        }
        match &self.last {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Ok(self.root),
        }
    }

    /// Makes what is missing of a directory, following links of the layer inside the root as far as they lead.
    pub(crate) fn make_all(&mut self, directory: &[u8]) -> Result<OwnedFd, UnpackError> {
        let mut here = system("openat2", directory, self.existing(b""))?;
        let mut depth: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        let mut left: VecDeque<Vec<u8>> = components(directory).collect();
        while let Some(name) = left.pop_front() {
            if name == b".." {
                depth.pop();
                here = system("openat2", directory, self.existing(&depth.join(&b'/')))?;
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = match rustix::fs::openat(&here, &name[..], flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    self.make_implied(here.as_fd(), &name, directory)?;
                    rustix::fs::openat(&here, &name[..], flags | OFlags::DIRECTORY, Mode::empty())
                }
                other => other,
            };
            let next = system("openat", directory, next)?;
            match FileType::from_raw_mode(system("fstat", directory, rustix::fs::fstat(&next))?.st_mode) {
                FileType::Directory => {
                    here = next;
                    depth.push(name);
                }
                FileType::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return system("openat2", directory, Err(Errno::LOOP));
                    }
                    let target =
                        system("readlinkat", directory, rustix::fs::readlinkat(&next, c"", Vec::new()))?;
                    if target.as_bytes().starts_with(b"/") {
                        depth.clear();
                        here = system("openat2", directory, self.existing(b""))?;
                    }
                    for component in components(target.as_bytes()).collect::<Vec<_>>().into_iter().rev() {
                        left.push_front(component);
                    }
                }
                _ => return system("openat2", directory, Err(Errno::NOTDIR)),
            }
        }
        Ok(here)
    }

    /// A directory the archive implies and does not hold: root's, 0755.
    fn make_implied(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        self.count()?;
        system("mkdirat", path, rustix::fs::mkdirat(parent, name, Mode::RWXU))?;
        let fd = system("openat", path, rustix::fs::openat(parent, name, DIRECTORY, Mode::empty()))?;
        system("fchown", path, rustix::fs::fchown(&fd, Some(Uid::ROOT), Some(Gid::ROOT)))?;
        system("fchmod", path, rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755)))
    }

    /// Makes `path` by `make`, in the place of whatever an earlier entry put there.
    pub(crate) fn make<T>(
        &mut self,
        call: &'static str,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        self.count()?;
        let (_, name) = split(path);
        match make(self.parent(path)?, name) {
            Err(Errno::EXIST) => {
                self.remove(path)?;
                system(call, path, make(self.parent(path)?, name))
            }
            done => system(call, path, done),
        }
    }

    /// What is at `path`, the last component not followed.
    pub(crate) fn kind(&mut self, path: &[u8]) -> Result<Option<rustix::fs::Stat>, UnpackError> {
        let (_, name) = split(path);
        match rustix::fs::statat(self.parent(path)?, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => system("newfstatat", path, other).map(Some),
        }
    }

    /// Removes what is at `path`, with all it holds.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let (_, name) = split(path);
        let refused = |source| UnpackError::Remove { path: Name(path.to_vec()), source };
        let name = CString::new(name).map_err(|error| refused(error.into()))?;
        let removed = remove_at(self.parent(path)?, &name).map_err(refused);
        // The directory kept open may have been found through a link that was removed, or have been removed.
        self.last = None;
        removed
    }
}

/// A directory opened to be read or changed, its name not followed.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The components of a path that say something.
fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}
