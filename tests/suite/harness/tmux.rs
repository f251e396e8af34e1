//! A real terminal program, driven: what `-it` is for.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Suite, poll};

/// A tmux server of its own, with one window that runs one command.
pub(crate) struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Starts `rbox ARGS` in a terminal of 80 columns and 24 lines. The window stays when the command ends, and then
    /// says `ended CODE`.
    pub(crate) fn start(suite: &Suite, args: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let socket = suite.state.join(format!("tmux-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let tmux = Self { socket };
        let line = format!(
            "RBOX_ROOT={} RBOX_STATE={} RBOX_REGISTRIES={} {} {args}; echo ended $?; stty -a | grep -o '[-]*icanon\\|[-]*echo ' ; exec cat",
            suite.root.display(),
            suite.state.display(),
            suite.registries.display(),
            super::binary().display(),
        );
        tmux.run(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", &line]);
        tmux
    }

    fn run(&self, args: &[&str]) -> String {
        let out =
            Command::new("tmux").arg("-S").arg(&self.socket).args(args).env_remove("TMUX").output().unwrap();
        assert!(out.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Types: tmux's names for keys (`Enter`, `C-c`), anything else as it is.
    pub(crate) fn keys(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend(keys);
        self.run(&args);
    }

    /// Types a line and Enter.
    pub(crate) fn line(&self, text: &str) {
        self.run(&["send-keys", "-l", text]);
        self.keys(&["Enter"]);
    }

    /// What the screen shows.
    pub(crate) fn screen(&self) -> String {
        self.run(&["capture-pane", "-p"])
    }

    /// Makes the window another size.
    pub(crate) fn resize(&self, columns: u32, lines: u32) {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]);
    }

    /// Waits for a line of the screen that is `text`, or ends with it.
    #[track_caller]
    pub(crate) fn expect(&self, text: &str) {
        let mut screen = String::new();
        let seen = poll(std::time::Duration::from_secs(20), || {
            screen = self.screen();
            screen.lines().any(|l| l.trim_end().ends_with(text))
        });
        assert!(seen, "no line ends with `{text}` on the screen:\n{screen}");
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
        // It leaves its socket.
        let _ = std::fs::remove_file(&self.socket);
    }
}
