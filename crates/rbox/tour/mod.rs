//! `rbox tour`: a guided lesson in the terminal, with real containers of the embedded image.
//!
//! | file | has |
//! |---|---|
//! | `stations.rs` | the stations, with all that is said |
//! | `checks.rs` | how each task is seen to be done |
//! | `lesson.rs` | the way through them |
//! | `scene.rs` | what is really there, for the checks |
//! | `shell.rs` | carrying out what is typed |
//! | `input.rs`, `screen.rs` | lines in, lines out |
//! | `cleaning.rs` | taking away all that the tour has made, also after a kill |

mod checks;
mod cleaning;
mod input;
mod lesson;
mod scene;
mod screen;
mod shell;
mod station;
mod stations;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::output::lines::say;
use crate::output::table::{self, Format};
use crate::output::template::Headers;
use cleaning::Janitor;
use lesson::{Learner, Lesson, find};
use shell::Shell;
use station::Kind;
use stations::STATIONS;

/// Learn what a container is, in a guided tour with real ones
///
/// The tour says what to do, you type it, and it looks at what has really happened. It needs no registry and no network: its containers are
/// of the image that is inside rbox. All that it makes has a label of its own, and is removed at its end, however that comes.
#[derive(Debug, Parser)]
#[command(
    name = "tour",
    after_help = "Examples:
  rbox tour                       # from the first station
  rbox tour signals               # from this one; rbox tour 9 is the same
  rbox tour --list
  rbox tour --auto                # types everything itself, for a demonstration
  rbox tour < lines               # a script: a line for each task
  rbox tour --clean               # removes what a tour that was killed has left

The same as a written lesson, for teachers: docs/lesson.md."
)]
#[allow(clippy::struct_excessive_bools, reason = "one for each flag")]
pub(crate) struct Tour {
    /// Show the stations
    #[arg(long, conflicts_with_all = ["auto", "clean"])]
    list: bool,
    /// Format the list: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, requires = "list")]
    format: Option<String>,
    /// Let the tour type everything itself
    #[arg(long)]
    auto: bool,
    /// With --auto: wait so long before each line; 3 on a terminal, and else 0
    #[arg(long, value_name = "SECONDS", requires = "auto")]
    pause: Option<f64>,
    /// Remove what a tour that was killed has left, and end
    #[arg(long, conflicts_with_all = ["auto", "list"])]
    clean: bool,
    /// Clean up when standard input ends
    #[arg(long, hide = true)]
    janitor: bool,
    /// The station to begin at, by name or number
    station: Option<String>,
}

impl Execute for Tour {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let engine = &global.engine;
        if self.janitor {
            cleaning::stand_by(engine)?;
            return Ok(0);
        }
        if self.list {
            return self.list();
        }
        if self.clean {
            let _lock = cleaning::lock_or_refuse(engine)?;
            let removed = cleaning::clear(engine)?.told();
            say(&removed.map_or_else(
                || "Nothing of a tour was left.".to_owned(),
                |what| format!("Removed: {what}"),
            ))?;
            return Ok(0);
        }
        let begin = match &self.station {
            None => 0,
            Some(name) => find(name).ok_or_else(|| {
                bad_input(format!("there is no station {name:?}; 'rbox tour --list' shows them"))
            })?,
        };
        let learner =
            if self.auto { Learner::Auto(self.pause()?) } else { Learner::Types(input::Lines::default()) };
        let lock = cleaning::lock_or_refuse(engine)?;
        if let Some(what) = cleaning::clear(engine)?.told() {
            say(&format!("A tour before this one was killed; removed what it has left: {what}"))?;
        }
        let mut janitor = Janitor::start(engine)?;
        let code = {
            let shell = Shell { engine, janitor: &mut janitor };
            Lesson::new(engine, shell, learner, begin).walk()
        };
        // The janitor takes what is left: the way out is the same for all ends.
        drop(lock);
        janitor.finish();
        let code = code?;
        say(if cleaning::clear(engine)?.told().is_none() {
            "Nothing of the tour is left."
        } else {
            "What was left of the tour was removed."
        })?;
        Ok(code)
    }
}

impl Tour {
    fn pause(&self) -> anyhow::Result<Duration> {
        let default = if std::io::stdout().is_terminal() { 3.0 } else { 0.0 };
        Duration::try_from_secs_f64(self.pause.unwrap_or(default))
            .map_err(|_| bad_input("--pause needs a number of seconds"))
    }

    fn list(&self) -> anyhow::Result<u8> {
        let rows: Vec<Value> = STATIONS
            .iter()
            .enumerate()
            .map(|(at, station)| {
                let tasks: Vec<Value> = station
                    .tasks
                    .iter()
                    .map(|task| {
                        let kind = if matches!(task.kind, Kind::Do { .. }) { "do" } else { "ask" };
                        json!({ "Kind": kind, "Wanted": task.wanted, "Command": task.kind.line() })
                    })
                    .collect();
                json!({
                    "Number": (at + 1).to_string(),
                    "Name": station.name,
                    "Title": station.title,
                    "Setup": station.setup,
                    "Tasks": tasks,
                    "Read": station.read,
                })
            })
            .collect();
        let format = Format::parse(self.format.as_deref(), "{{.Number}}\t{{.Name}}\t{{.Title}}");
        let headers = Headers::from([
            ("Name", "NAME"),
            ("Number", "NUMBER"),
            ("Read", "READ"),
            ("Setup", "SETUP"),
            ("Tasks", "TASKS"),
            ("Title", "TITLE"),
        ]);
        table::print(&format, &headers, &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}
