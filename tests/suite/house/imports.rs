//! Which file of a crate imports which: from `use` lines and from paths in the code, tests left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::{self, Visit};

type Module = Vec<String>;

/// A crate's files, as its modules.
struct Files {
    modules: BTreeMap<Module, syn::File>,
    /// What a module hands on of others: the name, and the whole path.
    handed_on: BTreeMap<(Module, String), Module>,
}

/// The circles of files that import each other, each sorted.
pub(super) fn circles(dir: &Path) -> Vec<Vec<String>> {
    let files = Files::read(dir);
    let edges: BTreeMap<&Module, BTreeSet<Module>> =
        files.modules.iter().map(|(module, file)| (module, files.imports(module, file))).collect();
    let reached = |from: &Module| {
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&Module> = edges[from].iter().collect();
        while let Some(module) = waiting.pop() {
            if seen.insert(module.clone()) {
                waiting.extend(&edges[module]);
            }
        }
        seen
    };
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        edges.keys().map(|module| (*module, reached(module))).collect();
    let mut circles = BTreeSet::new();
    for (module, seen) in &reach {
        if seen.contains(*module) {
            let others = seen.iter().filter(|other| reach[other].contains(*module));
            circles.insert(others.map(|other| other.join("/")).collect::<Vec<_>>());
        }
    }
    circles.into_iter().collect()
}

impl Files {
    fn read(dir: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut paths = Vec::new();
        super::sources(dir, &mut paths);
        for path in paths {
            let mut module: Module = path
                .strip_prefix(dir)
                .unwrap()
                .with_extension("")
                .components()
                .map(|part| part.as_os_str().to_str().unwrap().to_owned())
                .collect();
            match module.last().map(String::as_str) {
                Some("mod" | "lib" | "main") => drop(module.pop()),
                // Files of tests, and what only tests use.
                Some("tests" | "testing" | "faults") => continue,
                _ if module.iter().any(|part| part == "tests" || part == "examples") => continue,
                _ => {}
            }
            modules.insert(module, syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
        }
        let mut files = Self { modules, handed_on: BTreeMap::new() };
        let mut handed_on = BTreeMap::new();
        for (module, file) in &files.modules {
            for item in &file.items {
                let syn::Item::Use(item) = item else { continue };
                if matches!(item.vis, syn::Visibility::Inherited) {
                    continue;
                }
                for (path, name) in leaves(&item.tree, &Vec::new()) {
                    if let Some(path) = files.absolute(module, &path) {
                        handed_on.insert((module.clone(), name), path);
                    }
                }
            }
        }
        files.handed_on = handed_on;
        files
    }

    /// A path as written in `module`, from the crate's root; none when it leads out of the crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Module> {
        let first = path.first()?.as_str();
        let child = || [module.as_slice(), &path[..1]].concat();
        match first {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([module.as_slice(), &path[1..]].concat()),
            "super" => {
                let up = path.iter().take_while(|part| *part == "super").count();
                let base = module.get(..module.len().checked_sub(up)?)?;
                Some([base, &path[up..]].concat())
            }
            _ if self.modules.contains_key(&child()) => Some([module.as_slice(), path].concat()),
            _ => None,
        }
    }

    /// The file that has what a path names.
    fn file_of(&self, path: &[String]) -> Option<Module> {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let length = (0..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
            let (module, rest) = (path[..length].to_vec(), path[length..].to_vec());
            let name = rest.first()?;
            match self.handed_on.get(&(module.clone(), name.clone())) {
                Some(to) => path = [to.as_slice(), &rest[1..]].concat(),
                None => return Some(module),
            }
        }
        None
    }

    /// The files from which this one takes something.
    fn imports(&self, module: &Module, file: &syn::File) -> BTreeSet<Module> {
        let mut found = Found::default();
        found.visit_file(file);
        let mut names = BTreeMap::new();
        let mut paths = Vec::new();
        for (path, name, hands_on) in found.uses {
            let Some(path) = self.absolute(module, &path) else { continue };
            if self.modules.contains_key(&path) {
                names.insert(name, path);
            } else if !(hands_on && path.starts_with(module)) {
                paths.push(path);
            }
        }
        for path in found.paths {
            let through = names.get(&path[0]).map(|base| [base.as_slice(), &path[1..]].concat());
            paths.extend(through.or_else(|| self.absolute(module, &path)));
        }
        let mut files: BTreeSet<Module> = paths.iter().filter_map(|path| self.file_of(path)).collect();
        files.remove(module);
        files
    }
}

/// What a file names, tests left out.
#[derive(Default)]
struct Found {
    /// Imports: the path, the name here, and whether it is handed on.
    uses: Vec<(Module, String, bool)>,
    /// Paths of more than one part.
    paths: Vec<Module>,
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"));
        if !is_test {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let hands_on = !matches!(item.vis, syn::Visibility::Inherited);
        self.uses
            .extend(leaves(&item.tree, &Vec::new()).into_iter().map(|(path, name)| (path, name, hands_on)));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

/// Each path of a `use`, and the name it gets.
fn leaves(tree: &syn::UseTree, before: &Module) -> Vec<(Module, String)> {
    let with = |name: &syn::Ident| [before.as_slice(), &[name.to_string()]].concat();
    let named = |name: &syn::Ident, called: String| {
        if name == "self" { vec![(before.clone(), called)] } else { vec![(with(name), called)] }
    };
    match tree {
        syn::UseTree::Path(path) => leaves(&path.tree, &with(&path.ident)),
        syn::UseTree::Name(name) if name.ident == "self" => {
            named(&name.ident, before.last().cloned().unwrap_or_default())
        }
        syn::UseTree::Name(name) => named(&name.ident, name.ident.to_string()),
        syn::UseTree::Rename(rename) => named(&rename.ident, rename.rename.to_string()),
        syn::UseTree::Glob(_) => vec![([before.as_slice(), &["*".to_owned()]].concat(), "*".to_owned())],
        syn::UseTree::Group(group) => group.items.iter().flat_map(|tree| leaves(tree, before)).collect(),
    }
}
