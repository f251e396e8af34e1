//! Running the binary: with a time limit, with both outputs kept apart.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::patience;

/// What the kernel's interface is called is not for users: a message says in words what was tried.
pub(crate) const RAW: [&str; 9] =
    ["os error", "RTM_", "NFT_MSG", "NETLINK_", "openat2", "mkdirat", "move_mount", "O_PATH", "IPCTNL"];

/// A command that is not started yet.
pub(crate) struct Cmd {
    command: Command,
    line: String,
    stdin: Option<Vec<u8>>,
    limit: Duration,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code; 128+n when signal n ended the process.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    line: String,
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    line: String,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    /// Open until dropped or taken.
    pub(crate) stdin: Option<ChildStdin>,
}

impl Cmd {
    /// `program` with `args`.
    pub(crate) fn new<I, S>(program: impl AsRef<Path>, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let program = program.as_ref();
        let mut command = Command::new(program);
        let mut line = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for arg in args {
            line.push(' ');
            line.push_str(&arg.as_ref().to_string_lossy());
            command.arg(arg);
        }
        Self { command, line, stdin: None, limit: Duration::from_mins(2) }
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        for arg in args {
            self.line.push(' ');
            self.line.push_str(arg);
        }
        self.command.args(args);
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Runs as another user and group, without supplementary groups.
    pub(crate) fn user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// Runs in another group.
    pub(crate) fn group(mut self, id: u32) -> Self {
        self.command.gid(id);
        self
    }

    /// Standard input: these bytes and then end of file. Without this it is empty.
    pub(crate) fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Fails the test after this time (with [`patience`]) instead of two minutes.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it with an open standard input.
    pub(crate) fn spawn(mut self) -> Running {
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.line));
        let stdin = child.stdin.take();
        let (stdout, stderr) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
        Running { child, line: self.line, stdout, stderr, stdin }
    }

    /// Starts it with these streams.
    pub(crate) fn spawn_on(mut self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Child {
        let started = self.command.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        started.unwrap_or_else(|e| panic!("{}: {e}", self.line))
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(mut self) -> Output {
        let (input, limit) = (self.stdin.take(), self.limit);
        let mut running = self.spawn();
        if let (Some(bytes), Some(mut pipe)) = (input, running.stdin.take()) {
            // On a thread: a container may write before it reads. It may also never read.
            std::thread::spawn(move || {
                let _ = pipe.write_all(&bytes);
            });
        }
        running.finish(limit)
    }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

impl Running {
    /// The host's process id.
    pub(crate) fn id(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().unwrap();
        assert!(status.success(), "kill -{name} {}", self.id());
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Closes standard input and waits for the end, for `limit` with [`patience`].
    #[track_caller]
    pub(crate) fn finish(mut self, limit: Duration) -> Output {
        drop(self.stdin.take());
        let limit = patience(limit);
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                // Not joined: a container may still hold the pipes.
                panic!("`{}` did not end within {limit:?}", self.line);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let text = |handle: JoinHandle<Vec<u8>>, what: &str| {
            let given = Instant::now();
            while !handle.is_finished() {
                assert!(
                    given.elapsed() < patience(Duration::from_secs(20)),
                    "`{}` ended but its {what} stays open",
                    self.line
                );
                std::thread::sleep(Duration::from_millis(2));
            }
            String::from_utf8_lossy(&handle.join().unwrap()).into_owned()
        };
        Output {
            code,
            stdout: text(self.stdout, "stdout"),
            stderr: text(self.stderr, "stderr"),
            line: self.line,
        }
    }
}

/// The ends of a text that is too long for a message.
fn short(text: &str, limit: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    if all.len() <= limit {
        return text.to_owned();
    }
    let (head, tail) = (&all[..limit / 2], &all[all.len() - limit / 2..]);
    format!(
        "{}\n[… {} characters …]\n{}",
        head.iter().collect::<String>(),
        all.len() - limit,
        tail.iter().collect::<String>()
    )
}

impl Output {
    fn told(&self) -> String {
        let (out, err) = (short(&self.stdout, 2000), short(&self.stderr, 2000));
        format!("`{}` ended with {}\nstdout: {out}\nstderr: {err}", short(&self.line, 400), self.code)
    }

    /// Fails the test unless the command succeeded; its output without the last newline.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.code == 0, "{}", self.told());
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Fails the test unless this is how it ended; goes on with both outputs.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert!(self.code == code, "not {code}: {}", self.told());
        self
    }

    /// Fails the test unless rbox refused in one line that holds every one of `words` (case apart).
    #[track_caller]
    pub(crate) fn refused(self, code: i32, words: &[&str]) {
        let out = self.code(code);
        let lines: Vec<&str> = out.stderr.lines().collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with("rbox: "),
            "`{}` did not say one line `rbox: …`:\n{}",
            out.line,
            out.stderr
        );
        for raw in RAW {
            assert!(!out.stderr.contains(raw), "`{}` says `{raw}`:\n{}", out.line, out.stderr);
        }
        let parts: Vec<&str> = out.stderr.trim_end().split(": ").collect();
        assert!(
            parts.windows(2).all(|pair| pair[0] != pair[1]),
            "`{}` says a cause twice:\n{}",
            out.line,
            out.stderr
        );
        let said = out.stderr.to_lowercase();
        for word in words {
            assert!(
                said.contains(&word.to_lowercase()),
                "`{}` does not say `{word}`:\n{}",
                out.line,
                out.stderr
            );
        }
    }
}
