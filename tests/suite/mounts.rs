//! Binds, tmpfs, read-only roots, and what the container is given of /proc, /dev and /sys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{BUSYBOX, Test};

#[test]
fn a_bind_is_the_same_directory() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("bind");
    fs::write(dir.join("in"), "from the host\n").unwrap();
    let spec = format!("{}:/mnt/deep/er", dir.display());
    assert_eq!(
        t.sh_with(["-v", &spec], "cat /mnt/deep/er/in; echo back > /mnt/deep/er/out"),
        "from the host"
    );
    assert_eq!(fs::read_to_string(dir.join("out")).unwrap(), "back\n");
    let read_only = format!("{spec}:ro");
    let out = t
        .rbox([
            "run",
            "--rm",
            "-v",
            &read_only,
            BUSYBOX,
            "sh",
            "-c",
            "cat /mnt/deep/er/in; echo x > /mnt/deep/er/out",
        ])
        .code(1);
    assert!(out.stderr.contains("Read-only file system"), "{}", out.stderr);
    // A single file, too.
    let file = format!("{}:/one", dir.join("in").display());
    assert_eq!(t.sh_with(["-v", &file], "cat /one"), "from the host");
}

#[test]
fn a_missing_source_is_made_by_v_and_refused_by_mount() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("missing");
    let path = dir.join("made");
    t.sh_with(["-v", &format!("{}:/m", path.display())], "touch /m/x");
    assert!(path.join("x").exists());
    let absent = dir.join("absent");
    let spec = format!("type=bind,source={},target=/m", absent.display());
    t.rbox(["run", "--rm", "--mount", &spec, BUSYBOX, "true"]).refused(125, &[absent.to_str().unwrap()]);
    assert!(!absent.exists());
}

#[test]
fn read_only_binds_stay_so_below_mounts_of_the_host() {
    let Some(t) = Test::start() else { return };
    // A mount below the source: read-only means all of it (the kernel's mount_setattr, recursive).
    let dir = t.dir("source");
    let below = dir.join("below");
    fs::create_dir(&below).unwrap();
    let run = |program: &str, args: &[&str]| {
        std::process::Command::new(program).args(args).arg(&below).status().unwrap().success()
    };
    assert!(run("mount", &["-t", "tmpfs", "tmpfs"]));
    let spec = format!("{}:/source:ro", dir.display());
    let script = "grep -c ' /source' /proc/mounts; for d in /source /source/below; do touch $d/x 2>/dev/null && echo wrote to $d; done; true";
    let out = t.rbox(["run", "--rm", "-v", &spec, BUSYBOX, "sh", "-c", script]);
    assert!(run("umount", &[]));
    assert_eq!(out.ok(), "2");
}

#[test]
fn mount_flag_in_every_type() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("m");
    fs::write(dir.join("f"), "bound").unwrap();
    let bind = format!("type=bind,src={},dst=/b,readonly", dir.display());
    assert_eq!(t.sh_with(["--mount", &bind], "cat /b/f; touch /b/x 2>/dev/null || echo ' ro'"), "bound ro");
    let out = t.sh_with(
        ["--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770"],
        "stat -c %a /t; df -k /t | tail -n 1 | awk '{print $2}'; stat -f -c %T /t",
    );
    assert_eq!(out, "1770\n1024\ntmpfs");
    let volume = t.name("vol");
    t.sh_with(["--mount", &format!("type=volume,source={volume},target=/v")], "echo kept > /v/x");
    assert_eq!(
        t.sh_with(
            ["--mount", &format!("source={volume},target=/v,ro")],
            "cat /v/x; touch /v/y 2>/dev/null || echo ro"
        ),
        "kept\nro"
    );
    for bad in [
        "type=nonsense,target=/x",
        "type=bind,source=/tmp",
        "target=relative,type=tmpfs",
        "type=bind,source=relative,target=/x",
        "type=tmpfs,target=/x,unknown=1",
        "",
    ] {
        t.rbox(["run", "--rm", "--mount", bad, BUSYBOX, "true"]).refused(125, &[]);
    }
}

#[test]
fn tmpfs_flag() {
    let Some(t) = Test::start() else { return };
    let line = t.sh_with(["--tmpfs", "/x:size=2m,mode=700"], "grep ' /x ' /proc/mounts");
    assert!(line.starts_with("tmpfs /x tmpfs rw,nosuid,nodev,noexec"), "{line}");
    assert!(line.contains("size=2048k") && line.contains("mode=700"), "{line}");
    assert!(t.sh_with(["--tmpfs", "/y"], "grep ' /y ' /proc/mounts").contains("nosuid"));
}

#[test]
fn a_read_only_root() {
    let Some(t) = Test::start() else { return };
    let out = t.sh_with(
        ["--read-only", "--tmpfs", "/tmp"],
        "touch /x 2>&1; touch /tmp/x && echo tmp; touch /dev/shm/x && echo shm; touch /etc/x 2>&1; true",
    );
    assert_eq!(out, "touch: /x: Read-only file system\ntmp\nshm\ntouch: /etc/x: Read-only file system");
}

#[test]
fn proc_sys_and_dev_are_as_docker_has_them() {
    let Some(t) = Test::start() else { return };
    let mounts = t.sh("cat /proc/mounts");
    let options = |target: &str| -> String {
        let line = mounts
            .lines()
            .rev()
            .find(|l| l.split(' ').nth(1) == Some(target))
            .unwrap_or_else(|| panic!("no {target}:\n{mounts}"));
        line.split(' ').skip(2).take(2).collect::<Vec<_>>().join(" ")
    };
    assert!(options("/").starts_with("overlay rw"), "{mounts}");
    for (target, wanted) in [
        ("/proc", &["proc", "rw", "nosuid", "nodev", "noexec"][..]),
        ("/dev", &["tmpfs", "nosuid", "size=65536k", "mode=755"]),
        ("/dev/pts", &["devpts", "nosuid", "noexec", "gid=5", "mode=620", "ptmxmode=666"]),
        ("/sys", &["sysfs", "ro", "nosuid", "nodev", "noexec"]),
        ("/dev/mqueue", &["mqueue", "nosuid", "nodev", "noexec"]),
        ("/dev/shm", &["tmpfs", "nosuid", "nodev", "noexec"]),
        ("/proc/sys", &["ro"]),
        ("/proc/bus", &["ro"]),
        ("/proc/irq", &["ro"]),
        ("/proc/fs", &["ro"]),
    ] {
        let found = options(target);
        for word in wanted {
            assert!(found.split([' ', ',']).any(|o| o == *word), "{target} is `{found}`, without {word}");
        }
    }
    for masked in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/interrupts",
        "/proc/acpi",
        "/sys/firmware",
        "/proc/scsi",
        "/sys/devices/virtual/powercap",
    ] {
        let out = t.sh(&format!("if [ -d {masked} ]; then ls -A {masked} | wc -l; elif [ -e {masked} ]; then wc -c < {masked}; else echo 0; fi"));
        assert_eq!(out.trim(), "0", "{masked} can be read");
    }
    let nodes = t.sh("cd /dev; for n in null zero full random urandom tty; do stat -c '%n %F %t:%T %a' $n; done; for l in fd stdin stdout stderr ptmx core; do echo $l $(readlink $l); done; ls | sort | tr '\\n' ' '");
    for line in [
        "null character special file 1:3 666",
        "zero character special file 1:5 666",
        "full character special file 1:7 666",
        "random character special file 1:8 666",
        "urandom character special file 1:9 666",
        "tty character special file 5:0 666",
        "fd /proc/self/fd",
        "stdin /proc/self/fd/0",
        "stdout /proc/self/fd/1",
        "stderr /proc/self/fd/2",
        "ptmx pts/ptmx",
        "core /proc/kcore",
    ] {
        assert!(nodes.lines().any(|l| l == line), "no `{line}` in\n{nodes}");
    }
    assert_eq!(
        nodes.lines().last().unwrap().trim(),
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
}

#[test]
fn nothing_of_the_host_is_mounted() {
    let Some(t) = Test::start() else { return };
    let mounts = t.sh("cut -d' ' -f2 /proc/mounts");
    for line in mounts.lines() {
        let fine = ["/", "/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
            .contains(&line)
            || ["/proc/", "/dev/", "/sys/"].iter().any(|p| line.starts_with(p));
        assert!(fine, "{line} is mounted:\n{mounts}");
    }
    // And nothing of the container on the host: the mounts are its own namespace's.
    let name = t.name("m");
    t.sleeper(&name, []);
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let inside = fs::read_to_string(format!("/proc/{}/mountinfo", t.pid(&name))).unwrap();
    assert!(inside.lines().count() > 8 && !host.lines().any(|l| l.contains(" /proc/irq ")), "{host}");
    assert!(!inside.contains("master:"), "mounts of the host propagate into the container:\n{inside}");
}

#[test]
fn bad_binds_are_refused() {
    let Some(t) = Test::start() else { return };
    for bad in ["/a:relative", ":/x", "/a:/b:nonsense", "/a:/b:ro:rw", "bad name:/x", "/x:", "/:/"] {
        let out = t.rbox(["run", "--rm", "-v", bad, BUSYBOX, "true"]);
        assert!(
            out.code == 125 && out.stderr.starts_with("rbox: ") && out.stderr.lines().count() == 1,
            "-v {bad}: {out:?}"
        );
    }
    t.rbox(["run", "--rm", "-v", "/tmp:/x", "-v", "/var:/x", BUSYBOX, "true"])
        .refused(125, &["duplicate mount point", "/x"]);
}

/// A target that is a symlink in the image leads nowhere but into the image.
#[test]
fn mount_targets_stay_inside() {
    let Some(t) = Test::start() else { return };
    let name = t.name("link");
    let canary = t.dir("canary");
    fs::write(canary.join("secret"), "host").unwrap();
    fs::set_permissions(&canary, fs::Permissions::from_mode(0o755)).unwrap();
    let dir = t.dir("bind");
    fs::write(dir.join("bound"), "yes").unwrap();
    t.ok(["run", "--name", &name, BUSYBOX, "ln", "-s", canary.to_str().unwrap(), "/out"]);
    // Through its second start the container's own symlink is in place; the mount is declared before.
    let name = t.name("again");
    let spec = format!("{}:/out/x", dir.display());
    t.ok([
        "create",
        "--name",
        &name,
        "-v",
        &spec,
        BUSYBOX,
        "sh",
        "-c",
        "ls -d /out; ln -s /nowhere /l; cat /out/x/bound",
    ]);
    assert_eq!(t.ok(["start", "-a", &name]), "/out\nyes");
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 1, "something was made outside of the container");
}

#[test]
fn devices_are_given_and_filtered() {
    let Some(t) = Test::start() else { return };
    if !std::path::Path::new("/dev/fuse").exists() {
        return crate::harness::skipped("this host has no /dev/fuse to pass on");
    }
    let number = "stat -c '%t:%T' /dev/fuse";
    let out = t.sh_with(["--device", "/dev/fuse"], &format!("{number}; exec 3<>/dev/fuse && echo opened"));
    assert_eq!(out, "a:e5\nopened");
    assert_eq!(
        t.sh_with(
            ["--device", "/dev/fuse:/dev/other:r"],
            "(exec 3</dev/other) && echo read; (exec 3>/dev/other) 2>/dev/null || echo no write"
        ),
        "read\nno write"
    );
    // A node made by the container itself does not open what it was not given.
    assert_eq!(
        t.sh_with(
            ["--cap-add", "MKNOD"],
            "mknod /fuse c 10 229 && (exec 3</fuse) 2>/dev/null || echo refused"
        ),
        "refused"
    );
    t.rbox(["run", "--rm", "--device", "/dev/no-such-device", BUSYBOX, "true"])
        .refused(125, &["/dev/no-such-device"]);
    for no_device in ["/etc/passwd", "/etc"] {
        t.rbox(["run", "--rm", "--device", no_device, BUSYBOX, "true"])
            .refused(125, &[no_device, "not a device node"]);
    }
}

/// A file of a mount namespace below the source: such a mount cannot be copied into a newer namespace, and is left out.
#[test]
fn a_source_with_a_namespace_mounted_below_it() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("holder");
    fs::create_dir(dir.join("ns")).unwrap();
    fs::write(dir.join("seen"), "seen\n").unwrap();
    let shell = |script: String| {
        let out = std::process::Command::new("sh").args(["-ec", &script]).current_dir(&dir).output().unwrap();
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    };
    shell(
        // Newer is what has a higher number, and from Linux 6.18 on each processor counts by itself: one of them, at least that on which
        // this namespace was made, makes one that is newer.
        "mount --bind ns ns; mount --make-private ns; touch ns/held
        for cpu in $(seq 0 $(($(nproc) - 1))); do
            taskset -c $cpu unshare --mount sleep 100 & P=$!
            until [ \"$(cat /proc/$P/comm)\" = sleep ]; do sleep 0.01; done
            if mount --bind /proc/$P/ns/mnt ns/held; then kill $P; exit 0; fi
            kill $P
        done
        exit 1"
            .into(),
    );
    let spec = format!("{}:/host", dir.display());
    let runs = ["", ":ro", ":ro,rprivate"].map(|options| {
        t.rbox([
            "run",
            "--rm",
            "-v",
            &format!("{spec}{options}"),
            BUSYBOX,
            "sh",
            "-c",
            "cat /host/seen; ls /host/ns",
        ])
    });
    let all = t.rbox(["run", "--rm", "-v", "/:/host:ro", BUSYBOX, "ls", "-d", "/host/etc"]);
    shell("umount ns/held; umount ns".into());
    for run in runs {
        assert_eq!(run.ok(), "seen\nheld");
    }
    assert_eq!(all.ok(), "/host/etc");
}

/// Links that lead to nothing: as a mount's target, on the way to it, as the working directory. What they lead to is made,
/// inside.
#[test]
fn links_to_nothing_are_made_inside() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("given");
    fs::write(dir.join("f"), "given\n").unwrap();
    let name = t.name("c");
    let (file, tree) = (format!("{}/f:/etc/localtime", dir.display()), format!("{}:/lnk/sub", dir.display()));
    let made = format!("/rbox-test-{}", std::process::id());
    let out = t.cmd(["create", "--name", &name, "-v", &file, "-v", &tree, "-w", "/wd", BUSYBOX]).args(&[
        "sh",
        "-c",
        "pwd; cat /etc/localtime /lnk/sub/f",
    ]);
    out.run().ok();
    // The links come with the image; here they are put into the container's own layer before its first start.
    let id = t.inspect(&name)["Id"].as_str().unwrap().to_owned();
    let upper = t.suite.root.join("containers").join(&id).join("upper");
    fs::create_dir_all(upper.join("etc")).unwrap();
    for (link, to) in [
        ("etc/localtime", format!("..{made}/zone/absent")),
        ("lnk", format!("/../../{}/absent", &made[1..])),
        ("wd", format!("{made}/deep/dir")),
    ] {
        std::os::unix::fs::symlink(to, upper.join(link)).unwrap();
    }
    assert_eq!(t.ok(["start", "-a", &name]), format!("{made}/deep/dir\ngiven\ngiven"));
    assert!(!std::path::Path::new(&made).exists(), "made on the host");
}

#[test]
fn mount_fields_are_csv() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("a,b\"c");
    fs::write(dir.join("f"), "found\n").unwrap();
    let path = dir.display().to_string().replace('"', "\"\"");
    assert_eq!(t.sh_with(["--mount", &format!("type=bind,\"src={path}\",dst=/x")], "cat /x/f"), "found");
    for (bad, why) in [
        (
            "type=bind,\"src=/a,dst=/x",
            "parse error on line 1, column 25: extraneous or missing \" in quoted-field",
        ),
        ("type=bind,src=/a\"b,dst=/x", "parse error on line 1, column 17: bare \" in non-quoted field"),
    ] {
        t.rbox(["run", "--rm", "--mount", bad, BUSYBOX, "true"]).refused(125, &[why]);
    }
}

/// What is shared reaches the other side; what cannot be is refused.
#[test]
fn propagation_is_what_was_asked_for() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("peers");
    let shell = |script: &str| {
        let out = std::process::Command::new("sh").args(["-ec", script]).current_dir(&dir).output().unwrap();
        assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    };
    shell("mount --bind . .; mount --make-private .; mkdir in out");
    let spec = |mode: &str| format!("{}:/x:{mode}", dir.display());
    let place = dir.to_str().unwrap();
    for mode in ["shared", "rshared"] {
        let why = format!("path {place} is mounted on {place} but it is not a shared mount");
        t.rbox(["run", "--rm", "-v", &spec(mode), BUSYBOX, "true"]).refused(125, &[&why]);
    }
    let why = format!("path {place} is mounted on {place} but it is not a shared or slave mount");
    t.rbox(["run", "--rm", "-v", &spec("rslave"), BUSYBOX, "true"]).refused(125, &[&why]);
    shell("mount --make-shared .");
    let (shared, slave) = (t.name("shared"), t.name("slave"));
    t.sleeper(
        &shared,
        ["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "-v", &spec("rshared")],
    );
    t.sleeper(&slave, ["-v", &spec("rslave")]);
    shell("mount -t tmpfs tmpfs in; touch in/from-host");
    for name in [&shared, &slave] {
        assert_eq!(t.ok(["exec", name, "ls", "/x/in"]), "from-host", "{name}");
    }
    t.ok(["exec", &shared, "sh", "-c", "mount -t tmpfs tmpfs /x/out && touch /x/out/from-inside"]);
    let seen = dir.join("out/from-inside").exists();
    t.ok(["rm", "-f", &shared, &slave]);
    shell("umount in; umount out; umount -l \"$PWD\"");
    assert!(seen, "what was mounted inside did not reach the host");
}

#[test]
fn options_that_contradict_each_other() {
    let Some(t) = Test::start() else { return };
    for mode in [
        "ro,rw",
        "rw,ro",
        "ro,ro",
        "rshared,rslave",
        "private,rprivate",
        "z,Z",
        "nocopy,nocopy",
        "ro,",
        "readonly",
    ] {
        t.rbox(["run", "--rm", "-v", &format!("/tmp:/x:{mode}"), BUSYBOX, "true"])
            .refused(125, &[&format!("invalid mode: {mode}")]);
    }
    for (spec, why) in [
        ("vol:/x:rshared", "field BindOptions must not be specified"),
        ("/tmp:/x:nocopy", "field VolumeOptions must not be specified"),
    ] {
        t.rbox(["run", "--rm", "-v", spec, BUSYBOX, "true"]).refused(125, &[why]);
    }
}

/// One line in words: no system call, no number.
#[test]
fn what_cannot_be_mounted_is_told_in_words() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("given");
    fs::write(dir.join("f"), "").unwrap();
    let (dir, file) = (dir.display().to_string(), dir.join("f").display().to_string());
    let below = format!("{dir}:/ro:ro");
    let cases: [(&[&str], &[&str]); 7] = [
        (&["-v", &format!("{file}:/etc")], &["/etc", "vice-versa"]),
        (&["-v", &format!("{dir}:/etc/passwd")], &["/etc/passwd", "vice-versa"]),
        (&["-v", &below, "-v", &format!("{dir}:/ro/new/dir")], &["/ro/new/dir", "read-only file system"]),
        (&["-v", &format!("{dir}:/etc/passwd/x")], &["/etc/passwd/x", "not a directory"]),
        (&["-w", "/etc/passwd"], &["/etc/passwd", "not a directory"]),
        (&["-w", "/ro/new", "-v", &below], &["/ro/new", "read-only file system"]),
        (&["-v", &format!("{file}/x:/x")], &["not a directory"]),
    ];
    for (flags, words) in cases {
        let out = t.cmd(["run", "--rm"]).args(flags).args(&[BUSYBOX, "true"]).run();
        for raw in ["ENO", "EROFS", "component"] {
            assert!(!out.stderr.contains(raw), "{flags:?} says `{raw}`: {}", out.stderr);
        }
        out.refused(125, words);
    }
}

/// hosts, hostname and resolv.conf: a container can make them as large as it likes, so they are on the disk.
#[test]
fn given_files_are_not_in_memory() {
    let Some(t) = Test::start() else { return };
    let (name, volume) = (t.name("c"), t.name("etc"));
    t.sleeper(&name, []);
    let inspect = t.inspect(&name);
    for (key, inside) in [
        ("HostsPath", "/etc/hosts"),
        ("HostnamePath", "/etc/hostname"),
        ("ResolvConfPath", "/etc/resolv.conf"),
    ] {
        let path = std::path::PathBuf::from(inspect[key].as_str().unwrap());
        assert!(path.starts_with(&t.suite.root), "{key} is {}", path.display());
        t.ok(["exec", &name, "sh", "-c", &format!("echo '# mine' >> {inside}")]);
        assert!(fs::read_to_string(path).unwrap().ends_with("# mine\n"), "{inside}");
    }
    // Nothing that is mounted in a container comes from the state directory.
    let state = t.suite.state.file_name().unwrap().to_str().unwrap();
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", t.pid(&name))).unwrap();
    assert!(!table.lines().any(|line| line.split(' ').nth(3).unwrap().contains(state)), "{table}");
    let out = t.sh_with(
        ["--read-only", "-h", "box"],
        "for f in hosts hostname resolv.conf; do (echo x >> /etc/$f) 2>/dev/null && echo wrote $f; done; cat /etc/hostname",
    );
    assert_eq!(out, "box");
    // Above a volume at /etc they are still there.
    let mount = format!("{volume}:/etc");
    let out = t.sh_with(
        ["-v", &mount, "-h", "box"],
        "cat /etc/hostname; grep -c box /etc/hosts; echo kept > /etc/kept",
    );
    assert_eq!(out, "box\n1");
    assert_eq!(t.sh_with(["-v", &mount, "-h", "other"], "cat /etc/hostname /etc/kept"), "other\nkept");
}

/// A terminal where /dev is not the engine's: a volume, the host's, a tmpfs.
#[test]
fn a_terminal_with_a_dev_of_the_users() {
    let Some(t) = Test::start() else { return };
    let volume = t.name("dev");
    for (flag, spec) in
        [("-v", format!("{volume}:/dev")), ("-v", "/dev:/dev".to_owned()), ("--tmpfs", "/dev/pts".to_owned())]
    {
        let out = t.rbox([
            "run",
            "--rm",
            "-t",
            flag,
            &spec,
            BUSYBOX,
            "sh",
            "-c",
            "test -t 0 && test -t 1 && echo terminal; wc -c < /proc/timer_list",
        ]);
        assert_eq!(out.ok().replace('\r', ""), "terminal\n0", "{spec}");
    }
}

/// The kernel has one number for links in a circle and for one it was told not to follow.
#[test]
fn a_link_through_proc_is_named_as_that() {
    let Some(t) = Test::start() else { return };
    for (from, to) in [("etc", "/proc/self/root/tmp"), ("etc/hosts", "/proc/self/root/tmp/x")] {
        let (dir, image) = (t.dir("linked"), t.name("linked"));
        let place = dir.join("tree").join(from);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(to, &place).unwrap();
        let archive = dir.join("tree.tar");
        let (tar, tree) =
            (archive.to_str().unwrap().to_owned(), dir.join("tree").to_str().unwrap().to_owned());
        t.program("tar", ["-C", &tree, "-cf", &tar, "."]).run().ok();
        t.ok(["import", &tar, &image]);
        t.rbox(["run", "--rm", &image, "true"]).refused(125, &["/etc/hosts", "magic link of /proc"]);
        t.ok(["rmi", &image]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
