//! A primary that is slow on purpose (Aardvark, NSDI 2009, section 3): it delays what it says to just under some limit.

mod broken;
mod course;

use broken::BearsEverything;
use course::{Course, Said};
use std::time::Duration;
use testudo_core::{Message as _, Peer, ReplicaId, View};
use testudo_pbft::{Pbft, Rules, Standard};
use testudo_sim::adversary::Dawdler;
use testudo_sim::replicated::Knowledge;
use testudo_sim::replicated::Lore;
use testudo_sim::{NodeId, Weather};

const TIME: Duration = Duration::from_secs(6);

/// Time for small delays to add up to what is not borne.
const LONG: Duration = Duration::from_secs(12);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Replicas some way apart, whose rounds take longer than what is always allowed.
fn region() -> Weather {
    Weather { latency: millis(4), jitter: millis(1), ..Weather::calm() }
}

/// How many puts four clients get done though the first primary holds back what it says for so long.
fn throughput<R: Rules>(
    time: Duration,
    weather: Weather,
    delay: impl FnMut(Peer, &Said) -> Duration + 'static,
) -> (usize, View)
where
    Lore: Knowledge<Pbft<R>>,
{
    let mut course = Course::<R>::new(7, 4, weather);
    course.seeded.world.corrupt_by(NodeId(0), Box::new(Dawdler(delay)));
    course.run(time, |_, _| {});
    (course.count(), course.last_view().0)
}

fn proposals_late(by: Duration) -> impl Fn(Peer, &Said) -> Duration {
    move |_, said| if said.name() == "pre-prepare" { by } else { Duration::ZERO }
}

/// Trace C10: the first primary orders everything just before the view timer runs out.
#[test]
fn one_just_under_the_timer_leaves_half_of_the_throughput() {
    let near = Weather { latency: millis(1), ..Weather::calm() };
    for weather in [near, region()] {
        let (right, _) = throughput::<Standard>(TIME, weather, proposals_late(Duration::ZERO));
        let (slow, view) = throughput::<Standard>(TIME, weather, proposals_late(millis(900)));
        assert!(view >= View(1), "it is given up");
        assert!(2 * slow >= right, "{slow} of {right} puts");
        let (borne, view) =
            throughput::<BearsEverything>(TIME, weather, proposals_late(millis(900)));
        assert_eq!(view, View(0), "nobody suspects it");
        assert!(10 * borne < right, "{borne} of {right} puts with the rule broken");
    }
}

/// It learns the rule and delays by less, down to what a slow network may take. Whatever it chooses, half is left.
#[test]
fn one_just_under_any_limit_leaves_half_of_the_throughput() {
    let (right, _) = throughput::<Standard>(LONG, region(), proposals_late(Duration::ZERO));
    for delay in [300, 70, 40, 30, 20] {
        let (slow, view) = throughput::<Standard>(LONG, region(), proposals_late(millis(delay)));
        println!("{delay} ms: {slow} of {right} puts, {view:?}");
        assert!(2 * slow >= right, "delayed by {delay} ms: {slow} of {right} puts");
    }
}

/// It proposes to two backups at once and leaves the third out until just before the timer, holding back its own
/// commit: two measure long rounds, and one long turns.
#[test]
fn one_that_delays_one_backup_gains_little() {
    let (right, _) = throughput::<Standard>(TIME, region(), proposals_late(Duration::ZERO));
    for turn in [false, true] {
        let mut count = 0_u64;
        let late = move |to: Peer, said: &Said| {
            let is_proposal = said.name() == "pre-prepare";
            count += u64::from(is_proposal);
            // One and the same, or each in its turn.
            let victim = if turn { 1 + count / 3 % 3 } else { 3 };
            let is_left_out = is_proposal && to == Peer::Replica(ReplicaId(victim as u16));
            if is_left_out || said.name() == "commit" { millis(900) } else { Duration::ZERO }
        };
        let (slow, view) = throughput::<Standard>(TIME, region(), late);
        println!("in turn {turn}: {slow} of {right} puts, {view:?}");
        assert!(5 * slow >= 2 * right, "{slow} of {right} puts");
    }
}

/// Networks and disks that are slow, uneven or irregular, with nobody at fault: the rule ends few views and soon none. Where
/// messages are lost it ends more of them, as what is lost waits until it is said again: how many in one run is chance, so
/// more runs are counted together.
#[test]
fn correct_primaries_are_not_given_up_again_and_again() {
    let far = Weather { latency: millis(60), jitter: millis(20), ..Weather::calm() };
    let weathers = [
        ("far", far),
        ("uneven", Weather { latency: millis(2), slowest_link: 30, ..Weather::calm() }),
        ("jittery", Weather { jitter: millis(60), ..Weather::calm() }),
        ("delayed", Weather { delayed_per_mille: 50, delay: millis(400), ..Weather::calm() }),
        ("slow disks", Weather { flush: millis(30), ..Weather::calm() }),
        ("lossy", Weather { lost_per_mille: 20, ..Weather::calm() }),
    ];
    for (name, weather) in weathers {
        let is_lossy = weather.lost_per_mille > 0;
        let seeds = if is_lossy { 8 } else { 2 };
        let (mut ended, mut done, mut without) = (0, 0, 0);
        for seed in 0..seeds {
            let (right, views) = undisturbed::<Standard>(seed, weather);
            let (bare, _) = undisturbed::<BearsEverything>(seed, weather);
            println!("{name}, seed {seed}: {views:?}, {right} puts, {bare} without the rule");
            ended += views.0;
            assert!(is_lossy || views <= View(2), "{name}, seed {seed}: {views:?}");
            (done, without) = (done + right, without + bare);
        }
        assert!(5 * done >= 4 * without, "{name}: {done} puts, {without} without");
        assert!(ended <= 3 * seeds, "{name}: {ended} views ended in {seeds} runs");
    }
}

/// How many puts three clients get done where nobody is at fault, and the last view.
fn undisturbed<R: Rules>(seed: u64, weather: Weather) -> (usize, View)
where
    Lore: Knowledge<Pbft<R>>,
{
    let mut course = Course::<R>::new(seed, 3, weather);
    course.run(Duration::from_secs(12), |_, _| {});
    (course.count(), course.last_view().0)
}
