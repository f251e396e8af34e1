//! What the child will need, made ready by the parent: descriptors instead of paths.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, Mount};
use rbox_namespace::NamespaceSet;
use rbox_namespace::idmap::user_namespace;
use rbox_spec::idmap::{IdMap, IdRange};
use rbox_spec::userns::IdMaps;
use rbox_sys::SysError;
use rbox_sys::file::open_in_root;
use rbox_sys::mount::{Attr, Param, clone_tree, set_attributes, set_id_map};
use rustix::fs::OFlags;
use rustix::mount::MountPropagationFlags;

use crate::copies::{COPY, FileCopy};
use crate::credentials::StepError;
use crate::error::RuntimeError;
use crate::owner;

/// A mount of the config with its source made ready.
#[derive(Debug)]
pub struct PreparedMount {
    /// Where it goes inside the container.
    pub target: PathBuf,
    /// What goes there.
    pub source: Source,
}

/// What is mounted.
#[derive(Debug)]
pub enum Source {
    /// A file system that the child makes, because it shows the namespaces of the one who makes it.
    Fresh {
        /// `proc`, `tmpfs`, …
        kind: &'static str,
        /// Its parameters; a bare flag has an empty value.
        params: Vec<(String, String)>,
        /// Its attributes.
        attr: Attr,
    },
    /// A detached copy of a tree of the host.
    Tree {
        /// The copy.
        tree: OwnedFd,
        /// How to make it.
        bind: Bind,
    },
    /// A copy of a file, which the child makes in memory of its own.
    Copy(FileCopy),
    /// A mount that the caller has made.
    Given(OwnedFd),
    /// A /dev with its nodes, for a container that cannot make them.
    Dev(OwnedFd),
    /// A file system with a null device, for one that has neither.
    Spare(OwnedFd),
    /// The v1 controllers' groups of this container, each with the names of its controllers, below a tmpfs.
    CgroupsV1(Vec<(String, PathBuf)>),
}

/// An option of a bind that the OCI specification does not have, with the path below the source that is mounted.
pub const SUBPATH: &str = "subpath=";

/// Another one, with the user and the group of the container's programs and the map: `idmap=0:0:owner`.
pub const IDMAP: &str = "idmap=";

const KINDS: [&str; 7] = ["proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup2", "cgroup"];

/// Opens the sources of all mounts. `cgroups_v1` stand in for a `cgroup` mount on hosts without a v2 tree, `given` for what
/// is bound where they go. `maps`: the ids of the container's own user namespace.
pub(crate) fn prepare(
    mounts: &[Mount],
    cgroups_v1: Option<&[(String, PathBuf)]>,
    given: &[(PathBuf, BorrowedFd<'_>)],
    maps: Option<&IdMaps>,
) -> Result<Vec<PreparedMount>, RuntimeError> {
    mounts
        .iter()
        .map(|mount| {
            let given = given.iter().find(|(target, _)| target == mount.destination());
            let source = match (mount.typ().as_deref(), given) {
                (Some("bind"), Some((_, tree))) => Source::Given(
                    tree.try_clone_to_owned()
                        .map_err(|e| SysError::new("dup", rbox_sys::trace::fd(tree), e))?,
                ),
                (kind, _) => match kind {
                    Some("bind") => bind(mount, maps)?,
                    Some(COPY) => Source::Copy(FileCopy::of(mount)?),
                    Some("cgroup") if cgroups_v1.is_some() => {
                        Source::CgroupsV1(cgroups_v1.unwrap_or_default().to_vec())
                    }
                    Some("cgroup") => fresh("cgroup2", mount),
                    Some(kind) => match KINDS.iter().find(|k| **k == kind) {
                        Some(kind) => fresh(kind, mount),
                        None => {
                            return Err(RuntimeError::Config(format!("mount type {kind} is not supported")));
                        }
                    },
                    None if has_option(mount, "bind") || has_option(mount, "rbind") => bind(mount, maps)?,
                    None => {
                        return Err(RuntimeError::Config(format!(
                            "mount on {} has no type",
                            mount.destination().display()
                        )));
                    }
                },
            };
            Ok(PreparedMount { target: mount.destination().clone(), source })
        })
        .collect()
}

fn has_option(mount: &Mount, name: &str) -> bool {
    mount.options().iter().flatten().any(|o| o == name)
}

fn fresh(kind: &'static str, mount: &Mount) -> Source {
    let mut attr = Attr::empty();
    let mut params = Vec::new();
    for option in mount.options().iter().flatten() {
        if let Some(flag) = attribute(option) {
            attr |= flag;
        } else if !IGNORED.contains(&option.as_str()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            params.push((key.to_owned(), value.to_owned()));
        }
    }
    Source::Fresh { kind, params, attr }
}

/// Options that say what is so without them, or are carried out elsewhere.
const IGNORED: [&str; 14] = [
    "rw", "exec", "suid", "dev", "bind", "rbind", "private", "rprivate", "defaults", "async", "relatime",
    "diratime", "sync", "atime",
];

fn attribute(option: &str) -> Option<Attr> {
    Some(match option {
        "ro" => Attr::MOUNT_ATTR_RDONLY,
        "nosuid" => Attr::MOUNT_ATTR_NOSUID,
        "nodev" => Attr::MOUNT_ATTR_NODEV,
        "noexec" => Attr::MOUNT_ATTR_NOEXEC,
        "noatime" => Attr::MOUNT_ATTR_NOATIME,
        "strictatime" => Attr::MOUNT_ATTR_STRICTATIME,
        "nodiratime" => Attr::MOUNT_ATTR_NODIRATIME,
        _ => return None,
    })
}

/// How a tree of the host is copied.
#[derive(Debug)]
pub struct Bind {
    path: PathBuf,
    /// What of it is mounted: resolved below it as in a root, since a container may have written there.
    below: Option<PathBuf>,
    recursive: bool,
    set: Attr,
    /// Attributes of the uppermost mount only.
    set_on_top: Attr,
    propagation: MountPropagationFlags,
    /// Mounts made below it reach its peers, and theirs it.
    pub(crate) shared: bool,
    /// Whether it is a directory.
    pub(crate) is_dir: bool,
    /// Device and inode of what was found at the path.
    found: (u64, u64),
    /// The user namespace whose maps say whom the files seem to belong to.
    idmap: Option<OwnedFd>,
}

impl Bind {
    /// A copy of the tree as it is on the host.
    fn copy(&self) -> Result<OwnedFd, SysError> {
        match &self.below {
            None => clone_tree(rustix::fs::CWD, &self.path, self.recursive),
            Some(below) => {
                let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let base = rustix::fs::open(&self.path, how, rustix::fs::Mode::empty())
                    .map_err(|e| SysError::new("open", rbox_sys::trace::quoted(&self.path), e))?;
                let place = open_in_root(&base, below, OFlags::PATH, 0)?;
                clone_tree(&place, Path::new(""), self.recursive)
            }
        }
    }

    /// Gives a copy the attributes that it was asked for with.
    fn dress(&self, tree: OwnedFd) -> Result<OwnedFd, SysError> {
        if let Some(userns) = &self.idmap {
            set_id_map(tree.as_fd(), userns, self.recursive)?;
        }
        set_attributes(tree.as_fd(), self.set, Attr::empty(), self.propagation, self.recursive)?;
        if !self.set_on_top.is_empty() {
            let unchanged = MountPropagationFlags::empty();
            set_attributes(tree.as_fd(), self.set_on_top, Attr::empty(), unchanged, false)?;
        }
        Ok(tree)
    }

    /// Why it could not be opened, in Docker's words.
    fn refused(&self, error: &SysError) -> RuntimeError {
        let path = self.path.display();
        RuntimeError::Config(match (&self.below, error.errno) {
            (Some(below), errno) => format!(
                "cannot access path {path}/{}: {}",
                below.display().to_string().escape_debug(),
                rbox_sys::error::reason(errno)
            ),
            (_, nix::errno::Errno::EINVAL | nix::errno::Errno::EPERM) if self.idmap.is_some() => format!(
                "bind source path {path}: idmap: a file system there, or this kernel, cannot map ids, or it is mapped already"
            ),
            (None, nix::errno::Errno::ENOENT) => format!("bind source path does not exist: {path}"),
            (None, errno) => format!("bind source path {path}: {}", rbox_sys::error::reason(errno)),
        })
    }

    /// Copies it in this namespace. The path must still lead to what was found there.
    pub(crate) fn open_again(&self) -> Result<OwnedFd, StepError> {
        let tree = self.dress(self.copy()?)?;
        if identity(&tree)?.0 != self.found {
            return Err(StepError::new(format!("{} was replaced meanwhile", self.path.display())));
        }
        Ok(tree)
    }
}

/// Which ids a bind maps: those of a list, or as the owner of what is opened has it.
enum Ids {
    /// The same whatever is opened.
    Listed([Vec<IdRange>; 2]),
    /// With the user and the group of the container's programs.
    Of(IdMap, (u32, u32)),
}

impl Ids {
    /// What is asked for a mount.
    fn of(mount: &Mount) -> Result<Option<Self>, RuntimeError> {
        let wrong = |why: &str| {
            Err(RuntimeError::Config(format!("mount on {}: {why}", mount.destination().display())))
        };
        if let Some(text) = mount.options().iter().flatten().find_map(|option| option.strip_prefix(IDMAP)) {
            let mut parts = text.splitn(3, ':');
            let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
            let user = number().zip(number());
            let map = parts.next().and_then(|map| map.parse().ok());
            return match (map, user) {
                (Some(map), Some(user)) => Ok(Some(Self::Of(map, user))),
                _ => wrong("its idmap has another form than UID:GID:MAP"),
            };
        }
        let ranges = |maps: &Option<Vec<LinuxIdMapping>>| -> Vec<IdRange> {
            let one =
                |m: &LinuxIdMapping| IdRange { disk: m.container_id(), seen: m.host_id(), count: m.size() };
            maps.iter().flatten().map(one).collect()
        };
        let (uids, gids) = (ranges(mount.uid_mappings()), ranges(mount.gid_mappings()));
        match (uids.is_empty(), gids.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(Self::Listed([uids, gids]))),
            _ => wrong("it has mappings of users or of groups, and needs both"),
        }
    }

    /// The user namespace for what was opened: its owner is asked there, since another may be at its path by now.
    fn namespace(
        &self,
        tree: BorrowedFd<'_>,
        path: &Path,
        maps: Option<&IdMaps>,
    ) -> Result<OwnedFd, RuntimeError> {
        let [uids, gids] = match self {
            Self::Listed(ids) => ids.clone(),
            Self::Of(map, (user, group)) => {
                let stat = rustix::fs::fstat(tree)
                    .map_err(|errno| SysError::new("fstat", rbox_sys::trace::fd(tree), errno))?;
                let ids = [map.uids(stat.st_uid, *user), map.gids(stat.st_gid, *group)];
                // They are said of users inside.
                maps.map_or(ids.clone(), |maps| maps.over(ids))
            }
        };
        user_namespace(&uids, &gids).map_err(|error| no_namespace(path, &error))
    }
}

/// Why the ids of what is at a path cannot be mapped: there is no user namespace to say them in.
fn no_namespace(path: &Path, error: &SysError) -> RuntimeError {
    let why = no_user_namespace(error);
    RuntimeError::Config(format!("bind source path {}: idmap: {why}", path.display()))
}

/// The reason for a user namespace that could not be made.
pub(crate) fn no_user_namespace(error: &SysError) -> String {
    use nix::errno::Errno;
    let forbidden = [Errno::ENOSPC, Errno::EUSERS, Errno::EPERM, Errno::EINVAL, Errno::ENOSYS];
    if error.call == "clone3" && forbidden.contains(&error.errno) {
        let reason = rbox_sys::error::reason(error.errno);
        format!("this host allows no user namespace: {reason} (see /proc/sys/user/max_user_namespaces)")
    } else {
        error.to_string()
    }
}

/// Has the files of a mount that is attached nowhere, and was copied of `path`, seem to belong to others. `user`: the user and the group
/// of the container's programs. The caller must be single-threaded.
pub fn map_ids(
    mount: BorrowedFd<'_>,
    path: &Path,
    map: &IdMap,
    user: (u32, u32),
    recursive: bool,
) -> Result<(), RuntimeError> {
    let namespace = Ids::Of(map.clone(), user).namespace(mount, path, None)?;
    Ok(set_id_map(mount, namespace, recursive)?)
}

fn identity(fd: &OwnedFd) -> Result<((u64, u64), bool), SysError> {
    let stat = rustix::fs::fstat(fd).map_err(|e| SysError::new("fstat", rbox_sys::trace::fd(fd), e))?;
    Ok(((stat.st_dev, stat.st_ino), rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir()))
}

fn bind(mount: &Mount, maps: Option<&IdMaps>) -> Result<Source, RuntimeError> {
    let path: &Path = mount.source().as_deref().unwrap_or(Path::new(""));
    let (mut set, mut set_on_top, mut below) = (Attr::empty(), Attr::empty(), None);
    let (mut propagation, mut shared) = (MountPropagationFlags::PRIVATE, false);
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "ro" => set_on_top |= Attr::MOUNT_ATTR_RDONLY,
            "rro" => set |= Attr::MOUNT_ATTR_RDONLY,
            "shared" | "rshared" => {
                require_propagation(path, &["shared:"], "a shared mount")?;
                // A shared tree keeps its peers; any other leaves them, so that mounts made inside stay inside.
                (propagation, shared) = (MountPropagationFlags::empty(), true);
            }
            "slave" | "rslave" => {
                require_propagation(path, &["shared:", "master:"], "a shared or slave mount")?;
                propagation = MountPropagationFlags::DOWNSTREAM;
            }
            other => {
                set |= attribute(other).unwrap_or(Attr::empty());
                below = below.or_else(|| other.strip_prefix(SUBPATH).map(PathBuf::from));
            }
        }
    }
    if shared && maps.is_some() {
        return Err(RuntimeError::Config(format!(
            "bind source path {}: shared: what is mounted in a user namespace does not reach the host",
            path.display()
        )));
    }
    let recursive = !has_option(mount, "bind") || has_option(mount, "rbind");
    let mut bind = Bind {
        path: path.to_owned(),
        below,
        recursive,
        set,
        set_on_top,
        propagation,
        shared,
        is_dir: false,
        found: (0, 0),
        idmap: None,
    };
    let ids = Ids::of(mount)?;
    let tree = bind.copy().map_err(|error| bind.refused(&error))?;
    (bind.found, bind.is_dir) = identity(&tree)?;
    owner::give(mount, tree.as_fd())?;
    bind.idmap = ids.map(|ids| ids.namespace(tree.as_fd(), path, maps)).transpose()?;
    let tree = bind.dress(tree).map_err(|error| bind.refused(&error))?;
    Ok(Source::Tree { tree, bind })
}

/// Refuses a source whose mount has no peers (mountinfo's optional fields): nothing would propagate, silently.
fn require_propagation(path: &Path, wanted: &[&str], what: &str) -> Result<(), RuntimeError> {
    let source = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|e| SysError::new("open", rbox_sys::trace::quoted(path), e))?;
    let id = rbox_sys::mount::id_of(&source)?.to_string();
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| SysError::new("open", "\"/proc/self/mountinfo\"".into(), e))?;
    let line = table.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words[0] == id);
    let words = line.unwrap_or_default();
    let optional = words.iter().skip(6).take_while(|word| **word != "-");
    if optional.into_iter().any(|word| wanted.iter().any(|tag| word.starts_with(tag))) {
        return Ok(());
    }
    Err(RuntimeError::Config(format!(
        "path {} is mounted on {} but it is not {what}",
        path.display(),
        words.get(4).unwrap_or(&"a place out of sight")
    )))
}

/// The parameters of a mount, as the kernel takes them.
pub(crate) fn texts(params: &[(String, String)]) -> Vec<Param<'_>> {
    params
        .iter()
        .map(|(key, value)| if value.is_empty() { Param::Flag(key) } else { Param::Text(key, value) })
        .collect()
}

/// The namespaces the config asks to be new. Those with a path are joined, which is the caller's to refuse.
pub(crate) fn namespaces(spec: &oci_spec::runtime::Spec) -> NamespaceSet {
    use oci_spec::runtime::LinuxNamespaceType as Kind;
    let mut set = NamespaceSet::EMPTY;
    let asked = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    for namespace in asked.into_iter().flatten().filter(|n| n.path().is_none()) {
        set = set.with(match namespace.typ() {
            Kind::Pid => "pid",
            Kind::Mount => "mnt",
            Kind::Uts => "uts",
            Kind::Ipc => "ipc",
            Kind::Network => "net",
            Kind::Cgroup => "cgroup",
            Kind::User => "user",
            Kind::Time => "time",
        });
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_user_namespaces() {
        let told = |call, errno: nix::errno::Errno| {
            no_namespace(Path::new("/src"), &SysError::new(call, String::new(), errno)).to_string()
        };
        let refused = told("clone3", nix::errno::Errno::ENOSPC);
        assert!(
            refused.starts_with("bind source path /src: idmap: this host allows no user namespace"),
            "{refused}"
        );
        let other = told("write", nix::errno::Errno::EINVAL);
        assert!(
            other.starts_with("bind source path /src: idmap: ") && !other.contains("allows no"),
            "{other}"
        );
    }
}
