//! Records that are being made: under a name that says who makes them, so that those of a dead maker are known.

use std::path::PathBuf;

use rbox_spec::id::ContainerId;

use crate::record::container::{process_is, process_start};
use crate::record::paths::Paths;

pub(crate) const NEW: &str = ".new-";

/// Where this process makes the record of `id`: the name says who makes it, so that a dead maker's is known.
pub(crate) fn unfinished_record(paths: &Paths, id: &ContainerId) -> PathBuf {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let ticks = process_start(pid).map_or(0, |(ticks, _)| ticks);
    paths.containers().join(format!("{NEW}{id}.{pid}.{ticks}"))
}

/// Whether a running process is making the record of `id`.
pub(crate) fn is_being_made(paths: &Paths, id: &ContainerId) -> bool {
    let of_id = format!("{NEW}{id}.");
    let listing = std::fs::read_dir(paths.containers()).into_iter().flatten().flatten();
    listing
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .any(|name| name.starts_with(&of_id) && !is_abandoned(&name))
}

/// Whether this is the name of a record whose maker is dead.
pub(crate) fn is_abandoned(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(NEW) else { return false };
    let mut parts = rest.split('.').skip(1).map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(pid)), Some(Ok(ticks))) => !process_is(pid as i32, ticks),
        _ => true,
    }
}
