//! What a layer may hold, and what one held.

/// What one layer may hold at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed tar stream.
    pub stream_bytes: u64,
    /// Tar headers, and separately inodes made.
    pub entries: u64,
    /// Apparent bytes of one file. A sparse file costs no disk, and no more than this can be promised.
    pub file_bytes: u64,
    /// Bytes of one name.
    pub name_bytes: usize,
    /// Bytes of one extended header: all PAX records of an entry, its attributes' values among them.
    pub extended_header_bytes: u64,
    /// Bytes kept in memory until the end: names and attributes of directories, names of whiteouts.
    pub held_bytes: usize,
}

impl Default for Limits {
    /// Larger than any layer in use, small enough that a hostile one is an error and not a full disk.
    fn default() -> Self {
        Self {
            stream_bytes: 64 << 30,
            entries: 4_000_000,
            file_bytes: 1 << 40,
            name_bytes: 4095,
            extended_header_bytes: 1 << 20,
            held_bytes: 64 << 20,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries of the archive that made something.
    pub entries: u64,
    /// Bytes of file data written.
    pub data_bytes: u64,
    /// Bytes of the stream, to its end.
    pub stream_bytes: u64,
    /// Whiteouts made as character devices 0:0.
    pub whiteouts: u64,
    /// Directories made opaque.
    pub opaque: u64,
    /// The layer hides everything below it. overlayfs does not look for this on a layer's root:
    /// whoever mounts must leave out the layers below.
    pub root_opaque: bool,
    /// Attributes left out: overlayfs's own, `trusted.*`, LSM labels.
    pub xattrs_left_out: u64,
    /// Attributes the file system cannot hold.
    pub xattrs_unsupported: u64,
}
