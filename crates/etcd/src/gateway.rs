//! One port: connections come in, are told apart by their first bytes, and are served until they
//! end or the gateway does.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::budget::Account;
use crate::cluster::Cluster;
use crate::info::GatewayInfo;
use crate::leadership::Leadership;
use crate::route;
use crate::service::Shared;

/// The first bytes of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long to wait for the rest of a preface that has begun.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);
/// How long to wait after a failure to accept, which is a lack of something that others must free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that a client may send on one stream, and on all, before we have read them. The latter also
/// decides how many small frames may lie unread before the connection is closed, some thousands.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of one HTTP/2 frame from a client: the smallest limit that there is, so that many streams
/// get their turn.
const FRAME: u32 = 16 << 10;
/// Bytes of the headers of one request, by HTTP/2's way of counting.
const HEADERS: u32 = 64 << 10;
/// Bytes that one stream may have queued for a client that reads slowly, but for its last message.
const SEND_BUFFER: usize = 64 << 10;
/// Bytes of the head of an HTTP/1.1 request.
const HTTP1_BUFFER: usize = 16 << 10;

/// What a gateway lets its clients cost, and for how long it waits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once. A further one is closed as soon as it is accepted.
    pub connections: usize,
    /// Streams at once on one connection. Clients keep further ones back, as HTTP/2 has it.
    pub streams: u32,
    /// Bytes held for clients at once: requests not executed and answers not sent. A request
    /// beyond is answered `etcdserver: too many requests`.
    pub bytes: usize,
    /// The same for one connection.
    pub connection_bytes: usize,
    /// How long a request waits for the cluster before `etcdserver: request timed out`.
    pub request: Duration,
    /// How long a client may take to send the message of a request.
    pub receive: Duration,
    /// How long the cluster has to answer when only its health is in question.
    pub probe: Duration,
    /// How long a connection may be silent before its first bytes, and HTTP/1.1 between requests.
    pub greeting: Duration,
    /// How often an idle HTTP/2 connection is asked whether it is still there; it has 20 s to say.
    pub keep_alive: Duration,
    /// How often the cluster is asked while there are streams that want to end when it is silent.
    pub leader_period: Duration,
    /// How long it may be silent before they do.
    pub leaderless: Duration,
    /// How long a client of a compaction waits for what is forgotten to be gone, if it wants to.
    pub sweep: Duration,
    /// What watches may cost.
    pub watches: testudo_kv::watch::Limits,
    /// How often an idle watch that asks for it is told how far it is.
    pub progress_period: Duration,
    /// How often a health watch looks.
    pub health_period: Duration,
    /// How long requests that are under way have to end when the gateway stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            streams: 1 << 14,
            bytes: 1 << 30,
            connection_bytes: 256 << 20,
            request: Duration::from_secs(7),
            receive: Duration::from_secs(30),
            probe: Duration::from_secs(2),
            greeting: Duration::from_secs(10),
            keep_alive: Duration::from_secs(120),
            leader_period: Duration::from_secs(1),
            leaderless: Duration::from_secs(6),
            sweep: Duration::from_secs(120),
            watches: testudo_kv::watch::Limits::default(),
            progress_period: Duration::from_secs(600),
            health_period: Duration::from_secs(5),
            drain: Duration::from_secs(10),
        }
    }
}

/// The gateway: etcd's v3 API in front of whatever executes operations.
#[derive(Clone, Copy, Debug)]
pub struct Gateway;

impl Gateway {
    /// Serves connections with default limits until `shutdown` is ready and the requests then under
    /// way have ended.
    ///
    /// It spawns a task for each connection and each request on the runtime that it runs in, and a
    /// few of its own, which end with it.
    ///
    /// # Errors
    /// When the listener has no address any more. Failures to accept are waited out.
    pub async fn serve<C: Cluster>(
        listener: TcpListener,
        cluster: C,
        info: GatewayInfo,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        Self::serve_within(Limits::default(), listener, cluster, info, shutdown).await
    }

    /// Serves like [`Gateway::serve`], within limits of the caller's.
    ///
    /// # Errors
    /// As [`Gateway::serve`].
    pub async fn serve_within<C: Cluster>(
        limits: Limits,
        listener: TcpListener,
        cluster: C,
        info: GatewayInfo,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        listener.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared::new(cluster, info, limits, stopping));
        let mut attendants = JoinSet::new();
        attendants.spawn({
            let shared = shared.clone();
            async move { Leadership::attend(&shared).await }
        });
        attendants.spawn({
            let shared = shared.clone();
            async move { shared.hub.attend().await }
        });
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                Some(_ended) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) if connections.len() < shared.limits.connections => {
                    connections.spawn(serve_connection(shared.clone(), stream, graceful.watcher()));
                }
                Ok(_) => {}
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
        drop(listener);
        stop.send_replace(true);
        // Whatever has not ended by then is cut off.
        let _in_time = timeout(shared.limits.drain, graceful.shutdown()).await;
        Ok(())
    }
}

/// Serves one connection to its end. How it ends is the client's affair.
async fn serve_connection<C: Cluster>(shared: Arc<Shared<C>>, stream: TcpStream, watcher: Watcher) {
    // Answers are written whole; holding them back would only delay them.
    let _best_effort = stream.set_nodelay(true);
    let mut stopping = shared.stopping.clone();
    let greeting = tokio::select! {
        greeting = timeout(shared.limits.greeting, speaks_http2(&stream)) => greeting,
        _ = stopping.wait_for(|stopping| *stopping) => return,
    };
    let Ok(Ok(is_http2)) = greeting else { return };
    let account = Account::new(shared.budget.clone(), shared.limits.connection_bytes);
    let service = {
        let shared = shared.clone();
        service_fn(move |request| route::answer(shared.clone(), &account, request))
    };
    let io = TokioIo::new(stream);
    if is_http2 {
        let connection = http2(&shared.limits).serve_connection(io, service);
        let _ended = watcher.watch(connection).await;
    } else {
        let connection = http1(&shared.limits).serve_connection(io, service);
        let _ended = watcher.watch(connection).await;
    }
}

fn http2(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEADERS)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams)
        .keep_alive_interval(limits.keep_alive);
    builder
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.greeting)
        .max_buf_size(HTTP1_BUFFER);
    builder
}

/// Whether the client's first bytes are those of HTTP/2. They are left where they are.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut start).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(&start[..length]) {
            return Ok(false);
        }
        if length == PREFACE.len() {
            return Ok(true);
        }
        // What has come stays readable, so waiting for more has to be by the clock.
        sleep(PREFACE_PAUSE).await;
    }
}
