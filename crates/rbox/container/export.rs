//! `rbox export`: a container's file system as a tar archive.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Parser;
use rbox_engine::engine::Packed;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::file::{PRIVATE, check_directory, replace};
use crate::command::global::Global;
use crate::output::escape;
use crate::output::table::write_all;

/// Export a container's filesystem as a tar archive
#[derive(Debug, Parser)]
#[command(
    name = "export",
    after_help = "Examples:
  rbox export -o web.tar web
  rbox export web | zstd > web.tar.zst
  rbox export web | rbox import - web:flat     # an image of one layer

What is mounted in it (volumes, /proc, /dev) is not exported."
)]
pub(crate) struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Its name or id
    container: String,
}

impl Execute for Export {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(bad_input("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        if let Some(path) = &self.output {
            check_directory(path).map_err(|why| why.context("failed to export container"))?;
        }
        let container = global.engine.container(&self.container)?;
        let packed = match &self.output {
            Some(path) => replace(path, PRIVATE, |file| global.engine.export(&container, file))?,
            None => global.engine.export(&container, io::stdout().lock())?,
        };
        warn_of_left_out(&packed);
        Ok(0)
    }
}

/// Says what an archive has no place for.
pub(crate) fn warn_of_left_out(packed: &Packed) {
    if let Some(first) = &packed.first_left_out {
        let count = packed.left_out;
        let line =
            format!("{count} files or attributes that no archive can hold were left out, such as {first}");
        let _ = write_all(&mut io::stderr(), &format!("rbox: warning: {}\n", escape::text(&line)));
    }
}
