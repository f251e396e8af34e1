//! Datagrams to a published port, and for each client a socket to the container.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::connect::connect;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};

/// Clients at once: with one more, the one that has been quiet for longest is forgotten.
const FLOWS: usize = 64;
/// A client that is quiet for this long is forgotten; the kernel's time for flows it translates.
const IDLE: Duration = Duration::from_secs(30);
/// Datagrams taken from one socket in one turn.
const TAKEN: usize = 64;
/// The longest datagram there is.
const LONGEST: usize = 64 * 1024;

#[derive(Default)]
pub(super) struct Flows(Vec<Flow>);

struct Flow {
    client: SocketAddrV6,
    server: OwnedFd,
    until: Instant,
}

impl Flows {
    pub(super) fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.extend(self.0.iter().map(|flow| PollFd::new(&flow.server, PollFlags::IN)));
    }

    /// When the first client is to be forgotten.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.iter().map(|flow| flow.until).min()
    }

    /// `ready` is of the descriptors of [`Self::poll_fds`], `own` of the published port's `socket`.
    pub(super) fn turn(
        &mut self,
        ready: &mut impl Iterator<Item = bool>,
        own: bool,
        socket: &OwnedFd,
        to: SocketAddrV6,
    ) {
        let now = Instant::now();
        let mut buffer = Vec::new();
        for flow in &mut self.0 {
            if ready.next().unwrap_or(false) {
                buffer.resize(LONGEST, 0);
                flow.answer(socket, now, &mut buffer);
            }
        }
        self.0.retain(|flow| flow.until > now);
        if own {
            buffer.resize(LONGEST, 0);
            self.take(socket, to, now, &mut buffer);
        }
    }

    /// Passes on what clients sent.
    fn take(&mut self, socket: &OwnedFd, to: SocketAddrV6, now: Instant, buffer: &mut [u8]) {
        for _ in 0..TAKEN {
            let (length, from) = match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => (length, from),
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            // Nobody outside can send with this address: the kernel drops that on every link but the loopback.
            let Some(Ok(client)) = from.map(SocketAddrV6::try_from) else { continue };
            if *client.ip() != Ipv6Addr::LOCALHOST {
                continue;
            }
            let Some(flow) = self.of(client, to, now) else { continue };
            flow.until = now + IDLE;
            let datagram = buffer.get(..length).unwrap_or_default();
            // That nobody listened to the one before is reported once, in place of sending this one.
            for _ in 0..2 {
                if rustix::net::send(&flow.server, datagram, SendFlags::DONTWAIT) != Err(Errno::CONNREFUSED) {
                    break;
                }
            }
        }
    }

    /// The client's flow; none when there are no descriptors or no way to the container.
    fn of(&mut self, client: SocketAddrV6, to: SocketAddrV6, now: Instant) -> Option<&mut Flow> {
        if let Some(known) = self.0.iter().position(|flow| flow.client == client) {
            return self.0.get_mut(known);
        }
        let server = connect(to, SocketType::DGRAM).ok()?;
        if self.0.len() >= FLOWS {
            let quietest = (0..self.0.len()).min_by_key(|index| self.0.get(*index).map(|flow| flow.until));
            quietest.map(|index| self.0.swap_remove(index));
        }
        self.0.push(Flow { client, server, until: now + IDLE });
        self.0.last_mut()
    }
}

impl Flow {
    /// Passes on what the container answered.
    fn answer(&mut self, socket: &OwnedFd, now: Instant, buffer: &mut [u8]) {
        for _ in 0..TAKEN {
            match rustix::net::recv(&self.server, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    let _ = rustix::net::sendto(socket, datagram, SendFlags::DONTWAIT, &self.client);
                    self.until = now + IDLE;
                }
                Err(Errno::INTR | Errno::CONNREFUSED) => {}
                Err(_) => return,
            }
        }
    }
}
