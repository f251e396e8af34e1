//! Where rbox's own options end: with the first word that is none, as Docker's client has it for commands that
//! take another command. `rbox run IMAGE ls -l --name x` gives all behind IMAGE to `ls`. And what its yes-or-no options
//! may be given: `--rm=true`, `-d=false`.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// The words with a `--` before the first that is neither an option of `command` nor the value of one.
pub(crate) fn end_options(command: &Command, words: &[OsString]) -> Vec<OsString> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        if text == "--" {
            return words.to_vec();
        }
        at += if let Some(long) = text.strip_prefix("--") {
            1 + usize::from(!long.contains('=') && long_takes_value(command, long))
        } else if let Some(shorts) = text.strip_prefix('-').filter(|s| !s.is_empty()) {
            1 + usize::from(cluster_takes_next(command, shorts))
        } else {
            break;
        };
    }
    let at = at.min(words.len());
    let mut out = words[..at].to_vec();
    if at < words.len() {
        out.push("--".into());
        out.extend_from_slice(&words[at..]);
    }
    out
}

/// The words with every `--option=true` and `-o=false` of a yes-or-no option as clap has them: the option alone, or nothing.
/// With `ends` the options end at the first word that is none.
pub(crate) fn booleans(command: &Command, words: &[OsString], ends: bool) -> Result<Vec<OsString>, String> {
    let mut out = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        let mut used = 1;
        if text == "--" || (ends && !text.starts_with('-')) {
            out.extend_from_slice(&words[at..]);
            break;
        }
        if let Some(long) = text.strip_prefix("--") {
            match long.split_once('=') {
                Some((name, value)) if is_switch(by_long(command, name)) => {
                    if truth(value, &format!("--{name}"))? {
                        out.push(format!("--{name}").into());
                    }
                }
                _ => {
                    used += usize::from(!long.contains('=') && long_takes_value(command, long));
                    out.extend(words[at..].iter().take(used).cloned());
                }
            }
        } else if let Some(shorts) = text.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
            if let Some((before, name, value)) = switch_in_cluster(command, shorts) {
                let kept =
                    if truth(value, &format!("-{name}"))? { format!("{before}{name}") } else { before };
                if !kept.is_empty() {
                    out.push(format!("-{kept}").into());
                }
            } else {
                used += usize::from(cluster_takes_next(command, shorts));
                out.extend(words[at..].iter().take(used).cloned());
            }
        } else {
            out.push(word.clone());
        }
        at += used;
    }
    Ok(out)
}

/// Go's `strconv.ParseBool`.
fn truth(value: &str, option: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("invalid argument \"{value}\" for \"{option}\": it takes true or false")),
    }
}

fn is_switch(arg: Option<&Arg>) -> bool {
    arg.is_some_and(|arg| matches!(arg.get_action(), ArgAction::SetTrue))
}

/// Of `itd=false`: `it`, `d` and `false`, if `d` is a yes-or-no option and nothing before it takes a value.
fn switch_in_cluster<'w>(command: &Command, shorts: &'w str) -> Option<(String, char, &'w str)> {
    let (letters, value) = shorts.split_once('=')?;
    let all_switches = letters.chars().all(|letter| is_switch(by_short(command, letter)));
    let last = letters.chars().next_back().filter(|_| all_switches)?;
    Some((letters.strip_suffix(last)?.to_owned(), last, value))
}

fn takes_value(action: &ArgAction) -> bool {
    action.takes_values()
}

fn long_takes_value(command: &Command, name: &str) -> bool {
    by_long(command, name).is_some_and(|arg| takes_value(arg.get_action()) && !arg.is_require_equals_set())
}

fn by_long<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
    })
}

fn by_short(command: &Command, letter: char) -> Option<&Arg> {
    command.get_arguments().find(|arg| arg.get_short() == Some(letter))
}

/// Whether the last option of a cluster such as `-itv` wants the next word: the first one with a value takes what
/// is left of the cluster, if anything is.
fn cluster_takes_next(command: &Command, shorts: &str) -> bool {
    let mut letters = shorts.chars();
    while let Some(letter) = letters.next() {
        let found = by_short(command, letter);
        if found.is_some_and(|arg| takes_value(arg.get_action()) && !arg.is_require_equals_set()) {
            return letters.as_str().is_empty();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command::new("run")
            .arg(Arg::new("name").long("name").short('n'))
            .arg(Arg::new("tty").short('t').action(ArgAction::SetTrue))
            .arg(Arg::new("rm").long("rm").action(ArgAction::SetTrue))
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn joined(words: &[OsString]) -> String {
        words.iter().map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn ended(line: &str) -> String {
        joined(&end_options(&command(), &words(line)))
    }

    #[test]
    fn switches_take_true_and_false() {
        let read = |line: &str, ends| booleans(&command(), &words(line), ends).map(|words| joined(&words));
        assert_eq!(read("--rm=true --name x -t=1 img", true).as_deref(), Ok("--rm --name x -t img"));
        assert_eq!(read("--rm=false -t=F img", true).as_deref(), Ok("img"));
        assert_eq!(read("-tt=false img", true).as_deref(), Ok("-t img"));
        // The value of another option, and what is the program's, are left alone.
        assert_eq!(
            read("--name --rm=true -n -t=true img", true).as_deref(),
            Ok("--name --rm=true -n -t=true img")
        );
        assert_eq!(
            read("--name=--rm=true -nt=true img", true).as_deref(),
            Ok("--name=--rm=true -nt=true img")
        );
        assert_eq!(read("img --rm=true", true).as_deref(), Ok("img --rm=true"));
        assert_eq!(read("img --rm=true -- --rm=true", false).as_deref(), Ok("img --rm -- --rm=true"));
        assert!(read("--rm=yes img", true).is_err_and(|e| e.contains("--rm") && e.contains("yes")));
        assert!(read("-t= img", true).is_err());
    }

    #[test]
    fn all_behind_the_image_is_the_programs() {
        assert_eq!(ended("--rm --name x img ls --rm -t"), "--rm --name x -- img ls --rm -t");
        assert_eq!(ended("--name=x img"), "--name=x -- img");
        assert_eq!(ended("-tn x img -n y"), "-tn x -- img -n y");
        assert_eq!(ended("-tnx img"), "-tnx -- img");
        assert_eq!(ended("--rm -- img --name"), "--rm -- img --name");
        assert_eq!(ended("--rm"), "--rm");
    }
}
