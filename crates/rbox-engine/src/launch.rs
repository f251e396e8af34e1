//! From a record to a process: the main flow, top to bottom.
//!
//! All of it runs in the monitor, which is one thread and stays the process's parent.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rbox_network::Endpoint;
use rbox_runtime::cgroup::{Cgroup, Hierarchy};
use rbox_runtime::rootfs::overlay::Overlay;
use rbox_runtime::security::DEFAULT_CAPABILITIES;
use rbox_runtime::security::capabilities::available;
use rbox_runtime::security::seccomp::{Filter, Profile, filter_for};
use rbox_runtime::{Created, Launch, Running, Stdio, create};
use rbox_spec::capability::CapSet;
use rbox_spec::container::{NetworkMode, SeccompMode};
use rbox_spec::mount::MountKind;
use rbox_spec::port::{ContainerPort, PortMapping, PublishedPort};
use rbox_sys::{SysError, file, trace};
use rustix::fs::OFlags;

use crate::config::{self, Facts, INIT_PATH};
use crate::containers;
use crate::error::EngineError;
use crate::paths::Paths;
use crate::record::{Container, ContainerRecord, ExitRecord, LiveState, process_start, write_json};
use crate::teardown::{group_path, networks};
use crate::user;
use crate::volume::{VolumeStore, populate};

/// A container whose program runs, and what its monitor must keep open.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) running: Running,
    pub(crate) live: LiveState,
    /// The root mount: held, so that the kernel has nothing to unmount before the exit is seen.
    pub(crate) root: OwnedFd,
    /// Sockets that keep the published host ports ours.
    pub(crate) held_ports: Vec<OwnedFd>,
}

/// What a start has from the life before, when the monitor starts a container again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Again<'a> {
    /// How the life before ended.
    pub(crate) exit: Option<&'a ExitRecord>,
    /// The ports it had.
    pub(crate) published: &'a [PublishedPort],
    /// The address it had.
    pub(crate) address: Option<Ipv4Addr>,
}

/// A launch that failed, with what it had got hold of by then.
#[derive(Debug)]
pub(crate) struct Aborted {
    pub(crate) error: EngineError,
    pub(crate) live: Option<LiveState>,
}

/// Starts the record's process on these streams.
/// `again`: of a container that its monitor starts again.
pub(crate) fn launch(
    paths: &Paths,
    record: &ContainerRecord,
    stdio: Stdio,
    again: Again<'_>,
) -> Result<Launched, Box<Aborted>> {
    let mut live = LiveState {
        pid: 0,
        start_ticks: 0,
        monitor: rustix::process::getpid().as_raw_nonzero().get(),
        started: Timestamp::now(),
        cgroup: rbox_runtime::cgroup::CgroupPaths::default(),
        endpoint: None,
        published: Vec::new(),
        running: false,
        restart_count: again.exit.map_or(0, |exit| exit.restart_count),
        between: again.exit.cloned(),
    };
    match carry_out(paths, record, stdio, &mut live, again) {
        Ok((running, root, held_ports)) => Ok(Launched { running, live, root, held_ports }),
        Err(error) => Err(Box::new(Aborted { error, live: Some(live) })),
    }
}

fn carry_out(
    paths: &Paths,
    record: &ContainerRecord,
    stdio: Stdio,
    live: &mut LiveState,
    again: Again<'_>,
) -> Result<(Running, OwnedFd, Vec<OwnedFd>), EngineError> {
    let live_dir = paths.live_of(&record.id);
    let hierarchy = Hierarchy::detect()?;
    let cgroup = Cgroup::create(hierarchy, &group_path(paths, record), &record.host.resources)?;
    live.cgroup = cgroup.paths().clone();

    let root = trace::step(
        "stack the layers",
        "The image's layers, read-only, below one directory for changes.",
        || mount_root(paths, record, &live_dir),
    )?;
    let volumes = ready_volumes(paths, record, root.as_fd())?;
    let user = user::lookup(root.as_fd(), &record.config.user, &record.host.group_add)?;
    let capabilities = capabilities(record)?;
    let filter = filter(record, capabilities)?;

    let held_ports = plan_network(paths, record, live, again)?;
    let given_files = write_given_files(record, live.endpoint.as_ref(), &live_dir)?;
    let config = config::build(record, &Facts { user: &user, capabilities, given_files, volumes })?;

    let groups: Vec<(String, PathBuf)> =
        cgroup.paths().v1.iter().map(|(names, path)| (names.clone(), path.clone())).collect();
    let created = create(Launch {
        spec: &config,
        root: root.as_fd(),
        stage: &live_dir,
        cgroup: cgroup.clone_into(),
        cgroup_tasks: cgroup.join_fds(),
        cgroups_v1: (!hierarchy.is_v2()).then_some(&groups),
        seccomp: filter.as_ref(),
        stdio,
    })?;
    live.pid = created.pid();
    live.start_ticks = process_start(live.pid).map_or(0, |(ticks, _)| ticks);
    // Written before the network is touched: a kill from here on leaves all of it to be found.
    write_json(&live_dir.join("state.json"), live)?;

    let mut created = created;
    if let Err(error) = attach_network(paths, record, live, &mut created) {
        // A process that is gone has no network to wire: its own reason is the one to tell.
        return Err(created.failure().map_or(error, EngineError::from));
    }
    tell_hello(record, live, &live_dir);
    let running = created.start()?;
    live.running = true;
    live.between = None;
    write_json(&live_dir.join("state.json"), live)?;
    // Live state goes with a reboot; this stays, and tells the next boot that the container ran.
    let mark = paths.started_mark(&record.id);
    std::fs::write(&mark, live.started.to_string()).map_err(EngineError::file("write", mark))?;
    Ok((running, root, held_ports))
}

fn open_dir(path: &Path) -> Result<File, EngineError> {
    File::options()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits() as i32)
        .open(path)
        .map_err(EngineError::file("open", path))
}

fn mount_root(paths: &Paths, record: &ContainerRecord, live_dir: &Path) -> Result<OwnedFd, EngineError> {
    let dir = paths.container(&record.id);
    let overlay = Overlay {
        lowers: &record.layers,
        upper: &dir.join("upper"),
        work: &dir.join("work"),
        volatile: record.host.auto_remove,
        stage: live_dir,
    };
    Ok(overlay.mount()?)
}

/// The directory of each volume; a new one gets what the image has at its target.
fn ready_volumes(
    paths: &Paths,
    record: &ContainerRecord,
    root: BorrowedFd<'_>,
) -> Result<Vec<(String, PathBuf)>, EngineError> {
    let store = VolumeStore::new(&paths.volumes());
    let mut ready = Vec::new();
    for mount in &record.host.mounts {
        match &mount.kind {
            MountKind::Volume { name, no_copy, .. } => {
                let volume = store.create(Some(name), std::collections::BTreeMap::new())?;
                let target = Path::new(&mount.target);
                if !no_copy
                    && let Ok(image) = file::open_in_root(root, target, OFlags::RDONLY | OFlags::DIRECTORY, 0)
                {
                    populate(image.as_fd(), open_dir(&volume.mountpoint)?.as_fd())?;
                }
                ready.push((mount.target.clone(), volume.mountpoint));
            }
            MountKind::Bind { source, create, .. } if *create && !Path::new(source).exists() => {
                std::fs::create_dir_all(source).map_err(EngineError::file("make directory", source))?;
            }
            _ => {}
        }
    }
    Ok(ready)
}

/// The capabilities the record's flags leave.
pub(crate) fn capabilities(record: &ContainerRecord) -> Result<CapSet, EngineError> {
    if record.host.privileged {
        return Ok(available()?);
    }
    let set = DEFAULT_CAPABILITIES
        .tweak(&record.host.cap_add, &record.host.cap_drop)
        .map_err(|e| EngineError::Invalid(e.to_string()))?;
    Ok(if set.difference(DEFAULT_CAPABILITIES).is_empty() { set } else { set.intersection(available()?) })
}

/// The seccomp filter the record's flags ask for.
pub(crate) fn filter(record: &ContainerRecord, capabilities: CapSet) -> Result<Option<Filter>, EngineError> {
    let profile = match &record.host.seccomp {
        _ if record.host.privileged => return Ok(None),
        SeccompMode::Unconfined => return Ok(None),
        SeccompMode::Default => Profile::Default,
        SeccompMode::Profile(text) => Profile::parse(text.as_bytes())
            .map_err(|e| EngineError::Invalid(format!("seccomp profile: {e}")))?,
    };
    Ok(filter_for(&profile, capabilities)?)
}

/// Takes an address and the host ports. Nothing of the network exists in the kernel yet. What was
/// chosen for it the last time is tried first: who uses that goes on after a restart.
fn plan_network(
    paths: &Paths,
    record: &ContainerRecord,
    live: &mut LiveState,
    again: Again<'_>,
) -> Result<Vec<OwnedFd>, EngineError> {
    if record.host.network != NetworkMode::Bridge {
        return Ok(Vec::new());
    }
    let store = networks(paths);
    let network = store.bridge()?;
    store.ensure(&network, &|| live_endpoints(paths))?;
    let (wanted, kept) = (wanted_ports(record), again.published);
    let reserve = |wanted: &[PortMapping]| rbox_network::reserve(wanted, &|port| holder(paths, port));
    let (published, held) = match reserve(&as_before(&wanted, kept)) {
        Err(_) if !kept.is_empty() => reserve(&wanted)?,
        done => done?,
    };
    let id = record.id.as_str();
    let endpoint =
        store.plan_again(&network, id, published.clone(), again.address, &|id| is_live(paths, id))?;
    live.endpoint = Some(endpoint);
    live.published = published;
    Ok(held)
}

/// What is wanted, with the host ports that were chosen for it before.
fn as_before(wanted: &[PortMapping], kept: &[PublishedPort]) -> Vec<PortMapping> {
    let before = |mapping: &PortMapping| {
        let same = |port: &&PublishedPort| {
            port.container() == mapping.container()
                && mapping.host_ip.is_none_or(|ip| ip == port.host_ip)
                && mapping.host_ports.is_none_or(|(low, high)| (low..=high).contains(&port.host_port))
        };
        kept.iter().find(same).map(|port| (port.host_port, port.host_port))
    };
    let one = |mapping: &PortMapping| PortMapping {
        host_ports: before(mapping).or(mapping.host_ports),
        ..mapping.clone()
    };
    wanted.iter().map(one).collect()
}

/// `-p`, and with `-P` every exposed port that `-p` does not name, on a port of the kernel's choice.
fn wanted_ports(record: &ContainerRecord) -> Vec<PortMapping> {
    let mut wanted = record.host.ports.clone();
    if record.host.publish_all {
        for port in exposed(record) {
            if !wanted.iter().any(|m| m.container() == port) {
                wanted.push(PortMapping {
                    host_ip: None,
                    host_ports: None,
                    container_port: port.port,
                    proto: port.proto,
                });
            }
        }
    }
    wanted
}

/// The exposed ports of a record; what does not read as one was refused at create.
pub(crate) fn exposed(record: &ContainerRecord) -> Vec<ContainerPort> {
    let mut all: Vec<ContainerPort> = record
        .config
        .exposed_ports
        .iter()
        .filter_map(|text| rbox_spec::port::parse_expose(text).ok())
        .flatten()
        .collect();
    all.dedup();
    all
}

/// The endpoints of all containers that live.
pub(crate) fn live_endpoints(paths: &Paths) -> Vec<Endpoint> {
    containers::list(paths)
        .unwrap_or_default()
        .into_iter()
        .filter_map(|c| c.live.and_then(|l| l.endpoint))
        .collect()
}

/// Whether an address held in this container's name is in use: its record is there and somebody has its lock, or
/// its process lives.
fn is_live(paths: &Paths, id: &str) -> bool {
    let Ok(id) = id.parse() else { return false };
    crate::lock::Lock::is_held(&paths.live_of(&id))
        || Container::read(paths, &id).ok().flatten().is_some_and(|c| c.is_running())
}

fn holder(paths: &Paths, port: &PublishedPort) -> Option<String> {
    let all = containers::list(paths).ok()?;
    let clash = |p: &PublishedPort| {
        p.host_port == port.host_port
            && p.proto == port.proto
            && (p.host_ip == port.host_ip || p.host_ip.is_unspecified() || port.host_ip.is_unspecified())
    };
    all.into_iter()
        .find(|c| c.live.as_ref().is_some_and(|l| l.published.iter().any(clash)))
        .map(|c| c.record.name)
}

/// hosts, hostname and resolv.conf, and the small init, by their paths inside.
fn write_given_files(
    record: &ContainerRecord,
    endpoint: Option<&Endpoint>,
    live_dir: &Path,
) -> Result<Vec<(&'static str, PathBuf)>, EngineError> {
    let mut given = Vec::new();
    let mut put = |inside: &'static str, name: &str, text: &str| {
        let path = live_dir.join(name);
        std::fs::write(&path, text).map_err(EngineError::file("write", &path))?;
        given.push((inside, path));
        Ok::<_, EngineError>(())
    };
    let host_network = record.host.network == NetworkMode::Host;
    let extra = extra_hosts(record, endpoint)?;
    if host_network && extra.is_empty() {
        put("/etc/hosts", "hosts", &std::fs::read_to_string("/etc/hosts").unwrap_or_default())?;
    } else {
        put(
            "/etc/hosts",
            "hosts",
            &rbox_network::hosts_file(&record.config.hostname, endpoint.map(|e| e.ip), &extra),
        )?;
    }
    put("/etc/hostname", "hostname", &format!("{}\n", record.config.hostname))?;
    put("/etc/resolv.conf", "resolv.conf", &resolv_conf(record)?)?;
    if record.embedded {
        put(HOST_VIEW, "host-view", "")?;
    }
    if record.host.init {
        given.push((INIT_PATH, crate::own_file::path()?));
    }
    Ok(given)
}

fn extra_hosts(
    record: &ContainerRecord,
    endpoint: Option<&Endpoint>,
) -> Result<Vec<(String, IpAddr)>, EngineError> {
    let gateway = endpoint.map(|e| e.gateway);
    record.host.extra_hosts.iter().map(|text| Ok(rbox_network::parse_add_host(text, gateway)?)).collect()
}

fn resolv_conf(record: &ContainerRecord) -> Result<String, EngineError> {
    let host = if record.host.network == NetworkMode::Host {
        std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
    } else {
        rbox_network::host_resolv_conf(|path| std::fs::read_to_string(path).ok())
    };
    let nothing_asked =
        record.host.dns.is_empty() && record.host.dns_search.is_empty() && record.host.dns_options.is_empty();
    if record.host.network == NetworkMode::Host && nothing_asked {
        return Ok(host);
    }
    let dns: Vec<IpAddr> = record
        .host
        .dns
        .iter()
        .map(|text| text.parse().map_err(|_| EngineError::Invalid(format!("{text} is not an ip address"))))
        .collect::<Result<_, _>>()?;
    Ok(rbox_network::resolv_conf(&host, &dns, &record.host.dns_search, &record.host.dns_options))
}

/// Wires the veth through the child's own socket while the child mounts, and publishes the ports.
fn attach_network(
    paths: &Paths,
    record: &ContainerRecord,
    live: &LiveState,
    created: &mut Created,
) -> Result<(), EngineError> {
    let Some(socket) = created.netlink.take() else { return Ok(()) };
    let Some(endpoint) = &live.endpoint else {
        trace::step("raise the loopback", "A network namespace begins with its loopback down.", || {
            rbox_network::loopback_up(socket)
        })?;
        return Ok(());
    };
    trace::step(
        "wire the network",
        "A cable with one end in the container and the other in the bridge.",
        || {
            let path = format!("/proc/{}/ns/net", created.pid());
            let netns = File::open(&path).map_err(EngineError::file("open", path))?;
            networks(paths).attach(endpoint, netns.as_fd())?;
            rbox_network::configure_inside(socket, endpoint)?;
            Ok::<_, EngineError>(())
        },
    )?;
    debug_assert_eq!(record.host.network, NetworkMode::Bridge);
    Ok(())
}

/// Where the embedded image finds what the host sees of its container.
const HOST_VIEW: &str = "/host-view";

/// Tells the embedded image's process how the host sees it: the file was empty until its pid was known.
fn tell_hello(record: &ContainerRecord, live: &LiveState, live_dir: &Path) {
    if record.embedded {
        // Without it the program tells only its own view.
        let _ = std::fs::write(live_dir.join("host-view"), crate::hello::host_view(record, live));
    }
}

/// The root of a container that lives, by its first process.
pub(crate) fn live_root(pid: i32) -> Result<OwnedFd, EngineError> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(&path, flags, rustix::fs::Mode::empty())
        .map_err(|e| SysError::new("open", path, e))?)
}
