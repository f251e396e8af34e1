//! What follows from what was seen, by tables.
#![allow(clippy::unwrap_used, reason = "tests")]

use jiff::Timestamp;
use rbox_spec::health::OnUnhealthy;
use rbox_spec::mount::MountSpec;
use rbox_spec::port::{Protocol, PublishedPort};
use rbox_spec::restart::RestartPolicy;
use rbox_spec::user::ResolvedUser;

use crate::networks::sockets::Socket;
use crate::record::container::{ContainerRecord, ExitRecord};
use crate::why::advice::quoted;
use crate::why::cause::Cause;
use crate::why::ended::{Seen, Sent, causes};
use crate::why::{disks, running};

fn record() -> ContainerRecord {
    let record = serde_json::json!({
        "record_version": 1, "id": "7".repeat(64), "name": "web", "created": "2026-01-01T00:00:00Z", "image": "x",
        "image_id": "", "image_manifest": "", "platform": "", "layers": [], "embedded": false, "config": {}, "host": {},
    });
    rbox_spec::record::decode(record.to_string().as_bytes()).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

/// It ran from second 0 to 100.
fn exit(exit_code: i32) -> ExitRecord {
    ExitRecord { finished: at(100), ..ExitRecord::untold(exit_code, String::new(), Some(at(0))) }
}

fn sent(all: &[(i64, i32)]) -> Vec<Sent> {
    all.iter().map(|(second, signal)| Sent { at: at(*second), signal: *signal }).collect()
}

/// The kinds, as JSON has them.
fn kinds(all: &[Cause]) -> Vec<String> {
    all.iter()
        .map(|cause| serde_json::to_value(cause).unwrap()["Kind"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn who_ended_it() {
    let stopped = ExitRecord { stopped: true, ..exit(137) };
    let table: [(&str, ExitRecord, Seen, &str); 10] = [
        ("itself", exit(0), Seen::default(), "finished"),
        ("itself, with an error", exit(3), Seen::default(), "failed"),
        ("somebody", exit(137), Seen::default(), "signalled"),
        ("the kernel", exit(139), Seen::default(), "crashed"),
        ("rbox kill", stopped.clone(), Seen { sent: sent(&[(100, 9)]), ..Seen::default() }, "killed"),
        (
            "rbox kill twice",
            stopped.clone(),
            Seen { sent: sent(&[(90, 15), (100, 9)]), ..Seen::default() },
            "killed",
        ),
        (
            "rbox stop",
            ExitRecord { exit_code: 143, ..stopped.clone() },
            Seen { sent: sent(&[(100, 15)]), was_stopped: true, ..Seen::default() },
            "stopped",
        ),
        (
            "rbox stop, which waited",
            stopped,
            Seen { sent: sent(&[(90, 15), (100, 9)]), was_stopped: true, ..Seen::default() },
            "stop-timeout",
        ),
        (
            "itself, after a signal it lives with",
            exit(3),
            Seen { sent: sent(&[(5, 1)]), ..Seen::default() },
            "failed",
        ),
        (
            "nobody saw",
            ExitRecord { error: "its monitor was killed".into(), ..exit(255) },
            Seen::default(),
            "unseen",
        ),
    ];
    for (name, exit, seen, wanted) in table {
        assert_eq!(kinds(&causes(&record(), &exit, &seen)), [wanted], "{name}");
    }
}

#[test]
fn limits_of_rbox() {
    let seen = Seen { sent: sent(&[(100, 9)]), failed_check: Some("no answer\n".into()), ..Seen::default() };
    let mut limited = record();
    limited.host.timeout = Some(100);
    assert_eq!(causes(&limited, &exit(137), &seen), [Cause::TimeLimit { seconds: 100 }]);
    limited.host.timeout = Some(101);
    assert_eq!(kinds(&causes(&limited, &exit(137), &seen)), ["killed"], "it had more time");
    let mut checked = record();
    checked.config.on_unhealthy = OnUnhealthy::Kill;
    let cause = Cause::KilledUnhealthy { output: "no answer".into(), action: "kill".into() };
    assert_eq!(causes(&checked, &exit(137), &seen), [cause]);
    let memory =
        ExitRecord { oom_killed: true, error: "out of memory: the kernel killed x".into(), ..exit(137) };
    limited.host.resources.memory = Some(64 << 20);
    let all = causes(&limited, &memory, &seen);
    assert_eq!(all[0].text(), "out of memory: the kernel killed x; it may have 64 MiB");
    assert!(all[0].advice("web")[0].contains("--memory 128m --memory-swap 128m web"), "{all:?}");
    let used_up = ExitRecord { restart_count: 3, ..exit(1) };
    limited.host.restart = RestartPolicy::OnFailure(3);
    assert_eq!(kinds(&causes(&limited, &used_up, &Seen::default())), ["failed", "restarts-used-up"]);
    assert_eq!(kinds(&causes(&limited, &exit(1), &Seen::default())), ["failed"]);
}

#[test]
fn what_its_output_says() {
    let of = |code: i32, lines: &[&str]| {
        let log = lines.iter().map(|line| (*line).to_owned()).collect();
        kinds(&causes(&record(), &exit(code), &Seen { log, ..Seen::default() }))
    };
    let glibc = "x: error while loading shared libraries: libz.so.1: cannot open shared object file: No such file or directory";
    assert_eq!(of(127, &[glibc]), ["library-missing", "failed"]);
    let musl = "Error loading shared library libz.so.1: No such file or directory (needed by /x)";
    assert_eq!(
        of(127, &[musl, "Error relocating /x: deflate: symbol not found"]),
        ["library-missing", "failed"]
    );
    assert_eq!(of(1, &["write /data/x: No space left on device"]), ["no-space-told", "failed"]);
    assert_eq!(of(1, &["all is well"]), ["failed"]);
    assert_eq!(of(0, &[glibc]), ["finished"]);
    let denied = Cause::MountDenied {
        target: "/data".into(),
        source: "/srv".into(),
        uid: 1000,
        gid: 1000,
        outside: None,
        owner: 0,
        group: 0,
        mode: "0755".into(),
        wanted: "write",
    };
    let seen =
        |line: &str| Seen { log: vec![line.to_owned()], denied: vec![denied.clone()], ..Seen::default() };
    let with = |line| kinds(&causes(&record(), &exit(1), &seen(line)));
    assert_eq!(with("touch: /data/x: Permission denied"), ["mount-denied", "failed"]);
    assert_eq!(with("bad luck"), ["failed"]);
}

#[test]
fn a_start_that_failed() {
    let failed = |code, error: &str| ExitRecord {
        error: error.into(),
        ..ExitRecord::untold(code, String::new(), None)
    };
    let fault = Cause::CommandMissing { command: "x".into(), searched: Vec::new() };
    let seen = Seen { program: Some(fault.clone()), ..Seen::default() };
    assert_eq!(causes(&record(), &failed(127, "exec: \"x\": not found"), &seen), [fault]);
    assert_eq!(kinds(&causes(&record(), &failed(128, "port is taken"), &seen)), ["start-failed"]);
    assert_eq!(kinds(&causes(&record(), &failed(127, "exec: \"x\""), &Seen::default())), ["start-failed"]);
}

#[test]
fn who_listens_where() {
    let on = |address: &str, port| Socket {
        protocol: Protocol::Tcp,
        address: address.parse().unwrap(),
        port,
        only_ipv6: false,
        inode: 0,
        process: String::new(),
    };
    let published = |host: &str| {
        vec![PublishedPort {
            host_ip: host.parse().unwrap(),
            host_port: 8080,
            container_port: 80,
            proto: Protocol::Tcp,
        }]
    };
    let own = Some("172.30.0.2".parse().unwrap());
    let of = |host: &str, sockets: &[Socket]| running::ports(&published(host), own, sockets);
    assert_eq!(of("0.0.0.0", &[on("0.0.0.0", 80)]), []);
    assert_eq!(kinds(&of("127.0.0.1", &[on("0.0.0.0", 80)])), ["published-here"]);
    let elsewhere = of("0.0.0.0", &[on("127.0.0.1", 80), on("127.0.0.11", 53)]);
    assert!(elsewhere[0].text().contains("listens on 127.0.0.1 only"), "{elsewhere:?}");
    let nobody = of("0.0.0.0", &[on("0.0.0.0", 8000), on("127.0.0.11", 53)]);
    assert!(nobody[0].text().ends_with("nobody listens: its programs listen on 8000/tcp"), "{nobody:?}");
    assert!(nobody[0].advice("web")[0].contains("rbox port add web HOST:8000"));
    assert!(of("0.0.0.0", &[])[0].text().ends_with("no program in it listens at all"));
    let twice = [published("0.0.0.0"), published("::")].concat();
    assert_eq!(running::ports(&twice, own, &[]).len(), 1);
    assert_eq!(kinds(&running::ports(&[], own, &[on("::", 80), on("127.0.0.1", 81)])), ["not-published"]);
    assert_eq!(running::ports(&[], own, &[on("127.0.0.11", 53)]), []);
    assert_eq!(running::ports(&twice, None, &[]), []);
}

#[test]
fn who_may_do_what_in_a_mount() {
    let user = |uid, gid, supplementary: &[u32]| ResolvedUser {
        uid,
        gid,
        supplementary: supplementary.to_vec(),
        ..ResolvedUser::default()
    };
    let table = [
        (0o750, user(5, 5, &[]), 0o7),
        (0o750, user(1, 6, &[]), 0o5),
        (0o750, user(1, 1, &[6]), 0o5),
        (0o750, user(1, 1, &[]), 0),
        // The owner's bits hold for the owner, even where others may more.
        (0o007, user(5, 6, &[]), 0),
    ];
    for (mode, user, wanted) in table {
        assert_eq!(disks::permitted(mode, (5, 6), &user), wanted, "{mode:o} {user:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let paths =
        crate::record::paths::Paths { root: dir.path().join("root"), state: dir.path().join("state") };
    let place = dir.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let mut bound = record();
    bound.host.mounts = vec![MountSpec::parse_volume(&format!("{}:/data", place.display()), None).unwrap()];
    let stranger = user(4_000_001, 4_000_001, &[]);
    let all = disks::denied(&paths, &bound, &stranger);
    assert!(all[0].text().starts_with("user 4000001:4000001 may not write /data"), "{all:?}");
    bound.host.mounts[0].read_only = true;
    assert_eq!(disks::denied(&paths, &bound, &stranger), []);
    bound.host.mounts[0].read_only = false;
    assert_eq!(disks::denied(&paths, &bound, &user(0, 0, &[])), []);
}

#[test]
fn words_of_a_shell() {
    for (word, wanted) in [("a", "a"), ("", "''"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("$x", "'$x'")] {
        assert_eq!(quoted(word), wanted);
    }
}
