//! One layer's way from compressed bytes to an overlay lower directory: inflate → diff ID → unpack.
//!
//! Inflating and hashing the tar run on a thread of their own, unpacking on the caller's, so that with the download
//! three steps of one layer overlap. Threads are joined before any function here returns.
use std::io::{self, BufReader, Read};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rbox_rootfs::layer::{Limits, UnpackError, unpack};
use rbox_spec::digest::Algorithm;
use rbox_spec::{Digest, Kind};
use rustix::io::Errno;

use crate::bomb::{Proportion, ZSTD_WINDOW};
use crate::disk::is_full;
use crate::hash::Hasher;
use crate::media::Compression;

/// Bytes a message between two steps carries.
pub const CHUNK: usize = 256 << 10;
/// Messages between two steps before the faster one waits: bounds the memory of a layer to about 4 MiB.
const DEPTH: usize = 8;

/// Why a layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The stream is not what its media type promises, or could not be read.
    #[error("inflate layer")]
    Inflate(#[source] io::Error),
    /// An entry is refused, or could not be written.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The tar is not the one the configuration names.
    #[error("the unpacked layer has diff ID {found}, the image configuration says {want}")]
    DiffId {
        /// From the configuration.
        want: Digest,
        /// Of the stream.
        found: Digest,
    },
    /// A thread could not be started.
    #[error("start a thread")]
    Thread(#[source] io::Error),
}

impl LayerError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Inflate(error) | Self::Thread(error) => Kind::of_io(error),
            Self::Unpack(error) => error.kind(),
            Self::DiffId { .. } => Kind::Damaged,
        }
    }
}

impl LayerError {
    /// Whether the disk was full.
    pub fn is_disk_full(&self) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = next {
            if error.downcast_ref::<io::Error>().is_some_and(is_full) {
                return true;
            }
            if matches!(error.downcast_ref::<Errno>(), Some(&Errno::NOSPC | &Errno::DQUOT)) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// What came out of a layer's stream.
#[derive(Debug, Clone, Copy)]
pub struct Unpacked {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes in its files.
    pub size: u64,
    /// It hides all that is below it.
    pub root_opaque: bool,
    /// How the stream was compressed.
    pub compression: Compression,
}

/// Unpacks a compressed stream into the empty directory `into`, or only hashes it if there is none.
///
/// How it is compressed is found out from its first bytes, as Docker does: media types are wrong in some registries, and
/// the digests hold whatever they say. `source` is read to its end. The diff ID is computed with `algorithm`.
pub fn unpack_stream(
    source: impl Read + Send,
    algorithm: Algorithm,
    into: Option<BorrowedFd<'_>>,
) -> Result<Unpacked, LayerError> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Chunk>(DEPTH);
        let inflate = std::thread::Builder::new()
            .name("inflate".to_owned())
            .spawn_scoped(scope, move || inflate(source, algorithm, &sender))
            .map_err(LayerError::Thread)?;
        let mut tar = ChunkReader::new(receiver);
        let unpacked = consume(&mut tar, into);
        // Hang up, so that the other side stops if this one failed early.
        drop(tar);
        let inflated =
            inflate.join().unwrap_or_else(|_| Err(io::Error::other("the inflating thread failed")));
        match (unpacked, inflated) {
            // A stream that broke off makes a broken archive: the first cause is what matters.
            (_, Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(LayerError::Inflate(error)),
            (Err(error), _) => Err(error),
            (Ok(_), Err(error)) => Err(LayerError::Inflate(error)),
            (Ok((size, root_opaque)), Ok((diff_id, compression))) => {
                Ok(Unpacked { diff_id, size, root_opaque, compression })
            }
        }
    })
}

/// The bytes in the layer's files and whether it hides all below, or nothing of it if it is only to be hashed.
fn consume(tar: &mut ChunkReader, into: Option<BorrowedFd<'_>>) -> Result<(u64, bool), LayerError> {
    let Some(into) = into else {
        io::copy(tar, &mut io::sink()).map_err(LayerError::Inflate)?;
        return Ok((0, false));
    };
    // Reads past the archive's end, up to the stream's: the limits hold for what is there as well.
    let summary = unpack(tar, into, &Limits::default())?;
    Ok((summary.data_bytes, summary.root_opaque))
}

fn inflate(
    source: impl Read,
    algorithm: Algorithm,
    sender: &SyncSender<Chunk>,
) -> io::Result<(Digest, Compression)> {
    let (mut source, proportion) = Proportion::of(source);
    let mut start = [0; 4];
    let length = fill(&mut source, &mut start)?;
    let start = start.get(..length).unwrap_or_default();
    let compression = Compression::sniff(start);
    let source = io::Cursor::new(start).chain(source);
    let source = BufReader::with_capacity(64 << 10, source);
    let mut reader: Box<dyn Read + '_> = match compression {
        Compression::None => Box::new(source),
        // Layers may be of several members, as pigz and estargz write them.
        Compression::Gzip => Box::new(proportion.hold(flate2::bufread::MultiGzDecoder::new(source))),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(proportion.hold(decoder))
        }
    };
    let mut hasher = Hasher::new(algorithm);
    loop {
        let mut chunk = vec![0; CHUNK];
        let filled = fill(&mut reader, &mut chunk)?;
        chunk.truncate(filled);
        if filled == 0 {
            let _ = sender.send(Chunk::End);
            return Ok((hasher.finish(), compression));
        }
        hasher.update(&chunk);
        if sender.send(Chunk::Data(chunk)).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
}

/// Reads until the buffer is full or the stream ends.
pub(crate) fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A piece of a stream on its way from one thread to another.
#[derive(Debug)]
pub enum Chunk {
    /// Some bytes.
    Data(Vec<u8>),
    /// The stream is complete. Hanging up without it means that it was cut.
    End,
}

/// The pair of ends of a stream between two threads.
pub fn channel() -> (SyncSender<Chunk>, ChunkReader) {
    let (sender, receiver) = sync_channel(DEPTH);
    (sender, ChunkReader::new(receiver))
}

/// Reads what another thread sends.
#[derive(Debug)]
pub struct ChunkReader {
    receiver: Receiver<Chunk>,
    chunk: Vec<u8>,
    at: usize,
    ended: bool,
}

impl ChunkReader {
    fn new(receiver: Receiver<Chunk>) -> Self {
        Self { receiver, chunk: Vec::new(), at: 0, ended: false }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() && !self.ended {
            match self.receiver.recv() {
                Ok(Chunk::Data(chunk)) => (self.chunk, self.at) = (chunk, 0),
                Ok(Chunk::End) => self.ended = true,
                Err(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream was cut off")),
            }
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let n = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        self.at += n;
        Ok(n)
    }
}
