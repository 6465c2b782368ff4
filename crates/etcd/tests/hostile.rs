//! What no well-meaning client does. Each costs its sender the stream or the connection, and
//! others nothing.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Mood, Running};
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use testudo_etcd::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Bytes without pattern, the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Sends bytes and waits until the gateway closes the connection.
async fn send_until_closed(gateway: &Running, bytes: &[u8]) {
    let mut stream = TcpStream::connect(gateway.address).await.expect("it listens");
    // The gateway may close before it has read everything.
    let _written = stream.write_all(bytes).await;
    let mut answer = vec![0; 4096];
    let closed = async { while stream.read(&mut answer).await.is_ok_and(|length| length > 0) {} };
    timeout(Duration::from_secs(20), closed).await.expect("the gateway closes it");
}

#[tokio::test]
async fn noise_is_closed() {
    let gateway = Running::impatient().await;
    for seed in 0..40 {
        let length = [1, 3, 23, 24, 100, 5000, 100_000][seed as usize % 7];
        send_until_closed(&gateway, &noise(seed, length)).await;
    }
    gateway.assert_alive().await;
}

#[tokio::test]
async fn noise_after_a_greeting_is_closed() {
    let gateway = Running::impatient().await;
    for seed in 0..40 {
        // Frames of random kinds and contents. A last one on stream 0 that must not be there ends
        // the connection if none before did.
        let mut bytes = [PREFACE, SETTINGS].concat();
        let noise = noise(seed, 2000);
        for frame in noise.chunks(50) {
            let [kind, flags, stream, body @ ..] = frame else { continue };
            bytes.extend([0, 0, body.len() as u8, kind % 12, *flags, 0, 0, 0, *stream]);
            bytes.extend(body);
        }
        bytes.extend([0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        send_until_closed(&gateway, &bytes).await;
    }
    gateway.assert_alive().await;
}

#[tokio::test]
async fn silence_is_closed() {
    let gateway = Running::impatient().await;
    send_until_closed(&gateway, b"").await;
    send_until_closed(&gateway, &PREFACE[..1]).await;
    send_until_closed(&gateway, &PREFACE[..23]).await;
    send_until_closed(&gateway, b"GET /version HTTP/1.1\r\nHost: ").await;
    send_until_closed(&gateway, b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await;
    gateway.assert_alive().await;
}

#[tokio::test]
async fn half_frames_do_no_harm() {
    let gateway = Running::new().await;
    // A HEADERS frame that announces more than comes, cut off at every length.
    let frame = [0, 0, 40, 1, 4, 0, 0, 0, 1, 0x83, 0x86, 0x44, 0x0c, b'/'];
    let bytes = [PREFACE, SETTINGS, &frame].concat();
    let mut left_open = Vec::new();
    for length in PREFACE.len()..=bytes.len() {
        let mut stream = TcpStream::connect(gateway.address).await.expect("it listens");
        stream.write_all(&bytes[..length]).await.expect("it reads");
        if length % 2 == 0 {
            left_open.push(stream);
        }
    }
    gateway.assert_alive().await;
}

#[tokio::test]
async fn endless_headers_are_closed() {
    let gateway = Running::new().await;
    // HEADERS without END_HEADERS, then CONTINUATION without end. Each holds one long literal.
    let mut field = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x7c];
    field.extend([b'v'; 16_000]);
    let frame = |kind: u8| {
        let mut bytes = (field.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0, 0, 0, 0, 1]);
        bytes.extend(&field);
        bytes
    };
    let mut bytes = [PREFACE, SETTINGS, &frame(1)].concat();
    for _ in 0..1000 {
        bytes.extend(frame(9));
    }
    send_until_closed(&gateway, &bytes).await;

    let mut http1 = b"GET /version HTTP/1.1\r\n".to_vec();
    http1.extend(b"x: y\r\n".repeat(1 << 20));
    send_until_closed(&gateway, &http1).await;
    gateway.assert_alive().await;
}

#[tokio::test]
async fn streams_opened_and_reset_without_end_are_closed() {
    let gateway = Running::new().await;
    let mut bytes = [PREFACE, SETTINGS].concat();
    for stream in (1_u32..100_000).step_by(2) {
        // :method POST, :scheme http, :path /; then RST_STREAM.
        bytes.extend([0, 0, 3, 1, 4]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend([0x83, 0x86, 0x84]);
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend([0, 0, 0, 8]);
    }
    send_until_closed(&gateway, &bytes).await;
    gateway.assert_alive().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let gateway = Running::within(Limits { connections: 2, ..Limits::default() }).await;
    let one = gateway.kv().await;
    let two = gateway.kv().await;
    send_until_closed(&gateway, b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await;
    drop(one);
    // The place is free when the gateway has seen the end of the first.
    let mut tries = 0;
    loop {
        let mut stream = TcpStream::connect(gateway.address).await.expect("it listens");
        let _written = stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n").await;
        if stream.read_u8().await.is_ok_and(|byte| byte == b'H') {
            break;
        }
        tries += 1;
        assert!(tries < 10_000, "a place that was left stays taken");
        tokio::task::yield_now().await;
    }
    drop(two);
}

async fn connect(gateway: &Running) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(gateway.address).await.expect("it listens");
    let (sender, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

fn put_request(timeout: &str) -> Request<()> {
    let request = Request::post("http://x/etcdserverpb.KV/Put")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout);
    request.body(()).expect("a request")
}

/// The status in an answer's headers, where it is when there is no message.
async fn status(answer: ResponseFuture) -> (String, String) {
    let answer = answer.await.expect("it answers");
    let text = |headers: &HeaderMap, name| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().replace("%20", " ")
    };
    (text(answer.headers(), "grpc-status"), text(answer.headers(), "grpc-message"))
}

/// A put of key `k`, framed.
const PUT: &[u8] = &[0, 0, 0, 0, 3, 0x0a, 1, b'k'];
const INTERNAL: &str = "13";
const RESOURCE_EXHAUSTED: &str = "8";
const DEADLINE_EXCEEDED: &str = "4";

#[tokio::test]
async fn a_clients_own_deadline_is_kept() {
    let gateway = Running::new().await;
    gateway.cluster.set(Mood::Silent);
    let mut sender = connect(&gateway).await;
    let (answer, mut body) = sender.send_request(put_request("30m"), false).expect("a stream");
    body.send_data(Bytes::from_static(PUT), true).expect("it is open");
    let expected = (DEADLINE_EXCEEDED.to_owned(), "context deadline exceeded".to_owned());
    assert_eq!(status(answer).await, expected);
    gateway.cluster.set(Mood::Answers);
    let (answer, mut body) = sender.send_request(put_request("7S"), false).expect("a stream");
    body.send_data(Bytes::from_static(PUT), true).expect("it is open");
    assert_eq!(status(answer).await, (String::new(), String::new()), "it is in the trailers");
}

#[tokio::test]
async fn a_message_must_be_one_and_whole() {
    let gateway = Running::new().await;
    let mut sender = connect(&gateway).await;
    let twice = [PUT, PUT].concat();
    let cases: [(&[&[u8]], &str); 8] = [
        (&[b""], "cardinality violation: received no request message from"),
        (&[&PUT[..3]], "unexpected EOF"),
        (&[&PUT[..7]], "unexpected EOF"),
        (&[&PUT[..2], &PUT[2..6], b""], "unexpected EOF"),
        (&[&twice], "cardinality violation: received multiple request messages"),
        (&[PUT, b"x"], "cardinality violation: received multiple request messages"),
        (&[b"\x01\x00\x00\x00\x00"], "grpc: compressed flag set with identity or empty"),
        (&[b"\x07\x00\x00\x00\x00"], "grpc: received unexpected payload format 7"),
    ];
    for (pieces, text) in cases {
        let (answer, mut body) = sender.send_request(put_request("7S"), false).expect("a stream");
        for (piece, rest) in pieces.iter().zip((0..pieces.len()).rev()) {
            // The gateway may have answered and closed the stream before the last piece.
            let _sent = body.send_data(Bytes::copy_from_slice(piece), rest == 0);
            tokio::task::yield_now().await;
        }
        let (code, message) = status(answer).await;
        assert_eq!(code, INTERNAL, "{pieces:?}");
        assert!(message.starts_with(text), "{message}");
    }
    // In single bytes it is as good as whole.
    let (answer, mut body) = sender.send_request(put_request("7S"), false).expect("a stream");
    for byte in PUT {
        body.send_data(Bytes::copy_from_slice(&[*byte]), false).expect("it is open");
        tokio::task::yield_now().await;
    }
    body.send_data(Bytes::new(), true).expect("it is open");
    assert_eq!(status(answer).await.0, "", "it is in the trailers");
}

#[tokio::test]
async fn a_message_that_does_not_come_is_not_waited_for() {
    let gateway = Running::impatient().await;
    let mut sender = connect(&gateway).await;
    for sent in [0, 3, 7] {
        let (answer, mut body) = sender.send_request(put_request("7S"), false).expect("a stream");
        body.send_data(Bytes::from_static(&PUT[..sent]), false).expect("it is open");
        assert_eq!(status(answer).await.0, DEADLINE_EXCEEDED);
    }
    gateway.assert_alive().await;
}

#[tokio::test]
async fn announced_bytes_are_charged_before_they_come() {
    let limits = Limits { connection_bytes: 4 << 20, ..Limits::default() };
    let gateway = Running::within(limits).await;
    let mut sender = connect(&gateway).await;
    let announcement = Bytes::from_static(&[0, 0, 0x1f, 0, 0, b'x']);
    let mut held = Vec::new();
    for _ in 0..2 {
        let (answer, mut body) = sender.send_request(put_request("7S"), false).expect("a stream");
        body.send_data(announcement.clone(), false).expect("it is open");
        held.push((answer, body));
    }
    let (answer, mut body) = sender.send_request(put_request("7S"), false).expect("a stream");
    body.send_data(announcement, false).expect("it is open");
    let expected = (RESOURCE_EXHAUSTED.to_owned(), "etcdserver: too many requests".to_owned());
    assert_eq!(status(answer).await, expected);
    // Others have their own.
    gateway.assert_alive().await;
    // And what is given up is given back.
    drop(held);
    loop {
        let (answer, mut body) = sender.send_request(put_request("7S"), false).expect("a stream");
        body.send_data(Bytes::from_static(PUT), true).expect("it is open");
        if status(answer).await.0.is_empty() {
            break;
        }
    }
}

#[tokio::test]
async fn who_does_not_read_is_charged_for_what_waits() {
    let limits = Limits { connection_bytes: 4 << 20, ..Limits::default() };
    let gateway = Running::within(limits).await;
    let mut kv = gateway.kv().await;
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    let request = testudo_etcd::proto::etcdserverpb::PutRequest {
        key: Bytes::from_static(b"k"),
        value,
        ..Default::default()
    };
    kv.put(request).await.expect("put");

    // A range of `k`, asked for again and again, its answers left where they are.
    let range = Bytes::from_static(PUT);
    let mut sender = connect(&gateway).await;
    let mut held = Vec::new();
    let refused = loop {
        let mut request = put_request("7S");
        *request.uri_mut() = http::Uri::from_static("http://x/etcdserverpb.KV/Range");
        let (answer, mut body) = sender.send_request(request, false).expect("a stream");
        body.send_data(range.clone(), true).expect("it is open");
        let answer = answer.await.expect("it answers");
        if answer.headers().contains_key("grpc-status") {
            break answer;
        }
        held.push(answer);
        assert!(held.len() < 5, "more waits than may");
    };
    assert_eq!(refused.headers()["grpc-message"], "etcdserver:%20too%20many%20requests");
    // A further result would find room, but not the message that is made of it.
    assert_eq!(held.len(), 2);
    gateway.assert_alive().await;
}
