//! Asking a name server for the addresses of a name: for who wants to know what a container would be answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::local::random;
use super::message::kind;

/// Header of a question: recursion is desired, and one question there is.
const FLAGS_AND_COUNTS: [u8; 10] = [1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
const HEADER: usize = 12;

/// The addresses that `server` has for `name`, those of IPv4 first; from the network namespace this thread is in. Empty
/// when it has none, and none when it did not answer within `patience`.
pub fn ask(name: &str, server: SocketAddr, patience: Duration) -> std::io::Result<Option<Vec<IpAddr>>> {
    let mut all = Vec::new();
    let until = Instant::now() + patience;
    for kind in [kind::A, kind::AAAA] {
        let Some(question) = question(name, kind) else { return Ok(Some(all)) };
        match exchange(&question, server, until)? {
            Some(answer) => all.extend(addresses(&answer, question.len())),
            None if all.is_empty() => return Ok(None),
            None => {}
        }
    }
    Ok(Some(all))
}

/// One question and its answer over UDP.
fn exchange(question: &[u8], server: SocketAddr, until: Instant) -> std::io::Result<Option<Vec<u8>>> {
    let any: SocketAddr =
        if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().map_err(std::io::Error::other)?;
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = vec![0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut buffer) {
            // The same id and question, and it is an answer.
            Ok(length) if is_answer(&buffer[..length], question) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_answer(message: &[u8], question: &[u8]) -> bool {
    message.get(..2) == question.get(..2)
        && message.get(2).is_some_and(|flags| flags & 0x80 != 0)
        && message.get(HEADER..question.len()).is_some_and(|own| Some(own) == question.get(HEADER..))
}

/// A question for `name`; none when that is no name.
fn question(name: &str, kind: u16) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut message = random().to_vec();
    message.extend(FLAGS_AND_COUNTS);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    if message.len() - HEADER > 255 {
        return None;
    }
    message.extend(kind.to_be_bytes());
    message.extend(kind::INTERNET.to_be_bytes());
    Some(message)
}

/// The addresses in an answer, whose records begin at `at`. What is not understood ends it.
fn addresses(message: &[u8], mut at: usize) -> Vec<IpAddr> {
    let number = |at: usize| Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?));
    let mut found = Vec::new();
    for _ in 0..number(6).unwrap_or(0) {
        let Some(end) = skip_name(message, at) else { break };
        let (Some(kind), Some(length)) = (number(end), number(end + 8)) else { break };
        let data = message.get(end + 10..end + 10 + usize::from(length)).unwrap_or_default();
        if let (kind::A, Ok(octets)) = (kind, <[u8; 4]>::try_from(data)) {
            found.push(IpAddr::V4(Ipv4Addr::from(octets)));
        }
        if let (kind::AAAA, Ok(octets)) = (kind, <[u8; 16]>::try_from(data)) {
            found.push(IpAddr::V6(Ipv6Addr::from(octets)));
        }
        at = end + 10 + usize::from(length);
    }
    found
}

/// Where a name ends: with its root, or with a pointer, which is not followed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let asked = question("db.example.", kind::A).unwrap();
        assert_eq!(
            &asked[2..],
            b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02db\x07example\x00\x00\x01\x00\x01"
        );
        let long = "a".repeat(64);
        for bad in ["", ".", "a..b", &long, &"a.".repeat(128)] {
            assert_eq!(question(bad, kind::A), None, "{bad:?}");
        }
    }

    #[test]
    fn answers() {
        let asked = question("db", kind::A).unwrap();
        let mut message = asked.clone();
        message[2] |= 0x80;
        message[7] = 2;
        message.extend(b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x01\x00\x04\x01x\xc0\x0c");
        message.extend(b"\x01x\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x0a\x01\x02\x03");
        assert!(is_answer(&message, &asked) && !is_answer(&asked, &asked));
        assert_eq!(addresses(&message, asked.len()), ["10.1.2.3".parse::<IpAddr>().unwrap()]);
        // However it is cut, nothing is read that is not there.
        for length in 0..message.len() {
            assert!(addresses(&message[..length], asked.len()).len() < 2);
        }
    }

    #[test]
    fn a_server_is_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let answers = std::thread::spawn(move || {
            for _ in 0..2 {
                let mut buffer = [0; 512];
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                let mut message = buffer[..length].to_vec();
                message[2] |= 0x80;
                // First one that is not the answer.
                server.send_to(&[0; 12], from).unwrap();
                if message.ends_with(&[0, 1, 0, 1]) {
                    message[7] = 1;
                    message.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\x0a\x01\x02\x03");
                }
                server.send_to(&message, from).unwrap();
            }
        });
        let found = ask("db.example", at, Duration::from_secs(5)).unwrap();
        assert_eq!(found, Some(vec!["10.1.2.3".parse().unwrap()]));
        answers.join().unwrap();
    }
}
