//! The service's words in scripts.

use super::{bytes, text};
use testudo_core::Decode;
use testudo_kv::{DeleteRange, LeaseGrant, LeaseKeepAlive, Operation, Put, Range, Response};

/// `put k=v`, `put k=v lease=7`, `get k`, `delete k`, `grant 7 5s`, `keep 7`.
pub(super) fn parse(words: &[&str]) -> Result<Operation, String> {
    let number = |text: &str| -> Result<i64, String> {
        let digits = text.trim_start_matches("lease=").trim_end_matches('s');
        digits.parse().map_err(|_| format!("no number: {text}"))
    };
    let put = |pair: &str, lease: i64| {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("no = in {pair}"))?;
        let (key, value) = (bytes(key), bytes(value));
        Ok::<_, String>(Operation::Put(Put { key, value, lease, ..Put::default() }))
    };
    match words {
        ["put", pair] => put(pair, 0),
        ["put", pair, lease] => put(pair, number(lease)?),
        ["get", key] => Ok(Operation::Range(Range { key: bytes(key), ..Range::default() })),
        ["delete", key] => {
            Ok(Operation::DeleteRange(DeleteRange { key: bytes(key), ..DeleteRange::default() }))
        }
        ["grant", id, ttl] => {
            Ok(Operation::LeaseGrant(LeaseGrant { id: number(id)?, ttl: number(ttl)? }))
        }
        ["keep", id] => Ok(Operation::LeaseKeepAlive(LeaseKeepAlive { id: number(id)? })),
        _ => Err(format!("no such request: {}", words.join(" "))),
    }
}

pub(super) fn show(operation: &[u8]) -> String {
    let Ok(operation) = Operation::from_bytes(operation) else { return "?".into() };
    match operation {
        Operation::Put(Put { key, value, lease, .. }) => {
            let lease = if lease == 0 { String::new() } else { format!(" lease={lease}") };
            format!("put {}={}{lease}", text(&key), text(&value))
        }
        Operation::Range(range) => format!("get {}", text(&range.key)),
        Operation::DeleteRange(delete) => format!("delete {}", text(&delete.key)),
        Operation::LeaseGrant(grant) => format!("grant {} {}s", grant.id, grant.ttl),
        Operation::LeaseKeepAlive(kept) => format!("keep {}", kept.id),
        other => testudo_sim::script::compact(&format!("{other:?}")),
    }
}

pub(super) fn show_result(result: &[u8]) -> String {
    match Response::from_bytes(result) {
        Ok(Response::Range(range)) => match range.kvs.first() {
            Some(record) => {
                format!("{} of revision {}", text(&record.value), record.mod_revision)
            }
            None => format!("no value at revision {}", range.revision),
        },
        Ok(Response::Put(put)) => format!("put at revision {}", put.revision),
        Ok(Response::DeleteRange(delete)) => format!("deleted {}", delete.deleted),
        Ok(Response::LeaseGrant(grant)) => format!("lease {} for {}s", grant.id, grant.ttl),
        Ok(Response::LeaseKeepAlive(kept)) => format!("lease {} for {}s", kept.id, kept.ttl),
        Ok(other) => testudo_sim::script::compact(&format!("{other:?}")),
        Err(error) => format!("no answer: {error}"),
    }
}
