//! Framing without a network: for whoever tries it on bytes that nobody wrote.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};
use tonic::Status;

use super::{OVERHEAD, Requests, etcd_error, read_message};
use crate::budget::{Account, Budget};

/// What a gateway makes of the body of one client's request.
#[derive(Clone, Debug)]
pub struct Unframed {
    /// The one message of a call, or the status that it ends with.
    pub call: Result<Bytes, Status>,
    /// The messages of a stream.
    pub messages: Vec<Bytes>,
    /// How the stream ends: well when the client has no more to say.
    pub end: Result<(), Status>,
    /// Bytes that are still charged to the client when it is gone: none.
    pub charged: usize,
}

/// Reads a body that comes in these pieces, as that of a call and as that of a stream. The client may have so many bytes
/// charged to it.
#[must_use]
pub fn unframe(pieces: &[Bytes], budget: usize) -> Unframed {
    let gateway = Budget::new(budget);
    let account = Account::new(gateway.clone(), budget);
    let call = match account.charge(OVERHEAD) {
        Some(mut charge) => now(read_message(&mut Pieces::of(pieces), &mut charge)),
        None => Err(etcd_error::too_many_requests()),
    };
    let mut requests = Requests::new(Pieces::of(pieces), account);
    let mut messages = Vec::new();
    let end = loop {
        match now(poll_fn(|cx| requests.poll_bytes(cx))) {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    drop(requests);
    Unframed { call, messages, end, charged: budget - gateway.left() }
}

/// What a future comes to that waits for nothing.
fn now<T>(future: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(Status::internal("testudo: all that will come is there")),
    }
}

/// A body that is all there.
struct Pieces(VecDeque<Bytes>);

impl Pieces {
    fn of(pieces: &[Bytes]) -> Self {
        Self(pieces.iter().cloned().collect())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}
