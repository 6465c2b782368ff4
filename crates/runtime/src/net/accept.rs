//! Accepting whoever dials and can say who he is.

use super::Network;
use super::channel::{self, End};
use super::hello::{Answer, Hello};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use testudo_core::{Message, Peer};
use testudo_keys::peer_of;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long encrypting and the first words may take, together.
const SETUP: Duration = Duration::from_secs(5);
/// Connections that have not said yet whose they are. More wait in the system's queue.
const STRANGERS: usize = 128;
/// Connections of clients. More are refused.
const CLIENTS: usize = 1024;

/// Accepts until the network stops.
pub(super) async fn run<M: Message + Send + Sync + 'static>(
    network: Arc<Network<M>>,
    listener: TcpListener,
    config: Arc<ServerConfig>,
) {
    let acceptor = TlsAcceptor::from(config);
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let clients = Arc::new(Semaphore::new(CLIENTS));
    let mut stopping = network.shared.stopping.clone();
    loop {
        let Ok(stranger) = strangers.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => return,
        };
        match accepted {
            Ok((tcp, address)) => {
                let greeting = greet(network.clone(), acceptor.clone(), tcp, clients.clone());
                tokio::spawn(serve(network.clone(), address, stranger, greeting));
            }
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only burn time.
                tracing::warn!("no connection can be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve<M: Message + Send + Sync + 'static>(
    network: Arc<Network<M>>,
    address: SocketAddr,
    stranger: OwnedSemaphorePermit,
    greeting: impl Future<Output = Result<Greeted, End>>,
) {
    let end = match timeout(SETUP, greeting).await {
        Err(_) => End::Timeout,
        Ok(Err(end)) => end,
        Ok(Ok((stream, peer, _client))) => {
            drop(stranger);
            tracing::debug!(?peer, %address, "accepted");
            let (number, outbox, replaced) = network.register(peer);
            let end = tokio::select! {
                end = channel::run(stream, peer, &outbox, &network.shared) => end,
                () = replaced.notified() => End::Replaced,
            };
            network.unregister(peer, number);
            network.metrics.ended(end.reason());
            match end {
                End::Closed | End::Replaced | End::Stopping => {
                    tracing::debug!(?peer, %address, "a connection ended: {end}");
                }
                _ if network.may_complain() => {
                    tracing::warn!(?peer, %address, "a connection ended: {end}");
                }
                _ => tracing::debug!(?peer, %address, "a connection ended: {end}"),
            }
            return;
        }
    };
    network.metrics.ended(end.reason());
    if network.may_complain() {
        tracing::warn!(%address, "a connection did not come up: {end}");
    } else {
        tracing::debug!(%address, "a connection did not come up: {end}");
    }
}

type Greeted = (TlsStream<TcpStream>, Peer, Option<OwnedSemaphorePermit>);

async fn greet<M: Message + Send + Sync + 'static>(
    network: Arc<Network<M>>,
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    clients: Arc<Semaphore>,
) -> Result<Greeted, End> {
    tcp.set_nodelay(true)?;
    let mut stream = acceptor.accept(tcp).await.map_err(End::of_handshake)?;
    let (_, session) = stream.get_ref();
    let key = peer_of(session).ok_or(End::NoKey)?;
    let hello: Hello = channel::read_greeting(&mut stream).await?;
    let scope = network.scope.get();
    let mut judged = hello.judge(key, network.me, &scope);
    let mut permit = None;
    if let Ok(Peer::Client(_)) = judged {
        permit = clients.try_acquire_owned().ok();
        if permit.is_none() {
            judged = Err("this node has as many clients as it serves".to_owned());
        }
    }
    let domain = scope.domain;
    let refusal = judged.as_ref().err().cloned();
    let answer = Answer { cluster: domain.cluster, group: domain.group, refusal };
    channel::write_greeting(&mut stream, &answer).await?;
    match judged {
        Ok(peer) => Ok((stream, peer, permit)),
        Err(sentence) => {
            // Closed in order, so that the sentence arrives.
            use tokio::io::AsyncWriteExt;
            let _ = stream.shutdown().await;
            Err(End::Refusing(sentence))
        }
    }
}
