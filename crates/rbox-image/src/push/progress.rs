//! The progress of a push.
use rbox_spec::Digest;

/// Takes the progress of a push. Called from several threads at once.
pub trait PushProgress: Sync {
    /// Something happened.
    fn event(&self, event: PushEvent<'_>);
}

/// Something that happened.
#[derive(Debug, Clone, Copy)]
pub enum PushEvent<'a> {
    /// A line for the user, such as `The push refers to repository [host/name]`.
    Message(&'a str),
    /// One layer came further.
    Layer {
        /// Its diff ID; the first twelve digits are what Docker shows.
        diff_id: &'a Digest,
        /// How far.
        state: PushState<'a>,
    },
}

/// How far a layer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushState<'a> {
    /// Its turn comes.
    Preparing,
    /// Going out.
    Pushing {
        /// Bytes that the registry has.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The registry has it.
    Pushed,
    /// The registry had it.
    AlreadyExists,
    /// The registry had it in this other repository.
    Mounted(&'a str),
}
