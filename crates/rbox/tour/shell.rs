//! Carries out what the learner types: `rbox …` by this very binary with the tour's directories, and other programs as they are.
//!
//! What a command makes gets the tour's label here, so that it is found again, whatever it is called.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rbox_engine::engine::{Engine, NewVolume};
use rbox_engine::session::{self, PollFd, PollFlags, SignalFd, Taken};
use rbox_engine::spec::VolumeName;

use crate::tour::cleaning::{Janitor, LABEL};
use crate::tour::scene::{KINDS, Ran};

/// How often a command that runs is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// A script waits so long for one command: it has no ^C.
const MOST_FOR_SCRIPTS: Duration = Duration::from_mins(1);
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;

/// How a line was carried out.
pub(crate) enum Outcome {
    /// It was.
    Ran(Ran),
    /// It was not, and why.
    NotRun(String),
    /// A signal meanwhile asks the tour to end.
    Signal(i32),
}

/// Who carries out lines.
pub(crate) struct Shell<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) janitor: &'a mut Janitor,
}

impl Shell<'_> {
    /// Carries out a line. `quiet`: what it prints is not shown.
    pub(crate) fn run(&mut self, line: &str, quiet: bool) -> anyhow::Result<Outcome> {
        let words = match words(line) {
            Ok(words) => words,
            Err(why) => return Ok(Outcome::NotRun(why)),
        };
        let Some((program, rest)) = words.split_first() else { return Ok(Outcome::NotRun(String::new())) };
        let is_rbox = program == "rbox";
        let mut command = if is_rbox {
            let rest = match self.labelled(rest) {
                Ok(rest) => rest,
                Err(why) => return Ok(Outcome::NotRun(why)),
            };
            let mut command = rbox_engine::own_file::command()?;
            command.args(rest);
            command
        } else {
            let mut command = Command::new(program);
            command.args(rest);
            command
        };
        let paths = self.engine.paths();
        command.env("RBOX_ROOT", &paths.root).env("RBOX_STATE", &paths.state);
        // The lines of a script are the tour's, not the command's.
        command.stdin(if std::io::stdin().is_terminal() { Stdio::inherit() } else { Stdio::null() });
        let out = std::io::stdout().as_fd().try_clone_to_owned()?;
        if quiet {
            command.stdout(Stdio::null());
        }
        command.stderr(Stdio::from(out));
        let began = Instant::now();
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Ok(Outcome::NotRun(format!("{program}: {}", rbox_engine::plain(error)))),
        };
        self.janitor.started(child.id());
        let mut ran = Ran { words, ..Ran::default() };
        let ended = wait(child, (!is_rbox).then_some(&mut ran));
        self.janitor.ended();
        Ok(match ended? {
            Ended::Code(code) => {
                ran.code = code;
                ran.took = began.elapsed();
                Outcome::Ran(ran)
            }
            Ended::Interrupted => Outcome::NotRun(
                "The tour has ended that command: it went on, and its PID 1 does not hear ^C. With -d it runs in the background.".to_owned(),
            ),
            Ended::Signal(signal) => Outcome::Signal(signal),
        })
    }

    /// The words of a command of rbox, with the tour's label where something is made.
    fn labelled(&self, words: &[String]) -> Result<Vec<String>, String> {
        let at = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["run" | "create", ..] => 1,
            ["container", "run" | "create", ..] | ["volume" | "network", "create", ..] => 2,
            ["compose" | "tour", ..] => {
                return Err(format!(
                    "The tour does not run rbox {}: it could not clean up after it.",
                    words[0]
                ));
            }
            _ => return Ok(words.to_vec()),
        };
        if words[0] != "volume" && words[0] != "network" {
            for name in named_volumes(&words[at..]) {
                self.own_volume(name)?;
            }
        }
        let mut all = words.to_vec();
        all.insert(at, format!("--label={LABEL}"));
        Ok(all)
    }

    /// Makes a volume that a container would bring about, so that it has the label.
    fn own_volume(&self, name: &str) -> Result<(), String> {
        if !name.starts_with("tour-") {
            return Err(format!(
                "Call the volume tour-{name}, so that it is the tour's to remove, and not one of yours."
            ));
        }
        let parsed: VolumeName = name.parse().map_err(|_| format!("{name} is no name of a volume."))?;
        let labels = BTreeMap::from([(LABEL.to_owned(), String::new())]);
        let made = self.engine.volumes().create(Some(&parsed), &NewVolume { labels, ..NewVolume::default() });
        made.map(drop).map_err(|error| error.to_string())
    }
}

/// The words of a line.
fn words(line: &str) -> Result<Vec<String>, String> {
    let words = shlex::split(line).ok_or("A quote is not closed.")?;
    let of_shells = ["|", "||", "&&", ";", "&", ">", ">>", "<"];
    let is_of_shells = |word: &&String| of_shells.contains(&word.as_str()) || word.starts_with("$(");
    match words.iter().find(is_of_shells) {
        Some(word) => Err(format!("The tour takes one plain command a line, without {word}.")),
        None => Ok(words),
    }
}

/// The names of volumes that the options of `run` mount.
fn named_volumes(words: &[String]) -> Vec<&str> {
    let mut names = Vec::new();
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (word, None),
        };
        let mut value = || value.or_else(|| words.next()).unwrap_or_default();
        let source = match option {
            "-v" | "--volume" => value().split_once(':').map(|(source, _)| source),
            "--mount" => {
                let fields = word.split_once('=').map_or_else(&mut value, |(_, fields)| fields);
                let volume = !fields.contains("type=bind") && !fields.contains("type=tmpfs");
                let mut all = fields.split(',').filter_map(|field| field.split_once('='));
                all.find(|(key, _)| ["source", "src"].contains(key)).map(|(_, name)| name).filter(|_| volume)
            }
            _ => None,
        };
        names.extend(source.filter(|name| !name.is_empty() && !name.contains('/')));
    }
    names
}

/// How a command came to its end.
enum Ended {
    Code(i32),
    /// By the tour, as it was asked to.
    Interrupted,
    Signal(i32),
}

/// Waits for a command. The first ^C is the command's own; the second one ends it. `ran`: the namespaces of its processes are written there.
fn wait(mut child: Child, mut ran: Option<&mut Ran>) -> std::io::Result<Ended> {
    let signals = SignalFd::new(Taken::Ending);
    let is_script = !std::io::stdin().is_terminal();
    let began = Instant::now();
    let (mut interrupts, mut asked) = (0, None);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Some(ran) = &mut ran {
            note_namespaces(child.id(), ran, 0);
        }
        while let Some(signal) = signals.as_ref().and_then(SignalFd::next) {
            match signal {
                SIGWINCH => {}
                SIGINT => interrupts += 1,
                other => asked = Some(other),
            }
        }
        let is_late = is_script && began.elapsed() > MOST_FOR_SCRIPTS;
        if asked.is_some() || interrupts > 1 || is_late {
            end(&mut child)?;
            break ExitStatus::from_raw(0);
        }
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        fds.extend(signals.as_ref().map(|signals| PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)));
        session::poll(&mut fds, Some(LOOK));
    };
    if let Some(signals) = signals {
        signals.let_go();
    }
    Ok(match asked {
        Some(signal) => Ended::Signal(signal),
        None if interrupts > 1 || (is_script && began.elapsed() > MOST_FOR_SCRIPTS) => Ended::Interrupted,
        None => Ended::Code(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))),
    })
}

/// Ends a command: asked first, then not.
fn end(child: &mut Child) -> std::io::Result<()> {
    let pid = child.id().cast_signed();
    for (signal, patience) in [(SIGTERM, 25), (SIGKILL, 500)] {
        // It may have ended just now.
        let _ = session::send_signal(pid, signal);
        for _ in 0..patience {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// Notes the kinds of namespaces in which a process and its children are and the tour is not.
fn note_namespaces(pid: u32, ran: &mut Ran, depth: usize) {
    for kind in KINDS {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        let there = link(&pid.to_string());
        if there.is_some() && there != link("self") {
            ran.new_namespaces.insert(kind);
        }
    }
    let children = rbox_engine::host::read_proc(&format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    for child in String::from_utf8_lossy(&children).split_whitespace().filter_map(|pid| pid.parse().ok()) {
        if depth < 8 {
            note_namespaces(child, ran, depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn volumes_are_found_by_their_names() {
        let all = |line: &str| {
            let words = words(line).unwrap();
            named_volumes(&words).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(all("-v data:/data hello"), ["data"]);
        assert_eq!(all("--volume=data:/data:ro -v /srv:/srv -v /x hello"), ["data"]);
        assert_eq!(all("--mount type=volume,source=a,target=/a --mount=src=b,dst=/b hello"), ["a", "b"]);
        assert!(all("--mount type=bind,source=/etc,target=/e hello cat -v").is_empty());
    }

    #[test]
    fn a_line_is_one_command() {
        assert!(words("rbox ps | head").is_err() && words("rbox run 'x").is_err());
        assert_eq!(words("sh -c 'echo a; echo $$'").unwrap(), ["sh", "-c", "echo a; echo $$"]);
    }
}
