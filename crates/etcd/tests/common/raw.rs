//! Streams and numbers as they lie on the wire, for tests that do what no well-meaning client does.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::Request;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Running;

pub(crate) const WATCH: &str = "http://x/etcdserverpb.Watch/Watch";
pub(crate) const KEEP_ALIVE: &str = "http://x/etcdserverpb.Lease/LeaseKeepAlive";

/// A connection whose answers are read by whoever cares to.
pub(crate) async fn connect(gateway: &Running) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(gateway.address).await.expect("it listens");
    // A client that does not mind how small what it is sent is.
    let mut client = h2::client::Builder::new();
    client.data_frame_budget(usize::MAX / 2);
    let (sender, connection) = client.handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

pub(crate) fn open(
    sender: &mut SendRequest<Bytes>,
    uri: &str,
) -> (ResponseFuture, SendStream<Bytes>) {
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request");
    sender.send_request(request, false).expect("a stream")
}

/// Frames a message.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(5 + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).expect("a short message"));
    bytes.put_slice(&message.encode_to_vec());
    bytes.freeze()
}

/// Sends bytes as the gateway makes room for them. False if it closed the stream first.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> bool {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                let part = bytes.split_to(room.min(bytes.len()));
                if stream.send_data(part, false).is_err() {
                    return false;
                }
            }
            Some(Err(_)) | None => return false,
        }
    }
    true
}

/// Reads the answers of a stream.
pub(crate) struct Answers<M> {
    body: RecvStream,
    buffer: BytesMut,
    kind: PhantomData<M>,
}

impl<M: Message + Default> Answers<M> {
    pub(crate) async fn new(answer: ResponseFuture) -> Self {
        let body = answer.await.expect("it answers").into_body();
        Self { body, buffer: BytesMut::new(), kind: PhantomData }
    }

    pub(crate) async fn next(&mut self) -> M {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<5>() {
                let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
                let end = 5 + length as usize;
                if self.buffer.len() >= end {
                    let message = self.buffer.split_to(end).freeze().slice(5..);
                    return M::decode(message).expect("an answer");
                }
            }
            let data = self.body.data().await.expect("more").expect("no error");
            self.body.flow_control().release_capacity(data.len()).expect("it was taken");
            self.buffer.extend_from_slice(&data);
        }
    }

    /// How the stream ends: the status and its text.
    pub(crate) async fn status(mut self) -> (String, String) {
        while let Some(data) = self.body.data().await {
            let length = data.expect("no error").len();
            self.body.flow_control().release_capacity(length).expect("it was taken");
        }
        let trailers = self.body.trailers().await.expect("no error").expect("trailers");
        let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
        let message = text("grpc-message").unwrap_or_default().replace("%20", " ");
        (text("grpc-status").unwrap_or_default().to_owned(), message)
    }
}

/// One of the gateway's metrics.
pub(crate) async fn metric(gateway: &Running, name: &str) -> u64 {
    let mut stream = TcpStream::connect(gateway.address).await.expect("it listens");
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("it answers");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok()).expect("the metric is there")
}

/// Waits until a metric has come to a value.
pub(crate) async fn comes_to(gateway: &Running, name: &str, value: u64) {
    let wait = async {
        while metric(gateway, name).await != value {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.expect("it comes to it");
}

pub(crate) const WATCHES: &str = "etcd_debugging_mvcc_watcher_total";
pub(crate) const HELD: &str = "testudo_gateway_held_bytes";
pub(crate) const SLOW: &str = "etcd_debugging_mvcc_slow_watcher_total";
pub(crate) const STREAMS: &str = "etcd_debugging_mvcc_watch_stream_total";

/// Kilobytes of memory that this process holds.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
