//! What is asked without gRPC: version, health and metrics, for people, probes and scrapers.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::cluster::Cluster;
use crate::grpc::ResponseBody;
use crate::info::VERSION;
use crate::service::Shared;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers a request that is not gRPC. Its body is not read.
pub(crate) async fn answer<C: Cluster>(
    shared: &Shared<C>,
    method: &Method,
    path: &str,
) -> Response<ResponseBody> {
    if path.starts_with("/v3/") {
        return not_implemented(path);
    }
    let is_known = ["/version", "/health", "/livez", "/readyz", "/metrics"].contains(&path);
    if !is_known {
        return response(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned());
    }
    if method != Method::GET {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n".to_owned());
    }
    match path {
        "/version" => response(StatusCode::OK, JSON, version()),
        "/health" if shared.is_answering().await => {
            response(StatusCode::OK, JSON, r#"{"health":"true","reason":""}"#.to_owned())
        }
        "/health" => {
            let text = r#"{"health":"false","reason":"RAFT NO LEADER"}"#.to_owned();
            response(StatusCode::SERVICE_UNAVAILABLE, JSON, text)
        }
        "/readyz" if !shared.is_answering().await => {
            let text = "[-]linearizable_read failed: etcdserver: no leader\n".to_owned();
            response(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
        }
        "/metrics" => response(StatusCode::OK, METRICS, metrics(shared)),
        _ => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
    }
}

fn response(status: StatusCode, kind: HeaderValue, text: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Plain(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// The version served, and that of the whole cluster: the same without its last number.
fn version() -> String {
    let minor = VERSION.rsplit_once('.').map_or(VERSION, |(minor, _)| minor);
    format!(r#"{{"etcdserver":"{VERSION}","etcdcluster":"{minor}.0"}}"#)
}

/// The JSON mirror of the gRPC services. The path goes into the text only if no quoting is needed.
fn not_implemented(path: &str) -> Response<ResponseBody> {
    let is_clean = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_-.".contains(&byte));
    let path = if is_clean { path } else { "/v3" };
    let text = format!("testudo: {path} is not implemented yet");
    let body = format!(r#"{{"error":"{text}","message":"{text}","code":12}}"#);
    response(StatusCode::NOT_IMPLEMENTED, JSON, body)
}

/// Metrics under the names that etcd's dashboards and alerts look for.
fn metrics<C: Cluster>(shared: &Shared<C>) -> String {
    let position = shared.cluster.position();
    let counters = &shared.counters;
    let samples = [
        (
            "etcd_server_has_leader",
            "gauge",
            "Whether the cluster answered when it was asked last.",
            u64::from(!shared.pulse.is_failing()),
        ),
        (
            "etcd_server_leader_changes_seen_total",
            "counter",
            "The view in which the cluster orders.",
            position.view.0,
        ),
        (
            "etcd_server_proposals_committed_total",
            "gauge",
            "Operations that the cluster answered through this gateway.",
            counters.answered.load(Ordering::Relaxed),
        ),
        (
            "etcd_server_proposals_pending",
            "gauge",
            "Operations under way through this gateway.",
            u64::try_from(counters.pending.load(Ordering::Relaxed)).unwrap_or(0),
        ),
        (
            "etcd_server_proposals_failed_total",
            "counter",
            "Operations that got no answer through this gateway.",
            counters.failed.load(Ordering::Relaxed),
        ),
        (
            "etcd_mvcc_db_total_size_in_bytes",
            "gauge",
            "Bytes of the store as the gateway has it.",
            shared.serializable().and_then(|copy| copy.status()).map_or(0, |store| store.bytes),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in samples {
        // Writing to a string does not fail.
        let _written = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}
