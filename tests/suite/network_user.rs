//! Networks of the user's own, as a user gives the commands: what they print, what they refuse, and how a container is
//! put on them when it starts.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BUSYBOX, PYTHON, Test, wait_until};
use crate::network_live::DNS;

/// `network inspect` of one.
fn inspect(t: &Test, name: &str) -> Value {
    let all: Value = serde_json::from_str(&t.ok(["network", "inspect", name])).unwrap();
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
    all[0].clone()
}

/// What `inspect` of a container says of one of its networks.
pub(crate) fn endpoint(t: &Test, container: &str, network: &str) -> Value {
    t.inspect(container)["NetworkSettings"]["Networks"][network].clone()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn create_prints_the_id_and_inspect_tells_what_was_asked_for() {
    let Some(t) = Test::start() else { return };
    let (name, container) = (t.name("lab"), t.name("c"));
    let id = t.ok([
        "network",
        "create",
        "--subnet",
        "10.203.0.0/16",
        "--gateway",
        "10.203.0.9",
        "--ip-range",
        "10.203.7.0/24",
        "--label",
        "kind=lab",
        "--label",
        "empty",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "-o",
        "com.docker.network.bridge.name=rbttest0",
        &name,
    ]);
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    t.sleeper(&container, ["--network", &name]);
    let network = inspect(&t, &id[..12]);
    // As Docker 28 writes it, no key more and none less.
    let wanted = [
        "Attachable",
        "ConfigFrom",
        "ConfigOnly",
        "Containers",
        "Created",
        "Driver",
        "EnableIPv4",
        "EnableIPv6",
        "IPAM",
        "Id",
        "Ingress",
        "Internal",
        "Labels",
        "Name",
        "Options",
        "Scope",
    ];
    assert_eq!(keys(&network), BTreeSet::from(wanted));
    assert_eq!(network["Name"], name.as_str());
    assert_eq!(network["Id"], id.as_str());
    assert_eq!(network["Labels"], json!({"kind": "lab", "empty": ""}));
    assert_eq!(
        network["IPAM"]["Config"],
        json!([{"Subnet": "10.203.0.0/16", "IPRange": "10.203.7.0/24", "Gateway": "10.203.0.9"}])
    );
    assert_eq!(network["Options"]["com.docker.network.driver.mtu"], "1400");
    for (key, value) in [("Driver", "bridge"), ("Scope", "local")] {
        assert_eq!(network[key], value);
    }
    assert_eq!(
        (&network["Internal"], &network["EnableIPv6"], &network["EnableIPv4"]),
        (&json!(false), &json!(false), &json!(true))
    );
    // What is on it, and that it is so: the address of the range, the MTU, the bridge's name, the way out.
    let members = network["Containers"].as_object().unwrap();
    assert_eq!(members.len(), 1, "{network}");
    let member = &members[&t.ok(["inspect", "-f", "{{.Id}}", &container])];
    assert_eq!(
        keys(member),
        BTreeSet::from(["EndpointID", "IPv4Address", "IPv6Address", "MacAddress", "Name"])
    );
    let address = endpoint(&t, &container, &name)["IPAddress"].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.203.7."), "{address}");
    assert_eq!(
        (&member["Name"], &member["IPv4Address"]),
        (&json!(container), &json!(format!("{address}/16")))
    );
    let inside = t.ok(["exec", &container, "sh", "-c", "cat /sys/class/net/eth0/mtu; ip route"]);
    assert!(inside.starts_with("1400\ndefault via 10.203.0.9 dev eth0"), "{inside}");
    assert!(std::path::Path::new("/sys/class/net/rbttest0/bridge").exists());
    assert_eq!(std::fs::read_to_string("/sys/class/net/rbttest0/mtu").unwrap().trim(), "1400");
    t.ok(["rm", "-f", &container]);
    assert_eq!(t.ok(["network", "rm", &name]), name);
    assert!(!std::path::Path::new("/sys/class/net/rbttest0").exists(), "the bridge stays");
}

#[test]
fn ls_filters_and_formats() {
    let Some(t) = Test::start() else { return };
    let (one, two) = (t.name("one"), t.name("two"));
    let id = t.ok(["network", "create", "--label", "tier=front", &one]);
    t.ok(["network", "create", "--internal", &two]);
    let table = t.ok(["network", "ls"]);
    let mut lines = table.lines();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines.next().unwrap()), ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]);
    assert!(lines.any(|l| words(l) == [&id[..12], &one, "bridge", "local"]), "{table}");
    assert!(t.ok(["network", "list", "--no-trunc", "-q"]).lines().any(|l| l == id));
    for (filter, found) in [
        ("type=custom", vec![&one, &two]),
        ("label=tier", vec![&one]),
        ("label=tier=back", vec![]),
        ("dangling=true", vec![&one, &two]),
        (&*format!("name={two}"), vec![&two]),
        (&*format!("id={}", &id[..8]), vec![&one]),
        ("driver=host", vec![]),
    ] {
        let out = t.ok(["network", "ls", "--filter", filter, "--format", "{{.Name}}"]);
        let mut names: Vec<_> = out.lines().filter(|l| *l != "host").collect();
        names.sort_unstable();
        assert_eq!(names, found, "{filter}");
    }
    let json = t.ok(["network", "ls", "--filter", "label=tier", "--format", "json"]);
    let row: Value = serde_json::from_str(&json).unwrap();
    let wanted = ["CreatedAt", "Driver", "ID", "IPv4", "IPv6", "Internal", "Labels", "Name", "Scope"];
    assert_eq!(keys(&row), BTreeSet::from(wanted));
    assert_eq!((&row["Labels"], &row["Internal"]), (&json!("tier=front"), &json!("false")));
    t.rbox(["network", "ls", "--filter", "color=red"]).refused(125, &["color"]);
    t.rbox(["network", "ls", "--filter", "type=wild"]).refused(125, &["wild"]);
}

#[test]
fn rm_and_prune_take_what_nobody_uses() {
    let Some(t) = Test::start() else { return };
    let (used, free, labelled, name) = (t.name("used"), t.name("free"), t.name("labelled"), t.name("c"));
    for network in [&used, &free] {
        t.ok(["network", "create", network]);
    }
    t.ok(["network", "create", "--label", "keep", &labelled]);
    t.sleeper(&name, ["--network", &used]);
    t.rbox(["network", "rm", &used])
        .refused(1, &[&used, "has active endpoints", &format!("name:\"{name}\"")]);
    for builtin in ["bridge", "host", "none"] {
        t.rbox(["network", "rm", builtin])
            .refused(1, &[builtin, "pre-defined network and cannot be removed"]);
    }
    let missing = t.name("missing");
    t.rbox(["network", "rm", &missing]).refused(1, &[&format!("network {missing} not found")]);
    assert_eq!(t.rbox(["network", "rm", "-f", &missing]).code(0).stderr, "");
    // One that fails does not keep the others.
    let out = t.rbox(["network", "rm", &missing, &free]).code(1);
    assert_eq!((out.stdout.trim(), out.stderr.lines().count()), (&*free, 1));
    t.ok(["network", "create", &free]);
    // Nothing is removed without a yes.
    let out = t.cmd(["network", "prune"]).input("n\n").run();
    assert!(out.stdout.contains("all custom networks not used by at least one container"), "{out:?}");
    let out = t.ok(["network", "prune", "-f", "--filter", "label!=keep"]);
    assert_eq!(out.trim(), format!("Deleted Networks:\n{free}"));
    // One whose container is stopped is used still: it could not start again.
    t.ok(["stop", &name]);
    assert_eq!(t.ok(["network", "prune", "--force"]).trim(), format!("Deleted Networks:\n{labelled}"));
    t.ok(["start", &name]);
    t.ok(["rm", "-f", &name]);
    assert_eq!(t.ok(["network", "prune", "-f"]).trim(), format!("Deleted Networks:\n{used}"));
    assert_eq!(t.ok(["network", "prune", "-f"]), "");
}

/// `run` ends when the program did, and what it leaves is cleared a moment later: removing the network waits for that.
#[test]
fn a_network_can_be_removed_as_soon_as_the_last_run_on_it_ended() {
    let Some(t) = Test::start() else { return };
    for n in 0..5 {
        let name = t.name(&format!("n{n}"));
        t.ok(["network", "create", &name]);
        t.ok(["run", "--rm", "--network", &name, BUSYBOX, "true"]);
        assert_eq!(t.ok(["network", "rm", &name]), name);
    }
}

#[test]
fn create_refuses_what_cannot_be() {
    let Some(t) = Test::start() else { return };
    let (name, taken) = (t.name("n"), t.name("taken"));
    t.ok(["network", "create", "--subnet", "10.204.0.0/16", &taken]);
    let before = t.ok(["network", "ls", "-q"]);
    let bad: [(&[&str], &[&str]); 16] = [
        (&[], &["network"]),
        (&["a", "b"], &["b"]),
        (&["a/b"], &["a/b"]),
        (&[""], &["name"]),
        (&["--subnet", "nonsense", &name], &["nonsense"]),
        (&["--subnet", "10.205.0.0/40", &name], &["10.205.0.0/40"]),
        (&["--subnet", "10.205.0.0/31", &name], &["10.205.0.0/31"]),
        (&["--gateway", "10.205.0.1", &name], &["10.205.0.1", "no matching subnet"]),
        (&["--subnet", "10.205.0.0/24", "--gateway", "10.206.0.1", &name], &["10.206.0.1"]),
        (&["--subnet", "10.205.0.0/24", "--ip-range", "10.206.0.0/25", &name], &["10.206.0.0/25"]),
        (&["--aux-address", "x=10.205.0.9", &name], &["no matching subnet for aux-address 10.205.0.9"]),
        (&["--subnet", "10.205.0.0/24", "--aux-address", "x=10.206.0.9", &name], &["10.206.0.9"]),
        (&["--subnet", "10.205.0.0/24", "--aux-address", "x=10.205.0.1", &name], &["the gateway's"]),
        (&["--subnet", "10.205.0.0/24", "--aux-address", "10.205.0.9", &name], &["NAME=IP"]),
        (&["-o", "com.docker.network.driver.mtu=many", &name], &["many"]),
        (&["-d", "overlay", &name], &["overlay"]),
    ];
    for (args, words) in bad {
        t.cmd(["network", "create"]).args(args).run().refused(125, words);
    }
    // These could be, were it not for what is there.
    t.rbox(["network", "create", &taken]).refused(1, &[&format!("network with name {taken} already exists")]);
    let inside = ["network", "create", "--subnet", "10.204.3.0/24", &name];
    t.rbox(inside).refused(1, &["overlaps", &taken]);
    t.rbox(["network", "create", "host"]).refused(125, &["not permitted on predefined host network"]);
    t.rbox(["network", "inspect", &name]).refused(1, &[&name]);
    assert_eq!(t.ok(["network", "ls", "-q"]), before, "a refused one is listed");
}

#[test]
fn run_refuses_networks_that_cannot_be() {
    let Some(t) = Test::start() else { return };
    let (lab, other) = (t.name("lab"), t.name("other"));
    t.ok(["network", "create", "--subnet", "10.206.0.0/24", &lab]);
    t.sleeper(&other, ["--network", &lab, "--ip", "10.206.0.40"]);
    let shared = format!("container:{other}");
    let named = format!("name={lab}");
    let aliased = format!("name={lab},alias=y");
    let bad: [(&[&str], &[&str]); 21] = [
        (
            &["--network", &lab, "--network", "host"],
            &["cannot attach both user-defined and non-user-defined"],
        ),
        (&["--network", &lab, "--network", &named], &[&lab, "multiple times"]),
        (&["--network", &lab, "--network", "no-such"], &["no-such", "not found"]),
        (&["--network", &lab, "--ip", "10.207.0.1"], &["10.207.0.1"]),
        (&["--network", &lab, "--ip", "10.206.0.40"], &["10.206.0.40", "in use"]),
        (&["--network", &lab, "--ip", "10.206.0.1"], &["10.206.0.1"]),
        (&["--network", &lab, "--ip", "one"], &["one"]),
        (&["--network", &lab, "--ip6", "fd00::5"], &["fd00::5"]),
        (&["--network", &lab, "--mac-address", "zz"], &["zz"]),
        (&["--network", &lab, "--mac-address", "01:00:5e:00:00:01"], &["01:00:5e:00:00:01"]),
        (&["--network", &aliased, "--network-alias", "x"], &["conflicting options", "alias"]),
        (&["--network", &format!("{named},color=red")], &["color"]),
        (&["--network", "alias=x"], &["name"]),
        (&["--network", &lab, "--link", "no-such-container"], &["no-such-container"]),
        (&["--network", &lab, "--link", ":x"], &[":x"]),
        (&["--network", &shared, "-p", "80"], &["conflicting options: port publishing"]),
        (&["--network", &shared, "--hostname", "x"], &["conflicting options: hostname"]),
        (&["--network", &shared, "--dns", "192.0.2.1"], &["conflicting options: dns"]),
        (
            &["--network", &shared, "--mac-address", "02:00:00:00:00:01"],
            &["conflicting options", "mac-address"],
        ),
        (&["--network", "container:no-such"], &["no such container: no-such"]),
        (&["--ip", "192.0.2.7"], &["192.0.2.7"]),
    ];
    for (flags, words) in bad {
        t.cmd(["run", "--rm"]).args(flags).args(&[BUSYBOX, "true"]).run().refused(125, words);
    }
    assert_eq!(t.ok(["ps", "-aq"]).lines().count(), 1, "a refused container is there");
}

#[test]
fn addresses_and_names_as_asked_for() {
    let Some(t) = Test::start() else { return };
    let (lab, name) = (t.name("lab"), t.name("c"));
    t.ok(["network", "create", "--subnet", "10.206.1.0/24", "--subnet", "fd00:206:1::/64", "--ipv6", &lab]);
    t.sleeper(
        &name,
        [
            "--network",
            &lab,
            "--ip",
            "10.206.1.77",
            "--ip6",
            "fd00:206:1::77",
            "--mac-address",
            "02:00:5E:10:00:77",
            "--network-alias",
            "first",
            "--network-alias",
            "Second",
            "--hostname",
            "asked",
        ],
    );
    let end = endpoint(&t, &name, &lab);
    for (key, value) in [
        ("IPAddress", "10.206.1.77"),
        ("GlobalIPv6Address", "fd00:206:1::77"),
        ("MacAddress", "02:00:5e:10:00:77"),
        ("Gateway", "10.206.1.1"),
        ("IPv6Gateway", "fd00:206:1::1"),
    ] {
        assert_eq!(end[key], value, "{key}: {end}");
    }
    assert_eq!((&end["IPPrefixLen"], &end["GlobalIPv6PrefixLen"]), (&json!(24), &json!(64)));
    assert_eq!(end["Aliases"], json!(["first", "Second"]));
    assert_eq!(end["IPAMConfig"]["IPv4Address"], "10.206.1.77");
    let inside = t.ok([
        "exec",
        &name,
        "sh",
        "-c",
        "cat /sys/class/net/eth0/address; ip addr show eth0; cat /etc/hosts",
    ]);
    for word in ["02:00:5e:10:00:77", "10.206.1.77/24", "fd00:206:1::77/64", "10.206.1.77\tasked"] {
        assert!(inside.contains(word), "no {word}:\n{inside}");
    }
    // Whoever is on the network finds it by each name, whatever the case; and by both kinds of address.
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    let script = "import socket,sys
for name in sys.argv[1:]:
    print(name, *sorted({i[4][0] for i in socket.getaddrinfo(name, 1, type=socket.SOCK_STREAM)}))
print(socket.gethostbyaddr('10.206.1.77')[0])";
    let names = [&*name, "first", "second", "FIRST", &id[..12], "asked", &format!("first.{lab}")];
    let out =
        t.cmd(["run", "--rm", "--network", &lab, PYTHON, "python3", "-c", script]).args(&names).run().ok();
    let mut lines = out.lines();
    for asked in names {
        assert_eq!(lines.next(), Some(&*format!("{asked} 10.206.1.77 fd00:206:1::77")), "{out}");
    }
    assert_eq!(lines.next(), Some(&*format!("{name}.{lab}")), "the name of the address");
}

#[test]
fn several_networks_from_the_start() {
    let Some(t) = Test::start() else { return };
    let (one, two, name) = (t.name("one"), t.name("two"), t.name("c"));
    for (network, subnet) in [(&one, "10.206.2.0/24"), (&two, "10.206.3.0/24")] {
        t.ok(["network", "create", "--subnet", subnet, network]);
    }
    let second = format!("name={two},ip=10.206.3.50,alias=there,mac-address=02:00:5e:10:00:50");
    t.sleeper(&name, ["--network", &one, "--network-alias", "here", "--network", &second]);
    assert_eq!(endpoint(&t, &name, &two)["IPAddress"], "10.206.3.50");
    let inside = t.ok(["exec", &name, "sh", "-c", "ip -4 -o addr; ip route"]);
    assert!(inside.lines().any(|l| l.contains(" eth0 ") && l.contains("10.206.2.")), "{inside}");
    assert!(inside.lines().any(|l| l.contains(" eth1 ") && l.contains("10.206.3.50/24")), "{inside}");
    assert!(inside.contains("default via 10.206.2.1 dev eth0"), "{inside}");
    // Each network knows its own alias.
    for (network, known, unknown) in [(&one, "here", "there"), (&two, "there", "here")] {
        t.sh_with(["--network", network], &format!("nslookup {known}"));
        let out = t.rbox(["run", "--rm", "--network", network, DNS[0], DNS[1], BUSYBOX, "nslookup", unknown]);
        assert!(out.code != 0 && out.stdout.contains("can't find"), "{unknown} on {network}: {out:?}");
    }
    // The way out goes where it is asked to, and both interfaces are back after a restart.
    let out = format!("name={two},gw-priority=1");
    let routes = t.sh_with(["--network", &one, "--network", &out], "ip route");
    assert!(routes.contains("default via 10.206.3.1 dev eth1"), "{routes}");
    // Where nobody asks, through the first by name, whichever is named first.
    let routes = t.sh_with(["--network", &two, "--network", &one], "ip route");
    assert!(routes.contains("default via 10.206.2.1 dev eth1"), "{routes}");
    t.ok(["restart", &name]);
    wait_until("both addresses are back", || {
        let out = t.rbox(["exec", &name, "ip", "-4", "-o", "addr"]).stdout;
        out.contains(" eth0 ") && out.contains("10.206.3.50/24")
    });
}

#[test]
fn the_network_of_another_container() {
    let Some(t) = Test::start() else { return };
    let (lab, name, guest) = (t.name("lab"), t.name("owner"), t.name("guest"));
    t.ok(["network", "create", &lab]);
    t.sleeper(&name, ["--network", &lab, "--hostname", "owner"]);
    let shared = format!("container:{name}");
    let look = "hostname; ip -4 -o addr; cat /etc/hosts /etc/resolv.conf";
    let out = t.sh_with(["--network", &shared], look);
    assert_eq!(out, t.ok(["exec", &name, "sh", "-c", look]), "they differ");
    assert!(out.starts_with("owner\n") && out.contains("nameserver 127.0.0.11"), "{out}");
    // One listens, the other connects over the loopback they share, and each asks the same name server.
    let serve = ["httpd", "-f", "-p", "127.0.0.1:7000", "-h", "/etc"];
    t.cmd(["run", "-d", "--name", &guest, "--network", &shared, BUSYBOX]).args(&serve).run().ok();
    wait_until("the guest is reached at the owner's loopback", || {
        t.rbox(["exec", &name, "wget", "-qO-", "http://127.0.0.1:7000/hostname"]).stdout == "owner\n"
    });
    t.ok(["exec", &guest, "nslookup", &name]);
    let inspect = t.inspect(&guest);
    assert_eq!(inspect["NetworkSettings"]["Networks"], json!({}), "it has networks of its own");
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    assert_eq!(inspect["HostConfig"]["NetworkMode"], format!("container:{id}"));
    // It cannot start before the other runs.
    t.ok(["rm", "-f", &guest]);
    t.ok(["create", "--name", &guest, "--network", &shared, BUSYBOX, "true"]);
    t.ok(["stop", &name]);
    t.rbox(["start", &guest]).refused(1, &[&id, "cannot join network of a non running container"]);
}

/// A name server of a test's own: it says the same address to every question of type A.
const SAYS: &str = "
import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',53))
while True:
    q,a=s.recvfrom(2048)
    end=q.index(b'\\0',12)+5
    yes=q[end-4:end-2]==b'\\0\\1'
    s.sendto(q[:2]+b'\\x81\\x80\\0\\1\\0'+(b'\\1' if yes else b'\\0')+b'\\0\\0\\0\\0'+q[12:end]+(b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\5\\0\\4\\xcb\\0\\x71\\x09' if yes else b''),a)
";

#[test]
fn questions_about_other_names_go_to_the_name_servers_given() {
    let Some(t) = Test::start() else { return };
    let (lab, server) = (t.name("lab"), t.name("dns"));
    t.ok(["network", "create", "--subnet", "10.206.4.0/24", &lab]);
    let program = ["python3", "-c", SAYS];
    t.cmd([
        "run",
        "-d",
        "--name",
        &server,
        "--network",
        &lab,
        "--ip",
        "10.206.4.53",
        "--network-alias",
        "says",
        PYTHON,
    ])
    .args(&program)
    .run()
    .ok();
    let flags = [
        "--network",
        &lab,
        "--dns",
        "10.206.4.53",
        "--dns-search",
        "example.org",
        "--dns-option",
        "timeout:7",
    ];
    let conf = t.sh_with(flags, "cat /etc/resolv.conf");
    let has = |line: &str| conf.lines().any(|l| l.split_whitespace().eq(line.split_whitespace()));
    assert!(has("nameserver 127.0.0.11") && has("search example.org"), "{conf}");
    assert!(conf.lines().any(|l| l.starts_with("options ") && l.contains("timeout:7")), "{conf}");
    assert!(conf.contains("10.206.4.53"), "the comment does not name the server: {conf}");
    wait_until("a name of the outside is answered", || {
        let ask = t.cmd(["run", "--rm"]).args(&flags).args(&[BUSYBOX, "nslookup", "far.example.net"]).run();
        ask.code == 0 && ask.stdout.contains("203.0.113.9")
    });
    // A neighbour's name is not asked of others: it is tried before the search domain is put behind it.
    let ask = ["getent", "ahostsv4", "says"];
    let out = t.cmd(["run", "--rm"]).args(&flags).args(&[PYTHON]).args(&ask).run().ok();
    assert!(out.contains("10.206.4.53") && !out.contains("203.0.113.9"), "{out}");
    // On the default network, too.
    let conf = t.sh_with(["--dns", "192.0.2.53"], "cat /etc/resolv.conf");
    assert!(conf.contains("nameserver 127.0.0.11") && conf.contains("192.0.2.53"), "{conf}");
}

#[test]
fn what_somebody_else_has_is_given_to_nobody() {
    let Some(t) = Test::start() else { return };
    let name = t.name("lab");
    let aux = ["--aux-address", "printer=10.202.0.2", "--aux-address", "router=10.202.0.3"];
    t.cmd(["network", "create", "--subnet", "10.202.0.0/29"]).args(&aux).args(&[name.as_str()]).run().code(0);
    let ipam = &inspect(&t, &name)["IPAM"]["Config"][0];
    assert_eq!(ipam["AuxiliaryAddresses"], json!({ "printer": "10.202.0.2", "router": "10.202.0.3" }));
    let own = || t.ok(["run", "--rm", "--network", &name, "busybox", "hostname", "-i"]);
    // More often than there are addresses.
    for _ in 0..5 {
        let ip = own();
        assert!(["10.202.0.4", "10.202.0.5", "10.202.0.6"].contains(&ip.as_str()), "{ip}");
    }
    let asked = t.rbox(["run", "--rm", "--network", &name, "--ip", "10.202.0.3", "busybox", "true"]);
    asked.refused(125, &["Address already in use", "auxiliary address \"router\""]);
}

/// Who comes back from `run` finds all free that its container had, though that is given back only after its exit was told.
#[test]
fn what_an_ended_container_had_is_there_for_the_next() {
    let Some(t) = Test::start() else { return };
    let name = t.name("tiny");
    t.ok(["network", "create", "--subnet", "10.203.0.0/30", &name]);
    for _ in 0..10 {
        assert_eq!(t.ok(["run", "--rm", "--network", &name, "busybox", "hostname", "-i"]), "10.203.0.2");
    }
    for _ in 0..10 {
        t.ok([
            "run",
            "--rm",
            "--network",
            &name,
            "--ip",
            "10.203.0.2",
            "-p",
            "127.0.0.1:18203:80",
            "busybox",
            "true",
        ]);
    }
    let holds = t.name("holds");
    t.ok(["run", "-d", "--name", &holds, "--network", &name, "busybox", "sleep", "1000"]);
    let begin = std::time::Instant::now();
    let refused = t.rbox(["run", "--rm", "--network", &name, "busybox", "true"]);
    refused.refused(125, &["has no free address left in 10.203.0.0/30"]);
    assert!(begin.elapsed() < Duration::from_secs(5), "one that runs is not waited for");
    t.ok(["rm", "-f", &holds]);
}

/// `--link-local-ip`, `driver-opt` and what they are called elsewhere: at the start and on a container that runs.
#[test]
fn addresses_names_and_settings_of_a_link() {
    let Some(t) = Test::start() else { return };
    let (name, other, lab) = (t.name("c"), t.name("other"), t.name("lab"));
    t.ok(["network", "create", &lab]);
    let link = |name: &str, of: &str| t.ok(["exec", name, "ip", "-o", "address", "show", "dev", of]);
    let setting = |name: &str, of: &str| {
        t.ok(["exec", name, "cat", &format!("/proc/sys/net/ipv4/conf/{of}/log_martians")])
    };
    let sysctls = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.rp_filter=0";
    let wanted = format!(
        "name={lab},link-local-ip=169.254.7.7,driver-opt=com.docker.network.endpoint.ifname=inner,\"driver-opt={sysctls}\""
    );
    t.sleeper(&name, ["--network", &wanted]);
    let shown = link(&name, "inner");
    assert!(shown.contains("169.254.7.7/16"), "{shown}");
    assert_eq!(setting(&name, "inner"), "1");
    let place = endpoint(&t, &name, &lab);
    assert_eq!(place["IPAMConfig"]["LinkLocalIPs"], serde_json::json!(["169.254.7.7"]));
    assert_eq!(place["DriverOpts"]["com.docker.network.endpoint.ifname"], "inner");
    // Others on the network reach it there, also where a bridge asks the host's rules.
    t.sleeper(&other, ["--cap-add", "NET_RAW", "--network", &lab, "--link-local-ip", "169.254.7.8"]);
    t.ok(["exec", &other, "ping", "-c", "1", "-W", "5", "169.254.7.7"]);
    assert_eq!(t.ok(["system", "check"]), "nothing is stray or damaged");
    // The same by connect, and after a restart.
    let late = t.name("late");
    t.ok(["network", "create", &late]);
    t.ok([
        "network",
        "connect",
        "--link-local-ip",
        "169.254.9.9",
        "--driver-opt",
        "com.docker.network.endpoint.ifname=late0",
        "--driver-opt",
        sysctls,
        &late,
        &name,
    ]);
    for _ in 0..2 {
        assert!(link(&name, "late0").contains("169.254.9.9/16"));
        assert_eq!(setting(&name, "late0"), "1");
        t.ok(["restart", "-t", "0", &name]);
    }
    let again = |flag: &str, said: &[&str]| {
        t.rbox(["run", "--rm", "--network", &format!("name={lab},{flag}"), BUSYBOX, "true"])
            .refused(125, said);
    };
    let option = |key: &str, value: &str| format!("\"driver-opt=com.docker.network.endpoint.{key}={value}\"");
    again("link-local-ip=x", &["x"]);
    again("driver-opt=x", &["driver options"]);
    for bad in ["lo", "", "../x", "a b", "a-name-of-16-char"] {
        again(&option("ifname", bad), &["no name of a link"]);
    }
    for bad in [
        "x",
        "kernel.hostname=x",
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.all.forwarding=1",
        "net.ipv4.conf.../../../kernel.x=1",
    ] {
        again(&option("sysctls", bad), &["not of the form"]);
    }
    again(&option("sysctls", "net.ipv4.conf.IFNAME.nosuch=1"), &["nosuch"]);
    t.rbox([
        "run",
        "--rm",
        "--network",
        &lab,
        "--network",
        &format!("name={late},{}", option("ifname", "eth0")),
        BUSYBOX,
        "true",
    ])
    .refused(125, &["cannot be called eth0"]);
}
