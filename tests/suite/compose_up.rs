//! `rbox compose up`, `down`, `run`, `create`, `scale`: projects that really run.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{OwnRoots, Project, Test, patience, rounds, wait_until};

/// Ends at once when it is asked to, as programs that are PID 1 should.
const OBEYS: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

/// A database that needs a moment, a one-shot that waits for it, and a server that waits for both.
fn three() -> String {
    format!(
        "services:
  db:
    image: busybox
    command: [sh, -c, \"sleep 0.5; touch /tmp/ok; {OBEYS}\"]
    healthcheck: {{test: [CMD, test, -e, /tmp/ok], interval: 20s, retries: 50}}
    volumes: [data:/data, /scratch]
  migrate:
    image: busybox
    command: echo migrated
    depends_on: {{db: {{condition: service_healthy}}}}
  web:
    image: busybox
    command: [sh, -c, \"{OBEYS}\"]
    environment: {{LEVEL: '1'}}
    depends_on:
      db: {{condition: service_healthy, restart: true}}
      migrate: {{condition: service_completed_successfully}}
volumes: {{data: }}
"
    )
}

#[test]
fn a_project_comes_up_is_kept_and_goes() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, &three());
    let told = project.done(&["up", "-d"]);
    let line = |thing: &str, word: &str| format!(" {thing}  {word}\n");
    let at = |text: &str| told.find(text).unwrap_or_else(|| panic!("{text:?} is missing in\n{told}"));
    let name = &project.name;
    at(&line(&format!("Network {name}_default"), "Created"));
    at(&line(&format!("Volume {name}_data"), "Created"));
    let (db, migrate, web) =
        (project.container("db"), project.container("migrate"), project.container("web"));
    assert!(
        at(&line(&format!("Container {db}"), "Healthy"))
            < at(&line(&format!("Container {migrate}"), "Starting"))
    );
    assert!(
        at(&line(&format!("Container {migrate}"), "Exited"))
            < at(&line(&format!("Container {web}"), "Starting"))
    );
    assert_eq!(project.names(), ["db-1", "migrate-1", "web-1"]);
    assert_eq!(t.ok(["logs", &migrate]), "migrated");
    let healthy = t.ok(["inspect", "-f", "{{(index .State.Health.Log 0).End}}", &db]);
    let started = t.ok(["inspect", "-f", "{{.State.StartedAt}}", &migrate]);
    assert!(healthy < started, "healthy at {healthy}, the next one started at {started}");

    let labels = project.inspect("web")["Config"]["Labels"].clone();
    let label =
        |key: &str| labels[format!("com.docker.compose.{key}")].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (label("project"), label("service"), label("container-number"), label("oneoff")),
        (name.clone(), "web".into(), "1".into(), "False".into())
    );
    assert_eq!(label("depends_on"), "db:service_healthy:true,migrate:service_completed_successfully:false");
    assert_eq!(label("project.working_dir"), project.dir.to_str().unwrap());
    let hash = project.run(&["config", "--hash", "web"]).ok();
    assert_eq!(hash, format!("web {}", label("config-hash")));

    // Nothing has changed: nothing is done, and the one-shot has done its work.
    let ids = [project.id("db"), project.id("migrate"), project.id("web")];
    let finished = project.inspect("migrate")["State"]["FinishedAt"].clone();
    let told = project.done(&["up", "-d", "--wait"]);
    assert!(!told.contains("Creat") && !told.contains("Starting"), "{told}");
    assert_eq!(ids, [project.id("db"), project.id("migrate"), project.id("web")]);
    assert_eq!(project.inspect("migrate")["State"]["FinishedAt"], finished);

    for (kind, key) in [("network", "default"), ("volume", "data")] {
        let labels = t.ok([kind, "inspect", "-f", "{{json .Labels}}", &format!("{name}_{key}")]);
        assert!(labels.contains(&format!("\"com.docker.compose.{kind}\":\"{key}\"")), "{labels}");
    }

    let told = project.done(&["down", "-v"]);
    let at = |text: String| told.find(&text).unwrap_or_else(|| panic!("{text:?} is missing in\n{told}"));
    let stopped = at(line(&format!("Container {web}"), "Stopped"));
    assert!(stopped < at(line(&format!("Container {db}"), "Stopping")), "{told}");
    assert!(project.names().is_empty());
    for kind in ["network", "volume"] {
        assert!(!t.ok([kind, "ls"]).contains(name.as_str()), "{kind}s are left");
    }
    assert!(project.done(&["down"]).is_empty());
}

/// docker/compose#9600.
#[test]
fn only_what_changed_is_made_again_and_it_says_why() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, &three());
    project.done(&["up", "-d"]);
    let anonymous = |project: &Project<'_>| {
        let mounts = project.inspect("db")["Mounts"].as_array().unwrap().clone();
        let mount = mounts.iter().find(|mount| mount["Destination"] == "/scratch").unwrap();
        mount["Name"].as_str().unwrap().to_owned()
    };
    let (db, web, scratch) = (project.id("db"), project.id("web"), anonymous(&project));

    project.write("compose.yaml", &three().replace("LEVEL: '1'", "LEVEL: '2'"));
    let why = format!("{}: environment.LEVEL: \"1\" is now \"2\"", project.container("web"));
    let told = project.done(&["up", "-d", "--dry-run"]);
    assert!(told.contains(&why) && told.contains("DRY-RUN MODE -  Container"), "{told}");
    assert_eq!(project.id("web"), web, "a dry run has done something");
    let told = project.run(&["why", "web"]).ok();
    assert!(told.contains("would be made again\n    environment.LEVEL: \"1\" is now \"2\""), "{told}");
    let told = project.done(&["up", "-d"]);
    assert!(told.contains(&why), "{told}");
    assert!(project.id("web") != web && project.id("db") == db);
    assert_eq!(project.inspect("web")["Name"], format!("/{}", project.container("web")));

    // The anonymous volume goes on to the next container; what depends on it with `restart` is started again.
    let (web, before) = (project.id("web"), project.inspect("web")["State"]["StartedAt"].clone());
    let changed = three().replace("LEVEL: '1'", "LEVEL: '2'").replace("retries: 50", "retries: 51");
    project.write("compose.yaml", &changed);
    project.done(&["up", "-d"]);
    assert_eq!(anonymous(&project), scratch);
    assert!(project.id("db") != db && project.id("web") == web);
    assert_ne!(project.inspect("web")["State"]["StartedAt"], before);
    project.done(&["up", "-d", "--force-recreate", "-V", "db"]);
    assert_ne!(anonymous(&project), scratch);

    let db = project.id("db");
    project.write("compose.yaml", &changed.replace("retries: 51", "retries: 60"));
    project.done(&["up", "-d", "--no-recreate"]);
    assert_eq!(project.id("db"), db);
    project.done(&["down", "-v"]);
}

#[test]
fn what_fails_is_told_with_its_last_lines() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(
        &t,
        "services:
  db:
    image: busybox
    command: [sh, -c, 'echo no disk; exit 3']
    healthcheck: {test: [CMD, 'true'], interval: 1s}
  sick:
    image: busybox
    command: [sh, -c, 'trap exit TERM; while :; do sleep 0.05; done']
    healthcheck: {test: 'echo not yet; exit 1', interval: 100ms, retries: 2}
  init:
    image: busybox
    command: [sh, -c, 'exit 4']
  a: {image: busybox, command: 'true', depends_on: {db: {condition: service_healthy}}}
  b: {image: busybox, command: 'true', depends_on: {sick: {condition: service_healthy}}}
  c: {image: busybox, command: 'true', depends_on: {init: {condition: service_completed_successfully}}}
  d: {image: busybox, command: 'true', depends_on: {init: {condition: service_completed_successfully, required: false}}}
",
    );
    let refused = |service: &str, why: &str, said: &str| {
        let out = project.run(&["up", "-d", service]).code(1);
        let (why, name) = (why.replace("NAME", &project.name), &project.name);
        assert!(out.stderr.contains(&format!("rbox: {why}\n")), "{}", out.stderr);
        assert!(out.stderr.contains(&said.replace("NAME", name)), "{}", out.stderr);
    };
    refused("a", "dependency failed to start: container NAME-db-1 exited (3)", "NAME-db-1  | no disk\n");
    refused(
        "b",
        "dependency failed to start: container NAME-sick-1 is unhealthy",
        "NAME-sick-1  | not yet\n",
    );
    // Not what it said when it was started the time before.
    let out = project.run(&["up", "-d", "a"]).code(1);
    assert_eq!(out.stderr.matches("-db-1  | no disk\n").count(), 1, "{}", out.stderr);
    refused("c", "service \"init\" didn't complete successfully: exit 4", "");
    let told = project.done(&["up", "-d", "d"]);
    assert!(told.contains("optional dependency \"init\" failed to start"), "{told}");
    let out = project.run(&["up", "-d", "--wait", "--wait-timeout", "1", "init"]).code(1);
    assert!(out.stderr.contains("exited (4)"), "{}", out.stderr);
    project.run(&["up", "-d", "nosuch"]).refused(1, &["no such service: nosuch"]);
    project.run(&["up", "-d", "--scale", "nosuch=2"]).refused(1, &["no such service: nosuch"]);
    project.run(&["up", "-d", "--scale", "db"]).refused(1, &["Should be SERVICE=NUM"]);
    let out = project.run(&["--progress", "json", "up", "-d", "c"]).code(1);
    let last: Value = serde_json::from_str(out.stderr.lines().last().unwrap()).unwrap();
    let why = "service \"init\" didn't complete successfully: exit 4";
    assert_eq!(last, serde_json::json!({ "error": true, "message": why }));
    project.done(&["down", "-t", "0"]);
}

/// docker/compose#13287.
#[test]
fn secrets_and_configs_are_files_with_owner_and_mode() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(
        &t,
        "services:
  app:
    image: busybox
    user: '1000'
    command: [sh, -c, \"trap 'exit 0' TERM; while :; do sleep 0.05; done\"]
    secrets:
      - plain
      - {source: owned, target: key, uid: '1000', gid: '1001', mode: 0400}
      - {source: variable, target: /etc/token}
    configs:
      - {source: text, target: /etc/app.conf}
secrets:
  plain: {file: ./plain.txt}
  owned: {file: ./owned.txt}
  variable: {environment: TOKEN}
configs:
  text: {content: \"level=${LEVEL}\\n\"}
",
    );
    project.write("plain.txt", "plain\n");
    project.write("owned.txt", "owned\n");
    project.write(".env", "TOKEN=from .env\nLEVEL=3\n");
    project.done(&["up", "-d"]);
    let app = project.container("app");
    let script = "cat /run/secrets/plain /run/secrets/key /etc/token; echo; cat /etc/app.conf; stat -c '%u %g %a' /run/secrets/key";
    let wanted = "plain\nowned\nfrom .env\nlevel=3\n1000 1001 400";
    assert_eq!(t.ok(["exec", &app, "sh", "-c", script]), wanted);
    assert!(!t.ok(["inspect", &app]).contains("from .env"), "a secret is in inspect");
    // Another content is another container, and the message does not show it.
    let id = project.id("app");
    project.write(".env", "TOKEN=another\nLEVEL=3\n");
    let told = project.done(&["up", "-d"]);
    assert!(told.contains("/etc/token has another content") && !told.contains("another\n"), "{told}");
    assert_ne!(project.id("app"), id);
    assert_eq!(t.ok(["exec", &app, "cat", "/etc/token"]), "another");
    project.done(&["down"]);
}

#[test]
fn a_command_runs_in_a_container_of_its_own() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, &three().replace("LEVEL: '1'", "LEVEL: '1', NAME: web"));
    let env = ["run", "--rm", "-T", "-e", "LEVEL=7", "web", "sh", "-c", "echo $LEVEL $NAME; exit 5"];
    let out = project.run(&env).code(5);
    assert_eq!(out.stdout, "7 web\n");
    assert_eq!(project.names(), ["db-1", "migrate-1"], "what it depends on is up, and it is gone itself");
    let out = project.cmd(&["run", "--rm", "-T", "--no-deps", "web", "cat"]).input("piped").run();
    assert_eq!(out.ok(), "piped");
    // Backup and restore, as people do it.
    let backup = format!("{}:/backup", project.dir.display());
    let db = |script: &str| project.run(&["run", "--rm", "-T", "-v", &backup, "db", "sh", "-c", script]).ok();
    db("echo kept > /data/row; tar -C /data -cf /backup/data.tar .");
    db("rm /data/row");
    assert_eq!(db("tar -C /data -xf /backup/data.tar; cat /data/row"), "kept");
    let name = project.run(&["run", "-d", "--no-deps", "web", "sleep", "60"]).ok();
    assert!(name.starts_with(&format!("{}-web-run-", project.name)), "{name}");
    // It belongs to the project, and is none of the service's own.
    project.done(&["up", "-d"]);
    assert_eq!(project.inspect("web")["State"]["Running"], true);
    // It goes when everything is to.
    project.done(&["down", "-t", "0"]);
    assert_eq!(project.names(), [name.replace(&format!("{}-", project.name), "")]);
    project.done(&["down", "-v", "-t", "0", "--remove-orphans"]);
    assert!(project.names().is_empty());
}

#[test]
fn services_are_scaled_and_orphans_go() {
    let Some(t) = Test::start() else { return };
    let service = |name: &str| format!("  {name}: {{image: busybox, command: [sh, -c, \"{OBEYS}\"]}}\n");
    let project = Project::new(&t, &format!("services:\n{}{}", service("a"), service("b")));
    project.done(&["up", "-d", "--scale", "a=3"]);
    assert_eq!(project.names(), ["a-1", "a-2", "a-3", "b-1"]);
    let first = project.id("a");
    project.done(&["scale", "a=2"]);
    assert_eq!(project.names(), ["a-1", "a-2", "b-1"]);
    assert_eq!(project.id("a"), first);
    project.done(&["scale", "a=0"]);
    assert_eq!(project.names(), ["b-1"]);
    project.write("compose.yaml", &format!("services:\n{}", service("a")));
    let told = project.done(&["up", "-d"]);
    assert!(told.contains(&format!("Found orphan containers ([{}])", project.container("b"))), "{told}");
    project.done(&["up", "-d", "--remove-orphans"]);
    assert_eq!(project.names(), ["a-1"]);
    project.done(&["create", "--force-recreate"]);
    assert_eq!(t.status(&project.container("a")), "created");
    // By the labels alone.
    let out = t.rbox(["compose", "-p", &project.name, "down", "-t", "0"]).code(0);
    assert!(out.stderr.contains("Removed"), "{}", out.stderr);
    assert!(project.names().is_empty());
}

/// Whatever moment `up` and `down` are killed at, the next ones go on.
#[test]
fn a_killed_up_is_gone_on_with() {
    let Some(t) = Test::start() else { return };
    let file = |level: usize| {
        three()
            .replace("LEVEL: '1'", &format!("LEVEL: '{level}'"))
            .replace("retries: 50", &format!("retries: {}", 50 + level))
    };
    let project = Project::new(&t, &file(0));
    for round in 0..rounds(12) {
        project.write("compose.yaml", &file(round));
        let words: &[&str] = if round % 4 == 3 { &["down"] } else { &["up", "-d"] };
        let begun = Instant::now();
        let mut running = project.cmd(words).spawn();
        let moment = Duration::from_millis(7 * (round as u64 * 13 % 40));
        while begun.elapsed() < moment && !running.ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if !running.ended() {
            running.signal("KILL");
        }
        let _ = running.finish(patience(Duration::from_secs(20)));
    }
    project.done(&["up", "-d"]);
    assert_eq!(project.names(), ["db-1", "migrate-1", "web-1"]);
    assert_eq!(
        project.inspect("web")["Config"]["Env"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|v| v.as_str().unwrap().starts_with("LEVEL="))
            .count(),
        1
    );
    // The name that a container has while it takes the place of another.
    t.ok(["rename", &project.container("web"), &format!("0123456789ab_{}", project.container("web"))]);
    project.done(&["up", "-d"]);
    assert_eq!(project.names(), ["db-1", "migrate-1", "web-1"]);
    project.done(&["down", "-v"]);
    assert!(project.names().is_empty());
}

#[test]
fn two_ups_at_once_make_one_project() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, &three());
    let both = [project.cmd(&["up", "-d"]).spawn(), project.cmd(&["up", "-d"]).spawn()];
    for one in both {
        one.finish(patience(Duration::from_mins(1))).code(0);
    }
    assert_eq!(project.names(), ["db-1", "migrate-1", "web-1"]);
    project.done(&["down", "-v"]);
}

/// A client that asks a hundred times a second sees every answer while the server is replaced, by one that answers otherwise. docker/compose#1786.
#[test]
fn a_rolling_update_is_not_seen_by_clients() {
    let Some(t) = Test::start() else { return };
    let file = |answer: &str, health: &str| {
        format!(
            "services:
  web:
    image: busybox
    command: [sh, -c, 'mkdir /www; echo {answer} > /www/index.html; sleep 0.4; exec httpd -f -p 80 -h /www']
    healthcheck: {{test: '{health}', interval: 100ms, retries: 30}}
    ports: ['127.0.0.1:0:80']
    networks: {{default: {{aliases: [site]}}}}
    stop_grace_period: 200ms
"
        )
    };
    let healthy = "wget -q -O - http://127.0.0.1/ >/dev/null";
    let project = Project::new(&t, &file("one", healthy));
    project.done(&["up", "-d", "--wait"]);
    let web = project.container("web");
    let address = t.ok(["port", &web, "80/tcp"]);
    let ask = |address: &str| -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience(Duration::from_secs(10))))?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: site\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((_, body)) => Ok(body.trim().to_owned()),
            None => Err(std::io::Error::other(format!("no answer: {answer:?}"))),
        }
    };
    assert_eq!(ask(&address).unwrap(), "one");
    let (id, fixed) = (project.id("web"), address.replace("127.0.0.1:", ""));
    let at = |answer: &str, health: &str| {
        file(answer, health).replace("127.0.0.1:0:80", &format!("127.0.0.1:{fixed}:80"))
    };
    project.write("compose.yaml", &at("two", healthy));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut answers = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                answers.push(ask(&address));
                std::thread::sleep(Duration::from_millis(10));
            }
            answers
        });
        let told = project.done(&["up", "-d", "--rolling"]);
        assert!(told.contains(&format!("_{web}  Healthy")), "{told}");
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        client.join().unwrap()
    });
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), answers.len(), failed.first());
    let texts: Vec<&str> = answers.iter().flatten().map(String::as_str).collect();
    assert!(texts.first() == Some(&"one") && texts.last() == Some(&"two"), "{texts:?}");
    assert!(project.id("web") != id && t.ok(["port", &web, "80/tcp"]) == address);
    // Nothing of the command is held by what it started.
    project.cmd(&["up", "-d"]).limit(patience(Duration::from_secs(20))).run().code(0);
    // By its names from beside it, too, and after a restart.
    let network = format!("{}_default", project.name);
    let beside = |name: &str| t.sh_with(["--network", &network], &format!("wget -q -O - http://{name}/"));
    assert_eq!([beside("web"), beside("site"), beside(&web)], ["two", "two", "two"]);
    t.ok(["restart", "-t", "0", &web]);
    wait_until("the page comes again", || ask(&address).is_ok_and(|answer| answer == "two"));
    let told = project.done(&["up", "-d", "--rolling"]);
    assert!(!told.contains("Recreate"), "{told}");

    // One that does not get healthy is removed, and the one before it goes on.
    let id = project.id("web");
    project.write("compose.yaml", &at("three", "exit 1").replace("retries: 30", "retries: 1"));
    let out = project.run(&["up", "-d", "--rolling"]).code(1);
    assert!(out.stderr.contains("is unhealthy: the one before it goes on"), "{}", out.stderr);
    assert_eq!((project.id("web"), project.names()), (id, vec!["web-1".to_owned()]));
    assert_eq!(ask(&address).unwrap(), "two");
    project.done(&["down"]);
}

/// A container that is ready at once is healthy at once, however long its interval is; failures before that count for nothing.
#[test]
fn healthy_is_noticed_long_before_an_interval() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(
        &t,
        &format!(
            "services:
  db:
    image: busybox
    command: [sh, -c, \"sleep 0.3; touch /tmp/ok; {OBEYS}\"]
    healthcheck: {{test: [CMD, test, -e, /tmp/ok], interval: 5m, retries: 1}}
"
        ),
    );
    project.cmd(&["up", "-d", "--wait"]).limit(patience(Duration::from_secs(30))).run().code(0);
    let health = project.inspect("db")["State"]["Health"].clone();
    assert_eq!((health["Status"].as_str(), health["FailingStreak"].as_i64()), (Some("healthy"), Some(0)));
    assert_eq!(health["Log"].as_array().unwrap().len(), 1, "{health}");
    project.done(&["down"]);
}

/// What depends on others waits for them at the next boot as well.
#[test]
fn the_order_holds_when_the_host_comes_up() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "host", &t.suite.registry);
    let file = own.dir.join("compose.yaml");
    let text = format!(
        "services:
  db:
    image: busybox
    network_mode: none
    restart: always
    command: [sh, -c, \"rm -f /tmp/ok; sleep 1; touch /tmp/ok; {OBEYS}\"]
    healthcheck: {{test: [CMD, test, -e, /tmp/ok], interval: 20s, retries: 30}}
  web:
    image: busybox
    network_mode: none
    restart: always
    command: [sh, -c, \"{OBEYS}\"]
    depends_on: {{db: {{condition: service_healthy}}}}
"
    );
    fs::write(&file, text).unwrap();
    let compose = ["compose", "-f", file.to_str().unwrap(), "-p", "boot"];
    own.run(&[&compose[..], &["up", "-d"]].concat()).code(0);
    own.run(&["system", "shutdown"]).code(0);
    fs::remove_dir_all(&own.state).unwrap();
    assert_eq!(own.run(&["system", "boot"]).ok(), "boot-db-1\nboot-web-1");
    let at = |name: &str, what: &str| own.run(&["inspect", "-f", what, name]).ok();
    let healthy = at("boot-db-1", "{{(index .State.Health.Log 0).End}}");
    let started = at("boot-web-1", "{{.State.StartedAt}}");
    assert!(healthy < started, "healthy at {healthy}, the other started at {started}");
    own.run(&[&compose[..], &["down"]].concat()).code(0);
}

#[test]
fn an_attached_up_shows_output_and_ends_with_it() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(
        &t,
        &format!(
            "services:
  web: {{image: busybox, command: [sh, -c, \"echo hello; {OBEYS}\"]}}
  job: {{image: busybox, command: [sh, -c, 'sleep 0.3; echo done; exit 3'], depends_on: [web]}}
"
        ),
    );
    let out = project.run(&["up", "--exit-code-from", "job"]).code(3);
    for line in ["web-1  | hello\n", "job-1  | done\n", "job-1 exited with code 3\n"] {
        assert!(out.stdout.contains(line), "{line:?} is missing in {}", out.stdout);
    }
    assert_eq!(t.status(&project.container("web")), "exited");
    let out =
        project.run(&["up", "--no-attach", "web", "--no-log-prefix", "--abort-on-container-failure"]).code(3);
    assert!(out.stdout.contains("done\n") && !out.stdout.contains("hello"), "{}", out.stdout);
    // Ctrl-C stops all.
    project.write(
        "compose.yaml",
        &format!("services: {{web: {{image: busybox, command: [sh, -c, \"echo hello; {OBEYS}\"]}}}}\n"),
    );
    let running = project.cmd(&["up", "--remove-orphans"]).spawn();
    wait_until("it runs", || {
        t.rbox(["inspect", "-f", "{{.State.Running}}", &project.container("web")]).stdout == "true\n"
    });
    t.listens(&project.container("web"));
    running.signal("INT");
    let out = running.finish(patience(Duration::from_secs(20))).code(130);
    assert!(out.stdout.contains("web-1  | hello\n") && out.stderr.contains("Gracefully stopping"), "{out:?}");
    assert_eq!(t.status(&project.container("web")), "exited");
    // Killed, it leaves the containers, and nobody who goes on showing their output.
    let running = project.cmd(&["up"]).spawn();
    wait_until("it runs again", || {
        t.rbox(["inspect", "-f", "{{.State.Running}}", &project.container("web")]).stdout == "true\n"
    });
    running.signal("KILL");
    running.finish(patience(Duration::from_secs(20))).code(128 + 9);
    // What ends by itself ends it.
    project.write("compose.yaml", "services: {web: {image: busybox, command: echo once}}\n");
    assert!(project.run(&["up"]).code(0).stdout.contains("web-1  | once\n"));
    project.done(&["down"]);
}

/// A rolling update that fails keeps nobody else from running, and leaves the container that it was to replace.
#[test]
fn a_rolling_update_that_fails_is_of_one_service() {
    let Some(t) = Test::start() else { return };
    let file = |level: usize, check: &str| {
        format!(
            "services:
  cache:
    image: busybox
    command: [sh, -c, \"{OBEYS}\"]
    environment: {{LEVEL: '{level}'}}
    network_mode: none
  web:
    image: busybox
    command: [sh, -c, \"{OBEYS}\"]
    environment: {{LEVEL: '{level}', DB_PASSWORD: 'secret{level}'}}
    healthcheck: {{test: '{check}', interval: 200ms, retries: 1}}
"
        )
    };
    let project = Project::new(&t, &file(1, "true"));
    project.done(&["up", "-d", "--wait"]);
    let web = project.id("web");
    project.write("compose.yaml", &file(2, "false"));
    let out = project.run(&["up", "-d", "--rolling"]).code(1);
    assert!(
        out.stderr.contains("the one before it goes on") && !out.stderr.contains("secret2"),
        "{}",
        out.stderr
    );
    assert_eq!((project.names(), project.id("web")), (vec!["cache-1".to_owned(), "web-1".to_owned()], web));
    assert_eq!(t.status(&project.container("cache")), "running");
    project.done(&["down"]);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let Some(t) = Test::start() else { return };
    let refused = |text: &str, words: &[&str]| {
        let project = Project::new(&t, text);
        project.run(&["up", "-d"]).refused(1, words);
        assert!(project.names().is_empty() && !t.ok(["network", "ls"]).contains(&project.name));
    };
    refused(
        "services: {a: {image: busybox, deploy: {replicas: 4294967296}}}",
        &["cannot have 4294967296 containers"],
    );
    for (key, why) in [
        ("runtime: nvidia", "runtime: rbox runs its containers itself"),
        ("isolation: hyperv", "isolation: it is for containers of Windows"),
        ("credential_spec: {file: x}", "credential_spec: it is for containers of Windows"),
        ("cpu_rt_runtime: 400", "cpu_rt_runtime: real-time shares"),
        ("cpu_rt_period: 900", "cpu_rt_period: real-time shares"),
        ("use_api_socket: true", "use_api_socket: rbox has no API socket"),
        (
            "models: [m]}}\nmodels: {m: {model: ai/x",
            "models: what serves models is a part of Docker's engine",
        ),
    ] {
        refused(&format!("services: {{a: {{image: busybox, {key}}}}}"), &[&format!("\"a\": {why}")]);
    }
    refused("services: {a: {image: busybox, ulimits: {nosuch: 3}}}", &["\"a\": ulimits"]);
    refused("services: {}", &["no service selected"]);
    refused(
        "services: {a: {image: busybox}}\nnetworks: {default: {enable_ipv4: false, enable_ipv6: true}}",
        &["network default: enable_ipv4: false: every network of rbox has IPv4"],
    );
    refused(
        "services: {a: {image: busybox}}\nnetworks: {default: {ipam: {config: [{subnet: 10.1.0.0/24, aux_addresses: {h: banana}}]}}}",
        &["network default: invalid auxiliary address h: \"banana\""],
    );
    // A FIFO gives what it has once, if ever: it is not waited for.
    let dir = t.dir("pipe");
    let pipe = dir.join("pipe").display().to_string();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text = format!(
        "services: {{a: {{image: busybox, configs: [{{source: c, mode: 0440}}]}}}}\nconfigs: {{c: {{file: {pipe}}}}}"
    );
    refused(&text, &["\"a\": config \"c\"", "not a regular file"]);
    for name in ["../x", "UP"] {
        let out = t.rbox(["compose", "-p", name, "down"]);
        assert!(out.code == 1 && out.stderr.contains("invalid project name"), "{name:?}: {}", out.stderr);
    }
}

/// `--wait` looks at all once more before it says that all is well.
#[test]
fn what_ends_while_another_is_waited_for_is_noticed() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(
        &t,
        &format!(
            "services:
  ends: {{image: busybox, command: [sh, -c, 'sleep 0.3; exit 4']}}
  slow:
    image: busybox
    command: [sh, -c, \"{OBEYS}\"]
    healthcheck: {{test: 'sleep 1', interval: 200ms, retries: 3}}
"
        ),
    );
    let out = project.run(&["up", "-d", "--wait"]).code(1);
    let ends = project.container("ends");
    assert!(out.stderr.contains(&format!("rbox: container {ends} exited (4)")), "{}", out.stderr);
    let told = project.run(&["why", "ends"]).ok();
    assert!(told.contains(&format!("{ends}: exited (4); 'rbox why {ends}' says why")), "{told}");
    project.done(&["down"]);
}

/// What a service depends on is not judged by an earlier life: after a stop all come up again, in order.
#[test]
fn what_was_stopped_comes_up_again_in_order() {
    let Some(t) = Test::start() else { return };
    let check = "healthcheck: {test: [CMD, test, -e, /tmp/ok], interval: 20s}";
    let service = |name: &str, on: &str| {
        format!(
            "  {name}:\n    image: busybox\n    command: [sh, -c, \"rm -f /tmp/ok; sleep 0.4; touch /tmp/ok; {OBEYS}\"]\n    {check}\n{on}"
        )
    };
    let on = |name: &str| format!("    depends_on: {{{name}: {{condition: service_healthy}}}}\n");
    let text = format!(
        "services:\n{}{}{}",
        service("cache", ""),
        service("db", &on("cache")),
        service("web", &on("db"))
    );
    let project = Project::new(&t, &text);
    project.done(&["up", "-d"]);
    project.done(&["stop"]);
    project.done(&["up", "-d"]);
    for name in ["cache", "db", "web"] {
        assert_eq!(t.status(&project.container(name)), "running");
    }
    project.done(&["down"]);
}

/// A terminal of another size is no wish to end; Ctrl-C while something is waited for is one.
#[test]
fn an_attached_up_knows_one_signal_from_another() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(
        &t,
        &format!(
            "services:
  db:
    image: busybox
    command: [sh, -c, \"echo here; {OBEYS}\"]
    healthcheck: {{test: 'exit 1', interval: 1h}}
  web: {{image: busybox, command: [sh, -c, \"{OBEYS}\"], depends_on: {{db: {{condition: service_healthy}}}}}}
"
        ),
    );
    let running = project.cmd(&["up"]).spawn();
    wait_until("the first one runs", || {
        t.rbox(["inspect", "-f", "{{.State.Running}}", &project.container("db")]).stdout == "true\n"
    });
    t.listens(&project.container("db"));
    running.signal("WINCH");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(t.status(&project.container("db")), "running");
    running.signal("INT");
    let out = running.finish(patience(Duration::from_secs(20))).code(130);
    assert!(out.stdout.contains("db-1  | here\n") && out.stderr.contains("Gracefully stopping"), "{out:?}");
    assert_eq!(t.status(&project.container("db")), "exited");
    project.done(&["down"]);
}

/// A monitor outlives the command that started it: a lock or a pipe of that one that it kept would stay as long as its container.
#[test]
fn monitors_have_nothing_of_the_command() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, &three());
    let up = project.cmd(&["up"]).spawn();
    wait_until("web runs", || {
        t.rbox(["inspect", "-f", "{{.State.Running}}", &project.container("web")]).stdout == "true\n"
    });
    let live = t.suite.state.join("containers").join(project.id("web")).join("state.json");
    let state: Value = serde_json::from_str(&fs::read_to_string(live).unwrap()).unwrap();
    let mut alien: Vec<String> = fs::read_dir(format!("/proc/{}/fd", state["monitor"]))
        .unwrap()
        .filter_map(|entry| Some(fs::read_link(entry.unwrap().path()).ok()?.display().to_string()))
        .filter(|open| open.contains("inotify") || open.contains("signalfd") || open.contains("compose-"))
        .collect();
    alien.sort();
    assert!(alien.is_empty(), "{alien:?}");
    up.signal("INT");
    up.finish(patience(Duration::from_secs(20))).code(130);
    project.done(&["down", "-v", "-t", "0"]);
}
