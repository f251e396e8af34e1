//! A container with a name server, name servers to pass on to, and somebody who asks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "shared by several test binaries"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rbox_network::{Dns, DnsConfig, NameStore, NamedNetwork, NetworkNames};
use rustix::event::{PollFd, PollFlags, Timespec};
use simple_dns::rdata::{A, AAAA, RData, TXT};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::support::Namespace;

/// Where a container asks.
pub const SERVER: &str = "127.0.0.11:53";

/// The live state of networks, as the store keeps it.
pub struct Networks(pub tempfile::TempDir);

impl Networks {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn state(&self, network: &str) -> PathBuf {
        self.0.path().join(network)
    }

    /// Takes an address on the network for a container, and gives it names.
    pub fn join(&self, network: &str, ip: &str, container: &str, names: &[&str]) {
        let addresses = self.state(network).join("addresses");
        std::fs::create_dir_all(&addresses).unwrap();
        std::fs::write(addresses.join(ip), container).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        NameStore::new(self.state(network)).admit(ip.parse().unwrap(), &names).unwrap();
    }

    pub fn leave(&self, network: &str, ip: &str) {
        std::fs::remove_file(self.state(network).join("addresses").join(ip)).unwrap();
    }

    pub fn named(&self, network: &str, links: &[(&str, &str)]) -> NamedNetwork {
        let links = links.iter().map(|(alias, target)| ((*alias).to_owned(), (*target).to_owned()));
        NamedNetwork {
            name: network.into(),
            names: NameStore::new(self.state(network)),
            links: links.collect(),
        }
    }

    /// A file like the host's resolv.conf.
    pub fn conf(&self, servers: &[&str]) -> PathBuf {
        let path = self.0.path().join("resolv.conf");
        let lines: Vec<String> = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        std::fs::write(&path, lines.concat()).unwrap();
        path
    }
}

/// A monitor that does nothing but serve names, on a thread in the test's namespace.
pub struct Serving {
    thread: Option<JoinHandle<()>>,
    stop: Option<OwnedFd>,
    /// Times that poll(2) came back.
    pub turns: Arc<AtomicUsize>,
}

pub fn serve(inside: &Namespace, config: DnsConfig, networks: Vec<NamedNetwork>) -> Serving {
    let mut dns = Dns::open(inside.fd.as_fd(), config).unwrap();
    let (stopped, stop) = rustix::pipe::pipe().unwrap();
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = turns.clone();
    let thread = std::thread::spawn(move || {
        let names = NetworkNames { networks, is_live: Box::new(|id| !id.starts_with("dead")) };
        loop {
            let mut fds = vec![PollFd::new(&stopped, PollFlags::IN)];
            dns.poll_fds(&mut fds);
            let timeout = dns.timeout().map(|left| Timespec::try_from(left).unwrap());
            rustix::event::poll(&mut fds, timeout.as_ref()).unwrap();
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready[0] {
                return;
            }
            dns.turn(&ready[1..], &names);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    Serving { thread: Some(thread), stop: Some(stop), turns }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the server panicked");
    }
}

pub fn query(name: &str, kind: TYPE, edns: Option<u16>) -> Vec<u8> {
    let mut packet = Packet::new_query(rand16());
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new_unchecked(name);
    packet.questions.push(simple_dns::Question::new(
        name,
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    if let Some(udp_packet_size) = edns {
        *packet.opt_mut() =
            Some(simple_dns::rdata::OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 });
    }
    packet.build_bytes_vec().unwrap()
}

pub fn rand16() -> u16 {
    let mut bytes = [0; 2];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).unwrap();
    u16::from_ne_bytes(bytes)
}

/// Sends a query over UDP from here; the answer.
pub fn ask_udp(query: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.connect(SERVER).unwrap();
    socket.send(query).unwrap();
    let mut buffer = vec![0; 65536];
    let length = socket.recv(&mut buffer).ok()?;
    buffer.truncate(length);
    assert_eq!(buffer[..2], query[..2], "the id that was asked with");
    Some(buffer)
}

pub fn send_tcp(stream: &mut TcpStream, message: &[u8]) {
    try_send_tcp(stream, message).unwrap();
}

pub fn try_send_tcp(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, message].concat())
}

pub fn receive_tcp(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// Whether the other side closes, and sends nothing before.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

pub fn connect(patience: Duration) -> TcpStream {
    let stream = TcpStream::connect(SERVER).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream
}

/// What an answer says: its code, its records as text in order, `…` when it was cut short.
pub fn told(answer: &[u8]) -> String {
    let packet = Packet::parse(answer).unwrap();
    let mut words: Vec<String> = packet.answers.iter().map(|record| text(&record.rdata)).collect();
    words.sort();
    match packet.rcode() {
        RCODE::NoError => {}
        code => words.insert(0, format!("{code:?}")),
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        words.push("…".into());
    }
    words.join(" ")
}

fn text(data: &RData<'_>) -> String {
    match data {
        RData::A(a) => Ipv4Addr::from(a.address).to_string(),
        RData::AAAA(a) => IpAddr::from(a.address.to_be_bytes()).to_string(),
        RData::PTR(name) => name.0.to_string(),
        RData::TXT(text) => String::try_from(text.clone()).unwrap(),
        other => format!("{other:?}"),
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

/// Asks over UDP, inside.
pub fn ask(inside: &Namespace, name: &str, kind: TYPE) -> String {
    let query = query(name, kind, None);
    inside.enter(move || told(&ask_udp(&query, PATIENCE).expect("an answer")))
}

/// Asks over TCP, inside.
pub fn ask_tcp(inside: &Namespace, name: &str, kind: TYPE) -> String {
    let query = query(name, kind, None);
    inside.enter(move || {
        let mut stream = connect(PATIENCE);
        send_tcp(&mut stream, &query);
        told(&receive_tcp(&mut stream).expect("an answer"))
    })
}

/// What a test's name server sends back to a message over UDP (any number of messages) or TCP.
pub type Behaviour = dyn Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync;

/// A message and who sent it.
pub type Heard = (Vec<u8>, SocketAddr);

/// A name server in the calling thread's namespace; it ends with the test's process.
pub struct Upstream {
    /// What it was sent.
    pub asked: Arc<Mutex<Vec<Heard>>>,
}

impl Upstream {
    pub fn new(ip: &str, behaviour: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let ip: IpAddr = ip.parse().unwrap();
        let (udp, tcp) = (UdpSocket::bind((ip, 53)).unwrap(), TcpListener::bind((ip, 53)).unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (heard, over_udp) = (asked.clone(), behaviour.clone());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                heard.lock().unwrap().push((buffer[..length].to_vec(), from));
                for answer in over_udp(&buffer[..length], false) {
                    udp.send_to(&answer, from).unwrap();
                }
            }
        });
        let heard = asked.clone();
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let (mut stream, heard, behaviour) = (stream.unwrap(), heard.clone(), behaviour.clone());
                std::thread::spawn(move || {
                    while let Some(message) = receive_tcp(&mut stream) {
                        heard.lock().unwrap().push((message.clone(), stream.peer_addr().unwrap()));
                        for answer in behaviour(&message, true) {
                            // Who asked may have gone.
                            let _ = try_send_tcp(&mut stream, &answer);
                        }
                    }
                });
            }
        });
        Self { asked }
    }

    /// One that answers every A with `address`, AAAA with `2001:db8::a`, TXT with a text of the length that the
    /// name's first label tells.
    pub fn plain(ip: &str, address: &'static str) -> Self {
        Self::new(ip, move |query, tcp| vec![plain_answer(query, tcp, address)])
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

pub fn plain_answer(query: &[u8], tcp: bool, address: &str) -> Vec<u8> {
    let asked = Packet::parse(query).unwrap();
    let mut reply = Packet::new_reply(asked.id());
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    reply.questions.clone_from(&asked.questions);
    let name = asked.questions[0].qname.clone();
    let mut add = |data| reply.answers.push(ResourceRecord::new(name.clone(), CLASS::IN, 60, data));
    match asked.questions[0].qtype {
        QTYPE::TYPE(TYPE::A) => add(RData::A(A::from(address.parse::<Ipv4Addr>().unwrap()))),
        QTYPE::TYPE(TYPE::AAAA) => {
            add(RData::AAAA(AAAA::from("2001:db8::a".parse::<std::net::Ipv6Addr>().unwrap())));
        }
        QTYPE::TYPE(TYPE::TXT) => {
            let length: usize = name.to_string().split('.').next().unwrap().parse().unwrap_or(5);
            // A few strings of at most 255 bytes.
            let mut text = TXT::new();
            for part in "x".repeat(length).as_bytes().chunks(200) {
                text = text.with_string(std::str::from_utf8(part).unwrap()).unwrap().into_owned();
            }
            add(RData::TXT(text));
        }
        _ => {}
    }
    let bytes = reply.build_bytes_vec().unwrap();
    let longest = asked.opt().map_or(512, |opt| usize::from(opt.udp_packet_size));
    if !tcp && bytes.len() > longest {
        reply.answers.clear();
        reply.set_flags(PacketFlag::TRUNCATION);
        return reply.build_bytes_vec().unwrap();
    }
    bytes
}

/// The answer with this code and nothing else.
pub fn code_answer(query: &[u8], code: RCODE) -> Vec<u8> {
    let asked = Packet::parse(query).unwrap();
    let mut reply = Packet::new_reply(asked.id());
    *reply.rcode_mut() = code;
    reply.questions.clone_from(&asked.questions);
    reply.build_bytes_vec().unwrap()
}

pub fn config(host_conf: &Path) -> DnsConfig {
    DnsConfig { host_conf: host_conf.into(), ..DnsConfig::default() }
}
