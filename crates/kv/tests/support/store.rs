//! The plainest store there is, for tests.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use testudo_contracts::{Moment, Reading, Service, Store};
use testudo_core::{Decode, Encode, Slot, Time};
use testudo_kv::{Kv, Operation, Response};

/// An ordered map in memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MapStore(BTreeMap<Vec<u8>, Arc<[u8]>>);

impl Reading for MapStore {
    fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.0.get(key).cloned()
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    ) {
        let mut range = self.0.range::<[u8], _>((from, to));
        while let Some((key, value)) = if reverse { range.next_back() } else { range.next() } {
            if !visit(key, value) {
                return;
            }
        }
    }
}

impl Store for MapStore {
    fn put(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.0.insert(key.to_vec(), value);
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        self.0.remove(key).is_some()
    }
}

/// The service over a store of its own, which after each operation checks what must hold after every one.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) store: MapStore,
    executed: u64,
}

impl Instance {
    pub(crate) fn new() -> Self {
        let mut store = MapStore::default();
        Kv.genesis(&mut store);
        Self { store, executed: 0 }
    }

    pub(crate) fn execute(&mut self, operation: &Operation) -> Response {
        let before = self.store.clone();
        let response = self.execute_bytes(&operation.to_bytes());
        if operation.is_read_only() {
            assert_eq!(self.store, before, "what only reads has changed something");
            let read = Kv.read(&before, operation, &self.moment()).expect("read-only");
            assert_eq!(read, response.to_bytes(), "a read differs from its ordered execution");
        }
        response
    }

    pub(crate) fn execute_bytes(&mut self, operation: &[u8]) -> Response {
        let before = self.store.clone();
        self.executed += 1;
        let moment = self.moment();
        let result = Kv.execute(&mut self.store, operation, &moment);
        let response = Response::from_bytes(&result).expect("results are responses");
        assert_eq!(response.to_bytes(), result, "a result has one encoding");
        if matches!(response, Response::Error(_)) {
            assert_eq!(self.store, before, "a refused operation has left a trace");
        }
        Kv.audit(&self.store);
        response
    }

    fn moment(&self) -> Moment {
        Moment { slot: Slot(self.executed), time: Time(1000 * self.executed), elapsed: 0 }
    }
}
