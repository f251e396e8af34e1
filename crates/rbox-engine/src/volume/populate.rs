//! The first use of an empty volume: what the image has at the mount point is copied into it, with owners,
//! modes, times, extended attributes and hard links.
//!
//! The image's tree is hostile, and so is the volume's: a container that has it mounted can swap what was made a
//! moment ago. Every step goes from an open directory to one name in it and follows no link, and what is changed is
//! changed by a descriptor of the thing itself ([`Inode`]). So nothing outside the two directories is read or written.
//!
//! The image decides how deep its tree is. A fixed number of directories is open at a time and nothing is on the stack: above
//! that many levels both are closed, and found again through `..` of those below them, checked to be the same.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_spec::Kind;
use rbox_sys::inode::Inode;
use rbox_sys::lock::{self, How, Patience};
use rbox_sys::plain;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

/// How many directories of each tree are open at a time.
const WINDOW: usize = 16;
/// Bytes of a path that is opened at once: below the kernel's `PATH_MAX`.
const LONGEST: usize = 4000;
/// A mark on the volume while it is being filled: a fill that was killed is begun again.
const FILLING: &CStr = c"trusted.rbox.filling";

/// A volume that could not be filled.
#[derive(Debug, thiserror::Error)]
#[error("copy the image's {path} into the volume: {action}: {}", plain(source))]
pub struct PopulateError {
    action: &'static str,
    /// Within the directory copied; `.` for itself.
    path: String,
    #[source]
    source: io::Error,
}

impl PopulateError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        Kind::of_io(&self.source)
    }
}

/// Copies the content of the directory `image` into the directory `volume` when that is empty, and says
/// whether it did. The volume's own mode and owner become those of `image`. Containers that share the volume may start
/// together: one fills, the others wait for `turn` and find it full. No container may be able to open `turn`: it could lock it and
/// keep all others from starting.
pub(crate) fn populate(
    image: BorrowedFd<'_>,
    volume: BorrowedFd<'_>,
    turn: &File,
) -> Result<bool, PopulateError> {
    let at_root =
        |action| move |source: Errno| PopulateError { action, path: ".".into(), source: source.into() };
    let volume =
        rustix::fs::openat(volume, c".", dir_flags(), Mode::empty()).map_err(at_root("open the volume"))?;
    lock::take(turn, How::Exclusive, Patience::WORK).map_err(|source| PopulateError {
        action: "wait for who fills the volume",
        path: ".".into(),
        source,
    })?;
    let interrupted = rustix::fs::fgetxattr(&volume, FILLING, &mut [0_u8; 8][..]).is_ok();
    if interrupted {
        rbox_sys::removal::clear(&volume)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOTEMPTY))
            .map_err(at_root("empty a half-filled volume"))?;
    } else if !is_empty(&volume).map_err(at_root("read the volume"))? {
        return Ok(false);
    }
    let source = rustix::fs::openat(image, c".", dir_flags(), Mode::empty()).map_err(at_root("open"))?;
    // Without support for the mark (a file system without attributes) a killed fill stays half done.
    let marked = rustix::fs::fsetxattr(&volume, FILLING, b"1", XattrFlags::empty()).is_ok();
    let again = |dir: &OwnedFd| rustix::fs::openat(dir, c".", dir_flags(), Mode::empty());
    let mut copy = Copy { links: HashMap::new(), root: volume.as_fd(), places: Vec::new(), at: None };
    copy.tree(again(&source).map_err(at_root("open"))?, again(&volume).map_err(at_root("open the volume"))?)?;
    if marked {
        rustix::fs::fremovexattr(&volume, FILLING).map_err(at_root("unmark the volume"))?;
    }
    let stat = rustix::fs::fstat(&source).map_err(at_root("stat"))?;
    copy.attributes(&source, &volume, &stat)?;
    Ok(true)
}

fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// `lost+found` alone is an empty volume, too: that of a file system just made.
fn is_empty(dir: &OwnedFd) -> Result<bool, Errno> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !is_dot(entry.file_name()) && entry.file_name() != c"lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The names in a directory, read in one go: the copy into a tree must not see itself.
fn names(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !is_dot(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// A directory on the way down, and its copy.
struct Level {
    /// None: they were closed.
    open: Option<Pair>,
    from: (u64, u64),
    to: (u64, u64),
    stat: Stat,
    /// Its number among the places; the tree's top has none.
    place: Option<usize>,
    /// What was not copied yet.
    left: Vec<CString>,
}

struct Pair {
    from: OwnedFd,
    to: OwnedFd,
}

fn identity(dir: &OwnedFd) -> Result<(u64, u64), Errno> {
    rustix::fs::fstat(dir).map(|stat| (stat.st_dev, stat.st_ino))
}

/// The directory above `dir`, which had been closed.
fn above(dir: &OwnedFd, id: (u64, u64)) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = dir_flags().difference(OFlags::NOFOLLOW);
    let found = rustix::fs::openat2(dir, c"..", flags, Mode::empty(), how)?;
    // Somebody moves the tree about.
    if identity(&found)? == id { Ok(found) } else { Err(Errno::STALE) }
}

/// A name, and the number of the directory that it is in.
type Place = (Option<usize>, CString);

struct Copy<'a> {
    /// Where a file that has several names was put first.
    links: HashMap<(u64, u64), Place>,
    root: BorrowedFd<'a>,
    /// The directories that were made, at their numbers.
    places: Vec<Place>,
    /// What is being copied.
    at: Option<Place>,
}

impl Copy<'_> {
    /// The names from the root to the directory of this number.
    fn names_to(&self, mut place: Option<usize>) -> Vec<&CStr> {
        let mut names = Vec::new();
        while let Some((above, name)) = place.and_then(|number| self.places.get(number)) {
            names.push(name.as_c_str());
            place = *above;
        }
        names.reverse();
        names
    }

    fn failed(&self, action: &'static str) -> impl Fn(Errno) -> PopulateError + use<> {
        let mut names = Vec::new();
        if let Some((place, name)) = &self.at {
            names = self.names_to(*place);
            names.push(name);
        }
        let names: Vec<String> =
            names.iter().map(|name| name.to_string_lossy().escape_debug().to_string()).collect();
        // The end of a long path tells more than its beginning.
        let path = names.join("/");
        let path = match path.char_indices().rev().nth(300) {
            Some((at, _)) => format!("…{}", &path[at..]),
            None => path,
        };
        move |source| PopulateError { action, path: path.clone(), source: source.into() }
    }

    /// Copies what is in `from`, at any depth.
    fn tree(&mut self, from: OwnedFd, to: OwnedFd) -> Result<(), PopulateError> {
        let stat = rustix::fs::fstat(&from).map_err(self.failed("stat"))?;
        let mut levels = vec![self.level(Pair { from, to }, stat, None)?];
        while let Some(level) = levels.last_mut() {
            let next = level.left.pop();
            match (next, &level.open) {
                (Some(name), Some(open)) => {
                    self.at = Some((level.place, name.clone()));
                    if let Some(child) = self.entry(open, level.place, &name)? {
                        levels.push(child);
                        if let Some(far) = levels.len().checked_sub(WINDOW + 1) {
                            levels[far].open = None;
                        }
                    }
                }
                _ => self.ascend(&mut levels)?,
            }
        }
        Ok(())
    }

    fn level(&self, open: Pair, stat: Stat, place: Option<usize>) -> Result<Level, PopulateError> {
        let failed = self.failed("read the directory");
        let left = names(&open.from).map_err(&failed)?;
        let (from, to) = (
            identity(&open.from).map_err(&failed)?,
            identity(&open.to).map_err(self.failed("stat the copy"))?,
        );
        Ok(Level { open: Some(open), from, to, stat, place, left })
    }

    /// Goes up from the lowest level, of which everything was copied. Its attributes come last: what is made in it changes its
    /// times, and its mode may not let anything be made.
    fn ascend(&mut self, levels: &mut Vec<Level>) -> Result<(), PopulateError> {
        let Some(Level { open: Some(done), stat, place: Some(place), .. }) = levels.pop() else {
            return Ok(());
        };
        self.at = self.places.get(place).cloned();
        if let Some(upper) = levels.last_mut().filter(|upper| upper.open.is_none()) {
            let failed = self.failed("find the directory above");
            let from = above(&done.from, upper.from).map_err(&failed)?;
            let to = above(&done.to, upper.to).map_err(&failed)?;
            upper.open = Some(Pair { from, to });
        }
        self.attributes(&done.from, &done.to, &stat)
    }

    /// Copies one entry; a directory's content is left to the caller.
    fn entry(
        &mut self,
        Pair { from, to }: &Pair,
        place: Option<usize>,
        name: &CStr,
    ) -> Result<Option<Level>, PopulateError> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(self.failed("stat"))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 && self.linked(to, place, name, &stat)? {
            return Ok(None);
        }
        match kind {
            FileType::Directory => {
                let from = rustix::fs::openat(from, name, dir_flags(), Mode::empty())
                    .map_err(self.failed("open"))?;
                rustix::fs::mkdirat(to, name, Mode::RWXU).map_err(self.failed("make the directory"))?;
                let to = rustix::fs::openat(to, name, dir_flags(), Mode::empty())
                    .map_err(self.failed("open the copy"))?;
                let own = self.places.len();
                self.places.push((place, name.to_owned()));
                return self.level(Pair { from, to }, stat, Some(own)).map(Some);
            }
            FileType::RegularFile => self.file(from, to, name)?,
            FileType::Symlink => {
                let target =
                    rustix::fs::readlinkat(from, name, Vec::new()).map_err(self.failed("read the link"))?;
                let link = Inode::make_symlink(to, name, &target).map_err(self.failed("make the link"))?;
                self.owner_and_times(&link, &stat)?;
            }
            kind
            @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket) => {
                let node =
                    Inode::make_node(to, name, kind, stat.st_rdev).map_err(self.failed("make the node"))?;
                // Before the mode: a change of owner takes the set-id bits away.
                self.owner_and_times(&node, &stat)?;
                node.set_mode(Mode::from_raw_mode(stat.st_mode)).map_err(self.failed("set the mode"))?;
            }
            // What the file system does not name cannot be made.
            FileType::Unknown => {}
        }
        Ok(None)
    }

    /// Makes `name` another name of a file that was copied before; true when it was.
    fn linked(
        &mut self,
        to: &OwnedFd,
        place: Option<usize>,
        name: &CStr,
        stat: &Stat,
    ) -> Result<bool, PopulateError> {
        let key = (stat.st_dev, stat.st_ino);
        let Some((first, file)) = self.links.get(&key) else {
            self.links.insert(key, (place, name.to_owned()));
            return Ok(false);
        };
        let failed = self.failed("link");
        let dir = self.open_copy(*first).map_err(&failed)?;
        rustix::fs::linkat(&dir, file, to, name, AtFlags::empty()).map_err(&failed)?;
        Ok(true)
    }

    /// The copy of a directory, from the volume's root.
    fn open_copy(&self, place: Option<usize>) -> Result<OwnedFd, Errno> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut dir = rustix::fs::openat(self.root, c".", dir_flags(), Mode::empty())?;
        let mut path = Vec::new();
        for name in self.names_to(place) {
            if path.len() + name.count_bytes() > LONGEST {
                dir = rustix::fs::openat2(&dir, path.as_slice(), dir_flags(), Mode::empty(), how)?;
                path.clear();
            }
            path.extend_from_slice(name.to_bytes());
            path.push(b'/');
        }
        if path.is_empty() {
            return Ok(dir);
        }
        rustix::fs::openat2(&dir, path.as_slice(), dir_flags(), Mode::empty(), how)
    }

    fn file(&self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<(), PopulateError> {
        // NONBLOCK: should the file have become a FIFO meanwhile, the open does not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(self.failed("open"))?;
        let stat = rustix::fs::fstat(&source).map_err(self.failed("stat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.failed("it changed while it was copied")(Errno::INVAL));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target =
            rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR).map_err(self.failed("create"))?;
        self.content(&source, &target, stat.st_size.max(0) as u64)?;
        self.attributes(&source, &target, &stat)
    }

    /// Copies data, skipping holes, so that a sparse file stays one.
    fn content(&self, source: &OwnedFd, target: &OwnedFd, size: u64) -> Result<(), PopulateError> {
        let failed = self.failed("copy the data");
        let mut at = 0;
        while at < size {
            let begin = match rustix::fs::seek(source, rustix::fs::SeekFrom::Data(at)) {
                Ok(begin) => begin,
                // No data after this: the rest is a hole.
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
                Err(error) => return Err(failed(error)),
            };
            let end = match rustix::fs::seek(source, rustix::fs::SeekFrom::Hole(begin)) {
                Ok(end) => end.min(size),
                Err(Errno::INVAL | Errno::OPNOTSUPP) => size,
                Err(error) => return Err(failed(error)),
            };
            copy_range(source, target, begin, end).map_err(&failed)?;
            at = end.max(begin + 1);
        }
        rustix::fs::ftruncate(target, size).map_err(failed)
    }

    fn attributes(&self, source: &OwnedFd, target: &OwnedFd, stat: &Stat) -> Result<(), PopulateError> {
        let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::fchown(target, Some(owner.0), Some(owner.1)).map_err(self.failed("set the owner"))?;
        rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode)).map_err(self.failed("set the mode"))?;
        // After the owner: its change drops security.capability.
        copy_xattrs(source, target).map_err(self.failed("copy extended attributes"))?;
        rustix::fs::futimens(target, &times(stat)).map_err(self.failed("set the times"))
    }

    fn owner_and_times(&self, thing: &Inode, stat: &Stat) -> Result<(), PopulateError> {
        thing
            .set_owner(Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
            .map_err(self.failed("set the owner"))?;
        thing.set_times(&times(stat)).map_err(self.failed("set the times"))
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanos: u64| Timespec { tv_sec: seconds, tv_nsec: nanos as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Copies bytes `begin` to `end` in the kernel; through memory where it cannot (two file systems before 5.19).
fn copy_range(source: &OwnedFd, target: &OwnedFd, begin: u64, end: u64) -> Result<(), Errno> {
    let (mut from, mut to) = (begin, begin);
    while from < end {
        let want = usize::try_from(end - from).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), want) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                return copy_through_memory(source, target, from, end);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn copy_through_memory(source: &OwnedFd, target: &OwnedFd, mut at: u64, end: u64) -> Result<(), Errno> {
    let mut buffer = vec![0; 128 * 1024];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let got = rustix::io::pread(source, &mut buffer[..want], at)?;
        if got == 0 {
            return Ok(());
        }
        let mut done = 0;
        while done < got {
            done += rustix::io::pwrite(target, &buffer[done..got], at + done as u64)?;
        }
        at += got as u64;
    }
    Ok(())
}

/// All attributes but `trusted.*`: those are overlay's and rbox's own, and must not come from an image.
fn copy_xattrs(source: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    // Both limits are the kernel's (XATTR_LIST_MAX, XATTR_SIZE_MAX); most files have no attribute at all.
    let mut list = vec![0_u8; 1024];
    let length = loop {
        match rustix::fs::flistxattr(source, &mut list[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if list.len() < 65_536 => list.resize(65_536, 0),
            Err(Errno::OPNOTSUPP) => return Ok(()),
            Err(error) => return Err(error),
        }
    };
    let mut value = Vec::new();
    for name in list[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if name.to_bytes().starts_with(b"trusted.") {
            continue;
        }
        value.resize(65_536, 0);
        let length = match rustix::fs::fgetxattr(source, name, &mut value[..]) {
            Ok(length) => length,
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error),
        };
        match rustix::fs::fsetxattr(target, name, &value[..length], XattrFlags::empty()) {
            // A label of a security module this host does not have.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn fill(image: &Path, volume: &Path) -> Result<bool, PopulateError> {
        let turn = File::create(volume.with_extension("turn")).unwrap();
        populate(File::open(image).unwrap().as_fd(), File::open(volume).unwrap().as_fd(), &turn)
    }

    fn dirs() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (image, volume) = (dir.path().join("image"), dir.path().join("volume"));
        fs::create_dir(&image).unwrap();
        fs::create_dir(&volume).unwrap();
        (dir, image, volume)
    }

    /// Every attribute that a copy must keep, one line an entry.
    fn listing(root: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        let mut waiting = vec![root.to_owned()];
        while let Some(path) = waiting.pop() {
            let data = fs::symlink_metadata(&path).unwrap();
            let mut content = String::new();
            if data.is_dir() {
                waiting.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            } else if data.is_file() {
                content =
                    format!("{:?}", fs::read(&path).unwrap().iter().map(|b| u64::from(*b)).sum::<u64>());
            } else if data.is_symlink() {
                content = fs::read_link(&path).unwrap().display().to_string();
            }
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let size = if data.is_dir() { 0 } else { data.len() };
            let nlink = if data.is_dir() { 0 } else { data.nlink() };
            lines.push(format!(
                "{name} {:o} {}:{} {size} {nlink} {} {}.{:09} {content}",
                data.mode(),
                data.uid(),
                data.gid(),
                data.rdev(),
                data.mtime(),
                data.mtime_nsec()
            ));
        }
        lines.sort();
        lines
    }

    #[test]
    fn the_copy_is_exact() {
        let (_dir, image, volume) = dirs();
        fs::create_dir_all(image.join("a/b")).unwrap();
        fs::write(image.join("a/file"), "content").unwrap();
        fs::hard_link(image.join("a/file"), image.join("a/b/link")).unwrap();
        symlink("/etc/passwd", image.join("escape")).unwrap();
        symlink("a", image.join("dirlink")).unwrap();
        let sparse = File::create(image.join("sparse")).unwrap();
        sparse.write_all_at(b"end", 10 << 20).unwrap();
        sparse.set_len(20 << 20).unwrap();
        let root = File::open(&image).unwrap();
        if rustix::process::geteuid().is_root() {
            rustix::fs::mknodat(
                &root,
                c"null",
                FileType::CharacterDevice,
                Mode::from(0o666),
                rustix::fs::makedev(1, 3),
            )
            .unwrap();
            std::os::unix::fs::chown(image.join("a/file"), Some(1234), Some(4321)).unwrap();
            std::os::unix::fs::lchown(image.join("escape"), Some(77), Some(78)).unwrap();
            std::os::unix::fs::chown(&image, Some(999), Some(998)).unwrap();
        }
        rustix::fs::mknodat(&root, c"fifo", FileType::Fifo, Mode::from(0o640), 0).unwrap();
        fs::set_permissions(image.join("a/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(image.join("a"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::set_permissions(&image, fs::Permissions::from_mode(0o710)).unwrap();
        let file = File::open(image.join("a/file")).unwrap();
        let supported = rustix::fs::fsetxattr(&file, c"user.x", b"y", XattrFlags::empty()).is_ok();
        let old = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 123_456_789);
        file.set_modified(old).unwrap();
        File::open(image.join("a/b")).unwrap().set_modified(old).unwrap();
        root.set_modified(old).unwrap();

        assert!(fill(&image, &volume).unwrap());
        assert_eq!(listing(&volume), listing(&image));
        let same = fs::metadata(volume.join("a/file")).unwrap().ino()
            == fs::metadata(volume.join("a/b/link")).unwrap().ino();
        assert!(same, "hard links stay one file");
        assert!(fs::metadata(volume.join("sparse")).unwrap().blocks() < 1000, "holes stay holes");
        if supported {
            let mut value = [0; 8];
            let copied = File::open(volume.join("a/file")).unwrap();
            assert_eq!(rustix::fs::fgetxattr(&copied, c"user.x", &mut value[..]), Ok(1));
        }
        assert!(!fill(&image, &volume).unwrap(), "a volume with content is left alone");
    }

    /// A container that has the volume swaps each thing, as soon as it is there, for a link to a file of the host.
    #[test]
    fn swapped_things_change_nothing_outside() {
        let (dir, image, volume) = dirs();
        let canary = dir.path().join("canary");
        fs::write(&canary, "the host's").unwrap();
        fs::set_permissions(&canary, fs::Permissions::from_mode(0o600)).unwrap();
        let before = listing(&canary);
        let root = File::open(&image).unwrap();
        for n in 0..400 {
            let name = CString::new(n.to_string()).unwrap();
            match n % 4 {
                0 => symlink("nowhere", image.join(n.to_string())).unwrap(),
                1 => fs::write(image.join(n.to_string()), "x").unwrap(),
                _ => rustix::fs::mknodat(&root, &name, FileType::Fifo, Mode::from(0o777), 0).unwrap(),
            }
            if n % 4 != 0 {
                let mode = fs::Permissions::from_mode(0o6777);
                fs::set_permissions(image.join(n.to_string()), mode).unwrap();
            }
        }
        let filled = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for half in 0..2 {
                let (canary, volume, filled) = (&canary, &volume, &filled);
                scope.spawn(move || {
                    let link = volume.parent().unwrap().join(format!("link{half}"));
                    while !filled.load(std::sync::atomic::Ordering::Relaxed) {
                        for entry in fs::read_dir(volume).into_iter().flatten().flatten() {
                            if !entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                                let _ = symlink(canary, &link);
                                let _ = fs::rename(&link, entry.path());
                            }
                        }
                    }
                });
            }
            // It may fail, since what it made was taken away.
            for _ in 0..20 {
                let _ = fill(&image, &volume);
                let _ = fs::remove_dir_all(&volume);
                let _ = fs::create_dir(&volume);
            }
            filled.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(listing(&canary), before);
    }

    #[test]
    fn a_volume_with_content_is_left_alone() {
        let (_dir, image, volume) = dirs();
        fs::write(image.join("new"), "x").unwrap();
        fs::write(volume.join("mine"), "y").unwrap();
        assert!(!fill(&image, &volume).unwrap());
        assert!(!volume.join("new").exists());
    }

    #[test]
    fn an_interrupted_fill_is_begun_again() {
        let (_dir, image, volume) = dirs();
        fs::write(image.join("a"), "whole").unwrap();
        fs::create_dir(volume.join("half")).unwrap();
        fs::write(volume.join("half/file"), "").unwrap();
        fs::write(volume.join("a"), "wh").unwrap();
        let marked = rustix::fs::fsetxattr(File::open(&volume).unwrap(), FILLING, b"1", XattrFlags::empty());
        if let Err(error) = marked {
            println!("skipped: no trusted attributes on this file system: {error}");
            return;
        }
        assert!(fill(&image, &volume).unwrap());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "whole");
        assert!(!volume.join("half").exists());
        assert!(rustix::fs::fgetxattr(File::open(&volume).unwrap(), FILLING, &mut [0_u8; 8][..]).is_err());
    }

    /// Deeper than any path may be long, with a file at the bottom that has a name at the top too.
    #[test]
    fn deep_trees_are_copied() {
        const DEPTH: usize = 6000;
        let (_dir, image, volume) = dirs();
        fs::write(image.join("top"), "one file").unwrap();
        let mut at = OwnedFd::from(File::open(&image).unwrap());
        for _ in 0..DEPTH {
            rustix::fs::mkdirat(&at, c"d", Mode::from(0o750)).unwrap();
            at = rustix::fs::openat(&at, c"d", dir_flags(), Mode::empty()).unwrap();
        }
        let root = File::open(&image).unwrap();
        rustix::fs::linkat(&root, c"top", &at, c"bottom", AtFlags::empty()).unwrap();
        rustix::fs::linkat(&root, c"top", &at, c"beside", AtFlags::empty()).unwrap();
        assert!(fill(&image, &volume).unwrap());
        let mut at = OwnedFd::from(File::open(&volume).unwrap());
        for depth in 0..DEPTH {
            let next = rustix::fs::openat(&at, c"d", dir_flags(), Mode::empty());
            at = next.unwrap_or_else(|error| panic!("{depth}: {error}"));
            assert_eq!(rustix::fs::fstat(&at).unwrap().st_mode & 0o7777, 0o750);
        }
        let bottom = rustix::fs::statat(&at, c"bottom", AtFlags::SYMLINK_NOFOLLOW).unwrap();
        assert_eq!(bottom.st_ino, fs::metadata(volume.join("top")).unwrap().ino());
        assert_eq!(bottom.st_nlink, 3);
        for tree in [image, volume] {
            rbox_sys::removal::remove_tree(&tree).unwrap();
        }
    }

    #[test]
    fn containers_that_start_together_fill_once() {
        let (_dir, image, volume) = dirs();
        for n in 0..50 {
            fs::write(image.join(n.to_string()), "x").unwrap();
        }
        let fills: usize = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..6).map(|_| scope.spawn(|| usize::from(fill(&image, &volume).unwrap()))).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(fills, 1);
    }
}
