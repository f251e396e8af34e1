//! Networks of containers that run: connected, disconnected, published anew, restored; and what they keep apart.

use std::process::Command;
use std::time::Duration;

use crate::harness::{BUSYBOX, PYTHON, Peer, Test, has, poll, skipped, wait_until};
use crate::network::{ask, server};
use crate::network_user::endpoint;

/// A container's address on a network.
fn ip(t: &Test, container: &str, network: &str) -> String {
    endpoint(t, container, network)["IPAddress"].as_str().unwrap().to_owned()
}

/// Whether `from`, a container of busybox, gets an answer at the address.
fn reaches(t: &Test, from: &str, address: &str, port: u16) -> bool {
    !t.rbox(["exec", from, "nc", "-w", "2", address, &port.to_string()]).stdout.is_empty()
}

/// For a container that asks for names that nobody has: no server of the host's to wait for.
pub(crate) const DNS: [&str; 2] = ["--dns", "127.0.0.1"];

/// Whether `from`, a container of busybox, finds the name.
fn finds(t: &Test, from: &str, name: &str) -> bool {
    t.rbox(["exec", from, "nslookup", name]).code == 0
}

/// The host's port of the first thing published.
fn port(t: &Test, container: &str, inside: &str) -> u16 {
    t.ok(["port", container, inside]).lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn connect_and_disconnect_while_it_runs() {
    let Some(t) = Test::start() else { return };
    let (lab, srv, other) = (t.name("lab"), t.name("srv"), t.name("other"));
    t.ok(["network", "create", "--subnet", "10.207.0.0/24", &lab]);
    server(&t, &srv, 8000, []);
    wait_until("it listens", || ask(&format!("{}:8000", ip(&t, &srv, "bridge"))).is_some());
    t.sleeper(&other, ["--network", &lab, DNS[0], DNS[1]]);
    assert!(!finds(&t, &other, "store"));
    assert_eq!(t.ok(["network", "connect", "--ip", "10.207.0.88", "--alias", "store", &lab, &srv]), "");
    // It is there at once, without a restart, on both of its networks.
    let pid = t.pid(&srv);
    for name in ["store", &srv] {
        assert!(finds(&t, &other, name), "{name}");
        assert!(reaches(&t, &other, name, 8000), "{name}");
    }
    let links = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
    assert!(links.contains("eth0:") && links.contains("eth1:"), "{links}");
    assert!(endpoint(&t, &srv, "bridge")["IPAddress"].as_str().is_some_and(|ip| !ip.is_empty()));
    assert_eq!(ip(&t, &srv, &lab), "10.207.0.88");
    // What it was connected to it comes back to.
    t.ok(["restart", &srv]);
    wait_until("it is back on both", || reaches(&t, &other, "store", 8000));
    assert_eq!(ip(&t, &srv, &lab), "10.207.0.88");
    // And it goes as quickly: link, name, address.
    assert_eq!(t.ok(["network", "disconnect", &lab, &srv]), "");
    assert!(!finds(&t, &other, "store") && !reaches(&t, &other, "10.207.0.88", 8000));
    let links = std::fs::read_to_string(format!("/proc/{}/net/dev", t.pid(&srv))).unwrap();
    assert!(links.contains("eth0:") && !links.contains("eth1:"), "{links}");
    assert!(endpoint(&t, &srv, &lab).is_null());
    t.sh_with(["--network", &lab, "--ip", "10.207.0.88"], "true");
    // From the first network, too; then none is left.
    t.ok(["network", "disconnect", "bridge", &srv]);
    let links = std::fs::read_to_string(format!("/proc/{}/net/dev", t.pid(&srv))).unwrap();
    assert!(!links.contains("eth"), "{links}");
    t.ok(["network", "connect", &lab, &srv]);
    wait_until("it is back", || reaches(&t, &other, &srv, 8000));
}

#[test]
fn connect_with_a_link() {
    let Some(t) = Test::start() else { return };
    let (lab, srv, name) = (t.name("lab"), t.name("srv"), t.name("c"));
    t.ok(["network", "create", "--subnet", "10.207.4.0/24", &lab]);
    t.sleeper(&srv, ["--network", &lab]);
    t.sleeper(&name, DNS);
    let link = format!("{srv}:store");
    t.ok(["network", "connect", "--link", &link, &lab, &name]);
    let hosts = |name: &str| t.ok(["exec", name, "cat", "/etc/hosts"]);
    let wanted = || format!("{}\tstore ", ip(&t, &srv, &lab));
    assert!(finds(&t, &name, "store"));
    assert!(hosts(&name).contains(&wanted()), "{}", hosts(&name));
    // It follows the other one to another address, and outlives this one's restart.
    let before = wanted();
    t.ok(["stop", "-t", "0", &srv]);
    let taker = ["--network", &lab, "--ip", before.split('\t').next().unwrap()];
    t.sleeper(&t.name("taker"), taker);
    t.ok(["start", &srv]);
    assert_ne!(wanted(), before);
    assert!(hosts(&name).contains(&wanted()), "{}", hosts(&name));
    t.ok(["restart", "-t", "0", &name]);
    assert!(finds(&t, &name, "store") && hosts(&name).contains(&wanted()), "{}", hosts(&name));
    let two = t.name("two");
    t.ok(["network", "create", &two]);
    t.rbox(["network", "connect", "--link", "no-such", &two, &name]).refused(1, &["no-such"]);
    t.rbox(["network", "connect", "--link", ":x", &two, &name]).refused(125, &[":x"]);
    assert!(endpoint(&t, &name, &two).is_null());
}

#[test]
fn connect_of_a_stopped_one_counts_from_its_start() {
    let Some(t) = Test::start() else { return };
    let (lab, name) = (t.name("lab"), t.name("c"));
    t.ok(["network", "create", &lab]);
    t.ok(["create", "--name", &name, BUSYBOX, "sleep", "1000"]);
    t.ok(["network", "connect", "--alias", "later", &lab, &name]);
    t.ok(["start", &name]);
    t.sh_with(["--network", &lab], "nslookup later");
    t.ok(["stop", "-t", "0", &name]);
    t.ok(["network", "disconnect", &lab, &name]);
    t.ok(["start", &name]);
    assert!(endpoint(&t, &name, &lab).is_null());
    let out = t.ok(["exec", &name, "ls", "/sys/class/net"]);
    assert!(out.contains("eth0") && !out.contains("eth1"), "{out}");
}

#[test]
fn connect_and_disconnect_refuse() {
    let Some(t) = Test::start() else { return };
    let (lab, other, name, alone) = (t.name("lab"), t.name("other"), t.name("c"), t.name("alone"));
    t.ok(["network", "create", "--subnet", "10.207.1.0/24", &lab]);
    t.ok(["network", "create", "--subnet", "10.207.2.0/24", &other]);
    t.sleeper(&name, ["--network", &lab, "--ip", "10.207.1.9"]);
    t.sleeper(&alone, ["--network", "none"]);
    let exists = format!("endpoint with name {name} already exists in network {lab}");
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (&["connect", &lab, &name], 1, &[&exists]),
        (&["connect", "no-such", &name], 1, &["network no-such not found"]),
        (&["connect", &lab, "no-such"], 1, &["no such container: no-such"]),
        (&["connect", "--ip", "10.207.9.9", &other, &name], 1, &["10.207.9.9"]),
        (&["connect", "--ip", "x", &other, &name], 1, &["\"x\""]),
        (&["connect", "host", &name], 1, &["host"]),
        (&["connect", &other], 125, &["container"]),
        (&["disconnect", &other, &name], 1, &["is not connected to", &other]),
        (&["disconnect", "no-such", &name], 1, &["no-such"]),
    ];
    for (args, code, words) in cases {
        t.cmd(["network"]).args(args).run().refused(code, words);
    }
    // A refused one changed nothing.
    let networks = t.inspect(&name)["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), [&lab]);
    // One without a network of its own kind has nothing to be connected with.
    t.rbox(["network", "connect", &lab, &alone]).refused(1, &["none"]);
}

/// moby#21282.
#[test]
fn ports_are_published_and_taken_back_while_it_runs() {
    let Some(t) = Test::start() else { return };
    let (name, holder) = (t.name("srv"), t.name("holder"));
    server(&t, &name, 8000, []);
    wait_until("it listens", || ask(&format!("{}:8000", ip(&t, &name, "bridge"))).is_some());
    assert_eq!(t.ok(["port", &name]), "");
    let told = t.ok(["port", "add", &name, "127.0.0.1::8000"]);
    let number = port(&t, &name, "8000");
    assert_eq!(told, format!("8000/tcp -> 127.0.0.1:{number}"));
    let address = format!("127.0.0.1:{number}");
    assert!(ask(&address).is_some_and(|a| a.starts_with(&name)), "not published at once");
    // It is held against others, by rbox and by any program.
    t.rbox(["run", "--rm", "-p", &format!("{address}:80"), BUSYBOX, "true"]).refused(125, &[&address, &name]);
    assert!(std::net::TcpListener::bind(&address).is_err(), "any program gets the port");
    t.sleeper(&holder, ["-p", "127.0.0.1::80"]);
    let taken = format!("127.0.0.1:{}:8000", port(&t, &holder, "80"));
    t.rbox(["port", "add", &name, &taken]).refused(1, &["already", &holder]);
    t.rbox(["port", "add", &name, "x:8000"]).refused(125, &["x"]);
    t.rbox(["port", "rm", &name, "99"]).refused(1, &["99"]);
    assert_eq!(t.ok(["port", &name]), format!("8000/tcp -> {address}"), "a refused one is listed");
    // It stays over a restart; a number that nobody asked for is chosen anew, as those of `run -p` are.
    t.ok(["restart", &name]);
    let number = port(&t, &name, "8000");
    let address = format!("127.0.0.1:{number}");
    wait_until("published after a restart", || ask(&address).is_some_and(|a| a.starts_with(&name)));
    t.ok(["port", "rm", &name, &format!("{number}:8000")]);
    assert!(ask(&address).is_none(), "still published");
    std::net::TcpListener::bind(&address).unwrap();
    assert_eq!(t.ok(["port", &name]), "");
    // A container that is stopped takes one for its next start.
    t.ok(["stop", &name]);
    t.ok(["port", "add", &name, &format!("{address}:8000")]);
    t.ok(["start", &name]);
    wait_until("published from its start", || ask(&address).is_some_and(|a| a.starts_with(&name)));
}

/// A port leads in through the network that the way out leads through: where there is none it waits for one.
#[test]
fn a_port_waits_for_a_network_with_a_way_out() {
    let Some(t) = Test::start() else { return };
    let (lab, inner, name) = (t.name("lab"), t.name("inner"), t.name("srv"));
    t.ok(["network", "create", &lab]);
    t.ok(["network", "create", "--internal", &inner]);
    server(&t, &name, 8000, ["--network", &inner, "-p", "127.0.0.1::8000"]);
    assert_eq!(t.ok(["port", &name]), "", "published through an internal network");
    t.ok(["network", "connect", &lab, &name]);
    let number = port(&t, &name, "8000");
    let address = format!("127.0.0.1:{number}");
    wait_until("published at connect", || ask(&address).is_some_and(|a| a.starts_with(&name)));
    assert!(std::net::TcpListener::bind(&address).is_err(), "any program gets the port");
    // Left again it is given up, and the number is anybody's.
    t.ok(["network", "disconnect", &lab, &name]);
    assert_eq!(t.ok(["port", &name]), "");
    assert!(ask(&address).is_none(), "still published");
    // One that cannot be had refuses the connection as a whole.
    t.ok(["rm", "-f", &name]);
    server(&t, &name, 8000, ["--network", &inner, "-p", &format!("{address}:8000")]);
    let other = std::net::TcpListener::bind(&address).unwrap();
    t.rbox(["network", "connect", &lab, &name]).refused(1, &[&address, "already in use"]);
    assert!(endpoint(&t, &name, &lab).is_null());
    drop(other);
    t.ok(["network", "connect", &lab, &name]);
    wait_until("published when it is free", || ask(&address).is_some_and(|a| a.starts_with(&name)));
    // It goes with the container.
    t.ok(["rm", "-f", &name]);
    std::net::TcpListener::bind(&address).unwrap();
}

/// Takes away what rbox has in nftables, as `nft flush ruleset` or a firewall's restart does.
fn delete_tables(t: &Test) {
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
    let tables = String::from_utf8(tables.stdout).unwrap();
    let mut gone = 0;
    for line in tables.lines().filter(|l| l.ends_with(&t.suite.bridge_name())) {
        let words: Vec<_> = line.split_whitespace().collect();
        assert!(
            Command::new("nft").args(["delete", "table", words[1], words[2]]).status().unwrap().success()
        );
        gone += 1;
    }
    assert!(gone > 0, "no table of this suite in\n{tables}");
}

#[test]
fn reconcile_restores_rules_ports_and_isolation() {
    let Some(t) = Test::start() else { return };
    if !has("nft") {
        return skipped("nft is not installed");
    }
    let Some(peer) = Peer::new() else { return };
    let (lab, back, name, inner) = (t.name("lab"), t.name("back"), t.name("srv"), t.name("inner"));
    for network in [&lab, &back] {
        t.ok(["network", "create", network]);
    }
    server(&t, &name, 8000, ["--network", &lab, "-p", "8000"]);
    server(&t, &inner, 8000, ["--network", &back]);
    let (number, inside) = (port(&t, &name, "8000"), ip(&t, &inner, &back));
    let here = Peer::HERE.to_string();
    wait_until("it is published", || peer.reaches(&here, number));
    wait_until("the other one listens", || ask(&format!("{inside}:8000")).is_some());
    assert!(!peer.reaches(&inside, 8000));
    delete_tables(&t);
    assert!(!peer.reaches(&here, number), "still published without the rules");
    assert!(peer.reaches(&inside, 8000), "closed without the rules: this test shows nothing here");
    assert_eq!(t.ok(["network", "reconcile"]), "");
    assert!(peer.reaches(&here, number), "the port is not back");
    assert!(!peer.reaches(&inside, 8000), "the isolation is not back");
    // A container that starts does so for its networks, too.
    delete_tables(&t);
    t.sh_with(["--network", &lab], "true");
    assert!(peer.reaches(&here, number) && !peer.reaches(&inside, 8000), "a start does not restore");
    // So it is with a bridge that somebody took down; reconcile on a whole host changes nothing.
    let bridge = format!("rb-{}", &t.ok(["network", "inspect", "-f", "{{.Id}}", &lab])[..12]);
    assert!(Command::new("ip").args(["link", "set", &bridge, "down"]).status().unwrap().success());
    assert!(!peer.reaches(&here, number));
    t.ok(["network", "reconcile"]);
    t.ok(["network", "reconcile"]);
    wait_until("the bridge is up again", || peer.reaches(&here, number));
}

#[test]
fn networks_do_not_reach_each_other() {
    let Some(t) = Test::start() else { return };
    let (one, two, inner) = (t.name("one"), t.name("two"), t.name("inner"));
    for network in [&one, &two] {
        t.ok(["network", "create", network]);
    }
    t.ok(["network", "create", "--internal", &inner]);
    let networks = [("bridge".to_owned(), "d"), (one, "1"), (two, "2"), (inner.clone(), "i")];
    for (network, letter) in &networks {
        server(&t, &t.name(letter), 8000, ["--network", network]);
        t.sleeper(&t.name(&format!("{letter}-from")), ["--network", network, DNS[0], DNS[1]]);
    }
    let addresses: Vec<_> =
        networks.iter().map(|(network, letter)| ip(&t, &t.name(letter), network)).collect();
    for ((network, letter), own) in networks.iter().zip(&addresses) {
        let from = t.name(&format!("{letter}-from"));
        wait_until("the neighbour answers", || reaches(&t, &from, own, 8000));
        // All of the others at once: none answers, so each takes its time.
        let others: Vec<_> = addresses.iter().filter(|a| *a != own).map(String::as_str).collect();
        let others = others.join(" ");
        let script =
            format!("for a in {others}; do (nc -w 2 $a 8000 </dev/null | grep -q . && echo $a) & done; wait");
        assert_eq!(t.ok(["exec", &from, "sh", "-c", &script]), "", "reached from {network}");
        for (_, other) in networks.iter().filter(|(n, _)| n != network) {
            assert!(!finds(&t, &from, &t.name(other)), "{from} finds {other}");
        }
    }
    // What is published is reached from all but those that have no way out.
    let public = t.name("public");
    server(&t, &public, 8000, ["--network", &networks[1].0, "-p", "8000"]);
    let number = port(&t, &public, "8000");
    for (network, letter) in networks.iter().filter(|(n, _)| *n != inner) {
        let from = t.name(&format!("{letter}-from"));
        let gateway = endpoint(&t, &from, network)["Gateway"].as_str().unwrap().to_owned();
        wait_until("the published port answers", || reaches(&t, &from, &gateway, number));
    }
    let from = t.name("i-from");
    let route = t.ok(["exec", &from, "ip", "route"]);
    assert!(!route.contains("default"), "{route}");
    let gateway = endpoint(&t, &t.name("1-from"), &networks[1].0)["Gateway"].as_str().unwrap().to_owned();
    t.ok(["exec", &from, "true"]);
    assert!(!reaches(&t, &from, &gateway, number));
    // Not even with a route of its own making, through the host.
    let back = t.ok(["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", &inner]);
    let script = format!("ip route add default via {back} && nc -w 2 {gateway} {number}");
    let out =
        t.rbox(["run", "--rm", "--network", &inner, "--cap-add", "NET_ADMIN", BUSYBOX, "sh", "-c", &script]);
    assert_eq!(out.stdout, "", "out of an internal network by a route: {out:?}");
}

/// A server on both families that says who asks.
const SERVER6: &str = "
import socket
s=socket.create_server(('::',8000),family=socket.AF_INET6,dualstack_ipv6=True)
while True:
    c,a=s.accept(); c.sendall(a[0].encode()); c.close()
";

#[test]
fn published_over_ipv6() {
    let Some(t) = Test::start() else { return };
    let Some(peer) = Peer::new() else { return };
    let (six, name, from) = (t.name("six"), t.name("srv"), t.name("from"));
    t.ok(["network", "create", "--ipv6", "--subnet", "fd00:207:3::/64", &six]);
    let program = ["python3", "-c", SERVER6];
    t.cmd(["run", "-d", "--name", &name, "--network", &six, "-p", "8000", PYTHON]).args(&program).run().ok();
    t.sleeper(&from, ["--network", &six]);
    let inside = endpoint(&t, &name, &six)["GlobalIPv6Address"].as_str().unwrap().to_owned();
    let published = t.ok(["port", &name, "8000"]);
    let numbers: Vec<_> = published.lines().map(|l| l.rsplit_once(':').unwrap()).collect();
    assert_eq!(numbers.iter().map(|(host, _)| *host).collect::<Vec<_>>(), ["0.0.0.0", "[::]"], "{published}");
    assert_eq!(numbers[0].1, numbers[1].1, "one number for both: {published}");
    let number: u16 = numbers[0].1.parse().unwrap();
    wait_until("a neighbour reaches it", || reaches(&t, &from, &inside, 8000));
    // The other host by the host's address, and its own is what the program sees; the container's address is not for it.
    let said = |address: &str| {
        let port = number.to_string();
        peer.cmd(&["nc", "-w", "3", address, &port]).run().stdout
    };
    assert_eq!(said(&Peer::HERE6.to_string()), Peer::THERE6.to_string());
    assert_eq!(said(&Peer::HERE.to_string()), format!("::ffff:{}", Peer::THERE));
    assert!(!peer.reaches(&inside, 8000), "another host reaches the container's address");
    // The host at its address and at its loopback; a container of the same network by the host's; the container itself.
    for address in [Peer::HERE6.to_string(), "::1".to_owned()] {
        assert!(ask(&format!("[{address}]:{number}")).is_some(), "the host at {address}");
    }
    let here = Peer::HERE6.to_string();
    assert!(reaches(&t, &from, &here, number), "a neighbour by the host's address");
    let itself =
        format!("import socket;print(socket.create_connection(('{here}',{number}),3).recv(99).decode())");
    t.ok(["exec", &name, "python3", "-c", &itself]);
    // The way out.
    let _server = peer.listen_at(Peer::THERE6.into(), 7788);
    let there = Peer::THERE6.to_string();
    let out = t.rbox(["exec", &from, "nc", "-w", "3", &there, "7788", "-e", "true"]);
    assert_eq!(out.code, 0, "a container has no way out over IPv6: {out:?}");
    // An address of the host's of this kind, where the network has none.
    t.rbox(["run", "--rm", "-p", "[::1]:0:80", BUSYBOX, "true"]).refused(125, &["IPv6", "--ipv6"]);
}

/// Sends frames of its own making to a neighbour: an honest one, and those that lie about who sends them.
const LIES: &str = r"
import socket, struct, sys, time
target, target_mac, gateway, port = sys.argv[1], bytes.fromhex(sys.argv[2].replace(':','')), sys.argv[3], int(sys.argv[4])
own_mac = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':',''))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect((target, port)); own = u.getsockname()[0]
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); raw.bind(('eth0', 0))
def sum16(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
def udp(mac, source, text):
    body = struct.pack('!HHHH', 1234, port, 8 + len(text), 0) + text
    head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target))
    head = head[:10] + struct.pack('!H', sum16(head)) + head[12:]
    raw.send(target_mac + mac + b'\x08\x00' + head + body)
def arp(mac, claimed):
    raw.send(target_mac + mac + b'\x08\x06' + struct.pack('!HHBBH6s4s6s4s', 1, 0x800, 6, 4, 2, mac, socket.inet_aton(claimed), target_mac, socket.inet_aton(target)))
other_mac = b'\x02\x42\x66\x66\x66\x66'
udp(own_mac, '203.0.113.9', b'foreign address')
udp(own_mac, gateway, b'address of the gateway')
udp(other_mac, own, b'foreign mac')
# For longer than a second: so long a neighbour holds fast to what it learned last.
for _ in range(20): arp(own_mac, gateway); time.sleep(0.1)
udp(own_mac, own, b'honest')
";

#[test]
fn neighbours_cannot_pass_for_others() {
    let Some(t) = Test::start() else { return };
    let (lab, victim) = (t.name("lab"), t.name("victim"));
    t.ok(["network", "create", &lab]);
    let program = "import socket,sys
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',4000))
while True: print(s.recvfrom(999)[0].decode(),flush=True)";
    t.ok(["run", "-d", "--name", &victim, "--network", &lab, PYTHON, "python3", "-c", program]);
    let end = endpoint(&t, &victim, &lab);
    let words =
        [&end["IPAddress"], &end["MacAddress"], &end["Gateway"]].map(|v| v.as_str().unwrap().to_owned());
    // The victim knows the gateway: that is the entry a liar would change.
    let meet = format!(
        "import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.sendto(b'x',('{}',9))",
        words[2]
    );
    t.ok(["exec", &victim, "python3", "-c", &meet]);
    let mac = || {
        let table = t.ok(["exec", &victim, "cat", "/proc/net/arp"]);
        let line = table.lines().find(|l| l.starts_with(&format!("{} ", words[2]))).map(str::to_owned);
        line.and_then(|l| l.split_whitespace().nth(3).map(str::to_owned)).filter(|m| m != "00:00:00:00:00:00")
    };
    wait_until("the victim knows the gateway's MAC", || mac().is_some());
    let before = mac();
    let mut args =
        vec!["run", "--rm", "--network", &lab, "--cap-add", "NET_RAW", PYTHON, "python3", "-c", LIES];
    args.extend([&*words[0], &words[1], &words[2], "4000"]);
    t.cmd(args).run().ok();
    let mut seen = String::new();
    let honest = poll(Duration::from_secs(20), || {
        seen = t.ok(["logs", &victim]);
        seen.contains("honest")
    });
    assert!(honest, "the honest frame does not come: {seen}");
    assert_eq!(seen, "honest");
    assert_eq!(mac(), before, "the victim believes a neighbour to be the gateway");
}
