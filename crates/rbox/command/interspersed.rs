//! Where rbox's own options end: with the first word that is none, as Docker's client has it for commands that
//! take another command. `rbox run IMAGE ls -l --name x` gives all behind IMAGE to `ls`. And what its yes-or-no options
//! may be given: `--rm=true`, `-d=false`.

use std::any::TypeId;
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

/// The words with every `--option=true` and `-o=false` of a yes-or-no option as clap has them: the option alone, or nothing,
/// and nothing of it before either: the last one counts. One that is on unless it is said otherwise gets its value in clap's words. With
/// `ends` the options end at the first word that is none.
pub(crate) fn booleans(command: &Command, words: &[OsString], ends: bool) -> Result<Vec<OsString>, String> {
    // Each with whether it is an option, which a later one may take back.
    let mut out: Vec<(OsString, bool)> = Vec::with_capacity(words.len());
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let text = word.to_string_lossy();
        let mut used = 1;
        if text == "--" || (ends && !text.starts_with('-')) {
            out.extend(words[at..].iter().map(|word| (word.clone(), false)));
            break;
        }
        let given = if let Some(long) = text.strip_prefix("--") {
            used += usize::from(!long.contains('=') && long_takes_value(command, long));
            long.split_once('=').and_then(|(name, value)| {
                let arg = by_long(command, name).filter(|arg| is_boolean(arg))?;
                Some((arg, format!("--{name}"), String::new(), value))
            })
        } else if let Some(shorts) = text.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
            used += usize::from(cluster_takes_next(command, shorts));
            switch_in_cluster(command, shorts).and_then(|(before, name, value)| {
                Some((by_short(command, name)?, format!("-{name}"), before, value))
            })
        } else {
            out.push((word.clone(), false));
            at += 1;
            continue;
        };
        if let Some((arg, option, before, value)) = given {
            if !before.is_empty() {
                out.push((format!("-{before}").into(), true));
            }
            let on = truth(value, &option)?;
            if !is_switch(Some(arg)) {
                out.push((format!("{option}={on}").into(), true));
            } else if on {
                out.push((option.into(), true));
            } else {
                take_back(command, &mut out, arg);
            }
        } else {
            out.push((word.clone(), true));
            out.extend(words[at + 1..].iter().take(used - 1).map(|value| (value.clone(), false)));
        }
        at += used;
    }
    Ok(out.into_iter().map(|(word, _)| word).collect())
}

/// Leaves `arg`, a yes-or-no option, out of what was given.
fn take_back(command: &Command, out: &mut Vec<(OsString, bool)>, arg: &Arg) {
    let is_it = |other: Option<&Arg>| other.is_some_and(|other| other.get_id() == arg.get_id());
    out.retain_mut(|(word, option)| {
        let text = word.to_string_lossy();
        if !*option {
            return true;
        }
        if let Some(long) = text.strip_prefix("--") {
            return !is_it(by_long(command, long));
        }
        let letters = text.trim_start_matches('-');
        // Behind the first that takes a value stands that.
        let switches = letters.find(|letter| !is_switch(by_short(command, letter))).unwrap_or(letters.len());
        let (switches, rest) = letters.split_at(switches);
        let kept: String = switches.chars().filter(|letter| !is_it(by_short(command, *letter))).collect();
        if kept.len() < switches.len() {
            *word = format!("-{kept}{rest}").into();
        }
        word != "-"
    });
}

/// Go's `strconv.ParseBool`.
fn truth(value: &str, option: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("invalid argument \"{value}\" for \"{option}\": it takes true or false")),
    }
}

/// Whether an option is on or off, with or without a value.
fn is_boolean(arg: &Arg) -> bool {
    is_switch(Some(arg))
        || arg.is_require_equals_set() && arg.get_value_parser().type_id() == TypeId::of::<bool>()
}

fn is_switch(arg: Option<&Arg>) -> bool {
    arg.is_some_and(|arg| matches!(arg.get_action(), ArgAction::SetTrue))
}

/// Of `itd=false`: `it`, `d` and `false`, if `d` is a yes-or-no option and nothing before it takes a value.
fn switch_in_cluster<'w>(command: &Command, shorts: &'w str) -> Option<(String, char, &'w str)> {
    let (letters, value) = shorts.split_once('=')?;
    let last = letters.chars().next_back()?;
    let before = letters.strip_suffix(last)?;
    let all_switches = before.chars().all(|letter| is_switch(by_short(command, letter)));
    let is_known = by_short(command, last).is_some_and(is_boolean);
    (all_switches && is_known).then(|| (before.to_owned(), last, value))
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
        // What follows is the value of the switch before it.
        if letter == '=' {
            return false;
        }
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
            .arg(Arg::new("tty").short('t').long("tty").action(ArgAction::SetTrue))
            .arg(Arg::new("quiet").short('q').action(ArgAction::SetTrue))
            .arg(Arg::new("rm").long("rm").action(ArgAction::SetTrue))
            .arg(
                Arg::new("pause")
                    .long("pause")
                    .short('p')
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_parser(clap::value_parser!(bool)),
            )
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
        // The last one counts.
        assert_eq!(read("-tt=false img", true).as_deref(), Ok("img"));
        assert_eq!(read("--rm --rm=false -t img", true).as_deref(), Ok("-t img"));
        assert_eq!(read("--rm=false --rm img", true).as_deref(), Ok("--rm img"));
        assert_eq!(
            read("-qtn -t --tty=0 --name --rm --rm=0 img -t", true).as_deref(),
            Ok("-qn -t --name --rm img -t")
        );
        assert_eq!(read("-tnt -t=false img", true).as_deref(), Ok("-nt img"));
        // The last letter of the value is an option of its own elsewhere.
        assert_eq!(
            read("-t=n img", true),
            Err("invalid argument \"n\" for \"-t\": it takes true or false".into())
        );
        let other = command().arg(Arg::new("env").short('e'));
        let read_other = booleans(&other, &words("-t=false -q=true img a"), true).map(|words| joined(&words));
        assert_eq!(read_other.as_deref(), Ok("-q img a"));
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
        // One that is on by itself.
        assert_eq!(read("--pause=0 -p=T img", true).as_deref(), Ok("--pause=false -p=true img"));
        assert_eq!(read("-tp=FALSE --pause img", true).as_deref(), Ok("-t -p=false --pause img"));
        assert!(read("--pause=maybe img", true).is_err_and(|e| e.contains("maybe")));
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
