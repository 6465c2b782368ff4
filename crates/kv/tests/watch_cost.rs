//! What watches cost: counted in reads of the store, not timed.

use std::cell::Cell;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;
use testudo_contracts::{Moment, Reading, Service};
use testudo_core::{Encode, Slot, Time};
use testudo_kv::watch::{Budget, Limits, Notice, StreamId, Turn, WatchRequest, Watchers};
use testudo_kv::{Kv, Operation, Put};
use testudo_state::Map;

/// A store that counts how often it is looked into, together with all its copies.
#[derive(Clone)]
struct Counting {
    store: Map,
    reads: Rc<Cell<usize>>,
}

impl Reading for Counting {
    fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.reads.set(self.reads.get() + 1);
        Reading::get(&self.store, key)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    ) {
        self.reads.set(self.reads.get() + 1);
        self.store.scan(from, to, reverse, &mut |key, value| {
            self.reads.set(self.reads.get() + 1);
            visit(key, value)
        });
    }
}

struct Gateway {
    kv: Kv,
    store: Counting,
    watchers: Watchers<Counting>,
}

impl Gateway {
    fn new(limits: Limits) -> Self {
        let mut store = Map::new();
        Kv::default().genesis(&mut store);
        let store = Counting { store, reads: Rc::default() };
        Self { kv: Kv::default(), watchers: Watchers::new(limits, store.clone()), store }
    }

    fn put(&mut self, key: &str) {
        let put = Put { key: key.as_bytes().into(), value: [7; 64].into(), ..Put::default() };
        let moment = Moment { slot: Slot(1), time: Time(1), elapsed: 0 };
        self.kv.execute(&mut self.store.store, &Operation::Put(put).to_bytes(), &moment);
    }

    fn watch(&mut self, key: &str, range_end: &str, start_revision: i64) -> StreamId {
        let stream = self.watchers.open().expect("room");
        let (key, range_end) = (key.as_bytes().into(), range_end.as_bytes().into());
        let request =
            WatchRequest { key, range_end, start_revision, prev_kv: true, ..Default::default() };
        self.watchers.create(stream, &request).expect("a watch");
        let created = self.watchers.poll(stream, Budget::default());
        assert!(matches!(created, Turn::Notice(Notice::Created { .. })));
        stream
    }

    /// How many reads of the store publishing takes.
    fn publish(&mut self) -> usize {
        self.cost(|gateway| gateway.watchers.advance(gateway.store.clone()))
    }

    /// How many reads of the store it takes to hear everything that the streams have to say, and how many events that is.
    fn hear(&mut self, streams: &[StreamId], budget: Budget) -> (usize, usize) {
        let mut heard = 0;
        let reads = self.cost(|gateway| {
            for stream in streams {
                loop {
                    match gateway.watchers.poll(*stream, budget) {
                        Turn::Notice(Notice::Events { events, .. }) => heard += events.len(),
                        Turn::Notice(notice) => panic!("only events are expected: {notice:?}"),
                        Turn::Again => {}
                        Turn::Nothing => break,
                    }
                }
            }
        });
        (reads, heard)
    }

    fn cost(&mut self, run: impl FnOnce(&mut Self)) -> usize {
        let before = self.store.reads.get();
        run(self);
        self.store.reads.get() - before
    }
}

#[test]
fn ten_thousand_idle_watches_cost_a_put_nothing_in_the_store() {
    let mut alone = Gateway::new(Limits::default());
    let mut crowded = Gateway::new(Limits::default());
    for number in 0..10_000 {
        let (key, end) = (format!("idle/{number:05}/"), format!("idle/{number:05}0"));
        let range_end = ["", &end, "idle/z"][number % 3];
        crowded.watch(&key, range_end, 0);
    }
    crowded.watchers.take_woken();
    for gateway in [&mut alone, &mut crowded] {
        gateway.put("busy");
    }
    assert_eq!(crowded.publish(), alone.publish());
    assert!(crowded.watchers.take_woken().is_empty(), "nobody is bothered");
    assert_eq!(crowded.watchers.len(), 10_000);
}

#[test]
fn a_hundred_watches_of_a_key_share_one_look() {
    let costs = [1, 100].map(|count| {
        let mut gateway = Gateway::new(Limits::default());
        let streams: Vec<StreamId> = (0..count).map(|_| gateway.watch("k", "l", 0)).collect();
        gateway.put("key");
        gateway.put("key");
        let publishing = gateway.publish();
        assert_eq!(gateway.watchers.take_woken().len(), count);
        let (hearing, heard) = gateway.hear(&streams, Budget::default());
        assert_eq!(heard, 2 * count);
        (publishing, hearing)
    });
    let alone = costs[0];
    assert!(alone.0 + alone.1 <= 24, "a few reads for two puts and what was before: {alone:?}");
    assert_eq!(costs[1], alone);
}

/// After a restart all watches come back at once, each with the last revision that it has seen long ago.
#[test]
fn watches_that_come_back_read_history_together() {
    const HISTORY: usize = 4000;
    let reads = [1, 1000].map(|count| {
        let mut gateway = Gateway::new(Limits::default());
        for number in 0..HISTORY {
            gateway.put(&format!("k{:04}", number % 1000));
        }
        // A gateway that starts has none of this in its window.
        gateway.watchers = Watchers::new(Limits::default(), gateway.store.clone());
        let mut streams: Vec<StreamId> =
            (0..count).map(|number| gateway.watch(&format!("none{number}"), "", 2)).collect();
        streams.push(gateway.watch("k0500", "", 2));
        let (reads, heard) = gateway.hear(&streams, Budget::default());
        assert_eq!(heard, 4, "the one that is not idle hears what has happened to its key");
        reads
    });
    assert!(reads[0] >= HISTORY, "history is read");
    assert_eq!(reads[1], reads[0], "once for all");
}

#[test]
fn a_slow_watch_costs_publishing_nothing() {
    let limits = Limits { pending: 4, window_revisions: 8, ..Limits::default() };
    let costs = [false, true].map(|slow| {
        let mut gateway = Gateway::new(limits);
        let streams: Vec<StreamId> =
            if slow { (0..50).map(|_| gateway.watch("k", "", 0)).collect() } else { Vec::new() };
        let publishing: Vec<usize> = (0..40)
            .map(|_| {
                gateway.put("k");
                gateway.publish()
            })
            .collect();
        assert_eq!(gateway.watchers.behind(), streams.len(), "their lists have been full for long");
        // Once they are polled they have missed nothing, and those that stand together have read together.
        let (reads, heard) = gateway.hear(&streams, Budget { events: 1, bytes: 1 });
        assert_eq!(heard, 40 * streams.len());
        assert!(reads <= 20 * heard, "each event costs a few reads at most: {reads}");
        assert_eq!(gateway.watchers.behind(), 0, "and keep up again");
        publishing
    });
    assert_eq!(costs[0], costs[1]);
}
