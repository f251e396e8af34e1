//! A terminal whose other side is the test: what a user's terminal program is to a command.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::{Cmd, poll};

/// A command on a terminal.
pub(crate) struct OnTerminal {
    child: Child,
    master: Option<File>,
    slave: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    reader: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl OnTerminal {
    /// Starts it with the terminal as all of its streams.
    pub(crate) fn start(cmd: Cmd) -> Self {
        Self::of_size(cmd, (24, 80))
    }

    /// On a terminal of these rows and columns: such as programs make often have none.
    pub(crate) fn of_size(cmd: Cmd, (rows, columns): (u16, u16)) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let stream = || Stdio::from(slave.try_clone().unwrap());
        let child = cmd.spawn_on(stream(), stream(), stream());
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (mut reader, shared, stopped) =
            (master.try_clone().unwrap(), Arc::clone(&seen), Arc::clone(&stop));
        let reader = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Its descriptor keeps the terminal open, so it must be possible to end it.
            while !stopped.load(Ordering::Relaxed) {
                match reader.read(&mut bytes) {
                    Ok(length) => shared.lock().unwrap().extend_from_slice(&bytes[..length]),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Self { child, master: Some(master), slave, seen, reader: Some((stop, reader)) }
    }

    /// Closes the window.
    pub(crate) fn close(&mut self) {
        if let Some((stop, reader)) = self.reader.take() {
            stop.store(true, Ordering::Relaxed);
            let _ = reader.join();
        }
        self.master = None;
    }

    /// Sends the command a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        Cmd::new("kill", [&format!("-{name}"), &self.child.id().to_string()]).run().ok();
    }

    /// Types.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.master.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// What was shown so far.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits until `text` was shown.
    #[track_caller]
    pub(crate) fn expect(&self, text: &str) {
        let seen = poll(Duration::from_secs(20), || self.shown().contains(text));
        assert!(seen, "the terminal does not show {text:?}:\n{}", self.shown());
    }

    /// Whether what is typed is edited and echoed by the terminal itself, as a shell leaves it.
    pub(crate) fn is_cooked(&self) -> bool {
        let modes = tcgetattr(self.slave.as_fd()).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for the end: its exit code, or 128+n after signal n.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        let mut status = None;
        let ended = poll(Duration::from_secs(20), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if !ended {
            let _ = self.child.kill();
            panic!("the command on the terminal did not end; it showed:\n{}", self.shown());
        }
        let status = status.unwrap();
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.close();
    }
}
