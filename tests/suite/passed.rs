//! Descriptors of the caller that a program gets: those asked for, and no other.

use std::fs;

use crate::harness::{BUSYBOX, Cmd, Test, binary, wait_until};

/// A shell that has `redirections` open runs `rbox ARGS`.
fn with(t: &Test, redirections: &str, args: &str) -> Cmd {
    let line = format!("exec {redirections}; exec {} {args}", binary().display());
    t.suite.with_roots(Cmd::new("bash", ["-c", &line]))
}

/// A shell that opens nothing says which descriptors it has.
const LIST: &str =
    "sh -c 'for n in 0 1 2 3 4 5 6 7 8 9; do if test -e /proc/$$/fd/$n; then echo -n $n; fi; done'";

#[test]
fn run_and_exec_pass_them_on() {
    let Some(t) = Test::start() else { return };
    let (dir, name) = (t.dir("d"), t.name("c"));
    let (input, output) = (dir.join("in"), dir.join("out"));
    fs::write(&input, "text").unwrap();
    t.sleeper(&name, []);
    for way in [format!("run --rm --preserve-fds 2 {BUSYBOX}"), format!("exec --preserve-fds=2 {name}")] {
        let _ = fs::remove_file(&output);
        let open = format!("3>{} 4<{} 5<{}", output.display(), input.display(), input.display());
        with(&t, &open, &format!("{way} sh -c 'cat <&4 >&3'")).run().ok();
        assert_eq!(fs::read_to_string(&output).unwrap(), "text", "{way}");
        // What else the caller has open does not go along, nor does anything without the flag.
        assert_eq!(with(&t, &open, &format!("{way} {LIST}")).run().ok(), "01234", "{way}");
        let without = way.replace(" --preserve-fds 2", "").replace(" --preserve-fds=2", "");
        assert_eq!(with(&t, &open, &format!("{without} {LIST}")).run().ok(), "012", "{way}");
        // A gap is refused, and nothing was made.
        let gap = with(&t, "3>/dev/null 4>&- 5>/dev/null", &format!("{way} true")).run();
        gap.refused(125, &["file descriptor 4 is not available", "must be passed"]);
        with(&t, "3>/dev/null", &format!("{} true", way.replace('2', "2000"))).run().refused(125, &["2000"]);
    }
    let detached = format!("exec -d --preserve-fds 1 {name} sh -c 'echo later >&3'");
    with(&t, &format!("3>{}", output.display()), &detached).run().ok();
    wait_until("the program in the background writes", || fs::read_to_string(&output).unwrap() == "later\n");
}

/// Neither the command nor the monitor keeps a copy: a pipe ends when the program closes it, though the container runs on.
#[test]
fn nobody_else_keeps_them() {
    let Some(t) = Test::start() else { return };
    let (dir, name, other) = (t.dir("d"), t.name("c"), t.name("e"));
    let ended = dir.join("ended");
    let open = format!("3> >(cat >/dev/null; touch {})", ended.display());
    let sleeps = "sh -c 'echo x >&3; exec 3>&-; sleep 1000'";
    with(&t, &open, &format!("run -d --name {name} --preserve-fds 1 {BUSYBOX} {sleeps}")).run().ok();
    wait_until("the reader sees the end", || ended.exists());
    for way in [
        format!("exec --preserve-fds 1 {name} {sleeps}"),
        format!("exec -d --preserve-fds 1 {name} {sleeps}"),
        format!("run --name {other} --preserve-fds 1 {BUSYBOX} {sleeps}"),
    ] {
        fs::remove_file(&ended).unwrap();
        let running = with(&t, &open, &way).spawn();
        wait_until("the reader sees the end", || ended.exists());
        drop(running);
    }
    t.ok(["rm", "-f", &name, &other]);
}

/// The small init hands them on, and keeps none.
#[test]
fn through_an_init() {
    let Some(t) = Test::start() else { return };
    let (dir, name) = (t.dir("d"), t.name("c"));
    let (output, ended) = (dir.join("out"), dir.join("ended"));
    let open = format!("3>{}", output.display());
    with(&t, &open, &format!("run --rm --init --preserve-fds 1 {BUSYBOX} sh -c 'echo text >&3'")).run().ok();
    assert_eq!(fs::read_to_string(&output).unwrap(), "text\n");
    assert_eq!(with(&t, &open, &format!("run --rm --init {BUSYBOX} {LIST}")).run().ok(), "012");
    let open = format!("3> >(cat >/dev/null; touch {})", ended.display());
    let sleeps = "sh -c 'exec 3>&-; sleep 1000'";
    with(&t, &open, &format!("run -d --init --name {name} --preserve-fds 1 {BUSYBOX} {sleeps}")).run().ok();
    wait_until("the reader sees the end", || ended.exists());
}
