//! What is being done to a project, on standard error: a line for each step, or on a terminal one line for each thing.

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Map, Value};

use crate::args::project::ProjectFlags;
use crate::command::error::{Coded, NOT_DONE};
use crate::output::escape;
use crate::output::live::{self, Screen, cut};
use crate::output::table::write_all;

/// What stands before each line when nothing is really done.
const DRY_RUN: &str = "DRY-RUN MODE - ";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Terminal { colours: bool },
    Plain,
    Json,
    Quiet,
}

/// Shows what is being done; may be used from several threads. A live list keeps its last state when this is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    form: Form,
    /// Others write to the terminal as well.
    is_shared: AtomicBool,
    dry_run: bool,
    title: &'static str,
    list: Mutex<List>,
}

/// The live list.
#[derive(Debug, Default)]
struct List {
    rows: Vec<Row>,
    screen: Screen,
}

/// One thing that something is done to.
#[derive(Debug)]
struct Row {
    subject: String,
    word: String,
    state: State,
    since: Instant,
    ended: Option<Instant>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Working,
    Done,
    Warning,
    Error,
}

impl State {
    /// By its word: `Stopping` goes on, `Stopped` is done. Only `Running` is a state and not a deed.
    fn of(word: &str) -> Self {
        if word.starts_with("Error") {
            Self::Error
        } else if word.starts_with("Skipped") || word.starts_with("Warning") {
            Self::Warning
        } else if word.ends_with("ing") && word != "Running" {
            Self::Working
        } else {
            Self::Done
        }
    }

    /// Its mark, and the colour of mark and word.
    fn mark(self) -> (&'static str, &'static str) {
        match self {
            Self::Working => ("·", "33"),
            Self::Done => ("✔", "32"),
            Self::Warning => ("!", "1;33"),
            Self::Error => ("✘", "1;31"),
        }
    }
}

impl Progress {
    /// Progress as `--progress` and `--ansi` ask for it; `title` stands over a live list (`Running`).
    ///
    /// # Errors
    /// The options are not known, or do not go together.
    pub(crate) fn new(flags: &ProjectFlags, title: &'static str) -> anyhow::Result<Self> {
        let asked = Asked::new(flags, io::stderr().is_terminal());
        let form = asked.form().map_err(|message| Coded { message, code: NOT_DONE })?;
        let list = Mutex::default();
        Ok(Self { form, is_shared: AtomicBool::new(false), dry_run: flags.dry_run, title, list })
    }

    /// Whether what is told is not done.
    pub(crate) fn is_rehearsal(&self) -> bool {
        self.dry_run
    }

    /// Whether there is a live list, which [`Progress::tick`] keeps moving.
    pub(crate) fn is_drawn(&self) -> bool {
        matches!(self.form(), Form::Terminal { .. })
    }

    /// From here on others write to the terminal as well: a list that is drawn anew would wipe out what they have written, so that there
    /// are lines, as elsewhere.
    pub(crate) fn share(&self) {
        self.leave();
        self.is_shared.store(true, Ordering::Relaxed);
    }

    fn form(&self) -> Form {
        match self.form {
            Form::Terminal { .. } if self.is_shared.load(Ordering::Relaxed) => Form::Plain,
            form => form,
        }
    }

    /// Says that something is being done or was done to a thing: `line("Container", "p-web-1", "Stopping")`. The word tells
    /// whether it goes on; one that begins with `Error` or `Skipped` is marked as such.
    pub(crate) fn line(&self, kind: &str, name: &str, word: &str) {
        self.step(&format!("{kind} {name}"), "", word);
    }

    /// The same of a thing with a text beside its name: `step("p-web-1", "export p-web-1 to web.tar", "Exporting")`.
    pub(crate) fn step(&self, id: &str, text: &str, word: &str) {
        let (id, text, word) = (escape::text(id), escape::text(text), escape::text(word));
        let subject = format!("{id} {text}");
        match self.form() {
            Form::Quiet => {}
            Form::Plain => {
                let prefix = if self.dry_run { DRY_RUN } else { "" };
                tell(&format!("{prefix} {subject} {word}\n"));
            }
            Form::Json if text.is_empty() => self.tell_json(&[("id", &id), ("status", &word)]),
            Form::Json => self.tell_json(&[("id", &id), ("text", &text), ("status", &word)]),
            Form::Terminal { .. } => {
                let mut list = self.list();
                list.put(subject, &word);
                self.draw(&mut list, false);
            }
        }
    }

    /// Draws a live list anew, so that its times go on: for those who wait.
    pub(crate) fn tick(&self) {
        let mut list = self.list();
        if list.screen.is_due() && list.rows.iter().any(|row| row.state == State::Working) {
            self.draw(&mut list, false);
        }
    }

    /// A line below all others, such as a hint.
    pub(crate) fn message(&self, text: &str) {
        let prefix = if self.dry_run { DRY_RUN } else { "" };
        let text = escape::text(text);
        match self.form {
            Form::Quiet => {}
            Form::Json => self.tell_json(&[("text", &text)]),
            Form::Plain | Form::Terminal { .. } => {
                self.leave();
                tell(&format!("{prefix}{text}\n"));
            }
        }
    }

    /// Leaves a live list as it is on the screen: others are about to write there. What comes is a new list below.
    pub(crate) fn leave(&self) {
        let mut list = self.list();
        // Rows that the screen had no place for.
        if list.screen.has_left_out(list.rows.len() + 1) {
            self.draw(&mut list, true);
        }
        *list = List::default();
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_json(&self, fields: &[(&str, &str)]) {
        let mut object = Map::new();
        if self.dry_run {
            object.insert("dry-run".into(), true.into());
        }
        object.extend(fields.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
        tell(&format!("{}\n", escape::json(&Value::Object(object).to_string())));
    }

    /// Draws the list over what was drawn before; `whole` also those rows that the screen has no place for.
    fn draw(&self, list: &mut List, whole: bool) {
        let Form::Terminal { colours } = self.form else { return };
        let lines = list.lines(self.title, self.dry_run, live::size().1, colours);
        list.screen.draw(&lines, whole);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.leave();
    }
}

impl List {
    fn put(&mut self, subject: String, word: &str) {
        let state = State::of(word);
        let now = Instant::now();
        let ended = (state != State::Working).then_some(now);
        if let Some(row) = self.rows.iter_mut().find(|row| row.subject == subject) {
            row.ended = row.ended.filter(|_| row.state == state).or(ended);
            (row.word, row.state) = (word.to_owned(), state);
        } else {
            self.rows.push(Row { subject, word: word.to_owned(), state, since: now, ended });
        }
    }

    /// The head line, and one line a row: mark, thing, word, and at the right the time it took.
    fn lines(&self, title: &str, dry_run: bool, width: usize, colours: bool) -> Vec<String> {
        let paint = |text: &str, colour: &str| live::paint(text, colour, colours);
        let done = self.rows.iter().filter(|row| row.state != State::Working).count();
        let head = cut(&format!("[+] {title} {done}/{}", self.rows.len()), width);
        let mut lines = vec![paint(&head, if done == self.rows.len() { "34" } else { "" })];
        let prefix = if dry_run { DRY_RUN } else { "" };
        let longest = self.rows.iter().map(|row| live::width(&row.subject)).max().unwrap_or(0);
        for row in &self.rows {
            let (mark, colour) = row.state.mark();
            let took = row.ended.unwrap_or_else(Instant::now).duration_since(row.since);
            let time = format!("{:.1}s ", took.as_secs_f64());
            let fill = " ".repeat(longest.saturating_sub(live::width(&row.subject)));
            let subject = format!("{prefix}{}{fill}", row.subject);
            // Each line is one line of the screen, so that it can be found again.
            let room = width.saturating_sub(live::width(&time) + 1);
            let subject = cut(&subject, room.saturating_sub(3));
            let before = live::width(&format!(" {mark} {subject} "));
            let word = cut(&row.word, room.saturating_sub(before));
            let gap = " ".repeat((room + 1).saturating_sub(before + live::width(&word)));
            let word = paint(&word, if row.state == State::Working { "" } else { colour });
            let mark = paint(mark, colour);
            lines.push(format!(" {mark} {subject} {word}{gap}{}", paint(&time, "34")));
        }
        lines
    }
}

/// Refuses options of progress that are none, also where nothing is told.
///
/// # Errors
/// They are not known, or do not go together.
pub(crate) fn check(flags: &ProjectFlags) -> anyhow::Result<()> {
    let asked = Asked::new(flags, io::stderr().is_terminal());
    asked.form().map(drop).map_err(|message| Coded { message, code: NOT_DONE }.into())
}

/// Whether a program is to read what is done.
pub(crate) fn is_json(flags: &ProjectFlags) -> bool {
    Asked::new(flags, false).form() == Ok(Form::Json)
}

/// Whether what is written to standard output has colours.
///
/// # Errors
/// The options are not known, or do not go together.
pub(crate) fn colours_on_stdout(flags: &ProjectFlags) -> anyhow::Result<bool> {
    let asked = Asked { progress: None, ..Asked::new(flags, io::stdout().is_terminal()) };
    let form = asked.form().map_err(|message| Coded { message, code: NOT_DONE })?;
    Ok(form == Form::Terminal { colours: true })
}

/// What options and variables ask for.
struct Asked {
    progress: Option<String>,
    ansi: Option<String>,
    no_colour: bool,
    terminal: bool,
}

impl Asked {
    fn new(flags: &ProjectFlags, terminal: bool) -> Self {
        Self {
            progress: given(flags.progress.as_deref(), "COMPOSE_PROGRESS"),
            ansi: given(flags.ansi.as_deref(), "COMPOSE_ANSI"),
            no_colour: live::no_colours(),
            terminal,
        }
    }

    fn form(&self) -> Result<Form, String> {
        let ansi = self.ansi.as_deref().unwrap_or("auto");
        if !["never", "always", "auto"].contains(&ansi) {
            return Err(format!("unsupported --ansi value {ansi:?}"));
        }
        let terminal = Form::Terminal { colours: !self.no_colour };
        match self.progress.as_deref().unwrap_or("auto") {
            "auto" if ansi == "always" || (ansi == "auto" && self.terminal) => Ok(terminal),
            "tty" if ansi == "never" => Err("can't use --progress tty while ANSI support is disabled".into()),
            "tty" => Ok(terminal),
            "plain" if ansi == "always" => {
                Err("can't use --progress plain while ANSI support is forced".into())
            }
            "plain" | "auto" => Ok(Form::Plain),
            "quiet" | "none" => Ok(Form::Quiet),
            "json" => Ok(Form::Json),
            other => Err(format!("unsupported --progress value {other:?}")),
        }
    }
}

/// An option, or the variable that stands for it.
fn given(option: Option<&str>, variable: &str) -> Option<String> {
    let option = option.map(str::to_owned);
    option.or_else(|| std::env::var(variable).ok()).filter(|value| !value.is_empty())
}

fn tell(text: &str) {
    // Nobody reads: nothing to be done about it.
    let _ = write_all(&mut io::stderr(), text);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn form(progress: Option<&str>, ansi: Option<&str>, terminal: bool) -> Result<Form, String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Asked { progress: own(progress), ansi: own(ansi), no_colour: false, terminal }.form()
    }

    #[test]
    fn forms_as_compose_chooses_them() {
        let coloured = Form::Terminal { colours: true };
        assert_eq!(form(None, None, true), Ok(coloured));
        assert_eq!(form(None, None, false), Ok(Form::Plain));
        assert_eq!(form(Some("auto"), Some("never"), true), Ok(Form::Plain));
        assert_eq!(form(None, Some("always"), false), Ok(coloured));
        assert_eq!(form(Some("tty"), None, false), Ok(coloured));
        assert_eq!(form(Some("plain"), None, true), Ok(Form::Plain));
        assert_eq!(form(Some("quiet"), Some("always"), true), Ok(Form::Quiet));
        assert_eq!(form(Some("json"), None, true), Ok(Form::Json));
        for (progress, ansi) in
            [(Some("tty"), Some("never")), (Some("plain"), Some("always")), (Some("x"), None)]
        {
            assert!(form(progress, ansi, true).is_err(), "{progress:?} {ansi:?}");
        }
    }

    #[test]
    fn words_tell_how_far_a_thing_is() {
        for (word, state) in [
            ("Stopping", State::Working),
            ("Waiting", State::Working),
            ("Stopped", State::Done),
            ("Running", State::Done),
            ("Healthy", State::Done),
            ("Error while Stopping", State::Error),
            ("Skipped: no image", State::Warning),
        ] {
            assert_eq!(State::of(word), state, "{word}");
        }
    }

    #[test]
    fn a_live_list_has_one_line_a_thing() {
        let mut list = List::default();
        list.put("Container p-web-1 ".into(), "Starting");
        list.put("Container p-database-1 ".into(), "Starting");
        list.put("Container p-web-1 ".into(), "Started");
        let lines = list.lines("Running", false, 60, false);
        assert_eq!(lines[0], "[+] Running 1/2");
        assert_eq!(lines[1], " ✔ Container p-web-1       Started                     0.0s ");
        assert_eq!(lines[2], " · Container p-database-1  Starting                    0.0s ");
        let coloured = list.lines("Running", false, 60, true);
        assert!(coloured[1].starts_with(" \x1b[32m✔\x1b[0m Container p-web-1       \x1b[32mStarted\x1b[0m"));
        // No line is longer than the screen is wide.
        assert!(list.lines("Running", true, 20, false).iter().all(|line| line.chars().count() <= 20));
    }
}
