//! What can be typed after `testudo sim`.

use crate::failure::{Failure, Outcome};
use crate::protocols;
use clap::Args;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use testudo_lab::{Fault, Group, Rota, Subject, faults};

/// As many seeds as are run when nothing is said.
const SEEDS: u64 = 100;

/// Flags of `sim`.
#[derive(Args, Debug, Clone)]
#[command(after_help = help())]
pub(crate) struct Sim {
    /// Which protocol orders.
    #[arg(long, value_name = "NAME", default_value = protocols::DEFAULT)]
    pub(crate) protocol: String,
    /// The seeds to run: from A on, and not B [default: 0..100]
    #[arg(long, value_name = "A..B", value_parser = Span::read)]
    pub(crate) seeds: Option<Span>,
    /// Run seeds from 0 on for so long: 30s, 10m, 2h.
    #[arg(long = "for", value_name = "TIME", value_parser = read_time, conflicts_with = "seeds")]
    pub(crate) time: Option<Duration>,
    /// How many seeds to run at a time [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// What may go wrong: names of faults or groups with commas between, or all, or none.
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub(crate) faults: String,
    /// Let more go wrong at a time than is promised to be survived, and expect it to be noticed.
    #[arg(long)]
    pub(crate) beyond: bool,
    /// Run every seed twice, and fail if it is not the same run.
    #[arg(long)]
    pub(crate) twice: bool,
    /// Run the I-th of N equal parts of the seeds, counted from 0.
    #[arg(long, value_name = "I/N", value_parser = Shard::read, requires = "seeds")]
    pub(crate) shard: Option<Shard>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Join the reports of all parts, as --json printed them, into one.
    #[arg(
        long,
        value_name = "FILE",
        num_args = 1..,
        conflicts_with_all = [
            "protocol", "seeds", "time", "jobs", "faults", "beyond", "twice", "shard", "replay",
        ]
    )]
    pub(crate) merge: Vec<PathBuf>,
    /// Run this seed alone, and show how it ended.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "time", "jobs", "twice", "json"])]
    pub(crate) replay: Option<u64>,
    /// Cut that seed's run down to what it takes to break the rule, and print it as a golden script.
    #[arg(long, requires = "replay")]
    pub(crate) shrink: bool,
    /// How many runs that may take.
    #[arg(long, value_name = "N", default_value_t = 2_000, requires = "shrink")]
    pub(crate) runs: usize,
    /// Draw how that seed's run ended, or what it was cut down to, into a file of HTML.
    #[arg(long, value_name = "FILE", requires = "replay")]
    pub(crate) diagram: Option<PathBuf>,
}

/// A protocol, and what it is put to.
pub(crate) struct Bench {
    /// The protocol.
    pub(crate) subject: Box<dyn Subject>,
    /// Which seed runs under which plan.
    pub(crate) rota: Rota,
    /// What may go wrong.
    pub(crate) faults: BTreeSet<Fault>,
}

/// The runs that a protocol is put to.
pub(super) fn rota(subject: &dyn Subject, beyond: bool) -> Rota {
    let rota = if beyond { Rota::beyond() } else { Rota::standard() };
    rota.for_protocol(&subject.profile()).knowing(subject.tactics())
}

impl Sim {
    /// Finds the protocol, and what may go wrong.
    pub(super) fn bench(&self) -> Outcome<Bench> {
        let subject = protocols::subject(&self.protocol)?;
        let rota = rota(&*subject, self.beyond);
        let all = rota.faults();
        let faults = faults::read(&self.faults, &all).map_err(|name| no_fault(&name, &all))?;
        Ok(Bench { subject, rota: rota.limited_to(&faults), faults })
    }

    /// The seeds that are asked for, before they are divided; without an end where time ends it.
    pub(super) fn span(&self) -> Span {
        let to = if self.time.is_some() { u64::MAX } else { SEEDS };
        self.seeds.unwrap_or(Span { from: 0, to })
    }
}

/// The flags that repeat a run, after `testudo sim`.
pub(super) fn to_repeat(protocol: &str, faults: &str, beyond: bool, seed: u64) -> String {
    let mut words = format!("--protocol {protocol} --replay {seed}");
    if faults != "all" {
        words.push_str(&format!(" --faults {faults}"));
    }
    if beyond {
        words.push_str(" --beyond");
    }
    words
}

fn no_fault(name: &str, all: &BTreeSet<Fault>) -> Failure {
    let names: Vec<String> = all.iter().map(|fault| fault.name()).collect();
    // A protocol need not know every group: there are no liars where replicas only crash.
    let is_there = |group: &Group| all.iter().any(|fault| fault.group() == *group);
    let groups: Vec<&str> = Group::ALL.into_iter().filter(is_there).map(Group::name).collect();
    let known = names.iter().map(String::as_str).chain(groups).chain(["all", "none"]);
    let near = crate::words::nearest(name, known);
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Failure::refused(format!("there is no fault `{name}`{near}; there are {}", names.join(", ")))
}

/// Numbers from one on, and not the other.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct Span {
    /// The first.
    pub(crate) from: u64,
    /// The one after the last.
    pub(crate) to: u64,
}

impl Span {
    /// Reads `A..B`.
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no range of seeds; write 0..1000");
        let (from, to) = text.split_once("..").ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let span = Self { from: number(from)?, to: number(to)? };
        if span.from < span.to { Ok(span) } else { Err(format!("there is no seed in {text}")) }
    }

    /// How many there are.
    pub(crate) const fn len(self) -> u64 {
        self.to - self.from
    }

    /// The part of it that a shard has. All parts together are all of it, and none is larger by more than one.
    pub(crate) fn part(self, shard: Shard) -> Self {
        let place = |index: u32| {
            let before = u128::from(self.len()) * u128::from(index) / u128::from(shard.of);
            self.from + before as u64
        };
        Self { from: place(shard.index), to: place(shard.index + 1) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

/// One of several equal parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Shard {
    /// Which, from 0 on.
    pub(crate) index: u32,
    /// Of how many.
    pub(crate) of: u32,
}

impl Shard {
    /// Reads `I/N`.
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no part; write 0/8 for the first of eight");
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let shard = Self { index: number(index)?, of: number(of)? };
        if shard.of == 0 {
            Err("there is at least 1 part, such as 0/1".into())
        } else if shard.index < shard.of {
            Ok(shard)
        } else {
            Err(format!("parts are counted from 0, so there is no {} of {}", shard.index, shard.of))
        }
    }
}

/// Reads a time such as `90s`, `10m` or `2h`.
fn read_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; write 30s, 10m or 2h");
    let units = [('s', 1), ('m', 60), ('h', 3_600)];
    let found =
        units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
    let (digits, seconds) = found.ok_or_else(wrong)?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).filter(|seconds| *seconds > 0).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// What stands below the flags.
fn help() -> String {
    let mut text = String::from(
        "\
A seed is one run: four replicas or more with clients and gateways, in one thread and in virtual time, under faults that
are drawn from the seed. The same seed is the same run, always. Oracles watch it: agreement, order, exactly-once,
durability, linearizability, watches, leases, liveness once trouble is over, and that nobody honest is ever convicted.

Examples:
  testudo sim                                    a hundred seeds
  testudo sim --seeds 0..100000 --jobs 8         more of them
  testudo sim --for 10m --faults disks,crash     ten minutes of trouble with disks, and crashes
  testudo sim --beyond --seeds 0..2000           more faults than are survived: nothing may break in silence
  testudo sim --replay 17                        one seed, with how it ended
  testudo sim --replay 17 --diagram 17.html      the same, drawn
  testudo sim --replay 17 --shrink >17.txt       what it takes to break the rule, as a golden script
  testudo sim --seeds 0..1000000 --shard 3/16 --json >part-3.json
  testudo sim --merge part-*.json                sixteen parts as one

After 1,000 runs or more every fault that may happen must have happened, or the run has failed: it proved nothing.

Faults:
",
    );
    let all = Rota::standard().faults();
    let beyond: BTreeSet<Fault> = Rota::beyond().faults().difference(&all).copied().collect();
    for group in Group::ALL {
        let names = |faults: &BTreeSet<Fault>| {
            let names = faults.iter().filter(|fault| fault.group() == group);
            names.map(|fault| fault.name()).collect::<Vec<_>>()
        };
        text.push_str(&wrapped(group.name(), &names(&all)));
        let more = names(&beyond);
        if !more.is_empty() {
            text.push_str(&wrapped("", &[format!("with --beyond also {}", more.join(", "))]));
        }
    }
    text.push_str(
        "\nExit codes: 0 nothing is wrong; 1 a rule was broken, a seed was two runs, or a fault never happened; 2 refused.",
    );
    text
}

/// A word, and behind it others, in lines that fit.
fn wrapped(head: &str, words: &[String]) -> String {
    let mut text = format!("  {head:<9}");
    let mut width = text.len();
    for (index, word) in words.iter().enumerate() {
        let comma = if index + 1 < words.len() { "," } else { "" };
        if width + word.len() + 2 > 118 {
            text.push_str("\n           ");
            width = 11;
        }
        text.push_str(&format!(" {word}{comma}"));
        width += word.len() + 2;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_one_unit() {
        let times = [("30s", 30), ("10m", 600), ("2h", 7_200)];
        for (text, seconds) in times {
            assert_eq!(read_time(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "s", "10", "10sss", "0s", "1.5h", "-1s", "10ms", "18446744073709551615h"]
        {
            assert!(read_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_are_of_at_least_one() {
        assert_eq!(Shard::read("2/3"), Ok(Shard { index: 2, of: 3 }));
        let wrong = Shard::read("0/0").expect_err("there is no part of nothing");
        assert!(wrong.contains("at least 1 part"), "{wrong}");
        let wrong = Shard::read("3/3").expect_err("they are counted from 0");
        assert!(wrong.contains("there is no 3 of 3"), "{wrong}");
    }

    #[test]
    fn only_what_there_is_was_meant() {
        let all = Rota::standard().faults();
        let with = no_fault("liers", &all);
        assert!(with.sentence.contains("did you mean `liars`?"), "{with}");
        let honest = |fault: &&Fault| fault.group() != Group::Liars;
        let without = all.iter().filter(honest).copied().collect();
        for name in ["liers", "liars"] {
            let wrong = no_fault(name, &without);
            assert!(!wrong.sentence.contains("did you mean `liars`?"), "{wrong}");
        }
    }
}
