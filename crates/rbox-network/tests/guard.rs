//! What a container may send: as itself, and nothing else. As root, in namespaces of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use rbox_network::NewNetwork;
use support::frames::{ARP, Frame, IPV4, IPV6, arp, frame, icmpv6, ipv4, ipv6, received, tagged};
use support::{Container, PEER, PEER6, World, alone, run, wish};

const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const LISTENER_REPORT: u8 = 143;

fn link_local(container: &Container) -> Ipv6Addr {
    let mac = container.endpoint.mac.0;
    let mut bytes = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, 0, 0, 0];
    bytes[13..].copy_from_slice(&mac[3..]);
    Ipv6Addr::from(bytes)
}

/// What `from` may say to `to`, and what it may not: the names of those it may, and all.
fn speech(from: &Container, to: &Container) -> (BTreeSet<&'static str>, Vec<Frame>) {
    let (me, you) = (&from.endpoint, &to.endpoint);
    let (mac, other) = (me.mac.0, [0x02, 0x42, 0, 0, 0, 0x99]);
    let at = |name, source, kind, payload: Vec<u8>| frame(name, you.mac.0, source, kind, &payload);
    let mut honest =
        vec![at("arp", mac, ARP, arp(mac, me.ip, you)), at("ip", mac, IPV4, ipv4("ip", me.ip, you.ip))];
    let mut forged = vec![
        at("arp as the gateway", mac, ARP, arp(mac, me.gateway, you)),
        at("arp as the other", mac, ARP, arp(mac, you.ip, you)),
        at("arp, another mac inside", mac, ARP, arp(other, me.ip, you)),
        at("arp, another mac outside", other, ARP, arp(mac, me.ip, you)),
        at("ip as the gateway", mac, IPV4, ipv4("ip as the gateway", me.gateway, you.ip)),
        at("ip as the other", mac, IPV4, ipv4("ip as the other", you.ip, you.ip)),
        at("ip as a stranger", mac, IPV4, ipv4("ip as a stranger", PEER.parse().unwrap(), you.ip)),
        at("ip, another mac", other, IPV4, ipv4("ip, another mac", me.ip, you.ip)),
        at(
            "ip, the gateway's mac",
            [2, 0x42, 172, 30, 0, 1],
            IPV4,
            ipv4("ip, the gateway's mac", me.ip, you.ip),
        ),
        at("another protocol", mac, 0x88b5, Vec::new()),
        tagged(
            "vlan",
            &at(
                "a long name that is replaced",
                mac,
                IPV4,
                ipv4("a long name that is replaced", me.ip, you.ip),
            ),
        ),
    ];
    if let (Some(my6), Some(your6)) = (me.ip6, you.ip6) {
        let (ip, link) = (my6.ip, link_local(from));
        let none = Ipv6Addr::UNSPECIFIED;
        let say = |name, source| at(name, mac, IPV6, ipv6(name, source, your6.ip));
        let icmp = |name, kind, about, source| {
            at(name, mac, IPV6, icmpv6(name, kind, about, source, your6.ip, false))
        };
        let hidden = icmpv6("ra, hidden", ROUTER_ADVERTISEMENT, ip, link, your6.ip, true);
        honest.extend([
            say("ip6", ip),
            say("ip6, link-local", link),
            icmp("solicit", SOLICITATION, your6.ip, ip),
            icmp("solicit, link-local", SOLICITATION, your6.gateway, link),
            icmp("advertise", ADVERTISEMENT, ip, ip),
            icmp("advertise, link-local", ADVERTISEMENT, link, link),
            icmp("duplicate?", SOLICITATION, ip, none),
            icmp("listens", LISTENER_REPORT, none, none),
        ]);
        forged.extend([
            say("ip6 as the gateway", my6.gateway),
            say("ip6 as the other", your6.ip),
            say("ip6 as the other, link-local", link_local(to)),
            say("ip6 as a stranger", PEER6.parse().unwrap()),
            say("ip6 as nobody", none),
            at("ip6, another mac", other, IPV6, ipv6("ip6, another mac", ip, your6.ip)),
            at(
                "duplicate, another mac",
                other,
                IPV6,
                icmpv6("duplicate, another mac", SOLICITATION, ip, none, your6.ip, false),
            ),
            icmp("advertise the gateway", ADVERTISEMENT, my6.gateway, ip),
            icmp("advertise the other", ADVERTISEMENT, your6.ip, link),
            icmp("duplicate of the other", SOLICITATION, your6.ip, none),
            icmp("ra", ROUTER_ADVERTISEMENT, ip, link),
            icmp("redirect", REDIRECT, ip, link),
            at("ra, hidden", mac, IPV6, hidden),
        ]);
    }
    let allowed = honest.iter().map(|frame| frame.name).collect();
    honest.extend(forged);
    (allowed, honest)
}

/// Whether frames between the ports of a bridge go through the hooks of IPv4 and IPv6.
fn set_bridge_netfilter(on: bool) -> bool {
    let keys = ["iptables", "ip6tables", "arptables"];
    keys.iter().all(|key| {
        std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{key}"), if on { "1" } else { "0" })
            .is_ok()
    })
}

#[test]
fn a_container_speaks_as_itself_only() {
    for netfilter in [false, true] {
        alone(move || {
            if !set_bridge_netfilter(netfilter) && netfilter {
                println!("skipped: this kernel has no br_netfilter");
                return;
            }
            let world = World::new();
            let six = world.six();
            let pairs = [
                (world.start("a", &[]), world.start("b", &[])),
                (world.start_on(&six, &wish("c0")), world.start_on(&six, &wish("d0"))),
            ];
            for (from, to) in &pairs {
                let (allowed, all) = speech(from, to);
                assert_eq!(received(from, to, &all), allowed, "bridge netfilter: {netfilter}");
                assert!(
                    run(&format!("bridge fdb show br {}", from.endpoint.bridge))
                        .lines()
                        .all(|line| !line.contains("02:42:00:00:00:99")),
                    "the bridge has learned a forged address"
                );
            }
            let table = &world.store.names().table;
            run(&format!("nft delete table bridge {table}"));
            for (from, to) in &pairs {
                let (allowed, all) = speech(from, to);
                let seen = received(from, to, &all);
                let missing: Vec<_> =
                    all.iter().map(|frame| frame.name).filter(|name| !seen.contains(name)).collect();
                if netfilter {
                    assert!(seen.len() > allowed.len() + 6, "so the test can fail: {missing:?}");
                } else {
                    assert!(missing.is_empty(), "so the test can fail: {missing:?}");
                }
            }
        });
    }
}

/// Without any one of its rules something else arrives, or does not.
#[test]
fn each_rule_of_the_guard_is_needed() {
    alone(|| {
        set_bridge_netfilter(false);
        let world = World::new();
        let six = world.six();
        let (from, to) = (world.start_on(&six, &wish("a0")), world.start_on(&six, &wish("b0")));
        let options = BTreeMap::from([("rbox.guard".into(), "false".into())]);
        let open = world.network(&NewNetwork { name: "open".into(), options, ..NewNetwork::default() });
        let (from_open, to_open) = (world.start_on(&open, &wish("c0")), world.start_on(&open, &wish("d0")));
        let (allowed, all) = speech(&from, &to);
        let live = || [&from, &to, &from_open, &to_open].map(|c| c.endpoint.clone()).to_vec();
        let table = &world.store.names().table;
        let list = run(&format!("nft -a list chain bridge {table} guard"));
        let rules: Vec<_> = list.lines().filter_map(|line| line.split_once(" # handle ")).collect();
        // The chain's own line has a handle too.
        let rules = rules.get(1..).unwrap();
        assert_eq!(rules.len(), 11);
        for (index, (rule, _)) in rules.iter().enumerate() {
            let handles = run(&format!("nft -a list chain bridge {table} guard"));
            let all_handles = handles.lines().filter_map(|line| line.split_once(" # handle "));
            let (_, handle) = all_handles.skip(1).nth(index).unwrap();
            run(&format!("nft delete rule bridge {table} guard handle {handle}"));
            // Only the first rule lets those through that are not guarded.
            if index == 0 {
                let (_, all) = speech(&from_open, &to_open);
                assert!(received(&from_open, &to_open, &all).len() < all.len(), "{rule}");
            } else {
                assert_ne!(received(&from, &to, &all), allowed, "{rule}");
            }
            world.store.ensure(&six, &live).unwrap();
        }
        assert_eq!(received(&from, &to, &all), allowed);
    });
}

#[test]
fn a_network_without_the_guard_lets_all_through() {
    alone(|| {
        set_bridge_netfilter(false);
        let world = World::new();
        let options = BTreeMap::from([("rbox.guard".into(), "false".into())]);
        let network = world.network(&NewNetwork { name: "open".into(), options, ..NewNetwork::default() });
        let (from, to) = (world.start_on(&network, &wish("a0")), world.start_on(&network, &wish("b0")));
        let (_, all) = speech(&from, &to);
        assert_eq!(received(&from, &to, &all).len(), all.len());
    });
}

/// On a kernel without nftables for bridges there is no guard: that is remembered, told, and no reason to make the
/// rules again at each start.
#[test]
fn without_bridge_tables_containers_start_unguarded() {
    alone(|| {
        set_bridge_netfilter(false);
        let world = World::new();
        assert!(!world.store.guard_missing().unwrap());
        let table = world.store.names().table.clone();
        run(&format!("nft delete table bridge {table}"));
        assert!(!world.store.guard_missing().unwrap(), "that is damage");
        // As it is left by a start on such a kernel.
        run(&format!("nft add chain ip {table} unguarded"));
        assert!(world.store.guard_missing().unwrap());
        world.store.ensure(&world.network, &|| panic!("made again without need")).unwrap();
        let (from, to) = (world.start("a", &["8080:80"]), world.start("b", &[]));
        assert!(support::get("127.0.0.1:8080").is_some());
        let (_, all) = speech(&from, &to);
        assert_eq!(received(&from, &to, &all).len(), all.len());
        let next = world.start("c", &["8080:80"]);
        assert!(
            world.table().contains(&format!("8080 : {} . 80", next.endpoint.ip)),
            "replaced all the same"
        );
        for container in [&from, &to, &next] {
            world.store.detach(&container.endpoint).unwrap();
        }
        assert!(!world.table().contains("8080"));
        run(&format!("nft flush chain ip {table} forward"));
        world.store.ensure(&world.network, &Vec::new).unwrap();
        assert!(!world.store.guard_missing().unwrap(), "this kernel has them");
    });
}

/// Also one whose end takes its time, or that lives on.
#[test]
fn a_port_is_never_without_its_guard() {
    alone(|| {
        let world = World::new();
        let table = world.store.names().table.clone();
        let guarded = || run(&format!("nft list set bridge {table} links"));
        for round in 0..4 {
            let container = world.start("a", &["8080:80"]);
            let link = container.endpoint.host_link.clone();
            let (store, endpoint) = (world.store.clone(), container.endpoint.clone());
            let ended = std::thread::spawn(move || {
                let done = if round % 2 == 0 { store.detach(&endpoint) } else { store.disconnect(&endpoint) };
                done.unwrap();
            });
            let mut looked = 0;
            while !ended.is_finished() {
                let list = guarded();
                // What is there now was there then.
                let there = run("ip -br link").contains(&link);
                assert!(!there || list.contains(&link), "{link} without its guard");
                looked += 1;
            }
            ended.join().unwrap();
            assert!(looked > 0 && !guarded().contains(&link));
        }
    });
}

/// What a container said of itself is forgotten with it, and holds for nobody else.
#[test]
fn guests_come_and_go() {
    alone(|| {
        let world = World::new();
        let table = world.store.names().table.clone();
        let set = |name: &str| -> Vec<serde_json::Value> {
            let text = run(&format!("nft -j list set bridge {table} {name}"));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let elements =
                value["nftables"].as_array().unwrap().iter().find_map(|o| o["set"]["elem"].as_array());
            elements.cloned().unwrap_or_default()
        };
        let six = world.six();
        let a = world.start("a", &["8080:80"]);
        let b = world.start_on(&six, &wish("b0"));
        let guest = |c: &Container, ip: &str| serde_json::json!({"concat": [c.endpoint.host_link, c.endpoint.mac.to_string(), ip]});
        let sorted = |mut values: Vec<serde_json::Value>| {
            values.sort_by_key(ToString::to_string);
            values
        };
        let links = [a.endpoint.host_link.clone(), b.endpoint.host_link.clone()];
        assert_eq!(sorted(set("links")), sorted(links.iter().map(|l| l.as_str().into()).collect()));
        let guests = vec![guest(&a, &a.endpoint.ip.to_string()), guest(&b, &b.endpoint.ip.to_string())];
        assert_eq!(sorted(set("guests")), sorted(guests));
        let ip6 = b.endpoint.ip6.unwrap().ip.to_string();
        let guests6 = vec![guest(&b, &ip6), guest(&b, &link_local(&b).to_string()), guest(&b, "::")];
        assert_eq!(sorted(set("guests6")), sorted(guests6));

        // All of it is made again with the tables.
        run("nft flush ruleset");
        let live = || vec![a.endpoint.clone(), b.endpoint.clone()];
        world.store.ensure(&six, &live).unwrap();
        assert_eq!((set("links").len(), set("guests").len(), set("guests6").len()), (2, 2, 3));
        assert!(support::get("127.0.0.1:8080").is_some());
        for container in [&a, &b, &a] {
            world.store.detach(&container.endpoint).unwrap();
        }
        assert_eq!((set("links").len(), set("guests").len(), set("guests6").len()), (0, 0, 0));
    });
}
