//! Tables of words, and what must hold of any.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const ENV: [(&str, &str); 8] = [
    ("A", "foo/bar.a"),
    ("B", "b  b"),
    ("E", ""),
    ("P", "/usr/bin:/bin"),
    ("K", "한국어"),
    ("S", "*?\\"),
    ("L", "1\n2"),
    ("V", "1.26.0-rc.1"),
];

/// What BuildKit's own lexer makes of them.
#[test]
fn words() {
    let lines = include_str!("words.txt").lines().filter(|line| !line.starts_with("# ") && !line.is_empty());
    let mut count = 0;
    for line in lines {
        let (word, want) = line.split_once(" ⇒").unwrap();
        let want = want.strip_prefix(' ').unwrap_or(want).replace('␤', "\n");
        let said = match Lexer::new('\\').word(word, &ENV.as_slice()) {
            Ok(expanded) => expanded.text,
            Err(error) => format!("! {}", error.message),
        };
        assert_eq!(said.trim_end_matches(' '), want, "{word}");
        count += 1;
    }
    assert!(count > 250, "{count}");
}

#[test]
fn split() {
    for (word, want) in [
        ("", &[][..]),
        (" ", &[]),
        ("a", &["a"]),
        ("a b", &["a", "b"]),
        ("  a   b  ", &["a", "b"]),
        ("a\tb\nc", &["a", "b", "c"]),
        ("\"a b\" c", &["a b", "c"]),
        ("a\\ b", &["a b"]),
        ("a' 'b", &["a b"]),
        ("$B", &["b", "b"]),
        ("\"$B\"", &["b  b"]),
        ("x$B", &["xb", "b"]),
        ("$B$B", &["b", "bb", "b"]),
        ("$N", &[]),
        ("a $N b", &["a", "b"]),
        ("\"\"", &[]),
        ("a\"\"", &["a"]),
        ("${N:-a b}", &["a", "b"]),
        ("8${N:-080}", &["8080"]),
        ("<< a", &["<< a"]),
        ("<<- a", &["<<-", "a"]),
        ("< a", &["<", "a"]),
    ] {
        assert_eq!(Lexer::new('\\').words(word, &ENV.as_slice()).unwrap(), want, "{word}");
    }
}

#[test]
fn other_lexers() {
    let lexer = Lexer::new('\\');
    for (lexer, word, want) in [
        (Lexer::new('`'), "a`$A", "a$A"),
        (Lexer::new('`'), "C:\\a\\$E", "C:\\a\\"),
        (Lexer::new('`'), "\"a`\"b\"", "a\"b"),
        (Lexer::new('`'), "${A#f`o}", "foo/bar.a"),
        (lexer.keep_quotes(), "a \"b $E\" '$A'", "a \"b \" '$A'"),
        (lexer.keep_escapes(), "a\\ \\$A \"\\\"\"", "a\\ \\$A \\\""),
        (
            lexer.keep_unset(),
            "$N ${N} ${N:-d} ${N/a/b} ${N#x} $E$A",
            "$N ${N} ${N:-d} ${N/a/b} ${N#x} foo/bar.a",
        ),
        (Lexer::heredoc(), "it's \"$A\" \\$A \\n '$E'", "it's \"foo/bar.a\" $A n ''"),
        (Lexer::heredoc(), "a\\\\b ${N:-\"x\"}", "a\\b \"x\""),
    ] {
        assert_eq!(lexer.word(word, &ENV.as_slice()).unwrap().text, want, "{word}");
    }
}

#[test]
fn names_that_were_met() {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    for (word, matched, unmatched) in [
        ("a", &[][..], &[][..]),
        ("$A$A ${E}", &["A", "E"], &[]),
        ("$A $N $M", &["A"], &["M", "N"]),
        ("${N:-$A}", &["A"], &["N"]),
        ("${A:-$N}", &["A"], &["N"]),
        ("'$A' \\$A", &[], &[]),
        ("$1 $@", &[], &["1", "@"]),
        ("${A#$N}", &["A"], &["N"]),
    ] {
        let expanded = Lexer::new('\\').word(word, &ENV.as_slice()).unwrap();
        assert_eq!((expanded.matched, expanded.unmatched), (set(matched), set(unmatched)), "{word}");
    }
    let error = Lexer::new('\\').word("$N ${M?no}", &ENV.as_slice()).unwrap_err();
    assert_eq!(error.unmatched, set(&["M", "N"]));
    assert_eq!(error.to_string(), "failed to process \"$N ${M?no}\": M: no");
}

#[test]
fn environments() {
    let pairs = [("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
    let map: std::collections::BTreeMap<_, _> = pairs.clone().into();
    let hash: std::collections::HashMap<_, _> = pairs.clone().into();
    for environment in [&pairs.as_slice() as &dyn Environment, &pairs.to_vec(), &map, &hash] {
        assert_eq!(environment.value("a"), Some("2"));
        assert_eq!(environment.value("b"), None);
    }
    assert_eq!(().value("a"), None);
}

#[test]
fn there_is_an_end() {
    let lexer = Lexer::new('\\');
    let nested = |depth: usize| "${N:-".repeat(depth) + "x" + &"}".repeat(depth);
    assert_eq!(lexer.word(&nested(MAX_DEPTH), &()).unwrap().text, "x");
    let error = lexer.word(&nested(MAX_DEPTH + 1), &()).unwrap_err();
    assert_eq!(error.message, format!("more than {MAX_DEPTH} substitutions within each other"));
    let half = [("H", "x".repeat(MAX_GROWTH / 2))];
    assert!(lexer.word("$H$H", &half.as_slice()).is_ok());
    for word in ["$H$H$H", "${H//x/xxxx}", "${H}${N:-$H$H}"] {
        let error = lexer.word(word, &half.as_slice()).unwrap_err().message;
        assert!(error.contains("bytes"), "{error}");
    }
    let started = Instant::now();
    for word in ["${H#*a*a*a}", "${H%%*a*a}", "${H//xxxxxxxxy/z}", "${H//*y/z}", "${H/?x?x?y/z}"] {
        let _ = lexer.word(word, &half.as_slice());
    }
    let long = "x".repeat(1 << 20);
    for word in [
        long.clone(),
        format!("'{long}'"),
        format!("\"{long}\""),
        format!("${{N:-{long}}}"),
        "$A".repeat(1 << 19),
    ] {
        assert!(lexer.word(&word, &()).is_ok());
    }
    assert!(lexer.word(&"${N:-".repeat(1 << 18), &()).is_err());
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn what_has_nothing_special_stays(text in "[a-zA-Z0-9 ./:=,_-]*") {
        let lexer = Lexer::new('\\');
        prop_assert_eq!(&lexer.word(&text, &()).unwrap().text, &text);
        let words: Vec<&str> = text.split_whitespace().collect();
        prop_assert_eq!(lexer.words(&text, &()).unwrap(), words);
    }

    #[test]
    fn single_quotes_keep_everything(text in "[^']*") {
        prop_assert_eq!(Lexer::new('\\').word(&format!("'{text}'"), &()).unwrap().text, text);
    }

    #[test]
    fn a_value_comes_out_as_it_is(value in ".*") {
        let env = [("X", value.as_str())];
        for word in ["$X", "${X}", "\"$X\"", "${X:-$X}", "${N:-$X}", "${X#}", "${X/$N$N./.}"] {
            let text = Lexer::new('\\').word(word, &env.as_slice()).unwrap().text;
            prop_assert_eq!(&text, &value, "{}", word);
        }
    }

    #[test]
    fn nothing_panics(text in "[$A-C{}:#%/?*+\"'\\\\ <-]*") {
        for lexer in [Lexer::new('\\'), Lexer::new('`'), Lexer::heredoc(), Lexer::new('\\').keep_quotes().keep_escapes().keep_unset()] {
            let whole = lexer.word(&text, &ENV.as_slice());
            let split = lexer.words(&text, &ENV.as_slice());
            prop_assert_eq!(whole.is_ok(), split.is_ok());
        }
    }
}
