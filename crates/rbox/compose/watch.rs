//! `rbox compose watch`: files of the host that change are brought into containers, or make these anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::{ArgAction, Parser};
use rbox_build::ignore::Ignore;
use rbox_compose::model::{Hook, Project, Service, Watch as Trigger};
use rbox_compose::run::hook_request;
use rbox_compose::{Instance, Observed, labels};
use rbox_engine::engine::{ExecRequest, ExecStdio, ProjectLock};
use rbox_engine::file_watch::{FileWatch, small_text};
use rbox_engine::listing::filter::{Filters, PRUNE_KEYS};
use rbox_engine::own_file;
use rbox_engine::session::{SignalFd, Taken};

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, message};
use crate::command::global::Global;
use crate::compose::chosen::not_done;
use crate::compose::project::{load, options};
use crate::compose::remote::confirm;
use crate::container::exec::{How, run_in};
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::write_all;

/// Bring files that change into the containers of services, or build and restart these
#[derive(Debug, Parser)]
#[command(
    name = "watch",
    after_help = "Examples:
  rbox compose watch            # up first, then whenever files of develop.watch change
  rbox compose watch --no-up web"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Watch {
    /// Do not build and start services first
    #[arg(long)]
    no_up: bool,
    /// After a build, remove the images that it has replaced
    #[arg(
        long, default_value_t = true, default_missing_value = "true", num_args = 0..=1, require_equals = true,
        action = ArgAction::Set
    )]
    prune: bool,
    /// Build without output
    #[arg(long)]
    quiet: bool,
    /// Agree to all that is asked
    #[arg(long)]
    yes: bool,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// No service says what is watched.
pub(crate) const NOTHING_TO_WATCH: &str =
    "none of the selected services is configured for watch, consider setting a 'develop' section";
/// Nothing has changed for so long: what changed together is handled together.
const QUIET: Duration = Duration::from_millis(300);
/// Between two looks whether a command of the project has ended.
const LOOK: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_hours(1);

/// What editors leave beside a file while they write it.
const PASSING: [&str; 12] = [
    "**/.git",
    "**/.idea",
    "**/*.swp",
    "**/*.swx",
    "**/*.swo",
    "**/4913",
    "**/*~",
    "**/.#*",
    "**/#*#",
    "**/.*.kate-swp",
    "**/*___jb_tmp___",
    "**/*___jb_old___",
];

impl Execute for Watch {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done(self.carry_out(global))
    }
}

impl Watch {
    fn carry_out(&self, global: &Global) -> anyhow::Result<u8> {
        let mut wanted = options(global)?;
        wanted.services.clone_from(&self.services);
        let loaded = load(&wanted)?;
        confirm(&loaded, self.yes)?;
        let rules = rules(&loaded.project)?;
        if rules.is_empty() {
            return Err(refused(NOTHING_TO_WATCH));
        }
        let _lock = lock(global, &loaded.project.name)?;
        if !self.no_up {
            let words = ["up", "--detach", "--build", "--yes"].map(OsString::from);
            self.own(global, words.into_iter().chain(self.services.iter().map(OsString::from)))?;
        }
        let roots: Vec<PathBuf> = rules.iter().map(|rule| rule.root.clone()).collect();
        let mut watch = FileWatch::new(&roots).context("watch files")?;
        let watching = Watching { own: self, global, project: &loaded.project, rules: &rules };
        watching.begin()?;
        say("Watch enabled")?;
        loop {
            let changed = watch.wait(QUIET, HOUR).context("watch files")?;
            if let Err(error) = watching.handle(&changed) {
                let line = format!("rbox: warning: {}\n", escape::text(&message(&error)));
                write_all(&mut std::io::stderr(), &line)?;
            }
        }
    }

    /// Runs another command of the project, in a process of its own.
    fn own(&self, global: &Global, words: impl IntoIterator<Item = OsString>) -> anyhow::Result<()> {
        let mut command = project_command(global)?;
        command.args(words).stdin(Stdio::null());
        if self.quiet {
            command.stdout(Stdio::null());
        }
        let mut started = command.spawn().context("run a command of the project")?;
        let status = loop {
            match started.try_wait().context("wait for a command of the project")? {
                Some(status) => break status,
                None => std::thread::sleep(LOOK),
            }
        };
        if status.success() { Ok(()) } else { Err(refused("it failed, as is said above")) }
    }
}

/// Another command of the same project.
pub(crate) fn project_command(global: &Global) -> anyhow::Result<Command> {
    let mut command = own_file::command()?;
    let paths = global.engine.paths();
    command.arg("--root").arg(&paths.root).arg("--state").arg(&paths.state).arg("compose");
    command.args(global.project.words());
    Ok(command)
}

/// Two of them would both bring in what changes, and build at the same time. The lock goes with this process, however that ends.
fn lock(global: &Global, project: &str) -> anyhow::Result<ProjectLock> {
    let engine = &global.engine;
    engine.try_lock_project(project, "watch")?.ok_or_else(|| {
        let holder = match engine.project_lock_holder(project, "watch") {
            Some(pid) => format!("process with PID {pid} is still running"),
            None => "another process has it".to_owned(),
        };
        refused(format!("cannot take exclusive lock for project {project:?}: {holder}"))
    })
}

fn refused(message: impl Into<String>) -> anyhow::Error {
    Coded { message: message.into(), code: NOT_DONE }.into()
}

/// What is done when files of a service change.
struct Rule<'a> {
    service: &'a str,
    trigger: &'a Trigger,
    root: PathBuf,
    include: Ignore,
    ignore: Ignore,
    /// Of the build's context, with where that is.
    context: Option<(PathBuf, Ignore)>,
}

impl Rule<'_> {
    fn syncs(&self) -> bool {
        self.trigger.action.starts_with("sync")
    }

    /// Whether it is about this path.
    fn means(&self, path: &Path) -> bool {
        let Ok(rest) = path.strip_prefix(&self.root) else { return false };
        let rest = rest.to_string_lossy();
        let out_of_context = self.context.as_ref().is_some_and(|(context, ignore)| {
            path.strip_prefix(context).is_ok_and(|path| ignore.matches(&path.to_string_lossy()))
        });
        let included = self.include.is_empty() || self.include.matches(&rest);
        included && !self.ignore.matches(&rest) && !out_of_context
    }

    /// Where a path is in the container.
    fn target(&self, path: &Path) -> Option<PathBuf> {
        let rest = path.strip_prefix(&self.root).ok()?;
        let target = Path::new(&self.trigger.target);
        Some(if rest.as_os_str().is_empty() { target.to_owned() } else { target.join(rest) })
    }
}

/// The rules of all services that have some.
fn rules(project: &Project) -> anyhow::Result<Vec<Rule<'_>>> {
    let mut all = Vec::new();
    for (name, service) in &project.services {
        for trigger in service.develop.iter().flat_map(|develop| &develop.watch) {
            if trigger.action == "rebuild" && service.build.is_none() {
                return Err(refused(format!(
                    "can't watch service {name:?} with action rebuild without a build context"
                )));
            }
            let root = PathBuf::from(&trigger.path);
            let root = root.canonicalize().unwrap_or(root);
            let rule = Rule {
                service: name,
                trigger,
                include: Ignore::new(trigger.include.iter().map(String::as_str))?,
                ignore: Ignore::new(PASSING.into_iter().chain(trigger.ignore.iter().map(String::as_str)))?,
                context: context(service)?,
                root,
            };
            if rule.syncs() && is_mounted(service, &rule.root) {
                let path = escape::text(&trigger.path).into_owned();
                let line = format!(
                    "rbox: warning: {path} is also bind-mounted into service {name}: it is not watched\n"
                );
                write_all(&mut std::io::stderr(), &line)?;
                continue;
            }
            all.push(rule);
        }
    }
    Ok(all)
}

/// The `.dockerignore` of a service's build.
fn context(service: &Service) -> anyhow::Result<Option<(PathBuf, Ignore)>> {
    let Some(build) = service.build.as_ref().filter(|build| !build.context.is_empty()) else {
        return Ok(None);
    };
    let context = PathBuf::from(&build.context);
    match small_text(&context.join(".dockerignore")) {
        Some(text) => Ok(Some((context.canonicalize().unwrap_or(context), Ignore::parse(&text)?))),
        None => Ok(None),
    }
}

fn is_mounted(service: &Service, path: &Path) -> bool {
    service.volumes.iter().any(|mount| mount.kind == "bind" && path.starts_with(&mount.source))
}

/// A project that is watched.
struct Watching<'a> {
    own: &'a Watch,
    global: &'a Global,
    project: &'a Project,
    rules: &'a [Rule<'a>],
}

impl Watching<'_> {
    /// Brings in what is to be there from the beginning.
    fn begin(&self) -> anyhow::Result<()> {
        for rule in self.rules.iter().filter(|rule| rule.syncs() && rule.trigger.initial_sync) {
            let mut files = BTreeSet::new();
            let mut next = vec![rule.root.clone()];
            while let Some(path) = next.pop() {
                match std::fs::read_dir(&path) {
                    Ok(entries) => next.extend(entries.flatten().map(|entry| entry.path())),
                    Err(_) => drop(rule.means(&path) && files.insert(path)),
                }
            }
            self.sync(rule, files.iter())?;
        }
        Ok(())
    }

    fn handle(&self, changed: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
        let mut builds = BTreeSet::new();
        let mut restarts = BTreeSet::new();
        let mut syncs: Vec<(&Rule<'_>, Vec<&PathBuf>)> = Vec::new();
        for rule in self.rules {
            let meant: Vec<&PathBuf> = changed.iter().filter(|path| rule.means(path)).collect();
            if meant.is_empty() {
                continue;
            }
            match rule.trigger.action.as_str() {
                "rebuild" => drop(builds.insert(rule.service)),
                "restart" => drop(restarts.insert(rule.service)),
                action => {
                    if action == "sync+restart" {
                        restarts.insert(rule.service);
                    }
                    syncs.push((rule, meant));
                }
            }
        }
        if !builds.is_empty() {
            self.rebuild(&builds)?;
        }
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (rule, meant) in &syncs {
            *counts.entry(rule.service).or_default() += meant.len();
        }
        for (service, count) in counts {
            say(&format!("Syncing service {service:?} after {count} changes were detected"))?;
        }
        for (rule, meant) in &syncs {
            self.sync(rule, meant.iter().copied())?;
        }
        if !restarts.is_empty() {
            let words = [OsString::from("restart")].into_iter();
            self.own.own(self.global, words.chain(restarts.iter().map(OsString::from)))?;
            say(&format!("service(s) {} restarted", quoted(&restarts)))?;
        }
        for (rule, _) in syncs.iter().filter(|(rule, _)| rule.trigger.action == "sync+exec") {
            self.exec(rule.service, &rule.trigger.exec)?;
        }
        Ok(())
    }

    fn rebuild(&self, services: &BTreeSet<&str>) -> anyhow::Result<()> {
        say(&format!("Rebuilding service(s) {} after changes were detected...", quoted(services)))?;
        let words =
            ["up", "--detach", "--build", "--yes", "--no-deps", "--force-recreate"].map(OsString::from);
        self.own.own(self.global, words.into_iter().chain(services.iter().map(OsString::from)))?;
        say(&format!("service(s) {} successfully built", quoted(services)))?;
        if self.own.prune {
            let label = format!("label={}={}", labels::PROJECT, self.project.name);
            let filters = Filters::parse(&[label], PRUNE_KEYS)?;
            self.global.engine.prune_images(&filters, false)?;
        }
        Ok(())
    }

    /// Brings files into all containers of a service, and removes there what is gone here.
    fn sync<'p>(&self, rule: &Rule<'_>, paths: impl Iterator<Item = &'p PathBuf>) -> anyhow::Result<()> {
        let files: Vec<(PathBuf, PathBuf)> =
            paths.filter_map(|path| Some((path.clone(), rule.target(path)?))).collect();
        for one in self.instances(rule.service)? {
            let gone = self.global.engine.copy_files(&one.container, &files)?;
            if !gone.is_empty() && one.container.is_running() {
                let mut command = vec!["rm".to_owned(), "-rf".to_owned(), "--".to_owned()];
                command.extend(gone.iter().map(|path| path.display().to_string()));
                let request = ExecRequest { command, ..ExecRequest::default() };
                self.global.engine.exec(&one.container, &request, ExecStdio::Nowhere)?.wait();
            }
        }
        Ok(())
    }

    fn exec(&self, service: &str, hook: &Hook) -> anyhow::Result<()> {
        for one in self.instances(service)?.iter().filter(|one| one.container.is_running()) {
            let how = How { detach: false, input: false, detach_keys: &[] };
            let code = run_in(self.global, &one.container, &hook_request(hook), how);
            // It takes signals for itself; from here on they end this command again.
            SignalFd::new(Taken::Ending).into_iter().for_each(SignalFd::let_go);
            let code = code?;
            if code != 0 {
                return Err(refused(format!("exit code {code}")));
            }
        }
        Ok(())
    }

    fn instances(&self, service: &str) -> anyhow::Result<Vec<Instance>> {
        let observed = Observed::of(&self.global.engine, &self.project.name)?;
        Ok(observed.of_service(service).cloned().collect())
    }
}

/// As Go prints a list of texts.
fn quoted(names: &BTreeSet<&str>) -> String {
    let all: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("[{}]", all.join(" "))
}
