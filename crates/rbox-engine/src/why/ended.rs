//! Why a container does not run: from what was seen of its last life. Nothing is read here.

use jiff::Timestamp;
use rbox_spec::container::LogDriver;
use rbox_spec::health::OnUnhealthy;
use rbox_spec::restart::RestartPolicy;
use rbox_spec::signal::Signal;

use crate::record::container::{ContainerRecord, ExitRecord, UNSEEN_EXIT};
use crate::why::cause::Cause;

/// What was seen of a life that is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The signals that commands of rbox sent, oldest first.
    pub(super) sent: Vec<Sent>,
    /// `stop` or `restart` has ended it.
    pub(super) was_stopped: bool,
    /// The last lines that it has written.
    pub(super) log: Vec<String>,
    /// What is wrong with its program's file.
    pub(super) program: Option<Cause>,
    /// What the last health check wrote, if it failed.
    pub(super) failed_check: Option<String>,
    /// File systems that are full.
    pub(super) full: Vec<Cause>,
    /// Mounts that its user cannot use.
    pub(super) denied: Vec<Cause>,
}

/// A signal that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) at: Timestamp,
    pub(super) signal: i32,
}

/// Why it has ended.
pub(super) fn causes(record: &ContainerRecord, exit: &ExitRecord, seen: &Seen) -> Vec<Cause> {
    if exit.exit_code == UNSEEN_EXIT && !exit.error.is_empty() {
        return vec![Cause::Unseen { error: exit.error.clone() }];
    }
    if !exit.error.is_empty() && !exit.oom_killed {
        return not_started(exit, seen);
    }
    let mut all = Vec::new();
    let out_of_memory = Cause::OutOfMemory { told: exit.error.clone(), limit: record.host.resources.memory };
    if exit.oom_killed && exit.exit_code != 0 {
        all.push(out_of_memory);
    } else {
        all.extend(exit.oom_killed.then_some(out_of_memory));
        all.extend(by_code(record, exit, seen));
    }
    let policy = record.host.restart;
    if matches!(policy, RestartPolicy::OnFailure(_))
        && exit.exit_code != 0
        && !exit.stopped
        && !policy.restarts(exit.exit_code, exit.restart_count)
    {
        all.push(Cause::RestartsUsedUp { policy: policy.to_string() });
    }
    all
}

/// A start that failed: the file says more than the kernel's number.
fn not_started(exit: &ExitRecord, seen: &Seen) -> Vec<Cause> {
    let is_of_program = exit.error.contains("exec: ") || matches!(exit.exit_code, 126 | 127);
    let fault = seen.program.clone().filter(|_| is_of_program);
    let mut all = vec![fault.unwrap_or_else(|| Cause::StartFailed { error: exit.error.clone() })];
    if exit.error.contains("No space left") || exit.error.contains("no space") {
        all.extend(seen.full.clone());
    }
    all
}

fn by_code(record: &ContainerRecord, exit: &ExitRecord, seen: &Seen) -> Vec<Cause> {
    if let Some(cause) = asked_for(record, exit, seen) {
        return vec![cause];
    }
    match exit.exit_code {
        0 => vec![Cause::Finished],
        code @ 129..=192 if exit.by_signal != Some(false) => vec![by_signal(code - 128)],
        code => failed(code, seen, record.host.log_driver == LogDriver::None),
    }
}

/// Somebody or something of rbox has ended it.
fn asked_for(record: &ContainerRecord, exit: &ExitRecord, seen: &Seen) -> Option<Cause> {
    let last = seen.sent.last()?;
    let first = seen.sent.iter().find(|sent| sent.signal != Signal::KILL.number());
    let is_killed = last.signal == Signal::KILL.number();
    let unhealthy = |output: &String, action: &str| Cause::KilledUnhealthy {
        output: output.trim_end().to_owned(),
        action: action.to_owned(),
    };
    if let (true, OnUnhealthy::Stop, Some(output)) =
        (seen.was_stopped, record.config.on_unhealthy, &seen.failed_check)
    {
        return Some(unhealthy(output, "stop"));
    }
    if seen.was_stopped {
        return Some(match first {
            Some(first) if is_killed => Cause::StopTimeout {
                signal: name(first.signal),
                waited: last.at.as_millisecond() - first.at.as_millisecond(),
                has_init: record.host.init,
            },
            _ => Cause::Stopped { signal: name(last.signal), exit_code: exit.exit_code },
        });
    }
    if exit.exit_code != 128 + last.signal {
        return None;
    }
    if is_killed && !exit.stopped {
        let ran = exit.started.map(|started| exit.finished.as_millisecond() - started.as_millisecond());
        if let (Some(seconds), Some(ran)) = (record.host.timeout, ran)
            && u64::try_from(ran).is_ok_and(|ran| ran >= seconds.saturating_mul(1000))
        {
            return Some(Cause::TimeLimit { seconds });
        }
        if let (OnUnhealthy::Kill, Some(output)) = (record.config.on_unhealthy, &seen.failed_check) {
            return Some(unhealthy(output, "kill"));
        }
    }
    Some(Cause::Killed { signal: name(last.signal) })
}

fn by_signal(number: i32) -> Cause {
    let signal = name(number);
    // ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS: the kernel's answers to what a program does.
    if matches!(number, 4..=8 | 11 | 24 | 25 | 31) {
        return Cause::Crashed { signal };
    }
    Cause::Signalled { signal }
}

/// The program has ended with a code of its own.
fn failed(exit_code: i32, seen: &Seen, unlogged: bool) -> Vec<Cause> {
    let mut all: Vec<Cause> = library(&seen.log).into_iter().collect();
    // A program that was executed has no other fault of these.
    let of_script =
        |cause: &&Cause| matches!(cause, Cause::CarriageReturns { .. } | Cause::InterpreterMissing { .. });
    all.extend(seen.program.iter().filter(of_script).cloned());
    if let Some(line) = seen.log.iter().rev().find(|line| had_no_space(line)) {
        if seen.full.is_empty() {
            all.push(Cause::NoSpaceTold { line: line.clone() });
        }
        all.extend(seen.full.clone());
    }
    if seen.log.iter().any(|line| was_denied(line)) {
        all.extend(seen.denied.clone());
    }
    let from = seen.log.len().saturating_sub(LAST_WORDS);
    let last_words = seen.log.get(from..).unwrap_or_default().to_vec();
    all.push(Cause::Failed { exit_code, last_words, unlogged });
    all
}

/// Whether a line of output is of somebody for whom there was no room.
fn had_no_space(line: &str) -> bool {
    ["No space left on device", "Disk quota exceeded", "Quota exceeded"]
        .iter()
        .any(|words| line.contains(words))
}

/// Whether a line of output is of somebody who may not do something.
pub(super) fn was_denied(line: &str) -> bool {
    ["ermission denied", "EACCES", "not permitted"].iter().any(|words| line.contains(words))
}

/// So many lines are shown of what a program wrote last.
const LAST_WORDS: usize = 5;

/// The library that a loader has looked for in vain: glibc's words and musl's.
fn library(log: &[String]) -> Option<Cause> {
    let name = |line: &String| {
        let rest = line
            .split_once("error while loading shared libraries: ")
            .or_else(|| line.split_once("Error loading shared library "))?
            .1;
        rest.split(':').next().map(|library| library.trim().to_owned())
    };
    log.iter().rev().find_map(name).map(|library| Cause::LibraryMissing { library })
}

fn name(signal: i32) -> String {
    // The first of real time, as the C library has them.
    const FIRST: i32 = 34;
    match signal {
        FIRST => return "SIGRTMIN".to_owned(),
        35..=64 => return format!("SIGRTMIN+{}", signal - FIRST),
        _ => {}
    }
    let known = signal.to_string().parse::<Signal>();
    known.map_or_else(|_| format!("signal {signal}"), |signal| signal.to_string())
}
