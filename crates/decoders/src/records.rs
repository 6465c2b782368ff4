//! What a replica reads from its own disk: records and snapshots.

use crate::heard::{HEARD, Said};
use crate::one_form;
use std::collections::BTreeSet;
use testudo_contracts::{Checkpoint, StableCheckpoint};
use testudo_core::codec::encode_bytes;
use testudo_core::{
    Decode, Digest, Encode, Epoch, FaultModel, Membership, Position, Signed, Slot, Verified,
};
use testudo_pbft::Message;
use testudo_replication::{Record, ReplicaMessage, Replicated, Snapshot};
use testudo_sim::service::KeyValues;

type Kept = Record<testudo_pbft::Record>;
type Saved = Snapshot<testudo_pbft::Snapshot>;

pub(crate) fn record(input: &[u8]) {
    one_form::<Kept>(input);
    one_form::<testudo_pbft::Record>(input);
}

/// A snapshot whole, and piece by piece: the same.
pub(crate) fn snapshot(input: &[u8]) {
    let whole = Saved::from_bytes(input);
    let mut pieces = Vec::new();
    if let Ok(saved) = &whole {
        saved.pieces(&mut |piece| {
            pieces.push(piece.to_vec());
            true
        });
        let mut pieces = pieces.into_iter();
        let again = Saved::from_pieces(&mut || pieces.next()).expect("it was read before");
        assert_eq!(again.slot(), saved.slot());
        assert_eq!(again.to_bytes(), saved.to_bytes());
    }
    one_form::<testudo_pbft::Snapshot>(input);
}

/// What the ordering would keep of what was heard.
fn ordered() -> Vec<testudo_pbft::Record> {
    use testudo_pbft::Record as Ordered;
    let read = HEARD.iter().filter_map(|signed| Verified::replay(signed.clone()).ok());
    let kept = read.filter_map(|verified| match verified.into_message() {
        ReplicaMessage::Order(Message::PrePrepare(said)) => Some(Ordered::Proposed(said)),
        ReplicaMessage::Order(Message::Committed(said)) => Some(Ordered::Decided(said)),
        ReplicaMessage::Order(Message::ViewChange(said)) => Some(Ordered::ViewChange(said)),
        ReplicaMessage::Order(Message::Installed(said)) => Some(Ordered::NewView(said)),
        ReplicaMessage::Stable(said) => Some(Ordered::Stable(said)),
        _ => None,
    });
    kept.chain([testudo_pbft::Record::Forgotten]).collect()
}

pub(crate) fn good_records() -> Vec<Vec<u8>> {
    let mut records: Vec<Kept> =
        ordered().into_iter().map(|record| Record::Order(Epoch(1), record)).collect();
    records.push(Record::Halted(Slot(8)));
    records.push(Record::Checkpointed(Checkpoint { slot: Slot(8), state: Digest::ZERO }));
    for signed in HEARD.iter() {
        if let Ok(body) = Signed::from_bytes(&signed.to_bytes())
            && Verified::replay(body.clone()).is_ok()
        {
            records.push(Record::Body(body));
        }
        match Verified::<Said>::replay(signed.clone()).map(Verified::into_message) {
            Ok(ReplicaMessage::Stable(stable)) => records.push(Record::Stable(stable)),
            Ok(ReplicaMessage::Succession(said)) => records.push(Record::Succession(said)),
            _ => {}
        }
    }
    records.iter().map(Encode::to_bytes).collect()
}

/// A snapshot as it is laid out: what is not state, and then the entries of the two maps.
pub(crate) fn good_snapshots() -> Vec<Vec<u8>> {
    let membership = Membership::first(Vec::new(), FaultModel::byzantine(1));
    let mut state = Replicated::genesis(&KeyValues, &BTreeSet::new(), &membership);
    (state.slot, state.chain) = (Slot(8), Digest::of(b"a chain"));
    (0..40_u8).for_each(|key| drop(state.map.insert([key, 7], [key; 9][..].into())));
    let head = state.head();
    let checkpoint = Checkpoint { slot: head.slot, state: head.digest() };
    let order = testudo_pbft::Snapshot { executed: Slot(8), records: ordered().into() };
    let mut preface = order.to_bytes();
    Epoch(0).encode(&mut preface);
    0_u32.encode(&mut preface);
    StableCheckpoint::new(checkpoint).encode(&mut preface);
    head.encode(&mut preface);
    Position(70).encode(&mut preface);
    vec![Digest::ZERO, Digest([9; 32])].encode(&mut preface);
    let mut input = Vec::new();
    encode_bytes(&preface, &mut input);
    for map in [state.system.map(), &state.map] {
        let mut piece = Vec::new();
        for (key, value) in map.iter() {
            encode_bytes(&key, &mut piece);
            encode_bytes(value, &mut piece);
        }
        if !piece.is_empty() {
            encode_bytes(&piece, &mut input);
        }
        encode_bytes(&[], &mut input);
    }
    assert!(Saved::from_bytes(&input).is_ok(), "it is laid out otherwise");
    vec![input, order.to_bytes()]
}
