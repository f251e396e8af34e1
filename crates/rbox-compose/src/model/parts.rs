//! What services and their builds both have.

use serde::Deserialize;

use super::duration::mode;

/// A secret or a config in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MountedFile {
    /// The name that the files give it.
    pub source: String,
    /// Where; for a config empty means `/SOURCE`.
    pub target: String,
    /// Its owner; empty for 0.
    pub uid: String,
    /// Its group.
    pub gid: String,
    /// Its mode; none for 0444.
    #[serde(deserialize_with = "mode")]
    pub mode: Option<u32>,
}

/// A resource limit of processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ulimit {
    /// What holds; -1 is no limit.
    pub soft: i64,
    /// What a process may raise it to.
    pub hard: i64,
}

impl<'de> Deserialize<'de> for Ulimit {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(i64),
            Two { soft: i64, hard: i64 },
            None(()),
        }
        Ok(match Written::deserialize(from)? {
            Written::One(limit) => Self { soft: limit, hard: limit },
            Written::Two { soft, hard } => Self { soft, hard },
            Written::None(()) => Self::default(),
        })
    }
}
