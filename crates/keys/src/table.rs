//! Multiples of a point that is used often, computed once.
//!
//! A scalar is written with few nonzero digits (its non-adjacent form: each nonzero digit is odd and followed by at
//! least six zeros), and the digits are dealt to eight parts of 32 places. The table of a part holds the odd multiples
//! of 2^(32·part) times the point, so that all parts go through the same 32 doublings instead of 256. With the sums of
//! two points taken in one pass, checking a signature costs less than half of what it does without tables.
//!
//! The time that this takes depends on the scalars, which is why only verification uses it.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use std::sync::LazyLock;

/// Digits are odd and of absolute value below 2^(WIDTH − 1).
const WIDTH: usize = 7;
/// Odd multiples that a part's table holds: 1, 3, 5, and so on up to 2^(WIDTH − 1) − 1.
const MULTIPLES: usize = 1 << (WIDTH - 2);
/// Parts that a scalar's digits are dealt to.
const PARTS: usize = 8;
/// Digits to a part.
const SPAN: usize = 256 / PARTS;

/// The odd multiples of one point, for each part: 40 KiB.
pub(crate) struct Table(Vec<[EdwardsPoint; MULTIPLES]>);

static BASE: LazyLock<Table> = LazyLock::new(|| Table::new(&ED25519_BASEPOINT_POINT));

impl Table {
    pub(crate) fn new(point: &EdwardsPoint) -> Self {
        let mut parts = Vec::with_capacity(PARTS);
        let mut unit = *point;
        for _ in 0..PARTS {
            let twice = unit + unit;
            let mut multiples = [unit; MULTIPLES];
            for i in 1..MULTIPLES {
                multiples[i] = multiples[i - 1] + twice;
            }
            parts.push(multiples);
            for _ in 0..SPAN {
                unit += unit;
            }
        }
        Self(parts)
    }

    /// \[scalar\]P + \[of_base\]B, for P this table's point and B the base point.
    pub(crate) fn multiply_add_base(&self, scalar: &Scalar, of_base: &Scalar) -> EdwardsPoint {
        let (own, base) = (digits(scalar), digits(of_base));
        let mut sum = EdwardsPoint::identity();
        for place in (0..SPAN).rev() {
            sum += sum;
            for part in 0..PARTS {
                add(&mut sum, &self.0[part], own[part * SPAN + place]);
                add(&mut sum, &BASE.0[part], base[part * SPAN + place]);
            }
        }
        sum
    }
}

/// Adds `digit` times the unit of `multiples`.
fn add(sum: &mut EdwardsPoint, multiples: &[EdwardsPoint; MULTIPLES], digit: i8) {
    let multiple = &multiples[usize::from(digit.unsigned_abs()) / 2];
    match digit {
        1.. => *sum += multiple,
        0 => {}
        ..0 => *sum -= multiple,
    }
}

/// The scalar's non-adjacent form of width [`WIDTH`]: Σ digitᵢ·2ⁱ. Scalars are below 2²⁵³, so that the last carry fits.
fn digits(scalar: &Scalar) -> [i8; 256] {
    const RADIX: u64 = 1 << WIDTH;
    let mut words = [0_u64; 5];
    for (word, bytes) in words.iter_mut().zip(scalar.as_bytes().as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let mut digits = [0; 256];
    let mut carry = 0;
    let mut place = 0;
    while place < 256 {
        let (word, bit) = (place / 64, place % 64);
        let mut window = words[word] >> bit;
        if bit > 64 - WIDTH {
            window |= words[word + 1] << (64 - bit);
        }
        let digit = (window % RADIX) + carry;
        if digit.is_multiple_of(2) {
            place += 1;
            continue;
        }
        carry = u64::from(digit > RADIX / 2);
        digits[place] = (digit as i16 - (carry * RADIX) as i16) as i8;
        place += WIDTH;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edges() -> Vec<Scalar> {
        let mut edges = vec![Scalar::ZERO, Scalar::ONE, -Scalar::ONE, -Scalar::from(2_u8)];
        for power in [6, 7, 31, 32, 63, 64, 127, 128, 251, 252] {
            let mut bytes = [0; 32];
            bytes[power / 8] = 1 << (power % 8);
            let power = Scalar::from_bytes_mod_order(bytes);
            edges.extend([power, power - Scalar::ONE, power + Scalar::ONE, -power]);
        }
        edges
    }

    fn value(digits: &[i8; 256]) -> Scalar {
        digits.iter().rev().fold(Scalar::ZERO, |sum, digit| {
            let magnitude = Scalar::from(digit.unsigned_abs());
            sum + sum + if *digit < 0 { -magnitude } else { magnitude }
        })
    }

    fn check_digits(scalar: &Scalar) {
        let digits = digits(scalar);
        assert_eq!(value(&digits), *scalar);
        assert!(digits.iter().all(|digit| *digit == 0 || digit % 2 != 0));
        assert!(digits.iter().all(|digit| usize::from(digit.unsigned_abs()) < 2 * MULTIPLES));
        for window in digits.windows(WIDTH) {
            assert!(window.iter().filter(|digit| **digit != 0).count() <= 1);
        }
    }

    #[test]
    fn edges_agree_with_the_plain_way() {
        let point = EdwardsPoint::mul_base(&Scalar::from(77_u8));
        let table = Table::new(&point);
        for k in edges() {
            check_digits(&k);
            for s in edges() {
                let plain = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &point, &s);
                assert_eq!(table.multiply_add_base(&k, &s), plain);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_agree_with_the_plain_way(p: [u8; 32], k: [u8; 32], s: [u8; 32]) {
            let [p, k, s] = [p, k, s].map(Scalar::from_bytes_mod_order);
            check_digits(&k);
            let point = EdwardsPoint::mul_base(&p);
            let plain = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &point, &s);
            prop_assert_eq!(Table::new(&point).multiply_add_base(&k, &s), plain);
        }
    }
}
