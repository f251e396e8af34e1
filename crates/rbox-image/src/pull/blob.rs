//! One layer: resumed, verified, unpacked as it comes.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc::SyncSender;

use rbox_rootfs::lock::{self, How, Patience};
use rbox_rootfs::own;
use rbox_spec::Digest;

use super::batch::Batch;
use super::error::PullError;
use super::job::Job;
use super::progress::LayerState;
use crate::hash::{Hasher, HashingReader};
use crate::layer::{CHUNK, Chunk, LayerError, Unpacked, channel, fill, unpack_stream};
use crate::media::layer_compression;
use crate::registry::{RegistryError, Session};
use crate::store::{Finished, Layer, Staging, same_file};
use crate::transfer::{Transfer as _, one_line};

/// Cuts after which a download that does make progress is given up all the same.
const MAX_CUTS: u32 = 100;

/// A download under way, locked. The path leads to it as long as it is not finished.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    /// Opens and locks the partial download of a blob, waiting for whoever is at it. `None`: the blob is there.
    fn open(job: &Job<'_>, batch: &Batch<'_>, digest: &Digest) -> Result<Option<Self>, PullError> {
        let store = job.store;
        let path = store.tmp().join(format!("{}-{}.partial", digest.algorithm(), digest.hex()));
        loop {
            if store.has_blob(digest) {
                return Ok(None);
            }
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = own::open(&path, &mut options).map_err(io_error("open", &path))?;
            if !lock::try_take(&file, How::Exclusive)
                .map_err(io::Error::from)
                .map_err(io_error("lock", &path))?
            {
                job.say(&format!("{}: another pull fetches this layer, waiting for it", digest.short()));
                batch.wait(|| {
                    lock::take(&file, How::Exclusive, Patience::WORK).map_err(io_error("lock", &path))
                })?;
            }
            if same_file(&file, &path) {
                return Ok(Some(Self { path, file }));
            }
        }
    }

    fn reset(&mut self) -> Result<(), PullError> {
        let reset = self.file.set_len(0).and_then(|()| self.file.rewind());
        reset.map_err(io_error("truncate", &self.path))
    }
}

impl Job<'_> {
    /// Brings one layer into the store: blob and unpacked directory.
    pub(super) fn layer(
        &self,
        session: &Session<'_>,
        batch: &Batch<'_>,
        layer: &Layer,
    ) -> Result<(), PullError> {
        let refuse = |source| PullError::Document { digest: layer.digest, source };
        layer_compression(&layer.media_type).map_err(refuse)?;
        if self.is_stored(layer) {
            self.tell(&layer.digest, LayerState::AlreadyExists);
            return Ok(());
        }
        let mut second = false;
        loop {
            if self.store.has_blob(&layer.digest) && self.unpack_stored(batch, layer)? {
                self.tell(&layer.digest, LayerState::PullComplete);
                return Ok(());
            }
            let Some(mut partial) = Partial::open(self, batch, &layer.digest)? else { continue };
            match self.fetch(session, batch, layer, &mut partial) {
                Err(error @ PullError::Digest { .. }) if !second => {
                    // A proxy or an earlier attempt may have spoilt it; a second time it is the registry.
                    second = true;
                    partial.reset()?;
                    self.say(&format!("{}: {error}; trying once more from the start", layer.digest.short()));
                }
                Err(error) => {
                    if matches!(error, PullError::Digest { .. } | PullError::Layer { .. })
                        || error.is_disk_full()
                    {
                        let _ = fs::remove_file(&partial.path);
                    }
                    return Err(error);
                }
                Ok(staging) => {
                    if let Some(staging) = staging {
                        let blob = Some((partial.file, partial.path, layer.digest));
                        batch.add(Finished { staging, diff_id: layer.diff_id, blob })?;
                    }
                    self.tell(&layer.digest, LayerState::PullComplete);
                    return Ok(());
                }
            }
        }
    }

    /// The place to unpack a layer; waits for whoever is at it. `None`: the layer is there.
    #[allow(clippy::unused_self)] // One of the steps above and below, called as they are.
    fn stage(&self, batch: &Batch<'_>, layer: &Layer) -> Result<Option<Staging>, PullError> {
        batch.transaction.stage_layer_with(&layer.diff_id, |path, dir| {
            if lock::try_take(dir, How::Exclusive).map_err(io::Error::from).map_err(io_error("lock", path))? {
                return Ok(());
            }
            batch.wait(|| lock::take(dir, How::Exclusive, Patience::WORK).map_err(io_error("lock", path)))
        })
    }

    pub(super) fn is_stored(&self, layer: &Layer) -> bool {
        self.store.has_whole_layer(&layer.diff_id, &layer.digest, layer.blob_size)
    }

    /// Unpacks a layer whose blob is here already. `false`: the blob was damaged and is gone.
    fn unpack_stored(&self, batch: &Batch<'_>, layer: &Layer) -> Result<bool, PullError> {
        let path = self.store.blob_path(&layer.digest);
        let discard = || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(false),
        };
        let length = fs::metadata(&path).map_or(0, |meta| meta.len());
        if length != layer.blob_size {
            return discard();
        }
        let Some(staging) = self.stage(batch, layer)? else { return Ok(true) };
        self.tell(&layer.digest, LayerState::Extracting);
        let file = own::open_to_read(&path).map_err(io_error("open", &path))?;
        let mut reader = HashingReader::new(file, layer.digest.algorithm());
        let unpacked = unpack_stream(&mut reader, layer.diff_id.algorithm(), Some(staging.root()));
        io::copy(&mut reader, &mut io::sink()).map_err(io_error("read", &path))?;
        if reader.finish().0 != layer.digest {
            return discard();
        }
        let unpacked = self.check_diff_id(layer, unpacked)?;
        staging.write_record(&unpacked)?;
        batch.add(Finished { staging, diff_id: layer.diff_id, blob: None })?;
        Ok(true)
    }

    #[allow(clippy::unused_self)] // One of the steps above and below, called as they are.
    fn check_diff_id(
        &self,
        layer: &Layer,
        unpacked: Result<Unpacked, LayerError>,
    ) -> Result<Unpacked, PullError> {
        let wrap = |source| PullError::Layer { digest: layer.digest, source };
        let unpacked = unpacked.map_err(wrap)?;
        if unpacked.diff_id == layer.diff_id {
            return Ok(unpacked);
        }
        Err(wrap(LayerError::DiffId { want: layer.diff_id, found: unpacked.diff_id }))
    }

    /// Downloads and unpacks at once. The layer is to be synced and put in its place, if it is not there already.
    fn fetch(
        &self,
        session: &Session<'_>,
        batch: &Batch<'_>,
        layer: &Layer,
        partial: &mut Partial,
    ) -> Result<Option<Staging>, PullError> {
        let staging = self.stage(batch, layer)?;
        let unpacked = std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let root = staging.as_ref().map(Staging::root);
            let algorithm = layer.diff_id.algorithm();
            let unpacking = std::thread::Builder::new()
                .name("unpack".to_owned())
                .spawn_scoped(scope, move || unpack_stream(receiver, algorithm, root))
                .map_err(|error| PullError::Layer {
                    digest: layer.digest,
                    source: LayerError::Thread(error),
                })?;
            let downloaded = self.download(session, batch, layer, partial, &sender);
            if downloaded.is_ok() {
                self.tell(&layer.digest, LayerState::DownloadComplete);
                self.tell(&layer.digest, LayerState::Extracting);
                // Only now may the other side take the stream for complete.
                let _ = sender.send(Chunk::End);
            }
            drop(sender);
            let hung = || Err(LayerError::Inflate(io::Error::other("the unpacking thread failed")));
            let unpacked = unpacking.join().unwrap_or_else(|_| hung());
            downloaded?;
            self.check_diff_id(layer, unpacked)
        })?;
        if let Some(staging) = &staging {
            staging.write_record(&unpacked)?;
        } else {
            partial.file.sync_all().map_err(io_error("fsync", &partial.path))?;
            batch.transaction.publish_blob(&partial.path, &layer.digest)?;
        }
        Ok(staging)
    }

    /// Gets the rest of a blob, hashing all of it and passing it on; verifies size and digest.
    ///
    /// If the other side hangs up, because it cannot read what comes, the download goes on: only the digest tells
    /// whether the layer is bad or the transfer was.
    fn download(
        &self,
        session: &Session<'_>,
        batch: &Batch<'_>,
        layer: &Layer,
        partial: &mut Partial,
        sender: &SyncSender<Chunk>,
    ) -> Result<(), PullError> {
        let mut hasher = Hasher::new(layer.digest.algorithm());
        let mut done = self.replay(layer, partial, &mut hasher, sender)?;
        let (mut failures, mut cuts) = (0, 0);
        let mut ranges = true;
        while done < layer.blob_size || (layer.blob_size == 0 && cuts == 0) {
            let before = done;
            let mut received = |chunk: Vec<u8>| {
                hasher.update(&chunk);
                let _ = sender.send(Chunk::Data(chunk));
                batch.settle_due()
            };
            match self.download_some(session, layer, partial, ranges, &mut done, &mut received) {
                Ok(()) => {}
                // It does not know how to go on: all of it again, of which what is here is passed over.
                Err(PullError::Registry(error)) if ranges && done > 0 && error.is_bad_range() => {
                    self.say(&format!(
                        "{}: {}; starting from the beginning",
                        layer.digest.short(),
                        one_line(&error)
                    ));
                    ranges = false;
                }
                Err(PullError::Registry(error))
                    if error.is_transient() || (done > 0 && error.is_unreachable()) =>
                {
                    failures = if done > before { 1 } else { failures + 1 };
                    if failures >= self.options.attempts || cuts >= MAX_CUTS {
                        return Err(error.into());
                    }
                    self.pause(&layer.digest.short(), &error, failures)?;
                }
                Err(error) => return Err(error),
            }
            cuts += 1;
        }
        let found = hasher.finish();
        if found != layer.digest {
            return Err(PullError::Digest { what: "layer", want: layer.digest, found });
        }
        Ok(())
    }

    /// Takes in what an earlier attempt left.
    fn replay(
        &self,
        layer: &Layer,
        partial: &mut Partial,
        hasher: &mut Hasher,
        sender: &SyncSender<Chunk>,
    ) -> Result<u64, PullError> {
        let length = partial.file.metadata().map_err(io_error("stat", &partial.path))?.len();
        if length > layer.blob_size {
            partial.reset()?;
            return Ok(0);
        }
        partial.file.seek(SeekFrom::Start(0)).map_err(io_error("seek", &partial.path))?;
        let mut done = 0;
        while done < length {
            let mut chunk = vec![0; CHUNK];
            let n = fill(&mut partial.file, &mut chunk).map_err(io_error("read", &partial.path))?;
            if n == 0 {
                break;
            }
            chunk.truncate(n);
            hasher.update(&chunk);
            done += n as u64;
            let _ = sender.send(Chunk::Data(chunk));
        }
        if done > 0 {
            self.tell(&layer.digest, LayerState::Downloading { done, total: layer.blob_size });
        }
        Ok(done)
    }

    /// One request's worth of a blob: the rest of it, or all where the registry cannot send a part.
    #[allow(clippy::too_many_arguments)] // The state of one download, which its caller keeps.
    fn download_some(
        &self,
        session: &Session<'_>,
        layer: &Layer,
        partial: &mut Partial,
        ranges: bool,
        done: &mut u64,
        received: &mut dyn FnMut(Vec<u8>) -> Result<(), PullError>,
    ) -> Result<(), PullError> {
        let total = layer.blob_size;
        let mut response = session.blob(&layer.digest, if ranges { *done } else { 0 })?;
        let lie = |found: String| PullError::Size { what: "layer", digest: layer.digest, want: total, found };
        // A registry without ranges sends it all again.
        let skip = if response.status == 206 { 0 } else { *done };
        let promised = response.header("content-length").and_then(|text| text.parse::<u64>().ok());
        // A part may be shorter than what was asked for (RFC 9110, section 14.2); then the next request goes on.
        let part = response.status == 206;
        let rest = total - *done + skip;
        if let Some(length) = promised.filter(|length| *length > rest || (*length < rest && !part)) {
            return Err(lie((length + *done - skip).to_string()));
        }
        let url = response.url.clone();
        let cut = |received: u64, reason: String| RegistryError::Cut {
            url: url.clone(),
            received,
            want: total,
            reason,
        };
        let skipped = io::copy(&mut (&mut response.body).take(skip), &mut io::sink());
        if skipped.map_err(|error| cut(*done, error.to_string()))? != skip {
            return Err(cut(*done, "the connection was closed".to_owned()).into());
        }
        loop {
            self.check_abandoned()?;
            let mut chunk = vec![0; CHUNK];
            let (n, problem) = fill_some(&mut response.body, &mut chunk);
            chunk.truncate(n);
            if *done + n as u64 > total {
                return Err(lie(format!("more than {total}")));
            }
            partial.file.write_all(&chunk).map_err(io_error("write", &partial.path))?;
            *done += n as u64;
            if n > 0 {
                received(chunk)?;
                self.tell(&layer.digest, LayerState::Downloading { done: *done, total });
            }
            match problem {
                Some(error) => return Err(cut(*done, error.to_string()).into()),
                None if n == 0 && *done < total => {
                    return Err(cut(*done, "the connection was closed".to_owned()).into());
                }
                None if n == 0 => return Ok(()),
                None => {}
            }
        }
    }
}

/// Fills the buffer as far as it goes; what came before an error is kept, to be resumed after.
fn fill_some(reader: &mut impl Read, buffer: &mut [u8]) -> (usize, Option<io::Error>) {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Some(error)),
        }
    }
    (filled, None)
}

fn io_error(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> PullError {
    move |source| PullError::Io { action, path: path.display().to_string(), source }
}
