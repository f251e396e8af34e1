//! Layers as they go out: compressed.

use std::io::{BufWriter, Write};

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
            store.copy_layer(layer, &mut encoder)?;
            out = encoder.finish().map_err(CopyError::Write)?;
        }
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            store.copy_layer(layer, &mut encoder)?;
            out = encoder.finish().map_err(CopyError::Write)?;
        }
    }
    out.flush().map_err(CopyError::Write)?;
    Ok(out.finish())
}
