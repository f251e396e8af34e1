//! `--mount` and its fields, and the options of `-v`.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{BUSYBOX, Test, wait_until};

/// A directory or a file of a volume; links in it lead nowhere else.
#[test]
fn a_part_of_a_volume() {
    let Some(t) = Test::start() else { return };
    let volume = t.name("v");
    t.sh_with(["-v", &format!("{volume}:/v")], "mkdir -p /v/a/b; echo deep > /v/a/b/f; ln -s a/b /v/in; ln -s /a /v/root; ln -s ../../../../etc /v/out");
    let part = |below: &str, to: &str| format!("type=volume,src={volume},dst={to},volume-subpath={below}");
    assert_eq!(t.sh_with(["--mount", &part("a/b", "/m")], "cat /m/f; echo new > /m/g; ls /m"), "deep\nf\ng");
    assert_eq!(t.sh_with(["--mount", &part("a/b/f", "/m/file")], "cat /m/file"), "deep");
    assert_eq!(t.sh_with(["--mount", &part("in", "/m")], "cat /m/f"), "deep");
    assert_eq!(t.sh_with(["--mount", &part("root/b", "/m")], "cat /m/f"), "deep");
    let read_only = format!("{},readonly", part("a", "/m"));
    assert_eq!(
        t.sh_with(["--mount", &read_only], "cat /m/b/f; touch /m/x 2>/dev/null || echo refused"),
        "deep\nrefused"
    );
    let data = t.ok(["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
    for (below, why) in [
        ("absent", "no such file or directory"),
        ("out", "no such file or directory"),
        ("a/b/f/x", "not a directory"),
    ] {
        let run = t.rbox(["run", "--rm", "--mount", &part(below, "/m"), BUSYBOX, "true"]);
        run.refused(125, &[&format!("cannot access path {data}/{below}: {why}")]);
    }
    for below in ["..", "/a", "a/../.."] {
        let run = t.rbox(["run", "--rm", "--mount", &part(below, "/m"), BUSYBOX, "true"]);
        run.refused(
            125,
            &["invalid mount config for type \"volume\": subpath must be a relative path within the volume"],
        );
    }
    // What the image has there fills an empty part, too.
    let image = format!("{}/rbox/config", t.suite.registry);
    let data = part("a/empty", "/data");
    t.sh_with(["-v", &format!("{volume}:/v")], "mkdir /v/a/empty");
    let cat = t.cmd(["run", "--rm", "--entrypoint", "cat", "--mount", &data, &image, "/data/seed"]).run();
    assert_eq!(cat.ok(), "from the image");
    let nothing = format!("{},volume-nocopy", part("a/b", "/data"));
    let ls = t.cmd(["run", "--rm", "--entrypoint", "ls", "--mount", &nothing, &image, "/data"]).run();
    assert_eq!(ls.ok(), "f\ng");
}

/// While containers start, one that has the volume swaps the part that is mounted for links to the host.
#[test]
fn a_part_that_is_swapped_leads_nowhere_else() {
    let Some(t) = Test::start() else { return };
    let (volume, dir) = (t.name("v"), t.dir("canary"));
    fs::write(dir.join("secret"), "the host's").unwrap();
    t.sh_with(["-v", &format!("{volume}:/v")], "mkdir -p /v/way/part; echo volume > /v/way/part/f");
    let data = t.ok(["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
    let data = std::path::Path::new(&data);
    let up = format!("../../../../../../../../../..{}", dir.display());
    symlink(dir.as_path(), data.join("absolute")).unwrap();
    symlink(&up, data.join("relative")).unwrap();
    symlink(&up, data.join("way/relative")).unwrap();
    let done = AtomicBool::new(false);
    let (mut inside, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |a: &str, b: &str| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let _ = rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    data.join(a),
                    rustix::fs::CWD,
                    data.join(b),
                    flags,
                );
            };
            while !done.load(Ordering::Relaxed) {
                for (a, b) in [("way/part", "way/relative"), ("way", "absolute"), ("way", "relative")] {
                    exchange(a, b);
                    std::thread::sleep(Duration::from_micros(300));
                    exchange(a, b);
                    // As it was for a moment too: some starts are to find the part.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let _end = Done(&done);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(8) {
            let part = format!("src={volume},dst=/m,volume-subpath=way/part");
            let run = t.rbox(["run", "--rm", "--mount", &part, BUSYBOX, "ls", "/m"]);
            assert!(!run.stdout.contains("secret"), "the host's directory was mounted");
            match run.code {
                0 => inside += 1,
                _ => refused += 1,
            }
        }
    });
    println!("{inside} mounted, {refused} refused");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "something was made outside");
    assert!(inside > 0);
}

/// Tells a thread to end when it is dropped.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The mounts below a bind: there, and read-only with it, unless something else is asked for.
#[test]
fn what_is_mounted_below_a_bind() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("source");
    let below = dir.join("below");
    fs::create_dir(&below).unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&below).status();
    assert!(mounted.unwrap().success());
    let end = Unmount(below.clone());
    fs::write(below.join("f"), "x").unwrap();
    let script = "ls /m/below; touch /m/x 2>/dev/null && echo top; touch /m/below/x 2>/dev/null && echo below; rm -f /m/x /m/below/x 2>/dev/null; true";
    for (fields, seen) in [
        ("", "f\ntop\nbelow"),
        (",readonly", "f"),
        (",readonly,bind-recursive=enabled", "f"),
        (",readonly,bind-recursive=writable", "f\nbelow"),
        (",readonly,bind-recursive=readonly,bind-propagation=rprivate", "f"),
        (",bind-recursive=disabled", "top\nbelow"),
        (",bind-nonrecursive", "top\nbelow"),
        (",ro=true,bind-nonrecursive=1", ""),
    ] {
        let spec = format!("type=bind,src={},dst=/m{fields}", dir.display());
        assert_eq!(t.sh_with(["--mount", &spec], script), seen, "{fields}");
    }
    drop(end);
}

/// Unmounts when it is dropped.
struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A volume that is not there is made with the labels and options that are said with it.
#[test]
fn a_volume_as_its_mount_says() {
    let Some(t) = Test::start() else { return };
    let (volume, name) = (t.name("v"), t.name("c"));
    let spec = format!(
        "type=volume,src={volume},dst=/m,volume-label=app=db,volume-opt=type=tmpfs,volume-opt=device=tmpfs,\"volume-opt=o=size=1m,mode=0700\",consistency=cached"
    );
    t.ok(["create", "--name", &name, "--mount", &spec, BUSYBOX, "stat", "-c", "%a", "/m"]);
    let made: Value = serde_json::from_str(&t.ok(["volume", "inspect", &volume])).unwrap();
    assert_eq!(made[0]["Labels"], json!({ "app": "db" }));
    assert_eq!(made[0]["Options"], json!({ "type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0700" }));
    let mount = t.inspect(&name)["HostConfig"]["Mounts"][0].clone();
    assert_eq!(mount["VolumeOptions"]["DriverConfig"]["Options"]["type"], "tmpfs");
    assert_eq!(t.ok(["start", "-a", &name]), "700");
    let anonymous = "dst=/m,volume-opt=type=tmpfs,volume-opt=device=tmpfs";
    assert_eq!(t.sh_with(["--mount", anonymous], "df -P /m | tail -1 | cut -d' ' -f1"), "tmpfs");
    t.rbox(["create", "--mount", "src=bad,dst=/m,volume-opt=foo=bar", BUSYBOX])
        .refused(125, &["create bad: invalid option: \"foo\""]);
    wait_until("the anonymous one is gone", || t.ok(["volume", "ls", "-q"]) == volume);
}

/// `inspect` shows the options of `-v` as they were given.
#[test]
fn options_are_shown_as_given() {
    let Some(t) = Test::start() else { return };
    let (name, volume, dir) = (t.name("c"), t.name("v"), t.dir("d"));
    let binds = [
        format!("{}:/a:ro,z,rprivate", dir.display()),
        format!("{volume}:/b:nocopy,Z"),
        format!("{volume}:/c"),
    ];
    let mut args = vec!["create", "--name", &name];
    args.extend(binds.iter().flat_map(|bind| ["-v", bind.as_str()]));
    args.extend(["--mount", "type=bind,src=/tmp,dst=/e,readonly", BUSYBOX]);
    t.cmd(&args).run().ok();
    let inspect = t.inspect(&name);
    assert_eq!(inspect["HostConfig"]["Binds"], json!(binds));
    let mounts = inspect["Mounts"].as_array().unwrap();
    let mode = |target: &str| {
        let one = mounts.iter().find(|mount| mount["Destination"] == target).unwrap();
        (one["Mode"].as_str().unwrap().to_owned(), one["RW"].as_bool().unwrap())
    };
    assert_eq!(mode("/a"), ("ro,z,rprivate".to_owned(), false));
    assert_eq!(mode("/b"), ("nocopy,Z".to_owned(), true));
    assert_eq!(mode("/c"), (String::new(), true));
    assert_eq!(mode("/e"), (String::new(), false));
}
