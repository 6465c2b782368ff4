//! Linearizability (Herlihy and Wing 1990), decided.
//!
//! The search is Wing and Gong's (1993) with Lowe's memo of configurations (2017): take some operation that was called
//! before every other open one returned, apply it, go on, and never visit the same set of taken operations with the
//! same state twice. An operation without an answer may have taken effect at any time after its call, or never.
//! Histories are cut by key where the model says that keys do not touch each other, which is sound as linearizability
//! is local. An operation on several keys joins them, and all that is joined to them, for that history.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;

/// What a service does, one operation at a time.
pub trait Model {
    /// The state.
    type State: Clone + Eq + Hash + Debug;
    /// An operation.
    type Input: Clone + Debug;
    /// Its answer.
    type Output: Clone + PartialEq + Debug;
    /// A part of the state, which most operations touch one of.
    type Part: Ord + Clone + Debug;

    /// The state that a part starts in. Parts that some operation joins start as the least of them.
    fn initial(&self, part: &Self::Part) -> Self::State;
    /// The part that an operation touches.
    fn part(&self, input: &Self::Input) -> Self::Part;
    /// Others that it touches: a transaction on several keys, a range. What one operation of a history joins is judged
    /// together, so a state must hold several parts where there are such.
    fn joins(&self, input: &Self::Input) -> Vec<Self::Part> {
        let _ = input;
        Vec::new()
    }
    /// What an operation does to its part, and its answer.
    fn step(&self, state: &Self::State, input: &Self::Input) -> (Self::State, Self::Output);
}

/// One operation of a history. Times are any numbers that order calls and returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation<I, O> {
    /// Who asked.
    pub client: usize,
    /// For what.
    pub input: I,
    /// When.
    pub called: u64,
    /// The answer and when it came; none if it never did.
    pub returned: Option<(u64, O)>,
}

/// The operations of a model's history.
pub type History<M> = Vec<Operation<<M as Model>::Input, <M as Model>::Output>>;

/// The same, of one part, in place.
type Operations<'a, M> = Vec<&'a Operation<<M as Model>::Input, <M as Model>::Output>>;

/// What the search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Linearity {
    /// There is an order that explains every answer.
    Holds,
    /// There is none; the text shows how far one gets.
    Broken(String),
    /// The search was given up after so many steps.
    Unknown(u64),
}

impl Linearity {
    /// Whether an order was found.
    #[must_use]
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Holds)
    }
}

/// Steps after which a search gives up.
pub const PATIENCE: u64 = 20_000_000;

/// Decides whether a history is linearizable, part by part.
pub fn check<M: Model>(model: &M, history: &[Operation<M::Input, M::Output>]) -> Linearity {
    let roots = joined(model, history);
    let mut parts: BTreeMap<M::Part, Operations<'_, M>> = BTreeMap::new();
    for operation in history {
        let part = root(&roots, model.part(&operation.input));
        parts.entry(part).or_default().push(operation);
    }
    for (part, operations) in parts {
        match Search::new(model, model.initial(&part), &operations).run() {
            Linearity::Holds => {}
            Linearity::Broken(how) => return Linearity::Broken(format!("part {part:?}: {how}")),
            unknown @ Linearity::Unknown(_) => return unknown,
        }
    }
    Linearity::Holds
}

/// Whether this order of the answered operations explains the history: it keeps to real time, and the model gives every
/// answer, where operations without an answer may have taken effect just before they were needed. Whoever has a guess saves the
/// search; that it is a wrong one says nothing.
pub fn explains<M: Model>(
    model: &M,
    history: &[Operation<M::Input, M::Output>],
    order: &[usize],
) -> bool {
    if history.iter().any(|operation| !model.joins(&operation.input).is_empty()) {
        return false;
    }
    let mut left: Vec<bool> =
        history.iter().map(|operation| operation.returned.is_some()).collect();
    let mut spare: BTreeMap<M::Part, Operations<'_, M>> = BTreeMap::new();
    for operation in history.iter().filter(|operation| operation.returned.is_none()) {
        spare.entry(model.part(&operation.input)).or_default().push(operation);
    }
    let mut states: BTreeMap<M::Part, M::State> = BTreeMap::new();
    let mut latest_call = 0;
    for index in order {
        let Some(Operation { input, called, returned: Some((at, answer)), .. }) =
            history.get(*index)
        else {
            return false;
        };
        let part = model.part(input);
        let state = states.entry(part.clone()).or_insert_with(|| model.initial(&part));
        let (mut after, output) = model.step(state, input);
        if output != *answer {
            // Something may have happened that nobody was told of.
            let spare = spare.entry(part).or_default();
            let helps = |one: &&Operation<M::Input, M::Output>| {
                if one.called > *at {
                    return false;
                }
                let between = model.step(state, &one.input).0;
                model.step(&between, input).1 == *answer
            };
            let Some(found) = spare.iter().position(helps) else { return false };
            let unanswered = spare.remove(found);
            latest_call = latest_call.max(unanswered.called);
            after = model.step(&model.step(state, &unanswered.input).0, input).0;
        }
        *state = after;
        // Something before it in this order was called only after it had returned; or it stands here twice.
        if latest_call > *at || !std::mem::take(&mut left[*index]) {
            return false;
        }
        latest_call = latest_call.max(*called);
    }
    left.iter().all(|left| !left)
}

/// For each part that is joined to others, a lesser one that it is joined to.
fn joined<M: Model>(
    model: &M,
    history: &[Operation<M::Input, M::Output>],
) -> BTreeMap<M::Part, M::Part> {
    let mut roots = BTreeMap::new();
    for operation in history {
        for other in model.joins(&operation.input) {
            let one = root(&roots, model.part(&operation.input));
            let other = root(&roots, other);
            if one != other {
                roots.insert(one.clone().max(other.clone()), one.min(other));
            }
        }
    }
    roots
}

/// The least part that a part is joined to.
fn root<P: Ord + Clone>(roots: &BTreeMap<P, P>, part: P) -> P {
    let mut least = part;
    while let Some(lesser) = roots.get(&least) {
        least = lesser.clone();
    }
    least
}

/// A call or return in the list that the search shortens and restores. Index 0 is the head.
#[derive(Clone, Copy, Debug)]
struct Entry {
    operation: usize,
    /// The entry of the return, for calls of answered operations.
    partner: Option<usize>,
    is_call: bool,
    before: usize,
    after: usize,
}

/// Where the list ends.
const END: usize = usize::MAX;

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [&'a Operation<M::Input, M::Output>],
    entries: Vec<Entry>,
    initial: M::State,
    state: M::State,
    /// Which operations are taken, as bits.
    taken: Vec<u64>,
    /// Calls taken, with the state before each.
    path: Vec<(usize, M::State)>,
    seen: HashSet<(Vec<u64>, M::State)>,
    furthest: Vec<usize>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(
        model: &'a M,
        state: M::State,
        operations: &'a [&'a Operation<M::Input, M::Output>],
    ) -> Self {
        let mut moments = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            // At equal times calls come first, so that operations that touch are taken as concurrent.
            moments.push((operation.called, false, index));
            if let Some((at, _)) = operation.returned {
                moments.push((at, true, index));
            }
        }
        moments.sort_unstable();
        let head = Entry { operation: END, partner: None, is_call: false, before: END, after: END };
        let mut entries = vec![head];
        let mut calls = BTreeMap::new();
        for (_, is_return, operation) in moments {
            let index = entries.len();
            if is_return {
                if let Some(call) = calls.get(&operation) {
                    let call: &mut Entry = &mut entries[*call];
                    call.partner = Some(index);
                }
            } else {
                calls.insert(operation, index);
            }
            entries[index - 1].after = index;
            let before = index - 1;
            let is_call = !is_return;
            entries.push(Entry { operation, partner: None, is_call, before, after: END });
        }
        Self {
            model,
            operations,
            entries,
            initial: state.clone(),
            state,
            taken: vec![0; operations.len().div_ceil(64)],
            path: Vec::new(),
            seen: HashSet::new(),
            furthest: Vec::new(),
        }
    }

    fn unlink(&mut self, index: usize) {
        let Entry { before, after, .. } = self.entries[index];
        self.entries[before].after = after;
        if after != END {
            self.entries[after].before = before;
        }
    }

    fn relink(&mut self, index: usize) {
        let Entry { before, after, .. } = self.entries[index];
        self.entries[before].after = index;
        if after != END {
            self.entries[after].before = index;
        }
    }

    fn take(&mut self, call: usize) {
        let Entry { operation, partner, .. } = self.entries[call];
        self.taken[operation / 64] |= 1 << (operation % 64);
        self.unlink(call);
        if let Some(partner) = partner {
            self.unlink(partner);
        }
    }

    fn give_back(&mut self, call: usize) {
        let Entry { operation, partner, .. } = self.entries[call];
        self.taken[operation / 64] &= !(1 << (operation % 64));
        if let Some(partner) = partner {
            self.relink(partner);
        }
        self.relink(call);
    }

    /// The state after an operation, if its answer is what the model says and nobody has been there before.
    fn try_call(&mut self, call: usize) -> Option<M::State> {
        let operation = self.operations[self.entries[call].operation];
        let (after, output) = self.model.step(&self.state, &operation.input);
        if operation.returned.as_ref().is_some_and(|(_, seen)| *seen != output) {
            return None;
        }
        let index = self.entries[call].operation;
        let mut taken = self.taken.clone();
        taken[index / 64] |= 1 << (index % 64);
        self.seen.insert((taken, after.clone())).then_some(after)
    }

    fn run(mut self) -> Linearity {
        let mut at = self.entries[0].after;
        for _ in 0..PATIENCE {
            // Only calls without returns are left: they may never have happened.
            if at == END {
                return Linearity::Holds;
            }
            if self.entries[at].is_call {
                if let Some(after) = self.try_call(at) {
                    self.take(at);
                    self.path.push((at, std::mem::replace(&mut self.state, after)));
                    if self.path.len() > self.furthest.len() {
                        self.furthest = self.path.iter().map(|(call, _)| *call).collect();
                    }
                    at = self.entries[0].after;
                } else {
                    at = self.entries[at].after;
                }
            } else if let Some((call, state)) = self.path.pop() {
                self.state = state;
                self.give_back(call);
                at = self.entries[call].after;
            } else {
                return Linearity::Broken(self.explain());
            }
        }
        Linearity::Unknown(PATIENCE)
    }

    /// The longest order found, and what could not follow.
    fn explain(&self) -> String {
        let mut text = String::new();
        let mut state = self.initial.clone();
        let mut taken = HashSet::new();
        for call in &self.furthest {
            let index = self.entries[*call].operation;
            taken.insert(index);
            state = self.model.step(&state, &self.operations[index].input).0;
        }
        let shown = self.furthest.len().saturating_sub(5);
        text.push_str(&format!("{} of {} explained", taken.len(), self.operations.len()));
        for call in &self.furthest[shown..] {
            let operation = self.operations[self.entries[*call].operation];
            text.push_str(&format!("\n  then {}", Self::line(operation)));
        }
        text.push_str(&format!("\n  state {state:?}; then none of"));
        let mut rest: Vec<_> =
            (0..self.operations.len()).filter(|index| !taken.contains(index)).collect();
        rest.sort_by_key(|index| self.operations[*index].called);
        for index in rest.into_iter().take(6) {
            text.push_str(&format!("\n  {}", Self::line(self.operations[index])));
        }
        text
    }

    fn line(operation: &Operation<M::Input, M::Output>) -> String {
        let Operation { client, input, called, returned } = operation;
        match returned {
            Some((at, output)) => format!("c{client} [{called}..{at}] {input:?} = {output:?}"),
            None => format!("c{client} [{called}..] {input:?} unanswered"),
        }
    }
}
