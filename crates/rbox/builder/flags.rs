//! The options of `build`, and what they mean.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rbox_build::dockerfile::IncludeError;
use rbox_build::{
    Allowed, Arrived, BuildRequest, Context, NamedContext, OnError, Output, Reasons, include, is_remote,
};
use rbox_engine::spec::container::{Attachment, HostConfig, NetworkMode};
use rbox_engine::spec::mount::{MountKind, MountSpec};
use rbox_engine::spec::resources::Resources;
use rbox_engine::spec::ulimit::Ulimit;
use rbox_engine::spec::{Platform, Reference};

use crate::args::limits::size;
use crate::args::platform::{default_platform, parse_platform};
use crate::args::secret;
use crate::builder::words::is_descriptor;
use crate::command::error::{Coded, bad_input};
use crate::output::table::write_all;

/// What is built, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildFlags {
    /// Add a host's name to /etc/hosts of RUN (NAME:IP, or NAME:host-gateway)
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// Allow what a Dockerfile may ask for: network.host, security.insecure, device (all), device=NAME[,alias=NAME IN THE
    /// DOCKERFILE], cache.host=DIRECTORY (for RUN --mount=type=cache,source=host:DIRECTORY)
    #[arg(long, value_name = "WHAT")]
    allow: Vec<String>,
    /// Set a variable of ARG (NAME=VALUE, or NAME for the environment's)
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// A further context, for FROM and --from (NAME=DIRECTORY, NAME=URL, or NAME=docker-image://IMAGE)
    #[arg(long, value_name = "NAME=CONTEXT")]
    build_context: Vec<String>,
    /// The cgroup that those of RUN are made in
    #[arg(long, value_name = "GROUP")]
    cgroup_parent: Option<String>,
    /// Length of the CPU's period in microseconds, for RUN
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// Microseconds of CPU time in each period, for RUN
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Relative weight of CPU time, for RUN
    #[arg(short = 'c', long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// CPUs for RUN, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes for RUN, such as 0,1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// The Dockerfile: a path, or - for standard input (default: Dockerfile in the context)
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Set a label of the image (NAME=VALUE)
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Limit of memory for RUN, such as 512m
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Limit of memory and swap together for RUN; -1 for no limit of swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// The network of RUN: default, none, host, or a network's name
    #[arg(long, value_name = "NETWORK", default_value = "default")]
    network: String,
    /// Use nothing of the cache
    #[arg(long)]
    no_cache: bool,
    /// Use nothing of the cache for these stages
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// The platforms that images are made for, all under one name (OS/ARCH[/VARIANT], or local for this machine's)
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    platform: Vec<String>,
    /// Pull images also when they are there
    #[arg(long)]
    pull: bool,
    /// A secret for RUN --mount=type=secret (id=NAME[,src=FILE], id=NAME,env=VARIABLE)
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// Size of /dev/shm of RUN
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// An agent for RUN --mount=type=ssh (default, or ID=SOCKET)
    #[arg(long, value_name = "AGENT")]
    ssh: Vec<String>,
    /// Name of the image (NAME[:TAG]); can be given several times
    #[arg(short, long, value_name = "NAME")]
    tag: Vec<String>,
    /// Build this stage
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Limit of one process of RUN (NAME=SOFT[:HARD])
    #[arg(long, value_name = "LIMIT")]
    ulimit: Vec<String>,
    /// Mount a directory of the host in each RUN (SOURCE:TARGET[:ro]); what is in it decides nothing about the cache
    #[arg(short, long, value_name = "SOURCE:TARGET")]
    volume: Vec<String>,
    /// The context: a directory, a URL (of a git repository, an archive or a Dockerfile), or - for an archive or a Dockerfile on
    /// standard input
    #[arg(value_name = "PATH | URL | -")]
    context: String,
}

impl BuildFlags {
    /// What is asked for. Reads the Dockerfile and secrets.
    pub(crate) fn request(&self, build_dir: &Path) -> anyhow::Result<BuildRequest> {
        let names = self.tag.iter().map(|tag| name(tag)).collect::<anyhow::Result<Vec<_>>>()?;
        let build_args = self.build_args()?;
        let (context, file_name, text, file_in_context) = self.files(build_dir)?;
        let contexts = self.contexts(build_dir)?;
        let file = include(&file_name, text, file_in_context.as_deref(), &context, &contexts);
        let file = file.map_err(|error| not_included(&error))?;
        Ok(BuildRequest {
            file_name,
            file,
            file_in_context,
            context,
            rewrite_timestamps: false,
            squash: false,
            annotations: BTreeMap::new(),
            index_annotations: BTreeMap::new(),
            outputs: vec![Output::Store],
            contexts,
            target: self.target.clone().filter(|target| !target.is_empty()),
            build_args,
            labels: pairs(&self.label, "label")?,
            names,
            no_cache: self.no_cache,
            no_cache_stages: self.no_cache_filter.clone(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            inline_cache: false,
            provenance: None,
            pull: self.pull,
            platforms: self.platforms()?,
            host: self.host()?,
            secrets: self.secrets()?,
            agents: self.agents()?,
            allowed: Allowed::parse(self.allow.iter().map(String::as_str)).map_err(bad_input)?,
            on_error: OnError::End,
            reasons: Reasons::First,
            until: None,
        })
    }

    fn platforms(&self) -> anyhow::Result<Vec<Platform>> {
        let mut all = Vec::new();
        if self.platform.is_empty() {
            return Ok(default_platform(None)?.into_iter().collect());
        }
        for text in self.platform.iter().filter(|text| !text.is_empty()) {
            let platform = if text == "local" { Platform::host() } else { parse_platform(text)? };
            if !all.contains(&platform) {
                all.push(platform);
            }
        }
        Ok(all)
    }

    /// Whether the context or the Dockerfile comes by standard input.
    pub(crate) fn reads_standard_input(&self) -> bool {
        self.context == "-" || self.file.as_deref() == Some("-")
    }

    /// The context, and the Dockerfile: what it is called, its text, and its path below the context.
    fn files(&self, build_dir: &Path) -> anyhow::Result<(Context, String, String, Option<String>)> {
        if self.context == "-" {
            if self.file.as_deref() == Some("-") {
                return Err(bad_input(
                    "invalid argument: can't use stdin for both build context and dockerfile",
                ));
            }
            return self.arrived(Arrived::read(std::io::stdin(), build_dir)?);
        }
        // As with Docker, a directory of such a name is a directory.
        if is_remote(&self.context) && !Path::new(&self.context).is_dir() {
            return self.arrived(Arrived::fetch(&self.context, build_dir)?);
        }
        let dir = PathBuf::from(&self.context);
        let meta = std::fs::metadata(&dir).map_err(|error| {
            bad_input(format!("unable to prepare context: path {:?}: {error}", self.context))
        })?;
        if !meta.is_dir() {
            return Err(bad_input(format!(
                "unable to prepare context: path {:?} is no directory (contexts are directories, or - for a Dockerfile alone)",
                self.context
            )));
        }
        let dir = std::path::absolute(&dir).with_context(|| format!("read {}", self.context))?;
        let context = Context::Directory(dir.clone());
        if self.file.as_deref() == Some("-") {
            return Ok((context, "Dockerfile".to_owned(), standard_input()?, None));
        }
        let path = match &self.file {
            Some(file) => PathBuf::from(file),
            None => dir.join("Dockerfile"),
        };
        // As with Docker, a file that is not where it was said may be below the context.
        let path = match (path.exists(), &self.file) {
            (false, Some(file)) if dir.join(file).exists() => dir.join(file),
            (false, None) if dir.join("Containerfile").exists() => dir.join("Containerfile"),
            _ => path,
        };
        let text = read(&path)?;
        // One that is in memory has the name that it would have.
        if is_descriptor(&path) {
            return Ok((context, "Dockerfile".to_owned(), text, None));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // However both are spelled: what it includes is looked for beside it.
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let whole = real(parent.unwrap_or(Path::new("."))).join(path.file_name().unwrap_or_default());
        let below = whole.strip_prefix(real(&dir)).ok().map(|below| below.to_string_lossy().into_owned());
        Ok((context, name, text, below))
    }

    /// The same, of what is no directory of this host.
    fn arrived(&self, arrived: Arrived) -> anyhow::Result<(Context, String, String, Option<String>)> {
        let context = match arrived {
            Arrived::Dockerfile(text) => return Ok((Context::Empty, "Dockerfile".to_owned(), text, None)),
            Arrived::Context(context) => context,
        };
        if self.file.as_deref() == Some("-") {
            let text = standard_input()?;
            return Ok((Context::Fetched(context), "Dockerfile".to_owned(), text, None));
        }
        let name = self.file.as_deref().unwrap_or("Dockerfile");
        if is_descriptor(Path::new(name)) {
            let text = read(Path::new(name))?;
            return Ok((Context::Fetched(context), "Dockerfile".to_owned(), text, None));
        }
        let text = context.file(name)?.ok_or_else(|| {
            anyhow::anyhow!("failed to read dockerfile: open {name}: no such file or directory")
        })?;
        let shown = Path::new(name).file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((Context::Fetched(context), shown, text, Some(name.to_owned())))
    }

    fn contexts(&self, build_dir: &Path) -> anyhow::Result<BTreeMap<String, NamedContext>> {
        let mut all = BTreeMap::new();
        for text in &self.build_context {
            let Some((name, value)) = text.split_once('=') else {
                return Err(bad_input(format!("invalid context value: {text}, expected key=value")));
            };
            let context = match value.strip_prefix("docker-image://") {
                Some(image) => NamedContext::Image(image.to_owned()),
                None if is_remote(value) && !Path::new(value).is_dir() => {
                    match Arrived::fetch(value, build_dir)? {
                        Arrived::Context(context) => NamedContext::Files(Context::Fetched(context)),
                        Arrived::Dockerfile(_) => {
                            return Err(bad_input(format!(
                                "invalid context value: {text}: there is no archive and no repository at it"
                            )));
                        }
                    }
                }
                None if value.contains("://") => {
                    return Err(bad_input(format!(
                        "invalid context value: {text}: a further context is a directory, a URL of a repository or an archive, or docker-image://IMAGE"
                    )));
                }
                None => {
                    let dir =
                        std::path::absolute(Path::new(value)).with_context(|| format!("read {value}"))?;
                    NamedContext::Files(Context::Directory(dir))
                }
            };
            all.insert(name.to_owned(), context);
        }
        Ok(all)
    }

    /// A name without a value has that of the environment, if it is set there; `SOURCE_DATE_EPOCH` has it in any case.
    fn build_args(&self) -> anyhow::Result<BTreeMap<String, String>> {
        const EPOCH: &str = "SOURCE_DATE_EPOCH";
        let mut all = BTreeMap::new();
        let epoch = std::env::var(EPOCH).ok().filter(|text| !text.is_empty());
        all.extend(epoch.map(|text| (EPOCH.to_owned(), text)));
        for text in &self.build_arg {
            match text.split_once('=') {
                Some(("", _)) => return Err(bad_input(format!("invalid build-arg: {text}"))),
                Some((name, value)) => drop(all.insert(name.to_owned(), value.to_owned())),
                None => {
                    if let Ok(value) = std::env::var(text) {
                        all.insert(text.clone(), value);
                    }
                }
            }
        }
        Ok(all)
    }

    /// What each RUN gets from the host.
    fn host(&self) -> anyhow::Result<HostConfig> {
        let network = match self.network.as_str() {
            "default" | "" | "bridge" => (NetworkMode::Bridge, vec![Attachment::to("bridge")]),
            "none" => (NetworkMode::None, Vec::new()),
            "host" => (NetworkMode::Host, Vec::new()),
            name => match name.strip_prefix("container:") {
                Some(other) => (NetworkMode::Container(other.to_owned()), Vec::new()),
                None => (NetworkMode::Bridge, vec![Attachment::to(name)]),
            },
        };
        let swap = match self.memory_swap.as_deref() {
            None => None,
            Some("-1") => Some(-1),
            Some(text) => Some(i64::try_from(size(text)?).unwrap_or(i64::MAX)),
        };
        Ok(HostConfig {
            mounts: self.volumes()?,
            network: network.0,
            attachments: network.1,
            extra_hosts: self.add_host.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
            shm_size: self.shm_size.as_deref().map(size).transpose()?.filter(|bytes| *bytes > 0),
            ulimits: self
                .ulimit
                .iter()
                .map(|text| text.parse::<Ulimit>().map_err(bad_input))
                .collect::<anyhow::Result<_>>()?,
            resources: Resources {
                memory: self.memory.as_deref().map(size).transpose()?,
                memory_swap: swap,
                cpu_period: self.cpu_period,
                cpu_quota: self.cpu_quota,
                cpu_shares: self.cpu_shares,
                cpuset_cpus: self.cpuset_cpus.clone(),
                cpuset_mems: self.cpuset_mems.clone(),
                ..Resources::default()
            },
            ..HostConfig::default()
        })
    }

    /// `--volume`: directories of the host. A volume by name is not for builds.
    fn volumes(&self) -> anyhow::Result<Vec<MountSpec>> {
        let cwd = std::env::current_dir().ok().map(|dir| dir.to_string_lossy().into_owned());
        let read = |text: &String| {
            let mount = MountSpec::parse_volume(text, cwd.as_deref()).map_err(bad_input)?;
            match &mount.kind {
                MountKind::Bind { source, .. } if Path::new(source).exists() => Ok(mount),
                MountKind::Bind { source, .. } => Err(bad_input(format!(
                    "invalid volume {text:?}: bind source path does not exist: {source}"
                ))),
                _ => Err(bad_input(format!(
                    "invalid volume {text:?}: a build mounts directories of the host (SOURCE:TARGET[:ro], SOURCE with a slash)"
                ))),
            }
        };
        self.volume.iter().map(read).collect()
    }

    fn secrets(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        self.secret.iter().map(|text| secret::of_build(text)).collect()
    }

    fn agents(&self) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let mut all = BTreeMap::new();
        for text in &self.ssh {
            let (id, socket) = if let Some((id, socket)) = text.split_once('=') {
                (id, PathBuf::from(socket))
            } else {
                let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
                let socket = socket.ok_or_else(|| {
                    bad_input("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
                })?;
                (text.as_str(), PathBuf::from(socket))
            };
            let id = if id.is_empty() { "default" } else { id };
            all.insert(id.to_owned(), agent(&socket)?);
        }
        Ok(all)
    }
}

/// The socket of an agent, as RUN is given it.
fn agent(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    let found =
        std::fs::metadata(path).map_err(|error| bad_input(format!("invalid ssh agent {shown}: {error}")))?;
    if !found.file_type().is_socket() {
        return Err(bad_input(format!(
            "invalid ssh agent {shown}: it is no socket: keys are held by no agent of this program: ssh-agent sh -c 'ssh-add KEY && rbox build --ssh default …' has one"
        )));
    }
    Ok(std::path::absolute(path)?)
}

/// The name of an image: it has no digest.
pub(crate) fn name(text: &str) -> anyhow::Result<Reference> {
    let name = Reference::parse(text).map_err(|error| bad_input(format!("invalid tag {text:?}: {error}")))?;
    if name.digest().is_some() {
        return Err(bad_input(format!("invalid tag {text:?}: a name with a digest cannot be given")));
    }
    Ok(name.with_default_tag())
}

fn pairs(texts: &[String], what: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some(("", _)) => Err(bad_input(format!("invalid {what}: {text}"))),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Ok((text.clone(), String::new())),
    };
    texts.iter().map(pair).collect()
}

/// Shows the lines that name a file which cannot be included, and makes the one line of the error.
fn not_included(error: &IncludeError) -> anyhow::Error {
    let _ = write_all(&mut std::io::stderr(), &error.excerpt);
    Coded { message: format!("failed to solve: {error}"), code: 1 }.into()
}

fn standard_input() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().take(MOST).read_to_end(&mut bytes).context("read the Dockerfile from standard input")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// No Dockerfile is larger.
const MOST: u64 = 16 << 20;

/// A Dockerfile of this host.
pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    let file = std::fs::File::open(path).map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return anyhow::anyhow!("failed to read dockerfile: open {name}: no such file or directory");
        }
        anyhow::Error::from(error).context(format!("failed to read dockerfile: open {}", path.display()))
    })?;
    let mut bytes = Vec::new();
    file.take(MOST)
        .read_to_end(&mut bytes)
        .with_context(|| format!("failed to read dockerfile {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
