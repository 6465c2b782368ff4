//! The waiting room: fair among clients, bounded, and honest about who has waited longest.

use testudo_contracts::Waiting;
use testudo_core::{Digest, PublicKey, View, limits};
use testudo_replication::waiting::WaitingRoom;

fn client(name: u8) -> PublicKey {
    PublicKey([name; 32])
}

fn digest(client: u8, number: u64) -> Digest {
    Digest::of(&[&[client][..], &number.to_le_bytes()].concat())
}

#[test]
fn a_flood_does_not_starve_a_single_request() {
    let mut room = WaitingRoom::default();
    for number in 0..50 {
        assert!(room.enter(digest(1, number), client(1)));
    }
    assert!(room.enter(digest(2, 0), client(2)));
    assert!(room.take(2).contains(&digest(2, 0)), "every client has its turn");
}

#[test]
fn a_client_has_a_bounded_share() {
    let mut room = WaitingRoom::default();
    for number in 0..limits::WAITING_BUNDLES_PER_CLIENT as u64 {
        assert!(room.enter(digest(1, number), client(1)));
    }
    assert!(!room.enter(digest(1, 9999), client(1)));
    assert!(room.enter(digest(2, 0), client(2)), "another client's share is untouched");
    room.leave(&digest(1, 0));
    assert!(room.enter(digest(1, 9999), client(1)));
}

#[test]
fn the_oldest_changes_only_when_it_leaves() {
    let mut room = WaitingRoom::default();
    assert_eq!(room.waiting(), Waiting::Nothing);
    room.enter(digest(1, 0), client(1));
    room.enter(digest(1, 1), client(1));
    let oldest = room.waiting();
    room.leave(&digest(1, 1));
    assert_eq!(room.waiting(), oldest);
    room.leave(&digest(1, 0));
    assert_eq!(room.waiting(), Waiting::Nothing);
    room.audit();
}

#[test]
fn what_a_view_did_not_finish_is_proposed_again_in_the_next() {
    let mut room = WaitingRoom::default();
    room.enter(digest(1, 0), client(1));
    room.enter(digest(1, 1), client(1));
    assert_eq!(room.take(10).len(), 2);
    assert!(room.take(10).is_empty(), "a view proposes a bundle once");
    assert!(!room.has_unproposed());
    room.enter_view(View(1));
    room.propose(&digest(1, 0), View(1));
    assert_eq!(
        room.take(10),
        vec![digest(1, 1)],
        "what the new view repeats is not proposed twice"
    );
}

#[test]
fn what_waits_too_long_is_known() {
    let mut room = WaitingRoom::default();
    room.enter(digest(1, 0), client(1));
    let mark = room.newest();
    room.enter(digest(1, 1), client(1));
    assert_eq!(room.unproposed_since(mark), vec![digest(1, 0)]);
    room.propose(&digest(1, 0), View(0));
    assert!(room.unproposed_since(mark).is_empty());
}

/// Thousands of one client's bundles come; it keeps its share, and who has one is in every batch from the next on.
#[test]
fn a_client_with_thousands_does_not_starve_one_that_has_one() {
    let mut room = WaitingRoom::default();
    let mut kept = 0;
    for number in 0..5_000 {
        kept += usize::from(room.enter(digest(1, number), client(1)));
    }
    assert_eq!(kept, limits::WAITING_BUNDLES_PER_CLIENT, "it fills its own share and no other");
    for round in 0..20 {
        assert!(room.enter(digest(2, round), client(2)));
        let batch = room.take(limits::BATCH_BUNDLES);
        assert!(batch.contains(&digest(2, round)), "who has one is in the next batch");
        assert!(batch.len() <= 1 + limits::SESSION_WINDOW as usize, "the flood fills no batch");
        room.audit();
        for bundle in batch {
            room.leave(&bundle);
        }
        // It goes on as fast as there is room.
        (0..100).for_each(|number| {
            room.enter(digest(1, 10_000 + 100 * round + number), client(1));
        });
    }
}

/// With many clients more than a batch holds, all are served before any is served twice.
#[test]
fn clients_take_turns_across_batches() {
    let mut room = WaitingRoom::default();
    for name in 0..100 {
        for number in 0..8 {
            room.enter(digest(name, number), client(name));
        }
    }
    let mut served = [0_u32; 100];
    for _ in 0..8 {
        for bundle in room.take(100) {
            let name = (0..100).find(|name| (0..8).any(|n| digest(*name, n) == bundle)).unwrap();
            served[usize::from(name)] += 1;
            room.leave(&bundle);
        }
        let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
        assert!(most - least <= 1, "one was served {most} times and another {least}");
    }
    room.audit();
    assert!(room.is_empty());
}

/// Floods wait for the others, but not for ever.
#[test]
fn who_floods_is_served_too() {
    let mut room = WaitingRoom::default();
    (0..64).for_each(|number| assert!(room.enter(digest(1, number), client(1))));
    let mut flood = 0;
    for round in 0..16 {
        assert!(room.enter(digest(2, round), client(2)));
        for bundle in room.take(limits::BATCH_BUNDLES) {
            flood += u32::from(bundle != digest(2, round));
            room.leave(&bundle);
        }
    }
    assert_eq!(flood, 32, "in every fourth batch eight of it");
    assert_eq!(room.take(limits::BATCH_BUNDLES).len(), 8, "alone it need not wait");
}

#[test]
fn the_backlog_counts_clients_until_they_are_served() {
    let mut room = WaitingRoom::default();
    assert_eq!(room.backlog(), None);
    (0..3).for_each(|number| assert!(room.enter(digest(1, number), client(1))));
    room.enter(digest(2, 0), client(2));
    let before = room.backlog().unwrap();
    assert_eq!(before.newest, before.oldest + 1, "two clients wait");
    room.propose(&digest(1, 2), View(0));
    let after = room.backlog().unwrap();
    assert!(before.oldest < after.oldest, "the first is served by anything of it");
    assert!(after.newest > before.newest, "and waits again with the rest");
    room.leave(&digest(2, 0));
    room.serve(client(1));
    assert!(room.backlog().unwrap().oldest > after.newest, "something else of it was proposed");
    room.propose(&digest(1, 0), View(0));
    room.propose(&digest(1, 1), View(0));
    assert_eq!(room.backlog(), None);
    room.enter_view(View(1));
    assert!(room.backlog().is_some(), "what the view did not finish waits again");
    room.audit();
}

/// Replicas keep different bundles of a client that floods. That one of them is never ordered is not the primary's fault,
/// as long as something of that client is.
#[test]
fn what_a_flood_left_here_waits_anew_whenever_its_client_is_served() {
    let mut room = WaitingRoom::default();
    (0..20).for_each(|number| assert!(room.enter(digest(1, number), client(1))));
    room.enter(digest(2, 0), client(2));
    let oldest = room.waiting();
    room.feed(client(1));
    assert_ne!(room.waiting(), oldest, "somebody else has waited longest now");
    let oldest = room.waiting();
    room.feed(client(2));
    assert_eq!(room.waiting(), oldest, "who does not flood keeps his place");
    room.leave(&digest(2, 0));
    assert_ne!(room.waiting(), oldest);
    room.audit();
    assert_eq!(room.take(limits::BATCH_BUNDLES).first(), Some(&digest(1, 0)));
    room.audit();
}
