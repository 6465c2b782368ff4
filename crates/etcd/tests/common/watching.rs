//! A watch stream, as a test drives it.

use bytes::Bytes;
use testudo_etcd::proto::etcdserverpb::watch_client::WatchClient;
use testudo_etcd::proto::etcdserverpb::watch_request::RequestUnion;
use testudo_etcd::proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use testudo_etcd::proto::mvccpb::Event;
use testudo_etcd::proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// A stream of watches and its client.
pub(crate) struct Watching {
    requests: Option<mpsc::Sender<WatchRequest>>,
    answers: Streaming<WatchResponse>,
}

impl Watching {
    pub(crate) async fn new(channel: Channel) -> Self {
        Self::open(channel, &[]).await.expect("a stream")
    }

    /// Opens a stream with metadata.
    pub(crate) async fn open(
        channel: Channel,
        metadata: &[(&'static str, &'static str)],
    ) -> Result<Self, Status> {
        let (sender, receiver) = mpsc::channel(64);
        let mut request = tonic::Request::new(ReceiverStream::new(receiver));
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().expect("a header"));
        }
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let answers = client.watch(request).await?.into_inner();
        Ok(Self { requests: Some(sender), answers })
    }

    pub(crate) async fn ask(&self, union: Option<RequestUnion>) {
        let request = WatchRequest { request_union: union };
        let requests = self.requests.as_ref().expect("the client has not finished");
        requests.send(request).await.expect("the stream stands");
    }

    /// Asks for a watch and gives its answer.
    pub(crate) async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.ask(Some(RequestUnion::CreateRequest(request))).await;
        let answer = self.next().await;
        assert!(answer.created, "{answer:?}");
        answer
    }

    pub(crate) async fn cancel(&self, watch_id: i64) {
        self.ask(Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))).await;
    }

    pub(crate) async fn request_progress(&self) {
        self.ask(Some(RequestUnion::ProgressRequest(WatchProgressRequest {}))).await;
    }

    /// Asks for nothing more.
    pub(crate) fn finish(&mut self) {
        self.requests = None;
    }

    pub(crate) async fn next(&mut self) -> WatchResponse {
        self.answers.message().await.expect("no end").expect("an answer")
    }

    /// The status that ends the stream.
    pub(crate) async fn ended(mut self) -> Status {
        loop {
            match self.answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended as if all were well"),
                Err(status) => return status,
            }
        }
    }

    /// The next `count` events of one watch, whatever answers they come in.
    pub(crate) async fn events(&mut self, watch_id: i64, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let answer = self.next().await;
            assert_eq!((answer.watch_id, answer.canceled), (watch_id, false), "{answer:?}");
            let last = answer.events.last().and_then(|event| event.kv.as_ref());
            let revision = answer.header.map_or(0, |header| header.revision);
            assert!(last.is_some_and(|kv| kv.mod_revision <= revision), "{answer:?}");
            events.extend(answer.events);
        }
        assert_eq!(events.len(), count, "{events:?}");
        events
    }
}

/// Asks for a watch of a range.
pub(crate) fn watch(key: &str, range_end: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(range_end.as_bytes()),
        ..WatchCreateRequest::default()
    }
}

/// What an event says, in short: `5 a=1 (was 0)`, `6 -a`.
pub(crate) fn told(events: &[Event]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let one = |event: &Event| {
        let kv = event.kv.as_ref().expect("every event has a key");
        let was = event.prev_kv.as_ref();
        let was = was.map_or(String::new(), |before| format!(" (was {})", text(&before.value)));
        let (key, revision) = (text(&kv.key), kv.mod_revision);
        if event.r#type == i32::from(EventType::Delete) {
            assert_eq!((kv.create_revision, kv.version, kv.lease), (0, 0, 0), "{event:?}");
            assert!(kv.value.is_empty(), "{event:?}");
            format!("{revision} -{key}{was}")
        } else {
            format!("{revision} {key}={}{was}", text(&kv.value))
        }
    };
    events.iter().map(one).collect()
}
