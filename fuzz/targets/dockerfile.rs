//! A Dockerfile, and behind a NUL a `.dockerignore`. The instructions read the same when each stands alone, and what may be skipped of a
//! tree is ignored.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use rbox_build::checks::{self, BaseImage, Given};
use rbox_build::dockerfile::{
    Dockerfile, Heredoc, Included, Instruction, InstructionKind, MAX_INSTRUCTIONS, Sources,
};
use rbox_build::expand::{Lexer, MAX_GROWTH};
use rbox_build::ignore::{Directory, Glob, Ignore};

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let mut part = || std::str::from_utf8(parts.next().unwrap_or_default());
    let (Ok(text), Ok(list)) = (part(), part()) else { return };
    let (file, error) = Dockerfile::read(text);
    let last = text.split('\n').count();
    if let Some(error) = &error {
        assert!(error.message.len() < 10_000);
        if let Some(lines) = error.lines {
            assert!(lines.start <= lines.end && lines.end <= last, "{error:?}");
            let shown = error.excerpt("Dockerfile", text).map(|excerpt| excerpt.to_string());
            assert!(shown.is_none_or(|shown| !shown.contains(['\x1b', '\r'])));
        }
    }
    let mut line = 0;
    let mut instructions: Vec<&Instruction> = file.args.iter().collect();
    for stage in &file.stages {
        assert!(stage.lines.start > line && stage.lines.end <= last, "{stage:?}");
        line = stage.lines.end;
        for instruction in &stage.instructions {
            assert!(instruction.lines.start > line && instruction.lines.end <= last, "{instruction:?}");
            line = instruction.lines.end;
        }
        instructions.extend(&stage.instructions);
        expand(&stage.base.0, file.escape);
    }
    assert!(instructions.len() + file.stages.len() <= MAX_INSTRUCTIONS);
    for instruction in instructions {
        alone(instruction, file.escape);
        match &instruction.kind {
            InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
                pairs.iter().for_each(|pair| expand(&pair.value.0, file.escape));
            }
            InstructionKind::Copy(copy) => {
                for source in &copy.transfer.sources {
                    expand(&source.0, file.escape);
                    if let Ok(segments) = Glob::segments(&source.0) {
                        assert!(segments.len() <= source.0.len());
                    }
                }
            }
            _ => {}
        }
    }
    expand(text, '\\');
    include(text);
    let ignore = ignored(list, text);
    check(text, error.is_some(), ignore.as_ref());
});

/// What a file includes, each of which is like it, stands in it line by line.
fn include(text: &str) {
    let mut read = |_: &Included| Ok(text.as_bytes().to_vec());
    match Sources::read("Dockerfile", text.to_owned(), None, &mut read) {
        Ok(sources) => {
            let last = sources.text().split_inclusive('\n').count();
            assert!((1..=last).all(|line| sources.place(line).1 > 0));
            if let Err(error) = Dockerfile::parse(sources.text()) {
                let shown = error.lines.and_then(|lines| sources.excerpt(lines)).map(|shown| shown.to_string());
                assert!(shown.is_none_or(|shown| !shown.contains(['\x1b', '\r'])));
                assert!(!sources.told(error).message.contains('\x1b'));
            }
        }
        Err(error) => assert!(!error.excerpt.contains(['\x1b', '\r']) && error.to_string().len() < 20_000),
    }
}

/// The same instruction, its lines joined, in a file of its own.
fn alone(instruction: &Instruction, escape: char) {
    // What is no blank to a continuation is one to who cuts off space.
    if instruction.original.ends_with(escape) {
        return;
    }
    let heredocs: &[Heredoc] = match &instruction.kind {
        InstructionKind::Run(run) => &run.command.heredocs,
        // Their heredocs are not kept in the order of the line.
        InstructionKind::Copy(copy) if !copy.transfer.inline.is_empty() => return,
        InstructionKind::Add(add) if !add.transfer.inline.is_empty() => return,
        InstructionKind::Onbuild(_) => return,
        _ => &[],
    };
    let directive = if escape == '`' { "# escape=`\n" } else { "" };
    let mut text = format!("{directive}FROM a\n{}\n", instruction.original);
    for heredoc in heredocs {
        text += &format!("{}{}\n", heredoc.raw, heredoc.name);
    }
    // A description stands in a comment.
    if matches!(instruction.kind, InstructionKind::Arg(_)) {
        return;
    }
    let again = Dockerfile::parse(&text);
    let again = again.unwrap_or_else(|error| panic!("{error}: {instruction:?}"));
    assert_eq!(again.stages[0].instructions[0].kind, instruction.kind);
}

fn expand(word: &str, escape: char) {
    let env = [("A", "foo/bar"), ("B", "b  b"), ("E", "")];
    for lexer in [Lexer::new(escape), Lexer::heredoc(), Lexer::new(escape).keep_quotes().keep_unset()] {
        let whole = lexer.word(word, &env.as_slice());
        let split = lexer.words(word, &env.as_slice());
        assert_eq!(whole.is_ok(), split.is_ok());
        if let (Ok(whole), Ok(split)) = (whole, split) {
            assert!(whole.text.len() <= word.len() + MAX_GROWTH);
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(letters(&whole.text), split.iter().map(|word| letters(word)).collect::<String>());
        }
    }
}

/// Walks down a path that is made of the text.
fn ignored(list: &str, text: &str) -> Option<Ignore> {
    let ignore = Ignore::parse(list).ok()?;
    let parts: Vec<&str> = text.split(['/', '\n', ' ']).filter(|part| !part.is_empty()).take(8).collect();
    let path = parts.join("/");
    let (mut here, mut skipped) = (Directory::default(), false);
    for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
        here = ignore.enter(&here, &path[..end]);
        assert!(here.is_ignored() || !skipped, "{list:?} {path:?}");
        skipped |= ignore.skips(&here, &path[..end]);
    }
    if !path.is_empty() {
        assert_eq!(here.is_ignored(), ignore.matches(&path));
    }
    Some(ignore)
}

fn check(text: &str, fails: bool, ignore: Option<&Ignore>) {
    let platform = "linux/amd64".parse().unwrap();
    let report = checks::check(
        text,
        &Given {
            build_args: &BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            build_platform: &platform,
            target_platform: &platform,
            target: None,
            stages: None,
            ignore,
            base_image: &|_| Some(BaseImage::default()),
            options: None,
        },
    );
    assert!(report.error.is_some() || !fails);
    assert!(report.warnings.is_sorted_by_key(|warning| warning.lines.start));
}
