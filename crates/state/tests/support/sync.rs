//! Synchronising with sources that are as they should be.

use std::sync::Arc;
use testudo_core::{Decode, Digest, Encode};
use testudo_state::Map;
use testudo_state::sync::{Place, Progress, Sync};

/// One that goes over the wire, both ways.
pub(crate) fn sent<T: Encode + Decode>(value: &T) -> T {
    T::from_bytes(&value.to_bytes()).expect("what was encoded decodes")
}

/// Fetches all from one source; how often it was asked.
pub(crate) fn fetch(sync: &mut Sync, source: &Map, most: usize, bytes: usize) -> usize {
    sync.take_summary(&sent(&source.summary())).expect("it is the target's");
    let mut questions = 0;
    loop {
        let places: Vec<Place> = sync.wants(most).iter().map(sent).collect();
        if places.is_empty() {
            return questions;
        }
        questions += 1;
        assert!(places.len() <= most);
        let nodes = source.nodes(&places, bytes);
        assert!(!nodes.is_empty(), "what is wanted is there");
        for (node, place) in nodes.iter().zip(&places) {
            assert_eq!(node.place(), place);
            assert_eq!(node.to_bytes().len(), node.size());
            sync.take(&sent(node)).expect("it is true");
        }
        sync.give_back(&places[nodes.len()..]);
    }
}

/// From one map to another; how much of it travelled.
pub(crate) fn synchronise(from: &Map, to: &Map) -> Progress {
    let mut sync = Sync::new(to.digest(), from.clone());
    assert!(sync.wants(10).is_empty(), "nothing is known to be wanted");
    assert!(sync.finish().is_none());
    fetch(&mut sync, to, 64, 1 << 20);
    let map = sync.finish().expect("nothing is missing");
    assert_same(&map, to);
    sync.progress()
}

pub(crate) fn assert_same(map: &Map, expected: &Map) {
    assert_eq!(map.digest(), expected.digest());
    assert_eq!((map.len(), map.bytes()), (expected.len(), expected.bytes()));
    assert_eq!(map.statistics(), expected.statistics());
    assert_eq!(map, expected);
    assert_eq!(map.scrub(None, usize::MAX).damage, []);
}

pub(crate) fn number(number: u32) -> Vec<u8> {
    Digest::of(&number.to_le_bytes()).0[..16].to_vec()
}

pub(crate) fn many(count: u32) -> Map {
    let mut map = Map::new();
    for at in 0..count {
        map.insert(number(at), Arc::from(&[at as u8; 100][..]));
    }
    map
}
