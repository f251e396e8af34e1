//! `rbox update`: other limits and another restart policy for containers that exist.

use clap::Parser;
use rbox_engine::engine::UpdateRequest;
use rbox_engine::spec::resources::Resources;

use crate::args::limits::LimitFlags;
use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::output::lines::say;

/// Update configuration of one or more containers
#[derive(Debug, Parser)]
#[command(
    name = "update",
    after_help = "Examples:\n  rbox update -m 512m --memory-swap 1g web     # also while it runs\n  rbox update --cpus 1.5 web db\n  rbox update --restart unless-stopped web"
)]
pub(crate) struct Update {
    #[command(flatten)]
    limits: LimitFlags,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Update {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let request = UpdateRequest { limits: self.limits.resources()?, restart: self.limits.restart()? };
        if request.limits == Resources::default() && request.restart.is_none() {
            return Err(bad_input("you must provide one or more flags when using this command"));
        }
        Ok(each(&self.containers, |name| {
            global.engine.update(&global.engine.container(name)?, &request)?;
            say(name)
        }))
    }
}
