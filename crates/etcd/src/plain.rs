//! What is asked without gRPC: version, health and metrics, for people, probes and scrapers.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode, Uri};

use crate::cluster::Cluster;
use crate::grpc::ResponseBody;
use crate::info::VERSION;
use crate::metrics;
use crate::service::Shared;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers a request that is not gRPC. Its body is not read.
pub(crate) async fn answer<C: Cluster>(
    shared: &Shared<C>,
    method: &Method,
    uri: &Uri,
) -> Response<ResponseBody> {
    let path = uri.path();
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
        "/health" => health(shared, uri.query().unwrap_or_default()).await,
        "/readyz" if !shared.is_answering().await => {
            let text = "[-]linearizable_read failed: etcdserver: no leader\n".to_owned();
            response(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
        }
        "/metrics" => response(StatusCode::OK, METRICS, metrics::text(shared)),
        _ => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
    }
}

/// Whether all is well. A probe may leave out that the store is full (`exclude=NOSPACE`), and whether
/// a quorum answers (`serializable=true`), as of etcd.
async fn health<C: Cluster>(shared: &Shared<C>, query: &str) -> Response<ResponseBody> {
    let asks_for = |option: &str| query.split('&').any(|part| part == option);
    let reason = match shared.cluster.latest() {
        Err(_) => "RAFT NO LEADER",
        Ok(copy) if copy.status().alarm && !asks_for("exclude=NOSPACE") => "ALARM NOSPACE",
        Ok(_) if !asks_for("serializable=true") && !shared.is_answering().await => "RAFT NO LEADER",
        Ok(_) => "",
    };
    let status = if reason.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = format!(r#"{{"health":"{}","reason":"{reason}"}}"#, reason.is_empty());
    response(status, JSON, text)
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
