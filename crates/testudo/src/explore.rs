//! `testudo explore`: all that can happen in a small configuration, to the last.
//!
//! Seeds sample; this looks at every order in which messages can arrive, every crash and every lie within its bounds,
//! and says whether there was anything that it did not see. What breaks a rule is told by the shortest way to it.

use crate::failure::{Failure, Outcome};
use crate::{protocols, say};
use clap::Args;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testudo_lab::Configuration;
use testudo_sim::explore::{Bounds, Explored, Progress, Stop};

const HELP: &str = "\
The ordering runs alone, in the smallest cluster that survives one fault, with a layer above it that proposes requests and
votes for every batch. Disks take no time, unless --slow-disks says otherwise.

With --late any every order in which messages can arrive is seen, which is soon too much: four replicas that vote three
times on one request have billions of states. With --late N things end in the order in which they began, but for N of them,
which end at any later moment; few are enough to find most of what any number of them finds.

Examples:
  testudo explore                                one request, one message late
  testudo explore --liars 1 --late 0             a primary that tells each replica what it likes
  testudo explore --crashes 1 --timeouts 2       a crash, a restart, and up to two changes of view

Exit codes: 0 no rule is broken in what was seen; 1 one is, and the shortest way to it was told; 2 refused.";

/// Flags of `explore`.
#[derive(Args, Debug, Clone)]
#[command(after_help = HELP)]
pub(crate) struct Explore {
    /// Which protocol orders.
    #[arg(long, value_name = "NAME", default_value = protocols::DEFAULT)]
    protocol: String,
    /// How many requests there are to order.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=26))]
    operations: u8,
    /// How often replicas may crash. Each may start again.
    #[arg(long, value_name = "N", default_value_t = 0)]
    crashes: u32,
    /// How many replicas lie: the first primary tells each replica what it likes about the first slot.
    #[arg(long, value_name = "0|1", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    liars: u8,
    /// How often a liar may lie.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "liars")]
    lies: u32,
    /// How many timers may fire.
    #[arg(long, value_name = "N", default_value_t = 0)]
    timeouts: u32,
    /// How the names of timers begin that may fire [default: all]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    timers: Vec<String>,
    /// How many messages may be lost.
    #[arg(long, value_name = "N", default_value_t = 0)]
    losses: u32,
    /// How many messages may arrive twice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    duplicates: u32,
    /// How many things may be late: a number, or `any` for every order.
    #[arg(long, value_name = "N", default_value = "1", value_parser = Late::read)]
    late: Late,
    /// Let disks and background work take time, too, so that a crash may come before or after.
    #[arg(long)]
    slow_disks: bool,
    /// How many steps to follow each way [default: to its end]
    #[arg(long, value_name = "N")]
    depth: Option<u32>,
    /// How many states to see at most.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    states: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// How many things may be late; any number if none is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Late(Option<u32>);

impl Late {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self(None)),
            number => number
                .parse()
                .map(|number| Self(Some(number)))
                .map_err(|_| format!("`{text}` is no number; write 2, or any for every order")),
        }
    }
}

impl Explore {
    fn configuration(&self) -> Configuration {
        let has_liar = self.liars > 0;
        let bounds = Bounds {
            crashes: self.crashes,
            restarts: self.crashes,
            losses: self.losses,
            duplicates: self.duplicates,
            timeouts: self.timeouts,
            timers: self.timers.clone(),
            // Each view may have every request proposed again.
            inputs: u32::from(self.operations) * (1 + self.timeouts),
            lies: if has_liar { self.lies } else { 0 },
            late: self.late.0,
            prompt: !self.slow_disks,
            depth: self.depth.unwrap_or(u32::MAX),
            states: self.states,
            ..Bounds::default()
        };
        Configuration { requests: self.operations, has_liar, bounds }
    }
}

/// Explores, and says what came of it.
pub(crate) fn run(flags: &Explore) -> Outcome<ExitCode> {
    let subject = protocols::subject(&flags.protocol)?;
    let began = Instant::now();
    let is_watched = std::io::stderr().is_terminal();
    let mut tell = |progress: &Progress| {
        if is_watched {
            let line = line(progress, began.elapsed());
            // Whoever watched may have left.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{line}");
        }
    };
    let explored = subject.explore(&flags.configuration(), &mut tell);
    if is_watched {
        let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
    }
    if flags.json {
        say::out(format_args!("{}", report(&flags.protocol, &explored, began.elapsed())));
    } else {
        say::out(format_args!("{}", explored.to_string().trim_end()));
    }
    match &explored.violation {
        None => Ok(ExitCode::SUCCESS),
        Some(found) => {
            let (rule, steps) = (found.violation.oracle, found.steps.len());
            Err(Failure::failed(format!(
                "{rule} is broken by a way of {steps} steps, and by no shorter one"
            )))
        }
    }
}

fn line(progress: &Progress, passed: Duration) -> String {
    let Progress { states, transitions, depth, open } = progress;
    let rate = *transitions as f64 / passed.as_secs_f64().max(0.001);
    format!(
        "{states} states, {open} of them open, {transitions} transitions ({rate:.0} a second), depth {depth}"
    )
}

fn report(protocol: &str, explored: &Explored, passed: Duration) -> Value {
    let Explored { bounds, states, transitions, depth, stop, narrowed, violation } = explored;
    let violation = violation.as_ref().map(|found| {
        let steps = found.steps.iter().map(|told| json!({ "step": told.step, "told": told.told }));
        json!({
            "rule": found.violation.oracle,
            "what": found.violation.what,
            "steps": steps.collect::<Vec<_>>(),
        })
    });
    json!({
        "protocol": protocol,
        "bounds": bounds.to_string(),
        "states": states,
        "transitions": transitions,
        "depth": depth,
        "stop": match stop {
            Stop::Exhausted => "exhausted",
            Stop::Depth => "depth",
            Stop::States => "states",
            Stop::Violation => "violation",
        },
        "narrowed": narrowed,
        "exhausted": explored.is_exhausted(),
        "violation": violation,
        "wall_milliseconds": u64::try_from(passed.as_millis()).unwrap_or(u64::MAX),
    })
}
