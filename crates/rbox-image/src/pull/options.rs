//! How to pull.

use std::time::Duration;

use rbox_spec::Platform;

use crate::registry::{Credentials, Timeouts};

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The platform wanted; the host's if not given.
    pub platform: Option<Platform>,
    /// Whom to say we are.
    pub credentials: Credentials,
    /// How long to wait for a registry.
    pub timeouts: Timeouts,
    /// Attempts at one request, or without a byte of progress at one download.
    pub attempts: u32,
    /// Pause before the second attempt; doubled for each one after.
    pub backoff: Duration,
    /// Layers at once.
    pub parallel: usize,
    /// Read the layers of an image that is there already, and fetch those again that are damaged.
    pub verify: bool,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            platform: None,
            credentials: Credentials::docker(),
            timeouts: Timeouts::default(),
            attempts: 5,
            backoff: Duration::from_secs(1),
            parallel: 3,
            verify: false,
        }
    }
}
