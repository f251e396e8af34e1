//! The shell of the embedded image: a few tools for who has no other image at hand. rbox's executable is it when it is started by
//! the name `sh`.
//!
//! It reads a command a line, with quotes and variables of none: no pipes, no scripts. What it does not know itself it executes.

use std::fs::{self, Metadata};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;

use rbox_engine::session;

use super::demo;
use crate::output::escape;

/// `sh [--at DIRECTORY] [COMMAND ARG…]`: one command, or those of standard input.
pub(crate) fn main() -> ExitCode {
    let mut words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if words.first().is_some_and(|word| word == "--at") {
        let rest = words.split_off(2.min(words.len()));
        if let Some(dir) = words.get(1) {
            // What cannot be seen is left: there is more to look at.
            let _ = go_to(dir);
        }
        words = rest;
    }
    let code = if words.is_empty() { converse() } else { carry_out(&words) };
    ExitCode::from(code)
}

/// Reads commands until the end of input, or `exit`.
fn converse() -> u8 {
    let asks = io::stdin().is_terminal();
    if asks {
        println!("A small shell of rbox's own. 'help' lists what it knows.");
    }
    let mut last = 0;
    let mut line = String::new();
    loop {
        if asks {
            print!("{} # ", escape::text(&here().to_string_lossy()));
            let _ = io::stdout().flush();
        }
        line.clear();
        // Not more of a line than a terminal gives.
        match io::stdin().lock().read_line(&mut line) {
            Ok(1..) => {}
            _ => return last,
        }
        let Some(words) = shlex::split(line.trim()) else {
            eprintln!("sh: a quote is not closed");
            last = 2;
            continue;
        };
        match words.first().map(String::as_str) {
            None => {}
            Some("exit") => return words.get(1).map_or(last, |code| code.parse().unwrap_or(2)),
            Some(_) => last = carry_out(&words),
        }
    }
}

/// A command that this shell knows: its name, what follows, what it does, and how.
type Tool = (&'static str, &'static str, &'static str, fn(&[String]) -> io::Result<()>);

const TOOLS: [Tool; 18] = [
    ("cat", "FILE…", "what is in files", cat),
    ("cd", "[DIRECTORY]", "goes there", cd),
    ("eat", "SIZE", "uses so much memory", demo::eat),
    ("env", "[PID]", "the variables of a process; PID 1's without one", env),
    ("get", "ADDRESS:PORT", "the page that is served there", demo::get),
    ("help", "", "this list", help),
    ("hostname", "[NAME]", "the host name, or another one", demo::hostname),
    ("id", "[PID]", "the user, groups and capabilities of a process", id),
    ("kill", "PID [SIGNAL]", "sends a signal, TERM without one", kill),
    ("ls", "[FILE…]", "files, with owner, mode and size", ls),
    ("mounts", "", "what is mounted where, as PID 1 sees it", mounts),
    ("net", "", "links, the address that leads out, and who listens", net),
    ("ns", "", "the namespaces of PID 1", ns),
    ("ps", "", "processes", ps),
    ("pwd", "", "where this is", pwd),
    ("serve", "PORT", "serves a page", demo::serve),
    ("sleep", "SECONDS", "waits", demo::sleep),
    ("write", "FILE WORD…", "writes words to a file", demo::write),
];

/// A tool by its own name: the embedded image has a link for each of [`rbox_engine::embedded::TOOLS`].
pub(crate) fn alone(name: &str) -> ExitCode {
    let rest = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once(name.to_owned()).chain(rest).collect();
    ExitCode::from(carry_out(&words))
}

fn carry_out(words: &[String]) -> u8 {
    let Some((name, rest)) = words.split_first() else { return 0 };
    let done = match TOOLS.iter().find(|(tool, ..)| tool == name) {
        Some((.., work)) => work(rest),
        None => return execute(name, rest),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{name}: {}", rbox_engine::plain(error));
            1
        }
    }
}

/// A program by its path, or in the PATH.
fn execute(name: &str, rest: &[String]) -> u8 {
    match Command::new(name).args(rest).status() {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(137),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("sh: {name}: not found; 'help' lists what this shell knows");
            127
        }
        Err(error) => {
            eprintln!("sh: {name}: {}", rbox_engine::plain(error));
            126
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the form of all tools")]
fn help(_: &[String]) -> io::Result<()> {
    for (name, takes, what, _) in TOOLS {
        println!("{:22}{what}", format!("{name} {takes}"));
    }
    println!("{:22}ends this shell", "exit [CODE]");
    println!("{:22}a program, by its path", "PATH [ARG…]");
    Ok(())
}

fn cat(files: &[String]) -> io::Result<()> {
    for file in files {
        io::copy(&mut fs::File::open(file)?, &mut io::stdout().lock())?;
    }
    Ok(())
}

fn cd(words: &[String]) -> io::Result<()> {
    go_to(words.first().map_or("/proc/1/root", String::as_str))
}

/// Where this is, as it was asked for. The kernel has no path to what is in another mount namespace.
static HERE: Mutex<Option<PathBuf>> = Mutex::new(None);

fn here() -> PathBuf {
    let known = HERE.lock().ok().and_then(|known| known.clone());
    known.or_else(|| std::env::current_dir().ok()).unwrap_or_else(|| PathBuf::from("/"))
}

fn go_to(dir: &str) -> io::Result<()> {
    std::env::set_current_dir(dir)?;
    let mut path = PathBuf::new();
    for part in here().join(dir).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    if let Ok(mut known) = HERE.lock() {
        *known = Some(path);
    }
    Ok(())
}

#[allow(clippy::unnecessary_wraps, reason = "the form of all tools")]
fn pwd(_: &[String]) -> io::Result<()> {
    println!("{}", escape::text(&here().to_string_lossy()));
    Ok(())
}

fn ls(words: &[String]) -> io::Result<()> {
    let here = [".".to_owned()];
    let words: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    for word in if words.is_empty() { here.iter().collect() } else { words } {
        let meta = fs::symlink_metadata(word)?;
        if !meta.is_dir() {
            say_file(Path::new(word), word, &meta);
            continue;
        }
        let mut entries: Vec<_> = fs::read_dir(word)?.flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if let Ok(meta) = entry.path().symlink_metadata() {
                say_file(&entry.path(), &entry.file_name().to_string_lossy(), &meta);
            }
        }
    }
    Ok(())
}

fn say_file(path: &Path, name: &str, meta: &Metadata) {
    let kind = meta.file_type();
    let letter = match () {
        () if kind.is_dir() => 'd',
        () if kind.is_symlink() => 'l',
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () if kind.is_fifo() => 'p',
        () if kind.is_socket() => 's',
        () => '-',
    };
    let to = fs::read_link(path).map_or_else(|_| String::new(), |to| format!(" -> {}", to.display()));
    println!(
        "{letter}{:04o} {:>6} {:>6} {:>10} {}",
        meta.mode() & 0o7777,
        meta.uid(),
        meta.gid(),
        meta.len(),
        escape::text(&format!("{name}{to}"))
    );
}

fn ps(_: &[String]) -> io::Result<()> {
    let mut pids: Vec<u32> = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    println!("{:>7} {:>7} {:>6} S COMMAND", "PID", "PPID", "UID");
    for pid in pids {
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_ascii_whitespace().next().unwrap_or("-").to_owned()
        };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
        let line = if line.is_empty() { format!("[{}]", field("Name:")) } else { line };
        println!(
            "{pid:>7} {:>7} {:>6} {} {}",
            field("PPid:"),
            field("Uid:"),
            field("State:"),
            escape::text(&line)
        );
    }
    Ok(())
}

/// The process that is meant: PID 1 when none is named.
fn pid_of(words: &[String]) -> io::Result<u32> {
    let number = words.first().map_or(Ok(1), |word| word.parse());
    number.map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the number of a process is wanted"))
}

fn env(words: &[String]) -> io::Result<()> {
    let text = fs::read(format!("/proc/{}/environ", pid_of(words)?))?;
    for variable in text.split(|byte| *byte == 0).filter(|variable| !variable.is_empty()) {
        println!("{}", escape::text(&String::from_utf8_lossy(variable)));
    }
    Ok(())
}

fn id(words: &[String]) -> io::Result<()> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid_of(words)?))?;
    let wanted = ["Name:", "Uid:", "Gid:", "Groups:", "CapEff:", "NoNewPrivs:", "Seccomp:"];
    for line in status.lines().filter(|line| wanted.iter().any(|field| line.starts_with(field))) {
        println!("{}", escape::text(&line.replace('\t', " ")));
    }
    Ok(())
}

fn kill(words: &[String]) -> io::Result<()> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    let pid = words.first().and_then(|word| word.parse().ok()).filter(|pid| *pid > 0);
    let pid = pid.ok_or_else(|| wrong("the number of a process is wanted"))?;
    let signal = words.get(1).map_or("TERM", String::as_str).trim_start_matches('-');
    let signal: rbox_engine::spec::signal::Signal =
        signal.parse().map_err(|_| wrong("there is no such signal"))?;
    session::send_signal(pid, signal.number())
}

fn mounts(_: &[String]) -> io::Result<()> {
    for line in fs::read_to_string("/proc/1/mounts")?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let [source, target, kind, options, ..] = fields[..] {
            println!("{}", escape::text(&format!("{target}  {kind}  {source}  {options}")));
        }
    }
    Ok(())
}

#[allow(clippy::unnecessary_wraps, reason = "the form of all tools")]
fn net(_: &[String]) -> io::Result<()> {
    println!("links      {}", super::hello::links());
    println!("address    {}", super::hello::address());
    for socket in session::listening() {
        println!("listens    {socket}");
    }
    Ok(())
}

fn ns(_: &[String]) -> io::Result<()> {
    let mut all: Vec<_> = fs::read_dir("/proc/1/ns")?.flatten().collect();
    all.sort_by_key(fs::DirEntry::file_name);
    for entry in all {
        let to = fs::read_link(entry.path())?;
        println!("{:20}{}", entry.file_name().to_string_lossy(), to.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_image_has_a_link_for_is_known() {
        for name in rbox_engine::embedded::TOOLS {
            assert!(TOOLS.iter().any(|(tool, ..)| *tool == name), "{name}");
        }
    }
}
