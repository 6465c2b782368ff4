//! How network and disks behave while nothing in particular happens to them.
//!
//! A network may be slow in many ways, and protocols fail in different ones of them: delays that hardly differ hide
//! races, a heavy tail sets off timers that the mean never would, a burst has many messages arrive at once. Which shape a
//! run has is drawn ([`Spread`]), as is whether links keep the order of what they carry, whether the network ever becomes
//! timely before trouble ends ([`Stabilisation`]), and whether an adversary picks what is delivered ([`Courier`]).

use crate::rng::{Chance, Rng, mix};
use std::time::Duration;

/// How the time that messages take varies around its mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Spread {
    /// Around the mean, far from it more and more rarely: the sum of two even draws.
    Hump,
    /// Every time up to twice the mean is as likely as any other.
    Even,
    /// Most are quick, and each doubling of time is half as likely: some take hundreds of times the mean.
    HeavyTail,
    /// As [`Spread::Hump`], but that a link stalls now and then, and then gives out all that has gathered at once.
    Bursts,
}

impl Spread {
    /// Every shape.
    pub const ALL: [Self; 4] = [Self::Hump, Self::Even, Self::HeavyTail, Self::Bursts];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hump => "humped delays",
            Self::Even => "even delays",
            Self::HeavyTail => "heavy-tailed delays",
            Self::Bursts => "bursts",
        }
    }
}

/// When the network becomes timely (the global stabilisation time of Dwork, Lynch and Stockmeyer 1988), and how timely.
/// The run knows both numbers; no protocol does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stabilisation {
    /// From this moment on, or from the end of all trouble if that comes first.
    pub at: Duration,
    /// What is sent from then on arrives within this time, and what was under way then within this time of it.
    pub bound: Duration,
}

/// What an adversary does that sees every message and picks which is delivered next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ploy {
    /// It withholds whatever would complete a quorum of equal statements at a replica.
    Quorums,
    /// It withholds what the primary says, and what is said to it.
    Primary,
    /// It keeps nodes in two camps that hear each other last, and divides them anew from time to time.
    Camps,
    /// It delivers the newest first.
    Newest,
}

impl Ploy {
    /// Every ploy.
    pub const ALL: [Self; 4] = [Self::Quorums, Self::Primary, Self::Camps, Self::Newest];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quorums => "adversary withholds quorums",
            Self::Primary => "adversary starves the primary",
            Self::Camps => "adversary divides replicas",
            Self::Newest => "adversary delivers the newest first",
        }
    }
}

/// An adversary that picks the next delivery, as asynchrony lets it, and is fair in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Courier {
    /// How it picks.
    pub ploy: Ploy,
    /// For how long it can withhold a message at most.
    pub patience: Duration,
}

/// How network and disks behave while nothing in particular happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// The least that a message takes.
    pub latency: Duration,
    /// What it takes beyond that, on average.
    pub jitter: Duration,
    /// How that varies.
    pub spread: Spread,
    /// How many times slower than the fastest the slowest link may be, in one direction. Each keeps its own pace.
    pub slowest_link: u32,
    /// How many of a thousand messages are delayed up to [`Weather::delay`].
    pub delayed_per_mille: u32,
    /// The longest delay.
    pub delay: Duration,
    /// How many of a thousand messages are held back until those sent after them have come by.
    pub reordered_per_mille: u32,
    /// Whether links deliver in the order of sending, as channels do. Delays then hold up whatever comes later.
    pub keeps_order: bool,
    /// How many of a thousand messages are lost.
    pub lost_per_mille: u32,
    /// How many of a thousand messages arrive twice.
    pub doubled_per_mille: u32,
    /// When the network becomes timely although other trouble goes on, if it does.
    pub stabilises: Option<Stabilisation>,
    /// Who picks the next delivery until then, if it is not chance.
    pub courier: Option<Courier>,
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
            spread: Spread::Hump,
            slowest_link: 1,
            delayed_per_mille: 0,
            delay: Duration::ZERO,
            reordered_per_mille: 0,
            keeps_order: false,
            lost_per_mille: 0,
            doubled_per_mille: 0,
            stabilises: None,
            courier: None,
            flush: Duration::from_micros(300),
            chore: Duration::from_micros(100),
        }
    }

    /// A network that may do each of its tricks, or not, and a disk that may be slow.
    #[must_use]
    pub fn drawn(rng: &mut Rng) -> Self {
        let aside = rng.aside("network");
        let mut sometimes = |high: u64| if rng.below(2) == 0 { 0 } else { rng.between(1, high) };
        let (delayed, mut lost, doubled) = (sometimes(100), sometimes(100), sometimes(100));
        let slowest_link = sometimes(40).max(1) as u32;
        let slow_disk = sometimes(10).max(1);
        if sometimes(2) == 2 {
            lost *= 4;
        }
        let plain = Self {
            latency: Duration::from_micros(rng.between(50, 2_000)),
            jitter: Duration::from_micros(rng.between(50, 10_000)),
            slowest_link,
            delayed_per_mille: delayed as u32,
            delay: Duration::from_millis(rng.between(20, 3_000)),
            lost_per_mille: lost as u32,
            doubled_per_mille: doubled as u32,
            flush: Duration::from_micros(rng.between(50, 5_000) * slow_disk),
            chore: Duration::from_micros(rng.between(20, 5_000)),
            ..Self::calm()
        };
        plain.twisted(aside)
    }

    /// The same with shapes, orders, adversaries and moments that were drawn apart.
    fn twisted(mut self, mut rng: Rng) -> Self {
        if rng.below(2) == 0 {
            self.spread = *rng.pick(&Spread::ALL);
        }
        match rng.below(4) {
            0 => self.reordered_per_mille = rng.between(1, 300) as u32,
            1 => self.keeps_order = true,
            _ => {}
        }
        if rng.below(3) == 0 {
            let at = Duration::from_millis(rng.between(1_000, 15_000));
            // Each doubling is as likely: bounds far below and not far below what replicas wait for.
            let octave = Duration::from_millis(1 << rng.below(7));
            let bound = octave + octave * rng.below(100) as u32 / 100;
            self.stabilises = Some(Stabilisation { at, bound });
        }
        if rng.below(5) == 0 {
            let patience = Duration::from_millis(rng.between(100, 4_000));
            self.courier = Some(Courier { ploy: *rng.pick(&Ploy::ALL), patience });
        }
        self
    }

    /// The same network when it has become timely: nothing is lost, and nothing takes longer than this bound.
    #[must_use]
    pub fn timely(self, bound: Duration) -> Self {
        let latency = bound / 8;
        let Self { flush, chore, doubled_per_mille, keeps_order, .. } = self;
        Self {
            latency,
            // Even draws go up to twice the mean.
            jitter: (bound - latency) / 2,
            spread: Spread::Even,
            doubled_per_mille,
            keeps_order,
            flush,
            chore,
            ..Self::calm()
        }
    }

    /// How many times slower than the fastest a link is, that is named by some number.
    pub(crate) fn pace(&self, link: u64) -> u32 {
        1 + mix(link) as u32 % self.slowest_link.max(1)
    }

    /// How long a message takes this time, which is sent now on a link that is named by some number, if nothing delays it.
    pub(crate) fn travel(&self, link: u64, now: Duration, rng: &mut Rng) -> Duration {
        let jitter = self.jitter.as_nanos() as u64;
        let extra = match self.spread {
            // The sum of two even draws: a hump around the mean, and no floating point.
            Spread::Hump | Spread::Bursts => rng.below(jitter + 1) + rng.below(jitter + 1),
            Spread::Even => rng.below(2 * jitter + 1),
            Spread::HeavyTail => heavy(jitter, rng),
        };
        let mut time = (self.latency + Duration::from_nanos(extra)) * self.pace(link);
        if self.spread == Spread::Bursts {
            time += self.stall(link, now);
        }
        time
    }

    /// How much later still a message comes, if this is one that is delayed.
    pub(crate) fn delayed(&self, rng: &mut Rng) -> Option<Duration> {
        rng.per_mille(self.delayed_per_mille)
            .then(|| Duration::from_nanos(rng.below(self.delay.as_nanos() as u64 + 1)))
    }

    /// Whether a link, named by some number, gives out nothing for now.
    pub(crate) fn is_stalled(&self, link: u64, now: Duration) -> bool {
        self.spread == Spread::Bursts && !self.stall(link, now).is_zero()
    }

    /// How much longer a message is held back for others to overtake it.
    pub(crate) fn overtaken(&self, rng: &mut Rng) -> Duration {
        (self.latency + 2 * self.jitter) * rng.between(1, 8) as u32
    }

    /// How long a link stalls from now on. Time is cut into windows; in one of eight a link gives out nothing.
    fn stall(&self, link: u64, now: Duration) -> Duration {
        let window = (32 * (self.latency + self.jitter)).as_nanos().max(1);
        let number = now.as_nanos() / window;
        let stalls = mix(link ^ mix(number as u64)).is_multiple_of(8);
        let left = (number + 1) * window - now.as_nanos();
        if stalls { Duration::from_nanos(left as u64) } else { Duration::ZERO }
    }

    pub(crate) fn takes(least: Duration, rng: &mut Rng) -> Duration {
        if rng.per_mille(50) { least * rng.between(2, 10) as u32 } else { least }
    }
}

/// The octaves of a heavy tail.
const OCTAVES: u32 = 12;

/// A draw whose doubling is half as likely each time, with a mean of about this.
fn heavy(mean: u64, rng: &mut Rng) -> u64 {
    let octave = (rng.next().trailing_zeros()).min(OCTAVES);
    // Each octave but the last adds half a unit to the mean, and the last a whole one.
    let unit = 1 + mean / u64::from(OCTAVES / 2 + 1);
    unit * (1 << octave) / 2 + rng.below(unit << octave)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: u64 = 7;

    fn draws(weather: &Weather) -> Vec<Duration> {
        let mut rng = Rng::new(1);
        let mut all: Vec<Duration> = (0..20_000)
            .map(|step| weather.travel(LINK, Duration::from_micros(100 * step), &mut rng))
            .collect();
        all.sort_unstable();
        all
    }

    fn of(spread: Spread) -> Vec<Duration> {
        let jitter = Duration::from_millis(1);
        draws(&Weather { spread, latency: Duration::ZERO, jitter, ..Weather::calm() })
    }

    #[test]
    fn each_shape_is_its_own() {
        let millis = Duration::from_millis;
        let share = |all: &[Duration], from: Duration, to: Duration| {
            all.iter().filter(|one| (from..to).contains(*one)).count() * 1_000 / all.len()
        };
        let middle = (millis(1) / 2, millis(3) / 2);
        let (hump, even) = (of(Spread::Hump), of(Spread::Even));
        assert!((720..780).contains(&share(&hump, middle.0, middle.1)));
        assert!((470..530).contains(&share(&even, middle.0, middle.1)));
        assert!(even.iter().chain(&hump).all(|one| *one <= millis(2)));
        let tail = of(Spread::HeavyTail);
        let mean = tail.iter().sum::<Duration>() / tail.len() as u32;
        assert!((millis(1) / 2..millis(2)).contains(&mean), "{mean:?}");
        assert!(tail[tail.len() / 2] < millis(1), "half of them are quick");
        assert!(tail[tail.len() - 1] > millis(100), "some take very long");
    }

    #[test]
    fn a_stalled_link_gives_out_all_at_once() {
        let latency = Duration::from_millis(1);
        let weather =
            Weather { spread: Spread::Bursts, latency, jitter: Duration::ZERO, ..Weather::calm() };
        let mut rng = Rng::new(1);
        let arrivals: Vec<Duration> = (0..100_000)
            .map(|step| Duration::from_micros(100 * step))
            .map(|now| now + weather.travel(LINK, now, &mut rng))
            .collect();
        let most = arrivals.chunk_by(|one, other| one == other).map(<[Duration]>::len).max();
        assert!(most >= Some(320), "a window's messages arrive together");
        assert!(arrivals.is_sorted());
        let alone = arrivals.chunk_by(|one, other| one == other).filter(|all| all.len() == 1);
        assert!(alone.count() > 70_000, "most of the time it does not stall");
    }

    #[test]
    fn a_timely_network_keeps_its_bound() {
        for bound in [1, 13, 127].map(Duration::from_millis) {
            let wild = Weather {
                delayed_per_mille: 500,
                delay: Duration::from_secs(3),
                slowest_link: 40,
                lost_per_mille: 300,
                ..Weather::calm()
            };
            let timely = wild.timely(bound);
            let all = draws(&timely);
            assert!(*all.last().unwrap() <= bound);
            assert!(*all.last().unwrap() > bound * 9 / 10, "the bound is not much too high");
            assert_eq!(timely.lost_per_mille, 0);
        }
    }

    #[test]
    fn each_trick_is_drawn_by_some_seed_and_no_draw_disturbs_another() {
        let all: Vec<Weather> = (0..200).map(|seed| Weather::drawn(&mut Rng::new(seed))).collect();
        for spread in Spread::ALL {
            assert!(all.iter().any(|weather| weather.spread == spread), "{spread:?}");
        }
        for ploy in Ploy::ALL {
            let is_it = |courier: Courier| courier.ploy == ploy;
            assert!(all.iter().any(|weather| weather.courier.is_some_and(is_it)), "{ploy:?}");
        }
        assert!(all.iter().any(|weather| weather.keeps_order));
        assert!(all.iter().any(|weather| weather.reordered_per_mille > 0));
        let calm = |weather: &&Weather| weather.stabilises.is_none() && weather.courier.is_none();
        assert!(all.iter().filter(calm).count() > 50);
        let mut rng = Rng::new(5);
        let before = rng.clone().next();
        rng.aside("network").next();
        assert_eq!(rng.next(), before);
    }
}
