//! Messages as a reader wants them.

/// Brackets within brackets within brackets are cut.
const DEEPEST: usize = 2;

/// The `Debug` form of a message without what a reader knows anyway: outer type names, braces, and commas. What is
/// nested deeper than a reader follows is cut.
///
/// `Prepare(Prepare { view: v0, slot: s1, digest: 0123abcd })` becomes `view=v0 slot=s1 digest=0123abcd`.
#[must_use]
pub fn compact(debug: &str) -> String {
    let mut rest = debug.trim();
    // `Outer(Inner { … })`: each wrapper that encloses everything goes.
    while let Some(inner) = unwrap(rest) {
        rest = inner;
    }
    let mut text = String::with_capacity(rest.len());
    let mut depth = 0_usize;
    let mut letters = rest.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == DEEPEST {
                    text.push('…');
                }
            }
            _ => {}
        }
        if depth > DEEPEST {
            if matches!(letter, '(' | '[' | '{') && depth == DEEPEST + 1 {
                text.truncate(text.trim_end().len());
                text.push(letter);
            }
            continue;
        }
        match letter {
            ':' if letters.peek() == Some(&' ') => {
                letters.next();
                text.push('=');
            }
            ',' if letters.peek() == Some(&' ') => {}
            '{' if letters.peek() == Some(&' ') => {
                letters.next();
                if text.ends_with(' ') {
                    text.pop();
                }
                text.push('{');
            }
            ' ' if letters.peek() == Some(&'}') => {}
            _ => text.push(letter),
        }
    }
    text
}

fn unwrap(text: &str) -> Option<&str> {
    let open = text.find(['(', '{', ' '])?;
    let is_name = text[..open].chars().all(|letter| letter.is_ascii_alphanumeric());
    if !is_name || open == 0 || !text.starts_with(|letter: char| letter.is_ascii_uppercase()) {
        return None;
    }
    let body = text[open..].trim_start();
    let (first, last) = (body.chars().next()?, body.chars().last()?);
    let is_pair = matches!((first, last), ('(', ')') | ('{', '}'));
    (is_pair && encloses(body)).then(|| body[1..body.len() - 1].trim())
}

/// Whether the first bracket is closed by the last one.
fn encloses(body: &str) -> bool {
    let mut depth = 0_u32;
    for (index, letter) in body.char_indices() {
        match letter {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1 == body.len();
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn what_a_reader_knows_is_left_out() {
        let debug = "Prepare(Prepare { view: v0, slot: s1, digest: 0123abcd })";
        assert_eq!(compact(debug), "view=v0 slot=s1 digest=0123abcd");
        assert_eq!(compact("Order(Vote { of: A { x: 1 }, list: [1, 2] })"), "of=A{x=1} list=[1 2]");
        let nested = "V { a: [B { c: D { e: 1 }, f: (2, 3) }], g: 4 }";
        assert_eq!(compact(nested), "a=[B{c=D{…} f=(…)}] g=4");
        assert_eq!(compact("Idle"), "Idle");
        assert_eq!(compact("A(1) B(2)"), "A(1) B(2)");
    }
}
