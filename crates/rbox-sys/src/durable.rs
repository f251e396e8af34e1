//! Small files that have to outlast a power cut.
//!
//! A file that is written and renamed without a sync may be empty after a power cut: the file system may put the name on disk
//! long before the content. So the content is synced before the name leads to it, and the directory after.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::lock::{self, How};

/// Whether a file has to be on disk when the call that writes it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// It is promised to somebody.
    Now,
    /// It may be lost with the power; then what was there before is found, or nothing.
    Later,
}

/// Makes the file `path`, which must not be there, with this content on disk. Its name lasts once [`sync_dir`] was called on
/// its directory.
pub fn write_new(path: &Path, bytes: &[u8], lasting: Lasting) -> io::Result<()> {
    write_to(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?, bytes, lasting)
}

fn write_to(mut file: File, bytes: &[u8], lasting: Lasting) -> io::Result<()> {
    file.write_all(bytes)?;
    if lasting == Lasting::Now { file.sync_all() } else { Ok(()) }
}

/// Replaces the file `path` as a whole: a reader, and the next boot, finds the old content or the new. It is written in
/// `temporaries`, a directory of the same file system, which [`sweep`] empties of what killed processes left.
pub fn replace(temporaries: &Path, path: &Path, bytes: &[u8], lasting: Lasting) -> io::Result<()> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // A sweep that comes between the making of the file and its lock takes it away: then it is made again.
    for _ in 0..8 {
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = temporaries.join(format!("{}.{serial}", std::process::id()));
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            other => other?,
        };
        let lock = file.try_clone()?;
        // Whoever has it is sweeping, and takes this file away.
        if !lock::try_take(&lock, How::Shared)? {
            continue;
        }
        let done = write_to(file, bytes, lasting).and_then(|()| std::fs::rename(&temporary, path));
        match done {
            Ok(()) if lasting == Lasting::Now => return path.parent().map_or(Ok(()), sync_dir),
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !temporary.exists() => {}
            Err(error) => {
                let _ = std::fs::remove_file(&temporary);
                return Err(error);
            }
        }
    }
    Err(io::Error::other("its temporary file is taken away all the time"))
}

/// Makes what was renamed, made or removed in a directory last.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a file that was written last, and its name.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Takes away what writers that were killed left in `temporaries`. A living one holds a lock on its file.
pub fn sweep(temporaries: &Path) {
    for entry in std::fs::read_dir(temporaries).into_iter().flatten().flatten() {
        let path = entry.path();
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits() as i32;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(&path) else { continue };
        let free = lock::try_take(&file, How::Exclusive).is_ok_and(|taken| taken);
        // A name that was taken by another meanwhile is not removed.
        let same = |there: &std::fs::Metadata| {
            file.metadata().is_ok_and(|ours| ours.is_file() && ours.ino() == there.ino())
        };
        if free && std::fs::symlink_metadata(&path).is_ok_and(|there| same(&there)) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn replaced_as_a_whole_and_swept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (temporaries, file) = (dir.join("tmp"), dir.join("file"));
        std::fs::create_dir_all(&temporaries).unwrap();
        for (text, lasting) in [("one", Lasting::Now), ("two", Lasting::Later)] {
            replace(&temporaries, &file, text.as_bytes(), lasting).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(&temporaries).unwrap().count(), 0);
        assert!(write_new(&file, b"", Lasting::Now).is_err());
        // A dead writer's goes, a living one's stays.
        std::fs::write(temporaries.join("1.0"), "half").unwrap();
        let living = File::create(temporaries.join("1.1")).unwrap();
        assert!(lock::try_take(&living, How::Shared).unwrap());
        sweep(&temporaries);
        assert!(!temporaries.join("1.0").exists() && temporaries.join("1.1").exists());
        // A failure leaves nothing.
        assert!(replace(&temporaries, &dir.join("not/there"), b"x", Lasting::Now).is_err());
        assert_eq!(std::fs::read_dir(&temporaries).unwrap().count(), 1);
    }
}
