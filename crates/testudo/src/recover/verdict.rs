//! Whether people must decide, and what is the best that they can decide.
//!
//! A replica may vote if it knows what it has promised under the key that the latest epoch names it by, or if that key is one
//! with which it has not signed anything yet. Where a quorum may vote, has not halted, and has all that it held on every slot
//! that is open, the cluster goes on by itself, and those that have lost their promises come back by themselves. Otherwise it goes
//! on from the state of a survivor: the one that reaches furthest, since whatever was decided a quorum held certificates for.

use super::stop::{Parting, Stop};
use super::survey::Finding;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use std::collections::BTreeMap;
use testudo_contracts::OrderConfig;
use testudo_core::{Epoch, Membership, Slot, limits};
use testudo_quorum::Dissemination;
use testudo_runtime::peek::Memory;

/// What is known of all replicas.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// How many must vote, and sign a decree.
    pub(crate) needed: usize,
    /// The latest epoch.
    pub(crate) epoch: Epoch,
    /// The last slot of the state that it began with.
    pub(crate) base: Slot,
    /// So many slots lie between two checkpoints.
    pub(crate) interval: u64,
    /// What was found, by the replica's id; none if it is not at hand.
    pub(crate) rows: Vec<Option<Finding>>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Advice {
    /// Nothing, and why.
    Nothing(Failure),
    /// This.
    Proposal(Proposal),
}

/// What people may decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Proposal {
    /// Why the cluster does not go on by itself.
    pub(crate) stop: Stop,
    /// Whose state the cluster goes on from.
    pub(crate) from: u16,
    /// The last slot that this replica knows to be decided.
    pub(crate) executed: Slot,
    /// The last slot of the state.
    pub(crate) reach: Slot,
    /// Who is better to go on from, if that is another.
    pub(crate) better: Option<u16>,
    /// Who knows what it has promised.
    pub(crate) voters: Vec<u16>,
    /// Who comes back under a new key.
    pub(crate) returning: Vec<u16>,
    /// Who has lost what it had promised, and does not come back, as it is convicted of having lied.
    pub(crate) convicted: Vec<u16>,
    /// Who is not at hand.
    pub(crate) absent: Vec<u16>,
    /// What may be lost by it.
    pub(crate) losses: Vec<Loss>,
}

/// Something that would be lost, or may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// This replica knows that slots up to this one were decided.
    Decided(u16, Slot),
    /// This replica holds certificates for slots up to this one: they may have been decided.
    Certified(u16, Slot),
    /// This replica holds a certificate for something else in this slot.
    Conflict(u16, Slot),
    /// So many have lost what they held that nobody may know any more what was decided last.
    Unknown,
}

impl Verdict {
    /// Puts what was found in its place.
    pub(crate) fn on(
        cluster: &Cluster,
        mut findings: BTreeMap<u16, Finding>,
        membership: &Membership,
    ) -> Outcome<Self> {
        let quorums = Dissemination::of(membership)
            .ok_or_else(|| Failure::refused("so few replicas survive no fault"))?;
        let rows = cluster.replicas.iter().map(|replica| findings.remove(&replica.id)).collect();
        let (epoch, base) = (membership.epoch, membership.base.slot);
        let interval =
            OrderConfig::new(cluster.domain(), cluster.membership()?).checkpoint_interval;
        Ok(Self { needed: quorums.quorum(), epoch, base, interval, rows })
    }

    /// Whether this replica may vote in the latest epoch as it is.
    pub(crate) fn may_vote(&self, finding: &Finding) -> bool {
        let knows = finding.memory == Memory::There
            && !(finding.epoch == self.epoch && finding.has_forgotten);
        finding.is_named || (finding.has_key && knows)
    }

    /// The replicas at hand.
    pub(crate) fn found(&self) -> impl Iterator<Item = &Finding> {
        self.rows.iter().flatten()
    }

    /// What is to be done, with this replica's state if one is named.
    ///
    /// # Errors
    /// When nothing can be done.
    pub(crate) fn advise(&self, from: Option<u16>) -> Outcome<Advice> {
        if self.found().all(|it| it.memory == Memory::Empty) {
            return Err(Failure::refused(
                "none of the folders at hand holds anything, so that there is no state to go on from; give the folders of \
                 other replicas, or a copy of one",
            ));
        }
        let (voters, returning): (Vec<&Finding>, Vec<&Finding>) =
            self.found().partition(|it| self.may_vote(it));
        let ids = |some: &[&Finding]| some.iter().map(|it| it.id).collect::<Vec<u16>>();
        let stop = self.stop(&voters);
        let (voters, returning) = (ids(&voters), ids(&returning));
        let has_base = self.found().any(|it| self.has_base(it));
        let stop = match stop {
            None if has_base => return Ok(Advice::Nothing(self.nothing(&voters))),
            // It will be said that nobody has it.
            None => Stop::Promises,
            Some(stop) => stop,
        };
        self.refuse_few_keys()?;
        let best = self.best(&stop)?;
        let chosen = match from {
            None => best,
            Some(id) => self.named(id)?,
        };
        let reach = match &chosen.reach {
            Ok(reach) => *reach,
            Err(why) => return Err(unfit(chosen.id, why)),
        };
        if reach == Slot(0) {
            return Err(Failure::refused(
                "no slot was ever executed, so that nothing is lost by beginning anew: take new folders",
            ));
        }
        let (convicted, returning): (Vec<u16>, Vec<u16>) =
            returning.into_iter().partition(|id| chosen.convicted.contains(id));
        if voters.len() + returning.len() < self.needed {
            return Err(Failure::refused(format!(
                "{} of {} replicas must vote, and too few could: {} convicted of having lied, which nobody comes back from; \
                 give the folders of others",
                self.needed,
                self.rows.len(),
                super::words::are(&convicted),
            )));
        }
        let is_better = self.rank(best, &stop) > self.rank(chosen, &stop);
        Ok(Advice::Proposal(Proposal {
            stop,
            from: chosen.id,
            executed: if chosen.halted.is_some() { chosen.known.min(reach) } else { chosen.slot },
            reach,
            better: is_better.then_some(best.id),
            voters,
            returning,
            convicted,
            absent: self.absent(),
            losses: self.losses(chosen, reach),
        }))
    }

    /// Whether it has the state that the latest epoch began with.
    fn has_base(&self, finding: &Finding) -> bool {
        let has_begun = finding.epoch == self.epoch && finding.reach.is_ok();
        has_begun && finding.slot >= self.base
    }

    fn nothing(&self, voters: &[u16]) -> Failure {
        let (have, n, needed) = (voters.len(), self.rows.len(), self.needed);
        let others = if have == n {
            "start them as usual"
        } else {
            "start all as usual, and the others fetch the state and come back by themselves"
        };
        Failure::refused(format!(
            "nothing needs recovery: {have} of {n} replicas may vote as they are, and {needed} are enough; {others}"
        ))
    }

    /// The replicas that are not at hand.
    pub(crate) fn absent(&self) -> Vec<u16> {
        (0..).zip(&self.rows).filter(|(_, row)| row.is_none()).map(|(id, _)| id).collect()
    }

    fn refuse_few_keys(&self) -> Outcome {
        let have = self.found().count();
        if have >= self.needed {
            return Ok(());
        }
        let (n, needed) = (self.rows.len(), self.needed);
        Err(Failure::refused(format!(
            "the key files of {have} of {n} replicas are at hand, and {needed} must sign what is decided; give those of {}, \
             too, as far as there are any",
            super::words::replicas(&self.absent())
        )))
    }

    /// The one that loses nothing by what can be seen, and whose state reaches furthest. Of those that reach as far, the one
    /// that knows the most to be decided.
    fn best(&self, stop: &Stop) -> Outcome<&Finding> {
        let fit = self.found().filter(|it| it.epoch == self.epoch && it.reach.is_ok());
        fit.max_by_key(|it| (self.rank(it, stop), std::cmp::Reverse(it.id))).ok_or_else(|| {
            let why = |it: &Finding| match &it.reach {
                Err(why) => format!("replica {}: {why}", it.id),
                Ok(_) => format!("replica {}: it has stayed in epoch {}", it.id, it.epoch),
            };
            let why: Vec<String> = self.found().map(why).collect();
            Failure::refused(format!(
                "no replica at hand has a state to go on from ({}); give the folders of other replicas, or a copy of one",
                why.join("; ")
            ))
        })
    }

    /// How good it is to go on from: whether it loses nothing, how many have the same state where all have halted, how far it
    /// reaches, and how much of that it knows to be decided.
    fn rank(&self, finding: &Finding, stop: &Stop) -> (bool, usize, Slot, Slot) {
        let reach = finding.reach.clone().unwrap_or_default();
        let peers = match stop {
            Stop::Halted(parting) => Parting::peers(parting, finding.id),
            Stop::Promises | Stop::Lost(..) => 0,
        };
        (self.losses(finding, reach).is_empty(), peers, reach, finding.slot)
    }

    /// The one that was asked for.
    fn named(&self, id: u16) -> Outcome<&Finding> {
        let found = self.rows.get(usize::from(id)).and_then(Option::as_ref);
        let found = found
            .ok_or_else(|| Failure::refused(format!("--from {id}: that replica is not at hand")))?;
        if found.epoch != self.epoch {
            let (old, new) = (found.epoch, self.epoch);
            return Err(unfit(
                id,
                &format!("it has stayed in epoch {old}, and others are in {new}"),
            ));
        }
        Ok(found)
    }

    /// What going on from this replica's state costs.
    fn losses(&self, chosen: &Finding, reach: Slot) -> Vec<Loss> {
        let mut losses = Vec::new();
        if chosen.known > reach {
            losses.push(Loss::Decided(chosen.id, chosen.known));
        }
        let last = chosen.certified.last().map_or(Slot(0), |(slot, ..)| *slot);
        if last > reach.max(chosen.known) {
            losses.push(Loss::Certified(chosen.id, last));
        }
        // What others know beyond the end of the epoch is void.
        let in_force =
            |it: &&Finding| it.id != chosen.id && !(chosen.has_ended && it.epoch == chosen.epoch);
        for other in self.found().filter(in_force) {
            if other.known > reach {
                losses.push(Loss::Decided(other.id, other.known));
            }
            if other.epoch != chosen.epoch {
                continue;
            }
            let last = other.certified.last().map_or(Slot(0), |(slot, ..)| *slot);
            if last > reach.max(other.known) {
                losses.push(Loss::Certified(other.id, last));
            }
            // The one of the lower view was never decided.
            let conflict = other.certified.iter().find(|(slot, view, digest)| {
                let mut own = chosen.certified.iter();
                own.any(|(at, own, batch)| at == slot && batch != digest && own <= view)
            });
            losses.extend(conflict.map(|(slot, ..)| Loss::Conflict(other.id, *slot)));
        }
        let is_gone = |row: &Option<Finding>, slot: Slot| {
            row.as_ref().is_none_or(|it| {
                let is_other = it.has_forgotten || it.epoch != self.epoch;
                it.memory != Memory::There || is_other || self.has_lost(it, slot)
            })
        };
        let open = chosen.slot.0 + 1..=chosen.slot.0.saturating_add(limits::WINDOW);
        let gone = |slot| self.rows.iter().filter(|row| is_gone(row, Slot(slot))).count();
        if open.map(gone).any(|gone| gone >= self.needed) {
            losses.push(Loss::Unknown);
        }
        losses
    }
}

fn unfit(id: u16, why: &str) -> Failure {
    Failure::refused(format!(
        "replica {id} has no state to go on from: {why}; leave --from out, or name another"
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use testudo_core::{Digest, View};

    /// A replica that has all that it ever said, up to this slot.
    pub(crate) fn sound(id: u16, slot: u64) -> Finding {
        Finding {
            id,
            memory: Memory::There,
            epoch: Epoch(0),
            slot: Slot(slot),
            known: Slot(slot),
            stable: Slot(0),
            has_ended: false,
            has_forgotten: false,
            lost: Vec::new(),
            is_mute: false,
            halted: None,
            state: Digest::of(b"state"),
            outcomes: BTreeMap::new(),
            certified: Vec::new(),
            reach: Ok(Slot(slot)),
            has_key: true,
            convicted: BTreeSet::new(),
            candidate: None,
            is_named: false,
        }
    }

    /// One whose folder is empty.
    pub(crate) fn empty(id: u16) -> Finding {
        let reach = Err("its folder is empty".to_owned());
        Finding { memory: Memory::Empty, reach, ..sound(id, 0) }
    }

    /// One that holds certificates for so many slots more.
    pub(crate) fn certified(id: u16, slot: u64, more: u64, what: &[u8]) -> Finding {
        let certified =
            (slot + 1..=slot + more).map(|slot| (Slot(slot), View(0), Digest::of(what)));
        let certified = certified.collect();
        Finding { certified, reach: Ok(Slot(slot + more)), ..sound(id, slot) }
    }

    pub(crate) fn verdict(rows: Vec<Option<Finding>>) -> Verdict {
        Verdict { needed: 3, epoch: Epoch(0), base: Slot(0), interval: 4, rows }
    }

    pub(crate) fn proposal(verdict: &Verdict, from: Option<u16>) -> Proposal {
        match verdict.advise(from) {
            Ok(Advice::Proposal(proposal)) => proposal,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refusal(verdict: &Verdict, from: Option<u16>) -> String {
        match verdict.advise(from) {
            Ok(Advice::Nothing(failure)) | Err(failure) => failure.sentence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn with_a_quorum_that_may_vote_nothing_is_decided() {
        let all = [sound(0, 7), sound(1, 7), sound(2, 6)].map(Some);
        let some = verdict([all.to_vec(), vec![Some(empty(3))]].concat());
        let said = refusal(&some, None);
        assert!(said.contains("3 of 4 replicas may vote") && said.contains("come back"), "{said}");
        assert!(refusal(&verdict(vec![Some(empty(0)); 4]), None).contains("holds anything"));
        let absent = verdict([all.to_vec(), vec![None]].concat());
        assert!(refusal(&absent, None).contains("nothing needs recovery"));
    }

    #[test]
    fn the_state_that_reaches_furthest_is_proposed() {
        let lost = Finding { memory: Memory::Lost, has_forgotten: true, ..sound(3, 9) };
        let rows = [certified(0, 7, 1, b"a"), certified(1, 5, 4, b"a"), empty(2), lost];
        let these = verdict(rows.map(Some).to_vec());
        let best = proposal(&these, None);
        // Two reach slot 9: of those the one that knows it to be decided.
        assert_eq!((best.from, best.executed, best.reach), (3, Slot(9), Slot(9)));
        assert_eq!((best.voters, best.returning), (vec![0, 1], vec![2, 3]));
        assert_eq!((best.better, best.losses), (None, vec![]));
        let other = proposal(&these, Some(0));
        assert_eq!((other.from, other.reach, other.better), (0, Slot(8), Some(3)));
        assert_eq!(other.losses, [Loss::Certified(1, Slot(9)), Loss::Decided(3, Slot(9))]);
        assert!(refusal(&these, Some(2)).contains("its folder is empty"));
        assert!(refusal(&these, Some(9)).contains("not at hand"));
    }

    #[test]
    fn what_may_be_lost_is_said() {
        let rows = [certified(0, 7, 2, b"a"), certified(1, 7, 1, b"b"), empty(2), empty(3)];
        let split = proposal(&verdict(rows.map(Some).to_vec()), None);
        assert_eq!((split.from, split.losses), (0, vec![Loss::Conflict(1, Slot(8))]));
        // What was certified in a later view is what counts.
        let mut late = certified(0, 7, 2, b"a");
        late.certified.iter_mut().for_each(|(_, view, _)| *view = View(1));
        let rows = [late, certified(1, 7, 1, b"b"), empty(2), empty(3)];
        assert_eq!(proposal(&verdict(rows.map(Some).to_vec()), None).losses, []);
        // One that reaches further with what was never decided is not better.
        let mut later = certified(1, 7, 1, b"b");
        later.certified[0].1 = View(1);
        let rows = [certified(0, 7, 2, b"a"), later.clone(), empty(2), empty(3)];
        let further = proposal(&verdict(rows.map(Some).to_vec()), None);
        assert_eq!((further.from, further.losses), (0, vec![Loss::Conflict(1, Slot(8))]));
        let rows = [certified(0, 7, 1, b"a"), later, empty(2), empty(3)];
        let level = proposal(&verdict(rows.map(Some).to_vec()), None);
        assert_eq!((level.from, level.losses), (1, vec![]));
        // Behind a gap.
        let mut apart = sound(1, 7);
        apart.certified.push((Slot(10), View(0), Digest::of(b"c")));
        let rows = [certified(0, 7, 2, b"a"), apart, empty(2), empty(3)];
        let apart = proposal(&verdict(rows.map(Some).to_vec()), None);
        assert_eq!((apart.from, apart.losses), (0, vec![Loss::Certified(1, Slot(10))]));
        let rows = vec![Some(sound(0, 7)), Some(empty(1)), Some(empty(2)), None];
        let alone = proposal(&verdict(rows), None);
        assert_eq!((alone.losses, alone.absent), (vec![Loss::Unknown], vec![3]));
        // What one has fetched since it forgot everything says nothing of what it held.
        let again = |id| Finding { has_forgotten: true, ..sound(id, 7) };
        let rows = [sound(0, 7), again(1), again(2), again(3)];
        assert_eq!(proposal(&verdict(rows.map(Some).to_vec()), None).losses, [Loss::Unknown]);
    }

    /// What the chosen one itself cannot carry is lost as much as what others cannot give.
    #[test]
    fn what_the_chosen_one_cannot_carry_is_said() {
        // It lacks a body of the first slot that it holds a certificate for.
        let stuck = Finding { reach: Ok(Slot(7)), ..certified(0, 7, 2, b"a") };
        let rows = [stuck.clone(), sound(1, 7), empty(2), empty(3)];
        let these = proposal(&verdict(rows.map(Some).to_vec()), Some(0));
        assert_eq!(these.losses, [Loss::Certified(0, Slot(9))]);
        // Another can carry it, and is better.
        let rows = [stuck, certified(1, 7, 2, b"a"), empty(2), empty(3)];
        let these = proposal(&verdict(rows.map(Some).to_vec()), None);
        assert_eq!((these.from, these.reach, these.losses), (1, Slot(9), vec![]));
        let knows = Finding { known: Slot(9), ..sound(0, 7) };
        let rows = [knows, sound(1, 7), empty(2), empty(3)];
        let these = proposal(&verdict(rows.map(Some).to_vec()), Some(0));
        assert_eq!(these.losses, [Loss::Decided(0, Slot(9))]);
    }

    /// The epoch is over, and too many were lost before the next one began. What was decided beyond its end is void.
    #[test]
    fn an_epoch_that_has_ended_is_gone_on_from_at_its_end() {
        let ended = |id| Finding { has_ended: true, ..sound(id, 9) };
        let let_in = Finding { has_forgotten: true, ..sound(3, 9) };
        let beyond = Finding { known: Slot(12), ..certified(1, 8, 4, b"a") };
        let rows = [ended(0), beyond, empty(2), let_in].map(Some).to_vec();
        let these = proposal(&verdict(rows), Some(0));
        assert_eq!((these.reach, these.losses), (Slot(9), vec![]));
        assert_eq!((these.stop, these.returning), (Stop::Promises, vec![2, 3]));
        // Who is not there may have begun the next one.
        let rows = vec![Some(ended(0)), None, Some(empty(2)), Some(empty(3))];
        assert_eq!(proposal(&verdict(rows), None).losses, [Loss::Unknown]);
    }

    #[test]
    fn a_quorum_must_sign() {
        let said = refusal(&verdict(vec![Some(sound(0, 7)), None, None, None]), None);
        assert!(said.contains("of 1 of 4") && said.contains("replicas 1, 2 and 3"), "{said}");
    }

    #[test]
    fn who_is_named_under_an_unused_key_votes_and_an_epoch_needs_its_state() {
        let named = |id| Finding { is_named: true, ..empty(id) };
        let late = Finding { has_forgotten: false, ..sound(1, 7) };
        let begun = Finding { epoch: Epoch(1), ..sound(0, 8) };
        let rows = [begun, late, named(2), named(3)].map(Some).to_vec();
        let decreed = Verdict { epoch: Epoch(1), base: Slot(8), ..verdict(rows) };
        assert!(refusal(&decreed, None).contains("4 of 4"));
        // The state that the epoch began with is gone again.
        let mut gone = decreed;
        let between = Err("its epoch has ended".to_owned());
        gone.rows[0] = Some(Finding { epoch: Epoch(1), reach: between, ..sound(0, 7) });
        let said = refusal(&gone, None);
        assert!(said.contains("no replica at hand has a state"), "{said}");
        assert!(said.contains("replica 1: it has stayed in epoch 0"), "{said}");
        assert!(refusal(&gone, Some(1)).contains("it has stayed in epoch 0"));
    }

    #[test]
    fn nobody_comes_back_who_lied() {
        let convicted = BTreeSet::from([3]);
        let honest = |id| Finding { convicted: convicted.clone(), ..sound(id, 7) };
        let rows = [honest(0), honest(1), empty(2), empty(3)].map(Some).to_vec();
        let these = proposal(&verdict(rows), None);
        assert_eq!((these.returning, these.convicted), (vec![2], vec![3]));
        let rows = vec![Some(honest(0)), None, Some(empty(2)), Some(empty(3))];
        let said = refusal(&verdict(rows), None);
        assert!(said.contains("replica 3 is convicted of having lied"), "{said}");
    }

    #[test]
    fn nothing_is_decided_about_nothing() {
        let rows = vec![Some(sound(0, 0)), Some(sound(1, 0)), Some(empty(2)), Some(empty(3))];
        assert!(refusal(&verdict(rows), None).contains("no slot was ever executed"));
    }
}
