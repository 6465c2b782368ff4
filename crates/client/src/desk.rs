//! What was asked of an automaton and is not answered: bounded, with deadlines, and closed in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// Why a question has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoAnswer {
    /// Too much waits. It was not asked.
    Overloaded,
    /// The desk is closed, or the automaton has stopped. It was not asked.
    Closed,
    /// It was asked, and no answer came in time, or none will come.
    Unanswered,
}

/// A question that is not answered. Its share is given back when the automaton answers, not when the asker has lost
/// patience: until then it takes up memory.
struct Ticket<A> {
    answer: oneshot::Sender<A>,
    _share: OwnedSemaphorePermit,
}

struct State<A> {
    is_open: bool,
    tickets: HashMap<u64, Ticket<A>>,
}

/// Where answers of one kind are waited for.
pub(crate) struct Desk<A> {
    state: Mutex<State<A>>,
    room: Arc<Semaphore>,
    shares: u32,
}

impl<A> Desk<A> {
    /// A desk at which questions of so many shares may wait.
    pub(crate) fn new(shares: u32) -> Arc<Self> {
        let state = Mutex::new(State { is_open: true, tickets: HashMap::new() });
        Arc::new(Self { state, room: Arc::new(Semaphore::new(shares as usize)), shares })
    }

    /// Asks, and waits for the answer. `hand_over` asks the automaton, and says whether it could.
    pub(crate) async fn ask(
        &self,
        ticket: u64,
        shares: u32,
        deadline: Duration,
        hand_over: impl FnOnce() -> bool,
    ) -> Result<A, NoAnswer> {
        let share = self.room.clone().try_acquire_many_owned(shares);
        let share = share.map_err(|_| NoAnswer::Overloaded)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.lock();
            if !state.is_open {
                return Err(NoAnswer::Closed);
            }
            state.tickets.insert(ticket, Ticket { answer, _share: share });
        }
        if !hand_over() {
            self.lock().tickets.remove(&ticket);
            return Err(NoAnswer::Closed);
        }
        match timeout(deadline, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(NoAnswer::Unanswered),
        }
    }

    /// The automaton answers.
    pub(crate) fn answer(&self, ticket: u64, answer: A) {
        let ticket = self.lock().tickets.remove(&ticket);
        if let Some(ticket) = ticket {
            // Whoever asked may have lost patience.
            let _ = ticket.answer.send(answer);
        }
    }

    /// How many questions are not answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.lock().tickets.len()
    }

    /// Takes no more questions.
    pub(crate) fn close(&self) {
        self.lock().is_open = false;
    }

    /// Waits until all are answered, or so long.
    pub(crate) async fn drain(&self, patience: Duration) {
        // All shares are back when nothing is out. The semaphore is never closed, so an error is the end of patience.
        let _ = timeout(patience, self.room.acquire_many(self.shares)).await;
    }

    /// Takes no more questions, and gives up those that are out: nobody will answer them.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.is_open = false;
        let tickets = std::mem::take(&mut state.tickets);
        drop(state);
        drop(tickets);
    }

    fn lock(&self) -> MutexGuard<'_, State<A>> {
        // What is changed under the lock is changed at once: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn answers_find_their_askers() {
        let desk = Desk::new(10);
        let teller = desk.clone();
        let tell = move || {
            teller.answer(6, 'b');
            teller.answer(5, 'a');
            true
        };
        assert_eq!(desk.ask(5, 1, LONG, tell).await, Ok('a'));
        assert_eq!(desk.unanswered(), 0);
        assert_eq!(desk.ask(7, 1, LONG, || false).await, Err(NoAnswer::Closed));
        assert_eq!(desk.unanswered(), 0, "what could not be asked does not wait");
    }

    #[tokio::test]
    async fn a_share_comes_back_with_the_answer_and_not_with_impatience() {
        let desk = Desk::<char>::new(10);
        assert_eq!(desk.ask(1, 8, Duration::ZERO, || true).await, Err(NoAnswer::Unanswered));
        assert_eq!(desk.unanswered(), 1);
        assert_eq!(desk.ask(2, 3, LONG, || true).await, Err(NoAnswer::Overloaded));
        desk.answer(1, 'x');
        let teller = desk.clone();
        let tell = move || {
            teller.answer(2, 'y');
            true
        };
        assert_eq!(desk.ask(2, 3, LONG, tell).await, Ok('y'));
    }

    #[tokio::test]
    async fn a_closed_desk_waits_for_what_is_out_and_no_longer_than_patience() {
        let desk = Desk::<char>::new(10);
        let asker = tokio::spawn({
            let desk = desk.clone();
            async move { desk.ask(1, 1, LONG, || true).await }
        });
        while desk.unanswered() == 0 {
            tokio::task::yield_now().await;
        }
        desk.close();
        assert_eq!(desk.ask(2, 1, LONG, || true).await, Err(NoAnswer::Closed));
        desk.drain(Duration::ZERO).await;
        assert_eq!(desk.unanswered(), 1);
        desk.abandon();
        assert_eq!(asker.await.unwrap(), Err(NoAnswer::Unanswered));
        desk.drain(LONG).await;
        desk.answer(1, 'z');
    }
}
