//! A blob of a registry as a stream. After a cut it goes on from where it was.

use std::io::{self, Read};

use rbox_spec::Reference;

use super::error::RemoteError;
use super::image::Remote;
use crate::media::Descriptor;
use crate::registry::RegistryError;
use crate::registry::transport::Response;
use crate::sending::MAX_CUTS;
use crate::signature::{Verdict, VerifyKeys, check};
use crate::transfer::{QUIET_ATTEMPTS, one_line, pause_telling};

/// The bytes of a blob as the registry sends them, no more than it is said to have. Whoever reads them compares their digest.
pub struct RemoteBlob<'r> {
    remote: &'r Remote,
    name: &'r Reference,
    blob: Descriptor,
    /// How many were read.
    at: u64,
    open: Option<Response>,
    /// Cuts since the last byte, and all.
    failures: u32,
    cuts: u32,
}

impl Remote {
    /// A blob of a repository, which is asked for when it is read.
    pub fn blob_stream<'r>(&'r self, name: &'r Reference, blob: &Descriptor) -> RemoteBlob<'r> {
        RemoteBlob { remote: self, name, blob: blob.clone(), at: 0, open: None, failures: 0, cuts: 0 }
    }

    /// Refuses what is not signed, where the configuration wants that of all that comes from this registry.
    ///
    /// # Errors
    /// There is no good signature, or it cannot be looked for.
    pub fn check_signature(&self, image: &super::RemoteImage) -> Result<(), RemoteError> {
        let Some(file) = self.verify_key(image.name.domain()) else { return Ok(()) };
        let refuse = |why: String| {
            RemoteError::Refused(format!(
                "{} is not signed by a key of {}: {why}",
                image.name.familiar(),
                file.display()
            ))
        };
        let keys = VerifyKeys::read(&file).map_err(|error| refuse(one_line(&error)))?;
        match self.read(&image.name, |session| check(session, &image.descriptor.digest, &keys))? {
            Verdict::Signed => Ok(()),
            Verdict::Not(why) => Err(refuse(why)),
        }
    }
}

impl RemoteBlob<'_> {
    fn open(&mut self) -> Result<(), RemoteError> {
        let (digest, from) = (&self.blob.digest, self.at);
        let mut response = self.remote.read(self.name, |session| match session.blob(digest, from) {
            Err(error) if from > 0 && error.is_bad_range() => session.blob(digest, 0),
            other => other,
        })?;
        // Who cannot send a part sends all: what is known of it is passed over.
        let known = if response.status == 206 { 0 } else { from };
        let skipped = io::copy(&mut (&mut response.body).take(known), &mut io::sink());
        if !skipped.as_ref().is_ok_and(|skipped| *skipped == known) {
            return Err(self.cut(&response.url, skipped.err()).into());
        }
        self.open = Some(response);
        Ok(())
    }

    fn cut(&self, url: &str, why: Option<io::Error>) -> RegistryError {
        let reason = why.map_or_else(|| "it ended".to_owned(), |error| error.to_string());
        RegistryError::Cut { url: url.to_owned(), received: self.at, want: self.blob.size, reason }
    }

    /// Some bytes, at least one.
    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, RemoteError> {
        if self.open.is_none() {
            self.open()?;
        }
        let Some(response) = &mut self.open else { return Ok(0) };
        let left = usize::try_from(self.blob.size - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let why = match response.body.read(buffer.get_mut(..left).unwrap_or_default()) {
            Ok(0) => None,
            Ok(got) => return Ok(got),
            Err(error) => Some(error),
        };
        let url = response.url.clone();
        Err(self.cut(&url, why).into())
    }
}

impl Read for RemoteBlob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.at >= self.blob.size {
            return Ok(0);
        }
        loop {
            let error = match self.some(buffer) {
                Ok(got) => {
                    self.at += got as u64;
                    self.failures = 0;
                    return Ok(got);
                }
                Err(error) => error,
            };
            self.open = None;
            self.failures += 1;
            self.cuts += 1;
            let gives_up = self.failures >= QUIET_ATTEMPTS || self.cuts >= MAX_CUTS;
            match &error {
                // What cannot be opened has been tried as often as is worth it.
                RemoteError::Registry(cut @ RegistryError::Cut { .. }) if !gives_up => {
                    pause_telling(&*self.remote.say, cut, self.failures);
                }
                _ => return Err(io::Error::other(one_line(&error))),
            }
        }
    }
}
