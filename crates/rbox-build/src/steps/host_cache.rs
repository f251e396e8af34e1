//! RUN --mount=type=cache,source=host:/DIR: a cache that is a directory of the host's, which the caller has allowed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rbox_sys::file::open_beneath;
use rbox_sys::lock::How;
use rbox_sys::own;
use rustix::fs::OFlags;

use crate::allowed::HostCache;
use crate::builder::Builder;
use crate::cache::{STEP, lock_at};
use crate::dockerfile::{Mount, Sharing};
use crate::error::{BuildError, io_error};

impl Builder<'_> {
    /// The directory that a cache is, if it is one of the host's.
    ///
    /// # Errors
    /// It is not allowed, or it is no directory.
    pub(super) fn host_cache(&mut self, mount: &Mount) -> Result<Option<HostCache>, BuildError> {
        let Some(path) = mount.host_dir() else { return Ok(None) };
        if let Some(opened) = self.host_caches.get(path) {
            return Ok(Some(opened.clone()));
        }
        let dirs = &self.request.allowed.cache_dirs;
        // The innermost that was allowed: below it no link is followed, since steps write there.
        let found = dirs.iter().filter_map(|dir| Some((dir, Path::new(path).strip_prefix(&dir.path).ok()?)));
        let Some((dir, below)) = found.min_by_key(|(_, below)| below.components().count()) else {
            return Err(BuildError::Invalid(format!(
                "cache mount of the host's directory {path} is not allowed: give --allow cache.host={path} to the build"
            )));
        };
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let failed = |errno: i32| {
            io_error("open the host's directory", Path::new(path))(io::Error::from_raw_os_error(errno))
        };
        let how = OFlags::PATH | OFlags::DIRECTORY;
        let opened = open_beneath(&dir.root, below, how, 0);
        let opened = opened.map_err(|error| failed(error.errno as i32))?;
        let stat = rustix::fs::fstat(&opened).map_err(|errno| failed(errno.raw_os_error()))?;
        let opened = HostCache::new(opened, (stat.st_dev, stat.st_ino));
        self.host_caches.insert(path.to_owned(), opened.clone());
        Ok(Some(opened))
    }

    /// Waits until a step may use it. The lock is a file of rbox's own: a program may lock the directory itself.
    pub(super) fn lock_host_cache(
        &mut self,
        mount: &Mount,
        cache: &HostCache,
        held: &mut BTreeMap<PathBuf, File>,
    ) -> Result<PathBuf, BuildError> {
        let all = self.engine.live_build_dir().join("host-caches");
        let (device, inode) = cache.identity;
        let lock = all.join(format!("{device:x}-{inode:x}"));
        if held.contains_key(&lock) {
            return Ok(cache.path());
        }
        own::make_private(&all).map_err(io_error("make directory", &all))?;
        let open = || {
            let file = own::open(&lock, File::options().write(true).create(true).truncate(false));
            file.map_err(io_error("open", &lock))
        };
        let is_shared = mount.sharing.unwrap_or_default() == Sharing::Shared;
        let how = if is_shared { How::Shared } else { How::Exclusive };
        let mut taken = lock_at(&lock, &open, how, None)?;
        if taken.is_none() {
            let line = format!("waiting for cache {}, which another build or stage uses", mount.source);
            self.tell(self.number, &line);
            taken = lock_at(&lock, &open, how, Some(STEP))?;
        }
        held.extend(taken.map(|file| (lock, file)));
        Ok(cache.path())
    }
}
