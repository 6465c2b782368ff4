//! States under other names of their replicas.
//!
//! What prints as `r2` or `NodeId(2)` is a replica's name. Under a renaming it prints as another's, and what is in braces
//! is put into an order of its own: entries of maps and sets, which stand there by names, and fields, whose names stay with
//! them. So two states print alike under some renamings only if one is the other under a renaming; they may be that, and
//! not print alike, where something is in the order of names that is not in braces, or follows from names by a hash, as
//! signatures under way do. Then they count as two, which costs time and nothing else.

use crate::event::NodeId;
use std::collections::BTreeMap;

/// The new names of replicas that get others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Renaming(BTreeMap<u16, u16>);

impl Renaming {
    /// All renamings among these nodes, the one that changes nothing first.
    pub(crate) fn all(nodes: &[NodeId]) -> Vec<Self> {
        let names: Vec<u16> = nodes.iter().map(|node| node.0).collect();
        let mut orders = vec![Vec::new()];
        for _ in &names {
            let longer = |order: &Vec<u16>| {
                let left: Vec<u16> =
                    names.iter().copied().filter(|name| !order.contains(name)).collect();
                let order = order.clone();
                left.into_iter().map(move |name| [order.clone(), vec![name]].concat())
            };
            orders = orders.iter().flat_map(longer).collect();
        }
        let of = |order: Vec<u16>| Self(names.iter().copied().zip(order).collect());
        orders.into_iter().map(of).collect()
    }

    /// A node's name.
    pub(crate) fn of(&self, node: NodeId) -> NodeId {
        NodeId(self.0.get(&node.0).copied().unwrap_or(node.0))
    }
}

/// The text under other names, with what is in braces in order.
pub(crate) fn canonical(text: &str, renaming: &Renaming) -> String {
    let renamed = rename(text, renaming);
    let mut out = String::with_capacity(renamed.len());
    let mut rest = renamed.as_str();
    while !rest.is_empty() {
        rest = group(rest, &mut out);
        // A bracket that nothing opened is text.
        if let Some(first) = rest.chars().next() {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// The text without the digits that signatures print as.
pub(crate) fn without_signatures(text: &str) -> String {
    const MARK: &str = "sig:";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        out.push_str(before);
        rest = after.trim_start_matches(|digit: char| digit.is_ascii_hexdigit());
    }
    out.push_str(rest);
    out
}

/// Copies up to the bracket that closes the group that the text begins in, and gives back what comes from there on.
fn group<'a>(mut rest: &'a str, out: &mut String) -> &'a str {
    while let Some(at) = rest.find(['{', '(', '[', '}', ')', ']', '"']) {
        let (before, bracket) = rest.split_at(at);
        out.push_str(before);
        match bracket.as_bytes()[0] {
            b'"' => {
                let end = string(bracket);
                out.push_str(&bracket[..end]);
                rest = &bracket[end..];
            }
            b'{' => rest = braces(&bracket[1..], out),
            b'(' | b'[' => {
                out.push_str(&bracket[..1]);
                rest = group(&bracket[1..], out);
                if let Some(close) = rest.get(..1) {
                    out.push_str(close);
                    rest = &rest[1..];
                }
            }
            _ => return bracket,
        }
    }
    out.push_str(rest);
    ""
}

/// Copies the entries up to the closing brace, in order.
fn braces<'a>(text: &'a str, out: &mut String) -> &'a str {
    let mut inner = String::new();
    let rest = group(text, &mut inner);
    let mut entries = split(&inner);
    entries.sort_unstable();
    out.push('{');
    out.push_str(&entries.join(","));
    out.push('}');
    rest.strip_prefix('}').unwrap_or(rest)
}

/// The parts between commas that are in no brackets.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut begin, mut at) = (0_usize, 0, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b'"' => at += string(&text[at..]) - 1,
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    parts.push(text[begin..].trim());
    parts
}

/// The length of the quoted string that the text begins with.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !is_escaped => return at + 1,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// The text with names of replicas exchanged.
fn rename(text: &str, renaming: &Renaming) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_in_word = false;
    while let Some(first) = rest.chars().next() {
        let prefix = ["NodeId(", "r"].into_iter().find(|prefix| rest.starts_with(prefix));
        if let Some(prefix) = prefix.filter(|_| !is_in_word) {
            let digits = rest[prefix.len()..].bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest[prefix.len()..].split_at(digits);
            let is_whole = !after.starts_with(|next: char| next.is_alphanumeric() || next == '_');
            if let (Ok(number), true) = (number.parse(), is_whole) {
                out.push_str(prefix);
                out.push_str(&renaming.of(NodeId(number)).0.to_string());
                rest = after;
                continue;
            }
        }
        out.push(first);
        is_in_word = first.is_alphanumeric() || first == '_';
        rest = &rest[first.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Renaming, canonical, without_signatures};
    use crate::event::NodeId;

    fn swap() -> Renaming {
        Renaming::all(&[NodeId(1), NodeId(2)]).pop().expect("there are two")
    }

    #[test]
    fn all_orders_begin_with_the_one_there_is() {
        let all = Renaming::all(&[NodeId(0), NodeId(1), NodeId(3)]);
        assert_eq!(all.len(), 6);
        assert!((0..4).all(|node| all[0].of(NodeId(node)) == NodeId(node)));
        assert_eq!(Renaming::all(&[]), [Renaming::default()]);
    }

    #[test]
    fn names_are_exchanged_and_nothing_else() {
        let text = "me: r1, votes: {r1: a, r2: b, r12: c}, for1 r1x _r1 NodeId(2) Replica(r2)";
        let renamed = canonical(text, &swap());
        assert_eq!(
            renamed,
            "me: r2, votes: {r12: c,r1: b,r2: a}, for1 r1x _r1 NodeId(1) Replica(r1)"
        );
        assert_eq!(canonical(&renamed, &swap()), canonical(text, &Renaming::default()));
    }

    #[test]
    fn maps_are_equal_under_other_names_when_they_say_the_same() {
        let one = r#"T { m: {r1: [1, {r2, r1}], r2: [2, {}]}, s: "}r1," } end"#;
        let other = r#"T { m: {r1: [2, {}], r2: [1, {r1, r2}]}, s: "}r2," } end"#;
        assert_eq!(canonical(one, &swap()), canonical(other, &Renaming::default()));
        assert_ne!(canonical(one, &swap()), canonical(one, &Renaming::default()));
    }

    #[test]
    fn signatures_are_left_out_and_nothing_else() {
        let text = "{r1: sig:7ce8, r2: sig:00ff} digest 7ce8, sig:, sig:12";
        assert_eq!(without_signatures(text), "{r1: sig:, r2: sig:} digest 7ce8, sig:, sig:");
    }

    #[test]
    fn lists_keep_their_order_and_broken_text_is_kept() {
        assert_eq!(canonical("[r2, r1]", &swap()), "[r1, r2]");
        assert_eq!(canonical("a}b)c", &Renaming::default()), "a}b)c");
        assert_eq!(canonical("{b, a", &Renaming::default()), "{a,b}");
    }
}
