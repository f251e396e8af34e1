//! Inflating by what the first bytes say: gzip, zstd, bzip2, xz, or nothing. In this process: no program of the host is
//! started for an image (CVE-2019-14271 and kin).

use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::layer::fill;

/// Largest zstd window accepted, as a power of two (128 MiB, what `zstd -d` accepts by default).
const ZSTD_WINDOW: u32 = 27;
/// Memory an xz stream may ask for, in bytes: `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// What inflates to more than this many times its size, and to more than [`BOMB_FLOOR`] bytes, is a bomb.
const MOST_RATIO: u64 = 500;
/// Bytes any stream may inflate to: an archive of zeros is legitimate while it is small.
const BOMB_FLOOR: u64 = 1 << 30;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outer {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Outer {
    pub(super) fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// A stream with its first bytes looked at; `None` if it has none.
pub(super) fn open<'r>(
    mut source: impl Read + Send + 'r,
) -> io::Result<Option<(Outer, Box<dyn Read + Send + 'r>)>> {
    let mut start = [0; 6];
    let length = fill(&mut source, &mut start)?;
    let start = start.get(..length).unwrap_or_default().to_vec();
    let outer = Outer::sniff(&start);
    Ok((length > 0).then(|| (outer, Box::new(Cursor::new(start).chain(source)) as Box<dyn Read + Send>)))
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Fails when what comes out is out of all proportion to what went in.
struct Guard<R> {
    inner: R,
    input: Arc<AtomicU64>,
    output: u64,
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.output += count as u64;
        let most = self.input.load(Ordering::Relaxed).saturating_mul(MOST_RATIO);
        if self.output > BOMB_FLOOR && self.output > most {
            let why = format!("it inflates to over {MOST_RATIO} times its size: a compression bomb");
            return Err(io::Error::other(why));
        }
        Ok(count)
    }
}

/// Inflates a stream found to be compressed so. A compression bomb is an error.
pub(super) fn inflate<'r>(
    outer: Outer,
    source: Box<dyn Read + Send + 'r>,
) -> io::Result<Box<dyn Read + Send + 'r>> {
    let input = Arc::new(AtomicU64::new(0));
    let source = Counted { inner: source, count: Arc::clone(&input) };
    let source = BufReader::with_capacity(128 << 10, source);
    let inner: Box<dyn Read + Send + 'r> = match outer {
        Outer::None => return Ok(Box::new(source)),
        Outer::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Outer::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Outer::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Outer::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
    };
    Ok(Box::new(Guard { inner, input, output: 0 }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bomb_goes_off_at_its_limit() {
        let guarded = |input: u64, output: u64| {
            let input = Arc::new(AtomicU64::new(input));
            let mut guard = Guard { inner: io::repeat(0).take(output), input, output: 0 };
            let mut buffer = vec![0; 1 << 20];
            let mut sum = 0;
            loop {
                match guard.read(&mut buffer) {
                    Ok(0) => return Ok(sum),
                    Ok(count) => sum += count as u64,
                    Err(error) => return Err((sum, error.to_string())),
                }
            }
        };
        assert_eq!(guarded(1, BOMB_FLOOR).unwrap(), BOMB_FLOOR);
        assert_eq!(guarded(BOMB_FLOOR / 100, 2 * BOMB_FLOOR).unwrap(), 2 * BOMB_FLOOR);
        let (sum, why) = guarded(1 << 20, 10 * BOMB_FLOOR).unwrap_err();
        assert!(sum <= BOMB_FLOOR && why.contains("bomb"), "{sum} {why}");
    }
}
