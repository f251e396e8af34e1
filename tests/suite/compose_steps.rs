//! `pre_start`: what is run in containers of its own before the first container of a service starts.

use std::fs;
use std::time::Duration;

use crate::harness::{Project, Test, patience, wait_until};

/// Ends at once when it is asked to.
const OBEYS: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

fn file(more: &str, steps: &str) -> String {
    format!(
        "services:
  web:
    image: busybox
    command: [sh, -c, \"cat /data/log; {OBEYS}\"]
    environment: {{WHERE: service, WHO: web}}
    volumes: [data:/data, ./out:/out]
{more}    pre_start:
{steps}volumes: {{data: }}
"
    )
}

fn step(command: &str) -> String {
    format!("      - {{command: [sh, -c, '{command}']}}\n")
}

/// In order, each in a container of its own with the volumes, networks, secrets and variables of the service, before it starts.
#[test]
fn steps_come_before_a_start_in_order() {
    let Some(t) = Test::start() else { return };
    let more = "    user: '7'\n    working_dir: /tmp\n    configs: [{source: made, target: /made}]\n";
    let last = "      - command: [sh, -c, 'echo $$WHERE $$WHO $$(id -u) $$(pwd) $$(cat /made) >> /data/log']
        user: '5'
        working_dir: /etc
        environment: {WHERE: step}
      - command: [sh, -c, 'mount -t tmpfs none /tmp && echo mounted >> /data/log']
        privileged: true
";
    let steps = step("hostname > /out/host; echo A >> /data/log; chmod 666 /data/log")
        + &step("echo B $$(id -u) $$(pwd) >> /data/log")
        + last;
    let file = file(more, &steps) + "configs: {made: {content: given}}\n";
    let project = Project::new(&t, &file);
    fs::create_dir_all(project.dir.join("out")).unwrap();
    let told = project.done(&["up", "-d"]);
    assert!(told.contains(&format!("Container {}  Started", project.container("web"))), "{told}");
    let web = project.container("web");
    t.listens(&web);
    assert_eq!(t.ok(["logs", &web]), "A\nB 0 /\nstep web 5 /etc given\nmounted");
    // None of them is left, and it was none of the service's own.
    assert_eq!(project.names(), ["web-1"]);
    assert_ne!(fs::read_to_string(project.dir.join("out/host")).unwrap().trim(), &project.id("web")[..12]);
    project.done(&["down", "-v"]);
}

/// What runs and is as it is wanted is left alone; what is made again, or started again, has them run again.
#[test]
fn steps_are_run_once_for_what_starts() {
    let Some(t) = Test::start() else { return };
    let write = |word: &str| file("", &step(&format!("echo {word} >> /out/log")));
    let project = Project::new(&t, &write("one"));
    fs::create_dir_all(project.dir.join("out")).unwrap();
    let log = || fs::read_to_string(project.dir.join("out/log")).unwrap();
    project.done(&["up", "-d", "--scale", "web=2"]);
    assert_eq!(log(), "one\n");
    project.done(&["up", "-d", "--scale", "web=3"]);
    assert_eq!(log(), "one\n", "one was running");
    project.done(&["up", "-d", "--force-recreate"]);
    assert_eq!(log(), "one\none\n");
    project.write("compose.yaml", &write("two"));
    let told = project.done(&["up", "-d"]);
    assert!(told.contains("pre_start"), "{told}");
    assert_eq!(log(), "one\none\ntwo\n");
    project.done(&["restart", "-t", "1"]);
    assert_eq!(log(), "one\none\ntwo\n", "a restart starts nothing that was not there");
    project.done(&["stop"]);
    project.done(&["start"]);
    assert_eq!(log(), "one\none\ntwo\ntwo\n");
    project.run(&["run", "--rm", "web", "true"]).ok();
    assert_eq!(log(), "one\none\ntwo\ntwo\n");
    project.done(&["down", "-v"]);

    // For each container, where that is asked for.
    let each = "      - {command: [sh, -c, 'echo each >> /out/log'], per_replica: true}\n";
    project.write("compose.yaml", &file("", &(step("echo once >> /out/log") + each)));
    fs::remove_file(project.dir.join("out/log")).unwrap();
    project.done(&["up", "-d", "--scale", "web=2"]);
    assert_eq!(log(), "once\neach\neach\n");
    project.done(&["up", "-d", "--scale", "web=3"]);
    assert_eq!(log(), "once\neach\neach\neach\n");
    project.done(&["down", "-v"]);
}

/// A step that fails keeps its service from starting, and those that come after it from being run. It stays to be looked at.
#[test]
fn a_step_that_fails_keeps_a_service_from_starting() {
    let Some(t) = Test::start() else { return };
    let steps =
        step("echo ran >> /out/log") + &step("echo no disk >&2; exit 17") + &step("echo never >> /out/log");
    let project = Project::new(&t, &file("", &steps));
    fs::create_dir_all(project.dir.join("out")).unwrap();
    let out = project.run(&["up", "-d"]).code(1);
    let why = "rbox: service \"web\" pre_start[1] exited with code 17 (hook container ";
    assert!(out.stderr.contains(why) && out.stderr.contains("retained for inspection)"), "{}", out.stderr);
    assert!(out.stderr.contains("web pre_start[1] ->  | no disk"), "{}", out.stderr);
    assert_eq!(t.status(&project.container("web")), "created");
    assert_eq!(fs::read_to_string(project.dir.join("out/log")).unwrap(), "ran\n");
    let left = |count: usize| {
        let names = project.names();
        assert_eq!(
            names.iter().filter(|name| name.starts_with("web-pre_start-")).count(),
            count,
            "{names:?}"
        );
    };
    left(1);
    let steps = step("echo fine >> /out/log") + &step("exit 3");
    project.write("compose.yaml", &file("", &steps));
    project.run(&["up", "-d"]).code(1);
    left(1);
    // What cannot even begin leaves nothing.
    project.write("compose.yaml", &file("", "      - {command: [/nowhere]}\n"));
    let out = project.run(&["up", "-d"]).code(1);
    assert!(out.stderr.contains("service \"web\": pre_start[0]: "), "{}", out.stderr);
    left(0);
    project.write("compose.yaml", &file("", &step("exit 3")));
    project.run(&["up", "-d"]).code(1);
    left(1);
    project.done(&["down", "-v"]);
    assert_eq!(project.names(), [""; 0]);
}

/// Attached, what they write is shown as it comes; Ctrl-C ends the step that is under way.
#[test]
fn an_attached_up_shows_steps_and_ends_them() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, &file("", &step("echo preparing; sleep 0.2; echo prepared")));
    let up = project.cmd(&["up"]).spawn();
    let web = project.container("web");
    wait_until("it runs", || t.rbox(["inspect", "-f", "{{.State.Running}}", &web]).stdout == "true\n");
    t.listens(&web);
    up.signal("INT");
    let out = up.finish(patience(Duration::from_secs(30))).code(130);
    assert!(
        out.stdout.contains("web pre_start[0] -> | preparing\nweb pre_start[0] -> | prepared\n"),
        "{}",
        out.stdout
    );

    for words in [["up", "--force-recreate"], ["up", "-d"], ["start", "web"]] {
        project.write("compose.yaml", &file("", &step("sleep 1000")));
        let up = project.cmd(&words).spawn();
        let runs = || project.names().iter().any(|name| name.starts_with("web-pre_start-"));
        wait_until("a step runs", runs);
        up.signal("INT");
        up.finish(patience(Duration::from_secs(30))).code(130);
        assert_eq!(project.names(), ["web-1"], "{words:?}");
        assert_ne!(t.status(&web), "running");
    }
    project.done(&["down", "-v"]);
}

/// Another image, which is pulled or looked for as the service's is; and a step before what takes the place of one that goes on.
#[test]
fn steps_have_images_of_their_own_and_come_before_rolling_ones() {
    let Some(t) = Test::start() else { return };
    let name = t.name("step").to_lowercase();
    t.ok(["tag", "busybox", &name]);
    let write = |image: &str, code: u8| {
        file(
            "    pull_policy: never\n",
            &format!("      - {{image: {image}, command: [sh, -c, 'echo run >> /out/log; exit {code}']}}\n"),
        )
    };
    let project = Project::new(&t, &write("nowhere.invalid/none", 0));
    fs::create_dir_all(project.dir.join("out")).unwrap();
    let out = project.run(&["up", "-d"]).code(1);
    assert!(out.stderr.contains("nowhere.invalid/none"), "{}", out.stderr);
    assert_eq!(project.names(), [""; 0], "nothing is made before the images are there");
    project.write("compose.yaml", &write(&name, 0));
    project.done(&["up", "-d"]);
    let before = project.id("web");
    project.write("compose.yaml", &write(&name, 4));
    project.run(&["up", "-d", "--rolling"]).code(1);
    assert_eq!(project.id("web"), before, "the one before it goes on");
    assert_eq!(t.status(&project.container("web")), "running");
    project.write("compose.yaml", &(write(&name, 0) + "x-more: 1\n").replace("WHO: web", "WHO: next"));
    project.done(&["up", "-d", "--rolling"]);
    assert_ne!(project.id("web"), before);
    assert_eq!(fs::read_to_string(project.dir.join("out/log")).unwrap(), "run\nrun\nrun\n");
    project.done(&["down", "-v"]);
    t.ok(["rmi", &name]);
}
