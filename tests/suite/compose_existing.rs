//! `rbox compose`: what is done with the containers of a project that are there, whoever made them.

use std::fs;
use std::path::PathBuf;

use crate::harness::{BUSYBOX, Cmd, Test};

/// A program that ends at once when it is asked to.
const WAITS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// A project whose containers carry Compose's labels.
struct Project<'a> {
    t: &'a Test,
    name: String,
}

impl<'a> Project<'a> {
    fn new(t: &'a Test) -> Self {
        Self { t, name: t.name("p") }
    }

    fn container(&self, service: &str, number: u32) -> String {
        format!("{}-{service}-{number}", self.name)
    }

    /// A container that runs, or has run if its script ends.
    fn run(&self, service: &str, number: u32, depends_on: &str, flags: &[&str], script: &str) {
        self.made("False", service, number, depends_on, flags, script);
    }

    fn made(
        &self,
        one_off: &str,
        service: &str,
        number: u32,
        depends_on: &str,
        flags: &[&str],
        script: &str,
    ) {
        let label = |key: &str, value: &str| format!("--label=com.docker.compose.{key}={value}");
        let labels = [
            label("project", &self.name),
            label("service", service),
            label("container-number", &number.to_string()),
            label("oneoff", one_off),
            label("depends_on", depends_on),
            label("project.config_files", &format!("/srv/{}/compose.yaml", self.name)),
            format!("--name={}", self.container(service, number)),
        ];
        let words: Vec<&str> = labels.iter().map(String::as_str).collect();
        let command = self.t.cmd(["run", "-d"]).args(&words).args(flags);
        command.args(&[BUSYBOX, "sh", "-c", script]).run().ok();
    }

    /// `compose -p NAME …`
    fn cmd(&self, words: &[&str]) -> Cmd {
        self.t.cmd(["compose", "-p", &self.name]).args(words)
    }

    /// What a command says of its progress, with the project's name left out.
    fn said(&self, words: &[&str]) -> Vec<String> {
        let out = self.cmd(words).run().code(0);
        out.stderr.lines().map(|line| line.replace(&format!("{}-", self.name), "")).collect()
    }

    fn status(&self, service: &str, number: u32) -> String {
        self.t.status(&self.container(service, number))
    }

    /// A compose file in a directory of its own.
    fn file(&self, text: &str) -> PathBuf {
        let file = self.t.dir("files").join("compose.yaml");
        fs::write(&file, text).unwrap();
        file
    }
}

fn place(lines: &[String], wanted: &str) -> usize {
    let found = lines.iter().position(|line| line == wanted);
    found.unwrap_or_else(|| panic!("no '{wanted}' in {lines:?}"))
}

#[test]
fn stop_and_start_go_along_the_dependencies() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("db", 1, "", &["--health-cmd", "test -e /healthy", "--health-interval", "200ms"], WAITS);
    p.run("web", 1, "db:service_healthy:true", &[], WAITS);
    p.run("web", 2, "db:service_healthy:true", &[], WAITS);
    let said = p.said(&["stop"]);
    assert_eq!(said.len(), 6, "{said:?}");
    for web in [" Container web-1  Stopped", " Container web-2  Stopped"] {
        assert!(place(&said, web) < place(&said, " Container db-1  Stopping"), "{said:?}");
    }
    assert_eq!([p.status("db", 1), p.status("web", 2)], ["exited", "exited"]);

    // The health check passes only once the file is there.
    let starting = p.cmd(&["start"]).spawn();
    crate::harness::wait_until("db runs", || p.status("db", 1) == "running");
    assert_eq!(p.status("web", 1), "exited");
    t.ok(["exec", &p.container("db", 1), "touch", "/healthy"]);
    let out = starting.finish(crate::harness::patience(std::time::Duration::from_secs(20))).code(0);
    let said: Vec<String> =
        out.stderr.lines().map(|line| line.replace(&format!("{}-", p.name), "")).collect();
    let order = ["db-1  Starting", "db-1  Started", "db-1  Waiting", "db-1  Healthy", "web-1  Started"];
    let places: Vec<usize> = order.iter().map(|line| place(&said, &format!(" Container {line}"))).collect();
    assert!(places.is_sorted(), "{said:?}");
    // What runs is left alone, and not told of.
    assert!(!p.said(&["start"]).iter().any(|line| line.contains("Starting")));
}

#[test]
fn restart_takes_along_what_asked_for_it() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("db", 1, "", &[], WAITS);
    p.run("web", 1, "db:service_started:true", &[], WAITS);
    p.run("tool", 1, "db:service_started:false", &[], WAITS);
    let started = |service: &str| t.inspect(&p.container(service, 1))["State"]["StartedAt"].to_string();
    let before = [started("db"), started("web"), started("tool")];
    let said = p.said(&["restart", "db"]);
    assert!(place(&said, " Container db-1  Started") < place(&said, " Container web-1  Restarting"));
    let after = [started("db"), started("web"), started("tool")];
    assert_eq!([0, 1, 2].map(|at| before[at] == after[at]), [false, false, true]);
    assert_eq!(p.said(&["restart", "--no-deps", "db"]).len(), 2);
}

#[test]
fn what_will_never_be_ends_the_start() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("init", 1, "", &[], "exit 3");
    p.run("web", 1, "init:service_completed_successfully:false", &[], "exit 0");
    crate::harness::wait_until("both ended", || {
        [p.status("init", 1), p.status("web", 1)] == ["exited", "exited"]
    });
    let out = p.cmd(&["start", "web"]).run().code(1);
    let words = "rbox: service \"init\" didn't complete successfully: exit 3";
    assert_eq!(out.stderr.lines().last(), Some(words), "{}", out.stderr);
}

#[test]
fn signals_pauses_and_removal() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("web", 1, "", &[], WAITS);
    p.run("web", 2, "", &[], WAITS);
    p.run("db", 1, "", &[], WAITS);
    let said = p.said(&["pause", "web"]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!([p.status("web", 1), p.status("db", 1)], ["paused", "running"]);
    assert_eq!(p.said(&["unpause", "web"]).len(), 2);
    p.said(&["kill", "-s", "TERM", "web"]);
    crate::harness::wait_until("web ended", || [1, 2].iter().all(|at| p.status("web", *at) == "exited"));
    assert_eq!(p.status("db", 1), "running");
    // Without -f it asks; no is the answer of nobody.
    let asked = p.cmd(&["rm"]).input("n\n").run().code(0);
    assert!(asked.stdout.starts_with("Going to remove"), "{}", asked.stdout);
    let json = p.cmd(&["rm", "-f", "web"]);
    let removed = json.env("COMPOSE_PROGRESS", "json").run().code(0);
    assert_eq!(removed.stderr.lines().filter(|line| line.contains(r#""status":"Removed""#)).count(), 2);
    assert_eq!(p.said(&["rm", "-f"]), ["No stopped containers"]);
    assert_eq!(p.said(&["rm", "-f", "-s"]).last().map(String::as_str), Some(" Container db-1  Removed"));
    assert_eq!(p.said(&["kill"]), ["no container to kill"]);
}

#[test]
fn files_say_which_services_there_are() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("web", 1, "", &[], WAITS);
    p.run("old", 1, "", &[], WAITS);
    let text = format!("name: {}\nservices: {{web: {{image: busybox}}, db: {{image: busybox}}}}\n", p.name);
    let file = p.file(&text);
    let file = file.to_str().unwrap();
    t.cmd(["compose", "-f", file, "stop", "nope"]).run().refused(1, &["no such service: nope"]);
    p.cmd(&["stop", "nope"]).run().refused(1, &["no such service: nope"]);
    t.cmd(["compose", "--progress", "loud", "-f", file, "stop"])
        .run()
        .refused(1, &["unsupported --progress value \"loud\""]);
    // What the files do not have is not theirs to stop.
    t.cmd(["compose", "-f", file, "stop"]).run().code(0);
    assert_eq!([p.status("web", 1), p.status("old", 1)], ["exited", "running"]);
    t.cmd(["compose", "-f", file, "start", "db"])
        .run()
        .refused(1, &["service \"db\" has no container to start"]);
}

#[test]
fn a_port_is_where_it_is_published() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("web", 1, "", &["-p", "127.0.0.1::80", "-p", "127.0.0.1::53/udp"], WAITS);
    let host = t.ok(["port", &p.container("web", 1), "80"]);
    assert_eq!(p.cmd(&["port", "web", "80"]).run().ok(), host);
    assert_eq!(
        p.cmd(&["port", "--protocol=UDP", "--index", "1", "web", "53"]).run().ok(),
        t.ok(["port", &p.container("web", 1), "53/udp"])
    );
    p.cmd(&["port", "web", "81"]).run().refused(1, &["no port 81/tcp for container", "80/tcp, 53/udp"]);
    p.cmd(&["port", "--index", "2", "web", "80"]).run().refused(1, &["\"web\" is not running container #2"]);
    p.cmd(&["port", "db", "80"]).run().refused(1, &["service \"db\" is not running"]);
}
