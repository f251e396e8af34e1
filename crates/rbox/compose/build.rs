//! `rbox compose build`: a service's `build` section as the words of `rbox build`.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use clap::Parser;
use rbox_compose::labels;
use rbox_compose::model::{self, Project, Service};

use crate::builder::words::{Words, in_memory};
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::compose::progress::Progress;
use crate::compose::project::{load, options};
use crate::compose::remote::confirm;
use crate::output::escape;

/// Build or rebuild services
#[derive(Debug, Parser)]
#[command(
    name = "build",
    after_help = "Examples:
  rbox compose build                       # all services that have a build section
  rbox compose build --no-cache --pull api
  rbox compose build --build-arg VERSION=2 api
  rbox compose build --print               # the words of rbox build for each"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Build {
    /// Set a variable of ARG (NAME=VALUE, or NAME for the environment's)
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    arguments: Vec<String>,
    /// Accepted: rbox builds by itself
    #[arg(long, value_name = "NAME", hide = true)]
    builder: Option<String>,
    /// Only check the Dockerfiles
    #[arg(long)]
    check: bool,
    /// Limit of memory for RUN, such as 512m
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Use nothing of the cache
    #[arg(long)]
    no_cache: bool,
    /// Show the commands that would be run, and run none
    #[arg(long)]
    print: bool,
    /// Pull images also when they are there
    #[arg(long)]
    pull: bool,
    /// Push what was built
    #[arg(long)]
    push: bool,
    /// A statement of how it was made goes with the image (as rbox build --provenance), whatever the files say
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// A list of what is in the image; rbox makes none: false, or a refusal
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    /// Print only what was built
    #[arg(short, long)]
    quiet: bool,
    /// An agent for RUN --mount=type=ssh (default, or ID=SOCKET)
    #[arg(long, value_name = "AGENT")]
    ssh: Option<String>,
    /// Also the services that these depend on
    #[arg(long)]
    with_dependencies: bool,
    /// Agree to all that is asked
    #[arg(long)]
    yes: bool,
    /// Services; all when left out
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Build {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut wanted = options(global)?;
        wanted.services.clone_from(&self.services);
        let loaded = load(&wanted)?;
        confirm(&loaded, self.yes || self.print || global.project.dry_run)?;
        let project = loaded.project;
        let named: BTreeSet<&String> = self.services.iter().collect();
        let is_meant =
            |service: &Service| named.is_empty() || self.with_dependencies || named.contains(&service.name);
        let more = More {
            build_args: self.arguments.clone(),
            no_cache: self.no_cache,
            pull: self.pull,
            quiet: self.quiet,
            check: self.check,
            memory: self.memory.clone(),
            provenance: self.provenance.clone(),
            sbom: self.sbom.clone(),
            ssh: self.ssh.clone(),
            push: self.push,
            every_platform: true,
        };
        let progress = Progress::new(&global.project, "Building")?;
        let services = in_build_order(&project);
        let meant: Vec<&Service> = services.into_iter().filter(|service| is_meant(service)).collect();
        if !meant.iter().any(|service| service.build.is_some()) {
            return tell_nothing();
        }
        for service in meant {
            if self.print {
                print_words(&project, service, &more)?;
            } else {
                build(global, &project, service, &more, &progress)?;
            }
        }
        Ok(0)
    }
}

fn tell_nothing() -> anyhow::Result<u8> {
    crate::output::table::write_all(&mut std::io::stderr(), "No services to build\n")?;
    Ok(0)
}

fn print_words(project: &Project, service: &Service, more: &More) -> anyhow::Result<()> {
    let Some(build) = &service.build else { return Ok(()) };
    let mut held = Vec::new();
    let words = words(project, service, build, more, &mut held)?;
    let line: Vec<String> = words.iter().map(|word| escape::shell(word)).collect();
    crate::output::lines::say(&format!("rbox build {}", line.join(" ")))
}

/// What is asked of a build besides what the files say.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct More {
    pub(crate) build_args: Vec<String>,
    pub(crate) no_cache: bool,
    pub(crate) pull: bool,
    pub(crate) quiet: bool,
    pub(crate) check: bool,
    pub(crate) memory: Option<String>,
    pub(crate) provenance: Option<String>,
    pub(crate) sbom: Option<String>,
    pub(crate) ssh: Option<String>,
    /// To where the service's image comes from; one that has no name of its own goes nowhere.
    pub(crate) push: bool,
    /// For all platforms that the file names; else for the one that is run.
    pub(crate) every_platform: bool,
}

/// Services such that one whose image is another's context comes before that.
pub(crate) fn in_build_order(project: &Project) -> Vec<&Service> {
    let mut left: Vec<&Service> = rbox_compose::plan::in_order(project);
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut order = Vec::new();
    while !left.is_empty() {
        let is_ready =
            |service: &&Service| contexts_of(service).all(|name| done.contains(name) || name == service.name);
        let (mut ready, rest): (Vec<&Service>, Vec<&Service>) = left.into_iter().partition(is_ready);
        left = rest;
        if ready.is_empty() {
            // A circle: the build says which image is missing.
            ready = std::mem::take(&mut left);
        }
        done.extend(ready.iter().map(|service| service.name.clone()));
        order.append(&mut ready);
    }
    order
}

/// The services whose images are contexts of a service's build.
fn contexts_of(service: &Service) -> impl Iterator<Item = &str> {
    let contexts = service.build.iter().flat_map(|build| build.additional_contexts.values());
    contexts.filter_map(|context| context.strip_prefix("service:"))
}

/// Builds the image of a service that has a `build` section.
pub(crate) fn build(
    global: &Global,
    project: &Project,
    service: &Service,
    more: &More,
    progress: &Progress,
) -> anyhow::Result<()> {
    let Some(build) = &service.build else { return Ok(()) };
    let name = rbox_compose::image_name(project, service);
    let mut held = Vec::new();
    let words = words(project, service, build, more, &mut held)?;
    progress.line("Image", &name, "Building");
    if progress.is_rehearsal() {
        progress.line("Image", &name, "Built");
        return Ok(());
    }
    progress.leave();
    let words = std::iter::once("build".to_owned()).chain(words);
    let command = crate::builder::build::Build::try_parse_from(words)
        .map_err(|error| bad_input(format!("service {:?}: build: {}", service.name, error.render())))?;
    match command.execute(global) {
        Ok(_) => {
            progress.line("Image", &name, "Built");
            Ok(())
        }
        Err(error) => {
            progress.line("Image", &name, "Error");
            Err(error.context(format!("build of service {:?}", service.name)))
        }
    }
}

/// The words after `rbox build`. Texts that are no files are held in memory, as files of this process that `held` keeps.
fn words(
    project: &Project,
    service: &Service,
    build: &model::Build,
    more: &More,
    held: &mut Vec<OwnedFd>,
) -> anyhow::Result<Vec<String>> {
    refuse_unsupported(service, build, more.sbom.as_deref())?;
    let mut words = Words::default();
    words.add("--tag", [rbox_compose::image_name(project, service)]);
    words.add("--tag", build.tags.iter().cloned());
    if !build.dockerfile_inline.is_empty() {
        words.add("--file", [in_memory(build.dockerfile_inline.as_bytes(), held)?]);
    } else if !build.dockerfile.is_empty() {
        words.add("--file", [dockerfile(build)]);
    }
    let given = build.args.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
    words.add("--build-arg", given);
    words.add("--build-arg", more.build_args.iter().cloned());
    words.add("--build-context", contexts(project, build));
    words.add("--label", build.labels.iter().map(pair));
    let own = [
        (labels::PROJECT, project.name.as_str()),
        (labels::SERVICE, service.name.as_str()),
        (labels::VERSION, labels::COMPOSE_VERSION),
    ];
    words.add("--label", own.map(|(key, value)| format!("{key}={value}")));
    words.add("--cache-from", build.cache_from.iter().cloned());
    words.add("--cache-to", build.cache_to.iter().cloned());
    let provenance = more.provenance.clone().unwrap_or_else(|| build.provenance.clone());
    words.add("--provenance", Some(provenance).filter(|text| !text.is_empty()));
    words.add("--no-cache-filter", build.no_cache_filter.iter().cloned());
    words.add("--add-host", build.extra_hosts.iter().map(|host| host.replacen('=', ":", 1)));
    words.add("--network", Some(build.network.clone()).filter(|network| !network.is_empty()));
    words.add("--target", Some(build.target.clone()).filter(|target| !target.is_empty()));
    words.add("--shm-size", Some(build.shm_size).filter(|size| *size > 0).map(|size| size.to_string()));
    words.add(
        "--ulimit",
        build.ulimits.iter().map(|(name, limit)| format!("{name}={}:{}", limit.soft, limit.hard)),
    );
    words.add("--allow", build.entitlements.iter().cloned());
    words.add(
        "--ssh",
        build.ssh.iter().map(|(id, path)| if path.is_empty() { id.clone() } else { format!("{id}={path}") }),
    );
    words.add("--ssh", more.ssh.clone());
    words.add("--platform", platforms(service, build, more));
    words.add("--memory", more.memory.clone());
    for secret in &build.secrets {
        words.add("--secret", [secret_word(project, service, secret, held)?]);
    }
    for (flag, given) in [
        ("--no-cache", build.no_cache || more.no_cache),
        ("--pull", build.pull || more.pull),
        ("--quiet", more.quiet),
        ("--push", more.push && !service.image.is_empty()),
        ("--check", more.check),
    ] {
        words.0.extend(given.then(|| flag.to_owned()));
    }
    words.0.push(build.context.clone());
    Ok(words.0)
}

fn pair((key, value): (&String, &String)) -> String {
    format!("{key}={value}")
}

/// `sbom` is the command line's, which goes before the file's.
fn refuse_unsupported(service: &Service, build: &model::Build, sbom: Option<&str>) -> anyhow::Result<()> {
    let has_sbom = !matches!(sbom.unwrap_or(&build.sbom), "" | "false");
    let unsupported = [("privileged", build.privileged), ("sbom", has_sbom)];
    match unsupported.into_iter().find(|(_, given)| *given) {
        Some((key, _)) => Err(bad_input(format!(
            "service {:?}: build.{key}: rbox does not support this yet: take it out",
            service.name
        ))),
        None => Ok(()),
    }
}

/// Those of the file; to be run it is the service's, or this machine's.
fn platforms(service: &Service, build: &model::Build, more: &More) -> Vec<String> {
    let own = Some(&service.platform).filter(|platform| !platform.is_empty());
    match build.platforms.as_slice() {
        [] => own.cloned().into_iter().collect(),
        [one] => vec![one.clone()],
        all if more.every_platform => all.to_vec(),
        _ => own.cloned().into_iter().collect(),
    }
}

/// The Dockerfile is named from the context, where that is a directory.
fn dockerfile(build: &model::Build) -> String {
    let context = std::path::Path::new(&build.context);
    if context.is_dir() {
        context.join(&build.dockerfile).to_string_lossy().into_owned()
    } else {
        build.dockerfile.clone()
    }
}

fn contexts(project: &Project, build: &model::Build) -> impl Iterator<Item = String> {
    build.additional_contexts.iter().map(|(name, context)| {
        let service = context.strip_prefix("service:").and_then(|service| project.services.get(service));
        match service {
            Some(service) => format!("{name}=docker-image://{}", rbox_compose::image_name(project, service)),
            None => format!("{name}={context}"),
        }
    })
}

fn secret_word(
    project: &Project,
    service: &Service,
    secret: &model::MountedFile,
    held: &mut Vec<OwnedFd>,
) -> anyhow::Result<String> {
    let id = if secret.target.is_empty() { &secret.source } else { &secret.target };
    let Some(object) = project.secrets.get(&secret.source) else {
        return Err(bad_input(format!("service {:?}: there is no secret {:?}", service.name, secret.source)));
    };
    let file = match &object.content {
        _ if !object.file.is_empty() => object.file.clone(),
        Some(content) => in_memory(content.as_bytes(), held)?,
        None => {
            return Err(bad_input(format!(
                "service {:?}: secret {:?} has neither a file nor a value",
                service.name, secret.source
            )));
        }
    };
    Ok(format!("id={id},src={file}"))
}
