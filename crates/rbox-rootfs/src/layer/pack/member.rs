//! One entry's header: ustar, and PAX records in front of it for what ustar's fields cannot hold.

use super::super::entry::Time;
use super::super::stream::{BLOCK, padding};

/// The end of what eleven, and seven, octal digits hold.
const OCTAL_11: u64 = 1 << 33;
const OCTAL_7: u32 = 1 << 21;
/// Letters of a name, and of a prefix to it.
const NAME: usize = 100;
const PREFIX: usize = 155;

/// An entry to be written.
#[derive(Debug, Default)]
pub(super) struct Member<'a> {
    /// The type flag.
    pub(super) flag: u8,
    pub(super) link: &'a [u8],
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    /// Bytes of data that follow.
    pub(super) size: u64,
    pub(super) device: (u32, u32),
    /// Name and value.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member<'_> {
    /// Its headers, in whole blocks. The name of a directory ends in a slash.
    pub(super) fn headers(&self, path: &[u8]) -> Vec<u8> {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut header = tar::Header::new_ustar();
        let mut say = |key: &str, value: Vec<u8>| records.push((key.as_bytes().to_vec(), value));
        let (prefix, name) = split(path).unwrap_or_else(|| {
            say("path", path.to_vec());
            (b"", path.get(..NAME).unwrap_or(path))
        });
        let link = self.link.get(..NAME).unwrap_or(self.link);
        if link.len() < self.link.len() {
            say("linkpath", self.link.to_vec());
        }
        for (key, id) in [("uid", self.uid), ("gid", self.gid)] {
            if id >= OCTAL_7 {
                say(key, id.to_string().into_bytes());
            }
        }
        if self.size >= OCTAL_11 {
            say("size", self.size.to_string().into_bytes());
        }
        let seconds = u64::try_from(self.mtime.0).ok().filter(|seconds| *seconds < OCTAL_11);
        if seconds.is_none() || self.mtime.1 != 0 {
            say("mtime", time(self.mtime));
        }
        for (name, value) in &self.xattrs {
            records.push(([b"SCHILY.xattr.", &escape(name)[..]].concat(), value.clone()));
        }
        copy(&mut header.as_old_mut().name, name);
        copy(&mut header.as_old_mut().linkname, link);
        if let Some(ustar) = header.as_ustar_mut() {
            copy(&mut ustar.prefix, prefix);
            ustar.set_device_major(self.device.0);
            ustar.set_device_minor(self.device.1);
        }
        header.set_entry_type(tar::EntryType::new(self.flag));
        header.set_mode(self.mode & 0o7777);
        header.set_uid(u64::from(if self.uid < OCTAL_7 { self.uid } else { 0 }));
        header.set_gid(u64::from(if self.gid < OCTAL_7 { self.gid } else { 0 }));
        header.set_mtime(seconds.unwrap_or(0));
        header.set_size(if self.size < OCTAL_11 { self.size } else { 0 });
        header.set_cksum();
        let mut blocks = extension(records);
        blocks.extend_from_slice(header.as_bytes());
        blocks
    }
}

/// The name in ustar's two fields, if it fits them.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME {
        return Some((b"", path));
    }
    // The slash between the two is in neither, and neither is empty.
    let first = path.len().saturating_sub(NAME + 1).max(1);
    let last = PREFIX.min(path.len().saturating_sub(2));
    let at = (first..=last).find(|at| path.get(*at) == Some(&b'/'))?;
    Some((path.get(..at)?, path.get(at + 1..)?))
}

fn copy(field: &mut [u8], text: &[u8]) {
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

/// The records as an extended header with its data; nothing for none.
fn extension(mut records: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    if records.is_empty() {
        return Vec::new();
    }
    records.sort();
    let mut data = Vec::new();
    for (key, value) in &records {
        let body = key.len() + value.len() + 3;
        // The length counts its own digits.
        let length = (1..20).map(|digits| body + digits).find(|all| all.to_string().len() + body == *all);
        data.extend_from_slice(format!("{} ", length.unwrap_or_default()).as_bytes());
        data.extend_from_slice(key);
        data.push(b'=');
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    let mut header = tar::Header::new_ustar();
    copy(&mut header.as_old_mut().name, b"././@PaxHeader");
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut blocks = Vec::with_capacity(data.len() + 3 * BLOCK as usize);
    blocks.extend_from_slice(header.as_bytes());
    blocks.extend_from_slice(&data);
    blocks.resize(blocks.len() + padding(data.len() as u64) as usize, 0);
    blocks
}

/// `%` and `=` of an attribute's name as GNU tar writes them: the first `=` ends the keyword.
fn escape(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => escaped.extend_from_slice(b"%25"),
            b'=' => escaped.extend_from_slice(b"%3D"),
            byte => escaped.push(*byte),
        }
    }
    escaped
}

/// Seconds since 1970, negative before, with the fraction's digits that say something.
fn time((seconds, nanoseconds): Time) -> Vec<u8> {
    let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if all < 0 { "-" } else { "" };
    let (whole, fraction) = (all.unsigned_abs() / 1_000_000_000, all.unsigned_abs() % 1_000_000_000);
    let mut text = format!("{sign}{whole}");
    if fraction != 0 {
        text.push_str(format!(".{fraction:09}").trim_end_matches('0'));
    }
    text.into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_they_are_read() {
        for (moment, text) in [
            ((0, 0), "0"),
            ((1, 500_000_000), "1.5"),
            ((-2, 500_000_000), "-1.5"),
            ((-1, 1), "-0.999999999"),
            ((i64::MAX, 999_999_999), "9223372036854775807.999999999"),
        ] {
            assert_eq!(String::from_utf8(time(moment)).unwrap(), text);
            assert_eq!(super::super::super::pax::time(text.as_bytes()), Some(moment));
        }
    }

    #[test]
    fn a_name_is_split_where_both_fields_hold_their_part() {
        let long = |parts: &[usize]| {
            parts.iter().map(|part| "x".repeat(*part)).collect::<Vec<_>>().join("/").into_bytes()
        };
        for (parts, at) in [
            (&[100][..], Some(0)),
            (&[101], None),
            (&[155, 100], Some(155)),
            (&[156, 100], None),
            (&[155, 101], None),
            (&[50, 50, 50], Some(101)),
            (&[50, 50, 49], Some(50)),
            (&[100, 0], None),
            (&[0, 100], None),
        ] {
            let path = long(parts);
            let found = split(&path);
            assert_eq!(found.map(|(prefix, _)| prefix.len()), at, "{parts:?}");
            if let Some((prefix, name)) = found.filter(|(prefix, _)| !prefix.is_empty()) {
                assert_eq!([prefix, b"/", name].concat(), path);
            }
        }
    }
}
