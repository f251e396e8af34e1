//! Those attached to a container: what waits to be sent to each, and when one that does not read is cut off.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rbox_sys::channel;
use rustix::event::{PollFd, PollFlags};

use crate::monitor::protocol::{CHUNK, FromMonitor};

/// Bytes that may wait for a client before the program has to.
const BUFFER: usize = 1024 * 1024;
/// How long a client whose buffer is full may take nothing. The program, its log and all others wait for it that long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Somebody attached.
pub(crate) struct Client {
    socket: OwnedFd,
    pending: VecDeque<Rc<[u8]>>,
    /// Bytes in `pending`.
    waiting: usize,
    /// When it last took something that had waited, or when something began to wait.
    progress: Instant,
    hears: Hears,
    /// Its end of input ends the program's.
    pub(crate) owns_input: bool,
    /// It is waited for as long as it takes.
    pub(crate) is_waited_for: bool,
}

/// What a client still gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hears {
    All,
    /// What waits for it, and no more.
    Rest,
    /// Nothing: it does not receive any more. What it sent before is still read.
    Nothing,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd, owns_input: bool) -> Self {
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        Self {
            socket,
            pending: VecDeque::new(),
            waiting: 0,
            progress: Instant::now(),
            hears: Hears::All,
            owns_input,
            is_waited_for: false,
        }
    }

    fn push(&mut self, packet: Rc<[u8]>) {
        if self.pending.is_empty() {
            self.progress = Instant::now();
        }
        self.waiting += packet.len();
        self.pending.push_back(packet);
        self.flush();
    }

    /// Sends what waits, as far as it is taken.
    fn flush(&mut self) {
        while let Some(packet) = self.pending.front() {
            match channel::send(&self.socket, packet, None) {
                Ok(()) => {
                    self.waiting -= packet.len();
                    self.pending.pop_front();
                    self.progress = Instant::now();
                }
                Err(e) if matches!(e.errno as i32, nix::libc::EAGAIN | nix::libc::ENOBUFS) => return,
                Err(_) => {
                    self.hears = Hears::Nothing;
                    self.pending.clear();
                    self.waiting = 0;
                }
            }
        }
    }

    pub(crate) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    fn is_full(&self) -> bool {
        self.hears == Hears::All && self.waiting > BUFFER
    }
}

/// What a client sent.
pub(crate) enum Heard {
    /// Nothing now.
    Nothing,
    /// A message of this length, and the descriptor that came with it.
    Message(usize, Option<OwnedFd>),
    /// It is gone.
    End,
}

/// All of them, by their index.
#[derive(Default)]
pub(crate) struct Clients(Vec<Client>);

impl Clients {
    pub(crate) fn add(&mut self, client: Client) {
        self.0.push(client);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sends a message to everybody.
    pub(crate) fn say(&mut self, message: &FromMonitor<'_>) {
        let mut listening = self.0.iter_mut().filter(|client| client.hears == Hears::All).peekable();
        if listening.peek().is_some() {
            let packet: Rc<[u8]> = message.encode().into();
            listening.for_each(|client| client.push(Rc::clone(&packet)));
        }
    }

    /// Sends the last message that these clients get.
    pub(crate) fn say_last(&mut self, message: &FromMonitor<'_>) {
        self.say(message);
        for client in &mut self.0 {
            client.owns_input = false;
            if client.hears == Hears::All {
                client.hears = Hears::Rest;
            }
        }
        self.0.retain(|client| client.hears != Hears::Rest || !client.pending.is_empty());
    }

    /// Whether output must wait for a client. One that took nothing for long is cut off here.
    pub(crate) fn must_wait(&mut self) -> bool {
        for client in self.0.iter_mut().filter(|client| client.is_full()) {
            if !client.is_waited_for && client.progress.elapsed() >= PATIENCE {
                client.push(FromMonitor::CutOff.encode().into());
                client.hears = Hears::Rest;
            }
        }
        self.0.iter().any(Client::is_full)
    }

    /// When [`must_wait`](Self::must_wait) is to be asked again.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let full = self.0.iter().filter(|client| client.is_full() && !client.is_waited_for);
        full.map(|client| PATIENCE.saturating_sub(client.progress.elapsed())).min()
    }

    /// What to wait for with one of them: always for its end, for its words when `wants_input`.
    pub(crate) fn poll_fd(&self, index: usize, wants_input: bool) -> Option<PollFd<'_>> {
        let client = self.0.get(index)?;
        let mut events = if wants_input { PollFlags::IN } else { PollFlags::empty() };
        if !client.pending.is_empty() {
            events |= PollFlags::OUT;
        }
        (!events.is_empty()).then(|| PollFd::new(&client.socket, events))
    }

    /// Sends what waits for one of them. False when it has got the last that it gets.
    pub(crate) fn flush(&mut self, index: usize) -> bool {
        let Some(client) = self.0.get_mut(index) else { return true };
        client.flush();
        client.hears != Hears::Rest || !client.pending.is_empty()
    }

    /// Receives from one of them into `buffer`.
    pub(crate) fn receive(&mut self, index: usize, buffer: &mut [u8]) -> Heard {
        let Some(client) = self.0.get(index) else { return Heard::Nothing };
        match channel::receive(&client.socket, buffer) {
            Ok((0, _)) => Heard::End,
            Ok((length, passed)) => Heard::Message(length, passed),
            Err(e) if e.errno as i32 == nix::libc::EAGAIN => Heard::Nothing,
            Err(_) => Heard::End,
        }
    }

    pub(crate) fn remove(&mut self, index: usize) -> Client {
        self.0.remove(index)
    }

    /// Whether its end of input ends the program's.
    pub(crate) fn owns_input(&self, index: usize) -> bool {
        self.0.get(index).is_some_and(|client| client.owns_input)
    }

    /// One turn with all of them while no program runs: `ready` is for each what [`poll_fd`](Self::poll_fd) waited for. Their input goes
    /// nowhere. Those that are gone, or have got all that they get, are let go.
    pub(crate) fn turn_without_program(&mut self, ready: &[PollFlags]) {
        let mut packet = vec![0_u8; CHUNK + 1];
        for (index, ready) in ready.iter().enumerate().rev() {
            let is_gone = ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && matches!(self.receive(index, &mut packet), Heard::End);
            if is_gone || !self.flush(index) {
                self.remove(index);
            }
        }
    }

    /// Waits until everybody has got what waits for them, or is gone. Without an end: nothing of the container is kept for this, nobody
    /// waits for it, and a pager that shows the first page may take its time.
    pub(crate) fn linger(mut self) {
        while self.len() > 0 {
            let mut fds: Vec<PollFd<'_>> =
                (0..self.len()).filter_map(|index| self.poll_fd(index, true)).collect();
            let _ = rustix::event::poll(&mut fds, None);
            let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            drop(fds);
            self.turn_without_program(&ready);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::logs::Stream;

    fn output(bytes: &[u8]) -> FromMonitor<'_> {
        FromMonitor::Output(Stream::Stdout, bytes)
    }

    #[test]
    fn a_client_that_stops_reading_is_cut_off_with_a_word_and_gets_what_waited() {
        let (theirs, ours) = channel::pair().unwrap();
        let mut clients = Clients::default();
        clients.add(Client::new(ours, false));
        let (chunk, mut sent) = (vec![7; CHUNK], 0);
        while !clients.must_wait() {
            clients.say(&output(&chunk));
            sent += 1;
            assert!(sent < 1000, "a client that does not read never holds anything up");
        }
        assert!(clients.timeout().unwrap() <= PATIENCE);
        // As if its time were over.
        clients.0[0].progress = Instant::now().checked_sub(PATIENCE).unwrap();
        assert!(!clients.must_wait() && clients.timeout().is_none());
        clients.say(&output(b"not for it"));
        let reader = std::thread::spawn(move || {
            let (mut packet, mut got, mut last) = (vec![0; CHUNK + 1], 0, 0);
            while let Ok((length @ 1.., _)) = channel::receive(&theirs, &mut packet) {
                got += usize::from(length == CHUNK + 1);
                last = packet[0];
            }
            (got, last)
        });
        clients.say_last(&output(b"nor this"));
        clients.linger();
        assert_eq!(reader.join().unwrap(), (sent, FromMonitor::CutOff.encode()[0]));
    }

    #[test]
    fn what_a_client_sent_before_it_went_is_read_although_it_hears_no_more() {
        let (theirs, ours) = channel::pair().unwrap();
        let mut clients = Clients::default();
        clients.add(Client::new(ours, true));
        channel::send(&theirs, b"i1", None).unwrap();
        channel::send(&theirs, b"i2", None).unwrap();
        drop(theirs);
        clients.say(&output(b"nobody is there"));
        let mut packet = [0; 8];
        assert!(matches!(clients.receive(0, &mut packet), Heard::Message(2, None)));
        assert!(clients.flush(0));
        assert!(matches!(clients.receive(0, &mut packet), Heard::Message(2, None)));
        assert_eq!(&packet[..2], b"i2");
        assert!(matches!(clients.receive(0, &mut packet), Heard::End));
    }
}
