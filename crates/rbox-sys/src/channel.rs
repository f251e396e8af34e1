//! Messages with descriptors between the two sides of a clone: a SEQPACKET socket pair (unix(7)).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::error::SysError;

/// A pair of connected sockets that keep message boundaries, closed by exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd), SysError> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|e| SysError::new("socketpair", "AF_UNIX, SOCK_SEQPACKET".into(), e))
}

/// Sends one message and at most one descriptor with it. A peer that is gone is EPIPE, not a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), SysError> {
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds;
    if let Some(fd) = fd {
        fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(SysError::new("sendmsg", format!("{} bytes", bytes.len()), e)),
        }
    }
}

/// Whether a message is there, or the end, within this time. Interruptions are no message.
pub fn is_heard_within(socket: impl AsFd, time: Duration) -> bool {
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    // What is wrong with it is told by whoever receives.
    !matches!(
        rustix::event::poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&time)),
        Ok(0) | Err(rustix::io::Errno::INTR)
    )
}

/// Receives one message into `buffer`: its length and the descriptor that came along. Length 0 is the end.
///
/// A peer that closes its end while something we sent is unread makes the kernel report `ECONNRESET` once, before what the
/// peer itself sent last, which is still queued here (`unix_release_sock`). So that error is passed over, whether a send or
/// a receive meets it, and the end of the queue is the only end.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>), SysError> {
    let length = buffer.len();
    let mut reset = false;
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        match rustix::net::recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(message) => {
                let mut fd = None;
                for ancillary in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(fds) = ancillary {
                        fd = fds.last();
                    }
                }
                return Ok((message.bytes, fd));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) if !reset => reset = true,
            Err(e) => return Err(SysError::new("recvmsg", format!("{length} bytes"), e)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_closed_peer_sent_last_is_received() {
        for sends_after in [false, true] {
            let (ours, theirs) = pair().unwrap();
            send(&ours, b"unread", None).unwrap();
            send(&theirs, b"first", None).unwrap();
            send(&theirs, b"last", None).unwrap();
            drop(theirs);
            if sends_after {
                assert!(send(&ours, b"too late", None).is_err());
            }
            let mut buffer = [0; 16];
            for expected in [&b"first"[..], b"last", b""] {
                let (length, _) = receive(&ours, &mut buffer).unwrap();
                assert_eq!(&buffer[..length], expected, "sent after the end: {sends_after}");
            }
        }
    }
}
