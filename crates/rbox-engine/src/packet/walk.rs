//! The way of a packet from its source to where it arrives or is stopped, in the order in which the kernel decides.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rbox_network::{BetweenRules, Endpoint, OtherHook, PublishedElement, Way};
use rbox_spec::container::NetworkMode;
use rbox_spec::port::Protocol;

use crate::error::EngineError;
use crate::packet::kernel::Kernel;
use crate::packet::target::Target;
use crate::packet::trace::{Rule, Step, Stopped, Trace, Verdict};
use crate::packet::world::{Net, Node, World};

/// Where a way begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// This host.
    Host,
    /// Another host on the link.
    Outside,
    /// A container that runs: its number in [`World::nodes`].
    Container(usize),
}

/// Why a walk ends early.
pub(super) enum Halt {
    Stopped(Stopped),
    Error(EngineError),
}

impl From<EngineError> for Halt {
    fn from(error: EngineError) -> Self {
        Self::Error(error)
    }
}

/// A walk being done.
pub(super) struct Walk<'a> {
    pub(super) world: &'a World,
    pub(super) kernel: &'a dyn Kernel,
    pub(super) protocol: Protocol,
    pub(super) source: String,
    /// The container whose networks count: the source, or whose network it shares.
    pub(super) joins: String,
    steps: Vec<Step>,
    pub(super) if_only: Vec<String>,
    address: Option<IpAddr>,
    /// Something of rbox's is missing on the way, and was reported.
    broken: BTreeSet<String>,
}

/// Walks from `from` to `target`.
pub fn walk(world: &World, kernel: &dyn Kernel, from: &Place, target: &Target) -> Result<Trace, EngineError> {
    let source = match from {
        Place::Host => "host".to_owned(),
        Place::Outside => "outside".to_owned(),
        Place::Container(at) => world.nodes[*at].name.clone(),
    };
    let joins = match from {
        Place::Container(at) => world.nodes[*at].shares.clone(),
        Place::Host | Place::Outside => None,
    };
    let mut walk = Walk {
        world,
        kernel,
        protocol: target.protocol,
        joins: joins.unwrap_or_else(|| source.clone()),
        source: source.clone(),
        steps: Vec::new(),
        if_only: Vec::new(),
        address: None,
        broken: BTreeSet::new(),
    };
    let (arrival, stopped) = match walk.go(from, target) {
        Ok(arrival) => (Some(arrival), None),
        Err(Halt::Stopped(stopped)) => (None, Some(stopped)),
        Err(Halt::Error(error)) => return Err(error),
    };
    Ok(Trace {
        address: walk.address,
        steps: walk.steps,
        reaches: arrival.is_some(),
        arrival,
        if_only: walk.if_only,
        stopped,
        ..Trace::begun(source, target)
    })
}

impl<'a> Walk<'a> {
    fn go(&mut self, from: &Place, target: &Target) -> Result<String, Halt> {
        if let Place::Container(at) = from
            && self.world.nodes[*at].paused
        {
            let name = self.source.clone();
            return Err(self.stop(
                "source",
                &format!("{name} is paused: it sends nothing"),
                &format!("{name} being paused"),
                &format!("rbox unpause {name}"),
            ));
        }
        let world = self.world;
        if let Place::Container(at) = from {
            let node = &world.nodes[*at];
            if let Some(other) = &node.shares {
                self.ok("source", format!("{} has the network of {other}", node.name));
            } else if node.mode == NetworkMode::Host {
                self.ok("source", format!("{} has the host's network", node.name));
            }
        }
        let to = self.resolve(from, &target.host)?;
        self.address = Some(to);
        match from {
            Place::Host => self.out_of_host(to, target.port),
            Place::Outside => self.in_from_outside(to, target.port),
            Place::Container(at) if world.nodes[*at].mode == NetworkMode::Host => {
                self.out_of_host(to, target.port)
            }
            Place::Container(at) => self.out_of_container(&world.nodes[*at], to, target.port),
        }
    }

    pub(super) fn step(&mut self, verdict: Verdict, step: &'static str, text: String, rule: Option<Rule>) {
        self.steps.push(Step { verdict, step, text, rule });
    }

    pub(super) fn ok(&mut self, step: &'static str, text: String) {
        self.step(Verdict::Ok, step, text, None);
    }

    /// Something that may let it pass or not: `what` for the last line.
    pub(super) fn depends(&mut self, step: &'static str, text: String, what: String) {
        self.step(Verdict::Depends, step, text, None);
        if !self.if_only.contains(&what) {
            self.if_only.push(what);
        }
    }

    pub(super) fn stop(&mut self, step: &'static str, text: &str, by: &str, advice: &str) -> Halt {
        self.stop_by(step, text, None, by, advice)
    }

    pub(super) fn stop_by(
        &mut self,
        step: &'static str,
        text: &str,
        rule: Option<Rule>,
        by: &str,
        advice: &str,
    ) -> Halt {
        self.step(Verdict::Stopped, step, text.to_owned(), rule);
        let advice = match (self.broken.is_empty(), advice) {
            (true, advice) => advice.to_owned(),
            (false, "") => "rbox network reconcile".to_owned(),
            (false, advice) => format!("rbox network reconcile; then {advice}"),
        };
        Halt::Stopped(Stopped { by: by.to_owned(), advice })
    }

    /// The rules between networks for addresses of the family of `ip`.
    pub(super) fn rules(&self, ip: IpAddr) -> Option<&'a BetweenRules> {
        if ip.is_ipv4() { self.world.rules.ip.as_ref() } else { self.world.rules.ip6.as_ref() }
    }

    /// A rule in one of rbox's tables.
    pub(super) fn rule(&self, ip: IpAddr, chain: &str, rule: &str) -> Rule {
        let family = if ip.is_ipv4() { "ip" } else { "ip6" };
        Rule {
            table: format!("{family} {}", self.world.rules.table),
            chain: chain.to_owned(),
            rule: rule.to_owned(),
        }
    }

    /// Tells once when what rbox made for a network is not all there.
    pub(super) fn check(&mut self, net: &Net, ip: IpAddr) {
        let name = &net.network.name;
        let missing = if !net.up {
            format!(
                "the bridge {} of network {name} is not there, or down: rbox network reconcile",
                net.network.bridge
            )
        } else if self.rules(ip).is_none() {
            format!(
                "the table {} is not there: nothing is published or kept apart: rbox network reconcile",
                self.rule(ip, "", "").table
            )
        } else if !net.whole {
            format!("the rules for network {name} are not as rbox makes them: rbox network reconcile")
        } else {
            return;
        };
        if self.broken.insert(name.clone()) {
            self.depends("rules", missing, "nobody mends the rules".to_owned());
        }
    }

    /// Whether something of rbox's was found missing.
    pub(super) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// From a container's own network namespace.
    fn out_of_container(&mut self, node: &'a Node, to: IpAddr, port: u16) -> Result<String, Halt> {
        let name = &node.name;
        match self.kernel.way(Some(node), to)? {
            Way::Local => {
                self.ok("route", format!("{to} is {name} itself: it stays inside"));
                self.listener(Some(node), to, port)
            }
            Way::Nowhere(why) => Err(self.no_way(node, to, &why)),
            Way::Over { link, gateway, source } => {
                let Some(endpoint) = node.endpoints.iter().find(|endpoint| endpoint.link == link) else {
                    let text = format!("{to} leaves {name} over {link}, which rbox did not make");
                    self.depends("route", text, format!("what is behind {link}"));
                    return Ok(format!("{link} of {name}, as far as rbox sees"));
                };
                self.over(node, endpoint, to, port, gateway, source)
            }
        }
    }

    fn no_way(&mut self, node: &Node, to: IpAddr, why: &str) -> Halt {
        let name = &node.name;
        let networks: Vec<&str> = node.endpoints.iter().map(|e| e.network.as_str()).collect();
        let (text, advice) = if networks.is_empty() {
            (
                format!("{why}: {name} is on no network, it has a loopback only"),
                "run it with --network NETWORK".to_owned(),
            )
        } else if node.endpoints.iter().any(|e| e.default_route) {
            (
                format!("{why}: {name} has no route to {to}"),
                format!("look at its routes: nsenter -t {} -n ip route", node.pid),
            )
        } else {
            let which = networks.join(", ");
            (
                format!("{why}: {name} is on internal networks only ({which}), which have no way out"),
                format!("rbox network connect NETWORK {name}, with one that is not internal"),
            )
        };
        self.stop("route", &text, &format!("the routes of {name}"), &advice)
    }

    /// Out of a container over the cable of `endpoint`.
    fn over(
        &mut self,
        node: &'a Node,
        endpoint: &'a Endpoint,
        to: IpAddr,
        port: u16,
        gateway: Option<IpAddr>,
        source: Option<IpAddr>,
    ) -> Result<String, Halt> {
        let world = self.world;
        let Some(net) = world.on(&endpoint.bridge) else {
            let text = format!("network {} of {} is gone", endpoint.network, endpoint.link);
            return Err(self.stop(
                "route",
                &text,
                "a network that is gone",
                "make it again: rbox network create",
            ));
        };
        let network = &net.network.name;
        let link = &endpoint.link;
        let route = match gateway {
            None => format!("{to} is on network {network}: straight over {link}"),
            Some(router) => format!(
                "{to} is on none of its networks: over {link} to {router}, the bridge of network {network}"
            ),
        };
        self.ok("route", route);
        self.check(net, to);
        self.cable(node, endpoint, net)?;
        self.guard(node, endpoint, source.unwrap_or(IpAddr::V4(endpoint.ip)), true)?;
        let neighbour = gateway.unwrap_or(to);
        if world.host_link(neighbour).is_some() {
            return self.at_host(&endpoint.bridge, to, port);
        }
        let Some((peer, other)) = world.owner(&endpoint.bridge, neighbour) else {
            let text = format!("nobody on network {network} has the address {neighbour}");
            return Err(self.stop(
                "bridge",
                &text,
                "an address that nobody has",
                &format!("see who has which: rbox net {network}"),
            ));
        };
        if gateway.is_some() {
            let text = format!("the router is the container {}", peer.name);
            self.depends("bridge", text, format!("what {} does with it", peer.name));
            return Ok(format!("the router {}, as far as rbox sees", peer.name));
        }
        self.between_ports(net, endpoint, (peer, other), to, port)
    }

    /// From one port of a bridge to another.
    fn between_ports(
        &mut self,
        net: &'a Net,
        endpoint: &Endpoint,
        (peer, other): (&'a Node, &'a Endpoint),
        to: IpAddr,
        port: u16,
    ) -> Result<String, Halt> {
        let (world, network, bridge) = (self.world, &net.network.name, &net.network.bridge);
        let isolated =
            |endpoint: &Endpoint| world.cables.get(&endpoint.host_link).is_some_and(|c| c.isolated);
        if isolated(endpoint) && isolated(other) {
            let text = format!(
                "network {network} keeps its containers apart (enable_icc=false): {} and {} are isolated ports of {bridge}",
                endpoint.host_link, other.host_link
            );
            let advice = format!(
                "put both on another network, or publish the port: rbox port add {} {port}",
                peer.name
            );
            return Err(self.stop("bridge", &text, &format!("the isolation of network {network}"), &advice));
        }
        let rules_see = if to.is_ipv4() { world.bridged.0 } else { world.bridged.1 };
        if rules_see {
            self.ok(
                "bridge",
                format!("from port to port of {bridge}; br_netfilter shows it to the rules too"),
            );
            if self.rules(to).is_some() {
                self.user(to);
            }
            self.others(OtherHook::Forward, to);
            if self.rules(to).is_some_and(|rules| rules.same.contains(bridge)) {
                let rule = self.rule(to, "forward", "iifname . oifname @same accept");
                self.step(Verdict::Ok, "forward", format!("it stays on network {network}"), Some(rule));
            }
        } else {
            self.ok("bridge", format!("from port to port of {bridge}; no rule of IP sees it"));
        }
        self.arrive(net, (peer, other), to, port)
    }

    /// From this host itself.
    fn out_of_host(&mut self, to: IpAddr, port: u16) -> Result<String, Halt> {
        let world = self.world;
        match self.kernel.way(None, to)? {
            Way::Local => {
                self.ok("route", format!("{to} is this host"));
                self.others(OtherHook::Output, to);
                let Some(element) = self.published(to, port, true) else {
                    return self.host_listener(to, port);
                };
                let target = element.target;
                self.translated(to, &element, "publish_local");
                self.host_to_container(target.ip(), target.port(), to.is_loopback())
            }
            Way::Over { link, .. } if world.on(&link).is_some() => {
                self.ok("route", format!("{to} is on the bridge {link} of this host"));
                self.others(OtherHook::Output, to);
                self.host_to_container(to, port, false)
            }
            Way::Over { link, gateway, .. } => {
                self.others(OtherHook::Output, to);
                Ok(self.leaves(&link, gateway, to))
            }
            Way::Nowhere(why) => {
                let text = format!("{why}: this host has no route to {to}");
                Err(self.stop("route", &text, "the host's routes", "look at them: ip route"))
            }
        }
    }

    /// From this host over one of its bridges.
    fn host_to_container(&mut self, to: IpAddr, port: u16, from_loopback: bool) -> Result<String, Halt> {
        let world = self.world;
        let net = match self.kernel.way(None, to)? {
            Way::Over { link, .. } => world.on(&link),
            _ => None,
        };
        let Some(net) = net else {
            let text = format!("no bridge of this host leads to {to}");
            return Err(self.stop("route", &text, "a bridge that is gone", "rbox network reconcile"));
        };
        self.check(net, to);
        let bridge = &net.network.bridge;
        if from_loopback {
            if to.is_ipv4() && !world.loopback.contains(bridge) {
                let text =
                    format!("net.ipv4.conf.{bridge}.route_localnet is 0: 127.0.0.1 does not leave the host");
                return Err(self.stop("masquerade", &text, "route_localnet", "rbox network reconcile"));
            }
            let loopback = if to.is_ipv4() { "127.0.0.0/8" } else { "::1" };
            let family = if to.is_ipv4() { "ip" } else { "ip6" };
            let rule =
                self.rule(to, "leave", &format!("oifname @bridges {family} saddr {loopback} masquerade"));
            let text = format!("the program sees the address of the bridge {bridge}");
            self.step(Verdict::Ok, "masquerade", text, Some(rule));
        }
        let Some(owner) = world.owner(bridge, to) else {
            let text = format!("nobody on network {} has the address {to}", net.network.name);
            return Err(self.stop(
                "bridge",
                &text,
                "an address that nobody has",
                &format!("see who has which: rbox net {}", net.network.name),
            ));
        };
        self.arrive(net, owner, to, port)
    }

    /// From another host on the link.
    fn in_from_outside(&mut self, to: IpAddr, port: u16) -> Result<String, Halt> {
        let world = self.world;
        if to.is_loopback() {
            let family = if to.is_ipv4() { "ip daddr 127.0.0.0/8" } else { "ip6 daddr ::1" };
            let rule =
                to.is_ipv4().then(|| self.rule(to, "guard", &format!("iifname != \"lo\" {family} drop")));
            return Err(self.stop_by(
                "guard",
                "the host's loopback is the host's only",
                rule,
                "the host's loopback",
                "use an address of the host",
            ));
        }
        let in_subnet = |net: &&Net| match to {
            IpAddr::V4(ip) => net.network.subnet.is_some_and(|subnet| subnet.contains(ip)),
            IpAddr::V6(ip) => net.network.subnet6.is_some_and(|subnet| subnet.contains(ip)),
        };
        let uplink =
            world.uplinks().next().map_or_else(|| "a link".to_owned(), |(link, _)| link.name.clone());
        if let Some(net) = world.networks.iter().find(in_subnet) {
            return self.straight_in(net, &uplink, to, port);
        }
        if world.host_link(to).is_none() {
            let text = format!("{to} is no address of this host: it is not asked");
            return Err(self.stop(
                "route",
                &text,
                "an address of somebody else",
                "name an address of this host, or `host`",
            ));
        }
        self.ok("route", format!("{to} is this host"));
        self.at_host(&uplink, to, port)
    }

    /// From outside straight to an address of a network.
    fn straight_in(&mut self, net: &'a Net, uplink: &str, to: IpAddr, port: u16) -> Result<String, Halt> {
        self.check(net, to);
        if self.rules(to).is_none() {
            return self.forward(uplink, to, port, false);
        }
        let family = if to.is_ipv4() { "ip" } else { "ip6" };
        let rule = self.rule(
            to,
            "guard",
            &format!("iifname != \"lo\" iifname != @bridges {family} daddr @subnets drop"),
        );
        let name = &net.network.name;
        let text = format!("{to} is on network {name}: from outside only published ports are reached");
        let owner = self.world.owner(&net.network.bridge, to);
        let published = owner.and_then(|(_, e)| {
            e.ports.iter().find(|p| p.container_port == port && p.proto == self.protocol).copied()
        });
        let advice = match (owner, published) {
            (_, Some(as_port)) => {
                format!("it is published: use the host's address and port {}", as_port.host_port)
            }
            (Some((node, _)), None) => format!("publish it: rbox port add {} {port}", node.name),
            (None, None) => "publish the port of a container: rbox port add".to_owned(),
        };
        Err(self.stop_by("guard", &text, Some(rule), "the guard of the networks' addresses", &advice))
    }

    /// The published port that a packet to an address of this host is for. `local`: this host sent it.
    pub(super) fn published(&self, to: IpAddr, port: u16, local: bool) -> Option<PublishedElement> {
        if local && to.is_loopback() && to.is_ipv6() && self.world.bridged.1 {
            // The rules pass it by: see rbox_network's loopback6.
            return None;
        }
        let rules = self.rules(to)?;
        let here = |at: Option<IpAddr>| {
            let fits = |e: &&PublishedElement| e.proto == self.protocol && e.port == port && e.at == at;
            rules.published.iter().find(fits).copied()
        };
        here(Some(to)).or_else(|| here(None))
    }

    /// Tells that a published port leads on.
    pub(super) fn translated(&mut self, to: IpAddr, element: &PublishedElement, chain: &str) {
        let map = if element.at.is_some() { "@published_at" } else { "@published" };
        let family = if to.is_ipv4() { "ip" } else { "ip6" };
        let key = if element.at.is_some() { format!("{family} daddr . ") } else { String::new() };
        let rule = self.rule(
            to,
            chain,
            &format!("fib daddr type local dnat {family} to meta l4proto . {key}th dport map {map}"),
        );
        let at = element.at.map_or_else(|| "every address of the host".to_owned(), |ip| ip.to_string());
        let text = format!(
            "port {}/{} of {at} is published: it leads to {}",
            element.port, element.proto, element.target
        );
        self.step(Verdict::Ok, "publish", text, Some(rule));
    }

    /// Leaves this host, where nothing more is seen.
    pub(super) fn leaves(&mut self, link: &str, gateway: Option<IpAddr>, to: IpAddr) -> String {
        let via = gateway.map(|router| format!(" to {router}")).unwrap_or_default();
        self.ok("out", format!("it leaves this host over {link}{via}; what answers is beyond this host"));
        format!("{to} beyond {link}, as far as this host decides")
    }
}
