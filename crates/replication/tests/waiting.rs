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
    assert_eq!(room.unproposed_since(mark).collect::<Vec<_>>(), vec![digest(1, 0)]);
    room.propose(&digest(1, 0), View(0));
    assert_eq!(room.unproposed_since(mark).count(), 0);
}
