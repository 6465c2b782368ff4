//! Transactions: all compares first, then all checks, then all requests.
//!
//! A transaction inside another is judged with the outer one, on the state before either has changed anything. So the
//! first step makes of the whole tree a [`Plan`] of what will run; the second checks that everything in it can; the
//! third runs it in order, each request seeing those before it.

use crate::draft::{At, Draft};
use crate::error::Error;
use crate::layout::{Keys, Record};
use crate::operation::{
    Compare, CompareTarget, DeleteRange, Operand, Put, Range, Relation, RequestOp, Txn,
};
use crate::response::Reply;
use crate::{put, range};
use alloc::vec::Vec;
use core::cmp::Ordering;

/// A transaction with its compares judged: the branch that will run.
struct Plan<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Range(&'a Range),
    Put(&'a Put),
    DeleteRange(&'a DeleteRange),
    Txn(Plan<'a>),
}

/// Runs a transaction.
///
/// # Errors
/// When any request that would run cannot. The draft may then hold some of its changes and must be dropped.
pub(crate) fn run(txn: &Txn, draft: &mut Draft<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let plan = plan(txn, draft)?;
    check(&plan, draft)?;
    let mark = reply.txn(plan.succeeded, plan.steps.len());
    apply(&plan, draft, reply)?;
    reply.set_revision(&mark, draft.revision());
    Ok(())
}

fn plan<'a>(txn: &'a Txn, draft: &Draft<'_>) -> Result<Plan<'a>, Error> {
    let mut succeeded = true;
    for compare in &txn.compare {
        succeeded = holds(compare, draft)?;
        if !succeeded {
            break;
        }
    }
    let requests = if succeeded { &txn.success } else { &txn.failure };
    let mut steps = Vec::with_capacity(requests.len());
    for request in requests {
        steps.push(match request {
            RequestOp::None => return Err(Error::KeyNotFound),
            RequestOp::Range(range) => Step::Range(range),
            RequestOp::Put(put) => Step::Put(put),
            RequestOp::DeleteRange(delete) => Step::DeleteRange(delete),
            RequestOp::Txn(inner) => Step::Txn(self::plan(inner, draft)?),
        });
    }
    Ok(Plan { succeeded, steps })
}

fn check(plan: &Plan<'_>, draft: &Draft<'_>) -> Result<(), Error> {
    plan.steps.iter().try_for_each(|step| match step {
        Step::Range(request) => range::check(request, draft),
        Step::Put(request) => put::check(request, draft),
        Step::DeleteRange(_) => Ok(()),
        Step::Txn(inner) => check(inner, draft),
    })
}

fn apply(plan: &Plan<'_>, draft: &mut Draft<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    plan.steps.iter().try_for_each(|step| match step {
        Step::Range(request) => range::answer(request, draft, reply),
        Step::Put(request) => put::apply(request, draft, reply),
        Step::DeleteRange(request) => put::delete_range(request, draft, reply),
        Step::Txn(inner) => {
            // etcd fills in the revision of the outermost transaction alone.
            let _ = reply.txn(inner.succeeded, inner.steps.len());
            apply(inner, draft, reply)
        }
    })
}

/// Whether a condition holds: for every key of its range, or for one absent key if the range is empty.
fn holds(compare: &Compare, draft: &Draft<'_>) -> Result<bool, Error> {
    let mut result = None;
    draft.visit(Keys::new(&compare.key, &compare.range_end), At::Newest, &mut |record| {
        result = Some(result.unwrap_or(true) && holds_for(compare, &Record::read(record)));
    })?;
    Ok(result.unwrap_or_else(|| {
        // No value is the value of a key that does not exist, not even the empty one.
        compare.target != CompareTarget::VALUE && holds_for(compare, &ABSENT)
    }))
}

/// What a compare sees of a key that does not exist.
const ABSENT: Record<'_> =
    Record { key: &[], create_revision: 0, mod_revision: 0, version: 0, lease: 0, value: &[] };

fn holds_for(compare: &Compare, record: &Record<'_>) -> bool {
    let order = order(compare, record);
    match compare.relation {
        Relation::EQUAL => order == Ordering::Equal,
        Relation::NOT_EQUAL => order != Ordering::Equal,
        Relation::GREATER => order == Ordering::Greater,
        Relation::LESS => order == Ordering::Less,
        _ => true,
    }
}

fn order(compare: &Compare, record: &Record<'_>) -> Ordering {
    match (compare.target, &compare.operand) {
        (CompareTarget::VALUE, Operand::Value(value)) => record.value.cmp(value),
        (CompareTarget::VALUE, _) => record.value.cmp(&[]),
        (CompareTarget::VERSION, Operand::Version(version)) => record.version.cmp(version),
        (CompareTarget::VERSION, _) => record.version.cmp(&0),
        (CompareTarget::CREATE, Operand::Create(revision)) => record.create_revision.cmp(revision),
        (CompareTarget::CREATE, _) => record.create_revision.cmp(&0),
        (CompareTarget::MOD, Operand::Mod(revision)) => record.mod_revision.cmp(revision),
        (CompareTarget::MOD, _) => record.mod_revision.cmp(&0),
        (CompareTarget::LEASE, Operand::Lease(lease)) => record.lease.cmp(lease),
        (CompareTarget::LEASE, _) => record.lease.cmp(&0),
        _ => Ordering::Equal,
    }
}
