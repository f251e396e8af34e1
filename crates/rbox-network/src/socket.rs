//! A netlink socket: requests out, acknowledgements and dumps in.
//!
//! Sockets come as [`OwnedFd`], because the one that configures a container's inside was opened by the
//! container's init in its own network namespace.
//!
//! The kernel answers inside `send`, into the socket's buffer, and drops what does not fit there. So requests go out in
//! portions whose answers fit, nothing is left unread in the buffer, and an answer that is not there is waited for by a
//! clock: no wait here is without an end.
//!
//! Source: netlink(7), rtnetlink(7).

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};

use rbox_sys::trace;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

use crate::error::{Error, Result};

/// `NLM_F_*`, linux/netlink.h.
pub(crate) const REQUEST: u16 = 0x01;
pub(crate) const ACK: u16 = 0x04;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;

/// How many requests are sent before their answers are read. An answer takes up to some 4 KiB of the socket's buffer, which
/// holds 208 KiB unless the administrator has made it smaller.
const PORTION: usize = 32;
/// How long an answer is waited for that the kernel should have given by now.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// One request of a batch and how `--explain` shows it.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) told: String,
    /// A refusal for this reason is what was wanted anyway (`EEXIST` for something that should exist).
    pub(crate) accept: Option<Errno>,
}

/// One message of an answer.
pub(crate) struct Message {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

thread_local! {
    static NETFILTER: Cell<Option<(u32, Netlink)>> = const { Cell::new(None) };
}

/// A socket and the number of its next request.
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    /// The kernel has dropped answers to the last request.
    overrun: bool,
}

impl Netlink {
    /// A socket for links, addresses and routes in this process's network namespace.
    pub(crate) fn route() -> Result<Self> {
        Self::open("NETLINK_ROUTE", None)
    }

    /// Lends `work` this thread's socket for nftables in its network namespace. It stays open until the process ends:
    /// closing one waits for a grace period (10 to 20 ms) when anybody has just deleted an element.
    pub(crate) fn with_netfilter<T>(work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let pid = std::process::id();
        let mut socket = match NETFILTER.take() {
            Some((owner, socket)) if owner == pid => socket,
            // A forked process must not read the answers to its parent's requests. What it has of the parent's was closed when it
            // began: this number may be another descriptor's by now.
            Some((_, parents)) => {
                std::mem::forget(parents);
                Self::open("NETLINK_NETFILTER", Some(netlink::NETFILTER))?
            }
            None => Self::open("NETLINK_NETFILTER", Some(netlink::NETFILTER))?,
        };
        let out = work(&mut socket);
        NETFILTER.set(Some((pid, socket)));
        out
    }

    fn open(name: &'static str, protocol: Option<Protocol>) -> Result<Self> {
        let fd = trace::call(
            "socket",
            || format!("AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, {name}"),
            || {
                rustix::net::socket_with(
                    AddressFamily::NETLINK,
                    SocketType::RAW,
                    SocketFlags::CLOEXEC,
                    protocol,
                )
            },
        )
        .map_err(|errno| Error::Kernel { what: format!("socket({name})"), errno })?;
        Ok(Self::from_fd(fd))
    }

    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, sequence: 1, overrun: false }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends `requests` and reads one acknowledgement each. All are tried; the first refusal that was not acceptable is
    /// returned.
    pub(crate) fn batch(&mut self, requests: &[Request]) -> Result<()> {
        let mut done = Ok(());
        for portion in requests.chunks(PORTION) {
            let sent = self.batch_portion(portion);
            if done.is_ok() {
                done = sent;
            }
        }
        done
    }

    fn batch_portion(&mut self, requests: &[Request]) -> Result<()> {
        let (first, told) = self.send_all(requests, ACK)?;
        let mut failure = None;
        let mut left = requests.len();
        while left > 0 {
            for (sequence, message) in self.receive(&told)? {
                let request = sequence.checked_sub(first).and_then(|index| requests.get(index as usize));
                let Some(request) = request.filter(|_| message.kind == NLMSG_ERROR) else { continue };
                left = left.saturating_sub(1);
                if let Some(errno) = errno_of(&message.body)
                    && Some(errno) != request.accept
                    && failure.is_none()
                {
                    failure = Some(Error::Kernel { what: request.told.clone(), errno });
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Sends `requests` with one call. The number of the first, and how `--explain` shows them.
    fn send_all<'a>(
        &mut self,
        requests: &'a [Request],
        flags: u16,
    ) -> Result<(u32, impl Fn() -> String + use<'a>)> {
        let first = self.sequence;
        let mut out = Vec::with_capacity(requests.len() * 96);
        for request in requests {
            frame(&mut out, request.kind, REQUEST | flags | request.flags, self.sequence, &request.body);
            self.sequence = self.sequence.wrapping_add(1);
        }
        let told = || requests.iter().map(|r| r.told.as_str()).collect::<Vec<_>>().join("; ");
        self.send(&out, told)?;
        Ok((first, told))
    }

    /// Sends one request and returns its answer: one message, or all of a dump.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Vec<Message>> {
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let dump = request.flags & DUMP == DUMP;
        let mut out = Vec::with_capacity(128);
        frame(&mut out, request.kind, REQUEST | request.flags, sequence, &request.body);
        let told = || request.told.clone();
        self.send(&out, told)?;
        let mut messages = Vec::new();
        loop {
            for (answered, message) in self.receive(&told)? {
                if answered != sequence {
                    continue;
                }
                match message.kind {
                    NLMSG_ERROR => {
                        return match errno_of(&message.body) {
                            Some(errno) => Err(Error::Kernel { what: told(), errno }),
                            None => Ok(messages),
                        };
                    }
                    NLMSG_DONE => return Ok(messages),
                    _ => messages.push(message),
                }
            }
            if !dump && !messages.is_empty() {
                return Ok(messages);
            }
        }
    }

    /// Sends `requests`, each of which has an answer of one message. The answers come in their order; a refusal is one of
    /// them.
    pub(crate) fn ask_each(&mut self, requests: &[Request]) -> Result<Vec<Result<Message, Errno>>> {
        let mut answers = Vec::with_capacity(requests.len());
        for portion in requests.chunks(PORTION) {
            let mut all = Vec::new();
            match self.ask_portion(portion, &mut all) {
                // A buffer so small that not even this many fit: each for itself.
                Err(Error::NoAnswer { .. }) if portion.len() > 1 => {
                    for (request, answer) in portion.iter().zip(&mut all) {
                        if answer.is_none() {
                            let mut one = Vec::new();
                            self.ask_portion(std::slice::from_ref(request), &mut one)?;
                            *answer = one.pop().flatten();
                        }
                    }
                }
                asked => asked?,
            }
            answers.extend(all.into_iter().flatten());
        }
        Ok(answers)
    }

    /// Puts the answers into `answers`, each in its request's place.
    fn ask_portion(
        &mut self,
        requests: &[Request],
        answers: &mut Vec<Option<Result<Message, Errno>>>,
    ) -> Result<()> {
        answers.extend(requests.iter().map(|_| None));
        let (first, told) = self.send_all(requests, 0)?;
        while answers.iter().any(Option::is_none) {
            for (sequence, message) in self.receive(&told)? {
                let Some(index) = sequence.checked_sub(first) else { continue };
                let Some(answer) = answers.get_mut(index as usize) else { continue };
                *answer = Some(match message.kind {
                    NLMSG_ERROR => Err(errno_of(&message.body).unwrap_or(Errno::PROTO)),
                    _ => Ok(message),
                });
            }
        }
        Ok(())
    }

    /// Sends an nftables transaction, encoded for [`Self::next_sequence`], whose last message asks for an
    /// acknowledgement; `Ok` when it was committed.
    pub(crate) fn transaction(&mut self, batch: &[u8], messages: u32, told: &str) -> Result<()> {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(messages);
        self.send(batch, || told.to_owned())?;
        loop {
            let answers = self.receive(&|| told.to_owned())?;
            // Refusals come in the order of the messages, so the first one is the cause.
            let own = |(sequence, message): &&(u32, Message)| {
                message.kind == NLMSG_ERROR && (first..self.sequence).contains(sequence)
            };
            if let Some((_, message)) = answers.iter().find(own) {
                let Some(errno) = errno_of(&message.body) else { return Ok(()) };
                self.drain();
                return Err(Error::Kernel { what: told.to_owned(), errno });
            }
        }
    }

    /// Reads the refusals after the first one away: they would take the room of the next request's answers.
    fn drain(&mut self) {
        let mut buffer = [0_u8; 64];
        loop {
            match rustix::net::recv(self.fd.as_fd(), &mut buffer, RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    /// The number that the next request's first message must have.
    pub(crate) fn next_sequence(&self) -> u32 {
        self.sequence
    }

    fn send(&mut self, out: &[u8], told: impl Fn() -> String) -> Result<()> {
        self.overrun = false;
        trace::call(
            "sendto",
            || format!("netlink, {}", told()),
            || rustix::io::retry_on_intr(|| rustix::net::send(self.fd.as_fd(), out, SendFlags::empty())),
        )
        .map(drop)
        .map_err(|errno| Error::Kernel { what: told(), errno })
    }

    /// Whether there is something to read within [`PATIENCE`].
    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let polled = rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&PATIENCE)));
        polled.is_ok_and(|ready| ready > 0)
    }

    /// One datagram, taken apart: each message with its sequence number.
    fn receive(&mut self, told: &impl Fn() -> String) -> Result<Vec<(u32, Message)>> {
        // The kernel sizes a dump's datagrams by the buffers it has seen, and never above 32 KiB.
        // Most are small: what is not written to costs nothing.
        let mut buffer = Vec::with_capacity(32 * 1024);
        loop {
            match rustix::net::recv(self.fd.as_fd(), spare_capacity(&mut buffer), RecvFlags::DONTWAIT) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                // Told once, and before what did fit; while that is unread, the kernel drops all else too.
                Err(Errno::NOBUFS) => self.overrun = true,
                Err(Errno::AGAIN) if !self.overrun && self.is_readable() => {}
                Err(Errno::AGAIN) => return Err(Error::NoAnswer { what: told() }),
                Err(errno) => {
                    return Err(Error::Kernel { what: format!("read the answer to: {}", told()), errno });
                }
            }
        }
        split(&buffer).ok_or_else(|| Error::Answer { what: told(), why: "a message is cut short".into() })
    }
}

/// A datagram's messages, each with its sequence number; none when one is cut short.
pub(crate) fn split(mut datagram: &[u8]) -> Option<Vec<(u32, Message)>> {
    let mut messages = Vec::new();
    while let Some((header, _)) = datagram.split_first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let body = datagram.get(HEADER..length)?.to_vec();
        let kind = u16::from_ne_bytes([k0, k1]);
        messages.push((u32::from_ne_bytes([s0, s1, s2, s3]), Message { kind, body }));
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(messages)
}

/// Appends a message with its header, padded to four bytes.
pub(crate) fn frame(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    out.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&0_u32.to_ne_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The reason in an `NLMSG_ERROR` body; none when it is an acknowledgement.
pub(crate) fn errno_of(body: &[u8]) -> Option<Errno> {
    let code = body.first_chunk::<4>().map_or(-5, |bytes| i32::from_ne_bytes(*bytes));
    let known = |code: &i32| (-4095..0).contains(code);
    (code != 0).then(|| Some(code).filter(known).map_or(Errno::PROTO, |code| Errno::from_raw_os_error(-code)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use rustix::net::sockopt::set_socket_recv_buffer_size;

    use super::*;

    const GETLINK: u16 = 18;

    fn loopback(index: u32) -> Request {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        Request { kind: GETLINK, flags: 0, body, told: format!("RTM_GETLINK {index}"), accept: None }
    }

    #[test]
    fn a_number_that_is_no_errors_is_an_odd_answer() {
        for (code, errno) in
            [(0, None), (-2, Some(Errno::NOENT)), (2, Some(Errno::PROTO)), (i32::MIN, Some(Errno::PROTO))]
        {
            assert_eq!(errno_of(&i32::to_ne_bytes(code)), errno, "{code}");
        }
        assert_eq!(errno_of(&[]), Some(Errno::IO));
    }

    #[test]
    fn more_answers_than_the_buffer_holds() {
        for size in [None, Some(1)] {
            let mut socket = Netlink::route().unwrap();
            if let Some(size) = size {
                // The kernel makes that its least: an answer fits, and not all of a portion.
                set_socket_recv_buffer_size(&socket.fd, size).unwrap();
            }
            let links: Vec<Request> =
                (0..if size.is_some() { 40 } else { 2000 }).map(|_| loopback(1)).collect();
            let answers = socket.ask_each(&links).unwrap();
            assert_eq!(answers.len(), links.len());
            assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|message| message.kind == 16)));
            let nobody = vec![loopback(0x7fff_0000); links.len()];
            let refused = socket.ask_each(&nobody).unwrap();
            assert!(refused.len() == nobody.len() && refused.iter().all(Result::is_err));
            match (size, socket.batch(&nobody)) {
                (None, Err(error)) => assert_eq!(error.errno(), Some(Errno::NODEV)),
                // What became of a change is not known then.
                (Some(_), Err(Error::NoAnswer { .. })) => {}
                (_, other) => panic!("{other:?}"),
            }
        }
    }
}
