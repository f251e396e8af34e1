//! How much a container's name server does in a second. It prints; machines differ too much to hold it to numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

mod dns_world;
mod support;

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dns_world::{Networks, SERVER, Upstream, config, query, serve};
use rbox_network::{Dns, DnsConfig};
use simple_dns::TYPE;
use support::{Namespace, alone};

const NAMES: usize = 1000;

/// Asks `messages` in turn for a second, `window` at once; how many were answered.
fn load(inside: &Namespace, messages: Vec<Vec<u8>>, window: usize) -> usize {
    inside.enter(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(SERVER).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (begin, mut buffer) = (Instant::now(), [0; 512]);
        let mut next = messages.iter().cycle();
        let mut send = || socket.send(next.next().unwrap()).unwrap();
        for _ in 0..window {
            send();
        }
        let mut answered = 0;
        while begin.elapsed() < Duration::from_secs(1) {
            let length = socket.recv(&mut buffer).expect("an answer");
            assert_eq!(buffer[3] & 0x0f, 0, "{:02x?}", &buffer[..length]);
            answered += 1;
            send();
        }
        answered
    })
}

#[test]
fn questions_a_second() {
    alone(|| {
        let networks = Networks::new();
        for n in 0..NAMES {
            let ip = format!("172.18.{}.{}", n / 250, n % 250 + 1);
            networks.join("net", &ip, &format!("{n:064x}"), &[&format!("container-{n}")]);
        }
        let _upstream = Upstream::plain("127.0.0.53", "192.0.2.80");
        let inside = Namespace::new();
        let _serving =
            serve(&inside, config(&networks.conf(&["127.0.0.53"])), vec![networks.named("net", &[])]);
        let own: Vec<_> = (0..NAMES).map(|n| query(&format!("container-{n}"), TYPE::A, None)).collect();
        let back: Vec<_> =
            (0..250).map(|n| query(&format!("{}.0.18.172.in-addr.arpa", n + 1), TYPE::PTR, None)).collect();
        let other: Vec<_> =
            (0..NAMES).map(|n| query(&format!("host-{n}.example.org"), TYPE::A, None)).collect();
        for (what, messages) in
            [("one of 1,000 names", own), ("the name of an address", back), ("passed on", other)]
        {
            for window in [1, 20] {
                let answered = load(&inside, messages.clone(), window);
                println!("{what}, {window} at once: {answered} a second");
                assert!(answered > 100, "{what}: {answered}");
            }
        }
    });
}

/// What a start pays for it.
#[test]
fn opening_is_quick() {
    let mut times: Vec<u128> = (0..100)
        .map(|_| {
            let open = || {
                let inside = std::thread::spawn(|| {
                    rbox_sys::process::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    std::fs::File::open("/proc/thread-self/ns/net").unwrap()
                });
                let inside = inside.join().unwrap();
                let begin = Instant::now();
                let dns = Dns::open(inside.as_fd(), DnsConfig::default()).unwrap();
                (begin.elapsed().as_micros(), dns)
            };
            std::thread::spawn(open).join().unwrap().0
        })
        .collect();
    times.sort_unstable();
    println!("Dns::open: median {} µs, worst {} µs", times[50], times[99]);
}
