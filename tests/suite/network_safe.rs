//! What a network must not take from the host, and a container not from its neighbours.

use crate::harness::{BUSYBOX, Cmd, OwnRoots, PYTHON, Test, has, skipped};

static MADE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// A link of the host with an address, gone when dropped.
struct Link(String);

impl Link {
    fn new(addresses: &[&str]) -> Option<Self> {
        if !has("ip") {
            skipped("ip is not installed");
            return None;
        }
        let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let link = Self(format!("rbtl{}{number}", std::process::id()));
        Cmd::new("ip", ["link", "add", &link.0, "type", "veth", "peer", "name", &format!("{}p", link.0)])
            .run()
            .ok();
        Cmd::new("ip", ["link", "set", &link.0, "up"]).run().ok();
        for address in addresses {
            Cmd::new("ip", ["address", "add", address, "dev", &link.0]).run().ok();
        }
        Some(link)
    }

    fn route(&self, to: &str) {
        Cmd::new("ip", ["route", "add", to, "dev", &self.0]).run().ok();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["link", "delete", &self.0]).status();
    }
}

#[test]
fn subnets_that_the_host_uses_are_refused() {
    let Some(t) = Test::start() else { return };
    let Some(link) = Link::new(&["10.77.0.9/16", "fd77::9/64"]) else { return };
    link.route("10.78.0.0/16");
    // More than one network: a VPN's.
    link.route("10.0.0.0/8");
    let name = t.name("lab");
    for subnet in
        ["10.77.0.0/16", "10.77.128.0/24", "10.77.0.0/30", "10.76.0.0/15", "10.78.0.0/16", "10.78.3.0/24"]
    {
        t.rbox(["network", "create", "--subnet", subnet, &name])
            .refused(1, &["overlaps", &link.0, "rbox.overlap=true"]);
    }
    let six = ["network", "create", "--ipv6", "--subnet", "fd77::/80", "--subnet", "10.79.0.0/24", &name];
    t.rbox(six).refused(1, &["fd77::/80 overlaps fd77::/64", &link.0]);
    // What only the VPN's route leads to may be had; so may all the rest by who asks for it.
    for args in
        [&["--subnet", "10.79.0.0/24"][..], &["--subnet", "10.77.128.0/24", "-o", "rbox.overlap=true"]]
    {
        t.cmd([&["network", "create"], args, &[&name]].concat()).run().ok();
        t.ok(["run", "--rm", "--network", &name, BUSYBOX, "true"]);
        t.ok(["network", "rm", &name]);
    }
    // One that was there first, when the host comes onto a link with its subnet: the host's link counts.
    t.ok(["network", "create", "--subnet", "10.81.0.0/24", &name]);
    let bridge = format!("rb-{}", t.ok(["network", "inspect", "-f", "{{slice .Id 0 12}}", &name]));
    Cmd::new("ip", ["link", "delete", &bridge]).run().ok();
    Cmd::new("ip", ["address", "add", "10.81.0.7/16", "dev", &link.0]).run().ok();
    t.rbox(["run", "--rm", "--network", &name, BUSYBOX, "true"])
        .refused(125, &["10.81.0.0/24 overlaps 10.81.0.0/16", &link.0]);
    Cmd::new("ip", ["address", "del", "10.81.0.7/16", "dev", &link.0]).run().ok();
    t.ok(["run", "--rm", "--network", &name, BUSYBOX, "true"]);
}

/// The default network has no options: what helps is another one, or another subnet.
#[test]
fn a_host_that_moves_onto_the_default_subnet() {
    let Some(t) = Test::start() else { return };
    let Some(link) = Link::new(&[]) else { return };
    let own = OwnRoots::new(&t, "roots", &t.suite.registry);
    own.run(&["run", "--rm", BUSYBOX, "true"]).ok();
    let of = |format: &str| own.run(&["network", "inspect", "-f", format, "bridge"]).ok();
    let bridge = of("{{index .Options \"com.docker.network.bridge.name\"}}");
    let router = of("{{(index .IPAM.Config 0).Gateway}}");
    // As after a reboot.
    Cmd::new("ip", ["link", "delete", &bridge]).run().ok();
    let address = format!("{}.7/16", router.rsplit_once('.').unwrap().0);
    Cmd::new("ip", ["address", "add", &address, "dev", &link.0]).run().ok();
    let file = format!("network/networks/{bridge}.json");
    let refused = own.run(&["run", "--rm", BUSYBOX, "true"]);
    assert!(!refused.stderr.contains("rbox.overlap"), "{refused:?}");
    refused.refused(125, &["overlaps", &link.0, "--network NAME", &file]);
    own.run(&["network", "create", "--subnet", "10.94.0.0/24", "other"]).ok();
    own.run(&["run", "--rm", "--network", "other", BUSYBOX, "true"]).ok();
    own.run(&["network", "rm", "other"]).ok();
    std::fs::remove_file(own.root.join(file)).unwrap();
    own.run(&["run", "--rm", BUSYBOX, "true"]).ok();
    assert_ne!(of("{{(index .IPAM.Config 0).Gateway}}"), router);
}

#[test]
fn where_all_private_ranges_are_routed() {
    let Some(t) = Test::start() else { return };
    let Some(link) = Link::new(&[]) else { return };
    for range in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] {
        link.route(range);
    }
    // Another pair of roots, which has no default network yet.
    let own = OwnRoots::new(&t, "roots", &t.suite.registry);
    let names = own.run(&["network", "ls", "--format", "{{.Name}}"]).ok();
    assert_eq!(names, "bridge\nhost\nnone");
    assert_eq!(own.run(&["network", "inspect", "-f", "{{len .IPAM.Config}}", "bridge"]).ok(), "0");
    for args in
        [&["ps", "-a"][..], &["net"], &["info"], &["network", "reconcile"], &["network", "prune", "-f"]]
    {
        own.run(args).ok();
    }
    own.run(&["network", "create", "any"]).refused(1, &["no private subnet is free", "--subnet"]);
    own.run(&["network", "create", "--subnet", "172.20.0.0/24", "lab"]).ok();
    own.run(&["run", "--rm", "--network", "lab", BUSYBOX, "true"]).ok();
    own.run(&["run", "--rm", "--network", "none", BUSYBOX, "true"]).ok();
    own.run(&["run", "--rm", BUSYBOX, "true"]).refused(125, &["no private subnet is free", "--network"]);
    own.run(&["network", "rm", "lab"]).ok();
    drop(link);
    // As soon as there is room the default network comes into being.
    own.run(&["run", "--rm", BUSYBOX, "true"]).ok();
}

/// Sends router advertisements and an ICMP redirect's like to all on the link, as a neighbour without a guard could.
const ADVERTISE: &str = "
import socket,struct,time
s=socket.socket(socket.AF_INET6,socket.SOCK_RAW,socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6,socket.IPV6_MULTICAST_HOPS,255)
i=socket.if_nametoindex('eth0')
p=struct.pack('!BBBBIII',3,4,64,0xc0,3600,3600,0)+socket.inet_pton(socket.AF_INET6,'2001:db8:bad::')
ra=struct.pack('!BBHBBHII',134,0,0,64,0,1800,0,0)+p
for _ in range(10):
    s.sendto(ra,('ff02::1',0,0,i)); time.sleep(0.05)
";

#[test]
fn neighbours_give_a_container_no_address_and_no_route() {
    let Some(t) = Test::start() else { return };
    let (lab, late, victim) = (t.name("lab"), t.name("late"), t.name("victim"));
    if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
        return skipped("this kernel has no IPv6");
    }
    t.ok(["network", "create", "--ipv6", "-o", "rbox.guard=false", &lab]);
    t.ok(["network", "create", "--ipv6", &late]);
    // What is asked for a link by name holds, whenever the link comes.
    t.sleeper(
        &victim,
        [
            "--network",
            &lab,
            "--sysctl",
            "net.ipv4.conf.eth0.log_martians=1",
            "--sysctl",
            "net.ipv6.conf.eth0.hop_limit=77",
        ],
    );
    t.ok(["network", "connect", &late, &victim]);
    let script = "cd /proc/sys/net
for l in eth0 eth1; do for k in ipv6/conf/$l/accept_ra ipv6/conf/$l/autoconf ipv6/conf/$l/accept_redirects \
ipv4/conf/$l/accept_redirects ipv4/conf/$l/accept_source_route; do echo $k $(cat $k); done; done
echo all $(cat ipv4/conf/all/accept_redirects) own $(cat ipv4/conf/eth0/log_martians ipv6/conf/eth0/hop_limit)";
    let settings = t.ok(["exec", &victim, "sh", "-c", script]);
    assert_eq!(settings.lines().count(), 11, "{settings}");
    assert!(settings.lines().take(10).all(|line| line.ends_with(" 0")), "{settings}");
    assert!(settings.ends_with("all 0 own 1 77"), "{settings}");
    t.ok(["run", "--rm", "--network", &lab, "--cap-add", "NET_RAW", PYTHON, "python3", "-c", ADVERTISE]);
    let took = t.ok(["exec", &victim, "cat", "/proc/net/if_inet6", "/proc/net/ipv6_route"]);
    assert!(!took.contains("20010db80bad"), "{took}");
    let missing = ["run", "--rm", "--sysctl", "net.ipv4.conf.eth7.log_martians=1", BUSYBOX, "true"];
    t.rbox(missing).refused(125, &["sysctl net.ipv4.conf.eth7.log_martians=1"]);
}
