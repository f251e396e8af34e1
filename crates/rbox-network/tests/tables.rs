//! The tables beside the administrator and others: what is kept, what is mended, what is left alone. As root, in
//! namespaces of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use rbox_network::{NewNetwork, Wish};
use serde_json::Value;
use support::{HOST, HOST6, Namespace, PEER, PEER6, World, alone, get, published, run, wish};

const FAMILIES: [&str; 3] = ["ip", "ip6", "bridge"];

/// What `nft -j` says of the ruleset, without handles, which differ each time, and in no order.
fn ruleset() -> BTreeSet<String> {
    let value: Value = serde_json::from_str(&run("nft -j list ruleset")).unwrap();
    let objects = value["nftables"].as_array().unwrap().iter().filter(|object| object["metainfo"].is_null());
    objects
        .map(|object| {
            let mut object = object.clone();
            for kind in ["table", "chain", "rule", "set", "map"] {
                if let Some(fields) = object[kind].as_object_mut() {
                    fields.remove("handle");
                }
                if let Some(elements) = object[kind]["elem"].as_array_mut() {
                    elements.sort_by_key(ToString::to_string);
                }
            }
            object.to_string()
        })
        .collect()
}

/// The rules of a chain, in order.
fn chain(family: &str, table: &str, name: &str) -> Vec<Value> {
    let value: Value =
        serde_json::from_str(&run(&format!("nft -j list chain {family} {table} {name}"))).unwrap();
    let rules = value["nftables"].as_array().unwrap().iter().filter_map(|object| object.get("rule"));
    rules.map(|rule| rule["expr"].clone()).collect()
}

#[test]
fn the_administrators_chain_is_first_and_kept() {
    alone(|| {
        let world = World::new();
        let six = world.six();
        let ports = vec![published("8080:80"), published("[::]:8080:80")];
        let web = world.start_on(&six, &Wish { ports, ..wish(&"web0".repeat(16)) });
        let table = world.store.names().table.clone();
        let live = || vec![web.endpoint.clone()];
        let reached =
            || (world.peer.get(&format!("{HOST}:8080")), world.peer.get(&format!("[{HOST6}]:8080")));
        assert_eq!(reached(), (Some(PEER.into()), Some(PEER6.into())));
        for (family, peer) in [("ip", PEER), ("ip6", PEER6)] {
            assert_eq!(
                chain(family, &table, "forward")[0],
                serde_json::json!([{"jump": {"target": "user"}}])
            );
            assert!(chain(family, &table, "user").is_empty());
            run(&format!("nft add rule {family} {table} user {family} saddr {peer} tcp dport 80 drop"));
        }
        assert_eq!(reached(), (None, None), "a drop there holds for published ports");
        // That is no damage, so nothing is made again.
        world.store.ensure(&six, &|| panic!("made again without need")).unwrap();

        // And when something is, it stays.
        for damage in ["flush chain ip T forward", "flush chain ip6 T forward", "delete table bridge T"] {
            run(&format!("nft {}", damage.replace('T', &table)));
            world.store.ensure(&six, &live).unwrap();
            assert_eq!((chain("ip", &table, "user").len(), chain("ip6", &table, "user").len()), (1, 1));
            assert_eq!(reached(), (None, None));
        }
        world.store.reconcile(&live(), &|_| true).unwrap();
        assert_eq!(chain("ip", &table, "user").len(), 1);
        run(&format!("nft flush chain ip {table} user; nft flush chain ip6 {table} user"));
        assert_eq!(reached(), (Some(PEER.into()), Some(PEER6.into())));
    });
}

#[test]
fn each_damage_is_mended_and_what_is_others_is_left_alone() {
    alone(|| {
        run("nft -f - <<'RULES'
table inet other {
  set bridges { type ifname; elements = { \"dummy0\" } }
  chain guard { type filter hook forward priority 5; policy accept;
    ip saddr 203.0.113.9 drop
  }
}
table bridge others {
  chain guard { type filter hook prerouting priority -300; policy accept; }
}
RULES");
        let others = ruleset();
        let world = World::new();
        let six = world.six();
        let ports = vec![published("8080:80"), published("[::]:8080:80")];
        let web = world.start_on(&six, &Wish { ports, ..wish(&"web0".repeat(16)) });
        let table = world.store.names().table.clone();
        let live = || vec![web.endpoint.clone()];
        let ensure = || world.store.ensure(&six, &live).unwrap();
        let whole = ruleset();
        assert!(others.is_subset(&whole));
        let mut damages: Vec<String> =
            FAMILIES.iter().map(|family| format!("delete table {family} {table}")).collect();
        for family in ["ip", "ip6"] {
            for chain in ["guard", "local", "publish", "publish_local", "leave", "forward"] {
                damages.push(format!("flush chain {family} {table} {chain}"));
            }
            damages.push(format!("flush set {family} {table} bridges"));
            damages.push(format!("flush set {family} {table} subnets"));
            damages.push(format!("insert rule {family} {table} forward accept"));
            damages.push(format!("add rule {family} {table} local drop"));
        }
        damages.push(format!("flush chain bridge {table} guard"));
        for damage in damages {
            run(&format!("nft '{damage}'"));
            assert_ne!(ruleset(), whole, "{damage}");
            ensure();
            assert_eq!(ruleset(), whole, "{damage}");
            world.store.ensure(&six, &|| panic!("{damage}: made again without need")).unwrap();
        }
        run("nft flush ruleset");
        ensure();
        let again: BTreeSet<String> = ruleset();
        // The default network's and the other's are back, with the container and its ports.
        assert_eq!(again, whole.difference(&others).cloned().collect());

        run("nft -f - <<'RULES'
table ip other {
  chain c { counter; }
}
RULES");
        world.store.detach(&web.endpoint).unwrap();
        world.store.remove(&six, &|_| true).unwrap();
        let left = run(&format!("nft list table ip {table}; nft list table ip6 {table}"));
        assert!(!left.contains(&six.bridge) && !left.contains("fd00:172:31::/64"), "{left}");
        assert!(!left.contains(&six.subnet.unwrap().to_string()), "{left}");
        assert!(left.contains(&world.network.bridge));
        world.store.destroy().unwrap();
        let left = run("nft list ruleset");
        assert!(left.contains("table ip other") && !left.contains(&table), "{left}");
    });
}

#[test]
fn an_internal_network_has_no_way_out_or_in() {
    for netfilter in ["0", "1"] {
        alone(move || {
            let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", netfilter);
            let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", netfilter);
            let world = World::new();
            let asked =
                NewNetwork { name: "inner".into(), internal: true, ipv6: true, ..NewNetwork::default() };
            let inner = world.network(&asked);
            let ports = vec![published("9001:9001/udp"), published("[::]:9001:9001/udp")];
            let a = world.start_on(&inner, &wish("a0"));
            let b = world.start_on(&inner, &Wish { ports, ..wish("b0") });
            let open = world.start("open", &["8080:80"]);
            let (six, six_b) = (a.endpoint.ip6.unwrap(), b.endpoint.ip6.unwrap());
            // Its containers have no way out; one may make itself some.
            a.inside.run(&format!(
                "ip route add default via {}; ip -6 route add default via {}",
                a.endpoint.gateway, six.gateway
            ));
            world.peer.run(&format!(
                "ip route add {} via {HOST}; ip -6 route add {} via {HOST6}",
                inner.subnet.unwrap(),
                inner.subnet6.unwrap()
            ));
            world.peer.serve(9000);
            support::serve(7000);
            let forward = || {
                [
                    a.inside.get(&format!("{PEER}:9000")).is_some(),
                    a.inside.get(&format!("[{PEER6}]:9000")).is_some(),
                    a.inside.get(&format!("{}:80", open.endpoint.ip)).is_some(),
                    a.inside.get(&format!("{HOST}:8080")).is_some(),
                ]
            };
            let local = || {
                [
                    a.inside.get(&format!("{HOST}:7000")).is_some(),
                    a.inside.get(&format!("[{HOST6}]:7000")).is_some(),
                    a.inside.get(&format!("{}:7000", open.endpoint.gateway)).is_some(),
                ]
            };
            // One way: not even a packet whose answer would be stopped passes.
            let hears = |at: &Namespace, from: &Namespace, ip: IpAddr| {
                let any = if ip.is_ipv4() { "0.0.0.0" } else { "::" };
                let socket = at.enter(move || UdpSocket::bind((any, 9001)).unwrap());
                socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                from.enter(move || {
                    let socket = UdpSocket::bind((any, 0)).unwrap();
                    socket.send_to(b"x", (ip, 9001)).unwrap();
                });
                socket.recv(&mut [0; 8]).is_ok()
            };
            let one_way = || {
                let [host, host6, peer, peer6] = [HOST, HOST6, PEER, PEER6].map(|ip| ip.parse().unwrap());
                [
                    hears(&world.peer, &a.inside, peer),
                    hears(&world.peer, &a.inside, peer6),
                    hears(&open.inside, &a.inside, open.endpoint.ip.into()),
                    hears(&b.inside, &world.peer, host),
                    hears(&b.inside, &world.peer, host6),
                ]
            };
            assert_eq!(one_way(), [false; 5], "out, and in by a published port");
            assert_eq!(forward(), [false; 4], "out");
            assert_eq!(local(), [false; 3], "the host's other addresses");
            assert_eq!(world.peer.get(&format!("{}:80", a.endpoint.ip)), None, "in");
            assert_eq!(open.inside.get(&format!("{}:80", a.endpoint.ip)), None);
            assert!(a.inside.get(&format!("{}:80", b.endpoint.ip)).is_some(), "each other");
            assert!(a.inside.get(&format!("[{}]:80", six_b.ip)).is_some());
            assert!(
                a.inside.get(&format!("{}:7000", a.endpoint.gateway)).is_some(),
                "the bridge's own address"
            );
            assert!(a.inside.get(&format!("[{}]:7000", six.gateway)).is_some());
            assert!(get(&format!("{}:80", a.endpoint.ip)).is_some(), "the host may");
            let listener = UdpSocket::bind("0.0.0.0:7001").unwrap();
            listener.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let everybody = inner.subnet.unwrap().broadcast();
            a.inside.enter(move || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_broadcast(true).unwrap();
                socket.send_to(b"x", (everybody, 7001)).unwrap();
            });
            assert!(listener.recv_from(&mut [0; 8]).is_ok(), "what is for all on its link");

            let table = &world.store.names().table;
            run(&format!("nft flush set ip {table} internal; nft flush set ip6 {table} internal"));
            assert_eq!((forward(), local()), ([true, true, false, true], [true; 3]), "so the test can fail");
            // A busy machine takes its time.
            assert!((0..10).any(|_| one_way() == [true, true, false, true, true]));
        });
    }
}
