//! Events that a killed process could not write any more. Whoever finishes its work looks whether they are in the journal, so that each
//! is there once. Nobody does this who was not interrupted: it reads the whole journal.

use std::time::Duration;

use rbox_network::{Endpoint, Network};
use rbox_spec::id::ContainerId;

use crate::journal::happening::{ContainerAction, Happening, given_up};
use crate::journal::message::{ActorType, Message};
use crate::journal::{note, reader};
use crate::record::container::{ContainerRecord, ExitRecord};
use crate::record::paths::Paths;

/// Writes that a container has ended as `exit` says, if nobody has written that since it was started.
pub(crate) fn die_if_missing(
    paths: &Paths,
    record: &ContainerRecord,
    endpoints: &[Endpoint],
    builtin: Option<&Network>,
    exit: &ExitRecord,
) {
    let (mut last, mut oom_told) = (None, false);
    each_of(paths, record, &mut |action| match action {
        "start" | "die" => (last, oom_told) = (Some(action == "die"), false),
        "oom" => oom_told = true,
        _ => {}
    });
    if last == Some(true) {
        return;
    }
    note(paths, &died(record, endpoints, builtin, exit, oom_told));
}

/// All that is to be said of the end of a container, in Docker's order. `oom_told`: that memory ran out was said when it did.
pub(crate) fn died<'a>(
    record: &'a ContainerRecord,
    endpoints: &'a [Endpoint],
    builtin: Option<&'a Network>,
    exit: &ExitRecord,
    oom_told: bool,
) -> Vec<Happening<'a>> {
    let ran = exit.started.map(|started| exit.finished.duration_since(started));
    let ran = ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or_default();
    let mut all = Vec::new();
    if exit.oom_killed && !oom_told {
        all.push(Happening::Container(record, ContainerAction::Oom));
    }
    all.extend(given_up(record, endpoints, builtin));
    all.push(Happening::Container(record, ContainerAction::Die { exit_code: exit.exit_code, ran }));
    all
}

/// Writes that a container is gone, if nobody has.
pub(crate) fn destroy_if_missing(paths: &Paths, record: &ContainerRecord) {
    let mut is_there = false;
    each_of(paths, record, &mut |action| is_there |= action == "destroy");
    if !is_there {
        note(paths, &[Happening::Container(record, ContainerAction::Destroy)]);
    }
}

/// The events of a container, oldest first.
pub(crate) fn history(paths: &Paths, id: &ContainerId, each: &mut dyn FnMut(&Message)) {
    let _ = reader::read_past(&paths.journal(), &mut |message| {
        if message.actor_type == ActorType::Container && message.id == id.as_str() {
            each(message);
        }
    });
}

/// What the journal has of a container, oldest first.
fn each_of(paths: &Paths, record: &ContainerRecord, each: &mut dyn FnMut(&str)) {
    history(paths, &record.id, &mut |message| each(&message.action));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::journal::note_container;

    #[test]
    fn an_end_is_told_once_a_life() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { root: dir.path().join("root"), state: dir.path().join("state") };
        paths.prepare().unwrap();
        let record = serde_json::json!({
            "record_version": 1, "id": "7".repeat(64), "name": "web", "created": "2026-01-01T00:00:00Z", "image": "x",
            "image_id": "", "image_manifest": "", "platform": "", "layers": [], "embedded": false, "config": {}, "host": {},
        });
        let record: ContainerRecord = rbox_spec::record::decode(record.to_string().as_bytes()).unwrap();
        let exit = ExitRecord::untold(255, String::new(), None);
        let actions = || {
            let mut all = Vec::new();
            each_of(&paths, &record, &mut |action| all.push(action.to_owned()));
            all.join(" ")
        };
        let end = || die_if_missing(&paths, &record, &[], None, &exit);
        note_container(&paths, &record, ContainerAction::Start);
        end();
        end();
        assert_eq!(actions(), "start die");
        note_container(&paths, &record, ContainerAction::Start);
        end();
        end();
        destroy_if_missing(&paths, &record);
        destroy_if_missing(&paths, &record);
        assert_eq!(actions(), "start die start die destroy");
        // Its start is in a file that is gone.
        std::fs::remove_file(paths.journal()).unwrap();
        end();
        end();
        assert_eq!(actions(), "die");
    }
}
