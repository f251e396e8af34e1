//! IPv4 subnets, and the choice of one that collides with nothing on the host.

use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An IPv4 subnet: `172.30.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet {
    base: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The subnet of `prefix` bits that `address` is in. None when `prefix` is over 32.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        (prefix <= 32).then(|| Self { base: Ipv4Addr::from(u32::from(address) & mask(prefix)), prefix })
    }

    /// The first address, which names the subnet.
    pub fn base(&self) -> Ipv4Addr {
        self.base
    }

    /// The length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The address after the base: the bridge has it.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base).saturating_add(1))
    }

    /// The last address: broadcast.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) | !mask(self.prefix))
    }

    /// How many addresses containers can have: all but base, gateway and broadcast.
    pub fn hosts(&self) -> u32 {
        (!mask(self.prefix)).saturating_sub(2)
    }

    /// The container address number `index`, counted from 0 and modulo their number.
    pub fn host(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base).saturating_add(2 + index % self.hosts().max(1)))
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == u32::from(self.base)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        u32::from(self.base) & shorter == u32::from(other.base) & shorter
    }
}

impl Display for Subnet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text
            .split_once('/')
            .and_then(|(base, prefix)| Self::new(base.parse().ok()?, prefix.parse().ok()?));
        parsed.ok_or_else(|| Error::Invalid(format!("{text:?} is no IPv4 subnet such as 172.30.0.0/16")))
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// The first candidate that overlaps none of `taken`: 172.30/16 down to 172.18/16 (17 is Docker's), then
/// 10.x/16 from above, then the /20s of 192.168.
pub fn choose(taken: &[Subnet]) -> Result<Subnet> {
    let twelve = (18..=30_u8).rev().map(|x| (Ipv4Addr::new(172, x, 0, 0), 16));
    let ten = (0..=254_u8).rev().map(|x| (Ipv4Addr::new(10, x, 0, 0), 16));
    let sixteen = (0..16_u8).rev().map(|x| (Ipv4Addr::new(192, 168, x * 16, 0), 20));
    twelve
        .chain(ten)
        .chain(sixteen)
        .filter_map(|(base, prefix)| Subnet::new(base, prefix))
        .find(|candidate| !taken.iter().any(|route| route.overlaps(candidate)))
        .ok_or(Error::NoSubnet)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn arithmetic() {
        let subnet: Subnet = "172.30.5.6/16".parse().unwrap();
        assert_eq!(subnet.to_string(), "172.30.0.0/16");
        assert_eq!(subnet.gateway().to_string(), "172.30.0.1");
        assert_eq!(subnet.broadcast().to_string(), "172.30.255.255");
        assert_eq!(subnet.hosts(), 65533);
        assert_eq!(subnet.host(0).to_string(), "172.30.0.2");
        assert_eq!(subnet.host(65532).to_string(), "172.30.255.254");
        assert_eq!(subnet.host(65533).to_string(), "172.30.0.2");
        assert!("172.30.0.0/33".parse::<Subnet>().is_err());
        assert!("172.30.0.0".parse::<Subnet>().is_err());
        assert!("0.0.0.0/0".parse::<Subnet>().unwrap().overlaps(&subnet));
    }

    #[test]
    fn the_choice_avoids_what_is_there() {
        let taken = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<Subnet>>();
        assert_eq!(choose(&[]).unwrap().to_string(), "172.30.0.0/16");
        assert_eq!(choose(&taken(&["172.30.9.0/24"])).unwrap().to_string(), "172.29.0.0/16");
        assert_eq!(choose(&taken(&["172.16.0.0/12", "10.254.3.1/32"])).unwrap().to_string(), "10.253.0.0/16");
        assert_eq!(choose(&taken(&["172.16.0.0/12", "10.0.0.0/8"])).unwrap().to_string(), "192.168.240.0/20");
        assert!(choose(&taken(&["172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"])).is_err());
    }
}
