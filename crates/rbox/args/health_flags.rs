//! The options of `run` and `create` that are about health checks.

use rbox_engine::listing::moment::go_duration;
use rbox_engine::spec::container::ContainerConfig;
use rbox_engine::spec::health::Healthcheck;

use crate::command::error::bad_input;

/// Options of `run` and `create`.
#[derive(Debug, clap::Args)]
#[command(next_display_order = None)]
pub(crate) struct HealthFlags {
    /// Command to run to check health, by the image's shell
    #[arg(long, value_name = "COMMAND")]
    health_cmd: Option<String>,
    /// Time between two health checks (default 30s)
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    health_interval: Option<String>,
    /// What follows when it turns unhealthy: none, kill, restart or stop
    #[arg(long, value_name = "ACTION")]
    health_on_failure: Option<String>,
    /// Failures in a row that make it unhealthy (default 3)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    health_retries: Option<i64>,
    /// Time between two health checks during the start period (default 5s)
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    health_start_interval: Option<String>,
    /// Time to start in which failures do not count
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    health_start_period: Option<String>,
    /// Time after which one health check has failed (default 30s)
    #[arg(long, value_name = "DURATION", allow_negative_numbers = true)]
    health_timeout: Option<String>,
    /// Make no health checks, whatever the image asks for
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthFlags {
    /// Puts what was asked for into `config`.
    pub(crate) fn apply(&self, config: &mut ContainerConfig) -> anyhow::Result<()> {
        let check = self.check()?;
        check.validate().map_err(bad_input)?;
        let says = check != Healthcheck::default();
        if self.no_healthcheck && says {
            return Err(bad_input("--no-healthcheck conflicts with --health-* options"));
        }
        let none = || Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() };
        config.healthcheck = if self.no_healthcheck { Some(none()) } else { says.then_some(check) };
        if let Some(action) = &self.health_on_failure {
            config.on_unhealthy = action.parse().map_err(bad_input)?;
        }
        Ok(())
    }

    fn check(&self) -> anyhow::Result<Healthcheck> {
        let command = self.health_cmd.as_deref().filter(|command| !command.is_empty());
        let retries = self.health_retries.unwrap_or(0);
        if retries < 0 {
            return Err(bad_input("--health-retries cannot be negative"));
        }
        Ok(Healthcheck {
            test: command.map_or_else(Vec::new, |command| vec!["CMD-SHELL".to_owned(), command.to_owned()]),
            interval: nanoseconds("--health-interval", self.health_interval.as_deref())?,
            timeout: nanoseconds("--health-timeout", self.health_timeout.as_deref())?,
            start_period: nanoseconds("--health-start-period", self.health_start_period.as_deref())?,
            start_interval: nanoseconds("--health-start-interval", self.health_start_interval.as_deref())?,
            retries,
        })
    }
}

fn nanoseconds(flag: &str, text: Option<&str>) -> anyhow::Result<i64> {
    let Some(text) = text else { return Ok(0) };
    let duration = go_duration(text).ok_or_else(|| {
        bad_input(format!(
            "invalid argument \"{text}\" for \"{flag}\" flag: expected a duration such as 30s or 1m30s"
        ))
    })?;
    if duration.is_negative() {
        return Err(bad_input(format!("{flag} cannot be negative")));
    }
    // Go's durations are 64 bits of nanoseconds, and so are these.
    Ok(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}
