//! What a copy makes of its source and its target: Docker's rules (docker container cp, "Extended description").

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::error::EngineError;

/// A path without `.`, `..` and doubled slashes, by its words alone, from the root.
pub(crate) fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}

/// Whether it can only be a directory: it ends in `/` or `/.`.
pub(crate) fn asserts_directory(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/") || means_content(path)
}

/// Whether it means what is in a directory: it ends in `/.`, or is `.`.
pub(crate) fn means_content(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

/// The name that a source has in the archive: `.` where its content is meant.
pub(crate) fn source_name(path: &Path) -> OsString {
    if means_content(path) {
        return ".".into();
    }
    cleaned(path).file_name().map_or_else(|| ".".into(), OsStr::to_owned)
}

/// What is at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum There {
    Directory,
    Other,
    Nothing,
}

/// Where an archive of the source goes: a directory that has to be there, and the name of the archive's root.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) directory: PathBuf,
    pub(crate) name: OsString,
}

/// `path`, absolute, is the target with its links resolved; `given` is how it was written.
pub(crate) fn target(
    source: OsString,
    source_is_dir: bool,
    path: &Path,
    given: &Path,
    there: There,
) -> Result<Target, EngineError> {
    let refused = |why: &str| Err(EngineError::Conflict(why.to_owned()));
    let beside = || {
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        Target { directory, name: path.file_name().map_or_else(|| ".".into(), OsStr::to_owned) }
    };
    match there {
        // It would have to be there for something to be in it.
        There::Nothing if source_is_dir && means_content(given) => {
            Ok(Target { directory: path.to_owned(), name: ".".into() })
        }
        There::Directory => Ok(Target { directory: path.to_owned(), name: source }),
        There::Other if source_is_dir => refused("cannot copy directory"),
        There::Other if asserts_directory(given) => refused("not a directory"),
        There::Nothing if !source_is_dir && asserts_directory(given) => refused("no such directory"),
        There::Other | There::Nothing => Ok(beside()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_names() {
        for (path, name) in [
            ("/a/b", "b"),
            ("/a/b/", "b"),
            ("/a/b/.", "."),
            (".", "."),
            ("/", "."),
            ("/a/../b//c", "c"),
            ("/a/..", "."),
            ("./x", "x"),
        ] {
            assert_eq!(source_name(Path::new(path)), name, "{path}");
        }
    }

    #[test]
    fn targets_are_as_with_docker() {
        use There::{Directory, Nothing, Other};
        for (is_dir, path, there, wanted) in [
            (false, "/d", Directory, Ok(("/d", "src"))),
            (true, "/d", Directory, Ok(("/d", "src"))),
            (true, "/d/", Directory, Ok(("/d", "src"))),
            (false, "/d/f", Other, Ok(("/d", "f"))),
            (true, "/d/f", Other, Err("cannot copy directory")),
            (false, "/d/f/", Other, Err("not a directory")),
            (false, "/d/new", Nothing, Ok(("/d", "new"))),
            (true, "/d/new", Nothing, Ok(("/d", "new"))),
            (true, "/d/new/", Nothing, Ok(("/d", "new"))),
            (true, "/d/new/.", Nothing, Ok(("/d/new", "."))),
            (false, "/d/new/", Nothing, Err("no such directory")),
            (false, "/d/new/.", Nothing, Err("no such directory")),
        ] {
            let found = target("src".into(), is_dir, &cleaned(Path::new(path)), Path::new(path), there);
            match wanted {
                Ok((directory, name)) => {
                    let wanted = Target { directory: directory.into(), name: name.into() };
                    assert_eq!(found.unwrap(), wanted, "{path}");
                }
                Err(why) => assert_eq!(found.unwrap_err().to_string(), why, "{path}"),
            }
        }
    }
}
