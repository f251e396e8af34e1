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

#[test]
fn listings_have_composes_columns_and_keys() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("web", 1, "", &["-p", "127.0.0.1::80", "--expose", "90"], WAITS);
    p.run("job", 1, "", &[], "exit 3");
    p.made("True", "web", 7, "", &[], "exit 0");
    crate::harness::wait_until("the job ended", || p.status("job", 1) == "exited");
    let ps = |flags: &[&str]| p.cmd(&["ps"]).args(flags).run().ok();
    let table = ps(&[]);
    assert_eq!(table.lines().count(), 2, "{table}");
    let titles: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(titles, ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]);
    let row: serde_json::Value = serde_json::from_str(&ps(&["--format", "json"])).unwrap();
    assert_eq!(row["Service"], "web");
    assert_eq!(row["Publishers"][0]["TargetPort"], 80);
    assert_eq!(row["Publishers"][1]["PublishedPort"], 0);
    assert_eq!(row["State"], "running");
    assert_eq!(ps(&["-a", "--format", "{{.Service}} {{.ExitCode}}"]), "job 3\nweb 0\nweb 0");
    assert_eq!(ps(&["--services", "--filter", "status=exited", "job"]), "job");
    assert_eq!(ps(&["-q"]), t.inspect(&p.container("web", 1))["Id"].as_str().unwrap());
    p.cmd(&["ps", "--filter", "name=x"]).run().refused(1, &["unknown filter name"]);

    let ls = |flags: &[&str]| t.cmd(["compose", "ls"]).args(flags).run().ok();
    let mine = format!("name={}", p.name);
    let json: serde_json::Value =
        serde_json::from_str(&ls(&["-a", "--format=json", "--filter", &mine])).unwrap();
    assert_eq!(json[0]["Status"], "exited(2), running(1)");
    assert_eq!(json[0]["ConfigFiles"], format!("/srv/{}/compose.yaml", p.name));
    assert!(ls(&["--filter", &mine]).contains("running(1)"));
    assert_eq!(ls(&["-q", "--filter", &mine]), p.name);
    t.cmd(["compose", "ls", "--format", "xml"]).run().refused(1, &["could not be parsed"]);

    let images = p.cmd(&["images", "web"]).run().ok();
    assert!(images.lines().nth(1).unwrap().contains(" latest "), "{images}");
    assert_eq!(p.cmd(&["images", "-q"]).run().ok().lines().count(), 1);
    let volume = t.name("data");
    let label = format!("com.docker.compose.project={}", p.name);
    t.ok(["volume", "create", "--label", &label, &volume]);
    assert_eq!(p.cmd(&["volumes", "-q"]).run().ok(), volume);
    assert_eq!(p.cmd(&["volumes", "-q", "web"]).run().ok(), "");
    let top = p.cmd(&["top", "web"]).run().ok();
    assert!(top.lines().nth(1).unwrap().starts_with("web      1   root "), "{top}");
    assert_eq!(p.cmd(&["stats", "--no-stream", "--format", "{{.Name}}"]).run().ok(), p.container("web", 1));
    assert_eq!(p.cmd(&["version", "--short"]).run().ok(), "2.40.3");
    t.ok(["volume", "rm", &volume]);
}

#[test]
fn logs_are_merged_by_time_and_aligned() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("long-name", 1, "", &[], "echo first; sleep 0.4; echo third >&2");
    p.run("b", 1, "", &[], "sleep 0.2; echo second; sleep 0.4; printf last");
    crate::harness::wait_until("both ended", || {
        [p.status("long-name", 1), p.status("b", 1)] == ["exited", "exited"]
    });
    let logs = |flags: &[&str]| p.cmd(&["logs"]).args(flags).run().code(0).stdout;
    let all = "long-name-1  | first\nb-1          | second\nlong-name-1  | third\nb-1          | last\n";
    assert_eq!(logs(&[]), all);
    assert_eq!(logs(&["--no-log-prefix", "--tail", "1", "b"]), "last\n");
    let timed = logs(&["-t", "--index", "1", "b"]);
    assert!(timed.lines().all(|line| line.starts_with("b-1  | 20") && line.contains("Z ")), "{timed}");
    p.cmd(&["logs", "--index", "1"]).run().refused(1, &["--index requires one service"]);
    let coloured = t.cmd(["compose", "--ansi=always", "-p", &p.name, "logs", "b"]).run().ok();
    assert!(coloured.starts_with("\u{1b}[36mb-1  | \u{1b}[0msecond"), "{coloured:?}");
}

#[test]
fn following_sees_restarts_and_what_comes_later() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    let script = "echo begins; trap 'echo ends; exit 3' TERM; while :; do sleep 0.1; done";
    p.run("web", 1, "", &[], script);
    crate::harness::wait_until("it has begun", || p.cmd(&["logs"]).run().ok().contains("begins"));
    let following = p.cmd(&["logs", "-f", "--tail", "0"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(300));
    p.said(&["restart", "web"]);
    p.run("late", 1, "", &[], "echo hello; exit 4");
    crate::harness::wait_until("late ended", || p.status("late", 1) == "exited");
    p.said(&["stop"]);
    let out = following.finish(crate::harness::patience(std::time::Duration::from_secs(20))).code(0);
    let of = |name: &str| {
        let lines = out.stdout.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.split_once("| ").map_or(line, |(_, text)| text)).collect::<Vec<_>>()
    };
    let ended = "web-1 exited with code 3";
    assert_eq!(of("web-1"), ["ends", ended, "begins", "ends", ended], "{}", out.stdout);
    assert_eq!(of("late-1"), ["hello", "late-1 exited with code 4"]);
}

#[test]
fn exec_and_files_reach_the_container_that_is_meant() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("web", 1, "", &[], WAITS);
    p.run("web", 2, "", &[], WAITS);
    let hostname = |number: u32| t.ok(["exec", &p.container("web", number), "hostname"]);
    assert_eq!(p.cmd(&["exec", "web", "hostname"]).run().ok(), hostname(1));
    assert_eq!(p.cmd(&["exec", "--index", "2", "web", "hostname"]).run().ok(), hostname(2));
    let script = "echo $A $PWD; id -u; cat; exit 7";
    let out = p.cmd(&["exec", "-T", "-e", "A=b", "-w", "/tmp", "-u", "12", "web", "sh", "-c", script]);
    assert_eq!(out.input("in\n").run().code(7).stdout, "b /tmp\n12\nin\n");
    p.cmd(&["exec", "db", "true"]).run().refused(1, &["service \"db\" is not running"]);

    let dir = t.dir("files");
    let file = dir.join("file");
    fs::write(&file, "content").unwrap();
    p.said(&["cp", file.to_str().unwrap(), "web:/tmp/file"]);
    for number in [1, 2] {
        assert_eq!(t.ok(["exec", &p.container("web", number), "cat", "/tmp/file"]), "content");
    }
    t.ok(["exec", &p.container("web", 2), "sh", "-c", "echo other > /tmp/file"]);
    let back = dir.join("back");
    p.said(&["cp", "--index", "2", "web:/tmp/file", back.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&back).unwrap(), "other\n");
    p.cmd(&["cp", "a:/x", "b:/y"]).run().refused(1, &["copying between services is not supported"]);
    p.cmd(&["cp", "db:/x", "."]).run().refused(1, &["no container found for service \"db\""]);
    let tar = dir.join("web.tar");
    p.said(&["export", "-o", tar.to_str().unwrap(), "web"]);
    assert!(fs::metadata(&tar).unwrap().len() > 10_000);
    let image = t.name("web") + ":1";
    assert!(p.said(&["commit", "web", &image])[1].contains("Committed as sha256:"));
    assert_eq!(t.ok(["run", "--rm", &image, "cat", "/tmp/file"]), "content");
    t.ok(["rmi", &image]);

    let since = "1h";
    let events = p.cmd(&["events", "--json", "--since", since, "--until", "0s", "web"]).run().ok();
    let all: Vec<serde_json::Value> =
        events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(all.iter().any(|event| event["action"] == "start" && event["service"] == "web"), "{events}");
    assert!(!events.contains("com.docker.compose"), "{events}");
    let waiting = p.cmd(&["wait", "web"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(200));
    p.said(&["kill"]);
    let out = waiting.finish(crate::harness::patience(std::time::Duration::from_secs(20))).code(137);
    assert_eq!(out.stdout.matches("exited with status code 137").count(), 2, "{}", out.stdout);
    p.cmd(&["wait", "web"]).run().refused(1, &["no containers for project"]);
}

#[test]
fn a_picture_of_the_files() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    let text = "name: shop\nservices:\n  web: {image: nginx, ports: [\"8080:80\"], depends_on: {db: {condition: service_healthy}}}\n  db: {image: \"post<gres\", volumes: [\"data:/data\"]}\nvolumes: {data: }\n";
    let file = p.file(text);
    let graph = |form: &str| {
        t.cmd(["compose", "-f", file.to_str().unwrap(), "graph", "--format", form]).run().code(0).stdout
    };
    let tree = graph("tree");
    let lines =
        ["└─ web  nginx", "   ├─ port 8080 → 80/tcp", "   └─ waits until healthy", "└─ data: db (/data)"];
    for line in lines {
        assert!(tree.lines().any(|other| other == line), "{line}:\n{tree}");
    }
    assert!(graph("mermaid").contains("  service1 -->|\"healthy\"| service0\n"));
    let svg = graph("svg");
    assert!(svg.starts_with("<svg ") && svg.contains("post&lt;gres") && svg.trim_end().ends_with("</svg>"));
}

#[test]
fn watched_files_reach_the_containers() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    p.run("web", 1, "", &[], WAITS);
    let text = format!(
        "name: {}\nservices:\n  web:\n    image: busybox\n    develop:\n      watch:\n        - {{action: sync, path: src, target: /app, ignore: ['*.tmp'], initial_sync: true}}\n        - {{action: sync+exec, path: conf, target: /conf, exec: {{command: [cp, /conf/a, /reloaded]}}}}\n        - {{action: restart, path: again}}\n",
        p.name
    );
    let file = p.file(&text);
    let dir = file.parent().unwrap();
    for name in ["src", "conf", "again"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    fs::write(dir.join("src/first"), "1").unwrap();
    let watching = t.cmd(["compose", "-f", file.to_str().unwrap(), "watch", "--no-up"]).spawn();
    let web = p.container("web", 1);
    let holds = |path: &str, wanted: &str| {
        crate::harness::wait_until(path, || t.rbox(["exec", &web, "cat", path]).stdout == wanted);
    };
    holds("/app/first", "1");
    std::thread::sleep(std::time::Duration::from_millis(300));
    fs::create_dir(dir.join("src/deep")).unwrap();
    fs::write(dir.join("src/x.tmp"), "no").unwrap();
    fs::write(dir.join("src/deep/file"), "2").unwrap();
    holds("/app/deep/file", "2");
    t.rbox(["exec", &web, "test", "-e", "/app/x.tmp"]).code(1);
    fs::remove_file(dir.join("src/first")).unwrap();
    crate::harness::wait_until("it is gone", || t.rbox(["exec", &web, "test", "-e", "/app/first"]).code == 1);
    fs::write(dir.join("conf/a"), "3").unwrap();
    holds("/reloaded", "3");
    let started = || t.inspect(&web)["State"]["StartedAt"].to_string();
    let before = started();
    fs::write(dir.join("again/x"), "4").unwrap();
    crate::harness::wait_until("it is restarted", || p.status("web", 1) == "running" && started() != before);
    // It ends when it is asked to, also after it has run something.
    watching.signal("TERM");
    let out = watching.finish(crate::harness::patience(std::time::Duration::from_secs(10)));
    assert!(out.stdout.starts_with("Watch enabled\n"), "{}", out.stdout);
    assert!(
        !out.stderr.to_lowercase().contains("no child"),
        "what was restarted is waited for: {}",
        out.stderr
    );
}

#[test]
fn an_attached_up_shows_what_comes_and_waiting_takes_it_down() {
    let Some(t) = Test::start() else { return };
    let p = Project::new(&t);
    let text = format!(
        "name: {}\nservices:\n  job: {{image: {BUSYBOX}, command: [echo, hello]}}\n  test: {{image: {BUSYBOX}, command: [sh, -c, 'sleep 1; exit 5']}}\n  long: {{image: {BUSYBOX}, command: [sleep, '1000'], stop_grace_period: 1s}}\n",
        p.name
    );
    let file = p.file(&text);
    let up = |words: &[&str]| t.cmd(["compose", "-f", file.to_str().unwrap(), "up"]).args(words);
    let shown = up(&["job"]).run().code(0).stdout;
    assert!(shown.contains("job-1  | hello\n"), "{shown}");
    up(&["-d", "test", "long"]).run().code(0);
    p.cmd(&["wait", "--down-project", "test"]).run().code(5);
    assert_eq!(p.cmd(&["ps", "-aq"]).run().ok(), "");
}
