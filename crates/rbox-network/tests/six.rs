//! IPv6: published ports from everywhere, the way out, and nothing else. As root, in namespaces of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use rbox_network::{Network, Wish};
use support::{
    Container, HOST, HOST6, PEER, PEER6, World, alone, ask, get, is_refused, published, run, unanswered, wish,
};

/// A container with these ports on `network`.
fn start(world: &World, network: &Network, name: &str, ports: &[&str]) -> Container {
    let ports = ports.iter().map(|port| published(port)).collect();
    world.start_on(network, &Wish { ports, ..wish(&format!("{name:0<64}")) })
}

fn ip6(container: &Container) -> String {
    container.endpoint.ip6.unwrap().ip.to_string()
}

/// What a mapping without an address becomes.
const BOTH: [&str; 4] = ["0.0.0.0:8080:80", "[::]:8080:80", "0.0.0.0:5353:80/udp", "[::]:5353:80/udp"];

fn set_bridge_netfilter(on: bool) {
    for key in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{key}");
        let _ = std::fs::write(path, if on { "1" } else { "0" });
    }
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    for netfilter in [false, true] {
        alone(move || {
            set_bridge_netfilter(netfilter);
            let world = World::new();
            let six = world.six();
            let web = start(&world, &six, "web", &BOTH);
            let other = start(&world, &six, "other", &[]);
            let four = world.start("four", &[]);
            let gateway = web.endpoint.ip6.unwrap().gateway.to_string();
            let (tcp, udp) = (format!("[{HOST6}]:8080"), format!("[{HOST6}]:5353"));

            assert_eq!(world.peer.get(&tcp).as_deref(), Some(PEER6), "the client's address is kept");
            assert_eq!(world.peer.ask(&udp).as_deref(), Some(PEER6));
            assert_eq!(world.peer.get(&format!("{HOST}:8080")).as_deref(), Some(PEER), "and by IPv4");
            assert!(get(&tcp).is_some(), "from the host at its address");
            assert!(ask(&udp).is_some());
            assert!(get(&format!("[{gateway}]:8080")).is_some(), "at the bridge's address");
            assert!(other.inside.get(&tcp).is_some(), "from another container");
            assert!(other.inside.ask(&udp).is_some());
            assert!(other.inside.get(&format!("[{gateway}]:8080")).is_some());
            assert_eq!(web.inside.get(&tcp).as_deref(), Some(gateway.as_str()), "from itself, and back");
            assert!(web.inside.ask(&udp).is_some());
            assert!(four.inside.get(&format!("{HOST}:8080")).is_some(), "from another network");
            assert_eq!(other.inside.get(&format!("[{}]:80", ip6(&web))), Some(ip6(&other)), "directly");
            assert!(get("127.0.0.1:8080").is_some());

            // The host at [::1]: where bridge netfilter is on for IPv6, the kernel cannot (relay.rs has what can). It is
            // refused, not left waiting.
            if netfilter {
                assert!(is_refused("[::1]:8080") && unanswered("[::1]:5353"));
            } else {
                assert_eq!(get("[::1]:8080").as_deref(), Some(gateway.as_str()));
                assert_eq!(ask("[::1]:5353").as_deref(), Some(gateway.as_str()));
            }

            world.peer.serve(9000);
            let out = web.inside.get(&format!("[{PEER6}]:9000"));
            assert_eq!(out.as_deref(), Some(HOST6), "out, masqueraded");
            assert_eq!(web.inside.ask(&format!("[{PEER6}]:9000")).as_deref(), Some(HOST6));

            world.store.detach(&web.endpoint).unwrap();
            assert_eq!(world.peer.get(&tcp), None);
            assert_eq!(get(&tcp), None);
        });
    }
}

/// What leads to `[::1]` follows the setting of bridge netfilter, which another program may change at any time.
#[test]
fn the_rules_follow_bridge_netfilter() {
    alone(|| {
        set_bridge_netfilter(false);
        let world = World::new();
        let six = world.six();
        let web = start(&world, &six, "web", &BOTH);
        let live = || vec![web.endpoint.clone()];
        assert!(get("[::1]:8080").is_some());
        for on in [true, false, true] {
            if !std::path::Path::new("/proc/sys/net/bridge").exists() {
                println!("skipped: this kernel has no br_netfilter");
                return;
            }
            set_bridge_netfilter(on);
            world.store.ensure(&six, &live).unwrap();
            assert_eq!(get("[::1]:8080").is_none(), on);
            world.store.ensure(&six, &|| panic!("made again without need")).unwrap();
        }
    });
}

#[test]
fn a_port_on_one_address_is_not_on_the_others() {
    alone(|| {
        set_bridge_netfilter(false);
        let world = World::new();
        let six = world.six();
        let _web = start(
            &world,
            &six,
            "web",
            &["[::1]:8080:80", "[2001:db8:51::1]:8081:80", "[::]:8082:80", "0.0.0.0:8083:80"],
        );
        assert!(get("[::1]:8080").is_some());
        assert_eq!(world.peer.get(&format!("[{HOST6}]:8080")), None);
        assert!(world.peer.get(&format!("[{HOST6}]:8081")).is_some());
        assert_eq!(get("[::1]:8081"), None);
        assert!(world.peer.get(&format!("[{HOST6}]:8082")).is_some());
        assert_eq!(world.peer.get(&format!("{HOST}:8082")), None);
        assert!(world.peer.get(&format!("{HOST}:8083")).is_some());
        assert_eq!(world.peer.get(&format!("[{HOST6}]:8083")), None);
    });
}

#[test]
fn what_is_not_published_is_not_reached() {
    alone(|| {
        let world = World::new();
        let six = world.six();
        let web = start(&world, &six, "web", &["[::]:8080:80"]);
        let ip = ip6(&web);
        web.inside.serve(81);
        world.peer.run(&format!("ip -6 route add {} via {HOST6}", six.subnet6.unwrap()));
        assert_eq!(world.peer.get(&format!("[{ip}]:80")), None, "past the published port");
        assert_eq!(world.peer.get(&format!("[{ip}]:81")), None);
        assert!(world.peer.unanswered(&format!("[{ip}]:81")));
        assert!(get(&format!("[{ip}]:81")).is_some(), "the host itself may");
        let table = &world.store.names().table;
        run(&format!("nft flush chain ip6 {table} guard"));
        assert_eq!(world.peer.get(&format!("[{ip}]:81")), None, "the forward chain stops it too");
        run(&format!("nft flush chain ip6 {table} forward"));
        assert!(world.peer.get(&format!("[{ip}]:81")).is_some(), "so the test can fail");
    });
}

#[test]
fn spoofed_sources_are_dropped() {
    alone(|| {
        let world = World::new();
        let six = world.six();
        let web = start(&world, &six, "web", &[]);
        let table = world.store.names().table.clone();
        // The bridge's own guard is in front of it.
        run(&format!("nft delete table bridge {table}"));
        let listener = UdpSocket::bind((web.endpoint.ip6.unwrap().gateway, 9999)).unwrap();
        listener.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let heard = |source: &str| {
            let to = listener.local_addr().unwrap();
            let source = source.to_owned();
            web.inside.run(&format!("ip addr replace {source}/128 dev eth0 nodad"));
            web.inside.enter(move || {
                let socket = UdpSocket::bind((source.parse::<std::net::Ipv6Addr>().unwrap(), 0)).unwrap();
                socket.send_to(b"x", to).unwrap();
            });
            listener.recv_from(&mut [0; 8]).is_ok()
        };
        // A busy machine takes its time; what is stopped is so each time.
        let is_let_in = |source: &str| (0..10).any(|_| heard(source));
        assert!(is_let_in("fd00:172:31::77"), "in the subnet");
        assert!(!heard("2001:db8:99::9"));
        assert!(!heard(PEER6));
        run(&format!("nft flush chain ip6 {table} guard"));
        assert!(is_let_in("2001:db8:99::9"), "so the test can fail");
    });
}

/// A client that sends from one UDP port all the time finds a container that comes later, and its successor.
#[test]
fn udp_flows_follow_the_port() {
    alone(|| {
        let world = World::new();
        let six = world.six();
        let ask = || {
            world.peer.enter(|| {
                let socket = UdpSocket::bind((PEER6, 4444)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                socket.send_to(b"?", (HOST6, 5353)).unwrap();
                socket.recv_from(&mut [0; 64]).is_ok()
            })
        };
        // A busy machine takes its time; a flow that leads astray does so each time.
        let answered = || (0..10).any(|_| ask());
        assert!(!ask());
        let first = start(&world, &six, "first", &["[::]:5353:80/udp"]);
        assert!(answered(), "the flow began before the port was published");
        world.store.detach(&first.endpoint).unwrap();
        let ip6 = Some(first.endpoint.ip6.unwrap().ip);
        let heir = world.start_on(&six, &Wish { ip6, ..wish(&"heir".repeat(16)) });
        assert!(!ask(), "who has its address now has published nothing");
        world.store.detach(&heir.endpoint).unwrap();
        let _second = start(&world, &six, "second", &["[::]:5353:80/udp"]);
        assert!(answered(), "and went to a container that is gone");
    });
}
