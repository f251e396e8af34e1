//! Output passed on to those who collect it: syslog by a socket of this host, UDP or TCP, or the systemd journal.
//!
//! Nothing here keeps the program waiting: what cannot be sent waits in memory, up to a bound, and what does not fit is counted and told of
//! when something is sent again.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbox_spec::container::LogDriver;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};

use crate::error::EngineError;
use crate::logs::collect::Form;
use crate::logs::{InvalidLogOption, MAX_ENTRY, Stream};
use crate::record::container::ContainerRecord;

/// So many bytes wait at most, unless `max-buffer-size` says otherwise.
const MOST_WAITING: u64 = 1 << 20;
/// The pause before one who collects is called again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a TCP connection may take when a container is started, and how long what waits may take when it has ended.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where this host's syslog listens.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Whom output goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    /// Sockets of this host, of which the first is taken that is there.
    Paths(Vec<PathBuf>),
    Udp(String),
    Tcp(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Paths(paths) => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                f.write_str(&paths.join(", "))
            }
            Self::Udp(host) => write!(f, "udp://{host}"),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

impl Address {
    fn of(record: &ContainerRecord) -> Result<Self, InvalidLogOption> {
        if record.host.log_driver == LogDriver::Journald {
            return Ok(Self::Paths(vec![JOURNAL.into()]));
        }
        Self::parse(&record.host.log_opts)
    }

    fn parse(options: &BTreeMap<String, String>) -> Result<Self, InvalidLogOption> {
        let refused = |why: String| Err(InvalidLogOption::Syslog(why));
        let Some(text) = options.get("syslog-address").filter(|text| !text.is_empty()) else {
            return Ok(Self::Paths(LOCAL.map(PathBuf::from).to_vec()));
        };
        let shown = text.escape_debug();
        match text.split_once("://") {
            Some(("unix" | "unixgram", path)) if path.starts_with('/') => Ok(Self::Paths(vec![path.into()])),
            Some(("udp", host)) if !host.is_empty() => Ok(Self::Udp(with_port(host))),
            Some(("tcp", host)) if !host.is_empty() => Ok(Self::Tcp(with_port(host))),
            Some(("tcp+tls", _)) => refused(format!("syslog-address {shown}: TLS is not supported")),
            _ => refused(format!(
                "syslog-address should be in form proto://address, got {shown}: proto is unix, unixgram, udp or tcp"
            )),
        }
    }

    /// Calls whoever it is. `patience` for a TCP connection; without it that goes on by itself.
    fn connect(&self, patience: Option<Duration>) -> io::Result<Socket> {
        match self {
            Self::Paths(paths) => {
                let there = paths.iter().find(|path| path.exists()).or(paths.first());
                to_path(there.map_or(Path::new("/"), PathBuf::as_path))
            }
            Self::Udp(host) => {
                let to = resolve(host)?;
                let fd = socket_with(family(&to), SocketType::DGRAM, flags(), None)?;
                connect(&fd, &to)?;
                Ok(Socket { fd, is_stream: false })
            }
            Self::Tcp(host) => {
                let to = resolve(host)?;
                if let Some(patience) = patience {
                    let stream = TcpStream::connect_timeout(&to, patience)?;
                    stream.set_nonblocking(true)?;
                    return Ok(Socket { fd: stream.into(), is_stream: true });
                }
                let fd = socket_with(family(&to), SocketType::STREAM, flags(), None)?;
                match connect(&fd, &to) {
                    Ok(()) | Err(Errno::INPROGRESS) => Ok(Socket { fd, is_stream: true }),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

fn with_port(host: &str) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(before, port)| {
        port.parse::<u16>().is_ok() && (!before.contains(':') || before.ends_with(']'))
    });
    if has_port { host.to_owned() } else { format!("{host}:514") }
}

fn resolve(host: &str) -> io::Result<SocketAddr> {
    host.to_socket_addrs()?.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn family(to: &SocketAddr) -> AddressFamily {
    if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
}

fn to_path(path: &Path) -> io::Result<Socket> {
    let to = SocketAddrUnix::new(path)?;
    for (kind, is_stream) in [(SocketType::DGRAM, false), (SocketType::STREAM, true)] {
        let fd = socket_with(AddressFamily::UNIX, kind, flags(), None)?;
        match connect(&fd, &to) {
            Ok(()) => return Ok(Socket { fd, is_stream }),
            // It is one of the other kind.
            Err(Errno::PROTOTYPE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::PROTOTYPE.into())
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    is_stream: bool,
}

/// Passes a container's output on.
#[derive(Debug)]
pub(crate) struct Forward {
    form: Form,
    to: Address,
    most: usize,
    socket: Option<Socket>,
    /// When one who is not there is called again.
    again: Instant,
    /// The beginning of a line whose end has not come, for each stream.
    partial: [Vec<u8>; 2],
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Of the first that waits, so many bytes are sent.
    sent: usize,
    dropped: u64,
}

impl Forward {
    /// Reads the options. None for a driver that passes nothing on.
    pub(crate) fn of(record: &ContainerRecord) -> Result<Option<Self>, InvalidLogOption> {
        let Some(form) = Form::of(record)? else { return Ok(None) };
        let most = record.host.log_opts.get("max-buffer-size").and_then(|text| super::size(text));
        Ok(Some(Self {
            form,
            to: Address::of(record)?,
            most: usize::try_from(most.unwrap_or(MOST_WAITING)).unwrap_or(usize::MAX),
            socket: None,
            again: Instant::now(),
            partial: [Vec::new(), Vec::new()],
            waiting: VecDeque::new(),
            bytes: 0,
            sent: 0,
            dropped: 0,
        }))
    }

    /// The same, and calls the one who collects: who starts a container is to hear that nobody is there.
    pub(crate) fn open(record: &ContainerRecord) -> Result<Option<Self>, EngineError> {
        let mut forward = Self::of(record).map_err(|error| EngineError::Invalid(error.to_string()))?;
        if let Some(forward) = &mut forward {
            let failed = |error: io::Error| {
                let why = rbox_sys::plain(error);
                EngineError::Conflict(format!("failed to initialize logging driver: {}: {why}", forward.to))
            };
            forward.socket = Some(forward.to.connect(Some(PATIENCE)).map_err(failed)?);
        }
        Ok(forward)
    }

    /// Takes output as it was read.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8], time: Timestamp) {
        let at = usize::from(stream == Stream::Stderr);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let mut line = std::mem::take(&mut self.partial[at]);
            line.extend(part);
            let ends = line.last() == Some(&b'\n');
            if ends {
                line.pop();
            }
            while line.len() > MAX_ENTRY {
                let rest = line.split_off(MAX_ENTRY);
                let message = self.form.message(stream, &line, time, true);
                self.put(message);
                line = rest;
            }
            if ends {
                let message = self.form.message(stream, &line, time, false);
                self.put(message);
            } else {
                self.partial[at] = line;
            }
        }
        self.turn();
    }

    fn put(&mut self, message: Vec<u8>) {
        if self.bytes.saturating_add(message.len()) > self.most {
            self.dropped += 1;
            return;
        }
        self.bytes += message.len();
        self.waiting.push_back(message);
    }

    /// Writable when more of what waits can be sent.
    pub(crate) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let socket = self.socket.as_ref().filter(|_| !self.waiting.is_empty())?;
        Some(PollFd::new(&socket.fd, PollFlags::OUT))
    }

    /// How long until one who is not there is called again.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let is_away = self.socket.is_none() && !self.waiting.is_empty();
        is_away.then(|| self.again.saturating_duration_since(Instant::now()))
    }

    /// Sends what can be sent now.
    pub(crate) fn turn(&mut self) {
        while !self.waiting.is_empty() {
            if self.socket.is_none() {
                if Instant::now() < self.again {
                    return;
                }
                self.again = Instant::now() + PAUSE;
                self.socket = self.to.connect(None).ok();
            }
            if !self.send_first() {
                return;
            }
        }
        if self.dropped > 0 && self.waiting.is_empty() {
            let text = format!(
                "rbox: {} lines were dropped here: they came faster than they were taken",
                self.dropped
            );
            self.dropped = 0;
            let message = self.form.message(Stream::Stderr, text.as_bytes(), Timestamp::now(), false);
            self.put(message);
            // One message: there is room for it.
            self.send_first();
        }
    }

    /// Sends the first of what waits. False when that is for later.
    fn send_first(&mut self) -> bool {
        let (Some(socket), Some(message)) = (&self.socket, self.waiting.front()) else { return false };
        let rest = message.get(self.sent..).unwrap_or_default();
        match send(&socket.fd, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(length) if socket.is_stream && length < rest.len() => {
                self.sent += length;
                true
            }
            Ok(_) => {
                self.pass();
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN | Errno::NOBUFS) => false,
            // No socket takes one of this size.
            Err(Errno::MSGSIZE) => {
                self.dropped += 1;
                self.pass();
                true
            }
            // Of UDP, too: a host said that nobody listens. What was sent of a line goes again.
            Err(_) => {
                self.socket = None;
                self.sent = 0;
                false
            }
        }
    }

    /// The first of what waits has been dealt with.
    fn pass(&mut self) {
        self.sent = 0;
        if let Some(message) = self.waiting.pop_front() {
            self.bytes -= message.len();
        }
    }

    /// The program has ended: its last line, and for a short time what still waits.
    pub(crate) fn finish(&mut self) {
        for (at, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            let line = std::mem::take(&mut self.partial[at]);
            if !line.is_empty() {
                let message = self.form.message(stream, &line, Timestamp::now(), false);
                self.put(message);
            }
        }
        let end = Instant::now() + PATIENCE;
        self.turn();
        while !self.waiting.is_empty() && Instant::now() < end {
            let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            let mut fds: Vec<PollFd<'_>> = self
                .socket
                .iter()
                .map(|socket| PollFd::from_borrowed_fd(socket.fd.as_fd(), PollFlags::OUT))
                .collect();
            let _ = rustix::event::poll(&mut fds, Some(&pause));
            self.turn();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> Result<Address, InvalidLogOption> {
        Address::parse(&[("syslog-address".to_owned(), text.to_owned())].into())
    }

    #[test]
    fn addresses() {
        for (text, wanted) in [
            ("", "/dev/log, /var/run/syslog, /var/run/log"),
            ("unix:///run/x", "/run/x"),
            ("unixgram:///run/x", "/run/x"),
            ("udp://loghost", "udp://loghost:514"),
            ("udp://192.0.2.1:5140", "udp://192.0.2.1:5140"),
            ("tcp://[::1]", "tcp://[::1]:514"),
            ("tcp://[::1]:601", "tcp://[::1]:601"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), wanted, "{text}");
        }
        for bad in ["x", "unix://x", "udp://", "http://x", "tcp+tls://x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    fn forward(to: &Path) -> Forward {
        let record = serde_json::json!({
            "record_version": 1, "id": "7".repeat(64), "name": "web", "created": "2026-01-01T00:00:00Z", "image": "x",
            "image_id": "", "image_manifest": "", "platform": "", "layers": [], "embedded": false, "config": {},
            "host": { "log_driver": "syslog", "log_opts": {
                "syslog-address": format!("unix://{}", to.display()), "tag": "t", "max-buffer-size": "2k",
            } },
        });
        Forward::of(&rbox_spec::record::decode(record.to_string().as_bytes()).unwrap()).unwrap().unwrap()
    }

    /// Who collects is away at first: what fits waits, the rest is counted.
    #[test]
    fn what_waits_is_bounded_and_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut forward = forward(&path);
        for number in 0..1000 {
            forward.write(Stream::Stdout, format!("line {number}\nhalf").as_bytes(), Timestamp::now());
            forward.partial[0].clear();
        }
        let kept = forward.waiting.len();
        assert!(forward.bytes <= 2048 && kept > 10, "{} bytes", forward.bytes);
        assert_eq!(forward.dropped as usize, 1000 - kept);
        let collector = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        // A socket takes a few datagrams that nobody has read (net.unix.max_dgram_qlen), so somebody has to.
        collector.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let reader = std::thread::spawn(move || {
            let (mut texts, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(length) = collector.recv(&mut buffer) {
                texts.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
                if texts.last().is_some_and(|text: &String| text.contains("were dropped here")) {
                    break;
                }
            }
            texts
        });
        forward.again = Instant::now();
        forward.write(Stream::Stderr, b"the last", Timestamp::now());
        forward.finish();
        let texts = reader.join().unwrap();
        assert_eq!(texts.len(), kept + 2, "{texts:?}");
        assert!(texts[0].ends_with(": line 0\n"), "{texts:?}");
        let told = format!("rbox: {} lines were dropped here", 1000 - kept);
        assert!(texts.iter().any(|text| text.contains(&told)), "{texts:?}");
        assert!(
            texts.iter().any(|text| text.starts_with("<27>") && text.ends_with(": the last\n")),
            "{texts:?}"
        );
    }
}
