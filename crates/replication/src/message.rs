//! What replicas and clients say to each other, beside the ordering's own messages.

use crate::feed::{Claim, Feed, Follow, PLACES, StateAnswer, StateAsk, Voucher};
use crate::succession::Succession;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use testudo_contracts::ordering::{CHECKPOINT, REPLICATION};
use testudo_contracts::{Checkpoint, StableCheckpoint, check_stable};
use testudo_core::{
    Context, Decode, DecodeError, Digest, Domain, Encode, Epoch, Evidence, Header, Incarnation,
    Invalid, Kind, Message, Peer, ProtocolId, PublicKey, ReplicaId, Signature, Signed, Slot,
    Strength, Validity, View, limits, wire_enum, wire_struct,
};

const BUNDLE: Kind = Kind(2);
const REPLY: Kind = Kind(3);
const FETCH: Kind = Kind(4);
const BODIES: Kind = Kind(5);
const STABLE: Kind = Kind(6);
const FOLLOW: Kind = Kind(7);
const FEED: Kind = Kind(8);
const VOUCHER: Kind = Kind(9);
const CLAIM_ASK: Kind = Kind(10);
const CLAIM: Kind = Kind(11);
const STATE_ASK: Kind = Kind(12);
const STATE: Kind = Kind(13);
const HELLO: Kind = Kind(14);
const SUCCESSION: Kind = Kind(15);

/// What a client asks for in one signature.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// Open a session. The nonce tells a retry of the same opening from another one, and a later opening from an
    /// earlier one.
    Register {
        /// Chosen by the client, higher than that of any opening before.
        nonce: u64,
    },
    /// Execute these operations, in this order, exactly once.
    Operations {
        /// The session's number, which its opening gave.
        session: u64,
        /// The bundle's number in the session. Bundles within the window may execute in any order.
        sequence: u64,
        /// The operations. Each has an effect of its own, or none. A bundle without any is a barrier: it changes nothing,
        /// and when it has executed so has all that was decided before it was asked for.
        operations: Vec<Arc<[u8]>>,
    },
    /// A replica that does not know any more what it has promised asks to come back under a new voting key.
    /// The signature is that key's, on what is asked: nobody names a key that is another's.
    Readmit(Readmission, Signature),
    /// A replica shows what another has signed that no correct one signs: that one never comes back.
    Convict(Evidence),
}
wire_enum!(Request {
    0 => Register { nonce },
    1 => Operations { session, sequence, operations },
    2 => Readmit(readmission, proof),
    3 => Convict(evidence),
});

/// What a replica asks for that has lost its promises. It is good in the present epoch only: with each readmission another
/// one begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Readmission {
    /// The epoch in which it asks.
    pub epoch: Epoch,
    /// How often it will have come back, this time included.
    pub incarnation: Incarnation,
    /// The key that it will vote with. Nobody has ever voted with it.
    pub voting: PublicKey,
}
wire_struct!(Readmission { epoch, incarnation, voting });

impl Readmission {
    /// What the new voting key signs when this replica of this group asks.
    #[must_use]
    pub fn digest(&self, replica: ReplicaId, domain: Domain) -> Digest {
        let domain = domain.of(Validity::Group).to_bytes();
        Digest::of_parts(&[b"testudo readmission", &domain, &replica.to_bytes(), &self.to_bytes()])
    }
}

/// A client's request as it is signed, sent to all replicas, and ordered by its digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Who is to send the results whole; the others send their digest.
    pub replier: ReplicaId,
    /// What is asked for.
    pub request: Request,
}
wire_struct!(Bundle { replier, request });

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.request {
            Request::Register { .. } => f.write_str("Bundle(register)"),
            Request::Operations { session, sequence, operations } => {
                write!(f, "Bundle({session}.{sequence}, {} operations)", operations.len())
            }
            Request::Readmit(Readmission { incarnation, .. }, _) => {
                write!(f, "Bundle(readmit as {incarnation:?})")
            }
            Request::Convict(Evidence { accused, .. }) => write!(f, "Bundle(convict {accused:?})"),
        }
    }
}

impl Bundle {
    /// Its number in its session, if it is not the one that opens it.
    #[must_use]
    pub const fn sequence(&self) -> Option<u64> {
        match self.request {
            Request::Operations { sequence, .. } => Some(sequence),
            Request::Register { .. } | Request::Readmit(..) | Request::Convict(_) => None,
        }
    }

    /// The digest that it is ordered by when `client` signs it: that of its statement, so it binds the client too.
    #[must_use]
    pub fn digest(&self, client: Peer, domain: Domain) -> Digest {
        let domain = domain.of(self.validity());
        let header = Header { domain, protocol: REPLICATION, kind: BUNDLE, sender: client };
        header.digest(&self.to_bytes())
    }
}

impl Message for Bundle {
    fn protocol(&self) -> ProtocolId {
        REPLICATION
    }
    fn kind(&self) -> Kind {
        BUNDLE
    }
    fn name(&self) -> &'static str {
        "bundle"
    }
    fn strength(&self) -> Strength {
        match self.request {
            Request::Register { .. } | Request::Operations { .. } => Strength::Signature,
            Request::Readmit(..) | Request::Convict(_) => Strength::Identity,
        }
    }
    fn validity(&self) -> Validity {
        // Whoever executes an old slot must be able to verify what is in it. A readmission names its epoch itself, and has no
        // effect in another; evidence convicts by the keys of its own.
        Validity::Group
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }
    fn decode_body(protocol: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        match (protocol, kind) {
            (REPLICATION, BUNDLE) => Self::from_bytes(body),
            _ => Err(DecodeError::Unknown("kind")),
        }
    }
    fn validate(&self, sender: Peer, context: &Context<'_>) -> Result<(), Invalid> {
        let operations = match (&self.request, sender) {
            (Request::Readmit(..) | Request::Convict(_), Peer::Client(_)) => {
                return Err(Invalid("a client asks as a replica"));
            }
            // Whether the evidence convicts, the protocol says that it is about (`check_bundle`).
            (Request::Convict(_), Peer::Replica(_))
                if self.to_bytes().len() > limits::EVIDENCE_BYTES =>
            {
                return Err(Invalid("evidence has too many bytes"));
            }
            (Request::Convict(_), Peer::Replica(_)) => return Ok(()),
            (Request::Readmit(asked, proof), Peer::Replica(replica)) => {
                let digest = asked.digest(replica, context.domain);
                return if context.verifier.check(&asked.voting, &digest, proof) {
                    Ok(())
                } else {
                    Err(Invalid("who asks to come back has not the key"))
                };
            }
            (_, Peer::Replica(_)) => return Err(Invalid("a replica asks as a client")),
            (Request::Register { .. }, Peer::Client(_)) => return Ok(()),
            (Request::Operations { operations, .. }, Peer::Client(_)) => operations,
        };
        let bytes: usize = operations.iter().map(|operation| operation.len()).sum();
        if operations.len() > limits::BUNDLE_OPERATIONS {
            Err(Invalid("a bundle has too many operations"))
        } else if bytes > limits::BUNDLE_BYTES {
            Err(Invalid("a bundle has too many bytes"))
        } else {
            Ok(())
        }
    }
}

/// What a bundle came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplyBody {
    /// The session is open, under this number.
    Registered(u64),
    /// The results, one for each operation.
    Results(Vec<Arc<[u8]>>),
    /// There is no such session of this client: it was never opened, or evicted. Nothing was executed.
    NoSession,
    /// The session has moved past this sequence number, which it had seen or not. Nothing was executed now.
    Stale,
    /// The client's key is not admitted. Nothing was executed.
    NotAdmitted,
    /// The client has asked for a session under this nonce already, which is as high or higher. None was opened.
    Superseded(u64),
}
wire_enum!(ReplyBody {
    0 => Registered(session),
    1 => Results(results),
    2 => NoSession,
    3 => Stale,
    4 => NotAdmitted,
    5 => Superseded(nonce),
});

/// One replica's answer to a bundle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The bundle's digest.
    pub bundle: Digest,
    /// The view that the replica is in.
    pub view: View,
    /// The slot that it executed the bundle in.
    pub slot: Slot,
    /// The digest of the encoded [`ReplyBody`].
    pub results: Digest,
    /// Whether this is final.
    pub is_final: bool,
    /// The encoded [`ReplyBody`] from the replier whom the client named, and from everybody when it asks again.
    pub body: Option<Arc<[u8]>>,
}
wire_struct!(Reply { bundle, view, slot, results, is_final, body });

/// Everything that is said in a replicated service whose ordering says `M`.
#[derive(Clone, Debug)]
pub enum ReplicaMessage<M> {
    /// The ordering's own.
    Order(M),
    /// A signed digest of all replicated state.
    Checkpoint(Checkpoint),
    /// A client's bundle.
    Bundle(Bundle),
    /// A replica's answer to its client.
    Reply(Reply),
    /// "I lack these bodies." In ascending order, none twice.
    Fetch(Vec<Digest>),
    /// "Here are bodies": signed by their clients, so it matters not who brings them.
    Bodies(Vec<Signed<Bundle>>),
    /// "This checkpoint is stable": proves itself, so it matters not who says it.
    Stable(StableCheckpoint),
    /// A learner follows.
    Follow(Follow),
    /// A decided slot, for a learner.
    Feed(Feed),
    /// A replica's word on a slot, for a learner that has the payload from another.
    Voucher(Voucher),
    /// A learner asks for claims, in the round of this number.
    ClaimAsk(u64),
    /// A replica's claim.
    Claim(Claim),
    /// Somebody asks for certified state.
    StateAsk(StateAsk),
    /// Certified state.
    State(StateAnswer),
    /// "This is my epoch": if it is over, show me what came after it.
    Hello(Epoch),
    /// The end of an epoch, and who orders in the next one. It proves itself to whoever knows who ordered in the first.
    Succession(Box<Succession>),
}

impl<M: Message> Message for ReplicaMessage<M> {
    fn protocol(&self) -> ProtocolId {
        match self {
            Self::Order(message) => message.protocol(),
            _ => REPLICATION,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Order(message) => message.kind(),
            Self::Checkpoint(_) => CHECKPOINT,
            Self::Bundle(_) => BUNDLE,
            Self::Reply(_) => REPLY,
            Self::Fetch(_) => FETCH,
            Self::Bodies(_) => BODIES,
            Self::Stable(_) => STABLE,
            Self::Follow(_) => FOLLOW,
            Self::Feed(_) => FEED,
            Self::Voucher(_) => VOUCHER,
            Self::ClaimAsk(_) => CLAIM_ASK,
            Self::Claim(_) => CLAIM,
            Self::StateAsk(_) => STATE_ASK,
            Self::State(_) => STATE,
            Self::Hello(_) => HELLO,
            Self::Succession(_) => SUCCESSION,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Order(message) => message.name(),
            Self::Checkpoint(_) => "checkpoint",
            Self::Bundle(_) => "bundle",
            Self::Reply(_) => "reply",
            Self::Fetch(_) => "fetch",
            Self::Bodies(_) => "bodies",
            Self::Stable(_) => "stable",
            Self::Follow(_) => "follow",
            Self::Feed(_) => "feed",
            Self::Voucher(_) => "voucher",
            Self::ClaimAsk(_) => "claim ask",
            Self::Claim(_) => "claim",
            Self::StateAsk(_) => "state ask",
            Self::State(_) => "state",
            Self::Hello(_) => "hello",
            Self::Succession(_) => "succession",
        }
    }

    fn strength(&self) -> Strength {
        match self {
            Self::Order(message) => message.strength(),
            Self::Checkpoint(_) => Strength::Signature,
            Self::Bundle(bundle) => bundle.strength(),
            _ => Strength::Channel,
        }
    }

    fn validity(&self) -> Validity {
        match self {
            Self::Order(message) => message.validity(),
            Self::Bundle(bundle) => bundle.validity(),
            Self::Hello(_) => Validity::Group,
            Self::Succession(succession) => Validity::Of(succession.from),
            _ => Validity::Epoch,
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Order(message) => message.encode_body(out),
            Self::Checkpoint(checkpoint) => checkpoint.encode(out),
            Self::Bundle(bundle) => bundle.encode(out),
            Self::Reply(reply) => reply.encode(out),
            Self::Fetch(digests) => digests.encode(out),
            Self::Bodies(bodies) => bodies.encode(out),
            Self::Stable(certificate) => certificate.encode(out),
            Self::Follow(body) => body.encode(out),
            Self::Feed(body) => body.encode(out),
            Self::Voucher(body) => body.encode(out),
            Self::ClaimAsk(body) => body.encode(out),
            Self::Claim(body) => body.encode(out),
            Self::StateAsk(body) => body.encode(out),
            Self::State(body) => body.encode(out),
            Self::Hello(epoch) => epoch.encode(out),
            Self::Succession(succession) => succession.encode(out),
        }
    }

    fn decode_body(protocol: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        if protocol != REPLICATION {
            return M::decode_body(protocol, kind, body).map(Self::Order);
        }
        match kind {
            CHECKPOINT => Decode::from_bytes(body).map(Self::Checkpoint),
            BUNDLE => Decode::from_bytes(body).map(Self::Bundle),
            REPLY => Decode::from_bytes(body).map(Self::Reply),
            FETCH => Decode::from_bytes(body).map(Self::Fetch),
            BODIES => Decode::from_bytes(body).map(Self::Bodies),
            STABLE => Decode::from_bytes(body).map(Self::Stable),
            FOLLOW => Decode::from_bytes(body).map(Self::Follow),
            FEED => Decode::from_bytes(body).map(Self::Feed),
            VOUCHER => Decode::from_bytes(body).map(Self::Voucher),
            CLAIM_ASK => Decode::from_bytes(body).map(Self::ClaimAsk),
            CLAIM => Decode::from_bytes(body).map(Self::Claim),
            STATE_ASK => Decode::from_bytes(body).map(Self::StateAsk),
            STATE => Decode::from_bytes(body).map(Self::State),
            HELLO => Decode::from_bytes(body).map(Self::Hello),
            SUCCESSION => Succession::from_bytes(body).map(Box::new).map(Self::Succession),
            _ => Err(DecodeError::Unknown("kind")),
        }
    }

    fn validate(&self, sender: Peer, context: &Context<'_>) -> Result<(), Invalid> {
        let from_replica = || match sender {
            Peer::Replica(_) => Ok(()),
            Peer::Client(_) => Err(Invalid("a client speaks as a replica")),
        };
        match self {
            Self::Order(message) => message.validate(sender, context),
            Self::Bundle(bundle) => {
                bundle.validate(sender, context)?;
                check_bundle::<M>(bundle, context)
            }
            Self::Checkpoint(_) | Self::Reply(_) | Self::Voucher(_) | Self::Claim(_) => {
                from_replica()
            }
            Self::Follow(_) | Self::ClaimAsk(_) | Self::Hello(_) => Ok(()),
            Self::Succession(succession) => {
                from_replica()?;
                // What led to where this node is, or to before that, nobody reads.
                let is_old = succession.from < context.domain.epoch;
                if is_old { Ok(()) } else { succession.check(context).map(drop) }
            }
            Self::StateAsk(StateAsk::Nodes { places, .. }) => at_most(places.len(), PLACES),
            Self::StateAsk(StateAsk::Head | StateAsk::Certificate) => Ok(()),
            Self::Feed(feed) => {
                from_replica()?;
                feed.validate::<M>(context)
            }
            Self::State(StateAnswer::Head(certificate, head, _)) => {
                from_replica()?;
                check_stable(certificate, context)?;
                let checkpoint = certificate.statement();
                if (head.slot, head.digest()) == (checkpoint.slot, checkpoint.state) {
                    Ok(())
                } else {
                    Err(Invalid("a head is not what its certificate says"))
                }
            }
            Self::State(StateAnswer::Nodes { nodes, .. }) => {
                from_replica()?;
                at_most(nodes.len(), PLACES)
            }
            Self::State(StateAnswer::Gone(_)) => from_replica(),
            Self::Fetch(digests) => {
                at_most(digests.len(), limits::FETCH_ITEMS)?;
                if digests.is_sorted_by(|a, b| a < b) {
                    Ok(())
                } else {
                    Err(Invalid("a list of digests is unordered"))
                }
            }
            Self::Bodies(bodies) => {
                from_replica()?;
                at_most(bodies.len(), limits::FETCH_ITEMS)?;
                bodies.iter().try_for_each(|body| check_body::<M>(body, context))
            }
            Self::Stable(certificate) => {
                from_replica()?;
                check_stable(certificate, context)
            }
        }
    }
}

/// Whether what a bundle says beyond its own form holds: one that accuses somebody holds evidence, of this epoch or an
/// earlier one. Orderings say `M`.
fn check_bundle<M: Message>(bundle: &Bundle, context: &Context<'_>) -> Result<(), Invalid> {
    let Request::Convict(evidence) = &bundle.request else { return Ok(()) };
    // Statements count in the epoch that they bear, and so they convict by its keys, whenever they come to light.
    let first = evidence.statements.first().and_then(|frame| Signed::<M>::from_bytes(frame).ok());
    let epoch = first.map(|signed| signed.header().domain.epoch);
    if epoch.is_some_and(|epoch| epoch > context.domain.epoch) {
        // Whoever shows it is ahead, and need not have lied.
        return Err(Invalid("it is about another epoch"));
    }
    let then = epoch.and_then(|epoch| context.at(epoch));
    if then.is_some_and(|context| M::is_convicted(evidence, &context)) {
        Ok(())
    } else {
        Err(Invalid("what is shown against a replica is no evidence"))
    }
}

/// Checks a body that another message embeds.
pub(crate) fn check_body<M: Message>(
    body: &Signed<Bundle>,
    context: &Context<'_>,
) -> Result<(), Invalid> {
    check_bundle::<M>(&body.verify_embedded(context)?, context)
}

fn at_most(count: usize, limit: usize) -> Result<(), Invalid> {
    if count <= limit { Ok(()) } else { Err(Invalid("a list is longer than its limit")) }
}
