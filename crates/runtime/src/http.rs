//! What a node shows of itself: `/metrics`, `/livez`, `/readyz` and `/status`.

use crate::host::{Driven, Event};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::visitors::serve_visitors;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use std::time::Duration;
use testudo_core::Epoch;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the automaton may take to let itself be looked at.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a node looks at its automaton. It is asked on the automaton's thread, and should be quick.
pub struct Probe<P> {
    /// Everything worth showing. If it is an object, how the disk is stands beside it, as `disk`.
    pub status: Box<dyn Fn(&P) -> serde_json::Value + Send + Sync>,
    /// Whether it does its part: caught up, and in a view.
    pub ready: Box<dyn Fn(&P) -> bool + Send + Sync>,
    /// What shows who the members of an epoch are to whoever knows those of the first. It is kept beside evidence against
    /// what a replica signed in that epoch; empty for the first.
    pub lineage: Box<dyn Fn(&P, Epoch) -> Vec<u8> + Send + Sync>,
    /// Numbers for the metrics, each under a name of its own: view, slot and the like.
    pub numbers: Box<dyn Fn(&P) -> Vec<(&'static str, i64)> + Send + Sync>,
}

impl<P> Default for Probe<P> {
    fn default() -> Self {
        Self {
            status: Box::new(|_| serde_json::Value::Null),
            ready: Box::new(|_| true),
            lineage: Box::new(|_, _| Vec::new()),
            numbers: Box::new(|_| Vec::new()),
        }
    }
}

impl<P> std::fmt::Debug for Probe<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}

/// What the endpoints work with.
pub(crate) struct Window<P: Driven> {
    pub(crate) inbox: Arc<Inbox<P::Message, Event<P>>>,
    pub(crate) probe: Arc<Probe<P>>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Looks at the automaton. `None` when it does not answer in time, or has gone.
pub(crate) async fn look<P: Driven, R: Send + 'static>(
    inbox: &Inbox<P::Message, Event<P>>,
    patience: Duration,
    look: impl FnOnce(&P) -> R + Send + 'static,
) -> Option<R> {
    let (answer, answered) = oneshot::channel();
    let is_told = inbox.tell(Event::Look(Box::new(move |automaton| {
        // Whoever asked may have lost patience.
        let _ = answer.send(look(automaton));
    })));
    if !is_told {
        return None;
    }
    timeout(patience, answered).await.ok()?.ok()
}

/// Serves until the node ends.
pub(crate) async fn serve<P: Driven>(listener: TcpListener, window: Window<P>) {
    let router = Router::new()
        .route("/metrics", get(metrics::<P>))
        .route("/livez", get(alive::<P>))
        .route("/readyz", get(ready::<P>))
        .route("/status", get(status::<P>))
        .with_state(Arc::new(window));
    if let Err(error) = serve_visitors(listener, router).await {
        tracing::error!("the metrics endpoint failed: {error}");
    }
}

async fn metrics<P: Driven>(State(window): State<Arc<Window<P>>>) -> Response {
    let probe = window.probe.clone();
    let numbers =
        look::<P, _>(&window.inbox, PATIENCE, move |automaton| (probe.numbers)(automaton)).await;
    for (name, value) in numbers.unwrap_or_default() {
        window.metrics.show(name, value);
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], window.metrics.render()).into_response()
}

async fn alive<P: Driven>(State(window): State<Arc<Window<P>>>) -> Response {
    match look::<P, _>(&window.inbox, PATIENCE, |_| ()).await {
        Some(()) => "ok\n".into_response(),
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, "the automaton does not answer\n").into_response()
        }
    }
}

async fn ready<P: Driven>(State(window): State<Arc<Window<P>>>) -> Response {
    let probe = window.probe.clone();
    match look::<P, _>(&window.inbox, PATIENCE, move |automaton| (probe.ready)(automaton)).await {
        Some(true) => "ok\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

async fn status<P: Driven>(State(window): State<Arc<Window<P>>>) -> Response {
    let probe = window.probe.clone();
    let shown =
        look::<P, _>(&window.inbox, PATIENCE, move |automaton| (probe.status)(automaton)).await;
    match shown {
        Some(mut status) => {
            // What the driver knows stands beside what the automaton does.
            if let Some(fields) = status.as_object_mut() {
                fields.insert("disk".to_owned(), window.metrics.disk());
            }
            ([(header::CONTENT_TYPE, "application/json")], format!("{status}\n")).into_response()
        }
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, "the automaton does not answer\n").into_response()
        }
    }
}
