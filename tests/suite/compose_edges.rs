//! Projects beside others: networks that somebody else uses, what of networks and limits reaches containers, and one `watch` of a project.

use std::fs;
use std::time::Duration;

use crate::harness::{Project, Test, Tmux, binary, has, patience, wait_until};

/// Ends at once when it is asked to.
const OBEYS: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

fn file(more: &str) -> String {
    format!("services:\n  web:\n    image: busybox\n    command: [sh, -c, \"{OBEYS}\"]\n{more}")
}

/// A network that a container outside of the project is on stays, the rest goes, and the next `down` takes it. Docker Compose says and
/// does the same.
#[test]
fn a_network_that_somebody_else_uses_stays() {
    let Some(t) = Test::start() else { return };
    let more =
        "    networks: [default, own]\n    volumes: [data:/data]\nnetworks: {own: }\nvolumes: {data: }\n";
    let project = Project::new(&t, &file(more));
    project.done(&["up", "-d"]);
    let (used, own) = (format!("{}_default", project.name), format!("{}_own", project.name));
    let guest = t.name("guest");
    t.sleeper(&guest, ["--network", &used]);
    let told = project.done(&["down", "-v"]);
    let line = |what: &str, word: &str| format!(" {what}  {word}\n");
    for line in [
        line(&format!("Container {}", project.container("web")), "Removed"),
        line(&format!("Network {used}"), "Removing"),
        line(&format!("Network {used}"), "Resource is still in use"),
        line(&format!("Network {own}"), "Removed"),
        line(&format!("Volume {}_data", project.name), "Removed"),
    ] {
        assert!(told.contains(&line), "{line:?} is missing in\n{told}");
    }
    assert!(!told.contains(&line(&format!("Network {used}"), "Removed")), "{told}");
    let is_there =
        |name: &str| t.ok(["network", "ls", "--format", "{{.Name}}"]).lines().any(|line| line == name);
    assert!(is_there(&used) && !is_there(&own));
    assert_eq!(project.names(), [""; 0]);
    // What joined it goes on, and so does the project when it comes up again.
    t.ok(["exec", &guest, "true"]);
    project.done(&["up", "-d"]);
    project.done(&["down", "-v"]);
    assert!(is_there(&used));
    t.ok(["rm", "-f", &guest]);
    let told = project.done(&["down"]);
    assert!(told.contains(&line(&format!("Network {used}"), "Removed")), "{told}");
    assert!(!is_there(&used));
}

/// What a service wants of its networks and of block devices reaches its container.
#[test]
fn links_and_weights_are_as_the_files_say() {
    let Some(t) = Test::start() else { return };
    let more = "    networks:
      default:
        interface_name: inner
        link_local_ips: [169.254.8.8, 169.254.8.9]
        driver_opts: {com.docker.network.endpoint.sysctls: net.ipv4.conf.IFNAME.forwarding=1}
";
    let project = Project::new(&t, &file(more));
    project.run(&["up", "-d"]).code(0);
    let web = project.container("web");
    let inside = t.ok(["exec", &web, "ip", "-4", "addr", "show", "inner"]);
    assert!(inside.contains("169.254.8.8") && inside.contains("169.254.8.9"), "{inside}");
    assert_eq!(t.ok(["exec", &web, "cat", "/proc/sys/net/ipv4/conf/inner/forwarding"]), "1");
    project.done(&["down"]);
    // Which devices a host has is its own business: this container is not started.
    let more = "    blkio_config: {weight: 300, weight_device: [{path: /dev/vda, weight: 400}]}\n";
    project.write("compose.yaml", &file(more));
    project.done(&["create"]);
    let shown = project.inspect("web");
    assert_eq!(shown["HostConfig"]["BlkioWeight"], 300);
    let weight = serde_json::json!([{"Path": "/dev/vda", "Weight": 400}]);
    assert_eq!(shown["HostConfig"]["BlkioWeightDevice"], weight);
    project.done(&["down"]);
}

/// Two of them would both build, and bring in the same files: a second one is refused, as by Docker Compose, and what killed the first
/// one does not matter.
#[test]
fn a_project_is_watched_by_one_command() {
    let Some(t) = Test::start() else { return };
    let more = "    develop: {watch: [{action: sync, path: src, target: /app, initial_sync: true}]}\n";
    let project = Project::new(&t, &file(more));
    fs::create_dir_all(project.dir.join("src")).unwrap();
    let begin = |name: &str| {
        fs::write(project.dir.join("src").join(name), "x").unwrap();
        let watch = project.cmd(&["watch"]).spawn();
        let path = format!("/app/{name}");
        let there = || t.rbox(["exec", &project.container("web"), "test", "-e", &path]).code == 0;
        wait_until("it watches", there);
        watch
    };
    let first = begin("first");
    let name = &project.name;
    let why = format!(
        "cannot take exclusive lock for project {name:?}: process with PID {} is still running",
        first.id()
    );
    for words in [vec!["watch"], vec!["watch", "--no-up"]] {
        project.run(&words).refused(1, &[&why]);
    }
    // Others are in nobody's way.
    project.done(&["up", "-d"]);
    first.signal("KILL");
    first.finish(patience(Duration::from_secs(10)));
    let second = begin("second");
    second.signal("TERM");
    second.finish(patience(Duration::from_secs(10)));
    project.done(&["down"]);
}

/// `up` on a terminal tells its keys in the last line, below what services write: `w` watches and ends that, `d` leaves all running.
#[test]
fn an_up_on_a_terminal_has_keys() {
    if !has("tmux") {
        return;
    }
    let Some(t) = Test::start() else { return };
    let more = "    develop: {watch: [{action: sync, path: src, target: /app}]}\n  count:
    image: busybox
    command: [sh, -c, 'i=0; while [ $$i -lt 60 ]; do i=$$((i+1)); echo number $$i; done; sleep 100000']
    stop_signal: KILL\n";
    let project = Project::new(&t, &file(more));
    fs::create_dir_all(project.dir.join("src")).unwrap();
    let compose = project.dir.join("compose.yaml");
    // The shell outlives Ctrl-C, to say how `up` has ended.
    let line = format!(
        "--version; trap : INT; RBOX_ROOT={} RBOX_STATE={} RBOX_REGISTRIES={} {} compose -f {} -p {} up",
        t.suite.root.display(),
        t.suite.state.display(),
        t.suite.registries.display(),
        binary().display(),
        compose.display(),
        project.name
    );
    let tmux = Tmux::start(t.suite, &line);
    let bottom = || tmux.screen().lines().last().unwrap_or_default().trim_end().to_owned();
    let shows = |text: &str| wait_until(text, || bottom() == text);
    tmux.expect("number 60");
    shows("w Enable Watch   d Detach");
    tmux.resize(70, 12);
    shows("w Enable Watch   d Detach");
    tmux.keys(&["w"]);
    shows("w Disable Watch   d Detach");
    tmux.expect("Watch enabled");
    fs::write(project.dir.join("src/new"), "x").unwrap();
    let web = project.container("web");
    wait_until("it is brought in", || t.rbox(["exec", &web, "test", "-e", "/app/new"]).code == 0);
    tmux.keys(&["w"]);
    shows("w Enable Watch   d Detach");
    let id = project.id("web");
    tmux.keys(&["x", "d"]);
    tmux.expect("ended 0");
    // The terminal is as it was.
    tmux.expect("icanon");
    assert!(!tmux.screen().contains("-icanon") && !bottom().contains("Detach"), "{}", tmux.screen());
    assert_eq!((t.status(&web), project.id("web")), ("running".into(), id));

    // Ctrl-C stops all, and without the menu there is none.
    let tmux = Tmux::start(t.suite, &format!("{line} --menu=false"));
    tmux.expect(&format!("{web}  Running"));
    assert!(!tmux.screen().contains("Detach"), "{}", tmux.screen());
    tmux.keys(&["C-c"]);
    tmux.expect("ended 130");
    let tmux = Tmux::start(t.suite, &line);
    wait_until("the menu", || tmux.screen().contains("d Detach"));
    tmux.keys(&["C-c"]);
    tmux.expect("ended 130");
    assert_eq!(t.status(&web), "exited");
    assert!(!tmux.screen().contains("d Detach"), "{}", tmux.screen());
    project.done(&["down"]);
}
