//! Small questions about syntax that several rules ask.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItem, Item, ItemConst, Lit, Meta};

/// Whether attributes say that what they stand on is compiled for tests only.
#[must_use]
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.segments.last().is_some_and(|segment| segment.ident == "test"),
        Meta::List(list) if list.path.is_ident("cfg") => condition_demands_test(&list.tokens),
        Meta::List(_) | Meta::NameValue(_) => false,
    })
}

/// `test`, or `all(...)` with `test` among its parts.
fn condition_demands_test(tokens: &TokenStream) -> bool {
    let mut tokens = tokens.clone().into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Ident(word)), None) => word == "test",
        (Some(TokenTree::Ident(word)), Some(TokenTree::Group(parts))) => {
            let mut parts = parts.stream().into_iter();
            word == "all" && parts.any(|part| matches!(part, TokenTree::Ident(i) if i == "test"))
        }
        _ => false,
    }
}

/// The attributes of an item, whatever its kind.
#[must_use]
pub fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Every word of a token stream with its line, groups opened.
pub fn words_of(tokens: TokenStream, see: &mut impl FnMut(&proc_macro2::Ident, usize)) {
    for token in tokens {
        match token {
            TokenTree::Ident(word) => see(&word, word.span().start().line),
            TokenTree::Group(group) => words_of(group.stream(), see),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Visits all that is compiled into the product, and nothing that only tests see: every word and
/// every float, with its line.
pub struct Product<F: FnMut(&str, usize)> {
    /// Called with each word, or with the digits of each float.
    pub see: F,
}

impl<'ast, F: FnMut(&str, usize)> Visit<'ast> for Product<F> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let hidden = matches!(item, ImplItem::Fn(function) if is_for_tests(&function.attrs));
        if !hidden {
            visit::visit_impl_item(self, item);
        }
    }

    // Attributes hold doc comments and conditions, neither of which is code.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_ident(&mut self, word: &'ast proc_macro2::Ident) {
        (self.see)(&word.to_string(), word.span().start().line);
    }

    fn visit_lit_float(&mut self, float: &'ast syn::LitFloat) {
        (self.see)(&float.to_string(), float.span().start().line);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        words_of(call.tokens.clone(), &mut |word, line| (self.see)(&word.to_string(), line));
    }
}

/// The numbers that a file gives to protocols, with their lines: the `2` of
/// `const PBFT: ProtocolId = ProtocolId(2)`, outside of tests.
#[must_use]
pub fn protocol_numbers(file: &syn::File) -> Vec<(u8, usize)> {
    let mut numbers = Numbers(Vec::new());
    numbers.visit_file(file);
    numbers.0
}

struct Numbers(Vec<(u8, usize)>);

impl<'ast> Visit<'ast> for Numbers {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        if let Expr::Call(call) = &*item.expr
            && let Expr::Path(called) = &*call.func
            && called.path.segments.last().is_some_and(|last| last.ident == "ProtocolId")
            && let Some(Expr::Lit(literal)) = call.args.first()
            && let Lit::Int(number) = &literal.lit
            && let Ok(value) = number.base10_parse()
        {
            self.0.push((value, item.ident.span().start().line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<String> {
        let tree = syn::parse_file(text).expect("the test's text is Rust");
        let mut words = Vec::new();
        Product { see: |word, _| words.push(word.to_owned()) }.visit_file(&tree);
        words
    }

    #[test]
    fn product_code_is_seen_into_macros_and_past_tests() {
        let words = seen(
            "/// A Clock in a comment.\nfn f() { vec![inner(1)]; 2.5; }\n\
             #[cfg(test)] mod tests { fn hidden() {} }\n\
             #[cfg(all(test, unix))] use hidden::also;\n#[cfg(any(test, unix))] use shown;",
        );
        for word in ["f", "inner", "2.5", "shown"] {
            assert!(words.iter().any(|seen| seen == word), "{word} is in {words:?}");
        }
        for word in ["Clock", "hidden", "also"] {
            assert!(words.iter().all(|seen| seen != word), "{word} is not in {words:?}");
        }
    }

    #[test]
    fn protocols_numbers_are_those_of_constants() {
        let tree = syn::parse_file(
            "//! ProtocolId(9) in a comment.\nconst A: ProtocolId = ProtocolId(2);\n\
             pub const B: core::ProtocolId = core::ProtocolId(3);\nconst C: ProtocolId = A;\n\
             fn f() { g(ProtocolId(4)); }\n\
             #[cfg(test)] mod tests { const D: ProtocolId = ProtocolId(5); }",
        );
        let tree = tree.expect("the test's text is Rust");
        assert_eq!(protocol_numbers(&tree), [(2, 2), (3, 3)]);
    }
}
