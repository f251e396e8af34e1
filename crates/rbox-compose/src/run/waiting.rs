//! How far a service is: whether what depends on it may start.

use rbox_engine::engine::{Container, Engine, HealthStatus, Status};

use super::last_lines;
use crate::model::Condition;

/// How far a container is.
#[derive(Debug, PartialEq, Eq)]
pub enum Far {
    /// As far as it is wanted.
    Enough,
    /// Not yet.
    NotYet,
    /// It will not come so far; why, in Compose's words. Of one that was to complete they follow its service's name.
    Failed(String),
}

/// Whether a container that was started is as far as who depends on it wants it.
pub fn far(container: &Container, condition: Condition) -> Far {
    match condition {
        Condition::Started => Far::Enough,
        Condition::CompletedSuccessfully => completed(container),
        Condition::Healthy if has_checks(container) || !container.is_active() => healthy(container),
        Condition::Healthy => {
            Far::Failed(format!("container {} has no healthcheck configured", container.record.name))
        }
    }
}

/// Whether a container is as `--wait` wants it: it runs and is healthy, or its work is done.
pub fn ready(container: &Container) -> Far {
    if container.is_active() {
        return if !has_checks(container) && container.is_running() {
            Far::Enough
        } else {
            healthy(container)
        };
    }
    match exit_code(container) {
        0 => Far::Enough,
        code => Far::Failed(format!("container {} exited ({code})", container.record.name)),
    }
}

fn has_checks(container: &Container) -> bool {
    container.record.config.health_command().is_some()
}

fn completed(container: &Container) -> Far {
    if container.is_active() || container.status == Status::Created {
        return Far::NotYet;
    }
    match exit_code(container) {
        0 => Far::Enough,
        code => Far::Failed(format!("didn't complete successfully: exit {code}")),
    }
}

fn healthy(container: &Container) -> Far {
    let name = &container.record.name;
    if container.status == Status::Created {
        return Far::NotYet;
    }
    if !container.is_active() {
        return Far::Failed(format!("container {name} exited ({})", exit_code(container)));
    }
    match container.health.as_ref().map(|health| health.status) {
        Some(HealthStatus::Healthy) => Far::Enough,
        Some(HealthStatus::Unhealthy) => Far::Failed(format!("container {name} is unhealthy")),
        Some(HealthStatus::Starting) | None => Far::NotYet,
    }
}

/// What a container that failed has said: the output of its last health check, and its last lines.
pub(super) fn said(engine: &Engine, container: &Container) -> String {
    let check = container.health.as_ref().and_then(|health| health.log.last());
    let check = check.filter(|check| check.exit_code != 0).map(|check| check.output.trim().to_owned());
    let mut said = check.filter(|text| !text.is_empty()).map(|text| text + "\n").unwrap_or_default();
    said.push_str(&last_lines(engine, container));
    said
}

/// 0 for one that never ran.
fn exit_code(container: &Container) -> i32 {
    container.exit.as_ref().map_or(0, |exit| exit.exit_code)
}
