//! `rbox ns`, `rbox cgroup` and `rbox fs`: what the kernel has of a container, beside what they say.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{BUSYBOX, OwnRoots, PYTHON, Test, wait_until};

/// The number of one of a process's namespaces, from the kernel.
fn inode(pid: i32, kind: &str) -> u64 {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    link.to_str().unwrap().split(['[', ']']).nth(1).unwrap().parse().unwrap()
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A diagram is XML, and says what it is of.
fn is_diagram(t: &Test, svg: &str, words: &[&str]) {
    let file = t.dir("drawn").join("d.svg");
    fs::write(&file, svg).unwrap();
    let parse = "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])";
    let parsed = std::process::Command::new("python3").args(["-c", parse]).arg(&file).status().unwrap();
    assert!(parsed.success(), "{svg}");
    for word in words {
        assert!(svg.contains(word), "no {word:?} in {svg}");
    }
}

#[test]
fn namespaces_are_those_of_the_kernel() {
    let Some(t) = Test::start() else { return };
    let (web, side) = (t.name("web"), t.name("side"));
    t.sleeper(&web, ["--privileged"]);
    t.sleeper(&side, ["--network", &format!("container:{web}"), "--uts", "host"]);
    t.ok(["exec", "-d", &web, "unshare", "-u", "sleep", "1000"]);
    let both = || rows(&t.ok(["ns", "--format", "json", &web, &side]));
    wait_until("the third process is in a namespace of its own", || both().len() == 4);
    let all = both();
    let names: Vec<&str> = all.iter().map(|row| row["Name"].as_str().unwrap()).collect();
    assert_eq!(names, ["host", &web, &web, &side]);
    let (pid, other) = (t.pid(&web), t.pid(&side));
    for (kind, row, of) in
        [("net", &all[1], pid), ("mnt", &all[1], pid), ("pid", &all[3], other), ("user", &all[1], pid)]
    {
        assert_eq!(row["Namespaces"][kind]["Inode"], inode(of, kind), "{kind}");
    }
    assert_eq!(all[3]["Net"], format!("={web}"));
    assert_eq!(all[3]["Namespaces"]["net"]["SharedWith"], json!([web, web]));
    assert_eq!((&all[3]["Uts"], &all[1]["User"]), (&json!("host"), &json!("host")));
    assert_eq!((&all[2]["Net"], &all[2]["Command"]), (&json!(format!("={web}")), &json!("sleep 1000")));
    assert_ne!(all[2]["Uts"], all[1]["Uts"]);
    let table = t.ok(["ns", &web]);
    assert!(table.starts_with("NAME ") && table.contains(&inode(pid, "net").to_string()), "{table}");
    is_diagram(&t, &t.ok(["ns", "--svg", "-", &web, &side]), &["net, ", &format!("PID {pid}: sh -c")]);
    t.ok(["stop", "-t", "0", &side]);
    t.rbox(["ns", &side]).refused(1, &[&side, "is not running", "rbox start"]);
    t.rbox(["ns", "no-such"]).refused(1, &["no-such"]);
    t.rbox(["ns", "--svg", "/no/such/dir/f", &web]).refused(1, &["/no/such/dir/f", "No such file"]);
}

#[test]
fn groups_say_what_is_used_and_what_was_held_back() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let limits = ["-m", "64m", "--memory-swap", "64m", "--cpus", "0.2", "--pids-limit", "50"];
    let burn = "import time\nwhile True: pass";
    let run = [&["run", "-d", "--name", &name][..], &limits, &[PYTHON, "python3", "-c", burn]].concat();
    t.cmd(run).run().ok();
    let hog = "b = bytearray(200 << 20)";
    t.rbox(["exec", &name, "python3", "-c", hog]).code(137);
    let read = || -> Value { serde_json::from_str(&t.ok(["cgroup", "--format", "json", &name])).unwrap() };
    wait_until("it was held back", || read()["Cpu"]["ThrottledPeriods"].as_u64() > Some(0));
    let all = read();
    assert_eq!((&all["Memory"]["Limit"], &all["Pids"]["Limit"]), (&json!(64 << 20), &json!(50)));
    assert_eq!(all["Memory"]["OomKills"], 1, "{all}");
    assert_eq!((&all["Cpu"]["QuotaUsec"], &all["Cpu"]["PeriodUsec"]), (&json!(20000), &json!(100_000)));
    let cpus = all["Cpu"]["Cpus"].as_f64().unwrap();
    assert!((0.02..0.6).contains(&cpus), "{cpus}");
    let group = all["Groups"][0].as_str().unwrap();
    assert!(fs::read_to_string(format!("{group}/cgroup.procs")).unwrap().contains(&t.pid(&name).to_string()));
    let text = t.ok(["cgroup", &name]);
    for words in
        ["of 64MiB", "1 process was killed (OOM)", "of 0.20 CPUs", "held back in", "of 50 processes", "█"]
    {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    assert_eq!(t.ok(["cgroup", "--format", "{{.Memory.OomKills}}", &name]), "1");
    is_diagram(&t, &t.ok(["cgroup", "--svg", "-", &name]), &["of 64MiB", "held back in"]);
    let watching = t.cmd(["cgroup", "--watch", &name]).spawn();
    std::thread::sleep(Duration::from_millis(3500));
    watching.signal("INT");
    let seen = watching.finish(Duration::from_secs(10)).stdout;
    assert!(seen.matches("of 64MiB").count() >= 2, "{seen}");
    t.rbox(["cgroup", "--format", "svg", &name]).refused(125, &["svg", "--format"]);
    // Without limits there is no bar.
    let free = t.name("free");
    t.sleeper(&free, []);
    let text = t.ok(["cgroup", &free]);
    assert!(text.contains("no limit") && !text.contains('█'), "{text}");
}

#[test]
fn files_come_from_the_layers_that_have_them() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let dir = t.dir("context");
    fs::write(dir.join("file"), "one").unwrap();
    let text = format!(
        "FROM {BUSYBOX}\nCOPY file /srv/\nRUN echo two >> /srv/file && mkdir /d && ln -s srv /link\n"
    );
    fs::write(dir.join("Dockerfile"), text).unwrap();
    own.run(&["build", "-q", "--network", "none", "-t", "app", dir.to_str().unwrap()]).ok();
    let script = "echo three >> /srv/file; rm -r /d; echo x > /new; touch /ready; sleep 1000";
    own.run(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "web",
        "-v",
        "data:/data",
        "app",
        "sh",
        "-c",
        script,
    ])
    .ok();
    wait_until("it has written", || own.run(&["exec", "web", "test", "-e", "/ready"]).code == 0);
    let json = |args: &[&str]| -> Value {
        let all = [&["fs", "--format", "json"][..], args].concat();
        serde_json::from_str(&own.run(&all).ok()).unwrap()
    };
    let whole = json(&["web"]);
    let names: Vec<&str> =
        whole["Layers"].as_array().unwrap().iter().map(|one| one["Name"].as_str().unwrap()).collect();
    assert_eq!((names[0], *names.last().unwrap()), ("upper", "base"), "{names:?}");
    let inspected: Value = serde_json::from_str(&own.run(&["image", "inspect", "app"]).ok()).unwrap();
    let mut diff_ids: Vec<&Value> = inspected[0]["RootFS"]["Layers"].as_array().unwrap().iter().collect();
    diff_ids.reverse();
    let layers = whole["Layers"].as_array().unwrap();
    let of_image: Vec<&Value> = layers[1..layers.len() - 1].iter().map(|one| &one["DiffID"]).collect();
    assert_eq!(of_image, diff_ids);
    assert!(layers[1]["CreatedBy"].as_str().unwrap().contains("echo two"), "{}", layers[1]);
    let changed = |path: &str| {
        let change = whole["Changes"].as_array().unwrap().iter().find(|one| one["Path"] == path);
        change.map(|one| (one["Kind"].clone(), one["From"].clone()))
    };
    assert_eq!(changed("/srv/file"), Some((json!("C"), json!(names[1]))));
    assert_eq!(changed("/d"), Some((json!("D"), json!(names[1]))));
    assert_eq!(changed("/new"), Some((json!("A"), Value::Null)));
    // By a link, and in all three; what is seen is what the container reads.
    let file = json(&["web", "/link/file"]);
    assert_eq!(file["Path"], "/srv/file");
    let places = file["Places"].as_array().unwrap();
    let seen: Vec<bool> = places.iter().map(|place| place["Seen"].as_bool().unwrap()).collect();
    assert_eq!(seen, [true, false, false]);
    assert_eq!(own.run(&["exec", "web", "cat", "/srv/file"]).ok(), "onetwo\nthree");
    assert_eq!(places[0]["Size"], "onetwo\nthree\n".len());
    assert_eq!(json(&["web", "/d"])["Places"][0]["Type"], "whiteout");
    assert_eq!(json(&["web", "/data/x"])["MountedOver"]["At"], "/data");
    let text = own.run(&["fs", "web"]).ok();
    for line in ["C /srv/file  copied up from ", "D /d  a whiteout hides it in ", "A /new"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let text = own.run(&["fs", "web", "/srv/file"]).ok();
    assert!(text.contains("seen: copied up") && text.contains("COPY file /srv/"), "{text}");
    is_diagram(&t, &own.run(&["fs", "--svg", "-", "web"]).ok(), &["upper", "base", "copied up from"]);
    own.run(&["fs", "web", "/no/such"]).refused(1, &["no layer of container web has /no/such"]);
    own.run(&["fs", "none"]).refused(1, &["No such container"]);
    own.run(&["rm", "-f", "-v", "web"]).ok();
}

#[test]
fn processes_of_all_containers_and_who_made_whom() {
    let Some(t) = Test::start() else { return };
    let (one, two, gone) = (t.name("a"), t.name("b"), t.name("c"));
    let script = "(sleep 1001 & exec sleep 1002) & exec sleep 1003";
    t.ok(["run", "-d", "--name", &one, BUSYBOX, "sh", "-c", script]);
    t.ok(["run", "-d", "--name", &two, BUSYBOX, "sleep", "1004"]);
    t.ok(["exec", "-d", &one, "sleep", "1005"]);
    let fields = |args: &[&str]| {
        let format = "{{.Name}} {{.Inside}} {{.ParentInside}} {{.Tree}}";
        let out = t.cmd([&["pid", "--format", format], args].concat()).run().ok();
        out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    wait_until("all five are there", || {
        let lines = fields(&[]);
        let ours = lines.iter().filter(|line| line.contains(" sleep 100")).count();
        ours == 5
    });
    let shown = fields(&["--tree", &one]);
    let command = |line: &String| line.splitn(4, ' ').nth(3).unwrap().to_owned();
    let tree: Vec<String> = shown.iter().map(command).collect();
    assert_eq!(tree[..3], ["sleep 1003", "└─ sleep 1002", "   └─ sleep 1001"], "{shown:?}");
    // What exec starts has its parent outside.
    assert_eq!(tree[3..], ["sleep 1005"], "{shown:?}");
    // By name, and each container by its own numbers; as many as are named, each once.
    let all = fields(&[&two, &one, &two]);
    assert_eq!(all.len(), 5);
    assert!(
        all[0].starts_with(&format!("{two} 1 0 ")) && all[1].starts_with(&format!("{one} 1 0 ")),
        "{all:?}"
    );
    let table = t.ok(["pid"]);
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["NAME", "PID", "HOST", "PID", "PPID", "UID", "THREADS", "COMMAND"]);
    assert_eq!(t.ok(["pid", "-q", &one, &two]), format!("{}\n{}", t.pid(&one), t.pid(&two)));
    t.ok(["create", "--name", &gone, BUSYBOX, "true"]);
    t.rbox(["pid", &one, &gone]).refused(1, &["is not running"]);
    t.rbox(["pid", &one, "no-such"]).refused(1, &["no such container: no-such"]);
    t.ok(["rm", "-f", &one, &two, &gone]);
}
