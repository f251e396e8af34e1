//! Ports as the command line, an image's config and `ps` write them.
//!
//! The grammar is Docker's: `-p [[IP:][HOST]:]CONTAINER[/PROTO]`, where HOST and CONTAINER may be ranges.

use std::fmt::{self, Display, Formatter, Write as _};
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::kind::Kind;

/// Why a port specification was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// `-p ""`, `-p 80:` and the like.
    #[error("no container port in {0:?}: write [[IP:]HOSTPORT:]CONTAINERPORT[/PROTO]")]
    NoContainerPort(String),
    /// The container side is no port number or range.
    #[error("invalid containerPort: {0}: {1}")]
    Container(String, &'static str),
    /// The host side is no port number or range.
    #[error("invalid hostPort: {0}: {1}")]
    Host(String, &'static str),
    /// The address before the host port is none.
    #[error("invalid IP address: {0}")]
    Ip(String),
    /// `[fe80::1%eth0]`: it belongs to one link, which neither the rules nor the record of a port tell.
    #[error(
        "invalid IP address: {0}: a link-local address cannot be published on: use another address of this host, or [::]"
    )]
    LinkLocal(String),
    /// Only tcp, udp and sctp have ports here.
    #[error("invalid proto: {0}: use tcp, udp or sctp")]
    Proto(String),
    /// `published=8080,80`.
    #[error("invalid publish opts format (should be name=value but got '{0}')")]
    Field(String),
    /// `source=80,target=80`.
    #[error(
        "invalid field key \"{0}\" of a published port: it knows published, target, protocol, host_ip and mode"
    )]
    Key(String),
    /// `mode=swarm`.
    #[error("invalid publish mode \"{0}\": it is host or ingress, which are the same here")]
    Mode(String),
    /// `8000-8002:80-81`.
    #[error(
        "invalid ranges specified for container and host Ports: {container} and {host}: they differ in length"
    )]
    Ranges {
        /// The container's range as written.
        container: String,
        /// The host's range as written.
        host: String,
    },
}

impl PortError {
    /// What it means to the caller.
    pub const fn kind(&self) -> Kind {
        Kind::Invalid
    }
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, what a port without a suffix means.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The IANA protocol number, as in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(PortError::Proto(text.into())),
        }
    }
}

/// A port inside a container, as EXPOSE and `--expose` write it: `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ContainerPort {
    /// 1 to 65535.
    pub port: u16,
    /// The protocol.
    pub proto: Protocol,
}

impl Display for ContainerPort {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.proto)
    }
}

impl From<ContainerPort> for String {
    fn from(port: ContainerPort) -> Self {
        port.to_string()
    }
}

impl TryFrom<String> for ContainerPort {
    type Error = PortError;

    fn try_from(text: String) -> Result<Self, PortError> {
        text.parse()
    }
}

impl FromStr for ContainerPort {
    type Err = PortError;

    /// One port; a range is refused.
    fn from_str(text: &str) -> Result<Self, PortError> {
        let (ports, proto) = split_proto(text)?;
        match range(ports) {
            Ok((start, end)) if start == end && start != 0 => Ok(Self { port: start, proto }),
            Ok((0, _)) => Err(PortError::Container(ports.into(), "ports start at 1")),
            Ok(_) => Err(PortError::Container(ports.into(), "one port is wanted here, not a range")),
            Err(why) => Err(PortError::Container(ports.into(), why)),
        }
    }
}

/// Parses what EXPOSE and `--expose` take: a port or a range, with or without a protocol.
pub fn parse_expose(text: &str) -> Result<Vec<ContainerPort>, PortError> {
    let (ports, proto) = split_proto(text)?;
    if ports.is_empty() {
        return Err(PortError::NoContainerPort(text.into()));
    }
    let (start, end) = range(ports).map_err(|why| PortError::Container(ports.into(), why))?;
    if start == 0 {
        return Err(PortError::Container(ports.into(), "ports start at 1"));
    }
    Ok((start..=end).map(|port| ContainerPort { port, proto }).collect())
}

/// One published port as it was asked for, before a host port is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host address to publish on; none means every address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The host ports that will do, first and last; none means any free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ports: Option<(u16, u16)>,
    /// Whether any free port was asked for by the number 0, which `inspect` then shows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zero: bool,
    /// The port inside the container.
    pub container_port: u16,
    /// The protocol.
    pub proto: Protocol,
}

impl PortMapping {
    /// Parses one `-p` argument, also of the form `published=8080,target=80`. Ranges give one mapping a port; a range of host
    /// ports for a single container port means "any of these".
    pub fn parse(spec: &str) -> Result<Vec<Self>, PortError> {
        let short = if spec.contains('=') { Some(of_fields(spec)?) } else { None };
        let spec = short.as_deref().unwrap_or(spec);
        let (ports, proto) = split_proto(spec)?;
        let (before, container) = ports.rsplit_once(':').map_or((None, ports), |(b, c)| (Some(b), c));
        let (ip, host) = match before {
            None => ("", ""),
            Some(before) => match before.rsplit_once(':') {
                None => ("", before),
                Some((ip, host)) => (ip, host),
            },
        };
        if container.is_empty() {
            return Err(PortError::NoContainerPort(spec.into()));
        }
        let host_ip = host_address(ip)?;
        let (first, last) = range(container).map_err(|why| PortError::Container(container.into(), why))?;
        if first == 0 {
            return Err(PortError::Container(container.into(), "ports start at 1"));
        }
        let given = match host {
            "" => None,
            _ => Some(range(host).map_err(|why| PortError::Host(host.into(), why))?),
        };
        let zero = given == Some((0, 0));
        let host_range = given.filter(|_| !zero);
        let count = last - first;
        let mapping = |offset: u16, host_ports| Self {
            host_ip,
            host_ports,
            zero,
            container_port: first + offset,
            proto,
        };
        match host_range {
            None => Ok((0..=count).map(|offset| mapping(offset, None)).collect()),
            Some((0, _)) => Err(PortError::Host(host.into(), "a range starts at 1")),
            Some(any) if count == 0 => Ok(vec![mapping(0, Some(any))]),
            Some((start, end)) if end - start == count => Ok((0..=count)
                .map(|offset| mapping(offset, Some((start + offset, start + offset))))
                .collect()),
            Some(_) => Err(PortError::Ranges { container: container.into(), host: host.into() }),
        }
    }

    /// The container's side.
    pub fn container(&self) -> ContainerPort {
        ContainerPort { port: self.container_port, proto: self.proto }
    }
}

impl Display for PortMapping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            None => {}
        }
        match self.host_ports {
            Some((start, end)) if start == end => write!(f, "{start}:")?,
            Some((start, end)) => write!(f, "{start}-{end}:")?,
            None if self.zero => f.write_str("0:")?,
            None if self.host_ip.is_some() => f.write_char(':')?,
            None => {}
        }
        write!(f, "{}/{}", self.container_port, self.proto)
    }
}

/// `published=8080,target=80,protocol=tcp,mode=host` as `8080:80/tcp`.
fn of_fields(spec: &str) -> Result<String, PortError> {
    let (mut ip, mut published, mut target, mut protocol) = ("", "", "", "tcp");
    for field in spec.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| PortError::Field(field.to_owned()))?;
        match key {
            "published" => published = value,
            "target" => target = value,
            "protocol" => protocol = value,
            "host_ip" => ip = value,
            "mode" if matches!(value, "host" | "ingress") => {}
            "mode" => return Err(PortError::Mode(value.to_owned())),
            "" => return Err(PortError::Field(field.to_owned())),
            _ => return Err(PortError::Key(key.to_owned())),
        }
    }
    let ip = if ip.is_empty() { String::new() } else { format!("{ip}:") };
    Ok(format!("{ip}{published}:{target}/{protocol}"))
}

/// What was asked for, by container port: `PortBindings` in Docker's API.
pub fn port_bindings(mappings: &[PortMapping]) -> Value {
    let mut out = Map::new();
    for mapping in mappings {
        let port = match mapping.host_ports {
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first}-{last}"),
            None if mapping.zero => "0".to_owned(),
            None => String::new(),
        };
        let ip = mapping.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        push_binding(&mut out, mapping.container(), json!({ "HostIp": ip, "HostPort": port }));
    }
    out.sort_keys();
    out.into()
}

/// Adds one to the host ports of a container port.
pub fn push_binding(bindings: &mut Map<String, Value>, port: ContainerPort, host: Value) {
    if let Some(items) = bindings.entry(port.to_string()).or_insert_with(|| json!([])).as_array_mut() {
        items.push(host);
    } else {
        bindings.insert(port.to_string(), json!([host]));
    }
}

/// A port that is published: `0.0.0.0:8080->8000/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address; unspecified means every address.
    pub host_ip: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
    /// The protocol.
    pub proto: Protocol,
}

impl PublishedPort {
    /// The container's side.
    pub fn container(&self) -> ContainerPort {
        ContainerPort { port: self.container_port, proto: self.proto }
    }

    /// Whether only one of the two can be had.
    pub fn clashes(&self, other: &Self) -> bool {
        self.host_port == other.host_port
            && self.proto == other.proto
            && self.host_ip.is_ipv4() == other.host_ip.is_ipv4()
            && (self.host_ip == other.host_ip
                || self.host_ip.is_unspecified()
                || other.host_ip.is_unspecified())
    }

    /// The host's side as `port` prints it: `0.0.0.0:8080`, `[::1]:8080`.
    pub fn host(&self) -> String {
        host(self.host_ip, self.host_port)
    }
}

impl Display for PublishedPort {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}/{}", self.host(), self.container_port, self.proto)
    }
}

fn host(ip: IpAddr, port: impl Display) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

/// The PORTS column of `ps`, as Docker's client makes it: exposed ports that are not published, and published ones whose numbers
/// are the same on both sides, neighbours joined (`9000/tcp, 0.0.0.0:8000-8002->8000-8002/tcp`); then the others, one by one.
pub fn ports_column(published: &[PublishedPort], exposed: &[ContainerPort]) -> String {
    // The container's port, the host's address as text, which Docker sorts by, the host's port.
    let mut rows: Vec<(u16, Option<IpAddr>, u16, Protocol)> = exposed
        .iter()
        .filter(|port| !published.iter().any(|p| p.container() == **port))
        .map(|port| (port.port, None, 0, port.proto))
        .chain(published.iter().map(|p| (p.container_port, Some(p.host_ip), p.host_port, p.proto)))
        .collect();
    rows.sort_by_key(|&(container, ip, host, proto)| {
        (container, ip.map(|ip| ip.to_string()), host, proto.to_string())
    });
    rows.dedup();
    let mut texts = Vec::new();
    let mut apart = Vec::new();
    let mut runs: Vec<((Option<IpAddr>, Protocol), u16, u16)> = Vec::new();
    for (port, ip, host_port, proto) in rows {
        if let Some(ip) = ip.filter(|_| host_port != port) {
            apart.push(format!("{}->{port}/{proto}", host(ip, host_port)));
            continue;
        }
        match runs.iter_mut().find(|(key, ..)| *key == (ip, proto)) {
            None => runs.push(((ip, proto), port, port)),
            Some((_, _, last)) if u32::from(port) == u32::from(*last) + 1 => *last = port,
            Some((key, first, last)) => {
                texts.push(joined(*key, *first, *last));
                (*first, *last) = (port, port);
            }
        }
    }
    texts.extend(runs.into_iter().map(|(key, first, last)| joined(key, first, last)));
    texts.extend(apart);
    texts.join(", ")
}

fn joined((ip, proto): (Option<IpAddr>, Protocol), first: u16, last: u16) -> String {
    let span = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match ip {
        None => format!("{span}/{proto}"),
        Some(ip) => format!("{}->{span}/{proto}", host(ip, &span)),
    }
}

fn split_proto(text: &str) -> Result<(&str, Protocol), PortError> {
    match text.split_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((_, "")) => Err(PortError::Proto(String::new())),
        Some((ports, proto)) => Ok((ports, proto.parse()?)),
    }
}

fn host_address(text: &str) -> Result<Option<IpAddr>, PortError> {
    if text.is_empty() {
        return Ok(None);
    }
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| PortError::Ip(text.into()))?,
        None => text,
    };
    // What follows a `%` is the link, or its number.
    let (address, zone) = bare.split_once('%').map_or((bare, None), |(address, zone)| (address, Some(zone)));
    let ip: IpAddr = address.parse().map_err(|_| PortError::Ip(text.into()))?;
    match ip {
        IpAddr::V6(six) if six.is_unicast_link_local() => return Err(PortError::LinkLocal(bare.into())),
        _ if zone.is_some() => return Err(PortError::Ip(text.into())),
        _ => {}
    }
    if bare.len() != text.len() && ip.is_ipv4() {
        return Err(PortError::Ip(text.into()));
    }
    Ok(Some(ip))
}

fn range(text: &str) -> Result<(u16, u16), &'static str> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (number(start)?, number(end)?);
    if end < start { Err("the range ends before it starts") } else { Ok((start, end)) }
}

fn number(text: &str) -> Result<u16, &'static str> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err("not a number");
    }
    text.parse().map_err(|_| "a port is at most 65535")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed parse is the test's failure")]
mod tests {
    use super::*;

    fn shown(spec: &str) -> Vec<String> {
        PortMapping::parse(spec).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_grammar_of_publish() {
        assert_eq!(shown("80"), ["80/tcp"]);
        assert_eq!(shown("8080:80"), ["8080:80/tcp"]);
        assert_eq!(shown("0.0.0.0:8080:80"), ["0.0.0.0:8080:80/tcp"]);
        assert_eq!(shown("127.0.0.1:8080:80/udp"), ["127.0.0.1:8080:80/udp"]);
        assert_eq!(shown("127.0.0.1::80"), ["127.0.0.1::80/tcp"]);
        assert_eq!(shown("[::1]:8080:80"), ["[::1]:8080:80/tcp"]);
        assert_eq!(shown("::1:8080:80"), ["[::1]:8080:80/tcp"]);
        assert_eq!(shown("0:80/SCTP"), ["0:80/sctp"]);
        assert_eq!(shown(":80"), ["80/tcp"]);
        assert_eq!(shown("8000-8002:80-82"), ["8000:80/tcp", "8001:81/tcp", "8002:82/tcp"]);
        assert_eq!(shown("8000-8002:80"), ["8000-8002:80/tcp"]);
        assert_eq!(shown("90-91/udp"), ["90/udp", "91/udp"]);
        for spec in ["8080:80/tcp", "127.0.0.1::80/tcp", "[::1]:8080:80/tcp", "8000-8002:80/tcp"] {
            assert_eq!(shown(spec), [spec], "display parses back");
        }
        assert_eq!(shown("1-65535:1-65535").len(), 65535);
    }

    #[test]
    fn bad_ones_are_refused_with_the_reason() {
        let refused = |spec: &str| PortMapping::parse(spec).unwrap_err().to_string();
        assert!(refused("").contains("no container port"));
        assert!(refused("8080:").contains("no container port"));
        assert!(refused("8080:0").contains("invalid containerPort: 0"));
        assert!(refused("8080:http").contains("invalid containerPort: http"));
        assert!(refused("x:80").contains("invalid hostPort: x"));
        assert!(refused("+1:80").contains("invalid hostPort"));
        assert!(refused("70000:80").contains("at most 65535"));
        assert!(refused("80-70:80").contains("ends before"));
        assert!(refused("0-5:80").contains("starts at 1"));
        assert!(refused("1.2.3:80:80").contains("invalid IP address: 1.2.3"));
        assert!(refused("[127.0.0.1]:80:80").contains("invalid IP address"));
        assert!(refused("[::1:80:80").contains("invalid IP address"));
        for link_local in
            ["[fe80::1%eth0]:80:80", "[fe80::1]::80", "fe80::1%2:80:80", "[febf::1%eth0]:80:80/udp"]
        {
            assert!(
                refused(link_local).contains("a link-local address cannot be published on"),
                "{link_local}"
            );
        }
        assert!(refused("[::1%lo]:80:80").contains("invalid IP address: [::1%lo]"));
        assert!(refused("80/icmp").contains("invalid proto: icmp"));
        assert!(refused("80/").contains("invalid proto"));
        assert!(refused("8000-8001:80-82").contains("invalid ranges specified"));
    }

    #[test]
    fn expose() {
        let texts: Vec<String> = parse_expose("80-81/udp").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["80/udp", "81/udp"]);
        assert!(parse_expose("").is_err());
        assert!(parse_expose("0").is_err());
        assert!("80-81".parse::<ContainerPort>().is_err());
        let port: ContainerPort = serde_json::from_str("\"53/udp\"").unwrap();
        assert_eq!(serde_json::to_string(&port).unwrap(), "\"53/udp\"");
    }

    #[test]
    fn the_column_joins_neighbours() {
        let publish = |ip: &str, host_port, container_port, proto| PublishedPort {
            host_ip: ip.parse().unwrap(),
            host_port,
            container_port,
            proto,
        };
        let web = publish("0.0.0.0", 8080, 8000, Protocol::Tcp);
        assert_eq!(web.to_string(), "0.0.0.0:8080->8000/tcp");
        assert_eq!(publish("::1", 8080, 80, Protocol::Udp).to_string(), "[::1]:8080->80/udp");
        let exposed = [ContainerPort { port: 9000, proto: Protocol::Tcp }, web.container()];
        assert_eq!(ports_column(&[web], &exposed), "9000/tcp, 0.0.0.0:8080->8000/tcp");
        let run: Vec<_> = (0..2).map(|n| publish("0.0.0.0", 8000 + n, 80 + n, Protocol::Tcp)).collect();
        assert_eq!(ports_column(&run, &[]), "0.0.0.0:8000->80/tcp, 0.0.0.0:8001->81/tcp");
        let same: Vec<_> = [80, 81, 83].map(|n| publish("0.0.0.0", n, n, Protocol::Tcp)).into();
        let open = ["7000-7003/tcp", "9/udp"].iter().flat_map(|text| parse_expose(text).unwrap());
        assert_eq!(
            ports_column(&same, &open.collect::<Vec<_>>()),
            "0.0.0.0:80-81->80-81/tcp, 9/udp, 0.0.0.0:83->83/tcp, 7000-7003/tcp"
        );
        let split =
            [publish("0.0.0.0", 7000, 80, Protocol::Tcp), publish("0.0.0.0", 7005, 81, Protocol::Tcp)];
        assert_eq!(ports_column(&split, &[]), "0.0.0.0:7000->80/tcp, 0.0.0.0:7005->81/tcp");
    }
}
