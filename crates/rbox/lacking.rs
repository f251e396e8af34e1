//! What a wrong word may have meant: a command or flag of Docker's that rbox does not have is named as such, and a slip with
//! what comes nearest.

use std::fmt::Write as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::commands::{COMMANDS, GROUPS};

/// Docker's commands that rbox has not.
const COMMANDS_OF_DOCKER: &[&str] = &[
    "attest",
    "checkpoint",
    "config",
    "model",
    "node",
    "plugin",
    "sbom",
    "scout",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
    "context create",
    "context export",
    "context import",
    "context rm",
    "context update",
    "system dial-stdio",
    "volume update",
];

/// What to do where a command is missing.
const INSTEAD: &[(&str, &str)] = &[(
    "volume update",
    "only cluster volumes of a swarm can be changed, and rbox has none: make another volume",
)];

/// A flag, and what to do without it.
type Lacking = (&'static str, &'static str);

const SWARM: &str = "it is for the volumes of a swarm, and rbox has none: a volume of this host takes --opt";
const CONFIG: &str =
    "it is for the networks of a swarm, and rbox has none: give --subnet, --gateway and --opt";
const CHECKPOINT: &str = "no state of processes is kept on disk: leave it out, and the program begins anew";
const REAL_TIME: &str =
    "the kernel has no such limit under cgroup v2; --cpus and --cpuset-cpus limit processors";
const KERNEL_MEMORY: &str = "leave it out: kernels have it no more, and -m counts the kernel's memory too";

/// Docker's flags that rbox has not, by command.
const FLAGS_OF_DOCKER: &[(&str, &[Lacking])] = &[
    ("run", OF_RUN),
    ("create", OF_RUN),
    ("start", &[("checkpoint", CHECKPOINT), ("checkpoint-dir", CHECKPOINT)]),
    (
        "update",
        &[("cpu-rt-period", REAL_TIME), ("cpu-rt-runtime", REAL_TIME), ("kernel-memory", KERNEL_MEMORY)],
    ),
    (
        "volume create",
        &[
            ("availability", SWARM),
            ("group", SWARM),
            ("limit-bytes", SWARM),
            ("required-bytes", SWARM),
            ("scope", SWARM),
            ("secret", SWARM),
            ("sharing", SWARM),
            ("topology-preferred", SWARM),
            ("topology-required", SWARM),
            ("type", SWARM),
        ],
    ),
    ("volume ls", &[("cluster", "it is for the volumes of a swarm, and rbox has none")]),
    (
        "network create",
        &[
            ("config-from", CONFIG),
            ("config-only", CONFIG),
            ("ingress", CONFIG),
            (
                "ipam-opt",
                "addresses are given out by rbox, which has no options for that: --subnet, --ip-range, --gateway and --aux-address say which",
            ),
        ],
    ),
];

const OF_RUN: &[Lacking] = &[
    ("cpu-count", "it is for containers of Windows: --cpus and --cpuset-cpus limit processors"),
    ("cpu-percent", "it is for containers of Windows: --cpus limits processors"),
    ("cpu-rt-period", REAL_TIME),
    ("cpu-rt-runtime", REAL_TIME),
    (
        "io-maxbandwidth",
        "it is for containers of Windows: --device-read-bps and --device-write-bps limit a device",
    ),
    (
        "io-maxiops",
        "it is for containers of Windows: --device-read-iops and --device-write-iops limit a device",
    ),
    ("kernel-memory", KERNEL_MEMORY),
];

/// What to say of a word, or two, that lead to no command.
pub(crate) fn command(name: &str) -> String {
    if COMMANDS_OF_DOCKER.contains(&name.split(' ').next().unwrap_or(name))
        || COMMANDS_OF_DOCKER.contains(&name)
    {
        let first = name.split(' ').next_back().unwrap_or(name);
        let instead = INSTEAD
            .iter()
            .find(|(lacking, _)| *lacking == name || *lacking == first)
            .map_or("see 'rbox --help'", |(_, hint)| hint);
        return format!("'{name}' is a docker command that rbox does not have; {instead}");
    }
    let group = name.split_once(' ').map(|(group, _)| group);
    let of_group = |path: &&str| path.split_once(' ').map(|(group, _)| group) == group;
    let groups = GROUPS.iter().map(|(group, _)| *group).filter(|_| group.is_none());
    let all = COMMANDS.iter().flat_map(|entry| entry.paths.iter().copied()).filter(of_group).chain(groups);
    // Nothing is near to a page of text, and to look would take long.
    let all = all.filter(|_| name.len() < 64);
    // One slip in a short word, two or three in a long one.
    let most = (name.len() / 3).max(1);
    // Of those equally near the one that is as long: `rum` is rather `run` than `rm`.
    let distance = |path: &str| (strsim::damerau_levenshtein(path, name), path.len().abs_diff(name.len()));
    let mut near: Vec<_> =
        all.map(|path| (distance(path), path)).filter(|((far, _), _)| *far <= most).collect();
    near.sort_unstable();
    let best = near.first().map(|(distance, _)| *distance);
    near.retain(|(distance, _)| Some(*distance) == best);
    let names: Vec<&str> = near.iter().map(|(_, path)| *path).collect();
    let mut line = format!("'{name}' is not an rbox command");
    let known = group.is_some_and(|group| GROUPS.iter().any(|(known, _)| *known == group));
    let help = group.filter(|_| known).map_or_else(String::new, |group| format!("{group} "));
    let _ = if names.is_empty() {
        write!(line, "; see 'rbox {help}--help'")
    } else {
        write!(line, ": did you mean {}? See 'rbox {help}--help'", names.join(" or "))
    };
    line
}

/// What to say of an option before the command that rbox has not.
pub(crate) fn global_flag(option: &str) -> String {
    let name = option.split('=').next().unwrap_or(option);
    match name {
        "--tls" | "--tlscacert" | "--tlscert" | "--tlskey" | "--tlsverify" => {
            format!(
                "docker's flag {name} is not supported: rbox has no daemon to connect to; see 'rbox --help'"
            )
        }
        _ => format!("unknown flag: {option}; see 'rbox --help'"),
    }
}

/// What to say of a flag that Docker's command has and rbox's has not; none for any other error.
pub(crate) fn flag(error: &clap::Error, command: &str) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = given.strip_prefix("--")?.split('=').next()?;
    let (_, flags) = FLAGS_OF_DOCKER.iter().find(|(of, _)| *of == command)?;
    let (_, instead) = flags.iter().find(|(lacking, _)| *lacking == name)?;
    Some(format!("docker's flag --{name} is not supported by rbox {command}; {instead}"))
}
