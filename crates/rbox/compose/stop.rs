//! `rbox compose stop`, `kill`, `rm`, `pause` and `unpause`: what is done to the containers of services.

use clap::Parser;
use rbox_compose::Instance;
use rbox_compose::run::{Visit, run_hooks, stop_provided, walk};
use rbox_engine::engine::{RemoveRequest, StopRequest};
use rbox_engine::error::EngineError;
use rbox_engine::spec::signal::Signal;

use crate::args::asking;
use crate::args::patience::Patience;
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, message, report};
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, not_done};
use crate::compose::graph::TICK;
use crate::compose::narrator::Shown;
use crate::compose::progress::Progress;
use crate::output::lines::say;

/// What the lines of progress call a container.
pub(crate) const CONTAINER: &str = "Container";

/// Stop the containers of services
#[derive(Debug, Parser)]
#[command(
    name = "stop",
    after_help = "Examples:
  rbox compose stop              # all of them, those first that depend on others
  rbox compose stop -t 1 web     # SIGKILL after one second
  rbox compose -p shop stop      # by its name, wherever its files are"
)]
pub(crate) struct Stop {
    #[command(flatten)]
    patience: Patience,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Stop {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            let chosen = Chosen::read(global, &self.services)?;
            let progress = Progress::new(&global.project, "Stopping")?;
            stop(global, &chosen, &self.services, self.patience.timeout, &progress)?;
            if let Some(files) = chosen.loaded.as_ref().filter(|_| !progress.is_rehearsal()) {
                let is_meant =
                    |name: &str| self.services.is_empty() || self.services.iter().any(|word| word == name);
                stop_provided(&files.project, &is_meant, &Shown(&progress))?;
            }
            Ok(0)
        })())
    }
}

/// Stops the containers of services, those first that depend on others.
pub(crate) fn stop(
    global: &Global,
    chosen: &Chosen,
    words: &[String],
    timeout: Option<i64>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let graph = chosen.graph();
    let stopping = Stopping { global, chosen, words, timeout, progress };
    walk(&graph.reversed(), &stopping)
}

struct Stopping<'a> {
    global: &'a Global,
    chosen: &'a Chosen,
    words: &'a [String],
    timeout: Option<i64>,
    progress: &'a Progress,
}

impl Stopping<'_> {
    fn hooks(&self, service: &str) -> &[rbox_compose::model::Hook] {
        let files = self.chosen.loaded.as_ref();
        files.and_then(|files| files.project.services.get(service)).map_or(&[], |found| &found.pre_stop)
    }
}

impl<'a> Visit for Stopping<'a> {
    type Error = anyhow::Error;
    type Part = &'a Instance;

    fn parts(&self, service: &str) -> Vec<&'a Instance> {
        let meant = self.words.is_empty() || self.words.iter().any(|word| word == service);
        self.chosen.own().filter(|one| meant && one.service == service).collect()
    }

    fn begins(&self, service: &str) -> bool {
        !self.progress.is_rehearsal() && !self.hooks(service).is_empty()
    }

    fn begin(&self, service: &str) -> anyhow::Result<()> {
        self.parts(service)
            .into_iter()
            .try_for_each(|one| Ok(run_hooks(&self.global.engine, one, self.hooks(service), "pre_stop")?))
    }

    fn work(&self, instance: &&'a Instance, _: &dyn Fn()) -> anyhow::Result<()> {
        stop_one(self.global, instance, self.timeout, self.progress)
    }

    fn tick(&self) {
        self.progress.tick();
    }
}

/// Stops one container, and says so.
pub(crate) fn stop_one(
    global: &Global,
    instance: &Instance,
    timeout: Option<i64>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let name = instance.name();
    progress.line(CONTAINER, name, "Stopping");
    if progress.is_rehearsal() {
        progress.line(CONTAINER, name, "Stopped");
        return Ok(());
    }
    match global.engine.stop(&instance.container, StopRequest { signal: None, timeout }) {
        Ok(()) | Err(EngineError::NoContainer(_)) => {
            progress.line(CONTAINER, name, "Stopped");
            Ok(())
        }
        Err(error) => {
            progress.line(CONTAINER, name, "Error while Stopping");
            Err(error.into())
        }
    }
}

/// Send a signal to the containers of services
#[derive(Debug, Parser)]
#[command(
    name = "kill",
    after_help = "Examples:
  rbox compose kill                  # SIGKILL to all that run
  rbox compose kill -s HUP web       # any other signal, by name or number"
)]
pub(crate) struct Kill {
    /// The signal
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    /// Also containers of services that the files do not have (`COMPOSE_REMOVE_ORPHANS`)
    #[arg(long)]
    remove_orphans: bool,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Kill {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            let signal: Signal = self.signal.parse()?;
            let chosen = Chosen::read(global, &self.services)?;
            let orphans = self.remove_orphans || is_true("COMPOSE_REMOVE_ORPHANS");
            let known = chosen.services();
            let meant = |one: &&Instance| {
                let own = known.contains(one.service.as_str()) || (orphans && self.services.is_empty());
                let named = self.services.is_empty() || self.services.contains(&one.service);
                one.container.is_active() && own && named
            };
            let all: Vec<&Instance> = chosen.observed.instances.iter().filter(meant).collect();
            let progress = Progress::new(&global.project, "Killing")?;
            if all.is_empty() {
                progress.message("no container to kill");
                return Ok(0);
            }
            each(&all, &progress, |one| {
                progress.line(CONTAINER, one.name(), "Killing");
                let kill = || global.engine.kill(&one.container, signal);
                let killed = if progress.is_rehearsal() { Ok(()) } else { kill() };
                let word = if killed.is_ok() { "Killed" } else { "Error while Killing" };
                progress.line(CONTAINER, one.name(), word);
                Ok(killed?)
            })?;
            Ok(0)
        })())
    }
}

/// A variable that says yes.
pub(crate) fn is_true(variable: &str) -> bool {
    let value = std::env::var(variable).unwrap_or_default();
    ["1", "t", "T", "true", "True", "TRUE"].contains(&value.as_str())
}

/// Remove the stopped containers of services
#[derive(Debug, Parser)]
#[command(
    name = "rm",
    after_help = "Examples:
  rbox compose rm                # asks first
  rbox compose rm -f -s -v web   # stops it, and takes its anonymous volumes too"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Rm {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Stop the containers first
    #[arg(short, long)]
    stop: bool,
    /// Remove their anonymous volumes too
    #[arg(short, long)]
    volumes: bool,
    /// Accepted, and changes nothing
    #[arg(short, long, hide = true)]
    all: bool,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Rm {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done(self.carry_out(global))
    }
}

impl Rm {
    fn carry_out(&self, global: &Global) -> anyhow::Result<u8> {
        let chosen = Chosen::read(global, &self.services)?;
        if self.stop {
            let progress = Progress::new(&global.project, "Stopping")?;
            stop(global, &chosen, &self.services, None, &progress)?;
        }
        let mut stopped = chosen.instances(&chosen.selected(&self.services));
        stopped.retain(|one| {
            (self.stop && global.project.dry_run)
                || global.engine.current(&one.container.record.id).is_some_and(|now| !now.is_active())
        });
        let progress = Progress::new(&global.project, "Removing")?;
        if stopped.is_empty() {
            progress.message("No stopped containers");
            return Ok(0);
        }
        let names: Vec<&str> = stopped.iter().map(|one| one.name()).collect();
        let question = format!("Going to remove {}", names.join(", "));
        if self.force || progress.is_rehearsal() {
            say(&question)?;
        } else if !is_yes(&asking::line(&format!("{question} [yN] "))?) {
            return Ok(0);
        }
        each(&stopped, &progress, |one| {
            progress.line(CONTAINER, one.name(), "Removing");
            if progress.is_rehearsal() {
                progress.line(CONTAINER, one.name(), "Removed");
                return Ok(());
            }
            let Some(container) = global.engine.current(&one.container.record.id) else { return Ok(()) };
            let request = RemoveRequest { force: self.force, volumes: self.volumes };
            match global.engine.remove(&container, request) {
                Ok(()) | Err(EngineError::NoContainer(_)) => {}
                Err(error) => {
                    progress.line(CONTAINER, one.name(), "Error while Removing");
                    return Err(error.into());
                }
            }
            progress.line(CONTAINER, one.name(), "Removed");
            Ok(())
        })?;
        Ok(0)
    }
}

/// An answer that agrees.
pub(crate) fn is_yes(answer: &str) -> bool {
    ["y", "yes", "t", "true", "1"].contains(&answer.trim().to_lowercase().as_str())
}

/// Pause the containers of services
#[derive(Debug, Parser)]
#[command(
    name = "pause",
    after_help = "Examples:\n  rbox compose pause            # freezes every process of the project\n  rbox compose unpause"
)]
pub(crate) struct Pause {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Pause {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        freeze(global, &self.services, true)
    }
}

/// Let the containers of services go on
#[derive(Debug, Parser)]
#[command(
    name = "unpause",
    after_help = "Examples:\n  rbox compose pause web\n  rbox compose unpause web      # it goes on where it was"
)]
pub(crate) struct Unpause {
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Unpause {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        freeze(global, &self.services, false)
    }
}

fn freeze(global: &Global, words: &[String], pause: bool) -> anyhow::Result<u8> {
    not_done((|| {
        let chosen = Chosen::read(global, words)?;
        let mut all = chosen.instances(&chosen.selected(words));
        all.retain(|one| one.container.is_active());
        let progress = Progress::new(&global.project, "Running")?;
        each(&all, &progress, |one| {
            let engine = &global.engine;
            let word = if pause { "Paused" } else { "Unpaused" };
            match pause {
                _ if progress.is_rehearsal() => {}
                true => engine.pause(&one.container)?,
                false => engine.unpause(&one.container)?,
            }
            progress.line(CONTAINER, one.name(), word);
            Ok(())
        })?;
        Ok(0)
    })())
}

/// Does something to each of several containers at once. All failures are reported; the last one is given back.
pub(crate) fn each(
    all: &[&Instance],
    progress: &Progress,
    work: impl Fn(&Instance) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let work = &work;
    let mut failed: Vec<anyhow::Error> = std::thread::scope(|scope| {
        let threads: Vec<_> = all.iter().map(|one| scope.spawn(move || work(one))).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            progress.tick();
            std::thread::sleep(TICK / 20);
        }
        threads
            .into_iter()
            .filter_map(|thread| match thread.join() {
                Ok(result) => result.err(),
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    progress.leave();
    let Some(last) = failed.pop() else { return Ok(()) };
    for error in failed {
        report(&error);
    }
    Err(Coded { message: message(&last), code: NOT_DONE }.into())
}
