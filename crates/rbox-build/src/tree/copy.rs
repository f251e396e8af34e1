//! Writing what COPY and ADD bring into a tree.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rbox_engine::engine::unpack_archive;
use rbox_sys::file::open_in_root;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::fill::Filling;
use super::hands::Hands;
use super::looks::{Owner, Times, attributes, set_times, set_times_at, write_attributes};
use super::walk::{Entry, EntryKind, Selected, Source, TreeError, clean, errno};
use crate::dockerfile::Chmod;

/// How things are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct CopyOptions {
    /// `--chown`; without, what comes from a context is root's, and all else keeps its owner.
    pub(crate) owner: Option<Owner>,
    /// `--chmod`.
    pub(crate) mode: Option<Chmod>,
    /// The time that new things have, instead of their own.
    pub(crate) time: Option<i64>,
    /// A new directory that the contents of another come into is as any that is made on the way; without, it is like that one.
    pub(crate) plain_top: bool,
}

/// Writes into a tree.
pub(crate) struct Copier<'a> {
    root: &'a OwnedFd,
    options: CopyOptions,
    /// Where the first name of a file of several is.
    links: HashMap<(u64, u64), PathBuf>,
    hands: Hands,
}

/// A directory that is being written into, and what it is to be like in the end.
struct Open {
    /// Below what is copied.
    path: PathBuf,
    fd: OwnedFd,
    finish: Option<Finish>,
}

/// What a directory is to be like once all is in it.
#[derive(Clone, Copy)]
struct Finish {
    /// None: as it is.
    owner_and_mode: Option<(Owner, u32)>,
    times: Times,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// As many links that lead to nothing are followed one after the other: the kernel's own number.
const MOST_LINKS: usize = 40;

impl<'a> Copier<'a> {
    pub(crate) fn new(root: &'a OwnedFd, options: CopyOptions) -> Self {
        Self { root, options, links: HashMap::new(), hands: Hands::default() }
    }

    /// Whether there is a directory.
    pub(crate) fn is_dir(&self, path: &Path) -> bool {
        open_in_root(self.root, path, OFlags::PATH | OFlags::DIRECTORY, 0).is_ok()
    }

    /// Makes a directory with all above it, following links within the tree; what one leads to is made where it is missing.
    /// `mode`, `owner`: of those that are new.
    pub(crate) fn make_dirs(&self, path: &Path, mode: u32, owner: Owner) -> Result<OwnedFd, TreeError> {
        self.make_dirs_through(&clean(path), mode, owner, MOST_LINKS)
    }

    fn make_dirs_through(
        &self,
        path: &Path,
        mode: u32,
        owner: Owner,
        links: usize,
    ) -> Result<OwnedFd, TreeError> {
        let mut at = PathBuf::from("/");
        let mut dir = self.open(&at)?;
        for part in path.components() {
            let above = at.clone();
            at.push(part);
            dir = match open_in_root(self.root, &at, DIRECTORY, 0) {
                Ok(dir) => dir,
                Err(error) if errno(&error) == Errno::NOENT => {
                    let name = part.as_os_str();
                    match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700)) {
                        Ok(()) => self.own_new(&at, mode, owner)?,
                        // A link that leads to nothing. A `..` in it is the kernel's to follow.
                        Err(Errno::EXIST) if links > 0 => {
                            let to = rustix::fs::readlinkat(&dir, name, Vec::new())
                                .map_err(TreeError::system("read link", &at))?;
                            let to = above.join(OsStr::from_bytes(to.as_bytes()));
                            self.make_dirs_through(&to, mode, owner, links - 1)?
                        }
                        Err(error) => return Err(TreeError::system("make directory", &at)(error)),
                    }
                }
                Err(error) if errno(&error) == Errno::NOTDIR => {
                    return Err(TreeError::Refused(format!("{} is not a directory", at.display())));
                }
                Err(error) => return Err(TreeError::system("open", &at)(errno(&error))),
            };
        }
        Ok(dir)
    }

    /// Opens a directory that was just made, and makes it what it is to be.
    fn own_new(&self, at: &Path, mode: u32, owner: Owner) -> Result<OwnedFd, TreeError> {
        let new = self.open(at)?;
        give(&new, owner, mode, at)?;
        if let Some(time) = self.options.time {
            set_times(&new, Times { seconds: time, nanoseconds: 0 }, at)?;
        }
        Ok(new)
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, TreeError> {
        open_in_root(self.root, path, DIRECTORY, 0)
            .map_err(|error| TreeError::system("open", path)(errno(&error)))
    }

    /// The owner of directories that nothing is copied of.
    pub(crate) fn owner_of_new(&self) -> Owner {
        self.options.owner.unwrap_or(Owner { uid: 0, gid: 0 })
    }

    /// The mode of the same: as with BuildKit, that of `--chmod` if it is a number.
    fn mode_of_new(&self) -> u32 {
        match self.options.mode {
            Some(Chmod::Octal(mode)) => mode & 0o777,
            _ => 0o755,
        }
    }

    /// Where a path leads in the tree: links are followed, the last one as well, also when nothing is there.
    pub(crate) fn resolved(&self, path: &Path) -> Result<PathBuf, TreeError> {
        const MOST_LINKS: usize = 255;
        let mut at = PathBuf::from("/");
        let parts = |path: &Path| clean_parts(path).into_iter().rev().collect::<Vec<_>>();
        let mut left = parts(path);
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let dir = open_in_root(self.root, &at, OFlags::PATH | OFlags::DIRECTORY, 0);
            let target = dir.ok().and_then(|dir| rustix::fs::readlinkat(&dir, &part, Vec::new()).ok());
            let Some(target) = target else {
                at.push(part);
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(TreeError::system("resolve", path)(Errno::LOOP));
            }
            let target = PathBuf::from(OsStr::from_bytes(target.as_bytes()));
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            left.extend(parts(&target));
        }
        Ok(at)
    }

    /// Copies what is in a directory into `to`.
    pub(crate) fn contents(
        &mut self,
        source: &Source,
        selected: &Selected,
        to: &Path,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> Result<(), TreeError> {
        let is_new = !self.is_dir(to);
        let fd = self.make_dirs(to, self.mode_of_new(), self.owner_of_new())?;
        let finish =
            if is_new || self.options.plain_top { self.of_selected(source, selected)? } else { None };
        let mut stack = vec![Open { path: PathBuf::new(), fd, finish }];
        source.walk(selected, &mut |entry| {
            let below = entry.path.strip_prefix(&selected.path).unwrap_or(entry.path);
            if below.as_os_str().is_empty() || !wanted(entry.path) {
                return Ok(());
            }
            self.entry(source, entry, below, to, &mut stack)
        })?;
        while let Some(open) = stack.pop() {
            finish_dir(&open, to)?;
        }
        self.hands.rest()
    }

    /// What a directory is to be like that has the contents of another.
    fn of_selected(&self, source: &Source, selected: &Selected) -> Result<Option<Finish>, TreeError> {
        if selected.path.as_os_str().is_empty() && source.is_context {
            return Ok(None);
        }
        let dir = source.open_dir(&selected.path)?;
        let stat = rustix::fs::fstat(&dir).map_err(TreeError::system("stat", &selected.path))?;
        let finish = self.finish_of(source, &stat);
        // With BuildKit it gets no more than the time, and that also when it was there.
        let owner_and_mode = finish.owner_and_mode.filter(|_| !self.options.plain_top);
        Ok(Some(Finish { owner_and_mode, ..finish }))
    }

    /// Copies one thing that is no directory to `dir`, as `name`.
    pub(crate) fn file(
        &mut self,
        source: &Source,
        selected: &Selected,
        dir: &Path,
        name: &OsStr,
    ) -> Result<(), TreeError> {
        let fd = self.make_dirs(dir, self.mode_of_new(), self.owner_of_new())?;
        let mut stack = vec![Open { path: PathBuf::new(), fd, finish: None }];
        source.walk(selected, &mut |entry| self.entry(source, entry, Path::new(name), dir, &mut stack))?;
        self.hands.rest()
    }

    /// Makes a directory like one of the source, if it is not there: for `--parents`.
    pub(crate) fn like(&self, source: &Source, path: &Path, to: &Path) -> Result<(), TreeError> {
        if self.is_dir(to) {
            return Ok(());
        }
        let dir = source.open_dir(path)?;
        let stat = rustix::fs::fstat(&dir).map_err(TreeError::system("stat", path))?;
        let made = self.make_dirs(to, 0o755, self.owner_of_new())?;
        give(&made, self.owner_of(source, &stat), self.mode_of(&stat, true), to)
    }

    /// Writes a new file of this content.
    pub(crate) fn text(
        &mut self,
        dir: &Path,
        name: &OsStr,
        mode: u32,
        mut content: impl std::io::Read,
        time: Option<i64>,
    ) -> Result<(), TreeError> {
        // What the text is called may have slashes: the last part is the name, in a directory found as any other.
        let at = dir.join(clean(Path::new(name)));
        let (Some(dir), Some(name)) = (at.parent(), at.file_name().filter(|_| at != dir)) else {
            return Err(TreeError::Refused(format!("{:?} is no name for a file", name.to_string_lossy())));
        };
        let parent = self.make_dirs(dir, self.mode_of_new(), self.owner_of_new())?;
        let mut file = create(&parent, name, 0o600, &at)?;
        std::io::copy(&mut content, &mut file).map_err(TreeError::system("write", &at))?;
        let mode = self.options.mode.as_ref().map_or(mode, |change| change.apply(mode, false));
        give(&file.into(), self.owner_of_new(), mode, &at)?;
        let Some(seconds) = self.options.time.or(time) else { return Ok(()) };
        set_times_at(&parent, name, Times { seconds, nanoseconds: 0 }, &at)
    }

    /// Unpacks an uncompressed tar archive into the directory `to`, which is made if it is not there.
    pub(crate) fn archive(&self, tar: impl std::io::Read, to: &Path) -> Result<(), TreeError> {
        self.make_dirs(to, 0o755, self.owner_of_new())?;
        let owner = self.options.owner.map(|owner| (owner.uid, owner.gid));
        Ok(unpack_archive(tar, self.root.as_fd(), to, owner)?)
    }

    fn entry(
        &mut self,
        source: &Source,
        entry: &Entry<'_>,
        below: &Path,
        to: &Path,
        stack: &mut Vec<Open>,
    ) -> Result<(), TreeError> {
        let above = below.parent().unwrap_or(Path::new(""));
        while stack.len() > 1 && stack.last().is_some_and(|open| !above.starts_with(&open.path)) {
            if let Some(open) = stack.pop() {
                finish_dir(&open, to)?;
            }
        }
        self.open_above(above, to, stack)?;
        let (Some(parent), Some(name)) = (stack.last(), below.file_name()) else { return Ok(()) };
        let at = to.join(below);
        if entry.kind == EntryKind::Directory {
            let fd = make_dir(&parent.fd, name, &at)?;
            write_attributes(&fd, &attributes(entry)?, &at)?;
            let finish = self.finish_of(source, entry.stat);
            stack.push(Open { path: below.to_owned(), fd, finish: Some(finish) });
            return Ok(());
        }
        self.thing(source, entry, &parent.fd, name, &at)
    }

    /// Opens the directories above something that is wanted although they are not: `--exclude` takes back what is in them.
    fn open_above(&self, above: &Path, to: &Path, stack: &mut Vec<Open>) -> Result<(), TreeError> {
        while let Some(open) = stack.last()
            && let Ok(rest) = above.strip_prefix(&open.path)
            && let Some(next) = rest.components().next()
        {
            let path = open.path.join(next);
            let at = to.join(&path);
            let fd = make_dir(&open.fd, next.as_os_str(), &at)?;
            let times = Times { seconds: self.options.time.unwrap_or_else(now), nanoseconds: 0 };
            let finish = Finish { owner_and_mode: Some((self.owner_of_new(), 0o755)), times };
            stack.push(Open { path, fd, finish: Some(finish) });
        }
        Ok(())
    }

    /// Writes what is no directory.
    fn thing(
        &mut self,
        source: &Source,
        entry: &Entry<'_>,
        parent: &OwnedFd,
        name: &OsStr,
        at: &Path,
    ) -> Result<(), TreeError> {
        let stat = entry.stat;
        let owner = self.owner_of(source, stat);
        match entry.kind {
            EntryKind::File => {
                let key = (stat.st_dev, stat.st_ino);
                if stat.st_nlink > 1 && self.link(key, parent, name, at)? {
                    return Ok(());
                }
                let mode = self.mode_of(stat, false);
                return self.hands.fill(Filling {
                    parent: Arc::clone(entry.parent),
                    source: entry.path.to_owned(),
                    size: stat.st_size,
                    to: create(parent, name, mode, at)?,
                    at: at.to_owned(),
                    owner,
                    mode,
                    times: self.times_of(stat),
                });
            }
            EntryKind::Link => {
                clear(parent, name, at)?;
                let target = entry.target()?;
                rustix::fs::symlinkat(&target[..], parent, name).map_err(TreeError::system("link", at))?;
                chown_at(parent, name, owner, at)?;
            }
            EntryKind::Special => {
                clear(parent, name, at)?;
                let kind = FileType::from_raw_mode(stat.st_mode);
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::mknodat(parent, name, kind, mode, stat.st_rdev)
                    .map_err(TreeError::system("make", at))?;
                chown_at(parent, name, owner, at)?;
                let mode = Mode::from_raw_mode(self.mode_of(stat, false));
                rustix::fs::chmodat(parent, name, mode, AtFlags::empty())
                    .map_err(TreeError::system("chmod", at))?;
            }
            EntryKind::Directory => {}
        }
        set_times_at(parent, name, self.times_of(stat), at)
    }

    /// Makes a further name of a file that was copied already.
    fn link(
        &mut self,
        key: (u64, u64),
        parent: &OwnedFd,
        name: &OsStr,
        at: &Path,
    ) -> Result<bool, TreeError> {
        let Some(first) = self.links.get(&key).filter(|first| *first != at) else {
            self.links.insert(key, at.to_owned());
            return Ok(false);
        };
        let above = first.parent().unwrap_or(Path::new("/"));
        let (dir, first_name) = (self.open(above)?, first.file_name().unwrap_or_default());
        clear(parent, name, at)?;
        rustix::fs::linkat(&dir, first_name, parent, name, AtFlags::empty())
            .map_err(TreeError::system("link", at))?;
        Ok(true)
    }

    /// What a directory is to be like that is a copy of this one.
    fn finish_of(&self, source: &Source, stat: &Stat) -> Finish {
        let owner_and_mode = Some((self.owner_of(source, stat), self.mode_of(stat, true)));
        Finish { owner_and_mode, times: self.times_of(stat) }
    }

    fn owner_of(&self, source: &Source, stat: &Stat) -> Owner {
        let own = if source.is_context {
            Owner { uid: 0, gid: 0 }
        } else {
            Owner { uid: stat.st_uid, gid: stat.st_gid }
        };
        self.options.owner.unwrap_or(own)
    }

    fn mode_of(&self, stat: &Stat, is_dir: bool) -> u32 {
        let own = stat.st_mode & 0o7777;
        self.options.mode.as_ref().map_or(own, |change| change.apply(own, is_dir))
    }

    fn times_of(&self, stat: &Stat) -> Times {
        let own = Times { seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as i64 };
        self.options.time.map_or(own, |seconds| Times { seconds, nanoseconds: 0 })
    }
}

/// The names of a path, and `..` where it is.
fn clean_parts(path: &Path) -> Vec<std::ffi::OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn finish_dir(open: &Open, to: &Path) -> Result<(), TreeError> {
    let Some(finish) = open.finish else { return Ok(()) };
    let at = to.join(&open.path);
    if let Some((owner, mode)) = finish.owner_and_mode {
        give(&open.fd, owner, mode, &at)?;
    }
    set_times(&open.fd, finish.times, &at)
}

fn make_dir(parent: &OwnedFd, name: &OsStr, at: &Path) -> Result<OwnedFd, TreeError> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(TreeError::system("make directory", at)(error)),
    }
    let how = DIRECTORY | OFlags::NOFOLLOW;
    rustix::fs::openat(parent, name, how, Mode::empty()).map_err(|error| match error {
        Errno::NOTDIR | Errno::LOOP => {
            TreeError::Refused(format!("cannot copy to non-directory: {}", at.display()))
        }
        error => TreeError::system("open", at)(error),
    })
}

/// Makes room for something of this name.
fn clear(parent: &OwnedFd, name: &OsStr, at: &Path) -> Result<(), TreeError> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            Err(TreeError::Refused(format!("cannot replace directory {} with a file", at.display())))
        }
        Err(error) => Err(TreeError::system("replace", at)(error)),
    }
}

/// Makes a new file. The mode is one that may lack what the process's umask has.
fn create(parent: &OwnedFd, name: &OsStr, mode: u32, at: &Path) -> Result<File, TreeError> {
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let make = || rustix::fs::openat(parent, name, how, Mode::from_raw_mode(mode & 0o777));
    let file = match make() {
        Err(Errno::EXIST) => {
            clear(parent, name, at)?;
            make()
        }
        other => other,
    };
    Ok(file.map_err(TreeError::system("create", at))?.into())
}

/// Gives an open file or directory to its owner, with this mode.
fn give(file: &OwnedFd, owner: Owner, mode: u32, at: &Path) -> Result<(), TreeError> {
    rustix::fs::fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
        .map_err(TreeError::system("chown", at))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(TreeError::system("chmod", at))
}

fn chown_at(parent: &OwnedFd, name: &OsStr, owner: Owner, at: &Path) -> Result<(), TreeError> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(TreeError::system("chown", at))
}
