//! What every command stands on: its entry in the table, the directories, errors and exit codes.

pub(crate) mod each;
pub(crate) mod entry;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod global;
pub(crate) mod interspersed;
