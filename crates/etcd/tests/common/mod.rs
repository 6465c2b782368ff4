//! A gateway in front of a cluster that is one service in this process, and may be told to fail.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use testudo_contracts::{Moment, Reading, Service, Store};
use testudo_core::{ClusterId, ReplicaId, Slot, Time, View};
use testudo_etcd::proto::etcdserverpb::kv_client::KvClient;
use testudo_etcd::{Gateway, GatewayInfo, Limits, Position, Submit, SubmitError};
use testudo_kv::Kv;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// The cluster's state as the service sees it.
#[derive(Default)]
struct Memory(BTreeMap<Vec<u8>, Arc<[u8]>>);

impl Reading for Memory {
    fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.0.get(key).cloned()
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    ) {
        let range = self.0.range::<[u8], _>((from, to));
        if reverse {
            range.rev().all(|(key, value)| visit(key, value));
        } else {
            range.into_iter().all(|(key, value)| visit(key, value));
        }
    }
}

impl Store for Memory {
    fn put(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.0.insert(key.to_vec(), value);
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        self.0.remove(key).is_some()
    }
}

/// What the cluster does with operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    Answers,
    /// Operations wait until the mood changes.
    Silent,
    Fails(SubmitError),
    /// Results are not the service's.
    Raves,
}

/// A cluster of one service that nobody replicates.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<(Memory, u64)>>,
    mood: watch::Sender<Mood>,
}

impl Fake {
    fn new() -> Self {
        let mut memory = Memory::default();
        Kv::default().genesis(&mut memory);
        Self { state: Arc::new(Mutex::new((memory, 0))), mood: watch::Sender::new(Mood::Answers) }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// How many operations are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.mood.receiver_count()
    }
}

impl Submit for Fake {
    async fn submit(&self, operation: Arc<[u8]>) -> Result<Arc<[u8]>, SubmitError> {
        let mut moods = self.mood.subscribe();
        let mood = moods.wait_for(|mood| *mood != Mood::Silent).await.map(|mood| *mood);
        match mood {
            Ok(Mood::Fails(error)) => return Err(error),
            Ok(Mood::Raves) => return Ok(Arc::from(&b"\xff\xff"[..])),
            Ok(Mood::Answers) => {}
            Ok(Mood::Silent) | Err(_) => pending().await,
        }
        let mut state = self.state.lock().expect("no test panics in the service");
        let (memory, slot) = &mut *state;
        *slot += 1;
        let moment = Moment { slot: Slot(*slot), time: Time(*slot), elapsed: 1 };
        Ok(Kv::default().execute(memory, &operation, &moment).into())
    }

    fn position(&self) -> Position {
        let slot = self.state.lock().expect("no test panics in the service").1;
        Position { view: View(6), slot: Slot(slot), primary: ReplicaId(2) }
    }
}

/// A running gateway and its cluster.
pub(crate) struct Running {
    pub(crate) cluster: Fake,
    pub(crate) info: GatewayInfo,
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(crate) async fn new() -> Self {
        Self::within(Limits::default()).await
    }

    /// With deadlines that a test can wait for.
    pub(crate) async fn impatient() -> Self {
        Self::within(Limits {
            request: Duration::from_millis(40),
            probe: Duration::from_millis(40),
            receive: Duration::from_millis(40),
            greeting: Duration::from_millis(40),
            health_period: Duration::from_millis(10),
            ..Limits::default()
        })
        .await
    }

    pub(crate) async fn within(limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let replicas =
            (0..4).map(|i| (format!("replica-{i}"), format!("https://replica-{i}:7000")));
        let url = format!("http://{address}");
        let info = GatewayInfo::new(ClusterId([7; 16]), ReplicaId(1), replicas, &[url]);
        let cluster = Fake::new();
        let (stop, stopped) = oneshot::channel();
        let serving =
            Gateway::serve_within(limits, listener, cluster.clone(), info.clone(), async {
                let _dropped_or_sent = stopped.await;
            });
        let served = tokio::spawn(serving);
        Self { cluster, info, address, stop: Some(stop), served }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Endpoint::from_shared(url).expect("a URL").connect().await.expect("it listens")
    }

    pub(crate) async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await).max_decoding_message_size(usize::MAX)
    }

    /// Announces the end.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
    }

    /// Waits until the gateway has ended.
    pub(crate) async fn ended(self) {
        drop(self.stop);
        self.served.await.expect("it does not panic").expect("it does not fail");
    }

    /// Shows that a gateway still does its work.
    pub(crate) async fn assert_alive(&self) {
        let put = testudo_etcd::proto::etcdserverpb::PutRequest {
            key: Bytes::from_static(b"alive"),
            ..Default::default()
        };
        self.kv().await.put(put).await.expect("it is alive");
    }
}

/// What a status says.
pub(crate) fn said<T: std::fmt::Debug>(result: Result<Response<T>, Status>) -> (Code, String) {
    let status = result.expect_err("an error was expected");
    (status.code(), status.message().to_owned())
}

/// Calls a method by its path with a message of raw bytes.
pub(crate) async fn call_raw(
    channel: Channel,
    path: &'static str,
    message: &[u8],
) -> Result<Response<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("the connection stands");
    let path = http::uri::PathAndQuery::from_static(path);
    let message = Bytes::copy_from_slice(message);
    client.unary(Request::new(message), path, RawCodec).await
}

/// Messages that are nothing but bytes.
#[derive(Default)]
pub(crate) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
