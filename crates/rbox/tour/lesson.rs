//! The way through the stations: what is said, what the learner answers, and what follows.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_engine::engine::{Engine, RemoveRequest};

use crate::tour::cleaning::{self, LABEL};
use crate::tour::input::{Input, Lines};
use crate::tour::scene::{Ran, Scene};
use crate::tour::screen::{self, Screen};
use crate::tour::shell::{Outcome, Shell};
use crate::tour::station::{Kind, Seen, Station, Task};
use crate::tour::stations::STATIONS;

const PROMPT: &str = "tour> ";
/// How long the effect of a command is waited for: a server may not listen yet.
const PATIENCE: Duration = Duration::from_millis(600);
const LOOK: Duration = Duration::from_millis(100);
/// Wrong tries before the line is shown.
const TRIES: usize = 2;

/// Where the lines come from.
pub(crate) enum Learner {
    /// Somebody, or a script.
    Types(Lines),
    /// The tour types itself, and waits so long before each line.
    Auto(Duration),
}

/// Where to go on.
enum Next {
    /// With the next task, or station.
    On,
    Back,
    To(usize),
    /// Not at all: the exit code.
    End(u8),
}

/// What became of a station.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Open,
    Done,
    /// Some of it the tour did itself, or it was left.
    Skipped,
}

/// The tour, as far as it has come.
pub(crate) struct Lesson<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) screen: Screen,
    pub(crate) shell: Shell<'a>,
    pub(crate) learner: Learner,
    marks: Vec<Mark>,
    at: usize,
    skipped: bool,
}

/// A word of the tour's own.
const WORDS: [(&str, &str); 8] = [
    ("hint", "shows a command that does it"),
    ("skip", "lets the tour do it"),
    ("next", "goes to the next station"),
    ("back", "goes to the station before"),
    ("go NAME", "goes to a station, by name or number"),
    ("list", "shows all stations"),
    ("again", "says again what is wanted"),
    ("quit", "ends the tour, and removes all that it has made"),
];

impl<'a> Lesson<'a> {
    pub(crate) fn new(engine: &'a Engine, shell: Shell<'a>, learner: Learner, begin: usize) -> Self {
        let marks = vec![Mark::Open; STATIONS.len()];
        Self { engine, screen: Screen::new(), shell, learner, marks, at: begin, skipped: false }
    }

    /// From the first station to the last, or to where the learner ends it; the exit code.
    pub(crate) fn walk(&mut self) -> anyhow::Result<u8> {
        self.screen.say("Type the commands, or your own that do the same: the tour looks at what they have really done. Its own words:")?;
        for (word, what) in WORDS {
            self.screen.typed("  ", &format!("{word:<8} {what}"))?;
        }
        let code = loop {
            let Some(station) = STATIONS.get(self.at) else { break 0 };
            self.skipped = false;
            let next = self.station(station)?;
            // The next one begins with nothing.
            cleaning::clear(self.engine)?;
            match next {
                Next::On => {
                    self.marks[self.at] = if self.skipped { Mark::Skipped } else { Mark::Done };
                    self.at += 1;
                }
                Next::Back => self.at = self.at.saturating_sub(1),
                Next::To(at) => self.at = at,
                Next::End(code) => break code,
            }
        };
        screen::blank()?;
        let done = self.marks.iter().filter(|mark| **mark == Mark::Done).count();
        self.screen.seen(&format!("{done} of {} stations done.", STATIONS.len()))?;
        Ok(code)
    }

    fn station(&mut self, station: &'static Station) -> anyhow::Result<Next> {
        let number = self.at + 1;
        self.screen.title(&format!(
            "{number} of {}: {} ({})",
            STATIONS.len(),
            station.title,
            station.name
        ))?;
        self.screen.say(station.intro)?;
        if let Some(program) = station.needs.filter(|program| !is_program(program)) {
            self.screen
                .missing(&format!("This station needs the program {program}, which this host has not."))?;
            self.skipped = true;
            return Ok(Next::On);
        }
        if !station.setup.is_empty() {
            self.screen.aside("The tour prepares:")?;
        }
        for line in station.setup {
            self.screen.typed("  ", line)?;
            if let Outcome::Signal(signal) = self.shell.run(line, true)? {
                return Ok(Next::End(code_of(signal)));
            }
        }
        for task in station.tasks {
            match self.task(task)? {
                Next::On => {}
                other => return Ok(other),
            }
        }
        screen::blank()?;
        self.screen.aside(&format!("Read next: {}", station.read))?;
        Ok(Next::On)
    }

    /// One task, until it is done.
    fn task(&mut self, task: &'static Task) -> anyhow::Result<Next> {
        let since = Timestamp::now();
        self.screen.wanted(task.wanted)?;
        let mut tries = 0;
        loop {
            let line = match self.next_line(task, since)? {
                Ok(line) => line,
                Err(next) => return Ok(next),
            };
            if line.is_empty() {
                continue;
            }
            if line == "skip" {
                self.skipped = true;
                return self.do_it(task, since);
            }
            if let Some(next) = self.own_word(&line, task)? {
                match next {
                    Next::On => continue,
                    other => return Ok(other),
                }
            }
            let answered = match &task.kind {
                Kind::Ask { answer, .. } => self.answered(&line, *answer, since)?,
                Kind::Do { .. } => None,
            };
            let seen = match answered {
                Some(seen) => seen,
                None => match self.carry_out(&line, task, since)? {
                    Ok(Some(seen)) => seen,
                    Ok(None) => continue,
                    Err(next) => return Ok(next),
                },
            };
            match seen {
                Ok(text) => return self.done(task, &text),
                Err(missing) => {
                    tries += 1;
                    self.screen.missing(&format!("Not yet. {missing}"))?;
                    self.help_out(task, tries)?;
                    if matches!(self.learner, Learner::Auto(_)) {
                        anyhow::bail!("the tour could not show it by itself: {missing}");
                    }
                }
            }
        }
    }

    /// The next line, or where to go without one.
    fn next_line(&mut self, task: &Task, since: Timestamp) -> anyhow::Result<Result<String, Next>> {
        match &mut self.learner {
            Learner::Auto(pause) => {
                std::thread::sleep(*pause);
                let line = match &task.kind {
                    Kind::Do { line, .. } => (*line).to_owned(),
                    Kind::Ask { answer, .. } => {
                        let scene = Scene { engine: self.engine, since, ran: None };
                        answer(&scene).unwrap_or_else(|_| "?".to_owned())
                    }
                };
                self.screen.typed(PROMPT, &line)?;
                Ok(Ok(line))
            }
            Learner::Types(lines) => {
                use std::io::IsTerminal as _;
                self.screen.prompt(PROMPT)?;
                let input = lines.next();
                if !std::io::stdin().is_terminal()
                    && let Input::Line(line) = &input
                {
                    // Nobody has typed it, so it does not stand there.
                    self.screen.say(if line.is_empty() { " " } else { line })?;
                }
                Ok(match input {
                    Input::Line(line) => Ok(line),
                    Input::End => {
                        screen::blank()?;
                        Err(Next::End(0))
                    }
                    Input::Signal(signal) => {
                        screen::blank()?;
                        Err(Next::End(code_of(signal)))
                    }
                })
            }
        }
    }

    /// A word of the tour's own; none if the line is none.
    fn own_word(&mut self, line: &str, task: &Task) -> anyhow::Result<Option<Next>> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        Ok(Some(match (word, rest.trim()) {
            ("hint", "") => {
                self.screen.typed("Try: ", task.kind.line())?;
                Next::On
            }
            ("next", "") => {
                self.skipped = true;
                Next::To(self.at + 1)
            }
            ("back", "") => Next::Back,
            ("quit" | "exit", "") => Next::End(0),
            ("list", "") => {
                self.list()?;
                Next::On
            }
            ("again", "") => {
                self.screen.wanted(task.wanted)?;
                Next::On
            }
            ("help" | "?", "") => {
                for (word, what) in WORDS {
                    self.screen.typed("  ", &format!("{word:<8} {what}"))?;
                }
                Next::On
            }
            ("go", name) => {
                if let Some(at) = find(name) {
                    return Ok(Some(Next::To(at)));
                }
                self.screen.missing(&format!("There is no station {name:?}."))?;
                Next::On
            }
            _ => return Ok(None),
        }))
    }

    fn list(&self) -> anyhow::Result<()> {
        for (at, station) in STATIONS.iter().enumerate() {
            let mark = match self.marks[at] {
                _ if at == self.at => ">",
                Mark::Done => "+",
                Mark::Skipped => "-",
                Mark::Open => " ",
            };
            self.screen.typed("", &format!("{mark} {:>2} {:<10} {}", at + 1, station.name, station.title))?;
        }
        self.screen.aside("> here, + done, - skipped")
    }

    /// Whether a line answers a question; none if it is a command.
    fn answered(
        &self,
        line: &str,
        answer: fn(&Scene<'_>) -> Seen,
        since: Timestamp,
    ) -> anyhow::Result<Option<Seen>> {
        let scene = Scene { engine: self.engine, since, ran: None };
        let right = match answer(&scene) {
            Ok(right) => right,
            Err(why) => {
                self.screen
                    .missing(&format!("What is asked about is not there any more: {why} 'skip' goes on."))?;
                String::new()
            }
        };
        let plain = |text: &str| text.trim_matches(['"', '\'', '`', ' ']).trim_end_matches('/').to_owned();
        if !right.is_empty() && plain(line) == plain(&right) {
            return Ok(Some(Ok(format!("Right: {right}."))));
        }
        let first = line.split_whitespace().next().unwrap_or_default();
        if first == "rbox" || is_program(first) {
            return Ok(None);
        }
        Ok(Some(Err(format!("It is not {}.", crate::output::escape::text(line)))))
    }

    /// Carries out a line and looks at what it has done. None: it was only a look at what a question is about.
    fn carry_out(
        &mut self,
        line: &str,
        task: &Task,
        since: Timestamp,
    ) -> anyhow::Result<Result<Option<Seen>, Next>> {
        let ran = match self.shell.run(line, false)? {
            Outcome::Ran(ran) => ran,
            Outcome::NotRun(why) => return Ok(Ok(Some(Err(why)))),
            Outcome::Signal(signal) => return Ok(Err(Next::End(code_of(signal)))),
        };
        let Kind::Do { check, .. } = &task.kind else { return Ok(Ok(None)) };
        Ok(Ok(Some(self.look(*check, since, &ran))))
    }

    /// Looks until it is seen, for a moment.
    fn look(&self, check: fn(&Scene<'_>) -> Seen, since: Timestamp, ran: &Ran) -> Seen {
        let scene = Scene { engine: self.engine, since, ran: Some(ran) };
        let begin = Instant::now();
        loop {
            let seen = check(&scene);
            if seen.is_ok() || begin.elapsed() > PATIENCE {
                return seen.map_err(|missing| match in_the_way(self.engine, ran) {
                    Some(name) => format!("{missing} There is a {name} from before: rbox rm -f {name}"),
                    None => missing,
                });
            }
            std::thread::sleep(LOOK);
        }
    }

    fn help_out(&self, task: &Task, tries: usize) -> anyhow::Result<()> {
        match &task.kind {
            _ if tries < TRIES => self.screen.aside("('hint' shows a command, 'skip' lets the tour do it)"),
            Kind::Do { line, .. } => self.screen.typed("Try: ", line),
            Kind::Ask { line, .. } => self.screen.typed("This shows it: ", line),
        }
    }

    /// The tour does it itself.
    fn do_it(&mut self, task: &'static Task, since: Timestamp) -> anyhow::Result<Next> {
        match &task.kind {
            Kind::Ask { answer, line } => {
                let scene = Scene { engine: self.engine, since, ran: None };
                match answer(&scene) {
                    Ok(right) => self.screen.seen(&format!("It is {right}."))?,
                    Err(why) => self.screen.missing(&why)?,
                }
                self.screen.typed("This shows it: ", line)?;
            }
            Kind::Do { line, check } => {
                self.clear_way(line)?;
                self.screen.typed(PROMPT, line)?;
                let ran = match self.shell.run(line, false)? {
                    Outcome::Ran(ran) => ran,
                    Outcome::Signal(signal) => return Ok(Next::End(code_of(signal))),
                    Outcome::NotRun(why) => {
                        self.screen.missing(&why)?;
                        return Ok(Next::On);
                    }
                };
                match self.look(*check, since, &ran) {
                    Ok(text) => return self.done(task, &text),
                    Err(missing) => {
                        self.screen.missing(&missing)?;
                        self.screen.aside(
                            "Something before this was skipped or changed: 'go NAME' begins a station anew.",
                        )?;
                    }
                }
            }
        }
        self.screen.say(task.then)?;
        Ok(Next::On)
    }

    /// Removes a container of the tour's that has the name which a line gives.
    fn clear_way(&self, line: &str) -> anyhow::Result<()> {
        let mut words = line.split_whitespace().skip_while(|word| *word != "--name");
        let Some(name) = words.nth(1) else { return Ok(()) };
        if let Ok(container) = self.engine.container(name)
            && container.record.config.labels.contains_key(LABEL)
        {
            self.engine.remove(&container, RemoveRequest { force: true, volumes: true })?;
        }
        Ok(())
    }

    fn done(&self, task: &Task, seen: &str) -> anyhow::Result<Next> {
        if !seen.is_empty() {
            self.screen.seen(seen)?;
        }
        self.screen.say(task.then)?;
        Ok(Next::On)
    }
}

/// The name that a `run` which failed has asked for, and which a container has.
fn in_the_way(engine: &Engine, ran: &Ran) -> Option<String> {
    let mut words = ran.words.iter().skip_while(|word| !word.starts_with("--name"));
    let name = words.next()?;
    let name = match name.split_once('=') {
        Some((_, name)) => name,
        None => words.next()?,
    };
    (ran.code == 125 && engine.container(name).is_ok()).then(|| name.to_owned())
}

/// The number of a station, from zero, by its name or number.
pub(crate) fn find(name: &str) -> Option<usize> {
    let by_number = name.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let at = STATIONS.iter().position(|station| station.name == name).or(by_number)?;
    (at < STATIONS.len()).then_some(at)
}

fn code_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(255)
}

/// Whether the host has such a program.
fn is_program(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    !name.is_empty() && std::env::split_paths(&paths).any(|dir| dir.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_are_found_by_name_and_number() {
        assert_eq!((find("process"), find("1"), find("12")), (Some(0), Some(0), Some(11)));
        assert_eq!((find("0"), find("13"), find("no"), find("")), (None, None, None, None));
        for (at, station) in STATIONS.iter().enumerate() {
            assert!(station.name.bytes().all(|byte| byte.is_ascii_lowercase()), "{}", station.name);
            assert_eq!(find(station.name), Some(at), "{} twice", station.name);
            // A word of the tour's own would be taken for a name.
            assert!(!station.tasks.is_empty());
            for task in station.tasks {
                let words = shlex::split(task.kind.line()).unwrap_or_default();
                assert!(words.len() > 1 || task.kind.line() == "hostname", "{}", task.kind.line());
            }
        }
    }
}
