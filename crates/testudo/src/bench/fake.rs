//! A server that does what the bench needs of etcd, with one way to be wrong.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use testudo_etcd::proto::etcdserverpb as pb;
use testudo_etcd::proto::etcdserverpb::kv_server::{Kv, KvServer};
use testudo_etcd::proto::etcdserverpb::lease_server::{Lease, LeaseServer};
use testudo_etcd::proto::etcdserverpb::watch_request::RequestUnion;
use testudo_etcd::proto::etcdserverpb::watch_server::{Watch, WatchServer};
use testudo_etcd::proto::mvccpb::{Event, KeyValue};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::Stream;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    None,
    /// It refuses everything.
    Refuses,
    /// The tenth event of each watch is left out.
    Skips,
    /// The last events of each watch are left out: all from the tenth on.
    Stops,
    /// The tenth event of each watch comes again.
    Repeats,
    /// The tenth event of each watch has another value.
    Alters,
    /// The tenth event of each watch is a cancellation.
    Cancels,
    /// Leases are gone at their second renewal.
    Forgets,
    /// Keys of leases are not there.
    Sheds,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Told = UnboundedSender<Result<pb::WatchResponse, Status>>;

#[derive(Default)]
struct State {
    revision: i64,
    keys: BTreeMap<Bytes, KeyValue>,
    /// Watches by the key that they are on: the stream, the number there, and how many events it was sent.
    watches: Vec<(Bytes, Told, i64, usize)>,
    renewals: BTreeMap<i64, usize>,
}

/// The server; clones are the same one.
#[derive(Clone)]
pub(super) struct Fake {
    fault: Fault,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Serves, and gives the address.
    pub(super) async fn serve(fault: Fault) -> String {
        let fake = Self { fault, state: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let server = tonic::transport::Server::builder()
            .add_service(KvServer::new(fake.clone()))
            .add_service(WatchServer::new(fake.clone()))
            .add_service(LeaseServer::new(fake))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        address
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self) -> Result<(), Status> {
        match self.fault {
            Fault::Refuses => Err(Status::resource_exhausted("etcdserver: too many requests")),
            _ => Ok(()),
        }
    }

    fn set(&self, state: &mut State, request: pb::PutRequest) -> i64 {
        state.revision += 1;
        if request.lease == 0 || self.fault != Fault::Sheds {
            let revision = state.revision;
            let kv = state.keys.entry(request.key.clone()).or_default();
            kv.key = request.key;
            kv.value = request.value;
            kv.version += 1;
            kv.mod_revision = revision;
            let kv = kv.clone();
            self.tell(state, &kv);
        }
        state.revision
    }

    fn tell(&self, state: &mut State, kv: &KeyValue) {
        for (key, stream, watch_id, sent) in &mut state.watches {
            if *key != kv.key {
                continue;
            }
            *sent += 1;
            let is_turn = *sent == 10;
            let mut kv = kv.clone();
            if is_turn && self.fault == Fault::Alters {
                kv.value = "another value".into();
            }
            let event = Event { kv: Some(kv), ..Event::default() };
            let mut events = vec![event];
            match self.fault {
                Fault::Skips if is_turn => events.clear(),
                Fault::Stops if *sent >= 10 => events.clear(),
                Fault::Repeats if is_turn => events.push(events[0].clone()),
                _ => {}
            }
            let canceled = is_turn && self.fault == Fault::Cancels;
            let watch_id = *watch_id;
            let answer = pb::WatchResponse { watch_id, canceled, events, ..Default::default() };
            // The stream may have ended.
            let _ = stream.send(Ok(answer));
        }
    }
}

#[tonic::async_trait]
impl Kv for Fake {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        self.refuse()?;
        let request = request.into_inner();
        let state = self.state();
        let end = request.range_end;
        let of = |key: &Bytes| {
            if end.is_empty() { *key == request.key } else { *key >= request.key && *key < end }
        };
        let kvs: Vec<_> =
            state.keys.iter().filter(|(key, _)| of(key)).map(|(_, kv)| kv.clone()).collect();
        let count = kvs.len() as i64;
        Ok(Response::new(pb::RangeResponse { kvs, count, ..Default::default() }))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        self.refuse()?;
        let revision = self.set(&mut self.state(), request.into_inner());
        let header = Some(pb::ResponseHeader { revision, ..Default::default() });
        Ok(Response::new(pb::PutResponse { header, prev_kv: None }))
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Err(Status::unimplemented("the bench does not delete"))
    }

    /// A compare of a key's revision, then a put, or else a look at the key.
    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        self.refuse()?;
        let mut request = request.into_inner();
        let compare = request.compare.remove(0);
        let mut state = self.state();
        let kv = state.keys.get(&compare.key).cloned();
        let now = kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let succeeded = compare.target_union == Some(pb::compare::TargetUnion::ModRevision(now));
        if let Some(pb::request_op::Request::RequestPut(put)) = request.success.remove(0).request
            && succeeded
        {
            self.set(&mut state, put);
        }
        let range = pb::RangeResponse { kvs: kv.into_iter().collect(), ..Default::default() };
        let looked = pb::response_op::Response::ResponseRange(range);
        let responses = vec![pb::ResponseOp { response: Some(looked) }];
        let revision = state.revision;
        let header = Some(pb::ResponseHeader { revision, ..Default::default() });
        Ok(Response::new(pb::TxnResponse { header, succeeded, responses }))
    }

    async fn compact(
        &self,
        _: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        Err(Status::unimplemented("the bench does not compact"))
    }

    type RangeStreamStream = Answers<pb::RangeStreamResponse>;

    async fn range_stream(
        &self,
        _: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("the bench does not stream"))
    }
}

#[tonic::async_trait]
impl Watch for Fake {
    type WatchStream = Answers<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let (tell, told) = unbounded_channel();
        let fake = self.clone();
        tokio::spawn(async move {
            let mut watch_id = -1;
            while let Ok(Some(request)) = requests.message().await {
                let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
                    continue;
                };
                watch_id += 1;
                fake.state().watches.push((create.key, tell.clone(), watch_id, 0));
                let answer = pb::WatchResponse { watch_id, created: true, ..Default::default() };
                // The stream may have ended.
                let _ = tell.send(Ok(answer));
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(told))))
    }
}

#[tonic::async_trait]
impl Lease for Fake {
    type LeaseKeepAliveStream = Answers<pb::LeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let ttl = request.into_inner().ttl;
        let mut state = self.state();
        let id = state.renewals.len() as i64 + 1;
        state.renewals.insert(id, 0);
        Ok(Response::new(pb::LeaseGrantResponse { id, ttl, ..Default::default() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.state().renewals.remove(&request.into_inner().id);
        Ok(Response::new(pb::LeaseRevokeResponse::default()))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let mut requests = request.into_inner();
        let (tell, told) = unbounded_channel();
        let fake = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(pb::LeaseKeepAliveRequest { id })) = requests.message().await {
                let mut state = fake.state();
                let renewals = state.renewals.entry(id).or_default();
                *renewals += 1;
                let is_gone = fake.fault == Fault::Forgets && *renewals > 1;
                let ttl = if is_gone { 0 } else { 1 };
                let answer = pb::LeaseKeepAliveResponse { id, ttl, ..Default::default() };
                // The stream may have ended.
                let _ = tell.send(Ok(answer));
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(told))))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented("the bench does not ask"))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        Err(Status::unimplemented("the bench does not ask"))
    }
}
