//! Why a cluster cannot go on by itself.

use super::survey::Finding;
use super::verdict::Verdict;
use std::collections::{BTreeMap, BTreeSet};
use testudo_core::{Digest, Slot, limits};

/// Why it cannot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// Too few know what they have promised.
    Promises,
    /// On these slots, the first and the last, too few have all that they held: no view can begin.
    Lost(Slot, Slot),
    /// Too many have halted.
    Halted(Parting),
}

/// Where replicas have halted, and where they part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Parting {
    /// The slot of which no digest can reach a quorum.
    pub(crate) slot: Slot,
    /// Whose states are the same there.
    pub(crate) states: Vec<Vec<u16>>,
    /// The first slot whose results are not the same everywhere, as far as it can be seen, and whose are the same there.
    pub(crate) results: Option<(Slot, Vec<Vec<u16>>)>,
}

impl Parting {
    /// How many have the same state as this replica, itself counted.
    pub(crate) fn peers(&self, id: u16) -> usize {
        self.states.iter().find(|group| group.contains(&id)).map_or(0, Vec::len)
    }

    /// Whose results are other than this replica's, and from which slot on.
    pub(crate) fn others(&self, id: u16) -> Option<(Slot, Vec<u16>)> {
        let (slot, groups) = self.results.as_ref()?;
        let others = groups.iter().filter(|group| !group.contains(&id));
        let others: BTreeSet<u16> = others.flatten().copied().collect();
        Some((*slot, others.into_iter().collect()))
    }
}

/// Those who have the same, together: the largest group first.
fn groups(all: impl Iterator<Item = (u16, Digest)>) -> Vec<Vec<u16>> {
    let mut groups: BTreeMap<Digest, Vec<u16>> = BTreeMap::new();
    all.for_each(|(id, digest)| groups.entry(digest).or_default().push(id));
    let mut groups: Vec<Vec<u16>> = groups.into_values().collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.len()), group.first().copied()));
    groups
}

impl Verdict {
    /// Why the cluster cannot go on by itself, if these may vote; none if it can.
    pub(crate) fn stop(&self, voters: &[&Finding]) -> Option<Stop> {
        if voters.len() < self.needed {
            return Some(Stop::Promises);
        }
        let halted = |it: &&&Finding| self.has_halted(it);
        if voters.len() - voters.iter().filter(halted).count() < self.needed {
            return self.parting().map(Stop::Halted);
        }
        self.barred(voters).map(|(first, last)| Stop::Lost(first, last))
    }

    /// Whether it has halted for good: nobody is known to have gone on. Where somebody has it hears of that.
    pub(crate) fn has_halted(&self, finding: &Finding) -> bool {
        finding.halted.is_some_and(|slot| {
            let mut peers = self.found().filter(|it| it.epoch == finding.epoch);
            !peers.any(|it| it.stable >= slot) && finding.epoch == self.epoch
        })
    }

    fn parting(&self) -> Option<Parting> {
        let halted: Vec<&Finding> = self.found().filter(|it| self.has_halted(it)).collect();
        let slot = halted.iter().filter_map(|it| it.halted).min()?;
        let there = halted.iter().filter(|it| it.slot == slot);
        let states = groups(there.map(|it| (it.id, it.state)));
        let slots: BTreeSet<Slot> =
            halted.iter().flat_map(|it| it.outcomes.keys()).copied().collect();
        let results = slots.into_iter().filter(|at| *at <= slot).find_map(|at| {
            let outcomes = halted.iter().filter_map(|it| Some((it.id, *it.outcomes.get(&at)?)));
            let groups = groups(outcomes);
            (groups.len() > 1).then_some((at, groups))
        });
        Some(Parting { slot, states, results })
    }

    /// The slots on which no quorum of these has all that it held, beyond what is stable or will be.
    fn barred(&self, voters: &[&Finding]) -> Option<(Slot, Slot)> {
        let here = || voters.iter().filter(|it| it.epoch == self.epoch);
        let stable = here().map(|it| it.stable).max().unwrap_or_default().max(self.base);
        // What was executed is signed again after a start, and so stable, if enough may sign.
        let executed = here().map(|it| it.slot).max().unwrap_or_default();
        let signers = voters.iter().filter(|it| it.epoch != self.epoch || !it.is_mute).count();
        let ripe = Slot(executed.0 - executed.0 % self.interval.max(1));
        let base = if signers >= self.needed { stable.max(ripe) } else { stable };
        let window = (base.0 + 1..=base.0.saturating_add(limits::WINDOW)).map(Slot);
        let knows = |slot: Slot| voters.iter().filter(|it| !self.has_lost(it, slot)).count();
        let barred: Vec<Slot> = window.filter(|slot| knows(*slot) < self.needed).collect();
        Some((*barred.first()?, *barred.last()?))
    }

    /// Whether its log has lost what it held on this slot.
    pub(crate) fn has_lost(&self, finding: &Finding, slot: Slot) -> bool {
        let mut lost = finding.lost.iter();
        finding.epoch == self.epoch && lost.any(|(first, last)| *first <= slot && slot <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict::tests::{certified, empty, proposal, refusal, sound, verdict};
    use super::super::verdict::{Loss, Verdict};
    use super::*;
    use testudo_core::Epoch;

    fn of(rows: [Finding; 4]) -> Verdict {
        verdict(rows.map(Some).to_vec())
    }

    /// One whose log has lost what it held on these slots.
    fn holed(finding: Finding, first: u64, last: u64) -> Finding {
        Finding { lost: vec![(Slot(first), Slot(last))], ..finding }
    }

    #[test]
    fn what_too_many_have_lost_people_decide() {
        let rows = [certified(0, 7, 2, b"a"), sound(1, 7), sound(2, 7), sound(3, 6)];
        let [a, b, c, d] = rows.clone();
        let these = of([a, b, holed(c, 8, 10), holed(d, 9, 12)]);
        let these = proposal(&these, None);
        // One of the slots that it reaches is among them, and it holds a certificate for it.
        assert_eq!(these.stop, Stop::Lost(Slot(9), Slot(10)));
        assert_eq!((these.from, these.reach, these.voters.len()), (0, Slot(9), 4));
        assert_eq!((these.returning, these.losses), (vec![], vec![]));
        // Each slot has a quorum of its own: nothing is needed.
        let [a, b, c, d] = rows.clone();
        let helical = of([holed(a, 8, 8), holed(b, 9, 9), holed(c, 10, 12), holed(d, 13, 99)]);
        assert!(refusal(&helical, None).contains("nothing needs recovery: 4 of 4"));
        // Those who may have held a certificate for it are too many.
        let [a, b, c, d] = rows.clone();
        let many = of([a, holed(b, 8, 12), holed(c, 8, 12), holed(d, 8, 12)]);
        let many = proposal(&many, None);
        assert_eq!((many.stop, many.losses), (Stop::Lost(Slot(8), Slot(12)), vec![Loss::Unknown]));
        // One who is not there might have sufficed; nobody at hand does.
        let [a, b, c, _] = rows;
        let absent = verdict(vec![Some(holed(a, 8, 8)), Some(b), Some(c), None]);
        let absent = proposal(&absent, None);
        assert_eq!((absent.stop, absent.absent), (Stop::Lost(Slot(8), Slot(8)), vec![3]));
    }

    /// What all have executed is signed again after a start: then nobody asks for it any more.
    #[test]
    fn what_a_checkpoint_will_cover_bars_nobody() {
        let lost = |id| holed(sound(id, 9), 6, 8);
        let these = of([sound(0, 9), sound(1, 9), lost(2), lost(3)]);
        assert!(refusal(&these, None).contains("nothing needs recovery"), "slot 8 is a checkpoint");
        // Unless too few know what they have signed.
        let mute = |id| Finding { is_mute: true, ..lost(id) };
        let these = of([sound(0, 9), sound(1, 9), mute(2), mute(3)]);
        assert_eq!(proposal(&these, None).stop, Stop::Lost(Slot(6), Slot(8)));
        let stable = Finding { stable: Slot(8), ..sound(1, 9) };
        let these = of([sound(0, 9), stable, mute(2), mute(3)]);
        assert!(refusal(&these, None).contains("nothing needs recovery"));
        // In a later epoch nobody has said anything there.
        let late = |id| Finding { epoch: Epoch(1), ..sound(id, 9) };
        let mut these = of([late(0), late(1), mute(2), mute(3)]);
        (these.epoch, these.base) = (Epoch(1), Slot(5));
        assert!(refusal(&these, None).contains("nothing needs recovery"));
    }

    fn halted(id: u16, state: &[u8], outcomes: &[&[u8]]) -> Finding {
        let outcomes = (1..).map(Slot).zip(outcomes.iter().map(|it| Digest::of(it))).collect();
        Finding { halted: Some(Slot(8)), state: Digest::of(state), outcomes, ..sound(id, 8) }
    }

    #[test]
    fn where_too_many_have_halted_people_choose() {
        let right = |id| halted(id, b"a", &[b"1", b"2", b"3"]);
        let wrong = halted(3, b"b", &[b"1", b"x", b"y"]);
        let these = of([halted(0, b"c", &[]), right(1), right(2), wrong.clone()]);
        let best = proposal(&these, None);
        let states = vec![vec![1, 2], vec![0], vec![3]];
        let results = Some((Slot(2), vec![vec![1, 2], vec![3]]));
        assert_eq!(best.stop, Stop::Halted(Parting { slot: Slot(8), states, results }));
        assert_eq!((best.from, best.reach, best.better), (1, Slot(8), None));
        let Stop::Halted(parting) = best.stop else { panic!("it has halted") };
        assert_eq!(parting.others(1), Some((Slot(2), vec![3])));
        assert_eq!(parting.others(3), Some((Slot(2), vec![1, 2])));
        assert_eq!(proposal(&these, Some(3)).better, Some(1), "more have the same");
        // What was decided since is known to be, and executed.
        let further = Finding { known: Slot(11), reach: Ok(Slot(11)), ..wrong.clone() };
        let these = proposal(&of([halted(0, b"c", &[]), right(1), right(2), further]), Some(3));
        assert_eq!((these.executed, these.reach), (Slot(11), Slot(11)));
        assert_eq!(these.losses, []);
        // A quorum has not halted.
        let these = of([sound(0, 8), sound(1, 8), sound(2, 8), wrong.clone()]);
        assert!(refusal(&these, None).contains("nothing needs recovery: 4 of 4"));
        // Somebody knows that the slot is stable, and will tell.
        let stable = Finding { stable: Slot(8), ..sound(2, 9) };
        let these = of([right(0), right(1), stable, wrong]);
        assert!(refusal(&these, None).contains("nothing needs recovery: 4 of 4"));
    }

    #[test]
    fn without_promises_nothing_else_matters() {
        let these = of([halted(0, b"a", &[]), sound(1, 8), empty(2), empty(3)]);
        assert_eq!(proposal(&these, None).stop, Stop::Promises);
    }
}
