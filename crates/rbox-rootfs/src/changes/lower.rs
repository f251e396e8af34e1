//! What the layers have at a path, merged as overlayfs does it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_sys::SysError;
use rbox_sys::inode::Inode;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::change::{ChangesError, as_path};

pub(super) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
pub(super) const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);
/// Letters of a path that are resolved in one call; the kernel takes 4095.
const STRETCH: usize = 4000;

/// What is visible of the layers under one name.
#[derive(Default)]
pub(super) struct Found {
    /// The topmost thing, unless it is hidden.
    pub(super) stat: Option<Stat>,
    /// If that is a regular file, what capabilities it gives.
    pub(super) capability: Option<Vec<u8>>,
    /// If it is a directory, the layers whose directories are merged in it, the topmost first.
    pub(super) layers: Vec<usize>,
    /// Layers further down have nothing to say.
    settled: bool,
}

impl Found {
    /// Whether it is a directory.
    pub(super) fn is_directory(&self) -> bool {
        self.stat.as_ref().is_some_and(|stat| kind(stat) == FileType::Directory)
    }
}

/// The layers, by their number, base first.
pub(super) struct Lowers<'a> {
    pub(super) dirs: &'a [PathBuf],
}

impl Lowers<'_> {
    /// All of them, the topmost first.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.dirs.len()).rev().collect()
    }

    /// What these layers have under each name in the directory `path`.
    pub(super) fn look(
        &self,
        layers: &[usize],
        path: &[u8],
        names: &[CString],
    ) -> Result<Vec<Found>, ChangesError> {
        let mut found: Vec<Found> = names.iter().map(|_| Found::default()).collect();
        for layer in layers {
            let Some(dir) = self.open(*layer, path)? else { continue };
            for (name, found) in names.iter().zip(&mut found).filter(|(_, found)| !found.settled) {
                look_at(dir.as_fd(), *layer, name, found).map_err(ChangesError::call_at(
                    "newfstatat",
                    path,
                    name,
                ))?;
            }
        }
        Ok(found)
    }

    /// The names that are visible in the directory `path` of these layers.
    pub(super) fn names(&self, layers: &[usize], path: &[u8]) -> Result<Vec<CString>, ChangesError> {
        let mut visible: BTreeMap<CString, bool> = BTreeMap::new();
        for layer in layers {
            let Some(dir) = self.open(*layer, path)? else { continue };
            for name in list(&dir).map_err(ChangesError::call("getdents64", path))? {
                let stat = rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(ChangesError::call_at("newfstatat", path, &name))?;
                visible.entry(name).or_insert(!is_whiteout(&stat));
            }
        }
        Ok(visible.into_iter().filter_map(|(name, is_there)| is_there.then_some(name)).collect())
    }

    /// The directory `path` of one layer.
    pub(super) fn open(&self, layer: usize, path: &[u8]) -> Result<Option<OwnedFd>, ChangesError> {
        let Some(root) = self.dirs.get(layer) else { return Ok(None) };
        let mut at = open_root(root)?;
        for stretch in stretches(path) {
            match rustix::fs::openat2(&at, as_path(stretch), DIRECTORY, Mode::empty(), BENEATH) {
                Ok(next) => at = next,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(errno) => return Err(ChangesError::call("openat2", path)(errno)),
            }
        }
        Ok(Some(at))
    }
}

/// `path` in pieces that the kernel resolves each in one call, none of which begins with a slash.
fn stretches(path: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = path;
    loop {
        while let Some((b'/', after)) = rest.split_first() {
            rest = after;
        }
        if rest.is_empty() {
            return pieces;
        }
        let end = if rest.len() <= STRETCH {
            rest.len()
        } else {
            // A name has 255 letters at most.
            let last = rest.iter().take(STRETCH).rposition(|byte| *byte == b'/');
            last.unwrap_or(rest.len())
        };
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
}

/// Takes in what one layer has under `name`.
fn look_at(dir: BorrowedFd<'_>, layer: usize, name: &CStr, found: &mut Found) -> Result<(), Errno> {
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        stat => stat?,
    };
    let is_directory = kind(&stat) == FileType::Directory;
    if is_whiteout(&stat) || (found.stat.is_some() && !is_directory) {
        found.settled = true;
        return Ok(());
    }
    if is_directory {
        found.layers.push(layer);
        found.settled = is_opaque(&Inode::beneath(dir, name)?)?;
    } else {
        found.settled = true;
        found.capability = capability(dir, name, &stat)?;
    }
    found.stat.get_or_insert(stat);
    Ok(())
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// How overlayfs writes down that a name is gone.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a directory hides those of the layers below it.
pub(super) fn is_opaque(directory: &Inode) -> Result<bool, Errno> {
    Ok(directory.xattr(c"trusted.overlay.opaque")?.is_some_and(|value| value == b"y"))
}

/// The capabilities that a regular file gives; none of anything else.
pub(super) fn capability(dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<Option<Vec<u8>>, Errno> {
    if kind(stat) != FileType::RegularFile {
        return Ok(None);
    }
    Inode::beneath(dir, name)?.xattr(c"security.capability")
}

/// The names in a directory.
pub(super) fn list(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// A layer, or the upper directory, by the host's own path to it.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd, ChangesError> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
        .map_err(|errno| ChangesError::Call(SysError::new("open", rbox_sys::trace::quoted(path), errno)))
}
