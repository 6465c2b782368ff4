//! From a path to a method.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use prost::Message;
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::budget::{Account, Charge};
use crate::cluster::Cluster;
use crate::etcd_error;
use crate::grpc::{self, Outcome, Replies, Requests, ResponseBody};
use crate::plain;
use crate::service::{self, Consistency, Method, Patience, Shared};

/// Every service and method that etcd has. What is asked for and is not here does not exist; what
/// is here and nothing below calls is not there yet.
pub(crate) const METHODS: &[(&str, &[&str])] = &[
    ("etcdserverpb.KV", &["Range", "RangeStream", "Put", "DeleteRange", "Txn", "Compact"]),
    ("etcdserverpb.Watch", &["Watch"]),
    (
        "etcdserverpb.Lease",
        &["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"],
    ),
    (
        "etcdserverpb.Cluster",
        &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote"],
    ),
    (
        "etcdserverpb.Maintenance",
        &["Alarm", "Status", "Defragment", "Hash", "HashKV", "Snapshot", "MoveLeader", "Downgrade"],
    ),
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
    ("v3electionpb.Election", &["Campaign", "Proclaim", "Leader", "Observe", "Resign"]),
    ("grpc.health.v1.Health", &["Check", "Watch"]),
];

/// How a request goes on.
enum Way {
    /// Nothing more is to be found out.
    Refused(Status),
    /// One operation of the service.
    Operation(Method, Call),
    /// Anything else. It is kept apart, so that those that are called often need not make room.
    Rare(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

type Answer = Result<Response<ResponseBody>, Status>;

/// Answers a request, whatever it is.
pub(crate) fn answer<C: Cluster>(
    shared: Arc<Shared<C>>,
    account: &Arc<Account>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + Send + use<C> {
    // The request's head is done with before the future begins: there may be thousands of them,
    // and each lies as large as it ever gets.
    let way = way(&shared, account, request);
    async move {
        let answer = match way {
            Way::Refused(status) => Err(status),
            Way::Operation(method, call) => operate(&shared, method, call).await,
            Way::Rare(answer) => answer.await,
        };
        Ok(answer.unwrap_or_else(Status::into_http))
    }
}

fn way<C: Cluster>(
    shared: &Arc<Shared<C>>,
    account: &Arc<Account>,
    request: Request<Incoming>,
) -> Way {
    let (head, body) = request.into_parts();
    let shared = shared.clone();
    if head.version != Version::HTTP_2 || !grpc::is_grpc(&head.headers) {
        return Way::Rare(Box::pin(async move {
            Ok(plain::answer(&shared, &head.method, &head.uri).await)
        }));
    }
    let call = match Call::new(&shared, account, &head.headers, body) {
        Ok(call) => call,
        Err(status) => return Way::Refused(status),
    };
    match Method::at(head.uri.path()) {
        Some(method) => Way::Operation(method, call),
        None => Way::Rare(Box::pin(async move {
            call.check_leader(&shared).await?;
            call_rarely(&shared, head.uri.path(), call).await
        })),
    }
}

async fn operate<C: Cluster>(shared: &Arc<Shared<C>>, method: Method, mut call: Call) -> Answer {
    call.check_leader(shared).await?;
    let (operation, size) = {
        let message = call.bytes(shared).await?;
        let size = message.len();
        (method.operation(message, &mut call.charge)?, size)
    };
    let copy = match Consistency::of(&operation) {
        Consistency::Ordered => {
            // The operation itself is better gone before the waiting begins, of which there may be
            // thousands.
            let encoded = service::encode(&operation, size);
            drop(operation);
            let result = shared.execute(encoded, call.patience).await?;
            return method.answer(shared, &result, call.charge);
        }
        Consistency::Linearizable => shared.linearizable(call.patience).await?,
        Consistency::Serializable => shared.serializable()?,
    };
    let result = copy.result(&operation, call.charge.account())?;
    method.answer(shared, &result, call.charge)
}

/// The methods that are no operation.
async fn call_rarely<C: Cluster>(shared: &Arc<Shared<C>>, path: &str, mut call: Call) -> Answer {
    match path {
        "/etcdserverpb.Cluster/MemberList" => {
            call.bytes(shared).await?;
            call.answer(&service::member_list(shared))
        }
        "/etcdserverpb.Maintenance/Status" => {
            call.bytes(shared).await?;
            call.answer(&service::status(shared).await?)
        }
        "/etcdserverpb.Maintenance/Alarm" => {
            let request = call.message(shared).await?;
            let answer = service::alarm(shared, &request, call.patience).await?;
            call.answer(&answer)
        }
        "/etcdserverpb.KV/Compact" => {
            let request = call.message(shared).await?;
            let sweep = Patience::new(shared.limits.sweep, call.timeout);
            let answer = service::compact(shared, &request, call.patience, sweep).await?;
            call.answer(&answer)
        }
        "/etcdserverpb.Lease/LeaseGrant" => {
            let request = call.message(shared).await?;
            let answer = service::lease_grant(shared, &request, call.patience).await?;
            call.answer(&answer)
        }
        "/etcdserverpb.Lease/LeaseKeepAlive" => {
            let serving = shared.clone();
            Ok(call.converse(shared, |requests, replies| {
                service::lease_keep_alive(serving, requests, replies)
            }))
        }
        "/etcdserverpb.Maintenance/Defragment" => {
            call.bytes(shared).await?;
            call.answer(&service::defragment(shared))
        }
        "/etcdserverpb.Maintenance/Hash" => {
            call.bytes(shared).await?;
            let _held = call.hold(service::HASHING_BYTES)?;
            let answer = service::hash(shared, call.patience).await?;
            call.answer(&answer)
        }
        "/etcdserverpb.Maintenance/HashKV" => {
            let request = call.message(shared).await?;
            let _held = call.hold(service::HASHING_BYTES)?;
            let answer = service::hash_kv(shared, &request, call.patience).await?;
            call.answer(&answer)
        }
        "/etcdserverpb.Watch/Watch" => {
            let serving = shared.clone();
            Ok(call
                .converse(shared, |requests, replies| service::watch(serving, requests, replies)))
        }
        "/grpc.health.v1.Health/Check" => {
            let request = call.message(shared).await?;
            call.answer(&service::health_check(shared, &request).await?)
        }
        "/grpc.health.v1.Health/Watch" => {
            let request = call.message(shared).await?;
            let serving = shared.clone();
            Ok(call.converse(shared, |_, replies| service::health_watch(serving, request, replies)))
        }
        _ => Err(missing(path)),
    }
}

/// What a method that has no arm answers.
fn missing(path: &str) -> Status {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'))
    else {
        return Status::unimplemented(format!("malformed method name: {path:?}"));
    };
    match METHODS.iter().find(|(name, _)| *name == service) {
        None => Status::unimplemented(format!("unknown service {service}")),
        Some((_, methods)) if methods.contains(&method) => {
            etcd_error::not_implemented(service, method)
        }
        Some(_) => Status::unimplemented(format!("unknown method {method} for service {service}")),
    }
}

/// A gRPC request in hand.
struct Call {
    body: Incoming,
    charge: Charge,
    /// The time that the client gives the request.
    timeout: Option<Duration>,
    patience: Patience,
    /// The client would rather hear that no quorum answers than wait for one.
    requires_leader: bool,
}

impl Call {
    fn new<C>(
        shared: &Shared<C>,
        account: &Arc<Account>,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Self, Status> {
        let charge = account.charge(grpc::OVERHEAD).ok_or_else(etcd_error::too_many_requests)?;
        grpc::check_encoding(headers)?;
        let requires_leader =
            headers.get("hasleader").map(HeaderValue::as_bytes) == Some(b"true".as_slice());
        let timeout = grpc::timeout(headers);
        let patience = Patience::new(shared.limits.request, timeout);
        Ok(Self { body, charge, timeout, patience, requires_leader })
    }

    /// Refuses, if the client wants that, while the cluster does not answer.
    async fn check_leader<C: Cluster>(&self, shared: &Shared<C>) -> Result<(), Status> {
        if !self.requires_leader || !shared.pulse.is_failing() {
            return Ok(());
        }
        // Seldom, and large.
        if Box::pin(shared.is_answering()).await { Ok(()) } else { Err(etcd_error::no_leader()) }
    }

    /// The request's message, undecoded.
    async fn bytes<C>(&mut self, shared: &Shared<C>) -> Result<Bytes, Status> {
        let read = grpc::read_message(&mut self.body, &mut self.charge);
        match timeout(shared.limits.receive, read).await {
            Ok(bytes) => bytes,
            Err(_) => Err(etcd_error::deadline_exceeded()),
        }
    }

    async fn message<M: Message + Default, C>(&mut self, shared: &Shared<C>) -> Result<M, Status> {
        grpc::decode(self.bytes(shared).await?)
    }

    /// Charges for what a method takes up meanwhile.
    fn hold(&self, bytes: usize) -> Result<Charge, Status> {
        self.charge.account().reserve(bytes).ok_or_else(etcd_error::too_many_requests)
    }

    /// Answers with a stream, until its script ends or there is a reason to end it.
    fn converse<C: Cluster, F>(
        self,
        shared: &Shared<C>,
        script: impl FnOnce(Requests, Replies) -> F,
    ) -> Response<ResponseBody>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut stopping = shared.stopping.clone();
        let lost = self.requires_leader.then(|| Box::pin(shared.leadership.lost()));
        let deadline = self.timeout.map(|timeout| Box::pin(sleep(timeout)));
        let requests = Requests::new(self.body, self.charge.account().clone());
        let run = |replies| {
            let script = script(requests, replies);
            async move {
                tokio::select! {
                    outcome = script => outcome,
                    _ = stopping.wait_for(|stopping| *stopping) => Err(etcd_error::stopped()),
                    () = if_any(lost) => Err(etcd_error::no_leader()),
                    () = if_any(deadline) => Err(etcd_error::deadline_exceeded()),
                }
            }
        };
        grpc::converse(run, self.charge)
    }

    fn answer(self, message: &impl Message) -> Answer {
        grpc::answer(message, self.charge)
    }
}

/// Waits for a future that there may be none of.
async fn if_any(future: Option<impl Future<Output = ()>>) {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The services and methods in the text of a protobuf file.
    fn declared(proto: &str) -> Vec<(String, Vec<String>)> {
        let word = |line: &str, index| line.split([' ', '(', ';']).nth(index).map(str::to_owned);
        let mut package = String::new();
        let mut services: Vec<(String, Vec<String>)> = Vec::new();
        for line in proto.lines().map(str::trim) {
            if line.starts_with("package ") {
                package = word(line, 1).expect("a package has a name");
            } else if line.starts_with("service ") {
                let name = word(line, 1).expect("a service has a name");
                services.push((format!("{package}.{name}"), Vec::new()));
            } else if line.starts_with("rpc ") {
                let name = word(line, 1).expect("a method has a name");
                services.last_mut().expect("methods are in services").1.push(name);
            }
        }
        services
    }

    #[test]
    fn every_method_of_the_protocol_is_known() {
        let protos = [
            include_str!("../proto/rpc.proto"),
            include_str!("../proto/lock.proto"),
            include_str!("../proto/election.proto"),
            include_str!("../proto/health.proto"),
        ];
        let declared: Vec<_> = protos.into_iter().flat_map(declared).collect();
        let known: Vec<(String, Vec<String>)> = METHODS
            .iter()
            .map(|(service, methods)| {
                ((*service).to_owned(), methods.iter().map(|&method| method.to_owned()).collect())
            })
            .collect();
        assert_eq!(known, declared);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (path, text) in [
            (
                "/etcdserverpb.KV/RangeStream",
                "testudo: etcdserverpb.KV/RangeStream is not implemented yet",
            ),
            ("/etcdserverpb.KV/Get", "unknown method Get for service etcdserverpb.KV"),
            ("/etcdserverpb.Kv/Range", "unknown service etcdserverpb.Kv"),
            ("/a/b/c", "unknown service a/b"),
            ("/", "malformed method name: \"/\""),
        ] {
            let status = missing(path);
            assert_eq!(status.code(), tonic::Code::Unimplemented, "{path}");
            assert_eq!(status.message(), text);
        }
    }
}
