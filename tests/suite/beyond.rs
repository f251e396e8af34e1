//! Small flags that Docker has not, and scripts lean on.

use std::fs;
use std::time::Duration;

use crate::harness::{BUSYBOX, Test};

#[test]
fn a_container_takes_the_place_of_another() {
    let Some(t) = Test::start() else { return };
    let (name, other) = (t.name("c"), t.name("other"));
    let first = t.sleeper(&name, []);
    t.rbox(["run", "-d", "--name", &name, BUSYBOX, "true"]).refused(125, &["is already in use"]);
    let second = t.ok(["run", "-d", "--replace", "--name", &name, BUSYBOX, "sleep", "1000"]);
    assert_ne!(first, second);
    assert_eq!(t.ok(["ps", "-a", "--no-trunc", "-q"]), second);
    // Without another of that name it changes nothing; what the word is the beginning of an id of stays.
    let begin = &second[..10];
    t.ok(["create", "--replace", "--name", begin, BUSYBOX]);
    t.ok(["create", "--replace", "--name", &other, BUSYBOX]);
    assert_eq!(t.ok(["ps", "-a", "-q"]).lines().count(), 3);
    // What cannot be made for its image's sake takes nobody's place.
    let never = ["run", "--replace", "--pull", "never", "--name", &name, "nosuch.invalid/x"];
    t.rbox(never).refused(125, &["nosuch.invalid/x"]);
    assert_eq!(t.status(&name), "running");
    t.rbox(["run", "--replace", BUSYBOX, "true"]).refused(125, &["--replace needs --name"]);
}

#[test]
fn a_time_that_is_over_kills() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let begin = std::time::Instant::now();
    t.rbox(["run", "--name", &name, "--timeout", "1", BUSYBOX, "sleep", "1000"]).code(137);
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", &name]), "137 false");
    // Each start has the whole time; one that ends before, and 0, are left alone.
    t.rbox(["start", "-a", &name]).code(137);
    t.rbox(["run", "--rm", "--timeout", "60", BUSYBOX, "sh", "-c", "exit 3"]).code(3);
    t.rbox(["run", "--rm", "--timeout", "0", BUSYBOX, "sh", "-c", "exit 4"]).code(4);
    t.rbox(["run", "--timeout", "soon", BUSYBOX]).refused(125, &["soon"]);
}

#[test]
fn all_of_them() {
    let Some(t) = Test::start() else { return };
    let names: Vec<String> = (0..3).map(|n| t.name(&format!("c{n}"))).collect();
    for name in &names {
        t.sleeper(name, []);
    }
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(t.ok(["kill", "-a", "-s", "CONT"])), names);
    assert_eq!(sorted(t.ok(["stop", "--all", "-t", "0"])), names);
    assert_eq!(t.ok(["stop", "-a"]), "");
    t.rbox(["rm", "-a", &names[0]]).refused(125, &["--all"]);
    t.rbox(["stop"]).refused(125, &[]);
    t.ok(["start", &names[0]]);
    let out = t.rbox(["rm", "--all"]).code(1);
    assert_eq!((out.stdout.lines().count(), out.stderr.lines().count()), (2, 1), "{out:?}");
    assert_eq!(t.ok(["ps", "-a", "--format", "{{.Names}}"]), names[0]);
    t.ok(["rm", "-a", "-f"]);
    assert_eq!(t.ok(["ps", "-aq"]), "");
}

#[test]
fn a_file_gets_the_pid_at_each_start() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let file = t.dir("pid").join("file");
    t.sleeper(&name, ["--pidfile", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), t.pid(&name).to_string());
    t.ok(["restart", "-t", "0", &name]);
    assert_eq!(fs::read_to_string(&file).unwrap(), t.pid(&name).to_string());
    let nowhere = ["run", "--rm", "--pidfile", "/nosuch/dir/pid", BUSYBOX, "true"];
    t.rbox(nowhere).refused(125, &["write /nosuch/dir/pid", "no such file or directory"]);
}

#[test]
fn paths_of_the_system_without_masks() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let script = "test -s /proc/kcore && echo kcore; touch /proc/sys/kernel/hostname && echo sysctl";
    let masked = t.cmd(["run", "--rm", BUSYBOX, "sh", "-c", script]).run();
    assert_eq!(masked.stdout, "", "{masked:?}");
    let flags = ["--security-opt", "systempaths=unconfined", "--security-opt", "apparmor=unconfined"];
    t.cmd(
        [
            &["run", "--name", &name],
            &flags[..],
            &["--security-opt", "label=disable", BUSYBOX, "sh", "-c", script],
        ]
        .concat(),
    )
    .run()
    .ok();
    assert!(t.ok(["logs", &name]).contains("sysctl"));
    let paths =
        "{{json .HostConfig.MaskedPaths}} {{json .HostConfig.ReadonlyPaths}} {{.HostConfig.SecurityOpt}}";
    assert_eq!(t.ok(["inspect", "-f", paths, &name]), "[] [] [apparmor=unconfined]");
    t.rbox(["run", "--security-opt", "systempaths=half", BUSYBOX]).refused(125, &["systempaths=half"]);
    // A wall that is asked for and is not there is not passed over.
    for (wall, module) in [
        ("label=type:container_t", "SELinux"),
        ("label:level:s0:c1,c2", "SELinux"),
        ("label=nested", "SELinux"),
        ("apparmor=docker-default", "AppArmor"),
        ("apparmor:mine", "AppArmor"),
    ] {
        if module == "AppArmor" && fs::exists("/sys/kernel/security/apparmor").unwrap() {
            // What happens there is told by apparmor::.
            continue;
        }
        for command in ["run", "create"] {
            t.rbox([command, "--security-opt", wall, BUSYBOX]).refused(125, &[wall, module, "leave it out"]);
        }
    }
    t.sh_with(["--security-opt", "label:disable", "--security-opt", "apparmor:unconfined"], "true");
}
