//! What the service must answer, said as plainly as possible: all versions in one list, every state recomputed.
#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::{BTreeMap, BTreeSet};
use testudo_kv::{
    Bytes, Compact, CompactResponse, Compare, DeleteRange, DeleteRangeResponse, Error, KeyValue,
    LeaseGrant, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLive, LeaseTimeToLiveResponse, Operand, Operation, Put,
    PutResponse, Range, RangeResponse, RequestOp, Response, ResponseOp, SLACK, Txn, TxnResponse,
};

type State = BTreeMap<Vec<u8>, KeyValue>;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    revision: i64,
    /// Each change in order: its revision, its key, and what the key became.
    versions: Vec<(i64, Bytes, Option<KeyValue>)>,
    pub(crate) compacted: i64,
    clock: u64,
    /// Each lease's time to live in seconds, and when it expires.
    leases: BTreeMap<i64, (i64, u64)>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { revision: 1, versions: Vec::new(), compacted: -1, clock: 0, leases: BTreeMap::new() }
    }

    pub(crate) fn keys(&self) -> u64 {
        self.state(i64::MAX).len() as u64
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// What each revision made of each key that it changed, in the order in which it was made: of a key that a
    /// transaction changed twice, what it became last.
    pub(crate) fn changes(&self) -> Vec<(i64, Bytes, Option<KeyValue>)> {
        let readable = self.versions.iter().filter(|(revision, ..)| *revision >= self.compacted);
        let mut seen = BTreeSet::new();
        let mut changes: Vec<_> = readable
            .rev()
            .filter(|(revision, key, _)| seen.insert((*revision, key.clone())))
            .cloned()
            .collect();
        changes.reverse();
        changes
    }

    /// What a key was before a revision.
    pub(crate) fn before(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let mut state = self.state(revision - 1);
        state.remove(key).filter(|_| revision > self.compacted)
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, milliseconds: u64) {
        self.clock += milliseconds;
        let mut due: Vec<(u64, i64)> =
            self.leases.iter().map(|(id, lease)| (lease.1, *id)).collect();
        due.retain(|(expires, _)| *expires <= self.clock);
        due.sort_unstable();
        due.into_iter().for_each(|(_, id)| self.end(id));
    }

    fn end(&mut self, id: i64) {
        self.leases.remove(&id);
        let begin = self.revision;
        for kv in self.state(i64::MAX).into_values().filter(|kv| kv.lease == id) {
            self.revision = begin + 1;
            self.versions.push((self.revision, kv.key, None));
        }
    }

    fn compact(&mut self, compact: &Compact) -> Result<Response, Error> {
        if compact.revision <= 0 || compact.revision <= self.compacted {
            return Err(Error::Compacted);
        } else if compact.revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compacted = compact.revision;
        Ok(Response::Compact(CompactResponse { revision: self.revision, swept: 0 }))
    }

    fn grant(&mut self, grant: &LeaseGrant) -> Result<Response, Error> {
        if grant.id == 0 {
            return Err(Error::LeaseWithoutId);
        } else if grant.ttl > 9_000_000_000 {
            return Err(Error::LeaseTtlTooLarge);
        } else if self.leases.contains_key(&grant.id) {
            return Err(Error::LeaseExists);
        }
        let ttl = if grant.ttl < 2 { 2 } else { grant.ttl };
        self.leases.insert(grant.id, (ttl, self.clock + 1000 * ttl as u64 + SLACK));
        Ok(Response::LeaseGrant(LeaseGrantResponse { revision: self.revision, id: grant.id, ttl }))
    }

    fn revoke(&mut self, id: i64) -> Result<Response, Error> {
        if !self.leases.contains_key(&id) {
            return Err(Error::LeaseNotFound);
        }
        self.end(id);
        Ok(Response::LeaseRevoke(LeaseRevokeResponse { revision: self.revision }))
    }

    fn keep_alive(&mut self, id: i64) -> Response {
        let mut answer = LeaseKeepAliveResponse { revision: self.revision, id, ttl: 0 };
        if let Some((ttl, expires)) = self.leases.get_mut(&id) {
            *expires = self.clock + 1000 * *ttl as u64 + SLACK;
            answer.ttl = *ttl;
        }
        Response::LeaseKeepAlive(answer)
    }

    fn time_to_live(&self, asked: &LeaseTimeToLive) -> Response {
        let (ttl, granted_ttl) = match self.leases.get(&asked.id) {
            Some((ttl, expires)) => {
                ((*expires as i64 - SLACK as i64 - self.clock as i64).max(0) / 1000, *ttl)
            }
            None => (-1, 0),
        };
        let held = self.state(i64::MAX).into_values().filter(|kv| kv.lease == asked.id);
        let keys = held.filter(|_| asked.keys && ttl >= 0).map(|kv| kv.key).collect();
        let (revision, id) = (self.revision, asked.id);
        Response::LeaseTimeToLive(LeaseTimeToLiveResponse { revision, id, ttl, granted_ttl, keys })
    }

    fn leases(&self) -> Response {
        let mut leases: Vec<i64> = self.leases.keys().copied().collect();
        leases.sort_by_key(|id| self.leases[id].1);
        Response::LeaseLeases(LeaseLeasesResponse { revision: self.revision, leases })
    }

    /// The answer to anything but a status.
    pub(crate) fn execute(&mut self, operation: &Operation) -> Response {
        let before = self.clone();
        let answer = match operation {
            Operation::Range(range) => check_range(range).and_then(|()| {
                if range.revision > self.revision {
                    Err(Error::FutureRevision)
                } else if range.revision > 0 && range.revision < self.compacted {
                    Err(Error::Compacted)
                } else {
                    Ok(Response::Range(self.range(range)))
                }
            }),
            Operation::Put(put) => {
                check_put(put).and_then(|()| self.put(put, before.revision + 1)).map(Response::Put)
            }
            Operation::DeleteRange(delete) => check_key(&delete.key)
                .map(|()| Response::DeleteRange(self.delete(delete, before.revision))),
            Operation::Txn(txn) => self.txn(txn).map(Response::Txn),
            Operation::Compact(compact) => self.compact(compact),
            Operation::LeaseGrant(grant) => self.grant(grant),
            Operation::LeaseRevoke(revoke) => self.revoke(revoke.id),
            Operation::LeaseKeepAlive(keep_alive) => Ok(self.keep_alive(keep_alive.id)),
            Operation::LeaseTimeToLive(asked) => Ok(self.time_to_live(asked)),
            Operation::LeaseLeases => Ok(self.leases()),
            Operation::Status => unreachable!("the model has no status"),
        };
        answer.unwrap_or_else(|error| {
            *self = before;
            Response::Error(error)
        })
    }

    fn state(&self, revision: i64) -> State {
        let mut state = State::new();
        for (_, key, version) in self.versions.iter().take_while(|(at, ..)| *at <= revision) {
            match version {
                Some(version) => state.insert(key.to_vec(), version.clone()),
                None => state.remove(&key[..]),
            };
        }
        state
    }

    fn range(&self, range: &Range) -> RangeResponse {
        let at = if range.revision > 0 { range.revision } else { i64::MAX };
        let state = self.state(at);
        let all: Vec<KeyValue> = state
            .into_values()
            .filter(|kv| within(&kv.key, &range.key, &range.range_end))
            .collect();
        let count = all.len() as i64;
        let mut kvs = if range.count_only { Vec::new() } else { all };
        let limit = range.limit.max(0) as usize;
        let filtered = range.min_mod_revision != 0
            || range.max_mod_revision != 0
            || range.min_create_revision != 0
            || range.max_create_revision != 0;
        if range.sort_order.0 == 0 && !filtered && limit > 0 {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            (range.min_mod_revision == 0 || kv.mod_revision >= range.min_mod_revision)
                && (range.max_mod_revision == 0 || kv.mod_revision <= range.max_mod_revision)
                && (range.min_create_revision == 0
                    || kv.create_revision >= range.min_create_revision)
                && (range.max_create_revision == 0
                    || kv.create_revision <= range.max_create_revision)
        });
        let descending = range.sort_order.0 == 2;
        kvs.sort_by(|a, b| {
            let order = match range.sort_target.0 {
                0 => a.key.cmp(&b.key),
                1 => a.version.cmp(&b.version),
                2 => a.create_revision.cmp(&b.create_revision),
                3 => a.mod_revision.cmp(&b.mod_revision),
                _ => a.value.cmp(&b.value),
            };
            if descending { order.reverse() } else { order }
        });
        let more = limit > 0 && kvs.len() > limit;
        if limit > 0 {
            kvs.truncate(limit);
        }
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::default());
        }
        RangeResponse { revision: self.revision, kvs, more, count }
    }

    fn put(&mut self, put: &Put, revision: i64) -> Result<PutResponse, Error> {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(Error::LeaseNotFound);
        }
        let previous = self.state(i64::MAX).remove(&put.key[..]);
        if (put.ignore_value || put.ignore_lease) && previous.is_none() {
            return Err(Error::KeyNotFound);
        }
        let mut now = previous.clone().unwrap_or_else(|| KeyValue {
            key: put.key.clone(),
            create_revision: revision,
            ..KeyValue::default()
        });
        now.mod_revision = revision;
        now.version += 1;
        if !put.ignore_value {
            now.value = put.value.clone();
        }
        if !put.ignore_lease {
            now.lease = put.lease;
        }
        self.revision = revision;
        self.versions.push((revision, put.key.clone(), Some(now)));
        Ok(PutResponse { revision, prev_kv: previous.filter(|_| put.prev_kv) })
    }

    fn delete(&mut self, delete: &DeleteRange, begin: i64) -> DeleteRangeResponse {
        let mut previous: Vec<KeyValue> = self.state(i64::MAX).into_values().collect();
        previous.retain(|kv| within(&kv.key, &delete.key, &delete.range_end));
        for kv in &previous {
            self.revision = begin + 1;
            self.versions.push((self.revision, kv.key.clone(), None));
        }
        let deleted = previous.len() as i64;
        let prev_kvs = if delete.prev_kv { previous } else { Vec::new() };
        DeleteRangeResponse { revision: self.revision, deleted, prev_kvs }
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, Error> {
        check_txn(txn, 128, 0)?;
        check_branch(&txn.success)?;
        check_branch(&txn.failure)?;
        let before = self.clone();
        before.expect_of_state(txn)?;
        let mut answer = self.apply(txn, &before)?;
        answer.revision = self.revision;
        Ok(answer)
    }

    /// The branch of each transaction depends on the state before the outermost, and so do the checks.
    fn expect_of_state(&self, txn: &Txn) -> Result<(), Error> {
        for op in self.branch(txn).1 {
            match op {
                RequestOp::Range(range) if range.revision > self.revision => {
                    return Err(Error::FutureRevision);
                }
                RequestOp::Range(range)
                    if range.revision != 0 && range.revision < self.compacted =>
                {
                    return Err(Error::Compacted);
                }
                RequestOp::Put(put) => drop(self.clone().put(put, self.revision + 1)?),
                RequestOp::Txn(inner) => self.expect_of_state(inner)?,
                RequestOp::None | RequestOp::Range(_) | RequestOp::DeleteRange(_) => {}
            }
        }
        Ok(())
    }

    fn apply(&mut self, txn: &Txn, before: &Self) -> Result<TxnResponse, Error> {
        let (succeeded, branch) = before.branch(txn);
        let mut responses = Vec::new();
        for op in branch {
            responses.push(match op {
                RequestOp::None => return Err(Error::KeyNotFound),
                RequestOp::Range(range) => ResponseOp::Range(self.range(range)),
                RequestOp::Put(put) => ResponseOp::Put(self.put(put, before.revision + 1)?),
                RequestOp::DeleteRange(delete) => {
                    ResponseOp::DeleteRange(self.delete(delete, before.revision))
                }
                RequestOp::Txn(inner) => ResponseOp::Txn(self.apply(inner, before)?),
            });
        }
        Ok(TxnResponse { revision: 0, succeeded, responses })
    }

    fn branch<'a>(&self, txn: &'a Txn) -> (bool, &'a [RequestOp]) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let state = self.state(i64::MAX);
        let mut looked_at: Vec<_> =
            state.values().filter(|kv| within(&kv.key, &compare.key, &compare.range_end)).collect();
        let absent = KeyValue::default();
        if looked_at.is_empty() {
            if compare.target.0 == 3 {
                return false;
            }
            looked_at.push(&absent);
        }
        looked_at.into_iter().all(|kv| {
            let order = match (compare.target.0, &compare.operand) {
                (0, Operand::Version(n)) => kv.version.cmp(n),
                (1, Operand::Create(n)) => kv.create_revision.cmp(n),
                (2, Operand::Mod(n)) => kv.mod_revision.cmp(n),
                (3, Operand::Value(value)) => kv.value.cmp(value),
                (4, Operand::Lease(n)) => kv.lease.cmp(n),
                (0, _) => kv.version.cmp(&0),
                (1, _) => kv.create_revision.cmp(&0),
                (2, _) => kv.mod_revision.cmp(&0),
                (3, _) => kv.value.cmp(&Bytes::default()),
                (4, _) => kv.lease.cmp(&0),
                _ => std::cmp::Ordering::Equal,
            };
            match compare.relation.0 {
                0 => order.is_eq(),
                1 => order.is_gt(),
                2 => order.is_lt(),
                3 => order.is_ne(),
                _ => true,
            }
        })
    }
}

fn within(key: &[u8], from: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == from,
        [0] => key >= from,
        end => key >= from && key < end,
    }
}

fn check_key(key: &[u8]) -> Result<(), Error> {
    if key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

fn check_range(range: &Range) -> Result<(), Error> {
    check_key(&range.key)?;
    if (0..3).contains(&range.sort_order.0) && (0..5).contains(&range.sort_target.0) {
        Ok(())
    } else {
        Err(Error::InvalidSortOption)
    }
}

fn check_put(put: &Put) -> Result<(), Error> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

fn check_txn(txn: &Txn, allowance: i64, depth: usize) -> Result<(), Error> {
    let largest = txn.compare.len().max(txn.success.len()).max(txn.failure.len()) as i64;
    if largest > allowance || depth > 8 {
        return Err(Error::TooManyOperations);
    }
    for compare in &txn.compare {
        check_key(&compare.key)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            RequestOp::None => return Err(Error::KeyNotFound),
            RequestOp::Range(range) => check_range(range)?,
            RequestOp::Put(put) => check_put(put)?,
            RequestOp::DeleteRange(delete) => check_key(&delete.key)?,
            RequestOp::Txn(inner) => check_txn(inner, allowance - largest, depth + 1)?,
        }
    }
    Ok(())
}

/// What a branch puts, and the ranges that it deletes, as keys and range ends.
type Touched = (Vec<Bytes>, Vec<(Bytes, Bytes)>);

fn check_branch(branch: &[RequestOp]) -> Result<Touched, Error> {
    let mut puts: Vec<Bytes> = Vec::new();
    let mut deletes: Vec<(Bytes, Bytes)> = Vec::new();
    for op in branch {
        if let RequestOp::DeleteRange(delete) = op {
            deletes.push((delete.key.clone(), delete.range_end.clone()));
        }
    }
    let deleted = |deletes: &[(Bytes, Bytes)], key: &Bytes| {
        deletes.iter().any(
            |(from, end)| {
                if end.is_empty() { key == from } else { key >= from && key < end }
            },
        )
    };
    for op in branch {
        let RequestOp::Txn(inner) = op else { continue };
        let (success_puts, success_deletes) = check_branch(&inner.success)?;
        let (failure_puts, failure_deletes) = check_branch(&inner.failure)?;
        for key in &success_puts {
            if puts.contains(key) || deleted(&deletes, key) {
                return Err(Error::DuplicateKey);
            }
        }
        for key in &failure_puts {
            if puts.contains(key) || deleted(&deletes, key) {
                return Err(Error::DuplicateKey);
            }
        }
        puts.extend(success_puts);
        puts.extend(failure_puts);
        deletes.extend(success_deletes);
        deletes.extend(failure_deletes);
    }
    for op in branch {
        let RequestOp::Put(put) = op else { continue };
        if puts.contains(&put.key) || deleted(&deletes, &put.key) {
            return Err(Error::DuplicateKey);
        }
        puts.push(put.key.clone());
    }
    Ok((puts, deletes))
}
