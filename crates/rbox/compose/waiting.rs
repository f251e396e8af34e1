//! Waiting until services are as far as those that depend on them want: healthy, or ended well.

use std::collections::BTreeMap;

use rbox_compose::model::Condition;
use rbox_compose::run::{self, Far};
use rbox_compose::{Instance, Observed};
use rbox_engine::engine::{Container, Happenings};

use crate::command::error::{Coded, NOT_DONE};
use crate::command::global::Global;
use crate::compose::graph::{Edge, TICK, Until};
use crate::compose::progress::Progress;
use crate::compose::stop::CONTAINER;
use crate::output::escape;
use crate::output::table::write_all;

/// What is known of those that are waited for.
pub(crate) struct Waiting<'a> {
    global: &'a Global,
    observed: &'a Observed,
    progress: &'a Progress,
    /// Wakes who waits.
    happenings: Happenings,
    /// By who waits and for whom: whether it is over.
    known: BTreeMap<(String, String), bool>,
}

impl<'a> Waiting<'a> {
    /// # Errors
    /// What happens cannot be watched.
    pub(crate) fn new(
        global: &'a Global,
        observed: &'a Observed,
        progress: &'a Progress,
    ) -> anyhow::Result<Self> {
        let happenings = global.engine.happenings()?;
        Ok(Self { global, observed, progress, happenings, known: BTreeMap::new() })
    }

    /// Whether all that `service` depends on is far enough for it. The first time it says who is waited for.
    ///
    /// # Errors
    /// One of them will never be, and is required.
    pub(crate) fn is_over<'e>(
        &mut self,
        service: &str,
        edges: impl Iterator<Item = (&'e String, &'e Edge)>,
    ) -> anyhow::Result<bool> {
        let mut all = true;
        for (other, edge) in edges.filter(|(_, edge)| edge.until != Until::Started) {
            all &= self.is_far(service, other, *edge)?;
        }
        Ok(all)
    }

    /// Waits until something has happened. What is drawn on a terminal moves meanwhile.
    pub(crate) fn pause(&self) {
        self.progress.tick();
        // What ends the wait otherwise is looked at again anyway.
        let _ = self.happenings.wait(None, self.progress.is_drawn().then_some(TICK));
    }

    fn is_far(&mut self, service: &str, other: &str, edge: Edge) -> anyhow::Result<bool> {
        let pair = (service.to_owned(), other.to_owned());
        let instances: Vec<&Instance> = self.observed.of_service(other).collect();
        match self.known.get(&pair) {
            Some(true) => return Ok(true),
            Some(false) => {}
            None if instances.is_empty() => {
                let message = format!("{service} is missing dependency {other}");
                if edge.required {
                    return Err(Coded { message, code: NOT_DONE }.into());
                }
                warn(&message);
                self.known.insert(pair, true);
                return Ok(true);
            }
            None => self.tell(&instances, "Waiting"),
        }
        let (over, word) = match self.far(&instances, edge.until) {
            Far::NotYet => (false, None),
            Far::Enough if edge.until == Until::Completed => (true, Some("Exited".to_owned())),
            Far::Enough => (true, Some("Healthy".to_owned())),
            Far::Failed(why) if edge.required => {
                let message = match edge.until {
                    Until::Completed => format!("service {other:?} {why}"),
                    _ => format!("dependency failed to start: {why}"),
                };
                self.tell(&instances, "Error");
                self.progress.leave();
                return Err(Coded { message, code: NOT_DONE }.into());
            }
            Far::Failed(why) => {
                warn(&format!("optional dependency {other:?}: {why}"));
                (true, Some(format!("Skipped: optional dependency {other:?} failed to start")))
            }
        };
        if let Some(word) = word {
            self.tell(&instances, &word);
        }
        self.known.insert(pair, over);
        Ok(over)
    }

    fn tell(&self, instances: &[&Instance], word: &str) {
        for one in instances {
            self.progress.line(CONTAINER, one.name(), word);
        }
    }

    fn far(&self, instances: &[&Instance], until: Until) -> Far {
        let mut result = if until == Until::Completed { Far::NotYet } else { Far::Enough };
        for one in instances {
            let Some(container) = self.global.engine.current(&one.container.record.id) else { continue };
            match far(&container, until) {
                Far::Enough if until == Until::Completed => result = Far::Enough,
                Far::NotYet if until != Until::Completed => result = Far::NotYet,
                Far::Failed(why) => return Far::Failed(why),
                _ => {}
            }
        }
        result
    }
}

/// How far one container is.
fn far(container: &Container, until: Until) -> Far {
    match until {
        Until::Started => Far::Enough,
        Until::Completed => run::far(container, Condition::CompletedSuccessfully),
        Until::Healthy => run::far(container, Condition::Healthy),
        Until::RunningOrHealthy => run::ready(container),
    }
}

fn warn(line: &str) {
    let _ = write_all(&mut std::io::stderr(), &format!("rbox: warning: {}\n", escape::text(line)));
}
