//! The second half of a way: what the host does with a packet that a bridge or a link brought, and the last metres to a
//! program.

use std::net::{IpAddr, Ipv4Addr};

use rbox_network::{Endpoint, OtherHook, Way};
use rbox_spec::port::{Protocol, PublishedPort};

use crate::networks::sockets::{Listening, Socket, listening};
use crate::packet::trace::{Rule, Verdict};
use crate::packet::walk::{Halt, Walk};
use crate::packet::world::{Net, Node};

/// Where a container asks for names.
pub(super) const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

impl<'a> Walk<'a> {
    /// A packet for `to` has come to the host over `link`.
    pub(super) fn at_host(&mut self, link: &str, to: IpAddr, port: u16) -> Result<String, Halt> {
        let world = self.world;
        if world.host_link(to).is_none() {
            return self.forward(link, to, port, false);
        }
        if let Some(element) = self.published(to, port, false) {
            self.translated(to, &element, "publish");
            return self.forward(link, element.target.ip(), element.target.port(), true);
        }
        let on_link = world.host_link(to).is_some_and(|own| own.name == link);
        if self.rules(to).is_some_and(|rules| rules.internal.iter().any(|bridge| bridge == link)) && !on_link
        {
            let rule = self.rule(to, "local", "iifname @internal fib daddr . iif type != local drop");
            let network = self.network_of(link);
            let text = format!(
                "network {network} is internal: of the host it reaches the bridge's own address only"
            );
            let advice = format!("put {} on a network with a way out", self.source);
            return Err(self.stop_by(
                "local",
                &text,
                Some(rule),
                &format!("the internal network {network}"),
                &advice,
            ));
        }
        self.others(OtherHook::Input, to);
        self.host_listener(to, port)
    }

    /// The host passes a packet on; `translated` when a published port led it here.
    pub(super) fn forward(
        &mut self,
        link: &str,
        to: IpAddr,
        port: u16,
        translated: bool,
    ) -> Result<String, Halt> {
        let world = self.world;
        let (setting, on) = if to.is_ipv4() {
            ("net.ipv4.ip_forward", world.forwards.0)
        } else {
            ("net.ipv6.conf.all.forwarding", world.forwards.1)
        };
        if !on {
            return Err(self.stop(
                "forward",
                &format!("{setting} is 0: this host passes nothing on"),
                setting,
                "rbox network reconcile",
            ));
        }
        let (out, gateway) = match self.kernel.way(None, to)? {
            Way::Over { link, gateway, .. } => (link, gateway),
            Way::Local => return self.host_listener(to, port),
            Way::Nowhere(why) => {
                let text = format!("{why}: this host has no route to {to}");
                return Err(self.stop("route", &text, "the host's routes", "look at them: ip route"));
            }
        };
        let (from, into) = (world.on(link), world.on(&out));
        for net in [from, into].into_iter().flatten() {
            self.check(net, to);
        }
        if self.rules(to).is_some() {
            self.user(to);
            self.pass(link, &out, to, port, translated)?;
        }
        self.others(OtherHook::Forward, to);
        match into {
            Some(net) => {
                let Some(owner) = world.owner(&out, to) else {
                    let text = format!("nobody on network {} has the address {to}", net.network.name);
                    let advice = format!("see who has which: rbox net {}", net.network.name);
                    return Err(self.stop("bridge", &text, "an address that nobody has", &advice));
                };
                self.arrive(net, owner, to, port)
            }
            None => Ok(self.leaves(&out, gateway, to)),
        }
    }

    /// rbox's chain forward, and what becomes of the source afterwards.
    fn pass(&mut self, link: &str, out: &str, to: IpAddr, port: u16, translated: bool) -> Result<(), Halt> {
        let Some(rules) = self.rules(to) else { return Ok(()) };
        let has = |list: &[String], name: &str| list.iter().any(|bridge| bridge == name);
        let (ours, theirs) = (self.network_of(link), self.network_of(out));
        let verdict = |this: &Self, rule: &str| Some(this.rule(to, "forward", rule));
        if link == out && has(&rules.same, link) {
            let rule = verdict(self, "iifname . oifname @same accept");
            self.step(Verdict::Ok, "forward", format!("it stays on network {ours}"), rule);
        } else if has(&rules.internal, link) {
            let rule = verdict(self, "iifname @internal drop");
            let text = format!("network {ours} is internal: nothing leaves it");
            let advice = self.join(out);
            return Err(self.stop_by(
                "forward",
                &text,
                rule,
                &format!("the internal network {ours}"),
                &advice,
            ));
        } else if has(&rules.internal, out) {
            let rule = verdict(self, "oifname @internal drop");
            let text = format!("network {theirs} is internal: nothing comes in");
            let advice = self.join(out);
            return Err(self.stop_by(
                "forward",
                &text,
                rule,
                &format!("the internal network {theirs}"),
                &advice,
            ));
        } else if has(&rules.bridges, out) && translated {
            let rule = verdict(self, "oifname @bridges ct status dnat accept");
            self.step(
                Verdict::Ok,
                "forward",
                format!("published ports of network {theirs} are reached"),
                rule,
            );
        } else if has(&rules.bridges, out) {
            let rule = verdict(self, "oifname @bridges drop");
            let text = format!("from network {ours} to network {theirs}: they are kept apart");
            let owner = self.world.owner(out, to);
            let publish =
                owner.map(|(node, _)| format!(", or publish the port: rbox port add {} {port}", node.name));
            let advice = format!("{}{}", self.join(out), publish.unwrap_or_default());
            let by = format!("the rules between networks {ours} and {theirs}");
            return Err(self.stop_by("forward", &text, rule, &by, &advice));
        } else {
            let rule = Some(self.rule(to, "forward", ""));
            self.step(Verdict::Ok, "forward", format!("from network {ours} out over {out}"), rule);
        }
        self.masquerade(link, out, to, translated);
        Ok(())
    }

    fn masquerade(&mut self, link: &str, out: &str, to: IpAddr, translated: bool) {
        let family = if to.is_ipv4() { "ip" } else { "ip6" };
        let from_us = self.world.on(link).is_some();
        let into_us = self.world.on(out).is_some();
        let (rule, text) = match (from_us, into_us) {
            (true, true) if translated => (
                format!("oifname @bridges {family} saddr @subnets ct status dnat masquerade"),
                format!("the program sees the address of the bridge {out}"),
            ),
            (true, false) => (
                format!("oifname != @bridges {family} saddr @subnets masquerade"),
                format!("the outside sees the host's address on {out}"),
            ),
            _ => return,
        };
        let rule = self.rule(to, "leave", &rule);
        self.step(Verdict::Ok, "masquerade", text, Some(rule));
    }

    /// What would put the source where the bridge `out` is.
    fn join(&self, out: &str) -> String {
        let source = &self.joins;
        match self.world.on(out) {
            Some(net) if source == "outside" => {
                format!("network {} takes nothing from outside", net.network.name)
            }
            Some(net) => format!("rbox network connect {} {source}", net.network.name),
            None => format!("rbox network connect NETWORK {source}, with one that has a way out"),
        }
    }

    /// A network's name by its bridge, or the link's own.
    fn network_of(&self, link: &str) -> String {
        self.world.on(link).map_or_else(|| link.to_owned(), |net| net.network.name.clone())
    }

    /// The administrator's chain, when there is anything in it.
    pub(super) fn user(&mut self, ip: IpAddr) {
        let Some(rules) = self.rules(ip).filter(|rules| !rules.user.is_empty()) else { return };
        let count = rules.user.len();
        let plural = if count == 1 { "rule" } else { "rules" };
        let handles: Vec<String> = rules.user.iter().take(8).map(ToString::to_string).collect();
        let table = self.rule(ip, "user", "");
        let text = format!(
            "the administrator's chain is asked first: {count} {plural} (handle {}); see nft -a list chain {} user",
            handles.join(", "),
            table.table
        );
        self.if_only.push(format!("chain user of table {} lets it pass", table.table));
        self.step(Verdict::Depends, "user", text, Some(table));
    }

    /// Chains of others that drop what they do not accept.
    pub(super) fn others(&mut self, hook: OtherHook, ip: IpAddr) {
        let what = match hook {
            OtherHook::Input => "what comes to this host",
            OtherHook::Forward => "what is passed on",
            OtherHook::Output => "what this host sends",
        };
        let world = self.world;
        for chain in &world.rules.others {
            if chain.hook == hook && chain.is_ip6.is_none_or(|six| six == ip.is_ipv6()) {
                let text = format!(
                    "the host's firewall, chain {}, drops {what} unless one of its rules accepts it",
                    chain.name
                );
                self.depends("firewall", text, format!("chain {} accepts it", chain.name));
            }
        }
    }

    /// The cable between a container and its bridge.
    pub(super) fn cable(&mut self, node: &Node, endpoint: &Endpoint, net: &Net) -> Result<(), Halt> {
        let (name, link, inside, bridge) =
            (&node.name, &endpoint.host_link, &endpoint.link, &net.network.bridge);
        let wrong = match self.world.cables.get(link) {
            None => format!("the host's end {link} of {inside} is not there"),
            Some(cable) if !cable.up => format!("the host's end {link} of {inside} is down"),
            Some(cable) if cable.bridge.as_ref() != Some(bridge) => {
                format!("{link} is no port of the bridge {bridge}")
            }
            Some(_) if !net.up => format!("the bridge {bridge} is not there, or down"),
            Some(_) => {
                self.ok("cable", format!("{inside} of {name} = {link}, a port of {bridge}"));
                return Ok(());
            }
        };
        // A bridge that is made anew gets its ports back: what is said of every missing bridge is all.
        let advice = if net.up { format!("rbox restart {name}") } else { String::new() };
        Err(self.stop("cable", &wrong, &format!("the cable of {name}"), &advice))
    }

    /// The guard on a container's port: it speaks with its own addresses only. `told`: also when all is well.
    pub(super) fn guard(
        &mut self,
        node: &Node,
        endpoint: &Endpoint,
        from: IpAddr,
        told: bool,
    ) -> Result<(), Halt> {
        let world = self.world;
        let Some(guard) = &world.rules.guard else {
            if world.unguarded && endpoint.guarded && told {
                self.ok("guard", "this kernel has no nftables for bridges: nothing is checked".to_owned());
            }
            return Ok(());
        };
        let link = &endpoint.host_link;
        if !guard.links.contains(link) {
            return Ok(());
        }
        let mac = self.kernel.mac(node, &endpoint.link)?.unwrap_or(endpoint.mac);
        let table = format!("bridge {}", world.rules.table);
        let kind = if from.is_ipv4() { "ip" } else { "ip6" };
        if guard.guests.iter().any(|(port, own, ip)| port == link && *own == mac && *ip == from) {
            if told {
                let set = if from.is_ipv4() { "@guests" } else { "@guests6" };
                let rule = format!("ether type {kind} iifname . ether saddr . {kind} saddr {set} accept");
                let rule = Rule { table, chain: "guard".into(), rule };
                self.step(
                    Verdict::Ok,
                    "guard",
                    format!("{mac} and {from} are the addresses of {}", node.name),
                    Some(rule),
                );
            }
            return Ok(());
        }
        let text = format!(
            "{link} may not send as {mac} and {from}: it was given {} and {}",
            endpoint.mac, endpoint.ip
        );
        let rule = Rule { table, chain: "guard".into(), rule: "drop".into() };
        let advice = format!("give it its own addresses back: rbox restart {}", node.name);
        Err(self.stop_by(
            "guard",
            &text,
            Some(rule),
            &format!("the guard on the port of {}", node.name),
            &advice,
        ))
    }

    /// From the bridge into the container that has `to`.
    pub(super) fn arrive(
        &mut self,
        net: &'a Net,
        (node, endpoint): (&'a Node, &'a Endpoint),
        to: IpAddr,
        port: u16,
    ) -> Result<String, Halt> {
        self.cable(node, endpoint, net)?;
        // Its answers pass the guard too.
        self.guard(node, endpoint, to, false)?;
        self.listener(Some(node), to, port)
    }

    /// Who takes what comes to an address of the host, and why nobody does.
    pub(super) fn host_listener(&mut self, to: IpAddr, port: u16) -> Result<String, Halt> {
        let sockets = self.kernel.sockets(None)?;
        if let Listening::By(_) = listening(&sockets, self.protocol, to, port) {
            return self.listener(None, to, port);
        }
        let world = self.world;
        let protocol = self.protocol;
        let is_meant = |port_of: &&PublishedPort| port_of.host_port == port && port_of.proto == protocol;
        let here = |published: &PublishedPort| {
            published.host_ip.is_ipv4() == to.is_ipv4()
                && (published.host_ip.is_unspecified() || published.host_ip == to)
        };
        let ports = |node: &'a Node| node.endpoints.iter().flat_map(|e| &e.ports).filter(is_meant);
        let mut of_containers: Vec<(&Node, &PublishedPort)> =
            world.nodes.iter().flat_map(|node| ports(node).map(move |published| (node, published))).collect();
        // One that should be here first.
        of_containers.sort_by_key(|(_, published)| !here(published));
        let Some((node, published)) = of_containers.first() else {
            return self.listener(None, to, port);
        };
        let name = &node.name;
        let is_here = here(published);
        if is_here && to.is_loopback() && to.is_ipv6() {
            let text =
                "with bridge-nf-call-ip6tables the rules lead nobody from [::1], and no monitor relays"
                    .to_owned();
            return Err(self.stop(
                "publish",
                &text,
                "the rules, which pass [::1] by here",
                "use 127.0.0.1, or start the container again",
            ));
        }
        if is_here {
            let rule = self.rule(to, "publish", "");
            let text = format!("{name} published port {port}/{protocol}, but the rules do not know it");
            let advice = if self.is_broken() { "" } else { "rbox network reconcile" };
            return Err(self.stop_by("publish", &text, Some(rule), "rules that are not there", advice));
        }
        let text =
            format!("{name} published port {port}/{protocol} at {} only, not at {to}", published.host_ip);
        let advice = format!(
            "use that address, or publish it at every one: rbox port add {name} {port}:{}",
            published.container_port
        );
        Err(self.stop("publish", &text, "an address at which it is not published", &advice))
    }

    /// The program that takes it.
    pub(super) fn listener(&mut self, node: Option<&'a Node>, to: IpAddr, port: u16) -> Result<String, Halt> {
        let who = node.map_or("the host", |node| node.name.as_str()).to_owned();
        let protocol = self.protocol;
        if let Some(node) = node.filter(|node| to == RESOLVER && port == 53 && !node.endpoints.is_empty())
            && protocol != Protocol::Sctp
        {
            let text = format!("its name server: the monitor, pid {}", node.monitor);
            self.ok("listener", text.clone());
            return Ok(text);
        }
        let at = std::net::SocketAddr::new(to, port);
        if protocol == Protocol::Sctp {
            self.depends(
                "listener",
                "who listens with SCTP is not looked at".to_owned(),
                format!("somebody listens at {at}"),
            );
            return Ok(format!("{who} ({at}/{protocol})"));
        }
        let sockets = self.kernel.sockets(node)?;
        match listening(&sockets, protocol, to, port) {
            Listening::By(socket) => {
                let program = program(socket);
                self.ok(
                    "listener",
                    format!("{program} listens at {}", std::net::SocketAddr::new(socket.address, port)),
                );
                let mut arrival = format!("{program} in {who}");
                if node.is_none() {
                    arrival = format!("{program} on the host");
                }
                if let Some(node) = node.filter(|node| node.paused) {
                    let text = format!(
                        "{} is paused: the kernel takes the connection, and nobody answers before rbox unpause {}",
                        node.name, node.name
                    );
                    self.depends("paused", text, format!("somebody does rbox unpause {}", node.name));
                }
                Ok(arrival)
            }
            Listening::Elsewhere(bound) => {
                let list: Vec<String> = bound.iter().map(ToString::to_string).collect();
                let list = list.join(", ");
                let text =
                    format!("port {port}/{protocol} of {who} is listened at on {list} only, not at {to}");
                let advice = match node {
                    Some(_) => format!("let the program listen at 0.0.0.0:{port}, or at {to}"),
                    None => "let the program listen there, or use that address".to_owned(),
                };
                Err(self.stop(
                    "listener",
                    &text,
                    &format!("the program, which listens on {list} only"),
                    &advice,
                ))
            }
            Listening::Nobody => Err(self.nobody(node, &who, port)),
        }
    }

    fn nobody(&mut self, node: Option<&Node>, who: &str, port: u16) -> Halt {
        let protocol = self.protocol;
        if let Some(node) = node {
            let text = format!("nothing in {who} listens at port {port}/{protocol}");
            let by = format!("{who}, where nothing listens at port {port}/{protocol}");
            return self.stop("listener", &text, &by, &format!("see what does: rbox net {}", node.name));
        }
        let text = format!(
            "no container publishes port {port}/{protocol} here, and nothing on the host listens at it"
        );
        let by = format!("port {port}/{protocol} of the host, where nothing listens");
        self.stop("listener", &text, &by, &format!("publish it: rbox port add CONTAINER {port}"))
    }
}

fn program(socket: &Socket) -> String {
    if socket.process.is_empty() { "a program".to_owned() } else { socket.process.clone() }
}
