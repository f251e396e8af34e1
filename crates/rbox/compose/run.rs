//! `rbox compose run`: one more container of a service, for one command.

use std::io::IsTerminal as _;

use clap::Parser;
use rbox_compose::model::{Project, Service};
use rbox_compose::plan::Wanted;
use rbox_compose::run::{self, OneOff, UpRequest};
use rbox_engine::engine::{ContainerRecord, StartOptions};
use rbox_engine::spec::mount::MountSpec;
use rbox_engine::spec::port::PortMapping;

use crate::args::flags::environment;
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::compose::images::{Images, When};
use crate::compose::narrator::Shown;
use crate::compose::progress::Progress;
use crate::compose::project::{load, no_service, options};
use crate::compose::remote::confirm;
use crate::container::run::start_and_stay;
use crate::output::lines::say;

/// Run a command in a container of its own of a service
#[derive(Debug, Parser)]
#[command(
    name = "run",
    after_help = "Examples:
  rbox compose run --rm web python3 manage.py migrate    # after what web depends on is up
  rbox compose run --rm --no-deps -T web sh -c 'env | sort'
  rbox compose run --rm -v \"$PWD\":/backup db tar czf /backup/data.tgz /var/lib/postgresql/data
  rbox compose run --service-ports web                   # with the ports of the service"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Run {
    /// Build the image first
    #[arg(long)]
    build: bool,
    /// Add a capability
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Run in the background and print the container's name
    #[arg(short, long)]
    detach: bool,
    /// Replace the service's entrypoint
    #[arg(long, value_name = "WORDS")]
    entrypoint: Option<String>,
    /// Set a variable (NAME=VALUE, or NAME for the environment's)
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Variables from a file
    #[arg(long, value_name = "FILE")]
    env_from_file: Vec<String>,
    /// Keep standard input open, as is done without it
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    interactive: bool,
    /// Set a label
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// The container's name
    #[arg(long)]
    name: Option<String>,
    /// Without a terminal (default: with one where standard output is one)
    #[arg(short = 'T', long = "no-TTY", alias = "no-tty", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_tty: Option<bool>,
    /// With a terminal
    #[arg(short, long, hide = true)]
    tty: bool,
    /// Do not start what the service depends on
    #[arg(long)]
    no_deps: bool,
    /// Publish a port
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// When the image is pulled: always, missing, never
    #[arg(long, value_name = "POLICY", value_parser = ["always", "missing", "never"])]
    pull: Option<String>,
    /// Say nothing of what is done
    #[arg(short, long)]
    quiet: bool,
    /// Build without progress
    #[arg(long)]
    quiet_build: bool,
    /// Pull without progress
    #[arg(long)]
    quiet_pull: bool,
    /// Remove containers of services that are not in the files any more
    #[arg(long)]
    remove_orphans: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    rm: bool,
    /// With the ports of the service
    #[arg(short = 'P', long)]
    service_ports: bool,
    /// With the service's names on its networks
    #[arg(long)]
    use_aliases: bool,
    /// As this user
    #[arg(short, long)]
    user: Option<String>,
    /// Mount a directory, a file or a volume
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Agree to all that is asked
    #[arg(long)]
    yes: bool,
    /// The service
    service: String,
    /// The command and its arguments; the service's own when left out
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Execute for Run {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let record = self.make(global)?;
        if self.detach {
            global.engine.start_created(&record, StartOptions::default())?;
            say(record.name.as_str())?;
            return Ok(0);
        }
        start_and_stay(global, &record)
    }
}

impl Run {
    fn make(&self, global: &Global) -> anyhow::Result<ContainerRecord> {
        let mut wanted = options(global)?;
        wanted.services = vec![self.service.clone()];
        let loaded = load(&wanted)?;
        confirm(&loaded, self.yes)?;
        let mut project = loaded.project;
        let Some(mut service) = project.services.remove(&self.service) else {
            return Err(no_service(&self.service));
        };
        self.change(&mut service)?;
        let mut flags = global.project.clone();
        if self.quiet {
            flags.progress = Some("quiet".into());
        }
        let progress = Progress::new(&flags, "Running")?;
        run::check(&project, &Wanted::default())?;
        if !self.no_deps {
            // What others provide for it is among its variables.
            project.services.insert(self.service.clone(), service);
            run::provide(&global.engine, &mut project, &Shown(&progress))?;
            service = project.services.remove(&self.service).unwrap_or_default();
            self.bring_up_dependencies(global, &project, &service, &progress)?;
        }
        project.services.insert(self.service.clone(), service);
        let service = &project.services[&self.service];
        let image = self.images(global, &project, &progress).image(service)?;
        let record =
            run::one_off(&global.engine, &project, service, &image, self.one_off()?, &Shown(&progress))?;
        progress.leave();
        Ok(record)
    }

    fn images<'a>(&self, global: &'a Global, project: &'a Project, progress: &'a Progress) -> Images<'a> {
        Images {
            global,
            project,
            progress,
            build: if self.build { When::Always } else { When::Missing },
            pull: self.pull.clone(),
            quiet_pull: self.quiet_pull || self.quiet,
            quiet_build: self.quiet_build || self.quiet,
        }
    }

    fn bring_up_dependencies(
        &self,
        global: &Global,
        dependencies: &Project,
        service: &Service,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let images = Images { build: When::Missing, ..self.images(global, dependencies, progress) };
        // The service itself is no orphan.
        let mut known = dependencies.clone();
        known.disabled_services.insert(service.name.clone(), service.clone());
        let request = UpRequest {
            remove_orphans: self.remove_orphans,
            ignore_orphans: !self.remove_orphans,
            until: Some(Box::new(service.clone())),
            ..UpRequest::started(Wanted::default())
        };
        Ok(run::up(&global.engine, &known, &images.all()?, &request, &Shown(progress))?)
    }

    /// Lays what was asked for over what the service says.
    fn change(&self, service: &mut Service) -> anyhow::Result<()> {
        if let Some(words) = &self.entrypoint {
            service.entrypoint = Some(words.split_whitespace().map(str::to_owned).collect());
            service.command = None;
        }
        if !self.command.is_empty() {
            service.command = Some(self.command.clone());
        }
        for variable in environment(&self.env_from_file, &self.env)? {
            let (name, value) = variable.split_once('=').unwrap_or((&variable, ""));
            service.environment.insert(name.to_owned(), Some(value.to_owned()));
        }
        for label in &self.label {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            service.labels.insert(name.to_owned(), value.to_owned());
        }
        service.cap_add.extend(self.cap_add.iter().cloned());
        service.cap_drop.extend(self.cap_drop.iter().cloned());
        if let Some(user) = &self.user {
            service.user.clone_from(user);
        }
        if let Some(dir) = &self.workdir {
            service.working_dir.clone_from(dir);
        }
        if !self.service_ports {
            service.ports.clear();
        }
        service.container_name.clear();
        service.tty = self.with_terminal();
        service.stdin_open = self.interactive && !self.detach;
        Ok(())
    }

    fn with_terminal(&self) -> bool {
        let is_terminal = || std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        !self.detach && (self.tty || !self.no_tty.unwrap_or_else(|| !is_terminal()))
    }

    fn one_off(&self) -> anyhow::Result<OneOff> {
        let cwd = std::env::current_dir().ok().map(|dir| dir.to_string_lossy().into_owned());
        let mount = |spec: &String| MountSpec::parse_volume(spec, cwd.as_deref()).map_err(bad_input);
        let mut ports = Vec::new();
        for spec in &self.publish {
            ports.extend(PortMapping::parse(spec).map_err(bad_input)?);
        }
        Ok(OneOff {
            name: self.name.clone(),
            auto_remove: self.rm,
            detached: self.detach,
            aliases: self.use_aliases,
            mounts: self.volume.iter().map(mount).collect::<anyhow::Result<_>>()?,
            ports,
        })
    }
}
