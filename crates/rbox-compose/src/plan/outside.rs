//! What a plan has to know of the outside of a project.

use std::collections::BTreeMap;

use rbox_spec::id::ContainerId;

/// What the outside of a project has for it by now.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// The ids of the images, by service.
    pub images: BTreeMap<String, String>,
    /// The ids of the images that services mount, by their names.
    pub mounted: BTreeMap<String, String>,
    /// The ids of networks, by the names that the files give them.
    pub networks: BTreeMap<String, String>,
    /// What [`crate::labels::PROVIDED`] is to say, by service; none where providers were not asked.
    pub provided: Option<BTreeMap<String, String>>,
    /// Secrets and configs whose contents are others by now: by the container's id, their places in it.
    pub contents: BTreeMap<ContainerId, Vec<String>>,
}
