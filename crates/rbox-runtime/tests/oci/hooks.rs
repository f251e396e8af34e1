//! Hooks: when each runs, where, with what, and what its failure does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::World;

const OUTSIDE: [&str; 5] = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];

/// Sets every hook to write down its name, its mount namespace, whether it sees the host's files and the state it gets.
fn write_down(world: &mut World) -> std::path::PathBuf {
    let out = world.bundle().join("hooks");
    let marker = world.bundle().join("config.json");
    for kind in OUTSIDE {
        let script = format!(
            "echo {kind} $(readlink /proc/self/ns/mnt) $(ls {marker} 2>&1 | wc -w) $(cat) >>{out}",
            marker = marker.display(),
            out = out.display()
        );
        world.hook(kind, &script);
    }
    world.hook(
        "startContainer",
        "echo startContainer $(readlink /proc/self/ns/mnt) $(id -u) $(cat) >/tmp/hook",
    );
    world.config["process"]["user"] = json!({"uid": 65534, "gid": 65534});
    fs::create_dir_all(world.rootfs().join("tmp")).unwrap();
    fs::set_permissions(world.rootfs().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    out
}

/// What hooks have written, taken away: kind, mount namespace, a word, state.
fn taken(path: &std::path::Path) -> Vec<(String, String, String, Value)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let _ = fs::remove_file(path);
    text.lines()
        .map(|line| {
            let mut words = line.splitn(4, ' ').map(str::to_owned);
            let mut next = || words.next().unwrap();
            let (kind, namespace, word) = (next(), next(), next());
            (kind, namespace, word, serde_json::from_str(&next()).unwrap())
        })
        .collect()
}

#[test]
fn each_at_its_moment_in_its_namespace() {
    let Some(mut world) = World::new("hooks") else { return };
    let out = write_down(&mut world);
    let own = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    let pid = world.create("one").unwrap();
    let inside = fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap().display().to_string();
    let seen = taken(&out);
    let kinds: Vec<&str> = seen.iter().map(|(kind, ..)| kind.as_str()).collect();
    assert_eq!(kinds, ["prestart", "createRuntime", "createContainer"]);
    for (kind, namespace, found, state) in &seen {
        let in_container = kind == "createContainer";
        assert_eq!(*namespace == own, !in_container, "{kind}");
        assert_eq!(*namespace == inside, in_container, "{kind}");
        // The host's root is still there.
        assert_eq!(found, "1", "{kind}");
        assert_eq!(state["status"], "creating", "{kind}");
        assert_eq!(state["pid"], if in_container { 1 } else { pid }, "{kind}");
        assert_eq!((&state["id"], &state["annotations"]["of"]), (&json!("one"), &json!("the test")));
    }

    let within = world.rootfs().join("tmp/hook");
    assert!(!within.exists());
    world.ok(&["start", "one"]);
    // Confined as the program is.
    let [(kind, namespace, uid, state)] = &taken(&within)[..] else { panic!() };
    assert_eq!((kind.as_str(), namespace, uid.as_str()), ("startContainer", &inside, "65534"));
    assert_eq!((&state["status"], &state["pid"]), (&json!("created"), &json!(1)));
    let [(kind, namespace, _, state)] = &taken(&out)[..] else { panic!() };
    assert_eq!((kind.as_str(), namespace), ("poststart", &own));
    assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(pid)));

    world.ok(&["kill", "one", "9"]);
    world.waits_for("one", "stopped");
    world.ok(&["delete", "one"]);
    let [(kind, namespace, _, state)] = &taken(&out)[..] else { panic!() };
    assert_eq!((kind.as_str(), namespace), ("poststop", &own));
    assert_eq!((&state["status"], state.get("pid")), (&json!("stopped"), None));
    world.has_nothing();
}

#[test]
fn one_that_fails_before_start_stops_the_container() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let Some(mut world) = World::new("hookfail") else { return };
        let out = write_down(&mut world);
        world.hook(kind, "echo it is so >&2; exit 7");
        let said = world.create("one").unwrap_err();
        assert!(said.contains(&format!("{kind} hook /bin/sh: exit status: 7: it is so")), "{said}");
        let kinds: Vec<String> = taken(&out).into_iter().map(|(kind, ..)| kind).collect();
        let before = OUTSIDE.iter().take_while(|one| **one != kind).chain(&["poststop"]);
        assert_eq!(kinds, before.copied().collect::<Vec<_>>());
        world.has_nothing();
    }
    let Some(mut world) = World::new("hookstart") else { return };
    let out = write_down(&mut world);
    world.hook("startContainer", "echo it is so >&2; exit 7");
    world.create("one").unwrap();
    world.fails(&["start", "one"], "startContainer hook /bin/sh: exit status: 7: it is so");
    world.waits_for("one", "stopped");
    assert_eq!(fs::read_to_string(world.bundle().join("log")).unwrap(), "");
    world.ok(&["delete", "one"]);
    assert_eq!(taken(&out).last().unwrap().0, "poststop");
    world.has_nothing();
}

#[test]
fn one_that_fails_after_start_is_a_warning() {
    let Some(mut world) = World::new("hookwarn") else { return };
    world.hook("poststart", "exit 7");
    world.hook("poststop", "exit 8");
    world.create("one").unwrap();
    assert_eq!(world.ok(&["start", "one"]), "oci: warning: poststart hook /bin/sh: exit status: 7");
    assert_eq!(world.status("one"), "running");
    let said = world.ok(&["delete", "--force", "one"]);
    assert_eq!(said, "oci: warning: poststop hook /bin/sh: exit status: 8");
    world.has_nothing();
}

#[test]
fn one_that_takes_too_long_is_ended() {
    for kind in ["createRuntime", "createContainer", "startContainer"] {
        let Some(mut world) = World::new("hooklate") else { return };
        world.hook(kind, "exec sleep 1000");
        world.config["hooks"][kind][0]["timeout"] = json!(1);
        let begin = Instant::now();
        let said = match world.create("one") {
            Err(said) => said,
            Ok(_) => world.run(&["start", "one"]).unwrap_err(),
        };
        assert!(said.contains(&format!("{kind} hook /bin/sh: ")), "{said}");
        assert!(begin.elapsed() < Duration::from_secs(15), "{kind}: {:?}", begin.elapsed());
        world.ok(&["delete", "--force", "one"]);
        world.has_nothing();
    }
}
