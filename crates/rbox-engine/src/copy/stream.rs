//! An archive on its way from the thread that packs it to the one that puts it: chunks, of which a few wait.
//!
//! Not a pipe: whoever writes to one that nobody reads any more is sent a signal.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rbox_runtime::rootfs::layer::{PackError, PackOptions, Packed, pack};
use rbox_runtime::rootfs::put::{Owners, Place, Put, put};

use rbox_spec::userns::IdMaps;

use crate::error::EngineError;

/// Is called with the bytes that the archive has so far.
pub type Progress<'a> = &'a (dyn Fn(u64) + Sync);

/// What was copied.
#[derive(Debug, Clone, Default)]
pub struct Copied {
    /// Bytes of the archive that it was on the way.
    pub bytes: u64,
    /// What it was made of.
    pub packed: Packed,
    /// Devices that were not made on the host.
    pub devices: u64,
}

/// Chunks that wait.
const WAITING: usize = 8;

struct Writer(SyncSender<Vec<u8>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.0.send(bytes.to_vec()).map_err(|_| io::Error::from(ErrorKind::BrokenPipe))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Reader<'a> {
    from: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    bytes: u64,
    progress: Progress<'a>,
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.from.recv() {
                Ok(chunk) => {
                    self.bytes += chunk.len() as u64;
                    (self.progress)(self.bytes);
                    (self.chunk, self.at) = (chunk, 0);
                }
                Err(_) => return Ok(0),
            }
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        Ok(count)
    }
}

/// Packs `thing` under the name `name`, and puts that to `place`. `ids`: those of the container that it is packed of.
pub(crate) fn carry(
    thing: BorrowedFd<'_>,
    name: &[u8],
    place: Place<'_>,
    owners: Owners<'_>,
    ids: Option<&IdMaps>,
    progress: Progress<'_>,
) -> Result<(Packed, Put), EngineError> {
    let (to, from) = sync_channel(WAITING);
    let options = PackOptions { root: Some(name), ids, ..PackOptions::default() };
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || pack(thing, Writer(to), &options));
        let done = put(Reader { from, chunk: Vec::new(), at: 0, bytes: 0, progress }, place, owners);
        match (packing.join(), done) {
            (Err(panic), _) => std::panic::resume_unwind(panic),
            // It had nobody to write to any more: the other side knows why.
            (Ok(Ok(_) | Err(PackError::Write(_))), Err(error)) => Err(error.into()),
            (Ok(Err(error)), _) => Err(error.into()),
            (Ok(Ok(packed)), Ok(put)) => Ok((packed, put)),
        }
    })
}
