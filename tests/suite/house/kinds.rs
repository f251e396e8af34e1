//! The errors of the library crates, and whether each says what it means.

use std::collections::BTreeSet;
use std::fs;

use syn::visit::{self, Visit};

use crate::harness::project;

/// What the sources say of errors, tests left out.
#[derive(Default)]
struct Errors {
    /// Public types that derive `thiserror::Error`: the crate, and the type.
    types: BTreeSet<(String, String)>,
    /// Types with a public method `kind`.
    with_kind: BTreeSet<(String, String)>,
    /// Variants of `Kind` that are named.
    named: BTreeSet<String>,
    /// The crate being read.
    of: String,
}

impl Errors {
    fn read() -> Self {
        let mut errors = Self::default();
        for entry in fs::read_dir(project().join("crates")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name == "rbox" {
                continue;
            }
            errors.of = name;
            let mut files = Vec::new();
            super::sources(&entry.path().join("src"), &mut files);
            for path in files.iter().filter(|path| !path.ends_with("rbox-spec/src/kind.rs")) {
                errors.visit_file(&syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap());
            }
        }
        assert!(errors.types.len() > 30, "{:?}", errors.types);
        errors
    }

    fn item(&mut self, visibility: &syn::Visibility, attributes: &[syn::Attribute], name: &syn::Ident) {
        let derives = |attribute: &syn::Attribute| {
            attribute.path().is_ident("derive")
                && attribute.meta.require_list().is_ok_and(|list| {
                    let words = list.tokens.to_string();
                    words
                        .split(',')
                        .any(|word| word.split("::").last().is_some_and(|last| last.trim() == "Error"))
                })
        };
        if matches!(visibility, syn::Visibility::Public(_)) && attributes.iter().any(derives) {
            self.types.insert((self.of.clone(), name.to_string()));
        }
    }
}

impl<'ast> Visit<'ast> for Errors {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !item.attrs.iter().any(|attribute| attribute.path().is_ident("cfg")) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.item(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.item(&item.vis, &item.attrs, &item.ident);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let syn::Type::Path(of) = &*item.self_ty {
            let has = item.items.iter().any(|item| {
                matches!(item, syn::ImplItem::Fn(method)
                    if method.sig.ident == "kind" && matches!(method.vis, syn::Visibility::Public(_)))
            });
            if item.trait_.is_none() && has {
                let name = of.path.segments.last().unwrap().ident.to_string();
                self.with_kind.insert((self.of.clone(), name));
            }
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let [.., of, variant] = names.as_slice()
            && of == "Kind"
        {
            self.named.insert(variant.clone());
        }
        visit::visit_path(self, path);
    }
}

#[test]
fn each_error_has_a_kind() {
    let errors = Errors::read();
    let without: Vec<_> = errors.types.difference(&errors.with_kind).collect();
    assert!(without.is_empty(), "these errors have no kind(): {without:?}");
    // The command line asks one function, which has to know them all.
    let known = fs::read_to_string(project().join("crates/rbox-engine/src/kind.rs")).unwrap();
    // These do not stand below the engine, which cannot know them: whoever uses both asks both.
    let beside = ["rbox-build", "rbox-compose"];
    for (of, name) in errors.types.iter().filter(|(of, _)| !beside.contains(&of.as_str())) {
        assert!(known.contains(&format!("::{name},")), "kind_of does not know {name} of {of}");
    }
}

#[test]
fn each_kind_is_some_errors() {
    let errors = Errors::read();
    let text = fs::read_to_string(project().join("crates/rbox-spec/src/kind.rs")).unwrap();
    let kinds = syn::parse_file(&text).unwrap().items.into_iter().find_map(|item| match item {
        syn::Item::Enum(item) if item.ident == "Kind" => Some(item.variants),
        _ => None,
    });
    for kind in kinds.unwrap() {
        assert!(errors.named.contains(&kind.ident.to_string()), "no error is of the kind {}", kind.ident);
    }
}
