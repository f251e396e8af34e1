//! Services that a program outside of rbox provides.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Cmd, Output, Project, Test};

/// A project, and a directory of programs that is searched first.
struct Provided<'a> {
    project: Project<'a>,
    path: String,
}

impl<'a> Provided<'a> {
    fn new(t: &'a Test, file: &str) -> Self {
        let project = Project::new(t, file);
        fs::create_dir_all(project.dir.join("bin")).unwrap();
        let path = format!("{}:{}", project.dir.join("bin").display(), std::env::var("PATH").unwrap());
        Self { project, path }
    }

    /// A program that notes how it was called, and what else `script` does.
    fn program(&self, name: &str, script: &str) {
        let path = self.project.dir.join("bin").join(name);
        let dir = self.project.dir.display();
        fs::write(&path, format!("#!/bin/sh\necho \"$@\" \"${{MORE-}}\" >> {dir}/calls\n{script}\n"))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn cmd(&self, args: &[&str]) -> Cmd {
        let home = self.project.dir.join("docker");
        self.project.cmd(args).env("PATH", &self.path).env("DOCKER_CONFIG", home.to_str().unwrap())
    }

    fn run(&self, args: &[&str]) -> Output {
        self.cmd(args).run()
    }

    /// What it was called with since the last look.
    fn calls(&self) -> Vec<String> {
        let path = self.project.dir.join("calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

const FILE: &str = "services:
  web:
    image: busybox
    command: env
    environment: {REGION: here, OWN: '1'}
    depends_on: [my-db]
  other: {image: busybox, command: env}
  my-db:
    provider: {type: cloud, options: {size: 5, name: [a, b]}}
";

/// A provider without metadata, which gives variables.
const GIVES: &str = r#"case "$3" in
up)
  echo '{"type": "info", "message": "making a database"}'
  echo '{"type": "debug", "message": "nobody sees this"}'
  printf '{"type": "setenv", "message": "URL=https://db:%s"}' "${PORT-1}"
  echo '{"type": "rawsetenv", "message": "REGION=there"}' ;;
metadata) exit 3 ;;
esac"#;

#[test]
fn a_provider_is_told_what_is_wanted_and_gives_variables() {
    let Some(t) = Test::start() else { return };
    let provided = Provided::new(&t, FILE);
    provided.program("cloud", GIVES);
    provided.project.write(".env", "MORE=from-env\n");
    let out = provided.run(&["up", "-d"]).code(0);
    let name = &provided.project.name;
    let up = format!("compose --project-name={name} up --name=a --name=b --size=5 my-db from-env");
    assert_eq!(provided.calls(), ["compose metadata from-env", &up]);
    for line in ["Service my-db  Creating", "Service my-db  making a database", "Service my-db  Created"] {
        assert!(out.stderr.contains(line), "{line}: {}", out.stderr);
    }
    assert!(!out.stderr.contains("nobody sees this"), "{}", out.stderr);
    let why = "provider \"my-db\" overrides environment variable \"REGION\" in service \"web\"";
    assert!(out.stderr.contains(why), "{}", out.stderr);
    let web = provided.project.container("web");
    t.ok(["wait", &web]);
    let said = t.ok(["logs", &web]);
    assert!(said.contains("MY-DB_URL=https://db:1") && said.contains("REGION=there"), "{said}");
    assert!(said.contains("OWN=1"), "{said}");
    let other = provided.project.container("other");
    t.ok(["wait", &other]);
    assert!(!t.ok(["logs", &other]).contains("MY-DB_URL"));
    assert_eq!(provided.project.names(), ["other-1", "web-1"]);

    // The same variables leave containers alone, others make them again.
    let (before, others) = (provided.project.id("web"), provided.project.id("other"));
    provided.run(&["up", "-d"]).code(0);
    assert_eq!(provided.project.id("web"), before);
    let hash = provided.run(&["config", "--hash", "web"]).ok();
    let label = &provided.project.inspect("web")["Config"]["Labels"]["com.docker.compose.config-hash"];
    assert_eq!(hash, format!("web {}", label.as_str().unwrap()));
    let out = provided.cmd(&["up", "-d"]).env("PORT", "2").run().code(0);
    assert!(out.stderr.contains(&format!("{web}: its providers give it other variables")), "{}", out.stderr);
    assert_ne!(provided.project.id("web"), before);
    assert_eq!(provided.project.id("other"), others);
    // To see what there would be to do, nobody is asked.
    provided.calls();
    let out = provided.run(&["up", "--dry-run"]).code(0);
    assert!(!out.stderr.contains("Recreate"), "{}", out.stderr);
    assert_eq!(provided.calls(), [""; 0]);
    // One more container of a service has them as well.
    let said = provided.run(&["run", "--rm", "web"]).ok();
    assert!(said.contains("MY-DB_URL=https://db:1"), "{said}");
    provided.calls();

    provided.run(&["stop"]).code(0);
    assert_eq!(provided.calls(), ["compose metadata from-env"], "it does not know how to stop");
    let out = provided.run(&["down"]).code(0);
    let down = format!("compose --project-name={name} down --name=a --name=b --size=5 my-db from-env");
    assert_eq!(provided.calls(), ["compose metadata from-env", &down]);
    assert!(out.stderr.contains("Service my-db  Removed"), "{}", out.stderr);
}

/// What a provider says of itself: options that it needs, those that it does not know, and whether it stops.
#[test]
fn a_provider_says_which_options_it_takes() {
    let Some(t) = Test::start() else { return };
    let provided = Provided::new(&t, FILE);
    let metadata = |up: &str| {
        format!(
            "test \"$2\" = metadata && echo '{{\"description\": \"x\", \"up\": {{\"parameters\": [{up}]}}, \"down\": {{}}, \"stop\": {{}}}}'\nexit 0"
        )
    };
    provided.program("cloud", &metadata(r#"{"name": "size", "required": true}"#));
    provided.run(&["create", "web"]).code(0);
    let name = &provided.project.name;
    assert_eq!(
        provided.calls(),
        ["compose metadata", &format!("compose --project-name={name} up --size=5 my-db")]
    );
    let out = provided.run(&["stop"]).code(0);
    assert_eq!(provided.calls(), ["compose metadata", &format!("compose --project-name={name} stop my-db")]);
    assert!(out.stderr.contains("Service my-db  Stopped"), "{}", out.stderr);
    provided.program("cloud", &metadata(r#"{"name": "zone", "required": true}"#));
    let why = "required parameter \"zone\" is missing from provider \"cloud\" definition";
    provided.run(&["up", "-d"]).refused(1, &[why]);
    provided.run(&["down", "my-db"]).code(0);
    assert_eq!(provided.calls().pop(), Some(format!("compose --project-name={name} down my-db")));
    provided.run(&["down"]).code(0);
}

#[test]
fn a_provider_that_fails_keeps_what_depends_on_it_away() {
    let Some(t) = Test::start() else { return };
    let provided = Provided::new(&t, FILE);
    let refused = |words: &[&str]| {
        let out = provided.run(&["up", "-d"]).code(1);
        for word in words {
            assert!(out.stderr.contains(word), "{word}: {}", out.stderr);
        }
        assert_eq!(provided.project.names(), [""; 0]);
    };
    refused(&[
        "service \"my-db\": provider \"cloud\": there is no program of that name in PATH, and no plugin docker-cloud",
    ]);
    provided.program(
        "cloud",
        r#"test "$2" = metadata && exit; echo '{"type": "error", "message": "no quota"}'; exec sleep 1000"#,
    );
    // It is not waited for.
    refused(&["rbox: service \"my-db\": no quota", "Service my-db  Error"]);
    provided.program("cloud", "echo lost >&2; exit 4");
    refused(&["failed to create service provider: exit status: 4", "lost\n"]);
    for (said, why) in [
        ("hello", "invalid response from provider: expected value"),
        (r#"{"type": "what"}"#, "invalid response from provider: unknown type \"what\""),
        (
            r#"{"type": "setenv", "message": "URL"}"#,
            "invalid response from provider: \"URL\" is not NAME=VALUE",
        ),
    ] {
        provided.program("cloud", &format!("test \"$2\" = metadata || echo '{said}'"));
        refused(&[why]);
    }
    provided.project.write("compose.yaml", "services: {a: {provider: {type: compose}}}");
    provided.run(&["up", "-d"]).refused(1, &["'compose' is not a valid provider type"]);
    // A plugin of Docker's command line goes first, and a service of a provider alone is a project.
    fs::create_dir_all(provided.project.dir.join("docker/cli-plugins")).unwrap();
    provided.project.write("compose.yaml", "services: {a: {provider: {type: cloud}}}");
    provided.program("../docker/cli-plugins/docker-cloud", "exit 0");
    provided.calls();
    provided.run(&["up", "-d"]).code(0);
    assert_eq!(provided.calls().len(), 2);
    provided.run(&["down"]).code(0);
}
