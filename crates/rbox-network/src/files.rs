//! /etc/hosts and /etc/resolv.conf of a container, as text.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use crate::error::{Error, Result};

/// `--add-host NAME:IP`, where IP may be the word `host-gateway`: the bridge's address, or without one the host's
/// loopback.
pub fn parse_add_host(text: &str, gateway: Option<Ipv4Addr>) -> Result<(String, IpAddr)> {
    let bad = |why: &str| Error::Invalid(format!("bad format for add-host: {text:?}: {why}"));
    // `name=ip` is Docker's newer spelling; the first separator counts, as an IPv6 address has colons.
    let at = text.find('=').or_else(|| text.find(':')).ok_or_else(|| bad("write NAME:IP"))?;
    let (name, ip) = (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '#') {
        return Err(bad("the name is empty or has spaces"));
    }
    if ip == "host-gateway" {
        return Ok((name.into(), gateway.unwrap_or(Ipv4Addr::LOCALHOST).into()));
    }
    let bare = ip.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(ip);
    let ip = bare.parse().map_err(|_| bad("the address is no IP address"))?;
    Ok((name.into(), ip))
}

/// The content of /etc/hosts: the loopback's names, `add_hosts`, and the container's own name with each of its addresses.
pub fn hosts_file(hostname: &str, own: &[IpAddr], add_hosts: &[(String, IpAddr)]) -> String {
    let mut out = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for (name, address) in add_hosts {
        let _ = writeln!(out, "{address}\t{name}");
    }
    for ip in own {
        out.push_str(&own_line(*ip, hostname));
    }
    out
}

/// The line of a container's own name with one of its addresses.
pub fn own_line(ip: IpAddr, hostname: &str) -> String {
    // `web.example.org` is reached as `web` too.
    match hostname.split_once('.') {
        Some((short, _)) if !short.is_empty() => format!("{ip}\t{hostname} {short}\n"),
        _ => format!("{ip}\t{hostname}\n"),
    }
}

/// Where systemd-resolved keeps the real nameservers, when /etc/resolv.conf names its stub on loopback.
pub const RESOLVED_CONF: &str = "/run/systemd/resolve/resolv.conf";

/// The file to give [`resolv_conf`] as the host's: the text of `/etc/resolv.conf`, or, when all it names is
/// systemd-resolved's stub, the text of [`RESOLVED_CONF`] that `read` returns.
pub fn host_resolv_conf(read: impl Fn(&str) -> Option<String>) -> String {
    let etc = read("/etc/resolv.conf").unwrap_or_default();
    let servers = keyword(&etc, "nameserver");
    let stub = |server: &&str| **server == *"127.0.0.53" || **server == *"127.0.0.54";
    if !servers.is_empty() && servers.iter().all(stub) {
        return read(RESOLVED_CONF).unwrap_or(etc);
    }
    etc
}

/// The content of /etc/resolv.conf for a container with its own network namespace. What is given replaces what the
/// host has, kind by kind. The host's loopback nameservers mean something else inside and are left out; when none is
/// left, public ones are used as Docker does. `search` of `.` means no search domain.
pub fn resolv_conf(host_conf: &str, dns: &[IpAddr], search: &[String], options: &[String]) -> String {
    let mut servers: Vec<String> = dns.iter().map(ToString::to_string).collect();
    if servers.is_empty() {
        servers =
            keyword(host_conf, "nameserver").into_iter().filter(|s| reachable(s)).map(Into::into).collect();
    }
    if servers.is_empty() {
        servers = vec!["8.8.8.8".into(), "8.8.4.4".into()];
    }
    let mut out = String::new();
    for server in servers {
        let _ = writeln!(out, "nameserver {server}");
    }
    for (key, given) in [("search", search), ("options", options)] {
        let list = words(host_conf, given, key);
        if !list.is_empty() {
            let _ = writeln!(out, "{key} {}", list.join(" "));
        }
    }
    out
}

/// The content of /etc/resolv.conf for a container on a user-defined network: its monitor answers, at 127.0.0.11. The
/// servers that it asks in turn are named in a comment, as Docker does: those of `dns`, or the host's, asked from the host.
/// `host_conf` is the text of the host's own file.
pub fn resolv_conf_inside(host_conf: &str, dns: &[IpAddr], search: &[String], options: &[String]) -> String {
    let mut out = format!("nameserver {}\n", crate::dns::ADDRESS);
    let search = words(host_conf, search, "search");
    if !search.is_empty() {
        let _ = writeln!(out, "search {}", search.join(" "));
    }
    let mut options = words(host_conf, options, "options");
    options.retain(|option| !option.starts_with("ndots:") || is_ndots(option));
    if !options.iter().any(|option| is_ndots(option)) {
        // A container's name has no dot, and is to be asked for first.
        options.push("ndots:0".into());
    }
    let _ = writeln!(out, "options {}", options.join(" "));
    let mut servers: Vec<String> = dns.iter().map(ToString::to_string).collect();
    if servers.is_empty() {
        servers = host_servers(host_conf);
    }
    let _ = writeln!(out, "# ExtServers: [{}]", servers.join(" "));
    out
}

/// The host's name servers, asked from the host, as Docker writes them: `host(192.0.2.53)`.
pub fn host_servers(host_conf: &str) -> Vec<String> {
    let host = crate::dns::upstream::host_servers(host_conf);
    host.iter().map(|server| format!("host({})", server.ip())).collect()
}

/// Whether the host or `--dns-option` says from how many dots on a name is asked for as it is. Names without any are then
/// left to the search list ([`crate::DnsConfig::ndots_set`]).
pub fn ndots_set(host_conf: &str, options: &[String]) -> bool {
    words(host_conf, options, "options").iter().any(|option| is_ndots(option))
}

fn is_ndots(option: &str) -> bool {
    option.strip_prefix("ndots:").is_some_and(|n| n.parse::<u32>().is_ok())
}

/// The words of one kind: those given, or else the host's.
fn words(host_conf: &str, given: &[String], key: &str) -> Vec<String> {
    if !given.is_empty() {
        return given.iter().filter(|word| word.as_str() != ".").cloned().collect();
    }
    // The last line of a kind counts (resolv.conf(5)); `domain` is an older word for one search domain.
    let mut lines = host_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let first = words.next()?;
        (first == key || (key == "search" && first == "domain")).then(|| words.map(Into::into).collect())
    });
    if key == "options" {
        lines.flat_map(|l: Vec<String>| l).collect()
    } else {
        lines.next_back().unwrap_or_default()
    }
}

/// The values of a keyword of resolv.conf, first word of each.
fn keyword<'a>(conf: &'a str, key: &str) -> Vec<&'a str> {
    conf.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == key).then(|| words.next()).flatten()
        })
        .collect()
}

/// Whether a container on an IPv4 bridge can send to this nameserver of the host.
fn reachable(server: &str) -> bool {
    match server.parse() {
        Ok(IpAddr::V4(ip)) => !ip.is_loopback() && !ip.is_unspecified(),
        // The default network has no IPv6.
        Ok(IpAddr::V6(_)) | Err(_) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let extra = [parse_add_host("db:10.0.0.5", None).unwrap(), parse_add_host("six:::1", None).unwrap()];
        let text = hosts_file("web", &["172.30.0.2".parse().unwrap()], &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"));
        assert!(text.ends_with("10.0.0.5\tdb\n::1\tsix\n172.30.0.2\tweb\n"), "{text}");
        assert!(hosts_file("a.b.c", &["127.0.0.1".parse().unwrap()], &[]).ends_with("127.0.0.1\ta.b.c a\n"));
        assert!(!hosts_file("alone", &[], &[]).contains("alone"));
        let gateway = Some(Ipv4Addr::new(172, 30, 0, 1));
        assert_eq!(parse_add_host("host:host-gateway", gateway).unwrap().1.to_string(), "172.30.0.1");
        assert_eq!(parse_add_host("h=[fe80::1]", None).unwrap().1.to_string(), "fe80::1");
        for bad in ["", "name", ":1.2.3.4", "name:", "name:1.2.3", "na me:1.2.3.4", "n\n1.1.1.1 evil:1.2.3.4"]
        {
            assert!(parse_add_host(bad, None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn resolv() {
        let host = "# c\nnameserver 127.0.0.53\nnameserver 192.0.2.53\nnameserver ::1\nsearch a b\noptions ndots:2\n";
        assert_eq!(resolv_conf(host, &[], &[], &[]), "nameserver 192.0.2.53\nsearch a b\noptions ndots:2\n");
        assert_eq!(
            resolv_conf("nameserver 127.0.0.1", &[], &[], &[]),
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
        );
        let own = resolv_conf(host, &["1.1.1.1".parse().unwrap()], &["x.org".into()], &["rotate".into()]);
        assert_eq!(own, "nameserver 1.1.1.1\nsearch x.org\noptions rotate\n");
        assert_eq!(resolv_conf(host, &[], &[".".into()], &[]), "nameserver 192.0.2.53\noptions ndots:2\n");
        assert_eq!(
            resolv_conf("nameserver 1.1.1.1\ndomain d\n", &[], &[], &[]),
            "nameserver 1.1.1.1\nsearch d\n"
        );
    }

    #[test]
    fn resolv_with_our_own_server() {
        let host = "nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch a b\noptions edns0 ndots:x\n";
        assert_eq!(
            resolv_conf_inside(host, &[], &[], &[]),
            "nameserver 127.0.0.11\nsearch a b\noptions edns0 ndots:0\n# ExtServers: [host(127.0.0.53) host(192.0.2.53)]\n"
        );
        let given = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(
            resolv_conf_inside(host, &given, &[".".into()], &["ndots:2".into()]),
            "nameserver 127.0.0.11\noptions ndots:2\n# ExtServers: [192.0.2.1 2001:db8::1]\n"
        );
        assert!(ndots_set("options ndots:3\n", &[]) && ndots_set("", &["ndots:0".into()]));
        assert!(!ndots_set(host, &[]) && !ndots_set("options ndots:3\n", &["rotate".into()]));
    }

    #[test]
    fn the_stub_resolver_is_looked_through() {
        let read = |etc: &'static str| {
            host_resolv_conf(move |path| match path {
                "/etc/resolv.conf" => Some(etc.into()),
                RESOLVED_CONF => Some("nameserver 192.0.2.1\n".into()),
                _ => None,
            })
        };
        assert_eq!(read("nameserver 127.0.0.53\n"), "nameserver 192.0.2.1\n");
        assert_eq!(read("nameserver 192.0.2.9\n"), "nameserver 192.0.2.9\n");
        assert_eq!(read("nameserver 127.0.0.1\n"), "nameserver 127.0.0.1\n");
    }
}
