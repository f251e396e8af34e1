//! The way to the name server inside a container. As root, in namespaces of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rbox_network::redirect_dns;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink};
use support::{alone, run};

const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

fn netfilter_socket() -> OwnedFd {
    let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(netlink::NETFILTER)).unwrap()
}

/// A server on ports of the kernel's choice, which answers with the port it saw the client at; its ports.
fn serve() -> (u16, u16) {
    let (udp, tcp) = (UdpSocket::bind((SERVER, 0)).unwrap(), TcpListener::bind((SERVER, 0)).unwrap());
    let ports = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
    std::thread::spawn(move || {
        let mut buffer = [0; 9000];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            udp.send_to(&buffer[..length], from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            stream.write_all(&text).unwrap();
        }
    });
    ports
}

/// Asks as a resolver does: connected, so that an answer from another address or port is not taken.
fn asked(text: &[u8]) -> bool {
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    udp.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    udp.connect((SERVER, 53)).unwrap();
    udp.send(text).unwrap();
    let mut buffer = [0; 9000];
    udp.recv(&mut buffer).is_ok_and(|length| &buffer[..length] == text)
}

fn asked_by_tcp(text: &[u8]) -> bool {
    let to = SocketAddr::from((SERVER, 53));
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_millis(500)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(text).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).is_ok() && back == text
}

#[test]
fn questions_to_port_53_reach_the_servers_ports() {
    alone(|| {
        let (udp, tcp) = serve();
        assert!(!asked(b"?") && !asked_by_tcp(b"?"), "nothing is at port 53 yet");
        redirect_dns(netfilter_socket(), udp, tcp).unwrap();
        let long = vec![b'x'; 8000];
        assert!(asked(b"?") && asked(&long));
        assert!(asked_by_tcp(b"?") && asked_by_tcp(&long.repeat(50)));

        let told = run("nft list table ip rbox");
        for expected in [
            "type filter hook output priority 300; policy accept;",
            &format!("ip daddr 127.0.0.11 udp dport 53 udp dport set {udp}"),
            &format!("ip daddr 127.0.0.11 tcp dport 53 tcp dport set {tcp}"),
            "type filter hook output priority raw; policy accept;",
            &format!("ip saddr 127.0.0.11 udp sport {udp} udp sport set 53"),
            &format!("ip saddr 127.0.0.11 tcp sport {tcp} tcp sport set 53"),
        ] {
            assert!(told.contains(expected), "no {expected:?} in\n{told}");
        }
        // A program of the container's own at port 53 hears what is meant for it, and answers from there.
        let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        own.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let _listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client.send_to(b"own", (Ipv4Addr::LOCALHOST, 53)).unwrap();
        assert_eq!(own.recv_from(&mut [0; 8]).unwrap().0, 3);
        assert!(asked(b"?") && asked_by_tcp(b"?"));
    });
}

#[test]
fn a_container_that_tracks_connections_sees_port_53_both_ways() {
    alone(|| {
        let (udp, tcp) = serve();
        redirect_dns(netfilter_socket(), udp, tcp).unwrap();
        run("nft -f - <<'RULES'
table ip own {
  chain out { type filter hook output priority filter; policy drop;
    ct state established accept
    udp dport 53 accept
    tcp dport 53 accept
  }
}
RULES");
        assert!(asked(b"?") && asked_by_tcp(b"?"));
    });
}

#[test]
fn it_can_be_repeated_with_other_ports_and_is_quick() {
    alone(|| {
        let (udp, tcp) = serve();
        redirect_dns(netfilter_socket(), 1, 2).unwrap();
        assert!(!asked(b"?"));
        redirect_dns(netfilter_socket(), udp, tcp).unwrap();
        assert!(asked(b"?") && asked_by_tcp(b"?"));
        assert_eq!(run("nft list table ip rbox").matches(" set ").count(), 4, "each rule once");
    });
    // Each time in a namespace of its own, as containers have.
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            std::thread::spawn(|| {
                rbox_sys::process::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                let socket = netfilter_socket();
                let begin = Instant::now();
                redirect_dns(socket, 40001, 40002).unwrap();
                begin.elapsed().as_micros()
            })
            .join()
            .unwrap()
        })
        .collect();
    times.sort_unstable();
    println!("redirect_dns: median {} µs, worst {} µs", times[100], times[199]);
    assert!(times[100] < 5000, "the aim is 150 µs; this machine is shared");
}
