//! Networks under those who are killed at any moment, and under many who come and go at once: nothing leaks, and no address is
//! given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;

use crate::crash::{Random, kill9, rounds};
use crate::harness::{BUSYBOX, PYTHON, Test, wait_until};
use crate::network_live::DNS;
use crate::network_user::endpoint;

/// Starts the command, kills it at a random moment, and waits until it is gone.
fn killed(t: &Test, random: &mut Random, micros: u64, args: &[&str]) {
    let running = t.cmd(args).spawn();
    std::thread::sleep(Duration::from_micros(random.below(micros)));
    kill9(running.id());
    running.finish(Duration::from_secs(20));
}

/// The names that `network ls` tells, of the user's networks.
fn listed(t: &Test) -> BTreeSet<String> {
    let out = t.ok(["network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"]);
    out.lines().map(str::to_owned).collect()
}

#[test]
fn network_create_and_rm_killed() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..rounds() / 2 {
        let name = t.name(&format!("n{round}"));
        killed(&t, &mut random, 12_000, &["network", "create", &name]);
        let made = listed(&t).contains(&name);
        *counts.entry(if made { "create done" } else { "create killed" }).or_default() += 1;
        if !made {
            // Nothing of a half-made one is in the way of the same name.
            t.ok(["network", "create", &name]);
        }
        // It is a whole network: containers start on it and find each other.
        if round % 5 == 0 {
            let other = t.name("o");
            t.ok(["run", "-d", "--name", &other, "--network", &name, BUSYBOX, "sleep", "1000"]);
            t.sh_with(["--network", &name], &format!("nslookup {other}"));
            t.ok(["rm", "-f", &other]);
        }
        killed(&t, &mut random, 12_000, &["network", "rm", &name]);
        let still = listed(&t).contains(&name);
        *counts.entry(if still { "rm killed" } else { "rm done" }).or_default() += 1;
        t.rbox(["network", "rm", "-f", &name]).code(0);
        assert!(!listed(&t).contains(&name));
    }
    println!("{counts:?}");
    t.ok(["network", "reconcile"]);
    t.expect_nothing_left();
}

#[test]
fn connect_and_disconnect_killed() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    let (lab, inner, name, other) = (t.name("lab"), t.name("inner"), t.name("c"), t.name("other"));
    t.ok(["network", "create", &lab]);
    // Without a way out, so that its port comes and goes, too.
    t.ok(["network", "create", "--internal", &inner]);
    t.sleeper(&name, ["--network", &inner, "-p", "127.0.0.1::80"]);
    t.sleeper(&other, ["--network", &lab, DNS[0], DNS[1]]);
    for _ in 0..rounds() / 2 {
        killed(&t, &mut random, 15_000, &["network", "connect", "--alias", "c", &lab, &name]);
        // Half done or not, the next one sets it right: it is connected, or says that it is already.
        let out = t.rbox(["network", "connect", "--alias", "c", &lab, &name]);
        assert!(out.code == 0 || out.stderr.contains("already exists in network"), "{out:?}");
        t.ok(["exec", &other, "nslookup", "c"]);
        let address = endpoint(&t, &name, &lab)["IPAddress"].as_str().unwrap().to_owned();
        let inside = t.ok(["exec", &name, "ip", "-4", "-o", "addr"]);
        assert!(inside.contains(&format!("inet {address}/")), "{address} is not inside:\n{inside}");
        let published = t.ok(["port", &name, "80"]);
        assert!(TcpListener::bind(&published).is_err(), "{published} is not held");
        killed(&t, &mut random, 15_000, &["network", "disconnect", &lab, &name]);
        let out = t.rbox(["network", "disconnect", &lab, &name]);
        assert!(out.code == 0 || out.stderr.contains("is not connected to"), "{out:?}");
        let links = t.ok(["exec", &name, "ls", "/sys/class/net"]);
        assert!(!links.contains("eth1"), "still connected:\n{links}");
        assert_eq!(t.ok(["port", &name]), "");
        wait_until("the port is let go", || TcpListener::bind(&published).is_ok());
        let gone = t.rbox(["exec", &other, "nslookup", "c"]);
        assert!(gone.code != 0, "its name is still there: {gone:?}");
    }
    t.ok(["rm", "-f", &name, &other]);
    t.ok(["network", "rm", &lab, &inner]);
    t.expect_nothing_left();
}

#[test]
fn a_port_that_moves_between_networks_is_not_lost() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    let (lab, name) = (t.name("lab"), t.name("c"));
    t.ok(["network", "create", &lab]);
    t.sleeper(&name, ["-p", "127.0.0.1::80"]);
    let published = t.ok(["port", &name]);
    for _ in 0..rounds() / 2 {
        // The way out, and the port with it, goes there and back.
        killed(&t, &mut random, 20_000, &["network", "connect", "--gw-priority", "1", &lab, &name]);
        let out = t.rbox(["network", "connect", "--gw-priority", "1", &lab, &name]);
        assert!(out.code == 0 || out.stderr.contains("already exists in network"), "{out:?}");
        assert_eq!(t.ok(["port", &name]), published);
        killed(&t, &mut random, 20_000, &["network", "disconnect", &lab, &name]);
        let out = t.rbox(["network", "disconnect", &lab, &name]);
        assert!(out.code == 0 || out.stderr.contains("is not connected to"), "{out:?}");
        assert_eq!(t.ok(["port", &name]), published);
        assert!(TcpListener::bind(published.rsplit(' ').next().unwrap()).is_err(), "not held");
    }
    t.ok(["rm", "-f", &name]);
    t.ok(["network", "rm", &lab]);
    t.expect_nothing_left();
}

#[test]
fn port_add_and_rm_killed() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    let name = t.name("c");
    t.sleeper(&name, []);
    for _ in 0..rounds() / 2 {
        killed(&t, &mut random, 15_000, &["port", "add", &name, "127.0.0.1::80"]);
        // The next one finishes what was begun, one way or the other; what is listed is held.
        t.ok(["port", "add", &name, "127.0.0.1::81"]);
        let listed = t.ok(["port", &name]);
        let addresses: Vec<_> = listed.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert!((1..=2).contains(&addresses.len()), "{listed}");
        assert!(addresses.iter().all(|a| TcpListener::bind(a).is_err()), "one is not held: {listed}");
        killed(&t, &mut random, 15_000, &["port", "rm", &name, "80"]);
        let out = t.rbox(["port", "rm", &name, "80"]);
        assert!(out.code == 0 || out.stderr.contains("no public port"), "{out:?}");
        t.ok(["port", "rm", &name, "81"]);
        assert_eq!(t.ok(["port", &name]), "");
        wait_until("the ports are let go", || addresses.iter().all(|a| TcpListener::bind(a).is_ok()));
    }
    t.ok(["rm", "-f", &name]);
    t.expect_nothing_left();
}

#[test]
fn run_on_two_networks_killed() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    let (one, two) = (t.name("one"), t.name("two"));
    t.ok(["network", "create", &one]);
    t.ok(["network", "create", "--ipv6", &two]);
    for round in 0..rounds() / 2 {
        let name = t.name(&format!("r{round}"));
        let args =
            ["run", "-d", "--name", &name, "--network", &one, "--network", &two, "-p", "127.0.0.1::80"];
        let args = [&args[..], &[BUSYBOX, "sleep", "1000"]].concat();
        killed(&t, &mut random, 50_000, &args);
        // Others are not disturbed by what is left, whatever that is.
        if round % 4 == 0 {
            let routes = t.sh_with(["--network", &two, "--network", &one], "ip -4 -o addr");
            assert!(routes.contains(" eth0 ") && routes.contains(" eth1 "), "{routes}");
        }
        killed(&t, &mut random, 30_000, &["rm", "-f", &name]);
        t.rbox(["rm", "-f", &name]).code(0);
    }
    t.ok(["network", "rm", &one, &two]);
    t.expect_nothing_left();
}

/// Asks for each of the names given, and prints those without an address of their own.
const ALL_NAMES: &str = "
import socket, sys
for word in sys.argv[1:]:
    name, _, ip = word.partition('=')
    try:
        found = socket.gethostbyname(name)
    except OSError as error:
        found = str(error)
    if found != ip:
        print(name, 'is', found, 'and should be', ip)
";

#[test]
fn many_start_at_once() {
    let Some(t) = Test::start() else { return };
    let networks = [t.name("one"), t.name("two")];
    for network in &networks {
        t.ok(["network", "create", network]);
    }
    let names: Vec<_> = (0..40).map(|n| t.name(&format!("c{n}"))).collect();
    for four in names.chunks(4) {
        let started: Vec<_> = four
            .iter()
            .enumerate()
            .map(|(n, name)| {
                // Two on each; half of those on both, as the last of a chunk.
                let network = &networks[n % 2];
                let mut args =
                    vec!["run", "-d", "--name", name, "--network", network, "--network-alias", "shared"];
                if n == 3 {
                    args.extend(["--network", &networks[0]]);
                }
                args.extend([BUSYBOX, "sleep", "1000"]);
                t.cmd(args).spawn()
            })
            .collect();
        for one in started {
            one.finish(Duration::from_mins(1)).ok();
        }
    }
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for network in &networks {
        let mut words = Vec::new();
        let all: Value = serde_json::from_str(&t.ok(["network", "inspect", network])).unwrap();
        let members = all[0]["Containers"].as_object().unwrap();
        assert_eq!(members.len(), if network == &networks[0] { 30 } else { 20 });
        for member in members.values() {
            let address = member["IPv4Address"].as_str().unwrap().split('/').next().unwrap().to_owned();
            let name = member["Name"].as_str().unwrap().to_owned();
            words.push(format!("{name}={address}"));
            if let Some(other) = seen.insert(address.clone(), name.clone()) {
                panic!("{address} is given to {other} and to {name}");
            }
        }
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let asked = ["run", "--rm", "--network", network, PYTHON, "python3", "-c", ALL_NAMES];
        assert_eq!(t.cmd(asked).args(&words).run().ok(), "");
    }
    // All go at once, as they came.
    for four in names.chunks(4) {
        let gone: Vec<_> = four.iter().map(|name| t.cmd(["rm", "-f", name]).spawn()).collect();
        for one in gone {
            one.finish(Duration::from_mins(1)).ok();
        }
    }
    wait_until("no address is in use", || {
        networks.iter().all(|network| {
            let all: Value = serde_json::from_str(&t.ok(["network", "inspect", network])).unwrap();
            all[0]["Containers"].as_object().is_some_and(serde_json::Map::is_empty)
        })
    });
}

/// A rename that was killed had given its container another name on the network, which no record knows.
#[test]
fn names_of_a_killed_rename_go_with_its_container() {
    let Some(t) = Test::start() else { return };
    let (lab, name) = (t.name("lab"), t.name("c"));
    t.ok(["network", "create", &lab]);
    let id = t.sleeper(&name, ["--network", &lab]);
    let address = endpoint(&t, &name, &lab)["IPAddress"].as_str().unwrap().to_owned();
    let networks = t.suite.state.join("network/networks");
    let of_network = std::fs::read_dir(&networks).unwrap().map(|entry| entry.unwrap().path());
    let network = of_network.into_iter().find(|dir| dir.join("addresses").join(&address).exists()).unwrap();
    let file = network.join("addresses").join(&address);
    let links =
        [network.join("names/half").join(&address), network.join("reverse").join(&address).join("half")];
    for link in &links {
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::fs::hard_link(&file, link).unwrap();
    }
    std::fs::create_dir_all(t.suite.state.join("changing")).unwrap();
    std::fs::write(t.suite.state.join("changing").join(&id), "").unwrap();
    t.ok(["rm", "-f", &name]);
    t.ok(["ps"]);
    assert!(!links.iter().any(|link| link.exists()), "{links:?}");
    t.ok(["network", "rm", &lab]);
}

/// Whoever takes a dead container's names away waits for a rename that is just giving it others.
#[test]
fn a_rename_and_the_end_leave_no_name() {
    let Some(t) = Test::start() else { return };
    let (one, two) = (t.name("q1"), t.name("q2"));
    for _ in 0..crate::harness::rounds(20) {
        let id = t.sleeper(&one, []);
        let monitor = monitor_of(&t, &id);
        let script = "for i in 1 2 3 4 5; do \"$RBOX\" rename \"$A\" \"$B\"; \"$RBOX\" rename \"$B\" \"$A\"; done 2> /dev/null";
        let renames = t
            .program("sh", ["-c", script])
            .env("RBOX", crate::harness::binary())
            .env("A", &one)
            .env("B", &two)
            .spawn();
        kill9(monitor);
        t.rbox(["rm", "-f", &id]).code(0);
        renames.finish(Duration::from_mins(1));
        let state = t.suite.state.join("network/networks").join(t.suite.bridge_name());
        for tree in ["names", "reverse"] {
            let left = std::fs::read_dir(state.join(tree)).into_iter().flatten().count();
            assert_eq!(left, 0, "{tree}");
        }
    }
}

fn monitor_of(t: &Test, id: &str) -> i32 {
    let state = std::fs::read(t.suite.state.join("containers").join(id).join("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    i32::try_from(state["monitor"].as_i64().unwrap()).unwrap()
}
