//! `-it`, through a real terminal program.

use crate::harness::{BUSYBOX, Test, Tmux, has, skipped, wait_until};

macro_rules! terminal {
    () => {{
        if !has("tmux") {
            return skipped("tmux is not installed");
        }
        let Some(t) = Test::start() else { return };
        t
    }};
}

#[test]
fn a_shell_on_a_terminal() {
    let t = terminal!();
    let tmux = Tmux::start(t.suite, &format!("run --rm -it {BUSYBOX} sh"));
    tmux.expect("#");
    tmux.line("tty; echo pid $$; echo term $TERM");
    tmux.expect("/dev/pts/0");
    tmux.expect("pid 1");
    tmux.line("exit 17");
    tmux.expect("ended 17");
    // The terminal is as it was: canonical mode and echo are on again.
    wait_until("stty shows icanon and echo", || {
        let screen = tmux.screen();
        screen.lines().any(|l| l.trim() == "icanon") && screen.lines().any(|l| l.trim() == "echo")
    });
}

#[test]
fn the_size_is_passed_on_and_follows() {
    let t = terminal!();
    let tmux = Tmux::start(t.suite, &format!("run --rm -it {BUSYBOX} sh"));
    tmux.expect("#");
    tmux.line("stty size");
    tmux.expect("24 80");
    tmux.resize(101, 33);
    wait_until("the container's terminal is 33 lines of 101 columns", || {
        tmux.line("clear; stty size");
        std::thread::sleep(std::time::Duration::from_millis(200));
        tmux.screen().contains("33 101")
    });
    tmux.line("exit");
    tmux.expect("ended 0");
}

#[test]
fn keys_reach_the_process() {
    let t = terminal!();
    let tmux = Tmux::start(t.suite, &format!("run --rm -it {BUSYBOX} sh"));
    tmux.expect("#");
    // One job, which is there for Ctrl-C when its first word is.
    tmux.line("sh -c 'echo go$((1 + 1)); exec sleep 1000'");
    tmux.expect("go2");
    tmux.keys(&["C-c"]);
    tmux.line("echo after=$?");
    tmux.expect("after=130");
    tmux.line("(exit 44)");
    // Again and again: the shell throws away what is typed before it shows its prompt.
    wait_until("the shell ends at the end of its input", || {
        let ended = tmux.screen().lines().any(|l| l.trim_end().ends_with("ended 44"));
        if !ended {
            tmux.keys(&["C-d"]);
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        ended
    });
}

#[test]
fn detach_keys_leave_it_running_and_attach_comes_back() {
    let t = terminal!();
    let name = t.name("d");
    let tmux = Tmux::start(t.suite, &format!("run -it --name {name} {BUSYBOX} sh"));
    tmux.expect("#");
    tmux.line("x=kept");
    tmux.keys(&["C-p", "C-q"]);
    tmux.expect("ended 0");
    assert_eq!(t.status(&name), "running");
    let tmux = Tmux::start(t.suite, &format!("attach --detach-keys=ctrl-x,d {name}"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    tmux.line("echo value $x");
    tmux.expect("value kept");
    tmux.keys(&["C-x"]);
    tmux.keys(&["d"]);
    tmux.expect("ended 0");
    let tmux = Tmux::start(t.suite, &format!("attach {name}"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    tmux.line("exit 4");
    tmux.expect("ended 4");
    assert_eq!(t.status(&name), "exited");
}

#[test]
fn exec_has_a_terminal_too() {
    let t = terminal!();
    let name = t.name("e");
    t.sleeper(&name, []);
    let tmux = Tmux::start(t.suite, &format!("exec -it {name} sh"));
    tmux.expect("#");
    tmux.line("tty; stty size");
    tmux.expect("24 80");
    tmux.line("exit 9");
    tmux.expect("ended 9");
    assert_eq!(t.status(&name), "running");
}

#[test]
fn start_attached_with_a_terminal() {
    let t = terminal!();
    let name = t.name("s");
    t.ok(["create", "-it", "--name", &name, BUSYBOX, "sh"]);
    let tmux = Tmux::start(t.suite, &format!("start -ai {name}"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    tmux.line("tty");
    tmux.expect("/dev/pts/0");
    tmux.line("exit 2");
    tmux.expect("ended 2");
}

#[test]
fn a_terminal_is_asked_for_where_there_is_none() {
    let t = terminal!();
    t.rbox(["run", "--rm", "-it", BUSYBOX, "true"]).refused(1, &["not a TTY"]);
    // -t alone works without one: output goes through a terminal of the container's.
    let out = t.rbox(["run", "--rm", "-t", BUSYBOX, "sh", "-c", "tty; echo err >&2"]).code(0);
    assert_eq!(out.stdout, "/dev/pts/0\r\nerr\r\n");
}

/// /dev/console is the terminal's: a device that is to be there is covered by it, a directory is refused.
#[test]
fn the_terminal_is_the_console() {
    let Some(t) = Test::start() else { return };
    let script = "test -t 0 && tty; stat -c %t:%T /dev/console /dev/pts/0; echo seen >/dev/console";
    let flags = ["run", "--rm", "-t", "--network", "none"];
    let shown =
        t.cmd(flags).args(&["--device", "/dev/null:/dev/console", BUSYBOX, "sh", "-c", script]).run().ok();
    let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
    assert_eq!((lines[0], lines[3]), ("/dev/pts/0", "seen"), "{shown:?}");
    assert_eq!(lines[1], lines[2], "{shown:?}");
    for mount in ["/dev/console", "name:/dev/console", "/var:/dev/console"] {
        let out = t.cmd(flags).args(&["-v", mount, BUSYBOX, "true"]).run();
        assert!(!out.stderr.contains("/stage"), "{out:?}");
        out.refused(125, &["/dev/console is a directory", "without -t"]);
        t.ok(["run", "--rm", "--network", "none", "-v", mount, BUSYBOX, "true"]);
    }
}

/// A build is drawn over itself on a terminal: each step once, with its last lines as long as it goes on.
#[test]
fn a_build_is_a_list() {
    let t = terminal!();
    let (dir, image) = (t.dir("context"), t.name("image"));
    std::fs::create_dir_all(&dir).unwrap();
    let file = format!(
        "FROM {BUSYBOX}\nRUN for n in 1 2 3 4 5 6 7 8; do echo line $n; done; while ! test -e /go/go; do sleep 0.1; done\nRUN echo last && exit ${{CODE:-0}}\n"
    );
    std::fs::write(dir.join("Dockerfile"), file).unwrap();
    let go = t.dir("go");
    std::fs::create_dir_all(&go).unwrap();
    let build = format!("build -v {}:/go -t {image} {}", go.display(), dir.display());
    let tmux = Tmux::start(t.suite, &build);
    tmux.expect("line 8");
    let screen = tmux.screen();
    assert!(screen.contains(" => => # ") && screen.contains("[+] Building "), "{screen}");
    assert!(!screen.contains("line 2\n"), "{screen}");
    assert!(!screen.contains("FINISHED"), "{screen}");
    // Its time goes on though nothing is written.
    let head = || tmux.screen().lines().find(|line| line.starts_with("[+]")).map(str::to_owned);
    let before = head();
    wait_until("the time goes on", || head() != before);
    std::fs::write(go.join("go"), "").unwrap();
    tmux.expect("ended 0");
    let screen = tmux.screen();
    assert!(screen.contains(") FINISHED") && !screen.contains("=> => # "), "{screen}");
    assert_eq!(screen.matches("[2/3] RUN").count(), 1, "{screen}");
    t.ok(["rmi", &image]);
    t.rbox(["build", "--progress", "tty", dir.to_str().unwrap()]).refused(125, &["failed to get console"]);
    let out = t.cmd(["build", dir.to_str().unwrap()]).env("BUILDKIT_PROGRESS", "loud").run();
    out.refused(125, &["BUILDKIT_PROGRESS", "loud"]);
}
