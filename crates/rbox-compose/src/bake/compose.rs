//! Compose files as bake files: each service that is built is a target.

use std::path::Path;

use serde_json::Value as Json;

use super::config::Config;
use super::entries::{Attest, Entry, Item, Secret, Ssh, items, normal};
use super::error::BakeError;
use super::files::BakeFile;
use super::plan::{cleaned, is_elsewhere};
use super::target::{Group, Target, once};
use super::value::Value;
use crate::environment::Shell;
use crate::load::{Options, bound, whole};
use crate::model::{Build, Project, Service};
use crate::yaml::{Node, Out};

/// Loads compose files. The warnings are the loader's.
pub(crate) fn load(
    files: &[&BakeFile],
    directory: &Path,
    environment: &Shell,
) -> Result<(Config, Vec<String>), BakeError> {
    let contents =
        files.iter().filter(|file| file.name == "-").map(|file| (file.name.clone(), file.text.clone()));
    let options = Options {
        contents: contents.collect(),
        directory: directory.to_owned(),
        environment: environment.clone(),
        files: files.iter().map(|file| file.name.clone()).collect(),
        name: environment
            .get("COMPOSE_PROJECT_NAME")
            .filter(|name| !name.is_empty())
            .or_else(|| Some("bake".to_owned())),
        profiles: vec!["*".to_owned()],
        project_directory: Some(directory.to_owned()),
        normalize: false,
        resolve_paths: false,
        check_consistency: false,
        ..Options::default()
    };
    let mut warnings = Vec::new();
    let whole = whole(&options, &mut warnings)?;
    let project = bound(&whole)?;
    let mut config = Config::default();
    let mut default = Group { name: "default".to_owned(), ..Group::default() };
    for service in project.services.values() {
        let Some(build) = &service.build else { continue };
        let name = service.name.replace('.', "_");
        let more =
            whole.root.get("services").and_then(|all| all.get(&service.name)?.get("build")?.get("x-bake"));
        let refused =
            |error: String| BakeError::Invalid(format!("service {:?}: build.{error}", service.name));
        let mut target =
            target(&project, service, build, &|name| whole.environment.get(name)).map_err(refused)?;
        if let Some(more) = more.filter(|more| !more.is_null()) {
            add(&mut target, more).map_err(|error| refused(format!("x-bake.{error}")))?;
        }
        if target.tags.is_none() {
            target.tags = given(&service.image).map(|image| vec![image]);
        }
        target.name.clone_from(&name);
        default.targets.push(name);
        config.targets.push(target);
    }
    config.groups.push(default);
    Ok((config, warnings))
}

fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn target(
    project: &Project,
    service: &Service,
    build: &Build,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Target, String> {
    let local =
        |path: &str| if path.is_empty() || is_elsewhere(path) { path.to_owned() } else { cleaned(path) };
    let mut target = Target {
        context: given(&build.context),
        dockerfile: given(&build.dockerfile),
        dockerfile_inline: given(&build.dockerfile_inline),
        contexts: build
            .additional_contexts
            .iter()
            .map(|(name, context)| (name.clone(), local(&linked(context))))
            .collect(),
        labels: build.labels.clone(),
        cache_from: caches(&build.cache_from)?,
        network: given(&build.network),
        target: given(&build.target),
        no_cache: build.no_cache.then_some(true),
        pull: build.pull.then_some(true),
        ..Target::default()
    };
    for (name, value) in &build.args {
        let own = || service.environment.get(name).cloned().flatten();
        if let Some(value) = value.clone().or_else(own).or_else(|| variable(name)) {
            target.args.insert(name.clone(), value);
        }
    }
    target.tags = Some(build.tags.clone()).filter(|tags| !tags.is_empty());
    target.cache_to = Some(caches(&build.cache_to)?).filter(|all| !all.is_empty());
    target.platforms = Some(build.platforms.clone()).filter(|all| !all.is_empty());
    target.shm_size = (build.shm_size > 0).then(|| bytes(build.shm_size));
    target.ulimits =
        build.ulimits.iter().map(|(name, limit)| format!("{name}={}:{}", limit.soft, limit.hard)).collect();
    for host in &build.extra_hosts {
        let (name, address) = host.split_once(['=', ':']).unwrap_or((host, ""));
        let all = target.extra_hosts.entry(name.to_owned()).or_default();
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(address);
    }
    let key = |(id, path): (&String, &String)| Ssh {
        id: id.clone(),
        paths: given(&local(path)).into_iter().collect(),
    };
    target.ssh = build.ssh.iter().map(key).collect();
    target.secrets = build
        .secrets
        .iter()
        .map(|secret| {
            let object = project.secrets.get(&secret.source);
            let object = object.ok_or_else(|| format!("secrets: there is no secret {:?}", secret.source))?;
            Ok(Secret {
                id: secret.source.clone(),
                source: local(&object.file),
                variable: object.environment.clone(),
            })
        })
        .collect::<Result<_, String>>()?;
    for (kind, text) in [("sbom", &build.sbom), ("provenance", &build.provenance)] {
        if !text.is_empty() {
            target.attest.extend(Attest::of_text(&Attest::canonical(kind, text))?);
        }
    }
    if build.privileged {
        return Err("privileged: bake has no such targets: entitlements has security.insecure".to_owned());
    }
    target.entitlements.clone_from(&build.entitlements);
    target.no_cache_filter.clone_from(&build.no_cache_filter);
    Ok(target)
}

fn caches(texts: &[String]) -> Result<Vec<Entry>, String> {
    texts.iter().map(|text| Entry::of_text(text)).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
}

/// A service that is a context is a target here.
fn linked(context: &str) -> String {
    match context.strip_prefix("service:").or_else(|| context.strip_prefix("target:")) {
        Some(name) => format!("target:{}", name.replace('.', "_")),
        None => context.to_owned(),
    }
}

/// Texts in a list, or in one text with spaces between them.
fn words(value: &Json) -> Result<Vec<String>, String> {
    match value {
        Json::String(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
        Json::Array(all) => all
            .iter()
            .map(|one| {
                one.as_str().map(str::to_owned).ok_or_else(|| "a list of texts is required".to_owned())
            })
            .collect(),
        Json::Null => Ok(Vec::new()),
        _ => Err("a text or a list of texts is required".to_owned()),
    }
}

/// Adds what `x-bake` says.
fn add(target: &mut Target, more: &Node) -> Result<(), String> {
    let Json::Object(fields) = Out::from(more).to_json() else {
        return Err("an object is required".to_owned());
    };
    for (key, value) in &fields {
        let texts = || words(value).map_err(|error| format!("{key}: {error}"));
        match key.as_str() {
            "tags" => more_texts(&mut target.tags, texts()?),
            "platforms" => more_texts(&mut target.platforms, texts()?),
            "cache-from" => laid(&mut target.cache_from, texts()?)?,
            "cache-to" => laid(target.cache_to.get_or_insert_default(), texts()?)?,
            "secret" => laid(&mut target.secrets, texts()?)?,
            "ssh" => laid(&mut target.ssh, texts()?)?,
            "output" => {
                let all = Entry::outputs(&Value::texts(texts()?)?)?;
                target.outputs = Some(normal([target.outputs.take().unwrap_or_default(), all].concat()));
            }
            "pull" => target.pull = value.as_bool().or(target.pull),
            "no-cache" => target.no_cache = value.as_bool().or(target.no_cache),
            "no-cache-filter" => {
                target.no_cache_filter.extend(texts()?);
                once(&mut target.no_cache_filter);
            }
            "contexts" => {
                for (name, context) in value.as_object().into_iter().flatten() {
                    let context =
                        context.as_str().ok_or_else(|| format!("contexts.{name}: a text is required"))?;
                    target.contexts.entry(name.clone()).or_insert_with(|| linked(context));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn laid<T: Item>(own: &mut Vec<T>, texts: Vec<String>) -> Result<(), String> {
    own.extend(items::<T>(&Value::texts(texts)?)?);
    *own = normal(std::mem::take(own));
    Ok(())
}

fn more_texts(own: &mut Option<Vec<String>>, more: Vec<String>) {
    if more.is_empty() {
        return;
    }
    let own = own.get_or_insert_default();
    own.extend(more);
    once(own);
}

/// `64MiB`: with four digits, as docker writes it.
fn bytes(count: u64) -> String {
    let mut size = count as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while size >= 1024.0
        && let Some(next) = units.next()
    {
        size /= 1024.0;
        unit = next;
    }
    let places = match size {
        size if size < 10.0 => 3,
        size if size < 100.0 => 2,
        size if size < 1000.0 => 1,
        _ => 0,
    };
    let text = format!("{size:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}
