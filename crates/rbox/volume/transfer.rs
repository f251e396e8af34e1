//! `rbox volume export`, `import`, `clone` and `rename`.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Parser;
use rbox_engine::engine::VolumeError;
use rbox_engine::spec::VolumeName;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::file::{PRIVATE, check_directory, replace};
use crate::command::global::Global;
use crate::container::export::warn_of_left_out;
use crate::output::lines::say;

/// What is no name is the name of no volume.
fn existing(text: &str) -> Result<VolumeName, VolumeError> {
    text.parse().map_err(|_| VolumeError::Missing(text.to_owned()))
}

/// Export what a volume holds as a tar archive
#[derive(Debug, Parser)]
#[command(
    name = "export",
    after_help = "Examples:
  rbox volume export -o data.tar data
  rbox volume export --pause db | zstd > db.tar.zst     # a moment of it: its containers stand still meanwhile"
)]
pub(crate) struct Export {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Pause the containers that mount it until all is written
    #[arg(short, long)]
    pause: bool,
    /// Its name
    volume: String,
}

impl Execute for Export {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        if self.output.is_none() && io::stdout().is_terminal() {
            return Err(bad_input("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
        }
        if let Some(path) = &self.output {
            check_directory(path).map_err(|why| why.context("failed to export volume"))?;
        }
        let name = existing(&self.volume)?;
        global.engine.volumes().get(&name)?.ok_or_else(|| VolumeError::Missing(self.volume.clone()))?;
        let packed = match &self.output {
            Some(path) => {
                replace(path, PRIVATE, |file| global.engine.export_volume(&name, self.pause, file))?
            }
            None => global.engine.export_volume(&name, self.pause, io::stdout().lock())?,
        };
        warn_of_left_out(&packed);
        Ok(0)
    }
}

/// Unpack a tar archive in a volume, which is made when there is none
#[derive(Debug, Parser)]
#[command(
    name = "import",
    after_help = "Examples:
  rbox volume import data data.tar
  zstd -dc db.tar.zst | rbox volume import db

What is there under other names stays. A new volume is there when all of it is."
)]
pub(crate) struct Import {
    /// Its name
    volume: String,
    /// The archive, compressed or not; - for STDIN
    #[arg(default_value = "-")]
    file: PathBuf,
}

impl Execute for Import {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let name: VolumeName = self.volume.parse().map_err(bad_input)?;
        if self.file.as_os_str() == "-" {
            if io::stdin().is_terminal() {
                return Err(bad_input(
                    "refusing to read an archive from a terminal: name a file or redirect",
                ));
            }
            global.engine.import_volume(&name, io::stdin())?;
        } else {
            let file = File::open(&self.file)
                .map_err(|error| bad_input(format!("open {}: {error}", self.file.display())))?;
            global.engine.import_volume(&name, file)?;
        }
        say(name.as_str())?;
        Ok(0)
    }
}

/// Make a volume that holds what another one holds
#[derive(Debug, Parser)]
#[command(
    name = "clone",
    after_help = "Examples:
  rbox volume clone data data-before     # with its labels; a directory, whatever the source is"
)]
pub(crate) struct CloneVolume {
    /// The one that is there
    source: String,
    /// The new one
    name: String,
}

impl Execute for CloneVolume {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let to: VolumeName = self.name.parse().map_err(bad_input)?;
        let packed = global.engine.clone_volume(&existing(&self.source)?, &to)?;
        warn_of_left_out(&packed);
        say(to.as_str())?;
        Ok(0)
    }
}

/// Rename a volume that no container has
#[derive(Debug, Parser)]
#[command(
    name = "rename",
    after_help = "Examples:
  rbox volume rename data old-data

Containers know a volume by its name, so one that has it, running or not, is in the way."
)]
pub(crate) struct Rename {
    /// Its name
    volume: String,
    /// The new name
    name: String,
}

impl Execute for Rename {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let to: VolumeName = self.name.parse().map_err(bad_input)?;
        global.engine.rename_volume(&existing(&self.volume)?, &to)?;
        Ok(0)
    }
}
