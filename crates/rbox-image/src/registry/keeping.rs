//! Keeping credentials where `docker login` keeps them, and forgetting them.
//!
//! Of Docker's file only the entry of one server is changed. What else is in it stays as it is written there, in its order: it may
//! have been written by a program that knows more keys.
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rbox_rootfs::lock::{self, How, Patience};
use rbox_rootfs::plain;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::credentials::{Credential, Credentials, DockerConfig, HUB_KEY, MAX_FILE};
use super::error::RegistryError;
use super::helper;

const AUTHS: &str = "auths";
/// Links that are followed to where the file is.
const MOST_LINKS: usize = 40;

/// A server as the user of `login` and `logout` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The key of its credentials: a host with an optional port, or Docker Hub's URL.
    pub key: String,
    /// Its name in references: `docker.io`, `localhost:5000`.
    pub registry: String,
    /// As it was given.
    given: String,
}

impl Server {
    /// Docker Hub's.
    pub fn hub() -> Self {
        Self { key: HUB_KEY.to_owned(), registry: "docker.io".to_owned(), given: HUB_KEY.to_owned() }
    }

    /// A host, with an optional port, scheme and path. None at all, `docker.io` and Docker Hub's URL are Docker Hub.
    pub fn parse(text: &str) -> Self {
        if matches!(text, "" | "docker.io" | HUB_KEY) {
            return Self::hub();
        }
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let host = bare.split('/').next().unwrap_or_default().to_owned();
        let registry = match host.as_str() {
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            _ => host.clone(),
        };
        Self { key: host, registry, given: text.to_owned() }
    }

    /// All keys under which older versions of Docker may have kept it, as `docker logout` tries them.
    fn keys(&self) -> Vec<String> {
        let mut keys = vec![self.given.clone()];
        if self.key != HUB_KEY {
            let (plain, tls) = (format!("http://{}", self.key), format!("https://{}", self.key));
            keys.extend([self.key.clone(), plain, tls]);
            keys.dedup();
        }
        keys
    }
}

/// Where a credential is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In this file, which is not encrypted.
    InFile(PathBuf),
    /// In this file already.
    Unchanged,
    /// With a helper.
    WithHelper,
}

impl Credentials {
    /// Keeps a server's credential: in the helper that the file names for it, else in the file.
    ///
    /// # Errors
    /// The helper fails, the file cannot be written, or is not JSON.
    pub fn keep(&self, server: &Server, credential: &Credential) -> Result<Kept, RegistryError> {
        let fail = |reason| RegistryError::Keep { action: "Error saving credentials", reason };
        let held = Held::open(self).map_err(fail)?;
        let mut config = held.read().map_err(fail)?;
        let (user, secret) = match credential {
            Credential::Basic { user, password } => (user.as_str(), password.as_str()),
            Credential::Identity(token) => (helper::TOKEN_USER, token.as_str()),
        };
        if let Some(name) = config.helper(&server.registry).map_err(fail)? {
            helper::store(&name, &server.key, user, secret).map_err(fail)?;
            // That there is something stands in the file too, as Docker has it, and an older secret must not stay there.
            if config.set(&server.key, serde_json::json!({})) {
                held.write(&config).map_err(fail)?;
            }
            return Ok(Kept::WithHelper);
        }
        let entry = match credential {
            Credential::Basic { user, password } => {
                serde_json::json!({ "auth": STANDARD.encode(format!("{user}:{password}")) })
            }
            Credential::Identity(token) => serde_json::json!({ "identitytoken": token }),
        };
        if !config.set(&server.key, entry) {
            return Ok(Kept::Unchanged);
        }
        held.write(&config).map_err(fail)?;
        Ok(Kept::InFile(held.named))
    }

    /// Forgets a server's credentials. What went wrong, by key, if nothing could be done for any of its keys.
    ///
    /// # Errors
    /// The file is not JSON.
    pub fn forget(&self, server: &Server) -> Result<Vec<(String, String)>, RegistryError> {
        let fail = |reason| RegistryError::Keep { action: "could not erase credentials", reason };
        let held = Held::open(self).map_err(fail)?;
        let mut config = held.read().map_err(fail)?;
        let keys = server.keys();
        let mut failures = Vec::new();
        let helper = config.helper(&server.registry).map_err(fail)?;
        let mut changed = false;
        for key in &keys {
            match helper.as_ref().map_or(Ok(()), |name| helper::erase(name, key)) {
                Ok(()) => changed |= config.remove(key),
                Err(why) => failures.push((key.clone(), why)),
            }
        }
        if changed {
            held.write(&config).map_err(fail)?;
        }
        Ok(if failures.len() == keys.len() { failures } else { Vec::new() })
    }
}

/// Docker's file and its directory, held while the file is changed.
struct Held {
    /// As the user knows it.
    named: PathBuf,
    /// Where it is, links followed.
    file: PathBuf,
    _lock: File,
}

impl Held {
    fn open(credentials: &Credentials) -> Result<Self, String> {
        let named = credentials.file.clone().ok_or("neither DOCKER_CONFIG nor HOME is set")?;
        let dir = parent(&named);
        DirBuilder::new().mode(0o700).recursive(true).create(dir).map_err(on("mkdir", dir))?;
        let lock = File::open(dir).map_err(on("open", dir))?;
        // Two logins at once would lose one. Docker takes no lock, and is not stopped by this one.
        lock::take(&lock, How::Exclusive, Patience::MOMENT)
            .map_err(|why| format!("lock {}: {}", dir.display(), plain(&why)))?;
        let file = followed(&named)?;
        Ok(Self { named, file, _lock: lock })
    }

    fn read(&self) -> Result<Config, String> {
        let bytes = match fs::read(&self.file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(on("read", &self.named)(error)),
        };
        if bytes.len() > MAX_FILE {
            return Err(format!("{} is over {MAX_FILE} bytes long", self.named.display()));
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(Config::default());
        }
        let config = Config::parse(&bytes).map_err(|error| {
            format!("{} is not valid JSON and was left as it is: {error}", self.named.display())
        })?;
        Ok(config)
    }

    /// Replaces the file as a whole. One that is there keeps its owner and mode, as Docker does it.
    fn write(&self, config: &Config) -> Result<(), String> {
        let bytes = config.to_bytes().map_err(|error| error.to_string())?;
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let temporary = parent(&self.file).join(format!("{name}.{}.new", std::process::id()));
        let written = self.write_to(&temporary, &bytes);
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(on("write", &self.named))
    }

    fn write_to(&self, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        // What a killed login left under this number.
        let _ = fs::remove_file(temporary);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(bytes)?;
        if let Ok(meta) = fs::metadata(&self.file)
            && meta.is_file()
        {
            // Not as root it may not be given away: then it is the writer's.
            let _ = std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid()));
            file.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o777))?;
        }
        file.sync_all()?;
        fs::rename(temporary, &self.file)
    }
}

/// Where a file is that a link may lead to, also if nothing is there yet.
fn followed(file: &Path) -> Result<PathBuf, String> {
    let mut file = file.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&file) {
            Ok(target) => file = parent(&file).join(target),
            Err(_) => return Ok(file),
        }
    }
    Err(format!("{}: too many links", file.display()))
}

fn parent(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn on<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> String + 'p {
    move |error| format!("{action} {}: {}", path.display(), plain(&error))
}

/// An object whose values stand as they were written, in their order.
#[derive(Default)]
struct Object(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> serde::de::Visitor<'de> for Fields {
            type Value = Object;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut object = Object::default();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    object.put(key, value);
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Object {
    /// Of two of one name the later one counts, as for Go.
    fn put(&mut self, key: String, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }
}

/// Docker's file.
#[derive(Default)]
struct Config {
    all: Object,
    auths: BTreeMap<String, Value>,
}

impl Config {
    fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        // All that is read of it anywhere must be of its type, or what is written could not be read again.
        rbox_spec::json::from_slice::<DockerConfig>(bytes)?;
        let all: Object = serde_json::from_slice(bytes)?;
        let auths = all.0.iter().find(|(key, _)| key == AUTHS).map(|(_, value)| value.get());
        let auths = auths.map(serde_json::from_str).transpose()?.unwrap_or_default();
        Ok(Self { all, auths })
    }

    /// The helper for a registry.
    fn helper(&self, registry: &str) -> Result<Option<String>, String> {
        let text = serde_json::to_vec(&self.all).map_err(|error| error.to_string())?;
        let config: DockerConfig = rbox_spec::json::from_slice(&text).map_err(|error| error.to_string())?;
        Ok(config.helper(registry).map(str::to_owned))
    }

    /// Sets the entry of a server. Whether that is a change.
    fn set(&mut self, key: &str, entry: Value) -> bool {
        self.auths.insert(key.to_owned(), entry.clone()) != Some(entry)
    }

    fn remove(&mut self, key: &str) -> bool {
        self.auths.remove(key).is_some()
    }

    /// The file's text, indented with tabs as Go does it; the values that are not changed as they stood there.
    fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let auths = indented(&self.auths)?.replace('\n', "\n\t");
        let auths = RawValue::from_string(auths)?;
        let mut all = Object::default();
        if !self.all.0.iter().any(|(key, _)| key == AUTHS) {
            all.put(AUTHS.to_owned(), auths.clone());
        }
        for (key, value) in &self.all.0 {
            all.put(key.clone(), if key == AUTHS { auths.clone() } else { value.clone() });
        }
        indented(&all).map(String::into_bytes)
    }
}

fn indented(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut bytes = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, form))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn basic(password: &str) -> Credential {
        Credential::Basic { user: "u".to_owned(), password: password.to_owned() }
    }

    #[test]
    fn servers_have_dockers_keys() {
        for (given, key, registry) in [
            ("", HUB_KEY, "docker.io"),
            ("docker.io", HUB_KEY, "docker.io"),
            (HUB_KEY, HUB_KEY, "docker.io"),
            ("index.docker.io", "index.docker.io", "docker.io"),
            ("http://localhost:5000/v2/", "localhost:5000", "localhost:5000"),
            ("https://ghcr.io", "ghcr.io", "ghcr.io"),
            ("ghcr.io/some/app", "ghcr.io", "ghcr.io"),
        ] {
            let server = Server::parse(given);
            assert_eq!((server.key.as_str(), server.registry.as_str()), (key, registry), "{given}");
        }
    }

    #[test]
    fn what_else_is_in_the_file_stays_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        let text = "{\n\t\"zzz\": {\n\t\t\"b\": 1,\n\t\t\"a\": \"<\\u003c\"\n\t},\n\t\"auths\": {\n\t\t\"b.example\": {\n\t\t\t\"auth\": \"dTpw\",\n\t\t\t\"email\": \"x@y\"\n\t\t}\n\t},\n\t\"HttpHeaders\": {}\n}";
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let credentials = Credentials::from_file(file.clone());
        let server = Server::parse("a.example");
        assert_eq!(credentials.keep(&server, &basic("one")).unwrap(), Kept::InFile(file.clone()));
        assert_eq!(credentials.keep(&server, &basic("one")).unwrap(), Kept::Unchanged);
        let entry = "\n\t\t\"a.example\": {\n\t\t\t\"auth\": \"dTpvbmU=\"\n\t\t},";
        let with = text.replacen("\"auths\": {", &format!("\"auths\": {{{entry}"), 1);
        assert_eq!(fs::read_to_string(&file).unwrap(), with);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        assert_eq!(credentials.find("a.example").unwrap(), Some(basic("one")));
        assert!(credentials.forget(&server).unwrap().is_empty());
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        credentials.keep(&Server::hub(), &Credential::Identity("tok".to_owned())).unwrap();
        assert_eq!(credentials.find("docker.io").unwrap(), Some(Credential::Identity("tok".to_owned())));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file is left");
    }

    #[test]
    fn a_new_file_is_its_owners_alone_and_a_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (home, real) = (dir.path().join("a/.docker"), dir.path().join("real.json"));
        let file = home.join("config.json");
        let credentials = Credentials::from_file(file.clone());
        credentials.keep(&Server::parse("a.example"), &basic("p")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&home), mode(&file)), (0o700, 0o600));
        fs::remove_file(&file).unwrap();
        // Nothing is there yet, then something is.
        std::os::unix::fs::symlink("../../real.json", &file).unwrap();
        for password in ["q", "r"] {
            credentials.keep(&Server::parse("a.example"), &basic(password)).unwrap();
            assert!(fs::symlink_metadata(&file).unwrap().is_symlink() && real.is_file());
            assert_eq!(credentials.find("a.example").unwrap(), Some(basic(password)));
        }
    }

    #[test]
    fn what_is_no_json_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        let credentials = Credentials::from_file(file.clone());
        for bad in ["{bad", "[]", "{\"auths\":[]}", "{\"auths\":{\"x\":1}}", "{} x"] {
            fs::write(&file, bad).unwrap();
            let error = credentials.keep(&Server::parse("x"), &basic("secret")).unwrap_err().to_string();
            assert!(error.contains("left as it is") && !error.contains("secret"), "{bad}: {error}");
            assert!(credentials.forget(&Server::parse("x")).is_err(), "{bad}");
            assert_eq!(fs::read_to_string(&file).unwrap(), bad);
        }
        fs::write(&file, " \n").unwrap();
        credentials.keep(&Server::parse("x"), &basic("p")).unwrap();
    }
}
