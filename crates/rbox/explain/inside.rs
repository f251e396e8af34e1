//! What the container's first process sees, in lines.

use crate::explain::event::{Mount, View};

/// Lines of the summary: a name, and what is said.
pub(crate) fn rows(view: &View) -> Vec<(&'static str, String)> {
    let list = |shared: bool| {
        let of = view.namespaces.iter().filter(|namespace| namespace.shared == shared);
        let each = of.map(|namespace| format!("{}:{}", namespace.name, namespace.number));
        each.collect::<Vec<_>>().join(" ")
    };
    let (masks, open): (Vec<_>, Vec<_>) = view.mounts.iter().partition(|mount| is_mask(mount));
    let mut mounts: Vec<String> = open.iter().map(|mount| format!("{} ({})", mount.at, mount.kind)).collect();
    mounts.extend((!masks.is_empty()).then(|| format!("and {} over parts of /proc and /sys", masks.len())));
    let rows = vec![
        ("process", format!("PID 1 inside is {} on the host", view.process)),
        ("its own", list(false)),
        ("the host's", list(true)),
        ("mounts", mounts.join(" ")),
    ];
    rows.into_iter().filter(|(_, said)| !said.is_empty()).collect()
}

/// Whether it hides something of the kernel's, or makes it read-only.
fn is_mask(mount: &Mount) -> bool {
    let at = mount.at.as_str();
    at.starts_with("/proc/") || (at.starts_with("/sys/") && mount.kind == "tmpfs" && at != "/sys/fs/cgroup")
}
