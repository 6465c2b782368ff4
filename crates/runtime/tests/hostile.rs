//! Peers that are not what they should be.

mod common;

use common::{Ask, Running, Site, Word, replica, until};
use std::sync::Arc;
use testudo_core::{ClusterId, Domain, Encode, GroupId, Peer, ReplicaId, Signer, Verified, limits};
use testudo_keys::channel::{client_config, server_name};
use testudo_keys::{NodeKey, SigningKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn block_on<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A channel to a node under any key, saying whatever a test says.
struct Stranger(TlsStream<TcpStream>);

impl Stranger {
    async fn dial(site: &Site, id: usize, key: &SigningKey) -> Self {
        let config = client_config(key, site.identity(id)).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", site.ports[id])).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        Self(connector.connect(server_name(), tcp).await.unwrap())
    }

    async fn say(&mut self, body: &[u8]) {
        self.0.write_all(&(body.len() as u32).to_le_bytes()).await.unwrap();
        self.0.write_all(body).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Says who it is, and gives what is refused, if anything is.
    async fn greet(&mut self, domain: Domain, replica: Option<u16>) -> Option<String> {
        let mut hello = vec![limits::FORMAT_VERSION];
        domain.cluster.encode(&mut hello);
        domain.group.encode(&mut hello);
        replica.map(ReplicaId).encode(&mut hello);
        self.say(&hello).await;
        let length = self.0.read_u32_le().await.unwrap();
        let mut answer = vec![0; length as usize];
        self.0.read_exact(&mut answer).await.unwrap();
        // Version, cluster, group, and then whether there is a refusal.
        (answer[21] == 1).then(|| String::from_utf8_lossy(&answer[26..]).into_owned())
    }

    /// Waits until the other end closes.
    async fn is_closed(&mut self) {
        let mut rest = Vec::new();
        // However it ends, it has ended.
        let _ = self.0.read_to_end(&mut rest).await;
    }
}

/// A frame that this key seals as this peer.
fn frame(word: Word, sender: Peer, domain: Domain, signer: &dyn Signer) -> Vec<u8> {
    Verified::seal(word, sender, domain, signer).signed().to_bytes()
}

fn ended(node: &Running, reason: &'static str, times: u64) {
    until(&format!("{times} connections end: {reason}"), || {
        node.handle.metrics().ends(reason) >= times
    });
}

fn still_works(site: &Site, node: &Running) {
    let number = node.heard().len() as u64;
    let key = SigningKey::generate().unwrap();
    block_on(async {
        let mut client = Stranger::dial(site, 0, &key).await;
        assert_eq!(client.greet(site.domain, None).await, None);
        let me = Peer::Client(key.public());
        client.say(&frame(Word::Whisper(number), me, site.domain, &key)).await;
        // The answer: a frame that is not empty.
        let mut length = 0;
        while length == 0 {
            length = client.0.read_u32_le().await.unwrap();
        }
        assert!(length > 40);
    });
}

#[test]
fn garbage_on_the_port_ends_that_connection_and_no_more() {
    let mut site = Site::new(1);
    let node = site.start(0);
    block_on(async {
        let mut garbage = TcpStream::connect(("127.0.0.1", site.ports[0])).await.unwrap();
        garbage.write_all(&[0x5a; 4096]).await.unwrap();
        let mut http = TcpStream::connect(("127.0.0.1", site.ports[0])).await.unwrap();
        http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        drop(TcpStream::connect(("127.0.0.1", site.ports[0])).await.unwrap());
    });
    ended(&node, "tls", 3);
    still_works(&site, &node);
}

#[test]
fn greetings_that_are_none_end_the_connection() {
    let mut site = Site::new(1);
    let node = site.start(0);
    let key = SigningKey::generate().unwrap();
    block_on(async {
        let mut long = Stranger::dial(&site, 0, &key).await;
        long.0.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
        long.0.flush().await.unwrap();
        long.is_closed().await;
        let mut strange = Stranger::dial(&site, 0, &key).await;
        strange.say(&[limits::FORMAT_VERSION + 1; 30]).await;
        strange.is_closed().await;
        let mut short = Stranger::dial(&site, 0, &key).await;
        short.0.write_all(&[20, 0, 0, 0, 1]).await.unwrap();
        short.0.shutdown().await.unwrap();
        short.is_closed().await;
    });
    ended(&node, "oversized", 1);
    ended(&node, "greeting", 1);
    ended(&node, "truncated", 1);
    still_works(&site, &node);
}

#[test]
fn another_cluster_group_or_key_is_told_why() {
    let mut site = Site::new(4);
    let node = site.start(0);
    let (own, other) = (site.domain, SigningKey::generate().unwrap());
    block_on(async {
        let mut stranger = Stranger::dial(&site, 0, &other).await;
        let domain = Domain { cluster: ClusterId([1; 16]), ..own };
        let refusal = stranger.greet(domain, None).await.unwrap();
        assert!(refusal.contains("you belong to cluster 0101"), "{refusal}");
        stranger.is_closed().await;

        let mut stranger = Stranger::dial(&site, 0, &other).await;
        let domain = Domain { group: GroupId(7), ..own };
        let refusal = stranger.greet(domain, None).await.unwrap();
        assert!(refusal.contains("group 7"), "{refusal}");

        let mut stranger = Stranger::dial(&site, 0, &other).await;
        let refusal = stranger.greet(own, Some(2)).await.unwrap();
        assert!(refusal.contains("known by another key"), "{refusal}");

        let mut stranger = Stranger::dial(&site, 0, &other).await;
        let refusal = stranger.greet(own, Some(9)).await.unwrap();
        assert!(refusal.contains("has no replica 9"), "{refusal}");

        let two = site.keys[2].identity.clone();
        let mut replica_two = Stranger::dial(&site, 0, &two).await;
        assert_eq!(replica_two.greet(own, Some(2)).await, None);
    });
    ended(&node, "refusing", 4);
}

#[test]
fn a_node_under_another_key_is_not_spoken_to() {
    let mut site = Site::new(2);
    // Whoever holds the place of replica 1 has keys of his own.
    let mut impostor = Site::new(2);
    let node = site.start(0);
    let config = {
        let mut config = impostor.config(1);
        let listener = site.config(1).listener;
        config.listener = listener;
        config
    };
    let impostor = common::run(config).unwrap();
    node.ask(Ask::Whisper(replica(1), 1));
    ended(&node, "key", 1);
    assert_eq!(impostor.heard(), []);
}

#[test]
fn frames_that_are_too_long_or_cut_end_the_channel() {
    let mut site = Site::new(2);
    let node = site.start(0);
    let key = site.keys[1].identity.clone();
    block_on(async {
        let mut long = Stranger::dial(&site, 0, &key).await;
        assert_eq!(long.greet(site.domain, Some(1)).await, None);
        let length = limits::FRAME_BYTES as u32 + 1;
        long.0.write_all(&length.to_le_bytes()).await.unwrap();
        long.0.flush().await.unwrap();
        long.is_closed().await;
        let mut cut = Stranger::dial(&site, 0, &key).await;
        assert_eq!(cut.greet(site.domain, Some(1)).await, None);
        cut.0.write_all(&[100, 0, 0, 0, 1, 2, 3]).await.unwrap();
        cut.0.shutdown().await.unwrap();
        cut.is_closed().await;
    });
    ended(&node, "oversized", 1);
    ended(&node, "truncated", 1);
    still_works(&site, &node);
}

#[test]
fn a_newer_connection_of_a_replica_takes_the_place_of_the_older() {
    let mut site = Site::new(2);
    let node = site.start(0);
    let key = site.keys[1].identity.clone();
    block_on(async {
        let mut older = Stranger::dial(&site, 0, &key).await;
        assert_eq!(older.greet(site.domain, Some(1)).await, None);
        let mut newer = Stranger::dial(&site, 0, &key).await;
        assert_eq!(newer.greet(site.domain, Some(1)).await, None);
        older.is_closed().await;
        newer.say(&frame(Word::Whisper(3), replica(1), site.domain, &key)).await;
        until("the newer is heard", || node.has_heard(1, &Word::Whisper(3)));
    });
    ended(&node, "replaced", 1);
}

#[test]
fn what_is_not_to_be_believed_is_counted_and_ends_the_channel_in_the_end() {
    for verifiers in [0, 1] {
        let mut site = Site::new(4);
        site.verifiers = verifiers;
        let node = site.start(0);
        let NodeKey { identity, voting, .. } = site.keys[1].clone();
        let (own, me) = (site.domain, replica(1));
        let foreign = Domain { cluster: ClusterId([1; 16]), ..own };
        let mut forged = frame(Word::News(6), me, own, &voting);
        let last = forged.len() - 1;
        forged[last] ^= 1;
        block_on(async {
            let mut liar = Stranger::dial(&site, 0, &identity).await;
            assert_eq!(liar.greet(own, Some(1)).await, None);
            liar.say(&frame(Word::News(1), me, own, &voting)).await;
            liar.say(&frame(Word::News(2), me, foreign, &voting)).await;
            liar.say(&frame(Word::News(3), me, own, &identity)).await;
            liar.say(&frame(Word::Whisper(4), replica(2), own, &voting)).await;
            liar.say(&frame(Word::News(u64::MAX), me, own, &voting)).await;
            liar.say(&forged).await;
            liar.say(b"\x01nonsense").await;
            // What another signed may be handed on.
            let others = frame(Word::News(5), replica(2), own, &site.keys[2].voting);
            liar.say(&others).await;
            until("what is right is heard", || node.has_heard(2, &Word::News(5)));
            assert_eq!(node.heard(), [(me, Word::News(1)), (replica(2), Word::News(5))]);
            let metrics = node.handle.metrics();
            assert_eq!(metrics.rejections("domain"), 1);
            assert_eq!(metrics.rejections("proof"), 2);
            assert_eq!(metrics.rejections("sender"), 1);
            assert_eq!(metrics.rejections("invalid"), 1);
            assert_eq!(metrics.rejections("malformed"), 1);
            // Some of it is a mistake. More of it is not.
            let flood: Vec<u8> = (0..200).flat_map(|_| [3, 0, 0, 0, 9, 9, 9]).collect();
            let _ = liar.0.write_all(&flood).await;
            let _ = liar.0.flush().await;
            liar.is_closed().await;
            ended(&node, "condemned", 1);
            // He is not let in again at once.
            let mut again = Stranger::dial(&site, 0, &identity).await;
            again.greet(own, Some(1)).await;
            again.is_closed().await;
            ended(&node, "condemned", 2);
        });
        still_works(&site, &node);
    }
}

#[test]
fn a_peer_that_does_not_read_costs_bounded_memory() {
    let mut site = Site::new(1);
    let node = site.start(0);
    let key = SigningKey::generate().unwrap();
    let me = Peer::Client(key.public());
    block_on(async {
        let mut deaf = Stranger::dial(&site, 0, &key).await;
        assert_eq!(deaf.greet(site.domain, None).await, None);
        let piece = 8 << 20;
        let pieces = 3 * limits::PEER_QUEUE_BYTES / piece;
        for number in 0..pieces {
            // Of different lengths: what is large and still waits is not queued again.
            node.ask(Ask::Bulk(me, piece + number));
        }
        until("the oldest are dropped", || {
            node.handle.metrics().drops("full") as usize
                >= pieces - limits::PEER_QUEUE_BYTES / piece - 4
        });
    });
    still_works(&site, &node);
}

#[test]
fn a_flood_of_one_delays_no_other() {
    let mut site = Site::new(2);
    site.verifiers = 1;
    let node = site.start(0);
    let (flooder, quiet) = (SigningKey::generate().unwrap(), site.keys[1].identity.clone());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flooding = std::thread::spawn({
        let stop = stop.clone();
        let (port, server, domain) = (site.ports[0], site.identity(0), site.domain);
        move || {
            block_on(async {
                let config = client_config(&flooder, server).unwrap();
                let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let connector = TlsConnector::from(Arc::new(config));
                let mut client = Stranger(connector.connect(server_name(), tcp).await.unwrap());
                client.greet(domain, None).await;
                let me = Peer::Client(flooder.public());
                let word = frame(Word::News(1), me, domain, &flooder);
                let mut chunk = Vec::new();
                for _ in 0..200 {
                    chunk.extend_from_slice(&(word.len() as u32).to_le_bytes());
                    chunk.extend_from_slice(&word);
                }
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    if client.0.write_all(&chunk).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let client_heard = |node: &Running| {
        node.heard().iter().filter(|(peer, _)| matches!(peer, Peer::Client(_))).count()
    };
    until("the flood arrives", || client_heard(&node) > 2 * limits::INBOX_PER_PEER);
    block_on(async {
        let mut other = Stranger::dial(&site, 0, &quiet).await;
        assert_eq!(other.greet(site.domain, Some(1)).await, None);
        let before = client_heard(&node);
        other.say(&frame(Word::Whisper(3), replica(1), site.domain, &quiet)).await;
        until("the quiet one is heard", || node.has_heard(1, &Word::Whisper(3)));
        // In his turn: not behind all that the flood had brought.
        let position = node.heard().iter().position(|(peer, _)| *peer == replica(1)).unwrap();
        assert!(position >= before);
    });
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flooding.join().unwrap();
}
