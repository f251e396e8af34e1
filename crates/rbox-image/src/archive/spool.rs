//! The files of an archive, on disk under digests of their content.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rbox_rootfs::layer::{CopyError, Limits, MemberKind, Members, Name};
use rbox_spec::Digest;
use rbox_spec::digest::Algorithm;

use super::error::ArchiveError;
use crate::hash::Hasher;
use crate::layer::fill;
use crate::media::Compression;
use crate::store::ImageStore;

/// More files than an archive of an image has: some thousand images of some hundred layers.
const MOST_FILES: usize = 100_000;
/// Links followed from one name to another.
const MOST_LINKS: usize = 8;

/// One file of the archive.
#[derive(Debug)]
pub(super) struct Spooled {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// Whether it was given to the store, which then owns it.
    taken: bool,
}

/// All files of the archive. What was not taken is removed with it.
#[derive(Debug, Default)]
pub(super) struct Spool {
    files: HashMap<Digest, Spooled>,
    names: HashMap<String, Digest>,
    links: HashMap<String, String>,
}

/// A file being written, hashed on the way.
struct Writer<'f> {
    file: &'f File,
    hasher: Hasher,
    size: u64,
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.file;
        let count = file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Spool {
    /// Reads an archive whole.
    pub(super) fn read(store: &ImageStore, tar: impl Read) -> Result<Self, ArchiveError> {
        let limits = Limits { stream_bytes: 256 << 30, entries: 2 * MOST_FILES as u64, ..Limits::default() };
        let mut members = Members::new(tar, &limits);
        let mut spool = Self::default();
        while let Some(member) = members.next_member()? {
            let refuse = |why| ArchiveError::Member { name: Name(member.name.clone()), why };
            if spool.names.len() + spool.links.len() >= MOST_FILES {
                return Err(ArchiveError::TooMany(MOST_FILES));
            }
            if member.kind == MemberKind::Directory {
                continue;
            }
            let name = std::str::from_utf8(&member.name).ok().and_then(|name| normal("", name));
            let name = name.ok_or_else(|| refuse("its name leads out of the archive"))?;
            // A later member of a name replaces an earlier one, as in any tar.
            spool.names.remove(&name);
            spool.links.remove(&name);
            let target =
                |base: &str| std::str::from_utf8(&member.link).ok().and_then(|link| normal(base, link));
            match member.kind {
                MemberKind::File => {
                    let digest = spool.add(store, &mut members)?;
                    spool.names.insert(name, digest);
                }
                MemberKind::Hardlink => {
                    let target = target("").ok_or_else(|| refuse("links out of the archive"))?;
                    spool.links.insert(name, target);
                }
                MemberKind::Symlink => {
                    let base = name.rsplit_once('/').map_or("", |(base, _)| base);
                    let target = target(base).ok_or_else(|| refuse("links out of the archive"))?;
                    spool.links.insert(name, target);
                }
                MemberKind::Directory | MemberKind::Other => {
                    return Err(refuse("is a device, a FIFO or a sparse file"));
                }
            }
        }
        Ok(spool)
    }

    fn add(
        &mut self,
        store: &ImageStore,
        members: &mut Members<'_, impl Read>,
    ) -> Result<Digest, ArchiveError> {
        let path = store.fresh("new-load");
        let mut options = OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(|source| io_error("create", &path, source))?;
        let mut spooled = Spooled { path, size: 0, taken: false };
        let mut writer = Writer { file: &file, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
        match members.copy_data(&mut writer) {
            Err(CopyError::Write(source)) => return Err(io_error("write", &spooled.path, source)),
            Err(CopyError::Read(error)) => return Err(error.into()),
            Ok(()) => {}
        }
        spooled.size = writer.size;
        let digest = writer.hasher.finish();
        // The same content twice is one file; the second copy goes with `spooled`.
        self.files.entry(digest).or_insert(spooled);
        Ok(digest)
    }

    /// The names of all files and links.
    pub(super) fn all_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().chain(self.links.keys()).map(String::as_str)
    }

    /// The digest of the file a name leads to, through links of the archive.
    pub(super) fn digest_of(&self, name: &str) -> Option<Digest> {
        let mut name = normal("", name)?;
        for _ in 0..MOST_LINKS {
            if let Some(digest) = self.names.get(&name) {
                return Some(*digest);
            }
            name = self.follow(&name)?;
        }
        None
    }

    /// One step: the link a name is, or that a directory of it is.
    fn follow(&self, name: &str) -> Option<String> {
        if let Some(target) = self.links.get(name) {
            return Some(target.clone());
        }
        name.match_indices('/').find_map(|(at, _)| {
            let (directory, rest) = name.split_at(at);
            self.links.get(directory).map(|target| format!("{target}{rest}"))
        })
    }

    /// The file of a digest.
    pub(super) fn get(&self, digest: &Digest) -> Option<&Spooled> {
        self.files.get(digest)
    }

    /// A small file's content.
    pub(super) fn bytes(
        &self,
        digest: &Digest,
        name: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(file) = self.files.get(digest) else { return Ok(None) };
        if file.size > limit {
            return Err(ArchiveError::TooLarge { name: name.to_owned(), limit });
        }
        fs::read(&file.path).map(Some).map_err(|source| io_error("read", &file.path, source))
    }

    /// A small file's content, by its name.
    pub(super) fn named(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        match self.digest_of(name) {
            Some(digest) => self.bytes(&digest, name, limit),
            None => Ok(None),
        }
    }

    /// How a layer's file is compressed, by its first bytes.
    pub(super) fn compression(&self, digest: &Digest) -> Result<Compression, ArchiveError> {
        let Some(file) = self.files.get(digest) else { return Ok(Compression::None) };
        let mut start = [0; 4];
        let read = File::open(&file.path).and_then(|mut file| fill(&mut file, &mut start));
        let length = read.map_err(|source| io_error("read", &file.path, source))?;
        Ok(Compression::sniff(start.get(..length).unwrap_or_default()))
    }

    /// The store has moved the file to its place.
    pub(super) fn taken(&mut self, digest: &Digest) {
        if let Some(file) = self.files.get_mut(digest) {
            file.taken = true;
        }
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if !self.taken {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A name without `.`, `..` and slashes too many; `None` if it leads out.
fn normal(base: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = if name.starts_with('/') { return None } else { base.split('/').collect() };
    parts.retain(|part| !part.is_empty());
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    (!parts.is_empty() && !name.contains('\0')).then(|| parts.join("/"))
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Io { action, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn names_stay_in_the_archive() {
        for (base, name, normalised) in [
            ("", "./a//b", Some("a/b")),
            ("", "a/../b", Some("b")),
            ("x", "../y/layer.tar", Some("y/layer.tar")),
            ("x/z", "../layer.tar", Some("x/layer.tar")),
            ("x", "../../etc/passwd", None),
            ("", "..", None),
            ("", "../a", None),
            ("", "/etc/passwd", None),
            ("", ".", None),
            ("", "", None),
            ("", "a\0b", None),
        ] {
            assert_eq!(normal(base, name).as_deref(), normalised, "{base} {name}");
        }
    }
}
