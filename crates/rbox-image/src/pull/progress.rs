//! The progress of a pull.
use rbox_spec::Digest;

/// Takes the progress of a pull. Called from several threads at once.
pub trait PullProgress: Sync {
    /// Something happened.
    fn event(&self, event: PullEvent<'_>);
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub enum PullEvent<'a> {
    /// A line for the user, such as `3.11-slim: Pulling from library/python` or that something is tried again.
    Message(&'a str),
    /// One layer came further.
    Layer {
        /// The layer's blob; its first twelve digits are what Docker shows.
        digest: &'a Digest,
        /// How far.
        state: LayerState,
    },
}

/// How far a layer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Queued, or being fetched by another process.
    Waiting,
    /// In the store already.
    AlreadyExists,
    /// Coming in, and being unpacked as it comes.
    Downloading {
        /// Bytes here, those of an earlier attempt included.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All bytes are here and their digest is right.
    DownloadComplete,
    /// The rest of it is being unpacked and synced.
    Extracting,
    /// In the store.
    PullComplete,
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl PullProgress for NoProgress {
    fn event(&self, _: PullEvent<'_>) {}
}
