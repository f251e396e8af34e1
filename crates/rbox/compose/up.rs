//! `rbox compose up`, `create` and `scale`: containers as the files say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Parser;
use rbox_compose::RunError;
use rbox_compose::model::Project;
use rbox_compose::plan::{Action, Plan, Recreate, Wanted};
use rbox_compose::run::{self, Stage, Thing, UpRequest};
use rbox_engine::session::{SignalFd, Taken};

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::attached::{Attached, Beside, Ending, INTERRUPTED, follow};
use crate::compose::images::{Images, When};
use crate::compose::menu::{self, Menu};
use crate::compose::narrator::{Shown, ShownWithSteps};
use crate::compose::progress::Progress;
use crate::compose::project::{load, no_service, options};
use crate::compose::remote::confirm;
use crate::compose::watcher::Watcher;
use crate::compose::why::images;

/// What `up`, `create` and `scale` have in common.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct MakingFlags {
    /// Build images before containers are made
    #[arg(long)]
    build: bool,
    /// Build no image, even if it is missing
    #[arg(long, conflicts_with = "build")]
    no_build: bool,
    /// Make containers again, even if nothing of them has changed
    #[arg(long)]
    force_recreate: bool,
    /// Make no container again that is there
    #[arg(long, conflicts_with = "force_recreate")]
    no_recreate: bool,
    /// When images are pulled: always, missing, never, build (default: as the files say)
    #[arg(long, value_name = "POLICY", value_parser = ["always", "missing", "never", "build", "policy", "if_not_present"])]
    pull: Option<String>,
    /// Pull without progress
    #[arg(long)]
    quiet_pull: bool,
    /// Remove containers of services that are not in the files any more
    #[arg(long)]
    remove_orphans: bool,
    /// So many containers of a service (SERVICE=NUMBER), whatever the files say
    #[arg(long, value_name = "SERVICE=NUMBER")]
    scale: Vec<String>,
    /// Agree to all that is asked
    #[arg(short, long)]
    yes: bool,
}

/// Create and start containers
#[derive(Debug, Parser)]
#[command(
    name = "up",
    after_help = "Examples:
  rbox compose up                       # attached: Ctrl-C stops all
  rbox compose up -d                    # in the background
  rbox compose up -d --build api        # api and what it depends on, built anew
  rbox compose up -d --wait             # back when all are healthy
  rbox compose up -d --scale worker=3
  rbox compose up -d --rolling          # the next container answers before the former one stops
  rbox compose up --watch               # and what changes is brought in, or built again
  rbox compose up --dry-run             # what would be made again, and which field differs"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Up {
    #[command(flatten)]
    making: MakingFlags,
    /// Run in the background
    #[arg(short, long)]
    detach: bool,
    /// Stop all when a container has ended
    #[arg(long, conflicts_with = "detach")]
    abort_on_container_exit: bool,
    /// Stop all when a container has failed
    #[arg(long, conflicts_with = "detach")]
    abort_on_container_failure: bool,
    /// Make what the services depend on again, too
    #[arg(long)]
    always_recreate_deps: bool,
    /// Show the output of these only
    #[arg(long, value_name = "SERVICE")]
    attach: Vec<String>,
    /// Show the output of what the services depend on, too
    #[arg(long)]
    attach_dependencies: bool,
    /// End with the exit code of this service; stops all when it has ended
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    exit_code_from: Option<String>,
    /// On a terminal: a line that tells the keys, w to watch and d to detach (`COMPOSE_MENU`; default: true)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    menu: Option<bool>,
    /// Show no output of these
    #[arg(long, value_name = "SERVICE")]
    no_attach: Vec<String>,
    /// Without colours
    #[arg(long)]
    no_color: bool,
    /// Not what the services depend on
    #[arg(long)]
    no_deps: bool,
    /// Without the names before the lines
    #[arg(long)]
    no_log_prefix: bool,
    /// Make containers, and start none
    #[arg(long)]
    no_start: bool,
    /// Build without progress
    #[arg(long)]
    quiet_build: bool,
    /// Make anonymous volumes again, in place of keeping what they hold
    #[arg(short = 'V', long)]
    renew_anon_volumes: bool,
    /// Replace containers that run only once the next ones are healthy and have their ports
    #[arg(long)]
    rolling: bool,
    /// Seconds for a container to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// Show the time of each line
    #[arg(long)]
    timestamps: bool,
    /// Act on develop.watch when files change, as watch does, while this is attached
    #[arg(short, long, conflicts_with_all = ["detach", "wait", "no_start"])]
    watch: bool,
    /// Come back when all run, are healthy, or have ended with 0; implies -d
    #[arg(long)]
    wait: bool,
    /// Seconds that may take
    #[arg(long, value_name = "SECONDS")]
    wait_timeout: Option<u64>,
    /// Services; all when left out
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Up {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut project = read(global, &self.services, self.making.yes || global.project.dry_run)?;
        self.check(&project)?;
        if self.no_deps {
            without_dependencies(&mut project, &self.services);
        }
        let making = &self.making;
        let request = UpRequest {
            wanted: making.wanted(&self.services, self.always_recreate_deps)?,
            start: !self.no_start,
            renew_volumes: self.renew_anon_volumes,
            remove_orphans: making.remove_orphans,
            ignore_orphans: is_on("COMPOSE_IGNORE_ORPHANS"),
            timeout: self.timeout,
            rolling: self.rolling,
            wait: self.wait,
            patience: self.wait_timeout.map(Duration::from_secs),
            until: None,
            interrupt: None,
        };
        if global.project.dry_run {
            return tell_plan(global, &project, &request, "Running");
        }
        run::check(&project, &request.wanted)?;
        let watcher = Watcher::new(global, &project, &self.services);
        if self.watch {
            watcher.check()?;
        }
        let progress = Progress::new(&global.project, "Running")?;
        let images = making.images(global, &project, &progress, self.quiet_build).all()?;
        run::provide(&global.engine, &mut project, &Shown(&progress))?;
        if self.detach || self.wait || self.no_start {
            // Ctrl-C ends what runs before a start, too.
            let has_steps = project.services.values().any(|service| !service.pre_start.is_empty());
            let signals = has_steps.then(|| SignalFd::new(Taken::Ending)).flatten();
            let request = UpRequest { interrupt: signals.as_ref(), ..request };
            let done = run::up(&global.engine, &project, &images, &request, &Shown(&progress));
            return done.map(|()| 0).map_err(interrupted);
        }
        let is_drawn = progress.is_drawn();
        progress.share();
        let follower = follow(global, &project, &self.shown(&project))?;
        let request = UpRequest { interrupt: follower.signals(), ..request };
        let shown = ShownWithSteps { shown: Shown(&progress), prefix: !self.no_log_prefix };
        match run::up(&global.engine, &project, &images, &request, &shown) {
            Ok(()) => {
                if self.watch {
                    watcher.begin()?;
                }
                let menu = menu::is_wanted(self.menu, is_drawn).then(|| Menu::open(&watcher)).flatten();
                follower.wait(global, &project, &self.ending(), Beside { menu, watcher: &watcher })
            }
            Err(RunError::Interrupted) => follower.interrupted(global, &project, &self.ending()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Up {
    fn check(&self, project: &Project) -> anyhow::Result<()> {
        if project.services.is_empty() {
            return Err(Coded { message: "no service selected".to_owned(), code: NOT_DONE }.into());
        }
        let scales = scales(&self.making.scale)?;
        let named =
            self.attach.iter().chain(&self.no_attach).chain(&self.exit_code_from).chain(scales.keys());
        for name in named {
            if !project.services.contains_key(name) {
                return Err(no_service(name));
            }
        }
        Ok(())
    }

    fn ending(&self) -> Ending {
        Ending {
            on_exit: self.abort_on_container_exit || self.exit_code_from.is_some(),
            on_failure: self.abort_on_container_failure,
            code_from: self.exit_code_from.clone(),
            timeout: self.timeout,
        }
    }

    /// What an attached `up` shows of the services' output.
    fn shown(&self, project: &Project) -> Attached {
        let is_shown = |name: &&String| {
            let by_file = project.services.get(*name).and_then(|service| service.attach) != Some(false);
            let by_words =
                match (self.attach.is_empty(), self.services.is_empty() || self.attach_dependencies) {
                    (false, _) => self.attach.contains(*name),
                    (true, true) => true,
                    (true, false) => self.services.contains(*name),
                };
            by_words && (by_file || self.attach.contains(*name)) && !self.no_attach.contains(*name)
        };
        Attached {
            services: project.services.keys().filter(is_shown).cloned().collect(),
            no_color: self.no_color,
            no_prefix: self.no_log_prefix,
            timestamps: self.timestamps,
        }
    }
}

/// What the user ended says no more.
pub(crate) fn interrupted(error: RunError) -> anyhow::Error {
    match error {
        RunError::Interrupted => Coded { message: String::new(), code: INTERRUPTED }.into(),
        error => error.into(),
    }
}

fn is_on(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| matches!(value.as_str(), "1" | "true" | "True" | "TRUE"))
}

/// Leaves of a project only the services that were named.
pub(crate) fn without_dependencies(project: &mut Project, named: &[String]) {
    if named.is_empty() {
        return;
    }
    let services = std::mem::take(&mut project.services);
    for (name, service) in services {
        let whole =
            if named.contains(&name) { &mut project.services } else { &mut project.disabled_services };
        whole.insert(name, service);
    }
}

/// The project, with these services and what they depend on.
fn read(global: &Global, services: &[String], yes: bool) -> anyhow::Result<Project> {
    let mut wanted = options(global)?;
    wanted.services = services.to_vec();
    let loaded = load(&wanted)?;
    confirm(&loaded, yes)?;
    Ok(loaded.project)
}

impl MakingFlags {
    fn wanted(&self, services: &[String], dependencies_too: bool) -> anyhow::Result<Wanted> {
        let recreate = match (self.force_recreate, self.no_recreate) {
            (true, _) => Recreate::Force,
            (_, true) => Recreate::Never,
            _ => Recreate::Changed,
        };
        let recreate_dependencies = match (dependencies_too, self.no_recreate) {
            (true, _) => Recreate::Force,
            (_, true) => Recreate::Never,
            _ => Recreate::Changed,
        };
        Ok(Wanted {
            recreate,
            recreate_dependencies,
            named: services.iter().cloned().collect::<BTreeSet<_>>(),
            scale: scales(&self.scale)?,
        })
    }

    fn images<'a>(
        &self,
        global: &'a Global,
        project: &'a Project,
        progress: &'a Progress,
        quiet_build: bool,
    ) -> Images<'a> {
        Images {
            global,
            project,
            progress,
            build: match (self.build, self.no_build) {
                (true, _) => When::Always,
                (_, true) => When::Never,
                _ => When::Missing,
            },
            pull: self.pull.clone().filter(|policy| policy != "policy"),
            quiet_pull: self.quiet_pull,
            quiet_build,
        }
    }
}

/// `--dry-run`.
fn tell_plan(
    global: &Global,
    project: &Project,
    request: &UpRequest<'_>,
    title: &'static str,
) -> anyhow::Result<u8> {
    let progress = Progress::new(&global.project, title)?;
    let shown = Shown(&progress);
    let images = images(global, project)?;
    let plan = run::plan(&global.engine, project, images.clone(), &request.wanted)?;
    for service in project.services.values().filter(|service| !images.contains_key(&service.name)) {
        let (begun, done) =
            if service.build.is_some() { ("Building", "Built") } else { ("Pulling", "Pulled") };
        let name = rbox_compose::image_name(project, service);
        progress.line("Image", &name, begun);
        progress.line("Image", &name, done);
    }
    run::tell_missing(&global.engine, project, &shown)?;
    tell(&plan, &shown, request.start);
    Ok(0)
}

/// A plan, as if it were carried out.
fn tell(plan: &Plan, shown: &Shown<'_>, start: bool) {
    use rbox_compose::run::Narrator as _;
    for action in plan.services.iter().flat_map(|service| &service.actions) {
        let stages = |name: &str, stages: &[Stage]| {
            for stage in stages {
                shown.tell(Thing::Container, name, *stage);
            }
        };
        let started: &[Stage] = if start { &[Stage::Starting, Stage::Started] } else { &[] };
        match action {
            Action::Keep(instance) if instance.container.is_active() => {
                stages(instance.name(), &[Stage::Running]);
            }
            Action::Keep(instance) => stages(instance.name(), started),
            Action::Create { name, .. } => {
                stages(name, &[Stage::Creating, Stage::Created]);
                stages(name, started);
            }
            Action::Recreate { name, why, .. } => {
                stages(name, &[Stage::Recreate]);
                shown.because(name, why);
                stages(name, &[Stage::Recreated]);
                stages(name, started);
            }
            Action::Remove(instance) => {
                stages(instance.name(), &[Stage::Stopping, Stage::Stopped, Stage::Removing, Stage::Removed]);
            }
        }
    }
}

/// `SERVICE=NUMBER`, several times.
fn scales(words: &[String]) -> anyhow::Result<BTreeMap<String, u32>> {
    let refused = |word: &str| Coded {
        message: format!("invalid --scale option {word:?}. Should be SERVICE=NUM"),
        code: NOT_DONE,
    };
    words
        .iter()
        .map(|word| {
            let (service, number) = word.split_once('=').ok_or_else(|| refused(word))?;
            Ok((service.to_owned(), number.parse().map_err(|_| refused(word))?))
        })
        .collect()
}

/// Create containers without starting them
#[derive(Debug, Parser)]
#[command(
    name = "create",
    after_help = "Examples:\n  rbox compose create\n  rbox compose create --build --force-recreate api"
)]
pub(crate) struct Create {
    #[command(flatten)]
    making: MakingFlags,
    /// Services; all when left out
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Create {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut project = read(global, &self.services, self.making.yes || global.project.dry_run)?;
        let request = UpRequest {
            start: false,
            remove_orphans: self.making.remove_orphans,
            ..UpRequest::started(self.making.wanted(&self.services, false)?)
        };
        if global.project.dry_run {
            return tell_plan(global, &project, &request, "Creating");
        }
        run::check(&project, &request.wanted)?;
        let progress = Progress::new(&global.project, "Creating")?;
        let images = self.making.images(global, &project, &progress, false).all()?;
        run::provide(&global.engine, &mut project, &Shown(&progress))?;
        run::up(&global.engine, &project, &images, &request, &Shown(&progress))?;
        Ok(0)
    }
}

/// Give services another number of containers
#[derive(Debug, Parser)]
#[command(
    name = "scale",
    after_help = "Examples:\n  rbox compose scale worker=3\n  rbox compose scale worker=3 api=2"
)]
pub(crate) struct Scale {
    /// Not what the services depend on
    #[arg(long)]
    no_deps: bool,
    /// Agree to all that is asked
    #[arg(short, long)]
    yes: bool,
    /// SERVICE=NUMBER
    #[arg(required = true, value_name = "SERVICE=NUMBER")]
    scales: Vec<String>,
}

impl Execute for Scale {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let scale = scales(&self.scales)?;
        let named: Vec<String> = scale.keys().cloned().collect();
        let mut wanted = options(global)?;
        wanted.services.clone_from(&named);
        let loaded = load(&wanted)?;
        confirm(&loaded, self.yes || global.project.dry_run)?;
        let mut project = loaded.project;
        if self.no_deps {
            without_dependencies(&mut project, &named);
        }
        let request = UpRequest::started(Wanted { scale, ..Wanted::default() });
        if global.project.dry_run {
            return tell_plan(global, &project, &request, "Running");
        }
        let progress = Progress::new(&global.project, "Running")?;
        run::check(&project, &request.wanted)?;
        let images = Images {
            global,
            project: &project,
            progress: &progress,
            build: When::Missing,
            pull: None,
            quiet_pull: false,
            quiet_build: false,
        };
        let images = images.all()?;
        run::provide(&global.engine, &mut project, &Shown(&progress))?;
        run::up(&global.engine, &project, &images, &request, &Shown(&progress))?;
        Ok(0)
    }
}
