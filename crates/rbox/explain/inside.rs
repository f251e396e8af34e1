//! What the container sees, read off /proc while its first process is still rbox's own code.

use std::fs;
use std::path::Path;

/// What was found; nothing before it was looked.
#[derive(Debug, Default)]
pub(crate) struct View {
    looked: bool,
    /// Each namespace, its number, and whether the host has the same.
    namespaces: Vec<(&'static str, String, bool)>,
    /// Where what kind of file system is mounted.
    mounts: Vec<(String, String)>,
}

/// As /proc/PID/ns names them.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

impl View {
    /// Looks once.
    pub(crate) fn look(&mut self, pid: Option<u32>) {
        let Some(pid) = pid.filter(|_| !self.looked) else { return };
        self.looked = true;
        let number = |who: &str, name: &str| {
            let link = fs::read_link(Path::new("/proc").join(who).join("ns").join(name)).ok()?;
            Some(link.to_str()?.split_once('[')?.1.trim_end_matches(']').to_owned())
        };
        let who = pid.to_string();
        for name in NAMESPACES {
            let Some(inside) = number(&who, name) else { continue };
            let shared = number("self", name).is_some_and(|host| host == inside);
            self.namespaces.push((name, inside, shared));
        }
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        self.mounts = table.lines().filter_map(mount).collect();
    }

    /// Lines of the summary: a name, and what is said.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        let list = |shared: bool| {
            let of = self.namespaces.iter().filter(|(.., of)| *of == shared);
            of.map(|(name, number, _)| format!("{name}:{number}")).collect::<Vec<_>>().join(" ")
        };
        if !self.namespaces.is_empty() {
            rows.push(("its own", list(false)));
            rows.push(("the host's", list(true)));
        }
        if !self.mounts.is_empty() {
            let (masks, open): (Vec<_>, Vec<_>) =
                self.mounts.iter().partition(|(at, kind)| is_mask(at, kind));
            let mut each: Vec<String> = open.iter().map(|(at, kind)| format!("{at} ({kind})")).collect();
            each.extend(
                (!masks.is_empty()).then(|| format!("and {} over parts of /proc and /sys", masks.len())),
            );
            rows.push(("mounts", each.join(" ")));
        }
        rows
    }
}

/// Whether it hides something of the kernel's, or makes it read-only.
fn is_mask(at: &str, kind: &str) -> bool {
    at.starts_with("/proc/") || (at.starts_with("/sys/") && kind == "tmpfs" && at != "/sys/fs/cgroup")
}

/// A line of mountinfo (`proc_pid_mountinfo(5)`): where, and what kind.
fn mount(line: &str) -> Option<(String, String)> {
    let (before, after) = line.split_once(" - ")?;
    Some((before.split(' ').nth(4)?.to_owned(), after.split(' ').next()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_read() {
        let line = "22 28 0:21 / /proc rw,nosuid shared:5 master:1 - proc proc rw";
        assert_eq!(mount(line), Some(("/proc".to_owned(), "proc".to_owned())));
        assert_eq!(mount("no mount"), None);
    }
}
