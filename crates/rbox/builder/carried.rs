//! `rbox builder cache`: caches of `RUN --mount=type=cache`, listed and carried elsewhere.

use std::fs::File;
use std::io::{BufReader, BufWriter, IsTerminal as _, Read, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use rbox_build::{cache_entries, export_mount, import_mount};

use crate::builder::cache::show;
use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::file::{ORDINARY, replace};
use crate::command::global::Global;
use crate::output::table::{STDOUT, unwritten};

/// List, export and import the caches of RUN --mount=type=cache
#[derive(Debug, Parser)]
#[command(
    name = "cache",
    after_help = "Examples:\n  rbox builder cache ls\n  rbox builder cache export -o pip.tar /root/.cache/pip     # by its id, or where it is mounted\n  rbox builder cache import -i pip.tar /root/.cache/pip     # what was in it is replaced"
)]
pub(crate) struct Cache {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the caches
    #[command(visible_alias = "list")]
    Ls {
        /// Format the output: table, json, or a template
        #[arg(long)]
        format: Option<String>,
    },
    /// Write what a cache has as a tar archive
    Export {
        /// Write to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Its id, where it is mounted, or the beginning of what 'builder du' calls it
        #[arg(value_name = "CACHE")]
        cache: String,
    },
    /// Make a cache of what a tar archive has, compressed or not; what was in it is replaced
    Import {
        /// Read this file instead of standard input
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
        /// Its id, or where it is mounted
        #[arg(value_name = "CACHE")]
        cache: String,
    },
}

impl Execute for Cache {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let dir = global.engine.build_dir();
        match self.what {
            What::Ls { format } => {
                let mut all = cache_entries(&dir)?;
                all.retain(|entry| entry.kind == "exec.cachemount");
                show(&all, true, format.as_deref())?;
            }
            What::Export { output: Some(file), cache } => {
                replace(&file, ORDINARY, |to| export_mount(&dir, &cache, to).map_err(anyhow::Error::from))?;
            }
            What::Export { output: None, cache } => {
                if std::io::stdout().is_terminal() {
                    return Err(bad_input(
                        "refusing to write an archive to a terminal: use -o, or redirect it",
                    ));
                }
                let mut out = BufWriter::with_capacity(128 << 10, std::io::stdout().lock());
                export_mount(&dir, &cache, &mut out)?;
                out.flush().map_err(|error| unwritten(STDOUT, &error))?;
            }
            What::Import { input, cache } => {
                let from: Box<dyn Read + Send> = match &input {
                    Some(file) => {
                        Box::new(File::open(file).with_context(|| format!("open {}", file.display()))?)
                    }
                    None => Box::new(std::io::stdin()),
                };
                let tar = rbox_engine::image::archive::uncompressed(BufReader::new(from))
                    .context("read the archive")?;
                import_mount(&dir, &cache, tar)?;
            }
        }
        Ok(0)
    }
}
