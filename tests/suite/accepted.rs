//! What scripts written for Docker pass and ask: flags that change nothing here, other forms of one argument, the words of answers.

use serde_json::Value;

use crate::harness::{BUSYBOX, Cmd, OwnRoots, Test, has, project, skipped};

/// A value that means what rbox does anyway is accepted, another one is refused with what it is for.
#[test]
fn flags_that_change_nothing() {
    let Some(t) = Test::start() else { return };
    let name = t.name("a");
    for flags in [
        &["--disable-content-trust"][..],
        &["--disable-content-trust=false", "--runtime", "runc"],
        &["--runtime=io.containerd.runc.v2", "--isolation", "default"],
        &["--volume-driver", "local", "-v", "/anonymous"],
    ] {
        let args = [&["create", "--name", &name], flags, &[BUSYBOX]].concat();
        t.cmd(args).run().ok();
        t.ok(["rm", "-v", &name]);
    }
    for (flags, said) in [
        (["--runtime", "kata"], "--runtime \"kata\" is not supported: it takes runc"),
        (["--isolation", "hyperv"], "--isolation \"hyperv\" is not supported: it takes default"),
        (["--volume-driver", "nfs"], "--volume-driver \"nfs\" is not supported: it takes local"),
    ] {
        t.cmd([&["create"], &flags[..], &[BUSYBOX]].concat()).run().refused(125, &[said]);
    }
    t.ok(["pull", "-q", "--disable-content-trust", BUSYBOX]);
    t.rbox(["push", "--disable-content-trust=true", "nosuch.invalid/x"]).refused(1, &["nosuch.invalid/x"]);
    t.ok(["network", "create", "--ipv4", "--scope", "local", "--ipam-driver", "default", &name]);
    t.ok(["network", "rm", &name]);
    for (flags, said) in [
        (&["--ipv4=false"][..], "every network has IPv4"),
        (&["--scope", "swarm"], "--scope \"swarm\""),
        (&["--ipam-driver", "dhcp"], "--ipam-driver \"dhcp\""),
    ] {
        t.cmd([&["network", "create"], flags, &[&name]].concat()).run().refused(125, &[said]);
    }
}

#[test]
fn options_before_the_command() {
    let Some(t) = Test::start() else { return };
    for options in [
        &["-D"][..],
        &["--debug", "-l", "debug"],
        &["--log-level=error"],
        &["-H", "unix:///var/run/docker.sock"],
        &["--context", "default"],
    ] {
        let out = t.cmd([options, &["volume", "ls", "-q"]].concat()).run();
        assert_eq!(out.ok(), "", "{options:?}");
    }
    t.rbox(["-H", "tcp://192.0.2.1:2375", "ps"]).refused(125, &["-H tcp://192.0.2.1:2375", "no daemon"]);
    t.rbox(["--log-level", "loud", "ps"]).refused(125, &["unable to parse logging level: loud"]);
    t.rbox(["--tls", "ps"]).refused(125, &["--tls is not supported", "no daemon"]);
    // Whose credentials are looked at: the option's, before the variable's.
    let (given, of_variable) = (t.dir("given"), t.dir("variable"));
    let kept = |dir: &std::path::Path| {
        std::fs::read_to_string(dir.join("config.json")).unwrap().contains("reg.invalid")
    };
    for dir in [&given, &of_variable] {
        std::fs::write(dir.join("config.json"), r#"{"auths":{"reg.invalid":{"auth":"dTpw"}}}"#).unwrap();
    }
    let logout = ["--config", given.to_str().unwrap(), "logout", "reg.invalid"];
    t.cmd(logout).env("DOCKER_CONFIG", &of_variable).run().ok();
    assert!(!kept(&given) && kept(&of_variable));
    t.cmd(["logout", "reg.invalid"]).env("DOCKER_CONFIG", &of_variable).run().ok();
    assert!(!kept(&of_variable));
}

#[test]
fn other_forms_of_one_argument() {
    let Some(t) = Test::start() else { return };
    let name = t.name("v");
    assert_eq!(t.ok(["volume", "create", "--name", &name]), name);
    t.rbox(["volume", "create", "--name", &name, &name])
        .refused(125, &["cannot specify a volume name through both --name and as a positional arg"]);
    t.ok(["volume", "rm", &name]);
    for (given, bindings) in [
        ("published=38080,target=80", r#"{"80/tcp":[{"HostIp":"","HostPort":"38080"}]}"#),
        (
            "target=80,published=38080,protocol=udp,mode=host",
            r#"{"80/udp":[{"HostIp":"","HostPort":"38080"}]}"#,
        ),
        ("target=80", r#"{"80/tcp":[{"HostIp":"","HostPort":""}]}"#),
    ] {
        t.ok(["create", "--name", &name, "-p", given, BUSYBOX]);
        assert_eq!(t.ok(["inspect", "-f", "{{json .HostConfig.PortBindings}}", &name]), bindings, "{given}");
        t.ok(["rm", &name]);
    }
    for (given, said) in [
        ("published=80", "no container port"),
        ("target=80,udp", "invalid publish opts format (should be name=value but got 'udp')"),
        ("target=80,source=80", "invalid field key \"source\""),
        ("target=80,mode=swarm", "invalid publish mode \"swarm\""),
    ] {
        t.rbox(["create", "-p", given, BUSYBOX]).refused(125, &[said]);
    }
    for (spec, kind, target) in [
        ("/tmp:relative", "bind", "relative"),
        ("vol:relative", "volume", "relative"),
        ("relative", "volume", "relative"),
    ] {
        let said = format!(
            "invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": invalid mount path: '{target}' mount path must be absolute"
        );
        t.rbox(["create", "-v", spec, BUSYBOX]).refused(125, &[&said]);
    }
    t.rbox(["create", "--mount", "type=bind,src=/tmp,dst=relative", BUSYBOX]).refused(
        125,
        &["invalid mount config for type \"bind\": invalid mount path: 'relative' mount path must be absolute"],
    );
}

/// Of a container the word it was asked for by, of all of them the beginning of the id.
#[test]
fn stats_name_a_container_as_it_was_named() {
    let Some(t) = Test::start() else { return };
    let name = t.name("s");
    let id = t.sleeper(&name, []);
    for (asked, shown) in [(&name[..], &name[..]), (&id[..20], &id[..20]), (&id, &id)] {
        let one: Value =
            serde_json::from_str(&t.ok(["stats", "--no-stream", "--format", "json", asked])).unwrap();
        assert_eq!((&one["Container"], &one["ID"]), (&shown.into(), &id[..12].into()));
    }
    assert_eq!(t.ok(["stats", "--no-stream", "--no-trunc", "--format", "{{.Container}}"]), id[..12]);
}

#[test]
fn functions_that_there_are_not() {
    let Some(t) = Test::start() else { return };
    let said = "template parsing error: template: :1: function \"bogus\" not defined";
    for args in [
        &["network", "inspect", "-f"][..],
        &["context", "inspect", "-f"],
        &["version", "-f"],
        &["info", "-f"],
    ] {
        let name = if args.contains(&"network") { &["bridge"][..] } else { &[] };
        t.cmd([args, &["{{bogus .Name}}"], name].concat()).run().refused(64, &[said]);
    }
    // Also where there is nothing to show.
    for args in [&["ps"][..], &["images"], &["volume", "ls"], &["network", "ls"]] {
        t.cmd([args, &["--format", "{{.ID | bogus}}"]].concat()).run().refused(1, &[said]);
    }
}

#[test]
fn inspect_knows_fields_that_the_json_leaves_out() {
    let Some(t) = Test::start() else { return };
    let name = t.name("n");
    let network = ["network", "create", "--subnet", "10.95.0.0/16", "--ip-range", "10.95.7.0/24", &name];
    t.ok(network);
    t.ok(["volume", "create", &name]);
    let with_range = "{{.IPAM.Config}} {{(index .IPAM.Config 0).IPRange}}";
    assert_eq!(
        t.ok(["network", "inspect", "-f", with_range, &name]),
        "[{10.95.0.0/16 10.95.7.0/24 10.95.0.1 map[]}] 10.95.7.0/24"
    );
    let without =
        "{{range .IPAM.Config}}[{{.IPRange}}]{{len .AuxAddress}}{{end}} {{len .Peers}} {{len .Services}}";
    assert_eq!(t.ok(["network", "inspect", "-f", without, "bridge"]), "[]0 0 0");
    let json = t.ok(["network", "inspect", "-f", "{{json .IPAM.Config}}", "bridge"]);
    assert!(
        json.starts_with("[{\"Subnet\":") && !json.contains("IPRange") && !json.contains("Aux"),
        "{json}"
    );
    let volume = "{{.Status}} {{len .Status}} {{.UsageData}} {{.ClusterVolume}} {{json .Status}}";
    assert_eq!(t.ok(["volume", "inspect", "-f", volume, &name]), "map[] 0 <nil> <nil> null");
    t.rbox(["volume", "inspect", "-f", "{{.Nope}}", &name]).refused(1, &["<.Nope>"]);
    t.ok(["network", "rm", &name]);
}

/// Its parts are found by the words that Docker's client prints before them.
#[test]
fn version_and_info_have_a_client_and_a_server() {
    let Some(t) = Test::start() else { return };
    let version = t.ok(["version"]);
    let lines: Vec<&str> = version.lines().collect();
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(lines[..3], ["Client:", &format!(" Version:           {own}"), " API version:       1.51"]);
    assert!(version.contains("\n OS/Arch:           linux/"), "{version}");
    let server = format!(
        "\n Context:           default\n\nServer: rbox\n Engine:\n  Version:          {own}\n  API version:      1.51 (minimum version 1.51)\n  OS/Arch:          linux/"
    );
    assert!(version.contains(&server), "{version}");
    let info = t.cmd(["info"]).run();
    let client = format!(
        "Client:\n Version:    {own}\n Context:    default\n Debug Mode: false\n\nServer:\n Containers: 0\n  Running: 0\n"
    );
    assert!(info.stdout.starts_with(&client), "{info:?}");
    for part in [
        "\n Images: ",
        "\n Storage Driver: overlay2\n",
        "\n Plugins:\n  Volume: local\n  Network: bridge host null\n  Log: journald json-file local none syslog\n CDI spec directories:\n  /etc/cdi\n  /var/run/cdi\n Swarm: inactive\n Runtimes: rbox\n",
        "\n Security Options:\n  seccomp\n   Profile: builtin\n  cgroupns\n Kernel Version: ",
        "\n Docker Root Dir: ",
        "\n Registry Mirrors:\n  http://",
        "\n Live Restore Enabled: true\n",
    ] {
        assert!(info.stdout.contains(part), "{part}: {info:?}");
    }
    assert!(!info.stdout.contains("WARNING"), "{info:?}");
}

/// The first free one, from above.
#[test]
fn the_default_network_takes_the_first_free_range() {
    let Some(t) = Test::start() else { return };
    if !has("ip") {
        return skipped("ip is not installed");
    }
    let first_free = || {
        let routes = Cmd::new("ip", ["-4", "-o", "route", "show", "table", "all"]).run().ok();
        let servers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let used = |number: u8| {
            let begin = format!("172.{number}.");
            routes.split_whitespace().any(|word| word.starts_with(&begin))
                || servers.lines().any(|line| line.starts_with("nameserver") && line.contains(&begin))
        };
        (18..=30).rev().find(|number| !used(*number))
    };
    let Some(first) = first_free() else { return skipped("this host uses all of 172.18.0.0 to 172.30.0.0") };
    let subnet = |roots: &OwnRoots| {
        roots.run(&["run", "--rm", BUSYBOX, "true"]).ok();
        roots.run(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "bridge"]).ok()
    };
    let before = OwnRoots::new(&t, "before", &t.suite.registry);
    assert_eq!(subnet(&before), format!("172.{first}.0.0/16"));
    // The bridge of those has it now, so a host's link is what takes the next one.
    let Some(next) = first_free() else { return skipped("this host uses all but one of the ranges") };
    let link = format!("rbtd{}", std::process::id());
    Cmd::new("ip", ["link", "add", &link, "type", "veth", "peer", "name", &format!("{link}p")]).run().ok();
    Cmd::new("ip", ["address", "add", &format!("172.{next}.77.1/24"), "dev", &link]).run().ok();
    Cmd::new("ip", ["link", "set", &link, "up"]).run().ok();
    let after = first_free();
    let beside = OwnRoots::new(&t, "beside", &t.suite.registry);
    let taken = subnet(&beside);
    Cmd::new("ip", ["link", "delete", &link]).run().ok();
    if let Some(after) = after {
        assert_eq!(taken, format!("172.{after}.0.0/16"));
    }
    // It is chosen once: what is free by now changes nothing.
    assert_eq!(subnet(&beside), taken);
}

/// `inspect` has Docker's code for a container that could not be started; `start` itself ends with 1.
#[test]
fn codes_of_starts_that_failed() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("gone");
    let source = dir.join("source");
    for (flags, command, of_run, of_state) in [
        (&[][..], "/no/such/program", 127, "127"),
        (&[], "/etc", 126, "126"),
        (&[], "/etc/passwd", 126, "126"),
        (&["-w", "/etc/passwd"], "true", 125, "127"),
        (&["--sysctl", "net.ipv4.conf.eth7.log_martians=1"], "true", 125, "127"),
    ] {
        let name = t.name("f");
        t.cmd([&["run", "--network", "none", "--name", &name], flags, &[BUSYBOX, command]].concat())
            .run()
            .code(of_run);
        assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}}", &name]), of_state, "{flags:?} {command}");
        for start in [&["start"][..], &["start", "-a"]] {
            t.cmd([start, &[&name]].concat()).run().code(1);
        }
        t.ok(["rm", &name]);
    }
    // What fails before there is a process.
    let name = t.name("f");
    std::fs::create_dir(&source).unwrap();
    let mount = format!("type=bind,src={},dst=/x", source.display());
    t.ok(["create", "--name", &name, "--mount", &mount, BUSYBOX, "true"]);
    std::fs::remove_dir(&source).unwrap();
    t.rbox(["start", &name]).refused(1, &[source.to_str().unwrap()]);
    assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}} {{.State.Status}}", &name]), "128 created");
}

/// `rmi --platform` removes nothing that is for another platform.
#[test]
fn images_are_removed_by_platform() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "platforms", &t.suite.registry);
    own.run(&["pull", "-q", BUSYBOX]).ok();
    assert!(own.run(&["rmi", "--help"]).ok().contains("--platform"));
    own.run(&["rmi", "--platform", "linux/s390x", BUSYBOX])
        .refused(1, &["was found but does not provide the specified platform (linux/s390x)"]);
    own.run(&["rmi", "--platform", "bogus/", BUSYBOX]).refused(125, &["bogus/"]);
    let platform = own.run(&["image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", BUSYBOX]).ok();
    own.run(&["rmi", "--platform", &platform, BUSYBOX]).ok();
    assert_eq!(own.run(&["images", "-q"]).ok(), "");
}

/// The scripts that ask a mirror try again when it does not answer.
#[test]
fn a_mirror_that_does_not_answer_is_asked_again() {
    if !has("bash") {
        return skipped("bash is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    for program in ["apt-get", "mmdebstrap"] {
        let script = format!(
            "#!/bin/sh\necho called >>{}\nfor tree; do before=$last; last=$tree; done\n\
             [ {program} = apt-get ] || mkdir \"$before\" || exit 3\n[ $(wc -l <{}) -gt 2 ] || exit 25\n",
            at(&format!("{program}.log")),
            at(&format!("{program}.log"))
        );
        std::fs::write(at(program), script).unwrap();
        Cmd::new("chmod", ["+x", &at(program)]).run().ok();
    }
    let debian = project().join("vm-test/debian");
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let run = |pauses: &str, what: &str| {
        let script = format!("set -euo pipefail; . {}; {what}", debian.display());
        Cmd::new("bash", ["-c", &script]).env("PATH", &path).env("RBOX_TRY_AGAIN", pauses).run()
    };
    run("0 0", "apt-get -q update").ok();
    run("0 0", &format!("mmdebstrap bookworm {} 'deb x'", at("tree"))).ok();
    for log in ["apt-get.log", "mmdebstrap.log"] {
        assert_eq!(std::fs::read_to_string(at(log)).unwrap().lines().count(), 3, "{log}");
    }
    std::fs::write(at("apt-get.log"), "").unwrap();
    assert_eq!(run("0", "apt-get download x").code, 25);
}

/// Each flag of Docker's commands is in the help of rbox's, or is refused by its name with the reason.
#[test]
fn every_flag_of_dockers_is_known() {
    let Some(t) = Test::start() else { return };
    let table = std::fs::read_to_string(project().join("tests/suite/docker_flags.txt")).unwrap();
    let (mut known, mut lacking) = (0, Vec::new());
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let (command, flags) = line.split_once(':').unwrap();
        let path: Vec<&str> = command.split(' ').collect();
        let help = t.cmd([&path[..], &["--help"]].concat()).run();
        if help.code != 0 {
            help.refused(125, &["is a docker command that rbox does not have"]);
            lacking.push(command.to_owned());
            continue;
        }
        for flag in flags.split_whitespace() {
            let (short, long) =
                flag.rsplit_once('/').map_or((None, flag), |(short, long)| (Some(short), long));
            let shown = |option: &str| {
                help.stdout.lines().any(|line| {
                    let line = line.trim_start();
                    line.starts_with('-') && line.split([' ', ',', '=', '[']).any(|word| word == option)
                })
            };
            if shown(&format!("--{long}")) {
                known += 1;
                assert!(short.is_none_or(shown), "{command} {flag}:\n{}", help.stdout);
                continue;
            }
            let image = if ["run", "create"].contains(&command) { &[BUSYBOX][..] } else { &[] };
            let refused = t.cmd([&path[..], &[&format!("--{long}=1")], image].concat()).run();
            let said =
                [format!("docker's flag --{long} is not supported"), format!("--{long}: rbox has no daemon")];
            assert!(
                refused.code == 125 && said.iter().any(|said| refused.stderr.contains(said)),
                "{refused:?}"
            );
            lacking.push(format!("{command} --{long}"));
        }
    }
    assert!(known > 250, "{known}");
    println!("{known} flags are there; not there: {}", lacking.join(", "));
}
