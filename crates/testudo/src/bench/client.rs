//! As much of gRPC as a benchmark needs: one message there and one back, many at a time, and streams of them.

use std::fmt;
use std::future::poll_fn;

use bytes::{Buf as _, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream, client};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Method, Request, Uri};
use prost::Message;
use tokio::net::TcpStream;

/// Bytes that servers may send before they are read: all that they have.
const WINDOW: u32 = (1 << 31) - 1;
const FRAME: u32 = 1 << 20;
/// A flag and the length, before each message.
const PREFIX: usize = 5;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What is said of an answer that is not what it should be.
pub(super) const UNREADABLE: &str = "the answer cannot be read";

/// A server and the methods that are called there.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    authority: String,
    pub(super) put: Uri,
    pub(super) range: Uri,
    pub(super) txn: Uri,
    pub(super) watch: Uri,
    pub(super) lease_grant: Uri,
    pub(super) lease_revoke: Uri,
    pub(super) lease_keep_alive: Uri,
}

impl Endpoint {
    /// Reads `HOST:PORT` or `http://HOST:PORT`.
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with("https://") {
            return Err(format!("{text}: only endpoints without TLS can be driven"));
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if !authority.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        }) {
            return Err(format!("{text}: an endpoint is HOST:PORT or http://HOST:PORT"));
        }
        let uri = |method: &str| {
            Uri::builder()
                .scheme("http")
                .authority(authority)
                .path_and_query(format!("/etcdserverpb.{method}"))
                .build()
                .map_err(|error| format!("{text}: {error}"))
        };
        Ok(Self {
            authority: authority.to_owned(),
            put: uri("KV/Put")?,
            range: uri("KV/Range")?,
            txn: uri("KV/Txn")?,
            watch: uri("Watch/Watch")?,
            lease_grant: uri("Lease/LeaseGrant")?,
            lease_revoke: uri("Lease/LeaseRevoke")?,
            lease_keep_alive: uri("Lease/LeaseKeepAlive")?,
        })
    }

    /// Opens a connection. It is served by a task of its own on this thread.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let failed = |error: &dyn fmt::Display| {
            Failure::Connection(format!("cannot connect to {}: {error}", self.authority))
        };
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let (sender, connection) = client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(FRAME)
            .handshake(stream)
            .await
            .map_err(|error| failed(&error))?;
        tokio::task::spawn_local(async move {
            // Requests that it breaks off say so themselves.
            let _ended = connection.await;
        });
        Ok(Connection { sender })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

/// An open connection; clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    sender: SendRequest<Bytes>,
}

/// Why an operation has no answer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Failure {
    /// The connection could not be opened or broke.
    Connection(String),
    /// The server refused.
    Refused {
        /// gRPC's status.
        code: i32,
        /// What the server says of it.
        text: String,
    },
    /// It took too long.
    TimedOut,
    /// The answer is not one to this request.
    Nonsense(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(text) => f.write_str(text),
            Self::Refused { code, text } => write!(f, "the server answered {code}: {text}"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Nonsense(text) => f.write_str(text),
        }
    }
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Self::Connection(format!("the connection broke: {error}"))
    }
}

impl Connection {
    /// Calls a method and waits for the bytes of its answer.
    pub(super) async fn call(
        &mut self,
        method: &Uri,
        message: &impl Message,
    ) -> Result<Bytes, Failure> {
        poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        let (response, mut body) = self.sender.send_request(request(method), false)?;
        body.send_data(frame(message), true)?;
        let (head, mut body) = response.await?.into_parts();
        if head.headers.contains_key(STATUS) {
            check(&head.headers)?;
        }
        let message = read(&mut body).await?;
        match body.trailers().await? {
            Some(trailers) => check(&trailers)?,
            None => return Err(Failure::Nonsense("the answer ends without a status")),
        }
        Ok(message)
    }

    /// Calls a method that takes and gives any number of messages, the first of which is this. Comes back when the
    /// server has begun to answer.
    pub(super) async fn stream(
        &mut self,
        method: &Uri,
        first: &impl Message,
    ) -> Result<(Questions, Answers), Failure> {
        poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        let (response, body) = self.sender.send_request(request(method), false)?;
        let mut questions = Questions { body };
        questions.send(first)?;
        let (head, body) = response.await?.into_parts();
        if head.headers.contains_key(STATUS) {
            check(&head.headers)?;
        }
        Ok((questions, Answers { body, unread: BytesMut::new() }))
    }
}

/// One's own side of a stream, which lasts as long as this is kept.
pub(super) struct Questions {
    body: SendStream<Bytes>,
}

impl Questions {
    /// Sends one message more. What the server is not ready for waits here, so whoever sends must not send without end.
    pub(super) fn send(&mut self, message: &impl Message) -> Result<(), Failure> {
        Ok(self.body.send_data(frame(message), false)?)
    }
}

/// The server's side of a stream.
pub(super) struct Answers {
    body: RecvStream,
    unread: BytesMut,
}

impl Answers {
    /// The next message; none when the server has ended the stream well. What was read so far is kept when this is
    /// not waited for to the end.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Failure> {
        loop {
            if let Some(message) = self.whole() {
                let message = M::decode(message);
                return message.map(Some).map_err(|_| Failure::Nonsense(UNREADABLE));
            }
            let Some(piece) = self.body.data().await else { break };
            let piece = piece?;
            self.body.flow_control().release_capacity(piece.len())?;
            self.unread.extend_from_slice(&piece);
        }
        match self.body.trailers().await? {
            Some(trailers) => check(&trailers).map(|()| None),
            None => Err(Failure::Nonsense("the stream ends without a status")),
        }
    }

    /// Takes the next message if all of it is here.
    fn whole(&mut self) -> Option<Bytes> {
        let length = self.unread.get(1..PREFIX)?.try_into().map(u32::from_be_bytes).ok()? as usize;
        if self.unread.len() - PREFIX < length {
            return None;
        }
        self.unread.advance(PREFIX);
        Some(self.unread.split_to(length).freeze())
    }
}

fn request(method: &Uri) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = method.clone();
    request.headers_mut().insert(CONTENT_TYPE, GRPC);
    request.headers_mut().insert(TE, TRAILERS);
    request
}

fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = Vec::with_capacity(PREFIX + length);
    bytes.push(0);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.encode_raw(&mut bytes);
    bytes.into()
}

/// Reads the one message of an answer, to the end.
async fn read(body: &mut RecvStream) -> Result<Bytes, Failure> {
    let mut whole = Bytes::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        whole = if whole.is_empty() { piece } else { [whole, piece].concat().into() };
    }
    if whole.len() < PREFIX { Ok(Bytes::new()) } else { Ok(whole.slice(PREFIX..)) }
}

fn check(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    match text(STATUS) {
        Some("0") => Ok(()),
        code => Err(Failure::Refused {
            code: code.and_then(|code| code.parse().ok()).unwrap_or(-1),
            text: text(MESSAGE).unwrap_or_default().replace("%20", " "),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_ports() {
        for text in ["127.0.0.1:2379", "http://127.0.0.1:2379", " http://127.0.0.1:2379/ "] {
            let endpoint = Endpoint::parse(text).expect("an endpoint");
            assert_eq!(endpoint.to_string(), "127.0.0.1:2379");
            assert_eq!(endpoint.put, "http://127.0.0.1:2379/etcdserverpb.KV/Put");
        }
        assert!(Endpoint::parse("[::1]:2379").is_ok());
        for nonsense in ["", "localhost", ":2379", "localhost:0", "a b:1", "https://localhost:2379"]
        {
            assert!(Endpoint::parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
