//! `RUN --mount` and `RUN --device`.

use std::path::{Component, Path};

use rbox_spec::{Kind, Size, csv};

use super::instruction::{Device, MountFlag};
use super::suggestion::suggest;
use crate::expand::ExpandError;
use crate::text::shown;

/// What is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that is kept from build to build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret, as a file or a variable.
    Secret,
    /// The socket of an SSH agent.
    Ssh,
}

impl MountKind {
    const ALL: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
        ("tmpfs", Self::Tmpfs),
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// Whether two builds may use a cache at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// They may.
    #[default]
    Shared,
    /// The second one has another.
    Private,
    /// The second one waits.
    Locked,
}

impl Sharing {
    const ALL: [(&'static str, Self); 3] =
        [("locked", Self::Locked), ("private", Self::Private), ("shared", Self::Shared)];
}

/// A `--mount` whose variables have their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `type`.
    pub kind: MountKind,
    /// `from`: a stage, an image or a context; empty without.
    pub from: String,
    /// `source`, empty without.
    pub source: String,
    /// `target`, empty without.
    pub target: String,
    /// `readonly` and `readwrite`, or what is usual for the type.
    pub read_only: bool,
    /// `size` of a tmpfs in bytes.
    pub size: Option<u64>,
    /// `id`, empty without.
    pub id: String,
    /// `sharing` of a cache, if it was given.
    pub sharing: Option<Sharing>,
    /// `required`: whether the step fails without the secret or agent.
    pub required: bool,
    /// `env`: the variable that a secret is put in; an empty name stands for the usual one.
    pub env: Option<String>,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
}

/// Why a `--mount` cannot be. The words are BuildKit's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// A value cannot be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// A key or a value is wrong.
    #[error("{0}")]
    Invalid(String),
}

impl MountError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

fn invalid(message: impl Into<String>) -> MountError {
    MountError::Invalid(message.into())
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl MountFlag {
    /// Reads what can be read without an environment.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fields = fields_of(text).map_err(|why| format!("failed to parse csv mounts: {why}"))?;
        let mut from = None;
        for field in &fields {
            if let Some((key, value)) = field.split_once('=')
                && key.eq_ignore_ascii_case("from")
            {
                if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                    return Err(
                        "'from' doesn't support variable expansion, define alias stage instead".to_owned()
                    );
                }
                from = Some(value.to_owned());
            }
        }
        Ok(Self { text: text.to_owned(), from: from.filter(|from| !from.is_empty()) })
    }

    /// The mount, each of its values expanded by `expand`.
    pub fn mount(
        &self,
        mut expand: impl FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Mount, MountError> {
        let fields =
            fields_of(&self.text).map_err(|why| invalid(format!("failed to parse csv mounts: {why}")))?;
        let mut mount = Mount::default();
        let mut read_only = None;
        for field in &fields {
            let Some((key, value)) = field.split_once('=') else {
                mount.set_word(field, &mut read_only)?;
                continue;
            };
            let value = expand(value)?;
            mount.set(&key.to_lowercase(), value, field, &mut read_only)?;
        }
        mount.read_only = read_only.unwrap_or(!matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs));
        mount.check()?;
        Ok(mount)
    }
}

impl Mount {
    /// A key without a value.
    fn set_word(&mut self, field: &str, read_only: &mut Option<bool>) -> Result<(), MountError> {
        let key = field.to_lowercase();
        match key.as_str() {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" => {
                self.only_for(&key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = true;
            }
            _ => {
                return Err(invalid(format!("invalid field '{}' must be a key=value pair", shown(field))));
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        key: &str,
        value: String,
        field: &str,
        read_only: &mut Option<bool>,
    ) -> Result<(), MountError> {
        let truth = |value: &str| {
            boolean(value).ok_or_else(|| invalid(format!("invalid value for {key}: {}", shown(value))))
        };
        match key {
            "type" => {
                let known = MountKind::ALL.iter().find(|(word, _)| *word == value.to_lowercase());
                let unknown = format!("unsupported mount type {}", crate::text::quoted(&value));
                let words = MountKind::ALL.map(|(word, _)| word);
                self.kind = known.ok_or_else(|| invalid(suggest(unknown, &value, words)))?.1;
            }
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "readonly" | "ro" => *read_only = Some(truth(&value)?),
            "readwrite" | "rw" => *read_only = Some(!truth(&value)?),
            "required" => {
                self.only_for(key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = truth(&value)?;
            }
            "size" => {
                self.only_for(key, &[MountKind::Tmpfs])?;
                let size: Size = value
                    .parse()
                    .map_err(|_| invalid(format!("invalid value for {key}: {}", shown(&value))))?;
                self.size = Some(size.bytes());
            }
            "id" => self.id = value,
            "sharing" => {
                let known = Sharing::ALL.iter().find(|(word, _)| *word == value.to_lowercase());
                let unknown = format!("unsupported sharing value {}", crate::text::quoted(&value));
                let words = Sharing::ALL.map(|(word, _)| word);
                self.sharing = Some(known.ok_or_else(|| invalid(suggest(unknown, &value, words)))?.1);
            }
            "mode" => self.mode = Some(number(key, &value, 8)?),
            "uid" => self.uid = Some(number(key, &value, 10)?),
            "gid" => self.gid = Some(number(key, &value, 10)?),
            "env" => self.env = Some(value),
            _ => {
                let unknown = format!("unexpected key '{}' in '{}'", shown(key), shown(field));
                return Err(invalid(suggest(unknown, key, KEYS)));
            }
        }
        Ok(())
    }

    /// Some keys mean something for some types only, and the type has to stand before them.
    fn only_for(&self, key: &str, kinds: &[MountKind]) -> Result<(), MountError> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(invalid(format!("unexpected key '{key}' for mount type '{}'", self.kind.as_str())))
    }

    /// What does not go together.
    fn check(&self) -> Result<(), MountError> {
        let kind = self.kind.as_str();
        if matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            for (key, given) in
                [("mode", self.mode.is_some()), ("uid", self.uid.is_some()), ("gid", self.gid.is_some())]
            {
                if given {
                    return Err(invalid(format!("{key} not allowed for \"{kind}\" type mounts")));
                }
            }
        }
        if self.kind == MountKind::Secret {
            let wrong = if !self.from.is_empty() {
                Some("secret mount should not have a from")
            } else if self.sharing.is_some() {
                Some("secret mount should not define sharing")
            } else if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                Some("invalid secret mount. one of source, target required")
            } else if !self.source.is_empty() && !self.id.is_empty() {
                Some("both source and id can't be set")
            } else {
                None
            };
            if let Some(wrong) = wrong {
                return Err(invalid(wrong));
            }
        }
        if let Some(path) = self.host_dir() {
            self.check_host_dir(path).map_err(invalid)?;
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(invalid(format!("invalid cache sharing set for {kind} mount")));
        }
        Ok(())
    }
}

impl Mount {
    /// The directory of the host's that a cache is: `source=host:/DIR`, which is of rbox alone.
    pub fn host_dir(&self) -> Option<&str> {
        self.source.strip_prefix("host:").filter(|_| self.kind == MountKind::Cache)
    }

    /// Refuses what makes no sense for such a directory: it is there already, and is one.
    fn check_host_dir(&self, path: &str) -> Result<(), String> {
        let has_owner = self.mode.is_some() || self.uid.is_some() || self.gid.is_some();
        let is_plain = path.starts_with('/')
            && Path::new(path)
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        let why = if !is_plain || path.contains('\0') {
            "the path has to be absolute, without '..'"
        } else if !self.from.is_empty() {
            "it cannot have a from"
        } else if !self.id.is_empty() {
            "it cannot have an id: the directory says which cache it is"
        } else if self.sharing == Some(Sharing::Private) {
            "sharing=private would need another directory: use locked or shared"
        } else if has_owner {
            "mode, uid and gid are for new directories: this one stays as it is"
        } else {
            return Ok(());
        };
        Err(format!("cache mount of source {}: {why}", crate::text::quoted(&self.source)))
    }
}

impl Device {
    /// Reads a `--device`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let fields = fields_of(text).map_err(|why| format!("failed to parse csv devices: {why}"))?;
        let mut device = Self::default();
        for field in fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(value)),
                None => (field.to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("required", None) => device.required = true,
                ("required", Some(value)) => {
                    device.required = boolean(value)
                        .ok_or_else(|| format!("invalid value for required: {}", shown(value)))?;
                }
                ("name", Some(_)) if !device.name.is_empty() => {
                    return Err(format!("device name already set to {}", shown(&device.name)));
                }
                ("name", Some(value)) => value.clone_into(&mut device.name),
                _ if device.name.is_empty() => device.name = field,
                (_, None) => {
                    return Err(format!("invalid field '{}' must be a key=value pair", shown(&field)));
                }
                (_, Some(_)) => {
                    let unknown = format!("unexpected key '{}' in '{}'", shown(&key), shown(&field));
                    return Err(suggest(unknown, &key, ["name", "required"]));
                }
            }
        }
        Ok(device)
    }
}

/// As Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, MountError> {
    // Rust reads a sign, Go does not.
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(value, radix)
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| invalid(format!("invalid value {} for {key}", shown(value))))
}
/// The fields of a flag, or what is wrong in Go's words.
fn fields_of(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    csv::fields(text).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn caches_of_the_host() {
        let read = |text: &str| MountFlag::parse(text).unwrap().mount(|text| Ok(text.to_owned()));
        for (text, dir) in [
            ("type=cache,target=/x,source=host:/var/cache/x", Some("/var/cache/x")),
            ("type=cache,target=/x,src=host:/a,sharing=locked,ro", Some("/a")),
            ("type=cache,target=/x,source=hosts", None),
            ("type=bind,target=/x,source=host:/a", None),
        ] {
            assert_eq!(read(text).unwrap().host_dir(), dir, "{text}");
        }
        for (more, why) in [
            ("source=host:a", "absolute"),
            ("source=host:", "absolute"),
            ("source=host:/a/../b", "absolute"),
            ("source=host:/a,from=x", "cannot have a from"),
            ("source=host:/a,id=x", "cannot have an id"),
            ("source=host:/a,sharing=private", "use locked or shared"),
            ("source=host:/a,uid=5", "mode, uid and gid"),
        ] {
            let said = read(&format!("type=cache,target=/x,{more}")).unwrap_err().to_string();
            assert!(
                said.starts_with("cache mount of source \"host:") && said.contains(why),
                "{more}: {said}"
            );
        }
    }
}
