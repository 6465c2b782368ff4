//! What a liar tells those who learn from it: gateways that take what was decided from it, hold its word on results
//! against that of others, ask how far they must read, and fetch state. What a forged word looks like is the simulator's
//! to say ([`upstream`]), so that learners meet here what they have met there.

use super::Lie;
use testudo_core::{Digest, Slot};
use testudo_replication::{Claim, Feed, ReplicaMessage, StateAnswer, Voucher};
use testudo_sim::rng::Chance;
use testudo_sim::upstream::{self, other_outcome};

/// A liar's words to learners. Orders and certificates that others signed it cannot forge; all that is its own word it
/// can.
pub(super) struct ToLearners {
    lie: Lie,
    /// Its word on the last slot, in truth: what a forged chain is linked to.
    last: Option<Voucher>,
    /// The first of each that it said, which a stale liar says for ever.
    voucher: Option<Voucher>,
    claim: Option<Slot>,
    head: Option<StateAnswer>,
}

impl ToLearners {
    /// Those of a liar of that kind.
    pub(super) const fn new(lie: Lie) -> Self {
        Self { lie, last: None, voucher: None, claim: None, head: None }
    }

    /// Whether this is among the things that learners are told.
    pub(super) const fn concerns<M>(message: &ReplicaMessage<M>) -> bool {
        use ReplicaMessage::{Bodies, Claim, Feed, Stable, State, Voucher};
        matches!(message, Feed(_) | Voucher(_) | Claim(_) | State(_) | Bodies(_) | Stable(_))
    }

    /// What is said where an honest replica would say this.
    pub(super) fn say<M: Clone>(
        &mut self,
        message: &ReplicaMessage<M>,
        chance: &mut dyn Chance,
    ) -> Vec<ReplicaMessage<M>> {
        let said = match self.lie {
            Lie::Silent => Vec::new(),
            Lie::Corrupt => self.forge(message, chance).into_iter().collect(),
            Lie::Stale => self.repeat(message).into_iter().collect(),
            Lie::Equivocate => {
                // Both, so that it contradicts itself, and which comes first is a matter of chance.
                let mut both: Vec<_> = self.forge(message, chance).into_iter().collect();
                let place = if chance.per_mille(500) { 0 } else { both.len() };
                both.insert(place, message.clone());
                both
            }
            Lie::Random => match chance.below(5) {
                0 => Vec::new(),
                1 => self.repeat(message).into_iter().collect(),
                2 => vec![message.clone(), message.clone()],
                3 => vec![message.clone()],
                _ => self.forge(message, chance).into_iter().collect(),
            },
        };
        if let ReplicaMessage::Feed(Feed { voucher, .. }) | ReplicaMessage::Voucher(voucher) =
            message
        {
            self.last = Some(voucher.clone());
        }
        said
    }

    /// The same kind of word with something else in it; nothing where nothing can be forged.
    fn forge<M>(
        &self,
        message: &ReplicaMessage<M>,
        chance: &mut dyn Chance,
    ) -> Option<ReplicaMessage<M>> {
        use ReplicaMessage as Word;
        Some(match message {
            Word::Feed(feed) => Word::Feed(self.forge_feed(feed, chance)),
            Word::Voucher(voucher) => Word::Voucher(if chance.per_mille(500) {
                other_outcome(voucher)
            } else {
                Voucher { chain: Digest::of(&voucher.chain.0), ..voucher.clone() }
            }),
            Word::Claim(claim) => Word::Claim(upstream::inflated(claim, chance)),
            Word::State(answer) => Word::State(forge_state(answer, chance)),
            _ => return None,
        })
    }

    fn forge_feed(&self, feed: &Feed, chance: &mut dyn Chance) -> Feed {
        let mut feed = feed.clone();
        match chance.below(3) {
            0 => feed.voucher = other_outcome(&feed.voucher),
            1 if !feed.bodies.is_empty() => {
                feed.bodies.pop();
            }
            // Another batch, under the chain that would follow from it.
            _ => {
                let slot = feed.voucher.slot;
                feed.batch = upstream::other_batch(&feed.batch, chance);
                let last = self.last.as_ref().filter(|last| last.slot == slot.previous());
                if let Some(last) = last {
                    feed.voucher.chain = upstream::chain_after(last.chain, slot, &feed.batch);
                }
            }
        }
        feed
    }

    /// What it said at first, as if nothing had happened since.
    fn repeat<M: Clone>(&mut self, message: &ReplicaMessage<M>) -> Option<ReplicaMessage<M>> {
        use ReplicaMessage as Word;
        Some(match message {
            Word::Feed(Feed { voucher, .. }) | Word::Voucher(voucher) => {
                let first = self.voucher.get_or_insert_with(|| voucher.clone());
                Word::Voucher(Voucher { slot: voucher.slot, ..first.clone() })
            }
            Word::Claim(claim) => {
                let slot = *self.claim.get_or_insert(claim.slot);
                Word::Claim(Claim { slot, ..*claim })
            }
            Word::State(answer @ StateAnswer::Head(..)) => {
                Word::State(self.head.get_or_insert_with(|| answer.clone()).clone())
            }
            other => other.clone(),
        })
    }
}

/// State that is not what its head or its certificate says, or none at all.
fn forge_state(answer: &StateAnswer, chance: &mut dyn Chance) -> StateAnswer {
    match answer {
        StateAnswer::Head(certificate, head, summaries) => {
            let mut head = *head;
            head.service = Digest::of(&head.service.0);
            StateAnswer::Head(certificate.clone(), head, summaries.clone())
        }
        StateAnswer::Nodes { slot, nodes, .. } => {
            let forged =
                if nodes.is_empty() { None } else { upstream::other_state(answer, chance) };
            forged.unwrap_or(StateAnswer::Gone(*slot))
        }
        StateAnswer::Gone(slot) => StateAnswer::Gone(*slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_contracts::Batch;
    use testudo_core::{Kind, Message as _, Protocol, Time, View};
    use testudo_replication::Tree;
    use testudo_sim::rng::Rng;
    use testudo_state::Map;
    use testudo_state::sync::Place;

    type Word = ReplicaMessage<<testudo_catalog::testudo_pbft::Pbft as Protocol>::Message>;

    /// Words are the same when they travel as the same bytes.
    fn shown(word: &Word) -> (Kind, Vec<u8>) {
        let mut body = Vec::new();
        word.encode_body(&mut body);
        (word.kind(), body)
    }

    fn voucher(slot: u64) -> Voucher {
        let digest = |what: &str| Digest::of(format!("{what} {slot}").as_bytes());
        let (chain, outcome) = (digest("chain"), digest("outcome"));
        Voucher { slot: Slot(slot), chain, outcome, view: View(0) }
    }

    fn feed(slot: u64) -> Word {
        let bundles = vec![Digest::of(b"one"), Digest::of(b"two")];
        let batch = Batch { bundles, time: Time(slot), gap_not_counted: false };
        Word::Feed(Feed { voucher: voucher(slot), batch, bodies: Vec::new() })
    }

    /// One of each kind of word.
    fn words(slot: u64) -> Vec<Word> {
        let slot_ = Slot(slot);
        let mut map = Map::new();
        map.insert([7; 20], [slot as u8; 20].into());
        let nodes = map.nodes(&[Place::root()], 1 << 10);
        let nodes = StateAnswer::Nodes { slot: slot_, tree: Tree::Service, nodes };
        vec![
            feed(slot),
            Word::Voucher(voucher(slot)),
            Word::Claim(Claim { round: slot, slot: slot_ }),
            Word::State(nodes),
        ]
    }

    #[test]
    fn a_corrupt_liar_never_tells_the_truth() {
        let mut chance = Rng::new(1);
        let mut liar = ToLearners::new(Lie::Corrupt);
        for slot in 1..50 {
            for word in words(slot) {
                assert!(ToLearners::concerns(&word));
                let said = liar.say(&word, &mut chance);
                assert_eq!(said.len(), 1);
                assert_ne!(shown(&said[0]), shown(&word));
                if let (Word::Claim(said), Word::Claim(truth)) = (&said[0], &word) {
                    assert!(said.round == truth.round && said.slot > truth.slot);
                }
            }
        }
    }

    #[test]
    fn a_stale_liar_stays_where_it_was() {
        let mut chance = Rng::new(1);
        let mut liar = ToLearners::new(Lie::Stale);
        for slot in 5..9 {
            let said = liar.say(&feed(slot), &mut chance);
            let old = Voucher { slot: Slot(slot), ..voucher(5) };
            assert_eq!(said.len(), 1);
            assert_eq!(shown(&said[0]), shown(&Word::Voucher(old)));
            let claim = Word::Claim(Claim { round: slot, slot: Slot(slot) });
            let old = Word::Claim(Claim { round: slot, slot: Slot(5) });
            assert_eq!(shown(&liar.say(&claim, &mut chance)[0]), shown(&old));
        }
    }

    #[test]
    fn who_equivocates_says_both_and_who_is_silent_neither() {
        let mut chance = Rng::new(1);
        let mut two_faced = ToLearners::new(Lie::Equivocate);
        let mut silent = ToLearners::new(Lie::Silent);
        for word in words(3) {
            let said = two_faced.say(&word, &mut chance);
            let said: Vec<_> = said.iter().map(shown).collect();
            assert!(said.len() == 2 && said[0] != said[1], "{said:?}");
            assert!(said.contains(&shown(&word)), "{said:?}");
            assert!(silent.say(&word, &mut chance).is_empty());
        }
    }
}
