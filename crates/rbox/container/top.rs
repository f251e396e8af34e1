//! `rbox top`: the processes of a container, as ps(1) would show them.
//!
//! Docker runs the host's `ps` and keeps the container's lines. Here /proc is read, so the host needs no `ps`;
//! the options that name columns are understood.

use clap::Parser;
use jiff::Timestamp;
use rbox_engine::engine::Container;

use crate::command::entry::Execute;
use crate::command::error::bad_input;
use crate::command::global::Global;
use crate::container::process::{Process, TICKS, group_name, user_name};
use crate::output::escape;
use crate::output::table::{align_wide, write_all};

/// Display the running processes of a container
#[derive(Debug, Parser)]
#[command(
    name = "top",
    after_help = "Examples:\n  rbox top web\n  rbox top web aux\n  rbox top web -o pid,user,rss,args\n\nColumns for -o: args c cmd comm command etime f gid group lstart nice ni nlwp pcpu %cpu pgid pid pmem %mem ppid\npri rss s sid start stat state stime time tty tt uid user vsz; NAME=TITLE gives a title."
)]
pub(crate) struct Top {
    /// Its name or id
    container: String,
    /// Options of ps: -ef (default), aux, -o COLUMNS
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    options: Vec<String>,
}

/// A column: its name in `-o`, and its title.
type Column = (String, String);

impl Execute for Top {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let columns = columns(&self.options).map_err(bad_input)?;
        let container = global.engine.container(&self.container)?;
        let titles: Vec<&str> = columns.iter().map(|(_, title)| title.as_str()).collect();
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let mut text = titles.join("\t");
        text.push('\n');
        for cells in processes(global, &container, &names)? {
            text.push_str(&cells.join("\t"));
            text.push('\n');
        }
        write_all(&mut std::io::stdout(), &align_wide(&text, 20))?;
        Ok(0)
    }
}

/// The cells of each process of a container, oldest first.
pub(crate) fn processes(
    global: &Global,
    container: &Container,
    columns: &[&str],
) -> anyhow::Result<Vec<Vec<String>>> {
    let pids = global.engine.top(container)?;
    let mut all: Vec<Process> = pids.into_iter().filter_map(Process::read).collect();
    all.sort_by_key(|process| (process.start_ticks, process.pid));
    let host = Host::read();
    let cells = |process: &Process| {
        columns.iter().map(|name| escape::text(&host.cell(name, process)).into_owned()).collect()
    };
    Ok(all.iter().map(cells).collect())
}

/// The columns of `ps -ef`, and their titles.
pub(crate) const FULL: [(&str, &str); 8] = [
    ("user", "UID"),
    ("pid", "PID"),
    ("ppid", "PPID"),
    ("c", "C"),
    ("stime", "STIME"),
    ("tty", "TTY"),
    ("time", "TIME"),
    ("args", "CMD"),
];
const BSD: [(&str, &str); 11] = [
    ("user", "USER"),
    ("pid", "PID"),
    ("pcpu", "%CPU"),
    ("pmem", "%MEM"),
    ("vsz", "VSZ"),
    ("rss", "RSS"),
    ("tty", "TTY"),
    ("stat", "STAT"),
    ("start", "START"),
    ("time", "TIME"),
    ("args", "COMMAND"),
];

/// Reads ps(1)'s options: those that select processes mean nothing here, those that select columns do.
fn columns(options: &[String]) -> Result<Vec<Column>, String> {
    let fixed =
        |list: &[(&str, &str)]| list.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    let mut chosen: Vec<Column> = Vec::new();
    let mut style: Vec<Column> = fixed(&FULL);
    let mut words = options.iter().flat_map(|option| option.split_whitespace());
    while let Some(word) = words.next() {
        if let Some(list) = word.strip_prefix("--format").map(|rest| rest.trim_start_matches('=')) {
            let list = if list.is_empty() { words.next().unwrap_or("") } else { list };
            add_columns(list, &mut chosen)?;
            continue;
        }
        let (letters, dashed) = word.strip_prefix('-').map_or((word, false), |letters| (letters, true));
        if let Some((before, list)) = letters.split_once('o')
            && before.chars().all(|c| "aAefxwTw".contains(c))
        {
            let list = if list.is_empty() { words.next().unwrap_or("") } else { list };
            add_columns(list, &mut chosen)?;
        } else if dashed && letters.chars().all(|c| "eAafFwHdN".contains(c)) && !letters.is_empty() {
            style = fixed(&FULL);
        } else if !dashed && letters.chars().all(|c| "auxwfe".contains(c)) {
            style = if letters.contains('u') { fixed(&BSD) } else { fixed(&FULL) };
        } else {
            return Err(format!(
                "ps option '{}' is not supported; known are -ef, aux and -o COLUMNS",
                escape::text(word)
            ));
        }
    }
    Ok(if chosen.is_empty() { style } else { chosen })
}

fn add_columns(list: &str, chosen: &mut Vec<Column>) -> Result<(), String> {
    if list.is_empty() {
        return Err("-o needs columns, such as -o pid,user,args".to_owned());
    }
    // `name=TITLE` takes the rest of the list as its title, as ps does.
    let (plain, titled) = match list.split_once('=') {
        Some((before, title)) => (before, Some(title)),
        None => (list, None),
    };
    let names: Vec<&str> = plain.split(',').collect();
    for (at, name) in names.iter().enumerate() {
        let title =
            title_of(name).ok_or_else(|| format!("unknown column '{}' for -o", escape::text(name)))?;
        let title = titled.filter(|_| at + 1 == names.len()).map_or_else(|| title.to_owned(), str::to_owned);
        chosen.push(((*name).to_owned(), title));
    }
    Ok(())
}

fn title_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "args" | "command" | "comm" | "ucmd" => "COMMAND",
        "cmd" => "CMD",
        "c" => "C",
        "etime" => "ELAPSED",
        "f" => "F",
        "gid" | "egid" => "GID",
        "group" | "egroup" => "GROUP",
        "lstart" => "STARTED",
        "nice" | "ni" => "NI",
        "nlwp" | "thcount" => "NLWP",
        "pcpu" | "%cpu" => "%CPU",
        "pgid" | "pgrp" => "PGID",
        "pid" => "PID",
        "pmem" | "%mem" => "%MEM",
        "ppid" => "PPID",
        "pri" => "PRI",
        "rss" | "rssize" => "RSS",
        "s" | "state" => "S",
        "sid" | "sess" => "SID",
        "start" | "bsdstart" => "START",
        "stat" => "STAT",
        "stime" | "start_time" => "STIME",
        "time" | "cputime" => "TIME",
        "tty" | "tt" | "tname" => "TTY",
        "uid" | "euid" => "UID",
        "user" | "euser" | "uname" => "USER",
        "vsz" | "vsize" => "VSZ",
        _ => return None,
    })
}

/// What of the host the columns need.
struct Host {
    passwd: String,
    group: String,
    /// Seconds since 1970 at boot.
    boot: i64,
    memory_kib: u64,
    now: Timestamp,
}

impl Host {
    fn read() -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, key: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
        };
        Self {
            boot: after(&file("/proc/stat"), "btime").unwrap_or(0) as i64,
            memory_kib: after(&file("/proc/meminfo"), "MemTotal:").unwrap_or(0),
            passwd: file("/etc/passwd"),
            group: file("/etc/group"),
            now: Timestamp::now(),
        }
    }

    fn start(&self, process: &Process) -> Timestamp {
        Timestamp::from_second(self.boot + (process.start_ticks / TICKS) as i64).unwrap_or(self.now)
    }

    fn elapsed(&self, process: &Process) -> u64 {
        u64::try_from(self.now.as_second() - self.start(process).as_second()).unwrap_or(0)
    }

    fn cell(&self, column: &str, process: &Process) -> String {
        let cpu_seconds = process.cpu_ticks / TICKS;
        // Tenths of a percent of one processor over its life.
        let cpu = (process.cpu_ticks * 1000 / TICKS).checked_div(self.elapsed(process)).unwrap_or(0);
        let tenths = |value: u64| format!("{}.{}", value / 10, value % 10);
        match column {
            "args" | "command" | "cmd" => process.command_line(),
            "comm" | "ucmd" => process.name.clone(),
            "c" => (cpu / 10).min(99).to_string(),
            "etime" => elapsed(self.elapsed(process)),
            "f" => "4".to_owned(),
            "gid" | "egid" => process.gid.to_string(),
            "group" | "egroup" => group_name(&self.group, process.gid),
            "lstart" => self.local(process, "%a %b %e %H:%M:%S %Y"),
            "nice" | "ni" => process.nice.to_string(),
            "nlwp" | "thcount" => process.threads.to_string(),
            "pcpu" | "%cpu" => tenths(cpu),
            "pgid" | "pgrp" => process.group.to_string(),
            "pid" => process.pid.to_string(),
            "pmem" | "%mem" => {
                tenths((process.resident_kib * 1000).checked_div(self.memory_kib).unwrap_or(0))
            }
            "ppid" => process.parent.to_string(),
            "pri" => (39 - process.priority).to_string(),
            "rss" | "rssize" => process.resident_kib.to_string(),
            "s" | "state" => process.state.to_string(),
            "sid" | "sess" => process.session.to_string(),
            "stat" => stat(process),
            "start" | "bsdstart" | "stime" | "start_time" => self.started(process),
            "time" | "cputime" => clock(cpu_seconds),
            "tty" | "tt" | "tname" => process.terminal_name(),
            "uid" | "euid" => process.uid.to_string(),
            "user" | "euser" | "uname" => user_name(&self.passwd, process.uid),
            "vsz" | "vsize" => (process.virtual_bytes / 1024).to_string(),
            _ => String::new(),
        }
    }

    fn local(&self, process: &Process, format: &str) -> String {
        self.start(process).to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string()
    }

    /// The time of day when it started within the last day, else the date.
    fn started(&self, process: &Process) -> String {
        self.local(process, if self.elapsed(process) < 24 * 3600 { "%H:%M" } else { "%b%d" })
    }
}

/// ps(1)'s STAT: the state, and letters for more about it.
fn stat(process: &Process) -> String {
    let mut text = process.state.to_string();
    let flags = [
        (process.nice < 0, '<'),
        (process.nice > 0, 'N'),
        (process.session == process.pid, 's'),
        (process.threads > 1, 'l'),
        (process.foreground == process.group && process.terminal != 0, '+'),
    ];
    text.extend(flags.iter().filter(|(holds, _)| *holds).map(|(_, letter)| *letter));
    text
}

/// `HH:MM:SS`.
fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `[[DD-]HH:]MM:SS`.
fn elapsed(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    match (days, rest / 3600) {
        (0, 0) => format!("{:02}:{:02}", rest / 60, rest % 60),
        (0, _) => clock(rest),
        _ => format!("{days}-{}", clock(rest)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn titles(options: &[&str]) -> Result<String, String> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        let titles: Vec<String> = columns(&options)?.into_iter().map(|(_, title)| title).collect();
        Ok(titles.join(" "))
    }

    #[test]
    fn options_of_ps() {
        let full = "UID PID PPID C STIME TTY TIME CMD";
        assert_eq!(titles(&[]).unwrap(), full);
        assert_eq!(titles(&["-ef"]).unwrap(), full);
        assert_eq!(titles(&["aux"]).unwrap(), "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
        assert_eq!(titles(&["-o", "pid,comm"]).unwrap(), "PID COMMAND");
        assert_eq!(titles(&["-eo", "pid,user=WHO", "-o", "args"]).unwrap(), "PID WHO COMMAND");
        assert_eq!(titles(&["-o pid,rss"]).unwrap(), "PID RSS");
        for bad in [&["--bogus"][..], &["-o"], &["-o", "bogus"], &["-Z"], &["\u{1b}"]] {
            assert!(titles(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_column_has_a_cell() {
        let host = Host::read();
        let own = Process::read(std::process::id() as i32).unwrap();
        for (name, _) in FULL.iter().chain(&BSD) {
            assert!(title_of(name).is_some());
            assert!(!host.cell(name, &own).is_empty(), "{name}");
        }
        assert_eq!(clock(3661), "01:01:01");
        assert_eq!((elapsed(61), elapsed(90_061)), ("01:01".to_owned(), "1-01:01:01".to_owned()));
    }
}
