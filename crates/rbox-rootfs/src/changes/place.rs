//! Where in a stack of layers a path is: what each layer has there, and what of it is seen.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rbox_sys::inode::Inode;
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::change::ChangesError;
use super::lower::{is_opaque, is_whiteout, kind, open_root};

/// What a layer has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File,
    /// A directory. An opaque one hides what layers below have in it.
    Directory {
        /// Whether it is.
        opaque: bool,
    },
    /// A symbolic link, and where it leads.
    Link(PathBuf),
    /// Overlayfs's mark that the name is gone.
    Whiteout,
    /// A device, a FIFO or a socket.
    Special,
}

/// One layer that has something at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number, base first.
    pub layer: usize,
    /// What it has.
    pub what: What,
    /// Whether that is seen; else something above hides it. A whiteout is never seen.
    pub is_seen: bool,
    /// Bytes.
    pub size: u64,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Seconds since 1970.
    pub modified: i64,
}

/// As many links are followed: the kernel's own number.
const MOST_LINKS: usize = 40;

/// Where a path leads in the merged tree of these layers, base first: links on the way are followed, one at its end is not. None where a
/// directory on the way is not there.
///
/// # Errors
/// A layer cannot be read.
pub fn resolve(layers: &[PathBuf], path: &Path) -> Result<Option<PathBuf>, ChangesError> {
    let mut at = PathBuf::from("/");
    let mut left: Vec<OsString> = parts(path);
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        at.push(part);
        if left.is_empty() {
            break;
        }
        let seen = places(layers, &at)?.into_iter().find(|place| place.is_seen);
        match seen.map(|place| place.what) {
            Some(What::Directory { .. }) => {}
            Some(What::Link(to)) if links < MOST_LINKS => {
                links += 1;
                at.pop();
                if to.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(parts(&to));
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// The names of a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let kept = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    let names = path.components().filter(kept).map(|part| part.as_os_str().to_owned());
    names.collect::<Vec<_>>().into_iter().rev().collect()
}

/// What these layers, base first, have at an absolute path without links in it, the topmost first.
///
/// # Errors
/// A layer cannot be read.
pub fn places(layers: &[PathBuf], path: &Path) -> Result<Vec<Place>, ChangesError> {
    let mut found: Vec<Place> = Vec::new();
    let mut is_hidden = false;
    for (layer, root) in layers.iter().enumerate().rev() {
        let looked = look(root, path)?;
        if let Some((what, stat)) = looked.thing {
            let is_directory = matches!(what, What::Directory { .. });
            // A directory is merged with those below it, and hides all else.
            is_hidden |= !is_directory && found.iter().any(|above| above.is_seen);
            found.push(Place {
                layer,
                is_seen: !is_hidden && what != What::Whiteout,
                what,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                mode: stat.st_mode,
                modified: stat.st_mtime,
            });
        }
        is_hidden |= looked.hides;
    }
    Ok(found)
}

/// What one layer says of a path.
#[derive(Default)]
struct Looked {
    thing: Option<(What, Stat)>,
    /// Nothing of the path is seen of the layers below.
    hides: bool,
}

fn look(root: &Path, path: &Path) -> Result<Looked, ChangesError> {
    let bytes = path.as_os_str().as_bytes();
    let mut dir = open_root(root)?;
    let mut looked = Looked::default();
    let mut names = parts(path);
    let Some(mut name) = names.pop() else {
        let stat = rustix::fs::fstat(&dir).map_err(ChangesError::call("fstat", bytes))?;
        looked.thing = Some((What::Directory { opaque: false }, stat));
        return Ok(looked);
    };
    loop {
        let stat = match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(looked),
            stat => stat.map_err(ChangesError::call("newfstatat", bytes))?,
        };
        let next = names.pop();
        if kind(&stat) == FileType::Directory && !is_whiteout(&stat) {
            let failed = |errno| ChangesError::call("openat", bytes)(errno);
            let inode = Inode::beneath(&dir, &text(&name)).map_err(failed)?;
            let opaque = is_opaque(&inode).map_err(failed)?;
            looked.hides |= opaque;
            let Some(next) = next else {
                looked.thing = Some((What::Directory { opaque }, stat));
                return Ok(looked);
            };
            dir = inode.open_directory().map_err(failed)?;
            name = next;
            continue;
        }
        looked.hides = true;
        if next.is_none() {
            let what = match kind(&stat) {
                _ if is_whiteout(&stat) => What::Whiteout,
                FileType::RegularFile => What::File,
                FileType::Symlink => {
                    let to = rustix::fs::readlinkat(&dir, &name, Vec::new());
                    let to = to.map_err(ChangesError::call("readlinkat", bytes))?;
                    What::Link(OsStr::from_bytes(to.to_bytes()).into())
                }
                _ => What::Special,
            };
            looked.thing = Some((what, stat));
        }
        return Ok(looked);
    }
}

/// A name of a path has no zero in it.
fn text(name: &OsStr) -> CString {
    CString::new(name.to_owned().into_vec()).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, XattrFlags};

    use super::*;

    /// Three layers: `a/f` in the lowest and the middle one; the topmost has what the test puts there.
    fn layers() -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let dirs: Vec<PathBuf> = (0..3).map(|n| dir.path().join(n.to_string())).collect();
        for (number, layer) in dirs.iter().enumerate() {
            fs::create_dir_all(layer.join("a")).unwrap();
            if number < 2 {
                fs::write(layer.join("a/f"), "x".repeat(number + 1)).unwrap();
            }
        }
        symlink("a", dirs[0].join("l")).unwrap();
        (dir, dirs)
    }

    fn seen(layers: &[PathBuf], path: &str) -> Vec<(usize, bool)> {
        let all = places(layers, Path::new(path)).unwrap();
        all.into_iter().map(|place| (place.layer, place.is_seen)).collect()
    }

    #[test]
    fn what_is_above_hides_what_is_below() {
        let (_dir, dirs) = layers();
        assert_eq!(seen(&dirs, "/a/f"), [(1, true), (0, false)]);
        assert_eq!(seen(&dirs, "/a"), [(2, true), (1, true), (0, true)]);
        assert_eq!(seen(&dirs, "/"), [(2, true), (1, true), (0, true)]);
        assert_eq!(seen(&dirs, "/no"), []);
        let top = &dirs[2];
        rustix::fs::mknodat(CWD, top.join("a/f"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        assert_eq!(seen(&dirs, "/a/f"), [(2, false), (1, false), (0, false)]);
        assert_eq!(places(&dirs, Path::new("/a/f")).unwrap()[0].what, What::Whiteout);
        fs::remove_file(top.join("a/f")).unwrap();
        // A directory over files hides them, and a file over directories hides those.
        fs::create_dir(top.join("a/f")).unwrap();
        assert_eq!(seen(&dirs, "/a/f"), [(2, true), (1, false), (0, false)]);
        fs::remove_dir_all(top.join("a")).unwrap();
        fs::write(top.join("a"), "").unwrap();
        assert_eq!(seen(&dirs, "/a"), [(2, true), (1, false), (0, false)]);
        assert_eq!(seen(&dirs, "/a/f"), [(1, false), (0, false)]);
    }

    #[test]
    fn an_opaque_directory_hides_what_others_have_in_it() {
        let (_dir, dirs) = layers();
        let name = "trusted.overlay.opaque";
        rustix::fs::setxattr(dirs[2].join("a"), name, b"y", XattrFlags::empty()).unwrap();
        assert_eq!(seen(&dirs, "/a"), [(2, true), (1, false), (0, false)]);
        assert_eq!(seen(&dirs, "/a/f"), [(1, false), (0, false)]);
    }

    #[test]
    fn links_are_followed_on_the_way_and_not_at_the_end() {
        let (_dir, dirs) = layers();
        let resolved =
            |path: &str| resolve(&dirs, Path::new(path)).unwrap().map(|at| at.display().to_string());
        assert_eq!(resolved("/l/f").unwrap(), "/a/f");
        assert_eq!(resolved("/l").unwrap(), "/l");
        assert_eq!(resolved("l/../../a/./f").unwrap(), "/a/f");
        assert_eq!(resolved("/a/f/x"), None);
        symlink("/round", dirs[2].join("round")).unwrap();
        assert_eq!(resolved("/round/x"), None);
        assert_eq!(places(&dirs, Path::new("/l")).unwrap()[0].what, What::Link("a".into()));
    }
}
