//! The journal of events: what happened to containers, images, volumes and networks, for `rbox events`.
//!
//! There is no daemon that could pass events on, so whoever does something writes a line about it into one file, `events/journal`
//! below the root, and listeners read that file and are woken by inotify(7). It stands below the root and not on tmpfs because
//! what happened before a reboot is asked for after it; an append costs the same on both, as nothing is synced.
//!
//! - A line is one write(2) with `O_APPEND`, which the kernel carries out whole beside others', in one order. Events that happen
//!   together are one write. A line begins and ends with a line feed: one that was cut off (by SIGKILL between two
//!   pages, a full disk, a power cut) spoils no other. Readers skip it and say so.
//! - The file's order is the order of events. Two writers that look at the clock at the same moment may write in the other
//!   order; readers let no time of a file go back for that ([`reader`]).
//! - When the file is full it is renamed to `journal.N`, N one more each time, and the one before it is deleted. Writers
//!   share a lock on the file, which the one who renames it has alone: so nobody writes to a file that was
//!   renamed, and no writer waits for another. The wait for a rename has an end, after which the line is written all the same.
//! - The file is opened for each append: a monitor that had it open for weeks would keep a deleted one on disk.
//! - Nothing fails because an event could not be written.
//!
//! A process may be killed between what it does and the line about it. Whoever finishes its work later ([`crate::cleanup`]) looks whether the
//! line is there, and else writes it ([`missing`]).

mod filter;
mod happening;
mod message;
mod missing;
mod reader;
mod used;
mod writer;

pub use filter::{EVENT_KEYS, EventFilter};
pub(crate) use happening::{
    ContainerAction, Exec, Happening, ImageAction, ImageActor, NetworkAction, NetworkActor, VolumeAction,
    given_up, taken,
};
pub use message::{ActorType, Message};
pub(crate) use missing::{destroy_if_missing, die_if_missing, died, history};
pub use reader::EventQuery;
pub(crate) use reader::{Entry, read};
pub(crate) use used::Used;

use crate::record::container::ContainerRecord;
use crate::record::paths::Paths;

/// Writes down what has happened, in this order. Best effort: see the module.
pub(crate) fn note(paths: &Paths, happenings: &[Happening<'_>]) {
    let messages: Vec<Message> =
        happenings.iter().filter(|happening| !happening.is_of_a_build()).map(Happening::message).collect();
    if messages.is_empty() {
        return;
    }
    let _ = writer::append(&paths.journal(), messages);
}

/// Writes down one thing that has happened to a container.
pub(crate) fn note_container(paths: &Paths, record: &ContainerRecord, action: ContainerAction<'_>) {
    note(paths, &[Happening::Container(record, action)]);
}
