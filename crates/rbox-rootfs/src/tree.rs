//! Places inside a container's tree, reached through its root descriptor only (law 3).

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use rbox_spec::Kind;
use rbox_sys::error::{LED_OUT, reason};
use rbox_sys::file::{make_dir, open_beneath, open_in_root};
use rbox_sys::{SysError, trace};
use rustix::fs::{FileType, OFlags};

/// Links followed on one way, as in the kernel (`path_resolution(7)`).
const MOST_LINKS: usize = 40;
/// Components of one way, with those of its links: more than a path of `PATH_MAX` bytes has.
const MOST_STEPS: usize = 8192;

/// Why a place inside a container's tree could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A call failed.
    #[error("{0}")]
    Call(#[from] SysError),
    /// A place could not be opened or made.
    #[error("{action} {path} inside the container: {}", why(*errno))]
    Place {
        /// `open`, `make directory`, …
        action: &'static str,
        /// The path inside.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// A file stands where a directory is wanted, or the other way round.
    #[error(
        "{path} inside the container is {found}, but {wanted} is to be mounted on it: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
    )]
    Kind {
        /// The path inside.
        path: PathBuf,
        /// What stands there.
        found: &'static str,
        /// What is wanted.
        wanted: &'static str,
    },
    /// What the engine itself mounts or covers would be somewhere else.
    #[error(
        "{path} inside the container is reached by a symbolic link, which could lead {what} elsewhere: it must be a plain path in the image and its volumes"
    )]
    Led {
        /// The path inside.
        path: PathBuf,
        /// What would have been put there.
        what: &'static str,
    },
    /// What the engine itself mounts needs a directory.
    #[error("{path} inside the container is not a directory, but {what} is to be mounted on it")]
    NoDirectory {
        /// The path inside.
        path: PathBuf,
        /// What would have been mounted there.
        what: &'static str,
    },
}

/// The errno of a place in words: the walk has one number for a circle of links and for a link that it does not follow.
fn why(errno: Errno) -> String {
    if errno == Errno::ELOOP { LED_OUT.to_owned() } else { reason(errno) }
}

impl TreeError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Call(_) | Self::Place { .. } => Kind::of_errno(self.errno()),
            Self::Kind { .. } | Self::Led { .. } | Self::NoDirectory { .. } => Kind::Conflict,
        }
    }

    /// The kernel's number for it, 0 when there is none.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Call(error) => error.errno as i32,
            Self::Place { errno, .. } => *errno as i32,
            Self::Kind { .. } | Self::Led { .. } | Self::NoDirectory { .. } => 0,
        }
    }

    fn place(action: &'static str, path: &Path) -> impl Fn(SysError) -> Self {
        move |error| Self::Place { action, path: path.to_owned(), errno: error.errno }
    }
}

/// The directory `path` inside `root`, made with all its parents (mode 0755) when missing. Links are followed as inside
/// the container; one that leads to nothing has what it leads to made.
pub fn directory(root: impl AsFd, path: &Path) -> Result<OwnedFd, TreeError> {
    let root = root.as_fd();
    match open_in_root(root, path, OFlags::PATH | OFlags::DIRECTORY, 0) {
        Err(error) if error.errno == Errno::ENOENT => reach(root, path, false),
        other => other.map_err(TreeError::place("open directory", path)),
    }
}

/// The file `path` inside `root`, made empty (mode 0644) with its parents when missing, as an `O_PATH` descriptor.
pub fn file(root: impl AsFd, path: &Path) -> Result<OwnedFd, TreeError> {
    let root = root.as_fd();
    match open_in_root(root, path, OFlags::PATH, 0) {
        Err(error) if error.errno == Errno::ENOENT => reach(root, path, true),
        other => other.map_err(TreeError::place("open", path)),
    }
}

/// Walks `path` from `root` a component at a time, following links as inside the container, and makes what is missing:
/// directories, and a file at the end when `to_file`. Each step is below the descriptor of the one before and follows no
/// link by itself, and `..` goes back to a descriptor that was passed: whatever is renamed meanwhile, nothing leads out.
fn reach(root: BorrowedFd<'_>, path: &Path, to_file: bool) -> Result<OwnedFd, TreeError> {
    let failed = |errno| TreeError::Place { action: "make", path: path.to_owned(), errno };
    let mut ahead: Vec<OsString> = Vec::new();
    push_reversed(&mut ahead, path);
    let mut passed: Vec<OwnedFd> = Vec::new();
    let (mut links, mut steps) = (0, 0);
    while let Some(name) = ahead.pop() {
        steps += 1;
        if steps > MOST_STEPS {
            return Err(failed(Errno::ELOOP));
        }
        if name == ".." {
            passed.pop();
            continue;
        }
        let here = passed.last().map_or(root, |fd| fd.as_fd());
        let is_file = to_file && ahead.is_empty();
        let found = match open_beneath(here, Path::new(&name), OFlags::PATH | OFlags::NOFOLLOW, 0) {
            Err(error) if error.errno == Errno::ENOENT => {
                match make_one(here, &name, is_file).map_err(|error| failed(error.errno))? {
                    Made::File(file) => return Ok(file),
                    // Opened like one that was there.
                    Made::Directory => ahead.push(name),
                }
                continue;
            }
            other => other.map_err(|error| failed(error.errno))?,
        };
        let stat = rustix::fs::fstat(&found).map_err(|e| SysError::new("fstat", trace::fd(&found), e))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                links += 1;
                // A link of procfs says where a descriptor of this very process leads, by a name that means something else here.
                if links > MOST_LINKS || is_procfs(&found)? {
                    return Err(failed(Errno::ELOOP));
                }
                let to = rustix::fs::readlinkat(&found, c"", Vec::new())
                    .map_err(|e| SysError::new("readlinkat", trace::fd(&found), e))?;
                let to = Path::new(OsStr::from_bytes(to.as_bytes()));
                if to.is_absolute() {
                    passed.clear();
                }
                push_reversed(&mut ahead, to);
            }
            FileType::Directory => passed.push(found),
            _ if is_file => return Ok(found),
            _ => return Err(failed(Errno::ENOTDIR)),
        }
    }
    match passed.pop() {
        Some(last) => Ok(last),
        None => open_in_root(root, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY, 0)
            .map_err(TreeError::place("open", path)),
    }
}

fn is_procfs(fd: &OwnedFd) -> Result<bool, SysError> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let stat = rustix::fs::fstatfs(fd).map_err(|e| SysError::new("fstatfs", trace::fd(fd), e))?;
    Ok(stat.f_type == PROC_SUPER_MAGIC)
}

fn push_reversed(ahead: &mut Vec<OsString>, path: &Path) {
    ahead.extend(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    }));
}

enum Made {
    Directory,
    File(OwnedFd),
}

/// Makes `name` below `dir`. A directory that appeared meanwhile is as good; a file must be new.
fn make_one(dir: BorrowedFd<'_>, name: &OsStr, is_file: bool) -> Result<Made, SysError> {
    let name = Path::new(name);
    if is_file {
        let how = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::NOFOLLOW;
        return open_beneath(dir, name, how, 0o644).map(Made::File);
    }
    match make_dir(dir, name, 0o755) {
        Err(error) if error.errno != Errno::EEXIST => Err(error),
        _ => Ok(Made::Directory),
    }
}

/// The place to mount on: a directory or a file, made when missing, refused when it is of the other kind.
pub fn mount_target(root: impl AsFd, path: &Path, is_dir: bool) -> Result<OwnedFd, TreeError> {
    let root = root.as_fd();
    let kind = |found, wanted| TreeError::Kind { path: path.to_owned(), found, wanted };
    if is_dir {
        return directory(root, path).map_err(|error| match error {
            TreeError::Place { errno: Errno::ENOTDIR, .. } => kind("not a directory", "a directory"),
            other => other,
        });
    }
    let target = file(root, path)?;
    let stat = rustix::fs::fstat(&target).map_err(|e| SysError::new("fstat", trace::fd(&target), e))?;
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        return Err(kind("a directory", "a file"));
    }
    Ok(target)
}

/// The directory at `below` that no link leads to, made (mode 0755) when missing: where the engine's own file systems go.
/// `base` is the root, or a mount of ours that `below` is in; `shown` is the path inside the container, and `what` is to be
/// mounted.
pub fn plain_directory(
    base: BorrowedFd<'_>,
    below: &Path,
    shown: &Path,
    what: &'static str,
) -> Result<OwnedFd, TreeError> {
    let how = OFlags::PATH | OFlags::DIRECTORY;
    let refused = |error: SysError| match error.errno {
        Errno::ELOOP => TreeError::Led { path: shown.to_owned(), what },
        Errno::ENOTDIR => TreeError::NoDirectory { path: shown.to_owned(), what },
        _ => TreeError::place("make directory", shown)(error),
    };
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    match open_beneath(base, below, how, 0) {
        Err(error) if error.errno == Errno::ENOENT => {}
        other => return other.map_err(refused),
    }
    let mut at: Option<OwnedFd> = None;
    for name in below.components() {
        let here = at.as_ref().map_or(base, |fd| fd.as_fd());
        let name: &Path = name.as_ref();
        let next = match open_beneath(here, name, how, 0) {
            Err(error) if error.errno == Errno::ENOENT => {
                make_dir(here, name, 0o755).map_err(refused)?;
                open_beneath(here, name, how, 0)
            }
            other => other,
        };
        at = Some(next.map_err(refused)?);
    }
    at.ok_or_else(|| refused(SysError::new("openat2", String::new(), Errno::ENOENT)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, rustix::fs::Mode::empty());
        (dir, fd.unwrap())
    }

    fn same(fd: &OwnedFd, path: &Path) -> bool {
        let (stat, meta) = (rustix::fs::fstat(fd).unwrap(), fs::symlink_metadata(path).unwrap());
        (stat.st_dev, stat.st_ino) == (meta.dev(), meta.ino())
    }

    /// Links that lead to nothing, in every place of a path, have it made: inside.
    #[test]
    fn what_links_lead_to_is_made_inside() {
        let (dir, fd) = root();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("etc/deep")).unwrap();
        for (link, to) in [
            ("etc/localtime", "/usr/share/zone/absent"),
            ("abs", "/made/here"),
            ("rel", "../../../../made/too"),
            ("etc/deep/up", "../../up/x"),
            ("one", "two"),
            ("two", "three/end"),
            ("self", "self"),
        ] {
            symlink(to, at(link)).unwrap();
        }
        for (path, real) in [
            ("/abs", "made/here"),
            ("/rel/sub", "made/too/sub"),
            ("/etc/deep/up/y/z", "up/x/y/z"),
            ("/one", "three/end"),
            ("/new/dir", "new/dir"),
            ("/new/../other/./dir", "other/dir"),
        ] {
            assert!(same(&directory(&fd, Path::new(path)).unwrap(), &at(real)), "{path}");
        }
        assert!(same(&file(&fd, Path::new("/etc/localtime")).unwrap(), &at("usr/share/zone/absent")));
        assert!(at("usr/share/zone/absent").is_file());
        assert!(same(&file(&fd, Path::new("/abs/f")).unwrap(), &at("made/here/f")));
        for path in ["/self", "/self/x"] {
            assert_eq!(directory(&fd, Path::new(path)).unwrap_err().errno(), Errno::ELOOP as i32);
        }
        let error = directory(&fd, Path::new("/abs/f/g")).unwrap_err().to_string();
        assert_eq!(error, "open directory /abs/f/g inside the container: not a directory");
        let error = mount_target(&fd, Path::new("/abs"), false).unwrap_err().to_string();
        assert!(error.starts_with("/abs inside the container is a directory, but a file"), "{error}");
    }

    /// The walk itself opens descriptors, which links of procfs would lead to.
    #[test]
    fn links_of_procfs_lead_nowhere() {
        let root =
            rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, rustix::fs::Mode::empty()).unwrap();
        for number in 200..210 {
            assert!(reach(root.as_fd(), Path::new(&format!("/proc/self/fd/{number}")), false).is_err());
        }
    }

    #[test]
    fn no_link_leads_to_a_plain_directory() {
        let (dir, fd) = root();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir_all(at("real")).unwrap();
        symlink("real", at("link")).unwrap();
        symlink("/absent", at("real/dangling")).unwrap();
        fs::write(at("file"), "").unwrap();
        let get = |path: &str| plain_directory(fd.as_fd(), Path::new(path), Path::new(path), "proc");
        assert!(same(&get("real").unwrap(), &at("real")));
        assert!(same(&get("real/a/b").unwrap(), &at("real/a/b")));
        assert!(same(&get("").unwrap(), dir.path()));
        for path in ["link", "link/x", "real/dangling", "real/dangling/x"] {
            assert!(matches!(get(path).unwrap_err(), TreeError::Led { .. }), "{path}");
        }
        for path in ["file", "file/x"] {
            assert!(matches!(get(path).unwrap_err(), TreeError::NoDirectory { .. }), "{path}");
        }
        assert!(get("../x").is_err());
        assert!(!at("absent").exists());
    }
}
