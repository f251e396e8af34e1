//! A line on standard output.

use crate::output::table;

/// Prints a line of result; a reader that went away is no error.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    Ok(table::write_all(&mut std::io::stdout(), &format!("{text}\n"))?)
}
