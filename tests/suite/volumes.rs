//! Volumes: named, anonymous, and what happens to them.

use serde_json::Value;

use crate::harness::{BUSYBOX, Test, wait_until};

#[test]
fn a_named_volume_outlives_containers() {
    let Some(t) = Test::start() else { return };
    let volume = t.name("data");
    let spec = format!("{volume}:/data");
    t.sh_with(["-v", &spec], "echo kept > /data/file");
    assert_eq!(t.sh_with(["-v", &spec], "cat /data/file"), "kept");
    assert_eq!(t.ok(["volume", "ls", "-q"]), volume);
    let all: Value = serde_json::from_str(&t.ok(["volume", "inspect", &volume])).unwrap();
    assert_eq!(all[0]["Name"], volume.as_str());
    assert_eq!(all[0]["Driver"], "local");
    let point = all[0]["Mountpoint"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(format!("{point}/file")).unwrap(), "kept\n");
    assert_eq!(t.ok(["volume", "rm", &volume]), volume);
    t.rbox(["volume", "inspect", &volume]).code(1);
}

#[test]
fn the_images_content_fills_an_empty_volume() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/config", t.suite.registry);
    let volume = t.name("seed");
    let spec = format!("{volume}:/data");
    let out = t.ok([
        "run",
        "--rm",
        "--entrypoint",
        "sh",
        "-u",
        "root",
        "-v",
        &spec,
        &image,
        "-c",
        "stat -c '%a %u:%g' /data; cat /data/seed; echo changed > /data/seed",
    ]);
    assert_eq!(out, "750 1234:100\nfrom the image");
    // A volume with content is not filled again.
    assert_eq!(t.ok(["run", "--rm", "--entrypoint", "cat", "-v", &spec, &image, "/data/seed"]), "changed");
}

#[test]
fn anonymous_volumes_go_with_rm() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/config", t.suite.registry);
    // VOLUME of the image, one container each way of going.
    t.ok(["run", "--rm", &image]);
    wait_until("the anonymous volume is gone", || t.ok(["volume", "ls", "-q"]).is_empty());
    let name = t.name("c");
    t.ok(["run", "--name", &name, "-v", "/more", &image]);
    assert_eq!(t.ok(["volume", "ls", "-q"]).lines().count(), 2);
    t.ok(["rm", "-v", &name]);
    assert_eq!(t.ok(["volume", "ls", "-q"]), "");
    t.ok(["run", "--name", &name, &image]);
    t.ok(["rm", &name]);
    assert_eq!(t.ok(["volume", "ls", "-q"]).lines().count(), 1, "without -v it stays");
    assert!(t.ok(["volume", "prune", "-f"]).contains("Total reclaimed space:"));
    assert_eq!(t.ok(["volume", "ls", "-q"]), "");
}

#[test]
fn a_volume_in_use_stays() {
    let Some(t) = Test::start() else { return };
    let (volume, name) = (t.name("v"), t.name("c"));
    t.ok(["create", "--name", &name, "-v", &format!("{volume}:/x"), BUSYBOX]);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    t.rbox(["volume", "rm", &volume]).refused(1, &["in use", &id[..12]]);
    t.ok(["volume", "prune", "-a", "-f"]);
    assert_eq!(t.ok(["volume", "ls", "-q"]), volume);
    t.ok(["rm", &name]);
    t.ok(["volume", "rm", &volume]);
}

#[test]
fn create_and_list() {
    let Some(t) = Test::start() else { return };
    let volume = t.name("made");
    assert_eq!(t.ok(["volume", "create", "--label", "a=b", &volume]), volume);
    // Again: it is there already, and that is fine.
    assert_eq!(t.ok(["volume", "create", &volume]), volume);
    let generated = t.ok(["volume", "create"]);
    assert_eq!(generated.len(), 64);
    let out = t.ok(["volume", "ls"]);
    assert_eq!(
        out.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["DRIVER", "VOLUME", "NAME"]
    );
    assert_eq!(t.ok(["volume", "ls", "-q", "-f", "label=a=b"]), volume);
    for bad in ["bad/name", "../escape", "-x", ""] {
        let out = t.rbox(["volume", "create", bad]);
        assert!(bad.is_empty() || out.code != 0, "`{bad}` is a name");
    }
    t.rbox(["volume", "rm", "no-such-volume"]).refused(1, &["no such volume"]);
}

#[test]
fn two_containers_share_one() {
    let Some(t) = Test::start() else { return };
    let spec = format!("{}:/s", t.name("shared"));
    let (a, b) = (t.name("a"), t.name("b"));
    t.sleeper(&a, ["-v", &spec]);
    t.sleeper(&b, ["-v", &format!("{spec}:ro")]);
    t.ok(["exec", &a, "sh", "-c", "echo hello > /s/f"]);
    assert_eq!(t.ok(["exec", &b, "cat", "/s/f"]), "hello");
    t.rbox(["exec", &b, "touch", "/s/x"]).code(1);
}
