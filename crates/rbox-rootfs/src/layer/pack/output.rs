//! The stream: headers and data in whole blocks, counted.

use std::io::{BufWriter, Write};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::super::stream::{BLOCK, padding};
use super::options::PackError;

/// Bytes read of a file at a time.
const CHUNK: usize = 256 << 10;

pub(super) struct Output<W: Write> {
    inner: BufWriter<W>,
    chunk: Box<[u8]>,
    pub(super) written: u64,
}

impl<W: Write> Output<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner: BufWriter::with_capacity(CHUNK / 4, inner),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            written: 0,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.written += bytes.len() as u64;
        self.inner.write_all(bytes).map_err(PackError::Write)
    }

    /// Exactly `size` bytes and their padding: what the file has of them, and zeros.
    pub(super) fn data(
        &mut self,
        file: BorrowedFd<'_>,
        size: u64,
        failed: impl Fn(Errno) -> PackError,
    ) -> Result<(), PackError> {
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.chunk.len());
            let got = match rustix::io::read(file, &mut self.chunk[..want]) {
                // It has become shorter; or it is of a file system where a file has no data yet.
                Ok(0) | Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                got => got.map_err(&failed)?,
            };
            self.written += got as u64;
            self.inner.write_all(self.chunk.get(..got).unwrap_or_default()).map_err(PackError::Write)?;
            left -= got as u64;
        }
        self.zeros(left + padding(size))
    }

    /// The archive's end.
    pub(super) fn end(&mut self) -> Result<(), PackError> {
        self.zeros(2 * BLOCK)?;
        self.inner.flush().map_err(PackError::Write)
    }

    fn zeros(&mut self, count: u64) -> Result<(), PackError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut left = count;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(ZEROS.get(..part).unwrap_or_default())?;
            left -= part as u64;
        }
        Ok(())
    }
}
