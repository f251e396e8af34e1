//! `diff`: what a container has changed; `commit`: an image of it.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{BUSYBOX, OwnRoots, PYTHON, Test, rounds, wait_until};

#[test]
fn a_container_that_changed_nothing() {
    let Some(t) = Test::start() else { return };
    let name = t.name("still");
    t.ok(["create", "--name", &name, BUSYBOX, "true"]);
    assert_eq!(t.ok(["diff", &name]), "", "created");
    t.ok(["start", "-a", &name]);
    assert_eq!(t.ok(["diff", &name]), "", "ended");
    t.ok(["rm", &name]);
    // With all that is mounted by itself, in an image where nothing of it is there.
    let dir = t.dir("bare");
    let (dir, tar) = (dir.to_str().unwrap(), dir.with_extension("tar"));
    t.ok(["run", "--rm", "-v", &format!("{dir}:/out"), BUSYBOX, "cp", "/bin/busybox", "/out/"]);
    t.program("tar", ["-C", dir, "-cf", tar.to_str().unwrap(), "."]).run().ok();
    t.ok(["import", tar.to_str().unwrap(), "diff/bare:1"]);
    for flags in [&[][..], &["--init"], &["--privileged"], &["--read-only"], &["--network", "host"]] {
        let args = [&["run", "--name", &name], flags, &["diff/bare:1", "/busybox", "true"]].concat();
        t.cmd(args).run().ok();
        assert_eq!(t.ok(["diff", &name]), "", "{flags:?}");
        t.ok(["rm", &name]);
    }
    t.ok(["rmi", "diff/bare:1"]);
    t.ok(["run", "--name", &name, "hello"]);
    assert_eq!(t.ok(["diff", &name]), "", "hello");
}

#[test]
fn changes_as_docker_prints_them() {
    let Some(t) = Test::start() else { return };
    let name = t.name("changes");
    let script = "echo x > /etc/new; rm /usr/bin/env; chmod 711 /srv; chown 7 /mnt; touch -d @1 /etc/issue
        rm -r /var/lib/dpkg; mkdir -p /var/lib/dpkg/a; rm -r /opt; echo > /opt; echo y > /etc/hosts
        chmod 644 /etc/shells; mkdir /dir; mkfifo /dir/fifo; ln -s /nowhere /dir/link; touch \"$(printf '/tmp/a\\033\\nb')\"";
    t.ok(["run", "--name", &name, PYTHON, "sh", "-ec", script]);
    let out = t.ok(["diff", &name]);
    let dpkg = |line: &&str| line.starts_with("D /var/lib/dpkg/");
    assert!(out.lines().any(|line| line == "D /var/lib/dpkg/status"), "{out}");
    let others: Vec<&str> = out.lines().filter(|line| !dpkg(line)).collect();
    assert_eq!(
        others,
        [
            "A /dir",
            "A /dir/fifo",
            "A /dir/link",
            "C /etc",
            "C /etc/issue",
            "A /etc/new",
            "C /mnt",
            "C /opt",
            "C /srv",
            "C /tmp",
            "A /tmp/a\\x1b\\nb",
            "C /usr",
            "C /usr/bin",
            "D /usr/bin/env",
            "C /var",
            "C /var/lib",
            "C /var/lib/dpkg",
            "A /var/lib/dpkg/a",
        ]
    );
    assert_eq!(t.ok(["container", "diff", &name]), out);
}

#[test]
fn of_one_that_runs_or_is_paused() {
    let Some(t) = Test::start() else { return };
    let name = t.name("runs");
    t.sleeper(&name, ["-v", "/data", "--mount", "type=tmpfs,target=/scratch/deep", "-w", "/zone"]);
    t.ok(["exec", &name, "sh", "-c", "touch /data/in /scratch/deep/in /zone/in"]);
    // Where something is mounted is shown, what is in it not: as with Docker.
    let wanted = "A /data\nA /scratch\nA /scratch/deep\nA /zone\nA /zone/in";
    assert_eq!(t.ok(["diff", &name]), wanted);
    t.ok(["pause", &name]);
    assert_eq!(t.ok(["diff", &name]), wanted);
    t.ok(["unpause", &name]);
    t.ok(["exec", &name, "rm", "/zone/in"]);
    assert_eq!(t.ok(["diff", &name]), "A /data\nA /scratch\nA /scratch/deep\nA /zone");
}

#[test]
fn wrong_input_to_diff() {
    let Some(t) = Test::start() else { return };
    t.rbox(["diff", "nosuch"]).refused(1, &["No such container: nosuch"]);
    t.rbox(["diff"]).refused(125, &["--help"]);
    t.rbox(["diff", "a", "b"]).refused(125, &["--help"]);
    t.rbox(["diff", "--format", "json", "nosuch"]).refused(125, &["--format"]);
}

/// Every entry of the container's tree with all that a layer keeps of it, but for what is mounted.
const LISTING: &str = "
import os,hashlib,stat
for d,ds,fs in os.walk('/'):
    if d=='/': ds[:]=sorted(set(ds)-{'proc','sys','dev'})
    for n in sorted(ds+fs):
        p=os.path.join(d,n)
        if p in('/etc/hosts','/etc/hostname','/etc/resolv.conf'): continue
        s=os.lstat(p); k=stat.S_IFMT(s.st_mode)
        more=[os.readlink(p)] if k==stat.S_IFLNK else [s.st_size,s.st_nlink,s.st_mtime_ns,hashlib.sha256(open(p,'rb').read()).hexdigest()] if k==stat.S_IFREG else []
        xattrs=[(x,os.getxattr(p,x,follow_symlinks=False)) for x in sorted(os.listxattr(p,follow_symlinks=False))]
        print(p,oct(s.st_mode),s.st_uid,s.st_gid,s.st_rdev,more,xattrs)
";

#[test]
fn the_image_has_the_tree_that_the_container_had() {
    let Some(t) = Test::start() else { return };
    let name = t.name("tree");
    let script = "mkdir -p /a/b; echo x > /a/file; ln /a/file /a/b/link; ln /a/file /hard; ln -s nowhere /a/dangling
        cp /bin/ls /a/suid; chmod 6755 /a/suid; chown -h 7:8 /a/dangling /a/b; chmod 1777 /a/b; mkfifo -m 640 /a/fifo
        rm /usr/bin/env /etc/issue; rm -r /opt; echo file > /opt; rm -r /var/lib/dpkg; mkdir -p /var/lib/dpkg/new
        rm /etc/shells; mkdir /etc/shells; echo y > /etc/shells/z; chown 33:44 /srv; chmod 700 /mnt; touch -d @1 /home
        truncate -s 3M /a/sparse; : > /a/.hidden; touch \"$(printf '/a/b\\nc \\351')\"; mv /etc/passwd /etc/users; cp /etc/users /etc/passwd
        python3 -c 'import os; os.setxattr(\"/a/file\",\"user.note\",b\"1\"); os.setxattr(\"/srv\",\"user.dir\",b\"2\")'";
    let script = format!("{script}\npython3 -c \"$0\"");
    let quiet = ["-e", "PYTHONDONTWRITEBYTECODE=1", "-e", "PYTHONIOENCODING=utf-8:surrogateescape"];
    let run = |what: &str, image: &str, command: &[&str]| {
        let name = t.name(what);
        t.cmd([&["run", "--name", &name], &quiet[..], &[image], command].concat()).run().ok()
    };
    let before = run("tree", PYTHON, &["sh", "-ec", &script, LISTING]);
    t.ok(["commit", &name, "commit/tree:1"]);
    let after = run("after", "commit/tree:1", &["python3", "-c", LISTING]);
    for (before, after) in before.lines().zip(after.lines()) {
        assert_eq!(before, after);
    }
    assert_eq!(before.lines().count(), after.lines().count());
    let (first, again) = (t.inspect("commit/tree:1"), t.ok(["commit", &name]));
    assert_eq!(first["RootFS"], t.inspect(&again)["RootFS"], "two images of one container share all layers");
    t.ok(["rmi", &again]);
    assert!(
        after.contains("/a/suid 0o106755") && after.contains("user.note") && !after.contains("/etc/issue ")
    );
    // Nothing was changed since: nothing is told of a container of it.
    assert_eq!(t.ok(["diff", &t.name("after")]), "");
    for container in ["tree", "after"] {
        t.ok(["rm", &t.name(container)]);
    }
    t.ok(["rmi", "commit/tree:1"]);
}

#[test]
fn configuration_and_history() {
    let Some(t) = Test::start() else { return };
    let name = t.name("config");
    t.cmd([
        "run",
        "--name",
        &name,
        "-e",
        "A=1",
        "--label",
        "x=y",
        "-u",
        "7",
        "-w",
        "/tmp",
        "-v",
        "/anon",
        "-v",
        "/etc:/host:ro",
    ])
    .args(&["--stop-signal", "INT", "--expose", "90", BUSYBOX, "sh", "-c", "echo x > /tmp/x"])
    .run()
    .ok();
    let id = t
        .cmd([
            "commit",
            "-a",
            "Ann <a@b>",
            "-m",
            "why",
            "-c",
            "ENV B=$A",
            "-c",
            "ENTRYPOINT [\"/bin/cat\"]",
            "-c",
            "LABEL x=z",
        ])
        .args(&[&name, "commit/config:1"])
        .run()
        .ok();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    let image = t.inspect(&id);
    let base = t.inspect(BUSYBOX);
    assert_eq!(image["RepoTags"], serde_json::json!(["commit/config:1"]));
    assert_eq!(
        (&image["Author"], &image["Comment"], &image["Parent"]),
        (&"Ann <a@b>".into(), &"why".into(), &base["Id"])
    );
    let config = &image["Config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/bin/cat"]));
    // A new entrypoint takes the command along, as with Docker.
    assert_eq!(config["Cmd"], Value::Null);
    assert_eq!(
        (&config["User"], &config["WorkingDir"], &config["StopSignal"]),
        (&"7".into(), &"/tmp".into(), &"INT".into())
    );
    assert_eq!(config["Volumes"], serde_json::json!({ "/anon": {} }));
    assert_eq!(config["ExposedPorts"], serde_json::json!({ "90/tcp": {} }));
    assert_eq!(config["Labels"]["x"], "z");
    assert!(config["Env"].as_array().unwrap().iter().any(|variable| variable == "B=1"));
    let layers = |image: &Value| image["RootFS"]["Layers"].as_array().unwrap().clone();
    assert_eq!(layers(&image)[..layers(&base).len()], layers(&base));
    assert_eq!(layers(&image).len(), layers(&base).len() + 1);
    let history =
        t.ok(["history", "--no-trunc", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Comment}}", "commit/config:1"]);
    let rows: Vec<&str> = history.lines().collect();
    assert_eq!(rows[0], format!("{id}|sh -c echo x > /tmp/x|why"));
    assert!(rows[1].starts_with(base["Id"].as_str().unwrap()), "{history}");
    // What is in volumes is not in the layer.
    assert_eq!(t.ok(["run", "--rm", "commit/config:1", "/tmp/x"]), "x");
    assert_eq!(t.ok(["run", "--rm", "--entrypoint", "ls", "commit/config:1", "/anon"]), "");
    // It goes to other machines and comes back.
    let file = t.dir("save").join("image.tar");
    let file = file.to_str().unwrap();
    t.ok(["save", "-o", file, "commit/config:1"]);
    t.ok(["rmi", "commit/config:1"]);
    t.ok(["load", "-i", file]);
    assert_eq!(t.ok(["image", "inspect", "-f", "{{.Id}}", "commit/config:1"]), id);
    assert_eq!(t.ok(["run", "--rm", "commit/config:1", "/tmp/x"]), "x");
    t.ok(["rmi", "commit/config:1"]);
}

#[test]
fn a_container_that_changed_nothing_adds_no_layer() {
    let Some(t) = Test::start() else { return };
    let name = t.name("empty");
    t.ok(["run", "--name", &name, "--init", BUSYBOX, "true"]);
    let id = t.ok(["commit", &name]);
    assert_eq!(t.inspect(&id)["RootFS"], t.inspect(BUSYBOX)["RootFS"]);
    let history = t.ok(["history", "--format", "{{.CreatedBy}} {{.Size}}", &id]);
    assert_eq!(history.lines().next(), Some("true 0B"));
    assert_eq!(t.ok(["run", "--rm", &id, "echo", "runs"]), "runs");
    t.ok(["rmi", &id]);
    // Nor does what rbox itself made get into the layer of one that did.
    t.ok(["rm", &name]);
    t.ok(["run", "--name", &name, "--init", BUSYBOX, "touch", "/etc/mine"]);
    let id = t.ok(["commit", &name]);
    let layers = t.inspect(&id)["RootFS"]["Layers"].as_array().unwrap().clone();
    let top = layers.last().unwrap().as_str().unwrap().trim_start_matches("sha256:");
    let fs = t.suite.root.join("image/layers").join(top).join("fs");
    let mut found: Vec<_> =
        std::fs::read_dir(fs.join("etc")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    found.extend(std::fs::read_dir(&fs).unwrap().map(|entry| entry.unwrap().file_name()));
    assert_eq!(found, ["mine", "etc"]);
    t.ok(["rmi", &id]);
}

#[test]
fn one_whose_image_has_lost_its_name() {
    let Some(t) = Test::start() else { return };
    let name = t.name("nameless");
    t.ok(["run", "--name", &name, BUSYBOX, "touch", "/made"]);
    let first = t.ok(["commit", &name, "commit/first:1"]);
    t.ok(["rm", &name]);
    t.ok(["run", "--name", &name, "commit/first:1", "touch", "/again"]);
    // Another image takes the name.
    t.ok(["tag", BUSYBOX, "commit/first:1"]);
    let second = t.ok(["commit", &name, "commit/second"]);
    assert_eq!(t.inspect(&second)["RepoTags"], serde_json::json!(["commit/second:latest"]));
    assert_eq!(t.ok(["run", "--rm", &second, "ls", "/made", "/again"]), "/again\n/made");
    t.ok(["rm", &name]);
    t.ok(["rmi", "commit/second"]);
    t.ok(["rmi", "commit/first:1"]);
    t.ok(["rmi", &first]);
}

#[test]
fn what_runs_is_paused_while_it_is_read_and_goes_on() {
    let Some(t) = Test::start() else { return };
    let name = t.name("runs");
    t.sleeper(&name, []);
    t.ok(["exec", &name, "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=96"]);
    let mut seen = false;
    for _ in 0..5 {
        let commit = t.cmd(["commit", &name, "commit/runs:1"]).spawn();
        wait_until("it is paused, or done", || {
            seen |= t.status(&name) == "paused";
            seen || t.rbox(["image", "inspect", "commit/runs:1"]).code == 0
        });
        commit.finish(Duration::from_mins(1)).ok();
        assert_eq!(t.status(&name), "running");
    }
    assert!(seen, "it was never paused");
    t.ok(["commit", "--pause=false", &name, "commit/runs:1"]);
    t.ok(["commit", "-p=false", &name, "commit/runs:1"]);
    // Whom the user paused stays so.
    t.ok(["pause", &name]);
    t.ok(["commit", &name, "commit/runs:1"]);
    assert_eq!(t.status(&name), "paused");
    t.ok(["unpause", &name]);
    t.ok(["rm", "-f", &name]);
    t.ok(["rmi", "commit/runs:1"]);
    t.ok(["image", "prune", "-f"]);
}

#[test]
fn a_killed_commit_leaves_nothing_half_done_and_nobody_paused() {
    let Some(t) = Test::start() else { return };
    let name = t.name("killed");
    let id = t.sleeper(&name, []);
    t.ok(["exec", &name, "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=48"]);
    let lease = t.suite.state.join("containers").join(&id).join("lease");
    let mut leases = 0;
    for round in 0..rounds(20) {
        let commit = t.cmd(["commit", &name, "commit/killed:1"]).spawn();
        std::thread::sleep(Duration::from_millis(round as u64 * 13 % 240));
        commit.signal("KILL");
        commit.finish(Duration::from_mins(1));
        leases += usize::from(lease.exists());
        // The monitor sees to it, without any command.
        wait_until("nobody has it paused", || !lease.exists());
        assert_eq!(t.status(&name), "running");
        // The image is there and whole, or it is not there.
        if t.rbox(["image", "inspect", "commit/killed:1"]).code == 0 {
            assert_eq!(t.ok(["run", "--rm", "commit/killed:1", "stat", "-c", "%s", "/big"]), "50331648");
        }
    }
    println!("killed with the container paused: {leases}");
    t.ok(["commit", &name, "commit/killed:1"]);
    t.ok(["rm", "-f", &name]);
    t.ok(["rmi", "commit/killed:1"]);
    t.ok(["image", "prune", "-f"]);
    let left = std::fs::read_dir(t.suite.root.join("image/tmp")).unwrap().count();
    assert_eq!(left, 0, "files on their way into the store");
}

/// What was on its way into the store goes with the next command that tidies, whatever that is about.
#[test]
fn what_a_killed_commit_left_in_the_store_goes_with_the_next_list() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    own.run(&[
        "run",
        "--name",
        "big",
        "--network",
        "none",
        BUSYBOX,
        "dd",
        "if=/dev/urandom",
        "of=/big",
        "bs=1M",
        "count=48",
    ])
    .code(0);
    let tmp = own.root.join("image/tmp");
    let count = || std::fs::read_dir(&tmp).unwrap().count();
    let was_left = (0..100).any(|round| {
        let commit = own.cmd(&["commit", "big", "killed:1"]).spawn();
        std::thread::sleep(Duration::from_millis(20 + round * 7 % 200));
        commit.signal("KILL");
        commit.finish(Duration::from_mins(1));
        count() > 0
    });
    assert!(was_left, "no kill left anything");
    own.run(&["ps", "-q"]).ok();
    assert_eq!(count(), 0);
    // Half a removal, too; and nothing of somebody who is adding.
    std::fs::create_dir_all(tmp.join("dead-1-00000000-0/fs")).unwrap();
    own.run(&["rm", "big"]).ok();
    own.run(&["ps", "-aq"]).ok();
    assert_eq!(count(), 0);
}

#[test]
fn a_pause_of_a_killed_commit_ends_with_the_next_command_when_the_monitor_is_gone_too() {
    let Some(t) = Test::start() else { return };
    let name = t.name("orphan");
    let id = t.sleeper(&name, []);
    let monitor = t.suite.state.join("containers").join(&id);
    // What a killed command leaves: the mark, and a group that stands still.
    t.ok(["pause", &name]);
    std::fs::write(monitor.join("lease"), "").unwrap();
    assert_eq!(t.status(&name), "running");
    assert!(!monitor.join("lease").exists());
    std::fs::write(monitor.join("lease"), "").unwrap();
    t.ok(["ps"]);
    assert!(!monitor.join("lease").exists());
    // A pause of the user's is not taken for one.
    std::fs::write(monitor.join("lease"), "").unwrap();
    t.ok(["pause", &name]);
    assert_eq!(t.status(&name), "paused");
    t.ok(["rm", "-f", &name]);
}

/// What `save` shows of it is what Docker's does.
#[test]
fn the_order_of_variables_and_the_volumes() {
    let Some(t) = Test::start() else { return };
    let (name, image) = (t.name("c"), t.name("image"));
    t.ok([
        "run",
        "--name",
        &name,
        "-e",
        "A=b",
        "-v",
        "/vol",
        "-v",
        &format!("{name}:/other"),
        BUSYBOX,
        "true",
    ]);
    let shown = t.inspect(&name)["Config"].clone();
    assert_eq!(shown["Volumes"], serde_json::json!({ "/vol": {} }));
    assert_eq!(shown["Env"][0], "A=b");
    assert!(shown["Env"][1].as_str().unwrap().starts_with("PATH="), "{shown}");
    let id = t.ok(["commit", "-p=0", &name, &image]);
    let blob = t.suite.root.join("image/blobs").join(id.replace(':', "/"));
    let config: Value = serde_json::from_slice(&std::fs::read(blob).unwrap()).unwrap();
    for part in ["config", "container_config"] {
        assert_eq!(config[part]["Volumes"], shown["Volumes"], "{part}");
        assert_eq!(config[part]["Env"], shown["Env"], "{part}");
    }
    // A user's own comes first and once.
    let line = "env | grep -c ^PATH=; echo $PATH";
    assert_eq!(t.sh_with(["-e", "PATH=/bin:/mine"], line), "1\n/bin:/mine");
    t.ok(["rm", "-v", &name]);
    t.ok(["volume", "rm", &name]);
    t.ok(["rmi", &image]);
}

#[test]
fn wrong_input_to_commit() {
    let Some(t) = Test::start() else { return };
    let name = t.name("refused");
    t.sleeper(&name, []);
    let before = t.ok(["images", "-aq", "--no-trunc"]);
    for (args, code, said) in [
        (&["commit", "nosuch"][..], 1, "No such container: nosuch"),
        (&["commit", "-c", "RUN true", &name], 125, "RUN is not a valid change command"),
        (&["commit", "-c", "ENV", &name], 125, "ENV requires at least one argument"),
        (&["commit", "-c", "VOLUME []", &name], 125, "VOLUME requires at least one argument"),
        (&["commit", "-c", "USER", &name], 125, "USER requires exactly one argument"),
        (&["commit", &name, "UPPER"], 125, "must be lowercase"),
        (&["commit", &name, "a:b:c"], 125, "invalid reference format"),
        (&["commit", &name, "a", "b"], 125, "--help"),
        (&["commit"], 125, "--help"),
        (&["commit", "--pause=maybe", &name], 125, "invalid argument \"maybe\" for \"--pause\""),
    ] {
        t.cmd(args.to_vec()).run().refused(code, &[said]);
        assert_eq!(t.status(&name), "running", "{args:?}");
    }
    let digest = format!("busybox@sha256:{}", "0".repeat(64));
    let out = t.rbox(["commit", &name, &digest]);
    assert!(out.code != 0 && out.stderr.contains("digest"), "{out:?}");
    assert_eq!(t.ok(["images", "-aq", "--no-trunc"]), before);
}
