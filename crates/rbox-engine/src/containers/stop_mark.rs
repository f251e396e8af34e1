//! A note that somebody asked for the end of a container, for whoever decides what follows.

use std::path::PathBuf;

use rbox_spec::id::ContainerId;

use crate::monitor::protocol;
use crate::record::container::{process_is, process_start};
use crate::record::paths::{Paths, STOP};

/// Who wants a container to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Somebody who named it: `unless-stopped` remembers that.
    User,
    /// The host goes down, and the container comes back with it.
    Shutdown,
    /// Whoever asks starts it again at once: one of `--rm` is not removed.
    Restart,
}

pub(crate) fn mark(paths: &Paths, id: &ContainerId) -> PathBuf {
    paths.live_of(id).join(STOP)
}

/// Tells the monitor of `id` not to start it again. Best effort: a container whose live directory is gone has ended.
pub(crate) fn ask_to_end(paths: &Paths, id: &ContainerId, why: Why) {
    // What a user said outlasts what a shutdown says. Whoever restarts it wants it back, whatever signals it was sent before.
    let outlasts = match why {
        Why::User | Why::Shutdown => asked_to_end(paths, id) == Some(Why::User),
        // But not who was sent SIGKILL already.
        Why::Restart => is_killed(paths, id),
    };
    if !outlasts {
        let word = match why {
            Why::User => "user".to_owned(),
            Why::Shutdown => SHUTDOWN.to_owned(),
            Why::Restart => {
                let own = rustix::process::getpid().as_raw_nonzero().get();
                let ticks = process_start(own).map_or(0, |(ticks, _)| ticks);
                format!("{RESTART} {own} {ticks}")
            }
        };
        let _ = rbox_sys::own::write(&mark(paths, id), word);
    }
    // A monitor that waits looks for the file when somebody connects.
    drop(protocol::connect(&paths.live_of(id)));
}

/// Whether somebody asked for its end since it was started.
pub(crate) fn asked_to_end(paths: &Paths, id: &ContainerId) -> Option<Why> {
    let text = rbox_sys::own::read(&mark(paths, id), 1 << 10).ok()?;
    Some(match text {
        _ if text == SHUTDOWN.as_bytes() => Why::Shutdown,
        _ if text.starts_with(RESTART.as_bytes()) && is_restarting(&text) => Why::Restart,
        _ => Why::User,
    })
}

/// Notes that it was sent SIGKILL by one who does not wait for it.
pub(crate) fn mark_killed(paths: &Paths, id: &ContainerId) {
    let _ = rbox_sys::own::write(&mark(paths, id), KILLED);
}

/// Whether that was noted since it was started.
pub(crate) fn is_killed(paths: &Paths, id: &ContainerId) -> bool {
    rbox_sys::own::read(&mark(paths, id), 1 << 10).is_ok_and(|text| text == KILLED)
}

/// Whether the one who said so is still there to start it again.
fn is_restarting(mark: &[u8]) -> bool {
    let text = String::from_utf8_lossy(mark);
    let mut words = text.split(' ').skip(1);
    let pid = words.next().and_then(|pid| pid.parse().ok());
    let ticks = words.next().and_then(|ticks| ticks.parse().ok());
    pid.zip(ticks).is_some_and(|(pid, ticks)| process_is(pid, ticks))
}

const SHUTDOWN: &str = "shutdown";
const RESTART: &str = "restart";

/// In the mark: a user wants its end, and it was sent SIGKILL.
const KILLED: &[u8] = b"killed";

/// Somebody starts it: what was asked before holds no more.
pub(crate) fn forget_asked(paths: &Paths, id: &ContainerId) {
    // It is not there but after an exit that found no room on disk.
    let _ = std::fs::remove_file(mark(paths, id));
}
