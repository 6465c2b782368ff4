//! What every revision did, found out by comparing the store before and after it.
//!
//! The replicas' states tell: each range of all keys, read at one revision after the other, differs from the last by
//! what that revision did. Nothing of how changes are filed, indexed or handed to watches is used.
//!
//! What the service says of its past is not believed as it stands. It must lead to what it says of the present, which it
//! reads another way; and it must count as is counted here: revisions go up, each did something, to each key once, and a
//! key's versions go up by one since it was created ([`Truth::update`]). So a revision that is left out, told twice or told
//! otherwise is found out from the ones around it.

use super::read;
use std::collections::BTreeMap;
use std::sync::Arc;
use testudo_core::{Slot, Time};
use testudo_kv::{KeyValue, Operation, Range, Response};
use testudo_sim::workload::Finding;
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
    /// What was done at or below this revision is not all known: some was compacted before anybody looked.
    pub unknown: i64,
    /// All keys as they were at that revision.
    pub base: BTreeMap<Key, KeyValue>,
    /// How many revisions nobody saw.
    pub unseen: u64,
}

/// How a revision leaves a key, reckoned from how it was before.
fn counts_right(deed: &Deed) -> bool {
    let Deed { revision, now, before, .. } = deed;
    let expected = match before {
        Some(before) => (before.create_revision, before.version + 1),
        None => (*revision, 1),
    };
    let count = |now: &KeyValue| (now.create_revision, now.version);
    match now {
        Some(now) => now.mod_revision == *revision && count(now) == expected,
        None => before.is_some(),
    }
}

impl Truth {
    /// Takes in a state. None unless it is further than the last one; else what is wrong with what it says of its past,
    /// where nobody has asked to have anything before `compacted` forgotten.
    pub fn update(
        &mut self,
        slot: Slot,
        time: Time,
        state: &Map,
        compacted: i64,
    ) -> Option<Vec<Finding>> {
        if slot <= self.slot {
            return None;
        }
        self.slot = slot;
        let ask = |operation: &Operation| read(state, slot, time, operation);
        let all_at = |revision| {
            let (key, range_end) = (Arc::from([0]), Arc::from([0]));
            match ask(&Operation::Range(Range { key, range_end, revision, ..Range::default() })) {
                Some(Response::Range(range)) => {
                    let records = range.kvs.into_iter();
                    Some(records.map(|record| (record.key.clone(), record)).collect())
                }
                _ => None,
            }
        };
        let Some(Response::Status(status)) = ask(&Operation::Status) else { return None };
        let mut findings = Vec::new();
        if status.revision < self.newest {
            let what = format!("went back from revision {} to {}", self.newest, status.revision);
            findings.push(("history", what));
        }
        let mut is_known = true;
        for revision in self.newest.max(1) + 1..=status.revision {
            match all_at(revision) {
                Some(all) => {
                    findings.extend(self.compare(revision, all, is_known));
                    is_known = true;
                }
                None => {
                    is_known = false;
                    self.unseen += 1;
                    if revision >= compacted {
                        let what = format!("{revision} of {} cannot be read", status.revision);
                        findings.push(("history", format!("{what}, and nobody had it compacted")));
                    }
                }
            }
        }
        // What is read without a revision is not read from history.
        if all_at(0).as_ref() != Some(&self.keys) {
            let keys = &self.keys;
            let what = format!("what it holds at revision {} is not {keys:?}", status.revision);
            findings.push(("history", what));
        }
        self.newest = status.revision;
        if let Some(Response::LeaseLeases(leases)) = ask(&Operation::LeaseLeases) {
            self.leases = leases.leases;
        }
        Some(findings)
    }

    /// What a revision did, if the one before it is known: else it is where knowledge begins again.
    fn compare(
        &mut self,
        revision: i64,
        now: BTreeMap<Key, KeyValue>,
        is_known: bool,
    ) -> Option<Finding> {
        if !is_known {
            (self.unknown, self.base) = (revision, now.clone());
        }
        let gone = self.keys.iter().filter(|(key, _)| is_known && !now.contains_key(*key));
        let mut deeds: Vec<Deed> = gone
            .map(|(key, before)| Deed {
                revision,
                key: key.clone(),
                now: None,
                before: Some(before.clone()),
            })
            .collect();
        for (key, record) in &now {
            let before = self.keys.get(key).cloned();
            let is_other = is_known && before.as_ref() != Some(record);
            if is_other || record.mod_revision == revision {
                deeds.push(Deed { revision, key: key.clone(), now: Some(record.clone()), before });
            }
        }
        deeds.sort_by(|one, other| (place(one), &one.key).cmp(&(place(other), &other.key)));
        let wrong = deeds.iter().find(|deed| !counts_right(deed)).map(|deed| format!("{deed:?}"));
        let nothing = deeds.is_empty().then(|| "nothing at all".to_string());
        let finding = wrong.or(nothing).filter(|_| is_known);
        self.deeds.extend(deeds);
        self.keys = now;
        finding.map(|what| ("history", format!("revision {revision} is said to have done {what}")))
    }

    /// What was done from a revision on.
    pub fn since(&self, revision: i64) -> &[Deed] {
        let first = self.deeds.partition_point(|deed| deed.revision < revision);
        &self.deeds[first..]
    }
}
