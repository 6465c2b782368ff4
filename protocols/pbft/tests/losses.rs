//! Every way in which a small cluster's disks can lose or forget something: one record of each replica, whichever, and any
//! old image of one. Each broken rule is convicted in the same runs.

mod broken;
mod harness;

use broken::{AcceptsOldImages, AsksNobody, CountsTheLost, Truncates};
use harness::{Cluster, Disk, Letter, batch};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use testudo_contracts::{OrderInput, Ordering as _, Standing, Waiting};
use testudo_core::{Position, ReplicaId, Slot, Tag, Tagged as _};
use testudo_pbft::message::{Commit, PrePrepare, Prepare};
use testudo_pbft::{Message, Record, Rules, Standard, Timer};

/// What the power failure found: the disks, on which one slot is decided everywhere, one was decided and executed at replica
/// 3 alone, and one was voted for. The second is prepared everywhere, or only at as many as it took.
fn before_the_power_fails(is_prepared_everywhere: bool) -> Vec<Disk> {
    let mut cluster = Cluster::<Standard>::new(4, 1);
    cluster.propose(0, "a");
    cluster.run();
    cluster.drop = Box::new(move |letter: &Letter| match letter.message {
        Message::Commit(_) => letter.to != ReplicaId(3),
        Message::Prepare(_) => letter.to == ReplicaId(2) && !is_prepared_everywhere,
        _ => false,
    });
    cluster.propose(0, "b");
    cluster.run();
    cluster.drop = Box::new(|letter| matches!(letter.message, Message::Prepare(_)));
    cluster.propose(0, "c");
    cluster.run();
    assert_eq!(cluster.executed(3), [batch("a"), batch("b")]);
    assert_eq!(cluster.executed(2), [batch("a")]);
    cluster.check();
    (0..4).map(|id| cluster.image(id)).collect()
}

/// The records of a disk that votes rest on. In the first slot, which all have executed, the certificate stands for all.
fn votes(disk: &Disk) -> Vec<(Position, Slot)> {
    let vote = |(position, record): &(Position, Record)| match (record.tag(), record) {
        (Tag::Vote(Slot(1)), Record::Voted(_) | Record::Proposed(_)) => None,
        (Tag::Vote(slot), _) => Some((*position, slot)),
        _ => None,
    };
    disk.records.iter().filter_map(vote).collect()
}

/// How many slots at least all execute in the end: more than were voted on before.
const ENOUGH: usize = 5;

/// All start again, each without the record that it lost. At first replica 3, which alone knows what was acknowledged, is
/// cut off. What was executed in the end.
fn play<R: Rules>(disks: &[Disk], lost: &[Option<(Position, Slot)>]) -> Cluster<R> {
    let mut cluster = Cluster::<R>::new(4, 1);
    for (id, (disk, lost)) in (0..).zip(disks.iter().zip(lost)) {
        cluster.crash(id);
        cluster.restore(id, disk.clone());
        if let Some((position, _)) = lost {
            let hit = disk.records.iter().find(|(at, _)| at == position);
            let hit = hit.map(|(_, record)| record.clone()).expect("it was there");
            cluster.rot(id, true, |record| *record == hit);
        }
    }
    cluster.drop = Box::new(|letter: &Letter| {
        letter.from != letter.to && (letter.from == ReplicaId(3) || letter.to == ReplicaId(3))
    });
    (0..4).for_each(|id| cluster.start(id));
    cluster.nodes[3].executed.insert(Slot(2), batch("b"));
    cluster.run();
    strive(&mut cluster, &[0, 1, 2], 3);
    cluster.drop = Box::new(|_| false);
    strive(&mut cluster, &[0, 1, 2, 3], 12);
    cluster
}

/// For some rounds, or until all have executed enough, everybody waits for something, primaries propose, and views that last
/// too long end.
fn strive<R: Rules>(cluster: &mut Cluster<R>, ids: &[u16], rounds: u64) {
    for round in 0..rounds {
        if cluster.nodes.iter().all(|node| node.executed.len() > ENOUGH) {
            return;
        }
        let oldest = OrderInput::Waiting(Waiting::Oldest(100 * ids.len() as u64 + round));
        for id in ids {
            cluster.input(*id, oldest.clone());
            let core = cluster.core(*id);
            if core.may_propose() && core.open_slots() == 0 {
                cluster.propose(*id, &format!("{}/{round}", ids.len()));
            }
        }
        cluster.tick();
        cluster.tick();
        if round % 3 == 1 {
            ids.iter().for_each(|id| cluster.fire(*id, Timer::View));
            cluster.run();
        }
    }
}

fn all_losses(disks: &[Disk]) -> Vec<Vec<Option<(Position, Slot)>>> {
    let mut all = vec![vec![]];
    for disk in disks {
        let choices: Vec<_> =
            std::iter::once(None).chain(votes(disk).into_iter().map(Some)).collect();
        all = all
            .into_iter()
            .flat_map(|before| {
                choices.iter().map(move |choice| {
                    let mut with = before.clone();
                    with.push(*choice);
                    with
                })
            })
            .collect();
    }
    all
}

/// Whether no two replicas executed different batches in one slot, and nobody contradicted itself.
fn is_safe<R: Rules>(cluster: &Cluster<R>) -> bool {
    let mut order = BTreeMap::new();
    let executed = cluster.nodes.iter().flat_map(|node| &node.executed);
    executed.into_iter().all(|(slot, batch)| order.entry(*slot).or_insert(batch) == &batch)
        && catch_unwind(AssertUnwindSafe(|| cluster.check())).is_ok()
}

/// Whatever record each replica loses, nothing acknowledged is lost; and where no two have lost the same slot, all go on.
#[test]
fn no_loss_of_records_loses_a_decision() {
    let mut healed = 0;
    for is_prepared_everywhere in [false, true] {
        let disks = before_the_power_fails(is_prepared_everywhere);
        for lost in all_losses(&disks) {
            let slots: Vec<Slot> = lost.iter().flatten().map(|(_, slot)| *slot).collect();
            let is_helical = slots.iter().collect::<BTreeSet<_>>().len() == slots.len();
            if is_prepared_everywhere && !is_helical {
                continue;
            }
            let cluster = play::<Standard>(&disks, &lost);
            assert!(is_safe(&cluster), "{lost:?}");
            if !is_helical {
                continue;
            }
            healed += 1;
            let executed = cluster.executed(0);
            assert_eq!(executed[..2], [batch("a"), batch("b")], "{lost:?}");
            assert!(executed.len() > ENOUGH, "nothing goes on with {lost:?}");
            assert!((1..4).all(|id| cluster.executed(id) == executed), "{lost:?}");
        }
    }
    assert!(healed > 100, "{healed} of them are helical");
}

/// Whether some loss of records breaks these rules.
fn breaks<R: Rules>() -> bool {
    let disks = before_the_power_fails(false);
    all_losses(&disks).iter().any(|lost| {
        let cluster = catch_unwind(|| play::<R>(&disks, lost));
        cluster.is_err() || cluster.is_ok_and(|cluster| !is_safe(&cluster))
    })
}

#[test]
fn truncating_what_is_damaged_is_found_out() {
    assert!(breaks::<Truncates>());
}

#[test]
fn counting_those_who_have_lost_is_found_out() {
    assert!(breaks::<CountsTheLost>());
}

/// A primary that lies proposes two batches, and says all that helps them along.
fn offer<R: Rules>(cluster: &mut Cluster<R>, names: [&str; 2]) {
    for (slot, name) in (1..).map(Slot).zip(names) {
        let view = testudo_core::View(0);
        let (batch, digest) = (batch(name), batch(name).digest());
        let proposal = PrePrepare { view, slot, batch };
        for to in 1..4 {
            cluster.post(0, to, Message::PrePrepare(proposal.clone()));
            cluster.post(0, to, Message::Prepare(Prepare { view, slot, digest }));
            cluster.post(0, to, Message::Commit(Commit { view, slot, digest }));
        }
    }
}

/// Two batches are decided, and the view changes. `look` sees the cluster after each step.
fn history<R: Rules>(mut look: impl FnMut(&Cluster<R>)) -> Cluster<R> {
    let mut cluster = Cluster::<R>::new(4, 1);
    cluster.corrupt(0);
    look(&cluster);
    let mut run = |cluster: &mut Cluster<R>| {
        while !cluster.wire.is_empty() {
            let letter = cluster.wire.remove(0);
            cluster.deliver(letter);
            look(cluster);
        }
    };
    offer(&mut cluster, ["a", "b"]);
    run(&mut cluster);
    cluster.wait(&[1, 2, 3], 1);
    (1..4).for_each(|id| cluster.fire(id, Timer::View));
    run(&mut cluster);
    cluster
}

/// Every image that a disk held on the way.
fn images(id: u16) -> Vec<Disk> {
    let mut images: Vec<Disk> = Vec::new();
    history::<Standard>(|cluster| {
        let image = cluster.image(id);
        let is_new = images.last().is_none_or(|last| {
            (last.records.len(), last.promise) != (image.records.len(), image.promise)
        });
        images.extend(is_new.then_some(image));
    });
    images
}

/// A replica starts from an old image of its disk, and the liar offers it other batches for the slots that it voted on.
fn relive<R: Rules>(id: u16, image: &Disk) -> (Standing, bool) {
    let mut cluster = history::<R>(|_| {});
    cluster.crash(id);
    cluster.restore(id, image.clone());
    cluster.start(id);
    cluster.run();
    let standing = cluster.core(id).standing();
    offer(&mut cluster, ["x", "y"]);
    cluster.run();
    cluster.wait(&[1, 2, 3], 2);
    for _ in 0..2 {
        (1..4).for_each(|id| cluster.fire(id, Timer::View));
        (0..4).for_each(|_| cluster.tick());
    }
    (standing, is_safe(&cluster))
}

/// Whatever old image a replica starts from, it says nothing that contradicts what it has said: all but the last are found
/// out, and the last is what it wrote.
#[test]
fn every_old_image_is_found_out() {
    for id in 1..4 {
        let images = images(id);
        assert!(images.len() > 8, "{} images", images.len());
        for (at, image) in images.iter().enumerate() {
            let (standing, is_safe) = relive::<Standard>(id, image);
            assert!(is_safe, "replica {id}, image {at}");
            let is_last = at + 1 == images.len();
            assert!(standing == Standing::Voting || !is_last, "the newest image of {id}");
            // Without the record of the view that began last nothing is missing that was signed.
            let misses_little = at + 3 >= images.len();
            assert!(standing == Standing::Forgotten || misses_little, "replica {id}, image {at}");
        }
    }
}

fn contradicts_itself<R: Rules>() -> bool {
    (1..4).any(|id| images(id).iter().any(|image| !relive::<R>(id, image).1))
}

#[test]
fn accepting_an_old_image_is_found_out() {
    assert!(contradicts_itself::<AcceptsOldImages>());
}

#[test]
fn joining_without_asking_is_found_out() {
    assert!(contradicts_itself::<AsksNobody>());
}
