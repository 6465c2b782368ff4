//! How long files and functions are.
//!
//! A function is measured from its `fn` to its closing brace, a file by its lines; both without
//! what only tests see. Files of tests and benches may be twice as long, and their functions as
//! long as a scenario takes to tell.

use std::collections::BTreeMap;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{ImplItemFn, Item, ItemFn, ItemImpl, ItemTrait, Signature, TraitItemFn};

use super::syntax::{attributes_of, is_for_tests};
use super::{Source, Workspace};

const FUNCTION: usize = 70;
const FILE: usize = 600;
const TEST_FILE: usize = 1200;

/// What is measured: a file, or a function in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, relative to the workspace.
    pub path: String,
    /// The function, with the type it belongs to; nothing for the file itself.
    pub function: Option<String>,
}

/// A length in lines, with the limit that it is past and the line where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// Measured lines.
    pub lines: usize,
    /// The most there should be.
    pub limit: usize,
    /// Where the function or file begins.
    pub at: usize,
}

/// Everything that is longer than it should be. Of functions that share a name in one file, the
/// longest counts.
#[must_use]
pub fn measure(workspace: &Workspace) -> BTreeMap<Place, Length> {
    let mut long = BTreeMap::new();
    for source in &workspace.sources {
        measure_source(source, &mut long);
    }
    long
}

fn measure_source(source: &Source, long: &mut BTreeMap<Place, Length>) {
    let limit = if source.is_test() { TEST_FILE } else { FILE };
    let lines = source.text.lines().count() - lines_for_tests(&source.tree.items);
    if lines > limit {
        let place = Place { path: source.path.clone(), function: None };
        long.insert(place, Length { lines, limit, at: 1 });
    }
    if source.is_test() {
        return;
    }
    let mut functions = Functions { scope: Vec::new(), seen: Vec::new() };
    functions.visit_file(&source.tree);
    for (function, lines, at) in functions.seen {
        let place = Place { path: source.path.clone(), function: Some(function) };
        let longest = long.get(&place).map_or(FUNCTION, |length| length.lines);
        if lines > longest {
            long.insert(place, Length { lines, limit: FUNCTION, at });
        }
    }
}

fn lines_for_tests(items: &[Item]) -> usize {
    let hidden = items.iter().filter(|item| is_for_tests(attributes_of(item)));
    hidden.map(|item| span_lines(item.span())).sum()
}

fn span_lines(span: proc_macro2::Span) -> usize {
    span.end().line + 1 - span.start().line
}

struct Functions {
    /// The names around the place that is visited.
    scope: Vec<String>,
    /// Each function's name, length and first line.
    seen: Vec<(String, usize, usize)>,
}

impl Functions {
    fn function(&mut self, signature: &Signature, end: usize, inside: impl FnOnce(&mut Self)) {
        self.scope.push(signature.ident.to_string());
        let at = signature.span().start().line;
        self.seen.push((self.scope.join("::"), end + 1 - at, at));
        inside(self);
        self.scope.pop();
    }

    fn within(&mut self, name: String, inside: impl FnOnce(&mut Self)) {
        self.scope.push(name);
        inside(self);
        self.scope.pop();
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        let end = item.block.span().end().line;
        self.function(&item.sig, end, |this| visit::visit_item_fn(this, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            let end = item.block.span().end().line;
            self.function(&item.sig, end, |this| visit::visit_impl_item_fn(this, item));
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            let end = block.span().end().line;
            self.function(&item.sig, end, |this| visit::visit_trait_item_fn(this, item));
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.within(type_name(&item.self_ty), |this| visit::visit_item_impl(this, item));
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.within(item.ident.to_string(), |this| visit::visit_item_trait(this, item));
    }
}

/// The last word of a type's path; functions of a stranger type go by `impl`.
fn type_name(kind: &syn::Type) -> String {
    match kind {
        syn::Type::Path(path) => {
            path.path.segments.last().map_or_else(String::new, |last| last.ident.to_string())
        }
        syn::Type::Reference(reference) => type_name(&reference.elem),
        _ => "impl".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(path: &str, text: &str) -> BTreeMap<Place, Length> {
        let source = Source::parse(path, text).expect("the test's text is Rust");
        measure(&Workspace { sources: vec![source], ..Workspace::default() })
    }

    fn function(name: &str, body: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    step();\n".repeat(body))
    }

    #[test]
    fn a_function_counts_from_its_name_to_its_brace() {
        assert!(measured("a/src/x.rs", &function("fits", 68)).is_empty());
        let long = measured("a/src/x.rs", &format!("/// Doc.\n#[inline]\n{}", function("f", 69)));
        let place = Place { path: "a/src/x.rs".into(), function: Some("f".into()) };
        assert_eq!(long.get(&place), Some(&Length { lines: 71, limit: 70, at: 3 }));
    }

    #[test]
    fn methods_bear_their_types_name_and_closures_count_within() {
        let body = "|| {\n".to_owned() + &"step();\n".repeat(80) + "};";
        let text = format!("impl<T> Big<T> {{ fn grow(&self) {{ let f = {body} }} }}\n");
        let text = text + &format!("trait Act {{ fn act() {{ {body} }} fn bare(); }}");
        let names: Vec<_> =
            measured("a/src/x.rs", &text).into_keys().filter_map(|place| place.function).collect();
        assert_eq!(names, ["Act::act", "Big::grow"]);
    }

    #[test]
    fn braces_in_strings_and_comments_do_not_count() {
        let text = "fn f() { let s = \"}}}{\"; /* { */ }\n".to_owned() + &function("g", 60);
        assert!(measured("a/src/x.rs", &text).is_empty());
    }

    #[test]
    fn tests_inside_a_file_do_not_lengthen_it() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function("long", 700));
        assert!(measured("a/src/x.rs", &tests).is_empty());
        let long = measured("a/src/x.rs", &"const A: u8 = 1;\n".repeat(601));
        assert_eq!(long.values().next().map(|length| length.lines), Some(601));
    }

    #[test]
    fn test_files_have_a_limit_of_their_own() {
        let text = function("scenario", 1100);
        assert!(measured("a/tests/x.rs", &text).is_empty());
        assert_eq!(measured("a/tests/x.rs", &function("scenario", 1200)).len(), 1);
    }
}
