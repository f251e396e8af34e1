//! When an ended container is started again: `--restart`. Names and wording are Docker's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// What follows the end of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again when its exit code is not 0; at most so many times, 0 being without limit.
    OnFailure(u32),
    /// It is started again, and with the host also when somebody had stopped it.
    Always,
    /// It is started again, and with the host unless somebody had stopped it.
    UnlessStopped,
}

/// A policy of another form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRestart {
    /// No policy has this name.
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    Unknown(String),
    /// What follows the colon is no count.
    #[error("invalid restart policy format: maximum retry count must be an integer, not '{0}'")]
    Count(String),
    /// The count is below zero.
    #[error("invalid restart policy: maximum retry count cannot be negative")]
    Negative,
    /// Only on-failure counts.
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure'")]
    NotCounted,
}

impl InvalidRestart {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl RestartPolicy {
    /// Its name, without the count.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// The most restarts of `on-failure`; 0 without limit.
    pub fn max_retries(self) -> u32 {
        if let Self::OnFailure(most) = self { most } else { 0 }
    }

    /// Whether a container that ended by itself with `exit_code`, having been started again `restarts` times
    /// already, is started once more.
    pub fn restarts(self, exit_code: i32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => exit_code != 0 && (most == 0 || restarts < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Whether it is started with the host. `stopped`: somebody had stopped it.
    pub fn starts_with_host(self, stopped: bool) -> bool {
        match self {
            Self::Always => true,
            Self::UnlessStopped => !stopped,
            Self::No | Self::OnFailure(_) => false,
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = InvalidRestart;

    fn from_str(text: &str) -> Result<Self, InvalidRestart> {
        let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
        let policy = match name {
            "no" | "" if count.is_none() || name == "no" => Self::No,
            "on-failure" => Self::OnFailure(0),
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            _ => return Err(InvalidRestart::Unknown(name.escape_debug().to_string())),
        };
        let Some(count) = count else { return Ok(policy) };
        let number: i64 =
            count.parse().map_err(|_| InvalidRestart::Count(count.escape_debug().to_string()))?;
        if number < 0 {
            return Err(InvalidRestart::Negative);
        }
        match (policy, u32::try_from(number)) {
            (Self::OnFailure(_), Ok(most)) => Ok(Self::OnFailure(most)),
            (Self::OnFailure(_), Err(_)) => Err(InvalidRestart::Count(count.to_owned())),
            (policy, Ok(0)) => Ok(policy),
            _ => Err(InvalidRestart::NotCounted),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max_retries() {
            0 => f.write_str(self.name()),
            most => write!(f, "{}:{most}", self.name()),
        }
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = InvalidRestart;

    fn try_from(text: String) -> Result<Self, InvalidRestart> {
        text.parse()
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_docker_reads() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        for (text, policy) in [
            ("", No),
            ("no", No),
            ("no:0", No),
            ("always", Always),
            ("unless-stopped", UnlessStopped),
            ("on-failure", OnFailure(0)),
            ("on-failure:3", OnFailure(3)),
        ] {
            assert_eq!(text.parse(), Ok(policy), "{text}");
        }
        for bad in
            ["Always", "on-failure:", "on-failure:x", "on-failure:-1", "always:3", ":1", "on-failure:1:2"]
        {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
        let text = serde_json::to_string(&OnFailure(2)).unwrap();
        assert_eq!(text, "\"on-failure:2\"");
        assert_eq!(serde_json::from_str::<RestartPolicy>(&text).unwrap(), OnFailure(2));
    }

    #[test]
    fn who_is_started_again() {
        let policy = |text: &str| text.parse::<RestartPolicy>().unwrap();
        assert!(!policy("no").restarts(1, 0));
        assert!(policy("always").restarts(0, 1000));
        assert!(policy("unless-stopped").restarts(0, 7));
        assert!(!policy("on-failure").restarts(0, 0));
        assert!(policy("on-failure").restarts(1, 1000));
        assert!(policy("on-failure:2").restarts(1, 1) && !policy("on-failure:2").restarts(1, 2));
        assert!(policy("always").starts_with_host(true));
        assert!(policy("unless-stopped").starts_with_host(false));
        assert!(!policy("unless-stopped").starts_with_host(true));
        assert!(!policy("on-failure").starts_with_host(false));
    }
}
