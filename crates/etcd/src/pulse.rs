//! Whether the cluster answers.
//!
//! Every answered request says that it does, and every one that runs into its deadline that it does
//! not. Whoever must know while nothing is being asked sends a question of its own; those who come
//! meanwhile share its answer.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// How long an answer counts as news.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of the cluster's health.
#[derive(Debug)]
pub(crate) struct Pulse {
    started: Instant,
    failing: AtomicBool,
    /// When the cluster answered last, in milliseconds since the start, plus one; zero for never.
    answered: AtomicU64,
    /// When the last question of our own had its answer, or gave up.
    asked: Mutex<Option<Instant>>,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            failing: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            asked: Mutex::new(None),
        }
    }

    /// The cluster has answered.
    pub(crate) fn beat(&self) {
        self.answered.store(self.milliseconds() + 1, Ordering::Relaxed);
        if self.failing.load(Ordering::Relaxed) {
            self.failing.store(false, Ordering::Relaxed);
        }
    }

    /// The cluster has not answered in time.
    pub(crate) fn miss(&self) {
        self.failing.store(true, Ordering::Relaxed);
    }

    /// Whether the last thing known is that the cluster did not answer.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Whether the cluster answers, found out by `ask` if nothing recent says so. `ask` must report
    /// to this pulse.
    pub(crate) async fn check<F: Future<Output = ()>>(&self, ask: impl FnOnce() -> F) -> bool {
        if self.is_fresh() {
            return true;
        }
        let came = Instant::now();
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|asked| asked < came) && !self.is_fresh() {
            ask().await;
            *asked = Some(Instant::now());
        }
        !self.is_failing()
    }

    fn is_fresh(&self) -> bool {
        let answered = self.answered.load(Ordering::Relaxed);
        let age = (self.milliseconds() + 1).saturating_sub(answered);
        !self.is_failing() && answered > 0 && u128::from(age) <= FRESH.as_millis()
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn it_asks_only_when_it_does_not_know() {
        let pulse = Pulse::new();
        let asked = Cell::new(0);
        let ask = |answers: bool| {
            let (pulse, asked) = (&pulse, &asked);
            move || async move {
                asked.set(asked.get() + 1);
                if answers { pulse.beat() } else { pulse.miss() }
            }
        };
        assert!(!pulse.check(ask(false)).await);
        assert!(!pulse.check(ask(false)).await);
        assert_eq!(asked.get(), 2);
        assert!(pulse.check(ask(true)).await);
        assert!(pulse.check(ask(false)).await, "the answer is news");
        assert_eq!(asked.get(), 3);
        pulse.miss();
        assert!(pulse.is_failing());
        assert!(!pulse.check(ask(false)).await);
    }

    #[tokio::test]
    async fn those_who_wait_share_one_question() {
        let pulse = Pulse::new();
        let asked = Cell::new(0);
        let ask = || async {
            asked.set(asked.get() + 1);
            tokio::task::yield_now().await;
            pulse.miss();
        };
        let answers = tokio::join!(pulse.check(ask), pulse.check(ask), pulse.check(ask));
        assert_eq!(answers, (false, false, false));
        assert_eq!(asked.get(), 1);
    }
}
