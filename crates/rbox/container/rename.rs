//! `rbox rename`.

use clap::Parser;
use rbox_engine::spec::ContainerName;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;

/// Rename a container
#[derive(Debug, Parser)]
#[command(name = "rename", after_help = "Examples:\n  rbox rename brave_turing web")]
pub(crate) struct Rename {
    /// Its name or id
    container: String,
    /// The new name
    new_name: String,
}

impl Execute for Rename {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let container = global.engine.container(&self.container)?;
        let name: ContainerName = self.new_name.parse().map_err(bad_input)?;
        global.engine.rename(&container, &name)?;
        Ok(0)
    }
}
