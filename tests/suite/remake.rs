//! `inspect --create-command`: the line that makes a container again.

use serde_json::Value;

use crate::harness::{BUSYBOX, PYTHON, Test, wait_until};

/// What there is to compare of two containers of one name: without ids, times and what of both is the host's to choose.
fn comparable(t: &Test, name: &str) -> String {
    let shown = t.inspect(name);
    let (id, config) = (shown["Id"].as_str().unwrap(), &shown["Config"]);
    let mut mounts: Vec<Value> = shown["Mounts"].as_array().unwrap().clone();
    for mount in &mut mounts {
        // An anonymous volume is a new one.
        if mount["Name"].as_str().is_some_and(|name| name.len() == 64) {
            mount["Name"] = "anonymous".into();
            mount["Source"] = "anonymous".into();
        }
    }
    let networks: Vec<String> = shown["NetworkSettings"]["Networks"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, one)| format!("{name} {} {} {}", one["IPAMConfig"], one["Aliases"], one["GwPriority"]))
        .collect();
    let mut host = shown["HostConfig"].clone();
    host["ContainerIDFile"] = "".into();
    let all = serde_json::json!([
        shown["Name"],
        shown["Path"],
        shown["Args"],
        shown["Image"],
        config,
        host,
        mounts,
        networks
    ]);
    serde_json::to_string_pretty(&all).unwrap().replace(id, "ID").replace(&id[..12], "ID")
}

/// The line as a shell has it.
fn run_line(t: &Test, line: &str) -> crate::harness::Output {
    let binary = crate::harness::binary().display().to_string();
    t.program("sh", ["-c", &format!("rbox() {{ \"$RBOX_UNDER_TEST\" \"$@\"; }}\n{line}")])
        .env("RBOX_UNDER_TEST", &binary)
        .run()
}

/// Makes a container, makes it again by its line, and compares. Its line.
fn remade(t: &Test, words: &[&str], name: &str) -> String {
    t.cmd(words.iter().copied()).run().code(0);
    let before = comparable(t, name);
    let line = t.ok(["inspect", "--create-command", name]);
    t.ok(["rm", "-f", "-v", name]);
    run_line(t, &line).code(0);
    assert_eq!(comparable(t, name), before, "{line}");
    assert_eq!(t.ok(["inspect", "--create-command", name]), line);
    t.ok(["rm", "-f", "-v", name]);
    line
}

/// docker/cli#1213.
#[test]
fn what_the_process_is() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let plain = remade(&t, &["create", "--name", &name, BUSYBOX], &name);
    assert_eq!(plain, format!("rbox create --name {name} {BUSYBOX}"));
    let ended = remade(&t, &["run", "--name", &name, BUSYBOX, "true"], &name);
    assert_eq!(ended, format!("rbox run --name {name} {BUSYBOX} true"));
    let words = [
        "run",
        "-d",
        "-i",
        "--name",
        &name,
        "-h",
        "box",
        "--domainname",
        "example.org",
        "-u",
        "1000:1000",
        "-w",
        "/tmp/a b",
        "-e",
        "PATH=/bin",
        "-e",
        "WORDS=it's \"two\nlines\" $HOME `x` \\ !",
        "-e",
        "EMPTY=",
        "-l",
        "a.b=c d",
        "-l",
        "empty",
        "--stop-signal",
        "INT",
        "--stop-timeout",
        "-1",
        "--umask",
        "0077",
        "--entrypoint",
        "sh",
        "--health-cmd",
        "test -e '/x y'",
        "--health-interval",
        "1m30s",
        "--health-timeout",
        "1500ms",
        "--health-start-period",
        "2s",
        "--health-start-interval",
        "250ms",
        "--health-retries",
        "7",
        "--health-on-failure",
        "stop",
        BUSYBOX,
        "-c",
        "sleep 1000; echo 'done'",
    ];
    let line = remade(&t, &words, &name);
    assert!(line.starts_with(&format!("rbox run --detach --name {name} --interactive ")), "{line}");
    for words in [
        &["create", "--name", &name, "-t", "-a", "stdout", "--entrypoint", "", PYTHON, "python3", "-V"][..],
        &["create", "--name", &name, "--no-healthcheck", "--entrypoint", "/bin/ls", PYTHON],
        &["create", "--name", &name, "--platform", "linux/amd64", PYTHON, "--", "-x", ""],
    ] {
        if words.contains(&"linux/amd64") && std::env::consts::ARCH != "x86_64" {
            continue;
        }
        remade(&t, words, &name);
    }
}

#[test]
fn what_it_gets_from_the_host() {
    let Some(t) = Test::start() else { return };
    let (name, other, volume, net) = (t.name("c"), t.name("other"), t.name("vol"), t.name("net"));
    let dir = t.dir("a,b \"c\"");
    std::fs::create_dir_all(&dir).unwrap();
    let profile = t.dir("seccomp").with_extension("json");
    let text = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\"],\"action\":\"SCMP_ACT_ERRNO\"}]}";
    std::fs::write(&profile, text).unwrap();
    let seccomp = format!("seccomp={}", profile.display());
    let bind = format!("{}:/bind:ro,rslave", t.dir("plain").display());
    std::fs::create_dir_all(t.dir("plain")).unwrap();
    let field = format!("\"source={}\"", dir.display().to_string().replace('"', "\"\""));
    let mount =
        format!("type=bind,{field},target=/m,readonly,bind-recursive=writable,bind-propagation=rprivate");
    let of_volume = format!("type=volume,source={volume},target=/v,volume-nocopy,volume-label=k=v");
    t.ok(["network", "create", "--subnet", "172.29.77.0/24", &net]);
    t.sleeper(&other, ["--ipc", "shareable", "-v", "/shared", "--network", &net]);
    let network = format!("name={net},alias=one,alias=two,ip=172.29.77.9,gw-priority=3");
    let (shares, link) = (format!("container:{other}"), format!("{other}:db"));
    let again = |flags: &str| {
        // A tilde is a space within a word.
        let flags: Vec<String> = flags.split_whitespace().map(|word| word.replace('~', " ")).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        remade(&t, &[&["create", "--name", &name], &flags[..], &[BUSYBOX, "true"]].concat(), &name);
    };
    let mount = mount.replace(' ', "~");
    again(&format!(
        "-v {bind} -v /anonymous --mount {mount} --mount {of_volume} --mount type=volume,target=/w \
         --mount type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700 --tmpfs /u:ro,exec,size=64k --tmpfs /p \
         --volumes-from {other} --network {network} --network bridge --link {link} -p 127.0.0.1::80 \
         -p 9300-9310:81/udp -p 82 -P --expose 90-91 --add-host x:10.0.0.1 --dns 10.0.0.2 --dns-search a.b \
         --dns-option ndots:2 --pid {shares} --ipc {shares} --cgroupns host --userns host --read-only --shm-size 5m"
    ));
    again(&format!(
        "-m 64m --memory-swap -1 --memory-reservation 32m --cpus 0.125 -c 512 --cpuset-cpus 0 --cpuset-mems 0 \
         --pids-limit -1 --device /dev/null:/dev/nil:r --device /dev/zero --device-cgroup-rule c~42:*~rmw \
         --cap-add NET_RAW --cap-drop CHOWN --group-add 7 --security-opt {seccomp} \
         --security-opt no-new-privileges --security-opt systempaths=unconfined --ulimit nofile=10:20 \
         --ulimit core=-1 --sysctl net.ipv4.ip_forward=1 --oom-score-adj -5 --restart on-failure:3 --timeout 77 \
         --init --log-driver local --log-opt max-size=1m --annotation a=b=c --network none --uts host --ipc none"
    ));
    again("--privileged --network host --pid host --ipc host");
    again(&format!("--network {shares} --ipc shareable"));
    again("--uidmap 0:700000:1000 --uidmap 1000:5 --gidmap 0:800000:2000 --network none");
    again("--rm --security-opt seccomp=unconfined --log-driver none --cpu-period 50000 --cpu-quota 25000");
    t.ok(["rm", "-f", "-v", &other]);
    t.ok(["volume", "rm", &volume]);
    t.ok(["network", "rm", &net]);
}

/// However it came to what it is: changed since, or by an image whose name leads elsewhere by now.
#[test]
fn what_was_changed_since() {
    let Some(t) = Test::start() else { return };
    let (name, image) = (t.name("c"), t.name("image"));
    t.ok(["tag", BUSYBOX, &image]);
    let id = t.ok(["create", "--name", &t.name("before"), &image, "true"]);
    t.ok(["rename", &id, &name]);
    t.ok(["update", "-m", "32m", "--memory-swap", "64m", "--restart", "always", &name]);
    let line = t.ok(["inspect", "--create-command", &name]);
    assert_eq!(
        line,
        format!(
            "rbox create --name {name} --memory 33554432 --memory-swap 67108864 --restart always {image} true"
        )
    );
    t.ok(["tag", PYTHON, &image]);
    let of_image = t.ok(["inspect", "-f", "{{.Image}}", &name]);
    let line = t.ok(["inspect", "--create-command", &name]);
    assert!(line.ends_with(&format!(" --restart always {of_image} true")), "{line}");
    assert_eq!(
        t.ok(["inspect", "--create-command", "-f", "{{index .Config.CreateCommand 1}} {{.Name}}", &name]),
        format!("create /{name}")
    );
    let json: Value =
        serde_json::from_str(&t.ok(["inspect", "--create-command", "-f", "json", &name])).unwrap();
    assert_eq!(json[0]["Config"]["CreateCommand"][0], "rbox");
    assert_eq!(t.inspect(&name)["Config"]["CreateCommand"], Value::Null);
    t.rbox(["inspect", "--create-command", "--type", "image", BUSYBOX])
        .refused(125, &["--create-command", "containers"]);
    t.rbox(["inspect", "--create-command", "no-such"]).refused(1, &["No such container: no-such"]);
    t.ok(["rm", &name]);
    t.ok(["rmi", &image]);
}

/// One that Compose has made: a check in words, the volumes of another, and files, which no line can give again.
#[test]
fn what_compose_has_made() {
    let Some(t) = Test::start() else { return };
    let (project, dir) = (t.name("p"), t.dir("p"));
    std::fs::create_dir_all(&dir).unwrap();
    let file = format!(
        "services:\n  db:\n    image: {BUSYBOX}\n    command: sleep 1000\n    volumes: [/data]\n    healthcheck: {{test: [CMD, test, 'a b', =, 'a b'], interval: 5s}}\n    configs: [{{source: c, target: /etc/cf}}]\n  side:\n    image: {BUSYBOX}\n    command: sleep 1000\n    volumes_from: [db:ro]\nconfigs: {{c: {{content: x}}}}\n"
    );
    std::fs::write(dir.join("compose.yaml"), file).unwrap();
    let compose = |words: &[&str]| {
        let file = dir.join("compose.yaml").display().to_string();
        t.cmd([&["compose", "-p", &project, "-f", &file], words].concat()).run().code(0);
    };
    compose(&["up", "-d"]);
    let (db, side) = (format!("{project}-db-1"), format!("{project}-side-1"));
    let out = t.rbox(["inspect", "--create-command", &db]).code(0);
    let quoted = "--health-cmd 'test '\\''a b'\\'' '\\''='\\'' '\\''a b'\\'''";
    assert!(out.stdout.contains(quoted), "{}", out.stdout);
    assert!(out.stderr.contains("does not give it /etc/cf"), "{}", out.stderr);
    let of_side = t.ok(["inspect", "--create-command", &side]);
    assert!(of_side.contains(&format!("--volumes-from {db}:ro")), "{of_side}");
    for (name, line) in [(&db, out.stdout.trim()), (&side, &of_side)] {
        t.ok(["rm", "-f", name]);
        run_line(&t, line).code(0);
    }
    wait_until("its check is run", || t.ok(["ps", "-q", "--filter", "health=healthy"]).lines().count() == 1);
    compose(&["down", "-v", "-t", "0"]);
}
