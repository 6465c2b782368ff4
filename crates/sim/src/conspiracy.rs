//! Liars that conspire.
//!
//! Liars that act each for itself are easily outvoted. Those of one [`Plot`] share everything: whatever one hears the others
//! have seen, and they agree on whom to deceive, and how. To each other they tell the truth. What they do not share is
//! keys: each says what it says under its own, or hands on what somebody else has truly signed.
//!
//! Nothing here knows a protocol but for one thing: by which digest votes name what a message proposes. So the
//! conspirators can vote for a proposal that one of them has made up, by putting its digest in the place of the true one.

use crate::adversary::{Adversary, Saying, Words};
use crate::liar::Tamper;
use crate::rng::{Chance, Rng};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use testudo_core::{Digest, Message, Peer, Signed, Verified};

/// What conspirators are up to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Scheme {
    /// They leave the same peers in the dark, all of them.
    Dark,
    /// To some peers they propose another batch than to the rest, and all vote for it there.
    Fork,
    /// While one of them leads, they vote for what it proposes, which some never hear of. While nobody of them leads,
    /// they keep their votes from whoever does.
    Turns,
    /// They hand on what any of them has heard, to peers that it was not for.
    Relay,
    /// As soon as one hears a proposal it says all that can be said in its favour, before it can know of anybody's vote: to
    /// some for what was proposed, to others for what they have made up.
    Early,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 5] = [Self::Dark, Self::Fork, Self::Turns, Self::Relay, Self::Early];

    /// Its name in plans, traces and counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dark => "conspire-dark",
            Self::Fork => "conspire-fork",
            Self::Turns => "conspire-turns",
            Self::Relay => "conspire-relay",
            Self::Early => "conspire-early",
        }
    }
}

/// The digest by which votes name what a message proposes, if it proposes something.
pub type Proposes<M> = fn(&M) -> Option<Digest>;

/// All that a replica can say by itself in favour of what a message proposes, if it proposes something.
pub type Advocates<M> = fn(&M) -> Vec<M>;

/// Frames and made-up proposals that conspirators remember.
const MEMORY: usize = 256;

/// What a true proposal is replaced by.
struct Forgery<M> {
    truth: Digest,
    lie: Digest,
    proposal: M,
}

/// What conspirators share.
pub struct Plot<M> {
    scheme: Scheme,
    /// Whether they keep to it.
    is_fixed: bool,
    /// Words until they draw another scheme, and other victims.
    until_change: u64,
    fellows: BTreeSet<Peer>,
    /// Whom any of them has spoken to.
    known: BTreeSet<Peer>,
    victims: BTreeSet<Peer>,
    /// Who proposed last.
    leader: Option<Peer>,
    forgeries: VecDeque<Forgery<M>>,
    /// What any of them has heard.
    heard: VecDeque<Signed<M>>,
}

impl<M: Message> Plot<M> {
    /// A plot that nobody has joined yet: to do this, or everything in turn if nothing is said.
    #[must_use]
    pub fn new(scheme: Option<Scheme>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            scheme: scheme.unwrap_or(Scheme::Fork),
            is_fixed: scheme.is_some(),
            until_change: 0,
            fellows: BTreeSet::new(),
            known: BTreeSet::new(),
            victims: BTreeSet::new(),
            leader: None,
            forgeries: VecDeque::new(),
            heard: VecDeque::new(),
        }))
    }

    /// Now and then they agree on something else.
    fn go_on(&mut self, chance: &mut Rng) {
        if self.until_change == 0 {
            self.until_change = chance.between(100, 1_500);
            if !self.is_fixed {
                self.scheme = *chance.pick(&Scheme::ALL);
            }
            self.victims = self.known.difference(&self.fellows).copied().collect();
            self.victims.retain(|_| chance.per_mille(400));
        }
        self.until_change -= 1;
    }

    fn hear(&mut self, frame: Signed<M>, chance: &mut Rng) {
        if self.heard.len() < MEMORY {
            self.heard.push_back(frame);
        } else {
            let place = chance.below(MEMORY as u64) as usize;
            self.heard[place] = frame;
        }
    }

    fn is_led_by_fellow(&self) -> bool {
        self.leader.is_some_and(|leader| self.fellows.contains(&leader))
    }
}

/// A liar that acts with others.
pub struct Conspirator<M> {
    me: Peer,
    plot: Rc<RefCell<Plot<M>>>,
    tamper: Tamper<M>,
    proposes: Proposes<M>,
    advocates: Advocates<M>,
}

impl<M: Message> Conspirator<M> {
    /// One more in a plot.
    #[must_use]
    pub fn join(
        me: Peer,
        plot: &Rc<RefCell<Plot<M>>>,
        tamper: Tamper<M>,
        proposes: Proposes<M>,
        advocates: Advocates<M>,
    ) -> Self {
        plot.borrow_mut().fellows.insert(me);
        Self { me, plot: plot.clone(), tamper, proposes, advocates }
    }

    /// What they say of a proposal of their own accord. Whose proposal it is says that it is.
    fn speak_up(
        &self,
        plot: &mut Plot<M>,
        proposal: &M,
        chance: &mut Rng,
        say: &mut Vec<Saying<M>>,
    ) {
        let favours = |proposal: &M| {
            let all = (self.advocates)(proposal).into_iter();
            all.filter(|word| (self.proposes)(word).is_none()).collect::<Vec<M>>()
        };
        let truth = favours(proposal);
        let lie = self.forged(plot, proposal, chance).map(|forgery| favours(&forgery));
        let hearers = plot.known.iter().filter(|peer| peer.replica().is_some());
        for to in hearers.filter(|peer| !plot.fellows.contains(*peer)) {
            let lie = lie.as_ref().filter(|_| plot.victims.contains(to));
            let words = lie.unwrap_or(&truth).iter();
            say.extend(words.map(|word| Saying::now(*to, word.clone())));
        }
    }

    /// What a victim hears of a true proposal, or of a vote for one; none where they have made nothing up about it.
    fn forged(&self, plot: &mut Plot<M>, message: &M, chance: &mut Rng) -> Option<M> {
        if let Some(truth) = (self.proposes)(message) {
            if let Some(known) = plot.forgeries.iter().find(|forgery| forgery.truth == truth) {
                return Some(known.proposal.clone());
            }
            let proposal = (self.tamper)(message, chance)?;
            let lie = (self.proposes)(&proposal).filter(|lie| *lie != truth)?;
            if plot.forgeries.len() >= MEMORY {
                plot.forgeries.pop_front();
            }
            plot.forgeries.push_back(Forgery { truth, lie, proposal: proposal.clone() });
            return Some(proposal);
        }
        let forgeries = plot.forgeries.iter().rev();
        forgeries.into_iter().find_map(|Forgery { truth, lie, .. }| exchanged(message, truth, lie))
    }
}

/// The message with one digest in the place of another; none where it does not bear that, or can no longer be read.
#[must_use]
pub fn exchanged<M: Message>(message: &M, old: &Digest, new: &Digest) -> Option<M> {
    let mut body = Vec::new();
    message.encode_body(&mut body);
    let length = old.0.len();
    let places: Vec<usize> = (0..body.len().saturating_sub(length - 1))
        .filter(|place| body[*place..].starts_with(&old.0))
        .collect();
    for place in &places {
        body[*place..place + length].copy_from_slice(&new.0);
    }
    let said = M::decode_body(message.protocol(), message.kind(), &body).ok()?;
    (!places.is_empty()).then_some(said)
}

impl<M: Message> Adversary<M> for Conspirator<M> {
    fn name(&self) -> &'static str {
        self.plot.borrow().scheme.name()
    }

    fn outgoing(&mut self, to: Peer, message: M, chance: &mut Rng) -> Vec<Saying<M>> {
        let plot = &mut *self.plot.borrow_mut();
        plot.known.insert(to);
        plot.go_on(chance);
        let is_proposal = (self.proposes)(&message).is_some();
        if is_proposal {
            plot.leader = Some(self.me);
        }
        if plot.fellows.contains(&to) {
            return vec![Saying::now(to, message)];
        }
        let is_victim = plot.victims.contains(&to);
        let said = match plot.scheme {
            Scheme::Dark => (!is_victim).then_some(message),
            Scheme::Fork if is_victim => {
                let lie = self.forged(plot, &message, chance);
                Some(lie.unwrap_or(message))
            }
            Scheme::Turns if plot.is_led_by_fellow() => {
                (!is_proposal || !is_victim).then_some(message)
            }
            Scheme::Turns => (plot.leader != Some(to) && !is_victim).then_some(message),
            Scheme::Fork | Scheme::Relay | Scheme::Early => Some(message),
        };
        let often = if plot.scheme == Scheme::Relay { 300 } else { 30 };
        let relayed = if chance.per_mille(often) && !plot.heard.is_empty() {
            let place = chance.below(plot.heard.len() as u64) as usize;
            let after = Duration::from_millis(chance.below(20));
            Some(Saying { to, words: Words::Frame(plot.heard[place].clone()), after })
        } else {
            None
        };
        said.map(|message| Saying::now(to, message)).into_iter().chain(relayed).collect()
    }

    fn incoming(
        &mut self,
        message: &Verified<M>,
        chance: &mut Rng,
        say: &mut Vec<Saying<M>>,
    ) -> bool {
        let plot = &mut *self.plot.borrow_mut();
        if (self.proposes)(message.message()).is_some() && message.sender() == message.via() {
            plot.leader = Some(message.sender());
            if plot.scheme == Scheme::Early && chance.per_mille(300) {
                self.speak_up(plot, message.message(), chance, say);
            }
        }
        plot.hear(message.signed(), chance);
        true
    }
}
