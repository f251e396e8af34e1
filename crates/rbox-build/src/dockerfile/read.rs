//! The second pass: from the words of an instruction to what it says.

use std::collections::BTreeMap;

use rbox_spec::health::Healthcheck;

use super::duration;
use super::file::{Instruction, Stage};
use super::flags::{Flags, Takes};
use super::heredoc;
use super::instruction::{
    Add, ArgDefinition, CommandLine, Copy, Device, Form, Heredoc, Inline, InstructionKind, KeyValue,
    MountFlag, Onbuild, Run, RunNetwork, RunSecurity, Transfer,
};
use super::keyword::Keyword;
use super::lines::Node;
use super::source::Word;
use super::suggestion::closest;
use super::words::{Arguments, Pair, Trigger};
use crate::text::{quoted, shown};

/// What a line is.
pub(super) enum Read {
    Stage(Stage),
    Instruction(Instruction),
}

/// The words of an instruction that is no ENV, LABEL or ONBUILD.
struct Parts {
    flags: Vec<String>,
    words: Vec<String>,
    json: bool,
    heredocs: Vec<Heredoc>,
}

/// Reads an instruction, or says what is wrong in BuildKit's words.
pub(super) fn read(node: Node) -> Result<Read, String> {
    let Some(keyword) = Keyword::of(&node.keyword) else { return Err(unknown(&node.keyword)) };
    let Node { lines, line, keyword: written, flags, arguments, heredocs, comments } = node;
    let original = line.trim().to_owned();
    let kind = match arguments {
        Arguments::Pairs(pairs) => {
            Flags::parse(&flags, &[])?;
            let pairs = key_values(pairs, keyword)?;
            if keyword == Keyword::Env { InstructionKind::Env(pairs) } else { InstructionKind::Label(pairs) }
        }
        Arguments::Trigger(trigger) => {
            InstructionKind::Onbuild(onbuild(trigger.as_ref(), &flags, &line, &heredocs)?)
        }
        Arguments::Words { words, .. } if keyword == Keyword::From => {
            let mut stage = from(&words, &flags, &comments)?;
            (stage.lines, stage.original, stage.keyword, stage.comments) =
                (lines, original, written, comments);
            return Ok(Read::Stage(stage));
        }
        Arguments::Words { words, json } => {
            let parts = Parts { flags, words, json, heredocs };
            of_words(keyword, parts, &comments)?
        }
    };
    Ok(Read::Instruction(Instruction { lines, original, keyword: written, comments, kind }))
}

fn unknown(word: &str) -> String {
    let names = Keyword::ALL.map(|(name, _)| name);
    let message = format!("unknown instruction: {}", shown(word));
    if word.eq_ignore_ascii_case("INCLUDE") {
        return format!(
            "{message} (it is of rbox alone, and needs the directive # extend=rbox on top of its file)"
        );
    }
    let lower = word.to_lowercase();
    match closest(&word.to_uppercase(), names) {
        Some(name) if word == lower => format!("{message} (did you mean {}?)", name.to_lowercase()),
        Some(name) if word == word.to_uppercase() => format!("{message} (did you mean {name}?)"),
        Some(name) => format!("{message} (did you mean {}?)", name.to_lowercase()),
        None => message,
    }
}

fn of_words(keyword: Keyword, parts: Parts, comments: &[String]) -> Result<InstructionKind, String> {
    Ok(match keyword {
        Keyword::Add => InstructionKind::Add(add(parts)?),
        Keyword::Arg => InstructionKind::Arg(arg(&parts.words, comments)?),
        Keyword::Cmd => InstructionKind::Cmd(command(parts)?),
        Keyword::Copy => InstructionKind::Copy(copy(parts)?),
        Keyword::Entrypoint => InstructionKind::Entrypoint(command(parts)?),
        Keyword::Expose => {
            let mut exposed = at_least_one(parts, "EXPOSE")?;
            exposed.sort_unstable();
            InstructionKind::Expose(exposed.into_iter().map(Word).collect())
        }
        Keyword::Healthcheck => InstructionKind::Healthcheck(healthcheck(parts)?),
        Keyword::Run => InstructionKind::Run(run(parts)?),
        Keyword::Shell => InstructionKind::Shell(shell(&parts)?),
        Keyword::Volume => {
            let volumes = at_least_one(parts, "VOLUME")?;
            let volumes: Vec<Word> = volumes.iter().map(|volume| Word(volume.trim().to_owned())).collect();
            if volumes.iter().any(|volume| volume.0.is_empty()) {
                return Err("VOLUME specified can not be an empty string".to_owned());
            }
            InstructionKind::Volume(volumes)
        }
        Keyword::Maintainer => InstructionKind::Maintainer(exactly_one(parts, "MAINTAINER")?),
        Keyword::User => InstructionKind::User(Word(exactly_one(parts, "USER")?)),
        Keyword::Workdir => InstructionKind::Workdir(Word(exactly_one(parts, "WORKDIR")?)),
        // Flags of STOPSIGNAL and ARG are not looked at.
        Keyword::Stopsignal => {
            let parts = Parts { flags: Vec::new(), ..parts };
            InstructionKind::Stopsignal(Word(exactly_one(parts, "STOPSIGNAL")?))
        }
        Keyword::Env | Keyword::Label | Keyword::Onbuild | Keyword::From => {
            return Err(format!("{} cannot be read as words", keyword.name()));
        }
    })
}

fn needs_one(keyword: &str) -> String {
    format!("{keyword} requires at least one argument")
}

fn at_least_one(parts: Parts, keyword: &str) -> Result<Vec<String>, String> {
    if parts.words.is_empty() {
        return Err(needs_one(keyword));
    }
    Flags::parse(&parts.flags, &[])?;
    Ok(parts.words)
}

fn exactly_one(parts: Parts, keyword: &str) -> Result<String, String> {
    let Parts { flags, words, .. } = parts;
    let [word] =
        <[String; 1]>::try_from(words).map_err(|_| format!("{keyword} requires exactly one argument"))?;
    Flags::parse(&flags, &[])?;
    Ok(word)
}

fn key_values(pairs: Vec<Pair>, keyword: Keyword) -> Result<Vec<KeyValue>, String> {
    let name = keyword.name();
    if pairs.is_empty() {
        return Err(needs_one(name));
    }
    if pairs.iter().any(|pair| pair.name.is_empty()) {
        return Err(format!("{name} names can not be blank"));
    }
    let typed = |pair: Pair| KeyValue { key: Word(pair.name), value: Word(pair.value), legacy: pair.legacy };
    Ok(pairs.into_iter().map(typed).collect())
}

fn from(words: &[String], flags: &[String], comments: &[String]) -> Result<Stage, String> {
    let (base, as_written) = match words {
        [base] => (base, None),
        [base, word, name] if word.eq_ignore_ascii_case("as") => (base, Some((word.clone(), name.clone()))),
        _ => return Err("FROM requires either one or three arguments".to_owned()),
    };
    let name = as_written.as_ref().map(|(_, name)| name.to_lowercase());
    if let (Some(name), Some((_, written))) = (&name, &as_written)
        && !is_stage_name(name)
    {
        return Err(format!(
            "invalid name for build stage: {}, name can't start with a number or contain symbols",
            quoted(written)
        ));
    }
    let flags = Flags::parse(flags, &[("platform", Takes::Text)])?;
    let platform = flags.text("platform");
    Ok(Stage {
        base: Word(base.clone()),
        description: name
            .as_deref()
            .and_then(|name| descriptions(comments).get(name).map(|text| (*text).to_owned())),
        name,
        as_written,
        platform: (!platform.is_empty()).then(|| Word(platform.to_owned())),
        keyword: String::new(),
        lines: super::source::Lines::one(0),
        original: String::new(),
        comments: Vec::new(),
        instructions: Vec::new(),
    })
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        })
}

/// What comments say of names: each begins with one, and the first of a name counts.
fn descriptions(comments: &[String]) -> BTreeMap<&str, &str> {
    comments.iter().rev().filter_map(|comment| comment.split_once(' ')).collect()
}

fn arg(words: &[String], comments: &[String]) -> Result<Vec<ArgDefinition>, String> {
    if words.is_empty() {
        return Err(needs_one("ARG"));
    }
    let descriptions = descriptions(comments);
    let definition = |word: &String| {
        let (name, default) = match word.split_once('=') {
            Some(("", _)) => return Err("ARG names can not be blank".to_owned()),
            Some((name, default)) => (name, Some(Word(default.to_owned()))),
            None => (word.as_str(), None),
        };
        let description = descriptions.get(name).map(|text| (*text).to_owned());
        Ok(ArgDefinition { name: name.to_owned(), default, description })
    };
    words.iter().map(definition).collect()
}

fn command(parts: Parts) -> Result<CommandLine, String> {
    Flags::parse(&parts.flags, &[])?;
    Ok(command_line(parts.words, parts.json, parts.heredocs))
}

fn command_line(words: Vec<String>, json: bool, heredocs: Vec<Heredoc>) -> CommandLine {
    CommandLine { form: if json { Form::Exec(words) } else { Form::Shell(words.join(" ")) }, heredocs }
}

fn run(parts: Parts) -> Result<Run, String> {
    let flags = Flags::parse(
        &parts.flags,
        &[
            ("device", Takes::Texts),
            ("mount", Takes::Texts),
            ("network", Takes::Text),
            ("security", Takes::Text),
        ],
    )?;
    let given = |flag, usual| flags.texts(flag).next().unwrap_or(usual);
    let mounts = flags.texts("mount").map(MountFlag::parse).collect::<Result<_, _>>()?;
    let devices = flags.texts("device").map(Device::parse).collect::<Result<_, _>>()?;
    let network = match given("network", "default") {
        "default" => RunNetwork::Default,
        "none" => RunNetwork::None,
        "host" => RunNetwork::Host,
        other => return Err(format!("invalid network mode {}", quoted(other))),
    };
    let security = match given("security", "sandbox") {
        "sandbox" => RunSecurity::Sandbox,
        "insecure" => RunSecurity::Insecure,
        other => return Err(format!("security {} is not valid", quoted(other))),
    };
    let command = command_line(parts.words, parts.json, parts.heredocs);
    Ok(Run { command, mounts, network, security, devices })
}

fn shell(parts: &Parts) -> Result<Vec<String>, String> {
    Flags::parse(&parts.flags, &[])?;
    if parts.words.is_empty() {
        return Err(needs_one("SHELL"));
    }
    if !parts.json {
        return Err("SHELL requires the arguments to be in JSON form".to_owned());
    }
    Ok(parts.words.clone())
}

const TRANSFER_FLAGS: [(&str, Takes); 4] =
    [("chmod", Takes::Text), ("chown", Takes::Text), ("exclude", Takes::Texts), ("link", Takes::Truth)];

fn add(parts: Parts) -> Result<Add, String> {
    let known = [
        &TRANSFER_FLAGS[..],
        &[("checksum", Takes::Text), ("keep-git-dir", Takes::Truth), ("unpack", Takes::Truth)],
    ]
    .concat();
    enough(&parts.words, "ADD")?;
    let flags = Flags::parse(&parts.flags, &known)?;
    Ok(Add {
        transfer: transfer(parts.words, &parts.heredocs, &flags, "ADD")?,
        keep_git_dir: flags.truth("keep-git-dir"),
        checksum: Word(flags.text("checksum").to_owned()),
        unpack: flags.truth("unpack"),
    })
}

/// The flags of COPY alone. `--optional` is no flag of BuildKit's.
const OF_COPY: [(&str, Takes); 3] =
    [("from", Takes::Text), ("optional", Takes::Truth), ("parents", Takes::Truth)];

fn copy(parts: Parts) -> Result<Copy, String> {
    let known = [&TRANSFER_FLAGS[..], &OF_COPY[..]].concat();
    enough(&parts.words, "COPY")?;
    let flags = Flags::parse(&parts.flags, &known)?;
    let from = flags.text("from");
    Ok(Copy {
        transfer: transfer(parts.words, &parts.heredocs, &flags, "COPY")?,
        from: (!from.is_empty()).then(|| from.to_owned()),
        parents: flags.truth("parents").unwrap_or(false),
        optional: flags.truth("optional").unwrap_or(false),
    })
}

fn enough(words: &[String], keyword: &str) -> Result<(), String> {
    if words.len() >= 2 {
        return Ok(());
    }
    Err(format!(
        "{keyword} requires at least two arguments, but only one was provided. Destination could not be \
         determined"
    ))
}

fn transfer(
    mut words: Vec<String>,
    heredocs: &[Heredoc],
    flags: &Flags<'_>,
    keyword: &str,
) -> Result<Transfer, String> {
    let destination = words.pop().unwrap_or_default();
    if heredoc::opens(&destination).is_some() {
        return Err(format!("{keyword} cannot accept a heredoc as a destination"));
    }
    let mut transfer = Transfer {
        destination: Word(destination),
        chown: Word(flags.text("chown").to_owned()),
        chmod: Word(flags.text("chmod").to_owned()),
        link: flags.truth("link").unwrap_or(false),
        exclude: flags.texts("exclude").map(str::to_owned).collect(),
        ..Transfer::default()
    };
    // The last one of a name counts, and a JSON array has none.
    let by_name: BTreeMap<&str, &Heredoc> =
        heredocs.iter().map(|heredoc| (heredoc.name.as_str(), heredoc)).collect();
    for word in words {
        match heredoc::opens(&word) {
            None => transfer.sources.push(Word(word)),
            Some(opening) => {
                let text = by_name.get(opening.name.as_str());
                transfer.inline.push(Inline {
                    content: text.map(|heredoc| heredoc.text()).unwrap_or_default(),
                    name: opening.name,
                    expand: opening.expand,
                });
            }
        }
    }
    Ok(transfer)
}

fn onbuild(
    trigger: Option<&Trigger>,
    flags: &[String],
    line: &str,
    heredocs: &[Heredoc],
) -> Result<Onbuild, String> {
    let Some(trigger) = trigger else { return Err(needs_one("ONBUILD")) };
    Flags::parse(flags, &[])?;
    match Keyword::of(&trigger.keyword) {
        Some(Keyword::Onbuild) => {
            return Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned());
        }
        Some(keyword @ (Keyword::Maintainer | Keyword::From)) => {
            return Err(format!("{} isn't allowed as an ONBUILD trigger", keyword.name()));
        }
        _ => {}
    }
    let rest = line.trim_start();
    let mut text = rest.get("ONBUILD".len()..).unwrap_or_default().trim_start().to_owned();
    for heredoc in heredocs {
        text.push('\n');
        text.push_str(&heredoc.raw);
        text.push_str(&heredoc.name);
    }
    Ok(Onbuild { trigger: text })
}

fn healthcheck(parts: Parts) -> Result<Healthcheck, String> {
    let mut words = parts.words.into_iter();
    let Some(kind) = words.next() else { return Err(needs_one("HEALTHCHECK")) };
    let kind = kind.to_uppercase();
    let command: Vec<String> = words.collect();
    if kind == "NONE" {
        if !command.is_empty() {
            return Err("HEALTHCHECK NONE takes no arguments".to_owned());
        }
        return Ok(Healthcheck { test: vec![kind], ..Healthcheck::default() });
    }
    let known = ["interval", "retries", "start-interval", "start-period", "timeout"];
    let flags = Flags::parse(&parts.flags, &known.map(|flag| (flag, Takes::Text)))?;
    if kind != "CMD" {
        return Err(format!("Unknown type {} in HEALTHCHECK (try CMD)", quoted(&kind)));
    }
    if command.is_empty() {
        return Err("Missing command after HEALTHCHECK CMD".to_owned());
    }
    let mut test = vec![if parts.json { "CMD" } else { "CMD-SHELL" }.to_owned()];
    test.extend(command);
    Ok(Healthcheck {
        test,
        interval: interval(&flags, "interval")?,
        timeout: interval(&flags, "timeout")?,
        start_period: interval(&flags, "start-period")?,
        start_interval: interval(&flags, "start-interval")?,
        retries: retries(flags.text("retries"))?,
    })
}

/// Nanoseconds of a flag: none, or at least a millisecond.
fn interval(flags: &Flags<'_>, flag: &str) -> Result<i64, String> {
    let text = flags.text(flag);
    if text.is_empty() {
        return Ok(0);
    }
    let nanoseconds = duration::nanoseconds(text)?;
    if nanoseconds != 0 && nanoseconds < 1_000_000 {
        return Err(format!("Interval {} cannot be less than 1ms", quoted(flag)));
    }
    Ok(nanoseconds)
}

fn retries(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<i32>().map_err(|_| {
        let why = if is_number { "value out of range" } else { "invalid syntax" };
        format!("strconv.ParseInt: parsing {}: {why}", quoted(text))
    })?;
    if number < 0 {
        return Err(format!("--retries cannot be negative ({number})"));
    }
    Ok(i64::from(number))
}
