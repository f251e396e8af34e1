//! Commands on networks, and the way of a packet.

pub(crate) mod net;
pub(crate) mod net_mermaid;
pub(crate) mod net_tree;
pub(crate) mod networks;
