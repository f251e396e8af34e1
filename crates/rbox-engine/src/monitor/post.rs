//! Those who are attached to a container, or wait for its end: from one of its lives to the next.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::containers::stop_mark;
use crate::monitor::clients::{Client, Clients};
use crate::monitor::restart::timespec;
use crate::record::container::ContainerRecord;
use crate::record::paths::Paths;

/// What stays from one life of a container to the next.
pub(crate) struct Post {
    /// Where clients come in; none once nobody can.
    pub(crate) listener: Option<OwnedFd>,
    /// Those who are attached.
    pub(crate) clients: Clients,
    /// The terminal's size as it was when somebody started it.
    pub(crate) size: Option<(u16, u16)>,
}

impl Post {
    /// Waits out the pause before a restart. False when somebody wants the container to end, or its record is gone.
    pub(crate) fn wait(&mut self, paths: &Paths, record: &ContainerRecord, pause: Duration) -> bool {
        let begin = Instant::now();
        loop {
            if stop_mark::asked_to_end(paths, &record.id).is_some() || !paths.container(&record.id).exists() {
                return false;
            }
            let left = pause.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return true;
            }
            let timeout = timespec(left);
            let mut fds: Vec<PollFd<'_>> =
                (0..self.clients.len()).filter_map(|index| self.clients.poll_fd(index, true)).collect();
            if let Some(listener) = &self.listener {
                fds.push(PollFd::new(listener, PollFlags::IN));
            }
            let _ = rustix::event::poll(&mut fds, Some(&timeout));
            let ready: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            drop(fds);
            let of_clients = &ready[..self.clients.len()];
            self.clients.turn_without_program(of_clients);
            self.accept();
        }
    }

    /// Takes in those who connected.
    pub(crate) fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while let Ok(socket) = rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC) {
            self.clients.add(Client::new(socket, false));
        }
    }

    /// Nobody can connect from here on, and whoever did before hears of the exit with the others: somebody who is
    /// not taken in would see a monitor that is gone without a word.
    pub(crate) fn close(&mut self) {
        if let Some(listener) = &self.listener {
            let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Read);
        }
        self.accept();
        self.listener = None;
    }
}
