//! Credentials as `docker login` keeps them: `~/.docker/config.json` and the programs it names.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fmt, fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::error::RegistryError;
use super::helper::{self, Secret};

/// The key of Docker Hub's credentials.
pub(super) const HUB_KEY: &str = "https://index.docker.io/v1/";
pub(super) const MAX_FILE: usize = 8 << 20;

/// The directory of `config.json`, when this process was given one.
static CONFIG_DIR: OnceLock<PathBuf> = OnceLock::new();

/// Has this process look up credentials in `config.json` of this directory, whatever the environment says: the first directory
/// given holds.
pub fn docker_config_in(dir: PathBuf) {
    CONFIG_DIR.get_or_init(|| dir);
}

/// Where Docker's client keeps its own: the directory of [`docker_config_in`], else `$DOCKER_CONFIG`, else `$HOME/.docker`.
pub fn docker_config_dir() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = CONFIG_DIR.get().cloned().or_else(|| set("DOCKER_CONFIG"));
    dir.or_else(|| set("HOME").map(|home| home.join(".docker")))
}

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
    pub(super) file: Option<PathBuf>,
    /// The one for every registry, while it is tried out.
    only: Option<Credential>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct DockerConfig {
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

impl Credentials {
    /// Docker's file: `config.json` in [`docker_config_dir`].
    pub fn docker() -> Self {
        Self { file: docker_config_dir().map(|dir| dir.join("config.json")), only: None }
    }

    /// Another file of the same form.
    pub fn from_file(file: PathBuf) -> Self {
        Self { file: Some(file), only: None }
    }

    /// None at all.
    pub const fn none() -> Self {
        Self { file: None, only: None }
    }

    /// This one alone, for whatever registry is asked.
    pub const fn only(credential: Credential) -> Self {
        Self { file: None, only: Some(credential) }
    }

    /// The credential for a registry (`docker.io`, `localhost:5000`), if there is one.
    pub fn find(&self, registry: &str) -> Result<Option<Credential>, RegistryError> {
        let fail = |reason: String| RegistryError::Credentials { registry: registry.to_owned(), reason };
        if self.only.is_some() {
            return Ok(self.only.clone());
        }
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
            if let Some(found) = helper::get(helper, server).map_err(fail)? {
                return Ok(Some(match found {
                    Secret { user, secret } if user == helper::TOKEN_USER => Credential::Identity(secret),
                    Secret { user, secret } => Credential::Basic { user, password: secret },
                }));
            }
        }
        let Some((_, entry)) = config.entry(registry) else { return Ok(None) };
        entry.read().map_err(|reason| fail(format!("{}: {reason}", file.display())))
    }
}

impl DockerConfig {
    /// The helper to ask about a registry.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
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
    let helper = config.helper(registry).filter(|helper| helper::is_name(helper)).map(str::to_owned);
    let entry = config.entry(registry).filter(|(_, entry)| entry.read().is_ok_and(|found| found.is_some()));
    Some((helper, entry.map(|(key, _)| key.to_owned())))
}

/// Keys were written by many versions of Docker: with and without scheme, with `/v1/` or `/v2/`.
pub(super) fn same_registry(key: &str, registry: &str) -> bool {
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
