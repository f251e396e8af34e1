//! `rbox system boot`, `shutdown` and `unit`: containers that come and go with the host.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use rbox_engine::engine::{ContainerRecord, DEFAULT_ROOT, DEFAULT_STATE};
use rbox_engine::error::EngineError;
use rbox_engine::host::{Patience, run_program};

use crate::args::patience::Patience as Seconds;
use crate::command::entry::Execute;
use crate::command::error::{NOT_DONE, report};
use crate::command::global::Global;
use crate::output::lines::say;

/// Start the containers that their restart policy starts with the host
#[derive(Debug, Parser)]
#[command(
    name = "boot",
    after_help = "Examples:\n  rbox system boot      # policy always, and unless-stopped if it was not stopped by hand\n  rbox system unit      # the systemd unit that calls this when the host comes up"
)]
pub(crate) struct Boot {
    /// Then stay, so that the systemd unit keeps its control group
    #[arg(long)]
    stay: bool,
}

impl Execute for Boot {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut told = Told { doing: "start", code: 0 };
        global.engine.boot(&mut |record, result| told.one(record, result))?;
        if self.stay {
            rbox_engine::engine::stay();
        }
        Ok(told.code)
    }
}

/// Stop all containers; the next boot starts them again by their restart policy
#[derive(Debug, Parser)]
#[command(
    name = "shutdown",
    after_help = "Examples:\n  rbox system shutdown           # all at once, each with its own stop signal and timeout\n  rbox system shutdown -t 30"
)]
pub(crate) struct Shutdown {
    #[command(flatten)]
    patience: Seconds,
}

impl Execute for Shutdown {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let mut told = Told { doing: "stop", code: 0 };
        global.engine.shutdown(self.patience.timeout, &mut |record, result| told.one(record, result))?;
        Ok(told.code)
    }
}

/// Names on standard output, reasons on standard error.
struct Told {
    doing: &'static str,
    code: u8,
}

impl Told {
    fn one(&mut self, record: &ContainerRecord, result: Result<(), EngineError>) {
        let done = match result {
            Ok(()) => say(record.name.as_str()),
            Err(error) => Err(anyhow::Error::from(error).context(format!("{} {}", self.doing, record.name))),
        };
        if let Err(error) = done {
            report(&error);
            self.code = NOT_DONE;
        }
    }
}

/// Print or install the systemd unit that starts containers with the host
#[derive(Debug, Parser)]
#[command(
    name = "unit",
    after_help = "Examples:\n  rbox system unit                # prints it\n  rbox system unit --install      # writes it, and enables and starts it\n  rbox system unit --install --prefix /mnt/image"
)]
pub(crate) struct Unit {
    /// Write it to /etc/systemd/system, enable it, and start it where systemd runs
    #[arg(long)]
    install: bool,
    /// Root directory of the system it is installed in, when that is not this one
    #[arg(long, value_name = "DIR", requires = "install")]
    prefix: Option<PathBuf>,
    /// Path of rbox on that system
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

const NAME: &str = "rbox.service";
const DIR: &str = "etc/systemd/system";

impl Execute for Unit {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => rbox_engine::own_file::path()?,
        };
        let text = unit(&program, global)?;
        if !self.install {
            return say(text.trim_end()).map(|()| 0);
        }
        let root = self.prefix.as_deref().unwrap_or(Path::new("/"));
        anyhow::ensure!(root.is_dir(), "--prefix {}: there is no such directory", root.display());
        let file = write(root, &text)?;
        say(&file.display().to_string())?;
        if self.prefix.is_none() && Path::new("/run/systemd/system").is_dir() {
            for args in [&["daemon-reload"][..], &["start", NAME]] {
                systemctl(args)?;
            }
        }
        Ok(0)
    }
}

/// The unit, and the link that enables it.
fn write(root: &Path, text: &str) -> anyhow::Result<PathBuf> {
    let dir = root.join(DIR);
    let wants = dir.join("multi-user.target.wants");
    std::fs::create_dir_all(&wants).with_context(|| format!("make {}", wants.display()))?;
    let file = dir.join(NAME);
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    let link = wants.join(NAME);
    match std::os::unix::fs::symlink(format!("../{NAME}"), &link) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("make the link {}", link.display()))
        }
        _ => Ok(file),
    }
}

/// How long systemd may take. It starts the containers that are to run with the host, one after the other; it goes on with that
/// when it is not waited for any more.
const SYSTEMCTL: Patience = Patience::of_working(Duration::from_mins(10));

fn systemctl(args: &[&str]) -> anyhow::Result<()> {
    let line = format!("systemctl {}", args.join(" "));
    let out = run_program(Command::new("systemctl").args(args), &[], SYSTEMCTL)
        .with_context(|| format!("run {line}"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        anyhow::bail!("{line}: {}: {}", out.status, said.trim());
    }
    Ok(())
}

/// The unit for `program` and these directories.
fn unit(program: &Path, global: &Global) -> anyhow::Result<String> {
    let mut line = quoted(program)?;
    for (flag, dir, default) in [
        ("--root", &global.engine.paths().root, DEFAULT_ROOT),
        ("--state", &global.engine.paths().state, DEFAULT_STATE),
    ] {
        if dir != Path::new(default) {
            line = format!("{line} {flag} {}", quoted(dir)?);
        }
    }
    let root = quoted(&global.engine.paths().root)?;
    Ok(format!(
        "# Made by rbox system unit.
[Unit]
Description=Containers of rbox
Wants=network-online.target
After=network-online.target nftables.service firewalld.service
RequiresMountsFor={root}

[Service]
# One process stays that does nothing: systemd takes the group of a unit without processes away. A container that
# cannot be started is told in the journal; the others still want to be stopped with the host.
Type=notify
ExecStart={line} system boot --stay
ExecStop={line} system shutdown
TimeoutStartSec=infinity
TimeoutStopSec=5min
# The containers' groups and their monitors' lie below this unit's, which is rbox's own; the end of a command of this
# unit is not theirs.
Delegate=yes
KillMode=process
TasksMax=infinity

[Install]
WantedBy=multi-user.target
"
    ))
}

/// A path as a unit file takes it: in quotes where it must be, `%` doubled.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    let text = text.with_context(|| format!("{}: a unit file cannot name this path", path.display()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use rbox_engine::engine::{Engine, Nobody, Paths};

    use super::*;

    #[test]
    fn the_unit_names_what_is_not_usual() {
        let global = |root: &str, state: &str| Global {
            engine: Engine::open(Paths { root: root.into(), state: state.into() }, Arc::new(Nobody)),
            tree: clap::Command::default,
            project: crate::args::project::ProjectFlags::default(),
        };
        let usual = unit(Path::new("/usr/bin/rbox"), &global(DEFAULT_ROOT, DEFAULT_STATE)).unwrap();
        assert!(usual.contains("\nExecStart=/usr/bin/rbox system boot --stay\n"), "{usual}");
        assert!(usual.contains("\nExecStop=/usr/bin/rbox system shutdown\n"), "{usual}");
        let other = unit(Path::new("/opt/a b/rbox"), &global("/srv/100%", DEFAULT_STATE)).unwrap();
        assert!(
            other.contains("\nExecStart=\"/opt/a b/rbox\" --root \"/srv/100%%\" system boot --stay\n"),
            "{other}"
        );
    }
}
