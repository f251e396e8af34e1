//! `rbox tour`: done right, done wrong, and killed.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{OnTerminal, OwnRoots, Test, poll, project, wait_until};

/// Roots whose registry leads nowhere, with something of the learner's own in them.
fn learner(t: &Test) -> OwnRoots {
    let own = OwnRoots::new(t, "tour", "127.0.0.1:1");
    own.run(&["run", "-d", "--name", "tour-mine", "hello", "sleep", "1000"]).ok();
    own.run(&["volume", "create", "tour-kept"]).ok();
    own
}

/// What is left is the learner's, and all of that.
fn only_the_learners(own: &OwnRoots) -> bool {
    let names = own.run(&["ps", "-a", "--format", "{{.Names}}"]).ok();
    let volumes = own.run(&["volume", "ls", "-q"]).ok();
    let images = own.run(&["images", "--format", "{{.Repository}}"]).ok();
    (names.as_str(), volumes.as_str(), images.as_str()) == ("tour-mine", "tour-kept", "hello")
}

fn stations(own: &OwnRoots) -> Vec<Value> {
    let text = own.run(&["tour", "--list", "--format", "json"]).ok();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn tasks(station: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let tasks = station["Tasks"].as_array().unwrap();
    tasks.iter().map(|task| (text(&task["Kind"]), text(&task["Command"]))).collect()
}

/// The answer to a question, read off what the command prints that the tour names for it.
fn answer(own: &OwnRoots, station: &str, command: &str) -> String {
    let script = format!("rbox() {{ {} \"$@\"; }}; {command}", crate::harness::binary().display());
    let out = own.other("bash", &["-c", &script]).run().ok();
    let last = out.lines().last().unwrap_or_default();
    let column = |at: usize| last.split_whitespace().nth(at).unwrap_or_default().to_owned();
    match command.split_whitespace().nth(1) {
        Some("pid") if station == "users" => column(3),
        Some("pid") => column(1),
        Some("fs") => out.lines().find_map(|line| line.split_once("its own: ")).unwrap().1.trim().to_owned(),
        Some("port") => last.rsplit(':').next().unwrap().to_owned(),
        _ => last.to_owned(),
    }
}

/// Types a line and waits until the tour asks again, or has ended.
fn types(terminal: &mut OnTerminal, line: &str) {
    let asked = |terminal: &OnTerminal| {
        let shown = terminal.shown();
        shown.matches("tour> ").count() + shown.matches("stations done.").count()
    };
    let before = asked(terminal);
    terminal.keys(&format!("{line}\n"));
    let goes_on = poll(Duration::from_secs(40), || asked(terminal) > before);
    assert!(goes_on, "after {line:?}:\n{}", terminal.shown());
}

#[test]
fn the_whole_of_it_is_done_with_its_own_commands() {
    let Some(t) = Test::start() else { return };
    let own = learner(&t);
    let stations = stations(&own);
    assert_eq!(stations.len(), 12);
    let mut terminal = OnTerminal::start(own.cmd(&["tour"]).env("NO_COLOR", "1"));
    terminal.expect("tour> ");
    for station in &stations {
        let name = station["Name"].as_str().unwrap();
        for (kind, command) in tasks(station) {
            let line = if kind == "ask" { answer(&own, name, &command) } else { command };
            types(&mut terminal, &line);
        }
    }
    let shown = terminal.shown();
    assert_eq!(terminal.ended(), 0, "{shown}");
    assert!(!shown.contains("Not yet") && shown.contains("12 of 12 stations done."), "{shown}");
    assert!(terminal.shown().contains("Nothing of the tour is left."), "{}", terminal.shown());
    // What learners ask is answered where it arises, with what was really so.
    for said in [
        "It is in the same namespaces as PID 1",
        "That is why stop",
        "root inside is root",
        "it has from the image",
        "its group was out of memory",
        "Its process was in new namespaces of mnt, pid, uts",
    ] {
        let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(said), "{said:?} is not said:\n{shown}");
    }
    assert!(only_the_learners(&own));
    let auto = own.run(&["tour", "--auto", "users"]).ok();
    assert!(auto.contains("1 of 12 stations done.") && auto.contains("Right: 100000."), "{auto}");
}

#[test]
fn what_was_not_done_is_not_seen() {
    let Some(t) = Test::start() else { return };
    let own = learner(&t);
    let stations = stations(&own);
    let mut script = String::from("list\nback\n");
    let mut count = 0;
    for station in &stations {
        for (kind, _) in tasks(station) {
            script.push_str(if kind == "ask" { "nothing-of-this-kind\n" } else { "rbox version\n" });
            script.push_str("hint\nrbox ps | head\nskip\n");
            count += 1;
        }
    }
    let out = own.cmd(&["tour"]).input(script).run().code(0);
    let said = |text: &str| out.stdout.matches(text).count();
    assert!(said("Not yet.") >= count, "{} of {count}:\n{}", said("Not yet."), out.stdout);
    assert!(out.stdout.contains("0 of 12 stations done."), "{}", out.stdout);
    for station in &stations {
        assert!(out.stdout.contains(station["Title"].as_str().unwrap()), "{station}");
        for (_, command) in tasks(station) {
            assert!(out.stdout.contains(&command), "{command} is not shown");
        }
    }
    // Skipped is done by the tour: nothing after it lacks it.
    assert!(!out.stdout.contains("Something before this"), "{}", out.stdout);
    assert!(only_the_learners(&own));

    // The right words, and not the right thing.
    let lines = [
        "go localhost",
        "rbox run -d --name tour-web hello sleep 1000",
        "rbox run -d --name tour-web hello serve 8000",
        "rbox rm -f tour-web",
        "rbox run -d --name tour-web hello serve 8000",
        "rbox run --rm -v mine:/x hello ps",
        "go nowhere",
        "rbox compose up",
        "no-such-program x",
        "quit",
    ];
    let out = own.cmd(&["tour"]).input(lines.join("\n")).run().code(0);
    for said in [
        "nobody listens on port 8000",
        "There is a tour-web from before: rbox rm -f tour-web",
        "tour-web listens on port 8000",
        "Call the volume tour-mine",
        "There is no station \"nowhere\"",
        "does not run rbox compose",
        "no-such-program: ",
    ] {
        let flat = out.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(said), "{said:?} is not said:\n{}", out.stdout);
    }
    assert!(only_the_learners(&own));
    own.run(&["tour", "nowhere"]).refused(125, &["no station", "--list"]);
}

/// The process that cleans up after the tour of these roots.
fn janitor(own: &OwnRoots) -> Option<String> {
    let state = own.state.to_string_lossy().into_owned();
    let is_it = |dir: &std::path::Path| {
        let read = |name: &str| {
            String::from_utf8_lossy(&std::fs::read(dir.join(name)).unwrap_or_default()).into_owned()
        };
        read("cmdline").contains("tour\0--janitor") && read("environ").contains(&state)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.into_iter().find(|dir| is_it(dir)).map(|dir| dir.file_name().unwrap().to_string_lossy().into_owned())
}

#[test]
fn nothing_is_left_however_it_ends() {
    let Some(t) = Test::start() else { return };
    let own = learner(&t);
    let begin = || {
        let mut terminal = OnTerminal::start(own.cmd(&["tour", "volume"]).env("NO_COLOR", "1"));
        terminal.expect("tour> ");
        types(&mut terminal, "rbox run --name tour-lost hello write /data/note lost");
        types(&mut terminal, "rbox run -d --name tour-other -v tour-data:/data hello sleep 1000");
        assert!(!only_the_learners(&own));
        terminal
    };
    let mut terminal = begin();
    own.run(&["tour"]).refused(1, &["a tour is running already", "quit"]);
    // This terminal controls no process, so that ^C is a signal here.
    terminal.signal("INT");
    assert_eq!(terminal.ended(), 130);
    assert!(only_the_learners(&own), "after ^C");

    for (signal, code) in [("TERM", 143), ("HUP", 129), ("KILL", 137)] {
        let mut terminal = begin();
        terminal.signal(signal);
        assert_eq!(terminal.ended(), code);
        wait_until(&format!("all is gone after {signal}"), || only_the_learners(&own));
    }

    // In the middle of a command, which goes on.
    let mut terminal = begin();
    terminal.keys("rbox stop tour-other\n");
    wait_until("it is asked to stop", || {
        own.run(&[
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "-f",
            "container=tour-other",
            "--format",
            "{{.Action}}",
        ])
        .stdout
        .contains("kill")
    });
    terminal.signal("KILL");
    terminal.ended();
    wait_until("all is gone after a kill in a command", || only_the_learners(&own));

    // A command that does not hear ^C: the second one ends it, and the tour goes on.
    let mut terminal = begin();
    terminal.keys("rbox run --name tour-long hello sleep 1000\n");
    wait_until("it runs", || {
        own.run(&["inspect", "-f", "{{.State.Running}}", "tour-long"]).stdout == "true\n"
    });
    for _ in 0..2 {
        terminal.signal("INT");
        std::thread::sleep(Duration::from_millis(300));
    }
    terminal.expect("The tour has ended that command");
    types(&mut terminal, "hint");
    terminal.keys("quit\n");
    assert_eq!(terminal.ended(), 0);
    assert!(only_the_learners(&own), "after quit");

    // Nobody is left to clean up: the next one does.
    let mut terminal = begin();
    let watcher = janitor(&own).expect("there is no janitor");
    crate::harness::Cmd::new("kill", ["-KILL", &watcher]).run().ok();
    terminal.signal("KILL");
    terminal.ended();
    assert_eq!(own.run(&["tour", "--clean"]).ok(), "Removed: 2 containers, 1 volume");
    assert!(only_the_learners(&own));
    assert_eq!(own.run(&["tour", "--clean"]).ok(), "Nothing of a tour was left.");
    assert!(janitor(&own).is_none());
}

#[test]
fn the_written_lesson_has_every_station() {
    let Some(t) = Test::start() else { return };
    let own = OwnRoots::new(&t, "tour", "127.0.0.1:1");
    let path = project().join("docs/lesson.md");
    let Ok(page) = std::fs::read_to_string(path) else {
        return crate::harness::skipped("the pages are not here");
    };
    let mut parts = page.split("\n## ").skip(1);
    for station in stations(&own) {
        let (number, name) = (station["Number"].as_str().unwrap(), station["Name"].as_str().unwrap());
        let head = format!("{number}. {}", station["Title"].as_str().unwrap());
        let part = parts.find(|part| part.starts_with(&head)).unwrap_or_else(|| panic!("no part {head:?}"));
        assert!(part.contains(&format!("`rbox tour {name}`")), "{name}");
        for (_, command) in tasks(&station) {
            assert!(part.contains(&format!("# {command}\n")), "{head} lacks {command}");
        }
        for words in ["**Say:**", "**Ask:**", station["Read"].as_str().unwrap()] {
            assert!(part.contains(words), "{head} lacks {words}");
        }
    }
}
