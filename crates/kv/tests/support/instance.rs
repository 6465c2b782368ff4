//! The service over a store of its own, which after each operation checks what must hold after every one.
#![allow(dead_code, reason = "no test uses all of it")]

use std::ops::Bound;
use std::sync::Arc;
use testudo_contracts::{Moment, Reading, Service};
use testudo_core::{Decode, Encode, Slot, Time};
use testudo_kv::{Kv, Operation, Response, Settings};
use testudo_state::Map;

/// Everything that a store holds.
pub(crate) type Contents = Vec<(Vec<u8>, Arc<[u8]>)>;

/// Reads all of a store.
pub(crate) fn contents(store: &dyn Reading) -> Contents {
    let mut all = Contents::new();
    store.scan(Bound::Unbounded, Bound::Unbounded, false, &mut |key, value| {
        all.push((key.to_vec(), value.clone()));
        true
    });
    all
}

/// The service and its store.
pub(crate) struct Instance {
    pub(crate) kv: Kv,
    pub(crate) store: Map,
    executed: u64,
    /// Agreed time: a second passes with each operation, though none on the lease clock.
    time: u64,
}

impl Instance {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let kv = Kv::new(settings);
        let mut store = Map::new();
        kv.genesis(&mut store);
        // What the service was told at the beginning counts, not what one that comes later is told.
        Self { kv: Kv::default(), store, executed: 0, time: 0 }
    }

    pub(crate) fn execute(&mut self, operation: &Operation) -> Response {
        let before = contents(&self.store);
        let response = self.execute_bytes(&operation.to_bytes());
        if operation.is_read_only() {
            assert_eq!(contents(&self.store), before, "what only reads has changed something");
            let read = self.kv.read(&self.store, operation, &self.moment(0)).expect("read-only");
            assert_eq!(read, response.to_bytes(), "a read differs from its ordered execution");
        }
        response
    }

    pub(crate) fn execute_bytes(&mut self, operation: &[u8]) -> Response {
        let before = contents(&self.store);
        self.executed += 1;
        self.time += 1000;
        let moment = self.moment(0);
        let result = self.kv.execute(&mut self.store, operation, &moment);
        let response = Response::from_bytes(&result).expect("results are responses");
        assert_eq!(response.to_bytes(), result, "a result has one encoding");
        if matches!(response, Response::Error(_)) {
            assert_eq!(contents(&self.store), before, "a refused operation has left a trace");
        }
        self.kv.audit(&self.store);
        response
    }

    /// Executes without looking at everything before and after: for tests that need many operations.
    pub(crate) fn execute_unchecked(&mut self, operation: &Operation) -> Response {
        self.executed += 1;
        let moment = self.moment(0);
        let result = self.kv.execute(&mut self.store, &operation.to_bytes(), &moment);
        Response::from_bytes(&result).expect("results are responses")
    }

    /// Lets a slot without operations execute, so many milliseconds after the last one; whether anything happened.
    pub(crate) fn pass(&mut self, milliseconds: u64) -> bool {
        self.executed += 1;
        self.time += milliseconds;
        let moment = self.moment(milliseconds);
        let happened = !self.kv.advance(&mut self.store, &moment).is_empty();
        self.kv.audit(&self.store);
        happened
    }

    /// After how many milliseconds the service wants to be told of time's passing.
    pub(crate) fn due(&self) -> Option<u64> {
        self.kv.due(&self.store)
    }

    fn moment(&self, elapsed: u64) -> Moment {
        Moment { slot: Slot(self.executed), time: Time(self.time), elapsed }
    }
}
