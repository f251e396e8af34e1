//! One blob: looked for, mounted, or sent in pieces, from where the registry says after a cut.
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rbox_spec::Digest;

use super::error::PushError;
use super::job::Job;
use super::progress::{PushEvent, PushState};
use crate::hash::{Hasher, digest_of};
use crate::registry::upload::{Begun, Upload};
use crate::registry::{RegistryError, Session};
use crate::store::StoreError;
use crate::transfer::Transfer as _;

/// Cuts after which an upload that does make progress is given up all the same.
const MAX_CUTS: u32 = 100;

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
        self.send(session, blob, &name, upload)?;
        tell(PushState::Pushed);
        Ok(())
    }

    /// Sends all of a blob. After a failure that may pass it goes on from where the registry says, or from the start.
    fn send(
        &self,
        session: &Session<'_>,
        blob: &Blob<'_>,
        name: &str,
        mut upload: Option<Upload>,
    ) -> Result<(), PushError> {
        let (mut done, mut failures, mut cuts) = (0, 0, 0);
        loop {
            let before = done;
            let error = match self.send_some(session, blob, &mut upload, &mut done) {
                Ok(()) => return Ok(()),
                Err(PushError::Registry(error)) if can_pass(&error, before > 0) => error,
                Err(error) => return Err(self.whose_fault(blob, error)),
            };
            failures = if done > before { 1 } else { failures + 1 };
            cuts += 1;
            if failures >= self.options.attempts || cuts >= MAX_CUTS {
                return Err(error.into());
            }
            self.pause(name, &error, failures)?;
            // It may have got there all the same, and only the answer was lost.
            if done == blob.size && session.has_blob(&blob.digest).unwrap_or(false) {
                return Ok(());
            }
            let has = upload.as_mut().and_then(|upload| session.uploaded(upload).ok().flatten());
            if let Some(has) = has.filter(|has| *has <= blob.size) {
                done = has;
            } else {
                (upload, done) = (None, 0);
            }
        }
    }

    /// Sends what is left of a blob, as far as it goes.
    fn send_some(
        &self,
        session: &Session<'_>,
        blob: &Blob<'_>,
        upload: &mut Option<Upload>,
        done: &mut u64,
    ) -> Result<(), PushError> {
        let current = match upload {
            Some(upload) => upload,
            None => match session.begin_upload(None)? {
                Begun::Send(begun) => upload.insert(begun),
                Begun::Mounted => return Ok(()),
            },
        };
        while *done < blob.size {
            self.check_abandoned()?;
            self.told(blob, *done);
            let piece = blob.content.piece(*done, current.piece)?;
            let has = session.send_piece(current, *done, &piece)?;
            if has <= *done {
                return Err(took_nothing(blob).into());
            }
            *done = has;
        }
        self.told(blob, *done);
        session.end_upload(current, &blob.digest)?;
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
        let refused = matches!(&error, PushError::Registry(RegistryError::Status { status: 400, .. }));
        match blob.content.digest_like(&blob.digest) {
            Ok(found) if refused && found != blob.digest => {
                let found = format!("its content has digest {found}; pull the image again");
                StoreError::Damaged { what: "layer", digest: blob.digest, found }.into()
            }
            _ => error,
        }
    }
}

/// Whether an upload may go on after this error. `begun`: a registry that answered before may be one that is being restarted.
fn can_pass(error: &RegistryError, begun: bool) -> bool {
    // It has another part of the blob than was thought, or has forgotten the upload.
    let lost = matches!(error, RegistryError::Status { status: 404 | 416, method: "PATCH" | "PUT", .. });
    error.is_transient() || lost || (begun && error.is_unreachable())
}

fn took_nothing(blob: &Blob<'_>) -> RegistryError {
    RegistryError::Status {
        method: "PATCH",
        url: blob.digest.to_string(),
        status: 416,
        message: ": it has taken nothing of what was sent".to_owned(),
        retry_after: None,
    }
}
