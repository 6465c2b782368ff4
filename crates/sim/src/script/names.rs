//! Short names for digests, in the order of their first appearance.

use std::collections::BTreeMap;

/// The names given so far.
#[derive(Default, Debug)]
pub(crate) struct Names {
    names: BTreeMap<String, String>,
    given: usize,
}

/// How many digits of a digest its `Debug` form shows.
const DIGITS: usize = 8;

impl Names {
    /// The text with every digest replaced by its name: eight hexadecimal digits that stand alone, as digests and keys
    /// show themselves.
    pub(crate) fn apply(&mut self, text: &str) -> String {
        let mut named = String::with_capacity(text.len());
        let mut word = String::new();
        for letter in text.chars() {
            if letter.is_ascii_alphanumeric() || letter == '_' {
                word.push(letter);
            } else {
                named.push_str(&self.name(&word));
                word.clear();
                named.push(letter);
            }
        }
        named.push_str(&self.name(&word));
        named
    }

    /// What was named, and how.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.names.iter().map(|(digits, name)| (digits.as_str(), name.as_str()))
    }

    fn name(&mut self, word: &str) -> String {
        let is_digest = word.len() == DIGITS
            && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_digest {
            return word.into();
        }
        if word.bytes().all(|digit| digit == b'0') {
            return "∅".into();
        }
        if let Some(name) = self.names.get(word) {
            return name.clone();
        }
        let letter = char::from(b'A' + (self.given % 26) as u8);
        let round = self.given / 26;
        let name = if round == 0 { letter.to_string() } else { format!("{letter}{round}") };
        self.given += 1;
        self.names.insert(word.into(), name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn digests_get_names_and_other_words_stay() {
        let mut names = Names::default();
        assert_eq!(names.apply("vote 0123abcd of [89efa012]"), "vote A of [B]");
        assert_eq!(names.apply("89efa012, 00000000, 123, deadbeefs"), "B, ∅, 123, deadbeefs");
    }
}
