//! A web server, an application, a cache and a database on two networks, wired with nothing but `rbox run`.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{BUSYBOX, Peer, Test, page, patience, poll, wait_until};

const REDIS: &str = "redis:7";
const POSTGRES: &str = "postgres:15";
const NGINX: &str = "nginx:1.22";
const FLASK: &str = "rbox/flask";
const PASSWORD: &str = "POSTGRES_PASSWORD=not a secret";

/// nginx asks for the name again and again, as somebody configures it who knows that containers move.
const SITE: &str = "server {
  listen 80;
  resolver 127.0.0.11 valid=1s ipv6=off;
  location / {
    set $app http://app:5000;
    proxy_pass $app;
    proxy_connect_timeout 2s;
    proxy_set_header X-Real-IP $remote_addr;
  }
}
";

/// The containers' names, by tier, and where the page is.
struct Stack<'a> {
    t: &'a Test,
    front: String,
    back: String,
    web: String,
    app: String,
    app_host: String,
    cache: String,
    db: String,
    volume: String,
    page: String,
}

impl<'a> Stack<'a> {
    /// Starts all of it, and waits for the page.
    fn start(t: &'a Test) -> Self {
        let mut stack = Self {
            t,
            front: t.name("front"),
            back: t.name("back"),
            web: t.name("web"),
            app: t.name("app"),
            app_host: String::new(),
            cache: t.name("cache"),
            db: t.name("db"),
            volume: t.name("rows"),
            page: String::new(),
        };
        t.ok(["network", "create", &stack.front]);
        t.ok(["network", "create", "--internal", &stack.back]);
        stack.run_db();
        stack.run_cache(&stack.cache);
        stack.app_host = stack.run_app(&stack.app);
        let site = t.dir("site").join("default.conf");
        std::fs::write(&site, SITE).unwrap();
        let mount = format!("{}:/etc/nginx/conf.d/default.conf:ro", site.display());
        t.ok(["run", "-d", "--name", &stack.web, "--network", &stack.front, "-p", "80", "-v", &mount, NGINX]);
        let published = t.ok(["port", &stack.web, "80/tcp"]);
        let port = published.lines().next().unwrap().rsplit(':').next().unwrap();
        stack.page = format!("127.0.0.1:{port}");
        stack.wait("the first page");
        stack
    }

    fn run_db(&self) {
        let volume = format!("{}:/var/lib/postgresql/data", self.volume);
        let network = format!("name={},alias=db", self.back);
        self.t.ok([
            "run",
            "-d",
            "--name",
            &self.db,
            "--network",
            &network,
            "-e",
            PASSWORD,
            "-e",
            "POSTGRES_DB=shop",
            "-v",
            &volume,
            POSTGRES,
        ]);
    }

    fn run_cache(&self, name: &str) {
        self.t.ok(["run", "-d", "--name", name, "--network", &self.back, "--network-alias", "cache", REDIS]);
    }

    /// On both networks; what it is called on the first is what nginx asks for. Returns what it calls itself on its page.
    fn run_app(&self, name: &str) -> String {
        let front = format!("name={},alias=app", self.front);
        let url = "DATABASE_URL=postgresql://postgres:not%20a%20secret@db/shop";
        let id = self.t.ok([
            "run",
            "-d",
            "--name",
            name,
            "--network",
            &front,
            "--network",
            &self.back,
            "-e",
            url,
            FLASK,
        ]);
        id[..12].to_owned()
    }

    /// The page, once it is there.
    #[track_caller]
    fn wait(&self, what: &str) -> Value {
        let mut found = None;
        // A database that is new makes its files first; an emulated machine takes its time over that.
        let came = poll(Duration::from_secs(40), || {
            found = page(&self.page);
            found.is_some()
        });
        assert!(came, "{what} does not come\n{}", self.logs());
        found.unwrap()
    }

    /// What the containers wrote, for the message of a test that failed.
    fn logs(&self) -> String {
        let mut text = String::new();
        for name in [&self.web, &self.app, &self.cache, &self.db] {
            let out = self.t.rbox(["logs", "--tail", "15", name]);
            let _ = write!(text, "== {name}\n{}{}", out.stdout, out.stderr);
        }
        text
    }

    /// A container's address on a network.
    fn ip(&self, container: &str, network: &str) -> String {
        let all = self.t.inspect(container);
        all["NetworkSettings"]["Networks"][network]["IPAddress"].as_str().unwrap().to_owned()
    }

    /// Whether a TCP connection from inside a container comes about.
    fn reaches(&self, container: &str, host: &str, port: u16) -> bool {
        let script = format!("exec 3<>/dev/tcp/{host}/{port}");
        let seconds = patience(Duration::from_secs(2)).as_secs().to_string();
        self.t.rbox(["exec", container, "timeout", &seconds, "bash", "-c", &script]).code == 0
    }

    /// Whether a name leads to an address inside a container.
    fn resolves(&self, container: &str, name: &str) -> bool {
        self.t.rbox(["exec", container, "getent", "hosts", name]).code == 0
    }
}

/// Waits for both.
fn servers_ready(t: &Test, cache: &str, db: &str) {
    wait_until("redis answers", || t.rbox(["exec", cache, "redis-cli", "ping"]).stdout == "PONG\n");
    let ready =
        poll(Duration::from_secs(40), || t.rbox(["exec", db, "pg_isready", "-h", "127.0.0.1"]).code == 0);
    assert!(ready, "postgres does not answer: {}", t.rbox(["logs", db]).stderr);
}

/// On the network that every container gets: what the images do alone.
#[test]
fn servers_run_from_their_images() {
    let Some(t) = Test::start() else { return };
    let (cache, db, web) = (t.name("cache"), t.name("db"), t.name("web"));
    let volume = format!("{}:/var/lib/postgresql/data", t.name("rows"));
    t.ok(["run", "-d", "--name", &cache, REDIS]);
    t.ok(["run", "-d", "--name", &db, "-e", PASSWORD, "-v", &volume, POSTGRES]);
    t.ok(["run", "-d", "--name", &web, "-p", "127.0.0.1::80", NGINX]);
    servers_ready(&t, &cache, &db);
    let address = t.ok(["port", &web, "80"]);
    wait_until("nginx answers", || {
        TcpStream::connect(&address).is_ok_and(|mut stream| {
            let mut text = String::new();
            let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
            let _ = stream.read_to_string(&mut text);
            text.starts_with("HTTP/1.1 200 OK") && text.contains("Welcome to nginx")
        })
    });
    // The answer may be there before the line is.
    wait_until("a line in the log", || t.ok(["logs", &web]).contains("\"GET / HTTP/1.0\" 200"));
    // PostgreSQL's own processes are those of its user, and its rows outlive the container.
    assert_eq!(t.ok(["exec", &db, "stat", "-c", "%U", "/proc/1"]), "postgres");
    t.ok(["exec", &db, "psql", "-qU", "postgres", "-c", "CREATE TABLE kept AS SELECT 42 AS n"]);
    t.ok(["stop", &db]);
    t.ok(["rm", &db]);
    t.ok(["run", "-d", "--name", &db, "-v", &volume, POSTGRES]);
    servers_ready(&t, &cache, &db);
    assert_eq!(t.ok(["exec", &db, "psql", "-qAtU", "postgres", "-c", "SELECT n FROM kept"]), "42");
    // Each ends at the signal that its image names, and says so with 0.
    for name in [&cache, &db, &web] {
        t.ok(["stop", name]);
        assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}}", name]), "0", "{name}");
    }
}

#[test]
fn a_stack_on_two_networks_counts_visits_and_is_closed_where_it_should_be() {
    let Some(t) = Test::start() else { return };
    let stack = Stack::start(&t);
    let (first, second) = (stack.wait("a page"), stack.wait("another page"));
    for key in ["counted", "kept"] {
        assert_eq!(
            first[key].as_i64().unwrap() + 1,
            second[key].as_i64().unwrap(),
            "{key}: {first} {second}"
        );
    }
    assert_eq!(second["app"], stack.app_host.as_str());
    // The names of the back are no names at the front, nor are its addresses reached from there.
    let (cache, db) = (stack.ip(&stack.cache, &stack.back), stack.ip(&stack.db, &stack.back));
    for (name, address, port) in [("cache", &cache, 6379), ("db", &db, 5432)] {
        assert!(stack.resolves(&stack.app, name), "{name} from the application");
        assert!(stack.reaches(&stack.app, name, port), "{name} from the application");
        assert!(stack.reaches(&stack.app, address, port), "{name}'s address from the application");
        assert!(!stack.resolves(&stack.web, name), "{name} from the web server");
        assert!(!stack.reaches(&stack.web, address, port), "{name}'s address from the web server");
    }
    assert!(stack.resolves(&stack.web, "app") && stack.reaches(&stack.web, "app", 5000));
    let other = t.name("other");
    t.ok(["run", "-d", "--name", &other, FLASK, "sleep", "1000"]);
    assert!(!stack.reaches(&other, &db, 5432), "the database from a container on the default network");
    // The default network's containers do not reach the front either.
    let app = stack.ip(&stack.app, &stack.front);
    assert!(!stack.reaches(&other, &app, 5000), "the application from the default network");
}

#[test]
fn another_host_sees_the_published_port_only_and_the_back_sees_no_other_host() {
    let Some(t) = Test::start() else { return };
    let Some(peer) = Peer::new() else { return };
    let stack = Stack::start(&t);
    let port: u16 = stack.page.rsplit(':').next().unwrap().parse().unwrap();
    let url = format!("http://{}:{port}/", Peer::HERE);
    let answer: Value = serde_json::from_str(&peer.cmd(&["curl", "-fsm", "20", &url]).run().ok()).unwrap();
    assert_eq!(answer["client"], Peer::THERE.to_string(), "the client's address on its way to nginx");
    let (web, app) = (stack.ip(&stack.web, &stack.front), stack.ip(&stack.app, &stack.front));
    let (cache, db) = (stack.ip(&stack.cache, &stack.back), stack.ip(&stack.db, &stack.back));
    let app_back = stack.ip(&stack.app, &stack.back);
    let closed = [(&app, 5000), (&cache, 6379), (&db, 5432), (&app_back, 5000), (&web, 81)];
    for (address, port) in closed {
        assert!(
            !peer.reaches(address, port),
            "another host reaches {address}:{port}, which is not published"
        );
    }
    let _server = peer.listen(7777);
    let there = Peer::THERE.to_string();
    assert!(stack.reaches(&stack.web, &there, 7777), "the front has a way out");
    assert!(stack.reaches(&stack.app, &there, 7777), "the application has one by the front");
    assert!(!stack.reaches(&stack.db, &there, 7777), "the database has a way out");
    assert!(!stack.reaches(&stack.db, &Peer::HERE.to_string(), port), "and one to the host's other address");
}

#[test]
fn a_stack_follows_containers_that_move_by_their_names() {
    let Some(t) = Test::start() else { return };
    let stack = Stack::start(&t);
    let before = stack.wait("a page");
    for name in [&stack.cache, &stack.app] {
        t.ok(["restart", name]);
        stack.wait(&format!("the page after a restart of {name}"));
    }
    // A new one of each beside the old one, which therefore has another address; then the old one goes.
    let cache = t.name("cache2");
    stack.run_cache(&cache);
    assert_ne!(stack.ip(&cache, &stack.back), stack.ip(&stack.cache, &stack.back));
    wait_until("the new cache answers", || t.rbox(["exec", &cache, "redis-cli", "ping"]).stdout == "PONG\n");
    t.ok(["exec", &cache, "redis-cli", "set", "visits", "1000"]);
    t.ok(["rm", "-f", &stack.cache]);
    wait_until("the new cache counts", || {
        page(&stack.page).is_some_and(|page| page["counted"].as_i64().unwrap() > 1000)
    });
    let app = t.name("app2");
    let app_host = stack.run_app(&app);
    t.ok(["rm", "-f", &stack.app]);
    wait_until("the new application answers", || {
        page(&stack.page).is_some_and(|page| page["app"] == app_host.as_str())
    });
    // The database comes back from its volume, with all rows.
    let kept = stack.wait("a page")["kept"].as_i64().unwrap();
    assert!(kept > before["kept"].as_i64().unwrap());
    t.ok(["rm", "-f", &stack.db]);
    assert!(page(&stack.page).is_none(), "a page without a database");
    stack.run_db();
    assert_eq!(stack.wait("the page with the database of before")["kept"], kept + 1);
}

/// The order of the addresses that `name` has, asked again and again by a program that takes the first.
const FIRST_OF: &str = "
import socket, sys
for _ in range(40):
    print(socket.gethostbyname_ex(sys.argv[1])[2])
";

#[test]
fn two_containers_of_one_alias_take_turns() {
    let Some(t) = Test::start() else { return };
    let stack = Stack::start(&t);
    let second = t.name("app2");
    let second_host = stack.run_app(&second);
    let both = [stack.ip(&stack.app, &stack.front), stack.ip(&second, &stack.front)];
    let out = t.ok(["run", "--rm", "--network", &stack.front, FLASK, "python3", "-c", FIRST_OF, "app"]);
    for (one, other) in [(&both[0], &both[1]), (&both[1], &both[0])] {
        let line = format!("['{one}', '{other}']");
        assert!(out.lines().any(|l| l == line), "never {line}:\n{out}");
    }
    for host in [&stack.app_host, &second_host] {
        wait_until(&format!("{host} has served a page"), || {
            page(&stack.page).is_some_and(|page| page["app"] == host.as_str())
        });
    }
    // Who is gone is asked no more.
    t.ok(["stop", &second]);
    let out = t.ok(["run", "--rm", "--network", &stack.front, FLASK, "python3", "-c", FIRST_OF, "app"]);
    assert!(out.lines().all(|l| l == format!("['{}']", both[0])), "{out}");
}

#[test]
fn a_link_gives_a_name_to_the_linking_container_only() {
    let Some(t) = Test::start() else { return };
    let (network, cache) = (t.name("net"), t.name("cache"));
    t.ok(["network", "create", &network]);
    t.ok(["run", "-d", "--name", &cache, "--network", &network, REDIS]);
    let link = format!("{cache}:store");
    wait_until("redis answers", || t.rbox(["exec", &cache, "redis-cli", "ping"]).stdout == "PONG\n");
    let ask = ["redis-cli", "-h", "store", "ping"];
    let linked = t.cmd(["run", "--rm", "--network", &network, "--link", &link, REDIS]).args(&ask).run();
    assert_eq!(linked.ok(), "PONG");
    // Not only by the hosts file: busybox's nslookup reads none.
    t.ok(["run", "--rm", "--network", &network, "--link", &link, BUSYBOX, "nslookup", "store"]);
    let out = t.cmd(["run", "--rm", "--network", &network, REDIS]).args(&ask).run();
    assert!(out.code != 0, "the alias is known to a container without the link: {out:?}");
    // On the default network the name is in the hosts file.
    let plain = t.name("plain");
    t.ok(["run", "-d", "--name", &plain, REDIS]);
    let ip = t.ok(["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", &plain]);
    let hosts = t.ok(["run", "--rm", "--link", &format!("{plain}:store"), BUSYBOX, "cat", "/etc/hosts"]);
    let found = hosts.lines().find(|l| l.split_whitespace().any(|w| w == "store"));
    assert!(found.is_some_and(|l| l.starts_with(&format!("{ip}\t")) && l.contains(&plain)), "{hosts}");
}
