//! `why`: what keeps a container from running, from being healthy or from being reached.
//!
//! What is known is gathered here: its records, the journal of events, the last lines of its log, its program's file, who listens in its
//! network, what its disks have room for. What follows from that is worked out in `ended` and `running`, which read nothing.

pub(crate) mod advice;
pub(crate) mod binary;
pub(crate) mod cause;
pub(crate) mod disks;
pub(crate) mod ended;
pub(crate) mod program;
pub(crate) mod running;
#[cfg(test)]
mod tests;

use std::os::fd::AsFd as _;

use rbox_runtime::cgroup::Cgroup;
use rbox_spec::container::{LogDriver, NetworkMode};
use rbox_spec::user::ResolvedUser;

use crate::copy::view::View;
use crate::journal::{self, Message};
use crate::logs::{LogEntry, LogQuery, LogReader};
use crate::monitor::oom;
use crate::networks::sockets;
use crate::oci::config::environment;
use crate::oci::user;
use crate::record::container::{Container, ContainerRecord, ExitRecord, LiveState, Status};
use crate::record::lock::Lock;
use crate::record::paths::Paths;
use crate::why::cause::Cause;
use crate::why::ended::{Seen, Sent};
use crate::why::program::Program;

/// So many lines of its log are looked at.
const LINES: u64 = 40;
/// Of a line that many characters.
const LINE: usize = 400;

/// The causes, the most telling first. None of a container that runs and has nothing wrong with it.
pub(crate) fn why(paths: &Paths, container: &Container) -> Vec<Cause> {
    match (container.status, &container.exit) {
        (Status::Running | Status::Paused, _) => of_running(paths, container),
        (Status::Dead, exit) => {
            let error = exit.as_ref().map(|exit| exit.error.clone()).unwrap_or_default();
            vec![Cause::Unreadable { error }]
        }
        (_, None) => vec![Cause::NeverStarted],
        (status, Some(exit)) => {
            let mut all = ended::causes(&container.record, exit, &seen(paths, container, exit));
            if status == Status::Restarting {
                let policy = container.record.host.restart.to_string();
                all.insert(0, Cause::Restarting { policy, count: exit.restart_count });
            }
            all
        }
    }
}

fn of_running(paths: &Paths, container: &Container) -> Vec<Cause> {
    let record = &container.record;
    let mut all = Vec::new();
    if container.status == Status::Paused {
        all.push(Cause::Paused);
    }
    if !Lock::is_held(&paths.live_of(&record.id)) {
        all.push(Cause::Unwatched);
    }
    let is_short = |live: &LiveState| Cgroup::open(&live.cgroup).is_ok_and(|group| group.oom_kills() > 0);
    if container.live.as_ref().is_some_and(is_short) {
        let told = oom::told(&record.id).unwrap_or_default();
        all.push(Cause::LostToMemory { told, limit: record.host.resources.memory });
    }
    if let (Some(health), Some(command)) = (&container.health, record.config.health_command()) {
        all.extend(running::health(&command, health));
    }
    let own_network = matches!(record.host.network, NetworkMode::Bridge);
    if let Some(live) = container.live.as_ref().filter(|_| own_network) {
        let address = live.main_endpoint().map(|endpoint| endpoint.ip.into());
        all.extend(running::ports(&live.published, address, &sockets::sockets(&live.pid.to_string())));
    }
    let view = View::open(paths, container).ok();
    all.extend(disks::full(paths, record, view.as_ref()));
    all.extend(container.live.as_ref().and_then(|live| disks::full_shm(record, live.pid)));
    if let Some(user) = view.as_ref().and_then(|view| user_of(view, record))
        && last_lines(paths, record, None).iter().any(|line| ended::was_denied(line))
    {
        all.extend(disks::denied(paths, record, &user));
    }
    all
}

/// What there is of a life that is over.
fn seen(paths: &Paths, container: &Container, exit: &ExitRecord) -> Seen {
    let record = &container.record;
    let log = last_lines(paths, record, Some(exit));
    let mut seen = Seen { log, failed_check: failed_check(container), ..Seen::default() };
    hear(paths, record, &mut seen);
    if exit.exit_code == 0 && exit.error.is_empty() {
        return seen;
    }
    // Between two lives it is its monitor's.
    let view = (container.status != Status::Restarting).then(|| View::open(paths, container).ok()).flatten();
    seen.full = disks::full(paths, record, view.as_ref());
    let Some(view) = view else { return seen };
    let found = user_of(&view, record);
    let user = found.clone().unwrap_or_else(|| ResolvedUser { uid: 0, ..ResolvedUser::default() });
    seen.program = fault_of_program(&view, record, &user);
    if let Some(user) = found {
        seen.denied = disks::denied(paths, record, &user);
    }
    seen
}

fn user_of(view: &View<'_>, record: &ContainerRecord) -> Option<ResolvedUser> {
    user::lookup(view.root.as_fd(), &record.config.user, &record.host.group_add).ok()
}

fn fault_of_program(view: &View<'_>, record: &ContainerRecord, user: &ResolvedUser) -> Option<Cause> {
    let args = [&record.config.entrypoint[..], &record.config.cmd[..]].concat();
    let env = environment(record, user);
    let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or_default();
    let path = path.split(':').filter(|dir| dir.starts_with('/')).map(str::to_owned).collect();
    Program { root: view.root.as_fd(), args: &args, path, cwd: &record.config.working_dir, user }.fault()
}

fn failed_check(container: &Container) -> Option<String> {
    let last = container.health.as_ref()?.log.last()?;
    (last.exit_code != 0).then(|| last.output.clone())
}

/// The signals of its last life, from the journal.
fn hear(paths: &Paths, record: &ContainerRecord, seen: &mut Seen) {
    journal::history(paths, &record.id, &mut |message: &Message| match message.action.as_str() {
        "start" => {
            seen.sent.clear();
            seen.was_stopped = false;
        }
        "kill" => {
            let signal = message.attributes.get("signal").and_then(|signal| signal.parse().ok());
            seen.sent.extend(signal.map(|signal| Sent { at: message.timestamp(), signal }));
        }
        "stop" => seen.was_stopped = true,
        _ => {}
    });
}

/// The last lines of its log; with `exit` of that life.
fn last_lines(paths: &Paths, record: &ContainerRecord, exit: Option<&ExitRecord>) -> Vec<String> {
    if record.host.log_driver == LogDriver::None {
        return Vec::new();
    }
    let since = exit.and_then(|exit| exit.started);
    let query = LogQuery { tail: Some(LINES), since, ..LogQuery::default() };
    let mut lines = Vec::new();
    let mut sink = |entry: &LogEntry<'_>| {
        let line: String = String::from_utf8_lossy(&entry.text).trim_end().chars().take(LINE).collect();
        if !line.is_empty() {
            lines.push(line);
        }
        Ok(())
    };
    // Without a log there is less to say.
    let _ = LogReader::new(&paths.log(&record.id)).read(&query, false, &mut sink);
    lines
}
