//! The words of `rbox build`, for commands that carry out several builds.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::Context as _;

/// Words of a command line.
#[derive(Debug, Default)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl Words {
    /// A flag for each of these.
    pub(crate) fn add(&mut self, flag: &str, values: impl IntoIterator<Item = String>) {
        self.0.extend(values.into_iter().map(|value| format!("{flag}={value}")));
    }
}

/// Whether it is the path of a descriptor of this process: a text [`in_memory`], or what a shell's `<(…)` gives.
pub(crate) fn is_descriptor(path: &Path) -> bool {
    path.starts_with("/proc/self/fd") || path.starts_with("/dev/fd")
}

/// A path below which a text can be read as long as `held` is.
pub(crate) fn in_memory(text: &[u8], held: &mut Vec<OwnedFd>) -> anyhow::Result<String> {
    let file = rbox_engine::caller::in_memory(text).context("write to memory")?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    held.push(file.into());
    Ok(path)
}
