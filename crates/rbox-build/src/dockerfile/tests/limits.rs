//! Files that are made to hurt, and triggers and excerpts.

use std::time::{Duration, Instant};

use super::*;

fn error(text: &str) -> String {
    Dockerfile::parse(text).unwrap_err().message
}

#[test]
fn sizes_have_an_end() {
    assert_eq!(
        error(&"#".repeat(MAX_BYTES + 1)),
        format!("the Dockerfile has {} bytes, more than {MAX_BYTES}", MAX_BYTES + 1)
    );
    let many = "FROM a\n".repeat(MAX_INSTRUCTIONS);
    assert_eq!(Dockerfile::parse(&many).unwrap().stages.len(), MAX_INSTRUCTIONS);
    let error = Dockerfile::parse(&(many + "RUN b\n")).unwrap_err();
    assert_eq!(error.message, format!("the Dockerfile has more than {MAX_INSTRUCTIONS} instructions"));
    assert_eq!(error.lines, Some(Lines::one(MAX_INSTRUCTIONS + 1)));
}

/// A COPY of as many heredocs, each with a name of its own.
fn heredocs(count: usize) -> String {
    let names = || (0..count).map(|number| format!("N{number}"));
    let line: String = names().map(|name| format!("<<{name} ")).collect();
    let rest: String = names().map(|name| name + "\n").collect();
    format!("FROM a\nCOPY {line}/b\n{rest}")
}

#[test]
fn long_lines_and_deep_ones_take_no_time() {
    let long = 1 << 20;
    let started = Instant::now();
    for text in [
        format!("FROM a\nRUN {}", "a ".repeat(long)),
        format!("FROM a\nRUN {}\n", "<<A ".repeat(long / 4)),
        format!("FROM a\nRUN {}\n", "[".repeat(long)),
        format!("FROM a\nRUN [{}", "\"a\",".repeat(long / 4)),
        format!("FROM a\n{}", "ONBUILD ".repeat(long / 8)),
        format!("FROM a\nENV {}", "A=1 ".repeat(long / 4)),
        format!("FROM a\nENV A={}", "${A:-".repeat(long / 5)),
        format!("FROM a\nRUN <<{}", "${A:-".repeat(long / 5)),
        format!("FROM a\nRUN {}", "--mount=a ".repeat(long / 10)),
        format!("FROM a\nRUN {}", "\\\n".repeat(long / 2)),
        format!("FROM a\nRUN a\\\n{}b", "# c\n".repeat(long / 4)),
        format!("FROM a\nCOPY {}", "\"".repeat(long)),
        format!("FROM a\nEXPOSE {}", "1 ".repeat(long / 2)),
        "Z".repeat(long),
        "#\n".repeat(long),
        format!("FROM {}", "a".repeat(long)),
        heredocs(long / 16),
        format!("{}ARG {}\nFROM a", "# a b\n".repeat(long / 8), "a ".repeat(long / 2)),
        format!("FROM a\nHEALTHCHECK {}", "CMD ".repeat(long / 4)),
        format!("FROM a\nRUN {}", "--network ".repeat(long / 10)),
        format!("FROM a\nLABEL {}", "\\".repeat(long)),
        format!("FROM a AS {}", "b".repeat(long)),
    ] {
        let _ = Dockerfile::parse(&text);
    }
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn messages_are_short_and_steer_nothing() {
    for text in [
        format!("FROM a\n{}", "Z".repeat(100_000)),
        format!("FROM a\nENV A=1 {}", "Z".repeat(100_000)),
        format!("FROM a AS {}/", "z".repeat(100_000)),
        format!("FROM a\nRUN --{} a", "z".repeat(100_000)),
        format!("FROM a\nHEALTHCHECK {} a", "z".repeat(100_000)),
        format!("# escape={}\nFROM a", "z".repeat(100_000)),
        "FROM a\n\x1b[2JX".to_owned(),
        "FROM a\nRUN --\x1b[2J=x a".to_owned(),
        "FROM a\nENV A=1 \x1b[2J".to_owned(),
    ] {
        let message = error(&text);
        assert!(message.len() < 500 && !message.contains('\x1b'), "{message:?}");
    }
}

#[test]
fn triggers() {
    let lines = Lines::one(7);
    let parsed = |text| Dockerfile::parse_trigger(text, lines).map(|trigger| instruction(&trigger));
    for (text, want) in [
        ("RUN a", "7 RUN shell \"a\"\n"),
        ("COPY <<EOF /b\nc\nEOF", "7 COPY inline=EOF \"c\\n\" to </b>\n"),
        ("run a \\\n b", "7 run shell \"a  b\"\n"),
    ] {
        assert_eq!(parsed(text).unwrap(), want);
    }
    for (text, want) in [
        ("", "file with no instructions"),
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("X a", "unknown instruction: X"),
    ] {
        let error = parsed(text).unwrap_err();
        assert_eq!((error.message.as_str(), error.lines), (want, Some(lines)));
    }
    // What a file's ONBUILD keeps reads as what stood there.
    let file = Dockerfile::parse("FROM a\nONBUILD RUN <<A <<'B'\n1\nA\n2\nB\n").unwrap();
    let InstructionKind::Onbuild(onbuild) = &file.stages[0].instructions[0].kind else { panic!() };
    assert_eq!(
        parsed(&onbuild.trigger).unwrap(),
        "7 RUN shell \"<<A <<'B'\" heredoc=A \"1\\n\" heredoc=B quoted \"2\\n\"\n"
    );
}

#[test]
fn what_can_be_read_is_kept_beside_an_error() {
    let (file, error) = Dockerfile::read("# check=skip=all\nFROM a AS b\nRUN c\nX\nRUN d\n");
    assert_eq!(file.stages[0].instructions.len(), 1);
    assert_eq!(error.unwrap().message, "dockerfile parse error on line 4: unknown instruction: X");
    // Lines come before instructions.
    let (file, error) = Dockerfile::read("# check=skip=all\nFROM a\nX\nENV A\n");
    assert!(file.stages.is_empty() && file.check.is_some());
    assert_eq!(error.unwrap().message, "ENV must have two arguments");
}

#[test]
fn frontends() {
    for (text, want) in [
        ("# syntax=a\nFROM b", Some(("a", 1))),
        ("#!/bin/x\n# syntax=a\n", Some(("a", 2))),
        ("\u{feff}# syntax=a\r\n", Some(("a", 1))),
        ("// syntax = a\n{}", Some(("a", 1))),
        ("# escape=`\n# syntax=a", Some(("a", 2))),
        ("# x\n# syntax=a", None),
        ("FROM a", None),
        ("", None),
    ] {
        let found = Dockerfile::frontend(text);
        assert_eq!(found.as_ref().map(|found| (found.value.as_str(), found.line)), want, "{text:?}");
    }
}

#[test]
fn scripts() {
    let run = |text: &str| {
        let file = Dockerfile::parse(&format!("FROM a\n{text}")).unwrap();
        let InstructionKind::Run(run) = &file.stages[0].instructions[0].kind else { panic!() };
        run.command.clone()
    };
    let command = run("RUN <<-EOF\n\t#!/bin/sh\n\techo a\n\tEOF\n");
    assert_eq!(command.script().unwrap().text(), "#!/bin/sh\necho a\n");
    let command = run("RUN cat <<A <<-B\na\nA\n\tb\n\tB\n");
    assert!(command.script().is_none());
    assert_eq!(command.with_heredocs().unwrap(), "cat <<A <<-B\na\nA\n\tb\nB");
    let command = run("RUN <<EOF bash\na\nEOF\n");
    assert!(command.script().is_none());
    assert_eq!(run("RUN [\"a\"]").with_heredocs(), None);
}

#[test]
fn excerpts() {
    let text = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
    for (start, end, want) in [
        (
            5,
            5,
            "f:5\n--------------------\n   3 |     3\n   4 |     4\n   5 | >>> 5\n   6 |     6\n   7 |     7\n--------------------\n",
        ),
        (1, 1, "f:1\n--------------------\n   1 | >>> 1\n   2 |     2\n   3 |     3\n--------------------\n"),
        (
            4,
            6,
            "f:4\n--------------------\n   3 |     3\n   4 | >>> 4\n   5 | >>> 5\n   6 | >>> 6\n   7 |     7\n--------------------\n",
        ),
        (9, 99, "f:9\n--------------------\n   8 |     8\n   9 | >>> 9\n  10 | >>> \n--------------------\n"),
    ] {
        let excerpt = Excerpt::of("f", text, Lines { start, end }).unwrap();
        assert_eq!(excerpt.to_string(), want, "{start}-{end}");
    }
    assert!(Excerpt::of("f", text, Lines::one(0)).is_none());
    assert!(Excerpt::of("f", text, Lines::one(11)).is_none());
    let hostile = format!("FROM a\n\x1b[2J{}\r\n", "b".repeat(1000));
    let error = Dockerfile::parse(&hostile).unwrap_err();
    let excerpt = error.excerpt("Dockerfile", &hostile).unwrap().to_string();
    assert!(!excerpt.contains(['\x1b', '\r']) && excerpt.len() < 700, "{excerpt}");
}
