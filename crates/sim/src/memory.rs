//! Rot in a replica's memory: a value of its service's state becomes another one behind its back.
//!
//! Nothing in production is made to do this. A world has its replicas run a service around the real one, which at the
//! beginning of a slot changes a bit of a value that nobody asked it to change. From then on that replica's state is
//! not the others': it differs at the next checkpoint at the latest, and its results may differ at once.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use testudo_contracts::{Moment, Reading, Service, Store};

/// The hand that spoils the memory of one replica in one of its lives.
#[derive(Clone, Default, Debug)]
pub struct Rot {
    /// Which value, and which of its bits, by a drawn number; until it is done.
    draw: Arc<Mutex<Option<u64>>>,
    /// How often it was done.
    bitten: Arc<AtomicU64>,
}

impl Rot {
    /// The hand of the same replica's next life: nothing waits to be changed, and the count goes on.
    #[must_use]
    pub fn of_next_life(&self) -> Self {
        Self { draw: Arc::default(), bitten: self.bitten.clone() }
    }

    /// At the next slot a value changes that this number chooses, if there is any.
    pub fn spoil(&self, draw: u64) {
        *self.draw.lock().unwrap_or_else(PoisonError::into_inner) = Some(draw);
    }

    /// Whether nothing waits to be changed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.draw.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// How many values it has changed, in all lives.
    #[must_use]
    pub fn bitten(&self) -> u64 {
        self.bitten.load(Ordering::Relaxed)
    }

    fn bite(&self, store: &mut dyn Store) {
        let mut waiting = self.draw.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(draw) = *waiting else { return };
        let mut entries: Vec<(Vec<u8>, Arc<[u8]>)> = Vec::new();
        store.scan(Bound::Unbounded, Bound::Unbounded, false, &mut |key, value| {
            if !value.is_empty() {
                entries.push((key.to_vec(), value.clone()));
            }
            true
        });
        if entries.is_empty() {
            return;
        }
        let (key, value) = &entries[(draw % entries.len() as u64) as usize];
        let mut spoilt = value.to_vec();
        if let Some(last) = spoilt.last_mut() {
            *last ^= 1;
        }
        store.put(key, spoilt.into());
        *waiting = None;
        self.bitten.fetch_add(1, Ordering::Relaxed);
    }
}

/// A service on a machine whose memory may rot.
#[derive(Clone, Debug)]
pub struct Unsound<S> {
    service: S,
    rot: Rot,
}

impl<S> Unsound<S> {
    /// This service, and the hand that spoils it.
    pub const fn new(service: S, rot: Rot) -> Self {
        Self { service, rot }
    }
}

impl<S: Service> Service for Unsound<S> {
    const VERSION: u32 = S::VERSION;

    fn genesis(&self, store: &mut dyn Store) {
        self.service.genesis(store);
    }
    fn execute(&self, store: &mut dyn Store, operation: &[u8], moment: &Moment) -> Vec<u8> {
        self.service.execute(store, operation, moment)
    }
    fn advance(&self, store: &mut dyn Store, moment: &Moment) -> Vec<u8> {
        let result = self.service.advance(store, moment);
        self.rot.bite(store);
        result
    }
    fn due(&self, store: &dyn Reading) -> Option<u64> {
        self.service.due(store)
    }
    fn internal_error(&self) -> Vec<u8> {
        self.service.internal_error()
    }
    fn too_large(&self) -> Vec<u8> {
        self.service.too_large()
    }
}
