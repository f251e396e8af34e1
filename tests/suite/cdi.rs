//! Devices by their names in CDI, and `--gpus`.
//!
//! Each test has directories of its own for specs, which a configuration file of its own names: nothing is written to /etc/cdi.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{BUSYBOX, Cmd, Project, Test};

/// A test's own directories of specs, the second of which wins.
pub(crate) struct Specs {
    pub(crate) config: PathBuf,
    pub(crate) first: PathBuf,
    pub(crate) second: PathBuf,
}

impl Specs {
    pub(crate) fn new(t: &Test) -> Self {
        let dir = t.dir("cdi");
        let [first, second] = ["etc", "run"].map(|name| dir.join(name));
        fs::create_dir(&first).unwrap();
        let config = dir.join("config.json");
        fs::write(&config, json!({ "cdi-spec-dirs": [first, second] }).to_string()).unwrap();
        fs::create_dir(&second).unwrap();
        Self { config, first, second }
    }

    /// A file with devices of `vendor.example/part`.
    pub(crate) fn write(&self, file: &str, devices: &Value, all: &Value) {
        self.write_kind(file, "vendor.example/part", devices, all);
    }

    fn write_kind(&self, file: &str, kind: &str, devices: &Value, all: &Value) {
        let devices: Vec<Value> = devices
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, edits)| json!({ "name": name, "containerEdits": edits }))
            .collect();
        let text = json!({ "cdiVersion": "0.7.0", "kind": kind, "devices": devices, "containerEdits": all });
        fs::write(self.first.join(file), text.to_string()).unwrap();
    }

    fn cmd(&self, t: &Test, args: &[&str]) -> Cmd {
        t.cmd(args).env("RBOX_CONFIG", &self.config)
    }

    /// What a script prints in a container with these flags.
    fn sh(&self, t: &Test, flags: &[&str], script: &str) -> String {
        let args = [&["run", "--rm", "--network", "none"], flags, &[BUSYBOX, "sh", "-c", script]].concat();
        self.cmd(t, &args).run().ok().trim_end().to_owned()
    }
}

fn part(name: &str) -> String {
    format!("vendor.example/part={name}")
}

#[test]
fn what_a_device_brings() {
    let Some(t) = Test::start() else { return };
    let specs = Specs::new(&t);
    let share = t.dir("share");
    fs::write(share.join("library"), "of the vendor\n").unwrap();
    let yaml = format!(
        "# As tools of vendors write them.\n---\ncdiVersion: 0.7.0\nkind: vendor.example/part\ncontainerEdits:\n  env: [ALL=1, OWN=spec]\ndevices:\n\
         - name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/part/zero\n      hostPath: /dev/zero\n      fileMode: 0640\n      uid: 5\n      gid: 6\n      permissions: r\n\
         \x20   - {{path: /dev/other, type: c, major: 4000, minor: 229, permissions: r}}\n    mounts:\n    - hostPath: {}\n      containerPath: /usr/lib/vendor\n      options: [ro, nosuid, rbind]\n    \
         - {{hostPath: tmpfs, containerPath: /scratch, type: tmpfs, options: [size=64k]}}\n    additionalGids: [4242, 0]\n",
        share.display()
    );
    fs::write(specs.first.join("vendor.yaml"), yaml).unwrap();
    let device = part("0");
    let script = "echo $ALL $OWN; ls -ln /dev/part/zero /dev/other | awk '{print $1, $3, $4, $5, $6, $10}'; cat /usr/lib/vendor/library; \
                  touch /usr/lib/vendor/x 2>&1; id -G; df -k /scratch | tail -1 | awk '{print $2}'; head -c 3 /dev/part/zero | wc -c; \
                  echo x > /dev/part/zero";
    let out = specs
        .cmd(
            &t,
            &["run", "--rm", "-u", "7:8", "-e", "OWN=user", "--device", &device, BUSYBOX, "sh", "-c", script],
        )
        .run();
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "1 spec",
            "crw-rw-rw- 7 8 4000, 229 /dev/other",
            "crw-r----- 5 6 1, 5 /dev/part/zero",
            "of the vendor",
            "touch: /usr/lib/vendor/x: Read-only file system",
            "8 4242",
            "64",
            "0",
        ],
        "{out:?}"
    );
    // There is no such device; the filter lets reads come so far, and no writes.
    let root = "cat /dev/other 2>&1; sh -c 'echo x > /dev/other' 2>&1; true";
    let said = specs.sh(&t, &["--device", &device], root);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].ends_with("No such device or address"), "{said}");
    assert!(lines[1].ends_with("Operation not permitted"), "{said}");
    // What goes with all devices of a file comes once, and one that is asked for twice is one.
    assert_eq!(
        specs.sh(&t, &["--device", &device, "--device", &device], "env | grep -c ALL; ls /dev/part"),
        "1\nzero"
    );
    // In a user namespace the owners are its users.
    if crate::userns::can(&t) {
        let seen = specs.sh(
            &t,
            &["--uidmap", crate::userns::MAP, "--device", &device],
            "stat -c '%u %g %t,%T' /dev/part/zero; cat /usr/lib/vendor/library",
        );
        assert_eq!(seen, "5 6 1,5\nof the vendor");
        specs
            .cmd(&t, &["run", "--rm", "--uidmap", "0:700000:1000", "--device", &device, BUSYBOX, "true"])
            .run()
            .refused(125, &["additionalGids: group 4242 is not among the 1000 ids"]);
    }
}

/// A container asks for names, and what they bring is looked up at each start.
#[test]
fn a_container_keeps_the_names() {
    let Some(t) = Test::start() else { return };
    let (specs, name) = (Specs::new(&t), t.name("c"));
    let device = part("one");
    let value = |text: &str| json!({ "one": { "env": [format!("V={text}")] } });
    // As with Docker, nothing of it is looked for when it is made.
    let words = ["--network", "none", "--device", &device, "--device", "/dev/kmsg"];
    let script = ["sh", "-c", "echo $V; exec sleep 1000"];
    specs.cmd(&t, &[&["create", "--name", &name], &words[..], &[BUSYBOX], &script].concat()).run().ok();
    let start = || specs.cmd(&t, &["start", &name]).run();
    start().refused(1, &["CDI device injection failed: unresolvable CDI devices vendor.example/part=one"]);
    specs.write("a.json", &value("first"), &json!({}));
    start().ok();
    t.ok(["stop", "-t", "0", &name]);
    specs.write("a.json", &value("second"), &json!({}));
    specs.cmd(&t, &["restart", "-t", "0", &name]).run().ok();
    t.ok(["kill", &name]);
    fs::remove_file(specs.first.join("a.json")).unwrap();
    t.ok(["wait", &name]);
    start().refused(1, &["unresolvable CDI devices vendor.example/part=one"]);
    let logs = t.ok(["logs", &name]);
    assert_eq!(logs.lines().collect::<Vec<_>>(), ["first", "second"]);
    let host = &t.inspect(&name)["HostConfig"];
    let request =
        json!({ "Driver": "cdi", "Count": 0, "DeviceIDs": [device], "Capabilities": null, "Options": null });
    assert_eq!(host["DeviceRequests"], json!([request]));
    assert_eq!(host["Devices"][0]["PathOnHost"], "/dev/kmsg");
    let command = t.ok(["inspect", "--create-command", &name]);
    assert!(command.contains(" --device /dev/kmsg --device vendor.example/part=one "), "{command}");
    t.ok(["rm", &name]);
}

#[test]
fn specs_that_are_wrong() {
    let Some(t) = Test::start() else { return };
    let specs = Specs::new(&t);
    let good =
        json!({ "good": { "env": ["V=first"] }, "both": { "env": ["V=x"] }, "over": { "env": ["V=first"] } });
    specs.write("good.json", &good, &json!({}));
    specs.write("good2.json", &json!({ "both": { "env": ["V=y"] } }), &json!({}));
    let over = fs::read_to_string(specs.first.join("good.json")).unwrap();
    fs::write(specs.second.join("over.json"), over.replace("first", "second").replace("both", "other"))
        .unwrap();
    // Those that a file may not say: the file is told of, and the others' devices can be had.
    for (number, edits) in [
        node(&json!({ "path": "/dev/../etc/x", "hostPath": "/dev/null" })),
        node(&json!({ "path": "/etc/x", "hostPath": "/dev/null" })),
        mount("/etc", "/proc"),
        mount("/etc", "/proc/sys/kernel"),
        mount("/etc", "/a/../proc"),
        mount("/etc", "/dev"),
        json!({ "unknown": 1 }),
    ]
    .iter()
    .enumerate()
    {
        specs.write(&format!("bad{number}.json"), &json!({ format!("bad{number}"): edits }), &json!({}));
    }
    fs::write(specs.first.join("torn.yaml"), "cdiVersion: [\n").unwrap();
    fs::write(specs.first.join("huge.json"), vec![b' '; 5 << 20]).unwrap();
    symlink("/dev/zero", specs.first.join("endless.json")).unwrap();
    nix_fifo(&specs.first.join("fifo.json"));
    assert_eq!(specs.sh(&t, &["--device", &part("good")], "echo $V"), "second");
    assert_eq!(specs.sh(&t, &["--device", &part("over")], "echo $V"), "second");
    let run = |device: &str| {
        specs.cmd(&t, &["run", "--rm", "--network", "none", "--device", &part(device), BUSYBOX, "true"]).run()
    };
    run("both").refused(
        125,
        &["CDI device injection failed: conflicting device \"vendor.example/part=both\"", "good2.json"],
    );
    for number in 0..7 {
        run(&format!("bad{number}"))
            .refused(125, &["unresolvable CDI devices", &format!("bad{number}.json: ")]);
    }
    run("none").refused(
        125,
        &[
            "torn.yaml: line",
            "huge.json: it is too large",
            "endless.json: it is not a regular file",
            "fifo.json: ",
        ],
    );
    // info tells of all of them.
    let info = specs.cmd(&t, &["info"]).run();
    for words in [
        " CDI spec directories:\n",
        "  cdi: vendor.example/part=good\n",
        "  cdi: vendor.example/part=other\n",
    ] {
        assert!(info.stdout.contains(words), "{info:?}");
    }
    for file in ["bad0.json", "torn.yaml", "conflicting device \"vendor.example/part=both\""] {
        assert!(
            info.stderr.lines().any(|line| line.starts_with("WARNING: CDI: ") && line.contains(file)),
            "{info:?}"
        );
    }
    let info = specs.cmd(&t, &["info", "-f", "json"]).run().ok();
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["CDISpecDirs"], json!([specs.first, specs.second]));
    assert!(
        info["DiscoveredDevices"]
            .as_array()
            .unwrap()
            .contains(&json!({ "Source": "cdi", "ID": part("good") }))
    );
    assert!(!info["DiscoveredDevices"].to_string().contains("both"));
}

fn node(fields: &Value) -> Value {
    json!({ "deviceNodes": [fields] })
}

fn mount(from: &str, to: &str) -> Value {
    json!({ "mounts": [{ "hostPath": from, "containerPath": to }] })
}

#[test]
fn specs_that_no_container_can_have() {
    let Some(t) = Test::start() else { return };
    let specs = Specs::new(&t);
    let dir = t.dir("outside");
    symlink("/dev/null", dir.join("link")).unwrap();
    let run = |device: &str| {
        specs.cmd(&t, &["run", "--rm", "--network", "none", "--device", &part(device), BUSYBOX, "true"]).run()
    };
    let link = dir.join("link").to_string_lossy().into_owned();
    for (edits, why) in [
        (node(&json!({ "path": "/dev/x", "hostPath": link })), "not a device node"),
        (node(&json!({ "path": "/dev/x", "hostPath": "/dev/none-such" })), "/dev/none-such: no such file"),
        (node(&json!({ "path": "/dev/x", "hostPath": "/dev/null", "type": "b" })), "another type than b"),
        (node(&json!({ "path": "/dev/x", "hostPath": "/etc/passwd" })), "/etc/passwd: not a device node"),
        (mount("/none-such", "/a"), "bind source path does not exist: /none-such"),
        (json!({ "intelRdt": { "closID": "x" } }), "has intelRdt, which rbox does not support"),
    ] {
        specs.write("late.json", &json!({ "late": edits }), &json!({}));
        run("late").refused(125, &[why]);
    }
    let net = "cdiVersion: 1.1.0\nkind: vendor.example/part\ndevices: [{name: late, containerEdits: {netDevices: [{hostInterfaceName: eth9, name: x}]}}]\n";
    fs::write(specs.first.join("late.json"), "{}").unwrap();
    fs::write(specs.first.join("late.yaml"), net).unwrap();
    run("late").refused(125, &["has netDevices, which rbox does not support"]);
    // A link of the image leads no mount onto what is masked.
    fs::remove_file(specs.first.join("late.yaml")).unwrap();
    specs.write("late.json", &json!({ "late": mount("/etc", "/to-proc/x") }), &json!({}));
    let root = t.dir("root");
    fs::create_dir(root.join("bin")).unwrap();
    symlink("/proc", root.join("to-proc")).unwrap();
    let out = specs
        .cmd(
            &t,
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--device",
                &part("late"),
                "--rootfs",
                &root.to_string_lossy(),
                "/bin/x",
            ],
        )
        .run();
    out.refused(125, &["/to-proc/x"]);
}

fn nix_fifo(path: &Path) {
    Cmd::new("mkfifo", [path]).run().ok();
}

/// Hooks run where the OCI runtime specification says, each with the container's state.
#[test]
fn hooks_of_devices() {
    let Some(t) = Test::start() else { return };
    let (specs, name) = (Specs::new(&t), t.name("c"));
    let dir = t.dir("hooks");
    let log = dir.join("log");
    let hook = |kind: &str, script: &str| json!({ "hookName": kind, "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 20 });
    let note = |kind: &str| {
        let state = r#"s=$(cat); echo "$s" | grep -o '"status":"[a-z]*"'; b=$(echo "$s" | grep -o '"bundle":"[^"]*"' | cut -d'"' -f4); test -s "$b/config.json" && echo bundle"#;
        hook(
            kind,
            &format!(
                "{{ echo {kind}; {state}; readlink /proc/self/ns/mnt; }} | tr '\\n' ' ' >> {0}; echo >> {0}",
                log.display()
            ),
        )
    };
    // What tools of vendors do: the container's files, found by the bundle, from within its mount namespace.
    let inside = "b=$(grep -o '\"bundle\":\"[^\"]*\"' | cut -d'\"' -f4); r=$(grep -o '\"root\":{\"path\":\"[^\"]*\"' $b/config.json | cut -d'\"' -f6); echo made > $r/made-by-hook";
    let hooks = json!({ "hooks": [
        note("prestart"), note("createRuntime"), hook("createContainer", inside), note("createContainer"),
        // It is a program of the image, with the rights of the container's.
        { "hookName": "startContainer", "path": "/bin/touch", "args": ["touch", "/started"] },
        note("poststart"), note("poststop"),
    ] });
    specs.write("a.json", &json!({ "one": hooks }), &json!({}));
    let flags = ["--network", "none", "--device", &part("one")];
    let run = [
        &["run", "-d", "--name", &name],
        &flags[..],
        &[BUSYBOX, "sh", "-c", "cat /made-by-hook; ls /started; sleep 1000"],
    ]
    .concat();
    specs.cmd(&t, &run).run().ok();
    let lines = || fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap().to_string_lossy().into_owned();
    let of_container =
        fs::read_link(format!("/proc/{}/ns/mnt", t.pid(&name))).unwrap().to_string_lossy().into_owned();
    let wanted = [
        ("prestart", "creating", &own),
        ("createRuntime", "creating", &own),
        ("createContainer", "creating", &of_container),
        ("poststart", "running", &own),
    ];
    let line = |(kind, status, namespace): (&str, &str, &String)| {
        format!("{kind} \"status\":\"{status}\" bundle {namespace} ")
    };
    assert_eq!(lines(), wanted.map(line));
    crate::harness::wait_until("it has written", || t.ok(["logs", &name]) == "made\n/started");
    t.ok(["rm", "-f", &name]);
    // Its bundle is gone with it.
    assert_eq!(
        lines().get(4),
        Some(&format!("poststop \"status\":\"stopped\" bundle {own} ")),
        "{:?}",
        lines()
    );
    assert_eq!(lines().len(), 5);
    // A hook that fails is what the start fails with, and the hooks after its end run.
    for kind in ["createRuntime", "createContainer", "poststart"] {
        let hooks = json!({ "hooks": [hook(kind, "echo no luck >&2; exit 3"), note("poststop")] });
        specs.write("a.json", &json!({ "one": hooks }), &json!({}));
        let out = specs.cmd(&t, &[&["run", "--rm"], &flags[..], &[BUSYBOX, "sleep", "1000"]].concat()).run();
        out.refused(125, &[&format!("{kind} hook /bin/sh: "), "no luck"]);
    }
    assert_eq!(lines().len(), 8, "{:?}", lines());
    specs.write(
        "a.json",
        &json!({ "one": { "hooks": [{ "hookName": "startContainer", "path": "/bin/false" }] } }),
        &json!({}),
    );
    let out = specs.cmd(&t, &[&["run", "--rm"], &flags[..], &[BUSYBOX, "true"]].concat()).run();
    out.refused(125, &["startContainer hook /bin/false: exit status: 1"]);
    if crate::userns::can(&t) {
        specs.write("a.json", &json!({ "one": { "hooks": [note("createContainer")] } }), &json!({}));
        let own = ["--uidmap", crate::userns::MAP];
        let out = specs.cmd(&t, &[&["run", "--rm"], &own[..], &flags, &[BUSYBOX, "true"]].concat()).run();
        out.refused(125, &["createContainer hook", "--userns host"]);
    }
}

/// One whose monitor is killed has its hooks run by the next command.
#[test]
fn a_killed_monitor_leaves_no_hook_out() {
    let Some(t) = Test::start() else { return };
    let (specs, name) = (Specs::new(&t), t.name("c"));
    let log = t.dir("hooks").join("log");
    let script = format!("echo over >> {}", log.display());
    let hooks =
        json!({ "hooks": [{ "hookName": "poststop", "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    specs.write("a.json", &json!({ "one": hooks }), &json!({}));
    let run = [
        "run",
        "-d",
        "--name",
        &name,
        "--network",
        "none",
        "--device",
        &part("one"),
        BUSYBOX,
        "sleep",
        "1000",
    ];
    let id = specs.cmd(&t, &run).run().ok();
    let live = t.suite.state.join("containers").join(id.trim()).join("state.json");
    let live: Value = serde_json::from_str(&fs::read_to_string(live).unwrap()).unwrap();
    for pid in [&live["monitor"], &live["pid"]] {
        Cmd::new("kill", ["-9", &pid.to_string()]).run().ok();
    }
    crate::harness::wait_until("its end is seen", || t.status(&name) == "exited");
    crate::harness::wait_until("the hook has run", || {
        fs::read_to_string(&log).is_ok_and(|text| text == "over\n")
    });
    t.ok(["rm", &name]);
    assert_eq!(fs::read_to_string(&log).unwrap(), "over\n");
}

#[test]
fn gpus() {
    let Some(t) = Test::start() else { return };
    let (specs, name) = (Specs::new(&t), t.name("c"));
    let run = |gpus: &[&str]| {
        specs
            .cmd(
                &t,
                &[
                    &["run", "--rm", "--network", "none"],
                    gpus,
                    &[BUSYBOX, "sh", "-c", "env | grep ^GPU | sort | tr '\\n' ' '"],
                ]
                .concat(),
            )
            .run()
    };
    run(&["--gpus", "all"])
        .refused(125, &["could not select device driver \"\" with capabilities: [[gpu]]: no CDI spec"]);
    let devices = json!({
        "0": { "env": ["GPU0=1"] },
        "1": { "env": ["GPU1=1"] },
        "GPU-1f": { "env": ["GPU1=uuid"] },
        "all": { "env": ["GPU0=all", "GPU1=all"] },
    });
    specs.write_kind("gpu.json", "nvidia.com/gpu", &devices, &json!({}));
    for (flag, wanted) in [
        ("all", "GPU0=all GPU1=all"),
        ("1", "GPU0=1"),
        ("2", "GPU0=1 GPU1=1"),
        ("device=1", "GPU1=1"),
        ("\"device=0,GPU-1f\"", "GPU0=1 GPU1=uuid"),
        ("device=nvidia.com/gpu=1", "GPU1=1"),
        ("capabilities=utility", "GPU0=1"),
    ] {
        assert_eq!(run(&["--gpus", flag]).ok().trim_end(), wanted, "{flag}");
    }
    run(&["--gpus", "3"]).refused(125, &["3 devices are asked for, and nvidia.com/gpu has 2"]);
    run(&["--gpus", "driver=amd,all"])
        .refused(125, &["could not select device driver \"amd\" with capabilities: [[gpu]]"]);
    run(&["--gpus", "capabilities=x"])
        .refused(125, &["could not select device driver \"\" with capabilities: [[x gpu]]"]);
    run(&["--gpus", "nonsense"])
        .refused(125, &["invalid argument \"nonsense\" for \"--gpus\" flag: invalid count (nonsense)"]);
    let words = ["--gpus", "\"device=0,GPU-1f\"", "--device", "nvidia.com/gpu=1"];
    specs.cmd(&t, &[&["create", "--name", &name], &words[..], &[BUSYBOX]].concat()).run().ok();
    let requests = &t.inspect(&name)["HostConfig"]["DeviceRequests"];
    assert_eq!(
        *requests,
        json!([
            { "Driver": "", "Count": 0, "DeviceIDs": ["0", "GPU-1f"], "Capabilities": [["gpu"]], "Options": {} },
            { "Driver": "cdi", "Count": 0, "DeviceIDs": ["nvidia.com/gpu=1"], "Capabilities": null, "Options": null },
        ])
    );
    let command = t.ok(["inspect", "--create-command", &name]);
    assert!(command.contains(r#" --gpus '"device=0,GPU-1f"' --device nvidia.com/gpu=1 "#), "{command}");
    t.ok(["rm", &name]);
}

#[test]
fn compose_has_them() {
    let Some(t) = Test::start() else { return };
    let specs = Specs::new(&t);
    let devices =
        json!({ "0": { "env": ["GPU0=1"] }, "1:1": { "env": ["GPU11=1"] }, "all": { "env": ["GPU=all"] } });
    specs.write_kind("gpu.json", "nvidia.com/gpu", &devices, &json!({}));
    let service = |keys: &str| format!("  {{image: {BUSYBOX}, network_mode: none, command: env, {keys}}}");
    let file = format!(
        "services:\n named:\n{}\n gpus:\n{}\n reserved:\n{}\n",
        service("devices: ['nvidia.com/gpu=1:1', '/dev/kmsg']"),
        service("gpus: all"),
        service("deploy: {resources: {reservations: {devices: [{capabilities: [gpu], device_ids: ['0']}]}}}")
    );
    let p = Project::new(&t, &file);
    let up = |service: &str| p.cmd(&["run", "--rm", service]).env("RBOX_CONFIG", &specs.config).run().ok();
    for (service, wanted) in [("named", "GPU11=1"), ("gpus", "GPU=all"), ("reserved", "GPU0=1")] {
        let out = up(service);
        assert!(out.lines().any(|line| line == wanted), "{service}: {out}");
    }
    let config = p.cmd(&["config"]).run().ok();
    assert!(config.contains("source: nvidia.com/gpu=1:1\n        target: nvidia.com/gpu=1:1\n"), "{config}");
}
