//! Mounts as users write them: `-v`, `--mount` and `--tmpfs`, in Docker's grammar.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::idmap::{IdMap, InvalidIdMap};
use crate::kind::Kind;
use crate::name::{InvalidName, VolumeName};

mod fields;

/// What stands at the mount's source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum MountKind {
    /// A file or directory of the host.
    Bind {
        /// An absolute path of the host.
        source: String,
        /// Make the source as a directory when it is missing: `-v` does, `--mount` refuses.
        create: bool,
        /// `private`, `rprivate`, `shared`, `rshared`, `slave` or `rslave`; empty for the default `rprivate`.
        propagation: String,
        /// What of the mounts below it is mounted, and how.
        #[serde(default)]
        recursive: Recursive,
        /// Whom its files seem to belong to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idmap: Option<IdMap>,
    },
    /// A volume that rbox keeps.
    Volume {
        /// Its name; an anonymous one has none until the container is created.
        name: Option<VolumeName>,
        /// Nobody named it, so `rm -v` and `--rm` take it away.
        anonymous: bool,
        /// Leave an empty volume empty instead of copying what the image has there.
        no_copy: bool,
        /// The directory or file in it that is mounted; empty for all of it.
        #[serde(default)]
        subpath: String,
        /// Labels for it, when it is made.
        #[serde(default)]
        labels: BTreeMap<String, String>,
        /// The driver's options for it, when it is made.
        #[serde(default)]
        options: BTreeMap<String, String>,
    },
    /// What an image has, read-only.
    Image {
        /// What it was called.
        name: String,
        /// Its id when the container was made; empty until then.
        #[serde(default)]
        id: String,
        /// Its layers then, base first.
        #[serde(default)]
        layers: Vec<PathBuf>,
        /// The directory or file in it that is mounted; empty for all of it.
        #[serde(default)]
        subpath: String,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; none for the kernel's default, half of the memory.
        size: Option<u64>,
        /// Permission bits; 1777 when absent.
        mode: Option<u32>,
        /// Further options of tmpfs(5), as `--tmpfs PATH:opts` gives them.
        options: Vec<String>,
    },
}

/// `bind-recursive`: the mounts below a bind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recursive {
    /// Mounted, and read-only where the bind is.
    #[default]
    Enabled,
    /// Not mounted.
    Disabled,
    /// Mounted, and writable where the bind is read-only.
    Writable,
    /// Mounted, and read-only or an error.
    ReadOnly,
}

impl MountKind {
    /// A volume with nothing asked of it.
    pub fn volume(name: Option<VolumeName>, no_copy: bool) -> Self {
        let (labels, options) = (BTreeMap::new(), BTreeMap::new());
        let anonymous = name.is_none();
        Self::Volume { name, anonymous, no_copy, subpath: String::new(), labels, options }
    }

    /// The source as `-v` has it: a path of the host or a volume's name. None for memory and for what has no name yet.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::Bind { source, .. } => Some(source),
            Self::Volume { name, .. } => name.as_ref().map(VolumeName::as_str),
            Self::Image { name, .. } => Some(name),
            Self::Tmpfs { .. } => None,
        }
    }
}

impl MountKind {
    /// What Docker's API has of it in `BindOptions` and the like: what is not asked for is left out.
    fn options_as_docker(&self) -> Map<String, Value> {
        let mut out = Map::new();
        let mut add = |key: &str, value: Value| drop(out.insert(key.to_owned(), value));
        match self {
            Self::Bind { propagation, recursive, idmap, .. } => {
                if let Some(idmap) = idmap {
                    add("IDMap", idmap.to_string().into());
                }
                if !propagation.is_empty() {
                    add("Propagation", propagation.clone().into());
                }
                match recursive {
                    Recursive::Enabled => {}
                    Recursive::Disabled => add("NonRecursive", true.into()),
                    Recursive::Writable => add("ReadOnlyNonRecursive", true.into()),
                    Recursive::ReadOnly => add("ReadOnlyForceRecursive", true.into()),
                }
            }
            Self::Volume { no_copy, subpath, labels, options, .. } => {
                if *no_copy {
                    add("NoCopy", true.into());
                }
                if !labels.is_empty() {
                    add("Labels", json!(labels));
                }
                if !subpath.is_empty() {
                    add("Subpath", subpath.clone().into());
                }
                if !options.is_empty() {
                    add("DriverConfig", json!({ "Options": options }));
                }
            }
            Self::Image { subpath, .. } => {
                if !subpath.is_empty() {
                    add("Subpath", subpath.clone().into());
                }
            }
            Self::Tmpfs { size, mode, .. } => {
                if let Some(size) = size {
                    add("SizeBytes", (*size).into());
                }
                if let Some(mode) = mode {
                    add("Mode", (*mode).into());
                }
            }
        }
        out
    }
}

/// One mount of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    #[serde(flatten)]
    pub kind: MountKind,
    /// An absolute path inside the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// The flag it was asked for with.
    #[serde(default)]
    pub given_by: GivenBy,
    /// The options of `-v`, as given. A tmpfs has a `mode` of its own in the same record.
    #[serde(default, rename = "given_mode")]
    pub mode: String,
    /// At each start all of the source, a bind or a volume, is given to the container's user.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chown: bool,
}

/// Why a mount argument was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidMount {
    /// `-v` with more than three parts: Docker's words.
    #[error("invalid spec: {0}: too many colons: expected [SOURCE:]TARGET[:OPTIONS]")]
    TooManyColons(String),
    /// `-v` with nothing: Docker's words.
    #[error("invalid empty volume spec")]
    Empty,
    /// `-v` with nothing between two colons, or before or behind one: Docker's words.
    #[error("invalid spec: {0}: empty section between colons: expected [SOURCE:]TARGET[:OPTIONS]")]
    EmptySection(String),
    /// A relative source, when there is no current directory.
    #[error(
        "invalid mount source: '{0}': it is relative, and the current directory is gone: getcwd: no such file or directory"
    )]
    NoCurrentDirectory(String),
    /// A target that is no absolute path.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    Relative(String),
    /// A mount over the root.
    #[error("invalid specification: destination can't be '/'")]
    Root,
    /// `-v` with a target that cannot be one: Docker's words.
    #[error("invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": {why}")]
    Target {
        /// The whole argument.
        spec: String,
        /// The kind of mount.
        kind: &'static str,
        /// What is wrong with the target.
        why: Box<InvalidMount>,
    },
    /// An unknown option after the second colon.
    #[error(
        "invalid mode: {mode}: '{spec}' may have one each of ro or rw, nocopy, z or Z, U, idmap, and a propagation mode"
    )]
    Mode {
        /// All options.
        mode: String,
        /// The whole argument.
        spec: String,
    },
    /// A map of ids behind the second colon that is none.
    #[error("invalid volume specification: '{spec}': {why}")]
    IdMap {
        /// The whole argument.
        spec: String,
        /// What is wrong with it.
        why: InvalidIdMap,
    },
    /// Two ways to whom the files belong.
    #[error(
        "invalid volume specification: '{0}': idmap and U: with idmap the files seem to be the container's user's already"
    )]
    Owners(String),
    /// An option that this kind of mount does not have.
    #[error(
        "invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": field {field} must not be specified ({option} is for {other}s only)"
    )]
    Field {
        /// The whole argument.
        spec: String,
        /// The kind of mount.
        kind: &'static str,
        /// Docker's name for the options.
        field: &'static str,
        /// The option refused.
        option: &'static str,
        /// The kind that has it.
        other: &'static str,
    },
    /// A name that no volume may have.
    #[error(transparent)]
    VolumeName(#[from] InvalidName),
    /// `--mount` with a field that is wrong.
    #[error("invalid argument \"{spec}\" for \"--mount\" flag: {why}")]
    Mount {
        /// The whole argument.
        spec: String,
        /// What is wrong with it.
        why: String,
    },
    /// `--mount` with fields that do not go together.
    #[error("{0}")]
    Config(String),
    /// `--tmpfs` with an option that tmpfs does not have.
    #[error("invalid tmpfs option \"{option}\" in '{spec}'")]
    Tmpfs {
        /// The option refused.
        option: String,
        /// The whole argument.
        spec: String,
    },
}

impl InvalidMount {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

const PROPAGATION: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

fn target_of(path: &str) -> Result<String, InvalidMount> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(InvalidMount::Relative(path.to_owned()));
    }
    // By its letters, as Go's `path.Clean`: one place has one spelling, and there is nothing above the root.
    let mut clean: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            clean.pop();
        } else {
            clean.push(part);
        }
    }
    if clean.is_empty() {
        return Err(InvalidMount::Root);
    }
    Ok(format!("/{}", clean.join("/")))
}

/// Which words a mount was asked for with: `inspect` shows each kind in a place of its own, as Docker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GivenBy {
    /// `-v`, or the image's `VOLUME`.
    #[default]
    Volume,
    /// `--mount`.
    Mount,
    /// `--tmpfs`.
    Tmpfs,
    /// `--volumes-from`.
    VolumesFrom,
}

impl MountSpec {
    /// A mount of this kind at `target`, which is cleaned by its letters.
    ///
    /// # Errors
    /// The target is relative, or the root.
    pub fn new(
        kind: MountKind,
        target: &str,
        read_only: bool,
        given_by: GivenBy,
    ) -> Result<Self, InvalidMount> {
        let mode = if read_only && given_by == GivenBy::Volume { "ro" } else { "" };
        let mode = mode.to_owned();
        Ok(Self { kind, target: target_of(target)?, read_only, given_by, mode, chown: false })
    }

    /// As `-v` takes it, when it was given with that and has a name.
    pub fn as_bind(&self) -> Option<String> {
        if self.given_by != GivenBy::Volume || matches!(self.kind, MountKind::Volume { anonymous: true, .. })
        {
            return None;
        }
        let mode = match self.mode.as_str() {
            // Records of older versions have no options.
            "" if self.read_only => ":ro".to_owned(),
            "" => String::new(),
            mode => format!(":{mode}"),
        };
        Some(format!("{}:{}{mode}", self.kind.source()?, self.target))
    }

    /// The options of `--tmpfs`, as it takes them, when it was given with that.
    pub fn as_tmpfs_options(&self) -> Option<String> {
        let MountKind::Tmpfs { size, mode, options } = &self.kind else { return None };
        if self.given_by != GivenBy::Tmpfs {
            return None;
        }
        let mut all: Vec<String> = if self.read_only { vec!["ro".to_owned()] } else { Vec::new() };
        all.extend(options.iter().cloned());
        all.extend(size.map(|size| format!("size={size}")));
        all.extend(mode.map(|mode| format!("mode={mode:o}")));
        Some(all.join(","))
    }

    /// As Docker's API has a mount of `--mount`: what is not said is left out.
    pub fn as_docker(&self) -> Value {
        let mut out = Map::new();
        let (kind, source) = match &self.kind {
            MountKind::Bind { source, .. } => ("bind", source.as_str()),
            MountKind::Volume { anonymous, .. } => {
                ("volume", if *anonymous { "" } else { self.kind.source().unwrap_or_default() })
            }
            MountKind::Image { name, .. } => ("image", name.as_str()),
            MountKind::Tmpfs { .. } => ("tmpfs", ""),
        };
        out.insert("Type".into(), kind.into());
        if !source.is_empty() {
            out.insert("Source".into(), source.into());
        }
        out.insert("Target".into(), self.target.clone().into());
        if self.read_only {
            out.insert("ReadOnly".into(), true.into());
        }
        let mut options = self.kind.options_as_docker();
        if self.chown {
            options.insert("Chown".into(), true.into());
        }
        if !options.is_empty() {
            let key = match &self.kind {
                MountKind::Bind { .. } => "BindOptions",
                MountKind::Volume { .. } => "VolumeOptions",
                MountKind::Image { .. } => "ImageOptions",
                MountKind::Tmpfs { .. } => "TmpfsOptions",
            };
            out.insert(key.into(), options.into());
        }
        out.into()
    }

    /// `-v [SOURCE:]TARGET[:OPTIONS]`: an absolute or `./` source is a bind, another is a volume's name.
    /// `cwd` resolves relative sources, as Docker's client does; without one they are refused.
    pub fn parse_volume(spec: &str, cwd: Option<&str>) -> Result<Self, InvalidMount> {
        if spec.is_empty() {
            return Err(InvalidMount::Empty);
        }
        let parts: Vec<&str> = spec.split(':').collect();
        if parts.len() > 3 {
            return Err(InvalidMount::TooManyColons(spec.to_owned()));
        }
        if parts.contains(&"") {
            return Err(InvalidMount::EmptySection(spec.to_owned()));
        }
        let (source, target, options) = match parts[..] {
            [target] => (None, target, ""),
            [source, target] if target.starts_with('/') => (Some(source), target, ""),
            [target, options] if target.starts_with('/') && matches!(Mode::parse(options), Ok(Some(_))) => {
                (None, target, options)
            }
            [source, target] => (Some(source), target, ""),
            [source, target, options] => (Some(source), target, options),
            _ => return Err(InvalidMount::TooManyColons(spec.to_owned())),
        };
        let is_path = source.is_some_and(|source| source.starts_with(['/', '.']));
        let target = target_of(target).map_err(|why| InvalidMount::Target {
            spec: spec.to_owned(),
            kind: if is_path { "bind" } else { "volume" },
            why: Box::new(why),
        })?;
        let mode = Mode::parse(options)
            .map_err(|why| InvalidMount::IdMap { spec: spec.to_owned(), why })?
            .ok_or_else(|| InvalidMount::Mode { mode: options.to_owned(), spec: spec.to_owned() })?;
        let Mode { read_only, no_copy, propagation, idmap, chown } = mode;
        let extra = |kind, field, option, other| {
            Err(InvalidMount::Field { spec: spec.to_owned(), kind, field, option, other })
        };
        if is_path && no_copy {
            return extra("bind", "VolumeOptions", "nocopy", "volume");
        }
        if !is_path && !propagation.is_empty() {
            return extra("volume", "BindOptions", "a propagation mode", "bind mount");
        }
        if !is_path && idmap.is_some() {
            return extra("volume", "BindOptions", "idmap", "bind mount");
        }
        if chown && idmap.is_some() {
            return Err(InvalidMount::Owners(spec.to_owned()));
        }
        let bind = |source| MountKind::Bind {
            source,
            create: true,
            propagation,
            recursive: Recursive::default(),
            idmap,
        };
        let kind = match source {
            None => MountKind::volume(None, no_copy),
            Some(path) if path.starts_with('/') => bind(path.to_owned()),
            Some(path)
                if path.starts_with("./") || path.starts_with("../") || path == "." || path == ".." =>
            {
                bind(below(cwd, path)?)
            }
            Some(name) => MountKind::volume(Some(name.parse()?), no_copy),
        };
        Ok(Self { kind, target, read_only, given_by: GivenBy::Volume, mode: options.to_owned(), chown })
    }

    /// `--tmpfs PATH[:opt,opt…]`, options as mount(8) has them for tmpfs.
    pub fn parse_tmpfs(spec: &str) -> Result<Self, InvalidMount> {
        let (path, rest) = spec.split_once(':').unwrap_or((spec, ""));
        let target = target_of(path)?;
        let (mut size, mut mode, mut options, mut read_only) = (None, None, Vec::new(), false);
        for option in rest.split(',').filter(|o| !o.is_empty()) {
            let bad = || InvalidMount::Tmpfs { option: option.to_owned(), spec: spec.to_owned() };
            match option.split_once('=') {
                Some(("size", value)) if value.ends_with('%') => options.push(format!("size={value}")),
                Some(("size", value)) => size = Some(bytes(value).ok_or_else(bad)?),
                Some(("mode", value)) => {
                    mode = Some(u32::from_str_radix(value, 8).ok().filter(|m| *m <= 0o7777).ok_or_else(bad)?);
                }
                Some(("uid" | "gid" | "nr_inodes" | "nr_blocks", value)) if value.parse::<u32>().is_ok() => {
                    options.push(option.to_owned());
                }
                None if option == "ro" => read_only = true,
                None if matches!(
                    option,
                    "rw" | "exec"
                        | "noexec"
                        | "suid"
                        | "nosuid"
                        | "dev"
                        | "nodev"
                        | "sync"
                        | "async"
                        | "atime"
                        | "noatime"
                        | "relatime"
                        | "strictatime"
                        | "diratime"
                        | "nodiratime"
                ) =>
                {
                    options.push(option.to_owned());
                }
                _ => return Err(bad()),
            }
        }
        let kind = MountKind::Tmpfs { size, mode, options };
        Ok(Self { kind, target, read_only, given_by: GivenBy::Tmpfs, mode: String::new(), chown: false })
    }
}

/// The options behind the second colon of `-v`.
struct Mode {
    read_only: bool,
    no_copy: bool,
    propagation: String,
    idmap: Option<IdMap>,
    chown: bool,
}

impl Mode {
    /// None for an unknown option, or two of one group.
    fn parse(text: &str) -> Result<Option<Self>, InvalidIdMap> {
        let (read_only, no_copy, chown) = (false, false, false);
        let mut mode = Self { read_only, no_copy, propagation: String::new(), idmap: None, chown };
        let mut seen = [false; 7];
        for option in text.split(',').filter(|_| !text.is_empty()) {
            let group = match option {
                "ro" | "rw" => {
                    mode.read_only = option == "ro";
                    0
                }
                // Labels of SELinux; hosts without it have nothing to relabel, as with Docker.
                "z" | "Z" => 1,
                "nocopy" => {
                    mode.no_copy = true;
                    2
                }
                // As podman has it.
                "U" => {
                    mode.chown = true;
                    6
                }
                "consistent" | "cached" | "delegated" | "default" => 3,
                _ if PROPAGATION.contains(&option) => {
                    option.clone_into(&mut mode.propagation);
                    4
                }
                "idmap" => {
                    mode.idmap = Some(IdMap::Owner);
                    5
                }
                _ => {
                    let Some(map) = option.strip_prefix("idmap=") else { return Ok(None) };
                    mode.idmap = Some(map.parse()?);
                    5
                }
            };
            if std::mem::replace(&mut seen[group], true) {
                return Ok(None);
            }
        }
        Ok(Some(mode))
    }
}

/// The absolute path of a source on the host. Without a current directory a relative one leads nowhere, least of all to `/`.
fn below(cwd: Option<&str>, source: &str) -> Result<String, InvalidMount> {
    match cwd {
        _ if source.starts_with('/') => Ok(source.to_owned()),
        Some(cwd) => Ok(format!("{cwd}/{source}")),
        None => Err(InvalidMount::NoCurrentDirectory(source.to_owned())),
    }
}

/// `64m`, `1g`, `1048576`: binary units, as Docker reads sizes.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl fmt::Display for MountSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.kind {
            MountKind::Tmpfs { .. } => "tmpfs",
            other => other.source().unwrap_or_default(),
        };
        write!(f, "{source}:{}", self.target)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn volumes_as_docker_reads_them() {
        let v = MountSpec::parse_volume("/a:/b//c:ro", Some("/")).unwrap();
        assert_eq!((v.target.as_str(), v.read_only), ("/b/c", true));
        for (spelt, target) in [("/a:/b/../c", "/c"), ("/a:/../../etc", "/etc"), ("/b/./../d/", "/d")] {
            assert_eq!(MountSpec::parse_volume(spelt, Some("/")).unwrap().target, target);
        }
        assert!(matches!(v.kind, MountKind::Bind { create: true, .. }));
        assert!(matches!(
            MountSpec::parse_volume("/data", Some("/")).unwrap().kind,
            MountKind::Volume { anonymous: true, .. }
        ));
        assert!(matches!(
            MountSpec::parse_volume("db:/data", Some("/")).unwrap().kind,
            MountKind::Volume { anonymous: false, .. }
        ));
        let MountKind::Bind { source, .. } = MountSpec::parse_volume("./x:/y", Some("/cwd")).unwrap().kind
        else {
            panic!()
        };
        assert_eq!(source, "/cwd/./x");
        for relative in [".:/y", "./x:/y", "../x:/y"] {
            assert!(MountSpec::parse_volume(relative, None).is_err(), "{relative}");
        }
        assert!(MountSpec::parse_mount("type=bind,src=x,dst=/y", None).is_err());
        assert!(MountSpec::parse_volume("/a:/y", None).is_ok());
        for bad in ["", ":", "a:b:c:d", "x:/y:zz", "/a:b", "/a:/", "/a:/..", "-x:/y", "a/b:/y", ":/y", "/a:"]
        {
            assert!(MountSpec::parse_volume(bad, Some("/")).is_err(), "{bad}");
        }
    }

    #[test]
    fn reasons_are_dockers() {
        let said = |spec: &str| MountSpec::parse_volume(spec, Some("/")).unwrap_err().to_string();
        assert_eq!(said(""), "invalid empty volume spec");
        for spec in ["/a:", ":/y", ":", "ab::/y", "/a:/b:"] {
            assert!(said(spec).starts_with(&format!("invalid spec: {spec}: empty section between colons")));
        }
        assert_eq!(
            said("x:/x"),
            "create x: volume name is too short, names should be at least two alphanumeric characters"
        );
        assert!(said("a/b:/x").starts_with("create a/b: \"a/b\" includes invalid characters"));
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let volume = |spec| MountSpec::parse_volume(spec, Some("/")).unwrap();
        let all = [
            volume("/a:/b:ro,z"),
            volume("/a:/b:U"),
            volume("db:/data:nocopy"),
            volume("/data"),
            MountSpec::parse_tmpfs("/t:size=1m,mode=700").unwrap(),
            MountSpec::parse_mount("type=tmpfs,dst=/t,tmpfs-mode=1777", Some("/")).unwrap(),
            MountSpec::parse_mount("src=v1,dst=/x,volume-subpath=a,volume-opt=type=nfs", Some("/")).unwrap(),
        ];
        for mount in all {
            let text = serde_json::to_string(&mount).unwrap();
            assert_eq!(serde_json::from_str::<MountSpec>(&text).unwrap(), mount, "{text}");
        }
    }

    #[test]
    fn one_option_of_each_group() {
        for good in ["/a:/b:ro,z,rslave", "/a:/b:Z,rw", "vol:/b:nocopy,ro", "/a:/b:cached", "/b:U"] {
            assert!(MountSpec::parse_volume(good, Some("/")).is_ok(), "{good}");
        }
        let given = MountSpec::parse_volume("/a:/b:ro,U", Some("/")).unwrap();
        assert_eq!((given.chown, given.as_bind().as_deref()), (true, Some("/a:/b:ro,U")));
        for bad in ["ro,rw", "z,Z", "U,U", "u", "slave,shared", "ro,ro", "ro,", ",ro", "readonly"] {
            let error = MountSpec::parse_volume(&format!("/a:/b:{bad}"), Some("/")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid mode: {bad}: ")), "{error}");
        }
        for bad in ["vol:/b:rshared", "/b:rshared", "/a:/b:nocopy", "./a:/b:nocopy"] {
            let error = MountSpec::parse_volume(bad, Some("/")).unwrap_err().to_string();
            assert!(error.contains("must not be specified"), "{error}");
        }
    }

    #[test]
    fn tmpfs_options() {
        let t = MountSpec::parse_tmpfs("/run:size=10m,mode=755,noexec").unwrap();
        assert_eq!(
            t.kind,
            MountKind::Tmpfs { size: Some(10 << 20), mode: Some(0o755), options: vec!["noexec".into()] }
        );
        assert!(MountSpec::parse_tmpfs("/run:bogus").is_err());
        assert!(MountSpec::parse_tmpfs("run").is_err());
    }
}
