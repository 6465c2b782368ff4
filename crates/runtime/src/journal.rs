//! The thread that owns the storage.
//!
//! The automaton's thread hands over batches of writes and goes on. This thread takes all the batches that are there,
//! carries them out in order, flushes once, and tells which writes are durable by the mark of the last of them
//! ([`testudo_core::gate`]). So while one flush runs, the next one's writes gather: under load many steps share it.
//!
//! While nothing else is to do, and a little even when there is, it looks whether what it wrote earlier is still there.
//!
//! What is durable at any moment is a prefix of what was asked: records before a promise are flushed before the
//! superblock is touched.

use crate::metrics::Metrics;
use crate::storage::{Put, SnapshotWriter, Storage, StorageError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testudo_core::{Position, Promise, Rot, Tag};

/// One thing for the storage to do.
#[derive(Debug)]
pub(crate) enum Write {
    /// A record. Its bytes end at this offset of the batch's, and begin where the one before ends.
    Record(Position, Tag, usize),
    /// Replace the promise.
    Promise(Promise),
    /// Let go of records.
    Forget(Position),
    /// Read a record back.
    Recall(Position),
}

/// Writes of one or more steps.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The records, one after the other.
    pub(crate) bytes: Vec<u8>,
    /// What to do, in order.
    pub(crate) writes: Vec<Write>,
    /// The gate's mark of the last write. What is not a record or promise has none of its own.
    pub(crate) mark: u64,
}

/// What the storage has to tell.
#[derive(Debug)]
pub(crate) enum Report {
    /// All writes up to this mark are durable.
    Durable(u64),
    /// A record was read back, or is not there.
    Recalled(Position, Option<Vec<u8>>),
    /// The snapshot with this number is durable.
    Snapshot(u64),
    /// Something on the disk has rotted.
    Rot(Rot),
    /// Storage failed: the replica must stop.
    Failed(StorageError),
}

/// Where reports go. False when nobody wants them any more.
pub(crate) type Reports = Arc<dyn Fn(Report) -> bool + Send + Sync>;

/// The handle on the storage's thread. When it is dropped, what was handed over is finished and the thread ends.
pub(crate) struct Journal {
    batches: Option<Sender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Starts the thread. Beside its work it reads about `scrub` bytes each second again to see whether they have rotted.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(
        storage: impl Storage,
        reports: Reports,
        metrics: Arc<Metrics>,
        name: &str,
        scrub: u64,
    ) -> std::io::Result<Self> {
        let (batches, received) = channel();
        let thread = std::thread::Builder::new().name(format!("{name}-log")).spawn(move || {
            let scrub = Scrub { rate: scrub, last: Instant::now() };
            run(storage, &received, scrub, &reports, &metrics);
        })?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// Hands writes over. What comes of them is reported.
    pub(crate) fn submit(&self, batch: Batch) {
        if let Some(batches) = &self.batches {
            // The thread has ended only after it had reported a failure, which stops the node.
            let _ = batches.send(batch);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed where it happened; there is nothing to add.
            let _ = thread.join();
        }
    }
}

fn run(
    mut storage: impl Storage,
    batches: &Receiver<Batch>,
    mut scrub: Scrub,
    reports: &Reports,
    metrics: &Metrics,
) {
    let mut waiting = None;
    loop {
        let first = match waiting.take() {
            Some(first) => Ok(first),
            None => scrub.wait(batches),
        };
        let done = match first {
            Ok(first) => {
                let group = std::iter::once(first).chain(batches.try_iter());
                carry_out(&mut storage, group, reports, metrics).and_then(|()| {
                    waiting = batches.try_recv().ok();
                    if waiting.is_none() { storage.idle() } else { Ok(()) }
                })
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let done = done.and_then(|()| scrub.look(&mut storage, reports, metrics));
        if let Err(error) = done {
            reports(Report::Failed(error));
            return;
        }
    }
}

/// How often a part of what is stored is looked at: so seldom that it costs nothing, and so often that no part is so large
/// that writes wait for it.
const LOOK: Duration = Duration::from_millis(100);

/// The pace at which what is stored is read again.
struct Scrub {
    /// Bytes a second; with none nothing is read.
    rate: u64,
    /// When a part was looked at last.
    last: Instant,
}

impl Scrub {
    /// Waits for a batch, or until it is time to look.
    fn wait(&self, batches: &Receiver<Batch>) -> Result<Batch, RecvTimeoutError> {
        if self.rate == 0 {
            return batches.recv().map_err(|_| RecvTimeoutError::Disconnected);
        }
        batches.recv_timeout(LOOK.saturating_sub(self.last.elapsed()))
    }

    /// Looks at the next part, if it is time.
    fn look(
        &mut self,
        storage: &mut impl Storage,
        reports: &Reports,
        metrics: &Metrics,
    ) -> Result<(), StorageError> {
        if self.rate == 0 || self.last.elapsed() < LOOK {
            return Ok(());
        }
        let parts = 1000 / LOOK.as_millis() as u64;
        let found = storage.scrub((self.rate / parts).max(1))?;
        self.last = Instant::now();
        metrics.scrubbed.inc_by(found.bytes);
        metrics.mended.inc_by(found.mended);
        for rot in found.rot {
            metrics.rotten(&rot);
            reports(Report::Rot(rot));
        }
        Ok(())
    }
}

fn carry_out(
    storage: &mut impl Storage,
    group: impl Iterator<Item = Batch>,
    reports: &Reports,
    metrics: &Metrics,
) -> Result<(), StorageError> {
    let mut flusher = Flusher { is_dirty: false, metrics };
    let mut mark = None;
    for batch in group {
        let mut start = 0;
        for write in &batch.writes {
            match *write {
                Write::Record(position, tag, end) => {
                    storage.append(position, tag, &batch.bytes[start..end])?;
                    metrics.records.inc();
                    metrics.record_bytes.inc_by((end - start) as u64);
                    start = end;
                    flusher.is_dirty = true;
                }
                Write::Promise(promise) => {
                    flusher.flush(storage)?;
                    storage.promise(promise)?;
                }
                Write::Forget(before) => {
                    flusher.flush(storage)?;
                    storage.forget(before)?;
                }
                Write::Recall(position) => {
                    flusher.flush(storage)?;
                    let record = storage.read(position)?;
                    reports(Report::Recalled(position, record));
                }
            }
        }
        mark = Some(batch.mark);
    }
    flusher.flush(storage)?;
    if let Some(mark) = mark {
        reports(Report::Durable(mark));
    }
    Ok(())
}

struct Flusher<'a> {
    is_dirty: bool,
    metrics: &'a Metrics,
}

impl Flusher<'_> {
    fn flush(&mut self, storage: &mut impl Storage) -> Result<(), StorageError> {
        if std::mem::take(&mut self.is_dirty) {
            let start = Instant::now();
            storage.flush()?;
            self.metrics.flushed(start.elapsed());
        }
        Ok(())
    }
}

/// What makes a snapshot's pieces: run on the archivist's thread, as it may take a while.
pub(crate) type Render = Box<dyn FnMut(Put<'_>) + Send>;

/// The handle on the thread that writes snapshots. A snapshot that is asked for while another is being written replaces
/// those that still wait, as it covers all that they do.
pub(crate) struct Archivist {
    requests: Option<Sender<(u64, Render)>>,
    thread: Option<JoinHandle<()>>,
}

impl Archivist {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(
        mut writer: Box<dyn SnapshotWriter>,
        reports: Reports,
        metrics: Arc<Metrics>,
        name: &str,
    ) -> std::io::Result<Self> {
        let (requests, received) = channel::<(u64, Render)>();
        let thread = std::thread::Builder::new().name(format!("{name}-snap")).spawn(move || {
            while let Ok(first) = received.recv() {
                let (number, render) = received.try_iter().last().unwrap_or(first);
                let start = Instant::now();
                match write_snapshot(&mut *writer, render) {
                    Ok(bytes) => {
                        tracing::debug!(bytes, took = ?start.elapsed(), "a snapshot is durable");
                        reports(Report::Snapshot(number));
                        metrics.wrote_snapshot(bytes, start.elapsed());
                    }
                    Err(error) => {
                        reports(Report::Failed(error));
                        return;
                    }
                }
            }
        })?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Has a snapshot written.
    pub(crate) fn write(&self, number: u64, render: Render) {
        if let Some(requests) = &self.requests {
            let _ = requests.send((number, render));
        }
    }
}

/// Writes one snapshot, and gives its length in bytes. What it holds of the state is let go of here, as that may take a
/// while, too.
fn write_snapshot(
    writer: &mut dyn SnapshotWriter,
    mut render: Render,
) -> Result<u64, StorageError> {
    let written = catch_unwind(AssertUnwindSafe(|| writer.write(&mut render)));
    written.unwrap_or_else(|_| Err(StorageError::new("making a snapshot's bytes panicked")))
}

impl Drop for Archivist {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
