//! `rbox compose start` and `restart`: services begin when those they depend on are far enough.

use std::collections::BTreeSet;

use clap::Parser;
use rbox_compose::model::{Hook, Project};
use rbox_compose::run::{self, run_hooks};
use rbox_compose::{Instance, Options};
use rbox_engine::engine::{StartOptions, StopRequest};
use rbox_engine::session::{SignalFd, Taken};

use crate::args::patience::Patience;
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, not_done};
use crate::compose::graph::Graph;
use crate::compose::narrator::Shown;
use crate::compose::progress::Progress;
use crate::compose::project::{options, refused};
use crate::compose::remote::confirm;
use crate::compose::stop::{CONTAINER, each};
use crate::compose::up::interrupted;
use crate::compose::waiting::Waiting;

/// Start the stopped containers of services
#[derive(Debug, Parser)]
#[command(
    name = "start",
    after_help = "Examples:
  rbox compose start           # all that up or create has made
  rbox compose start web       # and first what it depends on"
)]
pub(crate) struct Start {
    /// Agree to all that is asked
    #[arg(long)]
    yes: bool,
    /// Only these services, and those they depend on
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Start {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            let chosen = Chosen::read(global, &self.services)?;
            if chosen.loaded.is_none() && chosen.own().next().is_none() {
                let message = format!("no container found for project {:?}: not found", chosen.name);
                return Err(Coded { message, code: NOT_DONE }.into());
            }
            let mut graph = chosen.graph();
            if !self.services.is_empty() {
                let wanted = graph.with_dependencies(&self.services);
                graph = graph.only(&wanted);
            }
            let steps = steps(global, &chosen, &self.services, self.yes)?;
            let progress = Progress::new(&global.project, "Running")?;
            in_order(global, &chosen, &graph, &progress, |ready| {
                for service in ready {
                    if let Some(project) = &steps {
                        prepare(global, &chosen, project, service, &progress)?;
                    }
                    start(global, &chosen, service, &progress)?;
                }
                Ok(())
            })?;
            Ok(0)
        })())
    }
}

/// The project whole, if services of it have something run before they start: that has their variables.
fn steps(global: &Global, chosen: &Chosen, words: &[String], yes: bool) -> anyhow::Result<Option<Project>> {
    if global.project.dry_run {
        return Ok(None);
    }
    let services = chosen.loaded.iter().flat_map(|files| files.project.services.values());
    if services.into_iter().all(|service| service.pre_start.is_empty()) {
        return Ok(None);
    }
    let options = Options { services: words.to_vec(), ..options(global)? };
    let loaded = rbox_compose::load(&options).map_err(refused)?;
    confirm(&loaded, yes)?;
    Ok(Some(loaded.project))
}

/// Runs what a service has run before its first container starts.
fn prepare(
    global: &Global,
    chosen: &Chosen,
    project: &Project,
    service: &str,
    progress: &Progress,
) -> anyhow::Result<()> {
    let Some(service) = project.services.get(service).filter(|service| !service.pre_start.is_empty()) else {
        return Ok(());
    };
    let own: Vec<&Instance> = chosen.own().filter(|one| one.service == service.name).collect();
    let signals = SignalFd::new(Taken::Ending);
    let done = run::prepare(&global.engine, project, service, &own, &Shown(progress), signals.as_ref());
    done.map_err(interrupted)
}

/// Gives the services of a graph to `begin`, each as soon as those it depends on have begun and are far enough.
fn in_order(
    global: &Global,
    chosen: &Chosen,
    graph: &Graph,
    progress: &Progress,
    mut begin: impl FnMut(&[&str]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut waiting = Waiting::new(global, &chosen.observed, progress)?;
    let mut left: BTreeSet<&str> = graph.0.keys().map(String::as_str).collect();
    while !left.is_empty() {
        let mut ready = Vec::new();
        for (name, edges) in graph.0.iter().filter(|(name, _)| left.contains(name.as_str())) {
            let in_turn = edges.keys().all(|other| !left.contains(other.as_str()));
            let known = edges.iter().filter(|(other, _)| graph.0.contains_key(*other));
            if in_turn && (progress.is_rehearsal() || waiting.is_over(name, known)?) {
                ready.push(name.as_str());
            }
        }
        if ready.is_empty() {
            waiting.pause();
            continue;
        }
        begin(&ready)?;
        left.retain(|name| !ready.contains(name));
    }
    Ok(())
}

/// Starts the containers of a service that do not run.
fn start(global: &Global, chosen: &Chosen, service: &str, progress: &Progress) -> anyhow::Result<()> {
    let mut any = false;
    for one in chosen.own().filter(|one| one.service == service) {
        any = true;
        let Some(now) = global.engine.current(&one.container.record.id) else { continue };
        if now.is_active() {
            continue;
        }
        progress.line(CONTAINER, one.name(), "Starting");
        if !progress.is_rehearsal() {
            start_one(global, one, progress)?;
            run_hooks(&global.engine, one, post_start(chosen, service), "post_start")?;
        }
        progress.line(CONTAINER, one.name(), "Started");
    }
    let wants = chosen.loaded.as_ref().and_then(|files| files.project.services.get(service));
    if !any && wants.is_some_and(|service| service.replicas() > 0) {
        let message = format!("service {service:?} has no container to start");
        return Err(Coded { message, code: NOT_DONE }.into());
    }
    Ok(())
}

fn start_one(global: &Global, one: &Instance, progress: &Progress) -> anyhow::Result<()> {
    let started = global.engine.start(&one.container, StartOptions::default());
    if started.is_err() {
        progress.line(CONTAINER, one.name(), "Error while Starting");
    }
    drop(started?);
    Ok(())
}

fn post_start<'a>(chosen: &'a Chosen, service: &str) -> &'a [Hook] {
    let files = chosen.loaded.as_ref();
    files.and_then(|files| files.project.services.get(service)).map_or(&[], |found| &found.post_start)
}

/// Restart the containers of services
#[derive(Debug, Parser)]
#[command(
    name = "restart",
    after_help = "Examples:
  rbox compose restart                 # all of them, in order
  rbox compose restart -t 1 db         # and what depends on it with restart: true
  rbox compose restart --no-deps db    # it alone"
)]
pub(crate) struct Restart {
    #[command(flatten)]
    patience: Patience,
    /// Not what depends on them
    #[arg(long)]
    no_deps: bool,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Restart {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        not_done((|| {
            let chosen = Chosen::read(global, &[])?;
            chosen.check(&self.services)?;
            let mut graph = chosen.graph();
            // Those who do not care whether the other is restarted need not wait for it.
            graph.0.values_mut().for_each(|edges| edges.retain(|_, edge| edge.restart));
            if !self.services.is_empty() {
                let wanted = if self.no_deps {
                    self.services.iter().cloned().collect()
                } else {
                    graph.with_dependents(&self.services)
                };
                graph = graph.only(&wanted);
            }
            let progress = Progress::new(&global.project, "Restarting")?;
            in_order(global, &chosen, &graph, &progress, |ready| {
                self.restart(global, &chosen, ready, &progress)
            })?;
            Ok(0)
        })())
    }
}

impl Restart {
    /// Stops the containers of several services at once, and starts them one after the other: only a process of one thread starts
    /// containers.
    fn restart(
        &self,
        global: &Global,
        chosen: &Chosen,
        services: &[&str],
        progress: &Progress,
    ) -> anyhow::Result<()> {
        let all: Vec<&Instance> =
            chosen.own().filter(|one| services.contains(&one.service.as_str())).collect();
        if progress.is_rehearsal() {
            for word in ["Restarting", "Started"] {
                for one in &all {
                    progress.line(CONTAINER, one.name(), word);
                }
            }
            return Ok(());
        }
        for one in &all {
            let files = chosen.loaded.as_ref();
            let service = files.and_then(|files| files.project.services.get(&one.service));
            run_hooks(&global.engine, one, service.map_or(&[], |service| &service.pre_stop), "pre_stop")?;
        }
        let request = StopRequest { signal: None, timeout: self.patience.timeout };
        each(&all, progress, |one| {
            progress.line(CONTAINER, one.name(), "Restarting");
            Ok(global.engine.stop(&one.container, request)?)
        })?;
        for one in all {
            let Some(now) = global.engine.current(&one.container.record.id) else { continue };
            global.engine.restart(&now, request)?;
            run_hooks(&global.engine, one, post_start(chosen, &one.service), "post_start")?;
            progress.line(CONTAINER, one.name(), "Started");
        }
        Ok(())
    }
}
