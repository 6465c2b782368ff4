//! What may go wrong in a run, and how much of it.
//!
//! A [`Plan`] fixes what a test wants fixed and leaves the rest to the seed: which kinds of trouble a run has, and how
//! often, is drawn too (swarm testing, Groce et al. 2012), as runs with everything at once rarely get anywhere
//! interesting.

use crate::adversary::Misconduct;
use crate::atlas::Harm;
use crate::fraud::Trick;
use crate::keys::Signatures;
use crate::rng::{Chance, Rng};
pub use crate::weather::Weather;
use std::time::Duration;
use testudo_core::fault::FaultKind;

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
    /// Some pairs of nodes do not hear each other, though others hear both: who is connected is not transitive.
    Partial,
    /// Some links go down and come up again, and again, in one direction or both.
    Flapping,
    /// A replica's wall clock goes wrong by anything up to years. It counts as faulty until the run heals.
    Clock,
    /// A replica's wall clock jumps forth and back for a while. It counts as faulty until the run heals: what it judged
    /// by a wrong clock stays said.
    Jumps,
    /// A clock runs too fast or too slowly, and its node's timers with it: by as much as crystals differ, which anybody's
    /// may, or by so much that its replica counts as faulty until the run heals.
    Drift,
    /// A replica or learner stops running, keeps its memory, and goes on later. That is nobody's fault: in an
    /// asynchronous network nobody can tell it from slow messages.
    Pause,
    /// A replica crashes between two effects of one step: some have heard a broadcast then, and others never will.
    Midway,
    /// The disk or the memory of a replica comes to harm. [`crate::atlas`] says for how long it counts as faulty.
    Harm(Harm),
    /// On every replica a record rots, each of another slot, and all lose power. For each slot it is one that has lost
    /// something, so it is no more than one fault.
    Helical,
    /// A learner crashes with all that it knows, and starts afresh later.
    Learner,
}

impl Trouble {
    /// What every run may suffer without more than f replicas being faulty at a time, and without harm to disks.
    pub const STANDARD: [Self; 10] = [
        Self::Crash,
        Self::Partition,
        Self::OneWay,
        Self::Clock,
        Self::Partial,
        Self::Flapping,
        Self::Jumps,
        Self::Drift,
        Self::Pause,
        Self::Midway,
    ];

    /// Whether it befalls the network, and ends when that becomes timely.
    #[must_use]
    pub const fn is_of_network(self) -> bool {
        matches!(self, Self::Partition | Self::OneWay | Self::Partial | Self::Flapping)
    }

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Blackout => "blackout",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Partial => "partial partition",
            Self::Flapping => "flapping links",
            Self::Clock => "clock",
            Self::Jumps => "clock jumps",
            Self::Drift => "clock drift",
            Self::Pause => "long pause",
            Self::Midway => "crash between effects",
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
    /// What the replicas claim to survive. Only where that is lies may there be liars.
    pub kind: FaultKind,
    /// How many clients that keep nothing.
    pub clients: u16,
    /// How many learners, for systems that know them: clients too, which also read from their own copies.
    pub learners: u16,
    /// How many operations they do in all.
    pub operations: usize,
    /// How many keys they fight over.
    pub keys: u64,
    /// How liars misbehave, one liar per entry; at most as many as the budget allows.
    pub liars: Vec<Misconduct>,
    /// Clients that lie, beside those that do not: each in one way, or in all in turn. They are no replicas and count for
    /// nothing of f. What they are answered is not judged; what everybody else is, all the same.
    pub lying_clients: Vec<Option<Trick>>,
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
    /// Whether more is wrong at a time than is promised to be survived. Rules may be broken then, but not in silence
    /// ([`crate::Report::verdict`]), and a run goes on when one is.
    pub exceeds: bool,
    /// Whether all correct replicas must be well again in the end, whatever had befallen them.
    pub heals: bool,
    /// How many records a correct replica's log may ever hold, if there is a bound.
    pub most_records: Option<usize>,
    /// How many of the last events a report shows.
    pub trace: usize,
    /// What signatures are; the seed's choice where nothing is said.
    pub signatures: Option<Signatures>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            f: 1,
            replicas: None,
            kind: FaultKind::Byzantine,
            clients: 4,
            learners: 0,
            operations: 200,
            keys: 3,
            liars: Vec::new(),
            lying_clients: Vec::new(),
            climate: None,
            troubles: Trouble::STANDARD.to_vec(),
            disks: Disks::Drawn,
            storm: Duration::from_secs(20),
            patience: Duration::from_secs(600),
            steps: 1_000_000,
            beyond: false,
            exceeds: false,
            heals: false,
            most_records: None,
            trace: 60,
            signatures: None,
        }
    }
}

impl Plan {
    /// n.
    #[must_use]
    pub fn n(&self) -> u16 {
        self.replicas.unwrap_or(3 * self.f + 1)
    }

    /// All clients that do not lie, learners included.
    #[must_use]
    pub const fn callers(&self) -> u16 {
        self.clients + self.learners
    }

    /// All clients that keep nothing: those that do not lie, and then those that do.
    #[must_use]
    pub fn bare_clients(&self) -> u16 {
        self.clients + self.lying_clients.len() as u16
    }

    /// The index among all clients of one that does not lie, by its number among those: who lies comes before learners.
    #[must_use]
    pub fn caller(&self, number: usize) -> usize {
        let lying = self.lying_clients.len();
        if number < usize::from(self.clients) { number } else { number + lying }
    }

    /// The indexes of the clients that lie, with how each does.
    pub fn lying(&self) -> impl Iterator<Item = (usize, Option<Trick>)> {
        (usize::from(self.clients)..).zip(self.lying_clients.iter().copied())
    }

    /// How many replicas may be faulty at a time.
    #[must_use]
    pub const fn budget(&self) -> u16 {
        if self.exceeds { self.f + 1 } else { self.f }
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
