//! The waiting room: bundles whose bodies are here and that are not executed yet.
//!
//! Every client has a queue of its own, of bounded length, and batches take from them in turn, so that one client's
//! flood does not starve another's single request.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use testudo_contracts::{Backlog, Waiting};
use testudo_core::{Digest, PublicKey, View, limits};

/// Bundles that one client has in a batch at most: as many as it may have out in a session.
const SHARE: usize = limits::SESSION_WINDOW as usize;

/// A client that has more waiting than its share floods: what it sends is beyond what replicas keep, each keeps other
/// bundles of it, and a slot with some of them waits until those who lack them have been given them. So it is served in
/// one of so many batches only.
const FLOOD_PERIOD: u64 = 4;

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
    /// The arrivals that are in no open proposal of the present view, by client. Invariant: no set is empty.
    unproposed: BTreeMap<PublicKey, BTreeSet<u64>>,
    /// Since which moment each of those clients has waited without being served, in numbers that grow.
    /// Invariant: the same clients.
    unserved: BTreeMap<PublicKey, u64>,
    /// These numbers. Invariant: the same.
    moments: BTreeSet<u64>,
    /// The last of them.
    moment: u64,
    /// Batches that were taken.
    batches: u64,
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
        self.unproposed.entry(client).or_default().insert(self.arrivals);
        self.begin_to_wait(client);
        self.queues.entry(client).or_default().push_back(digest);
        true
    }

    /// It was executed.
    pub fn leave(&mut self, digest: &Digest) {
        if let Some(guest) = self.guests.remove(digest) {
            self.by_arrival.remove(&guest.arrival);
            self.no_more_unproposed(guest.client, guest.arrival);
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

    /// Something of this client was executed. If it floods, what else it has here goes to the back of the order of
    /// arrivals: replicas keep different things of such a client, and one that the primary never had must not make it
    /// look as if it ordered nothing.
    pub fn feed(&mut self, client: PublicKey) {
        if self.counts.get(&client).is_none_or(|count| *count <= SHARE) {
            return;
        }
        let own = |(_, digest): (&u64, &Digest)| {
            self.guests.get(digest).filter(|guest| guest.client == client).map(|_| *digest)
        };
        let digests: Vec<Digest> = self.by_arrival.iter().filter_map(own).collect();
        for digest in digests {
            let Some(guest) = self.guests.get_mut(&digest) else { continue };
            self.arrivals += 1;
            let before = core::mem::replace(&mut guest.arrival, self.arrivals);
            self.by_arrival.remove(&before);
            self.by_arrival.insert(self.arrivals, digest);
            if let Some(arrivals) = self.unproposed.get_mut(&client)
                && arrivals.remove(&before)
            {
                arrivals.insert(self.arrivals);
            }
        }
    }

    /// It is in an open proposal of this view.
    pub fn propose(&mut self, digest: &Digest, view: View) {
        if let Some(guest) = self.guests.get_mut(digest) {
            guest.proposed = Some(view);
            if view == self.view {
                let Guest { client, arrival, .. } = *guest;
                self.no_more_unproposed(client, arrival);
                self.serve(client);
            }
        }
    }

    /// A view was installed: proposals of earlier views that it does not repeat are void.
    pub fn enter_view(&mut self, view: View) {
        self.view = view;
        self.queues.clear();
        self.unproposed.clear();
        self.unserved.clear();
        self.moments.clear();
        for digest in self.by_arrival.values() {
            if let Some(guest) = self.guests.get(digest) {
                if guest.proposed != Some(view) {
                    self.unproposed.entry(guest.client).or_default().insert(guest.arrival);
                }
                self.queues.entry(guest.client).or_default().push_back(*digest);
            }
        }
        let clients: Vec<PublicKey> = self.unproposed.keys().copied().collect();
        clients.into_iter().for_each(|client| self.begin_to_wait(client));
    }

    /// An epoch begins: proposals of the one before are void.
    pub fn begin_epoch(&mut self) {
        self.guests.values_mut().for_each(|guest| guest.proposed = None);
        self.enter_view(View(0));
    }

    fn begin_to_wait(&mut self, client: PublicKey) {
        if !self.unserved.contains_key(&client) {
            self.moment += 1;
            self.unserved.insert(client, self.moment);
            self.moments.insert(self.moment);
        }
    }

    fn no_more_unproposed(&mut self, client: PublicKey, arrival: u64) {
        if let Some(arrivals) = self.unproposed.get_mut(&client) {
            arrivals.remove(&arrival);
            if arrivals.is_empty() {
                self.unproposed.remove(&client);
                self.served(client);
            }
        }
    }

    fn served(&mut self, client: PublicKey) {
        if let Some(moment) = self.unserved.remove(&client) {
            self.moments.remove(&moment);
        }
    }

    /// Something of this client was proposed: what else it has here waits from now on.
    pub fn serve(&mut self, client: PublicKey) {
        self.served(client);
        if self.unproposed.contains_key(&client) {
            self.begin_to_wait(client);
        }
    }

    /// Takes the next bundles to be proposed in the present view, from each client in turn, at most `most`
    /// and of each client no more than its share.
    pub fn take(&mut self, most: usize) -> Vec<Digest> {
        let mut taken = Vec::new();
        let mut served: BTreeMap<PublicKey, VecDeque<Digest>> = BTreeMap::new();
        let mut shares: BTreeMap<PublicKey, usize> = BTreeMap::new();
        self.batches += 1;
        if !self.batches.is_multiple_of(FLOOD_PERIOD) {
            let floods = |client: &PublicKey| self.counts.get(client).is_some_and(|n| *n > SHARE);
            let flooding: Vec<PublicKey> =
                self.queues.keys().filter(|client| floods(client)).copied().collect();
            // Alone they may as well be served.
            if flooding.len() < self.unproposed.len() {
                flooding.iter().for_each(|client| served.extend(self.queues.remove_entry(client)));
            }
        }
        while taken.len() < most {
            let Some(client) = self.next_client() else { break };
            if shares.get(&client).is_some_and(|share| *share >= SHARE) {
                // What is left of it waits for the next batch.
                served.extend(self.queues.remove_entry(&client));
                continue;
            }
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
                let arrival = guest.arrival;
                self.no_more_unproposed(client, arrival);
                self.serve(client);
                *shares.entry(client).or_default() += 1;
                taken.push(digest);
            }
        }
        self.queues.extend(served);
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

    /// Those that arrived at or before `arrival` and are in no open proposal of the present view: of each client the
    /// oldest first, then of each the next.
    #[must_use]
    pub fn unproposed_since(&self, arrival: u64) -> Vec<Digest> {
        let ranked = self.unproposed.values().flat_map(|arrivals| arrivals.iter().enumerate());
        let mut ranked: Vec<(usize, u64)> =
            ranked.filter(|(_, one)| **one <= arrival).map(|(rank, one)| (rank, *one)).collect();
        ranked.sort_unstable();
        ranked.iter().filter_map(|(_, arrival)| self.by_arrival.get(arrival).copied()).collect()
    }

    /// The number of the newest arrival.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.arrivals
    }

    /// Who waits to be served: a client is when something of it is proposed, as one client may have more here than
    /// others, or than any primary, would have room for.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        let oldest = *self.moments.first()?;
        Some(Backlog { oldest, newest: self.moment })
    }

    /// Since when the client of a bundle has waited to be served, by the numbers of [`WaitingRoom::backlog`].
    #[must_use]
    pub fn unserved_since(&self, digest: &Digest) -> Option<u64> {
        self.unserved.get(&self.guests.get(digest)?.client).copied()
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
        let filed: BTreeSet<u64> = self.unproposed.values().flatten().copied().collect();
        assert_eq!(filed, unproposed, "waiting: proposed and unproposed mixed up");
        let moments: BTreeSet<u64> = self.unserved.values().copied().collect();
        assert_eq!(self.moments, moments, "waiting: moments mixed up");
        assert!(self.unproposed.keys().eq(self.unserved.keys()), "waiting: served and unserved");
        assert_eq!(self.counts.values().sum::<usize>(), self.guests.len(), "waiting: miscounted");
    }
}
