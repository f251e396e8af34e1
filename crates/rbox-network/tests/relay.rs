//! Published ports at `[::1]` where the kernel cannot translate them. As root, in namespaces of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rbox_network::{Relay, Wish, reserve};
use rbox_spec::port::{PortMapping, PublishedPort};
use rustix::event::{PollFd, PollFlags, Timespec};
use support::{Container, HOST6, World, alone, ask, get, run, unanswered, wish};

const PORT: u16 = 8080;
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(10);

/// Runs `test` where the kernel does not translate, or says why not.
fn untranslated(test: impl FnOnce() + Send + 'static) {
    alone(|| {
        let setting = "/proc/sys/net/bridge/bridge-nf-call-ip6tables";
        if std::fs::write(setting, "1").is_ok() {
            test();
        } else {
            println!("skipped: this kernel has no br_netfilter");
        }
    });
}

/// Holds a port as `rbox run` does.
fn hold(text: &str) -> (PublishedPort, OwnedFd) {
    let mappings = PortMapping::parse(text).unwrap();
    let (mut ports, mut sockets) = reserve(&mappings, true, &|_| None).unwrap();
    (ports.remove(0), sockets.remove(0).unwrap())
}

/// A relay on a thread of its own; it ends when this is dropped.
struct Served {
    end: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn new(text: &str, container: Ipv6Addr) -> Self {
        let (port, socket) = hold(text);
        assert!(Relay::is_needed(&port));
        let mut relay = Relay::open(&port, socket, container).map_err(|(_, error)| error).unwrap();
        let (end, ended) = UnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let begin = Instant::now();
            for turns in 1_u64.. {
                let mut fds = vec![PollFd::new(&ended, PollFlags::IN)];
                relay.poll_fds(&mut fds);
                let timeout = relay.timeout().map(|t| Timespec::try_from(t).unwrap());
                rustix::event::poll(&mut fds, timeout.as_ref()).unwrap();
                let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
                if ready[0] {
                    let most = 20_000 + begin.elapsed().as_millis() as u64 / 2;
                    assert!(turns < most, "it turns for nothing: {turns}");
                    return;
                }
                let mut ready = ready.into_iter().skip(1);
                relay.turn(&mut ready);
                assert_eq!(ready.next(), None, "one descriptor was not asked for");
            }
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end = None;
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || ended.is_ok());
    }
}

/// A container with these ports on a network with IPv6.
fn start(world: &World, ports: &[&str]) -> (Container, Ipv6Addr) {
    let ports = ports.iter().map(|port| support::published(port)).collect();
    let container = world.start_on(&world.six(), &Wish { ports, ..wish(&format!("{:0<64}", "web")) });
    let ip = container.endpoint.ip6.unwrap().ip;
    (container, ip)
}

/// Serves each connection to `port` of the container with `serve`.
fn listen(container: &Container, port: u16, serve: fn(TcpStream)) {
    container.inside.enter(move || {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                std::thread::spawn(move || serve(stream));
            }
        });
    });
}

fn connect() -> TcpStream {
    let stream = TcpStream::connect((Ipv6Addr::LOCALHOST, PORT)).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// Bytes that tell where they belong.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

#[test]
fn only_what_the_kernel_does_not_translate_is_relayed() {
    untranslated(|| {
        let world = World::new();
        let (web, ip) = start(&world, &["[::]:8080:80", "[::]:8080:80/udp"]);
        let gateway = web.endpoint.ip6.unwrap().gateway.to_string();
        assert!(get("[::1]:8080").is_none() && unanswered("[::1]:8080"));
        let (tcp, udp) = (Served::new("[::]:8080:80", ip), Served::new("[::]:8080:80/udp", ip));
        assert_eq!(get("[::1]:8080"), Some(gateway.clone()));
        assert_eq!(ask("[::1]:8080"), Some(gateway));
        let outside = format!("[{HOST6}]:8080");
        assert_eq!(world.peer.get(&outside).as_deref(), Some(support::PEER6));
        // Without the rules it all comes to the sockets that hold the ports.
        run(&format!("nft flush chain ip6 {} publish", world.store.names().table));
        run(&format!("nft flush chain ip6 {} publish_local", world.store.names().table));
        assert!(world.peer.get(&outside).is_none() && world.peer.unanswered(&outside));
        assert!(get(&outside).is_none() && unanswered(&outside));
        assert!(get("[::1]:8080").is_some() && ask("[::1]:8080").is_some());
        drop((tcp, udp));
        assert!(get("[::1]:8080").is_none() && unanswered("[::1]:8080"));
    });
}

#[test]
fn is_needed_says_which_ports() {
    untranslated(|| {
        let is_needed = |text: &str| Relay::is_needed(&support::published(text));
        assert!(is_needed("[::]:8080:80") && is_needed("[::1]:8080:80/udp"));
        assert!(!is_needed("[2001:db8::1]:8080:80") && !is_needed("0.0.0.0:8080:80"));
        assert!(!is_needed("[::1]:8080:80/sctp"));
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0").unwrap();
        assert!(!is_needed("[::]:8080:80"));
    });
}

#[test]
fn a_mebibyte_goes_both_ways_at_once_and_ends_one_by_one() {
    untranslated(|| {
        let world = World::new();
        let (web, ip) = start(&world, &["[::1]:8080:81"]);
        // Sends its own while it reads, and after the client's end what it has read.
        listen(&web, 81, |mut stream| {
            let mut sender = stream.try_clone().unwrap();
            let sending = std::thread::spawn(move || sender.write_all(&pattern(1 << 20)));
            std::thread::sleep(SHORT);
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            sending.join().unwrap().unwrap();
            stream.write_all(&got).unwrap();
        });
        let _served = Served::new("[::1]:8080:81", ip);
        let mut stream = connect();
        stream.write_all(&pattern(1 << 20)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        assert!(got == [pattern(1 << 20), pattern(1 << 20)].concat(), "{} bytes", got.len());
    });
}

/// Who reads nothing is not read for: what waits is in the kernel's buffers and in one of 16 KiB.
#[test]
fn a_slow_reader_holds_the_sender_back() {
    untranslated(|| {
        let world = World::new();
        let (web, ip) = start(&world, &["[::1]:8080:81"]);
        // The kernel's are small here, so that those of a relay would show.
        let small = "for of in rmem wmem; do echo 4096 16384 65536 > /proc/sys/net/ipv4/tcp_$of; done";
        run(small);
        web.inside.run(small);
        listen(&web, 81, |stream| {
            std::thread::sleep(LONG);
            drop(stream);
        });
        let _served = Served::new("[::1]:8080:81", ip);
        let mut stream = connect();
        stream.set_write_timeout(Some(SHORT)).unwrap();
        let chunk = vec![0; 1 << 16];
        let mut sent = 0;
        let most = 2 << 20;
        while sent < most {
            match stream.write(&chunk) {
                Ok(length) => sent += length,
                Err(_) => break,
            }
        }
        assert!(sent < most, "{sent} bytes went to nobody");
    });
}

#[test]
fn refusals_and_resets_are_passed_on() {
    untranslated(|| {
        let world = World::new();
        let (web, ip) = start(&world, &["[::1]:8080:81"]);
        let served = Served::new("[::1]:8080:81", ip);
        let failed = |mut stream: TcpStream| stream.read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(failed(connect()), Err(ErrorKind::ConnectionReset), "nobody listens");
        // The server resets, since it has not read what was sent.
        listen(&web, 81, |mut stream| {
            stream.write_all(b"hello").unwrap();
            stream.peek(&mut [0]).unwrap();
        });
        let mut stream = connect();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"x").unwrap();
        assert_eq!(failed(stream), Err(ErrorKind::ConnectionReset));
        // The client resets, since it has not read what was sent; the server tells by UDP.
        listen(&web, 82, |mut stream| {
            let host = stream.peer_addr().unwrap().ip();
            stream.write_all(b"hello").unwrap();
            let said = format!("{:?}", stream.read(&mut [0; 8]).map_err(|error| error.kind()));
            let _ = UdpSocket::bind("[::]:0").unwrap().send_to(said.as_bytes(), (host, 9999));
        });
        drop(served);
        let told = UdpSocket::bind("[::]:9999").unwrap();
        told.set_read_timeout(Some(LONG)).unwrap();
        let _served = Served::new("[::1]:8080:82", ip);
        let stream = connect();
        stream.peek(&mut [0]).unwrap();
        drop(stream);
        let mut text = [0; 64];
        let length = told.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"Err(ConnectionReset)");
    });
}

#[test]
fn the_sixty_fifth_connection_waits_for_one_to_end() {
    untranslated(|| {
        let world = World::new();
        let (web, ip) = start(&world, &["[::1]:8080:81"]);
        listen(&web, 81, |mut stream| {
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
        });
        let _served = Served::new("[::1]:8080:81", ip);
        let echo = |stream: &mut TcpStream, patience| {
            stream.set_read_timeout(Some(patience)).unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).map(|()| byte[0]).map_err(|error| error.kind())
        };
        let mut all: Vec<TcpStream> = (0..64).map(|_| connect()).collect();
        for (number, stream) in all.iter_mut().enumerate() {
            stream.write_all(&[number as u8]).unwrap();
            assert_eq!(echo(stream, LONG), Ok(number as u8));
        }
        let mut one_more = connect();
        one_more.write_all(b"x").unwrap();
        assert_eq!(echo(&mut one_more, SHORT), Err(ErrorKind::WouldBlock));
        all.remove(9);
        assert_eq!(echo(&mut one_more, LONG), Ok(b'x'));
    });
}

#[test]
fn of_many_at_once_no_more_than_64_are_taken() {
    untranslated(|| {
        let _server = TcpListener::bind((Ipv6Addr::LOCALHOST, 81)).unwrap();
        let (port, socket) = hold("[::1]:8080:81");
        let mut relay = Relay::open(&port, socket, Ipv6Addr::LOCALHOST).map_err(|(_, error)| error).unwrap();
        let _waiting: Vec<TcpStream> = (0..70).map(|_| connect()).collect();
        relay.turn(&mut std::iter::once(true));
        let mut fds = Vec::new();
        relay.poll_fds(&mut fds);
        assert_eq!(fds.len(), 1 + 2 * 64, "the port, and both sides of each connection");
    });
}

/// A container that is started again gets its port again, although the relay's connections linger.
#[test]
fn the_port_is_free_when_the_relay_has_ended() {
    untranslated(|| {
        let world = World::new();
        let (_web, ip) = start(&world, &["[::]:8080:80"]);
        for _ in 0..3 {
            let _served = Served::new("[::]:8080:80", ip);
            // The server ends first, so that the port's side is the one that lingers.
            assert!(get("[::1]:8080").is_some());
            let mappings = PortMapping::parse("[::]:8080:80").unwrap();
            assert!(reserve(&mappings, true, &|_| None).is_err(), "it is held while it is relayed");
        }
    });
}

#[test]
fn datagrams_of_many_clients_find_back() {
    untranslated(|| {
        let world = World::new();
        let (web, ip) = start(&world, &["[::]:8080:81/udp"]);
        let served = Served::new("[::]:8080:81/udp", ip);
        let client = || {
            let socket = UdpSocket::bind("[::1]:0").unwrap();
            socket.set_read_timeout(Some(SHORT)).unwrap();
            socket.connect((Ipv6Addr::LOCALHOST, PORT)).unwrap();
            socket
        };
        let echo = |socket: &UdpSocket, text: &[u8]| {
            socket.send(text).unwrap();
            let mut buffer = vec![0; 1 << 16];
            socket.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *text)
        };
        let early = client();
        assert!(!echo(&early, b"nobody is there"));
        web.inside.enter(|| {
            let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 81)).unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 1 << 16];
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let asked = &buffer[..length];
                    let port = from.port().to_be_bytes();
                    let _ = socket.send_to(if asked == b"from?" { &port } else { asked }, from);
                }
            });
        });
        assert!(echo(&early, b"one is there now"));
        assert!(echo(&early, &[]) && echo(&early, &pattern(60_000)), "any length");
        // More than there is room for: those who were quiet for longest begin anew.
        let all: Vec<UdpSocket> = (0..80).map(|_| client()).collect();
        for round in 0..2_u8 {
            for (number, socket) in all.iter().enumerate() {
                assert!(echo(socket, &[round, number as u8]), "{round} {number}");
            }
        }
        let is_seen_at = |socket: &UdpSocket| {
            socket.send(b"from?").unwrap();
            let mut port = [0; 2];
            socket.recv(&mut port).unwrap();
            port
        };
        let last = all.last().unwrap();
        let before = is_seen_at(last);
        assert!(echo(&client(), b"one more"));
        assert_eq!(is_seen_at(last), before, "who was there just now is still known");
        drop(served);
        assert!(!echo(&early, b"nobody relays"));
    });
}

#[test]
fn what_nobody_took_keeps_nothing_from_what_comes_next() {
    untranslated(|| {
        let (port, socket) = hold("[::1]:8080:81/udp");
        let mut relay = Relay::open(&port, socket, Ipv6Addr::LOCALHOST).map_err(|(_, error)| error).unwrap();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        let mut send = |text: &[u8]| {
            client.send_to(text, (Ipv6Addr::LOCALHOST, PORT)).unwrap();
            let before = relay.timeout();
            relay.turn(&mut std::iter::once(true));
            (before, relay.timeout())
        };
        send(b"nobody is there");
        std::thread::sleep(SHORT);
        let server = UdpSocket::bind((Ipv6Addr::LOCALHOST, 81)).unwrap();
        server.set_read_timeout(Some(LONG)).unwrap();
        let (before, after) = send(b"one is");
        let mut text = [0; 64];
        let length = server.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"one is");
        assert!(after > before, "it is known for longer again: {before:?}, {after:?}");
    });
}

/// What comes after the container has changed its address goes to the new one.
#[test]
fn it_follows_the_container() {
    untranslated(|| {
        let world = World::new();
        let (_web, ip) = start(&world, &["[::]:8080:80"]);
        let (port, socket) = hold("[::]:8080:80/udp");
        let nobody = Ipv6Addr::LOCALHOST;
        let mut relay = Relay::open(&port, socket, nobody).map_err(|(_, error)| error).unwrap();
        let client = UdpSocket::bind("[::1]:0").unwrap();
        let answered = |relay: &mut Relay| {
            client.set_nonblocking(true).unwrap();
            client.send_to(b"?", (Ipv6Addr::LOCALHOST, PORT)).unwrap();
            let begin = Instant::now();
            while begin.elapsed() < SHORT {
                relay.turn(&mut std::iter::repeat(true));
                if client.recv(&mut [0; 64]).is_ok() {
                    return true;
                }
            }
            false
        };
        assert!(!answered(&mut relay));
        assert!(relay.timeout().unwrap() > Duration::from_secs(20), "the client is known for a while");
        relay.lead_to(ip);
        assert_eq!(relay.timeout(), None);
        assert!(answered(&mut relay));
    });
}
