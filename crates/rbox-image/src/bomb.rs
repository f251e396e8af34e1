//! Compression bombs: a stream may not inflate out of all proportion, nor ask for much memory to be inflated.
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Largest zstd window accepted, as a power of two: 64 MiB. Three layers are inflated at once, within 256 MiB. Only
/// `zstd --ultra -22` makes larger ones; what builds images stays at 8 MiB, which is what decoders have to take
/// (RFC 8878, section 3.1.1.1.2).
pub(crate) const ZSTD_WINDOW: u32 = 26;
/// What inflates to more than this many times its size, and to more than [`BOMB_FLOOR`] bytes, is a bomb.
const MOST_RATIO: u64 = 500;
/// Bytes any stream may inflate to: an archive of zeros is legitimate while it is small.
const BOMB_FLOOR: u64 = 1 << 30;

/// Compares what comes out of a decompressor with what went in.
pub(crate) struct Proportion(Arc<AtomicU64>);

impl Proportion {
    /// Counts what is read from the compressed stream.
    pub(crate) fn of<R: Read>(source: R) -> (Counted<R>, Self) {
        let input = Arc::new(AtomicU64::new(0));
        (Counted { inner: source, count: Arc::clone(&input) }, Self(input))
    }

    /// Holds the inflated stream to it.
    pub(crate) fn hold<R: Read>(self, inner: R) -> Held<R> {
        Held { inner, input: self.0, output: 0 }
    }
}

/// Counts what is read through it.
pub(crate) struct Counted<R> {
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
pub(crate) struct Held<R> {
    inner: R,
    input: Arc<AtomicU64>,
    output: u64,
}

impl<R: Read> Read for Held<R> {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bomb_goes_off_at_its_limit() {
        let held = |input: u64, output: u64| {
            let input = Arc::new(AtomicU64::new(input));
            let mut held = Held { inner: io::repeat(0).take(output), input, output: 0 };
            let mut buffer = vec![0; 1 << 20];
            let mut sum = 0;
            loop {
                match held.read(&mut buffer) {
                    Ok(0) => return Ok(sum),
                    Ok(count) => sum += count as u64,
                    Err(error) => return Err((sum, error.to_string())),
                }
            }
        };
        assert_eq!(held(1, BOMB_FLOOR).unwrap(), BOMB_FLOOR);
        assert_eq!(held(BOMB_FLOOR / 100, 2 * BOMB_FLOOR).unwrap(), 2 * BOMB_FLOOR);
        let (sum, why) = held(1 << 20, 10 * BOMB_FLOOR).unwrap_err();
        assert!(sum <= BOMB_FLOOR && why.contains("bomb"), "{sum} {why}");
    }
}
