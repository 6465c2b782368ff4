//! What was acknowledged must be there: arithmetic on tokens, apart from the linearizability checker.
//!
//! Keys that begin with `l` are only appended to and read, with a new token each time. So at the end each acknowledged
//! token must be there exactly once, each other one at most once, and every read must have seen a beginning of what is
//! there at the end.

use crate::linear::Operation;
use crate::service::{Answer, Ask};
use std::collections::BTreeMap;

/// Judges a history whose last reads came after everything else had been answered.
///
/// # Errors
/// With a sentence on the first token that is lost or doubled, or read that cannot be.
pub fn settle(history: &[Operation<Ask, Answer>]) -> Result<(), String> {
    let mut last: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for (key, at, value) in reads(history) {
        let newest = last.entry(key).or_insert((at, value));
        if newest.0 <= at {
            *newest = (at, value);
        }
    }
    for (key, _, value) in reads(history) {
        let end = last.get(key).map_or("", |(_, end)| end);
        if !end.starts_with(value) {
            return Err(format!("{key} was read as {value:?}, and is {end:?} at the end"));
        }
    }
    for operation in history {
        let Ask::Append { key, token } = &operation.input else { continue };
        let Some((_, end)) = last.get(key.as_str()) else { continue };
        let count = end.split_inclusive(',').filter(|part| part == token).count();
        let is_acknowledged = operation.returned.is_some();
        if count > 1 || (count == 0 && is_acknowledged) {
            let fate = if count == 0 { "lost" } else { "there more than once" };
            return Err(format!("{token} appended to {key} is {fate}: {end:?}"));
        }
    }
    Ok(())
}

/// Reads of logs: key, when called, value.
fn reads(history: &[Operation<Ask, Answer>]) -> impl Iterator<Item = (&str, u64, &str)> {
    history.iter().filter_map(|operation| match (&operation.input, &operation.returned) {
        (Ask::Get { key }, Some((_, Answer::Value(value)))) if key.starts_with('l') => {
            Some((key.as_str(), operation.called, value.as_deref().unwrap_or_default()))
        }
        _ => None,
    })
}
