//! Between the automaton's host and its peers: who counts at the moment, and what carries frames.

use crate::sync::lock;
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use testudo_core::{
    Context, Domain, Encode, Membership, Message, Peer, Signed, Verified, Verifier,
};

/// A verifier that many threads share.
pub(crate) type SharedVerifier = Arc<dyn Verifier + Send + Sync>;

/// Whose statements count, and where: what verification and addressing are functions of.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Cluster, group and epoch.
    pub(crate) domain: Domain,
    /// The members of that epoch.
    pub(crate) membership: Membership,
}

impl Scope {
    /// The context for verifying one frame.
    pub(crate) fn context<'a>(&'a self, verifier: &'a dyn Verifier) -> Context<'a> {
        Context { domain: self.domain, membership: &self.membership, verifier }
    }
}

/// The scope of the moment, which a change of membership replaces.
#[derive(Debug)]
pub(crate) struct CurrentScope(Mutex<Arc<Scope>>);

impl CurrentScope {
    /// The scope to begin with.
    #[must_use]
    pub(crate) fn new(scope: Scope) -> Self {
        Self(Mutex::new(Arc::new(scope)))
    }
    /// The scope of the moment.
    #[must_use]
    pub(crate) fn get(&self) -> Arc<Scope> {
        lock(&self.0).clone()
    }
    /// From here on this one.
    pub(crate) fn set(&self, scope: Scope) {
        *lock(&self.0) = Arc::new(scope);
    }
}

/// Carries frames to peers. A host calls it from its own thread and is never made to wait.
pub(crate) trait Carrier: Send + Sync + 'static {
    /// Queues a frame, its length before it. Past the limits of the peer's queue the oldest is dropped.
    fn send(&self, to: Peer, frame: Bytes);
    /// What was queued since the last time may leave: one wake for many frames.
    fn flush(&self);
    /// The members have changed.
    fn members(&self, scope: &Scope);
    /// Nothing more comes from this node: its channels end once what is queued is written.
    fn stop(&self);
    /// The inbox has room again for these senders.
    fn relieve(&self, senders: &[Peer]);
}

/// Where verified messages go.
pub(crate) trait Sink<M>: Send + Sync {
    /// How many more messages of this sender fit; with none, [`Carrier::relieve`] says when some do.
    fn room(&self, sender: Peer) -> usize;
    /// Takes messages that this peer brought.
    fn deliver(&self, via: Peer, messages: Vec<Verified<M>>);
}

/// The frame of a sealed message as it stands on the wire: its length, then itself.
pub(crate) fn frame<M: Message>(signed: &Signed<M>) -> Bytes {
    // Header, proof and lengths take less than two hundred bytes.
    let mut bytes = Vec::with_capacity(signed.len() + 200);
    bytes.extend_from_slice(&[0; 4]);
    signed.encode(&mut bytes);
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes.into()
}
