//! A tar archive read member by member, for archives that are not layers (`load`). The same reader of headers, so
//! the same refusals; nothing is made on disk.

use std::io::{self, Read, Write};

use super::entry::{Entries, Kind};
use super::error::UnpackError;
use super::limits::Limits;
use super::stream::padding;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file with its data.
    File,
    /// A directory.
    Directory,
    /// A symbolic link: its target is as the archive has it.
    Symlink,
    /// A hard link: its target is the name of an earlier member.
    Hardlink,
    /// A device, a FIFO or a sparse file.
    Other,
}

/// One member. Its data is still to come.
#[derive(Debug, Clone)]
pub struct Member {
    /// As the archive has it.
    pub name: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Bytes of data.
    pub size: u64,
}

/// Why a member's data could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The archive's side.
    #[error(transparent)]
    Read(#[from] UnpackError),
    /// The writer's side.
    #[error("write")]
    Write(#[source] io::Error),
}

impl CopyError {
    /// What it means to the caller.
    pub fn kind(&self) -> rbox_spec::Kind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Write(error) => rbox_spec::Kind::of_io(error),
        }
    }
}

/// The members of an archive, in its order.
pub struct Members<'l, R> {
    entries: Entries<'l, R>,
    /// Data and padding of the member at hand that were not read.
    data: u64,
    padding: u64,
}

impl<'l, R: Read> Members<'l, R> {
    /// Reads `tar`, uncompressed.
    pub fn new(tar: R, limits: &'l Limits) -> Self {
        Self { entries: Entries::new(tar, limits), data: 0, padding: 0 }
    }

    /// The next member, passing over what was not read of the last one; `None` at the end, with `tar` read to its own.
    pub fn next_member(&mut self) -> Result<Option<Member>, UnpackError> {
        self.entries.stream.skip(self.data + self.padding, "a file's data")?;
        (self.data, self.padding) = (0, 0);
        loop {
            let Some(entry) = self.entries.next()? else { return Ok(None) };
            (self.data, self.padding) = (entry.stored, padding(entry.stored));
            let kind = match entry.kind {
                Kind::Label => continue,
                Kind::File if entry.map.is_none() => MemberKind::File,
                Kind::Directory => MemberKind::Directory,
                Kind::Symlink => MemberKind::Symlink,
                Kind::Hardlink => MemberKind::Hardlink,
                Kind::File | Kind::Character | Kind::Block | Kind::Fifo => MemberKind::Other,
            };
            return Ok(Some(Member { name: entry.path, link: entry.link, kind, size: entry.stored }));
        }
    }

    /// Copies the member's data.
    pub fn copy_data(&mut self, into: &mut impl Write) -> Result<(), CopyError> {
        let mut failed = None;
        let count = std::mem::take(&mut self.data);
        // A failed write ends the copy: what the archive's side then says is not the cause.
        let taken = self.entries.stream.take(count, "a file's data", |slice| {
            into.write_all(slice).map_err(|error| {
                failed = Some(error);
                UnpackError::Limit { limit: 0, of: "bytes written" }
            })
        });
        match failed {
            Some(error) => Err(CopyError::Write(error)),
            None => Ok(taken?),
        }
    }
}
