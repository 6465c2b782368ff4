//! What the automaton says, from the effect to the frame.
//!
//! A letter is sealed on the host's own thread, and while the flush that it waits for is under way: a signature costs
//! less than handing the message to another thread and back, what an automaton says to itself needs no hop at all, and
//! the order towards each peer is kept without any care. Sealed is not said: the gate still holds the frame until all
//! that it rests on is durable.

use crate::carrier::frame;
use crate::voice::Voice;
use bytes::Bytes;
use std::sync::Arc;
use testudo_core::{Message, Peer, ReplicaId, Signer, Target, Verified, limits};

/// A signer that threads hand around.
pub(crate) type SharedSigner = Arc<dyn Signer + Send + Sync>;

/// What a liar says instead, and to whom: for demonstrations on one's own machine. It is asked for every peer that a
/// message goes to, oneself included.
pub type Outgoing<M> = Box<dyn FnMut(Peer, M) -> Vec<(Peer, M)> + Send>;

/// A message on its way out.
pub(crate) enum Letter<M> {
    /// As the automaton said it, in the voice that it had then, whatever members come later.
    Open { to: Target, message: M, voice: Arc<Voice> },
    /// As it will travel.
    Sealed(Sealed<M>),
}

/// A message as it will travel.
pub(crate) struct Sealed<M> {
    /// What goes to others.
    pub(crate) parcels: Vec<(Peer, Bytes)>,
    /// What the automaton says to itself.
    pub(crate) own: Vec<Verified<M>>,
}

/// Seals letters under one name.
pub(crate) struct Sealer<M> {
    pub(crate) me: Peer,
    pub(crate) outgoing: Option<Outgoing<M>>,
}

impl<M: Message> Sealer<M> {
    /// Seals a letter that is not sealed yet.
    pub(crate) fn seal(&mut self, letter: Letter<M>) -> Sealed<M> {
        let (to, message, voice) = match letter {
            Letter::Sealed(sealed) => return sealed,
            Letter::Open { to, message, voice } => (to, message, voice),
        };
        let peers = self.addressees(to, voice.replicas);
        let mut sealed = Sealed { parcels: Vec::with_capacity(peers.len()), own: Vec::new() };
        match self.outgoing.take() {
            None => self.address(&mut sealed, &peers, message, &voice),
            Some(mut outgoing) => {
                for peer in peers {
                    for (peer, message) in outgoing(peer, message.clone()) {
                        self.address(&mut sealed, &[peer], message, &voice);
                    }
                }
                self.outgoing = Some(outgoing);
            }
        }
        sealed
    }

    fn addressees(&self, to: Target, replicas: usize) -> Vec<Peer> {
        let all = (0..replicas).map(|id| Peer::Replica(ReplicaId(id as u16)));
        match to {
            Target::Peer(peer) => vec![peer],
            Target::Replicas => all.collect(),
            Target::Others => all.filter(|peer| *peer != self.me).collect(),
        }
    }

    /// One signature and one encoding, however many it goes to.
    fn address(&self, sealed: &mut Sealed<M>, peers: &[Peer], message: M, voice: &Voice) {
        if !voice.can_say(&message) {
            tracing::error!(
                kind = message.name(),
                "a message is not sent, as this node does not have the voting key that the membership names"
            );
            return;
        }
        let verified = Verified::seal(message, self.me, voice.domain, &*voice.signer);
        let mut bytes = None;
        for peer in peers.iter().filter(|peer| **peer != self.me) {
            let bytes = bytes.get_or_insert_with(|| frame(&verified.signed()));
            if bytes.len() > limits::FRAME_BYTES {
                tracing::error!(
                    kind = verified.message().name(),
                    bytes = bytes.len(),
                    "a message is longer than a frame may be, and is not sent"
                );
                return;
            }
            sealed.parcels.push((*peer, bytes.clone()));
        }
        if peers.contains(&self.me) {
            sealed.own.push(verified);
        }
    }
}

impl<M> Sealed<M> {
    /// Nothing, to nobody.
    pub(crate) const fn empty() -> Self {
        Self { parcels: Vec::new(), own: Vec::new() }
    }
}
