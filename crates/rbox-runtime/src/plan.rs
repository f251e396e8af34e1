//! What the child will need, made ready by the parent: descriptors instead of paths.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rbox_namespace::NamespaceSet;
use rbox_sys::SysError;
use rbox_sys::mount::{Attr, clone_tree, set_attributes};
use rustix::mount::MountPropagationFlags;

use crate::error::RuntimeError;

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
        /// Whether it is a directory.
        is_dir: bool,
        /// Propagation asked for, or none for private.
        propagation: MountPropagationFlags,
    },
    /// The v1 controllers' groups of this container, each with the names of its controllers, below a tmpfs.
    CgroupsV1(Vec<(String, PathBuf)>),
}

const KINDS: [&str; 7] = ["proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup2", "cgroup"];

/// Opens the sources of all mounts. `cgroups_v1` stand in for a `cgroup` mount on hosts without a v2 tree.
pub(crate) fn prepare(
    mounts: &[Mount],
    cgroups_v1: Option<&[(String, PathBuf)]>,
) -> Result<Vec<PreparedMount>, RuntimeError> {
    mounts
        .iter()
        .map(|mount| {
            let source = match mount.typ().as_deref() {
                Some("bind") => bind(mount)?,
                Some("cgroup") if cgroups_v1.is_some() => {
                    Source::CgroupsV1(cgroups_v1.unwrap_or_default().to_vec())
                }
                Some("cgroup") => fresh("cgroup2", mount),
                Some(kind) => match KINDS.iter().find(|k| **k == kind) {
                    Some(kind) => fresh(kind, mount),
                    None => return Err(RuntimeError::Config(format!("mount type {kind} is not supported"))),
                },
                None if has_option(mount, "bind") || has_option(mount, "rbind") => bind(mount)?,
                None => {
                    return Err(RuntimeError::Config(format!(
                        "mount on {} has no type",
                        mount.destination().display()
                    )));
                }
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

fn bind(mount: &Mount) -> Result<Source, RuntimeError> {
    let path: &Path = mount.source().as_deref().unwrap_or(Path::new(""));
    let recursive = !has_option(mount, "bind") || has_option(mount, "rbind");
    let tree = clone_tree(rustix::fs::CWD, path, recursive)?;
    let stat = rustix::fs::fstat(&tree).map_err(|e| SysError::new("fstat", path.display().to_string(), e))?;
    let mut set = Attr::empty();
    let mut propagation = MountPropagationFlags::PRIVATE;
    for option in mount.options().iter().flatten() {
        set |= attribute(option).unwrap_or(Attr::empty());
        propagation = match option.as_str() {
            "shared" | "rshared" => MountPropagationFlags::SHARED,
            "slave" | "rslave" => MountPropagationFlags::DOWNSTREAM,
            _ => propagation,
        };
    }
    // A shared tree keeps its peers; any other leaves them, so that mounts made inside stay inside.
    if propagation == MountPropagationFlags::SHARED {
        propagation = MountPropagationFlags::empty();
    }
    set_attributes(tree.as_fd(), set, Attr::empty(), propagation, recursive)?;
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    Ok(Source::Tree { tree, is_dir, propagation })
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
