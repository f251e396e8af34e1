//! Caches of `RUN --mount=type=cache` carried elsewhere: as archives, out and in.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rbox_engine::engine::{pack_directory, unpack_directory};
use rbox_sys::lock::{How, Patience};
use rbox_sys::own;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::locked::lock_at;
use super::prune::{CacheEntry, cache_entries};
use crate::context::{Work, open_dir};
use crate::error::{BuildError, io_error};

/// A block of a tar archive. Even an archive of nothing has two.
const BLOCK: u64 = 512;

/// Writes what a cache has as a tar archive, with its own owner and mode. `name`: its id, where it is mounted, or the beginning of what
/// `builder du` calls it.
///
/// # Errors
/// There is none, several are called or begin so, or it cannot be read.
pub fn export_mount(build_dir: &Path, name: &str, to: impl Write) -> Result<(), BuildError> {
    let dir = find(build_dir, name)?;
    let open = || Ok(File::from(open_dir(&dir)?));
    let _lock = lock_at(&dir, &open, How::Shared, Some(Patience::WORK))?;
    let data = open_dir(&dir.join("data"))?;
    Ok(pack_directory(data.as_fd(), to)?)
}

/// Makes a cache of what an uncompressed tar archive has, in place of what it had. `id`: what `--mount` says, or the path it is mounted at.
///
/// # Errors
/// A build uses it, the archive is empty or damaged, or the disk. Nothing is changed then.
pub fn import_mount(build_dir: &Path, id: &str, mut tar: impl Read) -> Result<(), BuildError> {
    let id = cache_id(id)?;
    let mut first = Vec::new();
    let read = tar.by_ref().take(BLOCK).read_to_end(&mut first);
    read.map_err(io_error("read", Path::new("the archive")))?;
    if (first.len() as u64) < BLOCK {
        return Err(BuildError::Invalid(format!(
            "what is to become cache {id} is no tar archive: it ends after {} bytes; nothing was changed",
            first.len()
        )));
    }
    // Unpacked beside, so that a cache is never half an archive.
    let work = Work::begin(build_dir)?;
    let new = work.fresh();
    own::make_directory(&new, 0o755).map_err(io_error("make directory", &new))?;
    unpack_directory(first.chain(tar), open_dir(&new)?.as_fd())?;
    let dir = mount_dir(build_dir, "", &id);
    let all = build_dir.join("mounts");
    let open = || {
        for dir in [&all, &dir] {
            own::make_private(dir).map_err(io_error("make directory", dir))?;
        }
        Ok(File::from(open_dir(&dir)?))
    };
    let Some(_lock) = lock_at(&dir, &open, How::Exclusive, None)? else {
        return Err(BuildError::Conflict(format!(
            "cache {id} is used by a build: try again when it is done"
        )));
    };
    own::write(&dir.join("id"), &id).map_err(io_error("write", &dir))?;
    exchange(&new, &dir.join("data"))
}

/// Puts `new` where `place` is, in one step: whoever is killed leaves the one or the other there. What was there is where `new` was.
fn exchange(new: &Path, place: &Path) -> Result<(), BuildError> {
    let exchanged = match renameat_with(CWD, new, CWD, place, RenameFlags::EXCHANGE) {
        Err(Errno::NOENT) => renameat_with(CWD, new, CWD, place, RenameFlags::NOREPLACE),
        other => other,
    };
    exchanged.map_err(|errno| io_error("rename", place)(errno.into()))
}

fn find(build_dir: &Path, name: &str) -> Result<PathBuf, BuildError> {
    let id = cache_id(name)?;
    let mounts: Vec<CacheEntry> =
        cache_entries(build_dir)?.into_iter().filter(|entry| entry.kind == "exec.cachemount").collect();
    let named: Vec<&CacheEntry> = mounts.iter().filter(|entry| entry.description == id).collect();
    let begun = || mounts.iter().filter(|entry| entry.id.starts_with(name)).collect();
    let (how, found) = if named.is_empty() { ("begin with", begun()) } else { ("are called", named) };
    match found.as_slice() {
        [one] => Ok(one.path().to_owned()),
        [] => Err(BuildError::NotFound(format!("no such cache: {name} (rbox builder cache ls lists them)"))),
        several => {
            let ids: Vec<&str> = several.iter().map(|entry| entry.id.as_str()).collect();
            Err(BuildError::Invalid(format!(
                "several caches {how} {name}: give the beginning of one of {}",
                ids.join(", ")
            )))
        }
    }
}

/// The id of a cache, as `--mount` and `builder cache` have it: a path is where it is mounted.
pub(crate) fn cache_id(text: &str) -> Result<String, BuildError> {
    match text {
        "" => Err(BuildError::Invalid("a cache is named by its id, or where it is mounted".to_owned())),
        path if path.starts_with('/') => Ok(clean_target(path)),
        id => Ok(id.to_owned()),
    }
}

/// Where a cache is. `namespace`: `BUILDKIT_CACHE_MOUNT_NS`.
pub(crate) fn mount_dir(build_dir: &Path, namespace: &str, id: &str) -> PathBuf {
    let name = rbox_image::hash::sha256(format!("{namespace}/{id}").as_bytes()).hex();
    build_dir.join("mounts").join(name)
}

/// The id of a cache that says none: where it is mounted.
pub(crate) fn clean_target(target: &str) -> String {
    format!("/{}", crate::tree::clean(Path::new(target)).display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_of_what_is_no_archive() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [&b""[..], b"short", &[0; 511]] {
            let error = import_mount(dir.path(), "/cache", bytes).unwrap_err();
            assert!(error.to_string().contains("nothing was changed"), "{error}");
        }
        import_mount(dir.path(), "", &[0; 1024][..]).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// Whoever is killed leaves the old one or the new one.
    #[test]
    fn an_exchange_has_no_moment_without_a_cache() {
        let dir = tempfile::tempdir().unwrap();
        let (new, place) = (dir.path().join("new"), dir.path().join("data"));
        std::fs::create_dir(&new).unwrap();
        exchange(&new, &place).unwrap();
        assert!(!new.exists() && place.exists(), "the first one comes in");
        std::fs::create_dir(&new).unwrap();
        let over = std::sync::atomic::AtomicBool::new(false);
        let lacking = std::thread::scope(|scope| {
            let watching = scope.spawn(|| {
                let mut lacking = 0;
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    lacking += u32::from(!place.exists());
                }
                lacking
            });
            for number in 0..3000 {
                std::fs::write(new.join("number"), number.to_string()).unwrap();
                exchange(&new, &place).unwrap();
                assert_eq!(std::fs::read_to_string(place.join("number")).unwrap(), number.to_string());
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
            watching.join().unwrap()
        });
        assert_eq!(lacking, 0);
    }

    #[test]
    fn a_cache_has_one_name() {
        for (text, wanted) in [("/a/b/", "/a/b"), ("/a/../b//c", "/b/c"), ("id", "id"), ("a/b", "a/b")] {
            assert_eq!(cache_id(text).unwrap(), wanted);
        }
    }
}
