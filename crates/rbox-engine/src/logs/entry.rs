//! One entry of a log, in the two forms that files have.
//!
//! `json-file` is Docker's: one JSON object a line, `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}`. It can
//! hold text only; bytes that are no UTF-8 become U+FFFD.
//!
//! All others have that of Kubernetes (the log format of its container runtime interface), which keeps every byte as it is:
//! `2026-01-02T03:04:05.000000006Z stdout F text`, where `P` stands for `F` when no line feed followed the text. Text has no other line feed,
//! so nothing needs an escape.
//!
//! An entry says by its first byte which form it has: a file may have both, as older versions wrote `local` like `json-file`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write as _};

use jiff::Timestamp;
use serde::Deserialize;

/// Longest text of one entry, in bytes; a longer line is parted.
pub const MAX_ENTRY: usize = 16 * 1024;

/// Which of the two outputs a line came from. With a terminal there is only one: stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// As the log spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// How entries are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// As Docker's `json-file`.
    #[default]
    Json,
    /// Each byte as it is.
    Plain,
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry<'a> {
    /// Where it came from.
    pub stream: Stream,
    /// When it was read from the container.
    pub time: Timestamp,
    /// The text, with its line feed when the line ends here.
    pub text: Cow<'a, [u8]>,
    /// What `--log-opt labels`, `env` and `tag` add to each entry, by name.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawEntry<'a> {
    #[serde(borrow, default)]
    log: Cow<'a, str>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    time: Timestamp,
}

impl<'a> LogEntry<'a> {
    /// Reads one line of the file. None for what is not an entry: a line torn by a kill.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        if line.first() != Some(&b'{') {
            return Self::parse_plain(line);
        }
        let raw: RawEntry<'a> = serde_json::from_slice(line).ok()?;
        let stream = if raw.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
        let text = match raw.log {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Some(Self { stream, time: raw.time, text, attributes: raw.attrs })
    }

    fn parse_plain(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let stream = match fields.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let ends = match fields.next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        let text = fields.next()?;
        let text = if ends { text } else { text.strip_suffix(b"\n").unwrap_or(text) };
        Some(Self { stream, time, text: text.into(), attributes: BTreeMap::new() })
    }

    /// Whether the line goes on in the next entry of its stream. Lines are parted between characters; a last line without its end is
    /// shorter.
    pub fn goes_on(&self) -> bool {
        !self.text.ends_with(b"\n") && self.text.len() + 4 > MAX_ENTRY
    }

    /// The same, without the line that it was read from.
    pub fn to_static(&self) -> LogEntry<'static> {
        let text = Cow::Owned(self.text.clone().into_owned());
        LogEntry { stream: self.stream, time: self.time, text, attributes: self.attributes.clone() }
    }
}

/// Writes entries.
#[derive(Debug, Clone)]
pub(super) struct Encoder {
    form: Form,
    /// What stands in each entry between its stream and its time.
    attributes: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(form: Form, attributes: &BTreeMap<String, String>) -> io::Result<Self> {
        Ok(Self { form, attributes: encode_attributes(attributes)? })
    }

    /// Appends one entry. `text` has no line feed but at its end.
    pub(super) fn encode(&self, out: &mut Vec<u8>, stream: Stream, text: &[u8], time: Timestamp) {
        match self.form {
            Form::Json => encode_json(out, stream, text, &self.attributes, time),
            Form::Plain => {
                let (text, ends) = text.strip_suffix(b"\n").map_or((text, 'P'), |text| (text, 'F'));
                // Writing to memory does not fail.
                let _ = write!(out, "{time} {} {ends} ", stream.as_str());
                out.extend_from_slice(text);
                out.push(b'\n');
            }
        }
    }
}

/// Bytes that are no UTF-8 become U+FFFD, as Docker writes them.
fn encode_json(out: &mut Vec<u8>, stream: Stream, text: &[u8], attributes: &[u8], time: Timestamp) {
    out.extend_from_slice(b"{\"log\":\"");
    for chunk in text.utf8_chunks() {
        encode_text(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.as_str().as_bytes());
    out.push(b'"');
    out.extend_from_slice(attributes);
    let _ = writeln!(out, ",\"time\":\"{time}\"}}");
}

/// The member of an entry that holds its attributes; nothing when there are none.
pub(super) fn encode_attributes(attributes: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    if !attributes.is_empty() {
        out.extend_from_slice(b",\"attrs\":");
        serde_json::to_writer(&mut out, attributes)?;
    }
    Ok(out)
}

fn encode_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            // Docker's encoder escapes these for HTML's sake; the same bytes come out here.
            0..=0x1f | b'<' | b'>' | b'&' => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain_from..at]);
        if short.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.extend_from_slice(short);
        }
        plain_from = at + 1;
    }
    out.extend_from_slice(&bytes[plain_from..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05.1Z".parse().unwrap()
    }

    fn encoded(form: Form, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Encoder::new(form, &BTreeMap::new()).unwrap().encode(&mut out, Stream::Stderr, text, now());
        out
    }

    #[test]
    fn json_is_dockers() {
        let expected = r#"{"log":"a \"b\" \\ \u003cc\u003e \u001b\ufffd\té\r\n","stream":"stderr","time":"2026-01-02T03:04:05.1Z"}"#;
        let written = encoded(Form::Json, b"a \"b\" \\ <c> \x1b\xff\t\xc3\xa9\r\n");
        assert_eq!(String::from_utf8(written).unwrap(), format!("{expected}\n"));
    }

    #[test]
    fn each_byte_comes_back() {
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
        for text in [&all[..], b"", b"\n", b" F x\n", b"{\n", b"\0\0", b"\r\n"] {
            for text in [text.to_vec(), [text, b"\n"].concat()] {
                if text.ends_with(b"\n\n") {
                    continue;
                }
                let line = encoded(Form::Plain, &text);
                assert_eq!(line.split_inclusive(|byte| *byte == b'\n').count(), 1);
                let entry = LogEntry::parse(&line).unwrap();
                assert_eq!((entry.stream, entry.time, &*entry.text), (Stream::Stderr, now(), &text[..]));
            }
        }
        assert_eq!(encoded(Form::Plain, b"a\n"), b"2026-01-02T03:04:05.1Z stderr F a\n");
        assert_eq!(encoded(Form::Plain, b"a"), b"2026-01-02T03:04:05.1Z stderr P a\n");
    }

    #[test]
    fn entries_of_docker_are_read_and_torn_ones_are_not() {
        let line = br#"{"log":"a\u001b[0m\n","stream":"stderr","attrs":{"x":"y"},"time":"2026-01-02T03:04:05.123456789Z"}"#;
        let entry = LogEntry::parse(line).unwrap();
        assert_eq!((entry.stream, &*entry.text), (Stream::Stderr, &b"a\x1b[0m\n"[..]));
        assert_eq!(entry.attributes["x"], "y");
        assert_eq!(entry.time.subsec_nanosecond(), 123_456_789);
        for torn in [
            &b""[..],
            b"\n",
            b"{",
            br#"{"log":"x"}"#,
            b"\xff",
            b"null",
            b"2026-01-02T03:04:05Z stdo",
            b"2026-01-02T03:04:05Z stdout X a\n",
            b"\0\0\0\n",
        ] {
            assert_eq!(LogEntry::parse(torn), None);
        }
    }
}
