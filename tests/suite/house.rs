//! The house rules that a machine can hold: the edges between crates, where `unsafe` is, how long files get.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::project;

mod imports;
mod kinds;

/// The table of docs/architecture.md: each crate, and the crates of the workspace it may use.
fn may_use() -> BTreeMap<String, BTreeSet<String>> {
    let page = fs::read_to_string(project().join("docs/architecture.md")).unwrap();
    let rows = page.lines().skip_while(|line| !line.starts_with("| crate |")).skip(2);
    let table: BTreeMap<_, _> = rows
        .map_while(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let name = cells.next()?.trim_end_matches('`').to_owned();
            let used = cells.nth(1)?.split(", ").filter(|word| !word.is_empty());
            Some((name, used.map(|word| format!("rbox-{word}")).collect()))
        })
        .collect();
    assert!(table.len() > 10, "{table:?}");
    table
}

/// Edges of the workspace, of dependencies proper: what tests use does not shape the product.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(project().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .unwrap();
    let ours: BTreeSet<String> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    metadata
        .packages
        .iter()
        .map(|p| {
            let normal = p.dependencies.iter().filter(|d| d.kind == cargo_metadata::DependencyKind::Normal);
            (p.name.to_string(), normal.map(|d| d.name.clone()).filter(|d| ours.contains(d)).collect())
        })
        .collect()
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let allowed = may_use();
    for (name, uses) in edges() {
        let may = allowed.get(&name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let extra: Vec<_> = uses.difference(may).collect();
        assert!(extra.is_empty(), "{name} uses {extra:?}, which docs/architecture.md does not allow");
        let idle: Vec<_> = may.difference(&uses).collect();
        assert!(idle.is_empty(), "{name} does not use {idle:?}, as docs/architecture.md says");
    }
}

#[test]
fn siblings_do_not_know_each_other() {
    let siblings = ["rbox-namespace", "rbox-rootfs", "rbox-cgroup", "rbox-network", "rbox-security"];
    let edges = edges();
    for one in siblings {
        for other in siblings {
            assert!(!edges[one].contains(other), "{one} uses {other}");
        }
    }
}

#[test]
fn no_crate_is_a_drawer_for_odds_and_ends() {
    for name in edges().keys() {
        for drawer in ["util", "common", "types", "helper", "misc"] {
            assert!(!name.contains(drawer), "{name}");
        }
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Who reads a file can go from it downwards: nothing that it imports imports it.
#[test]
fn files_import_in_no_circle() {
    for entry in fs::read_dir(project().join("crates")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let dir = if name == "rbox" { entry.path() } else { entry.path().join("src") };
        let circles = imports::circles(&dir);
        assert!(circles.is_empty(), "{name}: these import each other in a circle: {circles:#?}");
    }
}

#[test]
fn unsafe_is_in_rbox_sys_only() {
    let mut files = Vec::new();
    sources(&project().join("crates"), &mut files);
    for path in files {
        if path.starts_with(project().join("crates/rbox-sys")) {
            continue;
        }
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let found =
                ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|u| code.contains(u));
            assert!(!found, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

/// What stands where on disk is read in one file; what the kernel calls its files below /proc and /sys is not ours.
#[test]
fn names_on_disk_stand_in_one_file() {
    const OF_THE_KERNEL: [&str; 3] = ["networks/port_owner.rs", "networks/sockets.rs", "packet/world.rs"];
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    for (path, line, code) in code() {
        let place = path.to_string_lossy();
        let Some((_, file)) = place.split_once("rbox-engine/src/") else { continue };
        let joined = code.split(".join(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let named: Vec<_> = joined.filter(|text| is_name(text)).collect();
        let allowed = file == "record/paths.rs" || OF_THE_KERNEL.contains(&file);
        assert!(
            allowed || named.is_empty(),
            "{}:{line}: {named:?}: give it a name in record/paths.rs",
            path.display()
        );
    }
}

/// A container decides how deep a tree is and what flags its files have: only `rbox_sys::removal` is made for that.
#[test]
fn trees_are_removed_by_one_function() {
    let mut files = Vec::new();
    sources(&project().join("crates"), &mut files);
    for path in files.iter().filter(|path| {
        !path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
    }) {
        let text = fs::read_to_string(path).unwrap();
        // What follows is tests.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in ["remove_dir_all", "AtFlags::REMOVEDIR"] {
            let allowed = path.ends_with("rbox-sys/src/removal.rs");
            assert!(allowed || !code.contains(call), "{}: {call}", path.display());
        }
    }
}

/// The lines of code of all crates that no test is, each with where it is.
fn code() -> Vec<(PathBuf, usize, String)> {
    let mut files = Vec::new();
    sources(&project().join("crates"), &mut files);
    files.retain(|path| {
        !path
            .components()
            .any(|part| ["tests", "tests.rs", "examples"].iter().any(|test| part.as_os_str() == *test))
    });
    let mut all = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\n").next().unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            all.push((path.clone(), number + 1, code.to_owned()));
        }
    }
    all
}

/// serde takes a list for a struct; `rbox_spec::json` does not. What only rbox writes and reads at once may go without.
#[test]
fn documents_are_read_by_one_function() {
    let exempt = [
        "rbox-spec/src/json.rs",
        "rbox-engine/src/logs/entry.rs",
        "rbox-engine/src/monitor/protocol.rs",
        "rbox-image/src/archive/change.rs",
        // Values as they were written, of a file that was read by it just before.
        "rbox-image/src/registry/keeping.rs",
        // Nothing in it is read as a struct: values keep their places.
        "rbox-compose/src/bake/json.rs",
        // A test.
        "rbox-image/src/pull/faults.rs",
    ];
    for (path, line, code) in code() {
        let bare = [
            "serde_json::from_slice",
            "serde_json::from_str",
            "serde_json::from_reader",
            "serde_json::from_value",
        ];
        let allowed = exempt.iter().any(|file| path.ends_with(file));
        assert!(
            allowed || !bare.iter().any(|call| code.contains(call)),
            "{}:{line}: read it with rbox_spec::json, which refuses a list for an object",
            path.display()
        );
    }
}

/// A copy of the whole environment stays in memory that was given back, where a process that joins a container can be read. The one
/// exception executes itself, which leaves no memory behind.
#[test]
fn the_environment_is_not_copied() {
    for (path, line, code) in code() {
        let copies = ["env::vars(", "env::vars_os("].iter().any(|call| code.contains(call));
        assert!(
            !copies || path.ends_with("rbox-engine/src/own_file.rs"),
            "{}:{line}: use rbox_sys::process::each_variable",
            path.display()
        );
    }
}

/// `rbox_sys::lock` ends each wait; a bare flock(2) waits for ever for a holder that is stopped. clippy.toml refuses
/// `File::lock`, which has the name of a mutex's.
#[test]
fn locks_are_taken_in_one_place() {
    for (path, line, code) in code() {
        let bare = ["FlockOperation", "::flock(", "fcntl_lock", "lock_shared(", "F_SETLK", "F_OFD_SETLK"];
        let found = bare.iter().find(|call| code.contains(**call));
        let allowed = path.ends_with("rbox-sys/src/lock.rs");
        assert!(allowed || found.is_none(), "{}:{line}: {code}: use rbox_sys::lock", path.display());
    }
    let clippy = fs::read_to_string(project().join("clippy.toml")).unwrap();
    assert!(clippy.contains("std::fs::File::lock\"") && clippy.contains("std::fs::File::lock_shared\""));
}

/// Who polls without a time waits for what the user asked to wait for, and nothing else; other processes are waited for by `rbox_sys::waiting`.
#[test]
fn polls_have_an_end() {
    const FOR_THE_USER: [(&str, &str); 6] = [
        ("rbox/tour/input.rs", "the learner's next line"),
        ("rbox/session/client.rs", "the program's streams, and its end"),
        ("rbox/args/asking.rs", "the user's answer"),
        (
            "rbox-engine/src/monitor/clients.rs",
            "a client that has not taken its output: nothing of the container is held",
        ),
        ("rbox-engine/src/control/exec.rs", "the output of a program that was left"),
        ("rbox-engine/src/control/signal.rs", "the end of a container, for `wait`"),
    ];
    const FOR_A_CHILD: [(&str, &str); 5] = [
        ("rbox-sys/src/waiting.rs", "one whose end was waited for"),
        ("rbox-engine/src/containers/running.rs", "one whose end was seen"),
        ("rbox-engine/src/control/boot.rs", "monitors, and this is all that it is for"),
        ("rbox-engine/src/monitor/reaper.rs", "one that has ended: it does not wait"),
        ("rbox/guest/tools.rs", "the program that the user has typed"),
    ];
    for (path, line, code) in code() {
        let child =
            ["waitid(", "process::wait(", ".wait_with_output(", ".output()", ".status()", "child.wait("];
        let waits = child.iter().any(|call| code.contains(call)) && !code.contains("buffers().output()");
        let allowed = FOR_A_CHILD.iter().any(|(file, _)| path.ends_with(file));
        assert!(allowed || !waits, "{}:{line}: {code}: use rbox_sys::waiting", path.display());
        let endless = code.contains("poll(") && (code.contains(", None)") || code.contains("{ None }"));
        let allowed = FOR_THE_USER.iter().any(|(file, _)| path.ends_with(file));
        assert!(allowed || !endless, "{}:{line}: {code}", path.display());
    }
}

/// The standard library puts ` (os error 2)` behind its words: an error that shows one in its own text shows it through
/// `rbox_sys::plain`. The command line does so with causes.
#[test]
fn errors_are_told_in_words() {
    let mut files = Vec::new();
    sources(&project().join("crates"), &mut files);
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for variant in text.split("#[error(").skip(1) {
            let (said, rest) = variant.split_once(")]").unwrap_or((variant, ""));
            let fields =
                rest.split("#[error(").next().unwrap_or_default().split("\n    }").next().unwrap_or_default();
            let raw = ["source: io::Error", "source: std::io::Error", "source: Errno"];
            let shows = said.contains("{source}") && raw.iter().any(|field| fields.contains(field));
            assert!(!shows, "{}: {said}", path.display());
        }
    }
    // A system call that fails has a name in words.
    let words = fs::read_to_string(project().join("crates/rbox-sys/src/error.rs")).unwrap();
    let mut files = Vec::new();
    for name in ["sys", "namespace", "rootfs", "security", "cgroup", "runtime"] {
        sources(&project().join(format!("crates/rbox-{name}/src")), &mut files);
    }
    let mut calls = 0;
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        for begin in ["told(", "SysError::new("] {
            let made = text.split(begin).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
            for name in made.filter_map(|rest| Some(rest.split_once("\",")?.0)) {
                calls += 1;
                let known = words.contains(&format!("\"{name}\""));
                assert!(known, "{}: {name} is not in crates/rbox-sys/src/error.rs", path.display());
            }
        }
    }
    assert!(calls > 50, "{calls}");
    // What `--explain` calls a request of netlink has a name in words.
    let words = fs::read_to_string(project().join("crates/rbox-network/src/error.rs")).unwrap();
    for (path, line, code) in
        code().iter().filter(|(path, ..)| path.to_string_lossy().contains("rbox-network"))
    {
        for text in code.split('"').skip(1).step_by(2) {
            let first =
                text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
            let raw =
                ["RTM_", "NFT_MSG_", "IPCTNL_", "SOCK_DIAG_"].iter().any(|begin| first.starts_with(begin));
            let known = words.contains(&format!("\"{first}\""));
            assert!(!raw || known, "{}:{line}: {first} is not in error.rs", path.display());
        }
    }
}

#[test]
fn files_stay_readable() {
    let mut files = Vec::new();
    sources(&project().join("crates"), &mut files);
    sources(&project().join("tests"), &mut files);
    for path in files {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 800, "{} has {lines} lines", path.display());
    }
}

/// Every file and test that docs/threats.md names is there; every row has a defence, and tests or the reason why not.
#[test]
fn the_page_of_threats_names_what_is_there() {
    let page = fs::read_to_string(project().join("docs/threats.md")).unwrap();
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(project().join("tests/suite")).unwrap().flatten() {
        let path = entry.path();
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap_or_default();
        tests.insert(format!("{module}::"));
        for part in text.split("#[test]").skip(1) {
            let name = part.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap_or_default();
            tests.insert(format!("{module}::{name}"));
        }
    }
    let rows: Vec<&str> = page.split("\n## ").skip(1).collect();
    assert_eq!(rows.len(), 34);
    for (number, row) in rows.iter().enumerate() {
        assert!(
            row.starts_with(&format!("{}. ", number + 1)),
            "row {} is {}",
            number + 1,
            row.lines().next().unwrap()
        );
        assert!(row.contains("- **Defence**: "), "{row}");
        let variants = row.split("- **Tests** (").nth(1).and_then(|rest| rest.split_once(" variants): "));
        let enough = variants.is_some_and(|(count, _)| count.parse::<u32>().is_ok_and(|count| count >= 8));
        assert!(enough || row.contains("- **Tests**: none yet."), "row {} has too few variants", number + 1);
        for named in row.split('`').skip(1).step_by(2) {
            if named.contains("::") && !named.contains(['/', ' ']) {
                assert!(tests.contains(named), "there is no test {named}, which row {} names", number + 1);
            } else if named.starts_with("crates/") || named.starts_with("fuzz/") {
                assert!(
                    project().join(named).exists(),
                    "there is no {named}, which row {} names",
                    number + 1
                );
            }
        }
    }
    let mut mutated = BTreeSet::new();
    for mutation in fs::read_dir(project().join("tests/mutants.d")).unwrap().flatten() {
        let text = fs::read_to_string(mutation.path()).unwrap();
        let words = text.lines().find_map(|line| line.strip_prefix("test: ")).unwrap_or_default();
        let named = words.split(' ').next_back().unwrap_or_default();
        let is_there = match words.strip_prefix("-p ").and_then(|rest| rest.split(' ').next()) {
            Some(name) => has_test(name, named),
            None => tests.contains(named),
        };
        assert!(is_there, "{:?}: there is no test {named:?}", mutation.file_name());
        // Those of Compose are none of this page.
        let name = mutation.file_name().to_string_lossy().into_owned();
        if !name.starts_with('C') {
            mutated.insert(name[..2].parse::<usize>().unwrap());
        }
    }
    for (number, row) in rows.iter().enumerate() {
        let none = row.contains("- **Defence**: None: rbox") && row.contains("- **Tests**: none yet.");
        assert_eq!(mutated.contains(&(number + 1)), !none, "row {}: a mutation, or no defence", number + 1);
    }
}

/// Whether a crate has a test of this path, by its last part.
fn has_test(name: &str, path: &str) -> bool {
    let mut files = Vec::new();
    sources(&project().join("crates").join(name), &mut files);
    let wanted = format!("fn {}(", path.rsplit("::").next().unwrap_or_default());
    files.iter().any(|file| {
        let text = fs::read_to_string(file).unwrap();
        text.split("#[test]").skip(1).any(|part| part.trim_start().starts_with(&wanted))
    })
}

/// A mutation that does not fit the sources any more shows nothing, and is only seen when somebody runs them all.
#[test]
fn mutations_fit_the_sources() {
    for mutation in fs::read_dir(project().join("tests/mutants.d")).unwrap().flatten() {
        // The lines of one change, to be found in the file: those with a `-` that follow each other.
        let (mut file, mut wanted) = (String::new(), Vec::new());
        let text = fs::read_to_string(mutation.path()).unwrap() + "\n@ end";
        for line in text.lines() {
            if let Some(old) = line.strip_prefix("- ") {
                wanted.push(old.trim().to_owned());
                continue;
            }
            if !wanted.is_empty() {
                let source = fs::read_to_string(project().join(&file)).unwrap_or_default();
                let lines: Vec<&str> = source.lines().map(str::trim).collect();
                let found = lines.windows(wanted.len()).filter(|lines| *lines == wanted.as_slice()).count();
                assert_eq!(found, 1, "{:?}: in {file}: {wanted:#?}", mutation.file_name());
                wanted.clear();
            }
            if let Some(name) = line.strip_prefix("@ ") {
                name.trim().clone_into(&mut file);
            }
        }
    }
}
