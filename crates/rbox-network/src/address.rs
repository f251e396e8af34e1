//! Address allocation that survives kills: one file an address, `<network>/addresses/172.30.0.2`, whose content is
//! the container's id.
//!
//! A file comes into its name by link(2) with the content already in it, so an address is free or owned, never
//! half taken, and no lock is needed to take one. It is only unlinked by who holds its flock and has seen that
//! the name still leads to it; so a reclaimer and an owner that releases cannot take away a third one's.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_sys::trace;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::subnet::Subnet;

/// How many owners an allocation that found an address taken looks at before it only walks on.
const LOOKED_AT: u32 = 4;

/// The addresses of one network.
pub(crate) struct Addresses {
    directory: PathBuf,
    fd: OwnedFd,
    hint: PathBuf,
    subnet: Subnet,
}

impl Addresses {
    /// Opens, and makes if needed, the directory below `state` (the network's live state).
    pub(crate) fn open(state: &Path, subnet: Subnet) -> Result<Self> {
        let directory = state.join("addresses");
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&directory, flags, Mode::empty());
        let fd = match open() {
            Err(Errno::NOENT) => {
                crate::store::make_private(&directory).map_err(|e| Error::file("create", &directory, e))?;
                open()
            }
            opened => opened,
        }
        .map_err(|e| Error::file("open", &directory, e))?;
        Ok(Self { hint: state.join("next"), directory, fd, subnet })
    }

    /// Takes a free address for `container`. `is_live` says of another container's id whether it can still
    /// use its address. `before`, an address of this subnet that it had, is taken if it is free.
    pub(crate) fn allocate(
        &self,
        network: &str,
        container: &str,
        before: Option<Ipv4Addr>,
        is_live: &dyn Fn(&str) -> bool,
    ) -> Result<Ipv4Addr> {
        let file = self.prepare(container)?;
        if let Some(ip) = before
            && self.link(&file, ip)?
        {
            return Ok(ip);
        }
        let count = self.subnet.hosts();
        let start = self.read_hint() % count.max(1);
        let mut looked = 0;
        // The second round looks at every owner: all addresses seem taken.
        for step in 0..count.saturating_mul(2) {
            let index = start.wrapping_add(step) % count.max(1);
            let ip = self.subnet.host(index);
            let mut taken = self.link(&file, ip)?;
            if !taken && (looked < LOOKED_AT || step >= count) {
                looked += 1;
                taken = self.reclaim(ip, is_live)? && self.link(&file, ip)?;
            }
            if taken {
                self.write_hint(index + 1);
                return Ok(ip);
            }
        }
        Err(Error::NoAddress { network: network.into(), subnet: self.subnet.to_string() })
    }

    /// Gives the address back if `container` has it.
    pub(crate) fn release(&self, ip: Ipv4Addr, container: &str) -> Result<()> {
        self.unlink_if(ip, |owner| owner == container).map(drop)
    }

    /// Frees what belongs to containers that are gone; the number freed.
    pub(crate) fn sweep(&self, is_live: &dyn Fn(&str) -> bool) -> Result<usize> {
        let mut freed = 0;
        for (ip, _) in self.owners()? {
            freed += usize::from(self.reclaim(ip, is_live)?);
        }
        Ok(freed)
    }

    /// Every address and its owner.
    pub(crate) fn owners(&self) -> Result<Vec<(Ipv4Addr, String)>> {
        let entries =
            std::fs::read_dir(&self.directory).map_err(|e| Error::file("read", &self.directory, e))?;
        let mut owners = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::file("read", &self.directory, e))?;
            let Some(ip) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match std::fs::read_to_string(entry.path()) {
                Ok(owner) => owners.push((ip, owner)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("read", entry.path(), error)),
            }
        }
        owners.sort_unstable();
        Ok(owners)
    }

    fn reclaim(&self, ip: Ipv4Addr, is_live: &dyn Fn(&str) -> bool) -> Result<bool> {
        self.unlink_if(ip, |owner| !is_live(owner))
    }

    /// A file without a name that holds the container's id.
    fn prepare(&self, container: &str) -> Result<File> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| Error::file("create a file in", &self.directory, e))?;
        let mut file = File::from(fd);
        file.write_all(container.as_bytes()).map_err(|e| Error::file("write", &self.directory, e))?;
        Ok(file)
    }

    /// Gives the file the address as its name; false when the name is taken.
    fn link(&self, file: &File, ip: Ipv4Addr) -> Result<bool> {
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        let to = ip.to_string();
        let told = || format!("{from}, {}", trace::quoted(self.directory.join(&to)));
        match trace::call("linkat", told, || {
            rustix::fs::linkat(CWD, &from, &self.fd, &to, AtFlags::SYMLINK_FOLLOW)
        }) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(Error::file("link", self.directory.join(&to), errno)),
        }
    }

    /// Unlinks the address's file if `condition` holds for its owner; whether it did.
    fn unlink_if(&self, ip: Ipv4Addr, condition: impl Fn(&str) -> bool) -> Result<bool> {
        let name = ip.to_string();
        let failed = |what, errno: Errno| Error::file(what, self.directory.join(&name), errno);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = match rustix::fs::openat(&self.fd, &name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            opened => opened.map_err(|errno| failed("open", errno))?,
        };
        let mut file = File::from(fd);
        let mut owner = String::new();
        file.read_to_string(&mut owner).map_err(|e| Error::file("read", self.directory.join(&name), e))?;
        if !condition(&owner) {
            return Ok(false);
        }
        rustix::fs::flock(file.as_fd(), FlockOperation::LockExclusive)
            .map_err(|errno| failed("lock", errno))?;
        let opened = rustix::fs::fstat(file.as_fd()).map_err(|errno| failed("stat", errno))?;
        match rustix::fs::statat(&self.fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) if named.st_ino == opened.st_ino && named.st_dev == opened.st_dev => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed("stat", errno)),
        }
        rustix::fs::unlinkat(&self.fd, &name, AtFlags::empty()).map_err(|errno| failed("unlink", errno))?;
        Ok(true)
    }

    /// Where to begin: after the last address given. Only a hint, so it is neither locked nor believed.
    fn read_hint(&self) -> u32 {
        let read = std::fs::read_to_string(&self.hint).ok();
        read.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    fn write_hint(&self, next: u32) {
        let written = std::fs::write(&self.hint, next.to_string());
        // Without the hint the next allocation walks from the start.
        drop(written);
    }
}
