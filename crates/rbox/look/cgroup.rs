//! `rbox cgroup`: what a container may use, what it uses, and when it was held back.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use rbox_engine::engine::{Container, CpuStats, Engine, MemoryStats, Stats};
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::look;
use crate::output::svg;
use crate::output::table::{self, write_all};
use crate::output::units::{bytes_size, human_size};

/// Show a container's limits, what it uses of them, and when the kernel held it back
#[derive(Debug, Parser)]
#[command(
    name = "cgroup",
    after_help = "Examples:
  rbox cgroup web
  rbox cgroup --watch web                      # again every second, until ^C
  rbox cgroup --svg limits.svg                 # a diagram of all that run
  rbox cgroup --format json web
  rbox cgroup --format '{{.Memory.Usage}} {{.Memory.OomKills}}' web

Use of the processors is that of half a second (with --watch of one). A group is a directory; the files
in it that are named are where each figure comes from. See cgroups(7)."
)]
pub(crate) struct Cgroup {
    /// How it is shown: 'text', 'json', or a Go template
    #[arg(
        long,
        default_value = "text",
        value_parser = |given: &str| table::word_or_template(given, &["text", "json"]),
    )]
    format: String,
    /// Show it again every second
    #[arg(short, long, conflicts_with = "svg")]
    watch: bool,
    /// Draw a diagram into this file instead (- for the standard output)
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    svg: Option<PathBuf>,
    /// Names or ids; all running containers when none is given
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Between two readings, from which the use of the processors is told.
const ONCE: Duration = Duration::from_millis(500);
const WATCHED: Duration = Duration::from_secs(1);

/// One container's group at one moment.
struct Reading {
    container: Container,
    stats: Stats,
    at: Instant,
    /// Processors in use since the reading before; none when there was none.
    cpus: Option<f64>,
}

impl Execute for Cgroup {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let chosen = || look::running(global, &self.containers, "it has no group");
        let between = if self.watch { WATCHED } else { ONCE };
        let mut before = read(&global.engine, chosen()?, &[]);
        loop {
            std::thread::sleep(between);
            let now = read(&global.engine, chosen()?, &before);
            let mut text = String::new();
            if self.watch && std::io::stdout().is_terminal() {
                // Home, and what was there before is wiped.
                text.push_str("\u{1b}[H\u{1b}[2J");
            }
            if let Some(path) = &self.svg {
                look::write_svg(path, &diagram(&now))?;
                return Ok(0);
            }
            self.show(&now, &mut text)?;
            write_all(&mut std::io::stdout(), &text)?;
            if !self.watch {
                return Ok(0);
            }
            before = now;
        }
    }
}

impl Cgroup {
    fn show(&self, now: &[Reading], text: &mut String) -> anyhow::Result<()> {
        if self.format != "text" && !self.format.is_empty() {
            for one in now {
                text.push_str(&table::document(&self.format, &value(one))?);
            }
            return Ok(());
        }
        if now.is_empty() {
            text.push_str("nothing runs here\n");
        }
        for (at, one) in now.iter().enumerate() {
            let apart = if at == 0 { "" } else { "\n" };
            let _ = writeln!(text, "{apart}{}", one.container.record.name);
            for group in groups(&one.container) {
                let _ = writeln!(text, "  {group}");
            }
            for line in lines(one) {
                let _ = writeln!(text, "  {}", line.text());
            }
        }
        Ok(())
    }
}

/// What has ended meanwhile is left out.
fn read(engine: &Engine, containers: Vec<Container>, before: &[Reading]) -> Vec<Reading> {
    let mut all = Vec::new();
    for container in containers {
        let Ok(stats) = engine.stats(&container) else { continue };
        let at = Instant::now();
        let earlier = before.iter().find(|one| one.container.record.id == container.record.id);
        let cpus = earlier.and_then(|earlier| {
            let used = stats.cpu.as_ref()?.usage_usec.saturating_sub(earlier.stats.cpu.as_ref()?.usage_usec);
            Some(used as f64 / at.duration_since(earlier.at).as_micros().max(1) as f64)
        });
        all.push(Reading { container, stats, at, cpus });
    }
    all
}

fn groups(container: &Container) -> Vec<String> {
    let paths = container.live.iter().flat_map(|live| live.cgroup.own());
    paths.map(|path| path.display().to_string()).collect()
}

/// How many figures a bar has.
const BAR: usize = 20;

/// `██████░░░░  30%`: what of a limit is used.
fn bar(used: f64, limit: f64) -> String {
    let share = if limit > 0.0 { (used / limit).clamp(0.0, 1.0) } else { 0.0 };
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    format!("{}{} {:>3.0}%", "█".repeat(full), "░".repeat(BAR - full), share * 100.0)
}

/// What is counted and limited.
struct Line {
    name: &'static str,
    /// Where there is a limit.
    bar: Option<String>,
    /// Parted by semicolons.
    words: String,
}

impl Line {
    fn text(&self) -> String {
        let bar = self.bar.clone().unwrap_or_else(|| format!("{:<width$}", "no limit", width = BAR + 5));
        format!("{:<8}{bar}  {}", self.name, self.words)
    }
}

fn lines(one: &Reading) -> Vec<Line> {
    let line = |name, bar, words| Line { name, bar, words };
    let stats = &one.stats;
    let mut lines = Vec::new();
    if let Some(memory) = &stats.memory {
        let bar = memory.limit.map(|limit| bar(memory.usage as f64, limit as f64));
        lines.push(line("memory", bar, of_memory(memory)));
    }
    if let Some(cpu) = &stats.cpu {
        let used = one.cpus.unwrap_or(0.0);
        let limit = cpu.quota.map(|(quota, period)| quota as f64 / period as f64);
        lines.push(line("cpu", limit.map(|limit| bar(used, limit)), of_cpu(cpu, used, limit)));
    }
    if let Some(pids) = &stats.pids {
        let of = pids.limit.map_or(String::new(), |limit| format!(" of {limit}"));
        let bar = pids.limit.map(|limit| bar(pids.current as f64, limit as f64));
        lines.push(line("pids", bar, format!("{}{of} processes and threads", pids.current)));
    }
    if let Some(io) = &stats.io {
        let (read, written) = (human_size(io.read_bytes), human_size(io.write_bytes));
        let words = format!("{read} read in {} requests; {written} written in {}", io.reads, io.writes);
        lines.push(line("io", Some(" ".repeat(BAR + 5)), words));
    }
    lines
}

fn of_memory(memory: &MemoryStats) -> String {
    let mut words = bytes_size(memory.usage);
    if let Some(limit) = memory.limit {
        let _ = write!(words, " of {}", bytes_size(limit));
    }
    let _ = write!(words, "; {} of it file cache", bytes_size(memory.inactive_file.min(memory.usage)));
    if let Some(most) = memory.max_usage {
        let _ = write!(words, "; at most {}", bytes_size(most));
    }
    if let Some(swap) = memory.swap.filter(|swap| *swap > 0) {
        let _ = write!(words, "; {} in swap", bytes_size(swap));
    }
    match memory.oom_kills {
        0 => (),
        1 => words.push_str("; it ran out: 1 process was killed (OOM)"),
        many => {
            let _ = write!(words, "; it ran out: {many} processes were killed (OOM)");
        }
    }
    words
}

fn of_cpu(cpu: &CpuStats, used: f64, limit: Option<f64>) -> String {
    let mut words = format!("{used:.2}");
    if let Some(limit) = limit {
        let _ = write!(words, " of {limit:.2}");
    }
    let _ = write!(words, " CPUs; {:.1} s in all", cpu.usage_usec as f64 / 1e6);
    if cpu.throttled_periods > 0 {
        let seconds = cpu.throttled_usec as f64 / 1e6;
        let _ = write!(
            words,
            "; held back in {} of {} periods, for {seconds:.1} s",
            cpu.throttled_periods, cpu.periods
        );
    }
    words
}

fn value(one: &Reading) -> Value {
    let stats = &one.stats;
    let record = &one.container.record;
    json!({
        "Name": record.name,
        "ID": record.id.as_str(),
        "Groups": groups(&one.container),
        "Memory": stats.memory.as_ref().map(|memory| json!({
            "Usage": memory.usage,
            "InactiveFile": memory.inactive_file,
            "MaxUsage": memory.max_usage,
            "Limit": memory.limit,
            "Swap": memory.swap,
            "OomKills": memory.oom_kills,
        })),
        "Cpu": stats.cpu.as_ref().map(|cpu| json!({
            "Cpus": one.cpus,
            "UsageUsec": cpu.usage_usec,
            "UserUsec": cpu.user_usec,
            "SystemUsec": cpu.system_usec,
            "QuotaUsec": cpu.quota.map(|(quota, _)| quota),
            "PeriodUsec": cpu.quota.map(|(_, period)| period),
            "Periods": cpu.periods,
            "ThrottledPeriods": cpu.throttled_periods,
            "ThrottledUsec": cpu.throttled_usec,
        })),
        "Pids": stats.pids.as_ref().map(|pids| json!({ "Current": pids.current, "Limit": pids.limit })),
        "Io": stats.io.as_ref().map(|io| json!({
            "ReadBytes": io.read_bytes,
            "WriteBytes": io.write_bytes,
            "Reads": io.reads,
            "Writes": io.writes,
        })),
    })
}

/// The host with an arrow from it to each group.
fn diagram(now: &[Reading]) -> String {
    let mut boxes = vec![svg::Box { title: "host".into(), lines: vec!["control groups".into()] }];
    for one in now {
        let mut texts = Vec::new();
        for line in lines(one) {
            let bar = line.bar.as_deref().unwrap_or("no limit").trim_end();
            texts.push(format!("{:<8}{bar}", line.name));
            texts.extend(line.words.split("; ").map(|part| format!("        {part}")));
        }
        boxes.push(svg::Box { title: one.container.record.name.to_string(), lines: texts });
    }
    let arrow = |to| svg::Arrow { from: 0, to, text: String::new(), dashed: false };
    svg::draw("control groups of containers", &boxes, &(1..boxes.len()).map(arrow).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_wide_whatever_is_used() {
        assert_eq!(bar(0.0, 10.0), format!("{}   0%", "░".repeat(20)));
        assert_eq!(bar(5.0, 10.0), format!("{}{}  50%", "█".repeat(10), "░".repeat(10)));
        assert_eq!(bar(20.0, 10.0), format!("{} 100%", "█".repeat(20)));
        assert_eq!(bar(1.0, 0.0).chars().count(), 25);
    }
}
