//! One thing done to each of several that the user named.

use crate::command::error::{NOT_DONE, report};

/// Does something to each of several things the user named. Each failure is reported when it happens and the rest
/// is still done, as Docker's client does; then the exit code is 1.
pub(crate) fn each(names: &[String], mut work: impl FnMut(&str) -> anyhow::Result<()>) -> u8 {
    let mut code = 0;
    for name in names {
        if let Err(error) = work(name) {
            code = code.max(report(&error).min(NOT_DONE));
        }
    }
    code
}
