//! Asking: whatever waits is signed as one bundle and said to all replicas until it is known what it came to.
//!
//! This is what a client does whoever tells it the results: replies that agree ([`crate::Client`]), or its own
//! execution of the log. It keeps the session and the numbers in it. A bundle is said again with the same bytes, so
//! that it executes at most once however often it arrives; each time after a longer pause, so that large bundles which
//! are merely slow do not flood the replicas. At most a few bundles are out at once; what comes meanwhile gathers into
//! the next.
//!
//! An [`Asker`] has no effects of its own: what is to be done is what its methods give back ([`Asked`]).

use crate::message::{Bundle, ReplyBody, Request};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;
use testudo_core::{Digest, Domain, Membership, Peer, ReplicaId, Slot, Time, limits};

/// Bundles that are out at once. Two keep the replicas busy while the next gathers; more would only make bundles
/// smaller.
const PIPELINE: usize = 2;

/// Operations, or bytes of them, that must wait before a bundle goes out beside another. A slot costs every replica a
/// few signatures and a flush whatever is in it; fewer operations than this are cheaper in the next one.
const WORTH_A_SLOT: (usize, usize) = (128, 128 << 10);

/// The longest pause before a bundle is said again.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The nonce of a client's first opening in a life that begins now: higher than those of its earlier lives, by a clock that
/// keeps time, and hardly that of another process under the same key. Where the clock does not keep time the replicas say
/// what nonce is too low ([`ReplyBody::Superseded`]).
#[must_use]
pub fn first_nonce(now: Time, secret: &[u8; 32]) -> u64 {
    let (chance, _) = secret.split_at(4);
    let chance = chance.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    // Milliseconds since 1970 have 42 bits until the year 2109.
    now.0.min(u64::MAX >> 22) << 22 | chance >> 10
}

/// What an operation came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was executed, in this slot, with this result. A barrier's is empty.
    Done(Slot, Arc<[u8]>),
    /// Whether it was executed is not known and cannot be found out: the session was evicted meanwhile.
    Unknown,
    /// It was not executed: the cluster does not admit this client's key.
    NotAdmitted,
    /// It was not sent: it is larger than an operation may be.
    TooLarge,
}

/// What is to happen to the timer that [`Asker::tick`] is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Alarm {
    /// Nothing.
    #[default]
    Keep,
    /// It is to run out after that long.
    Set(Duration),
    /// It is not to run.
    Cancel,
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Asked {
    /// Tickets that are answered.
    pub answers: Vec<(u64, Outcome)>,
    /// Bundles to be said to all replicas. At once: whoever asks writes no log, what it asks for is in its signature.
    pub bundles: Vec<Bundle>,
    /// What becomes of the timer.
    pub alarm: Alarm,
}

/// A ticket that waits. A barrier has no operation.
#[derive(Clone, Debug)]
struct Wish {
    ticket: u64,
    operation: Option<Arc<[u8]>>,
}

/// A bundle that is out.
#[derive(Clone, Debug)]
struct Outstanding {
    digest: Digest,
    bundle: Bundle,
    /// Its tickets, each with whether it has a result of its own.
    tickets: Vec<(u64, bool)>,
    /// Ticks until it is said again.
    pause: u32,
    /// How often it was said again.
    repeated: u32,
}

/// One client's bundles and session.
#[derive(Clone, Debug)]
pub struct Asker {
    me: Peer,
    domain: Domain,
    /// How many replicas there are.
    replicas: u16,
    resend: Duration,
    nonce: u64,
    session: Option<u64>,
    /// The last sequence number used in this session.
    sequence: u64,
    waiting: VecDeque<Wish>,
    /// Bytes of the operations that wait.
    waiting_bytes: usize,
    out: Vec<Outstanding>,
    /// Who is asked for whole results.
    replier: ReplicaId,
    /// Whether the timer runs.
    ticking: bool,
}

impl Asker {
    /// One that asks nothing yet. The nonce is one of [`first_nonce`]; `first` is the replica that is asked for whole
    /// results first.
    #[must_use]
    pub fn new(
        me: Peer,
        domain: Domain,
        membership: &Membership,
        resend: Duration,
        nonce: u64,
        first: ReplicaId,
    ) -> Self {
        let replicas = membership.n().max(1) as u16;
        Self {
            me,
            domain,
            replicas,
            resend: resend.max(Duration::from_millis(1)),
            nonce,
            session: None,
            sequence: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            out: Vec::new(),
            replier: ReplicaId(first.0 % replicas),
            ticking: false,
        }
    }

    /// Has an operation executed once. Its ticket is answered once.
    pub fn submit(&mut self, ticket: u64, operation: Arc<[u8]>) -> Asked {
        let mut asked = Asked::default();
        if operation.len() > limits::OPERATION_BYTES {
            asked.answers.push((ticket, Outcome::TooLarge));
            return asked;
        }
        self.waiting_bytes += operation.len();
        self.waiting.push_back(Wish { ticket, operation: Some(operation) });
        self.advance(&mut asked);
        asked
    }

    /// Has a slot ordered from now on, whatever is in it: when the ticket is answered, everything that was decided
    /// before it was asked is executed. A bundle that holds nothing else is sent empty.
    pub fn barrier(&mut self, ticket: u64) -> Asked {
        let mut asked = Asked::default();
        self.waiting.push_back(Wish { ticket, operation: None });
        self.advance(&mut asked);
        asked
    }

    /// The timer has run out: what was out for long is said again.
    pub fn tick(&mut self) -> Asked {
        let mut asked = Asked::default();
        let longest = LONGEST_PAUSE.as_millis() / self.resend.as_millis().max(1);
        let longest = (longest as u32).max(1);
        let mut slow_replier = false;
        for out in &mut self.out {
            if out.pause > 0 {
                out.pause -= 1;
                continue;
            }
            asked.bundles.push(out.bundle.clone());
            slow_replier |= out.bundle.replier == self.replier;
            // One period, two, four, and so on: the tick that ends the pause counts too.
            out.pause = longest.min(1 << out.repeated.min(16)) - 1;
            out.repeated += 1;
        }
        if slow_replier {
            self.change_replier();
        }
        self.ticking = !self.out.is_empty();
        if self.ticking {
            asked.alarm = Alarm::Set(self.resend);
        }
        asked
    }

    /// It is certain what this bundle came to: its tickets are answered, and the next bundle goes out. Of a bundle that
    /// is not out nothing is done.
    pub fn accept(&mut self, digest: &Digest, slot: Slot, body: ReplyBody) -> Asked {
        let mut asked = Asked::default();
        let Some(index) = self.out.iter().position(|out| out.digest == *digest) else {
            return asked;
        };
        let Outstanding { tickets, .. } = self.out.swap_remove(index);
        match body {
            ReplyBody::Registered(session) => {
                self.session = Some(session);
                self.sequence = 0;
            }
            ReplyBody::Results(results) => asked.answers = pair(slot, tickets, results),
            // What this bundle asked for was not executed under this reply, but may have been before the session was
            // evicted. The next bundle opens another session, under another nonce.
            ReplyBody::NoSession | ReplyBody::Stale => {
                asked.answers = all(tickets, &Outcome::Unknown);
                self.session = None;
                self.nonce = self.nonce.saturating_add(1);
            }
            // Another life of this client, by a clock that was ahead, or another of its processes has opened one since. After
            // the last nonce of all none can be opened any more.
            ReplyBody::Superseded(highest) if highest < u64::MAX => {
                self.nonce = self.nonce.max(highest) + 1;
            }
            ReplyBody::NotAdmitted | ReplyBody::Superseded(_) => {
                self.waiting_bytes = 0;
                let waiting = self.waiting.drain(..).map(|wish| (wish.ticket, false));
                let tickets = tickets.into_iter().chain(waiting).collect();
                asked.answers = all(tickets, &Outcome::NotAdmitted);
            }
        }
        if self.out.is_empty() {
            self.ticking = false;
            asked.alarm = Alarm::Cancel;
        }
        self.advance(&mut asked);
        asked
    }

    /// What this bundle came to is certain, but not known whole: everybody is asked at once, once.
    pub fn insist(&mut self, digest: &Digest) -> Asked {
        let mut asked = Asked::default();
        let fresh = self.out.iter_mut().find(|out| out.digest == *digest && out.repeated == 0);
        if let Some(out) = fresh {
            out.repeated = 1;
            out.pause = 0;
            asked.bundles.push(out.bundle.clone());
            if out.bundle.replier == self.replier {
                self.change_replier();
            }
        }
        asked
    }

    /// The bundle with this digest, while it is out.
    #[must_use]
    pub fn owns(&self, digest: &Digest) -> Option<&Bundle> {
        self.out.iter().find(|out| out.digest == *digest).map(|out| &out.bundle)
    }

    /// The bundles that are out, with their digests.
    pub fn outstanding(&self) -> impl Iterator<Item = (&Digest, &Bundle)> {
        self.out.iter().map(|out| (&out.digest, &out.bundle))
    }

    /// How many tickets are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.waiting.len() + self.out.iter().map(|out| out.tickets.len()).sum::<usize>()
    }

    /// Sends what waits, as far as the pipeline and the session's window have room.
    fn advance(&mut self, asked: &mut Asked) {
        while self.is_worth_a_bundle() {
            let Some(session) = self.session else {
                if self.out.is_empty() {
                    self.send(Request::Register { nonce: self.nonce }, Vec::new(), asked);
                }
                break;
            };
            if !self.window_has_room() {
                break;
            }
            let (tickets, operations) = self.gather();
            self.sequence += 1;
            let request = Request::Operations { session, sequence: self.sequence, operations };
            self.send(request, tickets, asked);
        }
        if !self.ticking && !self.out.is_empty() {
            self.ticking = true;
            asked.alarm = Alarm::Set(self.resend);
        }
    }

    /// Whether what waits is to go out now.
    fn is_worth_a_bundle(&self) -> bool {
        let (operations, bytes) = WORTH_A_SLOT;
        match self.out.len() {
            0 => !self.waiting.is_empty(),
            out => {
                let is_worth = self.waiting.len() >= operations || self.waiting_bytes >= bytes;
                // One that had to be said again is late; the others need not be.
                let is_late =
                    self.out.iter().any(|out| out.repeated > 0) && !self.waiting.is_empty();
                out < PIPELINE && (is_worth || is_late)
            }
        }
    }

    /// Takes what fits into one bundle. One operation always does; barriers take no room.
    fn gather(&mut self) -> (Vec<(u64, bool)>, Vec<Arc<[u8]>>) {
        let (mut tickets, mut operations, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(Wish { operation, .. }) = self.waiting.front() {
            if let Some(operation) = operation {
                bytes += operation.len();
                let is_full =
                    operations.len() == limits::BUNDLE_OPERATIONS || bytes > limits::BUNDLE_BYTES;
                if is_full && !operations.is_empty() {
                    break;
                }
            }
            let Some(Wish { ticket, operation }) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= operation.as_ref().map_or(0, |operation| operation.len());
            tickets.push((ticket, operation.is_some()));
            operations.extend(operation);
        }
        (tickets, operations)
    }

    /// Whether the next number leaves every bundle that is out within the session's window. A replica forgets what
    /// falls behind it, so a bundle that is retried for long holds the others up.
    fn window_has_room(&self) -> bool {
        let oldest = self.out.iter().filter_map(|out| out.bundle.sequence()).min();
        oldest
            .is_none_or(|oldest| self.sequence.saturating_add(1) < oldest + limits::SESSION_WINDOW)
    }

    fn send(&mut self, request: Request, tickets: Vec<(u64, bool)>, asked: &mut Asked) {
        let bundle = Bundle { replier: self.replier, request };
        let digest = bundle.digest(self.me, self.domain);
        asked.bundles.push(bundle.clone());
        // Most of a period may be over when the timer runs out next, so it waits for one whole period more.
        self.out.push(Outstanding { digest, bundle, tickets, pause: 1, repeated: 0 });
    }

    fn change_replier(&mut self) {
        self.replier = ReplicaId((self.replier.0 + 1) % self.replicas);
    }
}

/// Each operation's ticket with its result. Results that are not as many as the operations are nobody's.
fn pair(slot: Slot, tickets: Vec<(u64, bool)>, results: Vec<Arc<[u8]>>) -> Vec<(u64, Outcome)> {
    if results.len() != tickets.iter().filter(|(_, has_result)| *has_result).count() {
        return all(tickets, &Outcome::Unknown);
    }
    let mut results = results.into_iter();
    let mut outcome = |has_result| {
        let result = if has_result { results.next() } else { None };
        Outcome::Done(slot, result.unwrap_or_default())
    };
    tickets.into_iter().map(|(ticket, has_result)| (ticket, outcome(has_result))).collect()
}

fn all(tickets: Vec<(u64, bool)>, outcome: &Outcome) -> Vec<(u64, Outcome)> {
    tickets.into_iter().map(|(ticket, _)| (ticket, outcome.clone())).collect()
}
