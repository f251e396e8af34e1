//! What makes a new file a copy: its content, owner, mode, attributes and time.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Gid, Mode, Uid};

use super::looks::{Owner, Times, attributes_of, set_times, write_attributes};
use super::walk::{TreeError, open_file};

/// A new file that is to be like another.
pub(super) struct Filling {
    /// The directory that one is in, and its path, which ends in its name there.
    pub(super) parent: Arc<OwnedFd>,
    pub(super) source: PathBuf,
    /// Bytes that it had.
    pub(super) size: i64,
    pub(super) to: File,
    /// Where this is, for errors.
    pub(super) at: PathBuf,
    pub(super) owner: Owner,
    pub(super) mode: u32,
    pub(super) times: Times,
}

/// Makes it so.
pub(super) fn fill(filling: &Filling) -> Result<(), TreeError> {
    let Filling { parent, source, to, at, .. } = filling;
    let from = open_file(parent, source.file_name().unwrap_or_default(), source)?;
    pour(&from, filling.size, to).map_err(TreeError::system("write", at))?;
    own(to, filling.owner, filling.mode, at)?;
    // After the owner, who takes capabilities away when he changes.
    write_attributes(to, &attributes_of(&from, source)?, at)?;
    set_times(to, filling.times, at)
}

/// Gives a new file to its owner, with this mode, where it is not so already: each change is a write of the file system.
fn own(file: &File, owner: Owner, mode: u32, at: &Path) -> Result<(), TreeError> {
    let stat = rustix::fs::fstat(file).map_err(TreeError::system("stat", at))?;
    if (stat.st_uid, stat.st_gid) != (owner.uid, owner.gid) {
        rustix::fs::fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
            .map_err(TreeError::system("chown", at))?;
    }
    if stat.st_mode & 0o7777 != mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(TreeError::system("chmod", at))?;
    }
    Ok(())
}

/// Copies what a file has. Most files are small, and are read and written in one piece: sendfile(2), which `io::copy` takes, makes a
/// pipe for each and has the file system clear memory for more than there is.
fn pour(mut from: &File, size: i64, mut to: &File) -> std::io::Result<()> {
    const SMALL: usize = 64 << 10;
    let Some(size) = usize::try_from(size).ok().filter(|size| *size < SMALL) else {
        return std::io::copy(&mut from, &mut to).map(drop);
    };
    // One byte more than there was: when just those come that there were, there are no more.
    let mut all = vec![0; size + 1];
    let got = rustix::io::retry_on_intr(|| rustix::io::read(from, &mut all))?;
    to.write_all(all.get(..got).unwrap_or_default())?;
    if got == size { Ok(()) } else { std::io::copy(&mut from, &mut to).map(drop) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    #[test]
    fn all_of_a_file_is_copied_whatever_its_size_was_said_to_be() {
        for length in [0, 1, 200, 65_534, 65_535, 65_536, 65_537, 300_000] {
            let bytes: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
            for said in [0, i64::from(length), 65_535, 1 << 40] {
                let (mut from, mut to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
                from.write_all(&bytes).unwrap();
                from.rewind().unwrap();
                pour(&from, said, &to).unwrap();
                to.rewind().unwrap();
                let mut copied = Vec::new();
                to.read_to_end(&mut copied).unwrap();
                assert!(copied == bytes, "{length} bytes, said to be {said}: {} came", copied.len());
            }
        }
    }
}
