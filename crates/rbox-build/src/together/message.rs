//! What a process that carries out a stage reports: one event after the other, each with its length before it.

use std::time::Duration;

use rbox_engine::engine::Stream;

use crate::progress::{BuildEvent, Number};

/// The kind, the step's number, and how many bytes follow.
const HEAD: usize = 1 + 8 + 4;
/// No text of one event is longer; of what is, the beginning is told.
const MOST: usize = 1 << 20;
/// The kind of [`encode_lost`].
const LOST: u8 = b'l';

/// An event as bytes.
pub(super) fn encode(event: &BuildEvent<'_>) -> Vec<u8> {
    let took;
    let (kind, number, text): (u8, Number, &[u8]) = match event {
        BuildEvent::Begun { number, name } => (b'b', *number, name.as_bytes()),
        BuildEvent::Told { number, line } => (b't', *number, line.as_bytes()),
        BuildEvent::NotCached { number, why } => (b'n', *number, why.as_bytes()),
        BuildEvent::Output { number, stream: Stream::Stderr, bytes } => (b'2', *number, bytes),
        BuildEvent::Output { number, bytes, .. } => (b'1', *number, bytes),
        BuildEvent::Cached { number } => (b'c', *number, &[]),
        BuildEvent::Done { number, took: time } => {
            took = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_le_bytes();
            (b'd', *number, &took)
        }
        BuildEvent::Failed { number, why } => (b'f', *number, why.as_bytes()),
        BuildEvent::Canceled { number } => (b'x', *number, &[]),
        BuildEvent::Warning(text) => (b'w', 0, text.as_bytes()),
        BuildEvent::Tick => (b'-', 0, &[]),
    };
    let text = text.get(..text.len().min(MOST)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(HEAD + text.len());
    bytes.push(kind);
    bytes.extend_from_slice(&(number as u64).to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(text);
    bytes
}

/// Why there is no report of what a stage came to, as bytes.
pub(super) fn encode_lost(why: &str) -> Vec<u8> {
    let mut bytes = encode(&BuildEvent::Warning(why));
    if let Some(kind) = bytes.first_mut() {
        *kind = LOST;
    }
    bytes
}

/// What another process tells.
pub(super) enum Heard<'a> {
    Event(BuildEvent<'a>),
    /// Why there is no report.
    Lost(&'a str),
}

/// Takes the first whole event off `bytes`; none if there is none yet. `each` gets it.
pub(super) fn take(bytes: &mut Vec<u8>, each: &mut dyn FnMut(Heard<'_>)) -> bool {
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else { return false };
    let field = |from: usize, to: usize| head.get(from..to).unwrap_or_default();
    let number = field(1, 9).try_into().map_or(0, u64::from_le_bytes);
    let number = Number::try_from(number).unwrap_or(0);
    let length = field(9, HEAD).try_into().map_or(0, u32::from_le_bytes) as usize;
    let Some(body) = rest.get(..length) else { return false };
    let text = String::from_utf8_lossy(body);
    let event = match head.first() {
        Some(&LOST) => {
            each(Heard::Lost(&text));
            None
        }
        Some(b'b') => Some(BuildEvent::Begun { number, name: &text }),
        Some(b't') => Some(BuildEvent::Told { number, line: &text }),
        Some(b'n') => Some(BuildEvent::NotCached { number, why: &text }),
        Some(b'1') => Some(BuildEvent::Output { number, stream: Stream::Stdout, bytes: body }),
        Some(b'2') => Some(BuildEvent::Output { number, stream: Stream::Stderr, bytes: body }),
        Some(b'c') => Some(BuildEvent::Cached { number }),
        Some(b'd') => {
            let took = Duration::from_nanos(body.try_into().map_or(0, u64::from_le_bytes));
            Some(BuildEvent::Done { number, took })
        }
        Some(b'f') => Some(BuildEvent::Failed { number, why: &text }),
        Some(b'x') => Some(BuildEvent::Canceled { number }),
        Some(b'w') => Some(BuildEvent::Warning(&text)),
        _ => None,
    };
    if let Some(event) = event {
        each(Heard::Event(event));
    }
    bytes.drain(..HEAD + length);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_arrive_as_they_were_sent_however_they_are_cut() {
        let took = Duration::from_millis(1234);
        let events = [
            BuildEvent::Begun { number: 1, name: "[a 1/2] RUN ü" },
            BuildEvent::Told { number: 1, line: "line" },
            BuildEvent::NotCached { number: 2, why: "x changed" },
            BuildEvent::Output { number: 2, stream: Stream::Stdout, bytes: b"\xff\n" },
            BuildEvent::Output { number: 2, stream: Stream::Stderr, bytes: b"" },
            BuildEvent::Cached { number: 3 },
            BuildEvent::Done { number: 2, took },
            BuildEvent::Failed { number: 4, why: "no" },
            BuildEvent::Canceled { number: 5 },
            BuildEvent::Warning("careful"),
        ];
        let mut all: Vec<u8> = events.iter().flat_map(encode).collect();
        all.extend(encode_lost("disk full"));
        for step in [1, 7, all.len()] {
            let (mut waiting, mut heard) = (Vec::new(), Vec::new());
            for bytes in all.chunks(step) {
                waiting.extend_from_slice(bytes);
                let mut each = |one: Heard<'_>| {
                    heard.push(match one {
                        Heard::Event(event) => format!("{event:?}"),
                        Heard::Lost(why) => why.to_owned(),
                    });
                };
                while take(&mut waiting, &mut each) {}
            }
            let mut sent: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
            sent.push("disk full".to_owned());
            assert_eq!((heard, waiting.len()), (sent, 0), "{step} bytes at a time");
        }
    }
}
