//! Which services are meant, what their files of variables say, and what is left of the resources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::discover::absolute;
use super::options::Options;
use super::whole::{Whole, bound};
use crate::consistency;
use crate::environment::Environment;
use crate::error::{ComposeError, Place};
use crate::words::{Missing, parse_dotenv, parse_raw};
use crate::yaml::{Map, Node, Value};

/// The last steps, in Compose's order.
pub(crate) fn finish(whole: &mut Whole, options: &Options) -> Result<(), ComposeError> {
    let here = options.directory.to_string_lossy().into_owned();
    scale(&mut whole.root);
    enable(whole, &whole.profiles.clone());
    if options.check_consistency {
        consistency::check(&bound(whole)?)?;
    }
    for (_, service) in services(&mut whole.root) {
        if options.resolve_environment {
            environment(service, &whole.environment, &here)?;
        }
        labels(service, &here)?;
    }
    select(whole, options)?;
    if options.check_consistency {
        one_name_each(whole)?;
    }
    if !options.all_resources {
        drop_unused(&mut whole.root);
    }
    Ok(())
}

fn services(root: &mut Node) -> impl Iterator<Item = (&String, &mut Map)> {
    let services = root.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut);
    services.into_iter().flatten().filter_map(|(name, node)| Some((name, node.as_map_mut()?)))
}

/// `scale` decides on `deploy.replicas`, which must be the same.
fn scale(root: &mut Node) {
    for (_, service) in services(root) {
        let Some(scale) = service.get("scale").filter(|scale| !scale.is_null()).cloned() else { continue };
        let deploy = service.get_mut("deploy").and_then(Node::as_map_mut);
        if let Some(deploy) = deploy
            && deploy.get("replicas").is_none_or(Node::is_null)
        {
            deploy.insert("replicas".into(), scale);
        }
    }
}

fn names(node: Option<&Node>) -> Vec<String> {
    match node.map(|node| &node.value) {
        Some(Value::List(list)) => list.iter().map(|node| node.value.to_string()).collect(),
        Some(Value::Text(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

fn has_profile(service: &Node, profiles: &[String]) -> bool {
    let own = names(service.get("profiles"));
    own.is_empty() || profiles.iter().any(|profile| profile == "*" || own.contains(profile))
}

/// Parts the services by profiles.
fn enable(whole: &mut Whole, profiles: &[String]) {
    let Some(services) =
        whole.root.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut)
    else {
        return;
    };
    let mut all = std::mem::take(services);
    all.append(&mut whole.disabled);
    for (name, node) in all {
        if has_profile(&node, profiles) {
            services.insert(name, node);
        } else {
            whole.disabled.insert(name, node);
        }
    }
    whole.profiles = profiles.to_vec();
}

struct Known<'a> {
    environment: &'a Environment,
    own: &'a BTreeMap<String, Option<String>>,
}

impl Missing for Known<'_> {
    fn lookup(&mut self, name: &str) -> Option<String> {
        let outside = self.environment.get(name);
        outside.or_else(|| self.own.get(name).cloned().flatten())
    }

    fn missing(&mut self, _: &str) {}
}

/// The variables of a service: those of its files, under its own.
fn environment(service: &mut Map, project: &Environment, here: &str) -> Result<(), ComposeError> {
    let mut own = pairs(service.get("environment"));
    for (name, value) in &mut own {
        if value.is_none() {
            *value = project.get(name);
        }
    }
    let mut all: BTreeMap<String, String> =
        own.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    if let Some(Value::List(files)) = service.get("env_file").map(|node| &node.value) {
        for file in files {
            let path = file.get("path").map(|node| node.value.to_string()).unwrap_or_default();
            let required = file.get("required").is_none_or(|node| node.value.to_string() == "true");
            let format = file.get("format").map(|node| node.value.to_string()).unwrap_or_default();
            let local = absolute(here, &path);
            if !Path::new(&local).exists() {
                if required {
                    return Err(ComposeError::NotFound(format!(
                        "env file {path} not found: stat {path}: no such file or directory"
                    )));
                }
                continue;
            }
            let text = super::files::read_text(Path::new(&local))?;
            let mut known = Known { environment: project, own: &own };
            let read = match format.as_str() {
                "" | ".env" => parse_dotenv(&text, &mut all, &mut known),
                "raw" => parse_raw(&text, &mut all, &mut |name| known.lookup(name)),
                other => return Err(ComposeError::Invalid(format!("unsupported env_file format {other:?}"))),
            };
            read.map_err(|error| ComposeError::Invalid(format!("failed to read {path}: {error}")))?;
        }
    }
    service.remove("env_file");
    for (name, value) in all {
        own.entry(name).or_insert(Some(value));
    }
    put_pairs(service, "environment", own);
    Ok(())
}

fn pairs(node: Option<&Node>) -> BTreeMap<String, Option<String>> {
    match node.map(|node| &node.value) {
        Some(Value::Map(map)) => {
            let shown = |node: &Node| (!node.is_null()).then(|| node.value.to_string());
            map.iter().map(|(name, node)| (name.clone(), shown(node))).collect()
        }
        Some(Value::List(list)) => list
            .iter()
            .map(|node| {
                let text = node.value.to_string();
                match text.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (text, None),
                }
            })
            .collect(),
        _ => BTreeMap::new(),
    }
}

fn put_pairs(service: &mut Map, key: &str, pairs: BTreeMap<String, Option<String>>) {
    if pairs.is_empty() {
        return;
    }
    let entries = pairs.into_iter().map(|(name, value)| (name, value.map_or_else(Node::default, Node::text)));
    service.insert(key.to_owned(), Node::map(entries));
}

struct Labels<'a>(&'a BTreeMap<String, Option<String>>);

impl Missing for Labels<'_> {
    fn lookup(&mut self, name: &str) -> Option<String> {
        self.0.get(name).cloned().flatten()
    }

    fn missing(&mut self, _: &str) {}
}

/// The labels of a service: those of its files, under its own.
fn labels(service: &mut Map, here: &str) -> Result<(), ComposeError> {
    let files = names(service.get("label_file"));
    if files.is_empty() {
        return Ok(());
    }
    let mut all: BTreeMap<String, Option<String>> = BTreeMap::new();
    for file in files {
        let local = absolute(here, &file);
        let path = Path::new(&local);
        if !path.exists() {
            return Err(ComposeError::NotFound(format!(
                "label file {file} not found: stat {file}: no such file or directory"
            )));
        }
        let text = super::files::read_text(path)?;
        let mut values = BTreeMap::new();
        parse_dotenv(&text, &mut values, &mut Labels(&all))
            .map_err(|error| ComposeError::Invalid(format!("failed to read {file}: {error}")))?;
        all.extend(values.into_iter().map(|(name, value)| (name, Some(value))));
    }
    for (name, value) in pairs(service.get("labels")) {
        all.insert(name, Some(value.unwrap_or_default()));
    }
    put_pairs(service, "labels", all);
    service.remove("label_file");
    Ok(())
}

/// Leaves the services that are meant and those that they depend on.
fn select(whole: &mut Whole, options: &Options) -> Result<(), ComposeError> {
    if options.services.is_empty() {
        return Ok(());
    }
    let here = options.directory.to_string_lossy().into_owned();
    let mut profiles = whole.profiles.clone();
    for name in &options.services {
        profiles.extend(names(whole.disabled.get(name).and_then(|service| service.get("profiles"))));
    }
    let before: BTreeSet<String> = services(&mut whole.root).map(|(name, _)| name.clone()).collect();
    enable(whole, &profiles);
    if options.resolve_environment {
        for (name, service) in services(&mut whole.root) {
            if !before.contains(name) {
                environment(service, &whole.environment, &here)?;
            }
        }
    }
    let all = whole.root.get("services").and_then(Node::as_map).cloned().unwrap_or_default();
    let mut wanted = BTreeSet::new();
    let mut left: Vec<(String, bool)> = options.services.iter().map(|name| (name.clone(), true)).collect();
    while let Some((name, required)) = left.pop() {
        let Some(service) = all.get(&name) else {
            if required {
                return Err(ComposeError::NotFound(format!("no such service: {name}")));
            }
            continue;
        };
        if wanted.insert(name) {
            let needs = service.get("depends_on").and_then(Node::as_map);
            let required =
                |node: &Node| node.get("required").is_none_or(|node| node.value != Value::Bool(false));
            left.extend(needs.into_iter().flatten().map(|(name, node)| (name.clone(), required(node))));
        }
    }
    let Some(services) =
        whole.root.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut)
    else {
        return Ok(());
    };
    services.retain(|name, _| wanted.contains(name));
    for service in services.values_mut().filter_map(Node::as_map_mut) {
        if let Some(needs) = service.get_mut("depends_on").and_then(Node::as_map_mut) {
            needs.retain(|name, _| wanted.contains(name));
        }
    }
    whole.disabled.extend(all.into_iter().filter(|(name, _)| !wanted.contains(name)));
    Ok(())
}

fn one_name_each(whole: &mut Whole) -> Result<(), ComposeError> {
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let places = whole.places.clone();
    for (name, service) in services(&mut whole.root) {
        let Some(node) = service.get("container_name") else { continue };
        let container = node.value.to_string();
        if container.is_empty() {
            continue;
        }
        if let Some(other) = taken.get(&container) {
            let file = usize::try_from(node.at.file).ok().and_then(|file| places.get(file)).cloned();
            let at = Place { file: file.unwrap_or_default(), line: node.at.line, column: node.at.column };
            let message =
                format!("services.{name}: container name {container:?} is already in use by service {other}");
            return Err(ComposeError::Schema { at, message });
        }
        taken.insert(container, name.clone());
    }
    Ok(())
}

/// Leaves out networks, volumes, secrets, configs and models that no service uses.
fn drop_unused(root: &mut Node) {
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (_, service) in services(root) {
        let mut keys = |kind: &'static str, node: Option<&Node>| {
            let keys = node.and_then(Node::as_map).into_iter().flat_map(Map::keys).cloned();
            used.entry(kind).or_default().extend(keys);
        };
        keys("networks", service.get("networks"));
        keys("models", service.get("models"));
        let mut sources = |kind: &'static str, node: Option<&Node>| {
            let list = node.and_then(Node::as_list).unwrap_or_default();
            let sources = list.iter().filter(|node| {
                kind != "volumes" || node.get("type").and_then(Node::as_text) == Some("volume")
            });
            let sources = sources.filter_map(|node| node.get("source")?.as_text().map(str::to_owned));
            used.entry(kind).or_default().extend(sources);
        };
        sources("volumes", service.get("volumes"));
        sources("secrets", service.get("secrets"));
        sources("secrets", service.get("build").and_then(|build| build.get("secrets")));
        sources("configs", service.get("configs"));
    }
    let Some(dict) = root.as_map_mut() else { return };
    for kind in ["networks", "volumes", "secrets", "configs", "models"] {
        let used = used.remove(kind).unwrap_or_default();
        if let Some(resources) = dict.get_mut(kind).and_then(Node::as_map_mut) {
            resources.retain(|name, _| used.contains(name));
            if resources.is_empty() {
                dict.remove(kind);
            }
        }
    }
}
