//! In which order operations on registers took effect, as far as their answers tell.
//!
//! The search for an order takes long where many operations were never answered: each may have taken effect at any time. But
//! answers bear revisions. So a guess is at hand, which whoever judges verifies, and need not believe.

use super::{Answer, Ask, Call};

/// The places of the answered operations among these, in the order in which they seem to have taken effect: by the revision
/// that each made or saw, what made it before what saw it.
pub(super) fn guessed(registers: &[&Call<Ask, Answer>]) -> Vec<usize> {
    let answered = registers.iter().enumerate().filter_map(|(index, call)| {
        let (_, answer) = call.returned.as_ref()?;
        let is_read = !call.input.writes(&answer.what);
        Some(((answer.revision.unwrap_or(i64::MAX), is_read, call.called), index))
    });
    let mut places: Vec<_> = answered.collect();
    places.sort_unstable();
    places.into_iter().map(|(_, index)| index).collect()
}
