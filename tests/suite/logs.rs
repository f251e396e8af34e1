//! `logs`.

use std::time::Duration;

use crate::harness::{BUSYBOX, Test, wait_until};

fn written(t: &Test, script: &str) -> String {
    let name = t.name("w");
    t.rbox(["run", "--name", &name, BUSYBOX, "sh", "-c", script]);
    name
}

#[test]
fn both_streams_apart() {
    let Some(t) = Test::start() else { return };
    let name = written(&t, "echo one; echo two >&2; printf partial");
    let out = t.rbox(["logs", &name]).code(0);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("one\npartial", "two\n"));
}

#[test]
fn a_detached_containers_output_is_kept() {
    let Some(t) = Test::start() else { return };
    let name = t.name("d");
    t.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "seq 1 5000"]);
    t.ok(["wait", &name]);
    let out = t.rbox(["logs", &name]).code(0);
    assert_eq!(out.stdout.lines().count(), 5000);
    assert!(out.stdout.ends_with("4999\n5000\n"));
}

#[test]
fn tail_since_and_timestamps() {
    let Some(t) = Test::start() else { return };
    let name = written(&t, "echo a; echo b; sleep 1.2; echo c");
    assert_eq!(t.ok(["logs", "--tail", "2", &name]), "b\nc");
    assert_eq!(t.ok(["logs", "-n", "0", &name]), "");
    assert_eq!(t.ok(["logs", "--tail", "all", &name]), "a\nb\nc");
    let stamped = t.ok(["logs", "-t", &name]);
    let stamps: Vec<_> = stamped.lines().map(|l| l.split_once(' ').unwrap()).collect();
    assert_eq!(stamps.iter().map(|s| s.1).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(
        stamps[0].0.ends_with('Z') && stamps[0].0.len() == "2025-01-01T00:00:00.000000000Z".len(),
        "{stamped}"
    );
    assert_eq!(t.ok(["logs", "--since", stamps[2].0, &name]), "c");
    let until = t.ok(["logs", "--until", stamps[2].0, &name]);
    assert!(until.starts_with("a\nb"), "{until}");
    assert_eq!(t.ok(["logs", "--since", "1h", &name]), "a\nb\nc");
    t.rbox(["logs", "--since", "nonsense", &name]).refused(125, &["nonsense"]);
    t.rbox(["logs", "--tail", "x", &name]).refused(125, &["tail"]);
    t.rbox(["logs", "no-such-container"]).refused(1, &["no such container"]);
}

#[test]
fn following_ends_with_the_container() {
    let Some(t) = Test::start() else { return };
    let name = t.name("f");
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "trap 'echo bye; exit' TERM; echo hello; while :; do sleep 0.1; done",
    ]);
    wait_until("it speaks", || t.rbox(["logs", &name]).stdout == "hello\n");
    let mut follow = t.cmd(["logs", "-f", &name]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!follow.ended());
    t.ok(["stop", &name]);
    assert_eq!(follow.finish(Duration::from_secs(10)).code(0).stdout, "hello\nbye\n");
}

#[test]
fn files_are_rotated() {
    let Some(t) = Test::start() else { return };
    let name = t.name("r");
    t.ok([
        "run",
        "--name",
        &name,
        "--log-opt",
        "max-size=20k",
        "--log-opt",
        "max-file=3",
        BUSYBOX,
        "seq",
        "1",
        "5000",
    ]);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    let files: Vec<_> = std::fs::read_dir(t.suite.root.join("containers").join(&id))
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().contains("-json.log"))
        .map(|e| e.metadata().unwrap().len())
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.iter().all(|size| *size <= 24_000), "{files:?}");
    let out = t.ok(["logs", &name]);
    let numbers: Vec<u32> = out.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(*numbers.last().unwrap(), 5000);
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "lines are missing or twice between files");
    assert_eq!(t.ok(["logs", "--tail", "300", &name]).lines().count(), 300);
}

#[test]
fn a_slow_follower_misses_nothing() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let script = "sleep 1; seq 1 20000";
    let small = ["--log-opt", "max-size=10k", "--log-opt", "max-file=2"];
    t.cmd(["run", "-d", "--name", &name].into_iter().chain(small).chain([BUSYBOX, "sh", "-c", script]))
        .run()
        .ok();
    // It reads nothing before the container has ended, and a pipe holds little.
    let rbox = crate::harness::binary();
    let read = format!(
        "{rbox} logs -f {name} | (read first; {rbox} wait {name} >/dev/null; echo $first; cat)",
        rbox = rbox.display()
    );
    let out = t.program("bash", ["-c", &read]).run().ok();
    assert!(
        out.lines().map(str::parse).eq((1..=20_000_u32).map(Ok)),
        "{} lines of 20000",
        out.lines().count()
    );
}

#[test]
fn the_file_is_dockers_json() {
    let Some(t) = Test::start() else { return };
    let name = written(&t, "echo out; echo err >&2");
    let path = t.ok(["inspect", "-f", "{{.LogPath}}", &name]);
    let text = std::fs::read_to_string(path).unwrap();
    let mut streams = Vec::new();
    for line in text.lines() {
        let json: serde_json::Value = serde_json::from_str(line).unwrap();
        streams.push(format!(
            "{} {}",
            json["stream"].as_str().unwrap(),
            json["log"].as_str().unwrap().trim()
        ));
        assert!(json["time"].as_str().unwrap().ends_with('Z'));
    }
    streams.sort();
    assert_eq!(streams, ["stderr err", "stdout out"]);
}

#[test]
fn with_a_terminal_all_is_one_stream() {
    let Some(t) = Test::start() else { return };
    let name = t.name("tty");
    t.ok(["run", "-d", "-t", "--name", &name, BUSYBOX, "sh", "-c", "echo out; echo err >&2"]);
    t.ok(["wait", &name]);
    assert_eq!(t.rbox(["logs", &name]).stdout, "out\r\nerr\r\n");
}
