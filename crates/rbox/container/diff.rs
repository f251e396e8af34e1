//! `rbox diff`.

use std::fmt::Write as _;
use std::io::stdout;

use clap::Parser;

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::output::escape;
use crate::output::table::write_all;

/// Inspect changes to files or directories on a container's filesystem
///
/// A is what was added, C what was changed, D what was deleted. The container may run.
#[derive(Debug, Parser)]
#[command(
    name = "diff",
    after_help = "Examples:\n  rbox diff web\n  rbox diff web | grep '^A /etc/'\n\nThe files are in a directory of the host: 'rbox fs web' says which, and 'rbox fs web PATH' which layer a file is in."
)]
pub(crate) struct Diff {
    /// Its name or id
    container: String,
}

/// Letters that are printed at a time.
const CHUNK: usize = 64 << 10;

impl Execute for Diff {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let container = global.engine.container(&self.container)?;
        let mut text = String::new();
        global.engine.changes(&container, &mut |kind, path| {
            let _ = writeln!(text, "{} {}", kind.letter(), escape::text(&path.to_string_lossy()));
            // What was told so far is shown: a tree may be of any size.
            if text.len() < CHUNK { Ok(()) } else { write_all(&mut stdout(), &std::mem::take(&mut text)) }
        })?;
        write_all(&mut stdout(), &text)?;
        Ok(0)
    }
}
