//! `--log-driver syslog` and `journald`: output that is passed on to those who collect it.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::harness::{BUSYBOX, Test, wait_until};

const SCRIPT: &str = "echo one; echo two >&2; sleep 0.1; printf half";

/// What a socket of datagrams has got, once it has so many.
fn taken(receive: impl Fn(&mut [u8]) -> std::io::Result<usize>, wanted: usize) -> Vec<String> {
    let mut all = Vec::new();
    wait_until("all has come", || {
        let mut buffer = [0; 8192];
        while let Ok(length) = receive(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all.len() >= wanted
    });
    all
}

#[test]
fn syslog_of_every_way() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let run = |address: &str, more: &[&str]| {
        let address = format!("syslog-address={address}");
        let first = ["run", "--name", &name, "--log-driver", "syslog", "--log-opt", &address];
        t.cmd([&first[..], more, &[BUSYBOX, "sh", "-c", SCRIPT]].concat()).run().code(0);
        // It is kept here, too.
        assert_eq!(t.rbox(["logs", &name]).code(0).stdout, "one\nhalf");
        let kind = t.ok(["inspect", "-f", "{{.HostConfig.LogConfig.Type}} {{.LogPath}}", &name]);
        assert_eq!(kind.trim_end(), "syslog");
        t.ok(["rm", &name]);
    };
    let path = t.dir("log").join("socket");
    let here = UnixDatagram::bind(&path).unwrap();
    here.set_nonblocking(true).unwrap();
    run(&format!("unixgram://{}", path.display()), &["--log-opt", "tag={{.Name}}"]);
    let all = taken(|buffer| here.recv(buffer), 3);
    let ends = [("<30>", "]: one\n"), ("<27>", "]: two\n"), ("<30>", "]: half\n")];
    for (text, (begin, end)) in all.iter().zip(ends) {
        assert!(
            text.starts_with(begin) && text.ends_with(end) && text.contains(&format!(" {name}[")),
            "{all:?}"
        );
    }
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let more = ["--log-opt", "syslog-format=rfc5424micro", "--log-opt", "syslog-facility=local3"];
    run(&format!("udp://{}", udp.local_addr().unwrap()), &more);
    let all = taken(|buffer| udp.recv(buffer), 3);
    assert!(
        all[0].starts_with("<158>1 2") && all[1].starts_with("<155>1 2") && all[2].ends_with(" - half\n"),
        "{all:?}"
    );
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = tcp.local_addr().unwrap();
    let reader = std::thread::spawn(move || {
        let (stream, _) = tcp.accept().unwrap();
        BufReader::new(stream).lines().map(Result::unwrap).collect::<Vec<String>>()
    });
    run(&format!("tcp://{to}"), &["--log-opt", "syslog-format=rfc3164"]);
    let all = reader.join().unwrap();
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all[1].starts_with("<27>") && all[1].ends_with("]: two"), "{all:?}");
}

#[test]
fn one_who_collects_and_goes_away() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let path = t.dir("log").join("socket");
    let address = format!("syslog-address=unix://{}", path.display());
    let flags = ["--log-driver", "syslog", "--log-opt", &address, "--restart", "always"];
    t.cmd(
        [
            &["create"],
            &flags[..],
            &["--name", &name, BUSYBOX, "sh", "-c", "while :; do echo x; sleep 0.05; done"],
        ]
        .concat(),
    )
    .run()
    .ok();
    t.rbox(["start", &name]).refused(1, &["failed to initialize logging driver", "no such file"]);
    let here = UnixDatagram::bind(&path).unwrap();
    here.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    t.ok(["start", &name]);
    taken(|buffer| here.recv(buffer), 1);
    drop(here);
    std::fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    // It goes on, and so does its log here.
    let lines = || t.ok(["logs", &name]).lines().count();
    let before = lines();
    wait_until("it writes on", || lines() > before);
    let here = UnixDatagram::bind(&path).unwrap();
    here.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let all = taken(|buffer| here.recv(buffer), 3);
    assert!(all.iter().all(|text| text.ends_with("]: x\n")), "{all:?}");
    t.ok(["rm", "-f", &name]);
}

#[test]
fn options_that_are_refused() {
    let Some(t) = Test::start() else { return };
    for (options, why) in [
        (&["syslog", "syslog-address=http://x"][..], "proto://address"),
        (&["syslog", "syslog-address=tcp+tls://x"], "TLS is not supported"),
        (&["syslog", "syslog-facility=x"], "invalid syslog facility: x"),
        (&["syslog", "syslog-format=x"], "Invalid syslog format: x"),
        (&["syslog", "max-size=1m"], "unknown log opt 'max-size' for syslog log driver"),
        (&["journald", "syslog-address=udp://x"], "unknown log opt 'syslog-address' for journald log driver"),
        (
            &["json-file", "syslog-address=udp://x"],
            "unknown log opt 'syslog-address' for json-file log driver",
        ),
        (&["journald", "tag={{.X}}"], "invalid value for tag"),
    ] {
        t.rbox(["create", "--log-driver", options[0], "--log-opt", options[1], BUSYBOX]).refused(125, &[why]);
    }
    t.ok([
        "create",
        "--log-driver",
        "syslog",
        "--log-opt",
        "cache-max-size=1m",
        "--name",
        &t.name("c"),
        BUSYBOX,
    ]);
}
