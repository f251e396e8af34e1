//! A container's place on a network: what goes into its record, so that everything can be found again.

use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;
use std::str::FromStr;

use rbox_spec::port::PublishedPort;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An Ethernet address: `02:42:ac:1e:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The locally administered address that goes with an IPv4 address. A container that gets a used address
    /// gets its MAC too, so what neighbours remember stays true.
    pub fn of(ip: Ipv4Addr) -> Self {
        let [a, b, c, d] = ip.octets();
        Self([0x02, 0x42, a, b, c, d])
    }
}

impl Display for Mac {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let octets: Vec<String> = self.0.iter().map(|octet| format!("{octet:02x}")).collect();
        f.write_str(&octets.join(":"))
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let octets: Option<Vec<u8>> = text
            .split(':')
            .map(|octet| {
                // `from_str_radix` would take a sign.
                let plain = octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit());
                plain.then(|| u8::from_str_radix(octet, 16).ok()).flatten()
            })
            .collect();
        octets
            .and_then(|octets| octets.try_into().ok())
            .map(Self)
            .ok_or_else(|| Error::Invalid(format!("{text:?} is no MAC address such as 02:42:ac:1e:00:02")))
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

/// One container on one network. Nothing of it exists in the kernel before [`crate::NetworkStore::attach`],
/// so it can be recorded first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// The container's id.
    pub container: String,
    /// The bridge the host's end of the veth is a port of.
    pub bridge: String,
    /// The host's end of the veth.
    pub host_link: String,
    /// The name of the container's end.
    pub link: String,
    /// The container's address.
    pub ip: Ipv4Addr,
    /// The length of its subnet's prefix.
    pub prefix: u8,
    /// The default route.
    pub gateway: Ipv4Addr,
    /// The Ethernet address of the container's end.
    pub mac: Mac,
    /// The published ports.
    #[serde(default)]
    pub ports: Vec<PublishedPort>,
}

/// The name of the host's end of a container's veth: `rb` and the start of the id; link names hold 15 characters.
pub(crate) fn host_link(container: &str) -> String {
    let start: String = container.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("rb{start}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses() {
        let mac = Mac::of(Ipv4Addr::new(172, 30, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:1e:00:02");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        for bad in ["", "02:42", "02:42:ac:1e:00:02:03", "+2:42:ac:1e:00:02", "02:42:ac:1e:00:zz"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn link_names_fit() {
        assert_eq!(host_link(&"3f".repeat(32)), "rb3f3f3f3f3f3f");
        assert_eq!(host_link("../x"), "rbx");
    }
}
