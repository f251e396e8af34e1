//! `-v …:U`: the source is given to the container's user, as podman has it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;

use crate::harness::{BUSYBOX, Test};

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn a_bind_is_given_to_the_user() {
    let Some(t) = Test::start() else { return };
    let (dir, outside) = (t.dir("d"), t.dir("outside"));
    fs::create_dir(dir.join("sub")).unwrap();
    for file in [dir.join("file"), dir.join("sub/file"), outside.join("file")] {
        fs::write(file, "x").unwrap();
    }
    symlink(&outside, dir.join("link")).unwrap();
    chown(dir.join("file"), Some(5), Some(6)).unwrap();
    let inside = [dir.clone(), dir.join("file"), dir.join("sub"), dir.join("sub/file"), dir.join("link")];
    let owners = || inside.iter().map(|path| owner(path)).collect::<Vec<_>>();
    let bind = |options: &str| format!("{}:/d:{options}", dir.display());
    // Nobody gets anything without it.
    let before = owners();
    t.ok(["run", "--rm", "-u", "33:44", "-v", &bind("rw"), BUSYBOX, "true"]);
    assert_eq!(owners(), before);
    t.ok(["run", "--rm", "-u", "33:44", "-v", &bind("U"), BUSYBOX, "sh", "-c", "echo more >> /d/sub/file"]);
    assert_eq!(owners(), [(33, 44); 5]);
    assert_eq!((owner(&outside), owner(&outside.join("file"))), ((0, 0), (0, 0)), "a link was followed");
    // By name, with other options; and at each start.
    let name = t.name("c");
    t.ok(["create", "--name", &name, "-u", "nobody", "-v", &bind("ro,U"), BUSYBOX, "true"]);
    assert_eq!(owners(), [(33, 44); 5]);
    t.ok(["start", "-a", &name]);
    assert_eq!(owners(), [(65534, 65534); 5]);
    chown(dir.join("file"), Some(5), Some(6)).unwrap();
    t.ok(["start", "-a", &name]);
    assert_eq!(owners(), [(65534, 65534); 5]);
    let made = t.ok(["inspect", "--create-command", &name]);
    assert!(made.contains(":/d:ro,U"), "{made}");
    // A file, and `--mount`.
    let mount = format!("type=bind,source={},target=/f,chown", outside.join("file").display());
    t.ok(["run", "--rm", "-u", "7:8", "--mount", &mount, BUSYBOX, "true"]);
    assert_eq!((owner(&outside), owner(&outside.join("file"))), ((0, 0), (7, 8)));
    let mount = format!("type=bind,source={},target=/f,U=true", dir.display());
    t.ok(["run", "--rm", "--mount", &mount, BUSYBOX, "true"]);
    assert_eq!(owners(), [(0, 0); 5]);
}

#[test]
fn a_volume_is_given_to_the_user() {
    let Some(t) = Test::start() else { return };
    let volume = t.name("v");
    let fill = "mkdir /v/a /v/b; touch /v/a/f /v/b/f";
    t.ok(["run", "--rm", "-v", &format!("{volume}:/v"), BUSYBOX, "sh", "-c", fill]);
    let look = "stat -c %u:%g /v /v/a /v/a/f /v/b /v/b/f";
    let part = format!("source={volume},target=/v/a,volume-subpath=a,chown=1");
    t.ok(["run", "--rm", "-u", "5:6", "--mount", &part, BUSYBOX, "touch", "/v/a/mine"]);
    let seen = t.ok(["run", "--rm", "-v", &format!("{volume}:/v"), BUSYBOX, "sh", "-c", look]);
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["0:0", "5:6", "5:6", "0:0", "0:0"]);
    let all = format!("{volume}:/v:U");
    let seen = t.ok(["run", "--rm", "-u", "33:44", "-v", &all, BUSYBOX, "sh", "-c", look]);
    assert_eq!(seen.lines().collect::<Vec<_>>(), ["33:44"; 5]);
    // Of a container that runs.
    let name = t.name("c");
    t.sleeper(&name, ["-u", "70:71"]);
    t.ok(["mount", "add", &name, &format!("{volume}:/x:U")]);
    assert_eq!(t.ok(["exec", &name, "stat", "-c", "%u:%g", "/x/b/f"]), "70:71");
    // Whoever has it from another one does not take it.
    let from = ["run", "--rm", "--volumes-from", &name, BUSYBOX, "stat", "-c", "%u", "/x/b/f"];
    assert_eq!(t.ok(from), "70");
    // Users of a user namespace, as they are on disk.
    let out = t.rbox([
        "run",
        "--rm",
        "--uidmap",
        "0:100000:65536",
        "-u",
        "9:9",
        "-v",
        &all,
        BUSYBOX,
        "sh",
        "-c",
        look,
    ]);
    if !out.stderr.contains("cannot map ids") {
        assert_eq!(out.ok().lines().collect::<Vec<_>>(), ["9:9"; 5]);
        let dir = t.dir("d");
        let bind = format!("{}:/d:U", dir.display());
        let seen = [
            "run",
            "--rm",
            "--uidmap",
            "0:100000:65536",
            "-u",
            "9:9",
            "-v",
            &bind,
            BUSYBOX,
            "stat",
            "-c",
            "%u",
            "/d",
        ];
        assert_eq!(t.ok(seen), "9");
        assert_eq!(owner(&dir), (100_009, 100_009));
    }
}

#[test]
fn what_nobody_gives_away() {
    let Some(t) = Test::start() else { return };
    for path in [
        "/",
        "/etc",
        "/proc/sys",
        "/var/lib",
        "/usr/lib",
        "/bin",
        "/usr/share/doc",
        "/etc/passwd",
        "/var/../tmp",
    ] {
        let before = owner(Path::new(path));
        t.rbox(["run", "--rm", "-u", "33:44", "-v", &format!("{path}:/d:U"), BUSYBOX, "true"])
            .refused(125, &[path, "U: its owner is the host's to choose"]);
        assert_eq!(owner(Path::new(path)), before);
    }
    let dir = t.dir("d");
    for (mount, why) in [
        (format!("type=bind,source={},target=/d,U,idmap", dir.display()), "cannot mix 'chown' and 'idmap'"),
        ("type=tmpfs,target=/d,chown".to_owned(), "cannot mix 'chown' with mount type 'tmpfs'"),
        ("type=volume,target=/d,chown=maybe".to_owned(), "invalid value for chown: maybe"),
    ] {
        t.rbox(["run", "--rm", "--mount", &mount, BUSYBOX, "true"]).refused(125, &[why]);
    }
    for (options, why) in [("U,U", "invalid mode: U,U"), ("U,idmap", "idmap and U"), ("u", "invalid mode: u")]
    {
        let bind = format!("{}:/d:{options}", dir.display());
        t.rbox(["run", "--rm", "-v", &bind, BUSYBOX, "true"]).refused(125, &[why]);
    }
}
