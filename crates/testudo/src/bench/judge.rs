//! What a watcher must see: every event of its key, complete, in order, and each once.
//!
//! Versions of a key rise by one with each put, whoever puts, so that a watcher knows from what it is told alone
//! whether something is missing in between. What is missing at the end is known from the puts' answers.

use std::ops::AddAssign;

use testudo_etcd::proto::mvccpb::{Event, event::EventType};

use super::stamp::Stamps;

/// How events came, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    /// That came as they should.
    pub(super) events: u64,
    /// That were left out, though later ones came.
    pub(super) missing: u64,
    /// That came again, or after later ones.
    pub(super) repeated: u64,
    /// That are of another key, no puts, or whose value nobody put.
    pub(super) altered: u64,
}

impl Tally {
    /// Whether all was as it should be.
    pub(super) const fn is_clean(&self) -> bool {
        self.missing == 0 && self.repeated == 0 && self.altered == 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.altered += other.altered;
    }
}

/// What one watcher of one key has seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Which key.
    pub(super) key: usize,
    version: i64,
    /// The store's revision at the last event.
    pub(super) revision: i64,
}

impl Seen {
    /// Nothing yet, of a key that has this version and was put at this revision when the watch began.
    pub(super) const fn new(key: usize, version: i64, revision: i64) -> Self {
        Self { key, version, revision }
    }

    /// Takes in an event that the watch on the key of this `name` was sent.
    pub(super) fn take(&mut self, name: &[u8], event: &Event, stamps: &Stamps) -> Tally {
        let Some(kv) = event.kv.as_ref().filter(|kv| {
            event.r#type == i32::from(EventType::Put)
                && kv.key == name
                && stamps.age(&kv.value).is_some()
        }) else {
            return Tally { altered: 1, ..Tally::default() };
        };
        if kv.version <= self.version || kv.mod_revision <= self.revision {
            return Tally { repeated: 1, ..Tally::default() };
        }
        let missing = (kv.version - self.version - 1).unsigned_abs();
        (self.version, self.revision) = (kv.version, kv.mod_revision);
        Tally { events: 1, missing, ..Tally::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_etcd::proto::mvccpb::KeyValue;

    fn event(stamps: &Stamps, version: i64) -> Event {
        let kv = KeyValue {
            key: "key".into(),
            value: stamps.value(version as u64),
            version,
            mod_revision: 100 + version,
            ..KeyValue::default()
        };
        Event { kv: Some(kv), ..Event::default() }
    }

    #[test]
    fn every_way_to_be_wrong_is_told_from_the_others() {
        let stamps = Stamps::new(vec![7; 100].into(), 40);
        let mut seen = Seen::new(0, 3, 103);
        let mut take = |event: &Event| seen.take(b"key", event, &stamps);
        let good = Tally { events: 1, ..Tally::default() };
        let repeated = Tally { repeated: 1, ..Tally::default() };
        let altered = Tally { altered: 1, ..Tally::default() };
        assert_eq!(take(&event(&stamps, 3)), repeated, "it came before the watch began");
        assert_eq!(take(&event(&stamps, 4)), good);
        assert_eq!(take(&event(&stamps, 5)), good);
        assert_eq!(take(&event(&stamps, 5)), repeated);
        assert_eq!(take(&event(&stamps, 8)), Tally { events: 1, missing: 2, ..Tally::default() });
        assert_eq!(take(&event(&stamps, 6)), repeated, "what comes late is out of order");
        let mut other = event(&stamps, 9);
        other.kv.as_mut().expect("it has one").key = "another".into();
        assert_eq!(take(&other), altered);
        let mut other = event(&stamps, 9);
        other.kv.as_mut().expect("it has one").value = "nobody put this".into();
        assert_eq!(take(&other), altered);
        let mut other = event(&stamps, 9);
        other.r#type = EventType::Delete.into();
        assert_eq!(take(&other), altered);
        assert_eq!(take(&Event::default()), altered);
        assert_eq!(take(&event(&stamps, 9)), good);
    }
}
