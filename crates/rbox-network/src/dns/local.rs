//! What the server does with one question, before any socket is used.

use std::net::IpAddr;

use super::lookup::Lookup;
use super::message::{self, Query, Question, Record, kind, rcode};

/// What is to be done with a message from the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// This is the answer.
    Reply(Vec<u8>),
    /// It is not about us: ask a name server.
    Forward,
    /// It deserves no answer.
    Ignore,
}

/// Decides on `query`, which came over `tcp` or UDP. With `dots`, names without a dot that are not ours are not asked
/// elsewhere: the container's resolver was told to try its search list with them.
pub fn decide(query: &[u8], names: &dyn Lookup, tcp: bool, dots: bool) -> Action {
    let question = match Query::read(query) {
        Query::Ask { question, .. } => question,
        Query::Refuse(code) => return Action::Reply(message::refusal(query, code)),
        Query::Ignore => return Action::Ignore,
    };
    match records(&question, names) {
        Some(records) => Action::Reply(message::answer(query, rcode::OK, &records, tcp)),
        None if dots && is_bare(&question) => Action::Reply(message::answer(query, rcode::OK, &[], tcp)),
        None => Action::Forward,
    }
}

/// The answer "I could not": to a question that no name server answered.
pub(crate) fn failure(query: &[u8], code: u8) -> Vec<u8> {
    message::answer(query, code, &[], false)
}

fn is_bare(question: &Question) -> bool {
    matches!(question.kind, kind::A | kind::AAAA)
        && question.name.as_ref().is_some_and(|name| !name.contains('.'))
}

/// The answer to a question about one of our names, which may be that there is nothing of the type; none when the name
/// is not ours.
fn records(question: &Question, names: &dyn Lookup) -> Option<Vec<Record>> {
    let name = question.name.as_deref().filter(|_| question.class == kind::INTERNET)?;
    if question.kind == kind::PTR
        && let Some(ip) = message::reverse_address(name)
    {
        let name = names.name_of(ip).map(|name| name.to_ascii_lowercase());
        return name.filter(|name| message::encodable(name)).map(|name| vec![Record::Name(name)]);
    }
    let mut addresses = names.addresses(name).filter(|_| !name.is_empty())?;
    addresses.retain(|ip| match question.kind {
        kind::A => ip.is_ipv4(),
        kind::AAAA => ip.is_ipv6(),
        other => other == kind::ANY,
    });
    shuffle(&mut addresses);
    Some(addresses.into_iter().map(Record::Address).collect())
}

/// Any order, so that those who share a name share the work.
fn shuffle(addresses: &mut [IpAddr]) {
    for last in (1..addresses.len()).rev() {
        let other = usize::from(u16::from_ne_bytes(random())) % (last + 1);
        addresses.swap(last, other);
    }
}

/// Two bytes that nobody can guess.
pub(crate) fn random() -> [u8; 2] {
    let mut bytes = [0; 2];
    // It fails only before the kernel has gathered any randomness at all, which is before containers.
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use simple_dns::rdata::RData;
    use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, TYPE};

    use super::*;

    struct Known;

    impl Lookup for Known {
        fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
            let list: &[&str] = match name {
                "web" => &["172.18.0.2"],
                "all" => &["172.18.0.2", "172.18.0.3", "2001:db8::2"],
                _ => return None,
            };
            Some(list.iter().map(|ip| ip.parse().unwrap()).collect())
        }

        fn name_of(&self, ip: IpAddr) -> Option<String> {
            let long = "x".repeat(64);
            match ip.to_string().as_str() {
                "172.18.0.2" => Some("web.Net".into()),
                "172.18.0.9" => Some(long),
                _ => None,
            }
        }
    }

    fn query(name: &str, kind: QTYPE, class: CLASS) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        let question =
            simple_dns::Question::new(Name::new_unchecked(name), kind, QCLASS::CLASS(class), false);
        packet.questions.push(question);
        packet.build_bytes_vec().unwrap()
    }

    /// The addresses and names answered; none when it is to be asked elsewhere.
    fn ask_about(name: &str, kind: QTYPE, class: CLASS, dots: bool) -> Option<Vec<String>> {
        match decide(&query(name, kind, class), &Known, false, dots) {
            Action::Reply(bytes) => {
                let packet = Packet::parse(&bytes).unwrap();
                assert_eq!(packet.rcode(), simple_dns::RCODE::NoError);
                let text = |data: &RData<'_>| match data {
                    RData::A(a) => IpAddr::from(a.address.to_be_bytes()).to_string(),
                    RData::AAAA(a) => IpAddr::from(a.address.to_be_bytes()).to_string(),
                    RData::PTR(name) => name.0.to_string(),
                    other => panic!("{other:?}"),
                };
                let mut found: Vec<_> = packet.answers.iter().map(|record| text(&record.rdata)).collect();
                found.sort();
                Some(found)
            }
            Action::Forward => None,
            Action::Ignore => panic!("ignored"),
        }
    }

    fn ask(name: &str, kind: TYPE) -> Option<Vec<String>> {
        ask_about(name, QTYPE::TYPE(kind), CLASS::IN, false)
    }

    #[test]
    fn names_of_ours_and_others() {
        assert_eq!(ask("web", TYPE::A).unwrap(), ["172.18.0.2"]);
        assert_eq!(ask("WEB", TYPE::A).unwrap(), ["172.18.0.2"]);
        assert_eq!(ask("all", TYPE::AAAA).unwrap(), ["2001:db8::2"]);
        assert_eq!(ask_about("all", QTYPE::ANY, CLASS::IN, false).unwrap().len(), 3);
        for kind in [TYPE::AAAA, TYPE::MX, TYPE::TXT, TYPE::SRV, TYPE::HTTPS, TYPE::PTR] {
            assert!(ask("web", kind).unwrap().is_empty(), "{kind:?}: ours, and nothing of that type");
        }
        assert_eq!(ask("example.org", TYPE::A), None);
        assert_eq!(ask("", TYPE::NS), None);
        assert_eq!(ask_about("web", QTYPE::TYPE(TYPE::TXT), CLASS::CH, false), None, "not of the internet");
    }

    #[test]
    fn addresses_lead_back() {
        assert_eq!(ask("2.0.18.172.in-addr.arpa", TYPE::PTR).unwrap(), ["web.net"]);
        assert_eq!(ask("3.0.18.172.in-addr.arpa", TYPE::PTR), None);
        assert_eq!(ask("9.0.18.172.in-addr.arpa", TYPE::PTR), None, "its name fits no message");
        assert_eq!(ask("2.0.18.172.in-addr.arpa", TYPE::A), None);
    }

    #[test]
    fn names_without_a_dot_stay_here_when_the_resolver_counts_dots() {
        let ask = |name, kind, dots| ask_about(name, QTYPE::TYPE(kind), CLASS::IN, dots);
        assert_eq!(ask("dc1", TYPE::A, true), Some(Vec::new()));
        assert_eq!(ask("dc1", TYPE::A, false), None);
        assert_eq!(ask("dc1.corp", TYPE::A, true), None);
        assert_eq!(ask("dc1", TYPE::MX, true), None);
        assert_eq!(ask("web", TYPE::A, true).unwrap(), ["172.18.0.2"]);
    }

    #[test]
    fn those_who_share_a_name_take_turns() {
        let first = || {
            let Action::Reply(bytes) =
                decide(&query("all", QTYPE::TYPE(TYPE::A), CLASS::IN), &Known, false, false)
            else {
                panic!()
            };
            // The last byte of the first address, behind the header, the question and the record's start.
            bytes[12 + 9 + 15]
        };
        let firsts: std::collections::BTreeSet<u8> = (0..64).map(|_| first()).collect();
        assert_eq!(firsts.into_iter().collect::<Vec<_>>(), [2, 3]);
    }
}
