//! `rbox compose exec` and `attach`: into a container of a service that runs.

use std::io::IsTerminal as _;

use clap::Parser;
use rbox_engine::engine::ExecRequest;

use crate::args::flags::environment;
use crate::command::entry::Execute;
use crate::command::error::coded;
use crate::command::global::Global;
use crate::compose::chosen::{Chosen, not_done};
use crate::container::exec::{How, refused, run_in};
use crate::container::start::attach;
use crate::session::client::{self, DEFAULT_DETACH_KEYS};

/// Execute a command in a running container of a service
#[derive(Debug, Parser)]
#[command(
    name = "exec",
    after_help = "Examples:
  rbox compose exec web sh                   # with a terminal, if there is one
  rbox compose exec -T db pg_dump shop > dump.sql
  rbox compose exec -u 1000 -w /tmp -e LANG=C --index 2 web id"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Exec {
    /// Run it in the background
    #[arg(short, long)]
    detach: bool,
    /// Set an environment variable (NAME=value, or NAME to pass on this shell's)
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// All capabilities, no seccomp filter
    #[arg(long)]
    privileged: bool,
    /// No terminal, also where there is one
    #[arg(short = 'T', long, alias = "no-TTY")]
    no_tty: bool,
    /// Accepted: standard input is passed on in any case
    #[arg(short, long, hide = true)]
    interactive: bool,
    /// Accepted: a terminal is given where there is one
    #[arg(short, long, hide = true)]
    tty: bool,
    /// User and group (NAME|UID[:GROUP|GID])
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// The service
    service: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

impl Execute for Exec {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let chosen = not_done(Chosen::named(global))?;
        let one = chosen.running(&self.service, self.index)?;
        let tty = !self.no_tty && std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        let request = ExecRequest {
            command: self.command,
            tty,
            env: environment(&[], &self.env)?,
            user: self.user,
            working_dir: self.workdir,
            privileged: self.privileged,
            ..ExecRequest::default()
        };
        let keys = client::parse_detach_keys(DEFAULT_DETACH_KEYS)?;
        let how = How { detach: self.detach, input: true, detach_keys: &keys };
        coded(run_in(global, &one.container, &request, how).map_err(refused))
    }
}

/// Attach to the program of a service's running container
#[derive(Debug, Parser)]
#[command(
    name = "attach",
    after_help = "Examples:\n  rbox compose attach web          # Ctrl-P Ctrl-Q detaches again\n  rbox compose attach --no-stdin --index 2 web"
)]
pub(crate) struct Attach {
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS", default_value = DEFAULT_DETACH_KEYS, hide_default_value = true)]
    detach_keys: String,
    /// Which of the service's containers
    #[arg(long, value_name = "NUMBER")]
    index: Option<u32>,
    /// Do not attach standard input
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on to the program
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        default_value = "true", hide_default_value = true, action = clap::ArgAction::Set
    )]
    sig_proxy: bool,
    /// The service
    service: String,
}

impl Execute for Attach {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let keys = client::parse_detach_keys(&self.detach_keys)?;
        let chosen = not_done(Chosen::named(global))?;
        let one = chosen.running(&self.service, self.index)?;
        attach(global, &one.container, !self.no_stdin, &keys, self.sig_proxy)
    }
}
