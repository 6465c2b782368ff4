//! From one epoch to the next: what is said is sealed with the domain and the key of its time, and what is heard is believed
//! by the keys of its time.

mod common;

use common::{Ask, Running, Site, Word, replica, until};
use std::collections::BTreeSet;
use testudo_core::{Base, Digest, Epoch, Incarnation, Membership, PublicKey, ReplicaId, Slot};
use testudo_keys::NodeKey;

fn candidate(node: &Running) -> PublicKey {
    let shown = node.handle.inspect_blocking(|gossip| (gossip.candidate, gossip.holds));
    let (candidate, holds) = shown.expect("it runs");
    assert!(holds, "a candidate is held");
    candidate.expect("there is a candidate")
}

/// The epoch after this one, in which this replica votes with that key.
fn next(before: &Membership, id: usize, voting: PublicKey) -> Membership {
    let mut next = before.clone();
    next.epoch = before.epoch.next();
    next.base = Base { slot: Slot(7), state: Digest([7; 32]) };
    next.members[id].voting = voting;
    next.members[id].incarnation = before.members[id].incarnation.next();
    next
}

fn keys(site: &Site, id: usize) -> BTreeSet<String> {
    common::files(&site.data(id).join("keys")).into_iter().collect()
}

#[test]
fn each_word_is_sealed_with_the_epoch_and_the_key_of_its_time() {
    let mut site = Site::new(2);
    let nodes = site.start_all();
    let voting = candidate(&nodes[1]);
    let members = next(&site.membership, 1, voting);
    nodes[0].ask(Ask::Whisper(replica(1), 1));
    until("they are connected", || nodes[1].has_heard(0, &Word::Whisper(1)));
    // One of them stays behind: it hears what was said before, and not what was said after.
    nodes[1].ask(Ask::Succeed(members.clone(), 10, 11));
    until("the one who stays hears the first word", || nodes[0].has_heard(1, &Word::News(10)));
    let metrics = nodes[0].handle.metrics();
    until("and not the second", || metrics.rejections("epoch") == 1);
    assert_eq!(metrics.rejections("proof"), 0);
    assert!(nodes[1].has_heard(1, &Word::News(10)), "it hears its own words, whenever");
    until("also the later one", || nodes[1].has_heard(1, &Word::News(11)));
    let kept = ["candidate", "voting-1"].map(str::to_owned);
    assert_eq!(keys(&site, 1), BTreeSet::from(kept), "the candidate is a voting key now");
    // Now the other goes along: what is said under the new key counts with it.
    nodes[0].ask(Ask::Succeed(members, 20, 21));
    until("both are there", || nodes[1].has_heard(0, &Word::News(21)));
    assert!(!nodes[1].has_heard(0, &Word::News(20)), "it was said in an epoch that was over there");
    nodes[1].ask(Ask::Publish(12));
    until("the new key counts", || nodes[0].has_heard(1, &Word::News(12)));
    for node in &nodes {
        assert_eq!(node.handle.metrics().ends("condemned"), 0);
    }
}

#[test]
fn who_does_not_have_the_key_that_is_named_signs_nothing_and_goes_on() {
    let mut site = Site::new(2);
    let nodes = site.start_all();
    let elsewhere = NodeKey::generate().expect("randomness").member().voting;
    let members = next(&site.membership, 0, elsewhere);
    nodes[1].ask(Ask::Succeed(members.clone(), 1, 2));
    nodes[0].ask(Ask::Succeed(members.clone(), 3, 4));
    nodes[0].ask(Ask::Publish(5));
    nodes[0].ask(Ask::Whisper(replica(1), 6));
    until("what needs no signature is said", || nodes[1].has_heard(0, &Word::Whisper(6)));
    assert!(!nodes[1].has_heard(0, &Word::News(4)) && !nodes[1].has_heard(0, &Word::News(5)));
    assert!(!nodes[0].has_heard(0, &Word::News(5)), "not even to itself");
    assert_eq!(keys(&site, 0), BTreeSet::from(["candidate".to_owned()]));
    // It may come back under its candidate.
    let voting = candidate(&nodes[0]);
    let back = next(&members, 0, voting);
    nodes[1].ask(Ask::Succeed(back.clone(), 7, 8));
    nodes[0].ask(Ask::Succeed(back, 9, 10));
    until("its word counts again", || nodes[1].has_heard(0, &Word::News(10)));
    assert_eq!(keys(&site, 0), BTreeSet::from(["candidate", "voting-2"].map(str::to_owned)));
}

#[test]
fn a_key_that_cannot_be_kept_stops_the_replica_before_it_signs() {
    let mut site = Site::new(2);
    let nodes = site.start_all();
    let members = next(&site.membership, 0, candidate(&nodes[0]));
    nodes[1].ask(Ask::Succeed(members.clone(), 1, 2));
    until("the other is there", || nodes[1].has_heard(1, &Word::News(2)));
    // There is a key of that name already, whatever it is.
    std::fs::write(site.data(0).join("keys/voting-1"), b"another").expect("written");
    nodes[0].ask(Ask::Succeed(members, 3, 4));
    until("it stops", || nodes[0].handle.failure().is_some());
    let failure = nodes[0].handle.failure().expect("it has stopped").to_string();
    assert!(failure.contains("must not sign with what it may forget"), "{failure}");
    nodes[1].ask(Ask::Whisper(replica(1), 5));
    until("the other goes on", || nodes[1].has_heard(1, &Word::Whisper(5)));
    assert!(!nodes[1].has_heard(0, &Word::News(4)));
}

#[test]
fn a_candidate_outlives_restarts_and_a_broken_one_says_what_to_do() {
    let mut site = Site::new(1);
    let node = site.start(0);
    let first = candidate(&node);
    node.handle.shutdown();
    let node = site.start(0);
    assert_eq!(candidate(&node), first);
    node.handle.shutdown();
    std::fs::write(site.data(0).join("keys/candidate"), b"rotten").expect("written");
    let config = site.config(0);
    let refused = common::run(config).expect_err("a broken key").to_string();
    assert!(refused.contains("remove it, and another one is made"), "{refused}");
    std::fs::remove_file(site.data(0).join("keys/candidate")).expect("removed");
    assert_ne!(candidate(&site.start(0)), first);
}

#[test]
fn evidence_is_kept_with_what_shows_the_members_of_its_epoch() {
    let mut site = Site::new(1);
    let mut config = site.config(0);
    config.probe.lineage = Box::new(|gossip, epoch| match epoch {
        Epoch(0) => Vec::new(),
        Epoch(epoch) => vec![gossip.recorded.len() as u8, epoch as u8],
    });
    let node = common::run(config).expect("it starts");
    let voting = candidate(&node);
    node.ask(Ask::Accuse(ReplicaId(1)));
    node.ask(Ask::Note(1));
    node.ask(Ask::Succeed(next(&site.membership, 0, voting), 2, 3));
    node.ask(Ask::Accuse(ReplicaId(2)));
    let folder = site.data(0).join(testudo_runtime::EVIDENCE_FOLDER);
    let is_whole = |name: &String| name.ends_with(".evidence");
    until("both are kept", || {
        common::files(&folder).iter().filter(|name| is_whole(name)).count() == 2
    });
    let files = common::files(&folder);
    let kept = files.iter().map(|name| testudo_runtime::read_evidence(&folder.join(name)));
    let mut kept: Vec<_> = kept.map(|kept| kept.expect("evidence")).collect();
    kept.sort_by_key(|kept| kept.evidence.accused);
    assert!(kept[0].lineage.is_empty());
    assert_eq!(kept[1].lineage, [1, 1]);
    assert_eq!(kept[1].evidence.accused, ReplicaId(2));
    assert_eq!(site.membership.members[0].incarnation, Incarnation(0));
}
