//! Fingerprints: 128 bits that stand for a state.

use super::rename::{Renaming, canonical, without_signatures};
use std::fmt::{self, Write as _};

/// 128 bits that stand for something. Not for secrets: nobody here looks for collisions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Print(pub(crate) u128);

impl Print {
    /// Of a word alone.
    pub(crate) fn of(word: u64) -> Self {
        let mut hash = Hash::default();
        hash.word(word);
        hash.end()
    }

    /// Of both, in this order.
    pub(crate) fn then(self, next: Self) -> Self {
        let mut hash = Hash::default();
        hash.print(self);
        hash.print(next);
        hash.end()
    }

    /// Of both, in whatever order: for multisets.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

/// Makes prints of text and words, by two lanes of folded multiplication.
#[derive(Clone, Debug)]
pub(crate) struct Hash {
    low: u64,
    high: u64,
    /// Bytes that do not make a word yet.
    rest: u64,
    length: u64,
}

impl Default for Hash {
    fn default() -> Self {
        Self { low: 0x243f_6a88_85a3_08d3, high: 0x1319_8a2e_0370_7344, rest: 0, length: 0 }
    }
}

const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

impl Hash {
    pub(crate) fn word(&mut self, word: u64) {
        self.low = fold(self.low ^ word, 0x9e37_79b9_7f4a_7c15) ^ self.high.rotate_left(17);
        self.high = fold(self.high ^ word.rotate_left(32), 0xd6e8_feb8_6659_fd93) ^ self.low;
    }

    pub(crate) fn print(&mut self, print: Print) {
        self.word(print.0 as u64);
        self.word((print.0 >> 64) as u64);
    }

    pub(crate) fn end(mut self) -> Print {
        let (rest, length) = (self.rest, self.length);
        self.word(rest);
        self.word(length);
        self.word(0);
        Print(u128::from(self.low) << 64 | u128::from(self.high))
    }
}

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let (first, rest) = text.as_bytes().split_at(self.missing().min(text.len()));
        self.bytes(first);
        let words = rest.chunks_exact(8);
        let last = words.remainder();
        for word in words {
            self.length += 8;
            self.word(word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
        self.bytes(last);
        Ok(())
    }
}

impl Hash {
    /// How many bytes make a word of what there is.
    const fn missing(&self) -> usize {
        (self.length.wrapping_neg() % 8) as usize
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.rest = self.rest << 8 | u64::from(*byte);
            self.length += 1;
            if self.length.is_multiple_of(8) {
                let word = std::mem::take(&mut self.rest);
                self.word(word);
            }
        }
    }
}

/// The prints of a text under each renaming.
pub(crate) fn prints(
    renamings: &[Renaming],
    write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result,
) -> Vec<Print> {
    if let [_] = renamings {
        let mut hash = Hash::default();
        // Neither hashes nor strings refuse text.
        let _ = write(&mut hash);
        return vec![hash.end()];
    }
    let mut text = String::new();
    let _ = write(&mut text);
    of_text(renamings, &text)
}

/// The same of a node. Signatures follow from the names of replicas by a hash, and would keep states apart that differ in
/// nothing else; so they are left out where names change. A node holds none that it has not checked: each follows from whose
/// it is and what it says, which stand beside it. What is under way is not checked, and keeps them.
pub(crate) fn prints_of_node(
    renamings: &[Renaming],
    write: impl FnOnce(&mut dyn fmt::Write) -> fmt::Result,
) -> Vec<Print> {
    if let [_] = renamings {
        return prints(renamings, write);
    }
    let mut text = String::new();
    let _ = write(&mut text);
    of_text(renamings, &without_signatures(&text))
}

fn of_text(renamings: &[Renaming], text: &str) -> Vec<Print> {
    let print = |renaming| {
        let mut hash = Hash::default();
        let _ = hash.write_str(&canonical(text, renaming));
        hash.end()
    };
    renamings.iter().map(print).collect()
}

#[cfg(test)]
mod tests {
    use super::{Hash, Print};
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    fn of(parts: &[&str]) -> Print {
        let mut hash = Hash::default();
        parts.iter().for_each(|part| hash.write_str(part).expect("it takes any text"));
        hash.end()
    }

    #[test]
    fn a_print_is_of_the_text_and_not_of_how_it_came() {
        assert_eq!(of(&["abcdefghijk"]), of(&["abc", "", "defghij", "k"]));
        let texts = ["", "\0", "\0\0", "a", "b", "ab", "ba", "abcdefgh", "abcdefgh\0", "abcdefgi"];
        let prints: BTreeSet<Print> = texts.iter().map(|text| of(&[text])).collect();
        assert_eq!(prints.len(), texts.len());
    }

    #[test]
    fn small_changes_change_all_of_a_print() {
        let mut differing = 0;
        for number in 0..1000_u64 {
            let one = of(&[&format!("state {number}")]);
            let other = of(&[&format!("state {}", number + 1)]);
            differing += (one.0 ^ other.0).count_ones();
        }
        assert!((62_000..66_000).contains(&differing), "{differing} of 128000 bits");
    }

    #[test]
    fn a_multiset_has_no_order_and_a_sequence_has() {
        let (a, b) = (Print::of(1), Print::of(2));
        assert_eq!(a.and(b), b.and(a));
        assert_ne!(a.and(a), a);
        assert_ne!(a.then(b), b.then(a));
    }
}
