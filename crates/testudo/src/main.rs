//! The command: a whole cluster on one machine, or one node of it on a host of its own.
//!
//! [`cli`] has what can be typed, [`cluster`] the file that all nodes share. [`up`] starts replicas as child processes
//! and a gateway inside its own; [`node`] is what such a replica is, [`serve`] such a gateway. [`status`] asks all
//! replicas and puts their claims beside what enough of them agree on, and [`evidence`] judges what replicas have
//! signed. [`recover`] is for people who must decide what a cluster goes on from. [`lying`] is for demonstrations. [`sim`] runs
//! seeds of whole clusters in one process, and [`explore`] sees all that can happen in small ones.
#![forbid(unsafe_code)]

mod bench;
mod cli;
mod cluster;
mod evidence;
mod explore;
mod failure;
mod init;
mod logging;
mod lying;
mod node;
mod protocols;
mod recover;
mod say;
mod serve;
mod signals;
mod sim;
mod status;
mod up;
mod words;

use cli::Command;
use failure::{Failure, Outcome};
use std::process::ExitCode;

/// Buffers of many sizes live and die on many threads here, which the C library's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            say::err(format_args!("{failure}"));
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run() -> Outcome<ExitCode> {
    let Some(cli) = cli::parse(std::env::args_os())? else { return Ok(ExitCode::SUCCESS) };
    match &cli.command {
        Command::Up(flags) => up::run(flags, &cli.log),
        Command::Init(flags) => init::run(flags),
        Command::Replica(flags) => node::run(flags, None, &cli.log),
        Command::Liar(flags) => node::run(&flags.replica, Some(flags.kind), &cli.log),
        Command::Gateway(flags) => serve::run(flags, &cli.log),
        Command::Recover(flags) => recover::run(flags),
        Command::Bench(flags) => return measure(flags.clone()),
        Command::Explore(flags) => return explore::run(flags),
        Command::Sim(flags) => return sim::run(flags),
        Command::Evidence(flags) => return evidence::run(flags).map(ExitCode::from),
        Command::Status(flags) => return status::run(flags).map(ExitCode::from),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Runs a benchmark on one thread, as it shares the machine with what it measures.
fn measure(flags: bench::BenchArgs) -> Outcome<ExitCode> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?
        .block_on(bench::run(flags))
        .map_err(Failure::failed)
}
