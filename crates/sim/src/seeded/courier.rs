//! An adversary that picks the next delivery.
//!
//! In an asynchronous network who schedules messages may be the enemy: it sees everything, and withholds what it likes
//! for as long as it likes, but not for ever. Here every message that reaches the end of its link falls into its hands.
//! Again and again it lets go of one, or of none. It can be patient only so long with each, and when the network becomes
//! timely, or trouble ends, it has to let go of all.
//!
//! It needs to know no protocol: statements that several say alike are votes, and whoever has heard almost enough of
//! them is about to decide something.

use super::{Act, Seeded};
use crate::event::{Event, Fact, NodeId};
use crate::rng::{Chance, Rng, mix};
use crate::weather::{Courier, Ploy};
use crate::world::{Observer, System};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use testudo_core::{Digest, Message, Peer, ReplicaId};

/// A message that waits for the adversary's pleasure.
#[derive(Clone, Copy, Debug)]
struct Offer {
    number: u64,
    since: Duration,
    from: NodeId,
    to: NodeId,
    /// Who says it, and what: the same whoever says it.
    statement: Option<(Peer, Digest)>,
}

/// Who heard which statement of whom, as far as the adversary remembers.
type Heard = BTreeMap<(NodeId, Digest), BTreeSet<Peer>>;

/// Statements that it remembers before it begins anew.
const MEMORY: usize = 8_192;
/// Messages that it can hold.
const GRASP: usize = 4_096;
/// How often it divides the replicas anew.
const CAMPS: Duration = Duration::from_secs(4);

/// What the adversary holds and knows.
pub(super) struct Hands {
    courier: Courier,
    offers: Vec<Offer>,
    heard: Heard,
    primary: Rc<RefCell<Primary>>,
    /// How many must say the same for a decision.
    quorum: usize,
    camps: u64,
    rng: Rng,
    is_expected: bool,
}

/// Who leads, as replicas tell it.
#[derive(Default)]
struct Primary(ReplicaId);

impl Observer for Primary {
    fn observe(&mut self, _: Duration, event: &Event) {
        if let Event::Told(_, Fact::View(_, primary)) = event {
            self.0 = *primary;
        }
    }
}

impl Hands {
    /// Whether a message stays where it is, for now.
    fn withholds(&self, offer: &Offer, now: Duration) -> bool {
        match self.courier.ploy {
            Ploy::Quorums => offer.statement.is_some_and(|(_, statement)| {
                let heard = self.heard.get(&(offer.to, statement)).map_or(0, BTreeSet::len);
                // Whoever votes without saying so to itself is one more.
                heard + 2 >= self.quorum
            }),
            Ploy::Primary => {
                let primary = self.primary.borrow().0.0;
                offer.from.0 == primary || offer.to.0 == primary
            }
            Ploy::Camps => {
                let epoch = now.as_nanos() / CAMPS.as_nanos();
                let draw = mix(self.camps ^ epoch as u64);
                let camp = |node: NodeId| draw >> (node.0 % 64) & 1;
                camp(offer.from) != camp(offer.to)
            }
            Ploy::Newest => false,
        }
    }

    /// The place of the offer to be let go of now, and whether patience has run out with it.
    fn pick(&mut self, now: Duration) -> Option<(usize, bool)> {
        let oldest = self.offers.first()?;
        if now.saturating_sub(oldest.since) >= self.courier.patience || self.offers.len() > GRASP {
            return Some((0, true));
        }
        if self.courier.ploy == Ploy::Newest {
            return Some((self.offers.len() - 1, false));
        }
        let free: Vec<usize> = (0..self.offers.len())
            .filter(|index| !self.withholds(&self.offers[*index], now))
            .collect();
        (!free.is_empty()).then(|| (*self.rng.pick(&free), false))
    }

    /// A statement has been heard.
    fn hear(&mut self, to: NodeId, statement: Option<(Peer, Digest)>) {
        if self.courier.ploy != Ploy::Quorums {
            return;
        }
        if self.heard.len() >= MEMORY {
            self.heard.clear();
        }
        if let Some((sender, statement)) = statement {
            self.heard.entry((to, statement)).or_default().insert(sender);
        }
    }
}

impl<S: System> Seeded<S> {
    /// From now on an adversary picks what is delivered next.
    pub(super) fn engage(&mut self, courier: Courier, seed: u64) {
        let membership = &self.world.setup().membership;
        let replicas = membership.n();
        let primary = Rc::new(RefCell::new(Primary::default()));
        self.world.watch(primary.clone());
        let mut rng = Rng::split(seed, "courier", 0);
        self.hands = Some(Hands {
            courier,
            offers: Vec::new(),
            heard: Heard::new(),
            primary,
            quorum: replicas.saturating_sub(self.f),
            camps: rng.next(),
            rng,
            is_expected: false,
        });
    }

    /// What a message states, by whom. Nothing of what does not read as a message.
    fn statement(&self, number: u64) -> Option<(Peer, Digest)> {
        let sender = self.world.letter(number)?.sender;
        let message = self.world.message(number)?;
        let mut body = vec![message.protocol().0, message.kind().0];
        message.encode_body(&mut body);
        Some((sender, Digest::of(&body)))
    }

    /// A message falls into the adversary's hands. False if there is none, or it has no power over it.
    pub(super) fn seize(&mut self, number: u64) -> bool {
        let Some(hands) = &self.hands else { return false };
        let Some(letter) = self.world.letter(number).copied() else { return false };
        let reads = hands.courier.ploy == Ploy::Quorums;
        let statement = if reads { self.statement(number) } else { None };
        let Some(hands) = &mut self.hands else { return false };
        if letter.from == letter.to {
            hands.hear(letter.to, statement);
            return false;
        }
        let (since, from, to) = (self.world.now(), letter.from, letter.to);
        hands.offers.push(Offer { number, since, from, to, statement });
        if !std::mem::replace(&mut hands.is_expected, true) {
            self.plan(Duration::from_micros(20), Act::Choose);
        }
        true
    }

    /// The adversary lets go of a message, or of none for now.
    pub(super) fn choose(&mut self) {
        let now = self.world.now();
        let Some(hands) = &mut self.hands else { return };
        let picked = hands.pick(now);
        let pause = if picked.is_some() { hands.rng.between(10, 200) } else { 2_000 };
        let offer = picked.map(|(place, is_forced)| (hands.offers.remove(place), is_forced));
        hands.is_expected = !hands.offers.is_empty();
        if hands.is_expected {
            self.plan(Duration::from_micros(pause), Act::Choose);
        }
        let Some((offer, is_forced)) = offer else { return };
        let Some(hands) = &mut self.hands else { return };
        hands.hear(offer.to, offer.statement);
        // A ploy bites when it costs a message all of the adversary's patience, or its place.
        let ploy = hands.courier.ploy;
        if is_forced || (ploy == Ploy::Newest && hands.is_expected) {
            self.count(ploy.name());
        }
        self.hand_over(offer.number);
    }

    /// The adversary has no power any more: whatever it holds goes on its way.
    pub(super) fn let_go(&mut self) {
        let Some(hands) = self.hands.take() else { return };
        for offer in hands.offers {
            let (weather, link) = (self.climate.weather, self.link(offer.number));
            let travel = weather.travel(link, self.world.now(), &mut self.odds);
            let after = travel + weather.delayed(&mut self.odds).unwrap_or_default();
            self.plan(after, Act::Deliver(offer.number));
        }
    }
}
