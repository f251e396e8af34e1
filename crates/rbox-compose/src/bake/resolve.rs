//! From all that is defined to the targets that are wanted: groups, what is inherited, what is set from outside, contexts that are targets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::config::Config;
use super::error::BakeError;
use super::overrides::{Allowed, Overrides};
use super::pattern::matches;
use super::target::{Group, Target, once};

/// Targets, by their names, and the groups that lead to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chosen {
    pub(crate) targets: BTreeMap<String, Target>,
    pub(crate) groups: BTreeMap<String, Group>,
}

/// Targets inherit from each other, and are contexts of each other, in no more steps.
const DEEPEST: usize = 200;

pub(crate) struct Resolver<'a> {
    targets: HashMap<&'a str, &'a Target>,
    groups: HashMap<&'a str, &'a Group>,
    config: &'a Config,
    overrides: Overrides,
    /// What a target says together with what it inherits.
    known: HashMap<String, Target>,
    pub(crate) allowed: Allowed,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        config: &'a Config,
        set: &[String],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, BakeError> {
        let mut groups = HashMap::new();
        for group in &config.groups {
            groups.entry(group.name.as_str()).or_insert(group);
        }
        Ok(Self {
            targets: config.targets.iter().map(|target| (target.name.as_str(), target)).collect(),
            groups,
            config,
            overrides: Overrides::parse(set, config, env)?,
            known: HashMap::new(),
            allowed: Allowed::default(),
        })
    }

    /// The targets that are meant by these words.
    pub(crate) fn choose(&mut self, words: &[String]) -> Result<Chosen, BakeError> {
        let mut wanted = Vec::new();
        for word in words {
            // As services have points in their names, and targets have not.
            wanted.extend(self.named(&word.replace('.', "_"))?);
        }
        once(&mut wanted);
        let mut chosen = Chosen::default();
        for word in &wanted {
            let (mut targets, mut groups) = (Vec::new(), Vec::new());
            self.open(word, &mut BTreeSet::new(), &mut targets, &mut groups)?;
            for name in targets {
                let target = self.whole(&name)?;
                chosen.targets.entry(name).or_insert(target);
            }
            for name in groups {
                if let Some(group) = self.groups.get(name.as_str()) {
                    chosen.groups.insert(name, (*group).clone());
                }
            }
        }
        for word in wanted {
            if word == "default" && chosen.groups.contains_key("default") {
                continue;
            }
            let group = chosen.groups.entry("default".to_owned()).or_default();
            "default".clone_into(&mut group.name);
            group.targets.push(word);
        }
        if let Some(group) = chosen.groups.get_mut("default") {
            once(&mut group.targets);
            group.targets.sort();
        }
        let names: Vec<String> = chosen.targets.keys().cloned().collect();
        let mut done = BTreeSet::new();
        for name in names {
            self.link(&name, &mut chosen.targets, &mut Vec::new(), &mut done)?;
        }
        Ok(chosen)
    }

    /// Names that a word means: itself, or those that it is a pattern of.
    fn named(&self, word: &str) -> Result<Vec<String>, BakeError> {
        if !word.contains(['*', '?', '[', ']']) {
            return Ok(vec![word.to_owned()]);
        }
        let groups = self.config.groups.iter().map(|group| &group.name);
        let names = groups.chain(self.config.targets.iter().map(|target| &target.name));
        let found: Vec<String> = names.filter(|name| matches(word, name)).cloned().collect();
        if found.is_empty() {
            return Err(BakeError::NotFound(format!("could not find any target matching {word:?}")));
        }
        Ok(found)
    }

    /// The targets of a group, and the groups in it; of a target that one.
    fn open(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        targets: &mut Vec<String>,
        groups: &mut Vec<String>,
    ) -> Result<(), BakeError> {
        let Some(group) = self.groups.get(name) else {
            targets.push(name.to_owned());
            return Ok(());
        };
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        if seen.len() > DEEPEST * DEEPEST {
            return Err(BakeError::Invalid(format!("group {name}: too many groups are in one another")));
        }
        groups.push(name.to_owned());
        for inner in &group.targets {
            // A group with a target of its own name means that one.
            if inner == name && self.targets.contains_key(inner.as_str()) {
                targets.push(inner.clone());
                continue;
            }
            if groups.len() > DEEPEST {
                return Err(BakeError::Invalid(format!(
                    "group {name}: more than {DEEPEST} groups are in one another"
                )));
            }
            self.open(inner, seen, targets, groups)?;
        }
        Ok(())
    }

    fn whole(&mut self, name: &str) -> Result<Target, BakeError> {
        let mut target = self.inherited(name, &mut BTreeSet::new())?;
        target.inherits.clear();
        target.context.get_or_insert_with(|| ".".to_owned());
        if target.dockerfile.as_deref().is_none_or(str::is_empty) {
            target.dockerfile = Some("Dockerfile".to_owned());
        }
        Ok(target)
    }

    /// A target over all that it inherits, in this order, and under what is set from outside.
    fn inherited(&mut self, name: &str, open: &mut BTreeSet<String>) -> Result<Target, BakeError> {
        if let Some(known) = self.known.get(name) {
            return Ok(known.clone());
        }
        let Some(target) = self.targets.get(name).copied() else { return Err(self.no_target(name)) };
        if open.len() > DEEPEST {
            return Err(BakeError::Invalid(format!(
                "target {name}: more than {DEEPEST} targets inherit from each other"
            )));
        }
        open.insert(name.to_owned());
        let mut whole = Target::default();
        for base in &target.inherits {
            if open.contains(base) {
                return Err(BakeError::Invalid(format!(
                    "target {name} inherits from {base}, which inherits from it"
                )));
            }
            let base = self.inherited(base, open)?;
            whole.merge(&base);
        }
        open.remove(name);
        whole.merge(target);
        name.clone_into(&mut whole.name);
        self.overrides.apply(&mut whole, &mut self.allowed)?;
        whole.normalize();
        self.known.insert(name.to_owned(), whole.clone());
        Ok(whole)
    }

    fn no_target(&self, name: &str) -> BakeError {
        let near = self
            .targets
            .keys()
            .chain(self.groups.keys())
            .filter(|known| strsim::damerau_levenshtein(known, name) <= 2);
        let hint = near.min().map(|near| format!(": did you mean {near}?")).unwrap_or_default();
        BakeError::NotFound(format!("failed to find target {name}{hint}"))
    }

    /// Adds the targets that are contexts of a target.
    fn link(
        &mut self,
        name: &str,
        all: &mut BTreeMap<String, Target>,
        open: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Result<(), BakeError> {
        if done.contains(name) {
            return Ok(());
        }
        if open.len() > DEEPEST {
            return Err(BakeError::Invalid(format!(
                "target {name}: more than {DEEPEST} targets are contexts of each other"
            )));
        }
        open.push(name.to_owned());
        let own = all.get(name).cloned().unwrap_or_default();
        for context in own.contexts.values() {
            let Some(of) = context.strip_prefix("target:") else { continue };
            if of == name {
                return Err(BakeError::Invalid(format!("target {name} cannot link to itself")));
            }
            if open.iter().any(|one| one == of) {
                return Err(BakeError::Invalid(format!("infinite loop from {name} to {of}")));
            }
            if !all.contains_key(of) {
                let mut linked = self.whole(of)?;
                let nowhere = super::entries::Entry { kind: "cacheonly".to_owned(), ..Default::default() };
                linked.outputs = Some(vec![nowhere]);
                linked.linked = true;
                all.insert(of.to_owned(), linked);
            }
            self.link(of, all, open, done)?;
            let linked = all.get(of).cloned().unwrap_or_default();
            check_platforms(name, &own, of, &linked)?;
            if let Some(target) = all.get_mut(name) {
                target.entitlements.extend(linked.entitlements);
                once(&mut target.entitlements);
            }
        }
        open.pop();
        done.insert(name.to_owned());
        Ok(())
    }
}

fn check_platforms(name: &str, own: &Target, of: &str, linked: &Target) -> Result<(), BakeError> {
    if let (Some(wanted @ [_, _, ..]), Some(there @ [_, _, ..])) =
        (own.platforms.as_deref(), linked.platforms.as_deref())
        && !wanted.iter().all(|platform| there.contains(platform))
    {
        return Err(BakeError::Invalid(format!(
            "target {of} can't be used by {name} because its platforms {wanted:?} are not a subset of {there:?}"
        )));
    }
    Ok(())
}
