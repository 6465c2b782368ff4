//! Steps without what came of them.
//!
//! When a step is left out, what was sent because of it is not sent, and later messages of the same kind on the same link
//! move up by one. So their deliveries are left out, too, or renamed: then what is left is the run in which the step did
//! not happen, and all else did as far as it could.

use crate::replay::Tape;
use crate::step::{Parcel, Step, Who};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The messages that are not sent: by link and kind, which of them.
type Unsent = BTreeMap<(Who, Who, Cow<'static, str>, bool), BTreeSet<u32>>;

fn stream(parcel: &Parcel) -> (Who, Who, Cow<'static, str>, bool) {
    (parcel.from, parcel.to, parcel.kind.clone(), parcel.is_copy)
}

/// A tape without the steps at these places and all that came of them. `sent` says of each step what was sent because of
/// it.
pub(super) fn without(
    tape: &Tape,
    sent: &[Vec<Parcel>],
    is_left_out: impl Fn(usize) -> bool,
) -> Tape {
    let mut unsent = Unsent::new();
    let mut place = 0;
    tape.each(|step| {
        let index = place;
        place += 1;
        let is_gone = parcel(step).is_some_and(|parcel| {
            unsent.get(&stream(parcel)).is_some_and(|gone| gone.contains(&parcel.ordinal))
        });
        if is_gone || is_left_out(index) {
            for parcel in sent.get(index).into_iter().flatten() {
                unsent.entry(stream(parcel)).or_default().insert(parcel.ordinal);
            }
            return false;
        }
        if let Some(parcel) = parcel_mut(step) {
            let gone = unsent.get(&stream(parcel));
            let before = gone.map_or(0, |gone| gone.range(..parcel.ordinal).count());
            parcel.ordinal -= before as u32;
        }
        true
    })
}

const fn parcel(step: &Step) -> Option<&Parcel> {
    match step {
        Step::Deliver(parcel)
        | Step::Lose(parcel, _)
        | Step::Duplicate(parcel)
        | Step::Spoil(parcel) => Some(parcel),
        _ => None,
    }
}

const fn parcel_mut(step: &mut Step) -> Option<&mut Parcel> {
    match step {
        Step::Deliver(parcel)
        | Step::Lose(parcel, _)
        | Step::Duplicate(parcel)
        | Step::Spoil(parcel) => Some(parcel),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::without;
    use crate::replay::Tape;
    use crate::step::{Haste, Parcel, Step};

    #[test]
    fn what_came_of_a_step_goes_with_it_and_the_rest_moves_up() {
        let steps = |lines: &[&str]| -> Vec<Step> {
            lines.iter().map(|line| line.parse().expect("a step")).collect()
        };
        let parcels = |names: &[&str]| -> Vec<Parcel> {
            names.iter().map(|name| name.parse().expect("a message")).collect()
        };
        let tape = steps(&[
            "fire 0 A",
            "fire 0 B",
            "deliver 0->1 ask/1",
            "deliver 0->1 ask/2",
            "deliver 1->0 answer/1",
            "deliver 1->0 answer/2",
            "deliver 0->2 ask/1",
        ]);
        let sent = [
            parcels(&["0->1 ask/1"]),
            parcels(&["0->1 ask/2", "0->2 ask/1"]),
            parcels(&["1->0 answer/1"]),
            parcels(&["1->0 answer/2"]),
            Vec::new(),
            Vec::new(),
            Vec::new(),
        ];
        let left = without(&Tape::whole(&tape, Haste::NONE), &sent, |index| index == 0);
        let left: Vec<Step> = left.steps().iter().map(|(step, _)| step.clone()).collect();
        let expected =
            ["fire 0 B", "deliver 0->1 ask/1", "deliver 1->0 answer/1", "deliver 0->2 ask/1"];
        assert_eq!(left, steps(&expected));
    }
}
