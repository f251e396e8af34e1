//! The way of a packet: drawn, and traced from a source to a destination.
//!
//! What is shown comes from three places that must agree: the records (who is on which network), the kernel (links, routes,
//! sockets, what the nftables tables hold), and the rules as `rbox-network` writes them. [`World`] is all that was
//! looked at once; [`Kernel`] answers what depends on where one stands. A trace walks over both and touches nothing;
//! only `--probe` sends a packet.

mod arrive;
mod drawing;
mod kernel;
mod name;
mod probe;
mod trace;
mod walk;
mod world;

pub mod target;
#[cfg(test)]
mod tests;

pub use crate::networks::sockets::Socket;
pub use crate::packet::drawing::{
    ContainerDrawing, Dns, Drawing, HostDrawing, LinkDrawing, NamesDrawing, NetworkDrawing, PlaceDrawing,
    PortDrawing, RulesDrawing, draw,
};
pub use crate::packet::kernel::{Kernel, Live};
pub use crate::packet::probe::{Probe, probe};
pub use crate::packet::target::Target;
pub use crate::packet::trace::{Rule, Step, Stopped, Trace, Verdict};
pub use crate::packet::walk::{Place, walk};
pub use crate::packet::world::{Net, Node, World};
