//! A protocol's own tactics, in a whole replica: what belongs to the ordering is said as the tactician wants it, and all else
//! as it is.

use crate::adversary::{Adversary, Saying, Words};
use crate::rng::Rng;
use testudo_contracts::{Remark, Tactic, Tactician};
use testudo_core::{Message, Peer, Verified};
use testudo_replication::ReplicaMessage;

/// A replica that keeps to a tactic.
pub(super) struct Tactical<M> {
    pub(super) tactic: Tactic,
    pub(super) tactician: Box<dyn Tactician<M>>,
}

fn saying<M: Message>(remark: Remark<M>) -> Saying<ReplicaMessage<M>> {
    let Remark { to, message, after } = remark;
    Saying { to: Peer::Replica(to), words: Words::Own(ReplicaMessage::Order(message)), after }
}

impl<M: Message> Adversary<ReplicaMessage<M>> for Tactical<M> {
    fn name(&self) -> &'static str {
        self.tactic.name()
    }

    fn outgoing(
        &mut self,
        to: Peer,
        message: ReplicaMessage<M>,
        chance: &mut Rng,
    ) -> Vec<Saying<ReplicaMessage<M>>> {
        match (to, message) {
            (Peer::Replica(replica), ReplicaMessage::Order(order)) => {
                let remarks = self.tactician.outgoing(replica, order, chance);
                remarks.into_iter().map(saying).collect()
            }
            (_, message) => vec![Saying::now(to, message)],
        }
    }

    fn incoming(
        &mut self,
        message: &Verified<ReplicaMessage<M>>,
        chance: &mut Rng,
        say: &mut Vec<Saying<ReplicaMessage<M>>>,
    ) -> bool {
        if let (Peer::Replica(replica), ReplicaMessage::Order(order)) =
            (message.sender(), message.message())
        {
            let remarks = self.tactician.incoming(replica, order, chance);
            say.extend(remarks.into_iter().map(saying));
        }
        true
    }
}
