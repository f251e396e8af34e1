//! What a monitor and those attached to it say to each other: one message a packet, its kind in the first byte.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rbox_spec::Kind;
use rbox_spec::port::PublishedPort;
use rbox_sys::channel;
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::EngineError;
use crate::logs::Stream;

/// Bytes of output or input in one message.
pub const CHUNK: usize = 32 * 1024;

/// From the monitor.
#[derive(Debug, PartialEq, Eq)]
pub enum FromMonitor<'a> {
    /// The program runs.
    Started,
    /// Output of the program.
    Output(Stream, &'a [u8]),
    /// The program ended with this code.
    Exited(i32),
    /// You took nothing for too long: this is the last you get. The program runs on.
    CutOff,
    /// The container did not come to be: the exit code that stands for it, what it means, and why.
    Failed(i32, Kind, String),
}

/// To the monitor.
#[derive(Debug, PartialEq, Eq)]
pub enum ToMonitor<'a> {
    /// Input for the program.
    Input(&'a [u8]),
    /// No more input.
    EndOfInput,
    /// The terminal has this size: rows, columns. None of both: the size before the last one.
    Resize(u16, u16),
    /// A host port to keep, with the socket that does it.
    Hold(PublishedPort),
    /// This sender is no client, but a command that reads the output of its own program: here is a copy of a descriptor it reads
    /// from, for when it is gone.
    Keep,
    /// The records tell of other networks or names, or of fewer ports.
    Follow,
}

impl FromMonitor<'_> {
    /// The packet for this message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Started => vec![b'S'],
            Self::Output(stream, bytes) => {
                let kind = if *stream == Stream::Stdout { b'o' } else { b'e' };
                let mut packet = Vec::with_capacity(bytes.len() + 1);
                packet.push(kind);
                packet.extend_from_slice(bytes);
                packet
            }
            Self::Exited(code) => [b"X", &code.to_le_bytes()[..]].concat(),
            Self::CutOff => vec![b'B'],
            Self::Failed(code, kind, why) => {
                [b"F", &code.to_le_bytes()[..], &[*kind as u8], why.as_bytes()].concat()
            }
        }
    }

    /// The message in a packet; none when it is of no known kind.
    pub fn decode(packet: &[u8]) -> Option<FromMonitor<'_>> {
        let (kind, body) = packet.split_first()?;
        let code = || body.get(..4).and_then(|b| b.try_into().ok()).map(i32::from_le_bytes);
        Some(match kind {
            b'S' => FromMonitor::Started,
            b'o' => FromMonitor::Output(Stream::Stdout, body),
            b'e' => FromMonitor::Output(Stream::Stderr, body),
            b'X' => FromMonitor::Exited(code()?),
            b'B' => FromMonitor::CutOff,
            b'F' => {
                let kind = *Kind::ALL.get(usize::from(*body.get(4)?))?;
                FromMonitor::Failed(code()?, kind, String::from_utf8_lossy(&body[5..]).into_owned())
            }
            _ => return None,
        })
    }
}

impl ToMonitor<'_> {
    /// The packet for this message.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Input(bytes) => [b"i", *bytes].concat(),
            Self::EndOfInput => vec![b'c'],
            Self::Resize(rows, columns) => {
                [b"w", &rows.to_le_bytes()[..], &columns.to_le_bytes()[..]].concat()
            }
            // Ports always have a text; of an empty one the monitor would make nothing.
            Self::Hold(port) => [b"h".to_vec(), serde_json::to_vec(port).unwrap_or_default()].concat(),
            Self::Keep => vec![b'k'],
            Self::Follow => vec![b'f'],
        }
    }

    /// The message in a packet; none when it is of no known kind.
    pub fn decode(packet: &[u8]) -> Option<ToMonitor<'_>> {
        let (kind, body) = packet.split_first()?;
        let number = |at: usize| body.get(at..at + 2).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes);
        Some(match kind {
            b'i' => ToMonitor::Input(body),
            b'c' => ToMonitor::EndOfInput,
            b'w' => ToMonitor::Resize(number(0)?, number(2)?),
            b'h' => ToMonitor::Hold(serde_json::from_slice(body).ok()?),
            b'k' => ToMonitor::Keep,
            b'f' => ToMonitor::Follow,
            _ => return None,
        })
    }
}

const SOCKET: &str = "monitor.sock";

/// The socket's address by a descriptor of its directory: a path may be longer than an address can hold.
fn address(dir: &Path) -> Result<(OwnedFd, SocketAddrUnix), EngineError> {
    use std::os::fd::AsRawFd;
    let fd = std::fs::File::open(dir).map_err(EngineError::file("open", dir))?;
    let short = format!("/proc/self/fd/{}/{SOCKET}", fd.as_raw_fd());
    let address =
        SocketAddrUnix::new(short).map_err(|e| EngineError::file("name a socket in", dir)(e.into()))?;
    Ok((fd.into(), address))
}

fn socket() -> Result<OwnedFd, EngineError> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| rbox_sys::SysError::new("socket", "AF_UNIX, SOCK_SEQPACKET".into(), e).into())
}

/// The monitor's listening socket in the live directory `dir`.
pub(crate) fn listen(dir: &Path) -> Result<OwnedFd, EngineError> {
    let _ = std::fs::remove_file(dir.join(SOCKET));
    let (_dir, address) = address(dir)?;
    let socket = socket()?;
    let failed = |e: rustix::io::Errno| EngineError::file("listen in", dir)(e.into());
    rustix::net::bind(&socket, &address).map_err(failed)?;
    rustix::net::listen(&socket, 16).map_err(failed)?;
    rustix::io::ioctl_fionbio(&socket, true).map_err(failed)?;
    Ok(socket)
}

/// How long a monitor may take to take a client from its queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to the monitor of the live directory `dir`.
pub(crate) fn connect(dir: &Path) -> Result<OwnedFd, EngineError> {
    let (_dir, address) = address(dir)?;
    let socket = socket()?;
    let failed = |source: std::io::Error| EngineError::file("connect to the monitor in", dir)(source);
    // A monitor that is stopped takes nobody from its queue, and who comes when that is full would wait for ever.
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE)).map_err(|e| failed(e.into()))?;
    rustix::net::connect(&socket, &address).map_err(|errno| match errno {
        Errno::AGAIN => failed(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "it takes nobody (is it stopped? kill -CONT lets it go on)",
        )),
        errno => failed(errno.into()),
    })?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, None).map_err(|e| failed(e.into()))?;
    Ok(socket)
}

/// Hands the monitor copies of what this command reads its own program's output from, and gives the socket whose end tells the monitor
/// that this command is gone. None without a monitor, or where that is behind: nothing waits for it here.
pub(crate) fn keep_output<'a>(
    dir: &Path,
    streams: impl IntoIterator<Item = BorrowedFd<'a>>,
) -> Option<OwnedFd> {
    let (_dir, address) = address(dir).ok()?;
    let socket = socket().ok()?;
    rustix::io::ioctl_fionbio(&socket, true).ok()?;
    rustix::net::connect(&socket, &address).ok()?;
    for stream in streams {
        channel::send(&socket, &ToMonitor::Keep.encode(), Some(stream)).ok()?;
    }
    Some(socket)
}

/// The first message after a start, which is there: the program runs, or why not.
pub(crate) fn hear_started(socket: impl AsFd) -> Result<(), EngineError> {
    let mut packet = vec![0_u8; CHUNK + 1];
    let (length, _) = channel::receive(&socket, &mut packet)?;
    match FromMonitor::decode(&packet[..length]) {
        Some(FromMonitor::Started) => Ok(()),
        Some(FromMonitor::Failed(exit_code, kind, message)) => {
            Err(EngineError::Monitor { message, kind, exit_code })
        }
        _ => Err(EngineError::Monitor {
            message: "the container's monitor ended before the container was started (was it killed?)".into(),
            kind: Kind::Unavailable,
            exit_code: 125,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_packet() {
        for message in [
            FromMonitor::Started,
            FromMonitor::Output(Stream::Stderr, b"x"),
            FromMonitor::Exited(-1),
            FromMonitor::CutOff,
            FromMonitor::Failed(127, Kind::NotExecuted, "no".into()),
        ] {
            assert_eq!(FromMonitor::decode(&message.encode()), Some(message));
        }
        let port = PublishedPort {
            host_ip: std::net::Ipv6Addr::LOCALHOST.into(),
            host_port: 8080,
            container_port: 80,
            proto: rbox_spec::port::Protocol::Udp,
        };
        for message in [
            ToMonitor::Input(b"abc"),
            ToMonitor::EndOfInput,
            ToMonitor::Resize(24, 80),
            ToMonitor::Hold(port),
            ToMonitor::Keep,
            ToMonitor::Follow,
        ] {
            assert_eq!(ToMonitor::decode(&message.encode()), Some(message));
        }
        for bad in [&b""[..], b"?", b"X12", b"w\x01", b"h{}"] {
            assert!(FromMonitor::decode(bad).is_none() && ToMonitor::decode(bad).is_none());
        }
    }
}
