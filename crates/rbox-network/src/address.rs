//! Address allocation that survives kills: one file an address, `<network>/addresses/172.30.0.2`, whose content is
//! the container's id.
//!
//! A file comes into its name by link(2) with the content already in it, so an address is free or owned, never
//! half taken, and no lock is needed to take one. It is only unlinked by who holds its flock and has seen that
//! the name still leads to it; so a reclaimer and an owner that releases cannot take away a third one's.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rbox_sys::lock::{self, How, Patience};
use rbox_sys::own;
use rbox_sys::trace;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::subnet::{Subnet, Subnet6};

/// The addresses that containers of a network can be given.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    first: u128,
    count: u32,
    /// The bridge's own, wherever in the range it is.
    gateway: u128,
    /// Those that somebody else on the link has.
    taken: Vec<u128>,
    six: bool,
}

impl Pool {
    /// Those of `subnet`, or of the part `range` of it, but its base, its broadcast address and the gateway.
    pub(crate) fn v4(subnet: Subnet, range: Option<Subnet>, gateway: Ipv4Addr) -> Self {
        let part = range.unwrap_or(subnet);
        let first = u32::from(part.base()).max(u32::from(subnet.base()).saturating_add(1));
        let last = u32::from(part.broadcast()).min(u32::from(subnet.broadcast()).saturating_sub(1));
        Self {
            first: first.into(),
            count: (u64::from(last) + 1).saturating_sub(u64::from(first)).try_into().unwrap_or(u32::MAX),
            gateway: u32::from(gateway).into(),
            taken: Vec::new(),
            six: false,
        }
    }

    /// The first two thousand million and more of `subnet` but its base, which means any router there, and the gateway.
    pub(crate) fn v6(subnet: Subnet6, gateway: Ipv6Addr) -> Self {
        let (first, last) = (u128::from(subnet.base()).saturating_add(1), u128::from(subnet.last()));
        let count = last.saturating_sub(first).saturating_add(1);
        let count = count.min(u128::from(u32::MAX)) as u32;
        Self { first, count, gateway: u128::from(gateway), taken: Vec::new(), six: true }
    }

    /// The same but for these.
    pub(crate) fn without<'a>(mut self, taken: impl Iterator<Item = &'a IpAddr>) -> Self {
        self.taken = taken
            .filter(|ip| ip.is_ipv6() == self.six)
            .map(|ip| match ip {
                IpAddr::V4(ip) => u32::from(*ip).into(),
                IpAddr::V6(ip) => u128::from(*ip),
            })
            .collect();
        self
    }

    /// The address number `index`, counted from 0; none for the place of the gateway or of somebody else.
    fn address(&self, index: u32) -> Option<IpAddr> {
        let number = self.first.saturating_add(u128::from(index));
        (number != self.gateway && !self.taken.contains(&number)).then(|| match u32::try_from(number) {
            Ok(number) if !self.six => IpAddr::V4(number.into()),
            _ => IpAddr::V6(number.into()),
        })
    }
}

/// How many owners an allocation that found an address taken looks at before it only walks on.
const LOOKED_AT: u32 = 4;

/// The addresses of one network.
pub(crate) struct Addresses {
    directory: PathBuf,
    fd: OwnedFd,
    state: PathBuf,
}

impl Addresses {
    /// Opens, and makes if needed, the directory below `state` (the network's live state).
    pub(crate) fn open(state: &Path) -> Result<Self> {
        let directory = state.join("addresses");
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let open = || rustix::fs::open(&directory, flags, Mode::empty());
        let fd = match open() {
            Err(Errno::NOENT) => {
                own::make_private(&directory).map_err(|e| Error::file("create", &directory, e))?;
                open()
            }
            opened => opened,
        }
        .map_err(|e| Error::file("open", &directory, e))?;
        Ok(Self { state: state.to_owned(), directory, fd })
    }

    /// Keeps the network from being removed while it is held. Not waited for but while one is being removed.
    pub(crate) fn hold(&self) -> Result<()> {
        self.flock(How::Shared)
    }

    /// Waits for all who hold it and keeps others from it.
    pub(crate) fn hold_alone(&self) -> Result<()> {
        self.flock(How::Exclusive)
    }

    fn flock(&self, how: How) -> Result<()> {
        lock::take(&self.fd, how, Patience::MOMENT).map_err(|e| Error::file("lock", &self.directory, e))
    }

    /// Takes a free address of `pool` for `container`. `is_live` says of another container's id whether it can still
    /// use its address. `before`, an address that it had, is taken if it is free. None when all are taken.
    pub(crate) fn allocate(
        &self,
        pool: &Pool,
        container: &str,
        before: Option<IpAddr>,
        is_live: &dyn Fn(&str) -> bool,
    ) -> Result<Option<IpAddr>> {
        let file = self.prepare(container)?;
        if let Some(ip) = before
            && self.link(&file, ip)?
        {
            return Ok(Some(ip));
        }
        let count = pool.count;
        let start = self.read_hint(pool) % count.max(1);
        let mut looked = 0;
        // The second round looks at every owner: all addresses seem taken.
        for step in 0..u64::from(count) * 2 {
            let index = ((u64::from(start) + step) % u64::from(count)) as u32;
            let Some(ip) = pool.address(index) else { continue };
            let mut taken = self.link(&file, ip)?;
            if !taken && (looked < LOOKED_AT || step >= u64::from(count)) {
                looked += 1;
                taken = self.reclaim(ip, is_live)? && self.link(&file, ip)?;
            }
            if taken {
                self.write_hint(pool, index.wrapping_add(1));
                return Ok(Some(ip));
            }
        }
        Ok(None)
    }

    /// Takes this address for `container`; the id of its owner when another container has it.
    pub(crate) fn take(
        &self,
        ip: IpAddr,
        container: &str,
        is_live: &dyn Fn(&str) -> bool,
    ) -> Result<Result<(), String>> {
        let file = self.prepare(container)?;
        // A second round for one that is given back, or taken, just now.
        for _ in 0..2 {
            if self.link(&file, ip)? || (self.reclaim(ip, is_live)? && self.link(&file, ip)?) {
                return Ok(Ok(()));
            }
        }
        let owner = own::read_text(&self.directory.join(ip.to_string())).unwrap_or_default();
        Ok(Err(owner))
    }

    /// Gives the address back if `container` has it.
    pub(crate) fn release(&self, ip: IpAddr, container: &str) -> Result<()> {
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
    pub(crate) fn owners(&self) -> Result<Vec<(IpAddr, String)>> {
        let entries =
            std::fs::read_dir(&self.directory).map_err(|e| Error::file("read", &self.directory, e))?;
        let mut owners = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::file("read", &self.directory, e))?;
            let Some(ip) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            match own::read_text(&entry.path()) {
                Ok(owner) => owners.push((ip, owner)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("read", entry.path(), error)),
            }
        }
        owners.sort_unstable();
        Ok(owners)
    }

    fn reclaim(&self, ip: IpAddr, is_live: &dyn Fn(&str) -> bool) -> Result<bool> {
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
    fn link(&self, file: &File, ip: IpAddr) -> Result<bool> {
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
    fn unlink_if(&self, ip: IpAddr, condition: impl Fn(&str) -> bool) -> Result<bool> {
        let name = ip.to_string();
        let failed = |what, errno: Errno| Error::file(what, self.directory.join(&name), errno);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
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
        lock::take(&file, How::Exclusive, Patience::MOMENT)
            .map_err(|e| Error::file("lock", self.directory.join(&name), e))?;
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
    fn read_hint(&self, pool: &Pool) -> u32 {
        let read = own::read_text(&self.hint(pool)).ok();
        read.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    fn write_hint(&self, pool: &Pool, next: u32) {
        let written = own::write(&self.hint(pool), next.to_string());
        // Without the hint the next allocation walks from the start.
        drop(written);
    }

    fn hint(&self, pool: &Pool) -> PathBuf {
        self.state.join(if pool.six { "next6" } else { "next" })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn all(pool: &Pool) -> Vec<String> {
        (0..pool.count).filter_map(|index| pool.address(index)).map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn what_a_pool_holds() {
        let subnet: Subnet = "10.1.2.0/29".parse().unwrap();
        let inside = ["10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5", "10.1.2.6"];
        assert_eq!(all(&Pool::v4(subnet, None, subnet.gateway())), inside);
        let last = "10.1.2.6".parse().unwrap();
        assert_eq!(
            all(&Pool::v4(subnet, None, last)),
            ["10.1.2.1", "10.1.2.2", "10.1.2.3", "10.1.2.4", "10.1.2.5"]
        );
        let upper = Some("10.1.2.4/30".parse().unwrap());
        assert_eq!(all(&Pool::v4(subnet, upper, subnet.gateway())), ["10.1.2.4", "10.1.2.5", "10.1.2.6"]);
        let lower = Some("10.1.2.0/30".parse().unwrap());
        assert_eq!(all(&Pool::v4(subnet, lower, subnet.gateway())), ["10.1.2.2", "10.1.2.3"]);
        let point: Subnet = "10.1.2.0/31".parse().unwrap();
        assert!(all(&Pool::v4(point, None, point.gateway())).is_empty());
        let others = ["10.1.2.2".parse().unwrap(), "fd00::1".parse().unwrap()];
        let without = Pool::v4(subnet, lower, subnet.gateway()).without(others.iter());
        assert_eq!(all(&without), ["10.1.2.3"]);
        let six: Subnet6 = "fd00::/126".parse().unwrap();
        assert_eq!(all(&Pool::v6(six, six.gateway())), ["fd00::2", "fd00::3"]);
        let low: Subnet6 = "::172.18.0.0/126".parse().unwrap();
        assert_eq!(all(&Pool::v6(low, low.gateway())), ["::ac12:2", "::ac12:3"], "no IPv4 addresses");
        let wide: Subnet6 = "fd00::/64".parse().unwrap();
        assert_eq!(Pool::v6(wide, wide.gateway()).count, u32::MAX);
    }
}
