//! Dialling a replica, again and again.

use super::Network;
use super::channel::{self, End};
use super::hello::Answer;
use super::outbox::Outbox;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testudo_core::{Message, Peer, PublicKey, ReplicaId};
use testudo_keys::channel as tls;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long connecting, encrypting and the first words may take, together.
const SETUP: Duration = Duration::from_secs(5);
/// The pause after the first failure. It doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);
/// A connection that held this long was a success, and the next pause is the first again.
const SUCCESS: Duration = Duration::from_secs(3);

/// Keeps a connection to this replica up for as long as the network lives.
pub(super) async fn run<M: Message + Send + Sync + 'static>(
    network: Arc<Network<M>>,
    replica: ReplicaId,
    key: PublicKey,
    address: String,
    outbox: Arc<Outbox>,
) {
    let config = match tls::client_config(&network.identity, key) {
        Ok(config) => Arc::new(config),
        Err(error) => {
            tracing::error!(%replica, "this replica cannot be dialled: {error}");
            return;
        }
    };
    let mut pause = PAUSE_FIRST;
    let mut complaint = String::new();
    loop {
        let begun = Instant::now();
        let end = match timeout(SETUP, connect(&network, &config, &address)).await {
            Err(_) => End::Timeout,
            Ok(Err(end)) => end,
            Ok(Ok(stream)) => {
                tracing::info!(%replica, %address, "connected");
                complaint.clear();
                channel::run(stream, Peer::Replica(replica), &outbox, &network.shared).await
            }
        };
        network.metrics.ended(end.reason());
        if *network.shared.stopping.borrow() {
            return;
        }
        // The same complaint twice a second says no more than once.
        let sentence = end.to_string();
        if sentence == complaint {
            tracing::debug!(%replica, %address, "no connection: {sentence}");
        } else {
            tracing::warn!(%replica, %address, "no connection: {sentence}");
            complaint = sentence;
        }
        if begun.elapsed() > SUCCESS {
            pause = PAUSE_FIRST;
        }
        let mut stopping = network.shared.stopping.clone();
        tokio::select! {
            () = tokio::time::sleep(jittered(pause)) => {}
            _ = stopping.changed() => return,
        }
        pause = (pause * 2).min(PAUSE_LONGEST);
    }
}

/// Between half of it and all of it, so that replicas that fell together do not all call at once.
fn jittered(pause: Duration) -> Duration {
    let spread = getrandom::u32().map_or(1.0, |chance| f64::from(chance) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + 0.5 * spread)
}

async fn connect<M: Message + Send + Sync + 'static>(
    network: &Network<M>,
    config: &Arc<ClientConfig>,
    address: &str,
) -> Result<TlsStream<TcpStream>, End> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let connector = TlsConnector::from(config.clone());
    let mut stream = connector.connect(tls::server_name(), tcp).await.map_err(End::of_handshake)?;
    channel::write_greeting(&mut stream, &network.hello()).await?;
    let answer: Answer = channel::read_greeting(&mut stream).await?;
    let domain = network.scope.get().domain;
    match answer {
        Answer { refusal: Some(sentence), .. } => Err(End::Refused(sentence)),
        Answer { cluster, .. } if cluster != domain.cluster => Err(End::OtherCluster(cluster)),
        Answer { .. } => Ok(stream),
    }
}
