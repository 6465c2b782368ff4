//! Changes to a map that are not made yet.

use crate::Map;
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
        let mut changes = self.changes.range::<[u8], _>((from, to));
        let mut next = || if reverse { changes.next_back() } else { changes.next() };
        let before = if reverse { Ordering::Greater } else { Ordering::Less };
        let mut change = next();
        let mut goes_on = true;
        self.base.scan(from, to, reverse, &mut |key, value| {
            while let Some((changed, to)) = change {
                let order = (**changed).cmp(key);
                if order == before.reverse() {
                    break;
                }
                change = next();
                goes_on = to.as_ref().is_none_or(|value| visit(changed, value));
                if !goes_on || order == Ordering::Equal {
                    return goes_on;
                }
            }
            goes_on = visit(key, value);
            goes_on
        });
        while goes_on && let Some((changed, to)) = change {
            change = next();
            goes_on = to.as_ref().is_none_or(|value| visit(changed, value));
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

/// Whether no key can lie within the bounds; `BTreeMap::range` panics on most such bounds.
fn crosses(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to))
        | (Bound::Excluded(from), Bound::Included(to)) => from >= to,
    }
}
