//! What is asked of a build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rbox_image::media::Compression;
use rbox_spec::container::HostConfig;
use rbox_spec::{Digest, Platform, Reference};

use crate::allowed::Allowed;
use crate::context::{Context, NamedContext};
use crate::dockerfile::{Dockerfile, DockerfileError, Sources};

/// Where a build's result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An image, into the store.
    Store,
    /// Its files.
    Files {
        /// Where they go.
        to: Destination,
        /// How the name of the file begins that has what is stated of them: as it is called by itself, if empty.
        prefix: String,
    },
}

/// Where the files of what was built go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A directory of the host's, which is made if it is not there.
    Directory(PathBuf),
    /// A tar archive.
    Tar(PathBuf),
    /// The same, to standard output.
    Stdout,
}

impl Output {
    /// Files, and what is stated of them under its own name.
    pub const fn files(to: Destination) -> Self {
        Self::Files { to, prefix: String::new() }
    }

    /// Whether it goes to standard output.
    pub const fn is_stdout(&self) -> bool {
        matches!(self, Self::Files { to: Destination::Stdout, .. })
    }
}

/// What is done when a RUN fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    /// The build ends.
    #[default]
    End,
    /// A shell is opened in it as it was, and then the build ends.
    Shell,
}

/// How much is told of why a step is not cached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reasons {
    /// The first thing that is different.
    #[default]
    First,
    /// All that is.
    All,
}

/// A cache elsewhere that is read: where a [`CacheTarget`] was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheSource {
    /// A directory.
    Directory {
        /// Which.
        dir: PathBuf,
        /// What of it.
        which: Which,
    },
    /// What a registry has under a name: a cache, or an image that brings one.
    Registry(Reference),
}

/// One of several caches in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its name.
    Tag(String),
    /// By its manifest's digest.
    Digest(Digest),
}

/// Where the results of steps are written to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    /// Where.
    pub place: CachePlace,
    /// Those of all stages, not only those whose layers the result has.
    pub all: bool,
    /// How layers are compressed.
    pub compression: Compression,
    /// That they cannot be written is only a warning.
    pub ignore_error: bool,
}

/// A place for results of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    /// A directory, which is made if it is not there.
    Directory {
        /// Which.
        dir: PathBuf,
        /// What they are called there.
        tag: String,
    },
    /// A registry, under this name.
    Registry(Reference),
}

/// What is stated of how images were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// With build arguments, labels and the Dockerfile.
    pub is_whole: bool,
    /// The version of the format.
    pub version: SlsaVersion,
    /// Who builds, as a URL; empty for nobody that is known.
    pub builder_id: String,
    /// The user says that the same comes out each time.
    pub is_reproducible: bool,
    /// Only beside images: not among files that are written somewhere.
    pub is_inline_only: bool,
}

/// A version of SLSA's provenance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SlsaVersion {
    /// 0.2.
    #[default]
    V02,
    /// 1.
    V1,
}

/// Where a build stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// Before the instruction that is at this line of the Dockerfile, or after it if none is.
    pub line: usize,
    /// A shell is opened there. Without, what there is by then is the result.
    pub shell: bool,
}

/// What is to be built, and how.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub struct BuildRequest {
    /// What the Dockerfile is called.
    pub file_name: String,
    /// The Dockerfile, with what it includes.
    pub file: Sources,
    /// Its path below the context, when it is there.
    pub file_in_context: Option<String>,
    /// What COPY and ADD read.
    pub context: Context,
    /// Others, by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// The stage that is wanted; without, the last.
    pub target: Option<String>,
    /// `--build-arg`.
    pub build_args: BTreeMap<String, String>,
    /// Where the result goes; nowhere but into the cache if there is none.
    pub outputs: Vec<Output>,
    /// What a step makes gets no younger time than `SOURCE_DATE_EPOCH`, when that is given.
    pub rewrite_timestamps: bool,
    /// All layers that are made become one.
    pub squash: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// The annotations of the index, of several platforms.
    pub index_annotations: BTreeMap<String, String>,
    /// `--tag`.
    pub names: Vec<Reference>,
    /// Nothing of the cache is used.
    pub no_cache: bool,
    /// Nor for these stages.
    pub no_cache_stages: Vec<String>,
    /// Caches elsewhere that are read.
    pub cache_from: Vec<CacheSource>,
    /// And written, once the build is done.
    pub cache_to: Vec<CacheTarget>,
    /// The image itself says which step made which of its layers, so that it is a cache as well.
    pub inline_cache: bool,
    /// Statements of where images come from, beside them.
    pub provenance: Option<Provenance>,
    /// Images are pulled also when they are there.
    pub pull: bool,
    /// The platforms that images are made for, all under one name; without any, this machine's.
    pub platforms: Vec<Platform>,
    /// What each RUN gets from the host: network, limits, names.
    pub host: HostConfig,
    /// Secrets by id.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// Sockets of SSH agents by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// What the Dockerfile may ask of the host.
    pub allowed: Allowed,
    /// What is done when a RUN fails.
    pub on_error: OnError,
    /// How much is told of why a step is not cached.
    pub reasons: Reasons,
    /// Where the build stops before its end.
    pub until: Option<Until>,
}

impl BuildRequest {
    /// Reads the Dockerfile.
    pub(crate) fn dockerfile(&self) -> Result<Dockerfile, DockerfileError> {
        Dockerfile::parse(self.file.text()).map_err(|error| self.file.told(error))
    }

    /// The user may be asked to use a shell on the way: stages are carried out one after the other.
    pub(crate) fn is_watched(&self) -> bool {
        self.on_error == OnError::Shell || self.until.is_some()
    }
}
