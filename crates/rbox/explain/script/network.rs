//! The commands of ip(8), bridge(8), nft(8) and sysctl(8) for what was said to the kernel by netlink.

use crate::explain::event::Call;
use crate::explain::script::words::word;

/// What was said of the network so far.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// Whether the container has a network namespace of its own.
    pub(super) is_own: bool,
    /// The process that speaks is in there.
    is_inside: bool,
    /// The link of the host that the container had, and that the script makes.
    link: Option<(String, String)>,
    /// What is to be taken away at the end.
    undo: Vec<String>,
}

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Host,
    Inside,
}

impl Network {
    /// Commands of a call; none when there is none for it.
    pub(super) fn call(&mut self, call: &Call, id: &str) -> Option<Vec<String>> {
        if call.name == "setns" {
            // Into the container's and back, in turns.
            self.is_inside = !self.is_inside;
            return call.args.contains("CLONE_NEWNET").then(Vec::new);
        }
        let said = call.args.strip_prefix("netlink, ")?;
        let is_inside = self.is_inside
            || ["wire the network", "raise the loopback"].map(Some).contains(&call.step.as_deref());
        let side = if is_inside { Side::Inside } else { Side::Host };
        let mut lines = Vec::new();
        for message in said.split("; ") {
            lines.extend(self.message(message, side, id)?);
        }
        Some(lines)
    }

    fn message(&mut self, message: &str, side: Side, id: &str) -> Option<Vec<String>> {
        let words: Vec<&str> = message.split(' ').collect();
        let ip = match side {
            Side::Host => "ip".to_owned(),
            Side::Inside => r#"ip -n "$name""#.to_owned(),
        };
        let one = |line: String| Some(vec![line]);
        match &words[..] {
            [what, ..] if what.starts_with("RTM_GET") || what.starts_with("NFT_MSG_GET") => Some(Vec::new()),
            ["RTM_NEWLINK", "veth", host, "master", bridge, "peer", name, mac, "in", "netns", ..] => {
                let bridge = bridge.trim_end_matches(',');
                let ours = self.rename(host, id);
                Some(vec![
                    format!(
                        r#"ip link add {ours} type veth peer name {} address {mac} netns "$name""#,
                        word(name.as_bytes())
                    ),
                    format!("ip link set {ours} master {}", word(bridge.as_bytes())),
                ])
            }
            ["RTM_NEWLINK", "bridge", name, mac] => {
                let name = word(name.as_bytes());
                one(format!("[ -e /sys/class/net/{name} ] || ip link add {name} address {mac} type bridge"))
            }
            ["RTM_NEWLINK", name, "hairpin", "on"] => {
                one(format!("bridge link set dev {} hairpin on", self.link(name)))
            }
            ["RTM_SETLINK", name, "up"] => one(format!("{ip} link set {} up", self.link(name))),
            ["RTM_SETLINK", name, "addrgenmode", "none"] => {
                one(format!("{ip} link set {} addrgenmode none", self.link(name)))
            }
            ["RTM_NEWADDR", address, rest @ .., "on", name] => {
                let rest = if address.contains(':') { rest.join(" ") } else { "broadcast +".to_owned() };
                let space = if rest.is_empty() { "" } else { " " };
                one(format!("{ip} address replace {address}{space}{rest} dev {}", self.link(name)))
            }
            ["RTM_NEWROUTE", "default", "via", gateway, "dev", name] => {
                one(format!("{ip} route add default via {gateway} dev {}", self.link(name)))
            }
            ["RTM_NEWROUTE", "local", "::1", "dev", name] => {
                one(format!("{ip} route replace local ::1 dev {} table local", self.link(name)))
            }
            ["nftables", "add", ..] => self.admit(message.strip_prefix("nftables add ")?, id),
            // The table stays as long as there are networks.
            ["nftables", "table", ..] => Some(Vec::new()),
            _ => None,
        }
    }

    /// The name that the script has for the host's end of the cable.
    fn rename(&mut self, link: &str, id: &str) -> String {
        let ours = format!("bh{}", id.get(..12).unwrap_or(id));
        self.link = Some((link.to_owned(), ours.clone()));
        ours
    }

    /// The name of a link in the script.
    fn link(&self, name: &str) -> String {
        let ours = self.link.as_ref().filter(|(was, _)| was == name).map_or(name, |(_, ours)| ours);
        word(ours.as_bytes())
    }

    /// `rbox0: LINK is MAC ADDRESS[ ADDRESS6]: 127.0.0.1:8080/tcp -> ADDRESS:80, 81/tcp -> …`
    fn admit(&mut self, said: &str, id: &str) -> Option<Vec<String>> {
        let (table, rest) = said.split_once(": ")?;
        let table = word(table.as_bytes());
        let (guest, ports) = match rest.split_once(" is ") {
            Some((link, rest)) => {
                let (addresses, ports) = rest.split_once(": ").map_or((rest, ""), |(a, p)| (a, p));
                (Some((link, addresses)), ports)
            }
            None => (None, rest),
        };
        let mut elements = Vec::new();
        if let Some((link, addresses)) = guest {
            let link = self.rename(link, id);
            let mut words = addresses.split(' ');
            let mac = words.next()?;
            elements.push(format!("bridge {table} links '{{ \"{link}\" }}'"));
            for address in words {
                let set = if address.contains(':') { "guests6" } else { "guests" };
                elements.push(format!("bridge {table} {set} '{{ \"{link}\" . {mac} . {address} }}'"));
            }
        }
        for port in ports.split(", ").filter(|port| !port.is_empty()) {
            let (from, to) = port.split_once(" -> ")?;
            let (from, proto) = from.rsplit_once('/')?;
            let to: std::net::SocketAddr = to.parse().ok()?;
            let family = if to.is_ipv6() { "ip6" } else { "ip" };
            let target = format!("{} . {}", to.ip(), to.port());
            elements.push(match from.rsplit_once(':') {
                Some((host, from)) => {
                    let host = host.trim_matches(['[', ']']);
                    format!("{family} {table} published_at '{{ {proto} . {host} . {from} : {target} }}'")
                }
                None => format!("{family} {table} published '{{ {proto} . {from} : {target} }}'"),
            });
        }
        self.undo.extend(elements.iter().map(|element| format!("nft delete element {element}")));
        Some(elements.iter().map(|element| format!("nft add element {element}")).collect())
    }

    /// A value below /proc/sys.
    pub(super) fn sysctl(&self, key: &str, value: &str) -> String {
        let set = format!("sysctl -qw {}", word(format!("{key}={value}").as_bytes()));
        if self.is_inside { format!(r#"ip netns exec "$name" {set}"#) } else { set }
    }

    /// What comes before all else.
    pub(super) fn begin(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some((link, _)) = &self.link {
            let link = word(link.as_bytes());
            lines.extend([
                "tries=0".to_owned(),
                format!("while [ -e /sys/class/net/{link} ]; do"),
                r#"    [ "$tries" -lt 50 ] || { echo "$name: the container has not ended" >&2; exit 1; }"#
                    .to_owned(),
                "    tries=$((tries + 1)); sleep 0.1".to_owned(),
                "done".to_owned(),
            ]);
        }
        if self.is_own {
            lines.push(r#"ip netns add "$name""#.to_owned());
        }
        lines
    }

    /// What takes it away.
    pub(super) fn end(&self) -> Vec<String> {
        let mut lines = self.undo.clone();
        lines.extend(self.link.iter().map(|(_, ours)| format!("ip link delete {ours}")));
        if self.is_own {
            lines.push(r#"ip netns delete "$name""#.to_owned());
        }
        lines
    }
}
