//! What goes between a command and a program: streams, terminals, signals, and when each of them ends.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{BUSYBOX, OnTerminal, PYTHON, Test, patience, poll, skipped, wait_until};

/// A file, socket or terminal that the caller has open is not the program's: it has pipes.
#[test]
fn exec_gives_nothing_of_the_callers_away() {
    let Some(t) = Test::start() else { return };
    let (name, dir) = (t.name("fds"), t.dir("files"));
    t.sleeper(&name, ["-u", "1000"]);
    let (read, log) = (dir.join("read"), dir.join("log"));
    fs::write(&read, "kept\n").unwrap();
    fs::write(&log, "first\n").unwrap();
    let append = || File::options().append(true).open(&log).unwrap();
    // Input can be read, and not written by another way; output is appended where it was; any user may reopen it; no terminal.
    let script = "read line; echo got $line; (echo X > /proc/self/fd/0) 2>/dev/null; echo b >/dev/stdout; echo c >/proc/self/fd/1; \
                  echo e >/dev/stderr; [ -t 0 ] || [ -t 1 ] || [ -t 2 ] || echo no terminal; \
                  for n in 0 1 2; do readlink /proc/self/fd/$n; done | sed 's/:.*//' | sort -u; ls /proc/self/fd | wc -l";
    let exec = ["exec", "-i", &name, "sh", "-c", script];
    let input = File::options().read(true).write(true).open(&read).unwrap();
    let mut child = t.cmd(exec).spawn_on(input.into(), append().into(), append().into());
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(&read).unwrap(), "kept\n");
    // The two outputs are two pipes: what comes by one is in order.
    let written = fs::read_to_string(&log).unwrap();
    assert_eq!(written.replacen("e\n", "", 1), "first\ngot kept\nb\nc\nno terminal\npipe\n4\n");
    // A socket, and a terminal: neither is to be seen inside.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let stream = || Stdio::from(std::os::fd::OwnedFd::from(theirs.try_clone().unwrap()));
    let see = ["exec", "-i", &name, "sh", "-c", "for n in 0 1 2; do readlink /proc/self/fd/$n; done; tty"];
    let mut child = t.cmd(see).spawn_on(stream(), stream(), stream());
    drop(theirs);
    let mut seen = String::new();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    (&ours).read_to_string(&mut seen).unwrap();
    let _ = child.wait();
    assert!(seen.matches("pipe:").count() == 3 && seen.ends_with("not a tty\n"), "{seen}");
    let mut terminal = OnTerminal::start(t.cmd(see));
    terminal.expect("not a tty");
    assert_eq!(terminal.ended(), 1);
    assert_eq!(terminal.shown().matches("pipe:").count(), 3, "{}", terminal.shown());
}

/// What goes on in the background keeps neither exec nor a pipe behind it.
#[test]
fn exec_ends_with_its_process() {
    let Some(t) = Test::start() else { return };
    let name = t.name("bg");
    t.sleeper(&name, []);
    let begin = Instant::now();
    let out = t.rbox(["exec", &name, "sh", "-c", "sleep 97 & echo x; exit 5"]).code(5);
    assert_eq!(out.stdout, "x\n");
    // Docker's two seconds for what others write after the end.
    let script = "(sleep 0.3; echo late; sleep 97) & echo now; exit 6";
    assert_eq!(t.rbox(["exec", &name, "sh", "-c", script]).code(6).stdout, "now\nlate\n");
    assert!(begin.elapsed() < patience(Duration::from_secs(30)), "{:?}", begin.elapsed());
    let mut terminal = OnTerminal::start(t.cmd(["exec", "-it", &name, "sh"]));
    terminal.expect("#");
    terminal.keys("sleep 98 & exit 5\n");
    assert_eq!(terminal.ended(), 5);
    assert!(terminal.is_cooked(), "the terminal is left raw");
    // A terminal that nobody looks at any more, or never did, does not end what has it.
    let mark = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); sleep 0.05; done; tty > /tmp/mark";
    t.ok(["exec", "-d", "-t", &name, "sh", "-c", mark]);
    wait_until("exec -d -t has run to its end", || {
        t.rbox(["exec", &name, "cat", "/tmp/mark"]).stdout.starts_with("/dev/pts/")
    });
    let mut terminal = OnTerminal::start(t.cmd([
        "exec",
        "-it",
        &name,
        "sh",
        "-c",
        &format!("rm /tmp/mark; echo up; {mark}"),
    ]));
    terminal.expect("up");
    terminal.keys("\x10\x11");
    assert_eq!(terminal.ended(), 0);
    wait_until("exec has run to its end after it was detached", || {
        t.rbox(["exec", &name, "cat", "/tmp/mark"]).stdout.starts_with("/dev/pts/")
    });
    t.ok(["rm", "-f", &name]);
}

#[test]
fn codes_of_exec_are_dockers() {
    let Some(t) = Test::start() else { return };
    let name = t.name("codes");
    t.sleeper(&name, []);
    t.rbox(["exec", "-w", "/none", &name, "true"]).refused(127, &["/none", "no such file or directory"]);
    t.rbox(["exec", "-w", "/etc/passwd", &name, "true"]).refused(127, &["/etc/passwd", "not a directory"]);
    t.rbox(["exec", &name, "/etc/passwd/x"]).refused(127, &["not a directory"]);
    t.rbox(["exec", "-d", &name, "/none"]).refused(1, &["/none", "no such file or directory"]);
    t.rbox(["exec", &name, ""]).refused(127, &["executable file not found"]);
    t.rbox(["exec", "-u", "nobody-here", &name, "true"]).refused(1, &["nobody-here"]);
    t.rbox(["run", "--rm", BUSYBOX, ""]).refused(127, &["executable file not found"]);
    t.ok(["pause", &name]);
    t.rbox(["exec", &name, "true"]).refused(1, &["paused"]);
    t.ok(["kill", &name]);
    t.rbox(["exec", &name, "true"]).refused(1, &["not running"]);
}

/// The command of an exec is killed: its program goes on until it ends by itself.
#[test]
fn a_program_of_exec_outlives_its_command() {
    let Some(t) = Test::start() else { return };
    let name = t.name("left");
    t.sleeper(&name, []);
    let script = |n: usize| {
        format!(
            "echo begun; until [ -e /go ]; do sleep 0.1; done; for i in 1 2 3; do echo out; echo err >&2; sleep 0.1; done; \
             head -c 300000 /dev/zero; cat; echo $? > /ended{n}.new; mv /ended{n}.new /ended{n}"
        )
    };
    for (n, flags) in [&["-i"][..], &[], &["-t"], &["-u", "1000"]].into_iter().enumerate() {
        t.ok(["exec", &name, "sh", "-c", "rm -f /go; chmod 777 /"]);
        let mut args = vec!["exec"];
        args.extend(flags);
        let script = if flags == ["-t"] { script(n).replace("cat;", "") } else { script(n) };
        args.extend([&name, "sh", "-c", &script]);
        let mut child = t.cmd(args).spawn_on(Stdio::piped(), Stdio::piped(), Stdio::null());
        let mut said = [0; 5];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"begun");
        child.kill().unwrap();
        child.wait().unwrap();
        t.ok(["exec", &name, "touch", "/go"]);
        let ended = format!("/ended{n}");
        wait_until("the program has ended by itself", || {
            t.rbox(["exec", &name, "cat", &ended]).stdout == "0\n"
        });
    }
    // Nothing is kept of those that ended.
    let state = std::fs::read(
        t.suite.state.join("containers").join(t.ok(["inspect", "-f", "{{.Id}}", &name])).join("state.json"),
    );
    let state: serde_json::Value = serde_json::from_slice(&state.unwrap()).unwrap();
    let open = format!("/proc/{}/fd", state["monitor"]);
    let count = || std::fs::read_dir(&open).unwrap().count();
    let before = count();
    for _ in 0..20 {
        t.ok(["exec", &name, "echo", "x"]);
    }
    wait_until("the monitor has closed what it kept", || count() <= before);
}

/// Joining processes, seen by one that may trace all it sees: none may more than the container may.
#[test]
fn joiners_are_confined_before_they_are_seen() {
    let Some(t) = Test::start() else { return };
    let name = t.name("seize");
    let watch = r"
import os, sys
own = dict(l.split(':', 1) for l in open('/proc/self/status') if ':' in l)
may = int(own['CapBnd'], 16)
seen, bad = set(), []
last = os.getpid()
print('up', flush=True)
def memory(pid):
    found = b''
    with open(f'/proc/{pid}/maps') as maps, open(f'/proc/{pid}/mem', 'rb', 0) as mem:
        for line in maps:
            if ' rw' in line:
                start, end = (int(x, 16) for x in line.split()[0].split('-'))
                if end - start < 1 << 24:
                    mem.seek(start)
                    found += mem.read(end - start)
    return found
def look(pid):
    try:
        with open(f'/proc/{pid}/status') as f:
            s = dict(l.split(':', 1) for l in f if ':' in l)
        exe = os.readlink(f'/proc/{pid}/exe')
        env = open(f'/proc/{pid}/environ', 'rb').read()
        fds = [os.readlink(f'/proc/{pid}/fd/{n}') for n in os.listdir(f'/proc/{pid}/fd')]
        mem = memory(pid)
        now = os.readlink(f'/proc/{pid}/exe')
    except OSError:
        return
    # Only what is rbox's all the time: the program itself may open what it likes.
    if 'rbox' not in exe or now != exe:
        return
    seen.add(pid)
    caps = int(s['CapPrm'], 16) | int(s['CapEff'], 16) | int(s['CapBnd'], 16)
    if caps & ~may: bad.append(f'capabilities {caps:x}')
    if s['Seccomp'].strip() == '0': bad.append('no filter')
    # In two pieces: this very text is in the container's record, which is in the memory of who joins.
    if b'secret-of' + b'-the-caller' in mem: bad.append('a copy of the environment of the host')
    if b'CANARY' in env: bad.append('the environment of the host')
    known = ('pipe:', 'socket:', '/dev/null', '/dev/pts')
    bad.extend(f'descriptor {x}' for x in fds if not x.startswith(known))
while not os.path.exists('/stop'):
    for pid in range(last, last + 4):
        look(pid)
    while os.path.exists(f'/proc/{last + 1}'):
        look(last + 1)
        last += 1
    try: last = max(last, int(open('/proc/sys/kernel/ns_last_pid').read()))
    except OSError: pass
print('seen', len(seen), 'bad', sorted(set(bad)), flush=True)
";
    let flags = ["--cap-add", "SYS_PTRACE", "--name", &name];
    let mut args = vec!["run", "-d"];
    args.extend(flags);
    args.extend([PYTHON, "python3", "-c", watch]);
    t.cmd(args).run().ok();
    wait_until("the watcher is up", || t.ok(["logs", &name]) == "up");
    for _ in 0..crate::harness::rounds(25) {
        t.cmd(["exec", &name, "true"]).env("CANARY", "secret-of-the-caller".repeat(40)).run().code(0);
    }
    t.ok(["exec", &name, "touch", "/stop"]);
    t.ok(["wait", &name]);
    let said = t.ok(["logs", &name]);
    let result = said.lines().last().unwrap_or_default();
    if result.starts_with("seen 0 ") {
        return skipped("no joining process was caught on this machine");
    }
    assert!(result.ends_with("bad []"), "{said}");
}

/// A client that does not read holds up neither the log nor `stop`, and is told that it was cut off.
#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let Some(t) = Test::start() else { return };
    let name = t.name("slow");
    let script = "trap 'exit 3' TERM; i=0; while [ $i -lt 60 ]; do i=$((i+1)); head -c 65536 /dev/zero | tr '\\0' x; echo; done; echo end; while :; do sleep 0.05; done";
    let mut child = t
        .cmd(["run", "--name", &name, "--network", "none", BUSYBOX, "sh", "-c", script])
        .spawn_on(Stdio::null(), Stdio::piped(), Stdio::piped());
    let begin = Instant::now();
    let limit = patience(Duration::from_mins(1));
    wait_until("the container runs", || t.rbox(["inspect", &name]).code == 0);
    assert!(
        poll(limit, || t.rbox(["logs", "--tail", "1", &name]).stdout == "end\n"),
        "the log does not go on behind a client that does not read"
    );
    println!("the log was whole after {:?}", begin.elapsed());
    let begin = Instant::now();
    t.ok(["stop", "-t", "120", &name]);
    assert!(begin.elapsed() < patience(Duration::from_mins(1)), "stop took {:?}", begin.elapsed());
    assert_eq!(t.ok(["inspect", "-f", "{{.State.ExitCode}}", &name]), "3");
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(125), "{said}");
    assert!(said.starts_with("rbox: ") && said.contains("cut off"), "{said}");
    assert!(bytes.len() > 1 << 20 && bytes.len() < 60 * 65537, "{} bytes", bytes.len());
}

/// One that reads late gets all of it, however late, and the container's end does not wait for it.
#[test]
fn a_client_that_reads_late_gets_all() {
    let Some(t) = Test::start() else { return };
    let name = t.name("late");
    let mut child = t
        .cmd(["run", "--name", &name, BUSYBOX, "sh", "-c", "head -c 900000 /dev/zero | tr '\\0' x; exit 4"])
        .spawn_on(Stdio::null(), Stdio::piped(), Stdio::null());
    wait_until("the container has ended", || {
        t.rbox(["inspect", "-f", "{{.State.Status}}", &name]).stdout == "exited\n"
    });
    // It can be started again, and removed, while its last output still waits.
    assert_eq!(t.rbox(["start", "-a", &name]).code(4).stdout.len(), 900_000);
    t.ok(["rm", &name]);
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!((bytes.len(), child.wait().unwrap().code()), (900_000, Some(4)));
}

/// Signals to `run -t`, and the end of its terminal, reach the program as Docker passes them on.
#[test]
fn signals_reach_a_program_with_a_terminal() {
    let Some(t) = Test::start() else { return };
    let up = "trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM; echo up; while :; do sleep 0.05; done";
    for (flags, signal, code) in
        [("-it", "TERM", 143), ("-it", "HUP", 129), ("-t", "INT", 130), ("-it", "close", 129)]
    {
        let name = t.name(&format!("{}{flags}", signal.to_lowercase()));
        let run = ["run", flags, "--network", "none", "--name", &name, BUSYBOX, "sh", "-c", up];
        let mut terminal = OnTerminal::start(t.cmd(run));
        terminal.expect("up");
        if signal == "close" {
            terminal.close();
            terminal.ended();
        } else {
            terminal.signal(signal);
            assert_eq!(terminal.ended(), code, "{flags} {signal}");
            assert!(terminal.is_cooked(), "{flags} {signal}: the terminal is left raw");
        }
        assert_eq!(t.ok(["wait", &name]), code.to_string(), "{signal}");
        t.ok(["rm", &name]);
    }
    // What does not pass them on ends by itself, with its terminal as it was, and leaves the program alone.
    let name = t.name("alone");
    t.ok(["run", "-dit", "--name", &name, BUSYBOX, "sh", "-c", "while :; do sleep 0.05; done"]);
    for args in
        [&["attach", &name][..], &["exec", "-it", &name, "sh"], &["attach", "--sig-proxy=false", &name]]
    {
        let mut terminal = OnTerminal::start(t.cmd(args));
        wait_until("the terminal is raw", || !terminal.is_cooked());
        terminal.signal("TERM");
        assert_eq!(terminal.ended(), 143, "{args:?}");
        assert!(terminal.is_cooked(), "{args:?}: the terminal is left raw");
    }
    assert_eq!(t.status(&name), "running");
}

/// A shell shows its prompt to whoever attaches, without a key.
#[test]
fn attach_shows_the_prompt() {
    let Some(t) = Test::start() else { return };
    let name = t.name("prompt");
    t.ok(["run", "-dit", "--name", &name, BUSYBOX, "sh"]);
    for _ in 0..2 {
        let mut terminal = OnTerminal::start(t.cmd(["attach", &name]));
        terminal.expect("#");
        terminal.keys("stty size\n");
        terminal.expect("24 80");
        terminal.keys("\x10\x11");
        assert_eq!(terminal.ended(), 0);
    }
    // On one that has no size, the program's keeps what it had.
    let mut terminal = OnTerminal::of_size(t.cmd(["attach", &name]), (0, 0));
    terminal.expect("#");
    terminal.keys("stty size\n");
    terminal.expect("24 80");
    terminal.keys("\x10\x11");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_signal_for_its_end_wakes_a_paused_container() {
    let Some(t) = Test::start() else { return };
    let name = t.name("p");
    t.sleeper(&name, []);
    t.ok(["pause", &name]);
    t.ok(["kill", "-s", "TERM", &name]);
    assert_eq!(t.ok(["wait", &name]), "0");
    // Where a stop signal is set, others wait for the end of the pause.
    t.ok(["rm", &name]);
    t.sleeper(&name, ["--stop-signal", "USR1"]);
    t.ok(["pause", &name]);
    t.ok(["kill", "-s", "TERM", &name]);
    assert_eq!(t.status(&name), "paused");
    t.ok(["kill", &name]);
    assert_eq!(t.ok(["wait", &name]), "137");
    t.rbox(["kill", "-s", "0", &name]).refused(1, &["invalid signal: 0"]);
    // It may be gone before it could be woken.
    for _ in 0..20 {
        t.ok(["start", &name]);
        t.ok(["pause", &name]);
        t.ok(["kill", &name]);
    }
}

#[test]
fn an_exec_that_ran_out_of_memory_is_told_at_once() {
    let Some(t) = Test::start() else { return };
    let name = t.name("oom");
    t.sleeper(&name, ["-m", "16m", "--memory-swap", "16m"]);
    assert_eq!(t.ok(["inspect", "-f", "{{.State.OOMKilled}}", &name]), "false");
    t.rbox(["exec", &name, "sh", "-c", "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"]).code(137);
    assert_eq!(t.ok(["inspect", "-f", "{{.State.OOMKilled}} {{.State.Status}}", &name]), "true running");
}

/// What a shell hands over as /dev/fd/63 is read, and goes no further.
#[test]
fn descriptors_of_the_shell_are_read() {
    let Some(t) = Test::start() else { return };
    let (name, rbox) = (t.name("d"), crate::harness::binary().display().to_string());
    t.sleeper(&name, []);
    let bash = |script: &str| {
        let line = format!("rbox() {{ {rbox} \"$@\"; }}; {}", script.replace("NAME", &name));
        t.program("bash", ["-c", &line]).run().ok()
    };
    // Without a pipe in the shell, which closes its ends of one when it gets to it. Where the shell is PID 1, the directory it
    // reads is its own, and open.
    let own = "sh -c 'echo $P; ls /proc/self/fd | wc -l; set -- /proc/1/fd/*; echo $#'";
    assert_eq!(bash(&format!("rbox run --rm --env-file <(echo P=1) {BUSYBOX} {own}")), "1\n4\n4");
    assert_eq!(bash(&format!("rbox exec --env-file <(echo P=2) NAME {own}")), "2\n4\n3");
    let tar = "mkdir -p $D/t/etc; echo x > $D/t/etc/x; tar -C $D/t -c .";
    let dir = t.dir("tar").display().to_string();
    assert!(bash(&format!("D={dir}; rbox import <({tar}) from-a-pipe")).starts_with("sha256:"));
    assert!(
        bash("rbox save from-a-pipe | cat > /dev/null; rbox load -i <(rbox save from-a-pipe)")
            .contains("from-a-pipe")
    );
    t.ok(["rmi", "from-a-pipe"]);
    let id = bash(&format!("rbox create --cidfile >(cat > {dir}/cid) {BUSYBOX} true"));
    wait_until("the id was written to the pipe", || {
        fs::read_to_string(format!("{dir}/cid")).is_ok_and(|text| text == id)
    });
    // A number that is named and not open is nobody's: rbox's own descriptors get it, and keep it.
    let numbers: Vec<String> = (3..40).map(|number| format!("/dev/fd/{number}")).collect();
    let own = format!("echo {}", numbers.join(" "));
    for command in [format!("run --rm {BUSYBOX}"), "exec NAME".to_owned()] {
        let seen =
            bash(&format!("exec 4</dev/null 7</; rbox {command} sh -c '{own}; ls /proc/self/fd | wc -l'"));
        assert_eq!(seen, format!("{}\n4", numbers.join(" ")), "{command}");
    }
    // A monitor keeps none of it.
    let holder = t.name("h");
    let kept = format!(
        "D=$(rbox run -d --name {holder} --env-file <(echo P=1) {BUSYBOX} sleep 97); \
         for p in $(pgrep -f {holder}); do ls -l /proc/$p/fd; done | grep -c /fd/63; true"
    );
    assert_eq!(bash(&kept), "0");
}

/// `run --attach` shows what it names.
#[test]
fn run_attaches_to_what_is_named() {
    let Some(t) = Test::start() else { return };
    let both = "cat; echo out; echo err >&2; exit 3";
    for (flags, stdout, stderr) in [
        (&["-a", "stdout"][..], "out\n", ""),
        (&["-a", "STDERR"], "", "err\n"),
        (&["-i", "-a", "stdin", "--attach=stdout", "-a", "stderr"], "inout\n", "err\n"),
    ] {
        let mut args = vec!["run", "--rm", "--network", "none"];
        args.extend(flags);
        args.extend([BUSYBOX, "sh", "-c", both]);
        let out = t.cmd(args).input("in").run().code(3);
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), (stdout, stderr), "{flags:?}");
    }
    // One that is there for its input alone shows nothing, and is waited for all the same.
    let name = t.name("fed");
    let args = ["run", "-i", "-a", "stdin", "--name", &name, "--network", "none", BUSYBOX, "sh", "-c", both];
    let out = t.cmd(args).input("in").run().code(3);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("", ""));
    assert_eq!(t.rbox(["logs", &name]).code(0).stdout, "inout\n");
    // The input's end is not the program's.
    let args =
        ["run", "--rm", "-i", "-a", "stdin", "--network", "none", BUSYBOX, "sh", "-c", "sleep 0.5; exit 4"];
    t.cmd(args).input("in").run().code(4);
    t.rbox(["run", "-a", "bogus", BUSYBOX]).refused(125, &["valid streams are STDIN, STDOUT and STDERR"]);
    let refusal = "conflicting options: cannot specify both --attach and --detach";
    t.rbox(["run", "-d", "-a", "stdout", BUSYBOX]).refused(1, &[refusal]);
}

/// A signal at a question is no: nothing is done, and the end is Docker's.
#[test]
fn a_signal_at_a_question_is_no() {
    let Some(t) = Test::start() else { return };
    let name = t.name("q");
    t.ok(["create", "--name", &name, BUSYBOX, "true"]);
    for signal in ["INT", "TERM"] {
        let mut terminal = OnTerminal::start(t.cmd(["container", "prune"]));
        terminal.expect("[y/N]");
        terminal.signal(signal);
        assert_eq!(terminal.ended(), 0, "{signal}");
    }
    assert_eq!(t.status(&name), "created");
}

/// Output that nobody takes keeps no signal waiting.
#[test]
fn a_blocked_output_keeps_no_signal_waiting() {
    let Some(t) = Test::start() else { return };
    let name = t.name("b");
    let script = "trap 'exit 7' TERM; yes & while :; do sleep 0.05; done";
    let mut child = t
        .cmd(["run", "--name", &name, "--network", "none", BUSYBOX, "sh", "-c", script])
        .spawn_on(Stdio::null(), Stdio::piped(), Stdio::null());
    wait_until("the container runs", || t.rbox(["logs", "--tail", "1", &name]).stdout == "y\n");
    std::thread::sleep(Duration::from_millis(300));
    crate::harness::Cmd::new("kill", [&child.id().to_string()]).run().ok();
    assert_eq!(t.cmd(["wait", &name]).limit(Duration::from_secs(20)).run().ok(), "7");
    drop(child.stdout.take());
    let _ = child.wait();
}

/// Where no log would have the rest, the program waits for who has started it, however long that takes.
#[test]
fn nothing_is_lost_that_no_log_has() {
    let Some(t) = Test::start() else { return };
    for flags in [&["--rm"][..], &["--log-driver", "none", "--name", &t.name("c")]] {
        let args = [&["run", "--network", "none"], flags, &[BUSYBOX, "seq", "600000"]].concat();
        let mut child = t.cmd(args).spawn_on(Stdio::null(), Stdio::piped(), Stdio::piped());
        std::thread::sleep(Duration::from_secs(7));
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!((text.lines().count(), text.lines().last()), (600_000, Some("600000")), "{flags:?}");
    }
}
