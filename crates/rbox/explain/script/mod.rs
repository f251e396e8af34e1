//! `--explain=sh`: the same container made by commands of util-linux, iproute2 and nftables.
//!
//! Each line stands for calls that were made. What no command does is listed at the top, so that nothing is left out in silence.

mod identity;
mod lines;
mod mounts;
mod network;
mod words;

use std::collections::HashMap;

use crate::explain::args::{descriptor, split, text};
use crate::explain::event::{Call, Event};
use crate::explain::script::identity::Identity;
use crate::explain::script::lines::{Lines, comment};
use crate::explain::script::mounts::{Open, Tree};
use crate::explain::script::network::Network;
use crate::explain::script::words::{Renamed, document, printf, renamed, word};
use crate::explain::show::Show;

/// Of calls that make nothing: they look, open what others name, or are put by what a command is.
const SILENT: [&str; 17] = [
    "openat",
    "openat2",
    "open",
    "close_range",
    "socket",
    "fcntl",
    "dup2",
    "setsid",
    "fchdir",
    "umount2",
    "capget",
    "pidfd_open",
    "pidfd_getfd",
    "pidfd_send_signal",
    "linkat",
    "rmdir",
    "bind",
];

/// In place of a script.
const BEYOND: &str = r#"#!/bin/sh
echo "no script: commands cannot make a container that has a user namespace or is in namespaces of others" >&2
exit 1
"#;

/// In place of a script of which there is no tree to make: it did not come so far, or layers were stacked by one call, before Linux 6.7.
const NO_TREE: &str = r#"#!/bin/sh
echo "no script: the layers were not stacked, or by a kernel before Linux 6.7" >&2
exit 1
"#;

/// Whether there are no commands for a run with this call.
fn is_beyond(call: &Call) -> bool {
    call.args.contains("CLONE_NEWUSER") || (call.name == "setns" && call.actor == "container")
}

/// All that is told, until it is over.
#[derive(Debug)]
pub(crate) struct Script {
    command: String,
    calls: Vec<Call>,
    whys: HashMap<String, String>,
}

impl Script {
    pub(crate) fn new(command: &str) -> Self {
        Self {
            command: crate::output::escape::text(command).into_owned(),
            calls: Vec::new(),
            whys: HashMap::new(),
        }
    }
}

impl Show for Script {
    fn event(&mut self, event: &Event) -> String {
        match event {
            Event::Step(step) => drop(self.whys.insert(step.name.clone(), step.why.clone())),
            Event::Call(call) if call.worked() => self.calls.push(call.clone()),
            Event::Call(_) | Event::End(_) | Event::View { .. } => {}
        }
        String::new()
    }

    fn end(&mut self) -> String {
        if self.calls.iter().any(is_beyond) {
            return BEYOND.to_owned();
        }
        let Some(facts) = Facts::of(&self.calls) else {
            return if self.calls.is_empty() { String::new() } else { NO_TREE.to_owned() };
        };
        let mut commands = Commands::new(&facts, &self.whys);
        self.calls.iter().for_each(|call| commands.call(call));
        commands.script(&self.command)
    }
}

/// What must be known before the first line.
#[derive(Debug)]
struct Facts {
    id: String,
    /// The container's directory below the root.
    dir: String,
    /// Where its tree is put together.
    stage: String,
    names: Vec<Renamed>,
}

impl Facts {
    fn of(calls: &[Call]) -> Option<Self> {
        let upper = calls.iter().find_map(|call| match (call.name.as_str(), &split(&call.args)[..]) {
            ("fsconfig", [_, _, r#""upperdir""#, upper]) => text(upper),
            _ => None,
        });
        let dir = upper?.strip_suffix("/upper")?.to_owned();
        let id = dir.rsplit('/').next()?.to_owned();
        let stage = calls
            .iter()
            .find(|call| call.step.as_deref() == Some("attach the root") && call.name == "move_mount");
        let stage = descriptor(split(&stage?.args).get(2)?)?.1?.to_owned();
        let names = vec![
            Renamed { was: dir.clone(), is: r#""$work""# },
            Renamed { was: id.clone(), is: r#""$name""# },
        ];
        Some(Self { id, dir, stage, names })
    }

    /// The name of what is made by hand.
    fn name(&self) -> String {
        format!("byhand-{}", self.id.get(..12).unwrap_or(&self.id))
    }

    fn word(&self, path: &str) -> String {
        renamed(path, &self.names)
    }
}

/// The parts of the script.
#[derive(Debug)]
struct Commands<'a> {
    facts: &'a Facts,
    whys: &'a HashMap<String, String>,
    /// What each process has open.
    open: HashMap<String, Open>,
    group: Groups,
    files: Vec<String>,
    network: Network,
    host: Lines,
    inside: Lines,
    /// Options of unshare(1).
    unshare: Vec<&'static str>,
    identity: Identity,
    /// What no command does.
    missing: Vec<String>,
}

/// Control groups.
#[derive(Debug, Default)]
struct Groups {
    lines: Lines,
    /// Those that the script removes.
    own: Vec<String>,
    /// The files by which a process gets into them.
    join: Vec<String>,
}

impl<'a> Commands<'a> {
    fn new(facts: &'a Facts, whys: &'a HashMap<String, String>) -> Self {
        Self {
            facts,
            whys,
            open: HashMap::new(),
            group: Groups::default(),
            files: Vec::new(),
            network: Network::default(),
            host: Lines::default(),
            inside: Lines::default(),
            unshare: Vec::new(),
            identity: Identity::default(),
            missing: Vec::new(),
        }
    }

    fn call(&mut self, call: &Call) {
        let is_done = match call.name.as_str() {
            "write" => self.write(call),
            "clone3" => self.clone3(call),
            "unshare" => self.namespaces(&call.args),
            "mkdirat" if call.args.contains("\"/sys/fs/cgroup/") => self.make_group(call),
            "sendto" | "setns" => self.wire(call),
            "sethostname" | "setdomainname" => self.set_name(call),
            "pivot_root" => {
                let lines = ["mount --move . /".to_owned()];
                self.inside.put(call, self.whys, lines);
                true
            }
            _ if self.identity.call(call) => true,
            _ => self.mount(call),
        };
        if !is_done && !SILENT.contains(&call.name.as_str()) {
            let what = format!(
                "{}({}): {}",
                call.name,
                brief(&call.args),
                call.step.as_deref().unwrap_or("between two steps")
            );
            if !self.missing.contains(&what) {
                self.missing.push(what);
            }
        }
    }

    fn mount(&mut self, call: &Call) -> bool {
        let monitor = self.open.get("monitor").cloned().unwrap_or_default();
        let open = self.open.entry(call.actor.clone()).or_insert(monitor);
        let tree = Tree { stage: &self.facts.stage, names: &self.facts.names };
        let Some(lines) = open.call(call, &tree) else { return false };
        let is_root = call.step.as_deref() == Some("attach the root") && !lines.is_empty();
        self.inside.put(call, self.whys, lines);
        if is_root {
            // It is made where the host has it: from here on the tree is where the commands stand.
            if let Some(line) = self.inside.lines.last_mut() {
                *line = format!("{}\"$work\"/root", line.strip_suffix('.').unwrap_or(line));
            }
            self.inside.lines.push(r#"cd "$work"/root"#.to_owned());
        }
        true
    }

    fn clone3(&mut self, call: &Call) -> bool {
        let args = split(&call.args);
        let of = |name: &str| args.first().and_then(|arg| crate::explain::args::field(arg, name));
        if let Some((_, Some(group))) = of("cgroup").and_then(descriptor) {
            self.group.join.push(format!("{group}/cgroup.procs"));
        }
        self.namespaces(of("flags").unwrap_or_default())
    }

    /// Namespaces that are made new.
    fn namespaces(&mut self, flags: &str) -> bool {
        let mut known = true;
        for flag in flags.split('|') {
            let options: &[&str] = match flag {
                "CLONE_NEWNS" => &["--mount", "--propagation unchanged"],
                "CLONE_NEWUTS" => &["--uts"],
                "CLONE_NEWIPC" => &["--ipc"],
                "CLONE_NEWPID" => &["--pid", "--fork --kill-child"],
                "CLONE_NEWCGROUP" => &["--cgroup"],
                "CLONE_NEWNET" => {
                    self.network.is_own = true;
                    &[]
                }
                "CLONE_PIDFD" | "CLONE_INTO_CGROUP" | "0" => &[],
                _ => {
                    known = false;
                    &[]
                }
            };
            self.unshare.extend(options);
        }
        known
    }

    fn wire(&mut self, call: &Call) -> bool {
        let Some(lines) = self.network.call(call, &self.facts.id) else { return false };
        self.host.put(call, self.whys, lines);
        true
    }

    fn set_name(&mut self, call: &Call) -> bool {
        let Some(name) = crate::explain::args::unquoted(&call.args) else { return false };
        let file = if call.name == "sethostname" { "hostname" } else { "domainname" };
        // /proc is read-only in the tree by now; the host's is still at its place.
        let line = format!("echo {} > /proc/sys/kernel/{file}", word(&name));
        self.inside.put(call, self.whys, [line]);
        true
    }

    fn make_group(&mut self, call: &Call) -> bool {
        let Some(path) = split(&call.args).get(1).and_then(|arg| text(arg)) else { return false };
        let place = self.facts.word(&path);
        let line = format!("mkdir -p {place}");
        if path.contains(&self.facts.id) {
            self.group.own.insert(0, place);
        }
        self.group.lines.put(call, self.whys, [line]);
        true
    }

    fn write(&mut self, call: &Call) -> bool {
        let args = split(&call.args);
        let (Some(to), Some(value)) = (args.first(), args.get(1).and_then(|arg| text(arg))) else {
            // A record of rbox's, whose text is not told.
            return true;
        };
        let Some((_, Some(path))) = descriptor(to) else { return self.file(to, &value) };
        let echo = |place: String| format!("echo {} > {place}", word(value.as_bytes()));
        let tree = Tree { stage: &self.facts.stage, names: &self.facts.names };
        if path.starts_with("/sys/fs/cgroup/") {
            if ["/tasks", "/cgroup.procs"].iter().any(|end| path.ends_with(end)) {
                self.group.join.push(path.to_owned());
            } else {
                self.group.lines.put(call, self.whys, [echo(self.facts.word(path))]);
            }
        } else if let Some(path) = tree.inside(path) {
            self.inside.put(call, self.whys, [echo(self.facts.word(path.trim_start_matches('/')))]);
        } else if let Some(key) = path.strip_prefix("/proc/sys/") {
            let line = self.network.sysctl(key, &value);
            self.host.put(call, self.whys, [line]);
        } else if path.ends_with("/oom_score_adj") {
            self.inside.put(call, self.whys, [echo("/proc/self/oom_score_adj".to_owned())]);
        } else {
            return false;
        }
        true
    }

    /// A file of the container's own directory, which goes with the container.
    fn file(&mut self, path: &str, value: &str) -> bool {
        let Some(name) = text(path).and_then(|path| Some(path.strip_prefix(&self.facts.dir)?.to_owned()))
        else {
            return true;
        };
        let place = self.facts.word(&format!("{}{name}", self.facts.dir));
        let shown = value.replace(['\n', '\t'], "");
        if value.ends_with('\n') && crate::output::escape::text(&shown) == shown {
            self.files.extend(document(&format!("cat > {place}"), value));
        } else {
            self.files.push(format!("{} > {place}", printf(value.as_bytes())));
        }
        true
    }

    fn script(&self, command: &str) -> String {
        let parts = [
            self.begin(command),
            self.group.lines.lines.clone(),
            self.files.clone(),
            self.network.begin(),
            self.host.lines.clone(),
            self.within(),
            self.enter(),
        ];
        let parts = parts.iter().filter(|part| !part.is_empty()).map(|part| part.join("\n"));
        parts.collect::<Vec<_>>().join("\n\n") + "\n"
    }

    fn begin(&self, command: &str) -> Vec<String> {
        let mut lines = vec!["#!/bin/sh".to_owned(), format!("# By hand what `{command}` did, as root.")];
        lines.extend(comment(
            "It needs util-linux, iproute2 and, for a network, nftables. Its address was the container's, which has to have ended.",
        ));
        let missing = [&self.missing[..], &self.identity.missing()].concat();
        if !missing.is_empty() {
            lines.push("# Not in here, because no command does it:".to_owned());
            lines.extend(missing.iter().map(|what| format!("#   {what}")));
        }
        lines.extend(["set -eu".to_owned(), format!("name={}", self.facts.name())]);
        let set_up = [
            "work=$(mktemp -d)",
            "setpriv=$(command -v setpriv)",
            "unshare=$(command -v unshare)",
            "export name work setpriv unshare",
        ];
        lines.extend(set_up.map(str::to_owned));
        lines.extend(self.finish());
        lines.push(r#"mkdir "$work"/root "$work"/upper "$work"/work"#.to_owned());
        lines
    }

    /// What is done inside, in a file.
    fn within(&self) -> Vec<String> {
        let mut inside = vec!["set -eu".to_owned()];
        inside.extend(self.inside.lines.iter().cloned());
        inside.push(String::new());
        inside.extend(self.identity.lines(self.whys));
        let mut lines = comment("What is done inside, by the process that becomes the program.");
        lines.extend(document(r#"cat > "$work"/inside"#, &inside.join("\n")));
        lines
    }

    /// What the end takes away.
    fn finish(&self) -> Vec<String> {
        let mut lines = vec!["finish() {".to_owned(), "    code=$?".to_owned(), "    set +e".to_owned()];
        lines.extend(self.network.end().iter().map(|line| format!("    {line} 2>/dev/null")));
        lines.extend(self.group.own.iter().map(|group| format!("    rmdir {group} 2>/dev/null")));
        lines.push(r#"    rm -rf --one-file-system "$work""#.to_owned());
        lines.extend(["    exit \"$code\"", "}", "trap finish EXIT"].map(str::to_owned));
        // Not every shell runs that when a signal ends it.
        lines.extend(
            ["INT", "TERM", "HUP"]
                .iter()
                .zip([130, 143, 129])
                .map(|(name, code)| format!("trap 'exit {code}' {name}")),
        );
        lines
    }

    /// Into the groups and the namespaces.
    fn enter(&self) -> Vec<String> {
        let mut lines = comment(
            "Into the control groups, then into the namespaces: what is started from in there is counted.",
        );
        lines.push("(".to_owned());
        lines.extend(self.group.join.iter().map(|file| format!("    echo 0 > {}", self.facts.word(file))));
        let network = if self.network.is_own { "nsenter --net=/run/netns/\"$name\" " } else { "" };
        lines.push(format!("    exec {network}unshare {} sh \"$work\"/inside", self.unshare.join(" ")));
        // Nothing that stands behind this is read: the program's own lines may follow on the same stream.
        lines.extend([")".to_owned(), "exit".to_owned()]);
        lines
    }
}

/// The beginning of some arguments.
fn brief(args: &str) -> String {
    const MOST: usize = 60;
    if args.chars().count() <= MOST {
        args.to_owned()
    } else {
        args.chars().take(MOST).chain(['…']).collect()
    }
}
