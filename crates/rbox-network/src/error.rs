//! What can go wrong between a container and the wire.

use std::net::IpAddr;
use std::path::PathBuf;

use rbox_spec::Kind;
use rbox_sys::plain;
use rustix::io::Errno;

/// An error of this crate: what was attempted, on what, and why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request the kernel refused.
    #[error("{}: {}", in_words(what), named(*.errno))]
    Kernel {
        /// The request as `--explain` shows it.
        what: String,
        /// The kernel's reason.
        errno: Errno,
    },
    /// An answer that did not come.
    #[error(
        "{}: the kernel gave no answer: its netlink buffer may be too small (sysctl net.core.rmem_default)",
        in_words(what)
    )]
    NoAnswer {
        /// The request.
        what: String,
    },
    /// An answer that could not be read.
    #[error("{}: the kernel's answer is not understood: {why}", in_words(what))]
    Answer {
        /// The request.
        what: String,
        /// What was wrong with the answer.
        why: String,
    },
    /// A file of the network's state.
    #[error("{what} {path}: {}", plain(source))]
    File {
        /// `read`, `write`, …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// No candidate subnet is free of the host's routes.
    #[error(
        "no private subnet is free of this host's routes and networks: choose one (rbox network create --subnet SUBNET NAME) and name that network (--network NAME)"
    )]
    NoSubnet,
    /// Every address of the network is taken.
    #[error(
        "network {network} has no free address left in {subnet}: remove stopped containers or use another network"
    )]
    NoAddress {
        /// The network's name.
        network: String,
        /// Its subnet.
        subnet: String,
        /// The ids of the containers that have them.
        owners: Vec<String>,
    },
    /// Linux bridges hold 1,023 ports.
    #[error("bridge {0} is full: a Linux bridge holds 1,023 containers; stop some or use a second network")]
    BridgeFull(String),
    /// An address that was asked for and that another container has.
    #[error("Address already in use: {ip} of network {network}{}", by(owner))]
    AddressInUse {
        /// The address.
        ip: IpAddr,
        /// The network's name.
        network: String,
        /// The id of the container that has it.
        owner: String,
    },
    /// No such network.
    #[error("network {0} not found")]
    NoNetwork(String),
    /// Several networks' ids begin so.
    #[error("network {prefix} is ambiguous ({count} matches found based on ID prefix)")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many ids begin so.
        count: usize,
    },
    /// A network of this name is there.
    #[error("network with name {0} already exists")]
    NetworkExists(String),
    /// A subnet that was asked for.
    #[error("invalid pool request: Pool overlaps with other one on this address space: network {0} has it")]
    SubnetTaken(String),
    /// A subnet that was asked for and that the host's routes lead to.
    #[error("invalid pool request: {subnet} overlaps {what}, which could not be reached any more: {remedy}")]
    RouteTaken {
        /// The network's subnet.
        subnet: String,
        /// What the host has there.
        what: String,
        /// What can be done about it.
        remedy: String,
    },
    /// Removal of one of the three that are always there.
    #[error("{0} is a pre-defined network and cannot be removed")]
    Predefined(String),
    /// Removal of a network with containers on it.
    #[error("error while removing network: network {network} has active endpoints ({})", owners.join(", "))]
    NetworkInUse {
        /// The network's name.
        network: String,
        /// The ids of those containers.
        owners: Vec<String>,
    },
    /// A published port that another container of ours holds.
    #[error("Bind for {address} failed: port is already allocated{holder}")]
    PortAllocated {
        /// Address and port.
        address: String,
        /// ` (by CONTAINER)` when it is known.
        holder: String,
    },
    /// A published port that something else on the host holds.
    #[error("failed to bind host port {address}/{proto}: {}", bound(*.errno, holder))]
    PortTaken {
        /// Address and port.
        address: String,
        /// tcp, udp or sctp.
        proto: String,
        /// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`.
        errno: Errno,
        /// ` by python3 (pid 4711)` when it is known.
        holder: String,
    },
    /// IPv6 host addresses cannot be translated to a container that has IPv4 only.
    #[error(
        "cannot publish on {0}: the container's network has no IPv6; publish on an IPv4 address, or create the network with --ipv6"
    )]
    Ipv6(String),
    /// A network with IPv6 where the kernel has none.
    #[error("network {0} has IPv6, and this host's kernel has none")]
    NoIpv6(String),
    /// A value of `--add-host`, `--dns` and the like.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    /// What it means to the caller.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Kernel { errno, .. } | Self::PortTaken { errno, .. } => {
                Kind::of_errno(errno.raw_os_error())
            }
            Self::File { source, .. } => Kind::of_io(source),
            Self::NoAnswer { .. } => Kind::Unavailable,
            Self::Answer { .. } => Kind::Internal,
            Self::NoSubnet | Self::NoAddress { .. } | Self::BridgeFull(_) => Kind::NoSpace,
            Self::AddressInUse { .. }
            | Self::NetworkExists(_)
            | Self::SubnetTaken(_)
            | Self::RouteTaken { .. }
            | Self::NetworkInUse { .. }
            | Self::PortAllocated { .. }
            | Self::Ambiguous { .. } => Kind::Conflict,
            Self::NoNetwork(_) => Kind::NotFound,
            Self::Predefined(_) => Kind::Denied,
            Self::Ipv6(_) | Self::NoIpv6(_) => Kind::Unsupported,
            Self::Invalid(_) => Kind::Invalid,
        }
    }
}

impl Error {
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::File { what, path: path.into(), source: source.into() }
    }

    /// The kernel's reason, when this is a refused request.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { errno, .. } | Self::PortTaken { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn by(owner: &str) -> String {
    owner.get(..12).map_or(String::new(), |id| format!(" (container {id} has it)"))
}

/// Why a port could not be bound, in Docker's words where it has some.
fn bound(errno: Errno, holder: &str) -> String {
    match errno {
        Errno::ADDRINUSE => {
            format!("address already in use{holder}: stop what listens there, or publish on another port")
        }
        Errno::MFILE => {
            "too many open files: each published port takes one; raise the hard limit (ulimit -Hn)".into()
        }
        Errno::ADDRNOTAVAIL => "cannot assign requested address: this host does not have it".into(),
        _ => named(errno),
    }
}

/// The requests of netlink, and what each is for.
const REQUESTS: [(&str, &str); 20] = [
    ("RTM_GETLINK", "find link"),
    ("RTM_NEWLINK", "make or change link"),
    ("RTM_SETLINK", "set link"),
    ("RTM_DELLINK", "delete link"),
    ("RTM_GETADDR", "list addresses"),
    ("RTM_NEWADDR", "add address"),
    ("RTM_GETROUTE", "look up route"),
    ("RTM_NEWROUTE", "add route"),
    ("RTM_DELROUTE", "delete route"),
    ("RTM_GETMULTICAST", "list multicast groups of link"),
    ("NFT_MSG_GETCHAIN", "read nftables chain"),
    ("NFT_MSG_GETRULE", "read nftables rules of"),
    ("NFT_MSG_GETSETELEM", "read nftables elements of"),
    ("NFT_MSG_GETGEN", "read the generation of nftables"),
    ("IPCTNL_MSG_CT_GET", "list tracked connections"),
    ("IPCTNL_MSG_CT_DELETE", "forget tracked connection"),
    ("SOCK_DIAG_BY_FAMILY", "list sockets of"),
    ("socket(NETLINK_ROUTE)", "open a socket for links and routes"),
    ("socket(NETLINK_NETFILTER)", "open a socket for nftables"),
    ("socket(NETLINK_SOCK_DIAG)", "open a socket to list sockets"),
];

/// A request as `--explain` shows it, in words.
fn in_words(what: &str) -> String {
    REQUESTS.iter().fold(what.to_owned(), |told, (raw, words)| told.replace(raw, words))
}

/// `EINVAL (Invalid argument)`.
fn named(errno: Errno) -> String {
    let plain = plain(errno);
    let name = rbox_sys::SysError::new("", String::new(), errno).errno;
    format!("{name:?} ({plain})")
}
