//! Ethernet addresses.

use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kind::Kind;

/// An Ethernet address: `02:42:ac:1e:00:02`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address: {0:?}: write one such as 02:42:ac:1e:00:02 (no multicast address)")]
pub struct InvalidMac(String);

impl InvalidMac {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

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
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        // `from_str_radix` would take a sign.
        let octet = |octet: &str| {
            let plain = octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(octet, 16).ok()).flatten()
        };
        let octets: Option<Vec<u8>> = text.split([':', '-']).map(octet).collect();
        let octets: Option<[u8; 6]> = octets.and_then(|octets| octets.try_into().ok());
        // The lowest bit of the first octet means a group; nobody has such an address.
        octets
            .filter(|octets| octets[0] & 1 == 0 && octets.iter().any(|octet| *octet != 0))
            .map(Self)
            .ok_or_else(|| InvalidMac(text.chars().take(60).collect()))
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
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
        assert_eq!("02-42-AC-1E-00-02".parse::<Mac>().unwrap(), mac);
        for bad in [
            "",
            "02:42",
            "02:42:ac:1e:00:02:03",
            "+2:42:ac:1e:00:02",
            "02:42:ac:1e:00:zz",
            "2:42:ac:1e:0:2",
            "002:42:ac:1e:00:02",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
