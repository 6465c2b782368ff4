//! One vote each, for the first who asks. Whoever has the votes of a majority has won.
#![allow(unreachable_pub)]

mod counted;

pub use counted::counted;

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use testudo_core::{
    Context, Decode, DecodeError, Digest, Effects, Encode, Invalid, Kind, Message, NoWork, Past,
    Peer, Protocol, ProtocolId, Reader, ReplicaId, Slot, Strength, Tag, Tagged, Target, Verified,
};
use testudo_sim::explore::{Ask, Falsehood, Forks, Model};
use testudo_sim::{Fact, Flaw, NoClient, NodeId, Setup, System, World};

/// What is said, and of whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Vote for me.
    Ask(ReplicaId),
    /// I do.
    Vote(ReplicaId),
}

const PROTOCOL: ProtocolId = ProtocolId(201);

impl Message for Said {
    fn protocol(&self) -> ProtocolId {
        PROTOCOL
    }
    fn kind(&self) -> Kind {
        Kind(match self {
            Self::Ask(_) => 1,
            Self::Vote(_) => 2,
        })
    }
    fn name(&self) -> &'static str {
        match self {
            Self::Ask(_) => "ask",
            Self::Vote(_) => "vote",
        }
    }
    fn strength(&self) -> Strength {
        Strength::Channel
    }
    fn encode_body(&self, out: &mut Vec<u8>) {
        let (Self::Ask(whom) | Self::Vote(whom)) = self;
        whom.encode(out);
    }
    fn decode_body(_: ProtocolId, kind: Kind, body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let whom = ReplicaId::decode(&mut reader)?;
        reader.finish()?;
        match kind.0 {
            1 => Ok(Self::Ask(whom)),
            2 => Ok(Self::Vote(whom)),
            _ => Err(DecodeError::Unknown("kind")),
        }
    }
    fn validate(&self, _: Peer, _: &Context<'_>) -> Result<(), Invalid> {
        Ok(())
    }
}

/// Whom a replica has voted for.
#[derive(Clone, Debug)]
pub struct Voted(ReplicaId);

impl Tagged for Voted {
    fn tag(&self) -> Tag {
        Tag::Vote(Slot(1))
    }
}

/// What a replica is told when it starts.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    forgets: bool,
    hesitates: bool,
}

#[derive(Clone, Debug)]
pub struct Voter {
    me: ReplicaId,
    temper: Temper,
    vote: Option<ReplicaId>,
    /// Who has voted for this one, if it has asked.
    votes: Option<BTreeSet<ReplicaId>>,
    has_won: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Never {}

impl Protocol for Voter {
    type Config = Temper;
    type Message = Said;
    type Record = Voted;
    type Snapshot = Voted;
    type Timer = Never;
    type Input = ();
    type Output = ReplicaId;
    type Work = NoWork;

    fn start(
        temper: Temper,
        me: Peer,
        past: Past<Voted, Voted>,
        _: &mut Effects<'_, Self>,
    ) -> Self {
        let vote = past.records.first().map(|(_, Voted(whom))| *whom);
        let me = me.replica().expect("only replicas vote");
        Self { me, temper, vote, votes: None, has_won: false }
    }
    fn on_input(&mut self, (): (), fx: &mut Effects<'_, Self>) {
        self.votes = Some(BTreeSet::new());
        fx.send(Target::Replicas, Said::Ask(self.me));
    }
    fn on_message(&mut self, message: Verified<Said>, fx: &mut Effects<'_, Self>) {
        let Some(from) = message.replica() else { return };
        match message.message() {
            Said::Ask(whom) if self.vote.is_none() => {
                if self.temper.hesitates && fx.choose(2) == 1 {
                    return;
                }
                self.vote = Some(*whom);
                if !self.temper.forgets {
                    fx.persist(Voted(*whom));
                }
                fx.send(*whom, Said::Vote(*whom));
            }
            Said::Vote(whom) if *whom == self.me => {
                let Some(votes) = &mut self.votes else { return };
                votes.insert(from);
                if votes.len() >= 2 && !std::mem::replace(&mut self.has_won, true) {
                    fx.output(self.me);
                }
            }
            Said::Ask(_) | Said::Vote(_) => {}
        }
    }
    fn on_timer(&mut self, timer: Never, _: &mut Effects<'_, Self>) {
        match timer {}
    }
}

/// Each replica may be asked once to stand for election.
#[derive(Clone, Default, Debug)]
pub struct Ballot {
    /// Votes are not written down.
    pub forgets: bool,
    /// By chance replicas do not vote.
    pub hesitates: bool,
    /// Replicas may change places.
    pub is_symmetric: bool,
    /// Its worlds are not to be copied.
    pub is_unique: bool,
    /// What is wrong with the driver.
    pub flaw: Option<Flaw>,
    /// Those that were.
    pub stood: BTreeSet<NodeId>,
}

impl System for Ballot {
    type Message = Said;
    type Replica = Voter;
    type Client = NoClient<Said>;

    fn replica_config(&mut self, _: &Setup, _: NodeId, _: ReplicaId) -> Temper {
        Temper { forgets: self.forgets, hesitates: self.hesitates }
    }
    fn client_config(&mut self, _: &Setup, _: usize) {}
    fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }
    fn replica_facts(&self, winner: &ReplicaId, facts: &mut Vec<Fact>) {
        let batch = Digest::of(&winner.0.to_le_bytes());
        facts.push(Fact::Executed { slot: Slot(1), batch, is_final: true });
    }
}

impl Model for Ballot {
    fn forks() -> Option<Forks<Self>> {
        Some(Forks::by_clone())
    }
    fn may_fork(&self) -> bool {
        !self.is_unique
    }
    fn print_replica(replica: &Voter, out: &mut dyn Write) -> fmt::Result {
        write!(out, "{replica:?}")
    }
    fn print_client(_: &NoClient<Said>, _: &mut dyn Write) -> fmt::Result {
        Ok(())
    }
    fn print_above(&self, out: &mut dyn Write) -> fmt::Result {
        write!(out, "{:?}", self.stood)
    }
    fn asks(world: &World<Self>) -> Vec<Ask> {
        let may = |node: &NodeId| world.is_up(*node) && !world.system.stood.contains(node);
        let ask = |node| Ask { node, words: "stand".into() };
        world.replicas().filter(may).map(ask).collect()
    }
    fn ask(world: &mut World<Self>, ask: &Ask) {
        world.system.stood.insert(ask.node);
        world.ask_replica(ask.node, ());
    }
    fn falsehoods(world: &World<Self>, _: NodeId) -> Vec<Falsehood<Said>> {
        let vote = |node: NodeId| Falsehood {
            words: format!("votes for {}", world.name(node)),
            messages: vec![(world.peer(node), Said::Vote(ReplicaId(node.0)))],
        };
        world.replicas().filter(|node| world.is_correct(*node)).map(vote).collect()
    }
    fn interchangeable(world: &World<Self>) -> Vec<NodeId> {
        if world.system.is_symmetric { world.replicas().collect() } else { Vec::new() }
    }
}
