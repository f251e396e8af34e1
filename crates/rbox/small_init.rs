//! The small init of `--init`: PID 1 that starts the program, passes signals on to it, and reaps whatever is
//! left to it. rbox's executable is it when it is started by the name `docker-init`.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rbox_engine::reaper::{Reaper, wait_any};

/// `docker-init -- COMMAND [ARG…]`.
pub(crate) fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).skip_while(|word| word == "--");
    let Some(program) = words.next() else {
        eprintln!("docker-init: no command");
        return ExitCode::from(125);
    };
    // Blocked before the program starts, so that no signal is lost; the program gets a clean mask again.
    let reaper = match Reaper::new() {
        Ok(reaper) => reaper,
        Err(error) => {
            eprintln!("docker-init: block signals: {error}");
            return ExitCode::from(125);
        }
    };
    let mut command = Command::new(&program);
    command.args(words).process_group(0);
    let child = match reaper.spawn(&mut command) {
        Ok(child) => child,
        Err(error) => {
            eprintln!("docker-init: exec: {:?}: {error}", program.to_string_lossy());
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return ExitCode::from(if missing { 127 } else { 126 });
        }
    };
    loop {
        // SIGCHLD is among the signals, so this wakes for every end.
        let signal = reaper.next_signal();
        while let Some((pid, code)) = wait_any() {
            if pid == child {
                return ExitCode::from(u8::try_from(code).unwrap_or(255));
            }
        }
        reaper.pass_on(signal, child);
    }
}
