//! `--link`: another container by a name of this one's choice, in /etc/hosts and for the name server.
//!
//! The name server looks a link up anew for each question. /etc/hosts is text, so a container that starts tells those that
//! have a link to it: `<state>/links/<its id>/<id of one that links to it>` is there while such a container runs.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rbox_spec::container::Link;
use rbox_spec::id::{ContainerId, InvalidId};
use rbox_sys::reading::read_file;

use crate::error::EngineError;
use crate::record::container::{Container, ContainerRecord, LiveState};
use crate::record::paths::Paths;

fn marks(paths: &Paths, target: &ContainerId) -> PathBuf {
    paths.links().join(target.as_str())
}

/// The lines for /etc/hosts: each link's address with its names. A container of the default network only cannot be started
/// before those it links to, as with Docker.
pub(crate) fn hosts(
    paths: &Paths,
    record: &ContainerRecord,
    live: &LiveState,
) -> Result<Vec<(String, IpAddr)>, EngineError> {
    let mut lines = Vec::new();
    for link in &record.host.links {
        mark(paths, record, link)?;
        let addresses = addresses(paths, live, link);
        let default_only = record.host.attachments.iter().all(|wanted| wanted.network == "bridge");
        if addresses.is_empty() && default_only {
            let (target, own) = (&link.name, &record.name);
            return Err(EngineError::Conflict(format!(
                "Cannot link to a non running container: /{target} AS /{own}/{}",
                link.alias
            )));
        }
        lines.extend(addresses.into_iter().map(|ip| (names(link), ip)));
    }
    Ok(lines)
}

/// What a link's line in /etc/hosts calls the other container.
fn names(link: &Link) -> String {
    let short = link.container.get(..12).unwrap_or(&link.container);
    if link.alias == link.name {
        format!("{} {short}", link.alias)
    } else {
        format!("{} {short} {}", link.alias, link.name)
    }
}

/// The other container's addresses on the networks that both are on. One that is just starting has its addresses already.
fn addresses(paths: &Paths, live: &LiveState, link: &Link) -> Vec<IpAddr> {
    let target = link.container.parse().ok().and_then(|id| LiveState::read(paths, &id).ok().flatten());
    let target = target.filter(LiveState::has_process);
    let shared = |id: &str| live.endpoints.iter().any(|own| own.network_id == id);
    let endpoints = target.into_iter().flat_map(|other| other.endpoints);
    endpoints.filter(|other| shared(&other.network_id)).flat_map(|other| other.addresses()).collect()
}

fn mark(paths: &Paths, record: &ContainerRecord, link: &Link) -> Result<(), EngineError> {
    let target =
        link.container.parse().map_err(|error: InvalidId| EngineError::Damaged(error.to_string()))?;
    let dir = marks(paths, &target);
    rbox_sys::own::make_private(&dir).map_err(EngineError::file("make directory", &dir))?;
    let path = dir.join(record.id.as_str());
    rbox_sys::own::write(&path, "").map_err(EngineError::file("write", path))
}

/// Takes the marks of a container that has ended.
pub(crate) fn forget(paths: &Paths, id: &ContainerId) {
    for entry in std::fs::read_dir(paths.links()).into_iter().flatten().flatten() {
        // Not there is what is wanted; a directory that others have marks in stays.
        let _ = std::fs::remove_file(entry.path().join(id.as_str()));
        let _ = std::fs::remove_dir(entry.path());
    }
}

/// Gives a container that runs the lines of its links, as they are now.
pub(crate) fn follow(paths: &Paths, record: &ContainerRecord, live: &LiveState) -> Result<(), EngineError> {
    record.host.links.iter().try_for_each(|link| mark(paths, record, link))?;
    if !record.host.links.is_empty() {
        refresh(paths, record, live);
    }
    Ok(())
}

/// Tells those that have a link to the container `id`, which has just got its addresses.
pub(crate) fn announce(paths: &Paths, id: &ContainerId) {
    // Almost nobody has one: this is one look for a directory.
    for entry in std::fs::read_dir(marks(paths, id)).into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Ok(Some(Container { record, live: Some(live), .. })) = Container::read(paths, &id) {
            refresh(paths, &record, &live);
        }
    }
}

/// Takes a link's lines away from the file that the container sees.
pub(crate) fn leave(paths: &Paths, id: &ContainerId, link: &Link) {
    let own = names(link);
    edit_hosts(paths, id, |text| {
        let of_link = |line: &str| line.split_once('\t').is_some_and(|(_, rest)| rest == own);
        text.lines().filter(|line| !of_link(line)).flat_map(|line| [line, "\n"]).collect()
    });
}

/// Brings the lines of the links up to date in the file that the container sees.
fn refresh(paths: &Paths, record: &ContainerRecord, live: &LiveState) {
    edit_hosts(paths, &record.id, |text| {
        let links: Vec<String> = record.host.links.iter().map(names).collect();
        let of_link =
            |line: &str| line.split_once('\t').is_some_and(|(_, rest)| links.iter().any(|l| l == rest));
        let mut out: String =
            text.lines().filter(|line| !of_link(line)).flat_map(|line| [line, "\n"]).collect();
        for (link, names) in record.host.links.iter().zip(&links) {
            for ip in addresses(paths, live, link) {
                let _ = writeln!(out, "{ip}\t{names}");
            }
        }
        out
    });
}

/// Changes a living container's /etc/hosts in place: it is mounted, so it must stay the same file.
pub(crate) fn edit_hosts(paths: &Paths, id: &ContainerId, change: impl FnOnce(&str) -> String) {
    let path = paths.given_file(id, crate::record::paths::HOSTS);
    // Without it, or with one that the container has made something else of, the name server has the answer.
    if let Some(text) = read_hosts(&path) {
        let _ = rbox_sys::own::write(&path, change(&text));
    }
}

/// The text of a container's /etc/hosts, which it can write to itself.
pub(crate) fn read_hosts(path: &Path) -> Option<String> {
    const MOST: u64 = 1 << 20;
    String::from_utf8(read_file(path, MOST).ok()?).ok()
}
