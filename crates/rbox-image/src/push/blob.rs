//! One blob: looked for, mounted, or sent.
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rbox_spec::Digest;

use super::error::PushError;
use super::job::Job;
use super::progress::{PushEvent, PushState};
use crate::hash::{Hasher, digest_of};
use crate::registry::upload::Begun;
use crate::registry::{RegistryError, Session};
use crate::sending::{Sending, send};
use crate::store::StoreError;
use crate::transfer::Transfer as _;

/// Where a blob's bytes are.
pub(super) enum Content {
    Bytes(Vec<u8>),
    File { file: File, path: PathBuf, size: u64 },
}

/// A blob to send.
pub(super) struct Blob<'a> {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) content: &'a Content,
    /// The layer that is shown; a configuration is not.
    pub(super) diff_id: Option<&'a Digest>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// Up to `most` bytes from `from` on.
    fn piece(&self, from: u64, most: usize) -> Result<Vec<u8>, PushError> {
        let length = self.len().saturating_sub(from).min(most as u64);
        let mut piece = vec![0; usize::try_from(length).unwrap_or(most)];
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(from).unwrap_or(usize::MAX);
                bytes.get(start..).into_iter().flatten().zip(&mut piece).for_each(|(byte, to)| *to = *byte);
            }
            Self::File { file, path, .. } => file.read_exact_at(&mut piece, from).map_err(|source| {
                PushError::Io { action: "read", path: path.display().to_string(), source }
            })?,
        }
        Ok(piece)
    }

    /// The digest of all of it, in the algorithm of another.
    fn digest_like(&self, other: &Digest) -> Result<Digest, PushError> {
        if let Self::Bytes(bytes) = self {
            return Ok(digest_of(other.algorithm(), bytes));
        }
        let (mut hasher, mut done) = (Hasher::new(other.algorithm()), 0);
        while done < self.len() {
            let piece = self.piece(done, 1 << 20)?;
            hasher.update(&piece);
            done += piece.len() as u64;
        }
        Ok(hasher.finish())
    }
}

impl Job<'_> {
    /// Brings a blob into the repository, by way of one of the repositories that the registry may have it in.
    pub(super) fn blob(
        &self,
        session: &Session<'_>,
        blob: &Blob<'_>,
        origins: &[String],
    ) -> Result<(), PushError> {
        self.check_abandoned()?;
        let name = blob.diff_id.unwrap_or(&blob.digest).short();
        let tell = |state| blob.diff_id.iter().for_each(|diff_id| self.tell(diff_id, state));
        if self.retry(&name, || session.has_blob(&blob.digest))? {
            tell(PushState::AlreadyExists);
            return Ok(());
        }
        let mut upload = None;
        for from in origins {
            // What cannot be mounted is sent: an error here says no more than that.
            match session.begin_upload(Some((&blob.digest, from))) {
                Ok(Begun::Mounted) => {
                    tell(PushState::Mounted(from));
                    return Ok(());
                }
                Ok(Begun::Send(begun)) => upload = Some(begun),
                Err(_) => {}
            }
        }
        send(session, &mut OfStore { job: self, blob, name: &name }, upload)
            .map_err(|error| self.whose_fault(blob, error))?;
        tell(PushState::Pushed);
        Ok(())
    }

    fn told(&self, blob: &Blob<'_>, done: u64) {
        if let Some(diff_id) = blob.diff_id {
            let state = PushState::Pushing { done, total: blob.size };
            self.progress.event(PushEvent::Layer { diff_id, state });
        }
    }

    /// A registry that refuses a digest may be right: then the store's file is damaged.
    #[allow(clippy::unused_self)] // One of the steps above.
    fn whose_fault(&self, blob: &Blob<'_>, error: PushError) -> PushError {
        if !matches!(&error, PushError::Registry(RegistryError::Status { status: 400, .. })) {
            return error;
        }
        match blob.content.digest_like(&blob.digest) {
            Ok(found) if found != blob.digest => {
                let found = format!("its content has digest {found}; pull the image again");
                StoreError::Damaged { what: "layer", digest: blob.digest, found }.into()
            }
            _ => error,
        }
    }
}

/// A blob on its way out of the store.
struct OfStore<'s, 'a> {
    job: &'s Job<'a>,
    blob: &'s Blob<'a>,
    /// As lines show it.
    name: &'s str,
}

impl Sending for OfStore<'_, '_> {
    type Error = PushError;

    fn digest(&self) -> &Digest {
        &self.blob.digest
    }

    fn size(&self) -> u64 {
        self.blob.size
    }

    fn piece(&mut self, from: u64, most: usize) -> Result<Vec<u8>, PushError> {
        self.blob.content.piece(from, most)
    }

    fn is_at(&mut self, done: u64) -> Result<(), PushError> {
        self.job.check_abandoned()?;
        self.job.told(self.blob, done);
        Ok(())
    }

    fn attempts(&self) -> u32 {
        self.job.options.attempts
    }

    fn pause(&mut self, error: &RegistryError, failures: u32) -> Result<(), PushError> {
        self.job.pause(self.name, error, failures)
    }
}
