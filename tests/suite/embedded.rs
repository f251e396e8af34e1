//! The image inside the binary: the first thing a newcomer runs.

use crate::harness::{OwnRoots, Test};

#[test]
fn hello_needs_no_registry_and_tells_what_it_sees() {
    let Some(t) = Test::start() else { return };
    // Roots of its own, and a registry configuration that leads nowhere.
    let own = OwnRoots::new(&t, "fresh", "127.0.0.1:1");
    let out = own.run(&["run", "--rm", "-m", "64m", "hello"]).ok();
    let lower = out.to_lowercase();
    for word in ["pid", "namespace", "host name", "address", "limit", "mount", "capabilit", "host"] {
        assert!(lower.contains(word), "it does not tell of {word}:\n{out}");
    }
    let row = |title: &str| {
        let line = out.lines().find(|l| l.starts_with(title)).unwrap_or_else(|| panic!("no {title}:\n{out}"));
        line[title.len()..].split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let pid = row("PID of this process");
    assert!(pid[0] == "1" && pid[1].parse::<u32>().is_ok_and(|pid| pid > 1), "{pid:?}");
    assert_eq!(row("memory limit")[..2], ["67108864", "67108864"]);
    // The host's side of the table: the namespaces as the host numbers them.
    let host = std::fs::read_link("/proc/self/ns/net")
        .unwrap()
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect::<String>();
    assert!(out.contains(&host), "the host's network namespace {host} is not beside the container's:\n{out}");
    assert_eq!(own.run(&["ps", "-aq"]).ok(), "");
}
