//! `diff`: what a container has changed.

use crate::harness::{BUSYBOX, PYTHON, Test};

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
    t.sleeper(&name, ["-v", "/data", "--mount", "type=tmpfs,target=/scratch/deep", "-w", "/work"]);
    t.ok(["exec", &name, "sh", "-c", "touch /data/in /scratch/deep/in /work/in"]);
    // Where something is mounted is shown, what is in it not: as with Docker.
    let wanted = "A /data\nA /scratch\nA /scratch/deep\nA /work\nA /work/in";
    assert_eq!(t.ok(["diff", &name]), wanted);
    t.ok(["pause", &name]);
    assert_eq!(t.ok(["diff", &name]), wanted);
    t.ok(["unpause", &name]);
    t.ok(["exec", &name, "rm", "/work/in"]);
    assert_eq!(t.ok(["diff", &name]), "A /data\nA /scratch\nA /scratch/deep\nA /work");
}

#[test]
fn wrong_input_to_diff() {
    let Some(t) = Test::start() else { return };
    t.rbox(["diff", "nosuch"]).refused(1, &["No such container: nosuch"]);
    t.rbox(["diff"]).refused(125, &["--help"]);
    t.rbox(["diff", "a", "b"]).refused(125, &["--help"]);
    t.rbox(["diff", "--format", "json", "nosuch"]).refused(125, &["--format"]);
}
