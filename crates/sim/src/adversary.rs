//! Liars in a world.
//!
//! An adversary stands between an automaton that behaves and the wire. It sees what its node says and hears, and may
//! have anything else said instead, sealed with its own node's key and no other: the world hands it no other, but for
//! voting keys out of use. What does
//! not need the world (which lie, told to whom) is in [`crate::liar`], where production's demonstration of lying
//! replicas finds it too.

use crate::conspiracy::{Conspirator, Plot, Scheme};
use crate::fraud::Trick;
use crate::liar::{Liar, Lie, Tamper, mangle};
use crate::rng::{Chance, Rng};
use crate::upstream::Strategy;
use std::collections::VecDeque;
use std::time::Duration;
use testudo_contracts::Tactic;
use testudo_core::{Kind, Message, Peer, ProtocolId, Signed, Strength, Verified};

/// Something that a liar has said.
#[derive(Clone, Debug)]
pub enum Words<M> {
    /// A message of its own, to be sealed with its key.
    Own(M),
    /// A frame that it heard, handed on as it is.
    Frame(Signed<M>),
    /// A message in the name of each replica that has come back, to be sealed with every voting key that it had before: a
    /// disk that was thrown away is in a liar's hands.
    Stolen(M),
    /// A message of its own under its name, with a signature that is nobody's.
    Spoilt(M),
    /// Bytes that need not be a message of this kind, to be sealed with its key as if they were.
    Noise(ProtocolId, Kind, Strength, Vec<u8>),
}

/// What a liar says to one peer.
#[derive(Clone, Debug)]
pub struct Saying<M> {
    /// To whom.
    pub to: Peer,
    /// What.
    pub words: Words<M>,
    /// How long it holds it back first.
    pub after: Duration,
}

impl<M> Saying<M> {
    /// A message of its own, said at once.
    pub const fn now(to: Peer, message: M) -> Self {
        Self { to, words: Words::Own(message), after: Duration::ZERO }
    }
}

/// What a faulty node does with what its automaton says and hears.
pub trait Adversary<M: Message> {
    /// Its name in traces and reports.
    fn name(&self) -> &'static str;

    /// The automaton wants to say this to `to`, which is never itself. What is returned is said instead.
    fn outgoing(&mut self, to: Peer, message: M, chance: &mut Rng) -> Vec<Saying<M>>;

    /// A verified message arrives. False keeps it from the automaton; `say` takes what is said in return.
    fn incoming(
        &mut self,
        message: &Verified<M>,
        chance: &mut Rng,
        say: &mut Vec<Saying<M>>,
    ) -> bool {
        let _ = (message, chance, say);
        true
    }
}

/// How a Byzantine replica misbehaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Misconduct {
    /// It says nothing.
    Silent,
    /// It holds everything back for a while, and long for some.
    Slow,
    /// It says nothing to some of its peers, now these, now those.
    Selective,
    /// It says again what it and others said before, to anybody.
    Replay,
    /// Two correct copies under one identity, each talking to a part of the cluster.
    Twins,
    /// It changes some of what it says.
    Corrupt,
    /// It says one thing to one half of its peers, and another to the other.
    Equivocate,
    /// It tells everybody the same lie, whatever it speaks of.
    Consistent,
    /// It says what it had said earlier instead.
    Stale,
    /// Anything of all that, and noise.
    Random,
    /// It tells the truth, and something else under the voting keys that others have had before they came back.
    Thief,
    /// It orders honestly, and lies to those who learn from it ([`crate::upstream`]): in one way, or in all in turn.
    /// Where nobody learns, it changes some of what it says.
    Upstream(Option<Strategy>),
    /// It acts with all others that do so ([`crate::conspiracy`]): in one way, or in all in turn.
    Conspire(Option<Scheme>),
    /// It is a client ([`crate::fraud`]) that lies in one way, or in all in turn. A replica changes some of what it says.
    Client(Option<Trick>),
    /// It keeps to a tactic that its protocol knows. Where that knows none it changes some of what it says.
    Tactic(Tactic),
}

impl Misconduct {
    /// Every kind of replica.
    pub const ALL: [Self; 13] = [
        Self::Silent,
        Self::Slow,
        Self::Selective,
        Self::Replay,
        Self::Twins,
        Self::Corrupt,
        Self::Equivocate,
        Self::Consistent,
        Self::Stale,
        Self::Random,
        Self::Thief,
        Self::Upstream(None),
        Self::Conspire(None),
    ];

    /// Its name in reports and plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Selective => "selective",
            Self::Replay => "replay",
            Self::Twins => "twins",
            Self::Corrupt => "corrupt",
            Self::Equivocate => "equivocate",
            Self::Consistent => "consistent",
            Self::Stale => "stale",
            Self::Random => "random",
            Self::Thief => "thief",
            Self::Upstream(None) => "upstream",
            Self::Upstream(Some(strategy)) => strategy.name(),
            Self::Conspire(None) => "conspire",
            Self::Conspire(Some(scheme)) => scheme.name(),
            Self::Client(None) => "lying-client",
            Self::Client(Some(trick)) => trick.name(),
            Self::Tactic(tactic) => tactic.name(),
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let strategies = Strategy::ALL.map(|strategy| Self::Upstream(Some(strategy)));
        let schemes = Scheme::ALL.map(|scheme| Self::Conspire(Some(scheme)));
        let clients = Trick::ALL.map(Some).into_iter().chain([None]).map(Self::Client);
        let tactics = Tactic::ALL.map(Self::Tactic);
        let known = Self::ALL.into_iter().chain(tactics).chain(strategies);
        let mut all = known.chain(schemes).chain(clients);
        all.find(|kind| kind.name() == name)
    }

    /// The adversary of that kind; none for twins, who are two nodes and lie to nobody.
    #[must_use]
    pub fn adversary<M: Message + 'static>(
        self,
        me: Peer,
        tamper: Tamper<M>,
    ) -> Option<Box<dyn Adversary<M>>> {
        let lie = match self {
            Self::Twins => return None,
            // Who has nobody to act with, and knows no proposals, at least agrees with itself.
            Self::Conspire(scheme) => {
                let plot = Plot::new(scheme);
                return Some(Box::new(Conspirator::join(
                    me,
                    &plot,
                    tamper,
                    |_| None,
                    |_| Vec::new(),
                )));
            }
            Self::Slow => return Some(Box::new(Slow)),
            Self::Selective => return Some(Box::new(Selective::default())),
            Self::Replay => return Some(Box::new(Replayer::new())),
            Self::Consistent => return Some(Box::new(Consistent { tamper, last: None })),
            Self::Thief => return Some(Box::new(Thief { tamper })),
            Self::Silent => Lie::Silent,
            Self::Corrupt | Self::Upstream(_) | Self::Client(_) | Self::Tactic(_) => Lie::Corrupt,
            Self::Equivocate => Lie::Equivocate,
            Self::Stale => Lie::Stale,
            Self::Random => Lie::Random,
        };
        Some(Box::new(Lying { liar: Liar::new(lie, me, tamper) }))
    }
}

/// A [`Liar`] in a world.
struct Lying<M> {
    liar: Liar<M>,
}

impl<M: Message> Adversary<M> for Lying<M> {
    fn name(&self) -> &'static str {
        self.liar.lie().name()
    }
    fn outgoing(&mut self, to: Peer, message: M, chance: &mut Rng) -> Vec<Saying<M>> {
        let noise = self.noise(to, &message, chance);
        let said = self.liar.outgoing(to, message, chance);
        said.into_iter().map(|(to, message)| Saying::now(to, message)).chain(noise).collect()
    }
}

impl<M: Message> Lying<M> {
    /// Who says anything at all also says what no automaton would: its key signs it, and no decoder may stumble.
    fn noise(&self, to: Peer, message: &M, chance: &mut Rng) -> Option<Saying<M>> {
        if self.liar.lie() != Lie::Random || !chance.per_mille(50) {
            return None;
        }
        let (protocol, kind) = (message.protocol(), Kind(message.kind().0 ^ chance.below(2) as u8));
        let words = Words::Noise(protocol, kind, message.strength(), mangle(message, chance));
        Some(Saying { to, words, after: Duration::ZERO })
    }
}

/// Tells everybody the same lie, so that nobody who compares what two have heard finds it out.
struct Consistent<M> {
    tamper: Tamper<M>,
    /// What its node wanted to say last, and what it said instead.
    last: Option<(Vec<u8>, M)>,
}

impl<M: Message> Adversary<M> for Consistent<M> {
    fn name(&self) -> &'static str {
        "consistent"
    }
    fn outgoing(&mut self, to: Peer, message: M, chance: &mut Rng) -> Vec<Saying<M>> {
        let mut body = vec![message.protocol().0, message.kind().0];
        message.encode_body(&mut body);
        let lie = match &self.last {
            Some((of, lie)) if *of == body => lie.clone(),
            _ => {
                let lie = (self.tamper)(&message, chance).unwrap_or(message);
                self.last = Some((body, lie.clone()));
                lie
            }
        };
        vec![Saying::now(to, lie)]
    }
}

/// Says what would convict others, under keys that are theirs no more.
struct Thief<M> {
    tamper: Tamper<M>,
}

impl<M: Message> Adversary<M> for Thief<M> {
    fn name(&self) -> &'static str {
        "thief"
    }
    fn outgoing(&mut self, to: Peer, message: M, chance: &mut Rng) -> Vec<Saying<M>> {
        let is_signed = message.strength() == Strength::Signature;
        let other = if is_signed { (self.tamper)(&message, chance) } else { None };
        let stolen = other.map(|other| {
            let after = Duration::from_millis(chance.below(5));
            Saying { to, words: Words::Stolen(other), after }
        });
        [Saying::now(to, message)].into_iter().chain(stolen).collect()
    }
}

/// Holds everything back: mostly for tens of milliseconds, now and then for seconds.
struct Slow;

impl<M: Message> Adversary<M> for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }
    fn outgoing(&mut self, to: Peer, message: M, chance: &mut Rng) -> Vec<Saying<M>> {
        let millis =
            if chance.per_mille(50) { chance.between(500, 4000) } else { chance.between(10, 150) };
        vec![Saying { to, words: Words::Own(message), after: Duration::from_millis(millis) }]
    }
}

/// Says the truth, but some of it late: a function says for how long it holds a message back, for whom. With this a
/// primary orders just before anybody would give it up.
pub struct Dawdler<F>(pub F);

impl<M: Message, F: FnMut(Peer, &M) -> Duration> Adversary<M> for Dawdler<F> {
    fn name(&self) -> &'static str {
        "dawdle"
    }
    fn outgoing(&mut self, to: Peer, message: M, _: &mut Rng) -> Vec<Saying<M>> {
        let after = self.0(to, &message);
        vec![Saying { to, words: Words::Own(message), after }]
    }
}

/// Leaves some peers out, and after a while others.
#[derive(Default)]
struct Selective {
    shunned: Vec<Peer>,
    heard: Vec<Peer>,
    until_change: u64,
}

impl<M: Message> Adversary<M> for Selective {
    fn name(&self) -> &'static str {
        "selective"
    }
    fn outgoing(&mut self, to: Peer, message: M, chance: &mut Rng) -> Vec<Saying<M>> {
        if !self.heard.contains(&to) {
            self.heard.push(to);
        }
        if self.until_change == 0 {
            self.until_change = chance.between(50, 800);
            self.shunned.clone_from(&self.heard);
            self.shunned.retain(|_| chance.per_mille(400));
        }
        self.until_change -= 1;
        if self.shunned.contains(&to) { Vec::new() } else { vec![Saying::now(to, message)] }
    }
}

/// Remembers frames of everybody, and brings them up again: its own and others', whose signatures still hold.
struct Replayer<M> {
    frames: VecDeque<Signed<M>>,
    own: VecDeque<M>,
}

/// How much a replaying node remembers.
const MEMORY: usize = 256;

impl<M> Replayer<M> {
    const fn new() -> Self {
        Self { frames: VecDeque::new(), own: VecDeque::new() }
    }
}

fn remember<T>(memory: &mut VecDeque<T>, item: T, chance: &mut Rng) {
    if memory.len() < MEMORY {
        memory.push_back(item);
    } else {
        // A random one makes room, so that some very old ones stay.
        let place = chance.below(MEMORY as u64) as usize;
        memory[place] = item;
    }
}

impl<M: Message> Adversary<M> for Replayer<M> {
    fn name(&self) -> &'static str {
        "replay"
    }
    fn outgoing(&mut self, to: Peer, message: M, chance: &mut Rng) -> Vec<Saying<M>> {
        let mut say = vec![Saying::now(to, message.clone())];
        remember(&mut self.own, message, chance);
        if chance.per_mille(150) {
            let place = chance.below(self.own.len() as u64) as usize;
            say.push(Saying::now(to, self.own[place].clone()));
        }
        if chance.per_mille(150) && !self.frames.is_empty() {
            let place = chance.below(self.frames.len() as u64) as usize;
            let words = Words::Frame(self.frames[place].clone());
            let after = Duration::from_millis(chance.below(50));
            say.push(Saying { to, words, after });
        }
        say
    }
    fn incoming(
        &mut self,
        message: &Verified<M>,
        chance: &mut Rng,
        _: &mut Vec<Saying<M>>,
    ) -> bool {
        remember(&mut self.frames, message.signed(), chance);
        true
    }
}
