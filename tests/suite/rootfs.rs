//! `--rootfs`: containers of a directory instead of an image; and what a container has that its image has not.

use std::fs;

use crate::harness::{BUSYBOX, Test};

#[test]
fn a_directory_instead_of_an_image() {
    let Some(t) = Test::start() else { return };
    let (name, dir, made) = (t.name("c"), t.dir("tree"), t.name("made"));
    t.ok(["create", "--name", &made, BUSYBOX]);
    let script = format!("\"$RBOX\" export {made} | tar -x -C {}", dir.display());
    let binary = crate::harness::binary().display().to_string();
    t.program("sh", ["-c", &script]).env("RBOX", &binary).run().ok();
    t.ok(["rm", &made]);
    let root = dir.to_str().unwrap();
    fs::write(dir.join("marker"), "of the directory\n").unwrap();
    let script = "cat /marker; echo changed > /marker; rm -r /home; exec sleep 1000";
    t.ok(["run", "-d", "--name", &name, "--rootfs", root, "sh", "-c", script]);
    assert_eq!(t.ok(["exec", &name, "cat", "/marker"]), "changed");
    assert_eq!(fs::read_to_string(dir.join("marker")).unwrap(), "of the directory\n", "it stays as it is");
    assert!(dir.join("home").is_dir());
    assert_eq!(
        t.ok(["diff", &name]).lines().filter(|line| !line.contains("/root")).collect::<Vec<_>>(),
        ["C /marker", "D /home"]
    );
    assert_eq!(t.ok(["ps", "--format", "{{.Image}}"]), root);
    t.ok(["restart", "-t", "0", &name]);
    assert_eq!(t.ok(["logs", &name]), "of the directory\nchanged");
    let line = t.ok(["inspect", "--create-command", &name]);
    assert!(line.contains(&format!(" --rootfs {root} sh -c ")), "{line}");
    // Images come and go beside it.
    let layers = || fs::read_dir(t.suite.root.join("image/layers")).unwrap().count();
    let (before, image, changed) = (layers(), format!("{}:1", t.name("image")), t.name("changed"));
    t.ok(["run", "--name", &changed, BUSYBOX, "touch", "/changed"]);
    t.ok(["commit", &changed, &image]);
    t.ok(["rm", &changed]);
    assert_eq!(layers(), before + 1);
    t.ok(["rmi", &image]);
    assert_eq!(layers(), before, "its layer goes with it");
    t.ok(["system", "df"]);
    t.rbox(["commit", &name]).refused(1, &["image"]);
    t.ok(["rm", "-f", &name]);
    assert_eq!(fs::read_to_string(dir.join("marker")).unwrap(), "of the directory\n");
    // With a command of its own there is none to fall back on.
    t.rbox(["create", "--rootfs", root]).refused(125, &["no command specified"]);
    for bad in ["/no/such", "/etc/passwd", "/", t.suite.root.to_str().unwrap()] {
        t.rbox(["create", "--rootfs", bad, "true"]).refused(125, &["rbox"]);
    }
    assert_eq!(t.ok(["ps", "-aq"]), "");
}

/// As Docker has it, in a layer of its own: nothing of it is a change of the container's.
#[test]
fn the_table_of_mounts() {
    let Some(t) = Test::start() else { return };
    let (name, image) = (t.name("c"), t.name("image"));
    for flags in [&[][..], &["--read-only"], &["--uidmap", "0:100000:65536"], &["-u", "nobody"]] {
        let args =
            [&["run", "--rm"], flags, &[BUSYBOX, "sh", "-c", "readlink /etc/mtab; head -n1 /etc/mtab"]]
                .concat();
        let out = t.cmd(args).run();
        if flags.contains(&"--uidmap") && out.stderr.contains("cannot map ids") {
            continue;
        }
        let out = out.ok();
        assert!(out.starts_with("/proc/mounts\noverlay / overlay "), "{flags:?}: {out}");
    }
    // What a container makes of it is its own, and its image's.
    t.ok([
        "run",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "readlink /etc/mtab; rm /etc/mtab; echo own > /etc/mtab",
    ]);
    assert_eq!(t.ok(["diff", &name]), "C /etc\nC /etc/mtab");
    t.ok(["commit", &name, &image]);
    assert_eq!(t.ok(["run", "--rm", &image, "cat", "/etc/mtab"]), "own");
    t.ok(["rm", &name]);
    t.ok(["run", "--name", &name, BUSYBOX, "true"]);
    let listed = format!("\"$RBOX\" export {name} | tar -tv etc/mtab");
    let listed = t.program("sh", ["-c", &listed]).env("RBOX", crate::harness::binary()).run().ok();
    assert!(listed.ends_with("etc/mtab -> /proc/mounts"), "{listed}");
    assert_eq!(t.ok(["diff", &name]), "");
    t.ok(["rm", &name]);
    t.ok(["rmi", &image]);
}
