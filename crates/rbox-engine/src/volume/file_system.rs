//! What a volume with options is: a file system that is mounted on its directory while containers use it.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use rbox_spec::Kind;
use rbox_sys::SysError;
use rbox_sys::error::reason;
use rbox_sys::mount::{Attr, Param, clone_tree, new_mount, set_attributes};
use rustix::mount::MountPropagationFlags as Propagation;

/// A mount that could not be made; it reads as Docker's does.
#[derive(Debug, thiserror::Error)]
#[error(
    "error while mounting volume '{on}': failed to mount local volume: mount {device}:{on}{flags}{data}: {why}"
)]
pub struct MountError {
    on: String,
    device: String,
    flags: String,
    data: String,
    why: String,
    /// The kernel's number for it.
    errno: i32,
}

impl MountError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        Kind::of_errno(self.errno)
    }
}

/// The kernel's number of a bind in what Docker shows of a mount (mount(2), `MS_BIND`, `MS_REC`).
const MS_BIND: u64 = 0x1000;
const MS_REC: u64 = 0x4000;

/// What `o` asks for, taken apart as mount(8) does.
#[derive(Debug, Default, PartialEq)]
struct Asked<'a> {
    set: Vec<Attr>,
    propagation: Option<(Propagation, bool)>,
    /// A tree of the host, with all below it or without.
    bind: Option<bool>,
    /// Words for the file system itself.
    data: Vec<&'a str>,
    /// The same as mount(2) has them, for messages.
    flags: u64,
}

/// A word, what mount(2) calls it, the mount's attribute, and whether the file system itself has it too.
const WORDS: [(&str, u64, Attr, bool); 9] = [
    ("ro", 0x1, Attr::MOUNT_ATTR_RDONLY, true),
    ("nosuid", 0x2, Attr::MOUNT_ATTR_NOSUID, false),
    ("nodev", 0x4, Attr::MOUNT_ATTR_NODEV, false),
    ("noexec", 0x8, Attr::MOUNT_ATTR_NOEXEC, false),
    ("sync", 0x10, Attr::empty(), true),
    ("dirsync", 0x80, Attr::empty(), true),
    ("noatime", 0x400, Attr::MOUNT_ATTR_NOATIME, false),
    ("nodiratime", 0x800, Attr::MOUNT_ATTR_NODIRATIME, false),
    ("strictatime", 0x0100_0000, Attr::MOUNT_ATTR_STRICTATIME, false),
];
/// Words that say what is so without them.
const PLAIN: [&str; 10] =
    ["rw", "defaults", "suid", "dev", "exec", "async", "atime", "diratime", "relatime", "nostrictatime"];
const PROPAGATION: [(&str, Propagation, bool); 8] = [
    ("private", Propagation::PRIVATE, false),
    ("rprivate", Propagation::PRIVATE, true),
    ("shared", Propagation::SHARED, false),
    ("rshared", Propagation::SHARED, true),
    ("slave", Propagation::DOWNSTREAM, false),
    ("rslave", Propagation::DOWNSTREAM, true),
    ("unbindable", Propagation::UNBINDABLE, false),
    ("runbindable", Propagation::UNBINDABLE, true),
];

impl<'a> Asked<'a> {
    fn read(text: &'a str) -> Self {
        let mut asked = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if let Some((_, flag, attr, of_file_system)) = WORDS.iter().find(|(known, ..)| *known == word) {
                asked.flags |= flag;
                asked.set.push(*attr);
                if *of_file_system {
                    asked.data.push(word);
                }
            } else if let Some((_, kind, all)) = PROPAGATION.iter().find(|(known, ..)| *known == word) {
                asked.propagation = Some((*kind, *all));
            } else if matches!(word, "bind" | "rbind") {
                asked.bind = Some(word == "rbind");
                asked.flags |= if word == "rbind" { MS_BIND | MS_REC } else { MS_BIND };
            } else if !PLAIN.contains(&word) {
                asked.data.push(word);
            }
        }
        asked
    }

    fn attributes(&self) -> Attr {
        self.set.iter().fold(Attr::empty(), |all, one| all | *one)
    }
}

/// Makes the mount that a volume's options ask for. Nothing is attached yet. `on` is where it will be, for messages.
pub(crate) fn make(options: &BTreeMap<String, String>, on: &Path) -> Result<OwnedFd, MountError> {
    let of = |key: &str| options.get(key).map_or("", String::as_str);
    let (kind, device, words) = (of("type"), of("device"), of("o"));
    let asked = Asked::read(words);
    let failed = |why: String, errno: i32| MountError {
        on: on.display().to_string(),
        device: device.to_owned(),
        flags: if asked.flags == 0 { String::new() } else { format!(", flags: {:#x}", asked.flags) },
        data: shown_data(&asked),
        why,
        errno,
    };
    let of_call = |error: SysError| failed(why(&error), error.errno as i32);
    if device.is_empty() {
        return Err(failed("missing device in volume options".to_owned(), Errno::EINVAL as i32));
    }
    let mount = if let Some(all_below) = asked.bind {
        let source = Path::new("/").join(device);
        let tree = clone_tree(rustix::fs::CWD, &source, all_below).map_err(of_call)?;
        set_attributes(&tree, asked.attributes(), Attr::empty(), Propagation::PRIVATE, all_below)
            .map_err(of_call)?;
        tree
    } else {
        let unresolved = |why| failed(format!("error resolving passed in network volume address: {why}"), 0);
        let (device, words) = resolve(kind, device, &asked.data).map_err(unresolved)?;
        let params = words.iter().map(|word| match word.split_once('=') {
            Some((key, value)) => Param::Text(key, value),
            None => Param::Flag(word),
        });
        let params: Vec<Param<'_>> = std::iter::once(Param::Text("source", &device)).chain(params).collect();
        new_mount(kind, &params, asked.attributes()).map_err(of_call)?
    };
    if let Some((kind, all_below)) = asked.propagation {
        set_attributes(&mount, Attr::empty(), Attr::empty(), kind, all_below).map_err(of_call)?;
    }
    Ok(mount)
}

/// Why the kernel refused, with its own explanation when it gave one.
fn why(error: &SysError) -> String {
    let words = match error.errno {
        Errno::ENOTBLK => "block device required".to_owned(),
        errno => reason(errno),
    };
    let log = error.args.find('[').and_then(|at| error.args[at + 1..].strip_suffix(']'));
    match log {
        Some(log) => format!("{words} ({log})"),
        None => words,
    }
}

/// What is for the file system, in a message: a password is not shown.
fn shown_data(asked: &Asked<'_>) -> String {
    let plain = |word: &&&str| WORDS.iter().all(|(known, ..)| known != *word);
    let words: Vec<String> = asked.data.iter().filter(plain).map(|word| hide_secret(word)).collect();
    if words.is_empty() || asked.bind.is_some() {
        String::new()
    } else {
        format!(", data: {}", words.join(","))
    }
}

fn hide_secret(word: &str) -> String {
    match word.split_once('=') {
        Some((key, _)) if rbox_sys::mount::is_secret(key) => format!("{key}=********"),
        _ => word.to_owned(),
    }
}

/// The kernel takes addresses only: the name of a server, in `addr=` or in the share of CIFS, becomes one.
fn resolve(kind: &str, device: &str, words: &[&str]) -> Result<(String, Vec<String>), String> {
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    // mount(2) takes it for granted, fsopen(2) does not.
    if kind == "nfs4" && !words.iter().any(|word| is_version(word)) {
        words.insert(0, "vers=4".to_owned());
    }
    if !matches!(kind, "nfs" | "nfs4" | "cifs") {
        return Ok((device.to_owned(), words));
    }
    if let Some(address) = words.iter_mut().find(|word| word.starts_with("addr=")) {
        let name = address["addr=".len()..].to_owned();
        *address = format!("addr={}", address_of(&name)?);
        return Ok((device.to_owned(), words));
    }
    let share = device.strip_prefix("//").filter(|_| kind == "cifs");
    let Some((host, rest)) = share.and_then(|share| share.split_once('/')) else {
        return Ok((device.to_owned(), words));
    };
    Ok((format!("//{}/{rest}", address_of(host)?), words))
}

/// Whether a word of NFS asks for a version of it: `vers=4.2`, `nfsvers=4`, `v4.1`.
fn is_version(word: &str) -> bool {
    let number = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
    word.starts_with("vers=") || word.starts_with("nfsvers=") || word.strip_prefix('v').is_some_and(number)
}

/// The first address of a server, one of IPv4 if there is any, as Docker chooses it.
fn address_of(name: &str) -> Result<IpAddr, String> {
    if let Ok(address) = name.parse() {
        return Ok(address);
    }
    let found: Vec<IpAddr> =
        (name, 0).to_socket_addrs().map_err(rbox_sys::plain)?.map(|at| at.ip()).collect();
    let preferred = found.iter().find(|address| address.is_ipv4()).or(found.first());
    preferred.copied().ok_or_else(|| format!("lookup {name}: no such host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_mount_reads_them() {
        let asked = Asked::read("size=100m,ro,,uid=5,noexec,rw,defaults,huge=never,sync,rshared");
        assert_eq!(asked.attributes(), Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOEXEC);
        assert_eq!(asked.data, ["size=100m", "ro", "uid=5", "huge=never", "sync"]);
        assert_eq!(asked.propagation, Some((Propagation::SHARED, true)));
        assert_eq!((asked.bind, asked.flags), (None, 0x19));
        let bind = Asked::read("rbind,nosuid");
        assert_eq!((bind.bind, bind.flags), (Some(true), 0x5002));
        assert_eq!(Asked::read(""), Asked::default());
    }

    #[test]
    fn passwords_are_not_shown() {
        let asked = Asked::read("username=a,password=geheim,pass=x,vers=3.0");
        let shown = shown_data(&asked);
        assert_eq!(shown, ", data: username=a,password=********,pass=********,vers=3.0");
    }

    #[test]
    fn servers_get_addresses() {
        let resolved = |kind, device, words: &[&str]| resolve(kind, device, words);
        let words = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let kept = Ok((":/x".to_owned(), words(&["addr=192.0.2.7", "ro"])));
        assert_eq!(resolved("nfs", ":/x", &["addr=192.0.2.7", "ro"]), kept);
        let newer = Ok((":/x".to_owned(), words(&["vers=4", "addr=192.0.2.7"])));
        assert_eq!(resolved("nfs4", ":/x", &["addr=192.0.2.7"]), newer);
        for version in ["vers=4.1", "nfsvers=4", "v4.2"] {
            let kept = Ok((":/x".to_owned(), words(&[version])));
            assert_eq!(resolved("nfs4", ":/x", &[version]), kept);
        }
        let named = Ok((":/x".to_owned(), words(&["addr=127.0.0.1"])));
        assert_eq!(resolved("nfs", ":/x", &["addr=localhost"]), named);
        assert_eq!(resolved("cifs", "//192.0.2.7/share", &[]), Ok(("//192.0.2.7/share".to_owned(), vec![])));
        assert_eq!(resolved("tmpfs", "tmpfs", &["addr=x"]), Ok(("tmpfs".to_owned(), words(&["addr=x"]))));
    }
}
