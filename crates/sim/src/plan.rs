//! What may go wrong in a run, and how much of it.
//!
//! A [`Plan`] fixes what a test wants fixed and leaves the rest to the seed: which kinds of trouble a run has, and how
//! often, is drawn too (swarm testing, Groce et al. 2012), as runs with everything at once rarely get anywhere
//! interesting.

use crate::adversary::Misconduct;
use crate::atlas::Harm;
use crate::rng::{Chance, Rng, mix};
use std::time::Duration;

/// How network and disks behave while nothing in particular happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// The least that a message takes.
    pub latency: Duration,
    /// What it takes beyond that, on average.
    pub jitter: Duration,
    /// How many times slower than the fastest the slowest link may be, in one direction. Each keeps its own pace.
    pub slowest_link: u32,
    /// How many of a thousand messages are delayed up to [`Weather::delay`].
    pub delayed_per_mille: u32,
    /// The longest delay.
    pub delay: Duration,
    /// How many of a thousand messages are lost.
    pub lost_per_mille: u32,
    /// How many of a thousand messages arrive twice.
    pub doubled_per_mille: u32,
    /// What a flush takes at least; sometimes it takes ten times that.
    pub flush: Duration,
    /// What background work takes at least; sometimes it takes ten times that.
    pub chore: Duration,
}

impl Weather {
    /// A network that is timely and loses nothing: what holds after the global stabilisation time.
    #[must_use]
    pub const fn calm() -> Self {
        Self {
            latency: Duration::from_micros(200),
            jitter: Duration::from_micros(300),
            slowest_link: 1,
            delayed_per_mille: 0,
            delay: Duration::ZERO,
            lost_per_mille: 0,
            doubled_per_mille: 0,
            flush: Duration::from_micros(300),
            chore: Duration::from_micros(100),
        }
    }

    /// A network that may do each of its tricks, or not, and a disk that may be slow.
    #[must_use]
    pub fn drawn(rng: &mut Rng) -> Self {
        let mut sometimes = |high: u64| if rng.below(2) == 0 { 0 } else { rng.between(1, high) };
        let (delayed, mut lost, doubled) = (sometimes(100), sometimes(100), sometimes(100));
        let slowest_link = sometimes(40).max(1) as u32;
        let slow_disk = sometimes(10).max(1);
        if sometimes(2) == 2 {
            lost *= 4;
        }
        Self {
            latency: Duration::from_micros(rng.between(50, 2_000)),
            jitter: Duration::from_micros(rng.between(50, 10_000)),
            slowest_link,
            delayed_per_mille: delayed as u32,
            delay: Duration::from_millis(rng.between(20, 3_000)),
            lost_per_mille: lost as u32,
            doubled_per_mille: doubled as u32,
            flush: Duration::from_micros(rng.between(50, 5_000) * slow_disk),
            chore: Duration::from_micros(rng.between(20, 5_000)),
        }
    }

    /// How long a message takes this time, on a link that is named by some number.
    pub(crate) fn travel(&self, link: u64, rng: &mut Rng) -> Duration {
        let jitter = self.jitter.as_nanos() as u64;
        // The sum of two even draws: a hump around the mean, and no floating point.
        let extra = rng.below(jitter + 1) + rng.below(jitter + 1);
        let pace = 1 + mix(link) as u32 % self.slowest_link.max(1);
        let mut time = (self.latency + Duration::from_nanos(extra)) * pace;
        if rng.per_mille(self.delayed_per_mille) {
            time += Duration::from_nanos(rng.below(self.delay.as_nanos() as u64 + 1));
        }
        time
    }

    pub(crate) fn takes(least: Duration, rng: &mut Rng) -> Duration {
        if rng.per_mille(50) { least * rng.between(2, 10) as u32 } else { least }
    }
}

/// A kind of trouble that befalls nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Trouble {
    /// A replica crashes, loses what it had not flushed (or not all of that), and starts again later.
    Crash,
    /// All replicas lose power at once, and start again one after the other. Beyond f; safety must hold all the same.
    Blackout,
    /// The nodes fall into two groups that do not hear each other.
    Partition,
    /// One node is not heard by some others, but hears them.
    OneWay,
    /// A replica's wall clock goes wrong by anything up to years. It counts as faulty until the run heals.
    Clock,
    /// The disk or the memory of a replica comes to harm. [`crate::atlas`] says for how long it counts as faulty.
    Harm(Harm),
    /// On every replica a record rots, each of another slot, and all lose power. For each slot it is one that has lost
    /// something, so it is no more than one fault.
    Helical,
    /// A learner crashes with all that it knows, and starts afresh later.
    Learner,
}

impl Trouble {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Blackout => "blackout",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Clock => "clock",
            Self::Harm(harm) => harm.name(),
            Self::Helical => "helical rot",
            Self::Learner => "learner crash",
        }
    }
}

/// What a run suffers: fixed by a test or drawn from a seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Climate {
    /// Network and disks.
    pub weather: Weather,
    /// Troubles, each with the mean time between two of them.
    pub troubles: Vec<(Trouble, Duration)>,
}

impl Climate {
    /// Nothing goes wrong.
    #[must_use]
    pub const fn calm() -> Self {
        Self { weather: Weather::calm(), troubles: Vec::new() }
    }

    /// A draw of weather, and of each allowed kind of trouble with even chance and a drawn rate.
    #[must_use]
    pub fn drawn(allowed: &[Trouble], rng: &mut Rng) -> Self {
        let weather = Weather::drawn(rng);
        let troubles = allowed
            .iter()
            .filter_map(|trouble| {
                let mean = Duration::from_millis(rng.between(300, 6_000));
                (rng.below(2) == 0).then_some((*trouble, mean))
            })
            .collect();
        Self { weather, troubles }
    }
}

/// What replicas keep their records on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Disks {
    /// Real logs in one run of four, drawn from the seed, and books in the others.
    #[default]
    Drawn,
    /// Books of what is durable: fast.
    Books,
    /// The log that production uses, on a disk of bytes.
    Logs,
}

impl Disks {
    /// Whether this seed's run has real logs.
    #[must_use]
    pub fn are_logs(self, seed: u64) -> bool {
        match self {
            Self::Drawn => Rng::split(seed, "disks", 0).below(4) == 0,
            Self::Books => false,
            Self::Logs => true,
        }
    }
}

/// What a test wants of its runs. Everything else comes from the seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// f: how many replicas may be faulty at a time, liars included. There are 3f+1 unless [`Plan::replicas`] says.
    pub f: u16,
    /// n, if it is not 3f+1.
    pub replicas: Option<u16>,
    /// How many clients that keep nothing.
    pub clients: u16,
    /// How many learners, for systems that know them: clients too, which also read from their own copies.
    pub learners: u16,
    /// How many operations they do in all.
    pub operations: usize,
    /// How many keys they fight over.
    pub keys: u64,
    /// How liars misbehave, one liar per entry; at most f.
    pub liars: Vec<Misconduct>,
    /// The climate; drawn from the seed where there is none.
    pub climate: Option<Climate>,
    /// The kinds of trouble that may be drawn.
    pub troubles: Vec<Trouble>,
    /// What replicas keep their records on.
    pub disks: Disks,
    /// How long things may go wrong. Then the network is timely, and all but liars are up.
    pub storm: Duration,
    /// How long after that every operation must be complete.
    pub patience: Duration,
    /// Steps of automata after which a run goes round in circles.
    pub steps: u64,
    /// Whether replicas with intact disks may be down in larger numbers than f. Safety must hold; the storm passes.
    pub beyond: bool,
    /// Whether all correct replicas must be well again in the end, whatever had befallen them.
    pub heals: bool,
    /// How many records a correct replica's log may ever hold, if there is a bound.
    pub most_records: Option<usize>,
    /// How many of the last events a report shows.
    pub trace: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            f: 1,
            replicas: None,
            clients: 4,
            learners: 0,
            operations: 200,
            keys: 3,
            liars: Vec::new(),
            climate: None,
            troubles: vec![Trouble::Crash, Trouble::Partition, Trouble::OneWay, Trouble::Clock],
            disks: Disks::Drawn,
            storm: Duration::from_secs(20),
            patience: Duration::from_secs(600),
            steps: 1_000_000,
            beyond: false,
            heals: false,
            most_records: None,
            trace: 60,
        }
    }
}

impl Plan {
    /// n.
    #[must_use]
    pub fn n(&self) -> u16 {
        self.replicas.unwrap_or(3 * self.f + 1)
    }

    /// All clients, learners included.
    #[must_use]
    pub const fn callers(&self) -> u16 {
        self.clients + self.learners
    }

    /// The same with one liar of that kind.
    #[must_use]
    pub fn with_liar(mut self, liar: Misconduct) -> Self {
        self.liars = vec![liar];
        self
    }

    /// The same, with more crashes than f at a time and power failures of all.
    #[must_use]
    pub fn beyond(mut self) -> Self {
        self.beyond = true;
        if !self.troubles.contains(&Trouble::Blackout) {
            self.troubles.push(Trouble::Blackout);
        }
        self
    }
}
