//! `ports`: `[ADDRESS:][PUBLISHED:]TARGET[/PROTOCOL]` with ranges, to one entry a port.

use super::tree::{Fault, shown};
use crate::yaml::{Node, Value};

/// Puts a list of ports into the long way.
pub(crate) fn canonical(node: &mut Node, path: &[String], keep: bool) -> Result<(), Fault> {
    let Some(list) = node.as_list() else {
        if node.is_null() {
            return Ok(());
        }
        return Err((node.at, format!("{}: invalid type {} for port", shown(path), node.value.go_type())));
    };
    let mut ports = Vec::new();
    for entry in list {
        match &entry.value {
            Value::Map(_) => ports.push(entry.clone()),
            Value::Int(_) | Value::Text(_) => match parse(&entry.value.to_string()) {
                Ok(parsed) => ports.extend(parsed.into_iter().map(|port| entry.with(port.value))),
                Err(_) if keep => return Ok(()),
                Err(error) => return Err((entry.at, format!("{}: {error}", shown(path)))),
            },
            _ => {
                let kind = entry.value.go_type();
                return Err((entry.at, format!("{}: invalid type {kind} for port", shown(path))));
            }
        }
    }
    *node = node.with(Value::List(ports));
    Ok(())
}

/// Reads one; a range gives several.
fn parse(spec: &str) -> Result<Vec<Node>, String> {
    let (rest, protocol) = match spec.split_once('/') {
        Some((rest, protocol)) => (rest, protocol.to_lowercase()),
        None => (spec, "tcp".to_owned()),
    };
    let (before, target) =
        rest.rsplit_once(':').map_or((None, rest), |(before, target)| (Some(before), target));
    let (address, published) = match before {
        None => ("", ""),
        Some(before) => match before.rsplit_once(':') {
            // An address of IPv6 may stand without brackets.
            Some((address, published)) => (address, published),
            None => ("", before),
        },
    };
    let address = match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| format!("invalid IP address: {address}"))?,
        None => address,
    };
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    if target.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let (start, end) = range(target).ok_or_else(|| format!("invalid containerPort: {target}"))?;
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let host = match published {
        "" => None,
        published => Some(range(published).ok_or_else(|| format!("invalid hostPort: {published}"))?),
    };
    // One target with a range of published ports takes any one of these.
    let any = host.is_some_and(|(from, to)| start == end && from != to);
    if let Some((from, to)) = host
        && to - from != end - start
        && !any
    {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {target} and {published}"
        ));
    }
    let mut ports: Vec<(String, Node)> = (start..=end)
        .map(|target| {
            let published = match host {
                None => String::new(),
                Some((from, to)) if any => format!("{from}-{to}"),
                Some((from, _)) => (from + target - start).to_string(),
            };
            let mut entries = vec![
                ("mode", Node::text("ingress")),
                ("protocol", Node::text(protocol.clone())),
                ("target", Value::Int(target.into()).into()),
            ];
            if !address.is_empty() {
                entries.push(("host_ip", Node::text(address)));
            }
            if !published.is_empty() {
                entries.push(("published", Node::text(published)));
            }
            (format!("{target}/{protocol}"), Node::map(entries))
        })
        .collect();
    // In the order of Go's texts.
    ports.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(ports.into_iter().map(|(_, port)| port).collect())
}

/// `80` or `80-90`.
fn range(text: &str) -> Option<(u32, u32)> {
    let port = |text: &str| text.parse::<u16>().ok().map(u32::from);
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((from, to)) => {
            let (from, to) = (port(from)?, port(to)?);
            (from <= to).then_some((from, to))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(spec: &str) -> Result<String, String> {
        let show = |node: &Node| {
            let part = |key: &str| node.get(key).map(|node| node.value.to_string()).unwrap_or_default();
            format!("{}|{}>{}/{}", part("host_ip"), part("published"), part("target"), part("protocol"))
        };
        parse(spec).map(|ports| ports.iter().map(show).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        let table = [
            ("80", "|>80/tcp"),
            ("8080:80", "|8080>80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1|8080>80/tcp"),
            ("127.0.0.1::80", "127.0.0.1|>80/tcp"),
            ("[::1]:8080:80/UDP", "::1|8080>80/udp"),
            ("::1:8080:80", "::1|8080>80/tcp"),
            ("3000-3002", "|>3000/tcp |>3001/tcp |>3002/tcp"),
            ("9-10:9-10", "|10>10/tcp |9>9/tcp"),
            ("8000-9000:80", "|8000-9000>80/tcp"),
        ];
        for (given, wanted) in table {
            assert_eq!(shown(given).as_deref(), Ok(wanted), "{given}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for bad in [
            "",
            "x",
            "80:",
            "1:2:3:4:5",
            "70000",
            "80/icmp",
            "1-3:1-2",
            "3-1",
            "a.b:80:80",
            "-1",
            ":",
            "[::1:80:80",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
