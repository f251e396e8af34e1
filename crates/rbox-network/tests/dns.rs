//! What a container's name server says of its networks. As root, in namespaces of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod dns_world;
mod support;

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dns_world::{
    Networks, Upstream, ask, ask_tcp, ask_udp, config, connect, is_closed, query, receive_tcp, send_tcp,
    serve, told,
};
use simple_dns::TYPE;
use support::{Namespace, alone};

fn two_networks() -> Networks {
    let networks = Networks::new();
    networks.join("front", "172.18.0.2", "a", &["web", "www", "0a1b2c3d4e5f"]);
    networks.join("front", "172.18.0.3", "b", &["api", "all"]);
    networks.join("front", "172.18.0.4", "c", &["api2", "all"]);
    networks.join("front", "172.18.0.5", "dead", &["gone", "all"]);
    networks.join("back.end", "172.19.0.2", "b", &["api"]);
    networks.join("back.end", "172.19.0.3", "d", &["db"]);
    networks.join("back.end", "fd00::3", "d", &["db"]);
    networks.join("back.end", "172.19.0.4", "e", &["cache"]);
    networks
}

#[test]
fn names_of_its_networks() {
    alone(|| {
        let networks = two_networks();
        let upstream = Upstream::plain("127.0.0.53", "192.0.2.80");
        let inside = Namespace::new();
        let known = vec![
            networks.named("front", &[("store", "db")]),
            networks.named("back.end", &[("store", "DB"), ("cache", "db")]),
        ];
        let _serving = serve(&inside, config(&networks.conf(&["127.0.0.53"])), known);
        let a = |name: &str| ask(&inside, name, TYPE::A);

        assert_eq!(a("web"), "172.18.0.2");
        assert_eq!(a("WWW"), "172.18.0.2", "an alias, in any case");
        assert_eq!(a("0a1b2c3d4e5f"), "172.18.0.2", "the short id");
        assert_eq!(a("api"), "172.18.0.3", "the first network that knows it");
        assert_eq!(a("api.front"), "172.18.0.3");
        assert_eq!(a("api.back.end"), "172.19.0.2");
        assert_eq!(a("all"), "172.18.0.3 172.18.0.4", "who lives and shares it");
        assert_eq!(a("store"), "172.19.0.3", "a link");
        assert_eq!(a("cache"), "172.19.0.3", "a link hides a name");
        assert_eq!(ask(&inside, "db", TYPE::AAAA), "fd00::3");
        assert_eq!(ask(&inside, "web", TYPE::AAAA), "", "a name of ours without such an address");
        assert_eq!(ask(&inside, "web", TYPE::MX), "");
        assert_eq!(ask(&inside, "3.0.19.172.in-addr.arpa", TYPE::PTR), "db.back.end");
        assert_eq!(ask_tcp(&inside, "all", TYPE::A), "172.18.0.3 172.18.0.4");
        assert_eq!(upstream.count(), 0, "nothing of this is asked elsewhere");

        assert_eq!(a("gone"), "192.0.2.80", "a name whose container is gone is not ours");
        assert_eq!(a("web.back.end"), "192.0.2.80", "it is not on that network");
        // Names come and go while it serves.
        networks.join("front", "172.18.0.6", "e", &["late"]);
        assert_eq!(a("late"), "172.18.0.6");
        networks.leave("front", "172.18.0.6");
        assert_eq!(a("late"), "192.0.2.80");
    });
}

#[test]
fn more_addresses_than_a_datagram_holds() {
    alone(|| {
        let networks = Networks::new();
        for n in 0..100 {
            networks.join("net", &format!("172.18.1.{n}"), "x", &["many"]);
        }
        let inside = Namespace::new();
        let _serving = serve(&inside, config(&networks.conf(&[])), vec![networks.named("net", &[])]);
        let short = ask(&inside, "many", TYPE::A);
        assert!(short.ends_with(" …") && short.matches("172.18.1.").count() == 30, "{short}");
        let long = inside
            .enter(|| told(&ask_udp(&query("many", TYPE::A, Some(4096)), Duration::from_secs(30)).unwrap()));
        assert!(!long.ends_with('…') && long.matches("172.18.1.").count() == 100, "{long}");
        assert_eq!(ask_tcp(&inside, "many", TYPE::A), long);
    });
}

/// The resolvers that programs have: with the resolv.conf that rbox gives.
#[test]
fn resolvers_of_programs() {
    alone(|| {
        let networks = two_networks();
        let _upstream = Upstream::plain("127.0.0.53", "192.0.2.80");
        let inside = Namespace::new();
        let host_conf = networks.conf(&["127.0.0.53"]);
        let known = vec![networks.named("front", &[]), networks.named("back.end", &[])];
        let _serving = serve(&inside, config(&host_conf), known);
        // Resolvers look at which families the host has addresses of.
        inside
            .run("ip link add eth0 type bridge && ip addr add 172.18.0.9/24 dev eth0 && ip link set eth0 up");
        let host = std::fs::read_to_string(&host_conf).unwrap();
        let text = rbox_network::resolv_conf_inside(&host, &[], &[], &[]);
        let path = networks.0.path().join("inside.conf");
        std::fs::write(&path, text).unwrap();
        let run = |command: &str| {
            let mounted = format!("mount --bind {} /etc/resolv.conf && {command}", path.display());
            inside.run(&format!("unshare --mount --propagation private sh -c '{mounted}'"))
        };
        assert!(run("getent ahosts db").starts_with("fd00::3 "));
        assert!(run("getent ahosts db").contains("172.19.0.3 "));
        assert!(run("getent ahostsv4 web").starts_with("172.18.0.2 "));
        assert!(run("getent ahostsv4 example.org").starts_with("192.0.2.80 "));
        assert_eq!(run("getent hosts 172.18.0.3 | tr -s \" \""), "172.18.0.3 api.front\n");
        let tools = [
            ("dig", "dig +short api.back.end", "172.19.0.2\n"),
            ("dig", "dig +tcp +short -x 172.18.0.3", "api.front.\n"),
            ("busybox", "busybox nslookup web", "Name:\tweb\nAddress: 172.18.0.2"),
        ];
        for (tool, command, expected) in tools {
            if support::run(&format!("command -v {tool} || true")).is_empty() {
                eprintln!("skipped: {command}: there is no {tool} here");
                continue;
            }
            assert!(run(command).contains(expected), "{command}: {}", run(command));
        }
    });
}

#[test]
fn conversations_over_tcp() {
    alone(|| {
        let networks = two_networks();
        let _upstream = Upstream::plain("127.0.0.53", "192.0.2.80");
        let inside = Namespace::new();
        let _serving =
            serve(&inside, config(&networks.conf(&["127.0.0.53"])), vec![networks.named("front", &[])]);
        inside.enter(|| {
            let patience = Duration::from_secs(30);
            let (ours, other) = (query("web", TYPE::A, None), query("example.org", TYPE::A, None));
            // Several questions at once are answered in order, those that are passed on among them.
            let mut stream = connect(patience);
            for message in [&ours, &other, &other, &ours] {
                send_tcp(&mut stream, message);
            }
            let mut next = || told(&receive_tcp(&mut stream).unwrap());
            assert_eq!(
                [next(), next(), next(), next()],
                ["172.18.0.2", "192.0.2.80", "192.0.2.80", "172.18.0.2"]
            );

            // In pieces, and with an end of sending right behind the question.
            let mut stream = connect(patience);
            let bytes = [&u16::try_from(other.len()).unwrap().to_be_bytes(), other.as_slice()].concat();
            for byte in &bytes {
                stream.write_all(&[*byte]).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(told(&receive_tcp(&mut stream).unwrap()), "192.0.2.80");
            assert!(is_closed(&mut stream), "then it is closed");
            for (message, expected) in [(&ours, "172.18.0.2"), (&other, "192.0.2.80")] {
                let mut stream = connect(patience);
                send_tcp(&mut stream, message);
                send_tcp(&mut stream, message);
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                for _ in 0..2 {
                    assert_eq!(told(&receive_tcp(&mut stream).unwrap()), expected);
                }
                assert!(is_closed(&mut stream));
            }

            // Longer than any question.
            let mut long = query("example.org", TYPE::A, None);
            long.resize(1233, 0);
            assert_eq!(told(&ask_udp(&long, patience).unwrap()), "Refused");
            for bad in [&[0xff_u8, 0xff][..], &[0, 0], &[0, 5, 1, 2, 3, 4, 5]] {
                let mut stream = connect(patience);
                stream.write_all(bad).unwrap();
                assert!(is_closed(&mut stream), "{bad:?}");
            }
        });
    });
}

#[test]
fn idle_connections_are_closed_and_others_wait_for_their_places() {
    alone(|| {
        let networks = two_networks();
        let inside = Namespace::new();
        let serving = serve(&inside, config(&networks.conf(&[])), vec![networks.named("front", &[])]);
        inside.enter(|| {
            let begin = Instant::now();
            let mut idle: Vec<_> = (0..64).map(|_| connect(Duration::from_mins(1))).collect();
            let mut late = connect(Duration::from_mins(1));
            send_tcp(&mut late, &query("web", TYPE::A, None));
            let over_udp = ask_udp(&query("web", TYPE::A, None), Duration::from_secs(30));
            assert!(over_udp.is_some(), "UDP is not held up");
            assert_eq!(told(&receive_tcp(&mut late).unwrap()), "172.18.0.2");
            assert!(begin.elapsed().as_secs() >= 9, "{:?}", begin.elapsed());
            assert!(idle.iter_mut().all(is_closed));
        });
        let turns = serving.turns.load(Ordering::Relaxed);
        assert!(turns < 300, "it slept meanwhile: {turns} turns");
    });
}
