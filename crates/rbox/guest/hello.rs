//! The program of the embedded image: prints what a container sees of itself, beside what the host sees of it.
//! rbox's executable is it when it is started by the name `hello`.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::process::ExitCode;

/// Prints the two views.
pub(crate) fn main() -> ExitCode {
    let host = host_view();
    let outside = |key: &str| host.get(key).cloned().unwrap_or_else(|| "-".to_owned());
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut row = |what: &str, inside: String, outside: String| rows.push([what.to_owned(), inside, outside]);

    row("PID of this process", std::process::id().to_string(), outside("pid"));
    row("host name", read("/proc/sys/kernel/hostname"), outside("hostname"));
    row("address", address(), outside("address"));
    row("network links", links(), outside("link"));
    for kind in ["pid", "mnt", "uts", "ipc", "net", "cgroup", "user"] {
        let key = format!("ns.{kind}");
        let own = namespace(kind);
        let theirs = outside(&key);
        let note = if own == theirs { " (the host's own)" } else { "" };
        row(&format!("{kind} namespace"), format!("{own}{note}"), theirs);
    }
    row("processes", processes(), outside("processes"));
    row("mounts", count("/proc/self/mountinfo"), outside("mounts"));
    row("root file system", root_kind(), outside("root"));
    row("control group", group(), outside("cgroup"));
    row("most processes", limit("pids.max", "pids"), outside("pids.max"));
    row("memory limit", memory(), outside("memory.max"));
    let status = read("/proc/self/status");
    let field =
        |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("-").trim().to_owned();
    let capabilities = field("CapEff:");
    row(
        "capabilities",
        format!("{capabilities} ({} of {})", bits(&capabilities), known_capabilities()),
        outside("capabilities"),
    );
    row("seccomp filter", if field("Seccomp:") == "2" { "yes".into() } else { "no".into() }, "-".to_owned());

    println!("Hello from inside a container. The same process, seen from both sides:\n");
    print_table(&rows);
    println!("\nNext: rbox run --rm --explain hello    shows how this was made, and why.");
    println!("      rbox run --rm -it python:3.11-slim    runs an image from a registry.");
    ExitCode::SUCCESS
}

/// What rbox wrote down for us, a `key=value` a line; empty when started otherwise.
fn host_view() -> BTreeMap<String, String> {
    let text = fs::read_to_string("/host-view").unwrap_or_default();
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn print_table(rows: &[[String; 3]]) {
    let width = |column: usize, header: &str| {
        rows.iter().map(|row| row[column].chars().count()).chain([header.len()]).max().unwrap_or(0)
    };
    let (what, inside) = (width(0, ""), width(1, "INSIDE"));
    println!("{:what$}   {:inside$}   FROM THE HOST", "", "INSIDE");
    for [name, in_here, out_there] in rows {
        println!("{name:what$}   {in_here:inside$}   {out_there}");
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "-".to_owned(), |text| text.trim().to_owned())
}

fn count(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "-".to_owned(), |text| text.lines().count().to_string())
}

fn namespace(kind: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

/// The address that would be used to talk to the world. Nothing is sent: connecting a datagram socket asks the
/// routing table only.
pub(super) fn address() -> String {
    let found = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    found.map_or_else(|_| "none".to_owned(), |address| address.ip().to_string())
}

pub(super) fn links() -> String {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let mut names: Vec<&str> =
        text.lines().skip(2).filter_map(|l| l.split(':').next()).map(str::trim).collect();
    names.sort_unstable();
    names.join(" ")
}

fn processes() -> String {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter(|e| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())).count();
    format!("{pids}")
}

fn root_kind() -> String {
    let mounts = read("/proc/self/mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/"));
    root.and_then(|line| line.split(" - ").nth(1))
        .and_then(|rest| rest.split(' ').next())
        .unwrap_or("-")
        .to_owned()
}

fn group() -> String {
    let text = read("/proc/self/cgroup");
    text.lines().find_map(|line| line.splitn(3, ':').nth(2)).unwrap_or("-").to_owned()
}

/// A limit of our own group: of the v2 tree, or of the v1 controller.
fn limit(file: &str, controller: &str) -> String {
    [format!("/sys/fs/cgroup/{file}"), format!("/sys/fs/cgroup/{controller}/{file}")]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .map_or_else(|| "-".to_owned(), |text| text.trim().to_owned())
}

fn memory() -> String {
    let v1 = fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes").unwrap_or_default();
    match v1.trim().parse::<u64>() {
        Ok(bytes) if bytes < 1 << 60 => bytes.to_string(),
        Ok(_) => "max".to_owned(),
        Err(_) => match limit("memory.max", "memory").as_str() {
            "-" => "max".to_owned(),
            text => text.to_owned(),
        },
    }
}

fn known_capabilities() -> u32 {
    read("/proc/sys/kernel/cap_last_cap").parse().map_or(0, |last: u32| last + 1)
}

fn bits(hex: &str) -> u32 {
    u64::from_str_radix(hex, 16).map_or(0, u64::count_ones)
}
