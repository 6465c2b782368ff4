//! Frames that wait to be written to one peer.

use crate::metrics::Metrics;
use crate::sync::lock;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use testudo_core::limits;
use tokio::sync::Notify;

/// Bytes that are written at once.
const CHUNK_BYTES: usize = 256 << 10;

/// A frame of this length that still waits is not queued again. Who sends again what is large because it is slow would
/// only make it slower.
const LARGE_BYTES: usize = 16 << 10;

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
}

impl Outbox {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), filled: Notify::new(), metrics })
    }

    /// Queues a frame. True if the writer is to be woken, which one wake for many frames does.
    pub(crate) fn push(&self, frame: Bytes) -> bool {
        let mut state = lock(&self.state);
        if frame.len() >= LARGE_BYTES && state.frames.contains(&frame) {
            self.metrics.dropped("repeated");
            return false;
        }
        state.bytes += frame.len();
        state.frames.push_back(frame);
        while state.frames.len() > limits::PEER_QUEUE_FRAMES
            || (state.bytes > limits::PEER_QUEUE_BYTES && state.frames.len() > 1)
        {
            let Some(oldest) = state.frames.pop_front() else { break };
            state.bytes -= oldest.len();
            self.metrics.dropped("full");
        }
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
        state.bytes -= taken;
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
