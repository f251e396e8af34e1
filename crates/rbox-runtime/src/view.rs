//! What the container's first process sees, told once its tree is made and before it is let go: for `--explain`.

use std::path::Path;

use rbox_sys::trace;
use serde_json::{Value, json};

/// As /proc/PID/ns names them.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// Tells its number, its namespaces and its mounts, if anybody listens.
pub(crate) fn tell(pid: i32) {
    if !trace::enabled() {
        return;
    }
    let namespaces: Vec<Value> = NAMESPACES.iter().filter_map(|name| namespace(pid, name)).collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let mounts: Vec<Value> = table.lines().filter_map(mount).collect();
    trace::tell_view(&json!({ "process": pid, "namespaces": namespaces, "mounts": mounts }));
}

/// A namespace's number, and whether this process has the same.
fn namespace(pid: i32, name: &str) -> Option<Value> {
    let number = |who: &str| {
        let link = std::fs::read_link(Path::new("/proc").join(who).join("ns").join(name)).ok()?;
        Some(link.to_str()?.split_once('[')?.1.trim_end_matches(']').to_owned())
    };
    let inside = number(&pid.to_string())?;
    let shared = number("self").is_some_and(|host| host == inside);
    Some(json!({ "name": name, "number": inside, "shared": shared }))
}

/// A line of mountinfo (`proc_pid_mountinfo(5)`): where, and what kind.
fn mount(line: &str) -> Option<Value> {
    let (before, after) = line.split_once(" - ")?;
    Some(json!({ "at": before.split(' ').nth(4)?, "kind": after.split(' ').next()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read() {
        let line = "22 28 0:21 / /proc rw,nosuid shared:5 master:1 - proc proc rw";
        assert_eq!(mount(line), Some(json!({ "at": "/proc", "kind": "proc" })));
        assert_eq!(mount("no mount"), None);
    }
}
