//! Questions over UDP on their way to a name server and back.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};

use super::local::{failure, random};
use super::message::{self, Verdict, rcode};
use super::upstream::{MOST, Servers, Upstreams};

/// Questions that are with a name server at once: each has a socket, so that each has a port nobody can guess.
const ASKED: usize = 200;
/// Questions that wait for one of those to end, as many in all as Docker has on the way.
const WAITING: usize = 1024 - ASKED;
/// A question waits this long for its turn, as in Docker.
const PATIENCE: Duration = Duration::from_secs(4);
/// Each server is asked [`ROUNDS`] times, each time for this long: as long as in Docker, but a packet that got lost, or a
/// server that is gone, costs half of it.
const TRY: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
/// Messages looked at in one turn of one socket, so that a flood of forged answers does not hold up the rest.
const LOOKED_AT: usize = 16;

/// A question that somebody waits for.
struct Asked {
    client: SocketAddrV4,
    /// The id that the client gave it.
    id: [u8; 2],
    /// The question, with our own id.
    message: Vec<u8>,
    servers: Servers,
    /// One for each server that was asked and has not failed.
    sockets: [Option<OwnedFd>; MOST],
    failed: [bool; MOST],
    tries: usize,
    /// When to ask the next one.
    next: Instant,
}

/// A question that waits for its turn.
struct Waiting {
    client: SocketAddrV4,
    message: Vec<u8>,
    until: Instant,
}

#[derive(Default)]
pub(super) struct Forwarder {
    asked: Vec<Asked>,
    waiting: VecDeque<Waiting>,
}

/// How it goes with a question.
enum State {
    Open,
    /// The answer is in the buffer, so long.
    Answered(usize),
    /// Nobody answers it.
    Failed,
}

impl Forwarder {
    /// Takes a question on. False when there are too many.
    pub(super) fn push(&mut self, client: SocketAddrV4, message: &[u8], upstreams: &mut Upstreams) -> bool {
        if self.waiting.len() >= WAITING {
            return false;
        }
        let until = Instant::now() + PATIENCE;
        self.waiting.push_back(Waiting { client, message: message.to_vec(), until });
        self.begin(upstreams);
        true
    }

    /// Asks what waits, as far as there is room.
    fn begin(&mut self, upstreams: &mut Upstreams) {
        while self.asked.len() < ASKED
            && let Some(Waiting { client, mut message, .. }) = self.waiting.pop_front()
        {
            let id = message::id(&message);
            message::set_id(&mut message, random());
            let servers = upstreams.servers();
            let mut asked = Asked {
                client,
                id,
                message,
                servers,
                sockets: Default::default(),
                failed: Default::default(),
                tries: 0,
                next: Instant::now(),
            };
            // One that fails at once is told so in the next turn, which is due.
            let _ = asked.ask_next(upstreams);
            self.asked.push(asked);
        }
    }

    pub(super) fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let sockets = self.asked.iter().flat_map(|asked| asked.sockets.iter().flatten());
        fds.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
    }

    /// When the next question has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|waiting| waiting.until);
        self.asked.iter().map(|asked| asked.next).chain(waiting).min()
    }

    /// Takes the answers that came and goes on where none did. `ready` is of the descriptors of [`Self::poll_fds`].
    pub(super) fn turn(
        &mut self,
        ready: &mut impl Iterator<Item = bool>,
        upstreams: &mut Upstreams,
        buffer: &mut [u8],
        client: &OwnedFd,
    ) {
        let now = Instant::now();
        self.asked.retain_mut(|asked| {
            let mut state = asked.receive(ready, buffer, now);
            if matches!(state, State::Open) && asked.next <= now {
                state = asked.ask_next(upstreams);
            }
            match state {
                State::Open => return true,
                State::Answered(length) => {
                    let answer = buffer.get_mut(..length).unwrap_or_default();
                    message::set_id(answer, asked.id);
                    reply(client, answer, asked.client);
                }
                State::Failed => {
                    message::set_id(&mut asked.message, asked.id);
                    reply(client, &failure(&asked.message, rcode::SERVFAIL), asked.client);
                }
            }
            false
        });
        while let Some(waiting) = self.waiting.pop_front_if(|waiting| waiting.until <= now) {
            reply(client, &failure(&waiting.message, rcode::REFUSED), waiting.client);
        }
        self.begin(upstreams);
    }
}

/// Sends an answer to the container. One that does not fit into its socket is lost, as packets are.
pub(super) fn reply(socket: &OwnedFd, answer: &[u8], client: SocketAddrV4) {
    let _ = rustix::net::sendto(socket, answer, SendFlags::DONTWAIT, &client);
}

impl Asked {
    /// Looks at what the servers sent.
    fn receive(&mut self, ready: &mut impl Iterator<Item = bool>, buffer: &mut [u8], now: Instant) -> State {
        let mut state = State::Open;
        for (socket, failed) in self.sockets.iter_mut().zip(&mut self.failed) {
            let Some(fd) = socket else { continue };
            // Each descriptor has its place in `ready`, also behind one that brought the answer.
            if !ready.next().unwrap_or(true) || matches!(state, State::Answered(_)) {
                continue;
            }
            match receive_one(fd.as_fd(), &self.message, buffer) {
                State::Open => {}
                State::Failed => {
                    *failed = true;
                    *socket = None;
                    // The next one is asked without waiting.
                    self.next = now;
                }
                answered @ State::Answered(_) => state = answered,
            }
        }
        state
    }

    /// Asks the next server that has not failed; `Failed` when there is none, or all were asked often enough.
    fn ask_next(&mut self, upstreams: &Upstreams) -> State {
        let Servers { list, inside } = &self.servers;
        while self.tries < list.len() * ROUNDS {
            let index = self.tries % list.len();
            self.tries += 1;
            let (Some(server), Some(socket), Some(failed)) =
                (list.get(index), self.sockets.get_mut(index), self.failed.get_mut(index))
            else {
                continue;
            };
            if *failed {
                continue;
            }
            if socket.is_none() {
                *socket = upstreams.connect(*server, *inside, SocketType::DGRAM).ok();
            }
            let sent = socket
                .as_ref()
                .is_some_and(|fd| rustix::net::send(fd, &self.message, SendFlags::DONTWAIT).is_ok());
            if sent {
                self.next = Instant::now() + TRY;
                return State::Open;
            }
            *failed = true;
            *socket = None;
        }
        State::Failed
    }
}

/// Reads until the answer is in the buffer, there is no more, or the server cannot answer.
fn receive_one(socket: impl AsFd, asked: &[u8], buffer: &mut [u8]) -> State {
    for _ in 0..LOOKED_AT {
        match rustix::net::recv(socket.as_fd(), &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => match message::judge(asked, buffer.get(..length).unwrap_or_default()) {
                Verdict::Answer => return State::Answered(length),
                Verdict::Failure => return State::Failed,
                Verdict::Other => {}
            },
            Err(Errno::AGAIN) => return State::Open,
            Err(Errno::INTR) => {}
            // ECONNREFUSED, EHOSTUNREACH: nobody is there.
            Err(_) => return State::Failed,
        }
    }
    State::Open
}
