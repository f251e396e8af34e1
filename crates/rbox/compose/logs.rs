//! `rbox compose logs`: what the containers of a project have written, by time.

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use clap::Parser;
use jiff::Timestamp;
use rbox_compose::{Instance, labels};
use rbox_engine::engine::{
    Container, Engine, EventFilter, EventQuery, LogEntry, LogGap, LogQuery, LogSink, Message,
};
use rbox_engine::error::EngineError;
use rbox_engine::session::{read_fd, write_from_background};
use rbox_engine::spec::id::ContainerId;
use rbox_engine::spec::restart::RestartPolicy;

use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, not_done, short_name};
use crate::compose::lines::Lines;
use crate::compose::progress::colours_on_stdout;
use crate::container::logs::{fixed_time, query};
use crate::container::merge::{merged, tell};

/// View what the containers of a project have written
#[derive(Debug, Parser)]
#[command(
    name = "logs",
    after_help = "Examples:
  rbox compose logs                        # of all, by time
  rbox compose logs -f --tail 20 web       # the last lines of web, and what comes
  rbox compose logs --since 10m -t db
  rbox compose logs --no-log-prefix --index 2 web"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Logs {
    /// Go on with what comes, also from containers that come later
    #[arg(short, long)]
    follow: bool,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// No colours
    #[arg(long)]
    no_color: bool,
    /// Only what was written, without names
    #[arg(long)]
    no_log_prefix: bool,
    /// Only what is not older than a time, or a duration such as 42m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what is older
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// As many lines from the end of each
    #[arg(short = 'n', long, default_value = "all", allow_negative_numbers = true, value_name = "NUMBER")]
    tail: String,
    /// With times
    #[arg(short, long)]
    timestamps: bool,
    /// Go on until the standard input ends: for `up`
    #[arg(long, hide = true, requires = "follow")]
    until_input_ends: bool,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Execute for Logs {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        match self.carry_out(global) {
            // The reader has what it wanted.
            Err(error) if nobody_reads(&error) => Ok(0),
            other => not_done(other),
        }
    }
}

impl Logs {
    fn carry_out(&self, global: &Global) -> anyhow::Result<u8> {
        if self.index.is_some_and(|index| index > 0) && self.services.len() != 1 {
            let message = "--index requires one service to be selected".to_owned();
            return Err(Coded { message, code: NOT_DONE }.into());
        }
        let query = query(&self.tail, self.since.as_deref(), self.until.as_deref())?;
        let begun = Timestamp::now();
        let chosen = self.chosen(global)?;
        let services = self.wanted(&chosen);
        let meant = |one: &&Instance| services.as_ref().is_none_or(|all| all.contains(&one.service));
        let found: Vec<&Instance> = match self.index.filter(|index| *index > 0) {
            Some(index) => vec![chosen.one(self.services.first().map_or("", |s| s), Some(index), |_| true)?],
            None => chosen.own().filter(meant).collect(),
        };
        let colours = !self.no_color && colours_on_stdout(&global.project)?;
        let mut show = Show {
            lines: Lines::new(colours, !self.no_log_prefix),
            timestamps: self.timestamps,
            last: Vec::new(),
        };
        for one in &found {
            show.add(one);
        }
        let containers: Vec<Container> = found.iter().map(|one| one.container.clone()).collect();
        merged(&global.engine, &containers, &query, false, &mut |number, entry| show.entry(number, entry))?;
        (0..containers.len()).try_for_each(|number| show.lines.end(number))?;
        if self.follow {
            let since = query.since.filter(|since| *since > begun).unwrap_or(begun);
            let follow = Follow {
                engine: &global.engine,
                project: &chosen.name,
                services,
                only: self.index.filter(|index| *index > 0),
                until: query.until,
                since,
                forever: self.until_input_ends,
            };
            follow.run(&found, &mut show)?;
        }
        Ok(0)
    }

    fn chosen(&self, global: &Global) -> anyhow::Result<Chosen> {
        // For `up` a service need not have a container yet.
        if self.until_input_ends {
            // Of `up`, which has the terminal.
            write_from_background();
            Chosen::named(global)
        } else {
            Chosen::read(global, &self.services)
        }
    }

    /// The services that are meant; none for all.
    fn wanted(&self, chosen: &Chosen) -> Option<BTreeSet<String>> {
        if !self.services.is_empty() {
            return Some(self.services.iter().cloned().collect());
        }
        let services = &chosen.loaded.as_ref()?.project.services;
        let shown = services.iter().filter(|(_, service)| service.attach != Some(false));
        Some(shown.map(|(name, _)| name.clone()).collect())
    }
}

/// Shows entries.
struct Show {
    lines: Lines,
    timestamps: bool,
    /// Of each, when what was shown last was written.
    last: Vec<Option<Timestamp>>,
}

impl Show {
    fn add(&mut self, one: &Instance) -> usize {
        self.last.push(None);
        self.lines.source(short_name(one), one.container.record.config.tty)
    }

    fn entry(&mut self, number: usize, entry: &LogEntry<'_>) -> io::Result<()> {
        if let Some(last) = self.last.get_mut(number) {
            *last = Some(entry.time);
        }
        let begin = if self.timestamps { fixed_time(entry.time) + " " } else { String::new() };
        self.lines.write(number, entry, begin)
    }
}

/// What those tell who follow containers and what happens to them.
enum Told {
    Entry(usize, LogEntry<'static>),
    /// The reader of a container has come to its end.
    Read(usize),
    Started(ContainerId),
    Died(ContainerId, String),
    Removed(ContainerId),
    /// Nobody wants to know more.
    Enough,
}

/// Passes the entries of one container on.
struct Passing<'a>(usize, Sender<Told>, &'a str);

impl LogSink for Passing<'_> {
    fn entry(&mut self, entry: &LogEntry<'_>) -> io::Result<()> {
        let told = Told::Entry(self.0, entry.to_static());
        self.1.send(told).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn gap(&mut self, gap: LogGap) -> io::Result<()> {
        tell(self.2, gap);
        Ok(())
    }
}

/// Follows a project.
struct Follow<'a> {
    engine: &'a Engine,
    project: &'a str,
    services: Option<BTreeSet<String>>,
    /// Only the container of this number.
    only: Option<u32>,
    since: Timestamp,
    until: Option<Timestamp>,
    /// Until the input ends, not until all have ended.
    forever: bool,
}

/// A container that is followed.
struct Followed {
    id: ContainerId,
    /// It may still write something.
    lives: bool,
    /// It is being read.
    reading: bool,
    /// It was started again meanwhile.
    again: bool,
    /// Its exit code, which is told once all is shown that it wrote.
    died: Option<String>,
}

/// After the end of the input, how long to wait for more of what was written before.
const REST: Duration = Duration::from_millis(100);
/// After the end of the last one, how long it may take to start again.
const RESTART: Duration = Duration::from_secs(1);

impl Follow<'_> {
    /// Shows what comes until all have ended. The threads that still wait for something then end with this process.
    fn run(&self, found: &[&Instance], show: &mut Show) -> anyhow::Result<()> {
        let (sender, told) = channel();
        // Where nothing runs, what comes is waited for.
        let none_lives = !found.iter().any(|one| one.container.is_active());
        let followed = |one: &&Instance| {
            let lives = none_lives || one.container.is_active();
            Followed { lives, ..Followed::new(&one.container.record.id) }
        };
        let mut all: Vec<Followed> = found.iter().map(followed).collect();
        self.watch(&sender)?;
        for (number, one) in found.iter().enumerate() {
            if one.container.is_active() {
                self.read(number, &one.container, &mut all, show, &sender);
            }
        }
        let mut enough = false;
        loop {
            let reading = all.iter().any(|one| one.reading);
            let over = !(reading || self.forever || all.iter().any(|one| one.lives));
            if !reading && enough {
                return Ok(());
            }
            let next = match (enough, over) {
                (true, _) => told.recv_timeout(REST).ok(),
                (false, true) => told.recv_timeout(RESTART).ok(),
                (false, false) => Some(told.recv()?),
            };
            match next {
                Some(Told::Enough) => enough = true,
                Some(next) => self.take(next, &mut all, show, &sender)?,
                None if over => return Ok(()),
                // Those that are read by now run on.
                None if all.iter().all(|one| !one.reading || self.runs(&one.id)) => return Ok(()),
                None => {}
            }
        }
    }

    fn runs(&self, id: &ContainerId) -> bool {
        self.engine.current(id).is_some_and(|now| now.is_active())
    }

    fn take(
        &self,
        told: Told,
        all: &mut Vec<Followed>,
        show: &mut Show,
        sender: &Sender<Told>,
    ) -> anyhow::Result<()> {
        let number = |all: &[Followed], id: &ContainerId| all.iter().position(|one| one.id == *id);
        match told {
            Told::Enough => {}
            Told::Entry(number, entry) => show.entry(number, &entry)?,
            Told::Started(id) => self.started(&id, number(all, &id), all, show, sender)?,
            Told::Removed(id) => {
                if let Some(one) = all.iter_mut().find(|one| one.id == id) {
                    one.lives = false;
                }
            }
            Told::Died(id, code) => {
                let Some((number, one)) = number(all, &id).and_then(|at| Some((at, all.get_mut(at)?))) else {
                    return Ok(());
                };
                let Some(now) = self.engine.current(&id).filter(Container::is_active) else {
                    (one.died, one.again) = (Some(code), false);
                    one.ended(number, show)?;
                    return Ok(());
                };
                let by_itself = now.record.host.restart != RestartPolicy::No;
                let more = if by_itself { " (restarting)" } else { "" };
                show.lines.happened(number, &format!("exited with code {code}{more}"))?;
            }
            Told::Read(number) => {
                let Some(one) = all.get_mut(number) else { return Ok(()) };
                one.reading = false;
                show.lines.end(number)?;
                one.ended(number, show)?;
                if std::mem::take(&mut one.again)
                    && let Some(now) = self.engine.current(&one.id)
                {
                    self.read(number, &now, all, show, sender);
                }
            }
        }
        Ok(())
    }

    fn started(
        &self,
        id: &ContainerId,
        known: Option<usize>,
        all: &mut Vec<Followed>,
        show: &mut Show,
        sender: &Sender<Told>,
    ) -> io::Result<()> {
        if let Some((number, one)) = known.and_then(|number| Some((number, all.get_mut(number)?))) {
            // Its log goes on, and may be read on without an end between.
            (one.lives, one.again) = (true, one.reading);
            if one.reading {
                return one.tell(number, show);
            }
        }
        let Some(one) = self.engine.current(id).and_then(Instance::of) else { return Ok(()) };
        let service = self.services.as_ref().is_none_or(|all| all.contains(&one.service));
        if !service || one.one_off || self.only.is_some_and(|only| only != one.number) {
            return Ok(());
        }
        let number = known.unwrap_or_else(|| {
            all.push(Followed::new(id));
            show.add(&one)
        });
        self.read(number, &one.container, all, show, sender);
        Ok(())
    }

    /// Reads a container's log on from what was shown last.
    fn read(
        &self,
        number: usize,
        container: &Container,
        all: &mut [Followed],
        show: &Show,
        sender: &Sender<Told>,
    ) {
        let Some(one) = all.get_mut(number) else { return };
        one.reading = true;
        let next = |last: Timestamp| last.checked_add(jiff::SignedDuration::from_nanos(1)).unwrap_or(last);
        let last = show.last.get(number).copied().flatten().map(next);
        let since = last.or(Some(self.since));
        let query = LogQuery { tail: None, since, until: self.until, stream: None };
        let (engine, container, sender) = (self.engine.clone(), container.clone(), sender.clone());
        thread::spawn(move || {
            let mut passing = Passing(number, sender.clone(), container.record.name.as_str());
            // One that keeps no log has nothing to show.
            let _ = engine.logs(&container, &query, true, &mut passing);
            let _ = sender.send(Told::Read(number));
        });
    }

    /// Passes on what happens to the project's containers, and the end of the input if that is what is waited for.
    fn watch(&self, sender: &Sender<Told>) -> anyhow::Result<()> {
        let label = format!("label={}={}", labels::PROJECT, self.project);
        let filter = EventFilter::parse(&["type=container", &label])?;
        let query = EventQuery { since: None, until: None, filter };
        let (engine, events) = (self.engine.clone(), sender.clone());
        thread::spawn(move || {
            let mut pass = |message: &Message| match told(message) {
                Some(told) => events.send(told).map_err(|_| io::ErrorKind::BrokenPipe.into()),
                None => Ok(()),
            };
            let _ = engine.events(&query, &mut pass);
            let _ = events.send(Told::Enough);
        });
        if self.forever {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut ignored = [0; 256];
                loop {
                    match read_fd(io::stdin(), &mut ignored) {
                        Ok(length) if length > 0 => {}
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(REST),
                        _ => break,
                    }
                }
                let _ = sender.send(Told::Enough);
            });
        }
        Ok(())
    }
}

impl Followed {
    fn new(id: &ContainerId) -> Self {
        Self { id: id.clone(), lives: true, reading: false, again: false, died: None }
    }

    /// Tells that it has ended, once all is shown that it wrote.
    fn ended(&mut self, number: usize, show: &Show) -> io::Result<()> {
        if self.reading {
            return Ok(());
        }
        self.lives &= self.died.is_none() || self.again;
        self.tell(number, show)
    }

    /// Tells how it ended, if that was not told.
    fn tell(&mut self, number: usize, show: &Show) -> io::Result<()> {
        let Some(code) = self.died.take() else { return Ok(()) };
        show.lines.happened(number, &format!("exited with code {code}"))
    }
}

/// What of an event is of interest.
fn told(message: &Message) -> Option<Told> {
    let id: ContainerId = message.id.parse().ok()?;
    match message.action.as_str() {
        "start" => Some(Told::Started(id)),
        "die" => Some(Told::Died(id, message.attributes.get("exitCode").cloned().unwrap_or_default())),
        "destroy" => Some(Told::Removed(id)),
        _ => None,
    }
}

/// Whether writing failed because nobody reads any more.
fn nobody_reads(error: &anyhow::Error) -> bool {
    let of_engine = match error.downcast_ref::<EngineError>() {
        Some(EngineError::File { source, .. }) => Some(source),
        _ => None,
    };
    let found = of_engine.or_else(|| error.downcast_ref::<io::Error>());
    found.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
