//! The networks of containers: joining and leaving, addresses, ports, names.

pub mod attach;
pub mod change;
pub mod dns;
pub mod files;
pub(crate) mod links;
pub(crate) mod port_owner;
pub mod ports;
pub(crate) mod resolve;
pub(crate) mod serve;
pub(crate) mod sockets;
pub mod store;
