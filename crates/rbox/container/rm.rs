//! `rbox rm` and `rbox container prune`.

use std::collections::BTreeMap;

use clap::Parser;
use rbox_engine::engine::RemoveRequest;
use rbox_engine::listing::filter::{Filters, PRUNE_KEYS};
use rbox_engine::spec::id::ContainerId;

use crate::args::pruning::{Pruning, say_deleted};
use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::units::human_sum;

/// Remove one or more containers
#[derive(Debug, Parser)]
#[command(
    name = "rm",
    after_help = "Examples:\n  rbox rm job             # a stopped container\n  rbox rm -f -v web       # a running one, with its anonymous volumes\n  rbox rm -f -a           # all, also those that run"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Rm {
    /// Remove all containers; with -f those that run, too
    #[arg(short, long, conflicts_with = "link")]
    all: bool,
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove the specified link (CONTAINER/ALIAS), not a container
    #[arg(short, long, conflicts_with_all = ["force", "volumes"])]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Rm {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        use rbox_engine::error::EngineError;
        if self.link {
            return Ok(each(&self.containers, |path| {
                global.engine.unlink(path)?;
                say(path)
            }));
        }
        let containers = if self.all {
            global.engine.containers()?.iter().map(|one| one.record.id.as_str().to_owned()).collect()
        } else {
            self.containers
        };
        let mut ended = BTreeMap::new();
        if self.force {
            // All at once, so that the kernel takes them down together; each is waited for below.
            for name in &containers {
                if let Ok(container) = global.engine.container(name) {
                    global.engine.begin_kill(&container);
                    ended.insert(name.as_str(), container);
                }
            }
        }
        Ok(each(&containers, |name| {
            let known = ended.remove(name);
            let container = match (global.engine.container(name), known) {
                // Made with --rm, its monitor was faster: what is left to do is to wait for that.
                (Err(EngineError::NoContainer(_)), Some(known)) => known,
                // With -f a container that is not there is reported, and is no failure, as Docker has it.
                (Err(error @ EngineError::NoContainer(_)), None) if self.force => {
                    crate::command::error::report(&error.into());
                    return Ok(());
                }
                (found, _) => found?,
            };
            global.engine.remove(&container, RemoveRequest { force: self.force, volumes: self.volumes })?;
            say(name)
        }))
    }
}

/// Remove all stopped containers
#[derive(Debug, Parser)]
#[command(
    name = "prune",
    after_help = "Examples:\n  rbox container prune -f\n  rbox container prune --filter until=24h --filter label!=keep"
)]
pub(crate) struct Prune {
    #[command(flatten)]
    pruning: Pruning,
}

impl Execute for Prune {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let filters = self.pruning.filters(PRUNE_KEYS)?;
        if !self.pruning.agreed("WARNING! This will remove all stopped containers.")? {
            return Ok(0);
        }
        let reclaimed = prune(global, &filters)?;
        say(&format!("Total reclaimed space: {}", human_sum(reclaimed)))?;
        Ok(0)
    }
}

/// Removes the containers that do not run and pass the filters, prints which, and gives the bytes that were freed.
pub(crate) fn prune(global: &Global, filters: &Filters) -> anyhow::Result<u64> {
    let pruned = global.engine.prune_containers(filters)?;
    say_deleted("Containers", pruned.ids.iter().map(ContainerId::as_str))?;
    Ok(pruned.reclaimed)
}
