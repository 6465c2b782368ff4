//! Names for everything that can go wrong, so that it can be asked for, and proof that it did.

use std::collections::BTreeSet;
use std::fmt;
use testudo_sim::fraud::LIES_OF_CLIENTS;
use testudo_sim::weather::{Ploy, Spread};
use testudo_sim::{Misconduct, Trouble, Weather};

/// Faults that belong together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Group {
    /// Messages are lost, late, doubled, or cut off.
    Network,
    /// Nodes stop, or their clocks are wrong.
    Nodes,
    /// Disks and memories come to harm.
    Disks,
    /// Replicas or clients lie.
    Liars,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 4] = [Self::Network, Self::Nodes, Self::Disks, Self::Liars];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Nodes => "nodes",
            Self::Disks => "disks",
            Self::Liars => "liars",
        }
    }
}

/// What the network may do at any time, while nothing in particular happens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Element {
    /// It loses messages.
    Loss,
    /// It delivers messages twice.
    Duplication,
    /// It delivers some messages much later than others, and some links are slower than others, each way by itself: so
    /// messages overtake each other.
    Delay,
    /// It holds messages back until others have overtaken them.
    Reordering,
    /// What its messages take varies in this way. The first is how it always does, and no fault.
    Spread(Spread),
    /// It becomes timely while other trouble goes on, within a bound that no protocol knows.
    Stabilisation,
    /// An adversary picks what it delivers next.
    Adversary(Ploy),
}

impl Element {
    /// Every element.
    pub const ALL: [Self; 12] = [
        Self::Loss,
        Self::Duplication,
        Self::Delay,
        Self::Reordering,
        Self::Spread(Spread::Even),
        Self::Spread(Spread::HeavyTail),
        Self::Spread(Spread::Bursts),
        Self::Stabilisation,
        Self::Adversary(Ploy::Quorums),
        Self::Adversary(Ploy::Primary),
        Self::Adversary(Ploy::Camps),
        Self::Adversary(Ploy::Newest),
    ];

    /// Whether this weather has it.
    #[must_use]
    pub fn is_in(self, weather: &Weather) -> bool {
        match self {
            Self::Reordering => weather.reordered_per_mille > 0,
            Self::Spread(spread) => weather.spread == spread,
            Self::Stabilisation => weather.stabilises.is_some(),
            Self::Adversary(ploy) => weather.courier.is_some_and(|courier| courier.ploy == ploy),
            Self::Loss => weather.lost_per_mille > 0,
            Self::Duplication => weather.doubled_per_mille > 0,
            Self::Delay => weather.delayed_per_mille > 0 || weather.slowest_link > 1,
        }
    }

    /// Takes it out of the weather.
    pub fn calm(self, weather: &mut Weather) {
        if !self.is_in(weather) {
            return;
        }
        match self {
            Self::Reordering => weather.reordered_per_mille = 0,
            Self::Spread(_) => weather.spread = Spread::Hump,
            Self::Stabilisation => weather.stabilises = None,
            Self::Adversary(_) => weather.courier = None,
            Self::Loss => weather.lost_per_mille = 0,
            Self::Duplication => weather.doubled_per_mille = 0,
            Self::Delay => {
                weather.delayed_per_mille = 0;
                weather.slowest_link = 1;
            }
        }
    }
}

/// Something that can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// In the network, at any time.
    Weather(Element),
    /// Something that befalls nodes now and then.
    Trouble(Trouble),
    /// A replica that lies, from the first moment on.
    Liar(Misconduct),
    /// A client that lies.
    LyingClient,
}

impl Fault {
    /// All that the network may do at any time.
    pub fn weather() -> impl Iterator<Item = Self> {
        Element::ALL.into_iter().map(Self::Weather)
    }

    /// Its name: one word, by which it can be asked for.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Weather(Element::Loss) => "loss".into(),
            Self::Weather(Element::Duplication) => "duplication".into(),
            Self::Weather(Element::Delay) => "delay".into(),
            Self::Weather(Element::Reordering) => "reordering".into(),
            Self::Weather(Element::Spread(spread)) => spread.name().replace(' ', "-"),
            Self::Weather(Element::Stabilisation) => "stabilisation".into(),
            Self::Weather(Element::Adversary(ploy)) => ploy.name().replace(' ', "-"),
            Self::Trouble(trouble) => trouble.name().replace(' ', "-"),
            Self::Liar(misconduct) => misconduct.name().replace(' ', "-"),
            Self::LyingClient => Misconduct::Client(None).name().into(),
        }
    }

    /// The group that it belongs to.
    #[must_use]
    pub const fn group(self) -> Group {
        match self {
            Self::Weather(_)
            | Self::Trouble(
                Trouble::Partition | Trouble::OneWay | Trouble::Partial | Trouble::Flapping,
            ) => Group::Network,
            Self::Trouble(
                Trouble::Crash
                | Trouble::Blackout
                | Trouble::Clock
                | Trouble::Jumps
                | Trouble::Drift
                | Trouble::Pause
                | Trouble::Midway
                | Trouble::Learner,
            ) => Group::Nodes,
            Self::Trouble(Trouble::Harm(_) | Trouble::Helical) => Group::Disks,
            Self::Liar(_) | Self::LyingClient => Group::Liars,
        }
    }

    /// The count of a run that says how often it happened: not how often it might have.
    #[must_use]
    pub fn count(self) -> String {
        match self {
            Self::Weather(Element::Loss) => "messages lost".into(),
            Self::Weather(Element::Duplication) => "messages doubled".into(),
            Self::Weather(Element::Delay) => "trouble: delay".into(),
            Self::Weather(Element::Reordering) => "trouble: reordering".into(),
            Self::Weather(Element::Spread(spread)) => format!("trouble: {}", spread.name()),
            Self::Weather(Element::Stabilisation) => "trouble: stabilisation".into(),
            Self::Weather(Element::Adversary(ploy)) => format!("trouble: {}", ploy.name()),
            Self::Trouble(trouble) => format!("trouble: {}", trouble.name()),
            // Twins are two honest copies, and one that lies in all ways in turn is counted by each of these.
            Self::Liar(
                liar
                @ (Misconduct::Twins | Misconduct::Upstream(None) | Misconduct::Conspire(None)),
            ) => format!("trouble: {}", liar.name()),
            // Until somebody has come back there is nothing to steal.
            Self::Liar(Misconduct::Thief) => "words under stolen keys".into(),
            Self::Liar(liar) => format!("lies: {}", liar.name()),
            Self::LyingClient => LIES_OF_CLIENTS.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The faults that a list of names asks for, out of those that there are: names of faults or groups with commas
/// between, or `all`, or `none`.
///
/// # Errors
/// The name that nothing is called by.
pub fn read(list: &str, known: &BTreeSet<Fault>) -> Result<BTreeSet<Fault>, String> {
    let mut asked = BTreeSet::new();
    for name in list.split(',').map(str::trim) {
        let group = Group::ALL.into_iter().find(|group| group.name() == name);
        let is_meant =
            |fault: &&Fault| name == "all" || fault.name() == name || Some(fault.group()) == group;
        let found: Vec<Fault> = known.iter().filter(is_meant).copied().collect();
        if found.is_empty() && name != "none" {
            return Err(name.into());
        }
        asked.extend(found);
    }
    Ok(asked)
}
