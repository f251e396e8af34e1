//! What the two sides of a clone say to each other.
//!
//! ```text
//! child                                   parent
//!   Netlink + socket of its netns    →      wires the network while the child mounts
//!   Terminal + pty master            →      keeps it           (with a terminal)
//!   Hooks                            →      runs those of its side       (with hooks only)
//!                                    ←    Go
//!   Ready                            →
//!                                    ←    Go                   (once the network stands)
//!   Process + pidfd                  →      of the process that goes on   (exec only)
//!   end of file: exec worked         →
//!   or Failed at any time            →
//! ```
//!
//! [`ORDER`] is that picture as data; [`Parent::hear`] refuses anything else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rbox_spec::Kind;
use rbox_sys::waiting::{self, Patience, StandsStill, Who};
use rbox_sys::{SysError, channel};

/// What the child reports.
#[derive(Debug)]
pub enum Told {
    /// A `NETLINK_ROUTE` socket in the child's network namespace.
    Netlink(OwnedFd),
    /// The master side of its terminal.
    Terminal(OwnedFd),
    /// All is mounted, and the root is still the host's: hooks run now. It waits for [`Parent::go`].
    Hooks,
    /// All is set up but the last steps; it waits for [`Parent::go`].
    Ready,
    /// A tree that the child has copied in a mount namespace of its own.
    Tree(OwnedFd),
    /// The child has made this process, which becomes the program in its place.
    Process(OwnedFd),
    /// A step failed; the child has ended or is about to.
    Failed(Failure),
    /// The channel was closed: exec worked, or the child was killed.
    Closed,
}

/// A step of init that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The step's name.
    pub step: String,
    /// The error, as one line.
    pub message: String,
    /// The kernel's number for it, 0 when there is none.
    pub errno: i32,
    /// It was the program that could not be executed, not a step before.
    pub is_exec: bool,
}

impl Failure {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self { is_exec: true, .. } => Kind::NotExecuted,
            // Not all steps fail in a call.
            Self { errno: 0, .. } => Kind::Internal,
            Self { errno, .. } => Kind::of_errno(*errno),
        }
    }
}

/// The kinds of message in the only order they may come, each at most once.
pub const ORDER: [char; 6] = [NETLINK, TERMINAL, HOOKS, READY, TREE, PROCESS];
const NETLINK: char = 'N';
const TERMINAL: char = 'T';
const HOOKS: char = 'H';
const READY: char = 'R';
const TREE: char = 'M';
const PROCESS: char = 'P';
const FAILED: char = 'F';
const GO: u8 = b'G';
/// How long the child may take from one message to the next. It mounts what was opened before, and reads the program.
const PATIENCE: Patience = Patience::MOMENT;
/// An error line with paths in it; longer ones are cut by the child.
const MESSAGE_MAX: usize = 8192;

/// What can go wrong between the two.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The socket failed.
    #[error("handshake with the container's first process: {0}")]
    Socket(#[from] SysError),
    /// It says nothing.
    #[error("the container's first process is not ready: {0}")]
    Silent(#[from] StandsStill),
    /// A message that may not come now.
    #[error("handshake with the container's first process: unexpected message {0:?}")]
    Order(char),
}

impl HandshakeError {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Socket(error) => Kind::of_errno(error.errno as i32),
            Self::Silent(_) => Kind::Unavailable,
            Self::Order(_) => Kind::Internal,
        }
    }
}

/// The parent's end.
#[derive(Debug)]
pub struct Parent {
    pub(crate) socket: OwnedFd,
    pub(crate) stage: usize,
}

/// The child's end.
#[derive(Debug)]
pub struct ChildEnd {
    pub(crate) socket: OwnedFd,
}

/// Makes both ends. Each side drops the other's, or the end of file never comes.
pub fn pair() -> Result<(Parent, ChildEnd), HandshakeError> {
    let (parent, child) = channel::pair()?;
    Ok((Parent { socket: parent, stage: 0 }, ChildEnd { socket: child }))
}

impl Parent {
    /// Waits for the next message of the child `who`, as long as that works.
    pub fn hear(&mut self, who: BorrowedFd<'_>) -> Result<Told, HandshakeError> {
        self.hear_for(who, PATIENCE)
    }

    /// [`Parent::hear`] where the child may take this long: it runs hooks.
    pub fn hear_for(&mut self, who: BorrowedFd<'_>, patience: Patience) -> Result<Told, HandshakeError> {
        waiting::readable(&self.socket, Who::Pidfd(who), patience)?;
        let mut buffer = [0_u8; MESSAGE_MAX];
        let (length, fd) = match channel::receive(&self.socket, &mut buffer) {
            Ok(received) => received,
            Err(error) if error.errno as i32 == nix::libc::ECONNRESET => return Ok(Told::Closed),
            Err(error) => return Err(error.into()),
        };
        if length == 0 {
            return Ok(Told::Closed);
        }
        let kind = char::from(buffer[0]);
        if kind == FAILED {
            return Ok(Told::Failed(Failure::decode(&buffer[1..length])));
        }
        let place = ORDER.iter().position(|k| *k == kind).filter(|place| *place >= self.stage);
        self.stage = place.ok_or(HandshakeError::Order(kind))? + 1;
        match (kind, fd) {
            (NETLINK, Some(fd)) => Ok(Told::Netlink(fd)),
            (TERMINAL, Some(fd)) => Ok(Told::Terminal(fd)),
            (HOOKS, None) => Ok(Told::Hooks),
            (READY, None) => Ok(Told::Ready),
            (TREE, Some(fd)) => Ok(Told::Tree(fd)),
            (PROCESS, Some(fd)) => Ok(Told::Process(fd)),
            _ => Err(HandshakeError::Order(kind)),
        }
    }

    /// Lets the child execute the program.
    pub fn go(&self) -> Result<(), HandshakeError> {
        Ok(channel::send(&self.socket, &[GO], None)?)
    }
}

impl ChildEnd {
    /// Hands the parent a netlink socket of this network namespace.
    pub fn netlink(&self, socket: BorrowedFd<'_>) -> Result<(), HandshakeError> {
        self.say(NETLINK, &[], Some(socket))
    }
    /// Hands the parent the terminal's master side.
    pub fn terminal(&self, master: BorrowedFd<'_>) -> Result<(), HandshakeError> {
        self.say(TERMINAL, &[], Some(master))
    }
    /// All is mounted; the hooks come.
    pub fn hooks(&self) -> Result<(), HandshakeError> {
        self.say(HOOKS, &[], None)
    }
    /// All but the last steps are done.
    pub fn ready(&self) -> Result<(), HandshakeError> {
        self.say(READY, &[], None)
    }
    /// Hands the parent a tree that is attached nowhere.
    pub fn tree(&self, tree: BorrowedFd<'_>) -> Result<(), HandshakeError> {
        self.say(TREE, &[], Some(tree))
    }
    /// Hands the parent a descriptor of the process that becomes the program.
    pub fn process(&self, pidfd: BorrowedFd<'_>) -> Result<(), HandshakeError> {
        self.say(PROCESS, &[], Some(pidfd))
    }
    /// Waits to be let go. False when the parent is gone: then nobody wants this container.
    ///
    /// Without an end: the parent may wait for its turn at locks and addresses meanwhile. Nobody waits for this process but the parent,
    /// and whoever waits for that finds it when it stands still.
    pub fn wait_go(&self) -> Result<bool, HandshakeError> {
        let mut buffer = [0_u8; 8];
        let (length, _) = channel::receive(&self.socket, &mut buffer)?;
        Ok(length == 1 && buffer[0] == GO)
    }
    /// Tells why the container does not come to be. A parent that is gone hears nothing.
    pub fn fail(&self, failure: &Failure) {
        let _ = self.say(FAILED, &failure.encode(), None);
    }
    /// The socket, to be kept open by whoever closes others.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn say(&self, kind: char, body: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), HandshakeError> {
        let mut message = Vec::with_capacity(body.len() + 1);
        message.push(kind as u8);
        message.extend_from_slice(body);
        Ok(channel::send(&self.socket, &message, fd)?)
    }
}

impl Failure {
    fn encode(&self) -> Vec<u8> {
        let kind = if self.is_exec { 'x' } else { 's' };
        let mut text = format!("{kind}{}\0{}\0{}", self.errno, self.step, self.message).into_bytes();
        text.truncate(MESSAGE_MAX - 1);
        text
    }

    fn decode(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let is_exec = text.starts_with('x');
        let mut parts = text.get(1..).unwrap_or_default().splitn(3, '\0');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        Self { errno: part().parse().unwrap_or(0), step: part(), message: part(), is_exec }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// This process, which says it all itself.
    fn own() -> OwnedFd {
        rbox_sys::process::pidfd_open(std::process::id() as i32).unwrap()
    }

    #[test]
    fn messages_come_in_order_only() {
        let (mut parent, child) = pair().unwrap();
        child.ready().unwrap();
        child.netlink(std::io::stderr().as_fd()).unwrap();
        assert!(matches!(parent.hear(own().as_fd()), Ok(Told::Ready)));
        assert!(matches!(parent.hear(own().as_fd()), Err(HandshakeError::Order('N'))));
    }

    #[test]
    fn a_failure_arrives_whole_and_a_long_one_cut() {
        let (mut parent, child) = pair().unwrap();
        let mut failure =
            Failure { step: "mount proc".into(), message: "fsopen: EPERM".into(), errno: 1, is_exec: false };
        child.fail(&failure);
        let Told::Failed(seen) = parent.hear(own().as_fd()).unwrap() else { panic!() };
        assert_eq!(seen, failure);
        failure.message = "x".repeat(100_000);
        child.fail(&failure);
        let Told::Failed(seen) = parent.hear(own().as_fd()).unwrap() else { panic!() };
        assert!(seen.message.len() < 9000 && seen.step == "mount proc");
        drop(child);
        assert!(matches!(parent.hear(own().as_fd()), Ok(Told::Closed)));
    }

    #[test]
    fn a_parent_that_is_gone_means_no() {
        let (parent, child) = pair().unwrap();
        drop(parent);
        assert!(!child.wait_go().unwrap_or(false));
    }
}
