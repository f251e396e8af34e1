//! Health checks: what an image or a user asks for, with Docker's names, defaults and rules.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::kind::Kind;

/// `HEALTHCHECK` and `--health-*`. Durations are nanoseconds; zero stands for what is not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", args…]` or `["CMD-SHELL", command]`; empty: the image's.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Time after which one check has failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time for the container to start before failures count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks during the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands over a reference")]
const fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

/// A check that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHealthcheck {
    /// A duration is too short.
    #[error("{0} in Healthcheck cannot be less than 1ms")]
    Short(&'static str),
    /// The count is below zero.
    #[error("Retries in Healthcheck cannot be negative")]
    Retries,
    /// Its first word is none of the three.
    #[error("Unknown type {0:?} in Healthcheck: expected NONE, CMD or CMD-SHELL")]
    Type(String),
    /// There is nothing to run.
    #[error("Missing command after {0} in Healthcheck")]
    Command(String),
}

impl InvalidHealthcheck {
    /// Always [`Kind::Invalid`].
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// The annotation of containers that are looked at as soon as they start: what waits for one that is ready at once should not wait for an
/// interval.
pub const EAGER: &str = "rbox.health.eager";

impl Healthcheck {
    /// The shortest duration.
    pub const SHORTEST: i64 = 1_000_000;

    /// What is said here, and the image's words for the rest.
    #[must_use]
    pub fn over(self, image: Option<&Self>) -> Self {
        let Some(image) = image else { return self };
        let or = |own: i64, other: i64| if own == 0 { other } else { own };
        Self {
            test: if self.test.is_empty() { image.test.clone() } else { self.test },
            interval: or(self.interval, image.interval),
            timeout: or(self.timeout, image.timeout),
            start_period: or(self.start_period, image.start_period),
            start_interval: or(self.start_interval, image.start_interval),
            retries: or(self.retries, image.retries),
        }
    }

    /// Refuses what has no meaning.
    ///
    /// # Errors
    /// In Docker's words.
    pub fn validate(&self) -> Result<(), InvalidHealthcheck> {
        for (name, nanoseconds) in [
            ("Interval", self.interval),
            ("Timeout", self.timeout),
            ("StartPeriod", self.start_period),
            ("StartInterval", self.start_interval),
        ] {
            if nanoseconds != 0 && nanoseconds < Self::SHORTEST {
                return Err(InvalidHealthcheck::Short(name));
            }
        }
        if self.retries < 0 {
            return Err(InvalidHealthcheck::Retries);
        }
        match self.test.as_slice() {
            [] => Ok(()),
            [kind] if kind == "NONE" => Ok(()),
            [kind] if kind == "CMD" || kind == "CMD-SHELL" => Err(InvalidHealthcheck::Command(kind.clone())),
            [kind, ..] if kind == "CMD" || kind == "CMD-SHELL" => Ok(()),
            [kind, ..] => Err(InvalidHealthcheck::Type(kind.clone())),
        }
    }

    /// What is run, if anything: `shell` is what `CMD-SHELL` is run by, `/bin/sh -c` when empty.
    pub fn command(&self, shell: &[String]) -> Option<Vec<String>> {
        match self.test.as_slice() {
            [kind, words @ ..] if kind == "CMD" && !words.is_empty() => Some(words.to_vec()),
            [kind, line, ..] if kind == "CMD-SHELL" => {
                let usual = || ["/bin/sh", "-c"].map(str::to_owned).to_vec();
                let mut command = if shell.is_empty() { usual() } else { shell.to_vec() };
                command.push(line.clone());
                Some(command)
            }
            _ => None,
        }
    }

    /// Time between two checks of a container that was started `since` ago and `starts` still: no check has succeeded.
    pub fn pause(&self, since: Duration, starts: bool) -> Duration {
        if starts && since < self.start_period() {
            return or_default(self.start_interval, Duration::from_secs(5));
        }
        or_default(self.interval, Duration::from_secs(30))
    }

    /// Time after which one check has failed.
    pub fn timeout(&self) -> Duration {
        or_default(self.timeout, Duration::from_secs(30))
    }

    /// Time in which failures of a container that starts do not count.
    pub fn start_period(&self) -> Duration {
        or_default(self.start_period, Duration::ZERO)
    }

    /// Failures in a row that make it unhealthy.
    pub fn retries(&self) -> u32 {
        u32::try_from(self.retries).ok().filter(|count| *count > 0).unwrap_or(3)
    }
}

fn or_default(nanoseconds: i64, default: Duration) -> Duration {
    u64::try_from(nanoseconds).ok().filter(|n| *n > 0).map_or(default, Duration::from_nanos)
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `250ms`.
pub fn go_text(duration: Duration) -> String {
    let fraction = |whole: u64, rest: u64, digits: usize| {
        let rest = format!("{rest:0digits$}");
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() { whole.to_string() } else { format!("{whole}.{rest}") }
    };
    let nanos = u64::from(duration.subsec_nanos());
    if duration < Duration::from_secs(1) {
        return match nanos {
            0 => "0s".to_owned(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}µs", fraction(nanos / 1_000, nanos % 1_000, 3)),
            _ => format!("{}ms", fraction(nanos / 1_000_000, nanos % 1_000_000, 6)),
        };
    }
    let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    text + &fraction(duration.as_secs() % 60, nanos, 9) + "s"
}

/// `--health-on-failure`: what follows when a container turns unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// Nothing.
    #[default]
    None,
    /// It is killed; its restart policy decides what follows.
    Kill,
    /// It is stopped and started.
    Restart,
    /// It is stopped.
    Stop,
}

impl OnUnhealthy {
    /// As the command line spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }
}

/// No such action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid --health-on-failure \"{0}\": expected none, kill, restart or stop")]
pub struct InvalidOnUnhealthy(String);

impl InvalidOnUnhealthy {
    /// Always [`Kind::Invalid`].
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl FromStr for OnUnhealthy {
    type Err = InvalidOnUnhealthy;

    fn from_str(text: &str) -> Result<Self, InvalidOnUnhealthy> {
        let known = [Self::None, Self::Kill, Self::Restart, Self::Stop];
        known
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| InvalidOnUnhealthy(text.to_owned()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(test: &[&str]) -> Healthcheck {
        Healthcheck { test: test.iter().map(|&word| word.to_owned()).collect(), ..Healthcheck::default() }
    }

    #[test]
    fn commands() {
        let command = |words: &[&str], shell: &[&str]| {
            let shell: Vec<String> = shell.iter().map(|&word| word.to_owned()).collect();
            check(words).command(&shell).map(|words| words.join(" "))
        };
        assert_eq!(command(&["CMD", "a", "b"], &[]), Some("a b".into()));
        assert_eq!(command(&["CMD-SHELL", "a b"], &[]), Some("/bin/sh -c a b".into()));
        assert_eq!(command(&["CMD-SHELL", "a b"], &["bash", "-e"]), Some("bash -e a b".into()));
        for nothing in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"], &["x", "y"]] {
            assert_eq!(command(nothing, &[]), None, "{nothing:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        for fine in [&[][..], &["NONE"], &["CMD", "x"], &["CMD-SHELL", "x"]] {
            assert_eq!(check(fine).validate(), Ok(()), "{fine:?}");
        }
        for bad in [&["CMD"][..], &["NONE", "x"], &["cmd", "x"], &["CMD-SHELL"]] {
            assert!(check(bad).validate().is_err(), "{bad:?}");
        }
        let short = Healthcheck { interval: 10, ..check(&["NONE"]) };
        assert_eq!(
            short.validate().unwrap_err().to_string(),
            "Interval in Healthcheck cannot be less than 1ms"
        );
        let negative = Healthcheck { retries: -1, ..check(&["NONE"]) };
        assert_eq!(negative.validate(), Err(InvalidHealthcheck::Retries));
    }

    #[test]
    fn the_image_fills_in() {
        let image = Healthcheck { interval: 5, retries: 7, ..check(&["CMD", "x"]) };
        let user = Healthcheck { interval: 9, ..Healthcheck::default() };
        let both = user.clone().over(Some(&image));
        assert_eq!((both.test.len(), both.interval, both.retries), (2, 9, 7));
        assert_eq!(user.clone().over(None), user);
    }

    #[test]
    fn pauses() {
        const SECOND: i64 = 1_000_000_000;
        let check = Healthcheck { start_period: 10 * SECOND, interval: 20 * SECOND, ..check(&["CMD", "x"]) };
        let pause = |since, starts| check.pause(Duration::from_secs(since), starts).as_secs();
        assert_eq!([pause(3, true), pause(3, false), pause(10, true)], [5, 20, 20]);
        assert_eq!(Healthcheck::default().pause(Duration::ZERO, true).as_secs(), 30);
        assert_eq!((check.retries(), check.timeout().as_secs()), (3, 30));
    }

    #[test]
    fn durations_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_text(Duration::from_nanos(nanos)), text);
        }
    }
}
