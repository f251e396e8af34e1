//! What programs written for Docker 28 read and match: keys, words, exit codes.

use std::path::Path;

use serde_json::Value;

use crate::harness::{BUSYBOX, Cmd, OwnRoots, PYTHON, Test};

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
            "Id RepoTags RepoDigests Parent Comment Created DockerVersion Author Architecture Os Size GraphDriver \
             RootFS Metadata Descriptor Config"
        )
    );
    let config = keys(&image["Config"]);
    let known = words(
        "User ExposedPorts Env Entrypoint Cmd Volumes WorkingDir Labels StopSignal ArgsEscaped Healthcheck OnBuild Shell",
    );
    assert!(config.iter().all(|key| known.contains(key)) && config.contains(&"Env"), "{config:?}");
    // These are there also where the image says nothing of them.
    let bare = t.inspect(BUSYBOX);
    assert_eq!(keys(&bare["Config"]), words("Cmd Entrypoint Env Labels OnBuild User Volumes WorkingDir"));
    assert_eq!((&bare["Config"]["Labels"], &bare["Config"]["User"]), (&Value::Null, &Value::from("")));
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

/// What the command attached to, and a host port as it was given: none, any (0), a range.
#[test]
fn inspect_tells_what_was_asked_for() {
    let Some(t) = Test::start() else { return };
    let attached = "{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}} {{.Config.StdinOnce}} {{.Platform}}";
    for (args, expected) in [
        (&["create"][..], "false true true false linux"),
        (&["create", "-i"], "true true true true linux"),
        (&["create", "-a", "STDOUT"], "false true false false linux"),
        (&["create", "--attach=stderr", "-i"], "true false true true linux"),
        (&["run"], "false true true false linux"),
        (&["run", "-i"], "true true true true linux"),
        (&["run", "-d"], "false false false false linux"),
        (&["run", "-d", "-i"], "false false false false linux"),
        (&["run", "-a", "stdout"], "false true false false linux"),
        (&["run", "-a", "stderr", "-i"], "true false true true linux"),
    ] {
        let name = t.name("a");
        t.cmd([args, &["--network", "none", "--name", &name, BUSYBOX, "true"]].concat()).run().ok();
        assert_eq!(t.ok(["inspect", "-f", attached, &name]), expected, "{args:?}");
        t.ok(["rm", "-f", &name]);
    }
    t.rbox(["create", "-a", "stdlog", BUSYBOX]).refused(125, &["valid streams are STDIN, STDOUT and STDERR"]);
    for (given, ip, port) in [
        ("127.0.0.1:0:80", "127.0.0.1", "0"),
        ("0:80", "", "0"),
        ("127.0.0.1::80", "127.0.0.1", ""),
        ("80", "", ""),
        ("127.0.0.1:38080:80", "127.0.0.1", "38080"),
        ("38080-38081:80", "", "38080-38081"),
    ] {
        let name = t.name("p");
        t.ok(["create", "--name", &name, "-p", given, BUSYBOX]);
        let bindings = t.ok(["inspect", "-f", "{{json .HostConfig.PortBindings}}", &name]);
        assert_eq!(bindings, format!(r#"{{"80/tcp":[{{"HostIp":"{ip}","HostPort":"{port}"}}]}}"#), "{given}");
        t.ok(["rm", &name]);
    }
    // 0 is any free port, also at the second start.
    let name = t.name("z");
    t.sleeper(&name, ["-p", "127.0.0.1:0:80"]);
    t.ok(["restart", "-t", "0", &name]);
    assert!(t.ok(["port", &name, "80"]).starts_with("127.0.0.1:"));
}

/// Words that programs match.
#[test]
fn networks_are_refused_in_dockers_words() {
    let Some(t) = Test::start() else { return };
    let name = t.name("n");
    t.ok(["network", "create", "--subnet", "10.93.7.0/24", &name]);
    let words = "no configured subnet or ip-range contain the IP address 10.93.8.9";
    t.rbox(["run", "--rm", "--network", &name, "--ip", "10.93.8.9", BUSYBOX, "true"]).refused(125, &[words]);
    let box_name = t.name("c");
    t.sleeper(&box_name, []);
    let refused = t.rbox(["network", "connect", "--ip", "10.93.8.9", &name, &box_name]);
    refused.refused(1, &[words]);
    // The range is for addresses that nobody asks for.
    let range = t.name("range");
    t.ok(["network", "create", "--subnet", "10.94.0.0/16", "--ip-range", "10.94.1.0/24", &range]);
    t.ok(["run", "--rm", "--network", &range, "--ip", "10.94.7.7", BUSYBOX, "true"]);
    // With seventeen of them two begin alike.
    let names: Vec<String> = (0..17).map(|number| format!("{name}-{number}")).collect();
    let mut ids: Vec<String> =
        names.iter().map(|name| t.ok(["network", "create", "--internal", name])).collect();
    ids.sort();
    let alike = ids.windows(2).find(|pair| pair[0][..1] == pair[1][..1]).unwrap();
    let begin = &alike[0][..1];
    let out = t.rbox(["network", "inspect", begin]).code(1);
    assert!(
        out.stderr.contains(&format!("network {begin} is ambiguous ("))
            && out.stderr.contains(" matches found based on ID prefix)"),
        "{out:?}"
    );
    for name in &names {
        t.ok(["network", "rm", name]);
    }
}

/// Every row, column and key of Docker's; what images share counts once.
#[test]
#[allow(clippy::too_many_lines)] // One story.
fn disk_usage_is_dockers() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "df", &t.suite.registry);
    let run = |args: &[&str]| own.run(args).ok();
    let header = "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE";
    let empty = run(&["system", "df"]);
    let nothing = ["Images", "Containers", "Local Volumes", "Build Cache"]
        .map(|kind| format!("{kind:<16}0         0         0B        0B"));
    assert_eq!(empty, [&[header.to_owned()], &nothing[..]].concat().join("\n"));
    // One image; a second one that has its layer and one of its own; a third that shares nothing.
    run(&["pull", "-q", BUSYBOX]);
    run(&[
        "run",
        "--name",
        "used",
        "--network",
        "none",
        "-v",
        "data:/d",
        "-v",
        "/anonymous",
        BUSYBOX,
        "sh",
        "-c",
        "head -c 1000000 /dev/zero >/written; head -c 2345678 /dev/zero >/d/x",
    ]);
    run(&["volume", "create", "idle"]);
    let dir = t.dir("archives");
    let layered = layered_archive(&own, &dir);
    run(&["load", "-q", "-i", &layered]);
    let sizes = |name: &str| -> u64 { run(&["image", "inspect", "-f", "{{.Size}}", name]).parse().unwrap() };
    let (below, both) = (sizes(BUSYBOX), sizes("layered:1"));
    assert_eq!(both - below, 3_000_000);
    let usage: Vec<Value> = run(&["system", "df", "--format", "json"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for row in &usage {
        assert_eq!(keys(row), ["Active", "Reclaimable", "Size", "TotalCount", "Type"]);
    }
    let row = |at: usize| {
        let text = |key: &str| usage[at][key].as_str().unwrap().to_owned();
        [text("TotalCount"), text("Active"), text("Size"), text("Reclaimable")]
    };
    // As Docker counts it, what the used image shares is reclaimable.
    assert_eq!(row(0), ["2", "1", &sum(both), &format!("{} (100%)", sum(both))]);
    assert_eq!(row(1), ["1", "0", "1MB", "1MB (100%)"]);
    assert_eq!(row(2), ["3", "2", "2.346MB", "0B (0%)"]);
    assert_eq!(row(3), ["0", "0", "0B", "0B"]);
    verbose_lists_are_dockers(&run, below);
    // The container is the last that needs the image.
    run(&["rm", "used"]);
    assert_eq!(
        run(&["system", "df", "--format", "{{.Type}} {{.Active}} {{.Reclaimable}}"]).lines().nth(2),
        Some("Local Volumes 0 2.346MB (100%)")
    );
}

/// `system df -v`. `below`: the size of busybox, whose layer another image shares.
fn verbose_lists_are_dockers(run: &dyn Fn(&[&str]) -> String, below: u64) {
    let whole: Value = serde_json::from_str(&run(&["system", "df", "-v", "--format", "json"])).unwrap();
    // The last two are rbox's own.
    assert_eq!(keys(&whole), ["Images", "Containers", "Volumes", "BuildCache", "Layers", "Logs"]);
    assert_eq!(
        keys(&whole["Images"][0]),
        words(
            "Containers CreatedAt CreatedSince Digest ID Repository SharedSize Size Tag UniqueSize VirtualSize"
        )
    );
    assert_eq!(
        keys(&whole["Containers"][0]),
        words(
            "Command CreatedAt ID Image Labels LocalVolumes Mounts Names Networks Platform Ports RunningFor Size State Status"
        )
    );
    assert_eq!(
        keys(&whole["Volumes"][0]),
        words("Availability Driver Group Labels Links Mountpoint Name Scope Size Status")
    );
    let columns = "{{range .Images}}{{.Repository}} {{.SharedSize}} {{.UniqueSize}} {{.Containers}} {{len .ID}}\n{{end}}";
    let mut lines: Vec<String> =
        run(&["system", "df", "-v", "--format", columns]).lines().map(str::to_owned).collect();
    lines.sort();
    let shared = sum(below);
    assert_eq!(lines, [format!("busybox {shared} 0B 1 71"), format!("layered {shared} 3MB 0 71"),]);
    let volumes = run(&["system", "df", "-v", "--format", "{{range .Volumes}}{{.Links}} {{.Size}},{{end}}"]);
    let mut volumes: Vec<&str> = volumes.split_terminator(',').collect();
    volumes.sort_unstable();
    assert_eq!(volumes, ["0 0B", "1 0B", "1 2.346MB"]);
    let tables = run(&["system", "df", "-v"]);
    let titles: Vec<&str> =
        tables.lines().filter(|line| line.contains("usage:") || line.contains("SIZE")).collect();
    let split: Vec<Vec<&str>> = titles
        .iter()
        .map(|line| line.split("  ").map(str::trim).filter(|w| !w.is_empty()).collect())
        .collect();
    assert_eq!(
        split,
        [
            vec!["Images space usage:"],
            vec![
                "REPOSITORY",
                "TAG",
                "IMAGE ID",
                "CREATED",
                "SIZE",
                "SHARED SIZE",
                "UNIQUE SIZE",
                "CONTAINERS"
            ],
            vec!["Containers space usage:"],
            vec!["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"],
            vec!["Local Volumes space usage:"],
            vec!["VOLUME NAME", "LINKS", "SIZE"],
            vec!["Build cache usage: 0B"],
            vec!["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"],
            // What Docker does not tell.
            vec!["Layers space usage:"],
            vec!["LAYER ID", "SIZE", "IMAGES"],
            vec!["Logs space usage:"],
            vec!["NAMES", "LOG DRIVER", "SIZE"],
        ]
    );
    let used = tables.lines().find(|line| line.ends_with(" used")).unwrap_or_default();
    let cells: Vec<&str> = used.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells[3..5], ["2", "1MB"], "local volumes, and its own size alone: {tables}");
}

/// Bytes with four digits, as Docker's client tells sums.
fn sum(bytes: u64) -> String {
    let text = format!("{:.3}", bytes as f64 / 1e6);
    let text: String = text.chars().take(5).collect();
    format!("{}MB", text.trim_end_matches('0').trim_end_matches('.'))
}

/// An archive of an image that has busybox's layers and one of three million bytes.
fn layered_archive(own: &OwnRoots, dir: &Path) -> String {
    let path = |name: &str| dir.join(name).display().to_string();
    own.run(&["save", "-o", &path("box.tar"), BUSYBOX]).ok();
    let script = r"
import hashlib,io,json,sys,tarfile
source,target=sys.argv[1:]
old=tarfile.open(source)
read=lambda name: old.extractfile(name).read()
entry=json.loads(read('manifest.json'))[0]
config=json.loads(read(entry['Config']))
layer=io.BytesIO()
with tarfile.open(fileobj=layer,mode='w') as tar:
    info=tarfile.TarInfo('more'); info.size=3000000
    tar.addfile(info,io.BytesIO(bytes(3000000)))
layer=layer.getvalue()
config['rootfs']['diff_ids'].append('sha256:'+hashlib.sha256(layer).hexdigest())
files={'c.json':json.dumps(config).encode(),'more.tar':layer}
for name in entry['Layers']: files[name]=read(name)
files['manifest.json']=json.dumps([{'Config':'c.json','RepoTags':['layered:1'],'Layers':entry['Layers']+['more.tar']}]).encode()
with tarfile.open(target,'w') as tar:
    for name,data in files.items():
        info=tarfile.TarInfo(name); info.size=len(data)
        tar.addfile(info,io.BytesIO(data))
";
    Cmd::new("python3", ["-c", script, &path("box.tar"), &path("layered.tar")]).run().ok();
    path("layered.tar")
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
    t.rbox(["inspect", "-f", "{{.Id", &name]).refused(64, &["template parsing error: template: :1"]);
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
        (&["image", "inspect", "nosuch"], 1, "No such image: nosuch:latest"),
        (&["inspect", "--type", "image", "x/nosuch:1"], 1, "No such image: x/nosuch:1"),
        (&["network", "inspect", "nosuch"], 1, "network nosuch not found"),
        (&["volume", "inspect", "nosuch"], 1, "get nosuch: no such volume"),
        (&["stop", "nosuch"], 1, "No such container: nosuch"),
        (&["rmi", "nosuch"], 1, "No such image: nosuch"),
        (&["run", "--network", "nosuch", BUSYBOX], 125, "network nosuch not found"),
        (&["run", "-v", "", BUSYBOX], 125, "invalid empty volume spec"),
        (&["run", "-v", "/a::/b", BUSYBOX], 125, "invalid spec: /a::/b: empty section between colons"),
        (&["run", "-v", "/a:/b:ro:x", BUSYBOX], 125, "invalid spec: /a:/b:ro:x: too many colons"),
        (&["run", "--use-api-socket", BUSYBOX], 125, "no API socket"),
        (&["run", "--log-driver", "fluentd", BUSYBOX], 125, "log driver 'fluentd' is not supported"),
        (&["run", "--log-driver", "bogus", BUSYBOX], 125, "no log driver named 'bogus' is registered"),
        (
            &["run", "--uts", "host", "-h", "x", BUSYBOX],
            125,
            "conflicting options: hostname and the UTS mode",
        ),
        (&["run", "--pid", "container:x", BUSYBOX], 125, "No such container: x"),
        (&["run", "--umask", "9", BUSYBOX], 125, "invalid umask"),
        (&["run", "--kernel-memory", "4m", BUSYBOX], 125, "docker's flag --kernel-memory is not supported"),
        (&["rum", BUSYBOX], 125, "did you mean run?"),
        (&["trust", "x"], 125, "is a docker command that rbox does not have"),
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
    assert_eq!(t.ok(["info", "-f", "{{len .RegistryConfig.Mirrors}}"]), "1", "the suite's registry");
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
        ["--pid", "host", "--ipc", "host", "--uts", "host", "--umask", "0077", "--annotation", "alone"],
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
    t.sleeper(&name, ["--domainname", "example.org", "-h", "box", "--ipc", "none", "--annotation", "a.b=c"]);
    let script = "cat /proc/sys/kernel/domainname; hostname -f; ls -d /dev/shm 2>/dev/null; umask";
    assert_eq!(t.ok(["exec", &name, "sh", "-c", script]), "example.org\nbox.example.org\n0022");
    let shown =
        "{{.Config.Domainname}} {{.HostConfig.IpcMode}} {{.HostConfig.PidMode}}|{{.HostConfig.Annotations}}";
    assert_eq!(t.ok(["inspect", "-f", shown, &name]), "example.org none |map[a.b:c]");
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

/// Ranges of `--expose` are single ports everywhere, and with the host's network no port is open.
#[test]
fn exposed_ports() {
    let Some(t) = Test::start() else { return };
    let name = t.name("exposed");
    let flags = ["--expose", "7000-7002", "--expose", "80", "--expose", "9/udp", "-p", "127.0.0.1:0:80"];
    t.sleeper(&name, flags);
    let shown = t.ok(["inspect", "-f", "{{json .Config.ExposedPorts}}", &name]);
    assert_eq!(shown, r#"{"7000/tcp":{},"7001/tcp":{},"7002/tcp":{},"80/tcp":{},"9/udp":{}}"#);
    let filter = format!("name={name}");
    let column = t.ok(["ps", "--filter", &filter, "--format", "{{.Ports}}"]);
    assert!(column.starts_with("9/udp, 7000-7002/tcp, 127.0.0.1:"), "{column}");
    assert!(column.ends_with("->80/tcp"), "{column}");
    let host = t.name("host");
    t.sleeper(&host, ["--network", "host", "--expose", "80"]);
    assert_eq!(t.ok(["inspect", "-f", "{{json .NetworkSettings.Ports}}", &host]), "{}");
    assert_eq!(t.ok(["ps", "--filter", &format!("name={host}"), "--format", "{{.Ports}}"]), "");
}

/// A script that wants to remove what could not be started gets its id.
#[test]
fn a_detached_run_that_fails_tells_the_id() {
    let Some(t) = Test::start() else { return };
    let name = t.name("failed");
    let out = t.rbox(["run", "-d", "--name", &name, BUSYBOX, "/no/such/program"]).code(127);
    assert_eq!(t.ok(["inspect", "-f", "{{.Id}}", &name]), out.stdout.trim());
    let unset = "{{.HostConfig.Init}} {{.Config.StopTimeout}} {{.SizeRw}}{{if .HostConfig.Init}} set{{end}}";
    assert_eq!(t.ok(["inspect", "-f", unset, &name]), "<nil> <nil> <nil>");
}
