//! A container's files, given out and taken in.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::engine::Engine;
use crate::error::EngineError;
use crate::journal::{ContainerAction, note_container};
use crate::record::container::Container;

pub use rbox_runtime::rootfs::layer::Packed;

pub use crate::copy::stream::{Copied, Progress};

impl Engine {
    /// Writes a container's file system as a tar archive, running or not: what its layers and its changes come to, without what is
    /// mounted in it. Mount points are there, as they are below the mount.
    ///
    /// # Errors
    /// The writer fails, its tree cannot be read, or another command is at it.
    pub fn export(&self, container: &Container, into: impl Write) -> Result<Packed, EngineError> {
        let packed = crate::copy::export::export(self.paths(), container, into)?;
        note_container(self.paths(), &container.record, ContainerAction::Export);
        Ok(packed)
    }

    /// Writes what is at `path` in a container as a tar archive, with what is mounted there. `follow`: what a link leads to, not
    /// the link.
    ///
    /// # Errors
    /// It is not there or cannot be read, or the writer fails.
    pub fn copy_out(
        &self,
        container: &Container,
        path: &Path,
        follow: bool,
        into: impl Write,
    ) -> Result<Packed, EngineError> {
        crate::copy::from::archive(self.paths(), container, path, follow, into)
    }

    /// Copies what is at `path` in a container to `target` on the host, by Docker's rules of what a target is.
    ///
    /// # Errors
    /// One of the two is not there or is not of the kind it has to be, or cannot be read or written.
    pub fn copy_to_host(
        &self,
        container: &Container,
        path: &Path,
        follow: bool,
        target: &Path,
        progress: Progress<'_>,
    ) -> Result<Copied, EngineError> {
        crate::copy::from::to_host(self.paths(), container, path, follow, target, progress)
    }

    /// Copies what is at `source` on the host to `path` in a container. `as_user`: all of it becomes the container's user's, if it
    /// has one.
    ///
    /// # Errors
    /// As [`Engine::copy_to_host`]; or what is mounted there is read-only.
    pub fn copy_from_host(
        &self,
        container: &Container,
        source: &Path,
        follow: bool,
        path: &Path,
        as_user: bool,
        progress: Progress<'_>,
    ) -> Result<Copied, EngineError> {
        crate::copy::to::from_host(self.paths(), container, source, follow, path, as_user, progress)
    }

    /// Copies files and links of the host to paths in a container, each with its own; directories on the way are made. All of it
    /// becomes the container's user's, if it has one. The paths in the container of those that are not there.
    ///
    /// # Errors
    /// One cannot be read, or cannot be written.
    pub fn copy_files(
        &self,
        container: &Container,
        files: &[(PathBuf, PathBuf)],
    ) -> Result<Vec<PathBuf>, EngineError> {
        let mut archive = tar::Builder::new(Vec::new());
        archive.follow_symlinks(false);
        let mut gone = Vec::new();
        for (source, target) in files {
            let inside = target.strip_prefix("/").unwrap_or(target);
            let kind = match std::fs::symlink_metadata(source) {
                Ok(data) => data.file_type(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    gone.push(target.clone());
                    continue;
                }
                Err(error) => return Err(EngineError::file("read", source)(error)),
            };
            if !(kind.is_file() || kind.is_symlink()) {
                continue;
            }
            match archive.append_path_with_name(source, inside) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => gone.push(target.clone()),
                other => other.map_err(EngineError::file("read", source))?,
            }
        }
        if gone.len() < files.len() {
            let packed = archive.into_inner().map_err(EngineError::file("pack", "files"))?;
            self.copy_in(container, &packed[..], Path::new("/"), true)?;
        }
        Ok(gone)
    }

    /// Unpacks a tar archive, compressed or not, in the directory `path` of a container.
    ///
    /// # Errors
    /// The archive is damaged or would lead out of the directory, or the directory is not there or is read-only.
    pub fn copy_in(
        &self,
        container: &Container,
        tar: impl Read + Send,
        path: &Path,
        as_user: bool,
    ) -> Result<Copied, EngineError> {
        crate::copy::to::from_archive(self.paths(), container, tar, path, as_user)
    }
}
