//! Talking to registries: OCI Distribution and Docker Registry API v2, over a small synchronous HTTP client.
//!
//! Why not `oci-client`: it is async, so it would bring a thread pool into a program that must be single-threaded when it
//! clones; and it sends credentials to whatever token server a registry names. Here they are bound to an origin
//! (see [`auth`]), redirects are followed by hand, and nothing goes from HTTPS to HTTP.
pub(crate) mod answer;
pub mod auth;
pub mod client;
pub mod credentials;
pub mod error;
mod helper;
pub mod keeping;
pub mod origin;
mod proxy;
pub mod registries;
pub mod resolver;
mod search;
pub mod transport;
pub(crate) mod upload;

pub use client::{Client, Session};
pub use credentials::{Credential, Credentials, docker_config_dir, docker_config_in};
pub use error::RegistryError;
pub use keeping::{Kept, Server};
pub use origin::Origin;
pub use registries::{Registries, RegistriesError};
pub use search::Found;
pub use transport::Timeouts;
