//! Named and anonymous volumes: directories of the host that outlive containers.
//!
//! ```text
//! volumes/<name>/volume.json            the record
//! volumes/<name>/_data/                 what is mounted; with options, where their file system is while it is used
//! volumes/.tmp/new-….PID.START gone-…   being made or removed; swept when that process is dead
//! ```
//!
//! A volume appears whole and goes whole: it is made under another name and renamed, and renamed before it is
//! deleted. A container's record names its volumes before they are made, so a kill leaves none that nothing names.
//!
//! Whether a volume is used follows from the containers' records. [`VolumeStore::remove`] is the one place that decides
//! it: it locks the volume's directory, then reads the records, then removes. [`VolumeStore::create`] waits for that
//! lock before it says that a volume is there. So a container whose record is written before its volumes are asked
//! for either keeps the old one or gets a new one, and never one that is about to go.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rbox_spec::VolumeName;
use rbox_spec::id::ContainerId;
use rbox_spec::volume_options::check_options;
use rbox_sys::durable::{self, Lasting};
use rbox_sys::lock::{self, How, Patience};
use rbox_sys::mount::{attach, is_mount_root, unmount};
use rbox_sys::removal::remove_tree;
use rbox_sys::{own, plain};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::journal::{self, Happening, VolumeAction};
use crate::listing::filter::Filters;
use crate::record::container::{process_is, process_start};
use crate::record::file::RecordError;
use crate::record::paths::{DATA, Paths, TURN_TO_FILL, TURN_TO_START, VOLUME};
use crate::volume::error::io_error;
use crate::volume::file_system;
use crate::volume::record::Record;

pub use crate::volume::error::VolumeError;
pub use crate::volume::record::{NewVolume, Volume};

pub(crate) use rbox_sys::usage::disk_usage;

/// Where what is being made and what is being removed is: beside the volumes and not among them, so that looking for
/// leftovers, which many commands do, reads none of the volumes.
const TEMPORARIES: &str = ".tmp";
/// The beginnings of their names.
const NEW: &str = "new-";
const GONE: &str = "gone-";
/// Random hex digits in them.
const SUFFIX: usize = 16;

/// The lock of who starts a container that has a volume, or has all of those stand still.
#[derive(Debug)]
pub(crate) struct Turn(File);

impl Drop for Turn {
    fn drop(&mut self) {
        lock::release(&self.0);
    }
}

/// The volumes below one directory.
#[derive(Debug, Clone)]
pub struct VolumeStore {
    dir: PathBuf,
    /// Where it is written what happens to them.
    journal: Option<Paths>,
}

/// What a `prune` took away.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Names.
    pub names: Vec<VolumeName>,
    /// Bytes that were freed.
    pub reclaimed: u64,
    /// Why others could not be removed.
    pub failures: Vec<VolumeError>,
}

impl VolumeStore {
    /// The volumes in `dir`, which need not exist yet.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), journal: None }
    }

    /// Those of an engine, which writes down what happens to them.
    pub(crate) fn of(paths: &Paths) -> Self {
        Self { dir: paths.volumes(), journal: Some(paths.clone()) }
    }

    pub(crate) fn note(&self, name: &VolumeName, action: VolumeAction<'_>) {
        if let Some(paths) = &self.journal {
            journal::note(paths, &[Happening::Volume(name, action)]);
        }
    }

    pub(crate) fn place(&self, name: &VolumeName) -> PathBuf {
        self.dir.join(name)
    }

    /// The directory of a volume that is mounted.
    pub fn mountpoint(&self, name: &VolumeName) -> PathBuf {
        self.place(name).join(DATA)
    }

    /// Makes a volume, or gives the one that has this name. With no name it is anonymous.
    pub fn create(&self, name: Option<&VolumeName>, new: &NewVolume) -> Result<Volume, VolumeError> {
        match name {
            Some(name) => self.ensure(name, &NewVolume { anonymous: false, ..new.clone() }, Lasting::Now),
            None => self.ensure(&random_name()?, &NewVolume { anonymous: true, ..new.clone() }, Lasting::Now),
        }
    }

    /// The volume of this name, which is made when it is missing.
    pub(crate) fn ensure(
        &self,
        name: &VolumeName,
        new: &NewVolume,
        lasting: Lasting,
    ) -> Result<Volume, VolumeError> {
        // A removal that runs at the same time may take it away between the two, and another process may make it.
        for _ in 0..16 {
            if let Some(volume) = self.settled(name)? {
                if volume.damage.is_some() {
                    // The user names it again: its record is made good. What it held is not known any more.
                    self.mend(name, &new.record(volume.created), lasting)?;
                }
                return Ok(volume);
            }
            self.make(name, &new.record(Timestamp::now()), lasting)?;
        }
        Err(VolumeError::Foreign { name: name.clone(), path: self.place(name) })
    }

    /// Makes the directory of a volume's files again, if it is gone. There is nothing in it.
    pub(crate) fn make_data(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let data = self.mountpoint(name);
        own::make_directory(&data, 0o755).map_err(io_error("create", &data))
    }

    /// Writes the record of a volume whose own is damaged.
    pub(crate) fn mend(
        &self,
        name: &VolumeName,
        record: &Record,
        lasting: Lasting,
    ) -> Result<(), VolumeError> {
        let place = self.place(name);
        durable::sweep(&place);
        durable::replace(&place, &place.join(VOLUME), &text_of(record, &place)?, lasting)
            .map_err(io_error("write", &place))
    }

    /// Makes the volume under another name and renames it; one that is there by then stays.
    fn make(&self, name: &VolumeName, record: &Record, lasting: Lasting) -> Result<(), VolumeError> {
        let building = self.building(record, lasting)?;
        let place = self.place(name);
        let renamed = match fs::rename(&building, &place) {
            Ok(()) => {
                self.note(name, VolumeAction::Create);
                Ok(())
            }
            // Another process made it meanwhile: the name is its volume.
            Err(error) if exists(&error) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(VolumeError::Foreign { name: name.clone(), path: place.clone() })
            }
            other => other.map_err(io_error("rename to", &place)),
        };
        if renamed.is_err() || building.exists() {
            let _ = remove_tree(&building);
        }
        renamed?;
        if lasting == Lasting::Now { self.sync() } else { Ok(()) }
    }

    /// A volume under a name of this process's own, which is nobody's yet. What failed is gone.
    pub(crate) fn building(&self, record: &Record, lasting: Lasting) -> Result<PathBuf, VolumeError> {
        let building = self.temporary(NEW)?;
        let made = || -> Result<(), VolumeError> {
            let data = building.join(DATA);
            // The path to the data is closed to others as Docker closes it; the data's own mode is the image's.
            DirBuilder::new().mode(0o701).create(&building).map_err(io_error("create", &building))?;
            DirBuilder::new().mode(0o755).create(&data).map_err(io_error("create", &data))?;
            let text = text_of(record, &building)?;
            durable::write_new(&building.join(VOLUME), &text, lasting).map_err(io_error("write", &building))
        };
        match made() {
            Ok(()) => Ok(building),
            Err(error) => {
                let _ = remove_tree(&building);
                Err(error)
            }
        }
    }

    /// Makes the volumes' names last.
    pub(crate) fn sync(&self) -> Result<(), VolumeError> {
        durable::sync_dir(&self.dir).map_err(io_error("fsync", &self.dir))
    }

    /// A name of this process's own for something that is being made or removed.
    fn temporary(&self, beginning: &str) -> Result<PathBuf, VolumeError> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let ticks = process_start(pid).map_or(0, |(ticks, _)| ticks);
        let temporaries = self.dir.join(TEMPORARIES);
        make_private_dir(&self.dir)?;
        make_private_dir(&temporaries)?;
        let suffix = random_name()?.as_str().get(..SUFFIX).unwrap_or_default().to_owned();
        Ok(temporaries.join(format!("{beginning}{suffix}.{pid}.{ticks}")))
    }

    /// The volume of this name, after a removal that is under way.
    fn settled(&self, name: &VolumeName) -> Result<Option<Volume>, VolumeError> {
        match self.lock(name, How::Shared)? {
            Some(_lock) => self.get(name),
            None => Ok(None),
        }
    }

    /// Locks a volume while its file system is mounted or unmounted. None when there is no such volume.
    pub(crate) fn lock_to_mount(&self, name: &VolumeName) -> Result<Option<File>, VolumeError> {
        self.lock(name, How::Exclusive)
    }

    /// Mounts a volume's file system on its directory, unless it is. The caller has the lock.
    pub(crate) fn mount(&self, volume: &Volume) -> Result<(), VolumeError> {
        let on = self.open_data(&volume.name)?;
        if is_mount_root(&on)? {
            return Ok(());
        }
        let mount = file_system::make(&volume.options, &volume.mountpoint)?;
        Ok(attach(mount, on)?)
    }

    /// Unmounts whatever is mounted on a volume's directory. The caller has the lock.
    pub(crate) fn unmount(&self, name: &VolumeName) -> Result<(), VolumeError> {
        // One on the other, should somebody have put them there; without end they cannot be.
        for _ in 0..64 {
            match self.open_data(name) {
                Ok(data) if is_mount_root(&data)? => unmount(&self.mountpoint(name))?,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// The same for all volumes; what could not be unmounted comes back.
    pub(crate) fn unmount_all(&self) -> Vec<VolumeError> {
        match self.list() {
            Ok(volumes) => volumes.iter().filter_map(|volume| self.unmount(&volume.name).err()).collect(),
            Err(error) => vec![error],
        }
    }

    /// The directory that is mounted, or what is mounted on it.
    pub(crate) fn open_data(&self, name: &VolumeName) -> Result<OwnedFd, VolumeError> {
        let data = self.mountpoint(name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(&data, flags, Mode::empty()).map_err(|errno| io_error("open", &data)(errno.into()))
    }

    /// Refuses a name that no volume has, after a removal that is under way.
    pub(crate) fn require(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let found = self.settled(name)?;
        found.map(drop).ok_or_else(|| VolumeError::Missing(name.to_string()))
    }

    /// The file that who fills a volume locks. Beside its data: what a container can open, it can lock.
    pub(crate) fn turn_to_fill(&self, name: &VolumeName) -> Result<File, VolumeError> {
        let path = self.place(name).join(TURN_TO_FILL);
        rbox_sys::own::open(&path, OpenOptions::new().read(true).append(true).create(true).mode(0o600))
            .map_err(io_error("open", &path))
    }

    /// Takes a lock of a volume, as long as that is wanted: shared, who starts a container that has it; alone, who wants all of them to stand
    /// still.
    pub(crate) fn turn(
        &self,
        name: &VolumeName,
        how: How,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Turn, VolumeError> {
        let path = self.place(name).join(TURN_TO_START);
        let file =
            rbox_sys::own::open(&path, OpenOptions::new().read(true).append(true).create(true).mode(0o600))
                .map_err(io_error("open", &path))?;
        lock::take_while(&file, how, Patience::WORK, is_wanted).map_err(io_error("lock", &path))?;
        Ok(Turn(file))
    }

    /// Locks a volume's directory. None when there is no such directory, or it was removed meanwhile.
    pub(crate) fn lock(&self, name: &VolumeName, how: How) -> Result<Option<File>, VolumeError> {
        let place = self.place(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::open(&place, flags, Mode::empty()) {
            Ok(dir) => File::from(dir),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(VolumeError::Foreign { name: name.clone(), path: place });
            }
            Err(error) => return Err(io_error("open", &place)(error.into())),
        };
        // Who removes it lets go before its files are deleted.
        lock::take(&dir, how, Patience::MOMENT).map_err(io_error("lock", &place))?;
        let same = match (dir.metadata(), fs::symlink_metadata(&place)) {
            (Ok(ours), Ok(there)) => (ours.ino(), ours.dev()) == (there.ino(), there.dev()),
            _ => false,
        };
        Ok(same.then_some(dir))
    }

    /// Refuses another driver than `local`, and options that it does not take.
    pub fn check_driver(
        name: &str,
        driver: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(), VolumeError> {
        if !matches!(driver, "" | "local") {
            return Err(VolumeError::Driver { name: name.to_owned(), driver: driver.to_owned() });
        }
        check_options(options).map_err(|source| VolumeError::Option { name: name.to_owned(), source })
    }

    /// The volume of this name; none when there is none. One whose record is damaged is there, and says so.
    pub fn get(&self, name: &VolumeName) -> Result<Option<Volume>, VolumeError> {
        let place = self.place(name);
        let path = place.join(VOLUME);
        let (record, damage) = match rbox_sys::own::read(&path, crate::record::file::MOST_BYTES) {
            Ok(text) => match rbox_spec::record::decode::<Record>(&text) {
                Ok(record) => (Some(record), None),
                Err(error) => (None, Some(format!("read {}: {error}", path.display()))),
            },
            Err(error) => (None, Some(format!("read {}: {}", path.display(), plain(error)))),
        };
        let mountpoint = place.join(DATA);
        let record = match record {
            Some(record) => record,
            // Only a directory with data in it is a volume: others may put here what they like.
            None => match fs::metadata(&mountpoint).ok().filter(fs::Metadata::is_dir) {
                Some(made) => {
                    let modified = made.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
                    NewVolume::default().record(modified.unwrap_or_default())
                }
                None => return Ok(None),
            },
        };
        let Record { created, anonymous, labels, options } = record;
        Ok(Some(Volume { name: name.clone(), anonymous, created, labels, options, mountpoint, damage }))
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
            // What is no volume's name is skipped: `.tmp`, and what others put here.
            let name = entry.file_name();
            self.sweep_older(&name);
            let name = name.to_str().and_then(|name| name.parse::<VolumeName>().ok());
            if let Some(volume) = name.map(|name| self.get(&name)).transpose()?.flatten() {
                volumes.push(volume);
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// The volumes that pass the filters of `volume ls`.
    pub fn filtered(&self, filters: &Filters, users: &VolumeUsers) -> Result<Vec<Volume>, VolumeError> {
        let dangling = filters.boolean("dangling")?;
        let mut volumes = self.list()?;
        volumes.retain(|volume| {
            filters.matches("name", volume.name.as_str())
                && filters.matches("driver", "local")
                && filters.labels(&volume.all_labels())
                && dangling.is_none_or(|wanted| users.of(&volume.name).is_empty() == wanted)
        });
        Ok(volumes)
    }

    /// Removes a volume that no container mounts, with all it holds. `users` reads the containers' records: it is asked
    /// when nobody can take the volume into use any more.
    pub fn remove(&self, name: &VolumeName, users: UsersNow<'_>) -> Result<(), VolumeError> {
        let lock = self.lock(name, How::Exclusive).or_else(|error| match error {
            // Not a volume, so not ours to remove.
            VolumeError::Foreign { .. } => Ok(None),
            error => Err(error),
        })?;
        let missing = || VolumeError::Missing(name.to_string());
        let lock = lock.ok_or_else(missing)?;
        if self.get(name)?.is_none() {
            return Err(missing());
        }
        let containers = users()?.of(name);
        if !containers.is_empty() {
            return Err(VolumeError::InUse { name: name.clone(), containers });
        }
        // Left by a kill: what is mounted there is not ours to remove.
        self.unmount(name)?;
        let place = self.place(name);
        let going = self.temporary(GONE)?;
        fs::rename(&place, &going).map_err(io_error("rename", &place))?;
        self.note(name, VolumeAction::Destroy);
        drop(lock);
        remove_tree(&going).map_err(io_error("remove", &going))
    }

    /// Removes the volumes that no container mounts: anonymous ones, with `all` named ones too. One that cannot be
    /// removed does not keep the others from it.
    pub fn prune(
        &self,
        filters: &Filters,
        all: bool,
        is_old: &dyn Fn(&VolumeName) -> bool,
        users: UsersNow<'_>,
    ) -> Result<Pruned, VolumeError> {
        let mut pruned = Pruned::default();
        let before = users()?;
        for volume in self.list()? {
            let wanted =
                (all || volume.anonymous) && filters.labels(&volume.all_labels()) && is_old(&volume.name);
            // What has a file system of its own stays: nothing would be gained, as Docker has it.
            if !wanted || !volume.options.is_empty() || !before.of(&volume.name).is_empty() {
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
                Err(error) => pruned.failures.push(error),
            }
        }
        Ok(pruned)
    }

    /// Deletes what killed processes left half made or half removed. Failures are the next sweep's work.
    pub(crate) fn sweep(&self) {
        for entry in fs::read_dir(self.dir.join(TEMPORARIES)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let Some(rest) = name.strip_prefix(NEW).or_else(|| name.strip_prefix(GONE)) else { continue };
            let maker = rest.split_once('.').and_then(|(_, maker)| read_maker(maker));
            if !maker.is_some_and(|(pid, ticks)| process_is(pid, ticks)) {
                let _ = remove_tree(&entry.path());
            }
        }
    }

    /// The same of an older version, which made and removed volumes beside the others, where things of others may be too: only
    /// what has a whole name of ours, by a process that is gone.
    fn sweep_older(&self, name: &OsStr) {
        let ours = || {
            let name = name.to_str()?.strip_prefix('.')?;
            let rest = name.strip_prefix(NEW).or_else(|| name.strip_prefix(GONE))?;
            let (suffix, maker) = rest.split_once('.')?;
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            (suffix.len() == SUFFIX && suffix.bytes().all(hex)).then(|| read_maker(maker))?
        };
        if ours().is_some_and(|(pid, ticks)| !process_is(pid, ticks)) {
            let _ = remove_tree(&self.dir.join(name));
        }
    }
}

/// `PID.START` at the end of a temporary name.
fn read_maker(text: &str) -> Option<(i32, u64)> {
    let (pid, ticks) = text.split_once('.')?;
    Some((pid.parse().ok()?, ticks.parse().ok()?))
}

/// Reads who mounts what, now.
pub(crate) type UsersNow<'a> = &'a dyn Fn() -> Result<VolumeUsers, RecordError>;

/// Who mounts what: the ids of the containers that have each volume.
#[derive(Debug, Default)]
pub struct VolumeUsers {
    by_name: HashMap<VolumeName, Vec<String>>,
    /// Containers whose record is damaged, each with what is left of its text.
    pub(crate) damaged: Vec<(String, String)>,
}

impl VolumeUsers {
    pub(crate) fn add(&mut self, name: &VolumeName, id: &ContainerId) {
        self.by_name.entry(name.clone()).or_default().push(id.as_str().to_owned());
    }

    /// The ids of the containers that mount `name`; a damaged record that has the name in it counts.
    pub fn of(&self, name: &VolumeName) -> Vec<String> {
        let mut ids = self.by_name.get(name).cloned().unwrap_or_default();
        let mentions = self.damaged.iter().filter(|(_, text)| text.contains(&format!("\"{name}\"")));
        ids.extend(mentions.map(|(id, _)| id.clone()));
        ids
    }
}

fn text_of(record: &Record, place: &Path) -> Result<Vec<u8>, VolumeError> {
    rbox_spec::record::encode(record).map_err(|error| io_error("write", place)(error.into()))
}

fn make_private_dir(dir: &Path) -> Result<(), VolumeError> {
    // 0701: a container's other users pass through to a volume's data, and list nothing.
    own::make_directory(dir, 0o701).map_err(io_error("create", dir))
}

fn exists(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

pub(crate) fn random_name() -> Result<VolumeName, VolumeError> {
    let mut random = [0_u8; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(io_error("read", Path::new("/dev/urandom")))?;
    Ok((&ContainerId::from_bytes(&random)).into())
}

#[cfg(test)]
mod tests;
