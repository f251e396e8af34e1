//! What a device brings into a container.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Hook, HookBuilder, Hooks, HooksBuilder, LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType, Mount,
    MountBuilder, Process, Spec,
};
use rbox_spec::resources::{DeviceAccess, DeviceKind, DeviceRule};
use rbox_sys::plain;
use serde::Deserialize;
use serde_json::Value;

use crate::cdi::CdiError;
use crate::oci::config::merge_env;
use crate::record::container::ContainerRecord;

/// `containerEdits`: what changes in a container's config.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Bind>,
    hooks: Vec<Program>,
    additional_gids: Vec<u32>,
    net_devices: Vec<Value>,
    intel_rdt: Option<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Node {
    path: String,
    #[serde(default)]
    host_path: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    major: u32,
    #[serde(default)]
    minor: u32,
    file_mode: Option<u32>,
    #[serde(default)]
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bind {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Program {
    hook_name: String,
    path: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    timeout: Option<i64>,
}

const CREATE_CONTAINER: &str = "createContainer";
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", CREATE_CONTAINER, "startContainer", "poststart", "poststop"];

/// What rbox mounts itself; the steps of init and the masks rely on it.
const OWN: [&str; 6] = ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup"];

impl Edits {
    pub(super) fn is_empty(&self) -> bool {
        self.env.is_empty()
            && self.device_nodes.is_empty()
            && self.mounts.is_empty()
            && self.hooks.is_empty()
            && self.additional_gids.is_empty()
            && self.net_devices.is_empty()
            && self.intel_rdt.is_none()
    }

    /// Where something is mounted.
    pub(crate) fn mount_targets(&self) -> impl Iterator<Item = String> {
        self.mounts.iter().map(|mount| mount.target().to_string_lossy().into_owned())
    }

    /// Refuses what no container can have.
    pub(super) fn check(&self) -> Result<(), String> {
        check_env(&self.env)?;
        self.device_nodes.iter().try_for_each(Node::check)?;
        self.mounts.iter().try_for_each(Bind::check)?;
        self.hooks.iter().try_for_each(Program::check)
    }

    /// The first version of the specification that has what is here.
    pub(super) fn needs_version(&self) -> u32 {
        let is_new = |rdt: &Value| rdt.get("schemata").is_some() || rdt.get("enableMonitoring").is_some();
        let needed = [
            (11, !self.net_devices.is_empty() || self.intel_rdt.as_ref().is_some_and(is_new)),
            (7, !self.additional_gids.is_empty() || self.intel_rdt.is_some()),
            (5, self.device_nodes.iter().any(|node| !node.host_path.is_empty())),
            (4, self.mounts.iter().any(|mount| !mount.kind.is_empty())),
        ];
        needed.into_iter().find_map(|(version, is)| is.then_some(version)).unwrap_or(3)
    }

    /// What cannot be done here, and why; `own_user`: the container has a user namespace of its own.
    pub(super) fn check_supported(&self, own_user: bool) -> Result<(), &'static str> {
        if self.intel_rdt.is_some() {
            return Err("intelRdt, which rbox does not support: it makes no groups of resctrl");
        }
        if !self.net_devices.is_empty() {
            return Err(
                "netDevices, which rbox does not support: it moves no links of the host into containers",
            );
        }
        if own_user && self.hooks.iter().any(|hook| hook.hook_name == CREATE_CONTAINER) {
            return Err(
                "a createContainer hook, which has to be root of the host: run it with --userns host",
            );
        }
        Ok(())
    }

    /// These, and then others.
    pub(super) fn append(&mut self, more: &Self) {
        self.env.extend(more.env.iter().cloned());
        self.device_nodes.extend(more.device_nodes.iter().cloned());
        self.mounts.extend(more.mounts.iter().cloned());
        self.hooks.extend(more.hooks.iter().cloned());
        self.additional_gids.extend(&more.additional_gids);
    }

    /// Whether there are hooks to run.
    pub(super) fn has_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// The record with what its devices need of the control group.
    pub(crate) fn over(&self, record: &ContainerRecord) -> Result<ContainerRecord, CdiError> {
        let mut record = record.clone();
        for node in &self.device_nodes {
            record.host.resources.device_cgroup_rules.extend(node.rule().map_err(CdiError::Inject)?);
        }
        Ok(record)
    }

    /// Changes a container's config.
    pub(super) fn apply(&self, spec: &mut Spec) -> Result<(), String> {
        let failed = |error: OciSpecError| error.to_string();
        if let Some(process) = spec.process_mut() {
            add_to_process(process, &self.env, &self.additional_gids);
        }
        self.add_mounts(spec).map_err(failed)?;
        if self.has_hooks() {
            spec.set_hooks(Some(self.all_hooks().map_err(failed)?));
        }
        let user =
            spec.process().as_ref().map_or((0, 0), |process| (process.user().uid(), process.user().gid()));
        if let Some(linux) = spec.linux_mut() {
            let mut all = linux.devices().clone().unwrap_or_default();
            for node in &self.device_nodes {
                let device = node.device(user)?;
                all.retain(|there| there.path() != device.path());
                all.push(device);
            }
            linux.set_devices(Some(all));
        }
        Ok(())
    }

    /// A mount takes the place of what is mounted there; one below another comes after it, and all after what rbox mounts itself.
    fn add_mounts(&self, spec: &mut Spec) -> Result<(), OciSpecError> {
        if self.mounts.is_empty() {
            return Ok(());
        }
        let mut all = spec.mounts().clone().unwrap_or_default();
        for bind in &self.mounts {
            let mount = bind.mount()?;
            all.retain(|there| there.destination() != mount.destination());
            all.push(mount);
        }
        all.sort_by_key(|mount| {
            let target = mount.destination();
            let is_own = OWN.iter().any(|own| target == Path::new(own));
            if is_own { 0 } else { target.components().count() }
        });
        spec.set_mounts(Some(all));
        Ok(())
    }

    #[allow(deprecated, reason = "specs of devices may have prestart hooks")]
    fn all_hooks(&self) -> Result<Hooks, OciSpecError> {
        let of = |name: &str| -> Result<Vec<Hook>, OciSpecError> {
            self.hooks.iter().filter(|hook| hook.hook_name == name).map(Program::hook).collect()
        };
        HooksBuilder::default()
            .prestart(of("prestart")?)
            .create_runtime(of("createRuntime")?)
            .create_container(of(CREATE_CONTAINER)?)
            .start_container(of("startContainer")?)
            .poststart(of("poststart")?)
            .poststop(of("poststop")?)
            .build()
    }
}

fn add_to_process(process: &mut Process, env: &[String], gids: &[u32]) {
    let mut all = process.env().clone().unwrap_or_default();
    merge_env(&mut all, env);
    process.set_env(Some(all));
    let mut groups = process.user().additional_gids().clone().unwrap_or_default();
    for gid in gids.iter().filter(|gid| **gid != 0) {
        if !groups.contains(gid) {
            groups.push(*gid);
        }
    }
    let mut user = process.user().clone();
    user.set_additional_gids(Some(groups));
    process.set_user(user);
}

fn check_env(env: &[String]) -> Result<(), String> {
    match env.iter().find(|variable| variable.find('=').is_none_or(|at| at == 0)) {
        Some(bad) => Err(format!("invalid environment variable {bad:?}")),
        None => env.iter().try_for_each(|variable| check_text(variable)),
    }
}

/// The kernel takes texts up to their first NUL.
fn check_text(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err(format!("{text:?} has a NUL byte")) } else { Ok(()) }
}

/// Whether a path is one from `/` down, without `.` and `..`.
fn is_plain(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    path.starts_with('/')
        && !path.contains('\0')
        && parts.all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

impl Node {
    fn check(&self) -> Result<(), String> {
        let Self { path, kind, permissions, .. } = self;
        if !is_plain(path) || !path.starts_with("/dev/") || Path::new(path) == Path::new("/dev") {
            return Err(format!("device {path:?}: only paths below /dev"));
        }
        check_text(&self.host_path)?;
        if kind == "p" {
            return Err(format!("device {path:?}: a FIFO cannot be made"));
        }
        if !["", "b", "c", "u"].contains(&kind.as_str()) {
            return Err(format!("device {path:?}: invalid type {kind:?}"));
        }
        let is_known =
            matches!(permissions.as_str(), "" | "none") || DeviceAccess::parse(permissions).is_some();
        if !is_known {
            return Err(format!("device {path:?}: invalid permissions {permissions:?}"));
        }
        Ok(())
    }

    fn host(&self) -> &Path {
        Path::new(if self.host_path.is_empty() { &self.path } else { &self.host_path })
    }

    /// The host's node: its kind, its numbers and its mode. A link there is no device, as for Docker: it could lead to any.
    fn of_host(&self) -> Result<(LinuxDeviceType, u32, u32, u32), String> {
        let host = self.host();
        let failed = |why: String| format!("device {}: {why}", host.display());
        let meta = std::fs::symlink_metadata(host).map_err(|error| failed(plain(error)))?;
        let kind = match meta.file_type() {
            kind if kind.is_block_device() => LinuxDeviceType::B,
            kind if kind.is_char_device() => LinuxDeviceType::C,
            _ => return Err(failed("not a device node".to_owned())),
        };
        Ok((kind, rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()), meta.mode() & 0o7777))
    }

    /// Its kind, its numbers and its mode: those of the host's node, where the file does not say.
    fn numbers(&self) -> Result<(LinuxDeviceType, u32, u32, u32), String> {
        let said = match self.kind.as_str() {
            "b" => Some(LinuxDeviceType::B),
            "c" | "u" => Some(LinuxDeviceType::C),
            _ => None,
        };
        let found = self.of_host();
        if let (Some(kind), true) = (said, self.major != 0) {
            let mode = self.file_mode.or(found.ok().map(|(.., mode)| mode)).unwrap_or(0o666);
            return Ok((kind, self.major, self.minor, mode));
        }
        let (kind, major, minor, mode) = found?;
        if said.is_some_and(|said| said != kind) {
            return Err(format!(
                "device {}: it is of another type than {}",
                self.host().display(),
                self.kind
            ));
        }
        let (major, minor) = if self.major == 0 { (major, minor) } else { (self.major, self.minor) };
        Ok((kind, major, minor, self.file_mode.unwrap_or(mode)))
    }

    fn device(&self, (uid, gid): (u32, u32)) -> Result<LinuxDevice, String> {
        let (kind, major, minor, mode) = self.numbers()?;
        LinuxDeviceBuilder::default()
            .path(PathBuf::from(&self.path))
            .typ(kind)
            .major(i64::from(major))
            .minor(i64::from(minor))
            .file_mode(mode & 0o7777)
            .uid(self.uid.unwrap_or(uid))
            .gid(self.gid.unwrap_or(gid))
            .build()
            .map_err(|error| error.to_string())
    }

    /// What the control group has to let through.
    fn rule(&self) -> Result<Option<DeviceRule>, String> {
        let (kind, major, minor, _) = self.numbers()?;
        let kind = if kind == LinuxDeviceType::B { DeviceKind::Block } else { DeviceKind::Char };
        let access = match self.permissions.as_str() {
            "none" => return Ok(None),
            "" => DeviceAccess::parse("rwm"),
            other => DeviceAccess::parse(other),
        };
        Ok(access.map(|access| DeviceRule { kind, major: Some(major), minor: Some(minor), access }))
    }
}

impl Bind {
    fn check(&self) -> Result<(), String> {
        let Self { host_path, container_path, kind, .. } = self;
        if !["", "bind", "none", "tmpfs"].contains(&kind.as_str()) {
            return Err(format!("mount on {container_path:?}: its type {kind:?} is not supported"));
        }
        if host_path.is_empty() || (kind != "tmpfs" && !host_path.starts_with('/')) {
            return Err(format!(
                "mount on {container_path:?}: hostPath {host_path:?} is not an absolute path"
            ));
        }
        [host_path].into_iter().chain(&self.options).try_for_each(|text| check_text(text))?;
        if !is_plain(container_path) {
            return Err(format!(
                "mount of {host_path:?}: containerPath {container_path:?} is no path from / down"
            ));
        }
        let target = Path::new(container_path);
        if OWN.iter().any(|own| Path::new(own).starts_with(target)) {
            return Err(format!("mount on {container_path:?}: what is there is the container's own"));
        }
        if target.starts_with("/proc") && !rbox_runtime::PROC_FILES.contains(&container_path.as_str()) {
            return Err(format!("mount on {container_path:?}: nothing can be mounted below /proc"));
        }
        Ok(())
    }

    /// Where it is mounted, without `//` and `/` at the end, so that what is there already is found.
    fn target(&self) -> PathBuf {
        Path::new(&self.container_path).components().collect()
    }

    fn mount(&self) -> Result<Mount, OciSpecError> {
        let mut options = self.options.clone();
        let is_bind = self.kind != "tmpfs";
        if is_bind && !options.iter().any(|option| option == "bind" || option == "rbind") {
            options.push("rbind".to_owned());
        }
        MountBuilder::default()
            .destination(self.target())
            .typ(if is_bind { "bind" } else { "tmpfs" })
            .source(&self.host_path)
            .options(options)
            .build()
    }
}

impl Program {
    fn check(&self) -> Result<(), String> {
        if !HOOKS.contains(&self.hook_name.as_str()) {
            return Err(format!("invalid hook name {:?}", self.hook_name));
        }
        check_env(&self.env)?;
        [&self.path].into_iter().chain(&self.args).try_for_each(|text| check_text(text))?;
        let hook = self.hook().map_err(|error| error.to_string())?;
        rbox_runtime::check_hooks(&self.hook_name, &[hook])
    }

    fn hook(&self) -> Result<Hook, OciSpecError> {
        let mut hook = HookBuilder::default().path(&self.path).env(self.env.clone());
        if !self.args.is_empty() {
            hook = hook.args(self.args.clone());
        }
        if let Some(timeout) = self.timeout {
            hook = hook.timeout(timeout);
        }
        hook.build()
    }
}
