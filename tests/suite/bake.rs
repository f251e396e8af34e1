//! `bake`: builds of the targets of a file.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{BUSYBOX, Cmd, Output, OwnRoots, Test, binary};

/// A directory with bake files, and roots of its own.
struct Bakery {
    own: OwnRoots,
    dir: std::path::PathBuf,
}

impl Bakery {
    fn new(t: &Test) -> Self {
        let own = OwnRoots::new(t, "bakery", &t.suite.registry);
        let dir = own.dir.join("work");
        std::fs::create_dir(&dir).unwrap();
        Self { own, dir }
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn cmd(&self, args: &[&str]) -> Cmd {
        let script = "cd \"$1\" && shift && exec \"$@\"";
        let rbox = binary();
        let words = ["-c", script, "sh", self.dir.to_str().unwrap(), rbox.to_str().unwrap(), "bake"];
        self.own.other("sh", &[&words[..], args].concat()).limit(Duration::from_mins(2))
    }

    fn run(&self, args: &[&str]) -> Output {
        self.cmd(args).run()
    }

    fn print(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[&["--print"], args].concat()).ok()).unwrap()
    }

    fn cat(&self, image: &str, file: &str) -> String {
        self.own.run(&["run", "--rm", "--network", "none", image, "cat", file]).ok()
    }

    fn images(&self) -> Vec<String> {
        let listed = self.own.run(&["images", "-a", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
        let mut all: Vec<String> = listed.lines().map(str::to_owned).collect();
        all.retain(|one| !one.starts_with("busybox"));
        all.sort();
        all
    }
}

#[test]
fn targets_of_a_file_are_built() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    b.file("app/Dockerfile", &format!("FROM {BUSYBOX}\nARG WHO\nRUN echo for $WHO > /made\n"));
    b.file(
        "docker-bake.hcl",
        "variable \"VERSION\" {\n  default = \"1\"\n}\ngroup \"default\" {\n  targets = [\"app\"]\n}\ntarget \"app\" {\n  matrix = {\n    who = [\"you\", \"me\"]\n  }\n  name = \"app-${who}\"\n  context = \"./app\"\n  tags = [\"app-${who}:${VERSION}\"]\n  args = {\n    WHO = upper(who)\n  }\n}\ntarget \"files\" {\n  context = \"app\"\n  args = { WHO = target.app-me.args.WHO }\n  output = [\"out\"]\n}\n",
    );
    let meta = b.dir.join("meta.json");
    b.cmd(&["--metadata-file", meta.to_str().unwrap()]).env("VERSION", "2").run().ok();
    assert_eq!(b.images(), ["app-me:2", "app-you:2"]);
    assert_eq!(
        (b.cat("app-me:2", "/made"), b.cat("app-you:2", "/made")),
        ("for ME".into(), "for YOU".into())
    );
    let meta: Value = serde_json::from_slice(&std::fs::read(meta).unwrap()).unwrap();
    let id = b.own.run(&["image", "inspect", "-f", "{{.Id}}", "app-me:2"]).ok();
    assert_eq!(meta["app-me"]["containerimage.config.digest"], id.as_str());
    assert_eq!(meta["app-you"]["image.name"], "docker.io/library/app-you:2");
    // What is the same is not carried out again; patterns, --set, --var and the name of a group.
    let again = b.run(&["app-y*", "--set", "*.tags+=more:1", "--var", "VERSION=3"]).code(0);
    assert!(
        again.stderr.contains("=> target app-you\n") && again.stderr.contains("CACHED"),
        "{}",
        again.stderr
    );
    assert_eq!(b.images(), ["app-me:2", "app-you:2", "app-you:3", "more:1"]);
    b.run(&["files"]).ok();
    assert_eq!(std::fs::read_to_string(b.dir.join("out/made")).unwrap(), "for ME\n");
    b.run(&["--set", "app-me.args.WHO=x", "--set", "app-me.tags=set", "--progress", "quiet", "app-me"]).ok();
    assert_eq!(b.cat("set", "/made"), "for x");
    b.own.run(&["buildx", "bake", "--help"]).ok();
}

#[test]
fn targets_are_contexts_of_others() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    b.file(
        "docker-bake.hcl",
        &format!(
            "target \"base\" {{\n  dockerfile-inline = \"FROM {BUSYBOX}\\nRUN echo base > /base\\n\"\n}}\ntarget \"one\" {{\n  contexts = {{ base = \"target:base\" }}\n  dockerfile-inline = \"FROM base\\nRUN cp /base /one\\n\"\n  tags = [\"one\"]\n}}\ntarget \"two\" {{\n  contexts = {{ from = \"target:base\", one = \"target:one\" }}\n  dockerfile-inline = \"FROM {BUSYBOX}\\nCOPY --from=from /base /two\\nCOPY --from=one /one /three\\n\"\n  tags = [\"two\"]\n}}\n"
        ),
    );
    let out = b.run(&["two", "one", "--pull"]).code(0);
    let built: Vec<&str> = out.stderr.lines().filter(|line| line.starts_with("=> ")).collect();
    assert_eq!(built, ["=> target base", "=> target one", "=> target two"]);
    assert_eq!((b.cat("one", "/one"), b.cat("two", "/three")), ("base".into(), "base".into()));
    // What is only a context leaves no image.
    assert_eq!(b.images(), ["one:latest", "two:latest"]);
    b.file("bad.hcl", "target \"base\" {\n  dockerfile-inline = \"FROM scratch\\nCOPY none /\\n\"\n}\n");
    let out = b.run(&["-f", "docker-bake.hcl", "-f", "bad.hcl", "two"]).code(1);
    let last = out.stderr.lines().last().unwrap();
    assert!(last.starts_with("rbox: target base: failed to solve:") && last.contains("/none"), "{last}");
    assert_eq!(b.images(), ["one:latest", "two:latest"]);
}

#[test]
fn what_is_printed_and_listed() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    b.file(
        "docker-bake.hcl",
        "variable \"N\" {\n  type = number\n  default = 12\n  description = \"how many\"\n}\nvariable \"X\" {\n  default = null\n}\ntarget \"a\" {\n  description = \"the first\"\n  tags = [\"x:${N}\", N]\n  args = { A = null, C = \"<${N}> $${x}\" }\n  output = [{ type = \"local\", dest = \"o\" }]\n  secret = [\"id=s,src=f\"]\n}\ntarget \"_base\" {\n}\ngroup \"all\" {\n  targets = [\"a\"]\n}\n",
    );
    b.file("docker-bake.override.hcl", "target \"a\" {\n  args = { B = 1 }\n}\n");
    let printed = b.run(&["--print", "all"]).ok();
    let wanted = r#"{
  "group": {
    "all": {
      "targets": [
        "a"
      ]
    },
    "default": {
      "targets": [
        "all"
      ]
    }
  },
  "target": {
    "a": {
      "description": "the first",
      "context": ".",
      "dockerfile": "Dockerfile",
      "args": {
        "B": "1",
        "C": "\u003c12\u003e $${x}"
      },
      "tags": [
        "x:12",
        "12"
      ],
      "secret": [
        {
          "id": "s",
          "src": "f"
        }
      ],
      "output": [
        {
          "dest": "o",
          "type": "local"
        }
      ]
    }
  }
}"#;
    assert_eq!(printed, wanted);
    // It can be read again.
    b.file("again.json", &printed);
    assert_eq!(b.print(&["-f", "again.json", "all"])["target"], b.print(&["all"])["target"]);
    let stdin = b.cmd(&["-f", "-", "--print", "all"]).input(printed).run().ok();
    assert!(stdin.contains("the first"), "{stdin}");
    assert_eq!(b.run(&["--list", "targets"]).ok(), "TARGET\tDESCRIPTION\na\tthe first\nall\ta");
    assert_eq!(
        b.cmd(&["--list", "variables"]).env("N", "7").run().ok(),
        "VARIABLE\tTYPE\tVALUE\tDESCRIPTION\nN\t\tnumber\t7\thow many\nX\t\t\t<null>\t"
    );
    let listed: Value = serde_json::from_str(&b.run(&["--list", "type=targets,format=json"]).ok()).unwrap();
    assert_eq!(listed[1]["group"], true);
}

#[test]
fn services_of_a_compose_file_are_targets() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    let compose = format!(
        "services:\n  web.app:\n    image: web:1\n    build:\n      dockerfile_inline: |\n        FROM {BUSYBOX}\n        ARG WHO\n        RUN echo $$WHO > /made\n      args: {{WHO: \"${{WHO:-none}}\"}}\n      x-bake:\n        tags: [extra]\n        no-cache: true\n  db:\n    image: busybox\n"
    );
    b.file("compose.yaml", &compose);
    b.file("docker-bake.hcl", "target \"web_app\" {\n  labels = { made = \"baked\" }\n}\n");
    b.file(".env", "WHO=env\n");
    let printed = b.print(&[]);
    assert_eq!(printed["group"]["default"]["targets"], serde_json::json!(["web_app"]));
    let target = &printed["target"]["web_app"];
    assert_eq!((&target["args"]["WHO"], &target["no-cache"]), (&"env".into(), &true.into()));
    b.run(&["web.app"]).ok();
    assert_eq!(b.images(), ["extra:latest"]);
    assert_eq!(b.cat("extra", "/made"), "env");
    let label = ["image", "inspect", "-f", "{{.Config.Labels.made}}", "extra"];
    assert_eq!(b.own.run(&label).ok(), "baked");
    let stdin = b.cmd(&["-f", "-", "--print"]).input(compose).run().ok();
    assert!(stdin.contains("web_app"), "{stdin}");
    b.cmd(&["-f", "-", "--print"])
        .input("services:\n  app:\n    build: 5\n    nope: 1\n")
        .run()
        .refused(1, &["-:"]);
}

#[test]
fn what_files_reach_has_to_be_granted() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    b.file("../outside/secret", "kept\n");
    std::os::unix::fs::symlink("../outside", b.dir.join("link")).unwrap();
    let inline = format!("dockerfile-inline = \"FROM {BUSYBOX}\\nRUN true\\n\"");
    b.file(
        "docker-bake.hcl",
        &format!(
            "target \"up\" {{\n  context = \"../outside\"\n  {inline}\n}}\ntarget \"link\" {{\n  context = \"link\"\n  {inline}\n}}\ntarget \"out\" {{\n  {inline}\n  output = [\"../made\"]\n}}\ntarget \"host\" {{\n  {inline}\n  network = \"host\"\n}}\ntarget \"hidden\" {{\n  {inline}\n  secret = [\"id=s,src=/etc/shadow\"]\n}}\n"
        ),
    );
    let outside = b.own.dir.join("outside");
    let allow = format!("--allow=fs.read={}", outside.display());
    for target in ["up", "link"] {
        b.run(&[target]).refused(1, &["additional privileges requested", &allow]);
    }
    b.run(&["out"]).refused(1, &["--allow=fs.write="]);
    assert!(!b.own.dir.join("made").exists());
    b.run(&["host"]).refused(1, &["--allow=network.host"]);
    b.run(&["hidden"]).refused(1, &["--allow=fs.read=/etc/shadow"]);
    b.run(&["up", "link", &allow]).ok();
    b.cmd(&["up"]).env("BUILDX_BAKE_ENTITLEMENTS_FS", "0").run().ok();
    // What the command line itself names needs no more words.
    b.run(&["out", "--set", "out.output=type=local,dest=../made"]).ok();
    assert!(Path::new(&b.own.dir.join("made/bin")).exists());
    b.run(&["host", "--allow", "network.host"]).ok();
    for (given, why) in [("nope", "unknown entitlement key"), ("fs.read", "a path is missing")] {
        b.run(&["up", "--allow", given]).refused(1, &[why]);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    b.run(&[]).refused(1, &["couldn't find a bake definition", "docker-bake.hcl"]);
    b.run(&["-f", "none.hcl"]).refused(1, &["read none.hcl: No such file"]);
    b.run(&["-f", "."]).refused(1, &["read .: Is a directory"]);
    let bad = |text: &str, words: &[&str]| {
        b.file("docker-bake.hcl", text);
        b.run(&["--print"]).refused(1, words);
    };
    bad("target \"a\" {\n  tags = [\n", &["docker-bake.hcl:"]);
    bad("target \"a\" {\n  tags = [nope]\n}\n", &["docker-bake.hcl:2:11: variable \"nope\" does not exist"]);
    bad("target \"a\" {\n  tags = [uper(\"x\")]\n}\n", &["docker-bake.hcl:2:11", "did you mean upper?"]);
    bad("variable \"a\" {\n  default = a\n}\n", &["docker-bake.hcl:2:13: variable cycle not allowed for a"]);
    bad("target \"app\" {\n}\n", &["failed to find target default"]);
    let deep = format!("a = {}1{}\n", "[".repeat(20_000), "]".repeat(20_000));
    bad(&deep, &["docker-bake.hcl:1:", "nest"]);
    let ten = "range(10)";
    let huge = format!(
        "target \"x\" {{\n  name = \"x\"\n  matrix = {{ a = {ten}, b = {ten}, c = {ten}, d = {ten}, e = {ten}, f = {ten} }}\n}}\n"
    );
    bad(&huge, &["docker-bake.hcl:3:12: the matrix makes more than 10000 targets"]);
    bad(
        "function \"f\" {\n  params = [x]\n  result = f(x)\n}\n",
        &["docker-bake.hcl:1:1: function cycle not allowed for f"],
    );
    let lines = (1..60).map(|n| format!("v{n} = \"${{v{}}}${{v{}}}\"\n", n - 1, n - 1));
    let doubled = lines.collect::<Vec<_>>().concat();
    bad(&format!("v0 = \"xxxxxxxx\"\n{doubled}"), &["too"]);
    b.file("docker-bake.hcl", "target \"default\" {\n  typo = 1\n}\n");
    let out = b.run(&["--print"]).code(0);
    assert!(
        out.stderr.contains("warning: docker-bake.hcl:2:3: target \"default\" has no attribute \"typo\""),
        "{out:?}"
    );
    b.file("docker-bake.hcl", "target \"default\" {\n}\n");
    for (args, words) in [
        (&["--set", "nope.tags=a"][..], &["could not find any target matching 'nope'"][..]),
        (&["--set", "default.nope=a"], &["unknown key: nope"]),
        (&["--list", "nope"], &["invalid list type \"nope\""]),
        (&["--var", "A"], &["invalid variable \"A\", expected key=value"]),
        (&["--call", "outline,format=yaml"], &["is no format"]),
        (&["--call", "outline", "--check"], &["do not go together"]),
        (&["--print", "--list", "targets"], &["mutually exclusive"]),
        (&["http://127.0.0.1:1/x.tar"], &["comes from a git repository"]),
    ] {
        let out = b.run(args);
        let code = out.code;
        assert!(code == 1 || code == 125, "{args:?}: {code}");
        out.refused(code, words);
    }
}

#[test]
fn dockerfiles_of_targets_are_checked_and_told() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    b.file(
        "Dockerfile",
        &format!("ARG VERSION=1\nFROM {BUSYBOX} as build\nARG VERSION\nRUN echo $VERSION\n"),
    );
    b.file("docker-bake.hcl", "target \"default\" {\n  description = \"all\"\n}\n");
    let out = b.run(&["--check"]).code(1);
    assert!(
        out.stdout.starts_with("default\nall\n") && out.stdout.contains("FromAsCasing"),
        "{}",
        out.stdout
    );
    let out = b.run(&["--call", "outline"]).code(0);
    assert!(out.stdout.contains("VERSION"), "{}", out.stdout);
    // As JSON all in one, with what each target is.
    b.file("other/Dockerfile", "FROM scratch AS Other\nARG A\nENV B=$A\n");
    b.file("more.hcl", "group \"all\" {\n  targets = [\"default\", \"other\"]\n}\ntarget \"other\" {\n  context = \"other\"\n  args = { A = \"<1>\" }\n}\n");
    let files = ["-f", "docker-bake.hcl", "-f", "more.hcl", "all"];
    let told = |what: &str, code: i32| -> Value {
        let call = format!("--call={what},format=json");
        let out = b.run(&[&[call.as_str()], &files[..]].concat()).code(code);
        assert_eq!(out.stderr, "");
        serde_json::from_str(&out.stdout).unwrap()
    };
    let all = told("outline", 0);
    assert_eq!(all["group"]["all"]["targets"], serde_json::json!(["default", "other"]));
    let other = &all["target"]["other"];
    assert_eq!((&other["build"]["context"], &other["build"]["call"]), (&"other".into(), &"outline".into()));
    assert_eq!(
        (&other["outline"]["name"], &other["outline"]["args"][0]["value"]),
        (&"other".into(), &"<1>".into())
    );
    assert_eq!(all["target"]["default"]["outline"]["args"][0]["name"], "VERSION");
    assert_eq!(told("targets", 0)["target"]["default"]["targets"]["targets"][0]["name"], "build");
    let checked = told("check", 1);
    assert_eq!(checked["target"]["default"]["check"]["warnings"][0]["ruleName"], "FromAsCasing");
    assert_eq!(checked["target"]["other"]["check"]["warnings"][0]["ruleName"], "StageNameCasing");
    assert_eq!(b.images(), Vec::<String>::new());
}

#[test]
fn a_repository_has_the_files() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    let inline = format!("dockerfile-inline = \"FROM {BUSYBOX}\\nCOPY two /inline\\n\"");
    let target = |name: &str, more: &str| {
        format!("target \"{name}\" {{\n  context = \"sub\"\n  tags = [\"{name}-far\"]\n  {more}\n}}\n")
    };
    let all = [target("default", ""), target("inline", &inline), target("own", "dockerfile = \"cwd://Own\"")];
    b.file("repo.git/docker-bake.hcl", &all.concat());
    b.file("repo.git/sub/Dockerfile", &format!("FROM {BUSYBOX}\nCOPY . /src\n"));
    b.file("repo.git/sub/two", "two\n");
    let script = "git init -q -b main repo.git && cd repo.git && git config user.email a@b && git config user.name n && git add -A && git commit -qm first";
    t.program("sh", ["-ec", &format!("cd {} && {script}", b.dir.display())]).run().ok();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let base = format!("--base-path={}", b.dir.display());
    // As often as it is asked, until the program ends.
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let socket = std::os::fd::OwnedFd::from(socket);
            let mut git = std::process::Command::new("git");
            let git = git.args(["daemon", "--inetd", "--export-all", &base]);
            git.stdin(socket.try_clone().unwrap()).stdout(socket).status().unwrap();
        }
    });
    b.run(&[&format!("git://127.0.0.1:{port}/repo.git")]).ok();
    assert_eq!(b.cat("default-far", "/src/two"), "two");
    // A Dockerfile in the definition, and one of this host, for files of the repository.
    b.file("Own", &format!("FROM {BUSYBOX}\nCOPY two /own\n"));
    b.run(&[&format!("git://127.0.0.1:{port}/repo.git"), "inline", "own"]).ok();
    assert_eq!(
        (b.cat("inline-far", "/inline"), b.cat("own-far", "/own")),
        ("two".to_owned(), "two".to_owned())
    );
}

/// Two runs at one moment have one image without a name between them: nobody takes it from the other.
#[test]
fn runs_at_one_moment_leave_each_other_what_they_stand_on() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    for round in 0..3 {
        for (one, wait) in [("x", 0), ("y", 2)] {
            let text = format!(
                "target \"base\" {{\n dockerfile-inline = \"FROM {BUSYBOX}\\nRUN echo {round} > /of-base\\n\"\n}}\n\
                 target \"wait\" {{\n dockerfile-inline = \"FROM base\\nRUN sleep {wait}; echo {one}{round} > /w\\n\"\n contexts = {{ base = \"target:base\" }}\n}}\n\
                 target \"default\" {{\n dockerfile-inline = \"FROM base\\nCOPY --from=wait /w /{one}{round}\\n\"\n contexts = {{ base = \"target:base\", wait = \"target:wait\" }}\n tags = [\"{one}\"]\n}}\n"
            );
            b.file(&format!("{one}.hcl"), &text);
        }
        let running = ["x.hcl", "y.hcl"].map(|file| b.cmd(&["-f", file]).spawn());
        for one in running {
            one.finish(Duration::from_mins(2)).ok();
        }
        assert_eq!(b.cat("y", "/of-base"), round.to_string());
    }
}

/// What a file asks for is not given because it asks: not by an entitlement, a spelling, a name that looks like an address, or a link
/// that an earlier target of the same run has made.
#[test]
fn a_file_grants_itself_nothing() {
    let Some(t) = Test::start() else { return };
    let b = Bakery::new(&t);
    let outside = b.own.dir.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "of the host\n").unwrap();
    let out = outside.display();
    for name in ["docker-image:", "oci-layout:", "target:", "git@", "https:"] {
        std::fs::create_dir(b.dir.join(name)).unwrap();
    }
    let copies = "dockerfile-inline = \"FROM scratch\\nCOPY kept /\"";
    let asks = |rest: &str| format!("target \"default\" {{\n{rest}\n}}\n");
    for (text, wanted) in [
        (format!("{copies}\nentitlements = [\"cache.host={out}\"]"), "--allow=cache.host="),
        (format!("{copies}\nentitlements = [\"device=vendor.com/a=b\"]"), "--allow=device=vendor.com/a=b"),
        (format!("{copies}\nentitlements = [\"whatever\"]"), "--allow=whatever"),
        (format!("{copies}\nnetwork = \"host\""), "--allow=network.host"),
        (format!("{copies}\nnetwork = \"container:x\""), "--allow=network=container:x"),
        (format!("{copies}\nsecret = [\"id={out}/kept\"]"), "--allow=fs.read="),
        (format!("dockerfile = \"cwd://{out}/kept\""), "--allow=fs.read="),
        (format!("{copies}\ncontext = \"docker-image:/../../outside\""), "--allow=fs.read="),
        (format!("{copies}\ncontext = \"git@/../../outside\""), "--allow=fs.read="),
        (format!("{copies}\ncontext = \"https:/../../outside\""), "--allow=fs.read="),
        (format!("{copies}\ncontexts = {{ x = \"oci-layout:/../../outside\" }}"), "--allow=fs.read="),
        (
            format!("{copies}\noutput = [{{ type = \"local\", destination = \"{out}/new\" }}]"),
            "--allow=fs.write=",
        ),
        (format!("{copies}\noutput = [{{ type = \"local\", \"dest \" = \"{out}/new\" }}]"), "invalid key"),
        (format!("{copies}\ncache-to = [{{ type = \"local\", DEST = \"{out}/new\" }}]"), "invalid key"),
        (format!("{copies}\ncache-from = [{{ type = \"local\", \"a=b,src\" = \"{out}\" }}]"), "invalid key"),
    ] {
        b.file("docker-bake.hcl", &asks(&text));
        b.run(&[]).refused(1, &[wanted]);
    }
    std::fs::remove_file(b.dir.join("docker-bake.hcl")).unwrap();
    b.file(
        "compose.yaml",
        "services:\n  a:\n    build:\n      dockerfile_inline: FROM scratch\n      entitlements: [\"cache.host=/\"]\n",
    );
    b.run(&[]).refused(1, &["--allow=cache.host=/"]);
    std::fs::remove_file(b.dir.join("compose.yaml")).unwrap();
    // A link that the first target puts on the way of the second.
    let plants = format!(
        "target \"a\" {{\n dockerfile-inline = \"FROM {BUSYBOX} AS x\\nRUN mkdir /o && ln -s {out} /o/ln\\nFROM scratch\\nCOPY --from=x /o /\\n\"\n output = [\"type=local,dest=o\"]\n}}\n"
    );
    for second in [
        format!("context = \"o/ln\"\n{copies}\noutput = [\"type=local,dest=leak\"]"),
        format!("{copies}\ncontext = \".\"\noutput = [\"type=local,dest=o/ln\"]"),
        "dockerfile-inline = \"FROM scratch\"\nsecret = [\"id=s,src=o/ln/kept\"]".to_owned(),
    ] {
        let _ = std::fs::remove_dir_all(b.dir.join("o"));
        b.file("docker-bake.hcl", &format!("{plants}target \"b\" {{\n{second}\n}}\n"));
        let out = b.run(&["a", "b"]).code(1);
        let last = out.stderr.trim_end().lines().last().unwrap_or_default();
        assert!(last.starts_with("rbox: target b: ") && last.contains("--allow=fs."), "{out:?}");
    }
    let left: Vec<_> = std::fs::read_dir(&outside).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left, ["kept"]);
    // Granted, it is carried out.
    let run =
        format!("FROM {BUSYBOX}\\nRUN --mount=type=cache,target=/x,source=host:{out} cat /x/kept > /seen");
    b.file(
        "docker-bake.hcl",
        &asks(&format!(
            "dockerfile-inline = \"{run}\"\nentitlements = [\"cache.host={out}\"]\ntags = [\"seen\"]\nnetwork = \"none\""
        )),
    );
    b.run(&["--allow", &format!("cache.host={out}")]).code(0);
    assert_eq!(b.cat("seen", "/seen"), "of the host");
    // A context is no flag, however it begins.
    b.file("docker-bake.hcl", &asks(&format!("{copies}\ncontext = \"--help\"")));
    let out = b.run(&[]).code(125);
    assert!(out.stderr.contains("unable to prepare context") && !out.stderr.contains("Usage"), "{out:?}");
}
