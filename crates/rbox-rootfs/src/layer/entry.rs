//! From headers to entries: long names, PAX records and sparse maps joined to the header they belong to. Where
//! tar readers are known to differ (GNU tar, libarchive, Go) the archive is refused, for the size of an entry
//! that two readers disagree on hides further entries (CVE-2025-62518, CVE-2026-33055).

use std::io::Read;

use super::error::{UnpackError, refused};
use super::header::{Header, sparse_block};
use super::limits::Limits;
use super::pax;
use super::sparse::{DataMap, MOST_SEGMENTS, Map, PaxForm, PaxSparse, Segment};
use super::stream::{BLOCK, Stream, padding};

/// The largest size an octal field holds, plus one: beyond it a writer has to leave the header's field wrong.
const OCTAL_END: u64 = 1 << 33;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Hardlink,
    Symlink,
    Character,
    Block,
    Fifo,
    /// A volume label: makes nothing.
    Label,
}

/// Seconds since 1970 and nanoseconds.
pub(crate) type Time = (i64, u32);

/// One entry, its data still in the stream.
#[derive(Debug)]
pub(crate) struct Entry {
    /// As the archive has it.
    pub(crate) path: Vec<u8>,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) atime: Time,
    pub(crate) device: (u32, u32),
    /// Name and value, in the archive's order.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of data in the stream, before padding.
    pub(crate) stored: u64,
    /// Where they belong, in a sparse file.
    pub(crate) map: Option<Map>,
}

/// What extended headers say about the entry after them.
#[derive(Debug, Default)]
struct Extra {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Time>,
    atime: Option<Time>,
    major: Option<u32>,
    minor: Option<u32>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: PaxSparse,
}

impl Extra {
    /// Takes one record. An empty value takes a keyword back, as POSIX has it.
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            let name = unescape(name);
            if name.is_empty() || name.contains(&0) {
                return Err("an extended attribute with a bad name");
            }
            self.xattrs.retain(|(before, _)| *before != name);
            self.xattrs.push((name, value.to_vec()));
            return Ok(());
        }
        if let Some(kind) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.record(kind, value);
        }
        let set = !value.is_empty();
        let number = |why| if set { pax::unsigned(value).map(Some).ok_or(why) } else { Ok(None) };
        let time =
            || if set { pax::time(value).map(Some).ok_or("a PAX time that is no number") } else { Ok(None) };
        let device =
            || number("a PAX device that is no number").map(|n| n.and_then(|n| u32::try_from(n).ok()));
        match key {
            // POSIX lets an empty value take the record back; GNU tar takes it for the name.
            b"path" | b"linkpath" if !set => return Err("an empty PAX name"),
            // POSIX takes the last, some readers the first.
            b"path" if self.path.is_some() => return Err("two PAX names for one entry"),
            b"linkpath" if self.link.is_some() => return Err("two PAX link names for one entry"),
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" if self.size.is_some() => return Err("two PAX sizes for one entry"),
            b"size" => self.size = Some(number("a PAX size that is no number")?.ok_or("an empty PAX size")?),
            b"uid" => self.uid = number("a PAX uid that is no number")?,
            b"gid" => self.gid = number("a PAX gid that is no number")?,
            b"mtime" => self.mtime = time()?,
            b"atime" => self.atime = time()?,
            b"SCHILY.devmajor" => self.major = device()?,
            b"SCHILY.devminor" => self.minor = device()?,
            // ctime, names of owners, comments, character sets, checksums: nothing a layer is made of.
            _ => {}
        }
        Ok(())
    }
}

/// GNU tar writes `%` and `=` of an attribute's name as `%25` and `%3D`.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, skip) = match after.first_chunk() {
            Some(b"25") if *first == b'%' => (b'%', 2),
            Some(b"3D") if *first == b'%' => (b'=', 2),
            _ => (*first, 0),
        };
        plain.push(byte);
        rest = after.get(skip..).unwrap_or_default();
    }
    plain
}

/// The entries of an archive.
pub(crate) struct Entries<'l, R> {
    pub(crate) stream: Stream<R>,
    limits: &'l Limits,
    headers: u64,
    /// Times and owners of a global header hold until the archive's end.
    global: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Extended headers collected in front of an entry.
#[derive(Default)]
struct Before {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
}

impl<'l, R: Read> Entries<'l, R> {
    pub(crate) fn new(inner: R, limits: &'l Limits) -> Self {
        Self { stream: Stream::new(inner, limits.stream_bytes), limits, headers: 0, global: Vec::new() }
    }

    /// The next entry; `None` at the archive's end, with the stream read to its own end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, UnpackError> {
        let mut before = Before::default();
        loop {
            let offset = self.stream.offset();
            let header = |why: &str| UnpackError::Header { offset, why: why.to_owned() };
            let Some(block) = self.stream.block()? else {
                return if before.is_empty() {
                    Ok(None)
                } else {
                    Err(header("an extended header with no entry after it"))
                };
            };
            if block.iter().all(|byte| *byte == 0) {
                if !before.is_empty() {
                    return Err(header("an extended header with no entry after it"));
                }
                return self.end(offset);
            }
            self.headers += 1;
            if self.headers > self.limits.entries {
                return Err(UnpackError::Limit { limit: self.limits.entries, of: "entries" });
            }
            let parsed = Header::checked(&block).map_err(header)?;
            let size = parsed.size().map_err(header)?;
            match parsed.flag() {
                b'x' | b'g' | b'L' | b'K' if !parsed.may_extend() => {
                    return Err(header("an extended header of no known format"));
                }
                b'x' if before.pax.is_none() => before.pax = Some(self.extension(size, offset)?),
                b'L' if before.name.is_none() => before.name = Some(self.long_name(size, offset)?),
                b'K' if before.link.is_none() => before.link = Some(self.long_name(size, offset)?),
                b'x' | b'L' | b'K' => return Err(header("two extended headers of one kind for one entry")),
                b'g' => {
                    if !before.is_empty() {
                        return Err(header("a global header between an extended header and its entry"));
                    }
                    let data = self.extension(size, offset)?;
                    self.global(&data).map_err(header)?;
                }
                _ => return self.entry(&parsed, size, before, offset).map(Some),
            }
        }
    }

    /// One block of zeros was read: another, or the stream's end, must follow.
    fn end(&mut self, offset: u64) -> Result<Option<Entry>, UnpackError> {
        match self.stream.block()? {
            Some(block) if block.iter().any(|byte| *byte != 0) => Err(UnpackError::Header {
                offset,
                why: "a lone block of zeros inside the archive".to_owned(),
            }),
            _ => {
                self.stream.drain()?;
                Ok(None)
            }
        }
    }

    /// The data of an extended header.
    fn extension(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, UnpackError> {
        if size > self.limits.extended_header_bytes {
            let limit = self.limits.extended_header_bytes;
            return Err(UnpackError::Header {
                offset,
                why: format!("an extended header of {size} bytes, more than {limit}"),
            });
        }
        let mut data = Vec::with_capacity(size as usize);
        self.stream.append(size, &mut data, "an extended header")?;
        self.stream.skip(padding(size), "an extended header")?;
        Ok(data)
    }

    fn long_name(&mut self, size: u64, offset: u64) -> Result<Vec<u8>, UnpackError> {
        let mut name = self.extension(size, offset)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        if name.iter().skip(end).any(|byte| *byte != 0) {
            return Err(UnpackError::Header { offset, why: "a long name with a NUL inside".to_owned() });
        }
        if end == 0 {
            return Err(UnpackError::Header { offset, why: "an empty long name".to_owned() });
        }
        name.truncate(end);
        Ok(name)
    }

    /// A global header. What changes the shape of entries is refused: Go ignores it where GNU tar obeys.
    fn global(&mut self, data: &[u8]) -> Result<(), &'static str> {
        for record in pax::records(data)? {
            match record.key {
                b"path" | b"linkpath" | b"size" => {
                    return Err("a global header that gives every entry one name or size");
                }
                key if key.starts_with(b"GNU.sparse.") || key.starts_with(b"SCHILY.xattr.") => {
                    return Err("a global header with a sparse map or extended attributes");
                }
                b"uid" | b"gid" | b"mtime" | b"atime" => {
                    self.global.retain(|(key, _)| key != record.key);
                    self.global.push((record.key.to_vec(), record.value.to_vec()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Joins a header and what came before it.
    fn entry(
        &mut self,
        header: &Header<'_>,
        size: u64,
        before: Before,
        offset: u64,
    ) -> Result<Entry, UnpackError> {
        let bad = |why: &str| UnpackError::Header { offset, why: why.to_owned() };
        let mut extra = Extra::default();
        for (key, value) in &self.global {
            extra.record(key, value).map_err(bad)?;
        }
        if let Some(data) = &before.pax {
            for record in pax::records(data).map_err(bad)? {
                extra.record(record.key, record.value).map_err(bad)?;
            }
        }
        if extra.size.is_some() && (before.name.is_some() || before.link.is_some()) {
            return Err(bad("a PAX size in front of a GNU long name"));
        }
        // A writer leaves the header's field wrong only when the size does not fit it.
        let stored = match extra.size {
            Some(pax) if pax != size && pax < OCTAL_END => {
                return Err(UnpackError::Header {
                    offset,
                    why: format!("the header says {size} bytes, its PAX record {pax}"),
                });
            }
            Some(pax) => pax,
            None => size,
        };
        let form = std::mem::take(&mut extra.sparse);
        let sparse_name = form.name.clone();
        let form = form.form().map_err(bad)?;
        let path = joined(header.path(), before.name, extra.path, sparse_name).map_err(bad)?;
        let link = joined(header.link(), before.link, extra.link, None).map_err(bad)?;
        let kind = kind(header.flag(), &path).map_err(bad)?;
        let has_data = kind == Kind::File || header.flag() == b'D';
        if stored != 0 && !has_data {
            return Err(refused(
                &path,
                "has data, and its type has none: readers differ on where the next entry is",
            ));
        }
        let device = (|| {
            let (major, minor) = header.device()?;
            Ok((extra.major.unwrap_or(major), extra.minor.unwrap_or(minor)))
        })();
        let special = matches!(kind, Kind::Character | Kind::Block);
        let mtime =
            extra.mtime.map_or_else(|| header.mtime().map(|seconds| (seconds, 0)), Ok).map_err(bad)?;
        let mut entry = Entry {
            kind,
            mode: header.mode().map_err(bad)?,
            uid: owner(extra.uid, || header.uid()).map_err(bad)?,
            gid: owner(extra.gid, || header.gid()).map_err(bad)?,
            mtime,
            atime: extra.atime.unwrap_or(mtime),
            device: if special { device.map_err(bad)? } else { (0, 0) },
            xattrs: extra.xattrs,
            stored,
            map: None,
            path,
            link,
        };
        self.sparse(header, form, &mut entry, offset)?;
        let apparent = entry.map.as_ref().map_or(entry.stored, |map| map.size);
        if apparent > self.limits.file_bytes {
            return Err(UnpackError::Limit { limit: self.limits.file_bytes, of: "bytes in one file" });
        }
        Ok(entry)
    }

    /// Finds the map of a sparse file, in the header, its records or its data.
    fn sparse(
        &mut self,
        header: &Header<'_>,
        form: Option<PaxForm>,
        entry: &mut Entry,
        offset: u64,
    ) -> Result<(), UnpackError> {
        let bad = |why: &str| UnpackError::Header { offset, why: why.to_owned() };
        let old = header.flag() == b'S';
        let (segments, size) = match form {
            Some(_) if old || entry.kind != Kind::File => {
                return Err(bad("a sparse map that does not belong to its header"));
            }
            None if old => self.old_sparse(header, offset)?,
            None => return Ok(()),
            Some(PaxForm::Records { size, segments }) => (segments, size),
            Some(PaxForm::Data { size }) => (self.data_map(entry, offset)?, size),
        };
        entry.map = Some(Map::checked(segments, size, entry.stored).map_err(bad)?);
        Ok(())
    }

    fn old_sparse(&mut self, header: &Header<'_>, offset: u64) -> Result<(Vec<Segment>, u64), UnpackError> {
        let bad = |why: &str| UnpackError::Header { offset, why: why.to_owned() };
        let (size, mut part) = header.sparse().map_err(bad)?;
        let mut segments = std::mem::take(&mut part.segments);
        while part.more {
            let inside = "a sparse map";
            let block = self
                .stream
                .block()?
                .ok_or(UnpackError::Truncated { offset: self.stream.offset(), inside })?;
            part = sparse_block(&block).map_err(bad)?;
            if part.segments.is_empty() && part.more {
                return Err(bad("an empty part inside a sparse map"));
            }
            segments.append(&mut part.segments);
            if segments.len() > MOST_SEGMENTS {
                return Err(bad("a sparse map with too many segments"));
            }
        }
        Ok((segments, size))
    }

    fn data_map(&mut self, entry: &mut Entry, offset: u64) -> Result<Vec<Segment>, UnpackError> {
        let bad = |why: &str| UnpackError::Header { offset, why: why.to_owned() };
        let mut map = DataMap::default();
        loop {
            let inside = "a sparse map";
            entry.stored =
                entry.stored.checked_sub(BLOCK).ok_or_else(|| bad("a sparse map longer than its data"))?;
            let block = self
                .stream
                .block()?
                .ok_or(UnpackError::Truncated { offset: self.stream.offset(), inside })?;
            if map.block(&block).map_err(bad)? {
                return Ok(map.into_segments());
            }
        }
    }
}

impl Before {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.pax.is_none()
    }
}

/// The one name out of the places that may hold it. The header's is a truncated stand-in when another has it.
fn joined(
    header: Vec<u8>,
    gnu: Option<Vec<u8>>,
    pax: Option<Vec<u8>>,
    sparse: Option<Vec<u8>>,
) -> Result<Vec<u8>, &'static str> {
    if let (Some(gnu), Some(pax)) = (&gnu, &pax)
        && gnu != pax
    {
        return Err("a GNU long name and a PAX name that differ");
    }
    let name = sparse.or(pax).or(gnu).unwrap_or(header);
    if name.contains(&0) { Err("a name with a NUL inside") } else { Ok(name) }
}

/// The kind of a type flag.
fn kind(flag: u8, path: &[u8]) -> Result<Kind, &'static str> {
    let slash = path.ends_with(b"/");
    Ok(match flag {
        // In the oldest format a directory is a file whose name ends in a slash.
        0 if slash => Kind::Directory,
        b'0' | b'7' | b'S' if slash => return Err("a regular file whose name ends in a slash"),
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::Hardlink,
        b'2' => Kind::Symlink,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'5' | b'D' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'V' => Kind::Label,
        b'M' => return Err("the continuation of a file on another volume"),
        _ => return Err("an entry of an unknown type"),
    })
}

/// A uid or gid: PAX's if there is one. -1 means "leave it" to chown, so it is no owner.
fn owner(pax: Option<u64>, header: impl Fn() -> Result<i64, &'static str>) -> Result<u32, &'static str> {
    let wide = match pax {
        Some(pax) => i64::try_from(pax).unwrap_or(i64::MAX),
        None => header()?,
    };
    u32::try_from(wide).ok().filter(|id| *id != u32::MAX).ok_or("an owner is out of range")
}
