//! `--explain=steps` and `--explain=calls`: each step and why it is taken, with how long its calls took or with the calls themselves.
//!
//! Monitor and container work at the same time. A step is printed when it is over and those that began before it are, so that nothing stands
//! between a step and its calls.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::explain::args;
use crate::explain::event::{Call, End, Event, Step};
use crate::explain::paint::{Paint, WIDTH, millis, wrapped};
use crate::explain::show::Show;

/// Where reasons begin.
const INDENT: usize = 25;

/// What is said of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// How many calls, how long, and why.
    Brief,
    /// Each call as strace(1) writes it.
    Calls,
}

/// The steps that are not printed yet.
#[derive(Debug)]
pub(crate) struct Steps {
    paint: Paint,
    form: Form,
    /// In the order of their beginnings. The last one of a process may go on.
    open: VecDeque<Open>,
}

/// A step, or calls between two.
#[derive(Debug)]
struct Open {
    at_us: u64,
    actor: String,
    /// None between two steps.
    name: Option<String>,
    why: String,
    calls: Vec<Call>,
    over: bool,
}

impl Steps {
    pub(crate) fn new(paint: Paint, form: Form) -> Self {
        Self { paint, form, open: VecDeque::new() }
    }

    /// What this process is at.
    fn current(&mut self, actor: &str) -> Option<&mut Open> {
        self.open.iter_mut().rev().find(|open| open.actor == actor && !open.over)
    }

    fn begin(&mut self, step: Open) {
        if let Some(former) = self.current(&step.actor) {
            former.over = true;
        }
        self.open.push_back(step);
    }

    fn call(&mut self, call: &Call) {
        if self.current(&call.actor).is_none_or(|open| open.name != call.step) {
            // A step, or one inside of it, is over.
            let why = if call.step.is_some() { "It goes on." } else { "" };
            self.begin(Open {
                at_us: call.at_us.saturating_sub(call.us),
                actor: call.actor.clone(),
                name: call.step.clone(),
                why: why.to_owned(),
                calls: Vec::new(),
                over: false,
            });
        }
        if let Some(open) = self.current(&call.actor) {
            open.calls.push(call.clone());
        }
    }

    /// The first ones that are over.
    fn printed(&mut self) -> String {
        let mut text = String::new();
        while self.open.front().is_some_and(|open| open.over) {
            let Some(first) = self.open.pop_front() else { break };
            match self.form {
                Form::Brief => text += &self.brief(&first),
                Form::Calls => text += &self.calls(&first),
            }
        }
        text
    }

    /// When and who.
    fn head(&self, open: &Open) -> String {
        let at = format!("{:>9.3} ms", open.at_us as f64 / 1e3);
        let actor = self.paint.actor(&open.actor, &format!("{:<9}", open.actor));
        format!("{}  {actor}  ", self.paint.quiet(&at))
    }

    fn brief(&self, open: &Open) -> String {
        let Some(name) = &open.name else { return String::new() };
        let count = open.calls.len();
        let us = open.calls.iter().map(|call| call.us).sum();
        let failed = match open.calls.iter().filter(|call| !call.worked()).count() {
            0 => String::new(),
            failed => format!(" ({failed} failed)"),
        };
        let took = format!("{count} call{}{failed}, {}", if count == 1 { "" } else { "s" }, millis(us));
        let room = WIDTH.saturating_sub(INDENT + name.chars().count());
        let took = self.paint.quiet(&format!("{took:>room$}"));
        let mut text = format!("{}{}{took}\n", self.head(open), self.paint.name(name));
        for line in wrapped(&open.why, WIDTH - INDENT) {
            let _ = writeln!(text, "{:INDENT$}{line}", "");
        }
        text
    }

    fn calls(&self, open: &Open) -> String {
        let title = match &open.name {
            Some(name) => format!("{}: {}", self.paint.name(name), open.why),
            None => self.paint.quiet("(between two steps)"),
        };
        let mut text = format!("{}{title}\n", self.head(open));
        for call in &open.calls {
            let result = if call.worked() { call.result.clone() } else { self.paint.failed(&call.result) };
            let us = self.paint.quiet(&format!("<{} µs>", call.us));
            let args = brief(call);
            let _ = writeln!(text, "{:14}{}({args}) = {result}  {us}", "", call.name);
        }
        text
    }
}

/// Its arguments. Of execve's variables, which may be secret, their number is enough.
fn brief(call: &Call) -> String {
    match &args::split(&call.args)[..] {
        [path, words, variables] if call.name == "execve" => {
            let count =
                args::list(variables).map_or_else(|| "many".to_owned(), |list| list.len().to_string());
            format!("{path}, {words}, {count} variables")
        }
        _ => call.args.clone(),
    }
}

impl Show for Steps {
    fn event(&mut self, event: &Event) -> String {
        match event {
            Event::Step(Step { at_us, actor, name, why }) => self.begin(Open {
                at_us: *at_us,
                actor: actor.clone(),
                name: Some(name.clone()),
                why: why.clone(),
                calls: Vec::new(),
                over: false,
            }),
            Event::Call(call) => self.call(call),
            Event::End(End { actor, name }) => {
                if let Some(open) = self.current(actor).filter(|open| open.name.as_ref() == Some(name)) {
                    open.over = true;
                }
            }
            Event::View { .. } => {}
        }
        self.printed()
    }

    fn end(&mut self) -> String {
        for open in &mut self.open {
            open.over = true;
        }
        self.printed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn told(lines: &[&str], form: Form) -> String {
        let mut steps = Steps::new(Paint::plain(), form);
        let events =
            lines.iter().map(|line| rbox_engine::spec::json::from_slice::<Event>(line.as_bytes()).unwrap());
        let text: String = events.map(|event| steps.event(&event)).collect();
        text + &steps.end()
    }

    const BOTH: [&str; 6] = [
        r#"{"event":"step","at_us":10,"pid":7,"actor":"monitor","step":"wire","why":"A cable."}"#,
        r#"{"event":"call","at_us":12,"pid":7,"actor":"monitor","step":"wire","syscall":"socket","args":"","result":"3","us":2}"#,
        r#"{"event":"step","at_us":13,"pid":1,"actor":"container","step":"mount","why":"A tree."}"#,
        r#"{"event":"call","at_us":14,"pid":1,"actor":"container","step":"mount","syscall":"fsopen","args":"","result":"4","us":1}"#,
        r#"{"event":"call","at_us":15,"pid":7,"actor":"monitor","step":"wire","syscall":"send","args":"","result":"-1 EPERM (Operation not permitted)","us":1}"#,
        r#"{"event":"call","at_us":19,"pid":1,"actor":"container","step":null,"syscall":"close","args":"4","result":"0","us":1}"#,
    ];

    #[test]
    fn calls_stand_under_their_own_step() {
        let wanted = "    0.010 ms  monitor    wire: A cable.
              socket() = 3  <2 µs>
              send() = -1 EPERM (Operation not permitted)  <1 µs>
    0.013 ms  container  mount: A tree.
              fsopen() = 4  <1 µs>
    0.018 ms  container  (between two steps)
              close(4) = 0  <1 µs>
";
        assert_eq!(told(&BOTH, Form::Calls), wanted);
    }

    #[test]
    fn steps_say_how_much_was_done() {
        let text = told(&BOTH, Form::Brief);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("    0.010 ms  monitor    wire "), "{text}");
        assert!(lines[0].ends_with("2 calls (1 failed), 0.003 ms") && lines[0].len() == WIDTH, "{text}");
        assert_eq!(lines[1], "                         A cable.");
        assert!(lines[2].ends_with(" 1 call, 0.001 ms"), "{text}");
    }
}
