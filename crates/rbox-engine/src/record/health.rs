//! What a container's health checks came to, on disk: on tmpfs while it runs, beside its exit afterwards.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How a container is by its health checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No check has succeeded yet, and not enough have failed.
    #[default]
    Starting,
    /// The last checks succeeded.
    Healthy,
    /// As many failed in a row as make it so. Also of a container that does not run any more.
    Unhealthy,
}

impl HealthStatus {
    /// As `inspect` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// 0 for success; -1 for one that could not be run or took too long.
    pub exit_code: i32,
    /// The beginning of what it wrote.
    pub output: String,
}

/// A container's health.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// By the last checks.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last results, oldest first.
    pub log: Vec<CheckResult>,
}

/// How many results are kept.
const MOST: usize = 5;

impl Health {
    /// Takes in one result. `counts`: a failure is one of those in a row; it is not while a container starts. Whether the container has
    /// turned unhealthy with it.
    pub(crate) fn take(&mut self, result: CheckResult, counts: bool, retries: u32) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if counts {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(result);
        self.log.drain(..self.log.len().saturating_sub(MOST));
        self.status == HealthStatus::Unhealthy && before != HealthStatus::Unhealthy
    }

    /// `State.Health` in Docker's `inspect`.
    pub(crate) fn as_docker(&self) -> Value {
        let result = |one: &CheckResult| {
            json!({
                "Start": one.start.to_string(),
                "End": one.end.to_string(),
                "ExitCode": one.exit_code,
                "Output": one.output,
            })
        };
        json!({
            "Status": self.status.as_str(),
            "FailingStreak": self.failing_streak,
            "Log": self.log.iter().map(result).collect::<Value>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::HealthStatus::{Healthy, Starting, Unhealthy};
    use super::*;

    fn result(exit_code: i32) -> CheckResult {
        let epoch = Timestamp::UNIX_EPOCH;
        CheckResult { start: epoch, end: epoch, exit_code, output: String::new() }
    }

    #[test]
    fn failures_in_a_row_count() {
        let mut health = Health::default();
        let states: Vec<_> = [1, 1, 0, 1, 1, 1, 1, 0]
            .into_iter()
            .map(|code| (health.take(result(code), true, 3), health.status, health.failing_streak))
            .collect();
        let wanted = [
            (false, Starting, 1),
            (false, Starting, 2),
            (false, Healthy, 0),
            (false, Healthy, 1),
            (false, Healthy, 2),
            (true, Unhealthy, 3),
            (false, Unhealthy, 4),
            (false, Healthy, 0),
        ];
        assert_eq!(states, wanted);
        assert_eq!(health.log.len(), MOST);
    }

    #[test]
    fn a_failure_that_does_not_count_changes_nothing() {
        let mut health = Health::default();
        assert!(!health.take(result(1), false, 1));
        assert_eq!((health.status, health.failing_streak, health.log.len()), (HealthStatus::Starting, 0, 1));
    }
}
