//! `testudo evidence`: what replicas have signed that no correct one signs, for whoever has to act on it.
//!
//! A replica that catches another keeps the contradictory statements as a file in the folder `evidence` of its data.
//! Such a file proves itself: whoever has the cluster file, and with it the public keys, can check it ([`court`]), and
//! the word of whoever kept it counts for nothing. [`verify`] checks files, [`list`] finds them.
//!
//! What a replica did by mistake of its disk or memory is no evidence: a state that differs is healed, not judged.

pub(crate) mod court;
mod list;
mod offences;
mod verify;

use crate::cli::{Evidence, EvidenceWhat};
use crate::failure::{Exit, Failure, Outcome};
use court::{Finding, Statement};
use serde_json::{Value, json};

/// Does what was asked for, and gives the code to exit with.
pub(crate) fn run(flags: &Evidence) -> Outcome<u8> {
    match &flags.what {
        EvidenceWhat::Verify(flags) => verify::run(flags),
        EvidenceWhat::List(flags) => list::run(flags).map(|()| 0),
    }
}

/// The same failure as a refusal: what cannot be read is code 2, so that code 1 says one thing only.
fn unreadable(failure: Failure) -> Failure {
    Failure { exit: Exit::Refused, ..failure }
}

/// A finding for programs. Fields are only ever added.
fn finding_json(finding: &Finding) -> Value {
    let statements: Vec<Value> = finding.statements.iter().map(statement_json).collect();
    json!({
        "accused": finding.accused,
        "epoch": finding.epoch,
        "offence": finding.offence,
        "convicted": finding.acquittal.is_none(),
        "why": finding.why(),
        "statements": statements,
    })
}

fn statement_json(statement: &Statement) -> Value {
    json!({
        "kind": statement.kind,
        "says": statement.says,
        "body": statement.body,
        "bytes": statement.bytes,
        "digest": statement.digest,
        "error": statement.error,
    })
}
