//! Frames that wait to be written to one peer.

use crate::metrics::Metrics;
use crate::sync::lock;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use testudo_core::limits;
use tokio::sync::Notify;

/// Bytes that are written at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A frame of this length that still waits is not queued again. Who sends again what is large because it is slow would
/// only make it slower.
const LARGE_BYTES: usize = 16 << 10;

/// Bytes that wait for one client before the oldest frames are dropped. There may be many clients, and what a learner
/// misses it asks for again.
const CLIENT_BYTES: usize = 16 << 20;
/// Bytes that wait for all clients together before each is kept to its fair part.
const CLIENTS_BYTES: usize = 128 << 20;
/// That part. Whoever reads what he is sent never has so much waiting, and does not notice.
const CLIENT_FAIR_BYTES: usize = 1 << 20;

/// Bytes that wait for all clients of a node.
pub(crate) type Pool = Arc<AtomicUsize>;

#[derive(Default)]
struct State {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Frames have come since the writer was last woken.
    is_dirty: bool,
}

/// A bounded queue of frames. Past its limits the oldest are dropped: protocols send again what still matters.
pub(crate) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
    metrics: Arc<Metrics>,
    /// What it shares with others, if it is a client's.
    pool: Option<Pool>,
}

impl Outbox {
    /// For a replica.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), filled: Notify::new(), metrics, pool: None })
    }

    /// For a client.
    pub(crate) fn of_client(metrics: Arc<Metrics>, pool: Pool) -> Arc<Self> {
        let pool = Some(pool);
        Arc::new(Self { state: Mutex::default(), filled: Notify::new(), metrics, pool })
    }

    /// How many bytes may wait now.
    fn limit(&self) -> usize {
        match &self.pool {
            None => limits::PEER_QUEUE_BYTES,
            Some(pool) if pool.load(Ordering::Relaxed) <= CLIENTS_BYTES => CLIENT_BYTES,
            Some(_) => CLIENT_FAIR_BYTES,
        }
    }

    /// More or fewer bytes wait than before.
    fn account(&self, before: usize, after: usize) {
        if let Some(pool) = &self.pool {
            pool.fetch_add(after, Ordering::Relaxed);
            pool.fetch_sub(before, Ordering::Relaxed);
        }
    }

    /// Queues a frame. True if the writer is to be woken, which one wake for many frames does.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let mut state = lock(&self.state);
        if frame.len() >= LARGE_BYTES && state.frames.contains(&frame) {
            self.metrics.dropped("repeated");
            return false;
        }
        let before = state.bytes;
        state.bytes += frame.len();
        state.frames.push_back(frame);
        let limit = self.limit();
        while state.frames.len() > limits::PEER_QUEUE_FRAMES
            || (state.bytes > limit && state.frames.len() > 1)
        {
            let Some(oldest) = state.frames.pop_front() else { break };
            state.bytes -= oldest.len();
            self.metrics.dropped("full");
        }
        self.account(before, state.bytes);
        !std::mem::replace(&mut state.is_dirty, true)
    }

    /// Wakes the writer.
    pub(crate) fn wake(&self) {
        self.filled.notify_one();
    }

    /// Waits until the writer is woken.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Takes as many frames as are written at once, at least one if there is one.
    pub(crate) fn take(&self, frames: &mut Vec<Bytes>) {
        let mut state = lock(&self.state);
        state.is_dirty = false;
        let mut taken = 0;
        while let Some(frame) = state.frames.front() {
            if taken > 0 && taken + frame.len() > CHUNK_BYTES {
                break;
            }
            taken += frame.len();
            frames.extend(state.frames.pop_front());
        }
        let before = state.bytes;
        state.bytes -= taken;
        self.account(before, state.bytes);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let waiting = lock(&self.state).bytes;
        self.account(waiting, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_its_limits_the_oldest_frames_go_and_are_counted() {
        let metrics = Arc::new(Metrics::new());
        let outbox = Outbox::new(metrics.clone());
        for number in 0..limits::PEER_QUEUE_FRAMES as u32 + 5 {
            outbox.push(Bytes::copy_from_slice(&number.to_le_bytes()));
        }
        assert_eq!(metrics.drops("full"), 5);
        let mut frames = Vec::new();
        outbox.take(&mut frames);
        assert_eq!(&frames[0][..], 5u32.to_le_bytes());
        assert_eq!(frames.len(), limits::PEER_QUEUE_FRAMES);
        frames.clear();
        outbox.take(&mut frames);
        assert!(frames.is_empty());
    }

    #[test]
    fn bytes_are_bounded_and_one_wake_serves_many_frames() {
        let metrics = Arc::new(Metrics::new());
        let outbox = Outbox::new(metrics.clone());
        let large = |content: u8| Bytes::from(vec![content; limits::PEER_QUEUE_BYTES / 2]);
        assert!(outbox.push(large(1)));
        assert!(!outbox.push(large(2)));
        assert!(!outbox.push(large(3)));
        assert_eq!(metrics.drops("full"), 1);
        let mut frames = Vec::new();
        outbox.take(&mut frames);
        assert_eq!(frames.len(), 1, "a large frame is written alone");
        assert!(outbox.push(Bytes::from_static(b"x")));
    }

    #[test]
    fn a_client_that_does_not_read_keeps_nobody_elses_frames_out() {
        let metrics = Arc::new(Metrics::new());
        let pool = Pool::default();
        let client = || Outbox::of_client(metrics.clone(), pool.clone());
        let frame = |number: u32| {
            let mut frame = vec![0; 1 << 20];
            frame[..4].copy_from_slice(&number.to_le_bytes());
            Bytes::from(frame)
        };
        let (modest, mut hogs) = (client(), Vec::new());
        modest.push(Bytes::from_static(b"first"));
        for _ in 0..9 {
            let hog = client();
            for number in 0..40 {
                hog.push(frame(number));
            }
            hogs.push(hog);
        }
        assert!(pool.load(Ordering::Relaxed) <= CLIENTS_BYTES + CLIENT_BYTES);
        modest.push(Bytes::from_static(b"second"));
        let mut frames = Vec::new();
        modest.take(&mut frames);
        assert_eq!(frames, [&b"first"[..], b"second"], "nothing of it was dropped");
        // While all is too much, whoever has more than his part is cut down to it by the next frame.
        frames.clear();
        pool.fetch_add(CLIENTS_BYTES, Ordering::Relaxed);
        hogs[0].push(frame(40));
        hogs[0].take(&mut frames);
        assert_eq!(frames.len(), 1);
        assert!(frames[0] == frame(40), "the newest is kept");
        pool.fetch_sub(CLIENTS_BYTES, Ordering::Relaxed);
        drop(hogs);
        drop(modest);
        assert_eq!(pool.load(Ordering::Relaxed), 0, "what is gone waits no more");
    }

    #[test]
    fn what_is_large_waits_only_once() {
        let metrics = Arc::new(Metrics::new());
        let outbox = Outbox::new(metrics.clone());
        for frame in [vec![1; LARGE_BYTES], vec![1; LARGE_BYTES], vec![2; 9], vec![2; 9]] {
            outbox.push(frame.into());
        }
        let mut frames = Vec::new();
        outbox.take(&mut frames);
        assert_eq!(frames.iter().map(Bytes::len).collect::<Vec<_>>(), [LARGE_BYTES, 9, 9]);
        assert_eq!(metrics.drops("repeated"), 1);
        outbox.push(vec![1; LARGE_BYTES].into());
        frames.clear();
        outbox.take(&mut frames);
        assert_eq!(frames.len(), 1, "once it has left, it may come again");
    }
}
