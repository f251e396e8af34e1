//! Every way a command that is attached can end, again and again, two at a time: always the right code, and all of the
//! output, once.

use std::io::{Read as _, Write as _};
use std::process::{ChildStdout, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{BUSYBOX, OnTerminal, Suite, Test, patience};

/// How often each way is gone: `RBOX_TEST_WAYS`, or a few times.
fn rounds() -> usize {
    std::env::var("RBOX_TEST_WAYS").ok().and_then(|n| n.parse().ok()).unwrap_or(2)
}

/// What the program of a way finds as its input.
#[derive(Clone, Copy)]
enum Input {
    /// The end of it at once.
    Closed,
    /// These many bytes, and then the end.
    Bytes(usize),
    /// Nothing, and no end while it runs.
    Open,
}

struct Way {
    name: &'static str,
    /// The command line behind `rbox`; `NAME` is a name of this round's own, `HOST` a container that runs.
    args: &'static [&'static str],
    input: Input,
    code: i32,
    stdout: Expected,
    stderr: &'static str,
    /// Done once the program has said `up`.
    then: Then,
}

#[derive(Clone, Copy)]
enum Expected {
    Is(&'static str),
    /// This many bytes `x`.
    Bytes(usize),
}

#[derive(Clone, Copy)]
enum Then {
    Nothing,
    /// The command gets this signal.
    Signal(&'static str),
    /// Another command, with `NAME` in it.
    Command(&'static [&'static str]),
}

const RUN: Way = Way {
    name: "",
    args: &[],
    input: Input::Closed,
    code: 0,
    stdout: Expected::Is(""),
    stderr: "",
    then: Then::Nothing,
};

macro_rules! run {
    ($flags:expr; $($word:expr),+) => {
        &["run", "--rm", "--network", "none", $flags, "--name", "NAME", BUSYBOX, $($word),+]
    };
}

const UP: &str = "trap 'echo bye; exit 5' TERM INT; echo up; while :; do sleep 0.02; done";
const HI: Expected = Expected::Is("hi\n");

const WAYS: &[Way] = &[
    Way { name: "input closed", args: run!["-i"; "echo", "hi"], stdout: HI, ..RUN },
    Way { name: "input unread", args: run!["-i"; "echo", "hi"], input: Input::Bytes(2), stdout: HI, ..RUN },
    Way { name: "input open", args: run!["-i"; "echo", "hi"], input: Input::Open, stdout: HI, ..RUN },
    Way {
        name: "input full",
        args: run!["-i"; "echo", "hi"],
        input: Input::Bytes(1 << 20),
        stdout: HI,
        ..RUN
    },
    Way {
        name: "input read",
        args: run!["-i"; "wc", "-c"],
        input: Input::Bytes(100_000),
        stdout: Expected::Is("100000\n"),
        ..RUN
    },
    Way {
        name: "input echoed",
        args: run!["-i"; "cat"],
        input: Input::Bytes(200_000),
        stdout: Expected::Bytes(200_000),
        ..RUN
    },
    Way {
        name: "input left early",
        args: run!["-i"; "head", "-c", "3"],
        input: Input::Bytes(300_000),
        stdout: Expected::Bytes(3),
        ..RUN
    },
    Way {
        name: "no input",
        args: run!["-e=A=1"; "sh", "-c", "echo hi; exit 7"],
        input: Input::Bytes(5),
        code: 7,
        stdout: HI,
        ..RUN
    },
    Way {
        name: "both outputs",
        args: run!["-i"; "sh", "-c", "echo hi; echo no >&2; exit 3"],
        code: 3,
        stdout: HI,
        stderr: "no\n",
        ..RUN
    },
    Way {
        name: "much output",
        args: run!["-i"; "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"],
        input: Input::Open,
        stdout: Expected::Bytes(300_000),
        ..RUN
    },
    Way { name: "ends at once", args: run!["-i"; "true"], input: Input::Bytes(1), ..RUN },
    Way {
        name: "a child is killed",
        args: run!["-i"; "sh", "-c", "echo hi; (sh -c 'kill -9 $$'; exit $?) 2>/dev/null"],
        input: Input::Bytes(1),
        code: 137,
        stdout: HI,
        ..RUN
    },
    Way {
        name: "a signal to the command",
        args: run!["-i"; "sh", "-c", UP],
        input: Input::Open,
        code: 5,
        stdout: Expected::Is("up\nbye\n"),
        then: Then::Signal("TERM"),
        ..RUN
    },
    Way {
        name: "an interrupt",
        args: run!["-i"; "sh", "-c", UP],
        input: Input::Bytes(4),
        code: 5,
        stdout: Expected::Is("up\nbye\n"),
        then: Then::Signal("INT"),
        ..RUN
    },
    Way {
        name: "killed",
        args: run!["-i"; "sh", "-c", UP],
        input: Input::Bytes(4),
        code: 137,
        stdout: Expected::Is("up\n"),
        then: Then::Command(&["kill", "NAME"]),
        ..RUN
    },
    Way {
        name: "stopped",
        args: run!["-i"; "sh", "-c", UP],
        input: Input::Open,
        code: 5,
        stdout: Expected::Is("up\nbye\n"),
        then: Then::Command(&["stop", "NAME"]),
        ..RUN
    },
    Way {
        name: "exec, input unread",
        args: &["exec", "-i", "HOST", "echo", "hi"],
        input: Input::Bytes(9),
        stdout: HI,
        ..RUN
    },
    Way {
        name: "exec, input echoed",
        args: &["exec", "-i", "HOST", "cat"],
        input: Input::Bytes(200_000),
        stdout: Expected::Bytes(200_000),
        ..RUN
    },
    Way {
        name: "exec, both outputs",
        args: &["exec", "HOST", "sh", "-c", "echo hi; echo no >&2; exit 3"],
        input: Input::Open,
        code: 3,
        stdout: HI,
        stderr: "no\n",
        ..RUN
    },
];

fn drain(mut from: ChildStdout) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 65536];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let _ = send.send(bytes[..length].to_vec());
        }
    });
    receive
}

/// Goes one way once; what was wrong with it.
fn go(suite: &'static Suite, way: &Way, name: &str, host: &str) -> Result<(), String> {
    let named = |words: &[&str]| -> Vec<String> {
        words.iter().map(|word| word.replace("NAME", name).replace("HOST", host)).collect()
    };
    let pipe = Stdio::piped;
    let input = if matches!(way.input, Input::Closed) { Stdio::null() } else { pipe() };
    let mut child = suite.rbox(named(way.args)).spawn_on(input, pipe(), pipe());
    let mut stdin = child.stdin.take();
    let stdout = drain(child.stdout.take().unwrap());
    let mut stderr = child.stderr.take().unwrap();
    if let Input::Bytes(count) = way.input {
        let mut pipe = stdin.take().unwrap();
        std::thread::spawn(move || drop(pipe.write_all(&vec![b'x'; count])));
    }
    let mut seen = Vec::new();
    let limit = patience(Duration::from_mins(1));
    let late = |seen: &[u8]| format!("no end of output within {limit:?} after {} bytes", seen.len());
    if !matches!(way.then, Then::Nothing) {
        while !seen.ends_with(b"up\n") {
            let Ok(bytes) = stdout.recv_timeout(limit) else { break };
            seen.extend(bytes);
        }
        match way.then {
            Then::Nothing => {}
            Then::Signal(signal) => {
                let _ =
                    crate::harness::Cmd::new("kill", [&format!("-{signal}"), &child.id().to_string()]).run();
            }
            Then::Command(words) => drop(suite.rbox(named(words)).run()),
        }
    }
    loop {
        match stdout.recv_timeout(limit) {
            Ok(bytes) => seen.extend(bytes),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(late(&seen));
            }
        }
    }
    let code = child.wait().unwrap().code();
    drop(stdin);
    let mut said = String::new();
    let _ = stderr.read_to_string(&mut said);
    let right = match way.stdout {
        Expected::Is(text) => seen == text.as_bytes(),
        Expected::Bytes(count) => seen.len() == count && seen.iter().all(|byte| *byte == b'x'),
    };
    if code == Some(way.code) && right && said == way.stderr {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(&seen[..seen.len().min(80)]).into_owned();
    Err(format!("ended with {code:?}, {} bytes of output ({shown:?}), and said {said:?}", seen.len()))
}

/// The twentieth way: the keys that detach, and the container is as it was.
fn detach(suite: &'static Suite, name: &str) -> Result<(), String> {
    let run = ["run", "-it", "--network", "none", "--name", name, BUSYBOX, "sh", "-c", "echo up; cat"];
    let mut terminal = OnTerminal::start(suite.rbox(run));
    terminal.expect("up");
    terminal.keys("\x10\x11");
    let code = terminal.ended();
    let status = suite.rbox(["inspect", "-f", "{{.State.Status}}", name]).run().stdout;
    suite.rbox(["rm", "-f", name]).run().ok();
    if code == 0 && status == "running\n" && terminal.shown().matches("up").count() == 1 {
        return Ok(());
    }
    Err(format!("detached with {code}, then it was {status:?}; shown: {:?}", terminal.shown()))
}

#[test]
fn all_give_the_right_code_and_all_output_once() {
    let Some(t) = Test::start() else { return };
    let (suite, host) = (t.suite, t.name("host"));
    t.sleeper(&host, ["--network", "none"]);
    let (rounds, next) = (rounds(), AtomicUsize::new(0));
    let ways = WAYS.len() + 1;
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let turns = || {
            let mut wrong = Vec::new();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn >= rounds * ways || wrong.len() > 20 {
                    return wrong;
                }
                let name = t_name(turn);
                let (label, result) = match WAYS.get(turn % ways) {
                    Some(way) => (way.name, go(suite, way, &name, &host)),
                    None => ("detach", detach(suite, &name)),
                };
                if let Err(why) = result {
                    let _ = writeln!(std::io::stderr(), "WRONG: round {} of '{label}': {why}", turn / ways);
                    wrong.push(format!("round {} of '{label}': {why}", turn / ways));
                }
                if rounds >= 100 && turn.is_multiple_of(ways * 100) {
                    // Not by println!, which is shown when the test has ended: hours later.
                    let _ =
                        writeln!(std::io::stderr(), "{} rounds of {ways} ways are under way", turn / ways);
                }
            }
        };
        let both = [scope.spawn(turns), scope.spawn(turns)];
        both.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    println!("{rounds} rounds of {ways} ways to end, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} wrong of {}:\n{}", wrong.len(), rounds * ways, wrong.join("\n"));
}

fn t_name(turn: usize) -> String {
    format!("way-{turn}")
}
