//! What of the cost of a start can be counted exactly: the system calls that it makes, and the files. A change that adds some is seen here,
//! in that change. Times are for `bench/run`.

use crate::harness::{BUSYBOX, OwnRoots, Test, has, skipped};

/// What is counted, on which network, and the calls of rbox and the container: on a host whose control groups are v2, and on a hybrid one.
/// Fewer than 19 of 20 of them are a reason to write the new number here, more than 21 of 20 are a reason to look for what they are for.
const STARTS: [(&str, &[&str], [usize; 2]); 3] = [
    ("run, no network", &["run", "--rm", "--network", "none", BUSYBOX, "true"], [1140, 1165]),
    ("run", &["run", "--rm", BUSYBOX, "true"], [1394, 1414]),
    ("exec", &["exec", "there", "true"], [500, 518]),
];

#[test]
fn a_start_makes_as_many_calls_as_are_written_here() {
    let Some(t) = Test::start() else { return };
    if !has("strace") {
        return skipped("strace is not installed");
    }
    if cfg!(not(target_arch = "x86_64")) {
        return skipped("the numbers are those of x86_64");
    }
    let roots = OwnRoots::new(&t, "counted", &t.suite.registry);
    roots.run(&["run", "-d", "--name", "there", "--network", "none", BUSYBOX, "sleep", "1000"]).ok();
    let trace = roots.dir.join("trace");
    let hybrid = usize::from(!std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists());
    let mut wrong = Vec::new();
    for (what, words, expected) in STARTS {
        let expected = expected[hybrid];
        let rbox = crate::harness::binary();
        let mut all = vec!["-f", "-qq", "-o", trace.to_str().unwrap(), rbox.to_str().unwrap()];
        all.extend(words);
        // The fewer of two: what waits may be woken more often.
        let count = |_| {
            roots.other("strace", &all).run().ok();
            calls(&std::fs::read_to_string(&trace).unwrap())
        };
        let counted = (0..2).map(count).min().unwrap();
        if counted * 20 > expected * 21 || counted * 20 < expected * 19 {
            wrong.push(format!("{what}: {counted} calls, {expected} are written here"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The places of a container's own files are below its image: none of them is made again for each container.
#[test]
fn a_start_makes_no_file_in_the_containers_layer() {
    let Some(t) = Test::start() else { return };
    let name = t.name("clean");
    let id = t.sleeper(&name, []);
    let upper = t.suite.root.join("containers").join(&id).join("upper");
    let made: Vec<_> = std::fs::read_dir(&upper).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(made.is_empty(), "{}: {made:?}", upper.display());
    // They are mounted all the same, and what is below them has nothing.
    let inside = ["exec", &name, "sh", "-c", "cat /etc/hostname; grep -c . /etc/hosts"];
    assert!(t.ok(inside).starts_with(&id[..12]), "{}", t.ok(inside));
    let below = std::fs::metadata(t.suite.root.join("base/etc/hosts")).unwrap();
    assert_eq!(below.len(), 0);
}

/// Those in an output of `strace -f`: one that others came between is in two lines.
fn calls(trace: &str) -> usize {
    trace.lines().filter(|line| line.contains('(') && !line.contains(" resumed>")).count()
}
