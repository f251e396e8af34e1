//! What a tree has, as one digest: names, types, modes, owners, attributes and contents, but no times.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rbox_image::hash::Hasher;
use rbox_spec::Digest;
use rbox_spec::digest::Algorithm;
use rustix::fs::Stat;

use super::looks::attributes;
use super::walk::{Entry, EntryKind, Selected, Source, TreeError};

/// What is known of files from before, so that one that is unchanged is not read again.
pub(crate) trait FileDigests {
    /// The digest of the file's attributes and content, if it is known: whoever changes either changes its time of change (ctime).
    fn get(&mut self, path: &Path, stat: &Stat) -> Option<Digest>;
    /// Remembers it.
    fn put(&mut self, path: &Path, stat: &Stat, digest: Digest);
}

/// Nothing is known and nothing remembered.
pub(crate) struct NoMemory;

impl FileDigests for NoMemory {
    fn get(&mut self, _: &Path, _: &Stat) -> Option<Digest> {
        None
    }

    fn put(&mut self, _: &Path, _: &Stat, _: Digest) {}
}

/// What some sources have.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    /// Of all of it.
    pub(crate) digest: Digest,
    /// Of each thing, by its path: to find what has changed.
    pub(crate) entries: BTreeMap<PathBuf, Digest>,
}

/// How many things are remembered one by one.
const MOST_ENTRIES: usize = 50_000;

impl Content {
    /// Reads what `selected` has, but for what `wanted` does not want.
    pub(crate) fn of(
        source: &Source,
        selected: &[Selected],
        wanted: &dyn Fn(&Path) -> bool,
        known: &mut dyn FileDigests,
    ) -> Result<Self, TreeError> {
        let mut whole = Hasher::new(Algorithm::Sha256);
        let mut entries = Vec::new();
        for one in selected {
            field(&mut whole, one.name.as_os_str().as_bytes());
            source.walk(one, &mut |entry| {
                let below = entry.path.strip_prefix(&one.path).unwrap_or(entry.path);
                if !below.as_os_str().is_empty() && !wanted(entry.path) {
                    return Ok(());
                }
                let digest = of_entry(source, entry, known)?;
                field(&mut whole, below.as_os_str().as_bytes());
                whole.update(digest.to_string().as_bytes());
                if entries.len() < MOST_ENTRIES {
                    entries.push((entry.path.to_owned(), digest));
                }
                Ok(())
            })?;
        }
        // Put in order once: one by one, each would be compared with many.
        Ok(Self { digest: whole.finish(), entries: entries.into_iter().collect() })
    }
}

impl Source {
    /// The regular files of the tree, with the digests of what they have.
    pub(crate) fn files(&self) -> Result<Vec<(String, Digest)>, TreeError> {
        let whole = Selected { path: PathBuf::new(), name: PathBuf::new(), is_dir: true };
        let mut files = Vec::new();
        self.walk(&whole, &mut |entry| {
            if entry.kind == EntryKind::File {
                files.push((entry.path.to_string_lossy().into_owned(), of_content(entry)?));
            }
            Ok(())
        })?;
        Ok(files)
    }
}

/// A field whose end is known by its length.
pub(crate) fn field(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn of_entry(source: &Source, entry: &Entry<'_>, known: &mut dyn FileDigests) -> Result<Digest, TreeError> {
    let stat = entry.stat;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&stat.st_mode.to_le_bytes());
    let owner = if source.is_context { (0, 0) } else { (stat.st_uid, stat.st_gid) };
    hasher.update(&owner.0.to_le_bytes());
    hasher.update(&owner.1.to_le_bytes());
    match entry.kind {
        EntryKind::Link => field(&mut hasher, &entry.target()?),
        EntryKind::Special => hasher.update(&stat.st_rdev.to_le_bytes()),
        EntryKind::Directory => add_attributes(&mut hasher, entry)?,
        EntryKind::File => hasher.update(of_file(entry, known)?.to_string().as_bytes()),
    }
    Ok(hasher.finish())
}

fn add_attributes(hasher: &mut Hasher, entry: &Entry<'_>) -> Result<(), TreeError> {
    for (name, value) in attributes(entry)? {
        field(hasher, name.as_bytes());
        field(hasher, &value);
    }
    Ok(())
}

/// Of a regular file's attributes and content.
fn of_file(entry: &Entry<'_>, known: &mut dyn FileDigests) -> Result<Digest, TreeError> {
    if let Some(digest) = known.get(entry.path, entry.stat) {
        return Ok(digest);
    }
    let mut hasher = Hasher::new(Algorithm::Sha256);
    add_attributes(&mut hasher, entry)?;
    hasher.update(of_content(entry)?.to_string().as_bytes());
    let digest = hasher.finish();
    known.put(entry.path, entry.stat, digest);
    Ok(digest)
}

fn of_content(entry: &Entry<'_>) -> Result<Digest, TreeError> {
    let mut file = entry.open()?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let size = usize::try_from(entry.stat.st_size).unwrap_or(usize::MAX);
    let mut buffer = vec![0; size.clamp(1, 256 << 10)];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(TreeError::system("read", entry.path)(error)),
        }
    }
    Ok(hasher.finish())
}
