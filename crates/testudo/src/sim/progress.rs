//! How far it is, in one line that is written over again and again, for people who watch a terminal.

use super::flags::Span;
use super::sum::Sum;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Letters of the bar.
const WIDTH: usize = 24;

/// How long a line stands at least.
const PAUSE: Duration = Duration::from_millis(150);

/// The line.
pub(super) struct Progress {
    span: Span,
    time: Option<Duration>,
    is_shown: bool,
    last: Option<Instant>,
}

impl Progress {
    /// Of the way through these seeds, or of so much time.
    pub(super) fn new(span: Span, time: Option<Duration>) -> Self {
        Self { span, time, is_shown: std::io::stderr().is_terminal(), last: None }
    }

    /// Shows it, if that was not done a moment ago.
    pub(super) fn show(&mut self, sum: &Sum, passed: Duration) {
        if !self.is_shown || self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        self.last = Some(Instant::now());
        let line = self.line(sum, passed);
        // Whoever watched may have left.
        let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{line}");
    }

    /// Makes room for what comes next.
    pub(super) fn clear(&self) {
        if self.last.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }

    fn line(&self, sum: &Sum, passed: Duration) -> String {
        let done = match self.time {
            Some(time) => passed.as_secs_f64() / time.as_secs_f64(),
            None => sum.runs as f64 / self.span.len() as f64,
        };
        let done = done.clamp(0.0, 1.0);
        let full = (done * WIDTH as f64) as usize;
        let bar = format!("{}{}", "=".repeat(full), " ".repeat(WIDTH - full));
        let of = if self.time.is_some() { String::new() } else { format!("/{}", self.span.len()) };
        let left = match self.time {
            Some(time) => time.saturating_sub(passed),
            None if done > 0.0 => passed.mul_f64((1.0 - done) / done),
            None => Duration::ZERO,
        };
        let (rate, hours) = (rate(sum.runs, passed), hours(sum.simulated_milliseconds));
        let (runs, failed) = (sum.runs, sum.failed);
        let left = left.as_secs();
        format!(
            "[{bar}] {runs}{of} seeds, {rate:.1} a second, {hours:.1} simulated hours, {failed} failed, {left} s left"
        )
    }
}

/// So many in a second.
pub(super) fn rate(count: u64, passed: Duration) -> f64 {
    let seconds = passed.as_secs_f64();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// Milliseconds in hours.
pub(super) fn hours(milliseconds: u64) -> f64 {
    milliseconds as f64 / 3_600_000.0
}

#[cfg(test)]
mod tests {
    use super::super::sum::Question;
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is() {
        let question = Question {
            version: "1".into(),
            build: "b".into(),
            protocol: "pbft".into(),
            faults: "all".into(),
            beyond: false,
            twice: false,
        };
        let mut sum = Sum::new(question);
        sum.runs = 25;
        sum.simulated_milliseconds = 1_800_000;
        let progress = Progress::new(Span { from: 0, to: 100 }, None);
        assert_eq!(
            progress.line(&sum, Duration::from_secs(10)),
            "[======                  ] 25/100 seeds, 2.5 a second, 0.5 simulated hours, 0 failed, 30 s left"
        );
        let timed = Progress::new(Span { from: 0, to: u64::MAX }, Some(Duration::from_secs(40)));
        let line = timed.line(&sum, Duration::from_secs(10));
        assert!(line.contains("] 25 seeds") && line.ends_with("30 s left"), "{line}");
    }
}
