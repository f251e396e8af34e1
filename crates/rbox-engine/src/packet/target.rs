//! Where a packet is to go, as the user says it.

use rbox_spec::port::{ContainerPort, Protocol};

/// `DST:PORT[/PROTO]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name, an address, `host` or `localhost`.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("{text:?} is no destination: {why}; write DST:PORT or DST:PORT/udp");
        let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("it has no port"))?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(|| bad("the bracket is not closed"))?,
            None if host.contains(':') => return Err(bad("an IPv6 address stands in brackets")),
            None => host,
        };
        if host.is_empty() {
            return Err(bad("nothing stands before the port"));
        }
        let parsed: ContainerPort = port.parse().map_err(|error| bad(&format!("{error}")))?;
        Ok(Self { host: host.to_owned(), port: parsed.port, protocol: parsed.proto })
    }
}
