//! `rbox stop`, `kill`, `restart`, `wait`, `pause` and `unpause`: what is done to a running container.

use clap::Parser;
use rbox_engine::engine::{Container, StopRequest};
use rbox_engine::error::EngineError;
use rbox_engine::spec::signal::Signal;

use crate::args::patience::Patience;
use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, report};
use crate::command::global::Global;
use crate::output::lines::say;

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
        let stop = |name: &String| -> anyhow::Result<()> {
            let container = global.engine.container(name)?;
            Ok(global
                .engine
                .stop(&container, StopRequest { signal: with, timeout: self.patience.timeout })?)
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
                Ok(Ok(())) => say(name)?,
                Ok(Err(error)) => code = code.max(report(&error).min(NOT_DONE)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(code)
    }
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
            global
                .engine
                .restart(&container, StopRequest { signal: with, timeout: self.patience.timeout })?;
            say(name)
        }))
    }
}

/// Block until one or more containers stop, then print their exit codes
#[derive(Debug, Parser)]
#[command(
    name = "wait",
    after_help = "Examples:\n  rbox wait job          # prints the exit code when it ends\n  rbox wait a b          # one code a line, in this order"
)]
pub(crate) struct Wait {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Wait {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        Ok(each(&self.containers, |name| {
            let container = global.engine.container(name)?;
            say(&global.engine.wait(&container)?.to_string())
        }))
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
