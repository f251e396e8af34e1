//! `rbox start` and `rbox attach`: to a container that exists.

use std::os::fd::OwnedFd;

use clap::Parser;
use rbox_engine::engine::{Container, StartOptions, Status};
use rbox_engine::error::EngineError;
use rbox_engine::session::{ToMonitor, send_message};

use crate::command::each::each;
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, bad_input};
use crate::command::global::Global;
use crate::output::lines::say;
use crate::session::client::{self, Attachment, DEFAULT_DETACH_KEYS};
use crate::session::output::Shown;
use crate::session::peers::MonitorPeer;
use crate::session::start::{exit_code, signal_proxy};

/// Start one or more stopped containers
#[derive(Debug, Parser)]
#[command(
    name = "start",
    after_help = "Examples:\n  rbox start web\n  rbox start -a job      # and see its output, and end with its exit code"
)]
pub(crate) struct Start {
    /// Attach to its output, pass signals on, and end with its exit code
    #[arg(short, long)]
    attach: bool,
    /// Attach its standard input
    #[arg(short, long)]
    interactive: bool,
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS", default_value = DEFAULT_DETACH_KEYS, hide_default_value = true)]
    detach_keys: String,
    /// Their names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Execute for Start {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        if !self.attach && !self.interactive {
            return Ok(each(&self.containers, |name| {
                let container = global.engine.container(name)?;
                if !container.is_active() {
                    drop(global.engine.start(&container, StartOptions::default())?);
                }
                say(name)
            }));
        }
        let [name] = &self.containers[..] else {
            return Err(bad_input("you cannot start and attach multiple containers at once"));
        };
        let keys = client::parse_detach_keys(&self.detach_keys)?;
        // What another command started may have ended before this one is attached: then it is started again.
        for _ in 0..MOST_TRIES {
            if let Some(code) = self.try_once(global, name, &keys)? {
                return Ok(code);
            }
        }
        anyhow::bail!("container {name} is started by others, and ends before this command is attached to it")
    }
}

/// How often a container is started that others start, too.
const MOST_TRIES: u32 = 20;

impl Start {
    /// None: it was running, and has ended by now.
    fn try_once(&self, global: &Global, name: &str, keys: &[u8]) -> anyhow::Result<Option<u8>> {
        let container = global.engine.container(name)?;
        let record = &container.record;
        if container.is_running() {
            return attach_to(global, &container, self.interactive, keys, true);
        }
        refuse_restarting(&container)?;
        let input = self.interactive && record.config.open_stdin;
        client::require_terminal(input, record.config.tty)?;
        let size = client::size().filter(|_| record.config.tty);
        let options = StartOptions { attach: true, size, ..StartOptions::default() };
        // As Docker's client, not with the code that the container has from it.
        let refused = |error: EngineError| Coded { message: error.with_causes(), code: NOT_DONE };
        let started = global.engine.start(&container, options).map_err(refused)?;
        let Some(socket) = started.socket() else {
            return attach_to(global, &global.engine.container(name)?, self.interactive, keys, true);
        };
        carry(global, &container, socket, input, keys, true).map(Some)
    }
}

/// Attach local standard input, output, and error streams to a running container
#[derive(Debug, Parser)]
#[command(
    name = "attach",
    after_help = "Examples:\n  rbox attach shell          # Ctrl-P Ctrl-Q detaches again\n  rbox attach --no-stdin web"
)]
pub(crate) struct Attach {
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS", default_value = DEFAULT_DETACH_KEYS, hide_default_value = true)]
    detach_keys: String,
    /// Do not attach standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the program
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Its name or id
    container: String,
}

impl Execute for Attach {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let keys = client::parse_detach_keys(&self.detach_keys)?;
        let container = global.engine.container(&self.container)?;
        attach(global, &container, !self.no_stdin, &keys, self.sig_proxy)
    }
}

/// Attaches to a container that runs: its exit code.
pub(crate) fn attach(
    global: &Global,
    container: &Container,
    input: bool,
    keys: &[u8],
    proxy: bool,
) -> anyhow::Result<u8> {
    match container.status {
        Status::Running => match attach_to(global, container, input, keys, proxy)? {
            Some(code) => Ok(code),
            // It ended just now.
            None => anyhow::bail!(STOPPED),
        },
        Status::Restarting => refuse_restarting(container).map(|()| 0),
        Status::Paused => anyhow::bail!("You cannot attach to a paused container, unpause it first"),
        _ => anyhow::bail!(STOPPED),
    }
}

fn refuse_restarting(container: &Container) -> anyhow::Result<()> {
    if container.status == Status::Restarting {
        anyhow::bail!("You cannot attach to a restarting container, wait until it is running");
    }
    Ok(())
}

const STOPPED: &str = "You cannot attach to a stopped container, start it first";

/// Has the program show its prompt or its screen again: as with Docker its terminal gets another size for a moment, which also
/// tells one that has the right size already. Where the command's own terminal has none, it gets back the one it had. A monitor
/// that is gone shows in the session.
fn redraw(socket: &OwnedFd, size: Option<(u16, u16)>) {
    let (rows, columns) = size.unwrap_or_default();
    let other = (rows.saturating_add(1), columns.saturating_add(1));
    for (rows, columns) in [other, (rows, columns)] {
        let packet = ToMonitor::Resize(rows, columns).encode();
        let _ = send_message(socket, &packet);
        if (rows, columns) == other {
            // Long enough for a program to look at the size in between: some draw only when it changed.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// None: it has ended meanwhile.
fn attach_to(
    global: &Global,
    container: &Container,
    input: bool,
    keys: &[u8],
    proxy: bool,
) -> anyhow::Result<Option<u8>> {
    let input = input && container.record.config.open_stdin;
    client::require_terminal(input, container.record.config.tty)?;
    let refused = |error: EngineError| Coded { message: error.with_causes(), code: NOT_DONE };
    let Some(socket) = global.engine.attach(container).map_err(refused)? else { return Ok(None) };
    if container.record.config.tty && client::has_terminal() {
        redraw(&socket, client::size());
    }
    carry(global, container, socket, input, keys, proxy).map(Some)
}

fn carry(
    global: &Global,
    container: &Container,
    socket: OwnedFd,
    input: bool,
    detach_keys: &[u8],
    proxy: bool,
) -> anyhow::Result<u8> {
    let record = &container.record;
    let pass_on = signal_proxy(global, record);
    let attachment = Attachment {
        input,
        shown: Shown::ALL,
        tty: record.config.tty,
        detach_keys,
        // Docker's client leaves a program with a terminal alone here, unlike `run`.
        proxy: (proxy && !record.config.tty).then_some(&pass_on),
    };
    let ended = client::run(&mut MonitorPeer::new(socket)?, attachment)?;
    exit_code(global, record, &ended)
}
