//! Searching a registry, by the API of the registries of before, which Docker Hub still has.
//!
//! Source: moby, `daemon/pkg/registry/search.go`.
use std::fmt::Write as _;

use serde::Deserialize;

use super::client::Client;
use super::error::RegistryError;
use super::registries::Endpoint;
use crate::go_json::nullable;
use crate::media::MAX_DOCUMENT;

/// One repository that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// What its owner says of it.
    #[serde(deserialize_with = "nullable")]
    pub description: String,
    /// How many like it.
    #[serde(deserialize_with = "nullable")]
    pub star_count: i64,
    /// It is one of Docker's own.
    #[serde(deserialize_with = "nullable")]
    pub is_official: bool,
}

#[derive(Deserialize)]
struct Results {
    #[serde(default, deserialize_with = "nullable")]
    results: Vec<Found>,
}

impl Client {
    /// The repositories at `endpoint` that have to do with `term`, at most `limit`.
    ///
    /// # Errors
    /// The registry cannot be reached, or knows no search.
    pub fn search(&self, endpoint: &Endpoint, term: &str, limit: usize) -> Result<Vec<Found>, RegistryError> {
        let session = self.nameless_session(endpoint);
        let path = format!("/v1/search?q={}&n={limit}", encoded(term));
        let response = session.request("GET", &path, &[("x-docker-token", "true")])?;
        let url = response.url.clone();
        let protocol = |reason: String| RegistryError::Protocol { url: url.clone(), reason };
        match response.status {
            200 => {}
            status @ (404 | 405 | 501) => {
                return Err(protocol(format!("unexpected status code {status}: the registry has no search")));
            }
            status => {
                session.success(response, "GET", None)?;
                return Err(protocol(format!("unexpected status code {status}")));
            }
        }
        let mut found = rbox_spec::json::from_slice::<Results>(&response.bytes(MAX_DOCUMENT)?)
            .map_err(|error| protocol(format!("its results: {error}")))?
            .results;
        // Some send what they like.
        found.truncate(limit);
        Ok(found)
    }
}

/// A text as it stands in a query (RFC 3986, section 2).
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn a_term_is_one_value_of_the_query() {
        assert_eq!(encoded("a b&n=9/ü"), "a%20b%26n%3D9%2F%C3%BC");
    }
}
