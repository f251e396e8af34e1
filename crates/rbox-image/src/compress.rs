//! Layers as they go out: compressed.

use std::io::{self, BufWriter, Write};

use rbox_spec::Digest;
use rbox_spec::digest::Algorithm;

use crate::hash::HashingWriter;
use crate::media::Compression;
use crate::store::{CopyError, ImageStore, Layer};

/// Writes a layer of the store to `out`: its digest and length in bytes there. The same bytes come out for the same layer, so that who has them need not
/// get them twice.
///
/// # Errors
/// The layer cannot be read, or not be written.
pub fn write_layer(
    store: &ImageStore,
    layer: &Layer,
    to: Compression,
    out: impl Write,
) -> Result<(Digest, u64), CopyError> {
    let mut out = HashingWriter::new(BufWriter::new(out), Algorithm::Sha256);
    match to {
        Compression::None => store.copy_layer(layer, &mut out)?,
        Compression::Zstd => {
            let level = zstd::DEFAULT_COMPRESSION_LEVEL;
            let mut encoder = zstd::Encoder::new(out, level).map_err(CopyError::Write)?;
            copy_evenly(store, layer, &mut encoder)?;
            out = encoder.finish().map_err(CopyError::Write)?;
        }
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            copy_evenly(store, layer, &mut encoder)?;
            out = encoder.finish().map_err(CopyError::Write)?;
        }
    }
    out.flush().map_err(CopyError::Write)?;
    Ok(out.finish())
}

/// Bytes that an encoder gets at once.
const PIECE: usize = 128 << 10;

fn copy_evenly(store: &ImageStore, layer: &Layer, encoder: &mut dyn Write) -> Result<(), CopyError> {
    let mut evenly = Evenly { to: encoder, piece: Vec::with_capacity(PIECE) };
    store.copy_layer(layer, &mut evenly)?;
    evenly.end().map_err(CopyError::Write)
}

/// Hands on pieces of one length, in whatever lengths they come: a layer that is packed and one that is read from a blob come in others, and
/// what an encoder makes of the same bytes depends on how they are cut.
struct Evenly<'w> {
    to: &'w mut dyn Write,
    piece: Vec<u8>,
}

impl Evenly<'_> {
    fn end(self) -> io::Result<()> {
        self.to.write_all(&self.piece)
    }
}

impl Write for Evenly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE.saturating_sub(self.piece.len()));
        self.piece.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.piece.len() >= PIECE {
            self.to.write_all(&self.piece)?;
            self.piece.clear();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // An encoder would end a block here.
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_even_however_they_come() {
        struct Lengths(Vec<usize>);
        impl Write for Lengths {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.len());
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let bytes = vec![7; 3 * PIECE + 5];
        for step in [1000, PIECE, PIECE + 1, bytes.len()] {
            let mut lengths = Lengths(Vec::new());
            let mut evenly = Evenly { to: &mut lengths, piece: Vec::new() };
            bytes.chunks(step).for_each(|chunk| evenly.write_all(chunk).unwrap());
            evenly.flush().unwrap();
            evenly.end().unwrap();
            assert_eq!(lengths.0, [PIECE, PIECE, PIECE, 5], "{step} at a time");
        }
    }
}
