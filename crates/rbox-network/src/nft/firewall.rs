//! The host's own firewall.
//!
//! In nftables each table decides for itself, and a drop in any of them is final. So rbox cannot overrule a firewall,
//! and does not try: [`Table::forward_drops`] names the chains that keep containers in, and their owner opens them.
//!
//! Docker is no firewall its owner has set up: it drops everything that it does not know because forwarding is on for its
//! sake. Where it is there (its chain DOCKER-USER is), rbox adds two rules for each of its bridges at the end of the
//! chain FORWARD, after Docker's own and after what the administrator has put into DOCKER-USER, so that only the policy
//! is passed by: nobody gets at Docker's containers, and a drop in DOCKER-USER holds for rbox's too. Where ufw governs
//! that chain, nothing is added.

use rustix::io::Errno;

use super::ask::{CHAIN, FILTER, TABLE, get_chain, get_generation, question, read_generation, rules_of};
use super::encode::{Attributes, Batch, Family, R0, Rule, attribute, attributes, kind, msg, text};
use super::table::Table;
use crate::error::{Error, Result};
use crate::socket::{APPEND, CREATE, DUMP, Message, Netlink, Request};

/// The chain of that table which `iptables` calls FORWARD.
const FORWARD: &str = "FORWARD";

/// Further attributes of a rule, `NFTA_RULE_*`, and the kind of its user data that is a comment.
const HANDLE: u16 = 3;
const EXPRESSIONS: u16 = 4;
const USERDATA: u16 = 7;
const COMMENT: u8 = 0;

/// How often a change is tried again because another process's came between the look and the change.
const PATIENCE: usize = 100;

/// How many rules are put into one transaction.
const PORTION: usize = 200;

/// A rule of ours in FORWARD.
struct Passage {
    handle: Vec<u8>,
    /// The interface it names, with a NUL, and whether a packet leaves by it.
    link: Vec<u8>,
    outward: bool,
}

impl Passage {
    fn is_for(&self, bridge: &str) -> bool {
        self.link.strip_suffix(&[0]) == Some(bridge.as_bytes())
    }
}

impl Table<'_> {
    /// Whether Docker's firewall, which is there, lets the bridge through, or it is not for us to open.
    pub(super) fn is_let_through(&mut self, family: Family, bridge: &str) -> Result<bool> {
        Ok(is_ufws(self.socket, family)? || missing(&self.passages(family)?, &[bridge]).is_empty())
    }

    /// Lets the bridges through Docker's firewall, if that is there.
    pub(super) fn let_through(&mut self, family: Family, bridges: &[&str]) -> Result<()> {
        if bridges.is_empty() || !is_there(self.socket, question(family))? || is_ufws(self.socket, family)? {
            return Ok(());
        }
        let told = format!("nftables add {family} {FILTER} {FORWARD}: accept {} bridges", bridges.len());
        let comment = self.comment();
        self.change_forward(family, &told, |passages, batch| {
            for (bridge, outward) in missing(passages, bridges).into_iter().take(PORTION) {
                let rule = Rule::new(family);
                let rule = if outward { rule.oifname(R0) } else { rule.iifname(R0) };
                // As iptables writes a name: with its NUL, and no further bytes.
                let rule = rule.compare(R0, false, &[bridge.as_bytes(), &[0]].concat()).counter().accept();
                let rule = in_forward(family).nest(EXPRESSIONS, &rule.into_attributes());
                batch.push(msg::NEWRULE, CREATE | APPEND, rule.bytes(USERDATA, &comment));
            }
        })
    }

    /// Takes that back, for one bridge or for all.
    pub(super) fn let_through_no_more(&mut self, family: Family, bridge: Option<&str>) -> Result<()> {
        let told = format!("nftables delete {family} {FILTER} {FORWARD}: accept {}", bridge.unwrap_or("all"));
        self.change_forward(family, &told, |passages, batch| {
            let ours = passages.iter().filter(|passage| bridge.is_none_or(|name| passage.is_for(name)));
            for passage in ours.take(PORTION) {
                batch.push(msg::DELRULE, 0, in_forward(family).bytes(HANDLE, &passage.handle));
            }
        })
    }

    /// Looks at our rules in FORWARD and commits what `decide` makes of them, until that is nothing; also when others
    /// have changed the rules in between.
    fn change_forward(
        &mut self,
        family: Family,
        told: &str,
        decide: impl Fn(&[Passage], &mut Batch),
    ) -> Result<()> {
        for _ in 0..PATIENCE {
            let generation = self.socket.ask_each(&[get_generation()])?;
            let Some(generation) = generation.first() else { break };
            let mut batch = Batch::at_generation(read_generation(generation)?);
            decide(&self.passages(family)?, &mut batch);
            if batch.is_empty() {
                return Ok(());
            }
            match self.commit(batch, told) {
                Err(error) if error.errno() == Some(Errno::RESTART) => {}
                done => done?,
            }
        }
        Err(Error::Kernel { what: told.into(), errno: Errno::AGAIN })
    }

    /// Our rules in FORWARD.
    fn passages(&mut self, family: Family) -> Result<Vec<Passage>> {
        let comment = self.comment();
        let rules = rules_of(self.socket, family.number(), FILTER, FORWARD)?;
        let ours = |rule: &Message| {
            let body = rule.body.get(4..)?;
            if attribute(body, USERDATA)? != comment {
                return None;
            }
            let handle = attribute(body, HANDLE)?.to_vec();
            let mut link = None;
            let mut outward = false;
            for (name, data) in expressions(body) {
                match name {
                    b"meta\0" => outward = attribute(data, 2)?.last() == Some(&7),
                    b"cmp\0" => link = Some(attribute(attribute(data, 3)?, 1)?.to_vec()),
                    _ => {}
                }
            }
            Some(Passage { handle, link: link?, outward })
        };
        Ok(rules.iter().filter_map(ours).collect())
    }

    /// The user data by which our rules there are known: a comment, the table's name.
    fn comment(&self) -> Vec<u8> {
        [&[COMMENT, self.name.len() as u8 + 1], self.name.as_bytes(), &[0]].concat()
    }
}

/// A chain of another table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherChain {
    /// Which packets it sees.
    pub hook: OtherHook,
    /// Its family, or none for all.
    pub is_ip6: Option<bool>,
    /// `family table chain`.
    pub name: String,
}

/// Where a chain of another table is hooked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherHook {
    /// What is for the host itself.
    Input,
    /// What passes through the host.
    Forward,
    /// What the host sends.
    Output,
}

/// The base chains of other tables that drop what they do not accept on the way between links, by their policy or
/// their last rule, as `family table chain`: their owner has to let the bridge through. Not that of Docker's
/// firewall, which rbox opens itself.
pub(crate) fn forward_drops() -> Result<Vec<String>> {
    let dropping = Netlink::with_netfilter(|socket| others(socket, ""))?;
    let forward = dropping.into_iter().filter(|chain| chain.hook == OtherHook::Forward);
    Ok(forward.map(|chain| chain.name).collect())
}

/// The same for what comes to this host and what it sends, too; `own` is the name of our tables.
pub(super) fn others(socket: &mut Netlink, own: &str) -> Result<Vec<OtherChain>> {
    let chains = socket.ask(&Request {
        kind: kind(msg::GETCHAIN),
        flags: DUMP,
        body: Attributes::any_family().into_body(),
        told: "NFT_MSG_GETCHAIN".into(),
        accept: None,
    })?;
    let mut dropping = Vec::new();
    for base in chains.iter().filter_map(Base::parse) {
        let Base { family, name, hook, table, chain, drops } = base;
        if table == own || table == FILTER && chain == FORWARD && is_dockers(socket, family)? {
            continue;
        }
        // firewalld's ends so too, but mostly its zones have let out what is forwarded.
        let open_at_the_end = table == "firewalld";
        if drops
            || !open_at_the_end && rules_of(socket, family, &table, &chain)?.last().is_some_and(refuses_all)
        {
            let is_ip6 = (family != INET).then_some(family == Family::Ip6.number());
            dropping.push(OtherChain { hook, is_ip6, name: format!("{name} {table} {chain}") });
        }
    }
    Ok(dropping)
}

/// `NFPROTO_INET`: IPv4 and IPv6.
const INET: u8 = 1;

/// A chain that sees what goes to, through or from this host.
struct Base {
    family: u8,
    name: &'static str,
    hook: OtherHook,
    table: String,
    chain: String,
    /// Its policy.
    drops: bool,
}

impl Base {
    fn parse(answer: &Message) -> Option<Self> {
        const FAMILIES: [(u8, &str); 3] = [(INET, "inet"), (2, "ip"), (10, "ip6")];
        let number = |bytes: &[u8]| bytes.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        let (number_of, body) = (*answer.body.first()?, answer.body.get(4..)?);
        let (family, name) = FAMILIES.into_iter().find(|(number, _)| *number == number_of)?;
        let hook = match number(attribute(attribute(body, 4)?, 1)?)? {
            1 => OtherHook::Input,
            2 => OtherHook::Forward,
            3 => OtherHook::Output,
            _ => return None,
        };
        Some(Self {
            family,
            name,
            hook,
            table: text(attribute(body, 1)?),
            chain: text(attribute(body, 3)?),
            drops: number(attribute(body, 5)?)? == 0,
        })
    }
}

/// Whether the chain FORWARD is opened by us, for Docker's sake.
fn is_dockers(socket: &mut Netlink, family: u8) -> Result<bool> {
    let Some(family) = [Family::Ip, Family::Ip6].into_iter().find(|known| known.number() == family) else {
        return Ok(false);
    };
    Ok(is_there(socket, question(family))? && !is_ufws(socket, family)?)
}

/// Whether ufw governs the chain FORWARD.
fn is_ufws(socket: &mut Netlink, family: Family) -> Result<bool> {
    let chain = if family == Family::Ip6 { "ufw6-before-forward" } else { "ufw-before-forward" };
    is_there(socket, get_chain(family, FILTER, chain))
}

fn is_there(socket: &mut Netlink, question: Request) -> Result<bool> {
    Ok(matches!(socket.ask_each(&[question])?.as_slice(), [Ok(_)]))
}

/// Which of our two rules for each bridge are not there; each with whether it is about leaving by the bridge.
fn missing<'a>(passages: &[Passage], bridges: &[&'a str]) -> Vec<(&'a str, bool)> {
    let both = bridges.iter().flat_map(|bridge| [(*bridge, false), (*bridge, true)]);
    both.filter(|(bridge, outward)| !passages.iter().any(|p| p.is_for(bridge) && p.outward == *outward))
        .collect()
}

fn in_forward(family: Family) -> Attributes {
    Attributes::message(family).text(TABLE, FILTER).text(CHAIN, FORWARD)
}

/// The expressions of a rule: name, with its NUL, and attributes.
fn expressions(rule: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let list = attribute(rule, EXPRESSIONS).unwrap_or_default();
    attributes(list)
        .filter_map(|(_, expression)| Some((attribute(expression, 1)?, attribute(expression, 2)?)))
}

/// Whether the rule drops or rejects whatever comes to it.
fn refuses_all(rule: &Message) -> bool {
    let drops = |data: &[u8]| {
        let code = attribute(data, 2).and_then(|data| attribute(attribute(data, 2)?, 1));
        code == Some(&[0; 4])
    };
    let mut refused = false;
    for (name, data) in expressions(rule.body.get(4..).unwrap_or_default()) {
        match name {
            b"counter\0" | b"log\0" => {}
            b"reject\0" => refused = true,
            b"immediate\0" if drops(data) => refused = true,
            b"target\0" if attribute(data, 1) == Some(b"REJECT\0") => refused = true,
            _ => return false,
        }
    }
    refused
}

/// Reads one answer as a chain and as a rule, for the fuzzer.
#[cfg(fuzzing)]
pub(super) fn fuzzing(body: &[u8]) {
    let message = Message { kind: 0, body: body.to_vec() };
    let _ = (Base::parse(&message).map(|base| base.drops), refuses_all(&message));
}
