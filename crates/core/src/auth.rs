//! What makes a message believable.
//!
//! [`Signed`] travels and cannot be read. [`Verified`] is made in three ways only: by verifying ([`Signed::verify`]), by
//! sealing what one says oneself ([`Verified::seal`]), and by replaying one's own checksummed log
//! ([`Verified::replay`]). It keeps the signed bytes, so that it can be embedded in a certificate or handed on.
//!
//! A signature is over the digest of header and body. The header names everything: format version, cluster, group,
//! epoch, protocol, kind and sender. So no statement counts in a place where it was not made.

mod certificate;
mod membership;

pub use certificate::{Certificate, Evidence};
pub use membership::{Base, Member, Membership};

use crate::codec::{Decode, DecodeError, Encode, Reader, encode_bytes};
use crate::digest::Digest;
use crate::ids::{ClusterId, Epoch, GroupId, Kind, Peer, ProtocolId, PublicKey, ReplicaId};
use crate::limits;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

/// Where a statement counts: nowhere but in this epoch of this group of this cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Domain {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group among those that the cluster's nodes host.
    pub group: GroupId,
    /// The configuration.
    pub epoch: Epoch,
}
crate::wire_struct!(Domain { cluster, group, epoch });

impl Domain {
    /// Where statements of this validity count when they are made here. What counts in every epoch bears the number of the
    /// first, so that it stays what it is, digest and signature, when an epoch ends.
    #[must_use]
    pub const fn of(self, validity: Validity) -> Self {
        match validity {
            Validity::Epoch => self,
            Validity::Of(epoch) => Self { epoch, ..self },
            Validity::Group => Self { epoch: Epoch(0), ..self },
        }
    }
}

/// For how long a statement counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Validity {
    /// In the epoch that it was made in, and never in another.
    Epoch,
    /// In this epoch, whenever it was made: for whoever is still there.
    Of(Epoch),
    /// As long as the group lives: what clients ask for, and what leads from one epoch to the next.
    Group,
}

/// What every frame, record and signed statement says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Where it counts.
    pub domain: Domain,
    /// Which protocol it belongs to.
    pub protocol: ProtocolId,
    /// Which message of that protocol it is.
    pub kind: Kind,
    /// Who says it.
    pub sender: Peer,
}
crate::wire_struct!(Header { domain, protocol, kind, sender });

impl Header {
    /// The digest that a signature on this header and `body` covers.
    #[must_use]
    pub fn digest(&self, body: &[u8]) -> Digest {
        let mut head = Vec::with_capacity(80);
        head.push(limits::FORMAT_VERSION);
        self.encode(&mut head);
        Digest::of_parts(&[&head, body])
    }
}

/// An Ed25519 signature, or the simulator's keyed hash in its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sig:{:02x}{:02x}", self.0[0], self.0[1])
    }
}
crate::wire_tuple!(Signature);

/// How strongly a kind of message must be bound to its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strength {
    /// The authenticated channel that it came by is enough: it is meant for its receiver alone.
    Channel,
    /// It may be handed on or enter a certificate, so it bears a signature that a third party can check.
    Signature,
    /// The same, with the sender's long-lived key instead of the one that it votes with: what a replica says that has no
    /// voting key any more. A client has but one key.
    Identity,
}

/// What binds a message to its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// The channel that it came by.
    Channel,
    /// A signature over the digest of header and body.
    Signature(Signature),
}
crate::wire_enum!(Proof { 0 => Channel, 1 => Signature(signature) });

/// Signs with one node's key.
pub trait Signer {
    /// A signature on `digest`. The same digest always gives the same signature.
    fn sign(&self, digest: &Digest) -> Signature;

    /// A signature with the node's long-lived key. The same one, for nodes that have but one key.
    fn certify(&self, digest: &Digest) -> Signature {
        self.sign(digest)
    }
}

/// Checks signatures by the one acceptance predicate (cofactored Ed25519 after ZIP-215 in production).
pub trait Verifier {
    /// Whether `signature` on `digest` was made with `key`'s secret.
    fn check(&self, key: &PublicKey, digest: &Digest, signature: &Signature) -> bool;

    /// Whether all are right. A batch accepts exactly what single checks accept.
    fn check_all(&self, items: &[(PublicKey, Digest, Signature)]) -> bool {
        items.iter().all(|(key, digest, signature)| self.check(key, digest, signature))
    }
}

/// What verification is a function of, beside the message: the domain, its members and their keys.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where statements must belong to.
    pub domain: Domain,
    /// Whose statements count, and how many are a quorum.
    pub membership: &'a Membership,
    /// The acceptance predicate.
    pub verifier: &'a dyn Verifier,
}

impl<'a> Context<'a> {
    /// The same in this epoch or an earlier one: what was said then counts for nothing any more but against who said it.
    #[must_use]
    pub fn at(&self, epoch: Epoch) -> Option<Self> {
        let mut membership: &'a Membership = self.membership;
        while membership.epoch > epoch {
            membership = membership.before.as_deref()?;
        }
        let domain = Domain { epoch, ..self.domain };
        (membership.epoch == epoch).then_some(Self { domain, membership, ..*self })
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// A message that is not what its kind promises; the sentence says how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invalid(pub &'static str);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a protocol says to its peers.
pub trait Message: Clone + fmt::Debug + Sized {
    /// The protocol that it belongs to. A wrapper answers for what it wraps.
    fn protocol(&self) -> ProtocolId;
    /// Its kind within the protocol.
    fn kind(&self) -> Kind;
    /// A short name for traces and metrics.
    fn name(&self) -> &'static str;
    /// How strongly it must be bound to its sender.
    fn strength(&self) -> Strength;
    /// For how long it counts.
    fn validity(&self) -> Validity {
        Validity::Epoch
    }
    /// Appends its body, which the header's protocol and kind tell how to read.
    fn encode_body(&self, out: &mut Vec<u8>);
    /// Reads a body.
    ///
    /// # Errors
    /// When there is no such kind, or the bytes are not that kind's one encoding.
    fn decode_body(protocol: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError>;
    /// Checks all that can be checked without state: that its sender may say it, that it is well-formed and within
    /// limits, and every certificate inside. A function of its arguments alone.
    ///
    /// # Errors
    /// When it is not what its kind promises.
    fn validate(&self, sender: Peer, context: &Context<'_>) -> Result<(), Invalid>;
    /// Judges evidence as a third party: with the members' keys, and nobody's word. A function of its arguments alone.
    #[must_use]
    fn is_convicted(evidence: &Evidence, context: &Context<'_>) -> bool {
        let _ = (evidence, context);
        false
    }
}

/// A statement that may enter certificates: one kind of signed message, on its own.
pub trait Statement: Encode + Decode + Clone + Eq + fmt::Debug {
    /// The protocol that says it.
    const PROTOCOL: ProtocolId;
    /// The kind of message that says it; that message's body is this statement's encoding.
    const KIND: Kind;
    /// With which of a replica's keys it is signed.
    const STRENGTH: Strength = Strength::Signature;
}

/// Why a frame was not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// It belongs to another cluster, group or epoch.
    Domain,
    /// Its bytes are no message of this format.
    Malformed(DecodeError),
    /// Its sender is not a member, or is not who the channel belongs to though no signature says so.
    Sender,
    /// It bears no signature, or a wrong one.
    Proof,
    /// It is well signed, but not what its kind promises.
    Invalid(Invalid),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain => f.write_str("it belongs to another cluster, group or epoch"),
            Self::Malformed(error) => write!(f, "malformed: {error}"),
            Self::Sender => f.write_str("its sender is not who brought it, or is unknown"),
            Self::Proof => f.write_str("its signature is missing or wrong"),
            Self::Invalid(what) => write!(f, "invalid: {what}"),
        }
    }
}

/// A message as it travels: it names its sender and kind, but what it says cannot be read before it is verified.
pub struct Signed<M> {
    header: Header,
    body: Arc<[u8]>,
    proof: Proof,
    message: PhantomData<fn() -> M>,
}

impl<M> Clone for Signed<M> {
    fn clone(&self) -> Self {
        Self {
            header: self.header,
            body: self.body.clone(),
            proof: self.proof,
            message: PhantomData,
        }
    }
}
impl<M> PartialEq for Signed<M> {
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header && self.body == other.body && self.proof == other.proof
    }
}
impl<M> Eq for Signed<M> {}
impl<M> fmt::Debug for Signed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Signed({:?} from {:?}, {} bytes)",
            self.header.kind,
            self.header.sender,
            self.body.len()
        )
    }
}

impl<M> Encode for Signed<M> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(limits::FORMAT_VERSION);
        self.header.encode(out);
        self.proof.encode(out);
        encode_bytes(&self.body, out);
    }
}
impl<M> Decode for Signed<M> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if u8::decode(reader)? != limits::FORMAT_VERSION {
            return Err(DecodeError::Unknown("format version"));
        }
        Ok(Self {
            header: Header::decode(reader)?,
            proof: Proof::decode(reader)?,
            body: reader.bytes()?.into(),
            message: PhantomData,
        })
    }
}

impl<M: Message> Signed<M> {
    /// What it says of itself. Unproven until verified.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The digest of its header and body: what its signature covers, if it is right. Unproven until verified.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.header.digest(&self.body)
    }

    /// How many bytes its body has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether its body is empty, as it is for messages that say all by their kind.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Verifies it: domain, sender, proof, form and everything that it embeds. `via` is the peer at the other end of
    /// the channel that it came by.
    ///
    /// # Errors
    /// When it is not to be believed, with the reason.
    pub fn verify(self, via: Peer, context: &Context<'_>) -> Result<Verified<M>, Rejection> {
        let Domain { cluster, group, .. } = self.header.domain;
        if (cluster, group) != (context.domain.cluster, context.domain.group) {
            return Err(Rejection::Domain);
        }
        let message = self.read().map_err(Rejection::Malformed)?;
        let validity = message.validity();
        let is_over = matches!(validity, Validity::Of(epoch) if epoch != context.domain.epoch);
        if is_over || self.header.domain != context.domain.of(validity) {
            return Err(Rejection::Domain);
        }
        let members = context.membership;
        let key = match message.strength() {
            Strength::Channel | Strength::Signature => members.key(self.header.sender),
            Strength::Identity => members.identity(self.header.sender),
        };
        let key = key.ok_or(Rejection::Sender)?;
        let digest = self.header.digest(&self.body);
        match (message.strength(), self.proof) {
            (Strength::Channel, Proof::Channel) if via == self.header.sender => {}
            (Strength::Channel, _) => return Err(Rejection::Sender),
            (Strength::Signature | Strength::Identity, Proof::Signature(signature)) => {
                if !context.verifier.check(&key, &digest, &signature) {
                    return Err(Rejection::Proof);
                }
            }
            (Strength::Signature | Strength::Identity, Proof::Channel) => {
                return Err(Rejection::Proof);
            }
        }
        message.validate(self.header.sender, context).map_err(Rejection::Invalid)?;
        Ok(Verified { message, digest, via, signed: self.rebind() })
    }

    /// Verifies a signed message that another embeds, for that one's [`Message::validate`], and shows what it says.
    /// Only kinds that bear signatures may be embedded.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub fn verify_embedded(&self, context: &Context<'_>) -> Result<M, Invalid> {
        if self.proof == Proof::Channel {
            return Err(Invalid("an embedded message bears no signature"));
        }
        match self.clone().verify(self.header.sender, context) {
            Ok(verified) => Ok(verified.into_message()),
            Err(Rejection::Invalid(what)) => Err(what),
            Err(_) => Err(Invalid("an embedded message is not to be believed")),
        }
    }

    fn read(&self) -> Result<M, DecodeError> {
        let message = M::decode_body(self.header.protocol, self.header.kind, &self.body)?;
        // The codec has one form per value; kinds that read the same body must not be mistaken for each other.
        if message.kind() == self.header.kind && message.protocol() == self.header.protocol {
            Ok(message)
        } else {
            Err(DecodeError::Unknown("kind"))
        }
    }
}

impl<M> Signed<M> {
    fn rebind<N>(self) -> Signed<N> {
        Signed { header: self.header, body: self.body, proof: self.proof, message: PhantomData }
    }

    /// The same frame, to be verified as another type of message: an adversary's and a router's tool, as a frame
    /// proves nothing before it is verified.
    #[must_use]
    pub fn cast<N>(self) -> Signed<N> {
        self.rebind()
    }
}

/// A message that was verified, with the bytes that prove it.
#[derive(Clone)]
pub struct Verified<M> {
    message: M,
    digest: Digest,
    via: Peer,
    signed: Signed<()>,
}

impl<M: fmt::Debug> fmt::Debug for Verified<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} from {:?}", self.message, self.signed.header.sender)
    }
}

impl<M: Message> Verified<M> {
    /// Seals what one says oneself. Drivers call it when an effect is released, after everything that it rests on is
    /// durable.
    #[must_use]
    pub fn seal(message: M, sender: Peer, domain: Domain, signer: &dyn Signer) -> Self {
        let domain = domain.of(message.validity());
        let header = Header { domain, protocol: message.protocol(), kind: message.kind(), sender };
        // Most bodies fit into that, and a list that grows is copied each time.
        let mut body = Vec::with_capacity(256);
        message.encode_body(&mut body);
        let digest = header.digest(&body);
        let proof = match message.strength() {
            Strength::Channel => Proof::Channel,
            Strength::Signature => Proof::Signature(signer.sign(&digest)),
            Strength::Identity => Proof::Signature(signer.certify(&digest)),
        };
        let signed = Signed { header, body: body.into(), proof, message: PhantomData };
        Self { message, digest, via: sender, signed }
    }

    /// Takes up again what one had verified before one wrote it to one's own checksummed log. Never for bytes that
    /// came from anywhere else.
    ///
    /// # Errors
    /// When the bytes are no such message: the log was written by another version.
    pub fn replay(signed: Signed<M>) -> Result<Self, DecodeError> {
        let message = signed.read()?;
        let digest = signed.header.digest(&signed.body);
        Ok(Self { message, digest, via: signed.header.sender, signed: signed.rebind() })
    }
}

impl<M> Verified<M> {
    /// What is said.
    #[must_use]
    pub const fn message(&self) -> &M {
        &self.message
    }
    /// What is said, and nothing else of it.
    #[must_use]
    pub fn into_message(self) -> M {
        self.message
    }
    /// Who says it: who signed it, or at whose end of the channel it came from.
    #[must_use]
    pub const fn sender(&self) -> Peer {
        self.signed.header.sender
    }
    /// The replica who says it, if a replica does.
    #[must_use]
    pub const fn replica(&self) -> Option<ReplicaId> {
        self.signed.header.sender.replica()
    }
    /// Who brought it, which is another than the sender where a signed message was handed on.
    #[must_use]
    pub const fn via(&self) -> Peer {
        self.via
    }
    /// The digest that its proof covers: of header and body.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.signed.header
    }
    /// The encoding of what is said.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.signed.body
    }
    /// The signature, if its kind bears one.
    #[must_use]
    pub const fn signature(&self) -> Option<Signature> {
        match self.signed.proof {
            Proof::Signature(signature) => Some(signature),
            Proof::Channel => None,
        }
    }
    /// The bytes that travel, to be handed on, stored or embedded.
    #[must_use]
    pub fn signed(&self) -> Signed<M> {
        self.signed.clone().rebind()
    }
    /// A signed message that this one embeds, as verified as this one is. Only for what this kind's
    /// [`Message::validate`] has verified (with [`Signed::verify_embedded`]): whoever embeds without checking breaks
    /// the rule that cores see only what was verified.
    ///
    /// # Errors
    /// When its bytes are no such message, which validation excludes.
    pub fn embedded<N: Message>(&self, inner: &Signed<N>) -> Result<Verified<N>, DecodeError> {
        let mut verified = Verified::replay(inner.clone())?;
        verified.via = self.via;
        Ok(verified)
    }

    /// Hands on the inner message of a wrapper together with its proof, or gives the whole back.
    ///
    /// # Errors
    /// With the message unchanged when `open` finds another inside.
    pub fn narrow<N>(self, open: impl FnOnce(M) -> Result<N, M>) -> Result<Verified<N>, Self> {
        let Self { message, digest, via, signed } = self;
        match open(message) {
            Ok(message) => Ok(Verified { message, digest, via, signed }),
            Err(message) => Err(Self { message, digest, via, signed }),
        }
    }
}
