//! A walk over services along what depends on what: each as soon as those before it are far enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

/// Between two calls of [`Visit::tick`].
const TICK: Duration = Duration::from_millis(50);

/// What is done to the services of a walk.
pub trait Visit: Sync {
    /// What may go wrong.
    type Error: Send;
    /// What a service is done in.
    type Part: Send;
    /// The parts of a service, which are done at the same time.
    fn parts(&self, service: &str) -> Vec<Self::Part>;
    /// Whether [`Self::begin`] has something to do.
    fn begins(&self, _service: &str) -> bool {
        false
    }
    /// What is done before its parts, while nothing else is done: only a process of one thread starts processes.
    fn begin(&self, _service: &str) -> Result<(), Self::Error> {
        Ok(())
    }
    /// Does one part, in a thread of its own. `enough` may be called before it is done, once those that wait for it need wait no longer.
    fn work(&self, part: &Self::Part, enough: &dyn Fn()) -> Result<(), Self::Error>;
    /// Called now and then while parts are being done.
    fn tick(&self) {}
}

/// Visits each service as soon as those before it are far enough, with as many threads as there are parts. After an error no other one
/// is begun. A circle, which containers of several versions of the files may make, is cut where it is met.
///
/// # Errors
/// The first one, when what was begun is done.
pub fn walk<V: Visit>(before: &BTreeMap<&str, BTreeSet<&str>>, visit: &V) -> Result<(), V::Error> {
    let mut walk =
        Walk { waiting: before.clone(), left: BTreeMap::new(), enough: BTreeSet::new(), failed: None };
    let (sender, done) = channel();
    thread::scope(|scope| {
        let mut threads = BTreeMap::new();
        let mut number = 0;
        loop {
            let is_alone = threads.is_empty();
            if let Some(name) = walk.ready(is_alone, |name| is_alone || !visit.begins(name)) {
                let parts = walk.begin(name, visit);
                for part in parts {
                    number += 1;
                    let (sender, number) = (sender.clone(), number);
                    let work = move || {
                        // All is received: this thread is waited for.
                        let enough = || drop(sender.send((number, name, None)));
                        let done = visit.work(&part, &enough);
                        let _ = sender.send((number, name, Some(done)));
                    };
                    threads.insert(number, scope.spawn(work));
                }
                continue;
            }
            if threads.is_empty() {
                return;
            }
            match done.recv_timeout(TICK) {
                Ok((number, name, None)) => walk.enough(number, name),
                Ok((number, name, Some(result))) => {
                    // It has to be gone before another process is started.
                    if let Some(Err(panic)) = threads.remove(&number).map(thread::ScopedJoinHandle::join) {
                        std::panic::resume_unwind(panic);
                    }
                    walk.done(number, name, result);
                }
                Err(_) => visit.tick(),
            }
        }
    });
    walk.failed.map_or(Ok(()), Err)
}

/// How far a walk is.
struct Walk<'a, E> {
    /// The services that were not visited, and those that must be done before.
    waiting: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// How many parts of a service others still wait for.
    left: BTreeMap<&'a str, usize>,
    /// Parts, by their number, that nobody waits for any more.
    enough: BTreeSet<usize>,
    failed: Option<E>,
}

impl<'a, E> Walk<'a, E> {
    /// A service that may be visited now.
    fn ready(&self, is_alone: bool, may: impl Fn(&str) -> bool) -> Option<&'a str> {
        if self.failed.is_some() {
            return None;
        }
        let ready = self.waiting.iter().find(|(name, others)| others.is_empty() && may(name));
        // When nothing is being done, all that is left waits for each other.
        let next = ready.or_else(|| self.waiting.iter().next().filter(|_| is_alone));
        next.map(|(name, _)| *name)
    }

    /// Begins with a service: the parts that are to be done.
    fn begin<V: Visit<Error = E>>(&mut self, name: &'a str, visit: &V) -> Vec<V::Part> {
        self.waiting.remove(name);
        if visit.begins(name)
            && let Err(error) = visit.begin(name)
        {
            self.failed.get_or_insert(error);
            return Vec::new();
        }
        let parts = visit.parts(name);
        self.left.insert(name, parts.len());
        self.release(name);
        parts
    }

    /// A part is far enough for those that wait for it.
    fn enough(&mut self, number: usize, name: &'a str) {
        if self.enough.insert(number) {
            if let Some(left) = self.left.get_mut(name) {
                *left -= 1;
            }
            self.release(name);
        }
    }

    /// A part is done.
    fn done(&mut self, number: usize, name: &'a str, result: Result<(), E>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
        self.enough(number, name);
    }

    /// Lets others begin that waited for a service of which they need wait for nothing any more.
    fn release(&mut self, name: &str) {
        if self.left.get(name) == Some(&0) {
            for others in self.waiting.values_mut() {
                others.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender};

    use super::*;

    /// Services, each with what must be done before it.
    fn before(pairs: &[(&'static str, &'static str)]) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
        pairs.iter().map(|(name, others)| (*name, others.split_whitespace().collect())).collect()
    }

    struct Noted {
        all: Mutex<Vec<String>>,
        fail: &'static str,
    }

    impl Visit for Noted {
        type Error = String;
        type Part = String;
        fn parts(&self, service: &str) -> Vec<String> {
            if service == "none" { vec![] } else { vec![format!("{service}1"), format!("{service}2")] }
        }
        fn begins(&self, service: &str) -> bool {
            service == "b"
        }
        fn begin(&self, service: &str) -> Result<(), String> {
            self.all.lock().unwrap().push(format!("begin {service}"));
            Ok(())
        }
        fn work(&self, part: &String, _: &dyn Fn()) -> Result<(), String> {
            self.all.lock().unwrap().push(part.clone());
            if part == self.fail { Err(format!("failed {part}")) } else { Ok(()) }
        }
    }

    #[test]
    fn what_depends_on_others_comes_first() {
        let before = before(&[("a", ""), ("b", "a"), ("none", "b"), ("c", "none")]);
        let noted = Noted { all: Mutex::default(), fail: "" };
        walk(&before, &noted).unwrap();
        let all = noted.all.into_inner().unwrap();
        let place = |word: &str| all.iter().position(|one| one == word).unwrap();
        assert_eq!(all.len(), 7);
        for (first, second) in [("a2", "begin b"), ("begin b", "b1"), ("b2", "c1"), ("b1", "c2")] {
            assert!(place(first) < place(second), "{all:?}");
        }
        let noted = Noted { all: Mutex::default(), fail: "b1" };
        assert_eq!(walk(&before, &noted).unwrap_err(), "failed b1");
        assert!(!noted.all.into_inner().unwrap().contains(&"c1".to_owned()));
    }

    #[test]
    fn a_circle_is_cut() {
        let noted = Noted { all: Mutex::default(), fail: "" };
        walk(&before(&[("x", "y"), ("y", "x"), ("z", "x")]), &noted).unwrap();
        assert_eq!(noted.all.into_inner().unwrap().len(), 6);
    }

    /// `first` is far enough at once, and done only when `second` has begun.
    struct Early(Mutex<Sender<()>>, Mutex<Receiver<()>>);

    impl Visit for Early {
        type Error = String;
        type Part = &'static str;
        fn parts(&self, service: &str) -> Vec<&'static str> {
            vec![if service == "first" { "first" } else { "second" }]
        }
        fn work(&self, part: &&'static str, enough: &dyn Fn()) -> Result<(), String> {
            if *part == "second" {
                return self.0.lock().unwrap().send(()).map_err(|error| error.to_string());
            }
            enough();
            // Said twice, it counts once.
            enough();
            let second = self.1.lock().unwrap().recv_timeout(Duration::from_secs(20));
            second.map_err(|_| "second was not begun".to_owned())
        }
    }

    #[test]
    fn what_is_far_enough_is_not_waited_for() {
        let (tell, told) = channel();
        let early = Early(Mutex::new(tell), Mutex::new(told));
        assert_eq!(walk(&before(&[("first", ""), ("second", "first")]), &early), Ok(()));
    }
}
