//! Clients that lie.
//!
//! Whoever serves clients serves liars too: a client is admitted by its key, and no rule of its protocol binds it. A
//! [`Fraud`] stands between a client's automaton, which keeps the session and its numbers, and the wire. It signs two
//! bundles under one number, says a bundle to some replicas and not to others, or with a signature that is wrong for
//! some; it uses sessions that are dead or another's; it changes what nobody else would; and it brings up again whatever
//! it said before, the openings of its sessions among it.
//!
//! What that does to its own history is its own affair. All others must be served as if it were not there, and all
//! replicas must go on agreeing. It asks for nothing but what is its own
//! ([`crate::workload::Workload::foreign`]), as whoever is admitted may write what he likes.

use crate::adversary::{Adversary, Saying, Words};
use crate::rng::{Chance, Rng};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use testudo_core::{Decode, Message, Peer, ReplicaId, Verified};
use testudo_replication::{Bundle, ReplicaMessage, ReplyBody, Request};

/// The name of the count of all lies of clients.
pub const LIES_OF_CLIENTS: &str = "lies of clients";

/// A way of lying as a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Trick {
    /// It signs two bundles under one number, and says one to some replicas, the other to the rest.
    Contradict,
    /// It says a bundle to some replicas only.
    Withhold,
    /// It names a session that is over, or somebody else's.
    Sessions,
    /// Its signature is wrong for some.
    Spoil,
    /// It changes numbers, the replica that is to answer, and what is asked for.
    Mutate,
    /// It says again what it said long ago: bundles, and openings of sessions that are over.
    Replay,
    /// It opens session after session.
    Open,
}

impl Trick {
    /// Every way.
    pub const ALL: [Self; 7] = [
        Self::Contradict,
        Self::Withhold,
        Self::Sessions,
        Self::Spoil,
        Self::Mutate,
        Self::Replay,
        Self::Open,
    ];

    /// Its name in plans, traces and counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Contradict => "client-contradicts",
            Self::Withhold => "client-withholds",
            Self::Sessions => "client-of-dead-sessions",
            Self::Spoil => "client-spoils-signatures",
            Self::Mutate => "client-mutates",
            Self::Replay => "client-replays",
            Self::Open => "client-opens-sessions",
        }
    }

    /// Whether one of these has that name.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        Self::ALL.iter().any(|trick| trick.name() == name)
    }
}

/// Draws an operation that is the client's own.
pub type Draw = fn(u64, &mut Rng) -> Vec<u8>;

/// How much of each kind it remembers. Of openings that is more than replicas keep sessions of one client.
const MEMORY: usize = 64;

/// A client that lies.
pub struct Fraud {
    trick: Trick,
    is_fixed: bool,
    /// Words until it takes another trick.
    until_change: u64,
    draw: Draw,
    /// The numbers of the sessions that it was given, the newest last.
    sessions: VecDeque<u64>,
    /// What it said earlier.
    bundles: VecDeque<Bundle>,
    openings: VecDeque<Bundle>,
    /// What it says to whom of the bundle that is being said.
    saying: Option<Deceit>,
}

/// What becomes of one bundle.
struct Deceit {
    truth: Bundle,
    /// What is said instead.
    other: Bundle,
    /// Who is deceived.
    victims: BTreeMap<Peer, bool>,
}

impl Fraud {
    /// One that lies in this way only; in all ways in turn if there is none. What it asks for beside what its automaton
    /// does is drawn.
    #[must_use]
    pub fn new(trick: Option<Trick>, draw: Draw) -> Self {
        Self {
            trick: trick.unwrap_or(Trick::Contradict),
            is_fixed: trick.is_some(),
            until_change: 0,
            draw,
            sessions: VecDeque::new(),
            bundles: VecDeque::new(),
            openings: VecDeque::new(),
            saying: None,
        }
    }

    /// Now and then it takes another trick, and other victims: so nothing that it withholds holds it up for ever.
    fn go_on(&mut self, chance: &mut Rng) {
        if self.until_change == 0 {
            self.until_change = chance.between(8, 80);
            if !self.is_fixed {
                self.trick = *chance.pick(&Trick::ALL);
            }
            self.saying = None;
        }
        self.until_change -= 1;
    }

    /// Whether this receiver is deceived about this bundle, and what it is told instead.
    fn deceit(&mut self, to: Peer, truth: &Bundle, chance: &mut Rng) -> (bool, Bundle) {
        if self.saying.as_ref().is_none_or(|deceit| deceit.truth != *truth) {
            let other = self.other(truth, chance);
            self.remember(truth, chance);
            self.saying = Some(Deceit { truth: truth.clone(), other, victims: BTreeMap::new() });
        }
        let Some(deceit) = &mut self.saying else { return (false, truth.clone()) };
        let is_victim = *deceit.victims.entry(to).or_insert_with(|| chance.below(2) == 0);
        (is_victim, deceit.other.clone())
    }

    fn remember(&mut self, bundle: &Bundle, chance: &mut Rng) {
        let memory = match bundle.request {
            Request::Register { .. } => &mut self.openings,
            _ => &mut self.bundles,
        };
        if memory.contains(bundle) {
            return;
        }
        if memory.len() < MEMORY {
            memory.push_back(bundle.clone());
        } else {
            // A random one makes room, so that some very old ones stay.
            let place = chance.below(MEMORY as u64) as usize;
            memory[place] = bundle.clone();
        }
    }

    fn operation(&self, chance: &mut Rng) -> Arc<[u8]> {
        (self.draw)(chance.next(), chance).into()
    }

    /// What is said of a bundle instead of it.
    fn other(&self, truth: &Bundle, chance: &mut Rng) -> Bundle {
        let mut other = truth.clone();
        match (&mut other.request, self.trick) {
            (Request::Operations { operations, .. }, Trick::Contradict) => {
                *operations = (0..chance.below(3)).map(|_| self.operation(chance)).collect();
            }
            (Request::Operations { session, .. }, Trick::Sessions) => {
                let older = self.sessions.len() as u64;
                *session = match chance.below(3) {
                    0 if older > 0 => self.sessions[chance.below(older) as usize],
                    // Sessions are numbered over all clients, so its neighbours are mostly others'.
                    1 => session.saturating_sub(chance.between(1, 8)),
                    _ => session.saturating_add(chance.between(1, 8)),
                };
            }
            (Request::Operations { sequence, operations, .. }, Trick::Mutate) => {
                match chance.below(7) {
                    0 => *sequence = sequence.saturating_add(chance.between(1, 40)),
                    1 => *sequence = sequence.saturating_sub(chance.between(1, 40)),
                    2 => *sequence = u64::MAX - chance.below(2),
                    3 => operations.clear(),
                    4 => operations.push(Arc::from(vec![0xff; chance.below(40) as usize])),
                    5 => {
                        operations.push(self.operation(chance));
                        operations.reverse();
                    }
                    _ => other.replier = ReplicaId(chance.below(u64::from(u16::MAX) + 1) as u16),
                }
            }
            (Request::Register { nonce }, _) => *nonce ^= 1 << chance.below(64),
            _ => {}
        }
        other
    }

    /// Something that it said long ago: an opening, or another bundle.
    fn old(&self, chance: &mut Rng) -> Option<Bundle> {
        let memory = if chance.below(2) == 0 { &self.openings } else { &self.bundles };
        let count = memory.len() as u64;
        (count > 0).then(|| memory[chance.below(count) as usize].clone())
    }
}

/// What tells an opening from others.
const fn nonce(bundle: &Bundle) -> Option<u64> {
    match bundle.request {
        Request::Register { nonce } => Some(nonce),
        _ => None,
    }
}

impl<M: Message> Adversary<ReplicaMessage<M>> for Fraud {
    fn name(&self) -> &'static str {
        self.trick.name()
    }

    fn outgoing(
        &mut self,
        to: Peer,
        message: ReplicaMessage<M>,
        chance: &mut Rng,
    ) -> Vec<Saying<ReplicaMessage<M>>> {
        let ReplicaMessage::Bundle(truth) = &message else {
            return vec![Saying::now(to, message)];
        };
        self.go_on(chance);
        let (is_victim, other) = self.deceit(to, truth, chance);
        let own = |bundle| Saying::now(to, ReplicaMessage::Bundle(bundle));
        let late = |bundle, chance: &mut Rng| Saying {
            after: Duration::from_millis(chance.below(50)),
            ..own(bundle)
        };
        match self.trick {
            Trick::Withhold if is_victim => Vec::new(),
            Trick::Spoil if is_victim => {
                vec![Saying { to, words: Words::Spoilt(message), after: Duration::ZERO }]
            }
            // Now and then both, one after the other.
            Trick::Contradict | Trick::Sessions | Trick::Mutate if is_victim => {
                let truth = (chance.below(3) == 0).then(|| late(truth.clone(), chance));
                std::iter::once(own(other)).chain(truth).collect()
            }
            Trick::Replay => {
                let old: Vec<Bundle> =
                    (0..chance.below(3)).filter_map(|_| self.old(chance)).collect();
                let old = old.into_iter().map(|bundle| late(bundle, chance));
                std::iter::once(own(truth.clone())).chain(old).collect()
            }
            Trick::Open if chance.below(3) == 0 => {
                let newest = self.openings.iter().filter_map(nonce).max().unwrap_or_default();
                let nonce = newest.saturating_add(chance.between(1, 1 << 20));
                let request = Request::Register { nonce };
                let opening = Bundle { replier: truth.replier, request };
                self.remember(&opening, chance);
                vec![own(truth.clone()), own(opening)]
            }
            _ => vec![Saying::now(to, message)],
        }
    }

    fn incoming(
        &mut self,
        message: &Verified<ReplicaMessage<M>>,
        chance: &mut Rng,
        say: &mut Vec<Saying<ReplicaMessage<M>>>,
    ) -> bool {
        let ReplicaMessage::Reply(reply) = message.message() else { return true };
        let body = reply.body.as_deref().map(ReplyBody::from_bytes);
        if let Some(Ok(ReplyBody::Registered(session))) = body
            && !self.sessions.contains(&session)
        {
            self.sessions.push_back(session);
            if self.sessions.len() > MEMORY {
                self.sessions.pop_front();
            }
        }
        // Whoever has just answered is asked for something old, which nobody waits for.
        if self.trick == Trick::Replay
            && chance.below(4) == 0
            && let Some(old) = self.old(chance)
        {
            say.push(Saying::now(message.via(), ReplicaMessage::Bundle(old)));
        }
        true
    }
}
