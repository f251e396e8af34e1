//! Files of our own that stay in their place: locks, marks, records. The one way to open them, and to make the directories they are in.
//!
//! Somebody may have put another thing where such a file belongs: a FIFO, whose opening waits for ever, a link to a file of somebody
//! else, a device. It is reported as damage of that one file; no command waits for it or writes through it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Opens `path` with these options, if a regular file is there or is made. `options` must not truncate: use [`write()`].
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(flags.bits() as i32).open(path).map_err(|error| {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            // A link at the end of the path, and a FIFO or socket that nobody has open.
            Some(Errno::LOOP | Errno::NXIO) => no_file(),
            _ => error,
        }
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

fn no_file() -> io::Error {
    io::Error::other("it is not a regular file")
}

/// Opens it for reading.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    open(path, File::options().read(true))
}

/// All of it, which is `most` bytes at most.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_to_read(path)?;
    // Room for all of it and a byte more: it is read by one call, and the next one sees its end.
    let length = file.metadata()?.len().min(most);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
    }
    Ok(bytes)
}

/// All of a short one, such as a mark, as text.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path, 1 << 16)?).map_err(|_| io::Error::other("it is not text"))
}

/// Makes it, or replaces its content: it stays the same file.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> io::Result<()> {
    let mut file = open(path, File::options().write(true).create(true).truncate(false))?;
    file.set_len(0)?;
    file.write_all(bytes.as_ref())
}

/// Makes a directory and those above it, for root only: below rbox's roots are records with environments, and file systems of
/// images with set-user-ID programs.
pub fn make_private(dir: &Path) -> io::Result<()> {
    make_directory(dir, 0o700)
}

/// Makes a directory and those above it with this mode; those that are there stay as they are.
pub fn make_directory(dir: &Path, mode: u32) -> io::Result<()> {
    let mut left = 100;
    loop {
        match DirBuilder::new().recursive(true).mode(mode).create(dir) {
            // Another process removed it, just when this one found it there; or the one above it, just when this one had made that.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
                    && left > 0
                    && dir.symlink_metadata().map_or(true, |there| there.is_dir()) =>
            {
                left -= 1;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_neither_waited_for_nor_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        fs::create_dir(at("directory")).unwrap();
        fs::write(at("other"), "another's").unwrap();
        symlink(at("other"), at("link")).unwrap();
        symlink(at("absent"), at("dangling")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for name in ["fifo", "directory", "link", "dangling", "socket", "/dev/zero"] {
            assert!(read(&at(name), 10).is_err(), "read {name}");
            if name != "/dev/zero" {
                assert!(write(&at(name), "x").is_err(), "write {name}");
            }
            assert!(open(&at(name), File::options().read(true).write(true)).is_err(), "open {name}");
        }
        assert_eq!(fs::read_to_string(at("other")).unwrap(), "another's");
        assert!(!at("absent").exists());
        write(&at("file"), "longer").unwrap();
        write(&at("file"), "short").unwrap();
        assert_eq!(read_text(&at("file")).unwrap(), "short");
        assert!(read(&at("file"), 4).is_err());
        assert_eq!(read(&at("none"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn directories_may_vanish_while_they_are_made() {
        let top = tempfile::tempdir().unwrap();
        let (above, dir) = (top.path().join("a"), top.path().join("a/b"));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = (fs::remove_dir(&dir), fs::remove_dir(&above));
                    // Others do something in between.
                    std::thread::sleep(std::time::Duration::from_micros(20));
                }
            });
            let made: io::Result<()> = (0..50_000).try_for_each(|_| make_private(&dir));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            made.unwrap();
        });
        make_private(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(top.path().join("file"), "").unwrap();
        assert!(make_private(&top.path().join("file")).is_err());
        assert!(make_private(&top.path().join("file/below")).is_err());
    }
}
