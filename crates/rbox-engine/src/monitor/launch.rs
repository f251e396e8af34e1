//! From a record to a process: the main flow, top to bottom.
//!
//! All of it runs in the monitor, which is one thread and stays the process's parent.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use oci_spec::runtime::{LinuxNamespaceType, Spec, State};
use rbox_network::{Dns, Endpoint};
use rbox_runtime::cgroup::{Cgroup, Hierarchy};
use rbox_runtime::rootfs::overlay::{Overlay, mount_read_only};
use rbox_runtime::{Created, Launch, Running, Stdio, UserNamespace, create, open_namespaces};
use rbox_spec::container::{IpcMode, PidMode};
use rbox_spec::mount::MountKind;
use rbox_spec::resources::Resources;
use rbox_spec::user::ResolvedUser;
use rbox_sys::lock::How;
use rbox_sys::passed::Passed;
use rbox_sys::{file, trace};
use rustix::fs::OFlags;

use crate::cdi::edits::Edits;
use crate::cdi::{bundle, requests};
use crate::containers::sharing::{self, SHM};
use crate::containers::{base, image_trees, quota, stop_mark, volumes};
use crate::create::userns;
use crate::error::EngineError;
use crate::journal::{self, ContainerAction};
use crate::networks::attach::{self, Attach};
use crate::networks::files::{self, Shared};
use crate::networks::ports::HeldPort;
use crate::networks::store::builtin;
use crate::oci::cgroup::group_path;
use crate::oci::config::{self, EngineFile, Facts, HOST_VIEW_INSIDE, INIT_PATH};
use crate::oci::security::{capabilities, filter, profile};
use crate::oci::user;
use crate::record::container::{ContainerRecord, ExitRecord, LiveState, process_start};
use crate::record::file::write_json;
use crate::record::paths::{HOSTNAME, HOSTS, LOWER, Paths, RESOLV_CONF, STAGE, STATE};
use crate::settings::Settings;
use crate::volume::holders;
use crate::volume::populate::populate;
use crate::volume::store::{Turn, VolumeStore};

/// A container whose program runs, and what its monitor must keep open.
pub(crate) struct Launched {
    pub(crate) running: Running,
    pub(crate) live: LiveState,
    /// The root mount: held, so that the kernel has nothing to unmount before the exit is seen.
    pub(crate) root: OwnedFd,
    /// What keeps the published host ports ours.
    pub(crate) held_ports: Vec<HeldPort>,
    /// Its name server.
    pub(crate) dns: Option<Dns>,
}

/// What a start has from the life before, when the monitor starts a container again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Again<'a> {
    /// How the life before ended.
    pub(crate) exit: Option<&'a ExitRecord>,
    /// The places on networks, with addresses and ports, that it had.
    pub(crate) endpoints: &'a [Endpoint],
}

/// A launch that failed, with what it had got hold of by then.
#[derive(Debug)]
pub(crate) struct Aborted {
    pub(crate) error: EngineError,
    pub(crate) live: Option<LiveState>,
}

/// Starts the record's process on these streams.
/// `again`: of a container that its monitor starts again. `passed`: what else of the caller's it gets.
pub(crate) fn launch(
    paths: &Paths,
    record: &ContainerRecord,
    stdio: Stdio,
    again: Again<'_>,
    passed: Passed,
) -> Result<Launched, Box<Aborted>> {
    let mut live = LiveState {
        pid: 0,
        start_ticks: 0,
        monitor: rustix::process::getpid().as_raw_nonzero().get(),
        started: Timestamp::now(),
        cgroup: rbox_runtime::cgroup::CgroupPaths::default(),
        endpoints: Vec::new(),
        published: Vec::new(),
        running: false,
        restart_count: again.exit.map_or(0, |exit| exit.restart_count),
        between: again.exit.cloned(),
    };
    let made = devices(record).and_then(|found| {
        let (record, devices) = found.as_ref().map_or((record, None), |(over, all)| (over, Some(all)));
        carry_out(paths, record, (stdio, passed), &mut live, (again, devices))
    });
    match made {
        Ok(made) => Ok(Launched {
            running: made.running,
            live,
            root: made.root,
            held_ports: made.held_ports,
            dns: made.dns,
        }),
        Err(error) => Err(Box::new(Aborted { error, live: Some(live) })),
    }
}

/// What a launch comes to, but for the live state.
struct Made {
    running: Running,
    root: OwnedFd,
    held_ports: Vec<HeldPort>,
    dns: Option<Dns>,
}

fn carry_out(
    paths: &Paths,
    record: &ContainerRecord,
    (stdio, passed): (Stdio, Passed),
    live: &mut LiveState,
    (again, devices): (Again<'_>, Option<&Edits>),
) -> Result<Made, EngineError> {
    let live_dir = paths.live_of(&record.id);
    let stage = make_stage(&live_dir)?;
    let hierarchy = Hierarchy::detect()?;
    let mut cgroup = make_group(paths, record, hierarchy)?;
    live.cgroup = cgroup.paths().clone();

    let own_user = record.host.id_maps.as_ref().map(UserNamespace::new).transpose()?;
    let Tree { root, volumes, user, still: _still } = tree(paths, record, &stage, own_user.as_ref())?;
    let capabilities = capabilities(record)?;
    let filter = filter(record, capabilities)?;

    let way = attach::way_of(record);
    let held_ports = way.plan(paths, record, live, again.endpoints)?;
    let shared = files::shared(paths, record)?;
    let given_files = given_files(paths, record, live, shared.as_ref())?;
    let mut sharing = sharing::Shared::find(paths, record)?;
    if let (Some(network), false) = (&shared, sharing.namespaces.is_empty()) {
        // All of them go the same way then.
        sharing.namespaces.push((LinuxNamespaceType::Network, network.path()));
    }
    let facts = Facts {
        user: &user,
        capabilities,
        apparmor: profile(&record.host)?,
        given_files,
        contents: (0..record.host.files.len()).map(|number| paths.content(&record.id, number)).collect(),
        volumes,
        joined: sharing.namespaces.clone(),
    };
    let (config, for_hooks) = configure(paths, record, devices, &facts)?;
    let images = image_trees::all(record, &stage)?;
    let given: Vec<(PathBuf, BorrowedFd<'_>)> = images
        .iter()
        .map(|(target, tree)| (target.clone(), tree.as_fd()))
        .chain(sharing.shm.iter().map(|shm| (SHM.into(), shm.as_fd())))
        .collect();
    let joined = open_namespaces(&config)?;
    sharing.check()?;

    let groups: Vec<(String, PathBuf)> =
        cgroup.paths().v1.iter().map(|(names, path)| (names.clone(), path.clone())).collect();
    let mut created = create(Launch {
        spec: &config,
        root: root.as_fd(),
        stage: &stage,
        cgroup: cgroup.clone_into(),
        cgroup_tasks: cgroup.join_fds(),
        cgroups_v1: (!hierarchy.is_v2()).then_some(&groups),
        netns: shared.as_ref().map(|shared| shared.netns.as_fd()),
        user: own_user.as_ref(),
        joined: &joined,
        given: &given,
        state: for_hooks,
        later: None,
        seccomp: filter.as_ref(),
        stdio,
        passed,
    })?;
    narrow(&mut cgroup, record, hierarchy)?;
    live.pid = created.pid();
    live.start_ticks = process_start(live.pid).map_or(0, |(ticks, _)| ticks);
    // Written before the network is touched: a kill from here on leaves all of it to be found.
    write_json(&live_dir.join(STATE), live)?;
    let dns = wire(paths, record, live, way, &mut created)?;
    let running = let_go(paths, record, live, created)?;
    Ok(Made { running, root, held_ports, dns })
}

/// The devices that the container asks for, if any: the record with what they need of its control group, and what they bring.
fn devices(record: &ContainerRecord) -> Result<Option<(ContainerRecord, Edits)>, EngineError> {
    if record.host.device_requests.is_empty() {
        return Ok(None);
    }
    let found = requests::edits(&record.host, &Settings::load()?.cdi_directories())?;
    found.map(|edits| Ok((edits.over(record)?, edits))).transpose()
}

/// The runtime config, and what its hooks get if it has some.
fn configure(
    paths: &Paths,
    record: &ContainerRecord,
    devices: Option<&Edits>,
    facts: &Facts<'_>,
) -> Result<(Spec, Option<State>), EngineError> {
    let mut config = config::build(record, facts)?;
    let state = match devices {
        Some(devices) => bundle::apply(paths, record, devices, &mut config)?,
        None => None,
    };
    Ok((config, state))
}

/// Brings it onto its networks, and says on the host what is to be known there before its program runs.
fn wire(
    paths: &Paths,
    record: &ContainerRecord,
    live: &LiveState,
    way: &dyn Attach,
    created: &mut Created,
) -> Result<Option<Dns>, EngineError> {
    let dns = match way.attach(paths, record, live, created) {
        // A process that is gone has no network to wire: its own reason is the one to tell.
        Err(error) => return Err(created.failure().map_or(error, EngineError::from)),
        Ok(dns) => dns,
    };
    if let Some(file) = &record.host.pid_file {
        std::fs::write(file, live.pid.to_string()).map_err(EngineError::file("write", file))?;
    }
    tell_hello(paths, record, live);
    Ok(dns)
}

/// Its control group. A first process that is made by one between is not alone in a v2 group until that one has gone.
fn make_group(paths: &Paths, record: &ContainerRecord, hierarchy: &Hierarchy) -> Result<Cgroup, EngineError> {
    let mut resources = record.host.resources.clone();
    if has_one_too_few(record, hierarchy) {
        resources.pids_limit = Some(2);
    }
    Ok(Cgroup::create(hierarchy, &group_path(paths, record), &resources)?)
}

/// Sets the limit that is asked for, once only the first process is there.
fn narrow(cgroup: &mut Cgroup, record: &ContainerRecord, hierarchy: &Hierarchy) -> Result<(), EngineError> {
    if has_one_too_few(record, hierarchy) {
        let one = Resources { pids_limit: Some(1), ..Resources::default() };
        trace::step(
            "make the control group",
            "What set it up is gone: its limit can be what was asked for.",
            || cgroup.update(hierarchy, &one),
        )?;
    }
    Ok(())
}

/// Whether its limit of processes is less than its start takes.
fn has_one_too_few(record: &ContainerRecord, hierarchy: &Hierarchy) -> bool {
    let host = &record.host;
    let between = host.id_maps.is_some()
        || matches!(host.pid, PidMode::Container(_))
        || matches!(host.ipc, IpcMode::Container(_));
    between && host.resources.pids_limit == Some(1) && hierarchy.is_v2()
}

/// A container's files, and what is read from them before it starts.
struct Tree {
    root: OwnedFd,
    volumes: Vec<(String, PathBuf)>,
    user: ResolvedUser,
    /// Until the program runs, and can be paused.
    still: Vec<Turn>,
}

fn tree(
    paths: &Paths,
    record: &ContainerRecord,
    stage: &Path,
    own_user: Option<&UserNamespace>,
) -> Result<Tree, EngineError> {
    let _raised = quota::check(paths, record)?;
    let mut root = trace::step(
        "stack the layers",
        "The image's layers, read-only, below one directory for changes.",
        || match own_user {
            None => mount_root(paths, record, stage, record.host.auto_remove),
            Some(_) => mount_as_on_disk(paths, record, stage),
        },
    )?;
    let volumes = ready_volumes(paths, record, root.as_fd())?;
    let still = wait_for_exports(paths, record)?;
    let user = user::of_container(record, root.as_fd(), &record.config.user, &record.host.group_add)?;
    if let Some(own) = own_user {
        root = trace::step(
            "stack the layers with ids mapped",
            "Each layer and the directory for changes are mounted with other owners than on disk: users of the user namespace.",
            || mount_root_in(own, paths, record, stage),
        )?;
    }
    Ok(Tree { root, volumes, user, still })
}

/// Lets the program go, and writes down that it did.
fn let_go(
    paths: &Paths,
    record: &ContainerRecord,
    live: &mut LiveState,
    created: Created,
) -> Result<Running, EngineError> {
    let builtin = builtin(paths, record);
    journal::note(paths, &journal::taken(record, &live.endpoints, builtin.as_ref()));
    let started = created.start().map_err(EngineError::from).and_then(|running| {
        live.running = true;
        live.between = None;
        write_json(&paths.live_of(&record.id).join(STATE), live)?;
        Ok(running)
    });
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            journal::note(paths, &journal::given_up(record, &live.endpoints, builtin.as_ref()));
            return Err(error);
        }
    };
    journal::note_container(paths, record, ContainerAction::Start);
    // Live state goes with a reboot; this stays, and lets the next boot know that the container ran.
    let mark = paths.started_mark(&record.id);
    rbox_sys::own::write(&mark, live.started.to_string()).map_err(EngineError::file("write", mark))?;
    Ok(running)
}

/// Where mounts are made that kernels before 6.7 can only make by a path. Not the live directory itself: a mount would hide its
/// lock for that moment, and whoever looks for it would make and take another, in the container's tree.
pub(crate) fn make_stage(live_dir: &Path) -> Result<PathBuf, EngineError> {
    let stage = live_dir.join(STAGE);
    match std::fs::create_dir(&stage) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(EngineError::file("make directory", stage)(error))
        }
        _ => Ok(stage),
    }
}

fn open_dir(path: &Path) -> Result<File, EngineError> {
    File::options()
        .read(true)
        .custom_flags(OFlags::DIRECTORY.bits() as i32)
        .open(path)
        .map_err(EngineError::file("open", path))
}

/// The container's tree as a detached mount: its layers, below what it has written. `volatile`: nothing of that has to last.
pub(crate) fn mount_root(
    paths: &Paths,
    record: &ContainerRecord,
    stage: &Path,
    volatile: bool,
) -> Result<OwnedFd, EngineError> {
    let (upper, work) = (record.upper(paths), record.work(paths));
    mount_layers(&base::layers(paths, record), &upper, &work, &paths.container(&record.id), stage, volatile)
}

/// What it is made of, as it is owned on disk: what volumes are filled from, and users are looked up in. Nobody writes to it, so another
/// can be mounted beside it.
fn mount_as_on_disk(paths: &Paths, record: &ContainerRecord, stage: &Path) -> Result<OwnedFd, EngineError> {
    let mut lowers = lowers(&base::layers(paths, record), &paths.container(&record.id))?;
    lowers.push(record.upper(paths));
    Ok(mount_read_only(&lowers, stage)?)
}

/// The same in a user namespace: what is the container's on disk is its users'.
fn mount_root_in(
    own: &UserNamespace,
    paths: &Paths,
    record: &ContainerRecord,
    stage: &Path,
) -> Result<OwnedFd, EngineError> {
    let lowers = lowers(&base::layers(paths, record), &paths.container(&record.id))?;
    let (upper, work) = (&record.upper(paths), &record.work(paths));
    Ok(own.mount_layers(&Overlay {
        lowers: &lowers,
        upper,
        work,
        volatile: record.host.auto_remove,
        stage,
    })?)
}

/// Layers, base first, below what is written, as a detached mount. `dir`: where an empty layer is made when there is none.
pub(crate) fn mount_layers(
    layers: &[PathBuf],
    upper: &Path,
    work: &Path,
    dir: &Path,
    stage: &Path,
    volatile: bool,
) -> Result<OwnedFd, EngineError> {
    let lowers = lowers(layers, dir)?;
    Ok(Overlay { lowers: &lowers, upper, work, volatile, stage }.mount()?)
}

/// The layers, or one that is empty in `dir`.
fn lowers(layers: &[PathBuf], dir: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let mut lowers = layers.to_vec();
    if lowers.is_empty() {
        // An image without layers: overlayfs wants one, so it gets one that is empty.
        let empty = dir.join(LOWER);
        match std::fs::create_dir(&empty) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(EngineError::file("make directory", empty)(error));
            }
            _ => lowers.push(empty),
        }
    }
    Ok(lowers)
}

/// The directory of each volume; a new one gets what the image has at its target.
pub(crate) fn ready_volumes(
    paths: &Paths,
    record: &ContainerRecord,
    root: BorrowedFd<'_>,
) -> Result<Vec<(String, PathBuf)>, EngineError> {
    let store = VolumeStore::of(paths);
    let mut ready = Vec::new();
    for mount in &record.host.mounts {
        match &mount.kind {
            MountKind::Volume { name: Some(name), no_copy, subpath, .. } => {
                // It was made with the container; one that was removed by hand since is made again.
                let new = volumes::new_volume(&mount.kind);
                let volume = store.ensure(name, &new, rbox_sys::durable::Lasting::Later)?;
                userns::check_volume(&record.host, &volume)?;
                holders::hold(paths, &volume, &record.id)?;
                let target = Path::new(&mount.target);
                if !no_copy
                    && let Ok(image) = file::open_in_root(root, target, OFlags::RDONLY | OFlags::DIRECTORY, 0)
                {
                    let data = open_dir(&volume.mountpoint)?;
                    let below = Path::new(if subpath.is_empty() { "." } else { subpath });
                    // A file, or what is not there, gets nothing; the mount tells of it.
                    if let Ok(place) = file::open_in_root(&data, below, OFlags::RDONLY | OFlags::DIRECTORY, 0)
                    {
                        let turn = store.turn_to_fill(name)?;
                        populate(image.as_fd(), place.as_fd(), &turn)?;
                    }
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

/// Waits until no volume of the container is exported while its containers stand still. As long as what comes back is kept, no such export
/// begins: it would not find a container to pause.
fn wait_for_exports(paths: &Paths, record: &ContainerRecord) -> Result<Vec<Turn>, EngineError> {
    let store = VolumeStore::of(paths);
    let names = volumes::volumes_of(record).map(|(name, _)| name);
    // Whoever wants its end meanwhile need not wait for that.
    let is_wanted = || stop_mark::asked_to_end(paths, &record.id).is_none();
    names.map(|name| Ok(store.turn(name, How::Shared, &is_wanted)?)).collect()
}

/// hosts, hostname and resolv.conf, and the small init. What the container can write stands in its own directory on disk, with
/// its other changes: on the state directory it could fill the host's memory.
fn given_files(
    paths: &Paths,
    record: &ContainerRecord,
    live: &LiveState,
    shared: Option<&Shared>,
) -> Result<Vec<EngineFile>, EngineError> {
    let mut given = Vec::new();
    // Whoever has the network has the files that tell of it.
    let of_network = shared.map_or(&record.id, |shared| &shared.owner);
    for (target, name) in NETWORK_FILES {
        let source = paths.given_file(of_network, name);
        if shared.is_none() {
            let text = match name {
                HOSTS => files::hosts(paths, record, live)?,
                HOSTNAME => format!("{}\n", record.config.hostname),
                _ => files::resolv_conf(record)?,
            };
            give(&source, &text)?;
        } else if !source.exists() {
            continue;
        }
        given.push(EngineFile { target, source, read_only: false });
    }
    if record.embedded {
        let source = paths.given_file(&record.id, HOST_VIEW);
        give(&source, "")?;
        given.push(EngineFile { target: HOST_VIEW_INSIDE, source, read_only: true });
    }
    if record.host.init {
        given.push(EngineFile { target: INIT_PATH, source: crate::own_file::path()?, read_only: true });
    }
    Ok(given)
}

/// Writes a file that the container gets.
fn give(path: &Path, text: &str) -> Result<(), EngineError> {
    use rbox_sys::trace;
    trace::step(
        "write its files",
        "They tell the container its name and where it is; each container has its own.",
        || {
            let told = || format!("{}, {text:?}", trace::quoted(path));
            trace::call("write", told, || rbox_sys::own::write(path, text).map(|()| text.len()))
        },
    )
    .map(drop)
    .map_err(EngineError::file("write", path))
}

pub(crate) const NETWORK_FILES: [(&str, &str); 3] =
    [("/etc/hosts", HOSTS), ("/etc/hostname", HOSTNAME), ("/etc/resolv.conf", RESOLV_CONF)];
const HOST_VIEW: &str = "host-view";

/// Tells the embedded image's process how the host sees it: the file was empty until its pid was known.
fn tell_hello(paths: &Paths, record: &ContainerRecord, live: &LiveState) {
    if record.embedded {
        // Without it the program shows only its own view.
        let _ = rbox_sys::own::write(
            &paths.given_file(&record.id, HOST_VIEW),
            crate::embedded::host_view(record, live),
        );
    }
}
