//! Services that a program outside of rbox provides: it is told what is wanted, says how far it is, and which variables lead to what it
//! has made. As Compose asks it: <https://github.com/docker/compose/blob/main/docs/extension.md>.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rbox_engine::engine::Engine;
use rbox_spec::json;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Narrator, Stage, Thing, alone};
use crate::error::RunError;
use crate::labels;
use crate::model::{Project, Provider, Service};
use crate::plan::in_order;

/// What a provider may say in all.
const MOST: u64 = 16 << 20;

/// After it has said all, how long it may take to end.
const ENDING: Duration = Duration::from_mins(1);

/// What a provider is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Up,
    Down,
    Stop,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Stop => "stop",
        }
    }

    fn stages(self) -> (Stage, Stage) {
        match self {
            Self::Up => (Stage::Creating, Stage::Created),
            Self::Down => (Stage::Removing, Stage::Removed),
            Self::Stop => (Stage::Stopping, Stage::Stopped),
        }
    }

    /// As Compose says what has failed.
    fn action(self) -> &'static str {
        match self {
            Self::Up => "create",
            Self::Down => "remove",
            Self::Stop => "stop",
        }
    }
}

/// What a provider says.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    message: String,
}

/// What it says of itself.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    description: String,
    up: Parameters,
    down: Parameters,
    stop: Option<Parameters>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameters {
    parameters: Option<Vec<Parameter>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Parameter {
    name: String,
    required: bool,
}

impl Metadata {
    fn is_empty(&self) -> bool {
        self.description.is_empty() && self.up.parameters.is_none() && self.down.parameters.is_none()
    }
}

/// Variables for those who depend on a service.
#[derive(Default)]
struct Variables {
    /// With its name before theirs.
    prefixed: BTreeMap<String, String>,
    raw: BTreeMap<String, String>,
}

/// Has the services of a project that others provide provided, those that others depend on first, and gives the variables that lead
/// there to the services that depend on them.
///
/// # Errors
/// A provider is not there, cannot provide it, or says what is not of the protocol.
pub fn provide(engine: &Engine, project: &mut Project, narrator: &dyn Narrator) -> Result<(), RunError> {
    let names = provided(project);
    if names.is_empty() {
        return Ok(());
    }
    let _alone = alone(engine, &project.name, narrator)?;
    for name in names {
        let Some(variables) = one(project, &name, Verb::Up, narrator)? else { continue };
        give(project, &name, &variables, narrator);
    }
    Ok(())
}

/// Has those stopped or removed that others provide, those first that depend on others. Who does not know how to stop is left out.
pub(super) fn end(
    project: &Project,
    verb: Verb,
    is_meant: &dyn Fn(&str) -> bool,
    narrator: &dyn Narrator,
) -> Result<(), RunError> {
    let names = provided(project).into_iter().rev().filter(|name| is_meant(name));
    names.into_iter().try_for_each(|name| one(project, &name, verb, narrator).map(drop))
}

/// Stops what others provide for these services.
///
/// # Errors
/// As [`provide`].
pub fn stop_provided(
    project: &Project,
    is_meant: &dyn Fn(&str) -> bool,
    narrator: &dyn Narrator,
) -> Result<(), RunError> {
    end(project, Verb::Stop, is_meant, narrator)
}

fn provided(project: &Project) -> Vec<String> {
    let provided = |service: &&Service| service.provider.is_some();
    in_order(project).into_iter().filter(provided).map(|service| service.name.clone()).collect()
}

/// None where nothing was done.
fn one(
    project: &Project,
    name: &str,
    verb: Verb,
    narrator: &dyn Narrator,
) -> Result<Option<Variables>, RunError> {
    let refused = |why: String| RunError::Service { service: name.to_owned(), why };
    let Some(provider) = project.services.get(name).and_then(|service| service.provider.as_ref()) else {
        return Ok(None);
    };
    let program = find(&provider.kind, &search_path()).map_err(refused)?;
    let metadata = metadata(project, &program);
    let parameters = match verb {
        Verb::Up => &metadata.up,
        Verb::Down => &metadata.down,
        Verb::Stop => match &metadata.stop {
            Some(parameters) => parameters,
            None => return Ok(None),
        },
    };
    let words = words(project, name, provider, verb, (!metadata.is_empty()).then_some(parameters));
    let words = words.map_err(refused)?;
    let (begun, done) = verb.stages();
    narrator.tell(Thing::Service, name, begun);
    // What it writes to its standard error is for the user, and tells why it fails.
    let mut child = command(project, &program)
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| refused(format!("run {}: {error}", program.display())))?;
    let heard = hear(&mut child, name, narrator);
    if heard.is_err() {
        // It is not asked any more.
        let _ = child.kill();
    }
    let status = ended(&mut child);
    let failed = |why: String| {
        narrator.tell(Thing::Service, name, Stage::Error);
        refused(why)
    };
    let variables = heard.map_err(failed)?;
    let status = status.map_err(|error| failed(format!("wait for {}: {error}", program.display())))?;
    if !status.success() {
        return Err(failed(format!("failed to {} service provider: {status}", verb.action())));
    }
    narrator.tell(Thing::Service, name, done);
    Ok(Some(variables))
}

/// The program of a provider: a plugin of Docker's command line, or one in the search path.
fn find(kind: &str, path: &[PathBuf]) -> Result<PathBuf, String> {
    if kind == "compose" {
        return Err("'compose' is not a valid provider type".into());
    }
    if kind.contains('/') {
        let program = PathBuf::from(kind);
        return if is_program(&program) {
            Ok(program)
        } else {
            Err(format!("provider {kind:?}: it is no program that can be executed"))
        };
    }
    let plugins = plugin_directories().into_iter().map(|dir| dir.join(format!("docker-{kind}")));
    let on_path = path.iter().map(|dir| dir.join(kind));
    plugins.chain(on_path).find(|program| is_program(program)).ok_or_else(|| {
        format!("provider {kind:?}: there is no program of that name in PATH, and no plugin docker-{kind} of Docker's command line")
    })
}

fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An empty part, which is the current directory to a shell, is none to Compose.
    std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect()
}

/// Where Docker's command line looks for its plugins.
fn plugin_directories() -> Vec<PathBuf> {
    let own = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let own = own.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")));
    let shared = ["/usr/local/lib", "/usr/local/libexec", "/usr/lib", "/usr/libexec"];
    let shared = shared.map(|dir| Path::new(dir).join("docker/cli-plugins"));
    own.map(|dir| dir.join("cli-plugins")).into_iter().chain(shared).collect()
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Runs it with the variables of the project.
fn command(project: &Project, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("compose").envs(&project.environment).stdin(Stdio::null());
    command
}

/// What a provider says of itself; nothing where it does not.
fn metadata(project: &Project, program: &Path) -> Metadata {
    let mut command = command(project, program);
    command.arg("metadata").stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return Metadata::default() };
    let mut text = Vec::new();
    let read = child.stdout.take().map(|output| output.take(MOST).read_to_end(&mut text));
    let has_ended = ended(&mut child).is_ok_and(|status| status.success());
    match read {
        Some(Ok(_)) if has_ended => json::from_slice(&text).unwrap_or_default(),
        _ => Metadata::default(),
    }
}

/// The words after `compose`. Options that the provider does not know are left out, if it says what it knows.
fn words(
    project: &Project,
    name: &str,
    provider: &Provider,
    verb: Verb,
    known: Option<&Parameters>,
) -> Result<Vec<String>, String> {
    let known = known.map(|known| known.parameters.as_deref().unwrap_or_default());
    let missing =
        known.into_iter().flatten().find(|one| one.required && !provider.options.contains_key(&one.name));
    if let Some(missing) = missing {
        return Err(format!(
            "required parameter {:?} is missing from provider {:?} definition",
            missing.name, provider.kind
        ));
    }
    let mut words = vec![format!("--project-name={}", project.name), verb.as_str().to_owned()];
    for (key, values) in &provider.options {
        if known.is_none_or(|known| known.iter().any(|one| one.name == *key)) {
            words.extend(values.iter().map(|value| format!("--{key}={value}")));
        }
    }
    words.push(name.to_owned());
    Ok(words)
}

/// Reads what it says until it has said all.
fn hear(child: &mut Child, name: &str, narrator: &dyn Narrator) -> Result<Variables, String> {
    let mut variables = Variables::default();
    let Some(output) = child.stdout.take() else { return Ok(variables) };
    let messages = serde_json::Deserializer::from_reader(io::BufReader::new(output.take(MOST)));
    for message in messages.into_iter::<serde_json::Value>() {
        let Message { kind, message } = message
            .and_then(json::from_value)
            .map_err(|error| format!("invalid response from provider: {error}"))?;
        let pair = || {
            let (key, value) =
                message.split_once('=').filter(|(key, _)| !key.is_empty() && !message.contains('\0'))?;
            Some((key.to_owned(), value.to_owned()))
        };
        let invalid = || format!("invalid response from provider: {message:?} is not NAME=VALUE");
        match kind.as_str() {
            "info" => narrator.tell_word(Thing::Service, name, message.lines().next().unwrap_or_default()),
            "error" => return Err(message),
            "setenv" => variables.prefixed.extend([pair().ok_or_else(invalid)?]),
            "rawsetenv" => variables.raw.extend([pair().ok_or_else(invalid)?]),
            "debug" => {}
            other => return Err(format!("invalid response from provider: unknown type {other:?}")),
        }
    }
    Ok(variables)
}

/// How a program ended that has said all. One that goes on all the same is not waited for.
fn ended(child: &mut Child) -> io::Result<ExitStatus> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begin.elapsed() > ENDING {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Gives variables to those who depend on a service. A label of them says whether a container has them as they are now.
fn give(project: &mut Project, name: &str, variables: &Variables, narrator: &dyn Narrator) {
    let prefix = format!("{}_", name.to_uppercase());
    let dependents = project.services.values_mut().filter(|service| service.depends_on.contains_key(name));
    for service in dependents {
        let mut digest = Sha256::new();
        digest.update(service.labels.get(labels::PROVIDED).map_or("", String::as_str));
        let prefixed = variables.prefixed.iter().map(|(key, value)| (format!("{prefix}{key}"), value));
        let raw = variables.raw.iter().map(|(key, value)| (key.clone(), value));
        for (key, value) in &variables.raw {
            if service.environment.get(key).is_some_and(|before| before.as_ref() != Some(value)) {
                narrator.warn(&format!(
                    "provider {name:?} overrides environment variable {key:?} in service {:?}",
                    service.name
                ));
            }
        }
        for (key, value) in prefixed.chain(raw) {
            digest.update(format!("{key}={value}\0"));
            service.environment.insert(key, Some(value.clone()));
        }
        let mut text = String::new();
        for byte in digest.finalize() {
            let _ = write!(text, "{byte:02x}");
        }
        service.labels.insert(labels::PROVIDED.to_owned(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_compose_has_them() {
        let project = Project { name: "shop".into(), ..Project::default() };
        let options = [("size", "5"), ("type", "sql")].map(|(key, value)| (key.into(), vec![value.into()]));
        let provider = Provider { kind: "cloud".into(), options: options.into() };
        let all = |known: Option<&Parameters>| words(&project, "db", &provider, Verb::Up, known);
        let plain = ["--project-name=shop", "up", "--size=5", "--type=sql", "db"].map(str::to_owned);
        assert_eq!(all(None), Ok(plain.to_vec()));
        let parameter = |name: &str, required| Parameter { name: name.into(), required };
        let known = Parameters { parameters: Some(vec![parameter("type", true)]) };
        assert_eq!(all(Some(&known)).map(|words| words.len()), Ok(4));
        let known = Parameters { parameters: Some(vec![parameter("region", true)]) };
        let why = r#"required parameter "region" is missing from provider "cloud" definition"#;
        assert_eq!(all(Some(&known)), Err(why.into()));
    }
}
