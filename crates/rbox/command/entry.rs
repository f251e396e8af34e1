//! A command: the words that lead to it, its arguments, and what it does.

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::command::global::Global;

/// A command that clap can build and that can be carried out.
pub(crate) trait Execute: clap::Parser {
    /// Does it; the exit code when nothing is to be said any more.
    fn execute(self, global: &Global) -> anyhow::Result<u8>;
}

/// One command.
pub(crate) struct Entry {
    /// The words that lead to it, the first being its own: `["ps", "container ls"]`.
    pub(crate) paths: &'static [&'static str],
    /// Its arguments.
    pub(crate) build: fn() -> Command,
    /// What it does.
    pub(crate) run: fn(&ArgMatches, &Global) -> anyhow::Result<u8>,
    /// Whether it starts processes in containers.
    pub(crate) enters: bool,
    /// Whether it can show what it would do, and do nothing (`--dry-run`).
    pub(crate) rehearses: bool,
}

/// The option of commands that rehearse.
pub(crate) const REHEARSAL: &str = "dry-run";

impl Entry {
    /// A command whose arguments are the fields of `A`.
    pub(crate) const fn of<A: Execute>(paths: &'static [&'static str]) -> Self {
        let run = |matches: &ArgMatches, global: &Global| A::from_arg_matches(matches)?.execute(global);
        Self { paths, build: A::command, run, enters: false, rehearses: false }
    }

    /// Its arguments, with those that several commands have.
    pub(crate) fn command(&self) -> Command {
        let command = (self.build)();
        if !self.rehearses {
            return command;
        }
        let help = "Show what would be done, and do nothing";
        command.arg(Arg::new(REHEARSAL).long(REHEARSAL).action(ArgAction::SetTrue).help(help))
    }

    /// One that starts processes in containers: these must not get at rbox's own file.
    pub(crate) const fn entering(self) -> Self {
        Self { enters: true, ..self }
    }

    /// One that only shows what it would do where that is asked of it, or that does nothing but show.
    pub(crate) const fn rehearsing(self) -> Self {
        Self { rehearses: true, ..self }
    }
}
