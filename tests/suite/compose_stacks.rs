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
    build: {context: ./vote}
    entrypoint: [python3, /app/result.py]
    ports: ['127.0.0.1::80']
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
const PROGRAMS: [(&str, &str); 4] = [
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
        "result.py",
        "import flask, psycopg2
app = flask.Flask(__name__)
@app.route('/')
def result():
    db = psycopg2.connect(host='db', user='postgres', password=open('/run/secrets/db_password').read().strip())
    rows = db.cursor()
    rows.execute('SELECT vote, count(*) FROM votes GROUP BY vote')
    return dict(rows.fetchall())
app.run(host='0.0.0.0', port=80)
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
    assert_eq!([stage("vote"), stage("result"), stage("worker")], ["dev cats,dogs", "final none", "none"]);
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
