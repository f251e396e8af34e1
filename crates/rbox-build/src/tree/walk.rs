//! Finding what an instruction means, and all that is in it.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbox_engine::error::EngineError;
use rbox_spec::Kind;
use rbox_sys::file::{open_beneath, open_in_root};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::ignore::{Directory, Glob, Ignore, Segment};

/// Why a tree could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The kernel refused something.
    #[error("{action} {}", path.display())]
    System {
        /// What was attempted.
        action: &'static str,
        /// On what, as the instruction sees it.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A source is not there. BuildKit's words.
    #[error("{:?}: not found", path.display().to_string())]
    NotFound {
        /// As it was written.
        path: PathBuf,
    },
    /// An archive cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] EngineError),
    /// A thing cannot be where it should.
    #[error("{}", .0)]
    Refused(String),
}

impl TreeError {
    pub(crate) fn system<'p, E: Into<io::Error>>(
        action: &'static str,
        path: &'p Path,
    ) -> impl FnOnce(E) -> Self + use<'p, E> {
        move |source| Self::System { action, path: path.to_owned(), source: source.into() }
    }

    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::System { source, .. } => Kind::of_io(source),
            Self::NotFound { .. } => Kind::NotFound,
            Self::Unpack(error) => error.kind(),
            Self::Refused(_) => Kind::Invalid,
        }
    }
}

/// The kernel's answer.
pub(crate) fn errno(error: &rbox_sys::SysError) -> Errno {
    Errno::from_raw_os_error(error.errno as i32)
}

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Directory,
    File,
    Link,
    /// A device, a FIFO.
    Special,
}

/// One thing of a tree.
pub(crate) struct Entry<'a> {
    /// Its path below the tree's root, without a slash before it.
    pub(crate) path: &'a Path,
    /// The directory that it is in, and its name there.
    pub(crate) parent: &'a Arc<OwnedFd>,
    pub(crate) name: &'a OsStr,
    pub(crate) stat: &'a Stat,
    pub(crate) kind: EntryKind,
}

impl Entry<'_> {
    /// Opens a regular file, if it is still the one that was looked at.
    pub(crate) fn open(&self) -> Result<std::fs::File, TreeError> {
        open_file(self.parent, self.name, self.path)
    }

    /// Where a symbolic link leads.
    pub(crate) fn target(&self) -> Result<Vec<u8>, TreeError> {
        let target = rustix::fs::readlinkat(self.parent, self.name, Vec::new())
            .map_err(TreeError::system("read link", self.path))?;
        Ok(target.into_bytes())
    }
}

/// A tree that is read.
pub(crate) struct Source {
    pub(crate) root: OwnedFd,
    /// What of it is not there for the build.
    pub(crate) ignore: Option<Ignore>,
    /// It is of whoever builds: all in it belongs to root in an image.
    pub(crate) is_context: bool,
}

/// What a source of COPY stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selected {
    /// The path below the root that it is reached by, links resolved; empty for the root.
    pub(crate) path: PathBuf,
    /// The name that it has at its destination: that by which it was asked for.
    pub(crate) name: PathBuf,
    pub(crate) is_dir: bool,
}

impl Source {
    /// What a source means: one thing, or with wildcards any number. `parents`: the names keep their directories from the pivot on.
    pub(crate) fn select(&self, written: &str) -> Result<Vec<Selected>, TreeError> {
        let clean = clean(Path::new(written));
        let text = clean.to_string_lossy().into_owned();
        if !Glob::is_in(&text) {
            return self.one(&clean, Path::new(written)).map(|one| vec![one]);
        }
        let mut found = vec![PathBuf::new()];
        let segments = Glob::segments(&text).map_err(|error| TreeError::Refused(error.to_string()))?;
        for segment in segments {
            found = match segment {
                Segment::Name(name) => found.into_iter().map(|dir| dir.join(&name)).collect(),
                Segment::Glob(glob) => {
                    let in_dir = |dir: PathBuf| {
                        let names = self.names(&dir).unwrap_or_default();
                        let wanted = names.into_iter().filter(|name| glob.matches(&name.to_string_lossy()));
                        wanted.map(|name| dir.join(name)).collect::<Vec<_>>()
                    };
                    found.into_iter().flat_map(in_dir).collect()
                }
            };
        }
        found.into_iter().filter(|path| !self.is_ignored(path)).map(|path| self.one(&path, &path)).collect()
    }

    /// One thing, by its path without wildcards.
    pub(crate) fn named(&self, written: &Path) -> Result<Selected, TreeError> {
        self.one(&clean(written), written)
    }

    /// Whether the build does not see this.
    pub(crate) fn is_ignored(&self, path: &Path) -> bool {
        self.ignore.as_ref().is_some_and(|ignore| ignore.matches(&path.to_string_lossy()))
    }

    fn one(&self, path: &Path, written: &Path) -> Result<Selected, TreeError> {
        let missing = || TreeError::NotFound { path: Path::new("/").join(path) };
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        if path.as_os_str().is_empty() {
            return Ok(Selected { path: PathBuf::new(), name, is_dir: true });
        }
        let opened =
            open_in_root(&self.root, path, OFlags::PATH, 0).map_err(|error| match errno(&error) {
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP => missing(),
                _ => TreeError::System {
                    action: "open",
                    path: written.to_owned(),
                    source: errno(&error).into(),
                },
            })?;
        let stat = rustix::fs::fstat(&opened).map_err(TreeError::system("stat", written))?;
        let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
        let path = self.place_of(&opened).ok_or_else(missing)?;
        // A directory that is ignored may have things in it that are not.
        if !is_dir && self.is_ignored(&path) {
            return Err(missing());
        }
        Ok(Selected { path, name, is_dir })
    }

    /// Where an open thing is below the root. The kernel's name for it is only a hint: it is looked up again by that, without links.
    fn place_of(&self, opened: &OwnedFd) -> Option<PathBuf> {
        use std::os::fd::AsRawFd as _;
        let name = |fd: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
        let (root, place) = (name(&self.root)?, name(opened)?);
        let below = place.strip_prefix(&root).ok()?.to_owned();
        if below.as_os_str().is_empty() {
            return Some(below);
        }
        let again = open_beneath(&self.root, &below, OFlags::PATH | OFlags::NOFOLLOW, 0).ok()?;
        let (a, b) = (rustix::fs::fstat(&again).ok()?, rustix::fs::fstat(opened).ok()?);
        ((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)).then_some(below)
    }

    /// The names in a directory, sorted by their bytes.
    fn names(&self, dir: &Path) -> Result<Vec<std::ffi::OsString>, TreeError> {
        let dir_fd = self.open_dir(dir)?;
        names_in(&dir_fd, dir)
    }

    pub(crate) fn open_dir(&self, dir: &Path) -> Result<OwnedFd, TreeError> {
        let how = OFlags::RDONLY | OFlags::DIRECTORY;
        let path = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        open_beneath(&self.root, path, how, 0).map_err(|error| TreeError::System {
            action: "open",
            path: dir.to_owned(),
            source: errno(&error).into(),
        })
    }

    /// Calls `each` for a thing and all that is in it, a directory before what it has, in the order of the bytes of their names. What is
    /// ignored is left out, as is what vanishes meanwhile.
    pub(crate) fn walk(
        &self,
        selected: &Selected,
        each: &mut dyn FnMut(&Entry<'_>) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let path = &selected.path;
        let mut above = Directory::default();
        for dir in path
            .ancestors()
            .skip(1)
            .filter(|dir| !dir.as_os_str().is_empty())
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            above = self.enter(&above, dir);
        }
        if path.as_os_str().is_empty() {
            let root = Arc::new(self.open_dir(path)?);
            return self.walk_in(&root, path, &above, each);
        }
        let parent = Arc::new(self.open_dir(path.parent().unwrap_or(Path::new("")))?);
        let Some(name) = path.file_name() else { return Ok(()) };
        self.visit(&parent, name, path, &above, each)
    }

    /// What the build sees of something, seen from the directory above it.
    fn enter(&self, above: &Directory, path: &Path) -> Directory {
        self.ignore
            .as_ref()
            .map_or_else(Directory::default, |ignore| ignore.enter(above, &path.to_string_lossy()))
    }

    fn skips(&self, here: &Directory, path: &Path) -> bool {
        self.ignore.as_ref().is_some_and(|ignore| ignore.skips(here, &path.to_string_lossy()))
    }

    fn visit(
        &self,
        parent: &Arc<OwnedFd>,
        name: &OsStr,
        path: &Path,
        above: &Directory,
        each: &mut dyn FnMut(&Entry<'_>) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(TreeError::system("stat", path))?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File,
            FileType::Symlink => EntryKind::Link,
            // Docker leaves it out as well.
            FileType::Socket => return Ok(()),
            _ => EntryKind::Special,
        };
        let here = self.enter(above, path);
        let entry = Entry { path, parent, name, stat: &stat, kind };
        if kind != EntryKind::Directory {
            return if here.is_ignored() { Ok(()) } else { each(&entry) };
        }
        if self.skips(&here, path) {
            return Ok(());
        }
        let Some(dir) = open_below(parent, name, path)? else { return Ok(()) };
        // One that is ignored comes with what is in it and is not.
        if !here.is_ignored() || self.has_wanted(&dir, path, &here)? {
            each(&entry)?;
        }
        self.walk_in(&Arc::new(dir), path, &here, each)
    }

    /// Whether an ignored directory has anything that is not ignored.
    fn has_wanted(&self, dir: &OwnedFd, path: &Path, here: &Directory) -> Result<bool, TreeError> {
        for name in names_in(dir, path)? {
            let path = path.join(&name);
            let below = self.enter(here, &path);
            let is_dir = rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
            if !below.is_ignored() {
                return Ok(true);
            }
            if is_dir
                && !self.skips(&below, &path)
                && let Some(dir) = open_below(dir, &name, &path)?
                && self.has_wanted(&dir, &path, &below)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn walk_in(
        &self,
        dir: &Arc<OwnedFd>,
        path: &Path,
        here: &Directory,
        each: &mut dyn FnMut(&Entry<'_>) -> Result<(), TreeError>,
    ) -> Result<(), TreeError> {
        for name in names_in(dir, path)? {
            self.visit(dir, &name, &path.join(&name), here, each)?;
        }
        Ok(())
    }
}

/// Opens a file right below a directory, if it is one.
pub(super) fn open_file(parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<std::fs::File, TreeError> {
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, how, rustix::fs::Mode::empty())
        .map_err(TreeError::system("open", path))?;
    let stat = rustix::fs::fstat(&file).map_err(TreeError::system("stat", path))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(TreeError::Refused(format!("{} is no file any more", path.display())));
    }
    Ok(file.into())
}

/// Opens a directory right below another; none when it is gone.
fn open_below(parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<OwnedFd>, TreeError> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, how, rustix::fs::Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(TreeError::system("open", path)(error)),
    }
}

/// The names in an open directory, sorted.
pub(crate) fn names_in(dir: &OwnedFd, path: &Path) -> Result<Vec<std::ffi::OsString>, TreeError> {
    let listing = Dir::read_from(dir.as_fd()).map_err(TreeError::system("list", path))?;
    let mut names = Vec::new();
    for entry in listing {
        let entry = entry.map_err(TreeError::system("list", path))?;
        let name: &CStr = entry.file_name();
        if name.to_bytes() != b"." && name.to_bytes() != b".." {
            names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A path below a root: without slashes around it, `.` and `..`.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => clean.push(part),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}
