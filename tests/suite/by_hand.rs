//! `--explain=sh`: the script is run, and what it makes is compared with what rbox made.

use std::collections::BTreeSet;

use crate::harness::{BUSYBOX, Test, has, skipped};

/// What a program sees of its container, in sections.
const LOOK: &str = r##"
echo "# mounts"; cat /proc/self/mountinfo
for name in cgroup ipc mnt net pid user uts; do echo "# namespace $name"; readlink /proc/self/ns/$name; done
echo "# who"; pwd; id; hostname; grep -E '^(Uid|Gid|Groups|Cap|NoNew)' /proc/self/status
echo "# environment"; env | grep -v '^SHLVL' | sort
echo "# limits"; cat /proc/1/limits /proc/1/oom_score_adj
echo "# files"; cat /etc/hosts /etc/hostname /etc/resolv.conf; stat -c '%A %u %g %t:%T %N' /* /dev/* /dev/pts/ptmx | grep -v mem-
echo "# groups"; cat /proc/self/cgroup
cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null
echo "# links"; ip -o addr; ip route; ip -6 route
echo "# kernel"; cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/conf/*/accept_redirects /proc/sys/net/ipv6/conf/*/accept_ra 2>/dev/null
for path in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts /proc/sysrq-trigger /sys/firmware; do echo "$path $(ls "$path" 2>/dev/null | wc -l) $(head -c 9 "$path" 2>/dev/null | wc -c)"; done
(echo x >/proc/sys/kernel/domainname) 2>/dev/null && echo "/proc/sys can be written"
(: >/new) 2>/dev/null && echo "the root can be written"
echo "# processes"; tr '\0' ' ' </proc/1/cmdline | cut -c1-20
"##;

/// A mount by what it shows: numbers, and where the host has its files, are each one's own.
fn mount(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let dash = words.iter().position(|word| *word == "-").unwrap_or_else(|| panic!("{line}"));
    let (root, at, options, of) = (words[3], words[4], words[5], &words[dash + 1..]);
    let shared = words[6..dash].join(" ");
    let kind = of[0];
    let root = if root.contains("/hosts") || root.contains("/hostname") || root.contains("/resolv.conf") {
        "its file"
    } else {
        root
    };
    // A file system that is new is read-only as a whole when mount(8) makes it read-only.
    let settings: BTreeSet<&str> = match kind {
        "overlay" => of[2].split(',').filter(|option| !option.contains("dir")).collect(),
        _ => of[2].split(',').filter(|option| !["ro", "rw"].contains(option)).collect(),
    };
    format!("{at} {kind} {root} {options} {shared} {} {settings:?}", of[1])
}

/// What was seen, without what differs from one container to the next.
fn normal(text: &str) -> BTreeSet<String> {
    let mut section = "";
    let mut all = BTreeSet::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            section = name;
            continue;
        }
        let said = match section {
            "mounts" => mount(line),
            "links" => {
                line.split("if").next().unwrap_or_default().to_owned()
                    + line
                        .split_once(':')
                        .map_or("", |(_, rest)| rest.split_once("    ").map_or("", |(_, rest)| rest))
            }
            _ if section.starts_with("namespace ") => {
                let name = section.trim_start_matches("namespace ");
                let host = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
                if host.to_str() == Some(line) { "the host's" } else { "its own" }.to_owned()
            }
            _ => line.to_owned(),
        };
        all.insert(format!("{section}: {said}"));
    }
    all
}

fn tools() -> Option<&'static str> {
    ["setpriv", "unshare", "nsenter", "prlimit", "mount", "ip", "bridge", "nft", "sysctl"]
        .into_iter()
        .find(|tool| !has(tool))
}

/// Runs a container that looks around, and its script, and compares what both saw.
fn same(t: &Test, flags: &[&str], apart: &[&str]) -> String {
    let script = t.dir("script").join("made.sh");
    let to = script.to_str().unwrap();
    let run = ["run", "--rm", "--explain=sh", "--explain-to", to];
    let out = t.cmd(run).args(flags).args(&[BUSYBOX, "sh", "-c", LOOK]).run().code(0);
    let text = std::fs::read_to_string(&script).unwrap();
    let permissions = std::os::unix::fs::MetadataExt::mode(&script.metadata().unwrap());
    assert_eq!(permissions & 0o777, 0o600, "it has the program's variables");
    let by_hand = t.program("sh", [script.to_str().unwrap()]).run();
    let context = format!("{flags:?}\n{text}\n{}\n{}", out.stderr, by_hand.stderr);
    assert_eq!(by_hand.code, 0, "{context}");
    let (made, by_hand) = (normal(&out.stdout), normal(&by_hand.stdout));
    assert!(made.len() > 60, "{made:?}");
    let is_apart = |line: &&String| !apart.iter().any(|part| line.contains(part));
    let lost: Vec<&String> = made.difference(&by_hand).filter(is_apart).collect();
    let more: Vec<&String> = by_hand.difference(&made).filter(is_apart).collect();
    assert!(lost.is_empty() && more.is_empty(), "only rbox's: {lost:#?}\nonly by hand: {more:#?}\n{context}");
    text
}

#[test]
fn what_the_script_makes_is_the_same() {
    let Some(t) = Test::start() else { return };
    if let Some(tool) = tools() {
        return skipped(&format!("{tool} is not installed"));
    }
    if t.rbox(["run", "--rm", "--explain=sh", BUSYBOX, "true"]).stderr.contains("no script: ") {
        return skipped("Linux before 6.7");
    }
    let dir = t.dir("bound it's");
    let bind = format!("{}:/bound:ro", dir.display());
    let rich = [
        "-v",
        &bind,
        "--tmpfs",
        "/scratch:size=1m",
        "-m",
        "64m",
        "-p",
        "127.0.0.1:0:80",
        "-p",
        "127.0.0.1::81-85",
        "-e",
        "TEXT=it's \"quoted\" $HOME `id`\nin two lines",
        "--ulimit",
        "nproc=999",
        "--oom-score-adj",
        "5",
        "--sysctl",
        "net.core.somaxconn=64",
    ];
    let script = same(&t, &rich, &[]);
    assert_eq!(script.matches("nft add element ip ").count(), 6, "{script}");
    assert!(
        script.lines().all(|line| !line.contains(|char: char| char.is_control() && char != '\t')),
        "{script}"
    );
    same(&t, &["-u", "7:8", "--group-add", "9", "-w", "/etc/made", "--read-only"], &[]);
    same(&t, &["--network", "none", "--security-opt", "no-new-privileges", "--hostname", "it-is"], &[]);
    same(&t, &["--network", "host", "--uts", "host", "--cap-add", "SYS_PTRACE"], &[]);
    same(&t, &["--privileged"], &[]);
    // Names that images choose are no commands; what no command puts there is not in there, and nothing else is harmed.
    let source = dir.join("secret");
    std::fs::write(&source, "x").unwrap();
    let secret = format!("id=secret,src={}", source.display());
    let hostile = r#"/x>, "y", 7$(touch by-hand-canary),/b"#;
    let flags = ["--secret", &secret, "--tmpfs", hostile, "-e", "-Stouch=by-hand-canary"];
    let script = same(&t, &flags, &["/x>", "/run", "/x "]);
    assert!(script.contains("#   move_mount("), "{script}");
    assert!(!std::path::Path::new("by-hand-canary").exists());
    // What the program says on the same stream is none of the script.
    let says = ["run", "--rm", "--explain=sh", BUSYBOX, "sh", "-c", "echo 'exit 9' >&2"];
    let script = t.dir("mixed").join("made.sh");
    std::fs::write(&script, t.rbox(says).code(0).stderr).unwrap();
    let out = t.program("sh", [script.to_str().unwrap()]).run().code(0);
    assert_eq!(out.stderr, "exit 9\n");
    // The script says that one capability stays, which its last command needs.
    let script = same(&t, &["--cap-drop", "ALL"], &["who: Cap"]);
    assert!(script.contains("#   the last command needs sys_chroot"), "{script}");
}

#[test]
fn what_no_command_does_is_said() {
    let Some(t) = Test::start() else { return };
    let script = t.rbox(["run", "--rm", "--explain=sh", BUSYBOX, "true"]).code(0).stderr;
    let listed: Vec<&str> = script.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let is_known = |line: &&str| {
        ["seccomp(", "keyctl(", "bpf(", "sendto(netlink, nftables in the container"]
            .iter()
            .any(|known| line.starts_with(known))
    };
    assert!(listed.iter().all(is_known) && listed.len() >= 3, "{listed:#?}");
    // One that would only seem to be the same is none.
    let shared = t.name("shared");
    t.sleeper(&shared, ["--ipc", "shareable"]);
    let pid = format!("container:{shared}");
    let out = t.rbox(["run", "--rm", "--explain=sh", "--pid", &pid, BUSYBOX, "true"]).code(0);
    assert!(out.stderr.contains("no script: ") && !out.stderr.contains("mount"), "{}", out.stderr);
    // And of what never came to be.
    let out = t.rbox(["run", "--rm", "--explain=sh", BUSYBOX, "nosuch"]).code(127);
    assert!(out.stderr.contains("there was no program to execute"), "{}", out.stderr);
}
