//! A container's name server in a process that may open few files. A binary of its own: the limit is the process's.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod dns_world;
mod support;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dns_world::{Networks, ask, config, serve};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use simple_dns::TYPE;
use support::{Namespace, alone};

/// Connections that cannot be taken wait; nothing spins, and names are found.
#[test]
fn connections_without_descriptors_wait() {
    alone(|| {
        let networks = Networks::new();
        networks.join("net", "172.18.0.2", "a", &["web"]);
        let inside = Namespace::new();
        let serving = serve(&inside, config(&networks.conf(&[])), vec![networks.named("net", &[])]);
        let before = getrlimit(Resource::Nofile);
        // Descriptors are numbers below the limit.
        let limit = |more: u64| {
            let free = File::open("/dev/null").unwrap().as_raw_fd() as u64;
            setrlimit(Resource::Nofile, Rlimit { current: Some(free + more), ..before }).unwrap();
        };
        limit(30);
        // Another process, as it needs descriptors itself: 50 connections for 3 s, and questions then.
        let told = inside.run(
            r#"ulimit -n 500; python3 -c "
import socket, time
question = bytes.fromhex('000701000001000000000000037765620000010001')
held = [socket.create_connection(('127.0.0.11', 53)) for _ in range(50)]
time.sleep(3)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(30)
udp.connect(('127.0.0.11', 53))
udp.send(question)
print(udp.recv(512)[-4:].hex())
for one in held: one.close()
tcp = socket.create_connection(('127.0.0.11', 53))
tcp.settimeout(30)
tcp.sendall(b'\0\x15' + question)
print(tcp.recv(512)[-4:].hex())
""#,
        );
        assert_eq!(told, "ac120002\nac120002\n");
        let turns = serving.turns.load(Ordering::Relaxed);
        assert!(turns < 200, "{turns} turns");

        // Not even one is to be had.
        setrlimit(Resource::Nofile, before).unwrap();
        let connect = "import socket, time; time.sleep(1); s = socket.create_connection(('127.0.0.11', 53)); time.sleep(2)";
        let mut other = inside.enter(move || Command::new("python3").args(["-c", connect]).spawn().unwrap());
        limit(0);
        std::thread::sleep(Duration::from_secs(3));
        let turns = serving.turns.load(Ordering::Relaxed) - turns;
        setrlimit(Resource::Nofile, before).unwrap();
        assert!((1..50).contains(&turns), "{turns} turns");
        assert!(other.wait().unwrap().success());
        assert_eq!(ask(&inside, "web", TYPE::A), "172.18.0.2");
    });
}
