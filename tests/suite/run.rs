//! `run`: the process, its surroundings, its streams, its end.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{BUSYBOX, PYTHON, Test, fields, patience, wait_until};

/// As Docker's client has it: switches may be given a value, and the last of an option given twice holds.
#[test]
fn options_with_true_and_options_twice() {
    let Some(t) = Test::start() else { return };
    let out =
        t.ok(["run", "--rm=true", "--rm", "-t=false", "-i=0", "-w", "/bin", "-w", "/tmp", BUSYBOX, "pwd"]);
    assert_eq!(out, "/tmp");
    assert_eq!(t.ok(["run", "--rm", BUSYBOX, "echo", "--rm=true"]), "--rm=true", "that is the program's");
    // The last one counts.
    let name = t.name("kept");
    let back =
        ["run", "--rm", "-dt", "--rm=false", "-d=0", "--tty=F", "--name", &name, BUSYBOX, "echo", "seen"];
    assert_eq!(t.ok(back), "seen");
    assert_eq!(t.ok(["inspect", "-f", "{{.Config.Tty}}", &name]), "false");
    t.ok(["run", "--rm=false", "--rm", BUSYBOX, "true"]);
    t.ok(["rm", &name]);
    assert_eq!(t.ok(["ps", "-a=true", "-aq", "--no-trunc=false"]), "");
    t.rbox(["ps", "--all=maybe"]).refused(125, &["maybe", "--all"]);
}

#[test]
fn the_process_is_pid_1_with_the_short_id_as_host_name() {
    let Some(t) = Test::start() else { return };
    let out = t.ok([
        "run",
        "--rm",
        PYTHON,
        "python3",
        "-c",
        "import os,socket;print(os.getpid(),socket.gethostname())",
    ]);
    let (pid, host) = out.split_once(' ').unwrap();
    assert_eq!(pid, "1");
    assert!(
        host.len() == 12 && host.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()),
        "{host}"
    );
}

#[test]
fn exit_codes_are_the_containers() {
    let Some(t) = Test::start() else { return };
    t.rbox(["run", "--rm", BUSYBOX, "true"]).code(0);
    t.rbox(["run", "--rm", BUSYBOX, "sh", "-c", "exit 42"]).code(42);
    t.rbox(["run", "--rm", BUSYBOX, "sh", "-c", "exit 255"]).code(255);
    // PID 1 does not die of a signal it sends itself, but its child does, and the shell passes that on.
    t.rbox(["run", "--rm", PYTHON, "sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]).code(143);
}

#[test]
fn what_cannot_be_executed_ends_with_126_and_127() {
    let Some(t) = Test::start() else { return };
    t.rbox(["run", "--rm", BUSYBOX, "no-such-command"]).refused(127, &["no-such-command", "not found"]);
    t.rbox(["run", "--rm", BUSYBOX, "/no/such/command"]).refused(127, &["/no/such/command"]);
    t.rbox(["run", "--rm", BUSYBOX, "/etc/passwd"]).refused(126, &["/etc/passwd", "permission denied"]);
    t.rbox(["run", "--rm", BUSYBOX, "/etc"]).refused(126, &["/etc"]);
    let users = format!("{}/rbox/users", t.suite.registry);
    t.ok(["pull", "-q", &users]);
    t.rbox(["run", "--rm", &users, "/opt/app/badinterp"]).refused(127, &["/opt/app/badinterp"]);
}

#[test]
fn both_outputs_stay_apart() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox(["run", "--rm", BUSYBOX, "sh", "-c", "echo out; echo err >&2"]).code(0);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn large_output_arrives_whole() {
    let Some(t) = Test::start() else { return };
    let out = t.rbox(["run", "--rm", BUSYBOX, "sh", "-c", "seq 1 200000; seq 1 200000 >&2"]).code(0);
    for text in [&out.stdout, &out.stderr] {
        assert_eq!(text.lines().count(), 200_000);
        assert!(text.ends_with("200000\n"));
    }
}

#[test]
fn standard_input_is_passed_on_with_its_end() {
    let Some(t) = Test::start() else { return };
    let text = "line\n".repeat(50_000);
    let out = t.cmd(["run", "--rm", "-i", BUSYBOX, "sh", "-c", "wc -l; echo after"]).input(text).run().ok();
    assert_eq!(out.split_whitespace().collect::<Vec<_>>(), ["50000", "after"]);
    // Without -i the container's standard input is empty, whatever rbox's own holds.
    let out = t.cmd(["run", "--rm", BUSYBOX, "sh", "-c", "wc -c"]).input("not for you").run().ok();
    assert_eq!(out.trim(), "0");
}

#[test]
fn signals_are_passed_on() {
    let Some(t) = Test::start() else { return };
    for (signal, code) in [("TERM", 7), ("INT", 8), ("USR1", 9), ("HUP", 10)] {
        let script = "trap 'exit 7' TERM; trap 'exit 8' INT; trap 'exit 9' USR1; trap 'exit 10' HUP; echo ready; while :; do sleep 0.05; done";
        let name = t.name(&signal.to_lowercase());
        let run = t.cmd(["run", "--rm", "--name", &name, BUSYBOX, "sh", "-c", script]).spawn();
        wait_until("the container logs `ready`", || t.rbox(["logs", &name]).stdout.contains("ready"));
        run.signal(signal);
        run.finish(Duration::from_secs(20)).code(code);
    }
}

#[test]
fn sigkill_of_pid_1_is_137() {
    let Some(t) = Test::start() else { return };
    let name = t.name("victim");
    let run = t.cmd(["run", "--name", &name, BUSYBOX, "sleep", "1000"]).spawn();
    wait_until("it runs", || t.rbox(["inspect", "-f", "{{.State.Running}}", &name]).stdout.trim() == "true");
    t.ok(["kill", &name]);
    run.finish(Duration::from_secs(20)).code(137);
    assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", &name]), "137 false");
}

#[test]
fn environment_is_what_the_defaults_say() {
    let Some(t) = Test::start() else { return };
    let env = t.ok(["run", "--rm", BUSYBOX, "env"]);
    let mut lines: Vec<_> = env.lines().filter(|l| !l.starts_with("HOSTNAME=")).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "{env}"
    );
    assert!(env.contains("HOSTNAME="), "{env}");
    let python = t.ok(["run", "--rm", PYTHON, "env"]);
    assert!(python.contains("LANG=C.UTF-8") && python.contains("PYTHON_VERSION=3.11."), "{python}");
}

#[test]
fn environment_from_flags_and_files() {
    let Some(t) = Test::start() else { return };
    let file = t.dir("env").join("file");
    fs::write(&file, "# a comment\nFROM_FILE=one\nBOTH=file\nPASSED\nNOT_SET_ANYWHERE\nSPACES= a  b \n\n")
        .unwrap();
    let out = t
        .cmd([
            "run",
            "--rm",
            "--env-file",
            file.to_str().unwrap(),
            "-e",
            "BOTH=flag",
            "-e",
            "EMPTY=",
            "-e",
            "ALSO",
            "--env",
            "X=a=b",
            BUSYBOX,
            "env",
        ])
        .env("PASSED", "through")
        .env("ALSO", "too")
        .run()
        .ok();
    for line in
        ["FROM_FILE=one", "BOTH=flag", "PASSED=through", "ALSO=too", "EMPTY=", "X=a=b", "SPACES= a  b "]
    {
        assert!(out.lines().any(|l| l == line), "no `{line}` in\n{out}");
    }
    assert!(!out.contains("NOT_SET_ANYWHERE") && !out.contains("BOTH=file"), "{out}");
}

#[test]
fn entrypoint_and_command_combine_as_docker_does() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/config", t.suite.registry);
    assert_eq!(t.ok(["run", "--rm", &image]), "/opt/app/show entry default two words");
    assert_eq!(t.ok(["run", "--rm", &image, "mine"]), "/opt/app/show entry mine");
    assert_eq!(t.ok(["run", "--rm", "--entrypoint", "/bin/echo", &image, "a", "b"]), "a b");
    // A new entrypoint drops the image's CMD, and an empty one the image's ENTRYPOINT.
    assert_eq!(t.ok(["run", "--rm", "--entrypoint", "/bin/echo", &image]), "");
    assert_eq!(t.ok(["run", "--rm", "--entrypoint", "", &image, "echo", "bare"]), "bare");
}

#[test]
fn the_images_configuration_is_used() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/config", t.suite.registry);
    let out = t.ok([
        "run",
        "--rm",
        "--entrypoint",
        "sh",
        &image,
        "-c",
        "id; pwd; echo $GREETING; echo $HOME; cat /data/seed; ls -ldn /data | cut -c1-10",
    ]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "uid=1234(app) gid=100(users) groups=100(users),2000(extra),2001(more)",
            "/srv/made/here",
            "hello from the image",
            "/opt/app",
            "from the image",
            "drwxr-x---"
        ]
    );
    let all = t.inspect(&image);
    assert_eq!(all["Config"]["StopSignal"], "SIGQUIT");
}

#[test]
fn every_form_of_user() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/users", t.suite.registry);
    for (user, expected) in [
        ("root", "uid=0(root) gid=0(root) groups=0(root),2001(more)"),
        ("0", "uid=0(root) gid=0(root) groups=0(root),2001(more)"),
        ("app", "uid=1234(app) gid=100(users) groups=100(users),2000(extra),2001(more)"),
        ("1234", "uid=1234(app) gid=100(users) groups=100(users),2000(extra),2001(more)"),
        ("app:staff", "uid=1234(app) gid=50(staff)"),
        ("app:77", "uid=1234(app) gid=77"),
        ("1234:50", "uid=1234(app) gid=50(staff)"),
        ("5000", "uid=5000 gid=0(root)"),
        ("5000:6000", "uid=5000 gid=6000"),
        ("nobody", "uid=65534(nobody) gid=65534"),
        // What is made of digits is a uid, also where somebody is named so: as moby/sys/user has it.
        ("4321", "uid=4321 gid=0(root)"),
    ] {
        let out = t.ok(["run", "--rm", "-u", user, &image, "id"]);
        assert!(out.starts_with(expected), "-u {user}: {out}");
        if !expected.contains("groups=") {
            let groups = out.split("groups=").nth(1).unwrap_or_default();
            assert!(!groups.contains(','), "-u {user} has further groups: {out}");
        }
    }
    for bad in ["no-such-user", "app:no-such-group", "-1", "4294967296", "0:-1", "a:b:c"] {
        let out = t.rbox(["run", "--rm", "-u", bad, &image, "id"]);
        out.refused(125, &[]);
    }
}

#[test]
fn a_user_who_is_not_root_has_no_capabilities() {
    let Some(t) = Test::start() else { return };
    let status = fields(&t.ok(["run", "--rm", "-u", "1000:1000", BUSYBOX, "cat", "/proc/self/status"]));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert_eq!(status["Uid"].split_whitespace().collect::<Vec<_>>(), ["1000"; 4]);
}

#[test]
fn the_working_directory_is_made_when_missing() {
    let Some(t) = Test::start() else { return };
    assert_eq!(
        t.sh_with(["-w", "/not/yet/there"], "pwd; ls -ldn . | awk '{print $1, $3, $4}'"),
        "/not/yet/there\ndrwxr-xr-x 0 0"
    );
    assert_eq!(t.sh_with(["-w", "/a/./../../not//there"], "pwd"), "/not/there");
    t.rbox(["run", "--rm", "-w", "relative", BUSYBOX, "pwd"]).refused(125, &["relative"]);
}

#[test]
fn host_name_is_as_given_everywhere() {
    let Some(t) = Test::start() else { return };
    let out = t.sh_with(["--hostname", "box.example.org"], "hostname; cat /etc/hostname; cat /etc/hosts");
    assert!(out.starts_with("box.example.org\nbox.example.org\n"), "{out}");
    assert!(out.lines().any(|l| l.contains("box.example.org") && l.contains('.')), "{out}");
    assert_eq!(t.sh_with(["--hostname", ""], "hostname").len(), 12, "an empty one is none");
}

#[test]
fn detached_prints_the_id_and_is_found_by_prefix_and_name() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let id = t.sleeper(&name, []);
    assert!(id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
    for way in [id.as_str(), &id[..12], &id[..6], name.as_str()] {
        assert_eq!(t.ok(["inspect", "-f", "{{.Id}}", way]), id, "{way}");
    }
    assert_eq!(t.status(&name), "running");
}

#[test]
fn rm_takes_the_container_away() {
    let Some(t) = Test::start() else { return };
    t.ok(["run", "--rm", "--name", &t.name("gone"), BUSYBOX, "true"]);
    assert_eq!(t.ok(["ps", "-aq"]), "");
    t.expect_nothing_left();
    let id = t.ok(["run", "-d", "--rm", BUSYBOX, "true"]);
    wait_until("a detached --rm container removes itself", || {
        !t.ok(["ps", "-aq", "--no-trunc"]).contains(&id)
    });
}

#[test]
fn cidfile_and_name() {
    let Some(t) = Test::start() else { return };
    let file = t.dir("cid").join("id");
    let file = file.to_str().unwrap();
    let id = t.ok(["run", "-d", "--cidfile", file, BUSYBOX, "true"]);
    assert_eq!(fs::read_to_string(file).unwrap(), id);
    t.rbox(["run", "--rm", "--cidfile", file, BUSYBOX, "true"]).refused(125, &[file]);
    let name = t.name("taken");
    let first = t.sleeper(&name, []);
    t.rbox(["run", "--rm", "--name", &name, BUSYBOX, "true"])
        .refused(125, &[&name, "already in use", &first[..12]]);
    t.rbox(["run", "--rm", "--name", "-bad name", BUSYBOX, "true"]).refused(125, &[]);
}

#[test]
fn names_are_made_up_when_none_is_given() {
    let Some(t) = Test::start() else { return };
    let id = t.ok(["run", "-d", BUSYBOX, "true"]);
    let name = t.ok(["inspect", "-f", "{{.Name}}", &id]);
    let (left, right) = name.trim_start_matches('/').split_once('_').unwrap_or_else(|| panic!("{name}"));
    assert!(!left.is_empty() && !right.is_empty());
    assert!(name.starts_with('/'), "Docker's inspect has a slash before the name: {name}");
}

#[test]
fn labels_of_image_and_user() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}/rbox/config", t.suite.registry);
    let name = t.name("l");
    t.ok([
        "create",
        "--name",
        &name,
        "-l",
        "mine=1",
        "--label",
        "org.example.kind=other",
        "-l",
        "bare",
        &image,
    ]);
    let labels = t.inspect(&name)["Config"]["Labels"].clone();
    assert_eq!(labels["mine"], "1");
    assert_eq!(labels["bare"], "");
    assert_eq!(labels["org.example.kind"], "other");
    assert_eq!(labels["org.example.spaces"], "a b");
}

#[test]
fn create_then_start_is_run() {
    let Some(t) = Test::start() else { return };
    let name = t.name("two-steps");
    let id = t.ok(["create", "--name", &name, BUSYBOX, "sh", "-c", "echo started; exit 3"]);
    assert_eq!(id.len(), 64);
    assert_eq!(t.status(&name), "created");
    let out = t.rbox(["start", "-a", &name]).code(3);
    assert_eq!(out.stdout, "started\n");
    assert_eq!(t.status(&name), "exited");
    // And again: the same container, the same writable layer.
    t.rbox(["start", "-a", &name]).code(3);
}

#[test]
fn the_writable_layer_stays_between_starts_and_is_a_containers_own() {
    let Some(t) = Test::start() else { return };
    let name = t.name("w");
    t.ok(["run", "--name", &name, BUSYBOX, "sh", "-c", "echo x >> /count; cat /count"]);
    let out = t.rbox(["start", "-a", &name]).code(0);
    assert_eq!(out.stdout, "x\nx\n");
    assert_eq!(t.sh("test -e /count || echo clean"), "clean");
}

#[test]
fn init_reaps_and_passes_signals_on() {
    let Some(t) = Test::start() else { return };
    let name = t.name("init");
    t.ok([
        "run",
        "-d",
        "--init",
        "--name",
        &name,
        BUSYBOX,
        "sh",
        "-c",
        "(sleep 0.1 &); trap 'exit 5' TERM; while :; do sleep 0.05; done",
    ]);
    let first = t.ok(["exec", &name, "cat", "/proc/1/cmdline"]);
    assert!(!first.starts_with("sh\0"), "PID 1 is the command itself: {first}");
    std::thread::sleep(Duration::from_millis(300));
    // The loop's own sleep is one for the moment until its shell has seen it; what stays one is the init's fault.
    let zombies = "grep -l '^State:.*Z' /proc/[0-9]*/status 2>/dev/null | wc -l";
    wait_until("no zombie is left", || t.ok(["exec", &name, "sh", "-c", zombies]).trim() == "0");
    t.ok(["stop", "-t", "10", &name]);
    assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}}", &name]), "5");
}

#[test]
fn stop_signal_and_timeout_are_used() {
    let Some(t) = Test::start() else { return };
    let name = t.name("usr2");
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--stop-signal",
        "SIGUSR2",
        BUSYBOX,
        "sh",
        "-c",
        "trap 'exit 21' USR2; echo ready; while :; do sleep 0.05; done",
    ]);
    wait_until("ready", || t.rbox(["logs", &name]).stdout.contains("ready"));
    t.ok(["stop", &name]);
    assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}}", &name]), "21");
    let name = t.name("deaf");
    t.ok([
        "run",
        "-d",
        "--name",
        &name,
        "--stop-timeout",
        "1",
        BUSYBOX,
        "sh",
        "-c",
        "trap '' TERM; while :; do sleep 0.05; done",
    ]);
    let began = Instant::now();
    t.ok(["stop", &name]);
    assert!(
        began.elapsed() >= Duration::from_millis(900) && began.elapsed() < patience(Duration::from_secs(9)),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}}", &name]), "137");
}

#[test]
fn pull_policy() {
    let Some(t) = Test::start() else { return };
    t.rbox(["run", "--rm", "--pull", "never", "no-such-image:never", "true"])
        .refused(125, &["no-such-image:never"]);
    t.ok(["run", "--rm", "--pull", "always", BUSYBOX, "true"]);
    t.ok(["run", "--rm", "--pull", "missing", BUSYBOX, "true"]);
    t.rbox(["run", "--rm", "--pull", "sometimes", BUSYBOX, "true"]).refused(125, &["sometimes"]);
    t.rbox(["run", "--rm", "no-such-image:anywhere", "true"]).code(125);
}

#[test]
fn many_arguments_and_odd_ones_arrive_as_they_are() {
    let Some(t) = Test::start() else { return };
    let long = "x".repeat(100_000);
    let out = t.ok([
        "run",
        "--rm",
        PYTHON,
        "python3",
        "-c",
        "import sys;print(sys.argv[1:3],len(sys.argv[3]))",
        "--rm",
        "a 'b' \"c\" $d\n",
        &long,
    ]);
    assert_eq!(out, r#"['--rm', 'a \'b\' "c" $d\n'] 100000"#);
}
