//! `--log-driver syslog` and `journald`: output that is passed on to those who collect it.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::harness::{BUSYBOX, Cmd, Test, has, skipped, wait_until};

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

/// A real systemd-journald, in a mount namespace of its own, and what its own journalctl reads.
#[test]
fn the_systemd_journal() {
    const JOURNALD: &str = "/lib/systemd/systemd-journald";
    let Some(t) = Test::start() else { return };
    if !std::path::Path::new(JOURNALD).exists() || !has("journalctl") || !has("unshare") {
        return skipped("no systemd-journald here");
    }
    let (name, dir) = (t.name("c"), t.dir("journal"));
    std::fs::write(
        dir.join("conf"),
        "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\n",
    )
    .unwrap();
    let program = "echo one; echo two >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; printf 'a\\tb'";
    let script = format!(
        "cd \"$2\" && mkdir -p /run/systemd /run/log && mount -t tmpfs j /run/systemd && mount -t tmpfs j /run/log && mount --bind conf /etc/systemd/journald.conf || exit 9
         {JOURNALD} </dev/null >journald.out 2>&1 & j=$!
         n=0; until [ -S /run/systemd/journal/socket ] || [ $n = 300 ]; do sleep 0.1; n=$((n + 1)); done
         \"$0\" run --name {name} --log-driver journald --label app.name=shop --log-opt labels=app.name --log-opt tag='{{{{.Name}}}}/t' {BUSYBOX} sh -c \"$1\" >/dev/null 2>&1
         n=0; until [ \"$(journalctl -q --no-pager -o cat CONTAINER_NAME={name} | grep -c .)\" -ge 6 ] || [ $n = 300 ]; do sleep 0.1; n=$((n + 1)); done
         journalctl -q --no-pager -a -o json CONTAINER_NAME={name}; kill $j; wait $j"
    );
    let binary = crate::harness::binary().to_string_lossy().into_owned();
    let words =
        ["-m", "--propagation", "private", "sh", "-c", &script, &binary, program, &dir.to_string_lossy()];
    let entries = t.suite.with_roots(Cmd::new("unshare", words)).run().ok();
    let entries: Vec<serde_json::Value> =
        entries.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |key: &str| entries.iter().map(|entry| entry[key].as_str().unwrap_or("-")).collect::<Vec<_>>();
    let mut lines: Vec<(&str, String)> = Vec::new();
    for entry in &entries {
        let text = entry["MESSAGE"].as_str().unwrap();
        let shown = if text.starts_with('x') { format!("{} x", text.len()) } else { text.to_owned() };
        lines.push((entry["PRIORITY"].as_str().unwrap(), shown));
    }
    // Of the two outputs either may be read first.
    lines.sort();
    let wanted =
        [("3", "two"), ("6", "16384 x"), ("6", "16384 x"), ("6", "7232 x"), ("6", "a\tb"), ("6", "one")];
    assert_eq!(lines.iter().map(|(p, text)| (*p, text.as_str())).collect::<Vec<_>>(), wanted);
    let long: Vec<&serde_json::Value> =
        entries.iter().filter(|entry| !entry["CONTAINER_PARTIAL_ID"].is_null()).collect();
    let of_long = |key: &str| long.iter().map(|entry| entry[key].as_str().unwrap_or("-")).collect::<Vec<_>>();
    assert_eq!(of_long("CONTAINER_PARTIAL_ORDINAL"), ["1", "2", "3"]);
    assert_eq!(of_long("CONTAINER_PARTIAL_LAST"), ["false", "false", "true"]);
    assert_eq!(of_long("CONTAINER_PARTIAL_MESSAGE"), ["true", "true", "-"]);
    let ids = of_long("CONTAINER_PARTIAL_ID");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let id = t.inspect(&name)["Id"].as_str().unwrap().to_owned();
    let tag = format!("{name}/t");
    for (key, value) in [
        ("CONTAINER_ID", &id[..12]),
        ("CONTAINER_ID_FULL", &id),
        ("CONTAINER_TAG", &tag),
        ("SYSLOG_IDENTIFIER", &tag),
        ("IMAGE_NAME", BUSYBOX),
        ("APP_NAME", "shop"),
        ("_TRANSPORT", "journal"),
    ] {
        assert_eq!(of(key), [value; 6], "{key}");
    }
    assert_eq!(of("CONTAINER_LOG_ORDINAL"), ["1", "2", "3", "4", "5", "6"]);
    let logs = t.rbox(["logs", &name]).code(0);
    assert!(
        logs.stdout.starts_with("one\nxxx") && logs.stdout.ends_with("x\na\tb") && logs.stderr == "two\n"
    );
    t.ok(["rm", &name]);
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
