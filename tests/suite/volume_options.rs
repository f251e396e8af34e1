//! Volumes with options: file systems that are mounted while containers use them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::crash::kill9;
use crate::harness::{BUSYBOX, OwnRoots, Test, wait_until};

/// How often something is mounted at a path.
pub(crate) fn mounts_at(path: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.split(' ').nth(4) == path.to_str()).count()
}

pub(crate) fn mountpoint(t: &Test, volume: &str) -> PathBuf {
    t.ok(["volume", "inspect", "-f", "{{.Mountpoint}}", volume]).into()
}

fn mount(args: &[&str]) {
    assert!(std::process::Command::new("mount").args(args).status().unwrap().success(), "mount {args:?}");
}

/// Mounted with the first container, unmounted with the last, whatever the order.
#[test]
fn memory_with_a_size_and_an_owner() {
    let Some(t) = Test::start() else { return };
    let (volume, first, second) = (t.name("v"), t.name("first"), t.name("second"));
    let words = "o=size=1m,uid=1000,mode=0700,noexec";
    t.ok(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "--opt", words, &volume]);
    let inspect: Value = serde_json::from_str(&t.ok(["volume", "inspect", &volume])).unwrap();
    let wanted = json!({ "type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,mode=0700,noexec" });
    assert_eq!(inspect[0]["Options"], wanted);
    let data = mountpoint(&t, &volume);
    assert_eq!(mounts_at(&data), 0, "nothing uses it");
    let spec = format!("{volume}:/v");
    t.sleeper(&first, ["-v", &spec]);
    assert_eq!(t.ok(["exec", &first, "stat", "-c", "%a %u", "/v"]), "700 1000");
    t.ok(["exec", &first, "sh", "-c", "echo shared > /v/f"]);
    t.sleeper(&second, ["-v", &format!("{spec}:ro")]);
    assert_eq!(t.ok(["exec", &second, "cat", "/v/f"]), "shared");
    assert_eq!(mounts_at(&data), 1);
    assert_eq!(fs::read_to_string(data.join("f")).unwrap(), "shared\n", "the host sees it, too");
    let full = t.rbox(["exec", &first, "dd", "if=/dev/zero", "of=/v/big", "bs=64k", "count=32"]).code(1);
    assert!(full.stderr.contains("No space left"), "{}", full.stderr);
    let table = t.ok(["exec", &first, "grep", " /v ", "/proc/mounts"]);
    assert!(table.contains("noexec") && table.contains("size=1024k"), "{table}");
    t.rbox(["volume", "rm", &volume]).refused(1, &["volume is in use"]);
    t.ok(["stop", "-t", "5", &first]);
    assert_eq!(mounts_at(&data), 1, "the second has it");
    t.ok(["restart", "-t", "5", &second]);
    assert_eq!(
        (mounts_at(&data), t.ok(["exec", &second, "ls", "/v"])),
        (1, String::new()),
        "memory was given up"
    );
    t.ok(["rm", "-f", &second]);
    assert_eq!(mounts_at(&data), 0);
    assert_eq!(t.ok(["start", &first]), first);
    assert_eq!(mounts_at(&data), 1);
    t.ok(["rm", "-f", &first]);
    assert_eq!(mounts_at(&data), 0);
    assert_eq!(fs::read_dir(t.suite.state.join("volumes")).unwrap().count(), 0, "no mark is left");
}

#[test]
fn a_directory_of_the_host_by_a_name() {
    let Some(t) = Test::start() else { return };
    let (volume, sealed, dir) = (t.name("v"), t.name("sealed"), t.dir("data"));
    let device = format!("device={}", dir.display());
    t.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, &volume]);
    t.ok(["volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", &device, &sealed]);
    assert_eq!(t.sh_with(["-v", &format!("{volume}:/v")], "echo in > /v/f; cat /v/f"), "in");
    assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "in\n");
    let script = "cat /v/f; touch /v/x 2>/dev/null || echo refused";
    assert_eq!(t.sh_with(["-v", &format!("{sealed}:/v")], script), "in\nrefused");
    // What an image has there is copied into an empty one, as into every volume.
    let image = format!("{}/rbox/config", t.suite.registry);
    fs::remove_file(dir.join("f")).unwrap();
    let cat = t
        .cmd(["run", "--rm", "--entrypoint", "cat", "-v", &format!("{volume}:/data"), &image, "/data/seed"])
        .run();
    assert_eq!(cat.ok(), "from the image");
    assert!(dir.join("seed").exists());
    t.ok(["volume", "rm", &volume, &sealed]);
    assert!(dir.join("seed").exists(), "the host's data stays");
    // Any other file system, with all its options.
    for name in ["lower", "upper", "work"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    fs::write(dir.join("lower/f"), "below\n").unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    let words = format!("o=lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
    t.ok(["volume", "create", "-o", "type=overlay", "-o", "device=overlay", "-o", &words, &volume]);
    assert_eq!(t.sh_with(["-v", &format!("{volume}:/v")], "cat /v/f; echo x > /v/new"), "below");
    assert_eq!(fs::read_to_string(dir.join("upper/new")).unwrap(), "x\n");
}

#[test]
fn what_cannot_be_mounted_is_told_in_dockers_words() {
    let Some(t) = Test::start() else { return };
    for (options, why) in [
        (&["foo=bar"] as &[&str], "invalid option: \"foo\""),
        (&["type=tmpfs"], "missing required option: \"device\""),
        (&["device=/x"], "missing required option: \"type\""),
        (&["o=ro"], "missing required option: \"device\""),
        (&["size=10m"], "quota size requested but no quota support"),
    ] {
        let mut args = vec!["volume", "create"];
        args.extend(options.iter().flat_map(|option| ["-o", *option]));
        args.push("refused");
        t.cmd(&args).run().refused(125, &[&format!("create refused: {why}")]);
    }
    t.rbox(["volume", "create", "-d", "sshfs", "x1"]).refused(125, &["error looking up volume plugin sshfs"]);
    assert_eq!(t.ok(["volume", "ls", "-q"]), "");
    let volume = t.name("v");
    for (options, shown, why) in [
        (
            ["type=none", "o=bind", "device=/absent"],
            "mount /absent:",
            "flags: 0x1000: no such file or directory",
        ),
        (["type=nosuchfs", "o=ro", "device=x"], "mount x:", "no such device"),
        (["type=tmpfs", "o=size=big", "device=tmpfs"], "mount tmpfs:", "data: size=big: invalid argument"),
        (["type=none", "o=password=geheim", "device=/"], "password=********", "no such device"),
    ] {
        let [kind, words, device] = options;
        t.ok(["volume", "create", "-o", kind, "-o", words, "-o", device, &volume]);
        let failed = t.rbox(["run", "--rm", "-v", &format!("{volume}:/v"), BUSYBOX, "true"]);
        assert!(!failed.stderr.contains("geheim"), "{}", failed.stderr);
        let whole = format!(
            "error while mounting volume '{}': failed to mount local volume: ",
            mountpoint(&t, &volume).display()
        );
        failed.refused(125, &[&whole, shown, why]);
        assert_eq!(fs::read_dir(t.suite.state.join("volumes")).unwrap().count(), 0, "no mark is left");
        t.ok(["volume", "rm", &volume]);
    }
    // No server is asked before a container wants it.
    t.ok(["volume", "create", "-o", "type=nfs", "-o", "o=addr=192.0.2.1,rw", "-o", "device=:/x", &volume]);
}

/// Killed, with all that look after it, a container leaves its volume mounted: the next command finds that out.
#[test]
fn kills_leave_nothing_mounted() {
    let Some(t) = Test::start() else { return };
    let (volume, name, dir) = (t.name("v"), t.name("c"), t.dir("data"));
    fs::write(dir.join("kept"), "x").unwrap();
    let device = format!("device={}", dir.display());
    t.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, &volume]);
    let data = mountpoint(&t, &volume);
    let id = t.sleeper(&name, ["-v", &format!("{volume}:/v")]);
    let state = fs::read_to_string(t.suite.state.join("containers").join(&id).join("state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let pid = |key: &str| i32::try_from(state[key].as_i64().unwrap()).unwrap();
    kill9(pid("monitor"));
    kill9(pid("pid"));
    assert_eq!(mounts_at(&data), 1);
    wait_until("it is unmounted", || t.rbox(["ps"]).code == 0 && mounts_at(&data) == 0);
    t.ok(["rm", &name]);
    // A mark without a container, and a mount without a mark.
    let marks = t.suite.state.join("volumes").join(&volume);
    fs::create_dir(&marks).unwrap();
    fs::write(marks.join(&id), "").unwrap();
    let place = data.to_str().unwrap();
    mount(&["--bind", dir.to_str().unwrap(), place]);
    t.ok(["ps"]);
    assert_eq!((mounts_at(&data), marks.exists()), (0, false));
    mount(&["--bind", dir.to_str().unwrap(), place]);
    mount(&["--bind", dir.to_str().unwrap(), place]);
    t.ok(["volume", "rm", &volume]);
    assert_eq!(mounts_at(&data), 0);
    assert_eq!(fs::read_to_string(dir.join("kept")).unwrap(), "x", "what was mounted is the host's");
}

/// Nothing would be gained by it: the data is elsewhere.
#[test]
fn prune_and_df_leave_file_systems_alone() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("roots");
    let own = OwnRoots::at(dir.clone(), &t.suite.registry);
    let device = format!("device={}", dir.display());
    own.run(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device]).ok();
    let named = own.run(&["volume", "create", "plain"]).ok();
    assert_eq!(named, "plain");
    let df = own.run(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).ok();
    assert!(df.contains("Local Volumes 1"), "{df}");
    let pruned = own.run(&["volume", "prune", "-a", "-f"]).ok();
    assert!(pruned.contains("plain"), "{pruned}");
    let left = own.run(&["volume", "ls", "-q"]).ok();
    assert_eq!(left.lines().count(), 1, "{left}");
    // A reset takes the volume and leaves what was mounted.
    let data = own.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", &left]).ok();
    fs::create_dir(dir.join("kept")).unwrap();
    mount(&["--bind", dir.join("kept").to_str().unwrap(), &data]);
    fs::write(dir.join("kept/f"), "x").unwrap();
    own.run(&["system", "reset", "--force"]).ok();
    assert_eq!(mounts_at(Path::new(&data)), 0);
    assert_eq!(fs::read_to_string(dir.join("kept/f")).unwrap(), "x");
}
