//! `--mount`: comma-separated fields, `key=value` each.

use std::collections::BTreeMap;

use crate::csv;
use crate::idmap::IdMap;
use crate::mount::{
    GivenBy, InvalidMount, MountKind, MountSpec, PROPAGATION, Recursive, below, bytes, target_of,
};

/// What the fields say, as they are read.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    source: String,
    target: String,
    read_only: bool,
    no_copy: bool,
    subpath: String,
    image_subpath: String,
    driver: String,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    propagation: String,
    recursive: Recursive,
    idmap: Option<IdMap>,
    /// It was said whether the source is given to the container's user.
    chown: Option<bool>,
    /// It was said whether ids are mapped, perhaps that they are not.
    has_idmap: bool,
    size: Option<u64>,
    mode: Option<u32>,
    /// The kinds whose options there are.
    of: Vec<&'static str>,
}

impl MountSpec {
    /// `--mount type=bind|volume|tmpfs|image,source=…,target=…,readonly,…`.
    pub fn parse_mount(spec: &str, cwd: Option<&str>) -> Result<Self, InvalidMount> {
        let bad = |why: String| InvalidMount::Mount { spec: spec.to_owned(), why };
        let mut fields = Fields::default();
        let all = csv::fields(spec).map_err(|error| bad(error.to_string()))?;
        all.iter().try_for_each(|field| fields.read(field)).map_err(bad)?;
        fields.check().map_err(bad)?;
        let target = target_of(&fields.target).map_err(|why| config(fields.kind(), &why.to_string()))?;
        // Nobody writes to an image.
        let read_only = fields.read_only || fields.kind() == "image";
        let chown = fields.chown.unwrap_or(false);
        let kind = match fields.kind() {
            "bind" => fields.bind(cwd)?,
            "volume" => fields.volume()?,
            "image" => fields.image()?,
            "tmpfs" if fields.source.is_empty() => {
                MountKind::Tmpfs { size: fields.size, mode: fields.mode, options: Vec::new() }
            }
            "tmpfs" => return Err(config("tmpfs", "field Source must not be specified")),
            other => {
                let shown: String = other.chars().take(40).flat_map(char::escape_debug).collect();
                return Err(config(&shown, "mount type unknown: expected bind, volume, tmpfs or image"));
            }
        };
        Ok(Self { kind, target, read_only, given_by: GivenBy::Mount, mode: String::new(), chown })
    }
}

/// Docker's words for fields that do not go together.
fn config(kind: &str, why: &str) -> InvalidMount {
    InvalidMount::Config(format!("invalid mount config for type \"{kind}\": {why}"))
}

impl Fields {
    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("volume")
    }

    fn read(&mut self, field: &str) -> Result<(), String> {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_ascii_lowercase(), Some(value)),
            None => (field.trim().to_ascii_lowercase(), None),
        };
        // Whether something holds: alone it does.
        let flag = || value.map_or(Ok(true), |text| boolean(&key, text));
        match key.as_str() {
            "readonly" | "ro" => {
                self.read_only = flag()?;
                return Ok(());
            }
            "volume-nocopy" => {
                self.no_copy = flag()?;
                self.of.push("volume");
                return Ok(());
            }
            "bind-nonrecursive" => {
                self.recursive = if flag()? { Recursive::Disabled } else { Recursive::Enabled };
                self.of.push("bind");
                return Ok(());
            }
            "u" | "chown" => {
                self.chown = Some(flag()?);
                return Ok(());
            }
            "idmap" => {
                // Whether it holds, as for every other field, or a map.
                let on = value.map_or(Ok(true), |text| boolean(&key, text));
                self.idmap = match (on, value) {
                    (Ok(on), _) => on.then_some(IdMap::Owner),
                    (Err(_), map) => {
                        Some(map.unwrap_or_default().parse::<IdMap>().map_err(|error| error.to_string())?)
                    }
                };
                if std::mem::replace(&mut self.has_idmap, true) {
                    return Err("idmap is there twice: one list of uids and gids says it all".to_owned());
                }
                return Ok(());
            }
            _ => {}
        }
        let text = value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        self.of.extend(
            ["volume", "bind", "tmpfs", "image"].iter().filter(|kind| key.starts_with(&format!("{kind}-"))),
        );
        let wrong = || format!("invalid value for {key}: {text}");
        match key.as_str() {
            "type" => self.kind = Some(text.to_ascii_lowercase()),
            "source" | "src" => text.clone_into(&mut self.source),
            "target" | "dst" | "destination" => text.clone_into(&mut self.target),
            // A hint for hosts that reach their files over a network: it changes nothing here.
            "consistency" => {}
            "bind-propagation" => self.propagation = text.to_ascii_lowercase(),
            "bind-recursive" => self.recursive = recursive(&key, text)?,
            "volume-subpath" => text.clone_into(&mut self.subpath),
            "image-subpath" => text.clone_into(&mut self.image_subpath),
            "volume-driver" => text.clone_into(&mut self.driver),
            "volume-label" => add_pair(&mut self.labels, text),
            "volume-opt" => add_pair(&mut self.options, text),
            "tmpfs-size" => self.size = Some(bytes(text).ok_or_else(wrong)?),
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
                self.mode = Some(mode.ok_or_else(wrong)?);
            }
            other => return Err(format!("unexpected key '{other}' in '{field}'")),
        }
        Ok(())
    }

    /// What does not go together, in the order in which Docker's client looks.
    fn check(&self) -> Result<(), String> {
        if self.kind().is_empty() {
            return Err("type is required".to_owned());
        }
        if self.target.is_empty() {
            return Err("target is required".to_owned());
        }
        if let Some(other) = self.of.iter().find(|of| **of != self.kind()) {
            return Err(format!("cannot mix '{other}-*' options with mount type '{}'", self.kind()));
        }
        if self.has_idmap && self.kind() != "bind" {
            return Err(format!("cannot mix 'idmap' with mount type '{}': it is for binds", self.kind()));
        }
        if self.chown.is_some() && !matches!(self.kind(), "bind" | "volume") {
            return Err(format!(
                "cannot mix 'chown' with mount type '{}': it is for binds and volumes",
                self.kind()
            ));
        }
        if self.chown == Some(true) && self.idmap.is_some() {
            return Err("cannot mix 'chown' and 'idmap': with idmap the files seem to be the container's user's already".to_owned());
        }
        let needs = |what: &str| {
            let word = if self.recursive == Recursive::Writable { "writable" } else { "readonly" };
            Err(format!("option 'bind-recursive={word}' requires '{what}' to be specified in conjunction"))
        };
        match self.recursive {
            Recursive::Writable | Recursive::ReadOnly if !self.read_only => needs("readonly"),
            Recursive::ReadOnly if self.propagation != "rprivate" => needs("bind-propagation=rprivate"),
            _ => Ok(()),
        }
    }

    /// A bind: its source must be there, and a relative one is below `cwd`.
    fn bind(self, cwd: Option<&str>) -> Result<MountKind, InvalidMount> {
        let Self { source, propagation, recursive, idmap, .. } = self;
        if source.is_empty() {
            return Err(config("bind", "field Source must not be empty"));
        }
        if !propagation.is_empty() && !PROPAGATION.contains(&propagation.as_str()) {
            return Err(config("bind", &format!("invalid propagation mode: {propagation}")));
        }
        Ok(MountKind::Bind { source: below(cwd, &source)?, create: false, propagation, recursive, idmap })
    }

    fn image(self) -> Result<MountKind, InvalidMount> {
        let Self { source: name, image_subpath: subpath, .. } = self;
        if name.is_empty() {
            return Err(config("image", "field Source must not be empty"));
        }
        if !is_local(&subpath) {
            return Err(config("image", "subpath must be a relative path within the image"));
        }
        Ok(MountKind::Image { name, id: String::new(), layers: Vec::new(), subpath })
    }

    fn volume(self) -> Result<MountKind, InvalidMount> {
        let Self { source, no_copy, subpath, driver, labels, options, read_only, .. } = self;
        let anonymous = source.is_empty();
        if !matches!(driver.as_str(), "" | "local") {
            return Err(InvalidMount::Config(format!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found (rbox has the driver local)"
            )));
        }
        if anonymous && !subpath.is_empty() {
            return Err(config("volume", "must not set Subpath when using anonymous volumes"));
        }
        if !subpath.is_empty() && !is_local(&subpath) {
            return Err(config("volume", "subpath must be a relative path within the volume"));
        }
        if anonymous && read_only {
            return Err(config("volume", "must not set ReadOnly mode when using anonymous volumes"));
        }
        let name = if anonymous { None } else { Some(source.parse()?) };
        Ok(MountKind::Volume { name, anonymous, no_copy, subpath, labels, options })
    }
}

/// As Go reads one.
fn boolean(key: &str, text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("invalid value for {key}: {other}")),
    }
}

fn recursive(key: &str, text: &str) -> Result<Recursive, String> {
    match text {
        "enabled" => Ok(Recursive::Enabled),
        "disabled" => Ok(Recursive::Disabled),
        "writable" => Ok(Recursive::Writable),
        "readonly" => Ok(Recursive::ReadOnly),
        other => Err(format!(
            "invalid value for {key}: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
        )),
    }
}

/// `KEY=VALUE`; one without a key says nothing.
fn add_pair(to: &mut BTreeMap<String, String>, text: &str) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if !key.is_empty() {
        to.insert(key.to_owned(), value.to_owned());
    }
}

/// Whether a path stays, by its letters, in the directory it is relative to. Links are looked at when it is opened.
fn is_local(path: &str) -> bool {
    let mut depth = 0_usize;
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    !path.starts_with('/') && !path.contains('\0')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn mount_fields() {
        let m =
            MountSpec::parse_mount("type=tmpfs,target=/t,tmpfs-size=64m,tmpfs-mode=0700", Some("/")).unwrap();
        assert_eq!(m.kind, MountKind::Tmpfs { size: Some(64 << 20), mode: Some(0o700), options: vec![] });
        for bad in [
            "",
            "type=bind,target=/x",
            "type=nfs,target=/x",
            "type=bind,source=/a",
            "source=a,target=x",
            "type=tmpfs,source=a,target=/x",
            "bogus=1,target=/x",
            "type=tmpfs,target=/x,tmpfs-mode=99",
        ] {
            assert!(MountSpec::parse_mount(bad, Some("/")).is_err(), "{bad}");
        }
    }

    #[test]
    fn refusals_are_dockers() {
        for (spec, why) in [
            ("type=bind,dst=/x", "invalid mount config for type \"bind\": field Source must not be empty"),
            ("src=a1", "target is required"),
            ("type=,dst=/x", "type is required"),
            ("type=bind,src=/,dst=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
            ("type=volume,dst=/x,tmpfs-size=1m", "cannot mix 'tmpfs-*' options with mount type 'volume'"),
            (
                "type=tmpfs,dst=/x,bind-recursive=enabled",
                "cannot mix 'bind-*' options with mount type 'tmpfs'",
            ),
            (
                "type=bind,src=/,dst=/x,bind-recursive=some",
                "invalid value for bind-recursive: some (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")",
            ),
            (
                "type=bind,src=/,dst=/x,bind-recursive=writable",
                "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
            ),
            (
                "type=bind,src=/,dst=/x,readonly,bind-recursive=readonly",
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
            ),
            (
                "type=volume,dst=/x,volume-subpath=a",
                "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
            ),
            ("type=volume,dst=/x,readonly", "must not set ReadOnly mode when using anonymous volumes"),
            ("type=volume,src=v1,dst=/x,volume-driver=nfs", "error looking up volume plugin nfs"),
            ("type=volume,src=v1,dst=/x,readonly=maybe", "invalid value for readonly: maybe"),
            ("type=bind,src=/,dst=/x,bind-propagation=up", "invalid propagation mode: up"),
            ("type=npipe,src=v1,dst=/x", "invalid mount config for type \"npipe\": mount type unknown"),
            ("type=image,dst=/x", "invalid mount config for type \"image\": field Source must not be empty"),
            (
                "type=image,src=a,dst=/x,image-subpath=../b",
                "subpath must be a relative path within the image",
            ),
            ("type=bind,src=/,dst=/x,image-subpath=b", "cannot mix 'image-*' options with mount type 'bind'"),
            ("type=bind,source", "invalid field 'source' must be a key=value pair"),
            ("dst=/x,foo=bar", "unexpected key 'foo' in 'foo=bar'"),
        ] {
            let error = MountSpec::parse_mount(spec, Some("/")).unwrap_err().to_string();
            assert!(error.contains(why), "{spec}: {error}");
        }
        for subpath in ["/a", "..", "../a", "a/../..", "a/../../b"] {
            let spec = format!("src=v1,dst=/x,volume-subpath={subpath}");
            let error = MountSpec::parse_mount(&spec, Some("/")).unwrap_err().to_string();
            assert!(error.contains("subpath must be a relative path within the volume"), "{error}");
        }
    }

    #[test]
    fn what_is_asked_of_a_volume() {
        let spec = "src=v1,dst=/x,ro=1,volume-subpath=a/../b,volume-label=k=v,volume-label=only,volume-driver=local,\
                    volume-opt=type=tmpfs,\"volume-opt=o=a=1,b\",consistency=cached";
        let mount = MountSpec::parse_mount(spec, Some("/")).unwrap();
        let MountKind::Volume { subpath, labels, options, .. } = &mount.kind else { panic!() };
        assert_eq!(subpath, "a/../b");
        assert_eq!(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["k=v", "only="]);
        assert_eq!(options["o"], "a=1,b");
        let shown = mount.as_docker();
        assert_eq!(shown["ReadOnly"], true);
        assert_eq!(shown["VolumeOptions"]["DriverConfig"]["Options"]["type"], "tmpfs");
        assert_eq!(shown["VolumeOptions"]["Subpath"], "a/../b");
        let bind = "type=bind,src=/,dst=/x,readonly,bind-recursive=readonly,bind-propagation=RPRIVATE";
        let shown = MountSpec::parse_mount(bind, Some("/")).unwrap().as_docker();
        assert_eq!(shown["BindOptions"]["ReadOnlyForceRecursive"], true);
        let bind = MountSpec::parse_mount("type=bind,src=/,dst=/x,bind-nonrecursive", Some("/")).unwrap();
        assert_eq!(bind.as_docker()["BindOptions"]["NonRecursive"], true);
    }

    #[test]
    fn an_image_is_read_only() {
        let mount =
            MountSpec::parse_mount("type=image,src=busybox:1,dst=/x,image-subpath=bin", None).unwrap();
        assert!(mount.read_only);
        let shown = mount.as_docker();
        assert_eq!((&shown["Type"], &shown["Source"]), (&"image".into(), &"busybox:1".into()));
        assert_eq!(shown["ImageOptions"]["Subpath"], "bin");
    }

    #[test]
    fn fields_in_quotes() {
        let mount = MountSpec::parse_mount(r#"type=bind,"src=/p/a,b",dst=/x"#, Some("/")).unwrap();
        assert_eq!(mount.to_string(), "/p/a,b:/x");
    }
}
