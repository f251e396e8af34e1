//! Bytes that nobody means well with, at a container's name server.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod dns_world;
mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dns_world::{Networks, SERVER, Upstream, ask, ask_tcp, config, plain_answer, query, serve};
use rbox_network::{Action, Lookup, Verdict, decide, judge};
use simple_dns::{Packet, PacketFlag, TYPE};
use support::{Namespace, alone};

/// A small generator (xorshift64*): the same numbers from the same seed.
struct Random(u64);

impl Random {
    /// Seeded by `RBOX_TEST_SEED`, or by the clock; told, so that a failure can be repeated.
    fn new() -> Self {
        let given = std::env::var("RBOX_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = given.unwrap_or(clock.as_nanos() as u64) | 1;
        println!("RBOX_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// Spoils a message in a few places, or makes one up.
    fn spoil(&mut self, message: &mut Vec<u8>) {
        if self.below(20) == 0 {
            *message = (0..self.below(600)).map(|_| self.below(256) as u8).collect();
            return;
        }
        for _ in 0..=self.below(4) {
            let at = self.below(message.len().max(1));
            match self.below(6) {
                0 => message.truncate(at),
                1 => message.insert(at.min(message.len()), self.below(256) as u8),
                2 => message.extend_from_slice(&message.clone()[at.min(message.len())..]),
                // Numbers that lengths, counts and pointers have at their edges.
                3 => message
                    .iter_mut()
                    .skip(at)
                    .take(1)
                    .for_each(|b| *b = [0, 1, 63, 64, 192, 255][self.below(6)]),
                4 => message.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << self.below(8)),
                _ => message.iter_mut().skip(at).take(2).for_each(|b| *b = 0xc0),
            }
        }
    }
}

struct Known;

impl Lookup for Known {
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
        assert!(name.len() <= 253 && name.bytes().all(fits), "{name:?} is asked of the names");
        (name.len() % 2 == 1).then(|| (0..name.len() as u8).map(|n| IpAddr::from([10, 0, 0, n])).collect())
    }

    fn name_of(&self, ip: IpAddr) -> Option<String> {
        Some(format!("{}.{}", "n".repeat(ip.to_string().len() * 5), "net"))
    }
}

fn samples() -> Vec<Vec<u8>> {
    let name = "2.0.18.172.in-addr.arpa";
    vec![
        query("web", TYPE::A, None),
        query("api.back.end", TYPE::AAAA, Some(1232)),
        query(name, TYPE::PTR, None),
        query(&format!("{}.org", "a.".repeat(60)), TYPE::MX, Some(4096)),
    ]
}

#[test]
fn no_message_is_too_odd() {
    let mut random = Random::new();
    let samples = samples();
    let begin = Instant::now();
    let (mut replies, mut taken) = (0, 0);
    while begin.elapsed() < Duration::from_secs(3) {
        let mut message = samples[random.below(samples.len())].clone();
        random.spoil(&mut message);
        let tcp = random.below(2) == 0;
        if let Action::Reply(reply) = decide(&message, &Known, tcp, random.below(2) == 0) {
            replies += 1;
            assert_eq!(reply[..2], message[..2], "the id");
            assert!(reply[2] & 0x80 != 0 && reply.len() >= 12 && (tcp || reply.len() <= 65535));
            // The other implementation refuses types that it does not know.
            let (read, known) = (Packet::parse(&reply), Packet::parse(&message));
            assert!(read.is_ok() || known.is_err(), "{message:02x?} is answered with {reply:02x?}");
        }
        let asked = &samples[random.below(samples.len())];
        let mut answer = plain_answer(asked, true, "192.0.2.1");
        random.spoil(&mut answer);
        if judge(asked, &answer) == Verdict::Answer {
            taken += 1;
            assert!(answer[..2] == asked[..2] && answer[2] & 0x80 != 0 && answer[4..6] == [0, 1]);
            let end = 12 + asked[12..].iter().position(|b| *b == 0).unwrap() + 5;
            assert!(answer[12..end].eq_ignore_ascii_case(&asked[12..end]));
        }
    }
    println!("{replies} replies, {taken} answers taken");
    assert!(replies > 100 && taken > 100, "so that it tries something");
}

/// The same through the sockets: from the container over UDP and TCP, and from an upstream server.
#[test]
fn the_server_goes_on_serving() {
    alone(|| {
        let networks = Networks::new();
        networks.join("net", "172.18.0.2", "a", &["web"]);
        let random = std::sync::Mutex::new(Random::new());
        // A bad answer to the right question is passed on, as it came.
        let honest = Arc::new(AtomicBool::new(false));
        let good_now = honest.clone();
        let _upstream = Upstream::new("127.0.0.53", move |message, _| {
            let mut random = random.lock().unwrap();
            let Ok(packet) = Packet::parse(message) else { return Vec::new() };
            if packet.has_flags(PacketFlag::RESPONSE) || packet.questions.len() != 1 {
                return Vec::new();
            }
            let good = plain_answer(&query("example.org", TYPE::A, None), true, "192.0.2.80");
            let bad = if good_now.load(Ordering::Relaxed) { 0 } else { random.below(4) };
            let mut all: Vec<_> = (0..bad).map(|_| good.clone()).collect();
            for answer in &mut all {
                answer.splice(..2, message[..2].iter().copied());
                random.spoil(answer);
            }
            all.push(plain_answer(message, true, "192.0.2.80"));
            all
        });
        let inside = Namespace::new();
        let _serving =
            serve(&inside, config(&networks.conf(&["127.0.0.53"])), vec![networks.named("net", &[])]);
        inside.enter(|| {
            let mut random = Random::new();
            let samples = samples();
            let begin = Instant::now();
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            udp.connect(SERVER).unwrap();
            udp.set_nonblocking(true).unwrap();
            while begin.elapsed() < Duration::from_secs(3) {
                let mut message = samples[random.below(samples.len())].clone();
                random.spoil(&mut message);
                let _ = udp.send(&message);
                while udp.recv(&mut [0; 2048]).is_ok() {}
                let Ok(mut tcp) = TcpStream::connect(SERVER) else { continue };
                tcp.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                for _ in 0..random.below(3) {
                    let length = message.len() + random.below(3) * random.below(20);
                    let _ = tcp.write_all(&[&(length as u16).to_be_bytes(), message.as_slice()].concat());
                }
                let _ = tcp.read(&mut [0; 64]);
            }
        });
        honest.store(true, Ordering::Relaxed);
        assert_eq!(ask(&inside, "web", TYPE::A), "172.18.0.2");
        assert_eq!(ask_tcp(&inside, "web", TYPE::A), "172.18.0.2");
        assert_eq!(ask(&inside, "example.org", TYPE::A), "192.0.2.80");
    });
}
