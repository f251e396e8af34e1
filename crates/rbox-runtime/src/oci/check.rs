//! What a config asks for that cannot be done, found before anything is made.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType as Kind, Spec};

use crate::error::RuntimeError;
use crate::hooks;
use crate::oci::bundle::Bundle;

pub(super) fn check(bundle: &Bundle<'_>) -> Result<(), RuntimeError> {
    let refuse = |why: String| Err(RuntimeError::Config(why));
    let spec = bundle.spec;
    if spec.process().is_none() {
        return refuse("the config names no process".into());
    }
    if let Some(what) = unsupported(spec) {
        return refuse(format!("{what} of the config is not supported"));
    }
    check_hooks(spec).or_else(refuse)?;
    let namespaces =
        spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let find = |kind| namespaces.iter().find(|one| one.typ() == kind);
    match find(Kind::Mount).map(|one| one.path().is_some()) {
        // The host's tree would become the container's for everybody.
        None => return refuse("the config has no mount namespace".into()),
        Some(true) => check_joined_tree(spec).or_else(|what: &str| {
            refuse(format!("{what} of the config cannot be set in a mount namespace that is joined"))
        })?,
        Some(false) => drop(root_path(bundle)?),
    }
    if find(Kind::User).is_some_and(|one| one.path().is_none()) {
        return refuse("a new user namespace is not supported: the config may join one by its path".into());
    }
    let linux = spec.linux().as_ref();
    if linux.is_some_and(|linux| linux.seccomp().is_some()) && bundle.seccomp.is_none() {
        return refuse("the config has a seccomp filter, and none was given compiled".into());
    }
    Ok(())
}

/// The root file system's path.
pub(super) fn root_path(bundle: &Bundle<'_>) -> Result<PathBuf, RuntimeError> {
    let root = bundle.spec.root().as_ref();
    let root = root.ok_or_else(|| RuntimeError::Config("the config has no root file system".into()))?;
    Ok(bundle.path.join(root.path()))
}

/// The first setting that would be passed over.
fn unsupported(spec: &Spec) -> Option<&'static str> {
    let linux = spec.linux().as_ref();
    let process = spec.process().as_ref();
    let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or_default();
    let settings = [
        ("linux.rootfsPropagation", !["", "private", "rprivate"].contains(&propagation)),
        ("linux.uidMappings", linux.is_some_and(|l| l.uid_mappings().iter().flatten().next().is_some())),
        ("linux.gidMappings", linux.is_some_and(|l| l.gid_mappings().iter().flatten().next().is_some())),
        ("linux.mountLabel", linux.is_some_and(|l| l.mount_label().is_some())),
        ("linux.intelRdt", linux.is_some_and(|l| l.intel_rdt().is_some())),
        ("linux.personality", linux.is_some_and(|l| l.personality().is_some())),
        ("linux.timeOffsets", linux.is_some_and(|l| l.time_offsets().is_some())),
        ("process.selinuxLabel", process.is_some_and(|p| p.selinux_label().is_some())),
        ("process.scheduler", process.is_some_and(|p| p.scheduler().is_some())),
        ("process.ioPriority", process.is_some_and(|p| p.io_priority().is_some())),
        ("process.execCPUAffinity", process.is_some_and(|p| p.exec_cpu_affinity().is_some())),
    ];
    settings.into_iter().find(|(_, set)| *set).map(|(name, _)| name)
}

/// The tree of a mount namespace that is joined is another container's: it stays as it is.
fn check_joined_tree(spec: &Spec) -> Result<(), &'static str> {
    let linux = spec.linux().as_ref();
    let settings = [
        ("mounts", spec.mounts().iter().flatten().next().is_some()),
        ("root.readonly", spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly) == Some(true)),
        ("linux.maskedPaths", linux.is_some_and(|l| l.masked_paths().iter().flatten().next().is_some())),
        ("linux.readonlyPaths", linux.is_some_and(|l| l.readonly_paths().iter().flatten().next().is_some())),
        ("linux.devices", linux.is_some_and(|l| l.devices().iter().flatten().next().is_some())),
    ];
    settings.into_iter().find(|(_, set)| *set).map_or(Ok(()), |(name, _)| Err(name))
}

#[allow(deprecated, reason = "prestart hooks are run, too")]
fn check_hooks(spec: &Spec) -> Result<(), String> {
    let Some(all) = spec.hooks() else { return Ok(()) };
    [
        ("prestart", all.prestart()),
        ("createRuntime", all.create_runtime()),
        ("createContainer", all.create_container()),
        ("startContainer", all.start_container()),
        ("poststart", all.poststart()),
        ("poststop", all.poststop()),
    ]
    .into_iter()
    .try_for_each(|(kind, hooks)| hooks::check(kind, hooks.as_deref().unwrap_or_default()))
}
