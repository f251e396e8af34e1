//! From a project and what there is of it to what is to be done, each step with its cause. Nothing is done here.

mod cause;
mod order;
mod outside;

use std::collections::{BTreeMap, BTreeSet};

use rbox_engine::engine::Status;

use crate::labels;
use crate::model::{Project, Service};
use crate::observed::{Instance, Observed};
use crate::request::container_name;

pub use cause::{Cause, Change};
pub use order::in_order;
pub use outside::Outside;

/// When a container that is there is made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recreate {
    /// When something of it has changed.
    #[default]
    Changed,
    /// Always.
    Force,
    /// Never.
    Never,
}

/// What is wanted besides what the files say.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// When the containers of these services are made again; of the others, [`Recreate::Changed`].
    pub recreate: Recreate,
    /// The same for those that were only named as dependencies.
    pub recreate_dependencies: Recreate,
    /// The services that were named; empty is all.
    pub named: BTreeSet<String>,
    /// How many containers, by service, in place of what the files say.
    pub scale: BTreeMap<String, u32>,
}

impl Wanted {
    fn recreate(&self, service: &str) -> Recreate {
        if self.named.is_empty() || self.named.contains(service) {
            self.recreate
        } else {
            self.recreate_dependencies
        }
    }

    /// How many containers a service is to have.
    pub fn count(&self, service: &Service) -> u32 {
        if service.provider.is_some() {
            return 0;
        }
        let of_files = u32::try_from(service.replicas()).unwrap_or(0);
        self.scale.get(&service.name).copied().unwrap_or(of_files)
    }
}

/// What is done to get one container of a service.
#[derive(Clone, Debug)]
pub enum Action {
    /// It is there as it is wanted.
    Keep(Box<Instance>),
    /// It is made.
    Create {
        /// Which of the service's containers, from 1.
        number: u32,
        /// Its name.
        name: String,
    },
    /// It is made again.
    Recreate {
        /// The one that is there.
        old: Box<Instance>,
        /// Its name afterwards.
        name: String,
        /// Why: at least one.
        why: Vec<Cause>,
    },
    /// It is one too many.
    Remove(Box<Instance>),
}

/// What is done for one service.
#[derive(Clone, Debug)]
pub struct ServicePlan {
    /// The service.
    pub service: String,
    /// Its containers, by number.
    pub actions: Vec<Action>,
}

/// What is done for a project, services that others depend on first.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// By service.
    pub services: Vec<ServicePlan>,
}

impl Plan {
    /// What is to be done to have `project` as it is wanted.
    pub fn of(project: &Project, observed: &Observed, outside: &Outside, wanted: &Wanted) -> Self {
        let mut services = Vec::new();
        // Those whose containers get another id: what shares something with them has to be made again.
        let mut replaced = BTreeSet::new();
        for service in in_order(project) {
            let actions = of_service(project, service, observed, outside, wanted, &replaced);
            if actions.iter().any(|action| !matches!(action, Action::Keep(_))) {
                replaced.insert(service.name.clone());
            }
            services.push(ServicePlan { service: service.name.clone(), actions });
        }
        Self { services }
    }

    /// Whether nothing is to be made, made again or removed.
    pub fn is_empty(&self) -> bool {
        self.services.iter().flat_map(|one| &one.actions).all(|action| matches!(action, Action::Keep(_)))
    }
}

fn of_service(
    project: &Project,
    service: &Service,
    observed: &Observed,
    outside: &Outside,
    wanted: &Wanted,
    replaced: &BTreeSet<String>,
) -> Vec<Action> {
    let count = wanted.count(service) as usize;
    let policy = wanted.recreate(&service.name);
    let mut there: Vec<Instance> = observed.of_service(&service.name).cloned().collect();
    let doubles = take_doubles(&mut there, service);
    let mut actions: Vec<Action> = doubles.into_iter().map(|one| Action::Remove(Box::new(one))).collect();
    // Those that are out of date go first, then those of the highest numbers: as few as can be are made again.
    let why = |instance: &Instance| match policy {
        Recreate::Never => Vec::new(),
        Recreate::Force => vec![Cause::Forced],
        Recreate::Changed => cause::of(project, service, instance, outside, replaced),
    };
    let mut judged: Vec<(Instance, Vec<Cause>)> =
        there.into_iter().map(|one| (why(&one), one)).map(|(why, one)| (one, why)).collect();
    judged.sort_by_key(|(one, why)| (!why.is_empty(), one.number));
    let surplus = judged.split_off(count.min(judged.len()));
    actions.extend(surplus.into_iter().map(|(one, _)| Action::Remove(Box::new(one))));
    judged.sort_by_key(|(one, _)| one.number);
    let numbers: BTreeSet<u32> = judged.iter().map(|(one, _)| one.number).collect();
    let missing = count - judged.len();
    for (instance, why) in judged {
        let name = container_name(project, service, instance.number);
        actions.push(if why.is_empty() {
            Action::Keep(Box::new(instance))
        } else {
            Action::Recreate { old: Box::new(instance), name, why }
        });
    }
    let free: Vec<u32> = (1..=u32::MAX).filter(|number| !numbers.contains(number)).take(missing).collect();
    for number in free {
        actions.push(Action::Create { number, name: container_name(project, service, number) });
    }
    actions
}

/// A command that was killed while it replaced a container may have left both: the new one stays, the other is removed.
fn take_doubles(there: &mut Vec<Instance>, service: &Service) -> Vec<Instance> {
    let mut doubles = Vec::new();
    let mut best = BTreeMap::<u32, Instance>::new();
    for one in there.drain(..) {
        let is_current = |one: &Instance| {
            let is_whole = one.label(labels::REPLACE).is_none();
            let is_as_wanted = one.label(labels::CONFIG_HASH) == Some(service.config_hash());
            (is_whole, is_as_wanted, one.container.record.created)
        };
        if one.container.status == Status::Removing {
            continue;
        }
        match best.remove(&one.number) {
            Some(other) => {
                let (keep, lose) =
                    if is_current(&one) > is_current(&other) { (one, other) } else { (other, one) };
                doubles.push(lose);
                best.insert(keep.number, keep);
            }
            None => {
                best.insert(one.number, one);
            }
        }
    }
    there.extend(best.into_values());
    doubles
}
