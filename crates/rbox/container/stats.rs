//! `rbox stats`: what containers use, now or as it changes.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Parser;
use rbox_engine::engine::{Container, Engine};
use rbox_engine::host::proc_text;
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::output::table::{self, Format};
use crate::output::template::Headers;
use crate::output::units::{bytes_size, human_size};

/// Display a live stream of container resource usage statistics
#[derive(Debug, Parser)]
#[command(
    name = "stats",
    after_help = "Examples:\n  rbox stats                     # all running containers, every second\n  rbox stats --no-stream web\n  rbox stats --no-stream --format '{{.Name}} {{.MemUsage}}'"
)]
pub(crate) struct Stats {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Names or ids; all running containers when none is given
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Between two readings.
const PERIOD: Duration = Duration::from_secs(1);

impl Execute for Stats {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let shown =
            Shown { format: self.format.as_deref(), no_stream: self.no_stream, no_trunc: self.no_trunc };
        show(global, &shown, &|| self.chosen(global))
    }
}

/// How it is shown.
pub(crate) struct Shown<'a> {
    /// `--format`.
    pub(crate) format: Option<&'a str>,
    /// Once.
    pub(crate) no_stream: bool,
    /// With whole ids.
    pub(crate) no_trunc: bool,
}

/// Shows what containers use, once or every second; which these are is asked each time.
pub(crate) fn show(
    global: &Global,
    shown: &Shown<'_>,
    chosen: &dyn Fn() -> anyhow::Result<Vec<(String, Container)>>,
) -> anyhow::Result<u8> {
    let format = Format::parse(
        shown.format,
        "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    );
    let clear = std::io::stdout().is_terminal() && !shown.no_stream;
    let mut before = Reading::take(&global.engine, chosen()?);
    loop {
        std::thread::sleep(PERIOD);
        let now = Reading::take(&global.engine, chosen()?);
        let rows: Vec<Value> =
            now.containers.iter().map(|one| row(one, &before, now.at, shown.no_trunc)).collect();
        if clear {
            // Home, and what was there before is wiped.
            table::write_all(&mut std::io::stdout(), "\u{1b}[H\u{1b}[2J")?;
        }
        table::print(&format, &headers(), &rows, &mut std::io::stdout())?;
        if shown.no_stream {
            return Ok(0);
        }
        before = now;
    }
}

fn headers() -> Headers {
    Headers::from([
        ("BlockIO", "BLOCK I/O"),
        ("CPUPerc", "CPU %"),
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("MemPerc", "MEM %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("Name", "NAME"),
        ("NetIO", "NET I/O"),
        ("PIDs", "PIDS"),
    ])
}

/// The counters of one container at one moment.
struct Counted {
    container: Container,
    /// As it was asked for.
    asked: String,
    stats: Option<rbox_engine::engine::Stats>,
    /// Bytes received and sent.
    network: (u64, u64),
}

struct Reading {
    at: Instant,
    containers: Vec<Counted>,
}

impl Reading {
    fn take(engine: &Engine, containers: Vec<(String, Container)>) -> Self {
        let count = |(asked, container): (String, Container)| Counted {
            asked,
            stats: engine.stats(&container).ok(),
            network: container.live.as_ref().map_or((0, 0), |live| network(live.pid)),
            container,
        };
        Self { at: Instant::now(), containers: containers.into_iter().map(count).collect() }
    }
}

/// Bytes received and sent over all links but the loopback, in the network namespace of a process.
fn network(pid: i32) -> (u64, u64) {
    let text = proc_text(&format!("/proc/{pid}/net/dev"));
    let mut sum = (0, 0);
    for line in text.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        if name.trim() != "lo" {
            sum.0 += counters.first().copied().unwrap_or(0);
            sum.1 += counters.get(8).copied().unwrap_or(0);
        }
    }
    sum
}

fn host_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

impl Stats {
    /// The containers, each with the word it was asked for by.
    fn chosen(&self, global: &Global) -> anyhow::Result<Vec<(String, Container)>> {
        if self.containers.is_empty() {
            let mut all = global.engine.containers()?;
            all.retain(|one| self.all || one.is_running());
            return Ok(all.into_iter().map(|one| (one.record.id.short().to_owned(), one)).collect());
        }
        let named = |name: &String| Ok((name.clone(), global.engine.container(name)?));
        self.containers.iter().map(named).collect()
    }
}

fn row(now: &Counted, before: &Reading, at: Instant, no_trunc: bool) -> Value {
    let record = &now.container.record;
    let earlier = before.containers.iter().find(|other| other.container.record.id == record.id);
    let used = |counted: &Counted| counted.stats.as_ref()?.cpu.as_ref().map(|cpu| cpu.usage_usec);
    let cpu = match (used(now), earlier.and_then(used)) {
        (Some(now), Some(earlier)) => {
            let passed = at.duration_since(before.at).as_micros().max(1) as f64;
            now.saturating_sub(earlier) as f64 * 100.0 / passed
        }
        _ => 0.0,
    };
    let memory = now.stats.as_ref().and_then(|stats| stats.memory.as_ref());
    let (use_of, limit) = match memory {
        Some(memory) => {
            let host = host_memory();
            (memory.without_cache(), memory.limit.map_or(host, |limit| limit.min(host)))
        }
        None => (0, 0),
    };
    let share = if limit == 0 { 0.0 } else { use_of as f64 * 100.0 / limit as f64 };
    let io = now.stats.as_ref().and_then(|stats| stats.io.as_ref());
    let (read, written) = io.map_or((0, 0), |io| (io.read_bytes, io.write_bytes));
    let pids = now.stats.as_ref().and_then(|stats| stats.pids.as_ref()).map_or(0, |pids| pids.current);
    json!({
        "BlockIO": format!("{} / {}", human_size(read), human_size(written)),
        "CPUPerc": format!("{cpu:.2}%"),
        "Container": now.asked,
        "ID": if no_trunc { record.id.as_str() } else { record.id.short() },
        "MemPerc": format!("{share:.2}%"),
        "MemUsage": format!("{} / {}", bytes_size(use_of), bytes_size(limit)),
        "Name": record.name,
        "NetIO": format!("{} / {}", human_size(now.network.0), human_size(now.network.1)),
        "PIDs": pids.to_string(),
    })
}
