//! Docker's flags that change nothing here: scripts pass them, so they are accepted with the values that mean what rbox does.

use crate::command::error::bad_input;

/// Those of `run` and `create`.
#[derive(Debug, clap::Args)]
#[command(next_display_order = None)]
pub(crate) struct AcceptedFlags {
    #[command(flatten)]
    trust: ContentTrust,
    /// Accepted for compatibility with Docker: default
    #[arg(long, value_name = "NAME")]
    isolation: Option<String>,
    /// Accepted for compatibility with Docker: runc
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// Accepted for compatibility with Docker: local
    #[arg(long, value_name = "NAME")]
    volume_driver: Option<String>,
}

/// Of whatever takes an image from a registry, or gives it one.
#[derive(Debug, clap::Args)]
#[command(next_display_order = None)]
pub(crate) struct ContentTrust {
    /// Accepted for compatibility with Docker; has no effect
    #[arg(long)]
    disable_content_trust: bool,
}

impl AcceptedFlags {
    /// Refuses values that ask for something else than what rbox does.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        only("--isolation", self.isolation.as_deref(), &["default"], "the others are for Windows")?;
        // Docker's names of the one that `docker info` shows as its default, and what `rbox info` shows.
        let runtimes = ["runc", "io.containerd.runc.v2", "rbox"];
        only("--runtime", self.runtime.as_deref(), &runtimes, "rbox makes containers itself")?;
        only(
            "--volume-driver",
            self.volume_driver.as_deref(),
            &["local"],
            "volumes are directories of this host",
        )
    }
}

/// Refuses a value that is not among `known`; the empty one is Docker's default.
pub(crate) fn only(flag: &str, value: Option<&str>, known: &[&str], why: &str) -> anyhow::Result<()> {
    match value {
        None | Some("") => Ok(()),
        Some(value) if known.contains(&value) => Ok(()),
        Some(value) => {
            Err(bad_input(format!("{flag} \"{value}\" is not supported: it takes {}, {why}", known[0])))
        }
    }
}
