//! The table of all commands. A command is built only when it is asked for; see [`crate::cli`].

use crate::builder::{build, cache};
use crate::command::entry::Entry;
use crate::compose::config;
use crate::container::{
    boot, commit, cp, diff, exec, export, logs, pid, port, ps, rename, rm, run, start, stats, stop, top,
    update,
};
use crate::image::{archive, history, images, login, pull, push, rmi};
use crate::network::{net, networks};
use crate::system::{context, disk, events, info};
use crate::volume::volumes;
use crate::{generate, inspect};

/// Words that only lead to other commands.
pub(crate) const GROUPS: &[(&str, &str)] = &[
    ("builder", "Build images, and manage what builds keep"),
    ("buildx", "Build images, under the name that people type"),
    ("compose", "Run projects of several services"),
    ("container", "Manage containers"),
    ("context", "Show the one context there is"),
    ("image", "Manage images"),
    ("network", "Manage networks"),
    ("system", "Manage rbox"),
    ("volume", "Manage volumes"),
];

/// Every command, by what one needs first.
pub(crate) static COMMANDS: &[Entry] = &[
    Entry::of::<run::Run>(&["run", "container run"]).entering(),
    Entry::of::<exec::Exec>(&["exec", "container exec"]).entering(),
    Entry::of::<run::Create>(&["create", "container create"]),
    Entry::of::<start::Start>(&["start", "container start"]).entering(),
    Entry::of::<start::Attach>(&["attach", "container attach"]),
    Entry::of::<ps::Ps>(&["ps", "container ls", "container list", "container ps"]),
    Entry::of::<logs::Logs>(&["logs", "container logs"]),
    Entry::of::<stop::Stop>(&["stop", "container stop"]),
    Entry::of::<stop::Kill>(&["kill", "container kill"]),
    Entry::of::<rm::Rm>(&["rm", "container rm", "container remove"]),
    Entry::of::<stop::Restart>(&["restart", "container restart"]).entering(),
    Entry::of::<stop::Wait>(&["wait", "container wait"]),
    Entry::of::<stop::Pause>(&["pause", "container pause"]),
    Entry::of::<stop::Unpause>(&["unpause", "container unpause"]),
    Entry::of::<inspect::Inspect>(&["inspect"]),
    Entry::of::<inspect::InspectContainer>(&["container inspect"]),
    Entry::of::<rename::Rename>(&["rename", "container rename"]),
    Entry::of::<update::Update>(&["update", "container update"]),
    Entry::of::<port::Port>(&["port", "container port"]),
    Entry::of::<port::Add>(&["port add"]),
    Entry::of::<port::Rm>(&["port rm", "port remove"]),
    Entry::of::<commit::Commit>(&["commit", "container commit"]),
    Entry::of::<diff::Diff>(&["diff", "container diff"]),
    Entry::of::<cp::Cp>(&["cp", "container cp"]),
    Entry::of::<export::Export>(&["export", "container export"]),
    Entry::of::<top::Top>(&["top", "container top"]),
    Entry::of::<pid::Pid>(&["pid", "container pid"]),
    Entry::of::<stats::Stats>(&["stats", "container stats"]),
    Entry::of::<rm::Prune>(&["container prune"]),
    Entry::of::<pull::Pull>(&["pull", "image pull"]),
    Entry::of::<push::Push>(&["push", "image push"]),
    Entry::of::<login::Login>(&["login"]),
    Entry::of::<login::Logout>(&["logout"]),
    Entry::of::<build::Build>(&["build", "image build", "builder build", "buildx build", "buildx b"])
        .entering(),
    Entry::of::<cache::Prune>(&["builder prune", "buildx prune"]),
    Entry::of::<cache::Du>(&["builder du", "buildx du"]),
    Entry::of::<config::Config>(&["compose config", "compose convert"]),
    Entry::of::<images::Images>(&["images", "image ls", "image list"]),
    Entry::of::<rmi::Rmi>(&["rmi", "image rm", "image remove"]),
    Entry::of::<rmi::Tag>(&["tag", "image tag"]),
    Entry::of::<history::History>(&["history", "image history"]),
    Entry::of::<inspect::InspectImage>(&["image inspect"]),
    Entry::of::<archive::Load>(&["load", "image load"]),
    Entry::of::<archive::Save>(&["save", "image save"]),
    Entry::of::<archive::Import>(&["import", "image import"]),
    Entry::of::<rmi::Prune>(&["image prune"]),
    Entry::of::<volumes::Create>(&["volume create"]),
    Entry::of::<volumes::Ls>(&["volume ls", "volume list"]),
    Entry::of::<inspect::InspectVolume>(&["volume inspect"]),
    Entry::of::<volumes::Rm>(&["volume rm", "volume remove"]),
    Entry::of::<volumes::Prune>(&["volume prune"]),
    Entry::of::<networks::Create>(&["network create"]),
    Entry::of::<networks::Ls>(&["network ls", "network list"]),
    Entry::of::<networks::Rm>(&["network rm", "network remove"]),
    Entry::of::<networks::Prune>(&["network prune"]),
    Entry::of::<networks::Connect>(&["network connect"]),
    Entry::of::<networks::Disconnect>(&["network disconnect"]),
    Entry::of::<networks::Reconcile>(&["network reconcile"]),
    Entry::of::<inspect::InspectNetwork>(&["network inspect"]),
    Entry::of::<net::Net>(&["net"]),
    Entry::of::<net::NetTrace>(&["net trace"]),
    Entry::of::<info::Info>(&["info", "system info"]),
    Entry::of::<info::Version>(&["version"]),
    Entry::of::<context::Ls>(&["context ls", "context list"]),
    Entry::of::<context::Show>(&["context show"]),
    Entry::of::<context::Inspect>(&["context inspect"]),
    Entry::of::<context::Use>(&["context use"]),
    Entry::of::<events::Events>(&["events", "system events"]),
    Entry::of::<disk::Df>(&["system df"]),
    Entry::of::<disk::Prune>(&["system prune"]),
    Entry::of::<disk::Reset>(&["system reset"]),
    Entry::of::<boot::Boot>(&["system boot"]).entering(),
    Entry::of::<boot::Shutdown>(&["system shutdown"]),
    Entry::of::<boot::Unit>(&["system unit"]),
    Entry::of::<generate::Completion>(&["completion"]),
    Entry::of::<generate::Man>(&["man"]),
];
