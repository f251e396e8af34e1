//! `--volumes-from`: the mounts of another container.

use serde_json::{Value, json};

use crate::harness::{BUSYBOX, Test, wait_until};

/// A container that never ran is enough: all it mounts is mounted, and what is written is there for others.
#[test]
fn the_mounts_of_a_container_that_does_not_run() {
    let Some(t) = Test::start() else { return };
    let (base, volume, dir) = (t.name("base"), t.name("named"), t.dir("bind"));
    std::fs::write(dir.join("f"), "of the host\n").unwrap();
    let bind = format!("{}:/bind:ro", dir.display());
    let named = format!("{volume}:/named");
    t.ok(["create", "--name", &base, "-v", "/anonymous", "-v", &named, "-v", &bind, BUSYBOX]);
    let all = ["--volumes-from", base.as_str()];
    t.sh_with(all, "echo one > /anonymous/f; echo two > /named/f; ! touch /bind/x 2>/dev/null");
    assert_eq!(t.sh_with(all, "cat /anonymous/f /named/f /bind/f"), "one\ntwo\nof the host");
    let read_only = format!("{base}:ro");
    let script = "cat /named/f; touch /named/x 2>/dev/null || echo refused; touch /anonymous/x 2>/dev/null || echo refused";
    assert_eq!(t.sh_with(["--volumes-from", &read_only], script), "two\nrefused\nrefused");
    // By the beginning of its id, and through one that has them from it.
    let id = t.ok(["inspect", "-f", "{{.Id}}", &base]);
    let between = t.name("between");
    t.ok(["create", "--name", &between, "--volumes-from", &id[..12], BUSYBOX]);
    assert_eq!(t.sh_with(["--volumes-from", &between], "cat /anonymous/f"), "one");
    assert_eq!(t.ok(["volume", "ls", "-q"]).lines().count(), 2, "no volume is made anew");
}

#[test]
fn what_a_container_has_of_its_own_wins() {
    let Some(t) = Test::start() else { return };
    let (first, second, own) = (t.name("first"), t.name("second"), t.name("own"));
    for base in [&first, &second] {
        t.ok([
            "create",
            "--name",
            base,
            "-v",
            &format!("{base}:/data"),
            "-v",
            &format!("{base}:/{base}"),
            BUSYBOX,
        ]);
        t.sh_with(["-v", &format!("{base}:/v")], &format!("echo {base} > /v/f"));
    }
    let flag = "--volumes-from";
    assert_eq!(t.sh_with([flag, &first, flag, &second], "cat /data/f"), second, "the later of two");
    let both = t.sh_with([flag, &second, flag, &first], &format!("cat /data/f /{second}/f"));
    assert_eq!(both, format!("{first}\n{second}"));
    let script = format!("ls /data; cat /{first}/f");
    assert_eq!(t.sh_with([flag, &first, "-v", &format!("{own}:/data")], &script), first);
    assert_eq!(t.sh_with([flag, &first, "--tmpfs", "/data"], &script), first);
    // The image's VOLUME too is not made where there is something.
    let image = format!("{}/rbox/config", t.suite.registry);
    t.ok(["pull", "-q", &image]);
    let volume: Value =
        serde_json::from_str(&t.ok(["inspect", "-f", "{{json .Config.Volumes}}", &image])).unwrap();
    let target = volume.as_object().unwrap().keys().next().unwrap().clone();
    let (base, user) = (t.name("base"), t.name("user"));
    t.ok(["create", "--name", &base, "-v", &format!("{own}:{target}"), BUSYBOX]);
    t.ok(["create", "--name", &user, "--volumes-from", &base, &image]);
    let mounts = t.inspect(&user)["Mounts"].clone();
    assert_eq!(mounts.as_array().unwrap().len(), 1, "{mounts}");
    assert_eq!(mounts[0]["Name"], own.as_str());
}

#[test]
fn inspect_shows_whose_mounts_they_are() {
    let Some(t) = Test::start() else { return };
    let (base, user, volume) = (t.name("base"), t.name("user"), t.name("v"));
    t.ok(["create", "--name", &base, "-v", &format!("{volume}:/v"), "--tmpfs", "/t", BUSYBOX]);
    let from = format!("{base}:ro");
    t.ok(["create", "--name", &user, "--volumes-from", &from, BUSYBOX]);
    let inspect = t.inspect(&user);
    assert_eq!(inspect["HostConfig"]["VolumesFrom"], json!([from]));
    assert_eq!(inspect["HostConfig"]["Binds"], Value::Null);
    assert_eq!(inspect["HostConfig"]["Tmpfs"], Value::Null, "memory is nobody else's");
    let mounts = inspect["Mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 1);
    assert_eq!((&mounts[0]["Name"], &mounts[0]["RW"]), (&json!(volume), &json!(false)));
    t.rbox(["volume", "rm", &volume]).refused(1, &["volume is in use"]);
    t.ok(["rm", &base]);
    t.rbox(["volume", "rm", &volume]).refused(1, &["volume is in use"]);
}

/// An anonymous volume goes with the last container that has it.
#[test]
fn a_shared_anonymous_volume_goes_with_the_last() {
    let Some(t) = Test::start() else { return };
    let (base, user) = (t.name("base"), t.name("user"));
    let left = || t.ok(["volume", "ls", "-q"]).lines().count();
    for first_to_go in [true, false] {
        t.ok(["create", "--name", &base, "-v", "/data", BUSYBOX]);
        t.ok(["create", "--name", &user, "--volumes-from", &base, BUSYBOX, "cat", "/data/f"]);
        t.sh_with(["--volumes-from", &base], "echo kept > /data/f");
        assert_eq!(left(), 1, "--rm of a third one leaves it");
        let (first, last) = if first_to_go { (&base, &user) } else { (&user, &base) };
        t.ok(["rm", "-v", first]);
        assert_eq!(left(), 1);
        if first_to_go {
            assert_eq!(t.ok(["start", "-a", last]), "kept");
        }
        t.ok(["rm", "-v", last]);
        assert_eq!(left(), 0);
    }
    t.sleeper(&base, ["--rm", "-v", "/data"]);
    t.ok(["create", "--name", &user, "--volumes-from", &base, BUSYBOX]);
    t.ok(["stop", "-t", "5", &base]);
    wait_until("the first is gone", || t.rbox(["inspect", &base]).code == 1);
    assert_eq!(left(), 1);
    t.ok(["rm", "-v", &user]);
    assert_eq!(left(), 0);
}

#[test]
fn refusals_in_dockers_words() {
    let Some(t) = Test::start() else { return };
    let base = t.name("base");
    t.ok(["create", "--name", &base, "-v", "/data", BUSYBOX]);
    for (from, why) in [
        ("absent", "No such container: absent"),
        ("", "volumes-from specification cannot be an empty string"),
        (&format!("{base}:nocopy"), "invalid mode: nocopy"),
        (&format!("{base}:rslave"), "invalid mode: rslave"),
        (&format!("{base}:ro,rw"), "invalid mode: ro,rw"),
    ] {
        t.rbox(["run", "--rm", "--volumes-from", from, BUSYBOX, "true"]).refused(125, &[why]);
    }
    let code = t.rbox(["create", "--volumes-from", "absent", BUSYBOX]).code;
    assert_eq!(code, t.rbox(["create", "--network", "container:absent", BUSYBOX]).code);
    assert_eq!(t.ok(["ps", "-aq"]).lines().count(), 1, "nothing is left of what was refused");
}
