//! Host names to addresses, without the C library.
//!
//! In a static binary `getaddrinfo` loads NSS modules with `dlopen`, from whatever root it finds itself in. So: addresses,
//! `/etc/hosts`, then the name servers of `/etc/resolv.conf` (`search`, `ndots`, `timeout` and `attempts` as in
//! resolv.conf(5)), over UDP and over TCP where an answer is truncated.
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Addresses tried for one name.
const MAX_ADDRESSES: usize = 16;
const MAX_SERVERS: usize = 3;

/// Resolves as the files of this host say.
#[derive(Debug, Clone)]
pub struct HostResolver {
    hosts: PathBuf,
    resolv_conf: PathBuf,
}

impl Default for HostResolver {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

/// resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conf {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

/// What a name server said.
enum Answer {
    Addresses(Vec<IpAddr>),
    /// The name does not exist, or has no address of the kind.
    Nothing,
}

impl HostResolver {
    /// Every address of a host, those of `/etc/hosts` first.
    pub fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        let name = bare.trim_end_matches('.');
        let in_file =
            std::fs::read_to_string(&self.hosts).map(|text| in_hosts(&text, name)).unwrap_or_default();
        if !in_file.is_empty() {
            return Ok(in_file);
        }
        // RFC 6761: localhost never goes to a name server.
        if super::origin::is_loopback(name) {
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        }
        let conf = Conf::parse(&std::fs::read_to_string(&self.resolv_conf).unwrap_or_default());
        let mut problem = None;
        for candidate in conf.candidates(name, bare.ends_with('.')) {
            match conf.ask(&candidate) {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => {}
                Err(error) => problem = Some(error),
            }
        }
        Err(problem
            .unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no such host: {host}"))))
    }
}

fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| -> Option<IpAddr> {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(line).collect()
}

impl Conf {
    fn parse(text: &str) -> Self {
        let mut conf = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
            match words.next() {
                Some("nameserver") => {
                    // A scope (`fe80::1%eth0`) cannot be told to std; such servers are left out.
                    if let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) {
                        conf.servers.push(SocketAddr::new(address, 53));
                    }
                }
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    for option in words {
                        let number =
                            |name: &str| option.strip_prefix(name).and_then(|n| n.parse::<u32>().ok());
                        if let Some(n) = number("ndots:") {
                            conf.ndots = n.min(15) as usize;
                        } else if let Some(n) = number("timeout:") {
                            conf.timeout = Duration::from_secs(u64::from(n.clamp(1, 30)));
                        } else if let Some(n) = number("attempts:") {
                            conf.attempts = n.clamp(1, 5);
                        }
                    }
                }
                _ => {}
            }
        }
        conf.servers.truncate(MAX_SERVERS);
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::from(([127, 0, 0, 1], 53)));
        }
        conf
    }

    /// The names to ask for, in order.
    fn candidates(&self, name: &str, absolute: bool) -> Vec<String> {
        let mut list: Vec<String> = Vec::new();
        if !absolute {
            list.extend(self.search.iter().map(|suffix| format!("{name}.{}", suffix.trim_matches('.'))));
        }
        let dots = name.bytes().filter(|b| *b == b'.').count();
        let first = absolute || dots >= self.ndots;
        list.insert(if first { 0 } else { list.len() }, name.to_owned());
        list
    }

    /// IPv4 addresses, then IPv6 ones.
    fn ask(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut found = Vec::new();
        for kind in [TYPE::A, TYPE::AAAA] {
            match self.ask_kind(name, kind) {
                Ok(Answer::Addresses(more)) => found.extend(more),
                Err(error) if found.is_empty() => return Err(error),
                // One kind is enough to go on with.
                Ok(Answer::Nothing) | Err(_) => {}
            }
        }
        Ok(found)
    }

    fn ask_kind(&self, name: &str, kind: TYPE) -> io::Result<Answer> {
        let mut problem = io::Error::other("no name server");
        for _ in 0..self.attempts {
            for server in &self.servers {
                match query(*server, name, kind, self.timeout) {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        let (kind, why) = match error.kind() {
                            // What a socket says whose time to read is over. It was asked as often as may help: to a pull
                            // that is no reason to try again.
                            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                                let why = format!("no answer within {} s", self.timeout.as_secs());
                                (io::ErrorKind::HostUnreachable, why)
                            }
                            kind => (kind, error.to_string()),
                        };
                        problem = io::Error::new(kind, format!("name server {server} for {name}: {why}"));
                    }
                }
            }
        }
        Err(problem)
    }
}

fn query(server: SocketAddr, name: &str, kind: TYPE, timeout: Duration) -> io::Result<Answer> {
    let bad =
        |error: simple_dns::SimpleDnsError| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    // Unguessable, with the random source port: std seeds RandomState from the kernel.
    let id = RandomState::new().hash_one(name) as u16;
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let question = Name::new(name).map_err(bad)?;
    packet.questions.push(Question::new(question, kind.into(), CLASS::IN.into(), false));
    let request = packet.build_bytes_vec().map_err(bad)?;
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(&request)?;
    let mut buffer = [0; 4096];
    let deadline = std::time::Instant::now() + timeout;
    loop {
        let n = socket.recv(&mut buffer)?;
        let answer = buffer.get(..n).unwrap_or_default();
        if let Some((answer, truncated)) = read(answer, id, name)? {
            return if truncated { query_tcp(server, &request, id, name, timeout) } else { Ok(answer) };
        }
        // Not the answer to this question: wait for it, but not for ever.
        if std::time::Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

fn query_tcp(
    server: SocketAddr,
    request: &[u8],
    id: u16,
    name: &str,
    timeout: Duration,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(request.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), request].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    let answer = read(&answer, id, name)?.map(|(answer, _)| answer);
    answer.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"))
}

/// Reads an answer; `None` if it is to another question. The flag says that it was truncated.
fn read(bytes: &[u8], id: u16, name: &str) -> io::Result<Option<(Answer, bool)>> {
    let Ok(packet) = Packet::parse(bytes) else { return Ok(None) };
    let asked = packet.questions.first().is_some_and(|q| q.qname.to_string().eq_ignore_ascii_case(name));
    if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) || !asked {
        return Ok(None);
    }
    let truncated = packet.has_flags(PacketFlag::TRUNCATION);
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Some((Answer::Nothing, false))),
        code => return Err(io::Error::other(format!("it answers {code:?}"))),
    }
    // The server follows aliases for us; whatever addresses it gives are the name's.
    let addresses: Vec<IpAddr> = packet
        .answers
        .iter()
        .filter_map(|record| match &record.rdata {
            RData::A(a) => Some(IpAddr::V4(Ipv4Addr::from(a.address))),
            RData::AAAA(a) => Some(IpAddr::V6(Ipv6Addr::from(a.address))),
            _ => None,
        })
        .collect();
    let answer = if addresses.is_empty() { Answer::Nothing } else { Answer::Addresses(addresses) };
    Ok(Some((answer, truncated)))
}

impl Resolver for HostResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or_else(|| ureq::Error::BadUri(uri.to_string()))?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let found = self.lookup(host)?.into_iter().map(|address| SocketAddr::new(address, port));
        let mut result = self.empty();
        for address in
            config.ip_family().keep_wanted(found.collect::<Vec<_>>().into_iter()).take(MAX_ADDRESSES)
        {
            result.push(address);
        }
        if result.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(result) }
    }
}

impl fmt::Display for HostResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}", self.hosts.display(), self.resolv_conf.display())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, CNAME};

    #[test]
    fn reads_the_files() {
        let hosts =
            "127.0.0.1 localhost\n# 9.9.9.9 reg\n10.0.0.7\tReg.lan reg # comment reg2\n::5 reg\nbad reg\n";
        assert_eq!(in_hosts(hosts, "REG"), ["10.0.0.7".parse::<IpAddr>().unwrap(), "::5".parse().unwrap()]);
        assert!(in_hosts(hosts, "reg2").is_empty());
        let conf = Conf::parse(
            "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nsearch a.b c.\noptions ndots:2 timeout:1\n",
        );
        assert_eq!(conf.servers, ["10.0.0.1:53".parse().unwrap()]);
        assert_eq!(conf.candidates("x.y", false), ["x.y.a.b", "x.y.c", "x.y"]);
        assert_eq!(conf.candidates("x.y.z", false)[0], "x.y.z");
        assert_eq!(conf.candidates("x", true), ["x"]);
        assert_eq!(Conf::parse("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn asks_a_name_server_and_follows_aliases() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (n, peer) = server.recv_from(&mut buffer).unwrap();
            let request = Packet::parse(&buffer[..n]).unwrap();
            let mut forged = Packet::new_reply(request.id().wrapping_add(1));
            forged.questions = request.questions.clone();
            let mut reply = Packet::new_reply(request.id());
            reply.questions = request.questions.clone();
            let alias = Name::new("b.test").unwrap();
            let own = Name::new("a.test").unwrap();
            reply.answers.push(ResourceRecord::new(own, CLASS::IN, 1, RData::CNAME(CNAME(alias.clone()))));
            let bad = A { address: u32::from(Ipv4Addr::new(6, 6, 6, 6)) };
            forged.answers.push(ResourceRecord::new(alias.clone(), CLASS::IN, 1, RData::A(bad)));
            let good = A { address: u32::from(Ipv4Addr::new(10, 1, 2, 3)) };
            reply.answers.push(ResourceRecord::new(alias, CLASS::IN, 1, RData::A(good)));
            for packet in [forged, reply] {
                server.send_to(&packet.build_bytes_vec().unwrap(), peer).unwrap();
            }
        });
        let answer = query(address, "a.test", TYPE::A, Duration::from_secs(5)).unwrap();
        thread.join().unwrap();
        let Answer::Addresses(found) = answer else { panic!("no address") };
        assert_eq!(found, ["10.1.2.3".parse::<IpAddr>().unwrap()], "the forged answer is not taken");
    }

    #[test]
    fn a_server_that_is_silent_is_named() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut conf = Conf::parse("options timeout:1 attempts:1\n");
        conf.servers = vec![silent.local_addr().unwrap()];
        let error = conf.ask_kind("a.test", TYPE::A).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("name server {} for a.test: no answer within 1 s", conf.servers[0])
        );
        // The pull takes that for a registry that is not there, and asks no more.
        assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
    }
}
