//! `logs`.

use std::time::Duration;

use crate::harness::{BUSYBOX, Test, binary, wait_until};

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

/// Standard output comes first when both are ready: that is how most programs write them.
#[test]
fn output_comes_before_errors() {
    let Some(t) = Test::start() else { return };
    for round in 0..10 {
        let out = t
            .program(
                "sh",
                [
                    "-c",
                    "exec \"$0\" run --rm busybox sh -c 'echo 1; echo 2 >&2' 2>&1",
                    binary().to_str().unwrap(),
                ],
            )
            .run();
        assert_eq!(out.ok(), "1\n2", "round {round}");
    }
}

#[test]
fn one_of_the_two_streams() {
    let Some(t) = Test::start() else { return };
    let name = written(&t, "for i in 1 2 3; do echo out$i; echo err$i >&2; done");
    let out = t.rbox(["logs", "--stream", "stderr", "--tail", "2", &name]).code(0);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("", "err2\nerr3\n"));
    let out = t.rbox(["logs", "--stream", "stdout", &name]).code(0);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out1\nout2\nout3\n", ""));
    t.rbox(["logs", "--stream", "stdin", &name]).refused(125, &["stdin"]);
}

/// moby#44445.
#[test]
fn it_is_emptied_while_it_is_written() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let script = "echo before; read x; echo after";
    t.ok(["run", "-di", "--name", &name, "--log-opt", "max-size=1k", BUSYBOX, "sh", "-c", script]);
    wait_until("it has written", || t.ok(["logs", &name]) == "before");
    assert_eq!(t.ok(["logs", "--clear", &name]), name);
    assert_eq!(t.ok(["logs", &name]), "");
    t.program("sh", ["-c", "echo | \"$0\" attach \"$1\"", binary().to_str().unwrap(), &name]).run().ok();
    t.ok(["wait", &name]);
    assert_eq!(t.ok(["logs", &name]), "after");
    t.rbox(["logs", "--clear", "-f", &name]).refused(125, &["--clear"]);
    t.rbox(["logs", "--clear", "no-such-container"]).refused(1, &["No such container"]);
}

#[test]
fn several_are_merged_by_time() {
    let Some(t) = Test::start() else { return };
    let (one, two) = (t.name("one"), t.name("longer"));
    t.ok(["run", "-d", "--name", &one, BUSYBOX, "sh", "-c", "echo 1; sleep 0.4; echo 3; sleep 0.8; echo 5"]);
    t.ok(["run", "-d", "--name", &two, BUSYBOX, "sh", "-c", "sleep 0.2; echo 2; sleep 0.6; echo 4"]);
    let followed = t.ok(["logs", "-f", &one, &two]);
    let read = t.ok(["logs", &one, &two]);
    let width = two.len();
    let line = |name: &str, text: &str| format!("{name:width$} | {text}");
    let wanted = [line(&one, "1"), line(&two, "2"), line(&one, "3"), line(&two, "4"), line(&one, "5")];
    assert_eq!(read.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(followed.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(t.rbox(["logs", "--tail", "1", &one, &two]).code(0).stdout.lines().count(), 2);
    t.rbox(["logs", &one, "no-such-container"]).refused(1, &["No such container"]);
    // A reader that has enough ends it.
    let head = "\"$0\" logs -f \"$1\" \"$2\" | head -n 1";
    t.program("sh", ["-c", head, binary().to_str().unwrap(), &one, &two]).run().ok();
}

#[test]
fn entries_tell_what_log_opt_asks_for() {
    let Some(t) = Test::start() else { return };
    let name = t.name("attrs");
    let options = ["labels=app", "env-regex=^A", "tag={{.Name}}/{{.ID}}"];
    let flags = options.iter().flat_map(|option| ["--log-opt", option]);
    let args =
        ["run", "--name", &name, "--label", "app=shop", "--label", "other=x", "-e", "A1=a b", "-e", "B=2"];
    let args: Vec<&str> = args.into_iter().chain(flags).chain([BUSYBOX, "echo", "hi"]).collect();
    t.cmd(&args).run().code(0);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    let tag = format!("{name}%2F{}", &id[..12]);
    assert_eq!(t.ok(["logs", "--details", &name]), format!("A1=a+b,app=shop,tag={tag} hi"));
    assert_eq!(t.ok(["logs", &name]), "hi");
    for (option, said) in [("tag={{.Nope}}", "tag"), ("env-regex=(", "env-regex"), ("mode=x", "logging mode")]
    {
        t.rbox(["create", "--log-opt", option, BUSYBOX]).refused(125, &[said]);
    }
}

#[test]
fn the_local_driver_keeps_no_file_for_others() {
    let Some(t) = Test::start() else { return };
    let name = t.name("local");
    t.rbox([
        "run",
        "--name",
        &name,
        "--log-driver",
        "local",
        "--log-opt",
        "max-size=1m",
        BUSYBOX,
        "echo",
        "hi",
    ])
    .code(0);
    assert_eq!(t.ok(["logs", &name]), "hi");
    let shown = "{{.HostConfig.LogConfig.Type}}|{{.LogPath}}";
    assert_eq!(t.ok(["inspect", "-f", shown, &name]), "local|");
    t.rbox(["create", "--log-driver", "local", "--log-opt", "labels=a", BUSYBOX])
        .refused(125, &["unknown log opt 'labels' for local log driver"]);
}

#[test]
fn with_a_terminal_all_is_one_stream() {
    let Some(t) = Test::start() else { return };
    let name = t.name("tty");
    t.ok(["run", "-d", "-t", "--name", &name, BUSYBOX, "sh", "-c", "echo out; echo err >&2"]);
    t.ok(["wait", &name]);
    assert_eq!(t.rbox(["logs", &name]).stdout, "out\r\nerr\r\n");
}
