//! `rbox compose`: the command line of projects. What files mean is tested in the crate.

use std::fs;

use crate::harness::{Cmd, Project, Test, binary};

const SHOP: &str = "services:\n  web:\n    image: nginx:${TAG:-1}\n    depends_on: [db]\n  db: {image: postgres}\n  tool: {image: busybox, profiles: [debug]}\nvolumes: {data: }\n";

#[test]
fn config_prints_a_project_and_parts_of_it() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("shop");
    let file = dir.join("compose.yaml");
    fs::write(&file, SHOP).unwrap();
    fs::write(dir.join(".env"), "TAG=2\n").unwrap();
    let file = file.to_str().unwrap();
    let config =
        |flags: &[&str]| t.cmd(["compose", "-f", file, "-p", "shop", "config"]).args(flags).run().ok();
    let whole = "name: shop\nservices:\n  db:\n    image: postgres\n    networks:\n      default: null\n  web:\n    depends_on:\n      db:\n        condition: service_started\n        required: true\n    image: nginx:2\n    networks:\n      default: null\nnetworks:\n  default:\n    name: shop_default\n";
    assert_eq!(config(&[]), whole.trim_end());
    assert_eq!(config(&["-q"]), "");
    assert_eq!(config(&["--services"]), "db\nweb");
    assert_eq!(config(&["--images", "db"]), "postgres");
    assert_eq!(config(&["--profiles"]), "debug");
    assert_eq!(config(&["--networks"]), "default");
    let variables = config(&["--variables"]);
    let row: Vec<&str> = variables.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["TAG", "false", "1"], "{variables}");
    let origins = config(&["--origins"]);
    assert!(origins.contains("/.env") && origins.contains("compose.yaml:3:12"), "{origins}");
    assert!(config(&["--environment"]).contains("COMPOSE_PROJECT_NAME=shop\n"));
    assert!(config(&["--format", "json"]).starts_with("{\n  \"name\": \"shop\","));
    let hashes = config(&["--hash", "*"]);
    assert_eq!(hashes.lines().map(|line| line.split(' ').count()).collect::<Vec<_>>(), [2, 2]);
    let out = dir.join("out.yaml");
    assert_eq!(config(&["-o", out.to_str().unwrap()]), "");
    assert_eq!(fs::read_to_string(out).unwrap(), whole);
    let all = t.cmd(["compose", "-f", file, "--profile=debug", "config", "--services"]).run().ok();
    assert_eq!(all, "db\ntool\nweb");
    // What tags are now, from the registry.
    let images =
        "services: {a: {image: busybox, command: sh}, b: {build: .}, c: {build: ., image: x/mine:1}}";
    let pinned =
        |flag: &str| t.cmd(["compose", "-f", "-", "-p", "x", "config", flag]).input(images).run().ok();
    let locked = pinned("--lock-image-digests");
    let image = locked.strip_prefix("services:\n  a:\n    image: docker.io/library/busybox:latest@sha256:");
    let digest = image
        .and_then(|rest| rest.strip_suffix("\n  b: {}\n  c:\n    image: x/mine:1"))
        .unwrap_or_else(|| panic!("{locked}"));
    assert_eq!(digest.len(), 64, "{locked}");
    assert!(pinned("--resolve-image-digests").contains(&format!("latest@sha256:{digest}\n")));
    let piped = t.cmd(["compose", "-f", "-", "-p", "x", "config", "--services"]).input(SHOP).run().ok();
    assert_eq!(piped, "db\nweb");
}

#[test]
fn what_is_wrong_is_one_line_and_code_1() {
    let Some(t) = Test::start() else { return };
    let refused = |text: &str, words: &[&str]| {
        t.cmd(["compose", "-f", "-", "config"]).input(text).run().refused(1, words);
    };
    refused(
        "services: {web: {imge: x}}",
        &[
            "validating -:1:18: services.web additional properties 'imge' not allowed",
            "did you mean 'image'?",
        ],
    );
    refused("services: {web: {image: [}", &["failed to parse -:1:"]);
    t.cmd(["compose", "-f", "/none.yaml", "config"]).run().refused(1, &["open /none.yaml", "o such file"]);
    t.cmd(["compose", "--files", "x", "config"]).run().refused(1, &["--files"]);
    t.cmd(["compose", "-f"]).run().refused(1, &["--file"]);
}

/// Programs look for these names.
#[test]
fn it_goes_by_composes_own_names() {
    let Some(t) = Test::start() else { return };
    for name in ["docker-compose", "rbox-compose"] {
        let script = format!("exec -a {name} \"$0\" -f - config --services");
        let command = t.program("bash", ["-c", &script, binary().to_str().unwrap()]);
        assert_eq!(command.input(SHOP).run().ok(), "db\nweb");
    }
    // A link or a copy, also for what executes itself again before it starts containers.
    let file = "services: {a: {image: busybox, command: sleep 1000, init: true}}";
    let project = Project::new(&t, file);
    let compose = project.dir.join("compose.yaml").display().to_string();
    for (name, link) in [("docker-compose", true), ("rbox-compose", true), ("docker-compose", false)] {
        let own = t.dir("bin").join(name);
        let _ = fs::remove_file(&own);
        if link {
            std::os::unix::fs::symlink(binary(), &own).unwrap();
        } else {
            fs::copy(binary(), &own).unwrap();
        }
        for words in [&["up", "-d"][..], &["exec", "-T", "a", "true"], &["down", "-t", "1"]] {
            let words = [&["-f", &compose, "-p", &project.name], words].concat();
            let command = t.suite.with_roots(Cmd::new(&own, &words));
            let out = command.run();
            assert_eq!(out.code, 0, "{name} {words:?}: {}", out.stderr);
        }
    }
    let help = t.cmd(["compose", "--help"]).run().ok();
    assert!(help.contains("--project-name") && help.contains("config"), "{help}");
}

/// CVE-2025-62725 wrote beside a project through names in files that came from elsewhere.
#[test]
fn names_and_places_that_lead_out_are_refused() {
    let Some(t) = Test::start() else { return };
    let dir = t.dir("project");
    let file = dir.join("compose.yaml");
    let refused = |text: &str, flags: &[&str], why: &str| {
        fs::write(&file, text).unwrap();
        let out = t.cmd(["compose", "-f", file.to_str().unwrap()]).args(flags).args(&["up", "-d"]).run();
        assert!(out.code != 0 && out.stderr.contains(why), "{text} {flags:?}: {} {}", out.code, out.stderr);
    };
    let plain = "services: {a: {image: busybox}}";
    for name in ["../x", "a/b", "..", "/etc"] {
        refused(plain, &["-p", name], "invalid project name");
    }
    for name in ["../x", "a/b"] {
        let service = format!("services: {{a: {{image: busybox, container_name: '{name}'}}}}");
        refused(&service, &[], "does not match pattern");
        let volume = "services: {a: {image: busybox, volumes: ['vol:/v']}}\nvolumes: {vol: {name: 'NAME'}}";
        refused(&volume.replace("NAME", name), &[], "invalid");
        let network = format!("{plain}\nnetworks: {{default: {{name: '{name}'}}}}");
        refused(&network, &[], "invalid network name");
        refused(&format!("services: {{'{name}': {{image: busybox}}}}"), &[], "not allowed");
    }
    let secret = "services: {a: {image: busybox, secrets: [{source: s, target: ../../x}]}}\nsecrets: {s: {environment: PATH}}";
    refused(secret, &[], "the target must be a plain path");
    refused(&secret.replace("secrets", "configs"), &[], "plain path");
    let elsewhere = ["oci://x.example/a:1", "https://x.example/c.yaml"];
    for place in elsewhere {
        refused(
            &format!("include: ['{place}']\n{plain}"),
            &[],
            "compose files are read from this host and from git repositories only",
        );
        let extends = format!("services: {{a: {{extends: {{file: '{place}', service: a}}}}}}");
        refused(&extends, &[], "compose files are read from this host and from git repositories only");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
}
