//! What the tables hold now, as the kernel reports it: for those who ask why a packet goes where it goes.

use std::net::{IpAddr, SocketAddr};

use rbox_spec::mac::Mac;
use rbox_spec::port::Protocol;
use rustix::io::Errno;

use super::ask::rules_of;
use super::encode::{Attributes, Family, attribute, attributes, kind, msg, text};
use super::firewall::{self, OtherChain};
use super::guard::{GUESTS, GUESTS6, LINKS};
use super::ruleset::{BRIDGES, INTERNAL, PUBLISHED, PUBLISHED_AT, SAME, USER};
use crate::error::Result;
use crate::socket::{DUMP, Netlink, Request};

/// rbox's tables and what of others' is in a packet's way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The name of the tables.
    pub table: String,
    /// The table of family ip; none when it is not there.
    pub ip: Option<BetweenRules>,
    /// The table of family ip6.
    pub ip6: Option<BetweenRules>,
    /// The table of family bridge.
    pub guard: Option<GuardRules>,
    /// Chains of other tables that drop what they do not accept, as `family table chain`.
    pub others: Vec<OtherChain>,
}

/// Rules between networks, of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BetweenRules {
    /// The bridges of our networks.
    pub bridges: Vec<String>,
    /// Those of internal ones.
    pub internal: Vec<String>,
    /// Those whose containers reach each other through the rules.
    pub same: Vec<String>,
    /// The published ports.
    pub published: Vec<PublishedElement>,
    /// The handles of the rules in the administrator's chain.
    pub user: Vec<u64>,
}

/// An element of the maps of published ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedElement {
    /// Its protocol.
    pub proto: Protocol,
    /// The one address of the host it is published at; none for every address.
    pub at: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
    /// Where it leads.
    pub target: SocketAddr,
}

/// Rules on the bridges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuardRules {
    /// The ports that are guarded.
    pub links: Vec<String>,
    /// Which port speaks for which addresses.
    pub guests: Vec<(String, Mac, IpAddr)>,
}

/// Reads the tables called `table`.
pub(crate) fn rules(table: &str) -> Result<Rules> {
    Netlink::with_netfilter(|socket| {
        Ok(Rules {
            table: table.to_owned(),
            ip: between(socket, Family::Ip, table)?,
            ip6: between(socket, Family::Ip6, table)?,
            guard: guard(socket, table)?,
            others: firewall::others(socket, table)?,
        })
    })
}

fn between(socket: &mut Netlink, family: Family, table: &str) -> Result<Option<BetweenRules>> {
    let Some(bridges) = elements(socket, family, table, BRIDGES)? else { return Ok(None) };
    let mut names = |set| -> Result<Vec<String>> {
        let found = elements(socket, family, table, set)?.unwrap_or_default();
        Ok(found.iter().map(|(key, _)| name(key)).collect())
    };
    // The key of `same` is one name twice: the first tells.
    let (internal, same) = (names(INTERNAL)?, names(SAME)?);
    let mut published = Vec::new();
    for set in [PUBLISHED, PUBLISHED_AT] {
        let found = elements(socket, family, table, set)?.unwrap_or_default();
        published.extend(found.iter().filter_map(|(key, value)| published_element(family, key, value)));
    }
    let handle = |rule: &crate::socket::Message| {
        const HANDLE: u16 = 3;
        attribute(rule.body.get(4..)?, HANDLE)?.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
    };
    let user = rules_of(socket, family.number(), table, USER)?.iter().filter_map(handle).collect();
    Ok(Some(BetweenRules {
        bridges: bridges.iter().map(|(key, _)| name(key)).collect(),
        internal,
        same,
        published,
        user,
    }))
}

fn guard(socket: &mut Netlink, table: &str) -> Result<Option<GuardRules>> {
    let Some(links) = elements(socket, Family::Bridge, table, LINKS)? else { return Ok(None) };
    let mut guests = Vec::new();
    for set in [GUESTS, GUESTS6] {
        let found = elements(socket, Family::Bridge, table, set)?.unwrap_or_default();
        guests.extend(found.iter().filter_map(|(key, _)| guest(key)));
    }
    Ok(Some(GuardRules { links: links.iter().map(|(key, _)| name(key)).collect(), guests }))
}

/// Key and value; the value is empty in what is no map.
type Found = (Vec<u8>, Vec<u8>);

/// The elements of a set; none when it is not there.
fn elements(socket: &mut Netlink, family: Family, table: &str, set: &str) -> Result<Option<Vec<Found>>> {
    let request = Request {
        kind: kind(msg::GETSETELEM),
        flags: DUMP,
        body: Attributes::message(family).text(1, table).text(2, set).into_body(),
        told: format!("NFT_MSG_GETSETELEM {family} {table} {set}, all"),
        accept: None,
    };
    let answers = match socket.ask(&request) {
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT)) => {
            return Ok(None);
        }
        answers => answers?,
    };
    Ok(Some(answers.iter().flat_map(|answer| elements_in(&answer.body)).collect()))
}

/// The elements that one answer has.
fn elements_in(body: &[u8]) -> Vec<Found> {
    let list = body.get(4..).and_then(|body| attribute(body, 3)).unwrap_or_default();
    let data = |element, kind| Some(attribute(attribute(element, kind)?, 1)?.to_vec());
    attributes(list)
        .filter_map(|(_, element)| Some((data(element, 1)?, data(element, 2).unwrap_or_default())))
        .collect()
}

/// Reads one answer as of every set, for the fuzzer.
#[cfg(fuzzing)]
pub(super) fn fuzzing(body: &[u8]) {
    for (key, value) in elements_in(body) {
        let _ = (name(&key), guest(&key));
        for family in [Family::Ip, Family::Ip6] {
            let element = published_element(family, &key, &value);
            assert!(element.is_none_or(|element| element.target.is_ipv6() == (family == Family::Ip6)));
        }
    }
}

/// A link's name that a key begins with.
fn name(key: &[u8]) -> String {
    text(key.get(..16).unwrap_or(key))
}

fn address(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    match family {
        Family::Ip6 => bytes.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => bytes.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
    }
}

fn published_element(family: Family, key: &[u8], value: &[u8]) -> Option<PublishedElement> {
    let length = family.address() as usize;
    let number = |bytes: &[u8]| bytes.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes));
    let proto = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|proto| Some(&proto.number()) == key.first())?;
    let rest = key.get(4..)?;
    let (at, port) = match rest.len() {
        4 => (None, number(rest)?),
        _ => (Some(address(family, rest)?), number(rest.get(length..)?)?),
    };
    let target = SocketAddr::new(address(family, value)?, number(value.get(length..)?)?);
    Some(PublishedElement { proto, at, port, target })
}

fn guest(key: &[u8]) -> Option<(String, Mac, IpAddr)> {
    let mac = Mac(*key.get(16..)?.first_chunk::<6>()?);
    let family = if key.len() == 28 { Family::Ip } else { Family::Ip6 };
    Some((name(key), mac, address(family, key.get(24..)?)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = [6, 0, 0, 0, 0x1f, 0x90, 0, 0];
        let value = [172, 18, 0, 2, 0, 80, 0, 0];
        let element = published_element(Family::Ip, &key, &value).unwrap();
        assert_eq!(
            (element.at, element.port, element.target),
            (None, 8080, "172.18.0.2:80".parse().unwrap())
        );
        let at = [17, 0, 0, 0, 127, 0, 0, 1, 0, 53, 0, 0];
        let element = published_element(Family::Ip, &at, &value).unwrap();
        assert_eq!((element.proto, element.at, element.port), (Protocol::Udp, "127.0.0.1".parse().ok(), 53));
        let mut key = vec![0; 28];
        key[..4].copy_from_slice(b"rb12");
        key[16..22].copy_from_slice(&[2, 0x42, 1, 2, 3, 4]);
        key[24..].copy_from_slice(&[172, 18, 0, 2]);
        let (link, mac, ip) = guest(&key).unwrap();
        assert_eq!(
            (link.as_str(), mac.to_string(), ip.to_string()),
            ("rb12", "02:42:01:02:03:04".into(), "172.18.0.2".into())
        );
        let six = [&[6, 0, 0, 0][..], &Ipv6Addr::LOCALHOST.octets(), &[0x1f, 0x90, 0, 0]].concat();
        let target: SocketAddr = "[fd00::2]:80".parse().unwrap();
        let value6 = [&[0xfd, 0][..], &[0; 13], &[2, 0, 80, 0, 0]].concat();
        let element = published_element(Family::Ip6, &six, &value6).unwrap();
        assert_eq!(
            (element.at, element.port, element.target),
            (Some(Ipv6Addr::LOCALHOST.into()), 8080, target)
        );
        let everywhere = published_element(Family::Ip6, &[6, 0, 0, 0, 0x1f, 0x90, 0, 0], &value6).unwrap();
        assert_eq!((everywhere.at, everywhere.port, everywhere.target), (None, 8080, target));
        let mut key = vec![0; 40];
        key[..4].copy_from_slice(b"rb12");
        key[16..22].copy_from_slice(&[2, 0x42, 1, 2, 3, 4]);
        key[24..].copy_from_slice(&[&[0xfd, 0][..], &[0; 13], &[2]].concat());
        assert_eq!(guest(&key).unwrap(), (link, mac, "fd00::2".parse().unwrap()));
        for short in [&[][..], &[6, 0, 0], &[99, 0, 0, 0, 0, 1, 0, 0]] {
            assert_eq!(published_element(Family::Ip, short, &value), None);
            assert_eq!(guest(short), None);
        }
    }
}
