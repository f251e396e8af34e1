//! Signals by name and number, as `kill -s`, `--stop-signal` and an image's `STOPSIGNAL` write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// A signal number, 1 to 64 (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal(i32);

/// The text names no signal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid signal: {0}")]
pub struct InvalidSignal(String);

impl InvalidSignal {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

const NAMES: [(&str, i32); 33] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl Signal {
    /// SIGKILL.
    pub const KILL: Self = Self(9);
    /// SIGTERM, the default of `stop`.
    pub const TERM: Self = Self(15);
    /// SIGINT: Ctrl-C.
    pub const INT: Self = Self(2);
    /// SIGQUIT: Ctrl-\\.
    pub const QUIT: Self = Self(3);
    /// SIGWINCH: a terminal changed its size.
    pub const WINCH: Self = Self(28);

    /// The kernel's number.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = InvalidSignal;
    fn from_str(text: &str) -> Result<Self, InvalidSignal> {
        let bad = || InvalidSignal(text.chars().take(40).collect());
        if let Ok(number) = text.parse::<i32>() {
            return if (1..=RTMAX).contains(&number) { Ok(Self(number)) } else { Err(bad()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(n, _)| *n == name) {
            return Ok(Self(*number));
        }
        let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest[1..].parse::<i32>().ok() };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            (rest.is_empty() || rest.starts_with('+')).then(|| offset(rest)).flatten().map(|n| RTMIN + n)
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            (rest.is_empty() || rest.starts_with('-')).then(|| offset(rest)).flatten().map(|n| RTMAX - n)
        } else {
            None
        };
        number.filter(|n| (RTMIN..=RTMAX).contains(n)).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, n)| *n == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_realtime() {
        for (text, number) in
            [("TERM", 15), ("sigkill", 9), ("SIGUSR1", 10), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for bad in ["", "0", "65", "-1", "SIG", "TERMINATE", "RTMIN+99", "RTMAX+1", "9999999999"] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
    }
}
