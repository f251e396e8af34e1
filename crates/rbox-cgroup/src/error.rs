//! What can go wrong with a control group.

use rbox_spec::Kind;
use rbox_sys::SysError;
use std::path::PathBuf;

/// Errors of this crate: what was attempted, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// /proc/self/mountinfo could not be read.
    #[error("read /proc/self/mountinfo")]
    Mountinfo(#[source] std::io::Error),
    /// No control groups are mounted.
    #[error("no cgroup file system is mounted: mount cgroup2 on /sys/fs/cgroup")]
    NoHierarchy,
    /// A path that would leave the hierarchy, or that nothing can be made at.
    #[error("cgroup path {path:?} refused: {why}")]
    Path {
        /// As given.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A limit this host cannot set.
    #[error("{limit}: {why}")]
    Unsupported {
        /// In the words of the command line: `memory-swap`.
        limit: &'static str,
        /// What the host lacks.
        why: String,
    },
    /// A limit the kernel refused.
    #[error("set {limit} of cgroup {group}")]
    Limit {
        /// In the words of the command line.
        limit: &'static str,
        /// Its directory.
        group: PathBuf,
        /// The write.
        #[source]
        source: SysError,
    },
    /// The lock of a group.
    #[error("lock cgroup {group}")]
    Lock {
        /// Its directory.
        group: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Any other failed call.
    #[error("{what} cgroup {group}")]
    Sys {
        /// What was attempted: `make`.
        what: &'static str,
        /// Its directory.
        group: PathBuf,
        /// The call.
        #[source]
        source: SysError,
    },
    /// A group that did not get empty, frozen or thawed in time.
    #[error("cgroup {group} is still not {what} after {millis} ms")]
    Timeout {
        /// The state waited for.
        what: &'static str,
        /// Its directory.
        group: PathBuf,
        /// How long was waited.
        millis: u128,
    },
    /// Somebody else froze a group that was to be thawed, or thawed one that was to be frozen.
    #[error("{what} cgroup {group}: another process undid it meanwhile")]
    TakenBack {
        /// What was attempted: `freeze`.
        what: &'static str,
        /// Its directory.
        group: PathBuf,
    },
    /// All that failed while the group was taken away.
    #[error("delete cgroup: {}", .0.iter().map(|e| describe(e)).collect::<Vec<_>>().join("; "))]
    Delete(Vec<CgroupError>),
}

impl CgroupError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mountinfo(error) | Self::Lock { source: error, .. } => Kind::of_io(error),
            Self::NoHierarchy | Self::Unsupported { .. } => Kind::Unsupported,
            Self::Path { .. } => Kind::Invalid,
            Self::Limit { source, .. } | Self::Sys { source, .. } => Kind::of_errno(source.errno as i32),
            Self::Timeout { .. } => Kind::Unavailable,
            Self::TakenBack { .. } => Kind::Conflict,
            Self::Delete(errors) => errors.first().map_or(Kind::Internal, Self::kind),
        }
    }
}

/// The error and its causes in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        line = format!("{line}: {}", rbox_sys::plain(next));
        cause = next.source();
    }
    line
}

/// Short for this crate.
pub(crate) type Result<T> = std::result::Result<T, CgroupError>;
