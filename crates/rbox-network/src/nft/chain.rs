//! What a table is made of: chains with their rules, sets and maps.

use super::encode::Rule;

/// nft's numbers for data types; a concatenation shifts the earlier ones left by six bits.
pub(super) mod datatype {
    pub(crate) const ADDRESS: u32 = 7;
    pub(crate) const ADDRESS6: u32 = 8;
    pub(crate) const HARDWARE: u32 = 9;
    pub(crate) const PROTOCOL: u32 = 12;
    pub(crate) const SERVICE: u32 = 13;
    pub(crate) const IFNAME: u32 = 41;
}

/// An interface name as sets and registers hold it.
pub(super) fn ifname(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    bytes
}

/// Where a chain is hooked into the kernel.
pub(super) struct Hook {
    pub(super) kind: &'static str,
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// A chain and its rules; without a hook it is the administrator's, made once and never touched again.
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Rule>,
}

impl Chain {
    pub(super) fn filter(name: &'static str, number: u32, priority: i32, rules: Vec<Rule>) -> Self {
        Self { name, hook: Some(Hook { kind: "filter", number, priority }), rules }
    }

    pub(super) fn nat(name: &'static str, number: u32, priority: i32, rules: Vec<Rule>) -> Self {
        Self { name, hook: Some(Hook { kind: "nat", number, priority }), rules }
    }

    /// How many rules it has to have; none when that is not ours to say.
    pub(super) fn count(&self) -> Option<u32> {
        self.hook.as_ref().map(|_| self.rules.len() as u32)
    }
}

/// A set or map to be made: name, flags, type and length of the key, type and length of a map's values.
pub(super) struct Set(
    pub(super) &'static str,
    pub(super) u32,
    pub(super) u32,
    pub(super) u32,
    pub(super) Option<(u32, u32)>,
);
