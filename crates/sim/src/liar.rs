//! What a lying node says, as a function of what an honest one would have said.
//!
//! Nothing here knows a world, a clock or a network: a [`Liar`] is given the message that the automaton wants to send
//! to a peer, and a source of chance, and gives back what is to be sealed and sent instead. So a simulated adversary
//! and a production node that demonstrates lying tell the very same lies. The caller seals with the liar's own key; a
//! liar has no way to speak for another.
//!
//! Lies that know what they lie about are the message's owner's to write ([`Corrupt`]); for the rest there is
//! [`tamper_bytes`], which changes a field of the encoding and keeps the change when it still reads as a message.

use crate::rng::Chance;
use std::collections::VecDeque;
use std::fmt;
use testudo_core::{Message, Peer};

/// How a node lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Lie {
    /// It says nothing.
    Silent,
    /// It tells one half of its peers the truth and the other half something else.
    Equivocate,
    /// It changes what it says.
    Corrupt,
    /// It says again what it had said earlier instead.
    Stale,
    /// At each word one of the above, the truth, the truth twice, or to the wrong peer.
    Random,
}

impl Lie {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Silent, Self::Equivocate, Self::Corrupt, Self::Stale, Self::Random];

    /// Its name on command lines and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Equivocate => "equivocate",
            Self::Corrupt => "corrupt",
            Self::Stale => "stale",
            Self::Random => "random",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lie| lie.name() == name)
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A message whose owner knows how to make it plausibly wrong: another digest, a higher view, one vote less.
pub trait Corrupt: Message {
    /// A message of the same kind that says something else; none if there is nothing to change.
    fn corrupt(&self, chance: &mut dyn Chance) -> Option<Self>;
}

/// How a message is changed: [`tamper_bytes`], a [`Corrupt::corrupt`], or both in turn.
pub type Tamper<M> = fn(&M, &mut dyn Chance) -> Option<M>;

/// Tampers as the owner of the message type says, and now and then by bytes.
pub fn tamper_knowingly<M: Corrupt>(message: &M, chance: &mut dyn Chance) -> Option<M> {
    if chance.per_mille(800) {
        message.corrupt(chance).or_else(|| tamper_bytes(message, chance))
    } else {
        tamper_bytes(message, chance)
    }
}

/// Changes a byte of the message's body so that it still reads as a message of the same kind. None after some tries
/// that do not.
pub fn tamper_bytes<M: Message>(message: &M, chance: &mut dyn Chance) -> Option<M> {
    let mut body = Vec::new();
    message.encode_body(&mut body);
    if body.is_empty() {
        return None;
    }
    for _ in 0..8 {
        let place = chance.below(body.len() as u64) as usize;
        let before = body[place];
        // Small steps make neighbouring views and slots; wild ones break digests and signatures.
        body[place] = match chance.below(4) {
            0 => before.wrapping_add(1),
            1 => before.wrapping_sub(1),
            2 => before ^ (1 << chance.below(8)),
            _ => chance.below(256) as u8,
        };
        if body[place] != before
            && let Ok(changed) = M::decode_body(message.protocol(), message.kind(), &body)
            && changed.kind() == message.kind()
        {
            return Some(changed);
        }
        body[place] = before;
    }
    None
}

/// The body of a message cut short, drawn out, or with some bytes changed: most likely no message at all.
pub fn mangle<M: Message>(message: &M, chance: &mut dyn Chance) -> Vec<u8> {
    let mut body = Vec::new();
    message.encode_body(&mut body);
    match chance.below(3) {
        0 => body.truncate(chance.below(body.len() as u64 + 1) as usize),
        1 => body.extend((0..=chance.below(40)).map(|byte| byte as u8)),
        _ => {}
    }
    for _ in 0..chance.below(6) {
        if !body.is_empty() {
            let place = chance.below(body.len() as u64) as usize;
            body[place] = chance.below(256) as u8;
        }
    }
    body
}

/// How many of its own words a liar remembers.
const MEMORY: usize = 128;

/// A node's lies.
#[derive(Debug)]
pub struct Liar<M> {
    lie: Lie,
    me: Peer,
    tamper: Tamper<M>,
    /// What it wanted to say earlier.
    memory: VecDeque<M>,
    /// To whom it has spoken, in the order of acquaintance.
    known: Vec<Peer>,
    /// The wrong version of the last message, told to the second half of those that get it.
    twisted: Option<(Vec<u8>, Option<M>)>,
}

impl<M: Message> Liar<M> {
    /// A node that lies like that under its own identity `me`.
    #[must_use]
    pub const fn new(lie: Lie, me: Peer, tamper: Tamper<M>) -> Self {
        Self { lie, me, tamper, memory: VecDeque::new(), known: Vec::new(), twisted: None }
    }

    /// How it lies.
    #[must_use]
    pub const fn lie(&self) -> Lie {
        self.lie
    }

    /// What is to be sealed and sent when the automaton wants to say `message` to `to`. What it says to itself it does
    /// not lie about.
    pub fn outgoing(&mut self, to: Peer, message: M, chance: &mut dyn Chance) -> Vec<(Peer, M)> {
        if to == self.me {
            return vec![(to, message)];
        }
        if !self.known.contains(&to) {
            self.known.push(to);
            self.known.sort_unstable();
        }
        let said = match self.lie {
            Lie::Silent => Vec::new(),
            Lie::Equivocate => self.equivocate(to, &message, chance),
            Lie::Corrupt => vec![(to, self.corrupted(&message, 300, chance))],
            Lie::Stale => vec![(to, self.stale(&message, 400, chance))],
            Lie::Random => self.anything(to, &message, chance),
        };
        self.remember(message, chance);
        said
    }

    fn corrupted(&self, message: &M, per_mille: u32, chance: &mut dyn Chance) -> M {
        let changed =
            if chance.per_mille(per_mille) { (self.tamper)(message, chance) } else { None };
        changed.unwrap_or_else(|| message.clone())
    }

    fn stale(&self, message: &M, per_mille: u32, chance: &mut dyn Chance) -> M {
        if self.memory.is_empty() || !chance.per_mille(per_mille) {
            return message.clone();
        }
        // An old word of the same kind is the more plausible lie.
        let alike: Vec<&M> =
            self.memory.iter().filter(|old| old.kind() == message.kind()).collect();
        match alike.len() as u64 {
            0 => message.clone(),
            count => alike[chance.below(count) as usize].clone(),
        }
    }

    fn equivocate(&mut self, to: Peer, message: &M, chance: &mut dyn Chance) -> Vec<(Peer, M)> {
        let place = self.known.iter().position(|known| *known == to).unwrap_or(0);
        if place % 2 == 0 {
            return vec![(to, message.clone())];
        }
        // The same twisted version goes to all of the second half, so that they agree among themselves.
        let mut body = vec![message.protocol().0, message.kind().0];
        message.encode_body(&mut body);
        let other = match &self.twisted {
            Some((of, other)) if *of == body => other.clone(),
            _ => {
                let other = (self.tamper)(message, chance);
                self.twisted = Some((body, other.clone()));
                other
            }
        };
        vec![(to, other.unwrap_or_else(|| message.clone()))]
    }

    fn anything(&mut self, to: Peer, message: &M, chance: &mut dyn Chance) -> Vec<(Peer, M)> {
        match chance.below(10) {
            0 => Vec::new(),
            1 => self.equivocate(to, message, chance),
            2 => vec![(to, self.corrupted(message, 1000, chance))],
            3 => vec![(to, self.stale(message, 1000, chance))],
            4 => vec![(to, message.clone()), (to, self.stale(message, 1000, chance))],
            5 => vec![(to, message.clone()), (to, self.corrupted(message, 1000, chance))],
            6 => {
                let other = self.known[chance.below(self.known.len() as u64) as usize];
                vec![(other, message.clone())]
            }
            _ => vec![(to, message.clone())],
        }
    }

    fn remember(&mut self, message: M, chance: &mut dyn Chance) {
        if self.memory.len() < MEMORY {
            self.memory.push_back(message);
        } else {
            let place = chance.below(MEMORY as u64) as usize;
            self.memory[place] = message;
        }
    }
}
