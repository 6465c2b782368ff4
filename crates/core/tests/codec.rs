//! One encoding per value: what is written is read back, and nothing else is read.

extern crate alloc;

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use testudo_core::{Decode, DecodeError, Digest, Encode, Reader, wire_enum, wire_struct};

#[derive(Clone, PartialEq, Debug)]
struct Everything {
    number: u64,
    flag: bool,
    bytes: Arc<[u8]>,
    text: String,
    list: Vec<u16>,
    maybe: Option<u32>,
    map: BTreeMap<u8, u64>,
    digest: Digest,
    choice: Choice,
}
wire_struct!(Everything { number, flag, bytes, text, list, maybe, map, digest, choice });

#[derive(Clone, PartialEq, Debug)]
enum Choice {
    Nothing,
    Pair(u8, u32),
    Named { left: bool },
}
wire_enum!(Choice { 0 => Nothing, 1 => Pair(a, b), 7 => Named { left } });

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(Choice::Nothing),
        any::<(u8, u32)>().prop_map(|(a, b)| Choice::Pair(a, b)),
        any::<bool>().prop_map(|left| Choice::Named { left }),
    ]
}

fn everything() -> impl Strategy<Value = Everything> {
    (
        any::<(u64, bool, Vec<u8>, String, Vec<u16>)>(),
        any::<(Option<u32>, BTreeMap<u8, u64>, [u8; 32])>(),
        choice(),
    )
        .prop_map(|((number, flag, bytes, text, list), (maybe, map, digest), choice)| {
            Everything {
                number,
                flag,
                bytes: bytes.into(),
                text,
                list,
                maybe,
                map,
                digest: Digest(digest),
                choice,
            }
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in everything()) {
        prop_assert_eq!(Everything::from_bytes(&value.to_bytes()), Ok(value));
    }

    /// Canonical: whatever can be read is exactly what would be written. So no two byte strings mean the same.
    #[test]
    fn whatever_is_read_would_be_written_like_that(mut bytes in everything().prop_map(|v| v.to_bytes()), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(value) = Everything::from_bytes(&bytes) {
            prop_assert_eq!(value.to_bytes(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = Everything::from_bytes(&bytes) {
            prop_assert_eq!(value.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_cut_value_is_truncated(value in everything(), at in any::<prop::sample::Index>()) {
        let bytes = value.to_bytes();
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(Everything::from_bytes(cut).is_err());
    }
}

#[test]
fn each_departure_has_its_error() {
    assert_eq!(bool::from_bytes(&[2]), Err(DecodeError::Unknown("boolean")));
    assert_eq!(u16::from_bytes(&[1]), Err(DecodeError::Truncated));
    assert_eq!(u16::from_bytes(&[1, 0, 0]), Err(DecodeError::Trailing));
    assert_eq!(Choice::from_bytes(&[3]), Err(DecodeError::Unknown("Choice")));
    assert_eq!(String::from_bytes(&[1, 0, 0, 0, 255]), Err(DecodeError::Unknown("UTF-8 text")));
}

#[test]
fn a_map_out_of_order_or_doubled_is_refused() {
    let entry = |key: u8| [[key].as_slice(), &7_u64.to_le_bytes()].concat();
    let map =
        |keys: [u8; 2]| [2_u32.to_le_bytes().to_vec(), entry(keys[0]), entry(keys[1])].concat();
    assert!(BTreeMap::<u8, u64>::from_bytes(&map([1, 2])).is_ok());
    for keys in [[2, 1], [1, 1]] {
        let refused = BTreeMap::<u8, u64>::from_bytes(&map(keys));
        assert_eq!(refused, Err(DecodeError::Unknown("order of keys")));
    }
}

/// A length that the input cannot fill is refused before anything is allocated for it.
#[test]
fn an_announced_length_allocates_nothing() {
    let bytes = u32::MAX.to_le_bytes();
    assert_eq!(Vec::<u64>::from_bytes(&bytes), Err(DecodeError::Truncated));
    assert_eq!(<Arc<[u8]>>::from_bytes(&bytes), Err(DecodeError::Truncated));
    assert_eq!(Reader::new(&bytes).bytes(), Err(DecodeError::Truncated));
}

/// A text that is written a few letters at a time.
#[derive(PartialEq, Debug)]
struct Long(String);

impl Encode for Long {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn pieces(&self, put: &mut dyn FnMut(&[u8]) -> bool) {
        self.0.as_bytes().chunks(3).all(put);
    }
}

impl Decode for Long {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        String::decode(reader).map(Self)
    }
    fn from_pieces(next: &mut dyn FnMut() -> Option<Vec<u8>>) -> Result<Self, DecodeError> {
        let bytes: Vec<u8> = std::iter::from_fn(next).flatten().collect();
        String::from_utf8(bytes).map(Self).map_err(|_| DecodeError::Unknown("text"))
    }
}

fn through_pieces<T: Encode + Decode>(value: &T) -> (usize, Result<T, DecodeError>) {
    let mut pieces = std::collections::VecDeque::new();
    value.pieces(&mut |piece| {
        pieces.push_back(piece.to_vec());
        true
    });
    (pieces.len(), T::from_pieces(&mut || pieces.pop_front()))
}

/// A value comes back from its pieces, be they one or many, and stops giving them when nobody wants more.
#[test]
fn a_value_is_read_back_from_its_pieces() {
    assert_eq!(through_pieces(&vec![1_u16, 2]), (1, Ok(vec![1, 2])));
    let long = Long("a long text".to_owned());
    let mut wanted = 2;
    long.pieces(&mut |_| {
        wanted -= 1;
        wanted > 0
    });
    assert_eq!(wanted, 0);
    assert_eq!(through_pieces(&long), (4, Ok(long)));
    assert_eq!(u64::from_pieces(&mut || None), Err(DecodeError::Truncated));
}
