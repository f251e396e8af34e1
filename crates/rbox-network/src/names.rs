//! The names that DNS knows on a network: `<network>/names/db/172.18.0.3`, and the other way round
//! `<network>/reverse/172.18.0.3/db`.
//!
//! Each is a further hard link of the address's own file, `<network>/addresses/172.18.0.3`, so it holds the container's
//! id from the moment it is there, and it is true exactly as long as the address's name leads to the same file: an
//! address that was given back, or to somebody else, takes its names along. What a killed process leaves is therefore
//! never believed, and no lock is needed to add a name or to look one up. As with addresses, a link is only taken away
//! by who holds its file's flock and has seen that the name still leads to it.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rbox_sys::lock::{self, How, Patience};
use rbox_sys::own;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// How often a directory is made again that others remove because it is empty.
const ATTEMPTS: u32 = 100;

/// A DNS name holds 253 characters as text (RFC 1035 and its errata).
const LONGEST: usize = 253;

/// `text` as DNS can ask for it: lower case, of letters, digits, `_`, `.` and `-`. None when it is no such name, which then
/// is never found.
pub fn dns_name(text: &str) -> Option<String> {
    let name = text.to_ascii_lowercase();
    is_name(&name).then_some(name)
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-');
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(plain)
        && name.split('.').all(|label| !label.is_empty())
}

/// The names of one network.
#[derive(Clone, Debug)]
pub struct NameStore {
    /// The network's live state, which has `addresses` in it.
    state: PathBuf,
}

impl NameStore {
    /// The names below `state`, the network's live state (`<state>/networks/<bridge>`). Nothing is made yet.
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self { state: state.into() }
    }

    /// Lets `names` lead to `ip`, an address that has been taken; the address itself leads back to the first of them. What
    /// is no name for DNS is passed over.
    pub fn admit(&self, ip: IpAddr, names: &[String]) -> Result<()> {
        let mut names = names.iter().filter_map(|name| dns_name(name)).peekable();
        if let Some(first) = names.peek() {
            self.link(ip, &self.reverse(ip), first)?;
        }
        names.try_for_each(|name| self.add(&name, ip))
    }

    /// Takes back what [`Self::admit`] did for `container`; before its address is given back. Goes on past failures and
    /// returns the first.
    pub fn dismiss(&self, ip: IpAddr, names: &[String], container: &str) -> Result<()> {
        let mut outcome = Ok(());
        for name in names.iter().filter_map(|name| dns_name(name)) {
            let ours = |_: &Stat, owner: &str| owner == container;
            let reverse = Self::unlink_if(&self.reverse(ip), &name, ours).map(drop);
            outcome = outcome.and(self.remove(&name, ip, container)).and(reverse);
        }
        outcome
    }

    /// Lets one more name lead to `ip`.
    pub fn add(&self, name: &str, ip: IpAddr) -> Result<()> {
        match dns_name(name) {
            Some(name) => self.link(ip, &self.directory(&name), &ip.to_string()),
            None => Err(Error::Invalid(format!(
                "{name:?} is no name for DNS: letters, digits, '_', '.' and '-' make one, 253 at most"
            ))),
        }
    }

    /// Takes the name from `ip` if `container` still has that.
    pub fn remove(&self, name: &str, ip: IpAddr, container: &str) -> Result<()> {
        let Some(name) = dns_name(name) else { return Ok(()) };
        let ours = |_: &Stat, owner: &str| owner == container;
        Self::unlink_if(&self.directory(&name), &ip.to_string(), ours).map(drop)
    }

    /// Every address of `name` with the id of the container that has it. `is_live` says of an id whether it can still use
    /// its address. What cannot be read is not found.
    pub fn lookup(&self, name: &str, is_live: &dyn Fn(&str) -> bool) -> Vec<(IpAddr, String)> {
        if !is_name(name) {
            return Vec::new();
        }
        let directory = self.directory(name);
        let mut found: Vec<_> = list(&directory)
            .filter_map(|entry| {
                let ip = entry.parse().ok()?;
                let owner = self.owner(ip, &directory.join(&entry))?;
                is_live(&owner).then_some((ip, owner))
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// The name that [`Self::admit`] was given first for `ip`.
    pub fn name_of(&self, ip: IpAddr, is_live: &dyn Fn(&str) -> bool) -> Option<String> {
        let directory = self.reverse(ip);
        let mut names = list(&directory).filter(|name| {
            is_name(name) && self.owner(ip, &directory.join(name)).is_some_and(|owner| is_live(&owner))
        });
        names.next()
    }

    /// Takes away what killed processes left; the number of links taken.
    pub fn sweep(&self, is_live: &dyn Fn(&str) -> bool) -> Result<usize> {
        let mut swept = 0;
        for (tree, by_name) in [("names", true), ("reverse", false)] {
            let tree = self.state.join(tree);
            for first in list(&tree) {
                let directory = tree.join(&first);
                for second in list(&directory) {
                    let ip: Option<IpAddr> = if by_name { &second } else { &first }.parse().ok();
                    let stale = |entry: &Stat, owner: &str| {
                        !is_live(owner) || ip.and_then(|ip| self.current(ip)).is_none_or(|s| !same(&s, entry))
                    };
                    swept += usize::from(Self::unlink_if(&directory, &second, stale)?);
                }
                // A directory that a killed process made and did not use.
                let _ = rustix::fs::rmdir(&directory);
            }
        }
        Ok(swept)
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.state.join("names").join(name)
    }

    fn reverse(&self, ip: IpAddr) -> PathBuf {
        self.state.join("reverse").join(ip.to_string())
    }

    fn address(&self, ip: IpAddr) -> PathBuf {
        self.state.join("addresses").join(ip.to_string())
    }

    /// The file that the address leads to now.
    fn current(&self, ip: IpAddr) -> Option<Stat> {
        rustix::fs::lstat(self.address(ip)).ok()
    }

    /// Whose address `ip` is, when `entry` is a link of the same file.
    fn owner(&self, ip: IpAddr, entry: &Path) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::open(entry, flags, Mode::empty()).ok()?);
        let entry = rustix::fs::fstat(&file).ok()?;
        same(&self.current(ip)?, &entry).then(|| read_id(file).ok()).flatten()
    }

    /// Links the file of `ip` to `directory/entry`, in the place of what a former owner left there.
    fn link(&self, ip: IpAddr, directory: &Path, entry: &str) -> Result<()> {
        let (from, to) = (self.address(ip), directory.join(entry));
        for _ in 0..ATTEMPTS {
            match rustix::fs::linkat(CWD, &from, CWD, &to, AtFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => {
                    let ours = self.current(ip).ok_or_else(|| Error::file("stat", &from, Errno::NOENT))?;
                    if rustix::fs::lstat(&to).is_ok_and(|there| same(&there, &ours)) {
                        return Ok(());
                    }
                    Self::unlink_if(directory, entry, |there, _| !same(there, &ours))?;
                }
                Err(Errno::NOENT) if self.current(ip).is_some() => {
                    own::make_private(directory).map_err(|e| Error::file("create", directory, e))?;
                }
                Err(errno) => return Err(Error::file("link", to, errno)),
            }
        }
        Err(Error::file("link", to, Errno::NOENT))
    }

    /// Unlinks `directory/entry` if `condition` holds for the file and for its owner; whether it did. The directory
    /// goes with its last entry.
    fn unlink_if(directory: &Path, entry: &str, condition: impl Fn(&Stat, &str) -> bool) -> Result<bool> {
        let path = directory.join(entry);
        let failed = |what, errno: Errno| Error::file(what, &path, errno);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            opened => File::from(opened.map_err(|errno| failed("open", errno))?),
        };
        lock::take(&file, How::Exclusive, Patience::MOMENT).map_err(|e| Error::file("lock", &path, e))?;
        let opened = rustix::fs::fstat(&file).map_err(|errno| failed("stat", errno))?;
        match rustix::fs::lstat(&path) {
            Ok(named) if same(&named, &opened) => {}
            Ok(_) | Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed("stat", errno)),
        }
        let owner = read_id(file.try_clone().map_err(|e| Error::file("read", &path, e))?)
            .map_err(|e| Error::file("read", &path, e))?;
        if !condition(&opened, &owner) {
            return Ok(false);
        }
        rustix::fs::unlink(&path).map_err(|errno| failed("unlink", errno))?;
        // Others may have a name in it, or be about to: then it stays, or they make it again.
        let _ = rustix::fs::rmdir(directory);
        Ok(true)
    }
}

/// The names in a directory; none when it is not there.
fn list(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

fn same(one: &Stat, other: &Stat) -> bool {
    one.st_ino == other.st_ino && one.st_dev == other.st_dev
}

fn read_id(file: File) -> std::io::Result<String> {
    let mut id = String::with_capacity(64);
    file.take(256).read_to_string(&mut id)?;
    Ok(id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// A network's live state with addresses taken.
    struct State(tempfile::TempDir);

    impl State {
        fn new() -> Self {
            let state = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(state.0.path().join("addresses")).unwrap();
            state
        }

        fn names(&self) -> NameStore {
            NameStore::new(self.0.path())
        }

        fn take(&self, ip: &str, owner: &str) -> IpAddr {
            let path = self.0.path().join("addresses").join(ip);
            let _ = std::fs::remove_file(&path);
            std::fs::write(path, owner).unwrap();
            ip.parse().unwrap()
        }

        fn release(&self, ip: IpAddr) {
            std::fs::remove_file(self.0.path().join("addresses").join(ip.to_string())).unwrap();
        }

        /// What is below the network's directory beside the addresses.
        fn left(&self) -> usize {
            ["names", "reverse"].iter().map(|tree| list(&self.0.path().join(tree)).count()).sum()
        }
    }

    fn found(names: &NameStore, name: &str) -> Vec<String> {
        names.lookup(name, &|_| true).into_iter().map(|(ip, owner)| format!("{ip} {owner}")).collect()
    }

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_lead_to_addresses_and_back() {
        let state = State::new();
        let names = state.names();
        let one = state.take("172.18.0.2", "one");
        let six = state.take("2001:db8::2", "one");
        let two = state.take("172.18.0.3", "two");
        for ip in [one, six] {
            names.admit(ip, &texts(&["First", "web", "no name", "../x", ""])).unwrap();
        }
        names.admit(two, &texts(&["second", "web"])).unwrap();
        assert_eq!(found(&names, "first"), ["172.18.0.2 one", "2001:db8::2 one"]);
        assert_eq!(found(&names, "web"), ["172.18.0.2 one", "172.18.0.3 two", "2001:db8::2 one"]);
        assert_eq!(names.name_of(one, &|_| true).as_deref(), Some("first"));
        assert_eq!(names.name_of(six, &|_| true).as_deref(), Some("first"));
        assert_eq!(names.name_of("172.18.0.9".parse().unwrap(), &|_| true), None);

        // A second time changes nothing, and another container takes nothing away.
        names.admit(one, &texts(&["first", "web"])).unwrap();
        names.dismiss(one, &texts(&["first", "web"]), "two").unwrap();
        assert_eq!(found(&names, "web").len(), 3);
        assert_eq!(names.lookup("web", &|owner| owner == "two").len(), 1, "only who lives");
        assert_eq!(names.name_of(one, &|owner| owner == "two"), None);

        names.dismiss(one, &texts(&["First", "web", "never"]), "one").unwrap();
        names.dismiss(six, &texts(&["First", "web"]), "one").unwrap();
        assert_eq!(found(&names, "web"), ["172.18.0.3 two"]);
        assert!(found(&names, "first").is_empty());
        assert_eq!(names.name_of(one, &|_| true), None);
        names.dismiss(two, &texts(&["second", "web"]), "two").unwrap();
        assert_eq!(state.left(), 0, "directories go with their last name");
    }

    #[test]
    fn a_name_is_true_as_long_as_the_address_is() {
        let state = State::new();
        let names = state.names();
        let ip = state.take("172.18.0.2", "one");
        names.admit(ip, &texts(&["db"])).unwrap();
        state.release(ip);
        assert!(found(&names, "db").is_empty(), "the address was given back");
        assert_eq!(names.name_of(ip, &|_| true), None);
        // The same container at the same address again, by another name.
        state.take("172.18.0.2", "one");
        assert!(found(&names, "db").is_empty());
        state.take("172.18.0.2", "two");
        assert!(found(&names, "db").is_empty(), "somebody else has the address");
        names.add("db", ip).unwrap();
        assert_eq!(found(&names, "db"), ["172.18.0.2 two"], "what was left there is replaced");
        assert_eq!(names.name_of(ip, &|_| true), None, "not by a name of the one before");
    }

    #[test]
    fn what_is_no_name_is_not_found() {
        let state = State::new();
        let names = state.names();
        let ip = state.take("172.18.0.2", "one");
        std::fs::write(state.0.path().join("secret"), "x").unwrap();
        // So that there is a directory from which a path could lead elsewhere.
        names.add("there", ip).unwrap();
        let long = "a".repeat(254);
        for bad in ["", ".", "..", "a..b", ".a", "a.", "../addresses", "a/b", "a b", "A", "ü", "a\0b", &long]
        {
            assert!(found(&names, bad).is_empty(), "{bad:?}");
            if bad != "A" {
                assert_eq!(dns_name(bad), None, "{bad:?}");
                assert!(names.add(bad, ip).is_err(), "{bad:?}");
                names.remove(bad, ip, "one").unwrap();
            }
        }
        names.remove("there", ip, "one").unwrap();
        assert_eq!(state.left(), 0);
        let longest = &long[..253];
        names.add(longest, ip).unwrap();
        assert_eq!(found(&names, longest).len(), 1);
        let error = names.add("db", "172.18.0.77".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("names/db/172.18.0.77"), "{error}");
    }

    #[test]
    fn what_killed_processes_left_is_swept() {
        let state = State::new();
        let names = state.names();
        let gone = state.take("172.18.0.2", "gone");
        let dead = state.take("172.18.0.3", "dead");
        let alive = state.take("172.18.0.4", "alive");
        for (ip, name) in [(gone, "a"), (dead, "b"), (alive, "c")] {
            names.admit(ip, &texts(&[name, "all"])).unwrap();
        }
        state.release(gone);
        std::fs::create_dir(state.0.path().join("names/empty")).unwrap();
        let is_live = |owner: &str| owner == "alive" || owner == "gone";
        assert_eq!(names.sweep(&is_live).unwrap(), 6);
        assert_eq!(found(&names, "all"), ["172.18.0.4 alive"]);
        assert_eq!(state.left(), 3, "c, all, and the address");
        assert_eq!(names.sweep(&is_live).unwrap(), 0);
    }

    /// Pairs come and go, each pair under one name: its directory is made and removed all the time.
    #[test]
    fn names_come_and_go_at_once() {
        let state = State::new();
        let names = &state.names();
        std::thread::scope(|scope| {
            for n in 2..10 {
                let (owner, shared) = (format!("c{n}"), format!("shared{}", n / 2));
                let ip = state.take(&format!("172.18.0.{n}"), &owner);
                scope.spawn(move || {
                    for _ in 0..600 {
                        names.admit(ip, &texts(&[&shared])).unwrap();
                        let mine = names.lookup(&shared, &|id| id == owner);
                        assert_eq!(mine, [(ip, owner.clone())]);
                        assert_eq!(names.name_of(ip, &|_| true), Some(shared.clone()));
                        names.dismiss(ip, &texts(&[&shared]), &owner).unwrap();
                    }
                });
            }
            scope.spawn(|| (0..100).map(|_| names.sweep(&|_| true).unwrap()).sum::<usize>());
        });
        assert_eq!(state.left(), 0);
    }
}
