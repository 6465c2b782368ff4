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
/// File descriptors that clients leave to all else: strangers, replicas, the log.
const RESERVED: usize = 256;

/// Connections of clients that this process has file descriptors for: a replica that could not open its log's next file
/// would have to stop.
fn room_for_clients(limits: &str) -> usize {
    let words = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = words.and_then(|words| words.split_whitespace().next()?.parse::<usize>().ok());
    soft.map_or(CLIENTS, |soft| soft.saturating_sub(RESERVED).clamp(RESERVED / 4, CLIENTS))
}

/// Accepts until the network stops.
pub(super) async fn run<M: Message + Send + Sync + 'static>(
    network: Arc<Network<M>>,
    listener: TcpListener,
    config: Arc<ServerConfig>,
) {
    let acceptor = TlsAcceptor::from(config);
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    // Elsewhere than on Linux nobody says, and nothing is held back.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let clients = Arc::new(Semaphore::new(room_for_clients(&limits)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_file_descriptors_to_the_log() {
        let limits = |soft: &str| {
            format!(
                "Limit   Soft Limit  Hard Limit\nMax open files            {soft}    524288    files\n"
            )
        };
        assert_eq!(room_for_clients(&limits("1024")), 768);
        assert_eq!(room_for_clients(&limits("1048576")), CLIENTS);
        assert_eq!(room_for_clients(&limits("unlimited")), CLIENTS);
        assert_eq!(room_for_clients(&limits("100")), 64);
        assert_eq!(room_for_clients(""), CLIENTS);
    }
}
