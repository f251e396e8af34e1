//! What the fuzzer (fuzz/) reaches that nothing else needs.

use netlink_packet_core::Parseable;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::route::RouteMessage;

use crate::nft::encode::attributes;
use crate::{conntrack, diag, look, nft, socket};

/// Reads a datagram as an answer to each kind of question that is asked. The number of its messages.
pub fn netlink(datagram: &[u8]) -> usize {
    let Some(messages) = socket::split(datagram) else { return 0 };
    for (_, message) in &messages {
        let body = message.body.as_slice();
        assert!(body.len() <= datagram.len());
        let _ = socket::errno_of(body);
        let _ = (look::read_link(body), diag::read(body), conntrack::Tuple::parse(body, 1));
        // The crate that reads these is another's; what it makes of them may be an error only.
        let _ = (RouteMessage::parse(body), AddressMessage::parse(body));
        nft::fuzzing(body);
        let nested: usize = attributes(body).map(|(_, value)| value.len() + 4).sum();
        assert!(nested <= body.len());
    }
    messages.len()
}
