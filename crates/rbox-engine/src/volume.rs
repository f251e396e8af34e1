//! Named and anonymous volumes: directories of the host that outlive containers.
//!
//! ```text
//! volumes/<name>/volume.json   the record, written once
//! volumes/<name>/_data/        what is mounted
//! volumes/.new-…  .gone-…      being made or taken away; swept by the next change
//! ```
//!
//! A volume appears whole and goes whole: it is made under another name and renamed, and renamed before it is
//! deleted. So no lock is needed, and a kill leaves only a directory that the next change sweeps.

mod populate;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rbox_spec::mount::MountKind;
use rbox_sys::durable::{self, Lasting};
use rbox_sys::removal::remove_tree;
use serde::{Deserialize, Serialize};

use crate::containers;
use crate::error::EngineError;
use crate::filter::{FilterError, Filters};
use crate::paths::Paths;
use crate::record::{ContainerRecord, RecordError, read_json};

pub use populate::{PopulateError, populate};

/// The label Docker gives to a volume that nobody named.
const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";
/// A directory half made is another process's work in progress for this long, and left over after.
const STALE: Duration = Duration::from_mins(1);

/// What could not be done with a volume.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A name that no volume may have.
    #[error(
        "create {0}: \"{0}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    Name(String),
    /// One character, or too many for a file name.
    #[error("create {0}: volume name must have 2 to 255 characters")]
    Length(String),
    /// An option of the `local` driver that rbox does not carry out.
    #[error(
        "create {name}: invalid option: \"{option}\": rbox's volumes are directories and take no options; mount it on the host and use -v HOSTDIR:TARGET"
    )]
    Option {
        /// The volume.
        name: String,
        /// The key refused.
        option: String,
    },
    /// A driver other than `local`.
    #[error(
        "create {name}: error looking up volume plugin {driver}: plugin \"{driver}\" not found (rbox has the driver local)"
    )]
    Driver {
        /// The volume.
        name: String,
        /// The driver asked for.
        driver: String,
    },
    /// No such volume.
    #[error("get {0}: no such volume")]
    Missing(String),
    /// Containers mount it.
    #[error("remove {name}: volume is in use - [{}]", containers.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// Their ids.
        containers: Vec<String>,
    },
    /// The file system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// `create`, `read`, `rename`, …
        action: &'static str,
        /// What on.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A record that is no JSON of ours.
    #[error("read {path}: {source}")]
    Format {
        /// The record.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A filter that was refused.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    created: Timestamp,
    anonymous: bool,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name; 64 hex digits when nobody named it.
    pub name: String,
    /// Nobody named it: `rm -v`, `--rm` and `prune` take it away.
    pub anonymous: bool,
    /// When it was made.
    pub created: Timestamp,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// The directory that is mounted.
    pub mountpoint: PathBuf,
}

/// Docker's JSON for a volume, with its keys and order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct VolumeJson {
    created_at: String,
    driver: &'static str,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
}

impl Volume {
    /// As `volume inspect` shows it.
    pub fn to_json(&self) -> VolumeJson {
        let labels = self.all_labels();
        VolumeJson {
            created_at: self.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            driver: "local",
            labels: (!labels.is_empty()).then_some(labels),
            mountpoint: self.mountpoint.display().to_string(),
            name: self.name.clone(),
            options: None,
            scope: "local",
        }
    }

    /// The user's labels, and Docker's own on a volume that nobody named.
    pub fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        if self.anonymous {
            labels.insert(ANONYMOUS_LABEL.into(), String::new());
        }
        labels
    }

    /// Bytes its files take on disk.
    pub fn size(&self) -> u64 {
        disk_usage(&self.mountpoint)
    }
}

/// The volumes below one directory.
#[derive(Debug, Clone)]
pub struct VolumeStore {
    dir: PathBuf,
}

/// What a `prune` took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names.
    pub names: Vec<String>,
    /// Bytes that were freed.
    pub reclaimed: u64,
}

impl VolumeStore {
    /// The volumes in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes a volume, or gives the one that has this name. With no name it is anonymous.
    pub fn create(
        &self,
        name: Option<&str>,
        labels: BTreeMap<String, String>,
    ) -> Result<Volume, VolumeError> {
        let anonymous = name.is_none();
        let name = match name {
            Some(name) => checked_name(name)?.to_owned(),
            None => random_hex(32).map_err(io_error("read", Path::new("/dev/urandom")))?,
        };
        if let Some(volume) = self.get(&name)? {
            return Ok(volume);
        }
        make_private_dir(&self.dir)?;
        self.sweep();
        let record = Record { created: Timestamp::now(), anonymous, labels };
        let suffix = random_hex(8).map_err(io_error("read", Path::new("/dev/urandom")))?;
        let building = self.dir.join(format!(".new-{suffix}"));
        let text = serde_json::to_vec(&record)
            .map_err(|source| VolumeError::Format { path: building.clone(), source })?;
        let made = || -> Result<(), VolumeError> {
            let data = building.join("_data");
            // The path to the data is closed to others as Docker closes it; the data's own mode is the image's.
            DirBuilder::new().mode(0o701).create(&building).map_err(io_error("create", &building))?;
            DirBuilder::new().mode(0o755).create(&data).map_err(io_error("create", &data))?;
            durable::write_new(&building.join("volume.json"), &text, Lasting::Now)
                .map_err(io_error("write", &building))
        };
        let place = self.dir.join(&name);
        let renamed = made().and_then(|()| match fs::rename(&building, &place) {
            // Another process made it meanwhile: the name is its volume.
            Err(error) if exists(&error) => Ok(()),
            other => other.map_err(io_error("rename to", &place)),
        });
        // Gone already when the rename was done; what is left of a failure goes here.
        let _ = remove_tree(&building);
        renamed?;
        durable::sync_dir(&self.dir).map_err(io_error("fsync", &self.dir))?;
        self.get(&name)?.ok_or(VolumeError::Missing(name))
    }

    /// Refuses what the `local` driver here cannot do; for `volume create -d … -o …`.
    pub fn check_driver(name: &str, driver: &str, options: &[String]) -> Result<(), VolumeError> {
        if driver != "local" {
            return Err(VolumeError::Driver { name: name.to_owned(), driver: driver.to_owned() });
        }
        match options.first() {
            Some(option) => {
                let option = option.split('=').next().unwrap_or_default().to_owned();
                Err(VolumeError::Option { name: name.to_owned(), option })
            }
            None => Ok(()),
        }
    }

    /// The volume of this name; none when there is none.
    pub fn get(&self, name: &str) -> Result<Option<Volume>, VolumeError> {
        if !rbox_spec::mount::valid_name(name) {
            return Ok(None);
        }
        let place = self.dir.join(name);
        let path = place.join("volume.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(VolumeError::Io { action: "read", path, source }),
        };
        let record: Record =
            serde_json::from_slice(&text).map_err(|source| VolumeError::Format { path, source })?;
        Ok(Some(Volume {
            name: name.to_owned(),
            anonymous: record.anonymous,
            created: record.created,
            labels: record.labels,
            mountpoint: place.join("_data"),
        }))
    }

    /// All volumes, by name.
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(VolumeError::Io { action: "read", path: self.dir.clone(), source }),
        };
        let mut volumes = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("read", &self.dir))?;
            // Names that are no volume's are skipped: `.new-…`, `.gone-…`, and what others put here.
            // One whose record is damaged stands in no other's way.
            match entry.file_name().to_str().map(|name| self.get(name)) {
                Some(Ok(volume)) => volumes.extend(volume),
                None | Some(Err(VolumeError::Format { .. })) => {}
                Some(Err(error)) => return Err(error),
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// The volumes that pass the filters of `volume ls`. `users` gives the ids of the containers that mount one.
    pub fn filtered(
        &self,
        filters: &Filters,
        users: &dyn Fn(&str) -> Vec<String>,
    ) -> Result<Vec<Volume>, VolumeError> {
        let dangling = filters.boolean("dangling")?;
        let mut volumes = self.list()?;
        volumes.retain(|volume| {
            filters.matches("name", &volume.name)
                && filters.matches("driver", "local")
                && filters.labels(&volume.all_labels())
                && dangling.is_none_or(|wanted| users(&volume.name).is_empty() == wanted)
        });
        Ok(volumes)
    }

    /// Takes a volume away with all it holds. `users` gives the ids of the containers that mount it.
    pub fn remove(&self, name: &str, users: &dyn Fn(&str) -> Vec<String>) -> Result<(), VolumeError> {
        if self.get(name)?.is_none() {
            return Err(VolumeError::Missing(name.escape_debug().to_string()));
        }
        let containers = users(name);
        if !containers.is_empty() {
            return Err(VolumeError::InUse { name: name.to_owned(), containers });
        }
        let place = self.dir.join(name);
        let suffix = random_hex(8).map_err(io_error("read", Path::new("/dev/urandom")))?;
        let going = self.dir.join(format!(".gone-{suffix}"));
        match fs::rename(&place, &going) {
            // Someone else took it away at the same time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VolumeError::Missing(name.to_owned()));
            }
            other => other.map_err(io_error("rename", &place))?,
        }
        remove_tree(&going).map_err(io_error("remove", &going))?;
        self.sweep();
        Ok(())
    }

    /// Takes away the volumes that no container mounts: anonymous ones, with `all` named ones too.
    pub fn prune(
        &self,
        filters: &Filters,
        all: bool,
        users: &dyn Fn(&str) -> Vec<String>,
    ) -> Result<Pruned, VolumeError> {
        let mut pruned = Pruned::default();
        for volume in self.list()? {
            let wanted = (all || volume.anonymous) && filters.labels(&volume.all_labels());
            if !wanted || !users(&volume.name).is_empty() {
                continue;
            }
            let size = volume.size();
            match self.remove(&volume.name, users) {
                Ok(()) => {
                    pruned.names.push(volume.name);
                    pruned.reclaimed += size;
                }
                // It was taken into use, or away, since it was listed.
                Err(VolumeError::InUse { .. } | VolumeError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }

    /// Deletes what killed processes left half made or half taken away. Failures are the next sweep's work.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let old = || {
                let changed = entry.metadata().and_then(|data| data.modified()).ok();
                changed
                    .and_then(|time| SystemTime::now().duration_since(time).ok())
                    .is_some_and(|age| age > STALE)
            };
            if (name.starts_with(".new-") || name.starts_with(".gone-")) && old() {
                let _ = remove_tree(&entry.path());
            }
        }
    }
}

/// Who mounts what: the ids of the containers that have each volume.
#[derive(Debug, Default)]
pub struct VolumeUsers {
    by_name: HashMap<String, Vec<String>>,
    /// Containers whose record is damaged, each with what is left of its text.
    damaged: Vec<(String, String)>,
}

impl VolumeUsers {
    /// Reads all containers' records.
    pub fn read(paths: &Paths) -> Result<Self, EngineError> {
        let mut users = Self::default();
        for id in containers::ids(paths)? {
            let path = paths.container(&id).join("config.json");
            match read_json::<ContainerRecord>(&path) {
                Ok(Some(record)) => {
                    for name in names_of(&record, false) {
                        users.by_name.entry(name.to_owned()).or_default().push(id.as_str().to_owned());
                    }
                }
                Ok(None) => {}
                // What is left of a damaged record's text may name a volume.
                Err(error) => {
                    let text = match error {
                        RecordError::Format { .. } => fs::read(&path).unwrap_or_default(),
                        RecordError::Io { .. } => Vec::new(),
                    };
                    users.damaged.push((id.as_str().to_owned(), String::from_utf8_lossy(&text).into_owned()));
                }
            }
        }
        Ok(users)
    }

    /// The ids of the containers that mount `name`; a damaged record that has the name in it counts.
    pub fn of(&self, name: &str) -> Vec<String> {
        let mut ids = self.by_name.get(name).cloned().unwrap_or_default();
        let mentions = self.damaged.iter().filter(|(_, text)| text.contains(&format!("\"{name}\"")));
        ids.extend(mentions.map(|(id, _)| id.clone()));
        ids
    }
}

fn names_of(record: &ContainerRecord, only_anonymous: bool) -> impl Iterator<Item = &str> {
    record.host.mounts.iter().filter_map(move |mount| match &mount.kind {
        MountKind::Volume { name, anonymous, .. } if *anonymous || !only_anonymous => Some(name.as_str()),
        _ => None,
    })
}

/// Takes away the volumes that nobody named and that only this container, whose record is gone from the list,
/// mounted. Another container that mounts one by its long name keeps it.
pub fn remove_anonymous(paths: &Paths, record: &ContainerRecord) -> Result<(), EngineError> {
    let mut names = names_of(record, true).filter(|name| !name.is_empty()).peekable();
    if names.peek().is_none() {
        return Ok(());
    }
    let users = VolumeUsers::read(paths)?;
    let others = |name: &str| {
        let mut ids = users.of(name);
        ids.retain(|id| id != record.id.as_str());
        ids
    };
    let store = VolumeStore::new(&paths.volumes());
    let mut first_failure = Ok(());
    for name in names {
        match store.remove(name, &others) {
            Ok(()) | Err(VolumeError::Missing(_) | VolumeError::InUse { .. }) => {}
            Err(error) if first_failure.is_ok() => first_failure = Err(error.into()),
            Err(_) => {}
        }
    }
    first_failure
}

fn checked_name(name: &str) -> Result<&str, VolumeError> {
    let shown = || name.escape_debug().to_string();
    match name.len() {
        2..=255 if rbox_spec::mount::valid_name(name) => Ok(name),
        2..=255 => Err(VolumeError::Name(shown())),
        _ => Err(VolumeError::Length(shown())),
    }
}

fn make_private_dir(dir: &Path) -> Result<(), VolumeError> {
    // 0701: a container's other users pass through to a volume's data, and list nothing.
    match DirBuilder::new().recursive(true).mode(0o701).create(dir) {
        Err(error) if !exists(&error) => Err(io_error("create", dir)(error)),
        _ => Ok(()),
    }
}

fn exists(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Io { action, path: path.clone(), source }
}

fn random_hex(bytes: usize) -> io::Result<String> {
    use std::fmt::Write as _;
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().fold(String::with_capacity(bytes * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Bytes that the files below `dir` take on disk; what cannot be read counts nothing. A file with several
/// names counts once.
pub fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    let mut seen = std::collections::HashSet::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() {
                waiting.push(entry.path());
            }
            if data.nlink() == 1 || data.is_dir() || seen.insert((data.dev(), data.ino())) {
                total += if data.is_file() { data.len().min(data.blocks() * 512) } else { 0 };
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::filter::{PRUNE_KEYS, VOLUME_KEYS};

    fn unused(_: &str) -> Vec<String> {
        Vec::new()
    }

    fn used(name: &str) -> Vec<String> {
        if name == "data" { vec!["c0ffee".into()] } else { Vec::new() }
    }

    fn store() -> (tempfile::TempDir, VolumeStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = VolumeStore::new(&dir.path().join("volumes"));
        (dir, store)
    }

    #[test]
    fn a_volumes_life() {
        let (_dir, store) = store();
        assert_eq!(store.list().unwrap(), []);
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let volume = store.create(Some("data"), labels).unwrap();
        assert!(volume.mountpoint.ends_with("volumes/data/_data") && volume.mountpoint.is_dir());
        assert_eq!(
            store.create(Some("data"), BTreeMap::new()).unwrap(),
            volume,
            "a second create gives the first"
        );
        let anonymous = store.create(None, BTreeMap::new()).unwrap();
        assert!(anonymous.anonymous && anonymous.name.len() == 64);
        assert_eq!(store.list().unwrap().len(), 2);
        let json = serde_json::to_string(&volume.to_json()).unwrap();
        assert!(json.starts_with(r#"{"CreatedAt":"2"#) && json.contains(r#""Labels":{"a":"b"}"#), "{json}");
        assert!(json.ends_with(r#""Name":"data","Options":null,"Scope":"local"}"#), "{json}");

        fs::write(volume.mountpoint.join("file"), "x").unwrap();
        let refused = store.remove("data", &used).unwrap_err().to_string();
        assert_eq!(refused, "remove data: volume is in use - [c0ffee]");
        store.remove("data", &unused).unwrap();
        assert_eq!(store.remove("data", &unused).unwrap_err().to_string(), "get data: no such volume");
        assert!(store.get("data").unwrap().is_none());
        let left: Vec<_> = fs::read_dir(&store.dir).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn names_are_checked() {
        let (_dir, store) = store();
        for bad in ["", "a", "../x", "a/b", ".hidden", "-x", "a\u{1b}b", &"a".repeat(256)] {
            assert!(store.create(Some(bad), BTreeMap::new()).is_err(), "{bad}");
            assert!(store.get(bad).unwrap().is_none());
            assert!(store.remove(bad, &unused).is_err());
        }
        assert!(VolumeStore::check_driver("x", "local", &[]).is_ok());
        assert!(VolumeStore::check_driver("x", "nfs", &[]).is_err());
        assert!(VolumeStore::check_driver("x", "local", &["type=tmpfs".into()]).is_err());
    }

    #[test]
    fn filters_and_prune() {
        let (_dir, store) = store();
        store.create(Some("data"), BTreeMap::new()).unwrap();
        store.create(Some("old"), BTreeMap::from([("keep".to_owned(), String::new())])).unwrap();
        let anonymous = store.create(None, BTreeMap::new()).unwrap();
        fs::write(anonymous.mountpoint.join("file"), vec![1; 5000]).unwrap();
        let names = |given: &[&str]| -> Vec<String> {
            let filters = Filters::parse(given, VOLUME_KEYS).unwrap();
            let mut names: Vec<_> =
                store.filtered(&filters, &used).unwrap().into_iter().map(|v| v.name).collect();
            names.retain(|name| name.len() < 64);
            names
        };
        assert_eq!(names(&[]), ["data", "old"]);
        assert_eq!(names(&["name=da"]), ["data"]);
        assert_eq!(names(&["dangling=true"]), ["old"]);
        assert_eq!(names(&["dangling=false"]), ["data"]);
        assert_eq!(names(&["label=keep"]), ["old"]);
        assert!(names(&["driver=nfs"]).is_empty());

        let plain = Filters::default();
        let pruned = store.prune(&plain, false, &used).unwrap();
        assert_eq!(pruned, Pruned { names: vec![anonymous.name], reclaimed: 5000 });
        let kept = Filters::parse(&["label!=keep"], PRUNE_KEYS).unwrap();
        assert_eq!(store.prune(&kept, true, &used).unwrap().names, Vec::<String>::new());
        assert_eq!(store.prune(&plain, true, &used).unwrap().names, ["old"]);
    }

    #[test]
    fn what_a_kill_left_is_swept() {
        let (_dir, store) = store();
        store.create(Some("data"), BTreeMap::new()).unwrap();
        let (old, fresh) = (store.dir.join(".gone-1"), store.dir.join(".new-2"));
        fs::create_dir_all(old.join("_data")).unwrap();
        fs::create_dir_all(&fresh).unwrap();
        File::open(&old).unwrap().set_modified(SystemTime::now() - 2 * STALE).unwrap();
        assert_eq!(store.list().unwrap().len(), 1);
        store.create(Some("other"), BTreeMap::new()).unwrap();
        assert!(!old.exists() && fresh.exists());
    }

    #[test]
    fn many_makers_of_one_name_get_one_volume() {
        let (_dir, store) = store();
        let made: Vec<Volume> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| store.create(Some("shared"), BTreeMap::new()).unwrap()))
                .collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(made.iter().all(|volume| *volume == made[0]));
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 1);
    }
}
