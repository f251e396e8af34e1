//! `--explain`: each real step as it happens.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::harness::{BUSYBOX, Test, has, skipped};

fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter(|l| l.starts_with('{'))
        .map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}")))
        .collect()
}

#[test]
fn for_people_it_is_lines_on_standard_error() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox(["run", "--rm", "--explain", BUSYBOX, "echo", "the program"]).code(0);
    assert_eq!(out.stdout, "the program\n");
    for call in ["clone3", "pivot_root", "sethostname", "execve", "mount"] {
        assert!(out.stderr.contains(call), "no {call}:\n{}", out.stderr);
    }
    assert!(
        out.stderr.contains("µs") || out.stderr.contains(" us") || out.stderr.contains("ms"),
        "no times:\n{}",
        out.stderr
    );
    assert!(out.stderr.lines().count() > 40, "{}", out.stderr);
}

#[test]
fn for_machines_it_is_json() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox(["run", "--rm", "--explain=json", BUSYBOX, "true"]).code(0);
    let events = events(&out.stderr);
    let text =
        |key: &str| events.iter().filter_map(|e| e[key].as_str()).map(str::to_owned).collect::<BTreeSet<_>>();
    let calls = text("syscall");
    for call in
        ["clone3", "pivot_root", "sethostname", "execve", "move_mount", "mkdirat", "seccomp", "capset"]
    {
        assert!(calls.contains(call) || calls.iter().any(|c| c.contains(call)), "no {call} in {calls:?}");
    }
    assert!(text("why").len() >= 10, "each step says why: {:?}", text("why"));
    for event in &events {
        if event["syscall"].is_string() {
            assert!(
                event["args"].is_string() && (event["result"].is_string() || event["result"].is_number()),
                "{event}"
            );
            assert!(event["us"].is_number(), "{event}");
        }
    }
}

/// The main flow is told in the order in which it is written down.
#[test]
fn the_order_is_the_flow() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox(["run", "--rm", "--explain=json", BUSYBOX, "true"]).code(0);
    let calls: Vec<String> =
        events(&out.stderr).iter().filter_map(|e| e["syscall"].as_str().map(str::to_owned)).collect();
    let place = |name: &str| {
        calls.iter().position(|c| c.starts_with(name)).unwrap_or_else(|| panic!("no {name}: {calls:?}"))
    };
    assert!(place("clone3") < place("pivot_root"));
    assert!(place("pivot_root") < place("sethostname") || place("sethostname") < place("execve"));
    assert!(place("pivot_root") < place("execve"));
    assert!(!out.stderr.contains("run the hooks"), "a step that nobody asked for is told");
}

/// strace sees the same calls: nothing is told that was not done, and nothing of note is left out.
#[test]
fn what_is_told_was_done() {
    let Some(t) = Test::start() else { return };
    if !has("strace") {
        return skipped("strace is not installed");
    }
    let trace = t.dir("strace").join("out");
    let out = Command::new("strace")
        .args(["-f", "-q", "-e", "trace=mount,pivot_root,sethostname,move_mount,fsopen,fsmount,open_tree,mount_setattr,umount2,clone3,setns", "-o"])
        .arg(&trace)
        .arg(crate::harness::binary())
        .args(["run", "--rm", "--explain=json", BUSYBOX, "true"])
        .env("RBOX_ROOT", &t.suite.root)
        .env("RBOX_STATE", &t.suite.state)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let told: Vec<String> = events(&String::from_utf8_lossy(&out.stderr))
        .iter()
        .filter_map(|e| e["syscall"].as_str().map(str::to_owned))
        .collect();
    let done = std::fs::read_to_string(&trace).unwrap();
    let count_done = |name: &str| {
        done.lines()
            .filter(|l| l.split_whitespace().nth(1).is_some_and(|c| c.starts_with(&format!("{name}("))))
            .count()
    };
    let count_told = |name: &str| told.iter().filter(|c| *c == name).count();
    for call in ["pivot_root", "sethostname", "move_mount", "fsopen", "clone3"] {
        assert!(
            count_told(call) > 0 && count_told(call) <= count_done(call),
            "{call}: told {} times, done {} times",
            count_told(call),
            count_done(call)
        );
    }
    assert_eq!(count_told("move_mount"), count_done("move_mount"));
}
