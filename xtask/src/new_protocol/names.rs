//! What a protocol may be called, what follows from its name, and how that enters a template.

use std::collections::BTreeSet;

/// Longer names break lines that nobody wants broken.
const LONGEST: usize = 32;

/// A protocol's name in all the forms that the tree needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// As its folder is called: `view-stamp`.
    pub name: String,
    /// As it is called on the command line, in cluster files and in metrics: `view_stamp`.
    pub snake: String,
    /// As its type is called: `ViewStamp`.
    pub type_name: String,
    /// As the constant with its number is called: `VIEW_STAMP`.
    pub constant: String,
}

impl Names {
    /// Checks a name: its letters, that no crate in `taken` has it, and that what follows from it is no word with a
    /// meaning of its own, in Rust or in the templates.
    ///
    /// # Errors
    /// The sentence that says what is wrong with it.
    pub fn new(
        name: &str,
        taken: &BTreeSet<String>,
        meanings: &BTreeSet<String>,
    ) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(allowed) {
            return Err(format!(
                "`{name}` is no name for a protocol: use lower-case letters, digits and `-`."
            ));
        }
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(format!("`{name}` must begin with a letter."));
        }
        if name.ends_with('-') || name.contains("--") {
            return Err(format!("Each `-` in `{name}` must stand between two words."));
        }
        if name.len() > LONGEST {
            return Err(format!("`{name}` is longer than {LONGEST} letters."));
        }
        if taken.contains(name) {
            return Err(format!("There is a testudo-{name} already."));
        }
        let names = Self::of(name);
        if syn::parse_str::<syn::Ident>(&names.snake).is_err() {
            return Err(format!("`{name}` is a word of the language Rust."));
        }
        if syn::parse_str::<syn::Ident>(&names.type_name).is_err() {
            return Err(format!(
                "Its type would be `{}`, a word of the language Rust.",
                names.type_name
            ));
        }
        for word in [&names.type_name, &names.constant] {
            if meanings.contains(word) {
                return Err(format!(
                    "`{name}` would be `{word}` in the code, which means something else there already."
                ));
            }
        }
        Ok(names)
    }

    fn of(name: &str) -> Self {
        let capital = |word: &str| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase())
                .into_iter()
                .chain(letters)
                .collect()
        };
        Self {
            name: name.to_owned(),
            snake: name.replace('-', "_"),
            type_name: name.split('-').map(capital).collect::<Vec<String>>().concat(),
            constant: name.replace('-', "_").to_ascii_uppercase(),
        }
    }

    /// The words in templates, and what each becomes for this protocol with this number.
    #[must_use]
    pub fn words(&self, number: u8) -> Vec<(&'static str, String)> {
        vec![
            ("__name__", self.name.clone()),
            ("__snake__", self.snake.clone()),
            ("__crate__", self.crate_name()),
            ("__Type__", self.type_name.clone()),
            ("__CONST__", self.constant.clone()),
            ("__ID__", number.to_string()),
        ]
    }

    /// As its crate is called in code: `testudo_view_stamp`.
    #[must_use]
    pub fn crate_name(&self) -> String {
        format!("testudo_{}", self.snake)
    }

    /// As its crate is called in manifests: `testudo-view-stamp`.
    #[must_use]
    pub fn package(&self) -> String {
        format!("testudo-{}", self.name)
    }
}

/// Replaces the words of a template.
///
/// # Errors
/// A word in the form of a placeholder is left: the template misspells it.
pub(super) fn render(template: &str, words: &[(&str, String)]) -> Result<String, String> {
    let mut text = template.to_owned();
    for (word, meaning) in words {
        text = text.replace(word, meaning);
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let left =
        text.split(|c| !is_word(c)).find(|word| word.starts_with("__") && word.ends_with("__"));
    match left.filter(|word| word.len() > 4) {
        Some(word) => Err(format!("Nothing is known to stand for {word}.")),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Result<Names, String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Names::new(name, &words(&["pbft", "core"]), &words(&["Message", "Vec", "PROFILE"]))
    }

    #[test]
    fn a_name_has_all_its_forms() {
        let names = named("view-stamp2").expect("it is a good name");
        let forms = [&names.snake, &names.type_name, &names.constant];
        assert_eq!(forms, ["view_stamp2", "ViewStamp2", "VIEW_STAMP2"]);
        assert_eq!(
            (names.crate_name(), names.package()),
            ("testudo_view_stamp2".to_owned(), "testudo-view-stamp2".to_owned(),)
        );
    }

    #[test]
    fn bad_names_are_refused_with_a_sentence() {
        for (name, why) in [
            ("", "lower-case letters"),
            ("Raft", "lower-case letters"),
            ("view_stamp", "lower-case letters"),
            ("../pbft", "lower-case letters"),
            ("2pc", "begin with a letter"),
            ("-a", "begin with a letter"),
            ("a-", "between two words"),
            ("a--b", "between two words"),
            ("a-name-that-goes-on-and-on-and-on", "longer than"),
            ("pbft", "testudo-pbft already"),
            ("core", "testudo-core already"),
            ("async", "language Rust"),
            ("self", "language Rust"),
            ("message", "`Message` in the code"),
            ("vec", "`Vec` in the code"),
            ("profile", "`PROFILE` in the code"),
        ] {
            let refusal = named(name).expect_err("it is a bad name");
            assert!(refusal.contains(why) && refusal.ends_with('.'), "{name}: {refusal}");
        }
    }

    #[test]
    fn words_are_replaced_and_none_is_left() {
        let words = Names::of("view-stamp").words(7);
        let template =
            "use __crate__::__Type__; // testudo-__name__\nconst __CONST__: u8 = __ID__;";
        let text = render(template, &words).expect("all words are known");
        assert_eq!(
            text,
            "use testudo_view_stamp::ViewStamp; // testudo-view-stamp\nconst VIEW_STAMP: u8 = 7;"
        );
        let refusal = render("struct __type__;", &words).expect_err("the word is misspelt");
        assert!(refusal.contains("__type__"), "{refusal}");
    }
}
