//! Two trees side by side: what one has and the other has not, or has otherwise.
//!
//! Either is walked by descriptors, each name by itself below an open directory, following no link; nothing but directories and regular files is
//! opened. Times do not count: the same files, made again, are the same.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rbox_spec::Kind;
use rbox_sys::inode::Inode;
use rustix::fs::{Dir, FileType, Stat};
use rustix::io::Errno;

/// Directories within directories that are looked into: for each there are two descriptors.
const DEEPEST: usize = 200;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Differs {
    /// Only the second tree has it.
    Added,
    /// Only the first tree has it.
    Deleted,
    /// Both have it, with another type, content, mode or owner.
    Modified,
}

/// One thing that differs.
#[derive(Debug, Clone)]
pub struct Difference {
    /// From the root on, beginning with `/`.
    pub path: PathBuf,
    /// How.
    pub how: Differs,
    /// Bytes in the first tree; none for what is no file there.
    pub before: Option<u64>,
    /// Bytes in the second tree.
    pub after: Option<u64>,
}

/// Two trees could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Something could not be read.
    #[error("read {path}", path = path.display())]
    Read {
        /// In either of the trees.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are too many directories within each other.
    #[error("{path}: it is more than {DEEPEST} directories deep", path = path.display())]
    Deep {
        /// In either of the trees.
        path: PathBuf,
    },
}

impl CompareError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Deep { .. } => Kind::Unsupported,
        }
    }
}

/// Tells `tell` of all that differs, in the order of the names' bytes, each directory before what is in it.
///
/// # Errors
/// A tree cannot be read.
pub fn compare(
    first: impl AsFd,
    second: impl AsFd,
    tell: &mut dyn FnMut(Difference),
) -> Result<(), CompareError> {
    let root = PathBuf::from("/");
    let open = |tree: &dyn Fn() -> Result<Inode, Errno>| {
        tree().and_then(|inode| inode.open_directory()).map_err(unread(&root))
    };
    let trees = Pair {
        first: Some(open(&|| Inode::of(&first))?),
        second: Some(open(&|| Inode::of(&second))?),
        path: root.clone(),
    };
    let mut open = vec![trees.listed()?];
    while let Some(level) = open.last_mut() {
        let Some(name) = level.names.pop_first() else {
            open.pop();
            continue;
        };
        let deeper = level.pair.entry(&name, tell)?;
        if let Some(pair) = deeper {
            if open.len() >= DEEPEST {
                return Err(CompareError::Deep { path: pair.path });
            }
            open.push(pair.listed()?);
        }
    }
    Ok(())
}

fn unread(path: &Path) -> impl FnOnce(Errno) -> CompareError {
    let path = path.to_owned();
    move |errno| CompareError::Read { path, source: errno.into() }
}

/// A directory in both trees, or in one of them.
struct Pair {
    first: Option<OwnedFd>,
    second: Option<OwnedFd>,
    path: PathBuf,
}

/// A directory, with what is still to be looked at in it.
struct Level {
    pair: Pair,
    names: BTreeSet<CString>,
}

impl Pair {
    fn listed(self) -> Result<Level, CompareError> {
        let mut names = BTreeSet::new();
        for dir in [&self.first, &self.second].into_iter().flatten() {
            for entry in Dir::read_from(dir).map_err(unread(&self.path))? {
                let entry = entry.map_err(unread(&self.path))?;
                let name = entry.file_name();
                if !matches!(name.to_bytes(), b"." | b"..") {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(Level { pair: self, names })
    }

    /// Looks at one name. The directory to go on in, if it is one in either tree.
    fn entry(&self, name: &CStr, tell: &mut dyn FnMut(Difference)) -> Result<Option<Self>, CompareError> {
        let path = self.path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        let find = |dir: &Option<OwnedFd>| -> Result<Option<Node>, CompareError> {
            let Some(dir) = dir else { return Ok(None) };
            match Inode::at(dir, name) {
                Ok(inode) => {
                    let stat = inode.stat().map_err(unread(&path))?;
                    Ok(Some(Node { inode, stat }))
                }
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(unread(&path)(errno)),
            }
        };
        let (before, after) = (find(&self.first)?, find(&self.second)?);
        let how = match (&before, &after) {
            (None, Some(_)) => Some(Differs::Added),
            (Some(_), None) => Some(Differs::Deleted),
            (Some(a), Some(b)) => (!a.is_same(b, &path)?).then_some(Differs::Modified),
            (None, None) => None,
        };
        if let Some(how) = how {
            let (before, after) =
                (before.as_ref().and_then(Node::bytes), after.as_ref().and_then(Node::bytes));
            tell(Difference { path: path.clone(), how, before, after });
        }
        let below = |node: Option<Node>| -> Result<Option<OwnedFd>, CompareError> {
            let Some(node) = node.filter(|node| node.kind() == FileType::Directory) else { return Ok(None) };
            node.inode.open_directory().map(Some).map_err(unread(&path))
        };
        let (first, second) = (below(before)?, below(after)?);
        Ok((first.is_some() || second.is_some()).then_some(Self { first, second, path }))
    }
}

/// What a name leads to.
struct Node {
    inode: Inode,
    stat: Stat,
}

impl Node {
    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    fn bytes(&self) -> Option<u64> {
        (self.kind() == FileType::RegularFile).then(|| u64::try_from(self.stat.st_size).unwrap_or(0))
    }

    fn is_same(&self, other: &Self, path: &Path) -> Result<bool, CompareError> {
        let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev);
        if of(&self.stat) != of(&other.stat) {
            return Ok(false);
        }
        let failed = |errno| unread(path)(errno);
        match self.kind() {
            FileType::Symlink => {
                Ok(self.inode.link_target().map_err(failed)? == other.inode.link_target().map_err(failed)?)
            }
            FileType::RegularFile => {
                if self.stat.st_size != other.stat.st_size
                    || self.capabilities(path)? != other.capabilities(path)?
                {
                    return Ok(false);
                }
                // The same file of a layer that both have: overlayfs gives it its own number, if all layers are on one file system.
                let itself = |stat: &Stat| {
                    (stat.st_ino, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
                };
                Ok(itself(&self.stat) == itself(&other.stat) || self.has_same_content(other, path)?)
            }
            _ => Ok(true),
        }
    }

    fn capabilities(&self, path: &Path) -> Result<Option<Vec<u8>>, CompareError> {
        match self.inode.xattr(c"security.capability") {
            Err(Errno::OPNOTSUPP) => Ok(None),
            other => other.map_err(unread(path)),
        }
    }

    fn has_same_content(&self, other: &Self, path: &Path) -> Result<bool, CompareError> {
        let open = |node: &Self| node.inode.open_regular().map(File::from).map_err(unread(path));
        let (mut first, mut second) = (open(self)?, open(other)?);
        let read = |source| CompareError::Read { path: path.to_owned(), source };
        let (mut one, mut two) = (vec![0; 128 << 10], vec![0; 128 << 10]);
        loop {
            let got = fill(&mut first, &mut one).map_err(read)?;
            if fill(&mut second, &mut two).map_err(read)? != got || one.get(..got) != two.get(..got) {
                return Ok(false);
            }
            if got < one.len() {
                return Ok(true);
            }
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn differences(first: &Path, second: &Path) -> Vec<String> {
        let (first, second) = (File::open(first).unwrap(), File::open(second).unwrap());
        let mut seen = Vec::new();
        let mut tell = |one: Difference| {
            let letter = match one.how {
                Differs::Added => 'A',
                Differs::Deleted => 'D',
                Differs::Modified => 'C',
            };
            let size = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), |size| size.to_string());
            seen.push(format!("{letter} {} {} {}", one.path.display(), size(one.before), size(one.after)));
        };
        compare(&first, &second, &mut tell).unwrap();
        seen
    }

    #[test]
    fn all_that_differs_is_told_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        for tree in [&a, &b] {
            fs::create_dir_all(tree.join("same/below")).unwrap();
            fs::write(tree.join("same/below/file"), "alike").unwrap();
            symlink("same", tree.join("link")).unwrap();
            fs::write(tree.join("mode"), "m").unwrap();
            fs::write(tree.join("bytes"), if *tree == a { "abc" } else { "abd" }).unwrap();
            fs::write(tree.join("longer"), if *tree == a { "1" } else { "12" }).unwrap();
        }
        assert_eq!(differences(&a, &a), Vec::<String>::new());
        fs::set_permissions(b.join("mode"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(b.join("link")).unwrap();
        symlink("else", b.join("link")).unwrap();
        fs::create_dir(a.join("gone")).unwrap();
        fs::write(a.join("gone/file"), "gone").unwrap();
        fs::create_dir(b.join("new")).unwrap();
        fs::write(b.join("new/file"), "").unwrap();
        fs::write(a.join("turned"), "file").unwrap();
        fs::create_dir(b.join("turned")).unwrap();
        fs::write(b.join("turned/in"), "x").unwrap();
        let want = [
            "C /bytes 3 3",
            "D /gone - -",
            "D /gone/file 4 -",
            "C /link - -",
            "C /longer 1 2",
            "C /mode 1 1",
            "A /new - -",
            "A /new/file - 0",
            "C /turned 4 -",
            "A /turned/in - 1",
        ];
        assert_eq!(differences(&a, &b), want);
    }

    #[test]
    fn what_is_too_deep_is_refused_and_nothing_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir_all(b.join(vec!["d"; DEEPEST + 1].join("/"))).unwrap();
        let (first, second) = (File::open(&a).unwrap(), File::open(&b).unwrap());
        let said = compare(&first, &second, &mut |_| {}).unwrap_err().to_string();
        assert!(said.contains("directories deep"), "{said}");
        symlink("/", a.join("out")).unwrap();
        assert_eq!(differences(&a, &a).len(), 0);
    }
}
