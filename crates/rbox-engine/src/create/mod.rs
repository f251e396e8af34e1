//! From an image and the user's words to a container's record.

pub(crate) mod check;
pub(crate) mod contents;
pub(crate) mod network;
pub(crate) mod request;
pub(crate) mod security;
pub(crate) mod userns;
pub(crate) mod volumes_from;

use std::collections::HashSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use jiff::Timestamp;
use rbox_image::{Image, ImageStore, RunConfig};
use rbox_spec::container::{ContainerConfig, HostConfig, NetworkMode};
use rbox_spec::given::Content;
use rbox_spec::health::Healthcheck;
use rbox_spec::id::ContainerId;
use rbox_spec::mount::{MountKind, MountSpec};
use rbox_spec::port::{PortMapping, parse_expose};
use rbox_sys::durable::{self, Lasting};
use rbox_sys::removal::remove_tree;

use crate::containers::trash::{self, Told};
use crate::containers::unfinished::unfinished_record;
use crate::containers::{image_trees, name, quota, random_name, volumes};
use crate::create::check::check;
use crate::create::request::CreateRequest;
use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::oci::config::{device_rules, merge_env};
use crate::record::container::{ContainerRecord, lasting};
use crate::record::file::RecordError;
use crate::record::paths::{CONFIG, Paths, UPPER, WORK};

/// What a container's files are at first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Base<'a> {
    /// Those of an image.
    Image(&'a ImageStore, &'a Image),
    /// Those in a directory of the host, which stays as it is.
    Directory(&'a Path),
}

/// Writes down a new container. Nothing of it runs.
pub(crate) fn create(
    paths: &Paths,
    base: Base<'_>,
    mut request: CreateRequest,
) -> Result<ContainerRecord, EngineError> {
    crate::create::network::check(&request)?;
    // Before the image's volumes are: none is made where one of these is.
    crate::create::volumes_from::add(paths, &mut request.host)?;
    let by_default = userns::add_default(&mut request.host)?;
    contents::check(&request)?;
    let id = new_id()?;
    let named = request.name.is_some();
    let contents = std::mem::take(&mut request.contents);
    let mut record = assemble(id, base, request)?;
    crate::networks::resolve::resolve(paths, &mut record)?;
    crate::containers::sharing::resolve(paths, &mut record.host)?;
    check(&record)?;
    let _turn = userns::resolve(paths, &mut record).map_err(|error| by_default.explain(error))?;
    crate::containers::sharing::check_users(paths, &record.host)?;
    let _mounted = image_trees::resolve(paths, &mut record.host)?;
    // The image cannot be removed between here and the record that shows its use.
    let _pin = match base {
        Base::Image(store, image) => Some(store.pin(image).map_err(image_error)?),
        Base::Directory(_) => None,
    };
    // The record names the volumes before they are made, so that a kill leaves none that nothing names.
    volumes::name_anonymous(&mut record)?;
    let written = write_record(paths, &mut record, named, &contents)
        .and_then(|()| volumes::ensure_all(paths, &record).map_err(EngineError::from));
    if written.is_err() {
        // The place first: a name may be given up only when nothing is there that has it.
        let _ = trash::hide_record(paths, &record)
            .and_then(|_| trash::delete_hidden(paths, &record, true, Told::Already));
        let unfinished = unfinished_record(paths, &record.id);
        quota::give_back(&unfinished);
        let _ = remove_tree(&unfinished);
        name::release_name(paths, &record.name, &record.id);
    }
    written?;
    note_container(paths, &record, ContainerAction::Create);
    Ok(record)
}

/// A store's error as the engine's.
pub(crate) fn image_error(error: rbox_image::StoreError) -> EngineError {
    EngineError::Image(error)
}

pub(crate) fn new_id() -> Result<ContainerId, EngineError> {
    loop {
        let mut bytes = [0_u8; 32];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| rbox_sys::SysError::new("getrandom", "32 bytes".into(), e))?;
        let id = ContainerId::from_bytes(&bytes);
        // The short id is the host name, and resolvers take one of digits alone for an address (one id in 300).
        if id.short().bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

/// Lays what the user said over the image's configuration.
fn assemble(id: ContainerId, base: Base<'_>, request: CreateRequest) -> Result<ContainerRecord, EngineError> {
    let none = RunConfig::default();
    let (run, image) = match base {
        Base::Image(_, image) => (&image.config.config, Some(image)),
        Base::Directory(_) => (&none, None),
    };
    let (entrypoint, cmd) = command_of(run, &request);
    let CreateRequest { name, image: image_name, embedded, config, mut host, .. } = request;
    add_image_volumes(&mut host, run.volumes.keys())?;
    host.resources.all_devices = host.privileged;
    host.resources.device_cgroup_rules.extend(device_rules(&host.devices));
    let mut config = ContainerConfig { entrypoint, cmd, ..over_image(run, config, &host.ports) };
    if config.hostname.is_empty() {
        let is_hosts = host.network == NetworkMode::Host || host.uts_host;
        config.hostname = if is_hosts { host_name() } else { id.short().to_owned() };
    }
    Ok(ContainerRecord {
        name: name.unwrap_or_else(|| random_name::generate(0)),
        created: Timestamp::now(),
        image: image_name,
        image_id: image.map(|image| image.id.to_string()).unwrap_or_default(),
        image_manifest: image.map(|image| image.manifest_digest.to_string()).unwrap_or_default(),
        platform: image.map(|image| image.platform.to_string()).unwrap_or_default(),
        layers: match base {
            Base::Image(_, image) => image.overlay_layers().iter().map(|layer| layer.dir.clone()).collect(),
            Base::Directory(dir) => vec![dir.to_owned()],
        },
        embedded,
        build_step: None,
        config,
        host,
        id,
    })
}

/// The user's configuration with what only the image says. Lists and tables have both.
fn over_image(image: &RunConfig, user: ContainerConfig, published: &[PortMapping]) -> ContainerConfig {
    let or_image = |user: String, image: &str| if user.is_empty() { image.to_owned() } else { user };
    let env = env_over(&image.env, &user.env);
    let mut labels = image.labels.clone();
    labels.extend(user.labels);
    let given = image.exposed_ports.keys().chain(&user.exposed_ports);
    // `80` and `80/tcp` are one port, a range is several. What is none was refused, or is the image's to show.
    let mut exposed_ports: Vec<String> = given
        .flat_map(|text| match parse_expose(text) {
            Ok(ports) => ports.iter().map(ToString::to_string).collect(),
            Err(_) => vec![text.clone()],
        })
        .collect();
    // What is published is exposed, too, as Docker's client has it.
    exposed_ports.extend(published.iter().map(|mapping| mapping.container().to_string()));
    exposed_ports.sort();
    exposed_ports.dedup();
    ContainerConfig {
        user: or_image(user.user, &image.user),
        env,
        working_dir: clean_path(&or_image(user.working_dir, &image.working_dir)),
        labels,
        exposed_ports,
        volumes: image.volumes.keys().cloned().collect(),
        stop_signal: user.stop_signal.or_else(|| image.stop_signal.clone()),
        stop_timeout: user.stop_timeout.or(image.stop_timeout),
        healthcheck: health_of(image.healthcheck.as_ref(), user.healthcheck),
        shell: image.shell.clone().unwrap_or_default(),
        ..user
    }
}

/// The user's variables, and behind them what only the image has, in Docker's order. A name alone takes the image's away.
fn env_over(image: &[String], user: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut env = Vec::new();
    merge_env(&mut env, user);
    let known: HashSet<String> = user.iter().map(|variable| name(variable)).collect();
    env.extend(image.iter().filter(|variable| !known.contains(&name(variable))).cloned());
    env
}

/// The user's health check with what only the image says. One that is switched off says no more than that.
pub(crate) fn health_of(image: Option<&Healthcheck>, user: Option<Healthcheck>) -> Option<Healthcheck> {
    let check = match user {
        Some(user) => user.over(image),
        None => image.cloned()?,
    };
    (check != Healthcheck::default()).then_some(check)
}

/// `/a/./b/../c` as `/a/c`, which is how Docker reads a working directory. What is not absolute is left for `check`.
pub(crate) fn clean_path(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned();
    }
    let mut clean = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(clean.pop()),
            part => clean.push(part),
        }
    }
    format!("/{}", clean.join("/"))
}

pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Docker's rule: an entrypoint of the user's takes the image's command away too, unless it has no words.
fn command_of(image: &RunConfig, request: &CreateRequest) -> (Vec<String>, Vec<String>) {
    let words = request.entrypoint.as_deref();
    let cmd = match &request.command {
        command if command.is_empty() && words.unwrap_or_default().is_empty() => image.cmd.clone(),
        command => Some(command.clone()),
    };
    let entrypoint = match words {
        Some([empty]) if empty.is_empty() => Some(Vec::new()),
        Some(words) => Some(words.to_vec()),
        None => image.entrypoint.clone(),
    };
    (entrypoint.unwrap_or_default(), cmd.unwrap_or_default())
}

/// An anonymous volume for each `VOLUME` of the image that the user mounts nothing on.
fn add_image_volumes<'a>(
    host: &mut HostConfig,
    targets: impl Iterator<Item = &'a String>,
) -> Result<(), EngineError> {
    let given = host.files.iter().map(|file| file.target.clone());
    let mut taken: HashSet<String> =
        host.mounts.iter().map(|mount| mount.target.clone()).chain(given).collect();
    for target in targets {
        let spec = MountSpec::parse_volume(target, None)
            .map_err(|e| EngineError::Damaged(format!("the image's VOLUME {target:?}: {e}")))?;
        if !matches!(spec.kind, MountKind::Volume { anonymous: true, .. }) || spec.read_only {
            return Err(EngineError::Damaged(format!("the image's VOLUME {target:?} is not a path")));
        }
        if taken.insert(spec.target.clone()) {
            host.mounts.push(spec);
        }
    }
    Ok(())
}

/// Takes a name for the record, then puts the record in its place: whoever sees it sees it whole, and by a name that is its own.
/// A name that the user did not give (`named`) is another when it is taken.
pub(crate) fn write_record(
    paths: &Paths,
    record: &mut ContainerRecord,
    named: bool,
    contents: &[Content],
) -> Result<(), EngineError> {
    // Made under another name, which says who makes it: a name that leads to it is held as long as that process runs.
    let dir = unfinished_record(paths, &record.id);
    let make = |path: &Path, mode| {
        std::fs::DirBuilder::new()
            .mode(mode)
            .recursive(true)
            .create(path)
            .map_err(EngineError::file("make directory", path))
    };
    if !paths.containers().is_dir() {
        make(&paths.root, 0o700)?;
        make(&paths.containers(), 0o700)?;
        make(&paths.names(), 0o700)?;
    }
    make(&dir, 0o700)?;
    make(&dir.join(WORK), 0o700)?;
    // The upper directory's mode is that of the container's `/`.
    make(&dir.join(UPPER), 0o755)?;
    quota::take(&dir, &record.host.storage_opt)?;
    contents::write(&dir, contents, lasting(&record.host))?;
    userns::write_ids(&dir, &record.host)?;
    take_some_name(paths, record, named, &dir.join(CONFIG))?;
    let place = paths.container(&record.id);
    std::fs::rename(&dir, &place).map_err(EngineError::file("rename to", &place))?;
    settle(paths, record)
}

/// Makes the directories of a container's own layer again, those that are gone. `dir`: the container's.
pub(crate) fn make_own_layer(dir: &Path) -> Result<(), EngineError> {
    for (name, mode) in [(WORK, 0o700), (UPPER, 0o755)] {
        let path = dir.join(name);
        rbox_sys::own::make_directory(&path, mode).map_err(EngineError::file("make directory", path))?;
    }
    Ok(())
}

/// Writes the record, then takes the name that it has: should this be killed, the record says which name to give up.
fn take_some_name(
    paths: &Paths,
    record: &mut ContainerRecord,
    named: bool,
    config: &Path,
) -> Result<(), EngineError> {
    let mut attempt = 0;
    loop {
        write_first(config, record)?;
        match name::take_name(paths, &record.name, &record.id) {
            Err(EngineError::NameTaken { .. }) if !named && attempt < 1000 => {
                attempt += 1;
                record.name = random_name::generate(attempt);
                std::fs::remove_file(config).map_err(EngineError::file("remove", config))?;
            }
            other => return other,
        }
    }
}

/// Writes `config.json` into a directory that nobody else knows.
fn write_first(path: &Path, record: &ContainerRecord) -> Result<(), EngineError> {
    let format = |error| RecordError::format(path, error);
    let text = rbox_spec::record::encode(record).map_err(format)?;
    rbox_sys::trace::call(
        "write",
        || format!("{}, {} bytes", rbox_sys::trace::quoted(path), text.len()),
        || durable::write_new(path, &text, lasting(&record.host)).map(|()| text.len()),
    )
    .map(drop)
    .map_err(EngineError::file("write", path))
}

/// From here on a power cut does not take the container away.
fn settle(paths: &Paths, record: &ContainerRecord) -> Result<(), EngineError> {
    if lasting(&record.host) == Lasting::Later {
        return Ok(());
    }
    for dir in [paths.container(&record.id), paths.containers()] {
        durable::sync_dir(&dir).map_err(EngineError::file("fsync", dir))?;
    }
    name::settle_names(paths, record)
}
