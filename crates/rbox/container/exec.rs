//! `rbox exec`: a further process in a container that runs.

use clap::Parser;
use rbox_engine::engine::{Container, ExecRequest, ExecStdio};
use rbox_engine::error::EngineError;

use crate::args::flags::environment;
use crate::command::entry::Execute;
use crate::command::error::{Coded, NOT_DONE, coded};
use crate::command::global::Global;
use crate::session::client::{self, Attachment, DEFAULT_DETACH_KEYS};
use crate::session::output::Shown;
use crate::session::peers::{Ended, ProcessPeer};

/// Execute a command in a running container
#[derive(Debug, Parser)]
#[command(
    name = "exec",
    after_help = "Examples:
  rbox exec -it web sh
  rbox exec web cat /etc/hostname
  rbox exec -u 1000 -w /tmp -e LANG=C web id
  rbox exec -d web touch /tmp/done
  rbox exec --preserve-fds 1 web sh -c 'cat <&3' 3< file

It joins the namespaces and the control group of the container's PID 1, with its user, capabilities and
seccomp filter, and ends with it at the latest. It sees the same files, processes and addresses. See setns(2)."
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub(crate) struct Exec {
    /// Run it in the background
    #[arg(short, long)]
    detach: bool,
    /// Keys that detach from the terminal
    #[arg(long, value_name = "KEYS", default_value = DEFAULT_DETACH_KEYS, hide_default_value = true)]
    detach_keys: String,
    /// Set an environment variable (NAME=value, or NAME to pass on this shell's)
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Give it so many descriptors of this command besides the streams: 3, 4, …
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = clap::value_parser!(u32).range(0..=1000))]
    preserve_fds: u32,
    /// All capabilities, no seccomp filter
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// User and group (NAME|UID[:GROUP|GID])
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Its name or id
    container: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

impl Execute for Exec {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let keys = client::parse_detach_keys(&self.detach_keys)?;
        if !self.detach {
            client::require_terminal(self.interactive, self.tty)?;
        }
        let env = environment(&self.env_file, &self.env)?;
        let request = ExecRequest {
            command: self.command.clone(),
            tty: self.tty,
            env,
            user: self.user.clone(),
            working_dir: self.workdir.clone(),
            privileged: self.privileged,
            preserve_fds: self.preserve_fds,
        };
        let how = How { detach: self.detach, input: self.interactive, detach_keys: &keys };
        let done = || run_in(global, &global.engine.container(&self.container)?, &request, how);
        coded(done().map_err(refused))
    }
}

/// How a process is run in a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How<'a> {
    /// In the background.
    pub(crate) detach: bool,
    /// With this process's standard input.
    pub(crate) input: bool,
    /// The keys that leave it.
    pub(crate) detach_keys: &'a [u8],
}

/// It is not there, not running, or paused: as with Docker, this is not the command's failure.
pub(crate) fn refused(error: anyhow::Error) -> anyhow::Error {
    match error.downcast() {
        Ok(error @ (EngineError::Conflict(_) | EngineError::NoContainer(_) | EngineError::Ambiguous(_))) => {
            Coded { message: error.to_string(), code: NOT_DONE }.into()
        }
        Ok(error) => error.into(),
        Err(error) => error,
    }
}

/// Runs a process in a container: its exit code.
pub(crate) fn run_in(
    global: &Global,
    container: &Container,
    request: &ExecRequest,
    how: How<'_>,
) -> anyhow::Result<u8> {
    let stdio = if request.tty {
        ExecStdio::Terminal(client::size())
    } else if how.detach {
        ExecStdio::Nowhere
    } else {
        ExecStdio::Pipes { input: how.input }
    };
    if how.detach {
        // There is no code of a program to give, so with Docker it is always this one.
        let refused = |error: EngineError| Coded { message: error.with_causes(), code: NOT_DONE };
        global.engine.exec_detached(container, request, stdio).map_err(refused)?;
        return Ok(0);
    }
    let process = global.engine.exec(container, request, stdio)?;
    let mut peer = ProcessPeer::new(process, request.tty);
    let attachment = Attachment {
        input: how.input,
        shown: Shown::ALL,
        tty: request.tty,
        detach_keys: how.detach_keys,
        proxy: None,
    };
    let ended = client::run(&mut peer, attachment)?;
    // Who leaves when it has ended has nothing to leave behind.
    let code = if let Ended::Exit(code) = ended { Some(code) } else { peer.exit_code() };
    if let Some(code) = code {
        return Ok(u8::try_from(code).unwrap_or(255));
    }
    peer.process.detach();
    Ok(0)
}
