//! How far a service is: whether what depends on it may start.

use rbox_engine::engine::{Container, Engine, HealthStatus, Status};

use super::last_lines;
use super::making::Made;
use crate::model::Condition;

/// How far a container is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Far {
    /// As far as it is wanted.
    Enough,
    /// Not yet.
    NotYet,
    /// It will not come so far; why, in Compose's words.
    Failed(String),
}

/// Whether a container is as far as who depends on it wants it.
pub(super) fn far(engine: &Engine, made: &Made, condition: Condition) -> Far {
    let Some(container) = engine.current(&made.id) else {
        return Far::Failed(format!("container {} was removed", made.name));
    };
    match condition {
        Condition::Started if container.is_active() || has_run(&container) => Far::Enough,
        Condition::Started => Far::NotYet,
        Condition::CompletedSuccessfully => completed(made, &container),
        Condition::Healthy => healthy(made, &container),
    }
}

fn has_run(container: &Container) -> bool {
    container.exit.as_ref().is_some_and(|exit| exit.started.is_some())
}

fn completed(made: &Made, container: &Container) -> Far {
    if container.is_active() || container.status == Status::Created {
        return Far::NotYet;
    }
    match exit_code(container) {
        Some(0) => Far::Enough,
        code => Far::Failed(format!(
            "container {} didn't complete successfully: exit {}",
            made.name,
            code.unwrap_or_default()
        )),
    }
}

fn healthy(made: &Made, container: &Container) -> Far {
    if container.status == Status::Created {
        return Far::NotYet;
    }
    if !container.is_active() {
        let code = exit_code(container).unwrap_or_default();
        return Far::Failed(format!("container {} exited ({code})", made.name));
    }
    if container.record.config.health_command().is_none() {
        return Far::Failed(format!("container {} has no healthcheck configured", made.name));
    }
    match container.health.as_ref().map(|health| health.status) {
        Some(HealthStatus::Healthy) => Far::Enough,
        Some(HealthStatus::Unhealthy) => Far::Failed(unhealthy(made)),
        Some(HealthStatus::Starting) | None => Far::NotYet,
    }
}

/// Whether a container is as `--wait` wants it: it runs and is healthy, or its work is done.
pub(super) fn ready(engine: &Engine, made: &Made) -> Far {
    let Some(container) = engine.current(&made.id) else {
        return Far::Failed(format!("container {} was removed", made.name));
    };
    if container.is_running() && container.record.config.health_command().is_none() {
        return Far::Enough;
    }
    if container.is_active() {
        return match container.health.as_ref().map(|health| health.status) {
            Some(HealthStatus::Healthy) => Far::Enough,
            Some(HealthStatus::Unhealthy) => Far::Failed(unhealthy(made)),
            Some(HealthStatus::Starting) | None => Far::NotYet,
        };
    }
    match exit_code(&container) {
        Some(0) => Far::Enough,
        code => Far::Failed(format!("container {} exited ({})", made.name, code.unwrap_or_default())),
    }
}

fn unhealthy(made: &Made) -> String {
    format!("container {} is unhealthy", made.name)
}

/// What a container that failed has said: the output of its last health check, and its last lines.
pub(super) fn said(engine: &Engine, made: &Made) -> String {
    let Some(container) = engine.current(&made.id) else { return String::new() };
    let check = container.health.as_ref().and_then(|health| health.log.last());
    let check = check.filter(|check| check.exit_code != 0).map(|check| check.output.trim().to_owned());
    let mut said = check.filter(|text| !text.is_empty()).map(|text| text + "\n").unwrap_or_default();
    said.push_str(&last_lines(engine, &container));
    said
}

fn exit_code(container: &Container) -> Option<i32> {
    container.exit.as_ref().map(|exit| exit.exit_code)
}
