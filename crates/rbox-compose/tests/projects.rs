//! Whole projects beside what Docker Compose 2.40.3 printed for them (`expected.*` in `projects/NAME`), and what is refused.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rbox_compose::model::Condition;
use rbox_compose::{Loaded, Options, Origin, Shell, load};

fn projects() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects");
    let mut all: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

fn options(directory: &Path) -> Options {
    Options {
        directory: directory.to_owned(),
        environment: Shell::of([("HOME", "/root")]),
        ..Options::default()
    }
}

/// What is expected, with the directory's real name.
fn expected(directory: &Path, name: &str) -> String {
    let text = fs::read_to_string(directory.join(name)).unwrap();
    text.replace("@HERE@", directory.to_str().unwrap())
}

#[track_caller]
fn same(of: &Path, got: &str, wanted: &str) {
    for (line, (got, wanted)) in got.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(got, wanted, "{}: line {}", of.display(), line + 1);
    }
    assert_eq!(got, wanted, "{}", of.display());
}

#[test]
fn projects_are_printed_as_docker_compose_prints_them() {
    let projects = projects();
    assert_eq!(projects.len(), 8);
    for directory in projects {
        let loaded = load(&options(&directory)).unwrap();
        same(&directory, &loaded.to_yaml().unwrap(), &expected(&directory, "expected.yaml"));
        same(&directory, &loaded.to_json().unwrap(), &expected(&directory, "expected.json"));
        let plain = Options { interpolate: false, ..options(&directory) };
        let written = load(&plain).unwrap().to_yaml().unwrap();
        same(&directory, &written, &expected(&directory, "expected.written.yaml"));
        let plain = Options { normalize: false, resolve_paths: false, ..options(&directory) };
        let written = load(&plain).unwrap().to_yaml().unwrap();
        same(&directory, &written, &expected(&directory, "expected.plain.yaml"));
    }
}

#[test]
fn services_have_docker_composes_hashes() {
    // The hash is of paths too: these projects have none of this machine in their services.
    for name in ["profiles", "words", "yaml"] {
        let directory = projects().into_iter().find(|path| path.ends_with(name)).unwrap();
        let options = Options { resolve_environment: false, ..options(&directory) };
        let loaded = load(&options).unwrap();
        let services = loaded.project.services.iter();
        let got: Vec<String> =
            services.map(|(name, service)| format!("{name} {}", service.config_hash())).collect();
        same(&directory, &(got.join("\n") + "\n"), &expected(&directory, "expected.hashes"));
    }
}

/// A directory with files, loaded.
fn given(files: &[(&str, &str)], change: impl FnOnce(&mut Options)) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let mut options = options(directory.path());
    options.name = Some("p".into());
    change(&mut options);
    let here = directory.path().to_str().unwrap().to_owned();
    load(&options).map_err(|error| {
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            text = format!("{text}: {cause}");
        }
        text.replace(&here, "")
    })
}

fn refused(text: &str) -> String {
    given(&[("compose.yaml", text)], |_| {}).unwrap_err()
}

#[test]
fn the_model_has_types() {
    let loaded = given(
        &[
            (
                "compose.yaml",
                "services:\n  web:\n    image: x\n    stop_grace_period: 1m30s\n    mem_limit: 64m\n    ports: ['8080-8081:80-81']\n    depends_on: {db: {condition: service_healthy, restart: true}}\n    secrets: [{source: s, mode: '0400'}]\n    ulimits: {nofile: 5}\n    environment: [A=$A, B]\n    network_mode: service:db\n  db: {image: y, profiles: [''], ipc: 'service:side'}\n  side: {image: z}\nsecrets: {s: {environment: A}}\n",
            ),
            (".env", "A=file\n"),
        ],
        |options| options.profiles = vec!["*".into()],
    )
    .unwrap();
    let web = loaded.project.service("web").unwrap();
    assert_eq!(web.stop_grace_period, Some(Duration::from_secs(90)));
    assert_eq!(web.mem_limit, 64 << 20);
    let ports: Vec<(u16, &str)> =
        web.ports.iter().map(|port| (port.target, port.published.as_str())).collect();
    assert_eq!(ports, [(80, "8080"), (81, "8081")]);
    let db = &web.depends_on["db"];
    assert_eq!((db.condition, db.restart, db.required), (Condition::Healthy, true, true));
    assert_eq!(web.secrets[0].mode, Some(0o400));
    assert_eq!((web.ulimits["nofile"].soft, web.ulimits["nofile"].hard), (5, 5));
    assert_eq!(web.environment["A"].as_deref(), Some("file"));
    assert_eq!(web.environment["B"], None);
    assert!(web.networks.is_empty());
    assert!(loaded.project.service("db").unwrap().depends_on.contains_key("side"));
    assert_eq!(loaded.project.secrets["s"].content.as_deref(), Some("file"));
    let a = loaded.variables.iter().find(|used| used.name == "A").unwrap();
    let variable = a.variable.as_ref().unwrap();
    assert!(matches!(&variable.origin, Origin::File(path) if path.ends_with(".env")));
    assert_eq!((a.places.len(), a.places[0].line), (1, 10));
}

#[test]
fn the_shell_wins_over_files_and_files_over_earlier_ones() {
    let files = [
        ("compose.yaml", "services: {web: {image: \"$A $B $C $D\"}}\n"),
        ("one.env", "A=1\nB=1\nC=1\n"),
        ("two.env", "B=2\nC=2$A\nD=$SHELL\n"),
        (".env", "A=dot\n"),
    ];
    let loaded = given(&files, |options| {
        options.environment = Shell::of([("C", "shell"), ("SHELL", "sh")]);
        options.env_files = vec!["one.env".into(), "two.env".into()];
    });
    assert_eq!(loaded.unwrap().project.services["web"].image, "1 2 shell sh");
}

#[test]
fn what_has_no_value_is_warned_of_once() {
    let loaded = given(
        &[("compose.yaml", "version: '3'\nservices: {web: {image: \"x$A$A\", tty: \"yes\"}}\n")],
        |_| {},
    );
    let warnings = loaded.unwrap().warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings.contains(&"The \"A\" variable is not set. Defaulting to a blank string.".into()));
    assert!(warnings.iter().any(|warning| warning.contains("the attribute `version` is obsolete")));
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let table = [
        (
            "services: {web: {}}",
            "service \"web\" has neither an image nor a build context specified: invalid compose project",
        ),
        (
            "services: {web: {image: x, depends_on: [db]}}",
            "service \"web\" depends on undefined service \"db\": invalid compose project",
        ),
        (
            "services: {a: {image: x, depends_on: [b]}, b: {image: x, links: [a]}}",
            "dependency cycle detected: a -> b -> a",
        ),
        (
            "services: {web: {image: x, volumes: ['data:/v']}}",
            "service \"web\" refers to undefined volume data: invalid compose project",
        ),
        (
            "services: {web: {image: x, networks: [n]}}",
            "service \"web\" refers to undefined network n: invalid compose project",
        ),
        (
            "services: {web: {image: x, secrets: [s]}}",
            "service \"web\" refers to undefined secret s: invalid compose project",
        ),
        (
            "services: {web: {image: x, network_mode: host, networks: [default]}}",
            "service web declares mutually exclusive `network_mode` and `networks`: invalid compose project",
        ),
        (
            "services: {web: {image: x, container_name: cc, scale: 2}}",
            "services.web: can't set container_name and scale as container name must be unique: invalid compose project",
        ),
        (
            "services: {web: {image: x, scale: 2, deploy: {replicas: 3}}}",
            "services.web: can't set distinct values on 'scale' and 'deploy.replicas': invalid compose project",
        ),
        (
            "services: {web: {image: x, tmpfs: [/a], volumes: [/a]}}",
            "services.web.volumes[0]: target /a already mounted as services.web.tmpfs[0]",
        ),
        (
            "services: {web: {image: x}}\nsecrets: {s: {}}",
            "validating /compose.yaml:2:14: secrets.s: one of file|environment must be set",
        ),
        (
            "services: {web: {image: x}}\nvolumes: {v: {external: true, driver: x}}",
            "validating /compose.yaml:2:31: volumes.v: conflicting parameters \"external\" and \"driver\" specified",
        ),
        (
            "services: {web: {image: \"${A:?set A}\"}}",
            "/compose.yaml:1:25: error while interpolating services.web.image: required variable A is missing a value: set A",
        ),
        (
            "services: {web: {image: \"${A\"}}",
            "/compose.yaml:1:25: invalid interpolation format for services.web.image: \"${A\". You may need to escape any $ with another $",
        ),
        (
            "services: {web: {image: x, tty: maybe}}",
            "/compose.yaml:1:33: error while interpolating services.web.tty: failed to cast to expected type: invalid boolean: maybe",
        ),
        (
            "services: {web: {extends: web}}",
            "validating /compose.yaml:1:27: Circular reference: web in /compose.yaml extends web in /compose.yaml",
        ),
        (
            "services: {web: {extends: {service: x, file: none.yaml}}}",
            "open /none.yaml: No such file or directory (os error 2)",
        ),
        (
            "include: [compose.yaml]\nservices: {web: {image: x}}",
            "validating /compose.yaml:1:11: include cycle detected: /compose.yaml include /compose.yaml",
        ),
        (
            "include: ['oci://x/y']",
            "oci://x/y: compose files are read from this host and from git repositories only; fetch it first and name the local file",
        ),
        (
            "services: {web: {image: x, ports: ['x:80']}}",
            "validating /compose.yaml:1:36: services.web.ports: invalid hostPort: x",
        ),
        (
            "services: {web: {image: x, stop_grace_period: '30'}}",
            "validating /compose.yaml:1:47: services.web.stop_grace_period: time: missing unit in duration \"30\"",
        ),
        (
            "services: {web: {image: x, mem_limit: lots}}",
            "validating /compose.yaml:1:39: services.web.mem_limit: invalid size: 'lots'",
        ),
        (
            "services: {web: {image: x, env_file: none}}",
            "env file /none not found: stat /none: no such file or directory",
        ),
        ("[]", "validating /compose.yaml:1:1: top-level object must be a mapping"),
        ("", "empty compose file"),
    ];
    for (text, wanted) in table {
        assert_eq!(refused(text), wanted, "{text}");
    }
}

#[test]
fn names_of_projects_are_normal() {
    let text = "name: My.Shop_1\nservices: {a: {image: x}}\n";
    let name = |change: fn(&mut Options)| {
        given(&[("compose.yaml", text)], |options| {
            options.name = None;
            change(options);
        })
        .map(|loaded| loaded.project.name)
    };
    assert_eq!(name(|_| {}).unwrap(), "myshop_1");
    assert_eq!(name(|options| options.name = Some("given".into())).unwrap(), "given");
    let by_environment = |options: &mut Options| {
        options.environment = Shell::of([("COMPOSE_PROJECT_NAME", "env")]);
    };
    assert_eq!(name(by_environment).unwrap(), "env");
    let wrong = name(|options| options.name = Some("No".into())).unwrap_err();
    assert!(wrong.starts_with("invalid project name \"No\": must consist only of lowercase"), "{wrong}");
}

#[test]
fn files_are_found_in_parents_with_their_overrides() {
    let files = [
        ("docker-compose.yml", "services: {a: {image: one}}\n"),
        ("compose.override.yaml", "services: {a: {command: two}}\n"),
        ("deep/down/x", ""),
    ];
    let loaded = given(&files, |options| options.directory.push("deep/down")).unwrap();
    assert_eq!(loaded.project.files.len(), 2);
    assert_eq!(loaded.project.services["a"].command.as_deref(), Some(&["two".to_owned()][..]));
    let by_variable = given(&files, |options| {
        options.environment = Shell::of([("COMPOSE_FILE", "docker-compose.yml")]);
    });
    assert_eq!(by_variable.unwrap().project.files.len(), 1);
    assert_eq!(given(&[("x", "")], |_| {}).unwrap_err(), "no configuration file provided: not found");
}

#[test]
fn services_that_are_named_bring_their_profiles_and_what_they_need() {
    let text = "services:\n  a: {image: a, depends_on: [b]}\n  b: {image: b}\n  c: {image: c, profiles: [p], depends_on: [b]}\n  d: {image: d, networks: [n]}\nnetworks: {n: }\n";
    let loaded = given(&[("compose.yaml", text)], |options| options.services = vec!["c".into()]).unwrap();
    assert_eq!(loaded.service_names(), ["b", "c"]);
    assert_eq!(loaded.project.networks.keys().collect::<Vec<_>>(), ["default"]);
    let unknown = given(&[("compose.yaml", text)], |options| options.services = vec!["x".into()]);
    assert_eq!(unknown.unwrap_err(), "no such service: x");
}

#[test]
fn parts_that_are_included_twice_must_be_the_same() {
    let files = [
        ("compose.yaml", "include: [one.yaml, two.yaml]\n"),
        ("one.yaml", "services: {a: {image: x}}\n"),
        ("two.yaml", "services: {a: {image: y}}\n"),
    ];
    let conflict = given(&files, |_| {}).unwrap_err();
    assert_eq!(conflict, "validating /one.yaml:1:12: services.a conflicts with imported resource");
    let same = [files[0], files[1], ("two.yaml", "services: {a: {image: x}}\n")];
    assert_eq!(given(&same, |_| {}).unwrap().service_names(), ["a"]);
}

#[test]
fn hostile_files_are_refused_fast() {
    let began = Instant::now();
    let wide: Vec<String> = (0..300_000).map(|index| format!("    - k{index}=v\n")).collect();
    let wide = wide.concat();
    let big = format!("services:\n  a:\n    image: x\n    environment:\n{wide}");
    given(&[("compose.yaml", &big)], |_| {}).unwrap();
    let huge = " ".repeat(17 << 20);
    assert_eq!(refused(&huge), "/compose.yaml: larger than 16 MiB");
    assert!(refused("a: \0").contains("control characters"));
    let includes = "include: [a.yaml, b.yaml]\n";
    let files: Vec<(String, String)> = ('a'..='z')
        .zip('b'..='{')
        .map(|(one, next)| {
            let text = if one == 'z' {
                "services: {}".into()
            } else {
                format!("include: [{next}.yaml, ./{next}.yaml]\n")
            };
            (format!("{one}.yaml"), text)
        })
        .collect();
    let mut all: Vec<(&str, &str)> = vec![("compose.yaml", includes)];
    all.extend(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    assert!(given(&all, |_| {}).unwrap_err().contains("more than 1000 files"));
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(".", directory.path().join("d")).unwrap();
    fs::write(directory.path().join("compose.yaml"), "include: [d/compose.yaml]\nservices: {}\n").unwrap();
    let cycle = load(&options(directory.path())).unwrap_err().to_string();
    assert!(cycle.contains("100 deep") || cycle.contains("open "), "{cycle}");
    fs::write(directory.path().join("compose.yaml"), b"a: \xff\n").unwrap();
    assert!(load(&options(directory.path())).unwrap_err().to_string().ends_with("line 1 is not UTF-8"));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

proptest::proptest! {
    /// Whatever a file says, there is an answer.
    #[test]
    fn no_file_makes_it_panic(text in "(services|volumes|include|x|: |\n  |\n    |- |\\[|\\]|\\{|\\}|&a|\\*a|<<|!reset |\\$\\{A:-|\\}|image|ports|\"|'|\\||0644|80:80|, ){0,40}") {
        let _ = given(&[("compose.yaml", &text)], |_| {}).map(|loaded| (loaded.to_yaml(), loaded.to_json()));
    }

    /// Whatever a service says, what `config` prints is read again, and printed the same.
    #[test]
    fn what_is_printed_is_read_again(
        image in "[ -~üñ☃\n\t]{1,30}",
        value in "[ -~\n\t]{0,40}",
        key in "[a-zA-Z0-9._-]{1,12}",
    ) {
        let text = serde_json::json!({"services": {"web": {"image": image.replace('$', "$$"), "labels": {key: value.replace('$', "$$")}}}}).to_string();
        let first = given(&[("compose.yaml", &text)], |_| {});
        if let Ok(first) = first {
            let printed = first.to_yaml().unwrap();
            let again = given(&[("compose.yaml", &printed)], |_| {}).unwrap();
            proptest::prop_assert_eq!(again.to_yaml().unwrap(), printed);
            proptest::prop_assert_eq!(&again.project.services["web"].image, &image);
        }
    }
}
