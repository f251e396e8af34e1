//! What an older rbox left on disk is used by this one, and what a newer one left is refused and in nobody's way.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{BUSYBOX, OwnRoots, Test, binary, project, skipped, wait_until};

/// The id in `config.json` of the fixture.
const ID: &str = "03c861813500df657cf6aaf8547f03c1e38a03b1a7021a24554beb57e37f184b";
const NETWORK: &str = "7c43c063fc1f9b1efcc7c732bccbe419f533796d928c8f92b10965f70a4e3116";

/// Puts the records of a build without record versions below `own`. Commit 2b9fb0e wrote them for `run --name ended hello`,
/// `volume create --label made=old fixture` and `network create --label made=old fixture`; only the root's path was
/// replaced by ROOT.
fn put_old_records(own: &OwnRoots) -> PathBuf {
    let from = |name: &str| {
        let text = fs::read_to_string(project().join("tests/suite/records/2b9fb0e").join(name)).unwrap();
        text.replace("ROOT", own.root.to_str().unwrap())
    };
    assert!(!from("config.json").contains("record_version"));
    let container = own.root.join("containers").join(ID);
    let volume = own.root.join("volumes/fixture");
    let networks = own.root.join("network/networks");
    for dir in [&container, &volume.join("_data"), &networks, &own.root.join("names")] {
        fs::create_dir_all(dir).unwrap();
    }
    fs::write(container.join("config.json"), from("config.json")).unwrap();
    fs::write(container.join("exit.json"), from("exit.json")).unwrap();
    fs::write(volume.join("volume.json"), from("volume.json")).unwrap();
    fs::write(networks.join(format!("{NETWORK}.json")), from("network.json")).unwrap();
    std::os::unix::fs::symlink(ID, own.root.join("names/ended")).unwrap();
    container
}

fn version_in(path: &Path) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    value["record_version"].as_u64()
}

#[test]
fn records_without_a_version_are_read_and_written_with_one() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "old", &t.suite.registry);
    let container = put_old_records(&own);
    let shown = own.run(&["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.State}}"]).ok();
    assert_eq!(shown, "ended hello exited");
    assert_eq!(own.run(&["volume", "inspect", "-f", "{{.Labels.made}}", "fixture"]).ok(), "old");
    assert_eq!(own.run(&["network", "inspect", "-f", "{{.Labels.made}}", "fixture"]).ok(), "old");
    own.run(&["rename", "ended", "renamed"]).ok();
    assert_eq!(version_in(&container.join("config.json")), Some(7));
    assert_eq!(own.run(&["inspect", "-f", "{{.Name}} {{.State.ExitCode}}", "renamed"]).ok(), "/renamed 0");
    own.run(&["rm", "renamed"]).ok();
    own.run(&["network", "rm", "fixture"]).ok();
    own.run(&["volume", "rm", "fixture"]).ok();
}

/// Makes the record at `path` one of a newer rbox: its text before.
fn make_newer(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["record_version"] = 9.into();
    record["written_by"] = "7.8.9".into();
    fs::write(path, record.to_string()).unwrap();
    text
}

#[test]
fn a_newer_record_is_refused_and_in_nobodys_way() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "new", &t.suite.registry);
    let container = put_old_records(&own);
    own.run(&["run", "--name", "other", BUSYBOX, "true"]).ok();
    for file in ["config.json", "exit.json"] {
        let path = container.join(file);
        let before = make_newer(&path);
        let shown = own.run(&["ps", "-a", "--format", "{{.State}}"]).ok();
        assert_eq!(shown, "exited\ndead", "{file}");
        let why = own.run(&["inspect", "-f", "{{.State.Error}}", ID]).ok();
        assert!(why.contains("record version 9, which needs rbox 7.8.9 or newer"), "{file}: {why}");
        for args in [
            &["start", ID][..],
            &["restart", ID],
            &["stop", ID],
            &["rename", ID, "new"],
            &["update", "-m", "100m", ID],
            &["network", "connect", "bridge", ID],
        ] {
            own.run(args).refused(1, &["needs rbox 7.8.9 or newer"]);
        }
        assert!(fs::read_to_string(&path).unwrap().contains("7.8.9"), "{file} is written over");
        fs::write(&path, before).unwrap();
    }
    assert_eq!(own.run(&["inspect", "-f", "{{.State.Status}}", "ended"]).ok(), "exited");
}

/// It runs under a newer rbox: this one neither takes it for ended nor takes it away.
#[test]
fn a_container_that_runs_under_a_newer_rbox_is_left_to_it() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "newlive", &t.suite.registry);
    let id = own.run(&["run", "-d", "--name", "lives", BUSYBOX, "sleep", "1000"]).ok();
    let state = own.state.join("containers").join(&id).join("state.json");
    let before = make_newer(&state);
    for args in
        [&["rm", "-f", &id][..], &["rm", &id], &["stop", &id], &["start", &id], &["exec", &id, "true"]]
    {
        own.run(args).refused(1, &["record version 9, which needs rbox 7.8.9 or newer"]);
    }
    assert_eq!(own.run(&["ps", "-a", "--format", "{{.State}}"]).ok(), "dead");
    fs::write(&state, before).unwrap();
    assert_eq!(own.run(&["exec", "lives", "echo", "here"]).ok(), "here");
    own.run(&["rm", "-f", "lives"]).ok();
}

/// With `maker` makes what `user` then works with: each command of its life.
fn walk(own: &OwnRoots, maker: &Path, user: &Path) {
    let make = |args: &[&str]| own.other(maker, args).run().ok();
    let using = |args: &[&str]| own.other(user, args).run().ok();
    let running = |name: &str| using(&["inspect", "-f", "{{.State.Running}}", name]) == "true";
    make(&["network", "create", "--label", "made=here", "net"]);
    make(&["volume", "create", "--label", "made=here", "data"]);
    let script = "trap 'exit 0' TERM; echo out; while :; do sleep 0.1; done";
    let flags = ["run", "-d", "--name", "one", "--network", "net", "-v", "data:/data", "-p", "127.0.0.1::80"];
    make(&[&flags[..], &[BUSYBOX, "sh", "-c", script]].concat());
    make(&["run", "-d", "--name", "again", "--restart", "always", BUSYBOX, "sh", "-c", "sleep 0.2; exit 3"]);
    make(&["create", "--name", "made", BUSYBOX, "echo", "made"]);

    assert_eq!(using(&["ps", "-a", "--format", "{{.Names}}"]), "made\nagain\none");
    assert_eq!(using(&["exec", "one", "echo", "in"]), "in");
    wait_until("its output in the log", || using(&["logs", "one"]) == "out");
    assert!(using(&["port", "one"]).starts_with("80/tcp -> 127.0.0.1:"));
    // These go through messages to the monitor that the other build runs.
    using(&["network", "connect", "bridge", "one"]);
    using(&["network", "disconnect", "bridge", "one"]);
    using(&["update", "--memory", "64m", "--memory-swap", "64m", "one"]);
    using(&["rename", "one", "uno"]);
    let count = || using(&["inspect", "-f", "{{.RestartCount}}", "again"]).parse::<u32>().unwrap();
    let before = count();
    wait_until("restarted by policy", || count() > before);
    using(&["stop", "uno"]);
    assert!(!running("uno"));
    using(&["start", "uno"]);
    using(&["restart", "uno"]);
    assert!(running("uno"));
    assert_eq!(using(&["start", "-a", "made"]), "made");
    using(&["stop", "again"]);
    assert!(!running("again"));
    using(&["rm", "-f", "uno", "again", "made"]);
    using(&["volume", "rm", "data"]);
    using(&["network", "rm", "net"]);
    assert_eq!(using(&["ps", "-aq"]), "");
}

#[test]
fn live_containers_of_an_older_build_go_on_with_this_one_and_back() {
    let Some(t) = Test::start() else { return };
    let Ok(old) = std::env::var("RBOX_TEST_OLD_BINARY") else {
        return skipped("RBOX_TEST_OLD_BINARY names no binary of an older build");
    };
    let own = OwnRoots::new(&t, "both", &t.suite.registry);
    let old = Path::new(&old);
    walk(&own, old, &binary());
    walk(&own, &binary(), old);
}
