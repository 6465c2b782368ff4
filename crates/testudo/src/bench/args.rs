//! What can be asked for.

use std::time::Duration;

use clap::{Args, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  testudo bench                                         gets and puts against 127.0.0.1:2379 for 10 s
  testudo bench --workload put --outstanding 128        puts, 128 under way at a time
  testudo bench --pids $(pgrep -d, etcd) --json         with the processor time of every etcd

The exit code is 1 when any operation failed.";

/// Flags of `bench`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Where etcd v3 is served without TLS: HOST:PORT or http://HOST:PORT. Connections go round them.
    #[arg(long, value_name = "URL,..", value_delimiter = ',', default_value = "127.0.0.1:2379")]
    pub(crate) endpoints: Vec<String>,
    /// What to do.
    #[arg(long, value_enum, default_value = "mixed")]
    pub(crate) workload: Workload,
    /// How many operations are under way at a time.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) outstanding: usize,
    /// How many connections share them [default: 8, but no more than operations outstanding]
    #[arg(long, value_name = "N")]
    pub(crate) connections: Option<usize>,
    /// How long to measure: 20s, 500ms, 2m.
    #[arg(long = "for", value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) duration: Duration,
    /// Measure so many operations instead, however long they take.
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    pub(crate) operations: Option<u64>,
    /// How long to run before measuring.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    pub(crate) warmup: Duration,
    /// How many keys to spread operations over.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) keys: usize,
    /// Bytes of each value, which are random.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub(crate) value_size: usize,
    /// How long an operation may take before it counts as failed.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) timeout: Duration,
    /// Where the choice of keys and values starts: the same load for the same seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Processes whose processor time is divided by the operations, as the servers' cost.
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// Print the report as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What operations do. All but `put` set every key once before they begin.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Workload {
    /// Put a random value.
    Put,
    /// Read a key, linearizably.
    Get,
    /// Read a key, from whichever replica or gateway is asked.
    GetSerializable,
    /// Compare and swap: put a random value if the key has not changed since it was last seen.
    Txn,
    /// Put or read linearizably, by the toss of a coin.
    Mixed,
}

impl Workload {
    /// The name as it is typed.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::GetSerializable => "get-serializable",
            Self::Txn => "txn",
            Self::Mixed => "mixed",
        }
    }
}

/// Keys and values that fit into a request of etcd's.
const VALUE_LIMIT: usize = 1_500_000;
/// More would only measure the generator.
const OUTSTANDING_LIMIT: usize = 100_000;
const CONNECTION_LIMIT: usize = 10_000;
const KEY_LIMIT: usize = 100_000_000;

impl BenchArgs {
    pub(super) fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: usize, limit: usize| {
            if (1..=limit).contains(&value) {
                Ok(())
            } else {
                Err(format!("--{name} is {value}, and must be from 1 to {limit}"))
            }
        };
        within("outstanding", self.outstanding, OUTSTANDING_LIMIT)?;
        within("connections", self.connections(), CONNECTION_LIMIT)?;
        within("keys", self.keys, KEY_LIMIT)?;
        if self.value_size > VALUE_LIMIT {
            let size = self.value_size;
            return Err(format!("--value-size is {size}, and must be at most {VALUE_LIMIT}"));
        }
        if self.operations.is_none() && self.duration.is_zero() {
            return Err("--for is 0, which leaves nothing to measure".to_owned());
        }
        Ok(())
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.unwrap_or_else(|| self.outstanding.min(8))
    }
}

/// Reads a time with its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("write a number and a unit: 500ms, 20s, 2m".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| "that is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for nonsense in ["", "20", "s", "1.2.3s", "20 s", "-1s", "1e9s", "99999999999999999999h"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
    }
}
