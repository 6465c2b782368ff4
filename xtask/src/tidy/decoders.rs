//! Everything that reads bytes is tried on bytes that nobody wrote.
//!
//! A type is a decoder when it says `impl Decode for`, `impl Message for`, or has one of the codec's macros say so. Each must
//! be read by a target of `crates/decoders`: named in a target's `reads`, or part of what is. What nobody else can write is
//! named in `PROVED` there, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{ExprTuple, FieldValue, Item, ItemImpl, Lit, LitStr, Member, Type};

use super::syntax::{attributes_of, is_for_tests, words_of};
use super::{Finding, Source, Workspace};

/// Where targets say what they read.
const TARGETS: &str = "crates/decoders/src/lib.rs";
/// The codec of what every language has: numbers, text, lists.
const CODEC: &str = "crates/core/src/codec.rs";
const MACROS: &[&str] = &["wire_struct", "wire_enum", "wire_tuple"];
const TRAITS: &[&str] = &["Decode", "Message"];
/// Crates that nobody runs as a node.
const LABORATORIES: &[&str] = &["sim", "lab", "decoders"];

/// Finds decoders that no target reads, and names of none.
#[must_use]
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let Some(targets) = workspace.sources.iter().find(|source| source.path == TARGETS) else {
        return Vec::new();
    };
    let mut known = Known::default();
    for source in &workspace.sources {
        if let Some(owner) = owner(source) {
            source.tree.items.iter().for_each(|item| known.take(item, owner, &source.path));
        }
    }
    let listed = listed(targets);
    let mut findings = Vec::new();
    for (name, line) in &listed {
        if !known.decoders.contains_key(name) {
            let sentence = format!("`{name}` reads nothing any more: take its name out.");
            findings.push(Finding::new(TARGETS, *line, sentence));
        }
    }
    let covered = known.covered(listed.into_keys());
    for (name, (path, line)) in &known.decoders {
        if !covered.contains(name) {
            let sentence = format!(
                "`{name}` is read by no target: name it in one of {TARGETS}, or there in `PROVED` if nobody else can write it."
            );
            findings.push(Finding::new(path, *line, sentence));
        }
    }
    findings
}

/// The crate of a source that nodes are made of.
fn owner(source: &Source) -> Option<&str> {
    let rest = source.path.strip_prefix("crates/").or(source.path.strip_prefix("protocols/"))?;
    let (owner, inside) = rest.split_once('/')?;
    let is_product = inside.starts_with("src/")
        && !inside.ends_with("tests.rs")
        && !inside.ends_with("testing.rs")
        && source.path != CODEC
        && !LABORATORIES.contains(&owner);
    is_product.then_some(owner)
}

#[derive(Default)]
struct Known {
    /// Decoders as `crate::Name`, and where they are.
    decoders: BTreeMap<String, (String, usize)>,
    /// The words that a type's fields are made of, by the same name.
    parts: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    fn take(&mut self, item: &Item, owner: &str, path: &str) {
        if is_for_tests(attributes_of(item)) {
            return;
        }
        let mut decoder = |name: String, line| {
            self.decoders.entry(format!("{owner}::{name}")).or_insert((path.to_owned(), line));
        };
        match item {
            Item::Mod(module) => {
                let items = module.content.iter().flat_map(|(_, items)| items);
                items.for_each(|item| self.take(item, owner, path));
            }
            Item::Impl(item) => {
                if let Some((name, line)) = implemented(item) {
                    decoder(name, line);
                }
            }
            Item::Macro(item) => {
                let named = item.mac.path.segments.last().map(|last| last.ident.to_string());
                if named.is_some_and(|name| MACROS.contains(&name.as_str()))
                    && let Some((name, line)) = first_word(&item.mac.tokens)
                {
                    decoder(name, line);
                }
            }
            Item::Struct(item) => self.made_of(owner, &item.ident.to_string(), &item.fields),
            Item::Enum(item) => {
                let name = item.ident.to_string();
                let variants = item.variants.iter();
                variants.for_each(|variant| self.made_of(owner, &name, &variant.fields));
            }
            _ => {}
        }
    }

    fn made_of(&mut self, owner: &str, name: &str, fields: &syn::Fields) {
        let mut words = Words(BTreeSet::new());
        words.visit_fields(fields);
        self.parts.entry(format!("{owner}::{name}")).or_default().extend(words.0);
    }

    /// These, and all that they are made of. A word in a field is a type of that name, in its own crate if there is one.
    fn covered(&self, listed: impl Iterator<Item = String>) -> BTreeSet<String> {
        let mut covered = BTreeSet::new();
        let mut open: Vec<String> = listed.collect();
        while let Some(name) = open.pop() {
            if covered.contains(&name) {
                continue;
            }
            let owner = name.split("::").next().unwrap_or_default();
            for word in self.parts.get(&name).into_iter().flatten() {
                let own = format!("{owner}::{word}");
                if self.parts.contains_key(&own) || self.decoders.contains_key(&own) {
                    open.push(own);
                } else {
                    let is_it = |other: &&String| other.rsplit("::").next() == Some(word);
                    open.extend(self.parts.keys().filter(is_it).cloned());
                }
            }
            covered.insert(name);
        }
        covered
    }
}

/// Of what an implementation makes a decoder, if it does; through a box, of what is in it.
fn implemented(item: &ItemImpl) -> Option<(String, usize)> {
    let (_, of, _) = item.trait_.as_ref()?;
    let of = &of.segments.last()?.ident;
    TRAITS.iter().find(|name| of == *name)?;
    let mut words = Words(BTreeSet::new());
    let Type::Path(path) = &*item.self_ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident == "Box" {
        words.visit_path_arguments(&last.arguments);
    } else {
        words.0.insert(last.ident.to_string());
    }
    Some((words.0.into_iter().next()?, last.ident.span().start().line))
}

fn first_word(tokens: &TokenStream) -> Option<(String, usize)> {
    match tokens.clone().into_iter().next() {
        Some(TokenTree::Ident(word)) => Some((word.to_string(), word.span().start().line)),
        _ => None,
    }
}

/// The words of types.
struct Words(BTreeSet<String>);

impl<'ast> Visit<'ast> for Words {
    fn visit_type_path(&mut self, path: &'ast syn::TypePath) {
        visit::visit_type_path(self, path);
        if let Some(last) = path.path.segments.last() {
            self.0.insert(last.ident.to_string());
        }
    }
    fn visit_type_macro(&mut self, item: &'ast syn::TypeMacro) {
        words_of(item.mac.tokens.clone(), &mut |word, _| {
            self.0.insert(word.to_string());
        });
    }
}

/// What targets say that they read, and what nobody else can write, with their lines.
fn listed(targets: &Source) -> BTreeMap<String, usize> {
    let mut listing = Listing(BTreeMap::new());
    listing.visit_file(&targets.tree);
    listing.0
}

struct Listing(BTreeMap<String, usize>);

impl Listing {
    fn take(&mut self, text: &LitStr) {
        self.0.insert(text.value(), text.span().start().line);
    }
}

impl<'ast> Visit<'ast> for Listing {
    /// `reads: &["crate::Name", ...]`
    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        if matches!(&field.member, Member::Named(name) if name == "reads") {
            let mut texts = Texts(Vec::new());
            texts.visit_expr(&field.expr);
            texts.0.iter().for_each(|text| self.take(text));
        }
    }
    /// `("crate::Name", "why")`, of the list of what is proved.
    fn visit_expr_tuple(&mut self, tuple: &'ast ExprTuple) {
        let mut texts = Texts(Vec::new());
        texts.visit_expr_tuple(tuple);
        if let [name, _why] = texts.0.as_slice() {
            self.take(name);
        }
    }
}

struct Texts(Vec<LitStr>);

impl<'ast> Visit<'ast> for Texts {
    fn visit_lit(&mut self, lit: &'ast Lit) {
        if let Lit::Str(text) = lit {
            self.0.push(text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(product: &str, targets: &str) -> Vec<String> {
        let parse = |path, text| Source::parse(path, text).expect("it is Rust");
        let workspace = Workspace {
            sources: vec![parse("crates/wal/src/a.rs", product), parse(TARGETS, targets)],
            ..Workspace::default()
        };
        check(&workspace).into_iter().map(|finding| finding.sentence).collect()
    }

    const TYPES: &str = "struct Whole { part: Vec<Option<Part>> } struct Part(u8); struct Other;
        wire_struct!(Whole { part }); wire_tuple!(Part); impl Decode for Other {}
        #[cfg(test)] mod tests { impl Decode for Nobody {} }";

    #[test]
    fn what_is_named_or_part_of_it_is_tried() {
        let all = r#"const T: [T; 1] = [T { reads: &["wal::Whole"] }]; const PROVED: P = &[("wal::Other", "own")];"#;
        assert!(found(TYPES, all).is_empty(), "{:?}", found(TYPES, all));
        let some = r#"const T: [T; 1] = [T { reads: &["wal::Other"] }];"#;
        let missing = found(TYPES, some);
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing[0].contains("`wal::Part`") && missing[1].contains("`wal::Whole`"));
    }

    #[test]
    fn a_name_of_nothing_is_found() {
        let gone = r#"const T: [T; 1] = [T { reads: &["wal::Whole", "wal::Gone"] }]; const P: P = &[("wal::Other", "own")];"#;
        let found = found(TYPES, gone);
        assert!(matches!(found.as_slice(), [one] if one.contains("`wal::Gone`")), "{found:?}");
    }
}
