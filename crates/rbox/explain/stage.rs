//! The stages of a start, and which steps each has.

/// A stage: what a reader should have heard of when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    Image,
    Group,
    Network,
    Namespaces,
    Root,
    Identity,
    Program,
    /// What no other has.
    Other,
}

impl Stage {
    /// All, in the order in which they are told.
    pub(crate) const ALL: [Self; 8] = [
        Self::Image,
        Self::Group,
        Self::Namespaces,
        Self::Network,
        Self::Root,
        Self::Identity,
        Self::Program,
        Self::Other,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Group => "cgroup",
            Self::Network => "network",
            Self::Namespaces => "namespaces",
            Self::Root => "root files",
            Self::Identity => "identity",
            Self::Program => "exec",
            Self::Other => "other",
        }
    }

    /// What it is for, in one sentence.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Image => "Containers share layers; changes stay each one's own.",
            Self::Group => "What runs in it is counted, limited, ended together.",
            Self::Namespaces => "The walls: of these it sees its own.",
            Self::Network => "A cable from it to a bridge of the host's.",
            Self::Root => "Its tree is / now, and the host's is gone.",
            Self::Identity => "Who it is, and what it may do.",
            Self::Program => "What was rbox's code until here becomes PID 1.",
            Self::Other => "What else was done.",
        }
    }

    /// Where to read on.
    pub(crate) fn page(self) -> &'static str {
        match self {
            Self::Image => "mount(8)",
            Self::Group => "cgroups(7)",
            Self::Namespaces => "namespaces(7)",
            Self::Network => "veth(4)",
            Self::Root => "pivot_root(2)",
            Self::Identity => "capabilities(7)",
            Self::Program => "execve(2)",
            Self::Other => "syscalls(2)",
        }
    }

    /// The stage that a step is part of.
    pub(crate) fn of(step: &str) -> Self {
        let found = STEPS.iter().find(|(_, steps)| steps.contains(&step));
        found.map_or_else(
            || if step.starts_with("mount ") { Self::Root } else { Self::Other },
            |(stage, _)| *stage,
        )
    }
}

/// The steps by stage, but for those of the root's mounts.
const STEPS: [(Stage, &[&str]); 7] = [
    (Stage::Image, &["stack the layers", "stack the layers with ids mapped"]),
    (Stage::Group, &["make the control group", "enter the v1 control groups"]),
    (
        Stage::Namespaces,
        &[
            "clone into new namespaces",
            "make the cgroup namespace",
            "part from the host's mounts",
            "make a user namespace",
            "make ready for the user namespace",
            "join namespaces",
        ],
    ),
    (
        Stage::Network,
        &[
            "hold the published ports",
            "take an address",
            "check the bridge and the rules",
            "hand over a netlink socket",
            "wire the network",
            "admit it in the rules",
            "make the veth pair",
            "make its link deaf",
            "let its names be found",
            "enter the container's network",
            "open the name server",
            "raise the loopback",
        ],
    ),
    (
        Stage::Root,
        &[
            "write its files",
            "open the sources of mounts",
            "give a source to the container's user",
            "attach the root",
            "bind mount",
            "copy a file",
            "copy a mount of another container",
            "keep a null device",
            "make device nodes",
            "open the terminal",
            "write sysctls",
            "mask paths",
            "open the working directory",
            "seal the root",
            "run the hooks",
            "pivot root",
        ],
    ),
    (
        Stage::Identity,
        &[
            "adjust the OOM score",
            "set the host name",
            "connect standard streams",
            "leave the caller's keys",
            "set resource limits",
            "drop the bounding set",
            "become the user",
            "set capabilities",
            "no new privileges",
            "install the seccomp filter",
        ],
    ),
    (Stage::Program, &["execute the program"]),
];
