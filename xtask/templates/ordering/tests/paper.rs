//! The paper, claim by claim: each test names the section that it holds the code to. What stands here is what every
//! ordering promises, for one replica.

mod support;

use __crate__::message::{Proposal, Vote};
use __crate__::{__CONST__, __Type__, Message, PROFILE, Record, Reply, Snapshot, Standing, safety};
use std::collections::BTreeMap;
use std::rc::Rc;
use support::{NODE, Stage, batch, batches};
use testudo_contracts::{
    Batch, Freshness, OrderConfig, OrderInput, Ordering, ReplyRule, ReplyVote, Verdict,
};
use testudo_core::{
    Context, Decode, Digest, Domain, Effect, Effects, Encode, FaultModel, Host, Incarnation,
    Kind, Member, Membership, Message as _, Past, Peer, Position, Promise, Protocol, PublicKey,
    ReplicaId, Slot, Time, Verified, View,
};
use testudo_sim::{SimKeys, SimSigner};

type One = Stage;

/// The normal case: what the primary proposes is executed in order, and costs what the profile says.
#[test]
fn normal_case() {
    let mut stage = One::new();
    for name in ["a", "b", "c"] {
        stage.propose(name);
    }
    assert_eq!(stage.executed(), batches(&["a", "b", "c"]));
    assert_eq!((stage.replica().executed(), stage.replica().open_slots()), (Slot(3), 0));
    let lines = stage.take_lines();
    let said = lines.iter().filter(|line| line.contains(" -> ")).count();
    let to_itself = lines.iter().filter(|line| line.starts_with("0 -> 0 ")).count();
    assert_eq!((said, to_itself), (6, 6), "a proposal and a vote for each slot");
    assert_eq!((PROFILE.messages)(1), 0);
}

/// The first fresh batch of a view is judged as such, later ones as later.
#[test]
fn freshness_is_told() {
    let mut stage = One::new();
    stage.propose("a");
    stage.propose("b");
    let asked = stage.world.system.asked.iter();
    let asked: Vec<_> = asked.map(|(_, slot, _, freshness)| (slot.0, *freshness)).collect();
    assert_eq!(asked, [(1, Freshness::First), (2, Freshness::Later)]);
}

/// A vote is cast only when the layer above has judged this batch in this view, and only once.
#[test]
fn votes_only_for_what_was_judged() {
    let mut stage = One::new();
    stage.world.system.judges = false;
    stage.propose("a");
    let judged = |view: u64, name: &str| OrderInput::Judged {
        view: View(view),
        slot: Slot(1),
        batch: batch(name).digest(),
    };
    stage.input(judged(0, "b"));
    stage.input(judged(1, "a"));
    assert_eq!(stage.executed(), []);
    stage.input(judged(0, "a"));
    stage.input(judged(0, "a"));
    assert_eq!(stage.executed(), batches(&["a"]));
    let votes = stage.take_lines().iter().filter(|line| line.ends_with("vote")).count();
    assert_eq!(votes, 1);
}

/// Nothing is executed before the record of the vote is durable, and nothing is lost that was executed.
#[test]
fn durable_before_executed() {
    let mut stage = One::new();
    stage.flushes = 0;
    stage.propose("a");
    assert_eq!(stage.executed(), []);
    stage.flushes = 1;
    stage.run();
    assert_eq!(stage.executed(), batches(&["a"]));
    // The record of the decision is lost, that of the vote is not: the next view repeats it.
    stage.crash();
    stage.flushes = usize::MAX;
    stage.start();
    assert_eq!(stage.executed(), batches(&["a"]));
    let asked = (View(1), Slot(1), batch("a"), Freshness::Repeated);
    assert_eq!(stage.world.system.asked, [asked]);
}

/// A primary that restarts executes again what was decided, and gives its view up.
#[test]
fn a_restart_begins_a_view() {
    let mut stage = One::new();
    stage.propose("a");
    stage.propose("b");
    stage.crash();
    stage.start();
    assert_eq!(stage.executed(), batches(&["a", "b"]));
    assert_eq!((stage.replica().view(), stage.world.system.asked.len()), (View(1), 0));
    stage.propose("c");
    assert_eq!(stage.executed(), batches(&["a", "b", "c"]));
    let (view, slot, _, freshness) = &stage.world.system.asked[0];
    assert_eq!((*view, *slot, *freshness), (View(1), Slot(3), Freshness::First));
}

/// A view ends when the oldest request is not executed in time; what was only proposed in it is void.
#[test]
fn the_view_timer_ends_a_view() {
    let mut stage = One::new();
    stage.suspect();
    assert_eq!(stage.replica().view(), View(0), "nobody waits");
    stage.world.system.judges = false;
    stage.propose("a");
    stage.wait(1);
    stage.suspect();
    assert_eq!(stage.replica().view(), View(1));
    assert_eq!((stage.replica().open_slots(), stage.replica().may_propose()), (0, true));
    stage.world.system.judges = true;
    stage.propose("b");
    assert_eq!(stage.executed(), batches(&["b"]));
    stage.input(OrderInput::Waiting(testudo_contracts::Waiting::Nothing));
    stage.suspect();
    assert_eq!(stage.replica().view(), View(1));
}

/// Nothing is proposed beyond the window, and a stable checkpoint moves it.
#[test]
fn checkpoints_move_the_window() {
    let mut stage = One::new();
    let names: Vec<String> = (0..17).map(|number| format!("batch {number}")).collect();
    names.iter().for_each(|name| stage.propose(name));
    assert_eq!((stage.executed().len(), stage.replica().may_propose()), (16, false));
    stage.input(OrderInput::Stable(stage.checkpoint(8)));
    assert_eq!((stage.replica().stable(), stage.replica().may_propose()), (Slot(8), true));
    stage.propose(&names[16]);
    assert_eq!(stage.executed().len(), 17);
    stage.crash();
    stage.start();
    assert_eq!((stage.executed().len(), stage.replica().stable()), (17, Slot(8)));
}

/// A state that was installed from elsewhere stands for the slots that it covers.
#[test]
fn a_restored_state_is_gone_on_from() {
    let mut stage = One::new();
    stage.propose("a");
    stage.input(OrderInput::Stable(stage.checkpoint(8)));
    assert_eq!(stage.world.system.behind, [Slot(8)]);
    stage.input(OrderInput::Restored(stage.checkpoint(8)));
    assert_eq!((stage.replica().executed(), stage.replica().stable()), (Slot(8), Slot(8)));
    stage.propose("b");
    assert_eq!(stage.world.system.executed.get(&Slot(9)), Some(&batch("b")));
}

/// A claim covers what was voted for before a restart, decided or not.
#[test]
fn a_claim_outlives_a_restart() {
    let mut stage = One::new();
    stage.propose("a");
    let before = stage.replica().read_claim();
    assert_eq!(before, Some(Slot(1)));
    stage.crash();
    stage.start();
    assert_eq!(stage.replica().read_claim(), before);
}

/// Whoever has lost records does not know what it promised: it orders nothing more, and says so.
#[test]
fn lost_records_end_voting() {
    let mut stage = One::new();
    for name in ["a", "b"] {
        stage.propose(name);
    }
    // Votes and decisions alternate; the first decision rots.
    let decided = stage.world.positions(NODE)[1];
    stage.crash();
    assert!(stage.world.rot(NODE, decided));
    stage.start();
    assert_eq!(stage.replica().standing(), Standing::Forgotten);
    assert_eq!((stage.executed(), stage.replica().may_propose()), (Vec::new(), false));
    assert_eq!(stage.replica().read_claim(), None, "what it has voted for is not known");
    assert_eq!(stage.world.system.behind, [Slot(2)]);
    stage.propose("c");
    assert_eq!(stage.executed(), []);
}

/// After the epoch has ended nothing more is ordered.
#[test]
fn stops() {
    let mut stage = One::new();
    stage.world.system.judges = false;
    stage.propose("a");
    stage.input(OrderInput::Stop);
    let digest = batch("a").digest();
    stage.input(OrderInput::Judged { view: View(0), slot: Slot(1), batch: digest });
    stage.propose("b");
    assert_eq!((stage.executed(), stage.replica().may_propose()), (Vec::new(), false));
}

/// f+1 equal final replies are believed; with one replica that is one, and a stranger's word is none.
#[test]
fn replies() {
    let (_, _, membership) = cluster(1);
    let reply = |results: &[u8], is_final| ReplyVote {
        view: View(0),
        slot: Slot(1),
        results: Digest::of(results),
        is_final,
    };
    let judge = |id, vote| Reply::judge(&membership, &BTreeMap::from([(ReplicaId(id), vote)]));
    assert_eq!(judge(0, reply(b"x", false)), Verdict::Wait);
    assert_eq!(judge(1, reply(b"x", true)), Verdict::Wait);
    assert_eq!(judge(0, reply(b"x", true)), Verdict::Accept(Slot(1), Digest::of(b"x")));
}

/// Several replicas are refused until the paper's view change is written.
#[test]
#[should_panic(expected = "orders with one replica only")]
fn several_replicas_are_refused() {
    let (_, _, membership) = cluster(4);
    by_hand(membership, Past::none());
}

/// A snapshot stands for all records before it.
#[test]
fn a_snapshot_stands_for_records() {
    let mut stage = One::new();
    stage.propose("a");
    stage.flushes = 1;
    stage.propose("b");
    let snapshot = stage.replica().snapshot(stage.replica().executed());
    assert_eq!(Snapshot::from_bytes(&snapshot.to_bytes()), Ok(snapshot.clone()));
    let (_, _, membership) = cluster(1);
    let promise = Some(Promise { view: View(3), ..Promise::default() });
    let past = Past { promise, snapshot: Some(snapshot), ..Past::none() };
    let (replica, effects) = by_hand(membership, past);
    assert_eq!((replica.view(), replica.executed()), (View(4), Slot(2)));
    assert!(matches!(effects[..], [Effect::Promise(Promise { view: View(4), .. }), Effect::Output(_)]));
}

/// Two statements of one signer that contradict each other convict it before third parties.
#[test]
fn contradictions_convict() {
    let (keys, signer, membership) = cluster(1);
    let (mut replica, _) = by_hand(membership.clone(), Past::none());
    let (view, slot, me) = (View(0), Slot(1), Peer::Replica(ReplicaId(0)));
    let mut say = |name: &str| {
        let vote = Message::Vote(Vote { view, slot, digest: batch(name).digest() });
        let message = Verified::seal(vote, me, Domain::default(), &signer);
        let (mut list, mut next) = (Vec::new(), Position(9));
        replica.on_message(message, &mut Effects::new(&mut list, &mut next, &mut Still));
        list
    };
    assert!(say("a").is_empty() && say("a").is_empty());
    let effects = say("b");
    let [Effect::Blame(evidence)] = &effects[..] else { panic!("{effects:?}") };
    let domain = Domain::default();
    let context = Context { domain, membership: &membership, verifier: &*keys };
    assert!(safety::is_convicted(evidence, &context));
    let mut same = evidence.clone();
    same.statements[1] = same.statements[0].clone();
    assert!(!safety::is_convicted(&same, &context), "one statement twice proves nothing");
}

/// Every message and record has one form, and is what its kind promises.
#[test]
fn messages_are_what_they_promise() {
    let (keys, _, membership) = cluster(1);
    let context = Context { domain: Domain::default(), membership: &membership, verifier: &*keys };
    let (view, slot, me) = (View(2), Slot(1), Peer::Replica(ReplicaId(0)));
    let proposal = Proposal { view, slot, batch: batch("a") };
    let vote = Vote { view, slot, digest: batch("a").digest() };
    for message in [Message::Proposal(proposal.clone()), Message::Vote(vote.clone())] {
        let mut body = Vec::new();
        message.encode_body(&mut body);
        assert_eq!(Message::decode_body(__CONST__, message.kind(), &body), Ok(message.clone()));
        assert!(Message::decode_body(__CONST__, Kind(99), &body).is_err());
        assert_eq!(message.validate(me, &context), Ok(()));
        assert!(message.validate(Peer::Replica(ReplicaId(1)), &context).is_err());
        assert!(message.validate(Peer::Client(PublicKey::default()), &context).is_err());
    }
    let nowhere = [
        Message::Proposal(Proposal { slot: Slot(0), ..proposal.clone() }),
        Message::Vote(Vote { slot: Slot(0), ..vote }),
        Message::Proposal(Proposal {
            batch: Batch { bundles: vec![Digest::ZERO; 2], ..Batch::default() },
            ..proposal.clone()
        }),
    ];
    assert!(nowhere.iter().all(|message| message.validate(me, &context).is_err()));
    for record in [Record::Voted(proposal), Record::Decided(slot, batch("a"))] {
        assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record));
    }
}

/// The keys of a cluster, the first member's signer, and who belongs to it.
fn cluster(n: u16) -> (Rc<SimKeys>, SimSigner, Membership) {
    let mut keys = SimKeys::new(1);
    let signers: Vec<SimSigner> = (0..n).map(|_| keys.mint()).collect();
    let members = signers.iter().map(|signer| Member {
        identity: signer.public(),
        voting: signer.public(),
        incarnation: Incarnation(0),
    });
    let model = FaultModel::byzantine(0);
    let membership = Membership::first(members.collect(), model);
    (Rc::new(keys), signers[0].clone(), membership)
}

struct Still;
impl Host for Still {
    fn clock(&self) -> Time {
        Time(0)
    }
    fn choose(&mut self, _: u32) -> u32 {
        0
    }
    fn secret(&mut self) -> [u8; 32] {
        [0; 32]
    }
}

/// A replica that was started without a driver, and what it wanted done.
fn by_hand(
    membership: Membership,
    past: Past<Snapshot, Record>,
) -> (__Type__, Vec<Effect<__Type__>>) {
    let (mut list, mut next, mut host) = (Vec::new(), Position(0), Still);
    let mut fx = Effects::new(&mut list, &mut next, &mut host);
    let config = OrderConfig::new(Domain::default(), membership);
    let replica = __Type__::start(config, Peer::Replica(ReplicaId(0)), past, &mut fx);
    (replica, list)
}
