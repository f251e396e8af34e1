//! `load`, `save`, `import`: archives that other tools read and write.

use std::process::Command;

use crate::harness::{BUSYBOX, PYTHON, Test, has, skipped};

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn what_is_saved_is_loaded() {
    let Some(t) = Test::start() else { return };
    let file = t.dir("save").join("two.tar");
    let file = file.to_str().unwrap();
    t.ok(["tag", BUSYBOX, "saved/box:1"]);
    t.ok(["save", "-o", file, "saved/box:1"]);
    let id = t.ok(["image", "inspect", "-f", "{{.Id}}", "saved/box:1"]);
    t.ok(["rmi", "saved/box:1"]);
    assert_eq!(t.ok(["load", "-i", file]), "Loaded image: saved/box:1");
    assert_eq!(t.ok(["image", "inspect", "-f", "{{.Id}}", "saved/box:1"]), id);
    assert_eq!(t.ok(["run", "--rm", "saved/box:1", "echo", "loaded"]), "loaded");
    t.ok(["rmi", "saved/box:1"]);
}

#[test]
fn skopeo_reads_what_is_saved() {
    let Some(t) = Test::start() else { return };
    if !has("skopeo") {
        return skipped("skopeo is not installed");
    }
    let dir = t.dir("skopeo");
    let file = dir.join("python.tar");
    let file = file.to_str().unwrap();
    t.ok(["save", "-o", file, PYTHON]);
    for kind in ["docker-archive", "oci-archive"] {
        let config = run("skopeo", &["inspect", "--config", &format!("{kind}:{file}")]);
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["config"]["Cmd"][0], "python3", "{kind}");
        // As it is: packing the layers again would only take time.
        let target = format!("dir:{}", dir.join(kind).display());
        run("skopeo", &["copy", "-q", "--insecure-policy", &format!("{kind}:{file}"), &target]);
    }
}

#[test]
fn archives_of_skopeo_are_loaded_in_every_form() {
    let Some(t) = Test::start() else { return };
    if !has("skopeo") {
        return skipped("skopeo is not installed");
    }
    let dir = t.dir("load");
    let source = format!("docker://{}/rbox/whiteouts:latest", t.suite.registry_for_skopeo());
    for kind in ["docker-archive", "oci-archive"] {
        let file = dir.join(format!("{kind}.tar"));
        let plain = file.to_str().unwrap().to_owned();
        run(
            "skopeo",
            &[
                "copy",
                "-q",
                "--insecure-policy",
                "--src-tls-verify=false",
                &source,
                &format!("{kind}:{plain}:loaded/{kind}:1"),
            ],
        );
        let mut forms = vec![plain.clone()];
        for (tool, ending) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz")] {
            if !has(tool) {
                skipped(&format!("{tool} is not installed"));
                continue;
            }
            run("sh", &["-c", &format!("{tool} -1 -c {plain} > {plain}.{ending}")]);
            forms.push(format!("{plain}.{ending}"));
        }
        for form in forms {
            let out = t.ok(["load", "-q", "-i", &form]);
            assert!(out.contains(&format!("loaded/{kind}:1")), "{form}: {out}");
            let name = format!("loaded/{kind}:1");
            assert_eq!(
                t.ok(["run", "--rm", &name, "sh", "-c", "cat /w/replaced; ls /w/opaque"]),
                "second\nnew\nthird",
                "{form}"
            );
            t.ok(["rmi", &name]);
        }
        let bytes = std::fs::read(&plain).unwrap();
        let out = t.cmd(["load"]).input(bytes).run().ok();
        assert!(out.contains(&format!("loaded/{kind}:1")), "from standard input: {out}");
        t.ok(["rmi", &format!("loaded/{kind}:1")]);
    }
}

#[test]
fn broken_archives_are_refused() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("broken");
    let file = dir.join("x.tar");
    let path = file.to_str().unwrap();
    let before = t.ok(["images"]);
    std::fs::write(&file, b"this is no archive").unwrap();
    t.rbox(["load", "-i", path]).refused(1, &[]);
    std::fs::write(&file, b"").unwrap();
    t.rbox(["load", "-i", path]).refused(1, &["empty"]);
    t.ok(["tag", BUSYBOX, "broken/box:1"]);
    t.ok(["save", "-o", path, "broken/box:1"]);
    t.ok(["rmi", "broken/box:1"]);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    t.rbox(["load", "-i", path]).refused(1, &[]);
    // One bit of the layer changed.
    let mut spoilt = whole.clone();
    spoilt[whole.len() / 3] ^= 1;
    std::fs::write(&file, &spoilt).unwrap();
    t.rbox(["load", "-i", path]).refused(1, &["sha256:"]);
    assert_eq!(t.ok(["images"]), before, "a broken archive left an image");
    t.rbox(["load", "-i", "/no/such/file"]).refused(1, &["/no/such/file"]);
    t.rbox(["save", "-o", "/no/such/dir/x.tar", BUSYBOX]).refused(1, &["/no/such/dir/x.tar: "]);
    t.rbox(["save", "no-such-image:x"]).refused(1, &["no-such-image"]);
}

#[test]
fn a_tree_is_imported_with_changes() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("import");
    let file = dir.join("root.tar");
    let path = file.to_str().unwrap();
    // A root filesystem with one program: busybox out of the image.
    let script = "cd / && tar c bin etc tmp | cat";
    let bytes = {
        let out = Command::new(crate::harness::binary())
            .args(["run", "--rm", "--network", "none", BUSYBOX, "sh", "-c", script])
            .env("RBOX_ROOT", &t.suite.root)
            .env("RBOX_STATE", &t.suite.state)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    std::fs::write(&file, &bytes).unwrap();
    let out = t.ok([
        "import",
        "--change",
        "CMD [\"sh\", \"-c\", \"echo $WHO; pwd; id -u\"]",
        "-c",
        "ENV WHO=imported",
        "-c",
        "WORKDIR /tmp",
        "-c",
        "USER 55",
        "-c",
        "LABEL a=b",
        "-c",
        "EXPOSE 80",
        "-m",
        "a message",
        path,
        "mine/imported:1",
    ]);
    assert!(out.starts_with("sha256:"), "{out}");
    assert_eq!(t.ok(["run", "--rm", "mine/imported:1"]), "imported\n/tmp\n55");
    let image = t.inspect("mine/imported:1");
    assert_eq!(image["Config"]["Labels"]["a"], "b");
    assert!(image["Config"]["ExposedPorts"]["80/tcp"].is_object(), "{image}");
    t.ok(["rmi", "mine/imported:1"]);
    t.rbox(["import", "--change", "FROM x", path, "mine/bad:1"]).refused(125, &["FROM"]);
    let out = t.cmd(["import", "-", "mine/stdin:1"]).input(bytes).run().ok();
    assert!(out.starts_with("sha256:"), "{out}");
    t.ok(["rmi", "mine/stdin:1"]);
}
