//! The house rules that a machine can hold: the edges between crates, where `unsafe` is, how long files get.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::project;

/// The table of docs/architecture.md: each crate, and the crates of the workspace it may use.
const MAY_USE: [(&str, &[&str]); 11] = [
    ("rbox-sys", &[]),
    ("rbox-spec", &[]),
    ("rbox-namespace", &["sys", "spec"]),
    ("rbox-rootfs", &["sys", "spec"]),
    ("rbox-cgroup", &["sys", "spec"]),
    ("rbox-network", &["sys", "spec"]),
    ("rbox-security", &["sys", "spec"]),
    ("rbox-runtime", &["namespace", "rootfs", "cgroup", "network", "security", "sys", "spec"]),
    ("rbox-image", &["rootfs", "spec"]),
    ("rbox-engine", &["runtime", "image", "network", "spec", "sys", "cgroup", "rootfs"]),
    ("rbox", &["engine"]),
];

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
    let allowed: BTreeMap<&str, BTreeSet<String>> = MAY_USE
        .iter()
        .map(|(name, uses)| (*name, uses.iter().map(|u| format!("rbox-{u}")).collect()))
        .collect();
    for (name, uses) in edges() {
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in the table"));
        let extra: Vec<_> = uses.difference(may).collect();
        assert!(extra.is_empty(), "{name} uses {extra:?}, which the table does not allow");
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
            let allowed = path.ends_with("rbox-sys/src/removal.rs") || path.ends_with("layer/place.rs");
            assert!(allowed || !code.contains(call), "{}: {call}", path.display());
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
    assert_eq!(rows.len(), 33);
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
        let named = text.lines().find_map(|line| line.strip_prefix("test: "));
        let named = named.and_then(|line| line.split(' ').next_back());
        assert!(
            named.is_some_and(|named| tests.contains(named)),
            "{:?}: there is no test {named:?}",
            mutation.file_name()
        );
        mutated.insert(mutation.file_name().to_string_lossy()[..2].parse::<usize>().unwrap());
    }
    for (number, row) in rows.iter().enumerate() {
        let none = row.contains("- **Defence**: None: rbox") && row.contains("- **Tests**: none yet.");
        assert_eq!(mutated.contains(&(number + 1)), !none, "row {}: a mutation, or no defence", number + 1);
    }
}
