//! The waiting room: bundles whose bodies are here and that are not executed yet.
//!
//! Every client has a queue of its own, of bounded length, and batches take from them in turn, so that one client's
//! flood does not starve another's single request.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use testudo_contracts::{Backlog, Waiting};
use testudo_core::{Digest, PublicKey, View, limits};

#[derive(Clone, Debug)]
struct Guest {
    client: PublicKey,
    /// Its place in the order of arrivals.
    arrival: u64,
    /// The view in which it is in an open proposal.
    proposed: Option<View>,
}

/// Bundles that wait to be executed.
#[derive(Clone, Debug, Default)]
pub struct WaitingRoom {
    arrivals: u64,
    guests: BTreeMap<Digest, Guest>,
    by_arrival: BTreeMap<u64, Digest>,
    /// The arrivals that are in no open proposal of the present view. Invariant: those of whom `proposed` says so.
    unproposed: BTreeSet<u64>,
    /// How many of each client are here. Invariant: none is zero.
    counts: BTreeMap<PublicKey, usize>,
    /// Those not in an open proposal of the present view, by client, oldest first. May hold digests that have left.
    queues: BTreeMap<PublicKey, VecDeque<Digest>>,
    /// Whose turn is next.
    turn: Option<PublicKey>,
    view: View,
}

impl WaitingRoom {
    /// Lets a bundle in. False if it is in already, or if its client has too many here.
    pub fn enter(&mut self, digest: Digest, client: PublicKey) -> bool {
        let present = self.counts.get(&client).copied().unwrap_or(0);
        if self.guests.contains_key(&digest) || present >= limits::WAITING_BUNDLES_PER_CLIENT {
            return false;
        }
        self.counts.insert(client, present + 1);
        self.arrivals += 1;
        self.guests.insert(digest, Guest { client, arrival: self.arrivals, proposed: None });
        self.by_arrival.insert(self.arrivals, digest);
        self.unproposed.insert(self.arrivals);
        self.queues.entry(client).or_default().push_back(digest);
        true
    }

    /// It was executed.
    pub fn leave(&mut self, digest: &Digest) {
        if let Some(guest) = self.guests.remove(digest) {
            self.by_arrival.remove(&guest.arrival);
            self.unproposed.remove(&guest.arrival);
            if let Some(count) = self.counts.get_mut(&guest.client) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&guest.client);
                }
            }
            if let Some(queue) = self.queues.get_mut(&guest.client) {
                queue.retain(|queued| queued != digest);
                if queue.is_empty() {
                    self.queues.remove(&guest.client);
                }
            }
        }
    }

    /// It is in an open proposal of this view.
    pub fn propose(&mut self, digest: &Digest, view: View) {
        if let Some(guest) = self.guests.get_mut(digest) {
            guest.proposed = Some(view);
            if view == self.view {
                self.unproposed.remove(&guest.arrival);
            }
        }
    }

    /// A view was installed: proposals of earlier views that it does not repeat are void.
    pub fn enter_view(&mut self, view: View) {
        self.view = view;
        self.queues.clear();
        self.unproposed.clear();
        for digest in self.by_arrival.values() {
            if let Some(guest) = self.guests.get(digest) {
                if guest.proposed != Some(view) {
                    self.unproposed.insert(guest.arrival);
                }
                self.queues.entry(guest.client).or_default().push_back(*digest);
            }
        }
    }

    /// Takes the next bundles to be proposed in the present view, from each client in turn, at most `most`.
    pub fn take(&mut self, most: usize) -> Vec<Digest> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(client) = self.next_client() else { break };
            let Some(queue) = self.queues.get_mut(&client) else { break };
            let digest = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&client);
            }
            self.turn = Some(client);
            let Some(digest) = digest else { continue };
            let view = self.view;
            if let Some(guest) = self.guests.get_mut(&digest)
                && guest.proposed != Some(view)
            {
                guest.proposed = Some(view);
                self.unproposed.remove(&guest.arrival);
                taken.push(digest);
            }
        }
        taken
    }

    /// The client after the one that was served last, around the circle.
    fn next_client(&self) -> Option<PublicKey> {
        use core::ops::Bound::{Excluded, Unbounded};
        let after =
            self.turn.and_then(|turn| self.queues.range((Excluded(turn), Unbounded)).next());
        after.or_else(|| self.queues.first_key_value()).map(|(client, _)| *client)
    }

    /// Whether somebody waits to be proposed.
    #[must_use]
    pub fn has_unproposed(&self) -> bool {
        !self.unproposed.is_empty()
    }

    /// Those that arrived at or before `arrival` and are in no open proposal of the present view, oldest first.
    pub fn unproposed_since(&self, arrival: u64) -> impl Iterator<Item = Digest> + '_ {
        let digest = |arrival| self.by_arrival.get(arrival).copied();
        self.unproposed.range(..=arrival).filter_map(digest)
    }

    /// Those that are in no open proposal of the present view; none if there is none.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        let (oldest, newest) = (*self.unproposed.first()?, self.arrivals);
        Some(Backlog { oldest, newest })
    }

    /// The number of an arrival that waits.
    #[must_use]
    pub fn arrival(&self, digest: &Digest) -> Option<u64> {
        self.guests.get(digest).map(|guest| guest.arrival)
    }

    /// The number of the newest arrival.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.arrivals
    }

    /// What the ordering is to know.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        match self.by_arrival.first_key_value() {
            Some((arrival, _)) => Waiting::Oldest(*arrival),
            None => Waiting::Nothing,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.guests.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    /// Asserts that the indexes agree.
    pub fn audit(&self) {
        let arrivals: BTreeSet<_> = self.guests.values().map(|guest| guest.arrival).collect();
        assert!(self.by_arrival.keys().eq(arrivals.iter()), "waiting: arrivals and guests differ");
        let unproposed = self.guests.values().filter(|guest| guest.proposed != Some(self.view));
        let unproposed: BTreeSet<_> = unproposed.map(|guest| guest.arrival).collect();
        assert_eq!(self.unproposed, unproposed, "waiting: proposed and unproposed mixed up");
        assert_eq!(self.counts.values().sum::<usize>(), self.guests.len(), "waiting: miscounted");
    }
}
