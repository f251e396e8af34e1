//! Tables of patterns and paths, worked out from the documentation and compared with what moby does.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn ignore(text: &str) -> Ignore {
    Ignore::parse(text).unwrap()
}

#[test]
fn lists() {
    // The file, what it ignores, what it does not.
    for (text, ignored, kept) in [
        ("", &[][..], &["a", "a/b"][..]),
        ("# a\n\n  \n", &[], &["a", "# a"]),
        ("a", &["a", "a/b", "a/b/c"], &["b", "ab", "b/a"]),
        ("/a", &["a", "a/b"], &["b/a"]),
        ("a/", &["a", "a/b"], &["b"]),
        ("./a", &["a"], &["b"]),
        ("a/../b", &["b"], &["a"]),
        ("  a  ", &["a"], &["b"]),
        (" # a", &["# a"], &["a"]),
        ("a\r\nb\r\n", &["a", "b"], &["c"]),
        ("\u{feff}a\nb", &["a", "b"], &["c"]),
        ("\u{feff}# a\nb", &["b"], &["a", "# a"]),
        ("*", &["a", "a/b", ".a"], &[]),
        ("*.txt", &["a.txt", ".txt"], &["a/b.txt", "a.txtx"]),
        ("*/b", &["a/b", "a/b/c"], &["b", "a/c/b"]),
        ("*/*/b", &["a/c/b"], &["a/b", "b"]),
        ("a?", &["ab", "a한"], &["a", "abc", "a/"]),
        ("**", &["a", "a/b/c"], &[]),
        ("**/", &["a", "a/b"], &[]),
        ("**/b", &["b", "a/b", "a/c/b", "a/b/d"], &["ab", "a/bc"]),
        ("**/*.go", &["a.go", "b/a.go", "c/b/a.go"], &["a.gox", "a.go.x"]),
        ("a/**", &["a/b", "a/b/c"], &["a", "ab", "b/a/c"]),
        ("a/**/b", &["a/b", "a/c/b", "a/c/d/b"], &["a", "b", "a/bc", "ab"]),
        ("a**", &["a", "ab", "a/b"], &["b", "b/a"]),
        ("a**/b", &["ab", "a/b", "ac/b", "a/c/b"], &["b", "acb"]),
        ("**b", &["b", "ab", "a/b", "a/cb"], &["ba"]),
        ("**/a/**", &["a/b", "c/a/b"], &["a", "c/a"]),
        ("**/**", &["a", "a/b"], &[]),
        ("**/**/b", &["b", "a/b", "a/c/b"], &["ab"]),
        ("**/b*", &["b", "bc", "a/bc"], &["ab"]),
        ("***", &["a", "a/b"], &[]),
        ("a[b-d]", &["ab", "ad"], &["aa", "a", "a[b-d]"]),
        ("a[^b-d]", &["aa", "ae"], &["ab", "a"]),
        ("a[!b]", &["ab", "a!"], &["aa"]),
        ("[a-ζ]", &["α", "b"], &["A"]),
        ("[\\]]", &["]"], &["a"]),
        ("[\\-x]", &["-", "x"], &["a"]),
        ("a\\*", &["a*"], &["ab", "a"]),
        ("a\\?b", &["a?b"], &["acb"]),
        ("a.b", &["a.b"], &["acb"]),
        ("a+(b)$^{c}|d", &["a+(b)$^{c}|d"], &["a", "d"]),
        ("a]", &["a]"], &["a"]),
        ("!a", &[], &["a"]),
        ("*\n!a", &["b", "c/d"], &["a", "a/b"]),
        ("*\n! a", &["b"], &["a"]),
        ("*\n!/a", &["b"], &["a"]),
        ("*.md\n!README.md", &["a.md"], &["README.md", "b"]),
        ("*.md\n!README*.md\nREADME-secret.md", &["a.md", "README-secret.md"], &["README.md", "README-b.md"]),
        ("*.md\nREADME-secret.md\n!README*.md", &["a.md"], &["README.md", "README-secret.md"]),
        ("a\n!a/b", &["a", "a/c"], &["a/b", "a/b/d"]),
        ("a/*\n!a/b", &["a/c"], &["a", "a/b"]),
        ("**\n!a/b/c", &["a", "a/b", "a/b/d"], &["a/b/c", "a/b/c/d"]),
        ("**\n!**/b", &["a", "a/c"], &["b", "a/b", "a/b/c"]),
        ("a\n!a\na/b", &["a/b"], &["a", "a/c"]),
        ("!a\na", &["a", "a/b"], &["b"]),
        // A pattern that need not be asked of a directory does not count for what is in it.
        ("d\n!d/x\nd*", &["d", "d/y"], &["d/x"]),
    ] {
        let list = ignore(text);
        for path in ignored {
            assert!(list.matches(path), "{text:?} does not ignore {path}");
        }
        for path in kept {
            assert!(!list.matches(path), "{text:?} ignores {path}");
        }
    }
}

#[test]
fn what_is_refused() {
    for (text, want) in [
        ("!", "illegal exclusion pattern: \"!\""),
        ("a\n! \n", "illegal exclusion pattern: \"!\""),
        ("[", "syntax error in pattern"),
        ("a[", "syntax error in pattern"),
        ("[]", "syntax error in pattern"),
        ("[]a]", "syntax error in pattern"),
        ("[a", "syntax error in pattern"),
        ("[^", "syntax error in pattern"),
        ("[-]", "syntax error in pattern"),
        ("[a-]", "syntax error in pattern"),
        ("[-a]", "syntax error in pattern"),
        ("[a-b-c]", "syntax error in pattern"),
        ("[b-a]", "syntax error in pattern"),
        ("a\\", "syntax error in pattern"),
        ("![", "syntax error in pattern"),
    ] {
        assert_eq!(Ignore::parse(text).unwrap_err().to_string(), want, "{text}");
    }
    for text in ["a\n".repeat(10_001), "a".repeat(10_000), " ".repeat((1 << 20) + 1)] {
        assert!(matches!(Ignore::parse(&text), Err(PatternError::TooMuch(_))), "{}", &text[..10]);
    }
}

#[test]
fn globs() {
    for (pattern, matched, others) in [
        ("abc", &["abc"][..], &["ab", "abcd"][..]),
        ("*", &["abc", ""], &["a/b"]),
        ("*c", &["abc", "c"], &["cb"]),
        ("a*", &["a", "abc"], &["b", "ab/c"]),
        ("a*/b", &["abc/b"], &["a/c/b"]),
        ("a*b*c*d*e*", &["axbxcxdxe"], &["axbxcxdx"]),
        ("a*b?c*x", &["abxbbxdbxebxczzx"], &["abxbbxdbxebxczzy"]),
        ("ab[c]", &["abc"], &["abb"]),
        ("ab[^c]", &["abd", "ab/"], &["abc"]),
        ("a?b", &["a☺b"], &["a/b", "a☺☺b"]),
        ("a[^a]b", &["a☺b"], &["aab"]),
        ("[a-ζ]*", &["α"], &["A"]),
        ("\\*", &["*"], &["a"]),
        ("**", &["a", "abc"], &["a/b"]),
        ("a**b", &["ab", "axb"], &["a/b"]),
        ("[b-a]", &[], &["a", "b"]),
    ] {
        let glob = Glob::parse(pattern).unwrap();
        assert!(matched.iter().all(|name| glob.matches(name)), "{pattern}");
        assert!(!others.iter().any(|name| glob.matches(name)), "{pattern}");
    }
    for pattern in ["[", "[]a]", "[a", "\\", "a[", "[x-]"] {
        assert_eq!(Glob::parse(pattern), Err(PatternError::Syntax), "{pattern}");
    }
}

#[test]
fn segments() {
    let name = |name: &str| Segment::Name(name.to_owned());
    let glob = |pattern| Segment::Glob(Glob::parse(pattern).unwrap());
    for (path, want) in [
        ("a/b", vec![name("a"), name("b")]),
        ("/a//b/", vec![name("a"), name("b")]),
        ("a/*.go", vec![name("a"), glob("*.go")]),
        ("a/*/b", vec![name("a"), glob("*"), glob("b")]),
        ("a\\*b/c", vec![name("a\\*b"), name("c")]),
        ("[ab]/c\\*", vec![glob("[ab]"), glob("c\\*")]),
        ("", vec![]),
    ] {
        assert_eq!(Glob::segments(path).unwrap(), want, "{path}");
    }
    assert!(Glob::segments("a/[/b").is_err());
    for (path, wild) in
        [("a", false), ("a*", true), ("a?", true), ("[a]", true), ("a\\*", false), ("a]", false)]
    {
        assert_eq!(Glob::is_in(path), wild, "{path}");
    }
}

#[test]
fn directories_that_nobody_needs_to_enter() {
    for (text, path, skips) in [
        ("a", "a", true),
        ("a", "b", false),
        ("a\n!b", "a", true),
        ("a\n!a/b", "a", false),
        ("a\n!a/b/c", "a/b", false),
        ("a\n!a/b/c", "a/d", true),
        ("!a/b\na", "a", true),
        ("a\n!**/b", "a", false),
        ("a\n!**b", "a", false),
        ("a\n!*/b", "a", false),
        ("a\n!c/*", "a", true),
        ("a\n!a*/b", "a/c", true),
        ("a\n!a/**", "a", false),
        ("a\n!a/b/**", "a", false),
        ("a\n!a/b/**", "a/c", true),
        ("a\n!ab", "a", true),
        ("**\n!a/b", "c", true),
        ("**\n!a/b", "a", false),
        ("*\n!a", "a", false),
    ] {
        let list = ignore(text);
        let mut here = Directory::default();
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            here = list.enter(&here, &path[..end]);
        }
        assert_eq!(list.skips(&here, path), skips, "{text:?} {path}");
    }
}

#[test]
fn kinds_of_lists() {
    assert!(Ignore::default().is_empty() && !ignore("a").is_empty());
    assert!(ignore("a\n!b").has_exceptions() && !ignore("a").has_exceptions());
    for (text, all) in [
        ("*", true),
        ("**", true),
        ("**/*", true),
        ("/*", true),
        ("!*", false),
        (".*", false),
        ("a", false),
        ("*a", false),
        ("**/a", false),
    ] {
        assert_eq!(ignore(text).takes_everything(), all, "{text}");
    }
    // As given, not as a file: what begins with # is a pattern.
    assert!(Ignore::new(["#a", "", " b "]).unwrap().matches("#a"));
}

#[test]
fn there_is_an_end() {
    let started = Instant::now();
    let path = "a/".repeat(2000) + "b";
    for text in
        ["*a".repeat(2000), "**/a".repeat(2000), "a**".repeat(2700), "[a-b]*".repeat(1300), "?".repeat(8000)]
    {
        let list = ignore(&text);
        let mut here = Directory::default();
        here = list.enter(&here, &path);
        let _ = list.skips(&here, &path);
        let _ = Glob::parse(&text).unwrap().matches(&"a".repeat(10_000));
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

proptest! {
    /// What is skipped as a whole has nothing in it that is not ignored.
    #[test]
    fn skipping_loses_nothing(
        patterns in proptest::collection::vec("!?(\\*\\*/)?[ab*?]{1,2}(/[ab*?]{1,2}){0,2}(/\\*\\*)?", 1..5),
        path in "[ab]{1,2}(/[ab]{1,2}){0,3}",
    ) {
        let list = ignore(&patterns.join("\n"));
        let mut here = Directory::default();
        let mut skipped = false;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            here = list.enter(&here, &path[..end]);
            prop_assert!(here.is_ignored() || !skipped, "{:?}: {} is below what was skipped", patterns, path);
            skipped = skipped || list.skips(&here, &path[..end]);
        }
        prop_assert_eq!(here.is_ignored(), list.matches(&path));
    }

    #[test]
    fn a_name_matches_itself(name in "[^*?\\[\\]\\\\/!#\\s\\pC.][^*?\\[\\]\\\\/\\s\\pC]*") {
        prop_assert!(ignore(&name).matches(&name));
        prop_assert!(Glob::parse(&name).unwrap().matches(&name));
        let escaped: String = name.chars().flat_map(|character| ['\\', character]).collect();
        prop_assert!(Glob::parse(&escaped).unwrap().matches(&name));
        let (below, path) = (format!("**/{name}"), format!("x/{name}"));
        prop_assert!(ignore(&below).matches(&path));
    }
}
