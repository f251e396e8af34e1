//! Tables of files and what they say, and what must hold of any file.
#![allow(clippy::unwrap_used, clippy::format_collect)]

use std::fmt::Write as _;

use super::*;

mod limits;
mod mounts;

/// Files and what they say: `| ` before a line of the file, `= ` before a line of what it says; `→` is a tab, `␍` a carriage return, `·` a
/// space at the end of a line, and `⏎` there says that the file ends without a newline. What is said was compared with BuildKit's own parser.
const TABLES: [(&str, &str); 5] = [
    ("lines", include_str!("lines.txt")),
    ("stages", include_str!("stages.txt")),
    ("instructions", include_str!("instructions.txt")),
    ("transfers", include_str!("transfers.txt")),
    ("errors", include_str!("errors.txt")),
];

#[test]
fn tables() {
    let mut wrong = String::new();
    let mut count = 0;
    for (name, table) in TABLES {
        for block in table.split("\n\n").filter(|block| block.contains("\n| ") || block.starts_with("| ")) {
            let mut text = with(block, "| ");
            for (sign, character) in [("→", "\t"), ("␍", "\r"), ("·", " "), ("⏎\n", "")] {
                text = text.replace(sign, character);
            }
            let want = with(block, "= ");
            let said = said(&text);
            count += 1;
            if said != want {
                let _ = writeln!(wrong, "{name}:\n{block}\nsays\n{}", said.replace('\n', "\n= "));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 200, "{count} files");
}

/// The lines of a block with a prefix, without it.
fn with(block: &'static str, prefix: &str) -> String {
    let bare = prefix.trim_end();
    let line = |line: &'static str| if line == bare { Some("") } else { line.strip_prefix(prefix) };
    block.lines().filter_map(line).map(|line| line.to_owned() + "\n").collect()
}

/// All that a file says, a line for each instruction.
fn said(text: &str) -> String {
    let mut said = String::new();
    let file = match Dockerfile::parse(text) {
        Ok(file) => file,
        Err(error) => {
            let lines = error.lines.map(place).unwrap_or_default();
            return format!("error {lines}: {}\n", error.message).replace(" :", ":");
        }
    };
    for (name, directive) in [("syntax", &file.syntax), ("check", &file.check)] {
        if let Some(Directive { value, line }) = directive {
            let _ = writeln!(said, "{line} {name}={value}");
        }
    }
    if file.escape != '\\' {
        let _ = writeln!(said, "escape={}", file.escape);
    }
    for line in &file.empty_continuations {
        let _ = writeln!(said, "{line} empty continuation");
    }
    file.args.iter().for_each(|arg| said += &instruction(arg));
    for stage in &file.stages {
        let _ = write!(said, "{} {} {}", place(stage.lines), stage.keyword, stage.base);
        if let Some(name) = &stage.name {
            let _ = write!(said, " name={name}");
        }
        if let Some(platform) = &stage.platform {
            let _ = write!(said, " platform={platform}");
        }
        if let Some(description) = &stage.description {
            let _ = write!(said, " description={description}");
        }
        said.push('\n');
        stage.instructions.iter().for_each(|of| said += &instruction(of));
    }
    said
}

fn place(lines: Lines) -> String {
    if lines.start == lines.end { lines.start.to_string() } else { format!("{}-{}", lines.start, lines.end) }
}

fn instruction(of: &Instruction) -> String {
    let what = match &of.kind {
        InstructionKind::Add(add) => {
            let mut what = transfer(&add.transfer);
            if let Some(keep) = add.keep_git_dir {
                let _ = write!(what, " keep-git-dir={keep}");
            }
            if let Some(unpack) = add.unpack {
                let _ = write!(what, " unpack={unpack}");
            }
            if !add.checksum.0.is_empty() {
                let _ = write!(what, " checksum={}", add.checksum);
            }
            what
        }
        InstructionKind::Copy(copy) => {
            let mut what = transfer(&copy.transfer);
            if let Some(from) = &copy.from {
                let _ = write!(what, " from={from}");
            }
            if copy.parents {
                what.push_str(" parents");
            }
            what
        }
        InstructionKind::Arg(definitions) => definitions.iter().fold(String::new(), |mut what, of| {
            let default = of.default.as_ref().map(|default| format!("={}", default.0));
            let _ = write!(what, " <{}{}>", of.name, default.unwrap_or_default());
            if let Some(description) = &of.description {
                let _ = write!(what, " description={description}");
            }
            what
        }),
        InstructionKind::Cmd(line) | InstructionKind::Entrypoint(line) => command(line),
        InstructionKind::Env(pairs) | InstructionKind::Label(pairs) => {
            pairs.iter().fold(String::new(), |mut what, pair| {
                let _ = write!(what, " <{}={}>", pair.key, pair.value);
                what.push_str(if pair.legacy { " legacy" } else { "" });
                what
            })
        }
        InstructionKind::Expose(list) | InstructionKind::Volume(list) => {
            list.iter().map(|word| format!(" <{word}>")).collect()
        }
        InstructionKind::Healthcheck(check) => format!(
            " {:?} interval={} timeout={} start-period={} start-interval={} retries={}",
            check.test,
            check.interval,
            check.timeout,
            check.start_period,
            check.start_interval,
            check.retries
        ),
        InstructionKind::Maintainer(text) => format!(" <{text}>"),
        InstructionKind::Onbuild(onbuild) => format!(" {:?}", onbuild.trigger),
        InstructionKind::Run(run) => {
            let mut what = command(&run.command);
            for mount in &run.mounts {
                let from = mount.from.as_ref().map(|from| format!(" from={from}")).unwrap_or_default();
                let _ = write!(what, " mount=<{}>{from}", mount.text);
            }
            for device in &run.devices {
                let _ = write!(what, " device=<{}>{}", device.name, if device.required { "!" } else { "" });
            }
            if run.network != RunNetwork::Default {
                let _ = write!(what, " network={:?}", run.network);
            }
            if run.security != RunSecurity::Sandbox {
                let _ = write!(what, " security={:?}", run.security);
            }
            what
        }
        InstructionKind::Shell(words) => format!(" {words:?}"),
        InstructionKind::Stopsignal(word) | InstructionKind::User(word) | InstructionKind::Workdir(word) => {
            format!(" <{word}>")
        }
    };
    format!("{} {}{what}\n", place(of.lines), of.keyword)
}

fn command(line: &CommandLine) -> String {
    let mut what = match &line.form {
        Form::Shell(line) => format!(" shell {line:?}"),
        Form::Exec(words) => format!(" exec {words:?}"),
    };
    for of in &line.heredocs {
        let flags =
            format!("{}{}", if of.expand { "" } else { " quoted" }, if of.chomp { " chomp" } else { "" });
        let number = if of.descriptor == 0 { String::new() } else { format!(" fd={}", of.descriptor) };
        let _ = write!(what, " heredoc={}{flags}{number} {:?}", of.name, of.raw);
    }
    if line.script().is_some() {
        what.push_str(" script");
    }
    what
}

fn transfer(of: &Transfer) -> String {
    let mut what: String = of.sources.iter().map(|word| format!(" <{word}>")).collect();
    for inline in &of.inline {
        let quoted = if inline.expand { "" } else { " quoted" };
        let _ = write!(what, " inline={}{quoted} {:?}", inline.name, inline.content);
    }
    let _ = write!(what, " to <{}>", of.destination);
    for (name, value) in [("chown", &of.chown), ("chmod", &of.chmod)] {
        if !value.0.is_empty() {
            let _ = write!(what, " {name}={value}");
        }
    }
    if of.link {
        what.push_str(" link");
    }
    for pattern in &of.exclude {
        let _ = write!(what, " exclude=<{pattern}>");
    }
    what
}
