//! Inflating by what the first bytes say: gzip, zstd, bzip2, xz, or nothing. In this process: no program of the host is
//! started for an image (CVE-2019-14271 and kin).

use std::io::{self, BufReader, Cursor, Read};

use crate::bomb::{Proportion, ZSTD_WINDOW};
use crate::layer::fill;

/// Memory an xz stream may ask for, in bytes: `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

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
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
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

/// Whether this is a tar archive, compressed or not: what ADD unpacks.
///
/// # Errors
/// It cannot be read.
pub fn is_tar(source: impl Read + Send) -> io::Result<bool> {
    let Some((outer, stream)) = open(source)? else { return Ok(false) };
    // What is damaged is no archive: it is copied as it is.
    let Ok(inner) = inflate(outer, stream) else { return Ok(false) };
    let mut archive = tar::Archive::new(inner);
    Ok(archive.entries().is_ok_and(|mut entries| matches!(entries.next(), Some(Ok(_)))))
}

/// The stream, inflated if it is compressed. A compression bomb is an error.
///
/// # Errors
/// It cannot be read, or is no stream of the kind that it begins like.
pub fn uncompressed<'r>(source: impl Read + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
    match open(source)? {
        None => Ok(Box::new(io::empty())),
        Some((Outer::None, source)) => Ok(source),
        Some((outer, source)) => inflate(outer, source),
    }
}

/// The same of a stream whose length is known, and its digest as well: it may be compressed as much as can be. One byte more than that is
/// read, by which what is longer is known.
///
/// # Errors
/// It cannot be read, or is no stream of the kind that it begins like.
pub fn uncompressed_up_to<'r>(
    length: u64,
    source: impl Read + Send + 'r,
) -> io::Result<Box<dyn Read + Send + 'r>> {
    let stream = match open(source)? {
        None => return Ok(Box::new(io::empty())),
        Some((Outer::None, source)) => source,
        Some((outer, source)) => inflated(outer, source)?,
    };
    Ok(Box::new(stream.take(length.saturating_add(1))))
}

/// Inflates a stream found to be compressed so. A compression bomb is an error.
pub(super) fn inflate<'r>(
    outer: Outer,
    source: Box<dyn Read + Send + 'r>,
) -> io::Result<Box<dyn Read + Send + 'r>> {
    let (source, proportion) = Proportion::of(source);
    if outer == Outer::None {
        return Ok(Box::new(source));
    }
    Ok(Box::new(proportion.hold(inflated(outer, source)?)))
}

/// The same, however much comes out.
fn inflated<'r>(outer: Outer, source: impl Read + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
    let source = BufReader::with_capacity(128 << 10, source);
    Ok(match outer {
        Outer::None => Box::new(source),
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
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_known_to_be_long_is_no_bomb() {
        let length = (1_u64 << 30) + 5000;
        let mut packed = Vec::new();
        zstd::stream::copy_encode(io::repeat(0).take(length), &mut packed, 1).unwrap();
        assert!((packed.len() as u64) < length / 1000);
        let read =
            |stream: io::Result<Box<dyn Read + Send + '_>>| io::copy(&mut stream.unwrap(), &mut io::sink());
        assert!(read(uncompressed(&packed[..])).is_err());
        assert_eq!(read(uncompressed_up_to(length, &packed[..])).unwrap(), length);
        // One byte more than it should have tells that it is another one.
        assert_eq!(read(uncompressed_up_to(1000, &packed[..])).unwrap(), 1001);
        assert_eq!(read(uncompressed_up_to(3, &b"plain"[..])).unwrap(), 4);
        assert_eq!(read(uncompressed_up_to(3, &b""[..])).unwrap(), 0);
    }
}
