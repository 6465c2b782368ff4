//! Exactly once.
//!
//! Sessions are opened through the log and live in the replicated state: in its digest, in snapshots and transfers. A
//! session remembers the replies of its last few bundles. Numbers of sessions are never used twice, so that after an
//! eviction no request of that session can ever execute: its number is unknown, even if the same client opens
//! another one with the same nonce.

use crate::message::ReplyBody;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use testudo_core::digest::Hasher;
use testudo_core::{Digest, Encode, PublicKey, Slot, limits};

/// What a session remembers of a bundle that it has executed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    /// The bundle's digest.
    pub bundle: Digest,
    /// The slot that it was executed in.
    pub slot: Slot,
    /// Its encoded [`ReplyBody`].
    pub body: Arc<[u8]>,
    /// The digest of that.
    pub results: Digest,
}

impl Remembered {
    /// The memory of a bundle that came to `body` in `slot`.
    #[must_use]
    pub fn new(bundle: Digest, slot: Slot, body: &ReplyBody) -> Self {
        let body: Arc<[u8]> = body.to_bytes().into();
        Self { bundle, slot, results: Digest::of(&body), body }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Session {
    client: PublicKey,
    nonce: u64,
    /// What its opening came to, for retries of the opening.
    opening: Remembered,
    /// The order of its last use among all sessions' uses.
    used: u64,
    /// Every sequence number up to this one is over.
    floor: u64,
    /// Executed bundles above the floor. Invariant: all keys are above `floor` and at most `floor + SESSION_WINDOW`.
    done: BTreeMap<u64, Remembered>,
}

/// Whether a bundle is to be executed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admission {
    /// It is: nothing was executed under this number before.
    Execute,
    /// It was executed before; this was its reply.
    Repeat(Remembered),
    /// It cannot be; this is why.
    Refuse(ReplyBody),
}

/// All sessions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sessions {
    /// Sessions opened so far: the last number given.
    opened: u64,
    /// Uses so far, of all sessions: a clock for eviction.
    uses: u64,
    open: BTreeMap<u64, Session>,
}

impl Sessions {
    /// Opens a session for `client`, or gives what an earlier opening with that nonce came to while it is open, and
    /// says whether it is new. Evicts the least recently used session when there are too many.
    pub fn register(
        &mut self,
        client: PublicKey,
        nonce: u64,
        bundle: Digest,
        slot: Slot,
    ) -> (Remembered, bool) {
        if let Some(session) = self.open.values().find(|s| s.client == client && s.nonce == nonce) {
            return (session.opening.clone(), false);
        }
        self.evict_for(client);
        self.opened += 1;
        self.uses += 1;
        let opening = Remembered::new(bundle, slot, &ReplyBody::Registered(self.opened));
        let session = Session {
            client,
            nonce,
            opening: opening.clone(),
            used: self.uses,
            floor: 0,
            done: BTreeMap::new(),
        };
        self.open.insert(self.opened, session);
        (opening, true)
    }

    /// Makes room for one more session of `client`. Which one goes is a function of the log alone.
    fn evict_for(&mut self, client: PublicKey) {
        let own = self.open.values().filter(|session| session.client == client).count();
        let among =
            |session: &Session| own < limits::SESSIONS_PER_CLIENT || session.client == client;
        if own < limits::SESSIONS_PER_CLIENT && self.open.len() < limits::SESSIONS {
            return;
        }
        let oldest = self.open.iter().filter(|(_, s)| among(s)).min_by_key(|(_, s)| s.used);
        if let Some(number) = oldest.map(|(number, _)| *number) {
            self.open.remove(&number);
        }
    }

    /// Whether a bundle of operations is to be executed.
    #[must_use]
    pub fn admit(
        &self,
        client: PublicKey,
        session: u64,
        sequence: u64,
        bundle: Digest,
    ) -> Admission {
        let Some(session) = self.open.get(&session).filter(|session| session.client == client)
        else {
            return Admission::Refuse(ReplyBody::NoSession);
        };
        match session.done.get(&sequence) {
            Some(remembered) if remembered.bundle == bundle => {
                Admission::Repeat(remembered.clone())
            }
            // Another bundle under a number that is taken: a client that contradicts itself.
            Some(_) => Admission::Refuse(ReplyBody::Stale),
            None if sequence <= session.floor => Admission::Refuse(ReplyBody::Stale),
            None => Admission::Execute,
        }
    }

    /// Remembers what an admitted bundle came to. The window moves with the highest sequence number, so a client uses
    /// no number before all that it would leave behind are answered. Replies beyond the limit of bytes are forgotten,
    /// the oldest first, but never the latest.
    pub fn remember(&mut self, session: u64, sequence: u64, remembered: Remembered) {
        self.uses += 1;
        let uses = self.uses;
        let Some(session) = self.open.get_mut(&session) else { return };
        session.used = uses;
        session.done.insert(sequence, remembered);
        session.floor = session.floor.max(sequence.saturating_sub(limits::SESSION_WINDOW));
        session.done = session.done.split_off(&session.floor.saturating_add(1));
        let mut bytes: usize = session.done.values().map(|remembered| remembered.body.len()).sum();
        while bytes > limits::SESSION_REPLY_BYTES && session.done.len() > 1 {
            let Some((oldest, forgotten)) = session.done.pop_first() else { break };
            session.floor = oldest;
            bytes -= forgotten.body.len();
        }
    }

    /// The opening that a client's nonce came to, while that session is open.
    #[must_use]
    pub fn opening(&self, client: PublicKey, nonce: u64) -> Option<&Remembered> {
        let session = self.open.values().find(|s| s.client == client && s.nonce == nonce)?;
        Some(&session.opening)
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The digest of everything here. Replies enter by their digests.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        let mut out = alloc::vec::Vec::new();
        (self.opened, self.uses).encode(&mut out);
        for (number, session) in &self.open {
            number.encode(&mut out);
            session.client.encode(&mut out);
            (session.nonce, session.used).encode(&mut out);
            session.floor.encode(&mut out);
            encode_remembered(&session.opening, &mut out);
            (session.done.len() as u64).encode(&mut out);
            for (sequence, remembered) in &session.done {
                sequence.encode(&mut out);
                encode_remembered(remembered, &mut out);
            }
        }
        hasher.update(&out);
        hasher.finish()
    }
}

fn encode_remembered(remembered: &Remembered, out: &mut alloc::vec::Vec<u8>) {
    remembered.bundle.encode(out);
    remembered.slot.encode(out);
    remembered.results.encode(out);
}
