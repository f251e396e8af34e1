//! What a container is made from.

use std::path::Path;

use oci_spec::runtime::Spec;
use rbox_cgroup::CgroupPaths;
use rbox_security::seccomp::Filter;
use rbox_spec::Resources;

use crate::launch::Stdio;

/// What a container is made from.
#[derive(Debug)]
pub struct Bundle<'a> {
    /// The directory that the config's `root.path` is relative to.
    pub path: &'a Path,
    /// The config.
    pub spec: &'a Spec,
    /// The control group.
    pub group: Group<'a>,
    /// The config's seccomp filter, compiled.
    pub seccomp: Option<&'a Filter>,
    /// The program's standard streams.
    pub stdio: Stdio,
}

/// Whose the container's control group is.
#[derive(Debug)]
pub enum Group<'a> {
    /// Made with the container and deleted with it: its path (`rbox/<id>`) and its limits.
    Make {
        /// Relative to the root of each tree.
        path: &'a str,
        /// Its limits.
        resources: &'a Resources,
    },
    /// The caller's, which it has made and will delete; others may be in it.
    Given(&'a CgroupPaths),
}
