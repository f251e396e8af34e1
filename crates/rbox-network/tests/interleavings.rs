//! Addresses over random interleavings of what containers, commands and kills do: none is ever given twice, none leaks.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use rbox_network::{Endpoint, Error, Network, NewNetwork, Wish};
use support::{World, alone};

/// What can happen next. Numbers choose among what is there, modulo how much there is.
#[derive(Clone, Debug)]
enum Step {
    /// A container takes an address, and writes it down.
    Start { network: usize },
    /// The same, asking for the address of another one, which may be free by now.
    StartWith { network: usize, of: usize },
    /// A container takes an address and is killed before it writes that down.
    StartKilled { network: usize },
    /// It ends, and its monitor gives the address back.
    End { which: usize },
    /// It and its monitor are killed: the address stays.
    Killed { which: usize },
    /// A command tidies after one that was killed; again after one that was tidied already.
    Tidy { which: usize },
    /// What each start after a flush does, and `network reconcile`.
    Sweep,
    /// `network rm` and `network create` of the same name.
    Again { network: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0..64_usize;
    let step = prop_oneof![
        6 => number.clone().prop_map(|network| Step::Start { network }),
        2 => (number.clone(), number.clone()).prop_map(|(network, of)| Step::StartWith { network, of }),
        2 => number.clone().prop_map(|network| Step::StartKilled { network }),
        4 => number.clone().prop_map(|which| Step::End { which }),
        3 => number.clone().prop_map(|which| Step::Killed { which }),
        3 => number.clone().prop_map(|which| Step::Tidy { which }),
        1 => Just(Step::Sweep),
        1 => number.prop_map(|network| Step::Again { network }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The containers as the records would tell.
#[derive(Default)]
struct Model {
    next: u32,
    live: RefCell<BTreeSet<String>>,
    /// Who lives, with what it has.
    running: Vec<Endpoint>,
    /// Who was killed with its monitor, with what its record says.
    dead: Vec<Endpoint>,
}

impl Model {
    fn new_id(&mut self) -> String {
        self.next += 1;
        let id = format!("{:064x}", self.next);
        self.live.borrow_mut().insert(id.clone());
        id
    }
}

/// Five addresses: soon full, so that what is left behind is in the way.
fn small(world: &World, name: &str) -> Network {
    let asked = NewNetwork {
        name: name.into(),
        subnets: vec![if name == "a" { "10.201.0.0/29" } else { "10.202.0.0/29" }.into()],
        ..NewNetwork::default()
    };
    world.store.create(&asked, &Vec::new).unwrap()
}

fn play(world: &World, networks: &mut [Network], steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Start { network } | Step::StartKilled { network } | Step::StartWith { network, .. } => {
                let network = &networks[network % networks.len()];
                let ip = match step {
                    Step::StartWith { of, .. } if !model.running.is_empty() => {
                        let other = &model.running[of % model.running.len()];
                        (other.network_id == network.id).then_some(other.ip)
                    }
                    _ => None,
                };
                let id = model.new_id();
                let wish = Wish { container: id.clone(), ip, ..Wish::default() };
                let is_live = |id: &str| model.live.borrow().contains(id);
                match world.store.plan(network, &wish, &is_live) {
                    Ok(endpoint) if matches!(step, Step::StartKilled { .. }) => {
                        prop_assert!(!model.running.iter().any(|other| other.ip == endpoint.ip));
                        model.live.borrow_mut().remove(&id);
                    }
                    Ok(endpoint) => {
                        prop_assert!(
                            !model.running.iter().any(|other| other.ip == endpoint.ip),
                            "given twice"
                        );
                        model.running.push(endpoint);
                    }
                    Err(Error::NoAddress { .. }) => {
                        let used =
                            model.running.iter().filter(|other| other.network_id == network.id).count();
                        prop_assert_eq!(used, 5, "full, and not in use");
                        model.live.borrow_mut().remove(&id);
                    }
                    Err(Error::AddressInUse { owner, .. }) => {
                        prop_assert!(model.running.iter().any(|o| o.container == owner && Some(o.ip) == ip));
                        model.live.borrow_mut().remove(&id);
                    }
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
            Step::End { which } if !model.running.is_empty() => {
                let endpoint = model.running.remove(which % model.running.len());
                world.store.release(&endpoint).unwrap();
                model.live.borrow_mut().remove(&endpoint.container);
            }
            Step::Killed { which } if !model.running.is_empty() => {
                let endpoint = model.running.remove(which % model.running.len());
                model.live.borrow_mut().remove(&endpoint.container);
                model.dead.push(endpoint);
            }
            Step::Tidy { which } if !model.dead.is_empty() => {
                // Its record stays for a second one that tidies: it must not take what is another's by now.
                world.store.release(&model.dead[which % model.dead.len()]).unwrap();
            }
            Step::Sweep => {
                world.store.reconcile(&[], &|id| model.live.borrow().contains(id)).unwrap();
            }
            Step::Again { network } => {
                let at = network % networks.len();
                let is_live = |id: &str| model.live.borrow().contains(id);
                let used = model.running.iter().any(|other| other.network_id == networks[at].id);
                match world.store.remove(&networks[at], &is_live) {
                    Ok(()) => {
                        prop_assert!(!used, "removed with containers on it");
                        networks[at] = small(world, &networks[at].name);
                    }
                    Err(Error::NetworkInUse { .. }) => prop_assert!(used, "held by nobody"),
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
            Step::End { .. } | Step::Killed { .. } | Step::Tidy { .. } => {}
        }
        check(world, networks, &model)?;
    }
    for endpoint in &model.running {
        world.store.release(endpoint).unwrap();
    }
    world.store.reconcile(&[], &|_| false).unwrap();
    for network in networks.iter() {
        prop_assert_eq!(world.store.in_use(network).unwrap(), Vec::new(), "leaked");
    }
    Ok(())
}

/// Who lives has its address, and nobody else has.
fn check(world: &World, networks: &[Network], model: &Model) -> Result<(), TestCaseError> {
    for network in networks {
        let in_use: BTreeMap<IpAddr, String> = world.store.in_use(network).unwrap().into_iter().collect();
        for endpoint in model.running.iter().filter(|endpoint| endpoint.network_id == network.id) {
            prop_assert_eq!(
                in_use.get(&IpAddr::V4(endpoint.ip)),
                Some(&endpoint.container),
                "lost its address"
            );
        }
    }
    Ok(())
}

#[test]
fn addresses_over_random_interleavings() {
    alone(|| {
        let world = World::new();
        let networks = RefCell::new(vec![small(&world, "a"), small(&world, "b")]);
        let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = proptest::test_runner::TestRunner::new(config);
        runner.run(&steps(), |steps| play(&world, &mut networks.borrow_mut(), &steps)).unwrap();
    });
}
