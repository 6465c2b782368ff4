//! Pure computation off the automaton's thread.

use crate::host::{Driven, Event};
use crate::inbox::Inbox;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use testudo_core::{Protocol, Stamp, Work};

type Job<P> = (Stamp, <P as Protocol>::Work);
type Events<P> = Arc<Inbox<<P as Protocol>::Message, Event<P>>>;

/// A thread that computes what the automaton asks for. It is started with the first task: many protocols have none.
pub(crate) struct Workers<P: Protocol> {
    events: Events<P>,
    jobs: Option<Sender<Job<P>>>,
    name: String,
}

impl<P: Driven> Workers<P> {
    pub(crate) fn new(events: Events<P>, name: &str) -> Self {
        Self { events, jobs: None, name: name.to_owned() }
    }

    /// Has it computed. The result is an event.
    pub(crate) fn submit(&mut self, stamp: Stamp, work: P::Work) {
        if self.jobs.is_none() {
            match self.start() {
                Ok(jobs) => self.jobs = Some(jobs),
                Err(error) => {
                    self.events.tell(Event::Broken(format!("no thread for work: {error}")));
                    return;
                }
            }
        }
        if let Some(jobs) = &self.jobs {
            // The thread ends before its jobs do only when the node has ended.
            let _ = jobs.send((stamp, work));
        }
    }

    fn start(&self) -> std::io::Result<Sender<Job<P>>> {
        let (jobs, received) = channel::<Job<P>>();
        let events = self.events.clone();
        std::thread::Builder::new().name(format!("{}-work", self.name)).spawn(move || {
            for (stamp, work) in received {
                let event = match catch_unwind(AssertUnwindSafe(|| work.run())) {
                    Ok(output) => Event::Done(stamp, output),
                    Err(_) => Event::Broken("a computation panicked".to_owned()),
                };
                if !events.tell(event) {
                    return;
                }
            }
        })?;
        Ok(jobs)
    }
}
