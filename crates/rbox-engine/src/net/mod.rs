//! The way of a packet: drawn, and traced from a source to a destination.
//!
//! What is told comes from three places that must agree: the records (who is on which network), the kernel (links, routes,
//! sockets, what the nftables tables hold), and the rules as `rbox-network` writes them. [`World`] is all that was
//! looked at once; [`Kernel`] answers what depends on where one stands. A trace walks over both and touches nothing;
//! only `--probe` sends a packet.

mod arrive;
mod drawing;
mod holder;
mod kernel;
mod name;
mod probe;
mod sockets;
mod trace;
mod walk;
mod world;

#[cfg(test)]
mod tests;

pub use drawing::{
    ContainerDrawing, Dns, Drawing, HostDrawing, LinkDrawing, NamesDrawing, NetworkDrawing, PlaceDrawing,
    PortDrawing, RulesDrawing, draw,
};
pub(crate) use holder::holder;
pub use kernel::{Kernel, Live};
pub use name::Target;
pub use probe::{Probe, probe};
pub use sockets::Socket;
pub use trace::{Rule, Step, Stopped, Trace, Verdict};
pub use walk::{Place, walk};
pub use world::{Net, Node, World};
