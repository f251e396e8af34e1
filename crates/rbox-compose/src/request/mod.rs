//! From a service to what the engine is asked for: one request a container.

mod files;
mod limits;
mod mounts;
mod networks;
mod process;
mod security;

use std::collections::BTreeMap;

use rbox_engine::engine::CreateRequest;
use rbox_spec::container::{HostConfig, IpcMode, LogDriver, PidMode};
use rbox_spec::health::EAGER;
use rbox_spec::restart::RestartPolicy;
use rbox_spec::userns::{IdFlags, UsernsMode};

use crate::error::RunError;
use crate::labels;
use crate::model::{Condition, Project, RestartPolicy as Wanted, Service};

pub(crate) use files::Files;
pub(crate) use mounts::Kept;
pub use networks::container_name;
pub(crate) use process::whole_seconds;

/// What a container of a service is made from.
pub(crate) struct Making<'a> {
    pub(crate) project: &'a Project,
    pub(crate) service: &'a Service,
    /// Which of the service's containers, from 1.
    pub(crate) number: u32,
    /// Its name.
    pub(crate) name: String,
    /// The id of its image.
    pub(crate) image_id: &'a str,
    /// The anonymous volumes of the container that it takes the place of.
    pub(crate) kept: &'a [Kept],
    /// The id of a service's first container, for what shares something with it.
    pub(crate) peer: &'a dyn Fn(&str) -> Option<String>,
    /// It answers to the service's name on its networks.
    pub(crate) aliases: bool,
}

impl Making<'_> {
    /// The request for it.
    ///
    /// # Errors
    /// The service asks for what there is not, or what cannot be.
    pub(crate) fn request(&self) -> Result<CreateRequest, RunError> {
        let service = self.service;
        self.refuse_unsupported()?;
        let name = self.name.parse().map_err(|error| self.refused("container_name", error))?;
        let files = self.files()?;
        let (given, contents) = files.given.into_iter().unzip();
        let mut host = self.host()?;
        host.mounts.extend(files.mounts);
        host.files = given;
        Ok(CreateRequest {
            image: image_name(self.project, service),
            command: service.command.clone().unwrap_or_default(),
            entrypoint: service.entrypoint.clone(),
            name: Some(name),
            embedded: false,
            config: self.config()?,
            host,
            contents,
        })
    }

    /// An error that names the service and the key.
    fn refused(&self, key: &str, why: impl std::fmt::Display) -> RunError {
        RunError::Service { service: self.service.name.clone(), why: format!("{key}: {why}") }
    }

    /// Keys that mean a wall or a device are not passed over in silence.
    fn refuse_unsupported(&self) -> Result<(), RunError> {
        const WINDOWS: &str = "it is for containers of Windows: take the key out";
        const REAL_TIME: &str = "real-time shares of processors need control groups of version 1 and a kernel with CONFIG_RT_GROUP_SCHED, which hosts of today do not have: take the key out";
        let service = self.service;
        let is_own_runtime =
            matches!(service.runtime.as_str(), "" | "rbox" | "runc" | "io.containerd.runc.v2");
        let refused = [
            (
                "runtime",
                !is_own_runtime,
                "rbox runs its containers itself, and hands them to no other runtime: take the key out",
            ),
            ("isolation", !matches!(service.isolation.as_str(), "" | "default"), WINDOWS),
            (
                "models",
                !service.models.is_empty(),
                "what serves models is a part of Docker's engine: name a server in environment, or a service with a provider",
            ),
            (
                "use_api_socket",
                service.use_api_socket,
                "rbox has no API socket that a container could be given: take the key out",
            ),
            ("credential_spec", service.credential_spec.is_some(), WINDOWS),
            ("cpu_rt_runtime", service.cpu_rt_runtime != 0, REAL_TIME),
            ("cpu_rt_period", service.cpu_rt_period != 0, REAL_TIME),
        ];
        match refused.into_iter().find(|(_, given, _)| *given) {
            Some((key, _, why)) => Err(self.refused(key, why)),
            None => Ok(()),
        }
    }

    fn host(&self) -> Result<HostConfig, RunError> {
        let service = self.service;
        let mut host = HostConfig {
            mounts: self.mounts()?,
            volumes_from: self.volumes_from()?,
            resources: self.resources()?,
            cap_add: service.cap_add.clone(),
            cap_drop: service.cap_drop.clone(),
            privileged: service.privileged,
            group_add: service.group_add.clone(),
            read_only: service.read_only,
            devices: self.devices()?,
            device_requests: self.device_requests(),
            ulimits: self.ulimits()?,
            shm_size: Some(service.shm_size).filter(|bytes| *bytes > 0),
            storage_opt: service.storage_opt.clone(),
            sysctls: service.sysctls.clone(),
            oom_score_adj: i32::try_from(service.oom_score_adj).ok().filter(|score| *score != 0),
            restart: self.restart()?,
            cgroup_parent: Some(service.cgroup_parent.clone()).filter(|parent| !parent.is_empty()),
            cgroupns_host: service.cgroup == "host",
            pid: self.pid()?,
            uts_host: service.uts == "host",
            ipc: self.ipc()?,
            annotations: self.annotations(),
            log_driver: self.log_driver()?,
            log_opts: service.logging.as_ref().map(|logging| logging.options.clone()).unwrap_or_default(),
            init: service.init.unwrap_or(false),
            userns: self.userns()?,
            extra_hosts: service.extra_hosts.iter().map(|host| host.replacen('=', ":", 1)).collect(),
            dns: service.dns.clone(),
            dns_search: service.dns_search.clone(),
            dns_options: service.dns_opt.clone(),
            ports: self.ports()?,
            ..HostConfig::default()
        };
        self.apply_security(&mut host)?;
        self.apply_networks(&mut host)?;
        Ok(host)
    }

    /// The user's, and the service's definition: what has changed since is told from it.
    fn annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = self.service.annotations.clone();
        // Others wait for it: it need not be ready for an interval before anybody looks.
        annotations.entry(EAGER.into()).or_insert_with(|| "true".into());
        annotations.insert(labels::DEFINITION.into(), self.service.canonical().to_string());
        annotations
    }

    fn restart(&self) -> Result<RestartPolicy, RunError> {
        let deploy = self.service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref());
        let text = match deploy {
            Some(wanted) if self.service.restart.is_empty() => of_deploy(wanted),
            _ => self.service.restart.clone(),
        };
        if text.is_empty() {
            return Ok(RestartPolicy::default());
        }
        text.parse().map_err(|error| self.refused("restart", error))
    }

    /// The container that `service:NAME` or `container:NAME` shares with.
    fn shared_with(&self, key: &str, mode: &str) -> Result<Option<String>, RunError> {
        if let Some(name) = mode.strip_prefix("container:") {
            return Ok(Some(name.to_owned()));
        }
        let Some(service) = mode.strip_prefix("service:") else { return Ok(None) };
        match (self.peer)(service) {
            Some(id) => Ok(Some(id)),
            None => Err(self.refused(key, format_args!("there is no container of service {service:?}"))),
        }
    }

    fn pid(&self) -> Result<PidMode, RunError> {
        match self.service.pid.as_str() {
            "" | "private" => Ok(PidMode::Private),
            "host" => Ok(PidMode::Host),
            mode => match self.shared_with("pid", mode)? {
                Some(id) => Ok(PidMode::Container(id)),
                None => Err(self.refused("pid", format_args!("invalid PID mode: {mode:?}"))),
            },
        }
    }

    fn ipc(&self) -> Result<IpcMode, RunError> {
        match self.service.ipc.as_str() {
            "" | "private" => Ok(IpcMode::Private),
            "shareable" => Ok(IpcMode::Shareable),
            "none" => Ok(IpcMode::None),
            "host" => Ok(IpcMode::Host),
            mode => match self.shared_with("ipc", mode)? {
                Some(id) => Ok(IpcMode::Container(id)),
                None => Err(self.refused("ipc", format_args!("invalid IPC mode: {mode:?}"))),
            },
        }
    }

    fn log_driver(&self) -> Result<LogDriver, RunError> {
        let driver = self.service.logging.as_ref().map_or("", |logging| logging.driver.as_str());
        driver.parse().map_err(|error| self.refused("logging.driver", error))
    }

    fn userns(&self) -> Result<String, RunError> {
        let mode = &self.service.userns_mode;
        UsernsMode::parse(mode, &IdFlags::default()).map_err(|error| self.refused("userns_mode", error))?;
        Ok(mode.clone())
    }
}

/// Refuses what a service asks for that cannot be, before anything is made of the project.
///
/// # Errors
/// As [`Making::request`].
pub(crate) fn check(project: &Project, service: &Service) -> Result<(), RunError> {
    // There is nothing to make of what somebody else provides.
    if service.provider.is_some() {
        return Ok(());
    }
    // Whoever it shares something with will be there by then.
    let peer = |_: &str| Some("0".repeat(64));
    let making = Making {
        project,
        service,
        number: 1,
        name: container_name(project, service, 1),
        image_id: "",
        kept: &[],
        peer: &peer,
        aliases: true,
    };
    making.request().map(drop)
}

/// The name of a service's image: of the file, or of what is built for it.
pub fn image_name(project: &Project, service: &Service) -> String {
    if service.image.is_empty() {
        format!("{}-{}", project.name, service.name)
    } else {
        service.image.clone()
    }
}

/// The images that a service mounts.
pub fn mounted_images(project: &Project, service: &Service) -> impl Iterator<Item = String> {
    let images = service.volumes.iter().filter(|mount| mount.kind == "image");
    images.map(|mount| mounted_image(project, &mount.source))
}

/// The image of a mount: what is built for a service of that name, or else an image of that name.
fn mounted_image(project: &Project, source: &str) -> String {
    let services = [&project.services, &project.disabled_services];
    let mut named = services.into_iter().filter_map(|services| services.get(source));
    match named.find(|service| service.build.is_some()) {
        Some(service) => image_name(project, service),
        None => source.to_owned(),
    }
}

fn of_deploy(wanted: &Wanted) -> String {
    match (wanted.condition.as_str(), wanted.max_attempts) {
        ("none" | "no", _) => "no".to_owned(),
        ("on-failure", Some(most)) => format!("on-failure:{most}"),
        ("on-failure", None) => "on-failure".to_owned(),
        ("unless-stopped", _) => "unless-stopped".to_owned(),
        _ => "always".to_owned(),
    }
}

/// `NAME:CONDITION:RESTART`, with commas, as Compose has it.
pub(crate) fn depends_on_label(service: &Service) -> String {
    let condition = |condition: Condition| match condition {
        Condition::Started => "service_started",
        Condition::Healthy => "service_healthy",
        Condition::CompletedSuccessfully => "service_completed_successfully",
    };
    let words = service
        .depends_on
        .iter()
        .map(|(name, on)| format!("{name}:{}:{}", condition(on.condition), on.restart));
    words.collect::<Vec<_>>().join(",")
}
