//! The console blocks of README.md and docs/: run, and what they print compared with what is there.
//!
//! `# command` lines are run in order, a page with its own directory. What is behind them is what they print; nothing means that it
//! is not shown. `…` on a line of its own is any number of lines, and at the end of one any end. What differs from run
//! to run (ids, addresses, times, sizes) is not compared. A comment before a block says more of it:
//! `<!-- not run: why -->`, `<!-- numbers differ -->` (none is compared), `<!-- cgroup v1 -->` (elsewhere not run).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{BUSYBOX, OwnRoots, Test, binary, bridge_name, has, patience, project, skipped};

/// As many blocks may say that they cannot be run.
const MOST_NOT_RUN: usize = 12;

struct Block {
    page: String,
    line: usize,
    steps: Vec<Step>,
    not_run: Option<String>,
    numbers_differ: bool,
    cgroup_v1: bool,
}

struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
}

fn blocks(path: &Path) -> Vec<Block> {
    let text = std::fs::read_to_string(path).unwrap();
    let page = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut all: Vec<Block> = Vec::new();
    let (mut inside, mut comment) = (false, String::new());
    for (at, line) in text.lines().enumerate() {
        if line == "```console" {
            inside = true;
            let not_run = comment.strip_prefix("not run: ").map(str::to_owned);
            let says = |what: &str| comment.split(", ").any(|said| said == what);
            all.push(Block {
                page: page.clone(),
                line: at + 1,
                steps: Vec::new(),
                not_run,
                numbers_differ: says("numbers differ"),
                cgroup_v1: says("cgroup v1"),
            });
        } else if line == "```" {
            inside = false;
        } else if inside {
            all.last_mut().unwrap().add(at + 1, line);
        }
        if !line.is_empty() {
            let said = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            said.unwrap_or_default().clone_into(&mut comment);
        }
    }
    all
}

impl Block {
    fn add(&mut self, line: usize, text: &str) {
        let continued = self.steps.last_mut().filter(|s| s.expected.is_empty() && s.command.ends_with('\\'));
        if let Some(step) = continued {
            step.command.push('\n');
            step.command.push_str(text);
        } else if let Some(command) =
            text.strip_prefix("# ").filter(|c| c.starts_with(|c: char| c.is_lowercase()))
        {
            self.steps.push(Step { line, command: command.to_owned(), expected: Vec::new() });
        } else if let Some(step) = self.steps.last_mut() {
            step.expected.push(text.to_owned());
        }
    }
}

/// A page that is being run.
struct Page<'a> {
    dir: PathBuf,
    /// Of rbox, for what the pages call /var/lib/rbox and /run/rbox.
    root: PathBuf,
    state: PathBuf,
    shell: &'a dyn Fn(&str) -> Command,
    background: Vec<Child>,
    wrong: Vec<String>,
    terminals: usize,
}

impl Page<'_> {
    fn run(&mut self, block: &Block) {
        if block.cgroup_v1 && !Path::new("/sys/fs/cgroup/pids/tasks").exists() {
            skipped(&format!("docs: {}:{} shows cgroup v1", block.page, block.line));
            return;
        }
        for step in &block.steps {
            let program = step.command.split_whitespace().next().unwrap_or_default();
            if !has(program) && program != "rbox" && !["cd", "kill", "echo"].contains(&program) {
                skipped(&format!("docs: {}:{} needs {program}", block.page, step.line));
                return;
            }
            if step.command.contains(" -it ") {
                self.terminals += 1;
                continue;
            }
            self.step(block, step);
        }
    }

    fn step(&mut self, block: &Block, step: &Step) {
        let (root, state) = (self.root.display().to_string(), self.state.display().to_string());
        let command = step.command.replace("/var/lib/rbox", &root).replace("/run/rbox", &state);
        if command.trim_end().ends_with('&') {
            let line = command.trim_end().trim_end_matches('&').to_owned();
            let mut shell = (self.shell)(&format!("exec {line} >/dev/null 2>&1"));
            let child = shell.current_dir(&self.dir).spawn().unwrap();
            // It is a server: the next line wants it to listen.
            let begin = Instant::now();
            std::thread::sleep(Duration::from_millis(700));
            while line.starts_with("python3 ") && !has_socket(child.id()) && begin.elapsed() < patience(WAIT)
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            self.background.push(child);
            return;
        }
        let begin = Instant::now();
        // What only looks is asked again for a while: a server may not listen yet, a container not have ended.
        let looks =
            ["curl ", "rbox inspect ", "rbox exec ", "rbox ps ", "rbox pid ", "rbox stats ", "rbox logs "];
        while let Err(wrong) = self.attempt(block, step, &command) {
            let again = looks.iter().any(|look| command.starts_with(look));
            if !again || begin.elapsed() > patience(WAIT) {
                return self.wrong.push(wrong);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn attempt(&self, block: &Block, step: &Step, command: &str) -> Result<(), String> {
        let out = (self.shell)(&format!("exec 2>&1\n{command}"))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = self.as_in_docs(&String::from_utf8_lossy(&out.stdout));
        let place = format!("{}:{}: {}", block.page, step.line, step.command);
        if step.expected.is_empty() {
            if !out.status.success() {
                return Err(format!("{place}\n  ended with {:?}:\n{printed}", out.status.code()));
            }
            return Ok(());
        }
        let normal = |line: &str| normal(line, block.numbers_differ);
        let expected: Vec<String> = step.expected.iter().map(|line| normal(line)).collect();
        let shown: Vec<String> = printed.lines().map(normal).collect();
        if !matches(&expected, &shown) {
            return Err(format!(
                "{place}\n  shows\n{}\n  prints\n{printed}  compared as\n{}\n  with\n{}",
                step.expected.join("\n"),
                expected.join("\n"),
                shown.join("\n")
            ));
        }
        Ok(())
    }

    /// With the directories, bridge and table of the one rbox that the pages know.
    fn as_in_docs(&self, printed: &str) -> String {
        let (root, state) = (self.root.display().to_string(), self.state.display().to_string());
        let own = bridge_name(&self.state);
        let mut text = printed.replace(&root, "/var/lib/rbox").replace(&state, "/run/rbox");
        text = text.replace(&format!("/{own}"), "/rbox").replace(&format!("{own}/"), "rbox/");
        for family in ["ip", "ip6", "bridge"] {
            text = text.replace(&format!("{family} {own}"), &format!("{family} rbox"));
        }
        text.replace(&own, "rbox0")
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        for child in &mut self.background {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `…` alone is any number of lines.
fn matches(expected: &[String], shown: &[String]) -> bool {
    match expected.split_first() {
        None => shown.is_empty(),
        Some((line, rest)) if line == "…" => (0..=shown.len()).any(|skip| matches(rest, &shown[skip..])),
        Some((line, rest)) => shown.split_first().is_some_and(|(first, others)| {
            let same = match line.strip_suffix('…') {
                Some(begin) => first.starts_with(begin),
                None => first == line,
            };
            same && matches(rest, others)
        }),
    }
}

/// A line without what differs from run to run, and with single spaces.
fn normal(line: &str, numbers_differ: bool) -> String {
    if line.trim() == "…" {
        return "…".to_owned();
    }
    let line = line.replace("Less than a second", "0 seconds").replace("About a minute", "1 minute");
    let mut out: Vec<String> = Vec::new();
    for word in line.split_whitespace() {
        let unit = word.trim_matches(|c: char| !c.is_alphanumeric());
        let counted = ["second", "seconds", "minute", "minutes", "ms", "µs"].contains(&unit);
        if counted && out.last().is_some_and(|last| last.ends_with(|c: char| c.is_ascii_digit())) {
            out.pop();
            out.push("TIME".to_owned());
            continue;
        }
        let after_pid = out.last().is_some_and(|last| last.ends_with("pid") || last.ends_with("process"));
        out.push(normal_word(word, numbers_differ || after_pid));
    }
    out.join(" ")
}

/// Runs of characters that are an id, an address, a moment or a size.
fn normal_word(word: &str, numbers_differ: bool) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '/' | 'µ');
        let length = rest.find(|c: char| !is_part(c)).unwrap_or(rest.len()).max(first.len_utf8());
        let (part, after) = rest.split_at(length);
        out.push_str(&normal_part(part, numbers_differ));
        rest = after;
    }
    out
}

fn normal_part(part: &str, numbers_differ: bool) -> String {
    if let Some(known) = ["0.0.0.0", "127.0.0.11", "127.0.0.1"].iter().find(|known| part.starts_with(**known))
    {
        return format!("{known}{}", normal_part(&part[known.len()..], numbers_differ));
    }
    if part.matches(':').count() == 5 && part.len() == 17 {
        return "MAC".to_owned();
    }
    let is_name = |name: &str| name.len() == 3 && name.starts_with(|c: char| c.is_ascii_uppercase());
    if matches!(part.split('/').collect::<Vec<_>>()[..], [day, month, year] if day.len() == 2 && is_name(month) && year.len() == 4)
    {
        return "DATE".to_owned();
    }
    let is_time =
        part.len() >= 8 && part.matches(':').count() >= 2 && part.starts_with(|c: char| c.is_ascii_digit());
    if is_time {
        return "TIME".to_owned();
    }
    let unit = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if unit.len() < part.len()
        && ["B", "kB", "MB", "GB", "KiB", "MiB", "GiB", "%", "ms", "µs"].contains(&unit)
    {
        return "SIZE".to_owned();
    }
    let mut out = String::new();
    let mut rest = part;
    while let Some(first) = rest.chars().next() {
        let hex = rest.find(|c: char| !c.is_ascii_digit() && !('a'..='f').contains(&c)).unwrap_or(rest.len());
        let dotted = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (what, length) = if rest[..dotted].matches('.').count() == 3 && digits > 0 {
            ("IP", dotted)
        } else if hex >= 12 || digits >= 9 {
            ("ID", hex.max(digits))
        } else if digits > 0 && numbers_differ {
            ("N", digits)
        } else {
            let length = digits.max(first.len_utf8());
            out.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        };
        out.push_str(what);
        rest = &rest[length..];
    }
    out
}

/// Runs pages one after the other; each command with these variables and rbox on its path.
fn run_pages(t: &Test, own: &OwnRoots, pages: &[&str]) -> Vec<String> {
    let bin = t.dir("bin");
    let _ = std::os::unix::fs::symlink(binary(), bin.join("rbox"));
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let shell = |script: &str| {
        let mut command = own.program("bash");
        command.arg("-c").arg(script).env("PATH", &path);
        command
    };
    let mut wrong = Vec::new();
    for page in pages {
        let dir = t.dir(&page.replace('/', "-"));
        std::fs::write(dir.join("test.py"), "print('ok')\n").unwrap();
        let rootfs = dir.join("rootfs/bin");
        std::fs::create_dir_all(&rootfs).unwrap();
        let script = format!(
            "{} run --rm {BUSYBOX} cat /bin/busybox > {echo} && chmod 755 {echo}",
            binary().display(),
            echo = rootfs.join("echo").display()
        );
        t.program("bash", ["-c", &script]).run().ok();
        let mut run = Page {
            dir,
            root: own.root.clone(),
            state: own.state.clone(),
            shell: &shell,
            background: Vec::new(),
            wrong: Vec::new(),
            terminals: 0,
        };
        for block in blocks(&project().join(page)).iter().filter(|block| block.not_run.is_none()) {
            run.run(block);
        }
        println!("{page}: {} commands need a terminal", run.terminals);
        wrong.append(&mut run.wrong);
        drop(run);
        let clean = "rbox rm -f $(rbox ps -aq) >/dev/null 2>&1; rbox volume prune -af >/dev/null; rbox network prune -f >/dev/null";
        assert!(shell(clean).status().unwrap().success());
    }
    wrong
}

/// How long a server may take to listen, and what only looks may see nothing.
const WAIT: Duration = Duration::from_secs(6);

fn has_socket(pid: u32) -> bool {
    let Ok(all) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let targets = all.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.into_iter().any(|target| target.to_string_lossy().starts_with("socket:"))
}

fn ready(t: &Test) -> Option<OwnRoots> {
    if !project().join("docs").is_dir() {
        skipped("the pages are not here");
        return None;
    }
    for port in [5353, 8080, 8099, 8443, 8642, 9000, 9001] {
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_err() {
            skipped(&format!("port {port} of the host, which the pages publish, is taken"));
            return None;
        }
    }
    Some(OwnRoots::new(t, "own", &t.suite.registry))
}

#[test]
fn few_blocks_are_not_run_and_each_says_why() {
    let docs = project().join("docs");
    if !docs.is_dir() {
        return skipped("the pages are not here");
    }
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(docs).unwrap().flatten().map(|entry| entry.path()).collect();
    pages.push(project().join("README.md"));
    let all: Vec<Block> = pages
        .iter()
        .filter(|page| page.extension().is_some_and(|e| e == "md"))
        .flat_map(|page| blocks(page))
        .collect();
    let reasons: Vec<&String> = all.iter().filter_map(|block| block.not_run.as_ref()).collect();
    assert!(reasons.len() <= MOST_NOT_RUN && reasons.iter().all(|why| why.len() > 10), "{reasons:?}");
    for block in all.iter().filter(|block| block.not_run.is_none()) {
        let run = RUN.iter().any(|page| page.ends_with(&block.page));
        assert!(run && !block.steps.is_empty(), "{}:{} is run by no test", block.page, block.line);
    }
}

/// The pages that have blocks.
const RUN: &[&str] = &[
    "docs/images.md",
    "README.md",
    "docs/defaults.md",
    "docs/limits.md",
    "docs/restart.md",
    "docs/health.md",
    "docs/logs.md",
    "docs/events.md",
    "docs/explain.md",
    "docs/look.md",
    "docs/lesson.md",
    "docs/walls.md",
    "docs/crash-safety.md",
    "docs/networking.md",
    "docs/build.md",
    "docs/bake.md",
    "docs/commit.md",
    "docs/compose.md",
    "docs/copy.md",
    "docs/secrets.md",
    "docs/volumes.md",
    "docs/devices.md",
    "docs/why.md",
    "docs/check.md",
    "docs/scripts.md",
    "docs/system.md",
    "docs/format.md",
    "docs/security.md",
];

#[test]
fn pages_print_what_they_show() {
    let Some(t) = Test::start() else { return };
    let Some(own) = ready(&t) else { return };
    // It shows how images come and go, so there is none at first.
    let mut wrong = run_pages(&t, &own, &RUN[..1]);
    // What their commands pull in passing would be in the way of what they print.
    own.run(&["pull", "-q", "python:3.11-slim"]).ok();
    own.run(&["pull", "-q", BUSYBOX]).ok();
    for image in ["redis:7", "nginx:1.22", "postgres:15"] {
        own.run(&["pull", "-q", image]).ok();
    }
    wrong.extend(run_pages(&t, &own, &RUN[1..]));
    assert!(
        wrong.is_empty(),
        "{} commands do not print what is shown:\n\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}
