//! The wire format of nftables: nested attributes, expressions, batches.
//!
//! Source: `linux/netfilter/nf_tables.h` and `nfnetlink.h`. Integers in attributes are big-endian.

use crate::socket::{ACK, REQUEST, frame};

/// `NFT_MSG_*`.
pub(crate) mod msg {
    pub(crate) const NEWTABLE: u16 = 0;
    pub(crate) const DELTABLE: u16 = 2;
    pub(crate) const NEWCHAIN: u16 = 3;
    pub(crate) const GETCHAIN: u16 = 4;
    pub(crate) const NEWRULE: u16 = 6;
    pub(crate) const GETRULE: u16 = 7;
    pub(crate) const DELRULE: u16 = 8;
    pub(crate) const NEWSET: u16 = 9;
    pub(crate) const NEWSETELEM: u16 = 12;
    pub(crate) const GETSETELEM: u16 = 13;
    pub(crate) const DELSETELEM: u16 = 14;
    pub(crate) const GETGEN: u16 = 16;
}

/// The family of a table: which packets its chains see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Ip,
    Ip6,
    /// Frames on their way through a bridge.
    Bridge,
}

impl Family {
    /// `NFPROTO_*`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
            Self::Bridge => 7,
        }
    }

    /// The length of an address in bytes.
    pub(crate) fn address(self) -> u32 {
        if self == Self::Ip6 { 16 } else { 4 }
    }

    /// How many 32-bit registers an address fills.
    pub(crate) fn registers(self) -> u32 {
        self.address() / 4
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
        })
    }
}

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NESTED: u16 = 0x8000;

/// The message type with its subsystem.
pub(crate) fn kind(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

/// Netlink attributes being written.
#[derive(Clone, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    /// A message body: `nfgenmsg` and no attributes yet.
    pub(crate) fn message(family: Family) -> Self {
        Self::of_number(family.number())
    }

    /// The same for all families at once.
    pub(crate) fn any_family() -> Self {
        Self::of_number(0)
    }

    /// The same for a family that may be none of ours.
    pub(crate) fn of_number(family: u8) -> Self {
        Self(vec![family, 0, 0, 0])
    }

    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A string with its NUL.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(crate) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.nested_bytes(kind, &inner.0)
    }

    /// A nest whose attributes are encoded already.
    pub(crate) fn nested_bytes(self, kind: u16, inner: &[u8]) -> Self {
        self.bytes(kind | NESTED, inner)
    }

    pub(crate) fn into_body(self) -> Vec<u8> {
        self.0
    }
}

/// Reads the attribute `kind` of a message or nest, without its header.
pub(crate) fn attribute(body: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(body).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Iterates over the attributes in `body`; stops at the first that is cut short.
pub(crate) fn attributes(mut body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = body.split_first_chunk::<4>()?;
        let [l0, l1, k0, k1] = *header;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = body.get(4..length)?;
        body = body.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & !NESTED, value))
    })
}

/// A transaction: all of it is committed, or nothing.
pub(crate) struct Batch {
    out: Vec<u8>,
    messages: Vec<(u16, u16, Attributes)>,
    generation: Option<u32>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { out: Vec::with_capacity(1024), messages: Vec::new(), generation: None }
    }

    /// Commits only while the ruleset's generation is still `generation`; `ERESTART` otherwise.
    pub(crate) fn at_generation(generation: u32) -> Self {
        Self { generation: Some(generation), ..Self::new() }
    }

    pub(crate) fn push(&mut self, message: u16, flags: u16, body: Attributes) {
        self.messages.push((message, flags, body));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The bytes to send and how many messages they are, numbered from `first`. The last but the closing one asks for
    /// the acknowledgement, given once all is committed.
    pub(crate) fn encode(mut self, first: u32) -> (Vec<u8>, u32) {
        let bracket = vec![0, 0, 0, SUBSYSTEM as u8];
        let mut begin = Attributes(bracket.clone());
        if let Some(generation) = self.generation {
            begin = begin.u32(1, generation);
        }
        let mut sequence = first;
        frame(&mut self.out, BATCH_BEGIN, REQUEST, sequence, &begin.0);
        let last = self.messages.len().saturating_sub(1);
        for (index, (message, flags, body)) in self.messages.into_iter().enumerate() {
            sequence += 1;
            let ack = if index == last { ACK } else { 0 };
            frame(&mut self.out, kind(message), REQUEST | flags | ack, sequence, &body.0);
        }
        frame(&mut self.out, BATCH_END, REQUEST, sequence + 1, &bracket);
        (self.out, sequence + 2 - first)
    }
}

/// The 32-bit registers; `REG_1` to `REG_4` of the 128-bit numbering lie over them.
pub(crate) const VERDICT: u32 = 0;
pub(crate) const R0: u32 = 8;
/// The register 16 bytes above `R0`: what follows an interface name in a concatenation is loaded into it.
pub(crate) const R4: u32 = 12;
/// The register after the eight bytes that a hardware address fills from `R4`.
pub(crate) const R6: u32 = 14;

/// `NFT_FIB_RESULT_*`, `NFTA_FIB_F_*`, and a type of address, `RTN_*`.
const FIB_OIF: u32 = 1;
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const FIB_IIF: u32 = 8;
const RTN_LOCAL: u32 = 2;

/// What a payload's offset counts from, `NFT_PAYLOAD_*`.
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// A rule's list of expressions being written; those of the packet's addresses are `family`'s.
#[derive(Clone)]
pub(crate) struct Rule {
    family: Family,
    expressions: Attributes,
}

impl Rule {
    pub(crate) fn new(family: Family) -> Self {
        Self { family, expressions: Attributes::default() }
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    pub(crate) fn into_attributes(self) -> Attributes {
        self.expressions
    }

    fn expression(self, name: &str, data: &Attributes) -> Self {
        let inner = Attributes::default().text(1, name).nest(2, data);
        Self { expressions: self.expressions.nest(1, &inner), ..self }
    }

    /// Loads packet metadata (`NFT_META_*`).
    pub(crate) fn meta(self, key: u32, register: u32) -> Self {
        self.expression("meta", &Attributes::default().u32(1, register).u32(2, key))
    }

    pub(crate) fn iifname(self, register: u32) -> Self {
        self.meta(6, register)
    }

    pub(crate) fn oifname(self, register: u32) -> Self {
        self.meta(7, register)
    }

    pub(crate) fn l4proto(self, register: u32) -> Self {
        self.meta(16, register)
    }

    fn payload(self, base: u32, offset: u32, length: u32, register: u32) -> Self {
        let data = Attributes::default().u32(1, register).u32(2, base).u32(3, offset).u32(4, length);
        self.expression("payload", &data)
    }

    pub(crate) fn saddr(self, register: u32) -> Self {
        let (offset, length) = (if self.family == Family::Ip6 { 8 } else { 12 }, self.family.address());
        self.payload(NETWORK_HEADER, offset, length, register)
    }

    pub(crate) fn daddr(self, register: u32) -> Self {
        let (offset, length) = (if self.family == Family::Ip6 { 24 } else { 16 }, self.family.address());
        self.payload(NETWORK_HEADER, offset, length, register)
    }

    /// The two bytes of a frame that say what it carries; with a VLAN tag, that it has one.
    pub(crate) fn ether_type(self, register: u32) -> Self {
        self.payload(LINK_HEADER, 12, 2, register)
    }

    pub(crate) fn ether_saddr(self, register: u32) -> Self {
        self.payload(LINK_HEADER, 6, 6, register)
    }

    /// `length` bytes of the network header: of an ARP message.
    pub(crate) fn network(self, offset: u32, length: u32, register: u32) -> Self {
        self.payload(NETWORK_HEADER, offset, length, register)
    }

    /// `length` bytes of the transport header: of an `ICMPv6` message.
    pub(crate) fn transport(self, offset: u32, length: u32, register: u32) -> Self {
        self.payload(TRANSPORT_HEADER, offset, length, register)
    }

    /// The source port of TCP, UDP and SCTP alike.
    pub(crate) fn sport(self, register: u32) -> Self {
        self.transport(0, 2, register)
    }

    /// The destination port of TCP, UDP and SCTP alike.
    pub(crate) fn dport(self, register: u32) -> Self {
        self.transport(2, 2, register)
    }

    /// Goes on when `register` equals `value`, or, when `differ`, when it does not.
    pub(crate) fn compare(self, register: u32, differ: bool, value: &[u8]) -> Self {
        let value = Attributes::default().bytes(1, value);
        let data = Attributes::default().u32(1, register).u32(2, u32::from(differ)).nest(3, &value);
        self.expression("cmp", &data)
    }

    /// From `R0` on: the bits of `mask` only.
    pub(crate) fn mask(self, mask: &[u8]) -> Self {
        let zero = vec![0_u8; mask.len()];
        let data = Attributes::default()
            .u32(1, R0)
            .u32(2, R0)
            .u32(3, mask.len() as u32)
            .nest(4, &Attributes::default().bytes(1, mask))
            .nest(5, &Attributes::default().bytes(1, &zero));
        self.expression("bitwise", &data)
    }

    /// Goes on when what lies from `R0` is in `set`; not in it, when `absent`.
    pub(crate) fn lookup(self, set: &str, absent: bool) -> Self {
        let mut data = Attributes::default().text(1, set).u32(2, R0);
        if absent {
            data = data.u32(5, 1);
        }
        self.expression("lookup", &data)
    }

    /// Replaces what lies from `R0` by what `map` holds for it; stops the rule when it holds nothing.
    pub(crate) fn map(self, map: &str) -> Self {
        self.expression("lookup", &Attributes::default().text(1, map).u32(2, R0).u32(3, 1))
    }

    /// Goes on when the connection has one of the `NF_CT_STATE` bits.
    pub(crate) fn ct_state(self, bits: u32) -> Self {
        self.ct(0, bits)
    }

    /// Goes on when the connection has one of the `IPS_*` bits.
    pub(crate) fn ct_status(self, bits: u32) -> Self {
        self.ct(2, bits)
    }

    fn ct(self, key: u32, bits: u32) -> Self {
        self.expression("ct", &Attributes::default().u32(1, R0).u32(2, key))
            .mask(&bits.to_ne_bytes())
            .compare(R0, true, &[0; 4])
    }

    /// Goes on when the destination is one of the host's addresses.
    pub(crate) fn if_to_this_host(self) -> Self {
        self.fib(FIB_ADDRESS_TYPE, FIB_DADDR).compare(R0, false, &RTN_LOCAL.to_ne_bytes())
    }

    /// Goes on when the destination is neither an address of the link the packet came from nor for many there.
    pub(crate) fn if_beyond_its_link(self) -> Self {
        const RTN_BROADCAST: u32 = 3;
        const RTN_MULTICAST: u32 = 5;
        [RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST]
            .iter()
            .fold(self.fib(FIB_ADDRESS_TYPE, FIB_DADDR | FIB_IIF), |rule, kind| {
                rule.compare(R0, true, &kind.to_ne_bytes())
            })
    }

    /// Goes on when the source would not be routed back over the link the packet came from.
    pub(crate) fn if_source_is_foreign(self) -> Self {
        self.fib(FIB_OIF, FIB_SADDR | FIB_IIF).compare(R0, false, &[0; 4])
    }

    /// Loads what the routes say of an address: `NFT_FIB_RESULT_*` by `NFTA_FIB_F_*`.
    fn fib(self, result: u32, by: u32) -> Self {
        self.expression("fib", &Attributes::default().u32(1, R0).u32(2, result).u32(3, by))
    }

    /// Changes the destination to the address in `R0` and the port in the register after it.
    pub(crate) fn dnat(self) -> Self {
        let port = R0 + self.family.registers();
        let family = u32::from(self.family.number());
        let data = Attributes::default().u32(1, 1).u32(2, family).u32(3, R0).u32(5, port);
        self.expression("nat", &data)
    }

    pub(crate) fn counter(self) -> Self {
        let zero = 0_u64.to_be_bytes();
        self.expression("counter", &Attributes::default().bytes(1, &zero).bytes(2, &zero))
    }

    /// Ends the chain for this packet, with the chain's policy.
    pub(crate) fn leave_chain(self) -> Self {
        const RETURN: i32 = -5;
        self.verdict(RETURN as u32)
    }

    /// Goes through the chain and comes back, unless a verdict there ends the way.
    pub(crate) fn jump(self, chain: &str) -> Self {
        const JUMP: i32 = -3;
        let verdict = Attributes::default().u32(1, JUMP as u32).text(2, chain);
        self.immediate_verdict(&verdict)
    }

    pub(crate) fn masquerade(self) -> Self {
        self.expression("masq", &Attributes::default())
    }

    pub(crate) fn accept(self) -> Self {
        self.verdict(1)
    }

    pub(crate) fn drop(self) -> Self {
        self.verdict(0)
    }

    /// Loads two bytes into `R0`.
    pub(crate) fn value(self, value: [u8; 2]) -> Self {
        let data = Attributes::default().bytes(1, &value);
        self.expression("immediate", &Attributes::default().u32(1, R0).nest(2, &data))
    }

    /// Writes the two bytes of `R0` to `offset` in the transport header, whose checksum is at `checksum`.
    pub(crate) fn write_port(self, offset: u32, checksum: u32) -> Self {
        const INTERNET_CHECKSUM: u32 = 1;
        let data = Attributes::default()
            .u32(2, TRANSPORT_HEADER)
            .u32(3, offset)
            .u32(4, 2)
            .u32(5, R0)
            .u32(6, INTERNET_CHECKSUM)
            .u32(7, checksum);
        self.expression("payload", &data)
    }

    fn verdict(self, code: u32) -> Self {
        self.immediate_verdict(&Attributes::default().u32(1, code))
    }

    fn immediate_verdict(self, verdict: &Attributes) -> Self {
        let data = Attributes::default().nest(2, verdict);
        self.expression("immediate", &Attributes::default().u32(1, VERDICT).nest(2, &data))
    }
}

/// Text as the kernel gives it: up to its NUL.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let body =
            Attributes::default().text(1, "rbox").u32(2, 7).nest(3, &Attributes::default().bytes(9, &[1]));
        let body = body.into_body();
        assert_eq!(body.len() % 4, 0);
        assert_eq!(attribute(&body, 1).unwrap(), b"rbox\0");
        assert_eq!(attribute(&body, 2).unwrap(), [0, 0, 0, 7]);
        assert_eq!(attribute(attribute(&body, 3).unwrap(), 9).unwrap(), [1]);
        assert_eq!(attribute(&body, 4), None);
        assert_eq!(attribute(&[8, 0, 1, 0, 0], 1), None, "cut short");
        assert_eq!(attribute(&[0, 0, 1, 0], 1), None, "a length of nothing ends it");
    }
}
