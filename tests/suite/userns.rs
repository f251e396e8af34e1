//! Containers with a user namespace of their own: `--userns`, `--uidmap` and those like it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use crate::harness::{BUSYBOX, Cmd, Output, Project, Test, has, skipped, wait_until};

/// Ids that no other test has.
pub(crate) const MAP: &str = "0:700000:65536";
const OTHER: &str = "0:800000:65536";
/// As few as make no user of a usual image.
const TEN: &str = "0:700000:10";

/// Whether this host can map the ids of layers.
pub(crate) fn can(t: &Test) -> bool {
    let out = t.rbox(["run", "--rm", "--uidmap", MAP, "--network", "none", BUSYBOX, "true"]);
    if out.code == 0 {
        return true;
    }
    let known = ["cannot map ids", "does not take layers with mapped ids", "allows no user namespace"];
    assert!(known.iter().any(|why| out.stderr.contains(why)) && out.stderr.lines().count() == 1, "{out:?}");
    skipped("this kernel, or the file system of the scratch directory, cannot map ids");
    false
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

/// A field of the container's first process in the host's /proc.
fn status(t: &Test, name: &str, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/status", t.pid(name))).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

/// Runs rbox where the files of subordinate ids are these.
fn with_subordinate(t: &Test, text: impl AsRef<[u8]>, args: &[&str]) -> Option<Output> {
    if !has("unshare") || !Path::new("/etc/subuid").exists() || !Path::new("/etc/subgid").exists() {
        skipped("no unshare, or no files of subordinate ids to mount others on");
        return None;
    }
    // One for each: some are made at the same time.
    let file = t.dir(&format!("subordinate-of-{}", args[2])).join("file");
    fs::write(&file, text).unwrap();
    let file = file.to_string_lossy().into_owned();
    let binary = crate::harness::binary().to_string_lossy().into_owned();
    let script = r#"mount --bind "$0" /etc/subuid && mount --bind "$0" /etc/subgid && exec "$@""#;
    let words = [&["-m", "sh", "-c", script, &file, &binary], args].concat();
    Some(t.suite.with_roots(Cmd::new("unshare", words)).run())
}

#[test]
fn ids_are_those_asked_for() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let name = t.name("c");
    let maps = "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map";
    let of = |flags: [&str; 4]| t.sh_with(flags, maps);
    assert_eq!(of(["--uidmap", MAP, "--network", "none"]), " 0 700000 65536\n 0 700000 65536");
    assert_eq!(of(["--uidmap", "0:700000:10", "--gidmap", "0:800000:20"]), " 0 700000 10\n 0 800000 20");
    assert_eq!(
        of(["--uidmap", "0:700000:1000", "--uidmap", "1000:5:1"]),
        " 0 700000 1000\n 1000 5 1\n 0 700000 1000\n 1000 5 1"
    );
    assert_eq!(of(["--userns", "keep-id", "--network", "none"]), " 0 0 4294967295\n 0 0 4294967295");
    t.sleeper(&name, ["--uidmap", MAP, "-u", "33:34", "--group-add", "7"]);
    assert_eq!((status(&t, &name, "Uid"), status(&t, &name, "Gid")), ("700033".into(), "700034".into()));
    assert_eq!(t.ok(["exec", &name, "id", "-u"]), "33");
    assert_eq!(t.ok(["exec", "-u", "0", &name, "sh", "-c", "id -u; id -G"]), "0\n0 7");
    let host = &t.inspect(&name)["HostConfig"];
    assert_eq!((&host["UsernsMode"], &host["IDMappings"]["UidMap"][0]), (&"private".into(), &MAP.into()));
    // All of its namespaces are its own, and those of exec the same.
    let spaces = "for n in user pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done";
    let inside = t.ok(["exec", &name, "sh", "-c", spaces]);
    for (kind, inside) in ["user", "pid", "mnt", "uts", "ipc", "net", "cgroup"].iter().zip(inside.lines()) {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(inside, of(&t.pid(&name).to_string()).to_string_lossy(), "{kind}");
        assert_ne!(of(&t.pid(&name).to_string()), of("self"), "{kind}");
    }
    t.ok(["rm", "-f", &name]);
}

/// What a file gives to those that are given nothing, and only to them.
#[test]
fn a_default_of_the_configuration_file() {
    const KEEP: &str = r#"{ "userns": "keep-id" }"#;
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let (file, name) = (t.dir("conf").join("config.json"), t.name("c"));
    let with = |text: &str, args: &[&str]| {
        fs::write(&file, text).unwrap();
        t.cmd(args).env("RBOX_CONFIG", &file).run()
    };
    let maps = "tr -s ' ' < /proc/self/uid_map";
    let of = |text: &str, flags: &[&str]| {
        let run = [&["run", "--rm", "--network", "none"], flags, &[BUSYBOX, "sh", "-c", maps]].concat();
        with(text, &run).ok()
    };
    let (all, hosts) = (" 0 0 4294967295", fs::read_to_string("/proc/self/uid_map").unwrap());
    let hosts = hosts.split_whitespace().fold(String::new(), |line, word| line + " " + word);
    assert_eq!(of(KEEP, &[]), all);
    assert_eq!(of(KEEP, &["--uidmap", MAP]), " 0 700000 65536");
    assert_eq!(of("{}", &[]), hosts);
    assert_eq!(of(KEEP, &["--userns", "host", "--privileged"]), hosts);
    // A container keeps what it was made with.
    with(KEEP, &["create", "--name", &name, "--network", "none", BUSYBOX, "sh", "-c", maps]).ok();
    assert_eq!(t.ok(["start", "-a", &name]), all);
    assert_eq!(t.inspect(&name)["HostConfig"]["UsernsMode"], "keep-id");
    t.ok(["rm", &name]);
    let run = ["run", "--rm", "--privileged", BUSYBOX, "true"];
    with(KEEP, &run).refused(125, &["privileged mode is incompatible", "default of --userns in config.json"]);
    for (text, why) in [
        (
            "{\n \"usrns\": \"auto\" }",
            "config.json: unknown field `usrns`, expected `userns` or `cdi-spec-dirs` at line 2",
        ),
        ("{ \"userns\": true }", "config.json: invalid type: boolean `true`, expected a string at line 1"),
        ("{ \"userns\": \"none\" }", "config.json: invalid --userns \"none\""),
    ] {
        with(text, &["run", "--rm", BUSYBOX, "true"]).refused(125, &[why]);
    }
    let run = ["run", "--rm", BUSYBOX, "true"];
    fs::remove_file(&file).unwrap();
    t.cmd(run).env("RBOX_CONFIG", &file).run().refused(125, &["config.json: no such file"]);
    t.cmd(run).env("RBOX_CONFIG", "config.json").run().refused(125, &["RBOX_CONFIG=config.json", "absolute"]);
}

/// In Compose a service has the modes that `run` has.
#[test]
fn a_service_has_the_modes_of_run() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let service = |mode: &str| {
        format!(
            "services: {{a: {{image: {BUSYBOX}, userns_mode: '{mode}', command: [sh, -c, \"tr -s ' ' < /proc/self/uid_map\"]}}}}"
        )
    };
    let project = Project::new(&t, &service("keep-id"));
    assert_eq!(project.run(&["run", "--rm", "a"]).ok(), " 0 0 4294967295");
    project.write("compose.yaml", &service("nonsense"));
    project.run(&["up", "-d"]).refused(1, &["userns_mode: invalid --userns \"nonsense\""]);
    project.done(&["down"]);
}

/// Root inside is nobody outside: neither with the files of a bind, nor by a capability, nor by what it makes.
#[test]
fn its_root_is_nobody_on_the_host() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let dir = t.dir("d");
    for (file, mode) in [("secret", 0o600), ("plain", 0o644)] {
        fs::write(dir.join(file), file).unwrap();
        fs::set_permissions(dir.join(file), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let bind = format!("{}:/d", dir.display());
    let tries = "cat /d/plain; echo; for try in 'cat /d/secret' 'echo x > /d/plain' 'touch /d/new' 'chown 0 /d/plain' 'chmod 777 /d/plain' \
                 'rm /d/plain' 'mknod /n b 8 0' 'mount -o remount,rw /proc/sys' 'mount -t tmpfs t /d' 'hostname other' 'chroot /d /x' \
                 'echo 1 > /proc/sys/kernel/panic' 'echo x > /proc/sysrq-trigger' 'dd if=/dev/kmsg count=1'; do sh -c \"$try\" 2>/dev/null && echo \"$try\"; done; true";
    assert_eq!(t.sh_with(["--uidmap", MAP, "-v", &bind], tries), "plain");
    // With all capabilities there are it has those of its own namespaces only: it may change its own mounts and name.
    let all = ["--uidmap", MAP, "-v", &bind, "--cap-add", "ALL"];
    let out = t.sh_with(all, tries);
    let own = |line: &&str| !["mount ", "hostname "].iter().any(|what| line.starts_with(what));
    let may: Vec<&str> = out.lines().filter(own).collect();
    assert_eq!(may, ["plain"], "{out}");
    assert_eq!(owner(&dir.join("plain")), (0, 0));
    assert_eq!(fs::read_to_string(dir.join("plain")).unwrap(), "plain");
    // What it may write belongs to who it is outside.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    t.sh_with(["--uidmap", MAP, "-v", &bind], "touch /d/made; chown 5:6 /d/made");
    assert_eq!(owner(&dir.join("made")), (700_005, 700_006));
    chown(&dir, Some(1000), Some(1001)).unwrap();
    // With ids mapped its root would be the directory's owner, and root beside: what could lead there is refused.
    let idmap = format!("{bind}:idmap");
    let of_host = format!(
        "type=volume,src={},dst=/d,volume-opt=type=none,volume-opt=o=bind,volume-opt=device={}",
        t.name("bound"),
        dir.display()
    );
    for mount in [["-v", &idmap], ["--mount", &of_host]] {
        let out = t.rbox(["run", "--rm", "--uidmap", MAP, mount[0], mount[1], BUSYBOX, "true"]);
        out.refused(125, &["conflicting options", "a user namespace of its own"]);
    }
    let bound = t.name("bound");
    let device = format!("device={}", dir.display());
    t.ok(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, &bound]);
    let volume = format!("{bound}:/d");
    let out = t.rbox(["run", "--rm", "--uidmap", MAP, "-v", &volume, BUSYBOX, "true"]);
    out.refused(125, &[&format!("volume {bound} has options")]);
    t.ok(["volume", "rm", &bound]);
    // A setuid program of its own makes nobody root of the host.
    t.sh_with(["--uidmap", MAP, "-v", &bind], "cp /bin/busybox /d/setuid; chmod 4755 /d/setuid");
    assert_eq!(owner(&dir.join("setuid")), (700_000, 700_000));
}

/// On disk all is owned as without a user namespace, so everything that reads and copies finds the users there are inside.
#[test]
fn files_have_the_owners_there_are_inside() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let (name, volume, image) = (t.name("c"), t.name("v"), t.name("image"));
    let mount = format!("{volume}:/etc");
    let (source, out) = (t.dir("source"), t.dir("out"));
    fs::write(source.join("in"), "in").unwrap();
    chown(source.join("in"), Some(7), Some(8)).unwrap();
    let list = "stat -c '%n %u:%g' /w/* /etc/passwd /etc/made /etc/hosts";
    t.sleeper(&name, ["--uidmap", MAP, "-v", &mount]);
    t.ok([
        "exec",
        &name,
        "sh",
        "-c",
        "mkdir /w; touch /w/a /etc/made; chown 5:6 /w/a /etc/made; rm -r /home",
    ]);
    let into = format!("{name}:/w/in");
    let from = source.join("in").to_string_lossy().into_owned();
    for running in [true, false] {
        if !running {
            t.ok(["stop", "-t", "0", &name]);
        }
        t.ok(["cp", &from, &into]);
        let archive = format!("cp {name}:/w - | tar tvn; rbox export {name} | tar tvn");
        let binary = crate::harness::binary();
        let line = archive.replace("rbox", &binary.to_string_lossy());
        let line = format!("{} {line}", binary.display());
        let listed = t.suite.with_roots(Cmd::new("sh", ["-c", &line])).run().ok();
        let owners = |file: &str| -> Vec<String> {
            let lines = listed.lines().filter(|line| line.ends_with(file));
            lines.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
        };
        assert_eq!(
            (owners(" w/a"), owners(" w/in")),
            (vec!["5/6".into(); 2], vec!["7/8".into(); 2]),
            "{listed}"
        );
        assert_eq!(t.ok(["diff", &name]), "A /w\nA /w/a\nA /w/in\nD /home");
        t.ok(["commit", &name, &image]);
        let committed =
            t.ok(["run", "--rm", &image, "sh", "-c", "stat -c '%n %u:%g' /w/*; ls -d /home 2>&1; true"]);
        assert!(
            committed.starts_with("/w/a 5:6\n/w/in 7:8\n") && committed.contains("No such file"),
            "{committed}"
        );
        let to = out.to_string_lossy().into_owned();
        t.ok(["cp", &format!("{name}:/w/a"), &to]);
        assert_eq!(owner(&out.join("a")), (0, 0));
    }
    let upper = t.ok(["inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", &name]);
    assert_eq!(owner(&Path::new(&upper).join("w/a")), (5, 6));
    t.ok(["start", &name]);
    let seen = t.ok(["exec", &name, "sh", "-c", list]);
    assert_eq!(seen, "/w/a 5:6\n/w/in 7:8\n/etc/passwd 0:0\n/etc/made 5:6\n/etc/hosts 0:0");
    // Whoever else has the volume sees the same, with other ids or none.
    let other = format!("{volume}:/v");
    for map in [OTHER, MAP] {
        assert_eq!(t.sh_with(["--uidmap", map, "-v", &other], "stat -c %u:%g /v/made /v/passwd"), "5:6\n0:0");
    }
    assert_eq!(t.sh_with(["-v", &other], "stat -c %u:%g /v/made /v/passwd"), "5:6\n0:0");
    t.ok(["rm", "-f", &name]);
    t.ok(["rmi", "-f", &image]);
    t.ok(["volume", "rm", &volume]);
}

/// A program's streams are a null device of its own, whatever is at /dev: through the host's it could change that for everybody.
#[test]
fn streams_are_not_the_hosts_null_device() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let name = t.name("c");
    let null = |at: &str| {
        t.ok([
            "run",
            "--rm",
            "--uidmap",
            MAP,
            "-v",
            at,
            BUSYBOX,
            "stat",
            "-Lc",
            "%d:%i:%t,%T",
            "/proc/self/fd/0",
        ])
    };
    let hosts = fs::metadata("/dev/null").unwrap();
    let hosts = format!("{}:{}:1,3", hosts.dev(), hosts.ino());
    let dir = t.dir("dev");
    fs::write(dir.join("file"), "").unwrap();
    let (at_dev, at_null) = (format!("{}:/dev", dir.display()), format!("{}/file:/dev/null", dir.display()));
    t.sleeper(&name, ["--uidmap", MAP, "-v", &at_dev]);
    let of_exec = t.ok(["exec", &name, "stat", "-Lc", "%d:%i:%t,%T", "/proc/self/fd/0"]);
    for own in [null(&at_dev), null(&at_null), null(&format!("{}:/d", dir.display())), of_exec] {
        assert!(own.ends_with(":1,3") && own != hosts, "{own} {hosts}");
    }
    t.ok(["rm", "-f", &name]);
}

/// What the host does for a container works as ever.
#[test]
fn the_rest_is_as_ever() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let device = "ls -ln /dev/fuse /dev/null; echo x > /dev/null; echo -n y > /dev/stdout; stat -c %u:%g /dev /dev/pts /dev/shm";
    if Path::new("/dev/fuse").exists() {
        let out = t.sh_with(["--uidmap", MAP, "--device", "/dev/fuse"], device);
        assert!(out.contains("0        0") && out.ends_with("y0:0\n0:0\n0:0"), "{out}");
    }
    assert!(t.sh_with(["--uidmap", MAP, "-t"], "tty; id -u").starts_with("/dev/pts/0"));
    // The process between the namespaces is not counted.
    let limit = "exec cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null";
    assert_eq!(
        t.rbox(["run", "--rm", "--uidmap", MAP, "--pids-limit", "1", BUSYBOX, "sh", "-c", limit]).stdout,
        "1\n"
    );
    t.rbox(["run", "--rm", "--uidmap", MAP, "--pids-limit", "1", BUSYBOX, "sh", "-c", "(true); true"])
        .code(2);
    let tmpfs = ["--uidmap", MAP, "--read-only", "--tmpfs", "/t:uid=5"];
    assert_eq!(t.sh_with(tmpfs, "stat -c %u /t; touch /x 2>/dev/null || echo sealed"), "5\nsealed");
    assert_eq!(t.sh_with(["--uidmap", MAP, "--init"], "cat /proc/1/comm"), "docker-init");
    assert_eq!(
        t.sh_with(
            ["--uidmap", MAP, "--sysctl", "net.ipv4.ip_forward=1"],
            "cat /proc/sys/net/ipv4/ip_forward"
        ),
        "1"
    );
    assert_eq!(
        t.sh_with(["--uidmap", MAP, "--hostname", "box"], "hostname; grep -c box /etc/hosts"),
        "box\n1"
    );
    assert_eq!(
        t.sh_with(["--uidmap", MAP, "-m", "64m", "--oom-score-adj", "7"], "cat /proc/self/oom_score_adj"),
        "7"
    );
    // Nor is the one that joins another's processes.
    let other = t.name("other");
    t.sleeper(&other, []);
    let joined = [
        "run",
        "--rm",
        "--pid",
        &format!("container:{other}"),
        "--pids-limit",
        "1",
        BUSYBOX,
        "sh",
        "-c",
        limit,
    ];
    assert_eq!(t.rbox(joined).stdout, "1\n");
    t.ok(["rm", "-f", &other]);
    let told = t
        .rbox(["run", "--rm", "--explain=calls", "--network", "none", "--uidmap", MAP, BUSYBOX, "true"])
        .stderr;
    for step in
        ["make a user namespace", "stack the layers with ids mapped", "make ready for the user namespace"]
    {
        assert!(told.contains(step), "{step}: {told}");
    }
}

#[test]
fn the_rest_is_as_ever_on_a_network() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let name = t.name("c");
    // With a port, a health check, an exec, a mount that comes later, and again after a restart.
    let volume = t.name("v");
    let args = [
        "run",
        "-d",
        "--name",
        &name,
        "--uidmap",
        MAP,
        "-p",
        "127.0.0.1::80",
        "--health-cmd",
        "id",
        "--health-interval",
        "200ms",
        BUSYBOX,
        "sh",
        "-c",
        "mkdir -p /w; echo page > /w/index.html; echo started; exec httpd -f -p 80 -h /w",
    ];
    t.ok(args);
    for again in [false, true] {
        if again {
            t.ok(["restart", "-t", "0", &name]);
        }
        let address = t.ok(["port", &name, "80"]);
        wait_until("it answers", || {
            Cmd::new("curl", ["-s", &format!("http://{address}/index.html")]).run().stdout.trim() == "page"
        });
        wait_until("it is healthy", || {
            t.ok(["inspect", "-f", "{{.State.Health.Status}}", &name]) == "healthy"
        });
        assert!(t.ok(["stats", "--no-stream", &name]).contains(&name));
        assert!(t.ok(["top", &name]).contains("700000"));
    }
    assert_eq!(t.ok(["logs", &name]), "started\nstarted");
    // A terminal belongs to the user that it is for, whoever made it.
    for (user, uid) in [("0", "0"), ("33", "33")] {
        let out = t.ok(["exec", "-t", "-u", user, &name, "sh", "-c", "stat -c %u $(tty); id -u"]);
        assert_eq!(out.lines().map(str::trim).collect::<Vec<_>>(), [uid, uid]);
    }
    t.ok(["mount", "add", &name, &format!("{volume}:/later")]);
    t.ok(["exec", &name, "touch", "/later/file"]);
    assert_eq!(t.ok(["exec", &name, "stat", "-c", "%u", "/later", "/later/file"]), "0\n0");
    t.ok(["mount", "rm", &name, "/later"]);
    t.ok(["rm", "-f", &name]);
    t.ok(["volume", "rm", &volume]);
}

#[test]
fn ranges_of_auto() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let (one, two, three, named) = (t.name("one"), t.name("two"), t.name("three"), t.name("named"));
    let text = "containers:900000:5000\nsomebody:990000:3000\nsomebody:980000:10\n";
    let create = |name: &str, mode: &str| {
        with_subordinate(&t, text, &["create", "--name", name, "--userns", mode, BUSYBOX, "sleep", "1000"])
    };
    let Some(out) = create(&one, "auto:size=2000") else { return };
    out.ok();
    let map = |name: &str| t.ok(["inspect", "-f", "{{index .HostConfig.IDMappings.UidMap 0}}", name]);
    create(&two, "auto:size=2000").unwrap().ok();
    assert_eq!((map(&one), map(&two)), ("0:900000:2000".into(), "0:902000:2000".into()));
    create(&three, "auto:size=2000")
        .unwrap()
        .refused(125, &["--userns auto", "/etc/subuid", "no 2000 ids in a row"]);
    // They stay theirs when they run, and after; and are free when they are gone.
    t.ok(["start", &one, &two]);
    assert_eq!((status(&t, &one, "Uid"), status(&t, &two, "Gid")), ("900000".into(), "902000".into()));
    t.ok(["stop", "-t", "0", &one]);
    create(&three, "auto:size=2000").unwrap().refused(125, &["no 2000 ids"]);
    t.ok(["rm", &one]);
    create(&three, "auto:size=2000").unwrap().ok();
    assert_eq!(map(&three), "0:900000:2000");
    // Several at once have no id in common.
    t.ok(["rm", "-f", &two, &three]);
    let several: Vec<String> = (0..4).map(|number| t.name(&format!("at-once-{number}"))).collect();
    std::thread::scope(|scope| {
        let all: Vec<_> =
            several.iter().map(|name| scope.spawn(|| create(name, "auto:size=1024").unwrap().ok())).collect();
        for one in all {
            one.join().unwrap();
        }
    });
    let mut starts: Vec<String> = several.iter().map(|name| map(name)).collect();
    starts.sort();
    starts.dedup();
    assert_eq!(starts.len(), 4, "{starts:?}");
    for name in &several {
        t.ok(["rm", name]);
    }
    auto_is_alone(&t, text);
    // Those of a name.
    create(&named, "remap:somebody").unwrap().ok();
    let maps = t.ok(["inspect", "-f", "{{json .HostConfig.IDMappings.GidMap}}", &named]);
    assert_eq!(maps, r#"["0:990000:3000","3000:980000:10"]"#);
    t.ok(["start", &named]);
    assert_eq!(status(&t, &named, "Uid"), "990000");
    t.ok(["rm", "-f", &named]);
    let by_flag = ["create", "--name", &named, "--subuidname", "somebody", BUSYBOX, "true"];
    with_subordinate(&t, text, &by_flag).unwrap().ok();
    assert_eq!(map(&named), "0:990000:3000");
    let line = t.ok(["inspect", "--create-command", &named]);
    assert!(line.contains("--subuidname somebody"), "{line}");
    t.ok(["rm", "-f", &named]);
    create(&named, "remap:nobody-has-this")
        .unwrap()
        .refused(125, &["/etc/subuid", "nobody-has-this", "add a line such as"]);
    // Whatever else is in the file.
    let many: Vec<String> = (0..400).map(|n| format!("many:{}:5\n", 1_000_000 + 10 * n)).collect();
    let text = [b"# f\xfcr alle\ntwice:990000:3000\ntwice:993000:10\ntwice:990000:3000\ntwice:4294967295:5\nover:5:10\nover:9:10\n".to_vec(), many.concat().into_bytes()].concat();
    let create = |mode: &str| {
        with_subordinate(&t, &text, &["create", "--name", &named, "--userns", mode, BUSYBOX, "true"]).unwrap()
    };
    create("remap:twice").ok();
    assert_eq!(map(&named), "0:990000:3010");
    t.ok(["start", "-a", &named]);
    t.ok(["rm", &named]);
    create("remap:many").refused(125, &["/etc/subuid gives to \"many\"", "more than 340 ranges"]);
    create("remap:over").refused(125, &["user ids: an id is in two ranges"]);
}

/// Nobody is given ids that `auto` gave, and a record that is broken neither hides its own nor stops others.
fn auto_is_alone(t: &Test, text: &str) {
    let (one, two) = (t.name("alone"), t.name("beside"));
    let create = |name: &str, flags: &[&str]| {
        let words = [&["create", "--name", name], flags, &[BUSYBOX, "true"]].concat();
        with_subordinate(t, text, &words).unwrap()
    };
    let auto = ["--userns", "auto:size=2000"];
    create(&one, &auto).ok();
    let id = t.ok(["inspect", "-f", "{{.Id}}", &one]);
    for flags in [["--uidmap", "0:901999:5"], ["--gidmap", "0:5:900001"], ["--userns", "remap:containers"]] {
        create(&two, &flags)
            .refused(125, &["id 90", "of the host belongs to container", &id[..12], "--userns auto"]);
    }
    create(&two, &["--uidmap", "0:902000:5"]).ok();
    t.ok(["rm", &two]);
    let record = t.suite.root.join("containers").join(&id).join("config.json");
    let whole = fs::read(&record).unwrap();
    fs::write(&record, "{").unwrap();
    create(&two, &auto).ok();
    let map = t.ok(["inspect", "-f", "{{index .HostConfig.IDMappings.UidMap 0}}", &two]);
    assert_eq!(map, "0:902000:2000");
    t.ok(["rm", &two]);
    // The record is enough, too; and with neither of both nobody can tell.
    let ids = record.with_file_name("ids.json");
    fs::write(&ids, "").unwrap();
    create(&two, &auto).refused(125, &["the ids of container", &id[..12], "rbox rm -f"]);
    fs::write(&record, whole).unwrap();
    create(&two, &["--uidmap", "0:901999:5"]).refused(125, &["belongs to container"]);
    t.ok(["rm", &one]);
}

/// What belongs to users that a container has not is refused before anything is made.
#[test]
fn users_that_it_has_not() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let name = t.name("c");
    for (flags, who) in [
        (["-u", "33"], "user 33"),
        (["-u", "www-data"], "user 33"),
        (["-u", "5:70000"], "group 70000"),
        (["--group-add", "50"], "group 50"),
    ] {
        let words = ["run", "--rm", "--uidmap", TEN, flags[0], flags[1], BUSYBOX, "true"];
        t.rbox(words).refused(125, &[&format!("{who} is not among the 10 ids of the container")]);
    }
    let image = t.name("image");
    t.ok(["create", "--name", &name, BUSYBOX, "true"]);
    t.ok(["commit", "-c", "USER 70000", &name, &image]);
    t.ok(["rm", &name]);
    t.rbox(["create", "--uidmap", MAP, &image, "true"])
        .refused(125, &["user 70000 is not among the 65536 ids of the container"]);
    t.ok(["rmi", &image]);
    t.sleeper(&name, ["--uidmap", TEN]);
    t.rbox(["exec", "-u", "www-data", &name, "true"]).refused(1, &["user 33 is not among the 10 ids"]);
    // A tree with one thing in it that is another's, and an archive.
    let dir = t.dir("d");
    fs::create_dir_all(dir.join("tree/sub")).unwrap();
    for (file, uid, gid) in [("big", 70_000, 0), ("tree/first", 0, 0), ("tree/sub/other", 5, 70_000)] {
        fs::write(dir.join(file), "x").unwrap();
        chown(dir.join(file), Some(uid), Some(gid)).unwrap();
    }
    let at = |file: &str| dir.join(file).to_string_lossy().into_owned();
    let place = |file: &str| format!("{name}:/{file}");
    // And one whose capabilities count for somebody else's root.
    fs::create_dir(dir.join("rooted")).unwrap();
    for file in ["first", "program"] {
        fs::copy("/bin/true", dir.join("rooted").join(file)).unwrap();
    }
    let with_root = has("setcap")
        && Cmd::new("setcap", ["-n", "70000", "cap_net_admin=ep", &at("rooted/program")]).run().code == 0;
    for running in [true, false] {
        if !running {
            t.ok(["stop", "-t", "0", &name]);
        }
        let refused = |out: Output, who: &str| {
            out.refused(
                1,
                &[&format!("{who} is not among the 10 ids of the container, which has uids 0:700000:10")],
            );
        };
        refused(t.rbox(["cp", &at("big"), &place("big")]), "user 70000");
        refused(t.rbox(["cp", &at("tree"), &place("tree")]), "group 70000");
        if with_root {
            t.rbox(["cp", &at("rooted"), &place("rooted")]).refused(
                1,
                &["rooted/program", "root (70000) that is none of the container's", "nothing was copied"],
            );
        }
        let line = format!(
            "tar -C {} -cf - big | {} cp - {}",
            dir.display(),
            crate::harness::binary().display(),
            place("root")
        );
        refused(t.suite.with_roots(Cmd::new("sh", ["-c", &line])).run(), "user 70000");
        assert_eq!(t.ok(["diff", &name]), "");
    }
    t.ok(["rm", "-f", &name]);
}

/// A bind is not mapped for its programs, and `cp` sees in it whom they see, and makes what they would make.
#[test]
fn binds_seen_by_cp() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    let (name, dir, source) = (t.name("c"), t.dir("bind"), t.dir("source"));
    for (file, of_host) in [("in", false), ("own", true), ("hosts", false)] {
        let place = if of_host || file == "hosts" { &dir } else { &source };
        fs::write(place.join(file), file).unwrap();
        let owner = if of_host { 700_007 } else { 7 };
        chown(place.join(file), Some(owner), Some(owner)).unwrap();
    }
    chown(&dir, Some(700_000), Some(700_000)).unwrap();
    t.sleeper(&name, ["--uidmap", MAP, "-v", &format!("{}:/d", dir.display())]);
    for running in [true, false] {
        if !running {
            t.ok(["stop", "-t", "0", &name]);
        }
        let file = format!("in-{running}");
        t.ok(["cp", &source.join("in").to_string_lossy(), &format!("{name}:/d/{file}")]);
        assert_eq!(owner(&dir.join(&file)), (700_007, 700_007), "{running}");
        let binary = crate::harness::binary();
        let line = format!("{} cp {name}:/d - | tar tvn", binary.display());
        let listed = t.suite.with_roots(Cmd::new("sh", ["-c", &line])).run().ok();
        for (file, who) in [("own", "7/7"), ("in-true", "7/7"), ("hosts", "65534/65534")] {
            let line = listed.lines().find(|line| line.ends_with(&format!(" d/{file}"))).unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some(who), "{running}: {listed}");
        }
    }
    t.ok(["rm", "-f", &name]);
}

/// A program's capabilities count in the container that has it, and are seen the same whether it runs or not.
#[test]
fn capabilities_of_files() {
    let Some(t) = Test::start() else { return };
    if !can(&t) {
        return;
    }
    if !has("setcap") || !has("getcap") {
        return skipped("no setcap");
    }
    let name = t.name("c");
    let dir = t.dir("d");
    let at = |file: &str| dir.join(file).to_string_lossy().into_owned();
    let place = |file: &str| format!("{name}:/home/{file}");
    t.sleeper(&name, ["--uidmap", MAP]);
    t.ok(["cp", &format!("{name}:/bin/busybox"), &at("program")]);
    Cmd::new("setcap", ["cap_chown=ep", &at("program")]).run().ok();
    let mut seen = Vec::new();
    for running in [true, false] {
        if !running {
            t.ok(["stop", "-t", "0", &name]);
        }
        let file = format!("busybox-{running}");
        t.ok(["cp", &at("program"), &place(&file)]);
        let line =
            "\"$1\" export \"$2\" > \"$3\" && tar --xattrs --xattrs-include='*' -C \"$4\" -xf \"$3\" home";
        let out = t.dir(&format!("out-{running}"));
        let (tar, out) = (at("tar"), out.to_string_lossy().into_owned());
        let binary = crate::harness::binary().to_string_lossy().into_owned();
        t.suite.with_roots(Cmd::new("sh", ["-c", line, "sh", &binary, &name, &tar, &out])).run().ok();
        t.ok(["cp", &place("busybox-true"), &out]);
        let caps = |file: &str| Cmd::new("getcap", ["-n", &format!("{out}/{file}")]).run().ok();
        for place in [format!("home/{file}"), "home/busybox-true".into(), "busybox-true".into()] {
            assert!(caps(&place).ends_with("cap_chown=ep"), "{running} {place}: {}", caps(&place));
        }
        let line = "\"$1\" cp \"$2\" - | sha256sum";
        seen.push(
            t.suite
                .with_roots(Cmd::new("sh", ["-c", line, "sh", &binary, &place("busybox-true")]))
                .run()
                .ok(),
        );
    }
    assert_eq!(seen[0], seen[1]);
    // They count, whenever the file came.
    t.ok(["start", &name]);
    for file in ["busybox-true", "busybox-false"] {
        let words =
            ["exec", "-u", "33", &name, &format!("/home/{file}"), "grep", "CapEff", "/proc/self/status"];
        assert_eq!(t.ok(words), "CapEff:\t0000000000000001", "{file}");
    }
    t.ok(["rm", "-f", &name]);
}

#[test]
fn what_excludes_it_is_refused() {
    let Some(t) = Test::start() else { return };
    for (flags, why) in [
        (&["--privileged"][..], "privileged mode is incompatible with user namespaces"),
        (&["--pid", "host"], "cannot share the host PID namespace when user namespaces are enabled"),
        (
            &["--network", "host"],
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (&["--ipc", "host"], "host's IPC namespace"),
        (&["--cgroupns", "host"], "host's cgroup namespace"),
        (&["--userns", "auto"], "cannot be used together with --uidmap"),
        (&["--subuidname", "x"], "cannot be used together with --uidmap"),
        (&["--uidmap", "5:1:1:1"], "two or three numbers"),
        (&["--gidmap", "1:5:1"], "the container's root (0) is not in it"),
    ] {
        let words = [&["run", "--rm", "--uidmap", MAP], flags, &[BUSYBOX, "true"]].concat();
        t.suite.rbox(words).run().refused(125, &[why]);
    }
    for (mode, why) in
        [("nomap", "without root"), ("keep-id:uid=5", "without root"), ("auto:size=5", "it takes host")]
    {
        t.rbox(["run", "--rm", "--userns", mode, BUSYBOX, "true"]).refused(125, &[mode, why]);
    }
    let name = t.name("c");
    t.sleeper(&name, ["--ipc", "shareable"]);
    for kind in ["--pid", "--ipc", "--network"] {
        let of = format!("container:{name}");
        t.rbox(["run", "--rm", "--uidmap", MAP, kind, &of, BUSYBOX, "true"])
            .refused(125, &["cannot join namespaces of another container"]);
    }
    if !can(&t) {
        t.ok(["rm", "-f", &name]);
        return;
    }
    // Nor the other way round: a root that is the host's would have all capabilities over such namespaces.
    let (own, later) = (t.name("own"), t.name("later"));
    t.sleeper(&own, ["--ipc", "shareable", "--uidmap", MAP]);
    let id = |name: &str| t.ok(["inspect", "-f", "{{.Id}}", name]);
    let why = format!("cannot join namespaces of container {own}: it has a user namespace of its own");
    for kind in ["--pid", "--ipc", "--network"] {
        t.rbox(["run", "--rm", kind, &format!("container:{own}"), BUSYBOX, "true"]).refused(125, &[&why]);
        // One that was made by an older rbox.
        t.ok(["create", "--name", &later, kind, &format!("container:{name}"), BUSYBOX, "true"]);
        let record = t.suite.root.join("containers").join(id(&later)).join("config.json");
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace(&id(&name), &id(&own))).unwrap();
        t.rbox(["start", &later]).refused(1, &[&why]);
        t.ok(["rm", &later]);
    }
    let privileged = [
        "run",
        "--rm",
        "--privileged",
        "--pid",
        &format!("container:{own}"),
        "--network",
        &format!("container:{own}"),
        BUSYBOX,
        "sh",
        "-c",
        "ls /sys/class/net | grep -c eth0; grep Uid /proc/1/status | cut -f2",
    ];
    assert_eq!(t.ok(privileged), "1\n700000");
    // Nor by way of one that may.
    let via = t.name("via");
    t.sleeper(&via, ["--privileged", "--pid", &format!("container:{own}")]);
    t.rbox(["run", "--rm", "--cap-drop", "ALL", "--pid", &format!("container:{via}"), BUSYBOX, "true"])
        .refused(
            125,
            &[&format!(
                "cannot join namespaces of container {via}: it has a user namespace of its own, or is in"
            )],
        );
    t.ok(["rm", "-f", &via, &name, &own]);
}
