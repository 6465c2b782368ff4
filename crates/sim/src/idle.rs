//! The client of protocols that have none.

use std::marker::PhantomData;
use testudo_core::{Effects, Message, NoWork, Past, Peer, Protocol, Tag, Tagged, Verified};

/// A client that never does anything.
#[derive(Clone, Copy, Debug)]
pub struct NoClient<M>(PhantomData<fn() -> M>);

/// What is never said, asked, answered or waited for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Nothing {}

impl Tagged for Nothing {
    fn tag(&self) -> Tag {
        match *self {}
    }
}

impl<M: Message> Protocol for NoClient<M> {
    type Config = ();
    type Message = M;
    type Record = Nothing;
    type Snapshot = Nothing;
    type Timer = Nothing;
    type Input = Nothing;
    type Output = Nothing;
    type Work = NoWork;

    fn start((): (), _: Peer, _: Past<Nothing, Nothing>, _: &mut Effects<'_, Self>) -> Self {
        Self(PhantomData)
    }
    fn on_input(&mut self, input: Nothing, _: &mut Effects<'_, Self>) {
        match input {}
    }
    fn on_message(&mut self, _: Verified<M>, _: &mut Effects<'_, Self>) {}
    fn on_timer(&mut self, timer: Nothing, _: &mut Effects<'_, Self>) {
        match timer {}
    }
}
