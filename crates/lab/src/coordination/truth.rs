//! What every revision did, found out by comparing the store before and after it.
//!
//! The replicas' states tell: each range of all keys, read at one revision after the other, differs from the last by
//! what that revision did. Nothing of how changes are filed, indexed or handed to watches is used.

use super::read;
use std::collections::BTreeMap;
use std::sync::Arc;
use testudo_core::{Slot, Time};
use testudo_kv::{KeyValue, Operation, Range, Response};
use testudo_state::Map;

type Key = Arc<[u8]>;

/// What one revision did to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deed {
    /// Which.
    pub revision: i64,
    /// The key.
    pub key: Key,
    /// The key as the revision left it; none if it deleted it.
    pub now: Option<KeyValue>,
    /// The key as it was before.
    pub before: Option<KeyValue>,
}

/// Where a transaction has put a value, which its writer wrote into it; what is deleted goes in order of keys.
fn place(deed: &Deed) -> Option<u64> {
    let value = deed.now.as_ref().map(|record| super::text(&record.value))?;
    value.split_once('.')?.1.parse().ok()
}

/// All revisions, as the state that is furthest tells them.
#[derive(Default, Debug)]
pub struct Truth {
    /// The slot of that state.
    pub slot: Slot,
    /// Its revision.
    pub newest: i64,
    /// In order of revisions and, within one, in the order in which it was done.
    pub deeds: Vec<Deed>,
    /// All keys at the newest revision.
    pub keys: BTreeMap<Key, KeyValue>,
    /// The leases that there are.
    pub leases: Vec<i64>,
    /// Revisions at or below this one are not known: they were compacted before anybody looked.
    pub unknown: i64,
}

impl Truth {
    /// Takes in a state. True if it is further than the last one.
    pub fn update(&mut self, slot: Slot, time: Time, state: &Map) -> bool {
        if slot <= self.slot {
            return false;
        }
        self.slot = slot;
        let ask = |operation: &Operation| read(state, slot, time, operation);
        let Some(Response::Status(status)) = ask(&Operation::Status) else { return false };
        for revision in self.newest.max(1) + 1..=status.revision {
            let all = Range {
                key: Arc::from([0]),
                range_end: Arc::from([0]),
                revision,
                ..Range::default()
            };
            match ask(&Operation::Range(all)) {
                Some(Response::Range(range)) => self.compare(revision, range.kvs),
                _ => self.unknown = revision,
            }
        }
        self.newest = status.revision;
        if let Some(Response::LeaseLeases(leases)) = ask(&Operation::LeaseLeases) {
            self.leases = leases.leases;
        }
        true
    }

    fn compare(&mut self, revision: i64, kvs: Vec<KeyValue>) {
        let now: BTreeMap<Key, KeyValue> =
            kvs.into_iter().map(|record| (record.key.clone(), record)).collect();
        let gone = self.keys.iter().filter(|(key, _)| !now.contains_key(*key));
        let mut deeds: Vec<Deed> = gone
            .map(|(key, before)| Deed {
                revision,
                key: key.clone(),
                now: None,
                before: Some(before.clone()),
            })
            .collect();
        for (key, record) in now.iter().filter(|(_, record)| record.mod_revision == revision) {
            let before = self.keys.get(key).cloned();
            deeds.push(Deed { revision, key: key.clone(), now: Some(record.clone()), before });
        }
        deeds.sort_by(|one, other| (place(one), &one.key).cmp(&(place(other), &other.key)));
        self.deeds.extend(deeds);
        self.keys = now;
    }

    /// What was done from a revision on.
    pub fn since(&self, revision: i64) -> &[Deed] {
        let first = self.deeds.partition_point(|deed| deed.revision < revision);
        &self.deeds[first..]
    }
}
