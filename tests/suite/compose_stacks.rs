//! `rbox compose` with stacks of real servers, as people have them.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Project, Test, page, poll, wait_until};

const SHOP: &str = "x-health: &health {interval: 500ms, timeout: 5s, retries: 60}
services:
  web:
    image: nginx:1.22
    ports: ['127.0.0.1:${PAGE_PORT:-0}:80']
    volumes: ['./site.conf:/etc/nginx/conf.d/default.conf:ro']
    depends_on: [api]
    networks: [front]
  api:
    build: ./api
    environment:
      DATABASE_URL: postgresql://postgres:${DB_PASSWORD:?set it}@db/shop
      CACHE_HOST: cache
    depends_on:
      db: {condition: service_healthy}
      cache: {condition: service_healthy}
    networks: [front, back]
    deploy: {resources: {limits: {memory: 256M, cpus: '1.5', pids: 100}}}
  db:
    image: postgres:15
    environment: {POSTGRES_PASSWORD: '${DB_PASSWORD}', POSTGRES_DB: shop}
    volumes: ['rows:/var/lib/postgresql/data']
    healthcheck: {<<: *health, test: 'pg_isready -h 127.0.0.1 -U postgres -d shop'}
    networks: [back]
  cache:
    image: redis:7
    healthcheck: {<<: *health, test: [CMD, redis-cli, ping]}
    networks: {back: {aliases: [memory]}}
networks:
  front:
  back: {internal: true}
volumes: {rows: }
";

/// nginx in front of an application that is built, with a cache and a database that are waited for.
#[test]
fn a_shop_of_real_servers() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, SHOP);
    project.write(".env", "DB_PASSWORD='hunter2' # quoted, as people do\n");
    project.write(
        "site.conf",
        "server { listen 80; resolver 127.0.0.11 valid=1s ipv6=off; set $app http://api:5000; location / { proxy_pass $app; } }\n",
    );
    project.write(
        "api/Dockerfile",
        "FROM rbox/flask AS base\nRUN echo built > /built\nFROM base\nUSER nobody\n",
    );
    project.done(&["up", "-d", "--wait"]);
    let published = t.ok(["port", &project.container("web"), "80/tcp"]);
    let mut kept = 0;
    let came = poll(Duration::from_secs(40), || {
        page(&published).is_some_and(|page| {
            kept = page["kept"].as_i64().unwrap();
            true
        })
    });
    assert!(came, "the page does not come");
    let api = project.inspect("api");
    assert_eq!(api["HostConfig"]["Memory"], 256 << 20);
    assert_eq!(api["HostConfig"]["NanoCpus"], 1_500_000_000_u64);
    assert_eq!(api["HostConfig"]["PidsLimit"], 100);
    assert_eq!(t.ok(["exec", &project.container("api"), "cat", "/built"]), "built");

    // The rows outlive the containers; the page counts on.
    project.done(&["down"]);
    project.done(&["up", "-d", "--wait"]);
    let published = t.ok(["port", &project.container("web"), "80/tcp"]);
    let mut page_now = None;
    wait_until("the page comes again", || {
        page_now = page(&published);
        page_now.is_some()
    });
    assert!(page_now.unwrap()["kept"].as_i64().unwrap() > kept);
    project.done(&["down", "-v", "--rmi", "local"]);
    let images = t.ok(["images", "--format", "{{.Repository}}"]);
    assert!(!images.contains(&project.name) && images.contains("nginx"), "{images}");
}

const VOTING: &str = "services:
  vote:
    build: {context: ./vote, target: dev, args: {OPTIONS: 'cats,dogs'}}
    command: python3 /app/vote.py
    depends_on: {redis: {condition: service_healthy}}
    healthcheck: {test: [CMD, python3, -c, \"import urllib.request as u; u.urlopen('http://localhost:80/')\"], interval: 1s, timeout: 5s, retries: 30}
    networks: [front-tier, back-tier]
  result:
    build: {context: ./result, target: dev}
    entrypoint: [node, '--inspect=0.0.0.0', server.js]
    init: true
    volumes: ['./result:/usr/local/app']
    ports: ['127.0.0.1::80', '127.0.0.1:9229:9229']
    depends_on: {db: {condition: service_healthy}}
    secrets: [db_password]
    networks: [front-tier, back-tier]
  worker:
    build: {context: ./vote, target: base}
    command: [python3, /app/worker.py]
    depends_on: {redis: {condition: service_healthy}, db: {condition: service_healthy}}
    secrets: [db_password]
    restart: on-failure
    networks: [back-tier]
  redis:
    image: redis:7
    volumes: ['./healthchecks:/healthchecks']
    healthcheck: {test: /healthchecks/redis.sh, interval: 5s}
    networks: [back-tier]
  db:
    image: postgres:15
    entrypoint: [sh, -c, 'export POSTGRES_PASSWORD=$$(cat /run/secrets/db_password); exec docker-entrypoint.sh postgres']
    secrets: [db_password]
    volumes: ['db-data:/var/lib/postgresql/data', './healthchecks:/healthchecks']
    healthcheck: {test: /healthchecks/postgres.sh, interval: 5s, retries: 20}
    networks: [back-tier]
  seed:
    build: {context: ./vote}
    command: [python3, /app/seed.py]
    profiles: [seed]
    depends_on: {vote: {condition: service_healthy}}
    networks: [front-tier]
    restart: 'no'
secrets: {db_password: {file: ./password.txt}}
volumes: {db-data: }
networks: {front-tier: , back-tier: }
";

/// What the images of the voting project have in /app.
const PROGRAMS: [(&str, &str); 3] = [
    (
        "vote.py",
        "import flask, os, redis
app = flask.Flask(__name__)
@app.route('/', methods=['GET', 'POST'])
def vote():
    if flask.request.method == 'POST':
        redis.Redis(host='redis').rpush('votes', flask.request.form['vote'])
    return os.environ['OPTIONS']
app.run(host='0.0.0.0', port=80)
",
    ),
    (
        "worker.py",
        "import psycopg2, redis
db = psycopg2.connect(host='db', user='postgres', password=open('/run/secrets/db_password').read().strip())
db.autocommit = True
rows = db.cursor()
rows.execute('CREATE TABLE IF NOT EXISTS votes (vote text)')
while True:
    rows.execute('INSERT INTO votes VALUES (%s)', [redis.Redis(host='redis').blpop('votes')[1].decode()])
",
    ),
    (
        "seed.py",
        "import urllib.request
for vote in ['cats', 'cats', 'dogs']:
    urllib.request.urlopen('http://vote/', data=('vote=' + vote).encode())
print('seeded')
",
    ),
];

/// The votes, counted by Node.
const RESULT: &str = "const { Pool } = require('pg');
const password = require('fs').readFileSync('/run/secrets/db_password', 'utf8').trim();
const pool = new Pool({ host: 'db', user: 'postgres', password });
require('http').createServer(async (_, answer) => {
  try {
    const { rows } = await pool.query('SELECT vote, count(*)::int AS votes FROM votes GROUP BY vote');
    answer.end(JSON.stringify(Object.fromEntries(rows.map(row => [row.vote, row.votes]))));
  } catch (error) {
    answer.writeHead(503);
    answer.end(String(error));
  }
}).listen(80);
";

/// The voting example that everybody knows: two tiers, a worker between a queue and a database, checks in mounted scripts, a stage of a
/// build, a profile, a password in a file.
#[test]
fn votes_go_from_one_tier_to_the_other() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, VOTING);
    project.write("password.txt", "in-a-file\n");
    project.write(
        "vote/Dockerfile",
        "FROM rbox/flask AS base\nARG OPTIONS=none\nENV OPTIONS=$OPTIONS\nCOPY *.py /app/\nFROM base AS dev\nENV STAGE=dev\nFROM base AS final\nENV STAGE=final\n",
    );
    for (name, text) in PROGRAMS {
        project.write(&format!("vote/{name}"), text);
    }
    project.write(
        "result/Dockerfile",
        "FROM rbox/tools AS base\nWORKDIR /usr/local/app\nCOPY server.js .\nFROM base AS dev\nENV STAGE=dev\nFROM base AS final\nENV STAGE=final\n",
    );
    project.write("result/server.js", RESULT);
    project.write("healthchecks/redis.sh", "#!/bin/sh\nredis-cli ping | grep -q PONG\n");
    project.write("healthchecks/postgres.sh", "#!/bin/sh\npg_isready -h 127.0.0.1 -U postgres\n");
    for script in ["redis.sh", "postgres.sh"] {
        let path = project.dir.join("healthchecks").join(script);
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    project.done(&["up", "-d", "--wait"]);
    assert_eq!(project.names(), ["db-1", "redis-1", "result-1", "vote-1", "worker-1"]);
    let stage =
        |service: &str| t.ok(["exec", &project.container(service), "sh", "-c", "echo $STAGE $OPTIONS"]);
    assert_eq!([stage("vote"), stage("result"), stage("worker")], ["dev cats,dogs", "dev", "none"]);
    // Its debugger, where the file says; it answers only those who ask by address.
    let debugger = "http://127.0.0.1:9229/json/version";
    wait_until("the debugger answers", || {
        t.program("curl", ["-fsS", debugger]).run().stdout.contains("\"Browser\": \"node.js/v18.")
    });
    let other_address = std::net::TcpStream::connect("127.0.0.2:9229");
    assert!(other_address.is_err(), "the debugger is published on one address");
    let out = project.run(&["--profile", "seed", "run", "--rm", "-T", "seed"]).code(0);
    assert_eq!(out.stdout, "seeded\n");
    let published = t.ok(["port", &project.container("result"), "80/tcp"]);
    let mut counted = Value::Null;
    let came = poll(Duration::from_secs(30), || {
        counted = page(&published).unwrap_or_default();
        counted == serde_json::json!({ "cats": 2, "dogs": 1 })
    });
    assert!(came, "the votes do not come: {counted}");
    // The tiers are apart: who is only in front does not reach the database.
    let front = format!("{}_front-tier", project.name);
    let reached = t.cmd(["run", "--rm", "--network", &front, "busybox", "nslookup", "db"]).run();
    assert_ne!(reached.code, 0, "{}", reached.stdout);
    project.done(&["--profile", "*", "down", "-v", "--rmi", "local"]);
    assert!(project.names().is_empty());
}

const BOOKS: &str = "services:
  api:
    build: {context: ., target: run}
    ports: ['127.0.0.1::8000']
    environment: {DB_HOST: db, DB_NAME: books, DB_PASSWORD_FILE: /run/secrets/db_password}
    secrets: [{source: db_password, uid: '10001', gid: '10001', mode: 0400}]
    read_only: true
    depends_on: {db: {condition: service_healthy}}
    healthcheck:
      test: [CMD, python3, -c, 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:8000/health\")']
      interval: 500ms
      timeout: 10s
      retries: 40
  db:
    image: postgres:15
    entrypoint: [sh, -c, 'POSTGRES_PASSWORD=$$(cat /run/secrets/db_password) exec docker-entrypoint.sh postgres']
    environment: {POSTGRES_DB: books}
    secrets: [db_password]
    volumes: ['books:/var/lib/postgresql/data']
    healthcheck: {test: [CMD-SHELL, 'pg_isready -h 127.0.0.1 -U postgres -d books'], interval: 500ms, timeout: 10s, retries: 60}
secrets: {db_password: {file: ./secrets/db_password.txt}}
volumes: {books: }
";

/// Tools of the first stage are not in the second one, whose program is nobody in particular.
const BOOKS_IMAGE: &str = "FROM rbox/flask AS build
WORKDIR /build
COPY app.py .
RUN python3 -m compileall -q -b . && echo tools > tools
FROM rbox/flask AS run
RUN useradd --uid 10001 --user-group --no-create-home books
COPY --from=build --chown=books /build/app.pyc /app/
USER books
ENV PYTHONDONTWRITEBYTECODE=1
CMD [\"python3\", \"/app/app.pyc\"]
";

const BOOKS_API: &str = "import contextlib, flask, os, psycopg2
app = flask.Flask(__name__)
@contextlib.contextmanager
def rows():
    with open(os.environ['DB_PASSWORD_FILE']) as file:
        password = file.read().strip()
    with contextlib.closing(psycopg2.connect(host=os.environ['DB_HOST'], dbname=os.environ['DB_NAME'], user='postgres', password=password)) as db, db, db.cursor() as cursor:
        cursor.execute('SELECT pg_advisory_xact_lock(1)')
        cursor.execute('CREATE TABLE IF NOT EXISTS books (id serial PRIMARY KEY, title text UNIQUE)')
        yield cursor
@app.get('/health')
def health():
    with rows() as table:
        return {'user': os.getuid()}
@app.post('/books')
def add():
    with rows() as table:
        table.execute('INSERT INTO books (title) VALUES (%s) RETURNING id', [flask.request.json['title']])
        return {'id': table.fetchone()[0]}, 201
@app.get('/books')
def books():
    with rows() as table:
        table.execute('SELECT title FROM books ORDER BY id')
        return {'books': [row[0] for row in table.fetchall()]}
app.run(host='0.0.0.0', port=8000)
";

/// An API of books: its password is in a file that only its user can read, its image has nothing of what it was made with.
#[test]
fn books_are_kept_behind_a_password_in_a_file() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, BOOKS);
    project.write("secrets/db_password.txt", "pa$s w0rd\n");
    project.write("Dockerfile", BOOKS_IMAGE);
    project.write("app.py", BOOKS_API);
    project.done(&["up", "-d", "--wait"]);
    for service in ["api", "db"] {
        assert_eq!(project.inspect(service)["State"]["Health"]["Status"], "healthy", "{service}");
    }
    let site = || t.ok(["port", &project.container("api"), "8000/tcp"]);
    let books = || page(&format!("{}/books", site())).unwrap_or_default()["books"].clone();
    assert_eq!(page(&format!("{}/health", site())), Some(serde_json::json!({ "user": 10001 })));
    for title in ["Kernel", "Network"] {
        let body = format!("{{\"title\": \"{title}\"}}");
        let url = format!("http://{}/books", site());
        let words = ["-fsS", "-H", "Content-Type: application/json", "-d", &body, &url];
        assert!(t.program("curl", words).run().ok().contains("\"id\""), "{title}");
    }
    assert_eq!(books(), serde_json::json!(["Kernel", "Network"]));

    let inside = |command: &str| project.run(&["exec", "-T", "api", "sh", "-c", command]).code(0).stdout;
    assert_eq!(inside("id -u; stat -c '%u:%g %a' /run/secrets/db_password"), "10001\n10001:10001 400\n");
    assert_eq!(inside("ls /app; ls -d /build 2>/dev/null || echo none"), "app.pyc\nnone\n");
    assert_eq!(inside("touch /app/x 2>/dev/null || echo kept"), "kept\n");
    // Nobody but those who are given it has the password.
    for shown in [project.inspect("api").to_string(), project.inspect("db").to_string()] {
        assert!(!shown.contains("pa$s w0rd"), "{shown}");
    }
    let image = format!("{}-api", project.name);
    assert!(!t.ok(["history", "--no-trunc", &image]).contains("pa$s w0rd"));
    assert_eq!(t.ok(["image", "inspect", "-f", "{{.Config.User}}", &image]), "books");

    // A new image of the API takes its place; the books and the database stay.
    let database = project.id("db");
    project.write("app.py", &BOOKS_API.replace("ORDER BY id", "ORDER BY id DESC"));
    project.done(&["up", "-d", "--build", "--wait"]);
    assert_eq!(books(), serde_json::json!(["Network", "Kernel"]));
    assert_eq!(project.id("db"), database);
    project.done(&["down", "-v", "--rmi", "local"]);
    assert!(project.names().is_empty());
}
