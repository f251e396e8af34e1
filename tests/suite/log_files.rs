//! What a log keeps: every byte, under floods, on disks that are full or slow, and what it says of what it could not keep.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::{BUSYBOX, Disk, OnTerminal, OwnRoots, PYTHON, Test, binary, fields, poll, wait_until};

/// Writes lines of each kind to its output, and to /out/KIND: with `any` bytes that are no text, too.
const WRITER: &str = r#"
import os, random, sys
kind, chance = sys.argv[1], random.Random(1)
parts = [b'first\n', b'\0nul\0\0\n', b'x' * (1 << 20) + b'\n', ('\u00e9\u6f22' * 20000).encode() + b'\n', b'\r\n', b'\n\n', b'{"log":1}\n',
         b'2026-01-02T03:04:05Z stdout F x\n', b'a "b" \\ <c> \x1b[0m\t\n']
if kind == 'any':
    parts += [bytes(range(256)), chance.randbytes(3 << 20), b'\n\xff\xfe\xc3\n', b'\0' * 100000 + b'\n']
parts.append(b'no end')
data = b''.join(parts)
open('/out/' + kind, 'wb').write(data)
while data:
    data = data[os.write(1, data[:chance.randrange(1, 100000)]):]
"#;

#[test]
fn every_byte_comes_back() {
    let Some(t) = Test::start() else { return };
    let out = t.dir("out");
    let volume = format!("{}:/out", out.display());
    let same = |name: &str, kind: &str, read: &str| {
        let script = format!("\"$0\" logs {read} {name} | cmp - \"$1\"");
        let expected = out.join(kind);
        t.program("sh", ["-c", &script, binary().to_str().unwrap(), expected.to_str().unwrap()]).run().ok();
    };
    for (at, (driver, kind, options)) in [
        ("json-file", "text", &["max-size=1m", "max-file=50"][..]),
        ("local", "text", &[]),
        ("local", "any", &[]),
        ("local", "any", &["max-size=1m", "max-file=50"]),
        ("local", "any", &["mode=non-blocking", "max-buffer-size=64m"]),
        ("json-file", "text", &["mode=non-blocking", "max-buffer-size=64m", "max-size=1m", "max-file=50"]),
    ]
    .into_iter()
    .enumerate()
    {
        let name = t.name(&format!("{driver}{at}"));
        let mut args = vec!["run", "-d", "--name", &name, "-v", &volume, "--log-driver", driver];
        args.extend(options.iter().flat_map(|option| ["--log-opt", option]));
        args.extend([PYTHON, "python3", "-c", WRITER, kind]);
        t.cmd(&args).run().ok();
        wait_until("it has begun", || t.ok(["logs", "--stream", "stdout", &name]).starts_with("first"));
        same(&name, kind, "-f");
        t.ok(["wait", &name]);
        same(&name, kind, "");
        assert_eq!(t.rbox(["logs", "--tail", "1", &name]).code(0).stdout, "no end");
        assert_eq!(t.rbox(["logs", "--since", "1h", &name]).code(0).stderr, "");
    }
}

fn log_path(t: &Test, name: &str) -> PathBuf {
    let id = t.ok(["inspect", "-f", "{{.Id}}", name]);
    t.suite.root.join("containers").join(&id).join(format!("{id}-json.log"))
}

#[test]
fn a_local_log_of_older_versions_is_read_on() {
    let Some(t) = Test::start() else { return };
    let name = t.name("old");
    t.ok(["run", "--name", &name, "--log-driver", "local", BUSYBOX, "echo", "new"]);
    let path = log_path(&t, &name);
    let new = std::fs::read_to_string(&path).unwrap();
    assert!(new.ends_with(" stdout F new\n"), "{new}");
    let old = r#"{"log":"old\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}"#;
    std::fs::write(&path, format!("{old}\n{new}")).unwrap();
    assert_eq!(t.ok(["logs", &name]), "old\nnew");
    t.ok(["start", "-a", &name]);
    assert_eq!(t.ok(["logs", &name]), "old\nnew\nnew");
    assert_eq!(t.ok(["logs", "-n", "2", &name]), "new\nnew");
    assert_eq!(t.ok(["logs", "--until", "2026-02-01T00:00:00Z", &name]), "old");
    // A writer was killed in the middle of a line. It is no line until the next one says what became of it.
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}2026-03-02T03:04:05Z stdout F to")).unwrap();
    let out = t.rbox(["logs", "-n", "1", &name]).code(0);
    assert_eq!(out.stderr, format!("rbox: {name}: 32 bytes of the log that are no entry were skipped\n"));
    t.ok(["start", "-a", &name]);
    let out = t.rbox(["logs", "-n", "2", &name]).code(0);
    assert_eq!(
        (out.stdout.as_str(), out.stderr.as_str()),
        ("new\n", "rbox: 1 line was lost here: it was cut short\n")
    );
}

#[test]
fn a_container_whose_monitor_is_gone_says_that_nobody_keeps_its_output() {
    let Some(t) = Test::start() else { return };
    let name = t.name("alone");
    let id = t.ok(["run", "-d", "--name", &name, BUSYBOX, "sh", "-c", "echo before; sleep 1000"]);
    wait_until("it speaks", || t.ok(["logs", &name]) == "before");
    assert_eq!(t.rbox(["logs", &name]).stderr, "");
    crate::crash::kill9(monitor(&t, &id).parse().unwrap());
    wait_until("it is said", || !t.rbox(["logs", &name]).stderr.is_empty());
    for follow in ["--tail=all", "-f"] {
        let out = t.rbox(["logs", follow, &name]).code(0);
        assert_eq!(out.stdout, "before\n");
        assert!(
            out.stderr.starts_with(&format!("rbox: {name}: it runs, and nobody keeps what it writes")),
            "{out:?}"
        );
    }
    t.ok(["restart", "-t", "0", &name]);
    wait_until("it speaks again", || t.ok(["logs", &name]) == "before\nbefore");
    assert_eq!(t.rbox(["logs", &name]).stderr, "");
    // Unix second 0, and not now.
    assert_eq!(t.ok(["logs", "--since", "0", &name]), "before\nbefore");
    assert_eq!(t.ok(["logs", "--since", "0s", &name]), "");
}

/// More followers than there may be watches.
#[test]
fn many_are_followed_at_once() {
    let Some(t) = Test::start() else { return };
    let names: Vec<String> = (0..5).map(|n| t.name(&format!("m{n}"))).collect();
    for name in &names {
        t.ok(["run", "-d", "--name", name, BUSYBOX, "sh", "-c", "echo here; sleep 2; echo later"]);
    }
    let limited = "echo 2 >/proc/sys/user/max_inotify_instances && exec \"$@\"";
    let binary = binary();
    let mut args = vec!["-Ur", "sh", "-c", limited, "sh", binary.to_str().unwrap(), "logs", "-f"];
    args.extend(names.iter().map(String::as_str));
    let out = t.program("unshare", []).args(&args).run().code(0);
    let count = |what: &str| out.stdout.lines().filter(|line| line.ends_with(what)).count();
    assert_eq!((count("| here"), count("| later")), (5, 5), "{out:?}");
}

/// The process that stays with a container.
fn monitor(t: &Test, id: &str) -> String {
    let live = std::fs::read(t.suite.state.join("containers").join(id).join("state.json")).unwrap();
    let live: serde_json::Value = serde_json::from_slice(&live).unwrap();
    live["monitor"].to_string()
}

/// Lines that are numbered, as fast as they are taken, once /out/go is there.
const FLOOD: &str = r"
import os, sys, time
while not os.path.exists('/out/go'): time.sleep(0.01)
out, count = sys.stdout.buffer, int(sys.argv[1])
for begin in range(0, count, 1000):
    out.write(b''.join(b'%09d %s\n' % (n, b'x' * 90) for n in range(begin, begin + 1000)))
out.flush()
open('/out/done', 'w').close()
time.sleep(float(sys.argv[2]))
";

/// Memory of its own that a process has, in KiB.
fn anonymous(pid: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    fields(&status).get("RssAnon")?.strip_suffix(" kB")?.trim().parse().ok()
}

#[test]
fn a_flood_is_rotated_and_takes_no_memory() {
    const LINES: u64 = 2_000_000;
    const MOST_GROWTH: u64 = 3 << 10;
    let Some(t) = Test::start() else { return };
    for (driver, mode) in [("json-file", "blocking"), ("local", "blocking"), ("local", "non-blocking")] {
        let name = t.name(&format!("{driver}-{mode}"));
        let out = t.dir(&format!("{driver}-{mode}"));
        let (volume, count, mode) =
            (format!("{}:/out", out.display()), LINES.to_string(), format!("mode={mode}"));
        let mut args = vec!["run", "-d", "--name", &name, "-v", &volume, "--log-driver", driver];
        args.extend(["--log-opt", &mode, "--log-opt", "max-size=2m", "--log-opt", "max-file=4"]);
        args.extend([PYTHON, "python3", "-c", FLOOD, &count, "0"]);
        let id = t.cmd(&args).run().ok();
        let monitor = monitor(&t, &id);
        let before = anonymous(&monitor).unwrap();
        std::fs::write(out.join("go"), "").unwrap();
        let mut most = 0;
        let ended = poll(Duration::from_mins(2), || {
            most = most.max(anonymous(&monitor).unwrap_or(0));
            t.status(&name) == "exited"
        });
        assert!(ended, "{name} is still writing");
        assert!(most < before + MOST_GROWTH, "{name}: {before} KiB became {most}");
        let read = t.program("sh", ["-c", "\"$0\" logs \"$1\" 2>&1", binary().to_str().unwrap(), &name]);
        let text = read.run().ok();
        let mut next = None;
        let mut bytes = 0;
        for line in text.lines() {
            bytes += line.len();
            // Without waiting some may be dropped, and that is told.
            if let Some(rest) = line.strip_prefix("rbox: ").filter(|_| mode == "mode=non-blocking") {
                let dropped: u64 = rest.split(' ').next().unwrap().parse().unwrap();
                next = next.map(|next| next + dropped);
                continue;
            }
            let number: u64 = line[..9].parse().unwrap();
            assert_eq!(number, next.unwrap_or(number), "{name}");
            next = Some(number + 1);
        }
        assert_eq!(next, Some(LINES), "{name}");
        let files: Vec<u64> = std::fs::read_dir(log_path(&t, &name).parent().unwrap())
            .unwrap()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().contains("-json.log"))
            .map(|entry| entry.metadata().unwrap().len())
            .collect();
        assert_eq!(files.len(), 4, "{files:?}");
        assert!(files.iter().filter(|size| **size >= 2 << 20).count() >= 3, "{files:?}");
        assert!(bytes > 3 << 20, "{bytes} bytes of {files:?}");
    }
}

/// Whether a log accounts for all lines `line-N` from 0 to `count`: those that are there, and those of which it says that they are not.
fn accounted(text: &str, count: u64) -> u64 {
    let (mut next, mut lost) = (0, 0);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("rbox: ") {
            let number: u64 = rest.split(' ').next().unwrap().parse().unwrap();
            assert!(rest.ends_with(" lost here: No space left on device"), "{line}");
            lost += number;
            next += number;
        } else {
            assert_eq!(line, format!("line-{next}"));
            next += 1;
        }
    }
    assert_eq!(next, count, "{}", text.lines().last().unwrap_or_default());
    lost
}

#[test]
fn a_full_disk_costs_lines_and_says_which() {
    let Some(t) = Test::start() else { return };
    let Some(disk) = Disk::new(&t, "disk", 64, &[]) else { return };
    let mut own = OwnRoots::new(&t, "full", &t.suite.registry);
    own.root = disk.at.join("root");
    let out = t.dir("out");
    let volume = format!("{}:/out", out.display());
    own.run(&["pull", "-q", BUSYBOX]).ok();
    let script =
        "i=0; while [ ! -e /out/stop ]; do echo line-$i; i=$((i+1)); usleep 3000; done; echo $i >/out/$0";
    let names = ["json-file", "local", "quick"];
    for name in names {
        let driver = if name == "quick" { "local" } else { name };
        let mode = if name == "quick" { "mode=non-blocking" } else { "mode=blocking" };
        let mut args = vec!["run", "-d", "--network", "none", "--name", name, "-v", &volume];
        args.extend(["--log-driver", driver, "--log-opt", mode, BUSYBOX, "sh", "-c", script, name]);
        own.run(&args).ok();
    }
    // What is said of losses comes by standard error.
    let logs = |name: &str| {
        own.other("sh", &["-c", "\"$0\" logs \"$1\" 2>&1", binary().to_str().unwrap(), name]).run().ok()
    };
    let lines = |name: &str| own.run(&["logs", name]).stdout.lines().count();
    wait_until("all write", || names.iter().all(|name| lines(name) > 20));
    for round in 0..2 {
        disk.fill(false);
        let before: Vec<usize> = names.iter().map(|name| lines(name)).collect();
        std::thread::sleep(Duration::from_secs(2));
        if round == 0 {
            disk.free();
            wait_until("all write again", || {
                names.iter().zip(&before).all(|(name, before)| lines(name) > before + 20)
            });
        }
    }
    // They end while it is full.
    std::fs::write(out.join("stop"), "").unwrap();
    let count =
        |name: &str| std::fs::read_to_string(out.join(name)).ok().and_then(|text| text.trim().parse().ok());
    wait_until("all have ended", || names.iter().all(|name| count(name).is_some()));
    std::thread::sleep(Duration::from_millis(500));
    disk.free();
    for name in names {
        assert!(accounted(&logs(name), count(name).unwrap()) > 100, "{name}");
        let file: BTreeSet<bool> =
            own.run(&["logs", "--details", name]).stdout.lines().map(|line| line.contains("line-")).collect();
        assert_eq!(file, BTreeSet::from([true]), "{name}");
    }
}

/// A file system that takes no write, for as long as this lives.
struct Frozen<'a>(&'a Path);

const FREEZE: u32 = 0xC004_5877;
const THAW: u32 = 0xC004_5878;

fn freeze(at: &Path, call: u32) -> bool {
    let script = "import fcntl,os,sys; fcntl.ioctl(os.open(sys.argv[1],os.O_RDONLY),int(sys.argv[2]),0)";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).arg(at).arg(call.to_string()).status().is_ok_and(|status| status.success())
}

impl<'a> Frozen<'a> {
    fn new(at: &'a Path) -> Self {
        assert!(freeze(at, FREEZE), "freeze {}", at.display());
        Self(at)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        assert!(freeze(self.0, THAW) || std::thread::panicking(), "thaw {}", self.0.display());
    }
}

#[test]
fn a_disk_that_stands_still_keeps_nobody_waiting_who_does_not_want_to() {
    const LINES: u64 = 100_000;
    let Some(t) = Test::start() else { return };
    let Some(disk) = Disk::new(&t, "disk", 512, &[]) else { return };
    let mut own = OwnRoots::new(&t, "slow", &t.suite.registry);
    own.root = disk.at.join("root");
    own.run(&["pull", "-q", PYTHON]).ok();
    let modes = [("blocking", "json-file"), ("non-blocking", "json-file"), ("non-blocking", "local")];
    let started: Vec<(String, PathBuf)> = modes
        .iter()
        .map(|(mode, driver)| {
            let name = format!("{mode}-{driver}");
            let (out, count, mode) = (t.dir(&name), LINES.to_string(), format!("mode={mode}"));
            let volume = format!("{}:/out", out.display());
            let mut args = vec!["run", "-d", "--network", "none", "--name", &name, "-v", &volume];
            args.extend([
                "--log-driver",
                driver,
                "--log-opt",
                &mode,
                PYTHON,
                "python3",
                "-c",
                FLOOD,
                &count,
                "1000",
            ]);
            own.run(&args).ok();
            wait_until("it runs", || own.run(&["top", &name]).stdout.contains("python3"));
            (name, out)
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let frozen = Frozen::new(&disk.at);
    for (_, out) in &started {
        std::fs::write(out.join("go"), "").unwrap();
    }
    for (name, out) in &started[1..] {
        let done = poll(Duration::from_secs(30), || out.join("done").exists());
        assert!(done, "{name} waits for its log");
    }
    assert!(!started[0].1.join("done").exists(), "the disk takes what is written");
    drop(frozen);
    for (name, out) in &started {
        wait_until("it has written all", || out.join("done").exists());
        let last = format!("{:09} ", LINES - 1);
        let text = || {
            own.other("sh", &["-c", "\"$0\" logs \"$1\" 2>&1", binary().to_str().unwrap(), name]).run().stdout
        };
        let is_whole = |text: &str| text.contains(&last) || text.contains(" dropped here: ");
        wait_until("its log is whole", || is_whole(&text()));
        let text = text();
        let kept = text.lines().filter(|line| !line.starts_with("rbox: ")).count() as u64;
        let told: Vec<&str> = text.lines().filter(|line| line.starts_with("rbox: ")).collect();
        if name.starts_with("blocking") {
            assert_eq!((kept, told.len()), (LINES, 0), "{name}");
        } else {
            let wanted = format!(
                "rbox: {} lines were dropped here: they came faster than they were written",
                LINES - kept
            );
            assert_eq!(told, [wanted], "{name}");
            // As much as a buffer of 1 MiB holds, and what is on its way.
            assert!((4_000..40_000).contains(&kept), "{name}: {kept} lines");
        }
        own.run(&["rm", "-f", name]).ok();
    }
}

#[test]
fn lines_of_several_containers_stand_apart() {
    let Some(t) = Test::start() else { return };
    let names = ["m1", "m2", "m3"].map(|name| t.name(name));
    for (name, script) in names.iter().zip(["printf partial", "echo full; printf half", "echo end"]) {
        t.ok(["run", "-d", "--name", name, BUSYBOX, "sh", "-c", script]);
        t.ok(["wait", name]);
    }
    let [one, two, three] = &names;
    let wanted = [(one, "partial"), (two, "full"), (two, "half"), (three, "end")];
    let wanted: Vec<String> = wanted.iter().map(|(name, text)| format!("{name} | {text}")).collect();
    for follow in ["--tail=all", "-f"] {
        let out = t.rbox(["logs", follow, one, two, three]).code(0).stdout;
        assert_eq!(out.lines().collect::<Vec<_>>(), wanted);
        assert!(out.ends_with('\n'));
    }
    // Long lines, of which each has several entries.
    let long = ["l1", "l2"].map(|name| t.name(name));
    for (name, letter) in long.iter().zip(["A", "B"]) {
        let script =
            format!("for i in 1 2 3 4 5; do head -c 100000 /dev/zero | tr '\\0' {letter}; echo; done");
        t.ok(["run", "-d", "--name", name, BUSYBOX, "sh", "-c", &script]);
    }
    for follow in ["-f", "--tail=all"] {
        let out = t.rbox(["logs", follow, &long[0], &long[1]]).code(0).stdout;
        assert_eq!(out.lines().count(), 10);
        for line in out.lines() {
            let (name, text) = line.split_once(" | ").unwrap();
            let letter = if name == long[0] { 'A' } else { 'B' };
            assert!(text.len() == 100_000 && text.chars().all(|c| c == letter), "{}", &line[..100]);
        }
    }
}

#[test]
fn names_have_colours_unless_nobody_wants_them() {
    let Some(t) = Test::start() else { return };
    let names = ["c1", "c2"].map(|name| t.name(name));
    for name in &names {
        t.rbox(["run", "--name", name, BUSYBOX, "echo", "x"]).code(0);
    }
    for (value, coloured) in [("", true), ("1", false)] {
        let command = t.cmd(["logs", &names[0], &names[1]]).env("NO_COLOR", value);
        let mut terminal = OnTerminal::start(command);
        assert_eq!(terminal.ended(), 0);
        terminal.expect("x\r\n");
        assert_eq!(terminal.shown().contains("\u{1b}["), coloured, "{:?}", terminal.shown());
    }
}

#[test]
fn entries_with_large_attributes_are_read() {
    let Some(t) = Test::start() else { return };
    let name = t.name("big");
    let label = format!("big={}", "L".repeat(110_000));
    let script = "echo one; head -c 20000 /dev/zero; echo; echo two";
    t.ok(["run", "--name", &name, "--label", &label, "--log-opt", "labels=big", BUSYBOX, "sh", "-c", script]);
    let lines = [String::from("one"), "\0".repeat(20_000), "two".into()];
    assert_eq!(t.ok(["logs", &name]).lines().collect::<Vec<_>>(), lines);
    let labels: Vec<String> = (0..10).map(|n| format!("big{n}={}", "L".repeat(110_000))).collect();
    let mut args = vec!["create", "--log-opt", "labels-regex=^big"];
    args.extend(labels.iter().flat_map(|label| ["--label", label]));
    args.push(BUSYBOX);
    t.cmd(&args).run().refused(125, &["1048576 are the most"]);
}

#[test]
fn buffers_that_are_refused() {
    let Some(t) = Test::start() else { return };
    for (options, why) in [
        (&["max-buffer-size=1m"][..], "max-buffer-size option is only supported with 'mode=non-blocking'"),
        (
            &["mode=non-blocking", "max-buffer-size=foo"],
            "error parsing option max-buffer-size: invalid size: 'foo'",
        ),
        (&["mode=sometimes"], "logger: logging mode not supported: sometimes"),
    ] {
        let mut args = vec!["create"];
        args.extend(options.iter().flat_map(|option| ["--log-opt", option]));
        args.push(BUSYBOX);
        t.cmd(&args).run().refused(125, &[why]);
    }
}
