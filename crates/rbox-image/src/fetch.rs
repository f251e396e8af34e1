//! A file from a web server: what `ADD https://…` brings.
//!
//! Nobody's credentials are sent, and redirects keep TLS where it was there (as for registries). A cut download is an error, which
//! names how far it came; the caller decides whether the digest is the wanted one.

use std::io::Write;

use crate::registry::RegistryError;
use crate::registry::answer::redirect;
use crate::registry::origin::Origin;
use crate::registry::transport::{Timeouts, Transport};

/// How often a server may lead elsewhere.
const MOST_REDIRECTS: usize = 10;

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFile {
    /// Bytes of it.
    pub size: u64,
    /// When it changed last, in seconds since 1970, if the server said.
    pub modified: Option<i64>,
}

/// The same URL as it may be told: a user and a password in it are nobody's business.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// Writes what `url` leads to into `to`.
///
/// # Errors
/// The server cannot be reached, or answers with anything but a whole file.
pub fn fetch(url: &str, mut to: impl Write) -> Result<FetchedFile, RegistryError> {
    let broken = |reason: String| RegistryError::Protocol { url: without_user(url), reason };
    let (mut origin, mut path) =
        Origin::split(url).ok_or_else(|| broken("it is no http or https URL without a user".to_owned()))?;
    let transport = Transport::new(Timeouts::default());
    for _ in 0..MOST_REDIRECTS {
        let headers = [("accept-encoding", "identity"), ("user-agent", "rbox")];
        let mut response = transport.send("GET", &origin, &path, &headers, None, None)?;
        match response.status {
            200 => {}
            301 | 302 | 303 | 307 | 308 => {
                (origin, path) = redirect(&response, &origin)?;
                continue;
            }
            status => return Err(broken(format!("the server answered with status {status}"))),
        }
        let promised = response.header("content-length").and_then(|length| length.parse::<u64>().ok());
        let modified = response.header("last-modified").and_then(|text| {
            let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Some(time.as_second())
        });
        let size = std::io::copy(&mut response.body, &mut to).map_err(|error| broken(error.to_string()))?;
        if promised.is_some_and(|promised| promised != size) {
            return Err(broken(format!("it was cut off after {size} bytes")));
        }
        return Ok(FetchedFile { size, modified });
    }
    Err(broken("the server redirects too often".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_urls_are_not_told() {
        for (url, told) in [
            ("http://u:secret@a.lan/x", "http://a.lan/x"),
            ("https://token@a.lan:8080?x=@y", "https://a.lan:8080?x=@y"),
            ("http://a.lan/x@y", "http://a.lan/x@y"),
            ("no-url", "no-url"),
        ] {
            assert_eq!(without_user(url), told);
        }
    }
}
