//! Commands that services have run after a start and before a stop, and stopping what has them.

use std::fs;
use std::time::Duration;

use crate::harness::{Project, Test, Tmux, binary, has, patience, wait_until};

/// Ends at once when it is asked to.
const OBEYS: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

/// Each stop of a container runs its hook, whatever ends beside it: only a process of one thread can start one.
#[test]
fn each_stop_runs_the_hooks() {
    let Some(t) = Test::start() else { return };
    let rounds = 8;
    let project = Project::new(
        &t,
        &format!(
            "x-s: &s {{image: busybox, command: [sh, -c, \"{OBEYS}\"], volumes: ['./out:/out']}}
services:
  top: {{<<: *s, depends_on: [hook, other]}}
  other: {{<<: *s}}
  hook: &hook
    <<: *s
    post_start: [{{command: [sh, -c, 'echo started >> /out/log']}}]
    pre_stop: [{{command: [sh, -c, 'echo stopping $$WHY >> /out/log'], environment: [WHY=asked]}}]
    depends_on: [second]
  second: {{<<: *hook, depends_on: [third]}}
  third: {{<<: *hook, depends_on: [fourth]}}
  fourth: {{<<: *hook, depends_on: []}}
  last: {{<<: *s, depends_on: [top]}}
"
        ),
    );
    fs::create_dir_all(project.dir.join("out")).unwrap();
    for round in 0..rounds {
        project.done(&["up", "-d"]);
        let told = project.done(&[if round % 4 == 3 { "stop" } else { "down" }]);
        assert!(!told.contains("warning"), "{told}");
    }
    let log = fs::read_to_string(project.dir.join("out/log")).unwrap();
    let once = format!("{}{}", "started\n".repeat(4), "stopping asked\n".repeat(4));
    assert_eq!(log, once.repeat(rounds));
    project.done(&["down"]);
}

/// Ctrl-C stops as `stop` does, hooks and all. A second one ends also a hook that never comes back.
#[test]
fn an_interrupted_up_runs_the_hooks() {
    let Some(t) = Test::start() else { return };
    let file = |hook: &str| {
        format!(
            "services:
  web:
    image: busybox
    command: [sh, -c, \"{OBEYS}\"]
    volumes: ['./out:/out']
    pre_stop: [{{command: [sh, -c, '{hook}']}}]
"
        )
    };
    let project = Project::new(&t, &file("echo once >> /out/log"));
    fs::create_dir_all(project.dir.join("out")).unwrap();
    let is_running =
        || t.rbox(["inspect", "-f", "{{.State.Running}}", &project.container("web")]).stdout == "true\n";
    let up = project.cmd(&["up"]).spawn();
    wait_until("it runs", is_running);
    t.listens(&project.container("web"));
    up.signal("INT");
    let out = up.finish(patience(Duration::from_secs(20))).code(130);
    assert!(!out.stderr.contains("warning"), "{}", out.stderr);
    assert_eq!(fs::read_to_string(project.dir.join("out/log")).unwrap(), "once\n");

    project.write("compose.yaml", &file("echo begun >> /out/log; sleep 1000"));
    let up = project.cmd(&["up"]).spawn();
    wait_until("it runs again", is_running);
    t.listens(&project.container("web"));
    up.signal("INT");
    wait_until("its hook has begun", || {
        fs::read_to_string(project.dir.join("out/log")).unwrap().contains("begun")
    });
    up.signal("INT");
    up.finish(patience(Duration::from_secs(20))).code(130);
    assert_eq!(t.status(&project.container("web")), "exited");
    project.done(&["down"]);
}

/// Whatever hook never comes back, and whoever asked for the stop: Ctrl-C ends it.
#[test]
fn an_interrupt_ends_hooks_of_starts_and_of_stops_by_themselves() {
    let Some(t) = Test::start() else { return };
    let file = |hook: &str, short: &str| {
        format!(
            "x-s: &s {{image: busybox, volumes: ['./out:/out']}}
services:
  long: {{<<: *s, command: [sh, -c, \"{OBEYS}\"], {hook}: [{{command: [sh, -c, 'echo {hook} >> /out/log; sleep 1000']}}]}}
  short: {{<<: *s, command: [sh, -c, '{short}']}}
"
        )
    };
    let project = Project::new(&t, &file("post_start", "sleep 1000"));
    fs::create_dir_all(project.dir.join("out")).unwrap();
    let has_begun = |hook: &str| {
        wait_until("its hook has begun", || {
            fs::read_to_string(project.dir.join("out/log")).unwrap_or_default().contains(hook)
        });
    };
    let up = project.cmd(&["up"]).spawn();
    has_begun("post_start");
    up.signal("INT");
    up.finish(patience(Duration::from_secs(30))).code(130);
    assert_eq!(t.status(&project.container("long")), "exited");
    project.done(&["down", "-t", "0"]);

    project.write("compose.yaml", &file("pre_stop", "sleep 2"));
    let up = project.cmd(&["up", "--abort-on-container-exit"]).spawn();
    has_begun("pre_stop");
    up.signal("INT");
    up.finish(patience(Duration::from_secs(30)));
    assert_eq!(t.status(&project.container("long")), "exited");
    project.done(&["down"]);
}

/// A terminal may stop what writes to it from the background, as which the output of services comes.
#[test]
fn output_comes_where_the_background_is_stopped() {
    if !has("tmux") {
        return;
    }
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, "services: {web: {image: busybox, command: echo shown}}\n");
    let line = format!(
        "--version; stty tostop; RBOX_ROOT={} RBOX_STATE={} RBOX_REGISTRIES={} {} compose -f {} -p {} up --no-log-prefix",
        t.suite.root.display(),
        t.suite.state.display(),
        t.suite.registries.display(),
        binary().display(),
        project.dir.join("compose.yaml").display(),
        project.name,
    );
    let tmux = Tmux::start(t.suite, &line);
    tmux.expect("ended 0");
    tmux.expect("shown");
    project.done(&["down"]);
}
