//! What the workload's operations mean, written down independently of the service: whatever is answered must be
//! explained by some order of these.
//!
//! Answers carry the store's revision, which every write raises by one. So the model explains not only values but
//! also how many writes there were before each answer, over all keys.

use std::collections::BTreeMap;
use testudo_sim::linear::{Model, Operation};

/// One of a few keys that all clients share.
pub(crate) type Key = u8;

/// A value that no other write has.
pub(crate) type Value = u64;

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// Sets a key.
    Put(Key, Value),
    /// Reads a key.
    Get(Key),
    /// If the key has that value (or is absent), sets all of these; else reads the key.
    Txn(Key, Option<Value>, Vec<(Key, Value)>),
}

/// What it is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// Done, at this revision.
    Written(i64),
    /// The value and the revision that set it, and the store's revision.
    Read(Option<(Value, i64)>, i64),
}

/// One operation of a history.
pub(crate) type Step = Operation<Ask, Answer>;

/// The store.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Store {
    revision: i64,
    values: BTreeMap<Key, (Value, i64)>,
}

/// The store's rules.
pub(crate) struct Rules {
    /// The revision of the store before the first operation, none of whose keys it has.
    pub(crate) revision: i64,
}

impl Model for Rules {
    type State = Store;
    type Input = Ask;
    type Output = Answer;
    /// Revisions go over all keys, so there is one part only.
    type Part = ();

    fn initial(&self, (): &()) -> Store {
        Store { revision: self.revision, values: BTreeMap::new() }
    }

    fn part(&self, _: &Ask) {}

    fn step(&self, store: &Store, ask: &Ask) -> (Store, Answer) {
        let read = |key: &Key| Answer::Read(store.values.get(key).copied(), store.revision);
        match ask {
            Ask::Get(key) => (store.clone(), read(key)),
            Ask::Put(key, value) => write(store, &[(*key, *value)]),
            Ask::Txn(key, expected, writes) => {
                if store.values.get(key).map(|(value, _)| *value) == *expected {
                    write(store, writes)
                } else {
                    (store.clone(), read(key))
                }
            }
        }
    }
}

fn write(store: &Store, writes: &[(Key, Value)]) -> (Store, Answer) {
    let mut store = store.clone();
    store.revision += 1;
    for (key, value) in writes {
        store.values.insert(*key, (*value, store.revision));
    }
    let revision = store.revision;
    (store, Answer::Written(revision))
}

/// What was acknowledged as written: by revision, which keys got which values.
pub(crate) fn acknowledged(history: &[Step]) -> BTreeMap<i64, Vec<(Key, Value)>> {
    let mut written = BTreeMap::new();
    for step in history {
        let Some((_, Answer::Written(revision))) = &step.returned else { continue };
        let writes = match &step.input {
            Ask::Put(key, value) => vec![(*key, *value)],
            Ask::Txn(_, _, writes) => writes.clone(),
            Ask::Get(_) => continue,
        };
        let before = written.insert(*revision, writes);
        assert_eq!(before, None, "revision {revision} was given to two writes");
    }
    written
}
