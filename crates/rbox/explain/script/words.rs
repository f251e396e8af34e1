//! Words of a shell.

use std::fmt::Write as _;

/// A name that is another one in the script than it was: the container's own directory, its id.
#[derive(Debug)]
pub(super) struct Renamed {
    /// What is in the calls.
    pub(super) was: String,
    /// What stands for it: `"$work"`.
    pub(super) is: &'static str,
}

/// One word that a shell reads as these bytes.
///
/// What a terminal acts on is written for printf(1), so that a script may be looked at.
pub(super) fn word(bytes: &[u8]) -> String {
    if !bytes.is_empty() && bytes.iter().all(|byte| is_plain(*byte)) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let shown = |text: &str| crate::output::escape::text(text) == text;
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| shown(text)) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    // A substitution loses line breaks at its end.
    let breaks = bytes.iter().rev().take_while(|byte| **byte == b'\n').count();
    let (before, after) = bytes.split_at(bytes.len() - breaks);
    let after = if after.is_empty() { String::new() } else { format!("'{}'", "\n".repeat(breaks)) };
    format!(r#""$({})"{after}"#, printf(before))
}

/// The command that prints these bytes.
pub(super) fn printf(bytes: &[u8]) -> String {
    let mut text = String::from("printf '%b' '");
    for byte in bytes {
        if is_plain(*byte) || *byte == b' ' {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "\\0{byte:03o}");
        }
    }
    text + "'"
}

/// Whether it means nothing but itself.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-+=:,./@%".contains(&byte)
}

/// A word in which these names are others.
pub(super) fn renamed(text: &str, names: &[Renamed]) -> String {
    let found = names.iter().filter(|name| !name.was.is_empty());
    let Some((before, name, after)) = found
        .filter_map(|name| text.split_once(&name.was).map(|(before, after)| (before, name, after)))
        .min_by_key(|found| found.0.len())
    else {
        return if text.is_empty() { String::new() } else { word(text.as_bytes()) };
    };
    let before = if before.is_empty() { String::new() } else { word(before.as_bytes()) };
    before + name.is + &renamed(after, names)
}

/// A here-document of this text for a command.
pub(super) fn document(command: &str, text: &str) -> Vec<String> {
    let mut end = "END".to_owned();
    while text.lines().any(|line| line == end) {
        end.push('_');
    }
    let mut lines = vec![format!("{command} <<'{end}'")];
    lines.extend(text.lines().map(str::to_owned));
    lines.push(end);
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn said_by_a_shell(word: &str) -> Vec<u8> {
        let script = format!("work=/w; printf %s {word}");
        std::process::Command::new("sh").args(["-c", &script]).output().unwrap().stdout
    }

    #[test]
    fn a_shell_reads_them_as_they_are() {
        for bytes in [
            &b""[..],
            b"plain/x",
            b"a b",
            b"it's",
            b"$(id)`id`\\",
            b"a\nb",
            b"a\n\n",
            b"\x1b]0;x",
            b"\xff\xfe",
            "\u{202e}".as_bytes(),
        ] {
            assert_eq!(said_by_a_shell(&word(bytes)), bytes, "{}", word(bytes));
            let acts = |char: char| char.is_control() && char != '\n';
            assert!(!word(bytes).contains(acts), "{bytes:?}");
        }
        let names = [Renamed { was: "/var/c/17".into(), is: r#""$work""# }];
        assert_eq!(renamed("/var/c/17/hosts", &names), r#""$work"/hosts"#);
        assert_eq!(said_by_a_shell(&renamed("a$x=/var/c/17/it's,/var/c/17", &names)), b"a$x=/w/it's,/w");
    }

    #[test]
    fn a_document_ends_where_it_ends() {
        assert_eq!(document("cat", "a\nEND\n"), ["cat <<'END_'", "a", "END", "END_"]);
    }
}
