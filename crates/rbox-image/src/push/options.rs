//! How to push.

use std::time::Duration;

use rbox_spec::Platform;

use crate::media::Compression;
use crate::registry::{Credentials, Timeouts};

/// How to push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// The platform that the image must be for.
    pub platform: Option<Platform>,
    /// How to compress layers that are kept uncompressed.
    pub compression: Compression,
    /// Whom to say we are.
    pub credentials: Credentials,
    /// How long to wait for a registry.
    pub timeouts: Timeouts,
    /// Attempts at one request, or without a byte of progress at one upload.
    pub attempts: u32,
    /// Pause before the second attempt; doubled for each one after.
    pub backoff: Duration,
    /// Layers at once.
    pub parallel: usize,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            platform: None,
            compression: Compression::Gzip,
            credentials: Credentials::docker(),
            // A registry reads a blob of some gigabytes before it says that it has it.
            timeouts: Timeouts { answer: Duration::from_mins(2), ..Timeouts::default() },
            attempts: 5,
            backoff: Duration::from_secs(1),
            parallel: 3,
        }
    }
}
