//! A gateway in front of a cluster that is one service in this process, and may be told to fail.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod raw;
pub(crate) mod watching;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use testudo_contracts::{Moment, Service};
use testudo_core::{ClusterId, Epoch, ReplicaId, Slot, Time, View};
use testudo_etcd::proto::etcdserverpb::kv_client::KvClient;
use testudo_etcd::proto::etcdserverpb::{DeleteRangeRequest, PutRequest};
use testudo_etcd::{Cluster, Copy, Gateway, GatewayInfo, Limits, Position, SubmitError};
use testudo_kv::{Kv, Settings};
use testudo_state::Map;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use watching::Watching;

/// What the cluster does with operations.
#[derive(Clone, std::marker::Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    Answers,
    /// Whoever asks waits until the mood changes. The gateway's copy stays as it is.
    Silent,
    Fails(SubmitError),
    /// Results are not the service's.
    Raves,
}

/// A cluster of one service that nobody replicates, in a time that passes when a test says so.
#[derive(Clone)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    mood: watch::Sender<Mood>,
    newest: watch::Sender<Option<Arc<Copy>>>,
}

struct State {
    map: Map,
    slot: Slot,
    /// Agreed time after the last slot.
    time: Time,
    /// What has passed since.
    passed: u64,
    /// Operations that were to be ordered, whatever became of them.
    submits: usize,
    /// How often the copy was lost.
    lineage: u64,
}

impl State {
    /// Executes one slot, and as many after it as the service asks for at once.
    fn slot(&mut self, operation: Option<&[u8]>) -> Vec<u8> {
        self.slot.0 += 1;
        self.time.0 += self.passed;
        let elapsed = std::mem::take(&mut self.passed);
        let moment = Moment { slot: self.slot, time: self.time, elapsed };
        Kv::default().advance(&mut self.map, &moment);
        let result = operation.map(|bytes| Kv::default().execute(&mut self.map, bytes, &moment));
        if Kv::default().due(&self.map) == Some(0) {
            self.slot(None);
        }
        result.unwrap_or_default()
    }

    fn copy(&self) -> Arc<Copy> {
        let (slot, time, state) = (self.slot, self.time, self.map.clone());
        Arc::new(Copy { slot, time, state, lineage: self.lineage, taken: Instant::now() })
    }
}

impl Fake {
    fn new(settings: Settings) -> Self {
        let mut map = Map::new();
        Kv { settings }.genesis(&mut map);
        let state =
            State { map, slot: Slot(0), time: Time(1_000_000), passed: 0, submits: 0, lineage: 0 };
        let newest = watch::Sender::new(Some(state.copy()));
        let state = Arc::new(Mutex::new(state));
        Self { state, mood: watch::Sender::new(Mood::Answers), newest }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// The last slot.
    pub(crate) fn slot(&self) -> Slot {
        self.state().slot
    }

    /// The store's revision.
    pub(crate) fn revision(&self) -> i64 {
        Kv::default().revision(&self.state().map)
    }

    /// How many operations were to be ordered.
    pub(crate) fn submits(&self) -> usize {
        self.state().submits
    }

    /// How many operations are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.mood.receiver_count()
    }

    /// Lets time pass and a slot be ordered in which nobody asks for anything.
    pub(crate) fn pass(&self, milliseconds: u64) {
        let mut state = self.state();
        state.passed += milliseconds;
        state.slot(None);
        self.newest.send_replace(Some(state.copy()));
    }

    /// The gateway loses its copy.
    pub(crate) fn lose_copy(&self) {
        self.state().lineage += 1;
        self.newest.send_replace(None);
    }

    /// It has one again.
    pub(crate) fn find_copy(&self) {
        self.newest.send_replace(Some(self.state().copy()));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics in the service")
    }

    /// Waits as the mood has it.
    async fn answers(&self) -> Result<Mood, SubmitError> {
        let mut moods = self.mood.subscribe();
        let mood = moods.wait_for(|mood| *mood != Mood::Silent).await.map(|mood| *mood);
        match mood {
            Ok(Mood::Fails(error)) => Err(error),
            Ok(mood) => Ok(mood),
            Err(_) => pending().await,
        }
    }
}

impl Cluster for Fake {
    async fn submit(&self, operation: Arc<[u8]>) -> Result<Arc<[u8]>, SubmitError> {
        self.state().submits += 1;
        if self.answers().await? == Mood::Raves {
            return Ok(Arc::from(&b"\xff\xff"[..]));
        }
        let mut state = self.state();
        let result = state.slot(Some(&operation));
        if self.newest.borrow().is_some() {
            self.newest.send_replace(Some(state.copy()));
        }
        Ok(result.into())
    }

    async fn read(&self) -> Result<Arc<Copy>, SubmitError> {
        self.answers().await?;
        self.latest()
    }

    fn latest(&self) -> Result<Arc<Copy>, SubmitError> {
        self.newest.borrow().clone().ok_or(SubmitError::NotReady)
    }

    fn updates(&self) -> watch::Receiver<Option<Arc<Copy>>> {
        self.newest.subscribe()
    }

    fn position(&self) -> Position {
        Position { epoch: Epoch(0), view: View(6), slot: self.state().slot, primary: ReplicaId(2) }
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
            leader_period: Duration::from_millis(10),
            leaderless: Duration::from_millis(80),
            ..Limits::default()
        })
        .await
    }

    /// With room for so many bytes.
    pub(crate) async fn with_quota(quota: u64) -> Self {
        Self::begin(Limits::default(), Settings { quota, ..Settings::default() }).await
    }

    pub(crate) async fn within(limits: Limits) -> Self {
        Self::begin(limits, Settings::default()).await
    }

    async fn begin(limits: Limits, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let replicas =
            (0..4).map(|i| (format!("replica-{i}"), format!("https://replica-{i}:7000")));
        let url = format!("http://{address}");
        let info = GatewayInfo::new(ClusterId([7; 16]), ReplicaId(1), replicas, &[url]);
        let cluster = Fake::new(settings);
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

    pub(crate) async fn watching(&self) -> Watching {
        Watching::new(self.channel().await).await
    }

    /// Puts a key.
    pub(crate) async fn put(&self, key: &str, value: &str) {
        let request = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..PutRequest::default()
        };
        self.kv().await.put(request).await.expect("a put");
    }

    /// Deletes a range.
    pub(crate) async fn delete(&self, key: &str, range_end: &str) {
        let request = DeleteRangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::copy_from_slice(range_end.as_bytes()),
            prev_kv: false,
        };
        self.kv().await.delete_range(request).await.expect("a deletion");
    }

    /// Shows that a gateway still does its work.
    pub(crate) async fn assert_alive(&self) {
        self.put("alive", "").await;
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
