//! What matters in a stage, read off the calls that made it: nothing is said that was not done.

use std::collections::BTreeMap;

use crate::explain::args;
use crate::explain::event::Call;
use crate::explain::stage::Stage;

/// One line.
pub(crate) fn of(stage: Stage, calls: &[Call]) -> String {
    match stage {
        Stage::Image => image(calls),
        Stage::Group => group(calls),
        Stage::Namespaces => namespaces(calls),
        Stage::Network => network(calls),
        Stage::Root => root(calls),
        Stage::Identity => identity(calls),
        Stage::Program => program(calls),
        Stage::Other => other(calls),
    }
}

/// Those of one name that worked.
fn done<'a>(calls: &'a [Call], name: &'a str) -> impl DoubleEndedIterator<Item = &'a Call> {
    calls.iter().filter(move |call| call.name == name && call.worked())
}

fn image(calls: &[Call]) -> String {
    // With a user namespace there is one stack to read from first, and then that with ids mapped.
    let mapped = "stack the layers with ids mapped";
    let is_mapped = calls.iter().any(|call| call.step.as_deref() == Some(mapped));
    let of_final = |call: &&Call| !is_mapped || call.step.as_deref() == Some(mapped);
    let set = |key: &str| {
        let pairs = done(calls, "fsconfig").filter(of_final).map(Call::quoted);
        pairs.filter(|quoted| quoted.first() == Some(&key)).count()
    };
    // Before Linux 6.7 in one string.
    let in_one = |call: &Call| {
        let (_, list) = call.args.split_once("lowerdir=")?;
        Some(list.split(',').next().unwrap_or_default().split(':').count())
    };
    let layers = set("lowerdir+").max(done(calls, "mount").filter(of_final).find_map(in_one).unwrap_or(0));
    let below = match layers {
        1 => "1 read-only layer".to_owned(),
        _ => format!("{layers} read-only layers"),
    };
    let above = if set("upperdir") > 0 || done(calls, "mount").any(|call| call.args.contains("upperdir=")) {
        ", and one directory above for changes"
    } else {
        ""
    };
    format!("overlay of {below}{above}")
}

/// The control group of the container, below /sys/fs/cgroup.
pub(crate) fn group_path(calls: &[Call]) -> Option<String> {
    let made = calls.iter().filter(|call| call.name == "mkdirat").flat_map(Call::quoted);
    let path = made.max_by_key(|path| path.matches('/').count())?.strip_prefix("/sys/fs/cgroup/")?;
    // With cgroup v1 the controllers have a tree each.
    let of_v1 = [
        "unified",
        "memory",
        "pids",
        "cpu",
        "cpu,cpuacct",
        "devices",
        "blkio",
        "cpuset",
        "freezer",
        "cpuacct",
        "hugetlb",
        "perf_event",
        "net_cls",
        "net_cls,net_prio",
        "net_prio",
        "rdma",
        "misc",
    ];
    match path.split_once('/') {
        Some((first, rest)) if of_v1.contains(&first) => Some(rest.to_owned()),
        _ => Some(path.to_owned()),
    }
}

/// What was written into its files.
pub(crate) fn limits(calls: &[Call]) -> BTreeMap<String, String> {
    let mut limits = BTreeMap::new();
    for call in done(calls, "write") {
        let Some((path, _)) = call.args.split_once(">, ") else { continue };
        let Some((_, file)) = path.rsplit_once('/') else { continue };
        let moves = ["tasks", "cgroup.procs", "cgroup.subtree_control"].contains(&file);
        if path.contains("/sys/fs/cgroup/") && !moves {
            let value = call.quoted().first().map_or_else(String::new, |value| (*value).to_owned());
            limits.insert(file.to_owned(), value);
        }
    }
    limits
}

fn group(calls: &[Call]) -> String {
    let name = group_path(calls).map_or_else(String::new, |path| short(&path));
    let limits = limits(calls);
    let limits: Vec<String> = limits.iter().map(|(file, value)| format!("{file} = {value}")).collect();
    if limits.is_empty() { name } else { format!("{name}: {}", limits.join(", ")) }
}

/// A path without most of a long id at its end.
fn short(path: &str) -> String {
    let (before, id) = path.rsplit_once('/').unwrap_or(("", path));
    let id: String = id.chars().take(12).collect();
    if before.is_empty() { id } else { format!("{before}/{id}") }
}

/// The names of namespaces by their flags.
const NAMESPACES: [(&str, &str); 8] = [
    ("CLONE_NEWUSER", "user"),
    ("CLONE_NEWPID", "pid"),
    ("CLONE_NEWNS", "mnt"),
    ("CLONE_NEWNET", "net"),
    ("CLONE_NEWUTS", "uts"),
    ("CLONE_NEWIPC", "ipc"),
    ("CLONE_NEWCGROUP", "cgroup"),
    ("CLONE_NEWTIME", "time"),
];

fn namespaces(calls: &[Call]) -> String {
    let makers: Vec<&Call> = ["clone3", "unshare"].into_iter().flat_map(|name| done(calls, name)).collect();
    let has = |flag: &str| {
        let mut words =
            makers.iter().flat_map(|call| call.args.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()));
        words.any(|word| word == flag)
    };
    let (own, shared): (Vec<_>, Vec<_>) = NAMESPACES.iter().partition(|(flag, _)| has(flag));
    let list = |found: Vec<&(&str, &str)>| found.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" ");
    format!("new: {}; not new: {}", list(own), list(shared))
}

/// Its addresses with their networks' bridges.
pub(crate) fn addresses(calls: &[Call]) -> Vec<String> {
    let links = done(calls, "linkat").filter_map(|call| call.quoted().last().copied());
    links.filter_map(|path| path.rsplit_once('/').map(|(_, ip)| ip.to_owned())).collect()
}

/// Its ports on the host.
pub(crate) fn ports(calls: &[Call]) -> Vec<String> {
    done(calls, "bind").map(|call| call.args.split(',').next().unwrap_or_default().to_owned()).collect()
}

fn network(calls: &[Call]) -> String {
    let addresses = addresses(calls);
    if addresses.is_empty() {
        let wanted = calls.iter().any(|call| call.step.as_deref() == Some("take an address"));
        return if wanted { "no address was free" } else { "a loopback, and no other link" }.to_owned();
    }
    let cables = done(calls, "sendto").filter_map(|call| {
        let rest = call.args.split_once("RTM_NEWLINK veth ")?.1;
        let (outer, rest) = rest.split_once(" master ")?;
        let (bridge, rest) = rest.split_once(", peer ")?;
        Some(format!("{} is {outer} in {bridge}", rest.split(' ').next()?))
    });
    let mut parts = vec![addresses.join(", ")];
    parts.extend(cables);
    parts.extend(ports(calls).into_iter().map(|port| format!("host port {port}")));
    parts.join("; ")
}

fn root(calls: &[Call]) -> String {
    let step =
        |name: &str| calls.iter().filter(|call| call.step.as_deref() == Some(name)).collect::<Vec<_>>();
    let mut kinds: Vec<&str> = Vec::new();
    for call in done(calls, "fsopen").filter(|call| call.step.as_deref() != Some("mask paths")) {
        let kind = call.quoted().first().copied().unwrap_or_default();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let placed = |calls: &[&Call]| calls.iter().filter(|call| call.name == "move_mount").count();
    let binds = placed(&step("bind mount"));
    let masked = placed(&step("mask paths"));
    format!("{}; {binds} binds; {masked} paths masked", kinds.join(" "))
}

fn identity(calls: &[Call]) -> String {
    let mut parts = Vec::new();
    if let Some(user) = done(calls, "setresuid").last() {
        let group = done(calls, "setresgid").last();
        let first = |call: &Call| call.args.split(',').next().unwrap_or_default().to_owned();
        parts.push(format!("user {}:{}", first(user), group.map_or_else(String::new, first)));
    }
    let kept = done(calls, "capset").last().and_then(|call| {
        let digits = call.args.split_once("permitted=0x")?.1.split(',').next()?;
        u64::from_str_radix(digits, 16).ok().map(u64::count_ones)
    });
    parts.push(format!("{} of root's capabilities", kept.unwrap_or(0)));
    if let Some(filter) = done(calls, "seccomp").last() {
        let size = filter.args.split_once('{').map_or("", |(_, rest)| rest.trim_end_matches('}'));
        parts.push(format!("seccomp of {size}"));
    }
    if let Some(name) = done(calls, "sethostname").last().and_then(|call| call.quoted().first().copied()) {
        parts.push(format!("host name {name}"));
    }
    parts.join(", ")
}

fn other(calls: &[Call]) -> String {
    let mut steps: Vec<&str> = calls.iter().filter_map(|call| call.step.as_deref()).collect();
    steps.dedup();
    steps.join(", ")
}

fn program(calls: &[Call]) -> String {
    let Some(call) = calls.iter().rfind(|call| call.name == "execve") else { return String::new() };
    // Behind the path: the arguments in brackets.
    let list = args::split(&call.args).get(1).map_or("", |list| list.trim_matches(['[', ']']));
    if call.worked() { list.to_owned() } else { format!("{list}: {}", call.result) }
}

/// Why there is this stage: where its usual sentence would not be true, another.
pub(crate) fn why(stage: Stage, calls: &[Call]) -> &'static str {
    match stage {
        Stage::Network if addresses(calls).is_empty() => "Nothing gets in or out.",
        Stage::Program if !calls.iter().rfind(|call| call.name == "execve").is_some_and(Call::worked) => {
            "It is still rbox's code: there was nothing to become."
        }
        _ => stage.why(),
    }
}
