//! What a container's name server passes on, to whom, and what it takes for an answer. As root, in namespaces of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod dns_world;
mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dns_world::{
    Heard, Networks, SERVER, Upstream, ask, ask_tcp, ask_udp, code_answer, config, connect, plain_answer,
    query, receive_tcp, send_tcp, serve, told,
};
use rbox_network::DnsConfig;
use simple_dns::{RCODE, TYPE};
use support::{Namespace, alone, run};

/// As many questions are passed on, or wait for it, at once.
const MOST_ON_THE_WAY: usize = 1024;

/// How long something took, in milliseconds.
fn timed<T>(work: impl FnOnce() -> T) -> (T, u128) {
    let begin = Instant::now();
    let out = work();
    (out, begin.elapsed().as_millis())
}

#[test]
fn everything_else_is_asked_of_the_hosts_servers_from_the_host() {
    alone(|| {
        let networks = Networks::new();
        let upstream = Upstream::plain("127.0.0.53", "192.0.2.80");
        let inside = Namespace::new();
        let _serving = serve(&inside, config(&networks.conf(&["127.0.0.53"])), Vec::new());
        assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.80");
        assert_eq!(ask(&inside, "example.org", TYPE::AAAA), "2001:db8::a");
        assert_eq!(ask(&inside, "example.org", TYPE::MX), "");
        assert_eq!(ask_tcp(&inside, "example.org", TYPE::A), "192.0.2.80");
        // It goes on as it came, but for the id: case, EDNS and what is not understood here.
        let mut sent = query("ExAmple.org", TYPE::TXT, Some(4000));
        sent[3] |= 0x20;
        let asked = sent.clone();
        inside.enter(move || ask_udp(&asked, Duration::from_secs(30)));
        let heard = upstream.asked.lock().unwrap().last().unwrap().0.clone();
        assert_eq!(heard[2..], sent[2..]);

        // What does not fit is asked again over TCP; with EDNS it fits.
        assert_eq!(ask(&inside, "900.example.org", TYPE::TXT), "…");
        assert_eq!(ask_tcp(&inside, "900.example.org", TYPE::TXT), "x".repeat(900));
        let large = query("3900.example.org", TYPE::TXT, Some(4096));
        let large = inside.enter(move || ask_udp(&large, Duration::from_secs(30)).unwrap());
        assert_eq!(told(&large), "x".repeat(3900));
        assert_eq!(ask_tcp(&inside, "60000.example.org", TYPE::TXT).len(), 60000);

        // Ids and ports differ each time, so that an answer is hard to forge.
        for _ in 0..30 {
            ask(&inside, "example.org", TYPE::A);
        }
        let asked = upstream.asked.lock().unwrap();
        let last = &asked[asked.len() - 30..];
        let different = |what: &dyn Fn(&Heard) -> u16| {
            last.iter().map(what).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert!(different(&|(message, _)| u16::from_be_bytes([message[0], message[1]])) > 25);
        assert!(different(&|(_, from)| from.port()) > 20);
    });
}

#[test]
fn answers_that_nobody_asked_for_are_not_taken() {
    alone(|| {
        let networks = Networks::new();
        // Forged ones first: another id, another question, no answer, rubbish; in the end the right one.
        let _upstream = Upstream::new("127.0.0.53", |query, tcp| {
            let changed = |change: &dyn Fn(&mut Vec<u8>)| {
                let mut answer = plain_answer(query, true, "6.6.6.6");
                change(&mut answer);
                answer
            };
            let mut all = vec![
                changed(&|a| a[1] ^= 1),
                changed(&|a| a[13] = b'X'),
                changed(&|a| a[2] &= 0x7f),
                changed(&|a| a.truncate(5)),
                changed(&Vec::clear),
            ];
            if tcp {
                all.truncate(1);
            } else {
                all.push(plain_answer(query, true, "192.0.2.80"));
            }
            all
        });
        let _second = Upstream::plain("127.0.0.54", "192.0.2.81");
        let inside = Namespace::new();
        let _serving = serve(&inside, config(&networks.conf(&["127.0.0.53", "127.0.0.54"])), Vec::new());
        for _ in 0..20 {
            assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.80");
        }
        // Over TCP a server that answers something else is given up.
        assert_eq!(ask_tcp(&inside, "example.org", TYPE::A), "192.0.2.81");
    });
}

/// The sockets take packets of the server that was asked only.
#[test]
fn answers_of_others_are_not_taken() {
    alone(|| {
        let networks = Networks::new();
        let _upstream = Upstream::new("127.0.0.53", |query, _| {
            std::thread::sleep(Duration::from_millis(300));
            vec![plain_answer(query, true, "192.0.2.80")]
        });
        let inside = Namespace::new();
        let _serving = serve(&inside, config(&networks.conf(&["127.0.0.53"])), Vec::new());
        // Somebody who sees the question, and is quicker, from another address and from another port.
        let raw = rustix::net::socket_with(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::RAW,
            rustix::net::SocketFlags::CLOEXEC,
            Some(rustix::net::ipproto::UDP),
        )
        .unwrap();
        let forged = Arc::new(AtomicUsize::new(0));
        let count = forged.clone();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 4096];
            while let Ok((length, _)) =
                rustix::net::recv(&raw, buffer.as_mut_slice(), rustix::net::RecvFlags::empty())
            {
                let packet = &buffer[..length];
                let (ports, message) = (&packet[20..24], &packet[28..]);
                if ports[2..] == [0, 53] && message[2] & 0x80 == 0 {
                    let to = ("127.0.0.1", u16::from_be_bytes([ports[0], ports[1]]));
                    let answer = plain_answer(message, true, "6.6.6.6");
                    for from in ["127.0.0.54:53", "127.0.0.53:5353"] {
                        UdpSocket::bind(from).unwrap().send_to(&answer, to).unwrap();
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.80");
        assert!(forged.load(Ordering::Relaxed) >= 2, "so the test can fail");
    });
}

#[test]
fn a_server_that_fails_is_passed_over() {
    alone(|| {
        let networks = Networks::new();
        let silent = Upstream::new("127.0.0.61", |_, _| Vec::new());
        let failing = Upstream::new("127.0.0.62", |query, _| vec![code_answer(query, RCODE::ServerFailure)]);
        let refusing = Upstream::new("127.0.0.63", |query, _| vec![code_answer(query, RCODE::Refused)]);
        let missing = Upstream::new("127.0.0.64", |query, _| vec![code_answer(query, RCODE::NameError)]);
        let _good = Upstream::plain("127.0.0.65", "192.0.2.80");
        // Nobody is at 127.0.0.66.
        let inside = Namespace::new();
        let conf = networks.conf(&["127.0.0.65"]);
        let _serving = serve(&inside, config(&conf), Vec::new());
        let both = |servers: &[&str]| {
            networks.conf(servers);
            let (udp, udp_took) = timed(|| ask(&inside, "example.org", TYPE::A));
            let (tcp, tcp_took) = timed(|| ask_tcp(&inside, "example.org", TYPE::A));
            assert_eq!(udp, tcp, "{servers:?}");
            (udp, udp_took, tcp_took)
        };
        // A busy machine has its turns: once in five, nobody waits for the two seconds that a silent server gets.
        let at_once = |servers: &[&str], expected: &str| {
            (0..5).any(|_| {
                let (told, udp, tcp) = both(servers);
                assert_eq!(told, expected, "{servers:?}");
                udp < 1900 && tcp < 1900
            })
        };
        assert!(at_once(&["127.0.0.62", "127.0.0.63", "127.0.0.65"], "192.0.2.80"));
        assert!(failing.count() >= 2 && refusing.count() == failing.count());
        assert!(at_once(&["127.0.0.66", "127.0.0.65"], "192.0.2.80"));
        let (told, udp, tcp) = both(&["127.0.0.61", "127.0.0.65"]);
        assert!(told == "192.0.2.80" && udp >= 1900 && tcp >= 3900, "{told} {udp} {tcp}");
        assert_eq!(silent.count(), 2);
        // That there is no such name is an answer.
        let (told, ..) = both(&["127.0.0.64", "127.0.0.65"]);
        assert_eq!(told, "NameError");
        assert_eq!(missing.count(), 2);
        assert!(at_once(&["127.0.0.62", "127.0.0.66"], "ServerFailure"));
        let (told, udp, tcp) = both(&["127.0.0.61", "127.0.0.66"]);
        assert!(told == "ServerFailure" && udp >= 3900 && tcp >= 3900, "{told} {udp} {tcp}");
    });
}

#[test]
fn a_packet_that_is_lost_is_sent_again() {
    alone(|| {
        let networks = Networks::new();
        let lost = AtomicBool::new(false);
        let upstream = Upstream::new("127.0.0.53", move |query, _| {
            let again = lost.swap(true, Ordering::Relaxed);
            if again { vec![plain_answer(query, true, "192.0.2.80")] } else { Vec::new() }
        });
        let inside = Namespace::new();
        let _serving = serve(&inside, config(&networks.conf(&["127.0.0.53"])), Vec::new());
        let (told, took) = timed(|| ask(&inside, "example.org", TYPE::A));
        assert!(told == "192.0.2.80" && took >= 1900, "{told} {took}");
        let asked = upstream.asked.lock().unwrap();
        assert_eq!(asked[0], asked[1], "the same message from the same port, so that a late answer counts");
    });
}

#[test]
fn servers_that_the_user_named_are_asked_from_the_container() {
    alone(|| {
        let networks = Networks::new();
        let _host = Upstream::plain("127.0.0.53", "192.0.2.1");
        let host = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let inside = Namespace::new();
        inside.run("ip link set lo up && ip addr add 192.0.2.53/32 dev lo");
        inside.run("ip addr add 2001:db8::53/128 dev lo nodad");
        let (four, six) = inside.enter(|| {
            let silent = Upstream::new("192.0.2.53", |query, _| vec![code_answer(query, RCODE::Refused)]);
            (silent, Upstream::plain("2001:db8::53", "192.0.2.2"))
        });
        let servers = ["127.0.0.11", "192.0.2.53", "2001:db8::53"].map(|ip| ip.parse().unwrap());
        let config = DnsConfig {
            servers: servers.into(),
            host_allowed: false,
            ..config(&networks.conf(&["127.0.0.53"]))
        };
        let _serving = serve(&inside, config, Vec::new());
        assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.2", "also on an internal network");
        assert_eq!(ask_tcp(&inside, "example.org", TYPE::A), "192.0.2.2");
        assert_eq!((four.count(), six.count()), (2, 2));
        let now = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert_eq!(now, host, "opening it, this thread came back");
    });
}

#[test]
fn on_internal_networks_the_host_is_not_asked() {
    alone(|| {
        let networks = Networks::new();
        networks.join("net", "172.18.0.2", "a", &["web"]);
        let upstream = Upstream::plain("127.0.0.53", "192.0.2.80");
        let inside = Namespace::new();
        let config = DnsConfig { host_allowed: false, ..config(&networks.conf(&["127.0.0.53"])) };
        let _serving = serve(&inside, config, vec![networks.named("net", &[])]);
        for ask in [ask, ask_tcp] {
            assert_eq!(ask(&inside, "web", TYPE::A), "172.18.0.2");
            assert_eq!(ask(&inside, "example.org", TYPE::A), "ServerFailure");
        }
        assert_eq!(upstream.count(), 0);
    });
}

#[test]
fn the_hosts_servers_are_read_again_when_they_change() {
    alone(|| {
        let networks = Networks::new();
        let _one = Upstream::plain("127.0.0.53", "192.0.2.1");
        let _two = Upstream::plain("127.0.0.1", "192.0.2.2");
        run("ip addr add fe80::53/64 dev lo nodad");
        let inside = Namespace::new();
        let conf = networks.conf(&["127.0.0.53"]);
        let _serving = serve(&inside, config(&conf), Vec::new());
        assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.1");
        std::fs::write(&conf, "# none\n").unwrap();
        assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.2", "as the C library does");
        // By a rename, and to a server on a link.
        let other = conf.with_extension("new");
        std::fs::write(&other, "nameserver fe80::53%lo\n").unwrap();
        std::fs::rename(&other, &conf).unwrap();
        let link_local =
            UdpSocket::bind(std::net::SocketAddrV6::new("fe80::53".parse().unwrap(), 53, 0, 1)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, from) = link_local.recv_from(&mut buffer).unwrap();
            link_local.send_to(&plain_answer(&buffer[..length], false, "192.0.2.3"), from).unwrap();
        });
        assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.3");
        std::fs::remove_file(&conf).unwrap();
        assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.2");
    });
}

/// Nobody answers, and far more is asked than can be waited for: each gets an answer, names of ours meanwhile at once.
#[test]
fn a_flood_is_borne() {
    alone(|| {
        let networks = Networks::new();
        networks.join("net", "172.18.0.2", "a", &["web"]);
        let slow = Arc::new(AtomicBool::new(true));
        let silent = slow.clone();
        let upstream = Upstream::new("127.0.0.53", move |query, _| {
            if silent.load(Ordering::Relaxed) {
                Vec::new()
            } else {
                vec![plain_answer(query, true, "192.0.2.80")]
            }
        });
        let inside = Namespace::new();
        let _serving =
            serve(&inside, config(&networks.conf(&["127.0.0.53"])), vec![networks.named("net", &[])]);
        let codes = inside.enter(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(SERVER).unwrap();
            let receiver = socket.try_clone().unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            // All that are waited for in vain are answered in one moment.
            rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, 16 << 20).unwrap();
            let answers = Arc::new(AtomicUsize::new(0));
            let counted = answers.clone();
            let receiving = std::thread::spawn(move || {
                let mut codes = std::collections::BTreeMap::new();
                let mut buffer = [0; 512];
                while let Ok(length) = receiver.recv(&mut buffer) {
                    *codes.entry(dns_world::told(&buffer[..length])).or_insert(0) += 1;
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                codes
            });
            for n in 0..3000_u16 {
                let mut message = query("example.org", TYPE::A, None);
                message[..2].copy_from_slice(&n.to_be_bytes());
                socket.send(&message).unwrap();
                // The sockets' buffers are not what is tried here: once as many wait as can, each further one is refused
                // before the next fifty come.
                let begin = Instant::now();
                let is_behind = || usize::from(n) > answers.load(Ordering::Relaxed) + MOST_ON_THE_WAY + 50;
                while n % 50 == 0 && is_behind() && begin.elapsed() < Duration::from_secs(30) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if n % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            let ours = query("web", TYPE::A, None);
            assert_eq!(told(&ask_udp(&ours, Duration::from_secs(30)).unwrap()), "172.18.0.2");
            receiving.join().unwrap()
        });
        eprintln!("{codes:?}");
        let refused = codes.get("Refused").copied().unwrap_or(0);
        assert!(refused > 0, "more than can be waited for: {codes:?}");
        assert!(codes.values().sum::<usize>() > 2900, "each is answered: {codes:?}");
        assert!(upstream.count() <= 2 * (3000 - refused), "{} were asked: {codes:?}", upstream.count());
        slow.store(false, Ordering::Relaxed);
        // What was under way has ended, and it is as before.
        assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.80");
    });
}

/// A client over TCP that goes away while its question is under way takes it along.
#[test]
fn a_client_that_goes_is_forgotten() {
    alone(|| {
        let networks = Networks::new();
        let _upstream = Upstream::new("127.0.0.53", |query, _| {
            std::thread::sleep(Duration::from_millis(500));
            vec![plain_answer(query, true, "192.0.2.80")]
        });
        let inside = Namespace::new();
        let serving = serve(&inside, config(&networks.conf(&["127.0.0.53"])), Vec::new());
        inside.enter(|| {
            for _ in 0..100 {
                let mut stream = connect(Duration::from_secs(30));
                send_tcp(&mut stream, &query("example.org", TYPE::A, None));
                // With a reset: after an end the answer might still be read.
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            }
            let mut stream = connect(Duration::from_secs(30));
            send_tcp(&mut stream, &query("example.org", TYPE::A, None));
            assert_eq!(told(&receive_tcp(&mut stream).unwrap()), "192.0.2.80");
        });
        let turns = serving.turns.load(Ordering::Relaxed);
        assert!(turns < 2000, "nothing spins: {turns} turns");
    });
}
