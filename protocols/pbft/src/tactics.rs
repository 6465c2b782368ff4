//! What those do in PBFT who know what it waits for, and for how long.
//!
//! Each tactic is one of those that the protocol's rules were made against: `pace` is against primaries that are slow on
//! purpose (Clement et al., NSDI 2009, section 3), catching up is for those who are left out, the view timer for views that
//! never begin, and counting each sender's votes once for those who vote early and for nothing. Whoever keeps to one tells
//! the truth but for that.

use crate::message::{
    Attested, Commit, Message, PrePrepare, Prepare, Slots, ViewChange, primary_of,
};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;
use testudo_contracts::{Batch, Chance, OrderConfig, Remark, Tactic, Tactician};
use testudo_core::{Digest, ReplicaId, Slot, View};

type Remarks = Vec<Remark<Message>>;

/// A replica that keeps to this tactic.
pub(crate) fn tactician(
    tactic: Tactic,
    me: ReplicaId,
    config: &OrderConfig,
) -> Box<dyn Tactician<Message>> {
    let n = config.membership.n();
    let others = (0..n).map(|id| ReplicaId(id as u16)).filter(|id| *id != me).collect();
    let cast = Cast { me, n, others, victims: BTreeSet::new() };
    match tactic {
        Tactic::SlowPrimary => {
            let timeout = config.view_timeout;
            Box::new(Slow { timeout, delay: Duration::ZERO, last: Slot(0), until_change: 0 })
        }
        Tactic::WithheldView => Box::new(Withholder { cast, view: View(0) }),
        Tactic::LeftOut => Box::new(Excluder { cast, until_change: 0 }),
        Tactic::Unrest => Box::new(Restless { cast, view: View(0), until_next: 0 }),
        Tactic::EarlyVotes => Box::new(Eager { cast, hidden: BTreeSet::new() }),
    }
}

/// Who is who.
struct Cast {
    me: ReplicaId,
    n: usize,
    others: Vec<ReplicaId>,
    /// Who is left out.
    victims: BTreeSet<ReplicaId>,
}

impl Cast {
    fn leads(&self, view: View) -> bool {
        primary_of(view, self.n) == self.me
    }

    /// Draws some of the others, at least one.
    fn draw_victims(&mut self, chance: &mut dyn Chance) {
        self.victims = self.others.iter().copied().filter(|_| chance.per_mille(400)).collect();
        let one = chance.below(self.others.len().max(1) as u64) as usize;
        self.victims.extend(self.others.get(one));
    }
}

/// Of the view timeout a slow primary waits for so many thousandths: just under the view timer, and, once it has learnt that
/// replicas keep account of its pace, for less.
const DELAYS: [u32; 5] = [900, 300, 70, 40, 20];

/// It proposes late, each batch to everybody at the same time.
struct Slow {
    timeout: Duration,
    delay: Duration,
    last: Slot,
    /// Slots until it takes another delay.
    until_change: u64,
}

impl Tactician<Message> for Slow {
    fn outgoing(&mut self, to: ReplicaId, message: Message, chance: &mut dyn Chance) -> Remarks {
        let slot = match &message {
            Message::PrePrepare(proposal) => proposal.slot,
            _ => return vec![Remark::now(to, message)],
        };
        if self.last != slot {
            if self.until_change == 0 {
                self.until_change = chance.between(5, 40);
                let part = DELAYS.get(chance.below(DELAYS.len() as u64) as usize);
                self.delay = self.timeout * part.copied().unwrap_or_default() / 1000;
            }
            self.until_change -= 1;
            self.last = slot;
        }
        vec![Remark { to, message, after: self.delay }]
    }
}

/// Its views begin for itself, and for others whom it has drawn by lot. It goes on in them as if all were there.
struct Withholder {
    cast: Cast,
    view: View,
}

impl Tactician<Message> for Withholder {
    fn outgoing(&mut self, to: ReplicaId, message: Message, chance: &mut dyn Chance) -> Remarks {
        let view = match &message {
            Message::NewView(new_view) => new_view.view,
            Message::Installed(Attested { signer, statement, .. }) if *signer == self.cast.me => {
                statement.view
            }
            _ => return vec![Remark::now(to, message)],
        };
        if view > self.view {
            self.view = view;
            self.cast.draw_victims(chance);
            if chance.per_mille(300) {
                self.cast.victims = self.cast.others.iter().copied().collect();
            }
        }
        if self.cast.victims.contains(&to) { Vec::new() } else { vec![Remark::now(to, message)] }
    }
}

/// While it leads, one replica hears nothing of it that would let it go on.
struct Excluder {
    cast: Cast,
    /// Words until it leaves out another.
    until_change: u64,
}

impl Excluder {
    /// Whether this helps whoever hears it to go on in a view that it leads.
    fn is_of_own_view(&self, message: &Message) -> bool {
        match message {
            Message::PrePrepare(PrePrepare { view, .. })
            | Message::Prepare(Prepare { view, .. })
            | Message::Commit(Commit { view, .. }) => self.cast.leads(*view),
            Message::Proposal(proposal) => proposal.signer == self.cast.me,
            Message::Installed(installed) => installed.signer == self.cast.me,
            Message::Committed(committed) => self.cast.leads(committed.view()),
            _ => false,
        }
    }
}

impl Tactician<Message> for Excluder {
    fn outgoing(&mut self, to: ReplicaId, message: Message, chance: &mut dyn Chance) -> Remarks {
        if self.until_change == 0 {
            self.until_change = chance.between(200, 2_000);
            let one = chance.below(self.cast.others.len().max(1) as u64) as usize;
            self.cast.victims = self.cast.others.get(one).copied().into_iter().collect();
        }
        self.until_change -= 1;
        if self.cast.victims.contains(&to) && self.is_of_own_view(&message) {
            Vec::new()
        } else {
            vec![Remark::now(to, message)]
        }
    }
}

/// It wants another view, now to everybody, now to some, whatever happens: the next one, or one that is far away.
struct Restless {
    cast: Cast,
    /// The highest view that anybody has voted in.
    view: View,
    /// Words that it hears until it wants another view again.
    until_next: u64,
}

impl Tactician<Message> for Restless {
    fn outgoing(&mut self, to: ReplicaId, message: Message, _: &mut dyn Chance) -> Remarks {
        vec![Remark::now(to, message)]
    }

    fn incoming(&mut self, _: ReplicaId, message: &Message, chance: &mut dyn Chance) -> Remarks {
        if let Message::Prepare(Prepare { view, .. }) | Message::Commit(Commit { view, .. }) =
            message
        {
            self.view = self.view.max(*view);
        }
        if self.until_next > 0 {
            self.until_next -= 1;
            return Vec::new();
        }
        self.until_next = chance.between(100, 600);
        self.cast.draw_victims(chance);
        let view = match chance.below(8) {
            0 => View(u64::MAX),
            1 => View(self.view.0.saturating_add(chance.between(2, 1_000))),
            _ => View(self.view.0.saturating_add(1)),
        };
        let wish = ViewChange { view, stable: None, prepared: Vec::new(), lost: Slots::none() };
        let is_for_all = chance.per_mille(500);
        let hears = |id: &ReplicaId| is_for_all || self.cast.victims.contains(id);
        let hearers = self.cast.others.iter().copied().filter(hears);
        hearers.map(|to| Remark::now(to, Message::ViewChange(wish.clone()))).collect()
    }
}

/// It says that it has prepared, and that it would decide, whatever is proposed; and says so of slots that nothing is
/// proposed for. As primary it votes at once for what it keeps from some.
struct Eager {
    cast: Cast,
    /// Slots of which its victims do not hear what it proposes, by their views.
    hidden: BTreeSet<(View, Slot)>,
}

/// How many slots it remembers to have kept back.
const HIDDEN: usize = 64;

impl Eager {
    /// Votes in a slot, for this or for what does not exist, and in one that has no proposal yet.
    fn votes(view: View, slot: Slot, digest: Digest, chance: &mut dyn Chance) -> Vec<Message> {
        let next = Slot(slot.0.saturating_add(chance.between(1, 24)));
        let other = Digest::of(&digest.0);
        let ahead = if chance.per_mille(500) { Batch::null().digest() } else { other };
        vec![
            Message::Commit(Commit { view, slot, digest }),
            Message::Prepare(Prepare { view, slot: next, digest: ahead }),
            Message::Commit(Commit { view, slot: next, digest: ahead }),
        ]
    }
}

impl Tactician<Message> for Eager {
    fn outgoing(&mut self, to: ReplicaId, message: Message, chance: &mut dyn Chance) -> Remarks {
        let Message::PrePrepare(PrePrepare { view, slot, batch }) = &message else {
            return vec![Remark::now(to, message)];
        };
        let (place, digest) = ((*view, *slot), batch.digest());
        if !self.hidden.contains(&place) && chance.per_mille(50) {
            self.cast.draw_victims(chance);
            self.hidden.insert(place);
            if self.hidden.len() > HIDDEN {
                self.hidden.pop_first();
            }
        }
        if self.hidden.contains(&place) && self.cast.victims.contains(&to) {
            let commit = Commit { view: place.0, slot: place.1, digest };
            return vec![Remark::now(to, Message::Commit(commit))];
        }
        vec![Remark::now(to, message)]
    }

    fn incoming(&mut self, _: ReplicaId, message: &Message, chance: &mut dyn Chance) -> Remarks {
        let Message::PrePrepare(PrePrepare { view, slot, batch }) = message else {
            return Vec::new();
        };
        if !chance.per_mille(200) {
            return Vec::new();
        }
        let votes = Self::votes(*view, *slot, batch.digest(), chance);
        let others = self.cast.others.iter();
        others.flat_map(|to| votes.iter().map(|vote| Remark::now(*to, vote.clone()))).collect()
    }
}
