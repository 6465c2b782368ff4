//! What is printed at the end.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::BenchArgs;
use super::client::Failure;
use super::histogram::Histogram;
use super::lease::Leased;
use super::load::Measured;
use super::processors::{Processes, Times, peak_memory};
use super::watch::Watched;

/// The quantiles that are shown, with their names.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// What went on beside the operations.
#[derive(Clone, Debug)]
pub(super) enum Beside {
    /// Nothing.
    Nothing,
    /// Watchers that were judged.
    Watched(Watched),
    /// Leases that were kept alive.
    Leased(Leased),
}

/// One of the servers' processes.
#[derive(Debug)]
struct Process {
    pid: u32,
    name: String,
    /// Processor time spent in the window.
    spent: Duration,
    /// The most memory that it ever had, in bytes.
    peak: Option<u64>,
}

/// Everything that a run found out.
#[derive(Debug)]
pub(super) struct Report {
    workload: &'static str,
    value_size: usize,
    keys: usize,
    outstanding: usize,
    connections: usize,
    idle_watchers: usize,
    measured: Measured,
    beside: Beside,
    processes: Vec<Process>,
    own: Option<Duration>,
}

impl Report {
    pub(super) fn new(
        args: &BenchArgs,
        measured: Measured,
        beside: Beside,
        processes: &Processes,
        before: &Times,
        after: &Times,
    ) -> Self {
        let spent = before.watched.iter().zip(&after.watched);
        let spent = spent.map(|(before, after)| after.saturating_sub(*before));
        let costs = spent.zip(peak_memory(processes));
        let processes = processes.watched.iter().zip(costs);
        let processes = processes.map(|((pid, name), (spent, peak))| Process {
            pid: *pid,
            name: name.clone(),
            spent,
            peak,
        });
        Self {
            workload: args.workload.name(),
            value_size: args.value_size,
            keys: args.keys,
            outstanding: args.outstanding,
            connections: args.connections(),
            idle_watchers: args.idle_watchers,
            measured,
            beside,
            processes: processes.collect(),
            own: after.own.zip(before.own).map(|(after, before)| after.saturating_sub(before)),
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        let is_well = match &self.beside {
            Beside::Nothing => true,
            Beside::Watched(watched) => watched.is_well(),
            Beside::Leased(leased) => leased.is_well(),
        };
        !is_well || !self.measured.failures.is_empty() || self.measured.latencies.total() == 0
    }

    fn errors(&self) -> u64 {
        self.measured.failures.values().sum()
    }

    fn rate(&self) -> f64 {
        self.per_second(self.measured.latencies.total())
    }

    /// Microseconds for each operation that ended well.
    fn per_operation(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() * 1e6 / self.measured.latencies.total().max(1) as f64
    }

    fn total_spent(&self) -> Duration {
        self.processes.iter().map(|process| process.spent).sum()
    }

    /// What happened in a second of the window.
    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.measured.window.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    /// The report as one JSON object. Times are in microseconds unless their name says otherwise.
    pub(super) fn json(&self) -> Value {
        let processes = self.processes.iter().map(|process| {
            json!({
                "pid": process.pid,
                "name": process.name,
                "cpu_us_per_operation": self.per_operation(process.spent),
                "peak_memory_bytes": process.peak,
            })
        });
        let mut report = json!({
            "workload": self.workload,
            "value_size": self.value_size,
            "keys": self.keys,
            "outstanding": self.outstanding,
            "connections": self.connections,
            "seconds": self.measured.window.as_secs_f64(),
            "operations": self.measured.latencies.total(),
            "operations_per_second": self.rate(),
            "lost_swaps": self.measured.lost_swaps,
            "latency_us": latencies(&self.measured.latencies),
            "idle_watchers": self.idle_watchers,
            "cpu_us_per_operation": self.per_operation(self.total_spent()),
            "processes": processes.collect::<Vec<_>>(),
            "generator_cpu_us_per_operation": self.own.map(|own| self.per_operation(own)),
            "errors": self.errors(),
            "first_error": self.measured.first_failure.as_ref().map(ToString::to_string),
        });
        let beside = match &self.beside {
            Beside::Nothing => None,
            Beside::Watched(watched) => Some(("watch", self.watched_json(watched))),
            Beside::Leased(leased) => Some(("lease", leased_json(leased))),
        };
        if let (Some((name, value)), Some(report)) = (beside, report.as_object_mut()) {
            report.insert(name.to_owned(), value);
        }
        report
    }

    fn watched_json(&self, watched: &Watched) -> Value {
        let delivered = watched.delivery.total();
        json!({
            "watchers": watched.watchers,
            "opening_seconds": watched.opening.as_secs_f64(),
            "events": watched.tally.events,
            "events_per_second": self.per_second(delivered),
            "delivery_us": latencies(&watched.delivery),
            "cpu_us_per_event": self.total_spent().as_secs_f64() * 1e6 / delivered.max(1) as f64,
            "missing": watched.tally.missing,
            "repeated": watched.tally.repeated,
            "altered": watched.tally.altered,
            "unfinished_watchers": watched.unfinished,
            "broken": watched.broken.as_ref().map(ToString::to_string),
        })
    }
}

fn leased_json(leased: &Leased) -> Value {
    json!({
        "leases": leased.leases,
        "ttl_seconds": leased.ttl.as_secs(),
        "granting_seconds": leased.granting.as_secs_f64(),
        "renewals": leased.renewals.total(),
        "renewal_us": latencies(&leased.renewals),
        "lost": leased.lost,
        "keys_lost": leased.keys_lost,
        "late": leased.late,
        "broken": leased.broken.as_ref().map(ToString::to_string),
    })
}

/// Quantiles and the largest, in microseconds.
fn latencies(histogram: &Histogram) -> Value {
    let micros = |latency: Duration| Value::from(latency.as_secs_f64() * 1e6);
    let quantiles = QUANTILES.map(|(name, part)| (name, micros(histogram.quantile(part))));
    let largest = ("max", micros(histogram.largest()));
    let all = quantiles.into_iter().chain([largest]);
    Value::Object(all.map(|(name, value)| (name.to_owned(), value)).collect())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latencies = &self.measured.latencies;
        writeln!(
            f,
            "{}: {} keys, values of {} bytes, {} outstanding on {} connections, {:.1} s",
            self.workload,
            self.keys,
            self.value_size,
            self.outstanding,
            self.connections,
            self.measured.window.as_secs_f64(),
        )?;
        writeln!(f, "operations  {}, {:.0} a second", latencies.total(), self.rate())?;
        if self.measured.lost_swaps > 0 {
            writeln!(f, "            {} found the key changed", self.measured.lost_swaps)?;
        }
        writeln!(f, "latency     {}", Quantiles(latencies))?;
        match &self.beside {
            Beside::Nothing => {}
            Beside::Watched(watched) => self.show_watched(watched, f)?,
            Beside::Leased(leased) => show_leased(leased, f)?,
        }
        if self.idle_watchers > 0 {
            writeln!(f, "watchers    {} idle ones", self.idle_watchers)?;
        }
        if !self.processes.is_empty() {
            let total = self.total_spent();
            writeln!(f, "processors  {:.1} us an operation", self.per_operation(total))?;
            for Process { pid, name, spent, peak } in &self.processes {
                write!(f, "            {:.1} us {name} ({pid})", self.per_operation(*spent))?;
                match peak {
                    Some(peak) => writeln!(f, ", at most {:.1} MB", *peak as f64 / 1e6)?,
                    None => writeln!(f)?,
                }
            }
        }
        if let Some(own) = self.own {
            writeln!(f, "generator   {:.1} us an operation", self.per_operation(own))?;
        }
        write!(f, "errors      {}", self.errors())?;
        if let Some(first) = &self.measured.first_failure {
            write!(f, "; the first: {first}")?;
        }
        writeln!(f)
    }
}

impl Report {
    fn show_watched(&self, watched: &Watched, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (opening, rate) = (watched.opening.as_secs_f64(), watched.delivery.total());
        writeln!(f, "watchers    {}, opened in {opening:.2} s", watched.watchers)?;
        let rate = self.per_second(rate);
        writeln!(f, "events      {}, {rate:.0} a second", watched.tally.events)?;
        writeln!(f, "delivery    {}", Quantiles(&watched.delivery))?;
        if watched.is_well() {
            return writeln!(f, "            complete, in order, each once");
        }
        let tally = &watched.tally;
        write!(
            f,
            "            WRONG: {} missing, {} again or out of order, {} altered; \
             {} watchers lack the end",
            tally.missing, tally.repeated, tally.altered, watched.unfinished
        )?;
        show_broken(watched.broken.as_ref(), f)
    }
}

fn show_leased(leased: &Leased, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (ttl, granting) = (leased.ttl.as_secs(), leased.granting.as_secs_f64());
    writeln!(f, "leases      {} of {ttl} s, granted in {granting:.2} s", leased.leases)?;
    let renewals = &leased.renewals;
    writeln!(f, "renewals    {}; {}", renewals.total(), Quantiles(renewals))?;
    if leased.is_well() {
        return writeln!(f, "            no lease was lost");
    }
    write!(
        f,
        "            WRONG: {} leases lost, {} keys of leases lost, {} renewals late",
        leased.lost, leased.keys_lost, leased.late
    )?;
    show_broken(leased.broken.as_ref(), f)
}

fn show_broken(broken: Option<&Failure>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match broken {
        Some(failure) => writeln!(f, "; {failure}"),
        None => writeln!(f),
    }
}

/// The quantiles of latencies, and the largest.
struct Quantiles<'a>(&'a Histogram);

impl fmt::Display for Quantiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, part) in QUANTILES {
            write!(f, "{name} {}, ", Shown(self.0.quantile(part)))?;
        }
        write!(f, "max {}", Shown(self.0.largest()))
    }
}

/// A latency with three digits and its unit.
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match self.0.as_secs_f64() {
            seconds if seconds >= 1.0 => (seconds, "s"),
            seconds if seconds >= 1e-3 => (seconds * 1e3, "ms"),
            seconds => (seconds * 1e6, "us"),
        };
        let digits = if value >= 100.0 {
            0
        } else if value >= 10.0 {
            1
        } else {
            2
        };
        write!(f, "{value:.digits$} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_three_digits() {
        for (nanoseconds, text) in [
            (0, "0.00 us"),
            (12_345, "12.3 us"),
            (812_000, "812 us"),
            (1_234_567, "1.23 ms"),
            (2_500_000_000, "2.50 s"),
        ] {
            assert_eq!(Shown(Duration::from_nanos(nanoseconds)).to_string(), text);
        }
    }
}
