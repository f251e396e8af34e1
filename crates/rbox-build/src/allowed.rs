//! What a Dockerfile may ask of the host: `--allow`.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rbox_spec::{Kind, csv};
use rbox_sys::plain;
use rustix::fs::{Mode, OFlags};

use crate::text::quoted;

/// What a Dockerfile may ask of the host; nothing by default.
#[derive(Debug, Clone, Default)]
pub struct Allowed {
    pub(crate) network_host: bool,
    pub(crate) insecure: bool,
    /// All devices, by their own names.
    pub(crate) all_devices: bool,
    /// Devices by name.
    pub(crate) devices: Vec<String>,
    /// What Dockerfiles call devices, and what these are.
    pub(crate) aliases: BTreeMap<String, String>,
    /// Directories of the host's for cache mounts.
    pub(crate) cache_dirs: Vec<CacheDir>,
}

/// A directory of the host's.
#[derive(Debug, Clone)]
pub(crate) struct CacheDir {
    /// As the caller and the Dockerfile call it.
    pub(crate) path: PathBuf,
    /// What was there when the build began.
    pub(crate) root: Arc<OwnedFd>,
}

/// A directory of the host's that is a cache, opened once for the whole build: what a step or somebody else puts in its place later is not
/// seen.
#[derive(Debug, Clone)]
pub(crate) struct HostCache {
    dir: Rc<OwnedFd>,
    /// Its device and inode.
    pub(crate) identity: (u64, u64),
}

impl HostCache {
    pub(crate) fn new(dir: OwnedFd, identity: (u64, u64)) -> Self {
        Self { dir: Rc::new(dir), identity }
    }

    /// A path that leads to what was opened and to nothing else, as long as this process has it.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.dir.as_raw_fd()))
    }
}

/// Something that nobody can be allowed, in BuildKit's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AllowedError(String);

impl AllowedError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

impl Allowed {
    /// Reads `network.host`, `security.insecure`, `device`, `device=NAME[,alias=NAME]` or `cache.host=DIRECTORY`, each as often as it is
    /// given.
    ///
    /// # Errors
    /// It is something else, or the directory is none.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, AllowedError> {
        let mut allowed = Self::default();
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            match text.split_once('=') {
                None if text == "network.host" => allowed.network_host = true,
                None if text == "security.insecure" => allowed.insecure = true,
                None if text == "device" => allowed.all_devices = true,
                Some(("device", "")) => allowed.all_devices = true,
                Some(("device", value)) => allowed.add_device(value).map_err(AllowedError)?,
                Some(("cache.host", dir)) => {
                    allowed
                        .add_cache_dir(dir)
                        .map_err(|why| AllowedError(format!("cache.host={dir}: {why}")))?;
                }
                _ => {
                    return Err(AllowedError(format!(
                        "unknown entitlement {}: known are network.host, security.insecure, device[=NAME[,alias=NAME]] and cache.host=DIRECTORY",
                        crate::text::shown(text)
                    )));
                }
            }
        }
        Ok(allowed)
    }

    fn add_cache_dir(&mut self, dir: &str) -> Result<(), String> {
        let path = std::path::absolute(dir).map_err(plain)?;
        if path.components().any(|part| part == Component::ParentDir) {
            return Err("the path cannot have '..' in it".to_owned());
        }
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(&path, how, Mode::empty()).map_err(|errno| plain(io::Error::from(errno)))?;
        self.cache_dirs.push(CacheDir { path, root: Arc::new(root) });
        Ok(())
    }

    fn add_device(&mut self, value: &str) -> Result<(), String> {
        let fields = csv::fields(value).map_err(|error| error.to_string())?;
        let mut fields = fields.into_iter();
        let name = fields.next().unwrap_or_default();
        let mut alias = None;
        for field in fields {
            match field.split_once('=') {
                Some(("alias", value)) => alias = Some(value.to_owned()).filter(|alias| !alias.is_empty()),
                Some((key, _)) => return Err(format!("unknown device config key {}", quoted(key))),
                None => return Err(format!("invalid device config {}", quoted(&field))),
            }
        }
        match alias {
            Some(alias) => drop(self.aliases.insert(alias, name)),
            None => self.devices.push(name),
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_allowed() {
        let given = ["network.host", "", "device=a.b/c=d", "device=a.b/c=e,alias=gpu", "device=a.b/f"];
        let allowed = Allowed::parse(given).unwrap();
        assert!(allowed.network_host && !allowed.insecure && !allowed.all_devices);
        assert_eq!(allowed.devices, ["a.b/c=d", "a.b/f"]);
        assert_eq!(allowed.aliases.get("gpu").map(String::as_str), Some("a.b/c=e"));
        for all in ["device", "device="] {
            assert!(Allowed::parse([all]).unwrap().all_devices, "{all}");
        }
        for (wrong, why) in [
            ("network", "unknown entitlement network:"),
            ("network.host=x", "unknown entitlement network.host=x:"),
            ("device=a,b", "invalid device config \"b\""),
            ("device=a,b=c", "unknown device config key \"b\""),
            ("cache.host=", "cache.host=: "),
            ("cache.host=/none/such", "cache.host=/none/such: No such file or directory"),
            ("cache.host=/etc/passwd", "cache.host=/etc/passwd: Not a directory"),
            ("cache.host=/tmp/../etc", "cache.host=/tmp/../etc: the path cannot have"),
        ] {
            let said = Allowed::parse([wrong]).unwrap_err().to_string();
            assert!(said.starts_with(why), "{wrong}: {said}");
        }
    }
}
