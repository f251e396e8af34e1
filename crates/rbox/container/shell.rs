//! `rbox shell`: a shell with tools beside a container that has none. It is another container, in the namespaces of that one.

use std::io::IsTerminal as _;

use clap::Parser;
use rbox_engine::embedded;
use rbox_engine::spec::container::{NetworkMode, PidMode};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::container::run::Run;

/// Open a shell in a container whose image may have none
///
/// The tools are those of another image: busybox if it is here, and else a small shell that rbox brings along. They see the container's
/// processes and are on its network; its files are at /proc/1/root, where the shell begins. Nothing is copied into the container, and it goes on
/// when the shell ends.
#[derive(Debug, Parser)]
#[command(
    name = "shell",
    after_help = "Examples:
  rbox shell web                                    # a shell, in the container's file system
  rbox shell web ps                                 # one command instead: its processes
  rbox shell --image nicolaka/netshoot web tcpdump -i eth0
  rbox shell web wget -qO- 127.0.0.1:8000"
)]
pub(crate) struct Shell {
    /// The image that the tools are from
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Its name or id
    container: String,
    /// A command to run instead of the shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The image whose tools are used when none is named and it is here.
const TOOLS: &str = "busybox";
/// Where the container's files are, if these may be seen.
const FILES: &str = "/proc/1/root";
const BEGIN: &str = "cd /proc/1/root 2>/dev/null; exec \"$@\"";

impl Execute for Shell {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let container = global.engine.container(&self.container)?;
        let id = container.record.id.as_str();
        if !container.is_running() {
            anyhow::bail!("container {} is not running", container.record.name);
        }
        if container.record.host.pid != PidMode::Private {
            anyhow::bail!(
                "container {} sees the processes of the host or of another container (--pid), so its own files cannot be told apart there",
                container.record.name
            );
        }
        let network = match container.record.host.network {
            NetworkMode::Host => "host".to_owned(),
            _ => format!("container:{id}"),
        };
        let mut words: Vec<String> = vec!["run".into(), "--rm".into(), "-i".into()];
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            words.push("-t".into());
        }
        // What belongs to other users in there is to be seen, too.
        words.extend([
            "--cap-add=SYS_PTRACE".into(),
            format!("--pid=container:{id}"),
            format!("--network={network}"),
        ]);
        words.push(format!("--label=rbox.shell={id}"));
        let here = || -> anyhow::Result<bool> { Ok(global.engine.images()?.find(TOOLS)?.is_some()) };
        let image = match self.image {
            Some(image) if embedded::is_name(&image) => None,
            Some(image) => Some(image),
            None => here()?.then(|| TOOLS.to_owned()),
        };
        if let Some(image) = image {
            words.extend(["--entrypoint=sh", "--", &image, "-c", BEGIN, "sh"].map(str::to_owned));
            if self.command.is_empty() {
                words.push("sh".to_owned());
            }
        } else {
            words.extend(["--entrypoint=/sh", "--", embedded::NAME, "--at", FILES].map(str::to_owned));
        }
        words.extend(self.command);
        Run::try_parse_from(words)?.execute(global)
    }
}
