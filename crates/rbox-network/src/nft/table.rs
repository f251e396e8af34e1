//! Applying the ruleset, and publishing ports in it.

use std::net::{IpAddr, Ipv4Addr};

use rbox_spec::port::PublishedPort;
use rustix::io::Errno;

use super::encode::{Attributes, Batch, NFPROTO_IPV4, attribute, attributes, kind, msg};
use super::ruleset::{
    BRIDGES, PUBLISHED, PUBLISHED_AT, SAME, SUBNETS, add_sets, ifname, rule_count, set_rules,
};
use crate::conntrack;
use crate::error::{Error, Result};
use crate::socket::{CREATE, DUMP, Netlink, Request};
use crate::subnet::Subnet;

/// What the rules know of a network.
pub(crate) struct Network<'a> {
    pub(crate) bridge: &'a str,
    pub(crate) subnet: Subnet,
}

/// The ruleset changed since its generation was read.
const RESTART: Errno = Errno::RESTART;

/// A published port and the container address behind it.
type Published = (PublishedPort, Ipv4Addr);

/// A map's name, the key and the value of one published port in it.
struct Element {
    map: &'static str,
    key: Vec<u8>,
    value: [u8; 8],
}

/// rbox's table, by name.
pub(crate) struct Table<'a> {
    name: &'a str,
    socket: &'a mut Netlink,
}

impl Table<'_> {
    /// Lends the table to `work`; it need not exist.
    pub(crate) fn with<T>(name: &str, work: impl FnOnce(&mut Table<'_>) -> Result<T>) -> Result<T> {
        Netlink::with_netfilter(|socket| work(&mut Table { name, socket }))
    }

    /// Whether the table is there with all its rules and knows the network: three requests.
    pub(crate) fn is_whole(&mut self, network: &Network<'_>) -> Result<bool> {
        let (bridge, base) = (ifname(network.bridge), network.subnet.base().octets());
        for (set, key) in [(BRIDGES, &bridge[..]), (SUBNETS, &base[..])] {
            let told = format!("NFT_MSG_GETSETELEM ip {} {set} for {}", self.name, network.bridge);
            match self.element(set, key, told) {
                Ok(_) => {}
                Err(error) if error.errno() == Some(Errno::NOENT) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        let body = Attributes::message(NFPROTO_IPV4).text(1, self.name).into_body();
        let rules = self.socket.ask(&Request {
            kind: kind(msg::GETRULE),
            flags: DUMP,
            body,
            told: format!("NFT_MSG_GETRULE ip {}", self.name),
            accept: None,
        })?;
        Ok(rules.len() == rule_count())
    }

    /// Makes the table, or what is missing of it, with `networks` and `published`, in one transaction.
    /// When two processes do so at once, both end with the same rules.
    pub(crate) fn build(&mut self, networks: &[Network<'_>], published: &[Published]) -> Result<()> {
        let told =
            format!("nftables table ip {}: {} rules, {} ports", self.name, rule_count(), published.len());
        let mut batch = Batch::new();
        batch.push(msg::NEWTABLE, CREATE, self.body().u32(2, 0));
        add_sets(&mut batch, self.name);
        for network in networks {
            self.add_network(&mut batch, network);
        }
        set_rules(&mut batch, self.name);
        self.commit(batch, &told).map_err(|error| match error {
            // What autoloading could not find, or a kernel without it.
            Error::Kernel { what, errno: errno @ (Errno::NOENT | Errno::OPNOTSUPP) } => Error::Kernel {
                what: format!(
                    "{what} (the kernel needs nf_tables, nft_ct, nft_fib_ipv4, nft_nat and nft_masq)"
                ),
                errno,
            },
            error => error,
        })?;
        // Separate, because an element that is there with another value would fail the whole transaction.
        for (port, ip) in published {
            self.add_ports(&[(*port, *ip)])?;
        }
        Ok(())
    }

    fn add_network(&self, batch: &mut Batch, network: &Network<'_>) {
        let name = ifname(network.bridge);
        let pair = [name, name].concat();
        batch.push(msg::NEWSETELEM, CREATE, self.elements(BRIDGES, &[set_element(&name)]));
        batch.push(msg::NEWSETELEM, CREATE, self.elements(SAME, &[set_element(&pair)]));
        let first = set_element(&network.subnet.base().octets());
        let mut range = vec![first];
        if let Some(after) = u32::from(network.subnet.broadcast()).checked_add(1) {
            range.push(set_element(&after.to_be_bytes()).u32(3, 1));
        }
        batch.push(msg::NEWSETELEM, CREATE, self.elements(SUBNETS, &range));
    }

    /// Adds the ports: one transaction. An element left by a container that is gone is replaced.
    pub(crate) fn publish(&mut self, published: &[Published]) -> Result<()> {
        self.add_ports(published)?;
        conntrack::forget(self.socket, published)
    }

    fn add_ports(&mut self, published: &[Published]) -> Result<()> {
        let elements: Vec<Element> = published.iter().filter_map(element).collect();
        if elements.is_empty() {
            return Ok(());
        }
        let told = format!("nftables add {}", listed(self.name, published));
        let mut batch = Batch::new();
        for element in &elements {
            batch.push(msg::NEWSETELEM, CREATE, self.elements(element.map, &[map_element(element)]));
        }
        match self.commit(batch, &told) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            done => return done,
        }
        for element in &elements {
            let present = self.find(element)?.is_some();
            let mut batch = Batch::new();
            if present {
                batch.push(msg::DELSETELEM, 0, self.elements(element.map, &[set_element(&element.key)]));
            }
            batch.push(msg::NEWSETELEM, CREATE, self.elements(element.map, &[map_element(element)]));
            self.commit(batch, &told)?;
        }
        Ok(())
    }

    /// Removes the ports that still lead to their container; what is gone, or now another's, is left alone.
    pub(crate) fn unpublish(&mut self, published: &[Published]) -> Result<()> {
        self.delete_ports(published)?;
        conntrack::forget(self.socket, published)
    }

    fn delete_ports(&mut self, published: &[Published]) -> Result<()> {
        let elements: Vec<Element> = published.iter().filter_map(element).collect();
        let told = format!("nftables delete {}", listed(self.name, published));
        // Another process's transaction between the look and the deletion makes it start again.
        for _ in 0..100 {
            let generation = self.generation()?;
            let mut batch = Batch::at_generation(generation);
            for element in &elements {
                if self.find(element)? == Some(element.value) {
                    batch.push(msg::DELSETELEM, 0, self.elements(element.map, &[set_element(&element.key)]));
                }
            }
            if batch.is_empty() {
                return Ok(());
            }
            match self.commit(batch, &told) {
                Err(error) if matches!(error.errno(), Some(RESTART | Errno::NOENT)) => {}
                done => return done,
            }
        }
        Err(Error::Kernel { what: told, errno: Errno::AGAIN })
    }

    /// Removes the table with all that is in it.
    pub(crate) fn delete(name: &str) -> Result<()> {
        Self::with(name, |table| {
            let mut batch = Batch::new();
            batch.push(msg::DELTABLE, 0, table.body());
            match table.commit(batch, &format!("nftables delete table ip {name}")) {
                Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
                done => done,
            }
        })
    }

    /// The base chains of other tables that drop what they do not accept on the way between links, as
    /// `family table chain`: their owner has to let the bridge through.
    pub(crate) fn forward_drops() -> Result<Vec<String>> {
        let request = Request {
            kind: kind(msg::GETCHAIN),
            flags: DUMP,
            body: Attributes::message(0).into_body(),
            told: "NFT_MSG_GETCHAIN".into(),
            accept: None,
        };
        let answers = Netlink::with_netfilter(|socket| socket.ask(&request))?;
        let number = |bytes: &[u8]| bytes.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
        };
        let dropping = answers.iter().filter_map(|answer| {
            let family = match answer.body.first()? {
                1 => "inet",
                2 => "ip",
                _ => return None,
            };
            let chain = answer.body.get(4..)?;
            let hook = number(attribute(attribute(chain, 4)?, 1)?)?;
            let policy = number(attribute(chain, 5)?)?;
            let table = text(attribute(chain, 1)?);
            (hook == 2 && policy == 0)
                .then(|| format!("{family} {table} {}", text(attribute(chain, 3).unwrap_or_default())))
        });
        Ok(dropping.collect())
    }

    /// What the element's map holds for its key; none when it, or the table, is not there.
    fn find(&mut self, element: &Element) -> Result<Option<[u8; 8]>> {
        let told = format!("NFT_MSG_GETSETELEM ip {} {}", self.name, element.map);
        match self.element(element.map, &element.key, told) {
            Ok(value) => Ok(value),
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn element(&mut self, set: &str, key: &[u8], told: String) -> Result<Option<[u8; 8]>> {
        let body = self.elements(set, &[set_element(key)]).into_body();
        let request = Request { kind: kind(msg::GETSETELEM), flags: 0, body, told, accept: None };
        let answer = self.socket.ask(&request)?;
        Ok(answer.first().and_then(|message| {
            let list = attribute(message.body.get(4..)?, 3)?;
            let (_, element) = attributes(list).next()?;
            let value = attribute(attribute(element, 2)?, 1)?;
            value.first_chunk::<8>().copied()
        }))
    }

    fn generation(&mut self) -> Result<u32> {
        let what = "NFT_MSG_GETGEN";
        let answer = self.socket.ask(&Request {
            kind: kind(msg::GETGEN),
            flags: 0,
            body: Attributes::message(0).into_body(),
            told: what.into(),
            accept: None,
        })?;
        let id = answer
            .first()
            .and_then(|message| attribute(message.body.get(4..)?, 1)?.first_chunk::<4>().copied())
            .ok_or_else(|| Error::Answer { what: what.into(), why: "no generation in it".into() })?;
        Ok(u32::from_be_bytes(id))
    }

    fn commit(&mut self, batch: Batch, told: &str) -> Result<()> {
        let (bytes, messages) = batch.encode(self.socket.next_sequence());
        self.socket.transaction(&bytes, messages, told)
    }

    fn body(&self) -> Attributes {
        Attributes::message(NFPROTO_IPV4).text(1, self.name)
    }

    fn elements(&self, set: &str, elements: &[Attributes]) -> Attributes {
        let list = elements.iter().fold(Attributes::default(), |list, element| list.nest(1, element));
        self.body().text(2, set).nest(3, &list)
    }
}

fn set_element(key: &[u8]) -> Attributes {
    Attributes::default().nest(1, &Attributes::default().bytes(1, key))
}

fn map_element(element: &Element) -> Attributes {
    set_element(&element.key).nest(2, &Attributes::default().bytes(1, &element.value))
}

/// The element of a published port; none for an IPv6 address, which is refused when it is reserved.
fn element((port, ip): &Published) -> Option<Element> {
    let IpAddr::V4(host) = port.host_ip else { return None };
    let mut key = vec![port.proto.number(), 0, 0, 0];
    let map = if host.is_unspecified() {
        PUBLISHED
    } else {
        key.extend_from_slice(&host.octets());
        PUBLISHED_AT
    };
    let [h0, h1] = port.host_port.to_be_bytes();
    key.extend_from_slice(&[h0, h1, 0, 0]);
    let [a, b, c, d] = ip.octets();
    let [c0, c1] = port.container_port.to_be_bytes();
    Some(Element { map, key, value: [a, b, c, d, c0, c1, 0, 0] })
}

fn listed(table: &str, published: &[Published]) -> String {
    let ports: Vec<String> = published
        .iter()
        .map(|(port, ip)| format!("{}/{} -> {ip}:{}", port.host(), port.proto, port.container_port))
        .collect();
    format!("ip {table}: {}", ports.join(", "))
}
