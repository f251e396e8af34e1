//! Many containers: at once, and one after the other.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{BUSYBOX, Left, Test, project, rounds, wait_until};

#[test]
fn two_hundred_at_once() {
    let Some(t) = Test::start() else { return };
    let (began, all) = (Instant::now(), rounds(200));
    let mut ids = BTreeSet::new();
    for _ in 0..all {
        ids.insert(t.ok(["run", "-d", BUSYBOX, "sleep", "1000"]));
    }
    println!("{all} started one by one in {:?}", began.elapsed());
    let listed: BTreeSet<String> = t.ok(["ps", "-q", "--no-trunc"]).lines().map(str::to_owned).collect();
    assert_eq!(listed, ids);
    let began = Instant::now();
    t.ok(["ps"]);
    println!("ps over {all} took {:?}", began.elapsed());
    let addresses: BTreeSet<String> = ids
        .iter()
        .map(|id| t.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", id]))
        .collect();
    assert_eq!(addresses.len(), all, "an address is given twice");
    let one = ids.first().unwrap();
    let last = t.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", ids.last().unwrap()]);
    t.ok(["exec", "-d", ids.last().unwrap(), "sh", "-c", "echo hello | nc -l -p 7"]);
    wait_until("the last is reached from the first", || {
        t.rbox(["exec", one, "nc", "-w", "2", &last, "7"]).stdout == "hello\n"
    });
    let mut args = vec!["rm", "-f"];
    args.extend(ids.iter().map(String::as_str));
    let began = Instant::now();
    t.cmd(args).run().ok();
    println!("{all} removed in {:?}", began.elapsed());
    assert_eq!(t.ok(["ps", "-aq"]), "");
}

#[test]
fn fifty_in_parallel_by_eight_shells() {
    let Some(t) = Test::start() else { return };
    let all = rounds(50);
    // As arguments, not put into the text: the path of the program may have any letter.
    let script = format!(
        "seq {all} | xargs -P 8 -n 1 sh -c '\"$0\" run --rm --name \"$1-$2\" {BUSYBOX} sh -c \"hostname -i; exit 0\"' \"$0\" \"$1\""
    );
    let out = Command::new("sh")
        .args(["-c", &script])
        .arg(crate::harness::binary())
        .arg(t.name("p"))
        .env("RBOX_ROOT", &t.suite.root)
        .env("RBOX_STATE", &t.suite.state)
        .current_dir(project())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(
        String::from_utf8_lossy(&out.stdout).lines().count(),
        all,
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(t.ok(["ps", "-aq"]), "");
}

#[test]
fn ps_is_right_while_containers_come_and_go() {
    let Some(t) = Test::start() else { return };
    let stays = t.name("stays");
    t.sleeper(&stays, []);
    let rbox = crate::harness::binary().display().to_string();
    let script = format!("for n in $(seq 15); do {rbox} run --rm {BUSYBOX} true || exit 1; done");
    let mut busy: Vec<_> = (0..4)
        .map(|_| {
            Command::new("sh")
                .args(["-c", &script])
                .env("RBOX_ROOT", &t.suite.root)
                .env("RBOX_STATE", &t.suite.state)
                .spawn()
                .unwrap()
        })
        .collect();
    while busy.iter_mut().any(|one| one.try_wait().unwrap().is_none()) {
        let out = t.rbox(["ps", "-a", "--format", "{{.Names}}"]).code(0);
        assert!(out.stdout.lines().any(|l| l == stays), "{}", out.stdout);
    }
    for mut one in busy {
        assert!(one.wait().unwrap().success());
    }
}

#[test]
fn one_name_asked_for_by_many_is_given_once() {
    let Some(t) = Test::start() else { return };
    let name = t.name("only");
    let all: Vec<_> =
        (0..8).map(|_| t.cmd(["run", "-d", "--name", &name, BUSYBOX, "sleep", "1000"]).spawn()).collect();
    let codes: Vec<_> = all.into_iter().map(|one| one.finish(Duration::from_secs(30)).code).collect();
    assert_eq!(codes.iter().filter(|c| **c == 0).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|c| *c == 0 || *c == 125), "{codes:?}");
    assert_eq!(t.ok(["ps", "-aq"]).lines().count(), 1);
}

#[test]
fn a_hundred_in_a_row_leave_nothing() {
    let Some(t) = Test::start() else { return };
    for n in 0..rounds(100) {
        t.rbox(["run", "--rm", BUSYBOX, "sh", "-c", &format!("exit {n}")]).code(n as i32);
    }
    t.expect_nothing_left();
    // Nor open files of a monitor that stays: none does.
    wait_until("no process of rbox is left", || Left::look(t.suite).processes.is_empty());
}
