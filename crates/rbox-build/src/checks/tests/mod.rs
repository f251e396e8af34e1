//! The table, and what no table says.
#![allow(clippy::unwrap_used, clippy::format_collect)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::*;
use crate::dockerfile::Lines;
use crate::ignore::Ignore;
use rbox_spec::Platform;

/// All bases are known but one.
fn base_image(name: &str) -> Option<BaseImage> {
    let with = |env: &[(&str, &str)]| BaseImage {
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        has_shell: false,
    };
    match name {
        "image-that-nobody-knows" => None,
        "image-with-a-variable" => Some(with(&[("FROM_BASE", "1")])),
        _ => Some(with(&[])),
    }
}

fn checked(text: &str, ignore: &str, given: &[&str]) -> Vec<String> {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let ignore = Ignore::parse(ignore).unwrap();
    let option = |name: &str| given.iter().find_map(|given| given.strip_prefix(name));
    let options = option("--check=").map(|text| Options::parse(text).unwrap());
    let only: Option<BTreeSet<usize>> = option("--only=").map(|number| [number.parse().unwrap()].into());
    let build_args: BTreeMap<String, String> = given
        .iter()
        .filter(|given| !given.starts_with("--"))
        .filter_map(|given| given.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let report = check(
        text,
        &Given {
            build_args: &build_args,
            build_platform: &platform,
            target_platform: &platform,
            target: None,
            stages: only.as_ref(),
            ignore: Some(&ignore),
            base_image: &base_image,
            options: options.as_ref(),
        },
    );
    let mut said: Vec<String> = report.warnings.iter().map(ToString::to_string).collect();
    said.extend(report.error.map(|error| format!("error: {}", error.message)));
    said
}

#[test]
fn table() {
    let blocks = include_str!("cases.txt").split("\n\n").filter(|block| block.starts_with("| "));
    let mut seen = BTreeSet::new();
    let mut count = 0;
    for block in blocks {
        let with = |prefix: &'static str| {
            block.lines().filter_map(move |line| {
                if line == prefix.trim_end() { Some("") } else { line.strip_prefix(prefix) }
            })
        };
        let joined = |prefix| with(prefix).map(|line| line.to_owned() + "\n").collect::<String>();
        let mut said = checked(&joined("| "), &joined("! "), &with("- ").collect::<Vec<_>>());
        let mut want: Vec<&str> = with("= ").collect();
        // On one line they come in no order that means anything.
        said.sort();
        want.sort_unstable();
        assert_eq!(said, want, "{block}");
        seen.extend(said.iter().filter_map(|line| Some(line.split_once(": ")?.0.to_owned())));
        count += 1;
    }
    assert!(count > 90, "{count}");
    let silent: Vec<_> = Rule::ALL.iter().filter(|rule| !seen.contains(rule.name())).collect();
    assert_eq!(silent, [&Rule::InvalidBaseImagePlatform], "rules without a case");
}

#[test]
fn warnings_come_by_their_lines() {
    let said = checked("FROM scratch AS A\nCMD a\nMAINTAINER b\nFROM scratch AS A\n", "", &[]);
    let lines: Vec<&str> = said.iter().filter_map(|line| line.rsplit("(line ").next()).collect();
    assert_eq!(lines, ["1)", "2)", "3)", "4)", "4)"], "{said:?}");
}

#[test]
fn what_only_a_pull_shows() {
    let warning = Warning::base_image_platform("a", "linux/amd64", "linux/arm64", Lines::one(3));
    assert_eq!(
        warning.to_string(),
        "InvalidBaseImagePlatform: Base image a was pulled with platform \"linux/arm64\", expected \"linux/amd64\" \
         for current build (line 3)"
    );
    assert_eq!(warning.rule.url(), "");
}

#[test]
fn there_is_an_end() {
    let started = Instant::now();
    let doubled = (1..200).fold("ENV A0=xxxxxxxxxxxxxxxx\n".to_owned(), |text, number| {
        text + &format!("ENV A{number}=$A{0}$A{0}\n", number - 1)
    });
    let said = checked(&format!("FROM scratch\n{doubled}"), "", &[]);
    assert!(said.last().unwrap().contains("bytes"), "{said:?}");
    let globals = doubled.replace("ENV", "ARG");
    let said = checked(&format!("{globals}FROM scratch\n"), "", &[]);
    assert!(said.last().unwrap().contains("bytes"), "{said:?}");
    let big = "x".repeat(100_000);
    let many: String = (0..5000).map(|number| format!("FROM a AS a\nENV B{number}={big}\n")).collect();
    let said = checked(&many[..16_000_000], "", &[]);
    assert!(said.last().unwrap().contains("more than"), "{:?}", said.last());
    let globals: String = (0..9000).map(|number| format!("ARG A{number}=$BIG\n")).collect();
    let said = checked(&format!("ARG BIG\n{globals}FROM scratch\n"), "", &[&format!("BIG={big}")]);
    assert!(said.last().unwrap().contains("more than"), "{:?}", said.last());
    // Each in one instruction or line, of one value.
    for what in ["ENV A=$B ", "LABEL a=$B ", "COPY $B ", "VOLUME $B ", "ARG A=$B "] {
        let (keyword, word) = what.split_once(' ').unwrap();
        let text = format!("FROM scratch\nARG B\n{keyword} {} a=b\n", word.repeat(300_000));
        let said = checked(&text, "", &[&format!("B={}", "x".repeat(900_000))]);
        assert!(said.last().unwrap().contains("more than"), "{keyword}: {:?}", said.last());
    }
    let said = checked(&format!("FROM scratch\nEXPOSE {}\n", "1-65535 ".repeat(300_000)), "", &[]);
    assert!(said.is_empty(), "{said:?}");
    let text = format!("FROM scratch\nARG B\nRUN {} a\n", "--mount=target=$B ".repeat(200_000));
    let said = checked(&text, "", &[&format!("B={}", "x".repeat(900_000))]);
    assert!(said.last().unwrap().contains("more than"), "{:?}", said.last());
    let text = format!("ARG B\n{}", "FROM $B\n".repeat(9000));
    let said = checked(&text, "", &[&format!("B={}", "x".repeat(900_000))]);
    assert!(said.last().unwrap().contains("more than 4096"), "{:?}", said.last());
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}
