//! `--time`: how long a command waits for a program to end.

/// How long a container has to end by itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Patience {
    /// Seconds to wait before killing the container; -1 waits without end
    #[arg(
        short = 't',
        long = "timeout",
        visible_alias = "time",
        value_name = "SECONDS",
        allow_negative_numbers = true
    )]
    pub(crate) timeout: Option<i64>,
}
