//! Sparse files: where the stored bytes of an entry belong in the file (GNU tar manual, "Storing Sparse Files").

use super::pax;

/// One run of stored bytes: where it starts in the file, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// More segments than this is no file anyone made: 16 MiB of map at most.
pub(crate) const MOST_SEGMENTS: usize = 1 << 20;

/// The layout of a sparse file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    /// The file's apparent size.
    pub(crate) size: u64,
    /// Ascending, not overlapping, inside `size`, summing to the bytes stored.
    pub(crate) segments: Vec<Segment>,
}

impl Map {
    /// Checks a map against the file's apparent size and the bytes the archive stores for it.
    pub(crate) fn checked(segments: Vec<Segment>, size: u64, stored: u64) -> Result<Self, &'static str> {
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for segment in &segments {
            if segment.offset < end {
                return Err("a sparse map whose segments overlap");
            }
            end = segment.offset.checked_add(segment.length).ok_or("a sparse map that overflows")?;
            sum = sum.checked_add(segment.length).ok_or("a sparse map that overflows")?;
        }
        if end > size {
            return Err("a sparse map that reaches beyond the file's size");
        }
        // GNU tar makes the file as long as its map, others as long as it is said to be; writers end the map with it.
        if end < size {
            return Err("a sparse map that ends before its file does");
        }
        if sum != stored {
            return Err("a sparse map that does not add up to the data stored");
        }
        Ok(Self { size, segments })
    }
}

/// What PAX records say about a sparse file, in any of the three formats.
#[derive(Debug, Default)]
pub(crate) struct PaxSparse {
    /// `GNU.sparse.name` (0.1, 1.0): the file's real name.
    pub(crate) name: Option<Vec<u8>>,
    size: Option<u64>,
    major: Option<u64>,
    minor: Option<u64>,
    blocks: Option<u64>,
    pending: Option<u64>,
    segments: Vec<Segment>,
    seen: bool,
}

/// Where the map of a PAX sparse file is.
pub(crate) enum PaxForm {
    /// In the records (0.0 and 0.1).
    Records { size: u64, segments: Vec<Segment> },
    /// At the start of the entry's data (1.0).
    Data { size: u64 },
}

impl PaxSparse {
    /// Takes one `GNU.sparse.*` record, `key` without that prefix.
    pub(crate) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        const BAD: &str = "a GNU.sparse record that is not a number";
        self.seen = true;
        let number = || pax::unsigned(value).ok_or(BAD);
        match key {
            b"name" if value.is_empty() => return Err("an empty GNU.sparse.name"),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => {
                let size = number()?;
                if self.size.is_some_and(|before| before != size) {
                    return Err("two different sparse sizes");
                }
                self.size = Some(size);
            }
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"numblocks" => self.blocks = Some(number()?),
            b"offset" if self.pending.is_none() => self.pending = Some(number()?),
            b"numbytes" => {
                let offset = self.pending.take().ok_or("a GNU.sparse.numbytes without its offset")?;
                self.push(Segment { offset, length: number()? })?;
            }
            b"map" => {
                if !self.segments.is_empty() {
                    return Err("two sparse maps");
                }
                let mut numbers = value.split(|byte| *byte == b',').filter(|part| !part.is_empty());
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or("a GNU.sparse.map of odd length")?;
                    let segment = Segment {
                        offset: pax::unsigned(offset).ok_or(BAD)?,
                        length: pax::unsigned(length).ok_or(BAD)?,
                    };
                    self.push(segment)?;
                }
            }
            _ => return Err("a GNU.sparse record of an unknown kind"),
        }
        Ok(())
    }

    fn push(&mut self, segment: Segment) -> Result<(), &'static str> {
        if self.segments.len() >= MOST_SEGMENTS {
            return Err("a sparse map with too many segments");
        }
        self.segments.push(segment);
        Ok(())
    }

    /// The form the records describe; `None` when there were none.
    pub(crate) fn form(self) -> Result<Option<PaxForm>, &'static str> {
        if !self.seen {
            return Ok(None);
        }
        let size = self.size.ok_or("a sparse file without its size")?;
        match (self.major, self.minor) {
            (Some(1), Some(0)) if self.segments.is_empty() && self.pending.is_none() => {
                Ok(Some(PaxForm::Data { size }))
            }
            (None, None) | (Some(0), Some(0 | 1)) if self.pending.is_none() => {
                let count = self.segments.len() as u64;
                if self.blocks.is_some_and(|blocks| blocks != count) {
                    return Err("a sparse map that is not as long as it says");
                }
                Ok(Some(PaxForm::Records { size, segments: self.segments }))
            }
            _ => Err("a sparse format other than 0.0, 0.1 and 1.0"),
        }
    }
}

/// Reads the map of format 1.0 from the start of an entry's data, a block at a time: a count, then
/// offset and length of each segment, decimal, a newline after each, padded to a block.
#[derive(Default)]
pub(crate) struct DataMap {
    number: Option<u64>,
    left: Option<u64>,
    pending: Option<u64>,
    segments: Vec<Segment>,
}

impl DataMap {
    /// Takes the next block of data. True when the map is complete.
    pub(crate) fn block(&mut self, block: &[u8]) -> Result<bool, &'static str> {
        for byte in block {
            match byte {
                // The rest of its last block is padding; what else stands there another reader may take for the map's.
                0 if self.left == Some(0) => {}
                _ if self.left == Some(0) => return Err("a sparse map that goes on after its end"),
                b'0'..=b'9' => {
                    let digit = u64::from(*byte - b'0');
                    let number = self.number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit));
                    self.number = Some(number.ok_or("a sparse map that overflows")?);
                }
                b'\n' => {
                    let number = self.number.take().ok_or("a sparse map with an empty line")?;
                    self.line(number)?;
                }
                _ => return Err("a sparse map that is not decimal"),
            }
        }
        Ok(self.left == Some(0))
    }

    fn line(&mut self, number: u64) -> Result<(), &'static str> {
        match (self.left, self.pending.take()) {
            (None, _) => {
                if number > MOST_SEGMENTS as u64 {
                    return Err("a sparse map with too many segments");
                }
                self.left = Some(number);
            }
            (Some(_), None) => self.pending = Some(number),
            (Some(left), Some(offset)) => {
                self.segments.push(Segment { offset, length: number });
                self.left = Some(left.saturating_sub(1));
            }
        }
        Ok(())
    }

    /// The segments read.
    pub(crate) fn into_segments(self) -> Vec<Segment> {
        self.segments
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    #[test]
    fn maps_must_fit_their_file_and_their_data() {
        assert!(Map::checked(vec![segment(0, 5), segment(10, 5), segment(20, 0)], 20, 10).is_ok());
        for (segments, size, stored) in [
            (vec![segment(0, 5), segment(4, 1)], 20, 6),
            (vec![segment(0, 21)], 20, 21),
            (vec![segment(0, 5)], 5, 6),
            (vec![segment(0, 5)], 20, 5),
            (vec![], 1, 0),
            (vec![segment(u64::MAX, 2)], 20, 2),
            (vec![segment(10, 1), segment(0, 1)], 20, 2),
        ] {
            assert!(Map::checked(segments.clone(), size, stored).is_err(), "{segments:?}");
        }
    }

    #[test]
    fn the_map_in_the_data_may_straddle_blocks() {
        let mut map = DataMap::default();
        assert!(!map.block(b"2\n0\n51").unwrap());
        assert!(map.block(b"2\n1024\n7\n\0\0\0").unwrap());
        assert_eq!(map.into_segments(), [segment(0, 512), segment(1024, 7)]);
        assert!(DataMap::default().block(b"0\n\0\0").unwrap());
        assert!(DataMap::default().block(b"1\n\n").is_err());
        assert!(DataMap::default().block(b"1\n0\n5\n7\n").is_err());
        assert!(DataMap::default().block(b"0\n\0x").is_err());
        assert!(DataMap::default().block(b"x").is_err());
        assert!(DataMap::default().block(b"99999999999999999999999\n").is_err());
        assert!(DataMap::default().block(b"9999999999\n").is_err());
    }
}
