//! `rbox ns`: which namespaces containers are in, and what they share.
//!
//! A namespace has no name but its inode, which /proc/PID/ns shows (namespaces(7)); the same inode is the same namespace.

use std::path::PathBuf;

use clap::Parser;
use serde_json::{Map, Value, json};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::container::process::Process;
use crate::look;
use crate::output::svg;
use crate::output::table::{self, Format};
use crate::output::template::Headers;

/// Show which namespaces each container is in, and what it shares with others and with the host
#[derive(Debug, Parser)]
#[command(
    name = "ns",
    after_help = "Examples:
  rbox ns                                      # all running containers, and the host beside them
  rbox ns web db
  rbox ns --svg walls.svg                      # a diagram: what is shared has arrows to it
  rbox ns --format '{{.Name}} {{.Net}}'
  rbox ns --format json web

A number is a namespace of its own: the inode that 'ls -l /proc/PID/ns' shows. 'host' is the host's,
and '=NAME' is that of the container NAME. Processes of a container that have made namespaces of
their own have a row of their own. See namespaces(7)."
)]
pub(crate) struct Ns {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Draw a diagram into this file instead (- for the standard output)
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    svg: Option<PathBuf>,
    /// Names or ids; all running containers when none is given
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// The kinds, in the order of the table: the file in /proc/PID/ns, the field, what it keeps apart.
const KINDS: [(&str, &str, &str); 8] = [
    ("mnt", "Mnt", "mounts"),
    ("pid", "PidNs", "process numbers"),
    ("net", "Net", "links, addresses, ports"),
    ("uts", "Uts", "host name"),
    ("ipc", "Ipc", "shared memory, queues"),
    ("cgroup", "Cgroup", "view of control groups"),
    ("user", "User", "users, capabilities"),
    ("time", "Time", "clocks since boot"),
];

/// The inodes of one process's namespaces; none where the kernel has not that kind, or the process has ended.
type Inodes = [Option<u64>; KINDS.len()];

/// Processes that are in the same namespaces.
struct Row {
    /// The container's, or `host`.
    name: String,
    id: String,
    pid: i32,
    command: String,
    processes: usize,
    inodes: Inodes,
}

impl Execute for Ns {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let rows = rows(global, &self.containers)?;
        if let Some(path) = &self.svg {
            look::write_svg(path, &diagram(&rows))?;
            return Ok(0);
        }
        let shown: Vec<Value> = (0..rows.len()).map(|at| shown(&rows, at)).collect();
        let columns = KINDS.map(|(_, field, _)| format!("{{{{.{field}}}}}")).join("\t");
        let default = format!("{{{{.Name}}}}\t{{{{.Pid}}}}\t{columns}");
        let format = Format::parse(self.format.as_deref(), &default);
        let mut headers = Headers::from([
            ("Command", "COMMAND"),
            ("ID", "CONTAINER ID"),
            ("Name", "NAME"),
            ("Pid", "HOST PID"),
            ("Processes", "PROCESSES"),
        ]);
        headers.extend(KINDS.map(|(file, field, _)| (field, header(file))));
        table::print(&format, &headers, &shown, &mut std::io::stdout())?;
        Ok(0)
    }
}

fn header(file: &str) -> &'static str {
    match file {
        "mnt" => "MNT",
        "pid" => "PID",
        "net" => "NET",
        "uts" => "UTS",
        "ipc" => "IPC",
        "cgroup" => "CGROUP",
        "user" => "USER",
        _ => "TIME",
    }
}

/// The host's first, then those of each container: where its first process is, and where others of it are.
fn rows(global: &Global, names: &[String]) -> anyhow::Result<Vec<Row>> {
    let own = std::process::id().cast_signed();
    let mut rows = vec![Row {
        name: "host".into(),
        id: String::new(),
        pid: own,
        command: "rbox".into(),
        processes: 0,
        inodes: inodes(own),
    }];
    for container in look::running(global, names, "it has no namespaces")? {
        let Some(live) = &container.live else { continue };
        // One that ends meanwhile has none.
        let mut pids = global.engine.processes(&container).unwrap_or_default();
        pids.sort_unstable_by_key(|pid| (*pid != live.pid, *pid));
        let first = rows.len();
        for pid in pids {
            let inodes = inodes(pid);
            if inodes.iter().all(Option::is_none) {
                continue;
            }
            match rows[first..].iter_mut().find(|row| row.inodes == inodes) {
                Some(row) => row.processes += 1,
                None => rows.push(Row {
                    name: container.record.name.to_string(),
                    id: container.record.id.as_str().to_owned(),
                    pid,
                    command: Process::read(pid).map(|process| process.command_line()).unwrap_or_default(),
                    processes: 1,
                    inodes,
                }),
            }
        }
    }
    Ok(rows)
}

fn inodes(pid: i32) -> Inodes {
    KINDS.map(|(file, ..)| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{file}")).ok()?;
        inode(link.to_str()?)
    })
}

/// The number in `net:[4026531840]`.
fn inode(link: &str) -> Option<u64> {
    link.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

/// The first row that is in the same namespace of this kind; itself, where that is the first.
fn owner(rows: &[Row], at: usize, kind: usize) -> usize {
    let inode = rows[at].inodes[kind];
    rows.iter().position(|row| row.inodes[kind] == inode).unwrap_or(at)
}

/// One row, with what the table shows of each kind and, for JSON, all that is known of it.
fn shown(rows: &[Row], at: usize) -> Value {
    let row = &rows[at];
    let mut fields = Map::new();
    let mut namespaces = Map::new();
    for (kind, (file, field, _)) in KINDS.iter().enumerate() {
        let owner = owner(rows, at, kind);
        let cell = match row.inodes[kind] {
            None => "-".to_owned(),
            Some(inode) if owner == at => inode.to_string(),
            Some(_) if owner == 0 => "host".to_owned(),
            Some(_) => format!("={}", rows[owner].name),
        };
        fields.insert((*field).to_owned(), cell.into());
        let with: Vec<&str> = rows
            .iter()
            .enumerate()
            .filter(|(other, one)| *other != at && one.inodes[kind] == row.inodes[kind])
            .map(|(_, one)| one.name.as_str())
            .collect();
        namespaces.insert((*file).to_owned(), json!({ "Inode": row.inodes[kind], "SharedWith": with }));
    }
    fields.insert("Name".into(), row.name.clone().into());
    fields.insert("ID".into(), row.id.clone().into());
    fields.insert("Pid".into(), if at == 0 { "-".into() } else { row.pid.to_string().into() });
    fields.insert("Command".into(), row.command.clone().into());
    fields.insert("Processes".into(), row.processes.into());
    fields.insert("Namespaces".into(), namespaces.into());
    Value::Object(fields)
}

/// Each row is a box with what is its own; what it shares is an arrow to the box that has it.
fn diagram(rows: &[Row]) -> String {
    let mut boxes = Vec::new();
    let mut arrows = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let mut lines = match at {
            0 => Vec::new(),
            _ => vec![format!("PID {}: {}", row.pid, row.command)],
        };
        let mut shared: Vec<(usize, Vec<&str>)> = Vec::new();
        for (kind, (file, _, keeps)) in KINDS.iter().enumerate() {
            let Some(inode) = row.inodes[kind] else { continue };
            let owner = owner(rows, at, kind);
            if owner == at {
                lines.push(format!("{file} {inode}: {keeps}"));
                continue;
            }
            match shared.iter_mut().find(|(other, _)| *other == owner) {
                Some((_, kinds)) => kinds.push(file),
                None => shared.push((owner, vec![file])),
            }
        }
        boxes.push(svg::Box { title: row.name.clone(), lines });
        arrows.extend(shared.into_iter().map(|(to, kinds)| svg::Arrow {
            from: at,
            to,
            text: kinds.join(", "),
            dashed: to == 0,
        }));
    }
    svg::draw("namespaces of containers", &boxes, &arrows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, first: u64, shared: &[(usize, u64)]) -> Row {
        let mut inodes: Inodes = std::array::from_fn(|kind| Some(first + kind as u64));
        for (kind, inode) in shared {
            inodes[*kind] = Some(*inode);
        }
        Row { name: name.into(), id: String::new(), pid: 1, command: String::new(), processes: 1, inodes }
    }

    #[test]
    fn the_same_number_is_the_same_namespace() {
        assert_eq!(inode("net:[4026531840]"), Some(4_026_531_840));
        assert_eq!(inode("net:4026531840"), None);
        let rows =
            [row("host", 100, &[]), row("web", 200, &[(6, 106)]), row("side", 300, &[(2, 202), (6, 106)])];
        let web = shown(&rows, 1);
        assert_eq!((&web["Net"], &web["User"]), (&json!("202"), &json!("host")));
        assert_eq!(web["Namespaces"]["net"], json!({ "Inode": 202, "SharedWith": ["side"] }));
        let side = shown(&rows, 2);
        assert_eq!(
            (&side["Net"], &side["User"], &side["Mnt"]),
            (&json!("=web"), &json!("host"), &json!("300"))
        );
        let drawn = diagram(&rows);
        assert!(drawn.contains("net 202: links, addresses, ports") && !drawn.contains("net 302"), "{drawn}");
    }
}
