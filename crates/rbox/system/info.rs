//! `rbox version` and `rbox info`.

use std::fmt::Write as _;

use clap::Parser;
use rbox_engine::engine::{Engine, Paths, Status};
use rbox_engine::host;
use rbox_engine::image::Registries;
use rbox_engine::network::NetworkStore;
use rbox_engine::settings::Settings;
use serde_json::{Value, json};

use crate::command::entry::Execute;
use crate::command::global::Global;
use crate::output::escape;
use crate::output::table::write_all;
use crate::output::units::bytes_size;

/// Show the version
#[derive(Debug, Parser)]
#[command(
    name = "version",
    after_help = "Examples:\n  rbox version\n  rbox version -f '{{.Client.Version}}'"
)]
pub(crate) struct Version {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,
}

/// The kernel's file of this name under /proc/sys/kernel.
fn kernel(name: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned()
}

/// The architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Execute for Version {
    fn execute(self, _: &Global) -> anyhow::Result<u8> {
        let all = versions();
        if let Some(format) = self.format.as_deref() {
            print_formatted(format, &all)?;
            return Ok(0);
        }
        let text = version_text(&all);
        write_all(&mut std::io::stdout(), &text)?;
        Ok(0)
    }
}

/// As Docker's client prints it, without the lines that there is nothing for.
fn version_text(all: &Value) -> String {
    let (client, engine) = (&all["Client"], &all["Server"]["Components"][0]);
    let field = |value: &Value| escape::text(value.as_str().unwrap_or_default()).into_owned();
    let mut out = "Client:\n".to_owned();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<20}{value}");
    };
    row(" Version:", field(&client["Version"]));
    row(" API version:", field(&client["ApiVersion"]));
    row(" OS/Arch:", format!("{}/{}", field(&client["Os"]), field(&client["Arch"])));
    row(" Context:", field(&client["Context"]));
    let details = &engine["Details"];
    let least = field(&details["MinAPIVersion"]);
    out.push_str("\nServer: rbox\n Engine:\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<20}{value}");
    };
    row("  Version:", field(&engine["Version"]));
    row("  API version:", format!("{} (minimum version {least})", field(&details["ApiVersion"])));
    row("  OS/Arch:", format!("{}/{}", field(&details["Os"]), field(&details["Arch"])));
    row("  Kernel version:", field(&details["KernelVersion"]));
    row("  Experimental:", field(&details["Experimental"]));
    out
}

/// The version of Docker's API whose words rbox speaks on the command line.
const API: &str = "1.51";

/// There is no server: the same program answers for both, so that scripts that ask for either go on.
fn versions() -> Value {
    let (version, arch, kernel) = (env!("CARGO_PKG_VERSION"), architecture(), kernel("osrelease"));
    json!({
        "Client": {
            "Version": version,
            "ApiVersion": API,
            "DefaultAPIVersion": API,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": arch,
            "BuildTime": "",
            "Context": crate::system::context::DEFAULT,
        },
        "Server": {
            "Platform": { "Name": "rbox" },
            "Components": [{
                "Name": "Engine",
                "Version": version,
                "Details": {
                    "ApiVersion": API,
                    "Arch": arch,
                    "BuildTime": "",
                    "Experimental": "false",
                    "GitCommit": "",
                    "GoVersion": "",
                    "KernelVersion": kernel,
                    "MinAPIVersion": API,
                    "Os": "linux",
                },
            }],
            "Version": version,
            "ApiVersion": API,
            "MinAPIVersion": API,
            "GitCommit": "",
            "GoVersion": "",
            "Os": "linux",
            "Arch": arch,
            "KernelVersion": kernel,
            "BuildTime": "",
        },
    })
}

fn print_formatted(format: &str, value: &Value) -> anyhow::Result<()> {
    let text = match format {
        "" | "json" => escape::json(&value.to_string()).into_owned(),
        template => crate::inspect::parse(template)?.render(value)?,
    };
    Ok(write_all(&mut std::io::stdout(), &format!("{text}\n"))?)
}

/// Display system-wide information
#[derive(Debug, Parser)]
#[command(
    name = "info",
    after_help = "Examples:\n  rbox info\n  rbox info -f '{{.ContainersRunning}} of {{.Containers}}'"
)]
pub(crate) struct Info {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,
}

impl Execute for Info {
    fn execute(self, global: &Global) -> anyhow::Result<u8> {
        let value = gather(global)?;
        if let Some(format) = self.format.as_deref() {
            print_formatted(format, &value)?;
            return Ok(0);
        }
        write_all(&mut std::io::stdout(), &text(&value))?;
        for warning in value["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let line = format!("WARNING: {}\n", escape::text(warning));
            write_all(&mut std::io::stderr(), &line)?;
        }
        Ok(0)
    }
}

fn gather(global: &Global) -> anyhow::Result<Value> {
    let containers = global.engine.containers()?;
    let count = |status: Status| containers.iter().filter(|one| one.status == status).count();
    let (running, paused) = (count(Status::Running) + count(Status::Restarting), count(Status::Paused));
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory: u64 = file("/proc/meminfo")
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let system = file("/etc/os-release")
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned());
    let os_version = file("/etc/os-release")
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_ID="))
        .map_or_else(String::new, |version| version.trim_matches('"').to_owned());
    let cgroups = host::cgroups();
    let controllers: Vec<String> =
        cgroups.iter().flat_map(|cgroups| &cgroups.controllers).map(|(name, _)| name.clone()).collect();
    let has = |name: &str| controllers.iter().any(|controller| controller == name);
    let (has_memory, has_cpu) = (has("memory"), has("cpu"));
    // A file that cannot be used is for the pull to refuse.
    let registries = Registries::load().unwrap_or_default();
    let mirrors = registries.mirrors("docker.io");
    let mut out = json!({
        "ID": id(global.engine.paths()),
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers.len() - running - paused,
        "Images": global.engine.images()?.list()?.len(),
        "Driver": "overlay2",
        "DriverStatus": [],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": ["journald", "json-file", "local", "none", "syslog"],
        },
        "MemoryLimit": has_memory,
        "SwapLimit": has_memory,
        "CpuCfsPeriod": has_cpu,
        "CpuCfsQuota": has_cpu,
        "CPUShares": has_cpu,
        "CPUSet": has("cpuset"),
        "PidsLimit": has("pids"),
        "IPv4Forwarding": file("/proc/sys/net/ipv4/ip_forward").trim() == "1",
        "Debug": false,
        "NFd": 0,
        "OomKillDisable": has_memory,
        "NGoroutines": 0,
        "SystemTime": jiff::Timestamp::now().to_string(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroups.as_ref().map_or_else(|| "none".to_owned(), |found| found.version.to_string()),
        "NEventsListener": 0,
        "KernelVersion": kernel("osrelease"),
        "OperatingSystem": system,
        "OSVersion": os_version,
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": [],
            "IndexConfigs": {
                "docker.io": { "Name": "docker.io", "Mirrors": mirrors, "Secure": true, "Official": true },
            },
            "Mirrors": mirrors,
        },
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": memory * 1024,
        "GenericResources": null,
    });
    let rest = about_rbox(global, &controllers, cgroups.is_some());
    if let (Some(fields), Value::Object(rest)) = (out.as_object_mut(), rest) {
        fields.extend(rest);
    }
    Ok(out)
}

/// The second half of `info`: less of the host, more of rbox. Where Docker has parts that rbox has not, they are off.
fn about_rbox(global: &Global, controllers: &[String], has_cgroups: bool) -> Value {
    let mut warnings = Vec::new();
    let settings = Settings::load().unwrap_or_else(|error| {
        warnings.push(error.to_string());
        Settings::default()
    });
    let devices = global.engine.named_devices(&settings);
    warnings.extend(devices.wrong.iter().map(|why| format!("CDI: {why}")));
    warnings.extend(warnings_of_host(&global.engine, has_cgroups));
    let discovered: Vec<Value> =
        devices.names.iter().map(|name| json!({ "Source": "cdi", "ID": name })).collect();
    json!({
        "DockerRootDir": global.engine.paths().root.display().to_string(),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": kernel("hostname"),
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Runtimes": { "rbox": { "path": "rbox" } },
        "DefaultRuntime": "rbox",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        // Containers run on whatever becomes of the command that started them.
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "docker-init",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "SecurityOptions": security_options(settings.userns()),
        "CDISpecDirs": devices.directories,
        "DiscoveredDevices": discovered,
        "Warnings": warnings,
        "ClientInfo": {
            "Debug": false,
            "Version": env!("CARGO_PKG_VERSION"),
            "Context": crate::system::context::DEFAULT,
            "Plugins": [],
            "Warnings": null,
        },
        "CgroupControllers": controllers,
        "StateDir": global.engine.paths().state.display().to_string(),
    })
}

/// A name for this host and root directory that stays the same: a digest of the machine's own, which is not shown itself.
fn id(paths: &Paths) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_else(|_| kernel("hostname"));
    let text = format!("{}:{}", machine.trim(), paths.root.display());
    // FNV-1a, from two beginnings.
    let hash = |begin: u64| {
        text.bytes().fold(begin, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let (a, b) = (hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

/// The walls that containers get here by default. Where they have a user namespace unless they are told otherwise, that is one.
fn security_options(userns: Option<&str>) -> Vec<&'static str> {
    let apparmor = host::confines_by_apparmor().then_some("name=apparmor");
    let userns = userns.filter(|mode| *mode != "host").map(|_| "name=userns");
    apparmor.into_iter().chain(["name=seccomp,profile=builtin", "name=cgroupns"]).chain(userns).collect()
}

/// What will not work here, and why.
fn warnings_of_host(engine: &Engine, has_cgroups: bool) -> Vec<String> {
    let mut out = Vec::new();
    if !has_cgroups {
        out.push("no control groups are mounted: containers cannot be limited".to_owned());
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.trim_start_matches("nodev").trim() == "overlay") {
        out.push("overlay is not loaded: containers start once the kernel module overlay is".to_owned());
    }
    // A list that cannot be had (no nf_tables) is no warning: the first container with a network reports that.
    for chain in NetworkStore::forward_drops().unwrap_or_default() {
        out.push(format!(
            "the firewall chain {chain} drops what is forwarded: containers reach nothing outside until it accepts rbox's bridges"
        ));
    }
    if engine.networks().guard_missing().unwrap_or(false) {
        out.push(
            "this kernel has no nftables for bridges: containers of one network can send with each other's addresses"
                .to_owned(),
        );
    }
    out
}

/// As Docker's client prints it: a client and a server, though both are this program.
fn text(value: &Value) -> String {
    let mut out = "Client:\n".to_owned();
    let client = &value["ClientInfo"];
    for (name, field) in [("Version:   ", "Version"), ("Context:   ", "Context"), ("Debug Mode:", "Debug")] {
        let _ = writeln!(out, " {name} {}", plain(&client[field]));
    }
    out.push_str("\nServer:\n");
    let mut row = |name: &str, field: &Value| {
        let _ = writeln!(out, " {name}: {}", plain(field));
    };
    for (name, field) in [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
        ("Cgroup Controllers", "CgroupControllers"),
    ] {
        row(name, &value[field]);
    }
    row("Plugins", &"".into());
    for name in ["Volume", "Network", "Log"] {
        row(&format!(" {name}"), &value["Plugins"][name]);
    }
    devices(&mut row, value);
    row("Swarm", &value["Swarm"]["LocalNodeState"]);
    row("Runtimes", &value["DefaultRuntime"]);
    row("Default Runtime", &value["DefaultRuntime"]);
    row("Security Options", &"".into());
    for option in value["SecurityOptions"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        for (key, text) in option.split(',').filter_map(|part| part.split_once('=')) {
            match key {
                "name" => row(" ", &text.into()),
                _ => row("  Profile", &text.into()),
            }
        }
    }
    for (name, field) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ] {
        row(name, &value[field]);
    }
    row("Total Memory", &bytes_size(value["MemTotal"].as_u64().unwrap_or(0)).into());
    for (name, field) in [
        ("Name", "Name"),
        ("ID", "ID"),
        ("Docker Root Dir", "DockerRootDir"),
        ("State Dir", "StateDir"),
        ("Debug Mode", "Debug"),
        ("Experimental", "ExperimentalBuild"),
    ] {
        row(name, &value[field]);
    }
    let mirrors = &value["RegistryConfig"]["Mirrors"];
    if mirrors.as_array().is_some_and(|mirrors| !mirrors.is_empty()) {
        row("Registry Mirrors", &"".into());
        for mirror in mirrors.as_array().into_iter().flatten() {
            row(" ", mirror);
        }
    }
    row("Live Restore Enabled", &value["LiveRestoreEnabled"]);
    // What stands alone has no colon, and what has nothing behind it no space.
    let lines = out.lines().map(|line| line.trim_end().replacen("  : ", "  ", 1));
    lines.map(|line| line + "\n").collect::<String>() + "\n"
}

/// Where devices by name come from, and which there are.
fn devices(row: &mut dyn FnMut(&str, &Value), value: &Value) {
    row("CDI spec directories", &"".into());
    for dir in value["CDISpecDirs"].as_array().into_iter().flatten() {
        row(" ", dir);
    }
    let devices = value["DiscoveredDevices"].as_array();
    if let Some(devices) = devices.filter(|devices| !devices.is_empty()) {
        row("Discovered Devices", &"".into());
        for device in devices {
            row(&format!(" {}", plain(&device["Source"])), &device["ID"]);
        }
    }
}

/// A field as text; a list as its items.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => escape::text(text).into_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
