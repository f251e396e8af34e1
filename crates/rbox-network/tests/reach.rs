//! Who reaches whom: published ports from everywhere, and nothing else. As root, in namespaces of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use support::{HOST, PEER, World, alone, ask, get, run};

#[test]
fn published_ports_are_reached_from_everywhere() {
    alone(|| {
        let world = World::new();
        let web = world.start("web", &["8080:80", "5353:80/udp"]);
        let other = world.start("other", &[]);
        let gateway = web.endpoint.gateway.to_string();
        let ip = web.endpoint.ip.to_string();
        let (tcp, udp) = (format!("{HOST}:8080"), format!("{HOST}:5353"));

        assert_eq!(world.peer.get(&tcp).as_deref(), Some(PEER), "the client's address is kept");
        assert_eq!(world.peer.ask(&udp).as_deref(), Some(PEER));
        assert_eq!(get("127.0.0.1:8080").as_deref(), Some(gateway.as_str()), "from the host's loopback");
        assert_eq!(ask("127.0.0.1:5353").as_deref(), Some(gateway.as_str()));
        assert!(get(&tcp).is_some(), "from the host at its address");
        assert!(ask(&udp).is_some());
        assert!(get(&format!("{gateway}:8080")).is_some(), "from the host at the bridge's address");
        assert!(other.inside.get(&tcp).is_some(), "from another container");
        assert!(other.inside.ask(&udp).is_some());
        assert!(web.inside.get(&tcp).is_some(), "from itself, and back");
        assert!(web.inside.ask(&udp).is_some());
        assert_eq!(other.inside.get(&format!("{ip}:80")), Some(other.endpoint.ip.to_string()), "directly");

        world.peer.serve(9000);
        assert_eq!(web.inside.get(&format!("{PEER}:9000")).as_deref(), Some(HOST), "out, masqueraded");
        assert_eq!(web.inside.ask(&format!("{PEER}:9000")).as_deref(), Some(HOST));

        world.store.detach(&web.endpoint).unwrap();
        assert_eq!(world.peer.get(&tcp), None);
        assert_eq!(get("127.0.0.1:8080"), None);
    });
}

#[test]
fn a_port_on_one_address_is_not_on_the_others() {
    alone(|| {
        let world = World::new();
        let _local = world.start("local", &["127.0.0.1:8080:80"]);
        let _address = world.start("address", &["198.51.100.1:8081:80"]);
        assert!(get("127.0.0.1:8080").is_some());
        assert_eq!(world.peer.get(&format!("{HOST}:8080")), None);
        assert!(world.peer.get(&format!("{HOST}:8081")).is_some());
        assert!(get(&format!("{HOST}:8081")).is_some());
        assert_eq!(get("127.0.0.1:8081"), None);
    });
}

#[test]
fn what_is_not_published_is_not_reached() {
    alone(|| {
        let world = World::new();
        let web = world.start("web", &["8080:80"]);
        web.inside.serve(81);
        let subnet = world.network.subnet.unwrap();
        world.peer.run(&format!("ip route add {subnet} via {HOST}"));
        assert_eq!(world.peer.get(&format!("{}:80", web.endpoint.ip)), None, "past the published port");
        assert_eq!(world.peer.get(&format!("{}:81", web.endpoint.ip)), None);
        assert!(world.peer.unanswered(&format!("{}:81", web.endpoint.ip)));
        assert!(get(&format!("{}:81", web.endpoint.ip)).is_some(), "the host itself may");
        // Without the guard chain the forward chain still stops it, and without both it would be reached.
        let table = &world.store.names().table;
        run(&format!("nft flush chain ip {table} guard"));
        assert_eq!(world.peer.get(&format!("{}:81", web.endpoint.ip)), None);
        run(&format!("nft flush chain ip {table} forward"));
        assert!(world.peer.get(&format!("{}:81", web.endpoint.ip)).is_some(), "so the test can fail");
    });
}

/// CVE-2020-8558: `route_localnet` must not let others at what listens on the host's loopback.
#[test]
fn the_hosts_loopback_is_its_own() {
    alone(|| {
        let world = World::new();
        let web = world.start("web", &["127.0.0.1:8080:80"]);
        let listener = UdpSocket::bind("127.0.0.1:7777").unwrap();
        listener.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let heard = |from: &support::Namespace| {
            from.unanswered("127.0.0.1:7777");
            listener.recv_from(&mut [0; 8]).is_ok()
        };
        let to_loopback = |via: &str, link: &str| {
            format!(
                "echo 1 > /proc/sys/net/ipv4/conf/{link}/route_localnet; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet;\
                 ip route del local 127.0.0.0/8 dev lo table local; ip route del local 127.0.0.1 dev lo table local;\
                 ip route add 127.0.0.0/8 via {via} dev {link}"
            )
        };
        web.inside.run(&to_loopback(&web.endpoint.gateway.to_string(), "eth0"));
        world.peer.run(&to_loopback(HOST, "up0"));
        run("echo 1 > /proc/sys/net/ipv4/conf/up0/route_localnet");
        assert!(!heard(&web.inside));
        assert!(!heard(&world.peer));
        assert_eq!(world.peer.get("127.0.0.1:8080"), None, "published on the loopback only");
        assert!(get("127.0.0.1:8080").is_some());
        run(&format!("nft flush chain ip {} guard", world.store.names().table));
        // A busy machine takes its time; what is stopped is so each time.
        let reaches = |from: &support::Namespace| (0..10).any(|_| heard(from));
        assert!(reaches(&web.inside) && reaches(&world.peer), "so the test can fail");
    });
}

#[test]
fn spoofed_sources_are_dropped() {
    alone(|| {
        let world = World::new();
        let web = world.start("web", &[]);
        let gateway = web.endpoint.gateway;
        let listener = UdpSocket::bind((gateway, 9999)).unwrap();
        listener.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        // The bridge's own guard is in front of it.
        run(&format!("nft delete table bridge {}", world.store.names().table));
        let heard = move |source: &str| {
            let source = source.to_owned();
            web.inside.run(&format!("ip addr replace {source}/32 dev eth0"));
            web.inside.enter(move || {
                let socket = UdpSocket::bind((source.as_str(), 0)).unwrap();
                socket.send_to(b"x", (gateway, 9999)).unwrap();
            });
            let mut buffer = [0; 8];
            listener.recv_from(&mut buffer).is_ok()
        };
        // A busy machine takes its time; what is stopped is so each time.
        let is_let_in = |source: &str| (0..10).any(|_| heard(source));
        assert!(
            is_let_in(&world.network.subnet.unwrap().base().to_string().replace(".0.0", ".2.2")),
            "in the subnet"
        );
        assert!(!heard("203.0.113.9"));
        assert!(!heard("169.254.169.253"), "link-local ones may only be sent to each other");
        assert!(!heard(PEER));
        run(&format!("nft flush chain ip {} guard", world.store.names().table));
        assert!(is_let_in("203.0.113.9"), "so the test can fail");
    });
}

/// CVE-2020-13401: the host takes no route from a container's router advertisement.
#[test]
fn router_advertisements_are_ignored() {
    alone(|| {
        let world = World::new();
        let web = world.start("web", &[]);
        // Type 134, a lifetime of half an hour; the kernel fills in the checksum.
        let send = "echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; \
            ip -6 addr replace fe80::99/64 dev eth0 nodad; \
            python3 -c \"import socket,struct; s=socket.socket(socket.AF_INET6,socket.SOCK_RAW,socket.IPPROTO_ICMPV6); \
            s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_MULTICAST_HOPS,255); \
            s.bind(('fe80::99',0,0,socket.if_nametoindex('eth0'))); \
            s.sendto(struct.pack('!BBHBBHII',134,0,0,64,0,1800,0,0),('ff02::1',0,0,socket.if_nametoindex('eth0')))\"";
        let routes = || {
            web.inside.run(send);
            std::thread::sleep(Duration::from_millis(200));
            run("ip -6 route show default")
        };
        assert_eq!(routes(), "");
        // The bridge's own guard is in front of it.
        run(&format!("nft delete table bridge {}", world.store.names().table));
        assert_eq!(routes(), "");
        let bridge = &world.network.bridge;
        run(&format!("cd /proc/sys/net/ipv6/conf/{bridge} && echo 1 > accept_ra && echo 0 > disable_ipv6"));
        assert!(routes().contains("via fe80::99"), "so the test can fail");
    });
}

/// A client that sends from one UDP port all the time finds a container that comes later, and its successor.
#[test]
fn udp_flows_follow_the_port() {
    alone(|| {
        let world = World::new();
        let ask = || {
            world.peer.enter(|| {
                let socket = UdpSocket::bind((PEER, 4444)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                socket.send_to(b"?", (HOST, 5353)).unwrap();
                socket.recv_from(&mut [0; 64]).is_ok()
            })
        };
        // A busy machine takes its time; a flow that leads astray does so each time.
        let answered = || (0..10).any(|_| ask());
        assert!(!ask());
        let first = world.start("first", &["5353:80/udp"]);
        assert!(answered(), "the flow began before the port was published");
        world.store.detach(&first.endpoint).unwrap();
        let _second = world.start("second", &["5353:80/udp"]);
        assert!(answered(), "and went to a container that is gone");
    });
}

/// A first packet that is lost, because the bridge does not forward yet, would cost a second.
#[test]
fn many_containers_on_one_bridge_answer_at_once() {
    alone(|| {
        let world = World::new();
        for n in 0..20 {
            let container = world.start(&format!("c{n}x"), &[]);
            assert!(
                ask(&format!("{}:80", container.endpoint.ip)).is_some(),
                "the first packet of {n} was lost"
            );
        }
    });
}
