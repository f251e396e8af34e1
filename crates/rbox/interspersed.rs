//! Where rbox's own options end: with the first word that is none, as Docker's client has it for commands that
//! take another command. `rbox run IMAGE ls -l --name x` gives all behind IMAGE to `ls`.

use std::ffi::OsString;

use clap::{ArgAction, Command};

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

fn takes_value(action: &ArgAction) -> bool {
    action.takes_values()
}

fn long_takes_value(command: &Command, name: &str) -> bool {
    command
        .get_arguments()
        .find(|arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
        })
        .is_some_and(|arg| takes_value(arg.get_action()) && !arg.is_require_equals_set())
}

/// Whether the last option of a cluster such as `-itv` wants the next word: the first one with a value takes what
/// is left of the cluster, if anything is.
fn cluster_takes_next(command: &Command, shorts: &str) -> bool {
    let mut letters = shorts.chars();
    while let Some(letter) = letters.next() {
        let found = command.get_arguments().find(|arg| arg.get_short() == Some(letter));
        if found.is_some_and(|arg| takes_value(arg.get_action()) && !arg.is_require_equals_set()) {
            return letters.as_str().is_empty();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Arg;

    fn ended(line: &str) -> String {
        let command = Command::new("run")
            .arg(Arg::new("name").long("name").short('n'))
            .arg(Arg::new("tty").short('t').action(ArgAction::SetTrue))
            .arg(Arg::new("rm").long("rm").action(ArgAction::SetTrue));
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let out: Vec<String> =
            end_options(&command, &words).iter().map(|w| w.to_string_lossy().into_owned()).collect();
        out.join(" ")
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
