//! The network every container gets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{BUSYBOX, Cmd, PYTHON, Peer, Test, has, patience, poll, skipped, wait_until};

/// A container that answers each TCP connection on `port` with `text`. busybox's nc serves one at a time.
pub(crate) fn server<const N: usize>(t: &Test, name: &str, port: u16, flags: [&str; N]) {
    let mut args = vec!["run", "-d", "--name", name];
    args.extend(flags);
    let program = format!(
        "import socket,signal,sys\nsignal.signal(signal.SIGTERM, lambda *a: sys.exit(0))\ns=socket.create_server(('',{port}))\nwhile True:\n c,a=s.accept(); c.sendall(('{name} '+a[0]+'\\n').encode()); c.close()"
    );
    args.extend([PYTHON, "python3", "-c", &program]);
    t.cmd(args).run().ok();
}

pub(crate) fn ask(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2)).ok()?;
    // Who answers is a program in a container, on an emulated machine perhaps.
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn ip(t: &Test, name: &str) -> String {
    t.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name])
}

#[test]
fn a_container_has_an_address_a_route_and_names() {
    let Some(t) = Test::start() else { return };
    let out = t.sh("ip -4 -o addr; ip route; cat /etc/resolv.conf; cat /etc/hosts");
    assert!(out.contains(" lo ") && out.contains("127.0.0.1/8"), "{out}");
    assert!(out.lines().any(|l| l.contains("eth0") && l.contains("inet ")), "{out}");
    assert!(out.contains("default via "), "{out}");
    assert!(out.contains("nameserver ") && out.contains("localhost"), "{out}");
    let name = t.name("n");
    t.sleeper(&name, []);
    let address = ip(&t, &name);
    assert!(t.ok(["exec", &name, "cat", "/etc/hosts"]).lines().any(|l| l.starts_with(&address)));
}

#[test]
fn containers_reach_each_other_and_the_host() {
    let Some(t) = Test::start() else { return };
    let name = t.name("srv");
    server(&t, &name, 8000, []);
    let address = ip(&t, &name);
    wait_until("it answers the host", || ask(&format!("{address}:8000")).is_some());
    let out = t.sh(&format!("nc -w 3 {address} 8000"));
    assert!(out.starts_with(&name), "{out}");
    // The host, at the gateway's address.
    let gateway = t.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", &name]);
    let listener = TcpListener::bind(format!("{gateway}:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"host\n").unwrap());
    assert_eq!(t.sh(&format!("nc -w 3 {gateway} {port}")), "host");
    thread.join().unwrap();
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let Some(t) = Test::start() else { return };
    let name = t.name("web");
    server(&t, &name, 8000, ["-p", "8000"]);
    let published = t.ok(["port", &name, "8000/tcp"]);
    let port: u16 = published.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    assert!(published.starts_with("0.0.0.0:"), "{published}");
    wait_until("127.0.0.1 answers", || {
        ask(&format!("127.0.0.1:{port}")).is_some_and(|a| a.starts_with(&name))
    });
    let gateway = t.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", &name]);
    // The bridge's address, and one of a link of the host's, from whose other end it is another host that asks.
    let Some(peer) = Peer::new() else { return };
    let here = Peer::HERE.to_string();
    let out = peer.cmd(&["nc", "-w", "3", &here, &port.to_string()]).run().ok();
    assert_eq!(out, format!("{name} {}", Peer::THERE), "another host");
    let addresses = [gateway, here];
    for address in addresses {
        assert!(
            ask(&format!("{address}:{port}")).is_some_and(|a| a.starts_with(&name)),
            "the host at {address}"
        );
        let out = t.sh(&format!("nc -w 3 {address} {port}"));
        assert!(out.starts_with(&name), "another container at {address}: {out}");
        let code = format!(
            "import socket;print(socket.create_connection(('{address}',{port}),3).recv(99).decode())"
        );
        let out = t.ok(["exec", &name, "python3", "-c", &code]);
        assert!(out.starts_with(&name), "the container itself at {address}: {out}");
    }
    t.ok(["rm", "-f", &name]);
    assert!(ask(&format!("127.0.0.1:{port}")).is_none(), "still published after rm");
}

#[test]
fn udp_is_published_too() {
    let Some(t) = Test::start() else { return };
    let name = t.name("udp");
    let program = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.bind(('',5353))\nwhile True:\n d,a=s.recvfrom(99); s.sendto(b'echo '+d,a)";
    t.ok(["run", "-d", "--name", &name, "-p", "127.0.0.1::5353/udp", PYTHON, "python3", "-c", program]);
    let published = t.ok(["port", &name, "5353/udp"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut buffer = [0; 64];
    let answered = poll(Duration::from_secs(15), || {
        let _ = socket.send_to(b"hi", &published);
        socket.recv(&mut buffer).is_ok_and(|n| &buffer[..n] == b"echo hi")
    });
    assert!(answered);
}

/// One SCTP message asked and answered, with Python's sockets of this protocol: `ask HOST PORT [FROM]`, `serve PORT`.
const SCTP: &str = "
import socket, sys
six = ':' in sys.argv[2]
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
if sys.argv[1] == 'serve':
    s.bind(('', int(sys.argv[2]))); s.listen()
    print('listens', flush=True)
    while True:
        c, a = s.accept(); c.sendall(b'sctp for ' + a[0].encode()); c.close()
if len(sys.argv) > 4: s.bind((sys.argv[4], 0))
s.settimeout(10); s.connect((sys.argv[2], int(sys.argv[3]))); print(s.recv(99).decode())
";

#[test]
fn sctp_is_published_too() {
    let Some(t) = Test::start() else { return };
    if Cmd::new("python3", ["-c", "import socket; socket.socket(2, 1, 132)"]).run().code != 0 {
        return skipped("this kernel has no SCTP sockets (the module sctp)");
    }
    let name = t.name("sctp");
    t.cmd(["run", "-d", "--name", &name, "-p", "3868/sctp", PYTHON, "python3", "-c", SCTP, "serve", "3868"])
        .run()
        .ok();
    wait_until("it listens", || t.ok(["logs", &name]) == "listens");
    let published = t.ok(["port", &name, "3868/sctp"]);
    let port = published.lines().next().unwrap().rsplit(':').next().unwrap();
    // The container's own address first: what fails here fails without rbox, too.
    let ask = |args: &[&str]| Cmd::new("python3", ["-c", SCTP, "ask"]).args(args).run();
    assert!(ask(&[&ip(&t, &name), "3868"]).ok().starts_with("sctp for "));
    assert!(ask(&["127.0.0.1", port]).ok().starts_with("sctp for "), "the host at its loopback");
    let gateway = t.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", &name]);
    let from = ["run", "--rm", PYTHON, "python3", "-c", SCTP, "ask"];
    assert!(t.cmd(from).args(&[&gateway, port]).run().ok().starts_with("sctp for "), "a neighbour");
    // Another host is seen with its own address; the container's it cannot reach.
    let Some(peer) = Peer::new() else { return };
    let (here, there, inside) = (Peer::HERE.to_string(), Peer::THERE.to_string(), ip(&t, &name));
    let ask = |to: &str, port: &str| peer.cmd(&["python3", "-c", SCTP, "ask", to, port, &there]).run();
    assert_eq!(ask(&here, port).ok(), format!("sctp for {there}"));
    assert_ne!(ask(&inside, "3868").code, 0, "another host reaches what is not published");
    // Nobody else gets the number, neither a container nor a program; and it is free when the container is gone.
    let spec = format!("{port}:3868/sctp");
    t.rbox(["run", "--rm", "-p", &spec, BUSYBOX, "true"]).refused(125, &["already", &name]);
    let bind = format!("import socket; socket.socket(2, 1, 132).bind(('', {port}))");
    assert_ne!(Cmd::new("python3", ["-c", &bind]).run().code, 0, "any program gets the port");
    t.ok(["rm", "-f", &name]);
    assert_ne!(ask(&here, port).code, 0, "still published after rm");
    Cmd::new("python3", ["-c", &bind]).run().ok();
}

#[test]
fn an_address_given_is_the_only_one_published_on() {
    let Some(t) = Test::start() else { return };
    let name = t.name("lo");
    server(&t, &name, 8000, ["-p", "127.0.0.1::8000"]);
    let port = t.ok(["port", &name, "8000"]).rsplit(':').next().unwrap().to_owned();
    wait_until("127.0.0.1 answers", || ask(&format!("127.0.0.1:{port}")).is_some());
    let gateway = t.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", &name]);
    assert!(ask(&format!("{gateway}:{port}")).is_none());
}

#[test]
fn forms_of_publishing() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/config", t.suite.registry);
    let name = t.name("P");
    t.ok(["run", "-d", "--name", &name, "-P", "--entrypoint", "sleep", &image, "1000"]);
    let out = t.ok(["port", &name]);
    assert!(out.contains("8080/tcp -> 0.0.0.0:") && out.contains("5353/udp -> 0.0.0.0:"), "{out}");
    let range = t.name("range");
    let base = 20_000 + (std::process::id() % 20_000) as u16;
    t.sleeper(&range, ["-p", &format!("127.0.0.1:{base}-{}:90-92", base + 2)]);
    assert_eq!(t.ok(["port", &range, "91"]), format!("127.0.0.1:{}", base + 1));
    for bad in ["x:80", "80:x", "70000:80", "1:2:3:4", "80:80/xyz", ":", "300.1.1.1:80:80", "0:0"] {
        t.rbox(["run", "--rm", "-p", bad, BUSYBOX, "true"]).refused(125, &[]);
    }
}

#[test]
fn a_port_is_given_once() {
    let Some(t) = Test::start() else { return };
    let name = t.name("first");
    t.sleeper(&name, ["-p", "127.0.0.1::80"]);
    let address = t.ok(["port", &name, "80"]);
    let spec = format!("{address}:80");
    t.rbox(["run", "--rm", "-p", &spec, BUSYBOX, "true"]).refused(125, &[&address, "already"]);
    // And one that another process of the host holds.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let spec = format!("{}:80", listener.local_addr().unwrap());
    let me = format!("(pid {})", std::process::id());
    t.rbox(["run", "--rm", "-p", &spec, BUSYBOX, "true"]).refused(125, &["already", &me]);
    drop(listener);
    t.ok(["run", "--rm", "-p", &spec, BUSYBOX, "true"]);
    // Also one that has not begun to listen, which no table of the kernel's shows.
    let bind = "import socket,time\ns=socket.socket(); s.bind(('127.0.0.1',0)); print(s.getsockname()[1],flush=True); time.sleep(1000)";
    let mut bound = Command::new("python3").args(["-c", bind]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(bound.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let out = t.rbox(["run", "--rm", "-p", &format!("{}:80", line.trim()), BUSYBOX, "true"]);
    let _ = (bound.kill(), bound.wait());
    out.refused(125, &["already", &format!("by python3 (pid {})", bound.id())]);
    t.ok(["rm", "-f", &name]);
    t.ok(["run", "--rm", "-p", &format!("{address}:80"), BUSYBOX, "true"]);
}

#[test]
fn none_has_loopback_only_and_host_is_the_hosts() {
    let Some(t) = Test::start() else { return };
    let out = t.sh_with(["--network", "none"], "ls /sys/class/net; ip -4 -o addr; (echo hi | nc -l -p 99 &) ; sleep 0.3; nc -w 2 127.0.0.1 99 </dev/null >/dev/null && echo loopback is up");
    assert!(!out.contains("eth0") && out.contains("loopback is up"), "{out}");
    let links = |text: &str| {
        let mut names: Vec<_> =
            text.split_whitespace().map(str::to_owned).filter(|n| !n.starts_with("rb")).collect();
        names.sort();
        names
    };
    let host = std::fs::read_dir("/sys/class/net")
        .unwrap()
        .flatten()
        .map(|e| e.file_name().into_string().unwrap())
        .collect::<Vec<_>>()
        .join(" ");
    assert_eq!(links(&t.sh_with(["--network", "host"], "ls /sys/class/net")), links(&host));
    t.rbox(["run", "--rm", "--network", "no-such-network", BUSYBOX, "true"])
        .refused(125, &["no-such-network"]);
    t.rbox(["run", "--rm", "--network", "host", "-p", "80", BUSYBOX, "true"]).code(0);
}

#[test]
fn names_and_resolvers_as_given() {
    let Some(t) = Test::start() else { return };
    let out = t.sh_with(
        [
            "--add-host",
            "db:10.1.2.3",
            "--add-host",
            "gw:host-gateway",
            "--dns",
            "192.0.2.53",
            "--dns-search",
            "example.org",
        ],
        "cat /etc/hosts /etc/resolv.conf",
    );
    assert!(out.lines().any(|l| l.split_whitespace().eq(["10.1.2.3", "db"])), "{out}");
    assert!(out.lines().any(|l| l.ends_with("gw") && !l.contains("host-gateway")), "{out}");
    assert!(out.contains("nameserver 127.0.0.11") && out.contains("search example.org"), "{out}");
    assert!(out.contains("# ExtServers: [192.0.2.53]"), "{out}");
    for bad in [
        ["--add-host", "nohost"],
        ["--add-host", "x:notanip"],
        ["--dns", "notanip"],
        ["--dns-search", "a\nnameserver 192.0.2.9"],
        ["--dns-search", "a b"],
        ["--dns-opt", "ndots:1\nnameserver 192.0.2.9"],
    ] {
        t.rbox(["run", "--rm", bad[0], bad[1], BUSYBOX, "true"])
            .refused(125, &[bad[1].split('\n').next().unwrap()]);
    }
}

#[test]
fn rules_come_back_after_a_flush() {
    let Some(t) = Test::start() else { return };
    if !has("nft") {
        return skipped("nft is not installed");
    }
    let name = t.name("kept");
    server(&t, &name, 8000, ["-p", "127.0.0.1::8000"]);
    let address = t.ok(["port", &name, "8000"]);
    wait_until("it answers", || ask(&address).is_some());
    let tables = Command::new("nft").args(["list", "tables"]).output().unwrap();
    let tables = String::from_utf8(tables.stdout).unwrap();
    let mut flushed = false;
    for line in tables.lines().filter(|l| l.contains(&t.suite.bridge_name())) {
        let words: Vec<_> = line.split_whitespace().collect();
        assert!(
            Command::new("nft").args(["delete", "table", words[1], words[2]]).status().unwrap().success()
        );
        flushed = true;
    }
    assert!(flushed, "no table of this suite in\n{tables}");
    assert!(ask(&address).is_none());
    t.sh("echo the next start");
    assert!(ask(&address).is_some_and(|a| a.starts_with(&name)), "the published port is not back");
}

#[test]
fn addresses_are_given_back() {
    let Some(t) = Test::start() else { return };
    let mut seen = std::collections::BTreeSet::new();
    let names: Vec<_> = (0..8).map(|n| t.name(&format!("n{n}"))).collect();
    for name in &names {
        t.sleeper(name, []);
        assert!(seen.insert(ip(&t, name)), "an address is given twice");
    }
    for name in &names {
        t.ok(["rm", "-f", name]);
    }
    t.expect_nothing_left();
}

/// On the way to the host and beyond. (Between neighbours on one bridge a frame passes no table of `ip` unless the host has
/// `br_netfilter`; `NET_RAW` is not among the defaults for that reason.)
#[test]
fn raw_packets_with_a_foreign_source_do_not_reach_the_host() {
    let Some(t) = Test::start() else { return };
    let name = t.name("up");
    t.sleeper(&name, []);
    let gateway = t.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", &name]);
    let socket = UdpSocket::bind((gateway.as_str(), 0)).unwrap();
    socket.set_read_timeout(Some(patience(Duration::from_secs(5)))).unwrap();
    let port = socket.local_addr().unwrap().port();
    let spoof = format!(
        "
import socket,struct
s=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_RAW)
def send(source, text):
    udp=struct.pack('!HHHH',1234,{port},8+len(text),0)+text
    s.sendto(struct.pack('!BBHHHBBH4s4s',0x45,0,20+len(udp),1,0,64,17,0,socket.inet_aton(source),socket.inet_aton('{gateway}'))+udp,('{gateway}',0))
c=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); c.connect(('{gateway}',{port})); own=c.getsockname()[0]
for _ in range(3): send('203.0.113.9',b'spoofed')
send(own,b'raw')
c.send(b'honest')
"
    );
    t.ok(["run", "--rm", "--cap-add", "NET_RAW", PYTHON, "python3", "-c", &spoof]);
    let mut seen = Vec::new();
    let mut buffer = [0; 64];
    while seen.last().is_none_or(|last| last != "honest") {
        let n = socket.recv(&mut buffer).expect("the honest packet");
        seen.push(String::from_utf8_lossy(&buffer[..n]).into_owned());
    }
    assert_eq!(seen, ["raw", "honest"]);
}

#[test]
fn networks_are_listed() {
    let Some(t) = Test::start() else { return };
    let out = t.ok(["network", "ls"]);
    assert_eq!(
        out.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]
    );
    let mut names: Vec<_> =
        t.ok(["network", "ls", "--format", "{{.Name}}"]).lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["bridge", "host", "none"]);
    let all: serde_json::Value = serde_json::from_str(&t.ok(["network", "inspect", "bridge"])).unwrap();
    assert!(all[0]["IPAM"]["Config"][0]["Subnet"].as_str().unwrap().contains('/'), "{all:#}");
}
