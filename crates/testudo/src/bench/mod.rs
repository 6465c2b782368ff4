//! `testudo bench`: drives whatever speaks etcd v3 and says what it did and what it cost.
//!
//! The load is a closed loop: so many operations are outstanding, and each answer makes room for
//! the next. Everything runs on one thread, and [`client`] speaks just as much HTTP/2 and gRPC as
//! it takes, because the generator shares the machine with what it measures; what it cost itself
//! stands in the report.
//!
//! A run has four parts: preloading, for workloads that read; warming up; the measured window, at
//! the two ends of which clocks and processor times are read; and waiting for what is then under
//! way, which no longer counts.

mod args;
mod client;
mod histogram;
mod load;
mod processors;
mod report;
#[cfg(test)]
mod tests;

pub(crate) use args::BenchArgs;

use std::process::ExitCode;

use load::Load;
use processors::Processes;
use tokio::task::LocalSet;

/// Runs a benchmark and prints its report.
///
/// It uses one thread, so a runtime of one thread is best. The exit code is a failure when any
/// operation was.
///
/// # Errors
/// When it cannot begin or be measured; the sentence says what is missing.
pub(crate) async fn run(args: BenchArgs) -> Result<ExitCode, String> {
    args.check()?;
    let processes = Processes::of(&args.pids)?;
    let local = LocalSet::new();
    let report = local.run_until(async {
        let load = Load::connect(&args).await?;
        load.preload().await?;
        load.warm_up().await;
        let before = processes.times()?;
        let measured = load.measure().await;
        let after = processes.times()?;
        load.drain().await;
        Ok::<_, String>(report::Report::new(&args, &measured, &processes, &before, &after))
    });
    let report = report.await?;
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(if report.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
