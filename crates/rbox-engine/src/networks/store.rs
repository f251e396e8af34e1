//! The networks there are, and which of them containers are on.

use std::time::{Duration, Instant};

use rbox_network::{Endpoint, Error, Names, Network, NetworkStore, Wish};
use rbox_spec::container::NetworkMode;
use rbox_spec::id::ContainerId;

use crate::containers::find;
use crate::record::container::{Container, ContainerRecord, LiveState};
use crate::record::file::{RecordError, read_json};
use crate::record::paths::Paths;

/// The networks of these paths.
pub(crate) fn networks(paths: &Paths) -> NetworkStore {
    NetworkStore::open(&paths.network(), &paths.live_network(), Names::for_state(&paths.state))
}

/// The network without places that a container is on: `host` or `none`.
pub(crate) fn builtin(paths: &Paths, record: &ContainerRecord) -> Option<Network> {
    match record.host.network {
        NetworkMode::Host => networks(paths).host().ok(),
        NetworkMode::None => networks(paths).none().ok(),
        NetworkMode::Bridge | NetworkMode::Container(_) => None,
    }
}

/// The containers that somebody looks after, or may: with what is known of each.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// The endpoints of those that run.
    pub(crate) endpoints: Vec<Endpoint>,
    /// All that have a live directory: it is there before anything else of a start is, and goes last.
    pub(crate) ids: Vec<ContainerId>,
    /// Those among them whose live state cannot be read: what they have is not known.
    pub(crate) unreadable: Vec<ContainerId>,
}

impl Live {
    /// Those there are now. What a container has on the host is in its live state, so that one whose `config.json` is damaged is
    /// known all the same.
    pub(crate) fn read(paths: &Paths) -> Result<Self, RecordError> {
        let mut all = Self::default();
        for id in find::entries(&paths.live())? {
            match read_json::<LiveState>(&paths.live_state(&id)) {
                Ok(Some(live)) if live.running && live.has_process() => all.endpoints.extend(live.endpoints),
                Ok(_) => {}
                Err(_) => all.unreadable.push(id.clone()),
            }
            all.ids.push(id);
        }
        Ok(all)
    }

    /// Whether a link of the host's may be one of theirs, whatever their records say.
    pub(crate) fn may_have(&self, link: &str) -> bool {
        self.ids.iter().any(|id| rbox_network::is_link_of(link, id.as_str()))
    }
}

/// The endpoints of all containers that live.
pub(crate) fn live_endpoints(paths: &Paths) -> Vec<Endpoint> {
    Live::read(paths).unwrap_or_default().endpoints
}

/// Whether an address held in this container's name is in use: its record is there and somebody has its lock, or
/// its process is running.
pub(crate) fn is_live(paths: &Paths, id: &str) -> bool {
    let Ok(id) = id.parse() else { return false };
    crate::record::lock::Lock::is_held(&paths.live_of(&id))
        || Container::read(paths, &id).ok().flatten().is_some_and(|c| c.is_running())
}

/// Removes a user's network, which is free once all that were on it have ended.
pub(crate) fn remove(paths: &Paths, network: &Network) -> Result<(), Error> {
    once_given_back(|| match networks(paths).remove(network, &|id| is_live(paths, id)) {
        Err(Error::NetworkInUse { network, owners }) => {
            let wait = !owners.iter().any(|id| is_active(paths, id));
            Err((Error::NetworkInUse { network, owners }, wait))
        }
        done => done.map_err(|error| (error, false)),
    })
}

/// Takes a place on a network. An address is free once the container that had it has ended.
pub(crate) fn plan(
    paths: &Paths,
    store: &NetworkStore,
    network: &Network,
    wish: &Wish,
) -> Result<Endpoint, Error> {
    once_given_back(|| {
        store.plan(network, wish, &|id| is_live(paths, id)).map_err(|error| {
            let wait = match &error {
                Error::NoAddress { owners, .. } => owners.iter().any(|id| has_ended(paths, id)),
                Error::AddressInUse { owner, .. } => has_ended(paths, owner),
                _ => false,
            };
            (error, wait)
        })
    })
}

/// Does what needs something that containers have: who has ended gives it back only after its exit was told, so that is waited for as
/// long as `attempt` says that it failed for nothing else.
fn once_given_back<T>(mut attempt: impl FnMut() -> Result<T, (Error, bool)>) -> Result<T, Error> {
    let begin = Instant::now();
    loop {
        match attempt() {
            Err((_, true)) if begin.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done.map_err(|(error, _)| error),
        }
    }
}

/// Whether a container has ended, so that it is about to give back what it has. One that cannot be read may run.
fn has_ended(paths: &Paths, id: &str) -> bool {
    let Ok(id) = id.parse() else { return false };
    match Container::read(paths, &id) {
        // Of one with --rm the record goes first.
        Ok(None) => true,
        Ok(Some(container)) => container.exit.is_some() && !container.is_active(),
        Err(_) => false,
    }
}

/// Whether a container runs, or its monitor is starting it.
pub(crate) fn is_active(paths: &Paths, id: &str) -> bool {
    let Ok(id) = id.parse() else { return false };
    let Ok(Some(container)) = Container::read(paths, &id) else { return false };
    container.is_active()
        || (container.exit.is_none() && crate::record::lock::Lock::is_held(&paths.live_of(&id)))
}
