//! A line from the user's terminal.

use std::io::BufRead;
use std::os::fd::AsFd;

use rbox_engine::session::{PollFd, PollFlags, SignalFd, Taken, poll};

use crate::command::error::Coded;
use crate::output::table::{Stream, write_all};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGWINCH: i32 = 28;

/// Shows the prompt and reads one line, without its end. An interrupt or SIGTERM is an answer too, as Docker's client has it: nothing is done, and the exit
/// code is 0.
pub(crate) fn line(prompt: &str) -> anyhow::Result<String> {
    line_after(&mut std::io::stdout(), prompt)
}

/// The same, with the prompt written elsewhere.
pub(crate) fn line_after(output: &mut impl Stream, prompt: &str) -> anyhow::Result<String> {
    let signals = SignalFd::new(Taken::Ending);
    write_all(output, prompt)?;
    if let Some(signal) = signal_before_answer(signals.as_ref()) {
        let code =
            if [SIGINT, SIGTERM].contains(&signal) { 0 } else { u8::try_from(128 + signal).unwrap_or(255) };
        return Err(Coded { message: String::new(), code }.into());
    }
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if let Some(signals) = signals {
        signals.let_go();
    }
    let answer = answer.strip_suffix('\n').unwrap_or(&answer);
    Ok(answer.strip_suffix('\r').unwrap_or(answer).to_owned())
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
