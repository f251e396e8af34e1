//! Sending one blob in pieces, and after a cut from where the registry says.

use rbox_spec::Digest;

use crate::registry::upload::{Begun, Upload};
use crate::registry::{RegistryError, Session};
use crate::transfer::Fault;

/// Cuts after which a transfer that does make progress is given up all the same.
pub(crate) const MAX_CUTS: u32 = 100;

/// A blob that is being sent, wherever its bytes are.
pub(crate) trait Sending {
    /// How that fails.
    type Error: Fault + From<RegistryError>;

    /// What it is.
    fn digest(&self) -> &Digest;

    /// All of it, in bytes.
    fn size(&self) -> u64;

    /// Up to `most` bytes from `from` on.
    fn piece(&mut self, from: u64, most: usize) -> Result<Vec<u8>, Self::Error>;

    /// Hears how much the registry has, before and after each piece. With an error sending ends.
    fn is_at(&mut self, done: u64) -> Result<(), Self::Error>;

    /// Once everything was sent, before the registry is told that this is all.
    fn check(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// How often it is tried to get further.
    fn attempts(&self) -> u32;

    /// Waits after so many failures without progress.
    fn pause(&mut self, error: &RegistryError, failures: u32) -> Result<(), Self::Error>;
}

/// Sends all of a blob. After a failure that may pass it goes on from where the registry says, or from the start.
pub(crate) fn send<S: Sending>(
    session: &Session<'_>,
    blob: &mut S,
    mut upload: Option<Upload>,
) -> Result<(), S::Error> {
    let (mut done, mut furthest, mut failures, mut cuts) = (0, 0, 0, 0);
    loop {
        let error = match send_some(session, blob, &mut upload, &mut done) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let Some(fault) = error.of_registry().filter(|fault| can_pass(fault, furthest > 0)) else {
            return Err(error);
        };
        // A registry that forgets what it was sent has it sent again, and that is no progress.
        failures = if done > furthest { 1 } else { failures + 1 };
        furthest = furthest.max(done);
        cuts += 1;
        if failures >= blob.attempts() || cuts >= MAX_CUTS {
            return Err(error);
        }
        blob.pause(fault, failures)?;
        // It may have got there all the same, and only the answer was lost.
        if done == blob.size() && session.has_blob(blob.digest()).unwrap_or(false) {
            return Ok(());
        }
        let has = upload.as_mut().and_then(|upload| session.uploaded(upload).ok().flatten());
        if let Some(has) = has.filter(|has| *has <= blob.size()) {
            done = has;
        } else {
            (upload, done) = (None, 0);
        }
    }
}

/// Sends what is left of a blob, as far as it goes.
fn send_some<S: Sending>(
    session: &Session<'_>,
    blob: &mut S,
    upload: &mut Option<Upload>,
    done: &mut u64,
) -> Result<(), S::Error> {
    let current = match upload {
        Some(upload) => upload,
        None => match session.begin_upload(None)? {
            Begun::Send(begun) => upload.insert(begun),
            Begun::Mounted => return Ok(()),
        },
    };
    while *done < blob.size() {
        blob.is_at(*done)?;
        let piece = blob.piece(*done, current.piece)?;
        let has = session.send_piece(current, *done, &piece)?;
        if has <= *done {
            return Err(took_nothing(blob.digest()).into());
        }
        *done = has;
    }
    blob.is_at(*done)?;
    blob.check()?;
    Ok(session.end_upload(current, blob.digest())?)
}

/// Whether an upload may go on after this error. `begun`: a registry that answered before may be one that is being restarted.
fn can_pass(error: &RegistryError, begun: bool) -> bool {
    // It has another part of the blob than was thought, or has forgotten the upload.
    let lost = matches!(error, RegistryError::Status { status: 404 | 416, method: "PATCH" | "PUT", .. });
    error.is_transient() || lost || (begun && error.is_unreachable())
}

fn took_nothing(digest: &Digest) -> RegistryError {
    RegistryError::Status {
        method: "PATCH",
        url: digest.to_string(),
        status: 416,
        message: ": it has taken nothing of what was sent".to_owned(),
        retry_after: None,
    }
}
