//! Walks through a made-up world, in which nothing of a kernel is needed.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use rbox_network::{
    BetweenRules, Endpoint, GuardRules, Network, OtherChain, OtherHook, PublishedElement, Rules, SeenLink,
    Subnet, Way,
};
use rbox_spec::container::NetworkMode;
use rbox_spec::mac::Mac;
use rbox_spec::port::{Protocol, PublishedPort};

use crate::error::EngineError;
use crate::packet::kernel::{Found, Known};
use crate::packet::world::Cable;
use crate::packet::*;

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// Networks `front` (172.18), `apart` (172.19), and `back` (172.20), which is internal; web on front publishes 8080,
/// lo on front listens on its loopback, other on apart, db on back, both on front and back, lone on none.
struct Made {
    world: World,
    /// The sockets of a container, or of the host under no name.
    sockets: HashMap<&'static str, Vec<Socket>>,
}

fn network(name: &str, third: u8) -> Net {
    let subnet = Subnet::new(Ipv4Addr::new(172, third, 0, 0), 16);
    let network = Network {
        id: name.repeat(12),
        name: name.into(),
        driver: "bridge".into(),
        subnet,
        gateway: subnet.map(|subnet| subnet.gateway()),
        ip_range: None,
        auxiliary: BTreeMap::new(),
        subnet6: None,
        gateway6: None,
        bridge: format!("rb-{name}"),
        created: SystemTime::UNIX_EPOCH,
        labels: BTreeMap::new(),
        options: BTreeMap::new(),
        internal: name == "back",
        attachable: false,
    };
    Net { network, up: true, whole: true }
}

fn endpoint(container: &str, net: &Net, number: usize, last: u8) -> Endpoint {
    let [a, b, c, _] = net.network.gateway.unwrap().octets();
    let ip = Ipv4Addr::new(a, b, c, last);
    Endpoint {
        network: net.network.name.clone(),
        network_id: net.network.id.clone(),
        container: container.into(),
        bridge: net.network.bridge.clone(),
        host_link: format!("rb{container}{number}"),
        link: format!("eth{number}"),
        ip,
        prefix: 16,
        gateway: net.network.gateway.unwrap(),
        default_route: !net.network.internal,
        ip6: None,
        link_local: Vec::new(),
        mac: Mac::of(ip),
        mtu: None,
        names: vec![container.into()],
        guarded: true,
        isolated: false,
        ports: Vec::new(),
    }
}

fn node(name: &str, pid: i32, endpoints: Vec<Endpoint>) -> Node {
    Node {
        name: name.into(),
        id: name.into(),
        pid,
        monitor: pid + 1,
        paused: false,
        mode: if endpoints.is_empty() { NetworkMode::None } else { NetworkMode::Bridge },
        shares: None,
        endpoints,
    }
}

fn link(index: u32, name: &str, ip: Ipv4Addr, prefix: u8) -> SeenLink {
    SeenLink { index, name: name.into(), up: true, mac: None, addresses: vec![(ip.into(), prefix)] }
}

fn listens(at: &str, port: u16) -> Vec<Socket> {
    let address = at.parse().unwrap();
    vec![Socket {
        protocol: Protocol::Tcp,
        address,
        port,
        only_ipv6: false,
        inode: 1,
        process: "srv (pid 9)".into(),
    }]
}

impl Made {
    fn new() -> Self {
        let (front, apart, back) = (network("front", 18), network("apart", 19), network("back", 20));
        let mut web = endpoint("web", &front, 0, 2);
        let port = |host_ip: &str, host_port| PublishedPort {
            host_ip: host_ip.parse().unwrap(),
            host_port,
            container_port: 80,
            proto: Protocol::Tcp,
        };
        web.ports = vec![port("0.0.0.0", 8080), port("127.0.0.1", 8081)];
        let target = "172.18.0.2:80".parse().unwrap();
        let element = |at, port| PublishedElement { proto: Protocol::Tcp, at, port, target };
        let mut nodes = vec![
            node("web", 10, vec![web]),
            node("lo", 20, vec![endpoint("lo", &front, 0, 3)]),
            node("both", 30, vec![endpoint("both", &front, 0, 4), endpoint("both", &back, 1, 4)]),
            node("other", 40, vec![endpoint("other", &apart, 0, 2)]),
            node("db", 50, vec![endpoint("db", &back, 0, 2)]),
            node("lone", 60, Vec::new()),
        ];
        let side = Node { shares: Some("web".into()), ..node("side", 70, nodes[0].endpoints.clone()) };
        nodes.push(side);
        nodes.push(Node { mode: NetworkMode::Host, ..node("hosty", 80, Vec::new()) });
        let all = || nodes.iter().flat_map(|node| &node.endpoints);
        let cable = |e: &Endpoint| {
            (e.host_link.clone(), Cable { up: true, bridge: Some(e.bridge.clone()), isolated: false })
        };
        let networks = vec![front, apart, back];
        let bridges: Vec<String> = networks.iter().map(|net| net.network.bridge.clone()).collect();
        let mut links = vec![link(1, "lo", Ipv4Addr::LOCALHOST, 8), link(2, "eth0", HOST, 24)];
        links.extend(networks.iter().map(|n| link(3, &n.network.bridge, n.network.gateway.unwrap(), 16)));
        let rules = Rules {
            table: "rbox".into(),
            ip: Some(BetweenRules {
                bridges: bridges.clone(),
                internal: vec!["rb-back".into()],
                same: bridges.clone(),
                published: vec![element(None, 8080), element(Some(Ipv4Addr::LOCALHOST.into()), 8081)],
                user: Vec::new(),
            }),
            ip6: None,
            guard: Some(GuardRules {
                links: all().map(|e| e.host_link.clone()).collect(),
                guests: all().map(|e| (e.host_link.clone(), e.mac, e.ip.into())).collect(),
            }),
            others: Vec::new(),
        };
        let world = World {
            cables: all().map(cable).collect(),
            rules,
            forwards: (true, true),
            loopback: bridges,
            networks,
            nodes: nodes.clone(),
            links,
            outward: vec!["eth0".into()],
            ..World::default()
        };
        let sockets = HashMap::from([
            ("web", listens("0.0.0.0", 80)),
            ("lo", listens("127.0.0.1", 80)),
            ("other", listens("::", 80)),
            ("db", listens("172.20.0.2", 80)),
            ("", listens("0.0.0.0", 22)),
        ]);
        Self { world, sockets }
    }

    fn walk(&self, from: &str, to: &str) -> Trace {
        let from = match from {
            "host" => Place::Host,
            "outside" => Place::Outside,
            name => Place::Container(self.world.nodes.iter().position(|node| node.name == name).unwrap()),
        };
        walk(&self.world, self, &from, &to.parse().unwrap()).unwrap()
    }

    /// The step that decides, and the rule or the advice that is given.
    fn ends(&self, from: &str, to: &str) -> (String, String) {
        let trace = self.walk(from, to);
        let last = trace.steps.last().unwrap();
        assert_eq!(trace.reaches, trace.stopped.is_none());
        assert_eq!(trace.reaches, last.verdict != Verdict::Stopped, "{trace:#?}");
        let told = match (&last.rule, &trace.stopped) {
            (Some(rule), _) => format!("{}: {}", rule.chain, rule.rule),
            (None, Some(stopped)) => stopped.advice.clone(),
            (None, None) => trace.arrival.clone().unwrap(),
        };
        (last.step.to_owned(), told)
    }

    #[track_caller]
    fn expect(&self, from: &str, to: &str, step: &str, told: &str) {
        let found = self.ends(from, to);
        assert_eq!(
            (found.0.as_str(), found.1.as_str()),
            (step, told),
            "{from} {to}: {:#?}",
            self.walk(from, to).steps
        );
    }
}

impl Kernel for Made {
    fn way(&self, from: Option<&Node>, to: IpAddr) -> Result<Way, EngineError> {
        let IpAddr::V4(ip) = to else { return Ok(Way::Nowhere("network unreachable".into())) };
        if ip.is_loopback() {
            return Ok(Way::Local);
        }
        let over = |link: &str, gateway: Option<Ipv4Addr>, source: Ipv4Addr| Way::Over {
            link: link.to_owned(),
            gateway: gateway.map(IpAddr::V4),
            source: Some(source.into()),
        };
        let Some(node) = from.filter(|node| node.mode != NetworkMode::Host) else {
            if self.world.host_link(to).is_some() {
                return Ok(Way::Local);
            }
            let on = self.world.networks.iter().find(|n| n.network.subnet.unwrap().contains(ip));
            return Ok(on.map_or_else(
                || over("eth0", Some(Ipv4Addr::new(192, 0, 2, 1)), HOST),
                |n| over(&n.network.bridge, None, n.network.gateway.unwrap()),
            ));
        };
        if node.endpoints.iter().any(|e| e.ip == ip) {
            return Ok(Way::Local);
        }
        let on_link = node.endpoints.iter().find(|e| Subnet::new(e.ip, e.prefix).unwrap().contains(ip));
        let out = node.endpoints.iter().find(|e| e.default_route);
        Ok(match (on_link, out) {
            (Some(e), _) => over(&e.link, None, e.ip),
            (None, Some(e)) => over(&e.link, Some(e.gateway), e.ip),
            (None, None) => Way::Nowhere("network unreachable".into()),
        })
    }

    fn mac(&self, of: &Node, link: &str) -> Result<Option<Mac>, EngineError> {
        Ok(of.endpoints.iter().find(|e| e.link == link).map(|e| e.mac))
    }

    fn sockets(&self, of: Option<&Node>) -> Result<Vec<Socket>, EngineError> {
        let key = of.map_or("", |node| node.shares.as_deref().unwrap_or(&node.name));
        Ok(self.sockets.get(key).cloned().unwrap_or_default())
    }

    fn resolve(&self, from: Option<&Node>, name: &str) -> Result<Found, EngineError> {
        let Some(node) = from else { return Ok(Found::Elsewhere(Vec::new())) };
        let shared = |e: &&Endpoint| node.endpoints.iter().any(|own| own.bridge == e.bridge);
        let named = |e: &&Endpoint| e.names.iter().any(|own| own == name);
        let all = self.world.nodes.iter().flat_map(|node| &node.endpoints);
        let mut found: Vec<IpAddr> = all.filter(shared).filter(named).map(|e| e.ip.into()).collect();
        found.dedup();
        let servers = || if name.contains('.') { vec!["192.0.2.53".to_owned()] } else { Vec::new() };
        Ok(if found.is_empty() { Found::Elsewhere(servers()) } else { Found::Names(found) })
    }

    fn ask(&self, _: &Node, name: &str) -> Result<Option<Vec<IpAddr>>, EngineError> {
        let six = "2001:db8::5".parse().unwrap();
        Ok(Some(if name == "example.org" { vec![six, [203, 0, 113, 5].into()] } else { Vec::new() }))
    }

    fn container(&self, name: &str) -> Option<Known> {
        let node = self.world.nodes.iter().find(|node| node.name == name);
        let gone = (name == "gone").then(|| Known {
            name: name.into(),
            id: name.into(),
            status: "exited",
            mode: NetworkMode::Bridge,
            networks: vec!["front".into()],
        });
        node.map_or(gone, |node| {
            Some(Known {
                name: node.name.clone(),
                id: node.id.clone(),
                status: "running",
                mode: node
                    .shares
                    .as_ref()
                    .map_or_else(|| node.mode.clone(), |other| NetworkMode::Container(other.clone())),
                networks: node.endpoints.iter().map(|e| e.network.clone()).collect(),
            })
        })
    }
}

#[test]
fn who_reaches_whom() {
    let made = Made::new();
    for (from, to) in [
        ("lo", "web:80"),
        ("both", "web:80"),
        ("both", "db:80"),
        ("side", "web:80"),
        ("side", "localhost:80"),
        ("lo", "localhost:80"),
        ("host", "web:80"),
        ("host", "db:80"),
        ("host", "other:80"),
        ("host", "localhost:8080"),
        ("host", "127.0.0.1:8081"),
        ("hosty", "localhost:8080"),
        ("other", "host:8080"),
        ("other", "192.0.2.10:8080"),
        ("web", "host:8080"),
        ("outside", "host:8080"),
    ] {
        let (step, told) = made.ends(from, to);
        assert_eq!(step, "listener", "{from} {to}: {told}");
        assert!(told.starts_with("srv (pid 9) in "), "{told}");
    }
    for (from, to) in [
        ("web", "host:22"),
        ("db", "172.20.0.1:22"),
        ("host", "localhost:22"),
        ("host", "hosty:22"),
        ("outside", "192.0.2.10:22"),
    ] {
        made.expect(from, to, "listener", "srv (pid 9) on the host");
    }
    made.expect("web", "203.0.113.5:443", "out", "203.0.113.5 beyond eth0, as far as this host decides");
    made.expect("web", "example.org:443", "out", "203.0.113.5 beyond eth0, as far as this host decides");
    made.expect("web", "127.0.0.11:53/udp", "listener", "its name server: the monitor, pid 11");
}

#[test]
fn who_does_not_and_why() {
    let made = Made::new();
    made.expect("other", "web:80", "name", "rbox network connect front other");
    made.expect("lone", "web:80", "name", "run it with --network of the other one");
    made.expect("web", "gone:80", "name", "rbox start gone");
    made.expect("web", "side:80", "name", "use that one's name");
    made.expect("web", "hosty:80", "name", "use host and the port");
    made.expect("web", "nobody:80", "name", "check the name: rbox ps");
    made.expect("web", "nobody.example:80", "name", "check the name, or --dns");
    made.expect("host", "nobody:80", "name", "give the address: the host's resolver is not asked");
    made.expect("host", "lone:80", "name", "run it with --network NETWORK");
    made.expect("lone", "host:80", "name", "run it with --network NETWORK");
    made.expect("outside", "localhost:80", "name", "name an address of this host, or `host`");
    made.expect("other", "172.18.0.2:80", "forward", "forward: oifname @bridges drop");
    made.expect("both", "lo:80", "listener", "let the program listen at 0.0.0.0:80, or at 172.18.0.3");
    made.expect("web", "both:80", "listener", "see what does: rbox net both");
    made.expect(
        "db",
        "172.18.0.2:80",
        "route",
        "rbox network connect NETWORK db, with one that is not internal",
    );
    made.expect("lone", "172.18.0.2:80", "route", "run it with --network NETWORK");
    made.expect("db", "host:8080", "forward", "forward: iifname @internal drop");
    made.expect("web", "172.20.0.2:80", "forward", "forward: oifname @internal drop");
    made.expect("web", "172.18.0.99:80", "bridge", "see who has which: rbox net front");
    made.expect("host", "172.18.0.99:80", "bridge", "see who has which: rbox net front");
    made.expect(
        "outside",
        "web:80",
        "guard",
        "guard: iifname != \"lo\" iifname != @bridges ip daddr @subnets drop",
    );
    made.expect("outside", "203.0.113.5:80", "route", "name an address of this host, or `host`");
    made.expect("outside", "127.0.0.1:8080", "guard", "guard: iifname != \"lo\" ip daddr 127.0.0.0/8 drop");
    made.expect(
        "outside",
        "host:8081",
        "publish",
        "use that address, or publish it at every one: rbox port add web 8081:80",
    );
    made.expect("host", "localhost:8082", "listener", "publish it: rbox port add CONTAINER 8082");
    made.expect("host", "localhost:8080/udp", "listener", "publish it: rbox port add CONTAINER 8080");
    assert!(made.walk("outside", "web:80").stopped.unwrap().advice.contains("port 8080"));
    assert_eq!(
        made.walk("outside", "other:80").stopped.unwrap().advice,
        "publish it: rbox port add other 80"
    );
    assert_eq!(
        made.walk("other", "172.18.0.2:80").stopped.unwrap().advice,
        "rbox network connect front other, or publish the port: rbox port add web 80"
    );
    assert_eq!(
        made.walk("outside", "172.18.0.2:80/udp").stopped.unwrap().advice,
        "publish it: rbox port add web 80",
        "what is published is TCP"
    );
    // What shares another's network gets to more networks only with that one.
    made.expect("side", "other:80", "name", "rbox network connect apart web");
    assert_eq!(
        made.walk("side", "172.19.0.2:80").stopped.unwrap().advice,
        "rbox network connect apart web, or publish the port: rbox port add other 80"
    );
}

#[test]
fn who_has_other_names_or_another_way_out() {
    let mut made = Made::new();
    // Of web, and of side, which has its places.
    for at in [0, 6] {
        made.world.nodes[at].endpoints[0].names = vec!["www".into()];
    }
    made.expect("lo", "www:80", "listener", "srv (pid 9) in web");
    made.expect("lo", "web:80", "name", "use one of them: rbox net web");
    // A name that could be one of the outside, and is a container's.
    made.world.nodes[3].name = "oth.er".into();
    made.expect("web", "oth.er:80", "name", "rbox network connect apart web");
    // On an internal network, one that has made itself a default route.
    made.world.nodes[4].endpoints[0].default_route = true;
    made.expect(
        "db",
        "192.0.2.10:22",
        "local",
        "local: iifname @internal fib daddr . iif type != local drop",
    );
    made.expect("db", "172.20.0.1:22", "listener", "srv (pid 9) on the host");
    made.expect("db", "203.0.113.5:443", "forward", "forward: iifname @internal drop");
}

#[test]
fn the_order_of_the_steps() {
    let made = Made::new();
    let steps = |from, to| made.walk(from, to).steps.iter().map(|step| step.step).collect::<Vec<_>>();
    assert_eq!(steps("lo", "web:80"), ["name", "route", "cable", "guard", "bridge", "cable", "listener"]);
    assert_eq!(
        steps("other", "host:8080"),
        ["name", "route", "cable", "guard", "publish", "forward", "masquerade", "cable", "listener"]
    );
    assert_eq!(steps("host", "localhost:8080"), ["route", "publish", "masquerade", "cable", "listener"]);
    assert_eq!(steps("outside", "host:8080"), ["name", "route", "publish", "forward", "cable", "listener"]);
    assert_eq!(steps("web", "203.0.113.5:443"), ["route", "cable", "guard", "forward", "masquerade", "out"]);
    assert_eq!(steps("side", "web:80")[..2], ["source", "name"]);
    assert_eq!(steps("hosty", "localhost:22"), ["source", "route", "listener"]);
}

#[test]
fn what_depends_on_others() {
    let mut made = Made::new();
    made.world.rules.ip.as_mut().unwrap().user = vec![7, 9];
    let other = |hook, is_ip6, name: &str| OtherChain { hook, is_ip6, name: name.into() };
    made.world.rules.others = vec![
        other(OtherHook::Forward, None, "inet filter forward"),
        other(OtherHook::Input, Some(false), "ip filter INPUT"),
        other(OtherHook::Forward, Some(true), "ip6 filter FORWARD"),
        other(OtherHook::Output, None, "inet filter output"),
    ];
    let trace = made.walk("outside", "host:8080");
    assert!(trace.reaches);
    assert_eq!(
        trace.if_only,
        ["chain user of table ip rbox lets it pass", "chain inet filter forward accepts it"]
    );
    let user = trace.steps.iter().find(|step| step.step == "user").unwrap();
    assert!(user.text.contains("2 rules (handle 7, 9)"), "{}", user.text);
    assert_eq!(made.walk("web", "host:22").if_only, ["chain ip filter INPUT accepts it"]);
    for to in ["localhost:8080", "web:80", "203.0.113.5:443"] {
        assert_eq!(made.walk("host", to).if_only, ["chain inet filter output accepts it"], "{to}");
    }
    // Straight over the bridge, no rule of IP sees it, unless the host has br_netfilter.
    assert!(made.walk("lo", "web:80").if_only.is_empty());
    made.world.bridged.0 = true;
    assert_eq!(made.walk("lo", "web:80").if_only.len(), 2);
    made.world.nodes[0].paused = true;
    assert!(made.walk("lo", "web:80").if_only.last().unwrap().contains("rbox unpause web"));
    made.expect("web", "lo:80", "source", "rbox unpause web");
}

#[test]
fn what_is_missing_is_told() {
    let mut made = Made::new();
    made.world.rules.ip.as_mut().unwrap().published.clear();
    made.expect("host", "localhost:8080", "publish", "publish: ");
    assert_eq!(made.walk("host", "localhost:8080").stopped.unwrap().advice, "rbox network reconcile");
    made.world.rules.ip = None;
    let trace = made.walk("other", "172.18.0.2:80");
    assert!(trace.reaches, "nothing keeps networks apart");
    assert_eq!(trace.if_only, ["nobody mends the rules"]);

    let mut made = Made::new();
    made.world.networks[0].up = false;
    made.expect("lo", "web:80", "cable", "rbox network reconcile");
    let mut made = Made::new();
    made.world.cables.remove("rbweb0");
    made.expect("lo", "web:80", "cable", "rbox restart web");
    made.world.cables.insert("rbweb0".into(), Cable { up: true, bridge: None, isolated: false });
    made.expect("lo", "web:80", "cable", "rbox restart web");
    let down = Cable { up: false, bridge: Some("rb-front".into()), isolated: false };
    made.world.cables.insert("rbweb0".into(), down);
    made.expect("lo", "web:80", "cable", "rbox restart web");
    // Each network whose rules are damaged is reported once, and what that means for the whole way once.
    let mut made = Made::new();
    made.world.networks.iter_mut().for_each(|net| net.whole = false);
    let trace = made.walk("other", "host:8080");
    let told: Vec<&str> =
        trace.steps.iter().filter(|step| step.step == "rules").map(|step| step.text.as_str()).collect();
    let damaged =
        |name| format!("the rules for network {name} are not as rbox makes them: rbox network reconcile");
    assert_eq!(told, [damaged("apart"), damaged("front")]);
    assert_eq!(trace.if_only, ["nobody mends the rules"]);
    let mut made = Made::new();
    made.world.forwards.0 = false;
    made.expect("other", "host:8080", "forward", "rbox network reconcile");
    made.expect("host", "localhost:8080", "listener", "srv (pid 9) in web");
    made.world.loopback.clear();
    made.expect("host", "localhost:8080", "masquerade", "rbox network reconcile");
}

#[test]
fn the_guard_and_the_isolation() {
    let mut made = Made::new();
    let guests = &mut made.world.rules.guard.as_mut().unwrap().guests;
    guests.iter_mut().find(|(link, ..)| link == "rblo0").unwrap().1 = Mac::of(HOST);
    made.expect("lo", "web:80", "guard", "guard: drop");
    made.expect("both", "lo:80", "guard", "guard: drop");
    // With another address, and through another port.
    for (port, ip) in [("rblo0", HOST), ("rbweb0", Ipv4Addr::new(172, 18, 0, 3))] {
        let mut made = Made::new();
        let guests = &mut made.world.rules.guard.as_mut().unwrap().guests;
        let own = guests.iter_mut().find(|(link, ..)| link == "rblo0").unwrap();
        (own.0, own.2) = (port.into(), ip.into());
        made.expect("lo", "web:80", "guard", "guard: drop");
    }
    made.world.rules.guard.as_mut().unwrap().links.retain(|link| link != "rblo0");
    made.expect("lo", "web:80", "listener", "srv (pid 9) in web");
    for link in ["rblo0", "rbweb0"] {
        made.world.cables.get_mut(link).unwrap().isolated = true;
    }
    made.expect(
        "lo",
        "web:80",
        "bridge",
        "put both on another network, or publish the port: rbox port add web 80",
    );
    made.expect("both", "web:80", "listener", "srv (pid 9) in web");
    // Through the host they reach each other all the same.
    made.expect("lo", "host:8080", "listener", "srv (pid 9) in web");
}
