//! `inspect`: Docker's JSON shape.

use serde_json::Value;

use crate::harness::{BUSYBOX, Test};

#[test]
fn has_the_keys_that_dockers_users_read() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let id = t.sleeper(&name, ["-p", "127.0.0.1::80", "-e", "A=b", "-v", "/inside", "--hostname", "hh"]);
    let c = t.inspect(&name);
    assert_eq!(c["Id"], id.as_str());
    assert_eq!(c["Name"], format!("/{name}"));
    assert_eq!(c["Path"], "sh");
    assert_eq!(c["Args"][0], "-c");
    for key in [
        "Created",
        "State",
        "Image",
        "ResolvConfPath",
        "HostnamePath",
        "HostsPath",
        "LogPath",
        "RestartCount",
        "Driver",
        "Platform",
        "MountLabel",
        "ProcessLabel",
        "HostConfig",
        "GraphDriver",
        "Mounts",
        "Config",
        "NetworkSettings",
    ] {
        assert!(!c[key].is_null(), "{key}: {c:#}");
    }
    for key in [
        "Status",
        "Running",
        "Paused",
        "Restarting",
        "OOMKilled",
        "Dead",
        "Pid",
        "ExitCode",
        "Error",
        "StartedAt",
        "FinishedAt",
    ] {
        assert!(!c["State"][key].is_null(), "State.{key}: {:#}", c["State"]);
    }
    for key in
        ["Hostname", "User", "AttachStdin", "Tty", "OpenStdin", "Env", "Cmd", "Image", "Labels", "WorkingDir"]
    {
        assert!(c["Config"].get(key).is_some(), "Config.{key}: {:#}", c["Config"]);
    }
    for key in [
        "Binds",
        "NetworkMode",
        "PortBindings",
        "RestartPolicy",
        "AutoRemove",
        "CapAdd",
        "CapDrop",
        "Privileged",
        "ReadonlyRootfs",
        "Memory",
        "NanoCpus",
        "ShmSize",
        "MaskedPaths",
        "ReadonlyPaths",
        "LogConfig",
    ] {
        assert!(c["HostConfig"].get(key).is_some(), "HostConfig.{key}: {:#}", c["HostConfig"]);
    }
    assert_eq!(c["Config"]["Hostname"], "hh");
    assert!(
        c["Config"]["ExposedPorts"]["80/tcp"].is_object(),
        "what is published is exposed: {:#}",
        c["Config"]
    );
    assert!(c["Config"]["Env"].as_array().unwrap().contains(&Value::from("A=b")));
    assert!(c["Image"].as_str().unwrap().starts_with("sha256:"));
    let binding = &c["NetworkSettings"]["Ports"]["80/tcp"][0];
    assert_eq!(binding["HostIp"], "127.0.0.1");
    assert!(binding["HostPort"].as_str().unwrap().parse::<u16>().is_ok());
    assert!(
        c["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
            .as_str()
            .unwrap()
            .parse::<std::net::Ipv4Addr>()
            .is_ok()
    );
    assert_eq!(c["Mounts"][0]["Destination"], "/inside");
    assert_eq!(c["Mounts"][0]["Type"], "volume");
    assert_eq!(c["Mounts"][0]["RW"], true);
}

#[test]
fn formats_and_types() {
    let Some(t) = Test::start() else { return };
    let name = t.name("c");
    let id = t.sleeper(&name, []);
    assert_eq!(t.ok(["inspect", "--format", "{{.Name}} {{.State.Running}}", &name]), format!("/{name} true"));
    assert_eq!(t.ok(["inspect", "-f", "{{json .State.Running}}", &name]), "true");
    assert!(t.ok(["inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", &name]).contains("PATH="));
    let ip = t.ok(["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &name]);
    assert!(ip.parse::<std::net::Ipv4Addr>().is_ok(), "{ip}");
    // Keys that the JSON leaves out while they hold nothing are known to templates.
    let unset = "{{if .State.Health}}{{.State.Health.Status}}{{end}}[{{.Config.StopSignal}}]{{json .Config.Healthcheck}}";
    assert_eq!(t.ok(["inspect", "-f", unset, &name]), "[]null");
    assert_eq!(t.ok(["inspect", "-f", "{{json .Config.Shell}}[{{.Variant}}]", BUSYBOX]), "null[]");
    let several: Value = serde_json::from_str(&t.ok(["inspect", &name, BUSYBOX])).unwrap();
    assert_eq!(several[0]["Id"], id.as_str());
    assert_eq!(several[1]["RepoTags"][0], "busybox:latest");
    t.rbox(["inspect", "--type", "image", &name]).code(1);
    assert_eq!(t.ok(["inspect", "--type", "container", "-f", "{{.Id}}", &name]), id);
    assert_eq!(t.ok(["container", "inspect", "-f", "{{.Id}}", &name]), id);
    let out = t.rbox(["inspect", "no-such-thing"]).code(1);
    assert!(out.stdout.starts_with("[]"), "Docker prints an empty list: {}", out.stdout);
    assert!(out.stderr.to_lowercase().contains("no such object: no-such-thing"), "{}", out.stderr);
    // As Docker's client, every inspect.
    for group in ["container", "image", "network", "volume", "context"] {
        t.rbox([group, "inspect", "-f", "{{.Nonsense", "default"])
            .refused(64, &["template parsing error: template: :1:"]);
    }
    t.rbox(["inspect", "-f", "{{", &name]).refused(64, &["template parsing error: template: :1:"]);
    assert_eq!(t.ok(["network", "inspect", "-v", "-f", "{{.Name}}", "bridge"]), "bridge");
}

#[test]
fn an_ambiguous_prefix_is_no_name() {
    let Some(t) = Test::start() else { return };
    // Seventeen containers: two of them begin with the same hex digit.
    let ids: Vec<_> = (0..17).map(|_| t.ok(["create", BUSYBOX])).collect();
    let shared = ids
        .iter()
        .find_map(|a| ids.iter().find(|b| *b != a && b[..1] == a[..1]).map(|_| a[..1].to_owned()))
        .unwrap();
    t.rbox(["rm", &shared]).refused(1, &[&shared]);
    assert_eq!(t.ok(["ps", "-aq"]).lines().count(), 17);
}
