//! What can go wrong between here and a registry.
use std::time::Duration;

use rbox_spec::Kind;

use super::registries::RegistriesError;
use crate::media::DocumentError;

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The connection could not be made, or broke.
    #[error("{method} {url}: {reason}")]
    Http {
        /// GET, HEAD, POST.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// What the client says.
        reason: String,
        /// There is no such host, or nothing listens there: trying again at once does not help.
        unreachable: bool,
    },
    /// The connection is not secure, and trying again does not make it so.
    #[error("{method} {url}: {reason}; {advice}")]
    Tls {
        /// GET, HEAD, POST.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// What is wrong with the other side.
        reason: String,
        /// What to do about it.
        advice: String,
    },
    /// Nothing came for too long.
    #[error("{method} {url}: no answer within {seconds} s ({during})")]
    Timeout {
        /// GET, HEAD, POST.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// How long was waited.
        seconds: u64,
        /// During which part of the exchange.
        during: String,
    },
    /// The body broke off.
    #[error("download {url}: {reason} after {received} of {want} bytes")]
    Cut {
        /// What was asked for.
        url: String,
        /// Bytes received.
        received: u64,
        /// Bytes promised.
        want: u64,
        /// What the client says.
        reason: String,
    },
    /// An answer other than success.
    #[error("{method} {url}: status {status}{message}")]
    Status {
        /// GET, HEAD, POST.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// `: code: message` from the answer, if there was one.
        message: String,
        /// From `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No such manifest.
    #[error("manifest for {0} not found: manifest unknown")]
    NotFound(String),
    /// No access, or no such repository; registries do not say which.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {message}"
    )]
    Denied {
        /// The repository.
        repository: String,
        /// What the registry says.
        message: String,
    },
    /// A user name and password that the registry does not take.
    #[error("login attempt to {url} failed with status: {reason}")]
    Login {
        /// What was asked for.
        url: String,
        /// What the registry, or its token server, says.
        reason: String,
    },
    /// What could not be kept, or taken away again.
    #[error("{action}: {reason}")]
    Keep {
        /// In Docker's words.
        action: &'static str,
        /// Why.
        reason: String,
    },
    /// A challenge that cannot or must not be answered.
    #[error("log in to {registry}: {reason}")]
    Auth {
        /// The registry.
        registry: String,
        /// Why not.
        reason: String,
    },
    /// A redirect that is not followed.
    #[error("{url} redirects to {location}: {reason}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// Where it points.
        location: String,
        /// Why it is not followed.
        reason: &'static str,
    },
    /// An answer that breaks the protocol.
    #[error("{url}: {reason}")]
    Protocol {
        /// What was asked for.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A part of a blob that is not the one asked for.
    #[error("{url}: it sends another part of the content than the one from byte {from} on")]
    Range {
        /// What was asked for.
        url: String,
        /// Where the part should start.
        from: u64,
    },
    /// The repository is not there.
    #[error("repository {name} not found: {message}")]
    NoRepository {
        /// Its name.
        name: String,
        /// What the registry says.
        message: String,
    },
    /// A document that is refused.
    #[error("{url}")]
    Document {
        /// What was asked for.
        url: String,
        /// Why.
        source: DocumentError,
    },
    /// The configuration of registries.
    #[error(transparent)]
    Config(#[from] RegistriesError),
    /// A credential helper or the Docker configuration.
    #[error("credentials for {registry}: {reason}")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why.
        reason: String,
    },
}

impl RegistryError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound(_) | Self::NoRepository { .. } | Self::Status { status: 404, .. } => {
                Kind::NotFound
            }
            Self::Denied { .. }
            | Self::Login { .. }
            | Self::Keep { .. }
            | Self::Auth { .. }
            | Self::Credentials { .. }
            | Self::Status { status: 401 | 403, .. } => Kind::Denied,
            Self::Http { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::Cut { .. }
            | Self::Status { .. } => Kind::Unavailable,
            Self::Redirect { .. } | Self::Protocol { .. } | Self::Range { .. } => Kind::Damaged,
            Self::Document { source, .. } => source.kind(),
            Self::Config(error) => error.kind(),
        }
    }
}

impl RegistryError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Http { unreachable, .. } => !unreachable,
            Self::Timeout { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Whether nothing answers at all. In the midst of a download that may be a registry that is being restarted.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Http { unreachable: true, .. })
    }

    /// Whether a request for the rest of a download was not understood: asking for all of it may do.
    pub fn is_bad_range(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 400 | 416 | 501),
            Self::Range { .. } => true,
            _ => false,
        }
    }

    /// How long the registry asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
