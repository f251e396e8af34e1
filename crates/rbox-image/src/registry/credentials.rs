//! Credentials as `docker login` keeps them: `~/.docker/config.json` and the programs it names.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, fmt, fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rbox_rootfs::plain;
use rbox_rootfs::waiting::{self, Patience};
use serde::Deserialize;

use super::error::RegistryError;

/// The key of Docker Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";
const MAX_FILE: usize = 8 << 20;

/// What opens a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password (or access token).
    Basic {
        /// The name.
        user: String,
        /// The secret.
        password: String,
    },
    /// A refresh token for the registry's token server.
    Identity(String),
}

/// Secrets are not printed.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(…)",
            Self::Identity(_) => "Identity(…)",
        })
    }
}

/// Where credentials are looked up.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Credentials {
    /// Docker's file: `$DOCKER_CONFIG/config.json`, else `$HOME/.docker/config.json`.
    pub fn docker() -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")));
        Self { file: dir.map(|dir| dir.join("config.json")) }
    }

    /// Another file of the same form.
    pub fn from_file(file: PathBuf) -> Self {
        Self { file: Some(file) }
    }

    /// None at all.
    pub const fn none() -> Self {
        Self { file: None }
    }

    /// The credential for a registry (`docker.io`, `localhost:5000`), if there is one.
    pub fn find(&self, registry: &str) -> Result<Option<Credential>, RegistryError> {
        let fail = |reason: String| RegistryError::Credentials { registry: registry.to_owned(), reason };
        let Some(file) = &self.file else { return Ok(None) };
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(fail(format!("read {}: {error}", file.display()))),
        };
        if bytes.len() > MAX_FILE {
            return Err(fail(format!("{} is over {MAX_FILE} bytes long", file.display())));
        }
        let config: DockerConfig = rbox_spec::json::from_slice(&bytes)
            .map_err(|error| fail(format!("{}: {error}", file.display())))?;
        if let Some(helper) = config.helper(registry) {
            let server = if registry == "docker.io" { HUB_KEY } else { registry };
            if let Some(found) = ask_helper(helper, server).map_err(fail)? {
                return Ok(Some(found));
            }
        }
        let Some((_, entry)) = config.entry(registry) else { return Ok(None) };
        entry.read().map_err(|reason| fail(format!("{}: {reason}", file.display())))
    }
}

impl DockerConfig {
    /// The helper to ask about a registry.
    fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.helpers.iter().find(|(key, _)| same_registry(key, registry)).map(|(_, helper)| helper);
        own.or(self.store.as_ref()).map(String::as_str).filter(|helper| !helper.is_empty())
    }

    /// What the file itself has for a registry, and its key.
    fn entry(&self, registry: &str) -> Option<(&str, &Entry)> {
        let (key, entry) = self.auths.iter().find(|(key, _)| same_registry(key, registry))?;
        Some((key, entry))
    }
}

/// The file's text as a fuzzer makes it: the helper that would be asked, and the key that would open the registry. No helper runs.
#[cfg(fuzzing)]
pub fn fuzzing(file: &[u8], registry: &str) -> Option<(Option<String>, Option<String>)> {
    let config: DockerConfig = rbox_spec::json::from_slice(file).ok()?;
    let helper = config.helper(registry).filter(|helper| is_helper(helper)).map(str::to_owned);
    let entry = config.entry(registry).filter(|(_, entry)| entry.read().is_ok_and(|found| found.is_some()));
    Some((helper, entry.map(|(key, _)| key.to_owned())))
}

/// Whether it can be part of a program's name.
fn is_helper(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Keys were written by many versions of Docker: with and without scheme, with `/v1/` or `/v2/`.
fn same_registry(key: &str, registry: &str) -> bool {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = bare.split('/').next().unwrap_or_default();
    let hub = |name: &str| matches!(name, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    host.eq_ignore_ascii_case(registry) || (hub(host) && hub(registry))
}

impl Entry {
    fn read(&self) -> Result<Option<Credential>, String> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Credential::Identity(token.clone())));
        }
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) {
            let text = STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text = text.ok_or("an \"auth\" value is not base64 of text")?;
            let (user, password) =
                text.split_once(':').ok_or("an \"auth\" value has no ':' between user and password")?;
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Credential::Basic { user: user.to_owned(), password }));
        }
        match (&self.username, &self.password) {
            (Some(user), Some(password)) if !user.is_empty() => {
                Ok(Some(Credential::Basic { user: user.clone(), password: password.clone() }))
            }
            _ => Ok(None),
        }
    }
}

/// How long a helper may take: it may ask the user for a password.
const HELPER: Patience = Patience::of_working(Duration::from_mins(5));

/// Runs `docker-credential-<name> get`, which reads a server and writes JSON.
fn ask_helper(name: &str, server: &str) -> Result<Option<Credential>, String> {
    if !is_helper(name) {
        return Err(format!("{name:?} is not the name of a credential helper"));
    }
    let program = format!("docker-credential-{name}");
    let failed = |what: &str, error: &dyn fmt::Display| format!("{what} {program}: {error}");
    let output = waiting::run(Command::new(&program).arg("get"), server.as_bytes(), HELPER)
        .map_err(|error| failed("run", &plain(error)))?;
    if !output.status.success() {
        // The protocol has it on standard output; a helper that fails otherwise says so where programs do.
        let said =
            [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        if said.iter().any(|said| said.contains("credentials not found")) {
            return Ok(None);
        }
        let said =
            said.into_iter().find(|said| !said.is_empty()).unwrap_or_else(|| output.status.to_string());
        let line = said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect::<String>();
        return Err(failed("run", &line));
    }
    let answer: HelperAnswer =
        rbox_spec::json::from_slice(&output.stdout).map_err(|error| failed("read the answer of", &error))?;
    Ok(match (answer.username.as_str(), answer.secret.as_str()) {
        (_, "") => None,
        ("<token>", secret) => Some(Credential::Identity(secret.to_owned())),
        (user, secret) => Some(Credential::Basic { user: user.to_owned(), password: secret.to_owned() }),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_what_docker_login_writes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYTpzcw=="},
            "localhost:5000":{"username":"u","password":"p"},"https://ghcr.io":{"identitytoken":"tok","auth":""},
            "bad.example":{"auth":"!"},"empty.example":{}},"HttpHeaders":{}}"#;
        fs::write(&file, text).unwrap();
        let credentials = Credentials::from_file(file.path().to_owned());
        let basic = |user: &str, password: &str| {
            Some(Credential::Basic { user: user.to_owned(), password: password.to_owned() })
        };
        assert_eq!(credentials.find("docker.io").unwrap(), basic("user", "pa:ss"));
        assert_eq!(credentials.find("localhost:5000").unwrap(), basic("u", "p"));
        assert_eq!(credentials.find("ghcr.io").unwrap(), Some(Credential::Identity("tok".to_owned())));
        for none in ["localhost:5001", "localhost", "empty.example", "hcr.io", "ghcr.io.evil.net"] {
            assert_eq!(credentials.find(none).unwrap(), None, "{none}");
        }
        assert!(credentials.find("bad.example").is_err());
        assert_eq!(Credentials::from_file("/nonexistent/config.json".into()).find("x").unwrap(), None);
        assert!(!format!("{:?}", credentials.find("docker.io").unwrap()).contains("pa:ss"));
    }

    #[test]
    fn helpers_are_named_not_pathed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, r#"{"credsStore":"../../tmp/evil"}"#).unwrap();
        let error = Credentials::from_file(file.path().to_owned()).find("x").unwrap_err().to_string();
        assert!(error.contains("not the name of a credential helper"), "{error}");
    }
}
