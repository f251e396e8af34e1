//! Subnets, and the choice of one that collides with nothing on the host.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};
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

    /// Whether all of `other` lies in it.
    pub fn holds(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
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

/// An IPv6 subnet: `fd12:3456:789a:1::/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Subnet6 {
    base: Ipv6Addr,
    prefix: u8,
}

impl Subnet6 {
    /// The subnet of `prefix` bits that `address` is in. None when `prefix` is over 128.
    pub fn new(address: Ipv6Addr, prefix: u8) -> Option<Self> {
        (prefix <= 128).then(|| Self { base: Ipv6Addr::from(u128::from(address) & mask6(prefix)), prefix })
    }

    /// The first address, which names the subnet.
    pub fn base(&self) -> Ipv6Addr {
        self.base
    }

    /// The length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The address after the base: the bridge has it.
    pub fn gateway(&self) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.base).saturating_add(1))
    }

    /// The last address.
    pub fn last(&self) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.base) | !mask6(self.prefix))
    }

    /// Whether `address` is in it.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        u128::from(address) & mask6(self.prefix) == u128::from(self.base)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let shorter = mask6(self.prefix.min(other.prefix));
        u128::from(self.base) & shorter == u128::from(other.base) & shorter
    }
}

impl Display for Subnet6 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Subnet6 {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text
            .split_once('/')
            .and_then(|(base, prefix)| Self::new(base.parse().ok()?, prefix.parse().ok()?));
        parsed.ok_or_else(|| Error::Invalid(format!("{text:?} is no IPv6 subnet such as fd00:1:2:3::/64")))
    }
}

impl From<Subnet6> for String {
    fn from(subnet: Subnet6) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet6 {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
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

fn mask6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0)
}

/// A /64 of the addresses that anybody may use inside (RFC 4193), made of random bytes as that asks for, which overlaps
/// none of `taken`.
pub(crate) fn choose6(random: [u8; 7], taken: &[Subnet6]) -> Result<Subnet6> {
    let mut base = [0; 16];
    base[0] = 0xfd;
    base[1..8].copy_from_slice(&random);
    Subnet6::new(base.into(), 64)
        .filter(|candidate| !taken.iter().any(|route| route.overlaps(candidate)))
        .ok_or(Error::NoSubnet)
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
        assert!(subnet.holds(&"172.30.5.0/24".parse().unwrap()));
        assert!(!"172.30.5.0/24".parse::<Subnet>().unwrap().holds(&subnet));
        assert!("172.30.0.0/33".parse::<Subnet>().is_err());
        assert!("172.30.0.0".parse::<Subnet>().is_err());
        assert!("0.0.0.0/0".parse::<Subnet>().unwrap().overlaps(&subnet));
    }

    #[test]
    fn arithmetic_of_ipv6() {
        let subnet: Subnet6 = "fd00:1:2:3:4::5/64".parse().unwrap();
        assert_eq!(subnet.to_string(), "fd00:1:2:3::/64");
        assert_eq!(subnet.gateway().to_string(), "fd00:1:2:3::1");
        assert_eq!(subnet.last().to_string(), "fd00:1:2:3:ffff:ffff:ffff:ffff");
        assert!(subnet.contains("fd00:1:2:3::9".parse().unwrap()));
        assert!(!subnet.contains("fd00:1:2:4::9".parse().unwrap()));
        assert!(subnet.overlaps(&"fd00::/8".parse().unwrap()));
        assert!(!subnet.overlaps(&"fd00:1:2:4::/64".parse().unwrap()));
        assert!("fd00::/129".parse::<Subnet6>().is_err() && "10.0.0.0/8".parse::<Subnet6>().is_err());
        let chosen = choose6([1, 2, 3, 4, 5, 6, 7], &[]).unwrap();
        assert_eq!(chosen.to_string(), "fd01:203:405:607::/64");
        assert!(choose6([1, 2, 3, 4, 5, 6, 7], &[chosen]).is_err());
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
