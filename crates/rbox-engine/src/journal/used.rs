//! What was used lately: as far as the journal knows.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::journal::reader::{self, Entry};
use crate::record::paths::Paths;

/// What was used since a moment.
#[derive(Debug, Default)]
pub(crate) struct Used {
    names: HashSet<String>,
    /// The journal begins before that moment: what is not in it was not used.
    is_whole: bool,
}

impl Used {
    /// Reads the journal.
    pub(crate) fn since(paths: &Paths, since: Timestamp) -> Self {
        let mut used = Self::default();
        let read = reader::read_whole(&paths.journal(), &mut |entry| {
            let message = match entry {
                Entry::Event(message) => message,
                // What is missing there may be the use of anything.
                Entry::Damaged(_) | Entry::Lost(_) => {
                    used.is_whole = false;
                    return;
                }
            };
            if message.timestamp() < since {
                used.is_whole = true;
                return;
            }
            // A container uses its image, its volumes are mounted, and its networks connected.
            used.names.insert(message.id.clone());
            used.names
                .extend(["name", "image"].iter().filter_map(|key| message.attributes.get(*key)).cloned());
        });
        used.is_whole &= read.is_ok();
        used
    }

    /// Whether one that has this name or id may have been used: it was, or the journal does not go back that far.
    pub(crate) fn may_have(&self, name: &str) -> bool {
        !self.is_whole || self.names.contains(name)
    }

    /// All the names and ids.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Whether the journal goes back to that moment.
    pub(crate) const fn is_whole(&self) -> bool {
        self.is_whole
    }
}
