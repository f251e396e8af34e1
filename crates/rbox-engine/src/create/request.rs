//! What the user asks for when a container is made.

use std::collections::BTreeMap;

use rbox_spec::ContainerName;
use rbox_spec::container::{Attached, HostConfig};

/// What the user said about a container; what is none is the image's to say.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// The image as the user named it.
    pub image: String,
    /// The command and its arguments; empty for the image's.
    pub command: Vec<String>,
    /// `--entrypoint`; an empty text takes the image's away.
    pub entrypoint: Option<String>,
    /// `--name`.
    pub name: Option<ContainerName>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `--umask`.
    pub umask: Option<u32>,
    /// `-u`.
    pub user: Option<String>,
    /// `-w`.
    pub working_dir: Option<String>,
    /// `-e` and `--env-file`, in order.
    pub env: Vec<String>,
    /// `-l`.
    pub labels: BTreeMap<String, String>,
    /// `--expose`.
    pub expose: Vec<String>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub open_stdin: bool,
    /// What the command attaches to.
    pub attached: Attached,
    /// `--stop-signal`.
    pub stop_signal: Option<String>,
    /// `--stop-timeout`, seconds.
    pub stop_timeout: Option<i64>,
    /// It is the image embedded in rbox.
    pub embedded: bool,
    /// Everything about the host.
    pub host: HostConfig,
}
