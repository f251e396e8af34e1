//! A file that a command writes its output to.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rbox_engine::caller;

use crate::command::error::bad_input;

/// Refuses a path in a directory that is not there, in Docker's words.
pub(crate) fn check_directory(path: &Path) -> anyhow::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    match dir {
        Some(dir) if !dir.exists() => {
            anyhow::bail!("invalid output path: directory \"{}\" does not exist", dir.display())
        }
        _ => Ok(()),
    }
}

/// Who may read a file that is written: everybody whom the caller's own mask lets.
pub(crate) const ORDINARY: u32 = 0o666;
/// Only its owner: the whole of a file system has secrets in it. As with Docker.
pub(crate) const PRIVATE: u32 = 0o600;

/// Writes a file whole or not at all: beside it, and renamed when all is there. What is no regular file (a
/// pipe, /dev/null) is written to as it is. `mode`: what the caller's own mask leaves of it.
pub(crate) fn replace<T, E: Into<anyhow::Error>>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> anyhow::Result<T> {
    let failed =
        |action: &str, path: &Path, error: io::Error| anyhow::anyhow!("{action} {}: {error}", path.display());
    if path.is_dir() {
        return Err(bad_input(format!("{} is a directory: -o takes a file", path.display())));
    }
    if path.metadata().is_ok_and(|data| !data.is_file()) {
        let mut file = File::options().write(true).open(path).map_err(|error| failed("open", path, error))?;
        return write(&mut file).map_err(Into::into);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.partial", std::process::id()));
    let beside = PathBuf::from(beside);
    let done =
        caller::create_new(&beside, mode).map_err(|error| failed("create", path, error)).and_then(|file| {
            let mut out = io::BufWriter::with_capacity(128 * 1024, file);
            let answer = write(&mut out).map_err(Into::into)?;
            out.flush().map_err(|error| failed("write", path, error))?;
            std::fs::rename(&beside, path).map_err(|error| failed("rename to", path, error))?;
            Ok(answer)
        });
    if done.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    done
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn an_output_file_is_whole_or_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let path = dir.join("out.tar");
        replace(&path, ORDINARY, |out| out.write_all(b"first")).unwrap();
        let failed = replace(&path, ORDINARY, |out| {
            out.write_all(b"second")?;
            Err::<(), _>(io::Error::other("no more"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        let mode = || std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode(), 0o644);
        replace(&path, PRIVATE, |out| out.write_all(b"first")).unwrap();
        assert_eq!(mode(), 0o600);
        assert_eq!(std::fs::read_dir(dir).unwrap().count(), 1);
        assert!(replace(dir, ORDINARY, |_| Ok::<_, io::Error>(())).is_err());
        replace(Path::new("/dev/null"), ORDINARY, |out| out.write_all(b"x")).unwrap();
    }
}
