//! `rbox stop`, `kill`, `restart`, `wait`, `pause` and `unpause`: what is done to a running container.

use std::cell::Cell;

use clap::Parser;
use rbox_engine::engine::{Container, SignalAction, StopRequest, Stopped};
use rbox_engine::error::EngineError;
use rbox_engine::spec::signal::Signal;

use crate::args::patience::Patience;
use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, report};
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::table::write_all;

/// Stop one or more running containers
#[derive(Debug, Parser)]
#[command(
    name = "stop",
    after_help = "Examples:\n  rbox stop web            # SIGTERM, and SIGKILL after 10 seconds\n  rbox stop -t 1 web db    # two at once, one second each\n  rbox stop -s SIGINT web  # another signal first\n  rbox stop -a             # all that run"
)]
pub(crate) struct Stop {
    /// Signal to send to the container
    #[arg(short, long)]
    signal: Option<String>,
    #[command(flatten)]
    patience: Patience,
    /// Stop all that run
    #[arg(short, long)]
    all: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// The containers to act on: those named, or all that run.
fn chosen(global: &Global, all: bool, named: &[String]) -> anyhow::Result<Vec<String>> {
    if !all {
        return Ok(named.to_vec());
    }
    let running = global.engine.running()?;
    Ok(running.iter().map(|one| one.record.name.to_string()).collect())
}

/// Docker has its daemon read signals, so a wrong one ends with 1 and not as other input that cannot be understood.
fn signal(text: &str) -> anyhow::Result<Signal> {
    text.parse().map_err(|error: rbox_engine::spec::signal::InvalidSignal| {
        Coded { message: error.to_string(), code: NOT_DONE }.into()
    })
}

impl Execute for Stop {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let with = self.signal.as_deref().map(signal).transpose()?;
        let stop = |name: &String| -> anyhow::Result<Option<String>> {
            let container = global.engine.container(name)?;
            let request = StopRequest { signal: with, timeout: self.patience.timeout };
            let stopped = global.engine.stop_and_tell(&container, request, &|| ())?;
            Ok(why_killed(&container, stopped))
        };
        let containers = chosen(global, self.all, &self.containers)?;
        // Each may take its ten seconds: all are asked at once. Nothing is cloned from here on.
        let results: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = containers.iter().map(|name| scope.spawn(move || stop(name))).collect();
            all.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let mut code = 0;
        for (name, result) in containers.iter().zip(results) {
            match result {
                Ok(Ok(told)) => {
                    told.iter().try_for_each(|line| complain(line))?;
                    say(name)?;
                }
                Ok(Err(error)) => code = code.max(report(&error).min(NOT_DONE)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(code)
    }
}

/// What is said of a container that did not end in time: why `stop` has taken so long.
fn why_killed(container: &Container, stopped: Stopped) -> Option<String> {
    let Stopped::Killed { signal, waited: waited @ 1.., action } = stopped else { return None };
    let name = &container.record.name;
    let why = match action {
        SignalAction::Default => format!(
            "its first process has no handler for {signal}, and without one the kernel gives PID 1 of a container no signal: 'rbox run --init' has one"
        ),
        SignalAction::Ignored => format!("its first process ignores {signal}"),
        SignalAction::Handled => {
            format!(
                "its first process has a handler for {signal}, which takes longer: --stop-timeout gives more time"
            )
        }
        SignalAction::Unknown => format!("see 'rbox why {name}'"),
    };
    Some(format!("{name} did not end within {waited} s of {signal}, and was killed: {why}"))
}

fn complain(line: &str) -> anyhow::Result<()> {
    Ok(write_all(&mut std::io::stderr(), &format!("rbox: {line}\n"))?)
}

/// Kill one or more running containers
#[derive(Debug, Parser)]
#[command(
    name = "kill",
    after_help = "Examples:\n  rbox kill web              # SIGKILL\n  rbox kill -s HUP web       # or any other signal, by name or number"
)]
pub(crate) struct Kill {
    /// Signal to send to the container
    #[arg(short, long, default_value = "SIGKILL")]
    signal: String,
    /// Kill all that run
    #[arg(short, long)]
    all: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Kill {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let with = signal(&self.signal)?;
        Ok(each(&chosen(global, self.all, &self.containers)?, |name| {
            let container = global.engine.container(name)?;
            global.engine.kill(&container, with).map_err(|error| match error {
                EngineError::Conflict(why) => {
                    EngineError::Conflict(format!("cannot kill container: {name}: {why}"))
                }
                error => error,
            })?;
            say(name)
        }))
    }
}

/// Restart one or more containers
#[derive(Debug, Parser)]
#[command(name = "restart", after_help = "Examples:\n  rbox restart web\n  rbox restart -t 1 web db")]
pub(crate) struct Restart {
    /// Signal to send to the container
    #[arg(short, long)]
    signal: Option<String>,
    #[command(flatten)]
    patience: Patience,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Restart {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let with = self.signal.as_deref().map(signal).transpose()?;
        Ok(each(&self.containers, |name| {
            let container = global.engine.container(name)?;
            let request = StopRequest { signal: with, timeout: self.patience.timeout };
            let stopped = global.engine.restart(&container, request)?;
            why_killed(&container, stopped).iter().try_for_each(|line| complain(line))?;
            say(name)
        }))
    }
}

/// Block until one or more containers stop, then print their exit codes
#[derive(Debug, Parser)]
#[command(
    name = "wait",
    after_help = "Examples:
  rbox wait job                # prints the exit code when it ends
  rbox wait a b                # one code a line, in this order
  rbox wait --exit-code job    # and ends with that code itself (moby#46870)"
)]
pub(crate) struct Wait {
    /// End with the exit code of the containers too: the first one that is not 0
    #[arg(long)]
    exit_code: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Wait {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let first = Cell::new(0);
        let code = each(&self.containers, |name| {
            let container = global.engine.container(name)?;
            let code = global.engine.wait(&container)?;
            if first.get() == 0 {
                // As the kernel hands it on.
                first.set(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
            }
            say(&code.to_string())
        });
        Ok(if code == 0 && self.exit_code { first.get() } else { code })
    }
}

/// Pause all processes within one or more containers
#[derive(Debug, Parser)]
#[command(
    name = "pause",
    after_help = "Examples:\n  rbox pause web      # freezes every process in it\n  rbox unpause web"
)]
pub(crate) struct Pause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Unpause all processes within one or more containers
#[derive(Debug, Parser)]
#[command(
    name = "unpause",
    after_help = "Examples:\n  rbox pause web\n  rbox unpause web    # they go on where they were"
)]
pub(crate) struct Unpause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

fn each_container(
    global: &Global,
    names: &[String],
    work: impl Fn(&Container) -> Result<(), rbox_engine::error::EngineError>,
) -> u8 {
    each(names, |name| {
        work(&global.engine.container(name)?)?;
        say(name)
    })
}

impl Execute for Pause {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        Ok(each_container(global, &self.containers, |one| global.engine.pause(one)))
    }
}

impl Execute for Unpause {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        Ok(each_container(global, &self.containers, |one| global.engine.unpause(one)))
    }
}
