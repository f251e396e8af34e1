//! Output of programs of exec that nobody reads any more.
//!
//! The command of an exec reads its program's output itself. It hands the monitor copies of the descriptors, which are not touched as
//! long as the command is there. When that is gone, killed even, the monitor reads what the program writes and throws it away, so
//! that it goes on until it ends by itself: without a reader its next write would be its end.

use std::os::fd::OwnedFd;

use rbox_sys::channel;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

/// Of how many commands at the same time: each takes up to three descriptors.
const MOST: usize = 100;

/// The output of one program.
struct Output {
    /// Its end is the command's.
    command: Option<OwnedFd>,
    streams: Vec<OwnedFd>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Kept(Vec<Output>);

impl Kept {
    /// Takes a stream of the program whose command has the other end of `command`, which may send more.
    pub(crate) fn add(&mut self, command: OwnedFd, stream: OwnedFd) {
        if self.0.len() < MOST {
            self.0.push(Output { command: Some(command), streams: vec![stream] });
        }
    }

    /// Appends what to wait for: the ends of the commands, and the output of those that are gone. How many were appended.
    pub(crate) fn poll_fds<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) -> usize {
        let before = fds.len();
        for output in &self.0 {
            fds.extend(output.polled().map(|fd| PollFd::new(fd, PollFlags::IN)));
        }
        fds.len() - before
    }

    /// Does what is to be done for what was appended last: `ready` has each.
    pub(crate) fn turn(&mut self, ready: &[bool], buffer: &mut [u8]) {
        let mut ready = ready.iter().copied();
        self.0.retain_mut(|output| {
            let of_this: Vec<bool> = ready.by_ref().take(output.polled().count()).collect();
            output.turn(&of_this, buffer);
            output.command.is_some() || !output.streams.is_empty()
        });
    }
}

impl Output {
    fn polled(&self) -> impl Iterator<Item = &OwnedFd> {
        let streams: &[OwnedFd] = if self.command.is_some() { &[] } else { &self.streams };
        self.command.iter().chain(streams)
    }

    fn turn(&mut self, ready: &[bool], buffer: &mut [u8]) {
        if let Some(command) = &self.command {
            if ready.contains(&true) {
                match channel::receive(command, buffer) {
                    Ok((1.., stream)) => self.streams.extend(stream),
                    Err(error) if error.errno as i32 == nix::libc::EAGAIN => {}
                    Ok((0, _)) | Err(_) => self.command = None,
                }
            }
            return;
        }
        let mut ready = ready.iter();
        self.streams.retain(|stream| {
            ready.next() != Some(&true)
                || match rustix::io::read(stream, &mut *buffer) {
                    Ok(length) => length > 0,
                    Err(errno) => matches!(errno, Errno::AGAIN | Errno::INTR),
                }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn turn(kept: &mut Kept) {
        let mut fds = Vec::new();
        assert_eq!(kept.poll_fds(&mut fds), fds.len());
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&at_once)).unwrap();
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        kept.turn(&ready, &mut [0; 4096]);
    }

    #[test]
    fn output_is_read_once_the_command_is_gone_and_not_before() {
        let (command, ours) = channel::pair().unwrap();
        let mut kept = Kept::default();
        let pipes = [(); 2].map(|()| rustix::pipe::pipe().unwrap());
        let copy = |at: usize| pipes[at].0.try_clone().unwrap();
        kept.add(ours, copy(0));
        channel::send(&command, b"k", Some(std::os::fd::AsFd::as_fd(&pipes[1].0))).unwrap();
        let waits = |at: usize| rustix::io::ioctl_fionread(&pipes[at].0).unwrap();
        for (_, write) in &pipes {
            rustix::io::write(write, b"some").unwrap();
        }
        (0..3).for_each(|_| turn(&mut kept));
        assert_eq!((waits(0), waits(1)), (4, 4));
        drop(command);
        (0..3).for_each(|_| turn(&mut kept));
        assert_eq!((waits(0), waits(1), kept.0.len()), (0, 0, 1));
        drop(pipes);
        turn(&mut kept);
        assert!(kept.0.is_empty());
    }
}
