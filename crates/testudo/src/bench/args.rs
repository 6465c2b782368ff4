//! What can be asked for.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::stamp::STAMP;

const EXAMPLES: &str = "\
Examples:
  testudo bench                                         gets and puts against 127.0.0.1:2379 for 10 s
  testudo bench --workload put --outstanding 128        puts, 128 under way at a time
  testudo bench --pids $(pgrep -d, etcd) --json         with the processor time and memory of every etcd
  testudo bench --workload put --idle-watchers 10000    puts, while so many watch what does not change
  testudo bench --workload watch --watchers 1000 --keys 10 --rate 1000
                                                        each of 1000 puts a second reaches 100 watchers
  testudo bench --workload lease --leases 10000 --ttl 10

The exit code is 1 when any operation failed, an event was lost, or a lease.";

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
    /// Watches to keep open on keys that nobody puts, while operations go on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) idle_watchers: usize,
    /// For `watch`: how many watches to open; they share the keys evenly.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) watchers: usize,
    /// For `lease`: how many leases to hold.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) leases: usize,
    /// For `lease`: how many seconds each lasts when nobody renews it; it is renewed each third of that.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) ttl: u32,
    /// For `watch` and `lease`: how many puts a second to begin, if there is room among those outstanding.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) rate: u32,
    /// How many keys to spread operations over.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) keys: usize,
    /// Take it that every key is set already, by a run before with as many keys, and set none.
    #[arg(long)]
    pub(crate) preloaded: bool,
    /// Bytes of each value, which are random.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    pub(crate) value_size: usize,
    /// How long an operation may take before it counts as failed.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s")]
    pub(crate) timeout: Duration,
    /// Where the choice of keys and values starts: the same load for the same seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Processes whose processor time is divided by the operations, as the servers' cost, and whose memory is shown.
    #[arg(long, value_name = "PID,..", value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
    /// Print the report as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What operations do. Those that read or are watched have every key set once before they begin.
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
    /// Put at a given rate, and check that every watcher gets every event of its key complete, in order, and once.
    Watch,
    /// Put at a given rate while leases are kept alive, and check that none is lost.
    Lease,
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
            Self::Watch => "watch",
            Self::Lease => "lease",
        }
    }

    /// Whether puts begin at given times, rather than when the one before has ended.
    #[must_use]
    pub(super) const fn is_paced(self) -> bool {
        matches!(self, Self::Watch | Self::Lease)
    }
}

/// Keys and values that fit into a request of etcd's.
const VALUE_LIMIT: usize = 1_500_000;
/// More would only measure the generator.
const OUTSTANDING_LIMIT: usize = 100_000;
const CONNECTION_LIMIT: usize = 10_000;
const KEY_LIMIT: usize = 100_000_000;
const WATCHER_LIMIT: usize = 1_000_000;
const RATE_LIMIT: usize = 1_000_000;
/// Seconds; etcd allows more, but nobody measures for so long.
const TTL_LIMIT: usize = 86_400;

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
        within("watchers", self.watchers, WATCHER_LIMIT)?;
        within("leases", self.leases, WATCHER_LIMIT)?;
        within("rate", self.rate as usize, RATE_LIMIT)?;
        within("ttl", self.ttl as usize, TTL_LIMIT)?;
        if self.idle_watchers > WATCHER_LIMIT {
            let count = self.idle_watchers;
            return Err(format!("--idle-watchers is {count}, and must be at most {WATCHER_LIMIT}"));
        }
        if self.workload == Workload::Watch && self.value_size < STAMP {
            let size = self.value_size;
            return Err(format!(
                "--value-size is {size}, and must be at least {STAMP} to tell one value from another"
            ));
        }
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
