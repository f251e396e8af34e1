//! The configuration file for registries.
//!
//! `/etc/rbox/registries.json`, or the file that `RBOX_REGISTRIES` names. JSON, because every machine that has Docker
//! already has `daemon.json` and `config.json`, and because it costs no further dependency:
//! ```json
//! {
//!   "registries": {
//!     "docker.io":            { "mirrors": ["http://127.0.0.1:5000", "mirror.example.net"] },
//!     "registry.lan:5000":    { "plain-http": true },
//!     "registry.example.net": { "ca-file": "/etc/ssl/example-ca.pem", "token-servers": ["login.example.com"] }
//!   }
//! }
//! ```
//! - `mirrors` are asked first, in order, under the same repository name; the registry itself is asked last.
//!   A mirror is `host[:port]` or an `http://` or `https://` URL; what else is said of that host holds for the mirror too.
//! - `plain-http`: no TLS. Registries on loopback (`localhost`, `127/8`, `::1`) are plain HTTP unless told `false`.
//! - `ca-file`: PEM certificates to trust, besides the system's, for this registry and for where it sends clients:
//!   its token server (which sees its credentials anyway) and its storage (whose content is held to its digest).
//! - One registry has one entry, however its name is written: case, a default port and the other names of `docker.io` make no difference, here or
//!   in an image's name. Relative paths are read from the directory of the file.
//! - `verify-key`: PEM public keys (ECDSA on P-256, Ed25519). What is pulled under the registry's name, from wherever, has to be signed by one of
//!   them, in cosign's form: see [`signature`](crate::signature).
//! - `token-servers`: further hosts that may see this registry's credentials when it sends clients there for a token.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use rbox_spec::Kind;
use serde::Deserialize;

use super::origin::{Origin, is_loopback};

/// Where the file is unless the environment says otherwise.
pub const DEFAULT_FILE: &str = "/etc/rbox/registries.json";
/// The variable that names another file.
pub const FILE_VARIABLE: &str = "RBOX_REGISTRIES";

/// The host that serves `docker.io`.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// The host that searches it.
const DOCKER_HUB_INDEX: &str = "index.docker.io";
/// What Docker Hub is known as, and what it is called by.
const HUB: &str = "docker.io";
const HUB_ALSO: [&str; 3] = [DOCKER_HUB, DOCKER_HUB_INDEX, "registry.hub.docker.com"];

/// How to reach registries.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    entries: BTreeMap<Key, Entry>,
}

/// A registry, however its name is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    host: String,
    port: u16,
}

/// What is said of a registry.
#[derive(Debug, Clone)]
struct Entry {
    /// As the file writes it.
    name: String,
    /// Its name has no port there, so that it is the one of its scheme.
    is_bare: bool,
    settings: Settings,
}

impl Entry {
    fn is_plain(&self, host: &str) -> bool {
        self.settings.plain_http.unwrap_or_else(|| is_loopback(host))
    }
}

/// Host and port of a registry's name, in the one form that all its spellings have. `None`: it is no host.
fn parts(registry: &str) -> Option<(String, Option<u16>)> {
    let origin = Origin::new(true, registry)?;
    let port = match registry.rsplit_once(':') {
        Some((_, port)) if !port.contains(']') => Some(origin.port),
        _ => None,
    };
    let bare = origin.host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let host = match bare.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => bare.to_owned(),
    };
    if matches!(port, None | Some(443)) && (host == HUB || HUB_ALSO.contains(&host.as_str())) {
        return Some((HUB.to_owned(), None));
    }
    Some((host, port))
}

fn is_hub(registry: &str) -> bool {
    parts(registry).is_some_and(|(host, port)| host == HUB && port.is_none())
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    registries: BTreeMap<String, Settings>,
}

/// What the file says of one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Asked first.
    pub mirrors: Vec<String>,
    /// No TLS.
    pub plain_http: Option<bool>,
    /// PEM certificates.
    pub ca_file: Option<PathBuf>,
    /// Hosts that may see the credentials.
    pub token_servers: Vec<String>,
    /// PEM public keys, by one of which images have to be signed.
    pub verify_key: Option<PathBuf>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// It cannot be read.
    #[error("read {file}", file = file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not the JSON it should be.
    #[error("{file} is not a valid configuration of registries", file = file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// An entry of it makes no sense.
    #[error("{file}: {reason}", file = file.display())]
    Entry {
        /// The file.
        file: PathBuf,
        /// Which and why.
        reason: String,
    },
    /// A registry's name is no host.
    #[error("{0:?} is not a registry host with an optional port")]
    Host(String),
}

impl RegistriesError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Json { .. } | Self::Entry { .. } => Kind::Damaged,
            // No registry can be there.
            Self::Host(_) => Kind::NotFound,
        }
    }
}

/// One place to ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where requests go.
    pub origin: Origin,
    /// The name under which credentials are looked up.
    pub registry: String,
    /// PEM certificates to trust as well.
    pub ca_file: Option<PathBuf>,
    /// Hosts that may see the credentials.
    pub token_servers: Vec<String>,
}

impl Registries {
    /// The mirrors of a registry, as the file names them.
    pub fn mirrors(&self, registry: &str) -> &[String] {
        self.find(registry).map_or(&[], |settings| &settings.mirrors)
    }

    /// The keys by one of which a registry's images have to be signed.
    pub fn verify_key(&self, registry: &str) -> Option<&Path> {
        self.find(registry)?.verify_key.as_deref()
    }

    /// Where to search a registry.
    ///
    /// # Errors
    /// Its name is no host.
    pub fn search_endpoint(&self, domain: &str) -> Result<Endpoint, RegistriesError> {
        let host = if is_hub(domain) { DOCKER_HUB_INDEX } else { domain };
        let origin = Origin::new(!self.is_plain(domain), host);
        let origin = origin.ok_or_else(|| RegistriesError::Host(domain.to_owned()))?;
        Ok(self.endpoint(domain, origin))
    }

    /// Where the file is: as the environment says, else [`DEFAULT_FILE`].
    pub fn file() -> PathBuf {
        named().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))
    }

    /// Reads the file named by the environment, or the default one, which need not be there.
    pub fn load() -> Result<Self, RegistriesError> {
        if let Some(file) = named() {
            return Self::from_file(&file);
        }
        match Self::from_file(Path::new(DEFAULT_FILE)) {
            Err(RegistriesError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            other => other,
        }
    }

    /// Reads a file.
    pub fn from_file(file: &Path) -> Result<Self, RegistriesError> {
        let bytes =
            fs::read(file).map_err(|source| RegistriesError::Read { file: file.to_owned(), source })?;
        // serde would take an array for a struct, field by field.
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
            let reason = "it is a list; an object with the key \"registries\" is wanted".to_owned();
            return Err(RegistriesError::Entry { file: file.to_owned(), reason });
        }
        let parsed: File = rbox_spec::json::from_slice(&bytes)
            .map_err(|source| RegistriesError::Json { file: file.to_owned(), source })?;
        let entry = |reason| RegistriesError::Entry { file: file.to_owned(), reason };
        let absolute = std::path::absolute(file)
            .map_err(|source| RegistriesError::Read { file: file.to_owned(), source })?;
        let dir = absolute.parent().unwrap_or(Path::new("/"));
        let mut registries = Self::default();
        for (name, mut settings) in parsed.registries {
            // From wherever rbox is called, or a key would hold in one directory and be missing in another.
            for path in [&mut settings.ca_file, &mut settings.verify_key].into_iter().flatten() {
                *path = dir.join(&*path);
            }
            let place = parts(&name).ok_or_else(|| entry(format!("{name:?} is not a registry host")))?;
            if let Some(other) = registries.add(&name, place, settings) {
                return Err(entry(format!(
                    "{other:?} and {name:?} are the same registry: put them together"
                )));
            }
        }
        for Entry { name, settings, .. } in registries.entries.values() {
            for mirror in &settings.mirrors {
                registries
                    .mirror(mirror)
                    .ok_or_else(|| entry(format!("{mirror:?}, a mirror of {name}, is not a host")))?;
            }
        }
        Ok(registries)
    }

    /// Says something of one registry, over what was said before. Nothing of what is no host.
    #[must_use]
    pub fn with(mut self, registry: &str, settings: Settings) -> Self {
        if let Some(place) = parts(registry) {
            self.add(registry, place, settings);
        }
        self
    }

    /// The name of another entry for the same registry, which this one replaces.
    fn add(&mut self, name: &str, (host, port): (String, Option<u16>), settings: Settings) -> Option<String> {
        let entry = Entry { name: name.to_owned(), is_bare: port.is_none(), settings };
        let port = port.unwrap_or(if entry.is_plain(&host) { 80 } else { 443 });
        let is_same = |key: &Key, other: &Entry| {
            key.host == host && (key.port == port || (entry.is_bare && other.is_bare))
        };
        let other = self.entries.iter().find(|(key, other)| is_same(key, other));
        let other = other.map(|(key, other)| (key.clone(), other.name.clone()));
        let other = other.map(|(key, name)| {
            self.entries.remove(&key);
            name
        });
        self.entries.insert(Key { host, port }, entry);
        other
    }

    /// What is said of a registry, by whatever spelling of its name.
    fn find(&self, registry: &str) -> Option<&Settings> {
        let (host, port) = parts(registry)?;
        let at = |port| self.entries.get(&Key { host: host.clone(), port });
        let is_plain = is_loopback(&host);
        let entry = match port {
            Some(port) => at(port),
            None => [at(80), at(443)].into_iter().flatten().find(|entry| entry.is_bare).or_else(|| {
                // The default port, where that entry is for the default scheme: else it is another server.
                at(if is_plain { 80 } else { 443 }).filter(|entry| entry.is_plain(&host) == is_plain)
            }),
        };
        entry.map(|entry| &entry.settings)
    }

    /// Where to ask for a repository of `domain`, in order.
    pub fn endpoints(&self, domain: &str) -> Result<Vec<Endpoint>, RegistriesError> {
        let mut endpoints: Vec<Endpoint> =
            self.of(domain).mirrors.iter().filter_map(|mirror| self.mirror(mirror)).collect();
        let host = if is_hub(domain) { DOCKER_HUB } else { domain };
        let origin = Origin::new(!self.is_plain(domain), host);
        let origin = origin.ok_or_else(|| RegistriesError::Host(domain.to_owned()))?;
        endpoints.push(self.endpoint(domain, origin));
        Ok(endpoints)
    }

    fn of(&self, registry: &str) -> Settings {
        self.find(registry).cloned().unwrap_or_default()
    }

    fn is_plain(&self, registry: &str) -> bool {
        let host = Origin::new(true, registry).map(|origin| origin.host);
        self.of(registry).plain_http.unwrap_or_else(|| host.is_some_and(|host| is_loopback(&host)))
    }

    fn mirror(&self, text: &str) -> Option<Endpoint> {
        let origin = match Origin::split(text) {
            Some((origin, path)) if path == "/" => origin,
            Some(_) => return None,
            None if text.contains('/') => return None,
            None => Origin::new(!self.is_plain(text), text)?,
        };
        let registry = origin.authority();
        Some(self.endpoint(&registry, origin))
    }

    fn endpoint(&self, registry: &str, origin: Origin) -> Endpoint {
        let settings = self.of(registry);
        let (ca_file, token_servers) = (settings.ca_file, settings.token_servers);
        let registry = if is_hub(registry) { HUB } else { registry };
        Endpoint { origin, registry: registry.to_owned(), ca_file, token_servers }
    }
}

fn named() -> Option<PathBuf> {
    env::var_os(FILE_VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn origins(registries: &Registries, domain: &str) -> Vec<String> {
        registries.endpoints(domain).unwrap().iter().map(|e| e.origin.to_string()).collect()
    }

    #[test]
    fn mirrors_first_and_loopback_plain() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"registries":{"docker.io":{"mirrors":["http://127.0.0.1:5000","m.example.net"]},
            "m.example.net":{"ca-file":"/ca.pem"},"lan:5000":{"plain-http":true},"localhost:6000":{"plain-http":false}}}"#;
        fs::write(&file, text).unwrap();
        let registries = Registries::from_file(file.path()).unwrap();
        let hub = ["http://127.0.0.1:5000", "https://m.example.net", "https://registry-1.docker.io"];
        assert_eq!(origins(&registries, "docker.io"), hub);
        assert_eq!(
            registries.endpoints("docker.io").unwrap()[1].ca_file.as_deref(),
            Some(Path::new("/ca.pem"))
        );
        assert_eq!(origins(&registries, "lan:5000"), ["http://lan:5000"]);
        assert_eq!(origins(&registries, "localhost:6000"), ["https://localhost:6000"]);
        assert_eq!(origins(&registries, "localhost:5000"), ["http://localhost:5000"]);
        assert_eq!(origins(&registries, "127.8.9.1:5000"), ["http://127.8.9.1:5000"]);
        assert_eq!(origins(&registries, "[::1]:5000"), ["http://[::1]:5000"]);
        assert_eq!(origins(&registries, "ghcr.io"), ["https://ghcr.io"]);
    }

    /// Settings by the name that has a key.
    fn guarded(name: &str, plain_http: Option<bool>) -> Registries {
        let settings = Settings { verify_key: Some("/key".into()), plain_http, ..Settings::default() };
        Registries::default().with(name, settings)
    }

    #[test]
    fn one_registry_has_one_key_however_it_is_spelled() {
        for (name, plain, spellings) in [
            (
                "docker.io",
                None,
                &["Docker.io", "index.docker.io", "INDEX.docker.io:443", "registry-1.docker.io"][..],
            ),
            ("index.docker.io", None, &["docker.io", "docker.io:443", "registry.hub.docker.com"]),
            ("localhost:43971", None, &["LOCALHOST:43971", "localhost:043971", "Localhost:0043971"]),
            ("LocalHost:05000", None, &["localhost:5000"]),
            ("localhost", None, &["localhost:80", "LOCALHOST:080"]),
            ("localhost:80", None, &["localhost"]),
            ("localhost", Some(false), &["localhost:443", "localhost"]),
            ("reg.example.net", None, &["REG.example.net:443", "reg.example.net:0443", "reg.example.net"]),
            ("reg.example.net:443", None, &["reg.example.net", "Reg.Example.Net"]),
            ("lan", Some(true), &["lan", "lan:80", "LAN:080"]),
            ("lan.", None, &["lan"]),
            ("[::1]:5000", None, &["[0:0:0:0:0:0:0:1]:5000", "[::0001]:05000"]),
            ("127.0.0.1:5000", None, &["[::ffff:127.0.0.1]:5000", "[::FFFF:7f00:1]:5000"]),
        ] {
            for spelling in spellings {
                assert!(guarded(name, plain).verify_key(spelling).is_some(), "{name}: {spelling}");
            }
        }
        for (name, plain, others) in [
            ("localhost:5000", None, &["localhost", "localhost:5001", "localhost:443"][..]),
            ("reg.example.net", None, &["reg.example.net:80", "reg.example.net:5000", "example.net"]),
            ("lan:80", Some(true), &["lan"]),
            ("lan", Some(true), &["lan:443"]),
            ("docker.io", None, &["docker.io:5000", "hub.docker.io"]),
        ] {
            for other in others {
                assert!(guarded(name, plain).verify_key(other).is_none(), "{name}: {other}");
            }
        }
        assert_eq!(origins(&Registries::default(), "Docker.io"), ["https://registry-1.docker.io"]);
    }

    #[test]
    fn paths_are_read_from_the_directory_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("registries.json");
        let text = r#"{"registries":{"a.b":{"verify-key":"team.pub","ca-file":"sub/../ca.pem"},"c.d":{"verify-key":"/k"}}}"#;
        fs::write(&file, text).unwrap();
        let registries = Registries::from_file(&file).unwrap();
        assert_eq!(registries.verify_key("a.b"), Some(&*dir.path().join("team.pub")));
        assert_eq!(registries.endpoints("a.b").unwrap()[0].ca_file, Some(dir.path().join("sub/../ca.pem")));
        assert_eq!(registries.verify_key("c.d"), Some(Path::new("/k")));
    }

    #[test]
    fn refuses_bad_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bad in [
            "",
            "[]",
            r#"{"registry":{}}"#,
            r#"{"registries":{"x":{"mirror":[]}}}"#,
            r#"{"registries":{"x":{"mirrors":["a/b"]}}}"#,
            r#"{"registries":{"x":{"mirrors":["http://a/b"]}}}"#,
            r#"{"registries":{"http://x/":{}}}"#,
            r#"{"registries":{"a.b":{},"A.b":{}}}"#,
            r#"{"registries":{"a.b":{},"a.b:443":{}}}"#,
            r#"{"registries":{"docker.io":{},"index.docker.io":{}}}"#,
            r#"{"registries":{"lan":{},"LAN":{"plain-http":true}}}"#,
        ] {
            fs::write(&file, bad).unwrap();
            assert!(Registries::from_file(file.path()).is_err(), "{bad}");
        }
        assert!(Registries::from_file(Path::new("/nonexistent/x")).is_err());
    }
}
