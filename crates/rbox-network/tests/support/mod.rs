//! A small world for the tests: a "host" in a network namespace of its own, a peer host on a link to it, containers.
//! Nothing of the machine's own network namespace is touched.
//!
//! Namespaces belong to threads: the test's thread is the host, a `sleep` holds each other one.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "shared by several test binaries"
)]

pub mod frames;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use rbox_network::{Endpoint, Names, Network, NetworkStore, NewNetwork, Wish, configure_inside};
use rbox_spec::port::PublishedPort;
use rbox_sys::process::{join_namespaces, unshare};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub const HOST: &str = "198.51.100.1";
pub const PEER: &str = "198.51.100.2";
pub const HOST6: &str = "2001:db8:51::1";
pub const PEER6: &str = "2001:db8:51::2";

/// Runs `test` on a thread that is alone in a new network namespace with its loopback up.
pub fn alone(test: impl FnOnce() + Send + 'static) {
    let done = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        // New namespaces begin with what the machine has.
        run(
            "ip link set lo up; echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter",
        );
        test();
    });
    if let Err(panic) = done.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a shell command here; its output.
pub fn run(command: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(command).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace held by a process.
pub struct Namespace {
    holder: Child,
    pub fd: File,
}

impl Namespace {
    pub fn new() -> Self {
        let holder = Command::new("unshare").args(["--net", "sleep", "600"]).spawn().unwrap();
        let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let path = format!("/proc/{}/ns/net", holder.id());
        let begin = Instant::now();
        while std::fs::read_link(&path).unwrap() == ours {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(2));
        }
        Self { fd: File::open(&path).unwrap(), holder }
    }

    /// The process that holds it.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// Runs `work` on a thread in this namespace.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let fd = self.fd.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            join_namespaces(fd.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    pub fn run(&self, command: &str) -> String {
        let command = command.to_owned();
        self.enter(move || run(&command))
    }

    pub fn route_socket(&self) -> OwnedFd {
        self.enter(|| {
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
                .unwrap()
        })
    }

    pub fn get(&self, to: &str) -> Option<String> {
        let to = to.to_owned();
        self.enter(move || get(&to))
    }

    pub fn ask(&self, to: &str) -> Option<String> {
        let to = to.to_owned();
        self.enter(move || ask(&to))
    }

    pub fn unanswered(&self, to: &str) -> bool {
        let to = to.to_owned();
        self.enter(move || unanswered(&to))
    }

    /// Serves TCP and UDP on `port`: answers with the client's address.
    pub fn serve(&self, port: u16) {
        self.enter(move || serve(port));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// How long an answer that must come is waited for: far longer than a busy machine takes.
const LONG: Duration = Duration::from_secs(30);

/// How long one that must not come is listened for.
const SHORT: Duration = Duration::from_millis(500);

/// Connects by TCP and returns what is sent: the address the server sees. A first packet that is lost is sent again after
/// a second.
pub fn get(to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(2500)).ok()?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Sends a datagram and returns the answer that must come, the address the server sees; nothing when it is refused.
pub fn ask(to: &str) -> Option<String> {
    ask_for(to, LONG)
}

/// Whether a datagram to there gets no answer.
pub fn unanswered(to: &str) -> bool {
    ask_for(to, SHORT).is_none()
}

/// Whether a connection to there is refused, and not left waiting.
pub fn is_refused(to: &str) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    TcpStream::connect_timeout(&to, LONG)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn ask_for(to: &str, patience: Duration) -> Option<String> {
    let any =
        if to.starts_with('[') { Ipv6Addr::UNSPECIFIED.into() } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.connect(to).ok()?;
    socket.send(b"?").ok()?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Serves in the calling thread's namespace until the test process ends, on every address of both families.
pub fn serve(port: u16) {
    // Else, with one socket for both, a client's IPv4 address would look like an IPv6 one.
    std::fs::write("/proc/sys/net/ipv6/bindv6only", "1").unwrap();
    for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let (tcp, udp) = (TcpListener::bind((any, port)).unwrap(), UdpSocket::bind((any, port)).unwrap());
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let Ok(mut stream) = stream else { continue };
                let peer = stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default();
                let _ = stream.write_all(peer.as_bytes());
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(from.ip().to_string().as_bytes(), from);
            }
        });
    }
}

/// A host with an uplink to a peer.
pub struct World {
    pub store: NetworkStore,
    pub network: Network,
    pub peer: Namespace,
    pub directory: tempfile::TempDir,
}

pub struct Container {
    pub inside: Namespace,
    pub endpoint: Endpoint,
}

impl World {
    pub fn new() -> Self {
        let peer = Namespace::new();
        run(&format!(
            "ip link add up0 type veth peer name up0 netns {} && ip addr add {HOST}/24 dev up0 && \
             ip link set up0 up && ip addr add {HOST6}/64 dev up0 nodad",
            peer.holder.id()
        ));
        peer.run(&format!(
            "ip link set lo up; ip addr add {PEER}/24 dev up0; ip link set up0 up; \
             ip addr add {PEER6}/64 dev up0 nodad"
        ));
        // Asking for a link makes the kernel act on its carrier now; else the first packet may be lost.
        run("ip link show dev up0");
        peer.run("ip link show dev up0");
        // IPv6 takes its addresses into use some time later; a refusal has been there and back.
        peer.enter(|| {
            let to = SocketAddr::new(HOST6.parse().unwrap(), 1);
            let refused = || {
                let answer = TcpStream::connect_timeout(&to, Duration::from_millis(100));
                answer.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
            };
            let begin = Instant::now();
            while !refused() {
                assert!(begin.elapsed() < Duration::from_secs(10), "no IPv6 between host and peer");
            }
        });
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let network = store.bridge().unwrap();
        store.ensure(&network, &Vec::new).unwrap();
        Self { store, network, peer, directory }
    }

    pub fn start(&self, name: &str, ports: &[&str]) -> Container {
        let ports = ports.iter().map(|port| published(port)).collect();
        self.start_on(&self.network, &Wish { ports, ..wish(&format!("{name:0<64}")) })
    }

    /// A network made as a user would.
    pub fn network(&self, asked: &NewNetwork) -> Network {
        self.store.create(asked, &Vec::new).unwrap()
    }

    /// One with IPv6.
    pub fn six(&self) -> Network {
        let subnets = vec!["fd00:172:31::/64".into()];
        self.network(&NewNetwork { name: "six".into(), ipv6: true, subnets, ..NewNetwork::default() })
    }

    /// A container on `network`, which serves on port 80.
    pub fn start_on(&self, network: &Network, wish: &Wish) -> Container {
        let inside = Namespace::new();
        let endpoint = self.store.plan(network, wish, &|_| true).unwrap();
        self.store.attach(&endpoint, inside.fd.as_fd()).unwrap();
        configure_inside(inside.route_socket(), std::slice::from_ref(&endpoint)).unwrap();
        inside.serve(80);
        Container { inside, endpoint }
    }

    pub fn table(&self) -> String {
        run(&format!("nft list table ip {}", self.store.names().table))
    }
}

/// What a container without ports wants.
pub fn wish(container: &str) -> Wish {
    Wish { container: container.into(), default_route: true, ..Wish::default() }
}

pub fn store(directory: &tempfile::TempDir) -> NetworkStore {
    let (root, state) = (directory.path().join("root"), directory.path().join("state"));
    NetworkStore::open(&root, &state, Names::for_state(&state))
}

/// `[IP:]HOST:CONTAINER[/PROTO]`, not reserved.
pub fn published(text: &str) -> PublishedPort {
    let mapping = rbox_spec::port::PortMapping::parse(text).unwrap().remove(0);
    PublishedPort {
        host_ip: mapping.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        host_port: mapping.host_ports.unwrap().0,
        container_port: mapping.container_port,
        proto: mapping.proto,
    }
}
