//! Where the gateway's copy of the state meets its watch streams.
//!
//! All watches of a gateway lie in one [`Watchers`], behind one lock that nobody holds while he
//! waits or writes. One task hands it each new copy and wakes the streams whose watches it concerns;
//! those take what they have to say out of it when their clients have room for it. So a put costs
//! what the streams that want to know of it cost, however many others there are.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use testudo_core::Slot;
use testudo_kv::watch::{Budget, StreamId, Turn, WatchId, WatchRequest, Watchers};
use testudo_state::Map;
use tokio::sync::{Notify, watch};
use tonic::Status;

use crate::cluster::Copy;
use crate::etcd_error;

/// The watches of a gateway.
pub(crate) struct Hub {
    updates: watch::Receiver<Option<Arc<Copy>>>,
    limits: testudo_kv::watch::Limits,
    watches: Mutex<Option<Watches>>,
}

/// What there is once there was a copy.
struct Watches {
    watchers: Watchers<Map>,
    /// The copy's.
    slot: Slot,
    lineage: u64,
    sleepers: BTreeMap<StreamId, Arc<Notify>>,
    /// Streams that wanted to say something while there was no copy.
    held: BTreeSet<StreamId>,
}

impl Watches {
    fn new(limits: testudo_kv::watch::Limits, copy: &Copy) -> Self {
        let watchers = Watchers::new(limits, copy.state.clone());
        Self {
            watchers,
            slot: copy.slot,
            lineage: copy.lineage,
            sleepers: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }

    /// Goes on to a newer copy.
    fn advance(&mut self, copy: &Copy) {
        if copy.lineage > self.lineage {
            (self.lineage, self.slot) = (copy.lineage, copy.slot);
            self.watchers.replace(copy.state.clone());
            self.wake(None);
        } else if copy.lineage == self.lineage && copy.slot > self.slot {
            self.slot = copy.slot;
            self.watchers.advance(copy.state.clone());
            self.wake(None);
        }
    }

    /// There is a copy: whoever was kept waiting for one may go on.
    fn let_go(&mut self) {
        for stream in std::mem::take(&mut self.held) {
            if let Some(sleeper) = self.sleepers.get(&stream) {
                sleeper.notify_one();
            }
        }
    }

    /// Wakes the streams that were given something to do, but for one that is awake.
    fn wake(&mut self, awake: Option<StreamId>) {
        for stream in self.watchers.take_woken() {
            if awake != Some(stream)
                && let Some(sleeper) = self.sleepers.get(&stream)
            {
                sleeper.notify_one();
            }
        }
    }
}

impl Hub {
    pub(crate) fn new(
        updates: watch::Receiver<Option<Arc<Copy>>>,
        limits: testudo_kv::watch::Limits,
    ) -> Self {
        Self { updates, limits, watches: Mutex::new(None) }
    }

    /// Follows the copies as they come.
    pub(crate) async fn attend(&self) {
        let mut updates = self.updates.clone();
        loop {
            let newest = updates.borrow_and_update().clone();
            if let Some(copy) = newest {
                self.with(&copy, Watches::let_go);
            }
            if updates.changed().await.is_err() {
                return;
            }
        }
    }

    /// Does something with the watches when they have come to a copy.
    fn with<T>(&self, copy: &Copy, act: impl FnOnce(&mut Watches) -> T) -> T {
        let mut guard = self.lock();
        let watches = guard.get_or_insert_with(|| Watches::new(self.limits, copy));
        watches.advance(copy);
        act(watches)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Watches>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest copy, waited for while there is none.
    fn copy(&self) -> impl Future<Output = Result<Arc<Copy>, Status>> + Send + use<> {
        let mut updates = self.updates.clone();
        async move {
            match updates.wait_for(Option::is_some).await.map(|copy| copy.clone()) {
                Ok(Some(copy)) => Ok(copy),
                Ok(None) | Err(_) => Err(etcd_error::stopped()),
            }
        }
    }

    /// Opens a stream, when there is a copy to watch.
    pub(crate) async fn open(&self) -> Result<Stream<'_>, Status> {
        let copy = self.copy().await?;
        let sleeper = Arc::new(Notify::new());
        let id = self.with(&copy, |watches| {
            let id = watches.watchers.open().map_err(|_full| etcd_error::too_many_requests())?;
            watches.sleepers.insert(id, sleeper.clone());
            Ok::<_, Status>(id)
        })?;
        Ok(Stream { hub: self, id, sleeper })
    }

    /// How many watches there are.
    pub(crate) fn size(&self) -> Size {
        self.lock().as_ref().map_or_else(Size::default, |watches| Size {
            streams: watches.sleepers.len(),
            watches: watches.watchers.len(),
            behind: watches.watchers.behind(),
        })
    }
}

/// How many watches a gateway has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Size {
    /// Streams of them.
    pub(crate) streams: usize,
    /// In all streams.
    pub(crate) watches: usize,
    /// Those that history is read for.
    pub(crate) behind: usize,
}

/// One stream's place among the watches, which it leaves when it is dropped.
pub(crate) struct Stream<'a> {
    hub: &'a Hub,
    id: StreamId,
    sleeper: Arc<Notify>,
}

impl Stream<'_> {
    /// Whatever is done for a stream is followed by its asking what there is to say.
    fn with<T>(&self, act: impl FnOnce(&mut Watchers<Map>, StreamId) -> T) -> Option<T> {
        self.hub.lock().as_mut().map(|watches| {
            let result = act(&mut watches.watchers, self.id);
            watches.wake(Some(self.id));
            result
        })
    }

    /// Ready when there may be something to say.
    pub(crate) async fn woken(&self) {
        self.sleeper.notified().await;
    }

    /// Whether a further request's answer would have room.
    pub(crate) fn has_room(&self) -> bool {
        self.with(|watchers, id| watchers.has_room(id)).unwrap_or(false)
    }

    /// Creates a watch, on a copy at least as new as whatever the gateway has answered before.
    pub(crate) async fn create(&self, request: WatchRequest) -> Result<(), Status> {
        let copy = self.hub.copy().await?;
        self.hub.with(&copy, |watches| {
            // What there is to say of it is said by the stream.
            let _refused = watches.watchers.create(self.id, &request);
        });
        Ok(())
    }

    /// Ends a watch, if there is one of that number.
    pub(crate) fn cancel(&self, watch: WatchId) {
        self.with(|watchers, id| watchers.cancel(id, watch));
    }

    /// Asks how far all watches of the stream have come.
    pub(crate) fn request_progress(&self) {
        self.with(Watchers::request_progress);
    }

    /// Lets idle watches that want it say how far they have come.
    pub(crate) fn tick(&self) {
        self.with(Watchers::tick);
    }

    /// What there is to say next. Nothing while there is no copy: what is known of an earlier one
    /// may be what is wrong.
    pub(crate) fn poll(&self, budget: Budget) -> Turn {
        let mut guard = self.hub.lock();
        let Some(watches) = guard.as_mut() else { return Turn::Nothing };
        if self.hub.updates.borrow().is_none() {
            watches.held.insert(self.id);
            return Turn::Nothing;
        }
        let turn = watches.watchers.poll(self.id, budget);
        watches.wake(Some(self.id));
        turn
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if let Some(watches) = self.hub.lock().as_mut() {
            watches.sleepers.remove(&self.id);
            watches.held.remove(&self.id);
            watches.watchers.close(self.id);
        }
    }
}
