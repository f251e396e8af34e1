//! `--explain`: the making of a container. What is told comes from the code that makes the calls
//! (`rbox_sys::trace`); a process beside rbox turns it into what people read.

mod args;
mod event;
mod facts;
mod inside;
pub(crate) mod paint;
mod script;
mod show;
mod stage;
mod steps;
mod story;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use clap::ValueEnum;
use rbox_engine::error::EngineError;
use rbox_engine::explain::{self, Reader};

use crate::explain::event::Event;
use crate::explain::paint::Paint;
use crate::explain::script::Script;
use crate::explain::show::Show;
use crate::explain::steps::{Form, Steps};
use crate::explain::story::Story;

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Depth {
    /// A line for each stage, with what matters in it
    Story,
    /// Each step, and why it is taken
    Steps,
    /// Each system call
    #[value(alias = "text")]
    Calls,
    /// Commands that make the same by hand
    Sh,
    /// Each step and call for machines
    Json,
}

/// What is told until this ends.
#[derive(Debug)]
pub(crate) struct Telling(To);

/// Where it goes.
#[derive(Debug)]
enum To {
    /// Nothing.
    Nothing,
    /// Lines on standard error.
    Lines,
    /// To a process that shows it.
    Reader(Reader),
}

impl Telling {
    /// Nothing is told.
    pub(crate) fn nothing() -> Self {
        Self(To::Nothing)
    }

    /// Tells all from here on: to a new file, or on what standard error is now.
    pub(crate) fn begin(depth: Depth, command: &str, to: Option<&Path>) -> anyhow::Result<Self> {
        let file = to.map(create).transpose()?.map(OwnedFd::from);
        let paint = if file.is_some() { Paint::plain() } else { Paint::of_stderr() };
        let show: Box<dyn Show> = match depth {
            Depth::Story => Box::new(Story::new(paint, command)),
            Depth::Steps => Box::new(Steps::new(paint, Form::Brief)),
            Depth::Calls => Box::new(Steps::new(paint, Form::Calls)),
            Depth::Sh => Box::new(Script::new(command)),
            Depth::Json => {
                match file {
                    Some(file) => explain::to_file(file),
                    None => explain::to_stderr()?,
                }
                return Ok(Self(To::Lines));
            }
        };
        Ok(Self(To::Reader(explain::to_reader(file.as_ref(), |events| print_all(show, events))?)))
    }

    /// All is told: what is printed after this comes after it.
    pub(crate) fn end(&mut self) {
        match std::mem::replace(&mut self.0, To::Nothing) {
            To::Nothing => {}
            To::Lines => explain::end(),
            To::Reader(reader) => reader.end(),
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.end();
    }
}

/// A new file for what is told. Variables of the program may be in it, so it is for its owner only.
fn create(path: &Path) -> Result<File, EngineError> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).map_err(EngineError::file("create", path))
}

/// The reader's life.
fn print_all(mut show: Box<dyn Show>, events: &mut dyn Iterator<Item = Vec<u8>>) {
    for told in events {
        // A line that is none of ours is nothing to fail for.
        if let Ok(event) = rbox_engine::spec::json::from_slice::<Event>(&told) {
            print(&show.event(&event.for_terminals()));
        }
    }
    print(&show.end());
}

fn print(text: &str) {
    use io::Write as _;
    // Who does not read has no need of it.
    let _ = io::stderr().write_all(text.as_bytes());
}
