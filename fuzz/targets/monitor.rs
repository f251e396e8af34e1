//! What a monitor and those attached to it say to each other. A packet of either side is refused or says one thing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rbox_engine::session::{FromMonitor, ToMonitor};

fuzz_target!(|packet: &[u8]| {
    if let Some(message) = FromMonitor::decode(packet) {
        // Written again it is read as the same. (Not the same bytes: a text may have been no UTF-8.)
        assert_eq!(FromMonitor::decode(&message.encode()), Some(message));
    }
    if let Some(message) = ToMonitor::decode(packet) {
        assert_eq!(ToMonitor::decode(&message.encode()), Some(message));
    }
});
