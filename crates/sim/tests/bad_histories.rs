//! Oracles against histories that are made to order: whatever goes well in one way or another convicts nobody, and each kind
//! of violation, put into it somewhere, convicts by the rule that it breaks.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use testudo_core::{Digest, Peer, PublicKey, ReplicaId, Slot, View};
use testudo_sim::linear::{Linearity, Operation, check};
use testudo_sim::oracle::{Cast, Jury, settle};
use testudo_sim::service::{Answer, Ask, KeyModel, Mix};
use testudo_sim::{Chance, Event, Fact, Letter, Loss, NodeId, Observer, Rng};

/// Replicas 0 to 2 are correct, 3 lies, and 4 is a client.
const CORRECT: u16 = 3;
const LIAR: u16 = 3;
const CLIENT: u16 = 4;
/// Slots of a history, and from one checkpoint to the next.
const SLOTS: u64 = 24;
const INTERVAL: u64 = 4;

fn cast() -> Cast {
    let mut cast = Cast::default();
    for id in 0..4 {
        cast.add(Peer::Replica(ReplicaId(id)), id != LIAR, id.to_string());
    }
    cast.add(Peer::Client(PublicKey::default()), true, "c1".into());
    cast
}

/// Which oracles convict a run of these events.
fn convicted_by(events: &[Event]) -> Vec<&'static str> {
    let mut jury = Jury::new(cast());
    events.iter().for_each(|event| jury.observe(Duration::ZERO, event));
    jury.violations().iter().map(|violation| violation.oracle).collect()
}

fn told(node: u16, fact: Fact) -> Event {
    Event::Told(NodeId(node), fact)
}

fn digest(what: &str, number: u64) -> Digest {
    Digest::of_parts(&[what.as_bytes(), &number.to_le_bytes()])
}

fn letter(from: u16, to: u16, sender: Peer, digest: Digest) -> Letter {
    Letter { number: 0, from: NodeId(from), to: NodeId(to), sender, name: "word", digest }
}

/// The requests that a slot has: none, one or two.
fn requests(seed: u64, slot: u64) -> Vec<Digest> {
    let count = Rng::split(seed, "slot", slot).below(3);
    (0..count).map(|place| digest("request", slot * 10 + place)).collect()
}

/// A correct replica on its way.
#[derive(Clone, Copy, Default)]
struct Walker {
    /// The last slot that it executed in this life.
    slot: u64,
    /// Its last checkpoint, from which it starts again.
    durable: u64,
    view: u64,
}

/// A history in which everything is as it should be, with crashes, restarts, transfers and changes of the view, and a
/// replica that lies about everything.
struct Maker {
    seed: u64,
    rng: Rng,
    walkers: [Walker; CORRECT as usize],
    asked: u64,
    events: Vec<Event>,
}

impl Maker {
    fn history(seed: u64) -> Vec<Event> {
        let rng = Rng::split(seed, "history", 0);
        let mut maker =
            Self { seed, rng, walkers: Default::default(), asked: 0, events: Vec::new() };
        (0..CORRECT).for_each(|id| maker.events.push(Event::Started(NodeId(id))));
        while maker.walkers.iter().any(|walker| walker.slot < SLOTS) {
            let id = maker.rng.below(u64::from(CORRECT)) as u16;
            match maker.rng.below(40) {
                0 => maker.restart(id),
                1 => maker.change_view(id),
                2 => maker.transfer(id),
                3..6 => maker.lie(),
                6 => maker.lose(id),
                _ => maker.execute(id),
            }
        }
        maker.events
    }

    fn execute(&mut self, id: u16) {
        let walker = &mut self.walkers[usize::from(id)];
        if walker.slot == SLOTS {
            return;
        }
        walker.slot += 1;
        let slot = walker.slot;
        if slot > self.asked {
            self.asked = slot;
            let client = Peer::Client(PublicKey::default());
            let asked = requests(self.seed, slot).into_iter();
            self.events
                .extend(asked.map(|request| Event::Sent(letter(CLIENT, 0, client, request))));
        }
        let batch = digest("batch", slot);
        self.events.push(told(id, Fact::Executed { slot: Slot(slot), batch, is_final: true }));
        for request in requests(self.seed, slot) {
            let result = Digest::of_parts(&[b"result", &request.0]);
            self.events.push(told(id, Fact::Applied { slot: Slot(slot), request, result }));
        }
        if slot.is_multiple_of(INTERVAL) {
            self.walkers[usize::from(id)].durable = slot;
            let state = digest("state", slot);
            self.events.push(told(id, Fact::Checkpoint { slot: Slot(slot), state }));
        }
    }

    /// It loses power, and executes again what its last checkpoint does not cover.
    fn restart(&mut self, id: u16) {
        let walker = &mut self.walkers[usize::from(id)];
        walker.slot = walker.durable;
        walker.view = 0;
        self.events.push(Event::Crashed { node: NodeId(id), writes: 1, held: 0 });
        self.events.push(Event::Started(NodeId(id)));
    }

    fn change_view(&mut self, id: u16) {
        let walker = &mut self.walkers[usize::from(id)];
        walker.view += self.rng.between(1, 3);
        let view = walker.view;
        self.events.push(told(id, Fact::View(View(view), ReplicaId((view % 4) as u16))));
    }

    /// It takes the state of somebody's last checkpoint, if that is further.
    fn transfer(&mut self, id: u16) {
        let furthest = self.walkers.iter().map(|walker| walker.durable).max().unwrap_or_default();
        let walker = &mut self.walkers[usize::from(id)];
        if walker.slot < furthest {
            (walker.slot, walker.durable) = (furthest, furthest);
            self.events.push(told(id, Fact::Restored(Slot(furthest))));
        }
    }

    /// The liar's words convict nobody but itself.
    fn lie(&mut self) {
        let (slot, number) = (Slot(self.rng.below(SLOTS)), self.rng.next());
        let other = digest("lie", number);
        let me = Peer::Replica(ReplicaId(LIAR));
        let id = self.rng.below(u64::from(CORRECT)) as u16;
        self.events.push(match self.rng.below(7) {
            0 => told(LIAR, Fact::Executed { slot, batch: other, is_final: true }),
            1 => told(LIAR, Fact::Applied { slot, request: other, result: other }),
            2 => told(LIAR, Fact::Checkpoint { slot, state: other }),
            3 => told(LIAR, Fact::View(View(slot.0), ReplicaId(LIAR))),
            4 => Event::Rejected(letter(LIAR, id, me, other), "malformed".into()),
            5 => blamed(LIAR, id, false),
            _ => blamed(id, LIAR, true),
        });
    }

    fn lose(&mut self, id: u16) {
        let me = Peer::Replica(ReplicaId(id));
        let letter = letter(id, (id + 1) % CORRECT, me, digest("lost", 0));
        self.events.push(Event::Dropped(letter, Loss::Network));
    }
}

fn blamed(by: u16, accused: u16, convincing: bool) -> Event {
    let (by, accused) = (NodeId(by), ReplicaId(accused));
    Event::Blamed { by, accused, offence: "equivocation".into(), convincing }
}

/// Something that must not happen.
#[derive(Clone, Copy, Debug)]
enum Violation {
    OtherBatch,
    Skips,
    ExecutesTwice,
    AppliesTwice,
    OtherResult,
    NobodyAsked,
    OtherState,
    BackInViews,
    OtherPrimary,
    Diverges,
    ConvictsTheInnocent,
    AccusesOnNothing,
    RefusesTheHonest,
}

use Violation::*;

const ALL: [(Violation, &str); 13] = [
    (OtherBatch, "agreement"),
    (Skips, "total order"),
    (ExecutesTwice, "total order"),
    (AppliesTwice, "exactly once"),
    (OtherResult, "exactly once"),
    (NobodyAsked, "validity"),
    (OtherState, "equal checkpoints"),
    (BackInViews, "views"),
    (OtherPrimary, "views"),
    (Diverges, "unanimity"),
    (ConvictsTheInnocent, "justice"),
    (AccusesOnNothing, "justice"),
    (RefusesTheHonest, "honesty"),
];

/// The places of what correct replicas told that is of some kind.
fn places(events: &[Event], is_it: impl Fn(&Fact) -> bool) -> Vec<usize> {
    let of_correct = |event: &Event| match event {
        Event::Told(node, fact) => node.0 < CORRECT && is_it(fact),
        _ => false,
    };
    (0..events.len()).filter(|at| of_correct(&events[*at])).collect()
}

/// Those of some places of which another tells of the same: what one alone tells contradicts nothing.
fn witnessed(events: &[Event], places: &[usize]) -> Vec<usize> {
    let about = |at: usize| match &events[at] {
        Event::Told(_, Fact::Executed { slot, .. } | Fact::Checkpoint { slot, .. }) => {
            Some((*slot, None))
        }
        Event::Told(_, Fact::Applied { slot, request, .. }) => Some((*slot, Some(*request))),
        _ => None,
    };
    let is_shared =
        |at: &&usize| places.iter().any(|other| other != *at && about(*other) == about(**at));
    places.iter().filter(is_shared).copied().collect()
}

/// Puts a violation into a good history. False if there is no place for it.
fn inject(events: &mut Vec<Event>, violation: Violation, rng: &mut Rng) -> bool {
    let id = rng.below(u64::from(CORRECT)) as u16;
    let pick = |places: Vec<usize>, rng: &mut Rng| -> Option<usize> {
        let place = rng.below(places.len().max(1) as u64) as usize;
        places.get(place).copied()
    };
    let executed = |fact: &Fact| matches!(fact, Fact::Executed { .. });
    let applied = |fact: &Fact| matches!(fact, Fact::Applied { .. });
    let other = digest("other", rng.next());
    let anywhere = 3 + rng.below(events.len() as u64 - 3) as usize;
    match violation {
        OtherBatch => {
            let shared = witnessed(events, &places(events, executed));
            let Some(at) = pick(shared, rng) else { return false };
            let Event::Told(_, Fact::Executed { batch, .. }) = &mut events[at] else {
                return false;
            };
            *batch = other;
        }
        Skips | ExecutesTwice => {
            // One that is followed in the same life by the next.
            let follows = |at: usize| {
                let Event::Told(node, Fact::Executed { slot, .. }) = &events[at] else {
                    return false;
                };
                let mut rest = events[at + 1..].iter();
                let next = rest.find(|event| match event {
                    Event::Told(of, Fact::Executed { .. } | Fact::Restored(_)) => of == node,
                    Event::Started(of) => of == node,
                    _ => false,
                });
                let is_next = |of: &Slot| *of == slot.next();
                matches!(next, Some(Event::Told(_, Fact::Executed { slot, .. })) if is_next(slot))
            };
            let followed = places(events, executed).into_iter().filter(|at| follows(*at));
            // The first in a life begins wherever a snapshot was; who skips has executed something before.
            let began = |at: usize| {
                let Event::Told(node, _) = &events[at] else { return false };
                let mut before = events[..at].iter().rev();
                let last = before.find(|event| match event {
                    Event::Told(of, Fact::Executed { .. }) => of == node,
                    Event::Started(of) => of == node,
                    _ => false,
                });
                matches!(last, Some(Event::Told(..)))
            };
            let Some(at) = pick(followed.filter(|at| began(*at)).collect(), rng) else {
                return false;
            };
            if matches!(violation, ExecutesTwice) {
                events.insert(at, events[at].clone());
            } else {
                events.remove(at);
            }
        }
        AppliesTwice => {
            let Some(at) = pick(places(events, applied), rng) else { return false };
            events.insert(at, events[at].clone());
        }
        OtherResult => {
            let shared = witnessed(events, &places(events, applied));
            let Some(at) = pick(shared, rng) else { return false };
            let Event::Told(_, Fact::Applied { result, .. }) = &mut events[at] else {
                return false;
            };
            *result = other;
        }
        NobodyAsked => {
            let fact = Fact::Applied { slot: Slot(1), request: other, result: other };
            events.insert(anywhere, told(id, fact));
        }
        OtherState => {
            let checkpoint = |fact: &Fact| matches!(fact, Fact::Checkpoint { .. });
            let shared = witnessed(events, &places(events, checkpoint));
            let Some(at) = pick(shared, rng) else { return false };
            let Event::Told(_, Fact::Checkpoint { state, .. }) = &mut events[at] else {
                return false;
            };
            *state = other;
        }
        BackInViews => {
            let later = |fact: &Fact| matches!(fact, Fact::View(View(1..), _));
            let Some(at) = pick(places(events, later), rng) else { return false };
            let Event::Told(node, Fact::View(..)) = events[at] else { return false };
            events.insert(at + 1, told(node.0, Fact::View(View(0), ReplicaId(0))));
        }
        OtherPrimary => {
            let view = |fact: &Fact| matches!(fact, Fact::View(..));
            let Some(at) = pick(places(events, view), rng) else { return false };
            let Event::Told(node, Fact::View(view, primary)) = events[at].clone() else {
                return false;
            };
            let next = ReplicaId((primary.0 + 1) % 4);
            events.insert(at + 1, told(node.0, Fact::View(view, next)));
        }
        Diverges => events.insert(anywhere, told(CLIENT, Fact::Diverged(Slot(1)))),
        ConvictsTheInnocent => {
            let by = if rng.below(2) == 0 { LIAR } else { id };
            events.insert(anywhere, blamed(by, (id + 1) % CORRECT, true));
        }
        AccusesOnNothing => events.insert(anywhere, blamed(id, LIAR, false)),
        RefusesTheHonest => {
            let sender = Peer::Replica(ReplicaId(id));
            let letter = letter(id, (id + 1) % CORRECT, sender, other);
            events.insert(anywhere, Event::Rejected(letter, "malformed".into()));
        }
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn good_histories_convict_nobody(seed in any::<u64>()) {
        let history = Maker::history(seed);
        prop_assert!(history.len() > 50);
        prop_assert_eq!(convicted_by(&history), [""; 0]);
    }

    #[test]
    fn every_violation_convicts(seed in any::<u64>()) {
        let good = Maker::history(seed);
        for (violation, oracle) in ALL {
            let mut bad = good.clone();
            let mut rng = Rng::split(seed, oracle, 0);
            let is_there = inject(&mut bad, violation, &mut rng);
            // Views need not have changed; all else is in every history.
            prop_assert!(is_there || oracle == "views" || seed_has_no_requests(seed), "{violation:?}");
            if is_there {
                let convicted = convicted_by(&bad);
                prop_assert!(convicted.contains(&oracle), "{violation:?}: {convicted:?}");
            }
        }
    }
}

fn seed_has_no_requests(seed: u64) -> bool {
    (1..=SLOTS).all(|slot| requests(seed, slot).is_empty())
}

/// An honest history of clients: each operation takes effect at one moment between call and return, or never returns.
fn clients(seed: u64) -> Vec<Operation<Ask, Answer>> {
    let mut rng = Rng::split(seed, "clients", 0);
    let mut free = [0_u64; 3];
    let mut plans = Vec::new();
    for token in 0..40 {
        let client = rng.below(3) as usize;
        let called = free[client] + rng.between(1, 20);
        let effect = called + rng.between(1, 20);
        let returned = effect + rng.between(1, 20);
        free[client] = returned;
        // One that is not answered takes its client along.
        let is_answered = !rng.per_mille(30);
        if !is_answered {
            free[client] += 100;
        }
        plans.push((
            effect,
            client,
            called,
            returned,
            is_answered,
            Ask::drawn(2, token, Mix::Everything, &mut rng),
        ));
    }
    plans.sort_by_key(|plan| plan.0);
    let mut states: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut history = Vec::new();
    for (_, client, called, returned, is_answered, input) in plans {
        let state = states.entry(input.key().into()).or_default();
        let (after, output) = testudo_sim::linear::Model::step(&KeyModel, state, &input);
        *state = after;
        let returned = is_answered.then_some((returned, output));
        history.push(Operation { client, input, called, returned });
    }
    let end = 1_000_000;
    for (place, (key, value)) in states.into_iter().enumerate() {
        let called = end + 10 * place as u64;
        let returned = Some((called + 1, Answer::Value(value)));
        history.push(Operation { client: 0, input: Ask::Get { key }, called, returned });
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn good_answers_convict_nobody(seed in any::<u64>()) {
        let history = clients(seed);
        prop_assert_eq!(check(&KeyModel, &history), Linearity::Holds);
        prop_assert_eq!(settle(&history), Ok(()));
    }

    /// The last read of a key lacks what was acknowledged, has it twice, or says what was long overwritten.
    #[test]
    fn bad_answers_convict(seed in any::<u64>(), which in 0..3_u8) {
        let mut history = clients(seed);
        let last_of = |key: &str, history: &[Operation<Ask, Answer>]| {
            history.iter().rposition(|operation| operation.input.key() == key)
        };
        let appended = history.iter().find_map(|operation| match &operation.input {
            Ask::Append { key, token } if operation.returned.is_some() => {
                Some((key.clone(), token.clone()))
            }
            _ => None,
        });
        let Some((key, token)) = appended else { return Ok(()) };
        let at = last_of(&key, &history).expect("it is read last");
        let Some((_, Answer::Value(Some(value)))) = &mut history[at].returned else {
            return Err(TestCaseError::fail("a log is read last"));
        };
        match which {
            0 => *value = value.split_inclusive(',').filter(|part| *part != token).collect(),
            1 => value.push_str(&token),
            _ => *value = String::new(),
        }
        prop_assert!(matches!(check(&KeyModel, &history), Linearity::Broken(_)));
        prop_assert!(settle(&history).is_err());
    }
}
