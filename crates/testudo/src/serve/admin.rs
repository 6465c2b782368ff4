//! What a gateway shows of itself, in plain HTTP that only reads: `/status`, `/metrics`, `/livez`, `/readyz`.

use super::link::Link;
use crate::failure::{Failure, Outcome, plain};
use crate::status::gateway::{Claim, Standing, Store};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::net::SocketAddr;
use std::sync::Arc;
use testudo_contracts::Moment;
use testudo_core::Decode as _;
use testudo_etcd::{Cluster as _, Copy};
use testudo_kv::{Kv, Operation, Response as Told};
use testudo_runtime::serve_visitors;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Who is asked.
#[derive(Clone)]
pub(super) struct Window {
    /// The cluster's name.
    pub(super) cluster: String,
    /// The gateway's number.
    pub(super) gateway: u16,
    /// Where it serves etcd.
    pub(super) etcd: SocketAddr,
    /// What it stands on.
    pub(super) link: Link,
}

/// Serves until it is aborted.
pub(super) async fn start(address: &str, window: Window) -> Outcome<JoinHandle<()>> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let what = plain(&error);
        Failure::failed(format!("cannot listen on {address} for those who ask how it is: {what}"))
    })?;
    let router = Router::new()
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Arc::new(window));
    Ok(tokio::spawn(async move {
        if let Err(error) = serve_visitors(listener, router).await {
            tracing::error!("nobody can ask any more how the gateway is: {error}");
        }
    }))
}

async fn status(State(window): State<Arc<Window>>) -> Response {
    // Plain fields always serialise.
    let claim = serde_json::to_string(&window.claim()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], claim + "\n").into_response()
}

async fn metrics(State(window): State<Arc<Window>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], window.link.metrics()).into_response()
}

async fn ready(State(window): State<Arc<Window>>) -> Response {
    match window.link.latest() {
        Ok(_) => "ok\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

impl Window {
    fn claim(&self) -> Claim {
        let position = self.link.position();
        Claim {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster: self.cluster.clone(),
            gateway: self.gateway,
            pid: std::process::id(),
            etcd: self.etcd.to_string(),
            standing: match self.link.standing() {
                testudo_client::Standing::Fetching => Standing::Fetching,
                testudo_client::Standing::Following(upstream) => Standing::Following(upstream.0),
                testudo_client::Standing::Diverged(slot) => Standing::Diverged(slot.0),
            },
            slot: position.slot.0,
            view: position.view.0,
            connections: self.link.connections() as u64,
            unanswered: self.link.unanswered() as u64,
            store: self.link.latest().ok().map(|copy| store(&copy)),
        }
    }
}

fn store(copy: &Copy) -> Store {
    let service = Kv::default();
    let status = service.status(&copy.state, copy.time);
    let moment = Moment { slot: copy.slot, time: copy.time, elapsed: 0 };
    let leases = service.read(&copy.state, &Operation::LeaseLeases, &moment);
    let leases = leases.and_then(|told| match Told::from_bytes(&told) {
        Ok(Told::LeaseLeases(leases)) => Some(leases.leases.len() as u64),
        _ => None,
    });
    Store {
        revision: status.revision,
        compacted: status.compacted,
        keys: status.keys,
        bytes: status.bytes,
        quota: status.quota,
        is_full: status.alarm,
        leases,
    }
}
