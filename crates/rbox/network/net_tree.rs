//! A drawing of networks as a tree of lines, from the outside inwards.

use std::fmt::Write as _;

use rbox_engine::packet::{
    self, ContainerDrawing, Drawing, NamesDrawing, NetworkDrawing, PlaceDrawing, PortDrawing, RulesDrawing,
    Socket,
};

use crate::output::escape;

/// A line and what hangs on it.
struct Tree {
    text: String,
    under: Vec<Tree>,
}

impl Tree {
    fn leaf(text: impl Into<String>) -> Self {
        Self { text: text.into(), under: Vec::new() }
    }

    fn write(&self, out: &mut String, first: &str, rest: &str) {
        out.push_str(first);
        out.push_str(&escape::text(&self.text));
        out.push('\n');
        for (at, tree) in self.under.iter().enumerate() {
            let (branch, beside) =
                if at + 1 == self.under.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            tree.write(out, &format!("{rest}{branch}"), &format!("{rest}{beside}"));
        }
    }
}

/// Draws it; `details` is for one container or network.
pub(crate) fn draw(drawing: &Drawing, details: bool) -> String {
    let mut networks: Vec<Tree> = drawing.networks.iter().map(|net| network(drawing, net, details)).collect();
    networks.extend(drawing.others.iter().map(|other| Tree { text: title(other), under: inside(other) }));
    if networks.is_empty() {
        networks.push(Tree::leaf("nothing runs here"));
    }
    let links = uplinks(drawing);
    let host = if links.is_empty() {
        "host: no link to the outside".into()
    } else {
        format!("host: {}", links.join(", "))
    };
    let rules = Tree { text: rules(&drawing.rules), under: networks };
    let tree = Tree { text: "outside".into(), under: vec![Tree { text: host, under: vec![rules] }] };
    let mut out = String::new();
    tree.write(&mut out, "", "");
    out
}

/// What lies between the host's links and the bridges.
fn rules(rules: &RulesDrawing) -> String {
    if rules.families.is_empty() {
        return format!("nftables: the tables {} are not there: rbox network reconcile", rules.table);
    }
    let mut text = format!("nftables: tables {} {}", rules.families.join(", "), rules.table);
    if !rules.whole {
        text.push_str(", not whole: rbox network reconcile");
    }
    let user = match (rules.user_rules, rules.user_rules6) {
        (0, 0) => "empty".to_owned(),
        (four, 0) => format!("{four} rules"),
        (four, six) => format!("{four} rules, {six} for IPv6"),
    };
    let _ = write!(text, "; chain user: {user}");
    if !rules.dropping_chains.is_empty() {
        let _ = write!(text, "; the host's firewall drops in {}", rules.dropping_chains.join(", "));
    }
    text
}

fn network(drawing: &Drawing, net: &NetworkDrawing, details: bool) -> Tree {
    let bridge = &net.bridge;
    let mut text = format!("network {}: bridge {bridge}", net.name);
    for (gateway, subnet) in [(&net.gateway, &net.subnet), (&net.gateway6, &net.subnet6)] {
        if let (Some(gateway), Some(subnet)) = (gateway, subnet) {
            let _ = write!(text, ", {gateway} of {subnet}");
        }
    }
    let remarks = [
        (!net.up, "the bridge is not there yet, or down"),
        (net.internal, "internal: no way out, none in"),
        (net.isolated, "its containers do not reach each other"),
        (net.masquerade, "out with the host's address"),
    ];
    for (_, remark) in remarks.iter().filter(|(holds, _)| *holds) {
        let _ = write!(text, "; {remark}");
    }
    let mut under: Vec<Tree> = Vec::new();
    for container in &net.containers {
        let Some(place) = &container.place else { continue };
        under.push(if details { whole(drawing, container, place) } else { short(container, place) });
    }
    Tree { text, under }
}

/// A container in a line or three.
fn short(container: &ContainerDrawing, place: &PlaceDrawing) -> Tree {
    let mut under: Vec<Tree> = place.ports.iter().map(|port| Tree::leaf(published(port))).collect();
    under.push(Tree::leaf(format!("names: {}", place.names.join(", "))));
    Tree { text: format!("{}: {}", title(container), cable(place)), under }
}

/// A container from its cable to its programs.
fn whole(drawing: &Drawing, container: &ContainerDrawing, place: &PlaceDrawing) -> Tree {
    let mut programs = vec![Tree::leaf(format!("names here: {}", place.names.join(", ")))];
    let is_told = |other: &NetworkDrawing| {
        other
            .containers
            .iter()
            .any(|c| c.id == container.id && c.place.as_ref().is_some_and(|p| p.default_route))
    };
    // On several networks, what is inside is shown where its default route leads.
    if place.default_route || !drawing.networks.iter().any(is_told) {
        programs.extend(inside(container));
    }
    let mut trees: Vec<Tree> = place.ports.iter().map(|port| Tree::leaf(published(port))).collect();
    trees.push(Tree { text: title(container), under: programs });
    Tree { text: cable(place), under: trees }
}

/// What listens in a container, and which servers it asks for names.
fn inside(container: &ContainerDrawing) -> Vec<Tree> {
    let mut all = Vec::new();
    if let Some(listeners) = &container.listeners {
        all.extend(listeners.iter().map(|socket| Tree::leaf(listener(socket))));
        if all.is_empty() {
            all.push(Tree::leaf("nothing listens"));
        }
    }
    if let Some(dns) = &container.dns {
        let known = |of: &NamesDrawing| {
            let whose =
                of.network.as_ref().map_or_else(|| "links".to_owned(), |name| format!("network {name}"));
            Tree::leaf(format!("{whose}: {}", of.names.join(", ")))
        };
        let mut under: Vec<Tree> = dns.names.iter().map(known).collect();
        let upstreams = if dns.upstreams.is_empty() { "nobody".into() } else { dns.upstreams.join(", ") };
        under.push(Tree::leaf(format!("for all else asks {upstreams}")));
        all.push(Tree {
            text: format!("name server {}: the monitor, pid {}", dns.server, dns.monitor),
            under,
        });
    }
    all
}

fn title(container: &ContainerDrawing) -> String {
    let paused = if container.paused { ", paused" } else { "" };
    let mode = if container.mode == "bridge" { String::new() } else { format!(" ({})", container.mode) };
    let namespace =
        container.namespace.map(|inode| format!(", network namespace {inode}")).unwrap_or_default();
    format!("{}{mode}, pid {}{namespace}{paused}", container.name, container.pid)
}

/// `eth0 172.30.0.2/16 ══ rb0123456789ab`.
fn cable(place: &PlaceDrawing) -> String {
    let six = place.address6.as_ref().map(|six| format!(" {six}")).unwrap_or_default();
    let mut text = format!("{} ══ {} {}{six} {}", place.host_link, place.link, place.address, place.mac);
    for (holds, remark) in [
        (!place.connected, "not connected"),
        (place.guarded, "guarded"),
        (!place.guarded, "not guarded"),
        (place.default_route, "its way out"),
    ] {
        if holds {
            let _ = write!(text, ", {remark}");
        }
    }
    text
}

/// `map published: 0.0.0.0:8080 -> 80/tcp`.
pub(crate) fn published(port: &PortDrawing) -> String {
    let host = std::net::SocketAddr::new(port.host_ip, port.host_port);
    let missing = if port.in_rules { "" } else { " (the rules do not know it: rbox network reconcile)" };
    let map = if port.host_ip.is_unspecified() { "published" } else { "published_at" };
    format!("map {map}: {host} -> {}/{}{missing}", port.port, port.protocol)
}

/// `0.0.0.0:80/tcp python3 (pid 4711)`.
pub(crate) fn listener(socket: &Socket) -> String {
    let at = std::net::SocketAddr::new(socket.address, socket.port);
    let process = if socket.process.is_empty() { "of an unknown process" } else { &socket.process };
    format!("listens at {at}/{}: {process}", socket.protocol)
}

/// The host's links, and their addresses, in a line.
pub(crate) fn uplinks(drawing: &Drawing) -> Vec<String> {
    let one = |link: &packet::LinkDrawing| {
        let down = if link.up { "" } else { " (down)" };
        format!("{} {}{down}", link.name, link.addresses.join(" "))
    };
    drawing.host.links.iter().map(one).collect()
}
