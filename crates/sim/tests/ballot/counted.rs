//! The same ballot, written down once more as a plain transition system that knows no simulator, to count its states.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use testudo_sim::explore::Bounds;

type Id = usize;

/// To whom what is told goes: to no node.
const NOBODY: Id = usize::MAX;

/// What is under way: from, to, whether it is a vote, for whom.
type Letter = (Id, Id, bool, Id);

/// What a node has told, in order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Told {
    Started,
    Crashed,
    Won(Id),
}

impl Told {
    fn renamed(&self, to: [Id; 3]) -> Self {
        match self {
            Self::Won(who) => Self::Won(to[*who]),
            other => other.clone(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Node {
    is_down: bool,
    vote: Option<Id>,
    /// Who has voted for it, if it stands.
    votes: Option<BTreeSet<Id>>,
    has_won: bool,
    /// The vote on its disk; the one that is not flushed, with the vote that waits for that.
    disk: Option<Id>,
    unflushed: Option<Id>,
    /// Whether its vote was written in this life and is durable.
    has_flushed: bool,
    /// Whatever is said behind an unflushed write waits, and leaves together.
    held: BTreeSet<(Id, bool, Id)>,
    told: Vec<Told>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct State {
    nodes: [Node; 3],
    wire: BTreeMap<Letter, u32>,
    stood: BTreeSet<Id>,
    inputs: u32,
    crashes: u32,
    restarts: u32,
    losses: u32,
    duplicates: u32,
}

impl State {
    fn first(bounds: &Bounds) -> Self {
        let mut nodes: [Node; 3] = Default::default();
        nodes.iter_mut().for_each(|node| node.told.push(Told::Started));
        let Bounds { inputs, crashes, restarts, losses, duplicates, .. } = *bounds;
        let (wire, stood) = (BTreeMap::new(), BTreeSet::new());
        Self { nodes, wire, stood, inputs, crashes, restarts, losses, duplicates }
    }

    fn send(&mut self, from: Id, to: Id, is_vote: bool, whom: Id) {
        if self.nodes[from].unflushed.is_some() {
            self.nodes[from].held.insert((to, is_vote, whom));
        } else {
            self.post(from, to, is_vote, whom);
        }
    }

    fn post(&mut self, from: Id, to: Id, is_vote: bool, whom: Id) {
        // Nobody who is down for good will hear it.
        if !(self.nodes[to].is_down && self.restarts == 0) {
            *self.wire.entry((from, to, is_vote, whom)).or_default() += 1;
        }
    }

    fn take(&mut self, letter: Letter) {
        let count = self.wire.get_mut(&letter).expect("it is under way");
        *count -= 1;
        if *count == 0 {
            self.wire.remove(&letter);
        }
    }

    fn deliver(&mut self, letter: Letter) {
        self.take(letter);
        let (from, to, is_vote, whom) = letter;
        let node = &mut self.nodes[to];
        if !is_vote && node.vote.is_none() {
            node.vote = Some(whom);
            node.unflushed = Some(whom);
            self.send(to, whom, true, whom);
        } else if is_vote
            && whom == to
            && let Some(votes) = &mut node.votes
        {
            votes.insert(from);
            if votes.len() >= 2 && !node.has_won {
                node.has_won = true;
                // What it tells of that waits like all that it says.
                if node.unflushed.is_none() {
                    node.told.push(Told::Won(to));
                } else {
                    node.held.insert((NOBODY, true, to));
                }
            }
        }
    }

    fn flush(&mut self, id: Id) {
        let node = &mut self.nodes[id];
        node.disk = node.unflushed.take();
        node.has_flushed = true;
        for (to, is_vote, whom) in std::mem::take(&mut self.nodes[id].held) {
            if to == NOBODY {
                self.nodes[id].told.push(Told::Won(whom));
            } else {
                self.post(id, to, is_vote, whom);
            }
        }
    }

    fn crash(&mut self, id: Id, keeps: bool) {
        self.crashes -= 1;
        let node = &mut self.nodes[id];
        let disk = if keeps { node.unflushed } else { None }.or(node.disk);
        let mut told = std::mem::take(&mut node.told);
        told.push(Told::Crashed);
        *node = Node { is_down: true, disk, told, ..Node::default() };
        let is_dead = self.restarts == 0;
        self.wire.retain(|(from, to, ..), _| !(*to == id && (is_dead || *from == id)));
    }

    fn next(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut next = self.clone();
            change(&mut next);
            all.push(next);
        };
        for letter in self.wire.keys().copied() {
            let (from, to, ..) = letter;
            if !self.nodes[to].is_down {
                add(&|next| next.deliver(letter));
            }
            if self.losses > 0 && from != to {
                add(&|next| {
                    next.losses -= 1;
                    next.take(letter);
                });
            }
            if self.duplicates > 0 && from != to {
                add(&|next| {
                    next.duplicates -= 1;
                    *next.wire.entry(letter).or_default() += 1;
                });
            }
        }
        for id in 0..3 {
            if self.nodes[id].unflushed.is_some() {
                add(&|next| next.flush(id));
            }
            if self.nodes[id].is_down {
                if self.restarts > 0 {
                    add(&|next| next.restart(id));
                }
                continue;
            }
            if self.inputs > 0 && !self.stood.contains(&id) {
                add(&|next| next.stand(id));
            }
            if self.crashes > 0 {
                add(&|next| next.crash(id, false));
                if self.nodes[id].unflushed.is_some() {
                    add(&|next| next.crash(id, true));
                }
            }
        }
        all
    }

    fn restart(&mut self, id: Id) {
        self.restarts -= 1;
        let node = &mut self.nodes[id];
        node.is_down = false;
        node.vote = node.disk;
        node.told.push(Told::Started);
        if self.restarts == 0 {
            let dead: Vec<Id> = (0..3).filter(|id| self.nodes[*id].is_down).collect();
            self.wire.retain(|(_, to, ..), _| !dead.contains(to));
        }
    }

    fn stand(&mut self, id: Id) {
        self.inputs -= 1;
        self.stood.insert(id);
        self.nodes[id].votes = Some(BTreeSet::new());
        (0..3).for_each(|to| self.send(id, to, false, id));
    }

    /// The same with other names.
    fn renamed(&self, to: [Id; 3]) -> Self {
        let mut next = self.clone();
        for (id, node) in self.nodes.iter().enumerate() {
            let name = |id: Option<Id>| id.map(|id| to[id]);
            next.nodes[to[id]] = Node {
                vote: name(node.vote),
                votes: node.votes.as_ref().map(|votes| votes.iter().map(|id| to[*id]).collect()),
                disk: name(node.disk),
                unflushed: name(node.unflushed),
                held: node
                    .held
                    .iter()
                    .map(|(id, is_vote, whom)| {
                        (to.get(*id).copied().unwrap_or(NOBODY), *is_vote, to[*whom])
                    })
                    .collect(),
                told: node.told.iter().map(|told| told.renamed(to)).collect(),
                ..node.clone()
            };
        }
        let letter = |(letter, count): (&Letter, &u32)| {
            ((to[letter.0], to[letter.1], letter.2, to[letter.3]), *count)
        };
        next.wire = self.wire.iter().map(letter).collect();
        next.stood = self.stood.iter().map(|id| to[*id]).collect();
        next
    }
}

const ORDERS: [[Id; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// How many states there are within bounds, those of other names counted once if asked for, and how many transitions
/// between them.
pub fn counted(bounds: &Bounds, is_symmetric: bool) -> (usize, u64) {
    let one_of = |state: State| {
        let all = ORDERS.iter().map(|order| state.renamed(*order));
        let least = if is_symmetric { all.min() } else { None };
        least.unwrap_or(state)
    };
    let first = one_of(State::first(bounds));
    let mut seen = BTreeSet::from([first.clone()]);
    let mut open = VecDeque::from([first]);
    let mut transitions = 0;
    while let Some(state) = open.pop_front() {
        for next in state.next() {
            transitions += 1;
            let next = one_of(next);
            if seen.insert(next.clone()) {
                open.push_back(next);
            }
        }
    }
    (seen.len(), transitions)
}
