//! Nothing that a simulation keeps grows with the time that passes in it.
#![cfg(target_os = "linux")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use testudo_core::Slot;
use testudo_lab::Coordination;
use testudo_lab::coordination::{Ask, ttl};
use testudo_pbft::Pbft;
use testudo_sim::conformance::{Heard, Held, Serving};
use testudo_sim::oracle::{Cast, Copies, Counts, Jury, REMEMBERED, States, Trace};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::seeded::Outcome;
use testudo_sim::workload::Workload;
use testudo_sim::{
    Chance, Climate, Film, Misconduct, NodeId, Rng, Seeded, Shape, Trouble, Weather, World,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The real service, whose history is compacted as somebody does it in earnest.
type Cluster = Replicated<Pbft, Lore, Coordination>;

const SEED: u64 = 11;
/// A client that keeps nothing, and a learner.
const CALLERS: u16 = 2;
const PARTS: usize = 10;
/// A part of the run, in simulated time: half an hour in all.
const PART: Duration = Duration::from_secs(180);
/// How many milliseconds clients wait between an answer and the next request, at most.
const PAUSE: u64 = 1_000;
/// How many revisions of history are kept.
const HISTORY: i64 = 50;
/// What the process may grow by in the second half of the run: pages that the allocator has not used before.
const SLACK: usize = 3 << 20;

/// The most that there was of everything in some time, by name.
type Most = BTreeMap<&'static str, usize>;

/// Those who watch a run, and remember of it.
struct Judges {
    jury: Rc<RefCell<Jury>>,
    counts: Rc<RefCell<Counts>>,
    copies: Copies,
    states: States,
    /// The slot of the state that each replica was last seen to hold.
    held: BTreeMap<NodeId, Slot>,
}

impl Judges {
    fn of(world: &mut World<Cluster>) -> Self {
        let cast = Cast::of(world);
        let jury = Rc::new(RefCell::new(Jury::new(cast.clone())));
        let counts = Rc::new(RefCell::new(Counts::default()));
        world.watch(jury.clone());
        world.watch(counts.clone());
        world.watch(Rc::new(RefCell::new(Trace::new(cast, 60))));
        Film::roll(&Film::reel(100), world);
        let (copies, states, held) = (Copies::default(), States::default(), BTreeMap::new());
        Self { jury, counts, copies, states, held }
    }

    /// Looks at what replicas hold now. Whether any has come further, or back, since somebody last looked.
    fn look(&mut self, world: &World<Cluster>) -> bool {
        let mut has_moved = false;
        for node in world.replicas().filter(|node| world.is_correct(*node)) {
            let automaton = world.replica(node).and_then(|host| host.automaton());
            let Some(Held { slot, state, .. }) = automaton.and_then(Cluster::held) else {
                continue;
            };
            if self.held.insert(node, slot) == Some(slot) {
                continue;
            }
            has_moved = true;
            assert_eq!(self.copies.held(slot, state), None);
            if let Some((slot, digest)) = automaton.and_then(Cluster::digest) {
                assert_eq!(self.states.held(node, slot, digest), None);
            }
        }
        has_moved
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let jury = self.jury.borrow();
        let others = [
            ("counts", self.counts.borrow().size()),
            ("copies", self.copies.size()),
            ("states", self.states.size()),
        ];
        jury.sizes().chain(others).collect()
    }
}

struct Run {
    seeded: Seeded<Cluster>,
    judges: Judges,
    rng: Rng,
    asked: u64,
    answered: u64,
    /// What each client waits for.
    open: BTreeMap<usize, Ask>,
    /// The newest revision that an answer bore.
    revision: i64,
}

impl Run {
    fn new() -> Self {
        let shape = Shape { learners: 1, ..Shape::byzantine(1, CALLERS - 1) };
        let mut world = World::asleep(Cluster::default(), &shape, SEED);
        let weather = Weather { lost_per_mille: 10, doubled_per_mille: 10, ..Weather::calm() };
        let every = Duration::from_secs;
        let troubles = vec![
            (Trouble::Crash, every(10)),
            (Trouble::Partition, every(20)),
            (Trouble::Flapping, every(15)),
        ];
        world.corrupt(NodeId(0), Misconduct::Random);
        let judges = Judges::of(&mut world);
        let climate = Climate { weather, troubles };
        // There is a liar, so crashes exceed f: they do no harm but for standing still.
        let mut seeded = Seeded::new(world, SEED, climate, 1, true);
        seeded.world.start_all();
        (0..u64::from(CALLERS)).for_each(|client| seeded.call(Duration::ZERO, client));
        let rng = Rng::split(SEED, "run", 0);
        let open = BTreeMap::new();
        Self { seeded, judges, rng, asked: 0, answered: 0, open, revision: 0 }
    }

    fn draw(&mut self) -> Ask {
        let (key, value) = (format!("k{}", self.rng.below(3)), format!("v{}", self.asked));
        match self.rng.below(16) {
            0..4 => Ask::Get(key),
            4..10 => Ask::Put(key, value),
            10 => Ask::Delete(key),
            11 => Ask::Grant(1, ttl(1)),
            12 => Ask::Attach("e0".into(), value, 1),
            13 => Ask::Batch(
                (0..3).map(|key| (format!("e{key}"), format!("{value}.{key}"))).collect(),
            ),
            14 => Ask::Clear,
            _ => Ask::Compact(self.revision - HISTORY),
        }
    }

    fn ask(&mut self, client: usize) {
        self.asked += 1;
        let ask = self.draw();
        let world = &mut self.seeded.world;
        let input = world.system.submit(client, self.asked, Coordination::encode(&ask));
        self.open.insert(client, ask);
        world.ask_client(client, input);
    }

    fn hear(&mut self, client: usize, heard: Heard) {
        match heard {
            Heard::Published(published) => {
                assert_eq!(self.judges.copies.published(client, &published), None);
            }
            Heard::Answer(_, answer) => {
                let ask = self.open.remove(&client).expect("it waits for an answer");
                let answer = Coordination::decode(&ask, &answer).expect("the service answers it");
                self.revision = self.revision.max(answer.revision.unwrap_or_default());
                self.answered += 1;
                let pause = Duration::from_millis(self.rng.below(PAUSE));
                self.seeded.call(pause, client as u64);
            }
        }
    }

    /// Looks at what there is, if any replica has executed something since.
    fn measure(&mut self, most: &mut Most) {
        let world = &self.seeded.world;
        if !self.judges.look(world) {
            return;
        }
        let hosts = world.replicas().filter_map(|node| world.replica(node));
        let of_world = [
            ("what the world keeps", world.kept()),
            ("what waits for its time", self.seeded.waiting()),
            ("links that flap", self.seeded.flapping()),
            ("the longest log", hosts.map(|h| h.disk().records()).max().unwrap_or_default()),
        ];
        for (name, count) in self.judges.sizes().into_iter().chain(of_world) {
            let known = most.entry(name).or_default();
            *known = (*known).max(count);
        }
    }

    fn pass(&mut self, end: Duration) -> Most {
        let mut most = Most::new();
        while self.seeded.world.now() < end {
            match self.seeded.step() {
                Outcome::Idle => return most,
                Outcome::Happened => {}
                Outcome::Call(client) => self.ask(client as usize),
            }
            self.measure(&mut most);
            while let Some((client, output)) = self.seeded.world.take_answer() {
                for heard in self.seeded.world.system.answered(client, output) {
                    self.hear(client, heard);
                }
            }
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

/// The most that there was of everything in some parts of a run.
fn most_of(parts: &[Most]) -> Most {
    let mut most = Most::new();
    for (name, count) in parts.iter().flatten() {
        let known = most.entry(name).or_default();
        *known = (*known).max(*count);
    }
    most
}

/// One test, as part of what is measured is the process.
#[test]
fn a_long_run_keeps_no_more_than_a_short_one() {
    let mut run = Run::new();
    let (mut parts, mut memory) = (Vec::new(), Vec::new());
    for part in 1..=PARTS {
        let before = run.answered;
        parts.push(run.pass(PART * part as u32));
        memory.push(resident());
        assert!(run.answered > before + 100, "the cluster works in part {part}");
    }
    let slot = run.judges.held.values().max().copied().unwrap_or_default();
    let steps = run.seeded.world.steps();
    println!("{} answered in {slot:?}, {steps} steps, {memory:?}", run.answered);
    assert_eq!(run.judges.jury.borrow().violations(), []);
    let (first, last) = (most_of(&parts[..PARTS / 2]), most_of(&parts[PARTS / 2..]));
    for (name, last) in &last {
        println!("{name}: {} at first, then {last}", first[name]);
    }
    assert!(slot.0 > 4 * REMEMBERED, "oracles have forgotten something by then");
    assert!(run.judges.copies.compared() > 1_000 && run.judges.states.compared() > 1_000);
    let of_oracles: Vec<&str> = run.judges.sizes().into_iter().map(|(name, _)| name).collect();
    for (name, last) in last {
        let first = first[name];
        // Of what happens seldom nothing is forgotten in this run.
        let is_seldom = of_oracles.contains(&name) && last as u64 <= REMEMBERED;
        assert!(is_seldom || last <= first + first / 2, "{name} grew from {first} to {last}");
    }
    let grown = memory[PARTS - 1].saturating_sub(memory[PARTS / 2 - 1]);
    assert!(grown <= SLACK, "the process grew by {grown} bytes in the second half: {memory:?}");
}
