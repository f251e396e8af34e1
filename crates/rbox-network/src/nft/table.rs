//! Applying the rules, and putting networks, containers and ports into them.
//!
//! One name stands for up to three tables: family ip, family ip6 once a network has IPv6, family bridge where the kernel
//! has it. A transaction may hold changes to all three.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::ask::{get_chain, get_generation, question, read_generation, rules_in};
use super::element::{Element, Member, Network, Purpose, listed};
use super::encode::{Attributes, Batch, Family, kind, msg};
use super::ruleset::{BRIDGES, INTERNAL, SUBNETS, add_table, set_rules};
use super::{guard, ruleset};
use crate::error::{Error, Result};
use crate::socket::{CREATE, Netlink, Request};
use crate::{conntrack, loopback6};

/// The ruleset changed since its generation was read.
const RESTART: Errno = Errno::RESTART;
/// An empty chain without a hook, by which a table of family ip shows that the kernel has no family bridge.
const UNGUARDED: &str = "unguarded";
/// How often a change is tried again because another process's came between the look and the change.
const PATIENCE: usize = 100;

/// How many networks, and how many elements, are put into one transaction: the kernel takes one of some 200 KiB.
const PORTION: usize = 100;
const ELEMENTS: usize = 500;

/// rbox's tables, by their name.
pub(crate) struct Table<'a> {
    pub(super) name: &'a str,
    pub(super) socket: &'a mut Netlink,
}

impl Table<'_> {
    /// Lends the tables to `work`; they need not exist.
    pub(crate) fn with<T>(name: &str, work: impl FnOnce(&mut Table<'_>) -> Result<T>) -> Result<T> {
        Netlink::with_netfilter(|socket| work(&mut Table { name, socket }))
    }

    /// Whether the tables are there, each of our chains with as many rules as it should have, and know the network,
    /// and a firewall of Docker's lets it through. One call with a dozen questions of which none walks a list.
    pub(crate) fn is_whole(&mut self, network: &Network<'_>) -> Result<bool> {
        let wanted = |element: &Element| [BRIDGES, INTERNAL, SUBNETS].contains(&element.set);
        let elements: Vec<Element> = network.elements().into_iter().filter(wanted).collect();
        let mut requests: Vec<Request> = elements.iter().map(|element| self.ask_for(element)).collect();
        let mut counts = Vec::new();
        for family in network.families().chain([Family::Bridge]) {
            for (name, count) in ruleset::counts(family, has_loopback(family)) {
                requests.push(get_chain(family, self.name, name));
                counts.push((family, count));
            }
        }
        let firewalls: Vec<Family> = network.families().collect();
        requests.extend(firewalls.iter().map(|family| question(*family)));
        let answers = self.socket.ask_each(&requests)?;
        let (known, rest) = answers.split_at(elements.len());
        let (made, docker) = rest.split_at(counts.len());
        if known.iter().any(Result::is_err) {
            return Ok(false);
        }
        for ((family, count), answer) in counts.into_iter().zip(made) {
            let found = answer.as_ref().ok().and_then(rules_in);
            let mut unguarded = || is_unguarded(self.socket, self.name);
            if found != Some(count) && (family != Family::Bridge || found.is_some() || !unguarded()?) {
                return Ok(false);
            }
        }
        for (family, answer) in firewalls.into_iter().zip(docker) {
            if answer.is_ok() && !self.is_let_through(family, network.bridge)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the tables, or what is missing of them, with `networks` and `members`, in one transaction but for what is
    /// published. When two processes do so at once, both end with the same rules.
    pub(crate) fn build(&mut self, networks: &[Network<'_>], members: &[Member<'_>]) -> Result<()> {
        let made = match self.make(networks, true) {
            Err(error) if error.errno().is_some_and(|errno| LACKING.contains(&errno)) => {
                self.make(networks, false)
            }
            made => made,
        };
        made.map_err(|error| match error {
            // What autoloading could not find, or a kernel without it.
            Error::Kernel { what, errno } if LACKING.contains(&errno) => Error::Kernel {
                what: format!(
                    "{what} (the kernel needs nf_tables, nft_ct, nft_fib_ipv4, nft_nat and nft_masq, and nft_fib_ipv6 for a network with IPv6)"
                ),
                errno,
            },
            error => error,
        })?;
        // Separate, because an element that is there with another value would fail the whole transaction.
        for member in members {
            self.add(&member.elements(), &format!("nftables add {}", self.told_of(member)))?;
        }
        for family in [Family::Ip, Family::Ip6] {
            let on = networks.iter().filter(|network| network.families().any(|f| f == family));
            let bridges: Vec<&str> = on.map(|network| network.bridge).collect();
            self.let_through(family, &bridges)?;
        }
        Ok(())
    }

    fn make(&mut self, networks: &[Network<'_>], guarded: bool) -> Result<()> {
        let mut families: BTreeSet<Family> = networks.iter().flat_map(Network::families).collect();
        families.insert(Family::Ip);
        if guarded {
            families.insert(Family::Bridge);
        }
        let mut batch = Batch::new();
        let mut rules = 0;
        for family in families {
            add_table(&mut batch, family, self.name);
            rules +=
                set_rules(&mut batch, family, self.name, family == Family::Ip || loopback6::is_translated());
        }
        // A transaction is one message to the kernel, which takes them up to some 200 KiB.
        let (first, more) = networks.split_at(networks.len().min(PORTION));
        self.push_networks(&mut batch, first);
        if !guarded {
            let body = Attributes::message(Family::Ip).text(1, self.name).text(3, UNGUARDED);
            batch.push(msg::NEWCHAIN, CREATE, body);
        }
        let told = format!("nftables table {}: {rules} rules, {} networks", self.name, networks.len());
        self.commit(batch, &told)?;
        for portion in more.chunks(PORTION) {
            let mut batch = Batch::new();
            self.push_networks(&mut batch, portion);
            self.commit(batch, &told)?;
        }
        Ok(())
    }

    fn push_networks(&self, batch: &mut Batch, networks: &[Network<'_>]) {
        for element in networks.iter().flat_map(Network::elements) {
            batch.push(msg::NEWSETELEM, CREATE, element.message(self.name, Purpose::Add));
        }
    }

    /// Makes the tables forget a network; they stay.
    pub(crate) fn remove_network(&mut self, network: &Network<'_>) -> Result<()> {
        self.remove(&network.elements(), &format!("nftables delete {} from {}", network.bridge, self.name))?;
        network.families().try_for_each(|family| self.let_through_no_more(family, Some(network.bridge)))
    }

    /// Lets a container's port speak for its addresses, and publishes its ports: one transaction.
    pub(crate) fn admit(&mut self, member: &Member<'_>) -> Result<()> {
        self.add(&member.elements(), &format!("nftables add {}", self.told_of(member)))?;
        conntrack::forget(self.socket, &member.published())
    }

    /// Takes back what [`Self::admit`] gave, as far as it is still this container's.
    pub(crate) fn dismiss(&mut self, member: &Member<'_>) -> Result<()> {
        self.remove(&member.elements(), &format!("nftables delete {}", self.told_of(member)))?;
        conntrack::forget(self.socket, &member.published())
    }

    /// Publishes ports of a container that is there: one transaction.
    pub(crate) fn publish(&mut self, member: &Member<'_>) -> Result<()> {
        self.admit(&Member { guarded: false, ..*member })
    }

    /// Takes ports back that still lead to their container; what is gone, or now another's, is left alone.
    pub(crate) fn unpublish(&mut self, member: &Member<'_>) -> Result<()> {
        self.dismiss(&Member { guarded: false, ..*member })
    }

    /// Removes the tables with all that is in them.
    pub(crate) fn delete(name: &str) -> Result<()> {
        Self::with(name, |table| {
            for family in [Family::Ip, Family::Ip6, Family::Bridge] {
                let mut batch = Batch::new();
                batch.push(msg::DELTABLE, 0, Attributes::message(family).text(1, name));
                match table.commit(batch, &format!("nftables delete table {family} {name}")) {
                    Err(error) if error.errno().is_some_and(|errno| LACKING.contains(&errno)) => {}
                    done => done?,
                }
                if family != Family::Bridge {
                    table.let_through_no_more(family, None)?;
                }
            }
            Ok(())
        })
    }

    /// Adds the elements, in one transaction unless they are too many for one. One that a container that is gone has left
    /// with another value is replaced.
    fn add(&mut self, elements: &[Element], told: &str) -> Result<()> {
        elements.chunks(ELEMENTS).try_for_each(|portion| self.add_portion(portion, told))
    }

    fn add_portion(&mut self, elements: &[Element], told: &str) -> Result<()> {
        let mut batch = Batch::new();
        for element in elements {
            batch.push(msg::NEWSETELEM, CREATE, element.message(self.name, Purpose::Add));
        }
        match self.commit(batch, told) {
            Err(error) if error.errno() == Some(Errno::EXIST) => self.replace(elements, told),
            Err(error)
                if error.errno() == Some(Errno::NOENT)
                    && elements.iter().any(|element| element.family == Family::Bridge)
                    && is_unguarded(self.socket, self.name)? =>
            {
                self.replace(elements, told)
            }
            done => done,
        }
    }

    /// Adds the elements that are not there as they should be, after deleting others that have their keys. Those of
    /// family bridge are left out where there is none.
    fn replace(&mut self, elements: &[Element], told: &str) -> Result<()> {
        let unguarded = is_unguarded(self.socket, self.name)?;
        self.change(elements, told, |batch, table, element, answer| {
            let there = answer.is_some();
            if answer.is_some_and(|answer| element.is_in(answer))
                || (unguarded && element.family == Family::Bridge)
            {
                return;
            }
            if there {
                batch.push(msg::DELSETELEM, 0, element.message(table, Purpose::Delete));
            }
            batch.push(msg::NEWSETELEM, CREATE, element.message(table, Purpose::Add));
        })
    }

    /// Deletes the elements that are there and as we made them.
    fn remove(&mut self, elements: &[Element], told: &str) -> Result<()> {
        self.change(elements, told, |batch, table, element, answer| {
            if answer.is_some_and(|answer| element.is_in(answer)) {
                batch.push(msg::DELSETELEM, 0, element.message(table, Purpose::Delete));
            }
        })
    }

    /// Looks at all elements and commits what `decide` makes of each, unless anything has changed in between; then
    /// again.
    fn change(
        &mut self,
        elements: &[Element],
        told: &str,
        decide: impl Fn(&mut Batch, &str, &Element, Option<&[u8]>),
    ) -> Result<()> {
        elements.chunks(ELEMENTS).try_for_each(|portion| self.change_portion(portion, told, &decide))
    }

    fn change_portion(
        &mut self,
        elements: &[Element],
        told: &str,
        decide: &impl Fn(&mut Batch, &str, &Element, Option<&[u8]>),
    ) -> Result<()> {
        let mut requests = vec![get_generation()];
        requests.extend(elements.iter().map(|element| self.ask_for(element)));
        for _ in 0..PATIENCE {
            let answers = self.socket.ask_each(&requests)?;
            let Some((generation, answers)) = answers.split_first() else { break };
            let mut batch = Batch::at_generation(read_generation(generation)?);
            for (element, answer) in elements.iter().zip(answers) {
                let answer = answer.as_ref().ok().map(|message| message.body.as_slice());
                decide(&mut batch, self.name, element, answer);
            }
            if batch.is_empty() {
                return Ok(());
            }
            match self.commit(batch, told) {
                Err(error) if matches!(error.errno(), Some(RESTART)) => {}
                done => return done,
            }
        }
        Err(Error::Kernel { what: told.into(), errno: Errno::AGAIN })
    }

    fn ask_for(&self, element: &Element) -> Request {
        Request {
            kind: kind(msg::GETSETELEM),
            flags: 0,
            body: element.message(self.name, Purpose::Ask).into_body(),
            told: format!("NFT_MSG_GETSETELEM {} {} {}", element.family, self.name, element.set),
            accept: None,
        }
    }

    fn told_of(&self, member: &Member<'_>) -> String {
        let mut told = self.name.to_owned();
        if member.guarded {
            told.extend([": ", member.host_link, " is ", &format!("{} {}", member.mac, member.ip)]);
            told.extend(member.ip6.map(|ip6| format!(" {ip6}")));
        }
        let ports = member.published();
        if !ports.is_empty() {
            told.extend([": ", &listed(&ports)]);
        }
        told
    }

    pub(super) fn commit(&mut self, batch: Batch, told: &str) -> Result<()> {
        let (bytes, messages) = batch.encode(self.socket.next_sequence());
        self.socket.transaction(&bytes, messages, told)
    }
}

/// Whether containers cannot be held to their addresses, because the kernel has no nftables for bridges. False also
/// when there are no tables yet.
fn is_unguarded(socket: &mut Netlink, table: &str) -> Result<bool> {
    let requests = [get_chain(Family::Ip, table, UNGUARDED), get_chain(Family::Bridge, table, guard::CHAIN)];
    Ok(matches!(socket.ask_each(&requests)?.as_slice(), [Ok(_), Err(_)]))
}

/// The same of the tables of this name.
pub(crate) fn guard_missing(table: &str) -> Result<bool> {
    Netlink::with_netfilter(|socket| is_unguarded(socket, table))
}

/// What a kernel without a family, a table or an expression answers.
const LACKING: [Errno; 3] = [Errno::NOENT, Errno::OPNOTSUPP, Errno::AFNOSUPPORT];

/// Whether a published port is also at the loopback's address.
fn has_loopback(family: Family) -> bool {
    family != Family::Ip6 || loopback6::is_translated()
}
