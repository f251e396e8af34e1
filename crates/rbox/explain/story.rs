//! `--explain`: the stages of a start, each with what matters in it, and at the end what the container is like.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use crate::explain::event::{Call, Event, View};
use crate::explain::facts;
use crate::explain::inside;
use crate::explain::paint::{Paint, WIDTH, millis, wrapped};
use crate::explain::show::Show;
use crate::explain::stage::Stage;
use crate::output::escape;

/// Where what is said of a stage begins.
const INDENT: usize = 12;
/// Columns of a stage's time.
const BAR: usize = 52;

/// What was told so far. It is printed at the end: stages go on beside each other.
#[derive(Debug)]
pub(crate) struct Story {
    paint: Paint,
    command: String,
    stages: BTreeMap<Stage, Told>,
    /// When the step began that a process is at.
    begun: HashMap<String, u64>,
    end_us: u64,
    view: Option<View>,
}

/// What was told of a stage.
#[derive(Debug, Default)]
struct Told {
    calls: Vec<Call>,
    /// From when to when each step went.
    spans: Vec<(u64, u64)>,
}

impl Told {
    /// How long its steps took.
    fn us(&self) -> u64 {
        self.spans.iter().map(|(begin, end)| end - begin).sum()
    }
}

impl Story {
    pub(crate) fn new(paint: Paint, command: &str) -> Self {
        Self {
            paint,
            command: escape::text(command).into_owned(),
            stages: BTreeMap::new(),
            begun: HashMap::new(),
            end_us: 0,
            view: None,
        }
    }

    /// When the first stage began.
    fn first_us(&self) -> u64 {
        let spans = self.stages.values().flat_map(|told| &told.spans);
        spans.map(|(begin, _)| *begin).min().unwrap_or(0)
    }

    /// From the first stage to the end.
    fn us(&self) -> u64 {
        self.end_us.saturating_sub(self.first_us())
    }

    fn call(&mut self, call: &Call) {
        let Some(step) = &call.step else { return };
        let stage = Stage::of(step);
        let since = call.at_us.saturating_sub(call.us);
        let begin = *self.begun.entry(call.actor.clone()).or_insert(since);
        let told = self.stages.entry(stage).or_default();
        told.calls.push(call.clone());
        match told.spans.last_mut() {
            Some((from, to)) if *from == begin => *to = call.at_us.max(begin),
            _ => told.spans.push((begin, call.at_us.max(begin))),
        }
    }

    fn stage_lines(&self, stage: Stage, told: &Told) -> String {
        let mut text = String::new();
        let said = facts::of(stage, &told.calls);
        for (index, line) in wrapped(&said, WIDTH - INDENT).into_iter().enumerate() {
            let name = if index == 0 { stage.name() } else { "" };
            let _ = writeln!(text, "{}{line}", self.paint.name(&format!("{name:<INDENT$}")));
        }
        let why = format!("{} See {}.", facts::why(stage, &told.calls), stage.page());
        for line in wrapped(&why, WIDTH - INDENT) {
            let _ = writeln!(text, "{:INDENT$}{}", "", self.paint.quiet(&line));
        }
        text
    }

    /// When each stage was at work: they overlap, because the monitor wires the network while the container mounts.
    fn bars(&self) -> String {
        let mut text = String::new();
        let (first, all) = (self.first_us(), self.us().max(1) as usize);
        let column = |us: u64| (us.saturating_sub(first) as usize * BAR / all).min(BAR - 1);
        for stage in Stage::ALL {
            let Some(told) = self.stages.get(&stage) else { continue };
            let mut bar = [' '; BAR];
            for (begin, end) in &told.spans {
                bar[column(*begin)..=column(*end)].fill('█');
            }
            let bar: String = bar.iter().collect();
            let _ = writeln!(
                text,
                "{:<INDENT$}{}{:>15}",
                stage.name(),
                self.paint.actor("monitor", &bar),
                millis(told.us())
            );
        }
        text
    }

    /// What the container is like.
    fn summary(&self) -> String {
        let rows = self.view.as_ref().map_or_else(Vec::new, inside::rows);
        let mut text = String::new();
        for (name, value) in rows {
            for (index, line) in wrapped(&value, WIDTH - INDENT).into_iter().enumerate() {
                let name = if index == 0 { name } else { "" };
                let _ = writeln!(text, "{}{line}", self.paint.name(&format!("{name:<INDENT$}")));
            }
        }
        text
    }
}

impl Show for Story {
    fn event(&mut self, event: &Event) -> String {
        match event {
            Event::Step(step) => {
                self.begun.insert(step.actor.clone(), step.at_us);
            }
            Event::Call(call) => {
                self.end_us = self.end_us.max(call.at_us);
                self.call(call);
            }
            Event::End(end) => {
                // What comes after a step inside of another is the outer one's again.
                self.begun.remove(&end.actor);
            }
            Event::View { view } => self.view = Some(view.clone()),
        }
        String::new()
    }

    fn end(&mut self) -> String {
        if self.stages.is_empty() {
            return String::new();
        }
        let took = millis(self.us());
        let mut text =
            format!("{} {}\n", self.paint.name(&self.command), self.paint.quiet(&format!("({took})")));
        for stage in Stage::ALL {
            if let Some(told) = self.stages.get(&stage) {
                text += &self.stage_lines(stage, told);
            }
        }
        for part in [self.bars(), self.summary()].into_iter().filter(|part| !part.is_empty()) {
            let _ = write!(text, "\n{part}");
        }
        text + "\n"
    }
}
