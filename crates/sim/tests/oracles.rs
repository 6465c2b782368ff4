//! Each oracle convicts what it is there for, and nothing else.

use std::time::Duration;
use testudo_contracts::{Moment, Service, Store};
use testudo_core::{Digest, Encode, Epoch, Peer, PublicKey, ReplicaId, Slot, Time, View};
use testudo_replication::Published;
use testudo_sim::linear::Operation;
use testudo_sim::memory::{Rot, Unsound};
use testudo_sim::oracle::{Bounds, Cast, Copies, Counts, Jury, REMEMBERED, States, settle};
use testudo_sim::service::{Answer, Ask, KeyValues};
use testudo_sim::{
    Ailment, Condition, Event, Fact, Findings, Harm, Letter, NodeId, Observer, Salvage,
};
use testudo_state::Map;

/// Replicas 0 to 3, of which 3 lies, and a client.
fn cast() -> Cast {
    let mut cast = Cast::default();
    for id in 0..4 {
        cast.add(Peer::Replica(ReplicaId(id)), id != 3, id.to_string());
    }
    cast.add(Peer::Client(PublicKey::default()), true, "c1".into());
    cast
}

/// Which oracles convict a run of these events.
fn convicts(events: &[Event]) -> Vec<&'static str> {
    let mut jury = Jury::new(cast());
    for event in events {
        // Whatever is applied a client has asked for.
        if let Event::Told(_, Fact::Applied { request, .. }) = event {
            jury.observe(Duration::ZERO, &asked(4, *request));
        }
        jury.observe(Duration::ZERO, event);
    }
    jury.violations().iter().map(|violation| violation.oracle).collect()
}

/// A node asks for something, in its client's name.
fn asked(from: u16, digest: Digest) -> Event {
    let sender = Peer::Client(PublicKey::default());
    let (from, to) = (NodeId(from), NodeId(0));
    Event::Sent(Letter { number: 1, from, to, sender, name: "bundle", digest })
}

fn batch(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}
fn told(node: u16, fact: Fact) -> Event {
    Event::Told(NodeId(node), fact)
}
fn executed(node: u16, slot: u64, name: &str) -> Event {
    told(node, Fact::Executed { slot: Slot(slot), batch: batch(name), is_final: true })
}
fn guessed(node: u16, slot: u64, name: &str) -> Event {
    told(node, Fact::Executed { slot: Slot(slot), batch: batch(name), is_final: false })
}
fn applied(node: u16, slot: u64, request: &str, result: &str) -> Event {
    let (request, result) = (batch(request), batch(result));
    told(node, Fact::Applied { slot: Slot(slot), request, result })
}
const NONE: [&str; 0] = [];

#[test]
fn two_batches_in_one_slot_break_agreement() {
    assert_eq!(convicts(&[executed(0, 1, "a"), executed(1, 1, "b")]), ["agreement"]);
    assert_eq!(convicts(&[executed(0, 1, "a"), executed(1, 1, "a")]), NONE);
    assert_eq!(convicts(&[executed(0, 1, "a"), executed(3, 1, "b")]), NONE, "a liar's word");
}

#[test]
fn changing_ones_mind_after_a_restart_breaks_agreement() {
    let restart = Event::Started(NodeId(0));
    assert_eq!(
        convicts(&[executed(0, 1, "a"), restart.clone(), executed(0, 1, "b")]),
        ["agreement"]
    );
    assert_eq!(convicts(&[executed(0, 1, "a"), restart, executed(0, 1, "a")]), NONE);
}

#[test]
fn speculation_counts_when_it_is_final() {
    let commit = |node, slot| told(node, Fact::Committed(Slot(slot)));
    let back = told(1, Fact::RolledBack(Slot(0)));
    let both = [guessed(0, 1, "a"), guessed(1, 1, "b"), commit(0, 1)];
    assert_eq!(convicts(&both), NONE);
    assert_eq!(convicts(&[&both[..], &[commit(1, 1)]].concat()), ["agreement"]);
    let mended = [&both[..], &[back, guessed(1, 1, "a"), commit(1, 1)]].concat();
    assert_eq!(convicts(&mended), NONE);
}

#[test]
fn gaps_and_repetitions_break_the_order() {
    assert_eq!(convicts(&[executed(0, 1, "a"), executed(0, 3, "c")]), ["total order"]);
    assert_eq!(convicts(&[executed(0, 1, "a"), executed(0, 1, "a")]), ["total order"]);
    assert_eq!(convicts(&[executed(0, 2, "b")]), ["total order"]);
    let restored = told(0, Fact::Restored(Slot(8)));
    assert_eq!(convicts(&[executed(0, 1, "a"), restored, executed(0, 9, "i")]), NONE);
    let restart = Event::Started(NodeId(0));
    assert_eq!(convicts(&[executed(0, 1, "a"), restart.clone(), executed(0, 2, "b")]), NONE);
    assert_eq!(convicts(&[executed(0, 1, "a"), restart, executed(0, 3, "c")]), ["total order"]);
}

#[test]
fn one_effect_per_request_and_one_result() {
    assert_eq!(convicts(&[applied(0, 1, "x", "1"), applied(0, 2, "x", "1")]), ["exactly once"]);
    assert_eq!(convicts(&[applied(0, 1, "x", "1"), applied(1, 1, "x", "2")]), ["exactly once"]);
    assert_eq!(convicts(&[applied(0, 1, "x", "1"), applied(1, 2, "x", "1")]), ["exactly once"]);
    assert_eq!(convicts(&[applied(0, 1, "x", "1"), applied(1, 1, "x", "1")]), NONE);
    // A new life executes again what its disk does not cover.
    let again = [
        executed(0, 1, "a"),
        applied(0, 1, "x", "1"),
        Event::Started(NodeId(0)),
        executed(0, 1, "a"),
        applied(0, 1, "x", "1"),
    ];
    assert_eq!(convicts(&again), NONE);
    assert_eq!(
        convicts(&[&again[..], &[executed(0, 2, "b"), applied(0, 2, "x", "1")]].concat()),
        ["exactly once"]
    );
}

#[test]
fn what_nobody_asked_for_has_no_effect() {
    let convicts = |events: &[Event]| {
        let mut jury = Jury::new(cast());
        events.iter().for_each(|event| jury.observe(Duration::ZERO, event));
        jury.violations().iter().map(|violation| violation.oracle).collect::<Vec<_>>()
    };
    let (ask, other) = (asked(4, batch("x")), asked(4, batch("y")));
    assert_eq!(convicts(&[ask.clone(), applied(0, 1, "x", "1")]), NONE);
    assert_eq!(convicts(&[other, applied(0, 1, "x", "1")]), ["validity"]);
    assert_eq!(convicts(&[applied(0, 1, "x", "1"), ask]), ["validity"], "too late");
    assert_eq!(convicts(&[applied(3, 1, "x", "1")]), NONE, "a liar's word");
    let forged = asked(3, batch("x"));
    assert_eq!(convicts(&[forged, applied(0, 1, "x", "1")]), ["validity"], "not its client's word");
}

#[test]
fn tables_beyond_their_bounds_are_convicted() {
    let mut bounds = Bounds::default();
    assert!(bounds.keeps("0", &[("votes", 3, Some(4)), ("slots", 4, Some(4))]).is_none());
    assert!(bounds.keeps("1", &[("votes", 5, Some(4))]).is_some());
    assert_eq!(bounds.most().collect::<Vec<_>>(), [("slots", 4), ("votes", 5)]);
    assert_eq!(bounds.looks(), 2);
    let unknown = bounds.keeps("2", &[("gossip", 0, None)]);
    assert!(
        unknown.is_some_and(|(rule, what)| rule == "bounded memory" && what.contains("gossip"))
    );
}

#[test]
fn different_states_after_one_slot_are_convicted() {
    let checkpoint =
        |node, state: &str| told(node, Fact::Checkpoint { slot: Slot(8), state: batch(state) });
    assert_eq!(convicts(&[checkpoint(0, "s"), checkpoint(1, "t")]), ["equal checkpoints"]);
    assert_eq!(convicts(&[checkpoint(0, "s"), checkpoint(1, "s"), checkpoint(3, "t")]), NONE);
}

#[test]
fn views_go_forward_and_have_one_primary() {
    let view = |node, view, primary| told(node, Fact::View(View(view), ReplicaId(primary)));
    assert_eq!(convicts(&[view(0, 2, 2), view(0, 1, 1)]), ["views"]);
    assert_eq!(convicts(&[view(0, 1, 1), view(1, 1, 2)]), ["views"]);
    assert_eq!(convicts(&[view(0, 2, 2), Event::Started(NodeId(0)), view(0, 1, 1)]), NONE);
    let epoch = |number| told(0, Fact::Epoch(Epoch(number), 1));
    assert_eq!(convicts(&[view(0, 2, 2), epoch(1), view(0, 1, 1)]), NONE, "each epoch has its own");
    assert_eq!(convicts(&[epoch(2), epoch(1)]), ["views"]);
}

#[test]
fn accusations_must_be_true_and_proven() {
    let blamed = |by, accused, convincing| {
        let (by, accused) = (NodeId(by), ReplicaId(accused));
        vec![Event::Blamed { by, accused, offence: "equivocation".into(), convincing }]
    };
    assert_eq!(convicts(&blamed(0, 3, true)), NONE);
    assert_eq!(convicts(&blamed(0, 1, true)), ["justice"]);
    assert_eq!(convicts(&blamed(3, 1, true)), ["justice"]);
    assert_eq!(convicts(&blamed(3, 1, false)), NONE, "a liar's empty accusation");
    assert_eq!(convicts(&blamed(0, 3, false)), ["justice"]);
}

#[test]
fn correct_nodes_accept_what_correct_nodes_say() {
    let refused = |from, sender| {
        let sender = Peer::Replica(ReplicaId(sender));
        let (from, to) = (NodeId(from), NodeId(1));
        let letter = Letter { number: 1, from, to, sender, name: "vote", digest: Digest::ZERO };
        vec![Event::Rejected(letter, "malformed".into())]
    };
    assert_eq!(convicts(&refused(0, 0)), ["honesty"]);
    assert_eq!(convicts(&refused(3, 3)), NONE);
    assert_eq!(convicts(&refused(3, 0)), NONE, "a liar may mangle what it hands on");
}

#[test]
fn the_ledger_balances_or_not() {
    let append = |token: &str, done: bool| Operation {
        client: 0,
        input: Ask::Append { key: "l0".into(), token: token.into() },
        called: 0,
        returned: done.then_some((1, Answer::Done)),
    };
    let read = |at: u64, value: &str| Operation {
        client: 0,
        input: Ask::Get { key: "l0".into() },
        called: at,
        returned: Some((at + 1, Answer::Value(Some(value.into())))),
    };
    assert!(settle(&[append("1,", true), append("2,", true), read(9, "2,1,")]).is_ok());
    assert!(settle(&[append("1,", true), append("2,", true), read(9, "2,")]).is_err(), "lost");
    assert!(settle(&[append("1,", true), read(9, "1,1,")]).is_err(), "doubled");
    assert!(settle(&[append("1,", false), read(9, "1,1,")]).is_err(), "doubled, unanswered");
    assert!(settle(&[append("1,", false), append("11,", true), read(9, "11,")]).is_ok());
    assert!(
        settle(&[append("1,", true), append("2,", true), read(5, "2,"), read(9, "1,2,")]).is_err()
    );
}

#[test]
fn a_correct_learner_that_diverges_is_convicted() {
    assert_eq!(convicts(&[told(4, Fact::Diverged(Slot(3)))]), ["unanimity"]);
    assert_eq!(convicts(&[told(4, Fact::Follows(ReplicaId(1))), told(4, Fact::Fetches)]), NONE);
}

fn state(value: &str) -> Map {
    let mut map = Map::new();
    Store::put(&mut map, b"key", value.as_bytes().into());
    map
}

/// Whether a learner that shows these slots and values one after the other is convicted, where replicas hold `1` after
/// the first slot and `2` after the second.
fn copies_convict(shown: &[(u64, &str)]) -> bool {
    let mut copies = Copies::default();
    assert!(copies.held(Slot(1), &state("1")).is_none());
    assert!(copies.held(Slot(2), &state("2")).is_none());
    shown.iter().any(|(slot, value)| {
        let (slot, state) = (Slot(*slot), state(value));
        copies
            .published(0, &Published { slot, time: Time(0), epoch: Epoch(0), view: View(0), state })
            .is_some()
    })
}

#[test]
fn copies_are_what_replicas_hold_and_never_go_back() {
    assert!(!copies_convict(&[(1, "1"), (2, "2"), (2, "2")]));
    assert!(copies_convict(&[(1, "2")]), "another state");
    assert!(copies_convict(&[(2, "2"), (1, "1")]), "back in time");
    let mut copies = Copies::default();
    assert!(copies.held(Slot(2), &state("2")).is_none());
    let (slot, time, epoch, view) = (Slot(3), Time(0), Epoch(0), View(0));
    let shown = Published { slot, time, epoch, view, state: state("3") };
    assert!(copies.published(0, &shown).is_none(), "who told of it may have crashed while it did");
    assert!(copies.finish().is_some(), "in the end some replica must have gone as far");
    assert!(copies.held(Slot(3), &state("other")).is_some(), "and come to the same");
    assert!(copies.finish().is_none());
}

#[test]
fn a_copy_of_a_slot_at_which_nobody_was_seen_is_compared_all_the_same() {
    let shows = |copies: &mut Copies, learner, value: &str| {
        let (slot, state) = (Slot(1), state(value));
        let at = Published { slot, time: Time(0), epoch: Epoch(0), view: View(0), state };
        copies.published(learner, &at)
    };
    let mut copies = Copies::default();
    assert!(copies.held(Slot(2), &state("2")).is_none(), "it has executed both slots at once");
    assert!(shows(&mut copies, 0, "1").is_none());
    assert_eq!((copies.compared(), copies.alone()), (0, 1));
    assert!(shows(&mut copies, 1, "1").is_none());
    assert!(shows(&mut copies, 2, "other").is_some(), "another learner showed something else");
    assert_eq!((copies.compared(), copies.alone()), (2, 1));
    for (value, is_broken) in [("1", false), ("other", true)] {
        let mut late = Copies::default();
        assert!(late.held(Slot(2), &state("2")).is_none());
        assert!(shows(&mut late, 0, "1").is_none());
        assert_eq!(late.held(Slot(1), &state(value)).is_some(), is_broken, "a replica comes by");
        assert_eq!(late.compared(), 1);
    }
}

#[test]
fn a_spoilt_memory_binds_nobody_until_it_has_another_state() {
    let spoilt = Event::Harmed(NodeId(0), Harm::Memory);
    let other = [spoilt, applied(0, 1, "a", "wrong"), applied(1, 1, "a", "right")];
    assert_eq!(convicts(&other), NONE);
    let restored = told(0, Fact::Restored(Slot(0)));
    let again = |result| [restored.clone(), applied(0, 1, "a", result)];
    let behind = |result| [&other[..], &again(result)].concat();
    assert_eq!(convicts(&behind("wrong")), NONE, "it was behind, and has kept what has rotted");
    let found = told(0, Fact::Wrong(Slot(1)));
    let mended = |result| [&other[..], std::slice::from_ref(&found), &again(result)].concat();
    assert_eq!(convicts(&mended("right")), NONE, "it was transferred, and executes once more");
    assert_eq!(convicts(&mended("wrong")), ["exactly once"]);
}

#[test]
fn equal_slots_are_equal_states() {
    let mut states = States::default();
    assert!(states.held(NodeId(0), Slot(4), batch("a")).is_none());
    assert!(states.held(NodeId(0), Slot(4), batch("a")).is_none());
    assert_eq!(states.compared(), 0, "that was its own");
    assert!(states.held(NodeId(1), Slot(4), batch("a")).is_none());
    assert!(states.held(NodeId(2), Slot(4), batch("b")).is_some());
    assert_eq!(states.compared(), 2);
}

#[test]
fn what_befell_a_replica_counts_until_it_is_all_that_it_was() {
    let well = Condition { stable: Slot(8), horizon: Slot(24), ..Condition::default() };
    let now = Findings {
        condition: Some(well),
        life: 1,
        mended: 0,
        is_log_whole: true,
        is_snapshot_whole: true,
        is_memory_settled: true,
        is_disk_sound: true,
    };
    let ailment = |harm| Ailment { harm, life: 1, mended: 0, horizon: Slot(24) };
    let is_over = |harm, now: &Findings| ailment(harm).is_over(now);
    let again = Findings { life: 2, ..now };
    let far = Condition { stable: Slot(24), ..well };
    for harm in Harm::ALL {
        let down = Findings { condition: None, ..again };
        assert!(!is_over(harm, &down), "{harm}: nobody is well who is down");
        let ill = Condition { is_well: false, ..far };
        assert!(!is_over(harm, &Findings { condition: Some(ill), ..again }), "{harm}");
        let recovered = Findings { condition: Some(far), ..again };
        assert!(is_over(harm, &recovered), "{harm}: it started, voted and went on");
    }
    assert!(!is_over(Harm::Record, &Findings { is_log_whole: false, ..again }), "it is missing");
    assert!(is_over(Harm::Record, &now), "it is forgotten");
    assert!(!is_over(Harm::Wiped, &again), "what it had said may still matter");
    assert!(!is_over(Harm::Snapshot, &Findings { is_snapshot_whole: false, ..again }));
    assert!(!is_over(Harm::Memory, &now), "it has the state that it had");
    assert!(is_over(Harm::Memory, &Findings { mended: 1, ..now }));
    let refused = Findings { is_disk_sound: false, ..again };
    assert!(is_over(Harm::SlowDisk, &refused), "slowness is no fault");
    for harm in [Harm::FailedFlush, Harm::FullDisk] {
        assert!(!is_over(harm, &refused), "{harm}: it may stop at any moment");
        assert!(is_over(harm, &now), "{harm}: its disk has space, and nothing is lost");
    }
    assert!(!is_over(Harm::FlippedBit, &Findings { is_snapshot_whole: false, ..again }));
    assert!(is_over(Harm::FlippedBit, &now), "what stood there stands twice, or is forgotten");
    assert!(!is_over(Harm::ZeroedRun, &again), "what it had said may still matter");
}

#[test]
fn a_log_that_does_not_keep_what_it_is_given_is_convicted() {
    let opened = |salvage| Event::Opened(NodeId(0), salvage);
    let whole = Salvage::default();
    let harmed = |harm| Event::Harmed(NodeId(0), harm);
    let torn = Salvage { torn: 9, mended: 2, ..whole };
    assert_eq!(convicts(&[opened(whole), opened(torn)]), NONE, "a torn write is nobody's loss");
    let lost = opened(Salvage { lost: 1, ..whole });
    assert_eq!(convicts(std::slice::from_ref(&lost)), ["keeping"], "nothing had happened to it");
    assert_eq!(convicts(&[harmed(Harm::SlowDisk), lost.clone()]), ["keeping"]);
    assert_eq!(convicts(&[harmed(Harm::Record), lost]), NONE);
    for salvage in [
        Salvage { missing: 1, ..whole },
        Salvage { condemned: 1, lost: 1, ..whole },
        Salvage { altered: 1, ..whole },
    ] {
        let found = convicts(&[harmed(Harm::Record), opened(salvage)]);
        assert_eq!(found, ["keeping"], "harm elsewhere excuses nothing: {salvage}");
    }
    let failed = Event::Failed(NodeId(0), "disk full".into());
    assert_eq!(convicts(std::slice::from_ref(&failed)), ["keeping"], "it had refused nothing");
    assert_eq!(convicts(&[harmed(Harm::FullDisk), failed]), NONE);
}

#[test]
fn harm_excuses_what_it_has_caused_and_nothing_later() {
    let whole = Salvage::default();
    let opened = |salvage| Event::Opened(NodeId(0), salvage);
    let lost = |lost| opened(Salvage { lost, ..whole });
    let harmed = |harm| Event::Harmed(NodeId(0), harm);
    let record = || harmed(Harm::Record);
    assert_eq!(convicts(&[record(), lost(2), lost(2), lost(1)]), NONE, "they are missing still");
    assert_eq!(convicts(&[record(), lost(2), lost(3)]), ["keeping"], "one more");
    assert_eq!(convicts(&[record(), lost(2), lost(1), lost(2)]), ["keeping"], "one was let go");
    assert_eq!(convicts(&[record(), opened(whole), lost(1)]), ["keeping"], "it was mended");
    assert_eq!(convicts(&[record(), lost(1), record(), lost(2)]), NONE, "harmed again");

    let failed = Event::Failed(NodeId(0), "disk full".into());
    let full = harmed(Harm::FullDisk);
    let still = opened(Salvage { may_refuse: true, ..whole });
    assert_eq!(convicts(&[full.clone(), failed.clone(), still, failed.clone()]), NONE);
    assert_eq!(
        convicts(&[full, failed.clone(), opened(whole), failed]),
        ["keeping"],
        "it has space"
    );
}

#[test]
fn memory_rots_once_for_each_time_that_it_is_spoilt() {
    let rot = Rot::default();
    let service = Unsound::new(KeyValues, rot.clone());
    let mut map = Map::new();
    let moment = Moment { slot: Slot(1), time: Time(0), elapsed: 0 };
    let put = Ask::Put { key: "k".into(), value: "b".into() }.to_bytes();
    service.execute(&mut map, &put, &moment);
    rot.spoil(7);
    assert!(!rot.is_done());
    service.advance(&mut map, &moment);
    service.advance(&mut map, &moment);
    assert_eq!((rot.bitten(), rot.is_done()), (1, true));
    assert_eq!(map.get(b"k").map(|value| &**value), Some(&b"c"[..]));
}

/// What happens in one slot of a run in which each slot has another view, and each view another epoch: a client asks for
/// two things, all replicas give them their effect, and they take a checkpoint.
fn busy_slot(slot: u64) -> Vec<Event> {
    let requests = [0, 1].map(|number| batch(&format!("{slot}.{number}")));
    // What is read is said, too, and never applied.
    let read = batch(&format!("{slot}.read"));
    let mut events: Vec<Event> =
        requests.into_iter().chain([read]).map(|digest| asked(4, digest)).collect();
    for node in 0..3 {
        let primary = ReplicaId((slot % 3) as u16);
        events.push(told(node, Fact::Epoch(Epoch(slot), 1)));
        events.push(told(node, Fact::View(View(slot), primary)));
        events.push(told(node, Fact::Executed { slot: Slot(slot), batch: read, is_final: true }));
        let result = Digest::ZERO;
        let applied = |request| told(node, Fact::Applied { slot: Slot(slot), request, result });
        events.extend(requests.map(applied));
        events.push(told(node, Fact::Checkpoint { slot: Slot(slot), state: read }));
    }
    events
}

#[test]
fn what_oracles_remember_does_not_grow_with_time() {
    const SLOTS: u64 = 12 * REMEMBERED;
    let (mut jury, mut counts) = (Jury::new(cast()), Counts::default());
    let mut states = States::default();
    let mut sizes = Vec::new();
    for slot in 1..=SLOTS {
        for event in busy_slot(slot) {
            jury.observe(Duration::ZERO, &event);
            counts.observe(Duration::ZERO, &event);
        }
        assert!(states.held(NodeId(0), Slot(slot), Digest::ZERO).is_none());
        if slot.is_multiple_of(3 * REMEMBERED) {
            let of_others = [("counts", counts.size()), ("states", states.size())];
            sizes.push(jury.sizes().chain(of_others).collect::<Vec<_>>());
        }
    }
    assert_eq!(jury.violations(), []);
    assert_eq!(counts.all()["view changes"], SLOTS);
    assert_eq!(counts.all()["epochs begun"], SLOTS);
    for now in &sizes {
        for ((name, size), (_, first)) in now.iter().zip(&sizes[0]) {
            assert!(size <= first, "{name} grew from {first} to {size} things");
            // Three replicas, and one table for all of them; two requests a slot, and what is read; two generations.
            assert!(*size as u64 <= 20 * REMEMBERED, "{name} remembers {size} things");
        }
    }
}

#[test]
fn what_is_forgotten_is_convicted_when_it_comes_again() {
    let mut events = vec![applied(0, 1, "x", "1")];
    for slot in 2..=3 * REMEMBERED {
        let result = format!("{slot}");
        events.push(applied(0, slot, &result, &result));
    }
    assert_eq!(convicts(&events), NONE);
    let last = Slot(3 * REMEMBERED + 1);
    let again = |name: &str| {
        told(0, Fact::Applied { slot: last, request: batch(name), result: batch("1") })
    };
    let convicts = |request: &str| {
        let mut jury = Jury::new(cast());
        for event in &events {
            if let Event::Told(_, Fact::Applied { request, .. }) = event {
                jury.observe(Duration::ZERO, &asked(4, *request));
            }
            jury.observe(Duration::ZERO, event);
        }
        jury.observe(Duration::ZERO, &again(request));
        jury.violations().iter().map(|violation| violation.oracle).collect::<Vec<_>>()
    };
    assert_eq!(convicts("x"), ["validity"], "nobody has asked for it any more");
    let late = (3 * REMEMBERED - 1).to_string();
    assert_eq!(convicts(&late), ["exactly once"], "that is remembered");
}
