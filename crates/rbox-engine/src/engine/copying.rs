//! A container's files, given out.

use std::io::Write;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::record::container::Container;

pub use rbox_runtime::rootfs::layer::Packed;

impl Engine {
    /// Writes a container's file system as a tar archive, running or not: what its layers and its changes come to, without what is
    /// mounted in it. Mount points are there, as they are below the mount.
    ///
    /// # Errors
    /// The writer fails, its tree cannot be read, or another command is at it.
    pub fn export(&self, container: &Container, into: impl Write) -> Result<Packed, EngineError> {
        crate::copy::export::export(self.paths(), container, into)
    }
}
