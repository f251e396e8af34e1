//! `RUN --device`: devices by their names in CDI, for the programs of a build.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::build::Builds;
use crate::cdi::Specs;
use crate::harness::{BUSYBOX, Output, Test};

const KIND: &str = "vendor.example/part";

fn build(b: &Builds, specs: &Specs, text: &str, flags: &[&str]) -> Output {
    b.file("Dockerfile", text);
    let args = [&["build", "-t", "made"], flags, &[b.dir.to_str().unwrap()]].concat();
    b.own.cmd(&args).env("RBOX_CONFIG", &specs.config).limit(Duration::from_mins(1)).run()
}

fn built(b: &Builds, specs: &Specs, text: &str, flags: &[&str]) -> String {
    let out = build(b, specs, text, flags);
    assert_eq!(out.code, 0, "{}", out.stderr);
    out.stderr
}

#[test]
fn a_run_gets_what_a_device_brings_and_the_image_does_not() {
    let Some(t) = Test::start() else { return };
    let (b, specs) = (Builds::new(&t), Specs::new(&t));
    let share = t.dir("share");
    fs::write(share.join("library"), "of the vendor\n").unwrap();
    let hooked = t.dir("hooked");
    let hook = |name: &str| {
        let script = format!("touch {}/{name}", hooked.display());
        json!({ "hookName": name, "path": "/bin/sh", "args": ["sh", "-c", script] })
    };
    let zero = json!({
        "env": ["PART=zero"],
        "deviceNodes": [
            { "path": "/dev/part", "hostPath": "/dev/zero", "permissions": "r" },
            { "path": "/dev/part-log", "hostPath": "/dev/kmsg", "permissions": "r" },
        ],
        "mounts": [
            { "hostPath": share, "containerPath": "/usr/lib/vendor//deep/", "options": ["ro", "rbind"] },
            { "hostPath": share.join("library"), "containerPath": "/library", "options": ["ro", "rbind"] },
        ],
        "hooks": [hook("prestart"), hook("poststop")],
    });
    specs.write("part.json", &json!({ "zero": zero }), &json!({ "env": ["ALL=1"] }));
    let text = format!(
        "FROM {BUSYBOX}\nRUN --device={KIND}=zero echo $PART $ALL $(cat /library /usr/lib/vendor/deep/library) > /made; \
         head -c 3 /dev/part | wc -c >> /made; echo x 2>/dev/null > /dev/part-log || echo refused >> /made\nRUN echo $PART- >> /made; ls /dev/part || true\n"
    );
    let allow = format!("--allow=device={KIND}=zero");
    let said = built(&b, &specs, &text, &[&allow]);
    assert!(said.contains("ls: /dev/part: No such file"), "{said}");
    assert_eq!(b.sh("cat /made"), "zero 1 of the vendor of the vendor\n3\nrefused\n-");
    // Neither what was mounted nor the places for it.
    assert_eq!(b.sh("ls -d /usr/lib/vendor /library 2>/dev/null || true; env | grep -c PART || true"), "0");
    for name in ["prestart", "poststop"] {
        assert!(hooked.join(name).exists(), "{name}");
    }
    // What the file says decides nothing about the cache; the device's name does.
    let mut other = zero.clone();
    other["env"] = json!(["PART=other"]);
    specs.write("part.json", &json!({ "zero": other, "one": zero }), &json!({}));
    let said = built(&b, &specs, &text, &[&allow]);
    assert_eq!(said.lines().filter(|line| line.ends_with(" CACHED")).count(), 3, "{said}");
    let said = built(&b, &specs, &text.replace("=zero", "=one"), &["--allow", "device"]);
    assert!(
        said.contains(&format!("not cached: device {KIND}=zero is gone")) || said.contains("=one is new"),
        "{said}"
    );
    // It is a device of this host: no cache is carried to another one.
    let to = t.dir("carried");
    let to = format!("--cache-to=type=local,dest={}", to.display());
    let said = built(&b, &specs, &text, &[&allow, &to]);
    assert!(said.contains("1 steps are this host's alone"), "{said}");
    b.is_tidy();
}

#[test]
fn what_is_not_allowed_or_not_there() {
    let Some(t) = Test::start() else { return };
    let (b, specs) = (Builds::new(&t), Specs::new(&t));
    let env = |value: &str| json!({ "env": [format!("PART={value}")] });
    specs.write("part.json", &json!({ "a": env("a"), "b": env("b") }), &json!({}));
    let free = json!({
        "cdiVersion": "0.7.0", "kind": "vendor.example/free",
        "devices": [
            { "name": "x", "annotations": { "org.mobyproject.buildkit.device.autoallow": "true" }, "containerEdits": env("x") },
            { "name": "y", "annotations": { "org.mobyproject.buildkit.device.class": "big" }, "containerEdits": env("y") },
        ],
    });
    fs::write(specs.first.join("free.json"), free.to_string()).unwrap();
    let run = |device: &str| format!("FROM {BUSYBOX}\nRUN --device={device} echo \"part: $PART\"\n");
    for (device, flags, shown) in [
        ("vendor.example/part=a", &["--allow", "device"][..], "part: a"),
        // A class is its first device.
        ("vendor.example/part", &["--allow", "device=vendor.example/part=a"], "part: a"),
        ("vendor.example/part=b", &["--allow", "device=vendor.example/part=*"], "part: b"),
        ("name=vendor.example/part=b,required", &["--allow", "device=vendor.example/part=b"], "part: b"),
        ("gpu", &["--allow", "device=vendor.example/part=b,alias=gpu"], "part: b"),
        ("vendor.example/free=x,required=true", &[], "part: x"),
        ("vendor.example/free=big", &["--allow", "device=vendor.example/free=y"], "part: y"),
        ("vendor.example/part=c", &[], "without device vendor.example/part=c: it is not registered"),
    ] {
        let said = built(&b, &specs, &run(device), &[&["--no-cache"], flags].concat());
        assert!(said.contains(shown), "{device} {flags:?}: {said}");
    }
    let last = |out: Output| {
        assert_eq!(out.code, 1, "{}", out.stderr);
        out.stderr.lines().last().unwrap_or_default().to_owned()
    };
    for (device, flags, why) in [
        (
            "vendor.example/part=a",
            &["--allow", "device=vendor.example/part=b"][..],
            "device vendor.example/part=a is requested by the build but not allowed: give --allow device=vendor.example/part=a to the build",
        ),
        (
            "vendor.example/part=*",
            &[],
            "devices vendor.example/part=a, vendor.example/part=b are requested by the build but not allowed: give --allow",
        ),
        (
            "vendor.example/part=c,required",
            &["--allow", "device"],
            "required device \"vendor.example/part=c\" is not registered",
        ),
        ("vendor.example/free=y", &[], "device vendor.example/free=y is requested"),
        ("nonsense", &["--allow", "device"], "invalid device \"nonsense\""),
    ] {
        let said = last(build(&b, &specs, &run(device), flags));
        assert!(said.starts_with("rbox: failed to solve: ") && said.contains(why), "{device}: {said}");
    }
    // What was carried out with leave is not to be had from the cache without it.
    built(&b, &specs, &run("vendor.example/part=a"), &["--allow", "device"]);
    let said = last(build(&b, &specs, &run("vendor.example/part=a"), &[]));
    assert!(said.contains("not allowed"), "{said}");
    fs::write(specs.second.join("torn.json"), "{").unwrap();
    let said = last(build(&b, &specs, &run("vendor.example/part=c,required"), &[]));
    assert!(said.contains("torn.json"), "{said}");
    let dir = b.dir.to_str().unwrap();
    for (allow, why) in
        [("devices", "unknown entitlement devices"), ("device=a,b=c", "unknown device config key \"b\"")]
    {
        b.own.run(&["build", "--allow", allow, dir]).refused(125, &[why]);
    }
    b.is_tidy();
}
