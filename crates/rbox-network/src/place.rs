//! A container's way onto networks and off again.
//!
//! The order of a start, in which each step can be found again from what was recorded before it: [`reserve`](crate::reserve),
//! [`NetworkStore::plan`] and [`NetworkStore::ensure`] for each network, (the endpoints go into the container's record),
//! [`NetworkStore::attach`] for each, [`configure_inside`](crate::configure_inside). At the end
//! [`NetworkStore::detach`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use rbox_spec::mac::Mac;
use rbox_spec::port::PublishedPort;
use rbox_sys::trace;
use rustix::io::Errno;

use crate::address::Pool;
use crate::endpoint::{Endpoint, Endpoint6, MOST_NETWORKS, host_link};
use crate::error::{Error, Result};
use crate::host::bridge_calls_iptables;
use crate::link;
use crate::names::NameStore;
use crate::network::Network;
use crate::nft::{Member, Table};
use crate::socket::Netlink;
use crate::store::{NetworkStore, collected};

/// What a container wants of a network.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Its id. Its record must exist.
    pub container: String,
    /// Which of its networks this is, from 0.
    pub number: usize,
    /// The name of the link inside; from the network and the number when none.
    pub link: Option<String>,
    /// The address it must have.
    pub ip: Option<Ipv4Addr>,
    /// The IPv6 address it must have.
    pub ip6: Option<Ipv6Addr>,
    /// The addresses it had before, and has again when they are free.
    pub before: Vec<IpAddr>,
    /// The Ethernet address; one that goes with the address when none.
    pub mac: Option<Mac>,
    /// Further addresses of its link, which are nobody else's concern.
    pub link_local: Vec<IpAddr>,
    /// What it is called, in lower case: its name first.
    pub names: Vec<String>,
    /// Its default route leads through this network, unless that is internal.
    pub default_route: bool,
    /// Ports published through this network.
    pub ports: Vec<PublishedPort>,
}

impl NetworkStore {
    /// Takes addresses and names everything the endpoint will consist of. `is_live` is asked of other containers' ids
    /// whether their address is still in use.
    pub fn plan(&self, network: &Network, wish: &Wish, is_live: &dyn Fn(&str) -> bool) -> Result<Endpoint> {
        if wish.number >= MOST_NETWORKS {
            return Err(Error::Invalid(format!("a container can be on {MOST_NETWORKS} networks at most")));
        }
        let range = network.range()?;
        let addresses = self.addresses(network)?;
        addresses.hold()?;
        // It may have been removed while it was waited for.
        let network = &self.attached(&network.id, &network.name)?;
        let why = "A file named for it, linked into place with the container's id in it: nobody else gets the address.";
        let take = |ip: Option<IpAddr>, pool: &Pool, fits: &dyn Fn(IpAddr) -> bool| {
            if let Some(ip) = ip {
                network.check_address(ip)?;
                return match addresses.take(ip, &wish.container, is_live)? {
                    Ok(()) => Ok(ip),
                    Err(owner) => Err(Error::AddressInUse { ip, network: network.name.clone(), owner }),
                };
            }
            let before = wish.before.iter().copied().find(|ip| fits(*ip));
            match addresses.allocate(pool, &wish.container, before, is_live)? {
                Some(ip) => Ok(ip),
                None => Err(Error::NoAddress {
                    network: network.name.clone(),
                    subnet: network.ip_range.unwrap_or(range).to_string(),
                    owners: addresses.owners()?.into_iter().map(|(_, owner)| owner).collect(),
                }),
            }
        };
        let in_range = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if range.contains(ip));
        let taken = trace::step("take an address", why, || {
            take(wish.ip.map(IpAddr::V4), &network.pool()?, &in_range)
        })?;
        let IpAddr::V4(ip) = taken else {
            return Err(Error::Invalid(format!("network {} gave {taken}", network.name)));
        };
        let ip6 = match network.pool6() {
            None if wish.ip6.is_some() => {
                network.check_address(wish.ip6.map_or(taken, IpAddr::V6)).map(|()| None)
            }
            None => Ok(None),
            Some((subnet, gateway, pool)) => {
                let in_range = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if subnet.contains(ip));
                take(wish.ip6.map(IpAddr::V6), &pool, &in_range).map(|taken| match taken {
                    IpAddr::V6(ip) => Some(Endpoint6 { ip, prefix: subnet.prefix(), gateway }),
                    IpAddr::V4(_) => None,
                })
            }
        };
        let ip6 = match ip6 {
            Ok(ip6) => ip6,
            Err(error) => {
                // The reason that is reported is the first one; a file that stays is found by its owner's end.
                let _ = addresses.release(taken, &wish.container);
                return Err(error);
            }
        };
        Ok(Endpoint {
            network: network.name.clone(),
            network_id: network.id.clone(),
            container: wish.container.clone(),
            bridge: network.bridge.clone(),
            host_link: host_link(&wish.container, wish.number),
            link: wish.link.clone().unwrap_or_else(|| format!("{}{}", network.link_prefix(), wish.number)),
            ip,
            prefix: range.prefix(),
            gateway: network.router()?,
            default_route: wish.default_route && !network.internal,
            ip6,
            mac: wish.mac.unwrap_or_else(|| Mac::of(ip)),
            link_local: wish.link_local.clone(),
            mtu: network.mtu(),
            names: wish.names.clone(),
            guarded: network.is_guarded(),
            isolated: !network.talks(),
            ports: wish.ports.clone(),
        })
    }

    /// Makes the guard of the container's link, publishes the ports, and makes the veth between the bridge and `netns`. What was made is taken back on
    /// failure.
    pub fn attach(&self, endpoint: &Endpoint, netns: BorrowedFd<'_>) -> Result<()> {
        // In this order, so that its port of the bridge is never without its guard.
        let wired = trace::step(
            "admit it in the rules",
            "It may send as itself only; packets for a published port of the host are sent on to it.",
            || Table::with(&self.names.table, |table| table.admit(&Member::of(endpoint))),
        )
        .and_then(|()| {
            trace::step(
                "make the veth pair",
                "One end is a port of the bridge, the other a link of the container.",
                || self.wire(endpoint, netns),
            )
        });
        let wired = wired.and_then(|()| {
            trace::step(
                "make its link deaf",
                "No neighbour gives it an address, a route or a better way.",
                || crate::deaf::make_deaf(netns, &endpoint.link),
            )
        });
        let wired = wired.and_then(|()| self.name(endpoint));
        if wired.is_err() {
            // The reason that is reported is the first one; what remains is found from the record.
            let _ = self.unname(endpoint);
            let _ = Netlink::route().and_then(|mut socket| link::delete(&mut socket, &endpoint.host_link));
            let _ = self.dismiss(endpoint);
        }
        wired
    }

    /// Makes the veth.
    pub fn wire(&self, endpoint: &Endpoint, netns: BorrowedFd<'_>) -> Result<()> {
        let mut socket = Netlink::route()?;
        let Some(bridge) = link::find(&mut socket, &endpoint.bridge)? else {
            return Err(Error::Kernel {
                what: format!("RTM_GETLINK {}", endpoint.bridge),
                errno: Errno::NODEV,
            });
        };
        let hairpin = bridge_calls_iptables();
        let made = match link::make_veth(&mut socket, endpoint, bridge, netns, hairpin) {
            // The veth of this container's last run: its namespace is still being taken down.
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                link::delete(&mut socket, &endpoint.host_link)?;
                link::make_veth(&mut socket, endpoint, bridge, netns, hairpin)
            }
            made => made,
        };
        made.map_err(|error| match error.errno() {
            Some(Errno::XFULL) => Error::BridgeFull(endpoint.bridge.clone()),
            _ => error,
        })
    }

    /// Publishes ports that lead to the endpoint's addresses.
    pub fn publish(&self, endpoint: &Endpoint, ports: &[PublishedPort]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        Table::with(&self.names.table, |table| table.publish(&Member { ports, ..Member::of(endpoint) }))
    }

    /// Takes ports back; those that lead to another container by now stay.
    pub fn unpublish(&self, endpoint: &Endpoint, ports: &[PublishedPort]) -> Result<()> {
        if ports.is_empty() {
            return Ok(());
        }
        Table::with(&self.names.table, |table| table.unpublish(&Member { ports, ..Member::of(endpoint) }))
    }

    /// Takes the endpoint out of the rules: its guard and its ports.
    fn dismiss(&self, endpoint: &Endpoint) -> Result<()> {
        Table::with(&self.names.table, |table| table.dismiss(&Member::of(endpoint)))
    }

    /// The names on a network, by its bridge.
    pub fn names_on(&self, bridge: &str) -> NameStore {
        NameStore::new(self.state.join(bridge))
    }

    /// Lets the endpoint's names lead to it.
    fn name(&self, endpoint: &Endpoint) -> Result<()> {
        let names = self.names_on(&endpoint.bridge);
        trace::step(
            "let its names be found",
            "Every container of the network asks for them at 127.0.0.11.",
            || endpoint.addresses().try_for_each(|ip| names.admit(ip, &endpoint.names)),
        )
    }

    /// Takes the endpoint's names back.
    fn unname(&self, endpoint: &Endpoint) -> Result<()> {
        let names = self.names_on(&endpoint.bridge);
        endpoint.addresses().try_for_each(|ip| names.dismiss(ip, &endpoint.names, &endpoint.container))
    }

    /// Lets other names lead to an endpoint that is there.
    pub fn rename(&self, endpoint: &Endpoint, names: &[String]) -> Result<()> {
        let store = self.names_on(&endpoint.bridge);
        let gone: Vec<String> = endpoint.names.iter().filter(|name| !names.contains(name)).cloned().collect();
        for ip in endpoint.addresses() {
            store.admit(ip, names)?;
            store.dismiss(ip, &gone, &endpoint.container)?;
        }
        Ok(())
    }

    /// Gives the endpoint's addresses back.
    pub fn release(&self, endpoint: &Endpoint) -> Result<()> {
        let state = self.state.join(&endpoint.bridge);
        if !state.exists() {
            return Ok(());
        }
        let addresses = crate::address::Addresses::open(&state)?;
        endpoint.addresses().try_for_each(|ip| addresses.release(ip, &endpoint.container))
    }

    /// Takes the endpoint apart: names, ports, veth, guard, addresses. Can be repeated; goes on past failures and returns all.
    /// The container should have ended: a veth whose network namespace is kept is deleted only after a second.
    pub fn detach(&self, endpoint: &Endpoint) -> Result<(), Vec<Error>> {
        self.take_apart(endpoint, link::delete_if_left)
    }

    /// The same for a container that keeps running: its link goes at once.
    pub fn disconnect(&self, endpoint: &Endpoint) -> Result<(), Vec<Error>> {
        self.take_apart(endpoint, link::delete)
    }

    /// Its ports lead nowhere at once; its guard goes after its link.
    fn take_apart(
        &self,
        endpoint: &Endpoint,
        delete: fn(&mut Netlink, &str) -> Result<()>,
    ) -> Result<(), Vec<Error>> {
        let gone = || delete(&mut Netlink::route()?, &endpoint.host_link);
        collected([
            self.unname(endpoint),
            self.unpublish(endpoint, &endpoint.ports),
            gone(),
            self.dismiss(endpoint),
            self.release(endpoint),
        ])
    }
}
