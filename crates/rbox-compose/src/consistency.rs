//! Whether the parts of a project fit: Compose's checks, in its words.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ComposeError;
use crate::model::{Project, Service};

type Check = fn(&Project, &str, &Service) -> Result<(), String>;

/// Checks the services that are enabled.
pub(crate) fn check(project: &Project) -> Result<(), ComposeError> {
    let checks: [Check; 6] = [sources, networks, dependencies, references, amounts, mounts];
    for (name, service) in &project.services {
        for check in checks {
            check(project, name, service).map_err(ComposeError::Invalid)?;
        }
    }
    for (name, secret) in &project.secrets {
        if !secret.external && secret.file.is_empty() && secret.environment.is_empty() {
            return Err(ComposeError::Invalid(format!(
                "secret {name:?} must declare either `file` or `environment`: invalid compose project"
            )));
        }
    }
    cycle(project).map_err(ComposeError::Invalid)
}

fn invalid(message: String) -> Result<(), String> {
    Err(message + ": invalid compose project")
}

/// Where the image comes from.
fn sources(project: &Project, name: &str, service: &Service) -> Result<(), String> {
    if service.build.is_none() && service.image.is_empty() && service.provider.is_none() {
        return invalid(format!("service {name:?} has neither an image nor a build context specified"));
    }
    let Some(build) = &service.build else { return Ok(()) };
    if !build.dockerfile_inline.is_empty() && !build.dockerfile.is_empty() {
        return invalid(format!(
            "service {name:?} declares mutualy exclusive dockerfile and dockerfile_inline"
        ));
    }
    for (context, source) in &build.additional_contexts {
        let Some(target) = source.strip_prefix("service:") else { continue };
        let what = match project.services.get(target) {
            None => "unknown",
            Some(other) if other.build.is_none() => "non-buildable",
            Some(_) => continue,
        };
        return Err(format!(
            "service {name:?} declares {what} service {target:?} as additional contexts {context}"
        ));
    }
    if !build.platforms.is_empty()
        && !service.platform.is_empty()
        && !build.platforms.contains(&service.platform)
    {
        return invalid(format!(
            "service.build.platforms MUST include service.platform {:?}",
            service.platform
        ));
    }
    Ok(())
}

fn networks(project: &Project, name: &str, service: &Service) -> Result<(), String> {
    if !service.network_mode.is_empty() && !service.networks.is_empty() {
        return invalid(format!("service {name} declares mutually exclusive `network_mode` and `networks`"));
    }
    if let Some(network) = service.networks.keys().find(|network| !project.networks.contains_key(*network)) {
        return invalid(format!("service {name:?} refers to undefined network {network}"));
    }
    if let Some(health) = &service.healthcheck
        && health.test.first().is_some_and(|word| !matches!(word.as_str(), "CMD" | "CMD-SHELL" | "NONE"))
    {
        return Err("healthcheck.test must start either by \"CMD\", \"CMD-SHELL\" or \"NONE\"".into());
    }
    Ok(())
}

fn dependencies(project: &Project, name: &str, service: &Service) -> Result<(), String> {
    for (other, dependency) in &service.depends_on {
        let disabled = project.disabled_services.contains_key(other);
        if !project.services.contains_key(other) && (dependency.required || !disabled) {
            return invalid(format!("service {name:?} depends on undefined service {other:?}"));
        }
    }
    if let Some(other) = service.network_mode.strip_prefix("service:")
        && !project.services.contains_key(other)
    {
        return Err(format!("service {other:?} not found for network_mode 'service:{other}'"));
    }
    Ok(())
}

fn references(project: &Project, name: &str, service: &Service) -> Result<(), String> {
    let missing =
        |what: &str, source: &str| invalid(format!("service {name:?} refers to undefined {what} {source}"));
    for mount in service.volumes.iter().filter(|mount| mount.kind == "volume" && !mount.source.is_empty()) {
        if !project.volumes.contains_key(&mount.source) {
            return missing("volume", &mount.source);
        }
    }
    let of_build = service.build.iter().flat_map(|build| &build.secrets);
    for (what, secret) in of_build
        .map(|secret| ("build secret", secret))
        .chain(service.secrets.iter().map(|secret| ("secret", secret)))
    {
        if !project.secrets.contains_key(&secret.source) {
            return missing(what, &secret.source);
        }
    }
    for config in &service.configs {
        if !project.configs.contains_key(&config.source) {
            return missing("config", &config.source);
        }
    }
    match service.models.keys().find(|model| !project.models.contains_key(*model)) {
        Some(model) => missing("model", model),
        None => Ok(()),
    }
}

/// What may be said twice must be said the same.
fn amounts(_: &Project, name: &str, service: &Service) -> Result<(), String> {
    let deploy = service.deploy.as_ref();
    let replicas = deploy.and_then(|deploy| deploy.replicas);
    let distinct = |one: &str, other: &str| {
        invalid(format!("services.{name}: can't set distinct values on '{one}' and '{other}'"))
    };
    if let (Some(scale), Some(replicas)) = (service.scale, replicas)
        && scale != replicas
    {
        return distinct("scale", "deploy.replicas");
    }
    if service.scale.is_some_and(|scale| scale < 0) {
        return Err(format!("services.{name}.scale: must be greater than or equal to 0"));
    }
    if replicas.is_some_and(|replicas| replicas < 0) {
        return Err(format!("services.{name}.deploy.replicas: must be greater than or equal to 0"));
    }
    let limits = deploy.and_then(|deploy| deploy.resources.limits.as_ref());
    let reservations = deploy.and_then(|deploy| deploy.resources.reservations.as_ref());
    if let Some(limits) = limits {
        if service.cpus != 0.0 && (service.cpus - limits.cpus).abs() > f64::EPSILON {
            return distinct("cpus", "deploy.resources.limits.cpus");
        }
        if service.mem_limit != 0 && service.mem_limit != limits.memory {
            return distinct("mem_limit", "deploy.resources.limits.memory");
        }
        if service.pids_limit != 0 && service.pids_limit != limits.pids {
            return distinct("pids_limit", "deploy.resources.limits.pids");
        }
    }
    if let Some(reservations) = reservations
        && service.mem_reservation != 0
        && service.mem_reservation != reservations.memory
    {
        return distinct("mem_reservation", "deploy.resources.reservations.memory");
    }
    if service.replicas() > 1 && !service.container_name.is_empty() {
        let key = if service.scale.is_some() { "scale" } else { "deploy.replicas" };
        return invalid(format!(
            "services.{name}: can't set container_name and {key} as container name must be unique"
        ));
    }
    Ok(())
}

fn mounts(_: &Project, name: &str, service: &Service) -> Result<(), String> {
    for watch in service.develop.iter().flat_map(|develop| &develop.watch) {
        if watch.target.is_empty() && !matches!(watch.action.as_str(), "rebuild" | "restart") {
            return invalid(format!(
                "services.{name}.develop.watch: target is required for non-rebuild actions"
            ));
        }
    }
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    let tmpfs = service.tmpfs.iter().enumerate().map(|(index, tmpfs)| {
        (format!("services.{name}.tmpfs[{index}]"), tmpfs.split(':').next().unwrap_or_default())
    });
    let volumes = service.volumes.iter().enumerate();
    let volumes =
        volumes.map(|(index, mount)| (format!("services.{name}.volumes[{index}]"), mount.target.as_str()));
    for (place, target) in tmpfs.chain(volumes) {
        if let Some(other) = taken.get(target) {
            return Err(format!("{place}: target {target} already mounted as {other}"));
        }
        taken.insert(target, place);
    }
    Ok(())
}

/// Refuses services that wait for each other.
fn cycle(project: &Project) -> Result<(), String> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in project.services.keys() {
        // A path of services, each with those that it depends on and that are not looked at yet.
        let needs = |name: &str| -> Vec<&str> {
            let service = project.services.get(name);
            service.map_or_else(Vec::new, |service| {
                service.depends_on.keys().rev().map(String::as_str).collect()
            })
        };
        let mut way: Vec<(&str, Vec<&str>)> = vec![(start, needs(start))];
        while let Some((name, left)) = way.last_mut() {
            let Some(next) = left.pop() else {
                done.insert(name);
                way.pop();
                continue;
            };
            if let Some(at) = way.iter().position(|(name, _)| *name == next) {
                let names: Vec<&str> = way[at..].iter().map(|(name, _)| *name).chain([next]).collect();
                return Err(format!("dependency cycle detected: {}", names.join(" -> ")));
            }
            if !done.contains(next) && project.services.contains_key(next) {
                let more = needs(next);
                way.push((next, more));
            }
        }
    }
    Ok(())
}
