//! Origins: scheme, host and port. Secrets are bound to one.
use std::fmt;
use std::net::IpAddr;

/// Where requests go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// TLS or not.
    pub https: bool,
    /// Host name or address, lower case, IPv6 in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Origin {
    /// An origin from `host` or `host:port`; `None` if the port is no number.
    pub fn new(https: bool, authority: &str) -> Option<Self> {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            Some(port) => port.parse().ok()?,
            None if https => 443,
            None => 80,
        };
        is_host(host).then(|| Self { https, host: host.to_ascii_lowercase(), port })
    }

    /// Splits an absolute http or https URL into its origin and the rest (path and query, starting with `/`).
    ///
    /// URLs with a user or password are not taken: they would be a way to smuggle a secret or to disguise a host.
    pub fn split(url: &str) -> Option<(Self, String)> {
        let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
        let (https, rest) = if lower.starts_with("https://") {
            (true, url.get(8..)?)
        } else if lower.starts_with("http://") {
            (false, url.get(7..)?)
        } else {
            return None;
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = (rest.get(..end)?, rest.get(end..)?);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Self::new(https, authority).map(|origin| (origin, path))
    }

    /// Whether it is this machine: `localhost`, `127/8` or `::1`.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// `host:port`, without the port if it is the scheme's own.
    pub fn authority(&self) -> String {
        match (self.https, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Whether it is a name or an address, and nothing that another reader of URLs could take for something else.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    }
}

/// Whether a host name is this machine's.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost");
    name || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn splits_urls() {
        let (origin, path) = Origin::split("HTTPS://Auth.Docker.io/token?a=b#c").unwrap();
        assert_eq!((origin.to_string().as_str(), path.as_str()), ("https://auth.docker.io", "/token?a=b"));
        let (origin, path) = Origin::split("http://[::1]:5000?x").unwrap();
        assert!(origin.is_loopback() && origin.port == 5000 && path == "/?x");
        for bad in [
            "ftp://x/",
            "//x/y",
            "/x",
            "https://",
            "http://user:pw@host/",
            "http://a:b/",
            "http://h:99999/",
            "http://a:b:80/",
            "http://a\"b/",
            "http://a%2fb/",
            "http://[::1/",
            "http://[a]/",
            "http://[::1]x:80/",
            "é",
        ] {
            assert!(Origin::split(bad).is_none(), "{bad}");
        }
        assert!(!Origin::new(false, "127.0.0.1.evil.net").unwrap().is_loopback());
    }
}
