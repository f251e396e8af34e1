//! What programs written for Docker 28 read and match: keys, words, exit codes.

use serde_json::Value;

use crate::harness::{BUSYBOX, PYTHON, Test};

/// The keys of an object, in their order.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

const CONTAINER: &str = "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount \
    Driver Platform MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings";
const STATE: &str = "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt";
const HOST_CONFIG: &str = "Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumeDriver \
    VolumesFrom ConsoleSize CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Links \
    OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize Runtime Isolation \
    CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps \
    BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems \
    Devices DeviceCgroupRules DeviceRequests MemoryReservation MemorySwap MemorySwappiness OomKillDisable PidsLimit Ulimits \
    CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth MaskedPaths ReadonlyPaths";
const CONFIG: &str = "Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env Cmd Image \
    Volumes WorkingDir Entrypoint OnBuild Labels";
const NETWORK_SETTINGS: &str = "Bridge SandboxID SandboxKey Ports HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen \
    SecondaryIPAddresses SecondaryIPv6Addresses EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPAddress \
    IPPrefixLen IPv6Gateway MacAddress Networks";
const ENDPOINT: &str = "IPAMConfig Links Aliases MacAddress DriverOpts GwPriority NetworkID EndpointID Gateway IPAddress \
    IPPrefixLen IPv6Gateway GlobalIPv6Address GlobalIPv6PrefixLen DNSNames";
const NETWORK: &str = "Name Id Created Scope Driver EnableIPv4 EnableIPv6 IPAM Internal Attachable Ingress ConfigFrom \
    ConfigOnly Containers Options Labels";

#[test]
fn key_sets_are_dockers() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    t.sleeper(&name, []);
    let c = t.inspect(&name);
    assert_eq!(keys(&c), words(CONTAINER));
    assert_eq!(keys(&c["State"]), words(STATE));
    assert_eq!(keys(&c["HostConfig"]), words(HOST_CONFIG));
    assert_eq!(keys(&c["Config"]), words(CONFIG));
    assert_eq!(keys(&c["NetworkSettings"]), words(NETWORK_SETTINGS));
    assert_eq!(keys(&c["NetworkSettings"]["Networks"]["bridge"]), words(ENDPOINT));
    let network = t.inspect("bridge");
    assert_eq!(keys(&network), words(NETWORK));
    let endpoint = network["Containers"].as_object().unwrap().values().next().unwrap().clone();
    assert_eq!(keys(&endpoint), ["Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address"]);
    t.ok(["volume", "create", &name]);
    let volume: Value = serde_json::from_str(&t.ok(["volume", "inspect", &name])).unwrap();
    assert_eq!(keys(&volume[0]), ["CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"]);
    let image = t.inspect(PYTHON);
    assert_eq!(
        keys(&image),
        words(
            "Id RepoTags RepoDigests Parent Comment Created DockerVersion Author Config Architecture Os Size GraphDriver \
             RootFS Metadata Descriptor"
        )
    );
    let config = keys(&image["Config"]);
    let known = words(
        "User ExposedPorts Env Entrypoint Cmd Volumes WorkingDir Labels StopSignal ArgsEscaped Healthcheck OnBuild Shell",
    );
    assert!(config.iter().all(|key| known.contains(key)) && config.contains(&"Env"), "{config:?}");
}

#[test]
fn templates_see_types() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let id = t.sleeper(
        &name,
        ["-p", "127.0.0.1::80", "--expose", "81", "--tmpfs", "/t:size=1m", "--cpu-shares", "5"],
    );
    // One command for all: a line each.
    let cases = [
        ("{{.ID}}", id.as_str()),
        ("{{.HostConfig.CapAdd}} {{len .HostConfig.CapAdd}} {{json .HostConfig.CapAdd}}", "[] 0 null"),
        ("{{.HostConfig.SecurityOpt}} {{len .HostConfig.Links}}", "[] 0"),
        ("{{range .HostConfig.VolumesFrom}}x{{else}}none{{end}}", "none"),
        (
            "{{.HostConfig.CPUShares}} {{.HostConfig.CpuShares}} {{.HostConfig.NanoCPUs}} {{.HostConfig.DNS}}",
            "5 5 0 []",
        ),
        ("{{.HostConfig.PortBindings}}", "map[80/tcp:[{127.0.0.1 }]]"),
        ("{{json (index .HostConfig.PortBindings \"80/tcp\")}}", r#"[{"HostIp":"127.0.0.1","HostPort":""}]"#),
        ("{{index .NetworkSettings.Ports \"81/tcp\"}}", "[]"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}} {{.State.Health}}", "none <nil>"),
        ("{{json .State.Health}} {{json .Config.Healthcheck}} {{.Config.StopSignal}}", "null null "),
        ("{{json .HostConfig.Tmpfs}} {{json .Mounts}}", r#"{"/t":"size=1048576"} []"#),
        ("{{.Config.Labels.none}} {{index .Config.Labels \"none\"}}", "<no value> "),
        ("{{with .Config}}{{.Image}}{{end}} {{printf \"%s\" .Name}}", &format!("busybox /{name}")),
    ];
    let template: Vec<&str> = cases.iter().map(|(template, _)| *template).collect();
    let out = t.ok(["inspect", "-f", &template.join("\n"), &name]);
    for ((template, expected), line) in cases.iter().zip(out.split('\n')) {
        assert_eq!(line, *expected, "{template}");
    }
    let state = t.ok(["inspect", "-f", "{{json .State}}", &name]);
    assert!(state.starts_with(r#"{"Status":"running","Running":true,"Paused":false,"#), "{state}");
    assert!(!state.contains("Health"), "{state}");
    // The raw keys are there too, in loops.
    assert!(t.ok(["inspect", "-f", "{{range $k, $v := .State}}{{$k}} {{end}}", &name]).contains("OOMKilled"));
}

#[test]
fn template_errors_are_dockers() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    t.ok(["create", "--name", &name, BUSYBOX]);
    for (template, said) in [
        (
            "{{.Nope}}",
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry for key \"Nope\"",
        ),
        (
            "{{.State.Health.Status}}",
            "template: :1:8: executing \"\" at <.State.Health.Status>: map has no entry for key \"Health\"",
        ),
    ] {
        t.rbox(["inspect", "-f", template, &name]).refused(1, &[said]);
    }
    t.rbox(["inspect", "-f", "{{.Id", &name]).refused(125, &["template parsing error: template: :1"]);
    t.rbox(["ps", "-a", "--format", "{{.Nope}}"]).refused(1, &["template parsing error", "<.Nope>"]);
    // Without anything to print there is an empty line, as Docker's client has it.
    assert_eq!(t.rbox(["inspect", "-f", "{{.Id}}", "no-such"]).code(1).stdout, "\n");
}

#[test]
fn words_that_programs_match() {
    let Some(t) = Test::start() else { return };
    for (args, code, said) in [
        (&["inspect", "nosuch"][..], 1, "No such object: nosuch"),
        (&["container", "inspect", "nosuch"], 1, "No such container: nosuch"),
        (&["image", "inspect", "nosuch"], 1, "No such image: nosuch"),
        (&["network", "inspect", "nosuch"], 1, "network nosuch not found"),
        (&["volume", "inspect", "nosuch"], 1, "get nosuch: no such volume"),
        (&["stop", "nosuch"], 1, "No such container: nosuch"),
        (&["rmi", "nosuch"], 1, "No such image: nosuch"),
        (&["run", "--network", "nosuch", BUSYBOX], 125, "network nosuch not found"),
        (&["run", "-v", "", BUSYBOX], 125, "invalid empty volume spec"),
        (&["run", "-v", "/a::/b", BUSYBOX], 125, "invalid spec: /a::/b: empty section between colons"),
        (&["run", "--use-api-socket", BUSYBOX], 125, "no API socket"),
        (&["run", "--log-driver", "syslog", BUSYBOX], 125, "log driver 'syslog' is not supported"),
        (&["run", "--log-driver", "bogus", BUSYBOX], 125, "no log driver named 'bogus' is registered"),
        (
            &["run", "--uts", "host", "-h", "x", BUSYBOX],
            125,
            "conflicting options: hostname and the UTS mode",
        ),
        (&["run", "--pid", "container:x", BUSYBOX], 125, "--pid container:x"),
        (&["run", "--umask", "9", BUSYBOX], 125, "invalid umask"),
        (&["run", "--gpus", "all", BUSYBOX], 125, "docker's flag --gpus is not supported"),
        (&["rum", BUSYBOX], 125, "did you mean run?"),
        (&["push", "x"], 125, "is a docker command that rbox does not have"),
        (
            &["system", "prune", "-f", "--volumes", "--filter", "until=1h"],
            1,
            "The \"until\" filter is not supported with \"--volumes\"",
        ),
        (&["context", "use", "other"], 1, "context \"other\": context not found"),
    ] {
        let out = t.cmd(args.to_vec()).run();
        assert!(out.stderr.contains(said), "{args:?}: {out:?}");
        out.refused(code, &[]);
    }
}

#[test]
fn what_tools_ask_first() {
    let Some(t) = Test::start() else { return };
    assert_eq!(t.ok(["context", "show"]), "default");
    assert_eq!(t.ok(["context", "ls", "-q"]), "default");
    assert!(t.ok(["context", "ls"]).starts_with("NAME        DESCRIPTION"));
    let one: Value = serde_json::from_str(&t.ok(["context", "ls", "--format", "json"])).unwrap();
    assert_eq!(keys(&one), ["Current", "Description", "DockerEndpoint", "Error", "Name"]);
    let all: Value = serde_json::from_str(&t.ok(["context", "inspect"])).unwrap();
    assert_eq!(keys(&all[0]), ["Name", "Metadata", "Endpoints", "TLSMaterial", "Storage"]);
    assert_eq!(t.ok(["context", "use", "default"]), "default");

    let version: Value = serde_json::from_str(&t.ok(["version", "--format", "json"])).unwrap();
    assert_eq!(
        keys(&version["Client"]),
        words("Version ApiVersion DefaultAPIVersion GitCommit GoVersion Os Arch BuildTime Context")
    );
    assert_eq!(
        keys(&version["Server"]),
        words(
            "Platform Components Version ApiVersion MinAPIVersion GitCommit GoVersion Os Arch KernelVersion BuildTime"
        )
    );
    let api =
        t.ok(["version", "-f", "{{.Server.APIVersion}} {{.Client.ApiVersion}} {{.Server.Platform.Name}}"]);
    assert_eq!(api, "1.51 1.51 rbox");

    let info: Value = serde_json::from_str(&t.ok(["info", "--format", "json"])).unwrap();
    for key in words(
        "ID Containers ContainersRunning ContainersPaused ContainersStopped Images Driver DriverStatus Plugins MemoryLimit \
         SwapLimit CpuCfsPeriod CpuCfsQuota CPUShares CPUSet PidsLimit IPv4Forwarding Debug NFd OomKillDisable NGoroutines \
         SystemTime LoggingDriver CgroupDriver CgroupVersion NEventsListener KernelVersion OperatingSystem OSVersion OSType \
         Architecture IndexServerAddress RegistryConfig NCPU MemTotal GenericResources DockerRootDir HttpProxy HttpsProxy \
         NoProxy Name Labels ExperimentalBuild ServerVersion Runtimes DefaultRuntime Swarm LiveRestoreEnabled Isolation \
         InitBinary ContainerdCommit RuncCommit InitCommit SecurityOptions CDISpecDirs Warnings ClientInfo",
    ) {
        assert!(info.get(key).is_some(), "{key}");
    }
    let line = "{{.Swarm.LocalNodeState}} {{index .Plugins.Network 0}} {{.DefaultRuntime}} {{.LiveRestoreEnabled}} {{len .ID}}";
    assert_eq!(t.ok(["info", "-f", line]), "inactive bridge rbox true 36");
    assert_eq!(
        t.ok(["system", "df", "--format", "{{.Type}}"]),
        "Images\nContainers\nLocal Volumes\nBuild Cache"
    );
}

#[test]
fn ps_shows_what_docker_shows() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    t.ok(["create", "--name", &name, BUSYBOX, "sh", "-c", "a b"]);
    assert_eq!(t.ok(["ps", "-a", "--no-trunc", "--format", "{{.Command}}"]), "\"sh -c 'a b'\"");
    let platform = t.ok(["ps", "-a", "--format", "{{.Platform}}"]);
    assert!(platform.starts_with("linux/"), "{platform}");
    // What is written there is of this moment and zone.
    let created = |zone: &str| t.cmd(["ps", "-a", "--format", "{{.CreatedAt}}"]).env("TZ", zone).run().ok();
    if std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        assert!(created("Asia/Tokyo").ends_with(" +0900 JST"), "{}", created("Asia/Tokyo"));
    }
    assert!(created("XYZ-3").ends_with(" +0300 XYZ"), "{}", created("XYZ-3"));
}

#[test]
fn logs_read_local_times() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    t.ok(["run", "--name", &name, BUSYBOX, "sh", "-c", "echo a; sleep 1.1; echo b"]);
    let stamped = t.ok(["logs", "-t", &name]);
    let (second, _) = stamped.lines().nth(1).unwrap().split_once(' ').unwrap();
    let time: jiff::Timestamp = second.parse().unwrap();
    let there = time.to_zoned(jiff::tz::TimeZone::posix("XYZ-9").unwrap());
    let local = there.strftime("%Y-%m-%dT%H:%M:%S.%9f").to_string();
    let since = |zone: &str| t.cmd(["logs", "--since", &local, &name]).env("TZ", zone).run().ok();
    assert_eq!(since("XYZ-9"), "b");
    if std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        assert_eq!(since("Asia/Tokyo"), "b");
    }
    // The last one before a time.
    assert_eq!(t.ok(["logs", "--until", second, "--tail", "1", &name]), "b");
    let (first, _) = stamped.split_once(' ').unwrap();
    assert_eq!(t.ok(["logs", "--until", first, "--tail", "1", &name]), "a");
}

#[test]
fn a_long_line_has_one_time() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo short";
    t.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", script]);
    t.ok(["wait", &name]);
    let out = t.ok(["logs", "-t", &name]);
    let lines: Vec<&str> = out.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(lines, ["x".repeat(40_000).as_str(), "short"]);
}

#[test]
fn values_may_begin_with_a_hyphen() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    t.ok([
        "create", "--name", &name, "-e", "-A=1", "--env", "--B=2", "--label", "-x=y", "-l", "--z", "--label",
        "--", BUSYBOX, "sh", "-c", "-v",
    ]);
    let c = t.inspect(&name);
    let env = c["Config"]["Env"].to_string();
    assert!(env.contains("\"-A=1\"") && env.contains("\"--B=2\""), "{env}");
    assert_eq!(keys(&c["Config"]["Labels"]), ["--", "--z", "-x"]);
    // What is refused is the value, not the word.
    for (flag, value, said) in [
        ("-h", "-x", "invalid hostname"),
        ("-u", "-1", "uids"),
        ("-v", "-a:/b", "-a"),
        ("-w", "-x", "'-x'"),
        ("--name", "-x", "-x"),
    ] {
        t.rbox(["create", flag, value, BUSYBOX]).refused(125, &[said]);
    }
}

#[test]
fn namespaces_of_the_host_by_request() {
    let Some(t) = Test::start() else { return };
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let host = rustix_nodename();
    let out = t.sh_with(
        ["--pid", "host", "--ipc", "host", "--uts", "host", "--umask", "0077", "--annotation", "a.b=c"],
        "for n in pid ipc uts net; do readlink /proc/self/ns/$n; done; hostname; umask; test -d /dev/shm && echo shm; test -d /proc/1 && echo $$",
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], [own("pid"), own("ipc"), own("uts")]);
    assert_ne!(lines[3], own("net"));
    assert_eq!(lines[4..7], [host.as_str(), "0077", "shm"]);
    assert_ne!(lines[7], "1");

    // What is left of it ends with it, though no PID namespace goes away.
    let name = t.name("left");
    t.ok(["run", "-d", "--name", &name, "--pid", "host", BUSYBOX, "sh", "-c", "sleep 876 & sleep 0.2"]);
    t.ok(["wait", &name]);
    crate::harness::wait_until("nothing is left", || !running("sleep\0876"));

    let name = t.name("own");
    t.sleeper(&name, ["--domainname", "example.org", "-h", "box", "--ipc", "none"]);
    let script = "cat /proc/sys/kernel/domainname; hostname -f; ls -d /dev/shm 2>/dev/null; umask";
    assert_eq!(t.ok(["exec", &name, "sh", "-c", script]), "example.org\nbox.example.org\n0022");
    let shown =
        "{{.Config.Domainname}} {{.HostConfig.IpcMode}} {{.HostConfig.PidMode}}|{{.HostConfig.Annotations}}";
    assert_eq!(t.ok(["inspect", "-f", shown, &name]), "example.org none |map[]");
}

fn rustix_nodename() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

/// Whether a process of this command line (words parted by NUL) runs anywhere.
fn running(command: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(command.as_bytes()))
    })
}

#[test]
fn without_a_log() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    assert_eq!(t.ok(["run", "--name", &name, "--log-driver", "none", BUSYBOX, "echo", "seen"]), "seen");
    t.rbox(["logs", &name]).refused(1, &["configured logging driver does not support reading"]);
    assert_eq!(t.ok(["inspect", "-f", "{{.HostConfig.LogConfig.Type}}[{{.LogPath}}]", &name]), "none[]");
    assert_eq!(t.ok(["run", "--rm", "--log-driver", "json-file", BUSYBOX, "echo", "too"]), "too");
}

#[test]
fn a_link_is_taken_away() {
    let Some(t) = Test::start() else { return };
    let (db, web) = (t.name("db"), t.name("web"));
    t.sleeper(&db, []);
    t.sleeper(&web, ["--link", &format!("{db}:store")]);
    assert!(t.ok(["exec", &web, "cat", "/etc/hosts"]).contains("store"));
    let link = format!("/{web}/store");
    assert_eq!(t.ok(["rm", "--link", &link]), link);
    assert!(!t.ok(["exec", &web, "cat", "/etc/hosts"]).contains("store"));
    assert_eq!(t.ok(["inspect", "-f", "{{json .HostConfig.Links}}", &web]), "null");
    assert_eq!(t.status(&db), "running");
    t.rbox(["rm", "-l", &link]).refused(1, &["store"]);
    t.rbox(["rm", "-l", "nonsense"]).refused(1, &["nonsense"]);
}

#[test]
fn manual_pages_go_to_a_new_directory() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("man").join("share/man1");
    t.ok(["man", dir.to_str().unwrap()]);
    assert!(dir.join("rbox-run.1").is_file());
}
