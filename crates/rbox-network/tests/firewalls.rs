//! Beside Docker, ufw and firewalld: their rules, as they make them, in the host's network namespace. Containers reach the
//! outside and their published ports are reached, with a line of the administrator's where that firewall wants one; and
//! what that firewall denies is denied. As root, in namespaces of its own.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use rbox_network::{Network, NetworkStore, Wish};
use support::{Container, HOST, HOST6, Namespace, PEER, PEER6, World, alone, get, published, run, wish};

/// The path of a ruleset beside this file.
fn rules(name: &str) -> String {
    format!("{}/tests/firewalls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The rules of others, without ours.
fn iptables() -> String {
    let text = run("iptables-save; ip6tables-save");
    text.lines().filter(|line| !line.starts_with(['#', ':'])).map(|line| line.to_owned() + "\n").collect()
}

fn has_iptables() -> bool {
    let there = std::process::Command::new("iptables-restore").arg("--version").output().is_ok();
    if !there {
        println!("skipped: iptables is not installed");
    }
    there
}

/// A network with IPv6, and a container on it that has published its port 80 as 8080.
struct Side {
    world: World,
    six: Network,
    web: Container,
}

impl Side {
    fn new() -> Self {
        for key in ["iptables", "ip6tables"] {
            let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{key}"), "0");
        }
        let world = World::new();
        let six = world.six();
        let ports = vec![published("8080:80"), published("[::]:8080:80")];
        let web = world.start_on(&six, &Wish { ports, ..wish(&"web0".repeat(16)) });
        world.peer.serve(9000);
        Self { world, six, web }
    }

    /// What the next start does: looks, and mends.
    fn ensure(&self) {
        self.world.store.ensure(&self.six, &|| vec![self.web.endpoint.clone()]).unwrap();
    }

    /// The same after somebody has damaged rbox's rules, so that they are made again.
    fn remake(&self) {
        let table = &self.world.store.names().table;
        run(&format!("nft flush chain ip {table} forward; nft flush chain ip6 {table} forward"));
        self.ensure();
    }

    /// Whether the container reaches the outside, by IPv4 and IPv6.
    fn out(&self) -> [bool; 2] {
        [PEER.to_owned(), format!("[{PEER6}]")]
            .map(|peer| self.web.inside.get(&format!("{peer}:9000")).is_some())
    }

    /// Whether the outside reaches its published port.
    fn inward(&self) -> [bool; 2] {
        [HOST.to_owned(), format!("[{HOST6}]")]
            .map(|host| self.world.peer.get(&format!("{host}:8080")).is_some())
    }

    /// Runs commands with the bridge's name for BR.
    fn admin(&self, commands: &[&str]) {
        for command in commands {
            run(&command.replace("BR", &self.six.bridge));
        }
    }
}

/// Whether the host reaches the published port.
fn host() -> [bool; 2] {
    ["127.0.0.1:8080", "[::1]:8080"].map(|to| get(to).is_some())
}

const YES: [bool; 2] = [true; 2];
const NO: [bool; 2] = [false; 2];

fn drops() -> Vec<String> {
    NetworkStore::forward_drops().unwrap()
}

#[test]
fn beside_docker_nothing_is_to_be_done() {
    alone(|| {
        if !has_iptables() {
            return;
        }
        let side = Side::new();
        assert_eq!((side.out(), side.inward(), host()), (YES, YES, YES));
        // Docker comes later, as it does when it is started or installed after rbox.
        let docker = Namespace::new();
        run(&format!(
            "ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 && ip link set docker0 up && \
             ip link add vd type veth peer name eth0 netns {} && ip link set vd master docker0 && ip link set vd up",
            docker.pid()
        ));
        docker.run("ip link set lo up; ip addr add 172.17.0.2/16 dev eth0; ip link set eth0 up; ip route add default via 172.17.0.1");
        run("ip link show dev vd; ip link show dev docker0");
        docker.serve(80);
        docker.serve(81);
        let load = || {
            run(&format!(
                "iptables-restore {}; ip6tables-restore {}",
                rules("docker.rules"),
                rules("docker6.rules")
            ))
        };
        load();
        let before = iptables();
        assert_eq!((side.out(), side.inward()), (NO, NO), "so the test can fail");
        assert_eq!(host(), YES);
        assert!(drops().is_empty(), "rbox opens it itself: {:?}", drops());
        side.ensure();
        assert_eq!((side.out(), side.inward(), host()), (YES, YES, YES));
        let table = &side.world.store.names().table;
        for program in ["iptables", "ip6tables"] {
            let told = run(&format!("{program} -S FORWARD"));
            for way in ["-i", "-o"] {
                let line =
                    format!("-A FORWARD {way} {} -m comment --comment {table} -j ACCEPT", side.six.bridge);
                assert_eq!(told.matches(&line).count(), 1, "no {line:?} in\n{told}");
            }
        }
        // Once is enough, also for many at a time; the default network is let through too, by IPv4.
        let lines = |text: &str| text.lines().count();
        let after = lines(&iptables());
        side.world.store.ensure(&side.six, &|| panic!("made again without need")).unwrap();
        side.world.store.reconcile(std::slice::from_ref(&side.web.endpoint), &|_| true).unwrap();
        assert_eq!((lines(&iptables()), after - lines(&before)), (after, 6), "{}", iptables());

        // Docker's own containers are as closed to ours as to others, and ours to them.
        assert!(side.web.inside.get(&format!("{HOST}:8000")).is_some(), "what it publishes");
        assert!(side.web.inside.get("172.17.0.2:81").is_none(), "what it does not");
        assert!(docker.get(&format!("{HOST}:8080")).is_some());
        assert!(docker.get(&format!("{}:80", side.web.endpoint.ip)).is_none());
        assert!(docker.get(&format!("{PEER}:9000")).is_some());

        // Where Docker asks administrators to put their rules, they hold for rbox's ports.
        side.admin(&[
            &format!("iptables -I DOCKER-USER -i up0 -s {PEER} -p tcp --dport 80 -j DROP"),
            &format!("ip6tables -I DOCKER-USER -i up0 -s {PEER6} -p tcp --dport 80 -j DROP"),
        ]);
        assert_eq!((side.inward(), side.out()), (NO, YES));
        side.admin(&["iptables -F DOCKER-USER; ip6tables -F DOCKER-USER"]);
        assert_eq!(side.inward(), YES);

        // Its rules made anew, and ours with the next start.
        load();
        assert_eq!(side.out(), NO);
        side.ensure();
        assert_eq!((side.out(), side.inward()), (YES, YES));

        side.world.store.detach(&side.web.endpoint).unwrap();
        side.world.store.remove(&side.six, &|_| true).unwrap();
        assert!(!iptables().contains(&side.six.bridge));
        side.world.store.destroy().unwrap();
        assert_eq!(iptables(), before, "as it was");
    });
}

#[test]
fn beside_ufw_one_line_each_way() {
    alone(|| {
        if !has_iptables() {
            return;
        }
        let side = Side::new();
        run(&format!("iptables-restore {}; ip6tables-restore {}", rules("ufw.rules"), rules("ufw6.rules")));
        let before = iptables();
        side.ensure();
        side.remake();
        assert_eq!(host(), YES, "ufw lets the host alone");
        assert_eq!((side.out(), side.inward()), (NO, NO), "and its policy is respected");
        assert_eq!(drops(), ["ip filter FORWARD", "ip6 filter FORWARD"]);
        // `ufw route allow in on BR`, `ufw route allow out on BR`
        side.admin(&[
            "iptables -A ufw-user-forward -i BR -j ACCEPT; ip6tables -A ufw6-user-forward -i BR -j ACCEPT",
            "iptables -A ufw-user-forward -o BR -j ACCEPT; ip6tables -A ufw6-user-forward -o BR -j ACCEPT",
        ]);
        assert_eq!((side.out(), side.inward(), host()), (YES, YES, YES));
        // `ufw route insert 1 deny out on BR from 198.51.100.2`, and the same with the IPv6 address
        side.admin(&[
            &format!("iptables -I ufw-user-forward -s {PEER} -o BR -j DROP"),
            &format!("ip6tables -I ufw6-user-forward -s {PEER6} -o BR -j DROP"),
        ]);
        assert_eq!((side.inward(), side.out()), (NO, YES));
        side.admin(&["iptables -F ufw-user-forward; ip6tables -F ufw6-user-forward"]);
        assert_eq!(iptables(), before, "rbox has changed nothing");
    });
}

/// An administrator's own policy, with neither Docker nor ufw: it is for the administrator to open.
#[test]
fn beside_iptables_alone_its_policy_is_respected() {
    alone(|| {
        if !has_iptables() {
            return;
        }
        let side = Side::new();
        assert!(drops().is_empty());
        run("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP");
        let before = iptables();
        side.remake();
        assert_eq!(iptables(), before, "rbox has changed nothing");
        assert_eq!(drops(), ["ip filter FORWARD", "ip6 filter FORWARD"]);
        assert_eq!((side.out(), side.inward()), (NO, NO));
        side.admin(&[
            "iptables -A FORWARD -i BR -j ACCEPT; ip6tables -A FORWARD -i BR -j ACCEPT",
            "iptables -A FORWARD -o BR -j ACCEPT; ip6tables -A FORWARD -o BR -j ACCEPT",
        ]);
        assert_eq!((side.out(), side.inward()), (YES, YES));
    });
}

/// Docker and ufw on one host: ufw governs the chain, so it is left alone.
#[test]
fn beside_docker_and_ufw_ufws_policy_is_respected() {
    alone(|| {
        if !has_iptables() {
            return;
        }
        let side = Side::new();
        run(&format!("iptables-restore {}; ip6tables-restore {}", rules("ufw.rules"), rules("ufw6.rules")));
        run(
            "iptables -N DOCKER-USER; iptables -I FORWARD -j DOCKER-USER; ip6tables -N DOCKER-USER; ip6tables -I FORWARD -j DOCKER-USER",
        );
        let before = iptables();
        side.ensure();
        side.world.store.ensure(&side.six, &|| panic!("made again without need")).unwrap();
        side.remake();
        assert_eq!(iptables(), before);
        assert_eq!(drops(), ["ip filter FORWARD", "ip6 filter FORWARD"]);
        assert_eq!(side.out(), NO);
    });
}

#[test]
fn beside_firewalld_as_it_is_installed_nothing_is_to_be_done() {
    alone(|| {
        let side = Side::new();
        run(&format!("nft -f {}", rules("firewalld.nft")));
        side.ensure();
        assert_eq!((side.out(), side.inward(), host()), (YES, YES, YES));
        assert!(drops().is_empty());

        // `firewall-cmd --zone=public --remove-forward`
        let text = std::fs::read_to_string(rules("firewalld.nft")).unwrap();
        let closed = side.world.directory.path().join("closed.nft");
        std::fs::write(&closed, text.replace("\t\toifname \"up0\" accept\n", "")).unwrap();
        let reload = |file: &str| run(&format!("nft 'delete table inet firewalld' && nft -f {file}"));
        reload(&closed.display().to_string());
        side.ensure();
        assert_eq!(side.out(), NO, "its zone is respected");
        assert_eq!((side.inward(), host()), (YES, YES), "firewalld accepts what is published");

        // `firewall-cmd --zone=trusted --add-interface=BR`
        let text = std::fs::read_to_string(rules("firewalld-trusted.nft")).unwrap();
        std::fs::write(&closed, text.replace("rbox0", &side.six.bridge)).unwrap();
        reload(&closed.display().to_string());
        assert_eq!((side.out(), side.inward(), host()), (YES, YES, YES));

        // `firewall-cmd --direct --add-rule ipv4 filter FORWARD 0 -s 198.51.100.2 -o BR -j DROP`, and for ipv6
        if has_iptables() {
            side.admin(&[
                &format!("iptables -A FORWARD -s {PEER} -o BR -j DROP"),
                &format!("ip6tables -A FORWARD -s {PEER6} -o BR -j DROP"),
            ]);
            assert_eq!((side.inward(), host()), (NO, YES));
        }
    });
}
