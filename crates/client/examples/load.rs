//! Load on a cluster of four replicas in this process: how many operations a second, how long each takes, and what they
//! cost. `cargo run --release -p testudo-client --example load -- [outstanding] [seconds] [verifiers] [bytes]`

#[path = "../tests/common/mod.rs"]
mod common;

use common::Cluster;
use std::time::{Duration, Instant};

/// Processor time of this process so far, from the system's account of it.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn argument(place: usize, otherwise: usize) -> usize {
    std::env::args().nth(place).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn main() {
    let (outstanding, seconds) = (argument(1, 64), argument(2, 5));
    let (verifiers, bytes) = (argument(3, 0), argument(4, 64).max(1));
    let cluster = Cluster::start(4, verifiers);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut times, took, spent) = runtime.block_on(async {
        let client = cluster.client();
        client.submit(vec![1]).await.unwrap();
        let (start, before) = (Instant::now(), processor_time());
        let end = start + Duration::from_secs(seconds as u64);
        let workers: Vec<_> = (0..outstanding)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while Instant::now() < end {
                        let begun = Instant::now();
                        client.submit(vec![1; bytes]).await.unwrap();
                        times.push(begun.elapsed());
                    }
                    times
                })
            })
            .collect();
        let mut times = Vec::new();
        for worker in workers {
            times.extend(worker.await.unwrap());
        }
        (times, start.elapsed(), processor_time() - before)
    });
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let count = times.len();
    println!(
        "{outstanding} outstanding: {:.0}/s, p50 {:?}, p99 {:?}, {:.1} us of processor an operation",
        count as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        spent.as_secs_f64() * 1e6 / count as f64,
    );
    let text = cluster.nodes[1].as_ref().unwrap().metrics().render();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket")) {
        println!("  {line}");
    }
}
