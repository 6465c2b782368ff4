//! Nothing unfinished is committed: no marks of work left for later, no macros that stand in for
//! it, no debugging left in.

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::visit::Visit;

use super::{Finding, Source, Workspace};

/// Marks in comments and strings. They are put together here so that this file passes itself.
const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

const MACROS: &[(&str, &str)] = &[
    ("todo", "finish it, or leave the feature out"),
    ("unimplemented", "finish it, or leave the feature out"),
    ("dbg", "take it out"),
];

/// Searches every source, manifest, protobuf file and README.
#[must_use]
pub fn check(workspace: &Workspace) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &workspace.sources {
        findings.extend(marks(&source.path, &source.text));
        findings.extend(macros(source));
    }
    for (path, text) in &workspace.texts {
        findings.extend(marks(path, text));
    }
    findings
}

fn marks(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for mark in MARKS.iter().filter(|mark| has_word(line, mark)) {
            let sentence = format!("{mark}: do it now, or say plainly what is so and why.");
            findings.push(Finding::new(path, index + 1, sentence));
        }
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(inside) && !after.is_some_and(inside)
    })
}

fn macros(source: &Source) -> Vec<Finding> {
    let mut calls = Calls { found: Vec::new() };
    calls.visit_file(&source.tree);
    let refused = calls.found.into_iter().filter_map(|(name, line)| {
        let (_, advice) = MACROS.iter().find(|(refused, _)| *refused == name)?;
        Some(Finding::new(&source.path, line, format!("{name}! is for the workbench: {advice}.")))
    });
    refused.collect()
}

struct Calls {
    found: Vec<(String, usize)>,
}

impl<'ast> Visit<'ast> for Calls {
    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(last) = call.path.segments.last() {
            self.found.push((last.ident.to_string(), last.ident.span().start().line));
        }
        self.calls_within(call.tokens.clone());
    }
}

impl Calls {
    /// A macro's arguments are tokens, not syntax: a word and an exclamation mark are a call,
    /// unless the mark begins `!=`.
    fn calls_within(&mut self, tokens: TokenStream) {
        let mut last = None;
        for token in tokens {
            match token {
                TokenTree::Punct(mark)
                    if mark.as_char() == '!' && mark.spacing() == Spacing::Alone =>
                {
                    self.found.extend(last.take());
                }
                TokenTree::Ident(word) => {
                    last = Some((word.to_string(), word.span().start().line));
                }
                TokenTree::Group(group) => {
                    last = None;
                    self.calls_within(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => last = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Finding> {
        let source = Source::parse("a/src/x.rs", text).expect("the test's text is Rust");
        check(&Workspace { sources: vec![source], ..Workspace::default() })
    }

    #[test]
    fn marks_are_found_as_whole_words() {
        let mark = MARKS[0];
        assert_eq!(found(&format!("fn f() {{}}\n// {mark}: later")).len(), 1);
        assert!(found(&format!("// {mark}S and MASTO{mark}N")).is_empty());
    }

    #[test]
    fn macros_are_found_also_inside_other_macros() {
        let text = "fn f() {\n todo!();\n vec![\n dbg!(1)];\n std::unimplemented!() }";
        let lines: Vec<usize> = found(text).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 4, 5]);
    }

    #[test]
    fn names_and_strings_are_no_calls() {
        assert!(found("fn todo() { let dbg = \"todo!()\"; assert!(todo != dbg); }").is_empty());
    }
}
