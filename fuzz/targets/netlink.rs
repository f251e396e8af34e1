//! What the kernel answers: datagrams of messages of attributes of attributes. The kernel is no enemy, but containers name links,
//! and a kernel to come says what this one does not.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    let messages = rbox_network::fuzzing::netlink(datagram);
    assert!(messages <= datagram.len() / 16);
});
