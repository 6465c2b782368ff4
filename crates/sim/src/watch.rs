//! A node's wall clock: how far it is off, and how fast it runs.
//!
//! Timers run on the same crystal. A node whose clock gains time also waits less than it means to.

use std::time::Duration;
use testudo_core::Time;

const MILLION: i64 = 1_000_000;

/// A wall clock that need not be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watch {
    /// Milliseconds ahead of the true time, at `since`.
    offset: i64,
    /// Millionths that it runs too fast.
    rate: i32,
    /// True time at which offset or rate were set last. Invariant: zero where it does not matter, as the rate is right.
    since: Time,
}

impl Watch {
    /// Sets it that many milliseconds off.
    pub(crate) const fn set(&mut self, offset: i64, now: Time) {
        self.offset = offset;
        self.begin(now);
    }

    /// From now on it runs that many millionths too fast; below zero, too slowly. It never runs backwards.
    pub(crate) fn pace(&mut self, rate: i32, now: Time) {
        self.offset = self.error(now);
        self.rate = rate.clamp(-900_000, 9_000_000);
        self.begin(now);
    }

    const fn begin(&mut self, now: Time) {
        self.since = if self.rate == 0 { Time(0) } else { now };
    }

    /// Millionths that it runs too fast.
    #[must_use]
    pub const fn rate(&self) -> i32 {
        self.rate
    }

    /// Milliseconds that it is ahead at this true time.
    #[must_use]
    pub fn error(&self, now: Time) -> i64 {
        let elapsed = i64::try_from(now.0.saturating_sub(self.since.0)).unwrap_or(i64::MAX);
        let gained = i128::from(elapsed) * i128::from(self.rate) / i128::from(MILLION);
        self.offset.saturating_add(i64::try_from(gained).unwrap_or(i64::MAX))
    }

    /// What it shows at this true time.
    #[must_use]
    pub fn read(&self, now: Time) -> Time {
        Time(now.0.saturating_add_signed(self.error(now)))
    }

    /// How long it truly takes until so much has passed by this clock.
    #[must_use]
    pub fn true_time(&self, shown: Duration) -> Duration {
        if self.rate == 0 {
            return shown;
        }
        let rate = (MILLION + i64::from(self.rate)).max(1) as u128;
        let nanos = shown.as_nanos() * MILLION as u128 / rate;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_adds_up_and_survives_a_change_of_rate() {
        let mut watch = Watch::default();
        watch.set(50, Time(1_000));
        watch.pace(200, Time(1_000));
        assert_eq!(watch.error(Time(1_000)), 50);
        assert_eq!(watch.error(Time(11_000)), 52, "200 ppm of ten seconds are two milliseconds");
        watch.pace(-500_000, Time(11_000));
        assert_eq!(watch.read(Time(13_000)), Time(13_000 + 52 - 1_000));
        watch.set(0, Time(13_000));
        assert_eq!(watch.error(Time(13_000)), 0);
        assert_eq!(watch.error(Time(15_000)), -1_000, "a clock that is set keeps its rate");
    }

    #[test]
    fn a_fast_clock_cuts_timers_short() {
        let mut watch = Watch::default();
        let second = Duration::from_secs(1);
        assert_eq!(watch.true_time(second), second);
        watch.pace(1_000_000, Time(0));
        assert_eq!(watch.true_time(second), second / 2);
        watch.pace(-500_000, Time(0));
        assert_eq!(watch.true_time(second), 2 * second);
    }

    #[test]
    fn no_rate_turns_time_round() {
        let mut watch = Watch::default();
        watch.pace(i32::MIN, Time(0));
        assert!(watch.read(Time(2_000)) > watch.read(Time(1_000)));
        watch.set(i64::MAX, Time(0));
        watch.pace(i32::MAX, Time(0));
        assert_eq!(watch.error(Time(u64::MAX)), i64::MAX);
    }
}
