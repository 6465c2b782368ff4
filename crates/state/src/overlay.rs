//! Changes to a map that are not made yet.

use crate::{Map, crosses};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::ops::Bound;
use testudo_contracts::{Reading, Store};

/// A map as it will be if the changes collected here are merged. Dropped without [`Overlay::merge`], nothing happened.
#[derive(Debug)]
pub struct Overlay<'a> {
    base: &'a mut Map,
    /// `None` marks a key as removed.
    changes: BTreeMap<Arc<[u8]>, Option<Arc<[u8]>>>,
}

impl<'a> Overlay<'a> {
    /// No changes yet.
    pub const fn new(base: &'a mut Map) -> Self {
        Self { base, changes: BTreeMap::new() }
    }

    /// Makes the changes.
    pub fn merge(self) {
        for (key, change) in self.changes {
            match change {
                Some(value) => {
                    self.base.insert(key, value);
                }
                None => {
                    self.base.remove(&key);
                }
            }
        }
    }

    fn visit<'m>(
        base: impl Iterator<Item = (&'m Arc<[u8]>, &'m Arc<[u8]>)>,
        changes: impl Iterator<Item = (&'m Arc<[u8]>, &'m Option<Arc<[u8]>>)>,
        before: Ordering,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    ) {
        let (mut base, mut changes) = (base.peekable(), changes.peekable());
        loop {
            let turn = match (base.peek(), changes.peek()) {
                (None, None) => return,
                (Some(_), None) => before,
                (None, Some(_)) => before.reverse(),
                (Some((kept, _)), Some((changed, _))) => kept.cmp(changed),
            };
            let entry = if turn == before {
                base.next().map(|(key, value)| (key, Some(value)))
            } else {
                if turn == Ordering::Equal {
                    base.next();
                }
                changes.next().map(|(key, change)| (key, change.as_ref()))
            };
            if let Some((key, Some(value))) = entry
                && !visit(key, value)
            {
                return;
            }
        }
    }
}

impl Reading for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        match self.changes.get(key) {
            Some(change) => change.clone(),
            None => self.base.get(key).cloned(),
        }
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        reverse: bool,
        visit: &mut dyn FnMut(&[u8], &Arc<[u8]>) -> bool,
    ) {
        if crosses(from, to) {
            return;
        }
        let base = self.base.range(from, to);
        let changes = self.changes.range::<[u8], _>((from, to));
        if reverse {
            Self::visit(base.rev(), changes.rev(), Ordering::Greater, visit);
        } else {
            Self::visit(base, changes, Ordering::Less, visit);
        }
    }
}

impl Store for Overlay<'_> {
    fn put(&mut self, key: &[u8], value: Arc<[u8]>) {
        self.changes.insert(key.into(), Some(value));
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let was_there = self.get(key).is_some();
        if was_there {
            self.changes.insert(key.into(), None);
        }
        was_there
    }
}
