//! Lines of steps that wait until it is their turn to be shown.

use std::collections::BTreeMap;

use rbox_build::Number;

/// No more is kept in memory, in bytes.
const MOST: usize = 1 << 20;

/// The lines, by their steps.
#[derive(Debug, Default)]
pub(crate) struct Held {
    lines: BTreeMap<Number, Vec<String>>,
    bytes: usize,
}

impl Held {
    pub(crate) fn put(&mut self, number: Number, line: &str) {
        self.bytes += cost(line);
        self.lines.entry(number).or_default().push(line.to_owned());
    }

    /// Whether there is no room for more: it is the turn of whoever has more to say.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes > MOST
    }

    /// Those of one step.
    pub(crate) fn take(&mut self, number: Number) -> Vec<String> {
        let lines = self.lines.remove(&number).unwrap_or_default();
        self.bytes -= lines.iter().map(|line| cost(line)).sum::<usize>().min(self.bytes);
        lines
    }

    /// Those of the step that began first.
    pub(crate) fn take_first(&mut self) -> Option<(Number, Vec<String>)> {
        let number = *self.lines.keys().next()?;
        Some((number, self.take(number)))
    }
}

/// What a line takes, about.
const fn cost(line: &str) -> usize {
    line.len() + size_of::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let mut held = Held::default();
        held.put(3, "y");
        let mut count = 0;
        while !held.is_full() {
            held.put(2, "");
            count += 1;
        }
        assert!(count * size_of::<String>() <= MOST, "{count} empty lines");
        assert_eq!(held.take(2).len(), count);
        assert!(!held.is_full());
        assert_eq!(held.take_first(), Some((3, vec!["y".to_owned()])));
        assert_eq!((held.take_first(), held.bytes), (None, 0));
    }
}
