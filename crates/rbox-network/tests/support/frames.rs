//! Frames as a container with the right to send raw ones may make them, and who receives them.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Child, Command, Stdio};

use rbox_network::Endpoint;

use super::{Container, Namespace};

pub const ARP: u16 = 0x0806;
pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const ICMPV6: u8 = 58;

pub type Mac = [u8; 6];

/// A frame with a name, which is also in its payload.
pub struct Frame {
    pub name: &'static str,
    bytes: Vec<u8>,
}

/// Ethernet, from `source` to `to`.
pub fn frame(name: &'static str, to: Mac, source: Mac, kind: u16, payload: &[u8]) -> Frame {
    let mut bytes = [&to[..], &source, &kind.to_be_bytes(), payload].concat();
    if kind == ARP || kind == 0x88b5 {
        bytes.extend(mark(name));
    }
    bytes.resize(bytes.len().max(60), 0);
    Frame { name, bytes }
}

fn mark(name: &str) -> Vec<u8> {
    format!("<{name}>").into_bytes()
}

/// The same frame with a VLAN tag.
pub fn tagged(name: &'static str, untagged: &Frame) -> Frame {
    let (addresses, rest) = untagged.bytes.split_at(12);
    let mut bytes = [addresses, &[0x81, 0x00, 0x00, 0x05], rest].concat();
    let old = mark(untagged.name);
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    bytes.splice(at..at + old.len(), [mark(name), vec![0; old.len()]].concat().into_iter().take(old.len()));
    Frame { name, bytes }
}

/// An ARP answer: `ip` is at `mac`.
pub fn arp(mac: Mac, ip: Ipv4Addr, to: &Endpoint) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, 2][..], &mac, &ip.octets(), &to.mac.0, &to.ip.octets()].concat()
}

/// A datagram over IPv4; the kernel looks at the header's checksum.
pub fn ipv4(name: &str, source: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let udp = udp(name);
    let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    header[2..4].copy_from_slice(&((20 + udp.len()) as u16).to_be_bytes());
    header.extend([source.octets(), to.octets()].concat());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    [header, udp].concat()
}

fn udp(name: &str) -> Vec<u8> {
    let payload = mark(name);
    [&[0x1f, 0x90, 0x1f, 0x91][..], &((8 + payload.len()) as u16).to_be_bytes(), &[0, 0], &payload].concat()
}

/// A datagram over IPv6.
pub fn ipv6(name: &str, source: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    ipv6_with(17, &udp(name), source, to)
}

/// An `ICMPv6` message of `kind` whose first address is `about`; behind an empty header of options when `hidden`.
pub fn icmpv6(
    name: &str,
    kind: u8,
    about: Ipv6Addr,
    source: Ipv6Addr,
    to: Ipv6Addr,
    hidden: bool,
) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &about.octets(), &mark(name)].concat();
    if hidden {
        ipv6_with(0, &[&[ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &message].concat(), source, to)
    } else {
        ipv6_with(ICMPV6, &message, source, to)
    }
}

fn ipv6_with(next: u8, payload: &[u8], source: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[next, 255], &source.octets(), &to.octets(), payload].concat()
}

/// Sends the frames from one container and tells which of them another's link receives.
pub fn received(from: &Container, to: &Container, frames: &[Frame]) -> BTreeSet<&'static str> {
    let mut listener = listen(&to.inside);
    let lines: String = frames.iter().map(|frame| hex(&frame.bytes) + "\n").collect();
    from.inside.enter(move || {
        let send = "import socket,sys\n\
            s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW); s.bind(('eth0',0))\n\
            for line in sys.stdin: s.send(bytes.fromhex(line))";
        let mut python = Command::new("python3").args(["-c", send]).stdin(Stdio::piped()).spawn().unwrap();
        python.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(python.wait().unwrap().success());
    });
    // From the host, whom nothing holds back, and who need not ask; what was sent before is there before it.
    let Endpoint { ip, mac, bridge, .. } = &to.endpoint;
    super::run(&format!("ip neigh replace {ip} lladdr {mac} dev {bridge} nud permanent"));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.send_to(b"<end>", (IpAddr::V4(to.endpoint.ip), 9)).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut listener.stdout.take().unwrap(), &mut text).unwrap();
    assert!(listener.wait().unwrap().success(), "the end was not received");
    let all: BTreeSet<&str> = text.split_whitespace().collect();
    frames.iter().map(|frame| frame.name).filter(|name| all.contains(hex(&mark(name)).as_str())).collect()
}

/// Prints the marks of all frames that come to the link, until the last one.
fn listen(inside: &Namespace) -> Child {
    let script = "import socket,re\n\
        s=socket.socket(socket.AF_PACKET,socket.SOCK_RAW,socket.htons(3)); s.bind(('eth0',0)); s.settimeout(5)\n\
        print(flush=True)\n\
        while True:\n\
        \x20frame=s.recv(4096)\n\
        \x20for mark in re.findall(rb'<[^>]*>',frame): print(mark.hex(),flush=True)\n\
        \x20if b'<end>' in frame: break";
    let mut child = inside
        .enter(move || Command::new("python3").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap());
    // It listens by now; nothing else has come yet that is lost with the reader.
    let mut first = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    child
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
