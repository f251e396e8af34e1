//! Several commands at one container at once; and a start that fails.

use std::time::Duration;

use crate::harness::{BUSYBOX, Test, rounds, wait_until};

fn at_once<const N: usize>(t: &Test, args: [&[&str]; N]) {
    let all = args.map(|args| t.cmd(args.iter().copied()).limit(Duration::from_secs(15)).spawn());
    for one in all {
        let out = one.finish(Duration::from_secs(15));
        assert!(out.code == 0 && out.stderr.is_empty(), "{out:?}");
    }
}

#[test]
fn starts_at_once_are_one_start() {
    let Some(t) = Test::start() else { return };
    let name = t.name("job");
    t.ok(["create", "--name", &name, BUSYBOX, "sh", "-c", "echo run; sleep 1"]);
    at_once(&t, [&["start", &name], &["start", &name], &["start", &name]]);
    wait_until("it has ended", || t.status(&name) == "exited");
    assert_eq!(t.ok(["logs", &name]), "run");
}

#[test]
fn restarts_and_starts_at_once_leave_it_running() {
    let Some(t) = Test::start() else { return };
    let name = t.name("on");
    t.sleeper(&name, []);
    at_once(
        &t,
        [&["restart", "-t", "5", &name], &["restart", "-t", "5", &name], &["restart", "-t", "5", &name]],
    );
    assert_eq!(t.status(&name), "running");
    t.listens(&name);
    at_once(&t, [&["restart", "-t", "5", &name], &["start", &name], &["start", &name]]);
    assert_eq!(t.status(&name), "running");
}

/// How it ended the last time it ran stays known.
#[test]
fn a_start_that_fails_does_not_undo_an_end() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("job"), t.dir("source"));
    let mount = format!("type=bind,source={},target=/x", dir.display());
    t.rbox(["run", "--name", &name, "--mount", &mount, BUSYBOX, "sh", "-c", "exit 7"]).code(7);
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.FinishedAt}}";
    wait_until("it has ended", || t.status(&name) == "exited");
    let before = t.ok(["inspect", "-f", format, &name]);
    std::fs::remove_dir(&dir).unwrap();
    t.rbox(["start", &name]).refused(1, &["source"]);
    assert_eq!(t.ok(["inspect", "-f", format, &name]), before);
    assert!(t.ok(["inspect", "-f", "{{.State.Error}}", &name]).contains("source"));
    std::fs::create_dir(&dir).unwrap();
    t.ok(["start", &name]);
}

/// What a kill leaves of a rename and of records being written goes with the next command.
#[test]
fn leftovers_are_swept() {
    let Some(t) = Test::start() else { return };
    let name = t.name("job");
    let id = t.ok(["create", "--name", &name, BUSYBOX, "true"]);
    let network = t.suite.root.join("network/networks");
    std::fs::create_dir_all(&network).unwrap();
    let names = t.suite.root.join("names");
    let gone = "0".repeat(64);
    std::os::unix::fs::symlink(&id, names.join("formername")).unwrap();
    std::os::unix::fs::symlink(&gone, names.join("nobodys")).unwrap();
    std::fs::write(t.suite.root.join("tmp/4194305.0"), "{").unwrap();
    std::fs::write(network.join(".rb-0123456789ab.4194305"), "{").unwrap();
    assert!(t.ok(["ps", "-a", "--format", "{{.Names}}"]).contains(&name));
    t.ok(["network", "ls"]);
    let left = |dir: &std::path::Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(left(&names).join(" "), name);
    assert!(left(&t.suite.root.join("tmp")).is_empty());
    assert!(!left(&network).iter().any(|name| name.starts_with('.')));
    // The former name is free.
    t.ok(["create", "--name", "formername", BUSYBOX, "true"]);
}

/// Whoever comes second finds no container, and says no more than that.
#[test]
fn a_start_that_loses_to_rm_says_that_there_is_none() {
    let Some(t) = Test::start() else { return };
    let name = t.name("lost");
    for round in 0..rounds(40) {
        t.ok(["create", "--name", &name, BUSYBOX, "true"]);
        let mut args = vec!["start"];
        args.extend([&["-a"][..], &[]][round % 2]);
        let both = [&["rm", "-f", &name][..], &[&args[..], &[&name]].concat()]
            .map(|args| t.cmd(args.iter().copied()).spawn());
        let [removed, started] = both.map(|one| one.finish(Duration::from_mins(1)));
        removed.code(0);
        let expected = format!("rbox: No such container: {name}\n");
        let lost = started.code == 1 && started.stderr == expected;
        assert!(started.code == 0 || started.code == 137 || lost, "{started:?}");
    }
}
