//! Streams of messages in both directions.
//!
//! A stream is served by an asynchronous function, its *script*, which takes requests from
//! [`Requests`] and hands answers to [`Replies`]. It has no task and no queue of its own: it is run
//! by whoever sends the answer's body, and only when the client has room for more. So a client that
//! does not read is not read from either; what it costs is what the connection may have queued for
//! it, one answer, and one request. When it goes away, the script is dropped where it stands.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use http_body::Body;
use hyper::body::Incoming;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::Status;

use super::{LONGEST_MESSAGE, OVERHEAD, PREFIX, ResponseBody, message_length, response};
use crate::budget::{Account, Charge, charged};
use crate::etcd_error;

/// Bytes that the buffer of a stream keeps when it is empty.
const IDLE_BUFFER: usize = 16 << 10;
/// Bytes beyond which answers that are ready are sent before further ones are made.
pub(crate) const BATCH: usize = 16 << 10;
/// Bytes that a batch of answers is charged until its size is known: a message of events, which is
/// longer only if a single revision is.
const RESERVE: usize = 2 << 20;
/// How long an answer waits before it looks again whether there is room for it in the budget.
const BUDGET_PAUSE: Duration = Duration::from_millis(50);

/// The messages of a request, as they come.
pub(crate) struct Requests<B = Incoming> {
    body: B,
    /// What has come and was not taken.
    buffer: BytesMut,
    account: Arc<Account>,
    /// For the bytes of a long message that has begun.
    charge: Option<Charge>,
}

impl<B: Body<Data = Bytes> + Unpin> Requests<B> {
    pub(crate) fn new(body: B, account: Arc<Account>) -> Self {
        Self { body, buffer: BytesMut::new(), account, charge: None }
    }

    /// The next message, and none when the client has said that there is no more. Nothing is lost
    /// when the future is dropped before it is ready.
    ///
    /// # Errors
    /// When the client sends what is no message, or one too large, or breaks off.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        let Some(bytes) = poll_fn(|cx| self.poll_bytes(cx)).await? else { return Ok(None) };
        M::decode(bytes).map(Some).map_err(|error| {
            let text = format!("grpc: failed to unmarshal the received message: {error}");
            Status::internal(text)
        })
    }

    pub(super) fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(message) = self.take()? {
                return Poll::Ready(Ok(Some(message)));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers end a request; gRPC gives them no meaning.
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => {
                    return Poll::Ready(Err(Status::cancelled("the client's stream broke off")));
                }
                None if self.buffer.is_empty() => return Poll::Ready(Ok(None)),
                None => return Poll::Ready(Err(Status::internal("unexpected EOF"))),
            }
        }
    }

    /// Takes a whole message off the buffer, if there is one.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(&prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = message_length(&mut &prefix[..])?;
        debug_assert!(length <= LONGEST_MESSAGE);
        if self.buffer.len() - PREFIX < length {
            if length > OVERHEAD && self.charge.is_none() {
                let charge = self.account.charge(length);
                self.charge = Some(charge.ok_or_else(etcd_error::too_many_requests)?);
            }
            return Ok(None);
        }
        self.charge = None;
        self.buffer.advance(PREFIX);
        if self.buffer.len() == length && length > IDLE_BUFFER {
            return Ok(Some(std::mem::take(&mut self.buffer).freeze()));
        }
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// Where a script's answers go. There is room for one batch of them at a time.
pub(crate) struct Replies {
    sender: mpsc::Sender<Bytes>,
    account: Arc<Account>,
}

impl Replies {
    /// Waits until there is room for answers, which are best made only then: the client has taken
    /// those before, and what waits elsewhere for clients that do not read has left a part of the
    /// budget.
    pub(crate) async fn room(&self) -> Room<'_> {
        let permit = match self.sender.reserve().await {
            Ok(permit) => permit,
            // Nobody runs the script any more; then it does not go on either.
            Err(_) => std::future::pending().await,
        };
        loop {
            match self.account.reserve(RESERVE) {
                Some(charge) => return Room { permit, charge },
                None => sleep(BUDGET_PAUSE).await,
            }
        }
    }
}

/// Room for a batch of answers, charged in advance.
pub(crate) struct Room<'a> {
    permit: mpsc::Permit<'a, Bytes>,
    charge: Charge,
}

impl Room<'_> {
    /// Sends messages that are framed already.
    pub(crate) fn send(mut self, bytes: Vec<u8>) {
        self.charge.settle(bytes.len());
        self.permit.send(charged(bytes, self.charge));
    }
}

/// What a script comes to: that all is well, or what ended it.
pub(crate) type Outcome = Result<(), Status>;

/// A script and the answer that it has ready.
pub(crate) struct Script {
    run: Pin<Box<dyn Future<Output = Outcome> + Send>>,
    replies: mpsc::Receiver<Bytes>,
    outcome: Option<Outcome>,
    _charge: Charge,
}

impl Script {
    /// The next answer, or what the script came to.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Outcome>> {
        loop {
            if let Ok(bytes) = self.replies.try_recv() {
                return Poll::Ready(Ok(bytes));
            }
            if let Some(outcome) = self.outcome.take() {
                return Poll::Ready(Err(outcome));
            }
            match self.run.as_mut().poll(cx) {
                Poll::Ready(outcome) => self.outcome = Some(outcome),
                // It waits either for something outside, or for room for a further answer.
                Poll::Pending if self.replies.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

/// The answer that a script gives. The stream is charged until its client drops it.
pub(crate) fn converse<F>(
    script: impl FnOnce(Replies) -> F,
    charge: Charge,
) -> Response<ResponseBody>
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let (sender, replies) = mpsc::channel(1);
    let account = charge.account().clone();
    let run = Box::pin(script(Replies { sender, account }));
    response(ResponseBody::Script(Script { run, replies, outcome: None, _charge: charge }))
}
