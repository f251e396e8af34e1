//! What every command stands on: the engine, and how it reports what happens meanwhile.

use rbox_engine::engine::{Engine, Event, Observer};
use rbox_engine::image::IndexMadeAgain;

use crate::args::project::ProjectFlags;
use crate::output::escape;
use crate::output::table::write_all;

/// What holds for every command.
#[derive(Debug, Clone)]
pub(crate) struct Global {
    /// What does the work.
    pub(crate) engine: Engine,
    /// All commands as one tree, for what is made from it: help, completions and manual pages.
    pub(crate) tree: fn() -> clap::Command,
    /// Which project the commands of `compose` mean.
    pub(crate) project: ProjectFlags,
}

/// Writes what a user should know to standard error. Pulls are for those who show them ([`crate::image::progress`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Warnings;

impl Observer for Warnings {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::NotTidied(error) => format!("rbox: warning: {}", escape::text(&error.with_causes())),
            Event::ImageDamaged { name, error } => {
                let why = rbox_engine::error::chain(error);
                let line = format!(
                    "image {name} is damaged: {why}; pull it again, or remove it with 'rbox rmi {name}'"
                );
                format!("rbox: warning: {}", escape::text(&line))
            }
            Event::IndexMadeAgain(notice) => {
                let IndexMadeAgain { damage, aside, images, unnamed } = notice;
                let aside = aside
                    .as_ref()
                    .map_or_else(String::new, |aside| format!("set aside as {}, and ", aside.display()));
                let line = format!(
                    "the list of images was damaged ({}). It was {aside}made again from the {images} images that are here; {unnamed} of them have no name: pull or tag them again",
                    rbox_engine::error::chain(damage),
                );
                format!("rbox: warning: {}", escape::text(&line))
            }
            Event::Waiting(line) => format!("rbox: {}", escape::text(line)),
            Event::ForeignImage { image, host } => format!(
                "WARNING: The requested image's platform ({image}) does not match the detected host platform ({host}) and no \
                 specific platform was requested"
            ),
            Event::JournalDamaged(bytes) => format!(
                "rbox: warning: the journal of events has {bytes} bytes that are no event, as a kill or a power cut leaves them; they were skipped"
            ),
            Event::EventsLost(files) => format!(
                "rbox: warning: events came faster than they were taken: {files} files of the journal were deleted before they were read"
            ),
            Event::PortsDiscarded { why, .. } => format!("WARNING: Published ports are discarded when {why}"),
            _ => return,
        };
        // Nobody reads: nothing to be done about it.
        let _ = write_all(&mut std::io::stderr(), &format!("{line}\n"));
    }
}
