//! Which names are ours: those of the container's networks, and its links.

use std::net::IpAddr;

use crate::names::NameStore;

/// What the server asks of every question before it passes that on.
pub trait Lookup {
    /// The addresses of `name`, which is in lower case and without a dot at its end, of either family. None when the name
    /// is not one of ours.
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>>;

    /// The name of whoever has the address.
    fn name_of(&self, ip: IpAddr) -> Option<String>;
}

/// One network a container is on.
#[derive(Clone, Debug)]
pub struct NamedNetwork {
    /// Its name: `db.NAME` asks this network only.
    pub name: String,
    /// The names on it.
    pub names: NameStore,
    /// `--link TARGET:ALIAS` as (alias, target): further names that only this container knows.
    pub links: Vec<(String, String)>,
}

impl NamedNetwork {
    /// An alias hides a name that others know.
    fn find(&self, name: &str, is_live: &dyn Fn(&str) -> bool) -> Vec<IpAddr> {
        let alias = self.links.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        let name = alias.map_or_else(|| name.to_owned(), |(_, target)| target.to_ascii_lowercase());
        self.names.lookup(&name, is_live).into_iter().map(|(ip, _)| ip).collect()
    }
}

/// The names that a container on `networks` knows.
pub struct NetworkNames<'a> {
    /// The networks in the order in which they are asked.
    pub networks: Vec<NamedNetwork>,
    /// Whether the container of this id can still use its address.
    pub is_live: Box<dyn Fn(&str) -> bool + 'a>,
}

impl Lookup for NetworkNames<'_> {
    /// `a.b.c` is the name `a.b.c` on any network, or else `a.b` on the network `c`, or else `a` on `b.c`.
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let on = |name: &str, network: Option<&str>| {
            self.networks
                .iter()
                .filter(|known| network.is_none_or(|network| known.name.eq_ignore_ascii_case(network)))
                .map(|known| known.find(name, &*self.is_live))
                .find(|found| !found.is_empty())
        };
        on(name, None).or_else(|| {
            let dots = name.rmatch_indices('.').map(|(at, _)| at);
            dots.filter_map(|at| Some((name.get(..at)?, name.get(at + 1..)?)))
                .find_map(|(name, network)| on(name, Some(network)))
        })
    }

    /// `db.NETWORK`, as Docker says it.
    fn name_of(&self, ip: IpAddr) -> Option<String> {
        let named = |known: &NamedNetwork| {
            Some(format!("{}.{}", known.names.name_of(ip, &*self.is_live)?, known.name))
        };
        self.networks.iter().find_map(named)
    }
}
