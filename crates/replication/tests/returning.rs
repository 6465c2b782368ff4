//! What a replica that came back has to do with what was before: with what it lost, nothing; and what it asked for is
//! history, which others are shown and nobody has decided again.

mod cluster;

use cluster::{Cluster, Key, Tape, Timer, hash, public};
use testudo_contracts::{Batch, Standing};
use testudo_core::{
    Digest, Domain, Epoch, Evidence, Incarnation, Lost, Peer, Position, ReplicaId, Signed, Slot,
    Time, Verified, View,
};
use testudo_replication::{Bundle, Feed, Readmission, ReplicaMessage, Request, Voucher};

const INTERVAL: u64 = 4;

fn pass(cluster: &mut Cluster, ticks: usize) {
    for _ in 0..ticks {
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::Resend));
        for timer in [Timer::Fetch, Timer::Heal, Timer::Checkpoint, Timer::Budget, Timer::Epoch] {
            cluster.fire_all(timer);
        }
    }
}

/// Replica 3 came back, after its superblock and `more` were lost.
fn returned(more: &[Lost]) -> (Cluster, u64) {
    let mut cluster = Cluster::new(INTERVAL, Tape::default());
    let session = cluster.open(2);
    cluster.put(session, 1..8);
    cluster.stop(3);
    cluster.nodes[3].disk.promise = None;
    cluster.nodes[3].disk.lost.extend(more);
    cluster.start(3);
    cluster.run();
    assert_eq!(cluster.replica(3).status().standing, Standing::Forgotten);
    pass(&mut cluster, 6);
    (cluster, session)
}

#[test]
fn who_lost_its_superblock_comes_back_once_and_for_all() {
    let (mut cluster, session) = returned(&[Lost { position: Position(1000), tag: None }]);
    let status = cluster.replica(3).status();
    let place = (status.epoch, status.incarnation, status.standing);
    assert_eq!(place, (Epoch(1), Incarnation(1), Standing::Voting));
    let promise = cluster.nodes[3].disk.promise.expect("it has promised again");
    assert_eq!((promise.epoch, promise.incarnation), (Epoch(1), Incarnation(1)));

    // It signs whatever others do: without it there would be no checkpoint.
    cluster.stop(0);
    cluster.put(session, 8..10);
    for _ in 0..4 {
        cluster.fire_all(Timer::Order(testudo_pbft::Timer::View));
        pass(&mut cluster, 2);
    }
    cluster.put(session, 10..24);
    pass(&mut cluster, 2);
    let status = cluster.replica(3).status();
    let stable = status.stable.expect("a checkpoint").slot;
    assert!(stable.0 + INTERVAL > status.slot.0, "stable at {stable}, executed {}", status.slot);
    assert!(status.slot.0 > 20, "{}", status.slot);
}

#[test]
fn a_return_is_promised_before_anything_rests_on_it() {
    let (mut cluster, session) = returned(&[]);
    // It may start again at any time.
    for _ in 0..2 {
        cluster.nodes[3].disk.lost.clear();
        cluster.restart(3);
        pass(&mut cluster, 4);
        let status = cluster.replica(3).status();
        assert_eq!((status.epoch, status.incarnation), (Epoch(1), Incarnation(1)));
        assert_eq!(status.standing, Standing::Voting);
    }
    cluster.put(session, 8..12);
    let slot = cluster.replica(0).state().slot.0;
    cluster.check(slot);
}

/// What a replica asks for in an epoch, as it was signed then.
fn asked(id: u16, epoch: u64, request: Request) -> Signed<Bundle> {
    let peer = Peer::Replica(ReplicaId(id));
    let domain = Domain { epoch: Epoch(epoch), ..Domain::default() };
    let bundle = Bundle { replier: ReplicaId(id), request };
    Verified::seal(bundle, peer, domain, &Key::of(peer)).signed()
}

/// Replica 3 asks to come back.
fn readmission(epoch: u64) -> Request {
    let voting = public(Peer::Client(cluster::client(9)));
    let asked = Readmission { epoch: Epoch(epoch), incarnation: Incarnation(1), voting };
    let proof = hash(&voting, &asked.digest(ReplicaId(3), Domain::default()));
    Request::Readmit(asked, proof)
}

fn unfounded(accused: u16) -> Request {
    Request::Convict(Evidence {
        accused: ReplicaId(accused),
        protocol: testudo_pbft::PBFT,
        offence: "equivocation".to_owned(),
        statements: Vec::new(),
    })
}

/// A slot that holds this, as replica 0 tells of it now.
fn feed(body: &Signed<Bundle>) -> cluster::Message {
    let digest = Verified::replay(body.clone()).expect("a bundle").digest();
    let batch = Batch { bundles: vec![digest], time: Time(7), gap_not_counted: false };
    let (chain, outcome) = (Digest::ZERO, Digest::ZERO);
    let voucher = Voucher { slot: Slot(3), chain, outcome, view: View(0) };
    ReplicaMessage::Feed(Feed { voucher, batch, bodies: vec![body.clone()] })
}

#[test]
fn what_was_asked_for_in_an_epoch_that_is_over_can_still_be_shown() {
    let (cluster, _) = returned(&[]);
    let context = cluster.context_of(0);
    let from = Peer::Replica(ReplicaId(0));
    let is_believed = |message: cluster::Message| {
        let sealed = Verified::seal(message, from, context.domain, &Key::of(from));
        sealed.signed().verify(from, &context).is_ok()
    };
    let shown = |body: &Signed<Bundle>| {
        let bodies = ReplicaMessage::Bodies(vec![body.clone()]);
        let both = [is_believed(feed(body)), is_believed(bodies)];
        assert_eq!(both[0], both[1]);
        both[0]
    };
    // Each names its epoch itself, and is refused when it executes in another.
    assert!((0..3).all(|epoch| shown(&asked(3, 0, readmission(epoch)))));
    assert!(!shown(&asked(2, 0, unfounded(1))), "evidence is judged whenever it is shown");
    // No key is as good as the right one.
    let thief = Key::of(Peer::Replica(ReplicaId(1)));
    let bundle = Bundle { replier: ReplicaId(3), request: readmission(0) };
    let stolen = Verified::seal(bundle, Peer::Replica(ReplicaId(3)), Domain::default(), &thief);
    assert!(!shown(&stolen.signed()));
}
