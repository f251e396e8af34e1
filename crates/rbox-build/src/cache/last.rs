//! What the steps of a build read the last time, and why a step is not cached now.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rbox_spec::Digest;
use rbox_spec::record::{Record, Step, decode, encode};
use rbox_sys::own;
use serde::{Deserialize, Serialize};

use super::key::Part;
use crate::context::Work;

/// What one step was made of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepTrace {
    /// The parts of its key.
    pub(crate) parts: Vec<(Part, String)>,
    /// What it read, by path.
    #[serde(with = "by_path")]
    pub(crate) files: BTreeMap<PathBuf, Digest>,
}

/// Digests by path as a list: a name in a document has to be text, that of a file is bytes.
mod by_path {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::PathBuf;

    use rbox_spec::Digest;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Name {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(
        files: &BTreeMap<PathBuf, Digest>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(files.iter().map(|(path, digest)| {
            let name = path.to_str().map_or_else(
                || Name::Bytes(path.as_os_str().as_bytes().to_vec()),
                |text| Name::Text(text.to_owned()),
            );
            (name, digest)
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<PathBuf, Digest>, D::Error> {
        let all = Vec::<(Name, Digest)>::deserialize(from)?;
        let path = |name| match name {
            Name::Text(text) => PathBuf::from(text),
            Name::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        };
        Ok(all.into_iter().map(|(name, digest)| (path(name), digest)).collect())
    }
}

/// The steps of a build, by stage and number.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Trace {
    steps: BTreeMap<String, StepTrace>,
}

impl Record for Trace {
    const STEPS: &'static [Step] = &[];
}

/// A build's steps, the last time and this time.
#[derive(Debug)]
pub(crate) struct Last {
    path: PathBuf,
    /// Read when somebody asks: a build whose steps are all cached, or never are, has nothing to compare.
    before: OnceCell<Trace>,
    now: Trace,
}

impl Last {
    /// Of the build with this name.
    pub(crate) fn of(build_dir: &Path, name: &str) -> Self {
        let dir = build_dir.join("last");
        let _ = own::make_private(&dir);
        Self { path: dir.join(format!("{name}.json")), before: OnceCell::new(), now: Trace::default() }
    }

    /// What it was the last time. What cannot be read was never built.
    fn before(&self) -> &Trace {
        self.before.get_or_init(|| {
            own::read(&self.path, 64 << 20).ok().and_then(|bytes| decode(&bytes).ok()).unwrap_or_default()
        })
    }

    /// Notes what a step is made of now.
    pub(crate) fn note(&mut self, step: &str, trace: StepTrace) {
        self.now.steps.insert(step.to_owned(), trace);
    }

    /// The step failed: the next time it is compared with what it was before that.
    pub(crate) fn forget(&mut self, step: &str) {
        self.now.steps.remove(step);
    }

    /// What was noted so far, for another process.
    pub(crate) fn take_now(&mut self) -> BTreeMap<String, StepTrace> {
        std::mem::take(&mut self.now.steps)
    }

    /// Takes in what another process has noted.
    pub(crate) fn take_in(&mut self, steps: BTreeMap<String, StepTrace>) {
        self.now.steps.extend(steps);
    }

    /// Why the step is not cached: the first thing that is different from the last time. `what`: the step in a few words.
    pub(crate) fn why(&self, step: &str) -> Option<String> {
        let now = self.now.steps.get(step)?;
        if self.before().steps.is_empty() {
            return None;
        }
        let Some(before) = self.before().steps.get(step) else { return Some("it is new".to_owned()) };
        if now.parts == before.parts {
            return Some("what it made is not in the cache any more".to_owned());
        }
        let different = now.parts.iter().zip(&before.parts).find(|(a, b)| a != b);
        let part = match different {
            Some(((now, _), (was, _))) if now == was => now,
            // One more or one less variable; nothing else comes and goes.
            Some(((part, _), (was, _))) => {
                if value(before, part).is_none() {
                    part
                } else {
                    was
                }
            }
            None if now.parts.len() > before.parts.len() => &now.parts.get(before.parts.len())?.0,
            None => &before.parts.get(now.parts.len())?.0,
        };
        Some(told(part, value(before, part), value(now, part), before, now))
    }

    /// All that is different from the last time, part by part and file by file.
    pub(crate) fn all_reasons(&self, step: &str) -> Vec<String> {
        let (Some(now), Some(before)) = (self.now.steps.get(step), self.before().steps.get(step)) else {
            return self.why(step).into_iter().collect();
        };
        let mut all = Vec::new();
        let parts = now.parts.iter().chain(&before.parts).map(|(part, _)| part);
        let mut told_parts: Vec<&Part> = Vec::new();
        for part in parts {
            let (was, is) = (value(before, part), value(now, part));
            if was == is || told_parts.contains(&part) {
                continue;
            }
            told_parts.push(part);
            if let Part::Files(_) = part {
                all.extend(all_files(before, now));
            } else {
                all.push(told(part, was, is, before, now));
            }
        }
        if all.is_empty() { self.why(step).into_iter().collect() } else { all }
    }

    /// Keeps what was noted for the next time. `is_whole`: all steps were carried out; of others it stays what it was. Best effort: without
    /// it nothing can be said.
    pub(crate) fn save(mut self, work: &Work, is_whole: bool) {
        if !is_whole {
            let mut all = self.before().clone();
            all.steps.append(&mut self.now.steps);
            self.now = all;
        }
        let Ok(bytes) = encode(&self.now) else { return };
        let temporary = work.fresh();
        if own::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &self.path)).is_err() {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

fn told(part: &Part, was: Option<&str>, is: Option<&str>, before: &StepTrace, now: &StepTrace) -> String {
    let change = |what: &str| match (was, is) {
        (None, _) => format!("{what} is new"),
        (_, None) => format!("{what} is gone"),
        (Some(was), Some(is)) => format!("{what}: {} → {}", clip(was), clip(is)),
    };
    match part {
        Part::Base => "what it stands on is different".to_owned(),
        Part::Instruction => "the instruction is different".to_owned(),
        Part::Env(name) => change(&format!("ENV {name}")),
        Part::Arg(name) => change(&format!("ARG {name}")),
        Part::Other(name) => change(name),
        Part::Files(from) => files_changed(from, before, now),
    }
}

fn files_changed(from: &str, before: &StepTrace, now: &StepTrace) -> String {
    let changed = now.files.iter().find_map(|(path, digest)| match before.files.get(path) {
        Some(was) if was == digest => None,
        Some(_) => Some((path, "changed")),
        None => Some((path, "is new")),
    });
    let gone =
        || before.files.keys().find(|path| !now.files.contains_key(*path)).map(|path| (path, "is gone"));
    match changed.or_else(gone) {
        Some((path, how)) => format!("{} {how}", path.display()),
        None => format!("the files of {from} are different"),
    }
}

/// Each file that is different.
fn all_files(before: &StepTrace, now: &StepTrace) -> Vec<String> {
    let paths: std::collections::BTreeSet<&PathBuf> = before.files.keys().chain(now.files.keys()).collect();
    let how = |path: &PathBuf| match (before.files.get(path), now.files.get(path)) {
        (Some(was), Some(is)) if was == is => None,
        (Some(_), Some(_)) => Some("changed"),
        (None, _) => Some("is new"),
        (_, None) => Some("is gone"),
    };
    paths.into_iter().filter_map(|path| Some(format!("{} {}", path.display(), how(path)?))).collect()
}

fn clip(text: &str) -> String {
    if text.chars().count() > 40 { text.chars().take(40).chain(['…']).collect() } else { text.to_owned() }
}

/// The value of a part of a step's key.
fn value<'t>(trace: &'t StepTrace, part: &Part) -> Option<&'t str> {
    trace.parts.iter().find(|(of, _)| of == part).map(|(_, value)| value.as_str())
}
