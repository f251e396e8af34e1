//! `rbox pid`: each process of containers, by its number inside and outside.
//!
//! A process in a PID namespace has a number in each namespace from the host's down to its own; the kernel
//! shows them all (proc(5), `NSpid`).

use clap::Parser;
use rbox_engine::engine::Container;
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::container::process::Process;
use crate::output::table::{self, Format};
use crate::output::template::Headers;

/// Show each process of containers with its PID inside and outside
#[derive(Debug, Parser)]
#[command(
    name = "pid",
    after_help = "Examples:\n  rbox pid web                                   # PID inside, PID on the host\n  rbox pid                                       # of all running containers\n  rbox pid --tree web                            # who started whom\n  rbox pid -q web                                # only PID 1's number on the host\n  nsenter -t $(rbox pid -q web) -n ip addr       # look into its network from the host\n  rbox pid --format '{{.Inside}} {{.Host}}' web\n\nUID is the user on the host: 0 is the host's root, inside and outside, unless the container has a user namespace\n(--userns, --uidmap). See pid_namespaces(7) and user_namespaces(7)."
)]
pub(crate) struct Pid {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Only show the number that the container's PID 1 has on the host
    #[arg(short, long)]
    quiet: bool,
    /// Draw who is whose parent
    #[arg(long)]
    tree: bool,
    /// Names or ids; all running containers when none is given
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Pid {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut rows: Vec<Value> = Vec::new();
        for container in self.chosen(global)? {
            let pids = match global.engine.processes(&container) {
                // One that nobody named may end meanwhile.
                Err(_) if self.containers.is_empty() => continue,
                found => found?,
            };
            if let (true, None, Some(live)) = (self.quiet, &self.format, &container.live) {
                crate::output::lines::say(&live.pid.to_string())?;
                continue;
            }
            let mut all: Vec<Process> = pids.into_iter().filter_map(Process::read).collect();
            all.sort_by_key(|process| process.inside.last().copied().unwrap_or(0));
            let name = container.record.name.as_str();
            let drawn = in_tree(&all);
            let drawn: Vec<(&Process, String)> =
                if self.tree { drawn } else { all.iter().map(|process| (process, String::new())).collect() };
            rows.extend(drawn.iter().map(|(process, branch)| row(name, process, branch)));
        }
        if self.quiet && self.format.is_none() {
            return Ok(0);
        }
        let columns = "{{.Inside}}\t{{.Host}}\t{{.ParentInside}}\t{{.User}}\t{{.Threads}}\t{{.Tree}}";
        let of_several = format!("{{{{.Name}}}}\t{columns}");
        let default = if self.containers.len() == 1 { columns } else { &of_several };
        let format = Format::parse(self.format.as_deref(), default);
        let headers = Headers::from([
            ("All", "PIDS"),
            ("Command", "COMMAND"),
            ("Host", "HOST PID"),
            ("Inside", "PID"),
            ("Name", "NAME"),
            ("ParentHost", "HOST PPID"),
            ("ParentInside", "PPID"),
            ("Threads", "THREADS"),
            ("Tree", "COMMAND"),
            ("User", "UID"),
        ]);
        table::print(&format, &headers, &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}

impl Pid {
    /// Those that were named, else all that run.
    fn chosen(&self, global: &Global) -> anyhow::Result<Vec<Container>> {
        if self.containers.is_empty() {
            let mut all = global.engine.running()?;
            all.sort_by(|one, other| one.record.name.cmp(&other.record.name));
            return Ok(all);
        }
        let mut chosen: Vec<Container> = Vec::new();
        for name in &self.containers {
            let container = global.engine.container(name)?;
            if !chosen.iter().any(|known| known.record.id == container.record.id) {
                chosen.push(container);
            }
        }
        Ok(chosen)
    }
}

/// Each process below its parent, with what is drawn before it. One whose parent is outside, as of `exec`, begins a tree of its own.
fn in_tree(all: &[Process]) -> Vec<(&Process, String)> {
    let is_top = |process: &&Process| !all.iter().any(|other| other.pid == process.parent);
    // A process stands on a stack with what is drawn before it, and before its children.
    let mut waiting: Vec<(&Process, String, String)> =
        all.iter().filter(is_top).map(|process| (process, String::new(), String::new())).collect();
    waiting.reverse();
    let mut drawn = Vec::with_capacity(all.len());
    while let Some((process, branch, below)) = waiting.pop() {
        let children: Vec<&Process> = all.iter().filter(|child| child.parent == process.pid).collect();
        for (from_last, child) in children.into_iter().rev().enumerate() {
            let (turn, line) = if from_last == 0 { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            waiting.push((child, format!("{below}{turn}"), format!("{below}{line}")));
        }
        drawn.push((process, branch));
    }
    drawn
}

fn row(name: &str, process: &Process, branch: &str) -> Value {
    let numbers: Vec<String> = process.inside.iter().map(ToString::to_string).collect();
    // PID 1's parent, and that of a process exec put in, is outside: its number inside is 0.
    let parent = Process::read(process.parent);
    let same_depth = parent.as_ref().filter(|parent| parent.inside.len() == process.inside.len());
    let parent_inside = same_depth.and_then(|parent| parent.inside.last().copied()).unwrap_or(0);
    json!({
        "All": numbers.join(" "),
        "Command": process.command_line(),
        "Host": process.pid.to_string(),
        "Inside": numbers.last().cloned().unwrap_or_default(),
        "Name": name,
        "ParentHost": process.parent.to_string(),
        "ParentInside": parent_inside.to_string(),
        "Threads": process.threads.to_string(),
        "Tree": format!("{branch}{}", process.command_line()),
        "User": process.uid.to_string(),
    })
}
