//! Lines of several containers among each other: each is shown once all of it is there. Logs have long ones in pieces, and another
//! container may have written in between.

use rbox_engine::engine::LogEntry;
use rbox_engine::session::Stream;

/// A line that grows longer than this without an end is shown in parts, each as a line.
const LONGEST: usize = 1024 * 1024;

/// What of a line one container has written so far, to each of its two outputs.
#[derive(Debug, Default)]
pub(crate) struct Pieces([Vec<u8>; 2]);

impl Pieces {
    /// Takes an entry in. A line without its end once it does not go on, with what `begin` says before its text.
    pub(crate) fn line(&mut self, entry: &LogEntry<'_>, begin: impl FnOnce() -> String) -> Option<Vec<u8>> {
        let line = &mut self.0[entry.stream as usize];
        if line.is_empty() {
            line.extend_from_slice(begin().as_bytes());
        }
        line.extend_from_slice(&entry.text);
        if entry.goes_on() && line.len() < LONGEST {
            return None;
        }
        let mut line = std::mem::take(line);
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Some(line)
    }

    /// Nothing comes any more: what there is of a line in each output.
    pub(crate) fn rest(&mut self) -> impl Iterator<Item = (Stream, Vec<u8>)> {
        let rest = [Stream::Stdout, Stream::Stderr].into_iter().zip(std::mem::take(&mut self.0));
        rest.filter(|(_, line)| !line.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::borrow::Cow;

    use rbox_engine::engine::MAX_ENTRY;

    use super::*;

    fn entry(stream: Stream, text: &[u8]) -> LogEntry<'static> {
        let text = Cow::Owned(text.to_vec());
        LogEntry {
            stream,
            time: jiff::Timestamp::UNIX_EPOCH,
            text,
            attributes: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn lines_are_whole() {
        let mut pieces = Pieces::default();
        let mut line = |stream, text: &[u8]| pieces.line(&entry(stream, text), || "> ".to_owned());
        assert_eq!(line(Stream::Stdout, b"one\n").unwrap(), b"> one");
        assert_eq!(line(Stream::Stdout, b"no end").unwrap(), b"> no end");
        assert_eq!(line(Stream::Stdout, b"\n").unwrap(), b"> ");
        let long = vec![b'x'; MAX_ENTRY];
        assert_eq!(line(Stream::Stdout, &long), None);
        assert_eq!(line(Stream::Stderr, b"between\n").unwrap(), b"> between");
        assert_eq!(line(Stream::Stdout, b"y\n").unwrap(), [b"> ", &long[..], b"y"].concat());
        // What never ends is not kept.
        let parts: Vec<_> =
            (0..2 * LONGEST / MAX_ENTRY).filter_map(|_| line(Stream::Stdout, &long)).collect();
        assert!(parts.len() >= 2 && parts.iter().all(|part| part.len() < LONGEST + 2 * MAX_ENTRY));
        assert_eq!(line(Stream::Stdout, &long), None);
        let rest: Vec<_> = pieces.rest().map(|(stream, _)| stream).collect();
        assert_eq!(rest, [Stream::Stdout]);
    }
}
