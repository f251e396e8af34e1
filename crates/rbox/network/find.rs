//! Networks by what the user calls them.

use rbox_engine::network::Network;
use rbox_engine::networks::store::networks;

use crate::command::global::Global;

/// All networks: the bridge, those that stand for the host's and for none, and the users'.
pub(crate) fn all(global: &Global) -> anyhow::Result<Vec<Network>> {
    Ok(networks(&global.paths).list()?)
}

/// Whether `name` means this network: its name, its id or the beginning of that.
pub(crate) fn is_called(network: &Network, name: &str) -> bool {
    network.name == name || (name.len() >= 3 && network.id.starts_with(name))
}
