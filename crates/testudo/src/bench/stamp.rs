//! Values that say which put they are of and when it began, so that whoever is told of them can check them.

use std::time::{Duration, Instant};

use bytes::Bytes;

/// Bytes of a value that are its stamp: the put's number and its beginning.
pub(super) const STAMP: usize = 16;

/// Makes stamped values and knows them again.
#[derive(Debug)]
pub(super) struct Stamps {
    noise: Bytes,
    size: usize,
    since: Instant,
}

impl Stamps {
    /// Values of `size` bytes, at least [`STAMP`], the rest of which is cut from `noise`, which is longer.
    pub(super) fn new(noise: Bytes, size: usize) -> Self {
        Self { noise, size, since: Instant::now() }
    }

    /// The value of the put with this number, which begins now.
    pub(super) fn value(&self, number: u64) -> Bytes {
        let began = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut value = Vec::with_capacity(self.size);
        value.extend_from_slice(&number.to_be_bytes());
        value.extend_from_slice(&began.to_be_bytes());
        value.extend_from_slice(self.rest(number));
        value.into()
    }

    /// How long ago the put of this value began; none if it is no value of these.
    pub(super) fn age(&self, value: &[u8]) -> Option<Duration> {
        let (stamp, rest) = value.split_at_checked(STAMP)?;
        let (number, began) = stamp.split_at_checked(8)?;
        let number = u64::from_be_bytes(number.try_into().ok()?);
        let began = u64::from_be_bytes(began.try_into().ok()?);
        let is_whole = rest == self.rest(number);
        is_whole.then(|| self.since.elapsed().saturating_sub(Duration::from_nanos(began)))
    }

    fn rest(&self, number: u64) -> &[u8] {
        let length = self.size.saturating_sub(STAMP);
        let places = (self.noise.len() - length).max(1) as u64;
        let start = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % places) as usize;
        &self.noise[start..start + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_again_and_a_changed_one_is_not() {
        let noise: Vec<u8> = (0..1000_u32).map(|index| (index * 7 % 251) as u8).collect();
        for size in [STAMP, STAMP + 1, 256] {
            let stamps = Stamps::new(noise.clone().into(), size);
            for number in [0, 1, u64::MAX] {
                let value = stamps.value(number).to_vec();
                assert_eq!(value.len(), size);
                assert!(stamps.age(&value).is_some_and(|age| age < Duration::from_secs(60)));
                assert!(size == STAMP || stamps.age(&value[..size - 1]).is_none());
                if size == 256 {
                    let mut changed = value;
                    changed[200] ^= 1;
                    assert_eq!(stamps.age(&changed), None);
                }
            }
            assert_eq!(stamps.age(b"short"), None);
        }
    }
}
