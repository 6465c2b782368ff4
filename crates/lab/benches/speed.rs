//! How fast the simulator is: steps of automata per second, and simulated time per time.
//!
//! The cluster is that of most seeds: PBFT with four replicas, of which one lies, the real service, and three clients,
//! under everything that oracles and the command's seeds do. Each run is whole, from the storm to the last read, and
//! its trouble is drawn from its seed; every kind of liar has its turn.
//!
//! Time is the processor's, where the system says how much of it there was, so that a busy machine measures the same.
//!
//! | group | what is counted |
//! |---|---|
//! | `steps` | steps in which an automaton ran: 200,000 a second is the least |
//! | `milliseconds` | simulated milliseconds: a million a second, a thousand times real time, is the least |

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};
use testudo_lab::System;
use testudo_pbft::Pbft;
use testudo_sim::conformance::run_seed;
use testudo_sim::{Climate, Misconduct, Plan, Report};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIARS: [Misconduct; 9] = [
    Misconduct::Silent,
    Misconduct::Slow,
    Misconduct::Selective,
    Misconduct::Replay,
    Misconduct::Twins,
    Misconduct::Corrupt,
    Misconduct::Equivocate,
    Misconduct::Stale,
    Misconduct::Random,
];

/// Processor time of this thread, which measures, so far.
fn processor_time() -> Option<Duration> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanos = line.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanos))
}

/// What something takes.
fn timed(run: impl FnOnce()) -> Duration {
    let (on_processor, began) = (processor_time(), Instant::now());
    run();
    let took = began.elapsed();
    match (on_processor, processor_time()) {
        (Some(before), Some(after)) => after.saturating_sub(before),
        _ => took,
    }
}

/// One whole run per kind of liar.
fn round(climate: Option<&Climate>) -> Vec<Report> {
    let run = |(seed, liar): (u64, Misconduct)| {
        let climate = climate.cloned();
        let plan = Plan { clients: 3, climate, ..Plan::default() }.with_liar(liar);
        let report = run_seed(System::<Pbft>::default, seed, &plan);
        assert!(report.is_clean(), "{report}");
        report
    };
    (0..).zip(LIARS).map(run).collect()
}

fn speed(criterion: &mut Criterion) {
    let calm = Climate::calm();
    for (name, climate) in [("drawn", None), ("calm", Some(&calm))] {
        let reports = round(climate);
        let steps = reports.iter().map(|report| report.steps).sum();
        let time: Duration = reports.iter().map(|report| report.time).sum();
        for (group, count) in [("steps", steps), ("milliseconds", time.as_millis() as u64)] {
            let mut group = criterion.benchmark_group(group);
            group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(count));
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|rounds| {
                    timed(|| (0..rounds).for_each(|_| drop(black_box(round(climate)))))
                });
            });
            group.finish();
        }
    }
}

criterion_group! {
    name = speeds;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5));
    targets = speed
}
criterion_main!(speeds);
