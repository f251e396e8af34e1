//! The small init of `--init`: PID 1 that starts the program, passes signals on to it, and reaps whatever is
//! left to it. rbox's executable is it when it is started by the name `docker-init`.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use rbox_engine::session::{Reaper, wait_any};

/// `docker-init -- COMMAND [ARG…]`.
pub(crate) fn main() -> ExitCode {
    let words = std::env::args_os().skip(1).skip_while(|word| word == "--");
    let args: Vec<CString> = words.filter_map(|word| CString::new(word.into_vec()).ok()).collect();
    if args.is_empty() {
        eprintln!("docker-init: no command");
        return ExitCode::from(125);
    }
    // Blocked before the program starts, so that no signal is lost.
    let child = match Reaper::new().and_then(|reaper| reaper.spawn(&args)) {
        Ok(child) => child,
        Err(error) => {
            eprintln!("docker-init: start {:?}: {}", args[0].to_string_lossy(), rbox_engine::plain(error));
            return ExitCode::from(125);
        }
    };
    loop {
        // SIGCHLD is among the signals, so this wakes for every end.
        let signal = child.next_signal();
        while let Some((pid, code)) = wait_any() {
            if pid == child.pid {
                return ExitCode::from(u8::try_from(code).unwrap_or(255));
            }
        }
        child.pass_on(signal);
    }
}
