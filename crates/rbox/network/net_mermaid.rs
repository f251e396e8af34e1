//! A drawing of networks as a Mermaid flowchart.
//!
//! Only the plainest of its syntax is used: one node or one edge a line, ids of our own making, and each label in double
//! quotes. In there Mermaid takes HTML, Markdown between backticks, and entities such as `#quot;`, so all that could be
//! read as one of those is written as an entity.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rbox_engine::packet::{ContainerDrawing, Drawing, NetworkDrawing};

use crate::network::net_tree::{listener, published, uplinks};
use crate::output::escape;

/// Draws it.
pub(crate) fn draw(drawing: &Drawing) -> String {
    let mut chart = Chart { out: "flowchart LR\n".to_owned(), containers: BTreeMap::new() };
    chart.node("outside", &["outside".into()]);
    chart.node("host", &[vec!["host".to_owned()], uplinks(drawing)].concat());
    let rules = &drawing.rules;
    let mut lines = vec![format!("nftables {}", rules.table), rules.families.join(", ")];
    if rules.user_rules + rules.user_rules6 > 0 {
        lines.push(format!("chain user: {} rules", rules.user_rules + rules.user_rules6));
    }
    lines.extend(rules.dropping_chains.iter().map(|chain| format!("firewall drops in {chain}")));
    chart.node("rules", &lines);
    chart.edge("outside", "---", None, "host");
    chart.edge("host", "---", None, "rules");
    for (at, net) in drawing.networks.iter().enumerate() {
        chart.network(at, net);
    }
    for other in &drawing.others {
        let id = chart.container(other);
        if other.mode == "host" {
            chart.edge("host", "---", Some("the host's network"), &id);
        }
    }
    chart.out
}

struct Chart {
    out: String,
    /// The ids of the containers drawn so far: one can be on several networks.
    containers: BTreeMap<String, String>,
}

impl Chart {
    fn node(&mut self, id: &str, lines: &[String]) {
        let _ = writeln!(self.out, "  {id}[\"{}\"]", label(lines));
    }

    fn edge(&mut self, from: &str, arrow: &str, text: Option<&str>, to: &str) {
        let text = text.map(|text| format!("|\"{}\"|", label(&[text.to_owned()]))).unwrap_or_default();
        let _ = writeln!(self.out, "  {from} {arrow}{text} {to}");
    }

    fn network(&mut self, at: usize, net: &NetworkDrawing) {
        let bridge = format!("bridge{at}");
        let addresses = [(&net.gateway, &net.subnet), (&net.gateway6, &net.subnet6)];
        let of = |(gateway, subnet): (&Option<std::net::IpAddr>, &Option<String>)| {
            Some(format!("{} of {}", gateway.as_ref()?, subnet.as_ref()?))
        };
        let mut lines = vec![format!("network {}", net.name), net.bridge.clone()];
        lines.extend(addresses.into_iter().filter_map(of));
        if net.isolated {
            lines.push("containers kept apart".into());
        }
        self.node(&bridge, &lines);
        if net.internal {
            self.edge("rules", "-.-", Some("internal"), &bridge);
        } else {
            self.edge("rules", "---", net.masquerade.then_some("masquerade"), &bridge);
        }
        for container in &net.containers {
            let id = self.container(container);
            let Some(place) = &container.place else { continue };
            let address = place.address.split('/').next().unwrap_or_default();
            let guard = if place.guarded { ", guarded" } else { "" };
            let cable = format!("{} = {} {address}{guard}", place.host_link, place.link);
            self.edge(&bridge, "---", Some(&cable), &id);
            for port in &place.ports {
                self.edge("rules", "-->", Some(&published(port)), &id);
            }
        }
    }

    /// The id of a container, which is drawn the first time.
    fn container(&mut self, container: &ContainerDrawing) -> String {
        if let Some(id) = self.containers.get(&container.id) {
            return id.clone();
        }
        let id = format!("container{}", self.containers.len());
        self.containers.insert(container.id.clone(), id.clone());
        let mut lines = vec![container.name.clone(), format!("pid {}", container.pid)];
        if container.mode != "bridge" {
            lines.push(container.mode.clone());
        }
        self.node(&id, &lines);
        for (at, socket) in container.listeners.iter().flatten().enumerate() {
            let listens = format!("{id}listener{at}");
            self.node(&listens, &[listener(socket)]);
            self.edge(&id, "-->", None, &listens);
        }
        if let Some(dns) = &container.dns {
            let server = format!("{id}names");
            let mut lines =
                vec![format!("name server {}", dns.server), format!("monitor, pid {}", dns.monitor)];
            if !dns.upstreams.is_empty() {
                lines.push(format!("for all else: {}", dns.upstreams.join(", ")));
            }
            self.node(&server, &lines);
            self.edge(&id, "-.->", Some("names"), &server);
        }
        id
    }
}

/// Lines as the inside of a quoted label.
pub(crate) fn label(lines: &[String]) -> String {
    let one = |line: &String| {
        let mut out = String::with_capacity(line.len());
        for char in escape::text(line).chars() {
            match char {
                ' ' | '.' | ':' | ',' | '-' | '_' | '/' | '=' | '(' | ')' | '@' => out.push(char),
                char if char.is_alphanumeric() => out.push(char),
                char => {
                    let _ = write!(out, "#{};", char as u32);
                }
            }
        }
        out
    };
    lines.iter().map(one).collect::<Vec<_>>().join("<br/>")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn labels_hold_nothing_that_mermaid_reads() {
        let shown = label(&["a\"b<c>`d`#e;[f]|g|{h}\u{1b}".into(), "x -> y & z".into()]);
        assert_eq!(
            shown,
            "a#34;b#60;c#62;#96;d#96;#35;e#59;#91;f#93;#124;g#124;#123;h#125;#92;x1b<br/>x -#62; y #38; z"
        );
    }
}
