//! A directory of the caller's that results of steps are carried in. All of it is reached below one descriptor and through no link: whoever
//! else can write there leads nothing out of it.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_engine::caller;
use rbox_sys::SysError;
use rbox_sys::file::open_beneath;
use rbox_sys::lock::{self, How, Patience};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{BuildError, io_error};

/// What files are called that are not whole yet, before their random part.
const NEW: &str = ".rbox-new-";

/// The directory.
#[derive(Debug)]
pub(super) struct Place {
    dir: File,
    path: PathBuf,
}

impl Place {
    /// Opens what is there.
    pub(super) fn open(path: &Path) -> Result<Self, BuildError> {
        let dir = File::from(crate::context::open_dir(path)?);
        Ok(Self { dir, path: path.to_owned() })
    }

    /// The same; if nothing is there it is made.
    pub(super) fn make(path: &Path) -> Result<Self, BuildError> {
        std::fs::create_dir_all(path).map_err(io_error("make directory", path))?;
        Self::open(path)
    }

    /// What the caller calls it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until nobody else writes there. The lock is that of the directory that is open, and goes with it.
    pub(super) fn lock(&self) -> Result<(), BuildError> {
        lock::take(&self.dir, How::Exclusive, Patience::WORK).map_err(io_error("lock", &self.path))
    }

    /// Makes a directory below, and those above it.
    pub(super) fn make_dirs(&self, name: &Path) -> Result<(), BuildError> {
        let mut above = PathBuf::new();
        for part in name {
            let dir = self.dir_of(&above)?;
            match rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(caller::mode(0o777))) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(io_error("make directory", &self.path.join(name))(errno.into())),
            }
            above.push(part);
        }
        // A link or a file of this name is seen here.
        self.dir_of(name).map(drop)
    }

    fn dir_of(&self, name: &Path) -> Result<OwnedFd, BuildError> {
        let name = if name.as_os_str().is_empty() { Path::new(".") } else { name };
        open_beneath(&self.dir, name, OFlags::RDONLY | OFlags::DIRECTORY, 0)
            .map_err(|error| io_error("open", &self.path.join(name))(of_call(&error)))
    }

    /// A regular file, to be read, and its length.
    pub(super) fn file(&self, name: &Path) -> io::Result<(File, u64)> {
        // What is a pipe or a device is not waited for.
        let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(open_beneath(&self.dir, name, how, 0).map_err(|error| of_call(&error))?);
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok((file, meta.len()))
    }

    /// All of a file, which is `most` bytes at most. None: it is not there.
    pub(super) fn read(&self, name: &Path, most: u64) -> Result<Option<Vec<u8>>, BuildError> {
        let wrong = |error| Err(io_error("read", &self.path.join(name))(error));
        let (file, length) = match self.file(name) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return wrong(error),
        };
        if length > most {
            return wrong(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
        }
        let mut bytes = Vec::new();
        match file.take(most).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) => wrong(error),
        }
    }

    /// A file that is to be put somewhere below a directory once it is whole.
    pub(super) fn create(&self, below: &Path) -> Result<New, BuildError> {
        let dir = self.dir_of(below)?;
        let mut random = [0; 16];
        let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        got.map_err(|errno| io_error("make a name in", &self.path)(errno.into()))?;
        let name = format!("{NEW}{:032x}", u128::from_ne_bytes(random));
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let file = open_beneath(&dir, Path::new(&name), how, caller::mode(0o666))
            .map_err(|error| io_error("create a file in", &self.path.join(below))(of_call(&error)))?;
        Ok(New { file: File::from(file), dir, name: Some(name), path: self.path.join(below) })
    }

    /// Removes a file, if it is there. Best effort: it is only of no use.
    pub(super) fn remove(&self, below: &Path, name: &str) {
        if let Ok(dir) = self.dir_of(below) {
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
        }
    }

    /// Removes what was left in a directory by those who were killed before a file was whole. Whoever calls this has the lock.
    pub(super) fn remove_unfinished(&self, below: &Path) {
        let Ok(dir) = self.dir_of(below) else { return };
        let Ok(listing) = rustix::fs::Dir::read_from(&dir) else { return };
        for entry in listing.flatten() {
            if entry.file_name().to_bytes().starts_with(NEW.as_bytes()) {
                let _ = rustix::fs::unlinkat(&dir, entry.file_name(), AtFlags::empty());
            }
        }
    }

    /// Puts files in their places. Those that were not there before are noted in `new`, each before it is.
    pub(super) fn put_all(
        &self,
        below: &Path,
        files: &[Left],
        new: &mut Vec<String>,
    ) -> Result<(), BuildError> {
        let dir = self.dir_of(below)?;
        for Left { own, name } in files {
            let there = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW);
            if there.is_err_and(|errno| errno == Errno::NOENT) {
                new.push(name.clone());
            }
            rustix::fs::renameat(&dir, own, &dir, name)
                .map_err(|errno| io_error("rename to", &self.path.join(below).join(name))(errno.into()))?;
        }
        Ok(())
    }

    /// Waits until all that was written is on the disk.
    pub(super) fn sync(&self) -> Result<(), BuildError> {
        rustix::fs::syncfs(&self.dir).map_err(|errno| io_error("sync", &self.path)(errno.into()))
    }
}

/// A file that is not whole yet, and removed if it does not get to be.
pub(super) struct New {
    pub(super) file: File,
    dir: OwnedFd,
    name: Option<String>,
    path: PathBuf,
}

impl New {
    /// Puts it in its place, whatever file is there.
    pub(super) fn put(mut self, name: &str) -> Result<(), BuildError> {
        let Some(own) = self.name.clone() else { return Ok(()) };
        rustix::fs::renameat(&self.dir, own, &self.dir, name)
            .map_err(|errno| io_error("rename to", &self.path.join(name))(errno.into()))?;
        self.name = None;
        Ok(())
    }

    /// Leaves it as it is, all of it written, until its `name` is given to it. It is not open any longer: there may be many.
    pub(super) fn leave(mut self, name: &str) -> Left {
        Left { own: self.name.take().unwrap_or_default(), name: name.to_owned() }
    }

    /// The same once all of this is written.
    pub(super) fn leave_bytes(mut self, name: &str, bytes: &[u8]) -> Result<Left, BuildError> {
        self.file.write_all(bytes).map_err(io_error("write", &self.path.join(name)))?;
        Ok(self.leave(name))
    }

    /// Writes all of it, and puts it in its place.
    pub(super) fn put_bytes(mut self, name: &str, bytes: &[u8]) -> Result<(), BuildError> {
        self.file.write_all(bytes).map_err(io_error("write", &self.path.join(name)))?;
        self.put(name)
    }
}

/// A file that is whole, and not in its place yet.
pub(super) struct Left {
    own: String,
    name: String,
}

impl Drop for New {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = rustix::fs::unlinkat(self.dir.as_fd(), name.as_str(), AtFlags::empty());
        }
    }
}

fn of_call(error: &SysError) -> io::Error {
    match crate::tree::errno(error) {
        Errno::LOOP => {
            io::Error::new(io::ErrorKind::InvalidInput, "there is a link in it, which is not followed")
        }
        errno => errno.into(),
    }
}
