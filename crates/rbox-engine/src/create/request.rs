//! What the user asks for when a container is made.

use rbox_spec::ContainerName;
use rbox_spec::container::{ContainerConfig, HostConfig};
use rbox_spec::given::Content;

/// What the user said about a container.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// The image as the user named it.
    pub image: String,
    /// The command and its arguments; empty for the image's.
    pub command: Vec<String>,
    /// The words before the command in place of the image's. None at all leave the image's command alone; one that is empty
    /// (`--entrypoint ""`) takes that away too, as other words do.
    pub entrypoint: Option<Vec<String>>,
    /// `--name`.
    pub name: Option<ContainerName>,
    /// It is the image embedded in rbox.
    pub embedded: bool,
    /// Everything about the process. The image decides what is empty, and `entrypoint` and `cmd`.
    pub config: ContainerConfig,
    /// Everything about the host.
    pub host: HostConfig,
    /// What is in each of the `host.files`, in their order.
    pub contents: Vec<Content>,
}
