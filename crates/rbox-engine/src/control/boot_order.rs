//! What waits for what when the host comes up: services of Compose projects, as the labels of their containers say.

use std::collections::HashSet;
use std::time::Duration;

use rbox_spec::id::ContainerId;

use crate::record::container::{Container, ContainerRecord};
use crate::record::health::HealthStatus;
use crate::record::paths::Paths;

/// How long all may wait for others: what does not come does not keep the rest of the host down.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";

fn label<'a>(record: &'a ContainerRecord, key: &str) -> Option<&'a str> {
    record.config.labels.get(key).map(String::as_str)
}

/// Whether what a container depends on is far enough. `coming` are those that are still to be started.
pub(crate) fn may_start(
    paths: &Paths,
    record: &ContainerRecord,
    all: &[ContainerRecord],
    coming: &HashSet<ContainerId>,
) -> bool {
    let (Some(project), Some(needed)) = (label(record, PROJECT), label(record, DEPENDS_ON)) else {
        return true;
    };
    // NAME:CONDITION:RESTART
    let needed = needed.split(',').filter_map(|word| word.split_once(':'));
    needed.map(|(service, rest)| (service, rest.split(':').next().unwrap_or_default())).all(
        |(service, condition)| {
            all.iter()
                .filter(|other| other.id != record.id)
                .filter(|other| {
                    label(other, PROJECT) == Some(project) && label(other, SERVICE) == Some(service)
                })
                .all(|other| is_far_enough(paths, &other.id, condition, coming.contains(&other.id)))
        },
    )
}

/// One that does not run and is not coming is waited for by nobody.
fn is_far_enough(paths: &Paths, id: &ContainerId, condition: &str, is_coming: bool) -> bool {
    let Ok(Some(now)) = Container::read(paths, id) else { return true };
    if !now.is_active() {
        return !is_coming;
    }
    match condition {
        "service_healthy" => {
            let has_checks = now.record.config.health_command().is_some();
            let is_healthy = now.health.as_ref().is_some_and(|health| health.status == HealthStatus::Healthy);
            !has_checks || is_healthy
        }
        "service_completed_successfully" => false,
        _ => true,
    }
}
