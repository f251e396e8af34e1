//! The networks of containers: joining and leaving, addresses, ports, names.

pub(crate) mod attach;
pub(crate) mod change;
pub(crate) mod dns;
pub(crate) mod files;
pub(crate) mod hand_over;
pub(crate) mod links;
pub(crate) mod port_owner;
pub(crate) mod ports;
pub(crate) mod resolve;
pub(crate) mod serve;
pub(crate) mod sockets;
pub(crate) mod store;
