//! Lines of the script, and what they are for.

use std::collections::HashMap;

use crate::explain::event::Call;
use crate::explain::paint::wrapped;

/// Comments are as wide.
const WIDTH: usize = 100;

/// Lines with a comment before those of each step.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) lines: Vec<String>,
    step: Option<String>,
}

impl Lines {
    pub(super) fn put(
        &mut self,
        call: &Call,
        whys: &HashMap<String, String>,
        lines: impl IntoIterator<Item = String>,
    ) {
        let mut lines = lines.into_iter().peekable();
        if lines.peek().is_some() && self.step != call.step {
            self.step.clone_from(&call.step);
            if let Some(step) = &call.step {
                if !self.lines.is_empty() {
                    self.lines.push(String::new());
                }
                let why = whys.get(step).map_or("", String::as_str);
                self.lines.extend(comment(&format!("{step}: {why}")));
            }
        }
        self.lines.extend(lines);
    }
}

pub(super) fn comment(text: &str) -> Vec<String> {
    wrapped(text, WIDTH - 2).into_iter().map(|line| format!("# {line}")).collect()
}
