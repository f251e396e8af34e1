//! Questions over TCP: each message has its length before it (RFC 1035, 4.2.2; RFC 7766).
//!
//! One question of a connection is dealt with at a time. What goes to a name server goes by TCP too.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};

use super::LONGEST_QUERY;
use super::local::{Action, decide, failure, random};
use super::lookup::Lookup;
use super::message::{self, Verdict, rcode};
use super::upstream::{Servers, Upstreams};

/// Connections of the container at once; others wait in the kernel.
const CLIENTS: usize = 64;
/// A connection on which nothing goes on for this long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Before a connection that could not be taken is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Connections that are given up when there are no more descriptors.
const GIVEN_UP: usize = 8;
/// How long each name server is given, as in Docker.
const TRY: Duration = Duration::from_secs(4);

struct Client {
    socket: OwnedFd,
    /// What came and is not answered yet: parts of a message, or further ones.
    input: Vec<u8>,
    output: Output,
    asking: Option<Asking>,
    until: Instant,
    /// It will send no more.
    ended: bool,
}

/// A question that is with a name server.
struct Asking {
    id: [u8; 2],
    message: Vec<u8>,
    servers: Servers,
    /// The server that is asked, and the connection to it.
    index: usize,
    socket: OwnedFd,
    output: Output,
    input: Vec<u8>,
    until: Instant,
}

/// How it goes with the server that is asked.
enum State {
    Open,
    /// The answer, with the id that the client gave.
    Answered(Vec<u8>),
    /// This server gives none.
    Failed,
}

/// A message with its length, and how much of it is sent.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

/// What reading or writing came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Went {
    /// As far as it goes for now.
    On,
    /// All that there was to write.
    Done,
    /// The other side will send no more.
    End,
    Wrong,
}

impl Output {
    fn new(message: &[u8]) -> Self {
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let message = message.get(..usize::from(length)).unwrap_or_default();
        Self { bytes: [&length.to_be_bytes(), message].concat(), sent: 0 }
    }

    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    fn send(&mut self, socket: impl AsFd) -> Went {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match rustix::net::send(socket.as_fd(), rest, flags) {
                Ok(length) => self.sent += length,
                Err(Errno::INTR) => {}
                // A connection that is still being made.
                Err(Errno::AGAIN | Errno::NOTCONN) => return Went::On,
                Err(_) => return Went::Wrong,
            }
        }
        *self = Self::default();
        Went::Done
    }
}

/// Appends what is there, `most` bytes in all.
fn receive(socket: impl AsFd, input: &mut Vec<u8>, most: usize) -> Went {
    while input.len() < most {
        let mut part = [0; 2048];
        let room = part.len().min(most - input.len());
        let place = part.get_mut(..room).unwrap_or_default();
        match rustix::net::recv(socket.as_fd(), place, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Went::End,
            Ok((_, length)) => input.extend_from_slice(part.get(..length).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Went::On,
            Err(_) => return Went::Wrong,
        }
    }
    Went::On
}

/// The first message in `input`, once it is whole; `Err` when its length is more than `most`.
fn first_message(input: &[u8], most: u16) -> Result<Option<&[u8]>, ()> {
    let Some((length, rest)) = input.split_first_chunk::<2>() else { return Ok(None) };
    let length = u16::from_be_bytes(*length);
    if length > most { Err(()) } else { Ok(rest.get(..usize::from(length))) }
}

#[derive(Default)]
pub(super) struct Clients {
    list: Vec<Client>,
    /// None is taken before this moment.
    paused: Option<Instant>,
}

/// What the answering of one question needs.
pub(super) struct Context<'a> {
    pub(super) names: &'a dyn Lookup,
    pub(super) upstreams: &'a mut Upstreams,
    pub(super) dots: bool,
}

impl Clients {
    /// Whether one more connection is taken.
    pub(super) fn has_room(&self) -> bool {
        self.list.len() < CLIENTS && self.pause().is_none()
    }

    fn pause(&self) -> Option<Instant> {
        self.paused.filter(|end| *end > Instant::now())
    }

    pub(super) fn accept(&mut self, listener: &OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while self.has_room() {
            let socket = match rustix::net::accept_with(listener, flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(Errno::AGAIN) => return,
                // No descriptors or no memory. poll(2) would tell of the same connection for ever, and names could not be
                // looked up any more: those who came last go again.
                Err(_) => {
                    self.list.truncate(self.list.len().saturating_sub(GIVEN_UP));
                    self.paused = Some(Instant::now() + PAUSE);
                    return;
                }
            };
            self.list.push(Client {
                socket,
                input: Vec::new(),
                output: Output::default(),
                asking: None,
                until: Instant::now() + IDLE,
                ended: false,
            });
        }
    }

    pub(super) fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        for client in &self.list {
            let wanted = match &client.asking {
                // Only its end.
                Some(_) => PollFlags::empty(),
                None if client.output.is_empty() => PollFlags::IN,
                None => PollFlags::OUT,
            };
            fds.push(PollFd::new(&client.socket, wanted));
            if let Some(asking) = &client.asking {
                let wanted = if asking.output.is_empty() { PollFlags::IN } else { PollFlags::OUT };
                fds.push(PollFd::new(&asking.socket, wanted));
            }
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let until = |client: &Client| client.asking.as_ref().map_or(client.until, |asking| asking.until);
        self.list.iter().map(until).chain(self.pause()).min()
    }

    /// `ready` is of the descriptors of [`Self::poll_fds`].
    pub(super) fn turn(&mut self, ready: &mut impl Iterator<Item = bool>, context: &mut Context<'_>) {
        let now = Instant::now();
        self.list.retain_mut(|client| {
            let own = ready.next().unwrap_or(true);
            match client.asking.take() {
                Some(asking) => {
                    let answered = ready.next().unwrap_or(true);
                    // Without anything asked for, what is told is that the connection is gone.
                    !own && client.go_on(asking, answered, now, context)
                }
                None if own => client.serve(now, context),
                None => client.until > now,
            }
        });
    }
}

impl Client {
    /// Reads and writes as far as it goes. False when the connection is to be closed.
    fn serve(&mut self, now: Instant, context: &mut Context<'_>) -> bool {
        if !self.ended && self.output.is_empty() {
            match receive(&self.socket, &mut self.input, 2 + usize::from(LONGEST_QUERY)) {
                Went::Wrong => return false,
                Went::End => self.ended = true,
                Went::On | Went::Done => {}
            }
        }
        self.until = now + IDLE;
        self.answer(context)
    }

    /// Deals with the messages that are there, until one has to wait. False when the connection is to be closed.
    fn answer(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            match self.output.send(&self.socket) {
                Went::Done => {}
                Went::On => return true,
                Went::End | Went::Wrong => return false,
            }
            let message = match first_message(&self.input, LONGEST_QUERY) {
                Ok(Some(message)) => message.to_vec(),
                Ok(None) => return !self.ended,
                Err(()) => return false,
            };
            self.input.drain(..2 + message.len());
            match decide(&message, context.names, true, context.dots) {
                Action::Reply(reply) => self.output = Output::new(&reply),
                Action::Ignore => return false,
                Action::Forward => match Asking::begin(&message, context.upstreams) {
                    Some(asking) => {
                        self.asking = Some(asking);
                        return true;
                    }
                    None => self.output = Output::new(&failure(&message, rcode::SERVFAIL)),
                },
            }
        }
    }

    /// Goes on with the question that is with a name server.
    fn go_on(&mut self, mut asking: Asking, ready: bool, now: Instant, context: &mut Context<'_>) -> bool {
        let state = match (ready, asking.until <= now) {
            (true, _) => asking.read_or_write(),
            (false, true) => State::Failed,
            (false, false) => State::Open,
        };
        let reply = match state {
            State::Answered(answer) => answer,
            State::Failed if !asking.next_server(context.upstreams) => {
                message::set_id(&mut asking.message, asking.id);
                failure(&asking.message, rcode::SERVFAIL)
            }
            State::Open | State::Failed => {
                self.asking = Some(asking);
                return true;
            }
        };
        self.output = Output::new(&reply);
        self.until = now + IDLE;
        self.answer(context)
    }
}

impl Asking {
    /// Begins to ask. None when there is nobody to ask.
    fn begin(message: &[u8], upstreams: &mut Upstreams) -> Option<Self> {
        let servers = upstreams.servers();
        let (index, socket) = connect(&servers, 0, upstreams)?;
        let id = message::id(message);
        let mut message = message.to_vec();
        message::set_id(&mut message, random());
        let (output, until) = (Output::new(&message), Instant::now() + TRY);
        Some(Self { id, message, servers, index, socket, output, input: Vec::new(), until })
    }

    /// Begins again with the next server; false when that was the last.
    fn next_server(&mut self, upstreams: &Upstreams) -> bool {
        let Some((index, socket)) = connect(&self.servers, self.index + 1, upstreams) else { return false };
        (self.index, self.socket) = (index, socket);
        self.output = Output::new(&self.message);
        self.input.clear();
        self.until = Instant::now() + TRY;
        true
    }

    /// Writes the question and reads the answer as far as it goes.
    fn read_or_write(&mut self) -> State {
        match self.output.send(&self.socket) {
            Went::Done => {}
            Went::On => return State::Open,
            Went::End | Went::Wrong => return State::Failed,
        }
        let went = receive(&self.socket, &mut self.input, 2 + usize::from(u16::MAX));
        match first_message(&self.input, u16::MAX) {
            Ok(Some(answer)) if message::judge(&self.message, answer) == Verdict::Answer => {
                let mut answer = answer.to_vec();
                message::set_id(&mut answer, self.id);
                State::Answered(answer)
            }
            Ok(None) if went == Went::On => State::Open,
            _ => State::Failed,
        }
    }
}

/// The first server from `first` on to which a connection can be begun.
fn connect(servers: &Servers, first: usize, upstreams: &Upstreams) -> Option<(usize, OwnedFd)> {
    let rest = servers.list.iter().enumerate().skip(first);
    rest.into_iter().find_map(|(index, server)| {
        Some((index, upstreams.connect(*server, servers.inside, SocketType::STREAM).ok()?))
    })
}
