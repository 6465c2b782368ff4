//! What is printed at the end.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::BenchArgs;
use super::load::Measured;
use super::processors::{Processes, Times};

/// The quantiles that are shown, with their names.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Everything that a run found out.
#[derive(Debug)]
pub(super) struct Report {
    workload: &'static str,
    value_size: usize,
    keys: usize,
    outstanding: usize,
    connections: usize,
    measured: Measured,
    /// Process, name, and processor time spent in the window.
    processes: Vec<(u32, String, Duration)>,
    own: Option<Duration>,
}

impl Report {
    pub(super) fn new(
        args: &BenchArgs,
        measured: &Measured,
        processes: &Processes,
        before: &Times,
        after: &Times,
    ) -> Self {
        let spent = before.watched.iter().zip(&after.watched);
        let spent = spent.map(|(before, after)| after.saturating_sub(*before));
        let named = processes.watched.iter().zip(spent);
        Self {
            workload: args.workload.name(),
            value_size: args.value_size,
            keys: args.keys,
            outstanding: args.outstanding,
            connections: args.connections(),
            measured: measured.clone(),
            processes: named.map(|((pid, name), spent)| (*pid, name.clone(), spent)).collect(),
            own: after.own.zip(before.own).map(|(after, before)| after.saturating_sub(before)),
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.measured.failures.is_empty() || self.measured.latencies.total() == 0
    }

    fn errors(&self) -> u64 {
        self.measured.failures.values().sum()
    }

    fn rate(&self) -> f64 {
        let seconds = self.measured.window.as_secs_f64();
        if seconds > 0.0 { self.measured.latencies.total() as f64 / seconds } else { 0.0 }
    }

    /// Microseconds for each operation that ended well.
    fn per_operation(&self, spent: Duration) -> f64 {
        spent.as_secs_f64() * 1e6 / self.measured.latencies.total().max(1) as f64
    }

    /// The report as one JSON object. Times are in microseconds unless their name says otherwise.
    pub(super) fn json(&self) -> Value {
        let micros = |latency: Duration| latency.as_secs_f64() * 1e6;
        let mut latency = serde_json::Map::new();
        for (name, part) in QUANTILES {
            latency.insert(name.to_owned(), micros(self.measured.latencies.quantile(part)).into());
        }
        latency.insert("max".to_owned(), micros(self.measured.latencies.largest()).into());
        let processes = self.processes.iter().map(|(pid, name, spent)| {
            json!({ "pid": pid, "name": name, "cpu_us_per_operation": self.per_operation(*spent) })
        });
        let total: Duration = self.processes.iter().map(|(_, _, spent)| *spent).sum();
        json!({
            "workload": self.workload,
            "value_size": self.value_size,
            "keys": self.keys,
            "outstanding": self.outstanding,
            "connections": self.connections,
            "seconds": self.measured.window.as_secs_f64(),
            "operations": self.measured.latencies.total(),
            "operations_per_second": self.rate(),
            "lost_swaps": self.measured.lost_swaps,
            "latency_us": latency,
            "cpu_us_per_operation": self.per_operation(total),
            "processes": processes.collect::<Vec<_>>(),
            "generator_cpu_us_per_operation": self.own.map(|own| self.per_operation(own)),
            "errors": self.errors(),
            "first_error": self.measured.first_failure.as_ref().map(ToString::to_string),
        })
    }
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
        write!(f, "latency     ")?;
        for (name, part) in QUANTILES {
            write!(f, "{name} {}, ", Shown(latencies.quantile(part)))?;
        }
        writeln!(f, "max {}", Shown(latencies.largest()))?;
        if !self.processes.is_empty() {
            let total = self.processes.iter().map(|(_, _, spent)| *spent).sum();
            writeln!(f, "processors  {:.1} us an operation", self.per_operation(total))?;
            for (pid, name, spent) in &self.processes {
                writeln!(f, "            {:.1} us {name} ({pid})", self.per_operation(*spent))?;
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
