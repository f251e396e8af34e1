//! The keys of an attached `up` on a terminal: `w` watches, `d` detaches. They are told in the last line of the screen, which what the
//! services write does not scroll away.

use std::io::{self, IsTerminal as _};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rbox_engine::session::{
    PollFd, PollFlags, Termios, is_in_foreground, poll, read_fd, set_terminal, stdin_fd, terminal_by_key,
    terminal_size,
};

use crate::command::error::message;
use crate::compose::watcher::Watcher;
use crate::output::table::write_all;

/// Fewer rows than this are left to the services.
const FEWEST_ROWS: u16 = 4;

/// The menu, as long as it is on the screen.
pub(crate) struct Menu<'a> {
    watcher: &'a Watcher<'a>,
    before: Termios,
    size: (u16, u16),
    /// What the line tells of the watcher.
    told: bool,
    /// Nobody can type any more.
    is_deaf: bool,
}

/// Whether there is to be one: by the flag, the variable, and what the standard streams are.
pub(crate) fn is_wanted(flag: Option<bool>, is_drawn: bool) -> bool {
    let variable = || std::env::var("COMPOSE_MENU").ok().map(|value| is_yes(&value));
    let wanted = flag.or_else(variable).unwrap_or(true);
    wanted
        && is_drawn
        && io::stdout().is_terminal()
        && io::stdin().is_terminal()
        && is_in_foreground(io::stdin())
}

fn is_yes(value: &str) -> bool {
    matches!(value.to_lowercase().as_str(), "1" | "t" | "true" | "y" | "yes" | "on")
}

impl<'a> Menu<'a> {
    /// Takes the keys and the last line of the screen. None where there is no screen for it.
    pub(crate) fn open(watcher: &'a Watcher<'a>) -> Option<Self> {
        let size = terminal_size(io::stdout()).filter(|(rows, _)| *rows >= FEWEST_ROWS)?;
        let before = terminal_by_key(io::stdin())?;
        let menu = Self { watcher, before, size, told: watcher.is_on(), is_deaf: false };
        menu.take_last_line();
        Some(menu)
    }

    /// What becomes readable when something is typed.
    pub(crate) fn keys(&self) -> Option<BorrowedFd<'static>> {
        (!self.is_deaf).then(stdin_fd)
    }

    /// Does what was typed. True: detach.
    pub(crate) fn act(&mut self) -> bool {
        self.look();
        let mut typed = [0; 64];
        let mut ready = [PollFd::from_borrowed_fd(stdin_fd(), PollFlags::IN)];
        poll(&mut ready, Some(Duration::ZERO));
        if self.is_deaf || ready[0].revents().is_empty() {
            return false;
        }
        let length = match read_fd(io::stdin(), &mut typed) {
            Ok(length) if length > 0 => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => 0,
            _ => {
                self.is_deaf = true;
                0
            }
        };
        for key in &typed[..length] {
            match key {
                b'd' => return true,
                b'w' => self.toggle_watch(),
                b'\r' | b'\n' => put("\n"),
                _ => {}
            }
        }
        false
    }

    /// Follows a screen that has another size by now, and a watch that has ended by itself.
    fn look(&mut self) {
        if self.told != self.watcher.is_on() {
            self.told = !self.told;
            self.draw();
        }
        if let Some(size) = terminal_size(io::stdout()).filter(|size| *size != self.size) {
            self.size = size;
            self.take_last_line();
        }
    }

    fn toggle_watch(&mut self) {
        if self.watcher.is_on() {
            self.watcher.end();
        } else if !self.watcher.has_rules() {
            put("Watch: no service has a section develop.watch that says what is watched\n");
            return;
        } else if let Err(error) = self.watcher.begin() {
            put(&format!("Watch: it cannot be started: {}\n", message(&error)));
        }
        self.told = self.watcher.is_on();
        self.draw();
    }

    /// Keeps the last line out of what scrolls. That moves the cursor, which is put back, and first off that line.
    fn take_last_line(&self) {
        put(&format!("\n\x1b[A\x1b7\x1b[1;{}r\x1b8", self.size.0.saturating_sub(1).max(1)));
        self.draw();
    }

    fn draw(&self) {
        let text = line(self.told, usize::from(self.size.1));
        put(&format!("\x1b7\x1b[{};1H\x1b[2K{text}\x1b8", self.size.0));
    }
}

impl Drop for Menu<'_> {
    fn drop(&mut self) {
        self.watcher.end();
        put(&format!("\x1b7\x1b[{};1H\x1b[2K\x1b[r\x1b8", self.size.0));
        set_terminal(io::stdin(), &self.before);
    }
}

/// The menu, in so many columns.
fn line(watches: bool, columns: usize) -> String {
    let watch = if watches { "Disable Watch" } else { "Enable Watch" };
    if format!("w {watch}   d Detach").len() > columns {
        return String::new();
    }
    format!("\x1b[7;1mw\x1b[0m\x1b[2m {watch}\x1b[0m   \x1b[7;1md\x1b[0m\x1b[2m Detach\x1b[0m")
}

fn put(text: &str) {
    // Nobody sees it: nothing to be done about it.
    let _ = write_all(&mut io::stdout(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_say_yes_as_compose_reads_them() {
        for (value, yes) in
            [("1", true), ("True", true), ("yes", true), ("0", false), ("", false), ("false", false)]
        {
            assert_eq!(is_yes(value), yes, "{value}");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        assert!(line(false, 80).contains("Enable Watch"));
        assert!(line(true, 80).contains("Disable Watch"));
        assert_eq!(line(true, 10), "");
    }
}
