//! Where heredocs begin: `<<NAME`, `<<-NAME`, `3<<NAME`, with NAME in quotes or not.

use crate::expand::{ExpandError, Lexer};

/// The beginning of a heredoc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// The delimiter, without quotes.
    pub(super) name: String,
    /// The number before it.
    pub(super) descriptor: u64,
    /// Whether variables in the text are expanded.
    pub(super) expand: bool,
    /// Whether tabs at the beginning of lines are left out.
    pub(super) chomp: bool,
}

/// The heredoc that `word` begins, if it is the beginning of one and of nothing else.
pub(super) fn opens(word: &str) -> Option<Opening> {
    opening(word).ok().flatten()
}

/// The same, with the error of a delimiter that cannot be read.
fn opening(word: &str) -> Result<Option<Opening>, ExpandError> {
    let digits = word.len() - word.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (descriptor, rest) = word.split_at(digits);
    let Some(rest) = rest.strip_prefix("<<") else { return Ok(None) };
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let rest = rest.trim_start_matches(['\t', '\n', '\x0c', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    let lexer = Lexer::new('\\').keep_unset();
    let (words, raw) = (lexer.words(rest, &())?, lexer.keep_quotes().words(rest, &())?);
    let ([name], [raw]) = (words.as_slice(), raw.as_slice()) else { return Ok(None) };
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    Ok(Some(Opening {
        descriptor: if descriptor.is_empty() { 0 } else { descriptor.parse().unwrap_or(u64::MAX) },
        expand: quotes(name) == quotes(raw),
        chomp,
        name: name.clone(),
    }))
}

/// The heredocs that an instruction's line begins, in their order. None if the line's quotes cannot be read: its shell will say why.
pub(super) fn all(line: &str) -> Result<Vec<Opening>, ExpandError> {
    let lexer = Lexer::new('\\').keep_quotes().keep_escapes().keep_unset();
    let words = lexer.words(line, &()).unwrap_or_default();
    words.iter().filter_map(|word| opening(word).transpose()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn beginnings() {
        // The word; the delimiter, the number, whether it expands, whether tabs go.
        for (word, want) in [
            ("<<EOF", Some(("EOF", 0, true, false))),
            ("<<-EOF", Some(("EOF", 0, true, true))),
            ("<<'EOF'", Some(("EOF", 0, false, false))),
            ("<<\"EOF\"", Some(("EOF", 0, false, false))),
            ("<<-'EOF'", Some(("EOF", 0, false, true))),
            ("<<E'O'F", Some(("EOF", 0, false, false))),
            ("<<'E O F'", Some(("E O F", 0, false, false))),
            ("<< EOF", Some(("EOF", 0, true, false))),
            ("<<- EOF", Some(("EOF", 0, true, true))),
            ("3<<EOF", Some(("EOF", 3, true, false))),
            ("<<\\EOF", Some(("EOF", 0, true, false))),
            ("<<$EOF", Some(("$EOF", 0, true, false))),
            ("<<a.sh", Some(("a.sh", 0, true, false))),
            ("99999999999999999999<<EOF", Some(("EOF", u64::MAX, true, false))),
            ("<<", None),
            ("<<-", None),
            ("<EOF", None),
            ("<<<EOF", None),
            ("<<A<<B", None),
            ("a<<EOF", None),
            ("<<EOF bash", None),
            ("<<''", None),
            ("EOF", None),
            ("<<'EOF", None),
        ] {
            let want = want.map(|(name, descriptor, expand, chomp)| Opening {
                name: name.to_owned(),
                descriptor,
                expand,
                chomp,
            });
            assert_eq!(opens(word), want, "{word}");
        }
    }

    #[test]
    fn of_a_line() {
        for (line, want) in [
            ("RUN <<EOF", &["EOF"][..]),
            ("RUN cat <<A <<B", &["A", "B"]),
            ("RUN cat <<A && cat <<-B > /x", &["A", "B"]),
            ("RUN cat << A > /x", &["A"]),
            ("COPY <<a.txt <<\"b.txt\" c /d", &["a.txt", "b.txt"]),
            ("RUN echo '<<A'", &[]),
            ("RUN echo \"<<A\"", &[]),
            ("RUN echo \\<<A", &[]),
            ("RUN cat <<<A", &[]),
            ("RUN echo 1<<2", &["2"]),
            ("RUN echo $((1<<2))", &[]),
            ("RUN it's <<A", &[]),
        ] {
            let names: Vec<String> = all(line).unwrap().into_iter().map(|opening| opening.name).collect();
            assert_eq!(names, want, "{line}");
        }
    }
}
