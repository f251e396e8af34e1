//! What a profile is compiled for, and why it could not be.

use rbox_spec::{CapSet, Kind};

use super::arch::Arch;

/// What a profile's conditions are decided by.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The container's bounding set.
    pub capabilities: CapSet,
    /// Major and minor.
    pub kernel: (u32, u32),
    /// The architecture of the host.
    pub native: Arch,
}

/// Why a profile cannot become a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// Not what the schema says.
    #[error("{0}")]
    Profile(String),
    /// Beyond the kernel's bound on a filter.
    #[error("the filter has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
}

impl CompileError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Profile(_) | Self::TooLong(_) => Kind::Invalid,
        }
    }
}
