//! What commands that delete much have in common: the question they ask first, and the list of what went.

use std::io::BufRead;
use std::os::fd::AsFd;

use clap::Args;
use rbox_engine::listing::filter::Filters;
use rbox_engine::session::{PollFd, PollFlags, SignalFd, Taken, poll};

use crate::command::error::Coded;
use crate::output::lines::say;
use crate::output::table::write_all;

/// The options of every `prune`.
#[derive(Debug, Args)]
pub(crate) struct Pruning {
    /// Provide filter values (e.g. "until=24h", "label=app", "label!=keep")
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Pruning {
    /// What is to go, chosen by filters of these keys.
    pub(crate) fn filters(&self, keys: &[&str]) -> anyhow::Result<Filters> {
        Ok(Filters::parse(&self.filter, keys)?)
    }

    /// Whether the user wants it, by `--force` or by an answer.
    pub(crate) fn agreed(&self, warning: &str) -> anyhow::Result<bool> {
        Ok(self.force || confirmed(warning)?)
    }
}

/// Shows the warning, asks, and reads one line. Anything but yes is no, and so is the end of input. An interrupt or SIGTERM is an
/// answer too, as Docker's client has it: nothing is done, and the exit code is 0.
pub(crate) fn confirmed(warning: &str) -> anyhow::Result<bool> {
    let signals = SignalFd::new(Taken::Ending);
    let mut out = std::io::stdout().lock();
    write_all(&mut out, &format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    if let Some(signal) = signal_before_answer(signals.as_ref()) {
        write_all(&mut out, "\n")?;
        let code =
            if [SIGINT, SIGTERM].contains(&signal) { 0 } else { u8::try_from(128 + signal).unwrap_or(255) };
        return Err(Coded { message: String::new(), code }.into());
    }
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if let Some(signals) = signals {
        signals.let_go();
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Waits for an answer; the signal when one came first.
fn signal_before_answer(signals: Option<&SignalFd>) -> Option<i32> {
    let stdin = std::io::stdin();
    loop {
        let mut fds = vec![PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        fds.extend(signals.map(|signals| PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)));
        poll(&mut fds, None);
        let is_answered = !fds[0].revents().is_empty();
        drop(fds);
        let signal = signals.and_then(SignalFd::next).filter(|signal| *signal != SIGWINCH);
        if signal.is_some() || is_answered {
            return signal;
        }
    }
}

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;

/// Prints what was removed: a heading, the names, and an empty line; nothing when there is none.
pub(crate) fn say_deleted<'a>(what: &str, all: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let lines: Vec<&str> = all.collect();
    if lines.is_empty() { Ok(()) } else { say(&format!("Deleted {what}:\n{}\n", lines.join("\n"))) }
}
