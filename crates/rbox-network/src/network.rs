//! A network as users make it: what they may ask for, and the record of what they got.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use rbox_spec::NetworkName;
use rbox_spec::record::{Record, Step, fill};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::address::Pool;
use crate::error::{Error, Result};
use crate::subnet::{Subnet, Subnet6};

/// The option that names the Linux bridge.
pub(crate) const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// The option for the largest packet, in bytes.
pub(crate) const MTU: &str = "com.docker.network.driver.mtu";
/// The option that, as `false`, keeps the network's containers from each other.
pub(crate) const ICC: &str = "com.docker.network.bridge.enable_icc";
/// The option for the host address that `-p` means when it names none.
pub(crate) const HOST_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// The option for the beginning of the names of links inside: `eth` when there is none.
pub(crate) const LINK_PREFIX: &str = "com.docker.network.container_iface_prefix";
/// The option that, as `false`, lets containers send with addresses that are not theirs.
pub(crate) const GUARD: &str = "rbox.guard";
/// The option that, as `true`, lets the network have a subnet that the host's routes lead to.
pub(crate) const OVERLAP: &str = "rbox.overlap";
/// Options of Docker that are true here and cannot be otherwise.
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
pub(crate) const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";

/// A network's record, and what `network ls` and `network inspect` show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Network {
    /// 64 hex.
    pub id: String,
    /// `bridge`, `host`, `none`, or what the user called it.
    pub name: String,
    /// `bridge`, `host`, `null`.
    pub driver: String,
    /// The subnet of a bridge network.
    pub subnet: Option<Subnet>,
    /// The bridge's own address.
    pub gateway: Option<Ipv4Addr>,
    /// The part of the subnet that containers are given addresses of; all of it when none.
    pub ip_range: Option<Subnet>,
    /// The IPv6 subnet, on a network that has IPv6.
    pub subnet6: Option<Subnet6>,
    /// The bridge's own IPv6 address.
    pub gateway6: Option<Ipv6Addr>,
    /// The Linux bridge; empty for host and none.
    pub bridge: String,
    /// When it was made.
    pub created: SystemTime,
    /// Labels of a user-defined network.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Addresses that no container is given, by what somebody else on the link is called who has them.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether it has no default route.
    pub internal: bool,
    /// Whether containers may be attached by hand to what a swarm runs on it: kept, and without a meaning here.
    pub attachable: bool,
}

impl Record for Network {
    const STEPS: &'static [Step] = &[version_1, version_2];
}

/// Before there were versions, fields came one by one. What may be missing is read as none.
fn version_1(record: &mut Map<String, Value>) {
    fill(record, "bridge", "".into());
    fill(record, "labels", Value::Object(Map::new()));
    fill(record, "options", Value::Object(Map::new()));
    fill(record, "internal", false.into());
    fill(record, "attachable", false.into());
}

/// Addresses that no container is given.
fn version_2(record: &mut Map<String, Value>) {
    fill(record, "auxiliary", Value::Object(Map::new()));
}

impl Network {
    /// `local`, as Docker shows it for every network of one host.
    pub fn scope(&self) -> &'static str {
        "local"
    }

    /// Whether it is one of the three that are always there.
    pub fn is_builtin(&self) -> bool {
        matches!(self.name.as_str(), "bridge" | "host" | "none")
    }

    pub(crate) fn range(&self) -> Result<Subnet> {
        self.subnet.ok_or_else(|| Error::Invalid(format!("network {} has no subnet", self.name)))
    }

    /// The bridge's IPv4 address.
    pub(crate) fn router(&self) -> Result<Ipv4Addr> {
        Ok(self.gateway.unwrap_or(self.range()?.gateway()))
    }

    /// The IPv6 subnet and the bridge's address in it.
    pub(crate) fn six(&self) -> Option<(Subnet6, Ipv6Addr)> {
        self.subnet6.map(|subnet| (subnet, self.gateway6.unwrap_or(subnet.gateway())))
    }

    pub(crate) fn pool(&self) -> Result<Pool> {
        Ok(Pool::v4(self.range()?, self.ip_range, self.router()?).without(self.auxiliary.values()))
    }

    /// Its IPv6 subnet and router, and the addresses that containers can be given.
    pub(crate) fn pool6(&self) -> Option<(Subnet6, Ipv6Addr, Pool)> {
        let (subnet, router) = self.six()?;
        Some((subnet, router, Pool::v6(subnet, router).without(self.auxiliary.values())))
    }

    /// The largest packet, when the network sets it.
    pub(crate) fn mtu(&self) -> Option<u32> {
        self.options.get(MTU)?.parse().ok()
    }

    /// Whether its containers reach each other.
    pub fn talks(&self) -> bool {
        self.options.get(ICC).is_none_or(|value| value == "true")
    }

    /// Whether its containers are held to their own addresses.
    pub fn is_guarded(&self) -> bool {
        self.options.get(GUARD).is_none_or(|value| value == "true")
    }

    /// Whether it may have a subnet that the host's routes lead to.
    pub(crate) fn may_overlap(&self) -> bool {
        self.options.get(OVERLAP).is_some_and(|value| value == "true")
    }

    /// The host address that `-p` means when it names none.
    pub fn host_binding(&self) -> Option<IpAddr> {
        let ip: IpAddr = self.options.get(HOST_BINDING)?.parse().ok()?;
        (!ip.is_unspecified()).then_some(ip)
    }

    /// The beginning of the names of links inside.
    pub fn link_prefix(&self) -> &str {
        self.options.get(LINK_PREFIX).map_or("eth", String::as_str)
    }

    /// Whether a container can be given this address; why not.
    pub fn check_address(&self, ip: IpAddr) -> Result<()> {
        let refuse = |why: String| Err(Error::Invalid(format!("invalid address {ip}: {why}")));
        // Docker's words, which programs match.
        let outside = |subnet: String| {
            let name = &self.name;
            Err(Error::Invalid(format!(
                "invalid endpoint settings: no configured subnet or ip-range contain the IP address {ip}: network {name} has {subnet}"
            )))
        };
        if let Some((name, _)) = self.auxiliary.iter().find(|(_, address)| **address == ip) {
            return Err(Error::Invalid(format!(
                "Address already in use: network {} keeps {ip} as its auxiliary address {name:?}",
                self.name
            )));
        }
        match ip {
            IpAddr::V4(four) => {
                let subnet = self.range()?;
                if !subnet.contains(four) {
                    return outside(subnet.to_string());
                }
                if four == self.router()? || four == subnet.base() || four == subnet.broadcast() {
                    return refuse(format!("network {} uses it itself", self.name));
                }
            }
            IpAddr::V6(address) => {
                let Some((subnet, router)) = self.six() else {
                    return refuse(format!("network {} has no IPv6: create it with --ipv6", self.name));
                };
                if !subnet.contains(address) {
                    return outside(subnet.to_string());
                }
                if address == router || address == subnet.base() {
                    return refuse(format!("network {} uses it itself", self.name));
                }
            }
        }
        Ok(())
    }
}

/// What `network create` asks for.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct NewNetwork {
    /// Its name.
    pub name: String,
    /// `--subnet`: at most one of each family.
    pub subnets: Vec<String>,
    /// `--gateway`.
    pub gateways: Vec<IpAddr>,
    /// `--ip-range`.
    pub ip_ranges: Vec<String>,
    /// `--aux-address`.
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--internal`.
    pub internal: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `-o`.
    pub options: BTreeMap<String, String>,
}

/// What was asked for, read and checked for itself; what is none is chosen when the network is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) subnet: Option<Subnet>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) ip_range: Option<Subnet>,
    pub(crate) subnet6: Option<Subnet6>,
    pub(crate) gateway6: Option<Ipv6Addr>,
}

impl NewNetwork {
    /// Refuses what can be refused without a look at the host.
    pub(crate) fn plan(&self) -> Result<Plan> {
        check_name(&self.name)?;
        self.check_options()?;
        let mut plan = Plan::default();
        for text in &self.subnets {
            if text.contains(':') {
                once(&mut plan.subnet6, text.parse()?, "IPv6 subnet")?;
            } else {
                once(&mut plan.subnet, text.parse()?, "IPv4 subnet")?;
            }
        }
        if let Some(subnet) = plan.subnet.filter(|subnet| subnet.prefix() > 30) {
            return Err(Error::Invalid(format!(
                "subnet {subnet} has no room for a container: use a /30 or more"
            )));
        }
        if let Some(subnet) = plan.subnet6.filter(|subnet| subnet.prefix() > 126) {
            return Err(Error::Invalid(format!(
                "subnet {subnet} has no room for a container: use a /126 or more"
            )));
        }
        if plan.subnet6.is_some() && !self.ipv6 {
            return Err(Error::Invalid("an IPv6 subnet wants --ipv6 as well".into()));
        }
        for gateway in &self.gateways {
            let unmatched = || Error::Invalid(format!("no matching subnet for gateway {gateway}"));
            match gateway {
                IpAddr::V4(ip) => {
                    let subnet = plan.subnet.filter(|subnet| subnet.contains(*ip)).ok_or_else(unmatched)?;
                    if *ip == subnet.base() || *ip == subnet.broadcast() {
                        return Err(Error::Invalid(format!("gateway {ip} is no host's address in {subnet}")));
                    }
                    once(&mut plan.gateway, *ip, "IPv4 gateway")?;
                }
                IpAddr::V6(ip) => {
                    plan.subnet6.filter(|s| s.contains(*ip) && s.base() != *ip).ok_or_else(unmatched)?;
                    once(&mut plan.gateway6, *ip, "IPv6 gateway")?;
                }
            }
        }
        for text in &self.ip_ranges {
            let range: Subnet = text.parse()?;
            let inside = plan.subnet.is_some_and(|subnet| subnet.holds(&range));
            if !inside {
                return Err(Error::Invalid(format!("no matching subnet for range {range}")));
            }
            once(&mut plan.ip_range, range, "range")?;
        }
        for (name, address) in &self.auxiliary {
            let is_inside = match address {
                IpAddr::V4(ip) => plan.subnet.is_some_and(|subnet| subnet.contains(*ip)),
                IpAddr::V6(ip) => plan.subnet6.is_some_and(|subnet| subnet.contains(*ip)),
            };
            if !is_inside {
                return Err(Error::Invalid(format!("no matching subnet for aux-address {address}")));
            }
            let router = match address {
                IpAddr::V4(_) => plan.gateway.or(plan.subnet.map(|subnet| subnet.gateway())).map(IpAddr::V4),
                IpAddr::V6(_) => {
                    plan.gateway6.or(plan.subnet6.map(|subnet| subnet.gateway())).map(IpAddr::V6)
                }
            };
            if router == Some(*address) {
                return Err(Error::Invalid(format!(
                    "aux-address {name}={address}: it is the gateway's address: name another --gateway"
                )));
            }
        }
        Ok(plan)
    }

    fn check_options(&self) -> Result<()> {
        let refuse = |key: &str, value: &str, why: &str| {
            Err(Error::Invalid(format!("network option {key}={value}: {why}")))
        };
        for (key, value) in &self.options {
            match key.as_str() {
                BRIDGE_NAME if !is_link_name(value) => {
                    return refuse(key, value, "a link's name has 1 to 15 letters, digits, '-', '_' or '.'");
                }
                MTU => {
                    let least = if self.ipv6 { 1280 } else { 68 };
                    if !value.parse().is_ok_and(|mtu: u32| (least..=65535).contains(&mtu)) {
                        return refuse(
                            key,
                            value,
                            &format!("an MTU is a number of bytes from {least} to 65535"),
                        );
                    }
                }
                ICC | GUARD | OVERLAP if !matches!(value.as_str(), "true" | "false") => {
                    return refuse(key, value, "it is true or false");
                }
                MASQUERADE if value != "true" => {
                    return refuse(key, value, "containers reach the outside under the host's address only");
                }
                HOST_BINDING if value.parse::<Ipv4Addr>().is_err() => {
                    return refuse(key, value, "it is no IPv4 address");
                }
                LINK_PREFIX if !is_link_name(value) || value.len() > 12 || value == "lo" => {
                    return refuse(
                        key,
                        value,
                        "the beginning of a link's name has 1 to 12 letters or digits",
                    );
                }
                BRIDGE_NAME | ICC | GUARD | OVERLAP | MASQUERADE | HOST_BINDING | LINK_PREFIX => {}
                _ => {
                    let known = [BRIDGE_NAME, MTU, ICC, HOST_BINDING, LINK_PREFIX, GUARD, OVERLAP].join(", ");
                    return refuse(key, value, &format!("the bridge driver knows {known}"));
                }
            }
        }
        Ok(())
    }
}

/// Gives `place` its one value.
fn once<T>(place: &mut Option<T>, value: T, what: &str) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::Invalid(format!("a network has one {what}, and more were given"))),
    }
}

/// Docker's rule for names, and the names that are taken for good.
fn check_name(name: &str) -> Result<()> {
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(Error::Invalid(format!("operation is not permitted on predefined {name} network")));
    }
    name.parse::<NetworkName>().map(drop).map_err(|error| Error::Invalid(error.to_string()))
}

/// Whether a record's id and bridge may be parts of a path. They are ours, but a file on disk may be anybody's.
pub(crate) fn names_files(network: &Network) -> bool {
    network.id.len() == 64
        && network.id.bytes().all(|b| b.is_ascii_hexdigit())
        && is_link_name(&network.bridge)
        && (network.is_builtin() || network.name.parse::<NetworkName>().is_ok())
}

/// Whether a link can have this name, and no path leads out of where it is a part of one.
pub fn is_link_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=15).contains(&name.len()) && name.bytes().all(plain) && name != "." && name != ".."
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn asked(subnets: &[&str], gateways: &[&str], ranges: &[&str]) -> NewNetwork {
        NewNetwork {
            name: "n".into(),
            subnets: subnets.iter().map(|s| (*s).to_owned()).collect(),
            gateways: gateways.iter().map(|g| g.parse().unwrap()).collect(),
            ip_ranges: ranges.iter().map(|r| (*r).to_owned()).collect(),
            ipv6: subnets.iter().any(|s| s.contains(':')),
            ..NewNetwork::default()
        }
    }

    #[test]
    fn what_fits_together() {
        let plan = asked(&["10.5.0.0/16", "fd00:5::/64"], &["10.5.0.9", "fd00:5::9"], &["10.5.8.0/24"])
            .plan()
            .unwrap();
        assert_eq!(plan.gateway.unwrap().to_string(), "10.5.0.9");
        assert_eq!(plan.gateway6.unwrap().to_string(), "fd00:5::9");
        assert_eq!(plan.subnet, "10.5.0.0/16".parse().ok());
        assert_eq!(plan.subnet6, "fd00:5::/64".parse().ok());
        assert_eq!(plan.ip_range, "10.5.8.0/24".parse().ok());
        for (subnets, gateways, ranges, why) in [
            (&["10.5.0.0/16", "10.6.0.0/16"][..], &[][..], &[][..], "one IPv4 subnet"),
            (&["10.5.0.0/31"], &[], &[], "no room"),
            (&["10.5.0.0"], &[], &[], "no IPv4 subnet"),
            (&["10.5.0.0/16"], &["10.6.0.1"], &[], "no matching subnet for gateway 10.6.0.1"),
            (&["10.5.0.0/16"], &["10.5.255.255"], &[], "no host's address"),
            (&[], &["10.6.0.1"], &[], "no matching subnet for gateway"),
            (&["10.5.0.0/16"], &[], &["10.0.0.0/8"], "no matching subnet for range"),
            (&["10.5.0.0/16"], &["fd00::1"], &[], "no matching subnet for gateway fd00::1"),
            (&["10.5.0.0/16"], &["10.5.0.0"], &[], "no host's address"),
            (&["10.5.0.0/16"], &["10.5.0.1", "10.5.0.2"], &[], "one IPv4 gateway"),
            (&["10.5.0.0/16"], &[], &["10.5.1.0/24", "10.5.2.0/24"], "one range"),
            (&["fd00:5::/64", "fd00:6::/64"], &[], &[], "one IPv6 subnet"),
            (&["fd00:5::/127"], &[], &[], "no room"),
            (&["fd00:5::/64"], &["fd00:6::1"], &[], "no matching subnet for gateway fd00:6::1"),
            (&["fd00:5::/64"], &["fd00:5::"], &[], "no matching subnet for gateway fd00:5::"),
        ] {
            let refused = asked(subnets, gateways, ranges).plan().unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        let refused = NewNetwork { ipv6: false, ..asked(&["fd00::/64"], &[], &[]) }.plan().unwrap_err();
        assert!(refused.to_string().contains("--ipv6"));
    }

    #[test]
    fn names_and_options() {
        let named = |name: &str| NewNetwork { name: name.into(), ..NewNetwork::default() }.plan();
        for name in ["a", "front-1", "0.x_y"] {
            named(name).unwrap();
        }
        named(&"n".repeat(255)).unwrap();
        let long = "n".repeat(256);
        for name in [&long, "", "bridge", "host", "none", "default", "-a", "a b", "a/b", "..", "é", "a\n"] {
            assert!(named(name).is_err(), "{name:?}");
        }
        let with = |key: &str, value: &str| {
            let options = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            NewNetwork { name: "n".into(), options, ..NewNetwork::default() }.plan()
        };
        for (key, value) in
            [(MTU, "1400"), (ICC, "false"), (BRIDGE_NAME, "br-x"), (MASQUERADE, "true"), (LINK_PREFIX, "net")]
        {
            with(key, value).unwrap();
        }
        for (key, value) in [
            (MTU, "10"),
            (MTU, "x"),
            (MTU, "67"),
            (MTU, "65536"),
            (ICC, "maybe"),
            (BRIDGE_NAME, "a/b"),
            (BRIDGE_NAME, "sixteen-letters-"),
            (MASQUERADE, "false"),
            (HOST_BINDING, "::1"),
            (BRIDGE_NAME, ".."),
            (GUARD, "maybe"),
            (LINK_PREFIX, "lo"),
            (LINK_PREFIX, "thirteen-long"),
            ("foo", "bar"),
        ] {
            assert!(with(key, value).is_err(), "{key}={value}");
        }
        let small = NewNetwork {
            name: "n".into(),
            options: BTreeMap::from([(MTU.to_owned(), "1279".to_owned())]),
            ..NewNetwork::default()
        };
        small.plan().unwrap();
        assert!(NewNetwork { ipv6: true, ..small }.plan().is_err(), "IPv6 wants 1280");
    }
}
