//! What a project keeps and what goes, what is made again with what it shares, and how an attached `up` ends.

use std::time::Duration;

use crate::harness::{Project, Test, patience};

/// Ends at once when it is asked to.
const OBEYS: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

/// Data stays after `down`; `down -v` takes it, also what has no name.
#[test]
fn volumes_go_only_when_they_are_to() {
    let Some(t) = Test::start() else { return };
    let file = format!(
        "services: {{db: {{image: busybox, command: [sh, -c, \"{OBEYS}\"], volumes: ['data:/data', /scratch]}}}}\nvolumes: {{data: }}\n"
    );
    let project = Project::new(&t, &file);
    let named = format!("{}_data", project.name);
    let is_there =
        |name: &str| t.ok(["volume", "ls", "--format", "{{.Name}}"]).lines().any(|line| line == name);
    let anonymous = || {
        let mounts = project.inspect("db")["Mounts"].as_array().unwrap().clone();
        let mount = mounts.iter().find(|mount| mount["Destination"] == "/scratch").unwrap();
        mount["Name"].as_str().unwrap().to_owned()
    };
    project.done(&["up", "-d"]);
    let first = anonymous();
    project.done(&["down"]);
    assert!(is_there(&named) && is_there(&first));
    project.done(&["up", "-d"]);
    let second = anonymous();
    assert_ne!(first, second);
    project.done(&["down", "-v"]);
    assert!(!is_there(&named) && !is_there(&second));
    // Nobody's by now, as with Docker.
    assert!(is_there(&first));
    t.ok(["volume", "rm", &first]);
}

/// What shares a namespace with a container that is made again, what is on a network that is another one, and what has another image.
#[test]
fn what_shares_something_is_made_again_with_it() {
    let Some(t) = Test::start() else { return };
    let image = format!("{}:1", t.name("made").to_lowercase());
    let file = |level: usize, network: usize| {
        format!(
            "x-s: &s {{image: busybox, init: true, command: sleep 1000}}
services:
  alone: {{<<: *s, network_mode: none}}
  base: {{<<: *s, environment: {{LEVEL: '{level}'}}}}
  beside: {{<<: *s, network_mode: 'service:base'}}
  other: {{<<: *s, image: '{image}', network_mode: none, pull_policy: never}}
networks: {{default: {{labels: {{level: '{network}'}}}}}}
"
        )
    };
    t.ok(["tag", "busybox", &image]);
    let project = Project::new(&t, &file(1, 1));
    project.done(&["up", "-d"]);
    let ids = || ["alone", "base", "beside", "other"].map(|service| project.id(service));
    let changed = |before: &[String; 4]| {
        let after = ids();
        [0, 1, 2, 3].map(|at| before[at] != after[at])
    };
    let line = |service: &str, why: &str| format!("{}: {why}", project.container(service));

    let before = ids();
    project.write("compose.yaml", &file(2, 1));
    let told = project.done(&["up", "-d"]);
    let why = line("beside", "it shares something with base, which is made again");
    assert!(told.contains(&why), "no {why:?} in\n{told}");
    assert_eq!(changed(&before), [false, true, true, false]);

    let before = ids();
    project.write("compose.yaml", &file(2, 2));
    let told = project.done(&["up", "-d"]);
    let why = line("base", &format!("network {}_default was made again", project.name));
    assert!(told.contains(&why), "no {why:?} in\n{told}");
    assert_eq!(changed(&before), [false, true, true, false]);

    let before = ids();
    t.ok(["pull", "-q", "debian:bookworm-slim"]);
    t.ok(["tag", "debian:bookworm-slim", &image]);
    let told = project.done(&["up", "-d"]);
    assert!(told.contains(&line("other", "image: ")), "{told}");
    assert_eq!(changed(&before), [false, false, false, true]);
    project.done(&["down", "-t", "0"]);
    t.ok(["rmi", &image]);
}

/// One that ends ends the others, and the exit code is that of the service that was asked for, or of the first.
#[test]
fn the_first_to_end_ends_the_others() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(
        &t,
        &format!(
            "services:
  web: {{image: busybox, command: [sh, -c, \"{OBEYS}\"]}}
  job: {{image: busybox, command: [sh, -c, 'exit 5'], depends_on: [web]}}
"
        ),
    );
    let up = |words: &[&str]| {
        let limit = patience(Duration::from_secs(40));
        project.cmd(&[&["up", "--force-recreate"], words].concat()).limit(limit).run()
    };
    up(&["--abort-on-container-exit"]).code(5);
    assert_eq!(t.status(&project.container("web")), "exited");
    up(&["--exit-code-from", "web"]).code(0);
    project.done(&["down"]);
}

/// `--wait-timeout` is the end of waiting, not of what is waited for.
#[test]
fn waiting_has_an_end() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(
        &t,
        &format!(
            "services: {{web: {{image: busybox, command: [sh, -c, \"{OBEYS}\"], healthcheck: {{test: 'exit 1', interval: 1h}}}}}}\n"
        ),
    );
    let waiting = project.cmd(&["up", "-d", "--wait", "--wait-timeout", "1"]);
    let out = waiting.limit(patience(Duration::from_secs(40))).run().code(1);
    assert!(out.stderr.contains("rbox: application not healthy after 1s"), "{}", out.stderr);
    assert_eq!(t.status(&project.container("web")), "running");
    project.done(&["down"]);
}
