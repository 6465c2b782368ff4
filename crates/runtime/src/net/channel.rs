//! One connection: frames in, frames out, until it ends, with the reason.
//!
//! A frame is its length (32 bits, little-endian) and its bytes. A frame of length zero says only that the peer is
//! alive. Reading takes whatever has come and hands all whole frames on together; writing takes whatever waits and
//! flushes once.

use crate::metrics::Metrics;
use crate::net::outbox::Outbox;
use crate::verify::{Condemned, Verification};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testudo_core::{Decode, Encode, Message, Peer, limits};
use testudo_keys::Refused;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// How long a channel may say nothing before a sign of life is due.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// How long a peer may give no sign of life.
const SILENCE: Duration = Duration::from_secs(20);
/// How long one frame may take to come in.
const FRAME_TIME: Duration = Duration::from_secs(60);
/// How long a peer may take no bytes.
const STALL: Duration = Duration::from_secs(30);
/// Room for reading, at least.
const READ_BYTES: usize = 64 << 10;
/// A frame longer than this needs a share of the memory for large ones.
const LARGE_BYTES: usize = 256 << 10;
/// Bytes of one frame from a client: a full bundle, with room for its header and its operations' lengths.
const CLIENT_FRAME_BYTES: usize = limits::BUNDLE_BYTES + (1 << 20);

/// Memory for large frames of clients that are coming in, in KiB, all channels together.
pub(crate) const LARGE_FRAMES_KIB: usize = 128 << 10;

/// Why a channel ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the peer closed it")]
    Closed,
    #[error("it ended inside a frame")]
    Truncated,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a frame of {0} bytes is longer than the limit of {1}")]
    Oversized(usize, usize),
    #[error("a frame did not end in {} seconds", FRAME_TIME.as_secs())]
    Endless,
    #[error("the peer gave no sign of life for {} seconds", SILENCE.as_secs())]
    Silent,
    #[error("the peer took no bytes for {} seconds", STALL.as_secs())]
    Stalled,
    #[error("the peer sent too many frames that are not to be believed")]
    Condemned,
    #[error("the first frame is not understood: {0}")]
    Greeting(testudo_core::DecodeError),
    #[error("the peer refuses: {0}")]
    Refused(String),
    #[error("refused: {0}")]
    Refusing(String),
    #[error("the peer is of cluster {0}")]
    OtherCluster(testudo_core::ClusterId),
    #[error("the handshake failed: {0}")]
    Tls(io::Error),
    #[error("{0}")]
    Key(Refused),
    #[error("the peer shows no key that is understood")]
    NoKey,
    #[error("it took too long to come up")]
    Timeout,
    #[error("a newer connection of the same peer takes its place")]
    Replaced,
    #[error("the node stops")]
    Stopping,
}

impl End {
    /// Why a handshake failed: as this end says it, if it was this end that refused the other's key.
    pub(crate) fn of_handshake(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner.and_then(Refused::of) {
            Some(refused) => Self::Key(refused),
            None => Self::Tls(error),
        }
    }

    /// A short word for metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Truncated => "truncated",
            Self::Io(_) => "io",
            Self::Oversized(..) => "oversized",
            Self::Endless => "endless",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Condemned => "condemned",
            Self::Greeting(_) => "greeting",
            Self::Refused(_) => "refused",
            Self::Refusing(_) => "refusing",
            Self::OtherCluster(_) => "cluster",
            Self::Tls(_) => "tls",
            Self::Key(_) | Self::NoKey => "key",
            Self::Timeout => "timeout",
            Self::Replaced => "replaced",
            Self::Stopping => "stopping",
        }
    }
}

impl From<Condemned> for End {
    fn from(_: Condemned) -> Self {
        Self::Condemned
    }
}

/// Writes one of the first words.
pub(crate) async fn write_greeting(
    stream: &mut (impl AsyncWrite + Unpin),
    greeting: &impl Encode,
) -> Result<(), End> {
    let body = greeting.to_bytes();
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    stream.write_all(&frame).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads one of the first words: nothing longer than a greeting is taken in.
pub(crate) async fn read_greeting<T: Decode>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<T, End> {
    let length = stream.read_u32_le().await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => End::Closed,
        _ => End::Io(error),
    })? as usize;
    if length > limits::GREETING_BYTES {
        return Err(End::Oversized(length, limits::GREETING_BYTES));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => End::Truncated,
        _ => End::Io(error),
    })?;
    T::from_bytes(&body).map_err(End::Greeting)
}

/// What every channel of a node shares.
pub(crate) struct Shared<M> {
    pub(crate) verification: Arc<Verification<M>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) large_frames: Arc<Semaphore>,
    /// True once the node stops: what is queued is still written.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Carries frames both ways until the channel ends.
pub(crate) async fn run<M: Message + Send + Sync + 'static>(
    stream: impl AsyncRead + AsyncWrite,
    peer: Peer,
    outbox: &Outbox,
    shared: &Shared<M>,
) -> End {
    let Ok(_open) = Open::new(peer, shared) else { return End::Condemned };
    let (reading, writing) = tokio::io::split(stream);
    let end = tokio::select! {
        end = read(reading, peer, shared) => end,
        end = write(writing, outbox, shared) => end,
        Condemned = shared.verification.doomed(peer) => Err(End::Condemned),
    };
    match end {
        Ok(()) => End::Stopping,
        Err(end) => end,
    }
}

/// Counts a channel as open for as long as its task lives, however that ends.
struct Open<'a, M: Message + Send + Sync + 'static> {
    peer: Peer,
    shared: &'a Shared<M>,
}

impl<'a, M: Message + Send + Sync + 'static> Open<'a, M> {
    fn new(peer: Peer, shared: &'a Shared<M>) -> Result<Self, Condemned> {
        shared.verification.open_channel(peer)?;
        shared.metrics.connections.inc();
        Ok(Self { peer, shared })
    }
}

impl<M: Message + Send + Sync + 'static> Drop for Open<'_, M> {
    fn drop(&mut self) {
        self.shared.metrics.connections.dec();
        self.shared.verification.close_channel(self.peer);
    }
}

async fn read<M: Message + Send + Sync + 'static>(
    mut stream: impl AsyncRead + Unpin,
    peer: Peer,
    shared: &Shared<M>,
) -> Result<(), End> {
    let limit = match peer {
        Peer::Replica(_) => limits::FRAME_BYTES,
        Peer::Client(_) => CLIENT_FRAME_BYTES,
    };
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut frames = Vec::new();
    let mut large = None;
    let mut begun: Option<Instant> = None;
    loop {
        let rest = split_frames(&mut buffer, &mut frames, limit)
            .map_err(|TooLong(length)| End::Oversized(length, limit))?;
        if !frames.is_empty() {
            shared.metrics.frames_received.inc_by(frames.len() as u64);
            let bytes: usize = frames.iter().map(Bytes::len).sum();
            shared.metrics.bytes_received.inc_by(bytes as u64);
            large = None;
            begun = None;
            shared.verification.push(peer, &mut frames).await?;
        }
        if let Some(rest) = rest
            && rest > LARGE_BYTES
            && large.is_none()
            && matches!(peer, Peer::Client(_))
        {
            // Everybody's large frames share one memory. The share is given back when the frame is handed on.
            let share = shared.large_frames.acquire_many((rest >> 10) as u32).await;
            large = share.ok();
        }
        if !buffer.is_empty() && begun.get_or_insert_with(Instant::now).elapsed() > FRAME_TIME {
            return Err(End::Endless);
        }
        buffer.reserve(READ_BYTES);
        let count =
            timeout(SILENCE, stream.read_buf(&mut buffer)).await.map_err(|_| End::Silent)??;
        if count == 0 {
            return Err(if buffer.is_empty() { End::Closed } else { End::Truncated });
        }
    }
}

/// A peer announces a frame of so many bytes, and none may be as long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong(pub usize);

/// Takes whole frames off the front of what has come over a channel, but for empty ones, which say that a peer is there.
/// Gives the length of the frame that has begun, if its length is known.
///
/// # Errors
/// When a frame is announced that has more bytes than `limit`.
pub fn split_frames(
    buffer: &mut BytesMut,
    frames: &mut Vec<Bytes>,
    limit: usize,
) -> Result<Option<usize>, TooLong> {
    while let Some(prefix) = buffer.first_chunk::<4>() {
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > limit {
            return Err(TooLong(length));
        }
        if buffer.len() < 4 + length {
            return Ok(Some(length));
        }
        buffer.advance(4);
        if length > 0 {
            frames.push(buffer.split_to(length).freeze());
        }
    }
    Ok(None)
}

async fn write<M>(
    mut stream: impl AsyncWrite + Unpin,
    outbox: &Outbox,
    shared: &Shared<M>,
) -> Result<(), End> {
    let mut stopping = shared.stopping.clone();
    let mut frames = Vec::new();
    let mut chunk = Vec::new();
    loop {
        outbox.take(&mut frames);
        let bytes: &[u8] = match frames.as_slice() {
            [] if *stopping.borrow() => {
                let _ = timeout(STALL, stream.shutdown()).await;
                return Ok(());
            }
            [] => {
                tokio::select! {
                    () = outbox.filled() => continue,
                    changed = stopping.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return Ok(()),
                    },
                    () = tokio::time::sleep(KEEPALIVE) => &[0; 4],
                }
            }
            [one] => one,
            many => {
                chunk.clear();
                many.iter().for_each(|frame| chunk.extend_from_slice(frame));
                &chunk
            }
        };
        let whole = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        timeout(STALL, whole).await.map_err(|_| End::Stalled)??;
        shared.metrics.frames_sent.inc_by(frames.len() as u64);
        shared.metrics.bytes_sent.inc_by(bytes.len() as u64);
        frames.clear();
    }
}
