//! What is really there, for the checks: containers, their processes, what happened since a task began, and the command that was just run.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use rbox_engine::engine::{Container, Engine, EventQuery, LayerKind, Message};

use crate::container::process::Process;

/// A line that was carried out.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    /// Its words.
    pub(crate) words: Vec<String>,
    /// Its exit code.
    pub(crate) code: i32,
    /// How long it took.
    pub(crate) took: Duration,
    /// The kinds of namespaces in which one of its processes was that are not the tour's own. Only of programs other than rbox.
    pub(crate) new_namespaces: BTreeSet<&'static str>,
}

/// What a check looks at.
pub(crate) struct Scene<'a> {
    pub(crate) engine: &'a Engine,
    /// When the task began.
    pub(crate) since: Timestamp,
    /// What was run last in it.
    pub(crate) ran: Option<&'a Ran>,
}

/// The kinds of namespaces, as /proc/PID/ns calls them.
pub(crate) const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
/// How long a published port has to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most that is read of its answer, bytes.
const MOST: usize = 4096;

impl Scene<'_> {
    /// The container of this name.
    pub(crate) fn container(&self, name: &str) -> Result<Container, String> {
        self.engine.container(name).map_err(|_| format!("There is no container {name}."))
    }

    /// The same, while it runs.
    pub(crate) fn running(&self, name: &str) -> Result<(Container, i32), String> {
        let container = self.container(name)?;
        match &container.live {
            Some(live) if live.running => {
                let pid = live.pid;
                Ok((container, pid))
            }
            _ => Err(format!("The container {name} is there, and does not run.")),
        }
    }

    /// The exit code of a container that has ended.
    pub(crate) fn exit_code(&self, name: &str) -> Result<i32, String> {
        let container = self.container(name)?;
        if container.is_running() {
            return Err(format!("The container {name} still runs."));
        }
        container.exit.map(|exit| exit.exit_code).ok_or_else(|| format!("The container {name} never ran."))
    }

    /// What happened to the tour's containers since the task began.
    pub(crate) fn events(&self) -> Vec<Message> {
        let query =
            EventQuery { since: Some(self.since), until: Some(Timestamp::now()), ..EventQuery::default() };
        let mut all = Vec::new();
        // Without the journal nothing is seen, and the learner is told so.
        let _ = self.engine.events(&query, &mut |message| {
            all.push(message.clone());
            Ok(())
        });
        all
    }

    /// The exit code of the program `program` that `exec` ran in a container since the task began.
    pub(crate) fn executed(&self, name: &str, program: &str) -> Option<i32> {
        let events = self.events();
        let of = |message: &&Message, action: &str| {
            message.attributes.get("name").is_some_and(|of| of == name) && message.action.starts_with(action)
        };
        let begun = events.iter().rev().find(|message| {
            let line = message.action.strip_prefix("exec_start: ").unwrap_or_default();
            let word = line.split_whitespace().next().unwrap_or_default();
            of(message, "exec_start") && word.trim_start_matches('/') == program
        })?;
        let id = begun.attributes.get("execID");
        let end = events
            .iter()
            .find(|message| of(message, "exec_die") && message.attributes.get("execID") == id)?;
        end.attributes.get("exitCode")?.parse().ok()
    }

    /// The containers that have ended since the task began: their names and exit codes.
    pub(crate) fn ended(&self) -> Vec<(String, i32)> {
        let events = self.events();
        let ends = events.iter().filter(|message| message.action == "die");
        ends.filter_map(|message| {
            let code = message.attributes.get("exitCode")?.parse().ok()?;
            Some((message.attributes.get("name")?.clone(), code))
        })
        .collect()
    }

    /// Whether the line was this command of rbox's for this container, and went well. For what only looks: it leaves no trace but this.
    pub(crate) fn looked(&self, command: &str, at: &str) -> Result<(), String> {
        let Some(ran) = self.ran else { return Err("Nothing was run yet.".to_owned()) };
        let [program, first, rest @ ..] = ran.words.as_slice() else {
            return Err(format!("That was not rbox {command}."));
        };
        if program != "rbox" || first != command {
            return Err(format!("That was not rbox {command}."));
        }
        let meant = self.container(at)?.record.id;
        let names = rest.iter().filter(|word| !word.starts_with('-'));
        let is_meant = |word: &String| self.engine.container(word).is_ok_and(|one| one.record.id == meant);
        if !names.into_iter().any(is_meant) {
            return Err(format!("That was not about {at}."));
        }
        if ran.code == 0 { Ok(()) } else { Err(format!("It ended with {}.", ran.code)) }
    }

    /// Whether a container has changed this path.
    pub(crate) fn has_changed(&self, container: &Container, wanted: &str) -> bool {
        let mut found = false;
        let read = self.engine.changes(container, &mut |_, path| {
            found |= path == std::path::Path::new(wanted);
            Ok(())
        });
        read.is_ok() && found
    }

    /// The directory that a container's changes are in.
    pub(crate) fn upper(&self, container: &Container) -> Result<PathBuf, String> {
        let layers = self.engine.file_layers(container).map_err(|error| error.to_string())?;
        let upper = layers.into_iter().find(|layer| layer.kind == LayerKind::Upper);
        upper.map(|layer| layer.dir).ok_or_else(|| "It has no layer of its own.".to_owned())
    }
}

/// A process on the host: its user there.
pub(crate) fn user_of(pid: i32) -> Result<u32, String> {
    Process::read(pid).map(|process| process.uid).ok_or_else(|| "It has ended.".to_owned())
}

/// The kinds of namespaces in which two processes are together.
pub(crate) fn shared(one: &str, other: &str) -> Vec<&'static str> {
    let link = |pid: &str, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let is_shared = |kind: &&str| link(one, kind).is_some() && link(one, kind) == link(other, kind);
    KINDS.into_iter().filter(is_shared).collect()
}

/// Whether somebody listens on a TCP port in the network namespace of a process.
pub(crate) fn listens(pid: i32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let text = rbox_engine::host::read_proc(&format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let wanted = format!(":{port:04X}");
    String::from_utf8_lossy(&text).lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1).is_some_and(|local| local.ends_with(&wanted)) && fields.get(3) == Some(&LISTEN)
    })
}

/// The page that is served on a port of this host.
pub(crate) fn page(port: u16) -> Option<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET / HTTP/1.0\r\n\r\n").ok()?;
    let (mut answer, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..length]);
        // It is the learner's server, and may be any.
        if answer.len() > MOST {
            break;
        }
    }
    let text = String::from_utf8_lossy(&answer);
    Some(text.split_once("\r\n\r\n")?.1.trim().to_owned())
}

/// What this host is called.
pub(crate) fn name_of_host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
