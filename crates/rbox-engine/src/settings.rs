//! The configuration file of the engine: defaults for what containers are not told themselves.
//!
//! `/etc/rbox/config.json`, or the file that `RBOX_CONFIG` names:
//! ```json
//! { "userns": "auto", "cdi-spec-dirs": ["/etc/cdi", "/var/run/cdi"] }
//! ```
//! - `userns`: what `--userns` is, where a container is given neither that nor maps of ids.
//! - `cdi-spec-dirs`: where the files of devices are looked for, as in Docker's `daemon.json`; those in a later directory win.
//!
//! How registries are reached is in a file of its own, `registries.json` beside it.

use std::path::{Path, PathBuf};
use std::{env, io};

use rbox_spec::Kind;
use rbox_spec::userns::{IdFlags, UsernsMode};
use rbox_sys::{own, plain};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Where the file is unless the environment says otherwise.
const DEFAULT_FILE: &str = "/etc/rbox/config.json";
/// The variable that names another file.
const FILE_VARIABLE: &str = "RBOX_CONFIG";
/// Where files of devices are, unless it says otherwise.
const CDI_DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Far more than it could say.
const MOST_BYTES: u64 = 1 << 20;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    #[serde(deserialize_with = "userns")]
    userns: Option<String>,
    #[serde(deserialize_with = "directories")]
    cdi_spec_dirs: Option<Vec<PathBuf>>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("read {}: {}", file.display(), plain(source))]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It says what it may not say; with line and column.
    #[error("{}: {source}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The variable names it from a directory that another process is not in.
    #[error("{FILE_VARIABLE}={0}: it has to be an absolute path")]
    Relative(String),
}

impl SettingsError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { source, .. } => Kind::of_io(source),
            Self::Json { .. } => Kind::Damaged,
            Self::Relative(_) => Kind::Invalid,
        }
    }
}

impl Settings {
    /// Reads the file. None there says nothing, but one that the variable names has to be there.
    ///
    /// # Errors
    /// It cannot be read, has a key that is not known, or a value that makes no sense.
    pub fn load() -> Result<Self, SettingsError> {
        let named = env::var_os(FILE_VARIABLE).filter(|file| !file.is_empty()).map(PathBuf::from);
        if let Some(file) = named.as_ref().filter(|file| !file.is_absolute()) {
            return Err(SettingsError::Relative(file.display().to_string()));
        }
        let file = named.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        match file.canonicalize().and_then(|file| own::read(&file, MOST_BYTES)) {
            Ok(text) => Self::parse(file, &text),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read { file: file.to_owned(), source }),
        }
    }

    fn parse(file: &Path, text: &[u8]) -> Result<Self, SettingsError> {
        rbox_spec::json::from_slice(text)
            .map_err(|source| SettingsError::Json { file: file.to_owned(), source })
    }

    /// What `--userns` is where it is not given.
    pub fn userns(&self) -> Option<&str> {
        self.userns.as_deref()
    }

    /// Where files of devices are; those in a later directory win.
    pub fn cdi_directories(&self) -> Vec<PathBuf> {
        self.cdi_spec_dirs.clone().unwrap_or_else(|| CDI_DIRECTORIES.map(PathBuf::from).to_vec())
    }
}

fn userns<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let mode = String::deserialize(from)?;
    UsernsMode::parse(&mode, &IdFlags::default()).map_err(D::Error::custom)?;
    Ok(Some(mode))
}

fn directories<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<PathBuf>>, D::Error> {
    let all = Vec::<PathBuf>::deserialize(from)?;
    match all.iter().find(|dir| !dir.is_absolute()) {
        Some(dir) => {
            Err(D::Error::custom(format_args!("cdi-spec-dirs: {:?} is not an absolute path", dir.display())))
        }
        None => Ok(Some(all)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_it_may_say() {
        let parse = |text: &str| Settings::parse(Path::new("/c.json"), text.as_bytes());
        assert_eq!(parse("{}").unwrap(), Settings::default());
        assert_eq!(Settings::default().cdi_directories().len(), 2);
        let all = parse(r#"{ "userns": "auto:size=2000", "cdi-spec-dirs": ["/a"] }"#).unwrap();
        assert_eq!((all.userns(), all.cdi_directories()), (Some("auto:size=2000"), vec!["/a".into()]));
        for (text, words) in [
            ("{\n \"usrns\": \"auto\" }", &["/c.json: unknown field `usrns`", "line 2"][..]),
            ("{\n\n \"userns\": 1 }", &["expected a string", "line 3"]),
            ("{ \"userns\": \"private\" }", &["invalid --userns \"private\"", "line 1"]),
            ("{ \"cdi-spec-dirs\": [\"a\"] }", &["\"a\" is not an absolute path", "line 1"]),
            ("[]", &["line 1"]),
            ("", &["EOF", "line 1"]),
        ] {
            let said = parse(text).unwrap_err().to_string();
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
}
