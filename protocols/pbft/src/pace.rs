//! How slow a primary may be.
//!
//! The view timer removes a primary that does not order a request at all. One that orders each just before the timer
//! would run out keeps its place for ever and leaves next to nothing of the throughput (Clement, Wong, Alvisi, Dahlin
//! and Marchetti, "Making Byzantine Fault Tolerant Systems Tolerate Byzantine Faults", NSDI 2009, section 3). Their
//! Aardvark demands a rising throughput of each primary and changes views until none can meet it, as a rule several
//! times a minute. Prime (Amir, Coan, Kirsch and Lane, "Prime: Byzantine Replication under Attack", IEEE TDSC 2011,
//! section 5) measures the *turn-around*: how long it takes from handing the primary something to order until its
//! proposal is here; and compares with what the network between correct replicas allows. This is a rule of Prime's
//! kind, made of what this protocol says anyway, so that a view which is well lasts.
//!
//! **The turn.** Whenever something waits here that is in no proposal, a *turn* begins. All that waits by then belongs
//! to it. It ends when of every client in it something is proposed and this replica has voted (so that to propose
//! what nobody has the bodies of is no answer), or when a full batch is proposed instead. That clients are counted and
//! not what they send keeps one that floods, of whom each replica has other things, from making primaries look slow. Its clock runs while fewer slots than a primary keeps
//! open are open of those that were proposed before it began; so empty batches are no excuse. After one *allowance*
//! the primary is handed the bodies, as it may never have got them: a client that leaves the primary out makes nobody
//! look slow. The others are asked for proposals that their votes speak of: a primary that leaves one replica out gains
//! nothing by it. Only what a turn lasts beyond two allowances is *late*.
//!
//! **The allowance** is what a round takes: from one's own vote for a proposal until it is decided. A round holds what a
//! turn does, a flush or two and as many ways through the network. A primary has no share in a round but by telling some
//! replicas of a proposal later than others: those that it tells last see a short one, and there is a correct one of
//! those in every slot that it makes late. Hence not the mean of the last rounds is taken but so low a rank among them
//! that each slot's last, whoever that is in turn, must be among them: 1/(2f+2). No primary can raise that by much for
//! all, and those it cannot be raised for ask for what they lack. So the pace of a primary that is kept is that of the
//! correct replicas times a small constant, as soon as that is above the floor ([`OrderConfig::pace_floor`]).
//!
//! **The debt.** Delays are no crime but in sum: what is late adds to a debt, what a turn is shorter than its allowance
//! pays it, and some is forgiven as time passes. Beyond half of the view timeout the replica *complains*, in its
//! [`Status`]. It goes on voting meanwhile, so that one replica whose own links are slow costs nothing. f+1 complaints
//! end the view: one of them is a correct replica's. Fewer than f+1 complaints of correct ones mean that f+1 correct ones
//! are served in time, who make a quorum with whoever else is.
//!
//! **No storms.** Where correct primaries look slow, because they are far away or the network is not regular, giving
//! them up is in vain. So a replica doubles its allowance whenever a view ends that it had complained of, and takes it
//! back only when a primary has been in time for long *under the smaller allowance*: a network that does not change ends
//! no more views than there are doublings. Patience grows with the view timer's own doublings too. What f liars can do
//! by complaining is to make one correct replica's complaint enough; it takes that one.
//!
//! The clock here is the node's. Where it jumps, this replica complains for nothing, or not at all.
//!
//! [`OrderConfig::pace_floor`]: testudo_contracts::OrderConfig::pace_floor

use crate::message::{Message, Status};
use crate::safety::Rules;
use crate::{Pbft, Standing, Timer};
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use testudo_contracts::{Backlog, Batch, OrderOutput, Ordering as _};
use testudo_core::{Effects, ReplicaId, Slot, Target, Time, limits};

/// Rounds that are remembered.
const ROUNDS: usize = 32;

/// As long as fewer are, an eighth of the view timeout is allowed.
const FEW_ROUNDS: usize = 4;

/// How often the allowance is doubled at most.
const DOUBLINGS: u32 = 5;

/// Turns in a row that are in time under half the allowance before it is halved.
const GOOD_TURNS: u32 = 64;

/// What waits to be proposed, and since when.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// The last client that belongs to it, by the moment since when it waits.
    last: u64,
    /// The last slot that was proposed before it began.
    before: Slot,
    /// Since when its clock runs. None while the primary need not propose.
    since: Option<Time>,
    /// Whether the primary was handed what waits.
    is_reminded: bool,
    /// The slot by which all of it is proposed.
    answered: Option<Slot>,
}

/// What is known of the pace of the present primary, and of the network's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    /// What waits without being proposed.
    backlog: Option<Backlog>,
    /// Invariant: none while this replica is the primary, or between views.
    turn: Option<Turn>,
    /// When this replica voted for what is open in this view. At most a window.
    voted: BTreeMap<Slot, Time>,
    /// How long the last rounds took. Invariant: at most [`ROUNDS`].
    rounds: VecDeque<Duration>,
    /// The same, the shortest first.
    ranked: Vec<Duration>,
    /// How late the primary has been that was not made good.
    debt: Duration,
    /// The same under half the allowance.
    stricter_debt: Duration,
    /// Turns since that was too much.
    good_turns: u32,
    /// How often the allowance is doubled now. Invariant: at most [`DOUBLINGS`].
    doublings: u32,
    /// Who finds the primary too slow.
    complaints: BTreeSet<ReplicaId>,
    /// Whether this replica does.
    is_complaining: bool,
}

impl Pace {
    /// Whether this replica finds the present primary too slow.
    pub(crate) const fn complains(&self) -> bool {
        self.is_complaining
    }

    /// The view is left. What is known of rounds stays.
    pub(crate) fn leave_view(&mut self) {
        self.turn = None;
        self.voted.clear();
        self.debt = Duration::ZERO;
        self.stricter_debt = Duration::ZERO;
        self.good_turns = 0;
        self.complaints.clear();
        if core::mem::take(&mut self.is_complaining) {
            self.doublings = DOUBLINGS.min(self.doublings + 1);
        }
    }

    /// Time passes: a thirty-second of it is forgiven.
    pub(crate) fn forgive(&mut self, period: Duration) {
        self.debt = self.debt.saturating_sub(period / 32);
        self.stricter_debt = self.stricter_debt.saturating_sub(period / 32);
    }

    fn note_round(&mut self, round: Duration) {
        if self.rounds.len() == ROUNDS
            && let Some(oldest) = self.rounds.pop_front()
            && let Ok(rank) = self.ranked.binary_search(&oldest)
        {
            self.ranked.remove(rank);
        }
        self.rounds.push_back(round);
        let rank = self.ranked.partition_point(|shorter| *shorter < round);
        self.ranked.insert(rank, round);
    }

    /// What a round takes, seen from where no primary can reach.
    fn round(&self, f: usize) -> Option<Duration> {
        let is_known = self.ranked.len() >= FEW_ROUNDS;
        self.ranked.get(self.ranked.len() / (2 * f + 2)).copied().filter(|_| is_known)
    }
}

/// What a debt comes to after a turn that took so long.
fn settle(debt: Duration, turn: Duration, allowance: Duration, most: Duration) -> Duration {
    let late = turn.saturating_sub(allowance * 2);
    (debt + late).saturating_sub(allowance.saturating_sub(turn)).min(most)
}

/// How long it is from one time to another by a clock that may have been set back between them.
const fn elapsed(from: Time, to: Time) -> Duration {
    Duration::from_millis(to.0.saturating_sub(from.0))
}

impl<R: Rules> Pbft<R> {
    /// How long this replica bears with its primary's lateness.
    fn pace_patience(&self) -> Duration {
        self.view_timeout() / 2
    }

    /// How long a primary may take. What is longer than the view timer bears is never measured.
    fn allowance(&self) -> Duration {
        let f = self.system.weak() - 1;
        let round = self.pace.round(f).unwrap_or(self.config.view_timeout / 8);
        let allowance = round.max(self.config.pace_floor).max(Duration::from_millis(1));
        (allowance * (1 << self.pace.doublings)).min(self.view_timeout())
    }

    /// The last slot that something is proposed for here.
    fn last_proposed(&self) -> Slot {
        let mut entries = self.log.entries.iter().rev();
        let last = entries.find(|(_, entry)| entry.proposal.is_some()).map(|(slot, _)| *slot);
        last.unwrap_or(Slot(0)).max(self.decisions.executed)
    }

    /// What waits without being proposed.
    pub(crate) fn on_backlog(&mut self, backlog: Option<Backlog>, fx: &mut Effects<'_, Self>) {
        self.pace.backlog = backlog;
        let last_proposed = self.last_proposed();
        if let Some(turn) = &mut self.pace.turn {
            // What the primary was not handed though it was reminded does not belong to the turn.
            turn.last = backlog.map_or(turn.last, |backlog| backlog.newest.min(turn.last));
            if backlog.is_none_or(|backlog| backlog.oldest > turn.last) {
                turn.answered.get_or_insert(last_proposed);
            }
        }
        self.review_turn(fx);
    }

    /// A fresh proposal was accepted.
    pub(crate) fn note_proposal(&mut self, slot: Slot, batch: &Batch) {
        let is_full = batch.bundles.len() >= limits::BATCH_BUNDLES;
        if let Some(turn) = self.pace.turn.as_mut().filter(|_| is_full) {
            turn.answered.get_or_insert(slot);
        }
    }

    /// This replica has cast its vote for what was proposed.
    pub(crate) fn note_judgement(&mut self, slot: Slot, fx: &mut Effects<'_, Self>) {
        self.pace.voted.insert(slot, fx.clock());
        self.review_turn(fx);
    }

    /// Something was decided.
    pub(crate) fn note_decision(&mut self, slot: Slot, fx: &mut Effects<'_, Self>) {
        if let Some(voted) = self.pace.voted.remove(&slot) {
            self.pace.note_round(elapsed(voted, fx.clock()));
        }
        self.review_turn(fx);
        self.run_turn(fx);
    }

    /// Begins a turn, if something waits for the primary.
    pub(crate) fn begin_turn(&mut self, fx: &mut Effects<'_, Self>) {
        let is_backup = self.is_active() && self.primary() != self.me;
        if !is_backup || self.standing != Standing::Voting || self.pace.turn.is_some() {
            return;
        }
        if let Some(Backlog { newest, .. }) = self.pace.backlog {
            let before = self.last_proposed();
            let (since, answered) = (None, None);
            self.pace.turn =
                Some(Turn { last: newest, before, since, is_reminded: false, answered });
            self.run_turn(fx);
        }
    }

    /// Lets the turn's clock run as soon as the primary ought to propose: its pipeline and the window have room.
    pub(crate) fn run_turn(&mut self, fx: &mut Effects<'_, Self>) {
        let Some(Turn { before, since: None, .. }) = self.pace.turn else { return };
        let entries = self.log.entries.range(self.decisions.executed.next()..);
        let entries = entries.take_while(|(slot, _)| **slot <= before);
        let open = entries.filter(|(_, e)| e.proposal.is_some() && e.decided.is_none()).count();
        let open = open as u64;
        if open < limits::OPEN_SLOTS && self.log.contains(before.next()) {
            let allowance = self.allowance();
            if let Some(turn) = &mut self.pace.turn {
                turn.since = Some(fx.clock());
                fx.set_timer(Timer::Pace, allowance);
            }
        }
    }

    /// Ends the turn if it is answered and what answers it is voted for here; and begins the next.
    fn review_turn(&mut self, fx: &mut Effects<'_, Self>) {
        if let Some(slot) = self.pace.turn.and_then(|turn| turn.answered) {
            let open = self.log.entries.range(self.decisions.executed.next()..);
            let mut open = open.take_while(|(open, _)| **open <= slot);
            if open.any(|(_, e)| e.proposal.is_some() && !e.voted && e.decided.is_none()) {
                return;
            }
            self.end_turn(fx);
        }
        self.begin_turn(fx);
    }

    fn end_turn(&mut self, fx: &mut Effects<'_, Self>) {
        let Some(turn) = self.pace.turn.take() else { return };
        let Some(since) = turn.since else { return };
        fx.cancel_timer(Timer::Pace);
        let (allowance, patience) = (self.allowance(), self.pace_patience());
        let mut took = elapsed(since, fx.clock());
        if !turn.is_reminded {
            // The timer has not run out, whatever the clock says.
            took = took.min(allowance);
        }
        let most = patience * 2;
        self.pace.debt = settle(self.pace.debt, took, allowance, most);
        self.pace.stricter_debt = settle(self.pace.stricter_debt, took, allowance / 2, most);
        self.trust_again(patience);
        if self.pace.debt.is_zero() {
            self.withdraw();
        } else if R::is_too_slow(self.pace.debt, patience) {
            self.complain(fx);
        }
    }

    /// Halves the allowance when primaries have been in time for long under half of it.
    fn trust_again(&mut self, patience: Duration) {
        if self.pace.stricter_debt > patience {
            self.pace.stricter_debt = Duration::ZERO;
            self.pace.good_turns = 0;
            return;
        }
        self.pace.good_turns += 1;
        if self.pace.good_turns >= GOOD_TURNS {
            self.pace.good_turns = 0;
            self.pace.doublings = self.pace.doublings.saturating_sub(1);
        }
    }

    /// The turn has lasted for an allowance; or, after that, for as long as is borne with.
    pub(crate) fn on_pace_timer(&mut self, fx: &mut Effects<'_, Self>) {
        let (allowance, patience) = (self.allowance(), self.pace_patience());
        let Some(turn) = self.pace.turn.as_mut().filter(|turn| turn.since.is_some()) else {
            return;
        };
        if core::mem::replace(&mut turn.is_reminded, true) {
            let late = patience + Duration::from_millis(1);
            if R::is_too_slow(late, patience) {
                self.pace.debt = self.pace.debt.max(late);
                self.complain(fx);
            }
            return;
        }
        fx.output(OrderOutput::Remind);
        let left = patience.saturating_sub(self.pace.debt);
        fx.set_timer(Timer::Pace, allowance + left + Duration::from_millis(1));
        let status = self.status();
        if !status.lacks.is_empty() {
            fx.send(Target::Others, Message::Status(status));
        }
    }

    fn complain(&mut self, fx: &mut Effects<'_, Self>) {
        if !core::mem::replace(&mut self.pace.is_complaining, true) {
            self.pace.complaints.insert(self.me);
            fx.send(Target::Others, Message::Status(self.status()));
            self.review_complaints(fx);
        }
    }

    fn withdraw(&mut self) {
        self.pace.is_complaining = false;
        self.pace.complaints.remove(&self.me);
    }

    /// A peer says whether it finds the primary of its view too slow.
    pub(crate) fn hear_complaint(
        &mut self,
        from: ReplicaId,
        status: &Status,
        fx: &mut Effects<'_, Self>,
    ) {
        if !self.is_active() || status.view != self.view {
            return;
        }
        if !status.is_slow {
            self.pace.complaints.remove(&from);
        } else if self.pace.complaints.insert(from) {
            self.review_complaints(fx);
        }
    }

    /// Gives the view up when f+1 complain, the primary itself among those who do so.
    fn review_complaints(&mut self, fx: &mut Effects<'_, Self>) {
        if self.pace.complaints.len() >= self.system.weak() {
            self.change_to(self.view.next(), fx);
        }
    }
}
