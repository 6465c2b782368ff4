//! One seed, repeated, to see how it ended.

use super::flags::{Bench, Sim};
use super::sum;
use crate::failure::{Failure, Outcome};
use crate::say;
use std::process::ExitCode;
use testudo_sim::{Report, Verdict};

/// Runs the seed and shows it.
pub(super) fn run(bench: &Bench, seed: u64, flags: &Sim) -> Outcome<ExitCode> {
    let report = bench
        .run(seed, flags.twice)
        .ok_or_else(|| Failure::refused("there is no plan with these faults"))?;
    show(&report);
    if report.verdict() == Verdict::Failed {
        let what = report.violations.first().map(ToString::to_string).unwrap_or_default();
        return Err(Failure::failed(format!("seed {seed} broke {what}")));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(report: &Report) {
    say::out(format_args!("{}", report.to_string().trim_end()));
    let verdict = sum::name(report.verdict());
    say::out(format_args!("  {verdict}"));
    for (name, count) in &report.counts {
        say::out(format_args!("  {count:>8} {name}"));
    }
}
