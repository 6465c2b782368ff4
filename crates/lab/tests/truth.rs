//! What replicas' states say of their past is not believed as it stands, and what nobody saw of it excuses nothing else.

use std::sync::Arc;
use testudo_contracts::{Moment, Service, Store};
use testudo_core::{Encode, Slot, Time};
use testudo_kv::{Compact, DeleteRange, Kv, Operation, Put, RequestOp, Txn};
use testudo_lab::coordination::effects::Effects;
use testudo_lab::coordination::truth::Truth;
use testudo_lab::coordination::{Answer, Ask, What};
use testudo_sim::workload::Finding;
use testudo_state::Map;

const SLOT: Slot = Slot(1);
const TIME: Time = Time(1_000_000);

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn put(key: &str, value: &str) -> Put {
    Put { key: bytes(key), value: bytes(value), ..Put::default() }
}

fn batch(pairs: &[(&str, &str)]) -> Operation {
    let puts = pairs.iter().map(|(key, value)| RequestOp::Put(put(key, value)));
    Operation::Txn(Txn { success: puts.collect(), ..Txn::default() })
}

/// The store after these, all in one slot, so that nobody sees what was between.
fn store(operations: &[Operation]) -> Map {
    let mut map = Map::new();
    Kv::default().genesis(&mut map);
    for operation in operations {
        let moment = Moment { slot: SLOT, time: TIME, elapsed: 0 };
        Kv::default().execute(&mut map, &operation.to_bytes(), &moment);
    }
    map
}

/// Revision 2 puts two keys, 3 and 4 put one of them again, 5 deletes the other, 6 puts it anew.
fn operations() -> Vec<Operation> {
    let delete = DeleteRange { key: bytes("e1"), ..DeleteRange::default() };
    vec![
        batch(&[("e0", "v1.0"), ("e1", "v1.1")]),
        Operation::Put(put("e0", "v2")),
        Operation::Put(put("e0", "v3")),
        Operation::DeleteRange(delete),
        Operation::Put(put("e1", "v5")),
    ]
}

fn seen(map: &Map, compacted: i64) -> (Truth, Vec<Finding>) {
    let mut truth = Truth::default();
    let findings = truth.update(SLOT, TIME, map, compacted).expect("it is further than nothing");
    (truth, findings)
}

#[test]
fn a_past_that_leads_to_the_present_is_believed() {
    let (truth, findings) = seen(&store(&operations()), 0);
    assert_eq!(findings, []);
    assert_eq!((truth.newest, truth.unknown, truth.unseen), (6, 0, 0));
    let deeds: Vec<i64> = truth.deeds.iter().map(|deed| deed.revision).collect();
    assert_eq!(deeds, [2, 2, 3, 4, 5, 6]);
}

/// Whatever single entry of its history a store has lost, it cannot tell another past without being found out.
#[test]
fn a_past_that_is_told_otherwise_is_found_out() {
    let whole = store(&operations());
    let (right, _) = seen(&whole, 0);
    let mut found = 0;
    // Records that are not the newest of their keys, and deletions.
    for (key, _) in whole.iter().filter(|(key, _)| key.starts_with(b"v")) {
        let mut broken = whole.clone();
        Store::delete(&mut broken, &key);
        let (told, findings) = seen(&broken, 0);
        assert_ne!(told.deeds, right.deeds);
        assert!(!findings.is_empty(), "without {key:?} it tells {:?}", told.deeds);
        assert!(findings.iter().all(|(oracle, _)| *oracle == "history"));
        found += 1;
    }
    assert_eq!(found, 4);
}

#[test]
fn what_was_compacted_before_anybody_saw_it_excuses_nothing_else() {
    let compact = Operation::Compact(Compact { revision: 4, physical: false });
    let map = store(&[operations(), vec![compact]].concat());
    let (truth, findings) = seen(&map, 4);
    assert_eq!(findings, []);
    assert_eq!((truth.newest, truth.unknown, truth.unseen), (6, 4, 2));
    assert!(!seen(&map, 3).1.is_empty(), "revision 3 is gone, and nobody had it compacted");

    let (asked, put_late) = (Ask::Batch(Vec::new()), Ask::Put("e1".into(), "v5".into()));
    let convicts = |ask: &Ask, revision: i64, what: What| {
        let mut effects = Effects::default();
        for ask in [&asked, &put_late, &Ask::Put("e0".into(), "v3".into()), &Ask::Clear, ask] {
            effects.asked(ask);
        }
        effects.asked(&Ask::Delete("e1".into()));
        effects.answered(ask, &Answer { revision: Some(revision), what });
        let findings = effects.judge(&truth);
        (!findings.is_empty(), effects.judged)
    };
    let get = |key: &str| Ask::Get(key.into());
    let value = |value: &str| What::Value(Some(value.into()));
    assert_eq!(convicts(&get("e0"), 6, value("v3")), (false, 1), "it was put before the gap's end");
    assert_eq!(convicts(&get("e0"), 6, value("v2")), (true, 1));
    assert_eq!(convicts(&get("e1"), 5, What::Value(None)), (false, 1));
    assert_eq!(convicts(&put_late, 5, What::Done), (true, 1), "that was done at another revision");
    assert_eq!(convicts(&get("e0"), 3, value("v9")), (false, 0), "nobody knows");
}
