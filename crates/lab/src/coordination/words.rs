//! The service's words in scripts.
//!
//! What a run asks for has words of its own, so that a story of it can be read; and an operation that is one of those is read
//! back as what was asked for, so that whoever judges runs judges the story.

use super::{Ask, bytes, prefix, text, ttl};
use testudo_core::Decode;
use testudo_kv::{
    DeleteRange, LeaseGrant, LeaseKeepAlive, LeaseRevoke, Operand, Operation, Put, Range,
    RequestOp, Response, Txn,
};

/// `put k=v`, `put k=v lease=7`, `get k`, `delete k`, `cas k old=new` (`-` for no value), `batch k=v l=w`, `clear` (of all that
/// is no register), `grant 7 5s`, `keep 7`, `revoke 7`, `compact 12`.
pub(super) fn parse(words: &[&str]) -> Result<Operation, String> {
    let number = |text: &str| -> Result<i64, String> {
        let digits = text.trim_start_matches("lease=").trim_end_matches('s');
        digits.parse().map_err(|_| format!("no number: {text}"))
    };
    let pair = |pair: &str| {
        let found = pair.split_once('=');
        let (one, other) = found.ok_or_else(|| format!("no = in {pair}"))?;
        Ok::<_, String>((one.to_string(), other.to_string()))
    };
    let put = |text: &str, lease: i64| {
        let (key, value) = pair(text)?;
        let (key, value) = (bytes(&key), bytes(&value));
        Ok::<_, String>(Operation::Put(Put { key, value, lease, ..Put::default() }))
    };
    match words {
        ["put", pair] => put(pair, 0),
        ["put", pair, lease] => put(pair, number(lease)?),
        ["get", key] => Ok(Operation::Range(Range { key: bytes(key), ..Range::default() })),
        ["delete", key] => {
            Ok(Operation::DeleteRange(DeleteRange { key: bytes(key), ..DeleteRange::default() }))
        }
        ["cas", key, values] => {
            let (old, new) = pair(values)?;
            let expected = (old != "-").then_some(old);
            Ok(Ask::Swap((*key).to_string(), expected, new).operation())
        }
        ["batch", pairs @ ..] if !pairs.is_empty() => {
            let pairs: Result<Vec<_>, String> = pairs.iter().map(|text| pair(text)).collect();
            Ok(Ask::Batch(pairs?).operation())
        }
        ["clear"] => Ok(Ask::Clear.operation()),
        ["grant", id, ttl] => {
            Ok(Operation::LeaseGrant(LeaseGrant { id: number(id)?, ttl: number(ttl)? }))
        }
        ["keep", id] => Ok(Operation::LeaseKeepAlive(LeaseKeepAlive { id: number(id)? })),
        ["revoke", id] => Ok(Operation::LeaseRevoke(LeaseRevoke { id: number(id)? })),
        ["compact", revision] => Ok(Ask::Compact(number(revision)?).operation()),
        _ => Err(format!("no such request: {}", words.join(" "))),
    }
}

/// What a run asked for that this operation is of; none if runs ask for no such thing, or not on such keys: then nobody knows
/// how to judge what it comes to.
pub(super) fn ask(operation: &Operation) -> Option<Ask> {
    asks(operation).filter(|ask| is_drawn(ask) && ask.operation() == *operation)
}

/// What the operation asks for, as far as can be told at a glance: it may ask for more beside it.
fn asks(operation: &Operation) -> Option<Ask> {
    Some(match operation {
        Operation::Range(range) => Ask::Get(text(&range.key)),
        Operation::Put(Put { key, value, lease: 0, .. }) => Ask::Put(text(key), text(value)),
        Operation::Put(Put { key, value, lease, .. }) => {
            Ask::Attach(text(key), text(value), *lease)
        }
        Operation::DeleteRange(delete) if delete.key == prefix(b'e').0 => Ask::Clear,
        Operation::DeleteRange(delete) => Ask::Delete(text(&delete.key)),
        Operation::Txn(txn) => return transaction(txn),
        Operation::LeaseGrant(grant) => Ask::Grant(grant.id, grant.ttl),
        Operation::LeaseKeepAlive(kept) => Ask::KeepAlive(kept.id),
        Operation::LeaseRevoke(revoke) => Ask::Revoke(revoke.id),
        Operation::Compact(compact) => Ask::Compact(compact.revision),
        _ => return None,
    })
}

fn transaction(txn: &Txn) -> Option<Ask> {
    let puts = txn.success.iter().map(|request| match request {
        RequestOp::Put(put) => Some((text(&put.key), text(&put.value))),
        _ => None,
    });
    let mut puts: Vec<(String, String)> = puts.collect::<Option<_>>()?;
    match txn.compare.first().map(|compare| &compare.operand) {
        None => Some(Ask::Batch(puts)),
        Some(operand) => {
            let expected = match operand {
                Operand::Value(value) => Some(text(value)),
                _ => None,
            };
            let (key, value) = puts.pop()?;
            Some(Ask::Swap(key, expected, value))
        }
    }
}

/// Whether runs ask for such a thing: registers are judged by themselves, each lease lives as long as its number says.
fn is_drawn(ask: &Ask) -> bool {
    let is_ephemeral = |key: &str| key.starts_with('e');
    match ask {
        Ask::Get(key) | Ask::Put(key, _) | Ask::Delete(key) | Ask::Swap(key, ..) => {
            key.starts_with('k')
        }
        Ask::Attach(key, ..) => is_ephemeral(key),
        Ask::Batch(pairs) => pairs.iter().all(|(key, _)| is_ephemeral(key)),
        Ask::Grant(id, seconds) => *seconds == ttl(*id),
        Ask::KeepAlive(_) | Ask::Revoke(_) | Ask::Clear | Ask::Compact(_) => true,
    }
}

pub(super) fn show(operation: &[u8]) -> String {
    let Ok(operation) = Operation::from_bytes(operation) else { return "?".into() };
    let exact = asks(&operation).filter(|ask| ask.operation() == operation);
    exact.map_or_else(|| show_other(operation), |ask| show_ask(&ask))
}

fn show_ask(ask: &Ask) -> String {
    match ask {
        Ask::Get(key) => format!("get {key}"),
        Ask::Put(key, value) => format!("put {key}={value}"),
        Ask::Delete(key) => format!("delete {key}"),
        Ask::Swap(key, expected, value) => {
            format!("cas {key} {}={value}", expected.as_deref().unwrap_or("-"))
        }
        Ask::Grant(id, ttl) => format!("grant {id} {ttl}s"),
        Ask::KeepAlive(id) => format!("keep {id}"),
        Ask::Revoke(id) => format!("revoke {id}"),
        Ask::Attach(key, value, lease) => format!("put {key}={value} lease={lease}"),
        Ask::Batch(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!(" {key}={value}"));
            format!("batch{}", pairs.collect::<String>())
        }
        Ask::Clear => "clear".into(),
        Ask::Compact(revision) => format!("compact {revision}"),
    }
}

fn show_other(operation: Operation) -> String {
    match operation {
        Operation::Put(Put { key, value, lease, .. }) => {
            let lease = if lease == 0 { String::new() } else { format!(" lease={lease}") };
            format!("put {}={}{lease}", text(&key), text(&value))
        }
        Operation::Range(range) => format!("get {}", text(&range.key)),
        Operation::DeleteRange(delete) => format!("delete {}", text(&delete.key)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Coordination;
    use std::collections::BTreeSet;
    use testudo_core::Encode;
    use testudo_sim::Rng;
    use testudo_sim::workload::Workload;

    #[test]
    fn whatever_a_run_asks_for_is_read_back_from_its_words_and_its_bytes() {
        let (mut rng, onlooker) = (Rng::new(5), Coordination::onlooker(0));
        let mut kinds = BTreeSet::new();
        for token in 0..2_000 {
            let ask = Coordination::draw(3, token, &onlooker, &mut rng);
            kinds.insert(format!("{ask:?}").split('(').next().map(str::to_owned));
            let operation = Coordination::encode(&ask);
            assert_eq!(Coordination::read_ask(&operation).as_ref(), Some(&ask));
            let words = show(&operation);
            let read = parse(&words.split(' ').collect::<Vec<_>>()).expect("it has words");
            assert_eq!(read.to_bytes(), operation, "{words}");
        }
        assert_eq!(kinds.len(), 11, "every kind was drawn: {kinds:?}");
    }

    #[test]
    fn what_no_run_asks_for_is_not_judged_as_if_one_did() {
        let read = |words: &[&str]| {
            let operation = parse(words).expect("it has words").to_bytes();
            Coordination::read_ask(&operation)
        };
        for words in [
            &["put", "e1=v"][..],
            &["get", "a"],
            &["put", "k1=v", "lease=2"],
            &["batch", "k1=v", "e1=w"],
            &["grant", "2", "9s"],
        ] {
            assert_eq!(read(words), None, "{words:?}");
        }
        let range = Range { key: bytes("k1"), revision: 4, ..Range::default() };
        assert_eq!(Coordination::read_ask(&Operation::Range(range).to_bytes()), None);
        assert_eq!(Coordination::read_ask(b"what is this"), None);
        assert_eq!(read(&["put", "k1=v"]), Some(Ask::Put("k1".into(), "v".into())));
    }
}
