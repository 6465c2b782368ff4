//! From what a node wants to say to packets on the wire.

use super::{Frame, Packet, Pending, System, World, each_host};
use crate::adversary::{Saying, Words};
use crate::event::{Event, Letter, NodeId};
use crate::host::Place;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;
use testudo_core::codec::encode_bytes;
use testudo_core::{
    Decode, Encode, Header, Message, Peer, Proof, PublicKey, ReplicaId, Signed, Signer, Strength,
    Target, Verified, limits,
};

/// What a letter is called that a liar only hands on, or makes up.
const HANDED_ON: &str = "handed on";
/// What a letter is called that is signed with a voting key out of use.
pub(crate) const STOLEN: &str = "stolen key";

impl<S: System> World<S> {
    pub(super) fn say(&mut self, node: NodeId, to: Target, message: S::Message, place: &Place) {
        let me = self.nodes[node.index()].peer;
        let members = place.membership.replicas().map(Peer::Replica);
        let peers: Vec<Peer> = match to {
            Target::Peer(peer) => vec![peer],
            Target::Replicas => members.collect(),
            Target::Others => members.filter(|peer| *peer != me).collect(),
        };
        if self.nodes[node.index()].adversary.is_some() {
            for (index, peer) in peers.into_iter().enumerate() {
                if index > 0 && self.is_cut_short(node) {
                    return;
                }
                self.lie(node, peer, &message, place);
            }
            return;
        }
        let Some(sealed) = self.seal(node, message, place) else { return };
        self.charge_for_saying(node, &sealed, peers.len());
        let frame = own_frame(node, &sealed);
        for (index, peer) in peers.into_iter().enumerate() {
            if index > 0 && self.is_cut_short(node) {
                return;
            }
            self.post(node, peer, &frame, Some(&sealed), Duration::ZERO);
        }
    }

    /// What a faulty node says instead. To itself it speaks the truth: its automaton is a correct one.
    fn lie(&mut self, node: NodeId, to: Peer, message: &S::Message, place: &Place) {
        let me = self.nodes[node.index()].peer;
        if to == me {
            self.say_own(node, to, message.clone(), Duration::ZERO, place);
            return;
        }
        let Some(mut adversary) = self.nodes[node.index()].adversary.take() else { return };
        let sayings = adversary.outgoing(to, message.clone(), &mut self.rng);
        let name = adversary.name();
        self.nodes[node.index()].adversary = Some(adversary);
        if !is_truth(&sayings, to, message) {
            self.record(&Event::Lied(node, name));
            if twists(&sayings, message) {
                let kind = (message.protocol(), message.name());
                *self.twisted.entry(kind).or_default() += 1;
            }
        }
        for saying in sayings {
            self.say_falsely_in(node, saying, place);
        }
    }

    /// Something that no step of the node's automaton asked for.
    pub(super) fn say_falsely(&mut self, node: NodeId, saying: Saying<S::Message>) {
        let place = each_host!(&self.nodes[node.index()].body, host => host.place.clone());
        self.say_falsely_in(node, saying, &place);
    }

    fn say_falsely_in(&mut self, node: NodeId, saying: Saying<S::Message>, place: &Place) {
        match saying.words {
            Words::Own(message) => self.say_own(node, saying.to, message, saying.after, place),
            Words::Frame(signed) => {
                let frame = foreign_frame(node, HANDED_ON, signed);
                self.post(node, saying.to, &frame, None, saying.after);
            }
            Words::Stolen(message) => {
                self.say_stolen(node, saying.to, &message, saying.after, place);
            }
            Words::Spoilt(message) => {
                let Some(sealed) = self.seal(node, message, place) else { return };
                let frame = own_frame(node, &sealed);
                let frame = frame.spoilt().unwrap_or(frame);
                self.post(node, saying.to, &frame, None, saying.after);
            }
            Words::Noise(protocol, kind, strength, body) => {
                let header = Header {
                    domain: place.domain,
                    protocol,
                    kind,
                    sender: self.nodes[node.index()].peer,
                };
                if let Some(signed) = self.seal_noise(node, header, strength, &body, place) {
                    let frame = foreign_frame(node, HANDED_ON, signed);
                    self.post(node, saying.to, &frame, None, saying.after);
                }
            }
        }
    }

    /// Says something as each replica that has come back, under every voting key that it has voted with before: the first
    /// one, and those that were made on disks that it has lost.
    fn say_stolen(
        &mut self,
        node: NodeId,
        to: Peer,
        message: &S::Message,
        after: Duration,
        place: &Place,
    ) {
        let me = self.nodes[node.index()].peer;
        for (index, key) in self.retired(place) {
            let victim = Peer::Replica(ReplicaId(index as u16));
            let Some(stolen) = self.keys.signer(&key) else { continue };
            if victim != me {
                let sealed = Verified::seal(message.clone(), victim, place.domain, &stolen);
                let frame = foreign_frame(node, STOLEN, sealed.signed());
                self.post(node, to, &frame, None, after);
            }
        }
    }

    /// The voting keys that members had in earlier incarnations than they have there, each with its member's place.
    fn retired(&self, place: &Place) -> BTreeSet<(usize, PublicKey)> {
        let rolls = self.rolls.borrow();
        let all = rolls.iter().flat_map(|roll| roll.members.iter().enumerate());
        all.filter(|(index, then)| {
            let now = place.membership.members.get(*index);
            now.is_some_and(|now| then.incarnation < now.incarnation)
        })
        .map(|(index, then)| (index, then.voting))
        .collect()
    }

    /// A frame around any bytes, with the node's own proof.
    fn seal_noise(
        &self,
        node: NodeId,
        header: Header,
        strength: Strength,
        body: &[u8],
        place: &Place,
    ) -> Option<Signed<S::Message>> {
        let pen = each_host!(&self.nodes[node.index()].body, host => host.pen(place));
        let digest = header.digest(body);
        let proof = match strength {
            Strength::Channel => Proof::Channel,
            Strength::Signature => Proof::Signature(pen.sign(&digest)),
            Strength::Identity => Proof::Signature(pen.certify(&digest)),
        };
        let mut frame = vec![limits::FORMAT_VERSION];
        header.encode(&mut frame);
        proof.encode(&mut frame);
        encode_bytes(body, &mut frame);
        Signed::from_bytes(&frame).ok()
    }

    fn say_own(
        &mut self,
        node: NodeId,
        to: Peer,
        message: S::Message,
        after: Duration,
        place: &Place,
    ) {
        let Some(sealed) = self.seal(node, message, place) else { return };
        let frame = own_frame(node, &sealed);
        self.post(node, to, &frame, Some(&sealed), after);
    }

    /// What a node lacks the key for stays unsaid.
    fn seal(
        &self,
        node: NodeId,
        message: S::Message,
        place: &Place,
    ) -> Option<Verified<S::Message>> {
        let pen = each_host!(&self.nodes[node.index()].body, host => host.pen(place));
        let is_unable = message.strength() == Strength::Signature && pen.voting.is_none();
        let peer = self.nodes[node.index()].peer;
        (!is_unable).then(|| Verified::seal(message, peer, place.domain, &pen))
    }

    /// Puts a frame on the wire, to each copy of the receiver that this sender talks to.
    fn post(
        &mut self,
        from: NodeId,
        to: Peer,
        frame: &Rc<Frame<S::Message>>,
        sealed: Option<&Verified<S::Message>>,
        after: Duration,
    ) {
        for receiver in self.route(from, to) {
            self.letters += 1;
            let letter = Letter { number: self.letters, to: receiver, ..frame.letter };
            let own = sealed.filter(|_| receiver == from).cloned().map(Rc::new);
            self.record(&Event::Sent(letter));
            let ordinal = (false, self.ordinals.next((from, receiver), letter.name, false));
            self.ordinals.posts(&letter, ordinal);
            let packet = Packet { frame: frame.clone(), letter, own, ordinal };
            self.wire.insert(letter.number, packet);
            self.pending.push(Pending::Packet(letter.number, after));
        }
    }

    /// Twins share the cluster between them: each peer talks to one copy, and hears of one.
    fn route(&self, from: NodeId, to: Peer) -> Vec<NodeId> {
        let sender = &self.nodes[from.index()];
        if sender.peer == to {
            return vec![from];
        }
        let with_second = |peer: &Peer| self.second_side.contains(peer);
        if let Some(side) = sender.side
            && with_second(&to) != side
        {
            return Vec::new();
        }
        let copies = self.addresses.get(&to).map(Vec::as_slice).unwrap_or_default();
        let reached = |copy: &NodeId| {
            self.nodes[copy.index()].side.is_none_or(|side| side == with_second(&sender.peer))
        };
        copies.iter().copied().filter(reached).collect()
    }
}

fn own_frame<M: Message>(from: NodeId, sealed: &Verified<M>) -> Rc<Frame<M>> {
    let letter = Letter {
        number: 0,
        from,
        to: from,
        sender: sealed.sender(),
        name: sealed.message().name(),
        digest: sealed.digest(),
    };
    Rc::new(Frame {
        signed: sealed.signed(),
        letter,
        verified: RefCell::new(None),
        checks: Cell::new(0),
    })
}

/// Of a frame that is handed on only the bytes are known: what is in them, whoever gets it verifies. Its digest is what its
/// signature covers, as everybody else's is.
fn foreign_frame<M: Message>(from: NodeId, name: &'static str, signed: Signed<M>) -> Rc<Frame<M>> {
    let letter = Letter {
        number: 0,
        from,
        to: from,
        sender: signed.header().sender,
        name,
        digest: signed.digest(),
    };
    Rc::new(Frame { signed, letter, verified: RefCell::new(None), checks: Cell::new(0) })
}

fn body_of<M: Message>(message: &M) -> Vec<u8> {
    let mut body = Vec::new();
    message.encode_body(&mut body);
    body
}

/// Whether a faulty node says something of the same kind that its automaton did not want to say.
fn twists<M: Message>(sayings: &[Saying<M>], message: &M) -> bool {
    let truth = body_of(message);
    sayings.iter().any(|saying| match &saying.words {
        Words::Own(said) => {
            let is_alike = said.protocol() == message.protocol() && said.kind() == message.kind();
            is_alike && body_of(said) != truth
        }
        _ => false,
    })
}

/// Whether what a faulty node says is exactly what its automaton wanted to say.
fn is_truth<M: Message>(sayings: &[Saying<M>], to: Peer, message: &M) -> bool {
    let [Saying { to: receiver, words: Words::Own(said), after }] = sayings else { return false };
    *receiver == to
        && after.is_zero()
        && said.kind() == message.kind()
        && body_of(said) == body_of(message)
}

impl<M: Message> Frame<M> {
    /// The same with another signature; none if it has none.
    pub(super) fn spoilt(&self) -> Option<Rc<Self>> {
        let mut header = vec![limits::FORMAT_VERSION];
        self.signed.header().encode(&mut header);
        let mut bytes = self.signed.to_bytes();
        if bytes.get(header.len()..)?.starts_with(&Proof::Channel.to_bytes()) {
            return None;
        }
        // The proof's own tag comes first.
        *bytes.get_mut(header.len() + 1)? ^= 1;
        let signed = Signed::from_bytes(&bytes).ok()?;
        let (verified, checks) = (RefCell::new(None), Cell::new(0));
        Some(Rc::new(Self { signed, letter: self.letter, verified, checks }))
    }
}
