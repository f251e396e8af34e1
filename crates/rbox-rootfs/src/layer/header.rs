//! One 512-byte tar header: its fields, its checksum, its numbers. The `tar` crate names the fields; nothing of
//! its unpacking is used (RUSTSEC-2026-0067), and numbers are read here, strictly.

use super::sparse::Segment;
use super::stream::BLOCK;

/// A header whose checksum is right.
pub(super) struct Header<'a> {
    raw: &'a tar::Header,
    bytes: &'a [u8; BLOCK as usize],
}

/// Why a number could not be read, with the field's name in front when shown.
type Bad = &'static str;

impl<'a> Header<'a> {
    /// Checks the checksum, unsigned or, as some old writers did, signed.
    pub(super) fn checked(bytes: &'a [u8; BLOCK as usize]) -> Result<Self, Bad> {
        let raw = tar::Header::from_byte_slice(bytes);
        let stored = number(&raw.as_old().cksum, "checksum")?;
        let (mut plain, mut signed) = (0_i64, 0_i64);
        for (at, byte) in bytes.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            plain += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if stored != plain && stored != signed {
            return Err("the checksum is wrong");
        }
        Ok(Self { raw, bytes })
    }

    /// The type flag.
    pub(super) fn flag(&self) -> u8 {
        self.bytes[156]
    }

    /// Whether it says that it is of a format that has extended headers. Without that, some readers take them for files.
    pub(super) fn may_extend(&self) -> bool {
        matches!(self.bytes.get(257..265), Some(b"ustar  \0" | b"ustar\x0000"))
    }

    /// The name, with the ustar prefix where the format has one.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.raw.as_old().name);
        // The old GNU format keeps times where ustar keeps the prefix. Star's own trailer shortens it.
        if self.bytes.get(257..263) != Some(b"ustar\0") {
            return name.to_vec();
        }
        let prefix = if self.bytes.get(508..512) == Some(b"tar\0") { 345..476 } else { 345..500 };
        let prefix = text(self.bytes.get(prefix).unwrap_or_default());
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The link target.
    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.raw.as_old().linkname).to_vec()
    }

    /// Bytes of data that follow, as this header alone has it.
    pub(super) fn size(&self) -> Result<u64, Bad> {
        let field = &self.raw.as_old().size;
        if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
            // GNU tar writes its volume labels so, and reads nothing else so.
            return if self.flag() == b'V' { Ok(0) } else { Err("the size is blank") };
        }
        u64::try_from(number(field, "size")?).map_err(|_| "the size is negative")
    }

    /// Permission bits, setuid, setgid and sticky.
    pub(super) fn mode(&self) -> Result<u32, Bad> {
        Ok((number(&self.raw.as_old().mode, "mode")? & 0o7777) as u32)
    }

    /// The owner's number. May be out of range for Linux: a PAX record may say better.
    pub(super) fn uid(&self) -> Result<i64, Bad> {
        number(&self.raw.as_old().uid, "uid")
    }

    /// The group's number. May be out of range for Linux: a PAX record may say better.
    pub(super) fn gid(&self) -> Result<i64, Bad> {
        number(&self.raw.as_old().gid, "gid")
    }

    /// Modification time in seconds since 1970.
    pub(super) fn mtime(&self) -> Result<i64, Bad> {
        number(&self.raw.as_old().mtime, "mtime")
    }

    /// Major and minor number of a device.
    pub(super) fn device(&self) -> Result<(u32, u32), Bad> {
        let field = |range| self.bytes.get(range).unwrap_or_default();
        let (major, minor) = (number(field(329..337), "device")?, number(field(337..345), "device")?);
        match (u32::try_from(major), u32::try_from(minor)) {
            (Ok(major), Ok(minor)) => Ok((major, minor)),
            _ => Err("a device number is out of range"),
        }
    }

    /// The old GNU sparse fields: the file's apparent size, and the first part of its map.
    pub(super) fn sparse(&self) -> Result<(u64, MapPart), Bad> {
        let gnu = self.raw.as_gnu().ok_or("a GNU sparse file in another format's header")?;
        let size =
            u64::try_from(number(&gnu.realsize, "real size")?).map_err(|_| "the real size is negative")?;
        Ok((size, MapPart { segments: segments(&gnu.sparse)?, more: gnu.is_extended() }))
    }
}

/// A part of an old GNU sparse map.
pub(super) struct MapPart {
    pub(super) segments: Vec<Segment>,
    /// Whether a block with a further part follows.
    pub(super) more: bool,
}

/// One further block of an old GNU sparse map.
pub(super) fn sparse_block(bytes: &[u8; BLOCK as usize]) -> Result<MapPart, Bad> {
    let mut block = tar::GnuExtSparseHeader::new();
    block.as_mut_bytes().copy_from_slice(bytes);
    Ok(MapPart { segments: segments(block.sparse())?, more: block.is_extended() })
}

/// The segments in use of a header's table; an unused one is blank, and ends it.
fn segments(table: &[tar::GnuSparseHeader]) -> Result<Vec<Segment>, Bad> {
    let mut all = Vec::new();
    for entry in table.iter().take_while(|entry| entry.numbytes[0] != 0) {
        let offset = u64::try_from(number(&entry.offset, "sparse offset")?);
        let length = u64::try_from(number(&entry.numbytes, "sparse length")?);
        match (offset, length) {
            (Ok(offset), Ok(length)) => all.push(Segment { offset, length }),
            _ => return Err("a sparse segment is negative"),
        }
    }
    Ok(all)
}

/// A field's text: up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    field.get(..end).unwrap_or_default()
}

/// A number: octal digits padded with spaces or NULs, or, with the top bit set, big-endian two's complement.
/// Blank is 0. Anything else is refused, for readers differ on where they stop.
fn number(field: &[u8], name: &'static str) -> Result<i64, Bad> {
    if let Some((first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        // Bit 6 of the first byte is the sign: 0x80 begins a positive number, 0xff a negative one.
        let negative = first & 0x40 != 0;
        let mut value = i128::from(first & 0x7f) - if negative { 0x80 } else { 0 };
        for byte in rest {
            value = (value << 8) | i128::from(*byte);
            if i64::try_from(value).is_err() {
                return Err(out_of_range(name));
            }
        }
        return i64::try_from(value).map_err(|_| out_of_range(name));
    }
    let start = field.iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(field.len());
    let digits = field.get(start..).unwrap_or_default();
    let end = digits.iter().position(|byte| !matches!(byte, b'0'..=b'7')).unwrap_or(digits.len());
    let (digits, tail) = digits.split_at(end);
    let garbage = !tail.is_empty() && (digits.is_empty() || !matches!(tail[0], b' ' | 0));
    if garbage {
        return Err(not_a_number(name));
    }
    // Twelve octal digits are 36 bits: no overflow.
    Ok(digits.iter().fold(0, |sum, digit| sum * 8 + i64::from(digit - b'0')))
}

fn out_of_range(name: &'static str) -> Bad {
    match name {
        "size" => "the size is out of range",
        "uid" | "gid" => "an owner is out of range",
        _ => "a number is out of range",
    }
}

fn not_a_number(name: &'static str) -> Bad {
    match name {
        "checksum" => "not a tar header (its checksum is no number)",
        "size" => "the size is no number",
        "uid" | "gid" => "an owner is no number",
        "mode" => "the mode is no number",
        "mtime" => "the time is no number",
        "device" => "a device is no number",
        _ => "a sparse field is no number",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_in_every_encoding() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"00000000644 ", 0o644),
            (b"777777777777", (1 << 36) - 1),
            (b"\0\0\0\0", 0),
            (b"    ", 0),
            (b"644 junk", 0o644),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", 0x2_0000_0000),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(number(field, "size"), Ok(value), "{}", field.escape_ascii());
        }
        for bad in [
            &b"12x4567\0"[..],
            b"-1\0",
            b"8",
            b"0x10",
            b"\x80\0\0\x80\0\0\0\0\0\0\0\0",
            b"\xc0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            assert!(number(bad, "size").is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_cksum();
        let mut bytes = *header.as_bytes();
        assert_eq!(Header::checked(&bytes).unwrap().size(), Ok(3));
        bytes[0] ^= 1;
        assert!(Header::checked(&bytes).is_err());
    }
}
