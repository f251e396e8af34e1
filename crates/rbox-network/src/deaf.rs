//! What a container's link takes from its neighbours: no address, no route, no better way.
//!
//! A container has what was planned for it. The guard of its bridge keeps router advertisements and redirects away; this
//! is for when somebody has flushed the guard, or the network is without.

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rbox_sys::file::write_setting;
use rbox_sys::process;

use crate::error::{Error, Result};

/// Settings of one link, below /proc/sys/net: `ip-sysctl.rst`. The link has its own value from when it is made: `all` and
/// `default` say nothing of it.
const SETTINGS: [(&str, &str); 5] = [
    ("ipv6", "accept_ra"),
    ("ipv6", "autoconf"),
    ("ipv6", "accept_redirects"),
    ("ipv4", "accept_redirects"),
    ("ipv4", "accept_source_route"),
];

/// Turns all of it off for `link`, which is down, in the network namespace `netns`.
pub(crate) fn make_deaf(netns: BorrowedFd<'_>, link: &str) -> Result<()> {
    let all = SETTINGS.map(|(family, key)| (format!("net/{family}/conf/{link}/{key}"), "0"));
    set_inside(netns, all.iter().map(|(path, value)| (path.as_str(), *value)), true)
}

/// Writes settings of the network namespace `netns`: paths below /proc/sys, and values. `lenient`: what the kernel does not
/// have, because it has no IPv6, is passed over.
pub fn set_inside<'a>(
    netns: BorrowedFd<'_>,
    settings: impl Iterator<Item = (&'a str, &'a str)>,
    lenient: bool,
) -> Result<()> {
    // What is below /proc/sys/net is that of the namespace of whoever opens it.
    process::in_network(netns, || {
        for (key, value) in settings {
            let path = Path::new("/proc/sys").join(key);
            match write_setting(&path, value) {
                Err(error) if lenient && error.kind() == ErrorKind::NotFound => {}
                written => written.map_err(|error| Error::file("write", &path, error))?,
            }
        }
        Ok(())
    })
    .map_err(|error| Error::Kernel {
        what: "enter the container's network namespace".into(),
        errno: rustix::io::Errno::from_raw_os_error(error.errno as i32),
    })?
}
