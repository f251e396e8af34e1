//! What is asked of packing, and what it answers.

use std::io;

use rbox_spec::Kind;
use rbox_spec::userns::IdMaps;
use rustix::io::Errno;

use super::super::error::Name;

/// What the tree is, and how it is to be named.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackOptions<'a> {
    /// What its whiteouts mean.
    pub tree: TreeKind,
    /// The name of the root's own entry, under which all else is. Without one the root has no entry, and names begin
    /// with what is in it.
    pub root: Option<&'a [u8]>,
    /// Paths below the root, without a slash before them, that are left out with all below them; sorted.
    pub leave_out: &'a [&'a [u8]],
    /// Owners are packed as who they are inside of a container with these ids, and capabilities as those of its own root.
    pub ids: Option<&'a IdMaps>,
    /// Nobody else can change the tree: what was a regular file when its directory was read is opened as one, without a look first.
    pub is_settled: bool,
}

/// What kind of tree is packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TreeKind {
    /// All it has is itself.
    #[default]
    Plain,
    /// The upper directory of an overlay, to become a layer as the OCI image layer specification has it. Its whiteouts (a device 0:0, or
    /// a file with the attribute `trusted.overlay.whiteout`) become `.wh.NAME`, and what is opaque gets `.wh..wh..opq`. A name that
    /// begins with `.wh.` by itself would hide something: it is left out and counted. What only says where in lower layers a
    /// directory's entries or a file's data are (`redirect_dir`, `metacopy`) is refused.
    Upper,
}

/// What was packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries, whiteouts among them.
    pub entries: u64,
    /// Bytes of file data.
    pub data_bytes: u64,
    /// Bytes of the stream, with its end.
    pub stream_bytes: u64,
    /// Things that an archive cannot hold, or not without another meaning.
    pub left_out: u64,
    /// The first of them.
    pub first_left_out: Option<Name>,
}

/// Why a tree could not be packed. The stream has a part of it then, without an archive's end.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The writer's side.
    #[error("write the tar stream")]
    Write(#[source] io::Error),
    /// The kernel refused to show a part of the tree.
    #[error("{} {path}", rbox_sys::action(call))]
    System {
        /// The system call.
        call: &'static str,
        /// The entry's name.
        path: Name,
        /// The kernel's answer.
        source: Errno,
    },
    /// Something that no archive can stand for.
    #[error("{path} {why}")]
    Refused {
        /// The entry's name.
        path: Name,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl PackError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Write(source) => Kind::of_io(source),
            Self::System { source, .. } => Kind::of_errno(source.raw_os_error()),
            Self::Refused { .. } => Kind::Unsupported,
        }
    }
}
