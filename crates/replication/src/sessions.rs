//! Exactly once.
//!
//! Sessions are opened through the log and live in the replicated state, beside the keys that are admitted: in its
//! digest, in snapshots and transfers. A session remembers the replies of its last few bundles. Numbers of sessions are
//! never used twice, so that after an eviction no request of that session can ever execute: its number is unknown,
//! even if the same client opens another one.
//!
//! An opening is executed once too. Whoever has one, a replica that lies or anybody who heard it, may bring it up again when
//! its session is long evicted, and each new session evicts another. So the nonces of a client's openings grow, and
//! one that is not above all before it opens nothing.
//!
//! All of it is entries of one map, [`System`], so that a copy costs nothing and a bundle touches a handful of them:
//!
//! - `a` client: the client's key is admitted;
//! - `c`: counters of sessions opened, of uses, and of those open;
//! - `n` client nonce: the number of the session that this nonce opened;
//! - `o` client: the highest nonce of its openings;
//! - `r` number sequence: what a bundle came to;
//! - `s` number: the session;
//! - `u` use: the number of the session that was used last then, the least recently used first.
//!
//! Two more kinds say who orders ([`crate::members`]).
//!
//! Numbers in keys are big-endian, so that their order is the map's. What cannot be read is as if it were not there:
//! nobody but this module writes here, and what is transferred is what a quorum has signed.

use crate::message::ReplyBody;
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;
use testudo_contracts::{Reading, Store};
use testudo_core::{
    Decode, DecodeError, Digest, Encode, Membership, PublicKey, Reader, Slot, limits, wire_struct,
};
use testudo_state::Map;

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

impl Encode for Remembered {
    fn encode(&self, out: &mut Vec<u8>) {
        self.bundle.encode(out);
        self.slot.encode(out);
        self.body.encode(out);
    }
}
impl Decode for Remembered {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (bundle, slot) = (Digest::decode(reader)?, Slot::decode(reader)?);
        let body = Arc::<[u8]>::decode(reader)?;
        Ok(Self { bundle, slot, results: Digest::of(&body), body })
    }
}

#[derive(Clone, Copy, Default)]
struct Counters {
    /// Sessions opened so far: the last number given.
    opened: u64,
    /// Uses so far, of all sessions: a clock for eviction.
    uses: u64,
    /// Sessions that are open.
    open: u64,
}
wire_struct!(Counters { opened, uses, open });

#[derive(Clone)]
struct Session {
    client: PublicKey,
    nonce: u64,
    /// The order of its last use among all sessions' uses.
    used: u64,
    /// Every sequence number up to this one is over. Replies are remembered for numbers above it, and at most
    /// `SESSION_WINDOW` beyond it.
    floor: u64,
    /// Bytes of all replies that are remembered.
    bytes: u64,
    /// What its opening came to, for retries of the opening.
    opening: Remembered,
}
wire_struct!(Session { client, nonce, used, floor, bytes, opening });

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

/// All sessions, and the keys that may open them.
#[derive(Clone, Debug)]
pub struct System {
    map: Map,
}

impl From<Map> for System {
    fn from(map: Map) -> Self {
        Self { map }
    }
}

impl System {
    /// The state that everything starts from: these order, these keys are admitted, and no session is open.
    #[must_use]
    pub fn genesis(clients: &BTreeSet<PublicKey>, membership: &Membership) -> Self {
        let mut system = Self::from(Map::new());
        system.found(membership);
        for client in clients {
            system.map.put(&key(b'a', &client.0, &[]), Arc::from([]));
        }
        system
    }

    /// Its entries.
    #[must_use]
    pub const fn map(&self) -> &Map {
        &self.map
    }

    /// Whether this key is admitted.
    #[must_use]
    pub fn admits(&self, client: PublicKey) -> bool {
        Reading::get(&self.map, &key(b'a', &client.0, &[])).is_some()
    }

    /// Opens a session for `client`, or gives what an earlier opening with that nonce came to while it is open, and
    /// says whether it is new. Evicts the least recently used session when there are too many. A nonce that is not above
    /// all before it opens nothing.
    pub fn register(
        &mut self,
        client: PublicKey,
        nonce: u64,
        bundle: Digest,
        slot: Slot,
    ) -> (Remembered, bool) {
        if let Some(opening) = self.opening(client, nonce) {
            return (opening, false);
        }
        if let Some(highest) = self.newest_opening(client).filter(|highest| nonce <= *highest) {
            return (Remembered::new(bundle, slot, &ReplyBody::Superseded(highest)), false);
        }
        self.evict_for(client);
        let mut counters = self.counters();
        counters.opened += 1;
        counters.uses += 1;
        counters.open += 1;
        let (number, used) = (counters.opened, counters.uses);
        let opening = Remembered::new(bundle, slot, &ReplyBody::Registered(number));
        let session = Session { client, nonce, used, floor: 0, bytes: 0, opening: opening.clone() };
        self.write(&key(b'c', &[], &[]), &counters);
        self.write(&key(b'n', &client.0, &[nonce]), &number);
        self.write(&key(b'o', &client.0, &[]), &nonce);
        self.write(&key(b's', &[], &[number]), &session);
        self.write(&key(b'u', &[], &[used]), &number);
        (opening, true)
    }

    /// Makes room for one more session of `client`. Which one goes is a function of the log alone.
    fn evict_for(&mut self, client: PublicKey) {
        let mut own = Vec::new();
        self.visit(&key(b'n', &client.0, &[]), |_, number| {
            own.extend(u64::from_bytes(number));
            true
        });
        let mut oldest = None;
        if own.len() >= limits::SESSIONS_PER_CLIENT {
            oldest = own.into_iter().min_by_key(|number| self.session(*number).map(|s| s.used));
        } else if self.len() >= limits::SESSIONS {
            self.visit(&key(b'u', &[], &[]), |_, number| {
                oldest = u64::from_bytes(number).ok();
                false
            });
        }
        if let Some(number) = oldest {
            self.evict(number);
        }
    }

    fn evict(&mut self, number: u64) {
        let Some(session) = self.session(number) else { return };
        let mut replies = Vec::new();
        self.visit(&key(b'r', &[], &[number]), |reply, _| {
            replies.push(reply.to_vec());
            true
        });
        for reply in replies {
            self.map.delete(&reply);
        }
        self.map.delete(&key(b's', &[], &[number]));
        self.map.delete(&key(b'n', &session.client.0, &[session.nonce]));
        self.map.delete(&key(b'u', &[], &[session.used]));
        let mut counters = self.counters();
        counters.open = counters.open.saturating_sub(1);
        self.write(&key(b'c', &[], &[]), &counters);
    }

    /// Whether a bundle of operations is to be executed.
    #[must_use]
    pub fn admit(
        &self,
        client: PublicKey,
        number: u64,
        sequence: u64,
        bundle: Digest,
    ) -> Admission {
        let Some(session) = self.session(number).filter(|session| session.client == client) else {
            return Admission::Refuse(ReplyBody::NoSession);
        };
        match self.read::<Remembered>(&key(b'r', &[], &[number, sequence])) {
            Some(remembered) if remembered.bundle == bundle => Admission::Repeat(remembered),
            // Another bundle under a number that is taken: a client that contradicts itself.
            Some(_) => Admission::Refuse(ReplyBody::Stale),
            None if sequence <= session.floor => Admission::Refuse(ReplyBody::Stale),
            None => Admission::Execute,
        }
    }

    /// Remembers what an admitted bundle came to. The window moves with the highest sequence number, so a client uses
    /// no number before all that it would leave behind are answered. Replies beyond the limit of bytes are forgotten,
    /// the oldest first, but never the latest.
    pub fn remember(&mut self, number: u64, sequence: u64, remembered: &Remembered) {
        let Some(mut session) = self.session(number) else { return };
        self.map.delete(&key(b'u', &[], &[session.used]));
        let mut counters = self.counters();
        counters.uses += 1;
        session.used = counters.uses;
        self.write(&key(b'c', &[], &[]), &counters);
        self.write(&key(b'u', &[], &[session.used]), &number);
        let reply = remembered.to_bytes();
        session.bytes += reply.len() as u64;
        self.map.put(&key(b'r', &[], &[number, sequence]), reply.into());
        session.floor = session.floor.max(sequence.saturating_sub(limits::SESSION_WINDOW));
        self.forget(number, &mut session);
        self.write(&key(b's', &[], &[number]), &session);
    }

    /// Lets go of the replies at and below the floor, and of those beyond the limit of bytes, which raise it.
    fn forget(&mut self, number: u64, session: &mut Session) {
        let mut replies = Vec::new();
        self.visit(&key(b'r', &[], &[number]), |key, reply| {
            let sequence = key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            replies.extend(sequence.map(|sequence| (sequence, reply.len() as u64)));
            true
        });
        let latest = replies.len().saturating_sub(1);
        for (index, (sequence, bytes)) in replies.into_iter().enumerate() {
            let is_too_much = session.bytes > limits::SESSION_REPLY_BYTES as u64 && index < latest;
            if sequence > session.floor && !is_too_much {
                break;
            }
            session.floor = session.floor.max(sequence);
            session.bytes = session.bytes.saturating_sub(bytes);
            self.map.delete(&key(b'r', &[], &[number, sequence]));
        }
    }

    /// The opening that a client's nonce came to, while that session is open.
    #[must_use]
    pub fn opening(&self, client: PublicKey, nonce: u64) -> Option<Remembered> {
        let number = self.read::<u64>(&key(b'n', &client.0, &[nonce]))?;
        self.session(number).map(|session| session.opening)
    }

    /// The highest nonce of a client's openings, its session open or evicted.
    #[must_use]
    pub fn newest_opening(&self, client: PublicKey) -> Option<u64> {
        self.read(&key(b'o', &client.0, &[]))
    }

    /// How many sessions were ever opened: the number of the last one.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.counters().opened
    }

    /// How many sessions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counters().open as usize
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The digest of everything here.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.map.digest()
    }

    fn counters(&self) -> Counters {
        self.read(&key(b'c', &[], &[])).unwrap_or_default()
    }

    fn session(&self, number: u64) -> Option<Session> {
        self.read(&key(b's', &[], &[number]))
    }

    pub(crate) fn read<T: Decode>(&self, key: &[u8]) -> Option<T> {
        Reading::get(&self.map, key).and_then(|value| T::from_bytes(&value).ok())
    }

    pub(crate) fn write(&mut self, key: &[u8], value: &impl Encode) {
        self.put(key, value.to_bytes().into());
    }

    pub(crate) fn put(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.map.put(key, value);
    }

    /// Visits the entries whose keys begin like this, in ascending order, until `visit` says false.
    fn visit(&self, prefix: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> bool) {
        self.map.scan(Bound::Included(prefix), Bound::Unbounded, false, &mut |key, value| {
            key.starts_with(prefix) && visit(key, value)
        });
    }
}

/// A key: its kind, a client's key if it has one, and numbers in the order of the map.
pub(crate) fn key(kind: u8, client: &[u8], numbers: &[u64]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + client.len() + 8 * numbers.len());
    key.push(kind);
    key.extend_from_slice(client);
    numbers.iter().for_each(|number| key.extend_from_slice(&number.to_be_bytes()));
    key
}
