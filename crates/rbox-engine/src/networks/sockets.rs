//! Who listens in a network namespace: `/proc/PID/net/{tcp,tcp6,udp,udp6}` (proc(5)).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rbox_spec::port::Protocol;
use serde::Serialize;

/// A socket that takes what comes to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Socket {
    /// Its protocol.
    pub protocol: Protocol,
    /// The address it is bound to; unspecified for all.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Bound to an IPv6 address, it takes IPv6 only.
    pub only_ipv6: bool,
    /// Its number, by which its process is found.
    #[serde(skip)]
    pub inode: u64,
    /// The process that has it, `python3 (pid 4711)`; empty when it was not found.
    pub process: String,
}

/// Whether somebody takes what comes to an address and a port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Listening<'a> {
    /// This one does.
    By(&'a Socket),
    /// On the port, but at other addresses only.
    Elsewhere(Vec<IpAddr>),
    /// Nobody.
    Nobody,
}

/// Looks among `sockets` for one that takes what comes to `ip` and `port`.
pub(crate) fn listening(sockets: &[Socket], protocol: Protocol, ip: IpAddr, port: u16) -> Listening<'_> {
    let on_port: Vec<&Socket> =
        sockets.iter().filter(|socket| socket.protocol == protocol && socket.port == port).collect();
    let takes = |socket: &Socket| match socket.address {
        IpAddr::V4(four) => four.is_unspecified() && ip.is_ipv4(),
        // `::` takes IPv4 too, unless it was told not to.
        IpAddr::V6(six) if six.is_unspecified() => ip.is_ipv6() || !socket.only_ipv6,
        IpAddr::V6(six) => six
            .to_ipv4_mapped()
            .is_some_and(|four| IpAddr::V4(four) == ip || (four.is_unspecified() && ip.is_ipv4())),
    };
    // The most exact one gets it.
    let exact = on_port.iter().find(|socket| socket.address == ip);
    if let Some(socket) = exact.or_else(|| on_port.iter().find(|socket| takes(socket))) {
        return Listening::By(socket);
    }
    if on_port.is_empty() {
        return Listening::Nobody;
    }
    Listening::Elsewhere(on_port.iter().map(|socket| socket.address).collect())
}

/// The sockets that listen in the network namespace of the process `pid`, without their processes.
pub(crate) fn sockets(pid: &str) -> Vec<Socket> {
    let mut all = Vec::new();
    for (file, protocol) in
        [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)]
    {
        let text = crate::host::proc_text(&format!("/proc/{pid}/net/{file}"));
        all.extend(text.lines().skip(1).filter_map(|line| read(line, protocol)));
    }
    all.sort_by_key(|socket| (socket.port, socket.protocol, socket.address));
    all
}

/// A line of such a file, when the socket listens.
fn read(line: &str, protocol: Protocol) -> Option<Socket> {
    const LISTEN: &str = "0A";
    const UNCONNECTED: &str = "07";
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, local, remote, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return None };
    let wanted = if protocol == Protocol::Tcp { LISTEN } else { UNCONNECTED };
    if *state != wanted || endpoint(remote)?.1 != 0 {
        return None;
    }
    let (address, port) = endpoint(local)?;
    Some(Socket {
        protocol,
        address,
        port,
        only_ipv6: false,
        inode: inode.parse().ok()?,
        process: String::new(),
    })
}

/// `0100007F:1F90`: an address as words of the machine's byte order, and a port.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// Finds the processes of `sockets` among those whose network namespace is `netns`, its inode number.
pub(crate) fn find_processes(sockets: &mut [Socket], netns: u64) {
    let mut wanted: BTreeMap<u64, usize> =
        sockets.iter().enumerate().map(|(at, socket)| (socket.inode, at)).collect();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if wanted.is_empty() {
            return;
        }
        if netns_of(&pid.to_string()) != Some(netns) {
            continue;
        }
        for descriptor in std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            let inode = std::fs::read_link(descriptor.path()).ok().and_then(|target| {
                target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
            });
            if let Some(at) = inode.and_then(|inode| wanted.remove(&inode))
                && let Some(socket) = sockets.get_mut(at)
            {
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                socket.process = format!("{} (pid {pid})", name.trim_end_matches('\n'));
            }
        }
    }
}

/// The inode number of a process's network namespace.
pub(crate) fn netns_of(pid: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|meta| meta.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lines_of_proc() {
        let word = |ip: Ipv4Addr| format!("{:08X}", u32::from_ne_bytes(ip.octets()));
        let line = |local: &str, remote: &str, state: &str| {
            format!(
                "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 x"
            )
        };
        let lo = word(Ipv4Addr::LOCALHOST);
        let socket = read(&line(&format!("{lo}:1F90"), "00000000:0000", "0A"), Protocol::Tcp).unwrap();
        assert_eq!((socket.address, socket.port, socket.inode), (ip("127.0.0.1"), 8080, 4711));
        let one = u32::from_ne_bytes([0, 0, 0, 1]);
        let six = format!("{:024X}{one:08X}:0035", 0);
        let none = format!("{}:0000", "0".repeat(32));
        assert_eq!(read(&line(&six, &none, "07"), Protocol::Udp).unwrap().address, ip("::1"));
        assert_eq!(read(&line(&six, &none, "0A"), Protocol::Udp), None, "another state");
        assert_eq!(
            read(&line(&format!("{lo}:1F90"), &format!("{lo}:0001"), "07"), Protocol::Udp),
            None,
            "connected"
        );
        for bad in [
            "",
            "0: x y z",
            "0: 01:1 00000000:0000 0A 0 0 0 0 0 1",
            "0: 0100007F:1F90 00000000:0000 0A 0 0 0 0 0 x",
        ] {
            assert_eq!(read(bad, Protocol::Tcp), None, "{bad:?}");
        }
    }

    #[test]
    fn who_takes_it() {
        let on = |text: &str| Socket {
            protocol: Protocol::Tcp,
            address: ip(text.trim_end_matches('!')),
            port: 80,
            only_ipv6: text.ends_with('!'),
            inode: 0,
            process: String::new(),
        };
        let taken = |bound: &[&str], to: &str| {
            let sockets: Vec<Socket> = bound.iter().map(|text| on(text)).collect();
            match listening(&sockets, Protocol::Tcp, ip(to), 80) {
                Listening::By(socket) => socket.address.to_string(),
                Listening::Elsewhere(addresses) => format!("only {addresses:?}"),
                Listening::Nobody => "nobody".into(),
            }
        };
        assert_eq!(taken(&["0.0.0.0"], "172.18.0.2"), "0.0.0.0");
        assert_eq!(taken(&["::"], "172.18.0.2"), "::");
        assert_eq!(taken(&["0.0.0.0", "172.18.0.2"], "172.18.0.2"), "172.18.0.2");
        assert_eq!(taken(&["::!"], "172.18.0.2"), "only [::]");
        assert_eq!(taken(&["::!"], "fd00::2"), "::");
        assert_eq!(taken(&["127.0.0.1"], "172.18.0.2"), "only [127.0.0.1]");
        assert_eq!(taken(&["0.0.0.0"], "fd00::2"), "only [0.0.0.0]");
        assert_eq!(taken(&["::ffff:172.18.0.2"], "172.18.0.2"), "::ffff:172.18.0.2");
        assert_eq!(taken(&["::ffff:0.0.0.0"], "172.18.0.2"), "::ffff:0.0.0.0");
        assert_eq!(taken(&["::ffff:0.0.0.0"], "fd00::2"), "only [::ffff:0.0.0.0]");
        assert_eq!(taken(&[], "172.18.0.2"), "nobody");
        assert_eq!(listening(&[on("0.0.0.0")], Protocol::Tcp, ip("127.0.0.1"), 81), Listening::Nobody);
        assert_eq!(listening(&[on("0.0.0.0")], Protocol::Udp, ip("127.0.0.1"), 80), Listening::Nobody);
    }

    #[test]
    fn this_process_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut all = sockets("self");
        all.retain(|socket| socket.port == port && socket.protocol == Protocol::Tcp);
        find_processes(&mut all, netns_of("self").unwrap());
        let own = format!("(pid {})", std::process::id());
        assert!(matches!(all.as_slice(), [socket] if socket.process.ends_with(&own)), "{all:?}");
    }
}
