//! Nothing that a simulation keeps grows with the time that passes in it.
#![cfg(target_os = "linux")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use testudo_core::Encode;
use testudo_pbft::Pbft;
use testudo_sim::conformance::{Heard, Serving};
use testudo_sim::oracle::{Cast, Counts, Jury, Trace};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::seeded::Outcome;
use testudo_sim::service::Ask;
use testudo_sim::{
    Chance, Climate, Film, Misconduct, NodeId, Rng, Seeded, Shape, Trouble, Weather, World,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The service here keeps one value per key, so nothing of it may grow either.
type Cluster = Replicated<Pbft, Lore>;

const SEED: u64 = 11;
const CLIENTS: u16 = 3;
const QUARTERS: usize = 4;
/// A quarter of the run, in simulated time.
const QUARTER: Duration = Duration::from_secs(45);
/// How many milliseconds clients wait between an answer and the next request, at most.
const PAUSE: u64 = 400;
/// What the process may grow by in the second half of the run: what oracles remember of a thousand slots more, and pages
/// that the allocator has not used before.
const SLACK: usize = 6 << 20;

/// The most that there was of everything in some time.
#[derive(Clone, Copy, Default, Debug)]
struct Most {
    /// Things that the world keeps.
    world: usize,
    /// Things that wait for their time.
    queue: usize,
    /// Records in the longest log.
    log: usize,
}

struct Run {
    seeded: Seeded<Cluster>,
    rng: Rng,
    asked: u64,
    answered: u64,
}

impl Run {
    fn new(jury: &mut Option<Rc<RefCell<Jury>>>) -> Self {
        let shape = Shape::byzantine(1, CLIENTS);
        let mut world = World::asleep(Cluster::default(), &shape, SEED);
        let weather = Weather { lost_per_mille: 10, doubled_per_mille: 10, ..Weather::calm() };
        let every = Duration::from_secs;
        let troubles = vec![(Trouble::Crash, every(10)), (Trouble::Partition, every(20))];
        world.corrupt(NodeId(0), Misconduct::Random);
        let cast = Cast::of(&world);
        let judges = Rc::new(RefCell::new(Jury::new(cast.clone())));
        world.watch(judges.clone());
        world.watch(Rc::new(RefCell::new(Counts::default())));
        world.watch(Rc::new(RefCell::new(Trace::new(cast, 60))));
        Film::roll(&Film::reel(100), &mut world);
        *jury = Some(judges);
        let climate = Climate { weather, troubles };
        // There is a liar, so crashes exceed f: they do no harm but for standing still.
        let mut seeded = Seeded::new(world, SEED, climate, 1, true);
        seeded.world.start_all();
        (0..u64::from(CLIENTS)).for_each(|client| seeded.call(Duration::ZERO, client));
        Self { seeded, rng: Rng::split(SEED, "run", 0), asked: 0, answered: 0 }
    }

    fn ask(&mut self, client: u64) {
        self.asked += 1;
        let key = format!("k{}", self.rng.below(3));
        let ask = match self.rng.below(2) {
            0 => Ask::Get { key },
            _ => Ask::Put { key, value: format!("v{}", self.asked) },
        };
        let world = &mut self.seeded.world;
        let input = world.system.submit(client as usize, self.asked, ask.to_bytes());
        world.ask_client(client as usize, input);
    }

    fn pass(&mut self, end: Duration) -> Most {
        let mut most = Most::default();
        while self.seeded.world.now() < end {
            match self.seeded.step() {
                Outcome::Idle => return most,
                Outcome::Happened => {}
                Outcome::Call(client) => self.ask(client),
            }
            while let Some((client, output)) = self.seeded.world.take_answer() {
                for heard in self.seeded.world.system.answered(client, output) {
                    assert!(matches!(heard, Heard::Answer(..)));
                    self.answered += 1;
                    let pause = Duration::from_millis(self.rng.below(PAUSE));
                    self.seeded.call(pause, client as u64);
                }
            }
            let world = &self.seeded.world;
            let hosts = world.replicas().filter_map(|node| world.replica(node));
            most.world = most.world.max(world.kept());
            most.queue = most.queue.max(self.seeded.waiting());
            most.log = most.log.max(hosts.map(|h| h.disk().records()).max().unwrap_or_default());
        }
        most
    }
}

fn resident() -> usize {
    const PAGE: usize = 4096;
    let statm =
        std::fs::read_to_string("/proc/self/statm").expect("Linux says what a process takes");
    let pages = statm.split(' ').nth(1).expect("the second field is what is resident");
    pages.parse::<usize>().expect("it is a number") * PAGE
}

/// One test, as part of what is measured is the process.
#[test]
fn a_long_run_keeps_no_more_than_a_short_one() {
    let mut jury = None;
    let mut run = Run::new(&mut jury);
    let (mut most, mut memory) = (Vec::new(), Vec::new());
    for quarter in 1..=QUARTERS {
        let before = run.answered;
        most.push(run.pass(QUARTER * quarter as u32));
        memory.push(resident());
        assert!(run.answered > before + 100, "the cluster works in quarter {quarter}");
    }
    let jury = jury.expect("there is one");
    assert!(jury.borrow().violations().is_empty(), "{:?}", jury.borrow().violations());
    println!("{} answered, {} steps: {most:?}, {memory:?}", run.answered, run.seeded.world.steps());
    let (first, last) = (most[0], most[QUARTERS - 1]);
    for (what, first, last) in [
        ("what the world keeps", first.world, last.world),
        ("what waits for its time", first.queue, last.queue),
        ("the longest log", first.log, last.log),
    ] {
        assert!(last <= first + first / 2, "{what} grew from {first} to {last}");
    }
    let grown = memory[QUARTERS - 1].saturating_sub(memory[QUARTERS / 2 - 1]);
    assert!(grown <= SLACK, "the process grew by {grown} bytes in the second half: {memory:?}");
}
