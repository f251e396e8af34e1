//! A container's name server: what it does with a message from the container, and with one from a server it asked.
//!
//! `./run` beside this, or `cargo fuzz run dns` in crates/rbox-network. The first byte chooses; what follows is one message, or two with the length of
//! the first before them.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use rbox_network::{Action, Lookup, Verdict, decide, judge};

struct Known;

impl Lookup for Known {
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        assert!(name.len() <= 253 && !name.contains(['/', '\0']));
        (name.len() % 2 == 1).then(|| (0..name.len() as u8).map(|n| IpAddr::from([10, 0, 0, n])).collect())
    }

    fn name_of(&self, ip: IpAddr) -> Option<String> {
        Some(format!("{}.net", "n".repeat(ip.to_string().len() * 5)))
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, rest)) = input.split_first() else { return };
    let (tcp, dots) = (choice & 1 != 0, choice & 2 != 0);
    if choice & 4 == 0 {
        if let Action::Reply(reply) = decide(rest, &Known, tcp, dots) {
            assert!(
                reply.len() >= 12 && reply.len() <= 65535 && reply[..2] == rest[..2] && reply[2] & 0x80 != 0
            );
            // An answer of ours is an answer to the question, and no question itself.
            assert_eq!(decide(&reply, &Known, tcp, dots), Action::Ignore);
        }
        return;
    }
    let Some((&length, rest)) = rest.split_first() else { return };
    let (asked, answer) = rest.split_at(usize::from(length).min(rest.len()));
    if judge(asked, answer) == Verdict::Answer {
        assert!(answer[..2] == asked[..2] && answer[2] & 0x80 != 0);
    }
});
