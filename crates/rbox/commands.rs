//! The table of all commands. A command is built only when it is asked for; see [`crate::cli`].

use crate::cli::Entry;
use crate::{
    archive, exec, generate, history, images, info, inspect, logs, network, pid, ps, pull, rename, rm, rmi,
    run, start, stats, stop, system, top, volume,
};

/// Words that only lead to other commands.
pub(crate) const GROUPS: &[(&str, &str)] = &[
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("network", "Manage networks"),
    ("system", "Manage rbox"),
    ("volume", "Manage volumes"),
];

/// Every command, by what one needs first.
pub(crate) static COMMANDS: &[Entry] = &[
    Entry::of::<run::Run>(&["run", "container run"]),
    Entry::of::<exec::Exec>(&["exec", "container exec"]),
    Entry::of::<run::Create>(&["create", "container create"]),
    Entry::of::<start::Start>(&["start", "container start"]),
    Entry::of::<start::Attach>(&["attach", "container attach"]),
    Entry::of::<ps::Ps>(&["ps", "container ls", "container list", "container ps"]),
    Entry::of::<logs::Logs>(&["logs", "container logs"]),
    Entry::of::<stop::Stop>(&["stop", "container stop"]),
    Entry::of::<stop::Kill>(&["kill", "container kill"]),
    Entry::of::<rm::Rm>(&["rm", "container rm", "container remove"]),
    Entry::of::<stop::Restart>(&["restart", "container restart"]),
    Entry::of::<stop::Wait>(&["wait", "container wait"]),
    Entry::of::<stop::Pause>(&["pause", "container pause"]),
    Entry::of::<stop::Unpause>(&["unpause", "container unpause"]),
    Entry::of::<inspect::Inspect>(&["inspect"]),
    Entry::of::<inspect::InspectContainer>(&["container inspect"]),
    Entry::of::<rename::Rename>(&["rename", "container rename"]),
    Entry::of::<rename::Port>(&["port", "container port"]),
    Entry::of::<top::Top>(&["top", "container top"]),
    Entry::of::<pid::Pid>(&["pid", "container pid"]),
    Entry::of::<stats::Stats>(&["stats", "container stats"]),
    Entry::of::<rm::Prune>(&["container prune"]),
    Entry::of::<pull::Pull>(&["pull", "image pull"]),
    Entry::of::<images::Images>(&["images", "image ls", "image list"]),
    Entry::of::<rmi::Rmi>(&["rmi", "image rm", "image remove"]),
    Entry::of::<rmi::Tag>(&["tag", "image tag"]),
    Entry::of::<history::History>(&["history", "image history"]),
    Entry::of::<inspect::InspectImage>(&["image inspect"]),
    Entry::of::<archive::Load>(&["load", "image load"]),
    Entry::of::<archive::Save>(&["save", "image save"]),
    Entry::of::<archive::Import>(&["import", "image import"]),
    Entry::of::<rmi::Prune>(&["image prune"]),
    Entry::of::<volume::Create>(&["volume create"]),
    Entry::of::<volume::Ls>(&["volume ls", "volume list"]),
    Entry::of::<inspect::InspectVolume>(&["volume inspect"]),
    Entry::of::<volume::Rm>(&["volume rm", "volume remove"]),
    Entry::of::<volume::Prune>(&["volume prune"]),
    Entry::of::<network::Ls>(&["network ls", "network list"]),
    Entry::of::<inspect::InspectNetwork>(&["network inspect"]),
    Entry::of::<info::Info>(&["info", "system info"]),
    Entry::of::<info::Version>(&["version"]),
    Entry::of::<system::Df>(&["system df"]),
    Entry::of::<system::Prune>(&["system prune"]),
    Entry::of::<system::Reset>(&["system reset"]),
    Entry::of::<generate::Completion>(&["completion"]),
    Entry::of::<generate::Man>(&["man"]),
];
