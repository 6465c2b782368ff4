//! A course over which clients put, one put after the other each, in virtual time: how long puts take, how many are
//! done, and how often the view changes.
#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use testudo_core::{Encode, View};
use testudo_pbft::{Message, Pbft, Rules};
use testudo_replication::ReplicaMessage;
use testudo_sim::conformance::{Heard, Serving};
use testudo_sim::load::{Costs, Turns};
use testudo_sim::replicated::{Knowledge, Lore, Replicated};
use testudo_sim::seeded::{Outcome, Seeded};
use testudo_sim::service::Ask;
use testudo_sim::world::{Observer, Shape, World};
use testudo_sim::{Climate, Event, Fact, NodeId, Weather};

pub(crate) type Said = ReplicaMessage<Message>;

/// Appointments from this number on are the test's own.
pub(crate) const OWN: u64 = 1 << 32;

/// Writes down which views were installed, and when the first replica was in each.
#[derive(Default)]
struct Views(BTreeMap<View, Duration>);

impl Observer for Views {
    fn observe(&mut self, at: Duration, event: &Event) {
        if let Event::Told(_, Fact::View(view, _)) = event {
            self.0.entry(*view).or_insert(at);
        }
    }
}

pub(crate) struct Course<R: Rules>
where
    Lore: Knowledge<Pbft<R>>,
{
    pub(crate) seeded: Seeded<Replicated<Pbft<R>, Lore>>,
    clients: usize,
    views: Rc<RefCell<Views>>,
    /// When each open put was asked for, with its client.
    open: BTreeMap<u64, (usize, Duration)>,
    asked: u64,
    /// How long each put took, with when it was done.
    pub(crate) done: Vec<(Duration, Duration)>,
}

impl<R: Rules> Course<R>
where
    Lore: Knowledge<Pbft<R>>,
{
    /// Four replicas, so many clients that put, and one client more that does not.
    pub(crate) fn new(seed: u64, clients: usize, weather: Weather) -> Self {
        let shape = Shape::byzantine(1, clients as u16 + 1);
        let system = Replicated::<Pbft<R>, Lore>::default();
        let mut world = World::asleep(system, &shape, seed);
        let views = Rc::new(RefCell::new(Views::default()));
        world.watch(views.clone());
        let climate = Climate { weather, troubles: Vec::new() };
        let mut seeded = Seeded::new(world, seed, climate, 1, false);
        for client in 0..clients {
            seeded.call(Duration::from_millis(client as u64), client as u64);
        }
        let (open, done) = (BTreeMap::new(), Vec::new());
        Self { seeded, clients, views, open, asked: 0, done }
    }

    /// Work takes time on all nodes.
    pub(crate) fn charge(mut self, turns: Turns) -> Self {
        self.seeded.world.charge_for_work(Costs::server(), turns);
        self
    }

    /// The node of the client that does not put.
    pub(crate) fn idler(&self) -> NodeId {
        self.seeded.world.client_node(self.clients)
    }

    /// Lets the clients put until that moment of virtual time. Appointments of the test's own are kept by `call`.
    pub(crate) fn run(
        &mut self,
        end: Duration,
        mut call: impl FnMut(&mut Seeded<Replicated<Pbft<R>, Lore>>, u64),
    ) {
        self.seeded.world.start_all();
        while self.seeded.world.now() < end {
            match self.seeded.step() {
                Outcome::Idle => return,
                Outcome::Happened => {}
                Outcome::Call(number) if number >= OWN => call(&mut self.seeded, number),
                Outcome::Call(client) => self.put(client as usize),
            }
            while let Some((client, output)) = self.seeded.world.take_answer() {
                for heard in self.seeded.world.system.answered(client, output) {
                    if let Heard::Answer(id, _) = heard
                        && let Some((client, asked)) = self.open.remove(&id)
                    {
                        let now = self.seeded.world.now();
                        self.done.push((now, now - asked));
                        self.seeded.call(Duration::from_micros(500), client as u64);
                    }
                }
            }
        }
    }

    fn put(&mut self, client: usize) {
        self.asked += 1;
        let (key, value) = (format!("k{client}"), format!("v{}", self.asked));
        let operation = Ask::Put { key, value }.to_bytes();
        self.open.insert(self.asked, (client, self.seeded.world.now()));
        let input = self.seeded.world.system.submit(client, self.asked, operation);
        self.seeded.world.ask_client(client, input);
    }

    /// The view that was installed last, and when the first replica was in it.
    pub(crate) fn last_view(&self) -> (View, Duration) {
        let views = self.views.borrow();
        views.0.last_key_value().map_or((View(0), Duration::ZERO), |(view, at)| (*view, *at))
    }

    /// What all but one in a hundred of the puts that were done after that moment took at most. Puts that wait still
    /// count with what they have waited.
    pub(crate) fn p99(&self, after: Duration) -> Duration {
        let now = self.seeded.world.now();
        let done = self.done.iter().filter(|(at, _)| *at > after).map(|(_, took)| *took);
        let mut took: Vec<Duration> =
            done.chain(self.open.values().map(|(_, asked)| now - *asked)).collect();
        took.sort_unstable();
        took.get(took.len() * 99 / 100).copied().expect("clients put all the time")
    }

    /// How many puts were done.
    pub(crate) fn count(&self) -> usize {
        self.done.len()
    }
}
