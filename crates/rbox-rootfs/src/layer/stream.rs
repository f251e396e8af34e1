//! The tar stream: blocks and data out of one reused buffer, every byte counted against the limit.

use std::io::{ErrorKind, Read};

use super::error::UnpackError;

/// The unit of a tar archive, in bytes.
pub(crate) const BLOCK: u64 = 512;

/// Large enough that a file of a usual size is one `read` and one `write`, small enough that a dozen
/// layers unpacking at once stay in the CPU's cache.
const BUFFER: usize = 256 * 1024;

/// A reader that hands out slices of its own buffer, so that file data is copied once, by `write`.
pub(crate) struct Stream<R> {
    inner: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    consumed: u64,
    limit: u64,
}

impl<R: Read> Stream<R> {
    /// `limit` is the largest number of bytes the stream may have.
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Self { inner, buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0, consumed: 0, limit }
    }

    /// Bytes handed out so far.
    pub(crate) fn offset(&self) -> u64 {
        self.consumed
    }

    /// Fills the empty buffer. False at the end of the stream.
    fn fill(&mut self) -> Result<bool, UnpackError> {
        loop {
            match self.inner.read(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    (self.start, self.end) = (0, count);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(UnpackError::Read { offset: self.consumed, source }),
            }
        }
    }

    /// The next bytes, at least one and at most `most`; `None` at the end of the stream.
    fn peek(&mut self, most: u64) -> Result<Option<&[u8]>, UnpackError> {
        if self.start == self.end && !self.fill()? {
            return Ok(None);
        }
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.end - self.start);
        Ok(self.buffer.get(self.start..self.start + length))
    }

    fn consume(&mut self, count: usize) -> Result<(), UnpackError> {
        self.start += count;
        self.consumed += count as u64;
        if self.consumed > self.limit {
            return Err(UnpackError::Limit { limit: self.limit, of: "uncompressed bytes" });
        }
        Ok(())
    }

    /// Feeds exactly `count` bytes to `take`, in as few slices as the buffer allows.
    pub(crate) fn take(
        &mut self,
        count: u64,
        inside: &'static str,
        mut take: impl FnMut(&[u8]) -> Result<(), UnpackError>,
    ) -> Result<(), UnpackError> {
        let mut left = count;
        while left > 0 {
            let offset = self.consumed;
            let Some(slice) = self.peek(left)? else {
                return Err(UnpackError::Truncated { offset, inside });
            };
            take(slice)?;
            let used = slice.len();
            self.consume(used)?;
            left -= used as u64;
        }
        Ok(())
    }

    /// Passes over exactly `count` bytes.
    pub(crate) fn skip(&mut self, count: u64, inside: &'static str) -> Result<(), UnpackError> {
        self.take(count, inside, |_| Ok(()))
    }

    /// Appends exactly `count` bytes to `into`. The caller has capped `count`.
    pub(crate) fn append(
        &mut self,
        count: u64,
        into: &mut Vec<u8>,
        inside: &'static str,
    ) -> Result<(), UnpackError> {
        self.take(count, inside, |slice| {
            into.extend_from_slice(slice);
            Ok(())
        })
    }

    /// The next block; `None` when the stream ends exactly here.
    pub(crate) fn block(&mut self) -> Result<Option<[u8; BLOCK as usize]>, UnpackError> {
        let mut block = [0; BLOCK as usize];
        let Some(first) = self.peek(1)?.and_then(|slice| slice.first().copied()) else {
            return Ok(None);
        };
        // The common case is one copy; the other is a header that straddles two reads.
        if let Some(whole) =
            self.buffer.get(self.start..self.end).and_then(<[u8]>::first_chunk::<{ BLOCK as usize }>)
        {
            block = *whole;
            self.consume(block.len())?;
            return Ok(Some(block));
        }
        debug_assert_eq!(Some(&first), self.buffer.get(self.start));
        let mut filled = 0;
        self.take(BLOCK, "a header", |slice| {
            if let Some(part) = block.get_mut(filled..filled + slice.len()) {
                part.copy_from_slice(slice);
            }
            filled += slice.len();
            Ok(())
        })?;
        Ok(Some(block))
    }

    /// Reads to the end of the stream, so that whatever digests it has seen all of it.
    pub(crate) fn drain(&mut self) -> Result<(), UnpackError> {
        while let Some(slice) = self.peek(u64::MAX)? {
            let count = slice.len();
            self.consume(count)?;
        }
        Ok(())
    }
}

/// What follows `size` bytes of data up to the next block.
pub(crate) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}
