//! `rbox compose --dry-run`, and the options that stand before every command.

use std::fs;
use std::time::Duration;

use crate::harness::{OwnRoots, Project, Test, patience, wait_until};

const FILE: &str = "services:
  db: {image: busybox, command: sleep 1000, init: true, volumes: ['rows:/rows']}
  web:
    image: busybox
    command: sleep 1000
    init: true
    depends_on: [db]
    pre_stop: [{command: touch /stopped}]
  made: {build: {context: ., dockerfile_inline: 'FROM busybox'}, profiles: [more]}
volumes: {rows: }
";

/// Each command that changes something can say what it would change, and changes nothing then.
#[test]
fn what_is_only_shown_is_not_done() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, FILE);
    let state = || {
        let filter = format!("label=com.docker.compose.project={}", project.name);
        let mut lines = String::new();
        for words in [
            ["ps -a --no-trunc", "{{.ID}} {{.Names}} {{.State}}"],
            ["volume ls", "{{.Name}}"],
            ["network ls --no-trunc", "{{.ID}}"],
        ] {
            let words = words[0].split(' ').chain(["--filter", &filter, "--format", words[1]]);
            lines += &t.cmd(words).run().ok();
            lines.push('\n');
        }
        let images = t.ok(["images", "--format", "{{.Repository}}"]);
        lines + if images.contains(&project.name) { "built" } else { "" }
    };
    let shown = |words: &[&str], wanted: &[&str]| {
        let before = state();
        let after_the_word = project.run(&[words, &["--dry-run"]].concat()).code(0);
        let before_it = project.run(&[&["--dry-run"], words].concat()).code(0);
        assert_eq!(state(), before, "{words:?} has done something");
        // What is done to several at once has no order.
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(lines(&after_the_word.stderr), lines(&before_it.stderr), "{words:?}");
        for line in after_the_word.stderr.lines() {
            assert!(line.starts_with("DRY-RUN MODE - "), "{words:?}: {line}");
        }
        for one in wanted {
            let one = one.replace("NAME", &project.name);
            assert!(
                after_the_word.stderr.contains(&one),
                "{words:?}: no {one:?} in {}",
                after_the_word.stderr
            );
        }
    };
    let up = ["Network NAME_default  Created", "Volume NAME_rows  Created", "Container NAME-web-1  Started"];
    shown(&["up", "-d"], &up);
    shown(&["create"], &["Container NAME-db-1  Created"]);
    shown(&["--profile", "more", "up", "-d"], &["Image NAME-made  Built"]);
    shown(&["--profile", "more", "build"], &["Image NAME-made  Built"]);
    shown(&["pull"], &["Image busybox  Pulled"]);
    project.done(&["up", "-d"]);
    for (words, wanted) in [
        (&["up", "-d", "--force-recreate"][..], "Container NAME-web-1  Recreated"),
        (&["scale", "web=2"], "Container NAME-web-2  Created"),
        (&["restart"], "Container NAME-db-1  Restarting"),
        (&["stop"], "Container NAME-web-1  Stopped"),
        (&["kill"], "Container NAME-web-1  Killed"),
        (&["pause"], "Container NAME-web-1  Paused"),
        (&["rm", "-f", "-s"], "Container NAME-web-1  Removed"),
        (&["down", "-v", "--rmi", "all"], "Volume NAME_rows  Removed"),
        (&["down"], "Network NAME_default  Removed"),
    ] {
        shown(words, &[wanted]);
    }
    t.cmd(["exec", &project.container("web"), "test", "-e", "/stopped"]).run().code(1);
    project.done(&["stop"]);
    shown(&["start"], &["Container NAME-web-1  Started"]);
    // What has no such way is not done either.
    for words in [&["exec", "web", "true"][..], &["run", "web"], &["cp", "web:/x", "."], &["watch"]] {
        let out = project.run(&[&["--dry-run"], words].concat());
        out.refused(1, &[&format!("compose {} cannot be shown without being done", words[0])]);
    }
    project.done(&["down", "-v"]);
}

/// What stands before every command is refused by every command where it is wrong, and Compose's own ways to ask are known.
#[test]
fn options_of_all_commands() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, FILE);
    for (words, why) in [
        (&["--ansi", "no", "config", "-q"][..], "unsupported --ansi value \"no\""),
        (&["--progress", "nope", "config", "-q"], "unsupported --progress value \"nope\""),
        (&["--parallel", "x", "config", "-q"], "invalid value 'x' for '--parallel <NUMBER>'"),
        (&["config", "--nosuch"], "unexpected argument '--nosuch' found"),
        (&["nosuch"], "'compose nosuch' is not an rbox command"),
    ] {
        project.run(words).refused(1, &[why]);
    }
    project.run(&["--parallel", "-1", "config", "-q"]).code(0);
    let version = t.ok(["compose", "version"]);
    for words in [["compose", "--version"], ["compose", "-v"]] {
        assert_eq!(t.ok(words), version);
    }
    let help = t.ok(["compose", "--help"]);
    assert!(help.starts_with("Run projects of several services\n"), "{help}");
    assert_eq!(t.ok(["compose", "help"]), help);
    assert!(t.ok(["compose", "help", "up"]).contains("Create and start containers"));
}

/// What is told of the files is told also where something else of them is wrong: it may be why.
#[test]
fn warnings_come_before_a_refusal() {
    let Some(t) = Test::start() else { return };
    let project = Project::new(&t, "services: {a: {image: busybox, volumes: ['${NOWHERE}:/media']}}");
    let out = project.run(&["config"]).code(1);
    let warning = out.stderr.find("The \"NOWHERE\" variable is not set");
    let refusal = out.stderr.find("empty section between colons");
    assert!(warning.is_some() && warning < refusal, "{}", out.stderr);
}

/// `pull_policy` by time: what was pulled long ago is pulled again, and nothing else.
#[test]
fn old_images_are_pulled_again() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "own", &t.suite.registry);
    let file = t.dir("files").join("compose.yaml");
    let up = |policy: &str| {
        let text =
            format!("name: old\nservices: {{a: {{image: busybox, command: 'true', pull_policy: {policy}}}}}");
        fs::write(&file, text).unwrap();
        own.cmd(&["compose", "-f", file.to_str().unwrap(), "up", "-d"]).run().code(0).stderr
    };
    let is_pulled = |told: &str| told.contains("Pulling from");
    assert!(is_pulled(&up("daily")), "it is not there");
    for policy in ["daily", "weekly", "every_12h", "every_1d2h", "missing"] {
        assert!(!is_pulled(&up(policy)), "{policy}: it was pulled a moment ago");
    }
    std::thread::sleep(Duration::from_millis(1100));
    let told = up("every_1s");
    assert!(is_pulled(&told) && told.contains("Image is up to date"), "{told}");
    assert!(!is_pulled(&up("every_1h")), "the second pull counts, too");
    own.cmd(&["compose", "-p", "old", "down"]).run().code(0);
}

/// `up --watch`, and what it runs for that finds rbox's own file: containers with an init get it.
#[test]
fn an_attached_up_watches_files() {
    let Some(t) = Test::start() else { return };
    let text = "services:
  web:
    build: {context: ./web}
    command: sleep 1000
    init: true
    develop: {watch: [{path: ./web, action: rebuild}]}
  files:
    image: busybox
    command: sleep 1000
    init: true
    develop: {watch: [{path: ./src, target: /src, action: sync, initial_sync: true}, {path: ./again, action: restart}]}
";
    let project = Project::new(&t, text);
    project.write("web/Dockerfile", "FROM busybox\nCOPY word /word\n");
    for file in ["web/word", "src/word", "again/word"] {
        project.write(file, "one\n");
    }
    project.run(&["up", "-d", "--watch"]).refused(1, &["'--detach' cannot be used with '--watch'"]);
    let up = project.cmd(&["up", "--watch"]).spawn();
    let holds = |service: &str, path: &str, word: &str| {
        wait_until(&format!("{service} has {word}"), || {
            t.rbox(["exec", &project.container(service), "cat", path]).stdout == format!("{word}\n")
        });
    };
    holds("files", "/src/word", "one");
    holds("web", "/word", "one");
    // Files are watched before the first synchronisation, so nothing is missed from here on.
    project.write("src/word", "two\n");
    holds("files", "/src/word", "two");
    project.write("web/word", "two\n");
    holds("web", "/word", "two");
    let started = || project.inspect("files")["State"]["StartedAt"].clone();
    let before = started();
    project.write("again/word", "two\n");
    wait_until("it is restarted", || {
        started() != before && t.status(&project.container("files")) == "running"
    });
    up.signal("INT");
    let out = up.finish(patience(Duration::from_secs(30)));
    assert_eq!(out.code, 130, "{}", out.stderr);
    assert_eq!(t.status(&project.container("files")), "exited");
    let left = format!("compose --file {}", project.dir.display());
    let processes = t.program("ps", ["-eo", "args"]).run().ok();
    assert!(!processes.contains(&left), "{processes}");
    project.write("compose.yaml", "services: {a: {image: busybox}}");
    project.run(&["up", "--watch"]).refused(1, &["none of the selected services is configured for watch"]);
    project.done(&["down", "--remove-orphans"]);
    t.cmd(["rmi", &format!("{}-web", project.name)]).run().code(0);
}
