//! `rbox pid`: each process of a container, by its number inside and outside.
//!
//! A process in a PID namespace has a number in each namespace from the host's down to its own; the kernel
//! shows them all (proc(5), `NSpid`).

use clap::Parser;
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::container::process::Process;
use crate::output::table::{self, Format};
use crate::output::template::Headers;

/// Show each process of a container with its PID inside and outside
#[derive(Debug, Parser)]
#[command(
    name = "pid",
    after_help = "Examples:\n  rbox pid web                                   # PID inside, PID on the host\n  rbox pid -q web                                # only PID 1's number on the host\n  nsenter -t $(rbox pid -q web) -n ip addr       # look into its network from the host\n  rbox pid --format '{{.Inside}} {{.Host}}' web\n\nUID is the user on the host: 0 is the host's root, inside and outside, unless the container has a user namespace\n(--userns, --uidmap). See pid_namespaces(7) and user_namespaces(7)."
)]
pub(crate) struct Pid {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Only show the number that the container's PID 1 has on the host
    #[arg(short, long)]
    quiet: bool,
    /// Its name or id
    container: String,
}

impl Execute for Pid {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let container = global.engine.container(&self.container)?;
        let pids = global.engine.processes(&container)?;
        if let (true, None, Some(live)) = (self.quiet, &self.format, &container.live) {
            crate::output::lines::say(&live.pid.to_string())?;
            return Ok(0);
        }
        let mut all: Vec<Process> = pids.into_iter().filter_map(Process::read).collect();
        all.sort_by_key(|process| process.inside.last().copied().unwrap_or(0));
        let rows: Vec<Value> = all.iter().map(row).collect();
        let format = Format::parse(
            self.format.as_deref(),
            "{{.Inside}}\t{{.Host}}\t{{.ParentInside}}\t{{.User}}\t{{.Threads}}\t{{.Command}}",
        );
        let headers = Headers::from([
            ("All", "PIDS"),
            ("Command", "COMMAND"),
            ("Host", "HOST PID"),
            ("Inside", "PID"),
            ("ParentHost", "HOST PPID"),
            ("ParentInside", "PPID"),
            ("Threads", "THREADS"),
            ("User", "UID"),
        ]);
        table::print(&format, &headers, &rows, &mut std::io::stdout())?;
        Ok(0)
    }
}

fn row(process: &Process) -> Value {
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
        "ParentHost": process.parent.to_string(),
        "ParentInside": parent_inside.to_string(),
        "Threads": process.threads.to_string(),
        "User": process.uid.to_string(),
    })
}
