//! `--without`: walls that a container is made without, to see what each of them holds.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use rbox_engine::spec::container::{HostConfig, IpcMode, NetworkMode, PidMode, SeccompMode};

use crate::args::asking;
use crate::command::error::bad_input;

/// What stands between a container and its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wall {
    Pid,
    Net,
    Mnt,
    Uts,
    Ipc,
    Cgroup,
    User,
    Seccomp,
    Caps,
    Pivot,
}

/// Options of `run` and `create`.
#[derive(Debug, clap::Args)]
pub(crate) struct WallFlags {
    /// Leave out a wall, to see what it holds: pid, net, uts, ipc, cgroup, user, seccomp or caps
    #[arg(long, value_name = "WALL", value_delimiter = ',', hide_possible_values = true)]
    without: Vec<Wall>,
    /// Do not ask about --without
    #[arg(long, requires = "without")]
    yes: bool,
}

impl Wall {
    fn name(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Mnt => "mnt",
            Self::Uts => "uts",
            Self::Ipc => "ipc",
            Self::Cgroup => "cgroup",
            Self::User => "user",
            Self::Seccomp => "seccomp",
            Self::Caps => "caps",
            Self::Pivot => "pivot",
        }
    }

    /// What can be seen or done now, and where to read on.
    fn told(self) -> &'static str {
        match self {
            Self::Pid => {
                "it is not PID 1, it sees the host's processes and can signal those of its user: pid_namespaces(7)"
            }
            Self::Net => {
                "it has the host's interfaces, addresses, ports and abstract sockets, and -p does nothing: network_namespaces(7)"
            }
            Self::Uts => "its host name is the host's: uts_namespaces(7)",
            Self::Ipc => {
                "it has the host's shared memory, semaphores, message queues and /dev/shm: ipc_namespaces(7)"
            }
            Self::Cgroup => "it sees where its control group is in the host's tree: cgroup_namespaces(7)",
            Self::User => {
                "its root is the host's root, as in every container without --userns: user_namespaces(7)"
            }
            Self::Seccomp => "it may try every system call that the kernel has: seccomp(2)",
            Self::Caps => "its root may all that the host's root may, such as mount: capabilities(7)",
            // Refused before.
            Self::Mnt | Self::Pivot => "",
        }
    }

    /// What a program without it can do to the host. `powerful`: it has more capabilities than a container usually has.
    fn harm(self, powerful: bool) -> Option<&'static str> {
        match self {
            Self::Pid => Some("end processes of the host"),
            Self::Ipc => Some("change and remove shared memory of the host"),
            Self::Caps => Some("take over the host"),
            Self::Net if powerful => Some("change the host's interfaces and firewall"),
            Self::Uts if powerful => Some("rename the host"),
            Self::Cgroup if powerful => Some("change limits of the host's other programs"),
            Self::Seccomp if powerful => Some("take over the host"),
            _ => None,
        }
    }

    /// Why there is no container without it, whoever confirms it.
    fn never(self) -> Option<&'static str> {
        match self {
            Self::Mnt => Some("what it mounts would be mounted on the host, and stay there after its end"),
            Self::Pivot => Some("the host's files would be one chdir away, for exec and cp too"),
            _ => None,
        }
    }
}

impl WallFlags {
    /// Takes the walls out of `host`. `beside`: a flag that was given and says otherwise.
    pub(crate) fn apply(
        &self,
        host: &mut HostConfig,
        beside: impl Fn(Wall) -> Option<&'static str>,
    ) -> anyhow::Result<()> {
        for wall in self.walls() {
            let name = wall.name();
            if let Some(why) = wall.never() {
                return Err(bad_input(format!("--without {name}: {why}: docs/walls.md shows it in safety")));
            }
            if let Some(flag) = beside(wall) {
                return Err(bad_input(format!("conflicting options: --without {name} and {flag}")));
            }
            match wall {
                Wall::Pid => host.pid = PidMode::Host,
                Wall::Net => {
                    host.network = NetworkMode::Host;
                    host.attachments.clear();
                }
                Wall::Uts => host.uts_host = true,
                Wall::Ipc => host.ipc = IpcMode::Host,
                Wall::Cgroup => host.cgroupns_host = true,
                Wall::User => "host".clone_into(&mut host.userns),
                Wall::Seccomp => host.seccomp = SeccompMode::Unconfined,
                Wall::Caps => host.cap_add = vec!["ALL".to_owned()],
                Wall::Mnt | Wall::Pivot => {}
            }
        }
        Ok(())
    }

    /// Each of them once, in the order they were given.
    fn walls(&self) -> impl Iterator<Item = Wall> {
        let all = &self.without;
        all.iter().enumerate().filter(|(at, wall)| !all[..*at].contains(wall)).map(|(_, wall)| *wall)
    }

    /// Says what is missing of the container that is about to be made, and has what could harm the host confirmed.
    pub(crate) fn settle(&self, host: &HostConfig) -> anyhow::Result<()> {
        let powerful = host.privileged || !host.cap_add.is_empty();
        let harmful = |wall: &Wall| wall.harm(powerful).map(|harm| (wall.name(), harm));
        let (names, mut harms): (Vec<_>, Vec<_>) = self.walls().filter_map(|wall| harmful(&wall)).unzip();
        harms.dedup();
        let is_asked = !self.yes && !names.is_empty();
        let could = format!("a program in it could {}", harms.join(" and "));
        if is_asked && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(bad_input(format!(
                "--without {}: {could}: say --yes too, or do it on a terminal, where you are asked",
                names.join(",")
            )));
        }
        for wall in self.walls() {
            eprintln!("without {}: {}", wall.name(), wall.told());
        }
        if is_asked {
            let prompt = format!("Without {} {could}. Go on? [y/N] ", names.join(" and "));
            let answer = asking::line_after(&mut std::io::stderr(), &prompt)?;
            if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
                return Err(bad_input("nothing was made"));
            }
        }
        Ok(())
    }
}
