//! From a container's record to the OCI runtime config that the runtime carries out.
//!
//! The lists are what containers get by default; `docs/defaults.md` says where each comes from.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability as OciCapability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDevice, LinuxDeviceBuilder,
    LinuxDeviceType, LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder,
    PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, ProcessBuilder, RootBuilder, Spec,
    SpecBuilder, UserBuilder,
};
use rbox_runtime::{COPY, IDMAP, OWNER, SUBPATH};
use rbox_spec::capability::CapSet;
use rbox_spec::container::{DeviceSpec, HostConfig, IpcMode, NetworkMode, PidMode};
use rbox_spec::idmap::IdRange;
use rbox_spec::mount::{MountKind, MountSpec, Recursive};
use rbox_spec::resources::{DeviceAccess, DeviceKind, DeviceRule};
use rbox_spec::ulimit::{Rlimit, Ulimit};
use rbox_spec::user::ResolvedUser;
use rbox_spec::userns::IdMaps;

use crate::caller;
use crate::error::EngineError;
use crate::record::container::ContainerRecord;

/// What is known only once the container starts.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// Its user.
    pub(crate) user: &'a ResolvedUser,
    /// Its capabilities.
    pub(crate) capabilities: CapSet,
    /// Its AppArmor profile.
    pub(crate) apparmor: Option<String>,
    /// Files rbox has for it.
    pub(crate) given_files: Vec<EngineFile>,
    /// What is in each of the files that the user gives it.
    pub(crate) contents: Vec<PathBuf>,
    /// The directory of each volume mount, by target.
    pub(crate) volumes: Vec<(String, PathBuf)>,
    /// The namespaces of other containers that it is in, by their files.
    pub(crate) joined: Vec<(LinuxNamespaceType, PathBuf)>,
}

/// A file that rbox gives a container.
#[derive(Debug)]
pub(crate) struct EngineFile {
    /// The path inside.
    pub(crate) target: &'static str,
    /// The path on the host.
    pub(crate) source: PathBuf,
    /// The container may not change it, whatever its root is.
    pub(crate) read_only: bool,
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where `--init` puts the small init inside.
pub(crate) const INIT_PATH: &str = "/sbin/docker-init";
/// Where the embedded image finds what the host sees of its container.
pub(crate) const HOST_VIEW_INSIDE: &str = "/host-view";

const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The config for starting the container.
pub(crate) fn build(record: &ContainerRecord, facts: &Facts<'_>) -> Result<Spec, EngineError> {
    assemble(record, facts).map_err(|error| EngineError::Invalid(format!("runtime config: {error}")))
}

fn assemble(record: &ContainerRecord, facts: &Facts<'_>) -> Result<Spec, OciSpecError> {
    let host = &record.host;
    let own_network = host.network.is_own();
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(host, &facts.joined)?)
        .devices(devices(record)?)
        .sysctl(sysctls(record, own_network));
    if host.privileged || host.system_paths_unconfined {
        linux = linux.masked_paths(Vec::new()).readonly_paths(Vec::new());
    } else {
        linux = linux.masked_paths(masked()).readonly_paths(READ_ONLY.map(str::to_owned).to_vec());
    }
    let args = [&record.config.entrypoint[..], &record.config.cmd[..]].concat();
    let args = if host.init { [vec![INIT_PATH.to_owned(), "--".to_owned()], args].concat() } else { args };
    let cwd = if record.config.working_dir.is_empty() { "/" } else { &record.config.working_dir };
    SpecBuilder::default()
        .version("1.2.0")
        .hostname(record.config.hostname.clone())
        .domainname(record.config.domainname.clone())
        .annotations(host.annotations.clone().into_iter().collect::<HashMap<_, _>>())
        .root(RootBuilder::default().path("rootfs").readonly(host.read_only).build()?)
        .process(process(record, facts, args, environment(record, facts.user), cwd, record.config.tty)?)
        .mounts(mounts(record, facts)?)
        .linux(linux.build()?)
        .build()
}

/// What a process inside is, for the first one and for exec.
pub(crate) fn process(
    record: &ContainerRecord,
    facts: &Facts<'_>,
    args: Vec<String>,
    env: Vec<String>,
    cwd: &str,
    terminal: bool,
) -> Result<Process, OciSpecError> {
    let names: HashSet<OciCapability> =
        facts.capabilities.iter().filter_map(|c| c.name().trim_start_matches("CAP_").parse().ok()).collect();
    let mut process = ProcessBuilder::default()
        .terminal(terminal)
        .user(
            UserBuilder::default()
                .uid(facts.user.uid)
                .gid(facts.user.gid)
                .additional_gids(facts.user.supplementary.clone())
                .umask(record.config.umask.unwrap_or(0o022))
                .build()?,
        )
        .args(args)
        .env(env)
        .cwd(cwd)
        .capabilities(
            LinuxCapabilitiesBuilder::default()
                .bounding(names)
                .effective(HashSet::new())
                .inheritable(HashSet::new())
                .permitted(HashSet::new())
                .ambient(HashSet::new())
                .build()?,
        )
        .rlimits(caller::limits(&record.host.ulimits).iter().map(rlimit).collect::<Result<Vec<_>, _>>()?)
        .no_new_privileges(record.host.no_new_privileges);
    if let Some(profile) = &facts.apparmor {
        process = process.apparmor_profile(profile);
    }
    if let Some(score) = record.host.oom_score_adj.or_else(caller::oom_score_adj) {
        process = process.oom_score_adj(score);
    }
    process.build()
}

/// The namespaces of its own: all, but those that the user asked to share with the host; and those of other containers.
fn namespaces(
    host: &HostConfig,
    joined: &[(LinuxNamespaceType, PathBuf)],
) -> Result<Vec<oci_spec::runtime::LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType as Kind;
    let kinds = [
        (Kind::Pid, host.pid == PidMode::Private),
        (Kind::Mount, true),
        (Kind::Uts, !host.uts_host),
        (Kind::Ipc, host.ipc.is_own()),
        (Kind::Cgroup, !host.cgroupns_host),
        (Kind::Network, host.network.is_own()),
    ];
    let kinds = kinds.into_iter().filter_map(|(kind, own)| own.then_some(kind));
    let own = kinds.map(|kind| LinuxNamespaceBuilder::default().typ(kind).build());
    let of_others =
        joined.iter().map(|(kind, path)| LinuxNamespaceBuilder::default().typ(*kind).path(path).build());
    own.chain(of_others).collect()
}

/// PATH, HOSTNAME, TERM and HOME first; the image's and the user's win over them. A step of a build is not told its host's name.
pub(crate) fn environment(record: &ContainerRecord, user: &ResolvedUser) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned()];
    if record.build_step.is_none() {
        env.push(format!("HOSTNAME={}", record.config.hostname));
    }
    if record.config.tty {
        env.push("TERM=xterm".to_owned());
    }
    merge_env(&mut env, &record.config.env);
    if !env.iter().any(|v| v.starts_with("HOME=")) {
        env.push(format!("HOME={}", if user.home.is_empty() { "/" } else { &user.home }));
    }
    env
}

/// Lays `more` over `env`: a key that is there gets the new value in its place.
pub(crate) fn merge_env(env: &mut Vec<String>, more: &[String]) {
    // An image or an env file may have thousands, so each is looked up, not searched for.
    let key = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut places: HashMap<String, usize> = HashMap::with_capacity(env.len() + more.len());
    for (place, variable) in env.iter().enumerate() {
        // Of two with one key the first is replaced.
        places.entry(key(variable)).or_insert(place);
    }
    for variable in more {
        let place = *places.entry(key(variable)).or_insert(env.len());
        match env.get_mut(place) {
            Some(there) => there.clone_from(variable),
            None => env.push(variable.clone()),
        }
    }
    // A name alone takes the variable away.
    if more.iter().any(|variable| !variable.contains('=')) {
        env.retain(|variable| variable.contains('='));
    }
}

fn sysctls(record: &ContainerRecord, own_network: bool) -> std::collections::HashMap<String, String> {
    let mut all = std::collections::HashMap::new();
    if own_network && !record.host.privileged {
        // Any group may ping and any user may bind low ports: both need no capability then.
        let last = record.host.id_maps.as_ref().map_or(u32::MAX, IdMaps::last_group).min(i32::MAX as u32);
        all.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
    }
    if own_network {
        all.insert("net.ipv6.conf.all.accept_ra".to_owned(), "0".to_owned());
        all.insert("net.ipv6.conf.default.accept_ra".to_owned(), "0".to_owned());
    }
    if own_network {
        // Of IPv4 a redirect is taken when either this or the link's own setting says so.
        all.insert("net.ipv4.conf.all.accept_redirects".to_owned(), "0".to_owned());
    }
    all.extend(record.host.sysctls.clone());
    // A link's own are written when it is there.
    all.retain(|key, _| {
        record.host.network != NetworkMode::Bridge || crate::oci::config::of_link(key).is_none()
    });
    if !Path::new("/proc/sys/net/ipv6").exists() {
        all.retain(|key, _| !key.starts_with("net.ipv6.") || record.host.sysctls.contains_key(key));
    }
    all
}

pub(crate) fn masked() -> Vec<String> {
    let mut all: Vec<String> = MASKED.map(str::to_owned).to_vec();
    let throttle = |n: usize| format!("/sys/devices/system/cpu/cpu{n}/thermal_throttle");
    if Path::new(&throttle(0)).exists() {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        all.extend((0..count).map(throttle));
    }
    all
}

fn mount(target: &str, kind: &str, source: &Path, options: &[&str]) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
}

/// The mounts every container has, but those that the user puts something else on.
fn mounts(record: &ContainerRecord, facts: &Facts<'_>) -> Result<Vec<Mount>, OciSpecError> {
    let shm = format!("size={}", record.host.shm_size.unwrap_or(64 << 20));
    let maps = record.host.id_maps.as_ref();
    let terminals: &[&str] = &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    // Where the group `tty` is nobody's inside, terminals are the user's group's.
    let has_tty = maps.is_none_or(|maps| maps.has_group(TTY));
    let terminals = if has_tty { terminals } else { &terminals[..terminals.len() - 1] };
    let (sys, groups) = if record.host.privileged { ("rw", "rw") } else { ("ro", "ro") };
    let defaults: [(&str, &str, &[&str]); 7] = [
        ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", terminals),
        ("/sys", "sysfs", &["nosuid", "noexec", "nodev", sys]),
        ("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", groups]),
        ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "source=shm", "mode=1777", &shm]),
    ];
    // What the user mounts on one of these, or above it, takes its place.
    let replaced = |target: &str| record.host.mounts.iter().any(|m| Path::new(target).starts_with(&m.target));
    let mut all = Vec::with_capacity(16);
    for (target, kind, options) in defaults {
        if replaced(target) {
            continue;
        }
        match (target, &record.host.ipc) {
            ("/dev/shm", IpcMode::None) => {}
            ("/dev/shm", IpcMode::Host | IpcMode::Container(_)) => {
                all.push(mount(target, "bind", Path::new(target), &["rbind", "rw"])?);
            }
            _ => all.push(mount(target, kind, Path::new(kind), options)?),
        }
    }
    let mut asked = record
        .host
        .mounts
        .iter()
        .map(|m| user_mount(m, &facts.volumes, facts.user, maps))
        .collect::<Result<Vec<_>, _>>()?;
    let is_given = |target: &str| record.host.files.iter().any(|file| file.target == target);
    for given in &facts.given_files {
        if !record.host.mounts.iter().any(|m| m.target == given.target) && !is_given(given.target) {
            let access = if given.read_only || record.host.read_only { "ro" } else { "rw" };
            let mut bind = mount(given.target, "bind", &given.source, &["rbind", access])?;
            // The small init is executed only, and may be where ids cannot be mapped.
            if given.target != INIT_PATH {
                map_ids(&mut bind, maps)?;
            }
            asked.push(bind);
        }
    }
    for (file, content) in record.host.files.iter().zip(&facts.contents) {
        let owner =
            [format!("uid={}", file.uid), format!("gid={}", file.gid), format!("mode={:o}", file.mode)];
        asked.push(mount(&file.target, COPY, content, &owner.each_ref().map(String::as_str))?);
    }
    // A mount below another one comes after it.
    asked.sort_by_key(|m| m.destination().components().count());
    all.extend(asked);
    Ok(all)
}

/// The group that terminals are given to: `tty` wherever there is one.
const TTY: u32 = 5;

/// What is mounted has the owners that the users of the container are on the host.
fn map_ids(mount: &mut Mount, maps: Option<&IdMaps>) -> Result<(), OciSpecError> {
    let Some(maps) = maps else { return Ok(()) };
    let mappings = |ranges: &[IdRange]| {
        let one = |range: &IdRange| {
            LinuxIdMappingBuilder::default()
                .container_id(range.disk)
                .host_id(range.seen)
                .size(range.count)
                .build()
        };
        ranges.iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    mount.set_uid_mappings(Some(mappings(&maps.uids)?)).set_gid_mappings(Some(mappings(&maps.gids)?));
    Ok(())
}

/// A mount of the user's; `volumes` has the directory of each volume, by target. `user`: the container's; `maps`: its ids, when it has
/// a user namespace.
pub(crate) fn user_mount(
    spec: &MountSpec,
    volumes: &[(String, PathBuf)],
    user: &ResolvedUser,
    maps: Option<&IdMaps>,
) -> Result<Mount, OciSpecError> {
    // Read-only is what is mounted below it, too.
    let access = if spec.read_only { "rro" } else { "rw" };
    let owner = |(uid, gid): (u32, u32)| spec.chown.then(|| format!("{OWNER}{uid}:{gid}"));
    match &spec.kind {
        MountKind::Bind { source, propagation, recursive, idmap, .. } => {
            let propagation = if propagation.is_empty() { "rprivate" } else { propagation };
            let how = if *recursive == Recursive::Disabled { "bind" } else { "rbind" };
            let access = if spec.read_only && *recursive == Recursive::Writable { "ro" } else { access };
            let ids = idmap.as_ref().map(|map| format!("{IDMAP}{}:{}:{map}", user.uid, user.gid));
            let mut options = vec![how, access, propagation];
            options.extend(ids.as_deref());
            // It is mounted with the ids that it has on the host.
            let user = (user.uid, user.gid);
            let owner = owner(maps.map_or(Ok(user), |maps| maps.find(user)).unwrap_or(user));
            options.extend(owner.as_deref());
            mount(&spec.target, "bind", Path::new(source), &options)
        }
        MountKind::Volume { subpath, .. } => {
            let source =
                volumes.iter().find(|(target, _)| *target == spec.target).map(|(_, dir)| dir.as_path());
            let below = format!("{SUBPATH}{subpath}");
            let mut options = vec!["rbind", access];
            options.extend((!subpath.is_empty()).then_some(below.as_str()));
            let owner = owner((user.uid, user.gid));
            options.extend(owner.as_deref());
            let mut bind = mount(&spec.target, "bind", source.unwrap_or(Path::new("")), &options)?;
            map_ids(&mut bind, maps)?;
            Ok(bind)
        }
        // What is given in its place.
        MountKind::Image { name, .. } => mount(&spec.target, "bind", Path::new(name), &["rbind", "rro"]),
        MountKind::Tmpfs { size, mode, options } => {
            let access = if spec.read_only { "ro" } else { "rw" };
            let mut all = vec!["nosuid".to_owned(), "nodev".to_owned(), access.to_owned()];
            // tmpfs is noexec like Docker's --tmpfs, unless `exec` is asked for.
            if !options.iter().any(|o| o == "exec") {
                all.push("noexec".to_owned());
            }
            all.extend(options.iter().filter(|o| !matches!(o.as_str(), "exec" | "noexec")).cloned());
            all.extend(size.map(|bytes| format!("size={bytes}")));
            all.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            mount(&spec.target, "tmpfs", Path::new("tmpfs"), &all)
        }
    }
}

fn devices(record: &ContainerRecord) -> Result<Vec<LinuxDevice>, OciSpecError> {
    let mut all = Vec::new();
    let mut add = |host: &Path, inside: PathBuf| -> Result<(), OciSpecError> {
        if let Some(device) = device_at(host, inside)? {
            all.push(device);
        }
        Ok(())
    };
    if record.host.privileged {
        for path in host_devices(Path::new("/dev"), 0) {
            add(&path, path.clone())?;
        }
    }
    for device in &record.host.devices {
        let host = Path::new(&device.host);
        if host.is_dir() {
            for path in host_devices(host, 0) {
                let below = path.strip_prefix(host).unwrap_or(&path).to_owned();
                add(&path, Path::new(&device.container).join(below))?;
            }
        } else {
            add(host, PathBuf::from(&device.container))?;
        }
    }
    Ok(all)
}

/// Device nodes below a directory of the host, without what a container has of its own.
pub(crate) fn host_devices(dir: &Path, depth: u32) -> Vec<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        if kind.is_dir()
            && depth < 4
            && !matches!(name.to_str(), Some("pts" | "shm" | "mqueue" | "fd" | ".lxc"))
        {
            found.extend(host_devices(&entry.path(), depth + 1));
        } else if (kind.is_char_device() || kind.is_block_device()) && name != "console" && name != "ptmx" {
            found.push(entry.path());
        }
    }
    found
}

/// The device filter's rules for `--device`: a directory stands for every device below it.
pub(crate) fn device_rules(devices: &[DeviceSpec]) -> Vec<DeviceRule> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut rules = Vec::new();
    for device in devices {
        let host = std::path::Path::new(&device.host);
        let all = if host.is_dir() { host_devices(host, 0) } else { vec![host.to_owned()] };
        for path in all {
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            let kind = if meta.file_type().is_block_device() { DeviceKind::Block } else { DeviceKind::Char };
            let Some(access) = DeviceAccess::parse(&device.permissions) else { continue };
            rules.push(DeviceRule {
                kind,
                major: Some(rustix::fs::major(meta.rdev())),
                minor: Some(rustix::fs::minor(meta.rdev())),
                access,
            });
        }
    }
    rules
}

fn device_at(host: &Path, inside: PathBuf) -> Result<Option<LinuxDevice>, OciSpecError> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let Ok(meta) = std::fs::metadata(host) else { return Ok(None) };
    let kind = if meta.file_type().is_block_device() {
        LinuxDeviceType::B
    } else if meta.file_type().is_char_device() {
        LinuxDeviceType::C
    } else {
        return Ok(None);
    };
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    LinuxDeviceBuilder::default()
        .path(inside)
        .typ(kind)
        .major(i64::from(major))
        .minor(i64::from(minor))
        .file_mode(meta.mode() & 0o7777)
        .uid(meta.uid())
        .gid(meta.gid())
        .build()
        .map(Some)
}

fn rlimit(limit: &Ulimit) -> Result<PosixRlimit, OciSpecError> {
    use PosixRlimitType as Kind;
    let kind = match limit.name {
        Rlimit::As => Kind::RlimitAs,
        Rlimit::Core => Kind::RlimitCore,
        Rlimit::Cpu => Kind::RlimitCpu,
        Rlimit::Data => Kind::RlimitData,
        Rlimit::Fsize => Kind::RlimitFsize,
        Rlimit::Locks => Kind::RlimitLocks,
        Rlimit::Memlock => Kind::RlimitMemlock,
        Rlimit::Msgqueue => Kind::RlimitMsgqueue,
        Rlimit::Nice => Kind::RlimitNice,
        Rlimit::Nofile => Kind::RlimitNofile,
        Rlimit::Nproc => Kind::RlimitNproc,
        Rlimit::Rss => Kind::RlimitRss,
        Rlimit::Rtprio => Kind::RlimitRtprio,
        Rlimit::Rttime => Kind::RlimitRttime,
        Rlimit::Sigpending => Kind::RlimitSigpending,
        Rlimit::Stack => Kind::RlimitStack,
    };
    PosixRlimitBuilder::default()
        .typ(kind)
        .soft(limit.soft.unwrap_or(u64::MAX))
        .hard(limit.hard.unwrap_or(u64::MAX))
        .build()
}

/// The path below /proc/sys of a setting that one link has, such as `net.ipv6.conf.eth0.accept_ra`.
pub(crate) fn of_link(key: &str) -> Option<String> {
    for family in ["net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh."] {
        if let Some((link, key)) = key.strip_prefix(family).and_then(|rest| rest.rsplit_once('.')) {
            let directory = family.replace('.', "/");
            return (!matches!(link, "all" | "default" | "lo")).then(|| format!("{directory}{link}/{key}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_values_win_in_place() {
        let mut env = vec!["A=1".to_owned(), "B=2".to_owned()];
        merge_env(&mut env, &["B=3".to_owned(), "C=4".to_owned()]);
        assert_eq!(env, ["A=1", "B=3", "C=4"]);
        let many: Vec<String> = (0..200_000).map(|n| format!("V{n}=1")).collect();
        let start = std::time::Instant::now();
        merge_env(&mut env, &many);
        merge_env(&mut env, &many);
        assert_eq!(env.len(), 200_003);
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{:?}", start.elapsed());
    }
}
