//! Images on their way from one registry to another, over no disk.

use std::collections::BTreeSet;
use std::io::{self, Read as _};

use rbox_spec::{Digest, Reference};

use super::error::RemoteError;
use super::image::{Remote, RemoteImage};
use crate::hash::Hasher;
use crate::media::{Descriptor, Document};
use crate::registry::transport::Response;
use crate::registry::upload::Begun;
use crate::registry::{RegistryError, Session};
use crate::sending::{MAX_CUTS, Sending, send};
use crate::transfer::{Fault as _, QUIET_ATTEMPTS, patiently_telling, pause_telling};

/// Documents and blobs that one copy brings. Real images have a few hundred.
pub(super) const MOST_PARTS: usize = 10_000;

/// What a copy into one repository has brought there so far. Whatever names it again, it is brought once.
#[derive(Debug, Default)]
pub(super) struct Brought(BTreeSet<(Part, Digest)>);

/// A registry keeps the two apart, also where their bytes are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Document,
    Blob,
}

impl Brought {
    /// Notes a part. `false`: it has been there before.
    pub(super) fn note(&mut self, part: Part, digest: &Digest) -> Result<bool, RemoteError> {
        if self.0.contains(&(part, *digest)) {
            return Ok(false);
        }
        if self.0.len() >= MOST_PARTS {
            return Err(RemoteError::Refused(format!(
                "it names more than {MOST_PARTS} documents and layers, which no image has: copy those of its parts that are wanted by their digests"
            )));
        }
        Ok(self.0.insert((part, *digest)))
    }
}

impl Remote {
    /// Brings all that a manifest names into another repository, and the manifest under its digest.
    ///
    /// # Errors
    /// A blob cannot be read, or the registry refuses one; there are too many.
    pub(super) fn copy(
        &self,
        image: &RemoteImage,
        to: &Reference,
        brought: &mut Brought,
    ) -> Result<(), RemoteError> {
        let Document::Manifest(manifest) = &image.document else {
            return Err(RemoteError::Refused(format!("{} is an index, and no image", image.by_digest())));
        };
        let endpoint = self.target(to)?;
        // What is in another repository of the same registry may be mounted from there.
        let from = (image.name.domain() == to.domain()).then(|| image.name.path().to_owned());
        let session = self.writer.push_session(&endpoint, to, from.iter());
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if blob.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
                continue; // Kept elsewhere by intention.
            }
            if brought.note(Part::Blob, &blob.digest)? {
                self.copy_blob(&session, image, blob, to)?;
            }
        }
        let RemoteImage { descriptor: Descriptor { digest, media_type, .. }, bytes, .. } = image;
        self.put_by(&session, &digest.to_string(), (media_type, bytes), digest)
    }

    fn copy_blob(
        &self,
        session: &Session<'_>,
        image: &RemoteImage,
        blob: &Descriptor,
        to: &Reference,
    ) -> Result<(), RemoteError> {
        if patiently_telling(&*self.say, || session.has_blob(&blob.digest))? {
            return Ok(());
        }
        let mount = (image.name.domain() == to.domain()).then(|| (&blob.digest, image.name.path()));
        let begun = patiently_telling(&*self.say, || session.begin_upload(mount))?;
        let Begun::Send(upload) = begun else { return Ok(()) };
        send(session, &mut Copying::new(self, image, blob), Some(upload))
    }
}

/// A blob that is read as it is sent. What was cut off is read on from where it is wanted.
struct Copying<'a> {
    remote: &'a Remote,
    image: &'a RemoteImage,
    blob: &'a Descriptor,
    /// What is being read, and where in the blob that is.
    open: Option<(Response, u64)>,
    /// Of what was read, up to here; none once that was found right.
    hasher: Option<(Hasher, u64)>,
}

impl<'a> Copying<'a> {
    fn new(remote: &'a Remote, image: &'a RemoteImage, blob: &'a Descriptor) -> Self {
        let hasher = Some((Hasher::new(blob.digest.algorithm()), 0));
        Self { remote, image, blob, open: None, hasher }
    }

    /// Begins to read at this byte. Who cannot send a part sends all.
    fn open_at(&mut self, from: u64) -> Result<(), RemoteError> {
        let digest = &self.blob.digest;
        let source = self.remote.read(&self.image.name, |session| match session.blob(digest, from) {
            Err(error) if from > 0 && error.is_bad_range() => session.blob(digest, 0),
            other => other,
        });
        // It has been asked as often as is worth it.
        let response = source.map_err(RemoteError::of_source)?;
        let at = if response.status == 206 { from } else { 0 };
        self.open = Some((response, at));
        Ok(())
    }

    /// Reads this many bytes from there on, behind what the piece has. After an error it has those that came.
    fn read(&mut self, from: u64, length: usize, piece: &mut Vec<u8>) -> Result<(), RemoteError> {
        if self.open.as_ref().is_none_or(|(_, at)| *at > from || (*at < from && *at != 0)) {
            self.open_at(from)?;
        }
        let Some((response, at)) = &mut self.open else { return Ok(()) };
        let (url, want) = (response.url.clone(), self.blob.size);
        let cut = |received: u64, reason: String| RegistryError::Cut { url, received, want, reason };
        let before = piece.len();
        let body = &mut response.body;
        let skipped = io::copy(&mut body.take(from.saturating_sub(*at)), &mut io::sink());
        let read = skipped.and_then(|skipped| {
            *at += skipped;
            // What ends while it is skipped is behind what is wanted.
            let length = if *at == from { length } else { 0 };
            body.take(length as u64).read_to_end(piece)
        });
        let new = piece.len() - before;
        *at += new as u64;
        match read {
            Ok(_) if new == length => Ok(()),
            Ok(_) => Err(cut(*at, "it ended".to_owned()).into()),
            Err(error) => Err(cut(*at, error.to_string()).into()),
        }
    }
}

impl Sending for Copying<'_> {
    type Error = RemoteError;

    fn digest(&self) -> &Digest {
        &self.blob.digest
    }

    fn size(&self) -> u64 {
        self.blob.size
    }

    fn piece(&mut self, from: u64, most: usize) -> Result<Vec<u8>, RemoteError> {
        let left = self.blob.size.saturating_sub(from);
        let length = usize::try_from(left).unwrap_or(most).min(most);
        let mut piece = Vec::new();
        let (mut failures, mut cuts) = (0, 0);
        while piece.len() < length {
            let had = piece.len();
            let Err(error) = self.read(from + had as u64, length - had, &mut piece) else { break };
            self.open = None;
            // What came is kept, and is progress.
            failures = if piece.len() > had { 1 } else { failures + 1 };
            cuts += 1;
            let gives_up = failures >= QUIET_ATTEMPTS || cuts >= MAX_CUTS;
            match error.of_registry().filter(|fault| fault.is_transient() && !gives_up) {
                Some(passing) => pause_telling(&*self.remote.say, passing, failures),
                None => return Err(error.of_source()),
            }
        }
        if let Some((hasher, hashed)) = &mut self.hasher {
            // Some of it may have been read before, for a registry that lost it.
            let known = usize::try_from(hashed.saturating_sub(from)).unwrap_or(usize::MAX);
            if let Some(new) = piece.get(known..).filter(|_| from <= *hashed) {
                hasher.update(new);
                *hashed += new.len() as u64;
            }
        }
        Ok(piece)
    }

    fn is_at(&mut self, _done: u64) -> Result<(), RemoteError> {
        Ok(())
    }

    fn check(&mut self) -> Result<(), RemoteError> {
        let Some((hasher, _)) = self.hasher.take().filter(|(_, hashed)| *hashed == self.blob.size) else {
            return Ok(());
        };
        let (found, want) = (hasher.finish(), self.blob.digest);
        if found == want {
            return Ok(());
        }
        Err(RemoteError::Refused(format!("the registry sent content with digest {found}, expected {want}")))
    }

    fn attempts(&self) -> u32 {
        QUIET_ATTEMPTS
    }

    fn pause(&mut self, error: &RegistryError, failures: u32) -> Result<(), RemoteError> {
        pause_telling(&*self.remote.say, error, failures);
        Ok(())
    }
}
