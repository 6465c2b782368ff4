//! gRPC's framing: one message in and one out, here; streams of them, in [`stream`].

mod stream;
mod trial;

pub(crate) use stream::{BATCH, Outcome, Replies, Requests, Script, converse};
pub use trial::{Unframed, unframe};

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use prost::Message;
use tonic::Status;

use crate::budget::{Charge, charged};
use crate::etcd_error;

/// Bytes of the longest message that etcd receives: a request of 1.5 MiB and half a MiB around it.
const LONGEST_MESSAGE: usize = 2 << 20;
/// A flag and the length, before each message.
const PREFIX: usize = 5;
/// Bytes that each request is charged before it is read, which a short one and its answer fit in.
pub(crate) const OVERHEAD: usize = 4 << 10;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");

/// Whether the headers announce gRPC, as etcd judges it.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
}

/// The time that the client gives the request, if it says so and it can be read.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u32 = digits.parse().ok()?;
    let unit = match unit {
        "H" => Duration::from_secs(3600),
        "M" => Duration::from_secs(60),
        "S" => Duration::from_secs(1),
        "m" => Duration::from_millis(1),
        "u" => Duration::from_micros(1),
        "n" => Duration::from_nanos(1),
        _ => return None,
    };
    unit.checked_mul(count)
}

/// Refuses what cannot be unpacked here. Clients of etcd do not compress.
pub(crate) fn check_encoding(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get("grpc-encoding").map(HeaderValue::as_bytes) {
        None | Some(b"" | b"identity") => Ok(()),
        Some(name) => Err(Status::unimplemented(format!(
            "grpc: Decompressor is not installed for grpc-encoding \"{}\"",
            name.escape_ascii()
        ))),
    }
}

/// Reads the one message of a request, up to the end of the client's stream.
///
/// A message that came in one piece is not copied. One that did not is charged before it is
/// gathered, so that half messages cannot pile up.
pub(crate) async fn read_message(
    body: &mut (impl Body<Data = Bytes> + Unpin),
    charge: &mut Charge,
) -> Result<Bytes, Status> {
    let mut piece = Bytes::new();
    while piece.len() < PREFIX {
        let Some(data) = next_data(body).await? else {
            return Err(Status::internal(if piece.is_empty() {
                "cardinality violation: received no request message from non-client-streaming RPC"
            } else {
                "unexpected EOF"
            }));
        };
        piece = if piece.is_empty() { data } else { [piece, data].concat().into() };
    }
    let length = message_length(&mut piece)?;
    if length > OVERHEAD {
        charge.extend(length).ok_or_else(etcd_error::too_many_requests)?;
    }
    if piece.len() < length {
        let mut whole = BytesMut::with_capacity(length);
        whole.extend_from_slice(&piece);
        while whole.len() < length {
            let data = next_data(body).await?.ok_or_else(|| Status::internal("unexpected EOF"))?;
            whole.extend_from_slice(&data);
        }
        piece = whole.freeze();
    }
    let mut more = piece.len() > length;
    while !more && !body.is_end_stream() {
        match next_data(body).await? {
            Some(data) => more = !data.is_empty(),
            None => break,
        }
    }
    if more {
        return Err(Status::internal(
            "cardinality violation: received multiple request messages for non-client-streaming \
             RPC",
        ));
    }
    Ok(piece)
}

/// Takes the prefix off and gives the length that it announces.
fn message_length(piece: &mut impl Buf) -> Result<usize, Status> {
    let flag = piece.get_u8();
    let length = piece.get_u32() as usize;
    match flag {
        0 => {}
        1 => {
            return Err(Status::internal(
                "grpc: compressed flag set with identity or empty encoding",
            ));
        }
        _ => {
            return Err(Status::internal(format!(
                "grpc: received unexpected payload format {flag}"
            )));
        }
    }
    if length > LONGEST_MESSAGE {
        return Err(Status::resource_exhausted(format!(
            "grpc: received message larger than max ({length} vs. {LONGEST_MESSAGE})"
        )));
    }
    Ok(length)
}

async fn next_data(body: &mut (impl Body<Data = Bytes> + Unpin)) -> Result<Option<Bytes>, Status> {
    match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        None => Ok(None),
        // Trailers end a request; gRPC gives them no meaning.
        Some(Ok(frame)) => Ok(frame.into_data().ok()),
        Some(Err(_)) => Err(Status::cancelled("the client's stream broke off")),
    }
}

/// Decodes a message; its byte fields are views into `bytes`.
pub(crate) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes)
        .map_err(|error| Status::internal(format!("grpc: error unmarshalling request: {error}")))
}

/// Begins the frame of a message of that length, which is to follow.
pub(crate) fn begin_frame(length: usize, out: &mut Vec<u8>) {
    out.reserve(PREFIX + length);
    out.push(0);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

/// Frames a message.
pub(crate) fn frame(message: &impl Message, out: &mut Vec<u8>) {
    begin_frame(message.encoded_len(), out);
    message.encode_raw(out);
}

/// The answer of one message. The bytes stay charged until the last of them is sent.
pub(crate) fn answer(
    message: &impl Message,
    charge: Charge,
) -> Result<Response<ResponseBody>, Status> {
    answer_with(message.encoded_len(), charge, |out| message.encode_raw(out))
}

/// The answer of one message of that length, which is written when it has been charged.
pub(crate) fn answer_with(
    length: usize,
    mut charge: Charge,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<Response<ResponseBody>, Status> {
    let framed = PREFIX.saturating_add(length);
    if framed > OVERHEAD {
        charge.extend(framed).ok_or_else(etcd_error::too_many_requests)?;
    }
    let mut bytes = Vec::new();
    begin_frame(length, &mut bytes);
    write(&mut bytes);
    debug_assert_eq!(bytes.len(), framed);
    Ok(response(ResponseBody::Message(charged(bytes, charge))))
}

fn response(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// What an answer consists of.
#[derive(Debug, Default)]
pub(crate) enum ResponseBody {
    /// Nothing but headers.
    #[default]
    Empty,
    /// Bytes of plain HTTP.
    Plain(Bytes),
    /// One framed message, then that all is well.
    Message(Bytes),
    /// That all is well.
    End,
    /// Framed messages as a script has them ready, then what it came to.
    Script(Script),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let (frame, next) = match std::mem::take(&mut *self) {
            Self::Empty => return Poll::Ready(None),
            Self::Plain(bytes) => (Frame::data(bytes), Self::Empty),
            Self::Message(bytes) => (Frame::data(bytes), Self::End),
            Self::End => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(STATUS, OK);
                (Frame::trailers(trailers), Self::Empty)
            }
            Self::Script(mut script) => match script.poll(cx) {
                Poll::Pending => {
                    *self = Self::Script(script);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(bytes)) => (Frame::data(bytes), Self::Script(script)),
                Poll::Ready(Err(Ok(()))) => {
                    *self = Self::End;
                    return self.poll_frame(cx);
                }
                Poll::Ready(Err(Err(status))) => {
                    (Frame::trailers(trailers_of(&status)), Self::Empty)
                }
            },
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::End => SizeHint::with_exact(0),
            Self::Plain(bytes) | Self::Message(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Script(_) => SizeHint::default(),
        }
    }
}

fn trailers_of(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    // It fails for metadata that is no header; ours has none.
    let written = status.add_header(&mut trailers);
    debug_assert!(written.is_ok());
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout_of(text: &'static str) -> Option<Duration> {
        timeout(&HeaderMap::from_iter([(
            HeaderName::from_static("grpc-timeout"),
            HeaderValue::from_static(text),
        )]))
    }

    #[test]
    fn timeouts_are_read_in_every_unit_and_nonsense_is_none() {
        assert_eq!(timeout_of("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(timeout_of("3M"), Some(Duration::from_secs(180)));
        assert_eq!(timeout_of("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(timeout_of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout_of("7u"), Some(Duration::from_micros(7)));
        assert_eq!(timeout_of("1n"), Some(Duration::from_nanos(1)));
        for nonsense in ["", "S", "1", "-1S", "1s", "123456789S", "1.5S", "+1S"] {
            assert_eq!(timeout_of(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn the_prefix_is_judged_as_etcd_judges_it() {
        let length = |prefix: &'static [u8]| {
            message_length(&mut Bytes::from_static(prefix))
                .map_err(|status| (status.code(), status.message().to_owned()))
        };
        assert_eq!(length(&[0, 0, 0x20, 0, 0]), Ok(2_097_152));
        assert_eq!(
            length(&[0, 0, 0x20, 0, 1]),
            Err((
                tonic::Code::ResourceExhausted,
                "grpc: received message larger than max (2097153 vs. 2097152)".to_owned()
            ))
        );
        assert_eq!(length(&[1, 0, 0, 0, 0]).unwrap_err().0, tonic::Code::Internal);
        assert_eq!(length(&[9, 0, 0, 0, 0]).unwrap_err().0, tonic::Code::Internal);
    }
}
