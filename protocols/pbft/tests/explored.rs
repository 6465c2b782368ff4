//! All that can happen in small configurations.

mod broken;

use broken::{BlamesRepetition, DropsPrepared, RepliesEarly, ShortQuorum};
use std::fmt::Debug;
use testudo_contracts::Batch;
use testudo_core::{Peer, ReplicaId, Slot, View};
use testudo_pbft::message::{Commit, PrePrepare, Prepare, Slots, ViewChange};
use testudo_pbft::{Message, Pbft, Rules, Standard, safety};
use testudo_sim::explore::ordering::{Ordered, batch};
use testudo_sim::explore::{Bounds, Falsehood, Progress, explore};
use testudo_sim::{NodeId, Shape, World};

fn number(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

fn ordered<R: Rules + Clone + Debug + 'static>(requests: u8) -> Ordered<Pbft<R>> {
    let mut ordered = Ordered::new(requests);
    ordered.convicts = safety::is_convicted;
    ordered
}

fn peer(id: u16) -> Peer {
    Peer::Replica(ReplicaId(id))
}

/// What a primary says that wants this batch in the first slot of view 0.
fn face(batch: &Batch) -> Vec<Message> {
    let (view, slot, digest) = (View(0), Slot(1), batch.digest());
    vec![
        Message::PrePrepare(PrePrepare { view, slot, batch: batch.clone() }),
        Message::Prepare(Prepare { view, slot, digest }),
        Message::Commit(Commit { view, slot, digest }),
    ]
}

/// A primary that says to each replica what it likes.
fn two_faced<R: Rules + Clone + Debug + 'static>(
    _: &World<Ordered<Pbft<R>>>,
    _: NodeId,
) -> Vec<Falsehood<Message>> {
    let mut all = Vec::new();
    for name in ["a", "b"] {
        for to in 1..4 {
            let messages =
                face(&batch(name, true)).into_iter().map(|said| (peer(to), said)).collect();
            all.push(Falsehood { words: format!("->{to} wants {name}"), messages });
        }
    }
    all
}

fn helper<R: Rules + Clone + Debug + 'static>(
    _: &World<Ordered<Pbft<R>>>,
    _: NodeId,
) -> Vec<Falsehood<Message>> {
    let mut all = Vec::new();
    let (slot, digest) = (Slot(1), batch("a", true).digest());
    for to in 0..3 {
        all.push(Falsehood {
            words: format!("->{to} commit a"),
            messages: vec![(peer(to), Message::Commit(Commit { view: View(0), slot, digest }))],
        });
    }
    let change = Message::ViewChange(ViewChange {
        view: View(1),
        stable: None,
        prepared: Vec::new(),
        lost: Slots::none(),
    });
    all.push(Falsehood {
        words: "view change".into(),
        messages: (0..3).map(|to| (peer(to), change.clone())).collect(),
    });
    let (view, digest) = (View(1), batch("b", true).digest());
    let votes = [
        Message::Prepare(Prepare { view, slot, digest }),
        Message::Commit(Commit { view, slot, digest }),
    ];
    all.push(Falsehood {
        words: "votes b".into(),
        messages: (0..3).flat_map(|to| votes.clone().map(|v| (peer(to), v))).collect(),
    });
    all
}

fn go<R: Rules + Clone + Debug + 'static>(bounds: &Bounds) {
    let requests = number("REQUESTS", 1) as u8;
    let liar = number("LIAR", 0);
    let start = std::time::Instant::now();
    let mut progress = |p: &Progress| println!("{p:?}");
    let make = || {
        let mut system = ordered::<R>(requests);
        if liar == 1 {
            system.falsehoods = two_faced;
        }
        if liar == 2 {
            system.falsehoods = helper;
        }
        let mut world = World::asleep(system, &Shape::byzantine(1, 0), 0);
        if liar == 1 {
            world.suborn(NodeId(0));
        }
        if liar == 2 {
            world.suborn(NodeId(3));
        }
        world
    };
    let r = explore(make, bounds, &mut progress);
    println!("{r}\n{:?}", start.elapsed());
}

#[test]
fn probe() {
    let bounds = Bounds {
        inputs: number("INPUTS", 1),
        timeouts: number("TIMEOUTS", 0),
        timers: vec!["View"],
        crashes: number("CRASHES", 0),
        restarts: number("RESTARTS", 0),
        duplicates: number("DUPLICATES", 0),
        lies: number("LIES", 0),
        late: std::env::var("LATE").ok().and_then(|v| v.parse().ok()),
        prompt: number("PROMPT", 1) == 1,
        states: number("STATES", 20000) as usize,
        ..Bounds::default()
    };
    match number("RULES", 0) {
        0 => go::<Standard>(&bounds),
        1 => go::<DropsPrepared>(&bounds),
        2 => go::<ShortQuorum>(&bounds),
        3 => go::<RepliesEarly>(&bounds),
        _ => go::<BlamesRepetition>(&bounds),
    };
}
