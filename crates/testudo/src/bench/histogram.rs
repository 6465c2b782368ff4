//! Latencies by the million, in little space.
//!
//! A latency is counted in a bucket whose width is at most 1/256 of where it begins, so every
//! quantile is off by less than half a percent. The largest is kept as it is.

use std::time::Duration;

/// Buckets for each doubling.
const STEPS: u64 = 256;
/// `STEPS` is two to the power of this.
const STEP_BITS: u32 = STEPS.ilog2();

/// Counts of latencies.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket_of(nanoseconds);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.largest = self.largest.max(nanoseconds);
    }

    /// How many were counted.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The largest; zero when there is none.
    pub(super) const fn largest(&self) -> Duration {
        Duration::from_nanos(self.largest)
    }

    /// A latency that so large a part (0 to 1) of all did not exceed; zero when there is none.
    pub(super) fn quantile(&self, part: f64) -> Duration {
        // Counts far below 2^52 are exact as floats.
        let rank = ((self.total as f64 * part).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(middle_of(bucket).min(self.largest));
            }
        }
        Duration::ZERO
    }
}

/// Values below twice `STEPS` have buckets of their own; above, the leading bits choose.
fn bucket_of(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

fn middle_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    let lowest = (bucket - shift * STEPS) << shift;
    lowest + ((1 << shift) >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut values: Vec<u64> = (0..2000).collect();
        values.extend((11..63).flat_map(|bit| {
            let power = 1_u64 << bit;
            [power - 1, power, power + power / 3, power + power / 2 + 1]
        }));
        values.push(u64::MAX);
        values.sort_unstable();
        for pair in values.windows(2) {
            assert!(bucket_of(pair[0]) <= bucket_of(pair[1]), "{pair:?}");
        }
        for value in values {
            let middle = middle_of(bucket_of(value));
            assert_eq!(bucket_of(middle), bucket_of(value), "{value}");
            assert!(middle.abs_diff(value) <= value / STEPS, "{value} became {middle}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_list() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        for value in (1..=1000_u64).rev() {
            histogram.add(Duration::from_micros(value));
        }
        for (part, expected) in
            [(0.0, 1.0), (0.5, 500.0), (0.9, 900.0), (0.999, 999.0), (1.0, 1000.0)]
        {
            let found = histogram.quantile(part).as_secs_f64() * 1e6;
            assert!((found - expected).abs() <= expected / 200.0, "{part}: {found}");
        }
        assert_eq!(histogram.largest(), Duration::from_millis(1));
        assert_eq!(histogram.total(), 1000);
    }
}
