//! From the words of the command line to one command, its exit code and, if it fails, one line on stderr.
//!
//! clap's tree of all commands takes longer to build than a container takes to clone. So the first words are
//! read by hand, and only the command they name is built; the whole tree is made for `--help`, completions and
//! manual pages.

use rbox_engine::engine::{DEFAULT_ROOT, DEFAULT_STATE, Engine, Paths};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};

use crate::args::project::ProjectFlags;
use crate::command::entry::{Entry, REHEARSAL};
use crate::command::error::bad_input;
use crate::command::error::report;
use crate::command::error::{coded, in_json, not_done};
pub(crate) use crate::command::global::Global;
use crate::command::global::Warnings;
use crate::command::interspersed::{booleans, end_options};
use crate::commands::{COMMANDS, GROUPS};
use crate::compose;
use crate::compose::progress;
use crate::lacking;
use crate::output::table;

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    ExitCode::from(run(&words))
}

/// The same where `compose` is the first of its words. It stands there already when a file of such a name has executed itself.
pub(crate) fn compose() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_none_or(|word| word != "compose") {
        words.insert(0, "compose".into());
    }
    ExitCode::from(run(&words))
}

fn run(words: &[OsString]) -> u8 {
    rbox_engine::caller::survive_size_limit();
    match dispatch(words) {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

fn dispatch(all: &[OsString]) -> anyhow::Result<u8> {
    let (mut global, words) = read_global(all)?;
    let words = if words.first().is_some_and(|word| word == "compose") {
        let (project, words) = of_command("compose", read_project(words))?;
        global.project = project;
        words
    } else {
        words.to_vec()
    };
    let word = |at: usize| words.get(at).and_then(|word| word.to_str()).unwrap_or("");
    match word(0) {
        "" if words.is_empty() => return help(&[]),
        "-h" | "--help" => return help(&[]),
        "help" => return help(&words[1..]),
        "compose" if matches!(word(1), "-v" | "--version") => {
            return compose::version::tell();
        }
        "compose" if word(1) == "help" => {
            let group = words[..1].iter().chain(&words[2..]).cloned().collect::<Vec<_>>();
            return of_command("compose", help(&group));
        }
        "-v" | "--version" => {
            let text = format!("rbox version {}\n", env!("CARGO_PKG_VERSION"));
            table::write_all(&mut std::io::stdout(), &text)?;
            return Ok(0);
        }
        option if option.starts_with('-') => {
            return Err(bad_input(lacking::global_flag(option)));
        }
        _ => {}
    }
    let is_group = GROUPS.iter().any(|(group, _)| *group == word(0));
    let two = format!("{} {}", word(0), word(1));
    let three = format!("{two} {}", word(2));
    let (name, used) = if find(&three).is_some() {
        (three, 3)
    } else if is_group && words.len() > 1 && !word(1).starts_with('-') || find(&two).is_some() {
        (two, 2)
    } else {
        (word(0).to_owned(), 1)
    };
    let Some(entry) = find(&name) else {
        if is_group && (words.len() == 1 || matches!(word(1), "-h" | "--help")) {
            return help(&words[..1]);
        }
        let name = if is_group_within(&name) {
            if words.len() == 2 || matches!(word(2), "-h" | "--help") {
                return help(&words[..2]);
            }
            format!("{name} {}", word(2))
        } else {
            name
        };
        let name = if name.is_empty() { words[0].to_string_lossy().into_owned() } else { name };
        return of_command(word(0), Err(bad_input(lacking::command(&name))));
    };
    let own = entry.paths[0];
    // A program of tests is not rbox: where it cannot move in place, as its threads may have it, it would be executed again with these words.
    if entry.enters && !cfg!(test) && rbox_engine::explain::is_root() {
        let ready = rbox_engine::own_file::run_from_read_only_mount(all);
        of_command(own, ready.map_err(Into::into))?;
    }
    rbox_engine::caller::put_aside();
    let matches = of_command(own, parse(entry, &name, &words[used..]))?;
    let Some(matches) = matches else { return Ok(0) };
    if own.starts_with("compose ") {
        of_command(own, for_project(entry, &matches, &mut global.project))?;
    }
    if !rbox_engine::explain::is_root() && !NO_ROOT.contains(&own) {
        // Nothing of rbox's may be read by others (its directories are 0700), so an empty list would be a lie.
        let needs_root = anyhow::anyhow!("rbox {own} needs root: run it with sudo");
        return of_command(own, Err(needs_root));
    }
    if !NO_ROOT.contains(&own) {
        of_command(own, global.engine.paths().prepare().map_err(Into::into))?;
    }
    let result = of_command(own, (entry.run)(&matches, &global));
    let for_programs = own.starts_with("compose ") && progress::is_json(&global.project);
    if for_programs { in_json(result) } else { result }
}

/// What a command came to. Those whose exit codes are a program's end with 125 when rbox itself failed, wherever that was.
fn of_command<T>(own: &str, result: anyhow::Result<T>) -> anyhow::Result<T> {
    match own {
        "run" | "create" | "exec" => coded(result),
        // Whatever is wrong with a project, Compose ends with 1.
        own if own == "compose" || own.starts_with("compose ") => not_done(result),
        _ => result,
    }
}

/// What the options of a project ask of a command, which may stand on both sides of its name.
fn for_project(entry: &Entry, matches: &ArgMatches, project: &mut ProjectFlags) -> anyhow::Result<()> {
    progress::check(project)?;
    if entry.rehearses {
        project.dry_run |= matches.get_flag(REHEARSAL);
    } else if project.dry_run {
        let name = entry.paths[0];
        return Err(bad_input(format!("--dry-run: {name} cannot be shown without being done")));
    }
    Ok(())
}

/// Commands that touch nothing.
const NO_ROOT: [&str; 19] = [
    "completion",
    "compose config",
    "compose graph",
    "compose version",
    "man",
    "version",
    "context ls",
    "context show",
    "context inspect",
    "context use",
    "image sign",
    "search",
    "manifest create",
    "manifest annotate",
    "manifest inspect",
    "manifest push",
    "manifest rm",
    "buildx imagetools create",
    "buildx imagetools inspect",
];

/// Whether further words lead from these to commands: `buildx imagetools`.
fn is_group_within(name: &str) -> bool {
    let leads = |path: &&str| path.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
    name.contains(' ') && COMMANDS.iter().any(|entry| entry.paths.iter().any(leads))
}

fn find(name: &str) -> Option<&'static Entry> {
    COMMANDS.iter().find(|entry| entry.paths.contains(&name))
}

/// The options before the command: `--root DIR`, `--state DIR`, and Docker's. Of those `--config DIR` says where credentials are;
/// the others are accepted where they mean this host and nothing else.
fn read_global(words: &[OsString]) -> anyhow::Result<(Global, &[OsString])> {
    let from_env = |key: &str, default: &str| {
        std::env::var_os(key)
            .filter(|value| !value.is_empty())
            .map_or_else(|| PathBuf::from(default), PathBuf::from)
    };
    let mut root = from_env("RBOX_ROOT", DEFAULT_ROOT);
    let mut state = from_env("RBOX_STATE", DEFAULT_STATE);
    let mut left = words;
    while let Some(option) = next_option(&mut left)? {
        match option {
            GlobalOption::Directory("--root", dir) => root = dir,
            GlobalOption::Directory("--state", dir) => state = dir,
            GlobalOption::Directory(_, dir) => rbox_engine::image::docker_config_in(dir),
            GlobalOption::Checked => {}
        }
    }
    // A monitor works from /, so both must hold from everywhere.
    let absolute = |path: PathBuf| {
        let why = |error| bad_input(format!("{} leads nowhere: {error}", path.display()));
        std::path::absolute(&path).map_err(why)
    };
    let paths = Paths { root: absolute(root)?, state: absolute(state)? };
    let engine = Engine::open(paths, Arc::new(Warnings));
    Ok((Global { engine, tree, project: ProjectFlags::default() }, left))
}

/// The options between `compose` and its command, and the words without them. Help stays where it is.
fn read_project(words: &[OsString]) -> anyhow::Result<(ProjectFlags, Vec<OsString>)> {
    let command = values_of_any_form(ProjectFlags::augment_args(Command::new("compose")))
        .bin_name("rbox compose")
        .no_binary_name(true)
        .disable_help_flag(true);
    let own = booleans(&command, &words[1..], true).map_err(bad_input)?;
    let ended = end_options(&command, &own);
    let at = ended.iter().position(|word| word == "--").unwrap_or(ended.len());
    let is_help = |word: &&OsString| matches!(word.to_str(), Some("-h" | "--help"));
    let is_version = |word: &&OsString| matches!(word.to_str(), Some("-v" | "--version"));
    if let Some(word) = ended[..at].iter().find(|word| is_help(word) || is_version(word)) {
        return Ok((ProjectFlags::default(), vec!["compose".into(), word.clone()]));
    }
    let matches = command.try_get_matches_from(&ended[..at]).map_err(|error| {
        bad_input(lacking::flag(&error, "compose").unwrap_or_else(|| one_line(&error, "compose")))
    })?;
    let mut left: Vec<OsString> = vec!["compose".into()];
    left.extend(ended.into_iter().skip(at + 1));
    Ok((ProjectFlags::from_arg_matches(&matches)?, left))
}

/// An option before the command.
enum GlobalOption {
    /// One that names a directory.
    Directory(&'static str, PathBuf),
    /// One that changes nothing.
    Checked,
}

/// The option that `words` begin with, which is taken off them; none if they do not.
fn next_option(words: &mut &[OsString]) -> anyhow::Result<Option<GlobalOption>> {
    const DIRECTORIES: [&str; 3] = ["--root", "--state", "--config"];
    let Some((word, mut rest)) = words.split_first() else { return Ok(None) };
    let Some(word) = word.to_str() else { return Ok(None) };
    let (name, given) = match word.split_once('=') {
        Some((name, value)) => (name, Some(OsString::from(value))),
        None => (word, None),
    };
    let mut value = || {
        if let Some(value) = given.clone() {
            return Ok(value);
        }
        let needed = || bad_input(format!("flag needs an argument: {name}"));
        let (value, others) = rest.split_first().ok_or_else(needed)?;
        rest = others;
        Ok::<OsString, anyhow::Error>(value.clone())
    };
    let option = if let Some(directory) = DIRECTORIES.iter().find(|known| **known == name) {
        let value = value()?;
        if value.is_empty() {
            return Err(bad_input(format!("{name} needs a directory")));
        }
        GlobalOption::Directory(directory, PathBuf::from(value))
    } else {
        match name {
            "--context" | "-c" => crate::system::context::known(&value()?.to_string_lossy())?,
            "--host" | "-H" => crate::system::context::is_this_host(name, &value()?.to_string_lossy())?,
            "--log-level" | "-l" => log_level(&value()?.to_string_lossy())?,
            "--debug" | "-D" => {}
            _ => return Ok(None),
        }
        GlobalOption::Checked
    };
    *words = rest;
    Ok(Some(option))
}

/// Docker's levels. There is no log of the client's own to which they would apply.
fn log_level(level: &str) -> anyhow::Result<()> {
    match level {
        "debug" | "info" | "warn" | "error" | "fatal" => Ok(()),
        _ => Err(bad_input(format!("unable to parse logging level: {level}"))),
    }
}

/// The arguments of one command; none when its help was asked for and printed.
fn parse(entry: &Entry, name: &str, words: &[OsString]) -> anyhow::Result<Option<ArgMatches>> {
    let command = values_of_any_form(entry.command())
        .bin_name(format!("rbox {name}"))
        .no_binary_name(true)
        .args_override_self(true);
    // Behind the image or the container stands another command, whose options are not ours.
    let passes_on = command.get_positionals().any(clap::Arg::is_trailing_var_arg_set);
    let words = booleans(&command, words, passes_on).map_err(bad_input)?;
    let words = if passes_on { end_options(&command, &words) } else { words };
    match command.try_get_matches_from(words) {
        Ok(matches) => Ok(Some(matches)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            table::write_all(&mut std::io::stdout(), &error.render().to_string())?;
            Ok(None)
        }
        Err(error) => {
            Err(bad_input(lacking::flag(&error, entry.paths[0]).unwrap_or_else(|| one_line(&error, name))))
        }
    }
}

/// The word behind an option that takes a value is that value, whatever it begins with: `-e -x`, `--label -y=z`.
fn values_of_any_form(command: Command) -> Command {
    command.mut_args(|arg| {
        let takes_next =
            !arg.is_positional() && arg.get_action().takes_values() && !arg.is_require_equals_set();
        if takes_next { arg.allow_hyphen_values(true) } else { arg }
    })
}

/// clap's error in one line: the sentence, what it may have meant, and where to read more.
fn one_line(error: &clap::Error, name: &str) -> String {
    let text = error.render().to_string();
    let mut paragraphs = text.strip_prefix("error: ").unwrap_or(&text).split("\n\n");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut line = words(paragraphs.next().unwrap_or_default());
    let tips = paragraphs.next().unwrap_or_default();
    let similar =
        tips.lines().find_map(|tip| tip.trim().strip_prefix("tip: ").filter(|tip| tip.contains("similar")));
    if let Some(similar) = similar {
        let _ = write!(line, " ({})", words(similar));
    }
    format!("{line}; see 'rbox {name} --help'")
}

/// All commands as one tree: for help, completions and manual pages.
pub(crate) fn tree() -> Command {
    let mut root =
        Command::new("rbox")
            .about("A complete container engine in one static binary, with no daemon")
            .version(env!("CARGO_PKG_VERSION"))
            .subcommand_required(true)
            .disable_help_subcommand(true)
            .arg(clap::Arg::new("root").long("root").value_name("DIR").help(
                "Where images, containers and volumes are kept [env: RBOX_ROOT] [default: /var/lib/rbox]",
            ))
            .arg(
                clap::Arg::new("config").long("config").value_name("DIR").help(
                    "Where credentials are kept, in config.json [env: DOCKER_CONFIG] [default: ~/.docker]",
                ),
            )
            .arg(clap::Arg::new("state").long("state").value_name("DIR").help(
                "State of running containers; should be on tmpfs [env: RBOX_STATE] [default: /run/rbox]",
            ));
    for entry in COMMANDS {
        if let Some(name) = entry.paths.iter().find(|path| !path.contains(' ')) {
            root = root.subcommand(entry.command().name(*name));
        }
    }
    for (group, about) in GROUPS {
        let mut command =
            Command::new(*group).about(*about).subcommand_required(true).disable_help_subcommand(true);
        if *group == "compose" {
            command = ProjectFlags::augment_args(command).about(*about);
        }
        for entry in COMMANDS {
            let mut own = entry.paths.iter().filter_map(|path| path.strip_prefix(group)?.strip_prefix(' '));
            let Some(name) = own.next() else { continue };
            let built = |name| entry.command().name(name);
            command = match name.split_once(' ') {
                None => command.subcommand(built(name).visible_aliases(own.collect::<Vec<_>>())),
                // A group within the group.
                Some((inner, name)) if command.find_subcommand(inner).is_some() => {
                    command.mut_subcommand(inner, |inner| inner.subcommand(built(name)))
                }
                Some((inner, name)) => command.subcommand(
                    Command::new(inner)
                        .about("Work on images in registries")
                        .subcommand_required(true)
                        .disable_help_subcommand(true)
                        .subcommand(built(name)),
                ),
            };
        }
        root = root.subcommand(command);
    }
    // `net trace`: further commands of one that can be given alone.
    for entry in COMMANDS {
        let mut own = entry.paths.iter().filter_map(|path| path.split_once(' '));
        let Some((first, name)) = own.next().filter(|(first, _)| find(first).is_some()) else { continue };
        let aliases: Vec<&str> = own.filter(|(other, _)| *other == first).map(|(_, alias)| alias).collect();
        let command = entry.command().name(name).visible_aliases(aliases);
        root = root.mut_subcommand(first, |alone| alone.subcommand(command).disable_help_subcommand(true));
    }
    root
}

/// `rbox help [COMMAND [COMMAND]]`.
fn help(words: &[OsString]) -> anyhow::Result<u8> {
    let mut command = tree();
    let mut path = vec!["rbox".to_owned()];
    for word in words {
        let word = word.to_string_lossy();
        let Some(found) = command.find_subcommand(&*word).cloned() else {
            path.remove(0);
            path.push(word.into_owned());
            return Err(bad_input(lacking::command(&path.join(" "))));
        };
        path.push(word.into_owned());
        command = found;
    }
    let text = command.bin_name(path.join(" ")).render_long_help().to_string();
    table::write_all(&mut std::io::stdout(), &text)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::command::error::FAILED;
    use crate::command::error::exit_code;
    use crate::command::error::message;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn every_command_is_well_formed_and_has_examples() {
        tree().debug_assert();
        for entry in COMMANDS {
            let command = entry.command();
            let name = entry.paths[0];
            assert!(command.get_about().is_some(), "{name} has no about");
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.contains("rbox "), "{name} has no example in its --help");
        }
    }

    #[test]
    fn no_path_leads_to_two_commands() {
        let mut all: Vec<&str> = COMMANDS.iter().flat_map(|entry| entry.paths.iter().copied()).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for path in all.iter().filter_map(|path| path.split_once(' ')) {
            let is_group = GROUPS.iter().any(|(group, _)| *group == path.0);
            assert!(is_group != find(path.0).is_some(), "{path:?}");
        }
    }

    #[test]
    fn global_options() {
        let line = words("--root /a --state=/b ps -a");
        let (global, rest) = read_global(&line).unwrap();
        let Paths { root, state } = global.engine.paths();
        assert_eq!((root, state), (&PathBuf::from("/a"), &PathBuf::from("/b")));
        assert_eq!(rest, words("ps -a"));
        for line in ["--context default ps", "-c default ps", "--context=default ps"] {
            assert_eq!(read_global(&words(line)).unwrap().1, words("ps"), "{line}");
        }
        for line in [
            "-D ps",
            "--debug --log-level warn ps",
            "-l=debug ps",
            "-H unix:///var/run/docker.sock ps",
            "--host= ps",
        ] {
            assert_eq!(read_global(&words(line)).unwrap().1, words("ps"), "{line}");
        }
        for line in ["-H tcp://10.0.0.1:2375 ps", "-l loud ps", "--config= ps", "--config", "-H"] {
            assert!(read_global(&words(line)).is_err(), "{line}");
        }
        assert!(read_global(&words("--context other ps")).is_err());
        assert!(read_global(&words("--context")).is_err());
        assert!(read_global(&words("--root")).is_err());
        assert!(read_global(&words("--root= ps")).is_err());
    }

    #[test]
    fn usage_errors_are_one_line() {
        for line in [
            "ps --bogus",
            "bogus",
            "--bogus",
            "rm",
            "image bogus",
            "ps -n x",
            "logs",
            "volume rm",
            "help bogus",
        ] {
            let error = dispatch(&words(line)).unwrap_err();
            let text = message(&error);
            assert!(!text.contains('\n') && text.contains("--help"), "{line}: {text}");
            assert_eq!(exit_code(&error), FAILED, "{line}");
        }
    }

    #[test]
    fn a_slip_is_told_with_what_was_meant() {
        let text = message(&dispatch(&words("ps --quiett")).unwrap_err());
        assert_eq!(
            text,
            "unexpected argument '--quiett' found (a similar argument exists: '--quiet'); see 'rbox ps --help'"
        );
    }

    #[test]
    fn every_option_takes_a_value_that_begins_with_a_hyphen() {
        for entry in COMMANDS {
            for arg in values_of_any_form(entry.command()).get_arguments() {
                let free =
                    arg.is_positional() || !arg.get_action().takes_values() || arg.is_require_equals_set();
                assert!(free || arg.is_allow_hyphen_values_set(), "{} {}", entry.paths[0], arg.get_id());
            }
        }
    }

    #[test]
    fn a_slip_in_a_command_is_told_with_what_was_meant() {
        for (line, said) in [
            ("rum busybox", "'rum' is not an rbox command: did you mean run? See 'rbox --help'"),
            (
                "container stat x",
                "'container stat' is not an rbox command: did you mean container start or container stats? See 'rbox container --help'",
            ),
            ("swarm x", "'swarm' is a docker command that rbox does not have; see 'rbox --help'"),
            (
                "-H tcp://x ps",
                "-H tcp://x is not supported: rbox has no daemon to connect to, here or elsewhere",
            ),
            ("bogus", "'bogus' is not an rbox command; see 'rbox --help'"),
            (
                "run --cpu-count 1 x",
                "docker's flag --cpu-count is not supported by rbox run; it is for containers of Windows: --cpus and --cpuset-cpus limit processors",
            ),
            (
                "volume ls --cluster",
                "docker's flag --cluster is not supported by rbox volume ls; it is for the volumes of a swarm, and rbox has none",
            ),
            (
                "ps --al",
                "unexpected argument '--al' found (a similar argument exists: '--all'); see 'rbox ps --help'",
            ),
        ] {
            let text = message(&dispatch(&words(line)).unwrap_err());
            assert_eq!(text, said, "{line}");
        }
    }

    #[test]
    fn causes_are_said_once() {
        let inner = std::io::Error::other("disk on fire");
        let told = anyhow::Error::new(inner).context("read x: disk on fire");
        assert_eq!(message(&told), "read x: disk on fire");
        let untold = anyhow::Error::new(std::io::Error::other("disk on fire")).context("read x");
        assert_eq!(message(&untold), "read x: disk on fire");
        let numbered = std::io::Error::from_raw_os_error(2).to_string();
        assert_eq!(
            message(&anyhow::anyhow!("read x: {numbered}; y")),
            "read x: No such file or directory; y"
        );
        assert_eq!(message(&anyhow::anyhow!("a (os error x) b")), "a (os error x) b");
    }
}
