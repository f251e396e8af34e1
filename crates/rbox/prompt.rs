//! The question that commands which delete much ask first.

use std::io::{BufRead, Write};

/// Shows the warning, asks, and reads one line. Anything but yes is no, and so is the end of input.
pub(crate) fn confirmed(warning: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    write!(out, "{warning}\nAre you sure you want to continue? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
