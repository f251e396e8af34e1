//! The ports of EXPOSE, once expanded: `80`, `80/udp`, `8000-8010`; and with an address and a port of the host, which mean nothing.

use std::net::IpAddr;

use rbox_spec::Kind;
use rbox_spec::port::Protocol;

use crate::text::{quoted, shown};

/// Why a text is no port. The words are BuildKit's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExposeError(String);

impl ExposeError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// A text of EXPOSE in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) address: &'a str,
    pub(crate) host: &'a str,
    pub(crate) container: &'a str,
    /// As it was written; empty for tcp.
    pub(crate) protocol: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(text: &'a str) -> Result<Self, ExposeError> {
        let mut parts = text.rsplitn(3, ':');
        let container = parts.next().unwrap_or_default();
        let (host, address) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
        let wrong = |why: String| ExposeError(format!("invalid port: {}: {why}", quoted(text)));
        if container.is_empty() {
            return Err(wrong("no port specified".to_owned()));
        }
        if !["", "tcp", "udp", "sctp"].contains(&protocol.to_lowercase().as_str()) {
            return Err(wrong(format!("invalid proto: {}", shown(protocol))));
        }
        Ok(Self { address, host, container, protocol })
    }
}

/// The ports of one text of EXPOSE: a range, which may be of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExposedPorts {
    /// The first.
    pub start: u16,
    /// The last.
    pub end: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl ExposedPorts {
    /// Each of them as the configuration of an image has it: `80/tcp`.
    pub fn names(self) -> impl Iterator<Item = String> {
        (self.start..=self.end).map(move |port| format!("{port}/{}", self.protocol))
    }
}

/// Reads a text of EXPOSE whose variables have their values.
///
/// # Errors
/// In BuildKit's words.
pub fn exposed_ports(text: &str) -> Result<ExposedPorts, ExposeError> {
    let parts = Parts::of(text)?;
    let fault = |what: &str, text: &str| ExposeError(format!("invalid {what}: {}", shown(text)));
    let address = parts.address;
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    if !bare.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(fault("IP address", bare));
    }
    let (start, end) = range(parts.container).ok_or_else(|| fault("containerPort", parts.container))?;
    if !parts.host.is_empty() {
        let (first, last) = range(parts.host).ok_or_else(|| fault("hostPort", parts.host))?;
        if end != start && end - start != last - first {
            return Err(ExposeError(format!(
                "invalid ranges specified for container and host Ports: {} and {}",
                shown(parts.container),
                shown(parts.host)
            )));
        }
    }
    let protocol = match parts.protocol {
        "" => Protocol::Tcp,
        protocol => protocol.parse().map_err(|_| fault("proto", protocol))?,
    };
    Ok(ExposedPorts { start, end, protocol })
}

fn range(text: &str) -> Option<(u16, u16)> {
    // As in Go, a number may have a sign.
    let number = |text: &str| text.parse::<i64>().ok().and_then(|port| u16::try_from(port).ok());
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (number(start)?, number(end)?);
    (start <= end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        for (text, want) in [
            ("80", Ok(&["80/tcp"][..])),
            ("80/tcp", Ok(&["80/tcp"])),
            ("80/UDP", Ok(&["80/udp"])),
            ("80/sctp", Ok(&["80/sctp"])),
            ("80/", Ok(&["80/tcp"])),
            ("80-82/udp", Ok(&["80/udp", "81/udp", "82/udp"])),
            ("80-80", Ok(&["80/tcp"])),
            ("0", Ok(&["0/tcp"])),
            ("65535", Ok(&["65535/tcp"])),
            ("8080:80", Ok(&["80/tcp"])),
            ("8080-8090:80", Ok(&["80/tcp"])),
            ("8080-8081:80-81", Ok(&["80/tcp", "81/tcp"])),
            ("127.0.0.1:8080:80", Ok(&["80/tcp"])),
            ("127.0.0.1::80", Ok(&["80/tcp"])),
            ("[::1]:8080:80", Ok(&["80/tcp"])),
            ("::1:8080:80", Ok(&["80/tcp"])),
            ("", Err("invalid port: \"\": no port specified")),
            ("/tcp", Err("invalid port: \"/tcp\": no port specified")),
            ("80:", Err("invalid port: \"80:\": no port specified")),
            ("80/http", Err("invalid port: \"80/http\": invalid proto: http")),
            ("a", Err("invalid containerPort: a")),
            ("65536", Err("invalid containerPort: 65536")),
            ("-1", Err("invalid containerPort: -1")),
            ("82-80", Err("invalid containerPort: 82-80")),
            ("80-", Err("invalid containerPort: 80-")),
            ("a:80", Err("invalid hostPort: a")),
            ("x:8080:80", Err("invalid IP address: x")),
            ("[x]:8080:80", Err("invalid IP address: x")),
            ("1-3:80-81", Err("invalid ranges specified for container and host Ports: 80-81 and 1-3")),
        ] {
            let said =
                exposed_ports(text).map(|ports| ports.names().collect()).map_err(|error| error.to_string());
            let want: Result<Vec<String>, String> = want
                .map(|ports| ports.iter().map(|port| (*port).to_owned()).collect())
                .map_err(str::to_owned);
            assert_eq!(said, want, "{text}");
        }
    }
}
