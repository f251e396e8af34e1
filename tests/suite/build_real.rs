//! `build` of what people build: the contexts of tests/contexts, with the images that programs of them run in.

use std::time::Duration;

use serde_json::Value;

use crate::build::Builds;
use crate::harness::{Output, Test, binary, has, project, skipped, wait_until};

/// The context `name` is a copy of that of tests/contexts from now on, so that it can be changed.
fn enter(t: &Test, b: &mut Builds, name: &str) {
    let from = project().join("tests/contexts").join(name);
    b.dir = b.own.dir.join(name);
    t.program("cp", ["-r", from.to_str().unwrap(), b.dir.to_str().unwrap()]).run().ok();
}

fn context(t: &Test, name: &str) -> Builds {
    let mut b = Builds::new(t);
    enter(t, &mut b, name);
    b
}

fn build(b: &Builds) -> Output {
    let context = b.dir.to_str().unwrap();
    b.own.cmd(&["build", "-t", "made", context]).limit(Duration::from_mins(5)).run().code(0)
}

/// The steps that were carried out, each from its stage's name on.
fn carried_out(said: &str) -> Vec<&str> {
    let steps = said.lines().filter_map(|line| line.split_once(' '));
    let cached: Vec<&str> = steps.clone().filter(|(_, rest)| *rest == "CACHED").map(|(n, _)| n).collect();
    let named = steps.filter(|(n, rest)| rest.starts_with('[') && !cached.contains(n));
    named.map(|(_, rest)| rest).filter(|rest| !rest.starts_with("[internal]")).collect()
}

fn config(b: &Builds) -> Value {
    let text = b.own.run(&["image", "inspect", "-f", "{{json .Config}}", "made"]).ok();
    serde_json::from_str(&text).unwrap()
}

fn becomes_healthy(b: &Builds, container: &str) {
    let state = || b.own.run(&["inspect", "-f", "{{.State.Health.Status}}", container]).ok();
    wait_until("it is healthy", || state() == "healthy");
}

/// A process that has the network of the machine: the nearest ancestor that has another one than this test, or else this one.
fn on_the_machine() -> u32 {
    let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let above = |pid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
    };
    let own = std::process::id();
    let ancestors = std::iter::successors(Some(own), |pid| above(*pid));
    let mut seen = ancestors.map_while(|pid| Some((pid, network(pid)?)));
    seen.find(|(_, of)| *of != network(own).unwrap_or_default()).map_or(own, |(pid, _)| pid)
}

/// The mirror that this machine installs from, if it is Debian's and there.
fn mirror(t: &Test) -> String {
    let helper = project().join("vm-test/debian");
    let said =
        t.program("bash", ["-c", ". \"$1\" && archive debian", "bash", helper.to_str().unwrap()]).run();
    if said.code == 0 { said.ok() } else { "http://deb.debian.org/debian".to_owned() }
}

/// With one store, as the image with the compilers is a large one.
#[test]
fn applications_that_stages_compile_and_install() {
    let Some(t) = Test::start() else { return };
    let mut b = Builds::new(&t);
    for (name, of) in [("python", python as fn(&Test, &Builds)), ("c", c), ("node", node)] {
        enter(&t, &mut b, name);
        of(&t, &b);
    }
    b.is_tidy();
}

/// Wheels are compiled in a stage of their own; the application has a user and a health check.
fn python(_: &Test, b: &Builds) {
    build(b);
    let is = config(b);
    assert_eq!((&is["User"], &is["WorkingDir"]), (&"app".into(), &"/app".into()));
    assert_eq!(is["Healthcheck"]["Interval"], 1_000_000_000);
    assert_eq!(is["Cmd"], serde_json::json!(["python3", "serve.py"]));
    // The compiler and the wheels stay in their stages; what is copied is the user's, as the image has its number.
    assert_eq!(
        b.sh("stat -c '%U %a %n' serve.py /opt/venv/greeter/__init__.py; ls -d /wheels /src /usr/bin/gcc 2>/dev/null; ls"),
        "app 644 serve.py\napp 644 /opt/venv/greeter/__init__.py\nserve.py"
    );
    b.own.run(&["run", "-d", "--name", "app", "made"]).ok();
    becomes_healthy(b, "app");
    let page =
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000').read().decode().strip())";
    assert_eq!(b.own.run(&["exec", "app", "python3", "-c", page]).ok(), "hello 5050 1001");
    b.own.run(&["rm", "-f", "app"]).ok();
    assert_eq!(carried_out(&build(b).stderr), [""; 0]);
    // One line of the application is one COPY; one of a library is its wheel, and what is installed of it.
    let serve = b.dir.join("app/serve.py");
    let text = std::fs::read_to_string(&serve).unwrap().replace("(100)", "(10)");
    std::fs::write(serve, text).unwrap();
    let said = build(b).stderr;
    assert_eq!(carried_out(&said), ["[stage-2 5/5] COPY --chown=app:app app/ ./"]);
    assert!(said.contains(" not cached: app/serve.py changed\n"), "{said}");
    b.file("pure/greeter/__init__.py", "def greet(): return 'good day'");
    let said = build(b).stderr;
    let steps = carried_out(&said);
    let of = |what: &str| steps.iter().filter(|step| step.contains(what)).count();
    assert_eq!((of("[wheels "), of("pip3 install"), of("groupadd"), steps.len()), (2, 1, 0, 5), "{said}");
    assert_eq!(b.sh("python3 -c 'import greeter; print(greeter.greet())'"), "good day");
}

/// Its objects are in a cache.
fn c(t: &Test, b: &Builds) {
    let compiled = |said: &str| -> Vec<String> {
        let lines = said.lines().filter_map(|line| line.split_once(" compiling ").map(|(_, file)| file));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(compiled(&build(b).stderr), ["main.c", "word.c"]);
    let run = || b.own.run(&["run", "--rm", "--network", "none", "made"]).ok();
    assert_eq!(run(), "compiled");
    let tar = b.own.dir.join("files.tar");
    b.own.run(&["create", "--name", "files", "made"]).ok();
    b.own.run(&["export", "-o", tar.to_str().unwrap(), "files"]).ok();
    b.own.run(&["rm", "files"]).ok();
    let files = t.program("tar", ["-tf", tar.to_str().unwrap()]).run().ok();
    assert!(files.lines().any(|file| file == "greet") && !files.contains("gcc"), "{files}");
    assert_eq!(b.own.run(&["image", "inspect", "-f", "{{len .RootFS.Layers}}", "made"]).ok(), "1");
    // The step is carried out again, and finds the other object where it was.
    b.file("word.c", "const char *word(void) { return \"compiled again\"; }");
    let said = build(b).stderr;
    assert_eq!(compiled(&said), ["word.c"]);
    assert!(said.contains(" not cached: word.c changed\n"), "{said}");
    assert_eq!(run(), "compiled again");
}

/// Its packages are installed for package.json alone.
fn node(_: &Test, b: &Builds) {
    // .dockerignore keeps them out of `COPY . .`.
    b.file("node_modules/left-part/index.js", "throw 'not this one'");
    build(b);
    assert_eq!(b.sh("ls; ls node_modules"), "dist\nnode_modules\npackage.json\nleft-part");
    b.own.run(&["run", "-d", "--name", "app", "made"]).ok();
    let ask =
        "fetch('http://127.0.0.1:3000').then(page => page.text()).then(text => console.log(text.trim()))";
    let asked = || b.own.run(&["exec", "app", "node", "-e", ask]);
    wait_until("it answers", || asked().code == 0);
    assert_eq!(asked().ok(), "hello production 1000");
    b.own.run(&["rm", "-f", "app"]).ok();
    // Its packages are installed anew for package.json alone.
    b.file("src/server.js", "console.log('another one')");
    let said = build(b).stderr;
    assert!(carried_out(&said).iter().all(|step| !step.contains("npm install")), "{said}");
    let text = std::fs::read_to_string(b.dir.join("package.json")).unwrap().replace("1.0.0", "1.0.1");
    b.file("package.json", &text);
    let said = build(b).stderr;
    assert!(carried_out(&said).iter().any(|step| step.contains("npm install")), "{said}");
    assert_eq!(b.own.run(&["run", "--rm", "--network", "none", "made"]).ok(), "another one");
}

#[test]
fn postgres_with_scripts_for_its_first_start() {
    let Some(t) = Test::start() else { return };
    let b = context(&t, "postgres");
    build(&b);
    b.own.run(&["run", "-d", "--name", "db", "-e", "POSTGRES_PASSWORD=x", "made"]).ok();
    becomes_healthy(&b, "db");
    let query = "SELECT id, what FROM items ORDER BY id";
    let rows = b.own.run(&["exec", "db", "psql", "-U", "postgres", "-d", "shop", "-qAtc", query]).ok();
    assert_eq!(rows, "1|from sql\n2|from a script");
    b.own.run(&["rm", "-fv", "db"]).ok();
    b.is_tidy();
}

/// On the network of the machine itself (`tests/own_host` has none that leads anywhere), if a mirror is reached from there.
#[test]
fn a_package_of_the_distributions_mirror() {
    let Some(t) = Test::start() else { return };
    if !has("nsenter") || !has("curl") {
        return skipped("a build with apt-get: no nsenter or no curl");
    }
    let there = on_the_machine().to_string();
    let machine = ["-t", &there, "-m", "-n", "--"];
    let mirror = mirror(&t);
    let release = format!("{mirror}/dists/bookworm/Release");
    let ask = ["curl", "-sfIL", "--retry", "3", "--max-time", "60", "-o", "/dev/null", &release];
    let b = context(&t, "apt");
    if b.own.other("nsenter", &[&machine[..], &ask].concat()).limit(Duration::from_mins(5)).run().code != 0 {
        return skipped("a build with apt-get: no mirror of Debian is reached");
    }
    // The tests' registry is not on that network, so the base is here before.
    b.own.run(&["pull", "-q", "debian:bookworm-slim"]).ok();
    let rbox = binary();
    let arg = format!("MIRROR={mirror}");
    let words =
        [rbox.to_str().unwrap(), "build", "--network=host", "--allow=network.host", "--build-arg", &arg];
    let context = ["-t", "made", b.dir.to_str().unwrap()];
    b.own
        .other("nsenter", &[&machine[..], &words, &context].concat())
        .limit(Duration::from_mins(5))
        .run()
        .ok();
    let version = b.own.run(&["run", "--rm", "--network", "none", "made"]).ok();
    assert!(version.starts_with("tree v"), "{version}");
    assert_eq!(b.sh("dpkg-query -W -f '${Status}' tree; ls /var/lib/apt/lists"), "install ok installed");
    b.is_tidy();
}
