//! How a service's image is built.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::duration::bytes;
use super::parts::{MountedFile, Ulimit};

/// How a service's image is built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Build {
    /// A directory, absolute, or the address of a context that is elsewhere.
    pub context: String,
    /// The Dockerfile, from the context; empty with `dockerfile_inline`.
    pub dockerfile: String,
    /// The Dockerfile itself; empty where it is a file.
    pub dockerfile_inline: String,
    /// What the build may do: `security.insecure`, `network.host`.
    pub entitlements: Vec<String>,
    /// Arguments; none is a value that is not given.
    pub args: BTreeMap<String, Option<String>>,
    /// Provenance.
    pub provenance: String,
    /// Software bill of materials.
    pub sbom: String,
    /// Keys of ssh agents: a socket or a key file by the id; empty for the caller's agent.
    pub ssh: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Where the cache comes from.
    pub cache_from: Vec<String>,
    /// Where it is written to.
    pub cache_to: Vec<String>,
    /// Without the cache.
    pub no_cache: bool,
    /// Stages without the cache.
    pub no_cache_filter: Vec<String>,
    /// Other contexts by their names: a directory, an address, or `service:NAME`.
    pub additional_contexts: BTreeMap<String, String>,
    /// Pull images that are there.
    pub pull: bool,
    /// `HOST=ADDRESS`.
    pub extra_hosts: Vec<String>,
    /// Of Windows.
    pub isolation: String,
    /// The network of steps.
    pub network: String,
    /// The stage to build.
    pub target: String,
    /// Secrets of steps.
    pub secrets: Vec<MountedFile>,
    /// Bytes of /dev/shm; 0 for the default.
    #[serde(deserialize_with = "bytes")]
    pub shm_size: u64,
    /// More names of the image.
    pub tags: Vec<String>,
    /// Limits of steps.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Platforms.
    pub platforms: Vec<String>,
    /// Steps with all privileges.
    pub privileged: bool,
}
