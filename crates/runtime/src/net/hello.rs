//! The first words on a channel, inside its encryption: who I am, and of which cluster.
//!
//! The keys have been proved by then. What remains is that a node of another cluster, another group or another version
//! is told so in a sentence, on both sides, and not by frames that nobody believes.

use testudo_core::{
    ClusterId, Decode, DecodeError, Encode, GroupId, Peer, PublicKey, Reader, ReplicaId, limits,
};

/// What a dialler says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The replica that it is, or none: then it is a client under the key that it has proved.
    pub replica: Option<ReplicaId>,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The cluster that the one who answers belongs to.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// Why the channel ends here, if it does.
    pub refusal: Option<String>,
}

// The version stands before everything else, and is checked before anything else is read.
fn version(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match u8::decode(reader)? {
        limits::FORMAT_VERSION => Ok(()),
        _ => Err(DecodeError::Unknown("version")),
    }
}

impl Encode for Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(limits::FORMAT_VERSION);
        self.cluster.encode(out);
        self.group.encode(out);
        self.replica.encode(out);
    }
}
impl Decode for Hello {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        version(reader)?;
        let cluster = Decode::decode(reader)?;
        let group = Decode::decode(reader)?;
        Ok(Self { cluster, group, replica: Decode::decode(reader)? })
    }
}
impl Encode for Answer {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(limits::FORMAT_VERSION);
        self.cluster.encode(out);
        self.group.encode(out);
        self.refusal.encode(out);
    }
}
impl Decode for Answer {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        version(reader)?;
        let cluster = Decode::decode(reader)?;
        let group = Decode::decode(reader)?;
        Ok(Self { cluster, group, refusal: Decode::decode(reader)? })
    }
}

impl Hello {
    /// Who speaks, given the key that was proved; or why he is not heard.
    pub(crate) fn judge(
        &self,
        key: PublicKey,
        me: Peer,
        scope: &crate::carrier::Scope,
    ) -> Result<Peer, String> {
        if self.cluster != scope.domain.cluster {
            return Err(format!(
                "you belong to cluster {}, and this is a node of cluster {}",
                self.cluster, scope.domain.cluster
            ));
        }
        if self.group != scope.domain.group {
            return Err(format!(
                "you speak for group {}, and this node hosts group {}",
                self.group, scope.domain.group
            ));
        }
        let Some(id) = self.replica else { return Ok(Peer::Client(key)) };
        match scope.membership.member(id) {
            Some(_) if Peer::Replica(id) == me => Err(format!("replica {id} is this node itself")),
            Some(member) if member.identity == key => Ok(Peer::Replica(id)),
            Some(_) => Err(format!("replica {id} is known by another key than {key}")),
            None => Err(format!("epoch {} has no replica {id}", scope.membership.epoch)),
        }
    }
}
