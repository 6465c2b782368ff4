//! `testudo bench`: drives whatever speaks etcd v3 and says what it did and what it cost.
//!
//! The load is a closed loop: so many operations are outstanding, and each answer makes room for
//! the next. While watches or leases are measured it is puts at a given rate instead. Everything
//! runs on one thread, and [`client`] speaks just as much HTTP/2 and gRPC as it takes, because the
//! generator shares the machine with what it measures; what it cost itself stands in the report.
//!
//! A run has these parts: preloading, for workloads that read; opening watches ([`watch`]) or
//! leases ([`lease`]); warming up; the measured window, at the two ends of which clocks and
//! processor times are read; waiting for what is then under way, which no longer counts; and
//! waiting until the watchers have seen it all, which [`judge`] judges.

mod args;
mod client;
#[cfg(test)]
mod fake;
mod histogram;
mod judge;
mod lease;
mod load;
mod processors;
mod report;
mod stamp;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use args::BenchArgs;

use std::process::ExitCode;

use args::Workload;
use lease::Leases;
use load::Load;
use processors::Processes;
use report::{Beside, Report};
use tokio::task::LocalSet;
use watch::{Idle, Watchers};

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
    let report = LocalSet::new().run_until(drive(&args, &processes)).await?;
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{report}");
    }
    Ok(if report.has_errors() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// All parts of a run.
async fn drive(args: &BenchArgs, processes: &Processes) -> Result<Report, String> {
    let load = Load::connect(args).await?;
    load.preload().await?;
    let idle = Idle::open(args, &load).await?;
    let beside = Held::open(args, &load).await?;
    load.warm_up().await;
    let before = processes.times()?;
    let measured = load.measure().await;
    let after = processes.times()?;
    load.drain().await;
    let beside = beside.finish(args).await;
    idle.close().await?;
    Ok(Report::new(args, measured, beside, processes, &before, &after))
}

/// What is held open beside the operations.
enum Held {
    Nothing,
    Watchers(Watchers),
    Leases(Leases),
}

impl Held {
    async fn open(args: &BenchArgs, load: &Load) -> Result<Self, String> {
        Ok(match args.workload {
            Workload::Watch => Self::Watchers(Watchers::open(args, load).await?),
            Workload::Lease => Self::Leases(Leases::open(args, load).await?),
            _ => Self::Nothing,
        })
    }

    async fn finish(self, args: &BenchArgs) -> Beside {
        match self {
            Self::Nothing => Beside::Nothing,
            Self::Watchers(watchers) => Beside::Watched(watchers.finish(args.timeout).await),
            Self::Leases(leases) => Beside::Leased(leases.finish(args.timeout).await),
        }
    }
}
