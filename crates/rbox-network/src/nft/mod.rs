//! rbox's own nftables tables: encoded here, sent over netlink, with no `nft` program at run time.
//!
//! `encode` speaks the wire format, `chain` says what chains and sets are, `ruleset` and `guard` hold the rules, `ask` has what is asked of the kernel, `element` what is put into their sets, `table`
//! applies and checks them, `seen` reads them back; `firewall` is about others' tables, `dns` about one inside a container.

mod ask;
mod chain;
mod dns;
mod element;
pub(crate) mod encode;
mod firewall;
mod guard;
mod ruleset;
mod seen;
mod table;

pub use dns::redirect_dns;
pub(crate) use element::{Member, Network, Published};
pub(crate) use firewall::forward_drops;
pub use firewall::{OtherChain, OtherHook};
pub(crate) use seen::rules;
pub use seen::{BetweenRules, GuardRules, PublishedElement, Rules};
pub(crate) use table::{Table, guard_missing};

/// Reads `body` as an answer about elements, chains and rules, for the fuzzer.
#[cfg(fuzzing)]
pub(crate) fn fuzzing(body: &[u8]) {
    seen::fuzzing(body);
    firewall::fuzzing(body);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Instant;

    use rbox_spec::mac::Mac;
    use rbox_spec::port::{Protocol, PublishedPort};

    use super::*;
    use crate::subnet::{Subnet, Subnet6};

    /// Prints the medians: `cargo test -p rbox-network --lib what_it_costs -- --ignored --nocapture`, as root.
    #[test]
    #[ignore = "a measurement"]
    fn what_it_costs() {
        rbox_sys::process::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let four = Network {
            bridge: "rbox0",
            subnet: "172.30.0.0/16".parse().unwrap(),
            subnet6: None,
            internal: false,
        };
        let six = Network { bridge: "rbox1", subnet: "172.29.0.0/16".parse().unwrap(), ..four };
        let six = Network { subnet6: Some("fd00:172:29::/64".parse().unwrap()), ..six };
        let ports: Vec<Vec<PublishedPort>> = (0..200_u16)
            .map(|n| {
                let port = |host_ip| PublishedPort {
                    host_ip,
                    host_port: 10000 + n,
                    container_port: 80,
                    proto: Protocol::Tcp,
                };
                vec![port(Ipv4Addr::UNSPECIFIED.into()), port(std::net::Ipv6Addr::UNSPECIFIED.into())]
            })
            .collect();
        let names: Vec<String> = (0..200).map(|n| format!("rb{n:012}")).collect();
        let member = |n: usize, with6: bool, count: usize| {
            let ip = Ipv4Addr::from(0xac1e_0002 + n as u32);
            let ip6 = with6.then(|| ip.to_ipv6_mapped());
            Member {
                host_link: &names[n],
                mac: Mac::of(ip),
                ip,
                ip6,
                link_local: &[],
                guarded: true,
                ports: &ports[n][..count],
            }
        };
        let timed = |what: &str, work: &mut dyn FnMut(usize)| {
            let mut times: Vec<_> = (0..200)
                .map(|n| {
                    let begin = Instant::now();
                    work(n);
                    begin.elapsed().as_nanos() / 100
                })
                .collect();
            times.sort_unstable();
            println!(
                "{what}: median {}.{} µs, nine in ten {} µs",
                times[100] / 10,
                times[100] % 10,
                times[180] / 10
            );
        };
        Table::with("rbox", |table| {
            table.build(&[four, six], &[]).unwrap();
            timed("is_whole", &mut |_| assert!(table.is_whole(&four).unwrap()));
            timed("is_whole, IPv6", &mut |_| assert!(table.is_whole(&six).unwrap()));
            for (what, with6, count) in [
                ("guard", false, 0),
                ("guard and a port", false, 1),
                ("guard and a port of each family", true, 2),
            ] {
                timed(&format!("admit, {what}"), &mut |n| table.admit(&member(n, with6, count)).unwrap());
                timed(&format!("dismiss, {what}"), &mut |n| table.dismiss(&member(n, with6, count)).unwrap());
            }
            timed("build", &mut |_| table.build(&[four, six], &[]).unwrap());
            beside_docker();
            table.build(&[four], &[]).unwrap();
            timed("is_whole beside Docker", &mut |_| assert!(table.is_whole(&four).unwrap()));
            Ok(())
        })
        .unwrap();
    }
    /// Docker's chains, and a rule of it.
    fn beside_docker() {
        let docker = "add table ip filter; add chain ip filter DOCKER-USER; \
            add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
            add rule ip filter FORWARD counter jump DOCKER-USER";
        assert!(std::process::Command::new("nft").arg(docker).status().unwrap().success());
    }

    #[test]
    fn a_thousand_networks_are_made_again() {
        rbox_sys::process::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        beside_docker();
        let bridges: Vec<String> = (0..1000).map(|n| format!("rb-{n:012}")).collect();
        let many: Vec<Network<'_>> = (0..1000_u32)
            .map(|n| Network {
                bridge: &bridges[n as usize],
                subnet: Subnet::new(Ipv4Addr::from(0x0a00_0000 + (n << 8)), 24).unwrap(),
                subnet6: Subnet6::new((0xfd00_u128 << 112 | u128::from(n) << 64).into(), 64),
                internal: true,
            })
            .collect();
        Table::with("rbox", |table| {
            table.build(&many, &[]).unwrap();
            for network in &many {
                assert!(table.is_whole(network).unwrap(), "{}", network.bridge);
            }
            table.remove_network(&many[500]).unwrap();
            assert!(!table.is_whole(&many[500]).unwrap() && table.is_whole(&many[501]).unwrap());
            Ok(())
        })
        .unwrap();
        Table::delete("rbox").unwrap();
        let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        let left = String::from_utf8(output.stdout).unwrap();
        assert!(left.contains("DOCKER-USER") && !left.contains("rb-"), "{left}");
    }
}
