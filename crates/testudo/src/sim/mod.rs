//! `testudo sim`: whole clusters in one process, with everything that can go wrong, each from one number.
//!
//! What a seed's run is, and what may go wrong in it, is said by the [`testudo_lab::Rota`]; here seeds are given out to
//! threads and what they come to is added up. [`flags`] has what can be typed, [`drive`] runs seeds, [`sum`] is what
//! they came to, which [`merge`] reads back and joins, [`table`] shows it to people and [`progress`] shows how far it
//! is. [`again`] repeats a single seed.
//!
//! Sums are made so that the order in which runs end does not show: any number of threads, or of shards whose reports
//! are joined, come to the same sum.

mod again;
mod drive;
mod flags;
mod merge;
mod progress;
mod sum;
mod table;

pub(crate) use flags::Sim;

use crate::failure::{Failure, Outcome};
use crate::say;
use std::process::ExitCode;
use sum::Sum;

/// Does what was asked for.
pub(crate) fn run(flags: &Sim) -> Outcome<ExitCode> {
    if !flags.merge.is_empty() {
        return finish(&merge::merge(&flags.merge)?, flags.json);
    }
    let bench = flags.bench()?;
    match flags.replay {
        Some(seed) => again::run(&bench, seed, flags, &mut |text| say::out(format_args!("{text}"))),
        None => finish(&drive::run(&bench, flags)?, flags.json),
    }
}

/// Prints what runs came to, and says by the exit code whether that is well.
fn finish(sum: &Sum, json: bool) -> Outcome<ExitCode> {
    let coverage = sum.coverage()?;
    if json {
        say::out(format_args!("{}", sum.json(&coverage)));
    } else {
        say::out(format_args!("{}", table::show(sum, &coverage)));
    }
    match sum.complaint(&coverage) {
        None => Ok(ExitCode::SUCCESS),
        Some(sentence) => Err(Failure::failed(sentence)),
    }
}
