//! `--rootfs`: containers of a directory instead of an image.

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
