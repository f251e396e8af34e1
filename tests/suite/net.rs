//! `rbox net` and `rbox net trace`: what is told is what the kernel does.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{PYTHON, Test, has, patience, skipped, wait_until};

/// Listens at an address, port 8000. Its name would clear a terminal, and end a label of a drawing.
const LISTEN: &str = r#"
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *a: sys.exit(0))
open('/proc/self/comm', 'w').write('s"]|\x1b[2J`#')
s = socket.create_server((sys.argv[1], 8000))
while True:
    c, a = s.accept()
    c.close()
"#;

/// Connects to all of its arguments at once and prints a line for each.
const CONNECT: &str = r"
import socket, sys, threading
def connect(text):
    host, port = text.rsplit(':', 1)
    try:
        socket.create_connection((host, int(port)), float(sys.argv[1])).close()
        print(text + ' reaches\n', end='', flush=True)
    except OSError as error:
        print(text + ' stopped', error, '\n', end='', flush=True)
for text in sys.argv[2:]:
    threading.Thread(target=connect, args=(text,)).start()
";

/// Two networks and an internal one. `web` on the first is published; `lo` there listens on its loopback; `both` is on
/// the first and the internal one; `other` on the second; `db` on the internal one; `lone` on none.
struct World<'a> {
    t: &'a Test,
    /// The containers' names, by what they are for.
    names: BTreeMap<&'static str, String>,
    /// The networks' names.
    networks: [String; 3],
    /// The host's port that leads to `web`.
    port: u16,
}

impl<'a> World<'a> {
    fn new(t: &'a Test) -> Self {
        let networks = ["front", "apart", "back"].map(|name| t.name(name));
        t.ok(["network", "create", &networks[0]]);
        t.ok(["network", "create", &networks[1]]);
        t.ok(["network", "create", "--internal", &networks[2]]);
        let [front, apart, back] = &networks;
        let mut names = BTreeMap::new();
        let alias = t.name("database");
        for (what, at, flags) in [
            ("web", "0.0.0.0", vec!["--network", front, "-p", "8000"]),
            ("lo", "127.0.0.1", vec!["--network", front]),
            ("both", "0.0.0.0", vec!["--network", front, "--network", back]),
            ("other", "0.0.0.0", vec!["--network", apart]),
            ("db", "0.0.0.0", vec!["--network", back, "--network-alias", &alias]),
            ("lone", "0.0.0.0", vec!["--network", "none"]),
        ] {
            let name = t.name(what);
            // What is not ours is refused at once, and not after the patience of a name server.
            let mut args = vec!["run", "-d", "--name", &name, "--dns", "127.0.0.1"];
            args.extend(flags);
            args.extend([PYTHON, "python3", "-c", LISTEN, at]);
            t.cmd(args).run().ok();
            names.insert(what, name);
        }
        for name in names.values() {
            let sockets = format!("/proc/{}/net/tcp", t.pid(name));
            wait_until("it listens", || {
                std::fs::read_to_string(&sockets).unwrap_or_default().contains(":1F40 ")
            });
        }
        let published = t.ok(["port", &names["web"], "8000"]);
        let port = published.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        Self { t, names, networks, port }
    }

    fn ip(&self, container: &str, network: usize) -> String {
        let all = self.t.inspect(&self.names[container]);
        let ip = &all["NetworkSettings"]["Networks"][&self.networks[network]]["IPAddress"];
        ip.as_str().filter(|ip| !ip.is_empty()).unwrap_or_else(|| panic!("{container}: {all:#}")).to_owned()
    }

    fn gateway(&self, container: &str, network: usize) -> String {
        let all = self.t.inspect(&self.names[container]);
        all["NetworkSettings"]["Networks"][&self.networks[network]]["Gateway"].as_str().unwrap().to_owned()
    }

    /// Every name, address and published port there is.
    fn destinations(&self) -> Vec<String> {
        let mut all: Vec<String> = self.names.values().map(|name| format!("{name}:8000")).collect();
        all.push(format!("{}:8000", self.t.name("database")));
        for (container, network) in [("web", 0), ("lo", 0), ("both", 0), ("both", 2), ("other", 1), ("db", 2)]
        {
            all.push(format!("{}:8000", self.ip(container, network)));
        }
        let (port, web) = (self.port, self.gateway("web", 0));
        for host in ["127.0.0.1".to_owned(), web.clone(), self.gateway("other", 1), self.gateway("db", 2)] {
            all.push(format!("{host}:{port}"));
        }
        // Nobody has this one, and nobody listens there.
        all.push(web.rsplit_once('.').map(|(net, _)| format!("{net}.250:8000")).unwrap());
        all.push(format!("{web}:1"));
        all.push("localhost:8000".into());
        all
    }

    /// What a trace says; its exit code must say the same.
    fn trace(&self, from: &str, to: &str) -> Value {
        let out = self.t.rbox(["net", "trace", "--format", "json", from, to]);
        assert!(out.code < 2, "{from} {to}: {out:?}");
        let value: Value = serde_json::from_str(&out.stdout).unwrap();
        assert_eq!(value["Reaches"], out.code == 0, "{from} {to}: {out:?}");
        value
    }

    #[track_caller]
    fn agree(&self, from: &str, to: &str, reaches: bool, really: &str) {
        let told = self.trace(from, to);
        assert_eq!(told["Reaches"], reaches, "{from} {to}: really {really}, and told {told:#}");
        let step = told["Steps"].as_array().unwrap().last().unwrap();
        assert_eq!(step["Verdict"] == "stopped", !reaches, "{from} {to}: {told:#}");
    }
}

#[test]
fn the_trace_and_the_kernel_agree_on_all_pairs() {
    let Some(t) = Test::start() else { return };
    let world = World::new(&t);
    let destinations = world.destinations();
    // Each container waits as long for what is dropped: an emulated machine needs more time, but not as much more.
    let limit = patience(Duration::from_millis(500)).max(Duration::from_secs(3)).as_secs_f32().to_string();
    let mut counts = [0, 0];
    for from in world.names.values() {
        let mut args = vec!["exec", from, "python3", "-c", CONNECT, &limit];
        args.extend(destinations.iter().map(String::as_str));
        let out = t.cmd(args).run().ok();
        let really: BTreeMap<&str, &str> = out.lines().filter_map(|line| line.split_once(' ')).collect();
        for to in &destinations {
            let how = really.get(to.as_str()).unwrap_or_else(|| panic!("{from} {to}: {out}"));
            let reaches = how.starts_with("reaches");
            world.agree(from, to, reaches, how);
            counts[usize::from(reaches)] += 1;
        }
    }
    for to in destinations.iter().filter(|to| to.starts_with(|c: char| c.is_ascii_digit())) {
        let result = TcpStream::connect_timeout(&to.parse().unwrap(), patience(Duration::from_secs(3)));
        world.agree("host", to, result.is_ok(), &format!("{result:?}"));
        counts[usize::from(result.is_ok())] += 1;
    }
    println!("{} reach, {} are stopped", counts[1], counts[0]);
    assert!(counts[0] > 20 && counts[1] > 20, "a world in which both happens");
}

#[test]
fn from_another_host_on_the_link_only_what_is_published() {
    let Some(t) = Test::start() else { return };
    if !has("ip") {
        return skipped("ip is not installed");
    }
    let world = World::new(&t);
    let outside = Outside::new();
    let published = format!("198.51.100.1:{}", world.port);
    let direct = format!("{}:8000", world.ip("web", 0));
    let internal = format!("{}:8000", world.ip("db", 2));
    for (to, reaches) in
        [(published.as_str(), true), ("198.51.100.1:1", false), (&direct, false), (&internal, false)]
    {
        assert_eq!(outside.connects(to), reaches, "{to}");
        world.agree("outside", to, reaches, "as is said here");
    }
    let told = world.trace("outside", &direct);
    assert_eq!(told["Steps"].as_array().unwrap().last().unwrap()["Rule"]["Chain"], "guard", "{told:#}");
    assert!(told["Stopped"]["Advice"].as_str().unwrap().contains(&world.port.to_string()), "{told:#}");
}

/// A network namespace on a cable to this host, which has 198.51.100.1 there.
struct Outside(String);

impl Outside {
    fn new() -> Self {
        let name = format!("rbt{}", std::process::id());
        let outside = Self(name.clone());
        let ip = |args: &str| {
            let done = Command::new("ip").args(args.split(' ')).status().unwrap();
            assert!(done.success(), "ip {args}");
        };
        ip(&format!("netns add {name}"));
        ip(&format!("link add {name} type veth peer name up0 netns {name}"));
        ip(&format!("addr add 198.51.100.1/30 dev {name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} addr add 198.51.100.2/30 dev up0"));
        ip(&format!("-n {name} link set up0 up"));
        ip(&format!("-n {name} route add default via 198.51.100.1"));
        outside
    }

    fn connects(&self, to: &str) -> bool {
        let (host, port) = to.rsplit_once(':').unwrap();
        let limit = patience(Duration::from_secs(3)).as_secs_f32();
        let code = format!("import socket; socket.create_connection(('{host}', {port}), {limit})");
        let out =
            Command::new("ip").args(["netns", "exec", &self.0, "python3", "-c", &code]).output().unwrap();
        out.status.success()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The cable goes with it.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
        let _ =
            Command::new("ip").args(["link", "del", &self.0]).stderr(std::process::Stdio::null()).status();
    }
}

#[test]
fn a_trace_names_the_rule_and_what_to_do() {
    let Some(t) = Test::start() else { return };
    let world = World::new(&t);
    let name = |what| world.names[what].as_str();
    let told = |from: &str, to: &str, words: &[&str]| {
        let out = t.rbox(["net", "trace", from, to]);
        for word in words {
            assert!(out.stdout.contains(word), "{from} {to}: no {word:?} in\n{}", out.stdout);
        }
        let last = out.stdout.lines().last().unwrap();
        assert!(
            last.starts_with(if out.code == 0 { "=> reaches " } else { "=> stopped by " }),
            "{}",
            out.stdout
        );
    };
    let (web, both) = (format!("{}:8000", name("web")), format!("{}:8000", name("both")));
    let connect = format!("rbox network connect {} {}", world.networks[0], name("other"));
    told(name("other"), &web, &["stopped  name ", "NXDOMAIN", &connect]);
    let direct = format!("{}:8000", world.ip("web", 0));
    told(name("other"), &direct, &["stopped  forward ", "chain forward: oifname @bridges drop", &connect]);
    let host = format!("host:{}", world.port);
    told(name("db"), &host, &["ok       publish ", "chain forward: iifname @internal drop"]);
    told(name("lone"), &direct, &["stopped  route ", "network unreachable"]);
    told(name("web"), &format!("{}:8000", name("lo")), &["stopped  listener ", "127.0.0.1 only"]);
    let port = format!("localhost:{}", world.port);
    told(
        "host",
        &port,
        &["chain publish_local", "chain leave: oifname @bridges ip saddr 127.0.0.0/8 masquerade"],
    );

    t.ok(["pause", name("web")]);
    told(name("both"), &web, &["depends  paused ", "rbox unpause"]);
    told(name("web"), &both, &["stopped  source ", "rbox unpause"]);
    t.ok(["unpause", name("web")]);
    t.ok(["stop", "-t", "0", name("both")]);
    told(name("both"), &web, &["stopped  source ", "rbox start"]);
    told(name("web"), &both, &["stopped  name ", "rbox start"]);
    told("host", &both, &["stopped  name ", "rbox start"]);

    let out = t.rbox(["net", "trace", "--probe", "host", &port]);
    assert!(out.code == 0 && out.stdout.contains("ok       probe       connected in "), "{out:?}");
    let out = t.rbox(["net", "trace", "--probe", "--format", "json", name("other"), &direct]).code(1);
    let value: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(
        (&value["Probe"]["Connected"], &value["Probe"]["Agrees"]),
        (&false.into(), &true.into()),
        "{value:#}"
    );
}

#[test]
fn missing_rules_and_the_administrators_are_told() {
    let Some(t) = Test::start() else { return };
    if !has("nft") {
        return skipped("nft is not installed");
    }
    let world = World::new(&t);
    let table = t.suite.bridge_name();
    let nft = |args: &str| {
        let done = Command::new("nft").args(args.split(' ')).status().unwrap();
        assert!(done.success(), "nft {args}");
    };
    let to = format!("localhost:{}", world.port);
    let from = world.names["other"].clone();
    let host = format!("host:{}", world.port);
    nft(&format!("add rule ip {table} user tcp dport 9999 drop"));
    let told = world.trace(&from, &host);
    assert!(told["IfOnly"][0].as_str().unwrap().contains(&format!("user of table ip {table}")), "{told:#}");
    nft(&format!("flush chain ip {table} user"));
    assert_eq!(world.trace(&from, &host)["IfOnly"], serde_json::json!([]));

    nft(&format!("delete table ip {table}"));
    let told = world.trace("host", &to);
    assert_eq!(told["Stopped"]["Advice"], "rbox network reconcile", "{told:#}");
    assert!(t.ok(["net"]).contains("rbox network reconcile"));
    t.ok(["network", "reconcile"]);
    assert_eq!(world.trace("host", &to)["Reaches"], true);
}

#[test]
fn the_drawing_in_three_forms() {
    let Some(t) = Test::start() else { return };
    let world = World::new(&t);
    let [front, _, back] = &world.networks;
    let (web, both) = (&world.names["web"], &world.names["both"]);
    let all = t.ok(["net"]);
    for name in world.names.values().chain(&world.networks) {
        assert!(all.contains(name.as_str()), "{name} is not in\n{all}");
    }
    assert!(
        all.contains(&format!("0.0.0.0:{} -> 8000/tcp", world.port)) && all.contains("internal"),
        "{all}"
    );
    let one = t.ok(["net", web]);
    let pid = t.pid(web).to_string();
    for word in [
        "outside",
        "nftables: tables ip",
        front,
        &world.ip("web", 0),
        &pid,
        "network namespace",
        "listens at 0.0.0.0:8000/tcp",
        "name server 127.0.0.11",
        "for all else asks 127.0.0.1",
    ] {
        assert!(one.contains(word), "no {word} in\n{one}");
    }
    assert!(
        !one.contains(&world.names["other"]) && one.contains(r"\x1b[2J") && !one.contains('\u{1b}'),
        "{one}"
    );
    let of_network = t.ok(["net", back]);
    let other = world.names["other"].as_str();
    assert!(of_network.contains(both.as_str()) && !of_network.contains(other), "{of_network}");

    let json: Value = serde_json::from_str(&t.ok(["net", "--format", "json", both])).unwrap();
    let networks: Vec<&str> =
        json["Networks"].as_array().unwrap().iter().map(|n| n["Name"].as_str().unwrap()).collect();
    assert_eq!(networks, [front, back]);
    let container = &json["Networks"][1]["Containers"][0];
    assert_eq!(
        (container["Name"].as_str(), container["Place"]["Link"].as_str()),
        (Some(both.as_str()), Some("eth1"))
    );
    assert_eq!(container["Dns"]["Server"], "127.0.0.11");
    assert_eq!(json["Networks"][1]["Internal"], true);

    for name in [None, Some(web), Some(back)] {
        let args = ["net", "--format", "mermaid"].into_iter().chain(name.map(String::as_str));
        let chart = t.cmd(args).run().ok();
        check_mermaid(&chart);
        assert!(chart.contains("<br/>"), "{chart}");
    }
}

/// A flowchart of nodes and edges, one a line; each edge is between nodes that are there.
fn check_mermaid(chart: &str) {
    let is_id = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_label = |text: &str| {
        let inside = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        inside.is_some_and(|text| {
            let plain = text.replace("<br/>", " ");
            !plain.chars().any(|c| "\"<>`[]{}|\\".contains(c) || c.is_control())
                && plain.split('#').skip(1).all(|rest| {
                    rest.split_once(';')
                        .is_some_and(|(n, _)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
                })
        })
    };
    let mut lines = chart.lines();
    assert_eq!(lines.next(), Some("flowchart LR"));
    let mut nodes = Vec::new();
    let mut edges = Vec::new();
    for line in lines {
        let words = line.strip_prefix("  ").unwrap_or_else(|| panic!("{line}"));
        if let Some((id, label)) = words.strip_suffix(']').and_then(|words| words.split_once('[')) {
            assert!(is_id(id) && is_label(label), "{line}");
            nodes.push(id.to_owned());
            continue;
        }
        let (from, rest) = words.split_once(' ').unwrap();
        let (middle, to) = rest.rsplit_once(' ').unwrap();
        let arrow = match middle.split_once('|') {
            Some((arrow, label)) => {
                assert!(label.strip_suffix('|').is_some_and(is_label), "{line}");
                arrow
            }
            None => middle,
        };
        assert!(["---", "-->", "-.-", "-.->"].contains(&arrow), "{line}");
        edges.extend([from.to_owned(), to.to_owned()]);
    }
    let mut once = nodes.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), nodes.len(), "a node twice:\n{chart}");
    assert!(edges.iter().all(|id| nodes.contains(id)), "an edge to no node:\n{chart}");
}

#[test]
fn what_cannot_be_understood() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    t.sleeper(&name, []);
    for to in ["x", ":80", "x:", "x:0", "x:99999", "x:80-90", "x:80/xyz", "fd00::1:80", "[fd00::1:80"] {
        t.rbox(["net", "trace", &name, to]).refused(125, &["DST:PORT"]);
    }
    t.rbox(["net", "trace", "no-such-container", "x:80"]).refused(125, &["no-such-container"]);
    t.rbox(["net", "trace", &name]).refused(125, &["--help"]);
    t.rbox(["net", "trace", "--probe", "outside", "host:80"]).refused(125, &["--probe"]);
    t.rbox(["net", "trace", "--probe", &name, "host:80/udp"]).refused(125, &["--probe"]);
    t.rbox(["net", "trace", "--format", "mermaid", &name, "host:80"]).refused(125, &["mermaid"]);
    t.rbox(["net", "--format", "svg"]).refused(125, &["svg"]);
    t.rbox(["net", "no-such-thing"]).refused(1, &["no-such-thing"]);
}
