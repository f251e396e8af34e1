//! Contexts that are no directory of the host: archives, repositories, what web servers have.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rbox_engine::engine::unpack_archive;
use rbox_image::archive::uncompressed;
use rbox_image::hash::HashingReader;
use rbox_spec::digest::Algorithm;
use rbox_sys::own;

use super::dir::{MOST_BYTES, open_dir, read_file};
use super::error::{ContextError, io_error};
use super::git::{Repository, without_password};
use super::work::Work;
use crate::material::Material;

/// A block of a tar archive: enough to tell one.
const BLOCK: usize = 512;

/// A context that is in a directory of its own as long as anything refers to it.
#[derive(Debug)]
pub struct Fetched {
    dir: PathBuf,
    origin: String,
    /// What a statement says of it; nothing of what came by standard input.
    material: Option<Material>,
    _work: Work,
}

/// What came from elsewhere.
#[derive(Debug, Clone)]
pub enum Arrived {
    /// A context.
    Context(Arc<Fetched>),
    /// A Dockerfile alone.
    Dockerfile(String),
}

/// Whether the name of a context is no path on this host.
pub fn is_remote(name: &str) -> bool {
    name.starts_with("http://") || name.starts_with("https://") || Repository::parse(name).is_some()
}

impl Arrived {
    /// Reads an archive, compressed or not, or a Dockerfile. `build_dir`: where builds keep what they need.
    ///
    /// # Errors
    /// It is damaged, leads out of its directory, or the disk is full.
    pub fn read(from: impl Read + Send, build_dir: &Path) -> Result<Self, ContextError> {
        Self::of(from, ("an archive", None), build_dir)
    }

    fn of(
        mut from: impl Read + Send,
        origin: (&str, Option<Material>),
        build_dir: &Path,
    ) -> Result<Self, ContextError> {
        let mut start = vec![0; BLOCK];
        let mut length = 0;
        while let Some(rest) = start.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match from.read(rest) {
                Ok(0) => break,
                Ok(got) => length += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("read", Path::new("the context"))(error)),
            }
        }
        start.truncate(length);
        let is_archive = is_archive(&start);
        let whole = Cursor::new(start).chain(from);
        if is_archive {
            return Fetched::unpack(whole, origin, build_dir).map(|found| Self::Context(Arc::new(found)));
        }
        let mut bytes = Vec::new();
        whole
            .take(MOST_BYTES)
            .read_to_end(&mut bytes)
            .map_err(io_error("read", Path::new("the Dockerfile from standard input")))?;
        Ok(Self::Dockerfile(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Fetches a repository, or what a web server has: an archive, or a Dockerfile.
    ///
    /// # Errors
    /// It cannot be had, or is damaged.
    pub fn fetch(url: &str, build_dir: &Path) -> Result<Self, ContextError> {
        if let Some(repository) = Repository::parse(url) {
            let wrong = |message: String| ContextError::Git {
                url: without_password(url, url),
                message: without_password(url, &message),
            };
            let repository = repository.map_err(wrong)?;
            let keeps = std::env::var("BUILDKIT_CONTEXT_KEEP_GIT_DIR").ok().map(|text| text == "1");
            let work = Work::begin(build_dir)?;
            let (dir, commit) = repository.keeping_git(keeps).get(&work.fresh())?;
            let material = Some(Material::commit(url, &commit));
            return Ok(Self::Context(Arc::new(Fetched {
                dir,
                origin: url.to_owned(),
                material,
                _work: work,
            })));
        }
        let work = Work::begin(build_dir)?;
        let path = work.fresh();
        let mut options = File::options();
        let file = own::open(&path, options.create_new(true).read(true).write(true))
            .map_err(io_error("create", &path))?;
        rbox_image::fetch(url, &file)?;
        (&file).rewind().map_err(io_error("read", &path))?;
        let mut reader = HashingReader::new(&file, Algorithm::Sha256);
        io::copy(&mut reader, &mut io::sink()).map_err(io_error("read", &path))?;
        let material = Material::file(url, &reader.finish().0);
        (&file).rewind().map_err(io_error("read", &path))?;
        Self::of(&file, (url, Some(material)), build_dir)
    }
}

impl Fetched {
    fn unpack(
        archive: impl Read + Send,
        (origin, material): (&str, Option<Material>),
        build_dir: &Path,
    ) -> Result<Self, ContextError> {
        let work = Work::begin(build_dir)?;
        let dir = work.fresh();
        own::make_private(&dir).map_err(io_error("make directory", &dir))?;
        let root = open_dir(&dir)?;
        let tar = uncompressed(archive).map_err(io_error("read", Path::new("the context's archive")))?;
        // What it is copied to says whose it becomes.
        unpack_archive(tar, root.as_fd(), Path::new("."), Some((0, 0)))
            .map_err(|error| ContextError::Archive(Box::new(error)))?;
        Ok(Self { dir, origin: origin.to_owned(), material, _work: work })
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it came from: what is remembered of it is found by this.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// What it is in a statement of what an image was made of.
    pub(crate) fn material(&self) -> Option<&Material> {
        self.material.as_ref()
    }

    /// A file of it; none when it is not there. Links lead nowhere but into the context.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn file(&self, name: &str) -> Result<Option<String>, ContextError> {
        let bytes = read_file(&open_dir(&self.dir)?, name)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// Whether what begins so is an archive. As Docker has it: compressed, or with the header of a tar archive.
fn is_archive(start: &[u8]) -> bool {
    const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    if COMPRESSED.iter().any(|magic| start.starts_with(magic)) {
        return true;
    }
    let field = start.get(148..156).map(String::from_utf8_lossy);
    let field = field.as_deref().map(|text| text.trim_matches(|c: char| c == '\0' || c == ' '));
    let Some(said) = field.and_then(|text| u32::from_str_radix(text, 8).ok()) else { return false };
    let sum = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) };
    start.len() == BLOCK && said == start.iter().enumerate().map(sum).sum::<u32>()
}
