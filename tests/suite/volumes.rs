//! Volumes: named, anonymous, and what happens to them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::crash::{Random, kill9};
use crate::harness::{BUSYBOX, Test, has, rounds, skipped, wait_until};

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
    for _ in 0..5 {
        t.ok(["run", "--rm", &image]);
        assert_eq!(t.ok(["volume", "ls", "-q"]), "");
    }
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

/// `rm -v` and `--rm` take an anonymous volume away unless another container mounts it, by its long name.
#[test]
fn an_anonymous_volume_that_another_container_mounts_stays() {
    let Some(t) = Test::start() else { return };
    let (first, second) = (t.name("first"), t.name("second"));
    for auto_remove in [false, true] {
        let flags = if auto_remove { ["--rm", "-v", "/data"] } else { ["--label=a=b", "-v", "/data"] };
        t.sleeper(&first, flags);
        t.ok(["exec", &first, "sh", "-c", "echo kept > /data/file"]);
        let volume = t.ok(["inspect", "-f", "{{(index .Mounts 0).Name}}", &first]);
        assert_eq!(volume.len(), 64);
        t.ok(["create", "--name", &second, "-v", &format!("{volume}:/other"), BUSYBOX, "cat", "/other/file"]);
        if auto_remove {
            t.ok(["stop", "-t", "5", &first]);
            wait_until("the first is gone", || t.rbox(["inspect", &first]).code == 1);
        } else {
            t.ok(["rm", "-f", "-v", &first]);
        }
        assert_eq!(t.ok(["start", "-a", &second]), "kept", "--rm: {auto_remove}");
        // Its second user named it, so it is not that one's to remove.
        t.ok(["rm", "-v", &second]);
        assert_eq!(t.ok(["volume", "ls", "-q"]), volume);
        t.ok(["volume", "rm", &volume]);
    }
}

#[test]
fn refusals_in_dockers_words() {
    let Some(t) = Test::start() else { return };
    let said = |args: &[&str], code: i32, words: &str| t.cmd(args).run().refused(code, &[words]);
    for spec in ["/a:", ":/b", ":", "ab::/x", "/a:/b:"] {
        said(
            &["create", "-v", spec, BUSYBOX],
            125,
            &format!("invalid spec: {spec}: empty section between colons"),
        );
    }
    said(&["create", "-v", "", BUSYBOX], 125, "invalid empty volume spec");
    let short = "create x: volume name is too short, names should be at least two alphanumeric characters";
    said(&["create", "-v", "x:/x", BUSYBOX], 125, short);
    said(&["create", "--mount", "type=volume,src=x,dst=/x", BUSYBOX], 125, short);
    said(&["volume", "create", "x"], 125, short);
    let characters =
        "includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed";
    said(&["volume", "create", "a b"], 125, characters);
    said(&["create", "-v", "a/b:/x", BUSYBOX], 125, characters);
    said(&["volume", "rm", "absent"], 1, "get absent: no such volume");
    said(&["volume", "inspect", "absent"], 1, "no such volume");
    assert_eq!(t.ok(["volume", "rm", "-f", "absent"]), "absent");
    let (volume, name) = (t.name("v"), t.name("c"));
    t.ok(["create", "--name", &name, "-v", &format!("{volume}:/x"), BUSYBOX]);
    let id = t.ok(["inspect", "-f", "{{.Id}}", &name]);
    said(&["volume", "rm", "-f", &volume], 1, &format!("remove {volume}: volume is in use - [{id}]"));
}

#[test]
fn prune_takes_what_docker_takes() {
    let Some(t) = Test::start() else { return };
    let (kept, named, name) = (t.name("kept"), t.name("named"), t.name("c"));
    t.ok(["volume", "create", "--label", "keep", &kept]);
    t.ok(["volume", "create", &named]);
    let anonymous = t.ok(["volume", "create", "--label", "stage=test"]);
    t.ok(["create", "--name", &name, "-v", "/used", BUSYBOX]);
    let left = || t.ok(["volume", "ls", "-q"]).lines().count();
    t.ok(["volume", "prune", "-f", "--filter", "label=other"]);
    assert_eq!(left(), 4);
    assert!(t.ok(["volume", "prune", "-f", "--filter", "label!=keep"]).contains(&anonymous));
    assert_eq!(left(), 3, "named ones and those in use stay");
    assert!(t.ok(["volume", "prune", "-f", "--filter", "all=1", "--filter", "label!=keep"]).contains(&named));
    assert!(t.ok(["volume", "prune", "-a", "-f"]).contains(&kept));
    assert_eq!(left(), 1);
    for key in ["until=24h", "dangling=true", "name=x"] {
        let key_alone = key.split('=').next().unwrap();
        t.rbox(["volume", "prune", "-f", "--filter", key])
            .refused(125, &[&format!("invalid filter '{key_alone}'")]);
    }
    t.rbox(["volume", "prune", "-a", "-f", "--filter", "all=true"])
        .refused(125, &["conflicting options: cannot specify both --all and --filter all=1"]);
    t.rbox(["volume", "update", &kept]).refused(125, &["cluster volumes of a swarm"]);
}

/// A volume's record that a power cut or a hand has damaged is told of; its data and all others are used as before.
#[test]
fn a_damaged_record_is_in_nobodys_way() {
    let Some(t) = Test::start() else { return };
    let (bad, good) = (t.name("bad"), t.name("good"));
    for volume in [&bad, &good] {
        t.ok(["volume", "create", "--label", "a=b", volume]);
    }
    t.sh_with(["-v", &format!("{bad}:/v")], "echo kept > /v/file");
    let record = t.suite.root.join("volumes").join(&bad).join("volume.json");
    for damage in ["", "{\"created\":", "\0\0\0\0"] {
        std::fs::write(&record, damage).unwrap();
        let out = t.rbox(["volume", "ls", "-q"]).code(0);
        assert_eq!(out.stdout, format!("{bad}\n{good}\n"));
        assert_eq!(out.stderr.lines().count(), 1, "{}", out.stderr);
        assert!(out.stderr.starts_with(&format!("rbox: warning: volume {bad}: ")), "{}", out.stderr);
        t.rbox(["volume", "inspect", &bad]).code(0);
        t.rbox(["system", "df"]).code(0);
        t.rbox(["volume", "prune", "-f"]).code(0);
        assert_eq!(
            t.sh_with(["-v", &format!("{bad}:/v"), "-v", &format!("{good}:/g")], "cat /v/file"),
            "kept"
        );
        // Used again, its record is good again.
        assert_eq!(t.rbox(["volume", "ls", "-q"]).code(0).stderr, "");
    }
    std::fs::remove_file(&record).unwrap();
    assert!(t.rbox(["volume", "ls", "-q"]).code(0).stderr.contains("volume.json"));
    t.ok(["volume", "rm", &bad]);
    t.ok(["volume", "rm", &good]);
}

/// Killed at any moment, `create` and `rm -v` leave no volume that nothing names and nothing half made.
#[test]
fn kills_leave_no_volume() {
    let Some(t) = Test::start() else { return };
    let mut random = Random::new();
    let volumes = t.suite.root.join("volumes");
    // What is being made and removed is in `.tmp`.
    let entries = |dir: &std::path::Path| -> Vec<_> {
        let all = std::fs::read_dir(dir).into_iter().flatten().flatten();
        all.map(|entry| entry.file_name()).filter(|name| name != ".tmp").collect()
    };
    let left = || [entries(&volumes), entries(&volumes.join(".tmp"))].concat();
    let mut cut_off = 0;
    for round in 0..rounds(120) {
        let name = t.name(&format!("r{round}"));
        let args = ["create", "--name", &name, "-v", "/a", "-v", "/b", "-v", "/c", BUSYBOX];
        let create = t.cmd(args).spawn();
        std::thread::sleep(Duration::from_micros(random.below(12_000)));
        kill9(create.id());
        cut_off += u32::from(create.finish(Duration::from_secs(20)).code != 0);
        let remove = t.cmd(["rm", "-f", "-v", &name]).spawn();
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_micros(random.below(12_000)));
            kill9(remove.id());
        }
        let _ = remove.finish(Duration::from_secs(20));
        // One that was made and has not got its name yet is known by its id.
        t.rbox(["ps", "-aq"]).code(0);
        for id in t.ok(["ps", "-aq"]).lines() {
            t.ok(["rm", "-v", id]);
        }
        assert!(left().is_empty(), "round {round}: {:?}", left());
    }
    println!("{cut_off} cut off");
}

/// Kinds of things in an image, and how two hundred of one are made.
const SWAPPED: [(&str, &str); 9] = [
    ("fifo", "mkfifo f$n; chmod 6777 f$n"),
    ("link", "ln -s x l$n"),
    ("character-device", "mknod c$n c 1 3; chmod 6777 c$n"),
    ("block-device", "mknod b$n b 7 250; chmod 6777 b$n"),
    ("file", "echo x > r$n; chmod 666 r$n"),
    ("set-id", "echo x > s$n; chown 7:7 s$n; chmod 6755 s$n"),
    ("directory", "mkdir -m 3777 d$n"),
    ("hard-link", "echo x > h$n; ln h$n i$n"),
    ("attribute", "echo x > a$n"),
];

/// While the image's content is copied into an empty volume, whoever has the volume already swaps each thing for a link.
#[test]
fn what_is_swapped_while_a_volume_is_filled() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("swap");
    let trees = SWAPPED.map(|(kind, make)| {
        format!("mkdir -p tree/{kind}; (cd tree/{kind}; for n in $(seq 200); do {make}; done)")
    });
    let attribute = "import os; [os.setxattr(f'tree/attribute/a{n}', 'user.k', b'v') for n in range(1, 201)]";
    let script = format!(
        "set -e; {}; python3 -c \"{attribute}\"; tar --xattrs --xattrs-include='*' -C tree -cf ../image.tar .",
        trees.join("; ")
    );
    let made = Command::new("sh").args(["-c", &script]).current_dir(&dir).status().unwrap();
    assert!(made.success());
    let image = "volumes/swap:1";
    let tar = dir.with_file_name("image.tar");
    t.ok(["import", "-c", "CMD [\"/x\"]", tar.to_str().unwrap(), image]);
    let (canary, beside) = (dir.join("canary"), dir.join("canaries"));
    std::fs::create_dir(&beside).unwrap();
    std::fs::write(&canary, "the host's").unwrap();
    std::fs::set_permissions(&canary, std::fs::Permissions::from_mode(0o600)).unwrap();
    // The time of the last change stands for all, attributes too.
    let look = || {
        [&canary, &beside].map(|path| {
            let meta = std::fs::metadata(path).unwrap();
            (meta.mode(), meta.uid(), meta.gid(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
        })
    };
    let before = look();
    let done = AtomicBool::new(false);
    let (data, aside) = (t.suite.root.join("volumes").join(t.name("v")).join("_data"), dir.join("aside"));
    std::fs::create_dir(&aside).unwrap();
    std::thread::scope(|scope| {
        // What a container does that has the volume: it is done here so that it is fast.
        let (done, canary, beside, data, aside) = (&done, &canary, &beside, &data, &aside);
        scope.spawn(move || {
            let link = aside.join("link");
            for n in 0_u64.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
                    let Ok(kind) = entry.file_type() else { continue };
                    if kind.is_dir() {
                        let away = aside.join(format!("{n}-{}", entry.file_name().to_string_lossy()));
                        let _ = std::fs::rename(entry.path(), away);
                        let _ = std::os::unix::fs::symlink(beside, entry.path());
                    } else if !kind.is_symlink()
                        || std::fs::read_link(entry.path()).is_ok_and(|to| to != *canary)
                    {
                        let _ = std::os::unix::fs::symlink(canary, &link);
                        let _ = std::fs::rename(&link, entry.path());
                    }
                }
            }
        });
        // Also when an assertion fails: the scope waits for the other thread.
        let _end = End(done);
        for (kind, _) in SWAPPED {
            for _ in 0..(rounds(20) / 4).max(3) {
                let volume = t.name("v");
                t.ok(["volume", "create", &volume]);
                // There is no program in the image; the volume is filled before that is found.
                let run = t.rbox(["run", "--rm", "-v", &format!("{volume}:/{kind}"), image]);
                assert!(run.code == 127 || run.code == 125, "{kind}: {run:?}");
                t.ok(["volume", "rm", &volume]);
                assert_eq!(look(), before, "{kind}: what is the host's was changed");
            }
        }
    });
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "the host's");
    assert_eq!(std::fs::read_dir(&beside).unwrap().count(), 0);
    t.ok(["rmi", image]);
}

/// Tells a thread to end when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A lock on a volume's data, which any container that mounts it can take, keeps no other from starting.
#[test]
fn a_locked_volume_keeps_nobody_from_starting() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let Some(t) = Test::start() else { return };
    if !has("flock") {
        return skipped("flock is not installed");
    }
    let volume = t.name("locked");
    t.ok(["volume", "create", &volume]);
    let data = t.ok(["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]);
    let mut holder = Command::new("flock")
        .args(["-F", "-x", &data, "sh", "-c", "echo held; exec sleep 1000"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let out = t.rbox(["run", "--rm", "-v", &format!("{volume}:/home"), BUSYBOX, "true"]);
    let _ = holder.kill();
    let _ = holder.wait();
    out.code(0);
    t.ok(["volume", "rm", &volume]);
}
