//! DNS messages, as far as they are looked at: the header, the one question, and whether the asker knows EDNS.
//!
//! What is passed on is passed on as it came, so nothing else of it is read; nothing here follows a compression
//! pointer. Sources: RFC 1035 (4.1), RFC 6891 (6.1), RFC 3596.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::LONGEST_QUERY;

/// A header: id, flags, four counts.
const HEADER: usize = 12;
/// The longest answer over UDP for one who does not tell another length.
const PLAIN_UDP: usize = 512;
/// Docker's.
const TTL: u32 = 600;

/// Types and classes of records.
pub(crate) mod kind {
    pub(crate) const A: u16 = 1;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const ANY: u16 = 255;
    pub(crate) const INTERNET: u16 = 1;
}

/// What an answer says of how it went.
pub(crate) mod rcode {
    pub(crate) const OK: u8 = 0;
    pub(crate) const FORMERR: u8 = 1;
    pub(crate) const SERVFAIL: u8 = 2;
    pub(crate) const NXDOMAIN: u8 = 3;
    pub(crate) const NOTIMP: u8 = 4;
    pub(crate) const REFUSED: u8 = 5;
}

/// The one question of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// In lower case, without a dot at its end; none when it has bytes that no name of ours has.
    pub(crate) name: Option<String>,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    /// Where it ends in the message.
    end: usize,
}

/// A message that was sent to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Query {
    /// Somebody asks something.
    Ask {
        question: Question,
        /// How long an answer over UDP may be, of one who knows EDNS.
        edns: Option<u16>,
    },
    /// To be answered with this code.
    Refuse(u8),
    /// No question at all: an answer, or too short for anything.
    Ignore,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Query {
    pub(crate) fn read(message: &[u8]) -> Self {
        let Some((&[_, _, flags, _, q0, q1, counts @ ..], _)) = message.split_first_chunk::<HEADER>() else {
            return Self::Ignore;
        };
        if flags & 0x80 != 0 {
            return Self::Ignore;
        }
        if flags & 0x78 != 0 {
            return Self::Refuse(rcode::NOTIMP);
        }
        if [q0, q1] != [0, 1] {
            return Self::Refuse(rcode::FORMERR);
        }
        let Some(question) = Question::read(message) else { return Self::Refuse(rcode::FORMERR) };
        // Questions have no answers and authorities in them; one that has is passed on, or answered without EDNS.
        let [0, 0, 0, 0, a0, a1] = counts else { return Self::Ask { question, edns: None } };
        let edns = find_opt(message, question.end, u16::from_be_bytes([a0, a1]));
        Self::Ask { question, edns }
    }
}

impl Question {
    fn read(message: &[u8]) -> Option<Self> {
        let (name, end) = read_name(message, HEADER)?;
        let (kind, class) = (u16_at(message, end)?, u16_at(message, end + 2)?);
        Some(Self { name, kind, class, end: end + 4 })
    }
}

/// A name without compression, as text when it is one that could be ours, and where it ends.
fn read_name(message: &[u8], start: usize) -> Option<(Option<String>, usize)> {
    let mut at = start;
    let mut text = Some(String::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((text, at));
        }
        // 64 and more are pointers and what never came to be; a whole name has 255 bytes.
        let label = message.get(at..at + length).filter(|_| length < 64 && at + length - start < 255)?;
        at += length;
        let plain = label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        text = text.filter(|_| plain).map(|mut text| {
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
            text
        });
    }
}

/// The length in an OPT record among the first additional records.
fn find_opt(message: &[u8], mut at: usize, records: u16) -> Option<u16> {
    for _ in 0..records.min(4) {
        let (_, end) = read_name(message, at)?;
        if u16_at(message, end)? == kind::OPT {
            return u16_at(message, end + 2);
        }
        at = end + 10 + usize::from(u16_at(message, end + 8)?);
    }
    None
}

/// `4.3.2.1.in-addr.arpa` and the like of IPv6 as the address they ask for.
pub(crate) fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let text: Vec<&str> = octets.rsplit('.').collect();
        return text.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let mut address = 0_u128;
    let mut count = 0;
    for nibble in name.strip_suffix(".ip6.arpa")?.rsplit('.') {
        let digit = nibble.chars().next().filter(|_| nibble.len() == 1)?.to_digit(16)?;
        address = address << 4 | u128::from(digit);
        count += 1;
    }
    (count == 32).then(|| IpAddr::V6(Ipv6Addr::from(address)))
}

/// One record of an answer of ours; its name is the question's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Address(IpAddr),
    /// A name that [`encodable`] found good.
    Name(String),
}

/// Whether a name fits a message: labels of 63 bytes at most, 255 in all.
pub(crate) fn encodable(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(|label| (1..64).contains(&label.len()))
}

impl Record {
    fn write(&self, out: &mut Vec<u8>) {
        let (kind, data) = match self {
            Self::Address(IpAddr::V4(ip)) => (kind::A, ip.octets().to_vec()),
            Self::Address(IpAddr::V6(ip)) => (kind::AAAA, ip.octets().to_vec()),
            Self::Name(name) => {
                let mut data = Vec::with_capacity(name.len() + 2);
                for label in name.split('.') {
                    data.push(label.len() as u8);
                    data.extend_from_slice(label.as_bytes());
                }
                data.push(0);
                (kind::PTR, data)
            }
        };
        // The name is a pointer to the question's, behind the header.
        out.extend_from_slice(&[0xc0, HEADER as u8]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&kind::INTERNET.to_be_bytes());
        out.extend_from_slice(&TTL.to_be_bytes());
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(&data);
    }
}

/// The answer to `query`, a message that [`Query::read`] took for a question. Over UDP it gets no longer than the asker
/// takes: records that do not fit are left out, and it says so.
pub(crate) fn answer(query: &[u8], code: u8, records: &[Record], tcp: bool) -> Vec<u8> {
    let Query::Ask { question, edns } = Query::read(query) else { return refusal(query, code) };
    let longest =
        if tcp { usize::from(u16::MAX) } else { edns.map_or(PLAIN_UDP, usize::from).max(PLAIN_UDP) };
    let mut out = query.get(..question.end).unwrap_or_default().to_vec();
    let room = longest - if edns.is_some() { 11 } else { 0 };
    let mut written = 0_u16;
    for record in records {
        let before = out.len();
        record.write(&mut out);
        if out.len() > room {
            out.truncate(before);
            break;
        }
        written += 1;
    }
    if edns.is_some() {
        // The root's name, OPT, our own length, no extended code and no flags, no options.
        let [hi, lo] = LONGEST_QUERY.to_be_bytes();
        out.extend_from_slice(&[0, 0, kind::OPT as u8, hi, lo, 0, 0, 0, 0, 0, 0]);
    }
    set_header(&mut out, code, usize::from(written) < records.len());
    let [hi, lo] = written.to_be_bytes();
    let counts = [0, 1, hi, lo, 0, 0, 0, u8::from(edns.is_some())];
    if let Some(place) = out.get_mut(4..HEADER) {
        place.copy_from_slice(&counts);
    }
    out
}

/// The answer to something that is no question we understand: a header.
pub(crate) fn refusal(query: &[u8], code: u8) -> Vec<u8> {
    let mut out = query.get(..4).unwrap_or_default().to_vec();
    out.resize(HEADER, 0);
    set_header(&mut out, code, false);
    out
}

/// Makes the copied header of a query that of an answer: an answer, the same operation, cut short or not, recursion wanted
/// as it was asked; recursion available, the code.
fn set_header(out: &mut [u8], code: u8, cut: bool) {
    if let [_, _, flags, more, ..] = out {
        *flags = 0x80 | (*flags & 0x79) | if cut { 0x02 } else { 0 };
        *more = 0x80 | (*more & 0x10) | code;
    }
}

/// A message's id.
pub(crate) fn id(message: &[u8]) -> [u8; 2] {
    message.first_chunk().copied().unwrap_or_default()
}

/// Gives a message another id.
pub(crate) fn set_id(message: &mut [u8], id: [u8; 2]) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id;
    }
}

/// What a message from a server we asked is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The answer to what was asked.
    Answer,
    /// The server cannot answer it; another may.
    Failure,
    /// Not the answer to what was asked: something late, or forged.
    Other,
}

/// Whether `message` answers `asked`, a message we sent with an id of our own: by id, operation and question.
pub fn judge(asked: &[u8], message: &[u8]) -> Verdict {
    let (Some(sent), Some(header)) = (asked.first_chunk::<HEADER>(), message.first_chunk::<HEADER>()) else {
        return Verdict::Other;
    };
    let is_answer = header[2] & 0x80 != 0 && header[2] & 0x78 == sent[2] & 0x78;
    if header[..2] != sent[..2] || !is_answer {
        return Verdict::Other;
    }
    let code = header[3] & 0x0f;
    let failed = matches!(code, rcode::SERVFAIL | rcode::REFUSED);
    // Some servers that understand nothing of a message leave its question out.
    if header[4..6] == [0, 0] && !matches!(code, rcode::OK | rcode::NXDOMAIN) {
        return Verdict::Failure;
    }
    let Some(question) = Question::read(asked) else { return Verdict::Other };
    // The case of a name may change on the way. No length of a label is a letter.
    let (wanted, got) = (asked.get(HEADER..question.end), message.get(HEADER..question.end));
    let same = header[4..6] == [0, 1]
        && wanted.zip(got).is_some_and(|(wanted, got)| {
            let (w, g) = (wanted.split_at(wanted.len() - 4), got.split_at(got.len() - 4));
            w.0.eq_ignore_ascii_case(g.0) && w.1 == g.1
        });
    match (same, failed) {
        (false, _) => Verdict::Other,
        (true, true) => Verdict::Failure,
        (true, false) => Verdict::Answer,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use simple_dns::rdata::RData;
    use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, TYPE};

    use super::*;

    /// A query as another implementation writes it.
    fn query(name: &str, kind: TYPE, edns: Option<u16>) -> Vec<u8> {
        let mut packet = Packet::new_query(0x1234);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new_unchecked(name);
        packet.questions.push(simple_dns::Question::new(
            name,
            QTYPE::TYPE(kind),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        if let Some(udp_packet_size) = edns {
            let opt = simple_dns::rdata::OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 };
            *packet.opt_mut() = Some(opt);
        }
        packet.build_bytes_vec().unwrap()
    }

    fn asked(message: &[u8]) -> (Option<String>, u16, Option<u16>) {
        match Query::read(message) {
            Query::Ask { question, edns } => (question.name, question.kind, edns),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn questions_are_read() {
        assert_eq!(asked(&query("Web.MyNet", TYPE::A, None)), (Some("web.mynet".into()), kind::A, None));
        let with_edns = query("a_b-c", TYPE::AAAA, Some(4096));
        assert_eq!(asked(&with_edns), (Some("a_b-c".into()), kind::AAAA, Some(4096)));
        assert_eq!(asked(&query("", TYPE::NS, None)).0.as_deref(), Some(""), "the root");
        // A byte that no name of ours has, a dot within a label among them.
        for label in ["a b", "a/b", "a.b", "ü", "\0"] {
            let mut message = query("", TYPE::A, None);
            message.splice(12..12, [&[label.len() as u8], label.as_bytes()].concat());
            assert_eq!(asked(&message).0, None, "{label:?}");
        }
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let good = query("web", TYPE::A, None);
        let changed = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            Query::read(&message)
        };
        assert_eq!(changed(2, 0x80), Query::Ignore, "an answer");
        assert_eq!(changed(2, 0x28), Query::Refuse(rcode::NOTIMP), "an update");
        assert_eq!(changed(5, 0), Query::Refuse(rcode::FORMERR), "no question");
        assert_eq!(changed(5, 2), Query::Refuse(rcode::FORMERR), "two questions");
        assert_eq!(changed(12, 0xc0), Query::Refuse(rcode::FORMERR), "a pointer, to wherever");
        assert_eq!(changed(12, 63), Query::Refuse(rcode::FORMERR), "a label beyond the end");
        for length in 0..12 {
            assert_eq!(Query::read(&good[..length]), Query::Ignore);
        }
        for length in 12..good.len() {
            assert_eq!(Query::read(&good[..length]), Query::Refuse(rcode::FORMERR), "{length}");
        }
        let header = refusal(&good, rcode::NOTIMP);
        assert_eq!(header, [0x12, 0x34, 0x81, 0x84, 0, 0, 0, 0, 0, 0, 0, 0]);
        // 255 bytes make a name, 256 none.
        let long = |last: usize| {
            let mut message = query("", TYPE::A, None);
            let labels = [[&[63_u8][..], &[b'a'; 63]].concat().repeat(3), vec![last as u8], vec![b'b'; last]];
            message.splice(12..12, labels.concat());
            message
        };
        assert_eq!(asked(&long(61)).0.map(|name| name.len()), Some(253));
        assert_eq!(Query::read(&long(62)), Query::Refuse(rcode::FORMERR));
    }

    #[test]
    fn answers_are_what_others_read() {
        let asked = query("WeB", TYPE::A, Some(1400));
        let addresses = ["10.0.0.1", "10.0.0.2"].map(|ip| Record::Address(ip.parse().unwrap()));
        let bytes = answer(&asked, rcode::OK, &addresses, false);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.id(), 0x1234);
        assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE));
        assert!(packet.has_flags(PacketFlag::RECURSION_DESIRED) && !packet.has_flags(PacketFlag::TRUNCATION));
        assert_eq!(packet.questions[0].qname.to_string(), "WeB", "the case is given back");
        assert_eq!(packet.opt().unwrap().udp_packet_size, LONGEST_QUERY);
        let found: Vec<_> = packet
            .answers
            .iter()
            .map(|record| match &record.rdata {
                RData::A(a) => (record.name.to_string(), record.ttl, Ipv4Addr::from(a.address).to_string()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, [("WeB".into(), 600, "10.0.0.1".into()), ("WeB".into(), 600, "10.0.0.2".into())]);

        let six = [Record::Address("2001:db8::7".parse().unwrap())];
        let bytes = answer(&query("web", TYPE::AAAA, None), rcode::OK, &six, false);
        let packet = Packet::parse(&bytes).unwrap();
        assert!(packet.opt().is_none(), "one who does not know EDNS gets none");
        let RData::AAAA(found) = &packet.answers[0].rdata else { panic!() };
        assert_eq!(Ipv6Addr::from(found.address).to_string(), "2001:db8::7");

        let name = [Record::Name("db.my_net".into())];
        let bytes = answer(&query("1.0.0.10.in-addr.arpa", TYPE::PTR, None), rcode::OK, &name, false);
        let packet = Packet::parse(&bytes).unwrap();
        let RData::PTR(found) = &packet.answers[0].rdata else { panic!() };
        assert_eq!(found.0.to_string(), "db.my_net");
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let many: Vec<_> =
            (0..100).map(|n| Record::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)))).collect();
        for (edns, tcp, fits) in
            [(None, false, 30), (Some(100), false, 30), (Some(1231), false, 74), (None, true, 100)]
        {
            let bytes = answer(&query("web", TYPE::A, edns), rcode::OK, &many, tcp);
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(packet.answers.len(), fits, "{edns:?} {tcp}");
            assert_eq!(packet.has_flags(PacketFlag::TRUNCATION), fits < 100);
            assert!(tcp || bytes.len() <= usize::from(edns.unwrap_or(512)).max(512));
        }
    }

    #[test]
    fn reverse_names() {
        let address = |name: &str| reverse_address(name).map(|ip| ip.to_string());
        assert_eq!(address("3.0.18.172.in-addr.arpa").as_deref(), Some("172.18.0.3"));
        let six = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(address(six).as_deref(), Some("2001:db8::7"));
        for bad in
            ["in-addr.arpa", "0.18.172.in-addr.arpa", "1.3.0.18.172.in-addr.arpa", "x.0.18.172.in-addr.arpa"]
        {
            assert_eq!(address(bad), None, "{bad}");
        }
        assert_eq!(address(&six[2..]), None);
        assert_eq!(address(&format!("0.{six}")), None);
        assert_eq!(address(&six.replace("7.", "77.")), None);
    }

    #[test]
    fn only_the_answer_to_the_question_is_taken() {
        let asked = query("a.test", TYPE::A, None);
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut message = answer(&asked, rcode::OK, &[], false);
            change(&mut message);
            judge(&asked, &message)
        };
        assert_eq!(with(&|_| ()), Verdict::Answer);
        assert_eq!(with(&|m| m[13] = b'A'), Verdict::Answer, "in another case");
        assert_eq!(with(&|m| m[3] |= rcode::NXDOMAIN), Verdict::Answer);
        assert_eq!(with(&|m| m[3] |= rcode::SERVFAIL), Verdict::Failure);
        assert_eq!(with(&|m| m[3] |= rcode::REFUSED), Verdict::Failure);
        assert_eq!(with(&|m| m[1] ^= 1), Verdict::Other, "another id");
        assert_eq!(with(&|m| m[2] &= 0x7f), Verdict::Other, "a question");
        assert_eq!(with(&|m| m[2] |= 0x20), Verdict::Other, "another operation");
        assert_eq!(with(&|m| m[13] = b'b'), Verdict::Other, "another name");
        assert_eq!(with(&|m| *m.last_mut().unwrap() = 3), Verdict::Other, "another class");
        let kind_at = asked.len() - 3;
        assert_eq!(with(&|m| m[kind_at] = 28), Verdict::Other, "another type");
        assert_eq!(with(&|m| m.truncate(20)), Verdict::Other);
        assert_eq!(with(&|m| m.truncate(3)), Verdict::Other);
        assert_eq!(judge(&asked, &[]), Verdict::Other);
        let header = |code| judge(&asked, &refusal(&asked, code));
        assert_eq!(header(rcode::FORMERR), Verdict::Failure, "a header alone");
        assert_eq!(header(rcode::OK), Verdict::Other);
        assert_eq!(header(rcode::NXDOMAIN), Verdict::Other);
    }
}
