//! Locks of files and directories that whoever holds them may remove.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rbox_sys::lock::{self, How, Patience};

use crate::error::{BuildError, io_error};

/// How long a build waits for another one, or for another of its own steps: as long as a step may take. Who watches is told what for.
pub(crate) const STEP: Patience = Patience::of_working(Duration::from_hours(7 * 24));

/// Opens what is at a path and takes its lock; once more, if it was removed or replaced meanwhile. None: somebody else has it, and there is
/// no `patience` for that.
pub(crate) fn lock_at(
    path: &Path,
    open: &dyn Fn() -> Result<File, BuildError>,
    how: How,
    patience: Option<Patience>,
) -> Result<Option<File>, BuildError> {
    loop {
        let file = open()?;
        match patience {
            Some(patience) => lock::take(&file, how, patience).map_err(io_error("lock", path))?,
            None if lock::try_take(&file, how).map_err(|error| io_error("lock", path)(error.into()))? => {}
            None => return Ok(None),
        }
        if is_at(&file, path) {
            return Ok(Some(file));
        }
    }
}

/// Takes the lock of a directory that has its `data`: whoever finds it without lets `fill` make that, and nobody has it before. None: somebody
/// else has it, and there is no `patience` for that.
pub(crate) fn lock_filled(
    dir: &Path,
    open: &dyn Fn() -> Result<File, BuildError>,
    how: How,
    patience: Option<Patience>,
    fill: &mut dyn FnMut() -> Result<(), BuildError>,
) -> Result<Option<File>, BuildError> {
    let data = dir.join("data");
    loop {
        // To fill it one has to be alone, but nobody is waited for here: who has the lock fills it right now, or shares it already, for a
        // step that may itself wait for what ours does.
        if !data.exists()
            && let Some(lock) = lock_at(dir, open, How::Exclusive, None)?
        {
            if !data.exists() {
                fill()?;
            }
            if how == How::Exclusive {
                return Ok(Some(lock));
            }
        }
        let Some(lock) = lock_at(dir, open, how, patience)? else { return Ok(None) };
        if data.exists() {
            return Ok(Some(lock));
        }
        // Once more: it was pruned meanwhile, or whoever was to fill it could not.
    }
}

/// Whether it is still this that is at the path.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_by_the_one_before_is_not_what_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let open = || {
            std::fs::create_dir_all(&path).unwrap();
            Ok(File::open(&path).unwrap())
        };
        let first = lock_at(&path, &open, How::Exclusive, None).unwrap().unwrap();
        assert!(lock_at(&path, &open, How::Shared, None).unwrap().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let patience = Some(Patience::of(Duration::from_secs(20)));
                lock_at(&path, &open, How::Shared, patience).unwrap().unwrap()
            });
            std::thread::sleep(Duration::from_millis(100));
            std::fs::remove_dir(&path).unwrap();
            drop(first);
            let locked = waiting.join().unwrap();
            assert!(is_at(&locked, &path));
        });
    }

    #[test]
    fn two_who_share_what_is_new_do_not_wait_for_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        std::fs::create_dir(&path).unwrap();
        let fill = || {
            std::fs::create_dir(path.join("data")).unwrap();
            Ok(())
        };
        let just_open = || Ok(File::open(&path).unwrap());
        let first = std::cell::RefCell::new(None);
        // The second one has looked and found nothing, and is about to lock it: the first one fills it, and goes on with it.
        let open_late = || {
            let mut first = first.borrow_mut();
            if first.is_none() {
                *first = lock_filled(&path, &just_open, How::Shared, None, &mut { fill }).unwrap();
            }
            just_open()
        };
        let patience = Some(Patience::of(Duration::from_secs(2)));
        let second = lock_filled(&path, &open_late, How::Shared, patience, &mut { fill }).unwrap();
        assert!(first.borrow().is_some() && second.is_some());
        assert!(lock_filled(&path, &just_open, How::Exclusive, None, &mut { fill }).unwrap().is_none());
    }

    #[test]
    fn nobody_has_it_before_it_is_filled_and_one_fills_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        std::fs::create_dir(&path).unwrap();
        let open = || Ok(File::open(&path).unwrap());
        for how in [How::Shared, How::Exclusive] {
            let filled = std::sync::atomic::AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let mut fill = || {
                            filled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            std::thread::sleep(Duration::from_millis(20));
                            std::fs::create_dir(path.join("data")).unwrap();
                            Ok(())
                        };
                        let patience = Some(Patience::of(Duration::from_secs(20)));
                        let _lock = lock_filled(&path, &open, how, patience, &mut fill).unwrap().unwrap();
                        assert!(path.join("data").exists());
                    });
                }
            });
            assert_eq!(filled.into_inner(), 1);
            std::fs::remove_dir(path.join("data")).unwrap();
        }
        // Who cannot fill it leaves that to the next one.
        let mut fail = || Err(BuildError::Internal("no".to_owned()));
        lock_filled(&path, &open, How::Shared, None, &mut fail).unwrap_err();
        assert!(!path.join("data").exists());
    }
}
