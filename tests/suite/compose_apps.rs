//! `rbox compose` with applications that have work to do behind their pages, as people have them.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::build_platforms::{OTHER, OWN, machine};
use crate::harness::registry::PasswordRegistry;
use crate::harness::{BUSYBOX, Project, Test, page, poll};

const FINANCE: &str = "services:
  web:
    build: .
    ports: ['127.0.0.1::8000']
    environment: {DATABASE_URL: 'postgresql://postgres:${DB_PASSWORD}@db/finance', CACHE: redis}
    env_file: [{path: ./more.env, required: false}]
    volumes: ['./uploads:/uploads']
    depends_on:
      db: {condition: service_healthy, restart: true}
      redis: {condition: service_started}
    deploy: {resources: {limits: {cpus: '0.75', memory: 192M}, reservations: {memory: 32M}}}
    restart: unless-stopped
  db:
    image: postgres:15
    environment: [POSTGRES_DB=finance, 'POSTGRES_PASSWORD=${DB_PASSWORD}']
    volumes: [pgdata:/var/lib/postgresql/data]
    healthcheck: {test: ['CMD-SHELL', 'pg_isready -h 127.0.0.1 -U postgres -d finance'], interval: 1s, retries: 60}
    deploy: {resources: {limits: {memory: 512M}}}
  redis:
    image: redis:7
    command: redis-server --appendonly yes --protected-mode no
    volumes: [redisdata:/data]
volumes: {pgdata: , redisdata: }
";

const FINANCE_PAGE: &str = "import contextlib, flask, os, pathlib, psycopg2, redis
app = flask.Flask(__name__)
@contextlib.contextmanager
def rows():
    with contextlib.closing(psycopg2.connect(os.environ['DATABASE_URL'])) as db, db, db.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock(1)')
        cursor.execute('CREATE TABLE IF NOT EXISTS spent (what text, cents int)')
        yield cursor
@app.get('/spend/<what>/<int:cents>')
def spend(what, cents):
    with rows() as table:
        table.execute('INSERT INTO spent VALUES (%s, %s)', [what, cents])
    pathlib.Path('/uploads', what + '.txt').write_text(str(cents))
    redis.Redis(host=os.environ['CACHE']).incr('entries')
    return total()
@app.get('/')
def total():
    with rows() as table:
        table.execute('SELECT coalesce(sum(cents), 0) FROM spent')
        cents = table.fetchone()[0]
    return {'cents': cents, 'entries': int(redis.Redis(host=os.environ['CACHE']).get('entries') or 0)}
app.run(host='0.0.0.0', port=8000)
";

/// A finance tracker: what is spent is in a database and a cache with volumes of their own, a receipt in a directory of the user's, and
/// the database's volume is saved and brought back by a container.
#[test]
fn what_was_spent_survives_its_volume() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, FINANCE);
    project.write(".env", "export DB_PASSWORD='pa$ss' # as it stands\n");
    project
        .write("Dockerfile", "FROM rbox/flask\nWORKDIR /app\nCOPY app.py .\nCMD [\"python3\", \"app.py\"]\n");
    project.write("app.py", FINANCE_PAGE);
    fs::create_dir_all(project.dir.join("uploads")).unwrap();
    let site = || t.ok(["port", &project.container("web"), "8000/tcp"]);
    let tells = |path: &str, wanted: &Value| {
        let address = format!("{}/{path}", site());
        let mut told = Value::Null;
        let came = poll(Duration::from_secs(40), || {
            told = page(&address).unwrap_or_default();
            told == *wanted
        });
        assert!(
            came,
            "{path:?} does not tell {wanted}, but {told}: {}",
            project.run(&["logs", "-n", "20", "web"]).stdout
        );
    };

    project.done(&["up", "-d", "--build", "--wait"]);
    tells("", &json!({ "cents": 0, "entries": 0 }));
    assert_eq!(page(&format!("{}/spend/tea/250", site())), Some(json!({ "cents": 250, "entries": 1 })));
    assert_eq!(fs::read_to_string(project.dir.join("uploads/tea.txt")).unwrap(), "250");
    let web = project.inspect("web");
    assert_eq!(web["HostConfig"]["NanoCpus"], 750_000_000_u64);
    assert_eq!(web["HostConfig"]["MemoryReservation"], 32 << 20);
    let told = project.run(&["exec", "-T", "web", "sh", "-c", "echo $DATABASE_URL; pwd"]).code(0);
    assert_eq!(told.stdout, "postgresql://postgres:pa$ss@db/finance\n/app\n");
    let stats = project.run(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"]).code(0);
    assert!(stats.stdout.contains("-web-1 ") && stats.stdout.contains("/ 192MiB"), "{}", stats.stdout);
    let (log, err) = (project.dir.join("web.log"), project.dir.join("web.err"));
    let to = |path: &std::path::PathBuf| fs::File::create(path).unwrap().into();
    let written =
        project.cmd(&["logs", "--no-color", "web"]).spawn_on(Stdio::null(), to(&log), to(&err)).wait();
    assert!(written.unwrap().success(), "{}", fs::read_to_string(&err).unwrap());
    let logs = fs::read_to_string(&log).unwrap();
    assert!(logs.contains("web-1  | ") && logs.contains("GET /spend/tea/250") && !logs.contains('\u{1b}'));

    // Save, lose everything, bring back.
    fs::create_dir_all(project.dir.join("backup")).unwrap();
    let backup = format!("{}:/backup", project.dir.join("backup").display());
    let volume = format!("{}_pgdata:/data", project.name);
    let tar = |words: &[&str]| {
        t.cmd(["run", "--rm", "-v", &volume, "-v", &backup, "busybox", "tar"]).args(words).run().code(0);
    };
    project.done(&["stop"]);
    // By a container of the service itself, which has its volume; brought back by one of another image.
    let words = ["run", "--rm", "--no-deps", "-T", "-v", &backup, "db"];
    let saved = ["tar", "-czf", "/backup/pg.tar.gz", "-C", "/var/lib/postgresql/data", "."];
    project.done(&[&words[..], &saved].concat());
    assert!(!project.names().iter().any(|name| name.contains("run")), "{:?}", project.names());
    project.done(&["down", "-v"]);
    project.done(&["create"]);
    tar(&["-xzf", "/backup/pg.tar.gz", "-C", "/data"]);
    project.done(&["up", "-d", "--wait"]);
    tells("", &json!({ "cents": 250, "entries": 0 }));
    // The page is started again with its database.
    let before = project.inspect("web")["State"]["StartedAt"].clone();
    project.done(&["restart", "db"]);
    assert_ne!(project.inspect("web")["State"]["StartedAt"], before);
    tells("", &json!({ "cents": 250, "entries": 0 }));
    project.done(&["down", "-v", "--rmi", "local"]);
    assert!(project.names().is_empty());
}

const SAAS: &str = "name: ignored-by-p
x-app: &app
  build: .
  user: nobody
  environment: &env
    BROKER: redis://queue:6379/0
    DATABASE_URL: postgresql://postgres:tea@db/postgres
    HOME: /tmp
  depends_on: &needs
    db: {condition: service_healthy}
    queue: {condition: service_healthy}
services:
  api:
    <<: *app
    command: python3 /app/api.py
    ports: ['127.0.0.1::8000']
    depends_on: {<<: *needs, worker: {condition: service_healthy}}
    healthcheck: {test: [CMD, python3, -c, 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8000/\")'], interval: 1s, timeout: 5s, retries: 60}
  worker:
    <<: *app
    command: python3 -m celery -A tasks worker --loglevel=info --concurrency=1
    environment: {<<: *env, ROLE: worker}
    healthcheck: {test: 'python3 -m celery -A tasks inspect ping -d celery@$$HOSTNAME', interval: 2s, timeout: 20s, retries: 30}
    stop_grace_period: 30s
  beat:
    <<: *app
    command: python3 -m celery -A tasks beat --loglevel=info -s /tmp/schedule
    depends_on: {<<: *needs, worker: {condition: service_healthy}}
  queue:
    image: redis:7
    healthcheck: {test: [CMD, redis-cli, ping], interval: 1s, retries: 60}
  db:
    image: postgres:15
    environment: {POSTGRES_PASSWORD: tea}
    healthcheck: {test: [CMD-SHELL, pg_isready -h 127.0.0.1 -U postgres], interval: 1s, retries: 60}
    tmpfs: [/var/lib/postgresql/data]
";

const TASKS: &str = "import celery, contextlib, os, psycopg2, socket
app = celery.Celery('tasks', broker=os.environ['BROKER'], backend=os.environ['BROKER'])
app.conf.beat_schedule = {'tick': {'task': 'tasks.tick', 'schedule': 0.5}}
@contextlib.contextmanager
def rows():
    with contextlib.closing(psycopg2.connect(os.environ['DATABASE_URL'])) as db, db, db.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock(1)')
        cursor.execute('CREATE TABLE IF NOT EXISTS ticks (at timestamptz DEFAULT now())')
        yield cursor
@app.task
def tick():
    with rows() as table:
        table.execute('INSERT INTO ticks DEFAULT VALUES')
@app.task
def add(a, b):
    return {'sum': a + b, 'by': os.environ.get('ROLE')}
";

const API: &str = "import flask, tasks
site = flask.Flask(__name__)
@site.get('/')
def ticks():
    with tasks.rows() as table:
        table.execute('SELECT count(*) FROM ticks')
        return {'ticks': table.fetchone()[0]}
@site.get('/add/<int:a>/<int:b>')
def add(a, b):
    return tasks.add.delay(a, b).get(timeout=20)
site.run(host='0.0.0.0', port=8000)
";

/// What a service sells: a page, a queue with a worker behind it, and a clock that gives it work. All of them wait for each other by
/// their health.
#[test]
fn work_is_queued_done_and_given_by_a_clock() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, SAAS);
    project.write("Dockerfile", "FROM rbox/flask\nWORKDIR /app\nCOPY tasks.py api.py ./\n");
    project.write("tasks.py", TASKS);
    project.write("api.py", API);
    let told = project.done(&["up", "-d", "--wait", "--wait-timeout", "120"]);
    let at = |line: &str| told.find(line).unwrap_or_else(|| panic!("no {line:?} in {told}"));
    assert!(at("-worker-1  Healthy") < at("-beat-1  Starting"));
    assert!(at("-queue-1  Healthy") < at("-worker-1  Starting"));

    let site = t.ok(["port", &project.container("api"), "8000/tcp"]);
    let sum = page(&format!("{site}/add/20/22"));
    assert_eq!(sum, Some(json!({ "sum": 42, "by": "worker" })));
    let ticks = || page(&site).and_then(|page| page["ticks"].as_i64()).unwrap_or(-1);
    assert!(poll(Duration::from_secs(30), || ticks() >= 2), "the clock gives no work: {}", ticks());
    let logs = project.run(&["logs", "--no-log-prefix", "worker"]).code(0);
    assert!((logs.stdout + &logs.stderr).contains("tasks.add"), "the worker says nothing of its work");

    // Without the clock nothing more comes; with more workers what was asked for is still done.
    project.done(&["stop", "beat"]);
    project.done(&["restart", "worker"]);
    let mut last = ticks();
    let settled = poll(Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(1500));
        std::mem::replace(&mut last, ticks()) == last
    });
    assert!(settled, "it goes on without the clock");
    project.done(&["up", "-d", "--no-deps", "--scale", "worker=2", "worker"]);
    assert!(project.names().contains(&"worker-2".to_owned()));
    let again =
        poll(Duration::from_secs(30), || page(&format!("{site}/add/1/2")).is_some_and(|got| got["sum"] == 3));
    assert!(again, "no worker does anything");
    project.done(&["down", "-v", "--rmi", "local"]);
    assert!(project.names().is_empty());
}

/// `build.platforms`: `build` makes all of them, and `up` what it runs.
#[test]
fn a_service_is_built_for_several_platforms() {
    let Some(t) = Test::start() else { return };
    let Some(registry) = PasswordRegistry::open(&t.dir("registry")) else { return };
    let name = format!("{}/team/app:1", registry.name);
    let file = |platforms: &str| {
        format!(
            "services:\n  app:\n    image: {name}\n    build:\n      context: .\n      platforms: [{platforms}]\n  own:\n    build: {{context: ., platforms: [{platforms}]}}\n"
        )
    };
    let both = format!("{OWN}, {OTHER}");
    let project = Project::new(&t, &file(&both));
    project.write(
        "Dockerfile",
        &format!(
            "FROM --platform=$BUILDPLATFORM {BUSYBOX} AS build\nARG TARGETARCH\nRUN echo $TARGETARCH > /made\n\
             FROM --platform=$BUILDPLATFORM {BUSYBOX}\nCOPY --from=build /made /\nCMD [\"cat\", \"/made\"]\n"
        ),
    );
    let of = |image: &str, platform: &str| {
        t.cmd(["image", "inspect", "--platform", platform, "-f", "{{.Architecture}}", image]).run()
    };
    let own_name = format!("{}-own", project.name);
    let said = project.done(&["build", "--push"]);
    assert!(
        said.contains(&format!("Image {name}  Built")) && said.contains(&format!("Image {own_name}  Built")),
        "{said}"
    );
    for image in [&name, &own_name] {
        for platform in [OWN, OTHER] {
            assert_eq!(of(image, platform).ok(), machine(platform), "{image}");
        }
    }
    // What has a name of its own is in its registry, as one index.
    let index: Value = serde_json::from_str(&registry.get("team/app/manifests/1")).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2, "{index}");
    // What is run is this machine's, of what is there and of what is made for it.
    let ran = |flags: &[&str]| {
        project.done(&[&["up", "--no-log-prefix"], flags].concat());
        project.run(&["logs", "--no-log-prefix", "--no-color", "app"]).code(0).stdout.trim().to_owned()
    };
    assert_eq!(ran(&[]), machine(OWN));
    project.done(&["down"]);
    assert_eq!(ran(&["--build"]), machine(OWN));
    assert_eq!(of(&name, OWN).ok(), machine(OWN));
    project.done(&["down", "--rmi", "all"]);
    project.write("compose.yaml", &file("linux/nonsense/x/y"));
    let out = project.run(&["build", "app"]).code(1);
    assert!(out.stderr.contains("\"linux/nonsense/x/y\" is an invalid platform"), "{}", out.stderr);
}
