//! Devices by the names that their makers give them: the Container Device Interface, versions 0.3 to 1.1 of its specification
//! (<https://github.com/cncf-tags/container-device-interface>).
//!
//! A file in one of a few directories says what a container needs for a device: nodes, mounts, variables, hooks. Such files are the
//! administrator's, and what they name is done as root. They are read at each start, so what they say may change between two.

pub(crate) mod bundle;
pub(crate) mod edits;
pub(crate) mod find;
pub(crate) mod requests;
pub(crate) mod specs;

mod document;
mod yaml;

/// Why a container does not get its devices: Docker's words, where it has some.
#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    /// A name, or what its file says.
    #[error("CDI device injection failed: {0}")]
    Inject(String),
    /// A name that no device can have.
    #[error("invalid device {0:?}")]
    Name(String),
    /// Nobody has what was asked for.
    #[error("could not select device driver \"{driver}\" with capabilities: {capabilities}{hint}")]
    NoDriver {
        /// As it was asked for.
        driver: String,
        /// The same, as Go prints lists.
        capabilities: String,
        /// What to do.
        hint: String,
    },
}

impl CdiError {
    /// What it means to the caller.
    pub const fn kind(&self) -> rbox_spec::Kind {
        match self {
            Self::Inject(_) | Self::Name(_) | Self::NoDriver { .. } => rbox_spec::Kind::Invalid,
        }
    }
}
