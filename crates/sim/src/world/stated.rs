//! Certificates of a test's own making.

use super::{System, World, each_host};
use crate::event::NodeId;
use testudo_core::{
    Certificate, Context, DecodeError, Invalid, Kind, Message, Peer, ProtocolId, Statement,
    Strength, Verified,
};

/// A statement as a message of its own, for [`World::certify`].
#[derive(Clone, Debug)]
struct Stated<T>(T);

impl<T: Statement> Message for Stated<T> {
    fn protocol(&self) -> ProtocolId {
        T::PROTOCOL
    }
    fn kind(&self) -> Kind {
        T::KIND
    }
    fn name(&self) -> &'static str {
        "statement"
    }
    fn strength(&self) -> Strength {
        Strength::Signature
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode_body(_: ProtocolId, _: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        T::from_bytes(body).map(Self)
    }
    fn validate(&self, _: Peer, _: &Context<'_>) -> Result<(), Invalid> {
        Ok(())
    }
}

impl<S: System> World<S> {
    /// A certificate of these nodes for a statement: what their upper layers would have gathered, where a test plays
    /// those. Liars' tools do not reach here.
    pub fn certify<T: Statement>(&self, nodes: &[NodeId], statement: &T) -> Certificate<T> {
        let mut certificate = Certificate::new(statement.clone());
        for node in nodes {
            let (peer, pen, domain) = each_host!(
                &self.nodes[node.index()].body,
                host => (host.peer, host.pen(&host.place), host.place.domain));
            let vote = Stated(statement.clone());
            certificate.add(&Verified::seal(vote, peer, domain, &pen));
        }
        certificate
    }
}
