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

pub(crate) const NFPROTO_IPV4: u8 = 2;
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
    pub(crate) fn message(family: u8) -> Self {
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
pub(crate) const R1: u32 = 9;
pub(crate) const R2: u32 = 10;
/// The register 16 bytes above `R0`: what a second interface name of a concatenation is loaded into.
pub(crate) const R4: u32 = 12;

/// A rule's list of expressions being written.
#[derive(Clone, Default)]
pub(crate) struct Rule(Attributes);

impl Rule {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn into_attributes(self) -> Attributes {
        self.0
    }

    fn expression(self, name: &str, data: &Attributes) -> Self {
        let inner = Attributes::default().text(1, name).nest(2, data);
        Self(self.0.nest(1, &inner))
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
        self.payload(1, 12, 4, register)
    }

    pub(crate) fn daddr(self, register: u32) -> Self {
        self.payload(1, 16, 4, register)
    }

    /// The destination port of TCP, UDP and SCTP alike.
    pub(crate) fn dport(self, register: u32) -> Self {
        self.payload(2, 2, 2, register)
    }

    /// Goes on when `register` equals `value`, or, when `differ`, when it does not.
    pub(crate) fn compare(self, register: u32, differ: bool, value: &[u8]) -> Self {
        let value = Attributes::default().bytes(1, value);
        let data = Attributes::default().u32(1, register).u32(2, u32::from(differ)).nest(3, &value);
        self.expression("cmp", &data)
    }

    /// `R0 &= mask`.
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
        const ADDRESS_TYPE: u32 = 3;
        const DADDR: u32 = 2;
        const RTN_LOCAL: u32 = 2;
        let data = Attributes::default().u32(1, R0).u32(2, ADDRESS_TYPE).u32(3, DADDR);
        self.expression("fib", &data).compare(R0, false, &RTN_LOCAL.to_ne_bytes())
    }

    /// Goes on when the source would not be routed back over the link the packet came from.
    pub(crate) fn if_source_is_foreign(self) -> Self {
        const OIF: u32 = 1;
        const SADDR_IIF: u32 = 1 | 8;
        let data = Attributes::default().u32(1, R0).u32(2, OIF).u32(3, SADDR_IIF);
        self.expression("fib", &data).compare(R0, false, &[0; 4])
    }

    /// Changes the destination to the address in `R0` and the port in `R1`.
    pub(crate) fn dnat(self) -> Self {
        let data = Attributes::default().u32(1, 1).u32(2, u32::from(NFPROTO_IPV4)).u32(3, R0).u32(5, R1);
        self.expression("nat", &data)
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

    fn verdict(self, code: u32) -> Self {
        let verdict = Attributes::default().nest(2, &Attributes::default().u32(1, code));
        self.expression("immediate", &Attributes::default().u32(1, VERDICT).nest(2, &verdict))
    }
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
