//! `rbox commit`.

use clap::{ArgAction, Parser};
use rbox_engine::engine::{CommitRequest, Committed, Container};
use rbox_engine::image::store::checked_name;
use rbox_engine::spec::Reference;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::output::escape;
use crate::output::lines::say;
use crate::output::table::write_all;

/// What an image of a container is made with.
#[derive(Debug, clap::Args)]
pub(crate) struct CommitFlags {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long)]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long)]
    message: Option<String>,
    /// Pause container during commit
    #[arg(
        short, long, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set
    )]
    pause: bool,
}

impl CommitFlags {
    /// Makes the image, named `reference` if that is not empty, and says what of the container is not in it.
    pub(crate) fn commit(
        self,
        global: &Global,
        container: &Container,
        reference: Option<&str>,
    ) -> anyhow::Result<Committed> {
        let reference = reference.filter(|name| !name.is_empty());
        let reference = reference.map(Reference::parse).transpose().map_err(bad_input)?;
        let request = CommitRequest {
            author: self.author,
            message: self.message,
            changes: self.change,
            pause: self.pause,
            reference: reference.map(checked_name).transpose()?,
        };
        let committed = global.engine.commit(container, request)?;
        if let Some(first) = &committed.first_left_out {
            let (count, first) = (committed.left_out, escape::text(first));
            let line = format!(
                "rbox: warning: {count} files are not in the image, for no layer can hold them, such as {first}\n"
            );
            write_all(&mut std::io::stderr(), &line)?;
        }
        Ok(committed)
    }
}

/// Create a new image from a container's changes
#[derive(Debug, Parser)]
#[command(
    name = "commit",
    after_help = "Examples:\n  rbox commit web web:edited\n  rbox commit -m 'with curl' -a 'Ann <ann@example.com>' web web:curl\n  rbox commit -c 'CMD [\"nginx\"]' -c 'ENV LANG=C.UTF-8' web web:2"
)]
pub(crate) struct Commit {
    #[command(flatten)]
    flags: CommitFlags,
    /// Its name or id
    container: String,
    /// The image's name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    reference: Option<String>,
}

impl Execute for Commit {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let container = global.engine.container(&self.container)?;
        let committed = self.flags.commit(global, &container, self.reference.as_deref())?;
        say(&committed.image.id.to_string())?;
        Ok(0)
    }
}
